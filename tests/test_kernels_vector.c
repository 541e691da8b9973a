/* The loops over contiguous doubles of every instruction set. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { MOST = 70 };

static void fill(double *x, uint64_t seed) {
    ad_rng rng = {.seed = seed};
    for (int i = 0; i < MOST; i++) x[i] = ad_rng_normal(&rng);
}

static void check_dot(const ad_kernels *k) {
    double x[MOST], y[MOST];
    fill(x, 1);
    fill(y, 2);
    for (int n = 0; n <= MOST; n++) {
        long double sum = 0, size = 0;
        for (int i = 0; i < n; i++) sum += (long double)x[i] * y[i], size += fabsl((long double)x[i] * y[i]);
        double got = k->dot(x, y, n);
        cr_assert_leq(fabsl(got - sum), 20 * 0x1p-53 * size, "%s: %d", k->isa, n);
        cr_assert_eq(got, ad_kernels_table(0)->dot(x, y, n), "%s: %d: other bits", k->isa, n);
    }
}
Test(vector, dot_sums_products_and_gives_the_same_bits_everywhere) { test_each_table(check_dot); }

static void check_rotate(const ad_kernels *k) {
    const double c = 0.8, s = -0.6;
    double x[MOST], y[MOST], x_new[MOST], y_new[MOST];
    fill(x, 1);
    fill(y, 2);
    for (int n = 0; n <= MOST; n++) {
        memcpy(x_new, x, sizeof x);
        memcpy(y_new, y, sizeof y);
        k->rotate(x_new, y_new, c, s, n);
        for (int i = 0; i < MOST; i++) {
            cr_assert_eq(x_new[i], i < n ? c * x[i] - s * y[i] : x[i], "%s: x[%d] of %d", k->isa, i, n);
            cr_assert_eq(y_new[i], i < n ? s * x[i] + c * y[i] : y[i], "%s: y[%d] of %d", k->isa, i, n);
        }
    }
}
Test(vector, rotate_turns_pairs_and_nothing_past_the_end) { test_each_table(check_rotate); }
