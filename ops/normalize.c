/* Normalization layers. All of them standardize rows of an array, which differ in the axes that they lie along, and then
 * scale and shift by learned numbers:
 *
 *     layer_norm    the last axes                    batch_norm   all axes but 1, of the channels
 *     rms_norm      the same, and no mean is taken   group_norm   all axes but 0 and the groups of channels
 *
 * The weight w and the bias b broadcast to x, so the layers are views of x, w and b around one of two ops. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>
#include <string.h>

typedef struct standardize_attrs {
    ad_reduce_attrs reduce; /* keepdim is true */
    double epsilon;
} standardize_attrs;

/* ---- what both share --------------------------------------------------------------------------------------------- */

/* Result 0 like x, and the further ones a number for each row; inputs 1 and on broadcast to x. */
static ad_status standardize_shape(ad_call *call) {
    double epsilon = ((const standardize_attrs *)call->attrs)->epsilon;
    if (!(epsilon >= 0 && isfinite(epsilon)))
        return ad_fail(call, AD_ERR_VALUE, "epsilon is %g, but it must be 0 or more: usually 1e-5", epsilon);
    if (!((const standardize_attrs *)call->attrs)->reduce.keepdim)
        return ad_fail(call, AD_ERR_VALUE,
                       "keepdim is false, but the further results keep the axes that they are over");
    const ad_view *x = call->in[0];
    ad_shape rows, common;
    ad_status status = ad_need_float(call, 0);
    for (int i = 1; i < call->inputs && !status; i++) status = ad_need_same_dtype(call, 0, i);
    if (!status) status = ad_reduced_shape(call, &rows);
    for (int i = 1; i < call->inputs && !status; i++)
        if (ad_shape_broadcast(&x->shape, &call->in[i]->shape, &common) || !ad_shape_equal(&common, &x->shape))
            status = ad_fail(call, AD_ERR_SHAPE, "%s, which does not broadcast to %s", ad_describe(call, i),
                             ad_describe(call, 0));
    if (status) return status;
    ad_set_out(call, 0, x->dtype, x->shape);
    for (int k = 1; k < call->op->results; k++) ad_set_out(call, k, x->dtype, rows);
    return AD_OK;
}

static unsigned axes_as_bits(const ad_axes *axes, int rank) {
    unsigned bits = axes->count == 0 ? ~0u : 0;
    for (int i = 0; i < axes->count; i++) bits |= 1u << ad_axis_index(axes->axis[i], rank);
    return bits;
}

/* The kernel's view of a call; results and what the backward pass adds are set by the ops. */
static ad_standardize problem_of(const ad_call *call, bool centred) {
    const standardize_attrs *attrs = call->attrs;
    const ad_view *x = call->in[0];
    return (ad_standardize){.reduced = axes_as_bits(&attrs->reduce.axes, x->shape.rank),
                            .centred = centred,
                            .epsilon = attrs->epsilon,
                            .x = *x,
                            .w = ad_stretched(call->in[1], &x->shape),
                            .square = call->out[centred ? 2 : 1],
                            .mean = call->out[1]};
}

/* A cotangent, or zeros if none arrived. */
static ad_view seed_or_zeros(const ad_view *seed, const ad_view *zero, const ad_shape *shape) {
    return seed->data ? *seed : ad_stretched(zero, shape);
}

