/* Every op against PyTorch: its value and its gradients, walked back numerically and recorded, in f64 and f32, with its
 * operands in any layout; and what each op does at the edges of its domain. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);
TestSuite(edge, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

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
