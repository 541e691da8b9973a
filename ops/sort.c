/* Sorting along an axis: sort gives all elements in order with their indices, topk the first k of them, argsort the indices
 * alone. Equal elements stay in their order; a NaN is above all numbers. */
#include "ops/kernels/move.h"
#include "ops/ops.h"

typedef struct sort_attrs {
    int axis;
    bool descending;
    int64_t k; /* of topk alone */
} sort_attrs;

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const sort_attrs *)call->attrs)->axis, call->in[0]->shape.rank);
}

static ad_status sort_shape(ad_call *call) {
    if (ad_need_axis(call, 0, ((const sort_attrs *)call->attrs)->axis) < 0) return AD_ERR_INDEX;
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    ad_set_out(call, 1, AD_I64, call->in[0]->shape);
    return AD_OK;
}

static ad_status topk_shape(ad_call *call) {
    ad_status status = sort_shape(call);
    if (status) return status;
    int axis = attr_axis(call);
    int64_t k = ((const sort_attrs *)call->attrs)->k;
    if (k < 0 || k > call->in[0]->shape.dim[axis])
        return ad_fail(call, AD_ERR_VALUE, "the first %lld along axis %d: %s", (long long)k, axis,
                       ad_describe(call, 0));
    call->out[0].shape.dim[axis] = call->out[1].shape.dim[axis] = k;
    return AD_OK;
}

static ad_status sort_forward(ad_call *call) {
    int axis = attr_axis(call);
    const int threads = ad_kernel_sort_threads(call->in[0], axis);
    void *scratch = ad_scratch(call, ad_kernel_sort_scratch(call->in[0], axis, threads));
    if (!scratch) return AD_ERR_OOM;
    ad_kernel_sort(call->in[0], axis, ((const sort_attrs *)call->attrs)->descending, &call->out[0], &call->out[1],
                   threads, scratch);
    return AD_OK;
}

static void sort_vjp(ad_vjp *v) {
    int axis = ((const sort_attrs *)ad_vjp_attrs(v))->axis;
    ad_give_picked(v, axis, ad_vjp_result_shape(v, 1), ad_vjp_result(v, 1), ad_vjp_seed(v, 0));
}

static void sort_jvp(ad_jvp *j) {
    int axis = ((const sort_attrs *)ad_jvp_attrs(j))->axis;
    ad_var index = ad_jvp_result(j, 1);
    ad_jvp_give(j, 0, ad_picked_tangent(j, axis, ad_value(index).shape, index));
}

static void show_sort(const void *attrs, char *text, size_t size) {
    const sort_attrs *sort = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d%s", sort->axis, sort->descending ? ", descending" : "");
}

static void show_topk(const void *attrs, char *text, size_t size) {
    const sort_attrs *sort = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%s %lld, axis %d", sort->descending ? "largest" : "smallest",
                (long long)sort->k, sort->axis);
}

static bool sort_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4), AD_SHAPE(5),
                               AD_SHAPE(30),   AD_SHAPE(0, 3), AD_SHAPE(2, 1)};
    const int axes[] = {-1, 0, 1, 0, 0, 1, 1};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    int64_t n = shapes[k].dim[ad_axis_index(axes[k], shapes[k].rank)];
    *(sort_attrs *)(void *)sample->attrs.bytes = (sort_attrs){.axis = axes[k],
                                                              .descending = k % 2 == 0,
                                                              .k = k % 3 == 0 ? (n + 1) / 2 : n - (k == 1)};
    return ad_sample_normal(sample, shapes[k]);
}

#define SORT_AXIS               AD_ATTR("axis", INT, sort_attrs, axis, AD_REQUIRED)
#define SORT_ORDER(name, usual) AD_ATTR(name, BOOL, sort_attrs, descending, AD_USUALLY(usual))
#define SORT(text, formula_text, show, ...)                                                                          \
    {                                                                                                                \
        .name = #text, .inputs = 1, .results = 2, .attrs_size = sizeof(sort_attrs), .attrs = AD_ATTRS(__VA_ARGS__),  \
        .saves = AD_SAVES_RESULT(1), .shape = text##_shape, .forward = sort_forward, .vjp = sort_vjp,                \
        .jvp = sort_jvp, .depends = ad_depends_along, .formula = formula_text,                                       \
        .result_formula = {"$y1 = their indices"}, .adjoint = {"~0[$y1] += ~y"},                                     \
        .convention = "of equal elements the first comes first", .show_attrs = show, .sample = sort_sample,          \
    }
const ad_op ad_op_sort = SORT(sort, "$y = sort($0), $a", show_sort, SORT_AXIS, SORT_ORDER("descending", false)),
            ad_op_topk = SORT(topk, "$y = of $0 the $a", show_topk, AD_ATTR("k", INT64, sort_attrs, k, AD_REQUIRED),
                              SORT_AXIS, SORT_ORDER("largest", true));

static ad_var apply_sort(const char *where, const ad_op *op, ad_var x, const sort_attrs *attrs, ad_var *index) {
    ad_var results[AD_MAX_RESULTS];
    ad_apply_at(where, x.tape, op, 1, &x, attrs, results);
    if (index) *index = results[1];
    return results[0];
}

ad_var ad_sort_at(const char *where, ad_var x, int axis, bool descending, ad_var *index) {
    sort_attrs attrs = {.axis = axis, .descending = descending};
    return apply_sort(where, &ad_op_sort, x, &attrs, index);
}

ad_var ad_argsort_at(const char *where, ad_var x, int axis, bool descending) {
    ad_var index;
    ad_sort_at(where, x, axis, descending, &index);
    return index;
}

ad_var ad_topk_at(const char *where, ad_var x, int64_t k, int axis, bool largest, ad_var *index) {
    sort_attrs attrs = {.axis = axis, .descending = largest, .k = k};
    return apply_sort(where, &ad_op_topk, x, &attrs, index);
}
