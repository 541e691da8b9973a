/* Convolution by sums over tables.
 *
 * A tile of results stays in registers while k runs over what each of them is the sum of:
 *
 *     for l < k:  for each row i and vector j of the tile:  acc[i][j] += row[i][row_at[l]] * vec[j][vec_at[l]]
 *
 * as in a matrix product, but that rows and vectors lie anywhere, and the steps of l are looked up. So one loop does for
 *
 *     channels  rows are windows, a vector is the same tap of many kernels, packed side by side; l runs over taps
 *     pixels    rows are kernels, a vector is what neighbouring windows see at the same tap; l runs over taps
 *     kernels   rows are taps, a vector is one pixel of many channels of y, packed; l runs over the windows of a block
 *
 * where a tap is an element of a kernel: channel, row and column. `pixels` is for few channels and windows one apart.
 *
 * The image is read from a copy of a block of its rows, in which the padding is written out as zeros. No window sees more
 * than is its own, so what is not finite in an image reaches those results alone that depend on it. Rows of padding are
 * skipped.
 *
 * An element of the result is summed in the order of its taps, or of the images and their windows, by one thread, whatever
 * the blocks and parts are. */
#include "ops/kernels/direct.h"
#include "ops/kernels/tile.h"

#include <math.h>
#include <string.h>

/* The tables, which lie before the packed kernels in what threads share: where a tap is in the copy of a block, and in w;
 * where windows begin; and steps over panels of one and two vectors. Taps are in the order of their rows, so that those of
 * rows that are in the image are next to each other. */
typedef struct tables {
    int64_t *taps, *of_w, *windows, *linear[2];
    void *packed;
} tables;

/* The rows of the kernel under which windows in rows [first, last) see something. */
static ad_span rows_seen(const ad_direct *d, int64_t first, int64_t last) {
    const ad_windows *v = &d->windows;
    const ad_span whole = {0, v->kernel[0]};
    if (!d->skips) return whole;
    /* What the first window sees lies lower in the kernel than what the last one does. */
    return (ad_span){ad_window_seen(v, 0, ad_window_begin(v, 0, last - 1)).from,
                     ad_window_seen(v, 0, ad_window_begin(v, 0, first)).to};
}

/* How many rows of the kernel are summed together where it is the result: one, without the windows that see nothing under it,
 * unless that has few taps. */
static int64_t rows_of_taps(const ad_direct *d) { return ad_direct_row(d) < ROWS ? d->windows.kernel[0] : 1; }

/* Of the rows [first, last) of windows those that are summed for tap k. */
static ad_span windows_of_tap(const ad_direct *d, int64_t k, int64_t first, int64_t last) {
    if (rows_of_taps(d) > 1) return (ad_span){first, last};
    const ad_span seeing = ad_windows_seeing(&d->windows, 0, k / ad_direct_row(d));
    return (ad_span){ad_clamp_whole(seeing.from, first, last), ad_clamp_whole(seeing.to, first, last)};
}

static int64_t bytes_of_tables(int64_t k, int64_t n) { return round_up((2 * k + n + 2 * (k > n ? k : n)) * 8, 64); }

static tables tables_of(const ad_direct *d) {
    const int64_t k = ad_direct_k(d), n = d->rows * d->windows.count[1];
    int64_t *at = (int64_t *)(void *)d->scratch;
    tables t = {.taps = at, .of_w = at + k, .windows = at + 2 * k};
    t.linear[0] = t.windows + n;
    t.linear[1] = t.linear[0] + (k > n ? k : n);
    t.packed = (void *)((char *)d->scratch + bytes_of_tables(k, n));
    return t;
}

static void make_tables(const ad_direct *d, int64_t lanes) {
    const tables t = tables_of(d);
    const ad_windows *v = &d->windows;
    const int64_t of_plane = v->kernel[0] * v->kernel[1], k = ad_direct_k(d), n = d->rows * v->count[1];
    for (int64_t l = 0; l < k; l++) {
        const int64_t row = l / ad_direct_row(d), plane = l % ad_direct_row(d) / v->kernel[1],
                      column = l % v->kernel[1];
        const int64_t seen = row * v->kernel[1] + column, tap = d->result == AD_SIDE_X ? of_plane - 1 - seen : seen;
        t.taps[l] = plane * d->plane + row * v->dilation[0] * d->row + column * v->dilation[1];
        t.of_w[l] = plane * d->w_plane + tap;
    }
    for (int64_t i = 0; i < n; i++)
        t.windows[i] = i / v->count[1] * v->stride[0] * d->row + i % v->count[1] * v->stride[1];
    for (int vecs = 1; vecs <= 2; vecs++)
        for (int64_t l = 0; l < k || l < n; l++) t.linear[vecs - 1][l] = l * vecs * lanes;
}

