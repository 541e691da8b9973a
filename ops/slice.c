/* Slices along an axis, their transpose, and what is made of them: select, split, chunk, flip, roll. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>

/* ---- windows ----------------------------------------------------------------------------------------------------- */

ad_status ad_embed(ad_call *call, ad_window *find) {
    ad_view window;
    ad_status status = find(call->attrs, &call->out[0], &window);
    if (status) return status;
    ad_kernels_get()->fill(&call->out[0], 0);
    /* Where windows overlap, every row of one is added after the rows before it. */
    ad_kernels_get()->copy(call->in[0], &window, 1, true);
    return AD_OK;
}

ad_status ad_window_back(ad_call *call, ad_adjoint *adjoint, ad_window *find) {
    const ad_view *x_bar = ad_into_cleared(adjoint, 0);
    ad_view window;
    if (!x_bar) return AD_OK;
    ad_status status = find(call->attrs, x_bar, &window);
    if (!status) ad_kernels_get()->copy(&adjoint->seed[0], &window, 1, true);
    return status;
}

ad_status ad_window_pass(ad_call *call, ad_adjoint *adjoint, ad_window *find) {
    ad_view window;
    ad_status status = find(call->attrs, &adjoint->seed[0], &window);
    if (!status) ad_pass(adjoint, 0, 0, &window);
    return status;
}

ad_status ad_embed_shape(ad_call *call, ad_window *find, ad_shape shape) {
    ad_view whole = ad_view_of(NULL, call->in[0]->dtype, shape), window;
    char needed[AD_TYPE_TEXT];
    ad_status status = ad_need_float(call, 0);
    if (status) return status;
    ad_set_out(call, 0, whole.dtype, shape);
    if (ad_shape_count(&shape) < 0) return AD_OK; /* which is refused next */
    status = find(call->attrs, &whole, &window);
    if (status || ad_shape_equal(&window.shape, &call->in[0]->shape)) return status;
    return ad_fail(call, AD_ERR_SHAPE, "%s, but it takes the place of %s", ad_describe(call, 0),
                   ad_type_text(whole.dtype, &window.shape, needed));
}

/* ---- slice ------------------------------------------------------------------------------------------------------- */

typedef struct slice_attrs {
    int axis; /* first, as in ad_axis_attrs */
    int64_t start, stop, step;
    int64_t n; /* of unslice alone: length of the result along the axis */
} slice_attrs;
#define SLICE_ATTRS                                                                                                  \
    AD_ATTR("axis", INT, slice_attrs, axis, AD_REQUIRED),                                                            \
        AD_ATTR("start", INT64, slice_attrs, start, AD_USUALLY(0)),                                                  \
        AD_ATTR("stop", INT64, slice_attrs, stop, AD_USUALLY(INFINITY)),                                             \
        AD_ATTR("step", INT64, slice_attrs, step, AD_USUALLY(1))

static ad_status slice_of(const void *attrs, const ad_view *x, ad_view *window) {
    const slice_attrs *slice = attrs;
    return ad_view_slice(x, slice->axis, slice->start, slice->stop, slice->step, window);
}

static ad_status check_slice(ad_call *call) {
    const slice_attrs *slice = call->attrs;
    if (ad_need_axis(call, 0, slice->axis) < 0) return AD_ERR_INDEX;
    if (slice->step != 0) return AD_OK;
    return ad_fail(call, AD_ERR_VALUE, "the step is 0: it must be positive, or negative to run backwards");
}

static ad_status slice_shape(ad_call *call) {
    ad_status status = check_slice(call);
    call->is_view[0] = true;
    return status ? status : slice_of(call->attrs, call->in[0], &call->out[0]);
}

/* Gives the input the cotangent of one slice. */
static void give_back(ad_vjp *v, const slice_attrs *slice, ad_var g) {
    ad_shape shape = ad_vjp_input_shape(v, 0);
    int64_t n = shape.dim[ad_axis_index(slice->axis, shape.rank)];
    ad_vjp_give(v, 0, ad_unslice(g, slice->axis, slice->start, slice->stop, slice->step, n));
}

static void slice_vjp(ad_vjp *v) { give_back(v, ad_vjp_attrs(v), ad_vjp_seed(v, 0)); }

