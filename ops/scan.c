/* Scans: y_i is made of the elements up to i along an axis, or, in reverse, of those from i on. Their derivatives are
 * scans the other way. */
#include "ops/kernels/along.h"
#include "ops/ops.h"

#include <math.h>

typedef struct scan_attrs {
    int axis;
    bool reverse;
    double start; /* of recurrence alone */
} scan_attrs;
#define SCAN_ATTRS                                                                                                   \
    AD_ATTR("axis", INT, scan_attrs, axis, AD_REQUIRED),                                                             \
        AD_ATTR("reverse", BOOL, scan_attrs, reverse, AD_USUALLY(false))

static ad_status scan_shape(ad_call *call) {
    if (ad_need_axis(call, 0, ((const scan_attrs *)call->attrs)->axis) < 0) return AD_ERR_INDEX;
    return ad_shape_like_input(call);
}

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const scan_attrs *)call->attrs)->axis, call->out[0].shape.rank);
}
static bool attr_reverse(const ad_call *call) { return ((const scan_attrs *)call->attrs)->reverse; }

static void show_scan(const void *attrs, char *text, size_t size) {
    const scan_attrs *scan = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d%s", scan->axis, scan->reverse ? ", reverse" : "");
}

static bool scan_case(int k, ad_shape *shape, scan_attrs *attrs) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4),
                               AD_SHAPE(5),    AD_SHAPE(0, 3), AD_SHAPE(2, 1)};
    const int axes[] = {-1, 0, 1, 0, 0, 1};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *shape = shapes[k];
    *attrs = (scan_attrs){.axis = axes[k], .reverse = k % 2};
    return true;
}

static bool scan_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return scan_case(k, &shape, (scan_attrs *)(void *)sample->attrs.bytes) && ad_sample_normal(sample, shape);
}

static ad_var scan(const char *where, const ad_op *op, ad_var x, int axis, bool reverse) {
    scan_attrs attrs = {.axis = axis, .reverse = reverse};
    return ad_apply_1(where, op, x, &attrs);
}

/* ---- recurrence -------------------------------------------------------------------------------------------------------- */

static ad_status recurrence_shape(ad_call *call) {
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (!status) status = ad_shape_broadcast_inputs(call, 0, 1, &call->out[0].shape);
    if (status) return status;
    call->out[0].dtype = call->in[0]->dtype;
    int rank = call->out[0].shape.rank, axis = ((const scan_attrs *)call->attrs)->axis;
    if (ad_axis_index(axis, rank) >= 0) return AD_OK;
    char type[AD_TYPE_TEXT];
    return ad_fail(call, AD_ERR_INDEX, "axis %d is out of range: the result is %s", axis,
                   ad_type_text(call->out[0].dtype, &call->out[0].shape, type));
}

static ad_status recurrence_forward(ad_call *call) {
    const ad_view *y = &call->out[0];
    ad_view a = ad_stretched(call->in[0], &y->shape), b = ad_stretched(call->in[1], &y->shape);
    double start = ((const scan_attrs *)call->attrs)->start;
    ad_kernel_recurrence(&a, &b, attr_axis(call), attr_reverse(call), start, y);
    return AD_OK;
}

/* The cotangent m_i of y_{i+1} is, seen from the other end, a recurrence of the same kind with the same a. */
static void recurrence_vjp(ad_vjp *v) {
    const scan_attrs *attrs = ad_vjp_attrs(v);
    ad_var a = ad_vjp_input(v, 0), y = ad_vjp_result(v, 0);
    ad_var m = ad_recurrence(a, ad_vjp_seed(v, 0), attrs->axis, !attrs->reverse, 0);
    ad_vjp_give(v, 1, m);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_masked_mul(m, y));
}

/* The tangent follows the recurrence with what the tangents of a and b add in each step. */
static void recurrence_jvp(ad_jvp *j) {
    const scan_attrs *attrs = ad_jvp_attrs(j);
    ad_var added = ad_masked_mul(ad_jvp_tangent(j, 0), ad_jvp_result(j, 0));
    ad_jvp_give(j, 0,
                ad_recurrence(ad_jvp_input(j, 0), ad_add(ad_jvp_tangent(j, 1), added), attrs->axis, attrs->reverse,
                              0));
}

