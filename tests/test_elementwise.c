/* Elementwise functions against PyTorch, to the second derivative; what they give where they have no derivative, and at
 * infinity; and that the direct derivative and the one written in ops agree at every awkward point. */
#include "helpers.h"
#include "ops/kernels/kernels.h"
#include "ops/ops.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch --------------------------------------------------------------------------------------------- */

/* A case of "text second" is about the gradient of input `axis`; the last input is the cotangent. */
static ad_var or_its_gradient(ad_var y, const ad_var *in, const reference_case *c) {
    if (strcmp(c->text, "second") != 0) return y;
    ad_var gradient;
    ad_grad(y, in[c->inputs - 1], 1, &in[c->axis], &gradient);
    return gradient;
}

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) {                                           \
        return or_its_gradient(expression, in, c);                                                                   \
    }                                                                                                                \
    Test(pytorch, name) { reference_check(#name, make_##name); }

OP(abs, ad_abs(in[0]))
OP(square, ad_square(in[0]))
OP(reciprocal, ad_reciprocal(in[0]))
OP(sqrt, ad_sqrt(in[0]))
OP(rsqrt, ad_rsqrt(in[0]))
OP(cbrt, ad_cbrt(in[0]))
OP(power, ad_power(in[0], c->value))
OP(power_2, ad_power(in[0], c->value))
OP(power_3, ad_power(in[0], c->value))
OP(power_minus_1, ad_power(in[0], c->value))
OP(power_negative, ad_power(in[0], c->value))
OP(pow, ad_pow(in[0], in[1]))
OP(hypot, ad_hypot(in[0], in[1]))
OP(fmod, ad_fmod(in[0], in[1]))
OP(remainder, ad_remainder(in[0], in[1]))
OP(copysign, ad_copysign(in[0], in[1]))
OP(maximum, ad_maximum(in[0], in[1]))
OP(minimum, ad_minimum(in[0], in[1]))
OP(clamp, ad_clamp(in[0], c->value, c->other))
OP(lerp, ad_lerp(in[0], in[1], in[2]))
OP(addcmul, ad_addcmul(in[0], in[1], in[2], c->value))
OP(addcdiv, ad_addcdiv(in[0], in[1], in[2], c->value))
OP(clamp_between, ad_clamp_between(in[0], in[1], in[2]))

OP(exp2, ad_exp2(in[0]))
OP(expm1, ad_expm1(in[0]))
OP(log2, ad_log2(in[0]))
OP(log10, ad_log10(in[0]))
OP(log1p, ad_log1p(in[0]))
OP(logit, ad_logit(in[0]))
OP(logaddexp, ad_logaddexp(in[0], in[1]))
OP(xlogy, ad_xlogy(in[0], in[1]))
OP(sin, ad_sin(in[0]))
OP(cos, ad_cos(in[0]))
OP(tan, ad_tan(in[0]))
OP(asin, ad_asin(in[0]))
OP(acos, ad_acos(in[0]))
OP(atan, ad_atan(in[0]))
OP(atan2, ad_atan2(in[0], in[1]))
OP(sinc, ad_sinc(in[0]))
OP(sinh, ad_sinh(in[0]))
OP(cosh, ad_cosh(in[0]))
OP(asinh, ad_asinh(in[0]))
OP(acosh, ad_acosh(in[0]))
OP(atanh, ad_atanh(in[0]))
OP(erf, ad_erf(in[0]))
OP(erfc, ad_erfc(in[0]))
OP(erfinv, ad_erfinv(in[0]))
OP(lgamma, ad_lgamma(in[0]))
OP(digamma, ad_digamma(in[0]))
OP(trigamma, ad_trigamma(in[0]))
OP(polygamma, ad_polygamma(in[0], c->value))
OP(floor, ad_floor(in[0]))
OP(ceil, ad_ceil(in[0]))
OP(round, ad_round(in[0]))
OP(trunc, ad_trunc(in[0]))
OP(sign, ad_sign(in[0]))
OP(frac, ad_frac(in[0]))

OP(relu6, ad_relu6(in[0]))
OP(leaky_relu, ad_leaky_relu(in[0], c->value))
OP(prelu, ad_prelu(in[0], in[1]))
OP(elu, ad_elu(in[0], c->value))
OP(celu, ad_celu(in[0], c->value))
OP(selu, ad_selu(in[0]))
OP(gelu, ad_gelu(in[0]))
OP(gelu_tanh, ad_gelu_tanh(in[0]))
OP(silu, ad_silu(in[0]))
OP(swiglu, ad_swiglu(in[0], in[1]))
OP(mish, ad_mish(in[0]))
OP(logsigmoid, ad_logsigmoid(in[0]))
OP(softplus, ad_softplus(in[0]))
OP(softsign, ad_softsign(in[0]))
OP(hardtanh, ad_hardtanh(in[0], c->value, c->other))
OP(hardsigmoid, ad_hardsigmoid(in[0]))
OP(hardswish, ad_hardswish(in[0]))
OP(glu, ad_glu(in[0], c->axis))
OP(softmin, ad_softmin(in[0], c->axis))
OP(threshold, ad_threshold(in[0], c->value, c->other))
OP(hardshrink, ad_hardshrink(in[0], c->value))
OP(softshrink, ad_softshrink(in[0], c->value))
OP(tanhshrink, ad_tanhshrink(in[0]))

OP(greater_equal, ad_greater_equal(in[0], in[1]))
OP(less, ad_less(in[0], in[1]))
OP(less_equal, ad_less_equal(in[0], in[1]))
OP(equal, ad_equal(in[0], in[1]))
OP(not_equal, ad_not_equal(in[0], in[1]))
OP(logical_and, ad_logical_and(in[0], in[1]))
OP(logical_or, ad_logical_or(in[0], in[1]))
OP(logical_xor, ad_logical_xor(in[0], in[1]))
OP(logical_not, ad_logical_not(in[0]))
OP(isnan, ad_isnan(in[0]))
OP(isinf, ad_isinf(in[0]))
OP(isfinite, ad_isfinite(in[0]))

/* ---- derivatives where there are none ------------------------------------------------------------------------------ */

/* One application in f64 or f32, to single numbers or to vectors, whose kernels are others. */
typedef struct place {
    ad_dtype dtype;
    ad_shape shape;
} place;
static const place places[] = {
    {AD_F64, {.rank = 0, .dim = {0}}},
    {AD_F64, {.rank = 1, .dim = {19}}},
    {AD_F32, {.rank = 1, .dim = {19}}},
};

static ad_var leaf_of(ad_tape *t, const place *at, double value) {
    ad_tensor *tensor = NULL;
    cr_assert_eq(ad_tensor_new(&tensor, NULL, at->dtype, at->shape, NULL, NULL), AD_OK);
    ad_kernels_get()->fill(ad_tensor_view(tensor), value);
    ad_var leaf = ad_leaf_tensor(t, NULL, tensor);
    ad_tensor_unref(tensor);
    return leaf;
}

static void expect_all(const char *line, const place *at, const char *how, ad_var x, double want) {
    ad_view view = ad_value(x);
    if (at->dtype == AD_F32) want = (double)(float)want;
    for (int64_t i = 0, n = ad_view_count(&view); i < n; i++) {
        double got = ad_view_get(&view, i);
        cr_assert(test_near(got, want, at->dtype == AD_F32 ? 1e-6 : 1e-14), "%s: %s %s of rank %d is %g, not %g",
                  line, how, ad_dtype_name(at->dtype), at->shape.rank, got, want);
    }
}

typedef ad_var (*function_of_two)(ad_var a, ad_var b);

/* The derivatives by a, and b if `count` is 2, from a walk back and recorded. */
static void expect_derivatives(const char *line, function_of_two f, int count, double a, double b, double by_a,
                               double by_b) {
    for (int i = 0; i < TEST_COUNT(places); i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var in[] = {leaf_of(t, &places[i], a), leaf_of(t, &places[i], b)}, y = f(in[0], in[1]), recorded[2];
        ad_var seed = leaf_of(t, &places[i], 1);
        ad_grad(y, seed, count, in, recorded);
        ad_backward_options options = {.seed = seed};
        ad_backward_with(y, &options);
        for (int k = 0; k < count; k++) {
            ad_view gradient = ad_gradient(in[k]);
            ad_var walked = ad_constant(t, NULL, places[i].dtype, places[i].shape, gradient.data);
            expect_all(line, &places[i], k ? "derivative by b" : "derivative by a", walked, k ? by_b : by_a);
            expect_all(line, &places[i], k ? "recorded by b" : "recorded by a", recorded[k], k ? by_b : by_a);
        }
        expect_ok(t);
        ad_tape_free(t);
    }
}

/* Cases {a, derivative}: functions of one number leave b alone. */
#define CONVENTION(name, expression, ...)                                                                            \
    static ad_var name##_of(ad_var a, ad_var b) { return (void)b, expression; }                                      \
    Test(convention, name) {                                                                                         \
        const double cases[][2] = {__VA_ARGS__};                                                                     \
        for (int i = 0; i < TEST_COUNT(cases); i++)                                                                  \
            expect_derivatives(AD_HERE, name##_of, 1, cases[i][0], 1, cases[i][1], 0);                               \
    }
/* Cases {a, b, by a, by b}. */
#define CONVENTION_OF_TWO(name, expression, ...)                                                                     \
    static ad_var name##_of(ad_var a, ad_var b) { return expression; }                                               \
    Test(convention, name) {                                                                                         \
        const double cases[][4] = {__VA_ARGS__};                                                                     \
        for (int i = 0; i < TEST_COUNT(cases); i++)                                                                  \
            expect_derivatives(AD_HERE, name##_of, 2, cases[i][0], cases[i][1], cases[i][2], cases[i][3]);           \
    }

static const double inf = INFINITY, nan_ = NAN, log_2 = 0.69314718055994530942;

CONVENTION(abs_at_0_is_0, ad_abs(a), {0, 0}, {-0.0, 0})
CONVENTION(sign_has_none_anywhere, ad_sign(a), {0, 0}, {2, 0}, {-inf, 0})
CONVENTION(steps_have_none_anywhere, ad_add(ad_add(ad_floor(a), ad_ceil(a)), ad_add(ad_round(a), ad_trunc(a))),
           {0.5, 0}, {1, 0}, {0.25, 0})
CONVENTION(frac_at_an_integer_is_1, ad_frac(a), {0, 1}, {2, 1}, {-3, 1})
CONVENTION(relu_at_0_is_0, ad_relu(a), {0, 0}, {-0.0, 0})
CONVENTION(relu6_at_its_kinks_is_0, ad_relu6(a), {0, 0}, {6, 0})
CONVENTION(hardtanh_at_its_kinks_is_0, ad_hardtanh(a, -1, 1), {-1, 0}, {1, 0})
CONVENTION(hardsigmoid_at_its_kinks_is_0, ad_hardsigmoid(a), {-3, 0}, {3, 0})
CONVENTION(hardswish_at_its_kinks_is_that_outside, ad_hardswish(a), {-3, 0}, {3, 1})
CONVENTION(clamp_at_a_bound_is_1, ad_clamp(a, -1, 1), {-1, 1}, {1, 1}, {1.25, 0})
CONVENTION(leaky_relu_at_0_is_the_slope, ad_leaky_relu(a, 0.375), {0, 0.375}, {-0.0, 0.375})
CONVENTION(elu_at_0_is_1, ad_elu(a, 0.375), {0, 1}, {-0.0, 1})
CONVENTION(celu_at_0_is_1, ad_celu(a, 0.375), {0, 1}, {-0.0, 1})
CONVENTION(selu_at_0_is_its_scale, ad_selu(a), {0, 1.0507009873554804934})
CONVENTION(softsign_at_0_is_1, ad_softsign(a), {0, 1})
CONVENTION(sinc_at_0_is_0, ad_sinc(a), {0, 0})
CONVENTION(shrinks_at_their_bounds_are_0, ad_add(ad_hardshrink(a, 0.5), ad_softshrink(a, 0.5)), {0.5, 0}, {-0.5, 0},
           {1, 2})
CONVENTION(sqrt_at_0_is_infinite, ad_sqrt(a), {0, inf})
CONVENTION(log_at_0_is_infinite, ad_log(a), {0, inf})
CONVENTION(the_square_at_0_is_0, ad_power(a, 2), {0, 0})
CONVENTION(the_first_power_at_0_is_1, ad_power(a, 1), {0, 1})
CONVENTION(the_power_0_at_0_is_0, ad_power(a, 0), {0, 0}, {3, 0})
CONVENTION(the_power_one_half_at_0_is_infinite, ad_power(a, 0.5), {0, inf})
CONVENTION(the_power_minus_1_at_0_is_minus_infinite, ad_power(a, -1), {0, -inf})
CONVENTION(reciprocal_at_0_is_minus_infinite, ad_reciprocal(a), {0, -inf})
CONVENTION_OF_TWO(maximum_of_equals_gives_half_to_each, ad_maximum(a, b), {1, 1, 0.5, 0.5}, {inf, inf, 0.5, 0.5})
CONVENTION_OF_TWO(minimum_of_equals_gives_half_to_each, ad_minimum(a, b), {1, 1, 0.5, 0.5}, {-inf, -inf, 0.5, 0.5})
CONVENTION_OF_TWO(pow_of_0_and_0_is_0_in_both, ad_pow(a, b), {0, 0, 0, 0})
CONVENTION_OF_TWO(pow_of_0_is_that_of_the_power, ad_pow(a, b), {0, 2, 0, 0}, {0, 1, 1, 0}, {0, 0.5, inf, 0},
                  {2, 0, 0, log_2})
CONVENTION_OF_TWO(hypot_of_0_and_0_is_0_in_both, ad_hypot(a, b), {0, 0, 0, 0}, {0, 2, 0, 1})
CONVENTION_OF_TWO(atan2_of_0_and_0_is_nan, ad_atan2(a, b), {0, 0, nan_, nan_})
CONVENTION_OF_TWO(xlogy_of_0, ad_xlogy(a, b), {0, 0, 0, 0}, {0, 2, log_2, 0}, {0, -1, 0, 0})
CONVENTION_OF_TWO(logaddexp_of_equal_infinities, ad_logaddexp(a, b), {-inf, -inf, 0, 0}, {inf, inf, 0.5, 0.5},
                  {-inf, 3, 0, 1}, {inf, 3, 1, 0})
CONVENTION_OF_TWO(copysign_of_0_is_0, ad_copysign(a, b), {0, 1, 0, 0}, {0, -1, 0, 0}, {2, -0.0, -1, 0})
CONVENTION_OF_TWO(prelu_of_0_is_the_slope, ad_prelu(a, b), {0, 0.25, 0.25, 0})

/* ---- what is masked out ------------------------------------------------------------------------------------------ */

static ad_var zero_like(ad_var x) { return ad_number(x.tape, ad_value(x).dtype, 0); }

CONVENTION(a_root_that_was_not_chosen_has_none, ad_where(ad_greater(a, zero_like(a)), ad_sqrt(a), zero_like(a)),
           {0, 0}, {-1, 0}, {4, 0.25})

typedef ad_var (*function_of_one)(const char *where, ad_var x);

/* What does not count passes nothing on, even where its derivative is infinite. */
Test(convention, a_cotangent_of_0_stays_0_at_every_pole) {
    const struct {
        function_of_one f;
        double x;
    } poles[] = {{ad_sqrt_at, 0},   {ad_rsqrt_at, 0},   {ad_cbrt_at, 0},   {ad_reciprocal_at, 0}, {ad_log_at, 0},
                 {ad_log2_at, 0},   {ad_log10_at, 0},   {ad_log1p_at, -1}, {ad_logit_at, 0},      {ad_logit_at, 1},
                 {ad_asin_at, 1},   {ad_acos_at, -1},   {ad_acosh_at, 1},  {ad_atanh_at, 1},      {ad_erfinv_at, 1},
                 {ad_lgamma_at, 0}, {ad_digamma_at, 0}, {ad_exp_at, inf},  {ad_square_at, nan_},  {ad_sqrt_at, -1}};
    for (int i = 0; i < TEST_COUNT(poles); i++) {
        for (int p = 0; p < TEST_COUNT(places); p++) {
            ad_tape *t = ad_tape_new(NULL);
            ad_var x = leaf_of(t, &places[p], poles[i].x), seed = leaf_of(t, &places[p], 0), recorded;
            ad_var y = poles[i].f(AD_HERE, x);
            ad_grad(y, seed, 1, &x, &recorded);
            ad_backward_options options = {.seed = seed};
            ad_backward_with(y, &options);
            ad_view gradient = ad_gradient(x);
            expect_all(AD_HERE, &places[p], "recorded", recorded, 0);
            cr_assert_eq(ad_view_get(&gradient, 0), 0, "pole %d", i);
            expect_ok(t);
            ad_tape_free(t);
        }
    }
}

/* ---- far out ----------------------------------------------------------------------------------------------------- */

CONVENTION(gates_at_infinity, ad_add(ad_add(ad_gelu(a), ad_gelu_tanh(a)), ad_add(ad_silu(a), ad_mish(a))), {inf, 4},
           {-inf, 0})
CONVENTION(softplus_far_out, ad_softplus(a), {800, 1}, {-800, 0}, {inf, 1}, {-inf, 0})
CONVENTION(logsigmoid_far_out, ad_logsigmoid(a), {800, 0}, {-800, 1}, {inf, 0}, {-inf, 1})
CONVENTION(sigmoid_far_out, ad_sigmoid(a), {800, 0}, {-800, 0}, {inf, 0}, {-inf, 0})
CONVENTION(functions_that_level_out, ad_add(ad_add(ad_softsign(a), ad_sinc(a)), ad_add(ad_atan(a), ad_erf(a))),
           {inf, 0}, {-inf, 0})
CONVENTION_OF_TWO(atan2_of_huge_and_tiny, ad_scale(ad_atan2(a, b), 0x1p100), {0x1p100, 0x1p100, 0.5, -0.5})
CONVENTION_OF_TWO(the_quotient_counts_as_it_was_taken, ad_remainder(a, b), {1, 0x1.99999ap-4, 1, -9},
                  {-1, 0x1.99999ap-4, 1, 10})

Test(value, far_out) {
    const struct {
        function_of_one f;
        double x, y;
    } values[] = {
        {ad_sigmoid_at, 800, 1},
        {ad_sigmoid_at, -800, 0},
        {ad_sigmoid_at, -80, 1.8048513878454153e-35},
        {ad_logsigmoid_at, -800, -800},
        {ad_logsigmoid_at, 800, 0},
        {ad_logsigmoid_at, -inf, -inf},
        {ad_logsigmoid_at, inf, 0},
        {ad_softplus_at, 800, 800},
        {ad_softplus_at, -80, 1.8048513878454153e-35},
        {ad_softplus_at, -800, 0},
        {ad_softplus_at, inf, inf},
        {ad_softplus_at, -inf, 0},
        {ad_expm1_at, 1e-20, 1e-20},
        {ad_log1p_at, 1e-20, 1e-20},
        {ad_gelu_at, -8, -4.9767684594173897e-15},
        {ad_gelu_at, -inf, 0},
        {ad_gelu_at, inf, inf},
        {ad_gelu_tanh_at, -inf, 0},
        {ad_gelu_tanh_at, inf, inf},
        {ad_silu_at, -inf, 0},
        {ad_silu_at, inf, inf},
        {ad_silu_at, -80, -1.4438811102763322e-33},
        {ad_mish_at, -inf, 0},
        {ad_mish_at, inf, inf},
        {ad_mish_at, -80, -1.4438811102763322e-33},
        {ad_softsign_at, inf, 1},
        {ad_softsign_at, -1e30, -1},
        {ad_sinc_at, -inf, 0},
        {ad_sinc_at, 3, 0},
        {ad_erfc_at, 9, 4.1370317465138102e-37},
        {ad_erfc_at, -inf, 2},
        {ad_erfinv_at, 1, inf},
        {ad_erfinv_at, 1 - 0x1p-24, 3.8325068569007108},
        {ad_logit_at, 1e-30, -69.077552789821371},
        {ad_logit_at, 1, inf},
        {ad_tanh_at, 800, 1},
        {ad_asinh_at, 1e30, 69.770699970381317},
        {ad_acosh_at, 1e30, 69.770699970381317},
        {ad_lgamma_at, inf, inf},
        {ad_digamma_at, inf, inf},
        {ad_trigamma_at, inf, 0},
    };
    for (int i = 0; i < TEST_COUNT(values); i++) {
        for (int p = 0; p < TEST_COUNT(places); p++) {
            ad_tape *t = ad_tape_new(NULL);
            double x = places[p].dtype == AD_F32 ? (double)(float)values[i].x : values[i].x, y = values[i].y;
            ad_view view = ad_value(values[i].f(AD_HERE, leaf_of(t, &places[p], x)));
            double got = ad_view_get(&view, 0);
            /* relative, unlike test_near */
            bool close = got == y || fabs(got - y) <= (places[p].dtype == AD_F32 ? 3e-6 : 1e-13) * fabs(y);
            cr_assert(close, "value %d of %s: %.17g of %g, not %.17g", i, ad_dtype_name(places[p].dtype), got, x, y);
            ad_tape_free(t);
        }
    }
}

Test(value, logaddexp_far_out) {
    const double cases[][3] = {{800, 800, 800 + log_2},
                               {-800, -800, -800 + log_2},
                               {1000, -1000, 1000},
                               {-inf, -inf, -inf},
                               {inf, -inf, inf},
                               {inf, inf, inf},
                               {-inf, 3, 3},
                               {0, -50, 1.9287498479639178e-22}};
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var y = ad_logaddexp(ad_number(t, AD_F64, cases[i][0]), ad_number(t, AD_F64, cases[i][1]));
        cr_assert(test_near(ad_item(y), cases[i][2], 1e-15), "case %d is %.17g", i, ad_item(y));
        ad_tape_free(t);
    }
}

/* ---- every row at every awkward point ------------------------------------------------------------------------------ */

static const double awkward[] = {0,    -0.0, 1e-300, -1e-300, 1e-30, 0.5,    -0.5,     1,         -1,  1.5,
                                 2,    -2,   3,      -3,      6,     20,     -20,      90,        -90, 800,
                                 -800, 1e10, -1e10,  1e30,    1e200, -1e200, INFINITY, -INFINITY, NAN};
enum { points = TEST_COUNT(awkward) };

typedef struct row {
    const ad_op *op;
    double constants[2];
} row;
static const row rows[] = {
#define X(name, ...) {&ad_op_##name, {0}},
    AD_UNARY_ROWS(X) AD_BINARY_ROWS(X)
#undef X
        {&ad_op_scale, {-1.75}},
    {&ad_op_power, {0}},
    {&ad_op_power, {1}},
    {&ad_op_power, {2}},
    {&ad_op_power, {-1}},
    {&ad_op_power, {2.5}},
    {&ad_op_polygamma, {0}},
    {&ad_op_polygamma, {1}},
    {&ad_op_polygamma, {2}},
    {&ad_op_leaky_relu, {0.375}},
    {&ad_op_elu, {0.375}},
    {&ad_op_celu, {1.5}},
    {&ad_op_clamp, {-1, 2}},
    {&ad_op_clamp, {0, INFINITY}},
    {&ad_op_hardtanh, {-1, 2}},
};

static void compare_point(const row *r, ad_dtype dtype, const char *what, int64_t i, double got, double want) {
    /* what vanishes or overflows in one form may just not in the other */
    double tolerance = dtype == AD_F32 ? 3e-5 : 3e-13, most = dtype == AD_F32 ? 1e38 : 1e307;
    bool both_vast = fabs(got) > most && fabs(want) > most && signbit(got) == signbit(want);
    cr_expect(both_vast || test_near(got, want, tolerance), "%s (%g, %g) of %g, %g in %s: %s %.17g, not %.17g",
              r->op->name, r->constants[0], r->constants[1], awkward[i / points], awkward[i % points],
              ad_dtype_name(dtype), what, got, want);
}

/* Value and gradient of every pair of points in one call. */
static void at_all_points(const row *r, ad_dtype dtype, double *value, double bar[2][points * points]) {
    ad_tape *t = ad_tape_new(NULL);
    place at = {dtype, AD_SHAPE(points * points)};
    ad_var in[] = {leaf_of(t, &at, 0), leaf_of(t, &at, 0)}, seed = leaf_of(t, &at, 1), recorded[2];
    for (int64_t i = 0; i < points * points; i++) {
        ad_view a = ad_value(in[0]), b = ad_value(in[1]);
        test_set(&a, i, awkward[i / points]);
        test_set(&b, i, awkward[i % points]);
    }
    ad_var y = ad_apply(t, r->op, r->op->inputs, in, r->op->attrs_size ? r->constants : NULL, NULL);
    ad_grad(y, seed, r->op->inputs, in, recorded);
    ad_backward_options options = {.seed = seed};
    ad_backward_with(y, &options);
    ad_view values = ad_value(y);
    for (int64_t i = 0; i < points * points; i++) {
        value[i] = test_get(&values, i);
        for (int k = 0; k < r->op->inputs; k++) {
            ad_view walked = ad_gradient(in[k]), written = ad_value(recorded[k]);
            bar[k][i] = test_get(&walked, i);
            compare_point(r, dtype, k ? "derivative by b" : "derivative by a", i, bar[k][i], test_get(&written, i));
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

Test(rows, derive_directly_what_they_derive_in_ops_at_awkward_points) {
    static double value[points * points], bar[2][points * points];
    for (int i = 0; i < TEST_COUNT(rows); i++)
        for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) at_all_points(&rows[i], dtype, value, bar);
}

/* Single numbers take a path of their own. */
Test(rows, compute_single_numbers_as_they_compute_vectors) {
    static double value[points * points], bar[2][points * points];
    for (int i = 0; i < TEST_COUNT(rows); i++) {
        const row *r = &rows[i];
        at_all_points(r, AD_F64, value, bar);
        for (int64_t j = 0; j < points * points; j += r->op->inputs == 1 ? points : 1) {
            ad_tape *t = ad_tape_new(NULL);
            ad_var in[] = {leaf_of(t, &places[0], awkward[j / points]), leaf_of(t, &places[0], awkward[j % points])};
            ad_var y = ad_apply(t, r->op, r->op->inputs, in, r->op->attrs_size ? r->constants : NULL, NULL);
            ad_backward(y);
            compare_point(r, AD_F64, "value", j, ad_item(y), value[j]);
            for (int k = 0; k < r->op->inputs; k++) {
                ad_view gradient = ad_gradient(in[k]);
                compare_point(r, AD_F64, k ? "derivative by b" : "derivative by a", j, ad_view_get(&gradient, 0),
                              bar[k][j]);
            }
            ad_tape_free(t);
        }
    }
}

Test(rows, pass_nan_on) {
    for (int i = 0; i < TEST_COUNT(rows); i++) {
        const row *r = &rows[i];
        ad_tape *t = ad_tape_new(NULL);
        ad_var in[] = {ad_number(t, AD_F64, NAN), ad_number(t, AD_F64, 2)};
        ad_var y = ad_apply(t, r->op, r->op->inputs, in, r->op->attrs_size ? r->constants : NULL, NULL);
        bool constant = r->op == &ad_op_power && r->constants[0] == 0;
        cr_expect(constant ? ad_item(y) == 1 : isnan(ad_item(y)), "%s of NaN is %g", r->op->name, ad_item(y));
        ad_tape_free(t);
    }
}

Test(rows, are_equal_if_either_is_nan_in_maximum_and_minimum) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var one = ad_number(t, AD_F64, 1), strange = ad_number(t, AD_F64, NAN);
    cr_expect(isnan(ad_item(ad_maximum(one, strange))) && isnan(ad_item(ad_minimum(one, strange))));
    cr_expect(isnan(ad_item(ad_maximum(strange, one))) && isnan(ad_item(ad_minimum(strange, one))));
    ad_tape_free(t);
}

/* ---- what they refuse ------------------------------------------------------------------------------------------------ */

Test(refused, constants_that_mean_nothing) {
    ad_tape *t = ad_tape_new(NULL);
#define X LEAF(t, 1, 2, 3)
    ad_celu(X, 0);
    expect_error(t, AD_ERR_VALUE, "celu", "alpha is 0");
    ad_polygamma(X, 1.5);
    expect_error(t, AD_ERR_VALUE, "polygamma", "the order is 1.5", "whole number from 0 to 100");
    ad_polygamma(X, -1);
    expect_error(t, AD_ERR_VALUE, "the order is -1");
    ad_polygamma(X, 101);
    expect_error(t, AD_ERR_VALUE, "the order is 101");
    ad_polygamma(X, NAN);
    expect_error(t, AD_ERR_VALUE, "the order is");
    ad_clamp(X, 1, -1);
    expect_error(t, AD_ERR_VALUE, "clamp", "the bounds are 1 and -1");
    ad_hardtanh(X, NAN, 1);
    expect_error(t, AD_ERR_VALUE, "hardtanh", "the bounds are");
    ad_softshrink(X, -1);
    expect_error(t, AD_ERR_VALUE, "the bounds are 1 and -1");
    ad_glu(X, 0);
    expect_error(t, AD_ERR_SHAPE, "ad_glu", "f64[3]", "axis 0 cannot be halved");
    ad_glu(X, 1);
    expect_error(t, AD_ERR_INDEX, "ad_glu", "axis 1 is out of range");
#undef X
    ad_tape_free(t);
}

Test(refused, what_does_not_fit) {
    const double zeros[6] = {0};
    ad_tape *t = ad_tape_new(NULL);
    ad_maximum(ad_leaf(t, "a", AD_F64, AD_SHAPE(3), zeros), ad_leaf(t, "b", AD_F64, AD_SHAPE(4), zeros));
    expect_error(t, AD_ERR_SHAPE, "maximum", "a is f64[3]", "b is f64[4]", "do not broadcast");
    ad_pow(ad_leaf(t, "a", AD_F64, AD_SHAPE(3), zeros), ad_leaf(t, "b", AD_F32, AD_SHAPE(3), zeros));
    expect_error(t, AD_ERR_DTYPE, "pow", "a is f64[3]", "b is f32[3]", "nothing is converted silently");
    ad_sin(ad_index(t, 3));
    expect_error(t, AD_ERR_DTYPE, "sin", "it takes f32 or f64");
    ad_floor(ad_index(t, 3));
    expect_error(t, AD_ERR_DTYPE, "floor", "it takes f32 or f64");
    ad_equal(ad_index(t, 3), ad_leaf(t, "a", AD_F64, AD_SCALAR, zeros));
    expect_error(t, AD_ERR_DTYPE, "equal", "a is f64[]");
    ad_less(ad_leaf(t, "a", AD_F64, AD_SHAPE(2, 3), zeros), ad_leaf(t, "b", AD_F64, AD_SHAPE(2), zeros));
    expect_error(t, AD_ERR_SHAPE, "less", "do not broadcast");
    ad_where(ad_index(t, 1), ad_leaf(t, "a", AD_F64, AD_SHAPE(3), zeros),
             ad_leaf(t, "b", AD_F64, AD_SHAPE(4), zeros));
    expect_error(t, AD_ERR_SHAPE, "where", "do not broadcast");
    ad_tape_free(t);
}

/* Variables that are none give the tape's error or nothing, and never crash. */
Test(refused, what_is_no_variable) {
    const ad_var none = {0};
    cr_expect_null(ad_sin(none).tape);
    cr_expect_null(ad_lerp(none, none, none).tape);
    cr_expect_null(ad_threshold(none, 0, 0).tape);
    cr_expect_null(ad_hardshrink(none, 1).tape);
    cr_expect_null(ad_glu(none, 0).tape);
    cr_expect_null(ad_addcdiv(none, none, none, 1).tape);
    ad_tape *t = ad_tape_new(NULL);
    ad_maximum(ad_number(t, AD_F64, 1), none);
    expect_error(t, AD_ERR_HANDLE, "maximum");
    ad_tape_free(t);
}
