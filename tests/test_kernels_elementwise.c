/* The elementwise kernels of every instruction set against plain loops in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <adtape/op.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(elementary, .fini = test_arrays_free);
TestSuite(unary, .fini = test_arrays_free);
TestSuite(binary, .fini = test_arrays_free);
TestSuite(any_dtype, .fini = test_arrays_free);

static const double epsilon[] = {[AD_F32] = 0x1p-23, [AD_F64] = 0x1p-52};

/* ---- what the unary rows mean ------------------------------------------------------------------------------------ */

/* The constants that rows are tested with, exact in f32. */
static const double constants[AD_UNARY_COUNT][2] = {
    [AD_UNARY_scale] = {-1.75},      [AD_UNARY_power] = {2.5},           [AD_UNARY_polygamma] = {2},
    [AD_UNARY_leaky_relu] = {0.375}, [AD_UNARY_elu] = {0.375},           [AD_UNARY_celu] = {1.5},
    [AD_UNARY_clamp] = {-0.75, 1.5}, [AD_UNARY_hardtanh] = {-0.75, 1.5},
};

#define PI 3.14159265358979323846264338327950288L

static long double sigmoid(long double x) { return x < 0 ? expl(x) / (1 + expl(x)) : 1 / (1 + expl(-x)); }
static long double softplus(long double x) { return x > 0 ? x + log1pl(expl(-x)) : log1pl(expl(x)); }
static long double normal_cdf(long double x) { return erfcl(-x / sqrtl(2)) / 2; }
static long double elu(long double x, double alpha) { return x < 0 ? alpha * expm1l(x) : x; }
static long double clamp(long double x, double low, double high) { return fmaxl(fminl(x, high), low); }

static long double sinpi(long double x) { return (fmodl(rintl(x), 2) == 0 ? 1 : -1) * sinl(PI * (x - rintl(x))); }

