/* The dump for programs: one JSON object, one line for each node; docs/tape.schema.json says what is in it. Nothing is
 * lost but what the options leave out: numbers are written with as many digits as it takes to read the same number
 * back. The text is also valid inside an HTML <script>, as no string has a "<" in it. */
#include "autodiff/dump/dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    VERSION = 1,        /* of the schema */
    JACOBIAN_MOST = 64, /* elements of one that is written */
    THUMBNAIL = 32      /* rows and columns of the picture of a large value */
};

typedef struct json {
    ad_dump *dump;
    ad_string text;
    const ad_op **ops; /* numbered in the order in which they come */
    size_t op_count, op_room;
    bool comma; /* something stands in front of what comes next */
} json;

/* ---- syntax ---------------------------------------------------------------------------------------------------- */

static void put(json *j, const char *text) { ad_writer_put(&j->dump->writer, text, strlen(text)); }

static void separate(json *j) {
    if (j->comma) put(j, ",");
    j->comma = true;
}

static void open(json *j, const char *bracket) {
    separate(j);
    put(j, bracket);
    j->comma = false;
}

static void close(json *j, const char *bracket) {
    put(j, bracket);
    j->comma = true;
}

/* Within an array or object of which each element has a line of its own. */
static void new_line(json *j) {
    if (j->comma) put(j, ",");
    j->comma = false;
    ad_writer_line(&j->dump->writer);
}

void ad_put_json_string(ad_writer *writer, const char *string) {
    const char *end = string + strlen(string);
    ad_writer_put(writer, "\"", 1);
    for (const char *at = string, *next; at < end; at = next) {
        next = at;
        uint32_t c = ad_utf8_next(&next, end);
        if (c == '"' || c == '\\') {
            ad_writer_print(writer, "\\%c", (char)c);
        } else if (c < 0x20 || c == 0x7F || c == '<' || c == 0x2028 || c == 0x2029 || c == 0xFFFD) {
            ad_writer_print(writer, "\\u%04x", (unsigned)c);
        } else {
            ad_writer_put(writer, at, (size_t)(next - at));
        }
    }
    ad_writer_put(writer, "\"", 1);
}

static void put_string(json *j, const char *string) {
    separate(j);
    ad_put_json_string(&j->dump->writer, string);
}

static void key(json *j, const char *name) {
    put_string(j, name);
    put(j, ":");
    j->comma = false;
}

static void put_integer(json *j, int64_t value) {
    separate(j);
    ad_writer_print(&j->dump->writer, "%" PRId64, value);
}

static void string_member(json *j, const char *name, const char *value) {
    key(j, name);
    put_string(j, value);
}

static void integer_member(json *j, const char *name, int64_t value) {
    key(j, name);
    put_integer(j, value);
}

/* What is not said is false. */
static void flag_member(json *j, const char *name, bool value) {
    if (!value) return;
    key(j, name);
    separate(j);
    put(j, "true");
}

/* ---- numbers --------------------------------------------------------------------------------------------------- */

/* The shortest of the usual notations that reads back as the same number. */
static void shortest(double value, bool is_single, char text[40]) {
    int least = is_single ? 6 : 15, most = is_single ? 9 : 17;
    for (int digits = least; digits <= most; digits++) {
        snprintf(text, 40, "%.*g", digits, value);
        if (is_single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value) break;
    }
    /* The point is that of the locale. */
    for (char *c = text; *c; c++)
        if (!strchr("+-0123456789e", *c)) *c = '.';
}

