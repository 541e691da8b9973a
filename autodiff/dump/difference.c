/* Two tapes beside each other.
 *
 *   pair   a node of the first tape and the one of the second that stands for the same thing, or one that has no partner
 *   gap    |a - b| of two elements */
#include "autodiff/dump/table.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    LOOK_AHEAD = 32
}; /* nodes that one tape may have alone, in one place, before the rest is no longer matched well */

/* How two values differ. */
typedef struct gaps {
    bool differs; /* also: in type, or only one is there */
    bool alike;   /* of one type, and both there: the rest is known */
    int64_t elements, worst_at;
    double worst;
} gaps;

typedef struct pair {
    int64_t first, second; /* -1: there is none */
    gaps value, gradient;
    bool inputs_differ;
} pair;

typedef struct difference {
    ad_dump first, second; /* the writer is that of the second */
    const ad_difference_options *options;
    ad_string name[2];
    pair *pair;
    int64_t count, room;
    int64_t differing;
    int64_t *partner; /* of each shown node of the second tape */
} difference;

/* ---- values ---------------------------------------------------------------------------------------------------- */

static bool same_integer(const ad_view *a, const ad_view *b, int64_t i) {
    return memcmp(ad_view_element(a, i), ad_view_element(b, i), ad_dtype_size(a->dtype)) == 0;
}

/* NaN: not the same, and no distance. */
static double gap_of(const ad_view *a, const ad_view *b, int64_t i) {
    double x = ad_view_get(a, i), y = ad_view_get(b, i);
    if (!ad_dtype_is_float(a->dtype)) return same_integer(a, b, i) ? 0 : fmax(fabs(x - y), 1); /* a double rounds */
    if (x == y || (isnan(x) && isnan(y))) return 0;
    return fabs(x - y);
}

static bool is_tolerated(const difference *d, const ad_view *a, const ad_view *b, int64_t i, double gap) {
    double size = fmax(fabs(ad_view_get(a, i)), fabs(ad_view_get(b, i)));
    return gap == 0 || (isfinite(gap) && gap <= d->options->absolute + d->options->relative * size);
}

static gaps gaps_of(const difference *d, const ad_view *a, const ad_view *b) {
    gaps g = {.alike = a->dtype == b->dtype && ad_shape_equal(&a->shape, &b->shape)};
    g.alike &= (!a->data) == (!b->data);
    g.differs = !g.alike;
    if (!g.alike || !a->data) return g;
    for (int64_t i = 0, n = ad_view_count(a); i < n; i++) {
        double gap = gap_of(a, b, i);
        if (is_tolerated(d, a, b, i, gap)) continue;
        if (g.elements == 0 || gap > g.worst || (isnan(gap) && !isnan(g.worst))) {
            g.worst = gap;
            g.worst_at = i;
        }
        g.elements++;
    }
    g.differs = g.elements > 0;
    return g;
}

static gaps gradient_gaps(const difference *d, const ad_node_info *a, const ad_node_info *b) {
    if (a->has_gradient && b->has_gradient) return gaps_of(d, &a->gradient, &b->gradient);
    return (gaps){.differs = a->has_gradient != b->has_gradient};
}

/* ---- pairs ----------------------------------------------------------------------------------------------------- */

static bool match(const difference *d, int64_t first, int64_t second) {
    ad_node_info a = ad_dump_node(&d->first, first), b = ad_dump_node(&d->second, second);
    return strcmp(a.op->name, b.op->name) == 0 && strcmp(a.name, b.name) == 0 && a.inputs == b.inputs &&
           a.result == b.result;
}

static void add_pair(difference *d, int64_t first, int64_t second) {
    if (d->second.status) return;
    if (d->count == d->room) {
        size_t room = d->room ? (size_t)d->room * 2 : 64;
        pair *grown = ad_allocate(d->second.allocator, room * sizeof *grown, _Alignof(pair));
        if (!grown) {
            ad_dump_fail(&d->second, AD_ERR_OOM);
            return;
        }
        if (d->count) memcpy(grown, d->pair, (size_t)d->count * sizeof *grown);
        ad_release(d->second.allocator, d->pair, (size_t)d->room * sizeof *grown);
        d->pair = grown;
        d->room = (int64_t)room;
    }
    d->pair[d->count++] = (pair){.first = first, .second = second};
    if (first >= 0 && second >= 0) d->partner[second - d->second.options.first] = first;
}

