/* Scans, extrema, order statistics and counts along an axis against plain loops, in any layout. */
#include "helpers.h"
#include "ops/kernels/along.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

TestSuite(along, .fini = test_arrays_free);

/* A shape with an axis that has elements, unless `may_be_empty`. */
static ad_shape any_shape_with_axis(ad_rng *rng, int *axis, bool may_be_empty) {
    for (;;) {
        ad_shape shape = test_any_shape(rng);
        if (shape.rank == 0) continue;
        *axis = (int)ad_rng_below(rng, shape.rank);
        if (may_be_empty || shape.dim[*axis] > 0) return shape;
    }
}

/* The lines of an array along an axis: line k begins at element start(k), and its elements lie `step` apart. */
typedef struct line_set {
    int64_t lines, n, step;
} line_set;

static line_set lines_of(const ad_shape *shape, int axis) {
    line_set set = {.lines = 1, .n = shape->dim[axis], .step = 1};
    for (int i = 0; i < shape->rank; i++) {
        if (i != axis) set.lines *= shape->dim[i];
        if (i > axis) set.step *= shape->dim[i];
    }
    return set;
}

static int64_t element(const line_set *set, int64_t line, int64_t i) {
    return line / set->step * set->step * set->n + line % set->step + i * set->step;
}

static ad_view rounded(ad_rng *rng, ad_view x) {
    /* ties, and both zeros */
    for (int64_t i = 0, n = ad_view_count(&x); i < n; i++)
        test_set(&x, i, ad_rng_below(rng, 20) ? round(2 * test_get(&x, i)) / 2 : -0.0);
    return x;
}

/* Steps of scans, in long double. */
static long double add(long double so_far, long double x) { return so_far + x; }
static long double multiply(long double so_far, long double x) { return so_far * x; }
static long double add_logs(long double so_far, long double x) {
    long double most = so_far > x ? so_far : x;
    return most == -INFINITY ? most : most + logl(expl(so_far - most) + expl(x - most));
}

static void check_scan(void (*kernel)(const ad_view *x, int axis, bool reverse, const ad_view *y), long double start,
                       long double (*step)(long double so_far, long double x)) {
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < 1500; round++) {
        int axis;
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = any_shape_with_axis(&rng, &axis, true);
        ad_view x = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, dtype, shape);
        bool reverse = ad_rng_below(&rng, 2);
        line_set set = lines_of(&shape, axis);
        kernel(&x, axis, reverse, &y);
        for (int64_t line = 0; line < set.lines; line++) {
            long double so_far = start, size = 1;
            for (int64_t i = 0; i < set.n; i++) {
                int64_t at = element(&set, line, reverse ? set.n - 1 - i : i);
                so_far = step(so_far, test_get(&x, at));
                size = fmaxl(size, fabsl(so_far));
                double room = (double)size * (dtype == AD_F32 ? 0x1p-23 : (double)(i + 4) * 0x1p-52);
                cr_assert_leq(fabsl(test_get(&y, at) - so_far), room, "round %d: %g, not %Lg", round,
                              test_get(&y, at), so_far);
            }
        }
    }
}

Test(along, cumsum_of_any_layout) { check_scan(ad_kernel_cumsum, 0, add); }
Test(along, cumprod_of_any_layout) { check_scan(ad_kernel_cumprod, 1, multiply); }
Test(along, logcumsumexp_of_any_layout) { check_scan(ad_kernel_logcumsumexp, -INFINITY, add_logs); }

Test(along, recurrence_of_any_layout) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 1500; round++) {
        int axis;
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = any_shape_with_axis(&rng, &axis, true);
        ad_view a = test_any_input(&rng, dtype, shape), b = test_any_input(&rng, dtype, shape),
                y = test_any_result(&rng, dtype, shape);
        bool reverse = ad_rng_below(&rng, 2);
        line_set set = lines_of(&shape, axis);
        ad_kernel_recurrence(&a, &b, axis, reverse, 0.75, &y);
        for (int64_t line = 0; line < set.lines; line++) {
            long double state = 0.75, size = 1;
            for (int64_t i = 0; i < set.n; i++) {
                int64_t at = element(&set, line, reverse ? set.n - 1 - i : i);
                double room = (double)size * (dtype == AD_F32 ? 0x1p-23 : (double)(i + 4) * 0x1p-52);
                cr_assert_leq(fabsl(test_get(&y, at) - state), room, "round %d", round);
                state = test_get(&b, at) + state * test_get(&a, at);
                size = fabsl(size * test_get(&a, at)) + fabs(test_get(&b, at));
                size = fmaxl(size, fabsl(state));
            }
        }
    }
}

/* ---- extrema -------------------------------------------------------------------------------------------------------- */

