/* The transforms whose results are whole matrices of derivatives: over one recording, one walk for each row or column or, on
 * numbers, for many. */
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

/* ---- on numbers: walks for many rows or columns at once, into constants ------------------------------------------------ */

/* The derivative of y by x, of zeros. */
static ad_var open_part(const ad_frame *frame, ad_var y, ad_var x, ad_dtype dtype) {
    const ad_shape shape = derivative_shape(y, x);
    return ad_tape_filled(frame->tape, frame->where, &ad_leaf_constant, dtype, &shape, 0.0);
}

/* Rows or columns of a part from `first` on, each in a row of the view. */
static ad_view block_of(ad_var part, int64_t columns, bool by_columns, int64_t first, int64_t count,
                        int64_t elements) {
    ad_view scratch;
    const ad_view *all = ad_node_view(ad_node_at(part.tape, part.index), &scratch);
    const int64_t offset = first * (by_columns ? 1 : columns) * (int64_t)ad_dtype_size(all->dtype);
    ad_view block = ad_view_of((char *)all->data + offset, all->dtype, AD_SHAPE(count, elements));
    block.stride[0] = by_columns ? 1 : columns;
    block.stride[1] = by_columns ? columns : 1;
    return block;
}

void ad_put_units(double *units, int64_t length, int64_t first, int64_t count, double number) {
    for (int64_t k = 0; k < count; k++) units[k * length + first + k] = number;
}

static double *take_units(ad_frame *frame, int64_t batch, int64_t length) {
    double *units = ad_frame_take(frame, batch * length + 1, sizeof *units);
    if (units) memset(units, 0, (size_t)(batch * length) * sizeof *units);
    return units;
}

/* Of output y by all inputs. */
static void compute_rows(ad_frame *frame, ad_var y, ad_var *out) {
    const int64_t rows = ad_var_count(y), batch = ad_batch_seeds(y);
    const int n = frame->n;
    double *units = take_units(frame, batch, rows);
    ad_view *block = ad_frame_take(frame, n, sizeof *block);
    for (int i = 0; i < n; i++) out[i] = open_part(frame, y, frame->x[i], ad_var_dtype(rows ? frame->x[i] : y));
    for (int64_t first = 0; first < rows && !frame->tape->error.status; first += batch) {
        const int64_t count = rows - first < batch ? rows - first : batch;
        const ad_view y_bar = ad_view_of(units, AD_F64, AD_SHAPE(count, rows));
        for (int i = 0; i < n; i++) {
            const int64_t columns = ad_var_count(frame->x[i]);
            block[i] = block_of(out[i], columns, false, first, count, columns);
        }
        ad_put_units(units, rows, first, count, 1);
        ad_backward_batch_at(frame->where, y, &y_bar, n, frame->x, block);
        ad_put_units(units, rows, first, count, 0);
    }
}

/* Of all outputs by input number i. */
static void compute_columns(ad_frame *frame, int i, ad_var *out) {
    const ad_var x = frame->x[i];
    const int m = frame->m;
    int64_t columns = ad_var_count(x), batch = columns;
    for (int j = 0; j < m; j++) {
        const int64_t seeds = ad_batch_seeds(frame->y[j]);
        batch = seeds < batch ? seeds : batch;
    }
    double *units = take_units(frame, batch, columns);
    ad_view *block = ad_frame_take(frame, m, sizeof *block);
    for (int j = 0; j < m; j++) out[j * frame->n + i] = open_part(frame, frame->y[j], x, ad_var_dtype(frame->y[j]));
    for (int64_t first = 0; first < columns && !frame->tape->error.status; first += batch) {
        const int64_t count = columns - first < batch ? columns - first : batch;
        const ad_view x_dot = ad_view_of(units, AD_F64, AD_SHAPE(count, columns));
        for (int j = 0; j < m; j++)
            block[j] = block_of(out[j * frame->n + i], columns, true, first, count, ad_var_count(frame->y[j]));
        ad_put_units(units, columns, first, count, 1);
        ad_pushforward_batch_at(frame->where, 1, &x, &x_dot, m, frame->y, block);
        ad_put_units(units, columns, first, count, 0);
    }
}

/* ---- recorded: walks one by one ------------------------------------------------------------------------------------------ */

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
    const bool columns = elements(frame->n, frame->x) < elements(frame->m, frame->y);
    const bool computes = frame->on_numbers && !ad_frame_has_hooks(frame);
    for (int i = 0; columns && i < frame->n && !frame->tape->error.status; i++)
        (computes ? compute_columns : by_columns)(frame, i, out);
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

/* On numbers: element e of row e, of many rows at once. */
static ad_var compute_diagonal(ad_frame *frame, ad_var x, ad_var gradient) {
    ad_tape *tape = frame->tape;
    const int64_t count = ad_var_count(x), batch = ad_batch_seeds(gradient);
    const ad_shape shape = ad_var_shape(x);
    double *units = take_units(frame, batch, count), *rows = take_units(frame, batch, count);
    ad_var made = ad_tape_filled(tape, frame->where, &ad_leaf_constant, ad_var_dtype(x), &shape, 0.0);
    for (int64_t first = 0; first < count && !tape->error.status; first += batch) {
        const int64_t n = count - first < batch ? count - first : batch;
        const ad_view y_bar = ad_view_of(units, AD_F64, AD_SHAPE(n, count));
        const ad_view x_bar = ad_view_of(rows, AD_F64, AD_SHAPE(n, count));
        const ad_view block = block_of(made, 1, false, first, n, 1);
        ad_view diagonal = ad_view_of(rows + first, AD_F64, AD_SHAPE(n, 1));
        diagonal.stride[0] = count + 1;
        ad_put_units(units, count, first, n, 1);
        if (!ad_backward_batch_at(frame->where, gradient, &y_bar, 1, &x, &x_bar))
            (void)!ad_view_copy(&diagonal, &block);
        ad_put_units(units, count, first, n, 0);
    }
    return made;
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
    const bool computes = frame->on_numbers && !ad_frame_has_hooks(frame);
    for (int i = 0; i < frame->n && !frame->tape->error.status; i++)
        out[i] = (computes ? compute_diagonal : diagonal)(frame, frame->x[i], out[i]);
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
