/* Slices, joins, margins, diagonals, windows and casts against PyTorch; that what should be a view is one; and what they
 * do at ends, with nothing, and with what they do not take. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return expression; }                      \
    Test(pytorch, name) { reference_check(#name, make_##name); }

/* The margins before all axes, then those after. */
static ad_var padded(ad_var x, const reference_case *c, ad_pad_mode mode) {
    ad_shape before = {.rank = c->shape.rank / 2, .dim = {0}}, after = before;
    for (int i = 0; i < before.rank; i++) {
        before.dim[i] = c->shape.dim[i];
        after.dim[i] = c->shape.dim[before.rank + i];
    }
    return ad_pad(x, before, after, mode, c->value);
}

OP(squeeze, ad_squeeze(in[0], c->axes))
OP(unsqueeze, ad_unsqueeze(in[0], c->axis))
OP(slice_op, ad_slice(in[0], c->axis, c->shape.dim[0], c->shape.dim[1], c->shape.dim[2]))
OP(flip, ad_flip(in[0], c->axes))
OP(roll, ad_roll(in[0], (int64_t)c->value, c->axis))
OP(cat, ad_cat(c->inputs, in, c->axis))
OP(stack, ad_stack(c->inputs, in, c->axis))
OP(tile, ad_tile(in[0], c->shape))
OP(repeat_interleave, ad_repeat_interleave(in[0], (int64_t)c->value, c->axis))
OP(pad, padded(in[0], c, AD_PAD_CONSTANT))
OP(pad_reflect, padded(in[0], c, AD_PAD_REFLECT))
OP(pad_replicate, padded(in[0], c, AD_PAD_REPLICATE))
OP(pad_circular, padded(in[0], c, AD_PAD_CIRCULAR))
OP(tril, ad_tril(in[0], (int64_t)c->value))
OP(triu, ad_triu(in[0], (int64_t)c->value))
OP(diagonal, ad_diagonal(in[0], (int64_t)c->value, c->axes.axis[0], c->axes.axis[1]))
OP(diag_embed, ad_diag_embed(in[0], (int64_t)c->value))
OP(diag, ad_diag(in[0], (int64_t)c->value))
OP(unfold, ad_unfold(in[0], c->axis, c->shape.dim[0], c->shape.dim[1]))
OP(fold, ad_fold(in[0], c->axis, c->shape.dim[0], c->shape.dim[1]))

/* ---- views ----------------------------------------------------------------------------------------------------------- */

static const double twelve[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
static const ad_var all_ones = {0}; /* as the seed of a single number */

static ad_var matrix(ad_tape *t) { return ad_leaf(t, "x", AD_F64, AD_SHAPE(3, 4), twelve); }

static void expect_inside(ad_var y, ad_var x, int64_t offset, const char *what) {
    ad_view from = ad_value(x), to = ad_value(y);
    cr_expect_eq((const char *)to.data, (const char *)from.data + offset * (int64_t)sizeof(double), "%s is a copy",
                 what);
}

Test(views, share_memory) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = matrix(t), parts[2];
    expect_inside(ad_slice(x, 1, 1, AD_TO_END, 2), x, 1, "slice");
    expect_inside(ad_flip(x, AD_ALL_AXES), x, 11, "flip");
    expect_inside(ad_select(x, 0, -1), x, 8, "select");
    expect_inside(ad_diagonal(x, 1, 0, 1), x, 1, "diagonal");
    expect_inside(ad_unfold(x, 0, 2, 1), x, 0, "unfold");
    expect_inside(ad_unsqueeze(x, 1), x, 0, "unsqueeze");
    expect_inside(ad_squeeze(ad_transpose(ad_slice(x, 0, 1, 2, 1)), AD_ALL_AXES), x, 4, "squeeze");
    expect_inside(ad_contiguous(x), x, 0, "contiguous");
    expect_inside(ad_cast(x, AD_F64), x, 0, "cast to its own dtype");
    ad_chunk(x, 1, 2, parts);
    expect_inside(parts[1], x, 2, "chunk");
    ad_view copy = ad_value(ad_contiguous(ad_transpose(x)));
    cr_expect(ad_view_is_contiguous(&copy));
    expect_values(copy, 0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11);
    expect_ok(t);
    ad_tape_free(t);
}

