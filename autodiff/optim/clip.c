/* Clipping by the global norm (Pascanu et al. 2013): all gradients together as one vector. */
#include "autodiff/optim/optim.h"

#include <math.h>

/* scale * root, kept apart because the product may be too large for a double while the parts are not. */
typedef struct norm {
    double scale, root;
} norm;

static double sum_of_squares(int count, ad_param *const *params) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += ad_kernels_get()->sum_of_squares(ad_param_gradient(params[i]));
    return sum;
}

/* The norm in units of the largest element: slow, and for elements whose squares leave the range of a double. */
static norm norm_scaled(int count, ad_param *const *params) {
    double scale = 0, sum = 0;
    for (int i = 0; i < count; i++) {
        const ad_view *g = ad_param_gradient(params[i]);
        for (int64_t j = 0, n = ad_view_count(g); j < n; j++) scale = fmax(scale, fabs(ad_view_get(g, j)));
    }
    if (scale == 0) return (norm){0, 0};
    for (int i = 0; i < count; i++) {
        const ad_view *g = ad_param_gradient(params[i]);
        for (int64_t j = 0, n = ad_view_count(g); j < n; j++) {
            double unit = ad_view_get(g, j) / scale;
            sum += unit * unit;
        }
    }
    return (norm){scale, sqrt(sum)};
}

static norm norm_of(int count, ad_param *const *params) {
    double sum = sum_of_squares(count, params);
    /* Far from both ends of the range nothing that matters was lost on the way. */
    return sum > 1e-200 && sum < 1e300 ? (norm){1, sqrt(sum)} : norm_scaled(count, params);
}

ad_status ad_clip_gradients(int count, ad_param *const *params, double max_norm, double *norm_before,
                            ad_error *error) {
    const char *subject = "ad_clip_gradients";
    ad_status status = ad_params_check(subject, count, params, error);
    for (int i = 0; i < count && !status; i++) status = ad_gradient_check(subject, i, params[i], error);
    if (!status && !(max_norm > 0))
        status = ad_error_set(error, AD_ERR_VALUE, "%s: max_norm is %g, but it must be above 0", subject, max_norm);
    if (status) return status;
    norm n = norm_of(count, params);
    if (norm_before) *norm_before = n.scale * n.root;
    if (n.scale == 0 || n.root <= max_norm / n.scale) return AD_OK;
    double factor = max_norm / n.scale / n.root;
    for (int i = 0; i < count; i++) {
        const ad_view *g = ad_param_edit_gradient(params[i]);
        ad_kernels_get()->rescale(g->dtype, ad_view_count(g), g->data, factor);
    }
    return AD_OK;
}
