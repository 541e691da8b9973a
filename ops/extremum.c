/* The largest and the smallest element: along an axis, with its index (max, min), the index alone (argmax, argmin), and
 * over any axes (amax, amin). max and min pick one element, the first of those that are equal, and it alone gets the
 * gradient; amax and amin share it between them. A NaN is larger and smaller than any number. */
#include "ops/kernels/along.h"
#include "ops/ops.h"

#include <string.h>

/* ---- picking elements along an axis --------------------------------------------------------------------------------- */

void ad_give_picked(ad_vjp *v, int axis, ad_shape shape, ad_var index, ad_var g) {
    ad_var zeros = ad_broadcast_to(ad_vjp_number(v, 0), ad_vjp_input_shape(v, 0));
    ad_vjp_give(v, 0, ad_scatter_add(zeros, axis, ad_reshape(index, shape), ad_reshape(g, shape)));
}

ad_var ad_picked_tangent(ad_jvp *j, int axis, ad_shape shape, ad_var index) {
    ad_var picked = ad_gather(ad_jvp_tangent(j, 0), axis, ad_reshape(index, shape));
    return ad_reshape(picked, ad_value(index).shape);
}

static int axis_of(const ad_reduce_attrs *attrs) { return attrs->axes.axis[0]; }

void ad_give_picked_by_reduction(ad_vjp *v, ad_var index, ad_var g) {
    const ad_reduce_attrs *attrs = ad_vjp_attrs(v);
    ad_give_picked(v, axis_of(attrs), ad_kept_shape(attrs, ad_vjp_input_shape(v, 0)), index, g);
}

ad_var ad_tangent_picked_by_reduction(ad_jvp *j, ad_var index) {
    const ad_reduce_attrs *attrs = ad_jvp_attrs(j);
    ad_shape shape = ad_value(ad_jvp_input(j, 0)).shape;
    return ad_picked_tangent(j, axis_of(attrs), ad_kept_shape(attrs, shape), index);
}

ad_status ad_pick_shape(ad_call *call) {
    ad_status status = ad_reduce_shape(call);
    if (!status) status = ad_need_elements(call);
    for (int k = 1; k < call->op->results; k++) ad_set_out(call, k, AD_I64, call->out[0].shape);
    return status;
}

bool ad_sample_pick(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4),
                               AD_SHAPE(5),    AD_SHAPE(0, 3), AD_SHAPE(2, 1)};
    const int axes[] = {-1, 0, 1, 0, 1, 1};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    ad_reduce_attrs attrs = {.axes = AD_AXES(axes[k]), .keepdim = k % 2};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return ad_sample_normal(sample, shapes[k]);
}

ad_var ad_apply_pick(const char *where, const ad_op *op, ad_var x, int axis, bool keepdim, ad_var *index) {
    ad_reduce_attrs attrs = {.axes = AD_AXES(axis), .keepdim = keepdim};
    ad_var results[AD_MAX_RESULTS];
    ad_apply_at(where, x.tape, op, 1, &x, &attrs, results);
    if (index) *index = results[1];
    return results[0];
}

/* ---- max, min --------------------------------------------------------------------------------------------------- */

static ad_status extremum_forward(ad_call *call, int sign) {
    ad_view value = ad_as_kept(call, &call->out[0]), index = ad_as_kept(call, &call->out[1]);
    int axis = ad_axis_index(axis_of(call->attrs), call->in[0]->shape.rank);
    ad_kernel_extremum(call->in[0], axis, sign, &index, &value);
    return AD_OK;
}

static ad_status max_forward(ad_call *call) { return extremum_forward(call, 1); }
static ad_status min_forward(ad_call *call) { return extremum_forward(call, -1); }

static void extremum_vjp(ad_vjp *v) { ad_give_picked_by_reduction(v, ad_vjp_result(v, 1), ad_vjp_seed(v, 0)); }

static void extremum_jvp(ad_jvp *j) { ad_jvp_give(j, 0, ad_tangent_picked_by_reduction(j, ad_jvp_result(j, 1))); }

#define EXTREMUM(text)                                                                                               \
    {                                                                                                                \
        .name = #text, .inputs = 1, .results = 2, .attrs_size = sizeof(ad_reduce_attrs),                             \
        .saves = AD_SAVES_RESULT(1), .shape = ad_pick_shape, .forward = text##_forward, .vjp = extremum_vjp,         \
        .jvp = extremum_jvp, .formula = "$y = " #text "($0, $a)", .result_formula = {"$y1 = arg" #text "($0, $a)"},  \
        .adjoint = {"~0[$y1] += ~y"}, .convention = "of equal elements the first gets the gradient",                 \
        .show_attrs = ad_show_reduce, .sample = ad_sample_pick,                                                      \
    }
const ad_op ad_op_max = EXTREMUM(max), ad_op_min = EXTREMUM(min);

ad_var ad_max_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index) {
    return ad_apply_pick(where, &ad_op_max, x, axis, keepdim, index);
}
ad_var ad_min_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index) {
    return ad_apply_pick(where, &ad_op_min, x, axis, keepdim, index);
}

/* ---- argmax, argmin ------------------------------------------------------------------------------------------------ */

static ad_status arg_shape(ad_call *call) {
    ad_status status = ad_pick_shape(call);
    call->out[0].dtype = AD_I64;
    return status;
}

static ad_status arg_forward(ad_call *call, int sign) {
    ad_view index = ad_as_kept(call, &call->out[0]);
    ad_kernel_extremum(call->in[0], ad_axis_index(axis_of(call->attrs), call->in[0]->shape.rank), sign, &index, NULL);
    return AD_OK;
}

static ad_status argmax_forward(ad_call *call) { return arg_forward(call, 1); }
static ad_status argmin_forward(ad_call *call) { return arg_forward(call, -1); }

#define ARG_EXTREMUM(text)                                                                                           \
    {                                                                                                                \
        .name = #text, .inputs = 1, .attrs_size = sizeof(ad_reduce_attrs), .derivative = AD_NOT_DIFFERENTIABLE,      \
        .shape = arg_shape, .forward = text##_forward, .formula = "$y = " #text "($0, $a)",                          \
        .show_attrs = ad_show_reduce, .sample = ad_sample_pick,                                                      \
    }
const ad_op ad_op_argmax = ARG_EXTREMUM(argmax), ad_op_argmin = ARG_EXTREMUM(argmin);

ad_var ad_argmax_at(const char *where, ad_var x, int axis, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_argmax, x, AD_AXES(axis), keepdim);
}
ad_var ad_argmin_at(const char *where, ad_var x, int axis, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_argmin, x, AD_AXES(axis), keepdim);
}
