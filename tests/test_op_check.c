/* A check that cannot fail is worth nothing: ops that are wrong in one way each, and what ad_op_check says of them.
 *
 * Most are made from `square`, y = x^2 elementwise, which is right. */
#include "helpers.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* ---- expectations ----------------------------------------------------------------------------------------------- */

static ad_check_report expect_status_at(const char *line, const ad_op *subject, ad_status status, const char *law,
                                        const char *const *texts) {
    ad_check_report report;
    ad_check_options options = {.seed = 3};
    cr_expect_eq(ad_op_check(subject, &options, &report), status, "%s: %s: %s: %s", line, subject->name,
                 ad_status_name(report.status), report.message);
    cr_expect_eq(report.status, status, "%s", line);
    cr_expect_str_eq(report.law, law, "%s: broken is '%s': %s", line, report.law, report.message);
    cr_expect_str_eq(report.subject, subject->name, "%s", line);
    if (status) cr_expect_not_null(strstr(report.message, subject->name), "%s: %s", line, report.message);
    for (; *texts; texts++)
        cr_expect_not_null(strstr(report.message, *texts), "%s: '%s' is not in: %s", line, *texts, report.message);
    return report;
}

#define expect_broken(op, law, ...)                                                                                  \
    expect_status_at(AD_HERE, op, AD_ERR_CHECK, law, (const char *[]){law, __VA_ARGS__, NULL})
#define expect_failure(op, status, ...) expect_status_at(AD_HERE, op, status, "", (const char *[]){__VA_ARGS__, NULL})

static void expect_right(const ad_op *subject) {
    ad_check_report report = expect_status_at(AD_HERE, subject, AD_OK, "", (const char *[]){NULL});
    cr_expect_str_empty(report.message);
    cr_expect_gt(report.compared, 0);
    cr_expect_leq(report.worst, 1);
}

/* A copy of an op under another name, with assignments to `op` that change it. */
#define changed(base, text, ...) (op = (base), op.name = (text), __VA_ARGS__, &op)
static ad_op op;

/* ---- square, which is right ------------------------------------------------------------------------------------- */

static ad_status like_input(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}

static void put(const ad_view *view, int64_t i, double value) {
    if (view->dtype == AD_F32) {
        ((float *)view->data)[i] = (float)value;
    } else {
        ((double *)view->data)[i] = value;
    }
}

static ad_status square_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double x = ad_view_get(call->in[0], i);
        put(&call->out[0], i, x * x);
    }
    return AD_OK;
}

static void square_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0)), 2)); }

static ad_status square_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++)
        put(into, i,
            (add ? ad_view_get(into, i) : 0) + 2 * ad_view_get(call->in[0], i) * ad_view_get(&adjoint->seed[0], i));
    return AD_OK;
}

static bool small_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SCALAR, AD_SHAPE(0, 2), AD_SHAPE(1)};
    return k < 4 && ad_sample_away(sample, shapes[k], 0, 0.2);
}

static const ad_op square = {
    .name = "square",
    .inputs = 1,
    .saves = AD_SAVES_INPUTS,
    .shape = like_input,
    .forward = square_forward,
    .vjp = square_vjp,
    .formula = "$y = $0^2",
    .adjoint = {"~0 += 2 $0 ~y"},
    .sample = small_sample,
};

Test(op_check, passes_a_right_op) {
    expect_right(&square);
    expect_right(changed(square, "fused_square", op.backward = square_backward));
}

Test(op_check, needs_no_report_and_no_options) {
    cr_expect_eq(ad_op_check(&square, NULL, NULL), AD_OK);
    cr_expect_eq(ad_op_check(changed(square, "square", op.vjp = NULL), NULL, NULL), AD_ERR_OP);
}

/* ---- wrong derivatives ------------------------------------------------------------------------------------------ */

static ad_var slope_times(ad_vjp *v, double factor) {
    return ad_scale(ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0)), factor);
}

static void half_vjp(ad_vjp *v) { ad_vjp_give(v, 0, slope_times(v, 1)); }
static void twice_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, slope_times(v, 2));
    ad_vjp_give(v, 0, slope_times(v, 2));
}
static void flipped_vjp(ad_vjp *v) { ad_vjp_give(v, 0, slope_times(v, -2)); }
static void scaled_vjp(ad_vjp *v) { ad_vjp_give(v, 0, slope_times(v, 2.5)); }
static void zero_vjp(ad_vjp *v) { (void)v; }
static void nan_vjp(ad_vjp *v) {
    ad_var zero = ad_sub(ad_vjp_input(v, 0), ad_vjp_input(v, 0));
    ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_div(zero, zero)));
}

