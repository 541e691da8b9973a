/* Reductions and scans against PyTorch; and what they do with nothing, ties, zeros, infinities, NaN and huge numbers, and
 * with what they do not take. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

static ad_var index_of(ad_var (*op)(const char *, ad_var, int, bool, ad_var *), ad_var x, const reference_case *c) {
    ad_var index;
    op(AD_HERE, x, c->axis, c->keepdim, &index);
    return index;
}

OP(prod, ad_prod(in[0], c->axes, c->keepdim))
OP(variance, ad_variance(in[0], c->axes, c->keepdim, c->value))
OP(std, ad_std(in[0], c->axes, c->keepdim, c->value))
OP(count_nonzero, ad_count_nonzero(in[0], c->axes, c->keepdim))
OP(trace, ad_trace(in[0]))
OP(amax, ad_amax(in[0], c->axes, c->keepdim))
OP(amin, ad_amin(in[0], c->axes, c->keepdim))
OP(norm, ad_norm(in[0], c->value, c->axes, c->keepdim))
OP(logsumexp, ad_logsumexp(in[0], c->axes, c->keepdim))
OP(max, ad_max(in[0], c->axis, c->keepdim, NULL))
OP(min, ad_min(in[0], c->axis, c->keepdim, NULL))
OP(argmax, ad_argmax(in[0], c->axis, c->keepdim))
OP(argmin, ad_argmin(in[0], c->axis, c->keepdim))
OP(median, ad_median(in[0], c->axis, c->keepdim, NULL))
OP(median_index, index_of(ad_median_at, in[0], c))
OP(quantile, ad_quantile(in[0], c->value, c->axis, c->keepdim))
OP(cumsum, ad_cumsum(in[0], c->axis, c->reverse))
OP(cumprod, ad_cumprod(in[0], c->axis, c->reverse))
OP(logcumsumexp, ad_logcumsumexp(in[0], c->axis, c->reverse))
OP(cummax, ad_cummax(in[0], c->axis, c->reverse, NULL))
OP(cummin, ad_cummin(in[0], c->axis, c->reverse, NULL))

/* ---- third derivatives --------------------------------------------------------------------------------------------------- */

/* How an op of x moves when x moves along a fixed vector: its gradient is a second derivative, and the check of that one's
 * gradient one of third order. */
static ad_var moved(ad_tape *tape, const ad_var *x, int n, void *user) {
    ad_var (*function)(ad_var) = *(ad_var(**)(ad_var))user, y = function(x[0]), y_dot;
    const double v[] = {0.5, -1, 2, 0.25, -0.75, 1.5};
    ad_var x_dot = ad_constant(tape, NULL, ad_value(x[0]).dtype, ad_value(x[0]).shape, v);
    ad_pushforward(n, x, &x_dot, 1, &y, &y_dot);
    return y_dot;
}

#define SMOOTH(X)                                                                                                    \
    X(prod, ad_prod(x, AD_AXES(0), false))                                                                           \
    X(variance, ad_variance(x, AD_AXES(1), false, 1))                                                                \
    X(std, ad_std(x, AD_ALL_AXES, false, 0))                                                                         \
    X(norm_2, ad_norm(x, 2, AD_AXES(1), false))                                                                      \
    X(norm_3, ad_norm(x, 3, AD_AXES(0), false))                                                                      \
    X(logsumexp, ad_logsumexp(x, AD_ALL_AXES, false))                                                                \
    X(cumprod, ad_cumprod(x, 1, AD_REVERSE))                                                                         \
    X(logcumsumexp, ad_logcumsumexp(x, 1, false))                                                                    \
    X(recurrence, ad_recurrence(x, ad_exp(x), 1, false, 2))
#define X(name, expression)                                                                                          \
    static ad_var smooth_##name(ad_var x) { return expression; }
SMOOTH(X)
#undef X

Test(third_order, derivatives_agree_with_differences) {
    static const struct {
        const char *name;
        ad_var (*function)(ad_var);
    } smooth[] = {
#define X(name, expression) {#name, smooth_##name},
        SMOOTH(X)
#undef X
    };
    ad_tensor *x;
    ad_tensor_new(&x, NULL, AD_F64, AD_SHAPE(2, 3), (double[]){0.5, -1.25, 2, 0.75, 1, -0.5}, NULL);
    for (int k = 0; k < TEST_COUNT(smooth); k++) {
        ad_check_report report;
        ad_var (*function)(ad_var) = smooth[k].function;
        cr_assert_eq(ad_gradcheck(smooth[k].name, moved, &function, 1, &x, NULL, &report), AD_OK, "%s",
                     report.message);
        cr_assert_gt(report.compared, 6);
    }
    ad_tensor_unref(x);
}

/* ---- memory ---------------------------------------------------------------------------------------------------------------- */

