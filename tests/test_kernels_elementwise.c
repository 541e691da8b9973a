/* The elementwise kernels of every instruction set against plain loops in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(elementary, .fini = test_arrays_free);
TestSuite(unary, .fini = test_arrays_free);
TestSuite(binary, .fini = test_arrays_free);
TestSuite(any_dtype, .fini = test_arrays_free);

static const double constants[] = {-1.75};
static const double epsilon[] = {[AD_F32] = 0x1p-23, [AD_F64] = 0x1p-52};

/* ---- what the unary rows mean ------------------------------------------------------------------------------------ */

static long double neg(long double x) { return -x; }
static long double scale(long double x) { return constants[0] * x; }
static long double sigmoid(long double x) { return 1 / (1 + expl(-x)); }
static long double relu(long double x) { return x <= 0 ? 0 : x; }

/* Derivatives at x, where the value is y. */
static long double neg_slope(long double x, long double y) { return (void)x, (void)y, -1; }
static long double scale_slope(long double x, long double y) { return (void)x, (void)y, constants[0]; }
static long double exp_slope(long double x, long double y) { return (void)x, y; }
static long double log_slope(long double x, long double y) { return (void)y, 1 / x; }
static long double tanh_slope(long double x, long double y) { return (void)x, 1 - y * y; }
static long double sigmoid_slope(long double x, long double y) { return (void)y, sigmoid(x) * sigmoid(-x); }
static long double relu_slope(long double x, long double y) { return (void)y, x > 0; }

static const struct {
    const char *name;
    long double (*value)(long double x);
    long double (*slope)(long double x, long double y);
    double ulps; /* of the value, at most */
} unary[] = {
    [AD_UNARY_neg] = {"neg", neg, neg_slope, 0},        [AD_UNARY_scale] = {"scale", scale, scale_slope, 0.5},
    [AD_UNARY_exp] = {"exp", expl, exp_slope, 1.1},     [AD_UNARY_log] = {"log", logl, log_slope, 1.1},
    [AD_UNARY_tanh] = {"tanh", tanhl, tanh_slope, 2.5}, [AD_UNARY_sigmoid] = {"sigmoid", sigmoid, sigmoid_slope, 2.5},
    [AD_UNARY_relu] = {"relu", relu, relu_slope, 0},
};
_Static_assert(sizeof unary / sizeof *unary == AD_UNARY_COUNT, "every row is tested");

/* ---- accuracy of the elementary functions ------------------------------------------------------------------------ */

enum { samples = 1 << 16 };

/* Measures op at the points of x, in every table. */
static void measure_row(ad_unary op, const ad_view *x, const ad_view *y) {
    static long double want[samples];
    for (int64_t i = 0; i < samples; i++) want[i] = unary[op].value(test_get(x, i));
    for (int t = 0; ad_kernels_table(t); t++) {
        double worst = -1, at = 0;
        ad_kernels_table(t)->unary(op, x, y, constants);
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
    for (ad_unary op = AD_UNARY_exp; op <= AD_UNARY_sigmoid; op++) measure_row(op, x, &y);
}

/* Bit patterns at equal distances: as many points in every binade, subnormals, infinities and NaN included. */
Test(elementary, f32_over_all_bit_patterns) {
    const uint32_t step = 4099;
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
            k->unary(edges[i].op, &x, &y, constants);
            cr_assert(test_same_bits(&y, &want), "%s of %s %s at %g is %g", unary[edges[i].op].name, k->isa,
                      ad_dtype_name(dtype), edges[i].x, test_get(&y, 0));
        }
    }
}

Test(elementary, edge_values) { test_each_table(check_edges); }

/* ---- unary rows in any layout ------------------------------------------------------------------------------------ */

/* A valid input of the row: logarithms want positive numbers. */
static ad_view unary_input(ad_rng *rng, ad_unary op, ad_dtype dtype, ad_shape shape) {
    ad_view x = test_any_input(rng, dtype, shape);
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n && op == AD_UNARY_log; i++)
        test_set(&x, i, fabs(test_get(&x, i)) + 0.1);
    return x;
}

static void check_unary(const ad_kernels *k) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 3000; round++) {
        ad_unary op = (ad_unary)(round % AD_UNARY_COUNT);
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng);
        ad_view x = unary_input(&rng, op, dtype, shape), before = test_copy(&x),
                y = test_any_result(&rng, dtype, shape);
        k->unary(op, &x, &y, constants);
        cr_assert(test_same_bits(&x, &before), "the input changed");
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            double got = test_get(&y, i);
            cr_assert_leq(test_ulps(dtype, got, unary[op].value(test_get(&x, i))), unary[op].ulps,
                          "%s of %s, round %d, element %lld: %g of %g", unary[op].name, k->isa, round, (long long)i,
                          got, test_get(&x, i));
        }
    }
}

Test(unary, values_in_any_layout) { test_each_table(check_unary); }

/* Which of x and y a row reads; the other may be left out. */
static bool reads_x(ad_unary op) { return op == AD_UNARY_log || op == AD_UNARY_sigmoid; }
static bool reads_y(ad_unary op) { return op >= AD_UNARY_exp && op != AD_UNARY_log; }

