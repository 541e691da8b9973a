/* Every op against PyTorch: its value and its gradients, walked back numerically and recorded, in f64 and f32, with its
 * operands in any layout; and what each op does at the edges of its domain. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(pytorch, .fini = test_arrays_free);
TestSuite(edge, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

typedef ad_var (*constructor)(const ad_var *in, const reference_case *c);

/* Where a comparison is made, for messages. */
typedef struct place {
    const char *op;
    int number; /* of the case */
    ad_dtype dtype;
    test_layout layout;
} place;

static void compare(const place *at, const char *what, const ad_view *got, const ad_view *want) {
    const double tolerance = at->dtype == AD_F64 ? 1e-13 : 1e-5;
    cr_assert(ad_shape_equal(&got->shape, &want->shape), "%s, case %d: shape of the %s", at->op, at->number, what);
    cr_assert_eq(got->dtype, want->dtype == AD_F64 ? at->dtype : want->dtype, "%s: dtype of the %s", at->op, what);
    for (int64_t i = 0, n = ad_shape_count(&want->shape); i < n; i++)
        cr_assert(test_near(test_get(got, i), test_get(want, i), tolerance),
                  "%s, case %d, %s, layout %d: element %lld of the %s is %.17g, not %.17g", at->op, at->number,
                  ad_dtype_name(at->dtype), at->layout, (long long)i, what, test_get(got, i), test_get(want, i));
}

/* The array's values in a tensor of the place's dtype and layout. */
static ad_tensor *laid_out(const place *at, const ad_view *values) {
    ad_view view = test_array(values->dtype == AD_F64 ? at->dtype : values->dtype, values->shape, at->layout);
    for (int64_t i = 0, n = ad_shape_count(&view.shape); i < n; i++) test_set(&view, i, test_get(values, i));
    ad_tensor *tensor;
    cr_assert_eq(ad_tensor_wrap(&tensor, NULL, &view, NULL, NULL, NULL), AD_OK);
    return tensor;
}

/* Gradients by a walk back, all at once and each alone, and recorded. */
static void compare_gradients(const place *at, ad_var y, ad_var seed, const ad_var *in, const reference_case *c) {
    ad_var recorded[REFERENCE_INPUTS];
    for (int i = 0; i < c->inputs; i++) {
        if (!c->gradient[i].data) continue;
        ad_backward_options all = {.seed = seed}, one = {.seed = seed, .wrt = &in[i], .wrt_count = 1};
        ad_backward_with(y, &all);
        ad_view gradient = ad_gradient(in[i]);
        compare(at, "gradient", &gradient, &c->gradient[i]);
        ad_backward_with(y, &one);
        gradient = ad_gradient(in[i]);
        compare(at, "gradient alone", &gradient, &c->gradient[i]);
        ad_grad(y, seed, 1, &in[i], &recorded[i]);
        gradient = ad_value(recorded[i]);
        compare(at, "recorded gradient", &gradient, &c->gradient[i]);
    }
}

static void check_case(const place *at, constructor make, const reference_case *c) {
    ad_tape *t = ad_tape_new(NULL);
    ad_tensor *tensor[REFERENCE_INPUTS], *seed_tensor = c->has_gradients ? laid_out(at, &c->seed) : NULL;
    ad_var in[REFERENCE_INPUTS];
    for (int i = 0; i < c->inputs; i++) {
        tensor[i] = laid_out(at, &c->input[i]);
        in[i] = ad_leaf_tensor(t, NULL, tensor[i]);
    }
    ad_var y = make(in, c);
    ad_view value = ad_value(y);
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s, case %d: %s", at->op, at->number, ad_tape_error(t));
    compare(at, "result", &value, &c->result);
    if (c->has_gradients) compare_gradients(at, y, ad_constant_tensor(t, NULL, seed_tensor), in, c);
    expect_ok(t);
    for (int i = 0; i < c->inputs; i++) ad_tensor_unref(tensor[i]);
    ad_tensor_unref(seed_tensor);
    ad_tape_free(t);
}