/* How many nodes to pass over on either side, as few as possible, to where the tapes match again. */
static bool find_match(const difference *d, int64_t first, int64_t second, int64_t *skip_first,
                       int64_t *skip_second) {
    for (int64_t skips = 1; skips <= 2 * LOOK_AHEAD; skips++)
        for (int64_t k = 0; k <= skips; k++) {
            if (k > LOOK_AHEAD || skips - k > LOOK_AHEAD || first + k >= d->first.options.end ||
                second + skips - k >= d->second.options.end || !match(d, first + k, second + skips - k))
                continue;
            *skip_first = k;
            *skip_second = skips - k;
            return true;
        }
    return false;
}

static void make_pairs(difference *d) {
    int64_t i = d->first.options.first, j = d->second.options.first;
    const int64_t first_end = d->first.options.end, second_end = d->second.options.end;
    while (i < first_end && j < second_end && !d->second.status) {
        int64_t skip_first = 0, skip_second = 0;
        if (!match(d, i, j) && !find_match(d, i, j, &skip_first, &skip_second)) skip_first = skip_second = 1;
        for (; skip_first > 0; skip_first--) add_pair(d, i++, -1);
        for (; skip_second > 0; skip_second--) add_pair(d, -1, j++);
        if (i < first_end && j < second_end && match(d, i, j)) add_pair(d, i++, j++);
    }
    while (i < first_end && !d->second.status) add_pair(d, i++, -1);
    while (j < second_end && !d->second.status) add_pair(d, -1, j++);
}

/* Nodes outside of the range have no partner and count as the same if they are the same by number. */
static bool inputs_differ(const difference *d, const ad_node_info *a, const ad_node_info *b) {
    for (int i = 0; i < b->inputs; i++) {
        int64_t input = b->input[i], at = input - d->second.options.first;
        if (a->input[i] != (at < 0 ? input : d->partner[at])) return true;
    }
    return false;
}

static bool differs(const pair *p) {
    return p->first < 0 || p->second < 0 || p->value.differs || p->gradient.differs || p->inputs_differ;
}

