/* softmax, log_softmax and the cross-entropy of every instruction set against their definitions in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

TestSuite(softmax, .fini = test_arrays_free);
TestSuite(softmax_xent, .fini = test_arrays_free);

static const double epsilon[] = {[AD_F32] = 0x1p-23, [AD_F64] = 0x1p-52};

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* Row number r of the rows along an axis: which elements, in row-major numbering, belong to it. */
typedef struct row {
    int64_t first, step, n;
} row;

static row row_along(const ad_shape *shape, int axis, int64_t r) {
    if (shape->rank == 0) return (row){0, 1, 1};
    int64_t step = 1;
    for (int i = axis + 1; i < shape->rank; i++) step *= shape->dim[i];
    return (row){r / step * step * shape->dim[axis] + r % step, step, shape->dim[axis]};
}

static int64_t row_count(const ad_shape *shape, int axis) {
    if (shape->rank == 0) return 1;
    return shape->dim[axis] ? ad_shape_count(shape) / shape->dim[axis] : 0;
}

/* The largest element of a row and the sum of exp(x - m). */
static void reference_row(const ad_view *x, row at, long double *m, long double *sum) {
    *m = -INFINITY;
    *sum = 0;
    for (int64_t j = 0; j < at.n; j++) *m = fmaxl(*m, test_get(x, at.first + j * at.step));
    for (int64_t j = 0; j<at.n && * m> - INFINITY; j++) *sum += expl(test_get(x, at.first + j * at.step) - *m);
}

/* Spread out enough that some probabilities vanish. */
static ad_view logits(ad_rng *rng, ad_dtype dtype, ad_shape shape) {
    ad_view x = test_any_input(rng, dtype, shape);
    const double factor[] = {1, 5, 50, 1e4};
    double f = factor[ad_rng_below(rng, 4)];
    ad_view copy = test_copy(&x); /* repeated elements are scaled once */
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) test_set(&x, i, f * test_get(&copy, i));
    return x;
}

/* ---- softmax and log_softmax ------------------------------------------------------------------------------------- */

static void check_values(const ad_kernels *k) {
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < 1500; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = test_any_shape(&rng);
        int axis = shape.rank ? (int)ad_rng_below(&rng, shape.rank) : 0;
        ad_view x = logits(&rng, dtype, shape), y = test_any_result(&rng, dtype, shape);
        ad_view log_y = test_any_result(&rng, dtype, shape);
        k->softmax(&x, axis, &y);
        k->log_softmax(&x, axis, &log_y);
        for (int64_t r = 0; r < row_count(&shape, axis); r++) {
            row at = row_along(&shape, axis, r);
            long double m, sum;
            reference_row(&x, at, &m, &sum);
            for (int64_t j = 0; j < at.n; j++) {
                int64_t i = at.first + j * at.step;
                long double log_want = test_get(&x, i) - m - logl(sum), want = expl(log_want);
                /* x - m is rounded: its relative error is that of exp times |x - m| */
                double room = epsilon[dtype] * (4 + (double)fabsl(log_want)) * (double)want + test_get(&x, i) * 0;
                room += dtype == AD_F32 ? 0x1p-148 : 0x1p-1073;
                cr_assert_leq(fabsl(test_get(&y, i) - want), room, "%s, round %d: %g, not %Lg", k->isa, round,
                              test_get(&y, i), want);
                room = 4 * epsilon[dtype] * (double)fmaxl(1, fabsl(log_want));
                cr_assert_leq(fabsl(test_get(&log_y, i) - log_want), room, "%s, round %d: %g, not %Lg", k->isa, round,
                              test_get(&log_y, i), log_want);
            }
        }
    }
}

Test(softmax, values_along_any_axis_of_any_layout) { test_each_table(check_values); }

