/* Derivatives of fused ops whose further derivatives nobody needs to be fast: through the same in other ops. */
#include "ops/ops.h"

/* The inputs as new variables of the same values, by which to differentiate: f(x, x) does not confuse its two. */
static ad_var fresh(ad_var x) {
    ad_view view = ad_value(x);
    if (!view.data || !ad_dtype_is_float(view.dtype)) return x;
    return ad_sub(x, ad_tape_filled(x.tape, AD_HERE, &ad_leaf_input, view.dtype, &view.shape, 0));
}

/* The sum of the products of results and cotangents, of which the derivative is what is sought. */
static ad_var paired(ad_vjp *v, const ad_var *out) {
    ad_var sum = {0};
    for (int k = 0; k < ad_op_results(v->call->op); k++) {
        if (!ad_vjp_has_seed(v, k)) continue;
        ad_var product = ad_sum(ad_masked_mul(ad_vjp_seed(v, k), out[k]), AD_ALL_AXES, false);
        sum = sum.tape ? ad_add(sum, product) : product;
    }
    return sum;
}

void ad_vjp_of_definition(ad_vjp *v, ad_definition *define) {
    ad_tape *tape = ad_vjp_tape(v);
    const int n = ad_vjp_inputs(v);
    const uint8_t no_grad = tape->no_grad;
    ad_var out[AD_MAX_RESULTS], *in = ad_scratch(v->call, 3 * (size_t)n * sizeof *in);
    if (!in) return;
    ad_var *x = in + n, *bar = x + n;
    int wanted = 0;
    tape->no_grad = 0;
    for (int i = 0; i < n; i++) {
        in[i] = ad_vjp_input(v, i);
        if (ad_vjp_wants(v, i)) x[wanted++] = in[i] = fresh(in[i]);
    }
    define(n, in, ad_vjp_attrs(v), out);
    if (!tape->error.status && ad_grad(paired(v, out), AD_NONE, wanted, x, bar) == AD_OK)
        for (int i = 0, k = 0; i < n; i++)
            if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, bar[k++]);
    tape->no_grad = no_grad;
}

void ad_define_jvp(ad_definition *define, int n, int moving, const ad_var *in, const void *attrs, int m,
                   ad_var *out) {
    ad_var x[AD_MAX_SAMPLE_INPUTS], y[AD_MAX_RESULTS];
    for (int i = 0; i < n; i++) x[i] = fresh(in[i]);
    define(n, x, attrs, y);
    if (!in[0].tape->error.status) ad_pushforward(moving, x, in + n, m, y, out);
}