static ad_var std_of(ad_var x) { return ad_std(x, AD_AXES(1), false, 1); }
static ad_var variance_of(ad_var x) { return ad_variance(x, AD_ALL_AXES, false, 1); }
static ad_var amax_of(ad_var x) { return ad_amax(x, AD_AXES(0), false); }
static ad_var norm_of(ad_var x) { return ad_norm(x, 3, AD_AXES(1), false); }
static ad_var logsumexp_of(ad_var x) { return ad_logsumexp(x, AD_AXES(-1), false); }
static ad_var prod_of(ad_var x) { return ad_prod(x, AD_AXES(0), false); }
static ad_var max_of(ad_var x) { return ad_max(x, 1, false, NULL); }
static ad_var quantile_of(ad_var x) { return ad_quantile(x, 0.3, 0, false); }
static ad_var cumprod_of(ad_var x) { return ad_cumprod(x, 1, false); }
static ad_var any_of(ad_var x) { return ad_where(ad_any(x, AD_AXES(0), AD_KEEPDIM), x, x); }

/* Enough elements that scratch memory does not fit into what the tape has at hand. */
static ad_status record_and_walk_back(const ad_allocator *allocator, ad_var (*function)(ad_var)) {
    static const double zeros[100 * 200];
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = allocator});
    if (!t) return AD_ERR_OOM;
    ad_var y = function(ad_leaf(t, NULL, AD_F64, AD_SHAPE(100, 200), zeros));
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    ad_status status = ad_tape_status(t);
    ad_tape_free(t);
    return status;
}

Test(memory, each_allocation_may_fail) {
    ad_var (*const functions[])(ad_var) = {std_of,  variance_of, amax_of,     norm_of,    logsumexp_of,
                                           prod_of, max_of,      quantile_of, cumprod_of, any_of};
    for (int k = 0; k < TEST_COUNT(functions); k++) {
        int64_t fail_at = 1, failures = 0;
        for (bool more = true; more; fail_at++) {
            test_memory memory;
            test_memory_open(&memory);
            memory.fail_at = fail_at;
            ad_status status = record_and_walk_back(&memory.allocator, functions[k]);
            more = memory.calls >= fail_at;
            cr_assert(status == AD_OK || (more && status == AD_ERR_OOM), "function %d, allocation %lld: %s", k,
                      (long long)fail_at, ad_status_name(status));
            failures += status == AD_ERR_OOM;
            test_memory_close(&memory);
        }
        cr_assert_gt(failures, 6, "function %d failed for want of memory %lld times", k, (long long)failures);
    }
}

/* ---- nothing --------------------------------------------------------------------------------------------------------- */

static const double inf = INFINITY;
static const ad_var all_ones = {0}; /* as the seed of a single number */

Test(edge, reductions_of_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 0), NULL);
    expect_values(ad_value(ad_prod(x, AD_AXES(1), false)), 1, 1);
    expect_values(ad_value(ad_variance(x, AD_AXES(1), false, 0)), NAN, NAN);
    expect_values(ad_value(ad_std(x, AD_AXES(1), false, 1)), NAN, NAN);
    expect_values(ad_value(ad_any(x, AD_AXES(1), false)), 0, 0);
    expect_values(ad_value(ad_all(x, AD_AXES(1), false)), 1, 1);
    expect_values(ad_value(ad_count_nonzero(x, AD_ALL_AXES, false)), 0);
    expect_values(ad_value(ad_trace(x)), 0);
    ad_backward(ad_prod(x, AD_ALL_AXES, false));
    const ad_view gradient = ad_gradient(x);
    cr_assert_eq(ad_view_count(&gradient), 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, extrema_and_order_statistics_of_nothing_do_not_exist) {
    ad_tape *t = ad_tape_new(NULL);
    const char *names[] = {"max", "min", "argmax", "argmin", "median", "quantile"};
    for (int k = 0; k < TEST_COUNT(names); k++) {
        ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 0), NULL), index;
        switch (k) {
        case 0: ad_max(x, 1, false, &index); break;
        case 1: ad_min(x, 1, false, &index); break;
        case 2: ad_argmax(x, 1, false); break;
        case 3: ad_argmin(x, 1, false); break;
        case 4: ad_median(x, 1, false, NULL); break;
        default: ad_quantile(x, 0.5, 1, false); break;
        }
        expect_error(t, AD_ERR_SHAPE, names[k], "test_reductions.c", "x is f64[2,0]", "of nothing");
    }
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(0, 3), NULL);
    const ad_view rows = ad_value(ad_max(x, 1, false, NULL));
    cr_assert_eq(ad_view_count(&rows), 0, "no rows are no mistake");
    expect_ok(t);
    ad_tape_free(t);
}

