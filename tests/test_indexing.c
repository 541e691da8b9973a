/* Rows, scattered elements, masks, sorting and segments against PyTorch; duplicates, ties and numbers that are none; and
 * what they say about indices that are out of range and shapes that do not fit. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <time.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

static ad_var topk_index(ad_var x, const reference_case *c) {
    ad_var index;
    ad_topk(x, (int64_t)c->value, c->axis, c->reverse, &index);
    return index;
}

OP(index_select, ad_index_select(in[0], c->axis, in[1]))
OP(embedding, ad_embedding(in[0], in[1]))
OP(index_add, ad_index_add(in[0], c->axis, in[1], in[2]))
OP(index_get, ad_index_get(in[0], 2, in + 1))
OP(index_put, ad_index_put(in[0], 1, in + 1, in[2], false))
OP(index_put_accumulate, ad_index_put(in[0], 1, in + 1, in[2], AD_ACCUMULATE))
OP(scatter, ad_scatter(in[0], c->axis, in[1], in[2]))
OP(scatter_prod, ad_scatter_reduce(in[0], c->axis, in[1], in[2], AD_SCATTER_PROD))
OP(scatter_mean, ad_scatter_reduce(in[0], c->axis, in[1], in[2], AD_SCATTER_MEAN))
OP(scatter_amax, ad_scatter_reduce(in[0], c->axis, in[1], in[2], AD_SCATTER_AMAX))
OP(scatter_amin, ad_scatter_reduce(in[0], c->axis, in[1], in[2], AD_SCATTER_AMIN))
OP(masked_fill, ad_masked_fill(in[0], in[1], c->value))
OP(masked_select, ad_masked_select(in[0], in[1]))
OP(one_hot, ad_one_hot(in[0], (int64_t)c->value, AD_I64))
OP(sort, ad_sort(in[0], c->axis, c->reverse, NULL))
OP(sort_index, ad_argsort(in[0], c->axis, c->reverse))
OP(topk, ad_topk(in[0], (int64_t)c->value, c->axis, c->reverse, NULL))
OP(topk_index, topk_index(in[0], c))
OP(segment_sum, ad_segment_sum(in[0], in[1], (int64_t)c->value))
OP(segment_mean, ad_segment_mean(in[0], in[1], (int64_t)c->value))
OP(segment_max, ad_segment_max(in[0], in[1], (int64_t)c->value))
OP(segment_min, ad_segment_min(in[0], in[1], (int64_t)c->value))
OP(segment_softmax, ad_segment_softmax(in[0], in[1], (int64_t)c->value))

/* ---- rows ------------------------------------------------------------------------------------------------------------ */

