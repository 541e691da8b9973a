/* Views: other shapes of the same memory, and the loop over strided memory that kernels are made of. */
#include "helpers.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

TestSuite(view, .fini = test_arrays_free);
TestSuite(walk, .fini = test_arrays_free);

/* ---- making views ------------------------------------------------------------------------------------------------ */

Test(view, of_memory_is_row_major) {
    double data[24];
    for (int i = 0; i < 24; i++) data[i] = i;
    ad_view view = ad_view_of(data, AD_F64, AD_SHAPE(2, 3, 4));
    cr_assert(view.data == data && view.dtype == AD_F64 && ad_view_count(&view) == 24);
    cr_assert(view.stride[0] == 12 && view.stride[1] == 4 && view.stride[2] == 1);
    for (int64_t i = 0; i < 24; i++) cr_assert_eq(ad_view_get(&view, i), (double)i);
    ad_view number = ad_view_of(data + 5, AD_F64, AD_SCALAR);
    cr_assert(ad_view_count(&number) == 1 && ad_view_get(&number, 0) == 5);
}

/* Shapes of every rank, with axes of 0 and 1 in all places. */
static ad_shape random_shape(ad_rng *rng, int64_t longest) {
    ad_shape shape = {.rank = (int)ad_rng_below(rng, AD_MAX_RANK + 1), .dim = {0}};
    for (int i = 0; i < shape.rank; i++) {
        int64_t kind = ad_rng_below(rng, 12);
        shape.dim[i] = kind == 0 ? 0 : kind < 5 ? 1 : 1 + ad_rng_below(rng, longest);
    }
    return shape;
}

/* Row-major of its memory, element by element. */
static bool is_dense(const ad_view *view) {
    int64_t size = (int64_t)ad_dtype_size(view->dtype);
    for (int64_t i = 0, n = ad_shape_count(&view->shape); i < n; i++)
        if ((char *)test_at(view, i) != (char *)view->data + i * size) return false;
    return true;
}

Test(view, contiguous_means_row_major_without_gaps) {
    ad_rng rng = {.seed = 1};
    int dense = 0, other = 0;
    for (int k = 0; k < 2000; k++) {
        ad_view view = test_array(AD_F32, random_shape(&rng, 3), (test_layout)ad_rng_below(&rng, TEST_LAYOUTS));
        bool want = is_dense(&view);
        cr_assert_eq(ad_view_is_contiguous(&view), want, "case %d", k);
        want ? dense++ : other++;
    }
    cr_assert(dense > 500 && other > 500);
}

/* ---- reshape ----------------------------------------------------------------------------------------------------- */

/* The only strides with which `shape` could list the elements of `view` in their order, found from where they lie. */
static bool strides_exist(const ad_view *view, const ad_shape *shape) {
    int64_t size = (int64_t)ad_dtype_size(view->dtype), count = ad_shape_count(shape);
    ad_view guess = {.data = view->data, .dtype = view->dtype, .shape = *shape, .stride = {0}};
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        if (shape->dim[i] > 1) guess.stride[i] = ((char *)test_at(view, step) - (char *)test_at(view, 0)) / size;
        step *= shape->dim[i];
    }
    for (int64_t i = 0; i < count; i++)
        if (test_at(&guess, i) != test_at(view, i)) return false;
    return true;
}

/* Splits and joins axes of `shape` at random, keeping the count. */
static ad_shape regrouped(ad_shape shape, ad_rng *rng) {
    for (int k = 0; k < 4; k++) {
        int at = (int)ad_rng_below(rng, shape.rank + 1);
        if (ad_rng_below(rng, 2) && at + 1 < shape.rank) {
            shape.dim[at] *= shape.dim[at + 1];
            memmove(&shape.dim[at + 1], &shape.dim[at + 2], (size_t)(shape.rank - at - 2) * sizeof(int64_t));
            shape.rank--;
        } else if (shape.rank < AD_MAX_RANK) {
            int64_t split = at < shape.rank && shape.dim[at] % 2 == 0 ? 2 : 1;
            if (at < shape.rank) shape.dim[at] /= split;
            memmove(&shape.dim[at + 1], &shape.dim[at], (size_t)(shape.rank - at) * sizeof(int64_t));
            shape.dim[at] = split;
            shape.rank++;
        }
    }
    return shape;
}

