/* Arrays side by side: cat and stack, and the same array many times: tile, repeat_interleave. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* ---- cat --------------------------------------------------------------------------------------------------------- */

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, call->in[0]->shape.rank);
}

static ad_status cat_shape(ad_call *call) {
    int axis = ad_need_axis(call, 0, ((const ad_axis_attrs *)call->attrs)->axis);
    if (axis < 0) return AD_ERR_INDEX;
    ad_shape shape = call->in[0]->shape;
    for (int i = 1; i < call->inputs; i++) {
        ad_status status = ad_need_alike(call, 0, i, axis);
        if (status) return status;
        if (__builtin_add_overflow(shape.dim[axis], call->in[i]->shape.dim[axis], &shape.dim[axis]))
            return ad_fail(call, AD_ERR_LIMIT, "the length along axis %d overflows", axis);
    }
    ad_set_out(call, 0, call->in[0]->dtype, shape);
    return AD_OK;
}

/* The part of `whole` that is input i, which begins at *start; moves that on. */
static ad_view part_of(const ad_call *call, const ad_view *whole, int i, int64_t *start) {
    int axis = attr_axis(call);
    int64_t stop = *start + call->in[i]->shape.dim[axis];
    ad_view part = *whole;
    (void)!ad_view_slice(whole, axis, *start, stop, 1, &part);
    *start = stop;
    return part;
}

static ad_status cat_forward(ad_call *call) {
    int64_t start = 0;
    for (int i = 0; i < call->inputs; i++) {
        ad_view part = part_of(call, &call->out[0], i, &start);
        ad_copy_any(call->in[i], &part);
    }
    return AD_OK;
}

static void cat_vjp(ad_vjp *v) {
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_var g = ad_vjp_seed(v, 0);
    int64_t start = 0;
    for (int i = 0; i < ad_vjp_inputs(v); i++) {
        ad_shape shape = ad_vjp_input_shape(v, i);
        int64_t stop = start + shape.dim[ad_axis_index(axis, shape.rank)];
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, ad_slice(g, axis, start, stop, 1));
        start = stop;
    }
}

static ad_status cat_backward(ad_call *call, ad_adjoint *adjoint) {
    int64_t start = 0;
    for (int i = 0; i < call->inputs; i++) {
        ad_view part = part_of(call, &adjoint->seed[0], i, &start);
        ad_pass(adjoint, i, 0, &part);
    }
    return AD_OK;
}

static bool cat_sample(ad_sample *sample, int k) {
    static const struct {
        int axis, inputs;
        ad_shape shape[5];
    } cases[] = {{0, 2, {{2, {3, 4}}, {2, {2, 4}}}},
                 {-1, 3, {{2, {3, 2}}, {2, {3, 0}}, {2, {3, 1}}}},
                 {1, 5, {{3, {2, 1, 3}}, {3, {2, 2, 3}}, {3, {2, 1, 3}}, {3, {2, 1, 3}}, {3, {2, 1, 3}}}},
                 {0, 1, {{1, {5}}}},
                 {1, 2, {{2, {0, 3}}, {2, {0, 2}}}}};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *(int *)(void *)sample->attrs.bytes = cases[k].axis;
    for (int i = 0; i < cases[k].inputs; i++)
        if (!ad_sample_normal(sample, cases[k].shape[i])) return false;
    return true;
}

const ad_op ad_op_cat = {
    .name = "cat",
    .inputs = -1,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_NOTHING,
    .shape = cat_shape,
    .forward = cat_forward,
    .vjp = cat_vjp,
    .backward = cat_backward,
    .batches = ad_batches_axis,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = [$0, ...] along $a",
    .adjoint = {"~0 += its part of ~y", "~1 += its part of ~y"},
    .show_attrs = ad_show_axis,
    .sample = cat_sample,
};

static ad_tape *tape_of(int n, const ad_var *x) {
    ad_tape *tape = NULL;
    for (int i = 0; i < n && x && !tape; i++) tape = x[i].tape;
    return tape;
}

ad_var ad_cat_at(const char *where, int n, const ad_var *x, int axis) {
    ad_axis_attrs attrs = {axis};
    return ad_apply_at(where, tape_of(n, x), &ad_op_cat, n, x, &attrs, NULL);
}