static bool recurrence_sample(ad_sample *sample, int k) {
    const ad_shape a[] = {AD_SHAPE(3, 4), AD_SCALAR, AD_SHAPE(3, 1), AD_SHAPE(0, 3)},
                   b[] = {AD_SHAPE(3, 4), AD_SHAPE(5), AD_SHAPE(2, 3, 4), AD_SHAPE(0, 3)};
    const int axes[] = {-1, 0, 1, 1};
    if (k >= (int)(sizeof a / sizeof *a)) return false;
    *(scan_attrs *)(void *)sample->attrs.bytes = (scan_attrs){.axis = axes[k], .reverse = k % 2, .start = 0.5 * k};
    return ad_sample_normal(sample, a[k]) && ad_sample_normal(sample, b[k]);
}

const ad_op ad_op_recurrence = {
    .name = "recurrence",
    .inputs = 2,
    .broadcasts = true,
    .attrs_size = sizeof(scan_attrs),
    .attrs = AD_ATTRS(SCAN_ATTRS, AD_ATTR("start", DOUBLE, scan_attrs, start, AD_USUALLY(0))),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = recurrence_shape,
    .forward = recurrence_forward,
    .vjp = recurrence_vjp,
    .jvp = recurrence_jvp,
    .depends = ad_depends_along,
    .formula = "$y[i+1] = $0[i] * $y[i] + $1[i] along $a",
    .adjoint = {"~0 += m * $y, m[i-1] = $0[i] * m[i] + ~y[i]", "~1 += m"},
    .convention = "a factor of 0 gives 0, whatever the other is",
    .show_attrs = show_scan,
    .sample = recurrence_sample,
};

ad_var ad_recurrence_at(const char *where, ad_var a, ad_var b, int axis, bool reverse, double start) {
    scan_attrs attrs = {.axis = axis, .reverse = reverse, .start = start};
    return ad_apply_2(where, &ad_op_recurrence, a, b, &attrs);
}

/* ---- cumsum ------------------------------------------------------------------------------------------------------------ */

static ad_status cumsum_forward(ad_call *call) {
    ad_kernel_cumsum(call->in[0], attr_axis(call), attr_reverse(call), &call->out[0]);
    return AD_OK;
}

static void cumsum_vjp(ad_vjp *v) {
    const scan_attrs *attrs = ad_vjp_attrs(v);
    ad_vjp_give(v, 0, ad_cumsum(ad_vjp_seed(v, 0), attrs->axis, !attrs->reverse));
}

const ad_op ad_op_cumsum = {
    .name = "cumsum",
    .inputs = 1,
    .attrs_size = sizeof(scan_attrs),
    .attrs = AD_ATTRS(SCAN_ATTRS),
    .saves = AD_SAVES_NOTHING,
    .shape = scan_shape,
    .forward = cumsum_forward,
    .vjp = cumsum_vjp,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_along,
    .formula = "$y = cumsum($0, $a)",
    .adjoint = {"~0 += cumsum(~y, the other way)"},
    .show_attrs = show_scan,
    .sample = scan_sample,
};

ad_var ad_cumsum_at(const char *where, ad_var x, int axis, bool reverse) {
    return scan(where, &ad_op_cumsum, x, axis, reverse);
}

/* ---- cumprod ----------------------------------------------------------------------------------------------------------- */

static ad_status cumprod_forward(ad_call *call) {
    ad_kernel_cumprod(call->in[0], attr_axis(call), attr_reverse(call), &call->out[0]);
    return AD_OK;
}

/* y of the step before, `first` at the first. */
static ad_var step_before(ad_var y, const scan_attrs *attrs, ad_var zero, double first) {
    return ad_recurrence(zero, y, attrs->axis, attrs->reverse, first);
}

/* No division, so that zeros do no harm: the contribution to x_i is the product before it, y_{i-1}, times
 * s_i = g_i + x_{i+1} s_{i+1}. */
