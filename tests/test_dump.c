/* Dumps of tapes. */
#define _GNU_SOURCE /* wcwidth, memmem */
#include "helpers.h"
#include "tapes.h"
#include "texts.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

/* ---- dumps as strings ------------------------------------------------------------------------------------------ */

/* The dump, to be freed. Whatever is dumped, lines have no blanks at their ends, and the last one is ended. */
#define dump(tape, ...) dump_with(tape, &(ad_dump_options){.format = AD_DUMP_TEXT, __VA_ARGS__})
static char *dump_with(ad_tape *tape, const ad_dump_options *options) {
    text t = {.data = NULL};
    ad_status before = ad_tape_status(tape), status = ad_tape_dump_to(tape, options, add_piece, &t);
    cr_assert_eq(status, AD_OK, "%s", ad_status_name(status));
    cr_assert_eq(ad_tape_status(tape), before);
    cr_assert_null(strstr(t.data, " \n"), "a blank at the end of a line of\n%s", t.data);
    cr_assert_eq(t.data[t.length - 1], '\n');
    return t.data;
}

/* The dump holds every one of these texts. */
#define expect_dump(tape, options, ...) expect_dump_at(AD_HERE, tape, options, (const char *[]){__VA_ARGS__, NULL})
static void expect_dump_at(const char *line, ad_tape *tape, const ad_dump_options *options,
                           const char *const *texts) {
    char *got = dump_with(tape, options);
    for (; *texts; texts++) cr_expect_not_null(strstr(got, *texts), "%s: \"%s\" is not in\n%s", line, *texts, got);
    free(got);
}

static void expect_golden(const char *name, ad_tape *tape, const ad_dump_options *options) {
    char *got = dump_with(tape, options);
    expect_golden_text(name, got);
    free(got);
}

/* JSON shows every digit, and instruction sets that multiply and add in one step round differently. */
static void use_plainest_kernels(void) { setenv("ADTAPE_ISA", "baseline", 1); }
TestSuite(dump, .init = use_plainest_kernels);

/* ---- tapes ----------------------------------------------------------------------------------------------------- */

/* y = x + relu(H x + v), and its cross-entropy: two gradients meet at x. */
static ad_var residual(ad_tape *t) {
    ad_var x = ad_leaf_at("model.c:3", t, "x", AD_F64, AD_SHAPE(3), (double[]){1.0, -2.0, 0.5});
    ad_var H = ad_leaf_at("model.c:4", t, "H", AD_F64, AD_SHAPE(3, 3),
                          (double[]){.1, .2, -.3, .4, -.5, .6, -.7, .8, .9});
    ad_var v = ad_leaf_at("model.c:5", t, "v", AD_F64, AD_SHAPE(3), (double[]){0.1, 0.2, 0.3});
    ad_var x3 = ad_add_at("model.c:7", ad_matmul_at("model.c:7", H, x), v);
    ad_var y = ad_add_at("src/model.c:8", x, ad_relu_at("src/model.c:8", x3));
    return ad_softmax_xent_at("model.c:9", y, ad_index_at("model.c:9", t, 2));
}

/* A recurrence over three steps, with a parameter, scopes, and one name for several nodes. */
static ad_var recurrence(ad_tape *t, ad_param *w) {
    ad_var h = ad_scalar_at("rnn.c:3", t, "h", 0.5), a = ad_use_at("rnn.c:4", t, w);
    ad_scalar_at("rnn.c:5", t, "unused", 7);
    for (int i = 0; i < 3; i++) {
        ad_scope_begin(t, "step%d", i);
        h = ad_name(ad_mul_at("rnn.c:8", h, a), "h");
        ad_scope_begin(t, "squash");
        h = ad_name(ad_tanh_at("rnn.c:10", h), "h");
        ad_scope_end(t);
        ad_scope_end(t);
    }
    return ad_mul_at("rnn.c:14", h, h);
}

