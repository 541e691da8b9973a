/* Determinants: det, whose derivative is cofactor, slogdet, logdet. */
#include "ops/linalg.h"

#include <math.h>

static ad_status determinant_shape(ad_call *call) {
    ad_status status = ad_need_square(call, 0);
    if (status) return status;
    ad_shape stack = call->in[0]->shape;
    stack.rank -= 2;
    for (int k = 0; k < ad_op_results(call->op); k++) ad_set_out(call, k, call->in[0]->dtype, stack);
    return AD_OK;
}

typedef struct determinant {
    double sign, log, value; /* value = sign e^log */
} determinant;

static determinant determinant_of(const ad_matrix *lu, int64_t *order) {
    const double start = ad_kernel_order_sign(order, lu->rows);
    determinant d = {.sign = start, .log = 0, .value = start};
    for (int64_t i = 0; i < lu->rows; i++) {
        double pivot = ad_matrix_get(lu, i, i);
        d.value *= pivot;
        d.log += log(fabs(pivot));
        d.sign *= isnan(pivot) ? pivot : (pivot > 0) - (pivot < 0);
    }
    return d;
}

/* Calls put(call, number, d) for each matrix. */
static ad_status each_determinant(ad_call *call, ad_status (*put)(ad_call *call, int64_t number, determinant d)) {
    ad_view lu, order;
    ad_scratch_factors(call, &lu, &order);
    if (!order.data) return AD_ERR_OOM;
    ad_status status = ad_factor_stack(call, call->in[0], &lu, &order, false);
    ad_view rows = ad_insert_axis(&order, order.shape.rank - 1);
    const ad_view *views[] = {&lu, &rows};
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s))
        status = put(call, s.number, determinant_of(&s.matrix[0], s.matrix[1].data));
    return status;
}

static void put_number(const ad_view *y, int64_t number, double value) {
    ad_element_set((char *)y->data + number * (int64_t)ad_dtype_size(y->dtype), y->dtype, value);
}

/* [...] as [..., 1, 1], to multiply matrices with */
static ad_var for_matrices(ad_var x) { return ad_unsqueeze(ad_unsqueeze(x, -1), -1); }

/* Of the dtype of `like`. */
static ad_var identity(ad_var like, int64_t n) {
    return ad_diag_embed(ad_broadcast_to(ad_number_like(AD_HERE, like, 1), AD_SHAPE(n)), 0);
}

static ad_var inner_product(ad_var a, ad_var b) { return ad_sum(ad_mul(a, b), AD_AXES(-2, -1), false); }

/* ---- det --------------------------------------------------------------------------------------------------------- */

static ad_status put_det(ad_call *call, int64_t number, determinant d) {
    put_number(&call->out[0], number, d.value);
    return AD_OK;
}
static ad_status det_forward(ad_call *call) { return each_determinant(call, put_det); }

static void det_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_masked_mul(for_matrices(ad_vjp_seed(v, 0)), ad_cofactor(ad_vjp_input(v, 0))));
}

static void det_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, inner_product(ad_cofactor(ad_jvp_input(j, 0)), ad_jvp_tangent(j, 0)));
}

/* Random numbers; the rows from `rank` on are sums of those before, with other weights each. */
static bool singular_sample(ad_sample *sample, ad_shape shape, int64_t rank) {
    if (!ad_sample_normal(sample, shape)) return false;
    const ad_view *view = ad_tensor_view(sample->input[sample->inputs - 1]);
    for (ad_stack s = ad_stack_start(1, &view); s.more; ad_stack_next(&s)) {
        const ad_matrix *a = &s.matrix[0];
        for (int64_t i = rank; i < a->rows; i++) {
            for (int64_t j = 0; j < a->columns; j++) {
                double sum = 0;
                for (int64_t k = 0; k < rank; k++) sum += (double)(i + k + 1) / 4 * ad_matrix_get(a, k, j);
                ad_matrix_set(a, i, j, sum);
            }
        }
    }
    return true;
}