static void check_contributions(const ad_kernels *k) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 1500; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        bool add = round % 3 == 0, is_log = round % 5 < 2;
        ad_shape shape = test_any_shape(&rng);
        int axis = shape.rank ? (int)ad_rng_below(&rng, shape.rank) : 0;
        ad_view x = logits(&rng, dtype, shape), y = test_any_result(&rng, dtype, shape),
                g = test_any_input(&rng, dtype, shape);
        ad_view bar = add ? test_random(dtype, shape, TEST_COLUMNS, 3) : test_any_result(&rng, dtype, shape);
        ad_view before = test_copy(&bar);
        (is_log ? k->log_softmax : k->softmax)(&x, axis, &y);
        (is_log ? k->log_softmax_back : k->softmax_back)(&g, &y, axis, &bar, add);
        for (int64_t r = 0; r < row_count(&shape, axis); r++) {
            row at = row_along(&shape, axis, r);
            long double dot = 0, sum = 0, size = 0;
            for (int64_t j = 0; j < at.n; j++) {
                int64_t i = at.first + j * at.step;
                dot += (long double)test_get(&g, i) * test_get(&y, i);
                sum += test_get(&g, i);
                size += fabs(test_get(&g, i));
            }
            for (int64_t j = 0; j < at.n; j++) {
                int64_t i = at.first + j * at.step;
                long double p = is_log ? expl(test_get(&y, i)) : test_get(&y, i);
                long double want = is_log ? test_get(&g, i) - p * sum : p * (test_get(&g, i) - dot);
                if (add) want += test_get(&before, i);
                double room = epsilon[dtype] *
                              (double)(4 * p * size * (1 + fabs(test_get(&y, i))) + 4 * fabsl(want) + 4 * size);
                cr_assert_leq(fabsl(test_get(&bar, i) - want), room, "%s, round %d: %g, not %Lg", k->isa, round,
                              test_get(&bar, i), want);
            }
        }
    }
}

Test(softmax, contributions_along_any_axis_of_any_layout) { test_each_table(check_contributions); }

/* Many classes: the sum must not lose small terms. */
static void check_long_rows(const ad_kernels *k) {
    const int64_t n = 100000;
    ad_view x = test_random(AD_F32, AD_SHAPE(n), TEST_DENSE, 4), y = test_array(AD_F32, AD_SHAPE(n), TEST_DENSE);
    long double m, sum, total = 0;
    k->softmax(&x, 0, &y);
    reference_row(&x, (row){0, 1, n}, &m, &sum);
    for (int64_t i = 0; i < n; i++) {
        long double want = expl(test_get(&x, i) - m) / sum;
        total += test_get(&y, i);
        cr_assert_leq(fabsl(test_get(&y, i) - want), 1e-6L * want, "%s: %g, not %Lg", k->isa, test_get(&y, i), want);
    }
    cr_assert_leq(fabsl(total - 1), 1e-6, "%s: they sum to %Lg", k->isa, total);
}

Test(softmax, a_row_of_many_classes_sums_to_1) { test_each_table(check_long_rows); }

/* Rows of 40: more than one vector, so that lanes and tail both meet what is special. */
enum { wide = 40 };

static ad_view special_rows(ad_dtype dtype, const double (*rows)[2], int count) {
    ad_view x = test_array(dtype, AD_SHAPE(count, wide), TEST_DENSE);
    for (int64_t i = 0; i < count * wide; i++) test_set(&x, i, rows[i / wide][i % wide == i / wide * 7]);
    return x;
}

