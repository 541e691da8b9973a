/* What optimisers and clipping refuse. */
#include "autodiff/optim/optim.h"

enum { PARAM_TEXT = 128 };

/* "parameter H", or "parameter number 3, which has no name". */
static const char *param_text(int i, const ad_param *param, char text[PARAM_TEXT]) {
    size_t length = 0;
    if (*ad_param_name(param)) {
        ad_text_add(text, PARAM_TEXT, &length, "parameter %s", ad_param_name(param));
    } else {
        ad_text_add(text, PARAM_TEXT, &length, "parameter number %d, which has no name,", i);
    }
    return text;
}

ad_status ad_limits_check(const char *subject, int count, const ad_limit *limits, ad_error *error) {
    for (const ad_limit *limit = limits; limit < limits + count; limit++)
        if (!(limit->value >= limit->low && limit->value < limit->high))
            return ad_error_set(error, AD_ERR_VALUE, "%s: %s is %g, but it must be at least %g and below %g", subject,
                                limit->name, limit->value, limit->low, limit->high);
    return AD_OK;
}

ad_status ad_params_check(const char *subject, int count, ad_param *const *params, ad_error *error) {
    char text[PARAM_TEXT];
    if (count < 0) return ad_error_set(error, AD_ERR_VALUE, "%s: count is %d", subject, count);
    if (!params && count > 0)
        return ad_error_set(error, AD_ERR_NULL, "%s: params is NULL, but count is %d", subject, count);
    for (int i = 0; i < count; i++) {
        if (!params[i])
            return ad_error_set(error, AD_ERR_NULL, "%s: parameter number %d of %d is NULL: did ad_param_new fail?",
                                subject, i, count);
        for (int j = 0; j < i; j++)
            if (params[j] == params[i])
                return ad_error_set(error, AD_ERR_VALUE, "%s: %s was given twice, as number %d and as number %d",
                                    subject, param_text(i, params[i], text), j, i);
    }
    return AD_OK;
}

ad_status ad_gradient_check(const char *subject, int i, const ad_param *param, ad_error *error) {
    const ad_view *g = ad_param_gradient(param);
    char text[PARAM_TEXT], type[AD_TYPE_TEXT];
    if (!ad_param_gradient_is_complete(param))
        return ad_error_set(error, AD_ERR_NOGRAD,
                            "%s: the gradient of %s is incomplete: a backward pass failed half-way; nothing was "
                            "changed; run a whole one first",
                            subject, param_text(i, param, text));
    if (ad_kernels_get()->all_finite(g)) return AD_OK;
    int64_t at = 0;
    while (__builtin_isfinite(ad_view_get(g, at))) at++;
    return ad_error_set(error, AD_ERR_VALUE,
                        "%s: the gradient of %s is %g at element %lld of %s; nothing was changed; look for a "
                        "division by 0, the logarithm of 0, or an overflow on the way to the loss",
                        subject, param_text(i, param, text), ad_view_get(g, at), (long long)at,
                        ad_type_text(g->dtype, &g->shape, type));
}
