/* unslices: many slices of one array put back at once, added where they overlap. What many slices of an array give its
 * gradient costs as much as they are long, not as many times the array. */
#include "ops/ops.h"

typedef struct unslices_attrs {
    int axis;
    int64_t n; /* length of the result along the axis */
} unslices_attrs;

/* The axis counted from the front. */
static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const unslices_attrs *)call->attrs)->axis, call->in[1]->shape.rank);
}

static ad_status unslices_shape(ad_call *call) {
    const unslices_attrs *attrs = call->attrs;
    const int parts = call->inputs - 1;
    if (parts < 1) return ad_fail(call, AD_ERR_VALUE, "no slices: it takes where they start, and at least one");
    int axis = ad_need_axis(call, 1, attrs->axis);
    if (axis < 0) return AD_ERR_INDEX;
    ad_status status = ad_need_integer(call, 0);
    if (!status) status = ad_need_float(call, 1);
    for (int i = 2; i < call->inputs && !status; i++) status = ad_need_alike(call, 1, i, axis);
    if (status) return status;
    const ad_shape *starts = &call->in[0]->shape;
    if (starts->rank != 1 || starts->dim[0] != parts)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but there must be one start for each of the %d slices",
                       ad_describe(call, 0), parts);
    if (attrs->n < 0)
        return ad_fail(call, AD_ERR_SHAPE, "the length along axis %d would be %lld", axis, (long long)attrs->n);
    ad_shape shape = call->in[1]->shape;
    shape.dim[axis] = attrs->n;
    ad_set_out(call, 0, call->in[1]->dtype, shape);
    return AD_OK;
}

/* Where start number i says that slice i lies in `whole`. */
static ad_view window_of(const ad_call *call, const ad_view *whole, int i) {
    const int axis = attr_axis(call);
    const int64_t start = (int64_t)ad_view_get(call->in[0], i), stop = start + call->in[i + 1]->shape.dim[axis];
    ad_view window = *whole;
    (void)!ad_view_slice(whole, axis, start, stop, 1, &window);
    return window;
}

static ad_status check_starts(ad_call *call) {
    const int axis = attr_axis(call);
    for (int i = 0; i < call->inputs - 1; i++) {
        const int64_t start = (int64_t)ad_view_get(call->in[0], i), length = call->in[i + 1]->shape.dim[axis];
        if (start >= 0 && length <= call->out[0].shape.dim[axis] && start <= call->out[0].shape.dim[axis] - length)
            continue;
        return ad_fail(call, AD_ERR_INDEX, "slice %d starts at %lld, so its %lld elements do not fit into %lld", i,
                       (long long)start, (long long)length, (long long)call->out[0].shape.dim[axis]);
    }
    return AD_OK;
}

static ad_status unslices_forward(ad_call *call) {
    ad_status status = check_starts(call);
    if (status) return status;
    ad_kernels_get()->fill(&call->out[0], 0);
    for (int i = 0; i < call->inputs - 1; i++) {
        ad_view window = window_of(call, &call->out[0], i);
        ad_kernels_get()->copy(call->in[i + 1], &window, 1, true);
    }
    return AD_OK;
}

static void unslices_vjp(ad_vjp *v) {
    const unslices_attrs *attrs = ad_vjp_attrs(v);
    ad_view starts = ad_value(ad_vjp_input(v, 0));
    for (int i = 1; i < ad_vjp_inputs(v) && starts.data; i++) {
        ad_shape shape = ad_vjp_input_shape(v, i);
        int64_t start = (int64_t)ad_view_get(&starts, i - 1);
        int64_t stop = start + shape.dim[ad_axis_index(attrs->axis, shape.rank)];
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, ad_slice(ad_vjp_seed(v, 0), attrs->axis, start, stop, 1));
    }
}

static ad_status unslices_backward(ad_call *call, ad_adjoint *adjoint) {
    for (int i = 0; i < call->inputs - 1; i++) {
        ad_view window = window_of(call, &adjoint->seed[0], i);
        ad_pass(adjoint, i + 1, 0, &window);
    }
    return AD_OK;
}

