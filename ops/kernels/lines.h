/* Arrays of one shape as lines along an axis, in blocks of neighbouring lines: for loops in which every step along a line
 * waits for the one before. Lines side by side do not wait for each other, and share cache lines if they lie close. */
#ifndef AD_LINES_H
#define AD_LINES_H

#include "ops/kernels/along.h"

#include <stdlib.h>

enum { AD_LINES_WIDE = 64, AD_LINES_FEW = 4, AD_LINES_ARRAYS = 4 };

typedef struct ad_lines {
    int arrays;
    int64_t n;           /* elements of a line, at least 1 */
    int64_t width;       /* lines in this block, at most AD_LINES_WIDE */
    int64_t first, step; /* element i of a line is at first + i * step along the axis */
    char *at[AD_LINES_ARRAYS];
    int64_t along[AD_LINES_ARRAYS], across[AD_LINES_ARRAYS]; /* strides in elements */
} ad_lines;
typedef void ad_lines_function(const ad_lines *lines, const void *options);

/* Element i of line k of array number `array`. */
#define AD_LINE(type, array) ((type *)(void *)lines->at[array] + i * lines->along[array] + k * lines->across[array])

/* Calls f with every block of lines; `reverse`: they run from the last element to the first. An array that does not step
 * along the axis has stride 0 there. */
static inline void ad_each_lines(int axis, bool reverse, int arrays, const ad_view *const *views,
                                 ad_lines_function *f, const void *options) {
    ad_lines lines = {.arrays = arrays, .n = views[0]->shape.dim[axis], .step = reverse ? -1 : 1};
    ad_view head[AD_LINES_ARRAYS];
    const ad_view *heads[AD_LINES_ARRAYS];
    if (lines.n == 0) return;
    lines.first = reverse ? lines.n - 1 : 0;
    for (int a = 0; a < arrays; a++) {
        head[a] = *views[a];
        head[a].shape.dim[axis] = 1;
        lines.along[a] = views[a]->stride[axis] * lines.step;
        heads[a] = &head[a];
    }
    for (ad_walk w = ad_walk_start(arrays, heads); w.more; ad_walk_next(&w)) {
        bool close = llabs(w.inner[0]) <= llabs(lines.along[0]);
        int64_t most = close ? AD_LINES_WIDE : AD_LINES_FEW;
        for (int64_t line = 0; line < w.n; line += most) {
            lines.width = w.n - line < most ? w.n - line : most;
            for (int a = 0; a < arrays; a++) {
                int64_t offset = line * w.inner[a] + lines.first * views[a]->stride[axis];
                lines.at[a] = w.at[a] + offset * (int64_t)ad_dtype_size(views[a]->dtype);
                lines.across[a] = w.inner[a];
            }
            f(&lines, options);
        }
    }
}

#endif