static const double twelve[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const ad_var all_ones = {0}; /* as the seed of a single number */

#define INDEX(t, ...)                                                                                                \
    ad_constant(t, "i", AD_I64, AD_SHAPE(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                        \
                ((const int64_t[]){__VA_ARGS__}))

static ad_var matrix(ad_tape *t) { return ad_leaf(t, "x", AD_F64, AD_SHAPE(3, 4), twelve); }

Test(rows, an_index_of_any_shape_stands_in_the_place_of_the_axis) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = matrix(t), index = ad_constant(t, NULL, AD_I32, AD_SHAPE(2, 2), ((const int32_t[]){3, 0, 0, 1}));
    ad_var y = ad_index_select(x, 1, index);
    ad_view value = ad_value(y);
    cr_expect(ad_shape_equal(&value.shape, &AD_SHAPE(3, 2, 2)));
    expect_values(value, 3, 0, 0, 1, 7, 4, 4, 5, 11, 8, 8, 9);
    expect_gradient(ad_sum(y, AD_ALL_AXES, false), all_ones, x, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1);
    expect_values(ad_value(ad_index_select(x, 0, ad_index(t, 2))), 8, 9, 10, 11);
    expect_ok(t);
    ad_tape_free(t);
}

Test(rows, duplicates_accumulate_in_row_major_order) {
    ad_tape *t = ad_tape_new(NULL);
    const double large = 1e16; /* in another order the ones would be lost, or not */
    ad_var y = ad_index_add(LEAF(t, 0, 0), 0, INDEX(t, 1, 1, 1, 0), CONSTANT(t, 1, large, -large, 5));
    expect_values(ad_value(y), 5, 1 + large - large);
    expect_ok(t);
    ad_tape_free(t);
}

Test(rows, of_integers_are_taken_too) {
    ad_tape *t = ad_tape_new(NULL);
    expect_values(ad_value(ad_index_select(INDEX(t, 5, 6, 7), 0, INDEX(t, 2, 2, 0))), 7, 7, 5);
    expect_ok(t);
    ad_tape_free(t);
}

static double seconds_of_back(ad_var loss, ad_var table, int times) {
    struct timespec begin, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
    for (int i = 0; i < times; i++) ad_backward_with(loss, &(ad_backward_options){.wrt = &table, .wrt_count = 1});
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
}

/* Fifty lookups in one table: only the first of them may pass over all of it. */
Test(rows, later_contributions_to_a_table_do_not_pass_over_all_of_it) {
    enum { ROWS = 20000, COLUMNS = 64, LOOKUPS = 50 };
    static const float zeros[ROWS * COLUMNS];
    ad_tape *t = ad_tape_new(NULL);
    ad_var table = ad_leaf(t, "table", AD_F32, AD_SHAPE(ROWS, COLUMNS), zeros), index = INDEX(t, 3, 14, 15, 9);
    ad_var one = ad_sum(ad_embedding(table, index), AD_ALL_AXES, false), many = one;
    for (int i = 1; i < LOOKUPS; i++) many = ad_add(many, ad_sum(ad_embedding(table, index), AD_ALL_AXES, false));
    double least = INFINITY, most = INFINITY;
    for (int round = 0; round < 5; round++) {
        least = fmin(least, seconds_of_back(one, table, 4));
        most = fmin(most, seconds_of_back(many, table, 4));
    }
    cr_expect_lt(most, 10 * least, "one lookup takes %g s, fifty take %g s", least, most);
    const ad_view gradient = ad_gradient(table);
    cr_expect_eq(ad_view_get(&gradient, 14 * COLUMNS), LOOKUPS);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- scatter, index_put -------------------------------------------------------------------------------------------- */

Test(scatter, the_last_of_several_stays_and_it_alone_gets_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2, 3), source = LEAF(t, 10, 20, 30), y = ad_scatter(x, 0, INDEX(t, 2, 0, 2), source);
    expect_values(ad_value(y), 20, 2, 30);
    expect_gradient(y, CONSTANT(t, 5, 6, 7), source, 0, 5, 7);
    expect_gradient(y, CONSTANT(t, 5, 6, 7), x, 0, 6, 0);
    expect_gradient(y, CONSTANT(t, 5, 6, INFINITY), source, 0, 5, INFINITY);
    expect_ok(t);
    ad_tape_free(t);
}

Test(scatter, equal_extrema_share_the_gradient_evenly) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 5, 0), source = LEAF(t, 5, 1, 5, 1),
           y = ad_scatter_reduce(x, 0, INDEX(t, 0, 1, 0, 1), source, AD_SCATTER_AMAX);
    expect_values(ad_value(y), 5, 1);
    expect_gradient(y, CONSTANT(t, 3, 4), source, 1, 2, 1, 2);
    expect_gradient(y, CONSTANT(t, 3, 4), x, 1, 0);
    expect_ok(t);
    ad_tape_free(t);
}

/* d2 y / dx ds of x s0 s1 at x = s0 = 0 is s1: no derivative is lost where all first ones are 0. */
Test(scatter, second_derivatives_of_products_are_right_at_zeros) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0), source = LEAF(t, 0, 5), first;
    ad_var y = ad_scatter_reduce(x, 0, INDEX(t, 0, 0), source, AD_SCATTER_PROD);
    expect_gradient(y, CONSTANT(t, 1), x, 0);
    expect_gradient(y, CONSTANT(t, 1), source, 0, 0);
    ad_grad(y, CONSTANT(t, 1), 1, &x, &first);
    expect_gradient(first, CONSTANT(t, 1), source, 5, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(scatter, nan_is_the_extremum) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var y = ad_scatter_reduce(LEAF(t, 1, NAN), 0, INDEX(t, 0, 0, 1), LEAF(t, NAN, 9, 9), AD_SCATTER_AMAX);
    expect_values(ad_value(y), NAN, NAN);
    expect_ok(t);
    ad_tape_free(t);
}

