/* Names and formulas, in the tape's own variables. */
#include "autodiff/dump/dump.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { label_columns = 24, attribute_columns = 40 };

/* ---- names ----------------------------------------------------------------------------------------------------- */

static void put_character(ad_string *string, const char *at, const char *next, uint32_t character) {
    if (character == '\n') {
        ad_string_print(string, "\\n");
    } else if (character == '\t') {
        ad_string_print(string, "\\t");
    } else if (character < 0x20 || (character >= 0x7F && character < 0xA0)) {
        ad_string_print(string, "\\x%02x", (unsigned)character);
    } else if (character == 0xFFFD || (character >= 0x2028 && character <= 0x202E) ||
               (character >= 0x2066 && character <= 0x2069)) {
        ad_string_print(string, "\uFFFD"); /* not UTF-8, or it would turn the direction of the line */
    } else {
        ad_string_put(string, at, (size_t)(next - at));
    }
}

bool ad_put_name(ad_string *string, const char *name, int columns) {
    size_t start = string->length;
    const char *end = name + strlen(name);
    for (const char *at = name; at < end;) {
        size_t before = string->length;
        const char *next = at;
        uint32_t character = ad_utf8_next(&next, end);
        put_character(string, at, next, character);
        if (string->failed) return true;
        if (ad_utf8_columns(string->data + start, string->length - start) > columns - (next < end)) {
            string->length = before;
            ad_string_print(string, "…");
            return false;
        }
        at = next;
    }
    return true;
}

/* v12 is the name of node 12 if it has no other. */
static bool looks_like_a_number(const char *name) {
    if (*name++ != 'v' || !*name) return false;
    while (isdigit((unsigned char)*name)) name++;
    return !*name;
}

static int by_name(const void *a, const void *b) {
    const ad_name_use *p = a, *q = b;
    int order = strcmp(p->name, q->name);
    return order ? order : (p->index > q->index) - (p->index < q->index);
}

void ad_dump_sort_names(ad_dump *dump) {
    if (dump->name_count == 0) return;
    qsort(dump->names, dump->name_count, sizeof *dump->names, by_name);
    size_t kept = 1;
    for (size_t i = 1; i < dump->name_count; i++)
        if (dump->names[i].index != dump->names[kept - 1].index) dump->names[kept++] = dump->names[i];
    dump->name_count = kept;
}