/* Rank 8, and every reduced axis of size 1: nothing has room for a ninth. */
Test(edge, reductions_of_full_rank_over_axes_of_size_1) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 1, 2, 1, 1, 1, 1, 1), (double[]){2, -3});
    ad_var g = ad_reshape(CONSTANT(t, 1, 1), AD_SHAPE(2));
    ad_axes all_but_2 = AD_AXES(0, 1, 3, 4, 5, 6, 7);
    expect_gradient(ad_prod(x, all_but_2, false), g, x, 1, 1);
    expect_gradient(ad_logsumexp(x, all_but_2, false), g, x, 1, 1);
    expect_gradient(ad_norm(x, 3, all_but_2, false), g, x, 1, -1);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- what is refused --------------------------------------------------------------------------------------------------- */

Test(errors, axes) {
    ad_tape *t = ad_tape_new(NULL);
    const double numbers[6] = {0};
    ad_prod(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), numbers), AD_AXES(0, -2), false);
    expect_error(t, AD_ERR_INDEX, "prod at", "axis -2 is named twice", "x is f64[2,3]");
    ad_std(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), numbers), AD_AXES(2), false, 0);
    expect_error(t, AD_ERR_INDEX, "std at", "axis 2 is out of range", "x is f64[2,3]", "0 to 1", "-2 to -1");
    ad_max(ad_leaf(t, "x", AD_F64, AD_SCALAR, numbers), 0, false, NULL);
    expect_error(t, AD_ERR_INDEX, "max at", "x is f64[]", "no axes");
    ad_cumsum(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), numbers), -3, false);
    expect_error(t, AD_ERR_INDEX, "cumsum at", "axis -3 is out of range", "x is f64[2,3]");
    ad_any(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), numbers), (ad_axes){.count = 99, .axis = {0}}, false);
    expect_error(t, AD_ERR_INDEX, "any at", "99 axes", "AD_AXES");
    ad_tape_free(t);
}

Test(errors, dtypes) {
    ad_tape *t = ad_tape_new(NULL);
    const int64_t numbers[] = {1, 2, 3, 4};
#define INTEGERS ad_constant(t, "n", AD_I64, AD_SHAPE(2, 2), numbers)
    ad_prod(INTEGERS, AD_ALL_AXES, false);
    expect_error(t, AD_ERR_DTYPE, "prod", "n is i64[2,2]", "f32 or f64");
    ad_variance(INTEGERS, AD_ALL_AXES, false, 0);
    expect_error(t, AD_ERR_DTYPE, "variance", "n is i64[2,2]", "f32 or f64");
    ad_argmax(INTEGERS, 0, false);
    expect_error(t, AD_ERR_DTYPE, "argmax", "n is i64[2,2]", "f32 or f64");
    ad_cummin(INTEGERS, 0, false, NULL);
    expect_error(t, AD_ERR_DTYPE, "cummin", "n is i64[2,2]", "f32 or f64");
    ad_trace(INTEGERS);
    expect_error(t, AD_ERR_DTYPE, "test_reductions.c", "is i64[2]", "f32 or f64");
    ad_recurrence(ad_number(t, AD_F32, 1), LEAF(t, 1, 2), 0, false, 0);
    expect_error(t, AD_ERR_DTYPE, "recurrence", "f32[]", "f64[2]");
    ad_tape_free(t);
}

Test(errors, attributes_and_shapes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_quantile(LEAF(t, 1, 2), 1.5, 0, false);
    expect_error(t, AD_ERR_VALUE, "quantile at", "q is 1.5", "[0, 1]");
    ad_quantile(LEAF(t, 1, 2), NAN, 0, false);
    expect_error(t, AD_ERR_VALUE, "quantile at", "q is nan");
    ad_variance(LEAF(t, 1, 2), AD_ALL_AXES, false, -1);
    expect_error(t, AD_ERR_VALUE, "variance at", "the correction is -1", "usually 0 or 1");
    ad_std(LEAF(t, 1, 2), AD_ALL_AXES, false, inf);
    expect_error(t, AD_ERR_VALUE, "std at", "the correction is inf");
    ad_trace(ad_name(LEAF(t, 1, 2), "x"));
    expect_error(t, AD_ERR_INDEX, "axis -2 is out of range", "x is f64[2]");
    ad_recurrence(LEAF(t, 1, 2), LEAF(t, 1, 2, 3), 0, false, 0);
    expect_error(t, AD_ERR_SHAPE, "recurrence at", "f64[2]", "f64[3]", "do not broadcast");
    ad_recurrence(LEAF(t, 1, 2), LEAF(t, 1, 2), 1, false, 0);
    expect_error(t, AD_ERR_INDEX, "recurrence at", "axis 1 is out of range", "f64[2]");
    ad_tape_free(t);
}

/* An index that was asked for is a handle that says so, not garbage. */
Test(errors, a_failed_op_gives_an_invalid_index) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var index = {.tape = t, .index = 12345, .generation = 12345};
    ad_max(LEAF(t, 1, 2), 1, false, &index);
    cr_assert_eq(index.generation, 0);
    ad_tape_reset(t);
    index.generation = 12345;
    ad_cummax(LEAF(t, 1, 2), 1, false, &index);
    cr_assert_eq(index.generation, 0);
    ad_max((ad_var){0}, 0, false, &index);
    cr_assert_eq(index.generation, 0);
    ad_tape_free(t);
}