#define T       float
#define S(name) name##_f32
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/direct_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/direct_typed.h"
#undef T
#undef S

/* ---- the plan ------------------------------------------------------------------------------------------------------ */

/* Bytes that should stay in the cache: of a block of an image, and of as many windows of a panel of y. */
enum { BLOCK = 1 << 18, PANEL = 1 << 17 };

/* From windows over x to those over y that see an element of x, turned round. */
static void turn_windows(ad_windows *v) {
    for (int i = 0; i < 2; i++) {
        const int64_t size = v->size[i];
        v->size[i] = v->count[i], v->count[i] = size;
        v->padding[i] = (v->kernel[i] - 1) * v->dilation[i] - v->padding[i];
    }
}

static ad_direct turned_or_not(const ad_convolution *c, ad_side result) {
    const bool turned = result == AD_SIDE_X;
    const int64_t taps = c->windows.kernel[0] * c->windows.kernel[1], of_filter = c->channels * taps;
    ad_direct d = {.c = *c,
                   .result = result,
                   .windows = c->windows,
                   .planes = turned ? c->filters : c->channels,
                   .results = turned ? c->channels : c->filters,
                   .w_plane = turned ? of_filter : taps,
                   .w_result = turned ? taps : of_filter};
    if (turned) turn_windows(&d.windows);
    return d;
}

/* How many rows of windows make a block. */
static int64_t rows_of_block(const ad_direct *d, int threads, int64_t size) {
    const ad_windows *v = &d->windows;
    const int64_t seen = (v->kernel[0] - 1) * v->dilation[0] + 1, images = d->c.images * d->c.groups;
    int64_t rows = (BLOCK / size / d->planes / d->row - seen) / v->stride[0] + 1;
    if (d->result == AD_SIDE_W)
        rows = min_of(rows, PANEL / size / d->panel / v->count[1]);
    else if (threads > 1 && images < 2 * threads) /* so that there is something to share */
        rows = min_of(rows, v->count[0] * images / (2 * threads));
    return ad_clamp_whole(rows, 1, v->count[0]);
}

/* Cuts the kernels of a group for so many threads. */
static void cut_kernels(ad_direct *d, int threads) {
    const int64_t panels = (d->results + d->panel - 1) / d->panel;
    d->parts_of_k = d->parts_of_results = 1;
    if (panels >= threads)
        d->parts_of_results = threads;
    else
        d->parts_of_k = min_of(threads, ad_direct_k(d));
}

/* Estimates of work on an image, in multiply-adds of vectors: of the three ways to sum, and of columns, where one more costs
 * as much as twelve filters do. To store a vector of results takes the time of a few, or of ten if they are transposed; to
 * pack an element of few channels that of 36. */
enum { STORE = 4, TURN = 10, GATHER = 36 };
static double taps_seen(const ad_direct *d) { /* by a window, on average */
    double rows = 0;
    if (d->windows.padding[0] <= 0) return (double)ad_direct_k(d);
    for (int64_t i = 0; i < d->windows.count[0]; i++) {
        const ad_span seen = ad_window_seen(&d->windows, 0, ad_window_begin(&d->windows, 0, i));
        rows += (double)(seen.to - seen.from);
    }
    return rows / (double)d->windows.count[0] * (double)ad_direct_row(d);
}
static double channels_work(const ad_direct *d, double lanes) {
    const double n = (double)ad_direct_n(d), results = (double)d->results;
    const int64_t rest = d->results % d->panel;
    const bool gathers = rest > 0 && (double)rest < lanes / 2;
    const double apart = d->result != AD_SIDE_W ? TURN * results / lanes : gathers ? GATHER : 0;
    return n * (taps_seen(d) * ceil(results / lanes) + apart);
}
static double pixels_work(const ad_direct *d, double lanes) {
    const int64_t *count = d->windows.count;
    const double few = d->results < 4 ? 4 : (double)d->results; /* such tiles wait for their vectors */
    return 1.1 * (double)count[0] * ceil((double)count[1] / lanes) * taps_seen(d) * few +
           STORE * (double)ad_direct_n(d) * (double)d->results / lanes;
}
static double columns_work(const ad_direct *d, double lanes) {
    const ad_windows *v = &d->c.windows;
    const double taps = (double)d->c.channels * (double)(v->kernel[0] * v->kernel[1]), filters = (double)d->c.filters;
    return (double)(v->count[0] * v->count[1]) * (1.05 * taps * (filters / lanes + 0.75) + STORE * filters / lanes);
}

