/* softmax, log_softmax and the cross-entropy, a row at a time, through log-sum-exp: with m the largest of x,
 * softmax(x)_i = exp(x_i - m) / s, log_softmax(x)_i = x_i - m - log s, s = sum exp(x_i - m). s is at least 1, so nothing
 * overflows or vanishes. A row of all -inf has no m; it gives zeros. */
#include "ops/kernels/elementary.h"
#include "ops/kernels/isa.h"

#include <math.h>

#define T       float
#define S(name) name##_f32
#include "ops/kernels/softmax_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/softmax_typed.h"
#undef T
#undef S

/* ---- rows of an array ------------------------------------------------------------------------------------------- */

/* The rows of up to four arrays of one shape, along `axis`; an array of rank 0 is one row of one element. */
enum { MOST = 4 };
typedef struct rows {
    ad_walk walk; /* over the first elements */
    int64_t n, stride[MOST];
} rows;

static rows rows_along(int axis, int arrays, const ad_view *const *views) {
    rows r = {.n = views[0]->shape.rank ? views[0]->shape.dim[axis] : 1};
    ad_view heads[MOST];
    const ad_view *head[MOST];
    for (int k = 0; k < arrays; k++) {
        heads[k] = *views[k];
        r.stride[k] = views[k]->shape.rank ? views[k]->stride[axis] : 1;
        if (views[k]->shape.rank) heads[k].shape.dim[axis] = 1;
        head[k] = &heads[k];
    }
    r.walk = ad_walk_start(arrays, head);
    return r;
}

#define FOR_ROWS(r)                                                                                                  \
    for (ad_walk w = (r).walk; w.more; ad_walk_next(&w))                                                             \
        for (int64_t i = 0; i < w.n; i++)
#define ROW(type, k) ((type *)(void *)w.at[k] + i * w.inner[k])

void AD_NAME(softmax)(const ad_view *x, int axis, const ad_view *y) {
    const ad_view *views[] = {x, y};
    rows r = rows_along(axis, 2, views);
    if (y->dtype == AD_F32) {
        FOR_ROWS(r) softmax_row_f32(r.n, ROW(const float, 0), r.stride[0], ROW(float, 1), r.stride[1]);
    } else {
        FOR_ROWS(r) softmax_row_f64(r.n, ROW(const double, 0), r.stride[0], ROW(double, 1), r.stride[1]);
    }
}

void AD_NAME(log_softmax)(const ad_view *x, int axis, const ad_view *y) {
    const ad_view *views[] = {x, y};
    rows r = rows_along(axis, 2, views);
    if (y->dtype == AD_F32) {
        FOR_ROWS(r) log_softmax_row_f32(r.n, ROW(const float, 0), r.stride[0], ROW(float, 1), r.stride[1]);
    } else {
        FOR_ROWS(r) log_softmax_row_f64(r.n, ROW(const double, 0), r.stride[0], ROW(double, 1), r.stride[1]);
    }
}

void AD_NAME(softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add) {
    const ad_view *views[] = {g, y, x_bar};
    rows r = rows_along(axis, 3, views);
    if (y->dtype == AD_F32) {
        FOR_ROWS(r)
        softmax_back_row_f32(r.n, ROW(const float, 0), r.stride[0], ROW(const float, 1), r.stride[1], ROW(float, 2),
                             r.stride[2], add);
    } else {
        FOR_ROWS(r)
        softmax_back_row_f64(r.n, ROW(const double, 0), r.stride[0], ROW(const double, 1), r.stride[1],
                             ROW(double, 2), r.stride[2], add);
    }
}

void AD_NAME(log_softmax_back)(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar, bool add) {
    const ad_view *views[] = {g, y, x_bar};
    rows r = rows_along(axis, 3, views);
    if (y->dtype == AD_F32) {
        FOR_ROWS(r)
        log_softmax_back_row_f32(r.n, ROW(const float, 0), r.stride[0], ROW(const float, 1), r.stride[1],
                                 ROW(float, 2), r.stride[2], add);
    } else {
        FOR_ROWS(r)
        log_softmax_back_row_f64(r.n, ROW(const double, 0), r.stride[0], ROW(const double, 1), r.stride[1],
                                 ROW(double, 2), r.stride[2], add);
    }
}

/* ---- cross-entropy ------------------------------------------------------------------------------------------------ */

/* One number per row, seen as an array of the rows' shape that does not step along the last axis. */
static ad_view per_row(const ad_view *numbers, const ad_shape *shape) {
    ad_view view = *numbers;
    view.shape = *shape;
    view.stride[shape->rank - 1] = 0;
    return view;
}

static int64_t class_of(const ad_view *target, const char *at, int64_t i) {
    return target->dtype == AD_I32 ? ((const int32_t *)(const void *)at)[i] : ((const int64_t *)(const void *)at)[i];
}

void AD_NAME(softmax_xent)(const ad_view *x, const ad_view *target, const ad_view *loss, const ad_view *p) {
    bool soft = ad_dtype_is_float(target->dtype);
    ad_view losses = per_row(loss, &x->shape), targets = soft ? *target : per_row(target, &x->shape);
    const ad_view *views[] = {x, p, &targets, &losses};
    rows r = rows_along(x->shape.rank - 1, 4, views);
    if (x->dtype == AD_F32) {
        FOR_ROWS(r)
        *ROW(float, 3) = soft ? xent_soft_row_f32(r.n, ROW(const float, 0), r.stride[0], ROW(const float, 2),
                                                  r.stride[2], ROW(float, 1))
                              : xent_row_f32(r.n, ROW(const float, 0), r.stride[0],
                                             class_of(target, w.at[2], i * w.inner[2]), ROW(float, 1));
    } else {
        FOR_ROWS(r)
        *ROW(double, 3) = soft ? xent_soft_row_f64(r.n, ROW(const double, 0), r.stride[0], ROW(const double, 2),
                                                   r.stride[2], ROW(double, 1))
                               : xent_row_f64(r.n, ROW(const double, 0), r.stride[0],
                                              class_of(target, w.at[2], i * w.inner[2]), ROW(double, 1));
    }
}

void AD_NAME(softmax_xent_back)(const ad_view *g, const ad_view *p, const ad_view *target, const ad_view *x_bar,
                                bool add) {
    bool soft = ad_dtype_is_float(target->dtype);
    ad_view seeds = per_row(g, &p->shape), targets = soft ? *target : per_row(target, &p->shape);
    const ad_view *views[] = {p, &targets, x_bar, &seeds};
    rows r = rows_along(p->shape.rank - 1, 4, views);
    if (p->dtype == AD_F32) {
        FOR_ROWS(r) {
            const float seed = *ROW(const float, 3);
            if (soft)
                xent_soft_back_row_f32(r.n, seed, ROW(const float, 0), ROW(const float, 1), r.stride[1],
                                       ROW(float, 2), add);
            else
                xent_back_row_f32(r.n, seed, ROW(const float, 0), class_of(target, w.at[1], i * w.inner[1]),
                                  ROW(float, 2), add);
        }
    } else {
        FOR_ROWS(r) {
            const double seed = *ROW(const double, 3);
            if (soft)
                xent_soft_back_row_f64(r.n, seed, ROW(const double, 0), ROW(const double, 1), r.stride[1],
                                       ROW(double, 2), add);
            else
                xent_back_row_f64(r.n, seed, ROW(const double, 0), class_of(target, w.at[1], i * w.inner[1]),
                                  ROW(double, 2), add);
        }
    }
}
