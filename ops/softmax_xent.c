/* softmax_xent: the cross-entropy of softmax(x) against a target, per example, as one operation.
 *
 * Taken together the two layers have a simple derivative: the Jacobian of softmax, p_i (delta_ij - p_j), times that of
 * cross-entropy, -t_i / p_i, collapses to p - t (docs/derivations.md). Result 1 is p, which is what backward needs.
 *
 * Two ops share this file: softmax_xent for class indices, softmax_xent_soft for probabilities as the target. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* The shape of the losses: x's without its last axis. */
static ad_status xent_shape(ad_call *call) {
    const ad_shape *x = &call->in[0]->shape;
    ad_status status = ad_need_float(call, 0);
    if (status) return status;
    if (x->rank == 0)
        return ad_fail(call, AD_ERR_SHAPE, "%s: the logits need a last axis, of classes", ad_describe(call, 0));
    ad_shape loss = *x;
    loss.rank--;
    ad_set_out(call, 0, call->in[0]->dtype, loss);
    ad_set_out(call, 1, call->in[0]->dtype, *x);
    return AD_OK;
}

static ad_status xent_forward(ad_call *call) {
    ad_kernels_get()->softmax_xent(call->in[0], call->in[1], &call->out[0], &call->out[1]);
    return AD_OK;
}

/* Both cotangents, of the loss and of p, lead to x. */
static ad_status xent_backward_x(ad_call *call, ad_adjoint *adjoint) {
    const ad_kernels *kernels = ad_kernels_get();
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (!x_bar) return AD_OK;
    if (adjoint->seed[0].data) {
        kernels->softmax_xent_back(&adjoint->seed[0], &call->out[1], call->in[1], x_bar, add);
        add = true;
    }
    if (adjoint->seed[1].data)
        kernels->softmax_back(&adjoint->seed[1], &call->out[1], call->in[0]->shape.rank - 1, x_bar, add);
    return AD_OK;
}

/* [...] as [..., 1] */
static ad_var column(ad_var x, ad_shape shape) {
    shape.dim[shape.rank++] = 1;
    return ad_reshape(x, shape);
}

/* `collapsed` is what each example's cotangent of the loss is multiplied with: p sum(t) - t. */
static void xent_vjp_x(ad_vjp *v, ad_var collapsed) {
    ad_var p = ad_vjp_result(v, 1);
    if (ad_vjp_has_seed(v, 0)) {
        ad_var g = column(ad_vjp_seed(v, 0), ad_vjp_result_shape(v, 0));
        ad_vjp_give(v, 0, ad_masked_mul(g, collapsed));
    }
    if (ad_vjp_has_seed(v, 1)) {
        ad_var g = ad_vjp_seed(v, 1);
        ad_vjp_give(v, 0, ad_mul(p, ad_sub(g, ad_sum(ad_mul(g, p), AD_AXES(-1), AD_KEEPDIM))));
    }
}

static bool xent_case(int k, ad_shape *x, ad_shape *loss) {
    const ad_shape shapes[] = {AD_SHAPE(4, 5), AD_SHAPE(3), AD_SHAPE(2, 3, 4), AD_SHAPE(1, 1), AD_SHAPE(0, 3)};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *x = *loss = shapes[k];
    loss->rank--;
    return true;
}

/* ---- class indices as the target -------------------------------------------------------------------------------- */

static ad_status index_shape(ad_call *call) {
    ad_status status = xent_shape(call);
    if (!status) status = ad_need_integer(call, 1);
    if (status || ad_shape_equal(&call->out[0].shape, &call->in[1]->shape)) return status;
    char text[AD_TYPE_TEXT];
    return ad_fail(call, AD_ERR_SHAPE, "%s, so the class indices must be %s, but %s (a loss never broadcasts)",
                   ad_describe(call, 0), ad_type_text(call->in[1]->dtype, &call->out[0].shape, text),
                   ad_describe(call, 1));
}

static ad_status index_forward(ad_call *call) {
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[call->in[0]->shape.rank - 1]);
    return status ? status : xent_forward(call);
}

static void index_vjp(ad_vjp *v) {
    ad_shape x = ad_vjp_input_shape(v, 0), loss = ad_vjp_result_shape(v, 0), at = loss;
    at.dim[at.rank++] = 1;
    ad_var zeros = ad_broadcast_to(ad_vjp_number(v, 0), x), ones = ad_broadcast_to(ad_vjp_number(v, 1), at);
    ad_var one_hot = ad_scatter_add(zeros, -1, column(ad_vjp_input(v, 1), loss), ones);
    xent_vjp_x(v, ad_sub(ad_vjp_result(v, 1), one_hot));
}

/* How p moves with the logits; *mean gets <p, x_dot>, [..., 1], which is how the log of the sum of exponentials does. */
static ad_var push_p(ad_jvp *j, ad_var x_dot, ad_var *mean) {
    ad_var p = ad_jvp_result(j, 1), moved = ad_masked_mul(p, x_dot);
    *mean = ad_sum(moved, AD_AXES(-1), AD_KEEPDIM);
    return ad_sub(moved, ad_mul(p, *mean));
}

static void index_jvp(ad_jvp *j) {
    ad_var x_dot = ad_jvp_tangent(j, 0), mean;
    ad_jvp_give(j, 1, push_p(j, x_dot, &mean));
    ad_jvp_give(j, 0, ad_sub(ad_squeeze(mean, AD_AXES(-1)), ad_pick(x_dot, ad_jvp_input(j, 1))));
}