Test(op_check, says_that_a_contribution_is_missing) {
    ad_check_report report = expect_broken(changed(square, "half", op.vjp = half_vjp), "gradient = differences",
                                           "sample 0 (f64[3,4])", "input 0 at [0,0]", "2 times too small",
                                           "contribution missing", "everywhere");
    cr_expect(report.has_point);
    cr_expect_eq(report.sample, 0);
    cr_expect_eq(report.point.input, 0);
    cr_expect_eq(report.point.element, 0);
    cr_expect_eq(report.point.at.rank, 2);
    cr_expect_float_eq(report.point.analytic / report.point.numeric, 0.5, 1e-8);
    cr_expect_lt(report.point.error, 1e-6);
    cr_expect_gt(report.worst, 1);
}

Test(op_check, says_that_a_contribution_counts_twice) {
    expect_broken(changed(square, "twice", op.vjp = twice_vjp), "gradient = differences", "2 times too large",
                  "counted twice");
}

Test(op_check, says_that_the_sign_is_flipped) {
    expect_broken(changed(square, "flipped", op.vjp = flipped_vjp), "gradient = differences", "sign is flipped");
}

Test(op_check, names_another_factor) {
    expect_broken(changed(square, "scaled", op.vjp = scaled_vjp), "gradient = differences", "factor 1.25");
}

Test(op_check, says_that_nothing_arrives) {
    expect_broken(changed(square, "zero", op.vjp = zero_vjp), "gradient = differences", "all of it is 0",
                  "gives nothing to this input");
}

Test(op_check, never_takes_nan_for_right) {
    ad_check_report report = expect_broken(changed(square, "nan_gradient", op.vjp = nan_vjp),
                                           "gradient = differences", "12 of its 12 elements are NaN");
    cr_expect(isnan(report.point.analytic));
    cr_expect(isinf(report.worst));
}

/* ---- one element among 1000 ------------------------------------------------------------------------------------- */

enum { wrong_element = 617 };

static ad_status one_wrong_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++)
        put(into, i,
            (add ? ad_view_get(into, i) : 0) +
                (i == wrong_element ? 4 : 2) * ad_view_get(call->in[0], i) * ad_view_get(&adjoint->seed[0], i));
    return AD_OK;
}

static bool large_sample(ad_sample *sample, int k) {
    return k == 0 && ad_sample_away(sample, AD_SHAPE(10, 100), 0, 0.2);
}

static const ad_op *one_wrong(void) {
    return changed(square, "one_wrong", op.backward = one_wrong_backward, op.sample = large_sample);
}

/* The check that this one is measured against (the fast mode of torch.autograd.gradcheck): v^T J u for random
 * normalised u and v, positive, with rtol 1e-3 and atol 1e-5 scaled by the sum of v u^T. */
static bool passes_one_normalised_direction(uint64_t seed) {
    enum { n = 1000 };
    ad_rng rng = {.seed = seed, .counter = 0};
    double u[n], v[n], x, u_size = 0, v_size = 0, u_sum = 0, v_sum = 0, analytic = 0, numeric = 0;
    for (int i = 0; i < n; i++) {
        u[i] = ad_rng_uniform(&rng);
        v[i] = ad_rng_uniform(&rng);
        u_size += u[i] * u[i];
        v_size += v[i] * v[i];
    }
    for (int i = 0; i < n; i++) {
        u[i] /= sqrt(u_size);
        v[i] /= sqrt(v_size);
        u_sum += u[i];
        v_sum += v[i];
        x = ad_rng_normal(&rng);
        numeric += v[i] * 2 * x * u[i];
        analytic += v[i] * (i == wrong_element ? 4 : 2) * x * u[i];
    }
    return fabs(analytic - numeric) <= 1e-5 * u_sum * v_sum + 1e-3 * fabs(numeric);
}

Test(op_check, finds_one_wrong_element_in_1000_for_each_of_40_seeds) {
    int found = 0, missed_by_the_other = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        ad_check_report report;
        ad_check_options options = {.mode = AD_CHECK_FAST, .seed = seed, .first_order_only = true};
        ad_status status = ad_op_check(one_wrong(), &options, &report);
        found += status == AD_ERR_CHECK && report.point.element == wrong_element && report.point.at.dim[0] == 6 &&
                 report.point.at.dim[1] == 17 && strstr(report.message, "only this element of 1000 is wrong") &&
                 strstr(report.message, "2 times too large");
        missed_by_the_other += passes_one_normalised_direction(seed);
    }
    cr_expect_eq(found, 40);
    cr_expect_eq(missed_by_the_other, 40);
}

