/* Sums. Everything accumulates in double, in an order that does not depend on the machine: blocks of neighbours, in eight
 * lanes, and then blocks in pairs, pairs of pairs, and so on, so that the error grows with the logarithm of their number. */
#include "ops/kernels/isa.h"

#include <string.h>

enum {
    LANES = 8,
    ROW_BLOCK = 1024, /* elements of a row that are summed in lanes */
    TALL_BLOCK = 256, /* rows that are added to each other */
    WIDE_BLOCK = 128, /* and how many columns of them at a time */
    LEVELS = 52       /* of pairs of pairs: more blocks than memory can hold */
};

/* ---- pairs of pairs ---------------------------------------------------------------------------------------------- */

/* `part` holds, for each bit of the number of blocks so far, the sum of so many blocks; `width` sums side by side. Adds
 * another block, as a binary counter counts. */
static void add_block(double *part, uint64_t blocks, double *restrict sum, int64_t width) {
    for (; blocks & 1; blocks >>= 1, part += width)
        for (int64_t i = 0; i < width; i++) sum[i] += part[i];
    memcpy(part, sum, (size_t)width * sizeof *sum);
}

static void add_up_blocks(const double *part, uint64_t blocks, double *restrict sum, int64_t width) {
    memset(sum, 0, (size_t)width * sizeof *sum);
    for (; blocks; blocks >>= 1, part += width)
        for (int64_t i = 0; i < width && (blocks & 1); i++) sum[i] += part[i];
}

/* One sum. */
typedef struct total {
    uint64_t blocks;
    double part[LEVELS];
} total;

static double total_of(const total *t) {
    double sum;
    add_up_blocks(t->part, t->blocks, &sum, 1);
    return sum;
}

/* ---- inner loops ------------------------------------------------------------------------------------------------- */

#define PLAIN(x)  (double)(x)
#define SQUARE(x) (double)(x) * (double)(x)

#define DEFINE_ROW_SUM(T, name, TERM)                                                                                \
    static double name##_block(const T *x, int64_t n, int64_t stride) {                                              \
        double lane[LANES] = {0}, sum = 0;                                                                           \
        int64_t i = 0;                                                                                               \
        if (stride == 1) {                                                                                           \
            for (; i + LANES <= n; i += LANES)                                                                       \
                for (int k = 0; k < LANES; k++) lane[k] += TERM(x[i + k]);                                           \
        }                                                                                                            \
        for (; i < n; i++) lane[i % LANES] += TERM(x[i * stride]);                                                   \
        for (int k = 0; k < LANES; k++) sum += lane[k];                                                              \
        return sum;                                                                                                  \
    }                                                                                                                \
    static void name(total *t, const T *x, int64_t n, int64_t stride) {                                              \
        for (int64_t first = 0; first < n; first += ROW_BLOCK) {                                                     \
            int64_t length = n - first < ROW_BLOCK ? n - first : ROW_BLOCK;                                          \
            double sum = name##_block(x + first * stride, length, stride);                                           \
            add_block(t->part, t->blocks++, &sum, 1);                                                                \
        }                                                                                                            \
    }
DEFINE_ROW_SUM(float, row_sum_f32, PLAIN)
DEFINE_ROW_SUM(double, row_sum_f64, PLAIN)
DEFINE_ROW_SUM(float, row_squares_f32, SQUARE)
DEFINE_ROW_SUM(double, row_squares_f64, SQUARE)

#define DEFINE_SUMS(T, S)                                                                                            \
    static void add_row_##S(double *restrict sum, const T *restrict x, int64_t n, int64_t stride) {                  \
        if (stride == 1) {                                                                                           \
            for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i];                                                  \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i * stride];                                         \
        }                                                                                                            \
    }                                                                                                                \
    static void store_##S(T *y, double sum, double divisor, bool add) {                                                \
        const double value = sum / divisor;                                                                            \
        *y = (T)(add ? (double)*y + value : value);                                                                  \
    }
DEFINE_SUMS(float, f32)
DEFINE_SUMS(double, f64)

static void row_sum(ad_dtype dtype, total *t, const void *x, int64_t n, int64_t stride) {
    if (dtype == AD_F32) {
        row_sum_f32(t, x, n, stride);
    } else {
        row_sum_f64(t, x, n, stride);
    }
}

static void add_row(ad_dtype dtype, double *sum, const void *x, int64_t n, int64_t stride) {
    if (dtype == AD_F32) {
        add_row_f32(sum, x, n, stride);
    } else {
        add_row_f64(sum, x, n, stride);
    }
}

static void store(ad_dtype dtype, void *y, double sum, double divisor, bool add) {
    if (dtype == AD_F32) {
        store_f32(y, sum, divisor, add);
    } else {
        store_f64(y, sum, divisor, add);
    }
}

/* The axes of x and y apart: those that stay, in both, and those that x is summed over. */
typedef struct split {
    ad_view x_kept, y_kept, x_summed;
    bool last_is_summed; /* of the axes that are longer than 1 */
} split;

static void append_axis(ad_view *view, int64_t n, int64_t stride) {
    view->shape.dim[view->shape.rank] = n;
    view->stride[view->shape.rank++] = stride;
}