static void check_special(const ad_kernels *k) {
    /* everywhere, and in one place */
    const double rows[][2] = {{-INFINITY, -INFINITY}, {-INFINITY, 3}, {0, NAN},
                              {-INFINITY, NAN},       {1, INFINITY},  {NAN, NAN}};
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = special_rows(dtype, rows, 6), y = test_copy(&x), log_y = test_copy(&x), bar = test_copy(&x);
        ad_view g = test_random(dtype, x.shape, TEST_DENSE, 5);
        k->softmax(&x, 1, &y);
        k->log_softmax(&x, 1, &log_y);
        for (int64_t i = 0; i < 6 * wide; i++) {
            double p = test_get(&y, i), log_p = test_get(&log_y, i);
            bool chosen = i % wide == i / wide * 7;
            switch (i / wide) {
            case 0: cr_assert(p == 0 && log_p == -INFINITY, "no mass: zeros"); break;
            case 1: cr_assert(p == chosen && log_p == (chosen ? 0 : -INFINITY), "all mass in one place"); break;
            default: cr_assert(isnan(p) && isnan(log_p), "%s: NaN is not hidden, in row %d", k->isa, (int)(i / wide));
            }
        }
        k->softmax_back(&g, &y, 1, &bar, false);
        for (int64_t i = 0; i < 2 * wide; i++) cr_assert_eq(test_get(&bar, i), 0, "nothing passes where y is 0 or 1");
        k->log_softmax_back(&g, &log_y, 1, &bar, false);
        for (int64_t i = 0; i < wide; i++) cr_assert_eq(test_get(&bar, i), 0, "nothing passes without mass");
        for (int64_t i = wide; i < 2 * wide; i++) cr_assert(isfinite(test_get(&bar, i)));
    }
}

Test(softmax, rows_without_mass_and_with_nan) { test_each_table(check_special); }

/* ... and a row whose cotangent is 0 passes exactly 0, though its values are NaN. */
static void check_masked_rows(const ad_kernels *k) {
    const double rows[][2] = {{NAN, NAN}, {0, INFINITY}, {-INFINITY, NAN}, {-INFINITY, -INFINITY}, {2, 1}};
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = special_rows(dtype, rows, 5), y = test_copy(&x), g = test_array(dtype, x.shape, TEST_DENSE);
        for (int64_t i = 0; i < 5 * wide; i++) test_set(&g, i, i % 2 ? 0.0 : -0.0);
        for (int add = 0; add < 2; add++) {
            for (int is_log = 0; is_log < 2; is_log++) {
                ad_view bar = test_random(dtype, x.shape, TEST_GAPS, 6), before = test_copy(&bar);
                (is_log ? k->log_softmax : k->softmax)(&x, 1, &y);
                (is_log ? k->log_softmax_back : k->softmax_back)(&g, &y, 1, &bar, add);
                for (int64_t i = 0; i < 5 * wide; i++)
                    cr_assert_eq(test_get(&bar, i), add ? test_get(&before, i) : 0, "%s: row %d gives %g", k->isa,
                                 (int)(i / wide), test_get(&bar, i));
            }
        }
    }
}

Test(softmax, a_cotangent_of_0_stays_0) { test_each_table(check_masked_rows); }

/* ---- cross-entropy ----------------------------------------------------------------------------------------------- */

