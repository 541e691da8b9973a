/* The kernels that move and sort elements, in every layout, against plain loops over element numbers. */
#include "helpers.h"
#include "ops/kernels/move.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

TestSuite(move, .fini = test_arrays_free);

enum { ROUNDS = 1500 };

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

/* An array, and an index of up to two axes into one of its own. */
typedef struct rows {
    ad_shape x, y;
    int axis;
    ad_view index;
} rows;

static rows any_rows(ad_rng *rng) {
    rows made;
    do made.x = test_any_shape(rng);
    while (made.x.rank == 0 || made.x.rank > AD_MAX_RANK - 1);
    made.axis = (int)ad_rng_below(rng, made.x.rank);
    if (made.x.dim[made.axis] == 0) made.x.dim[made.axis] = 3;
    ad_shape at = {.rank = (int)ad_rng_below(rng, 3), .dim = {ad_rng_below(rng, 4), ad_rng_below(rng, 4)}};
    made.index = test_array(ad_rng_below(rng, 2) ? AD_I32 : AD_I64, at, (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int64_t i = 0, n = ad_shape_count(&at); i < n; i++)
        test_set(&made.index, i, (double)ad_rng_below(rng, made.x.dim[made.axis]));
    made.y.rank = 0;
    for (int i = 0; i < made.x.rank; i++) {
        if (i != made.axis) made.y.dim[made.y.rank++] = made.x.dim[i];
        for (int k = 0; i == made.axis && k < at.rank; k++) made.y.dim[made.y.rank++] = at.dim[k];
    }
    return made;
}

/* The element of x that element i of y is, both seen as [outer, axis or index, inner]. */
static int64_t element_of_x(const rows *r, int64_t i) {
    int64_t inner = 1, named = ad_shape_count(&r->index.shape);
    for (int k = r->axis + 1; k < r->x.rank; k++) inner *= r->x.dim[k];
    int64_t row = i / inner % named, outer = i / inner / named;
    return (outer * r->x.dim[r->axis] + (int64_t)test_get(&r->index, row)) * inner + i % inner;
}

Test(move, rows_are_taken_along_any_axis_in_any_layout) {
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < ROUNDS; round++) {
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT);
        rows r = any_rows(&rng);
        ad_view x = test_any_input(&rng, dtype, r.x), y = test_any_result(&rng, dtype, r.y);
        ad_kernel_take_rows(&x, r.axis, &r.index, &y);
        for (int64_t i = 0, n = ad_shape_count(&r.y); i < n; i++)
            cr_assert_eq(test_get(&y, i), test_get(&x, element_of_x(&r, i)), "round %d, element %lld", round,
                         (long long)i);
        test_arrays_free();
    }
}

Test(move, rows_are_added_along_any_axis_in_any_layout_and_no_others_are_touched) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < ROUNDS; round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        rows r = any_rows(&rng);
        ad_view x = test_random(dtype, r.x, (test_layout)ad_rng_below(&rng, TEST_LAYOUTS), (uint64_t)round);
        ad_view y = test_any_input(&rng, dtype, r.y), wanted = test_copy(&x);
        for (int64_t i = 0, n = ad_shape_count(&r.y); i < n; i++) {
            double sum = test_get(&wanted, element_of_x(&r, i)) + test_get(&y, i);
            test_set(&wanted, element_of_x(&r, i), dtype == AD_F32 ? (double)(float)sum : sum);
        }
        ad_kernel_add_rows(&y, r.axis, &r.index, &x);
        ad_view got = test_copy(&x);
        cr_assert(test_same_bits(&got, &wanted), "round %d", round);
        test_arrays_free();
    }
}

/* ---- elements -------------------------------------------------------------------------------------------------------- */

/* An index of the rank of an array, not longer than it off the axis. */
static ad_view any_index(ad_rng *rng, const ad_shape *x, int axis) {
    ad_shape at = *x;
    for (int i = 0; i < at.rank; i++)
        if (at.dim[i] > 1 && ad_rng_below(rng, 3) == 0) at.dim[i]--;
    at.dim[axis] = ad_rng_below(rng, 7);
    ad_view index = test_array(ad_rng_below(rng, 2) ? AD_I32 : AD_I64, at,
                               (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int64_t i = 0, n = ad_shape_count(&at); i < n; i++)
        test_set(&index, i, (double)ad_rng_below(rng, x->dim[axis]));
    return index;
}

/* The element of an array of that shape which element i of the index names. */
static int64_t named_by(const ad_shape *x, int axis, const ad_view *index, int64_t i) {
    int64_t flat = 0, step = 1, rest = i;
    for (int k = x->rank - 1; k >= 0; k--) {
        int64_t own = rest % index->shape.dim[k];
        rest /= index->shape.dim[k];
        flat += step * (k == axis ? (int64_t)test_get(index, i) : own);
        step *= x->dim[k];
    }
    return flat;
}

typedef struct elements {
    ad_shape shape;
    int axis;
    ad_view index, x, y, wanted; /* x goes to y; wanted begins as y */
} elements;

static elements any_elements(ad_rng *rng, ad_dtype dtype) {
    elements made;
    do made.shape = test_any_shape(rng);
    while (made.shape.rank == 0);
    made.axis = (int)ad_rng_below(rng, made.shape.rank);
    if (made.shape.dim[made.axis] == 0) made.shape.dim[made.axis] = 3;
    made.index = any_index(rng, &made.shape, made.axis);
    made.x = test_any_input(rng, dtype, made.index.shape);
    made.y = test_random(dtype, made.shape, TEST_DENSE, ad_rng_next(rng));
    made.wanted = test_copy(&made.y);
    return made;
}

Test(move, the_last_element_scattered_to_a_place_stays) {
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < ROUNDS; round++) {
        elements e = any_elements(&rng, (ad_dtype)(round % AD_DTYPE_COUNT));
        int64_t places = ad_shape_count(&e.shape), n = ad_shape_count(&e.index.shape);
        int64_t *owner = calloc((size_t)places + 1, sizeof *owner), *last = calloc((size_t)places + 1, sizeof *last);
        ad_view kept = test_array(AD_I32, e.index.shape, TEST_DENSE);
        ad_kernel_scatter(&e.x, e.axis, &e.index, &e.y, owner, &kept);
        for (int64_t i = 0; i < n; i++) {
            int64_t at = named_by(&e.shape, e.axis, &e.index, i);
            test_set(&e.wanted, at, test_get(&e.x, i));
            last[at] = i;
        }
        cr_assert(test_same_bits(&e.y, &e.wanted), "round %d", round);
        for (int64_t i = 0; i < n; i++)
            cr_assert_eq(test_get(&kept, i), last[named_by(&e.shape, e.axis, &e.index, i)] == i, "round %d", round);
        free(owner);
        free(last);
        test_arrays_free();
    }
}

