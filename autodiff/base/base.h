/* Inside the base layer: what the library's other layers use of it beyond the public header. */
#ifndef AD_BASE_INTERNAL_H
#define AD_BASE_INTERNAL_H

#include <adtape/base.h>

#include <stdarg.h>

/* ---- loops over strided memory --------------------------------------------------------------------------- */

/* Steps through the index space of up to four arrays of one shape. Axes are merged where the strides allow, axes of
 * size 1 dropped, the innermost left to the caller as a loop of `n` with strides `inner`:
 *
 *     for (ad_walk w = ad_walk_start(shape, 2, views); w.more; ad_walk_next(&w))
 *         for (i = 0; i < w.n; i++) ... w.at[0] + i * w.inner[0] * size ... */
#define AD_WALK_MAX 4
typedef struct ad_walk {
    bool more;
    int64_t n;
    char *at[AD_WALK_MAX];
    int64_t inner[AD_WALK_MAX]; /* in elements */
    int arrays, rank;
    int64_t dim[AD_MAX_RANK], index[AD_MAX_RANK];
    int64_t step[AD_WALK_MAX][AD_MAX_RANK]; /* in bytes */
} ad_walk;
ad_walk ad_walk_start(int arrays, const ad_view *const *views);
void ad_walk_next(ad_walk *walk);

#endif
