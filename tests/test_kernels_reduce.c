/* The reductions of every instruction set against plain loops in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(sum_to, .fini = test_arrays_free);
TestSuite(norm, .fini = test_arrays_free);
TestSuite(table, .fini = test_arrays_free);

static const double epsilon[] = {[AD_F32] = 0x1p-23, [AD_F64] = 0x1p-52};

/* A shape that broadcasts to `shape`: some axes 1, perhaps without the first ones. */
static ad_shape summed_shape(ad_rng *rng, const ad_shape *shape) {
    ad_shape out = *shape;
    for (int i = 0; i < shape->rank; i++)
        if (ad_rng_below(rng, 2)) out.dim[i] = 1;
    int drop = 0;
    while (drop < out.rank && out.dim[drop] == 1 && ad_rng_below(rng, 2)) drop++;
    for (int i = drop; i < out.rank; i++) out.dim[i - drop] = out.dim[i];
    out.rank -= drop;
    return out;
}

/* Which element of y takes element i of x. */
static int64_t target_of(const ad_shape *x, const ad_shape *y, int64_t i) {
    int64_t target = 0, step = 1;
    for (int a = 1; a <= x->rank; a++) {
        int64_t index = i % x->dim[x->rank - a];
        i /= x->dim[x->rank - a];
        if (a > y->rank) continue;
        if (y->dim[y->rank - a] != 1) target += index * step;
        step *= y->dim[y->rank - a];
    }
    return target;
}

static void check_sum_to(const ad_kernels *k) {
    enum { most = 5000 };
    static long double sum[most], size[most];
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < 4000; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng), to = summed_shape(&rng, &shape);
        int64_t count = ad_shape_count(&shape), results = ad_shape_count(&to);
        bool add = round % 3 == 0;
        double divisor = round % 5 ? 1 : 49;
        cr_assert_leq(results, most);
        ad_view x = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, dtype, to);
        if (add) y = test_random(dtype, to, (test_layout)(round % TEST_LAYOUTS), 2);
        for (int64_t i = 0; i < results; i++) sum[i] = size[i] = 0;
        for (int64_t i = 0; i < count; i++) {
            int64_t target = target_of(&shape, &to, i);
            sum[target] += test_get(&x, i);
            size[target] += fabs(test_get(&x, i));
        }
        ad_view before = test_copy(&y);
        const double terms = results ? (double)(8 + count / results)
                                     : 0; /* long double may be no longer than double */
        k->sum_to(&x, &y, divisor, add);
        for (int64_t i = 0; i < results; i++) {
            long double want = sum[i] / divisor + (add ? test_get(&before, i) : 0);
            double room = epsilon[dtype] * (double)fabsl(want) + terms * 0x1p-53 * (double)(size[i] + fabsl(want));
            cr_assert_leq(fabsl(test_get(&y, i) - want), room, "%s, round %d: %g, not %Lg", k->isa, round,
                          test_get(&y, i), want);
        }
    }
}

Test(sum_to, any_axes_of_any_layout) { test_each_table(check_sum_to); }

static void check_empty(const ad_kernels *k) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_array(dtype, AD_SHAPE(3, 0, 2), TEST_DENSE),
                y = test_random(dtype, AD_SHAPE(3, 1, 2), TEST_GAPS, 3);
        ad_view before = test_copy(&y);
        k->sum_to(&x, &y, 1, true);
        cr_assert(test_same_bits(&y, &before), "nothing is added");
        k->sum_to(&x, &y, 1, false);
        for (int64_t i = 0; i < 6; i++) cr_assert_eq(test_get(&y, i), 0, "a sum of nothing is 0");
    }
}

Test(sum_to, of_nothing_is_0) { test_each_table(check_empty); }

/* f32 has no integers between 2^24 and 2^24 + 2: a sum that accumulates in f32 stops there. */
static void check_many_ones(const ad_kernels *k) {
    const int64_t n = 10000000;
    ad_view x = test_array(AD_F32, AD_SHAPE(n), TEST_DENSE), one = test_array(AD_F32, AD_SCALAR, TEST_DENSE);
    k->fill(&x, 1);
    k->sum_to(&x, &one, 1, false);
    cr_assert_eq(test_get(&one, 0), 1e7, "%s: %.9g", k->isa, test_get(&one, 0));
    ad_view repeated = one, many = {.data = x.data, .dtype = AD_F32, .shape = AD_SHAPE(40000000), .stride = {0}};
    k->sum_to(&many, &repeated, 1, false);
    cr_assert_eq(test_get(&one, 0), 4e7, "%s: %.9g", k->isa, test_get(&one, 0));
    x.shape = AD_SHAPE(5000000, 2);
    x.stride[0] = 2, x.stride[1] = 1;
    ad_view columns = test_array(AD_F32, AD_SHAPE(2), TEST_DENSE);
    k->sum_to(&x, &columns, 1, false);
    cr_assert(test_get(&columns, 0) == 5e6 && test_get(&columns, 1) == 5e6, "%s", k->isa);
    test_arrays_free();
}

