/* Stochastic gradient descent, with momentum (Polyak 1964), Nesterov's variant (Sutskever et al. 2013) and decay. */
#include "autodiff/optim/optim.h"

static void begin(ad_optim *optim) { optim->rule.sgd.rate = optim->rate; }

static void update(const ad_optim_rule *rule, ad_dtype dtype, int64_t n, void *w, const void *g,
                   void *const moment[AD_OPTIM_MOMENTS]) {
    ad_kernels_get()->sgd(dtype, n, w, g, moment[0], &rule->sgd);
}

static const ad_optim_kind sgd = {begin, update};

ad_sgd_options ad_sgd_defaults(void) { return (ad_sgd_options){.rate = 0.01}; }

ad_status ad_sgd_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                     const ad_sgd_options *options, ad_error *error) {
    const char *subject = "ad_sgd_new";
    if (!out) return ad_error_set(error, AD_ERR_NULL, "%s: out is NULL", subject);
    *out = NULL;
    const ad_sgd_options o = options ? *options : ad_sgd_defaults();
    const ad_limit limits[] = {
        {"rate", o.rate, 0, AD_LIMIT_HIGH},
        {"momentum", o.momentum, 0, 1},
        {"decay", o.decay, 0, AD_LIMIT_HIGH},
    };
    ad_status status = ad_limits_check(subject, sizeof limits / sizeof *limits, limits, error);
    if (status) return status;
    if (o.nesterov && o.momentum == 0)
        return ad_error_set(error, AD_ERR_VALUE, "%s: nesterov needs a momentum, but momentum is 0", subject);
    const ad_optim model = {
        .kind = &sgd,
        .rule.sgd = {.momentum = o.momentum, .decay = o.decay, .nesterov = o.nesterov},
        .rate = o.rate,
        .moments = o.momentum > 0 ? 1 : 0,
    };
    return ad_optim_new(out, subject, &model, allocator, count, params, error);
}