/* ---- prod and cumprod: zeros --------------------------------------------------------------------------------------------- */

Test(edge, products_with_zeros_have_exact_gradients) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var none = LEAF(t, 2, 3, 4), one = LEAF(t, 2, 0, 4), two = LEAF(t, 0, 3, 0);
    expect_gradient(ad_prod(none, AD_ALL_AXES, false), all_ones, none, 12, 8, 6);
    expect_gradient(ad_prod(one, AD_ALL_AXES, false), all_ones, one, 0, 8, 0);
    expect_gradient(ad_prod(two, AD_ALL_AXES, false), all_ones, two, 0, 0, 0);
    ad_var g = CONSTANT(t, 1, 1, 1);
    expect_gradient(ad_cumprod(one, 0, false), g, one, 1, 10, 0);
    expect_gradient(ad_cumprod(two, 0, false), g, two, 4, 0, 0);
    expect_gradient(ad_cumprod(one, 0, AD_REVERSE), g, one, 0, 12, 1);
    ad_tape_free(t);
}

Test(edge, products_whose_parts_overflow_have_gradients_where_these_do_not) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1e200, 1e-200, 1e-200);
    expect_values(ad_value(ad_prod(x, AD_ALL_AXES, false)), 1e200 * 1e-200 * 1e-200);
    expect_gradient(ad_prod(x, AD_ALL_AXES, false), all_ones, x, 0, 1e200 * 1e-200, 1e200 * 1e-200);
    ad_tape_free(t);
}

/* d^3 (x_0 x_1 x_2) / dx_0 dx_1 dx_2 = 1, at zeros too. */
static double third_derivative(ad_tape *t, ad_var (*function)(ad_var), const double *values) {
    ad_var x[3], y;
    for (int i = 0; i < 3; i++) x[i] = ad_leaf(t, NULL, AD_F64, AD_SHAPE(1), &values[i]);
    ad_var parts = ad_constant(t, NULL, AD_F64, AD_SHAPE(3), (double[]){0, 0, 0});
    for (int i = 0; i < 3; i++)
        parts = ad_scatter_add(parts, 0, ad_constant(t, NULL, AD_I64, AD_SHAPE(1), (int64_t[]){i}), x[i]);
    y = function(parts);
    for (int i = 0; i < 3; i++) ad_grad(y, (ad_var){0}, 1, &x[i], &y);
    return ad_item(y);
}

static ad_var product_of(ad_var x) { return ad_prod(x, AD_ALL_AXES, false); }
static ad_var last_of_cumprod(ad_var x) {
    ad_var last = ad_constant(x.tape, NULL, AD_F64, AD_SHAPE(3), (double[]){0, 0, 1});
    return ad_sum(ad_mul(ad_cumprod(x, 0, false), last), AD_ALL_AXES, false);
}
static ad_var sum_of_exps_by_logcumsumexp(ad_var x) {
    ad_var last = ad_constant(x.tape, NULL, AD_F64, AD_SHAPE(3), (double[]){0, 0, 1});
    return ad_exp(ad_sum(ad_mul(ad_logcumsumexp(ad_log(x), 0, false), last), AD_ALL_AXES, false));
}

Test(edge, third_derivatives_of_products) {
    ad_tape *t = ad_tape_new(NULL);
    const double points[][3] = {{2, 3, 4}, {2, 0, 4}, {0, 0, 4}, {0, 0, 0}};
    for (int k = 0; k < TEST_COUNT(points); k++) {
        cr_assert_eq(third_derivative(t, product_of, points[k]), 1);
        cr_assert_eq(third_derivative(t, last_of_cumprod, points[k]), 1);
    }
    expect_near(third_derivative(t, sum_of_exps_by_logcumsumexp, points[0]), 0, 1e-15);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, a_cotangent_of_0_stays_0_beside_infinities) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, inf, 2, NAN), none = CONSTANT(t, 0, 0, 0), zero = ad_number(t, AD_F64, 0);
    expect_gradient(ad_prod(x, AD_ALL_AXES, false), zero, x, 0, 0, 0);
    expect_gradient(ad_variance(x, AD_ALL_AXES, false, 1), zero, x, 0, 0, 0);
    expect_gradient(ad_std(x, AD_ALL_AXES, false, 1), zero, x, 0, 0, 0);
    expect_gradient(ad_logsumexp(x, AD_ALL_AXES, false), zero, x, 0, 0, 0);
    expect_gradient(ad_norm(x, 2, AD_ALL_AXES, false), zero, x, 0, 0, 0);
    expect_gradient(ad_norm(x, 3, AD_ALL_AXES, false), zero, x, 0, 0, 0);
    expect_gradient(ad_cumprod(x, 0, false), none, x, 0, 0, 0);
    expect_gradient(ad_logcumsumexp(x, 0, false), none, x, 0, 0, 0);
    expect_gradient(ad_recurrence(x, x, 0, false, 1), none, x, 0, 0, 0);
    ad_tape_free(t);
}

