/* Windows that slide along an axis, and their transpose, which adds them up where they overlap. */
#include "ops/ops.h"

typedef struct unfold_attrs {
    int axis;
    int64_t size, step;
    int64_t n; /* of fold alone: length of the result along the axis */
} unfold_attrs;
#define UNFOLD_ATTRS                                                                                                 \
    AD_ATTR("axis", INT, unfold_attrs, axis, AD_REQUIRED), AD_ATTR("size", INT64, unfold_attrs, size, AD_REQUIRED),  \
        AD_ATTR("step", INT64, unfold_attrs, step, AD_USUALLY(1))

/* The axis counts the windows; a last axis is added, inside a window. */
static ad_status windows_of(const void *attrs, const ad_view *x, ad_view *window) {
    const unfold_attrs *unfold = attrs;
    int axis = ad_axis_index(unfold->axis, x->shape.rank), last = x->shape.rank;
    ad_view result = *x;
    result.shape.rank = last + 1;
    result.shape.dim[axis] = (x->shape.dim[axis] - unfold->size) / unfold->step + 1;
    result.shape.dim[last] = unfold->size;
    result.stride[last] = x->stride[axis];
    if (result.shape.dim[axis] > 1) result.stride[axis] *= unfold->step;
    *window = result;
    return AD_OK;
}

/* n: the length along the axis that is covered with windows. */
static ad_status check_windows(ad_call *call, int64_t n) {
    const unfold_attrs *unfold = call->attrs;
    if (unfold->step < 1)
        return ad_fail(call, AD_ERR_VALUE, "the step is %lld, but it must be above 0", (long long)unfold->step);
    if (unfold->size >= 0 && unfold->size <= n) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "windows of %lld do not fit into the %lld elements along axis %d",
                   (long long)unfold->size, (long long)n, unfold->axis);
}

static void show_unfold(const void *attrs, char *text, size_t size) {
    const unfold_attrs *unfold = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d, size %lld, step %lld", unfold->axis, (long long)unfold->size,
                (long long)unfold->step);
}

static bool unfold_case(int k, ad_shape *shape, unfold_attrs *attrs) {
    const ad_shape shapes[] = {AD_SHAPE(7), AD_SHAPE(3, 5), AD_SHAPE(5, 3), AD_SHAPE(2, 6, 2),
                               AD_SHAPE(4), AD_SHAPE(0, 3), AD_SHAPE(1)};
    const unfold_attrs cases[] = {{.axis = 0, .size = 3, .step = 1}, {.axis = -1, .size = 2, .step = 2},
                                  {.axis = 0, .size = 3, .step = 2}, {.axis = 1, .size = 2, .step = 3},
                                  {.axis = 0, .size = 4, .step = 1}, {.axis = 1, .size = 2, .step = 1},
                                  {.axis = 0, .size = 1, .step = 5}};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *shape = shapes[k];
    *attrs = cases[k];
    attrs->n = shape->dim[ad_axis_index(attrs->axis, shape->rank)];
    return true;
}

/* ---- unfold ------------------------------------------------------------------------------------------------------ */

static ad_status unfold_shape(ad_call *call) {
    int axis = ad_need_axis(call, 0, ((const unfold_attrs *)call->attrs)->axis);
    if (axis < 0) return AD_ERR_INDEX;
    if (call->in[0]->shape.rank == AD_MAX_RANK)
        return ad_fail(call, AD_ERR_LIMIT, "%s: the result would have more than %d axes", ad_describe(call, 0),
                       AD_MAX_RANK);
    ad_status status = check_windows(call, call->in[0]->shape.dim[axis]);
    call->is_view[0] = true;
    return status ? status : windows_of(call->attrs, call->in[0], &call->out[0]);
}

static void unfold_vjp(ad_vjp *v) {
    const unfold_attrs *attrs = ad_vjp_attrs(v);
    ad_shape shape = ad_vjp_input_shape(v, 0);
    int axis = ad_axis_index(attrs->axis, shape.rank);
    ad_vjp_give(v, 0, ad_fold(ad_vjp_seed(v, 0), axis, attrs->step, shape.dim[axis]));
}

static ad_status unfold_backward(ad_call *call, ad_adjoint *adjoint) {
    return ad_window_back(call, adjoint, windows_of);
}