/* The cotangents of those of the uses that slice along that axis step by step, and where they start. */
static int collect(const ad_vjp *v, int axis, int n, const ad_use *use, ad_var *part, int64_t *start) {
    const ad_shape shape = ad_vjp_input_shape(v, 0);
    int parts = 0;
    for (int k = 0; k < n; k++) {
        const slice_attrs *slice = use[k].attrs;
        if (ad_axis_index(slice->axis, shape.rank) != axis || slice->step != 1) continue;
        start[parts] = ad_slice_bound(slice->start, shape.dim[axis], 1);
        part[parts++] = use[k].seed;
    }
    return parts;
}

/* Whether the parts are all of the axis, in order. */
static bool are_all(int parts, const ad_var *part, const int64_t *start, int axis, int64_t n) {
    int64_t end = 0;
    for (int i = 0; i < parts; i++) {
        if (start[i] != end) return false;
        end += ad_value(part[i]).shape.dim[axis];
    }
    return end == n;
}

/* One array for all slices along an axis, however many they are. */
static void slice_vjp_of_uses(ad_vjp *v, int n, const ad_use *use) {
    const ad_shape shape = ad_vjp_input_shape(v, 0);
    ad_var *part = ad_scratch(v->call, (size_t)n * sizeof *part);
    int64_t *start = ad_scratch(v->call, (size_t)n * sizeof *start);
    for (int k = 0; k < n; k++)
        if (((const slice_attrs *)use[k].attrs)->step != 1) give_back(v, use[k].attrs, use[k].seed);
    for (int axis = 0; axis < shape.rank && part && start; axis++) {
        const int parts = collect(v, axis, n, use, part, start);
        if (parts == 0) continue;
        if (are_all(parts, part, start, axis, shape.dim[axis])) {
            ad_vjp_give(v, 0, ad_cat(parts, part, axis));
        } else {
            ad_var starts = ad_constant(ad_vjp_tape(v), NULL, AD_I64, AD_SHAPE(parts), start);
            ad_vjp_give(v, 0, ad_unslices(starts, parts, part, axis, shape.dim[axis]));
        }
    }
}

/* Of neighbours, one beside the other, none reads or clears what the others write. */
static ad_status slice_backward(ad_call *call, ad_adjoint *adjoint) {
    const slice_attrs *slice = call->attrs;
    if (slice->step != 1) return ad_window_back(call, adjoint, slice_of);
    const ad_shape *shape = &call->in[0]->shape;
    const int axis = ad_axis_index(slice->axis, shape->rank);
    const int64_t from = ad_slice_bound(slice->start, shape->dim[axis], 1), to = from + call->out[0].shape.dim[axis];
    bool add;
    const ad_view *x_bar = ad_into_window(adjoint, 0, axis, from, to, &add);
    ad_view window;
    if (!x_bar) return AD_OK;
    ad_status status = slice_of(slice, x_bar, &window);
    if (!status) ad_kernels_get()->copy(&adjoint->seed[0], &window, 1, add);
    return status;
}

static void add_end(char *text, size_t size, size_t *length, int64_t end) {
    if (end != AD_TO_END && end != AD_TO_START) ad_text_add(text, size, length, "%lld", (long long)end);
}

static void show_slice(const void *attrs, char *text, size_t size) {
    const slice_attrs *slice = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d, ", slice->axis);
    add_end(text, size, &length, slice->start);
    ad_text_add(text, size, &length, ":");
    add_end(text, size, &length, slice->stop);
    if (slice->step != 1) ad_text_add(text, size, &length, ":%lld", (long long)slice->step);
}

