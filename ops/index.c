/* Indexing along an axis: gather and its transpose, scatter_add. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* ---- gather -------------------------------------------------------------------------------------------------- */

/* Input `index` has the rank of input 0 and is, off the axis, not larger. */
static ad_status check_index(ad_call *call, int index, int axis) {
    const ad_shape *x = &call->in[0]->shape, *at = &call->in[index]->shape;
    ad_status status = ad_need_integer(call, index);
    if (status) return status;
    if (x->rank != at->rank)
        return ad_fail(call, AD_ERR_SHAPE, "ranks differ: %s, %s", ad_describe(call, 0), ad_describe(call, index));
    for (int i = 0; i < x->rank; i++)
        if (i != axis && at->dim[i] > x->dim[i])
            return ad_fail(call, AD_ERR_SHAPE, "axis %d of the index is longer than that of what it indexes: %s, %s",
                           i, ad_describe(call, index), ad_describe(call, 0));
    return AD_OK;
}

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, call->in[0]->shape.rank);
}

static ad_status gather_shape(ad_call *call) {
    int axis = ad_need_axis(call, 0, ((const ad_axis_attrs *)call->attrs)->axis);
    if (axis < 0) return AD_ERR_INDEX;
    ad_set_out(call, 0, call->in[0]->dtype, call->in[1]->shape);
    return check_index(call, 1, axis);
}

static ad_status gather_forward(ad_call *call) {
    int axis = attr_axis(call);
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[axis]);
    if (!status) ad_kernels_get()->gather(call->in[0], axis, call->in[1], &call->out[0]);
    return status;
}

static void gather_vjp(ad_vjp *v) {
    ad_var zeros = ad_broadcast_to(ad_vjp_number(v, 0), ad_vjp_input_shape(v, 0));
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_vjp_give(v, 0, ad_scatter_add(zeros, axis, ad_vjp_input(v, 1), ad_vjp_seed(v, 0)));
}

static ad_status gather_backward(ad_call *call, ad_adjoint *adjoint) {
    const int axis = attr_axis(call);
    const ad_view *x_bar = ad_into_rows(adjoint, 0, axis, call->in[1]);
    if (x_bar) ad_kernels_get()->scatter_add(&adjoint->seed[0], axis, call->in[1], x_bar);
    return AD_OK;
}

/* Shapes of x and index, and an axis, with repeated indices. */
static bool index_case(int k, ad_shape *x, ad_shape *index, int *axis) {
    const ad_shape cases[][2] = {{AD_SHAPE(3, 4), AD_SHAPE(3, 1)},
                                 {AD_SHAPE(3, 4), AD_SHAPE(5, 4)},
                                 {AD_SHAPE(2, 3, 4), AD_SHAPE(1, 6, 3)},
                                 {AD_SHAPE(6), AD_SHAPE(8)},
                                 {AD_SHAPE(3, 4), AD_SHAPE(0, 2)}};
    const int axes[] = {1, 0, 1, -1, 1};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *x = cases[k][0];
    *index = cases[k][1];
    *axis = axes[k];
    return true;
}

static bool gather_sample(ad_sample *sample, int k) {
    ad_shape x, index;
    int axis;
    if (!index_case(k, &x, &index, &axis)) return false;
    *(int *)(void *)sample->attrs.bytes = axis;
    return ad_sample_normal(sample, x) && ad_sample_index(sample, index, x.dim[ad_axis_index(axis, x.rank)]);
}

const ad_op ad_op_gather = {
    .name = "gather",
    .inputs = 2,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUT(1),
    .shape = gather_shape,
    .forward = gather_forward,
    .vjp = gather_vjp,
    .backward = gather_backward,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = $0[$1] along $a",
    .adjoint = {"~0[$1] += ~y", ""},
    .show_attrs = ad_show_axis,
    .sample = gather_sample,
};

ad_var ad_gather_at(const char *where, ad_var x, int axis, ad_var index) {
    ad_axis_attrs attrs = {axis};
    return ad_apply_2(where, &ad_op_gather, x, index, &attrs);
}

