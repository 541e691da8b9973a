/* The derivative of a function at a point, as a linear map: products with it over one recording. */
#include "autodiff/transform/linear.h"

#include <string.h>

/* ---- numbers and variables ------------------------------------------------------------------------------------------ */

static void read_numbers(const ad_view *view, double *numbers) {
    ad_view to = ad_view_of(numbers, AD_F64, view->shape);
    (void)!ad_view_copy(view, &to); /* the shapes are equal */
}

static void write_numbers(const double *numbers, const ad_view *view) {
    ad_view from = ad_view_of((void *)(uintptr_t)numbers, AD_F64, view->shape);
    (void)!ad_view_copy(&from, view);
}

/* ---- making it ------------------------------------------------------------------------------------------------------- */

static void record_start(ad_linear *linear) {
    ad_var seed;
    linear->start = linear->y[0];
    /* Any cotangents do: here only the outputs are joined. */
    if (linear->m > 1)
        ad_start_of(linear->where, "ad_linear_new", linear->m, linear->y, linear->y, &linear->start, &seed);
}

static bool check_outputs(ad_linear *linear) {
    for (int j = 0; j < linear->m; j++) {
        if (ad_dtype_is_float(ad_var_dtype(linear->y[j]))) continue;
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(linear->tape, linear->y[j].index, true, text, sizeof text);
        ad_tape_fail(linear->tape, AD_ERR_NOGRAD, "ad_linear_new", linear->where,
                     "output %d: %s: integers have no derivative", j, text);
        return false;
    }
    return true;
}

static ad_status record(ad_linear *linear, ad_error *error) {
    ad_tape *tape = linear->tape;
    ad_tape_reset(tape);
    linear->is_recorded = false;
    linear->x = ad_arena_take(&tape->extras, (size_t)(linear->inputs + linear->m) * sizeof *linear->x);
    if (linear->x) {
        linear->y = linear->x + linear->inputs;
        for (int i = 0; i < linear->inputs; i++)
            linear->x[i] = i < linear->n ? ad_leaf_tensor_at(linear->where, tape, NULL, linear->in[i])
                                         : ad_constant_tensor_at(linear->where, tape, NULL, linear->in[i]);
        ad_function_record_at(linear->where, linear->f, tape, linear->x, linear->y);
        if (!tape->error.status && check_outputs(linear)) record_start(linear);
    } else {
        ad_tape_out_of_memory(tape, "ad_linear_new", linear->where);
    }
    if (tape->error.status) return ad_error_set(error, tape->error.status, "%s", tape->error.message);
    linear->rows = 0;
    for (int j = 0; j < linear->m; j++) linear->rows += ad_var_count(linear->y[j]);
    linear->end = ad_tape_mark(tape);
    linear->is_recorded = true;
    return AD_OK;
}

static ad_status check_arguments(const ad_function *f, ad_tensor *const *in, ad_error *error) {
    if (!f || !in) return ad_error_set(error, AD_ERR_NULL, "ad_linear_new: %s NULL", f ? "in is" : "f is");
    if (ad_inputs_of(f) < 1 || f->constants < 0 || f->outputs < 1)
        return ad_error_set(error, AD_ERR_VALUE,
                            "ad_linear_new: a function of %d inputs, %d of them constants, and %d outputs", f->inputs,
                            f->constants, f->outputs);
    for (int i = 0; i < f->inputs; i++) {
        char type[AD_TYPE_TEXT];
        const ad_view *view = ad_tensor_view(in[i]);
        if (!view) return ad_error_set(error, AD_ERR_NULL, "ad_linear_new: input %d is NULL", i);
        if (i < ad_inputs_of(f) && !ad_dtype_is_float(view->dtype))
            return ad_error_set(error, AD_ERR_NOGRAD,
                                "ad_linear_new: input %d is %s: there is no derivative by integers; make them "
                                ".constants",
                                i, ad_type_text(view->dtype, &view->shape, type));
    }
    return AD_OK;
}

static ad_status copy_inputs(ad_linear *linear, ad_tensor *const *in, ad_error *error) {
    ad_status status = AD_OK;
    for (int i = 0; i < linear->inputs && !status; i++) {
        const ad_view *from = ad_tensor_view(in[i]);
        status = ad_tensor_new(&linear->in[i], linear->allocator, from->dtype, from->shape, NULL, error);
        if (!status) status = ad_view_copy(from, ad_tensor_view(linear->in[i]));
        linear->columns += i < linear->n ? ad_view_count(from) : 0;
    }
    return status;
}

