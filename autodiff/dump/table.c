/* Tables of text with aligned columns. */
#include "autodiff/dump/table.h"

#include <string.h>

enum { indent = 2, least_width = 12 };

static int gap_after(const ad_column *column) { return column->tight ? 1 : 2; }

/* ---- lines of a cell ------------------------------------------------------------------------------------------------ */

/* Line number n of a cell; false if it has fewer. */
static bool cell_line(const ad_string *cell, int n, const char **line, size_t *length) {
    const char *at = cell->data, *end = cell->data + cell->length;
    if (cell->length == 0) return false;
    for (; n > 0; n--) {
        at = memchr(at, '\n', (size_t)(end - at));
        if (!at) return false;
        at++;
    }
    const char *stop = memchr(at, '\n', (size_t)(end - at));
    *line = at;
    *length = (size_t)((stop ? stop : end) - at);
    return true;
}

static void measure(ad_table *table) {
    const char *line;
    size_t length;
    for (int c = 0; c < table->columns; c++)
        for (int n = 0; cell_line(&table->cell[c], n, &line, &length); n++)
            table->width[c] = ad_max_int(table->width[c], ad_utf8_columns(line, length));
}

/* ---- printing ------------------------------------------------------------------------------------------------------- */

static void print_cut(ad_table *table, int c, ad_style style, const char *text, size_t length) {
    ad_writer *writer = &table->dump->writer;
    int columns = ad_utf8_columns(text, length), width = table->width[c];
    if (table->column[c].right && columns < width) writer->blanks += width - columns;
    if (columns <= width) {
        ad_writer_styled(writer, style, text, length);
    } else {
        const char *mark = table->dump->options.ascii ? "..." : "…";
        int room = width - ad_utf8_columns(mark, strlen(mark));
        size_t fits = ad_utf8_fit(text, length, room);
        ad_writer_styled(writer, style, text, fits);
        ad_writer_put(writer, mark, strlen(mark));
        columns = width - room + ad_utf8_columns(text, fits);
    }
    if (!table->column[c].right && columns < width) writer->blanks += width - columns;
}

static void print_line(ad_table *table, int n) {
    ad_writer *writer = &table->dump->writer;
    writer->blanks = indent;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        const char *line;
        size_t length;
        ad_style style = table->style[c] ? table->style[c] : table->column[c].style;
        if (cell_line(&table->cell[c], n, &line, &length)) {
            print_cut(table, c, style, line, length);
        } else {
            writer->blanks += table->width[c];
        }
        writer->blanks += gap_after(&table->column[c]);
    }
    ad_writer_line(writer);
}

static void print_titles(ad_table *table) {
    ad_writer *writer = &table->dump->writer;
    writer->blanks = indent;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        print_cut(table, c, AD_STYLE_FAINT, table->column[c].title, strlen(table->column[c].title));
        writer->blanks += gap_after(&table->column[c]);
    }
    ad_writer_line(writer);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static void empty_cells(ad_table *table) {
    for (int c = 0; c < table->columns; c++) {
        if (table->cell[c].failed) ad_dump_fail(table->dump, AD_ERR_OOM);
        ad_string_clear(&table->cell[c]);
        table->style[c] = AD_STYLE_PLAIN;
    }
}

static int cell_lines(const ad_string *cell) {
    int lines = cell->length > 0;
    for (size_t i = 0; i < cell->length; i++) lines += cell->data[i] == '\n';
    return lines;
}

void ad_table_row(ad_table *table) {
    if (table->measuring) {
        measure(table);
    } else {
        int lines = 1;
        for (int c = 0; c < table->columns; c++)
            if (table->width[c] > 0) lines = ad_max_int(lines, cell_lines(&table->cell[c]));
        for (int n = 0; n < lines && !table->dump->writer.failed; n++) print_line(table, n);
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
    ad_writer_styled(&table->dump->writer, style, text, strlen(text));
    ad_writer_line(&table->dump->writer);
}

/* ---- widths ----------------------------------------------------------------------------------------------------------- */

static int line_width(const ad_table *table) {
    int width = indent, gap = 0;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        width += gap + table->width[c];
        gap = gap_after(&table->column[c]);
    }
    return width;
}

static int widest_that_shrinks(const ad_table *table) {
    int widest = -1;
    for (int c = 0; c < table->columns; c++)
        if (table->column[c].shrinks && table->width[c] > least_width &&
            (widest < 0 || table->width[c] > table->width[widest]))
            widest = c;
    return widest;
}

static void fit(ad_table *table) {
    int most = table->dump->options.width, widest;
    for (int c = 0; c < table->columns; c++)
        if (table->width[c] > 0)
            table->width[c] =
                ad_max_int(table->width[c], ad_utf8_columns(table->column[c].title, strlen(table->column[c].title)));
    if (most <= 0) return;
    for (int drop = 1; drop <= AD_MOST_COLUMNS && line_width(table) > most; drop++)
        for (int c = 0; c < table->columns; c++)
            if (table->column[c].drop == drop) table->width[c] = 0;
    while (line_width(table) > most && (widest = widest_that_shrinks(table)) >= 0) table->width[widest]--;
}

void ad_table_show(ad_dump *dump, const ad_column *column, int columns, void (*rows)(ad_table *table, void *user),
                   void *user) {
    ad_table table = {.dump = dump, .column = column, .columns = columns, .measuring = true};
    for (int c = 0; c < columns; c++) table.cell[c].allocator = dump->allocator;
    rows(&table, user);
    for (int c = 0; c < columns; c++)
        if (column[c].hide & dump->options.hide) table.width[c] = 0;
    fit(&table);
    if (!dump->status) {
        print_titles(&table);
        table.measuring = false;
        rows(&table, user);
    }
    for (int c = 0; c < columns; c++) ad_string_free(&table.cell[c]);
}