static ad_view random_view(ad_rng *rng, int64_t longest) {
    ad_view view = test_array(AD_F64, random_shape(rng, longest), (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int i = 0; i < view.shape.rank; i++)
        if (ad_rng_below(rng, 6) == 0) view.stride[i] = 0;
    return view;
}

Test(view, reshape_succeeds_exactly_where_strides_exist) {
    ad_rng rng = {.seed = 2};
    int possible = 0, impossible = 0;
    for (int k = 0; k < 6000; k++) {
        ad_view view = random_view(&rng, 4), out = {.data = NULL};
        ad_shape shape = regrouped(view.shape, &rng);
        if (ad_shape_count(&shape) == 0) continue;
        bool want = strides_exist(&view, &shape);
        cr_assert_eq(ad_view_reshape(&view, &shape, &out), want ? AD_OK : AD_ERR_VALUE, "case %d", k);
        want ? possible++ : impossible++;
        if (!want) {
            cr_assert_null(out.data, "out is left alone");
            continue;
        }
        cr_assert(ad_shape_equal(&out.shape, &shape) && out.dtype == AD_F64);
        for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
            cr_assert_eq(test_at(&out, i), test_at(&view, i), "case %d, element %lld", k, (long long)i);
    }
    cr_assert(possible > 1000 && impossible > 400, "%d possible, %d impossible", possible, impossible);
}

Test(view, reshape_keeps_the_count) {
    ad_view view = test_array(AD_F32, AD_SHAPE(3, 4), TEST_GAPS), out;
    cr_assert_eq(ad_view_reshape(&view, &AD_SHAPE(3, 5), &out), AD_ERR_SHAPE);
    cr_assert_eq(ad_view_reshape(&view, &AD_SCALAR, &out), AD_ERR_SHAPE);
    cr_assert_eq(ad_view_reshape(&view, &AD_SHAPE(0), &out), AD_ERR_SHAPE);
    cr_assert_eq(ad_view_reshape(&view, &AD_SHAPE(-3, -4), &out), AD_ERR_SHAPE);
    cr_assert_eq(ad_view_reshape(&view, &(ad_shape){.rank = 9, .dim = {12, 1, 1, 1, 1, 1, 1, 1}}, &out),
                 AD_ERR_SHAPE);
}

Test(view, reshape_of_nothing_is_always_possible) {
    ad_view view = test_array(AD_F32, AD_SHAPE(3, 0, 4), TEST_COLUMNS), out;
    cr_assert_eq(ad_view_reshape(&view, &AD_SHAPE(0, 7), &out), AD_OK);
    cr_assert(ad_shape_equal(&out.shape, &AD_SHAPE(0, 7)));
}

/* ---- permute ----------------------------------------------------------------------------------------------------- */

/* Element i of a permuted view, from the definition: y[i0, i1, ...] with i_a the index of x along axes[a]. */
static void check_permuted(const ad_view *x, const ad_view *y, const int *axes) {
    for (int64_t i = 0, n = ad_shape_count(&y->shape); i < n; i++) {
        int64_t rest = i, index[AD_MAX_RANK], flat = 0;
        for (int a = y->shape.rank - 1; a >= 0; a--) {
            index[axes[a]] = rest % y->shape.dim[a];
            rest /= y->shape.dim[a];
        }
        for (int a = 0; a < x->shape.rank; a++) flat = flat * x->shape.dim[a] + index[a];
        cr_assert_eq(test_at(y, i), test_at(x, flat));
    }
}

Test(view, permute_moves_every_axis) {
    ad_rng rng = {.seed = 3};
    for (int k = 0; k < 500; k++) {
        ad_view view = random_view(&rng, 3), out;
        int rank = view.shape.rank, order[AD_MAX_RANK] = {0};
        ad_axes axes = {.count = rank, .axis = {0}};
        for (int i = 0; i < rank; i++) { /* Fisher and Yates's shuffle, inside out */
            int j = (int)ad_rng_below(&rng, i + 1);
            order[i] = order[j];
            order[j] = i;
        }
        for (int i = 0; i < rank; i++) axes.axis[i] = ad_rng_below(&rng, 2) ? order[i] : order[i] - rank;
        cr_assert_eq(ad_view_permute(&view, &axes, &out), AD_OK);
        check_permuted(&view, &out, order);
    }
}

Test(view, permute_by_the_empty_list_reverses) {
    ad_view view = test_array(AD_F32, AD_SHAPE(2, 3, 4), TEST_GAPS);
    ad_view out = view;
    cr_assert_eq(ad_view_permute(&out, &AD_ALL_AXES, &out), AD_OK);
    cr_assert(ad_shape_equal(&out.shape, &AD_SHAPE(4, 3, 2)));
    check_permuted(&view, &out, (int[]){2, 1, 0});
}

Test(view, permute_wants_each_axis_once) {
    ad_view view = test_array(AD_F32, AD_SHAPE(2, 3), TEST_DENSE), out = {.data = NULL};
    const ad_axes wrong[] = {AD_AXES(0),
                             AD_AXES(0, 0),
                             AD_AXES(0, -2),
                             AD_AXES(0, 2),
                             AD_AXES(-3, 0),
                             AD_AXES(0, 1, 2),
                             (ad_axes){.count = -1, .axis = {0}},
                             (ad_axes){.count = 99, .axis = {0}}};
    for (int i = 0; i < TEST_COUNT(wrong); i++)
        cr_assert_eq(ad_view_permute(&view, &wrong[i], &out), AD_ERR_INDEX, "case %d", i);
    cr_assert_null(out.data, "out is left alone");
}

/* ---- broadcast --------------------------------------------------------------------------------------------------- */

Test(view, broadcast_repeats_axes_of_1_and_missing_ones) {
    ad_view view = test_array(AD_F64, AD_SHAPE(2, 1, 3), TEST_REVERSED), out;
    cr_assert_eq(ad_view_broadcast(&view, &AD_SHAPE(5, 2, 4, 3), &out), AD_OK);
    for (int64_t i = 0; i < 5 * 2 * 4 * 3; i++) {
        int64_t row = i / 12 % 2, column = i % 3;
        cr_assert_eq(test_at(&out, i), test_at(&view, row * 3 + column));
    }
    ad_view number = test_array(AD_F64, AD_SCALAR, TEST_DENSE);
    cr_assert_eq(ad_view_broadcast(&number, &AD_SHAPE(1, 1, 1, 1, 1, 1, 1, 2), &out), AD_OK);
    cr_assert(test_at(&out, 0) == number.data && test_at(&out, 1) == number.data);
    cr_assert_eq(ad_view_broadcast(&view, &AD_SHAPE(2, 0, 3), &out), AD_OK);
    cr_assert_eq(ad_view_count(&out), 0);
}

Test(view, broadcast_refuses_what_does_not_fit) {
    ad_view view = test_array(AD_F64, AD_SHAPE(2, 3), TEST_DENSE), out = {.data = NULL};
    const ad_shape wrong[] = {AD_SCALAR,
                              AD_SHAPE(3),
                              AD_SHAPE(3, 3),
                              AD_SHAPE(2, 1),
                              AD_SHAPE(2, 3, 1),
                              AD_SHAPE(0, 3),
                              AD_SHAPE(-1, 2, 3),
                              AD_SHAPE(INT64_MAX, 2, 3),
                              {.rank = 9, .dim = {0}}};
    for (int i = 0; i < TEST_COUNT(wrong); i++)
        cr_assert_eq(ad_view_broadcast(&view, &wrong[i], &out), AD_ERR_SHAPE, "case %d", i);
    cr_assert_null(out.data, "out is left alone");
}

/* ---- slice ------------------------------------------------------------------------------------------------------- */

/* Every line of the reference: the length of an axis, start, stop and step, and which elements Python's slice takes. */
Test(view, slice_takes_what_python_takes) {
    FILE *file = fopen(ADTAPE_SOURCE_DIR "/tests/reference/slice.txt", "r");
    cr_assert_not_null(file);
    char line[256];
    int cases = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') continue;
        long long n, start, stop, step, first, length;
        cr_assert_eq(sscanf(line, "%lld %lld %lld %lld : %lld %lld", &n, &start, &stop, &step, &first, &length), 6);
        ad_view view = test_array(AD_I32, AD_SHAPE(2, n, 3), TEST_GAPS), out;
        cr_assert_eq(ad_view_slice(&view, -2, start, stop, step, &out), AD_OK);
        cr_assert(ad_shape_equal(&out.shape, &AD_SHAPE(2, length, 3)), "%s", line);
        for (int64_t i = 0; i < 2 * length * 3; i++) {
            int64_t taken = first + i / 3 % length * step;
            cr_assert_eq(test_at(&out, i), test_at(&view, i / (3 * length) * 3 * n + taken * 3 + i % 3), "%s", line);
        }
        cases++;
    }
    fclose(file);
    cr_assert_gt(cases, 500);
}