Test(along, extrema_of_any_layout_are_the_first_of_equal_ones) {
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < 3000; round++) {
        int axis, sign = round % 2 ? 1 : -1;
        ad_dtype dtype = ad_rng_below(&rng, 2) ? AD_F32 : AD_F64;
        ad_shape shape = any_shape_with_axis(&rng, &axis, false), to = shape;
        to.dim[axis] = 1;
        ad_view x = rounded(&rng, test_any_input(&rng, dtype, shape));
        ad_view index = test_any_result(&rng, AD_I64, to), value = test_any_result(&rng, dtype, to);
        bool reverse = ad_rng_below(&rng, 2), alone = ad_rng_below(&rng, 2);
        ad_view best = test_any_result(&rng, dtype, shape), best_at = test_any_result(&rng, AD_I64, shape);
        ad_kernel_extremum(&x, axis, sign, &index, alone ? NULL : &value);
        ad_kernel_cumulative_extremum(&x, axis, reverse, sign, &best, &best_at);
        line_set set = lines_of(&shape, axis);
        for (int64_t line = 0; line < set.lines; line++) {
            int64_t first = 0, so_far = reverse ? set.n - 1 : 0;
            for (int64_t i = 0; i < set.n; i++) {
                int64_t now = reverse ? set.n - 1 - i : i, at = element(&set, line, now);
                if (sign * test_get(&x, element(&set, line, i)) > sign * test_get(&x, element(&set, line, first)))
                    first = i;
                if (sign * test_get(&x, at) > sign * test_get(&x, element(&set, line, so_far))) so_far = now;
                cr_assert_eq((int64_t)test_get(&best_at, at), so_far);
                cr_assert_eq(test_get(&best, at), test_get(&x, element(&set, line, so_far)));
            }
            int64_t result = line; /* of an array with one element per line, in the same order */
            cr_assert_eq((int64_t)test_get(&index, result), first);
            if (!alone) cr_assert_eq(test_get(&value, result), test_get(&x, element(&set, line, first)));
        }
    }
}

/* ---- order ------------------------------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int64_t first_equal(const ad_view *x, const line_set *set, int64_t line, double value) {
    int64_t i = 0;
    while (test_get(x, element(set, line, i)) != value) i++;
    return i;
}

Test(along, quantiles_of_any_layout_are_those_of_the_sorted_line) {
    ad_rng rng = {.seed = 4};
    for (int round = 0; round < 2000; round++) {
        int axis;
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_shape shape = any_shape_with_axis(&rng, &axis, false), to = shape;
        to.dim[axis] = 1;
        ad_view x = test_any_input(&rng, dtype, shape);
        if (round % 3) x = rounded(&rng, x);
        ad_view y = test_any_result(&rng, dtype, to), below = test_any_result(&rng, AD_I64, to),
                above = test_any_result(&rng, AD_I64, to);
        line_set set = lines_of(&shape, axis);
        double position = (double)ad_rng_below(&rng, 2 * set.n - 1) / 2;
        ad_kernel_quantile(&x, axis, position, &y, &below, &above);
        double *sorted = malloc((size_t)set.n * sizeof *sorted);
        for (int64_t line = 0; line < set.lines; line++) {
            for (int64_t i = 0; i < set.n; i++) sorted[i] = test_get(&x, element(&set, line, i));
            qsort(sorted, (size_t)set.n, sizeof *sorted, ascending);
            double low = sorted[(int64_t)floor(position)], high = sorted[(int64_t)ceil(position)];
            cr_assert_eq(test_get(&y, line), dtype == AD_F32 ? (float)((low + high) / 2) : (low + high) / 2);
            cr_assert_eq((int64_t)test_get(&below, line), first_equal(&x, &set, line, low));
            cr_assert_eq((int64_t)test_get(&above, line), first_equal(&x, &set, line, high));
        }
        free(sorted);
    }
}

/* ---- counting ------------------------------------------------------------------------------------------------------------ */

Test(along, counts_of_any_layout_and_dtype) {
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < 1000; round++) {
        int axis;
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT);
        ad_shape shape = any_shape_with_axis(&rng, &axis, true), to = shape;
        to.dim[axis] = 1;
        ad_view x = rounded(&rng, test_any_input(&rng, dtype, shape)), y = test_array(AD_I64, to, TEST_DENSE);
        line_set set = lines_of(&shape, axis);
        ad_kernel_count_nonzero(&x, &y);
        for (int64_t line = 0; line < set.lines; line++) {
            int64_t count = 0;
            for (int64_t i = 0; i < set.n; i++) count += test_get(&x, element(&set, line, i)) != 0;
            cr_assert_eq((int64_t)test_get(&y, line), count);
        }
    }
}
