/* The trace in LaTeX, for lecture notes: two tables and a list of equations. Whatever the names are, it compiles: nothing
 * of the user's reaches TeX but letters, digits and what is escaped.
 *
 * Formulas are written in two steps. Labels are put between marks, as TeX; then everything between them, which is the plain
 * text of a formula, is translated, because what stands beside it matters: "^" takes what follows. */
#include "autodiff/dump/equations.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MARK = '\x01', END_MARK = '\x02' };

typedef struct latex {
    ad_dump *dump;
    ad_string text, scratch;
} latex;

/* ---- characters ------------------------------------------------------------------------------------------------ */

static const char *greek(uint32_t character) {
    static const char *const names[] = {"alpha",     "beta", "gamma", "delta",    "epsilon", "zeta", "eta",
                                        "theta",     "iota", "kappa", "lambda",   "mu",      "nu",   "xi",
                                        "mathrm{o}", "pi",   "rho",   "varsigma", "sigma",   "tau",  "upsilon",
                                        "phi",       "chi",  "psi",   "omega"};
    return character >= 0x3B1 && character <= 0x3C9 ? names[character - 0x3B1] : NULL;
}

static void put_greek(ad_string *out, uint32_t character) { ad_string_print(out, "\\%s ", greek(character)); }

/* A character as text outside of formulas. */
static void put_character(ad_string *out, uint32_t character) {
    static const struct {
        char plain;
        const char *escaped;
    } special[] = {{'\\', "\\textbackslash{}"}, {'^', "\\textasciicircum{}"},
                   {'~', "\\textasciitilde{}"}, {'<', "\\textless{}"},
                   {'>', "\\textgreater{}"},    {'|', "\\textbar{}"},
                   {'`', "\\textasciigrave{}"}, {'-', "{-}"}};
    if (character == 0x2026) {
        ad_string_print(out, "\\dots{}");
    } else if (greek(character)) {
        ad_string_print(out, "$");
        put_greek(out, character);
        ad_string_print(out, "$");
    } else if (character < 0x20 || character >= 0x7F) {
        ad_string_print(out, "U+%04X", (unsigned)character);
    } else if (memchr("$%&#_{}", (int)character, 7)) {
        ad_string_print(out, "\\%c", (char)character);
    } else {
        for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
            if ((uint32_t)special[i].plain != character) continue;
            ad_string_print(out, "%s", special[i].escaped);
            return;
        }
        ad_string_print(out, "%c", (char)character);
    }
}

static void put_text(ad_string *out, const char *text, size_t length) {
    for (const char *at = text, *end = text + length; at < end;) put_character(out, ad_utf8_next(&at, end));
}

/* ---- labels ---------------------------------------------------------------------------------------------------- */

static size_t digits(const char *text, size_t length) {
    size_t n = 0;
    while (n < length && isdigit((unsigned char)text[n])) n++;
    return n;
}

/* Whether a name is one letter, Latin or Greek, and perhaps an index, which is so long: x, v3, α. */
static bool is_symbol(const char *name, size_t length, size_t *index) {
    const char *at = name;
    uint32_t first = length ? ad_utf8_next(&at, name + length) : 0;
    *index = length - (size_t)(at - name);
    return (greek(first) || (first < 0x7F && isalpha((int)first))) && digits(at, *index) == *index;
}

static void put_label_of(ad_string *out, const ad_dump *dump, int64_t index, bool bar) {
    ad_string plain = {.allocator = out->allocator};
    size_t subscript;
    ad_put_label(&plain, dump, index);
    const char *name = plain.length ? plain.data : "";
    bool symbol = is_symbol(name, plain.length, &subscript);
    ad_string_print(out, "%c%s", MARK, !bar ? "" : symbol ? "\\bar{" : "\\overline{");
    if (!symbol) {
        ad_string_print(out, "\\text{");
        put_text(out, name, plain.length);
        ad_string_print(out, "}");
    } else if (plain.length - subscript == 1) {
        ad_string_print(out, "%c", *name);
    } else {
        const char *at = name;
        put_greek(out, ad_utf8_next(&at, name + plain.length));
    }
    ad_string_print(out, bar ? "}" : "");
    if (symbol && subscript) ad_string_print(out, "_{%.*s}", (int)subscript, name + plain.length - subscript);
    ad_string_print(out, "%c", END_MARK);
    out->failed |= plain.failed;
    ad_string_free(&plain);
}

static void put_label(ad_string *out, const ad_dump *dump, int64_t index) { put_label_of(out, dump, index, false); }
static void put_bar(ad_string *out, const ad_dump *dump, int64_t index) { put_label_of(out, dump, index, true); }

