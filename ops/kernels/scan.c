/* Scans along an axis, and the extremum of a line with its place. */
#include "ops/kernels/lines.h"

#include <math.h>

#define T       float
#define S(name) name##_f32
#include "ops/kernels/scan_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/scan_typed.h"
#undef T
#undef S

#define TYPED(name, view) ((view)->dtype == AD_F32 ? name##_f32 : name##_f64)

void ad_kernel_cumsum(const ad_view *x, int axis, bool reverse, const ad_view *y) {
    const ad_view *views[] = {x, y};
    ad_each_lines(axis, reverse, 2, views, TYPED(cumsum, x), NULL);
}

void ad_kernel_cumprod(const ad_view *x, int axis, bool reverse, const ad_view *y) {
    const ad_view *views[] = {x, y};
    ad_each_lines(axis, reverse, 2, views, TYPED(cumprod, x), NULL);
}

void ad_kernel_logcumsumexp(const ad_view *x, int axis, bool reverse, const ad_view *y) {
    const ad_view *views[] = {x, y};
    ad_each_lines(axis, reverse, 2, views, TYPED(logcumsumexp, x), NULL);
}

void ad_kernel_cumulative_extremum(const ad_view *x, int axis, bool reverse, int sign, const ad_view *y,
                                   const ad_view *index) {
    const ad_view *views[] = {x, y, index};
    ad_each_lines(axis, reverse, 3, views, TYPED(cumulative_extremum, x), &sign);
}

void ad_kernel_recurrence(const ad_view *a, const ad_view *b, int axis, bool reverse, double start,
                          const ad_view *y) {
    const ad_view *views[] = {a, b, y};
    ad_each_lines(axis, reverse, 3, views, TYPED(recurrence, a), &start);
}

void ad_kernel_extremum(const ad_view *x, int axis, int sign, const ad_view *index, const ad_view *value) {
    ad_view at = *index, best = value ? *value : *index;
    const ad_view *views[] = {x, &at, &best};
    at.stride[axis] = best.stride[axis] = 0;
    ad_each_lines(axis, false, value ? 3 : 2, views, TYPED(extremum, x), &sign);
}
