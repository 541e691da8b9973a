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

/* L(a, e) */
static ad_var derivative(ad_var zero, ad_var a, ad_var e, ad_shape shape) {
    int64_t n = shape.dim[shape.rank - 1];
    ad_var above = ad_cat(AD_VARS(a, e), -1), below = ad_cat(AD_VARS(ad_broadcast_to(zero, shape), a), -1);
    ad_var y = ad_matrix_exp(ad_cat(AD_VARS(above, below), -2));
    return ad_slice(ad_slice(y, -2, 0, n, 1), -1, n, AD_TO_END, 1);
}

static void matrix_exp_vjp(ad_vjp *v) {
    ad_var at = ad_transpose(ad_vjp_input(v, 0));
    ad_vjp_give(v, 0, derivative(ad_vjp_number(v, 0), at, ad_vjp_seed(v, 0), ad_vjp_input_shape(v, 0)));
}

static void matrix_exp_jvp(ad_jvp *j) {
    ad_var a = ad_jvp_input(j, 0);
    ad_jvp_give(j, 0, derivative(ad_jvp_number(j, 0), a, ad_jvp_tangent(j, 0), ad_value(a).shape));
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
    .depends = ad_depends_stacked,
    .formula = "$y = exp($0), of the matrix",
    .adjoint = {"~0 += L($0^T, ~y), the upper right of exp [$0^T ~y; 0 $0^T]"},
    .sample = matrix_exp_sample,
};

ad_var ad_matrix_exp_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_matrix_exp, a, NULL); }