Test(views, of_numbers_of_rank_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 3);
    expect_values(ad_value(ad_unsqueeze(x, 0)), 3);
    expect_values(ad_value(ad_contiguous(x)), 3);
    expect_values(ad_value(ad_cast(x, AD_I32)), 3);
    expect_values(ad_value(ad_flip(x, AD_ALL_AXES)), 3);
    expect_values(ad_value(ad_tile(x, AD_SHAPE(2, 2))), 3, 3, 3, 3);
    expect_values(ad_value(ad_pad(x, AD_SCALAR, AD_SCALAR, AD_PAD_CONSTANT, 7)), 3);
    expect_values(ad_value(ad_stack(AD_VARS(x, x), 0)), 3, 3);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- slices -------------------------------------------------------------------------------------------------------- */

Test(slices, run_backwards_to_the_start) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0, 1, 2, 3, 4), y = ad_slice(x, 0, -2, AD_TO_START, -2);
    expect_values(ad_value(y), 3, 1);
    expect_gradient(y, CONSTANT(t, 10, 20), x, 0, 20, 0, 10, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(slices, of_one_array_add_up_in_its_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0, 1, 2, 3), parts[2];
    ad_split(x, 0, 2, (const int64_t[]){1, 3}, parts);
    ad_var y = ad_add(ad_sum(ad_scale(parts[1], 2), AD_ALL_AXES, false),
                      ad_add(ad_sum(parts[0], AD_ALL_AXES, false), ad_select(x, 0, 3)));
    expect_gradient(y, all_ones, x, 1, 2, 2, 3);
    expect_ok(t);
    ad_tape_free(t);
}

Test(slices, chunks_are_as_equal_as_possible_and_the_longer_ones_come_first) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var parts[4];
    ad_chunk(LEAF(t, 0, 1, 2, 3, 4, 5), 0, 4, parts);
    expect_values(ad_value(parts[0]), 0, 1);
    expect_values(ad_value(parts[1]), 2, 3);
    expect_values(ad_value(parts[2]), 4);
    expect_values(ad_value(parts[3]), 5);
    ad_chunk(LEAF(t, 7), 0, 3, parts);
    expect_values(ad_value(parts[0]), 7);
    ad_view rest = ad_value(parts[2]);
    cr_expect_eq(ad_view_count(&rest), 0);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- cast ---------------------------------------------------------------------------------------------------------- */

Test(cast, between_floats_carries_the_gradient_in_the_dtype_of_the_input) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F32, AD_SHAPE(2), ((const float[]){1.5f, -2})), y = ad_cast(x, AD_F64);
    cr_expect_eq(ad_value(y).dtype, AD_F64);
    ad_backward_with(y, &(ad_backward_options){.seed = CONSTANT(t, 0.1, 3)});
    cr_expect_eq(ad_gradient(x).dtype, AD_F32);
    expect_values(ad_gradient(x), (double)0.1f, 3);
    ad_var narrow = ad_cast(LEAF(t, 0.1, 1e300), AD_F32);
    expect_values(ad_value(narrow), (double)0.1f, INFINITY);
    expect_ok(t);
    ad_tape_free(t);
}

Test(cast, to_integers_truncates_and_carries_none) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 2.7, -2.7, 1e30, NAN), n = ad_cast(x, AD_I32);
    expect_values(ad_value(n), 2, -2, 2147483647, 0);
    ad_var y = ad_mul(ad_cast(n, AD_F64), x);
    expect_gradient(ad_slice(y, 0, 0, 2, 1), CONSTANT(t, 1, 1), x, 2, -2, 0, 0);
    ad_backward(n);
    expect_error(t, AD_ERR_NOGRAD, "i32");
    ad_tape_free(t);
}

/* ---- margins ------------------------------------------------------------------------------------------------------- */

Test(margins, of_every_mode) {
    ad_tape *t = ad_tape_new(NULL);
    const ad_shape two = AD_SHAPE(2);
    ad_var x = LEAF(t, 1, 2, 3);
    expect_values(ad_value(ad_pad(x, two, two, AD_PAD_CONSTANT, -1)), -1, -1, 1, 2, 3, -1, -1);
    expect_values(ad_value(ad_pad(x, two, two, AD_PAD_REFLECT, -1)), 3, 2, 1, 2, 3, 2, 1);
    expect_values(ad_value(ad_pad(x, two, two, AD_PAD_REPLICATE, -1)), 1, 1, 1, 2, 3, 3, 3);
    expect_values(ad_value(ad_pad(x, two, two, AD_PAD_CIRCULAR, -1)), 2, 3, 1, 2, 3, 1, 2);
    ad_var n = ad_constant(t, NULL, AD_I32, AD_SHAPE(1), ((const int32_t[]){4}));
    expect_values(ad_value(ad_pad(n, two, AD_SHAPE(0), AD_PAD_CONSTANT, 9)), 9, 9, 4);
    expect_ok(t);
    ad_tape_free(t);
}