/* Names and values that a careless dump would trip over. */
static ad_var oddities(ad_tape *t) {
    ad_var x = ad_leaf_at("odd.c:1", t,
                          "gr\"o\xCC\x88\xC3\x9F"
                          "e\\N &amp; <b>",
                          AD_F64, AD_SHAPE(2), (double[]){NAN, -1});
    ad_var y = ad_leaf_at("odd.c:2", t, "日本\n語", AD_F64, AD_SHAPE(2), (double[]){INFINITY, 1e-30});
    ad_leaf_at("odd.c:3", t, "\033[31m\xFF", AD_F32, AD_SHAPE(0, 3), NULL);
    ad_leaf_at("odd.c:4", t, "v3", AD_F32, AD_SHAPE(2, 1, 2), (float[]){1, 20, 300, 4000});
    ad_constant_at("odd.c:5", t, "a name that goes on and on, for longer than a table can bear", AD_I64, AD_SHAPE(2),
                   (int64_t[]){INT64_MAX, INT64_MIN});
    float many[200];
    for (int i = 0; i < 200; i++) many[i] = i == 7 ? NAN : i == 9 ? INFINITY : (float)(i - 100) / 4;
    ad_leaf_at("odd.c:6", t, "", AD_F32, AD_SHAPE(10, 20), many);
    ad_scope_begin(t, "scope \"%s\"", "<&>\n");
    ad_var sum = ad_sum_at("odd.c:8", ad_mul_at("odd.c:8", x, y), AD_ALL_AXES, false);
    ad_scope_end(t);
    return sum;
}

static ad_var chain(ad_tape *t, int n) {
    ad_var x = ad_scalar(t, "x", 1), c = ad_scalar(t, "c", 1);
    for (int i = 0; i < n; i++) x = ad_mul(x, c);
    return x;
}

static ad_param *new_param(const char *name, double value) {
    ad_param *w = NULL;
    cr_assert_eq(ad_param_new(&w, NULL, name, AD_F64, AD_SCALAR, &value, NULL), AD_OK);
    return w;
}

/* ---- golden files ---------------------------------------------------------------------------------------------- */

static const char *const endings[AD_DUMP_FORMAT_COUNT] = {[AD_DUMP_TEXT] = "txt",
                                                          [AD_DUMP_DOT] = "dot",
                                                          [AD_DUMP_JSON] = "json",
                                                          [AD_DUMP_MARKDOWN] = "md",
                                                          [AD_DUMP_LATEX] = "tex"};

static void expect_golden_in(const char *name, ad_tape *tape, ad_dump_options options) {
    char file[128];
    snprintf(file, sizeof file, "%s.%s", name, endings[options.format]);
    expect_golden(file, tape, &options);
}

/* In every format that a person may read as text. */
static void expect_golden_set(const char *name, ad_tape *tape) {
    for (int format = AD_DUMP_TEXT; format < AD_DUMP_FORMAT_COUNT; format++)
        if (endings[format]) expect_golden_in(name, tape, (ad_dump_options){.format = (ad_dump_format)format});
}

Test(dump, a_residual_layer) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(residual(t));
    expect_golden_set("residual", t);
    expect_golden("residual-80.txt", t, &(ad_dump_options){.width = 80});
    expect_golden("residual-ascii.txt", t, &(ad_dump_options){.ascii = true});
    expect_golden("residual-colour.txt", t, &(ad_dump_options){.colour = AD_COLOUR_ALWAYS});
    expect_golden("residual-brief.txt", t,
                  &(ad_dump_options){.hide = AD_DUMP_HIDE_INPUTS | AD_DUMP_HIDE_TYPES | AD_DUMP_HIDE_PLACES |
                                             AD_DUMP_HIDE_SAVED | AD_DUMP_HIDE_NUMBERS,
                                     .precision = 3,
                                     .most_elements = 3});
    expect_ok(t);
    ad_tape_free(t);
}

Test(dump, scopes_and_parameters_and_a_name_that_comes_again) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("a", 1.5);
    ad_backward(recurrence(t, w));
    expect_golden_set("recurrence", t);
    expect_golden("recurrence-elided.txt", t, &(ad_dump_options){.most_nodes = 5});
    expect_golden("recurrence-elided.dot", t, &(ad_dump_options){.format = AD_DUMP_DOT, .most_nodes = 5});
    expect_golden("recurrence-elided.md", t, &(ad_dump_options){.format = AD_DUMP_MARKDOWN, .most_nodes = 5});
    expect_golden("recurrence-elided.tex", t, &(ad_dump_options){.format = AD_DUMP_LATEX, .most_nodes = 5});
    expect_golden("recurrence-elided.json", t, &(ad_dump_options){.format = AD_DUMP_JSON, .most_nodes = 5});
    ad_tape_free(t);
    ad_param_unref(w);
}

