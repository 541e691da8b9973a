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

ad_status ad_pick_backward(ad_call *call, ad_adjoint *adjoint) {
    const ad_view *x_bar = ad_into_cleared(adjoint, 0);
    if (!x_bar) return AD_OK;
    ad_view g = ad_as_kept(call, &adjoint->seed[0]), index = ad_as_kept(call, &call->out[1]);
    int axis = ad_axis_index(axis_of(call->attrs), x_bar->shape.rank);
    ad_kernels_get()->scatter_add(&g, axis, &index, x_bar);
    return AD_OK;
}

ad_status ad_pick_shape(ad_call *call) {
    ad_status status = ad_reduce_shape(call);
    if (!status) status = ad_need_elements(call);
    for (int k = 1; k < call->op->results; k++) ad_set_out(call, k, AD_I64, call->out[0].shape);
    return status;
}

const ad_attr ad_pick_attr_list[] = {AD_ATTR("axis", AXES, ad_reduce_attrs, axes, AD_REQUIRED),
                                     AD_ATTR("keepdim", BOOL, ad_reduce_attrs, keepdim, AD_USUALLY(false)),
                                     AD_ATTRS_END};

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
        .name = #text, .inputs = 1, .results = 2, .attrs_size = sizeof(ad_reduce_attrs), .attrs = ad_pick_attr_list, \
        .saves = AD_SAVES_RESULT(1), .shape = ad_pick_shape, .forward = text##_forward, .vjp = extremum_vjp,         \
        .backward = ad_pick_backward, .jvp = extremum_jvp, .depends = ad_depends_reduced,                            \
        .formula = "$y = " #text "($0, $a)", .result_formula = {"$y1 = arg" #text "($0, $a)"},                       \
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
        .name = #text, .inputs = 1, .attrs_size = sizeof(ad_reduce_attrs), .attrs = ad_pick_attr_list,               \
        .derivative = AD_NOT_DIFFERENTIABLE, .shape = arg_shape, .forward = text##_forward,                          \
        .formula = "$y = " #text "($0, $a)", .show_attrs = ad_show_reduce, .sample = ad_sample_pick,                 \
    }
const ad_op ad_op_argmax = ARG_EXTREMUM(argmax), ad_op_argmin = ARG_EXTREMUM(argmin);

ad_var ad_argmax_at(const char *where, ad_var x, int axis, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_argmax, x, AD_AXES(axis), keepdim);
}
ad_var ad_argmin_at(const char *where, ad_var x, int axis, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_argmin, x, AD_AXES(axis), keepdim);
}

/* ---- amax, amin ------------------------------------------------------------------------------------------------------ */

static ad_status shared_shape(ad_call *call) {
    ad_status status = ad_reduce_shape(call);
    return status ? status : ad_need_elements(call);
}

static ad_status shared_forward(ad_call *call, ad_reduction row) {
    ad_view y = ad_as_kept(call, &call->out[0]);
    ad_kernels_get()->reduce(row, call->in[0], NULL, 0, &y);
    return AD_OK;
}

static ad_status amax_forward(ad_call *call) { return shared_forward(call, AD_REDUCTION_largest); }
static ad_status amin_forward(ad_call *call) { return shared_forward(call, AD_REDUCTION_smallest); }

/* Each of those that are equal to y gets an even part. */
static ad_status shared_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_scratch_copy(call, &adjoint->seed[0]), y = ad_scratch_copy(call, &call->out[0]);
    ad_view count = ad_scratch_kept(call);
    if (!g.data || !y.data || !count.data) return AD_ERR_OOM;
    ad_kernels_get()->reduce(AD_REDUCTION_count_equal, call->in[0], &y, 0, &count);
    for (int64_t i = 0, n = ad_view_count(&g); i < n; i++) ((double *)g.data)[i] /= ((const double *)count.data)[i];
    return ad_reduce_back(call, adjoint, AD_REDUCTION_BACK_equal, &g, &y, 0);
}

/* Which elements are y (a NaN if y is one), and how many there are, in the kept shape. */
static ad_var are_extreme(ad_var x, ad_var y, const ad_reduce_attrs *attrs, ad_var *count) {
    ad_var extreme = ad_logical_or(ad_equal(x, ad_stretch_back(y, attrs, ad_value(x).shape)), ad_isnan(x));
    ad_dtype dtype = ad_value(x).dtype;
    ad_var ones = ad_where(extreme, ad_number(x.tape, dtype, 1), ad_number(x.tape, dtype, 0));
    *count = ad_sum(ones, attrs->axes, AD_KEEPDIM);
    return extreme;
}

static void shared_vjp(ad_vjp *v) {
    ad_var count, extreme = are_extreme(ad_vjp_input(v, 0), ad_vjp_result(v, 0), ad_vjp_attrs(v), &count);
    ad_var part = ad_div(ad_stretched_seed(v), count);
    ad_vjp_give(v, 0, ad_where(extreme, part, ad_vjp_number(v, 0)));
}

static void shared_jvp(ad_jvp *j) {
    const ad_reduce_attrs *attrs = ad_jvp_attrs(j);
    ad_var count, extreme = are_extreme(ad_jvp_input(j, 0), ad_jvp_result(j, 0), attrs, &count);
    ad_var part = ad_div(ad_jvp_tangent(j, 0), count);
    ad_jvp_give(j, 0, ad_sum(ad_where(extreme, part, ad_jvp_number(j, 0)), attrs->axes, attrs->keepdim));
}

#define SHARED_EXTREMUM(op, text)                                                                                    \
    {                                                                                                                \
        .name = #op, .inputs = 1, .attrs_size = sizeof(ad_reduce_attrs), .attrs = ad_reduce_attr_list,               \
        .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0), .shape = shared_shape, .forward = op##_forward,             \
        .vjp = shared_vjp, .backward = shared_backward, .jvp = shared_jvp, .depends = ad_depends_reduced,            \
        .formula = "$y = " text "($0, $a)", .adjoint = {"~0 += [$0 = $y] ~y / how many are"},                        \
        .convention = "equal elements share the gradient evenly", .show_attrs = ad_show_reduce,                      \
        .sample = ad_sample_reduce_normal,                                                                           \
    }
const ad_op ad_op_amax = SHARED_EXTREMUM(amax, "max"), ad_op_amin = SHARED_EXTREMUM(amin, "min");

ad_var ad_amax_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_amax, x, axes, keepdim);
}
ad_var ad_amin_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_amin, x, axes, keepdim);
}