ad_status ad_linear_new_at(const char *where, ad_linear **out, const ad_function *f, const ad_allocator *allocator,
                           ad_tensor *const *in, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_linear_new: out is NULL");
    *out = NULL;
    ad_status status = check_arguments(f, in, error);
    if (status) return status;
    if (!allocator) allocator = ad_allocator_default();
    size_t size = sizeof(ad_linear) + (size_t)f->inputs * sizeof(ad_tensor *);
    ad_linear *linear = ad_allocate(allocator, size, _Alignof(ad_linear));
    if (!linear) return ad_error_set(error, AD_ERR_OOM, "ad_linear_new: out of memory");
    memset(linear, 0, size);
    linear->allocator = allocator;
    linear->where = where;
    linear->f = f;
    linear->inputs = f->inputs;
    linear->n = ad_inputs_of(f);
    linear->m = f->outputs;
    linear->size = size;
    linear->tape = ad_tape_new(&(ad_tape_options){.allocator = allocator});
    if (linear->tape) linear->tape->zeros_stop = true; /* rows of a Jacobian are mostly 0 */
    status = linear->tape ? copy_inputs(linear, in, error)
                          : ad_error_set(error, AD_ERR_OOM, "ad_linear_new: out of memory for a tape");
    if (!status) status = record(linear, error);
    if (status) {
        ad_linear_free(linear);
        return status;
    }
    *out = linear;
    return AD_OK;
}

void ad_linear_free(ad_linear *linear) {
    if (!linear) return;
    ad_tape_free(linear->tape);
    for (int i = 0; i < linear->inputs; i++) ad_tensor_unref(linear->in[i]);
    ad_release(linear->allocator, linear, linear->size);
}

/* ---- asking it ------------------------------------------------------------------------------------------------------- */

int64_t ad_linear_rows(const ad_linear *linear) { return linear ? linear->rows : 0; }
int64_t ad_linear_columns(const ad_linear *linear) { return linear ? linear->columns : 0; }

ad_status ad_linear_check(const ad_linear *linear, const char *subject, ad_error *error) {
    if (!linear) return ad_error_set(error, AD_ERR_NULL, "%s: the map is NULL: did ad_linear_new fail?", subject);
    if (linear->is_recorded) return AD_OK;
    return ad_error_set(error, AD_ERR_HANDLE, "%s: the map has no values: ad_linear_move failed", subject);
}

static ad_status check_numbers(const ad_linear *linear, const char *subject, const void *in, const void *out,
                               ad_error *error) {
    ad_status status = ad_linear_check(linear, subject, error);
    if (status || (in && out)) return status;
    return ad_error_set(error, AD_ERR_NULL, "%s: the %s NULL", subject, in ? "result is" : "numbers are");
}

ad_status ad_linear_move(ad_linear *linear, const double *x, ad_error *error) {
    if (!linear || !x)
        return ad_error_set(error, AD_ERR_NULL, "ad_linear_move: the %s NULL", linear ? "numbers are" : "map is");
    ad_tape_reset(linear->tape);
    for (int i = 0; i < linear->n; i++) {
        const ad_view *view = ad_tensor_view(linear->in[i]);
        write_numbers(x, view);
        x += ad_view_count(view);
    }
    return record(linear, error);
}

ad_status ad_linear_value(const ad_linear *linear, double *value, ad_error *error) {
    ad_status status = check_numbers(linear, "ad_linear_value", value, value, error);
    for (int j = 0; j < linear->m && !status; j++) {
        ad_view view = ad_value_at(linear->where, linear->y[j]);
        read_numbers(&view, value);
        value += ad_view_count(&view);
    }
    return status;
}

/* Views of the numbers of n variables, one after another, for each of `count` rows. */
static ad_view *views_of(const ad_linear *linear, int n, const ad_var *x, int64_t count, const double *numbers,
                         int64_t row_stride, int64_t stride) {
    ad_view *views = ad_arena_take(&linear->tape->scratch, (size_t)n * sizeof *views);
    for (int i = 0; i < n && views; i++) {
        const int64_t elements = ad_var_count(x[i]);
        views[i] = ad_view_of((void *)(uintptr_t)numbers, AD_F64, AD_SHAPE(count, elements));
        views[i].stride[0] = row_stride;
        views[i].stride[1] = stride;
        numbers += elements * stride;
    }
    if (!views) ad_tape_out_of_memory(linear->tape, "ad_linear", linear->where);
    return views;
}

/* For `count` vectors, v [count, columns]; element r of product k goes to products[k * product_stride + r * stride]. */
static void push(const ad_linear *linear, int64_t count, const double *v, double *products, int64_t product_stride,
                 int64_t stride) {
    const ad_view *x_dot = views_of(linear, linear->n, linear->x, count, v, linear->columns, 1);
    const ad_view *y_dot = views_of(linear, linear->m, linear->y, count, products, product_stride, stride);
    if (x_dot && y_dot)
        ad_pushforward_batch_at(linear->where, linear->n, linear->x, x_dot, linear->m, linear->y, y_dot);
}

