/* The dump for Graphviz: values flow down along the solid edges, gradients up along the dashed ones, and where
 * several arrive they meet in a circle. Green is what is saved for backward. */
#include "autodiff/dump/dump.h"

#include <inttypes.h>
#include <string.h>

#define GRADIENT "#b3261e"
#define SAVED    "#1b7a3d"
#define FAINT    "#6b6b6b"

typedef struct dot {
    ad_dump *dump;
    ad_string text;
    int64_t scope; /* whose cluster is open */
    int depth;
} dot;

static void print(dot *d, const char *format, ...) AD_PRINTF(2, 3);
static void print(dot *d, const char *format, ...) {
    char text[512];
    size_t length = 0;
    va_list args;
    va_start(args, format);
    text[0] = '\0';
    ad_text_add_v(text, sizeof text, &length, format, args);
    va_end(args);
    for (const char *at = text; *at;) {
        size_t line = strcspn(at, "\n");
        ad_writer_put(&d->dump->writer, at, line);
        if (at[line]) ad_writer_line(&d->dump->writer);
        at += line + (at[line] != '\0');
    }
}

/* Takes d->text into an HTML-like label; its lines end at the left. */
static void put_text(dot *d) {
    ad_writer *writer = &d->dump->writer;
    if (d->text.failed) ad_dump_fail(d->dump, AD_ERR_OOM);
    for (size_t i = 0; i < d->text.length; i++) {
        const char *c = &d->text.data[i], *written = NULL;
        if (*c == '&') written = "&amp;";
        if (*c == '<') written = "&lt;";
        if (*c == '>') written = "&gt;";
        if (*c == '"') written = "&quot;";
        if (*c == '\\') written = "&#92;"; /* Graphviz puts the node's name for \N, even here */
        if (*c == ' ') written = "&#160;"; /* Graphviz drops blanks at the start of a line */
        if (*c == '\n') written = "<br align=\"left\"/>";
        ad_writer_put(writer, written ? written : c, written ? strlen(written) : 1);
    }
    ad_string_clear(&d->text);
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

/* Takes d->text as a row of a node's label. */
static void put_row(dot *d, const char *font) {
    if (d->text.length == 0) return;
    print(d, "<tr><td align=\"left\" balign=\"left\"><font %s>", font);
    put_text(d);
    print(d, "</font></td></tr>");
}

static void gradient_row(dot *d, const ad_node_info *node) {
    if (!node->reached) return;
    ad_put_bar(&d->text, d->dump, node->index);
    ad_string_print(&d->text, node->is_seed ? " (seed)" : "");
    put_row(d, "color=\"" GRADIENT "\"");
    if (node->has_gradient) {
        ad_put_value(&d->text, d->dump, &node->gradient, NULL);
    } else {
        ad_string_print(&d->text, "(given back)");
    }
    put_row(d, "color=\"" GRADIENT "\" face=\"monospace\"");
}

static void saved_rows(dot *d, const ad_node_info *node) {
    ad_saved saved;
    for (int cursor = 0; ad_dump_saved(d->dump, node->index, &cursor, &saved);) {
        ad_string_print(&d->text, "saves ");
        ad_put_saved(&d->text, d->dump, node, &saved);
        put_row(d, "color=\"" SAVED "\"");
    }
}

/* Whether the operation that made this node keeps it. */
static bool is_saved_result(const dot *d, const ad_node_info *node) {
    ad_saved saved;
    int64_t first = node->result ? node->input[0] : node->index;
    for (int cursor = 0; ad_dump_saved(d->dump, first, &cursor, &saved);)
        if (saved.input < 0 && saved.node == node->index) return true;
    return false;
}

static const char *look_of(const ad_node_info *node) {
    if (node->param) return "style=\"filled,rounded\" fillcolor=\"#d8f0ea\" color=\"#1f7a66\"";
    if (!node->is_leaf) return "style=filled fillcolor=\"#ffffff\"";
    return node->needs_gradient ? "style=\"filled,rounded\" fillcolor=\"#dde9fb\" color=\"#2f5f9e\""
                                : "style=\"filled,rounded,dashed\" fillcolor=\"#f2f2f2\" color=\"" FAINT "\"";
}

static void put_node(dot *d, const ad_node_info *node) {
    print(d, "n%" PRId64 " [%s%s label=<<table border=\"0\" cellborder=\"0\" cellspacing=\"0\" cellpadding=\"1\">",
          node->index, look_of(node),
          is_saved_result(d, node) ? " color=\"" SAVED "\" penwidth=2 peripheries=2" : "");
    print(d, "<tr><td align=\"left\"><b>");
    ad_put_label(&d->text, d->dump, node->index);
    put_text(d);
    print(d, "</b> &#160;<font color=\"" FAINT "\">");
    ad_put_op(&d->text, node);
    ad_string_print(&d->text, "  ");
    ad_put_type(&d->text, &node->value);
    put_text(d);
    print(d, "</font></td></tr>");
    ad_put_node_formula(&d->text, d->dump, node);
    put_row(d, "color=\"black\"");
    ad_put_value(&d->text, d->dump, &node->value, NULL);
    put_row(d, "face=\"monospace\"");
    saved_rows(d, node);
    gradient_row(d, node);
    print(d, "</table>>];\n");
    if (ad_dump_term_count(d->dump, node->index) > 1)
        print(d,
              "m%" PRId64 " [shape=circle style=filled fillcolor=\"#fbe4e2\" color=\"" GRADIENT
              "\" fontcolor=\"" GRADIENT "\" margin=0 width=0.3 label=\"+\"];\n",
              node->index);
}

/* ---- clusters -------------------------------------------------------------------------------------------------- */

static void close_clusters(dot *d) {
    for (; d->depth > 0; d->depth--) print(d, "}\n");
    d->scope = 0;
}

static void open_cluster(dot *d, int64_t number, const ad_scope_info *scope) {
    print(d, "subgraph cluster_%" PRId64 " { style=rounded; color=\"#b0b0b0\"; fontcolor=\"" FAINT "\"; label=<",
          number);
    ad_put_name(&d->text, scope->name, 60);
    put_text(d);
    print(d, ">;\n");
    d->depth++;
}

/* Opens the clusters of a scope, the outermost first. Graphviz takes a cluster that comes again for the same one. */
static void enter_scope(dot *d, int64_t number) {
    enum { most_depth = 16 };
    int64_t chain[most_depth + 1];
    if (number == d->scope) return;
    close_clusters(d);
    d->scope = number;
    int depth = 0;
    ad_scope_info scope = ad_dump_scope(d->dump, number);
    for (; scope.depth > 0; scope = ad_dump_scope(d->dump, number = scope.parent)) {
        if (scope.depth > most_depth) continue;
        depth = ad_max_int(depth, scope.depth);
        chain[scope.depth] = number;
    }
    for (int k = 1; k <= depth; k++) {
        scope = ad_dump_scope(d->dump, chain[k]);
        open_cluster(d, chain[k], &scope);
    }
}

/* ---- edges ----------------------------------------------------------------------------------------------------- */

/* The name of a node in the graph. */
static void print_end(dot *d, int64_t index) {
    if (ad_dump_shows(d->dump, index)) {
        print(d, "n%" PRId64, index);
    } else {
        print(d, "hidden");
    }
}

static bool is_saved_input(const dot *d, const ad_node_info *node, int i) {
    ad_saved saved;
    for (int cursor = 0; ad_dump_saved(d->dump, node->index, &cursor, &saved);)
        if (saved.node == node->input[i]) return true;
    return false;
}

static void forward_edges(dot *d, const ad_node_info *node) {
    if (node->result > 0) {
        print_end(d, node->input[0]);
        print(d, " -> n%" PRId64 " [style=dotted arrowhead=none];\n", node->index);
        return;
    }
    bool from_hidden = false;
    for (int i = 0; i < node->inputs; i++) {
        bool shown = ad_dump_shows(d->dump, node->input[i]);
        if (!shown && from_hidden) continue;
        from_hidden |= !shown;
        print_end(d, node->input[i]);
        print(d, " -> n%" PRId64 "%s;\n", node->index,
              is_saved_input(d, node, i) ? " [color=\"" SAVED "\" penwidth=2]" : "");
    }
}

/* One contribution, against the direction of the graph so that it does not turn the picture over. */
static void gradient_edge(dot *d, const ad_node_info *node, const ad_contribution *term, bool merges) {
    ad_node_info consumer = ad_dump_node(d->dump, term->consumer);
    print(d, "%c%" PRId64 " -> ", merges ? 'm' : 'n', node->index);
    print_end(d, term->consumer);
    print(d, " [dir=back style=dashed color=\"" GRADIENT "\" fontcolor=\"" GRADIENT "\" label=<");
    ad_string_print(&d->text, "  "); /* off the line */
    ad_put_adjoint(&d->text, d->dump, &consumer, term->input);
    put_text(d);
    ad_tensor *value = merges ? ad_dump_term_value(d->dump, term) : NULL;
    if (value) {
        ad_string_print(&d->text, "  ");
        ad_put_value(&d->text, d->dump, ad_tensor_view(value), NULL);
        print(d, "<br align=\"left\"/><font face=\"monospace\">");
        put_text(d);
        print(d, "</font>");
    }
    ad_tensor_unref(value);
    print(d, "<br align=\"left\"/>>];\n");
}

static void gradient_edges(dot *d, const ad_node_info *node) {
    int64_t count = ad_dump_term_count(d->dump, node->index), n = 0;
    ad_contribution term;
    for (; ad_dump_term(d->dump, node->index, n, &term); n++) gradient_edge(d, node, &term, count > 1);
    if (count > 1)
        print(d, "n%" PRId64 " -> m%" PRId64 " [dir=back style=dashed color=\"" GRADIENT "\" penwidth=2];\n",
              node->index, node->index);
    if (count > n)
        print(d,
              "more%" PRId64 " [shape=plaintext fontcolor=\"" GRADIENT "\" label=\"%" PRId64 " more\"]; m%" PRId64
              " -> more%" PRId64 " [dir=back style=dashed color=\"" GRADIENT "\"];\n",
              node->index, count - n, node->index, node->index);
}

/* ---- the graph ------------------------------------------------------------------------------------------------- */

static void put_title(dot *d) {
    const ad_totals *totals = &d->dump->totals[0];
    ad_string_count(&d->text, totals->nodes, "node");
    ad_string_print(&d->text, ", ");
    ad_string_count(&d->text, totals->operations, "operation");
    print(d, "label=<");
    put_text(d);
    print(d, "<font color=\"" SAVED "\">, ");
    ad_string_bytes(&d->text, totals->saved_bytes);
    ad_string_print(&d->text, " saved for backward");
    put_text(d);
    print(d, "</font>");
    if (d->dump->source.pass.nodes > 0) {
        print(d, "<font color=\"" GRADIENT "\">, ");
        ad_string_count(&d->text, totals->merges, "merge");
        ad_string_print(&d->text, " of gradients");
        put_text(d);
        print(d, "</font>");
    }
    if (d->dump->source.status) {
        print(d, "<br align=\"left\"/>");
        ad_put_name(&d->text, d->dump->source.error, 1000);
        put_text(d);
    }
    print(d, "<br align=\"left\"/>>; labelloc=t; labeljust=l;\n");
}

static void put_hidden(dot *d) {
    const ad_window *head = &d->dump->window[0], *tail = &d->dump->window[1];
    print(d, "hidden [shape=plaintext fontcolor=\"" FAINT "\" label=\"%" PRId64 " more nodes\"];\n", d->dump->elided);
    if (head->end > head->first) print(d, "n%" PRId64 " -> hidden [style=invis];\n", head->end - 1);
    if (tail->end > tail->first) print(d, "hidden -> n%" PRId64 " [style=invis];\n", tail->first);
}

static void each_node(dot *d, void (*call)(dot *d, const ad_node_info *node)) {
    for (int w = 0; w < d->dump->windows; w++)
        for (int64_t i = d->dump->window[w].first; i < d->dump->window[w].end && !d->dump->writer.failed; i++) {
            ad_node_info node = ad_dump_node(d->dump, i);
            call(d, &node);
        }
}

static void put_node_in_cluster(dot *d, const ad_node_info *node) {
    enter_scope(d, node->scope_number);
    put_node(d, node);
}

void ad_dump_dot(ad_dump *dump) {
    dot d = {.dump = dump, .text = {.allocator = dump->allocator}};
    print(&d, "digraph tape {\n");
    put_title(&d);
    print(&d, "fontname=\"sans-serif\"; fontsize=12; nodesep=0.4; ranksep=0.45;\n");
    print(&d, "node [shape=box fontname=\"sans-serif\" fontsize=11 color=\"#333333\" margin=\"0.08,0.05\"];\n");
    print(&d, "edge [fontname=\"sans-serif\" fontsize=9 color=\"#333333\" arrowsize=0.7];\n");
    each_node(&d, put_node_in_cluster);
    close_clusters(&d);
    if (dump->elided) put_hidden(&d);
    each_node(&d, forward_edges);
    each_node(&d, gradient_edges);
    print(&d, "}\n");
    ad_string_free(&d.text);
}
