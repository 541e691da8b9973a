/* Convolution by blocks of columns, and the choice between this and direct.h; window.h says how. */
#include "ops/kernels/direct.h"

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

/* The product of a block of n windows: y = w columns, or one of its transposes. */
static ad_gemm product(const ad_convolution *c, ad_side result, const void *w, const void *columns,
                       int64_t row_of_columns, const void *y, int64_t n, bool add) {
    const int64_t k = column_length(c), row_of_y = c->windows.count[0] * c->windows.count[1];
    ad_gemm g = {.dtype = c->dtype, .add = add};
    if (result == AD_SIDE_Y) {
        g.m = c->filters, g.k = k, g.n = n;
        g.a = w, g.rsa = k, g.csa = 1, g.b = columns, g.rsb = row_of_columns, g.csb = 1, g.rsc = row_of_y;
        g.c = (void *)(uintptr_t)y;
    } else if (result == AD_SIDE_X) {
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
    for (int result = AD_SIDE_X; result <= AD_SIDE_Y; result++) {
        ad_gemm g = product(c, (ad_side)result, NULL, NULL, n, NULL, n, true);
        size_t bytes = ad_kernels_get()->gemm_scratch(&g);
        if (bytes > most) most = bytes;
    }
    return (int64_t)most;
}

/* One thread's, in units of 64. */
static int64_t columns_scratch(const ad_convolution *c) {
    const ad_windows *v = &c->windows;
    int64_t bytes;
    if (__builtin_mul_overflow(v->kernel[0] * v->kernel[1], c->channels, &bytes) ||
        __builtin_mul_overflow(bytes, v->count[1], &bytes) || __builtin_mul_overflow(bytes, 16, &bytes))
        return -1;
    const int64_t step = rows_of_block(c), rest = v->count[0] % step; /* the last block may be a smaller one */
    const int64_t full = product_bytes(c, step * v->count[1]), last = product_bytes(c, rest * v->count[1]);
    return columns_bytes(c) + ((full > last ? full : last) + 63) / 64 * 64;
}

/* ---- the parts of a convolution that threads share ---------------------------------------------------------------- */

typedef struct request {
    const ad_convolution *c;
    ad_side result;
    char *x, *w, *y;
    const char *bias;
    bool add;
    char *scratch;
    int64_t bytes; /* of it, of one thread */
    int64_t parts; /* of a kernel */
} request;

/* Of a whole image, of one group, in elements. */
static int64_t of_x(const ad_convolution *c) { return c->channels * c->windows.size[0] * c->windows.size[1]; }
static int64_t of_y(const ad_convolution *c) { return c->filters * c->windows.count[0] * c->windows.count[1]; }
static int64_t of_w(const ad_convolution *c) { return c->filters * column_length(c); }

static int64_t blocks_of(const ad_convolution *c) {
    const int64_t step = rows_of_block(c);
    return (c->windows.count[0] + step - 1) / step;
}

/* What n windows begin with. */
static void spread_bias(const ad_convolution *c, const char *bias, char *y, int64_t n) {
    const ad_shape shape = AD_SHAPE(c->filters, n);
    ad_view from = ad_view_of((void *)(uintptr_t)bias, c->dtype, shape), to = ad_view_of(y, c->dtype, shape);
    from.stride[0] = 1, from.stride[1] = 0;
    to.stride[0] = c->windows.count[0] * c->windows.count[1];
    ad_kernels_get()->copy(&from, &to, 1, false);
}

/* One block of one group of one image; of the gradient of the kernel only `part`. */
static void convolve_block(const request *r, int64_t image, int64_t group, int64_t block, ad_span part, char *columns,
                           char *gemm_scratch) {
    const ad_convolution *c = r->c;
    const ad_windows *v = &c->windows;
    const ad_kernels *kernels = ad_kernels_get();
    const bool direct = columns_are_image(c);
    const int64_t step = rows_of_block(c), size = (int64_t)ad_dtype_size(c->dtype), at = image * c->groups + group;
    const int64_t first = block * step, last = least(first + step, v->count[0]);
    const int64_t n = (last - first) * v->count[1];
    char *x = r->x + at * of_x(c) * size, *y = r->y + at * of_y(c) * size + first * v->count[1] * size;
    if (direct) columns = x;
    if (!direct && r->result != AD_SIDE_X) kernels->columns(c, part.from, part.to, x, first, last, columns, false);
    /* x was cleared, unless it is the product itself; so was w */
    const bool add = r->result == AD_SIDE_X ? direct : r->result == AD_SIDE_W || r->add;
    const ad_gemm g = product(c, r->result, r->w + group * of_w(c) * size, columns, n, y, n, add || r->bias);
    if (r->bias) spread_bias(c, r->bias + group * c->filters * size, y, n);
    if (r->result == AD_SIDE_W)
        kernels->gemm_part(&g, 0, g.m, part.from, part.to, gemm_scratch);
    else
        kernels->gemm(&g, gemm_scratch);
    if (!direct && r->result == AD_SIDE_X) kernels->columns(c, part.from, part.to, x, first, last, columns, true);
}

/* y: items are blocks. */
static void convolve_y(const void *context, int64_t from, int64_t to, int worker) {
    const request *r = context;
    const int64_t blocks = blocks_of(r->c);
    char *columns = r->scratch + worker * r->bytes;
    for (int64_t i = from; i < to; i++) {
        const int64_t image = i / blocks / r->c->groups, group = i / blocks % r->c->groups;
        convolve_block(r, image, group, i % blocks, (ad_span){0, column_length(r->c)}, columns,
                       columns + columns_bytes(r->c));
    }
}

/* x: blocks overlap there, so items are the groups of the images. */
static void convolve_x(const void *context, int64_t from, int64_t to, int worker) {
    const request *r = context;
    char *columns = r->scratch + worker * r->bytes;
    for (int64_t i = from; i < to; i++)
        for (int64_t block = 0; block < blocks_of(r->c); block++)
            convolve_block(r, i / r->c->groups, i % r->c->groups, block, (ad_span){0, column_length(r->c)}, columns,
                           columns + columns_bytes(r->c));
}

/* w: all images are summed into each element, so what is cut are the elements of a filter, of each group; into as many parts
 * as there are threads, because each goes through all images. */
static void convolve_w(const void *context, int64_t first, int64_t past, int worker) {
    const request *r = context;
    const int64_t length = column_length(r->c), all = r->c->groups * length;
    const int64_t from = all * first / r->parts, to = all * past / r->parts;
    char *columns = r->scratch + worker * r->bytes;
    for (int64_t group = from / length; group * length < to; group++) {
        const int64_t before = from - group * length;
        const ad_span part = {before > 0 ? before : 0, least(to - group * length, length)};
        for (int64_t image = 0; image < r->c->images; image++)
            for (int64_t block = 0; block < blocks_of(r->c); block++)
                convolve_block(r, image, group, block, part, columns, columns + columns_bytes(r->c));
    }
}

/* In units of a microsecond or two: the products, and making the columns. */
static int64_t grains_of(const ad_convolution *c) {
    const double columns = (double)(c->images * c->groups) * (double)(c->windows.count[0] * c->windows.count[1]) *
                           (double)column_length(c);
    return (int64_t)(columns * (1.0 / 2048 + (double)c->filters / AD_GEMM_GRAIN));
}

static void convolve_columns(request *r, int threads) {
    const ad_convolution *c = r->c;
    const int64_t images = c->images * c->groups, kernels = c->groups * column_length(c);
    const int64_t of_result = r->result == AD_SIDE_X ? images * of_x(c) : c->groups * of_w(c);
    ad_view all = ad_view_of(r->result == AD_SIDE_X ? r->x : r->w, c->dtype, AD_SHAPE(of_result));
    if (!r->add && r->result != AD_SIDE_Y) ad_kernels_get()->fill(&all, 0);
    r->parts = least(threads, kernels);
    const int64_t items[] = {[AD_SIDE_X] = images, [AD_SIDE_W] = r->parts, [AD_SIDE_Y] = images * blocks_of(c)};
    ad_work *const work[] = {[AD_SIDE_X] = convolve_x, [AD_SIDE_W] = convolve_w, [AD_SIDE_Y] = convolve_y};
    ad_parallel(threads, items[r->result], grains_of(c), work[r->result], r);
}

/* ---- the choice ---------------------------------------------------------------------------------------------------- */

int ad_kernel_convolution_threads(const ad_convolution *c) { return ad_parallel_workers(grains_of(c), 1); }

int64_t ad_kernel_convolution_scratch(const ad_convolution *c, ad_side result, int threads) {
    ad_direct d;
    int64_t bytes = columns_scratch(c);
    if (bytes < 0 || __builtin_mul_overflow(bytes, threads, &bytes)) return -1;
    if (!ad_kernels_get()->direct_plan(c, result, threads, &d)) return bytes;
    const int64_t direct = d.shared + threads * d.each;
    /* Columns may be needed all the same. */
    return result == AD_SIDE_X && bytes > direct ? bytes : direct;
}

static bool is_finite(const ad_convolution *c, const void *w) {
    const ad_view kernels = ad_view_of((void *)(uintptr_t)w, c->dtype, AD_SHAPE(c->groups * of_w(c)));
    return ad_kernels_get()->all_finite(&kernels);
}

void ad_kernel_convolve(const ad_convolution *c, ad_side result, void *const data[3], const void *bias, bool add,
                        int threads, void *scratch) {
    ad_direct d;
    bool direct = ad_kernels_get()->direct_plan(c, result, threads, &d);
    d.skips = direct && result != AD_SIDE_W && is_finite(c, data[AD_SIDE_W]);
    /* In the direct way each element of x gets all of the kernel, some of it times the zeros around y. */
    direct &= d.skips || result != AD_SIDE_X;
    if (direct) {
        d.x = data[AD_SIDE_X], d.w = data[AD_SIDE_W], d.y = data[AD_SIDE_Y], d.bias = bias;
        d.add = add;
        d.scratch = scratch;
        ad_kernels_get()->direct_prepare(&d);
        ad_parallel(threads, d.items, grains_of(c), ad_kernels_get()->direct, &d);
        return;
    }
    request r = {.c = c,
                 .result = result,
                 .x = data[AD_SIDE_X],
                 .w = data[AD_SIDE_W],
                 .y = data[AD_SIDE_Y],
                 .bias = bias,
                 .add = add,
                 .scratch = scratch,
                 .bytes = columns_scratch(c)};
    convolve_columns(&r, threads);
}