Test(margins, that_are_infinite_do_not_reach_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y = ad_pad(x, AD_SHAPE(1), AD_SHAPE(1), AD_PAD_CONSTANT, -INFINITY);
    expect_gradient(y, CONSTANT(t, NAN, 3, 4, INFINITY), x, 3, 4);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- triangles, diagonals ------------------------------------------------------------------------------------------ */

Test(triangles, hide_what_is_no_number) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 2), ((const double[]){1, NAN, 3, INFINITY}));
    expect_values(ad_value(ad_tril(x, -1)), 0, 0, 3, 0);
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 2), ((const double[]){1, NAN, 3, 4}));
    expect_gradient(ad_tril(x, 0), seed, x, 1, 0, 3, 4);
    expect_values(ad_value(ad_triu(ad_constant(t, NULL, AD_I64, AD_SHAPE(2, 2), ((const int64_t[]){1, 2, 3, 4})), 0)),
                  1, 2, 0, 4);
    expect_values(ad_value(ad_tril(x, INT64_MIN)), 0, 0, 0, 0);
    expect_values(ad_value(ad_triu(x, INT64_MAX)), 0, 0, 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(diagonals, outside_the_matrix_are_empty) {
    ad_tape *t = ad_tape_new(NULL);
    const int64_t outside[] = {4, 5, -3, -9, INT64_MAX, INT64_MIN};
    for (int i = 0; i < TEST_COUNT(outside); i++) {
        ad_view y = ad_value(ad_diagonal(matrix(t), outside[i], 0, 1));
        cr_expect(ad_shape_equal(&y.shape, &AD_SHAPE(0)));
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

Test(errors, of_axes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_slice(matrix(t), 2, 0, 1, 1);
    expect_error(t, AD_ERR_INDEX, "slice at", "test_shapes.c", "axis 2 is out of range", "x is f64[3,4]", "0 to 1");
    ad_select(matrix(t), -3, 0);
    expect_error(t, AD_ERR_INDEX, "ad_select at", "test_shapes.c", "axis -3 is out of range", "x is f64[3,4]",
                 "-2 to -1");
    ad_flip(matrix(t), AD_AXES(1, -1));
    expect_error(t, AD_ERR_INDEX, "ad_flip at", "axis -1 is named twice");
    ad_squeeze(matrix(t), (ad_axes){.count = 99, .axis = {0}});
    expect_error(t, AD_ERR_INDEX, "ad_squeeze at", "99 axes", "AD_AXES");
    ad_roll(ad_scalar(t, "s", 1), 1, 0);
    expect_error(t, AD_ERR_INDEX, "ad_roll at", "s is f64[]", "no axes");
    ad_unsqueeze(matrix(t), 3);
    expect_error(t, AD_ERR_INDEX, "ad_unsqueeze at", "a new axis 3", "x is f64[3,4]", "0 to 2", "-3 to -1");
    ad_unsqueeze(ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 1, 1, 1, 1, 1, 1, 1), twelve), 0);
    expect_error(t, AD_ERR_LIMIT, "ad_unsqueeze at", "at most 8 axes");
    ad_unfold(ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 1, 1, 1, 1, 1, 1, 1), twelve), 0, 1, 1);
    expect_error(t, AD_ERR_LIMIT, "unfold at", "more than 8 axes");
    ad_diagonal(matrix(t), 0, 1, -1);
    expect_error(t, AD_ERR_INDEX, "diagonal at", "rows and columns are both axis 1", "x is f64[3,4]");
    ad_cat(AD_VARS(matrix(t), matrix(t)), 5);
    expect_error(t, AD_ERR_INDEX, "cat at", "axis 5 is out of range", "x is f64[3,4]");
    ad_stack(AD_VARS(matrix(t), matrix(t)), 3);
    expect_error(t, AD_ERR_INDEX, "ad_unsqueeze at", "a new axis 3");
    ad_tape_free(t);
}