Test(dump, names_and_values_that_need_care) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(oddities(t));
    expect_golden_set("oddities", t);
    expect_golden("oddities-brief.json", t, &(ad_dump_options){.format = AD_DUMP_JSON, .most_elements = 40});
    expect_ok(t);
    ad_tape_free(t);
}

Test(dump, a_tape_in_error_shows_the_error_and_what_was_recorded) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf_at("bad.c:1", t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2});
    ad_var W = ad_leaf_at("bad.c:2", t, "W", AD_F64, AD_SHAPE(3, 1), (double[]){1, 2, 3});
    ad_backward(ad_sum_at("bad.c:3", x, AD_ALL_AXES, false));
    ad_matmul_at("bad.c:4", W, x);
    cr_assert_eq(ad_tape_status(t), AD_ERR_SHAPE);
    expect_golden_set("error", t);
    ad_tape_free(t);
}

Test(dump, an_empty_tape_and_one_without_a_backward_pass) {
    ad_tape *t = ad_tape_new(NULL);
    expect_golden_set("empty", t);
    ad_var x = ad_scalar_at("plain.c:1", t, "x", 3);
    ad_mul_at("plain.c:2", x, ad_number_at("plain.c:2", t, AD_F64, 4));
    expect_golden_set("no-backward", t);
    ad_tape_free(t);
}

/* ---- what backward passes leave -------------------------------------------------------------------------------- */

static const ad_dump_options plain = {.format = AD_DUMP_TEXT}, graph = {.format = AD_DUMP_DOT};

Test(dump, says_that_a_gradient_was_given_back) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), y = ad_name(ad_mul(x, x), "y");
    ad_var loss = ad_sum(ad_add(y, ad_tanh(y)), AD_ALL_AXES, false);
    ad_backward_with(loss, &(ad_backward_options){.leaves_only = true});
    expect_dump(t, &plain, "+ (given back)", "= (given back)", "merge of 2");
    expect_dump(t, &graph, "(given");
    expect_ok(t);
    ad_tape_free(t);
}

Test(dump, says_that_a_leaf_has_no_influence_and_that_only_some_gradients_were_asked_for) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1), z = ad_scalar(t, "z", 2), y = ad_name(ad_mul(x, x), "y");
    ad_backward(y);
    expect_dump(t, &plain, "y does not depend on it");
    ad_backward_with(ad_mul(y, z), &(ad_backward_options){.wrt = &z, .wrt_count = 1});
    expect_dump(t, &plain, "only what was asked for");
    char *got = dump(t, .precision = 0);
    cr_assert_null(strstr(got, "does not depend"), "x was not asked for:\n%s", got);
    free(got);
    ad_tape_free(t);
}

Test(dump, works_when_the_node_where_the_pass_began_is_gone) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 3), y = ad_mul(x, x);
    ad_mark mark = ad_tape_mark(t);
    ad_backward(ad_exp(y));
    cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
    expect_dump(t, &plain, "derivative of a node since rewound", "merge of 2");
    ad_tape_reset(t);
    expect_dump(t, &plain, "tape: 0 nodes");
    ad_tape_free(t);
}

Test(dump, shows_a_parameter_that_was_changed_and_a_gradient_that_is_incomplete) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("w", 2);
    ad_var y = ad_exp(ad_use(t, w));
    ad_backward(y);
    ad_param_edit(w);
    expect_dump(t, &plain, "1 parameter", "(changed since it was put on the tape)");
    ad_tape_free(t);
    ad_param_unref(w);
}

/* Contributions are recomputed with the tape's own memory: looking must not change what is looked at. */
Test(dump, leaves_the_tape_as_it_was) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var e = residual(t);
    ad_backward(e);
    char *first = dump(t, .precision = 17), *second = dump(t, .precision = 17);
    cr_assert_str_eq(first, second);
    cr_assert_eq(ad_tape_size(t), 10);
    ad_var y = ad_mul(e, e); /* handles are still good */
    cr_assert_eq(ad_backward(y), AD_OK);
    expect_ok(t);
    free(first);
    free(second);
    ad_tape_free(t);
}

/* ---- layout ---------------------------------------------------------------------------------------------------- */