/* Text of a formula stays as it is until all of it is there; without the marks, which only labels set. */
static void keep_text(ad_string *out, const ad_dump *dump, const char *text, size_t length) {
    (void)dump;
    for (size_t i = 0; i < length; i++)
        if (text[i] != MARK && text[i] != END_MARK) ad_string_put(out, &text[i], 1);
}

static const ad_notation notation = {put_label, put_bar, keep_text};

/* ---- formulas -------------------------------------------------------------------------------------------------- */

static void put_formula(ad_string *out, const char *text, const char *end);

/* The end of what "^" raises: a number, a label, a letter, or brackets. */
static const char *raised_end(const char *at, const char *end) {
    if (at < end && *at == MARK) {
        const char *mark = memchr(at, END_MARK, (size_t)(end - at));
        return mark ? mark + 1 : end;
    }
    if (at < end && *at == '(') {
        int depth = 0;
        for (; at < end; at++) {
            depth += (*at == '(') - (*at == ')');
            if (depth == 0) return at + 1;
        }
        return end;
    }
    const char *from = at;
    if (at < end && *at == '-') at++;
    while (at < end && (isdigit((unsigned char)*at) || *at == '.')) at++;
    return at > from ? at : at < end ? at + 1 : end;
}

static const char *put_power(ad_string *out, const char *at, const char *end) {
    const char *stop = raised_end(at, end);
    bool in_brackets = stop - at >= 2 && *at == '(' && stop[-1] == ')';
    ad_string_print(out, "^{");
    if (stop - at == 1 && *at == 'T') {
        ad_string_print(out, "\\mathsf{T}");
    } else {
        put_formula(out, in_brackets ? at + 1 : at, in_brackets ? stop - 1 : stop);
    }
    ad_string_print(out, "}");
    return stop;
}

static bool is_word(const char *at, const char *end) {
    return at + 1 < end && isalpha((unsigned char)at[0]) && (isalnum((unsigned char)at[1]) || at[1] == '_');
}

static const char *put_word(ad_string *out, const char *at, const char *end) {
    static const char *const functions[] = {"exp",  "log",  "sin", "cos", "tan", "sinh",
                                            "cosh", "tanh", "max", "min", "det"};
    const char *stop = at;
    while (stop < end && (isalnum((unsigned char)*stop) || *stop == '_')) stop++;
    size_t length = (size_t)(stop - at);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (strlen(functions[i]) != length || memcmp(functions[i], at, length) != 0) continue;
        ad_string_print(out, "\\%s ", functions[i]);
        return stop;
    }
    ad_string_print(out, stop < end && *stop == '(' ? "\\operatorname{" : "\\text{");
    put_text(out, at, length);
    ad_string_print(out, "}");
    return stop;
}

/* Signs of two characters, and of one that is not its own name in TeX; < and > hug what they embrace. */
static size_t put_sign(ad_string *out, const char *at, const char *start, const char *end) {
    static const struct {
        const char *plain, *tex;
    } signs[] = {{"+=", "\\mathrel{+}="},
                 {"-=", "\\mathrel{-}="},
                 {"<=", "\\le "},
                 {">=", "\\ge "},
                 {"!=", "\\ne "},
                 {"*", "\\cdot "},
                 {"%", "\\%"},
                 {"&", "\\&"},
                 {"#", "\\#"},
                 {"_", "\\_"},
                 {"$", "\\$"},
                 {"{", "\\{"},
                 {"}", "\\}"},
                 {"~", "\\sim "},
                 {"\\", "\\backslash "},
                 {", ", ",\\; "}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) {
        size_t length = strlen(signs[i].plain);
        if (length > (size_t)(end - at) || memcmp(at, signs[i].plain, length) != 0) continue;
        ad_string_print(out, "%s", signs[i].tex);
        return length;
    }
    if (*at == '<' && at + 1 < end && at[1] != ' ') return ad_string_print(out, "\\langle "), 1;
    if (*at == '>' && at > start && at[-1] != ' ') return ad_string_print(out, "\\rangle "), 1;
    return 0;
}

/* A blank counts between a word and something that is no sign. */
static void put_blank(ad_string *out, const char *at, const char *start, const char *end) {
    static const char signs[] = "=+-*/<>?:,;(";
    bool word_before = at > start + 1 && isalpha((unsigned char)at[-1]) && isalnum((unsigned char)at[-2]);
    bool sign_before = at > start && strchr(signs, at[-1]), sign_after = at + 1 < end && strchr(signs, at[1]);
    if (at + 2 < end && at[1] == '-' && isdigit((unsigned char)at[2])) sign_after = false; /* of a number */
    bool counts = (word_before && !sign_after) || (is_word(at + 1, end) && !sign_before);
    ad_string_print(out, counts ? "\\ " : " ");
}