/* By halving, on the side of 0 where the digits are. */
static long double erfinv(long double x) {
    long double low = 0, high = 7;
    for (int i = 0; i < 80; i++) {
        long double middle = (low + high) / 2;
        if (fabsl(x) < 0.5L ? erfl(middle) < fabsl(x) : erfcl(middle) > 1 - fabsl(x)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return copysignl(low, x);
}

/* The n-th derivative of digamma for x > 0: up to 40 by psi(x) = psi(x + 1) - 1 / x, then the divergent series. */
static long double polygamma(int n, long double x) {
    const long double bernoulli[] = {1 / 6.0L, -1 / 30.0L, 1 / 42.0L, -1 / 30.0L, 5 / 66.0L, -691 / 2730.0L};
    long double sign = n % 2 ? 1 : -1, factorial = tgammal(n + 1), sum = 0;
    for (; x < 40; x++) sum += sign * factorial * powl(x, -n - 1);
    sum += n == 0 ? logl(x) : sign * tgammal(n) * powl(x, -n);
    sum += sign * factorial / 2 * powl(x, -n - 1);
    for (int j = 1; j <= 6; j++)
        sum += sign * bernoulli[j - 1] * tgammal(2 * j + n) / tgammal(2 * j + 1) * powl(x, -2 * j - n);
    return sum;
}

/* Where a row is tested: between two numbers. Where it has no derivative, or where the function ends: the derivative is
 * tested next to these, not there. */
#define BETWEEN(low, high) low, high
#define SMOOTH             {0}, 0
#define KINK(a)            {a}, 1
#define KINKS(a, b)        {a, b}, 2

/* The derivative of the gelu through tanh. */
static long double gelu_slope(long double x) {
    long double scale = 2 * sqrtl(2 / PI), u = scale * (x + 0.044715L * x * x * x);
    return sigmoid(u) + x * scale * (1 + 3 * 0.044715L * x * x) * sigmoid(u) * sigmoid(-u);
}

/*  X(row, value, where, kinks, most units in the last place that the value is off, and the derivative) */
/* clang-format off */
#define UNARY(X)                                                                                                     \
    X(neg, -x, BETWEEN(-3, 3), SMOOTH, 0, 0)                                                                         \
    X(abs, fabsl(x), BETWEEN(-3, 3), KINK(0), 0, 0)                                                                  \
    X(square, x * x, BETWEEN(-3, 3), SMOOTH, 0.5, 1)                                                                 \
    X(reciprocal, 1 / x, BETWEEN(-3, 3), KINK(0), 0.5, 3)                                                            \
    X(sqrt, sqrtl(x), BETWEEN(0, 9), KINK(0), 0.5, 2)                                                                \
    X(rsqrt, 1 / sqrtl(x), BETWEEN(0, 9), KINK(0), 1.5, 5)                                                           \
    X(cbrt, cbrtl(x), BETWEEN(-9, 9), KINK(0), 4, 8)                                                                 \
    X(exp, expl(x), BETWEEN(-20, 20), SMOOTH, 1.1, 2)                                                                \
    X(exp2, exp2l(x), BETWEEN(-20, 20), SMOOTH, 1.2, 3)                                                              \
    X(expm1, expm1l(x), BETWEEN(-20, 20), SMOOTH, 2.5, 2)                                                            \
    X(log, logl(x), BETWEEN(0, 9), KINK(0), 1.1, 1)                                                                  \
    X(log2, log2l(x), BETWEEN(0, 9), KINK(0), 2, 2)                                                                  \
    X(log10, log10l(x), BETWEEN(0, 9), KINK(0), 2, 2)                                                                \
    X(log1p, log1pl(x), BETWEEN(-1, 9), KINK(-1), 2.5, 2)                                                            \
    X(logit, 2 * atanhl(2 * x - 1), BETWEEN(0.0625, 0.9375), KINKS(0, 1), 4, 3)                                      \
    X(sin, sinl(x), BETWEEN(-20, 20), SMOOTH, 1, 2)                                                                  \
    X(cos, cosl(x), BETWEEN(-20, 20), SMOOTH, 1, 2)                                                                  \
    X(tan, tanl(x), BETWEEN(-1.5, 1.5), KINKS(-1.5707963, 1.5707963), 1, 4)                                          \
    X(asin, asinl(x), BETWEEN(-1, 1), KINKS(-1, 1), 1, 3)                                                            \
    X(acos, acosl(x), BETWEEN(-1, 1), KINKS(-1, 1), 1, 3)                                                            \
    X(atan, atanl(x), BETWEEN(-9, 9), SMOOTH, 1, 3)                                                                  \
    X(sinc, sinpi(x) / (PI * x), BETWEEN(-5, 5), KINK(0), 3, 20)                                                     \
    X(sinh, sinhl(x), BETWEEN(-9, 9), SMOOTH, 3, 4)                                                                  \
    X(cosh, coshl(x), BETWEEN(-9, 9), SMOOTH, 3, 4)                                                                  \
    X(tanh, tanhl(x), BETWEEN(-9, 9), SMOOTH, 2.5, 5)                                                                \
    X(asinh, asinhl(x), BETWEEN(-9, 9), SMOOTH, 3, 3)                                                                \
    X(acosh, acoshl(x), BETWEEN(1, 9), KINK(1), 4, 4)                                                                \
    X(atanh, atanhl(x), BETWEEN(-1, 1), KINKS(-1, 1), 3, 3)                                                          \
    X(erf, erfl(x), BETWEEN(-4, 4), SMOOTH, 3, 4)                                                                    \
    X(erfc, erfcl(x), BETWEEN(-4, 9), SMOOTH, 4, 4)                                                                  \
    X(erfinv, erfinv(x), BETWEEN(-1, 1), KINKS(-1, 1), 4, 50)                                                        \
    X(lgamma, lgammal(x), BETWEEN(0.0625, 9), KINK(0), 4, 8)                                                         \
    X(digamma, polygamma(0, x), BETWEEN(2, 9), KINK(0), 4, 8)                                                        \
    X(trigamma, polygamma(1, x), BETWEEN(0.0625, 9), KINK(0), 4, 8)                                                  \
    X(sigmoid, sigmoid(x), BETWEEN(-20, 20), SMOOTH, 2.5, 6)                                                         \
    X(logsigmoid, -softplus(-x), BETWEEN(-20, 20), SMOOTH, 4, 4)                                                     \
    X(softplus, softplus(x), BETWEEN(-20, 20), SMOOTH, 4, 4)                                                         \
    X(relu, x > 0 ? x : 0, BETWEEN(-3, 3), KINK(0), 0, 0)                                                            \
    X(relu6, clamp(x, 0, 6), BETWEEN(-3, 9), KINKS(0, 6), 0, 0)                                                      \
    X(gelu, x * normal_cdf(x), BETWEEN(-9, 6), SMOOTH, 6, 4)                                                         \
    X(gelu_tanh, x / 2 * (1 + tanhl(sqrtl(2 / PI) * (x + 0.044715L * x * x * x))), BETWEEN(-3, 6), SMOOTH, 50, 8)    \
    X(silu, x * sigmoid(x), BETWEEN(-20, 20), SMOOTH, 4, 8)                                                          \
    X(mish, x * tanhl(softplus(x)), BETWEEN(-20, 20), SMOOTH, 8, 8)                                                  \
    X(softsign, x / (1 + fabsl(x)), BETWEEN(-9, 9), KINK(0), 2, 4)                                                   \
    X(selu, 1.0507009873554804934193349852946L * elu(x, 1.6732632423543772848170429916717), BETWEEN(-9, 9), KINK(0), \
      5, 4)                                                                                                          \
    X(hardsigmoid, clamp((x + 3) / 6, 0, 1), BETWEEN(-6, 6), KINKS(-3, 3), 2, 1)                                     \
    X(hardswish, x * clamp((x + 3) / 6, 0, 1), BETWEEN(-6, 6), KINKS(-3, 3), 3, 4)                                   \
    X(frac, x - truncl(x), BETWEEN(-1, 1), KINKS(-1, 1), 0, 0)                                                       \
    X(scale, c[0] * x, BETWEEN(-3, 3), SMOOTH, 0.5, 1)                                                               \
    X(power, powl(x, c[0]), BETWEEN(0, 9), KINK(0), 1, 3)                                                            \
    X(polygamma, polygamma((int)c[0], x), BETWEEN(0.0625, 9), KINK(0), 6, 8)                                         \
    X(leaky_relu, x > 0 ? x : c[0] * x, BETWEEN(-3, 3), KINK(0), 0.5, 1)                                             \
    X(elu, elu(x, c[0]), BETWEEN(-9, 9), KINK(0), 4, 4)                                                              \
    X(celu, x > 0 ? x : c[0] * expm1l(x / c[0]), BETWEEN(-9, 9), KINK(0), 4, 8)                                      \
    X(clamp, clamp(x, c[0], c[1]), BETWEEN(-3, 3), KINKS(-0.75, 1.5), 0, 0)                                          \
    X(hardtanh, clamp(x, c[0], c[1]), BETWEEN(-3, 3), KINKS(-0.75, 1.5), 0, 0)                                       \
    X(sign, x > 0 ? 1 : x < 0 ? -1 : 0, BETWEEN(-3, 3), SMOOTH, 0, 0)                                                \
    X(floor, floorl(x), BETWEEN(-3, 3), SMOOTH, 0, 0)                                                                \
    X(ceil, ceill(x), BETWEEN(-3, 3), SMOOTH, 0, 0)                                                                  \
    X(round, rintl(x), BETWEEN(-3, 3), SMOOTH, 0, 0)                                                                 \
    X(trunc, truncl(x), BETWEEN(-3, 3), SMOOTH, 0, 0)
/* clang-format on */

typedef struct unary_row {
    const char *name;
    long double (*value)(long double x, const double *c);
    double low, high, kinks[2];
    int kink_count;
    double ulps, slope_ulps;
} unary_row;

#define X(row, formula, ...)                                                                                         \
    static long double row##_value(long double x, const double *c) { return (void)c, (formula); }
UNARY(X)
#undef X

static const unary_row unary[] = {
#define X(row, formula, ...) [AD_UNARY_##row] = {#row, row##_value, __VA_ARGS__},
    UNARY(X)
#undef X
};

#define X(...) +1
_Static_assert(0 UNARY(X) == AD_UNARY_COUNT, "every row is tested, once");
#undef X

/* What the derivative of each row may read. Steps, which come last, have none. */
static const uint32_t unary_saves[] = {
#define X(row, value, bar, saves, ...) [AD_UNARY_##row] = saves,
    AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X) AD_UNARY_BOUNDS_ROWS(X)
#undef X
};
enum { sloped_rows = TEST_COUNT(unary_saves) };

static long double value_of(ad_unary op, long double x) { return unary[op].value(x, constants[op]); }

/* f'(x) from values in long double at x - 4 step, ..., x + 4 step, to the eighth order, and by how much it may be off. */
static long double difference(long double step, const long double f[9], long double *error) {
    *error = 4e-19L * fabsl(f[4]) / step;
    return (0.8L * (f[5] - f[3]) - 0.2L * (f[6] - f[2]) + 4 / 105.0L * (f[7] - f[1]) - (f[8] - f[0]) / 280) / step;
}

/* The step is short beside the distance to the nearest kink. */
static long double slope_of(ad_unary op, long double x, long double *error) {
    long double reach = 1, f[9];
    for (int i = 0; i < unary[op].kink_count; i++) reach = fminl(reach, fabsl(x - unary[op].kinks[i]));
    for (int i = 0; i < 9; i++) f[i] = value_of(op, x + (i - 4) * reach / 256);
    return difference(reach / 256, f, error);
}

/* ---- accuracy of the elementary functions ------------------------------------------------------------------------ */

enum { samples = 1 << 15 };

/* Measures op at the points of x, in every table. */
static void measure_row(ad_unary op, const ad_view *x, const ad_view *y) {
    static long double want[samples];
    for (int64_t i = 0; i < samples; i++) want[i] = value_of(op, test_get(x, i));
    for (int t = 0; ad_kernels_table(t); t++) {
        double worst = -1, at = 0;
        ad_kernels_table(t)->unary(op, x, y, NULL);
        for (int64_t i = 0; i < samples; i++) {
            double ulps = test_ulps(x->dtype, test_get(y, i), want[i]);
            if (ulps > worst) worst = ulps, at = test_get(x, i);
        }
        cr_assert_leq(worst, unary[op].ulps, "%s of %s at %a is off by %.2f ulp", unary[op].name,
                      ad_kernels_table(t)->isa, at, worst);
    }
}

static void measure(const ad_view *x) {
    ad_view y = test_array(x->dtype, x->shape, TEST_DENSE);
    const ad_unary own[] = {AD_UNARY_exp,   AD_UNARY_exp2,  AD_UNARY_expm1, AD_UNARY_log,     AD_UNARY_log2,
                            AD_UNARY_log10, AD_UNARY_log1p, AD_UNARY_tanh,  AD_UNARY_sigmoid, AD_UNARY_erf,
                            AD_UNARY_erfc,  AD_UNARY_gelu,  AD_UNARY_sin,   AD_UNARY_cos,     AD_UNARY_tan,
                            AD_UNARY_asin,  AD_UNARY_acos,  AD_UNARY_atan,  AD_UNARY_sinh,    AD_UNARY_cosh,
                            AD_UNARY_asinh, AD_UNARY_acosh, AD_UNARY_atanh, AD_UNARY_cbrt};
    for (int i = 0; i < TEST_COUNT(own); i++) measure_row(own[i], x, &y);
}

/* Bit patterns at equal distances: as many points in every binade, subnormals, infinities and NaN included. */
Test(elementary, f32_over_all_bit_patterns) {
    const uint32_t step = 32771;
    ad_view x = test_array(AD_F32, AD_SHAPE(samples), TEST_DENSE);
    uint32_t bits = 0;
    for (bool done = false; !done;) {
        for (int64_t i = 0; i < samples; i++, bits += step) memcpy(test_at(&x, i), &bits, sizeof bits);
        done = bits > UINT32_MAX - samples * step;
        measure(&x);
    }
}

Test(elementary, f64_over_all_bit_patterns) {
    ad_view x = test_array(AD_F64, AD_SHAPE(samples), TEST_DENSE);
    for (int64_t i = 0; i < samples; i++) {
        uint64_t bits = (uint64_t)i * (UINT64_MAX / samples + 12345);
        memcpy(test_at(&x, i), &bits, sizeof bits);
    }
    measure(&x);
}

/* Where the functions do something: near 0, near 1, and out to where they overflow, vanish or saturate. */
Test(elementary, both_dtypes_where_it_matters) {
    const struct {
        double middle, reach;
    } ranges[] = {{0, 1e-3}, {0, 1},    {0, 20},   {0, 110}, {0, 760},
                  {1, 0.5},  {1, 1e-4}, {-88, 20}, {88, 2},  {-720, 30}};
    ad_rng rng = {.seed = 1};
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        for (int r = 0; r < TEST_COUNT(ranges); r++) {
            ad_view x = test_array(dtype, AD_SHAPE(samples), TEST_DENSE);
            for (int64_t i = 0; i < samples; i++)
                test_set(&x, i, ranges[r].middle + ranges[r].reach * (2 * ad_rng_uniform(&rng) - 1));
            measure(&x);
        }
    }
}