Test(sum_to, ten_million_f32_ones_are_ten_million) { test_each_table(check_many_ones); }

/* 0.1 is not representable, and every addition to a growing sum loses a little, always to the same side: in one chain of
 * n additions the error grows with n. In blocks it does not. */
static void check_long_sums(const ad_kernels *k) {
    const int64_t n = 1 << 22;
    ad_view x = test_array(AD_F64, AD_SHAPE(n), TEST_DENSE), y = test_array(AD_F64, AD_SCALAR, TEST_DENSE);
    k->fill(&x, 0.1);
    const long double want = (long double)n * 0.1;
    k->sum_to(&x, &y, 1, false);
    cr_assert_leq(test_ulps(AD_F64, test_get(&y, 0), want), 100, "%s: row off by %g ulp", k->isa,
                  test_ulps(AD_F64, test_get(&y, 0), want));
    ad_view tall = {.data = x.data, .dtype = AD_F64, .shape = AD_SHAPE(n / 4, 4), .stride = {4, 1}};
    ad_view columns = test_array(AD_F64, AD_SHAPE(4), TEST_DENSE);
    k->sum_to(&tall, &columns, 1, false);
    for (int64_t i = 0; i < 4; i++)
        cr_assert_leq(test_ulps(AD_F64, test_get(&columns, i), want / 4), 100, "%s: column off by %g ulp", k->isa,
                      test_ulps(AD_F64, test_get(&columns, i), want / 4));
    ad_view strided = {.data = x.data, .dtype = AD_F64, .shape = AD_SHAPE(n / 2), .stride = {2}};
    k->sum_to(&strided, &y, 1, false);
    cr_assert_leq(test_ulps(AD_F64, test_get(&y, 0), want / 2), 100, "%s: strided row off by %g ulp", k->isa,
                  test_ulps(AD_F64, test_get(&y, 0), want / 2));
    double root = sqrt(k->sum_of_squares(&x)), norm = sqrt((double)((long double)n * 0.1 * 0.1));
    cr_assert_leq(test_ulps(AD_F64, root, norm), 100, "%s: norm off by %g ulp", k->isa,
                  test_ulps(AD_F64, root, norm));
    test_arrays_free();
}

Test(sum_to, errors_do_not_grow_with_the_number_of_terms) { test_each_table(check_long_sums); }

static void check_special(const ad_kernels *k) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_random(dtype, AD_SHAPE(4, 33), TEST_GAPS, 5),
                y = test_array(dtype, AD_SHAPE(4, 1), TEST_DENSE);
        test_set(&x, 7, INFINITY);
        test_set(&x, 33 + 9, NAN);
        test_set(&x, 66 + 1, INFINITY);
        test_set(&x, 66 + 32, -INFINITY);
        k->sum_to(&x, &y, 1, false);
        cr_assert(test_get(&y, 0) == INFINITY && isnan(test_get(&y, 1)) && isnan(test_get(&y, 2)));
        cr_assert(isfinite(test_get(&y, 3)));
    }
}

Test(sum_to, infinities_and_nan_stay_in_their_rows) { test_each_table(check_special); }

/* 49 * (1 / 49.0) is not 1. */
static void check_exact_quotients(const ad_kernels *k) {
    for (int64_t n = 1; n < 300; n++) {
        double ones[300], mean = 0;
        for (int64_t i = 0; i < n; i++) ones[i] = 1;
        ad_view x = ad_view_of(ones, AD_F64, AD_SHAPE(n)), y = ad_view_of(&mean, AD_F64, AD_SCALAR);
        k->sum_to(&x, &y, (double)n, false);
        cr_assert_eq(mean, 1, "%s, %lld ones", k->isa, (long long)n);
    }
}

Test(sum_to, the_mean_of_ones_is_1) { test_each_table(check_exact_quotients); }