ad_var ad_stack_at(const char *where, int n, const ad_var *x, int axis) {
    ad_tape *tape = tape_of(n, x);
    if (!tape || !ad_check_var(x[0], "ad_stack", where)) return ad_var_invalid(tape);
    uint64_t position = ad_arena_position(&tape->scratch);
    ad_var *part = ad_arena_take(&tape->scratch, (size_t)n * sizeof *part), y = ad_var_invalid(tape);
    int rank = ad_node_shape(ad_node_at(tape, x[0].index)).rank + 1, from_front = ad_axis_index(axis, rank);
    for (int i = 0; part && i < n; i++) part[i] = ad_unsqueeze_at(where, x[i], from_front < 0 ? axis : from_front);
    if (part) {
        y = ad_cat_at(where, n, part, from_front);
    } else {
        ad_tape_out_of_memory(tape, "ad_stack", where);
    }
    ad_arena_rewind(&tape->scratch, position);
    return y;
}

/* ---- made of stretched views ------------------------------------------------------------------------------------- */

/* Each block of x, [outer, inner], `times` times; seen with three axes, so that the rank never grows. */
static ad_var repeat_blocks(const char *where, ad_var x, int64_t outer, int64_t inner, int64_t times,
                            ad_shape shape) {
    ad_var block = ad_reshape_at(where, x, AD_SHAPE(outer, 1, inner));
    return ad_reshape_at(where, ad_broadcast_to_at(where, block, AD_SHAPE(outer, times, inner)), shape);
}

/* The product of the dimensions from `first` to before `end`. The shape is one of an array, but perhaps of no elements, so
 * this may overflow: then with a size that no array has. */
static int64_t product(const ad_shape *shape, int first, int end) {
    int64_t n = 1;
    for (int i = first; i < end; i++)
        if (__builtin_mul_overflow(n, shape->dim[i], &n)) return INT64_MAX;
    return n;
}

/* False, and the error, if that many times the dimension is none. */
static bool multiply(ad_var x, const char *subject, const char *where, int axis, int64_t times, int64_t *n) {
    int64_t many;
    if (times >= 0 && !__builtin_mul_overflow(*n, times, &many)) {
        *n = many;
        return true;
    }
    ad_tape_fail(x.tape, times < 0 ? AD_ERR_VALUE : AD_ERR_LIMIT, subject, where,
                 "axis %d of %lld elements, %lld times", axis, (long long)*n, (long long)times);
    return false;
}

ad_var ad_repeat_interleave_at(const char *where, ad_var x, int64_t times, int axis) {
    ad_shape shape;
    axis = ad_composed_axis(x, axis, "ad_repeat_interleave", where, &shape);
    if (axis < 0) return ad_var_invalid(x.tape);
    int64_t outer = product(&shape, 0, axis + 1), inner = product(&shape, axis + 1, shape.rank);
    if (!multiply(x, "ad_repeat_interleave", where, axis, times, &shape.dim[axis])) return ad_var_invalid(x.tape);
    return repeat_blocks(where, x, outer, inner, times, shape);
}

ad_var ad_tile_at(const char *where, ad_var x, ad_shape times) {
    ad_shape shape = ad_value_at(where, x).shape;
    if (!ad_var_is_valid(x)) return ad_var_invalid(x.tape);
    if (times.rank < 0 || times.rank > AD_MAX_RANK) {
        ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_tile", where, "%d numbers of times: make them with AD_SHAPE",
                     times.rank);
        return ad_var_invalid(x.tape);
    }
    ad_shape whole = {.rank = ad_max_int(shape.rank, times.rank), .dim = {0}};
    for (int i = 0; i < whole.rank; i++) {
        int from = i - (whole.rank - shape.rank);
        whole.dim[i] = from < 0 ? 1 : shape.dim[from];
    }
    if (whole.rank > shape.rank) x = ad_reshape_at(where, x, whole);
    /* From the last axis on: what is repeated first is smallest. */
    for (int axis = whole.rank - 1; axis >= whole.rank - times.rank; axis--) {
        int64_t n = times.dim[axis - (whole.rank - times.rank)];
        if (n == 1) continue;
        int64_t outer = product(&whole, 0, axis), inner = product(&whole, axis, whole.rank);
        if (!multiply(x, "ad_tile", where, axis, n, &whole.dim[axis])) return ad_var_invalid(x.tape);
        x = repeat_blocks(where, x, outer, inner, n, whole);
    }
    return x;
}