/* The next character of a line, and the columns that the C library says it takes. */
static size_t next_character(const char *line, size_t length, int *width) {
    mbstate_t state = {0};
    wchar_t c;
    size_t n = mbrtowc(&c, line, length, &state);
    cr_assert(n > 0 && n <= length, "not UTF-8: %.*s", (int)length, line);
    *width = wcwidth(c);
    cr_assert_geq(*width, 0, "a control character (%x) in %.*s", (unsigned)c, (int)length, line);
    return n;
}

static int columns(const char *line, size_t length) {
    int sum = 0, width;
    for (size_t i = 0; i < length; sum += width) i += next_character(line + i, length - i, &width);
    return sum;
}

/* Where the columns of a table begin, of which the line holds the titles; that of the numbers ends at its title. */
static int title_columns(const char *line, size_t length, int *at) {
    int count = 0;
    for (size_t i = 2; i < length; i++)
        if (line[i] != ' ' && line[i - 1] == ' ' && line[i - 2] == ' ' && line[i] != '#') at[count++] = (int)i;
    return count;
}

/* No cell reaches into the two columns in front of the next one, where only the signs of a merge may stand. */
static void expect_aligned(const char *line, size_t length, const int *at, int count) {
    int column = 0, width;
    for (size_t i = 0, n; i < length; i += n, column += width) {
        n = next_character(line + i, length - i, &width);
        for (int k = 0; k < count; k++)
            cr_expect(column + width <= at[k] - 2 || column >= at[k] || line[i] == ' ' || strchr("+=", line[i]),
                      "in front of column %d:\n%.*s", at[k], (int)length, line);
    }
}

/* Of a scope, or of what is elided. */
static bool is_line_of_its_own(const char *line) {
    static const char *const starts[] = {"  top level\n", "  step", "  scope", "  ⋮", "  ..."};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strncmp(line, starts[i], strlen(starts[i])) == 0) return true;
    return false;
}

static void expect_table(ad_tape *tape, const ad_dump_options *options) {
    char *got = dump_with(tape, options);
    int at[16], count = 0;
    for (char *line = got, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        size_t length = (size_t)(end - line);
        if (options->width > 0)
            cr_expect_leq(columns(line, length), options->width, "longer than %d:\n%.*s", options->width, (int)length,
                          line);
        if (memmem(line, length, "  node  ", 8)) {
            count = title_columns(line, length, at);
            cr_expect_gt(count, 2);
        } else if (length == 0) {
            count = 0;
        } else if (!is_line_of_its_own(line)) {
            expect_aligned(line, length, at, count);
        }
    }
    free(got);
}

static void use_utf8(void) {
    if (!setlocale(LC_CTYPE, "C.UTF-8") && !setlocale(LC_CTYPE, "en_US.UTF-8"))
        cr_skip_test("no UTF-8 locale to measure with");
}

Test(dump, columns_are_aligned_and_no_line_is_wider_than_asked_for) {
    use_utf8();
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("größe", 1.5);
    ad_var loss = ad_add(ad_add(residual(t), recurrence(t, w)), oddities(t));
    ad_backward(loss);
    const int widths[] = {0, 90, 120, 150};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
        for (int most = 6; most <= 60; most += 27) {
            expect_table(t, &(ad_dump_options){.width = widths[i], .most_nodes = most});
            expect_table(t,
                         &(ad_dump_options){.width = widths[i], .most_nodes = most, .ascii = true, .precision = 9});
        }
    ad_tape_free(t);
    ad_param_unref(w);
}

Test(dump, colour_changes_nothing_but_colour) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(residual(t));
    char *plain_text = dump(t, .colour = AD_COLOUR_NEVER), *coloured = dump(t, .colour = AD_COLOUR_ALWAYS);
    cr_assert_null(strchr(plain_text, '\033'));
    cr_assert_not_null(strstr(coloured, "\033["));
    char *to = coloured;
    for (const char *from = coloured; *from; from++) {
        if (*from == '\033') {
            from = strchr(from, 'm');
        } else {
            *to++ = *from;
        }
    }
    *to = '\0';
    cr_assert_str_eq(coloured, plain_text);
    free(coloured);
    free(plain_text);
    ad_tape_free(t);
}

