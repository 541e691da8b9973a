/* ad_gradcheck: functions that are right, functions that are wrong, kinks, and what the report says. */
#include "helpers.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

static ad_tensor *tensor(ad_dtype dtype, ad_shape shape, const void *data) {
    ad_tensor *made;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_tensor_new(&made, NULL, dtype, shape, data, &error), AD_OK, "%s", error.message);
    return made;
}

static ad_tensor *normal(ad_shape shape, uint64_t seed) {
    ad_tensor *made = tensor(AD_F64, shape, NULL);
    ad_rng rng = {.seed = seed, .counter = 0};
    for (int64_t i = 0; i < ad_shape_count(&shape); i++)
        ((double *)ad_tensor_view(made)->data)[i] = ad_rng_normal(&rng);
    return made;
}

static void unref(ad_tensor **x, int n) {
    for (int i = 0; i < n; i++) ad_tensor_unref(x[i]);
}

/* ---- checks ----------------------------------------------------------------------------------------------------- */

/* Checks f at x, which is released. */
static ad_check_report check_with(ad_check_function f, void *user, int n, ad_tensor **x,
                                  const ad_check_options *options) {
    ad_check_report report;
    ad_status status = ad_gradcheck("f", f, user, n, x, options, &report);
    cr_expect_eq(status, report.status);
    unref(x, n);
    return report;
}

static ad_check_report check(ad_check_function f, int n, ad_tensor **x) {
    return check_with(f, NULL, n, x, &(ad_check_options){.seed = 5});
}

/* Checks f at one number. */
static ad_check_report check_number(ad_check_function f, double at) {
    return check(f, 1, (ad_tensor *[]){tensor(AD_F64, AD_SCALAR, &at)});
}

#define expect_says(report, wanted, ...) expect_says_at(AD_HERE, report, wanted, (const char *[]){__VA_ARGS__, NULL})
static void expect_says_at(const char *line, ad_check_report report, ad_status status, const char *const *texts) {
    cr_expect_eq(report.status, status, "%s: %s: %s", line, ad_status_name(report.status), report.message);
    for (; *texts; texts++)
        cr_expect_not_null(strstr(report.message, *texts), "%s: '%s' is not in: %s", line, *texts, report.message);
}

static void expect_right(ad_check_report report) {
    cr_expect_eq(report.status, AD_OK, "%s", report.message);
    cr_expect_str_empty(report.message);
    cr_expect_str_empty(report.law);
    cr_expect_gt(report.compared, 0);
    cr_expect_leq(report.worst, 1);
    cr_expect_eq(report.sample, -1);
}

/* ---- right functions -------------------------------------------------------------------------------------------- */

/* A residual layer and its loss: y = x + relu(H x + v), e = -log softmax(y)[class]. */
static ad_var residual(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    ad_var y = ad_add(x[1], ad_relu(ad_add(ad_matmul(x[0], x[1]), x[2])));
    return ad_softmax_xent(y, x[3]);
}

Test(gradcheck, passes_a_function_of_several_variables_of_any_dtype) {
    int64_t class = 2;
    float v[] = {0.3f, -0.2f, 0.1f};
    expect_right(check(residual, 4,
                       (ad_tensor *[]){normal(AD_SHAPE(3, 3), 1), normal(AD_SHAPE(3), 2),
                                       tensor(AD_F32, AD_SHAPE(3), v), tensor(AD_I64, AD_SCALAR, &class)}));
}

static ad_var norm_of_product(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_sum(ad_tanh(ad_matmul(x[0], x[1])), AD_AXES(0), false);
}

Test(gradcheck, passes_in_every_mode) {
    for (int mode = AD_CHECK_AUTO; mode <= AD_CHECK_FAST; mode++) {
        ad_tensor *x[] = {normal(AD_SHAPE(20, 10), 1), normal(AD_SHAPE(10, 15), 2)};
        expect_right(check_with(norm_of_product, NULL, 2, x, &(ad_check_options){.mode = (ad_check_mode)mode}));
    }
}

static ad_var sum_of_all(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)user;
    ad_var total = x[0];
    for (int i = 1; i < n; i++) total = ad_add(ad_mul(total, x[i]), x[i]);
    return total;
}

