/* prod: the product over axes. Its derivative does not divide by elements, so it is right where they are 0. */
#include "ops/ops.h"

static ad_status prod_forward(ad_call *call) {
    ad_view kept = ad_as_kept(call, &call->out[0]);
    ad_kernels_get()->reduce(AD_REDUCTION_product, call->in[0], NULL, 0, &kept);
    return AD_OK;
}

/* Per element, the product of all others: of those before it and those after it. */
static ad_var product_of_others(ad_var x, const ad_reduce_attrs *attrs, ad_var zero) {
    ad_flattening f = ad_flattening_of(attrs, ad_value(x).shape);
    ad_var flat = ad_flattened(x, &f);
    ad_var before = ad_recurrence(flat, zero, -1, false, 1), after = ad_recurrence(flat, zero, -1, AD_REVERSE, 1);
    return ad_unflattened(ad_mul(before, after), &f);
}

static void prod_vjp(ad_vjp *v) {
    ad_var others = product_of_others(ad_vjp_input(v, 0), ad_vjp_attrs(v), ad_vjp_number(v, 0));
    ad_vjp_give(v, 0, ad_masked_mul(ad_stretched_seed(v), others));
}

static void prod_jvp(ad_jvp *j) {
    const ad_reduce_attrs *attrs = ad_jvp_attrs(j);
    ad_var others = product_of_others(ad_jvp_input(j, 0), attrs, ad_jvp_number(j, 0));
    ad_jvp_give(j, 0, ad_sum(ad_masked_mul(ad_jvp_tangent(j, 0), others), attrs->axes, attrs->keepdim));
}

/* Without zeros, with one, and with two. */
static bool prod_sample(ad_sample *sample, int k) {
    ad_shape shape;
    if (!ad_sample_reduce(sample, k, &shape) || !ad_sample_normal(sample, shape)) return false;
    ad_sample_zeros(sample, k % 3);
    return true;
}

const ad_op ad_op_prod = {
    .name = "prod",
    .inputs = 1,
    .attrs_size = sizeof(ad_reduce_attrs),
    .attrs = ad_reduce_attr_list,
    .saves = AD_SAVES_INPUT(0),
    .shape = ad_reduce_shape,
    .forward = prod_forward,
    .vjp = prod_vjp,
    .jvp = prod_jvp,
    .depends = ad_depends_reduced,
    .formula = "$y = prod($0, $a)",
    .adjoint = {"~0 += ~y * prod(the others)"},
    .show_attrs = ad_show_reduce,
    .sample = prod_sample,
};

ad_var ad_prod_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_prod, x, axes, keepdim);
}
