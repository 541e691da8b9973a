/* The text dump in Markdown, as GitHub and most others read it: its tables, and the equations behind them. */
#include "autodiff/dump/equations.h"
#include "autodiff/dump/table.h"

#include <string.h>

/* ---- text ------------------------------------------------------------------------------------------------------ */

/* So that no character of it means anything: within a line, and within a table. */
static void put_escaped(ad_writer *writer, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (memchr("\\`*_{}[]<>#|~&$!", text[i], 16)) ad_writer_put(writer, "\\", 1);
        ad_writer_put(writer, &text[i], 1);
    }
}

/* What has no backquotes in it, monospaced. */
static void put_code(ad_writer *writer, const char *text, size_t length) {
    ad_writer_put(writer, "`", 1);
    ad_writer_put(writer, text, length);
    ad_writer_put(writer, "`", 1);
}

void ad_markdown_line(ad_writer *writer, const char *text, size_t length, bool is_title) {
    if (is_title) ad_writer_put(writer, "**", 2);
    put_escaped(writer, text, length);
    if (is_title) ad_writer_put(writer, "**", 2);
    ad_writer_line(writer);
}

/* ---- tables ---------------------------------------------------------------------------------------------------- */

void ad_markdown_titles(const ad_table *table) {
    ad_writer *writer = &table->dump->writer;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        ad_writer_print(writer, "| ");
        put_escaped(writer, table->column[c].title, strlen(table->column[c].title));
        ad_writer_print(writer, " ");
    }
    ad_writer_print(writer, "|");
    ad_writer_line(writer);
    for (int c = 0; c < table->columns; c++)
        if (table->width[c] > 0) ad_writer_print(writer, table->column[c].right ? "| ---: " : "| --- ");
    ad_writer_print(writer, "|");
    ad_writer_line(writer);
}

static void put_cell(const ad_table *table, int c) {
    ad_writer *writer = &table->dump->writer;
    const ad_string *cell = &table->cell[c];
    const char *at = cell->length ? cell->data : "", *end = at + cell->length, *line;
    size_t length;
    for (int lines = 0; ad_next_line(&at, end, 0, &line, &length); lines++) {
        if (lines > 0) ad_writer_print(writer, "<br>");
        if (table->column[c].verbatim) {
            put_code(writer, line, length);
        } else {
            put_escaped(writer, line, length);
        }
    }
}

void ad_markdown_row(const ad_table *table) {
    ad_writer *writer = &table->dump->writer;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        ad_writer_print(writer, "| ");
        put_cell(table, c);
        ad_writer_print(writer, " ");
    }
    ad_writer_print(writer, "|");
    ad_writer_line(writer);
}

/* A line of its own stands in the first column that is not a number. */
void ad_markdown_table_line(const ad_table *table, const char *text) {
    ad_writer *writer = &table->dump->writer;
    bool is_there = false;
    while (*text == ' ') text++;
    for (int c = 0; c < table->columns; c++) {
        if (table->width[c] == 0) continue;
        ad_writer_print(writer, "| ");
        if (is_there || table->column[c].right) continue;
        ad_writer_print(writer, "*");
        put_escaped(writer, text, strlen(text));
        ad_writer_print(writer, "* ");
        is_there = true;
    }
    ad_writer_print(writer, "|");
    ad_writer_line(writer);
}

/* ---- equations ------------------------------------------------------------------------------------------------- */

static void put_equation(ad_dump *dump, const ad_equation *e) {
    if (e->left.failed || e->right.failed) return;
    ad_writer_put(&dump->writer, e->left.data, e->left.length);
    ad_writer_print(&dump->writer, " = ");
    if (e->right.length) ad_writer_put(&dump->writer, e->right.data, e->right.length);
    ad_writer_line(&dump->writer);
}

static void put_equations(ad_dump *dump) {
    ad_equation e;
    ad_equation_open(&e, dump);
    for (int w = 0; w < dump->windows; w++)
        for (int64_t i = dump->window[w].first; i < dump->window[w].end && !dump->writer.failed; i++)
            if (ad_forward_equation(&e, dump, &ad_plain_notation, i)) put_equation(dump, &e);
    ad_writer_line(&dump->writer);
    for (int w = dump->windows - 1; w >= 0; w--)
        for (int64_t i = dump->window[w].end - 1; i >= dump->window[w].first && !dump->writer.failed; i--)
            if (ad_reverse_equation(&e, dump, &ad_plain_notation, i)) put_equation(dump, &e);
    ad_equation_close(&e, dump);
}

void ad_dump_markdown(ad_dump *dump) {
    ad_dump_text(dump);
    if (dump->totals[0].operations == 0) return;
    ad_writer_line(&dump->writer);
    ad_markdown_line(&dump->writer, "equations", strlen("equations"), true);
    ad_writer_line(&dump->writer);
    ad_writer_print(&dump->writer, "```text");
    ad_writer_line(&dump->writer);
    put_equations(dump);
    ad_writer_print(&dump->writer, "```");
    ad_writer_line(&dump->writer);
}