Test(gradcheck, takes_any_number_of_inputs) {
    ad_tensor *x[40];
    for (int i = 0; i < 40; i++) x[i] = normal(i % 2 ? AD_SCALAR : AD_SHAPE(2), (uint64_t)i);
    expect_right(check(sum_of_all, 40, x));
}

static ad_var square(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_mul(x[0], x[0]);
}

Test(gradcheck, leaves_the_inputs_alone_and_takes_them_in_any_layout) {
    double data[] = {1, 2, 3, 4, 5, 6};
    ad_tensor *base = tensor(AD_F64, AD_SHAPE(2, 3), data), *column;
    ad_view view;
    cr_assert_eq(ad_view_slice(ad_tensor_view(base), 1, 1, 2, 1, &view), AD_OK);
    cr_assert_eq(ad_tensor_alias(&column, base, &view, NULL), AD_OK);
    ad_check_report report;
    cr_expect_eq(ad_gradcheck("f", square, NULL, 1, &column, NULL, &report), AD_OK, "%s", report.message);
    cr_expect_arr_eq(ad_tensor_view(base)->data, data, sizeof data);
    ad_tensor_unref(column);
    ad_tensor_unref(base);
}

Test(gradcheck, needs_no_report) {
    ad_tensor *x = normal(AD_SHAPE(3), 1);
    cr_expect_eq(ad_gradcheck(NULL, square, NULL, 1, &x, NULL, NULL), AD_OK);
    ad_tensor_unref(x);
}

Test(gradcheck, shows_that_nothing_was_compared) {
    ad_check_report report = check(square, 1, (ad_tensor *[]){tensor(AD_F64, AD_SHAPE(0, 3), NULL)});
    cr_expect_eq(report.status, AD_OK);
    cr_expect_eq(report.compared, 0);
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    cr_expect_eq(ad_check_print(&report, stream), AD_OK);
    fclose(stream);
    cr_expect_not_null(strstr(text, "NOTHING COMPARED"), "%s", text);
    free(text);
}

/* ---- elements that are always looked at ------------------------------------------------------------------------- */

/* Which elements of a [4,5,30] array moved while all others stood still. */
typedef struct moved {
    double at[600];
    bool seen[600], any;
} moved;

static ad_var watch(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n;
    moved *m = user;
    int count = 0, last = 0;
    for (int i = 0; i < 600; i++) {
        double value = ((const double *)ad_value(x[0]).data)[i];
        if (!m->any) m->at[i] = value;
        if (value == m->at[i]) continue;
        count++;
        last = i;
    }
    m->any = true;
    if (count == 1) m->seen[last] = true;
    return ad_sum(x[0], AD_ALL_AXES, false);
}

Test(gradcheck, looks_at_the_edges_of_every_axis_and_at_some_others) {
    moved m = {.any = false};
    ad_tensor *x[] = {normal(AD_SHAPE(4, 5, 30), 1)};
    expect_right(check_with(watch, &m, 1, x, &(ad_check_options){.mode = AD_CHECK_FAST, .first_order_only = true}));
    int seen = 0;
    for (int i = 0; i < 600; i++) seen += m.seen[i];
    cr_expect(m.seen[0] && m.seen[599], "first and last");
    cr_expect(m.seen[450] && m.seen[120] && m.seen[29], "the other end of each axis from the first");
    cr_expect(m.seen[599 - 450] && m.seen[599 - 120] && m.seen[599 - 29], "and from the last");
    cr_expect_gt(seen, 8 + 10, "%d", seen);
    cr_expect_leq(seen, 8 + 16, "%d", seen);
}

/* ---- wrong functions -------------------------------------------------------------------------------------------- */

static ad_var cut(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    ad_name(x[1], "weights");
    return ad_mul(x[0], ad_detach(x[1]));
}