static void cumprod_vjp(ad_vjp *v) {
    const scan_attrs *attrs = ad_vjp_attrs(v);
    ad_var x = ad_vjp_input(v, 0), g = ad_vjp_seed(v, 0);
    ad_var before = step_before(ad_vjp_result(v, 0), attrs, ad_vjp_number(v, 0), 1);
    ad_var s = ad_add(g, ad_recurrence(x, ad_masked_mul(g, x), attrs->axis, !attrs->reverse, 0));
    ad_vjp_give(v, 0, ad_masked_mul(s, before));
}

/* y'_i = x_i y'_{i-1} + y_{i-1} x'_i; of the recurrence the results are those of the step before. */
static void cumprod_jvp(ad_jvp *j) {
    const scan_attrs *attrs = ad_jvp_attrs(j);
    ad_var x = ad_jvp_input(j, 0), before = step_before(ad_jvp_result(j, 0), attrs, ad_jvp_number(j, 0), 1);
    ad_var added = ad_masked_mul(ad_jvp_tangent(j, 0), before);
    ad_var moved = ad_recurrence(x, added, attrs->axis, attrs->reverse, 0);
    ad_jvp_give(j, 0, ad_add(ad_masked_mul(moved, x), added));
}

static bool cumprod_sample(ad_sample *sample, int k) {
    if (!scan_sample(sample, k)) return false;
    ad_sample_zeros(sample, k % 3);
    return true;
}

const ad_op ad_op_cumprod = {
    .name = "cumprod",
    .inputs = 1,
    .attrs_size = sizeof(scan_attrs),
    .attrs = AD_ATTRS(SCAN_ATTRS),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = scan_shape,
    .forward = cumprod_forward,
    .vjp = cumprod_vjp,
    .jvp = cumprod_jvp,
    .depends = ad_depends_along,
    .formula = "$y = cumprod($0, $a)",
    .adjoint = {"~0 += $y[i-1] * s, s[i] = ~y[i] + $0[i+1] * s[i+1]"},
    .show_attrs = show_scan,
    .sample = cumprod_sample,
};

ad_var ad_cumprod_at(const char *where, ad_var x, int axis, bool reverse) {
    return scan(where, &ad_op_cumprod, x, axis, reverse);
}

/* ---- logcumsumexp -------------------------------------------------------------------------------------------------------- */

static ad_status logcumsumexp_forward(ad_call *call) {
    ad_kernel_logcumsumexp(call->in[0], attr_axis(call), attr_reverse(call), &call->out[0]);
    return AD_OK;
}

/* exp(u - y) for u <= y, 0 where u is -inf. */
static ad_var part_of(ad_var u, ad_var y, ad_var zero) {
    ad_var least = ad_number(u.tape, ad_value(u).dtype, -INFINITY);
    return ad_where(ad_greater(u, least), ad_exp(ad_sub(u, y)), zero);
}

/* The contribution to x_k is the sum over i >= k of g_i exp(x_k - y_i) = exp(x_k - y_k) s_k, with
 * s_k = g_k + exp(y_k - y_{k+1}) s_{k+1}: no factor is above 1. */
static void logcumsumexp_vjp(ad_vjp *v) {
    const scan_attrs *attrs = ad_vjp_attrs(v);
    ad_var x = ad_vjp_input(v, 0), y = ad_vjp_result(v, 0), g = ad_vjp_seed(v, 0), zero = ad_vjp_number(v, 0);
    ad_var before = part_of(step_before(y, attrs, zero, -INFINITY), y, zero);
    ad_var s = ad_add(g, ad_recurrence(before, ad_masked_mul(g, before), attrs->axis, !attrs->reverse, 0));
    ad_vjp_give(v, 0, ad_masked_mul(s, part_of(x, y, zero)));
}

/* y'_i = exp(y_{i-1} - y_i) y'_{i-1} + exp(x_i - y_i) x'_i */
static void logcumsumexp_jvp(ad_jvp *j) {
    const scan_attrs *attrs = ad_jvp_attrs(j);
    ad_var x = ad_jvp_input(j, 0), y = ad_jvp_result(j, 0), zero = ad_jvp_number(j, 0);
    ad_var before = part_of(step_before(y, attrs, zero, -INFINITY), y, zero);
    ad_var added = ad_masked_mul(ad_jvp_tangent(j, 0), part_of(x, y, zero));
    ad_var moved = ad_recurrence(before, added, attrs->axis, attrs->reverse, 0);
    ad_jvp_give(j, 0, ad_add(ad_masked_mul(moved, before), added));
}

