/* Many cotangents or tangents in one walk: dense matrices are what single products say, whatever a function is made of. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <adtape/checkpoint.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ad_var flat(ad_var x) { return ad_reshape(x, AD_SHAPE(-1)); }

/* ---- comparing ------------------------------------------------------------------------------------------------------- */

enum { MOST_INPUTS = 3 };

typedef struct at {
    ad_tensor *in[MOST_INPUTS];
    ad_linear *linear;
    double *together, *alone; /* [rows, columns] */
    int64_t rows, columns;
} at;

static void open_at(at *a, const ad_function *f, const ad_allocator *allocator, const ad_view *x) {
    ad_error error = {AD_OK, ""};
    for (int i = 0; i < f->inputs; i++)
        cr_assert_eq(ad_tensor_new(&a->in[i], NULL, x[i].dtype, x[i].shape, x[i].data, &error), AD_OK);
    cr_assert_eq(ad_linear_new(&a->linear, f, allocator, a->in, &error), AD_OK, "%s: %s", f->name, error.message);
    a->rows = ad_linear_rows(a->linear);
    a->columns = ad_linear_columns(a->linear);
    const size_t count = (size_t)(a->rows * a->columns) + 1;
    a->together = calloc(count, sizeof *a->together);
    a->alone = calloc(count, sizeof *a->alone);
}

static void close_at(at *a) {
    ad_linear_free(a->linear);
    for (int i = 0; i < MOST_INPUTS; i++) ad_tensor_unref(a->in[i]);
    free(a->together);
    free(a->alone);
}

/* By ordinary backward passes. */
static void fill_alone(at *a) {
    double *unit = calloc((size_t)a->rows + 1, sizeof *unit);
    ad_error error = {AD_OK, ""};
    for (int64_t r = 0; r < a->rows; r++) {
        unit[r] = 1;
        cr_assert_eq(ad_linear_pull(a->linear, unit, a->alone + r * a->columns, &error), AD_OK, "%s", error.message);
        unit[r] = 0;
    }
    free(unit);
}

/* Rows if they are not more than columns, else columns. */
static void expect_matrix(const ad_function *f, const ad_view *x, double tolerance) {
    at a = {0};
    ad_error error = {AD_OK, ""};
    open_at(&a, f, NULL, x);
    cr_assert(a.rows > 1 && a.columns > 1, "%s: %d x %d", f->name, (int)a.rows, (int)a.columns);
    fill_alone(&a);
    for (int again = 0; again < 2; again++) {
        memset(a.together, 0x55, (size_t)(a.rows * a.columns) * sizeof *a.together);
        cr_assert_eq(ad_linear_dense(a.linear, a.together, &error), AD_OK, "%s: %s", f->name, error.message);
        for (int64_t i = 0; i < a.rows * a.columns; i++) {
            const double together = a.together[i], alone = a.alone[i];
            const bool same = together == alone || (isnan(together) && isnan(alone)) ||
                              fabs(together - alone) <= tolerance * (1 + fabs(alone));
            cr_assert(same, "%s: row %d, column %d: %.17g, not %.17g", f->name, (int)(i / a.columns),
                      (int)(i % a.columns), together, alone);
        }
    }
    close_at(&a);
}

/* The same of a function that gives a second time, twice as large, what `user` gives: it has more rows than columns. */
static ad_status tall_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    const ad_function *f = user;
    const ad_status status = f->fn(t, in, out, f->user);
    for (int k = 0; k < 3 * f->outputs && !status; k++) out[f->outputs + k] = ad_scale(out[k % f->outputs], 2);
    return status;
}
static void expect_matrices(const ad_function *f, const ad_view *x, double tolerance) {
    const ad_function tall = {
        .fn = tall_fn, .inputs = f->inputs, .outputs = 4 * f->outputs, .name = "tall", .user = (void *)(uintptr_t)f};
    expect_matrix(f, x, tolerance);
    expect_matrix(&tall, x, tolerance);
}

/* ---- layers ---------------------------------------------------------------------------------------------------------- */

