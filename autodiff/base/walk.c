/* The loop over strided memory. */
#include "autodiff/base/base.h"

ad_walk ad_walk_start(int arrays, const ad_view *const *views) {
    ad_walk w;
    w.more = true;
    w.n = 1;
    w.arrays = arrays;
    w.rank = 0;
    int64_t size[AD_WALK_MAX];
    for (int k = 0; k < arrays; k++) {
        w.at[k] = views[k]->data;
        w.inner[k] = 0;
        size[k] = (int64_t)ad_dtype_size(views[k]->dtype);
    }
    const ad_shape *shape = &views[0]->shape;
    /* Collect axes from the inside out, in w.dim[0], w.dim[1], ...; the first becomes the inner loop. */
    int rank = 0;
    int64_t step[AD_WALK_MAX][AD_MAX_RANK];
    for (int i = shape->rank - 1; i >= 0; i--) {
        int64_t n = shape->dim[i];
        if (n == 0) w.more = false;
        if (n == 1) continue;
        bool merge = rank > 0;
        for (int k = 0; k < arrays && merge; k++) merge = views[k]->stride[i] == step[k][rank - 1] * w.dim[rank - 1];
        if (merge) {
            w.dim[rank - 1] *= n;
            continue;
        }
        for (int k = 0; k < arrays; k++) step[k][rank] = views[k]->stride[i];
        w.dim[rank++] = n;
    }
    if (rank == 0) return w;
    w.n = w.dim[0];
    for (int k = 0; k < arrays; k++) w.inner[k] = step[k][0];
    w.rank = rank - 1;
    for (int i = 0; i < w.rank; i++) {
        w.dim[i] = w.dim[i + 1];
        w.index[i] = 0;
        for (int k = 0; k < arrays; k++) w.step[k][i] = step[k][i + 1] * size[k];
    }
    return w;
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
