/* Order statistics along an axis: median and quantile. The gradient goes to the elements that the value was read from. */
#include "ops/kernels/along.h"
#include "ops/ops.h"

#include <math.h>

typedef struct quantile_attrs {
    ad_reduce_attrs reduce;
    double q;
} quantile_attrs;

/* Results 1 and 2 are the indices of the elements below and above the position; they may be one array. */
static ad_status at_position(ad_call *call, double position, int below, int above) {
    const ad_reduce_attrs *attrs = call->attrs;
    ad_view y = ad_as_kept(call, &call->out[0]), lower = ad_as_kept(call, &call->out[below]),
            upper = ad_as_kept(call, &call->out[above]);
    int axis = ad_axis_index(attrs->axes.axis[0], call->in[0]->shape.rank);
    ad_kernel_quantile(call->in[0], axis, position, &y, &lower, &upper);
    return AD_OK;
}

/* ---- median ------------------------------------------------------------------------------------------------------ */

static ad_status median_forward(ad_call *call) {
    return at_position(call, (double)((ad_reduced_count(call) - 1) / 2), 1, 1);
}

static void median_vjp(ad_vjp *v) { ad_give_picked_by_reduction(v, ad_vjp_result(v, 1), ad_vjp_seed(v, 0)); }

static void median_jvp(ad_jvp *j) { ad_jvp_give(j, 0, ad_tangent_picked_by_reduction(j, ad_jvp_result(j, 1))); }

const ad_op ad_op_median = {
    .name = "median",
    .inputs = 1,
    .results = 2,
    .attrs_size = sizeof(ad_reduce_attrs),
    .attrs = ad_pick_attr_list,
    .saves = AD_SAVES_RESULT(1),
    .shape = ad_pick_shape,
    .forward = median_forward,
    .vjp = median_vjp,
    .backward = ad_pick_backward,
    .jvp = median_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = median($0, $a)",
    .result_formula = {"$y1 = its index"},
    .adjoint = {"~0[$y1] += ~y"},
    .convention = "of equal elements the first gets the gradient",
    .show_attrs = ad_show_reduce,
    .sample = ad_sample_pick,
};

ad_var ad_median_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index) {
    return ad_apply_pick(where, &ad_op_median, x, axis, keepdim, index);
}

/* ---- quantile ---------------------------------------------------------------------------------------------------- */

static ad_status quantile_shape(ad_call *call) {
    double q = ((const quantile_attrs *)call->attrs)->q;
    if (!(q >= 0 && q <= 1)) return ad_fail(call, AD_ERR_VALUE, "q is %g, but it must be in [0, 1]", q);
    return ad_pick_shape(call);
}

static double position_in(const quantile_attrs *attrs, ad_shape shape) {
    int axis = ad_axis_index(attrs->reduce.axes.axis[0], shape.rank);
    return attrs->q * (double)(shape.dim[axis] - 1);
}

/* How much of the value is that of the element above. */
static double weight_above(const quantile_attrs *attrs, ad_shape shape) {
    double position = position_in(attrs, shape);
    return position - floor(position);
}

static ad_status quantile_forward(ad_call *call) {
    return at_position(call, position_in(call->attrs, call->in[0]->shape), 1, 2);
}

static void quantile_vjp(ad_vjp *v) {
    double weight = weight_above(ad_vjp_attrs(v), ad_vjp_input_shape(v, 0));
    ad_var g = ad_vjp_seed(v, 0);
    ad_give_picked_by_reduction(v, ad_vjp_result(v, 1), ad_scale(g, 1 - weight));
    if (weight > 0) ad_give_picked_by_reduction(v, ad_vjp_result(v, 2), ad_scale(g, weight));
}

static void quantile_jvp(ad_jvp *j) {
    double weight = weight_above(ad_jvp_attrs(j), ad_value(ad_jvp_input(j, 0)).shape);
    ad_jvp_give(j, 0, ad_scale(ad_tangent_picked_by_reduction(j, ad_jvp_result(j, 1)), 1 - weight));
    if (weight > 0) ad_jvp_give(j, 0, ad_scale(ad_tangent_picked_by_reduction(j, ad_jvp_result(j, 2)), weight));
}

static void show_quantile(const void *attrs, char *text, size_t size) {
    const quantile_attrs *quantile = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%g, axis %d", quantile->q, quantile->reduce.axes.axis[0]);
}

static bool quantile_sample(ad_sample *sample, int k) {
    const double q[] = {0.3, 0.5, 0.75, 0, 1, 0.5};
    if (!ad_sample_pick(sample, k)) return false;
    ((quantile_attrs *)(void *)sample->attrs.bytes)->q = q[k];
    return true;
}

const ad_op ad_op_quantile = {
    .name = "quantile",
    .inputs = 1,
    .results = 3,
    .attrs_size = sizeof(quantile_attrs),
    .attrs = AD_ATTRS(AD_ATTR("q", DOUBLE, quantile_attrs, q, AD_REQUIRED),
                      AD_ATTR("axis", AXES, quantile_attrs, reduce.axes, AD_REQUIRED),
                      AD_ATTR("keepdim", BOOL, quantile_attrs, reduce.keepdim, AD_USUALLY(false))),
    .saves = AD_SAVES_RESULT(1) | AD_SAVES_RESULT(2),
    .shape = quantile_shape,
    .forward = quantile_forward,
    .vjp = quantile_vjp,
    .jvp = quantile_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = quantile($0, $a)",
    .result_formula = {"$y1 = the index below", "$y2 = the index above"},
    .adjoint = {"~0[$y1] += (1 - w) * ~y, ~0[$y2] += w * ~y"},
    .convention = "of equal elements the first gets the gradient",
    .show_attrs = show_quantile,
    .sample = quantile_sample,
};

ad_var ad_quantile_at(const char *where, ad_var x, double q, int axis, bool keepdim) {
    quantile_attrs attrs = {.reduce = {.axes = AD_AXES(axis), .keepdim = keepdim}, .q = q};
    return ad_apply_1(where, &ad_op_quantile, x, &attrs);
}
