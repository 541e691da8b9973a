/* The text dump: the evaluation trace, forward and reverse (Griewank and Walther 2008, ch. 2 and 3). */
#include "autodiff/dump/table.h"

#include <inttypes.h>
#include <string.h>

/* ---- both halves ----------------------------------------------------------------------------------------------- */

static void put_number(ad_string *string, int64_t number) { ad_string_print(string, "%" PRId64, number); }

static ad_style style_of(const ad_node_info *node) {
    if (node->param) return AD_STYLE_PARAMETER;
    if (!node->is_leaf) return AD_STYLE_NODE;
    return node->needs_gradient ? AD_STYLE_INPUT : AD_STYLE_FAINT;
}

static void elided_line(ad_table *table) {
    ad_table_line(table, AD_STYLE_FAINT, "  %s %" PRId64 " more nodes (%" PRId64 " to %" PRId64 ") %s",
                  table->dump->options.ascii ? "..." : "⋮", table->dump->elided, table->dump->window[0].end,
                  table->dump->window[1].first - 1, table->dump->options.ascii ? "..." : "⋮");
}

/* A line above the first node of each scope, if there are any. */
static void scope_line(ad_table *table, const ad_node_info *node, int64_t *scope) {
    if (node->scope_number == *scope || table->dump->source.scopes == 1) return;
    *scope = node->scope_number;
    if (table->measuring) return;
    ad_string path = {.allocator = table->dump->allocator};
    int width = table->dump->options.width;
    ad_put_name(&path, *scope ? node->scope : "top level", width > 12 && width < 100 ? width - 2 : 100);
    ad_table_line(table, AD_STYLE_TITLE, "  %s", path.length ? path.data : "");
    if (path.failed) ad_dump_fail(table->dump, AD_ERR_OOM);
    ad_string_free(&path);
}

/* ---- forward --------------------------------------------------------------------------------------------------- */

enum { F_NUMBER, F_NODE, F_OP, F_INPUTS, F_FORMULA, F_TYPE, F_VALUE, F_SAVED, F_PLACE, F_COLUMNS };

static const ad_column forward_columns[F_COLUMNS] = {
    [F_NUMBER] = {"#", AD_STYLE_FAINT, .right = true, .drop = 3, .hide = AD_DUMP_HIDE_NUMBERS},
    [F_NODE] = {"node", AD_STYLE_NODE, .shrinks = 2},
    [F_OP] = {"op", AD_STYLE_PLAIN, .shrinks = 2},
    [F_INPUTS] = {"inputs", AD_STYLE_PLAIN, .drop = 1, .hide = AD_DUMP_HIDE_INPUTS},
    [F_FORMULA] = {"formula", AD_STYLE_PLAIN, .shrinks = 1, .hide = AD_DUMP_HIDE_FORMULAS},
    [F_TYPE] = {"type", AD_STYLE_FAINT, .drop = 4, .hide = AD_DUMP_HIDE_TYPES},
    [F_VALUE] = {"value", AD_STYLE_PLAIN, .verbatim = true, .shrinks = 2, .hide = AD_DUMP_HIDE_VALUES},
    [F_SAVED] = {"saved", AD_STYLE_SAVED, .shrinks = 1, .hide = AD_DUMP_HIDE_SAVED},
    [F_PLACE] = {"at", AD_STYLE_FAINT, .drop = 2, .hide = AD_DUMP_HIDE_PLACES},
};

static void put_inputs(ad_string *cell, const ad_dump *dump, const ad_node_info *node) {
    for (int i = 0; i < node->inputs && i < AD_MOST_TERMS; i++) {
        if (i > 0) ad_string_print(cell, ", ");
        ad_put_label(cell, dump, node->input[i]);
    }
    if (node->inputs > AD_MOST_TERMS) ad_string_print(cell, ", and %d more", node->inputs - AD_MOST_TERMS);
}

static void put_all_saved(ad_string *cell, const ad_dump *dump, const ad_node_info *node) {
    ad_saved saved;
    int shown = 0;
    for (int cursor = 0; ad_dump_saved(dump, node->index, &cursor, &saved); shown++) {
        if (shown == AD_MOST_TERMS) {
            ad_string_print(cell, "\nand more");
            return;
        }
        if (shown > 0) ad_string_print(cell, "\n");
        ad_put_saved(cell, dump, node, &saved);
    }
}