static ad_status standardize_back(ad_call *call, ad_adjoint *adjoint, bool centred) {
    const ad_shape *shape = &call->in[0]->shape;
    ad_standardize s = problem_of(call, centred);
    ad_view zero = ad_scratch_view(call, s.x.dtype, AD_SCALAR);
    if (!zero.data) return AD_ERR_OOM;
    ad_kernels_get()->fill(&zero, 0);
    s.g = seed_or_zeros(&adjoint->seed[0], &zero, shape);
    s.mean_bar = seed_or_zeros(&adjoint->seed[1], &zero, &call->out[1].shape);
    s.square_bar = centred ? seed_or_zeros(&adjoint->seed[2], &zero, &call->out[2].shape) : s.mean_bar;
    if (ad_wants(adjoint, 1)) {
        s.product = ad_scratch_view(call, s.x.dtype, *shape);
        if (!s.product.data) return AD_ERR_OOM;
    }
    const ad_view *x_bar = ad_into(adjoint, 0, &s.add);
    if (x_bar) s.x_bar = *x_bar;
    ad_kernels_get()->standardize_back(&s);
    bool add;
    const ad_view *into = ad_into(adjoint, 1, &add);
    if (into) ad_kernels_get()->sum_to(&s.product, into, 1, add);
    into = centred ? ad_into(adjoint, 2, &add) : NULL;
    if (into) ad_kernels_get()->sum_to(&s.g, into, 1, add);
    return AD_OK;
}

/* 1 / sqrt(square + epsilon), and 0 instead of 1 / 0, with all derivatives. */
static ad_var inverse_root(const standardize_attrs *attrs, ad_var square) {
    ad_var sum = ad_add(square, ad_number_like(AD_HERE, square, attrs->epsilon));
    ad_var one = ad_number_like(AD_HERE, square, 1), zero = ad_number_like(AD_HERE, square, 0);
    return ad_where(sum, ad_rsqrt(ad_where(sum, sum, one)), zero);
}

static double row_length(ad_vjp *v) {
    ad_shape shape = ad_vjp_input_shape(v, 0), rows = ad_vjp_result_shape(v, 1);
    return (double)ad_shape_count(&shape) / (double)ad_shape_count(&rows);
}

/* deviation: x, less its mean if that is taken */
static void give_scale(ad_vjp *v, ad_var deviation, ad_var r) {
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_mul(ad_vjp_seed(v, 0), ad_mul(deviation, r)));
}

static void give_x(ad_vjp *v, ad_var deviation, ad_var r, bool centred) {
    const ad_axes axes = ((const standardize_attrs *)ad_vjp_attrs(v))->reduce.axes;
    const int square = centred ? 2 : 1;
    ad_var h = ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 1)), unit = ad_mul(deviation, r);
    ad_var along = ad_mul(unit, ad_mean(ad_mul(h, unit), axes, AD_KEEPDIM));
    if (centred) h = ad_sub(h, ad_mean(h, axes, AD_KEEPDIM));
    ad_vjp_give(v, 0, ad_mul(r, ad_sub(h, along)));
    if (ad_vjp_has_seed(v, square))
        ad_vjp_give(v, 0, ad_mul(deviation, ad_scale(ad_vjp_seed(v, square), 2 / row_length(v))));
    if (centred && ad_vjp_has_seed(v, 1)) {
        ad_var share = ad_scale(ad_vjp_seed(v, 1), 1 / row_length(v));
        ad_vjp_give(v, 0, ad_broadcast_to(share, ad_vjp_input_shape(v, 0)));
    }
}

/* How the rows' numbers and y move, but for what the bias adds to y. */
static void push_rows(ad_jvp *j, bool centred) {
    const standardize_attrs *attrs = ad_jvp_attrs(j);
    const ad_axes axes = attrs->reduce.axes;
    const int square = centred ? 2 : 1;
    ad_var deviation = ad_jvp_input(j, 0), r = inverse_root(attrs, ad_jvp_result(j, square));
    if (centred) deviation = ad_sub(deviation, ad_jvp_result(j, 1));
    if (ad_jvp_moves(j, 0)) {
        ad_var moved = ad_jvp_tangent(j, 0);
        if (centred) {
            ad_var mean = ad_mean(moved, axes, AD_KEEPDIM);
            ad_jvp_give(j, 1, mean);
            moved = ad_sub(moved, mean);
        }
        ad_var square_dot = ad_scale(ad_mean(ad_mul(deviation, moved), axes, AD_KEEPDIM), 2);
        ad_jvp_give(j, square, square_dot);
        ad_var r_dot = ad_scale(ad_mul(ad_mul(ad_square(r), r), square_dot), -0.5);
        ad_var unit_dot = ad_add(ad_mul(moved, r), ad_mul(deviation, r_dot));
        ad_jvp_give(j, 0, ad_mul(unit_dot, ad_jvp_input(j, 1)));
    }
    if (ad_jvp_moves(j, 1)) ad_jvp_give(j, 0, ad_mul(ad_mul(deviation, r), ad_jvp_tangent(j, 1)));
}

