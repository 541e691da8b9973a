/* Reductions: sum, mean, and the sum that undoes a broadcast; and what all reductions share. */
#include "ops/ops.h"

#include <string.h>

/* ---- shapes ---------------------------------------------------------------------------------------------------- */

static const ad_reduce_attrs *attrs_of(const ad_call *call) { return call->attrs; }

/* Which axes, as bits; every one of them exists and is named once, or the error is set. */
static ad_status reduced_axes(ad_call *call, unsigned *reduced) {
    const ad_axes *axes = &attrs_of(call)->axes;
    ad_status status = ad_need_axes(call, axes);
    *reduced = axes->count == 0 ? ~0u : 0;
    for (int i = 0; i < axes->count && !status; i++) {
        int axis = ad_need_axis(call, 0, axes->axis[i]);
        if (axis < 0) return AD_ERR_INDEX;
        if (*reduced & 1u << axis)
            return ad_fail(call, AD_ERR_INDEX, "axis %d is named twice: %s", axes->axis[i], ad_describe(call, 0));
        *reduced |= 1u << axis;
    }
    return status;
}

ad_status ad_reduced_shape(ad_call *call, ad_shape *shape) {
    unsigned reduced;
    ad_status status = reduced_axes(call, &reduced);
    const ad_shape *from = &call->in[0]->shape;
    shape->rank = 0;
    for (int i = 0; i < from->rank && !status; i++) {
        bool gone = reduced & 1u << i;
        if (!gone || attrs_of(call)->keepdim) shape->dim[shape->rank++] = gone ? 1 : from->dim[i];
    }
    return status;
}

ad_status ad_reduce_shape(ad_call *call) {
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_reduced_shape(call, &call->out[0].shape);
    call->out[0].dtype = call->in[0]->dtype;
    return status;
}

ad_status ad_need_elements(ad_call *call) {
    if (ad_reduced_count(call) > 0) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "%s, with no elements along the axes: there is no %s of nothing",
                   ad_describe(call, 0), call->op->name);
}

/* Of valid axes, whatever their sizes. */
static bool is_reduced(const ad_reduce_attrs *attrs, int rank, int axis) {
    for (int i = 0; i < attrs->axes.count; i++)
        if (ad_axis_index(attrs->axes.axis[i], rank) == axis) return true;
    return attrs->axes.count == 0;
}

ad_shape ad_kept_shape(const ad_reduce_attrs *attrs, ad_shape from) {
    for (int i = 0; i < from.rank; i++)
        if (is_reduced(attrs, from.rank, i)) from.dim[i] = 1;
    return from;
}

int64_t ad_reduced_count(const ad_call *call) {
    const ad_shape *from = &call->in[0]->shape;
    ad_shape kept = ad_kept_shape(attrs_of(call), *from);
    int64_t n = 1;
    for (int i = 0; i < from->rank; i++)
        if (kept.dim[i] != from->dim[i]) n *= from->dim[i];
    return n;
}

ad_view ad_as_kept(const ad_call *call, const ad_view *y) {
    ad_shape shape = ad_kept_shape(attrs_of(call), call->in[0]->shape);
    ad_view kept = *y;
    (void)!ad_view_reshape(y, &shape, &kept); /* axes of 1 never need a copy */
    return kept;
}

ad_view ad_stretched_back(const ad_call *call, const ad_view *y) {
    ad_view kept = ad_as_kept(call, y);
    return ad_stretched(&kept, &call->in[0]->shape);
}

ad_var ad_stretch_back(ad_var y, const ad_reduce_attrs *attrs, ad_shape shape) {
    return ad_broadcast_to(ad_reshape(y, ad_kept_shape(attrs, shape)), shape);
}

ad_var ad_stretched_seed(ad_vjp *v) {
    return ad_stretch_back(ad_vjp_seed(v, 0), ad_vjp_attrs(v), ad_vjp_input_shape(v, 0));
}

ad_flattening ad_flattening_of(const ad_reduce_attrs *attrs, ad_shape shape) {
    ad_flattening f = {.order.count = shape.rank, .back.count = shape.rank, .permuted.rank = shape.rank};
    int64_t n = 1;
    int next = 0;
    for (int reduced = 0; reduced < 2; reduced++) {
        for (int i = 0; i < shape.rank; i++) {
            if (is_reduced(attrs, shape.rank, i) != reduced) continue;
            if (reduced) n *= shape.dim[i];
            f.order.axis[next] = i;
            f.back.axis[i] = next;
            f.permuted.dim[next++] = shape.dim[i];
        }
        if (!reduced) f.flat.rank = next;
    }
    memcpy(f.flat.dim, f.permuted.dim, sizeof f.flat.dim);
    f.flat.dim[f.flat.rank++] = n;
    return f;
}

/* An empty list of axes would reverse them. */
ad_var ad_flattened(ad_var x, const ad_flattening *f) {
    return ad_reshape(f->order.count ? ad_permute(x, f->order) : x, f->flat);
}

