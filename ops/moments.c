/* Variance and standard deviation, in two passes: the mean first, then the squares of the deviations from it. n elements,
 * of which `correction` are taken off where is divided: 1 estimates the variance of what the elements are drawn from, 0 is
 * that of the elements. Of no more than `correction` elements: NaN. */
#include "ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct moment_attrs {
    ad_reduce_attrs reduce;
    double correction;
} moment_attrs;

/* 1 / (n - correction), infinite if that is not above 0: times a sum of 0, as it then is for one element, NaN. */
static double scale_for(double n, const moment_attrs *attrs) { return 1 / fmax(n - attrs->correction, 0); }

/* Through the first element, so that it is exact where all are equal: their deviations are then 0, not nearly 0. */
static ad_view means(ad_call *call) {
    const ad_view *x = call->in[0];
    ad_view mean = ad_scratch_kept(call), first = ad_scratch_kept(call), element = *x;
    double *m = mean.data, *f = first.data, n = (double)ad_reduced_count(call);
    if (!m || !f) return (ad_view){.data = NULL};
    if (n == 0) ad_kernels_get()->fill(&mean, NAN);
    if (n == 0) return mean;
    element.shape = mean.shape;
    (void)!ad_view_copy(&element, &first);
    ad_kernels_get()->reduce(AD_REDUCTION_sum_of_deviations, x, &first, 0, &mean);
    for (int64_t i = 0, count = ad_view_count(&mean); i < count; i++) m[i] = f[i] + m[i] / n;
    return mean;
}

static ad_status moment_forward(ad_call *call, bool root) {
    ad_view mean = means(call), y = ad_scratch_kept(call);
    double *value = y.data, scale = scale_for((double)ad_reduced_count(call), call->attrs);
    if (!mean.data || !value) return AD_ERR_OOM;
    ad_kernels_get()->reduce(AD_REDUCTION_sum_of_squared_deviations, call->in[0], &mean, 0, &y);
    for (int64_t i = 0, count = ad_view_count(&y); i < count; i++)
        value[i] = root ? sqrt(value[i] * scale) : value[i] * scale;
    return ad_set_result(call, &y);
}

/* x_bar += g (x - mean), where g is the cotangent times the rest of the derivative. */
static ad_status moment_backward(ad_call *call, ad_adjoint *adjoint, bool root) {
    ad_view mean = means(call), g = ad_scratch_copy(call, &adjoint->seed[0]);
    ad_view y = root ? ad_scratch_copy(call, &call->out[0]) : g;
    if (!mean.data || !g.data || !y.data) return AD_ERR_OOM;
    double *factor = g.data, *value = y.data, scale = scale_for((double)ad_reduced_count(call), call->attrs);
    for (int64_t i = 0, n = ad_view_count(&g); i < n; i++) {
        if (factor[i] == 0) continue;
        factor[i] = root ? (value[i] == 0 ? 0 : factor[i] * scale / value[i]) : 2 * scale * factor[i];
    }
    return ad_reduce_back(call, adjoint, AD_REDUCTION_BACK_deviation, &g, &mean, 0);
}

/* x less its mean, divided by n - correction. */
static ad_var scaled_deviation(ad_var x, const moment_attrs *attrs) {
    ad_shape shape = ad_value(x).shape, kept = ad_kept_shape(&attrs->reduce, shape);
    double n = (double)ad_shape_count(&shape) / (double)ad_shape_count(&kept);
    return ad_scale(ad_sub(x, ad_mean(x, attrs->reduce.axes, AD_KEEPDIM)), scale_for(n, attrs));
}

static void show_moment(const void *attrs, char *text, size_t size) {
    ad_show_axes(&((const moment_attrs *)attrs)->reduce.axes, text, size);
    size_t length = strlen(text);
    ad_text_add(text, size, &length, ", correction %g", ((const moment_attrs *)attrs)->correction);
}

static bool moment_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4),    AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4),
                               AD_SHAPE(2, 3, 4), AD_SHAPE(5),    AD_SHAPE(0, 3)};
    const ad_axes axes[] = {AD_ALL_AXES, AD_AXES(0), AD_AXES(1), AD_AXES(-1, 0), AD_AXES(0), AD_AXES(1)};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    moment_attrs attrs = {.reduce = {.axes = axes[k], .keepdim = k % 2}, .correction = k % 3 * 0.5};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return ad_sample_normal(sample, shapes[k]);
}

static ad_var moment(const char *where, const ad_op *op, ad_var x, ad_axes axes, bool keepdim, double correction) {
    moment_attrs attrs = {.reduce = {.axes = axes, .keepdim = keepdim}, .correction = correction};
    return ad_apply_1(where, op, x, &attrs);
}