static void check_edges(const ad_kernels *k) {
    const double inf = INFINITY, nan = NAN;
    const struct {
        ad_unary op;
        double x, y;
    } edges[] = {
        {AD_UNARY_exp, 0.0, 1},
        {AD_UNARY_exp, -0.0, 1},
        {AD_UNARY_exp, inf, inf},
        {AD_UNARY_exp, -inf, 0},
        {AD_UNARY_exp, nan, nan},
        {AD_UNARY_exp, -nan, nan},
        {AD_UNARY_exp, 1e30, inf},
        {AD_UNARY_exp, -1e30, 0},
        {AD_UNARY_exp, 1e-40, 1},
        {AD_UNARY_log, 0.0, -inf},
        {AD_UNARY_log, -0.0, -inf},
        {AD_UNARY_log, 1, 0.0},
        {AD_UNARY_log, inf, inf},
        {AD_UNARY_log, -inf, nan},
        {AD_UNARY_log, -1e-40, nan},
        {AD_UNARY_log, nan, nan},
        {AD_UNARY_log, -nan, nan},
        {AD_UNARY_tanh, 0.0, 0.0},
        {AD_UNARY_tanh, -0.0, -0.0},
        {AD_UNARY_tanh, inf, 1},
        {AD_UNARY_tanh, -inf, -1},
        {AD_UNARY_tanh, nan, nan},
        {AD_UNARY_tanh, -nan, nan},
        {AD_UNARY_tanh, 1e30, 1},
        {AD_UNARY_tanh, 0x1p-149, 0x1p-149},
        {AD_UNARY_tanh, -0x1p-149, -0x1p-149},
        {AD_UNARY_sigmoid, 0.0, 0.5},
        {AD_UNARY_sigmoid, -0.0, 0.5},
        {AD_UNARY_sigmoid, inf, 1},
        {AD_UNARY_sigmoid, -inf, 0.0},
        {AD_UNARY_sigmoid, nan, nan},
        {AD_UNARY_sigmoid, -nan, nan},
        {AD_UNARY_sigmoid, 1e30, 1},
        {AD_UNARY_sigmoid, -1e30, 0.0},
        {AD_UNARY_relu, 0.0, 0.0},
        {AD_UNARY_relu, -0.0, 0.0},
        {AD_UNARY_relu, -3, 0.0},
        {AD_UNARY_relu, inf, inf},
        {AD_UNARY_relu, -inf, 0.0},
        {AD_UNARY_relu, nan, nan},
        {AD_UNARY_relu, 0x1p-149, 0x1p-149},
        {AD_UNARY_expm1, -0.0, -0.0},
        {AD_UNARY_expm1, inf, inf},
        {AD_UNARY_expm1, -inf, -1},
        {AD_UNARY_expm1, nan, nan},
        {AD_UNARY_expm1, 1e-40, 1e-40},
        {AD_UNARY_expm1, 1e30, inf},
        {AD_UNARY_log1p, -0.0, -0.0},
        {AD_UNARY_log1p, inf, inf},
        {AD_UNARY_log1p, -1, -inf},
        {AD_UNARY_log1p, nan, nan},
        {AD_UNARY_log1p, 1e-40, 1e-40},
        {AD_UNARY_log1p, -1.5, nan},
        {AD_UNARY_neg, 0.0, -0.0},
        {AD_UNARY_neg, -0.0, 0.0},
        {AD_UNARY_neg, inf, -inf},
        {AD_UNARY_scale, inf, -inf},
        {AD_UNARY_scale, nan, nan},
        {AD_UNARY_scale, 0.0, -0.0},
    };
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        for (int i = 0; i < TEST_COUNT(edges); i++) {
            /* more than one vector of them, and a tail */
            ad_view x = test_array(dtype, AD_SHAPE(37), TEST_DENSE), y = test_array(dtype, AD_SHAPE(37), TEST_DENSE);
            ad_view want = test_array(dtype, AD_SHAPE(37), TEST_DENSE);
            for (int64_t j = 0; j < 37; j++) {
                test_set(&x, j, edges[i].x);
                test_set(&want, j, edges[i].y);
            }
            k->unary(edges[i].op, &x, &y, constants[edges[i].op]);
            cr_assert(test_same_bits(&y, &want), "%s of %s %s at %g is %g", unary[edges[i].op].name, k->isa,
                      ad_dtype_name(dtype), edges[i].x, test_get(&y, 0));
        }
    }
}