Test(index_put, several_indices_broadcast_and_the_last_value_stays) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var at[] = {ad_constant(t, NULL, AD_I64, AD_SHAPE(2, 1), ((const int64_t[]){0, 2})), INDEX(t, 1, 1, 3)};
    ad_var x = matrix(t), values = LEAF(t, 100, 200, 300);
    ad_var put = ad_index_put(x, 2, at, values, false), added = ad_index_put(x, 2, at, values, AD_ACCUMULATE);
    expect_values(ad_value(put), 0, 200, 2, 300, 4, 5, 6, 7, 8, 200, 10, 300);
    expect_values(ad_value(added), 0, 301, 2, 303, 4, 5, 6, 7, 8, 309, 10, 311);
    expect_gradient(ad_sum(put, AD_ALL_AXES, false), all_ones, values, 0, 2, 2);
    expect_gradient(ad_sum(added, AD_ALL_AXES, false), all_ones, values, 2, 2, 2);
    expect_values(ad_value(ad_index_get(put, 2, at)), 200, 200, 300, 200, 200, 300);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- masks ----------------------------------------------------------------------------------------------------------- */

Test(masks, select_what_is_true_and_its_gradient_alone) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = matrix(t), mask = ad_greater(x, ad_number(t, AD_F64, 8)), y = ad_masked_select(x, mask);
    expect_values(ad_value(y), 9, 10, 11);
    expect_gradient(y, CONSTANT(t, 1, 2, 3), x, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3);
    ad_view none = ad_value(ad_masked_select(x, ad_greater(x, ad_number(t, AD_F64, 99))));
    cr_expect(ad_shape_equal(&none.shape, &AD_SHAPE(0)));
    expect_values(ad_value(ad_flat_nonzero(LEAF(t, 0, NAN, -0.0, 5e-324))), 1, 3);
    expect_ok(t);
    ad_tape_free(t);
}

Test(masks, hide_gradients_that_are_no_numbers) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y = ad_masked_fill(x, INDEX(t, 1, 0), -INFINITY);
    expect_values(ad_value(y), -INFINITY, 2);
    expect_gradient(y, CONSTANT(t, NAN, 3), x, 0, 3);
    expect_values(ad_value(ad_masked_fill(INDEX(t, 4, 5), INDEX(t, 1, 0), 9)), 9, 5);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- sorting ------------------------------------------------------------------------------------------------------- */

Test(sorting, is_stable_and_nan_is_above_all_numbers) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var index, x = LEAF(t, 2, NAN, 1, -0.0, 2, 0.0, INFINITY, NAN);
    expect_values(ad_value(ad_sort(x, 0, false, &index)), -0.0, 0, 1, 2, 2, INFINITY, NAN, NAN);
    expect_values(ad_value(index), 3, 5, 2, 0, 4, 6, 1, 7);
    expect_values(ad_value(ad_sort(x, 0, AD_DESCENDING, &index)), NAN, NAN, INFINITY, 2, 2, 1, -0.0, 0);
    expect_values(ad_value(index), 1, 7, 6, 0, 4, 2, 3, 5);
    expect_values(ad_value(ad_argsort(INDEX(t, 3, -7, INT64_MAX, INT64_MIN), 0, false)), 3, 1, 0, 2);
    expect_ok(t);
    ad_tape_free(t);
}

Test(sorting, of_equal_elements_the_first_get_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 7, 7, 7), y = ad_topk(x, 2, 0, AD_LARGEST, NULL);
    expect_values(ad_value(y), 7, 7);
    expect_gradient(y, CONSTANT(t, 10, 20), x, 0, 10, 20, 0);
    ad_view none = ad_value(ad_topk(x, 0, 0, AD_LARGEST, NULL));
    cr_expect_eq(ad_view_count(&none), 0);
    expect_ok(t);
    ad_tape_free(t);
}