/* Ops that take all cotangents together, and ops that do not; arrays that broadcast, that are used twice, and numbers. */
static ad_status layers_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = in[0], w = in[1], b = in[2];
    ad_var h = ad_add(ad_matmul(x, w), b), g = ad_linear(h, w, ad_sum(w, AD_AXES(1), false));
    ad_var both = ad_cat(2, (ad_var[]){ad_tanh(g), ad_masked_mul(x, x)}, 0);
    ad_var normal = ad_softmax(ad_layer_norm(both, 1, ad_sum(x, AD_AXES(0), false), ad_select(x, 0, 1), 1e-5), -1);
    ad_var picked = ad_where(ad_greater(both, ad_mean(both, AD_AXES(0), true)), normal, ad_exp(both));
    ad_var sorted = ad_sort(ad_slice(picked, 1, 1, 4, 1), 0, false, NULL);
    ad_var parts = ad_mul(ad_permute(ad_unsqueeze(sorted, 0), AD_AXES(1, 0, -1)), ad_select(b, 0, 2));
    ad_var number = ad_logsumexp(h, AD_ALL_AXES, false);
    out[0] = flat(ad_relu(ad_sub(parts, ad_scale(number, 0.1))));
    out[1] = ad_mul(number, ad_broadcast_to(ad_sum_to(x, AD_SHAPE(1, 4)), AD_SHAPE(3, 4)));
    return ad_tape_status(t);
}

static void expect_layers(ad_dtype dtype, double tolerance) {
    const ad_function layers = {.fn = layers_fn, .inputs = 3, .outputs = 2, .name = "layers"};
    const ad_view x[] = {test_random(dtype, AD_SHAPE(3, 4), TEST_DENSE, 1),
                         test_random(dtype, AD_SHAPE(4, 30), TEST_DENSE, 2),
                         test_random(dtype, AD_SHAPE(30), TEST_DENSE, 3)};
    expect_matrices(&layers, x, tolerance);
}
Test(batch, matrix_of_layers_in_f64, .fini = test_arrays_free) { expect_layers(AD_F64, 1e-13); }
Test(batch, matrix_of_layers_in_f32, .fini = test_arrays_free) { expect_layers(AD_F32, 1e-5); }

/* Of arrays with as many axes as there may be, none is left for the cotangents. */
static ad_status deep_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = ad_reshape(in[0], AD_SHAPE(1, 2, 1, 3, 1, 2, 1, 2));
    out[0] = ad_sum(ad_square(x), AD_AXES(1, 3), false);
    out[1] = ad_select(flat(ad_exp(x)), 0, 5);
    return ad_tape_status(t);
}
Test(batch, matrix_where_no_axis_is_left, .fini = test_arrays_free) {
    const ad_function deep = {.fn = deep_fn, .inputs = 1, .outputs = 2, .name = "deep"};
    const ad_view x = test_random(AD_F64, AD_SHAPE(24), TEST_DENSE, 4);
    expect_matrices(&deep, &x, 0);
}

