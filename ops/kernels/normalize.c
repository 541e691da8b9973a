/* Standardizing the rows of an array, which lie along any of its axes: the mean is taken off and the standard deviation
 * divided by (or the root of the mean square alone). With r = 1 / sqrt(square + epsilon), n elements in a row, and h = g w:
 *
 *     y     = (x - mean) r w + b
 *     x_bar = r h - r sum(h) / n - (x - mean) r^3 sum(h (x - mean)) / n
 *
 * and, for the cotangents of the mean and the square themselves, mean_bar / n + 2 square_bar (x - mean) / n. */
#include "ops/kernels/elementary.h"
#include "ops/kernels/isa.h"

#include <math.h>

/* 0 of 0: a row of equal elements, without epsilon, becomes zeros, and gets a gradient of 0. */
static double inverse_root(double x) { return x == 0 ? 0 : 1 / sqrt(x); }

#define T       float
#define S(name) name##_f32
#include "ops/kernels/normalize_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/normalize_typed.h"
#undef T
#undef S

/* ---- rows -------------------------------------------------------------------------------------------------------- */

enum { ARRAYS = 11 };

typedef void row_function(const ad_standardize *row);

/* `row` begins with the first row and is moved on as a counter counts, the last axis first. */
static void for_each_row(const ad_standardize *all, row_function *f) {
    ad_standardize row = *all;
    ad_view *array[ARRAYS] = {&row.x, &row.w,        &row.b,          &row.y,     &row.mean,   &row.square,
                              &row.g, &row.mean_bar, &row.square_bar, &row.x_bar, &row.product};
    const ad_shape *shape = &all->x.shape;
    const int64_t size = (int64_t)ad_dtype_size(all->x.dtype);
    int64_t at[AD_MAX_RANK] = {0};
    for (int i = 0; i < shape->rank; i++) {
        if (all->reduced & 1u << i) continue;
        if (shape->dim[i] == 0) return;
        for (int k = 0; k < ARRAYS; k++) array[k]->shape.dim[i] = 1;
    }
    for (;;) {
        f(&row);
        int i = shape->rank - 1;
        for (; i >= 0; i--) {
            if (all->reduced & 1u << i) continue;
            int64_t step = 1;
            if (++at[i] == shape->dim[i]) {
                step = 1 - shape->dim[i];
                at[i] = 0;
            }
            for (int k = 0; k < ARRAYS; k++)
                if (array[k]->data) array[k]->data = (char *)array[k]->data + step * array[k]->stride[i] * size;
            if (at[i] != 0) break;
        }
        if (i < 0) return;
    }
}

void AD_NAME(standardize)(const ad_standardize *s) {
    for_each_row(s, s->x.dtype == AD_F32 ? standardize_row_f32 : standardize_row_f64);
}

void AD_NAME(standardize_back)(const ad_standardize *s) {
    for_each_row(s, s->x.dtype == AD_F32 ? standardize_back_row_f32 : standardize_back_row_f64);
}