/* ---- variance and std ------------------------------------------------------------------------------------------------------ */

Test(edge, equal_numbers_have_variance_0_and_std_has_gradient_0_there) {
    ad_tape *t = ad_tape_new(NULL);
    const double numbers[] = {0.1, -1e300, 1e-300, 1.0 / 3, 0};
    for (int k = 0; k < TEST_COUNT(numbers); k++) {
        for (int64_t n = 2; n < 40; n++) {
            ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(1), &numbers[k]), many = ad_broadcast_to(x, AD_SHAPE(n));
            ad_var y = ad_std(many, AD_ALL_AXES, false, 1), slope;
            cr_assert_eq(ad_item(ad_variance(many, AD_ALL_AXES, false, 1)), 0, "%lld times %g", (long long)n,
                         numbers[k]);
            cr_assert_eq(ad_item(y), 0);
            expect_gradient(y, all_ones, x, 0);
            ad_grad(y, all_ones, 1, &x, &slope);
            expect_gradient(slope, CONSTANT(t, 1), x, 0);
            ad_tape_reset(t);
        }
    }
    ad_tape_free(t);
}

Test(edge, no_more_numbers_than_the_correction_have_no_variance) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var one = LEAF(t, 3);
    expect_values(ad_value(ad_variance(one, AD_ALL_AXES, false, 0)), 0);
    expect_values(ad_value(ad_variance(one, AD_ALL_AXES, false, 1)), NAN);
    expect_values(ad_value(ad_std(one, AD_ALL_AXES, false, 1)), NAN);
    expect_gradient(ad_variance(one, AD_ALL_AXES, false, 1), all_ones, one, NAN);
    ad_tape_free(t);
}

/* A variance from sums of squares would have no correct digit here, and a mean rounded to f32 would spoil it. */
Test(edge, variance_of_small_differences_between_large_numbers) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1e15 + 1, 1e15 + 2, 1e15 + 3, 1e15 + 6);
    expect_values(ad_value(ad_variance(x, AD_ALL_AXES, false, 0)), 3.5);
    expect_gradient(ad_variance(x, AD_ALL_AXES, false, 0), all_ones, x, -1, -0.5, 0, 1.5);
    const float values[] = {1e8f, 1e8f + 8, 1e8f + 16, 1e8f + 24};
    ad_var f = ad_leaf(t, NULL, AD_F32, AD_SHAPE(4), values);
    expect_values(ad_value(ad_variance(f, AD_ALL_AXES, false, 0)), 80);
    ad_backward(ad_variance(f, AD_ALL_AXES, false, 0));
    expect_values(ad_gradient(f), -6, -2, 2, 6);
    ad_tape_free(t);
}

/* ---- extrema and order --------------------------------------------------------------------------------------------------------- */

Test(edge, of_equal_elements_the_first_is_picked_and_gets_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 3, -2, 3, -2, 3), index, one = ad_number(t, AD_F64, 1);
    ad_var y = ad_max(x, 0, false, &index);
    expect_values(ad_value(y), 3);
    expect_values(ad_value(index), 1);
    expect_gradient(y, one, x, 0, 1, 0, 0, 0, 0);
    y = ad_min(x, 0, false, &index);
    expect_values(ad_value(index), 2);
    expect_gradient(y, one, x, 0, 0, 1, 0, 0, 0);
    expect_values(ad_value(ad_argmax(x, 0, AD_KEEPDIM)), 1);
    expect_values(ad_value(ad_argmin(x, 0, false)), 2);
    ad_var equal = LEAF(t, 0.0, -0.0, 0.0);
    expect_values(ad_value(ad_argmax(equal, 0, false)), 0);
    expect_gradient(ad_median(equal, 0, false, &index), one, equal, 1, 0, 0);
    expect_values(ad_value(index), 0);
    expect_gradient(ad_quantile(equal, 0.75, 0, false), one, equal, 1, 0, 0);
    ad_tape_free(t);
}

Test(edge, nan_is_the_extremum_and_its_first_place_the_index) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, NAN, inf, -NAN), index, one = ad_number(t, AD_F64, 1);
    expect_values(ad_value(ad_max(x, 0, false, &index)), NAN);
    expect_values(ad_value(index), 1);
    expect_values(ad_value(ad_min(x, 0, false, &index)), NAN);
    expect_values(ad_value(index), 1);
    expect_values(ad_value(ad_argmin(x, 0, false)), 1);
    expect_gradient(ad_max(x, 0, false, NULL), one, x, 0, 1, 0, 0);
    expect_values(ad_value(ad_median(x, 0, false, &index)), NAN);
    expect_values(ad_value(index), 1);
    expect_values(ad_value(ad_quantile(x, 1, 0, false)), NAN);
    expect_values(ad_value(ad_cummax(x, 0, false, &index)), 1, NAN, NAN, NAN);
    expect_values(ad_value(index), 0, 1, 1, 1);
    expect_values(ad_value(ad_prod(x, AD_ALL_AXES, false)), NAN);
    ad_tape_free(t);
}

