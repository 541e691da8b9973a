/* Dropping elements at random. Element i in row-major order is decided by draw number rng->counter + i, whatever the
 * strides, so the same generator always drops the same ones, and any part can be done by itself. */
#include "ops/kernels/random.h"

enum { GRAIN = 256 }; /* elements */

typedef struct drop {
    ad_walk walk; /* over x and y */
    ad_dtype dtype;
    ad_rng rng;
    double p;
    bool add;
} drop;

#define LOOP(type)                                                                                                   \
    for (; done < past; ad_walk_next(&w), first = 0) {                                                               \
        const type *from = (const type *)(void *)w.at[0];                                                            \
        type *to = (type *)(void *)w.at[1];                                                                          \
        for (int64_t i = first; i < w.n && done < past; i++, done++) {                                               \
            type kept = ad_rng_uniform(&rng) >= d->p ? from[i * w.inner[0]] * (type)scale : 0;                       \
            to[i * w.inner[1]] = d->add ? to[i * w.inner[1]] + kept : kept;                                          \
        }                                                                                                            \
    }

static void drop_some(const void *context, int64_t done, int64_t past, int worker) {
    const drop *d = context;
    const double scale = d->p < 1 ? 1 / (1 - d->p) : 0;
    int64_t first = done % d->walk.n;
    ad_walk w = d->walk;
    ad_rng rng = d->rng;
    (void)worker;
    ad_walk_skip(&w, done / w.n);
    rng.counter += (uint64_t)done;
    if (d->dtype == AD_F32) {
        LOOP(float)
    } else {
        LOOP(double)
    }
}

void ad_drop(const ad_view *x, ad_rng rng, double p, const ad_view *y, bool add) {
    const ad_view *views[] = {x, y};
    const drop d = {ad_walk_start(2, views), x->dtype, rng, p, add};
    const int64_t count = ad_view_count(x);
    if (count > 0) ad_parallel(ad_parallel_workers(count, GRAIN), count, count / GRAIN, drop_some, &d);
}