Test(op_check, finds_it_in_every_mode) {
    ad_check_report report;
    cr_expect_eq(ad_op_check(one_wrong(), &(ad_check_options){.first_order_only = true}, &report), AD_ERR_CHECK);
    cr_expect_eq(report.point.element, wrong_element);
    cr_expect_eq(ad_op_check(one_wrong(), &(ad_check_options){.mode = AD_CHECK_FULL, .first_order_only = true},
                             &report),
                 AD_ERR_CHECK);
    cr_expect_eq(report.point.element, wrong_element);
}

/* ---- axes and broadcasts ---------------------------------------------------------------------------------------- */

static void transposed_vjp(ad_vjp *v) {
    ad_shape shape = ad_vjp_input_shape(v, 0);
    ad_var g = slope_times(v, 2);
    ad_vjp_give(v, 0, shape.rank == 2 ? ad_reshape(ad_transpose(g), shape) : g);
}

Test(op_check, says_that_the_gradient_is_transposed) {
    expect_broken(changed(square, "transposed", op.vjp = transposed_vjp), "gradient = differences", "transposed",
                  "axes 0 and 1");
}

/* y = x b, where b is stretched along the rows of x. */
static ad_status rows_shape(ad_call *call) {
    if (call->in[0]->shape.rank == 2 && call->in[1]->shape.rank == 1) return like_input(call);
    return ad_fail(call, AD_ERR_SHAPE, "%s, %s", ad_describe(call, 0), ad_describe(call, 1));
}

static ad_status rows_forward(ad_call *call) {
    int64_t n = call->in[0]->shape.dim[1];
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++)
        put(&call->out[0], i, ad_view_get(call->in[0], i) * ad_view_get(call->in[1], i % n));
    return AD_OK;
}

static ad_var rows_of(ad_vjp *v, ad_var x, bool first_only) {
    ad_shape shape = ad_vjp_input_shape(v, 1);
    if (!first_only) return ad_sum(x, AD_AXES(0), false);
    int64_t zeros[8] = {0};
    ad_var row = ad_constant(ad_vjp_tape(v), NULL, AD_I64, AD_SHAPE(1, shape.dim[0]), zeros);
    return ad_reshape(ad_gather(x, 0, row), shape);
}

static void give_rows(ad_vjp *v, bool first_only, double scale) {
    ad_var g = ad_vjp_seed(v, 0);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_mul(g, ad_vjp_input(v, 1)));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_scale(rows_of(v, ad_mul(g, ad_vjp_input(v, 0)), first_only), scale));
}

static void rows_vjp(ad_vjp *v) { give_rows(v, false, 1); }
static void first_row_vjp(ad_vjp *v) { give_rows(v, true, 1); }
static void mean_row_vjp(ad_vjp *v) { give_rows(v, false, 1.0 / 3); }
static void unsummed_vjp(ad_vjp *v) {
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 1)));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0)));
}

static bool rows_sample(ad_sample *sample, int k) {
    return k == 0 && ad_sample_normal(sample, AD_SHAPE(3, 4)) && ad_sample_normal(sample, AD_SHAPE(4));
}

static const ad_op rows = {
    .name = "rows",
    .inputs = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = rows_shape,
    .forward = rows_forward,
    .vjp = rows_vjp,
    .formula = "$y = $0 $1",
    .adjoint = {"~0 += ~y $1", "~1 += ~y $0"},
    .sample = rows_sample,
};

Test(op_check, says_that_the_sum_over_a_stretched_input_is_missing) {
    expect_right(&rows);
    expect_broken(changed(rows, "first_row", op.vjp = first_row_vjp), "gradient = differences", "input 1 at [",
                  "stretched 3 times", "summed back");
    expect_broken(changed(rows, "mean_row", op.vjp = mean_row_vjp), "gradient = differences",
                  "mean over the 3 elements", "their sum");
    expect_failure(changed(rows, "unsummed", op.vjp = unsummed_vjp), AD_ERR_OP, "gave input 1", "f64[3,4]", "f64[4]");
    expect_right(changed(rows, "summed", op.vjp = unsummed_vjp, op.broadcasts = true));
}

/* y = a b^2 with the two gradients exchanged. */
static ad_status pair_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double b = ad_view_get(call->in[1], i);
        put(&call->out[0], i, ad_view_get(call->in[0], i) * b * b);
    }
    return AD_OK;
}

static void exchanged_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), a = ad_vjp_input(v, 0), b = ad_vjp_input(v, 1);
    ad_vjp_give(v, 1, ad_mul(g, ad_mul(b, b)));
    ad_vjp_give(v, 0, ad_scale(ad_mul(g, ad_mul(a, b)), 2));
}

static bool pair_sample(ad_sample *sample, int k) {
    return k == 0 && ad_sample_normal(sample, AD_SHAPE(3, 4)) && ad_sample_normal(sample, AD_SHAPE(3, 4));
}