static void check_unary_back(const ad_kernels *k) {
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < 3000; round++) {
        ad_unary op = (ad_unary)(round % AD_UNARY_COUNT);
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        bool add = round % 3 == 0;
        ad_shape shape = test_any_shape(&rng);
        ad_view x = unary_input(&rng, op, dtype, shape), g = test_any_input(&rng, dtype, shape);
        ad_view y = test_any_result(&rng, dtype, shape), bar = test_any_result(&rng, dtype, shape);
        k->unary(op, &x, &y, constants);
        if (add) bar = test_random(dtype, shape, (test_layout)(round % TEST_LAYOUTS), 4);
        ad_view before = test_copy(&bar), none = {.data = NULL, .dtype = dtype, .shape = shape, .stride = {0}};
        k->unary_back(op, &g, reads_x(op) ? &x : &none, reads_y(op) ? &y : &none, &bar, add, constants);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            long double slope = unary[op].slope(test_get(&x, i), test_get(&y, i)), cotangent = test_get(&g, i);
            long double want = cotangent * slope + (add ? test_get(&before, i) : 0);
            double room = 4 * epsilon[dtype] * (double)(fabsl(cotangent) * fmaxl(1, fabsl(slope)) + fabsl(want));
            cr_assert_leq(fabsl(test_get(&bar, i) - want), room, "%s of %s, round %d, element %lld", unary[op].name,
                          k->isa, round, (long long)i);
        }
    }
}

Test(unary, contributions_in_any_layout) { test_each_table(check_unary_back); }

/* ---- binary rows ------------------------------------------------------------------------------------------------- */

/* The value of a row and its derivatives by a and b. */
static void reference_binary(ad_binary op, long double a, long double b, long double *y, long double *by_a,
                             long double *by_b) {
    switch (op) {
    case AD_BINARY_add: *y = a + b, *by_a = 1, *by_b = 1; break;
    case AD_BINARY_sub: *y = a - b, *by_a = 1, *by_b = -1; break;
    case AD_BINARY_mul: *y = a * b, *by_a = b, *by_b = a; break;
    case AD_BINARY_div: *y = a / b, *by_a = 1 / b, *by_b = -a / (b * b); break;
    case AD_BINARY_masked_mul: *y = a == 0 ? 0 : a * b, *by_a = b, *by_b = a; break;
    case AD_BINARY_masked_div: *y = a == 0 ? 0 : a / b, *by_a = 1 / b, *by_b = a == 0 ? 0 : -a / (b * b); break;
    default: cr_assert_fail("row %d is not tested", op);
    }
}