static void check_order(ad_dtype dtype, int64_t n, bool descending) {
    ad_view x = test_random(dtype, AD_SHAPE(n), TEST_REVERSED, (uint64_t)n);
    ad_tensor *tensor;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &x, NULL, NULL, NULL), AD_OK);
    ad_tape *t = ad_tape_new(NULL);
    ad_var index;
    ad_view y = ad_value(ad_sort(ad_constant_tensor(t, NULL, tensor), 0, descending, &index)), at = ad_value(index);
    for (int64_t i = 0; i < n; i++) {
        cr_assert_eq(test_get(&y, i), test_get(&x, (int64_t)test_get(&at, i)));
        if (i == 0) continue;
        double step = (test_get(&y, i) - test_get(&y, i - 1)) * (descending ? -1 : 1);
        cr_assert(step > 0 || (step == 0 && test_get(&at, i) > test_get(&at, i - 1)), "%s, element %lld of %lld",
                  ad_dtype_name(dtype), (long long)i, (long long)n);
    }
    expect_ok(t);
    ad_tape_free(t);
    ad_tensor_unref(tensor);
}

Test(sorting, orders_every_dtype_at_every_length, .fini = test_arrays_free) {
    const int64_t lengths[] = {1, 2, 24, 25, 255, 1000};
    for (int dtype = 0; dtype < AD_DTYPE_COUNT; dtype++)
        for (int i = 0; i < TEST_COUNT(lengths); i++)
            for (int descending = 0; descending < 2; descending++)
                check_order((ad_dtype)dtype, lengths[i], descending);
}

/* ---- segments ------------------------------------------------------------------------------------------------------ */

Test(segments, without_rows) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 3, 5), ids = INDEX(t, 1, 1);
    expect_values(ad_value(ad_segment_sum(x, ids, 3)), 0, 8, 0);
    expect_values(ad_value(ad_segment_mean(x, ids, 3)), 0, 4, 0);
    expect_values(ad_value(ad_segment_max(x, ids, 3)), -INFINITY, 5, -INFINITY);
    expect_values(ad_value(ad_segment_min(x, ids, 3)), INFINITY, 3, INFINITY);
    expect_gradient(ad_segment_mean(x, ids, 3), CONSTANT(t, NAN, 2, INFINITY), x, 1, 1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(segments, softmax_neither_overflows_nor_vanishes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1000, -1000, 1000, -1000), y = ad_segment_softmax(x, INDEX(t, 0, 1, 0, 1), 2);
    expect_values(ad_value(y), 0.5, 0.5, 0.5, 0.5);
    expect_gradient(y, CONSTANT(t, 4, 0, 0, 8), x, 1, -2, -1, 2);
    expect_ok(t);
    ad_tape_free(t);
}

Test(segments, softmax_of_nothing_but_minus_infinity_is_0_with_gradient_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, -INFINITY, 1, -INFINITY, 1), y = ad_segment_softmax(x, INDEX(t, 0, 1, 0, 1), 2);
    expect_values(ad_value(y), 0, 0.5, 0, 0.5);
    expect_gradient(y, CONSTANT(t, 4, 4, 5, 0), x, 0, 1, 0, -1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(segments, second_derivatives_of_softmax_agree_with_those_of_softmax) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0.3, -1, 2), w = CONSTANT(t, 1, 2, -3), first[2], second[2];
    ad_var y[] = {ad_softmax(x, 0), ad_segment_softmax(x, INDEX(t, 0, 0, 0), 1)};
    for (int k = 0; k < 2; k++) {
        ad_grad(y[k], w, 1, &x, &first[k]);
        ad_grad(first[k], w, 1, &x, &second[k]);
    }
    const ad_view wanted = ad_value(second[0]), got = ad_value(second[1]);
    for (int64_t i = 0; i < 3; i++) expect_near(ad_view_get(&got, i), ad_view_get(&wanted, i), 1e-13);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- memory -------------------------------------------------------------------------------------------------------- */

