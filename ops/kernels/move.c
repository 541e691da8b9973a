/* Moving elements to where indices say. */
#include "ops/kernels/move.h"
#include "ops/kernels/pieces.h"

#include <string.h>

enum { LONG_ROWS = 8192, SHORT_ROWS = 1024 }; /* elements that take a microsecond or two */

static inline int64_t index_at(const ad_view *index, const char *at, int64_t i) {
    return index->dtype == AD_I32 ? ((const int32_t *)(const void *)at)[i] : ((const int64_t *)(const void *)at)[i];
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* What is done with a run of n elements; steps in elements. */
typedef void run_function(int64_t n, const char *from, int64_t from_step, char *to, int64_t to_step);

#define COPY(name, type)                                                                                             \
    static void name(int64_t n, const char *from, int64_t from_step, char *to, int64_t to_step) {                    \
        const type *x = (const void *)from;                                                                          \
        type *y = (void *)to;                                                                                        \
        if (from_step == 1 && to_step == 1) {                                                                        \
            memcpy(y, x, (size_t)n * sizeof *y);                                                                     \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) y[i * to_step] = x[i * from_step];                                       \
        }                                                                                                            \
    }
COPY(copy_4, uint32_t)
COPY(copy_8, uint64_t)

#define ADD(name, type)                                                                                              \
    static void name(int64_t n, const char *from, int64_t from_step, char *to, int64_t to_step) {                    \
        const type *x = (const void *)from;                                                                          \
        type *y = (void *)to;                                                                                        \
        if (from_step == 1 && to_step == 1) {                                                                        \
            for (int64_t i = 0; i < n; i++) y[i] += x[i];                                                            \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) y[i * to_step] += x[i * from_step];                                      \
        }                                                                                                            \
    }
ADD(add_f32, float)
ADD(add_f64, double)

static ad_view some_axes(const ad_view *view, int first, int count) {
    ad_view part = *view;
    part.shape.rank = count;
    for (int i = 0; i < count; i++) {
        part.shape.dim[i] = view->shape.dim[first + i];
        part.stride[i] = view->stride[first + i];
    }
    return part;
}

/* `row` is a walk over one row of both arrays, to be begun at these places. */
static inline __attribute__((always_inline)) void each_run(const ad_walk *row, char *from, char *to,
                                                           run_function *run) {
    if (row->rank == 0 && row->n == 1) {
        run(1, from, 0, to, 0);
        return;
    }
    if (row->rank == 0) {
        run(row->n, from, row->inner[0], to, row->inner[1]);
        return;
    }
    ad_walk w = *row;
    w.at[0] = from;
    w.at[1] = to;
    for (; w.more; ad_walk_next(&w)) run(w.n, w.at[0], w.inner[0], w.at[1], w.inner[1]);
}

/* Pairs the rows of x that the index names with those of y, in row-major order of y; x_first: they run from x to y. Inlined
 * with `run`, because a row may be a single element. */
static inline __attribute__((always_inline)) void each_row(const ad_view *x, int axis, const ad_view *index,
                                                           const ad_view *y, bool x_first, run_function *run) {
    const int named = index->shape.rank, rest = x->shape.rank - axis - 1;
    const int64_t size = (int64_t)ad_dtype_size(x->dtype), step = x->stride[axis] * size;
    ad_view x_outer = some_axes(x, 0, axis), y_outer = some_axes(y, 0, axis), y_named = some_axes(y, axis, named),
            x_row = some_axes(x, axis + 1, rest), y_row = some_axes(y, axis + named, rest);
    const ad_view *outer[] = {&x_outer, &y_outer}, *places[] = {index, &y_named},
                  *rows[] = {x_first ? &x_row : &y_row, x_first ? &y_row : &x_row};
    const ad_walk row = ad_walk_start(2, rows);
    if (!row.more) return;
    for (ad_walk o = ad_walk_start(2, outer); o.more; ad_walk_next(&o)) {
        for (int64_t i = 0; i < o.n; i++) {
            char *x_at = o.at[0] + i * o.inner[0] * size;
            y_named.data = o.at[1] + i * o.inner[1] * size;
            for (ad_walk w = ad_walk_start(2, places); w.more; ad_walk_next(&w)) {
                for (int64_t j = 0; j < w.n; j++) {
                    char *of_x = x_at + index_at(index, w.at[0], j * w.inner[0]) * step,
                         *of_y = w.at[1] + j * w.inner[1] * size;
                    each_run(&row, x_first ? of_x : of_y, x_first ? of_y : of_x, run);
                }
            }
        }
    }
}