Test(view, slice_with_extreme_numbers) {
    ad_view view = test_array(AD_I32, AD_SHAPE(5), TEST_DENSE), out;
    const int64_t least = INT64_MIN, most = INT64_MAX;
    const struct {
        int64_t start, stop, step, first, length;
    } want[] = {{least, most, 1, 0, 5},     {most, least, -1, 4, 5}, {least, most, most, 0, 1},
                {most, least, least, 4, 1}, {least, most, -1, 0, 0}, {most, least, 1, 0, 0},
                {4, most, most, 4, 1},      {0, least, least, 0, 1}};
    for (int i = 0; i < TEST_COUNT(want); i++) {
        cr_assert_eq(ad_view_slice(&view, 0, want[i].start, want[i].stop, want[i].step, &out), AD_OK);
        cr_assert_eq(out.shape.dim[0], want[i].length, "case %d gives %lld", i, (long long)out.shape.dim[0]);
        if (want[i].length > 0) cr_assert_eq(out.data, test_at(&view, want[i].first), "case %d", i);
    }
}

Test(view, slice_refuses_a_step_of_0_and_axes_out_of_range) {
    ad_view view = test_array(AD_I32, AD_SHAPE(5), TEST_DENSE), out,
            number = test_array(AD_I32, AD_SCALAR, TEST_DENSE);
    cr_assert_eq(ad_view_slice(&view, 0, 0, 5, 0, &out), AD_ERR_VALUE);
    cr_assert_eq(ad_view_slice(&view, 1, 0, 5, 1, &out), AD_ERR_INDEX);
    cr_assert_eq(ad_view_slice(&view, -2, 0, 5, 1, &out), AD_ERR_INDEX);
    cr_assert_eq(ad_view_slice(&number, 0, 0, 5, 1, &out), AD_ERR_INDEX);
}