static bool unfold_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return unfold_case(k, &shape, (unfold_attrs *)(void *)sample->attrs.bytes) && ad_sample_normal(sample, shape);
}

const ad_op ad_op_unfold = {
    .name = "unfold",
    .inputs = 1,
    .attrs_size = sizeof(unfold_attrs),
    .attrs = AD_ATTRS(UNFOLD_ATTRS),
    .saves = AD_SAVES_NOTHING,
    .shape = unfold_shape,
    .vjp = unfold_vjp,
    .backward = unfold_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = windows of $0, $a",
    .adjoint = {"~0 += ~y, added up where windows overlap"},
    .show_attrs = show_unfold,
    .sample = unfold_sample,
};

ad_var ad_unfold_at(const char *where, ad_var x, int axis, int64_t size, int64_t step) {
    unfold_attrs attrs = {.axis = axis, .size = size, .step = step};
    return ad_apply_1(where, &ad_op_unfold, x, &attrs);
}

/* ---- fold -------------------------------------------------------------------------------------------------------- */

static ad_status fold_shape(ad_call *call) {
    const unfold_attrs *fold = call->attrs;
    ad_shape shape = call->in[0]->shape;
    if (shape.rank < 2)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but windows have two axes: which one, and where in it",
                       ad_describe(call, 0));
    shape.rank--;
    int axis = ad_axis_index(fold->axis, shape.rank);
    if (axis < 0)
        return ad_fail(call, AD_ERR_INDEX, "axis %d is out of range: the result has %d", fold->axis, shape.rank);
    shape.dim[axis] = fold->n;
    ad_status status = check_windows(call, fold->n);
    return status ? status : ad_embed_shape(call, windows_of, shape);
}

static ad_status fold_forward(ad_call *call) { return ad_embed(call, windows_of); }

static void fold_vjp(ad_vjp *v) {
    const unfold_attrs *attrs = ad_vjp_attrs(v);
    ad_vjp_give(v, 0, ad_unfold(ad_vjp_seed(v, 0), attrs->axis, attrs->size, attrs->step));
}

static ad_status fold_backward(ad_call *call, ad_adjoint *adjoint) {
    return ad_window_pass(call, adjoint, windows_of);
}

static bool fold_sample(ad_sample *sample, int k) {
    ad_shape shape;
    unfold_attrs *attrs = (unfold_attrs *)(void *)sample->attrs.bytes;
    ad_view window;
    if (!unfold_case(k, &shape, attrs)) return false;
    ad_view whole = ad_view_of(NULL, sample->dtype, shape);
    return windows_of(attrs, &whole, &window) == AD_OK && ad_sample_normal(sample, window.shape);
}

/* Element for element on what is added to its window. */
static void fold_depends(ad_dependence *d) {
    ad_view x, y, windows;
    if (ad_dependence_input(d, 0, &x) && ad_dependence_result(d, 0, &y) &&
        windows_of(ad_dependence_call(d)->attrs, &y, &windows) == AD_OK)
        ad_depend(d, &windows, &x, x.shape.rank);
}

const ad_op ad_op_fold = {
    .name = "fold",
    .inputs = 1,
    .attrs_size = sizeof(unfold_attrs),
    .attrs = AD_ATTRS(UNFOLD_ATTRS, AD_ATTR("n", INT64, unfold_attrs, n, AD_REQUIRED)),
    .saves = AD_SAVES_NOTHING,
    .shape = fold_shape,
    .forward = fold_forward,
    .vjp = fold_vjp,
    .backward = fold_backward,
    .jvp = ad_jvp_linear,
    .depends = fold_depends,
    .formula = "$y = windows $0 added up, $a",
    .adjoint = {"~0 += windows of ~y"},
    .show_attrs = show_unfold,
    .sample = fold_sample,
};

ad_var ad_fold_at(const char *where, ad_var x, int axis, int64_t step, int64_t n) {
    ad_shape shape = ad_value_at(where, x).shape;
    unfold_attrs attrs = {.axis = axis, .step = step, .n = n};
    if (shape.rank > 0) attrs.size = shape.dim[shape.rank - 1];
    return ad_apply_1(where, &ad_op_fold, x, &attrs);
}
