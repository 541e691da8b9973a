/* Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019). */
#include "autodiff/optim/optim.h"

#include <float.h>
#include <math.h>

static void begin(ad_optim *optim) {
    ad_adam_step *step = &optim->rule.adam;
    step->rate = optim->rate;
    step->correction1 = 1 - pow(step->beta1, (double)optim->steps);
    step->correction2 = 1 - pow(step->beta2, (double)optim->steps);
}

static void update(const ad_optim_rule *rule, ad_dtype dtype, int64_t n, void *w, const void *g,
                   void *const moment[AD_OPTIM_MOMENTS]) {
    ad_kernels_get()->adam(dtype, n, w, g, moment[0], moment[1], &rule->adam);
}

static const ad_optim_kind adam = {begin, update};

static ad_adam_options defaults(double decay) {
    return (ad_adam_options){.rate = 0.001, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .decay = decay};
}

ad_adam_options ad_adam_defaults(void) { return defaults(0); }
ad_adam_options ad_adamw_defaults(void) { return defaults(0.01); }

static ad_status new_adam(const char *subject, bool decoupled, ad_optim **out, const ad_allocator *allocator,
                          int count, ad_param *const *params, ad_adam_options o, ad_error *error) {
    if (o.epsilon == 0)
        return ad_error_set(error, AD_ERR_VALUE,
                            "%s: epsilon is 0: to change only some options, start from those that ad_adam_defaults() "
                            "or ad_adamw_defaults() returns",
                            subject);
    /* FLT_MIN: a smaller epsilon would be 0 for f32, and 0 / 0 where a gradient has always been 0. */
    const ad_limit limits[] = {
        {"rate", o.rate, 0, AD_LIMIT_HIGH},
        {"beta1", o.beta1, 0, 1},
        {"beta2", o.beta2, 0, 1},
        {"epsilon", o.epsilon, (double)FLT_MIN, AD_LIMIT_HIGH},
        {"decay", o.decay, 0, AD_LIMIT_HIGH},
    };
    ad_status status = ad_limits_check(subject, sizeof limits / sizeof *limits, limits, error);
    if (status) return status;
    const ad_optim model = {
        .kind = &adam,
        .rule.adam =
            {.beta1 = o.beta1, .beta2 = o.beta2, .epsilon = o.epsilon, .decay = o.decay, .decoupled = decoupled},
        .rate = o.rate,
        .moments = 2,
    };
    return ad_optim_new(out, subject, &model, allocator, count, params, error);
}

ad_status ad_adam_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                      const ad_adam_options *options, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_adam_new: out is NULL");
    *out = NULL;
    return new_adam("ad_adam_new", false, out, allocator, count, params, options ? *options : ad_adam_defaults(),
                    error);
}

ad_status ad_adamw_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                       const ad_adam_options *options, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_adamw_new: out is NULL");
    *out = NULL;
    return new_adam("ad_adamw_new", true, out, allocator, count, params, options ? *options : ad_adamw_defaults(),
                    error);
}