/* Every table, and every run, sums in one order. */
Test(sum_to, every_instruction_set_gives_the_same_bits) {
    ad_rng rng = {.seed = 6};
    for (int round = 0; round < 300; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng), to = summed_shape(&rng, &shape);
        ad_view x = test_any_input(&rng, dtype, shape), first = test_array(dtype, to, TEST_DENSE);
        ad_kernels_table(0)->sum_to(&x, &first, 1, false);
        double square = ad_kernels_table(0)->sum_of_squares(&x);
        for (int t = 0; ad_kernels_table(t); t++) {
            ad_view y = test_array(dtype, to, TEST_GAPS);
            ad_kernels_table(t)->sum_to(&x, &y, 1, false);
            cr_assert(test_same_bits(&y, &first), "%s, round %d", ad_kernels_table(t)->isa, round);
            cr_assert_eq(ad_kernels_table(t)->sum_of_squares(&x), square, "%s, round %d", ad_kernels_table(t)->isa,
                         round);
        }
    }
}

/* ---- sum of squares, finiteness ---------------------------------------------------------------------------------- */

static void check_sum_of_squares(const ad_kernels *k) {
    ad_rng rng = {.seed = 7};
    for (int round = 0; round < 1000; round++) {
        ad_shape shape = test_any_shape(&rng);
        ad_view x = test_any_input(&rng, round % 2 ? AD_F32 : AD_F64, shape);
        long double want = 0;
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
            want += (long double)test_get(&x, i) * test_get(&x, i);
        double got = k->sum_of_squares(&x);
        cr_assert_leq(fabsl(got - want), (double)(8 + ad_shape_count(&shape)) * 0x1p-53L * want,
                      "%s, round %d: %g, not %Lg", k->isa, round, got, want);
    }
}

Test(norm, sum_of_squares_of_any_layout) { test_each_table(check_sum_of_squares); }

static void check_all_finite(const ad_kernels *k) {
    const double bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    ad_rng rng = {.seed = 8};
    for (int round = 0; round < 1000; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng);
        int64_t n = ad_shape_count(&shape);
        ad_view x = test_random(dtype, shape, (test_layout)(round % TEST_LAYOUTS), (uint64_t)round);
        if (n > 0) test_set(&x, ad_rng_below(&rng, n), dtype == AD_F32 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023);
        cr_assert(k->all_finite(&x), "%s, round %d", k->isa, round);
        if (n == 0) continue;
        test_set(&x, ad_rng_below(&rng, n), bad[round % 4]);
        cr_assert_not(k->all_finite(&x), "%s, round %d", k->isa, round);
    }
}

Test(norm, one_bad_element_is_found_wherever_it_is) { test_each_table(check_all_finite); }

/* ---- the other rows of the table --------------------------------------------------------------------------------- */

static long double sum(long double a, long double b) { return a + b; }
static long double product(long double a, long double b) { return a * b; }
static long double larger(long double a, long double b) { return a > b ? a : b; }
static long double smaller(long double a, long double b) { return a < b ? a : b; }

static long double itself(long double x, long double c, long double p) { return (void)c, (void)p, x; }
static long double square(long double x, long double c, long double p) { return (void)c, (void)p, x * x; }
static long double deviation(long double x, long double c, long double p) { return (void)p, x - c; }
static long double squared_deviation(long double x, long double c, long double p) {
    return (void)p, (x - c) * (x - c);
}
static long double squared_ratio(long double x, long double c, long double p) { return (void)p, x / c * (x / c); }
static long double power_ratio(long double x, long double c, long double p) { return powl(fabsl(x) / c, p); }
static long double exp_difference(long double x, long double c, long double p) { return (void)p, expl(x - c); }
static long double is_equal(long double x, long double c, long double p) { return (void)p, x == c; }
static long double magnitude(long double x, long double c, long double p) { return (void)c, (void)p, fabsl(x); }

static const struct row {
    long double start, (*join)(long double a, long double b), (*term)(long double x, long double c, long double p);
} rows[] = {
    [AD_REDUCTION_sum] = {0, sum, itself},
    [AD_REDUCTION_sum_of_squares] = {0, sum, square},
    [AD_REDUCTION_sum_of_deviations] = {0, sum, deviation},
    [AD_REDUCTION_sum_of_squared_deviations] = {0, sum, squared_deviation},
    [AD_REDUCTION_sum_of_squared_ratios] = {0, sum, squared_ratio},
    [AD_REDUCTION_sum_of_powers] = {0, sum, power_ratio},
    [AD_REDUCTION_sum_of_exps] = {0, sum, exp_difference},
    [AD_REDUCTION_count_equal] = {0, sum, is_equal},
    [AD_REDUCTION_product] = {1, product, itself},
    [AD_REDUCTION_largest] = {-INFINITY, larger, itself},
    [AD_REDUCTION_smallest] = {INFINITY, smaller, itself},
    [AD_REDUCTION_largest_magnitude] = {0, larger, magnitude},
};