/* What takes scratch memory, has many inputs, or is made of many ops. */
static void record_and_walk_back(ad_tape *t) {
    static const double forty[40];
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(40), forty), index;
    ad_var stacked = ad_stack(AD_VARS(x, x, x, x, x, x), 0), joined = ad_reshape(stacked, AD_SHAPE(-1));
    ad_var sorted = ad_sort(joined, 0, false, &index), shares = ad_segment_softmax(sorted, index, 240);
    ad_var put = ad_index_put(ad_tile(shares, AD_SHAPE(2)), 1, &index, sorted, false);
    ad_var product = ad_scatter_reduce(put, 0, index, sorted, AD_SCATTER_PROD);
    ad_backward(ad_sum(ad_masked_select(product, ad_greater(put, ad_number(t, AD_F64, -1))), AD_ALL_AXES, false));
}

/* From allocation number `at` on there is no memory, then there is again. False when there are not so many. */
static bool refuse(int64_t at) {
    test_memory memory;
    test_memory_open(&memory);
    memory.fail_at = at;
    memory.fail_on = true;
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    if (t) record_and_walk_back(t);
    bool reached = memory.calls >= at;
    cr_assert(!t || ad_tape_status(t) == (reached ? AD_ERR_OOM : AD_OK), "allocation %lld: %s", (long long)at,
              ad_tape_error(t));
    memory.fail_at = 0;
    ad_tape_reset(t);
    if (t) record_and_walk_back(t);
    if (t) expect_ok(t);
    ad_tape_free(t);
    test_memory_close(&memory);
    return reached;
}

Test(memory, that_is_refused_from_any_allocation_on_is_an_error_and_no_leak) {
    int64_t at = 1;
    while (refuse(at)) at++;
    cr_assert_gt(at, 40);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

Test(errors, of_indices_out_of_range) {
    ad_tape *t = ad_tape_new(NULL);
    ad_embedding(matrix(t), INDEX(t, 1, 3));
    expect_error(t, AD_ERR_INDEX, "index_select at", "test_indexing.c", "index 3 at i[1]", "below 3");
    ad_index_select(matrix(t), 1, INDEX(t, 0, -1));
    expect_error(t, AD_ERR_INDEX, "index_select at", "index -1 at i[1]", "below 4");
    ad_index_add(LEAF(t, 1, 2), 0, INDEX(t, 2), CONSTANT(t, 1));
    expect_error(t, AD_ERR_INDEX, "index_add at", "index 2 at i[0]", "below 2");
    ad_scatter(LEAF(t, 1, 2), 0, INDEX(t, 7), CONSTANT(t, 1));
    expect_error(t, AD_ERR_INDEX, "scatter at", "index 7 at i[0]", "below 2");
    ad_scatter_reduce(LEAF(t, 1, 2), 0, INDEX(t, 7), CONSTANT(t, 1), AD_SCATTER_AMAX);
    expect_error(t, AD_ERR_INDEX, "scatter_amax at", "index 7 at i[0]", "below 2");
    ad_one_hot(INDEX(t, 0, 3), 3, AD_F64);
    expect_error(t, AD_ERR_INDEX, "one_hot at", "index 3 at i[1]", "below 3");
    ad_index_get(matrix(t), 2, (const ad_var[]){INDEX(t, 0), INDEX(t, 4)});
    expect_error(t, AD_ERR_INDEX, "flat_index at", "index 4 at i[0]", "below 4");
    ad_segment_sum(LEAF(t, 1, 2), INDEX(t, 0, 2), 2);
    expect_error(t, AD_ERR_INDEX, "index_add at", "index 2 at i[1]", "below 2");
    ad_tape_free(t);
}

Test(errors, of_shapes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_embedding(LEAF(t, 1, 2), INDEX(t, 1));
    expect_error(t, AD_ERR_SHAPE, "ad_embedding at", "f64[2]", "[how many, how long]");
    ad_index_add(matrix(t), 1, INDEX(t, 1), CONSTANT(t, 1));
    expect_error(t, AD_ERR_SHAPE, "index_add at", "f64[1]", "rows i of x is f64[3,4] must be f64[3,1]");
    ad_index_select(ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 1, 1, 1, 1, 1, 1, 1), twelve), 0,
                    ad_constant(t, NULL, AD_I64, AD_SHAPE(1, 1), ((const int64_t[]){0})));
    expect_error(t, AD_ERR_LIMIT, "index_select at", "9 axes");
    ad_scatter(matrix(t), 0, INDEX(t, 1), CONSTANT(t, 1));
    expect_error(t, AD_ERR_SHAPE, "scatter at", "ranks differ", "x is f64[3,4]", "i is i64[1]");
    ad_index_get(LEAF(t, 1, 2), 2, (const ad_var[]){INDEX(t, 0), INDEX(t, 0)});
    expect_error(t, AD_ERR_INDEX, "ad_index_get at", "2 indices", "1 to 1");
    ad_index_put(LEAF(t, 1, 2), 0, NULL, LEAF(t, 1), false);
    expect_error(t, AD_ERR_INDEX, "ad_index_put at", "0 indices");
    ad_index_put(LEAF(t, 1, 2), 1, (const ad_var[]){INDEX(t, 0)}, LEAF(t, 1, 2), false);
    expect_error(t, AD_ERR_SHAPE, "f64[2]", "does not broadcast to f64[1]");
    ad_flat_index(AD_VARS(INDEX(t, 0)), AD_SHAPE(2, 2));
    expect_error(t, AD_ERR_SHAPE, "flat_index at", "1 indices for 2 axes");
    ad_flat_index(AD_VARS(INDEX(t, 0, 1), INDEX(t, 0, 1, 1)), AD_SHAPE(2, 2));
    expect_error(t, AD_ERR_SHAPE, "flat_index at", "do not broadcast", "i64[3]");
    ad_masked_fill(LEAF(t, 1, 2), INDEX(t, 1, 0, 1), 0);
    expect_error(t, AD_ERR_SHAPE, "i64[3]", "does not broadcast to i64[2]");
    ad_segment_max(matrix(t), INDEX(t, 1, 0), 2);
    expect_error(t, AD_ERR_SHAPE, "ad_segment_max at", "x is f64[3,4]", "i is i64[2]", "one id for each row");
    ad_tape_free(t);
}