static bool index_sample(ad_sample *sample, int k) {
    ad_shape x, loss;
    return xent_case(k, &x, &loss) && ad_sample_normal(sample, x) && ad_sample_index(sample, loss, x.dim[x.rank - 1]);
}

const ad_op ad_op_softmax_xent = {
    .name = "softmax_xent",
    .inputs = 2,
    .results = 2,
    .saves = AD_SAVES_RESULT(1) | AD_SAVES_INPUT(1),
    .shape = index_shape,
    .forward = index_forward,
    .vjp = index_vjp,
    .jvp = index_jvp,
    .backward = xent_backward_x,
    .depends = ad_depends_rows,
    .formula = "$y = -log softmax($0)[$1]",
    .result_formula = {"$y1 = softmax($0)"},
    .adjoint = {"~0 += ~y * ($y1 - onehot($1))", ""},
    .sample = index_sample,
};

/* ---- probabilities as the target ---------------------------------------------------------------------------------- */

static ad_status soft_shape(ad_call *call) {
    ad_status status = xent_shape(call);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status || ad_shape_equal(&call->in[0]->shape, &call->in[1]->shape)) return status;
    return ad_fail(call, AD_ERR_SHAPE, "logits and probabilities differ in shape: %s, %s (a loss never broadcasts)",
                   ad_describe(call, 0), ad_describe(call, 1));
}

/* The loss is -sum t log p: linear in t. log p comes from x again, because p may have become 0. */
static void soft_vjp(ad_vjp *v) {
    ad_var t = ad_vjp_input(v, 1);
    if (ad_vjp_wants(v, 0)) {
        ad_var mass = ad_sum(t, AD_AXES(-1), AD_KEEPDIM);
        xent_vjp_x(v, ad_sub(ad_mul(ad_vjp_result(v, 1), mass), t));
    }
    if (ad_vjp_wants(v, 1) && ad_vjp_has_seed(v, 0)) {
        ad_var g = column(ad_vjp_seed(v, 0), ad_vjp_result_shape(v, 0));
        ad_vjp_give(v, 1, ad_masked_mul(g, ad_neg(ad_log_softmax(ad_vjp_input(v, 0), -1))));
    }
}

static ad_status soft_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_status status = xent_backward_x(call, adjoint);
    if (status || !ad_wants(adjoint, 1) || !adjoint->seed[0].data) return status;
    ad_view minus_log_p = ad_scratch_view(call, call->in[0]->dtype, call->in[0]->shape);
    ad_view g = ad_scratch_view(call, call->in[0]->dtype, call->in[0]->shape);
    if (!minus_log_p.data || !g.data) return AD_ERR_OOM;
    const ad_kernels *kernels = ad_kernels_get();
    int last = call->in[0]->shape.rank - 1;
    ad_view seed = adjoint->seed[0];
    seed.shape.dim[last] = 1;
    seed.stride[last] = 0;
    seed.shape.rank++;
    seed = ad_stretched(&seed, &call->in[0]->shape);
    kernels->log_softmax(call->in[0], last, &minus_log_p);
    kernels->copy(&seed, &g, -1, false);
    bool add;
    const ad_view *t_bar = ad_into(adjoint, 1, &add);
    if (t_bar) kernels->binary_back(AD_BINARY_mul, 0, &g, &g, &minus_log_p, &g, t_bar, add);
    return AD_OK;
}

static void soft_jvp(ad_jvp *j) {
    ad_var t = ad_jvp_input(j, 1), mean;
    if (ad_jvp_moves(j, 0)) {
        ad_var x_dot = ad_jvp_tangent(j, 0);
        ad_jvp_give(j, 1, push_p(j, x_dot, &mean));
        ad_jvp_give(j, 0, ad_sum(ad_masked_mul(t, ad_sub(mean, x_dot)), AD_AXES(-1), false));
    }
    if (ad_jvp_moves(j, 1)) {
        ad_var log_p = ad_log_softmax(ad_jvp_input(j, 0), -1);
        ad_jvp_give(j, 0, ad_neg(ad_sum(ad_masked_mul(ad_jvp_tangent(j, 1), log_p), AD_AXES(-1), false)));
    }
}

static bool soft_sample(ad_sample *sample, int k) {
    ad_shape x, loss;
    return xent_case(k, &x, &loss) && ad_sample_normal(sample, x) && ad_sample_simplex(sample, x);
}

const ad_op ad_op_softmax_xent_soft = {
    .name = "softmax_xent_soft",
    .inputs = 2,
    .results = 2,
    .saves = AD_SAVES_RESULT(1) | AD_SAVES_INPUTS,
    .shape = soft_shape,
    .forward = xent_forward,
    .vjp = soft_vjp,
    .jvp = soft_jvp,
    .backward = soft_backward,
    .depends = ad_depends_rows,
    .formula = "$y = -<$1, log softmax($0)>",
    .result_formula = {"$y1 = softmax($0)"},
    .adjoint = {"~0 += ~y * ($y1 * sum($1) - $1)", "~1 -= ~y * log softmax($0)"},
    .sample = soft_sample,
};

ad_var ad_softmax_xent_at(const char *where, ad_var x, ad_var target) {
    bool soft = ad_var_is_valid(target) && ad_dtype_is_float(ad_value_at(where, target).dtype);
    return ad_apply_2(where, soft ? &ad_op_softmax_xent_soft : &ad_op_softmax_xent, x, target, NULL);
}