Test(gradcheck, names_the_input_and_the_likely_cause) {
    ad_check_report report = check(cut, 2, (ad_tensor *[]){normal(AD_SHAPE(2, 3), 1), normal(AD_SHAPE(3), 2)});
    expect_says(report, AD_ERR_CHECK, "f: gradient = differences", "input 1 (weights) at [0]", "backward gives 0",
                "all of it is 0", "detach");
    cr_expect_str_eq(report.subject, "f");
    cr_expect_str_eq(report.law, "gradient = differences");
    cr_expect(report.has_point);
    cr_expect_eq(report.point.input, 1);
    cr_expect_str_eq(report.point.name, "weights");
    cr_expect_eq(report.point.at.rank, 1);
    cr_expect_eq(report.point.at.dim[0], 0);
    cr_expect_eq(report.point.analytic, 0);
    cr_expect_neq(report.point.numeric, 0);
    cr_expect_gt(report.worst, 1);
}

/* A single number is not weighted: the report shows the derivative itself. */
Test(gradcheck, reports_the_derivative_of_a_number_as_it_is) {
    ad_check_report report = check(cut, 2,
                                   (ad_tensor *[]){tensor(AD_F64, AD_SCALAR, &(double){3}),
                                                   tensor(AD_F64, AD_SCALAR, &(double){5})});
    expect_says(report, AD_ERR_CHECK, "input 1 (weights)", "differences 3");
    cr_expect_float_eq(report.point.numeric, 3, 1e-8);
    cr_expect_float_eq(report.point.x, 5, 0);
    cr_expect_lt(report.point.error, 1e-8);
}

/* x^2 as 2 x c - c^2 for a constant c = x: its first derivative, 2 c, is that of x^2, its second is 0. */
static ad_var first_order_only(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    ad_var c = ad_detach(x[0]);
    return ad_sub(ad_scale(ad_mul(x[0], c), 2), ad_mul(c, c));
}

Test(gradcheck, finds_a_second_derivative_that_is_wrong_when_the_first_is_right) {
    ad_check_report report = check(first_order_only, 1, (ad_tensor *[]){normal(AD_SHAPE(3), 4)});
    expect_says(report, AD_ERR_CHECK, "second order", "input 0 at [0]", "all of it is 0");
    ad_tensor *x[] = {normal(AD_SHAPE(3), 4)};
    expect_right(check_with(first_order_only, NULL, 1, x, &(ad_check_options){.first_order_only = true}));
}

/* Squares it if it is given one variable twice, and then cuts one way. */
static ad_var alias_trap(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_mul(x[0], x[0].index == x[1].index ? ad_detach(x[1]) : x[1]);
}

Test(gradcheck, passes_one_variable_as_two_inputs) {
    ad_check_report report = check(alias_trap, 2, (ad_tensor *[]){normal(AD_SHAPE(3), 1), normal(AD_SHAPE(3), 2)});
    expect_says(report, AD_ERR_CHECK, "two inputs may be one variable", "sum over both");
}

static ad_var fickle(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n;
    return ad_scale(x[0], ++*(int *)user);
}

static ad_var growing(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n;
    return ad_broadcast_to(x[0], AD_SHAPE(++*(int *)user, 3));
}

Test(gradcheck, needs_the_same_function_on_every_call) {
    int calls = 0;
    ad_tensor *x[] = {normal(AD_SHAPE(3), 1)}, *again[] = {normal(AD_SHAPE(3), 1)};
    expect_says(check_with(fickle, &calls, 1, x, NULL), AD_ERR_CHECK, "the same on every run", "second run");
    expect_says(check_with(growing, &calls, 1, again, NULL), AD_ERR_CHECK, "same shapes", "f64[", "on another call");
}

/* ---- kinks ------------------------------------------------------------------------------------------------------ */

static ad_var relu(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_relu(x[0]);
}

static ad_var absolute(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_add(ad_relu(x[0]), ad_relu(ad_neg(x[0])));
}

Test(gradcheck, reports_the_kink_of_relu_with_both_slopes) {
    ad_check_report report = check_number(relu, 0);
    expect_right(report);
    cr_expect_geq(report.kinks, 1);
    cr_expect_float_eq(report.kink.left, 0, 1e-9);
    cr_expect_float_eq(report.kink.right, 1, 1e-9);
    cr_expect_eq(report.kink.analytic, 0);
    cr_expect_eq(report.kink.input, 0);
}

Test(gradcheck, reports_the_kink_of_the_absolute_value_where_the_central_difference_agrees) {
    ad_check_report report = check_number(absolute, 0);
    expect_right(report);
    cr_expect_geq(report.kinks, 1);
    cr_expect_float_eq(report.kink.left, -1, 1e-9);
    cr_expect_float_eq(report.kink.right, 1, 1e-9);
}