Test(errors, of_dtypes_and_values) {
    ad_tape *t = ad_tape_new(NULL);
    ad_index_select(matrix(t), 0, ad_name(LEAF(t, 1), "i"));
    expect_error(t, AD_ERR_DTYPE, "index_select at", "i is f64[1]", "i32 or i64");
    ad_index_add(INDEX(t, 1, 2), 0, INDEX(t, 1), INDEX(t, 1));
    expect_error(t, AD_ERR_DTYPE, "index_add at", "i64[2]", "f32 or f64");
    ad_one_hot(matrix(t), 3, AD_F64);
    expect_error(t, AD_ERR_DTYPE, "one_hot at", "x is f64[3,4]");
    ad_one_hot(INDEX(t, 0), -3, AD_F64);
    expect_error(t, AD_ERR_VALUE, "one_hot at", "-3 classes");
    ad_one_hot(INDEX(t, 0), 3, (ad_dtype)9);
    expect_error(t, AD_ERR_DTYPE, "one_hot at", "9");
    ad_topk(LEAF(t, 1, 2), 3, 0, AD_LARGEST, NULL);
    expect_error(t, AD_ERR_VALUE, "topk at", "the first 3 along axis 0", "f64[2]");
    ad_sort(ad_scalar(t, "s", 1), 0, false, NULL);
    expect_error(t, AD_ERR_INDEX, "sort at", "s is f64[]", "no axes");
    ad_scatter_reduce(LEAF(t, 1, 2), 0, INDEX(t, 1), CONSTANT(t, 1), (ad_scatter_reduction)9);
    expect_error(t, AD_ERR_VALUE, "ad_scatter_reduce at", "9 is no reduction");
    ad_segment_sum(LEAF(t, 1, 2), INDEX(t, 0, 1), -1);
    expect_error(t, AD_ERR_VALUE, "ad_segment_sum at", "-1 segments");
    ad_tape_free(t);
}