Test(elementary, edge_values) { test_each_table(check_edges); }

/* ---- unary rows in any layout ------------------------------------------------------------------------------------ */

static ad_view input_between(ad_rng *rng, ad_dtype dtype, ad_shape shape, double low, double high) {
    ad_view x = test_any_input(rng, dtype, shape);
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        test_set(&x, i, low + (high - low) * ad_rng_uniform(rng));
    return x;
}

static void check_unary(const ad_kernels *k) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 1500; round++) {
        ad_unary op = (ad_unary)(round % AD_UNARY_COUNT);
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng);
        ad_view x = input_between(&rng, dtype, shape, unary[op].low, unary[op].high), before = test_copy(&x);
        ad_view y = test_any_result(&rng, dtype, shape);
        k->unary(op, &x, &y, constants[op]);
        cr_assert(test_same_bits(&x, &before), "the input changed");
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            double got = test_get(&y, i), ulps = test_ulps(dtype, got, value_of(op, test_get(&x, i)));
            cr_assert_leq(ulps, unary[op].ulps, "%s of %s %s, round %d, element %lld: %g of %.17g is off by %.2f ulp",
                          unary[op].name, k->isa, ad_dtype_name(dtype), round, (long long)i, got, test_get(&x, i),
                          ulps);
        }
    }
}

Test(unary, values_in_any_layout) { test_each_table(check_unary); }

/* What a contribution may be off by: units in the last place of 1 or of the derivative, and of the sum. */
static double room(ad_dtype dtype, long double cotangent, long double slope, long double error, double ulps,
                   long double want) {
    long double rounding = epsilon[dtype] * (ulps * fmaxl(1, fabsl(slope)) * fabsl(cotangent) + fabsl(want));
    return (double)(rounding + error * fabsl(cotangent));
}

