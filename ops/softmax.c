/* softmax and log_softmax along an axis. */
#include "ops/ops.h"

static int attr_axis(const ad_call *call) {
    int rank = call->in[0]->shape.rank;
    return rank ? ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, rank) : 0;
}

/* A single number counts as a row of one. */
static ad_status softmax_shape(ad_call *call) {
    int axis = ((const ad_axis_attrs *)call->attrs)->axis;
    bool is_number = call->in[0]->shape.rank == 0 && (axis == 0 || axis == -1);
    if (!is_number && ad_need_axis(call, 0, axis) < 0) return AD_ERR_INDEX;
    return ad_shape_like_input(call);
}

static ad_var row_sum(ad_var x, const void *attrs) {
    if (ad_value(x).shape.rank == 0) return x;
    return ad_sum(x, AD_AXES(((const ad_axis_attrs *)attrs)->axis), AD_KEEPDIM);
}

static bool softmax_sample(ad_sample *sample, int k) {
    const int axes[] = {-1, 0, 0, 2, 1, 0};
    ad_shape shape;
    if (!ad_sample_shape(k, &shape)) return false;
    *(int *)(void *)sample->attrs.bytes = axes[k];
    return ad_sample_normal(sample, shape);
}

/* ---- softmax ---------------------------------------------------------------------------------------------------- */

static ad_status softmax_forward(ad_call *call) {
    ad_kernels_get()->softmax(call->in[0], attr_axis(call), &call->out[0]);
    return AD_OK;
}

/* g y, but 0 where either is 0, whatever the other is. */
static ad_var masked_product(ad_var g, ad_var y, ad_var zero) { return ad_where(y, ad_masked_mul(g, y), zero); }

/* J = diag(y) - y y^T is symmetric, so J^T g = J g = y (g - <g, y>). */
static ad_var times_jacobian(ad_var y, ad_var g, ad_var zero, const void *attrs) {
    return masked_product(ad_sub(g, row_sum(masked_product(g, y, zero), attrs)), y, zero);
}

static void softmax_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, times_jacobian(ad_vjp_result(v, 0), ad_vjp_seed(v, 0), ad_vjp_number(v, 0), ad_vjp_attrs(v)));
}

static void softmax_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0,
                times_jacobian(ad_jvp_result(j, 0), ad_jvp_tangent(j, 0), ad_jvp_number(j, 0), ad_jvp_attrs(j)));
}

static ad_status softmax_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) ad_kernels_get()->softmax_back(&adjoint->seed[0], &call->out[0], attr_axis(call), x_bar, add);
    return AD_OK;
}

const ad_op ad_op_softmax = {
    .name = "softmax",
    .inputs = 1,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = AD_ATTRS(AD_ATTR("axis", INT, ad_axis_attrs, axis, AD_USUALLY(-1))),
    .saves = AD_SAVES_RESULT(0),
    .shape = softmax_shape,
    .forward = softmax_forward,
    .vjp = softmax_vjp,
    .backward = softmax_backward,
    .batches = ad_batches_axis,
    .jvp = softmax_jvp,
    .depends = ad_depends_along,
    .formula = "$y = softmax($0, $a)",
    .adjoint = {"~0 += $y * (~y - <~y, $y>)"},
    .convention = "a row of all -inf: zeros, and gradient 0",
    .show_attrs = ad_show_axis,
    .sample = softmax_sample,
};

ad_var ad_softmax_at(const char *where, ad_var x, int axis) {
    ad_axis_attrs attrs = {axis};
    return ad_apply_1(where, &ad_op_softmax, x, &attrs);
}

/* ---- log_softmax -------------------------------------------------------------------------------------------------- */

static ad_status log_softmax_forward(ad_call *call) {
    ad_kernels_get()->log_softmax(call->in[0], attr_axis(call), &call->out[0]);
    return AD_OK;
}

/* g - softmax(x) sum(g); in a row of all -inf the probabilities sum to 0, not 1, and nothing is passed on. */
static void log_softmax_vjp(ad_vjp *v) {
    ad_var p = ad_exp(ad_vjp_result(v, 0)), g = ad_vjp_seed(v, 0), mass = row_sum(p, ad_vjp_attrs(v));
    ad_var kept = ad_where(mass, g, ad_vjp_number(v, 0));
    ad_vjp_give(v, 0, ad_sub(kept, ad_masked_mul(row_sum(g, ad_vjp_attrs(v)), p)));
}

/* t - <softmax(x), t> */
static void log_softmax_jvp(ad_jvp *j) {
    ad_var p = ad_exp(ad_jvp_result(j, 0)), t = ad_jvp_tangent(j, 0), zero = ad_jvp_number(j, 0);
    ad_var is_row = ad_greater(row_sum(p, ad_jvp_attrs(j)), zero);
    ad_jvp_give(j, 0, ad_where(is_row, ad_sub(t, row_sum(ad_masked_mul(p, t), ad_jvp_attrs(j))), zero));
}

static ad_status log_softmax_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) ad_kernels_get()->log_softmax_back(&adjoint->seed[0], &call->out[0], attr_axis(call), x_bar, add);
    return AD_OK;
}

const ad_op ad_op_log_softmax = {
    .name = "log_softmax",
    .inputs = 1,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = AD_ATTRS(AD_ATTR("axis", INT, ad_axis_attrs, axis, AD_USUALLY(-1))),
    .saves = AD_SAVES_RESULT(0),
    .shape = softmax_shape,
    .forward = log_softmax_forward,
    .vjp = log_softmax_vjp,
    .backward = log_softmax_backward,
    .batches = ad_batches_axis,
    .jvp = log_softmax_jvp,
    .depends = ad_depends_along,
    .formula = "$y = log softmax($0, $a)",
    .adjoint = {"~0 += ~y - exp($y) * sum(~y)"},
    .convention = "a row of all -inf: -inf, and gradient 0",
    .show_attrs = ad_show_axis,
    .sample = softmax_sample,
};

ad_var ad_log_softmax_at(const char *where, ad_var x, int axis) {
    ad_axis_attrs attrs = {axis};
    return ad_apply_1(where, &ad_op_log_softmax, x, &attrs);
}
