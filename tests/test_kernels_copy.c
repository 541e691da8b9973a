/* Copies between arrays whose neighbours lie along different axes, which go by tiles. The others: test_kernels_elementwise.c. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <stdlib.h>

TestSuite(copy, .fini = test_arrays_free);

static ad_view with_axes_swapped(const ad_view *view, int i, int j) {
    ad_view y = *view;
    y.shape.dim[i] = view->shape.dim[j], y.shape.dim[j] = view->shape.dim[i];
    y.stride[i] = view->stride[j], y.stride[j] = view->stride[i];
    return y;
}

/* y (+)= scale x, compared with the same in a plain loop, which rounds alike. */
static void check_one(const ad_kernels *k, const ad_view *x, const ad_view *y, double scale, bool add) {
    const bool f32 = x->dtype == AD_F32;
    const ad_view before = test_copy(y), want = test_copy(y);
    for (int64_t i = 0, n = ad_view_count(x); i < n; i++) {
        const double product = f32 ? (double)((float)scale * (float)test_get(x, i)) : scale * test_get(x, i);
        test_set(&want, i, add ? test_get(&before, i) + product : product);
    }
    k->copy(x, y, scale, add);
    cr_assert(test_same_bits(y, &want), "%s, %s[%lld,%lld,%lld], %g, %d", k->isa, ad_dtype_name(x->dtype),
              (long long)x->shape.dim[0], (long long)x->shape.dim[1], (long long)x->shape.dim[2], scale, add);
}

static void check_transposed(const ad_kernels *k) {
    static const int64_t sides[] = {1, 7, 8, 15, 16, 17, 31, 32, 45, 64, 100};
    uint64_t seed = 1;
    for (int r = 0; r < TEST_COUNT(sides); r++) {
        for (int c = 0; c < TEST_COUNT(sides); c++, seed++) {
            const ad_dtype dtype = seed / 2 % 2 ? AD_F32 : AD_F64;
            const ad_shape shape = AD_SHAPE(sides[r], 2, sides[c]);
            const bool add = seed % 3 == 0;
            const double scale = seed % 4 ? 1 : -0.3;
            /* the array with unit stride along its last axis is the result, then the input */
            ad_view a = test_random(dtype, shape, seed % 5 ? TEST_DENSE : TEST_GAPS, seed);
            ad_view b = test_random(dtype, with_axes_swapped(&a, 0, 2).shape, TEST_DENSE, seed + 1000);
            const ad_view b_turned = with_axes_swapped(&b, 0, 2);
            check_one(k, &b_turned, &a, scale, add);
            check_one(k, &a, &b_turned, scale, add);
            /* and the axes in the middle */
            const ad_view a_inner = with_axes_swapped(&a, 1, 2), b_inner = with_axes_swapped(&b_turned, 1, 2);
            check_one(k, &a_inner, &b_inner, scale, add);
        }
    }
}
Test(copy, transposes_matrices_of_any_size) { test_each_table(check_transposed); }

/* So much that it is written past the caches, if its rows are whole lines. */
static void check_large(const ad_kernels *k) {
    enum { ROWS = 1032, COLUMNS = 2064 };
    const ad_view x = test_random(AD_F64, AD_SHAPE(ROWS, COLUMNS), TEST_DENSE, 1);
    double *memory = aligned_alloc(64, sizeof(double) * ROWS * COLUMNS);
    cr_assert_not_null(memory);
    const ad_view y = ad_view_of(memory, AD_F64, AD_SHAPE(COLUMNS, ROWS)), x_turned = with_axes_swapped(&x, 0, 1);
    k->copy(&x_turned, &y, 1, false);
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < COLUMNS; j++)
            cr_assert_eq(memory[j * ROWS + i], ((const double *)x.data)[i * COLUMNS + j], "%s: [%lld,%lld]", k->isa,
                         (long long)i, (long long)j);
    free(memory);
}
Test(copy, transposes_what_no_cache_holds) { test_each_table(check_large); }