static void forward_row(ad_table *table, int64_t index) {
    const ad_dump *dump = table->dump;
    ad_node_info node = ad_dump_node(dump, index);
    ad_string *cell = table->cell;
    put_number(&cell[F_NUMBER], index);
    ad_put_label(&cell[F_NODE], dump, index);
    table->style[F_NODE] = style_of(&node);
    ad_put_op(&cell[F_OP], &node);
    if (node.result == 0) put_inputs(&cell[F_INPUTS], dump, &node);
    ad_put_node_formula(&cell[F_FORMULA], dump, &node);
    ad_put_type(&cell[F_TYPE], &node.value);
    if (node.is_view) ad_string_print(&cell[F_TYPE], " view");
    ad_put_value(&cell[F_VALUE], dump, &node.value, NULL);
    if (node.is_changed) ad_string_print(&cell[F_VALUE], "\n(changed since it was put on the tape)");
    put_all_saved(&cell[F_SAVED], dump, &node);
    ad_put_place(&cell[F_PLACE], node.where);
    ad_table_row(table);
}

static void forward_rows(ad_table *table) {
    ad_dump *dump = table->dump;
    int64_t scope = 0;
    for (int w = 0; w < dump->windows; w++) {
        if (w > 0) {
            elided_line(table);
            scope = -1;
        }
        for (int64_t i = dump->window[w].first; i < dump->window[w].end && !dump->writer.failed; i++) {
            ad_node_info node = ad_dump_node(dump, i);
            scope_line(table, &node, &scope);
            forward_row(table, i);
        }
    }
}

/* ---- reverse --------------------------------------------------------------------------------------------------- */

enum { R_NUMBER, R_NODE, R_OP, R_SIGN, R_GRADIENT, R_FROM, R_PASSES_ON, R_COLUMNS };

static const ad_column reverse_columns[R_COLUMNS] = {
    [R_NUMBER] = {"#", AD_STYLE_FAINT, .right = true, .drop = 3, .hide = AD_DUMP_HIDE_NUMBERS},
    [R_NODE] = {"node", AD_STYLE_GRADIENT, .shrinks = 2},
    [R_OP] = {"op", AD_STYLE_PLAIN, .drop = 4},
    [R_SIGN] = {"", AD_STYLE_MERGE, .tight = true},
    [R_GRADIENT] = {"gradient", AD_STYLE_PLAIN, .verbatim = true, .shrinks = 2, .hide = AD_DUMP_HIDE_VALUES},
    [R_FROM] = {"from", AD_STYLE_PLAIN, .shrinks = 1},
    [R_PASSES_ON] = {"passes on", AD_STYLE_PLAIN, .shrinks = 1, .hide = AD_DUMP_HIDE_FORMULAS},
};

static void put_adjoints(ad_string *cell, const ad_dump *dump, const ad_node_info *node) {
    int shown = 0, written_for;
    for (int i = 0; i < node->inputs && node->result == 0; i++) {
        if (!ad_dump_node(dump, node->input[i]).wanted || !*ad_op_adjoint(node->op, i, &written_for)) continue;
        if (shown == AD_MOST_TERMS) {
            ad_string_print(cell, "\nand more");
            return;
        }
        ad_string_print(cell, "%s", shown++ ? "\n" : "");
        ad_put_adjoint(cell, dump, node, i);
    }
}

static void put_gradient(ad_string *cell, const ad_dump *dump, const ad_node_info *node,
                         const ad_number_style *style) {
    if (node->has_gradient) {
        ad_put_value(cell, dump, &node->gradient, style);
    } else {
        ad_string_print(cell, "(given back)");
    }
    if (node->is_incomplete) ad_string_print(cell, "\n(incomplete)");
}

/* "v6 (add)" */
static void put_consumer(ad_string *cell, const ad_dump *dump, int64_t index) {
    ad_node_info consumer = ad_dump_node(dump, index);
    ad_put_label(cell, dump, index);
    ad_string_print(cell, " (");
    ad_put_op(cell, &consumer);
    ad_string_print(cell, ")");
}

/* The terms of a merge, recomputed. */
typedef struct merge {
    int64_t count; /* of all terms */
    int terms;     /* those shown */
    ad_contribution term[AD_MOST_TERMS];
    ad_tensor *value[AD_MOST_TERMS]; /* NULL: given back */
    ad_number_style style;
} merge;

static void open_merge(ad_dump *dump, const ad_node_info *node, merge *m) {
    const ad_view *views[AD_MOST_TERMS + 1];
    int count = 0;
    m->count = ad_dump_term_count(dump, node->index);
    for (m->terms = 0; ad_dump_term(dump, node->index, m->terms, &m->term[m->terms]); m->terms++) {
        m->value[m->terms] = ad_dump_term_value(dump, &m->term[m->terms]);
        if (m->value[m->terms]) views[count++] = ad_tensor_view(m->value[m->terms]);
    }
    if (node->has_gradient) views[count++] = &node->gradient;
    m->style = ad_number_style_of(dump, count, views);
}