/* ---- get, copy --------------------------------------------------------------------------------------------------- */

Test(view, get_counts_in_row_major_order) {
    for (int layout = 0; layout < TEST_LAYOUTS; layout++) {
        for (int dtype = 0; dtype < AD_DTYPE_COUNT; dtype++) {
            ad_view view = test_random((ad_dtype)dtype, AD_SHAPE(2, 3, 4), (test_layout)layout, 7);
            for (int64_t i = 0; i < 24; i++) cr_assert_eq(ad_view_get(&view, i), test_get(&view, i));
        }
    }
}

Test(view, copy_converts_between_all_dtypes_and_layouts) {
    const ad_shape shapes[] = {AD_SCALAR,      AD_SHAPE(7),       AD_SHAPE(2, 3, 4),
                               AD_SHAPE(0, 2), AD_SHAPE(1, 5, 1), AD_SHAPE(2, 1, 2, 1, 3, 1, 2, 2)};
    for (int s = 0; s < TEST_COUNT(shapes); s++) {
        for (int a = 0; a < AD_DTYPE_COUNT * TEST_LAYOUTS; a++) {
            for (int b = 0; b < AD_DTYPE_COUNT * TEST_LAYOUTS; b++) {
                ad_dtype from_dtype = (ad_dtype)(a % AD_DTYPE_COUNT), to_dtype = (ad_dtype)(b % AD_DTYPE_COUNT);
                ad_view from = test_random(from_dtype, shapes[s], (test_layout)(a / AD_DTYPE_COUNT), 1);
                ad_view to = test_array(to_dtype, shapes[s], (test_layout)(b / AD_DTYPE_COUNT));
                cr_assert_eq(ad_view_copy(&from, &to), AD_OK);
                for (int64_t i = 0, n = ad_shape_count(&shapes[s]); i < n; i++) {
                    double want = test_get(&from, i);
                    if (!ad_dtype_is_float(to.dtype)) want = trunc(want);
                    if (to.dtype == AD_F32) want = (float)want;
                    cr_assert_eq(test_get(&to, i), want);
                }
            }
        }
    }
}

Test(view, copy_rounds_once) {
    int64_t tie_and_a_bit = (INT64_C(1) << 54) + (INT64_C(1) << 30) + 1;
    float single = 0;
    double twice = 0;
    ad_view from = ad_view_of(&tie_and_a_bit, AD_I64, AD_SCALAR), to = ad_view_of(&single, AD_F32, AD_SCALAR);
    cr_assert_eq(ad_view_copy(&from, &to), AD_OK);
    cr_assert_eq(single, 0x1.000002p54f, "through double it would become 0x1p54");
    to = ad_view_of(&twice, AD_F64, AD_SCALAR);
    cr_assert_eq(ad_view_copy(&from, &to), AD_OK);
    cr_assert_eq(twice, 0x1.000001p54);
}

