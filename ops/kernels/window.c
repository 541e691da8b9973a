/* Columns of windows, and pooling; window.h says what they are. */
#include "ops/kernels/isa.h"
#include "ops/kernels/window.h"

/* Numbers [from, to). */
typedef struct span {
    int64_t from, to;
} span;

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }
/* Rounded up, for any x and a positive d. */
static int64_t divide_up(int64_t x, int64_t d) { return x > 0 ? (x - 1) / d + 1 : -(-x / d); }

/* The windows along an axis whose element k lies in the image and not in the padding. */
static span windows_seeing(const ad_windows *v, int axis, int64_t k) {
    const int64_t offset = v->padding[axis] - k * v->dilation[axis], n = v->count[axis];
    const int64_t from = clamp(divide_up(offset, v->stride[axis]), 0, n);
    return (span){from, clamp(divide_up(offset + v->size[axis], v->stride[axis]), from, n)};
}

/* The elements of the kernel under which window i, which begins at `first`, sees the image along an axis. */
static span seen_from(const ad_windows *v, int axis, int64_t first) {
    const int64_t from = clamp(divide_up(-first, v->dilation[axis]), 0, v->kernel[axis]);
    return (span){from, clamp(divide_up(v->size[axis] - first, v->dilation[axis]), from, v->kernel[axis])};
}
static int64_t begin_of(const ad_windows *v, int axis, int64_t i) { return i * v->stride[axis] - v->padding[axis]; }

#define T       float
#define S(name) name##_f32
#include "ops/kernels/window_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/window_typed.h"
#undef T
#undef S

void AD_NAME(columns)(const ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last,
                      void *columns, bool back) {
    (c->dtype == AD_F32 ? columns_f32 : columns_f64)(c, k0, k1, x, first, last, columns, back);
}

bool AD_NAME(window_is_blind)(const ad_windows *windows, int axis, int64_t i) {
    const span seen = seen_from(windows, axis, begin_of(windows, axis, i));
    return seen.from == seen.to;
}

void AD_NAME(max_pool)(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *x, void *y,
                       int64_t *index) {
    if (dtype == AD_F32)
        max_pool_f32(windows, planes, x, y, index);
    else
        max_pool_f64(windows, planes, x, y, index);
}

void AD_NAME(max_pool_back)(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *g,
                            const int64_t *index, void *x_bar) {
    if (dtype == AD_F32)
        max_pool_back_f32(windows, planes, g, index, x_bar);
    else
        max_pool_back_f64(windows, planes, g, index, x_bar);
}
