/* The transforms whose results are whole matrices of derivatives: one walk for each row or column, over one recording. */
#include "autodiff/transform/transform.h"

#include <string.h>

ad_var ad_unit_at(const char *where, ad_var like, int64_t element) {
    ad_shape shape = ad_var_shape(like);
    ad_dtype dtype = ad_var_dtype(like);
    ad_var unit = ad_tape_filled(like.tape, where, &ad_leaf_constant, dtype, &shape, 0.0);
    if (like.tape->error.status) return unit;
    ad_view scratch;
    const ad_view *view = ad_node_view(ad_node_at(like.tape, unit.index), &scratch);
    ad_element_set((char *)view->data + element * (int64_t)ad_dtype_size(dtype), dtype, 1);
    return unit;
}

static int64_t elements(int n, const ad_var *x) {
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += ad_var_count(x[i]);
    return sum;
}

static bool check_rank(const ad_frame *frame, ad_var y, ad_var x) {
    ad_shape rows = ad_var_shape(y), columns = ad_var_shape(x);
    if (rows.rank + columns.rank <= AD_MAX_RANK) return true;
    char of[AD_TYPE_TEXT], by[AD_TYPE_TEXT];
    ad_tape_fail(frame->tape, AD_ERR_LIMIT, frame->self->transform->name, frame->where,
                 "the derivative of %s by %s has %d axes, but there are at most %d: reshape input or output",
                 ad_type_text(ad_var_dtype(y), &rows, of), ad_type_text(ad_var_dtype(x), &columns, by),
                 rows.rank + columns.rank, AD_MAX_RANK);
    return false;
}

static ad_shape derivative_shape(ad_var y, ad_var x) {
    ad_shape shape = ad_var_shape(y), columns = ad_var_shape(x);
    for (int i = 0; i < columns.rank; i++) shape.dim[shape.rank++] = columns.dim[i];
    return shape;
}

/* The derivative of y by x from its rows (axis 0) or columns (axis 1), each in a row. */
static ad_var assembled(const ad_frame *frame, ad_var y, ad_var x, int64_t count, const ad_var *parts, int axis) {
    const ad_shape shape = derivative_shape(y, x);
    if (count == 0) return ad_tape_filled(frame->tape, frame->where, &ad_leaf_constant, ad_var_dtype(y), &shape, 0.0);
    return ad_reshape_at(frame->where, ad_stack_at(frame->where, (int)count, parts, axis), shape);
}

/* On numbers, of output y by all inputs: constants of the shape y + x that walks for many rows at once fill. */
static void compute_rows(ad_frame *frame, ad_var y, ad_var *out) {
    ad_tape *tape = frame->tape;
    const int64_t rows = ad_var_count(y), batch = ad_batch_seeds(y);
    const int n = frame->n;
    double *units = ad_frame_take(frame, batch * rows, sizeof *units);
    ad_view *block = ad_frame_take(frame, n, sizeof *block), scratch;
    for (int i = 0; i < n && !tape->error.status; i++) {
        const ad_shape shape = derivative_shape(y, frame->x[i]);
        const ad_dtype dtype = ad_var_dtype(rows ? frame->x[i] : y);
        out[i] = ad_tape_filled(tape, frame->where, &ad_leaf_constant, dtype, &shape, 0.0);
    }
    if (tape->error.status) return;
    memset(units, 0, (size_t)(batch * rows) * sizeof *units);
    for (int64_t first = 0; first < rows && !tape->error.status; first += batch) {
        const int64_t count = rows - first < batch ? rows - first : batch;
        const ad_view y_bar = ad_view_of(units, AD_F64, AD_SHAPE(count, rows));
        for (int i = 0; i < n; i++) {
            const ad_view *all = ad_node_view(ad_node_at(tape, out[i].index), &scratch);
            const int64_t columns = ad_var_count(frame->x[i]);
            char *data = (char *)all->data + first * columns * (int64_t)ad_dtype_size(all->dtype);
            block[i] = ad_view_of(data, all->dtype, AD_SHAPE(count, columns));
        }
        for (int64_t k = 0; k < count; k++) units[k * rows + first + k] = 1;
        ad_backward_batch_at(frame->where, y, &y_bar, n, frame->x, block);
        for (int64_t k = 0; k < count; k++) units[k * rows + first + k] = 0;
    }
}

