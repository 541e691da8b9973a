/* Reductions: sum, mean, and the sum that undoes a broadcast. */
#include "ops/ops.h"

#include <string.h>

typedef struct ad_reduce_attrs {
    ad_axes axes;
    bool keepdim;
} ad_reduce_attrs;

/* The shape with every reduced axis of size 1: what the result has with keepdim, and what broadcasts back. */
static ad_status kept_shape(ad_call *call, const ad_axes *axes, ad_shape *kept, unsigned *reduced) {
    const ad_shape *shape = &call->in[0]->shape;
    *kept = *shape;
    *reduced = axes->count == 0 ? ~0u : 0;
    for (int i = 0; i < axes->count; i++) {
        int axis = ad_need_axis(call, 0, axes->axis[i]);
        if (axis < 0) return AD_ERR_INDEX;
        if (*reduced & 1u << axis)
            return ad_fail(call, AD_ERR_INDEX, "axis %d is named twice: %s", axes->axis[i], ad_describe(call, 0));
        *reduced |= 1u << axis;
    }
    for (int i = 0; i < shape->rank; i++)
        if (*reduced & 1u << i) kept->dim[i] = 1;
    return AD_OK;
}

static ad_status reduce_shape(ad_call *call) {
    const ad_reduce_attrs *attrs = call->attrs;
    ad_shape kept;
    unsigned reduced;
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_axes(call, &attrs->axes);
    if (!status) status = kept_shape(call, &attrs->axes, &kept, &reduced);
    if (status) return status;
    if (!attrs->keepdim) {
        int rank = 0;
        for (int i = 0; i < kept.rank; i++)
            if (!(reduced & 1u << i)) kept.dim[rank++] = kept.dim[i];
        kept.rank = rank;
    }
    ad_set_out(call, 0, call->in[0]->dtype, kept);
    return AD_OK;
}

/* A view of the result (or its cotangent) in the kept shape. */
static ad_status as_kept(ad_call *call, const ad_view *y, ad_view *kept) {
    ad_shape shape;
    unsigned reduced;
    ad_status status = kept_shape(call, &((const ad_reduce_attrs *)call->attrs)->axes, &shape, &reduced);
    return status ? status : ad_view_reshape(y, &shape, kept);
}

/* How many elements each sum is over. */
static double reduced_count(const ad_shape *from, const ad_shape *kept) {
    double n = 1;
    for (int i = 0; i < from->rank; i++)
        if (kept->dim[i] != from->dim[i] || from->dim[i] == 1) n *= (double)from->dim[i];
    return n;
}

static ad_status reduce_forward(ad_call *call, bool mean) {
    ad_view kept;
    ad_status status = as_kept(call, &call->out[0], &kept);
    if (!status)
        ad_kernels_get()->sum_to(call->in[0], &kept, mean ? reduced_count(&call->in[0]->shape, &kept.shape) : 1, false);
    return status;
}

/* The cotangent stretched back over what was summed. */
static ad_var stretched_seed(ad_vjp *v) {
    const ad_reduce_attrs *attrs = ad_vjp_attrs(v);
    ad_shape shape = ad_vjp_input_shape(v, 0), kept = shape;
    for (int i = 0; i < shape.rank && attrs->axes.count == 0; i++) kept.dim[i] = 1;
    for (int i = 0; i < attrs->axes.count; i++) kept.dim[ad_axis_index(attrs->axes.axis[i], shape.rank)] = 1;
    return ad_broadcast_to(ad_reshape(ad_vjp_seed(v, 0), kept), shape);
}

static ad_status stretched_seed_view(ad_call *call, const ad_adjoint *adjoint, ad_view *stretched, double *count) {
    ad_status status = as_kept(call, &adjoint->seed[0], stretched);
    if (status) return status;
    *count = reduced_count(&call->in[0]->shape, &stretched->shape);
    return ad_view_broadcast(stretched, &call->in[0]->shape, stretched);
}

static void show_reduce(const void *attrs, char *text, size_t size) {
    ad_show_axes(&((const ad_reduce_attrs *)attrs)->axes, text, size);
}

static bool reduce_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4), AD_SHAPE(2, 3, 4), AD_SCALAR,
                               AD_SHAPE(5)};
    const ad_axes axes[] = {AD_ALL_AXES, AD_AXES(0), AD_AXES(1), AD_AXES(-1, 0), AD_ALL_AXES, AD_AXES(0)};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    ad_reduce_attrs attrs = {.axes = axes[k], .keepdim = k % 2};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return ad_sample_normal(sample, shapes[k]);
}

static ad_var reduce(const char *where, const ad_op *op, ad_var x, ad_axes axes, bool keepdim) {
    ad_reduce_attrs attrs = {.axes = axes, .keepdim = keepdim};
    return ad_apply_1(where, op, x, &attrs);
}