/* One request, to be cut along the axes of y: those before `axis`, those of the index, those of a row. */
typedef struct named_rows {
    int axis;
    const ad_view *x, *index;
    bool add; /* from y to x */
} named_rows;

static ad_view with_data(const ad_view *view, void *data) {
    ad_view y = *view;
    y.data = data;
    return y;
}

/* Axes of a view, or of length 1, in the places where y has them. */
static ad_view seen_from_y(const ad_view *x, const ad_view *y, int axis, int named) {
    ad_view seen = with_data(x, x->data);
    seen.shape = y->shape;
    for (int i = 0; i < y->shape.rank; i++) {
        const int from = i < axis ? i : i < axis + named ? -1 : i - named + 1;
        seen.shape.dim[i] = from < 0 ? 1 : x->shape.dim[from];
        seen.stride[i] = from < 0 ? 0 : x->stride[from];
    }
    return seen;
}
static ad_view index_seen_from_y(const ad_view *index, const ad_view *y, int axis) {
    ad_view seen = with_data(index, index->data);
    seen.shape = y->shape;
    for (int i = 0; i < y->shape.rank; i++) {
        const bool named = i >= axis && i < axis + index->shape.rank;
        seen.shape.dim[i] = named ? index->shape.dim[i - axis] : 1;
        seen.stride[i] = named ? index->stride[i - axis] : 0;
    }
    return seen;
}

static void rows_piece(const ad_view *const *v, const void *options) {
    const named_rows *r = options;
    const int named = r->index->shape.rank;
    ad_view index = with_data(r->index, v[1]->data), x = with_data(r->x, v[2]->data);
    for (int i = 0; i < named; i++) index.shape.dim[i] = v[1]->shape.dim[r->axis + i];
    for (int i = 0; i < x.shape.rank; i++)
        if (i != r->axis) x.shape.dim[i] = v[2]->shape.dim[i < r->axis ? i : i - 1 + named];
    if (r->add && x.dtype == AD_F32)
        each_row(&x, r->axis, &index, v[0], false, add_f32);
    else if (r->add)
        each_row(&x, r->axis, &index, v[0], false, add_f64);
    else if (ad_dtype_size(x.dtype) == 4)
        each_row(&x, r->axis, &index, v[0], true, copy_4);
    else
        each_row(&x, r->axis, &index, v[0], true, copy_8);
}

/* Of y any axis may be cut, of x none that the index names: several may name one row. */
static void share_rows(const named_rows *r, const ad_view *y) {
    const int64_t rows = ad_view_count(r->index), grain = ad_view_count(y) / 16 > rows ? LONG_ROWS : SHORT_ROWS;
    const ad_view index = index_seen_from_y(r->index, y, r->axis),
                  x = seen_from_y(r->x, y, r->axis, r->index->shape.rank);
    ad_in_pieces(r->add ? 3 : 4, (const ad_view *[]){y, &index, &x, y}, AD_EVERY_AXIS, grain, rows_piece, r);
}

void ad_kernel_take_rows(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    share_rows(&(named_rows){axis, x, index, false}, y);
}

void ad_kernel_add_rows(const ad_view *y, int axis, const ad_view *index, const ad_view *x) {
    share_rows(&(named_rows){axis, x, index, true}, y);
}

