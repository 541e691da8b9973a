/* Sums. Everything accumulates in double, in eight lanes whose order does not depend on the machine. */
#include "ops/kernels/isa.h"

#include <string.h>

enum { LANES = 8, BLOCK = 256 };

#define DEFINE_SUMS(T, S)                                                                                            \
    static double row_sum_##S(const T *x, int64_t n, int64_t stride) {                                               \
        double lane[LANES] = {0}, sum = 0;                                                                           \
        int64_t i = 0;                                                                                               \
        if (stride == 1) {                                                                                           \
            for (; i + LANES <= n; i += LANES)                                                                       \
                for (int k = 0; k < LANES; k++) lane[k] += (double)x[i + k];                                         \
        }                                                                                                            \
        for (; i < n; i++) lane[i % LANES] += (double)x[i * stride];                                                 \
        for (int k = 0; k < LANES; k++) sum += lane[k];                                                              \
        return sum;                                                                                                  \
    }                                                                                                                \
    static void add_row_##S(double *restrict sum, const T *restrict x, int64_t n, int64_t stride) {                  \
        if (stride == 1) {                                                                                           \
            for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i];                                                  \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) sum[i] += (double)x[i * stride];                                         \
        }                                                                                                            \
    }                                                                                                                \
    static void store_##S(T *y, double sum, double scale, bool add) {                                                \
        const double value = scale * sum;                                                                            \
        *y = (T)(add ? (double)*y + value : value);                                                                  \
    }
DEFINE_SUMS(float, f32)
DEFINE_SUMS(double, f64)

static double row_sum(ad_dtype dtype, const void *x, int64_t n, int64_t stride) {
    return dtype == AD_F32 ? row_sum_f32(x, n, stride) : row_sum_f64(x, n, stride);
}

static void store(ad_dtype dtype, void *y, double sum, double scale, bool add) {
    if (dtype == AD_F32) {
        store_f32(y, sum, scale, add);
    } else {
        store_f64(y, sum, scale, add);
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
static void sum_rows(const split *s, double scale, bool add) {
    ad_dtype dtype = s->y_kept.dtype;
    int64_t size = (int64_t)ad_dtype_size(dtype);
    const ad_view *kept[] = {&s->x_kept, &s->y_kept}, *summed = &s->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    for (ad_walk w = ad_walk_start(2, kept); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            const char *x = w.at[0] + i * w.inner[0] * size;
            double sum = 0;
            ad_walk r = rows;
            for (r.at[0] = (char *)(uintptr_t)x; r.more; ad_walk_next(&r))
                sum += row_sum(dtype, r.at[0], r.n, r.inner[0]);
            store(dtype, w.at[1] + i * w.inner[1] * size, sum, scale, add);
        }
    }
}

/* Rows are added to each other, a block of columns at a time. */
static void add_rows(const split *s, double scale, bool add) {
    ad_dtype dtype = s->y_kept.dtype;
    int64_t size = (int64_t)ad_dtype_size(dtype);
    const ad_view *kept[] = {&s->x_kept, &s->y_kept}, *summed = &s->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    double sum[BLOCK];
    for (ad_walk w = ad_walk_start(2, kept); w.more; ad_walk_next(&w)) {
        for (int64_t first = 0; first < w.n; first += BLOCK) {
            int64_t n = w.n - first < BLOCK ? w.n - first : BLOCK;
            memset(sum, 0, sizeof sum);
            ad_walk r = rows;
            for (r.at[0] = w.at[0] + first * w.inner[0] * size; r.more; ad_walk_next(&r)) {
                for (int64_t k = 0; k < r.n; k++) {
                    const void *x = r.at[0] + k * r.inner[0] * size;
                    if (dtype == AD_F32) {
                        add_row_f32(sum, x, n, w.inner[0]);
                    } else {
                        add_row_f64(sum, x, n, w.inner[0]);
                    }
                }
            }
            for (int64_t i = 0; i < n; i++)
                store(dtype, w.at[1] + (first + i) * w.inner[1] * size, sum[i], scale, add);
        }
    }
}

void AD_NAME(sum_to)(const ad_view *x, const ad_view *y, double scale, bool add) {
    split s = split_axes(x, y);
    if (ad_view_count(x) == 0) {
        /* What is summed is empty, what stays may not be. */
        int64_t size = (int64_t)ad_dtype_size(y->dtype);
        for (ad_walk w = ad_walk_start(1, &y); w.more; ad_walk_next(&w))
            for (int64_t i = 0; i < w.n; i++) store(y->dtype, w.at[0] + i * w.inner[0] * size, 0.0, scale, add);
        return;
    }
    if (s.last_is_summed) {
        sum_rows(&s, scale, add);
    } else {
        add_rows(&s, scale, add);
    }
}

#define DEFINE_SQUARES(T, S)                                                                                         \
    static double row_squares_##S(const T *x, int64_t n, int64_t stride) {                                           \
        double lane[LANES] = {0}, sum = 0;                                                                           \
        int64_t i = 0;                                                                                               \
        if (stride == 1) {                                                                                           \
            for (; i + LANES <= n; i += LANES)                                                                       \
                for (int k = 0; k < LANES; k++) lane[k] += (double)x[i + k] * (double)x[i + k];                      \
        }                                                                                                            \
        for (; i < n; i++) lane[i % LANES] += (double)x[i * stride] * (double)x[i * stride];                         \
        for (int k = 0; k < LANES; k++) sum += lane[k];                                                              \
        return sum;                                                                                                  \
    }
DEFINE_SQUARES(float, f32)
DEFINE_SQUARES(double, f64)

double AD_NAME(sum_of_squares)(const ad_view *x) {
    double total = 0;
    for (ad_walk w = ad_walk_start(1, &x); w.more; ad_walk_next(&w))
        total += x->dtype == AD_F32 ? row_squares_f32((const void *)w.at[0], w.n, w.inner[0])
                                    : row_squares_f64((const void *)w.at[0], w.n, w.inner[0]);
    return total;
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
