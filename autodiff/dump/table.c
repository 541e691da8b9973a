/* Tables of text with aligned columns. */
#include "autodiff/dump/table.h"

#include <string.h>

enum { indent = 2 };

static int gap_after(const ad_column *column) { return column->tight ? 1 : 2; }

/* ---- lines of a cell ------------------------------------------------------------------------------------------- */

static const char *cell_text(const ad_string *cell) { return cell->length ? cell->data : ""; }

static void measure(ad_table *table) {
    const char *line;
    size_t length;
    for (int c = 0; c < table->columns; c++) {
        const char *at = cell_text(&table->cell[c]), *end = at + table->cell[c].length;
        while (ad_next_line(&at, end, 0, &line, &length))
            table->width[c] = ad_max_int(table->width[c], ad_utf8_columns(line, length));
    }
}

/* ---- printing -------------------------------------------------------------------------------------------------- */

static void print_padded(ad_table *table, int c, ad_style style, const char *text, size_t length) {
    ad_writer *writer = &table->dump->writer;
    int blanks = table->width[c] - ad_utf8_columns(text, length);
    if (table->column[c].right) writer->blanks += blanks;
    ad_writer_styled(writer, style, text, length);
    if (!table->column[c].right) writer->blanks += blanks;
    writer->blanks += gap_after(&table->column[c]);
}

/* One line of all columns; each continues at its `at`. False if no column has one. */
static bool print_line(ad_table *table, const char *at[AD_MOST_COLUMNS]) {
    ad_writer *writer = &table->dump->writer;
    bool any = false;
    writer->blanks = indent;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        const char *line = "", *end = cell_text(&table->cell[c]) + table->cell[c].length;
        size_t length = 0;
        any |= ad_next_line(&at[c], end, table->width[c], &line, &length);
        print_padded(table, c, table->style[c] ? table->style[c] : table->column[c].style, line, length);
    }
    if (any) ad_writer_line(writer);
    writer->blanks = 0;
    return any;
}

static void print_titles(ad_table *table) {
    if (ad_is_markdown(table->dump)) {
        ad_markdown_titles(table);
        return;
    }
    table->dump->writer.blanks = indent;
    for (int c = 0; c < table->columns; c++)
        if (table->width[c] > 0)
            print_padded(table, c, AD_STYLE_FAINT, table->column[c].title, strlen(table->column[c].title));
    ad_writer_line(&table->dump->writer);
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static void empty_cells(ad_table *table) {
    for (int c = 0; c < table->columns; c++) {
        if (table->cell[c].failed) ad_dump_fail(table->dump, AD_ERR_OOM);
        ad_string_clear(&table->cell[c]);
        table->style[c] = AD_STYLE_PLAIN;
    }
}

void ad_table_row(ad_table *table) {
    if (table->measuring) {
        measure(table);
    } else if (ad_is_markdown(table->dump)) {
        ad_markdown_row(table);
    } else {
        const char *at[AD_MOST_COLUMNS];
        for (int c = 0; c < table->columns; c++) at[c] = cell_text(&table->cell[c]);
        while (!table->dump->writer.failed && print_line(table, at)) continue;
    }
    empty_cells(table);
}

void ad_table_line(ad_table *table, ad_style style, const char *format, ...) {
    if (table->measuring) return;
    char text[1024];
    size_t length = 0;
    va_list args;
    va_start(args, format);
    text[0] = '\0';
    ad_text_add_v(text, sizeof text, &length, format, args);
    va_end(args);
    if (ad_is_markdown(table->dump)) {
        ad_markdown_table_line(table, text);
        return;
    }
    ad_writer_styled(&table->dump->writer, style, text, strlen(text));
    ad_writer_line(&table->dump->writer);
}

/* ---- widths ---------------------------------------------------------------------------------------------------- */

static int line_width(const ad_table *table) {
    int width = indent, gap = 0;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        width += gap + table->width[c];
        gap = gap_after(&table->column[c]);
    }
    return width;
}

/* Leaves out the columns of that turn if a line is too long. */
static void drop(ad_table *table, int turn) {
    if (line_width(table) <= table->dump->options.width) return;
    for (int c = 0; c < table->columns; c++)
        if (table->column[c].drop == turn) table->width[c] = 0;
}

/* Narrows the widest of those columns, as long as a line is too long, to no less than `least`. */
static void shrink(ad_table *table, int shrinks, int least) {
    while (line_width(table) > table->dump->options.width) {
        int widest = -1;
        for (int c = 0; c < table->columns; c++)
            if (table->column[c].shrinks == shrinks && table->width[c] > least &&
                (widest < 0 || table->width[c] > table->width[widest]))
                widest = c;
        if (widest < 0) return;
        table->width[widest]--;
    }
}

static void fit(ad_table *table) {
    for (int c = 0; c < table->columns; c++) {
        int title = ad_utf8_columns(table->column[c].title, strlen(table->column[c].title));
        if (table->column[c].hide & table->dump->options.hide) table->width[c] = 0;
        if (table->width[c] > 0) table->width[c] = ad_max_int(table->width[c], title);
    }
    if (table->dump->options.width <= 0 || ad_is_markdown(table->dump)) return;
    for (int turn = 1; turn <= 3; turn++) drop(table, turn);
    shrink(table, 1, 20);
    drop(table, 4);
    shrink(table, 1, 12);
    shrink(table, 2, 12);
}

void ad_table_show(ad_dump *dump, const ad_column *column, int columns, void (*rows)(ad_table *table),
                   const void *user) {
    ad_table table = {.dump = dump, .user = user, .column = column, .columns = columns, .measuring = true};
    for (int c = 0; c < columns; c++) table.cell[c].allocator = dump->allocator;
    rows(&table);
    fit(&table);
    if (!dump->status) {
        print_titles(&table);
        table.measuring = false;
        rows(&table);
    }
    for (int c = 0; c < columns; c++) ad_string_free(&table.cell[c]);
}