static void unslices_depends(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    ad_view y, x;
    if (!ad_dependence_result(d, 0, &y)) return;
    for (int i = 0; i < call->inputs - 1; i++) {
        ad_view window = window_of(call, &y, i);
        if (ad_dependence_input(d, i + 1, &x)) ad_depend(d, &window, &x, x.shape.rank);
    }
}

static void show_unslices(const void *attrs, char *text, size_t size) {
    const unslices_attrs *a = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d, of %lld", a->axis, (long long)a->n);
}

static bool unslices_sample(ad_sample *sample, int k) {
    static const struct {
        unslices_attrs attrs;
        int parts;
        int64_t start[3];
        ad_shape shape[3];
    } cases[] = {{{0, 5}, 2, {1, 0}, {{1, {3}}, {1, {2}}}},
                 {{-1, 4}, 3, {0, 1, 1}, {{2, {2, 3}}, {2, {2, 3}}, {2, {2, 1}}}},
                 {{1, 3}, 2, {1, 3}, {{3, {2, 2, 2}}, {3, {2, 0, 2}}}},
                 {{0, 2}, 1, {1}, {{2, {1, 3}}}},
                 {{0, 3}, 2, {0, 2}, {{2, {2, 0}}, {2, {1, 0}}}}};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *(unslices_attrs *)(void *)sample->attrs.bytes = cases[k].attrs;
    if (!ad_sample_index(sample, AD_SHAPE(cases[k].parts), 1)) return false;
    int64_t *start = ad_tensor_view(sample->input[0])->data;
    for (int i = 0; i < cases[k].parts; i++) {
        start[i] = cases[k].start[i];
        if (!ad_sample_normal(sample, cases[k].shape[i])) return false;
    }
    return true;
}

const ad_op ad_op_unslices = {
    .name = "unslices",
    .inputs = -1,
    .attrs_size = sizeof(unslices_attrs),
    .attrs = AD_ATTRS(AD_ATTR("axis", INT, unslices_attrs, axis, AD_REQUIRED),
                      AD_ATTR("n", INT64, unslices_attrs, n, AD_REQUIRED)),
    .saves = AD_SAVES_INPUT(0),
    .shape = unslices_shape,
    .forward = unslices_forward,
    .vjp = unslices_vjp,
    .backward = unslices_backward,
    .jvp = ad_jvp_linear,
    .depends = unslices_depends,
    .formula = "$y = 0, with $y[$0[0], ...] += $1, ... along $a",
    .adjoint = {"", "~1 += its slice of ~y"},
    .show_attrs = show_unslices,
    .sample = unslices_sample,
};

ad_var ad_unslices_at(const char *where, ad_var starts, int n, const ad_var *x, int axis, int64_t length) {
    ad_var few[8], *in = few;
    ad_tape *tape = starts.tape;
    if (!tape || !ad_check_var(starts, "ad_unslices", where)) return ad_var_invalid(tape);
    if (n < 1 || !x) {
        ad_tape_fail(tape, AD_ERR_VALUE, "ad_unslices", where, "%d slices%s", n, x ? "" : ", which are NULL");
        return ad_var_invalid(tape);
    }
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (n >= (int)(sizeof few / sizeof *few)) in = ad_arena_take(&tape->scratch, ((size_t)n + 1) * sizeof *in);
    ad_var y = ad_var_invalid(tape);
    if (in) {
        in[0] = starts;
        for (int i = 0; i < n; i++) in[i + 1] = x[i];
        unslices_attrs attrs = {.axis = axis, .n = length};
        y = ad_apply_at(where, tape, &ad_op_unslices, n + 1, in, &attrs, NULL);
    } else {
        ad_tape_out_of_memory(tape, "ad_unslices", where);
    }
    ad_arena_rewind(&tape->scratch, scratch);
    return y;
}
