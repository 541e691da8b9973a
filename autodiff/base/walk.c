/* The loop over strided memory. */
#include "autodiff/base/base.h"

/* Puts axis i of the views behind the others: `n` steps, which may go on where those of the axis before end. */
static void add_axis(ad_walk *w, const ad_view *const *views, int i, int64_t n) {
    const int outer = w->rank - 1;
    int64_t *const before = outer < 0 ? &w->n : &w->dim[outer];
    bool merge = true;
    for (int k = 0; k < w->arrays && merge; k++)
        merge = views[k]->stride[i] == *before * (outer < 0 ? w->inner[k] : w->step[k][outer]);
    if (merge) {
        *before *= n;
        return;
    }
    for (int k = 0; k < w->arrays; k++) w->step[k][w->rank] = views[k]->stride[i];
    w->index[w->rank] = 0;
    w->dim[w->rank++] = n;
}

/* For more than one axis, where n is 1 and everything inner 0 so far. */
void ad_walk_merge_axes(ad_walk *w, const ad_view *const *views) {
    const ad_shape *shape = &views[0]->shape;
    /* From the inside out: the last axis that is longer than 1 becomes the inner loop. */
    int i = shape->rank - 1;
    while (i >= 0 && shape->dim[i] == 1) i--;
    if (i < 0) return;
    w->n = shape->dim[i];
    w->more = w->n > 0;
    for (int k = 0; k < w->arrays; k++) w->inner[k] = views[k]->stride[i];
    while (--i >= 0) {
        if (shape->dim[i] == 0) w->more = false;
        if (shape->dim[i] != 1) add_axis(w, views, i, shape->dim[i]);
    }
    for (int k = 0; k < w->arrays && w->rank > 0; k++) {
        const int64_t size = (int64_t)ad_dtype_size(views[k]->dtype);
        for (int r = 0; r < w->rank; r++) w->step[k][r] *= size;
    }
}

void ad_walk_next(ad_walk *w) {
    for (int i = 0; i < w->rank; i++) {
        for (int k = 0; k < w->arrays; k++) w->at[k] += w->step[k][i];
        if (++w->index[i] < w->dim[i]) return;
        w->index[i] = 0;
        for (int k = 0; k < w->arrays; k++) w->at[k] -= w->step[k][i] * w->dim[i];
    }
    w->more = false;
}

void ad_walk_skip(ad_walk *w, int64_t times) {
    for (int i = 0; i < w->rank && times > 0; i++) {
        w->index[i] = times % w->dim[i];
        times /= w->dim[i];
        for (int k = 0; k < w->arrays; k++) w->at[k] += w->step[k][i] * w->index[i];
    }
}
