/* Elements put to places along an axis that an index names, as ad_gather reads them: scatter replaces what is there,
 * scatter_amax takes the larger, and scatter_reduce is made of these and of scatter_add. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/move.h"
#include "ops/ops.h"

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, call->in[0]->shape.rank);
}

/* Before the kernels: the indices are in range, and the result begins as input 0. */
static ad_status begin(ad_call *call) {
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[attr_axis(call)]);
    if (!status) ad_copy_any(call->in[0], &call->out[0]);
    return status;
}

static ad_var apply_scatter(const char *where, const ad_op *op, ad_var x, int axis, ad_var index, ad_var source) {
    ad_var in[] = {x, index, source};
    ad_axis_attrs attrs = {axis};
    ad_tape *tape = x.tape ? x.tape : index.tape ? index.tape : source.tape;
    return ad_apply_at(where, tape, op, 3, in, &attrs, NULL);
}

/* ---- scatter ----------------------------------------------------------------------------------------------------- */

static ad_status replace_shape(ad_call *call) {
    ad_status status = ad_scatter_shape(call);
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    ad_set_out(call, 1, AD_I32, call->in[1]->shape);
    return status;
}

static ad_status replace_forward(ad_call *call) {
    ad_status status = begin(call);
    if (status) return status;
    ad_view owner = ad_scratch_view(call, AD_I64, call->out[0].shape);
    if (!owner.data) return AD_ERR_OOM;
    ad_kernel_scatter(call->in[2], attr_axis(call), call->in[1], &call->out[0], owner.data, &call->out[1]);
    return AD_OK;
}

/* What was replaced, in x or by a later element of the source, gets nothing. */
static void replace_vjp(ad_vjp *v) {
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_var index = ad_vjp_input(v, 1), g = ad_vjp_seed(v, 0), zero = ad_vjp_number(v, 0);
    if (ad_vjp_wants(v, 0))
        ad_vjp_give(v, 0, ad_scatter(g, axis, index, ad_broadcast_to(zero, ad_vjp_input_shape(v, 1))));
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_where(ad_vjp_result(v, 1), ad_gather(g, axis, index), zero));
}

const ad_op ad_op_scatter = {
    .name = "scatter",
    .inputs = 3,
    .results = 2,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUT(1) | AD_SAVES_RESULT(1),
    .shape = replace_shape,
    .forward = replace_forward,
    .vjp = replace_vjp,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = $0, with $y[$1] = $2 along $a",
    .result_formula = {"$y1 = [$2 stayed]"},
    .adjoint = {"~0 += ~y, but 0 at [$1]", "", "~2 += $y1 ? ~y[$1] : 0"},
    .convention = "of several that go to one place the last stays, and it alone gets the gradient",
    .show_attrs = ad_show_axis,
    .sample = ad_sample_scatter,
};

ad_var ad_scatter_at(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    return apply_scatter(where, &ad_op_scatter, x, axis, index, source);
}

/* ---- scatter_amax ------------------------------------------------------------------------------------------------ */

static ad_status amax_forward(ad_call *call) {
    ad_status status = begin(call);
    if (!status) ad_kernel_scatter_max(call->in[2], attr_axis(call), call->in[1], &call->out[0]);
    return status;
}

/* Nothing is above the result, so what is not below it is equal: those share the gradient evenly. */
typedef struct ties {
    ad_var x_below, source_below, equal; /* at each place, how many are equal to the result */
} ties;

static ties ties_of(int axis, ad_var x, ad_var index, ad_var source, ad_var y) {
    ad_var zero = ad_number_like(AD_HERE, y, 0), one = ad_number_like(AD_HERE, y, 1);
    ties t = {.x_below = ad_greater(y, x), .source_below = ad_greater(ad_gather(y, axis, index), source)};
    t.equal = ad_scatter_add(ad_where(t.x_below, zero, one), axis, index, ad_where(t.source_below, zero, one));
    return t;
}

static void amax_vjp(ad_vjp *v) {
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_var index = ad_vjp_input(v, 1), zero = ad_vjp_number(v, 0);
    ties t = ties_of(axis, ad_vjp_input(v, 0), index, ad_vjp_input(v, 2), ad_vjp_result(v, 0));
    ad_var share = ad_masked_div(ad_vjp_seed(v, 0), t.equal);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_where(t.x_below, zero, share));
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_where(t.source_below, zero, ad_gather(share, axis, index)));
}

