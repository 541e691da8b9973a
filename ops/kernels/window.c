/* Columns of windows, and pooling; window.h says what they are. */
#include "ops/kernels/tile.h"
#include "ops/kernels/window.h"

#include <string.h>

/* Not as a part of the loops below, which it would make slower. */
OUTLINE ad_span windows_seeing(const ad_windows *v, int axis, int64_t k) { return ad_windows_seeing(v, axis, k); }

#define T       float
#define WHOLE   int32_t
#define S(name) name##_f32
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/window_typed.h"
#undef T
#undef WHOLE
#undef S

#define T       double
#define WHOLE   int64_t
#define S(name) name##_f64
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/window_typed.h"
#undef T
#undef WHOLE
#undef S

void AD_NAME(columns)(const ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last,
                      void *columns, bool back) {
    (c->dtype == AD_F32 ? columns_f32 : columns_f64)(c, k0, k1, x, first, last, columns, back);
}

void AD_NAME(max_pool)(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *x, void *y,
                       int64_t *index) {
    if (dtype == AD_F32)
        max_pool_f32(windows, planes, x, y, index);
    else
        max_pool_f64(windows, planes, x, y, index);
}

void AD_NAME(max_pool_back)(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *g,
                            const int64_t *index, void *x_bar, bool add) {
    if (dtype == AD_F32)
        max_pool_back_f32(windows, planes, g, index, x_bar, add);
    else
        max_pool_back_f64(windows, planes, g, index, x_bar, add);
}