/* For `count` cotangents, u [count, rows]; the products are [count, columns]. */
static void pull(const ad_linear *linear, int64_t count, const double *u, double *products) {
    const ad_view y_bar = ad_view_of((void *)(uintptr_t)u, AD_F64, AD_SHAPE(count, linear->rows));
    const ad_view *x_bar = views_of(linear, linear->n, linear->x, count, products, linear->columns, 1);
    if (x_bar) ad_backward_batch_at(linear->where, linear->start, &y_bar, linear->n, linear->x, x_bar);
}

typedef struct products_of {
    bool pulls;
    int64_t count;
    const double *vectors;
    double *products;
    int64_t product_stride, stride; /* of the results of pushes */
} products_of;

/* A failure concerns these products alone, and what was recorded for them is forgotten. */
static ad_status multiply(ad_linear *linear, products_of p, ad_error *error) {
    ad_error_scope scope;
    const uint64_t scratch = ad_arena_position(&linear->tape->scratch);
    ad_error_scope_begin(&scope, linear->tape);
    if (p.pulls)
        pull(linear, p.count, p.vectors, p.products);
    else
        push(linear, p.count, p.vectors, p.products, p.product_stride, p.stride);
    ad_status status = linear->tape->error.status;
    if (status) ad_error_set(error, status, "%s", linear->tape->error.message);
    ad_tape_rewind_to(linear->tape, &linear->end);
    ad_arena_rewind(&linear->tape->scratch, scratch);
    ad_error_scope_end(&scope, linear->tape);
    return status;
}

ad_status ad_linear_multiply(ad_linear *linear, bool pulls, int64_t count, const double *vectors, double *products,
                             ad_error *error) {
    return multiply(linear, (products_of){pulls, count, vectors, products, linear->rows, 1}, error);
}

ad_status ad_linear_push(ad_linear *linear, const double *v, double *product, ad_error *error) {
    ad_status status = check_numbers(linear, "ad_linear_push", v, product, error);
    return status ? status : ad_linear_multiply(linear, false, 1, v, product, error);
}

ad_status ad_linear_pull(ad_linear *linear, const double *u, double *product, ad_error *error) {
    ad_status status = check_numbers(linear, "ad_linear_pull", u, product, error);
    return status ? status : ad_linear_multiply(linear, true, 1, u, product, error);
}

/* The vectors of a batch should not take much more memory than one of a long one does. */
int64_t ad_linear_batch(const ad_linear *linear, int64_t products) {
    enum { NUMBERS = 1 << 22 };
    const int64_t longest = linear->rows > linear->columns ? linear->rows : linear->columns;
    const int64_t seeds = ad_batch_seeds(linear->start), fit = longest ? NUMBERS / longest : seeds;
    const int64_t most = fit < 1 ? 1 : fit < seeds ? fit : seeds;
    return products < most ? products : most;
}

/* Rows by pulls or columns by pushes of unit vectors, which are written to `vectors`: [batch, rows] or [batch, columns]
 * zeros, which they are again afterwards. */
static ad_status fill_dense(ad_linear *linear, bool by_columns, int64_t batch, double *vectors, double *matrix,
                            ad_error *error) {
    const int64_t rows = linear->rows, columns = linear->columns, length = by_columns ? columns : rows;
    ad_status status = AD_OK;
    for (int64_t first = 0; first < length && !status; first += batch) {
        const int64_t count = length - first < batch ? length - first : batch;
        double *part = matrix + first * (by_columns ? 1 : columns);
        ad_put_units(vectors, length, first, count, 1);
        status = multiply(linear, (products_of){!by_columns, count, vectors, part, 1, columns}, error);
        ad_put_units(vectors, length, first, count, 0);
    }
    return status;
}

ad_status ad_linear_dense(ad_linear *linear, double *matrix, ad_error *error) {
    ad_status status = check_numbers(linear, "ad_linear_dense", matrix, matrix, error);
    if (status) return status;
    const bool by_columns = linear->columns < linear->rows;
    const int64_t length = by_columns ? linear->columns : linear->rows, batch = ad_linear_batch(linear, length);
    const size_t bytes = (size_t)(batch * length + 1) * sizeof(double);
    double *vectors = ad_allocate(linear->allocator, bytes, _Alignof(double));
    if (!vectors) return ad_error_set(error, AD_ERR_OOM, "ad_linear_dense: out of memory");
    memset(vectors, 0, bytes);
    status = fill_dense(linear, by_columns, batch, vectors, matrix, error);
    ad_release(linear->allocator, vectors, bytes);
    return status;
}
