/* adtape/dump.h: a tape as people read it.
 *
 * The text is the classic evaluation trace: the forward half computes each value from those above it; the reverse
 * half walks back and passes each gradient on, and where several arrive at one node it shows them and their sum. x̄
 * is the gradient of x. A node without a name is called v3, by its number; x#7 is node 7 where several are called x.
 *
 * A dump shows what is there: a tape in error, without a backward pass, or empty, is fine. Long tapes are elided in
 * the middle; time and memory then depend on what is shown, but for a walk that counts. */
#ifndef ADTAPE_DUMP_H
#define ADTAPE_DUMP_H

#include <adtape/tape.h>

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ad_dump_format {
    AD_DUMP_TEXT,     /* UTF-8, for a terminal */
    AD_DUMP_DOT,      /* for Graphviz: dot -Tsvg */
    AD_DUMP_JSON,     /* for programs: docs/tape.schema.json; every number exact */
    AD_DUMP_HTML,     /* a page to step through, for any browser: one file that loads nothing */
    AD_DUMP_MARKDOWN, /* tables and a list of equations, for a README or an issue */
    AD_DUMP_LATEX,    /* the same for lecture notes: to \input; needs amsmath and longtable */
    AD_DUMP_FORMAT_COUNT
} ad_dump_format;

/* AUTO: only if the stream is a terminal and NO_COLOR is not set (no-color.org). */
typedef enum ad_dump_colour { AD_COLOUR_AUTO, AD_COLOUR_ALWAYS, AD_COLOUR_NEVER } ad_dump_colour;

/* Columns of the text that can be left out. */
enum {
    AD_DUMP_HIDE_NUMBERS = 1 << 0, /* of nodes */
    AD_DUMP_HIDE_INPUTS = 1 << 1,
    AD_DUMP_HIDE_FORMULAS = 1 << 2,
    AD_DUMP_HIDE_TYPES = 1 << 3,
    AD_DUMP_HIDE_VALUES = 1 << 4,
    AD_DUMP_HIDE_SAVED = 1 << 5,
    AD_DUMP_HIDE_PLACES = 1 << 6, /* in the source */
};

/* All zero is what ad_tape_dump uses. */
typedef struct ad_dump_options {
    ad_dump_format format;
    int64_t first, end;    /* the nodes from `first` up to `end`; end 0: to the last one */
    const char *scope;     /* of those only the ones in the first scope of this path, and inside it; NULL: all */
    int64_t most_nodes;    /* more are elided in the middle; 0: 60, JSON all, HTML 5000; -1: all */
    int64_t most_elements; /* of a value; larger ones are statistics; 0: 12, JSON all, HTML 1024 */
    int precision;         /* significant digits, 1 to 17; 0: 4. JSON keeps all, and this for its reader */
    int width;             /* columns of a line of text; 0: as wide as the terminal, else as needed; -1: as needed */
    unsigned hide;         /* AD_DUMP_HIDE_... */
    ad_dump_colour colour;
    bool ascii; /* no other characters, except in names: the gradient of x is then ~x */
} ad_dump_options;

/* AD_ERR_IO if the stream fails, AD_ERR_OOM, AD_ERR_NULL; AD_ERR_VALUE or AD_ERR_INDEX for options that make no
 * sense. The tape's own status stays as it is. The stream is flushed. */
AD_API ad_status ad_tape_dump(ad_tape *tape, ad_dump_format format, FILE *stream);
AD_API ad_status ad_tape_dump_with(ad_tape *tape, const ad_dump_options *options, FILE *stream); /* NULL: all zero */

/* Calls `write` with pieces of the text, which are not terminated, until it returns false (AD_ERR_IO). */
typedef bool ad_write(void *user, const char *text, size_t size);
AD_API ad_status ad_tape_dump_to(ad_tape *tape, const ad_dump_options *options, ad_write *write, void *user);

/* What a dump is made from: a tape, or something that looks like one, such as a dump that was read back. The functions
 * answer like those of adtape/tape.h (ad_tape_node, ad_tape_scope, ad_tape_totals, ad_tape_saved, ad_contributors_count
 * and _at, ad_tape_contribution, ad_tape_local_jacobian), and what they point to lives until the dump is made. */
typedef struct ad_dump_source {
    void *user;                    /* handed to all */
    const ad_allocator *allocator; /* for the dump's own needs; NULL: the default */
    int64_t size, scopes;          /* how many nodes, and scopes (at least 1) */
    ad_status status;
    const char *error;
    ad_pass_info pass;
    /* Nodes are asked for that are shown, and those next to them. A value without data was not kept. */
    ad_status (*node)(void *user, int64_t index, ad_node_info *info);
    ad_status (*scope)(void *user, int64_t number, ad_scope_info *info);
    ad_status (*totals)(void *user, ad_totals *totals);
    bool (*saved)(void *user, int64_t index, int *cursor, ad_saved *saved);
    /* Called first for each run of nodes that is shown: number 0 and, if the middle is elided, 1. NULL: not needed. */
    ad_status (*look)(void *user, int run, int64_t first, int64_t end, int64_t most_terms);
    int64_t (*terms)(void *user, int64_t index);
    bool (*term)(void *user, int64_t index, int64_t n, ad_contribution *term);
    ad_status (*term_value)(void *user, int64_t consumer, int input, ad_tensor **out);
    ad_status (*jacobian)(void *user, int64_t index, int input, ad_tensor **out);
} ad_dump_source;
AD_API ad_status ad_dump_source_with(const ad_dump_source *source, const ad_dump_options *options, FILE *stream);
AD_API ad_status ad_dump_source_to(const ad_dump_source *source, const ad_dump_options *options, ad_write *write,
                                   void *user);

/* Two tapes beside each other, such as before and after a step, or with a right and a wrong derivative, and what is not
 * the same: values, gradients, what an operation is applied to, and nodes that one of them has alone. Nodes are matched
 * in order, by op and name. All zero: the smallest difference counts. NaN is the same as NaN. */
typedef struct ad_difference_options {
    ad_dump_options dump;                 /* the format is AD_DUMP_TEXT or AD_DUMP_HTML */
    const char *first_name, *second_name; /* what the tapes are called; NULL: "first" and "second" */
    double absolute, relative;            /* a and b are the same if |a - b| <= absolute + relative max(|a|, |b|) */
    bool all;                             /* text: also what is the same */
} ad_difference_options;

/* *count, unless NULL, is the number of nodes that are not the same. Errors as for ad_tape_dump_with. */
AD_API ad_status ad_tape_difference(ad_tape *first, ad_tape *second, const ad_difference_options *options,
                                    FILE *stream, int64_t *count);
AD_API ad_status ad_tape_difference_to(ad_tape *first, ad_tape *second, const ad_difference_options *options,
                                       ad_write *write, void *user, int64_t *count);
AD_API ad_status ad_dump_source_difference(const ad_dump_source *first, const ad_dump_source *second,
                                           const ad_difference_options *options, FILE *stream, int64_t *count);
AD_API ad_status ad_dump_source_difference_to(const ad_dump_source *first, const ad_dump_source *second,
                                              const ad_difference_options *options, ad_write *write, void *user,
                                              int64_t *count);

#ifdef __cplusplus
}
#endif
#endif
