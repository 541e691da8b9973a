/* Other shapes of the same values: views where the strides allow, copies otherwise. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* ---- reshape ----------------------------------------------------------------------------------------------- */

/* The shape asked for with its -1, if there is one, worked out. */
static ad_status resolve(ad_call *call, ad_shape *shape) {
    const ad_shape *asked = call->attrs;
    int64_t count = ad_view_count(call->in[0]), known = 1;
    int open = -1;
    char text[AD_TYPE_TEXT];
    *shape = *asked;
    for (int i = 0; i < asked->rank && i < AD_MAX_RANK; i++) {
        if (asked->dim[i] == -1 && open >= 0)
            return ad_fail(call, AD_ERR_SHAPE, "two dimensions of the new shape are -1: only one can be worked out");
        if (asked->dim[i] == -1) {
            open = i;
        } else if (asked->dim[i] < 0) {
            return ad_fail(call, AD_ERR_SHAPE, "dimension %d of the new shape is %lld", i, (long long)asked->dim[i]);
        } else if (__builtin_mul_overflow(known, asked->dim[i], &known)) {
            return ad_fail(call, AD_ERR_SHAPE, "the number of elements of the new shape %s overflows",
                           ad_type_text(call->in[0]->dtype, asked, text));
        }
    }
    if (open >= 0 && known > 0 && count % known == 0) shape->dim[open] = count / known;
    if (ad_shape_count(shape) == count) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "%s: its %lld elements do not fill %s", ad_describe(call, 0), (long long)count,
                   ad_type_text(call->in[0]->dtype, asked, text));
}

static ad_status reshape_shape(ad_call *call) {
    ad_shape shape;
    ad_status status = resolve(call, &shape);
    if (status) return status;
    call->is_view[0] = ad_view_reshape(call->in[0], &shape, &call->out[0]) == AD_OK;
    if (!call->is_view[0]) ad_set_out(call, 0, call->in[0]->dtype, shape);
    return AD_OK;
}

static ad_status reshape_forward(ad_call *call) {
    if (call->is_view[0]) return AD_OK;
    /* In row-major order, both shapes list the same elements. */
    ad_view y = ad_view_of(call->out[0].data, call->out[0].dtype, call->in[0]->shape);
    ad_copy_any(call->in[0], &y);
    return AD_OK;
}

static void reshape_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_reshape(ad_vjp_seed(v, 0), ad_vjp_input_shape(v, 0))); }

static ad_status reshape_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g;
    if (ad_view_reshape(&adjoint->seed[0], &call->in[0]->shape, &g) == AD_OK) {
        ad_pass(adjoint, 0, 0, &g);
        return AD_OK;
    }
    ad_view dense = ad_scratch_view(call, adjoint->seed[0].dtype, adjoint->seed[0].shape);
    if (!dense.data) return AD_ERR_OOM;
    ad_copy_any(&adjoint->seed[0], &dense);
    g = ad_view_of(dense.data, dense.dtype, call->in[0]->shape);
    ad_give(adjoint, 0, &g);
    return AD_OK;
}

static bool reshape_sample(ad_sample *sample, int k) {
    const ad_shape cases[][2] = {{AD_SHAPE(3, 4), AD_SHAPE(2, -1)},
                                 {AD_SHAPE(6), AD_SHAPE(1, 2, 3)},
                                 {AD_SHAPE(1, 1), AD_SCALAR},
                                 {AD_SCALAR, AD_SHAPE(1)},
                                 {AD_SHAPE(0, 3), AD_SHAPE(2, 0)}};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    sample->attrs.shape = cases[k][1];
    return ad_sample_normal(sample, cases[k][0]);
}

const ad_op ad_op_reshape = {
    .name = "reshape",
    .inputs = 1,
    .attrs_size = sizeof(ad_shape),
    .attrs = AD_ATTRS({"shape", AD_ATTR_SHAPE, 0, AD_REQUIRED, 0}),
    .saves = AD_SAVES_NOTHING,
    .shape = reshape_shape,
    .forward = reshape_forward,
    .vjp = reshape_vjp,
    .backward = reshape_backward,
    .batches = ad_batches_shape,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = $0 as $a",
    .adjoint = {"~0 += ~y in the shape of $0"},
    .show_attrs = ad_show_shape,
    .sample = reshape_sample,
};