static void close_merge(merge *m) {
    for (int n = 0; n < m->terms; n++) ad_tensor_unref(m->value[n]);
}

/* One row for each term, and one for their sum. */
static void merge_rows(ad_table *table, const ad_node_info *node) {
    ad_dump *dump = table->dump;
    ad_string *cell = table->cell;
    merge m;
    open_merge(dump, node, &m);
    for (int n = 0; n < m.terms; n++) {
        if (n > 0) ad_string_print(&cell[R_SIGN], "+");
        if (m.value[n]) {
            ad_put_value(&cell[R_GRADIENT], dump, ad_tensor_view(m.value[n]), &m.style);
        } else {
            ad_string_print(&cell[R_GRADIENT], "(given back)");
        }
        put_consumer(&cell[R_FROM], dump, m.term[n].consumer);
        ad_table_row(table);
    }
    if (m.count > m.terms) {
        ad_string_print(&cell[R_SIGN], "+");
        ad_string_print(&cell[R_GRADIENT], "%" PRId64 " more", m.count - m.terms);
        ad_table_row(table);
    }
    ad_string_print(&cell[R_SIGN], "=");
    put_gradient(&cell[R_GRADIENT], dump, node, &m.style);
    ad_string_print(&cell[R_FROM], "merge of %" PRId64, m.count);
    table->style[R_GRADIENT] = table->style[R_FROM] = AD_STYLE_MERGE;
    put_adjoints(&cell[R_PASSES_ON], dump, node);
    ad_table_row(table);
    close_merge(&m);
}

static void put_start(ad_string *string, const ad_dump *dump) {
    if (dump->source.pass.start >= 0) {
        ad_put_label(string, dump, dump->source.pass.start);
    } else {
        ad_string_print(string, "a node since rewound");
    }
}

static void reverse_row(ad_table *table, const ad_node_info *node) {
    const ad_dump *dump = table->dump;
    ad_string *cell = table->cell;
    put_number(&cell[R_NUMBER], node->index);
    ad_put_bar(&cell[R_NODE], dump, node->index);
    ad_put_op(&cell[R_OP], node);
    int64_t terms = ad_dump_term_count(dump, node->index);
    if (terms > 1) {
        merge_rows(table, node);
        return;
    }
    ad_contribution term;
    if (!node->reached) {
        ad_string_print(&cell[R_GRADIENT], "0");
        put_start(&cell[R_FROM], dump);
        ad_string_print(&cell[R_FROM], " does not depend on it");
    } else {
        put_gradient(&cell[R_GRADIENT], dump, node, NULL);
        if (node->is_seed) ad_string_print(&cell[R_FROM], "seed");
        if (ad_dump_term(dump, node->index, 0, &term)) put_consumer(&cell[R_FROM], dump, term.consumer);
        put_adjoints(&cell[R_PASSES_ON], dump, node);
    }
    ad_table_row(table);
}

static void reverse_rows(ad_table *table) {
    ad_dump *dump = table->dump;
    int64_t scope = -1;
    for (int w = dump->windows - 1; w >= 0; w--) {
        for (int64_t i = dump->window[w].end - 1; i >= dump->window[w].first && !dump->writer.failed; i--) {
            ad_node_info node = ad_dump_node(dump, i);
            /* Zero gradients of leaves are told; intermediate nodes without one would only be noise. */
            if (!node.reached && !(node.is_leaf && node.wanted)) continue;
            scope_line(table, &node, &scope);
            reverse_row(table, &node);
        }
        if (w > 0) {
            elided_line(table);
            scope = -1;
        }
    }
}

/* ---- scopes ---------------------------------------------------------------------------------------------------- */

enum { S_SCOPE, S_NODES, S_OPERATIONS, S_SAVED, S_MERGES, S_COLUMNS };

static const ad_column scope_columns[S_COLUMNS] = {
    [S_SCOPE] = {"scope", AD_STYLE_NODE, .shrinks = 1},
    [S_NODES] = {"nodes", AD_STYLE_PLAIN, .right = true},
    [S_OPERATIONS] = {"operations", AD_STYLE_PLAIN, .right = true},
    [S_SAVED] = {"saved", AD_STYLE_SAVED, .right = true},
    [S_MERGES] = {"merges", AD_STYLE_MERGE, .right = true},
};