/* Its VJP is left to the tests. */
static const ad_op pair = {
    .name = "pair",
    .inputs = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = like_input,
    .forward = pair_forward,
    .formula = "$y = $0 $1^2",
    .adjoint = {"~0 += ~y $1^2", "~1 += 2 ~y $0 $1"},
    .sample = pair_sample,
};

Test(op_check, says_that_two_gradients_are_exchanged) {
    expect_broken(changed(pair, "exchanged", op.vjp = exchanged_vjp), "gradient = differences", "gradient of input 1",
                  "exchanged");
}

static ad_status holes_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_status status = square_backward(call, adjoint);
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 8; into && i < ad_view_count(into); i++) put(into, i, 0);
    return status;
}

Test(op_check, says_that_elements_were_never_written) {
    expect_broken(changed(square, "holes", op.backward = holes_backward), "gradient = differences",
                  "4 of its 12 elements are 0", "never written");
}

/* ---- shortcuts that differ -------------------------------------------------------------------------------------- */

Test(op_check, tells_a_wrong_vjp_from_a_right_fused_backward) {
    expect_broken(changed(square, "half_written", op.vjp = half_vjp, op.backward = square_backward),
                  "backward = recorded VJP", "recorded by ad_grad", "2 times too small");
}

static double square_value(double a, double b, const double *attrs) {
    (void)b, (void)attrs;
    return a * a;
}
static ad_pair square_adjoint(double g, double a, double b, double y, const double *attrs) {
    (void)b, (void)y, (void)attrs;
    return (ad_pair){2 * a * g, 0};
}
static double off_value(double a, double b, const double *attrs) { return square_value(a, b, attrs) + 1; }
static ad_pair off_adjoint(double g, double a, double b, double y, const double *attrs) {
    ad_pair back = square_adjoint(g, a, b, y, attrs);
    return (ad_pair){-back.a, 0};
}

Test(op_check, compares_the_scalar_rule_with_the_rest) {
    const ad_scalar_rule right = {square_value, square_adjoint}, value = {off_value, square_adjoint},
                         adjoint = {square_value, off_adjoint};
    expect_right(changed(square, "scalar_square", op.scalar = &right));
    expect_broken(changed(square, "off_value", op.scalar = &value), "short cuts = general path", "result 0",
                  "sample 1 (f64[])");
    expect_broken(changed(square, "off_adjoint", op.scalar = &adjoint), "gradient = differences", "sign is flipped");
}

static double element(ad_dtype dtype, const void *data, int64_t i) {
    return dtype == AD_F32 ? (double)((const float *)data)[i] : ((const double *)data)[i];
}
static void flat_square(ad_dtype dtype, int64_t n, const void *a, const void *b, void *y) {
    (void)b;
    for (int64_t i = 0; i < n; i++)
        ad_element_set((char *)y + (size_t)i * ad_dtype_size(dtype), dtype, pow(element(dtype, a, i), 2));
}
static void off_flat_square(ad_dtype dtype, int64_t n, const void *a, const void *b, void *y) {
    flat_square(dtype, n, a, b, y);
    if (n > 2) ad_element_set((char *)y + 2 * ad_dtype_size(dtype), dtype, element(dtype, y, 2) + 1);
}
static void flat_back(double factor, ad_dtype dtype, int64_t n, const void *g, const void *a, void *bar, bool add) {
    for (int64_t i = 0; i < n; i++) {
        const double old = add ? element(dtype, bar, i) : 0;
        ad_element_set((char *)bar + (size_t)i * ad_dtype_size(dtype), dtype,
                       old + factor * element(dtype, a, i) * element(dtype, g, i));
    }
}
static void flat_square_adjoint(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b,
                                const void *y, void *bar, bool add) {
    (void)i, (void)b, (void)y;
    flat_back(2, dtype, n, g, a, bar, add);
}
static void off_flat_adjoint(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b,
                             const void *y, void *bar, bool add) {
    (void)i, (void)b, (void)y;
    flat_back(-2, dtype, n, g, a, bar, add);
}
static void overwriting_flat_adjoint(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b,
                                     const void *y, void *bar, bool add) {
    (void)i, (void)b, (void)y, (void)add;
    flat_back(2, dtype, n, g, a, bar, false);
}

Test(op_check, compares_the_flat_rule_with_the_rest) {
    const ad_flat_rule right = {flat_square, flat_square_adjoint}, value = {off_flat_square, flat_square_adjoint},
                       adjoint = {flat_square, off_flat_adjoint},
                       overwriting = {flat_square, overwriting_flat_adjoint};
    expect_right(changed(square, "flat_square", op.elementwise = true, op.flat = &right));
    expect_broken(changed(square, "off_flat", op.elementwise = true, op.flat = &value), "short cuts = general path",
                  "result 0 at [0,2]", ".flat");
    expect_broken(changed(square, "off_flat_adjoint", op.elementwise = true, op.flat = &adjoint),
                  "gradient = differences", "sign is flipped");
    expect_broken(changed(square, "overwriting_flat", op.elementwise = true, op.flat = &overwriting), "twice adds",
                  "a contribution missing");
}

