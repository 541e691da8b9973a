/* norm: y = (sum |x|^p)^(1/p) over axes. Elements are divided by the largest of them before a power of them could overflow
 * or vanish. Norms 1 and infinity are compositions. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct norm_attrs {
    ad_reduce_attrs reduce;
    double p;
} norm_attrs;

static double power_of(const ad_call *call) { return ((const norm_attrs *)call->attrs)->p; }

/* The plain sum of squares, or false if one of them is so large or so small that this does not do. */
static bool plain_norm(const ad_call *call, const ad_view *norm) {
    const double least = 0x1p-900, most = 0x1p1000;
    double *y = norm->data;
    bool is_safe = true;
    ad_kernels_get()->reduce(AD_REDUCTION_sum_of_squares, call->in[0], NULL, 0, norm);
    for (int64_t i = 0, n = ad_view_count(norm); i < n; i++) {
        is_safe &= y[i] > least && y[i] < most;
        y[i] = sqrt(y[i]);
    }
    return is_safe;
}

static ad_status scaled_norm(ad_call *call, const ad_view *norm) {
    const ad_kernels *kernels = ad_kernels_get();
    const double p = power_of(call);
    ad_view scale = ad_scratch_kept(call);
    double *y = norm->data, *s = scale.data;
    if (!s) return AD_ERR_OOM;
    kernels->reduce(AD_REDUCTION_largest_magnitude, call->in[0], NULL, 0, &scale);
    int64_t n = ad_view_count(norm);
    for (int64_t i = 0; i < n; i++) s[i] = s[i] > 0 && s[i] < INFINITY ? s[i] : 1;
    kernels->reduce(p == 2 ? AD_REDUCTION_sum_of_squared_ratios : AD_REDUCTION_sum_of_powers, call->in[0], &scale, p,
                    norm);
    for (int64_t i = 0; i < n; i++) y[i] = s[i] * (p == 2 ? sqrt(y[i]) : pow(y[i], 1 / p));
    return AD_OK;
}

static ad_status norm_forward(ad_call *call) {
    ad_view y = ad_scratch_kept(call);
    if (!y.data) return AD_ERR_OOM;
    if (power_of(call) != 2 || !plain_norm(call, &y)) {
        ad_status status = scaled_norm(call, &y);
        if (status) return status;
    }
    return ad_set_result(call, &y);
}

static ad_status norm_backward(ad_call *call, ad_adjoint *adjoint) {
    const double p = power_of(call);
    ad_view g = ad_scratch_copy(call, &adjoint->seed[0]), y = ad_scratch_copy(call, &call->out[0]);
    if (!g.data || !y.data) return AD_ERR_OOM;
    for (int64_t i = 0, n = ad_view_count(&g); i < n; i++)
        if (((const double *)y.data)[i] == 0) ((double *)g.data)[i] = 0;
    return ad_reduce_back(call, adjoint, p == 2 ? AD_REDUCTION_BACK_ratio : AD_REDUCTION_BACK_power, &g, &y, p - 1);
}

/* sign(x) |x / y|^(p - 1). Nothing divides by a y, or takes a power of an x, that is 0, so that no derivative of any order
 * is infinite there. */
static ad_var slope(ad_var x, ad_var y, const norm_attrs *attrs) {
    ad_dtype dtype = ad_value(x).dtype;
    ad_var one = ad_number(x.tape, dtype, 1), zero = ad_number(x.tape, dtype, 0);
    ad_var ratio = ad_div(x, ad_stretch_back(ad_where(y, y, one), &attrs->reduce, ad_value(x).shape));
    if (attrs->p == 2) return ad_where(ad_stretch_back(y, &attrs->reduce, ad_value(x).shape), ratio, zero);
    ad_var power = ad_power(ad_abs(ad_where(x, ratio, one)), attrs->p - 1);
    return ad_where(x, ad_mul(ad_sign(x), power), zero);
}

static void norm_vjp(ad_vjp *v) {
    ad_var s = slope(ad_vjp_input(v, 0), ad_vjp_result(v, 0), ad_vjp_attrs(v));
    ad_vjp_give(v, 0, ad_masked_mul(ad_stretched_seed(v), s));
}

static void norm_jvp(ad_jvp *j) {
    const norm_attrs *attrs = ad_jvp_attrs(j);
    ad_var s = slope(ad_jvp_input(j, 0), ad_jvp_result(j, 0), attrs);
    ad_jvp_give(j, 0, ad_sum(ad_masked_mul(ad_jvp_tangent(j, 0), s), attrs->reduce.axes, attrs->reduce.keepdim));
}

static void show_norm(const void *attrs, char *text, size_t size) {
    ad_show_axes(&((const norm_attrs *)attrs)->reduce.axes, text, size);
    size_t length = strlen(text);
    ad_text_add(text, size, &length, ", p %g", ((const norm_attrs *)attrs)->p);
}

static bool norm_sample(ad_sample *sample, int k) {
    const double powers[] = {2, 3, 2, 1.5, 2, 0.5};
    ad_shape shape;
    if (!ad_sample_reduce(sample, k, &shape)) return false;
    ((norm_attrs *)(void *)sample->attrs.bytes)->p = powers[k];
    return ad_sample_away(sample, shape, 0, 0.1);
}

const ad_op ad_op_norm = {
    .name = "norm",
    .inputs = 1,
    .attrs_size = sizeof(norm_attrs),
    .attrs = AD_ATTRS(AD_REDUCE_ATTRS(norm_attrs), AD_ATTR("p", DOUBLE, norm_attrs, p, AD_USUALLY(2))),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = ad_reduce_shape,
    .forward = norm_forward,
    .vjp = norm_vjp,
    .backward = norm_backward,
    .jvp = norm_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = norm($0, $a)",
    .adjoint = {"~0 += ~y * sign($0) * abs($0 / $y)^(p - 1)"},
    .convention = "where all are 0, and for p < 1 where $0 is: 0",
    .show_attrs = show_norm,
    .sample = norm_sample,
};

ad_var ad_norm_at(const char *where, ad_var x, double p, ad_axes axes, bool keepdim) {
    if (p == 1) return ad_sum_at(where, ad_abs_at(where, x), axes, keepdim);
    if (p == INFINITY) return ad_amax_at(where, ad_abs_at(where, x), axes, keepdim);
    if (!(p > 0)) {
        if (x.tape)
            ad_tape_fail(x.tape, AD_ERR_VALUE, "norm", where,
                         "p is %g, but it must be above 0 (INFINITY is allowed); ad_count_nonzero counts", p);
        return ad_var_invalid(x.tape);
    }
    norm_attrs attrs = {.reduce = {.axes = axes, .keepdim = keepdim}, .p = p};
    return ad_apply_1(where, &ad_op_norm, x, &attrs);
}
