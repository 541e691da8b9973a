/* Tables of text with aligned columns, in constant memory: the rows are made twice, first to measure them, then to
 * print them. A cell may have several lines; a column without content is left out. */
#ifndef AD_DUMP_TABLE_H
#define AD_DUMP_TABLE_H

#include "autodiff/dump/dump.h"

enum { AD_MOST_COLUMNS = 10 };

typedef struct ad_column {
    const char *title;
    ad_style style;
    bool right;    /* aligned at the right */
    bool tight;    /* the next column is close */
    bool verbatim; /* blanks count: monospaced in Markdown */
    int drop;      /* where lines would be too long: 1 is left out first, then 2, ...; 0: never */
    int shrinks;   /* 1: its text then continues on the next line; 2: only if that does not help; 0: never */
    unsigned hide; /* the option that leaves it out */
} ad_column;

typedef struct ad_table {
    ad_dump *dump;
    const void *user; /* what `rows` needs besides */
    const ad_column *column;
    int columns;
    bool measuring;
    int width[AD_MOST_COLUMNS]; /* 0: left out */
    ad_string cell[AD_MOST_COLUMNS];
    ad_style style[AD_MOST_COLUMNS]; /* of the cell, instead of the column's, unless plain */
} ad_table;

/* Makes the rows with `rows`, which fills the cells and calls ad_table_row, or ad_table_line for a line of its own. */
void ad_table_show(ad_dump *dump, const ad_column *column, int columns, void (*rows)(ad_table *table),
                   const void *user);
void ad_table_row(ad_table *table); /* and empties the cells */
void ad_table_line(ad_table *table, ad_style style, const char *format, ...) AD_PRINTF(3, 4);

/* The same in Markdown (markdown.c). */
void ad_markdown_titles(const ad_table *table);
void ad_markdown_row(const ad_table *table);
void ad_markdown_table_line(const ad_table *table, const char *text);
void ad_markdown_line(ad_writer *writer, const char *text, size_t length, bool is_title);
static inline bool ad_is_markdown(const ad_dump *dump) { return dump->options.format == AD_DUMP_MARKDOWN; }

#endif