/* A target of each kind for logits of `shape`: class indices in [0, classes), or non-negative weights, some of them 0. */
static ad_view any_target(ad_rng *rng, ad_dtype dtype, ad_shape shape) {
    int64_t classes = shape.dim[shape.rank - 1];
    if (!ad_dtype_is_float(dtype)) shape.rank--;
    ad_view t = test_array(dtype, shape, (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        test_set(&t, i, ad_dtype_is_float(dtype) ? fmax(0, ad_rng_normal(rng)) : (double)ad_rng_below(rng, classes));
    return t;
}

/* Weight of class j in row r. */
static double weight(const ad_view *target, int64_t r, int64_t j, int64_t classes) {
    return ad_dtype_is_float(target->dtype) ? test_get(target, r * classes + j) : test_get(target, r) == (double)j;
}

static void check_xent(const ad_kernels *k) {
    ad_rng rng = {.seed = 7};
    for (int round = 0; round < 1500; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64, target_dtype = round % 3 == 0   ? AD_I32
                                                                     : round % 3 == 1 ? AD_I64
                                                                                      : dtype;
        ad_shape shape = test_any_shape(&rng);
        if (shape.rank == 0 || shape.dim[shape.rank - 1] == 0) continue;
        int64_t classes = shape.dim[shape.rank - 1];
        ad_shape losses = shape;
        losses.rank--;
        ad_view x = logits(&rng, dtype, shape), target = any_target(&rng, target_dtype, shape);
        ad_view loss = test_any_result(&rng, dtype, losses), p = test_array(dtype, shape, TEST_DENSE);
        k->softmax_xent(&x, &target, &loss, &p);

        bool add = round % 7 < 3;
        ad_view g = test_any_input(&rng, dtype, losses), bar = test_array(dtype, shape, TEST_DENSE);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++) test_set(&bar, i, add ? 0.5 : (double)NAN);
        k->softmax_xent_back(&g, &p, &target, &bar, add);

        for (int64_t r = 0, rows = ad_shape_count(&losses); r < rows; r++) {
            long double m, sum, want = 0, mass = 0, size = 0;
            reference_row(&x, (row){r * classes, 1, classes}, &m, &sum);
            for (int64_t j = 0; j < classes; j++) {
                double w = weight(&target, r, j, classes);
                mass += w;
                want += w * (logl(sum) - (test_get(&x, r * classes + j) - m));
                size += w * (1 + logl(sum) + fabsl(test_get(&x, r * classes + j) - m));
            }
            cr_assert_leq(fabsl(test_get(&loss, r) - want), 2 * epsilon[dtype] * (double)size,
                          "%s, round %d: %g, not %Lg", k->isa, round, test_get(&loss, r), want);
            for (int64_t j = 0; j < classes; j++) {
                int64_t i = r * classes + j;
                long double probability = expl(test_get(&x, i) - m) / sum, seed = test_get(&g, r);
                double room = epsilon[dtype] * (double)((4 + fabsl(test_get(&x, i) - m)) * probability) + 0x1p-148;
                cr_assert_leq(fabsl(test_get(&p, i) - probability), room, "%s, round %d", k->isa, round);
                long double contribution = seed * (test_get(&p, i) * mass - weight(&target, r, j, classes));
                room = 4 * epsilon[dtype] * (double)(fabsl(seed) * (mass + 1) + 1);
                cr_assert_leq(fabsl(test_get(&bar, i) - (add ? 0.5L : 0) - contribution), room, "%s, round %d",
                              k->isa, round);
            }
        }
    }
}

Test(softmax_xent, losses_and_contributions_of_any_target_and_layout) { test_each_table(check_xent); }

/* A loss of 2e4 and one of 0, where exp(x) itself would overflow or vanish. */
static void check_stability(const ad_kernels *k) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_array(dtype, AD_SHAPE(4, 2), TEST_DENSE), loss = test_array(dtype, AD_SHAPE(4), TEST_DENSE);
        ad_view p = test_array(dtype, AD_SHAPE(4, 2), TEST_DENSE),
                bar = test_array(dtype, AD_SHAPE(4, 2), TEST_DENSE);
        ad_view g = test_array(dtype, AD_SHAPE(4), TEST_DENSE);
        const double logit[] = {1e4, -1e4, 1e4, -1e4, 1e4, 1e4, -1e4, -1e4}, want[] = {2e4, 0, log(2), log(2)};
        const double want_bar[] = {1, -1, 0, 0, 0.5, -0.5, -0.5, 0.5};
        int32_t class[] = {1, 0, 1, 0};
        ad_view target = ad_view_of(class, AD_I32, AD_SHAPE(4));
        for (int64_t i = 0; i < 8; i++) test_set(&x, i, logit[i]);
        k->fill(&g, 1);
        k->softmax_xent(&x, &target, &loss, &p);
        k->softmax_xent_back(&g, &p, &target, &bar, false);
        for (int64_t r = 0; r < 4; r++) cr_assert_leq(test_ulps(dtype, test_get(&loss, r), want[r]), 1, "%s", k->isa);
        for (int64_t i = 0; i < 8; i++) cr_assert_eq(test_get(&bar, i), want_bar[i], "%s", k->isa);
    }
}

Test(softmax_xent, is_stable_for_large_logits) { test_each_table(check_stability); }

