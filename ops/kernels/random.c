/* Dropping elements at random. Element i in row-major order is decided by draw number rng->counter + i, whatever the
 * strides, so the same generator always drops the same ones. */
#include "ops/kernels/random.h"

#define LOOP(type)                                                                                                   \
    for (ad_walk w = ad_walk_start(2, views); w.more; ad_walk_next(&w)) {                                            \
        const type *from = (const type *)(void *)w.at[0];                                                            \
        type *to = (type *)(void *)w.at[1];                                                                          \
        for (int64_t i = 0; i < w.n; i++) {                                                                          \
            type kept = ad_rng_uniform(&rng) >= p ? from[i * w.inner[0]] * (type)scale : 0;                          \
            to[i * w.inner[1]] = add ? to[i * w.inner[1]] + kept : kept;                                             \
        }                                                                                                            \
    }

void ad_drop(const ad_view *x, ad_rng rng, double p, const ad_view *y, bool add) {
    const ad_view *views[] = {x, y};
    const double scale = p < 1 ? 1 / (1 - p) : 0;
    if (x->dtype == AD_F32) {
        LOOP(float)
    } else {
        LOOP(double)
    }
}