/* Right for one cotangent; of several, where values repeat along axis 0, for the first ones. */
static ad_status half_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add), *x = call->in[0];
    const int64_t n = into ? ad_view_count(into) : 0, half = x->shape.rank && x->stride[0] == 0 ? n / 2 : n;
    for (int64_t i = 0; i < n; i++) {
        const double old = add ? ad_view_get(into, i) : 0;
        put(into, i, old + (i < half ? 2 * ad_view_get(x, i) * ad_view_get(&adjoint->seed[0], i) : 0));
    }
    return AD_OK;
}

Test(op_check, compares_many_cotangents_with_each) {
    bool (*const always)(const ad_call *, const ad_adjoint *, const ad_seeds *, void *) = ad_op_find("add")->batches;
    expect_right(changed(square, "batched", op.batches = always));
    expect_broken(changed(square, "half", op.batches = always, op.backward = half_backward), "many cotangents = each",
                  "several at once");
}

static ad_status overwriting_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++)
        put(into, i, 2 * ad_view_get(call->in[0], i) * ad_view_get(&adjoint->seed[0], i));
    return AD_OK;
}

Test(op_check, sees_a_backward_that_overwrites_what_is_there) {
    expect_broken(changed(square, "overwriting", op.backward = overwriting_backward), "twice adds",
                  "two applications", "2 times too small");
}

/* Leaves the gradient of b to be right only when that of a is asked for too. */
static void lazy_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), a = ad_vjp_input(v, 0), b = ad_vjp_input(v, 1);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_mul(g, ad_mul(b, b)));
    ad_vjp_give(v, 1, ad_scale(ad_mul(g, ad_mul(a, b)), ad_vjp_wants(v, 0) ? 2 : 1));
}

Test(op_check, asks_for_each_input_alone) {
    expect_broken(changed(pair, "lazy", op.vjp = lazy_vjp), "each input alone", "input 1",
                  "when the other inputs are constants", "2 times too small");
}

/* Two results, x and x^2, of which the second is forgotten when it comes alone. */
static ad_status two_shape(ad_call *call) {
    call->out[1].dtype = call->in[0]->dtype;
    call->out[1].shape = call->in[0]->shape;
    return like_input(call);
}

static ad_status two_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double x = ad_view_get(call->in[0], i);
        put(&call->out[0], i, x);
        put(&call->out[1], i, x * x);
    }
    return AD_OK;
}

static void give_two(ad_vjp *v, bool second) {
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    if (second) ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_seed(v, 1), ad_vjp_input(v, 0)), 2));
}

static void two_vjp(ad_vjp *v) { give_two(v, true); }
static void forgetful_vjp(ad_vjp *v) { give_two(v, ad_vjp_has_seed(v, 0)); }

static const ad_op two = {
    .name = "two",
    .inputs = 1,
    .results = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = two_shape,
    .forward = two_forward,
    .vjp = two_vjp,
    .formula = "$y = $0",
    .result_formula = {"$y1 = $0^2"},
    .adjoint = {"~0 += ~y + 2 $0 ~y1"},
    .sample = small_sample,
};

Test(op_check, asks_from_each_result_alone) {
    expect_right(&two);
    expect_broken(changed(two, "forgetful", op.vjp = forgetful_vjp), "each result alone", "single results");
}

/* ---- cotangents ------------------------------------------------------------------------------------------------- */

/* 2 x g, but where |g| is over a limit: a clipped gradient. */
static void clipped_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), limit = ad_vjp_number(v, 3.5), x = ad_vjp_input(v, 0);
    ad_var clipped = ad_where(ad_greater(g, limit), limit, g);
    ad_vjp_give(v, 0, ad_scale(ad_mul(clipped, x), 2));
}

/* 2 x g, but 1 where that is 0. */
static void never_zero_vjp(ad_vjp *v) {
    ad_var g = slope_times(v, 2), zero = ad_vjp_number(v, 0), one = ad_vjp_number(v, 1);
    ad_var is_zero = ad_mul(ad_where(ad_greater(g, zero), zero, one), ad_where(ad_greater(zero, g), zero, one));
    ad_vjp_give(v, 0, ad_add(g, is_zero));
}