Test(edge, extrema_of_infinities) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var low = LEAF(t, -inf, -inf), high = LEAF(t, inf, inf), index;
    expect_values(ad_value(ad_max(low, 0, false, &index)), -inf);
    expect_values(ad_value(index), 0);
    expect_values(ad_value(ad_min(high, 0, false, NULL)), inf);
    expect_values(ad_value(ad_median(low, 0, false, NULL)), -inf);
    expect_values(ad_value(ad_quantile(high, 0.5, 0, false)), inf);
    ad_tape_free(t);
}

Test(edge, the_median_of_an_even_number_is_the_lower_one_and_the_quantile_the_mean) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 4, 1, 3, 2), index, one = ad_number(t, AD_F64, 1);
    expect_gradient(ad_median(x, 0, false, &index), one, x, 0, 0, 0, 1);
    expect_values(ad_value(index), 3);
    expect_values(ad_value(ad_quantile(x, 0.5, 0, false)), 2.5);
    expect_gradient(ad_quantile(x, 0.5, 0, false), one, x, 0, 0, 0.5, 0.5);
    expect_gradient(ad_quantile(x, 0, 0, false), one, x, 0, 1, 0, 0);
    expect_gradient(ad_quantile(x, 1, 0, false), one, x, 1, 0, 0, 0);
    ad_tape_free(t);
}

/* The search by digits must put every kind of number in its place. */
Test(edge, quantiles_order_all_kinds_of_numbers) {
    ad_tape *t = ad_tape_new(NULL);
    const double sorted[] = {-inf, -DBL_MAX, -1, -DBL_MIN, -0x1p-1074, 0, 0x1p-1074, DBL_MIN, 1, DBL_MAX, inf};
    enum { n = TEST_COUNT(sorted) };
    double shuffled[n];
    for (int i = 0; i < n; i++) shuffled[i * 7 % n] = sorted[i];
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(n), shuffled);
    for (int i = 0; i < n; i++) expect_values(ad_value(ad_quantile(x, (double)i / (n - 1), 0, false)), sorted[i]);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, equal_extrema_share_the_gradient_evenly) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 3), (double[]){3, 1, 3, 2, 2, 2}), g = CONSTANT(t, 1, 6);
    expect_gradient(ad_amax(x, AD_AXES(1), false), g, x, 0.5, 0, 0.5, 2, 2, 2);
    expect_gradient(ad_amin(x, AD_AXES(1), false), g, x, 0, 1, 0, 2, 2, 2);
    ad_var zeros = LEAF(t, 0.0, -0.0);
    expect_gradient(ad_amax(zeros, AD_ALL_AXES, false), ad_number(t, AD_F64, 1), zeros, 0.5, 0.5);
    ad_var y = LEAF(t, NAN, 1, NAN, -inf);
    expect_values(ad_value(ad_amax(y, AD_ALL_AXES, false)), NAN);
    expect_gradient(ad_amax(y, AD_ALL_AXES, false), all_ones, y, 0.5, 0, 0.5, 0);
    expect_gradient(ad_amin(y, AD_ALL_AXES, false), ad_number(t, AD_F64, 0), y, 0, 0, 0, 0);
    ad_tape_free(t);
}

/* ---- norm ------------------------------------------------------------------------------------------------------------------ */

