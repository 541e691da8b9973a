/* Windows that slide over images: convolution and pooling. Everything is row-major, and an image has planes [height, width].
 *
 * A convolution is a matrix product with the columns of an image: a column holds what one window sees. Either they are
 * written out, for a few rows of windows at a time, so that they stay in the cache; or the loop of the product finds its
 * way in the image itself (direct.h). */
#ifndef AD_KERNELS_WINDOW_H
#define AD_KERNELS_WINDOW_H

#include "ops/kernels/kernels.h"

/* Window (i, j) sees the elements (i stride[0] - padding[0] + a dilation[0], j ...) for a < kernel[0]; those in the padding
 * are 0 for a convolution, and not there for a maximum. */
typedef struct ad_windows {
    int64_t size[2], kernel[2], stride[2], padding[2], dilation[2];
    int64_t count[2]; /* of windows along each axis */
} ad_windows;

/* Numbers [from, to). */
typedef struct ad_span {
    int64_t from, to;
} ad_span;

static inline int64_t ad_clamp_whole(int64_t x, int64_t low, int64_t high) {
    return x < low ? low : x > high ? high : x;
}
/* Rounded up, for any x and a positive d. */
static inline int64_t ad_divide_up(int64_t x, int64_t d) { return x > 0 ? (x - 1) / d + 1 : -(-x / d); }

/* The elements of the kernel under which window i, which begins at `first`, sees the image along an axis. */
static inline ad_span ad_window_seen(const ad_windows *v, int axis, int64_t first) {
    const int64_t from = ad_clamp_whole(ad_divide_up(-first, v->dilation[axis]), 0, v->kernel[axis]);
    return (ad_span){from,
                     ad_clamp_whole(ad_divide_up(v->size[axis] - first, v->dilation[axis]), from, v->kernel[axis])};
}
static inline int64_t ad_window_begin(const ad_windows *v, int axis, int64_t i) {
    return i * v->stride[axis] - v->padding[axis];
}
/* The windows along an axis whose element k lies in the image and not in the padding. */
static inline ad_span ad_windows_seeing(const ad_windows *v, int axis, int64_t k) {
    const int64_t offset = v->padding[axis] - k * v->dilation[axis], n = v->count[axis];
    const int64_t from = ad_clamp_whole(ad_divide_up(offset, v->stride[axis]), 0, n);
    return (ad_span){from, ad_clamp_whole(ad_divide_up(offset + v->size[axis], v->stride[axis]), from, n)};
}
/* Window i sees nothing of the image along an axis. */
static inline bool ad_window_is_blind(const ad_windows *v, int axis, int64_t i) {
    const ad_span seen = ad_window_seen(v, axis, ad_window_begin(v, axis, i));
    return seen.from == seen.to;
}

/* Nothing of it is empty: x[images, groups * channels, size], w[groups * filters, channels, kernel], y[images, groups * filters, count] */
typedef struct ad_convolution {
    ad_dtype dtype;
    int64_t images, groups, channels, filters;
    ad_windows windows;
} ad_convolution;

/* Bytes behind the columns of a block that may be written to. */
enum { AD_COLUMNS_ROOM = 64 };

/* How many threads should share a convolution, and the bytes of scratch memory, aligned to 64, that so many need; -1 if
 * their number overflows. */
int ad_kernel_convolution_threads(const ad_convolution *c);
int64_t ad_kernel_convolution_scratch(const ad_convolution *c, ad_side result, int threads);
/* data[result] (+)= what the other two give. `bias`: an element for each filter, which y begins with, and then only if not
 * `add`; or NULL. */
void ad_kernel_convolve(const ad_convolution *c, ad_side result, void *const data[3], const void *bias, bool add,
                        int threads, void *scratch);

#endif