static void check_binary(const ad_kernels *k) {
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < 3000; round++) {
        ad_binary op = (ad_binary)(round % AD_BINARY_COUNT);
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        bool add = round % 3 == 0;
        ad_shape shape = test_any_shape(&rng);
        ad_view a = test_any_input(&rng, dtype, shape), b = test_any_input(&rng, dtype, shape);
        ad_view g = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, dtype, shape);
        k->binary(op, &a, &b, &y);
        ad_view bar[2], before[2];
        for (int i = 0; i < 2; i++) {
            bar[i] = add ? test_random(dtype, shape, TEST_GAPS, 6) : test_any_result(&rng, dtype, shape);
            before[i] = test_copy(&bar[i]);
            k->binary_back(op, i, &g, &a, &b, &y, &bar[i], add);
        }
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) {
            long double value, slope[2], cotangent = test_get(&g, i);
            reference_binary(op, test_get(&a, i), test_get(&b, i), &value, &slope[0], &slope[1]);
            cr_assert_leq(test_ulps(dtype, test_get(&y, i), value), 0.5, "row %d of %s, round %d", op, k->isa, round);
            for (int which = 0; which < 2; which++) {
                long double want = cotangent * slope[which] + (add ? test_get(&before[which], i) : 0);
                double room = 3 * epsilon[dtype] * (double)(fabsl(cotangent * slope[which]) + fabsl(want));
                cr_assert_leq(fabsl(test_get(&bar[which], i) - want), room, "row %d of %s, round %d", op, k->isa,
                              round);
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
        for (int op = 0; op < AD_UNARY_COUNT + 2 * AD_BINARY_COUNT; op++) {
            for (int add = 0; add < 2; add++) {
                for (int64_t i = 0; i < n * n; i++) test_set(&bar, i, 3);
                int binary = (op - AD_UNARY_COUNT) / 2;
                if (op < AD_UNARY_COUNT) {
                    k->unary((ad_unary)op, &x, &y, constants);
                    k->unary_back((ad_unary)op, &g, &x, &y, &bar, add, constants);
                } else {
                    k->binary((ad_binary)binary, &x, &other, &y);
                    k->binary_back((ad_binary)binary, op % 2, &g, &x, &other, &y, &bar, add);
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

/* ---- one result, whatever the instruction set and the layout ----------------------------------------------------- */

static void same_bits_everywhere(ad_dtype dtype, ad_unary op, const ad_view *x, const ad_view *g) {
    ad_view first_y, first_bar;
    for (int t = 0; ad_kernels_table(t); t++) {
        const ad_kernels *k = ad_kernels_table(t);
        for (int layout = 0; layout < TEST_LAYOUTS; layout++) {
            ad_view in = test_array(dtype, x->shape, (test_layout)layout), y = in, bar = in;
            (void)!ad_view_copy(x, &in);
            y = test_array(dtype, x->shape, (test_layout)layout);
            bar = test_array(dtype, x->shape, (test_layout)layout);
            k->unary(op, &in, &y, constants);
            k->unary_back(op, g, &in, &y, &bar, false, constants);
            if (t == 0 && layout == 0) first_y = y, first_bar = bar;
            cr_assert(test_same_bits(&y, &first_y), "%s of %s in layout %d", unary[op].name, k->isa, layout);
            cr_assert(test_same_bits(&bar, &first_bar), "%s of %s in layout %d", unary[op].name, k->isa, layout);
        }
    }
}

Test(unary, every_instruction_set_and_layout_gives_the_same_bits) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_random(dtype, AD_SHAPE(37, 211), TEST_DENSE, 8),
                g = test_random(dtype, x.shape, TEST_DENSE, 9);
        for (int64_t i = 0; i < 1000; i++) test_set(&x, i, 30 * test_get(&x, i));
        for (int op = 0; op < AD_UNARY_COUNT; op++) same_bits_everywhere(dtype, (ad_unary)op, &x, &g);
    }
}

/* ---- kernels of any dtype ---------------------------------------------------------------------------------------- */

static void check_greater_and_select(const ad_kernels *k) {
    ad_rng rng = {.seed = 10};
    for (int round = 0; round < 2000; round++) {
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT), condition_dtype = (ad_dtype)(round / 4 % AD_DTYPE_COUNT);
        ad_shape shape = test_any_shape(&rng);
        int64_t n = ad_shape_count(&shape);
        ad_view a = test_any_input(&rng, dtype, shape), b = test_any_input(&rng, dtype, shape);
        ad_view mask = test_any_result(&rng, AD_I32, shape), y = test_any_result(&rng, dtype, shape);
        ad_view condition = test_any_input(&rng, condition_dtype, shape);
        for (int64_t i = 0; i < n; i += 2) test_set(&condition, i, 0);
        if (n > 1 && ad_dtype_is_float(condition_dtype)) test_set(&condition, n - 1, NAN);
        k->greater(&a, &b, &mask);
        k->select(&condition, &a, &b, &y);
        for (int64_t i = 0; i < n; i++) {
            cr_assert_eq(test_get(&mask, i), test_get(&a, i) > test_get(&b, i), "%s, round %d", k->isa, round);
            double chosen = test_get(test_get(&condition, i) != 0 ? &a : &b, i);
            cr_assert_eq(test_get(&y, i), chosen, "%s, round %d", k->isa, round);
        }
    }
}

Test(any_dtype, greater_and_select) { test_each_table(check_greater_and_select); }

static void check_wide_integers(const ad_kernels *k) {
    int64_t large[] = {INT64_MAX, INT64_MAX - 1}, swapped[] = {INT64_MAX - 1, INT64_MAX}, chosen[2];
    int32_t mask[2], condition[] = {0, 1};
    ad_view a = ad_view_of(large, AD_I64, AD_SHAPE(2)), b = ad_view_of(swapped, AD_I64, AD_SHAPE(2));
    ad_view y = ad_view_of(mask, AD_I32, AD_SHAPE(2)), z = ad_view_of(chosen, AD_I64, AD_SHAPE(2));
    ad_view c = ad_view_of(condition, AD_I32, AD_SHAPE(2));
    k->greater(&a, &b, &y);
    cr_assert(mask[0] == 1 && mask[1] == 0, "%s compares as double", k->isa);
    k->select(&c, &a, &b, &z);
    cr_assert(chosen[0] == INT64_MAX - 1 && chosen[1] == INT64_MAX - 1, "%s moves as double", k->isa);
}

Test(any_dtype, integers_keep_all_their_bits) { test_each_table(check_wide_integers); }

static void check_greater_of_nan(const ad_kernels *k) {
    double left[] = {NAN, 1, NAN, INFINITY, 0.0}, right[] = {1, NAN, NAN, 1, -0.0};
    int32_t mask[5];
    ad_view a = ad_view_of(left, AD_F64, AD_SHAPE(5)), b = ad_view_of(right, AD_F64, AD_SHAPE(5));
    ad_view y = ad_view_of(mask, AD_I32, AD_SHAPE(5));
    k->greater(&a, &b, &y);
    cr_assert_arr_eq(mask, ((int32_t[]){0, 0, 0, 1, 0}), sizeof mask);
}

Test(any_dtype, nan_is_not_greater) { test_each_table(check_greater_of_nan); }

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
    cr_assert(count >= 1 && count <= TEST_COUNT(names));
    for (int i = 0; i < count; i++) cr_assert_str_eq(ad_kernels_table(i)->isa, names[i]);
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