static bool det_sample(ad_sample *sample, int k) {
    return k == 6 ? singular_sample(sample, AD_SHAPE(2, 3, 3), 2) : ad_sample_square(sample, k);
}

const ad_op ad_op_det = {
    .name = "det",
    .inputs = 1,
    .saves = AD_SAVES_INPUT(0),
    .shape = determinant_shape,
    .forward = det_forward,
    .vjp = det_vjp,
    .jvp = det_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = det $0",
    .adjoint = {"~0 += ~y * cofactor($0)"},
    .sample = det_sample,
};

ad_var ad_det_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_det, a, NULL); }

/* ---- cofactor ---------------------------------------------------------------------------------------------------- */

static ad_status cofactor_forward(ad_call *call) {
    const ad_view *views[] = {call->in[0], &call->out[0]};
    ad_status status = ad_need_finite_matrices(call, 0);
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_cofactor(&s.matrix[0], &s.matrix[1], ad_scratch_arena(call)),
                                 "does not converge", "");
    return status;
}

/* [batch..., n, n] as [all, n, n], which leaves room for more axes */
static ad_var as_one_stack(ad_var x, ad_shape shape) {
    ad_shape folded = AD_SHAPE(1, 1, 1);
    for (int i = 0; i < shape.rank; i++) folded.dim[i < shape.rank - 2 ? 0 : i - shape.rank + 3] *= shape.dim[i];
    return ad_reshape(x, folded);
}

/* e[i,j], i != j: the product of all s but s[i] and s[j]; 0 on the diagonal. */
static ad_var products_without_pairs(ad_var s, int64_t n) {
    ad_var one = identity(s, n), left_out = ad_add(ad_unsqueeze(one, 1), one); /* [i,j,k]: k is i or j */
    ad_var factors = ad_where(left_out, ad_number_like(AD_HERE, s, 1), ad_unsqueeze(ad_unsqueeze(s, -2), -2));
    return ad_where(one, ad_number_like(AD_HERE, s, 0), ad_prod(factors, AD_AXES(-1), false));
}

/* How the cofactors of a move with a step: in the basis of the singular vectors, where a is diag(s) up to the sign of their
 * determinants, a step x changes them by sum_j e[i,j] x[j,j] on the diagonal and by -e[i,j] x[j,i] beside it. They are the
 * gradient of det, so this map is symmetric, its own transpose. */
static ad_var times_jacobian(ad_var a, ad_var step) {
    ad_shape shape = ad_value(step).shape;
    if (!ad_var_is_valid(step)) return step;
    ad_var u, vt, u_sign, v_sign, s = ad_svd(as_one_stack(a, shape), &u, &vt);
    ad_slogdet(u, &u_sign);
    ad_slogdet(vt, &v_sign);
    ad_var sign = for_matrices(ad_mul(u_sign, v_sign)), g = as_one_stack(step, shape);
    ad_var h = ad_mul(sign, ad_matmul(ad_transpose(u), ad_matmul(g, ad_transpose(vt))));
    ad_var e = products_without_pairs(s, shape.dim[shape.rank - 1]);
    ad_var on_diagonal = ad_matmul(e, ad_unsqueeze(ad_diagonal(h, 0, -2, -1), -1));
    ad_var x = ad_sub(ad_diag_embed(ad_squeeze(on_diagonal, AD_AXES(-1)), 0), ad_transpose(ad_mul(e, h)));
    return ad_reshape(ad_matmul(u, ad_matmul(x, vt)), shape);
}

static void cofactor_vjp(ad_vjp *v) { ad_vjp_give(v, 0, times_jacobian(ad_vjp_input(v, 0), ad_vjp_seed(v, 0))); }

static void cofactor_jvp(ad_jvp *j) { ad_jvp_give(j, 0, times_jacobian(ad_jvp_input(j, 0), ad_jvp_tangent(j, 0))); }