const ad_op ad_op_logcumsumexp = {
    .name = "logcumsumexp",
    .inputs = 1,
    .attrs_size = sizeof(scan_attrs),
    .attrs = AD_ATTRS(SCAN_ATTRS),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = scan_shape,
    .forward = logcumsumexp_forward,
    .vjp = logcumsumexp_vjp,
    .jvp = logcumsumexp_jvp,
    .depends = ad_depends_along,
    .formula = "$y = log cumsum(exp($0), $a)",
    .adjoint = {"~0 += exp($0 - $y) * s, s[i] = ~y[i] + exp($y[i] - $y[i+1]) * s[i+1]"},
    .convention = "where all so far are -inf: -inf, and gradient 0",
    .show_attrs = show_scan,
    .sample = scan_sample,
};

ad_var ad_logcumsumexp_at(const char *where, ad_var x, int axis, bool reverse) {
    return scan(where, &ad_op_logcumsumexp, x, axis, reverse);
}

/* ---- cummax, cummin -------------------------------------------------------------------------------------------------------- */

static ad_status cumulative_shape(ad_call *call) {
    ad_set_out(call, 1, AD_I64, call->in[0]->shape);
    return scan_shape(call);
}

static ad_status cumulative_forward(ad_call *call, int sign) {
    ad_kernel_cumulative_extremum(call->in[0], attr_axis(call), attr_reverse(call), sign, &call->out[0],
                                  &call->out[1]);
    return AD_OK;
}

static ad_status cummax_forward(ad_call *call) { return cumulative_forward(call, 1); }
static ad_status cummin_forward(ad_call *call) { return cumulative_forward(call, -1); }

static void cumulative_vjp(ad_vjp *v) {
    int axis = ((const scan_attrs *)ad_vjp_attrs(v))->axis;
    ad_give_picked(v, axis, ad_vjp_input_shape(v, 0), ad_vjp_result(v, 1), ad_vjp_seed(v, 0));
}

static void cumulative_jvp(ad_jvp *j) {
    int axis = ((const scan_attrs *)ad_jvp_attrs(j))->axis;
    ad_var index = ad_jvp_result(j, 1);
    ad_jvp_give(j, 0, ad_picked_tangent(j, axis, ad_value(index).shape, index));
}

#define CUMULATIVE(text)                                                                                             \
    {                                                                                                                \
        .name = #text, .inputs = 1, .results = 2, .attrs_size = sizeof(scan_attrs), .attrs = AD_ATTRS(SCAN_ATTRS),   \
        .saves = AD_SAVES_RESULT(1), .shape = cumulative_shape, .forward = text##_forward, .vjp = cumulative_vjp,    \
        .jvp = cumulative_jvp, .depends = ad_depends_along, .formula = "$y = " #text "($0, $a)",                     \
        .result_formula = {"$y1 = its index"}, .adjoint = {"~0[$y1] += ~y"},                                         \
        .convention = "of equal elements the first gets the gradient", .show_attrs = show_scan,                      \
        .sample = scan_sample,                                                                                       \
    }
const ad_op ad_op_cummax = CUMULATIVE(cummax), ad_op_cummin = CUMULATIVE(cummin);

static ad_var cumulative(const char *where, const ad_op *op, ad_var x, int axis, bool reverse, ad_var *index) {
    scan_attrs attrs = {.axis = axis, .reverse = reverse};
    ad_var results[2];
    ad_apply_at(where, x.tape, op, 1, &x, &attrs, results);
    if (index) *index = results[1];
    return results[0];
}

ad_var ad_cummax_at(const char *where, ad_var x, int axis, bool reverse, ad_var *index) {
    return cumulative(where, &ad_op_cummax, x, axis, reverse, index);
}
ad_var ad_cummin_at(const char *where, ad_var x, int axis, bool reverse, ad_var *index) {
    return cumulative(where, &ad_op_cummin, x, axis, reverse, index);
}