/* Of output y by all inputs. */
static void by_rows(ad_frame *frame, ad_var y, ad_var *out) {
    int64_t rows = ad_var_count(y);
    int n = frame->n;
    ad_var *row = ad_frame_take(frame, n, sizeof *row), *parts = ad_frame_take(frame, n * rows, sizeof *parts);
    for (int64_t e = 0; e < rows && row && parts && !frame->tape->error.status; e++) {
        ad_frame_pull(frame, y, ad_unit_at(frame->where, y, e), row);
        for (int i = 0; i < n; i++) parts[i * rows + e] = ad_reshape_at(frame->where, row[i], AD_SHAPE(-1));
    }
    for (int i = 0; i < n && !frame->tape->error.status; i++)
        out[i] = assembled(frame, y, frame->x[i], rows, parts + i * rows, 0);
}

/* Of all outputs by input number i. */
static void by_columns(ad_frame *frame, int i, ad_var *out) {
    ad_var x = frame->x[i];
    int64_t columns = ad_var_count(x);
    int m = frame->m;
    ad_var *column = ad_frame_take(frame, m, sizeof *column),
           *parts = ad_frame_take(frame, m * columns, sizeof *parts);
    for (int64_t e = 0; e < columns && column && parts && !frame->tape->error.status; e++) {
        ad_var unit = ad_unit_at(frame->where, x, e);
        ad_pushforward_at(frame->where, 1, &x, &unit, m, frame->y, column);
        for (int j = 0; j < m; j++) parts[j * columns + e] = ad_reshape_at(frame->where, column[j], AD_SHAPE(-1));
    }
    for (int j = 0; j < m && !frame->tape->error.status; j++)
        out[j * frame->n + i] = assembled(frame, frame->y[j], x, columns, parts + j * columns, 1);
}

static void record_jacobian(ad_frame *frame, const ad_var *in, ad_var *out) {
    (void)in;
    for (int j = 0; j < frame->m; j++)
        for (int i = 0; i < frame->n; i++)
            if (!check_rank(frame, frame->y[j], frame->x[i])) return;
    bool columns = elements(frame->n, frame->x) < elements(frame->m, frame->y);
    for (int i = 0; columns && i < frame->n && !frame->tape->error.status; i++) by_columns(frame, i, out);
    const bool computes = frame->on_numbers && !ad_frame_has_hooks(frame);
    for (int j = 0; !columns && j < frame->m && !frame->tape->error.status; j++)
        (computes ? compute_rows : by_rows)(frame, frame->y[j], out + j * frame->n);
}

/* Of the gradient, in place of f. */
static void record_hessian(ad_frame *frame, const ad_var *in, ad_var *out) {
    ad_var *gradient = ad_frame_take(frame, frame->n, sizeof *gradient);
    if (!gradient) return;
    ad_frame_gradient(frame, gradient);
    if (frame->tape->error.status) return;
    frame->y = gradient;
    frame->m = frame->n;
    record_jacobian(frame, in, out);
}

/* Element e of column e, for each. */
static ad_var diagonal(ad_frame *frame, ad_var x, ad_var gradient) {
    int64_t count = ad_var_count(x);
    ad_var *parts = ad_frame_take(frame, count, sizeof *parts), column;
    for (int64_t e = 0; e < count && parts && !frame->tape->error.status; e++) {
        ad_var unit = ad_unit_at(frame->where, x, e);
        ad_pushforward_at(frame->where, 1, &x, &unit, 1, &gradient, &column);
        parts[e] = ad_slice_at(frame->where, ad_reshape_at(frame->where, column, AD_SHAPE(-1)), 0, e, e + 1, 1);
    }
    if (frame->tape->error.status || count == 0) return gradient;
    return ad_reshape_at(frame->where, ad_cat_at(frame->where, (int)count, parts, 0), ad_var_shape(x));
}

static void record_hessian_diagonal(ad_frame *frame, const ad_var *in, ad_var *out) {
    (void)in;
    ad_frame_gradient(frame, out);
    for (int i = 0; i < frame->n && !frame->tape->error.status; i++) out[i] = diagonal(frame, frame->x[i], out[i]);
}

static const ad_transform jacobian = {.name = "ad_jacobian_of", .record = record_jacobian};
static const ad_transform hessian = {.name = "ad_hessian_of", .record = record_hessian};
static const ad_transform hessian_diagonal = {.name = "ad_hessian_diagonal_of", .record = record_hessian_diagonal};

ad_function ad_jacobian_of(const ad_function *f) {
    return ad_transformed(&jacobian, f, ad_inputs_of(f), ad_times(ad_inputs_of(f), ad_outputs_of(f)));
}

ad_function ad_hessian_of(const ad_function *f) {
    return ad_transformed(&hessian, f, ad_inputs_of(f), ad_times(ad_inputs_of(f), ad_inputs_of(f)));
}

ad_function ad_hessian_diagonal_of(const ad_function *f) {
    return ad_transformed(&hessian_diagonal, f, ad_inputs_of(f), ad_inputs_of(f));
}
