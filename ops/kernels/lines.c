/* See lines.h. */
#include "ops/kernels/lines.h"
#include "ops/kernels/pieces.h"

#include <stdlib.h>

enum { GRAIN = 512 }; /* elements: each takes some nanoseconds */

typedef struct request {
    int axis, arrays;
    bool reverse;
    ad_lines_function *f;
    const void *options;
} request;

static void each_lines(const ad_view *const *views, const void *what) {
    const request *r = what;
    ad_lines lines = {.arrays = r->arrays, .n = views[0]->shape.dim[r->axis], .step = r->reverse ? -1 : 1};
    ad_view head[AD_LINES_ARRAYS];
    const ad_view *heads[AD_LINES_ARRAYS] = {NULL};
    if (lines.n == 0) return;
    lines.first = r->reverse ? lines.n - 1 : 0;
    for (int a = 0; a < r->arrays; a++) {
        head[a] = *views[a];
        head[a].shape.dim[r->axis] = 1;
        lines.along[a] = views[a]->stride[r->axis] * lines.step;
        heads[a] = &head[a];
    }
    for (ad_walk w = ad_walk_start(r->arrays, heads); w.more; ad_walk_next(&w)) {
        bool close = llabs(w.inner[0]) <= llabs(lines.along[0]);
        int64_t most = close ? AD_LINES_WIDE : AD_LINES_FEW;
        for (int64_t line = 0; line < w.n; line += most) {
            lines.width = w.n - line < most ? w.n - line : most;
            for (int a = 0; a < r->arrays; a++) {
                int64_t offset = line * w.inner[a] + lines.first * views[a]->stride[r->axis];
                lines.at[a] = w.at[a] + offset * (int64_t)ad_dtype_size(views[a]->dtype);
                lines.across[a] = w.inner[a];
            }
            r->f(&lines, r->options);
        }
    }
}

void ad_each_lines(int axis, bool reverse, int arrays, const ad_view *const *views, ad_lines_function *f,
                   const void *options) {
    const request r = {axis, arrays, reverse, f, options};
    ad_in_pieces(arrays, views, AD_EVERY_AXIS & ~(1u << axis), GRAIN, each_lines, &r);
}