Test(view, copy_of_integers_keeps_every_bit_and_saturates) {
    int64_t values[] = {INT64_MAX, INT64_MIN, INT64_MAX - 1, 2147483648, -2147483649, 2147483647, 12}, same[7];
    const int32_t want[] = {INT32_MAX, INT32_MIN, INT32_MAX, INT32_MAX, INT32_MIN, INT32_MAX, 12};
    int32_t narrow[7];
    ad_view from = ad_view_of(values, AD_I64, AD_SHAPE(7)), to = ad_view_of(same, AD_I64, AD_SHAPE(7));
    cr_assert_eq(ad_view_copy(&from, &to), AD_OK);
    cr_assert_arr_eq(same, values, sizeof values);
    to = ad_view_of(narrow, AD_I32, AD_SHAPE(7));
    cr_assert_eq(ad_view_copy(&from, &to), AD_OK);
    cr_assert_arr_eq(narrow, want, sizeof want);
}

Test(view, copy_refuses_other_shapes_and_dtypes) {
    ad_view from = test_array(AD_F64, AD_SHAPE(3), TEST_DENSE), to = test_array(AD_F64, AD_SHAPE(1, 3), TEST_DENSE);
    cr_assert_eq(ad_view_copy(&from, &to), AD_ERR_SHAPE, "copying does not broadcast");
    to = from;
    to.dtype = AD_DTYPE_COUNT;
    cr_assert_eq(ad_view_copy(&from, &to), AD_ERR_DTYPE);
    cr_assert_eq(ad_view_copy(&to, &from), AD_ERR_DTYPE);
}

/* ---- the loop over strided memory -------------------------------------------------------------------------------- */

/* Every element of every array, in row-major order, exactly once. */
static void check_walk(int arrays, const ad_view *views) {
    const ad_view *pointers[AD_WALK_MAX];
    for (int k = 0; k < arrays; k++) pointers[k] = &views[k];
    int64_t seen = 0, count = ad_shape_count(&views[0].shape);
    for (ad_walk w = ad_walk_start(arrays, pointers); w.more; ad_walk_next(&w)) {
        cr_assert_gt(w.n, 0);
        for (int64_t i = 0; i < w.n; i++, seen++) {
            cr_assert_lt(seen, count);
            for (int k = 0; k < arrays; k++) {
                int64_t size = (int64_t)ad_dtype_size(views[k].dtype);
                cr_assert_eq(w.at[k] + i * w.inner[k] * size, (char *)test_at(&views[k], seen));
            }
        }
    }
    cr_assert_eq(seen, count);
}

Test(walk, visits_every_element_in_order) {
    ad_rng rng = {.seed = 4};
    for (int k = 0; k < 2000; k++) {
        ad_view views[AD_WALK_MAX];
        int arrays = 1 + (int)ad_rng_below(&rng, AD_WALK_MAX);
        ad_shape shape = random_shape(&rng, 3);
        for (int i = 0; i < arrays; i++) {
            views[i] = test_array((ad_dtype)ad_rng_below(&rng, AD_DTYPE_COUNT), shape,
                                  (test_layout)ad_rng_below(&rng, TEST_LAYOUTS));
            for (int axis = 0; axis < shape.rank; axis++)
                if (ad_rng_below(&rng, 6) == 0) views[i].stride[axis] = 0;
        }
        check_walk(arrays, views);
    }
}

Test(walk, takes_dense_memory_as_one_stretch) {
    ad_view a = test_array(AD_F32, AD_SHAPE(2, 1, 3, 4, 1), TEST_DENSE), b = a;
    a.stride[1] = 77; /* an axis of 1 never steps */
    const ad_view *views[] = {&a, &b};
    ad_walk w = ad_walk_start(2, views);
    cr_assert(w.more && w.n == 24 && w.inner[0] == 1 && w.inner[1] == 1);
    ad_walk_next(&w);
    cr_assert_not(w.more);
}

Test(walk, needs_no_memory_where_there_are_no_elements) {
    ad_view empty = {.data = NULL, .dtype = AD_F32, .shape = AD_SHAPE(3, 0, 2), .stride = {0, 2, 1}};
    const ad_view *views[] = {&empty, &empty};
    cr_assert_not(ad_walk_start(2, views).more);
}