ad_var ad_reshape_at(const char *where, ad_var x, ad_shape shape) {
    return ad_apply_1(where, &ad_op_reshape, x, &shape);
}

/* ---- squeeze, unsqueeze: compositions, and always views -------------------------------------------------------- */

ad_var ad_squeeze_at(const char *where, ad_var x, ad_axes axes) {
    ad_shape shape, kept = AD_SCALAR;
    unsigned named;
    bool all = axes.count == 0;
    if (!ad_composed_axes(x, &axes, "ad_squeeze", where, &shape, &named)) return ad_var_invalid(x.tape);
    for (int i = 0; i < shape.rank; i++) {
        if (shape.dim[i] != 1 && !all && (named & 1u << i)) {
            ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_squeeze", where,
                         "axis %d has size %lld: only one of size 1 can go", i, (long long)shape.dim[i]);
            return ad_var_invalid(x.tape);
        }
        if (shape.dim[i] != 1 || !(named & 1u << i)) kept.dim[kept.rank++] = shape.dim[i];
    }
    return ad_reshape_at(where, x, kept);
}

ad_var ad_unsqueeze_at(const char *where, ad_var x, int axis) {
    if (!ad_check_var(x, "ad_unsqueeze", where)) return ad_var_invalid(x.tape);
    ad_shape shape = ad_node_shape(ad_node_at(x.tape, x.index));
    int at = ad_axis_index(axis, shape.rank + 1);
    if (at < 0 || shape.rank == AD_MAX_RANK) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(
            x.tape, at < 0 ? AD_ERR_INDEX : AD_ERR_LIMIT, "ad_unsqueeze", where,
            "a new axis %d: %s, so it can be 0 to %d, or %d to -1 from the end, and there are at most %d axes", axis,
            text, shape.rank, -shape.rank - 1, AD_MAX_RANK);
        return ad_var_invalid(x.tape);
    }
    for (int i = shape.rank++; i > at; i--) shape.dim[i] = shape.dim[i - 1];
    shape.dim[at] = 1;
    return ad_reshape_at(where, x, shape);
}

/* ---- permute, transpose --------------------------------------------------------------------------------------- */

static ad_status permute_shape(ad_call *call) {
    const ad_axes *axes = call->attrs;
    ad_status status = ad_need_axes(call, axes);
    if (status) return status;
    call->is_view[0] = true;
    if (ad_view_permute(call->in[0], axes, &call->out[0]) == AD_OK) return AD_OK;
    char text[128];
    ad_show_axes(axes, text, sizeof text);
    return ad_fail(call, AD_ERR_INDEX, "%s, but %s do not name each of its axes once", ad_describe(call, 0), text);
}

/* The order that undoes the one in `attrs`. */
static ad_axes inverse_axes(const ad_axes *axes) {
    ad_axes inverse = {.count = axes->count, .axis = {0}};
    for (int i = 0; i < axes->count; i++) inverse.axis[ad_axis_index(axes->axis[i], axes->count)] = i;
    return inverse;
}

static void permute_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_permute(ad_vjp_seed(v, 0), inverse_axes(ad_vjp_attrs(v))));
}

/* The axis in front stays there; the others may have been reversed by an empty list. */
static bool permute_batches(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    const ad_axes own = *(const ad_axes *)call->attrs;
    ad_axes *axes = attrs;
    (void)adjoint;
    axes->count = seeds->rank + 1;
    axes->axis[0] = 0;
    for (int i = 0; i < seeds->rank; i++)
        axes->axis[1 + i] = ad_axis_with_seeds(call, seeds, own.count ? own.axis[i] : seeds->rank - 1 - i);
    return true;
}

static ad_status permute_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_axes inverse = inverse_axes(call->attrs);
    ad_view g;
    ad_status status = ad_view_permute(&adjoint->seed[0], &inverse, &g);
    if (!status) ad_pass(adjoint, 0, 0, &g);
    return status;
}