static void check_unary_back(const ad_kernels *k) {
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < 1500; round++) {
        ad_unary op = (ad_unary)(round % sloped_rows);
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        bool add = ad_rng_below(&rng, 3) == 0;
        ad_shape shape = test_any_shape(&rng);
        ad_view x = input_between(&rng, dtype, shape, unary[op].low, unary[op].high);
        ad_view g = test_any_input(&rng, dtype, shape);
        ad_view y = test_any_result(&rng, dtype, shape), bar = test_any_result(&rng, dtype, shape);
        k->unary(op, &x, &y, constants[op]);
        if (add) bar = test_random(dtype, shape, (test_layout)(round % TEST_LAYOUTS), 4);
        ad_view before = test_copy(&bar), none = {.data = NULL, .dtype = dtype, .shape = shape, .stride = {0}};
        k->unary_back(op, &g, unary_saves[op] & AD_SAVES_INPUT(0) ? &x : &none,
                      unary_saves[op] & AD_SAVES_RESULT(0) ? &y : &none, &bar, add, constants[op]);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            long double error, slope = slope_of(op, test_get(&x, i), &error), cotangent = test_get(&g, i);
            long double want = cotangent * slope + (add ? test_get(&before, i) : 0);
            cr_assert_leq(fabsl(test_get(&bar, i) - want),
                          room(dtype, cotangent, slope, error, unary[op].slope_ulps, want),
                          "%s of %s %s, round %d, at %.17g", unary[op].name, k->isa, ad_dtype_name(dtype), round,
                          test_get(&x, i));
        }
    }
}

Test(unary, contributions_in_any_layout) { test_each_table(check_unary_back); }

/* ---- binary rows ------------------------------------------------------------------------------------------------- */

/*  X(row, value, where a and b are, most units in the last place that the value is off, and the derivatives). Kinks, where
 *  there are any, are at a = 0, b = 0 and a = b. */
/* clang-format off */
#define BINARY(X)                                                                                                    \
    X(add, a + b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 0)                                                            \
    X(sub, a - b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 0)                                                            \
    X(mul, a * b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 1)                                                            \
    X(div, a / b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 3)                                                            \
    X(masked_mul, a * b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 1)                                                     \
    X(masked_div, a / b, BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 3)                                                     \
    X(pow, powl(a, b), BETWEEN(0, 3), BETWEEN(-3, 3), 1, 60)                                                         \
    X(maximum, fmaxl(a, b), BETWEEN(-3, 3), BETWEEN(-3, 3), 0, 0)                                                    \
    X(minimum, fminl(a, b), BETWEEN(-3, 3), BETWEEN(-3, 3), 0, 0)                                                    \
    X(prelu, fmaxl(a, 0) + b * fminl(a, 0), BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 1)                                  \
    X(swiglu, a * sigmoid(a) * b, BETWEEN(-9, 9), BETWEEN(-3, 3), 5, 8)                                              \
    X(through_tanh, a * (1 - b * b), BETWEEN(-3, 3), BETWEEN(-0.9, 0.9), 4, 4)                                          \
    X(through_gelu_tanh, a * gelu_slope(b), BETWEEN(-3, 3), BETWEEN(-0.5, 1), 8, 40)                                    \
    X(xlogy, a * logl(b), BETWEEN(-3, 3), BETWEEN(0, 3), 2, 2)                                                       \
    X(atan2, atan2l(a, b), BETWEEN(-3, 3), BETWEEN(-3, 3), 2, 4)                                                     \
    X(hypot, hypotl(a, b), BETWEEN(-3, 3), BETWEEN(-3, 3), 1, 3)                                                     \
    X(logaddexp, logl(expl(a) + expl(b)), BETWEEN(0, 9), BETWEEN(0, 9), 2, 8)                                        \
    X(fmod, fmodl(a, b), BETWEEN(-5.5, -5.1), BETWEEN(1.9, 2.1), 0, 1)                                               \
    X(remainder, a - floorl(a / b) * b, BETWEEN(-5.5, -5.1), BETWEEN(1.9, 2.1), 0.5, 1)                              \
    X(copysign, copysignl(a, b), BETWEEN(-3, 3), BETWEEN(-3, 3), 0, 0)                                               \
    X(mse, (a - b) * (a - b), BETWEEN(-3, 3), BETWEEN(-3, 3), 2, 3)                                                  \
    X(l1, fabsl(a - b), BETWEEN(-3, 3), BETWEEN(-3, 3), 0.5, 0)                                                      \
    X(bce, -b * logl(a) - (1 - b) * logl(1 - a), BETWEEN(0.1, 0.5), BETWEEN(0.55, 0.9), 4, 40)                       \
    X(bce_with_logits, logl(1 + expl(a)) - b * a, BETWEEN(-9, 9), BETWEEN(0.1, 0.9), 6, 40)                          \
    X(kl_div, b * (logl(b) - a), BETWEEN(-9, -4), BETWEEN(0.1, 0.9), 4, 4)                                           \
    X(poisson_nll, expl(a) - b * a, BETWEEN(0, 3), BETWEEN(-3, 0), 20, 40)                                           \
    X(gaussian_kl, (a * a + expl(b) - 1 - b) / 2, BETWEEN(-3, 3), BETWEEN(1, 3), 4, 4)                               \
    X(hinge, fmaxl(0, 1 - a * b), BETWEEN(-3, 0), BETWEEN(0.5, 3), 2, 1)
/* clang-format on */

typedef struct binary_row {
    const char *name;
    long double (*value)(long double a, long double b);
    double a_low, a_high, b_low, b_high, ulps, slope_ulps;
} binary_row;

#define X(row, formula, ...)                                                                                         \
    static long double row##_of_two(long double a, long double b) { return (formula); }
BINARY(X)
#undef X

static const binary_row binary[] = {
#define X(row, formula, ...) [AD_BINARY_##row] = {#row, row##_of_two, __VA_ARGS__},
    BINARY(X)
#undef X
};

#define X(...) +1
_Static_assert(0 BINARY(X) == AD_BINARY_COUNT, "every row is tested, once");
#undef X

static const uint32_t binary_saves[AD_BINARY_COUNT] = {
#define X(row, value, a_bar, b_bar, saves, ...) [AD_BINARY_##row] = saves,
    AD_BINARY_ROWS(X) AD_LOSS_ROWS(X)
#undef X
};

