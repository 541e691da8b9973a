/* Losses that are compositions of other ops. The elementwise ones are rows of ops/kernels/elementwise_table.h. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* Compositions would broadcast: whether both have one shape, with the tape's error if not. */
static bool same_shape(const char *where, const char *loss, ad_var a, ad_var b) {
    ad_shape a_shape = ad_value_at(where, a).shape, b_shape = ad_value_at(where, b).shape;
    if (!a.tape || a.tape->error.status) return false;
    if (ad_shape_equal(&a_shape, &b_shape)) return true;
    char a_text[AD_TYPE_TEXT + 128], b_text[AD_TYPE_TEXT + 128];
    ad_node_text(a.tape, a.index, true, a_text, sizeof a_text);
    ad_node_text(b.tape, b.index, true, b_text, sizeof b_text);
    ad_tape_fail(a.tape, AD_ERR_SHAPE, loss, where, "%s, %s: they differ in shape (a loss never broadcasts)", a_text,
                 b_text);
    return false;
}

static ad_var number_like(const char *where, ad_var x, double value) {
    return ad_number_at(where, x.tape, ad_value_at(where, x).dtype, value);
}

ad_var ad_huber_at(const char *where, ad_var prediction, ad_var target, double delta) {
    if (!same_shape(where, "huber", prediction, target)) return ad_var_invalid(prediction.tape);
    if (!(delta > 0)) {
        ad_tape_fail(prediction.tape, AD_ERR_VALUE, "huber", where, "delta is %g; it must be positive", delta);
        return ad_var_invalid(prediction.tape);
    }
    ad_var size = ad_abs_at(where, ad_sub_at(where, prediction, target));
    ad_var square = ad_scale_at(where, ad_square_at(where, size), 0.5);
    ad_var line = ad_scale_at(where, ad_sub_at(where, size, number_like(where, size, delta / 2)), delta);
    return ad_where_at(where, ad_greater_at(where, size, number_like(where, size, delta)), line, square);
}

ad_var ad_nll_at(const char *where, ad_var log_p, ad_var target) {
    return ad_neg_at(where, ad_pick_at(where, log_p, target));
}

ad_var ad_gaussian_nll_at(const char *where, ad_var mean, ad_var variance, ad_var target) {
    if (!same_shape(where, "gaussian_nll", mean, target) || !same_shape(where, "gaussian_nll", mean, variance))
        return ad_var_invalid(mean.tape);
    ad_var misfit = ad_div_at(where, ad_square_at(where, ad_sub_at(where, target, mean)), variance);
    return ad_scale_at(where, ad_add_at(where, ad_log_at(where, variance), misfit), 0.5);
}

/* ---- of vectors along the last axis ------------------------------------------------------------------------------ */

static ad_var length(const char *where, ad_var x) { return ad_norm_at(where, x, 2, AD_AXES(-1), false); }

ad_var ad_cosine_loss_at(const char *where, ad_var a, ad_var b) {
    if (!same_shape(where, "cosine_loss", a, b)) return ad_var_invalid(a.tape);
    ad_var product = ad_sum_at(where, ad_mul_at(where, a, b), AD_AXES(-1), false);
    ad_var lengths = ad_mul_at(where, length(where, a), length(where, b));
    /* Where a length is 0 there is no angle: the cosine counts as 0, and so does its derivative. */
    ad_var one = number_like(where, a, 1), zero = number_like(where, a, 0);
    ad_var known = ad_greater_at(where, lengths, zero);
    ad_var cosine = ad_div_at(where, product, ad_where_at(where, known, lengths, one));
    return ad_sub_at(where, one, ad_where_at(where, known, cosine, zero));
}

ad_var ad_triplet_loss_at(const char *where, ad_var anchor, ad_var positive, ad_var negative, double margin) {
    if (!same_shape(where, "triplet_loss", anchor, positive) || !same_shape(where, "triplet_loss", anchor, negative))
        return ad_var_invalid(anchor.tape);
    ad_var near = length(where, ad_sub_at(where, anchor, positive));
    ad_var far = length(where, ad_sub_at(where, anchor, negative));
    return ad_relu_at(where, ad_add_at(where, ad_sub_at(where, near, far), number_like(where, anchor, margin)));
}