static void check_op(const char *op, constructor make) {
    FILE *file = reference_open(op);
    reference_case c = {.number = 0};
    while (reference_next(file, &c)) {
        for (int layout = 0; layout < TEST_LAYOUTS; layout++) {
            place at = {.op = op, .number = c.number, .dtype = AD_F64, .layout = (test_layout)layout};
            check_case(&at, make, &c);
            at.dtype = AD_F32;
            if (!c.only_f64) check_case(&at, make, &c);
        }
    }
    fclose(file);
    cr_assert_gt(c.number, 3, "%s has %d cases", op, c.number - 1);
}

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { check_op(#name, make_##name); }

OP(add, ad_add(in[0], in[1]))
OP(sub, ad_sub(in[0], in[1]))
OP(mul, ad_mul(in[0], in[1]))
OP(div, ad_div(in[0], in[1]))
OP(masked_mul, ad_masked_mul(in[0], in[1]))
OP(masked_div, ad_masked_div(in[0], in[1]))
OP(greater, ad_greater(in[0], in[1]))
OP(where, ad_where(in[0], in[1], in[2]))
OP(neg, ad_neg(in[0]))
OP(scale, ad_scale(in[0], c->value))
OP(exp, ad_exp(in[0]))
OP(log, ad_log(in[0]))
OP(tanh, ad_tanh(in[0]))
OP(sigmoid, ad_sigmoid(in[0]))
OP(relu, ad_relu(in[0]))
OP(detach, ad_detach(in[0]))
OP(reshape, ad_reshape(in[0], c->shape))
OP(permute, ad_permute(in[0], c->axes))
OP(transpose, ad_transpose(in[0]))
OP(broadcast_to, ad_broadcast_to(in[0], c->shape))
OP(sum, ad_sum(in[0], c->axes, c->keepdim))
OP(mean, ad_mean(in[0], c->axes, c->keepdim))
OP(sum_to, ad_sum_to(in[0], c->shape))
OP(matmul, ad_matmul(in[0], in[1]))
OP(gather, ad_gather(in[0], c->axis, in[1]))
OP(scatter_add, ad_scatter_add(in[0], c->axis, in[1], in[2]))
OP(pick, ad_pick(in[0], in[1]))
OP(softmax, ad_softmax(in[0], c->axis))
OP(log_softmax, ad_log_softmax(in[0], c->axis))
OP(softmax_xent, ad_softmax_xent(in[0], in[1]))
OP(softmax_xent_soft, ad_softmax_xent(in[0], in[1]))

/* ---- at the edges --------------------------------------------------------------------------------------------------------- */

#define LEAF(t, ...)                                                                                                 \
    ad_leaf(t, NULL, AD_F64, AD_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), ((double[]){__VA_ARGS__}))
#define CONSTANT(t, ...)                                                                                             \
    ad_constant(t, NULL, AD_F64, AD_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),                         \
                ((double[]){__VA_ARGS__}))

/* The gradient of y at x for a seed, walked back and recorded, is exactly these numbers. */
#define expect_gradient(y, seed, x, ...)                                                                             \
    expect_gradient_at(AD_HERE, y, seed, x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),             \
                       (double[]){__VA_ARGS__})
static void expect_gradient_at(const char *line, ad_var y, ad_var seed, ad_var x, int64_t n, const double *values) {
    ad_backward_with(y, &(ad_backward_options){.seed = seed});
    expect_values_at(line, ad_gradient(x), n, values);
    ad_var recorded;
    ad_grad(y, seed, 1, &x, &recorded);
    expect_values_at(line, ad_value(recorded), n, values);
}

static const double inf = INFINITY;

Test(edge, relu_at_0_and_around_it) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, -inf, -1, -0.0, 0.0, 0x1p-1074, inf), y = ad_relu(x);
    expect_values(ad_value(y), 0, 0, 0, 0, 0x1p-1074, inf);
    expect_gradient(y, CONSTANT(t, 1, 2, 3, 4, 5, 6), x, 0, 0, 0, 0, 5, 6);
    ad_tape_free(t);
}

Test(edge, log_and_div_at_0_have_infinite_slopes_unless_masked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0.0, 0.0, -0.0), g = CONSTANT(t, 1, 0, -0.0);
    ad_var y = ad_log(x);
    expect_values(ad_value(y), -inf, -inf, -inf);
    expect_gradient(y, g, x, inf, 0, 0);
    expect_gradient(ad_div(CONSTANT(t, 1, 1, 1), x), g, x, -inf, 0, 0);
    ad_var one = LEAF(t, 1, 1, 1);
    expect_gradient(ad_div(one, x), g, one, inf, 0, 0);
    ad_tape_free(t);
}

Test(edge, mul_by_infinity_masks_a_cotangent_of_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 2, 3), y = CONSTANT(t, inf, NAN);
    expect_gradient(ad_mul(x, y), CONSTANT(t, 1, 0), x, inf, 0);
    ad_tape_free(t);
}