Test(edge, the_norm_of_zeros_has_gradient_0_of_every_order) {
    ad_tape *t = ad_tape_new(NULL);
    const double powers[] = {1, 2, 3, 1.5, 0.5, inf};
    for (int k = 0; k < TEST_COUNT(powers); k++) {
        ad_var x = LEAF(t, 0.0, -0.0, 0.0), slope, y = ad_norm(x, powers[k], AD_ALL_AXES, false);
        cr_assert_eq(ad_item(y), 0);
        expect_gradient(y, all_ones, x, 0, 0, 0);
        ad_grad(y, all_ones, 1, &x, &slope);
        expect_gradient(slope, CONSTANT(t, 1, 2, 3), x, 0, 0, 0);
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_tape_free(t);
}

Test(edge, norms_neither_overflow_nor_vanish) {
    ad_tape *t = ad_tape_new(NULL);
    const double sizes[] = {1e300, 1e-300, 0x1p-1070, 1};
    const double powers[] = {1, 2, 3, 1.5, inf};
    for (int i = 0; i < TEST_COUNT(sizes); i++) {
        for (int k = 0; k < TEST_COUNT(powers); k++) {
            double p = powers[k], size = sizes[i];
            double want = p == inf ? 4 : pow(pow(3, p) + pow(4, p), 1 / p),
                   ratio = p == inf ? 0 : pow(3 / want, p - 1);
            ad_var x = LEAF(t, 3 * size, -4 * size), y = ad_norm(x, p, AD_ALL_AXES, false);
            expect_near(ad_item(y) / size, want, size < 1e-310 ? 0.02 : 1e-15);
            ad_backward(y);
            const ad_view gradient = ad_gradient(x);
            expect_near(ad_view_get(&gradient, 0), ratio, size < 1e-310 ? 0.02 : 1e-15);
        }
    }
    ad_var f = ad_leaf(t, NULL, AD_F32, AD_SHAPE(2), (float[]){3e38f, 0});
    cr_assert_eq(ad_item(ad_norm(f, 2, AD_ALL_AXES, false)), 3e38f);
    ad_var g = ad_leaf(t, NULL, AD_F32, AD_SHAPE(2), (float[]){0x3p-149f, 0x4p-149f});
    cr_assert_eq(ad_item(ad_norm(g, 2, AD_ALL_AXES, false)), 0x5p-149f);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, norms_of_infinities_and_nan) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(3, 2), (double[]){-inf, 1, NAN, 1, 1e200, 1e-200});
    const double powers[] = {1, 2, 3, inf};
    for (int k = 0; k < TEST_COUNT(powers); k++)
        expect_values(ad_value(ad_norm(x, powers[k], AD_AXES(1), false)), inf, NAN, 1e200);
    expect_gradient(ad_norm(x, 2, AD_AXES(1), false), CONSTANT(t, 0, 0, 1), x, 0, 0, 0, 0, 1, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(errors, norms) {
    ad_tape *t = ad_tape_new(NULL);
    ad_norm(LEAF(t, 1, 2), -1, AD_ALL_AXES, false);
    expect_error(t, AD_ERR_VALUE, "norm at", "test_reductions.c", "p is -1", "above 0", "INFINITY");
    ad_norm(LEAF(t, 1, 2), NAN, AD_ALL_AXES, false);
    expect_error(t, AD_ERR_VALUE, "norm at", "p is nan");
    ad_norm(LEAF(t, 1, 2), 2, AD_AXES(3), false);
    expect_error(t, AD_ERR_INDEX, "norm at", "axis 3 is out of range");
    ad_amax(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 0, 3), NULL), AD_AXES(0, 1), false);
    expect_error(t, AD_ERR_SHAPE, "amax at", "x is f64[2,0,3]", "no amax of nothing");
    cr_assert_eq(ad_norm((ad_var){0}, -1, AD_ALL_AXES, false).generation, 0);
    ad_tape_free(t);
}

/* ---- logsumexp --------------------------------------------------------------------------------------------------------------- */

Test(edge, logsumexp_of_nothing_but_minus_infinity_is_that_with_gradient_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 2), (double[]){-inf, -inf, -inf, 5}), slope;
    ad_var y = ad_logsumexp(x, AD_AXES(1), false), g = CONSTANT(t, 1, 1);
    expect_values(ad_value(y), -inf, 5);
    expect_gradient(y, g, x, 0, 0, 0, 1);
    ad_grad(y, g, 1, &x, &slope);
    expect_gradient(slope, ad_reshape(CONSTANT(t, 1, 2, 3, 4), AD_SHAPE(2, 2)), x, 0, 0, 0, 0);
    ad_var nothing = ad_leaf(t, NULL, AD_F64, AD_SHAPE(0), NULL);
    expect_values(ad_value(ad_logsumexp(nothing, AD_ALL_AXES, false)), -inf);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, logsumexp_does_not_overflow) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0x1p1000, 0x1p1000), y = ad_logsumexp(x, AD_ALL_AXES, false);
    expect_values(ad_value(y), 0x1p1000);
    ad_var z = LEAF(t, -1000, -1000, -1001);
    expect_near(ad_item(ad_logsumexp(z, AD_ALL_AXES, false)), -1000 + log(2 + exp(-1)), 1e-15);
    expect_values(ad_value(ad_logsumexp(LEAF(t, inf, 1, -inf), AD_ALL_AXES, false)), inf);
    expect_values(ad_value(ad_logsumexp(LEAF(t, NAN, 1, inf), AD_ALL_AXES, false)), NAN);
    expect_gradient(y, all_ones, x, 0.5, 0.5);
    ad_tape_free(t);
}