static void put_float(ad_writer *writer, double value, bool is_single) {
    char text[40] = "-0.0";
    if (isnan(value)) {
        strcpy(text, "\"NaN\"");
    } else if (isinf(value)) {
        strcpy(text, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    } else if (value != 0 || !signbit(value)) {
        shortest(value, is_single, text);
    }
    ad_writer_put(writer, text, strlen(text));
}

void ad_put_json_number(ad_writer *writer, double value) { put_float(writer, value, false); }

static void put_number(json *j, double value, bool is_single) {
    separate(j);
    put_float(&j->dump->writer, value, is_single);
}

/* Integers that a double cannot hold are strings: many readers know no other numbers. */
static void put_whole(json *j, int64_t value) {
    const int64_t exact = (int64_t)1 << 53;
    separate(j);
    ad_writer_print(&j->dump->writer, value > exact || value < -exact ? "\"%" PRId64 "\"" : "%" PRId64, value);
}

static void put_element(json *j, const void *element, ad_dtype dtype) {
    if (ad_dtype_is_float(dtype)) {
        put_number(j, ad_element_get(element, dtype), dtype == AD_F32);
    } else {
        put_whole(j, dtype == AD_I64 ? *(const int64_t *)element : *(const int32_t *)element);
    }
}

static void put_elements(json *j, const ad_view *view) {
    int64_t size = (int64_t)ad_dtype_size(view->dtype);
    open(j, "[");
    for (ad_walk w = ad_walk_start(1, &view); w.more && !j->dump->writer.failed; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) put_element(j, w.at[0] + i * w.inner[0] * size, view->dtype);
    close(j, "]");
}

static void number_member(json *j, const char *name, double value) {
    key(j, name);
    put_number(j, value, false);
}

/* ---- values ---------------------------------------------------------------------------------------------------- */

static void statistics_member(json *j, const ad_view *view) {
    ad_statistics s = ad_statistics_of(view);
    key(j, "statistics");
    open(j, "{");
    if (s.numbers > 0) {
        number_member(j, "min", s.least);
        number_member(j, "mean", s.mean);
        number_member(j, "max", s.greatest);
        number_member(j, "norm", s.norm);
    }
    integer_member(j, "nan", s.nans);
    integer_member(j, "infinite", s.infinities);
    close(j, "}");
}

/* A picture of a value: the means of blocks. The value is taken as one matrix whose rows are its last axis, a vector as
 * rows that make about a square. */
typedef struct thumbnail {
    int64_t columns, block_rows, block_columns;
    int rows_shown, columns_shown;
    double sum[THUMBNAIL * THUMBNAIL];
    int64_t seen[THUMBNAIL * THUMBNAIL];
} thumbnail;

static int64_t blocks(int64_t count, int64_t *block) {
    *block = (count + THUMBNAIL - 1) / THUMBNAIL;
    return (count + *block - 1) / *block;
}

static void take_thumbnail(const ad_view *view, thumbnail *t) {
    int64_t n = ad_view_count(view), size = (int64_t)ad_dtype_size(view->dtype), i = 0;
    memset(t, 0, sizeof *t);
    t->columns = view->shape.rank > 1 ? view->shape.dim[view->shape.rank - 1] : (int64_t)ceil(sqrt((double)n));
    t->rows_shown = (int)blocks((n + t->columns - 1) / t->columns, &t->block_rows);
    t->columns_shown = (int)blocks(t->columns, &t->block_columns);
    for (ad_walk w = ad_walk_start(1, &view); w.more; ad_walk_next(&w))
        for (int64_t k = 0; k < w.n; k++, i++) {
            double value = ad_element_get(w.at[0] + k * w.inner[0] * size, view->dtype);
            int64_t at = i / t->columns / t->block_rows * t->columns_shown + i % t->columns / t->block_columns;
            if (isnan(value)) continue;
            t->sum[at] += value;
            t->seen[at]++;
        }
}

static void thumbnail_member(json *j, const ad_view *view) {
    thumbnail t;
    take_thumbnail(view, &t);
    key(j, "thumbnail");
    open(j, "{");
    integer_member(j, "rows", t.rows_shown);
    integer_member(j, "columns", t.columns_shown);
    integer_member(j, "block_rows", t.block_rows);
    integer_member(j, "block_columns", t.block_columns);
    key(j, "means");
    open(j, "[");
    for (int i = 0; i < t.rows_shown * t.columns_shown; i++)
        put_number(j, t.seen[i] ? t.sum[i] / (double)t.seen[i] : (double)NAN, true);
    close(j, "]");
    close(j, "}");
}

static void put_value(json *j, const ad_view *view) {
    open(j, "{");
    string_member(j, "dtype", ad_dtype_name(view->dtype));
    key(j, "shape");
    open(j, "[");
    for (int axis = 0; axis < view->shape.rank; axis++) put_integer(j, view->shape.dim[axis]);
    close(j, "]");
    int64_t count = ad_view_count(view);
    if (count == 0 || (view->data && count <= j->dump->options.most_elements)) {
        key(j, "elements");
        put_elements(j, view);
    } else if (view->data) {
        statistics_member(j, view);
        thumbnail_member(j, view);
    }
    close(j, "}");
}

/* ---- ops ------------------------------------------------------------------------------------------------------- */

/* The number of an op; it gets one if it has none. */
static int64_t number_of(json *j, const ad_op *op) {
    for (size_t i = j->op_count; i-- > 0;)
        if (j->ops[i] == op) return (int64_t)i;
    if (j->op_count == j->op_room) {
        size_t room = j->op_room ? j->op_room * 2 : 32;
        const ad_op **ops = ad_allocate(j->dump->allocator, room * sizeof *ops, _Alignof(const ad_op *));
        if (!ops) {
            ad_dump_fail(j->dump, AD_ERR_OOM);
            return 0;
        }
        if (j->op_count) memcpy(ops, j->ops, j->op_count * sizeof *ops);
        ad_release(j->dump->allocator, j->ops, j->op_room * sizeof *ops);
        j->ops = ops;
        j->op_room = room;
    }
    j->ops[j->op_count] = op;
    return (int64_t)j->op_count++;
}

static void put_texts(json *j, const char *name, const char *const *text, int most) {
    key(j, name);
    open(j, "[");
    for (int i = 0; i < most && text[i]; i++) put_string(j, text[i]);
    close(j, "]");
}

static void put_op(json *j, const ad_op *op) {
    new_line(j);
    open(j, "{");
    string_member(j, "name", op->name);
    integer_member(j, "results", ad_max_int(op->results, 1));
    string_member(j, "formula", op->formula ? op->formula : "");
    put_texts(j, "result_formulas", op->result_formula, AD_MAX_RESULTS - 1);
    put_texts(j, "adjoints", op->adjoint, 4);
    if (op->convention) string_member(j, "convention", op->convention);
    close(j, "}");
}

static void ops_member(json *j) {
    key(j, "ops");
    open(j, "[");
    for (size_t i = 0; i < j->op_count; i++) put_op(j, j->ops[i]);
    close(j, "]");
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

static void label_member(json *j, int64_t index) {
    ad_put_label(&j->text, j->dump, index);
    if (j->text.failed) ad_dump_fail(j->dump, AD_ERR_OOM);
    if (j->text.length) string_member(j, "label", j->text.data);
    ad_string_clear(&j->text);
}

static void inputs_member(json *j, const ad_node_info *node) {
    key(j, "inputs");
    open(j, "[");
    for (int i = 0; i < node->inputs; i++) put_integer(j, node->input[i]);
    close(j, "]");
}

static void saved_member(json *j, const ad_node_info *node) {
    ad_saved saved;
    bool any = false;
    for (int cursor = 0; ad_dump_saved(j->dump, node->index, &cursor, &saved); any = true) {
        if (!any) {
            key(j, "saved");
            open(j, "[");
        }
        open(j, "{");
        integer_member(j, "node", saved.node);
        integer_member(j, "input", saved.input);
        integer_member(j, "bytes", (int64_t)saved.bytes);
        key(j, "for");
        open(j, "[");
        for (int i = 0; i < 64; i++)
            if (saved.read_for >> i & 1) put_integer(j, i);
        close(j, "]");
        close(j, "}");
    }
    if (any) close(j, "]");
}

/* Terms have values where several meet; one that is alone is the gradient itself. */
static void terms_member(json *j, const ad_node_info *node) {
    int64_t count = ad_dump_term_count(j->dump, node->index);
    ad_contribution term;
    if (count == 0) return;
    integer_member(j, "term_count", count);
    key(j, "terms");
    open(j, "[");
    for (int64_t n = 0; ad_dump_term(j->dump, node->index, n, &term); n++) {
        open(j, "{");
        integer_member(j, "consumer", term.consumer);
        integer_member(j, "input", term.input);
        ad_tensor *value = count > 1 || node->is_seed ? ad_dump_term_value(j->dump, &term) : NULL;
        if (value) {
            key(j, "value");
            put_value(j, ad_tensor_view(value));
        }
        ad_tensor_unref(value);
        close(j, "}");
    }
    close(j, "]");
}

static bool has_jacobian(const json *j, const ad_node_info *node, const ad_node_info *input) {
    int64_t rows = ad_view_count(&node->value), columns = ad_view_count(&input->value);
    return input->needs_gradient && rows > 0 && columns > 0 && rows <= JACOBIAN_MOST &&
           columns <= JACOBIAN_MOST / rows && rows <= j->dump->options.most_elements &&
           columns <= j->dump->options.most_elements / rows;
}

static void jacobians_member(json *j, const ad_node_info *node) {
    const ad_node_info operation = node->result ? ad_dump_node(j->dump, node->input[0]) : *node;
    bool any = false;
    for (int i = 0; i < operation.inputs; i++) {
        ad_node_info input = ad_dump_node(j->dump, operation.input[i]);
        ad_tensor *jacobian = has_jacobian(j, node, &input) ? ad_dump_jacobian(j->dump, node->index, i) : NULL;
        if (!jacobian) continue;
        if (!any) {
            key(j, "jacobians");
            open(j, "[");
        }
        any = true;
        open(j, "{");
        integer_member(j, "input", i);
        key(j, "value");
        put_value(j, ad_tensor_view(jacobian));
        close(j, "}");
        ad_tensor_unref(jacobian);
    }
    if (any) close(j, "]");
}

static void attrs_member(json *j, const ad_node_info *node) {
    char text[256] = "";
    if (!node->op->show_attrs || !node->attrs) return;
    node->op->show_attrs(node->attrs, text, sizeof text);
    string_member(j, "attrs", text);
}

static void pass_members(json *j, const ad_node_info *node) {
    flag_member(j, "wanted", node->wanted);
    flag_member(j, "reached", node->reached);
    flag_member(j, "seed", node->is_seed);
    flag_member(j, "incomplete", node->is_incomplete);
    if (node->has_gradient) {
        key(j, "gradient");
        put_value(j, &node->gradient);
    }
    if (node->reached) terms_member(j, node);
}

static void put_node(json *j, int64_t index) {
    ad_node_info node = ad_dump_node(j->dump, index);
    new_line(j);
    open(j, "{");
    integer_member(j, "index", index);
    string_member(j, "name", node.name);
    label_member(j, index);
    integer_member(j, "op", number_of(j, node.op));
    inputs_member(j, &node);
    if (node.result) integer_member(j, "result", node.result);
    attrs_member(j, &node);
    if (node.scope_number) integer_member(j, "scope", node.scope_number);
    if (node.where) string_member(j, "where", node.where);
    flag_member(j, "leaf", node.is_leaf);
    flag_member(j, "parameter", node.param);
    flag_member(j, "needs_gradient", node.needs_gradient);
    flag_member(j, "view", node.is_view);
    flag_member(j, "changed", node.is_changed);
    key(j, "value");
    put_value(j, &node.value);
    saved_member(j, &node);
    pass_members(j, &node);
    jacobians_member(j, &node);
    close(j, "}");
}

static void nodes_member(json *j) {
    key(j, "nodes");
    open(j, "[");
    for (int w = 0; w < j->dump->windows; w++)
        for (int64_t i = j->dump->window[w].first; i < j->dump->window[w].end && !j->dump->writer.failed; i++)
            put_node(j, i);
    close(j, "]");
}

/* Nodes that are not shown but mentioned, with what is said of them. */
static void outside_member(json *j) {
    key(j, "outside");
    open(j, "[");
    for (size_t i = 0; i < j->dump->name_count; i++) {
        ad_node_info node = ad_dump_node(j->dump, j->dump->names[i].index);
        if (ad_dump_shows(j->dump, node.index)) continue;
        new_line(j);
        open(j, "{");
        integer_member(j, "index", node.index);
        string_member(j, "name", node.name);
        label_member(j, node.index);
        integer_member(j, "op", number_of(j, node.op));
        inputs_member(j, &node);
        if (node.result) integer_member(j, "result", node.result);
        flag_member(j, "needs_gradient", node.needs_gradient);
        flag_member(j, "wanted", node.wanted);
        close(j, "}");
    }
    close(j, "]");
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static void scopes_member(json *j) {
    key(j, "scopes");
    open(j, "[");
    for (int64_t i = 0; i < j->dump->source.scopes && !j->dump->writer.failed; i++) {
        ad_scope_info scope = ad_dump_scope(j->dump, i);
        const ad_totals *totals = &j->dump->totals[i];
        new_line(j);
        open(j, "{");
        string_member(j, "path", scope.path);
        string_member(j, "name", scope.name);
        integer_member(j, "parent", scope.parent);
        integer_member(j, "depth", scope.depth);
        integer_member(j, "nodes", totals->nodes);
        integer_member(j, "inputs", totals->inputs);
        integer_member(j, "constants", totals->constants);
        integer_member(j, "parameters", totals->parameters);
        integer_member(j, "operations", totals->operations);
        integer_member(j, "merges", totals->merges);
        integer_member(j, "saved_bytes", (int64_t)totals->saved_bytes);
        close(j, "}");
    }
    close(j, "]");
}

static void pass_member(json *j) {
    const ad_pass_info *pass = &j->dump->source.pass;
    key(j, "pass");
    open(j, "{");
    integer_member(j, "nodes", pass->nodes);
    integer_member(j, "start", pass->start);
    flag_member(j, "selective", pass->is_selective);
    close(j, "}");
}

static void ranges_member(json *j) {
    key(j, "ranges");
    open(j, "[");
    for (int w = 0; w < j->dump->windows; w++) {
        open(j, "[");
        put_integer(j, j->dump->window[w].first);
        put_integer(j, j->dump->window[w].end);
        close(j, "]");
    }
    close(j, "]");
}

static void put_all(json *j) {
    open(j, "{");
    string_member(j, "format", "adtape");
    integer_member(j, "version", VERSION);
    string_member(j, "status", ad_status_name(j->dump->source.status));
    string_member(j, "error", j->dump->source.error);
    integer_member(j, "size", j->dump->source.size);
    ranges_member(j);
    integer_member(j, "precision", j->dump->options.precision);
    pass_member(j);
    new_line(j);
    scopes_member(j);
    new_line(j);
    nodes_member(j);
    new_line(j);
    outside_member(j);
    new_line(j);
    ops_member(j); /* last, as only now it is known which there are */
    close(j, "}");
    ad_writer_line(&j->dump->writer);
}

void ad_dump_json(ad_dump *dump) {
    json j = {.dump = dump, .text = {.allocator = dump->allocator}};
    put_all(&j);
    ad_release(dump->allocator, j.ops, j.op_room * sizeof *j.ops);
    ad_string_free(&j.text);
}