const ad_op ad_op_cofactor = {
    .name = "cofactor",
    .inputs = 1,
    .saves = AD_SAVES_INPUT(0),
    .shape = ad_shape_like_square_input,
    .forward = cofactor_forward,
    .vjp = cofactor_vjp,
    .jvp = cofactor_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = cofactors of $0",
    .adjoint =
        {"~0 += U (diag(E diag(h)) - (E * h)^T) V^T, h = U^T ~y V, E: products of all s but two; $0 = U diag(s) V^T"},
    .convention = "its second derivative needs distinct singular values",
    .sample = det_sample,
};

ad_var ad_cofactor_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_cofactor, a, NULL); }

/* ---- slogdet, logdet --------------------------------------------------------------------------------------------- */

static ad_status put_slogdet(ad_call *call, int64_t number, determinant d) {
    put_number(&call->out[0], number, d.log);
    put_number(&call->out[1], number, d.sign);
    return AD_OK;
}
static ad_status slogdet_forward(ad_call *call) { return each_determinant(call, put_slogdet); }

static ad_status put_logdet(ad_call *call, int64_t number, determinant d) {
    put_number(&call->out[0], number, d.log);
    if (!(d.sign < 0)) return AD_OK;
    return ad_fail(call, AD_ERR_VALUE, "the determinant of %s is negative (%s): ad_slogdet takes its absolute value",
                   ad_matrix_name(call, 0, number), ad_describe(call, 0));
}
static ad_status logdet_forward(ad_call *call) { return each_determinant(call, put_logdet); }

/* The inverse of a singular matrix is an error, but not if nothing is asked of it: it is then that of I. */
static ad_var inverse_where_asked(ad_vjp *v) {
    ad_var a = ad_vjp_input(v, 0), y = ad_vjp_result(v, 0), one = ad_vjp_number(v, 1);
    ad_shape shape = ad_vjp_input_shape(v, 0);
    ad_var is_regular = ad_greater(y, ad_vjp_number(v, -INFINITY));
    ad_var asked = for_matrices(ad_where(is_regular, one, ad_vjp_seed(v, 0)));
    return ad_inverse(ad_where(asked, a, identity(a, shape.dim[shape.rank - 1])));
}

static void logdet_vjp(ad_vjp *v) {
    if (!ad_vjp_has_seed(v, 0)) return;
    ad_vjp_give(v, 0, ad_masked_mul(for_matrices(ad_vjp_seed(v, 0)), ad_transpose(inverse_where_asked(v))));
}

/* The sign does not move. */
static void logdet_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, inner_product(ad_transpose(ad_inverse(ad_jvp_input(j, 0))), ad_jvp_tangent(j, 0)));
}

static bool slogdet_sample(ad_sample *sample, int k) {
    if (!ad_sample_square(sample, k)) return false;
    if (k % 2) ad_sample_reverse_columns(sample); /* negative determinants too */
    return true;
}

const ad_op ad_op_slogdet = {
    .name = "slogdet",
    .inputs = 1,
    .results = 2,
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = determinant_shape,
    .forward = slogdet_forward,
    .vjp = logdet_vjp,
    .jvp = logdet_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = log |det $0|",
    .result_formula = {"$y1 = sign of det $0"},
    .adjoint = {"~0 += ~y * $0^-T"},
    .convention = "$0 singular: -inf and sign 0; a gradient is an error, unless ~y is 0",
    .sample = slogdet_sample,
};

ad_var ad_slogdet_at(const char *where, ad_var a, ad_var *sign) {
    ad_var results[2];
    ad_var y = ad_apply_at(where, a.tape, &ad_op_slogdet, 1, &a, NULL, results);
    if (sign) *sign = results[1];
    return y;
}

const ad_op ad_op_logdet = {
    .name = "logdet",
    .inputs = 1,
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = determinant_shape,
    .forward = logdet_forward,
    .vjp = logdet_vjp,
    .jvp = logdet_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = log det $0",
    .adjoint = {"~0 += ~y * $0^-T"},
    .convention = "$0 singular: -inf; a gradient is an error, unless ~y is 0. A negative determinant: an error",
    .sample = ad_sample_square,
};

ad_var ad_logdet_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_logdet, a, NULL); }
