/* The kernels that slide windows over images, of every instruction set, against plain loops over all elements. */
#include "helpers.h"
#include "ops/kernels/window.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(window, .fini = test_arrays_free);

/* Windows that fit, however they may be asked for. */
static ad_windows any_windows(ad_rng *rng, int64_t most_size, int64_t most_kernel) {
    ad_windows v;
    for (int i = 0; i < 2; i++) {
        v.size[i] = 1 + ad_rng_below(rng, most_size);
        v.stride[i] = 1 + ad_rng_below(rng, 3);
        v.dilation[i] = 1 + ad_rng_below(rng, 2);
        v.kernel[i] = 1 + ad_rng_below(rng, most_kernel);
        v.padding[i] = ad_rng_below(rng, v.kernel[i] / 2 + 1);
        const int64_t steps = v.size[i] + 2 * v.padding[i] - (v.kernel[i] - 1) * v.dilation[i] - 1;
        if (steps < 0) return any_windows(rng, most_size, most_kernel);
        v.count[i] = steps / v.stride[i] + 1;
        /* One more, which does not see all that it might. */
        if (ad_rng_below(rng, 2) && v.count[i] * v.stride[i] < v.size[i] + v.padding[i]) v.count[i]++;
    }
    return v;
}

/* ---- the largest element ------------------------------------------------------------------------------------------- */

static bool is_blind(const ad_windows *v) {
    for (int axis = 0; axis < 2; axis++)
        for (int64_t i = 0; i < v->count[axis]; i++)
            if (ad_window_is_blind(v, axis, i)) return true;
    return false;
}

/* Where in its plane the first of the largest elements is that the window sees, or the first NaN. */
static int64_t largest(const ad_windows *v, const ad_view *x, int64_t plane, int64_t i, int64_t j) {
    int64_t best = -1;
    double most = 0;
    for (int64_t a = 0; a < v->kernel[0]; a++)
        for (int64_t b = 0; b < v->kernel[1]; b++) {
            const int64_t row = i * v->stride[0] - v->padding[0] + a * v->dilation[0];
            const int64_t column = j * v->stride[1] - v->padding[1] + b * v->dilation[1];
            if (row < 0 || row >= v->size[0] || column < 0 || column >= v->size[1]) continue;
            const int64_t at = row * v->size[1] + column;
            const double seen = test_get(x, plane * v->size[0] * v->size[1] + at);
            if (best >= 0 && (isnan(most) || !(seen > most || isnan(seen)))) continue;
            best = at, most = seen;
        }
    return best;
}

static void check_max_pool(const ad_kernels *kernels, const ad_windows *v, ad_rng *rng, int round) {
    enum { PLANES = 3 };
    const ad_dtype dtype = round % 2 ? AD_F64 : AD_F32;
    const int64_t of_x = v->size[0] * v->size[1], of_y = v->count[0] * v->count[1];
    ad_view x = test_array(dtype, AD_SHAPE(PLANES, of_x), TEST_DENSE), x_bar = test_copy(&x), added = test_copy(&x);
    ad_view y = test_array(dtype, AD_SHAPE(PLANES, of_y), TEST_DENSE), g = test_copy(&y);
    ad_view index = test_array(AD_I64, AD_SHAPE(PLANES, of_y), TEST_DENSE);
    for (int64_t i = 0; i < PLANES * of_x; i++) { /* many are equal, some NaN */
        test_set(&x, i, ad_rng_below(rng, 50) ? (double)ad_rng_below(rng, 9) : NAN);
        test_set(&added, i, 1);
    }
    for (int64_t i = 0; i < PLANES * of_y; i++) test_set(&g, i, (double)(1 + i % 5));
    kernels->max_pool(v, dtype, PLANES, x.data, y.data, index.data);
    kernels->max_pool_back(v, dtype, PLANES, g.data, index.data, x_bar.data, false);
    kernels->max_pool_back(v, dtype, PLANES, g.data, index.data, added.data, true);
    for (int64_t i = 0; i < PLANES * of_y; i++) {
        const int64_t plane = i / of_y, window = i % of_y;
        const int64_t at = largest(v, &x, plane, window / v->count[1], window % v->count[1]);
        const int64_t element = plane * of_x + at;
        cr_assert_eq(at, (int64_t)test_get(&index, i), "%s, round %d, window %lld", kernels->isa, round,
                     (long long)i);
        const double expected = test_get(&x, element), actual = test_get(&y, i);
        cr_assert(expected == actual || (isnan(expected) && isnan(actual)));
        test_set(&x_bar, element, test_get(&x_bar, element) - test_get(&g, i));
        test_set(&added, element, test_get(&added, element) - test_get(&g, i));
    }
    for (int64_t i = 0; i < PLANES * of_x; i++) /* whole numbers: nothing is left of sums that were right */
        cr_assert(test_get(&x_bar, i) == 0 && test_get(&added, i) == 1, "%s, round %d", kernels->isa, round);
    test_arrays_free();
}

Test(window, max_pool_finds_the_first_of_the_largest) {
    enum { ROUNDS = 1000 };
    for (int k = 0; ad_kernels_table(k); k++) {
        ad_rng rng = {.seed = 1};
        for (int round = 0; round < ROUNDS; round++) {
            const ad_windows v = any_windows(&rng, round % 4 ? 12 : 80, 4);
            if (!is_blind(&v)) check_max_pool(ad_kernels_table(k), &v, &rng, round);
        }
    }
}