/* Numbers between 0.5 and 2 that belong to the results; some are an element, for those that compare. */
static ad_view random_numbers(ad_rng *rng, ad_shape shape, const ad_view *x) {
    ad_view c = test_random(AD_F64, shape, (test_layout)ad_rng_below(rng, TEST_LAYOUTS), ad_rng_next(rng));
    for (int64_t i = 0, n = ad_shape_count(&shape), count = ad_view_count(x); i < n; i++)
        test_set(&c, i,
                 count && i % 2 ? fabs(test_get(x, ad_rng_below(rng, count))) + 0.0
                                : 0.5 + 1.5 * ad_rng_uniform(rng));
    return c;
}

static void check_rows(const ad_kernels *k) {
    enum { most = 5000 };
    static long double want[most], size[most];
    const double p = 1.5;
    ad_rng rng = {.seed = 9};
    for (int round = 0; round < 6000; round++) {
        ad_reduction op = (ad_reduction)(round % TEST_COUNT(rows));
        const struct row *row = &rows[op];
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64, to_dtype = ad_rng_below(&rng, 2) ? dtype : AD_F64;
        ad_shape shape = test_any_shape(&rng), to = summed_shape(&rng, &shape);
        int64_t count = ad_shape_count(&shape), results = ad_shape_count(&to);
        cr_assert_leq(results, most);
        ad_view x = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, to_dtype, to);
        ad_view c = random_numbers(&rng, to, &x);
        for (int64_t i = 0; i < results; i++) want[i] = row->start, size[i] = 0;
        for (int64_t i = 0; i < count; i++) {
            int64_t target = target_of(&shape, &to, i);
            long double term = row->term(test_get(&x, i), test_get(&c, target), p);
            want[target] = row->join(want[target], term);
            size[target] += fabsl(term);
        }
        const double roundings = results ? (double)(16 + 2 * count / results) : 0;
        k->reduce(op, &x, &c, p, &y);
        for (int64_t i = 0; i < results; i++) {
            if (want[i] == test_get(&y, i)) continue; /* an infinity too */
            long double scale = row->join == sum ? size[i] : fabsl(want[i]);
            double room = epsilon[to_dtype] * (double)fabsl(want[i]) + roundings * 0x1p-53 * (double)scale + 0x1p-149;
            cr_assert_leq(fabsl(test_get(&y, i) - want[i]), room, "%s, round %d, row %d: %g, not %Lg", k->isa, round,
                          op, test_get(&y, i), want[i]);
        }
    }
}

Test(table, every_reduction_over_any_axes_of_any_layout) { test_each_table(check_rows); }

/* Blocks of rows and of columns are joined by another function than their elements. */
static void check_long_rows(const ad_kernels *k) {
    const int64_t n = 5000;
    for (int tall = 0; tall < 2; tall++) {
        ad_view x = test_random(AD_F64, tall ? AD_SHAPE(n, 3) : AD_SHAPE(3, n), TEST_DENSE, 11);
        ad_view y = test_array(AD_F64, tall ? AD_SHAPE(1, 3) : AD_SHAPE(3, 1), TEST_DENSE);
        for (int64_t i = 0; i < 3 * n; i++) test_set(&x, i, 1 + 1e-4 * test_get(&x, i));
        for (int64_t i = 0; i < 3; i++) {
            int64_t at = tall ? 4321 * 3 + i : i * n + 4321;
            test_set(&x, at, 2), test_set(&x, tall ? at + 3 : at + 1, -2);
        }
        k->reduce(AD_REDUCTION_largest, &x, NULL, 0, &y);
        for (int64_t i = 0; i < 3; i++) cr_assert_eq(test_get(&y, i), 2);
        k->reduce(AD_REDUCTION_smallest, &x, NULL, 0, &y);
        for (int64_t i = 0; i < 3; i++) cr_assert_eq(test_get(&y, i), -2);
        k->reduce(AD_REDUCTION_product, &x, NULL, 0, &y);
        for (int64_t i = 0; i < 3; i++) {
            long double want = 1;
            for (int64_t j = 0; j < n; j++) want *= test_get(&x, tall ? j * 3 + i : i * n + j);
            cr_assert_leq(fabsl(test_get(&y, i) / want - 1), 1e-12L);
        }
    }
}

Test(table, long_rows_and_columns_are_joined_as_their_elements_are) { test_each_table(check_long_rows); }