/* The NaN most often reported of other systems: where(x > 0, log(x), 0) at x = 0. */
Test(edge, where_does_not_leak_from_the_branch_not_taken) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var zero = ad_number(t, AD_F64, 0);
    ad_var x = LEAF(t, 0, -1, 4), y = ad_where(ad_greater(x, zero), ad_log(x), zero);
    expect_gradient(y, CONSTANT(t, 1, 1, 1), x, 0, 0, 0.25);
    ad_var reciprocal = ad_where(ad_greater(x, zero), ad_div(ad_number(t, AD_F64, 1), x), zero);
    expect_gradient(reciprocal, CONSTANT(t, 1, 1, 1), x, 0, 0, -0.0625);
    ad_tape_free(t);
}

Test(edge, where_takes_any_dtype_as_the_condition) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var a = LEAF(t, 1, 2, 3, 4), b = ad_number(t, AD_F64, -1);
    expect_values(ad_value(ad_where(CONSTANT(t, 0.0, -0.0, NAN, 0.5), a, b)), -1, -1, 3, 4);
    const int64_t wide[] = {INT64_C(1) << 40, 0, -1, 0};
    ad_var condition = ad_constant(t, NULL, AD_I64, AD_SHAPE(4), wide);
    expect_values(ad_value(ad_where(condition, a, b)), 1, -1, 3, -1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, sums_and_means_of_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var nothing = ad_leaf(t, NULL, AD_F64, AD_SHAPE(0), NULL);
    ad_var empty = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 0, 2), NULL);
    expect_values(ad_value(ad_sum(nothing, AD_ALL_AXES, false)), 0);
    cr_assert(isnan(ad_item(ad_mean(nothing, AD_ALL_AXES, false))));
    expect_values(ad_value(ad_sum(empty, AD_AXES(1), false)), 0, 0, 0, 0);
    ad_backward(ad_sum(nothing, AD_ALL_AXES, false));
    const ad_view gradient = ad_gradient(nothing);
    cr_assert_eq(ad_view_count(&gradient), 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, the_mean_of_equal_numbers_is_that_number) {
    ad_tape *t = ad_tape_new(NULL);
    for (int64_t n = 1; n < 200; n++) {
        ad_var x = ad_broadcast_to(LEAF(t, 0.75), AD_SHAPE(n));
        cr_assert_eq(ad_item(ad_mean(x, AD_ALL_AXES, false)), 0.75, "of %lld numbers", (long long)n);
    }
    ad_tape_free(t);
}

Test(edge, ten_million_ones_sum_to_ten_million) {
    const int64_t n = 10000000;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_broadcast_to(ad_leaf(t, NULL, AD_F32, AD_SHAPE(1), (float[]){1}), AD_SHAPE(n));
    cr_assert_eq(ad_item(ad_sum(x, AD_ALL_AXES, false)), 1e7);
    cr_assert_eq(ad_item(ad_mean(x, AD_ALL_AXES, false)), 1);
    ad_tape_free(t);
}

Test(edge, a_row_without_mass_has_zeros_and_passes_zeros) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, -inf, -inf, -inf), g = CONSTANT(t, 1, 2, 3);
    expect_values(ad_value(ad_softmax(x, 0)), 0, 0, 0);
    expect_values(ad_value(ad_log_softmax(x, 0)), -inf, -inf, -inf);
    expect_gradient(ad_softmax(x, 0), g, x, 0, 0, 0);
    expect_gradient(ad_log_softmax(x, 0), g, x, 0, 0, 0);
    ad_tape_free(t);
}

Test(edge, masked_logits_pass_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0, -inf, 0), g = CONSTANT(t, 1, 2, 3);
    expect_gradient(ad_softmax(x, 0), g, x, -0.5, 0, 0.5);
    expect_gradient(ad_softmax(x, 0), CONSTANT(t, 1, inf, 3), x, -0.5, 0, 0.5);
    expect_gradient(ad_log_softmax(x, 0), CONSTANT(t, 1, 0, 3), x, -1, 0, 1);
    ad_var target = CONSTANT(t, 0.5, 0, 0.5), loss = ad_softmax_xent(x, target);
    expect_near(ad_item(loss), log(2), 1e-15);
    ad_var none = {0};
    expect_gradient(loss, none, x, 0, 0, 0);
    ad_tape_free(t);
}

