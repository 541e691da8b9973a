/* Ops that leave a value as it is and change the gradient that flows through it.
 *
 * Their gradient is by design not the derivative of their value. A sample therefore has factor 1, the only one of which
 * the laws of the checker hold; that other factors arrive, at any order, is tested in tests/test_sampling.c. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <stdio.h>

static void scale_gradient_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_scale(ad_vjp_seed(v, 0), *(const double *)ad_vjp_attrs(v)));
}

/* The transpose of the VJP, so that both modes tell the same. */
static void scale_gradient_jvp(ad_jvp *j) {
    ad_jvp_give(j, 0, ad_scale(ad_jvp_tangent(j, 0), *(const double *)ad_jvp_attrs(j)));
}

static ad_status scale_gradient_shape(ad_call *call) {
    ad_status status = ad_shape_like_input(call);
    if (status) return status;
    call->out[0] = *call->in[0];
    call->is_view[0] = true;
    return AD_OK;
}

static void show_factor(const void *attrs, char *text, size_t size) {
    snprintf(text, size, "%g", *(const double *)attrs);
}

static bool scale_gradient_sample(ad_sample *sample, int k) {
    sample->attrs.number[0] = 1;
    return ad_sample_one_normal(sample, k);
}

const ad_op ad_op_scale_gradient = {
    .name = "scale_gradient",
    .inputs = 1,
    .attrs_size = sizeof(double),
    .attrs = AD_ATTRS({"c", AD_ATTR_DOUBLE, 0, AD_REQUIRED, 0}),
    .saves = AD_SAVES_NOTHING,
    .shape = scale_gradient_shape,
    .vjp = scale_gradient_vjp,
    .jvp = scale_gradient_jvp,
    .depends = ad_depends_elementwise,
    .formula = "$y = $0, its gradient times $a",
    .adjoint = {"~0 += $a * ~y"},
    .show_attrs = show_factor,
    .sample = scale_gradient_sample,
};

ad_var ad_scale_gradient_at(const char *where, ad_var x, double c) {
    return ad_apply_1(where, &ad_op_scale_gradient, x, &c);
}

ad_var ad_reverse_gradient_at(const char *where, ad_var x) { return ad_scale_gradient_at(where, x, -1); }

/* value + (x - x): the value exactly, where x is finite. */
ad_var ad_straight_through_at(const char *where, ad_var value, ad_var x) {
    ad_tape *tape = x.tape ? x.tape : value.tape;
    if (!tape || !ad_tape_check_var(tape, value, "straight_through", where, "the value") ||
        !ad_tape_check_var(tape, x, "straight_through", where, "x"))
        return ad_var_invalid(tape);
    ad_shape shape = ad_node_shape(ad_node_at(tape, x.index));
    ad_shape given = ad_node_shape(ad_node_at(tape, value.index));
    if (!ad_shape_equal(&shape, &given)) {
        char text[AD_TYPE_TEXT + 128], other[AD_TYPE_TEXT + 128];
        ad_node_text(tape, value.index, true, text, sizeof text);
        ad_node_text(tape, x.index, true, other, sizeof other);
        ad_tape_fail(tape, AD_ERR_SHAPE, "straight_through", where, "%s, %s: they differ in shape", text, other);
        return ad_var_invalid(tape);
    }
    ad_var nothing = ad_sub_at(where, x, ad_detach_at(where, x));
    return ad_add_at(where, ad_detach_at(where, value), nothing);
}