static void put_formula(ad_string *out, const char *text, const char *end) {
    for (const char *at = text; at < end;) {
        size_t used;
        if (*at == MARK) {
            const char *mark = memchr(at, END_MARK, (size_t)(end - at));
            if (!mark) return;
            ad_string_put(out, at + 1, (size_t)(mark - at - 1));
            at = mark + 1;
        } else if (*at == '^') {
            at = put_power(out, at + 1, end);
        } else if (is_word(at, end)) {
            at = put_word(out, at, end);
        } else if (*at == ' ') {
            put_blank(out, at++, text, end);
        } else if ((used = put_sign(out, at, text, end)) > 0) {
            at += used;
        } else if ((unsigned char)*at >= 0x80) {
            ad_string_print(out, "\\text{");
            put_character(out, ad_utf8_next(&at, end));
            ad_string_print(out, "}");
        } else {
            ad_string_put(out, at++, 1);
        }
    }
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static void put_number(ad_string *out, const ad_view *view, int64_t i, const ad_number_style *style) {
    char text[64];
    ad_number_text(view, i, style, text);
    const char *at = text + strspn(text, " "), *exponent = strchr(at, 'e');
    if (strcmp(at, "NaN") == 0) {
        ad_string_print(out, "\\text{NaN}");
    } else if (strstr(at, "inf")) {
        ad_string_print(out, "%s\\infty ", *at == '-' ? "-" : "");
    } else if (exponent) {
        ad_string_print(out, "%.*s\\cdot 10^{%d}", (int)(exponent - at), at, atoi(exponent + 1));
    } else {
        ad_string_print(out, "%s", at);
    }
}

/* A vector is a column. */
static void put_matrix(ad_string *out, const ad_view *view, const ad_number_style *style) {
    int64_t columns = view->shape.rank == 2 ? view->shape.dim[1] : 1;
    ad_string_print(out, "\\left(\\begin{array}{");
    for (int64_t j = 0; j < columns; j++) ad_string_print(out, "r");
    ad_string_print(out, "}");
    for (int64_t i = 0, n = ad_view_count(view); i < n; i++) {
        if (i > 0) ad_string_print(out, i % columns ? " & " : " \\\\ ");
        put_number(out, view, i, style);
    }
    ad_string_print(out, "\\end{array}\\right)");
}

static void put_value(latex *l, const ad_view *view) {
    if (ad_view_count(view) > 0 && view->shape.rank <= 2 && ad_shows_elements(l->dump, view)) {
        ad_number_style style = ad_number_style_of(l->dump, 1, &view);
        if (view->shape.rank == 0) {
            put_number(&l->text, view, 0, &style);
        } else {
            put_matrix(&l->text, view, &style);
        }
        return;
    }
    ad_put_value(&l->scratch, l->dump, view, NULL);
    for (size_t i = 0; i < l->scratch.length; i++)
        if (l->scratch.data[i] == '\n') l->scratch.data[i] = ' ';
    ad_string_print(&l->text, "\\text{");
    if (l->scratch.length) put_text(&l->text, l->scratch.data, l->scratch.length);
    ad_string_print(&l->text, "}");
    ad_string_clear(&l->scratch);
}

/* ---- lines ----------------------------------------------------------------------------------------------------- */

static void end_line(latex *l) {
    if (l->text.failed || l->scratch.failed) ad_dump_fail(l->dump, AD_ERR_OOM);
    if (l->text.length) ad_writer_put(&l->dump->writer, l->text.data, l->text.length);
    ad_writer_line(&l->dump->writer);
    ad_string_clear(&l->text);
}

static void put_line(latex *l, const char *line) {
    ad_string_print(&l->text, "%s", line);
    end_line(l);
}

/* Takes what is in `scratch`, with marks, as a formula. */
static void take_formula(latex *l) {
    if (l->scratch.length) put_formula(&l->text, l->scratch.data, l->scratch.data + l->scratch.length);
    ad_string_clear(&l->scratch);
}

/* Takes what is in `scratch` as text. */
static void take_text(latex *l) {
    if (l->scratch.length) put_text(&l->text, l->scratch.data, l->scratch.length);
    ad_string_clear(&l->scratch);
}

static void put_math_label(latex *l, int64_t index, bool bar) {
    ad_string_print(&l->text, "$");
    put_label_of(&l->scratch, l->dump, index, bar);
    take_formula(l);
    ad_string_print(&l->text, "$");
}

/* ---- cells ----------------------------------------------------------------------------------------------------- */

static void number_cell(latex *l, const ad_node_info *node) { ad_string_print(&l->text, "%" PRId64, node->index); }
static void node_cell(latex *l, const ad_node_info *node) { put_math_label(l, node->index, false); }
static void bar_cell(latex *l, const ad_node_info *node) { put_math_label(l, node->index, true); }

static void op_cell(latex *l, const ad_node_info *node) {
    ad_put_op(&l->scratch, node);
    take_text(l);
}

static void type_cell(latex *l, const ad_node_info *node) {
    ad_put_type(&l->scratch, &node->value);
    take_text(l);
}

static void value_cell(latex *l, const ad_node_info *node) {
    ad_string_print(&l->text, "$");
    put_value(l, &node->value);
    ad_string_print(&l->text, "$");
}

static void saved_cell(latex *l, const ad_node_info *node) {
    ad_saved saved;
    int shown = 0;
    for (int cursor = 0; shown < AD_MOST_TERMS && ad_dump_saved(l->dump, node->index, &cursor, &saved); shown++) {
        ad_string_print(&l->text, shown ? "; " : "");
        put_math_label(l, saved.node, false);
        for (int i = 0, readers = 0; i < node->inputs && readers < AD_MOST_TERMS; i++) {
            if (!ad_is_reader(node, &saved, i)) continue;
            ad_string_print(&l->text, readers++ ? ", " : " for ");
            put_math_label(l, node->input[i], true);
        }
    }
}

static void place_cell(latex *l, const ad_node_info *node) {
    ad_put_place(&l->scratch, node->where);
    take_text(l);
}

/* The terms of a merge and their sum. */
static void gradient_cell(latex *l, const ad_node_info *node) {
    ad_contribution term;
    int64_t count = ad_dump_term_count(l->dump, node->index);
    ad_string_print(&l->text, "$");
    for (int64_t n = 0; count > 1 && ad_dump_term(l->dump, node->index, n, &term); n++) {
        ad_tensor *value = ad_dump_term_value(l->dump, &term);
        ad_string_print(&l->text, n > 0 ? " + " : "");
        if (value) {
            put_value(l, ad_tensor_view(value));
        } else {
            ad_string_print(&l->text, "\\text{(given back)}");
        }
        ad_tensor_unref(value);
    }
    if (count > l->dump->most_terms) ad_string_print(&l->text, " + \\cdots");
    ad_string_print(&l->text, count > 1 ? " = " : "");
    if (!node->reached) {
        ad_string_print(&l->text, "0");
    } else if (node->has_gradient) {
        put_value(l, &node->gradient);
    } else {
        ad_string_print(&l->text, "\\text{(given back)}");
    }
    ad_string_print(&l->text, "$");
}

static void from_cell(latex *l, const ad_node_info *node) {
    ad_contribution term;
    ad_string_print(&l->text, node->is_seed ? "seed" : "");
    for (int64_t n = 0; ad_dump_term(l->dump, node->index, n, &term); n++) {
        ad_string_print(&l->text, n > 0 || node->is_seed ? ", " : "");
        put_math_label(l, term.consumer, false);
    }
}

/* ---- tables ---------------------------------------------------------------------------------------------------- */

typedef struct column {
    const char *title;
    char align;
    unsigned hide;
    void (*put)(latex *l, const ad_node_info *node);
} column;

static const column forward_columns[] = {
    {"\\#", 'r', AD_DUMP_HIDE_NUMBERS, number_cell},
    {"node", 'l', 0, node_cell},
    {"operation", 'l', 0, op_cell},
    {"type", 'l', AD_DUMP_HIDE_TYPES, type_cell},
    {"value", 'l', AD_DUMP_HIDE_VALUES, value_cell},
    {"kept", 'l', AD_DUMP_HIDE_SAVED, saved_cell},
    {"at", 'l', AD_DUMP_HIDE_PLACES, place_cell},
};
static const column reverse_columns[] = {
    {"\\#", 'r', AD_DUMP_HIDE_NUMBERS, number_cell},
    {"node", 'l', 0, bar_cell},
    {"operation", 'l', 0, op_cell},
    {"gradient", 'l', AD_DUMP_HIDE_VALUES, gradient_cell},
    {"from", 'l', 0, from_cell},
};
enum { FORWARD_COLUMNS = 7, REVERSE_COLUMNS = 5 };

static void open_table(latex *l, const column *columns, int count) {
    ad_string_print(&l->text, "\\begin{longtable}{");
    for (int c = 0; c < count; c++)
        if (!(columns[c].hide & l->dump->options.hide)) ad_string_print(&l->text, "%c", columns[c].align);
    put_line(l, "}");
    const char *separator = "";
    for (int c = 0; c < count; c++) {
        if (columns[c].hide & l->dump->options.hide) continue;
        ad_string_print(&l->text, "%s%s", separator, columns[c].title);
        separator = " & ";
    }
    put_line(l, " \\\\ \\hline \\endhead");
}

static void put_row(latex *l, const column *columns, int count, int64_t index) {
    ad_node_info node = ad_dump_node(l->dump, index);
    const char *separator = "";
    for (int c = 0; c < count; c++) {
        if (columns[c].hide & l->dump->options.hide) continue;
        ad_string_print(&l->text, "%s", separator);
        columns[c].put(l, &node);
        separator = " & ";
    }
    put_line(l, " \\\\");
}

static void put_elided(latex *l) {
    ad_string_print(&l->text, "\\multicolumn{2}{l}{$\\vdots$ %" PRId64 " more} \\\\", l->dump->elided);
    end_line(l);
}

static void put_forward(latex *l) {
    const ad_dump *dump = l->dump;
    open_table(l, forward_columns, FORWARD_COLUMNS);
    for (int w = 0; w < dump->windows; w++) {
        if (w > 0) put_elided(l);
        for (int64_t i = dump->window[w].first; i < dump->window[w].end && !dump->writer.failed; i++)
            put_row(l, forward_columns, FORWARD_COLUMNS, i);
    }
    put_line(l, "\\end{longtable}");
}

static void put_reverse(latex *l) {
    const ad_dump *dump = l->dump;
    open_table(l, reverse_columns, REVERSE_COLUMNS);
    for (int w = dump->windows - 1; w >= 0; w--) {
        for (int64_t i = dump->window[w].end - 1; i >= dump->window[w].first && !dump->writer.failed; i--) {
            ad_node_info node = ad_dump_node(dump, i);
            if (node.reached || (node.is_leaf && node.wanted)) put_row(l, reverse_columns, REVERSE_COLUMNS, i);
        }
        if (w > 0) put_elided(l);
    }
    put_line(l, "\\end{longtable}");
}

/* ---- equations ------------------------------------------------------------------------------------------------- */

static void put_side(latex *l, const ad_string *side) {
    if (side->length) put_formula(&l->text, side->data, side->data + side->length);
}

/* One more line; it ends the one before. */
static void put_equation(latex *l, const ad_equation *e, bool *is_first) {
    if (!*is_first) put_line(l, " \\\\");
    *is_first = false;
    put_side(l, &e->left);
    ad_string_print(&l->text, " &= ");
    put_side(l, &e->right);
}

static void put_equations(latex *l) {
    ad_dump *dump = l->dump;
    ad_equation e;
    bool is_first = true;
    ad_equation_open(&e, dump);
    put_line(l, "\\begin{align*}");
    for (int w = 0; w < dump->windows; w++)
        for (int64_t i = dump->window[w].first; i < dump->window[w].end && !dump->writer.failed; i++)
            if (ad_forward_equation(&e, dump, &notation, i)) put_equation(l, &e, &is_first);
    for (int w = dump->windows - 1; w >= 0; w--)
        for (int64_t i = dump->window[w].end - 1; i >= dump->window[w].first && !dump->writer.failed; i--)
            if (ad_reverse_equation(&e, dump, &notation, i)) put_equation(l, &e, &is_first);
    end_line(l);
    put_line(l, "\\end{align*}");
    ad_equation_close(&e, dump);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

void ad_dump_latex(ad_dump *dump) {
    latex l = {.dump = dump, .text = {.allocator = dump->allocator}, .scratch = {.allocator = dump->allocator}};
    put_line(&l, "% The trace of a tape, to \\input. It needs \\usepackage{amsmath,longtable}.");
    put_line(&l, "{\\small\\allowdisplaybreaks");
    if (dump->source.status) {
        ad_string_print(&l.text, "\\noindent error: ");
        ad_put_name(&l.scratch, dump->source.error, 2000);
        take_text(&l);
        end_line(&l);
        put_line(&l, "");
    }
    if (dump->options.end > dump->options.first) {
        put_forward(&l);
        if (dump->source.pass.nodes > 0) put_reverse(&l);
    }
    if (dump->totals[0].operations > 0) put_equations(&l);
    put_line(&l, "}");
    ad_string_free(&l.text);
    ad_string_free(&l.scratch);
}