/* The derivative by a (`which` 0) or b. */
static long double partial_of(ad_binary op, int which, long double a, long double b, long double *error) {
    long double reach = fminl(fminl(fabsl(a), fabsl(b)), fminl(fabsl(a - b), 1)), f[9];
    for (int i = 0; i < 9; i++) {
        long double move = (i - 4) * reach / 256;
        f[i] = binary[op].value(which == 0 ? a + move : a, which == 1 ? b + move : b);
    }
    return difference(reach / 256, f, error);
}

static void check_binary_values(ad_binary op, const char *isa, const ad_view *a, const ad_view *b, const ad_view *y) {
    for (int64_t i = 0, n = ad_shape_count(&y->shape); i < n; i++) {
        long double want = binary[op].value(test_get(a, i), test_get(b, i));
        double ulps = test_ulps(y->dtype, test_get(y, i), want);
        cr_assert_leq(ulps, binary[op].ulps, "%s of %s %s at %.17g, %.17g is off by %.2f ulp", binary[op].name, isa,
                      ad_dtype_name(y->dtype), test_get(a, i), test_get(b, i), ulps);
    }
}

static void check_binary(const ad_kernels *k) {
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < 1200; round++) {
        ad_binary op = (ad_binary)(round % AD_BINARY_COUNT);
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        bool add = ad_rng_below(&rng, 3) == 0;
        ad_shape shape = test_any_shape(&rng);
        ad_view a = input_between(&rng, dtype, shape, binary[op].a_low, binary[op].a_high);
        ad_view b = input_between(&rng, dtype, shape, binary[op].b_low, binary[op].b_high);
        ad_view g = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, dtype, shape);
        k->binary(op, &a, &b, &y);
        check_binary_values(op, k->isa, &a, &b, &y);
        ad_view none = {.data = NULL, .dtype = dtype, .shape = shape, .stride = {0}};
        for (int which = 0; which < 2; which++) {
            ad_view bar = add ? test_random(dtype, shape, TEST_GAPS, 6) : test_any_result(&rng, dtype, shape);
            ad_view before = test_copy(&bar);
            k->binary_back(op, which, &g, binary_saves[op] & AD_SAVES_INPUT(0) ? &a : &none,
                           binary_saves[op] & AD_SAVES_INPUT(1) ? &b : &none,
                           binary_saves[op] & AD_SAVES_RESULT(0) ? &y : &none, &bar, add);
            for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
                long double error, slope = partial_of(op, which, test_get(&a, i), test_get(&b, i), &error);
                long double cotangent = test_get(&g, i), want = cotangent * slope + (add ? test_get(&before, i) : 0);
                cr_assert_leq(fabsl(test_get(&bar, i) - want),
                              room(dtype, cotangent, slope, error, binary[op].slope_ulps, want),
                              "%s of %s %s by input %d, round %d, at %.17g, %.17g", binary[op].name, k->isa,
                              ad_dtype_name(dtype), which, round, test_get(&a, i), test_get(&b, i));
            }
        }
    }
}

Test(binary, values_and_contributions_in_any_layout) { test_each_table(check_binary); }

/* ---- masks ------------------------------------------------------------------------------------------------------- */

/* A cotangent of 0 gives exactly 0, and nothing where it is added, at points where the derivative is infinite or NaN. */
static void check_masks(const ad_kernels *k) {
    const double points[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 1e-300, -1};
    enum { n = 7 };
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_array(dtype, AD_SHAPE(n, n), TEST_DENSE),
                other = test_array(dtype, AD_SHAPE(n, n), TEST_DENSE);
        ad_view g = test_array(dtype, AD_SHAPE(n, n), TEST_DENSE), y = test_array(dtype, AD_SHAPE(n, n), TEST_DENSE);
        ad_view bar = test_array(dtype, AD_SHAPE(n, n), TEST_DENSE);
        for (int64_t i = 0; i < n * n; i++) {
            test_set(&x, i, points[i / n]);
            test_set(&other, i, points[i % n]);
            test_set(&g, i, i % 2 ? 0.0 : -0.0);
        }
        for (int op = 0; op < sloped_rows + 2 * AD_BINARY_COUNT; op++) {
            for (int add = 0; add < 2; add++) {
                for (int64_t i = 0; i < n * n; i++) test_set(&bar, i, 3);
                int pair = op - sloped_rows;
                if ((int)op < sloped_rows) {
                    k->unary((ad_unary)op, &x, &y, constants[op]);
                    k->unary_back((ad_unary)op, &g, &x, &y, &bar, add, constants[op]);
                } else {
                    k->binary((ad_binary)(pair / 2), &x, &other, &y);
                    k->binary_back((ad_binary)(pair / 2), pair % 2, &g, &x, &other, &y, &bar, add);
                }
                for (int64_t i = 0; i < n * n; i++)
                    cr_assert_eq(test_get(&bar, i), add ? 3 : 0, "row %d of %s at %g, %g", op, k->isa, points[i / n],
                                 points[i % n]);
            }
        }
    }
}

Test(binary, a_cotangent_of_0_stays_0) { test_each_table(check_masks); }

static void check_masked_values(const ad_kernels *k) {
    const double others[] = {0.0, INFINITY, -INFINITY, NAN, 2};
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view zero = test_array(dtype, AD_SHAPE(5), TEST_DENSE), b = test_array(dtype, AD_SHAPE(5), TEST_DENSE);
        ad_view y = test_array(dtype, AD_SHAPE(5), TEST_DENSE);
        for (int64_t i = 0; i < 5; i++) {
            test_set(&zero, i, i % 2 ? 0.0 : -0.0);
            test_set(&b, i, others[i]);
        }
        for (ad_binary op = AD_BINARY_masked_mul; op <= AD_BINARY_masked_div; op++) {
            k->binary(op, &zero, &b, &y);
            for (int64_t i = 0; i < 5; i++) cr_assert_eq(test_get(&y, i), 0);
        }
    }
}

Test(binary, masked_rows_are_0_where_a_is_0) { test_each_table(check_masked_values); }

