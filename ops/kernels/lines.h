/* Arrays of one shape as lines along an axis, in blocks of neighbouring lines: for loops in which every step along a line
 * waits for the one before. Lines side by side do not wait for each other, and share cache lines if they lie close. */
#ifndef AD_LINES_H
#define AD_LINES_H

#include "ops/kernels/along.h"

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
 * along the axis has stride 0 there. The last array is written to. */
void ad_each_lines(int axis, bool reverse, int arrays, const ad_view *const *views, ad_lines_function *f,
                   const void *options);

#endif
