#include "autodiff/dump/equations.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

void ad_equation_open(ad_equation *equation, const ad_dump *dump) {
    *equation = (ad_equation){.left = {.allocator = dump->allocator}, .right = {.allocator = dump->allocator}};
}

void ad_equation_close(ad_equation *equation, ad_dump *dump) {
    if (equation->left.failed || equation->right.failed) ad_dump_fail(dump, AD_ERR_OOM);
    ad_string_free(&equation->left);
    ad_string_free(&equation->right);
}

static void put_text(ad_string *string, const ad_dump *dump, const ad_notation *notation, const char *text) {
    notation->text(string, dump, text, strlen(text));
}

/* ---- forward --------------------------------------------------------------------------------------------------- */

bool ad_forward_equation(ad_equation *equation, const ad_dump *dump, const ad_notation *notation, int64_t index) {
    ad_node_info node = ad_dump_node(dump, index);
    ad_string_clear(&equation->left);
    ad_string_clear(&equation->right);
    if (node.is_leaf) return false;
    int64_t first = node.result ? node.input[0] : index;
    ad_node_info operation = ad_dump_node(dump, first);
    const char *formula = node.result ? operation.op->result_formula[node.result - 1] : operation.op->formula;
    const char *right = formula ? strstr(formula, " = ") : NULL;
    notation->label(&equation->left, dump, index);
    if (right) {
        ad_put_formula_in(&equation->right, dump, notation, first, right + 3, -1, -1);
    } else {
        put_text(&equation->right, dump, notation, operation.op->name);
    }
    return true;
}

/* ---- reverse --------------------------------------------------------------------------------------------------- */

/* Of a formula like "~0 += ~y * $1" what is added, and its sign; NULL: it is another kind of formula. */
static const char *added_term(const char *formula, char *sign) {
    if (*formula != '~') return NULL;
    for (formula++; isdigit((unsigned char)*formula); formula++) continue;
    *sign = formula[0] == ' ' ? formula[1] : '\0';
    if ((*sign != '+' && *sign != '-') || formula[2] != '=' || formula[3] != ' ') return NULL;
    return formula + 4;
}

/* Whether what is added would run together with what stands beside it. */
static bool needs_brackets(const char *formula) {
    int depth = 0;
    for (const char *at = formula; *at; at++) {
        depth += strchr("([", *at) != NULL;
        depth -= strchr(")]", *at) != NULL;
        if (depth == 0 && (strchr("?,;=", *at) || strncmp(at, " + ", 3) == 0 || strncmp(at, " - ", 3) == 0))
            return true;
    }
    return false;
}

static void put_term(ad_string *string, const ad_dump *dump, const ad_notation *notation, const ad_contribution *term,
                     bool is_first, bool is_alone) {
    ad_node_info consumer = ad_dump_node(dump, term->consumer);
    int written_for;
    char sign = '+';
    const char *formula = ad_op_adjoint(consumer.op, term->input, &written_for), *added = added_term(formula, &sign);
    if (!is_first) put_text(string, dump, notation, sign == '-' ? " - " : " + ");
    if (is_first && sign == '-') put_text(string, dump, notation, "-");
    if (added) {
        const bool brackets = needs_brackets(added) && (!is_alone || sign == '-');
        put_text(string, dump, notation, brackets ? "(" : "");
        ad_put_formula_in(string, dump, notation, term->consumer, added, written_for, term->input);
        put_text(string, dump, notation, brackets ? ")" : "");
    } else if (*formula) {
        put_text(string, dump, notation, "(");
        ad_put_formula_in(string, dump, notation, term->consumer, formula, written_for, term->input);
        put_text(string, dump, notation, ")");
    } else {
        put_text(string, dump, notation, "(from ");
        notation->label(string, dump, term->consumer);
        put_text(string, dump, notation, ")");
    }
}

bool ad_reverse_equation(ad_equation *equation, const ad_dump *dump, const ad_notation *notation, int64_t index) {
    ad_node_info node = ad_dump_node(dump, index);
    ad_contribution term;
    int64_t n = 0;
    ad_string_clear(&equation->left);
    ad_string_clear(&equation->right);
    if (!node.reached && !(node.is_leaf && node.wanted)) return false;
    notation->bar(&equation->left, dump, index);
    if (node.is_seed) {
        const bool is_number = node.has_gradient && node.gradient.shape.rank == 0;
        put_text(&equation->right, dump, notation, is_number && ad_view_get(&node.gradient, 0) == 1 ? "1" : "seed");
    }
    for (; ad_dump_term(dump, index, n, &term); n++)
        put_term(&equation->right, dump, notation, &term, n == 0 && !node.is_seed,
                 ad_dump_term_count(dump, index) + node.is_seed == 1);
    if (n < ad_dump_term_count(dump, index)) {
        char more[64];
        size_t length = 0;
        more[0] = '\0';
        ad_text_add(more, sizeof more, &length, " + %" PRId64 " more", ad_dump_term_count(dump, index) - n);
        put_text(&equation->right, dump, notation, more);
    }
    if (n == 0 && !node.is_seed) put_text(&equation->right, dump, notation, "0");
    return true;
}
