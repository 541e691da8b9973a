/* See pieces.h. */
#include "ops/kernels/pieces.h"

enum {
    RUN = 64,  /* elements next to each other that are not cut: whole cache lines, and something to make vectors of */
    EVENLY = 8 /* pieces per thread that are enough */
};

typedef struct cuts {
    int arrays, axis;
    const ad_view *const *views;
    int64_t n, unit, pieces; /* of the axis; the last piece is longer than `unit` if need be */
    ad_pieces_function *f;
    const void *options;
} cuts;

static bool has_axis(const ad_view *view, int axis, int64_t n) {
    return view->data && axis < view->shape.rank && view->shape.dim[axis] == n;
}

static int64_t unit_of(const cuts *c, int axis, int64_t n) {
    for (int k = 0; k < c->arrays; k++)
        if (has_axis(c->views[k], axis, n) && (c->views[k]->stride[axis] == 1 || c->views[k]->stride[axis] == -1))
            return RUN;
    return 1;
}

static int64_t length_of(int64_t stride) { return stride < 0 ? -stride : stride; }

/* How far the elements of a view reach along those axes that step less than `axis`, or as much. */
static int64_t reach_below(const ad_view *view, int axis) {
    int64_t reach = 0;
    for (int i = 0; i < view->shape.rank; i++)
        if (i != axis && view->shape.dim[i] > 1 && length_of(view->stride[i]) <= length_of(view->stride[axis]))
            reach += (view->shape.dim[i] - 1) * length_of(view->stride[i]);
    return reach;
}

/* Whether pieces of the result have no element in common: not so along the axes of windows that overlap. */
static bool is_disjoint(const ad_view *result, int axis) {
    for (int i = 0; i < result->shape.rank; i++)
        if (result->shape.dim[i] > 1 && length_of(result->stride[i]) >= length_of(result->stride[axis]) &&
            length_of(result->stride[i]) <= reach_below(result, i))
            return false;
    return true;
}

/* The first axis that gives enough pieces, or the one that gives most. */
static void choose_axis(cuts *c, unsigned axes, int64_t enough) {
    const ad_view *last = c->views[c->arrays - 1];
    c->pieces = 0;
    for (int i = 0; i < c->views[0]->shape.rank && c->pieces < enough; i++) {
        const int64_t n = c->views[0]->shape.dim[i];
        if (!(axes & 1u << i) || !has_axis(last, i, n) || (last->stride[i] == 0 && n > 1)) continue;
        const int64_t unit = unit_of(c, i, n);
        if (n / unit > c->pieces && is_disjoint(last, i)) {
            c->axis = i;
            c->n = n;
            c->unit = unit;
            c->pieces = n / unit;
        }
    }
}

static void do_pieces(const void *context, int64_t from, int64_t to, int worker) {
    const cuts *c = context;
    const int64_t first = from * c->unit, past = to == c->pieces ? c->n : to * c->unit;
    ad_view piece[AD_PIECES_MOST];
    const ad_view *pieces[AD_PIECES_MOST];
    (void)worker;
    for (int k = 0; k < c->arrays; k++) {
        pieces[k] = c->views[k];
        if (!has_axis(c->views[k], c->axis, c->n)) continue;
        piece[k] = *c->views[k];
        const int64_t step = piece[k].stride[c->axis] * (int64_t)ad_dtype_size(piece[k].dtype);
        piece[k].data = (char *)piece[k].data + first * step;
        piece[k].shape.dim[c->axis] = past - first;
        pieces[k] = &piece[k];
    }
    c->f(pieces, c->options);
}

void ad_in_pieces(int arrays, const ad_view *const *views, unsigned axes, int64_t grain, ad_pieces_function *f,
                  const void *options) {
    cuts c = {.arrays = arrays, .views = views, .f = f, .options = options};
    const int64_t count = ad_view_count(views[0]);
    const int workers = ad_parallel_workers(count, grain);
    if (workers > 1) choose_axis(&c, axes, EVENLY * workers);
    if (workers < 2 || c.pieces < 2) {
        f(views, options);
        return;
    }
    ad_parallel(c.pieces < workers ? (int)c.pieces : workers, c.pieces, count / grain, do_pieces, &c);
}