/* Whether another node that the dump mentions has the same name. */
static bool is_ambiguous(const ad_dump *dump, const char *name) {
    size_t low = 0, high = dump->name_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(dump->names[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low + 1 < dump->name_count && strcmp(dump->names[low].name, name) == 0 &&
           strcmp(dump->names[low + 1].name, name) == 0;
}

void ad_put_label(ad_string *string, const ad_dump *dump, int64_t index) {
    ad_node_info node = ad_dump_node(dump, index);
    if (!*node.name) {
        ad_string_print(string, "v%" PRId64, index);
        return;
    }
    bool whole = ad_put_name(string, node.name, label_columns);
    if (!whole || looks_like_a_number(node.name) || is_ambiguous(dump, node.name))
        ad_string_print(string, "#%" PRId64, index);
}

void ad_put_bar(ad_string *string, const ad_dump *dump, int64_t index) {
    if (dump->options.ascii) {
        ad_string_print(string, "~");
        ad_put_label(string, dump, index);
        return;
    }
    ad_string label = {.allocator = string->allocator};
    ad_put_label(&label, dump, index);
    if (label.length) {
        /* The bar goes over the first character, after any marks that it has already. */
        const char *at = label.data, *end = label.data + label.length;
        ad_utf8_next(&at, end);
        for (const char *next = at; next < end && ad_utf8_width(ad_utf8_next(&next, end)) == 0;) at = next;
        ad_string_put(string, label.data, (size_t)(at - label.data));
        ad_string_print(string, "\u0304");
        ad_string_put(string, at, (size_t)(end - at));
    }
    string->failed |= label.failed;
    ad_string_free(&label);
}

/* ---- formulas -------------------------------------------------------------------------------------------------- */

/* Text between references, with ^T and ^2 raised. */
static void put_formula_text(ad_string *string, const ad_dump *dump, const char *text, size_t length) {
    static const struct {
        const char *plain, *raised;
    } powers[] = {{"^T", "ᵀ"}, {"^-1", "⁻¹"}, {"^2", "²"}, {"^3", "³"}};
    for (size_t i = 0; i < length;) {
        size_t used = 0;
        for (size_t k = 0; k < sizeof powers / sizeof *powers && !used && !dump->options.ascii; k++) {
            size_t size = strlen(powers[k].plain);
            if (size > length - i || memcmp(text + i, powers[k].plain, size) != 0) continue;
            ad_string_print(string, "%s", powers[k].raised);
            used = size;
        }
        if (!used) ad_string_put(string, text + i, used = 1);
        i += used;
    }
}

const ad_notation ad_plain_notation = {ad_put_label, ad_put_bar, put_formula_text};

static void put_attrs(ad_string *string, const ad_dump *dump, const ad_notation *notation, const ad_node_info *node) {
    char text[256] = "";
    ad_string shown = {.allocator = string->allocator};
    if (node->op->show_attrs && node->attrs) node->op->show_attrs(node->attrs, text, sizeof text);
    ad_put_name(&shown, text, attribute_columns);
    if (shown.length) notation->text(string, dump, shown.data, shown.length);
    string->failed |= shown.failed;
    ad_string_free(&shown);
}

void ad_put_formula(ad_string *string, const ad_dump *dump, int64_t first, const char *formula, int from, int to) {
    ad_put_formula_in(string, dump, &ad_plain_notation, first, formula, from, to);
}

void ad_put_formula_in(ad_string *string, const ad_dump *dump, const ad_notation *notation, int64_t first,
                       const char *formula, int from, int to) {
    ad_node_info node = ad_dump_node(dump, first);
    ad_formula_part part;
    while (ad_formula_next(&formula, &part)) {
        int number = part.kind == AD_FORMULA_INPUT && part.number == from ? to : part.number;
        int64_t index = -1;
        if (part.kind == AD_FORMULA_INPUT && number < node.inputs) index = node.input[number];
        if (part.kind == AD_FORMULA_RESULT && number <= ad_max_int(node.op->results - 1, 0)) index = first + number;
        if (part.kind == AD_FORMULA_ATTRS) {
            put_attrs(string, dump, notation, &node);
        } else if (index < 0) {
            notation->text(string, dump, part.text, part.length);
        } else if (part.is_cotangent) {
            notation->bar(string, dump, index);
        } else {
            notation->label(string, dump, index);
        }
    }
}

void ad_put_node_formula(ad_string *string, const ad_dump *dump, const ad_node_info *node) {
    if (node->is_leaf) return;
    int64_t first = node->result ? node->input[0] : node->index;
    ad_node_info operation = ad_dump_node(dump, first);
    const char *formula = node->result ? operation.op->result_formula[node->result - 1] : operation.op->formula;
    if (formula) {
        ad_put_formula(string, dump, first, formula, -1, -1);
    } else {
        ad_put_label(string, dump, node->index);
        ad_string_print(string, " = result %d of ", node->result);
        ad_put_name(string, operation.op->name, label_columns);
    }
}

void ad_put_adjoint(ad_string *string, const ad_dump *dump, const ad_node_info *node, int input) {
    int written_for;
    const char *formula = ad_op_adjoint(node->op, input, &written_for);
    ad_put_formula(string, dump, node->index, formula, written_for, input);
}

/* ---- other texts ----------------------------------------------------------------------------------------------- */

void ad_put_op(ad_string *string, const ad_node_info *node) {
    if (node->result > 0) {
        ad_string_print(string, "result %d", node->result);
    } else {
        ad_put_name(string, node->op->name, label_columns);
    }
}

bool ad_is_reader(const ad_node_info *node, const ad_saved *saved, int i) {
    if (!(saved->read_for >> ad_min_int(i, 63) & 1)) return false;
    for (int k = 0; k < i; k++)
        if (node->input[k] == node->input[i] && (saved->read_for >> ad_min_int(k, 63) & 1)) return false;
    return true;
}

/* "H 72 B for x̄": what is kept, and the gradients that need it. */
void ad_put_saved(ad_string *string, const ad_dump *dump, const ad_node_info *node, const ad_saved *saved) {
    ad_put_label(string, dump, saved->node);
    ad_string_print(string, " ");
    ad_string_bytes(string, saved->bytes);
    int shown = 0;
    for (int i = 0; i < node->inputs && shown < AD_MOST_TERMS; i++) {
        if (!ad_is_reader(node, saved, i)) continue;
        ad_string_print(string, shown++ ? ", " : " for ");
        ad_put_bar(string, dump, node->input[i]);
    }
}

void ad_put_place(ad_string *string, const char *where) {
    if (!where) return;
    const char *slash = strrchr(where, '/');
    ad_put_name(string, slash ? slash + 1 : where, label_columns);
}

void ad_put_type(ad_string *string, const ad_view *view) {
    char type[AD_TYPE_TEXT];
    ad_string_print(string, "%s", ad_type_text(view->dtype, &view->shape, type));
}
