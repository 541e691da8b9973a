/* Margins around an array. pad fills them with a constant; the other modes fill them with elements of the array, axis by
 * axis, and are made of slices and cat. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

typedef struct pad_attrs {
    ad_shape before, after;
    double value;
} pad_attrs;

/* What the margins surround. */
static ad_status inside(const void *attrs, const ad_view *x, ad_view *window) {
    const pad_attrs *pad = attrs;
    ad_view result = *x;
    for (int i = 0; i < x->shape.rank; i++)
        (void)!ad_view_slice(&result, i, pad->before.dim[i], x->shape.dim[i] - pad->after.dim[i], 1, &result);
    *window = result;
    return AD_OK;
}

static ad_status pad_shape(ad_call *call) {
    const pad_attrs *pad = call->attrs;
    ad_shape shape = call->in[0]->shape;
    if (pad->before.rank != shape.rank || pad->after.rank != shape.rank)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but there are margins before %d and after %d axes",
                       ad_describe(call, 0), pad->before.rank, pad->after.rank);
    for (int i = 0; i < shape.rank; i++) {
        int64_t before = pad->before.dim[i], after = pad->after.dim[i];
        if (before < 0 || after < 0)
            return ad_fail(call, AD_ERR_VALUE, "the margins along axis %d are %lld and %lld: ad_slice takes away", i,
                           (long long)before, (long long)after);
        if (__builtin_add_overflow(shape.dim[i], before, &shape.dim[i]) ||
            __builtin_add_overflow(shape.dim[i], after, &shape.dim[i]))
            return ad_fail(call, AD_ERR_LIMIT, "the length along axis %d overflows", i);
    }
    ad_set_out(call, 0, call->in[0]->dtype, shape);
    return AD_OK;
}

static ad_status pad_forward(ad_call *call) {
    ad_view window;
    ad_kernels_get()->fill(&call->out[0], ((const pad_attrs *)call->attrs)->value);
    ad_status status = inside(call->attrs, &call->out[0], &window);
    if (!status) ad_copy_any(call->in[0], &window);
    return status;
}

static void pad_vjp(ad_vjp *v) {
    const pad_attrs *pad = ad_vjp_attrs(v);
    ad_shape shape = ad_vjp_input_shape(v, 0);
    ad_var g = ad_vjp_seed(v, 0);
    for (int i = 0; i < shape.rank; i++)
        if (pad->before.dim[i] || pad->after.dim[i])
            g = ad_slice(g, i, pad->before.dim[i], pad->before.dim[i] + shape.dim[i], 1);
    ad_vjp_give(v, 0, g);
}

static ad_status pad_backward(ad_call *call, ad_adjoint *adjoint) { return ad_window_pass(call, adjoint, inside); }

/* The margins do not move. */
static void pad_jvp(ad_jvp *j) {
    const pad_attrs *pad = ad_jvp_attrs(j);
    ad_jvp_give(j, 0, ad_pad(ad_jvp_tangent(j, 0), pad->before, pad->after, AD_PAD_CONSTANT, 0));
}

static void show_pad(const void *attrs, char *text, size_t size) {
    const pad_attrs *pad = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_shape(text, size, &length, &pad->before);
    ad_text_add(text, size, &length, " before, ");
    ad_text_shape(text, size, &length, &pad->after);
    ad_text_add(text, size, &length, " after, of %g", pad->value);
}

static bool pad_sample(ad_sample *sample, int k) {
    const ad_shape cases[][3] = {{AD_SHAPE(3, 4), AD_SHAPE(1, 0), AD_SHAPE(2, 1)},
                                 {AD_SHAPE(5), AD_SHAPE(0), AD_SHAPE(0)},
                                 {AD_SHAPE(2, 1, 3), AD_SHAPE(0, 2, 1), AD_SHAPE(0, 0, 0)},
                                 {AD_SHAPE(0, 3), AD_SHAPE(1, 1), AD_SHAPE(0, 0)},
                                 {AD_SCALAR, AD_SCALAR, AD_SCALAR}};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *(pad_attrs *)(void *)sample->attrs.bytes = (pad_attrs){.before = cases[k][1],
                                                            .after = cases[k][2],
                                                            .value = 0.5 * k};
    return ad_sample_normal(sample, cases[k][0]);
}