Test(dump, a_file_gets_no_colour_unless_it_is_asked_for) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scalar(t, "x", 1);
    char *data = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&data, &size);
    cr_assert_eq(ad_tape_dump(t, AD_DUMP_TEXT, stream), AD_OK);
    cr_assert_null(strchr(data, '\033'));
    cr_assert_eq(ad_tape_dump_with(t, &(ad_dump_options){.colour = AD_COLOUR_ALWAYS}, stream), AD_OK);
    cr_assert_not_null(strchr(data, '\033'));
    fclose(stream);
    free(data);
    ad_tape_free(t);
}

/* What a dump of `tape` writes to a terminal so many columns wide. */
static void dump_to_terminal(ad_tape *tape, int width, char *got, size_t size) {
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) cr_skip_test("no pseudo-terminals here");
    FILE *stream = fopen(ptsname(terminal), "w");
    cr_assert_not_null(stream);
    const struct winsize window = {.ws_col = (unsigned short)width, .ws_row = 25};
    cr_assert_eq(ioctl(terminal, TIOCSWINSZ, &window), 0);
    cr_assert_eq(ad_tape_dump(tape, AD_DUMP_TEXT, stream), AD_OK);
    fclose(stream);
    /* What was written arrives in pieces; at its end the terminal has nobody on the other side, which is an error. */
    size_t length = 0;
    for (ssize_t piece; (piece = read(terminal, got + length, size - 1 - length)) > 0;) length += (size_t)piece;
    cr_assert_gt(length, 0);
    got[length] = '\0';
    close(terminal);
}

Test(dump, a_terminal_gets_colour_and_lines_that_fit_unless_no_color_is_set) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scalar_at("a_long_name_of_a_file.c:1", t, "a_rather_long_name", 1.0 / 3);
    char got[4096];
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    dump_to_terminal(t, 120, got, sizeof got);
    cr_expect_not_null(strstr(got, "\033["), "%s", got);
    cr_expect_not_null(strstr(got, "a_long_name_of_a_file.c"), "%s", got);
    setenv("NO_COLOR", "1", 1);
    dump_to_terminal(t, 60, got, sizeof got);
    cr_expect_null(strchr(got, '\033'), "%s", got);
    cr_expect_not_null(strstr(got, "0.3333"), "%s", got);
    cr_expect_null(strstr(got, "a_long_name_of_a_file.c"), "the place is left out first:\n%s", got);
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    dump_to_terminal(t, 60, got, sizeof got);
    cr_expect_null(strchr(got, '\033'), "%s", got);
    ad_tape_free(t);
}

/* ---- long tapes ------------------------------------------------------------------------------------------------ */

static int count_lines(const char *got) {
    int lines = 0;
    for (; *got; got++) lines += *got == '\n';
    return lines;
}

/* Node i, called so, has its row in one of the halves. */
static bool has_row_of(const char *got, int i, const char *label) {
    char row[64];
    snprintf(row, sizeof row, " %d  %s ", i, label);
    return strstr(got, row);
}

static bool has_row(const char *got, int i) {
    char label[32];
    snprintf(label, sizeof label, "v%d", i);
    return has_row_of(got, i, label);
}

Test(dump, a_million_nodes_fit_a_page_and_say_how_many_are_missing) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_backward(chain(t, 1000000));
    int64_t bytes = memory.bytes;
    memory.most = 2000000; /* two bytes a node */
    char *got = dump(t, .most_nodes = 40);
    cr_expect_leq(count_lines(got), 40 * 4 + 30);
    cr_expect_not_null(strstr(got, "999962 more nodes (20 to 999981)"), "%s", got);
    const int shown[] = {2, 19, 999982, 1000001}, elided[] = {20, 999981};
    for (int i = 0; i < 4; i++) cr_expect(has_row(got, shown[i]), "node %d is missing in\n%s", shown[i], got);
    for (int i = 0; i < 2; i++) cr_expect_not(has_row(got, elided[i]), "node %d is there", elided[i]);
    cr_expect_not_null(strstr(got, "+ 999992 more"));
    cr_expect_not_null(strstr(got, "merge of 1000000"));
    free(got);
    got = dump_with(t, &graph);
    cr_expect_leq(count_lines(got), 60 * 8);
    cr_expect_not_null(strstr(got, "999942 more nodes"));
    free(got);
    /* The memory of recomputed contributions goes to the tape's pool. */
    cr_assert_lt(memory.bytes - bytes, 4096, "the dump kept %lld bytes", (long long)(memory.bytes - bytes));
    ad_tape_free(t);
    test_memory_close(&memory);
}

