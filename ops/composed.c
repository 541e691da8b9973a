/* Functions that are compositions of other ops: nothing would be gained by a kernel of their own. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* ---- arithmetic --------------------------------------------------------------------------------------------------- */

ad_var ad_lerp_at(const char *where, ad_var a, ad_var b, ad_var w) {
    return ad_add_at(where, a, ad_mul_at(where, w, ad_sub_at(where, b, a)));
}

ad_var ad_addcmul_at(const char *where, ad_var x, ad_var a, ad_var b, double c) {
    return ad_add_at(where, x, ad_scale_at(where, ad_mul_at(where, a, b), c));
}

ad_var ad_addcdiv_at(const char *where, ad_var x, ad_var a, ad_var b, double c) {
    return ad_add_at(where, x, ad_scale_at(where, ad_div_at(where, a, b), c));
}

ad_var ad_clamp_between_at(const char *where, ad_var x, ad_var low, ad_var high) {
    return ad_minimum_at(where, ad_maximum_at(where, x, low), high);
}

/* ---- activations -------------------------------------------------------------------------------------------------- */

ad_var ad_threshold_at(const char *where, ad_var x, double threshold, double value) {
    ad_var below = ad_less_equal_at(where, x, ad_number_like(where, x, threshold)); /* NaN is not, and stays */
    return ad_where_at(where, below, ad_number_like(where, x, value), x);
}

ad_var ad_hardshrink_at(const char *where, ad_var x, double lambda) {
    ad_var small = ad_less_equal_at(where, ad_abs_at(where, x), ad_number_like(where, x, lambda));
    return ad_where_at(where, small, ad_number_like(where, x, 0), x);
}

ad_var ad_softshrink_at(const char *where, ad_var x, double lambda) {
    return ad_sub_at(where, x, ad_clamp_at(where, x, -lambda, lambda));
}

ad_var ad_tanhshrink_at(const char *where, ad_var x) { return ad_sub_at(where, x, ad_tanh_at(where, x)); }

ad_var ad_glu_at(const char *where, ad_var x, int axis) {
    ad_shape shape;
    int index = ad_composed_axis(x, axis, "ad_glu", where, &shape);
    if (index < 0) return ad_var_invalid(x.tape);
    if (shape.dim[index] % 2) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_glu", where, "%s, whose axis %d cannot be halved", text, axis);
        return ad_var_invalid(x.tape);
    }
    ad_var halves[2];
    ad_chunk_at(where, x, index, 2, halves);
    return ad_mul_at(where, halves[0], ad_sigmoid_at(where, halves[1]));
}

ad_var ad_softmin_at(const char *where, ad_var x, int axis) {
    return ad_softmax_at(where, ad_neg_at(where, x), axis);
}