ad_var ad_unflattened(ad_var flat, const ad_flattening *f) {
    ad_var permuted = ad_reshape(flat, f->permuted);
    return f->back.count ? ad_permute(permuted, f->back) : permuted;
}

/* ---- numbers of the results, in double --------------------------------------------------------------------------- */

ad_view ad_scratch_kept(ad_call *call) {
    return ad_scratch_view(call, AD_F64, ad_kept_shape(attrs_of(call), call->in[0]->shape));
}

ad_view ad_scratch_copy(ad_call *call, const ad_view *y) {
    ad_view kept = ad_as_kept(call, y), copy = ad_scratch_kept(call);
    if (copy.data) (void)!ad_view_copy(&kept, &copy);
    return copy;
}

ad_status ad_set_result(ad_call *call, const ad_view *value) {
    ad_view kept = ad_as_kept(call, &call->out[0]);
    return ad_view_copy(value, &kept);
}

ad_status ad_reduce_back(ad_call *call, ad_adjoint *adjoint, ad_reduction_back row, const ad_view *g,
                         const ad_view *c, double p) {
    const ad_shape *shape = &call->in[0]->shape;
    ad_view all_g = ad_stretched(g, shape), all_c = ad_stretched(c, shape);
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) ad_kernels_get()->reduce_back(row, &all_g, call->in[0], &all_c, p, x_bar, add);
    return AD_OK;
}

/* ---- which elements are reduced to which -------------------------------------------------------------------------- */

/* Of x and y, of one rank: the axes that are not reduced first, at which they are the same. */
static void depend_on_others(ad_dependence *d, const ad_view *x, const ad_view *y, const ad_flattening *f) {
    ad_view from = *x, to = *y;
    if (f->order.count) {
        (void)!ad_view_permute(x, &f->order, &from);
        (void)!ad_view_permute(y, &f->order, &to);
    }
    ad_depend(d, &to, &from, f->flat.rank - 1);
}

void ad_depends_reduced(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    ad_flattening f = ad_flattening_of(call->attrs, call->in[0]->shape);
    for (int k = 0; k < (call->op->results ? call->op->results : 1); k++) {
        ad_view x, y;
        if (!ad_dependence_input(d, 0, &x) || !ad_dependence_result(d, k, &y)) continue;
        ad_view kept = ad_as_kept(call, &y);
        depend_on_others(d, &x, &kept, &f);
    }
}

void ad_depends_normalized(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    ad_flattening f = ad_flattening_of(call->attrs, call->in[0]->shape);
    ad_view in, y;
    for (int k = 0; k < call->op->results; k++) {
        if (!ad_dependence_input(d, 0, &in) || !ad_dependence_result(d, k, &y)) continue;
        ad_view kept = k ? ad_as_kept(call, &y) : y;
        depend_on_others(d, &in, &kept, &f);
    }
    for (int i = 1; i < call->inputs; i++) {
        if (!ad_dependence_input(d, i, &in) || !ad_dependence_result(d, 0, &y)) continue;
        ad_view stretched = ad_stretched(&in, &y.shape);
        ad_depend(d, &y, &stretched, y.shape.rank);
    }
}

/* ---- attributes, samples, constructors --------------------------------------------------------------------------- */

const ad_attr ad_reduce_attr_list[] = {AD_REDUCE_ATTRS_OF(ad_reduce_attrs, axes, keepdim), AD_ATTRS_END};

void ad_show_reduce(const void *attrs, char *text, size_t size) {
    ad_show_axes(&((const ad_reduce_attrs *)attrs)->axes, text, size);
}

bool ad_sample_reduce(ad_sample *sample, int k, ad_shape *shape) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4),    AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4),
                               AD_SHAPE(2, 3, 4), AD_SCALAR,      AD_SHAPE(5)};
    const ad_axes axes[] = {AD_ALL_AXES, AD_AXES(0), AD_AXES(1), AD_AXES(-1, 0), AD_ALL_AXES, AD_AXES(0)};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    ad_reduce_attrs attrs = {.axes = axes[k], .keepdim = k % 2};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    *shape = shapes[k];
    return true;
}

bool ad_sample_reduce_normal(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_reduce(sample, k, &shape) && ad_sample_normal(sample, shape);
}

ad_var ad_apply_reduce(const char *where, const ad_op *op, ad_var x, ad_axes axes, bool keepdim) {
    ad_reduce_attrs attrs = {.axes = axes, .keepdim = keepdim};
    return ad_apply_1(where, op, x, &attrs);
}

/* Where all axes are meant, they are named. */
static bool batches(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    const int rank = call->in[0]->shape.rank;
    ad_axes *axes = &((ad_reduce_attrs *)attrs)->axes;
    (void)adjoint;
    if (axes->count == 0)
        while (axes->count < rank) axes->axis[axes->count] = axes->count, axes->count++;
    for (int i = 0; i < axes->count; i++) axes->axis[i] = ad_axis_with_seeds(call, seeds, axes->axis[i]);
    return axes->count > 0; /* an empty list would name all */
}

/* ---- sum ------------------------------------------------------------------------------------------------------- */

