/* Indexing kernels. */
#include "ops/kernels/isa.h"

#include <string.h>

static inline int64_t index_at(const ad_view *index, const char *at, int64_t i) {
    return index->dtype == AD_I32 ? ((const int32_t *)(const void *)at)[i] : ((const int64_t *)(const void *)at)[i];
}

/* `x` as it is seen from the index's elements: the index's shape, and no step along the axis, where the index decides. */
static ad_view seen_from_index(const ad_view *x, int axis, const ad_view *index) {
    ad_view seen = *x;
    seen.shape = index->shape;
    seen.stride[axis] = 0;
    return seen;
}

void AD_NAME(gather)(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    ad_view from = seen_from_index(x, axis, index);
    const ad_view *views[] = {index, &from, y};
    const int64_t size = (int64_t)ad_dtype_size(x->dtype), step = x->stride[axis];
    for (ad_walk w = ad_walk_start(3, views); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            int64_t k = index_at(index, w.at[0], i * w.inner[0]);
            memcpy(w.at[2] + i * w.inner[2] * size, w.at[1] + (i * w.inner[1] + k * step) * size, (size_t)size);
        }
    }
}

#define LOOP_SCATTER(type)                                                                                           \
    for (; w.more; ad_walk_next(&w)) {                                                                               \
        for (int64_t i = 0; i < w.n; i++) {                                                                          \
            int64_t k = index_at(index, w.at[0], i * w.inner[0]);                                                    \
            ((type *)(void *)w.at[1])[i * w.inner[1] + k * step] += ((const type *)(void *)w.at[2])[i * w.inner[2]]; \
        }                                                                                                            \
    }

void AD_NAME(scatter_add)(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    ad_view to = seen_from_index(y, axis, index);
    const ad_view *views[] = {index, &to, x};
    const int64_t step = y->stride[axis];
    ad_walk w = ad_walk_start(3, views);
    if (y->dtype == AD_F32) {
        LOOP_SCATTER(float)
    } else {
        LOOP_SCATTER(double)
    }
}

int64_t AD_NAME(find_bad_index)(const ad_view *index, int64_t bound) {
    int64_t position = 0;
    for (ad_walk w = ad_walk_start(1, &index); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++, position++) {
            int64_t k = index_at(index, w.at[0], i * w.inner[0]);
            if (k < 0 || k >= bound) return position;
        }
    }
    return -1;
}