static void amax_jvp(ad_jvp *j) {
    int axis = ((const ad_axis_attrs *)ad_jvp_attrs(j))->axis;
    ad_var index = ad_jvp_input(j, 1), zero = ad_jvp_number(j, 0);
    ties t = ties_of(axis, ad_jvp_input(j, 0), index, ad_jvp_input(j, 2), ad_jvp_result(j, 0));
    ad_var of_x = ad_where(t.x_below, zero, ad_jvp_tangent(j, 0));
    ad_var of_source = ad_where(t.source_below, zero, ad_jvp_tangent(j, 2));
    ad_jvp_give(j, 0, ad_masked_div(ad_scatter_add(of_x, axis, index, of_source), t.equal));
}

const ad_op ad_op_scatter_amax = {
    .name = "scatter_amax",
    .inputs = 3,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUTS | AD_SAVES_RESULT(0),
    .shape = ad_scatter_shape,
    .forward = amax_forward,
    .vjp = amax_vjp,
    .jvp = amax_jvp,
    .formula = "$y = $0, with $y[$1] = max($y[$1], $2) along $a",
    .adjoint = {"~0 += [$0 = $y] ~y / how many are equal", "", "~2 += [$2 = $y[$1]] ~y[$1] / how many are equal"},
    .convention = "equal elements share the gradient evenly",
    .show_attrs = ad_show_axis,
    .sample = ad_sample_scatter,
};

/* ---- scatter_reduce ---------------------------------------------------------------------------------------------- */

static ad_var reduce_amax(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    return apply_scatter(where, &ad_op_scatter_amax, x, axis, index, source);
}

static ad_var reduce_amin(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    return ad_neg_at(where, reduce_amax(where, ad_neg_at(where, x), axis, index, ad_neg_at(where, source)));
}

static ad_var reduce_mean(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    ad_var sum = ad_scatter_add_at(where, x, axis, index, source);
    if (!ad_var_is_valid(sum)) return sum;
    ad_view value = ad_value(sum);
    ad_var one = ad_number_at(where, sum.tape, value.dtype, 1);
    ad_var count = ad_scatter_add_at(where, ad_broadcast_to_at(where, one, value.shape), axis, index,
                                     ad_broadcast_to_at(where, one, ad_value(index).shape));
    return ad_div_at(where, sum, count);
}

/* In the order of their places, the elements that go to one are neighbours. The running product begins anew where the place
 * changes; scattered, the last one of each place stays: that of all. No division, so zeros do no harm to derivatives. */
static ad_var reduce_prod(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    ad_shape shape;
    if (!ad_check_var(x, "ad_scatter_reduce", where) ||
        (axis = ad_composed_axis(index, axis, "ad_scatter_reduce", where, &shape)) < 0)
        return ad_var_invalid(x.tape);
    if (shape.dim[axis] == 0) return ad_scatter_at(where, x, axis, index, source);
    ad_var order = ad_argsort_at(where, index, axis, false);
    ad_var place = ad_gather_at(where, index, axis, order), element = ad_gather_at(where, source, axis, order);
    ad_var same = ad_equal_at(where, ad_slice_at(where, place, axis, 0, -1, 1),
                              ad_slice_at(where, place, axis, 1, AD_TO_END, 1));
    ad_shape none = {.rank = shape.rank, .dim = {0}}, behind = none;
    behind.dim[axis] = 1;
    ad_var goes_on = ad_pad_at(where, same, none, behind, AD_PAD_CONSTANT, 0);
    ad_dtype dtype = ad_value_at(where, element).dtype;
    ad_var zero = ad_number_at(where, x.tape, dtype, 0), one = ad_number_at(where, x.tape, dtype, 1);
    ad_var before = ad_recurrence_at(where, ad_where_at(where, goes_on, element, zero),
                                     ad_where_at(where, goes_on, zero, one), axis, false, 1);
    ad_var product = ad_scatter_at(where, ad_broadcast_to_at(where, one, ad_value_at(where, x).shape), axis, place,
                                   ad_mul_at(where, before, element));
    return ad_mul_at(where, x, product);
}

ad_var ad_scatter_reduce_at(const char *where, ad_var x, int axis, ad_var index, ad_var source,
                            ad_scatter_reduction reduction) {
    static ad_var (*const reduce[])(const char *, ad_var, int, ad_var, ad_var) = {
        [AD_SCATTER_SUM] = ad_scatter_add_at, [AD_SCATTER_PROD] = reduce_prod, [AD_SCATTER_MEAN] = reduce_mean,
        [AD_SCATTER_AMAX] = reduce_amax,      [AD_SCATTER_AMIN] = reduce_amin,
    };
    if ((unsigned)reduction < sizeof reduce / sizeof *reduce) return reduce[reduction](where, x, axis, index, source);
    if (ad_check_var(x, "ad_scatter_reduce", where))
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_scatter_reduce", where, "%d is no reduction: see ad_scatter_reduction",
                     (int)reduction);
    return ad_var_invalid(x.tape);
}
