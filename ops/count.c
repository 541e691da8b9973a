/* count_nonzero, any and all: of numbers of any dtype, those that are not 0 count as true, NaN among them. */
#include "ops/kernels/along.h"
#include "ops/ops.h"

static ad_status count_shape(ad_call *call, ad_dtype dtype) {
    call->out[0].dtype = dtype;
    return ad_reduced_shape(call, &call->out[0].shape);
}

static ad_status count_nonzero_shape(ad_call *call) { return count_shape(call, AD_I64); }
static ad_status truth_shape(ad_call *call) { return count_shape(call, AD_I32); }

static ad_status count_nonzero_forward(ad_call *call) {
    ad_view kept = ad_as_kept(call, &call->out[0]);
    ad_kernel_count_nonzero(call->in[0], &kept);
    return AD_OK;
}

/* [count >= least] */
static ad_status truth_forward(ad_call *call, int64_t least) {
    ad_view count = ad_scratch_view(call, AD_I64, ad_as_kept(call, &call->out[0]).shape);
    if (!count.data) return AD_ERR_OOM;
    ad_kernel_count_nonzero(call->in[0], &count);
    for (int64_t i = 0, n = ad_view_count(&count); i < n; i++)
        ((int32_t *)call->out[0].data)[i] = ((const int64_t *)count.data)[i] >= least;
    return AD_OK;
}

static ad_status any_forward(ad_call *call) { return truth_forward(call, 1); }
static ad_status all_forward(ad_call *call) { return truth_forward(call, ad_reduced_count(call)); }

static bool count_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_reduce(sample, k, &shape) && ad_sample_index(sample, shape, k < 3 ? 2 : 4);
}

#define COUNT(op, shape_rule, text)                                                                                  \
    {                                                                                                                \
        .name = #op, .inputs = 1, .attrs_size = sizeof(ad_reduce_attrs), .attrs = ad_reduce_attr_list,               \
        .derivative = AD_NOT_DIFFERENTIABLE, .shape = shape_rule, .forward = op##_forward, .formula = text,          \
        .show_attrs = ad_show_reduce, .sample = count_sample,                                                        \
    }
const ad_op ad_op_count_nonzero = COUNT(count_nonzero, count_nonzero_shape, "$y = how many of $0 are not 0, $a"),
            ad_op_any = COUNT(any, truth_shape, "$y = [one of $0 is not 0], $a"),
            ad_op_all = COUNT(all, truth_shape, "$y = [none of $0 is 0], $a");

ad_var ad_count_nonzero_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_count_nonzero, x, axes, keepdim);
}
ad_var ad_any_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_any, x, axes, keepdim);
}
ad_var ad_all_at(const char *where, ad_var x, ad_axes axes, bool keepdim) {
    return ad_apply_reduce(where, &ad_op_all, x, axes, keepdim);
}