static void compare(difference *d) {
    for (int64_t i = 0; i < d->count; i++) {
        pair *p = &d->pair[i];
        if (p->first >= 0 && p->second >= 0) {
            ad_node_info a = ad_dump_node(&d->first, p->first), b = ad_dump_node(&d->second, p->second);
            p->value = gaps_of(d, &a.value, &b.value);
            p->gradient = gradient_gaps(d, &a, &b);
            p->inputs_differ = inputs_differ(d, &a, &b);
        }
        d->differing += differs(p);
    }
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

enum { D_NUMBER, D_NODE, D_OP, D_FIRST, D_SIGN, D_SECOND, D_LARGEST, D_COLUMNS };

static const ad_column difference_columns[D_COLUMNS] = {
    [D_NUMBER] = {"#", AD_STYLE_FAINT, .right = true, .drop = 3, .hide = AD_DUMP_HIDE_NUMBERS},
    [D_NODE] = {"node", AD_STYLE_NODE, .shrinks = 2},
    [D_OP] = {"op", AD_STYLE_PLAIN, .drop = 1},
    [D_FIRST] = {"first", AD_STYLE_PLAIN, .shrinks = 2},
    [D_SIGN] = {"", AD_STYLE_ERROR, .tight = true},
    [D_SECOND] = {"second", AD_STYLE_PLAIN, .shrinks = 2},
    [D_LARGEST] = {"difference", AD_STYLE_ERROR, .shrinks = 1},
};

/* "[1,0]" of element number `at`; nothing where there is only one. */
static void put_index(ad_string *string, const ad_shape *shape, int64_t at) {
    int64_t stride = ad_shape_count(shape);
    if (stride <= 1) return;
    for (int axis = 0; axis < shape->rank; axis++) {
        stride /= shape->dim[axis];
        ad_string_print(string, "%s%" PRId64, axis ? "," : " at [", at / stride % shape->dim[axis]);
    }
    ad_string_print(string, "]");
}

static void put_gaps(ad_string *string, const difference *d, const gaps *g, const ad_view *view) {
    int64_t count = ad_view_count(view);
    if (!g->alike) {
        ad_string_print(string, "other type");
        return;
    }
    if (count > 1) ad_string_print(string, "%" PRId64 " of %" PRId64 ", ", g->elements, count);
    if (isnan(g->worst)) {
        ad_string_print(string, "NaN");
    } else {
        ad_string_print(string, "%.*g", d->second.options.precision, g->worst);
    }
    put_index(string, &view->shape, g->worst_at);
}

static void put_one(ad_string *cell, const difference *d, const ad_view *view, const gaps *g,
                    const ad_number_style *style) {
    if (!g->alike) {
        ad_put_type(cell, view);
        ad_string_print(cell, "\n");
    }
    ad_put_value(cell, &d->second, view, style);
}

/* A value on both tapes, or a gradient; where it is the same, one of them is enough. */
static void put_both(ad_table *table, const ad_view *a, const ad_view *b, const gaps *g) {
    const difference *d = table->user;
    ad_string *cell = table->cell;
    ad_number_style style = ad_number_style_of(&d->second, 2, (const ad_view *[]){a, b});
    put_one(&cell[D_FIRST], d, a, g, g->alike ? &style : NULL);
    if (g->differs) {
        ad_string_print(&cell[D_SIGN], d->second.options.ascii ? "!=" : "≠");
        put_one(&cell[D_SECOND], d, b, g, g->alike ? &style : NULL);
        put_gaps(&cell[D_LARGEST], d, g, b);
    } else {
        ad_string_print(&cell[D_SIGN], "=");
        table->style[D_SIGN] = AD_STYLE_FAINT;
    }
    ad_table_row(table);
}

static void node_cells(ad_table *table, const ad_dump *dump, const ad_node_info *node) {
    ad_string_print(&table->cell[D_NUMBER], "%" PRId64, node->index);
    ad_put_label(&table->cell[D_NODE], dump, node->index);
    ad_put_op(&table->cell[D_OP], node);
}

static void gradient_row(ad_table *table, const ad_node_info *a, const ad_node_info *b, const gaps *g) {
    const difference *d = table->user;
    ad_string *cell = table->cell;
    ad_string_clear(&cell[D_NODE]); /* the name is there, if the value is the same */
    ad_put_bar(&cell[D_NODE], &d->second, b->index);
    table->style[D_NODE] = AD_STYLE_GRADIENT;
    if (a->has_gradient && b->has_gradient) {
        put_both(table, &a->gradient, &b->gradient, g);
        return;
    }
    ad_string *has = &cell[a->has_gradient ? D_FIRST : D_SECOND];
    ad_put_value(has, &d->second, a->has_gradient ? &a->gradient : &b->gradient, NULL);
    ad_string_print(&cell[a->has_gradient ? D_SECOND : D_FIRST], "none");
    ad_string_print(&cell[D_SIGN], d->second.options.ascii ? "!=" : "≠");
    ad_table_row(table);
}

static void put_inputs(ad_string *cell, const ad_dump *dump, const ad_node_info *node) {
    ad_string_print(cell, "of ");
    for (int i = 0; i < node->inputs && i < AD_MOST_TERMS; i++) {
        if (i > 0) ad_string_print(cell, ", ");
        ad_put_label(cell, dump, node->input[i]);
    }
}

static void pair_rows(ad_table *table, const pair *p) {
    const difference *d = table->user;
    ad_node_info a = ad_dump_node(&d->first, p->first), b = ad_dump_node(&d->second, p->second);
    node_cells(table, &d->second, &b);
    if (p->value.differs || d->options->all) put_both(table, &a.value, &b.value, &p->value);
    if (p->inputs_differ) {
        put_inputs(&table->cell[D_FIRST], &d->first, &a);
        ad_string_print(&table->cell[D_SIGN], d->second.options.ascii ? "!=" : "≠");
        put_inputs(&table->cell[D_SECOND], &d->second, &b);
        ad_string_print(&table->cell[D_LARGEST], "other inputs");
        ad_table_row(table);
    }
    bool any_gradient = a.has_gradient || b.has_gradient;
    if (p->gradient.differs || (d->options->all && any_gradient)) gradient_row(table, &a, &b, &p->gradient);
}

static void lone_row(ad_table *table, const pair *p) {
    const difference *d = table->user;
    bool is_first = p->second < 0;
    const ad_dump *dump = is_first ? &d->first : &d->second;
    ad_node_info node = ad_dump_node(dump, is_first ? p->first : p->second);
    node_cells(table, dump, &node);
    ad_put_value(&table->cell[is_first ? D_FIRST : D_SECOND], dump, &node.value, NULL);
    ad_string_print(&table->cell[D_LARGEST], "only %s", d->name[is_first ? 0 : 1].data);
    ad_table_row(table);
}

static void difference_rows(ad_table *table) {
    const difference *d = table->user;
    int64_t shown = 0, most = d->second.options.most_nodes, candidates = d->options->all ? d->count : d->differing;
    for (int64_t i = 0; i < d->count && (most < 0 || shown < most) && !d->second.writer.failed; i++) {
        const pair *p = &d->pair[i];
        if (!d->options->all && !differs(p)) continue;
        shown++;
        if (p->first < 0 || p->second < 0) {
            lone_row(table, p);
        } else {
            pair_rows(table, p);
        }
    }
    if (shown < candidates && !d->second.writer.failed)
        ad_table_line(table, AD_STYLE_FAINT, "  and %" PRId64 " more nodes", candidates - shown);
}

static void print_summary(difference *d) {
    ad_string line = {.allocator = d->second.allocator};
    for (int k = 0; k < 2; k++) {
        const ad_dump *dump = k ? &d->second : &d->first;
        ad_string_print(&line, "%s: ", d->name[k].data);
        ad_string_count(&line, dump->source.size, "node");
        ad_string_print(&line, "; ");
    }
    ad_string_print(&line, "%" PRId64 " differ%s", d->differing, d->differing == 1 ? "s" : "");
    if (d->options->absolute > 0 || d->options->relative > 0)
        ad_string_print(&line, " by more than %g + %g |x|", d->options->absolute, d->options->relative);
    if (line.failed) ad_dump_fail(&d->second, AD_ERR_OOM);
    if (line.length) ad_writer_styled(&d->second.writer, AD_STYLE_TITLE, line.data, line.length);
    ad_writer_line(&d->second.writer);
    ad_string_free(&line);
}

static void difference_text(difference *d) {
    ad_column columns[D_COLUMNS];
    memcpy(columns, difference_columns, sizeof columns);
    columns[D_FIRST].title = d->name[0].data;
    columns[D_SECOND].title = d->name[1].data;
    print_summary(d);
    if (d->differing == 0 && !d->options->all) return;
    ad_writer_line(&d->second.writer);
    ad_table_show(&d->second, columns, D_COLUMNS, difference_rows, d);
}

/* ---- page ------------------------------------------------------------------------------------------------------ */

/* "[first,second,value,gradient,inputs]", each of the last three 1 if that differs; only what the page shows. */
static void put_pairs(difference *d) {
    ad_writer *writer = &d->second.writer;
    const char *before = "";
    for (int64_t i = 0; i < d->count && !writer->failed; i++) {
        const pair *p = &d->pair[i];
        if (p->second >= 0 ? !ad_dump_shows(&d->second, p->second) : !ad_dump_shows(&d->first, p->first)) continue;
        ad_writer_print(writer, "%s[%" PRId64 ",%" PRId64 ",%d,%d,%d]", before, p->first, p->second, p->value.differs,
                        p->gradient.differs, p->inputs_differ);
        before = ",";
    }
}

static void difference_page(difference *d) {
    ad_writer *writer = &d->second.writer;
    ad_put_page_head(writer);
    ad_put_page_tape(&d->second, "tape");
    ad_writer_flush(writer);
    d->first.writer = *writer;
    ad_put_page_tape(&d->first, "other");
    *writer = d->first.writer;
    ad_writer_print(writer, "<script type=\"application/json\" id=\"difference\">{\"names\":[");
    for (int k = 0; k < 2; k++) {
        ad_writer_print(writer, k ? "," : "");
        ad_put_json_string(writer, d->name[k].data);
    }
    ad_writer_print(writer, "],\"absolute\":");
    ad_put_json_number(writer, d->options->absolute);
    ad_writer_print(writer, ",\"relative\":");
    ad_put_json_number(writer, d->options->relative);
    ad_writer_print(writer, ",\"pairs\":[");
    put_pairs(d);
    ad_writer_print(writer, "]}</script>");
    ad_writer_line(writer);
    ad_put_page_tail(writer);
}

/* ---- entry points ---------------------------------------------------------------------------------------------- */

static bool is_tolerance(double value) { return isfinite(value) && value >= 0; }

static ad_status check_options(const ad_difference_options *options) {
    bool is_shown = options->dump.format == AD_DUMP_TEXT || options->dump.format == AD_DUMP_HTML;
    return is_shown && is_tolerance(options->absolute) && is_tolerance(options->relative) ? AD_OK : AD_ERR_VALUE;
}

static void show(difference *d) {
    int64_t nodes = d->second.options.end - d->second.options.first;
    size_t bytes = (size_t)nodes * sizeof *d->partner;
    d->partner = bytes ? ad_allocate(d->second.allocator, bytes, _Alignof(int64_t)) : NULL;
    if (bytes && !d->partner) {
        ad_dump_fail(&d->second, AD_ERR_OOM);
        return;
    }
    for (int64_t i = 0; i < nodes; i++) d->partner[i] = -1;
    make_pairs(d);
    compare(d);
    if (d->second.status) {
        /* nothing to show */
    } else if (d->second.options.format == AD_DUMP_HTML) {
        difference_page(d);
    } else {
        difference_text(d);
    }
    ad_release(d->second.allocator, d->partner, bytes);
    ad_release(d->second.allocator, d->pair, (size_t)d->room * sizeof *d->pair);
}

static void take_name(difference *d, int k, const char *name, const char *otherwise) {
    d->name[k] = (ad_string){.allocator = d->second.allocator};
    ad_put_name(&d->name[k], name && *name ? name : otherwise, 30);
    if (d->name[k].failed) ad_dump_fail(&d->second, AD_ERR_OOM);
}

/* Text has rows for what differs only, so both dumps are prepared for all of their nodes. */
static ad_dump_options options_for(const ad_difference_options *options) {
    ad_dump_options own = options->dump;
    if (own.format == AD_DUMP_TEXT) own.most_nodes = -1;
    return own;
}

ad_status ad_dump_source_difference_to(const ad_dump_source *first, const ad_dump_source *second,
                                       const ad_difference_options *options, ad_write *write, void *user,
                                       int64_t *count) {
    static const ad_difference_options none;
    if (!first || !second || !write) return AD_ERR_NULL;
    if (!options) options = &none;
    difference d = {.options = options};
    ad_dump_options own = options_for(options);
    ad_status status = check_options(options);
    if (!status) status = ad_dump_open(&d.first, first, &own);
    if (status) return status;
    status = ad_dump_open(&d.second, second, &own);
    if (!status) {
        if (options->dump.format == AD_DUMP_TEXT)
            d.second.options.most_nodes = options->dump.most_nodes ? options->dump.most_nodes : 60;
        d.second.writer.write = write;
        d.second.writer.user = user;
        ad_dump_fail(&d.second, d.first.status);
        take_name(&d, 0, options->first_name, "first");
        take_name(&d, 1, options->second_name, "second");
        if (!d.second.status) show(&d);
        for (int k = 0; k < 2; k++) ad_string_free(&d.name[k]);
        status = ad_dump_close(&d.second);
    }
    d.first.writer.used = 0; /* what it wrote went through the other */
    ad_status first_status = ad_dump_close(&d.first);
    if (!status) status = first_status;
    if (!status && count) *count = d.differing;
    return status;
}

ad_status ad_dump_source_difference(const ad_dump_source *first, const ad_dump_source *second,
                                    const ad_difference_options *options, FILE *stream, int64_t *count) {
    if (!first || !second || !stream) return AD_ERR_NULL;
    ad_difference_options own = {.dump = {.format = AD_DUMP_TEXT}};
    if (options) own = *options;
    ad_dump_options_of_stream(&own.dump, stream);
    ad_status status = ad_dump_source_difference_to(first, second, &own, ad_write_to_stream, stream, count);
    if (fflush(stream) && !status) status = AD_ERR_IO;
    return status;
}

/* Two tapes as sources. */
typedef struct tape_pair {
    ad_tape_source opened[2];
    ad_dump_source source[2];
} tape_pair;

static void open_pair(tape_pair *tapes, ad_tape *first, ad_tape *second) {
    tapes->source[0] = ad_tape_source_open(&tapes->opened[0], first);
    tapes->source[1] = ad_tape_source_open(&tapes->opened[1], second);
}

static void close_pair(tape_pair *tapes) {
    for (int k = 0; k < 2; k++) ad_tape_source_close(&tapes->opened[k]);
}

ad_status ad_tape_difference_to(ad_tape *first, ad_tape *second, const ad_difference_options *options,
                                ad_write *write, void *user, int64_t *count) {
    if (!first || !second || !write) return AD_ERR_NULL;
    tape_pair tapes;
    open_pair(&tapes, first, second);
    ad_status status = ad_dump_source_difference_to(&tapes.source[0], &tapes.source[1], options, write, user, count);
    close_pair(&tapes);
    return status;
}

ad_status ad_tape_difference(ad_tape *first, ad_tape *second, const ad_difference_options *options, FILE *stream,
                             int64_t *count) {
    if (!first || !second || !stream) return AD_ERR_NULL;
    tape_pair tapes;
    open_pair(&tapes, first, second);
    ad_status status = ad_dump_source_difference(&tapes.source[0], &tapes.source[1], options, stream, count);
    close_pair(&tapes);
    return status;
}