static const ad_attr standardize_attr_list[] = {
    AD_ATTR("axes", AXES, standardize_attrs, reduce.axes, AD_USUALLY(0)),
    AD_ATTR("keepdim", BOOL, standardize_attrs, reduce.keepdim, AD_USUALLY(true)),
    AD_ATTR("epsilon", DOUBLE, standardize_attrs, epsilon, AD_USUALLY(1e-5)), AD_ATTRS_END};

static void show_standardize(const void *attrs, char *text, size_t size) {
    ad_show_axes(&((const standardize_attrs *)attrs)->reduce.axes, text, size);
    size_t length = strlen(text);
    ad_text_add(text, size, &length, ", epsilon %g", ((const standardize_attrs *)attrs)->epsilon);
}

static bool standardize_sample(ad_sample *sample, int k) {
    const ad_shape x[] = {AD_SHAPE(3, 4), AD_SHAPE(2, 3, 4), AD_SHAPE(2, 3, 4), AD_SHAPE(3, 4),
                          AD_SCALAR,      AD_SHAPE(2, 1, 3), AD_SHAPE(0, 3),    AD_SHAPE(5)};
    const ad_shape w[] = {AD_SHAPE(4), AD_SHAPE(3, 1), AD_SHAPE(3, 4), AD_SCALAR,
                          AD_SCALAR,   AD_SHAPE(3),    AD_SHAPE(3),    AD_SHAPE(1)};
    const ad_axes axes[] = {AD_AXES(-1), AD_AXES(0, 2), AD_AXES(1, -1), AD_ALL_AXES,
                            AD_ALL_AXES, AD_AXES(1),    AD_AXES(1),     AD_AXES(0)};
    if (k >= (int)(sizeof x / sizeof *x)) return false;
    standardize_attrs attrs = {.reduce = {.axes = axes[k], .keepdim = true}, .epsilon = k == 2 ? 1e-5 : 0.25};
    memcpy(sample->attrs.bytes, &attrs, sizeof attrs);
    return ad_sample_normal(sample, x[k]) && ad_sample_normal(sample, w[k]);
}

/* ---- standardize ------------------------------------------------------------------------------------------------- */

static ad_status standardize_forward(ad_call *call) {
    ad_standardize s = problem_of(call, true);
    s.b = ad_stretched(call->in[2], &s.x.shape);
    s.y = call->out[0];
    ad_kernels_get()->standardize(&s);
    return AD_OK;
}

static ad_status standardize_backward(ad_call *call, ad_adjoint *adjoint) {
    return standardize_back(call, adjoint, true);
}

static void standardize_vjp(ad_vjp *v) {
    ad_var deviation = ad_sub(ad_vjp_input(v, 0), ad_vjp_result(v, 1)),
           r = inverse_root(ad_vjp_attrs(v), ad_vjp_result(v, 2));
    give_scale(v, deviation, r);
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_vjp_seed(v, 0));
    if (ad_vjp_wants(v, 0)) give_x(v, deviation, r, true);
}

static void standardize_jvp(ad_jvp *j) {
    push_rows(j, true);
    if (ad_jvp_moves(j, 2))
        ad_jvp_give(j, 0, ad_broadcast_to(ad_jvp_tangent(j, 2), ad_value(ad_jvp_input(j, 0)).shape));
}

static bool standardize_sample_with_shift(ad_sample *sample, int k) {
    return standardize_sample(sample, k) && ad_sample_normal(sample, ad_tensor_view(sample->input[1])->shape);
}