Test(gradcheck, looks_past_a_kink_that_is_only_near) {
    for (double distance = 1e-3; distance > 2e-8; distance /= 1.7) {
        ad_check_report right = check_number(relu, distance), left = check_number(relu, -distance);
        expect_right(right);
        expect_right(left);
        cr_expect_eq(right.kinks + left.kinks, 0, "at %g", distance);
    }
}

static ad_var bent(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_sub(x[0], ad_detach(ad_relu(x[0]))); /* slopes 1 and 0, gradient 1 */
}

static ad_var bent_outside(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_sub(ad_scale(x[0], 3), ad_detach(ad_add(x[0], ad_relu(x[0])))); /* slopes 2 and 1, gradient 3 */
}

Test(gradcheck, fails_at_a_kink_only_if_the_derivative_is_outside_of_the_slopes) {
    ad_check_report report = check_number(bent, 0);
    expect_right(report);
    cr_expect_geq(report.kinks, 1);
    cr_expect_float_eq(report.kink.analytic, 1, 1e-12);
    report = check_number(bent_outside, 0);
    expect_says(report, AD_ERR_CHECK, "input 0", "is 3, outside of the slopes to the left, 2", "to the right, 1",
                "kink");
    cr_expect_float_eq(report.point.left, 2, 1e-9);
    cr_expect_float_eq(report.point.right, 1, 1e-9);
    cr_expect_eq(report.kinks, 0);
    /* and away from the kink both are plainly wrong */
    expect_says(check_number(bent, 1), AD_ERR_CHECK, "is wrong: backward gives 1, differences");
}

static ad_var steps(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    ad_var zero = ad_number(tape, AD_F64, 0), one = ad_number(tape, AD_F64, 1);
    return ad_where(ad_greater(ad_detach(x[0]), zero), ad_add(ad_mul(x[0], x[0]), one), ad_mul(x[0], x[0]));
}

Test(gradcheck, counts_a_jump_and_does_not_judge_it) {
    ad_check_report report = check_number(steps, 0);
    expect_right(report);
    cr_expect_geq(report.kinks, 1);
    report = check_number(steps, 1);
    expect_right(report);
    cr_expect_eq(report.kinks, 0);
}

/* Along a direction, kinks of many elements may hide each other. */
Test(gradcheck, finds_kinks_along_directions) {
    ad_tensor *x[] = {normal(AD_SHAPE(400), 1)};
    ((double *)ad_tensor_view(x[0])->data)[123] = 0;
    ad_check_report report = check_with(relu, NULL, 1, x, &(ad_check_options){.mode = AD_CHECK_FAST});
    expect_right(report);
    cr_expect_geq(report.kinks, 1);
    cr_expect_eq(report.kink.element, 123);
    ad_tensor *all[] = {tensor(AD_F64, AD_SHAPE(400), NULL)};
    report = check_with(relu, NULL, 1, all, &(ad_check_options){.mode = AD_CHECK_FAST});
    expect_right(report);
    cr_expect_geq(report.kinks, 2);
}

/* ---- numbers that are none -------------------------------------------------------------------------------------- */

static ad_var logarithm(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_log(x[0]);
}

/* 0 * log(x): its value next to 0 is NaN, its gradient a number. */
static ad_var masked_log(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)n, (void)user;
    return ad_mul(ad_number(tape, AD_F64, 0), ad_detach(ad_log(x[0])));
}

Test(gradcheck, never_takes_what_is_not_finite_for_right) {
    expect_says(check_number(logarithm, -1), AD_ERR_CHECK, "results are numbers", "NaN at the point itself",
                "domain");
    expect_says(check_number(logarithm, 0), AD_ERR_CHECK, "input 0", "not finite next to this point (x = 0)",
                "domain");
    expect_says(check_number(masked_log, 0), AD_ERR_CHECK, "NaN at the point itself");
    expect_says(check_number(logarithm, NAN), AD_ERR_CHECK, "NaN at the point itself");
    expect_right(check_number(logarithm, 1e-6)); /* closer to the end of the domain than the first step */
    expect_right(check_number(logarithm, 1e6));
}