Test(dump, shows_a_range_or_everything_when_asked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(chain(t, 200));
    char *all = dump(t, .most_nodes = -1), *some = dump(t, .first = 100, .end = 103);
    cr_expect_null(strstr(all, "more nodes"));
    for (int i = 2; i < 202; i++) {
        cr_expect(has_row(all, i), "node %d is missing", i);
        cr_expect_eq(has_row(some, i), i >= 100 && i < 103, "node %d:\n%s", i, some);
    }
    free(all);
    free(some);
    ad_tape_free(t);
}

Test(dump, shows_one_scope_and_those_inside_it) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("a", 1.5);
    ad_backward(recurrence(t, w));
    expect_golden("recurrence-scope.txt", t, &(ad_dump_options){.scope = "step1"});
    char *inner = dump(t, .scope = "step1/squash"), *top = dump(t, .scope = ""), *all = dump(t, .precision = 4);
    cr_expect(has_row_of(inner, 6, "h#6") && !has_row_of(inner, 5, "h#5"), "%s", inner);
    cr_expect_str_eq(top, all);
    free(inner);
    free(top);
    free(all);
    char *narrow = dump(t, .scope = "step1", .first = 6);
    cr_expect(has_row_of(narrow, 6, "h#6") && !has_row_of(narrow, 5, "h#5"), "%s", narrow);
    free(narrow);
    ad_tape_free(t);
    ad_param_unref(w);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

Test(dump, a_stream_that_fails_is_reported) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(chain(t, 1000));
    FILE *full = fopen("/dev/full", "w");
    for (int format = AD_DUMP_TEXT; format < AD_DUMP_FORMAT_COUNT; format++) {
        const ad_dump_options all = {.format = (ad_dump_format)format, .most_nodes = -1};
        if (full) cr_expect_eq(ad_tape_dump(t, all.format, full), AD_ERR_IO);
        for (int64_t most = 1; most <= 3; most++) {
            text got = {.most = most};
            cr_expect_eq(ad_tape_dump_to(t, &all, add_piece, &got), AD_ERR_IO);
            cr_expect_eq(got.pieces, most);
            free(got.data);
        }
    }
    if (full) fclose(full);
    expect_ok(t);
    ad_tape_free(t);
}