Test(op_check, sees_a_vjp_that_is_not_linear) {
    expect_broken(changed(square, "never_zero", op.vjp = never_zero_vjp), "zero for a zero seed", "input 0 at [0,0]",
                  "is 1, not 0");
    expect_broken(changed(square, "clipped", op.vjp = clipped_vjp), "linear in the seed", "sum of two cotangents");
}

/* Right, but for what depends on x being hidden from the next derivative. */
static void detached_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_seed(v, 0), ad_detach(ad_vjp_input(v, 0))), 2));
}
static void detached_seed_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_scale(ad_mul(ad_detach(ad_vjp_seed(v, 0)), ad_vjp_input(v, 0)), 2));
}

static void square_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, ad_scale(ad_mul(ad_jvp_input(j, 0), ad_jvp_tangent(j, 0)), 2));
}
static void half_jvp(ad_jvp *j) { ad_jvp_give(j, 0, ad_mul(ad_jvp_input(j, 0), ad_jvp_tangent(j, 0))); }

Test(op_check, differentiates_the_derivative) {
    expect_broken(changed(square, "detached", op.vjp = detached_vjp), "second order", "input 0 at [0,0]",
                  "all of it is 0");
    cr_expect_eq(ad_op_check(&op, &(ad_check_options){.first_order_only = true}, NULL), AD_OK);
    expect_broken(changed(square, "detached_seed", op.vjp = detached_seed_vjp, op.jvp = square_jvp), "second order",
                  "the cotangent of a result", "all of it is 0");
}

Test(op_check, compares_forward_mode_with_backward) {
    expect_right(changed(square, "square", op.jvp = square_jvp));
    expect_broken(changed(square, "half_jvp", op.jvp = half_jvp), "JVP = transpose of VJP", "input 0",
                  "2 times too small");
}

/* ---- what is saved ---------------------------------------------------------------------------------------------- */

Test(op_check, refuses_to_read_what_is_not_saved) {
    expect_failure(changed(square, "unsaved", op.saves = AD_SAVES_NOTHING), AD_ERR_OP, "reads input 0", ".saves");
}

Test(op_check, sees_a_backward_read_what_is_not_saved_before_it_crashes) {
    expect_broken(changed(square, "unsaved_fused", op.vjp = zero_vjp, op.backward = square_backward,
                          op.saves = AD_SAVES_RESULT(0)),
                  "saves what it reads", "reads the value of input 0", "NULL");
}

static bool number_sample(ad_sample *sample, int k) { return k == 0 && ad_sample_normal(sample, AD_SCALAR); }

Test(op_check, sees_a_scalar_rule_read_what_is_not_saved) {
    const ad_scalar_rule rule = {square_value, square_adjoint};
    expect_broken(changed(square, "unsaved_scalar", op.scalar = &rule, op.saves = AD_SAVES_RESULT(0),
                          op.vjp = zero_vjp, op.sample = number_sample),
                  "saves what it reads", ".scalar->adjoint");
}

static ad_status exp_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) put(&call->out[0], i, exp(ad_view_get(call->in[0], i)));
    return AD_OK;
}

static ad_status exp_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++)
        put(into, i,
            (add ? ad_view_get(into, i) : 0) + ad_view_get(&call->out[0], i) * ad_view_get(&adjoint->seed[0], i));
    return AD_OK;
}

static void exp_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_exp(ad_vjp_input(v, 0)))); }

Test(op_check, sees_a_backward_read_a_result_that_is_not_saved) {
    expect_broken(changed(square, "unsaved_result", op.forward = exp_forward, op.vjp = exp_vjp,
                          op.backward = exp_backward),
                  "saves what it reads", "reads the value of result 0");
}

/* ---- memory and precision --------------------------------------------------------------------------------------- */

static ad_status row_major_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double x = call->in[0]->dtype == AD_F32 ? ((const float *)call->in[0]->data)[i]
                                                : ((const double *)call->in[0]->data)[i];
        put(&call->out[0], i, x * x);
    }
    return AD_OK;
}

static ad_status row_major_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++) {
        const void *seed = adjoint->seed[0].data;
        double g = into->dtype == AD_F32 ? ((const float *)seed)[i] : ((const double *)seed)[i];
        put(into, i, (add ? ad_view_get(into, i) : 0) + 2 * ad_view_get(call->in[0], i) * g);
    }
    return AD_OK;
}

Test(op_check, gives_arrays_that_are_not_row_major) {
    expect_broken(changed(square, "row_major", op.forward = row_major_forward), "any strides", "result 0 at [",
                  "column-major");
    expect_broken(changed(square, "row_major_seed", op.backward = row_major_backward), "any strides",
                  "the gradient of input 0", "column-major");
}

static ad_status rough_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double x = ad_view_get(call->in[0], i);
        put(&call->out[0], i, x * x * (call->in[0]->dtype == AD_F32 ? 1.001 : 1));
    }
    return AD_OK;
}

