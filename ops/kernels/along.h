/* Loops along an axis: scans, extrema and order statistics, and counting. Vector code would not make them faster, so they
 * are compiled once and are not in the table of kernels.h; the rest is as there. */
#ifndef AD_KERNELS_ALONG_H
#define AD_KERNELS_ALONG_H

#include "ops/kernels/kernels.h"

/* ---- scans: x and y have one shape; `reverse`: from the last element to the first; they compute in double --------- */

void ad_kernel_cumsum(const ad_view *x, int axis, bool reverse, const ad_view *y);
void ad_kernel_cumprod(const ad_view *x, int axis, bool reverse, const ad_view *y);
void ad_kernel_logcumsumexp(const ad_view *x, int axis, bool reverse, const ad_view *y);
/* The largest (sign 1) or smallest (-1) element so far, and its index (i64): the first of equal ones, or the first NaN. */
void ad_kernel_cumulative_extremum(const ad_view *x, int axis, bool reverse, int sign, const ad_view *y,
                                   const ad_view *index);
/* y_0 = start, y_{i+1} = b_i + a_i y_i, where a product with a factor of 0 is 0. */
void ad_kernel_recurrence(const ad_view *a, const ad_view *b, int axis, bool reverse, double start, const ad_view *y);

/* ---- one result per line: results have length 1 along the axis, x more than 0; indices are i64 --------------------- */

/* The largest (sign 1) or smallest (-1) element: the first of equal ones, or the first NaN. value NULL: its index only. */
void ad_kernel_extremum(const ad_view *x, int axis, int sign, const ad_view *index, const ad_view *value);
/* The value at `position`, from 0 to n - 1, of the elements in ascending order, linear between two; and the first elements
 * that are equal to these two. A line with a NaN gives the first one. */
void ad_kernel_quantile(const ad_view *x, int axis, double position, const ad_view *y, const ad_view *lower,
                        const ad_view *upper);

/* How many elements of x are not 0, over the axes along which y's shape is 1; x any dtype, y row-major i64. */
void ad_kernel_count_nonzero(const ad_view *x, const ad_view *y);

#endif