/* The result is rounded to a multiple of 8, the shares must not be. */
Test(edge, shares_in_logsumexp_are_right_where_the_result_is_rounded) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F32, AD_SHAPE(3), (float[]){-1e8f, -1e8f, -1e8f - 800}), slope;
    ad_var y = ad_logsumexp(x, AD_ALL_AXES, false);
    ad_backward(y);
    expect_values(ad_gradient(x), 0.5, 0.5, 0);
    ad_grad(y, all_ones, 1, &x, &slope);
    expect_values(ad_value(slope), 0.5, 0.5, 0);
    ad_tape_free(t);
}

/* ---- any, all, count ------------------------------------------------------------------------------------------------------------- */

Test(edge, what_counts_as_true) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(3, 2), (double[]){0.0, -0.0, NAN, 0x1p-1074, 0, 1});
    expect_values(ad_value(ad_any(x, AD_AXES(1), false)), 0, 1, 1);
    expect_values(ad_value(ad_all(x, AD_AXES(1), false)), 0, 1, 0);
    expect_values(ad_value(ad_count_nonzero(x, AD_AXES(0), AD_KEEPDIM)), 1, 2);
    ad_var wide = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), (int64_t[]){INT64_C(1) << 62, 0});
    expect_values(ad_value(ad_count_nonzero(wide, AD_ALL_AXES, false)), 1);
    cr_assert_eq(ad_value(ad_any(wide, AD_ALL_AXES, false)).dtype, AD_I32);
    cr_assert_eq(ad_value(ad_count_nonzero(wide, AD_ALL_AXES, false)).dtype, AD_I64);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- scans --------------------------------------------------------------------------------------------------------------------------- */

Test(edge, the_cumulative_sum_of_ten_million_f32_ones_ends_at_ten_million) {
    const int64_t n = 10000000;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_broadcast_to(ad_leaf(t, NULL, AD_F32, AD_SHAPE(1), (float[]){1}), AD_SHAPE(n));
    ad_view y = ad_value(ad_cumsum(x, 0, false));
    cr_assert_eq(ad_view_get(&y, n - 1), 1e7);
    ad_tape_free(t);
}

Test(edge, logcumsumexp_before_the_first_mass_is_minus_infinity_with_gradient_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, -inf, -inf, 3, -inf), y = ad_logcumsumexp(x, 0, false);
    expect_values(ad_value(y), -inf, -inf, 3, 3);
    expect_gradient(y, CONSTANT(t, 1, 1, 1, 1), x, 0, 0, 2, 0);
    ad_var none = LEAF(t, -inf, -inf);
    expect_gradient(ad_logcumsumexp(none, 0, AD_REVERSE), CONSTANT(t, 1, 1), none, 0, 0);
    expect_values(ad_value(ad_logcumsumexp(LEAF(t, 1, inf, inf, 2), 0, false)), 1, inf, inf, inf);
    ad_tape_free(t);
}

/* exp(-100), which 1 less a probability next to 1 would lose. */
Test(edge, logcumsumexp_keeps_gradients_that_are_small) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0, 100);
    ad_backward_with(ad_logcumsumexp(x, 0, false), &(ad_backward_options){.seed = CONSTANT(t, 0, 1)});
    const ad_view gradient = ad_gradient(x);
    expect_near(ad_view_get(&gradient, 0) / exp(-100), 1, 1e-14);
    ad_tape_free(t);
}

Test(edge, cumulative_extrema_say_where_from_either_end) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 3, 2, 3), index, g = CONSTANT(t, 1, 1, 1, 1);
    expect_values(ad_value(ad_cummax(x, 0, false, &index)), 1, 3, 3, 3);
    expect_values(ad_value(index), 0, 1, 1, 1);
    expect_gradient(ad_cummax(x, 0, false, NULL), g, x, 1, 3, 0, 0);
    expect_values(ad_value(ad_cummax(x, 0, AD_REVERSE, &index)), 3, 3, 3, 3);
    expect_values(ad_value(index), 3, 3, 3, 3);
    expect_gradient(ad_cummin(x, 0, AD_REVERSE, &index), g, x, 1, 0, 2, 1);
    expect_values(ad_value(index), 0, 2, 2, 3);
    ad_tape_free(t);
}

Test(edge, recurrences) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var half = ad_number(t, AD_F64, 0.5), x = LEAF(t, 8, 0, 0, 4), zero = ad_number(t, AD_F64, 0);
    expect_values(ad_value(ad_recurrence(half, x, 0, false, 16)), 16, 16, 8, 4);
    expect_values(ad_value(ad_recurrence(half, x, 0, AD_REVERSE, 0)), 1, 2, 4, 0);
    /* a factor of 0 shifts by one, whatever comes */
    expect_values(ad_value(ad_recurrence(zero, LEAF(t, -inf, NAN, 1), 0, false, inf)), inf, -inf, NAN);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, the_trace_of_a_wide_matrix_takes_what_there_is) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, 4, 5, 6});
    expect_values(ad_value(ad_trace(x)), 6);
    expect_gradient(ad_trace(x), all_ones, x, 1, 0, 0, 0, 1, 0);
    ad_tape_free(t);
}
