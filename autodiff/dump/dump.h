/* Inside the dumps: what the formats share.
 *
 *   string   text that grows
 *   writer   where the dump goes
 *   label    a node by name, made safe for terminals and unambiguous
 *   window   a run of nodes that is shown; there are two if the middle is elided */
#ifndef AD_DUMP_INTERNAL_H
#define AD_DUMP_INTERNAL_H

#include "autodiff/base/base.h"

#include <adtape/dump.h>
#include <adtape/op.h>

/* ---- strings --------------------------------------------------------------------------------------------------- */

typedef struct ad_string {
    const ad_allocator *allocator;
    char *data; /* terminated, if there is any */
    size_t length, room;
    bool failed; /* out of memory: what was to be added is missing */
} ad_string;
void ad_string_put(ad_string *string, const char *data, size_t length);
void ad_string_print(ad_string *string, const char *format, ...) AD_PRINTF(2, 3);
void ad_string_bytes(ad_string *string, uint64_t bytes);                  /* "72 B", "1.5 MiB" */
void ad_string_count(ad_string *string, int64_t count, const char *what); /* "1 node", "2 nodes" */
void ad_string_free(ad_string *string);
static inline void ad_string_clear(ad_string *string) { string->length = 0; }

/* The next character of UTF-8 text; U+FFFD for a byte that is none. */
uint32_t ad_utf8_next(const char **at, const char *end);
int ad_utf8_width(uint32_t character); /* columns on a terminal: 0, 1 or 2 */
int ad_utf8_columns(const char *text, size_t length);
/* The length of the longest start of `text` that fits into so many columns. */
size_t ad_utf8_fit(const char *text, size_t length, int columns);
/* The next line of a text, wrapped to so many columns (0: not), at a blank if possible. False: there is none. */
bool ad_next_line(const char **at, const char *end, int columns, const char **line, size_t *length);

/* ---- writer ---------------------------------------------------------------------------------------------------- */

typedef enum ad_style {
    AD_STYLE_PLAIN,
    AD_STYLE_TITLE,
    AD_STYLE_FAINT,
    AD_STYLE_INPUT,
    AD_STYLE_PARAMETER,
    AD_STYLE_NODE,
    AD_STYLE_SAVED,
    AD_STYLE_GRADIENT,
    AD_STYLE_MERGE,
    AD_STYLE_ERROR,
    AD_STYLE_COUNT
} ad_style;

typedef struct ad_writer {
    ad_write *write;
    void *user;
    bool colour, failed;
    int blanks; /* not yet written: a line ends without any */
    size_t used;
    char buffer[4096];
} ad_writer;
void ad_writer_put(ad_writer *writer, const char *text, size_t length); /* one line or part of one */
void ad_writer_styled(ad_writer *writer, ad_style style, const char *text, size_t length);
void ad_writer_print(ad_writer *writer, const char *format, ...) AD_PRINTF(2, 3);
void ad_writer_line(ad_writer *writer); /* ends it */
void ad_writer_flush(ad_writer *writer);
bool ad_write_to_stream(void *stream, const char *text, size_t size);
void ad_dump_options_of_stream(ad_dump_options *options, FILE *stream); /* what a terminal asks for */

/* ---- the dump -------------------------------------------------------------------------------------------------- */

typedef struct ad_window {
    int64_t first, end;
} ad_window;

/* A tape as what a dump is made from. */
typedef struct ad_tape_source {
    ad_tape *tape;
    ad_contributors *contributors[2]; /* one for each window */
} ad_tape_source;
ad_dump_source ad_tape_source_open(ad_tape_source *source, ad_tape *tape);
void ad_tape_source_close(ad_tape_source *source);

typedef struct ad_name_use {
    const char *name;
    int64_t index;
} ad_name_use;

enum { AD_MOST_TERMS = 8 }; /* that a list in text or a graph has: of a merge, of inputs, of what is saved */

typedef struct ad_dump {
    ad_dump_source source;
    const ad_allocator *allocator;
    ad_dump_options options; /* defaults filled in */
    ad_writer writer;
    ad_window window[2];
    int windows;
    int64_t elided;     /* nodes between them */
    int64_t most_terms; /* of a merge that are shown */
    ad_totals *totals;
    ad_name_use *names; /* every node that is mentioned and has a name, or is not shown; sorted by name */
    size_t name_count, name_room;
    ad_status status; /* the first failure */
} ad_dump;

/* Fills in the options and looks at everything that will be shown; the caller sets writer.write. An error, which is one
 * of the options, leaves nothing to close. Closing gives the first failure. */
