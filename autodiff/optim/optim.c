/* What all optimisers have in common: parameters with their moments, and the step. */
#include "autodiff/optim/optim.h"

#include <math.h>
#include <string.h>

static size_t optim_bytes(int count) { return sizeof(ad_optim) + (size_t)count * sizeof(ad_optim_slot); }

static ad_status fill_slot(ad_optim *optim, ad_optim_slot *slot, ad_param *param, ad_error *error) {
    const ad_view *value = ad_param_value(param);
    slot->param = ad_param_ref(param);
    slot->dtype = value->dtype;
    slot->shape = value->shape;
    ad_status status = AD_OK;
    for (int m = 0; m < optim->moments && !status; m++)
        status = ad_tensor_new(&slot->moment[m], optim->allocator, value->dtype, value->shape, NULL, error);
    return status;
}

ad_status ad_optim_new(ad_optim **out, const char *subject, const ad_optim *model, const ad_allocator *allocator,
                       int count, ad_param *const *params, ad_error *error) {
    ad_status status = ad_params_check(subject, count, params, error);
    if (status) return status;
    if (!allocator) allocator = ad_allocator_default();
    ad_optim *optim = ad_allocate(allocator, optim_bytes(count), _Alignof(ad_optim));
    if (!optim) return ad_error_set(error, AD_ERR_OOM, "%s: out of memory for %d parameters", subject, count);
    memset(optim, 0, optim_bytes(count));
    *optim = *model;
    optim->steps = 0;
    optim->allocator = allocator;
    optim->count = count;
    for (int i = 0; i < count && !status; i++) status = fill_slot(optim, &optim->slot[i], params[i], error);
    if (status) {
        ad_optim_free(optim);
        return status;
    }
    *out = optim;
    return AD_OK;
}

void ad_optim_free(ad_optim *optim) {
    if (!optim) return;
    for (ad_optim_slot *slot = optim->slot; slot < optim->slot + optim->count; slot++) {
        ad_param_unref(slot->param);
        for (int m = 0; m < AD_OPTIM_MOMENTS; m++) ad_tensor_unref(slot->moment[m]);
    }
    ad_release(optim->allocator, optim, optim_bytes(optim->count));
}

/* Parameters cannot change their type today; should that become possible, the moments must not be read past their
 * end. */
static ad_status check_type(const ad_optim_slot *slot, ad_error *error) {
    const ad_view *value = ad_param_value(slot->param);
    if (value->dtype == slot->dtype && ad_shape_equal(&value->shape, &slot->shape)) return AD_OK;
    char was[AD_TYPE_TEXT], is[AD_TYPE_TEXT];
    return ad_error_set(error, AD_ERR_CHANGED,
                        "ad_optim_step: parameter %s was %s when the optimiser was made and is %s now; nothing was "
                        "changed; make a new optimiser",
                        ad_param_name(slot->param), ad_type_text(slot->dtype, &slot->shape, was),
                        ad_type_text(value->dtype, &value->shape, is));
}

static void update(const ad_optim *optim, const ad_optim_slot *slot) {
    void *moment[AD_OPTIM_MOMENTS] = {NULL};
    for (int m = 0; m < optim->moments; m++) moment[m] = ad_tensor_view(slot->moment[m])->data;
    const ad_view *w = ad_param_edit(slot->param), *g = ad_param_gradient(slot->param);
    optim->kind->update(&optim->rule, w->dtype, ad_view_count(w), w->data, g->data, moment);
}

ad_status ad_optim_step(ad_optim *optim, ad_error *error) {
    if (!optim) return ad_error_set(error, AD_ERR_NULL, "ad_optim_step: the optimiser is NULL: did making it fail?");
    for (int i = 0; i < optim->count; i++) {
        ad_status status = check_type(&optim->slot[i], error);
        if (!status) status = ad_gradient_check("ad_optim_step", i, optim->slot[i].param, error);
        if (status) return status;
    }
    optim->steps++;
    optim->kind->begin(optim);
    for (int i = 0; i < optim->count; i++) update(optim, &optim->slot[i]);
    return AD_OK;
}

int64_t ad_optim_steps(const ad_optim *optim) { return optim ? optim->steps : 0; }
double ad_optim_rate(const ad_optim *optim) { return optim ? optim->rate : NAN; }

ad_status ad_optim_set_rate(ad_optim *optim, double rate, ad_error *error) {
    if (!optim)
        return ad_error_set(error, AD_ERR_NULL, "ad_optim_set_rate: the optimiser is NULL: did making it fail?");
    const ad_limit limit = {"rate", rate, 0, AD_LIMIT_HIGH};
    ad_status status = ad_limits_check("ad_optim_set_rate", 1, &limit, error);
    if (!status) optim->rate = rate;
    return status;
}

void ad_optim_reset(ad_optim *optim) {
    if (!optim) return;
    optim->steps = 0;
    for (ad_optim_slot *slot = optim->slot; slot < optim->slot + optim->count; slot++)
        for (int m = 0; m < optim->moments; m++) ad_kernels_get()->fill(ad_tensor_view(slot->moment[m]), 0);
}
