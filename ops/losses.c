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

ad_var ad_huber_at(const char *where, ad_var prediction, ad_var target, double delta) {
    if (!same_shape(where, "huber", prediction, target)) return ad_var_invalid(prediction.tape);
    if (!(delta > 0)) {
        ad_tape_fail(prediction.tape, AD_ERR_VALUE, "huber", where, "delta is %g; it must be positive", delta);
        return ad_var_invalid(prediction.tape);
    }
    ad_var size = ad_abs_at(where, ad_sub_at(where, prediction, target));
    ad_var square = ad_scale_at(where, ad_square_at(where, size), 0.5);
    ad_var line = ad_scale_at(where, ad_sub_at(where, size, ad_number_like(where, size, delta / 2)), delta);
    return ad_where_at(where, ad_greater_at(where, size, ad_number_like(where, size, delta)), line, square);
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
    ad_var one = ad_number_like(where, a, 1), zero = ad_number_like(where, a, 0);
    ad_var known = ad_greater_at(where, lengths, zero);
    ad_var cosine = ad_div_at(where, product, ad_where_at(where, known, lengths, one));
    return ad_sub_at(where, one, ad_where_at(where, known, cosine, zero));
}

ad_var ad_triplet_loss_at(const char *where, ad_var anchor, ad_var positive, ad_var negative, double margin) {
    if (!same_shape(where, "triplet_loss", anchor, positive) || !same_shape(where, "triplet_loss", anchor, negative))
        return ad_var_invalid(anchor.tape);
    ad_var near = length(where, ad_sub_at(where, anchor, positive));
    ad_var far = length(where, ad_sub_at(where, anchor, negative));
    return ad_relu_at(where, ad_add_at(where, ad_sub_at(where, near, far), ad_number_like(where, anchor, margin)));
}

/* ---- softmax_xent with options ------------------------------------------------------------------------------------ */

static bool options_fit(const char *where, const char *loss, ad_var x, ad_var target, const ad_xent_options *options,
                        ad_shape *shape) {
    ad_tape *tape = x.tape;
    if (ad_composed_axis(x, -1, loss, where, shape) < 0 ||
        !ad_tape_check_var(tape, target, loss, where, "the target") ||
        (options->weights && !ad_tape_check_var(tape, *options->weights, loss, where, "the weights")))
        return false;
    if (!(options->smoothing >= 0 && options->smoothing <= 1)) {
        ad_tape_fail(tape, AD_ERR_VALUE, loss, where, "smoothing is %g; it must be between 0 and 1",
                     options->smoothing);
        return false;
    }
    if (!options->weights) return true;
    ad_shape weights = ad_value_at(where, *options->weights).shape, wanted = AD_SHAPE(shape->dim[shape->rank - 1]);
    if (ad_shape_equal(&weights, &wanted)) return true;
    char x_text[AD_TYPE_TEXT + 128], w_text[AD_TYPE_TEXT + 128];
    ad_node_text(tape, x.index, true, x_text, sizeof x_text);
    ad_node_text(tape, options->weights->index, true, w_text, sizeof w_text);
    ad_tape_fail(tape, AD_ERR_SHAPE, loss, where, "%s, so there must be a weight for each of %lld classes, but %s",
                 x_text, (long long)wanted.dim[0], w_text);
    return false;
}

/* -(1 - s) w[t] log p[t] - s / C sum_c w[c] log p[c]; the sum only if it counts, since it may be -inf. */
static ad_var xent_of_indices(const char *where, ad_var weighted, ad_var target, const ad_xent_options *options) {
    ad_var zero = ad_number_like(where, weighted, 0), counts = zero;
    double s = options->smoothing;
    if (options->ignores) {
        counts = ad_not_equal_at(where, target, ad_number_like(where, target, (double)options->ignore_index));
        target = ad_where_at(where, counts, target, ad_number_like(where, target, 0));
    }
    ad_var loss = ad_scale_at(where, ad_nll_at(where, weighted, target), 1 - s);
    if (s > 0) loss = ad_sub_at(where, loss, ad_scale_at(where, ad_mean_at(where, weighted, AD_AXES(-1), false), s));
    return options->ignores ? ad_where_at(where, counts, loss, zero) : loss;
}

static ad_var xent_of_probabilities(const char *where, ad_var weighted, ad_var target,
                                    const ad_xent_options *options) {
    double s = options->smoothing;
    ad_shape shape = ad_value_at(where, target).shape;
    if (s > 0)
        target = ad_add_at(where, ad_scale_at(where, target, 1 - s),
                           ad_number_like(where, target, s / (double)shape.dim[shape.rank - 1]));
    return ad_neg_at(where, ad_sum_at(where, ad_masked_mul_at(where, target, weighted), AD_AXES(-1), false));
}

ad_var ad_softmax_xent_with_at(const char *where, ad_var x, ad_var target, const ad_xent_options *options) {
    static const char loss[] = "softmax_xent_with";
    ad_shape shape;
    if (!options) return ad_softmax_xent_at(where, x, target);
    if (!options_fit(where, loss, x, target, options, &shape)) return ad_var_invalid(x.tape);
    bool soft = ad_dtype_is_float(ad_value_at(where, target).dtype);
    if (soft && !same_shape(where, loss, x, target)) return ad_var_invalid(x.tape);
    if (soft && options->ignores) {
        ad_tape_fail(x.tape, AD_ERR_VALUE, loss, where,
                     "only class indices can be ignored; the target is probabilities");
        return ad_var_invalid(x.tape);
    }
    ad_var weighted = ad_log_softmax_at(where, x, -1);
    if (options->weights) weighted = ad_masked_mul_at(where, *options->weights, weighted);
    return soft ? xent_of_probabilities(where, weighted, target, options)
                : xent_of_indices(where, weighted, target, options);
}