/* ---- hard functions --------------------------------------------------------------------------------------------- */

static ad_var wild(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n, (void)user;
    return ad_tanh(ad_scale(x[0], 3e5));
}

/* Loses ten digits inside. */
static ad_var noisy(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)n, (void)user;
    ad_var big = ad_number(tape, AD_F64, 1e10);
    return ad_sub(ad_add(ad_mul(x[0], x[0]), big), big);
}

static ad_var noisy_and_wrong(ad_tape *tape, const ad_var *x, int n, void *user) {
    return ad_add(noisy(tape, x, n, user), ad_detach(x[0]));
}

Test(gradcheck, knows_how_far_to_trust_differences) {
    expect_right(check_number(wild, 1e-6));
    expect_right(check_number(noisy, 1.3));
    expect_says(check_number(noisy_and_wrong, 1.3), AD_ERR_CHECK, "gradient = differences");
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static ad_var mismatched(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)n, (void)user;
    return ad_mul(x[0], ad_number(tape, AD_F32, 2));
}
static ad_var integers(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)n, (void)user;
    return ad_greater(x[0], ad_number(tape, AD_F64, 0));
}
static ad_var nothing(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)x, (void)n, (void)user;
    return (ad_var){0};
}
static ad_var stale(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape, (void)n;
    ad_var *kept = user;
    if (!kept->tape) *kept = ad_neg(x[0]);
    return *kept;
}

Test(gradcheck, passes_on_what_the_function_says) {
    ad_var kept = {0};
    ad_tensor *x[] = {normal(AD_SHAPE(3), 1)};
    expect_says(check(mismatched, 1, (ad_tensor *[]){normal(AD_SHAPE(3), 1)}), AD_ERR_DTYPE, "f: mul",
                "dtypes differ", "a check runs in f64");
    expect_says(check(integers, 1, (ad_tensor *[]){normal(AD_SHAPE(3), 1)}), AD_ERR_NOGRAD, "its result", "i32[3]",
                "integers have no derivative");
    expect_says(check(nothing, 1, (ad_tensor *[]){normal(AD_SHAPE(3), 1)}), AD_ERR_HANDLE, "its result", "never set");
    expect_says(check_with(stale, &kept, 1, x, NULL), AD_ERR_HANDLE, "its result", "stale");
}

Test(gradcheck, refuses_arguments_that_make_no_sense) {
    ad_check_report report;
    ad_tensor *x = normal(AD_SHAPE(3), 1), *with_null[] = {x, NULL}, *index = tensor(AD_I64, AD_SHAPE(2), NULL);
    ad_gradcheck("g", NULL, NULL, 1, &x, NULL, &report);
    expect_says(report, AD_ERR_NULL, "g: the function is NULL");
    ad_gradcheck("g", square, NULL, 1, NULL, NULL, &report);
    expect_says(report, AD_ERR_NULL, "g: x is NULL");
    ad_gradcheck("g", square, NULL, 2, with_null, NULL, &report);
    expect_says(report, AD_ERR_NULL, "g: input 1 is NULL");
    ad_gradcheck(NULL, square, NULL, -1, &x, NULL, &report);
    expect_says(report, AD_ERR_VALUE, "function: n is -1");
    ad_gradcheck("g", square, NULL, 0, NULL, NULL, &report);
    expect_says(report, AD_ERR_VALUE, "n is 0");
    ad_gradcheck("g", square, NULL, 1, &index, NULL, &report);
    expect_says(report, AD_ERR_NOGRAD, "every input is an integer");
    ad_gradcheck("g", square, NULL, 1, &x, &(ad_check_options){.tolerance = -1}, &report);
    expect_says(report, AD_ERR_VALUE, ".tolerance is -1");
    ad_gradcheck("g", square, NULL, 1, &x, &(ad_check_options){.tolerance = NAN}, &report);
    expect_says(report, AD_ERR_VALUE, ".tolerance");
    ad_gradcheck("g", square, NULL, 1, &x, &(ad_check_options){.directions = -1}, &report);
    expect_says(report, AD_ERR_VALUE, ".directions -1");
    ad_gradcheck("g", square, NULL, 1, &x, &(ad_check_options){.mode = (ad_check_mode)9}, &report);
    expect_says(report, AD_ERR_VALUE, ".mode is 9");
    ad_tensor_unref(x);
    ad_tensor_unref(index);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */

static void expect_prints(const ad_check_report *report, const char *const *texts) {
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);
    cr_expect_eq(ad_check_print(report, stream), AD_OK);
    fclose(stream);
    for (; *texts; texts++) cr_expect_not_null(strstr(text, *texts), "'%s' is not in: %s", *texts, text);
    free(text);
}