static ad_status sum_forward(ad_call *call) {
    ad_view kept = ad_as_kept(call, &call->out[0]);
    ad_kernels_get()->sum_to(call->in[0], &kept, 1, false);
    return AD_OK;
}

static void sum_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_stretched_seed(v)); }

static ad_status sum_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_stretched_back(call, &adjoint->seed[0]);
    ad_pass(adjoint, 0, 0, &g);
    return AD_OK;
}

static bool sum_sample(ad_sample *sample, int k) {
    if (k < 6) return ad_sample_reduce_normal(sample, k);
    ad_reduce_attrs attrs = {.axes = AD_AXES(0)};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return k == 6 && ad_sample_normal(sample, AD_SHAPE(0, 3));
}

const ad_op ad_op_sum = {
    .name = "sum",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .attrs = ad_reduce_attr_list,
    .saves = AD_SAVES_NOTHING,
    .shape = ad_reduce_shape,
    .forward = sum_forward,
    .vjp = sum_vjp,
    .backward = sum_backward,
    .batches = batches,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_reduced,
    .formula = "$y = sum($0, $a)",
    .adjoint = {"~0 += ~y, stretched"},
    .show_attrs = ad_show_reduce,
    .sample = sum_sample,
};

ad_var ad_sum_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_sum, x, axes, keepdim);
}

ad_var ad_trace_at(const char *where, ad_var x) {
    return ad_sum_at(where, ad_diagonal_at(where, x, 0, -2, -1), AD_AXES(-1), false);
}

/* ---- mean ------------------------------------------------------------------------------------------------------ */

static ad_status mean_forward(ad_call *call) {
    ad_view kept = ad_as_kept(call, &call->out[0]);
    ad_kernels_get()->sum_to(call->in[0], &kept, (double)ad_reduced_count(call), false);
    return AD_OK;
}

static void mean_vjp(ad_vjp *v) {
    ad_shape from = ad_vjp_input_shape(v, 0), to = ad_vjp_result_shape(v, 0);
    double n = (double)ad_shape_count(&from) / (double)ad_shape_count(&to);
    ad_vjp_give(v, 0, ad_scale(ad_stretched_seed(v), 1 / n));
}

static ad_status mean_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_stretched_back(call, &adjoint->seed[0]);
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) ad_kernels_get()->copy(&g, x_bar, 1 / (double)ad_reduced_count(call), add);
    return AD_OK;
}

const ad_op ad_op_mean = {
    .name = "mean",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .attrs = ad_reduce_attr_list,
    .saves = AD_SAVES_NOTHING,
    .shape = ad_reduce_shape,
    .forward = mean_forward,
    .vjp = mean_vjp,
    .backward = mean_backward,
    .batches = batches,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_reduced,
    .formula = "$y = mean($0, $a)",
    .adjoint = {"~0 += ~y / n, stretched"},
    .show_attrs = ad_show_reduce,
    .sample = ad_sample_reduce_normal,
};

ad_var ad_mean_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_mean, x, axes, keepdim);
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

static void sum_to_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_broadcast_to(ad_vjp_seed(v, 0), ad_vjp_input_shape(v, 0))); }

static ad_status sum_to_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_stretched(&adjoint->seed[0], &call->in[0]->shape);
    ad_pass(adjoint, 0, 0, &g);
    return AD_OK;
}

/* A reduction of the axes that have size 1 in the result, or are missing there. */
static void sum_to_depends(ad_dependence *d) {
    ad_view x, y;
    if (!ad_dependence_input(d, 0, &x) || !ad_dependence_result(d, 0, &y)) return;
    ad_shape shape = x.shape;
    ad_reduce_attrs attrs = {.axes = {.count = 0}};
    int missing = x.shape.rank - y.shape.rank;
    for (int i = 0; i < shape.rank; i++) {
        shape.dim[i] = i < missing ? 1 : y.shape.dim[i - missing];
        if (shape.dim[i] != x.shape.dim[i]) attrs.axes.axis[attrs.axes.count++] = i;
    }
    ad_view kept = y;
    (void)!ad_view_reshape(&y, &shape, &kept);
    if (attrs.axes.count) {
        ad_flattening f = ad_flattening_of(&attrs, x.shape);
        depend_on_others(d, &x, &kept, &f);
    } else {
        ad_depend(d, &kept, &x, shape.rank);
    }
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
    .attrs = AD_ATTRS({"shape", AD_ATTR_SHAPE, 0, AD_REQUIRED, 0}),
    .saves = AD_SAVES_NOTHING,
    .shape = sum_to_shape,
    .forward = sum_to_forward,
    .vjp = sum_to_vjp,
    .backward = sum_to_backward,
    .batches = ad_batches_shape,
    .jvp = ad_jvp_linear,
    .depends = sum_to_depends,
    .formula = "$y = $0 summed to $a",
    .adjoint = {"~0 += ~y, stretched"},
    .show_attrs = ad_show_shape,
    .sample = sum_to_sample,
};

ad_var ad_sum_to_at(const char *where, ad_var x, ad_shape shape) {
    return ad_apply_1(where, &ad_op_sum_to, x, &shape);
}