const ad_op ad_op_pad = {
    .name = "pad",
    .inputs = 1,
    .attrs_size = sizeof(pad_attrs),
    .attrs = AD_ATTRS(AD_ATTR("before", SHAPE, pad_attrs, before, AD_REQUIRED),
                      AD_ATTR("after", SHAPE, pad_attrs, after, AD_REQUIRED),
                      AD_ATTR("value", DOUBLE, pad_attrs, value, AD_USUALLY(0))),
    .saves = AD_SAVES_NOTHING,
    .shape = pad_shape,
    .forward = pad_forward,
    .vjp = pad_vjp,
    .backward = pad_backward,
    .jvp = pad_jvp,
    .depends = ad_depends_moved,
    .formula = "$y = $0 with margins $a",
    .adjoint = {"~0 += ~y without the margins"},
    .show_attrs = show_pad,
    .sample = pad_sample,
};

/* ---- margins of the array's own elements --------------------------------------------------------------------------- */

/* The margin of n elements before (or after) x along the axis. */
static ad_var margin(const char *where, ad_var x, int axis, int64_t length, int64_t n, ad_pad_mode mode,
                     bool before) {
    if (mode == AD_PAD_CIRCULAR)
        return before ? ad_slice_at(where, x, axis, length - n, length, 1) : ad_slice_at(where, x, axis, 0, n, 1);
    if (mode == AD_PAD_REFLECT) {
        int64_t first = before ? n : length - 2, stop = before ? 0 : length - 2 - n;
        return ad_slice_at(where, x, axis, first, stop < 0 ? AD_TO_START : stop, -1);
    }
    ad_var edge = ad_slice_at(where, x, axis, before ? 0 : length - 1, before ? 1 : length, 1);
    ad_shape shape = ad_value_at(where, edge).shape;
    if (!ad_var_is_valid(edge)) return edge;
    shape.dim[axis] = n;
    return ad_broadcast_to_at(where, edge, shape);
}

/* How wide a margin can be that is made of `length` elements. */
static int64_t widest(int64_t length, ad_pad_mode mode) {
    if (mode == AD_PAD_CIRCULAR) return length;
    if (mode == AD_PAD_REFLECT) return length > 0 ? length - 1 : 0;
    return length > 0 ? INT64_MAX : 0;
}

static bool check_margins(ad_var x, const char *where, const ad_shape *shape, const ad_shape *before,
                          const ad_shape *after, ad_pad_mode mode) {
    static const char *const names[] = {"constant", "reflecting", "replicating", "circular"};
    if (mode < AD_PAD_REFLECT || mode > AD_PAD_CIRCULAR) {
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_pad", where, "%d is no way of padding: see ad_pad_mode", (int)mode);
        return false;
    }
    if (before->rank != shape->rank || after->rank != shape->rank) {
        ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_pad", where, "%d axes, but there are margins before %d and after %d",
                     shape->rank, before->rank, after->rank);
        return false;
    }
    for (int i = 0; i < shape->rank; i++) {
        int64_t most = widest(shape->dim[i], mode);
        if (before->dim[i] >= 0 && after->dim[i] >= 0 && before->dim[i] <= most && after->dim[i] <= most) continue;
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_pad", where,
                     "margins of %lld and %lld along axis %d: %s ones of %lld elements are 0 to %lld wide",
                     (long long)before->dim[i], (long long)after->dim[i], i, names[mode], (long long)shape->dim[i],
                     (long long)most);
        return false;
    }
    return true;
}

ad_var ad_pad_at(const char *where, ad_var x, ad_shape before, ad_shape after, ad_pad_mode mode, double value) {
    if (mode == AD_PAD_CONSTANT) {
        pad_attrs attrs = {.before = before, .after = after, .value = value};
        return ad_apply_1(where, &ad_op_pad, x, &attrs);
    }
    if (!ad_check_var(x, "ad_pad", where)) return ad_var_invalid(x.tape);
    ad_shape shape = ad_node_shape(ad_node_at(x.tape, x.index));
    if (!check_margins(x, where, &shape, &before, &after, mode)) return ad_var_invalid(x.tape);
    for (int i = 0; i < shape.rank; i++) {
        ad_var parts[3];
        int n = 0;
        if (before.dim[i]) parts[n++] = margin(where, x, i, shape.dim[i], before.dim[i], mode, true);
        parts[n++] = x;
        if (after.dim[i]) parts[n++] = margin(where, x, i, shape.dim[i], after.dim[i], mode, false);
        if (n > 1) x = ad_cat_at(where, n, parts, i);
    }
    return x;
}