/* What a mask leaves out must not come back as NaN, whatever was there. */
Test(edge, rows_of_nan_pass_zeros_for_a_cotangent_of_0) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, NAN, 1, inf), g = CONSTANT(t, 0, -0.0, 0), zero = ad_number(t, AD_F64, 0);
    expect_gradient(ad_softmax(x, 0), g, x, 0, 0, 0);
    expect_gradient(ad_log_softmax(x, 0), g, x, 0, 0, 0);
    expect_gradient(ad_softmax_xent(x, ad_index(t, 1)), zero, x, 0, 0, 0);
    expect_gradient(ad_softmax_xent(x, CONSTANT(t, 0, 1, 0)), zero, x, 0, 0, 0);
    expect_gradient(ad_exp(x), g, x, 0, 0, 0);
    expect_gradient(ad_tanh(x), g, x, 0, 0, 0);
    expect_gradient(ad_sigmoid(x), g, x, 0, 0, 0);
    ad_tape_free(t);
}

/* The second operand repeats one matrix through a stride of 0: the sum over the stack must not be taken for one product. */
Test(edge, matmul_with_an_operand_that_only_seems_to_be_a_stack) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var row = ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 2), (double[]){1, 2});
    ad_var vector = LEAF(t, 1, 2);
    ad_var matrix = ad_leaf(t, NULL, AD_F64, AD_SHAPE(2, 2), (double[]){1, 2, 3, 4});
    ad_var stack = ad_broadcast_to(matrix, AD_SHAPE(3, 2, 2));
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(3, 1, 2), (double[]){1, 0, 0, 1, 1, 1});
    ad_var y = ad_matmul(row, stack);
    expect_values(ad_value(y), 7, 10, 7, 10, 7, 10);
    expect_gradient(y, seed, row, 1 + 2 + 3, 3 + 4 + 7);
    expect_gradient(y, seed, matrix, 2, 2, 4, 4);
    ad_var flat = ad_constant(t, NULL, AD_F64, AD_SHAPE(3, 2), (double[]){1, 0, 0, 1, 1, 1});
    expect_gradient(ad_matmul(vector, stack), flat, vector, 1 + 2 + 3, 3 + 4 + 7);
    ad_var column_stack = ad_broadcast_to(ad_reshape(vector, AD_SHAPE(1, 1, 2)), AD_SHAPE(3, 1, 2));
    expect_gradient(ad_matmul(column_stack, matrix), seed, vector, 6, 14);
    expect_gradient(ad_matmul(column_stack, matrix), seed, matrix, 2, 2, 4, 4);
    ad_tape_free(t);
}

/* Result 1 of softmax_xent is softmax(x), and a gradient that comes through it is added to that of the loss. */
Test(edge, the_probabilities_of_softmax_xent_can_be_used) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0.5, -1, 2), g = CONSTANT(t, 1, 2, 4), results[2], none = {0};
    const ad_var target[] = {ad_index(t, 1), CONSTANT(t, 0.25, 0.5, 0.25)};
    for (int soft = 0; soft < 2; soft++) {
        ad_apply(t, ad_op_find(soft ? "softmax_xent_soft" : "softmax_xent"), 2, ((ad_var[]){x, target[soft]}), NULL,
                 results);
        ad_var log_p = ad_log_softmax(x, 0);
        ad_var loss = soft ? ad_sum(ad_mul(target[1], log_p), AD_ALL_AXES, false) : ad_pick(log_p, target[0]);
        ad_var y = ad_add(results[0], ad_sum(ad_mul(g, results[1]), AD_ALL_AXES, false));
        ad_var want = ad_sub(ad_sum(ad_mul(g, ad_softmax(x, 0)), AD_ALL_AXES, false), loss);
        expect_near(ad_item(y), ad_item(want), 1e-15);
        ad_var recorded, reference;
        ad_grad(want, none, 1, &x, &reference);
        ad_grad(y, none, 1, &x, &recorded);
        ad_backward(y);
        expect_ok(t);
        const ad_view walked = ad_gradient(x), taped = ad_value(recorded), wanted = ad_value(reference);
        for (int64_t i = 0; i < 3; i++) {
            expect_near(ad_view_get(&walked, i), ad_view_get(&wanted, i), 1e-15);
            expect_near(ad_view_get(&taped, i), ad_view_get(&wanted, i), 1e-15);
        }
    }
    ad_tape_free(t);
}