static ad_status f64_only(ad_call *call) {
    if (call->in[0]->dtype == AD_F64) return like_input(call);
    return ad_fail(call, AD_ERR_DTYPE, "%s: only f64", ad_describe(call, 0));
}

Test(op_check, compares_f32_with_f64) {
    expect_broken(changed(square, "rough", op.forward = rough_forward), "f32 = f64", "sample 0 (f32[3,4])", "in f32");
    expect_right(changed(square, "f64_only", op.shape = f64_only));
}

/* Right in f64; in f32 its constant is of another dtype, or is all that is f32. */
static void f64_constant_vjp(ad_vjp *v) {
    ad_var two_in_f64 = ad_number(ad_vjp_tape(v), AD_F64, 2);
    ad_vjp_give(v, 0, ad_mul(ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0)), two_in_f64));
}
static void rough_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, slope_times(v, ad_vjp_input_dtype(v, 0) == AD_F32 ? 2.001 : 2));
}

Test(op_check, compares_derivatives_in_f32_too) {
    expect_failure(changed(square, "f64_constant", op.vjp = f64_constant_vjp), AD_ERR_DTYPE, "sample 0 (f32[3,4])",
                   "dtypes differ");
    expect_broken(changed(square, "rough_vjp", op.vjp = rough_vjp, op.backward = square_backward), "f32 = f64",
                  "the gradient of input 0", "off by a factor 1.0005");
}

static void slightly_off_vjp(ad_vjp *v) { ad_vjp_give(v, 0, slope_times(v, 2.00002)); }

Test(op_check, says_that_the_difference_is_slight) {
    expect_broken(changed(square, "slightly_off", op.vjp = slightly_off_vjp), "gradient = differences",
                  "off by 1e-05 only");
}

static ad_status random_forward(ad_call *call) {
    static ad_rng rng;
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) put(&call->out[0], i, ad_rng_normal(&rng));
    return AD_OK;
}

Test(op_check, needs_the_same_values_on_every_run) {
    expect_broken(changed(square, "random", op.forward = random_forward), "the same on every run", "result 0",
                  "second run");
}

/* ---- kinks ------------------------------------------------------------------------------------------------------ */

static bool sample_at_zero(ad_sample *sample, int k) {
    return k == 0 && ad_sample_uniform(sample, AD_SHAPE(3), 0, 0);
}

/* max(x, 0), with a slope at 0 that is none of its subgradients. */
static ad_status max_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++)
        put(&call->out[0], i, fmax(ad_view_get(call->in[0], i), 0));
    return AD_OK;
}

static void step_vjp(ad_vjp *v, double at_zero) {
    ad_var x = ad_vjp_input(v, 0), g = ad_vjp_seed(v, 0), zero = ad_vjp_number(v, 0);
    ad_var below = ad_where(ad_greater(zero, x), zero, ad_scale(g, at_zero));
    ad_vjp_give(v, 0, ad_where(ad_greater(x, zero), g, below));
}

static void max_vjp(ad_vjp *v) { step_vjp(v, 0.25); }
static void outside_vjp(ad_vjp *v) { step_vjp(v, 1.5); }

Test(op_check, reports_a_kink_and_fails_only_outside_of_its_slopes) {
    ad_check_report report;
    (void)changed(square, "max", op.forward = max_forward, op.vjp = max_vjp, op.sample = sample_at_zero);
    cr_expect_eq(ad_op_check(&op, NULL, &report), AD_OK, "%s", report.message);
    cr_expect_geq(report.kinks, 3);
    double low = fmin(report.kink.left, report.kink.right), high = fmax(report.kink.left, report.kink.right);
    cr_expect_float_eq(low * high, 0, 1e-6);
    cr_expect(report.kink.analytic > low && report.kink.analytic < high);
    expect_broken(changed(square, "outside", op.forward = max_forward, op.vjp = outside_vjp,
                          op.sample = sample_at_zero),
                  "gradient = differences", "outside of the slopes", "kink");
}

static ad_status one_nan_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    for (int64_t i = 0; into && i < ad_view_count(into); i++) put(into, i, i == wrong_element ? NAN : 0);
    (void)call;
    return AD_OK;
}

static bool many_zeros(ad_sample *sample, int k) {
    return k == 0 && ad_sample_uniform(sample, AD_SHAPE(10, 100), 0, 0);
}

Test(op_check, finds_one_nan_among_many_kinks) {
    ad_check_report report;
    ad_check_options options = {.mode = AD_CHECK_FAST};
    (void)changed(square, "one_nan", op.forward = max_forward, op.backward = one_nan_backward,
                  op.sample = many_zeros);
    cr_expect_eq(ad_op_check(&op, &options, &report), AD_ERR_CHECK);
    cr_expect_eq(report.point.element, wrong_element, "%s", report.message);
}

