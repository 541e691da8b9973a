/* Reductions and scans against PyTorch; and what they do with nothing, ties, zeros, infinities, NaN and huge numbers, and
 * with what they do not take. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return expression; }                      \
    Test(pytorch, name) { reference_check(#name, make_##name); }

static ad_var index_of(ad_var (*op)(const char *, ad_var, int, bool, ad_var *), ad_var x, const reference_case *c) {
    ad_var index;
    op(AD_HERE, x, c->axis, c->keepdim, &index);
    return index;
}

OP(prod, ad_prod(in[0], c->axes, c->keepdim))
OP(variance, ad_variance(in[0], c->axes, c->keepdim, c->value))
OP(std, ad_std(in[0], c->axes, c->keepdim, c->value))
OP(count_nonzero, ad_count_nonzero(in[0], c->axes, c->keepdim))
OP(max, ad_max(in[0], c->axis, c->keepdim, NULL))
OP(min, ad_min(in[0], c->axis, c->keepdim, NULL))
OP(argmax, ad_argmax(in[0], c->axis, c->keepdim))
OP(argmin, ad_argmin(in[0], c->axis, c->keepdim))
OP(median, ad_median(in[0], c->axis, c->keepdim, NULL))
OP(median_index, index_of(ad_median_at, in[0], c))
OP(quantile, ad_quantile(in[0], c->value, c->axis, c->keepdim))
OP(cumsum, ad_cumsum(in[0], c->axis, c->reverse))
OP(cumprod, ad_cumprod(in[0], c->axis, c->reverse))
OP(logcumsumexp, ad_logcumsumexp(in[0], c->axis, c->reverse))
OP(cummax, ad_cummax(in[0], c->axis, c->reverse, NULL))
OP(cummin, ad_cummin(in[0], c->axis, c->reverse, NULL))
