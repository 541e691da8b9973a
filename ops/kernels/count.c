/* How many elements are not 0. */
#include "ops/kernels/along.h"

void ad_kernel_count_nonzero(const ad_view *x, const ad_view *y) {
    ad_view target = *y;
    const ad_view *views[] = {x, &target};
    const int64_t size = (int64_t)ad_dtype_size(x->dtype);
    for (int64_t i = 0, n = ad_view_count(y); i < n; i++) ((int64_t *)y->data)[i] = 0;
    (void)!ad_view_broadcast(y, &x->shape, &target);
    for (ad_walk w = ad_walk_start(2, views); w.more; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            ((int64_t *)(void *)w.at[1])[i * w.inner[1]] += ad_element_get(w.at[0] + i * w.inner[0] * size,
                                                                           x->dtype) != 0;
}