/* pow and atan2 of f32 where they are 0, infinite, NaN, or have a sign to choose, against the C library's in double. */
static void check_ends(const ad_kernels *k) {
    static const float points[] = {0.0f,  -0.0f, 1,        -1,        2,   -2,    3,      -3,     0.5f,
                                   -0.5f, 2.5f,  INFINITY, -INFINITY, NAN, 1e30f, -1e30f, 1e-40f, 16777216.0f};
    enum { N = TEST_COUNT(points) };
    ad_view a = test_array(AD_F32, AD_SHAPE(N * N), TEST_DENSE), b = test_copy(&a), y = test_copy(&a);
    for (int i = 0; i < N * N; i++) test_set(&a, i, (double)points[i / N]), test_set(&b, i, (double)points[i % N]);
    for (int op = 0; op < 2; op++) {
        k->binary(op ? AD_BINARY_atan2 : AD_BINARY_pow, &a, &b, &y);
        for (int i = 0; i < N * N; i++) {
            const double u = test_get(&a, i), v = test_get(&b, i), got = test_get(&y, i);
            const double want = op ? atan2(u, v) : pow(u, v);
            if (op && u == 0 && v == 0) continue;
            cr_assert_leq(test_ulps(AD_F32, got, (long double)want), 1, "%s of %g, %g in %s is %g",
                          op ? "atan2" : "pow", u, v, k->isa, got);
            cr_assert(isnan(want) || !signbit(want) == !signbit(got), "%s of %g, %g in %s is %g",
                      op ? "atan2" : "pow", u, v, k->isa, got);
        }
    }
}

Test(binary, powers_and_angles_at_the_ends) { test_each_table(check_ends); }

/* ---- one result, whatever the layout ----------------------------------------------------------------------------- */

static void same_bits_anywhere(ad_dtype dtype, ad_unary op, const ad_view *x, const ad_view *g) {
    ad_view first_y, first_bar;
    for (int t = 0; ad_kernels_table(t); t++) {
        const ad_kernels *k = ad_kernels_table(t);
        for (int layout = 0; layout < TEST_LAYOUTS; layout++) {
            ad_view in = test_array(dtype, x->shape, (test_layout)layout), y = in, bar = in;
            (void)!ad_view_copy(x, &in);
            y = test_array(dtype, x->shape, (test_layout)layout);
            bar = test_array(dtype, x->shape, (test_layout)layout);
            k->unary(op, &in, &y, constants[op]);
            if ((int)op < sloped_rows) k->unary_back(op, g, &in, &y, &bar, false, constants[op]);
            if (layout == 0) first_y = y, first_bar = bar;
            cr_assert(test_same_bits(&y, &first_y), "%s of %s in layout %d", unary[op].name, k->isa, layout);
            if ((int)op < sloped_rows)
                cr_assert(test_same_bits(&bar, &first_bar), "%s of %s in layout %d", unary[op].name, k->isa, layout);
        }
    }
}

Test(unary, every_place_and_layout_gives_the_same_bits) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_random(dtype, AD_SHAPE(37, 211), TEST_DENSE, 8),
                g = test_random(dtype, x.shape, TEST_DENSE, 9);
        for (int64_t i = 0; i < 1000; i++) test_set(&x, i, 30 * test_get(&x, i));
        for (int op = 0; op < AD_UNARY_COUNT; op++) same_bits_anywhere(dtype, (ad_unary)op, &x, &g);
    }
}

/* ---- kernels of any dtype ---------------------------------------------------------------------------------------- */

/*  X(row, what it says of the numbers a and b, or of a alone) */
/* clang-format off */
#define COMPARE(X)                                                                                                   \
    X(greater, isgreater(a, b))                                                                                      \
    X(greater_equal, isgreaterequal(a, b))                                                                           \
    X(less, isless(a, b))                                                                                            \
    X(less_equal, islessequal(a, b))                                                                                 \
    X(equal, !islessgreater(a, b) && !isunordered(a, b))                                                             \
    X(not_equal, islessgreater(a, b) || isunordered(a, b))                                                           \
    X(logical_and, fpclassify(a) != FP_ZERO && fpclassify(b) != FP_ZERO)                                             \
    X(logical_or, !(fpclassify(a) == FP_ZERO && fpclassify(b) == FP_ZERO))                                           \
    X(logical_xor, (fpclassify(a) == FP_ZERO) != (fpclassify(b) == FP_ZERO))                                         \
    X(logical_not, fpclassify(a) == FP_ZERO)                                                                         \
    X(isnan, fpclassify(a) == FP_NAN)                                                                                \
    X(isinf, fpclassify(a) == FP_INFINITE)                                                                           \
    X(isfinite, fpclassify(a) != FP_NAN && fpclassify(a) != FP_INFINITE)
/* clang-format on */

#define X(...) +1
_Static_assert(0 COMPARE(X) == AD_COMPARE_COUNT, "every row is tested, once");
#undef X

static bool truth(ad_compare op, double a, double b) {
    switch (op) {
#define X(row, formula)                                                                                              \
    case AD_COMPARE_##row: return formula;
        COMPARE(X)
#undef X
    default: return false;
    }
}

/* Few different values, so that equal ones meet. */
static ad_view comparable_input(ad_rng *rng, ad_dtype dtype, ad_shape shape) {
    const double values[] = {0, 1, -1, 7, -0.0, NAN, INFINITY, -INFINITY, 1e-40, 1e30};
    ad_view x = test_any_input(rng, dtype, shape);
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        test_set(&x, i, values[ad_rng_below(rng, ad_dtype_is_float(dtype) ? TEST_COUNT(values) : 4)]);
    return x;
}

static void check_compare(const ad_kernels *k) {
    ad_rng rng = {.seed = 10};
    for (int round = 0; round < 4000; round++) {
        ad_compare op = (ad_compare)(round % AD_COMPARE_COUNT);
        ad_dtype dtype = (ad_dtype)ad_rng_below(&rng, AD_DTYPE_COUNT);
        ad_shape shape = test_any_shape(&rng);
        ad_view a = comparable_input(&rng, dtype, shape), b = comparable_input(&rng, dtype, shape);
        ad_view mask = test_any_result(&rng, AD_I32, shape);
        k->compare(op, &a, &b, &mask);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
            cr_assert_eq(test_get(&mask, i), truth(op, test_get(&a, i), test_get(&b, i)), "row %d of %s %s at %g, %g",
                         op, k->isa, ad_dtype_name(dtype), test_get(&a, i), test_get(&b, i));
    }
}