/* Whether the best way is not that of columns. */
static bool choose_way(ad_direct *d, int64_t lanes) {
    const double channels = channels_work(d, (double)lanes), pixels = pixels_work(d, (double)lanes);
    d->pixels = d->result != AD_SIDE_W && d->windows.stride[1] == 1 && pixels < channels;
    return (d->pixels ? pixels : channels) < columns_work(d, (double)lanes);
}

bool AD_NAME(direct_plan)(const ad_convolution *c, ad_side result, int threads, ad_direct *d) {
    const int64_t size = (int64_t)ad_dtype_size(c->dtype), lanes = VECTOR / size;
    *d = turned_or_not(c, result);
    const ad_windows *v = &d->windows;
    if (result == AD_SIDE_X && (v->stride[0] != 1 || v->stride[1] != 1)) return false;
    if (v->kernel[0] * v->kernel[1] == 1) return false; /* then columns are the image, or little more */
    d->panel = 2 * lanes;
    if (!choose_way(d, lanes)) return false;

    d->row = (v->count[1] - 1) * v->stride[1] + (v->kernel[1] - 1) * v->dilation[1] + 1;
    d->rows = rows_of_block(d, threads, size);
    d->blocks = (v->count[0] + d->rows - 1) / d->rows;
    const int64_t copied = (d->rows - 1) * v->stride[0] + (v->kernel[0] - 1) * v->dilation[0] + 1;
    const double copy = (double)copied * (double)d->row * (double)d->planes;
    if (copy > 0x1p20 + 4 * (double)v->size[0] * (double)v->size[1] * (double)d->planes)
        return false; /* mostly padding */
    d->plane = copied * d->row;
    d->of_copy = round_up(d->planes * d->plane + d->panel, lanes);
    const int64_t of_packing = v->kernel[0] * v->kernel[1] * d->panel;
    if (d->of_copy < of_packing) d->of_copy = of_packing;

    const int64_t k = ad_direct_k(d), n = d->rows * v->count[1];
    d->items = c->images * c->groups * d->blocks;
    d->each = d->of_copy * size;
    d->shared = bytes_of_tables(k, n);
    if (result == AD_SIDE_W) {
        cut_kernels(d, threads);
        d->items = c->groups * d->parts_of_k * d->parts_of_results;
        const int64_t panels = (d->results + d->panel - 1) / d->panel;
        const int64_t taps = (k + d->parts_of_k - 1) / d->parts_of_k;
        d->each += (n + taps * ((panels + d->parts_of_results - 1) / d->parts_of_results)) * d->panel * size;
    } else if (!d->pixels) {
        d->shared += c->groups * k * round_up(d->results, lanes) * size;
    }
    d->each = round_up(d->each, 64);
    d->shared = round_up(d->shared, 64);
    return true;
}

void AD_NAME(direct_prepare)(const ad_direct *d) {
    make_tables(d, VECTOR / (int64_t)ad_dtype_size(d->c.dtype));
    if (d->result == AD_SIDE_W || d->pixels) return;
    (d->c.dtype == AD_F32 ? pack_kernels_f32 : pack_kernels_f64)(d);
}

void AD_NAME(direct)(const void *context, int64_t from, int64_t to, int worker) {
    const ad_direct *d = context;
    if (d->c.dtype == AD_F32)
        convolve_f32(d, from, to, worker);
    else
        convolve_f64(d, from, to, worker);
}