/* ---- without a derivative --------------------------------------------------------------------------------------- */

Test(op_check, checks_what_an_op_without_a_derivative_computes) {
    expect_right(changed(square, "steps", op.derivative = AD_NOT_DIFFERENTIABLE, op.vjp = NULL));
    op.derivative = AD_STOPS_GRADIENT;
    expect_right(&op);
    op.forward = row_major_forward;
    expect_broken(&op, "any strides", "result 0");
    op.derivative = AD_NOT_DIFFERENTIABLE;
    expect_broken(&op, "any strides", "result 0");
    op.forward = random_forward;
    expect_broken(&op, "the same on every run", "result 0");
    op.forward = rough_forward;
    expect_broken(&op, "f32 = f64", "result 0");
}

/* ---- samples ---------------------------------------------------------------------------------------------------- */

static bool empty_sample(ad_sample *sample, int k) { return k == 0 && ad_sample_normal(sample, AD_SHAPE(0)); }
static bool endless_sample(ad_sample *sample, int k) {
    (void)k;
    return ad_sample_normal(sample, AD_SHAPE(0));
}
static bool crowded_sample(ad_sample *sample, int k) {
    for (int i = 0; k == 1 && i <= AD_MAX_SAMPLE_INPUTS; i++)
        if (!ad_sample_normal(sample, AD_SCALAR)) return false;
    return k < 2 && ad_sample_normal(sample, AD_SCALAR);
}
static bool no_sample(ad_sample *sample, int k) {
    (void)sample, (void)k;
    return false;
}

Test(op_check, needs_samples_that_say_something) {
    ad_check_report report = expect_status_at(AD_HERE, changed(square, "empty", op.sample = empty_sample),
                                              AD_ERR_CHECK, "",
                                              (const char *[]){"nothing was checked", "no sample", NULL});
    cr_expect_eq(report.compared, 0);
    expect_failure(changed(square, "endless", op.sample = endless_sample), AD_ERR_OP, "must return false");
    expect_failure(changed(square, "crowded", op.sample = crowded_sample), AD_ERR_LIMIT, "sample 1", "at most 10");
    expect_failure(changed(square, "unsampled", op.sample = no_sample), AD_ERR_OP, "no sample 0");
}

Test(op_check, refuses_what_is_no_op) {
    ad_check_report report;
    cr_expect_eq(ad_op_check(NULL, NULL, &report), AD_ERR_NULL);
    cr_expect_not_null(strstr(report.message, "the op is NULL"), "%s", report.message);
    cr_expect_eq(ad_op_check(changed(square, NULL, op.inputs = 1), NULL, &report), AD_ERR_NULL);
    cr_expect_not_null(strstr(report.message, "name is NULL"), "%s", report.message);
    expect_failure(changed(square, "shapeless", op.shape = NULL), AD_ERR_OP, "no shape rule");
    expect_failure(changed(square, "strange", op.derivative = (ad_derivative)7), AD_ERR_OP, ".derivative");
}

/* ---- memory of the check itself --------------------------------------------------------------------------------- */

static ad_status check_with(const ad_op *subject, test_memory *memory, ad_check_report *report) {
    return ad_op_check(subject, &(ad_check_options){.allocator = &memory->allocator, .seed = 3}, report);
}

/* Fails every allocation in turn, or every step-th, and all that follow. */
static void expect_out_of_memory_everywhere(const ad_op *subject, int64_t step) {
    test_memory memory;
    ad_check_report report;
    test_memory_open(&memory);
    cr_assert_eq(check_with(subject, &memory, &report), AD_OK, "%s", report.message);
    int64_t calls = memory.calls;
    test_memory_close(&memory);
    cr_assert_gt(calls, 10);
    for (int64_t n = 1; n <= calls; n += step) {
        test_memory_open(&memory);
        memory.fail_at = n;
        memory.fail_on = true;
        ad_status status = check_with(subject, &memory, &report);
        cr_assert_eq(status, AD_ERR_OOM, "call %lld: %s: %s", (long long)n, ad_status_name(status), report.message);
        cr_assert_not_null(strstr(report.message, "memory"), "%s", report.message);
        test_memory_close(&memory);
    }
}

Test(op_check, survives_a_failure_of_any_allocation) {
    expect_out_of_memory_everywhere(changed(square, "square", op.backward = square_backward), 1);
    expect_out_of_memory_everywhere(ad_op_find("greater"), 1);
    expect_out_of_memory_everywhere(ad_op_find("softmax_xent"), 13);
    expect_out_of_memory_everywhere(ad_op_find("matmul"), 37);
}
