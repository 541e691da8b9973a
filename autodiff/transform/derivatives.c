/* The transforms that are a walk or two: gradients, and products with the matrices of derivatives. */
#include "autodiff/transform/transform.h"

static void copy(int n, const ad_var *from, ad_var *to) {
    for (int i = 0; i < n; i++) to[i] = from[i];
}

/* ---- gradients ----------------------------------------------------------------------------------------------------- */

static void record_grad(ad_frame *frame, const ad_var *in, ad_var *out) {
    (void)in;
    if (ad_frame_has_gradient(frame)) ad_frame_pull(frame, frame->y[0], AD_NONE, out);
}

static void record_value_and_grad(ad_frame *frame, const ad_var *in, ad_var *out) {
    out[0] = frame->y[0];
    record_grad(frame, in, out + 1);
}

static const ad_transform grad = {.name = "ad_grad_of", .record = record_grad, .is_gradient = true};
static const ad_transform value_and_grad = {.name = "ad_value_and_grad_of", .record = record_value_and_grad};

ad_function ad_grad_of(const ad_function *f) { return ad_transformed(&grad, f, ad_inputs_of(f), ad_inputs_of(f)); }

ad_function ad_value_and_grad_of(const ad_function *f) {
    return ad_transformed(&value_and_grad, f, ad_inputs_of(f), ad_plus(ad_inputs_of(f), 1));
}

/* ---- products with the Jacobian --------------------------------------------------------------------------------------- */

static void record_jvp(ad_frame *frame, const ad_var *in, ad_var *out) {
    copy(frame->m, frame->y, out);
    ad_frame_push(frame, in + frame->n, frame->m, frame->y, out + frame->m);
}

static void pull(ad_frame *frame, const ad_var *y_bar, ad_var *x_bar) {
    ad_var start, seed;
    if (ad_start_of(frame->where, frame->self->transform->name, frame->m, frame->y, y_bar, &start, &seed))
        ad_frame_pull(frame, start, seed, x_bar);
}

static void record_vjp(ad_frame *frame, const ad_var *in, ad_var *out) {
    copy(frame->m, frame->y, out);
    pull(frame, in + frame->n, out + frame->m);
}

static const ad_transform jvp = {.name = "ad_jvp_of", .record = record_jvp, .takes_tangents = true};
static const ad_transform vjp = {.name = "ad_vjp_of", .record = record_vjp};

ad_function ad_jvp_of(const ad_function *f) {
    return ad_transformed(&jvp, f, ad_times(2, ad_inputs_of(f)), ad_times(2, ad_outputs_of(f)));
}

ad_function ad_vjp_of(const ad_function *f) {
    return ad_transformed(&vjp, f, ad_plus(ad_inputs_of(f), ad_outputs_of(f)),
                          ad_plus(ad_outputs_of(f), ad_inputs_of(f)));
}

/* ---- products with matrices of second derivatives --------------------------------------------------------------------- */

/* Forward over reverse; on numbers reverse over forward, the gradient of the derivative along v, as a pass is cheaper than
 * moving a recorded gradient. */
static void record_hvp(ad_frame *frame, const ad_var *in, ad_var *out) {
    if (!ad_frame_has_gradient(frame)) return;
    if (frame->on_numbers) {
        ad_var slope;
        if (ad_pushforward_at(frame->where, frame->n, frame->x, in + frame->n, 1, frame->y, &slope)) return;
        ad_frame_pull(frame, frame->y[0], AD_NONE, out);
        ad_frame_pull(frame, slope, AD_NONE, out + frame->n);
        return;
    }
    ad_frame_gradient(frame, out);
    if (frame->tape->error.status) return;
    ad_pushforward_at(frame->where, frame->n, frame->x, in + frame->n, frame->n, out, out + frame->n);
}

static void record_gauss_newton(ad_frame *frame, const ad_var *in, ad_var *out) {
    const ad_function *loss = frame->self->loss;
    int m = frame->m;
    ad_var *y = ad_frame_take(frame, 4 * (int64_t)m, sizeof *y), *moved = y + m, *pair = y + 2 * m;
    if (!y) return;
    copy(m, frame->y, out);
    copy(m, frame->y, y);
    ad_frame_push(frame, in + frame->n, m, y, moved);
    if (frame->tape->error.status) return;
    if (loss) {
        ad_function curve = ad_hvp_of(loss);
        if (loss->inputs != m || loss->constants != 0) {
            ad_tape_fail(
                frame->tape, AD_ERR_VALUE, frame->self->transform->name, frame->where,
                "the loss has %d inputs and %d constants, but it is of the function's outputs alone, which are %d",
                loss->inputs - loss->constants, loss->constants, m);
            return;
        }
        if (ad_function_call(frame->where, &curve, frame->tape, y, pair)) return;
        moved = pair + m;
    }
    pull(frame, moved, out + m);
}

static const ad_transform hvp = {.name = "ad_hvp_of", .record = record_hvp, .takes_tangents = true};
static const ad_transform gauss_newton = {.name = "ad_gauss_newton_of",
                                          .record = record_gauss_newton,
                                          .takes_tangents = true};

ad_function ad_hvp_of(const ad_function *f) {
    return ad_transformed(&hvp, f, ad_times(2, ad_inputs_of(f)), ad_times(2, ad_inputs_of(f)));
}

ad_function ad_gauss_newton_of(const ad_function *f, const ad_function *loss) {
    ad_function made = ad_transformed(&gauss_newton, f, ad_times(2, ad_inputs_of(f)),
                                      ad_plus(ad_outputs_of(f), ad_inputs_of(f)));
    made.loss = loss;
    return made;
}

/* ---- along a line ----------------------------------------------------------------------------------------------------- */

static void record_directional(ad_frame *frame, const ad_var *in, ad_var *out) {
    copy(frame->m, frame->y, out);
    for (int k = frame->m; k < frame->self->outputs && !frame->tape->error.status; k += frame->m, out += frame->m)
        ad_pushforward_at(frame->where, frame->n, frame->x, in + frame->n, frame->m, out, out + frame->m);
}

static const ad_transform directional = {.name = "ad_directional_of",
                                         .record = record_directional,
                                         .takes_tangents = true};

ad_function ad_directional_of(const ad_function *f, int order) {
    int orders = order < 0 ? 0 : ad_plus(order, 1);
    return ad_transformed(&directional, f, ad_times(2, ad_inputs_of(f)), ad_times(orders, ad_outputs_of(f)));
}