Test(errors, of_sizes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var parts[2];
    ad_slice(matrix(t), 0, 0, 1, 0);
    expect_error(t, AD_ERR_VALUE, "slice at", "the step is 0");
    ad_select(matrix(t), 1, 4);
    expect_error(t, AD_ERR_INDEX, "ad_select at", "index 4 is out of range along axis 1", "x is f64[3,4]");
    ad_split(matrix(t), 0, 2, (const int64_t[]){2, 2}, parts);
    expect_error(t, AD_ERR_SHAPE, "ad_split at", "x is f64[3,4]", "the 2 parts, 4");
    cr_expect_eq(parts[0].generation, 0, "an invalid variable");
    ad_split(matrix(t), 0, 2, (const int64_t[]){4, -1}, parts);
    expect_error(t, AD_ERR_SHAPE, "ad_split at", "the 2 parts");
    ad_split(matrix(t), 0, 0, (const int64_t[]){4}, parts);
    expect_error(t, AD_ERR_VALUE, "ad_split at", "0 parts");
    ad_split(matrix(t), 0, 2, NULL, parts);
    expect_error(t, AD_ERR_VALUE, "ad_split at", "sizes are NULL");
    ad_chunk(matrix(t), 0, 2, NULL);
    expect_error(t, AD_ERR_VALUE, "ad_chunk at", "parts is NULL");
    ad_squeeze(matrix(t), AD_AXES(1));
    expect_error(t, AD_ERR_SHAPE, "ad_squeeze at", "axis 1 has size 4");
    ad_unslice(matrix(t), 0, 0, 2, 1, 5);
    expect_error(t, AD_ERR_SHAPE, "unslice at", "x is f64[3,4]", "f64[2,4]");
    ad_unslice(matrix(t), 0, 0, 3, 1, -5);
    expect_error(t, AD_ERR_SHAPE, "unslice at", "would be -5");
    const int64_t start[] = {0, 3};
    ad_var starts = ad_constant(t, "starts", AD_I64, AD_SHAPE(2), start);
    ad_unslices(starts, 1, (ad_var[]){matrix(t)}, 0, 5);
    expect_error(t, AD_ERR_SHAPE, "unslices at", "starts is i64[2]", "each of the 1 slices");
    starts = ad_constant(t, "starts", AD_I64, AD_SHAPE(2), start);
    ad_unslices(starts, AD_VARS(matrix(t), matrix(t)), 0, 5);
    expect_error(t, AD_ERR_INDEX, "unslices at", "slice 1 starts at 3", "3 elements do not fit into 5");
    starts = ad_constant(t, "starts", AD_I64, AD_SHAPE(2), start);
    ad_unslices(starts, AD_VARS(matrix(t), matrix(t)), 0, -5);
    expect_error(t, AD_ERR_SHAPE, "unslices at", "would be -5");
    starts = ad_constant(t, "starts", AD_I64, AD_SHAPE(2), start);
    ad_unslices(starts, AD_VARS(matrix(t), LEAF(t, 1, 2)), 0, 6);
    expect_error(t, AD_ERR_SHAPE, "unslices at", "other than along axis 0", "f64[2]");
    starts = ad_constant(t, "starts", AD_I64, AD_SHAPE(2), start);
    ad_unslices(starts, 0, NULL, 0, 6);
    expect_error(t, AD_ERR_VALUE, "ad_unslices at", "0 slices");
    ad_unfold(matrix(t), 0, 4, 1);
    expect_error(t, AD_ERR_SHAPE, "unfold at", "windows of 4", "3 elements along axis 0");
    ad_unfold(matrix(t), 0, 1, 0);
    expect_error(t, AD_ERR_VALUE, "unfold at", "the step is 0");
    ad_fold(matrix(t), 0, 1, 5);
    expect_error(t, AD_ERR_SHAPE, "fold at", "x is f64[3,4]", "f64[2,4]");
    ad_fold(LEAF(t, 1, 2), 0, 1, 5);
    expect_error(t, AD_ERR_SHAPE, "fold at", "two axes");
    ad_tril(LEAF(t, 1, 2), 0);
    expect_error(t, AD_ERR_SHAPE, "tril at", "f64[2]", "[..., rows, columns]");
    ad_diag(ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 3, 4), twelve), 0);
    expect_error(t, AD_ERR_SHAPE, "ad_diag at", "x is f64[1,3,4]", "a vector or a matrix");
    ad_diag_embed(LEAF(t, 1, 2), INT64_MIN);
    expect_error(t, AD_ERR_LIMIT, "ad_diag_embed at", "too far away");
    ad_tape_free(t);
}

Test(errors, of_parts_that_do_not_fit) {
    ad_tape *t = ad_tape_new(NULL);
    ad_cat(AD_VARS(matrix(t), ad_name(LEAF(t, 1, 2), "b")), 0);
    expect_error(t, AD_ERR_SHAPE, "cat at", "other than along axis 0", "x is f64[3,4]", "b is f64[2]");
    ad_cat(AD_VARS(matrix(t), ad_number(t, AD_F32, 1)), 0);
    expect_error(t, AD_ERR_DTYPE, "cat at", "x is f64[3,4]", "f32[]");
    ad_stack(AD_VARS(matrix(t), LEAF(t, 1, 2)), 0);
    expect_error(t, AD_ERR_SHAPE, "cat at", "f64[1,3,4]", "f64[1,2]");
    cr_expect_null(ad_cat(0, NULL, 0).tape, "no tape to tell");
    cr_expect_null(ad_stack(0, NULL, 0).tape);
    ad_cast(matrix(t), (ad_dtype)77);
    expect_error(t, AD_ERR_DTYPE, "cast at", "77");
    ad_tape_free(t);
}