static bool slice_case(int k, ad_shape *shape, slice_attrs *attrs) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(3, 5),    AD_SHAPE(2, 3, 4), AD_SHAPE(6),
                               AD_SHAPE(0, 3), AD_SHAPE(2, 1, 3), AD_SHAPE(4)};
    const slice_attrs cases[] = {{.axis = 0, .start = 1, .stop = AD_TO_END, .step = 1},
                                 {.axis = -1, .start = 0, .stop = 5, .step = 2},
                                 {.axis = 1, .start = -2, .stop = -1, .step = 1},
                                 {.axis = 0, .start = -1, .stop = AD_TO_START, .step = -2},
                                 {.axis = 1, .start = 1, .stop = 3, .step = 1},
                                 {.axis = 1, .start = 0, .stop = 1, .step = 1},
                                 {.axis = 0, .start = 3, .stop = 1, .step = 1}};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *shape = shapes[k];
    *attrs = cases[k];
    attrs->n = shape->dim[ad_axis_index(attrs->axis, shape->rank)];
    return true;
}

static bool slice_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return slice_case(k, &shape, (slice_attrs *)(void *)sample->attrs.bytes) && ad_sample_normal(sample, shape);
}

const ad_op ad_op_slice = {
    .name = "slice",
    .inputs = 1,
    .attrs_size = sizeof(slice_attrs),
    .attrs = AD_ATTRS(SLICE_ATTRS),
    .saves = AD_SAVES_NOTHING,
    .shape = slice_shape,
    .vjp = slice_vjp,
    .vjp_of_uses = slice_vjp_of_uses,
    .backward = slice_backward,
    .batches = ad_batches_axis,
    .jvp = ad_jvp_linear,
    .formula = "$y = $0[$a]",
    .adjoint = {"~0[$a] += ~y"},
    .show_attrs = show_slice,
    .sample = slice_sample,
};

ad_var ad_slice_at(const char *where, ad_var x, int axis, int64_t start, int64_t stop, int64_t step) {
    slice_attrs attrs = {.axis = axis, .start = start, .stop = stop, .step = step};
    return ad_apply_1(where, &ad_op_slice, x, &attrs);
}

/* ---- unslice ----------------------------------------------------------------------------------------------------- */

static ad_status unslice_shape(ad_call *call) {
    const slice_attrs *slice = call->attrs;
    ad_shape shape = call->in[0]->shape;
    ad_status status = check_slice(call);
    if (status) return status;
    if (slice->n < 0)
        return ad_fail(call, AD_ERR_SHAPE, "the length along axis %d would be %lld", slice->axis,
                       (long long)slice->n);
    shape.dim[ad_axis_index(slice->axis, shape.rank)] = slice->n;
    return ad_embed_shape(call, slice_of, shape);
}

static ad_status unslice_forward(ad_call *call) { return ad_embed(call, slice_of); }

static void unslice_vjp(ad_vjp *v) {
    const slice_attrs *slice = ad_vjp_attrs(v);
    ad_vjp_give(v, 0, ad_slice(ad_vjp_seed(v, 0), slice->axis, slice->start, slice->stop, slice->step));
}

static ad_status unslice_backward(ad_call *call, ad_adjoint *adjoint) {
    return ad_window_pass(call, adjoint, slice_of);
}

static bool unslice_sample(ad_sample *sample, int k) {
    ad_shape shape;
    slice_attrs *attrs = (slice_attrs *)(void *)sample->attrs.bytes;
    ad_view window;
    if (!slice_case(k, &shape, attrs)) return false;
    ad_view whole = ad_view_of(NULL, sample->dtype, shape);
    return slice_of(attrs, &whole, &window) == AD_OK && ad_sample_normal(sample, window.shape);
}

const ad_op ad_op_unslice = {
    .name = "unslice",
    .inputs = 1,
    .attrs_size = sizeof(slice_attrs),
    .attrs = AD_ATTRS(SLICE_ATTRS, AD_ATTR("n", INT64, slice_attrs, n, AD_REQUIRED)),
    .saves = AD_SAVES_NOTHING,
    .shape = unslice_shape,
    .forward = unslice_forward,
    .vjp = unslice_vjp,
    .backward = unslice_backward,
    .batches = ad_batches_axis,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = 0, with $y[$a] = $0",
    .adjoint = {"~0 += ~y[$a]"},
    .show_attrs = show_slice,
    .sample = unslice_sample,
};

ad_var ad_unslice_at(const char *where, ad_var x, int axis, int64_t start, int64_t stop, int64_t step, int64_t n) {
    slice_attrs attrs = {.axis = axis, .start = start, .stop = stop, .step = step, .n = n};
    return ad_apply_1(where, &ad_op_unslice, x, &attrs);
}

