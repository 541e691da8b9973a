/* Comparisons, tests and where: masks and selection. What is compared how is a row of ops/kernels/elementwise_table.h. */
#include "ops/ops.h"

/* ---- masks ------------------------------------------------------------------------------------------------------ */

static ad_status compare_shape(ad_call *call) {
    call->out[0].dtype = AD_I32;
    ad_status status = ad_need_same_dtype(call, 0, 1);
    return status ? status : ad_shape_broadcast_inputs(call, 0, 1, &call->out[0].shape);
}

static ad_status test_shape(ad_call *call) {
    ad_set_out(call, 0, AD_I32, call->in[0]->shape);
    return AD_OK;
}

static ad_status compare(ad_compare op, ad_call *call) {
    const ad_view *y = &call->out[0];
    ad_view a = ad_stretched(call->in[0], &y->shape), b = ad_stretched(call->in[call->inputs - 1], &y->shape);
    ad_kernels_get()->compare(op, &a, &b, y);
    return AD_OK;
}

#define DEFINE_MASK(row, formula_, ...)                                                                              \
    static ad_status row##_forward(ad_call *call) { return compare(AD_COMPARE_##row, call); }                        \
    const ad_op ad_op_##row = {.name = #row,                                                                         \
                               .derivative = AD_NOT_DIFFERENTIABLE,                                                  \
                               .forward = row##_forward,                                                             \
                               .formula = formula_,                                                                  \
                               __VA_ARGS__};

#define X(row, value, formula_)                                                                                      \
    DEFINE_MASK(row, formula_, .inputs = 2, .broadcasts = true, .shape = compare_shape,                              \
                .sample = ad_sample_two_normal)                                                                      \
    ad_var ad_##row##_at(const char *where, ad_var a, ad_var b) {                                                    \
        return ad_apply_2(where, &ad_op_##row, a, b, NULL);                                                          \
    }
AD_COMPARE_ROWS(X)
#undef X

#define X(row, value, formula_)                                                                                      \
    DEFINE_MASK(row, formula_, .inputs = 1, .shape = test_shape, .sample = ad_sample_one_normal)                     \
    ad_var ad_##row##_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_##row, x, NULL); }
AD_TEST_ROWS(X)
#undef X

/* ---- where ------------------------------------------------------------------------------------------------------ */

static ad_status where_shape(ad_call *call) {
    ad_shape values;
    ad_status status = ad_need_same_dtype(call, 1, 2);
    if (!status) status = ad_shape_broadcast_inputs(call, 1, 2, &values);
    if (status) return status;
    call->out[0].dtype = call->in[1]->dtype;
    if (ad_shape_broadcast(&call->in[0]->shape, &values, &call->out[0].shape) == AD_OK) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "shapes do not broadcast: %s, %s, %s", ad_describe(call, 0),
                   ad_describe(call, 1), ad_describe(call, 2));
}

static ad_status where_forward(ad_call *call) {
    const ad_view *y = &call->out[0];
    ad_view condition = ad_stretched(call->in[0], &y->shape);
    ad_view a = ad_stretched(call->in[1], &y->shape), b = ad_stretched(call->in[2], &y->shape);
    ad_kernels_get()->select(&condition, &a, &b, y);
    return AD_OK;
}

static void where_vjp(ad_vjp *v) {
    ad_var condition = ad_vjp_input(v, 0), g = ad_vjp_seed(v, 0), zero = ad_vjp_number(v, 0);
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_where(condition, g, zero));
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_where(condition, zero, g));
}

static void where_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, ad_where(ad_jvp_input(j, 0), ad_jvp_tangent(j, 1), ad_jvp_tangent(j, 2)));
}

static bool where_sample(ad_sample *sample, int k) {
    ad_shape a, b, condition;
    return ad_sample_shape_pair(k, &a, &b) && ad_shape_broadcast(&a, &b, &condition) == AD_OK &&
           ad_sample_index(sample, condition, 2) && ad_sample_normal(sample, a) && ad_sample_normal(sample, b);
}

const ad_op ad_op_where = {
    .name = "where",
    .inputs = 3,
    .broadcasts = true,
    .saves = AD_SAVES_INPUT(0),
    .shape = where_shape,
    .forward = where_forward,
    .vjp = where_vjp,
    .batches = ad_batches_always,
    .jvp = where_jvp,
    .depends = ad_depends_elementwise,
    .formula = "$y = $0 ? $1 : $2",
    .adjoint = {"", "~1 += $0 ? ~y : 0", "~2 += $0 ? 0 : ~y"},
    .sample = where_sample,
};

ad_var ad_where_at(const char *where, ad_var condition, ad_var a, ad_var b) {
    ad_var in[] = {condition, a, b};
    ad_tape *tape = condition.tape ? condition.tape : a.tape ? a.tape : b.tape;
    return ad_apply_at(where, tape, &ad_op_where, 3, in, NULL, NULL);
}

/* ---- through_relu: the derivative of relu, in one pass ------------------------------------------------------------- */

static ad_status through_relu_shape(ad_call *call) {
    ad_status status = ad_shape_like_input(call);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status || ad_same_shape(&call->in[0]->shape, &call->in[1]->shape)) return status;
    return ad_fail(call, AD_ERR_SHAPE, "shapes differ: %s, %s", ad_describe(call, 0), ad_describe(call, 1));
}

/* y (+)= x where `sign` is above 0. */
static void pass_positive(const ad_view *x, const ad_view *sign, const ad_view *y, bool add) {
    ad_kernels_get()->unary_back(AD_UNARY_relu, x, sign, sign, y, add, NULL);
}

static ad_status through_relu_forward(ad_call *call) {
    pass_positive(call->in[0], call->in[1], &call->out[0], false);
    return AD_OK;
}

static ad_status through_relu_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) pass_positive(&adjoint->seed[0], call->in[1], x_bar, add);
    return AD_OK;
}

static void through_relu_vjp(ad_vjp *v) {
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_through_relu(ad_vjp_seed(v, 0), ad_vjp_input(v, 1)));
}

static void through_relu_jvp(ad_jvp *j) {
    if (ad_jvp_moves(j, 0)) ad_jvp_give(j, 0, ad_through_relu(ad_jvp_tangent(j, 0), ad_jvp_input(j, 1)));
}

static bool through_relu_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_normal(sample, shape) && ad_sample_away(sample, shape, 0, 0.25);
}

const ad_op ad_op_through_relu = {
    .name = "through_relu",
    .inputs = 2,
    .elementwise = true,
    .saves = AD_SAVES_INPUT(1),
    .shape = through_relu_shape,
    .forward = through_relu_forward,
    .vjp = through_relu_vjp,
    .backward = through_relu_backward,
    .batches = ad_batches_always,
    .jvp = through_relu_jvp,
    .depends = ad_depends_elementwise,
    .formula = "$y = [$1 > 0] $0",
    .adjoint = {"~0 += [$1 > 0] ~y", ""},
    .convention = "the derivative by $1 is 0 everywhere",
    .sample = through_relu_sample,
};

ad_var ad_through_relu_at(const char *where, ad_var x, ad_var sign) {
    return ad_apply_2(where, &ad_op_through_relu, x, sign, NULL);
}
