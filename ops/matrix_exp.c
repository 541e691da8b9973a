/* matrix_exp: the exponential of a matrix, I + A + A^2 / 2 + ...
 *
 * Its derivative in a direction E is a block of a larger exponential (Najfeld and Havel 1995):
 *
 *     exp [A E]  =  [exp(A)  L(A, E)]
 *         [0 A]     [0       exp(A) ]
 *
 * and the transpose of L(A, .) is L(A^T, .). So derivatives of any order are exponentials again. */
#include "ops/linalg.h"

static ad_status matrix_exp_forward(ad_call *call) {
    const ad_view *views[] = {call->in[0], &call->out[0]};
    ad_status status = ad_need_finite_matrices(call, 0);
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_matrix_exp(&s.matrix[0], &s.matrix[1], ad_scratch_arena(call)),
                                 "has an exponential that overflows", "");
    return status;
}

/* L(a, e). The blocks are put together, and the one wanted is taken out, by products with 2 x 2 patterns of 0 and 1. */
static ad_var derivative(ad_var one, ad_var a, ad_var e) {
    ad_shape shape = ad_value(a).shape;
    a = ad_as_one_stack(a);
    e = ad_as_one_stack(e);
    ad_shape stack = ad_value(a).shape;
    int64_t count = stack.dim[0], n = stack.dim[2];
    ad_shape blocks = AD_SHAPE(count, 2, n, 2, n), block = AD_SHAPE(count, 1, n, 1, n),
             pattern = AD_SHAPE(2, 1, 2, 1);
    ad_var ones = ad_broadcast_to(one, AD_SHAPE(2, 2)), above = ad_triangle(ones, AD_UPPER, 0);
    ad_var diagonal = ad_sub(ad_triangle(ones, AD_UPPER, 1), above);
    above = ad_reshape(above, pattern);
    ad_var x = ad_add(ad_mul(ad_reshape(diagonal, pattern), ad_reshape(a, block)),
                      ad_mul(above, ad_reshape(e, block)));
    ad_var y = ad_reshape(ad_matrix_exp(ad_reshape(x, AD_SHAPE(count, 2 * n, 2 * n))), blocks);
    return ad_reshape(ad_sum(ad_mul(above, y), AD_AXES(1, 3), false), shape);
}

static void matrix_exp_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, derivative(ad_vjp_number(v, 1), ad_transpose(ad_vjp_input(v, 0)), ad_vjp_seed(v, 0)));
}

static void matrix_exp_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, derivative(ad_jvp_number(j, 1), ad_jvp_input(j, 0), ad_jvp_tangent(j, 0)));
}

static bool matrix_exp_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3), AD_SHAPE(2, 2, 2), AD_SHAPE(1, 1),
                               AD_SHAPE(0, 0), AD_SHAPE(0, 2, 2), AD_SHAPE(2, 1, 2, 2)};
    return k < (int)(sizeof shapes / sizeof *shapes) && ad_sample_normal(sample, shapes[k]);
}

const ad_op ad_op_matrix_exp = {
    .name = "matrix_exp",
    .inputs = 1,
    .saves = AD_SAVES_INPUT(0),
    .shape = ad_shape_like_square_input,
    .forward = matrix_exp_forward,
    .vjp = matrix_exp_vjp,
    .jvp = matrix_exp_jvp,
    .formula = "$y = exp($0), of the matrix",
    .adjoint = {"~0 += L($0^T, ~y), the upper right of exp [$0^T ~y; 0 $0^T]"},
    .sample = matrix_exp_sample,
};

ad_var ad_matrix_exp_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_matrix_exp, a, NULL); }