const ad_op ad_op_standardize = {
    .name = "standardize",
    .inputs = 3,
    .results = 3,
    .attrs_size = sizeof(standardize_attrs),
    .attrs = standardize_attr_list,
    .broadcasts = true,
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_INPUT(1) | AD_SAVES_RESULT(1) | AD_SAVES_RESULT(2),
    .shape = standardize_shape,
    .forward = standardize_forward,
    .vjp = standardize_vjp,
    .jvp = standardize_jvp,
    .backward = standardize_backward,
    .depends = ad_depends_normalized,
    .formula = "$y = ($0 - $y1) / sqrt($y2 + epsilon) * $1 + $2, $a",
    .result_formula = {"$y1 = mean($0)", "$y2 = variance($0)"},
    .adjoint = {"~0 += (h - mean(h) - u mean(h u)) / sqrt($y2 + epsilon); h = ~y $1, u = ($y - $2) / $1",
                "~1 += ~y ($y - $2) / $1", "~2 += ~y"},
    .convention = "equal elements with epsilon 0: $y = $2, and gradient 0",
    .show_attrs = show_standardize,
    .sample = standardize_sample_with_shift,
};

static ad_var standardize(const char *where, ad_var x, ad_var w, ad_var b, ad_axes axes, double epsilon,
                          ad_var results[3]) {
    standardize_attrs attrs = {.reduce = {.axes = axes, .keepdim = true}, .epsilon = epsilon};
    return ad_apply_at(where, x.tape, &ad_op_standardize, 3, (ad_var[]){x, w, b}, &attrs, results);
}

/* ---- rms_norm ---------------------------------------------------------------------------------------------------- */

static ad_status rms_norm_forward(ad_call *call) {
    ad_standardize s = problem_of(call, false);
    ad_view zero = ad_scratch_view(call, s.x.dtype, AD_SCALAR);
    if (!zero.data) return AD_ERR_OOM;
    ad_kernels_get()->fill(&zero, 0);
    s.b = ad_stretched(&zero, &s.x.shape);
    s.y = call->out[0];
    ad_kernels_get()->standardize(&s);
    return AD_OK;
}

static ad_status rms_norm_backward(ad_call *call, ad_adjoint *adjoint) {
    return standardize_back(call, adjoint, false);
}

static void rms_norm_vjp(ad_vjp *v) {
    ad_var x = ad_vjp_input(v, 0), r = inverse_root(ad_vjp_attrs(v), ad_vjp_result(v, 1));
    give_scale(v, x, r);
    if (ad_vjp_wants(v, 0)) give_x(v, x, r, false);
}

static void rms_norm_jvp(ad_jvp *j) { push_rows(j, false); }

const ad_op ad_op_rms_norm = {
    .name = "rms_norm",
    .inputs = 2,
    .results = 2,
    .attrs_size = sizeof(standardize_attrs),
    .attrs = standardize_attr_list,
    .broadcasts = true,
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_INPUT(1) | AD_SAVES_RESULT(1),
    .shape = standardize_shape,
    .forward = rms_norm_forward,
    .vjp = rms_norm_vjp,
    .jvp = rms_norm_jvp,
    .backward = rms_norm_backward,
    .depends = ad_depends_normalized,
    .formula = "$y = $0 / sqrt($y1 + epsilon) * $1, $a",
    .result_formula = {"$y1 = mean($0^2)"},
    .adjoint = {"~0 += (h - u mean(h u)) / sqrt($y1 + epsilon); h = ~y $1, u = $y / $1", "~1 += ~y $y / $1"},
    .convention = "zeros with epsilon 0: zeros, and gradient 0",
    .show_attrs = show_standardize,
    .sample = standardize_sample,
};

/* ---- layers ------------------------------------------------------------------------------------------------------ */