static void check_nan(const ad_kernels *k) {
    const ad_reduction ops[] = {AD_REDUCTION_largest, AD_REDUCTION_smallest, AD_REDUCTION_largest_magnitude,
                                AD_REDUCTION_product, AD_REDUCTION_sum};
    for (int64_t n = 1; n < 3000; n = n * 3 + 1) {
        for (int op = 0; op < TEST_COUNT(ops); op++) {
            for (int64_t at = 0; at < n; at += 1 + n / 5) {
                ad_view x = test_random(AD_F32, AD_SHAPE(n), TEST_DENSE, 12),
                        y = test_array(AD_F32, AD_SCALAR, TEST_DENSE);
                test_set(&x, at, NAN);
                k->reduce(ops[op], &x, NULL, 0, &y);
                cr_assert(isnan(test_get(&y, 0)), "%s: NaN at %lld of %lld is lost", k->isa, (long long)at,
                          (long long)n);
            }
        }
    }
}

Test(table, nan_is_not_lost_wherever_it_is) { test_each_table(check_nan); }

/* But for exponentials, which are rounded differently. */
Test(table, every_instruction_set_gives_the_same_bits) {
    ad_rng rng = {.seed = 13};
    for (int round = 0; round < 1200; round++) {
        ad_reduction op = (ad_reduction)(round % TEST_COUNT(rows));
        if (op == AD_REDUCTION_sum_of_exps) continue;
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng), to = summed_shape(&rng, &shape);
        ad_view x = test_any_input(&rng, dtype, shape), c = random_numbers(&rng, to, &x);
        ad_view first = test_array(dtype, to, TEST_DENSE);
        ad_kernels_table(0)->reduce(op, &x, &c, 3, &first);
        for (int t = 1; ad_kernels_table(t); t++) {
            ad_view y = test_array(dtype, to, TEST_GAPS);
            ad_kernels_table(t)->reduce(op, &x, &c, 3, &y);
            cr_assert(test_same_bits(&y, &first), "%s, row %d", ad_kernels_table(t)->isa, op);
        }
    }
}

/* ---- back -------------------------------------------------------------------------------------------------------- */

static long double contribution(ad_reduction_back row, long double g, long double x, long double c, long double p) {
    switch (row) {
    case AD_REDUCTION_BACK_deviation: return g * (x - c);
    case AD_REDUCTION_BACK_ratio: return g * x / c;
    case AD_REDUCTION_BACK_power: return x == 0 ? 0 : g * copysignl(powl(fabsl(x) / c, p), x);
    case AD_REDUCTION_BACK_exp: return g * expl(x - c);
    default: return x == c ? g : 0;
    }
}

static void check_back(const ad_kernels *k) {
    ad_rng rng = {.seed = 14};
    for (int round = 0; round < 3000; round++) {
        ad_reduction_back row = (ad_reduction_back)(round % (AD_REDUCTION_BACK_equal + 1));
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng);
        bool add = ad_rng_below(&rng, 2);
        ad_view x = test_any_input(&rng, dtype, shape), g = test_any_input(&rng, AD_F64, shape);
        ad_view c = random_numbers(&rng, shape, &x), bar = test_any_result(&rng, dtype, shape);
        if (add) bar = test_random(dtype, shape, TEST_GAPS, 15);
        if (ad_view_count(&g) > 0 && round % 4 == 0) {
            int64_t at = ad_rng_below(&rng, ad_view_count(&g));
            test_set(&g, at, 0), test_set(&c, at, NAN);
        }
        ad_view before = test_copy(&bar);
        k->reduce_back(row, &g, &x, &c, -0.5, &bar, add);
        for (int64_t i = 0, n = ad_view_count(&x); i < n; i++) {
            double got = test_get(&bar, i), seed = test_get(&g, i);
            long double want = seed == 0 ? 0 : contribution(row, seed, test_get(&x, i), test_get(&c, i), -0.5L);
            double size = (double)fabsl(want);
            if (add) want += test_get(&before, i), size += fabs(test_get(&before, i));
            if (row == AD_REDUCTION_BACK_deviation && seed != 0)
                size += fabs(seed) * (fabs(test_get(&x, i)) + fabs(test_get(&c, i)));
            cr_assert_leq(fabsl(got - want), 8 * epsilon[dtype] * size, "%s, round %d, row %d: %g, not %Lg", k->isa,
                          round, row, got, want);
        }
    }
}

Test(table, every_contribution_of_any_layout) { test_each_table(check_back); }