/* x[..., C] and class indices [...]: a loss picks with it, so nothing broadcasts. */
static bool check_pick(ad_tape *tape, ad_var x, ad_var index, const char *where) {
    if (!ad_tape_check_var(tape, x, "ad_pick", where, "x")) return false;
    if (!ad_tape_check_var(tape, index, "ad_pick", where, "the index")) return false;
    ad_shape expected = ad_node_shape(ad_node_at(tape, x.index)),
             given = ad_node_shape(ad_node_at(tape, index.index));
    if (expected.rank > 0) {
        expected.rank--;
        if (ad_shape_equal(&expected, &given)) return true;
    }
    char x_text[AD_TYPE_TEXT + 128], index_text[AD_TYPE_TEXT + 128];
    ad_node_text(tape, x.index, true, x_text, sizeof x_text);
    ad_node_text(tape, index.index, true, index_text, sizeof index_text);
    ad_tape_fail(tape, AD_ERR_SHAPE, "ad_pick", where,
                 "%s, %s: the index needs the shape of what it picks from without the last axis", x_text, index_text);
    return false;
}

ad_var ad_pick_at(const char *where, ad_var x, ad_var index) {
    ad_tape *tape = x.tape ? x.tape : index.tape;
    if (!tape || !check_pick(tape, x, index, where)) return ad_var_invalid(tape);
    ad_shape shape = ad_node_shape(ad_node_at(tape, index.index)), column = shape;
    column.dim[column.rank++] = 1;
    return ad_reshape_at(where, ad_gather_at(where, x, -1, ad_reshape_at(where, index, column)), shape);
}

/* ---- scatter_add ------------------------------------------------------------------------------------------------ */

ad_status ad_scatter_shape(ad_call *call) {
    int axis = ad_need_axis(call, 0, ((const ad_axis_attrs *)call->attrs)->axis);
    if (axis < 0) return AD_ERR_INDEX;
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 2);
    if (!status) status = check_index(call, 1, axis);
    if (!status && !ad_shape_equal(&call->in[1]->shape, &call->in[2]->shape))
        status = ad_fail(call, AD_ERR_SHAPE, "index and source differ in shape: %s, %s", ad_describe(call, 1),
                         ad_describe(call, 2));
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    return status;
}

static ad_status scatter_forward(ad_call *call) {
    int axis = attr_axis(call);
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[axis]);
    if (status) return status;
    ad_kernels_get()->copy(call->in[0], &call->out[0], 1, false);
    ad_kernels_get()->scatter_add(call->in[2], axis, call->in[1], &call->out[0]);
    return AD_OK;
}

static void scatter_vjp(ad_vjp *v) {
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_gather(ad_vjp_seed(v, 0), axis, ad_vjp_input(v, 1)));
}

bool ad_sample_scatter(ad_sample *sample, int k) {
    ad_shape x, index;
    int axis;
    if (!index_case(k, &x, &index, &axis)) return false;
    *(int *)(void *)sample->attrs.bytes = axis;
    return ad_sample_normal(sample, x) && ad_sample_index(sample, index, x.dim[ad_axis_index(axis, x.rank)]) &&
           ad_sample_normal(sample, index);
}

static void take_places(const ad_call *call, const ad_view *places, const ad_view *targets) {
    ad_kernels_get()->gather(places, attr_axis(call), call->in[1], targets);
}
static void scatter_depends(ad_dependence *d) { ad_depends_scattered(d, take_places); }

const ad_op ad_op_scatter_add = {
    .name = "scatter_add",
    .inputs = 3,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUT(1),
    .shape = ad_scatter_shape,
    .forward = scatter_forward,
    .vjp = scatter_vjp,
    .jvp = ad_jvp_linear,
    .depends = scatter_depends,
    .formula = "$y = $0, with $y[$1] += $2 along $a",
    .adjoint = {"~0 += ~y", "", "~2 += ~y[$1]"},
    .show_attrs = ad_show_axis,
    .sample = ad_sample_scatter,
};

ad_var ad_scatter_add_at(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    ad_var in[] = {x, index, source};
    ad_axis_attrs attrs = {axis};
    ad_tape *tape = x.tape ? x.tape : index.tape ? index.tape : source.tape;
    return ad_apply_at(where, tape, &ad_op_scatter_add, 3, in, &attrs, NULL);
}