/* Checks that a parameter, if there is one, has that shape. */
static bool check_parameter(const char *where, const char *subject, ad_var x, ad_var parameter, const char *role,
                            ad_shape shape) {
    if (!parameter.tape) return true;
    if (!ad_tape_check_var(x.tape, parameter, subject, where, role)) return false;
    const ad_shape actual = ad_node_shape(ad_node_at(x.tape, parameter.index));
    if (ad_shape_equal(&actual, &shape)) return true;
    char text[AD_TYPE_TEXT + 128], x_text[AD_TYPE_TEXT + 128], needed[AD_TYPE_TEXT];
    size_t length = 0;
    ad_node_text(x.tape, parameter.index, true, text, sizeof text);
    ad_node_text(x.tape, x.index, true, x_text, sizeof x_text);
    needed[0] = '\0';
    ad_text_shape(needed, sizeof needed, &length, &shape);
    ad_tape_fail(x.tape, AD_ERR_SHAPE, subject, where, "the %s must have shape %s: %s, %s", role, needed, text,
                 x_text);
    return false;
}

/* Of x: its shape; false and the error if it has fewer axes. */
static bool check_rank(const char *where, const char *subject, ad_var x, int least, ad_shape *shape) {
    if (!ad_check_var(x, subject, where)) return false;
    *shape = ad_node_shape(ad_node_at(x.tape, x.index));
    if (shape->rank >= least) return true;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(x.tape, x.index, true, text, sizeof text);
    ad_tape_fail(x.tape, AD_ERR_SHAPE, subject, where, "%s, but it takes [N,C,...]", text);
    return false;
}

/* The parameter in that shape, or the number that stands for none. */
static ad_var parameter_or(const char *where, ad_var x, ad_var parameter, ad_shape shape, double number) {
    return parameter.tape ? ad_reshape_at(where, parameter, shape) : ad_number_like(where, x, number);
}

/* The last k axes of x, and their part of its shape. */
static bool last_axes(const char *where, const char *subject, ad_var x, int k, ad_axes *axes, ad_shape *shape) {
    if (!ad_check_var(x, subject, where)) return false;
    const ad_shape all = ad_node_shape(ad_node_at(x.tape, x.index));
    if (k < 1 || k > all.rank) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_INDEX, subject, where, "the last %d axes are asked for: %s has %d", k, text,
                     all.rank);
        return false;
    }
    *axes = (ad_axes){.count = k, .axis = {0}};
    *shape = (ad_shape){.rank = k, .dim = {0}};
    for (int i = 0; i < k; i++) {
        axes->axis[i] = i - k;
        shape->dim[i] = all.dim[all.rank - k + i];
    }
    return true;
}

ad_var ad_layer_norm_at(const char *where, ad_var x, int k, ad_var w, ad_var b, double epsilon) {
    ad_axes axes;
    ad_shape shape;
    if (!last_axes(where, "ad_layer_norm", x, k, &axes, &shape) ||
        !check_parameter(where, "ad_layer_norm", x, w, "weight", shape) ||
        !check_parameter(where, "ad_layer_norm", x, b, "bias", shape))
        return ad_var_invalid(x.tape);
    return standardize(where, x, parameter_or(where, x, w, shape, 1), parameter_or(where, x, b, shape, 0), axes,
                       epsilon, NULL);
}

ad_var ad_rms_norm_at(const char *where, ad_var x, int k, ad_var w, double epsilon) {
    standardize_attrs attrs = {.reduce.keepdim = true, .epsilon = epsilon};
    ad_shape shape;
    if (!last_axes(where, "ad_rms_norm", x, k, &attrs.reduce.axes, &shape) ||
        !check_parameter(where, "ad_rms_norm", x, w, "weight", shape))
        return ad_var_invalid(x.tape);
    return ad_apply_2(where, &ad_op_rms_norm, x, parameter_or(where, x, w, shape, 1), &attrs);
}

/* [C, 1, ..., 1]: a number for each channel of an x of that rank. */
static ad_shape per_channel(int64_t channels, int rank) {
    ad_shape shape = {.rank = rank - 1, .dim = {channels}};
    for (int i = 1; i < shape.rank; i++) shape.dim[i] = 1;
    return shape;
}

