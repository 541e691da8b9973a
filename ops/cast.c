/* The same values in another dtype, or in row-major order. */
#include "ops/ops.h"

/* ---- cast -------------------------------------------------------------------------------------------------------- */

typedef struct cast_attrs {
    ad_dtype dtype;
} cast_attrs;

static ad_status cast_shape(ad_call *call) {
    ad_dtype dtype = ((const cast_attrs *)call->attrs)->dtype;
    call->is_view[0] = dtype == call->in[0]->dtype;
    if (call->is_view[0]) call->out[0] = *call->in[0];
    ad_set_out(call, 0, dtype, call->in[0]->shape);
    if (ad_dtype_size(dtype)) return AD_OK;
    return ad_fail(call, AD_ERR_DTYPE, "%d is no dtype", (int)dtype);
}

static ad_status cast_forward(ad_call *call) {
    return call->is_view[0] ? AD_OK : ad_view_copy(call->in[0], &call->out[0]);
}

static void cast_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_cast(ad_vjp_seed(v, 0), ad_vjp_input_dtype(v, 0))); }

/* What passes between floats: an integer has no tangent. */
static void cast_jvp(ad_jvp *j) {
    ad_dtype dtype = ((const cast_attrs *)ad_jvp_attrs(j))->dtype;
    ad_jvp_give(j, 0, ad_cast(ad_jvp_tangent(j, 0), dtype));
}

static void show_cast(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%s", ad_dtype_name(((const cast_attrs *)attrs)->dtype));
}

/* To f64, so that differences can check it. */
static bool cast_sample(ad_sample *sample, int k) {
    ((cast_attrs *)(void *)sample->attrs.bytes)->dtype = AD_F64;
    return ad_sample_one_normal(sample, k);
}

const ad_op ad_op_cast = {
    .name = "cast",
    .inputs = 1,
    .attrs_size = sizeof(cast_attrs),
    .attrs = AD_ATTRS(AD_ATTR("dtype", DTYPE, cast_attrs, dtype, AD_REQUIRED)),
    .saves = AD_SAVES_NOTHING,
    .shape = cast_shape,
    .forward = cast_forward,
    .vjp = cast_vjp,
    .jvp = cast_jvp,
    .depends = ad_depends_elementwise,
    .formula = "$y = $0 as $a",
    .adjoint = {"~0 += ~y in the dtype of $0"},
    .convention = "no gradient passes an integer",
    .show_attrs = show_cast,
    .sample = cast_sample,
};

ad_var ad_cast_at(const char *where, ad_var x, ad_dtype dtype) {
    cast_attrs attrs = {dtype};
    return ad_apply_1(where, &ad_op_cast, x, &attrs);
}

/* ---- contiguous -------------------------------------------------------------------------------------------------- */

static ad_status contiguous_shape(ad_call *call) {
    call->is_view[0] = ad_view_is_contiguous(call->in[0]);
    if (call->is_view[0]) call->out[0] = *call->in[0];
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    return AD_OK;
}

static ad_status contiguous_forward(ad_call *call) {
    if (!call->is_view[0]) ad_copy_any(call->in[0], &call->out[0]);
    return AD_OK;
}

static void contiguous_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 0)); }

const ad_op ad_op_contiguous = {
    .name = "contiguous",
    .inputs = 1,
    .saves = AD_SAVES_NOTHING,
    .shape = contiguous_shape,
    .forward = contiguous_forward,
    .vjp = contiguous_vjp,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = $0, row-major",
    .adjoint = {"~0 += ~y"},
    .sample = ad_sample_one_normal,
};

ad_var ad_contiguous_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_contiguous, x, NULL); }