/* An op of several results, some of which nobody uses; inputs that do not matter; an output that is an input. */
static ad_status results_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var r, s = ad_scale(in[1], 2);
    ad_qr(in[0], &r);
    out[0] = flat(r);
    out[1] = s;
    return ad_tape_status(t);
}
Test(batch, matrix_of_an_op_of_several_results, .fini = test_arrays_free) {
    const ad_function results = {.fn = results_fn, .inputs = 3, .outputs = 2, .name = "results"};
    const ad_view x[] = {test_random(AD_F64, AD_SHAPE(4, 3), TEST_DENSE, 5),
                         test_random(AD_F64, AD_SHAPE(2), TEST_DENSE, 6),
                         test_random(AD_F64, AD_SHAPE(5), TEST_DENSE, 7)};
    expect_matrices(&results, x, 1e-13);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------------- */

enum { NUMBERS = 150 }; /* several batches, and not a multiple of one */

/* Sums, products, other rules with one and two inputs, a square, and factors that are infinite where cotangents are 0. */
static ad_status numbers_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    ad_var x[NUMBERS], y[NUMBERS], total = ad_number(t, AD_F64, 0);
    const bool is_infinite = user;
    for (int i = 0; i < NUMBERS; i++) {
        x[i] = ad_select(in[0], 0, i);
        total = ad_add(total, i % 7 ? x[i] : ad_sin(x[i]));
    }
    for (int i = 0; i < NUMBERS; i++) {
        ad_var next = x[(i + 1) % NUMBERS], own = ad_mul(x[i], x[i]);
        y[i] = i % 3 == 0   ? ad_sub(ad_mul(own, next), x[(i + 70) % NUMBERS])
               : i % 3 == 1 ? ad_div(own, ad_add(ad_exp(next), x[i]))
                            : ad_mul(ad_scale(own, 0.5), total);
        if (is_infinite && i % 40 == 0) y[i] = ad_mul(y[i], ad_log(ad_sub(x[i], x[i])));
    }
    y[5] = x[9];
    y[77] = y[4];
    out[0] = ad_stack(NUMBERS, y, 0);
    return ad_tape_status(t);
}
Test(batch, matrix_of_numbers, .fini = test_arrays_free) {
    const ad_view x = test_random(AD_F64, AD_SHAPE(NUMBERS), TEST_DENSE, 8);
    int yes = 1;
    ad_function numbers = {.fn = numbers_fn, .inputs = 1, .outputs = 1, .name = "numbers"};
    expect_matrices(&numbers, &x, 1e-14);
    numbers.user = &yes; /* back alone: forwards, infinities that would cancel never come about */
    expect_matrix(&numbers, &x, 1e-14);
}

/* Single precision, and numbers next to arrays. */
static ad_status mixed_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var single = ad_cast(in[0], AD_F32), a = ad_select(single, 0, 0), b = ad_select(single, 0, 1);
    ad_var y[] = {ad_mul(a, b), ad_exp(a), ad_sum(single, AD_ALL_AXES, false), ad_sub(b, b), a};
    out[0] = ad_stack(TEST_COUNT(y), y, 0);
    out[1] = ad_cast(ad_mul(single, ad_mul(a, a)), AD_F64);
    return ad_tape_status(t);
}
Test(batch, matrix_of_single_numbers, .fini = test_arrays_free) {
    const ad_function mixed = {.fn = mixed_fn, .inputs = 1, .outputs = 2, .name = "mixed"};
    const ad_view x = test_random(AD_F64, AD_SHAPE(12), TEST_DENSE, 9);
    at a = {0};
    open_at(&a, &mixed, NULL, &x);
    fill_alone(&a);
    ad_view y_bar = ad_view_of(NULL, AD_F64, AD_SHAPE(17, 17)), x_bar = ad_view_of(NULL, AD_F64, AD_SHAPE(17, 12));
    double units[17 * 17] = {0}, rows[17 * 12];
    y_bar.data = units;
    x_bar.data = rows;
    for (int i = 0; i < 17; i++) units[18 * i] = 1;
    ad_tape *t = ad_tape_new(NULL);
    ad_var in = ad_leaf(t, "x", AD_F64, x.shape, x.data), out[2], y;
    cr_assert_eq(mixed_fn(t, &in, out, NULL), AD_OK);
    y = ad_cat(2, (ad_var[]){ad_cast(out[0], AD_F64), out[1]}, 0);
    cr_assert_eq(ad_backward_batch_at(AD_HERE, y, &y_bar, 1, &in, &x_bar), AD_OK);
    for (int i = 0; i < 17 * 12; i++) cr_assert_float_eq(rows[i], a.alone[i], 1e-6);
    ad_tape_free(t);
    close_at(&a);
}

/* ---- what cannot be done together ---------------------------------------------------------------------------------------- */

static void step(ad_tape *t, const ad_var *x, int n, ad_var *y, int m, void *user) {
    (void)t, (void)n, (void)m, (void)user;
    y[0] = ad_tanh(ad_mul(x[0], ad_cos(x[0])));
}
static ad_status checkpoints_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    ad_var h = in[0];
    for (int i = 0; i < 3; i++) ad_checkpoint(t, step, user, 1, &h, 1, &h);
    out[0] = h;
    return ad_tape_status(t);
}
Test(batch, matrix_through_checkpoints, .fini = test_arrays_free) {
    const ad_function checkpoints = {.fn = checkpoints_fn, .inputs = 1, .outputs = 1, .name = "checkpoints"};
    const ad_view x = test_random(AD_F64, AD_SHAPE(6), TEST_DENSE, 10);
    expect_matrices(&checkpoints, &x, 1e-14);
}