/* Masked classes (logit -inf) cost nothing when they have no weight, and an example with cotangent 0 passes zeros. */
static void check_masks(const ad_kernels *k) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_array(dtype, AD_SHAPE(3, wide), TEST_DENSE), t = test_array(dtype, x.shape, TEST_DENSE);
        ad_view p = test_array(dtype, x.shape, TEST_DENSE), bar = test_array(dtype, x.shape, TEST_DENSE);
        ad_view loss = test_array(dtype, AD_SHAPE(3), TEST_DENSE), g = test_array(dtype, AD_SHAPE(3), TEST_DENSE);
        int64_t class[] = {2, 0, 1};
        for (int64_t i = 0; i < 3 * wide; i++) {
            test_set(&x, i, i % wide == 2 ? 1 : i / wide == 2 ? (double)NAN : -INFINITY);
            test_set(&t, i, i % wide == 2 ? 1 : 0);
            test_set(&bar, i, 7);
        }
        test_set(&g, 0, 1), test_set(&g, 1, 1), test_set(&g, 2, 0);
        ad_view target = ad_view_of(class, AD_I64, AD_SHAPE(3));
        k->softmax_xent(&x, &target, &loss, &p);
        cr_assert(test_get(&loss, 0) == 0 && test_get(&loss, 1) == INFINITY && isnan(test_get(&loss, 2)), "%s",
                  k->isa);
        k->softmax_xent_back(&g, &p, &target, &bar, false);
        for (int64_t i = 0; i < wide; i++) cr_assert_eq(test_get(&bar, i), 0);
        for (int64_t i = wide; i < 2 * wide; i++)
            cr_assert_eq(test_get(&bar, i), i == wide ? -1 : i == wide + 2,
                         "an impossible class: p - t all the same");
        for (int64_t i = 2 * wide; i < 3 * wide; i++) cr_assert_eq(test_get(&bar, i), 0);
        k->softmax_xent(&x, &t, &loss, &p);
        cr_assert(test_get(&loss, 0) == 0 && test_get(&loss, 1) == 0 && isnan(test_get(&loss, 2)), "%s", k->isa);
        k->softmax_xent_back(&g, &p, &t, &bar, false);
        for (int64_t i = 0; i < 3 * wide; i++) cr_assert_eq(test_get(&bar, i), 0);
        k->fill(&bar, 7);
        k->softmax_xent_back(&g, &p, &t, &bar, true);
        for (int64_t i = 0; i < 3 * wide; i++) cr_assert_eq(test_get(&bar, i), 7);
    }
}

Test(softmax_xent, masked_classes_and_examples) { test_each_table(check_masks); }

/* ---- one result, whatever the instruction set -------------------------------------------------------------------- */

Test(softmax, every_instruction_set_gives_the_same_but_for_roundings) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view x = test_random(dtype, AD_SHAPE(17, 203), TEST_DENSE, 8),
                g = test_random(dtype, x.shape, TEST_DENSE, 9);
        ad_rng rng = {.seed = 10};
        ad_view target = any_target(&rng, AD_I32, x.shape), first[4];
        for (int t = 0; ad_kernels_table(t); t++) {
            const ad_kernels *k = ad_kernels_table(t);
            ad_view got[4], loss = test_array(dtype, AD_SHAPE(17), TEST_DENSE),
                            p = test_array(dtype, x.shape, TEST_DENSE);
            for (int i = 0; i < 4; i++) got[i] = test_array(dtype, x.shape, TEST_DENSE);
            k->softmax(&x, 1, &got[0]);
            k->softmax_back(&g, &got[0], 1, &got[1], false);
            k->log_softmax(&x, 1, &got[2]);
            k->log_softmax_back(&g, &got[2], 1, &got[3], false);
            for (int i = 0; i < 4 && t == 0; i++) first[i] = got[i];
            for (int i = 0; i < 4; i++)
                for (int64_t j = 0; j < 17 * 203; j++)
                    cr_assert(test_near(test_get(&got[i], j), test_get(&first[i], j), dtype == AD_F32 ? 1e-6 : 1e-15),
                              "%s, number %d", k->isa, i);
            k->softmax_xent(&x, &target, &loss, &p);
            cr_assert(test_same_bits(&p, &got[0]), "%s: p is softmax(x)", k->isa);
        }
    }
}