Test(errors, of_margins_and_repetitions) {
    ad_tape *t = ad_tape_new(NULL);
    const ad_shape none = AD_SHAPE(0);
    ad_pad(LEAF(t, 1, 2, 3), AD_SHAPE(1, 1), none, AD_PAD_CONSTANT, 0);
    expect_error(t, AD_ERR_SHAPE, "pad at", "f64[3]", "before 2 and after 1 axes");
    ad_pad(LEAF(t, 1, 2, 3), AD_SHAPE(-1), none, AD_PAD_CONSTANT, 0);
    expect_error(t, AD_ERR_VALUE, "pad at", "-1 and 0", "ad_slice");
    ad_pad(LEAF(t, 1, 2, 3), AD_SHAPE(INT64_MAX), none, AD_PAD_CONSTANT, 0);
    expect_error(t, AD_ERR_LIMIT, "pad at", "overflows");
    ad_pad(LEAF(t, 1, 2, 3), AD_SHAPE(3), none, AD_PAD_REFLECT, 0);
    expect_error(t, AD_ERR_VALUE, "ad_pad at", "reflecting", "0 to 2 wide");
    ad_pad(LEAF(t, 1, 2, 3), none, AD_SHAPE(4), AD_PAD_CIRCULAR, 0);
    expect_error(t, AD_ERR_VALUE, "ad_pad at", "circular", "0 to 3 wide");
    ad_pad(ad_leaf(t, NULL, AD_F64, AD_SHAPE(0), NULL), AD_SHAPE(1), none, AD_PAD_REPLICATE, 0);
    expect_error(t, AD_ERR_VALUE, "ad_pad at", "replicating", "0 to 0 wide");
    ad_pad(LEAF(t, 1, 2, 3), AD_SHAPE(1, 1), none, AD_PAD_REFLECT, 0);
    expect_error(t, AD_ERR_SHAPE, "ad_pad at", "1 axes", "before 2 and after 1");
    ad_pad(LEAF(t, 1, 2, 3), none, none, (ad_pad_mode)9, 0);
    expect_error(t, AD_ERR_VALUE, "ad_pad at", "9 is no way of padding");
    ad_tile(LEAF(t, 1, 2, 3), AD_SHAPE(-2));
    expect_error(t, AD_ERR_VALUE, "ad_tile at", "3 elements, -2 times");
    ad_tile(LEAF(t, 1, 2, 3), AD_SHAPE(INT64_MAX));
    expect_error(t, AD_ERR_LIMIT, "ad_tile at", "3 elements");
    ad_repeat_interleave(LEAF(t, 1, 2, 3), -1, 0);
    expect_error(t, AD_ERR_VALUE, "ad_repeat_interleave at", "3 elements, -1 times");
    ad_tile(LEAF(t, 1, 2, 3), (ad_shape){.rank = 9, .dim = {0}});
    expect_error(t, AD_ERR_SHAPE, "ad_tile at", "9 numbers");
    ad_tape_free(t);
}

Test(errors, of_stale_handles) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = matrix(t), parts[2];
    ad_tape_reset(t);
    ad_squeeze(x, AD_ALL_AXES);
    expect_error(t, AD_ERR_HANDLE, "ad_squeeze at");
    ad_tile(x, AD_SHAPE(2));
    expect_error(t, AD_ERR_HANDLE, "test_shapes.c");
    ad_fold(x, 0, 1, 1);
    expect_error(t, AD_ERR_HANDLE, "test_shapes.c");
    ad_stack(AD_VARS(x, x), 0);
    expect_error(t, AD_ERR_HANDLE, "ad_stack at");
    ad_chunk(x, 0, 2, parts);
    cr_expect_eq(parts[1].generation, 0);
    expect_error(t, AD_ERR_HANDLE, "ad_chunk at");
    ad_pad(x, AD_SHAPE(1, 1), AD_SHAPE(1, 1), AD_PAD_REFLECT, 0);
    expect_error(t, AD_ERR_HANDLE, "ad_pad at");
    ad_tape_free(t);
}
