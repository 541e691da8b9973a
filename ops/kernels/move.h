/* Moving elements to where indices say, and sorting them. Vector code would not make it faster, so it is compiled once and
 * is not in the table of kernels.h; the rest is as there. Elements are moved whatever their dtype; they are added in f32 and
 * f64 alone, one after another in row-major order of the index. Indices are i32 or i64, and in range. */
#ifndef AD_KERNELS_MOVE_H
#define AD_KERNELS_MOVE_H

#include "ops/kernels/kernels.h"

/* Rows: an index of any shape stands in the place of axis `axis` of x. y[.., i, ..] = x[.., index[i], ..]; */
void ad_kernel_take_rows(const ad_view *x, int axis, const ad_view *index, const ad_view *y);
/* and x[.., index[i], ..] += y[.., i, ..]: no other rows of x are touched. */
void ad_kernel_add_rows(const ad_view *y, int axis, const ad_view *index, const ad_view *x);

/* Elements: index and x have one shape. y[.., index[.., i, ..], ..] = x[.., i, ..], the last one in row-major order where
 * several go to one place. y is row-major, `owner` has room for as many numbers. kept (i32) is 1 where x is what stayed. */
void ad_kernel_scatter(const ad_view *x, int axis, const ad_view *index, const ad_view *y, int64_t *owner,
                       const ad_view *kept);
/* The same places: the larger of what is there and of x; NaN is larger than any number. */
void ad_kernel_scatter_max(const ad_view *x, int axis, const ad_view *index, const ad_view *y);

/* y += factor * index; y is i64. */
void ad_kernel_add_index(const ad_view *index, int64_t factor, const ad_view *y);
/* Row-major y[..., i] = 1 where i = index[...], else 0. */
void ad_kernel_one_hot(const ad_view *index, const ad_view *y);
/* The row-major positions of the elements that are not 0, of which there are as many as elements in y (row-major i64). */
void ad_kernel_nonzero(const ad_view *x, const ad_view *y);

/* Sorts along the axis, stable, ascending or descending, NaN above all numbers; y and index (i64) get the first elements, as
 * many as there is room for along it. */
int ad_kernel_sort_threads(const ad_view *x, int axis);                 /* that are worth it */
size_t ad_kernel_sort_scratch(const ad_view *x, int axis, int threads); /* bytes, of alignment 8 */
void ad_kernel_sort(const ad_view *x, int axis, bool descending, const ad_view *y, const ad_view *index, int threads,
                    void *scratch);

#endif