static ad_status moment_shape(ad_call *call) {
    double correction = ((const moment_attrs *)call->attrs)->correction;
    if (!(correction >= 0 && isfinite(correction)))
        return ad_fail(call, AD_ERR_VALUE, "the correction is %g, but it must be 0 or more: usually 0 or 1",
                       correction);
    return ad_reduce_shape(call);
}

/* ---- variance ---------------------------------------------------------------------------------------------------- */

static ad_status variance_forward(ad_call *call) { return moment_forward(call, false); }
static ad_status variance_backward(ad_call *call, ad_adjoint *adjoint) {
    return moment_backward(call, adjoint, false);
}

static void variance_vjp(ad_vjp *v) {
    ad_var d = scaled_deviation(ad_vjp_input(v, 0), ad_vjp_attrs(v));
    ad_vjp_give(v, 0, ad_masked_mul(ad_stretched_seed(v), ad_scale(d, 2)));
}

static void variance_jvp(ad_jvp *j) {
    const moment_attrs *attrs = ad_jvp_attrs(j);
    ad_var d = scaled_deviation(ad_jvp_input(j, 0), attrs);
    ad_var moved = ad_masked_mul(ad_jvp_tangent(j, 0), ad_scale(d, 2));
    ad_jvp_give(j, 0, ad_sum(moved, attrs->reduce.axes, attrs->reduce.keepdim));
}

const ad_op ad_op_variance = {
    .name = "variance",
    .inputs = 1,
    .attrs_size = sizeof(moment_attrs),
    .attrs = AD_ATTRS(AD_REDUCE_ATTRS(moment_attrs),
                      AD_ATTR("correction", DOUBLE, moment_attrs, correction, AD_USUALLY(0))),
    .saves = AD_SAVES_INPUT(0),
    .shape = moment_shape,
    .forward = variance_forward,
    .vjp = variance_vjp,
    .backward = variance_backward,
    .jvp = variance_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = variance($0, $a)",
    .adjoint = {"~0 += ~y * 2 ($0 - mean($0)) / (n - correction)"},
    .show_attrs = show_moment,
    .sample = moment_sample,
};

ad_var ad_variance_at(const char *where, ad_var x, ad_axes axes, bool keepdim, double correction) {
    return moment(where, &ad_op_variance, x, axes, keepdim, correction);
}

/* ---- std --------------------------------------------------------------------------------------------------------- */

static ad_status std_forward(ad_call *call) { return moment_forward(call, true); }
static ad_status std_backward(ad_call *call, ad_adjoint *adjoint) { return moment_backward(call, adjoint, true); }

/* Nothing divides by y where it is 0, so that no derivative of any order is infinite there. */
static ad_var std_slope(ad_var x, ad_var y, const moment_attrs *attrs) {
    ad_dtype dtype = ad_value(x).dtype;
    ad_var stretched = ad_stretch_back(y, &attrs->reduce, ad_value(x).shape);
    ad_var divisor = ad_where(stretched, stretched, ad_number(x.tape, dtype, 1));
    return ad_where(stretched, ad_div(scaled_deviation(x, attrs), divisor), ad_number(x.tape, dtype, 0));
}

static void std_vjp(ad_vjp *v) {
    ad_var slope = std_slope(ad_vjp_input(v, 0), ad_vjp_result(v, 0), ad_vjp_attrs(v));
    ad_vjp_give(v, 0, ad_masked_mul(ad_stretched_seed(v), slope));
}

static void std_jvp(ad_jvp *j) {
    const moment_attrs *attrs = ad_jvp_attrs(j);
    ad_var slope = std_slope(ad_jvp_input(j, 0), ad_jvp_result(j, 0), attrs);
    ad_jvp_give(j, 0, ad_sum(ad_masked_mul(ad_jvp_tangent(j, 0), slope), attrs->reduce.axes, attrs->reduce.keepdim));
}

const ad_op ad_op_std = {
    .name = "std",
    .inputs = 1,
    .attrs_size = sizeof(moment_attrs),
    .attrs = AD_ATTRS(AD_REDUCE_ATTRS(moment_attrs),
                      AD_ATTR("correction", DOUBLE, moment_attrs, correction, AD_USUALLY(0))),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = moment_shape,
    .forward = std_forward,
    .vjp = std_vjp,
    .backward = std_backward,
    .jvp = std_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = std($0, $a)",
    .adjoint = {"~0 += ~y * ($0 - mean($0)) / ((n - correction) * $y)"},
    .convention = "where all are equal: 0",
    .show_attrs = show_moment,
    .sample = moment_sample,
};

ad_var ad_std_at(const char *where, ad_var x, ad_axes axes, bool keepdim, double correction) {
    return moment(where, &ad_op_std, x, axes, keepdim, correction);
}