Test(any_dtype, comparisons_and_tests) { test_each_table(check_compare); }

static void check_select(const ad_kernels *k) {
    ad_rng rng = {.seed = 11};
    for (int round = 0; round < 2000; round++) {
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT), condition_dtype = (ad_dtype)(round / 4 % AD_DTYPE_COUNT);
        ad_shape shape = test_any_shape(&rng);
        ad_view a = test_any_input(&rng, dtype, shape), b = test_any_input(&rng, dtype, shape);
        ad_view y = test_any_result(&rng, dtype, shape), condition = comparable_input(&rng, condition_dtype, shape);
        k->select(&condition, &a, &b, &y);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            double chosen = test_get(test_get(&condition, i) != 0 ? &a : &b, i);
            cr_assert_eq(test_get(&y, i), chosen, "%s, round %d", k->isa, round);
        }
    }
}

Test(any_dtype, select) { test_each_table(check_select); }

static void check_wide_integers(const ad_kernels *k) {
    int64_t large[] = {INT64_MAX, INT64_MAX - 1}, swapped[] = {INT64_MAX - 1, INT64_MAX}, chosen[2];
    int32_t mask[2], condition[] = {0, 1};
    ad_view a = ad_view_of(large, AD_I64, AD_SHAPE(2)), b = ad_view_of(swapped, AD_I64, AD_SHAPE(2));
    ad_view y = ad_view_of(mask, AD_I32, AD_SHAPE(2)), z = ad_view_of(chosen, AD_I64, AD_SHAPE(2));
    ad_view c = ad_view_of(condition, AD_I32, AD_SHAPE(2));
    k->compare(AD_COMPARE_greater, &a, &b, &y);
    cr_assert(mask[0] == 1 && mask[1] == 0, "%s compares as double", k->isa);
    k->compare(AD_COMPARE_equal, &a, &b, &y);
    cr_assert(mask[0] == 0 && mask[1] == 0, "%s compares as double", k->isa);
    k->select(&c, &a, &b, &z);
    cr_assert(chosen[0] == INT64_MAX - 1 && chosen[1] == INT64_MAX - 1, "%s moves as double", k->isa);
}

Test(any_dtype, integers_keep_all_their_bits) { test_each_table(check_wide_integers); }

static void check_fill_and_copy(const ad_kernels *k) {
    const double values[] = {0, -0.0, 1.5, -7, NAN, INFINITY, 1e300};
    ad_rng rng = {.seed = 12};
    for (int round = 0; round < 2000; round++) {
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT);
        ad_shape shape = test_any_shape(&rng);
        ad_view y = test_any_result(&rng, dtype, shape);
        int64_t element = 0;
        ad_element_set(&element, dtype, values[round % TEST_COUNT(values)]);
        k->fill(&y, values[round % TEST_COUNT(values)]);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
            cr_assert_eq(memcmp(test_at(&y, i), &element, ad_dtype_size(dtype)), 0, "%s, round %d", k->isa, round);
        if (!ad_dtype_is_float(dtype)) continue;

        bool add = round % 3 == 0;
        double factor = round % 5 ? 1 : -0.3;
        ad_view x = test_any_input(&rng, dtype, shape), into = test_any_result(&rng, dtype, shape);
        if (add) into = test_random(dtype, shape, (test_layout)(round % TEST_LAYOUTS), 13);
        ad_view before = test_copy(&into);
        k->copy(&x, &into, factor, add);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            long double product = (long double)(dtype == AD_F32 ? (float)factor : factor) * test_get(&x, i);
            long double want = product + (add ? test_get(&before, i) : 0);
            double room = epsilon[dtype] * (double)(fabsl(product) + fabsl(want)) / 2;
            cr_assert_leq(fabsl(test_get(&into, i) - want), room, "%s, round %d", k->isa, round);
        }
    }
}

Test(any_dtype, fill_and_copy) { test_each_table(check_fill_and_copy); }

/* ---- choosing a table -------------------------------------------------------------------------------------------- */

Test(dispatch, tables_go_from_plain_to_wide_and_end) {
    const char *names[] = {"baseline", "avx2", "avx512"};
    int count = 0;
    while (ad_kernels_table(count)) count++;
    cr_assert_str_eq(ad_kernels_table(0)->isa, names[0]);
    for (int i = 0, k = 0; i < count; i++, k++) { /* a build may leave some out */
        while (k < TEST_COUNT(names) && strcmp(ad_kernels_table(i)->isa, names[k]) != 0) k++;
        cr_assert_lt(k, TEST_COUNT(names), "table %d is of %s", i, ad_kernels_table(i)->isa);
    }
    cr_assert_null(ad_kernels_table(-1));
    cr_assert_null(ad_kernels_table(count + 1));
    cr_assert_eq(ad_kernels_get(), ad_kernels_table(count - 1), "the best is chosen");
}

Test(dispatch, the_environment_may_choose_a_lower_one) {
    setenv("ADTAPE_ISA", "baseline", 1);
    cr_assert_eq(ad_kernels_get(), ad_kernels_table(0));
    setenv("ADTAPE_ISA", "avx2", 1);
    cr_assert_eq(ad_kernels_get(), ad_kernels_table(0), "it is chosen once");
}

Test(dispatch, an_unknown_name_in_the_environment_is_ignored) {
    setenv("ADTAPE_ISA", "abacus", 1);
    cr_assert_null(ad_kernels_table(3));
    cr_assert_not_null(ad_kernels_get());
    for (int i = 0; ad_kernels_table(i + 1); i++) cr_assert_neq(ad_kernels_get(), ad_kernels_table(i));
}