static bool permute_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4), AD_SHAPE(5), AD_SHAPE(2, 0)};
    const ad_axes axes[] = {AD_AXES(1, 0), AD_AXES(2, 0, -2), AD_AXES(0), AD_ALL_AXES};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    sample->attrs.axes = axes[k];
    return ad_sample_normal(sample, shapes[k]);
}

const ad_op ad_op_permute = {
    .name = "permute",
    .inputs = 1,
    .attrs_size = sizeof(ad_axes),
    .attrs = AD_ATTRS({"axes", AD_ATTR_AXES, 0, AD_USUALLY(0), 0}),
    .saves = AD_SAVES_NOTHING,
    .shape = permute_shape,
    .vjp = permute_vjp,
    .backward = permute_backward,
    .batches = permute_batches,
    .jvp = ad_jvp_linear,
    .formula = "$y = permute($0, $a)",
    .adjoint = {"~0 += permute(~y, back)"},
    .show_attrs = ad_show_axes,
    .sample = permute_sample,
};

ad_var ad_permute_at(const char *where, ad_var x, ad_axes axes) {
    return ad_apply_1(where, &ad_op_permute, x, &axes);
}

ad_var ad_transpose_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_transpose", where)) return ad_var_invalid(x.tape);
    ad_axes axes = {.count = ad_node_shape(ad_node_at(x.tape, x.index)).rank, .axis = {0}};
    if (axes.count < 2) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_transpose", where,
                     "%s, which has no two axes to swap: ad_reshape makes a row or a column of it", text);
        return ad_var_invalid(x.tape);
    }
    for (int i = 0; i < axes.count; i++) axes.axis[i] = i;
    int last = axes.count - 1;
    axes.axis[last] = last - 1;
    axes.axis[last - 1] = last;
    return ad_permute_at(where, x, axes);
}

/* ---- broadcast_to ------------------------------------------------------------------------------------------------ */

static ad_status broadcast_shape(ad_call *call) {
    const ad_shape *shape = call->attrs;
    call->is_view[0] = true;
    if (ad_view_broadcast(call->in[0], shape, &call->out[0]) == AD_OK) return AD_OK;
    char text[AD_TYPE_TEXT];
    return ad_fail(call, AD_ERR_SHAPE, "%s, which does not broadcast to %s", ad_describe(call, 0),
                   ad_type_text(call->in[0]->dtype, shape, text));
}

static void give_seed(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 0)); }

static ad_status pass_seed(ad_call *call, ad_adjoint *adjoint) {
    (void)call;
    ad_pass(adjoint, 0, 0, &adjoint->seed[0]);
    return AD_OK;
}

static bool broadcast_sample(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_shape_broadcast(&a, &b, &sample->attrs.shape) == AD_OK &&
           ad_sample_normal(sample, b);
}

const ad_op ad_op_broadcast_to = {
    .name = "broadcast_to",
    .inputs = 1,
    .broadcasts = true,
    .attrs_size = sizeof(ad_shape),
    .attrs = AD_ATTRS({"shape", AD_ATTR_SHAPE, 0, AD_REQUIRED, 0}),
    .saves = AD_SAVES_NOTHING,
    .shape = broadcast_shape,
    .vjp = give_seed,
    .backward = pass_seed,
    .batches = ad_batches_shape,
    .jvp = ad_jvp_linear,
    .formula = "$y = $0 stretched to $a",
    .adjoint = {"~0 += ~y summed back"},
    .show_attrs = ad_show_shape,
    .sample = broadcast_sample,
};

ad_var ad_broadcast_to_at(const char *where, ad_var x, ad_shape shape) {
    return ad_apply_1(where, &ad_op_broadcast_to, x, &shape);
}

/* ---- detach --------------------------------------------------------------------------------------------------------- */

static ad_status detach_shape(ad_call *call) {
    call->out[0] = *call->in[0];
    call->is_view[0] = true;
    return AD_OK;
}

const ad_op ad_op_detach = {
    .name = "detach",
    .inputs = 1,
    .derivative = AD_STOPS_GRADIENT,
    .shape = detach_shape,
    .formula = "$y = $0, no gradient passes",
    .sample = ad_sample_one_normal,
};

ad_var ad_detach_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_detach, x, NULL); }
