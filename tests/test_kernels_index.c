/* The indexing kernels of every instruction set against plain loops. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(index, .fini = test_arrays_free);

/* An array of some shape and an index into it: of its rank, of any length along the axis, not longer elsewhere. */
typedef struct indexing {
    ad_shape shape;
    int axis;
    ad_view index;
} indexing;

static indexing any_indexing(ad_rng *rng) {
    indexing made;
    do made.shape = test_any_shape(rng);
    while (made.shape.rank == 0);
    made.axis = (int)ad_rng_below(rng, made.shape.rank);
    if (made.shape.dim[made.axis] == 0) made.shape.dim[made.axis] = 3;
    ad_shape at = made.shape;
    for (int i = 0; i < at.rank; i++) {
        if (at.dim[i] > 1 && ad_rng_below(rng, 3) == 0) at.dim[i]--;
    }
    at.dim[made.axis] = ad_rng_below(rng, 7);
    ad_dtype dtype = ad_rng_below(rng, 2) ? AD_I32 : AD_I64;
    made.index = test_array(dtype, at, (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int64_t i = 0, n = ad_shape_count(&at); i < n; i++)
        test_set(&made.index, i, (double)ad_rng_below(rng, made.shape.dim[made.axis]));
    return made;
}

/* The element of the array that element i of the index names. */
static int64_t named_by(const indexing *at, int64_t i) {
    int64_t flat = 0, step = 1, rest = i;
    for (int axis = at->shape.rank - 1; axis >= 0; axis--) {
        int64_t own = rest % at->index.shape.dim[axis];
        rest /= at->index.shape.dim[axis];
        flat += step * (axis == at->axis ? (int64_t)test_get(&at->index, i) : own);
        step *= at->shape.dim[axis];
    }
    return flat;
}

static void check_gather(const ad_kernels *k) {
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < 2000; round++) {
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT);
        indexing at = any_indexing(&rng);
        ad_view x = test_any_input(&rng, dtype, at.shape), y = test_any_result(&rng, dtype, at.index.shape);
        k->gather(&x, at.axis, &at.index, &y);
        for (int64_t i = 0, n = ad_shape_count(&at.index.shape); i < n; i++)
            cr_assert_eq(test_get(&y, i), test_get(&x, named_by(&at, i)), "%s, round %d", k->isa, round);
    }
}

Test(index, gather_from_any_axis_of_any_layout) { test_each_table(check_gather); }

static void check_scatter_add(const ad_kernels *k) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 2000; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        indexing at = any_indexing(&rng);
        ad_view x = test_any_input(&rng, dtype, at.index.shape);
        ad_view y = test_random(dtype, at.shape, (test_layout)(round % TEST_LAYOUTS), 3), want = test_copy(&y);
        /* duplicates add up in row-major order, in the array's own precision: the same bits */
        for (int64_t i = 0, n = ad_shape_count(&at.index.shape); i < n; i++) {
            void *target = test_at(&want, named_by(&at, i));
            if (dtype == AD_F32) {
                *(float *)target += (float)test_get(&x, i);
            } else {
                *(double *)target += test_get(&x, i);
            }
        }
        k->scatter_add(&x, at.axis, &at.index, &y);
        cr_assert(test_same_bits(&y, &want), "%s, round %d", k->isa, round);
    }
}

Test(index, scatter_add_to_any_axis_of_any_layout) { test_each_table(check_scatter_add); }

static void check_bad_index(const ad_kernels *k) {
    ad_rng rng = {.seed = 4};
    for (int round = 0; round < 1000; round++) {
        ad_dtype dtype = round % 2 ? AD_I32 : AD_I64;
        ad_shape shape = test_any_shape(&rng);
        int64_t n = ad_shape_count(&shape), bound = 1 + ad_rng_below(&rng, 9);
        ad_view index = test_array(dtype, shape, (test_layout)ad_rng_below(&rng, TEST_LAYOUTS));
        for (int64_t i = 0; i < n; i++) test_set(&index, i, (double)ad_rng_below(&rng, bound));
        cr_assert_eq(k->find_bad_index(&index, bound), -1, "%s, round %d", k->isa, round);
        if (n == 0) continue;
        int64_t first = ad_rng_below(&rng, n), second = first + ad_rng_below(&rng, n - first);
        const double bad[] = {-1, (double)bound, dtype == AD_I32 ? INT32_MIN : -0x1p63,
                              dtype == AD_I32 ? INT32_MAX : 0x1p62};
        test_set(&index, second, bad[round % 4]);
        test_set(&index, first, bad[round / 2 % 4]);
        cr_assert_eq(k->find_bad_index(&index, bound), first, "%s, round %d", k->isa, round);
    }
    ad_view any = test_array(AD_I64, AD_SHAPE(2), TEST_DENSE);
    memset(any.data, 0, 16);
    cr_assert_eq(k->find_bad_index(&any, 0), 0, "with a bound of 0 every index is bad");
}

Test(index, the_first_bad_index_is_found) { test_each_table(check_bad_index); }