Test(move, the_largest_element_scattered_to_a_place_stays) {
    ad_rng rng = {.seed = 4};
    for (int round = 0; round < ROUNDS; round++) {
        elements e = any_elements(&rng, round % 2 ? AD_F32 : AD_F64);
        ad_kernel_scatter_max(&e.x, e.axis, &e.index, &e.y);
        for (int64_t i = 0, n = ad_shape_count(&e.index.shape); i < n; i++) {
            int64_t at = named_by(&e.shape, e.axis, &e.index, i);
            test_set(&e.wanted, at, fmax(test_get(&e.wanted, at), test_get(&e.x, i)));
        }
        cr_assert(test_same_bits(&e.y, &e.wanted), "round %d", round);
        test_arrays_free();
    }
}

Test(move, indices_of_what_is_not_zero_and_back) {
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < ROUNDS; round++) {
        ad_shape shape = test_any_shape(&rng);
        ad_view x = test_any_input(&rng, (ad_dtype)(round % AD_DTYPE_COUNT), shape);
        int64_t count = 0, n = ad_shape_count(&shape), found = 0;
        for (int64_t i = 0; i < n; i++) count += test_get(&x, i) != 0;
        ad_view y = test_array(AD_I64, AD_SHAPE(count), TEST_DENSE);
        ad_kernel_nonzero(&x, &y);
        for (int64_t i = 0; i < n; i++)
            if (test_get(&x, i) != 0) cr_assert_eq(test_get(&y, found++), (double)i, "round %d", round);
        ad_view hot = test_array(AD_F32, AD_SHAPE(count, n), TEST_DENSE);
        ad_kernel_one_hot(&y, &hot);
        for (int64_t i = 0; i < count * n; i++)
            cr_assert_eq(test_get(&hot, i), test_get(&y, i / n) == (double)(i % n), "round %d", round);
        test_arrays_free();
    }
}

/* ---- sorting --------------------------------------------------------------------------------------------------------- */

/* How many elements of the line of element i come before it. */
static int64_t place_of(const ad_view *x, int axis, bool descending, int64_t i) {
    int64_t inner = 1, n = x->shape.dim[axis], before = 0;
    for (int k = axis + 1; k < x->shape.rank; k++) inner *= x->shape.dim[k];
    int64_t own = i / inner % n, first = i - own * inner;
    for (int64_t k = 0; k < n; k++) {
        double here = test_get(x, i), there = test_get(x, first + k * inner);
        bool earlier = descending ? there > here : there < here;
        before += earlier || (there == here && k < own);
    }
    return before;
}

Test(move, lines_along_any_axis_in_any_layout_are_sorted_and_stable) {
    ad_rng rng = {.seed = 6};
    for (int round = 0; round < ROUNDS; round++) {
        ad_shape shape;
        do shape = test_any_shape(&rng);
        while (shape.rank == 0);
        int axis = (int)ad_rng_below(&rng, shape.rank);
        bool descending = round % 3 == 0;
        ad_dtype dtype = (ad_dtype)(round % AD_DTYPE_COUNT);
        int64_t n = shape.dim[axis], inner = 1;
        for (int k = axis + 1; k < shape.rank; k++) inner *= shape.dim[k];
        ad_shape first = shape;
        first.dim[axis] = ad_rng_below(&rng, n + 1);
        ad_view x = test_any_input(&rng, dtype, shape), y = test_any_result(&rng, dtype, first);
        ad_view index = test_any_result(&rng, AD_I64, first);
        void *scratch = malloc(ad_kernel_sort_scratch(&x, axis, 1) + 1);
        ad_kernel_sort(&x, axis, descending, &y, &index, 1, scratch);
        free(scratch);
        for (int64_t i = 0, count = ad_shape_count(&shape); i < count; i++) {
            int64_t place = place_of(&x, axis, descending, i), own = i / inner % n;
            if (place >= first.dim[axis]) continue;
            int64_t to = (i / inner / n * first.dim[axis] + place) * inner + i % inner;
            cr_assert_eq(test_get(&y, to), test_get(&x, i), "round %d", round);
            cr_assert_eq(test_get(&index, to), (double)own, "round %d", round);
        }
        test_arrays_free();
    }
}