/* ---- elements ---------------------------------------------------------------------------------------------------- */

/* `y` as it is seen from the index's elements: the index's shape, and no step along the axis, where the index decides. */
static ad_view seen_from_index(const ad_view *y, int axis, const ad_view *index) {
    ad_view seen = *y;
    seen.shape = index->shape;
    seen.stride[axis] = 0;
    return seen;
}

void ad_kernel_scatter(const ad_view *x, int axis, const ad_view *index, const ad_view *y, int64_t *owner,
                       const ad_view *kept) {
    ad_view to = seen_from_index(y, axis, index);
    const ad_view *writing[] = {index, &to, x}, *reading[] = {index, &to, kept};
    const int64_t size = (int64_t)ad_dtype_size(y->dtype), step = y->stride[axis];
    int64_t position = 0;
    for (ad_walk w = ad_walk_start(3, writing); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            char *at = w.at[1] + (i * w.inner[1] + index_at(index, w.at[0], i * w.inner[0]) * step) * size;
            memcpy(at, w.at[2] + i * w.inner[2] * size, (size_t)size);
            owner[(at - (char *)y->data) / size] = position++;
        }
    }
    position = 0;
    for (ad_walk w = ad_walk_start(3, reading); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            char *at = w.at[1] + (i * w.inner[1] + index_at(index, w.at[0], i * w.inner[0]) * step) * size;
            ((int32_t *)(void *)w.at[2])[i * w.inner[2]] = owner[(at - (char *)y->data) / size] == position++;
        }
    }
}

#define LOOP_MAX(type)                                                                                               \
    for (; w.more; ad_walk_next(&w)) {                                                                               \
        for (int64_t i = 0; i < w.n; i++) {                                                                          \
            const int64_t k = index_at(index, w.at[0], i * w.inner[0]);                                              \
            const type value = ((const type *)(void *)w.at[2])[i * w.inner[2]];                                      \
            type *most = (type *)(void *)w.at[1] + i * w.inner[1] + k * step;                                        \
            if (value > *most || value != value) *most = value;                                                      \
        }                                                                                                            \
    }

void ad_kernel_scatter_max(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    ad_view to = seen_from_index(y, axis, index);
    const ad_view *views[] = {index, &to, x};
    const int64_t step = y->stride[axis];
    ad_walk w = ad_walk_start(3, views);
    if (y->dtype == AD_F32) {
        LOOP_MAX(float)
    } else {
        LOOP_MAX(double)
    }
}

/* ---- making indices ---------------------------------------------------------------------------------------------- */

void ad_kernel_add_index(const ad_view *index, int64_t factor, const ad_view *y) {
    const ad_view *views[] = {index, y};
    for (ad_walk w = ad_walk_start(2, views); w.more; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            ((int64_t *)(void *)w.at[1])[i * w.inner[1]] += factor * index_at(index, w.at[0], i * w.inner[0]);
}

void ad_kernel_one_hot(const ad_view *index, const ad_view *y) {
    const int64_t classes = y->shape.dim[y->shape.rank - 1], size = (int64_t)ad_dtype_size(y->dtype);
    char *row = y->data;
    if (ad_view_count(y) == 0) return;
    memset(y->data, 0, (size_t)(ad_view_count(y) * size)); /* 0 in every dtype */
    for (ad_walk w = ad_walk_start(1, &index); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++, row += classes * size)
            ad_element_set(row + index_at(index, w.at[0], i * w.inner[0]) * size, y->dtype, 1);
    }
}

void ad_kernel_nonzero(const ad_view *x, const ad_view *y) {
    const int64_t size = (int64_t)ad_dtype_size(x->dtype);
    int64_t position = 0, *found = y->data;
    for (ad_walk w = ad_walk_start(1, &x); w.more; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++, position++)
            if (ad_element_get(w.at[0] + i * w.inner[0] * size, x->dtype) != 0) *found++ = position;
}
