/* Convolution by blocks of columns; window.h says how. */
#include "ops/kernels/window.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Bytes that a block of columns should have, to stay in the cache while the product reads it. */
enum { BLOCK = 1 << 18 };

static int64_t column_length(const ad_convolution *c) {
    return c->channels * c->windows.kernel[0] * c->windows.kernel[1];
}

/* Windows of one element at every place: the columns are the image itself. */
static bool columns_are_image(const ad_convolution *c) {
    const ad_windows *v = &c->windows;
    for (int i = 0; i < 2; i++)
        if (v->kernel[i] != 1 || v->stride[i] != 1 || v->padding[i] != 0) return false;
    return true;
}

/* How many rows of windows are a block. */
static int64_t rows_of_block(const ad_convolution *c) {
    if (columns_are_image(c)) return c->windows.count[0];
    const int64_t row = column_length(c) * c->windows.count[1] * (int64_t)ad_dtype_size(c->dtype);
    const int64_t rows = BLOCK / (row > 0 ? row : 1);
    return rows < 1 ? 1 : rows > c->windows.count[0] ? c->windows.count[0] : rows;
}

/* Which of the three is the result of the product. */
typedef enum side { SIDE_X, SIDE_W, SIDE_Y } side;

/* The product of a block of n windows: y = w columns, or one of its transposes. */
static ad_gemm product(const ad_convolution *c, side result, const void *w, const void *columns,
                       int64_t row_of_columns, const void *y, int64_t n, bool add) {
    const int64_t k = column_length(c), row_of_y = c->windows.count[0] * c->windows.count[1];
    ad_gemm g = {.dtype = c->dtype, .add = add};
    if (result == SIDE_Y) {
        g.m = c->filters, g.k = k, g.n = n;
        g.a = w, g.rsa = k, g.csa = 1, g.b = columns, g.rsb = row_of_columns, g.csb = 1, g.rsc = row_of_y;
        g.c = (void *)(uintptr_t)y;
    } else if (result == SIDE_X) {
        g.m = k, g.k = c->filters, g.n = n;
        g.a = w, g.rsa = 1, g.csa = k, g.b = y, g.rsb = row_of_y, g.csb = 1, g.rsc = row_of_columns;
        g.c = (void *)(uintptr_t)columns;
    } else {
        g.m = c->filters, g.k = n, g.n = k;
        g.a = y, g.rsa = row_of_y, g.csa = 1, g.b = columns, g.rsb = 1, g.csb = row_of_columns, g.rsc = k;
        g.c = (void *)(uintptr_t)w;
    }
    g.csc = 1;
    return g;
}

/* Bytes of a block of columns, in units of 64. */
static int64_t columns_bytes(const ad_convolution *c) {
    if (columns_are_image(c)) return 0;
    const int64_t bytes = column_length(c) * rows_of_block(c) * c->windows.count[1] *
                          (int64_t)ad_dtype_size(c->dtype);
    return (bytes + 63) / 64 * 64 + AD_COLUMNS_ROOM;
}

/* Of the products of blocks of n windows. */
static int64_t product_bytes(const ad_convolution *c, int64_t n) {
    size_t most = 0;
    for (int result = SIDE_X; result <= SIDE_Y; result++) {
        ad_gemm g = product(c, (side)result, NULL, NULL, n, NULL, n, true);
        size_t bytes = ad_kernels_get()->gemm_scratch(&g);
        if (bytes > most) most = bytes;
    }
    return (int64_t)most;
}

int64_t ad_kernel_convolution_scratch(const ad_convolution *c) {
    const ad_windows *v = &c->windows;
    int64_t bytes;
    if (__builtin_mul_overflow(v->kernel[0] * v->kernel[1], c->channels, &bytes) ||
        __builtin_mul_overflow(bytes, v->count[1], &bytes) || __builtin_mul_overflow(bytes, 16, &bytes))
        return -1;
    const int64_t step = rows_of_block(c), rest = v->count[0] % step; /* the last block may be a smaller one */
    const int64_t full = product_bytes(c, step * v->count[1]), last = product_bytes(c, rest * v->count[1]);
    return columns_bytes(c) + (full > last ? full : last);
}

/* One group of one image. */
static void convolve_group(const ad_convolution *c, side result, char *x, char *w, char *y, bool add, char *scratch) {
    const ad_windows *v = &c->windows;
    const bool direct = columns_are_image(c);
    const int64_t step = rows_of_block(c), size = (int64_t)ad_dtype_size(c->dtype);
    char *gemm_scratch = scratch + columns_bytes(c);
    for (int64_t first = 0; first < v->count[0]; first += step) {
        const int64_t last = least(first + step, v->count[0]), n = (last - first) * v->count[1];
        char *columns = direct ? x : scratch;
        if (!direct && result != SIDE_X) ad_kernels_get()->columns(c, x, first, last, columns, false);
        ad_gemm g = product(c, result, w, columns, n, y + first * v->count[1] * size, n,
                            add && (direct || result != SIDE_X));
        ad_kernels_get()->gemm(&g, gemm_scratch);
        if (!direct && result == SIDE_X) ad_kernels_get()->columns(c, x, first, last, columns, true);
    }
}

static void clear(const ad_convolution *c, void *data, int64_t n) {
    ad_view all = ad_view_of(data, c->dtype, AD_SHAPE(n));
    ad_kernels_get()->fill(&all, 0);
}

static void convolve(const ad_convolution *c, side result, const void *x, const void *w, const void *y, bool add,
                     void *scratch) {
    const ad_windows *v = &c->windows;
    const int64_t size = (int64_t)ad_dtype_size(c->dtype), of_w = c->filters * column_length(c);
    const int64_t of_x = c->channels * v->size[0] * v->size[1], of_y = c->filters * v->count[0] * v->count[1];
    char *x_at = (char *)(uintptr_t)x, *w_at = (char *)(uintptr_t)w, *y_at = (char *)(uintptr_t)y;
    if (result == SIDE_X && !add) clear(c, x_at, c->images * c->groups * of_x);
    if (result == SIDE_W && !add) clear(c, w_at, c->groups * of_w);
    for (int64_t image = 0; image < c->images; image++)
        for (int64_t group = 0; group < c->groups; group++, x_at += of_x * size, y_at += of_y * size)
            convolve_group(c, result, x_at, w_at + group * of_w * size, y_at, add || result != SIDE_Y, scratch);
}

void ad_kernel_convolve(const ad_convolution *c, const void *x, const void *w, void *y, bool add, void *scratch) {
    convolve(c, SIDE_Y, x, w, y, add, scratch);
}
void ad_kernel_convolve_x(const ad_convolution *c, void *x, const void *w, const void *y, bool add, void *scratch) {
    convolve(c, SIDE_X, x, w, y, add, scratch);
}
void ad_kernel_convolve_w(const ad_convolution *c, const void *x, void *w, const void *y, bool add, void *scratch) {
    convolve(c, SIDE_W, x, w, y, add, scratch);
}
