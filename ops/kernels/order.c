/* Order statistics along an axis. */
#include "ops/kernels/lines.h"

#include <math.h>
#include <string.h>

#define T       float
#define KEY     uint32_t
#define S(name) name##_f32
#include "ops/kernels/order_typed.h"
#undef T
#undef KEY
#undef S

#define T       double
#define KEY     uint64_t
#define S(name) name##_f64
#include "ops/kernels/order_typed.h"
#undef T
#undef KEY
#undef S

void ad_kernel_quantile(const ad_view *x, int axis, double position, const ad_view *y, const ad_view *lower,
                        const ad_view *upper) {
    ad_view value = *y, below = *lower, above = *upper;
    const ad_view *views[] = {x, &value, &below, &above};
    value.stride[axis] = below.stride[axis] = above.stride[axis] = 0;
    ad_each_lines(axis, false, 4, views, x->dtype == AD_F32 ? quantile_f32 : quantile_f64, &position);
}