static void scope_row(ad_table *table, int64_t number) {
    const ad_totals *totals = &table->dump->totals[number];
    ad_string *cell = table->cell;
    ad_scope_info scope = ad_dump_scope(table->dump, number);
    for (int i = 1; i < scope.depth && i <= 16; i++) ad_string_print(&cell[S_SCOPE], "  ");
    ad_put_name(&cell[S_SCOPE], scope.name, 60);
    put_number(&cell[S_NODES], totals->nodes);
    put_number(&cell[S_OPERATIONS], totals->operations);
    ad_string_bytes(&cell[S_SAVED], totals->saved_bytes);
    put_number(&cell[S_MERGES], totals->merges);
    ad_table_row(table);
}

static void scope_rows(ad_table *table) {
    const ad_dump *dump = table->dump;
    int64_t most = dump->options.most_nodes, last = dump->source.scopes;
    if (most >= 0 && last > most + 1) last = most + 1;
    for (int64_t i = 1; i < last && !dump->writer.failed; i++) scope_row(table, i);
    if (last < dump->source.scopes)
        ad_table_line(table, AD_STYLE_FAINT, "  and %" PRId64 " more", dump->source.scopes - last);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static void print_line(ad_dump *dump, ad_string *string, ad_style style) {
    const char *at = string->length ? string->data : "", *end = at + string->length, *line;
    size_t length;
    if (string->failed) ad_dump_fail(dump, AD_ERR_OOM);
    if (ad_is_markdown(dump)) {
        ad_markdown_line(&dump->writer, at, string->length, style == AD_STYLE_TITLE);
        ad_string_clear(string);
        return;
    }
    while (ad_next_line(&at, end, dump->options.width, &line, &length)) {
        ad_writer_styled(&dump->writer, style, line, length);
        ad_writer_line(&dump->writer);
    }
    ad_string_clear(string);
}

static void print_summary(ad_dump *dump, ad_string *line) {
    const ad_totals *totals = &dump->totals[0];
    const struct {
        int64_t count;
        const char *what;
    } kinds[] = {{totals->inputs, "input"},
                 {totals->parameters, "parameter"},
                 {totals->constants, "constant"},
                 {totals->operations, "operation"}};
    const char *before = " (";
    ad_string_print(line, "tape: ");
    ad_string_count(line, totals->nodes, "node");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].count == 0) continue;
        ad_string_print(line, "%s", before);
        ad_string_count(line, kinds[i].count, kinds[i].what);
        before = ", ";
    }
    if (totals->nodes > 0) {
        ad_string_print(line, "); ");
        ad_string_bytes(line, totals->saved_bytes);
        ad_string_print(line, " saved");
    }
    if (dump->source.pass.nodes > 0) {
        ad_string_print(line, "; ");
        ad_string_count(line, totals->merges, "merge");
    }
    print_line(dump, line, AD_STYLE_TITLE);
    if (!dump->source.status) return;
    if (ad_is_markdown(dump)) ad_writer_line(&dump->writer);
    ad_string_print(line, "error: ");
    ad_put_name(line, dump->source.error, 2000);
    print_line(dump, line, AD_STYLE_ERROR);
}

static void print_title(ad_dump *dump, ad_string *title) {
    ad_writer_line(&dump->writer);
    print_line(dump, title, AD_STYLE_TITLE);
    if (ad_is_markdown(dump)) ad_writer_line(&dump->writer);
}

static void print_reverse(ad_dump *dump, ad_string *line) {
    if (dump->source.pass.nodes == 0) {
        ad_string_print(line, "backward: there was no pass yet");
        print_title(dump, line);
        return;
    }
    ad_string_print(line, "backward: %s is the derivative of ", dump->options.ascii ? "~x" : "x\u0304");
    put_start(line, dump);
    ad_string_print(line, " with respect to x%s%s", dump->source.pass.is_selective ? "; only what was asked for" : "",
                    dump->source.status ? "; perhaps incomplete, as the tape is in error" : "");
    print_title(dump, line);
    ad_table_show(dump, reverse_columns, R_COLUMNS, reverse_rows, NULL);
}

void ad_dump_text(ad_dump *dump) {
    ad_string line = {.allocator = dump->allocator};
    print_summary(dump, &line);
    if (dump->options.end > dump->options.first) {
        ad_string_print(&line, "forward: each value from those above it");
        print_title(dump, &line);
        ad_table_show(dump, forward_columns, F_COLUMNS, forward_rows, NULL);
        print_reverse(dump, &line);
    }
    if (dump->source.scopes > 1) {
        ad_string_print(&line, "scopes, each with those inside it");
        print_title(dump, &line);
        ad_table_show(dump, scope_columns, S_COLUMNS, scope_rows, NULL);
    }
    ad_string_free(&line);
}