/* ---- sum ------------------------------------------------------------------------------------------------------- */

static ad_status sum_forward(ad_call *call) { return reduce_forward(call, false); }

static void sum_vjp(ad_vjp *v) { ad_vjp_give(v, 0, stretched_seed(v)); }

static ad_status sum_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g;
    double count;
    ad_status status = stretched_seed_view(call, adjoint, &g, &count);
    if (!status) ad_pass(adjoint, 0, 0, &g);
    return status;
}

static bool sum_sample(ad_sample *sample, int k) {
    if (k < 6) return reduce_sample(sample, k);
    ad_reduce_attrs attrs = {.axes = AD_AXES(0)};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return k == 6 && ad_sample_normal(sample, AD_SHAPE(0, 3));
}

const ad_op ad_op_sum = {
    .name = "sum",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .saves = AD_SAVES_NOTHING,
    .shape = reduce_shape,
    .forward = sum_forward,
    .vjp = sum_vjp,
    .backward = sum_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = sum($0, $a)",
    .adjoint = {"~0 += ~y, stretched"},
    .show_attrs = show_reduce,
    .sample = sum_sample,
};

ad_var ad_sum_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return reduce(where, &ad_op_sum, x, axes, keepdim);
}

/* ---- mean ------------------------------------------------------------------------------------------------------ */

static ad_status mean_forward(ad_call *call) { return reduce_forward(call, true); }

static void mean_vjp(ad_vjp *v) {
    ad_shape from = ad_vjp_input_shape(v, 0), to = ad_vjp_result_shape(v, 0);
    double n = (double)ad_shape_count(&from) / (double)ad_shape_count(&to);
    ad_vjp_give(v, 0, ad_scale(stretched_seed(v), 1 / n));
}

static ad_status mean_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g;
    double count;
    bool add;
    ad_status status = stretched_seed_view(call, adjoint, &g, &count);
    const ad_view *x_bar = status ? NULL : ad_into(adjoint, 0, &add);
    if (x_bar) ad_kernels_get()->copy(&g, x_bar, 1 / count, add);
    return status;
}

const ad_op ad_op_mean = {
    .name = "mean",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .saves = AD_SAVES_NOTHING,
    .shape = reduce_shape,
    .forward = mean_forward,
    .vjp = mean_vjp,
    .backward = mean_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = mean($0, $a)",
    .adjoint = {"~0 += ~y / n, stretched"},
    .show_attrs = show_reduce,
    .sample = reduce_sample,
};

ad_var ad_mean_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return reduce(where, &ad_op_mean, x, axes, keepdim);
}

/* ---- sum_to ------------------------------------------------------------------------------------------------------ */

static ad_status sum_to_shape(ad_call *call) {
    const ad_shape *shape = call->attrs;
    ad_shape common;
    ad_status status = ad_need_float(call, 0);
    if (status) return status;
    ad_set_out(call, 0, call->in[0]->dtype, *shape);
    if (ad_shape_count(shape) >= 0 && ad_shape_broadcast(shape, &call->in[0]->shape, &common) == AD_OK &&
        ad_shape_equal(&common, &call->in[0]->shape))
        return AD_OK;
    char text[AD_TYPE_TEXT];
    return ad_fail(call, AD_ERR_SHAPE, "%s, which cannot be summed to %s: that does not broadcast to it",
                   ad_describe(call, 0), ad_type_text(call->in[0]->dtype, shape, text));
}

static ad_status sum_to_forward(ad_call *call) {
    ad_kernels_get()->sum_to(call->in[0], &call->out[0], 1, false);
    return AD_OK;
}

static void sum_to_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_broadcast_to(ad_vjp_seed(v, 0), ad_vjp_input_shape(v, 0)));
}

static ad_status sum_to_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_stretched(&adjoint->seed[0], &call->in[0]->shape);
    ad_pass(adjoint, 0, 0, &g);
    return AD_OK;
}

static bool sum_to_sample(ad_sample *sample, int k) {
    ad_shape a, b, common;
    if (!ad_sample_shape_pair(k, &a, &b) || ad_shape_broadcast(&a, &b, &common) != AD_OK) return false;
    sample->attrs.shape = b;
    return ad_sample_normal(sample, common);
}

const ad_op ad_op_sum_to = {
    .name = "sum_to",
    .inputs = 1,
    .attrs_size = sizeof(ad_shape),
    .saves = AD_SAVES_NOTHING,
    .shape = sum_to_shape,
    .forward = sum_to_forward,
    .vjp = sum_to_vjp,
    .backward = sum_to_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = $0 summed to $a",
    .adjoint = {"~0 += ~y, stretched"},
    .show_attrs = ad_show_shape,
    .sample = sum_to_sample,
};

ad_var ad_sum_to_at(const char *where, ad_var x, ad_shape shape) { return ad_apply_1(where, &ad_op_sum_to, x, &shape); }