Test(gradcheck, prints_a_report_for_people) {
    ad_check_report report = check_number(relu, 0);
    expect_prints(&report, (const char *[]){"f: right\n", "numbers compared", "of what is allowed",
                                            "kinks, the first in input 0", "slopes 0 and 1", NULL});
    report = check(cut, 2, (ad_tensor *[]){normal(AD_SHAPE(2), 1), normal(AD_SHAPE(2), 2)});
    expect_prints(&report, (const char *[]){"f: WRONG\n", "gradient = differences", "Likely cause", NULL});
    report = check_number(nothing, 0);
    expect_prints(&report, (const char *[]){"f: AD_ERR_HANDLE\n", "never set", NULL});
}

Test(gradcheck, reports_a_stream_that_takes_nothing) {
    ad_check_report report = check_number(square, 1);
    FILE *full = fopen("/dev/full", "w");
    if (!full) cr_skip("there is no /dev/full");
    setvbuf(full, NULL, _IONBF, 0);
    cr_expect_eq(ad_check_print(&report, full), AD_ERR_IO);
    fclose(full);
    cr_expect_eq(ad_check_print(NULL, stdout), AD_ERR_NULL);
    cr_expect_eq(ad_check_print(&report, NULL), AD_ERR_NULL);
}

/* What `check` writes to standard output and error while it runs. */
static long written_while_checking(void) {
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    int streams[] = {1, 2}, kept[2];
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        kept[i] = dup(streams[i]);
        dup2(fileno(file), streams[i]);
    }
    ad_tensor *x[] = {normal(AD_SHAPE(2), 1), normal(AD_SHAPE(2), 2)};
    ad_gradcheck("f", cut, NULL, 2, x, NULL, NULL);
    ad_op_check(ad_op_find("mul"), NULL, NULL);
    unref(x, 2);
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], streams[i]);
        close(kept[i]);
    }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fclose(file);
    return size;
}

Test(gradcheck, prints_nothing_by_itself) { cr_expect_eq(written_while_checking(), 0); }

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static ad_status check_in(test_memory *memory, ad_check_function f, ad_tensor **x, ad_check_report *report) {
    return ad_gradcheck("f", f, NULL, 2, x, &(ad_check_options){.allocator = &memory->allocator}, report);
}

Test(gradcheck, survives_a_failure_of_any_allocation) {
    const ad_check_function functions[] = {norm_of_product, cut};
    ad_tensor *x[] = {normal(AD_SHAPE(3, 3), 1), normal(AD_SHAPE(3, 3), 2)};
    for (int k = 0; k < 2; k++) {
        test_memory memory;
        ad_check_report report;
        test_memory_open(&memory);
        ad_status usual = check_in(&memory, functions[k], x, &report);
        cr_expect_eq(usual, k ? AD_ERR_CHECK : AD_OK, "%s", report.message);
        int64_t calls = memory.calls;
        test_memory_close(&memory);
        for (int64_t n = 1; n <= calls; n++) {
            test_memory_open(&memory);
            memory.fail_at = n;
            ad_status status = check_in(&memory, functions[k], x, &report);
            /* the pool may find the memory after all; or all that is missed is a better look at what is wrong */
            cr_expect(status == AD_ERR_OOM || status == usual, "call %lld: %s", (long long)n, report.message);
            test_memory_close(&memory);
            test_memory_open(&memory);
            memory.fail_at = n;
            memory.fail_on = true;
            status = check_in(&memory, functions[k], x, &report);
            cr_expect(status == AD_ERR_OOM || (k && status == usual), "call %lld: %s", (long long)n, report.message);
            test_memory_close(&memory);
        }
    }
    unref(x, 2);
}
