/* logsumexp: log(sum(exp(x))) over axes, computed as m + log(sum(exp(x - m))) with m the largest x, so that nothing
 * overflows and the sum is at least 1. */
#include "ops/ops.h"

#include <math.h>

/* m, or 0 where that is infinite (which less itself is no number), and the sum. */
static bool largest_and_sum(ad_call *call, ad_view *most, ad_view *sum) {
    const ad_kernels *kernels = ad_kernels_get();
    *most = ad_scratch_kept(call);
    *sum = ad_scratch_kept(call);
    double *m = most->data;
    if (!m || !sum->data) return false;
    kernels->reduce(AD_REDUCTION_largest, call->in[0], NULL, 0, most);
    for (int64_t i = 0, n = ad_view_count(most); i < n; i++) m[i] = isfinite(m[i]) ? m[i] : 0;
    kernels->reduce(AD_REDUCTION_sum_of_exps, call->in[0], most, 0, sum);
    return true;
}

static ad_status logsumexp_forward(ad_call *call) {
    ad_view most, sum;
    if (!largest_and_sum(call, &most, &sum)) return AD_ERR_OOM;
    const double *m = most.data;
    double *s = sum.data;
    for (int64_t i = 0, n = ad_view_count(&sum); i < n; i++) s[i] = m[i] + log(s[i]);
    return ad_set_result(call, &sum);
}

/* exp(x - y) would be simpler, but y was rounded: of x near 1e6, in f32, to a sixteenth. */
static ad_status logsumexp_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = ad_scratch_copy(call, &adjoint->seed[0]), most, sum;
    if (!g.data || !largest_and_sum(call, &most, &sum)) return AD_ERR_OOM;
    const double *s = sum.data;
    double *part = g.data;
    for (int64_t i = 0, n = ad_view_count(&g); i < n; i++) part[i] = s[i] == 0 || part[i] == 0 ? 0 : part[i] / s[i];
    return ad_reduce_back(call, adjoint, AD_REDUCTION_BACK_exp, &g, &most, 0);
}

/* The share of each element in the sum; where all are -inf, 0. */
static ad_var shares(ad_var x, const ad_reduce_attrs *attrs) {
    ad_flattening f = ad_flattening_of(attrs, ad_value(x).shape);
    return ad_unflattened(ad_softmax(ad_flattened(x, &f), -1), &f);
}

static void logsumexp_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_masked_mul(ad_stretched_seed(v), shares(ad_vjp_input(v, 0), ad_vjp_attrs(v))));
}

static void logsumexp_jvp(ad_jvp *j) {
    const ad_reduce_attrs *attrs = ad_jvp_attrs(j);
    ad_var moved = ad_masked_mul(ad_jvp_tangent(j, 0), shares(ad_jvp_input(j, 0), attrs));
    ad_jvp_give(j, 0, ad_sum(moved, attrs->axes, attrs->keepdim));
}

const ad_op ad_op_logsumexp = {
    .name = "logsumexp",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .attrs = ad_reduce_attr_list,
    .saves = AD_SAVES_INPUT(0),
    .shape = ad_reduce_shape,
    .forward = logsumexp_forward,
    .vjp = logsumexp_vjp,
    .backward = logsumexp_backward,
    .jvp = logsumexp_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = log sum(exp($0), $a)",
    .adjoint = {"~0 += ~y * softmax($0)"},
    .convention = "where all are -inf: -inf, and gradient 0",
    .show_attrs = ad_show_reduce,
    .sample = ad_sample_reduce_normal,
};

ad_var ad_logsumexp_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_logsumexp, x, axes, keepdim);
}