ad_var ad_batch_norm_at(const char *where, ad_var x, ad_var w, ad_var b, double epsilon, ad_var *mean,
                        ad_var *variance) {
    ad_shape shape;
    ad_var results[3];
    if (mean) *mean = ad_var_invalid(x.tape);
    if (variance) *variance = ad_var_invalid(x.tape);
    if (!check_rank(where, "ad_batch_norm", x, 2, &shape)) return ad_var_invalid(x.tape);
    const ad_shape channels = AD_SHAPE(shape.dim[1]), spread = per_channel(shape.dim[1], shape.rank);
    if (!check_parameter(where, "ad_batch_norm", x, w, "weight", channels) ||
        !check_parameter(where, "ad_batch_norm", x, b, "bias", channels))
        return ad_var_invalid(x.tape);
    ad_axes axes = {.count = shape.rank - 1, .axis = {0}};
    for (int i = 1; i < axes.count; i++) axes.axis[i] = i + 1;
    ad_var y = standardize(where, x, parameter_or(where, x, w, spread, 1), parameter_or(where, x, b, spread, 0), axes,
                           epsilon, results);
    if (mean) *mean = ad_reshape_at(where, results[1], channels);
    if (variance) *variance = ad_reshape_at(where, results[2], channels);
    return y;
}

ad_var ad_batch_norm_with_at(const char *where, ad_var x, ad_var mean, ad_var variance, ad_var w, ad_var b,
                             double epsilon) {
    static const char *const role[] = {"mean", "variance", "weight", "bias"};
    static const double without[] = {0, 1, 1, 0};
    const ad_var parameter[] = {mean, variance, w, b};
    ad_var p[4];
    ad_shape shape;
    if (!check_rank(where, "ad_batch_norm_with", x, 2, &shape)) return ad_var_invalid(x.tape);
    for (int i = 0; i < 4; i++) {
        if (!check_parameter(where, "ad_batch_norm_with", x, parameter[i], role[i], AD_SHAPE(shape.dim[1])))
            return ad_var_invalid(x.tape);
        p[i] = parameter_or(where, x, parameter[i], per_channel(shape.dim[1], shape.rank), without[i]);
    }
    ad_var r = ad_rsqrt_at(where, ad_add_at(where, p[1], ad_number_like(where, x, epsilon)));
    ad_var scale = ad_mul_at(where, p[2], r);
    return ad_add_at(where, ad_mul_at(where, ad_sub_at(where, x, p[0]), scale), p[3]);
}

ad_var ad_group_norm_at(const char *where, ad_var x, int64_t groups, ad_var w, ad_var b, double epsilon) {
    ad_shape shape;
    if (!check_rank(where, "ad_group_norm", x, 2, &shape)) return ad_var_invalid(x.tape);
    if (groups < 1 || shape.dim[1] % groups != 0) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_group_norm", where,
                     "%lld groups do not divide the %lld channels of %s", (long long)groups, (long long)shape.dim[1],
                     text);
        return ad_var_invalid(x.tape);
    }
    const ad_shape channels = AD_SHAPE(shape.dim[1]), spread = AD_SHAPE(groups, shape.dim[1] / groups, 1);
    if (!check_parameter(where, "ad_group_norm", x, w, "weight", channels) ||
        !check_parameter(where, "ad_group_norm", x, b, "bias", channels))
        return ad_var_invalid(x.tape);
    ad_shape grouped = AD_SHAPE(shape.dim[0], groups, shape.dim[1] / groups, 1);
    for (int i = 2; i < shape.rank; i++) grouped.dim[3] *= shape.dim[i];
    ad_var y = standardize(where, ad_reshape_at(where, x, grouped), parameter_or(where, x, w, spread, 1),
                           parameter_or(where, x, b, spread, 0), AD_AXES(2, 3), epsilon, NULL);
    return ad_reshape_at(where, y, shape);
}