Test(dump, options_that_make_no_sense_are_refused) {
    ad_tape *t = ad_tape_new(NULL);
    chain(t, 3);
    const struct {
        ad_dump_options options;
        ad_status status;
    } cases[] = {
        {{.format = AD_DUMP_FORMAT_COUNT}, AD_ERR_VALUE},
        {{.precision = -1}, AD_ERR_VALUE},
        {{.precision = 18}, AD_ERR_VALUE},
        {{.most_elements = -1}, AD_ERR_VALUE},
        {{.colour = (ad_dump_colour)7}, AD_ERR_VALUE},
        {{.first = -1}, AD_ERR_INDEX},
        {{.first = 6}, AD_ERR_INDEX},
        {{.first = 3, .end = 2}, AD_ERR_INDEX},
        {{.first = 5, .end = 9}, AD_OK},
        {{.first = 2, .end = 2}, AD_OK},
        {{.scope = "nowhere"}, AD_ERR_VALUE},
        {{.scope = ""}, AD_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text got = {.data = NULL};
        cr_expect_eq(ad_tape_dump_to(t, &cases[i].options, add_piece, &got), cases[i].status, "case %zu", i);
        cr_expect_eq(got.length > 0, cases[i].status == AD_OK);
        free(got.data);
    }
    cr_expect_eq(ad_tape_dump(NULL, AD_DUMP_TEXT, stdout), AD_ERR_NULL);
    cr_expect_eq(ad_tape_dump(t, AD_DUMP_TEXT, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_tape_dump_to(t, NULL, NULL, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_dump_source_to(NULL, NULL, add_piece, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_dump_source_to(&(ad_dump_source){.size = 0}, NULL, NULL, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_dump_source_with(NULL, NULL, stdout), AD_ERR_NULL);
    cr_expect_eq(ad_dump_source_with(&(ad_dump_source){.size = 0}, NULL, NULL), AD_ERR_NULL);
    expect_ok(t);
    ad_tape_free(t);
}

/* A dump during which allocation number `fail_at` fails, unless that is 0: the text and the number of allocations. */
static ad_status dump_without_memory(ad_dump_format format, int64_t fail_at, char **got, int64_t *calls) {
    const ad_dump_options options = {.format = format};
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_backward(residual(t));
    ad_scope_begin(t, "empty");
    ad_scope_end(t);
    memory.calls = 0;
    memory.fail_at = fail_at;
    text collected = {.data = NULL};
    ad_status status = ad_tape_dump_to(t, &options, add_piece, &collected);
    *calls = memory.calls;
    *got = collected.data;
    expect_ok(t);
    ad_tape_free(t);
    test_memory_close(&memory);
    return status;
}

/* Each allocation fails in turn: the dump says so or manages without, nothing leaks, the tape does not get the error. */
Test(dump, any_allocation_may_fail) {
    for (int format = AD_DUMP_TEXT; format < AD_DUMP_FORMAT_COUNT; format++) {
        char *whole, *got;
        int64_t calls, others, failures = 0;
        cr_assert_eq(dump_without_memory((ad_dump_format)format, 0, &whole, &calls), AD_OK);
        for (int64_t i = 1; i <= calls; i++) {
            ad_status status = dump_without_memory((ad_dump_format)format, i, &got, &others);
            cr_expect(status == AD_ERR_OOM || strcmp(got, whole) == 0, "allocation %" PRId64 ": %s, and\n%s", i,
                      ad_status_name(status), got);
            failures += status == AD_ERR_OOM;
            free(got);
        }
        cr_expect_gt(failures, 5);
        free(whole);
    }
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

static const ad_dump_options json = {.format = AD_DUMP_JSON};

static const char *after_space(const char *at) { return at + strspn(at, "\n"); }

/* Behind the string that begins at `at`; NULL: it is not one. */
static const char *after_string(const char *at) {
    if (*at++ != '"') return NULL;
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < 0x20) return NULL;
        if (*at != '\\') continue;
        at++;
        if (*at != '"' && *at != '\\' && (*at != 'u' || strspn(at + 1, "0123456789abcdef") < 4)) return NULL;
    }
    return at + 1;
}

static const char *after_number(const char *at) {
    char *end;
    strtod(at, &end);
    return end > at && (size_t)(end - at) == strspn(at, "-+0123456789.e") ? end : NULL;
}

/* Behind a value and, at the end, nothing; NULL: not JSON. Only as deep as our dumps are. */
static const char *after_value(const char *at, int depth) {
    at = after_space(at);
    if (*at == '"') return after_string(at);
    if (strncmp(at, "true", 4) == 0) return at + 4;
    if (*at != '{' && *at != '[') return after_number(at);
    const char close = *at == '{' ? '}' : ']';
    if (depth == 0) return NULL;
    if (*(at = after_space(at + 1)) == close) return at + 1;
    for (;; at++) {
        at = after_space(at);
        if (close == '}' && (!(at = after_string(at)) || *at++ != ':')) return NULL;
        if (!(at = after_value(at, depth - 1))) return NULL;
        at = after_space(at);
        if (*at != ',') return *at == close ? at + 1 : NULL;
    }
}

static void expect_json(ad_tape *tape, const ad_dump_options *options) {
    char *got = dump_with(tape, options);
    const char *end = after_value(got, 8);
    cr_expect(end && *after_space(end) == '\0', "not JSON, at %.60s", end ? end : got);
    cr_expect_null(strchr(got, '<'), "unsafe inside of a page");
    cr_expect_null(strstr(got, "\u2028"), "unsafe inside of a script");
    free(got);
}

Test(dump, json_is_well_formed_whatever_is_in_it) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("</script><!-- \u2028 \xFF \x7F \\ \"", 1.5);
    expect_json(t, &json);
    ad_backward(ad_add(ad_add(residual(t), recurrence(t, w)), oddities(t)));
    expect_json(t, &json);
    expect_json(t, &(ad_dump_options){.format = AD_DUMP_JSON, .most_nodes = 4, .most_elements = 1});
    expect_json(t, &(ad_dump_options){.format = AD_DUMP_JSON, .first = 2, .end = 3, .ascii = true});
    ad_matmul(ad_scalar(t, "\n<", 1), ad_scalar(t, "&", 2));
    expect_json(t, &json);
    ad_tape_free(t);
    ad_param_unref(w);
}

/* The elements of the only node, behind its type. */
static const char *elements_of(const char *got) {
    const char *elements = strstr(got, "\"elements\":[");
    cr_assert_not_null(elements, "%s", got);
    return elements + strlen("\"elements\":[");
}

Test(dump, json_keeps_every_number_exact) {
    enum { COUNT = 4000 };
    ad_rng rng = {.seed = 5};
    double wide[COUNT];
    float narrow[COUNT];
    for (int i = 0; i < COUNT; i++) {
        uint64_t bits = ad_rng_next(&rng);
        memcpy(&wide[i], &bits, sizeof bits);
        memcpy(&narrow[i], &bits, sizeof *narrow);
        if (i % 2) wide[i] = ad_rng_normal(&rng), narrow[i] = (float)wide[i];
        if (!isfinite(wide[i])) wide[i] = -0.0;
        if (!isfinite(narrow[i])) narrow[i] = 5e-45f;
    }
    ad_tape *t = ad_tape_new(NULL);
    ad_leaf(t, "wide", AD_F64, AD_SHAPE(COUNT), wide);
    char *got = dump_with(t, &json);
    const char *at = elements_of(got);
    for (int i = 0; i < COUNT; i++, at++) {
        double read = strtod(at, (char **)&at);
        cr_assert(memcmp(&read, &wide[i], sizeof read) == 0, "%.17g became %.17g", wide[i], read);
    }
    free(got);
    ad_tape_reset(t);
    ad_leaf(t, "narrow", AD_F32, AD_SHAPE(COUNT), narrow);
    got = dump_with(t, &json);
    at = elements_of(got);
    for (int i = 0; i < COUNT; i++, at++) {
        float read = strtof(at, (char **)&at);
        cr_assert(memcmp(&read, &narrow[i], sizeof read) == 0, "%.9g became %.9g", (double)narrow[i], (double)read);
    }
    free(got);
    ad_tape_free(t);
}

Test(dump, json_has_points_where_the_locale_has_commas) {
    if (!setlocale(LC_NUMERIC, "de_DE.UTF-8") && !setlocale(LC_NUMERIC, "fr_FR.UTF-8"))
        cr_skip_test("no locale with a decimal comma");
    ad_tape *t = ad_tape_new(NULL);
    ad_scalar(t, "x", 1.25);
    expect_dump(t, &json, "\"elements\":[1.25]");
    ad_tape_free(t);
}

/* ---- Graphviz -------------------------------------------------------------------------------------------------- */

static void expect_graphviz_takes(ad_tape *tape, const ad_dump_options *options) {
    char *got = dump_with(tape, options);
    char path[] = "/tmp/adtape-dump-XXXXXX", command[128], complaint[512] = "";
    int file = mkstemp(path);
    FILE *stream = fdopen(file, "w");
    cr_assert(stream && fputs(got, stream) >= 0 && fclose(stream) == 0);
    snprintf(command, sizeof command, "dot -Tsvg -o /dev/null %s 2>&1", path);
    FILE *output = popen(command, "r");
    cr_assert_not_null(output);
    size_t length = fread(complaint, 1, sizeof complaint - 1, output);
    complaint[length] = '\0';
    cr_expect_eq(pclose(output), 0, "dot failed on\n%s", got);
    cr_expect_str_empty(complaint, "dot says %s of\n%s", complaint, got);
    remove(path);
    free(got);
}

Test(dump, graphviz_takes_every_graph_without_a_word) {
    if (system("dot -V >/dev/null 2>&1") != 0) cr_skip_test("Graphviz is not installed");
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = new_param("a \"b\"", 1.5);
    expect_graphviz_takes(t, &graph);
    ad_backward(residual(t));
    ad_backward(ad_add(recurrence(t, w), oddities(t)));
    expect_graphviz_takes(t, &graph);
    expect_graphviz_takes(t, &(ad_dump_options){.format = AD_DUMP_DOT, .ascii = true, .most_nodes = 7});
    expect_graphviz_takes(t, &(ad_dump_options){.format = AD_DUMP_DOT, .first = 4, .end = 5});
    ad_tape_reset(t);
    ad_backward(chain(t, 5000));
    expect_graphviz_takes(t, &(ad_dump_options){.format = AD_DUMP_DOT, .most_nodes = 12});
    ad_tape_free(t);
    ad_param_unref(w);
}