static split split_axes(const ad_view *x, const ad_view *y) {
    split s = {.x_kept = {.data = x->data, .dtype = x->dtype},
               .y_kept = {.data = y->data, .dtype = y->dtype},
               .x_summed = {.data = x->data, .dtype = x->dtype}};
    int missing = x->shape.rank - y->shape.rank;
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t n = x->shape.dim[i];
        if (i < missing || (y->shape.dim[i - missing] == 1 && n != 1)) {
            append_axis(&s.x_summed, n, x->stride[i]);
            if (n != 1) s.last_is_summed = true;
        } else {
            append_axis(&s.x_kept, n, x->stride[i]);
            append_axis(&s.y_kept, n, y->stride[i - missing]);
            if (n != 1) s.last_is_summed = false;
        }
    }
    return s;
}

/* Every result is the sum of rows that lie along the last axis. */
static void sum_rows(const split *s, double divisor, bool add) {
    ad_dtype dtype = s->y_kept.dtype;
    int64_t size = (int64_t)ad_dtype_size(dtype);
    const ad_view *kept[] = {&s->x_kept, &s->y_kept}, *summed = &s->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    for (ad_walk w = ad_walk_start(2, kept); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            const char *x = w.at[0] + i * w.inner[0] * size;
            total t;
            t.blocks = 0;
            ad_walk r = rows;
            for (r.at[0] = (char *)(uintptr_t)x; r.more; ad_walk_next(&r))
                row_sum(dtype, &t, r.at[0], r.n, r.inner[0]);
            store(dtype, w.at[1] + i * w.inner[1] * size, total_of(&t), divisor, add);
        }
    }
}

/* Rows are added to each other, a block of columns at a time. */
static void add_rows(const split *s, double divisor, bool add) {
    ad_dtype dtype = s->y_kept.dtype;
    int64_t size = (int64_t)ad_dtype_size(dtype);
    const ad_view *kept[] = {&s->x_kept, &s->y_kept}, *summed = &s->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    double sum[WIDE_BLOCK], part[LEVELS * WIDE_BLOCK];
    for (ad_walk w = ad_walk_start(2, kept); w.more; ad_walk_next(&w)) {
        for (int64_t first = 0; first < w.n; first += WIDE_BLOCK) {
            int64_t n = w.n - first < WIDE_BLOCK ? w.n - first : WIDE_BLOCK, row = 0;
            memset(sum, 0, sizeof sum);
            ad_walk r = rows;
            for (r.at[0] = w.at[0] + first * w.inner[0] * size; r.more; ad_walk_next(&r)) {
                for (int64_t k = 0; k < r.n; k++, row++) {
                    if (row > 0 && row % TALL_BLOCK == 0) {
                        add_block(part, (uint64_t)(row / TALL_BLOCK - 1), sum, n);
                        memset(sum, 0, sizeof sum);
                    }
                    add_row(dtype, sum, r.at[0] + k * r.inner[0] * size, n, w.inner[0]);
                }
            }
            if (row > TALL_BLOCK) {
                uint64_t blocks = (uint64_t)((row - 1) / TALL_BLOCK);
                add_block(part, blocks, sum, n);
                add_up_blocks(part, blocks + 1, sum, n);
            }
            for (int64_t i = 0; i < n; i++)
                store(dtype, w.at[1] + (first + i) * w.inner[1] * size, sum[i], divisor, add);
        }
    }
}

void AD_NAME(sum_to)(const ad_view *x, const ad_view *y, double divisor, bool add) {
    split s = split_axes(x, y);
    if (ad_view_count(x) == 0) {
        /* What is summed is empty, what stays may not be. */
        int64_t size = (int64_t)ad_dtype_size(y->dtype);
        for (ad_walk w = ad_walk_start(1, &y); w.more; ad_walk_next(&w))
            for (int64_t i = 0; i < w.n; i++) store(y->dtype, w.at[0] + i * w.inner[0] * size, 0.0, divisor, add);
        return;
    }
    if (s.last_is_summed) {
        sum_rows(&s, divisor, add);
    } else {
        add_rows(&s, divisor, add);
    }
}

double AD_NAME(sum_of_squares)(const ad_view *x) {
    total t;
    t.blocks = 0;
    for (ad_walk w = ad_walk_start(1, &x); w.more; ad_walk_next(&w)) {
        if (x->dtype == AD_F32) {
            row_squares_f32(&t, (const float *)(void *)w.at[0], w.n, w.inner[0]);
        } else {
            row_squares_f64(&t, (const double *)(void *)w.at[0], w.n, w.inner[0]);
        }
    }
    return total_of(&t);
}

/* x - x is 0 for a number, NaN for an infinity or a NaN: no branch, so it runs at the speed of memory. */
#define DEFINE_FINITE(T, S)                                                                                          \
    static bool row_finite_##S(const T *x, int64_t n, int64_t stride) {                                              \
        int bad = 0;                                                                                                 \
        if (stride == 1) {                                                                                           \
            for (int64_t i = 0; i < n; i++) bad |= x[i] - x[i] != (T)0;                                              \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) bad |= x[i * stride] - x[i * stride] != (T)0;                            \
        }                                                                                                            \
        return !bad;                                                                                                 \
    }
DEFINE_FINITE(float, f32)
DEFINE_FINITE(double, f64)

bool AD_NAME(all_finite)(const ad_view *x) {
    for (ad_walk w = ad_walk_start(1, &x); w.more; ad_walk_next(&w))
        if (!(x->dtype == AD_F32 ? row_finite_f32((const void *)w.at[0], w.n, w.inner[0])
                                 : row_finite_f64((const void *)w.at[0], w.n, w.inner[0])))
            return false;
    return true;
}