static int shown;
static void halve(void *user, ad_var x, const ad_view *gradient) {
    (void)user, (void)x;
    shown++;
    for (int64_t i = 0; i < ad_view_count(gradient); i++) test_set(gradient, i, test_get(gradient, i) / 2);
}
static ad_status hooked_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var h = ad_square(in[0]);
    ad_on_gradient(h, halve, NULL);
    out[0] = ad_mul(h, in[0]);
    return ad_tape_status(t);
}
Test(batch, matrix_that_hooks_change, .fini = test_arrays_free) {
    const ad_function hooked = {.fn = hooked_fn, .inputs = 1, .outputs = 1, .name = "hooked"};
    const ad_view x = test_random(AD_F64, AD_SHAPE(5), TEST_DENSE, 11);
    expect_matrix(&hooked, &x, 0);
    cr_assert_eq(shown, 15);
}

/* ---- failures ------------------------------------------------------------------------------------------------------------ */

Test(batch, each_allocation_may_fail, .fini = test_arrays_free) {
    const ad_function layers = {.fn = layers_fn, .inputs = 3, .outputs = 2, .name = "layers"};
    const ad_view x[] = {test_random(AD_F64, AD_SHAPE(3, 4), TEST_DENSE, 1),
                         test_random(AD_F64, AD_SHAPE(4, 30), TEST_DENSE, 2),
                         test_random(AD_F64, AD_SHAPE(30), TEST_DENSE, 3)};
    int64_t failures = 0;
    for (int on = 0; on < 2; on++) {
        bool failed = true;
        for (int64_t step_ = 1; failed; step_++) {
            test_memory memory;
            at a = {0};
            ad_error error = {AD_OK, ""};
            test_memory_open(&memory);
            open_at(&a, &layers, &memory.allocator, x);
            fill_alone(&a);
            memory.fail_at = memory.calls + step_;
            memory.fail_on = on;
            failed = ad_linear_dense(a.linear, a.together, &error) != AD_OK;
            cr_assert(!failed || error.status == AD_ERR_OOM, "%s", error.message);
            failures += failed;
            memory.fail_at = 0;
            memory.fail_on = false;
            cr_assert_eq(ad_linear_dense(a.linear, a.together, &error), AD_OK, "%s", error.message);
            for (int64_t i = 0; i < a.rows * a.columns; i++)
                cr_assert_float_eq(a.together[i], a.alone[i], 1e-12 * (1 + fabs(a.alone[i])));
            close_at(&a);
            test_memory_close(&memory);
        }
    }
    cr_assert_gt(failures, 4);
}

static ad_status fail_back(ad_call *call, ad_adjoint *adjoint) {
    (void)adjoint;
    return ad_fail(call, AD_ERR_VALUE, "not today");
}
static ad_status like_input(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status copy_forward(ad_call *call) { return ad_view_copy(call->in[0], &call->out[0]); }
static void pass_on(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 0)); }
static const ad_op refusing = {.name = "refusing",
                               .inputs = 1,
                               .shape = like_input,
                               .forward = copy_forward,
                               .vjp = pass_on,
                               .backward = fail_back};
static ad_status refusing_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    out[0] = ad_square(ad_apply(t, &refusing, 1, in, NULL, NULL));
    return ad_tape_status(t);
}
Test(batch, an_error_of_an_op_is_the_products, .fini = test_arrays_free) {
    const ad_function f = {.fn = refusing_fn, .inputs = 1, .outputs = 1, .name = "refusing"};
    const ad_view x = test_random(AD_F64, AD_SHAPE(5), TEST_DENSE, 12);
    at a = {0};
    ad_error error = {AD_OK, ""};
    open_at(&a, &f, NULL, &x);
    cr_assert_eq(ad_linear_dense(a.linear, a.together, &error), AD_ERR_VALUE);
    cr_assert(strstr(error.message, "not today"), "%s", error.message);
    cr_assert_eq(ad_linear_value(a.linear, a.together, &error), AD_OK);
    close_at(&a);
}