/* ---- made of slices ---------------------------------------------------------------------------------------------- */

ad_var ad_select_at(const char *where, ad_var x, int axis, int64_t i) {
    ad_shape shape;
    axis = ad_composed_axis(x, axis, "ad_select", where, &shape);
    if (axis < 0) return ad_var_invalid(x.tape);
    int64_t n = shape.dim[axis];
    if (i < -n || i >= n) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_INDEX, "ad_select", where, "index %lld is out of range along axis %d: %s",
                     (long long)i, axis, text);
        return ad_var_invalid(x.tape);
    }
    if (i < 0) i += n;
    ad_var y = ad_slice_at(where, x, axis, i, i + 1, 1);
    return ad_squeeze_at(where, y, AD_AXES(axis));
}

static void refuse_parts(ad_tape *tape, int count, ad_var *parts) {
    for (int i = 0; i < count && parts; i++) parts[i] = ad_var_invalid(tape);
}

static bool check_parts(ad_var x, int count, const void *sizes, const ad_var *parts, const char *subject,
                        const char *where) {
    if (count >= 1 && sizes && parts) return true;
    ad_tape_fail(x.tape, AD_ERR_VALUE, subject, where, "%d parts%s", count,
                 !parts   ? ", and nowhere to put them: parts is NULL"
                 : !sizes ? ", whose sizes are NULL"
                          : "");
    return false;
}

void ad_split_at(const char *where, ad_var x, int axis, int count, const int64_t *sizes, ad_var *parts) {
    ad_shape shape;
    int64_t sum = 0;
    bool ok = (axis = ad_composed_axis(x, axis, "ad_split", where, &shape)) >= 0 &&
              check_parts(x, count, sizes, parts, "ad_split", where);
    refuse_parts(x.tape, count, parts);
    if (!ok) return;
    for (int i = 0; i < count; i++) ok &= sizes[i] >= 0 && !__builtin_add_overflow(sum, sizes[i], &sum);
    if (!ok || sum != shape.dim[axis]) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_split", where,
                     "%s, whose axis %d has not the size of the %d parts, %lld", text, axis, count, (long long)sum);
        return;
    }
    for (int64_t i = 0, start = 0; i < count; start += sizes[i++])
        parts[i] = ad_slice_at(where, x, axis, start, start + sizes[i], 1);
}

void ad_chunk_at(const char *where, ad_var x, int axis, int count, ad_var *parts) {
    ad_shape shape;
    bool ok = (axis = ad_composed_axis(x, axis, "ad_chunk", where, &shape)) >= 0 &&
              check_parts(x, count, &shape, parts, "ad_chunk", where);
    refuse_parts(x.tape, count, parts);
    if (!ok) return;
    int64_t size = shape.dim[axis] / count, longer = shape.dim[axis] % count;
    for (int64_t i = 0, start = 0; i < count; i++) {
        int64_t stop = start + size + (i < longer);
        parts[i] = ad_slice_at(where, x, axis, start, stop, 1);
        start = stop;
    }
}

ad_var ad_flip_at(const char *where, ad_var x, ad_axes axes) {
    ad_shape shape;
    unsigned named;
    if (!ad_composed_axes(x, &axes, "ad_flip", where, &shape, &named)) return ad_var_invalid(x.tape);
    for (int axis = 0; axis < shape.rank; axis++)
        if (named & 1u << axis) x = ad_slice_at(where, x, axis, AD_TO_END, AD_TO_START, -1);
    return x;
}

ad_var ad_roll_at(const char *where, ad_var x, int64_t shift, int axis) {
    ad_shape shape;
    axis = ad_composed_axis(x, axis, "ad_roll", where, &shape);
    if (axis < 0) return ad_var_invalid(x.tape);
    int64_t n = shape.dim[axis];
    if (n == 0) return x;
    int64_t back = (n - shift % n) % n; /* the element that comes first */
    ad_var parts[] = {ad_slice_at(where, x, axis, back, n, 1), ad_slice_at(where, x, axis, 0, back, 1)};
    return back ? ad_cat_at(where, 2, parts, axis) : x;
}