ad_status ad_dump_open(ad_dump *dump, const ad_dump_source *source, const ad_dump_options *options);
ad_status ad_dump_close(ad_dump *dump);
void ad_dump_fail(ad_dump *dump, ad_status status);
bool ad_dump_shows(const ad_dump *dump, int64_t index);
ad_node_info ad_dump_node(const ad_dump *dump, int64_t index);
ad_scope_info ad_dump_scope(const ad_dump *dump, int64_t number);
bool ad_dump_saved(const ad_dump *dump, int64_t index, int *cursor, ad_saved *saved);
/* What contributed to a node's gradient; false: there is no term number n, or it is not shown. */
int64_t ad_dump_term_count(const ad_dump *dump, int64_t index);
bool ad_dump_term(const ad_dump *dump, int64_t index, int64_t n, ad_contribution *term);
/* To unref; NULL: it is not to be had. */
ad_tensor *ad_dump_term_value(ad_dump *dump, const ad_contribution *term);
ad_tensor *ad_dump_jacobian(ad_dump *dump, int64_t index, int input);

void ad_dump_sort_names(ad_dump *dump); /* once all are there */
void ad_put_label(ad_string *string, const ad_dump *dump, int64_t index);
void ad_put_bar(ad_string *string, const ad_dump *dump, int64_t index); /* the label of its gradient */
/* A name of the user's without anything that would upset a terminal or a table, at most so many columns of it. */
bool ad_put_name(ad_string *string, const char *name, int columns);
/* A formula of the operation at node `first` (its result 0); where it says input `from`, input `to` is meant. */
void ad_put_formula(ad_string *string, const ad_dump *dump, int64_t first, const char *formula, int from, int to);
/* How labels, gradients and the texts between them are written; the plain one is that of the text dump. */
typedef struct ad_notation {
    void (*label)(ad_string *string, const ad_dump *dump, int64_t index);
    void (*bar)(ad_string *string, const ad_dump *dump, int64_t index);
    void (*text)(ad_string *string, const ad_dump *dump, const char *text, size_t length);
} ad_notation;
extern const ad_notation ad_plain_notation;
void ad_put_formula_in(ad_string *string, const ad_dump *dump, const ad_notation *notation, int64_t first,
                       const char *formula, int from, int to);
void ad_put_node_formula(ad_string *string, const ad_dump *dump, const ad_node_info *node);
void ad_put_adjoint(ad_string *string, const ad_dump *dump, const ad_node_info *node, int input); /* "" if none */
void ad_put_op(ad_string *string, const ad_node_info *node);
void ad_put_saved(ad_string *string, const ad_dump *dump, const ad_node_info *node, const ad_saved *saved);
/* Whether the contribution to input i reads the value, and i is not the same node as an earlier one that does. */
bool ad_is_reader(const ad_node_info *node, const ad_saved *saved, int i);
void ad_put_place(ad_string *string, const char *where);
void ad_put_type(ad_string *string, const ad_view *view);

/* How the numbers of one value, or of several that stand under each other, are written. */
typedef struct ad_number_style {
    int precision, decimals; /* decimals -1: as %g does */
    int width;
    double least, greatest; /* magnitudes, but for 0 */
} ad_number_style;
typedef struct ad_statistics {
    int64_t numbers; /* that are not NaN; of them are: */
    double least, greatest, mean, norm;
    int64_t nans, infinities;
} ad_statistics;
ad_statistics ad_statistics_of(const ad_view *view);
ad_number_style ad_number_style_of(const ad_dump *dump, int count, const ad_view *const *views);
const void *ad_view_element(const ad_view *view, int64_t i); /* where it lies: number i in row-major order */
/* Element i with blanks in front of it; returns its length. */
int ad_number_text(const ad_view *view, int64_t i, const ad_number_style *style, char text[64]);
bool ad_shows_elements(const ad_dump *dump, const ad_view *view); /* they are few enough */
void ad_put_value(ad_string *string, const ad_dump *dump, const ad_view *view, const ad_number_style *style);

void ad_put_json_string(ad_writer *writer, const char *string);
void ad_put_json_number(ad_writer *writer, double value);
/* The page (autodiff/dump/page), and the tapes in its middle, each under a name that the page knows. */
void ad_put_page_head(ad_writer *writer);
void ad_put_page_tape(ad_dump *dump, const char *id);
void ad_put_page_tail(ad_writer *writer);

void ad_dump_text(ad_dump *dump);
void ad_dump_dot(ad_dump *dump);
void ad_dump_markdown(ad_dump *dump);
void ad_dump_latex(ad_dump *dump);
void ad_dump_json(ad_dump *dump);
void ad_dump_html(ad_dump *dump);

#endif
