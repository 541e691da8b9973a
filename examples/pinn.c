/* pinn: solves a differential equation with a neural network (a physics-informed one: Raissi et al. 2019).
 *
 * Heat in a rod: u_t = k u_xx for 0 < x < 1, 0 < t < 1, with u = 0 at both ends and u = sin(pi x) at t = 0. A network
 * N(x, t) is put into u = sin(pi x) + t x (1 - x) N, so that the conditions hold whatever the weights are, and trained so
 * that the residual u_t - k u_xx is small at random points. The loss holds second derivatives of the network by its
 * inputs, and is differentiated by the weights: derivatives within derivatives. Those by x and t are taken in forward mode,
 * for all points at once, because no point depends on another. The solution is known: exp(-k pi^2 t) sin(pi x). */
#include <adtape.h>

#include <math.h>
#include <stdio.h>

enum { POINTS = 128, HIDDEN = 16, WEIGHTS = 6, STEPS = 2000 };
static const double k = 0.1, pi = 3.14159265358979323846;

/* u at points x[n,1] and t[n,1]; the weights are on the tape. */
static ad_status temperature(ad_tape *tape, const ad_var *in, ad_var *out, void *user) {
    const ad_var *w = user;
    ad_var x = in[0], t = in[1], one = ad_number(tape, AD_F64, 1);
    ad_var h = ad_cat(AD_VARS(x, t), 1);
    for (int layer = 0; layer < 2; layer++) h = ad_tanh(ad_linear(h, w[2 * layer], w[2 * layer + 1]));
    ad_var n = ad_linear(h, w[4], w[5]), bump = ad_mul(t, ad_mul(x, ad_sub(one, x)));
    out[0] = ad_add(ad_sin(ad_scale(x, pi)), ad_mul(bump, n));
    return AD_OK;
}

/* The mean square of u_t - k u_xx at random points. */
static ad_var residual(ad_tape *tape, ad_var *weights, ad_rng *rng) {
    ad_function u = {.fn = temperature, .inputs = 2, .outputs = 1, .user = weights, .name = "u"};
    ad_function along_x = ad_directional_of(&u, 2), along_t = ad_jvp_of(&u);
    double numbers[2][POINTS], ones[POINTS], zeros[POINTS] = {0};
    for (int i = 0; i < POINTS; i++) {
        numbers[0][i] = ad_rng_uniform(rng);
        numbers[1][i] = ad_rng_uniform(rng);
        ones[i] = 1;
    }
    const ad_shape column = AD_SHAPE(POINTS, 1);
    ad_var x = ad_constant(tape, "x", AD_F64, column, numbers[0]);
    ad_var t = ad_constant(tape, "t", AD_F64, column, numbers[1]);
    ad_var one = ad_constant(tape, NULL, AD_F64, column, ones), zero = ad_constant(tape, NULL, AD_F64, column, zeros);
    ad_var by_x[3], by_t[2]; /* u, u_x, u_xx; u, u_t */
    ad_function_record(&along_x, tape, (ad_var[]){x, t, one, zero}, by_x);
    ad_function_record(&along_t, tape, (ad_var[]){x, t, zero, one}, by_t);
    return ad_mean(ad_square(ad_sub(by_t[1], ad_scale(by_x[2], k))), AD_ALL_AXES, false);
}

/* The largest distance from the solution on a grid. */
static double error_on_grid(ad_tape *tape, ad_var *weights) {
    enum { SIDE = 33 };
    double x[SIDE * SIDE], t[SIDE * SIDE], worst = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        x[i] = i / SIDE / (SIDE - 1.0);
        t[i] = i % SIDE / (SIDE - 1.0);
    }
    const ad_shape column = AD_SHAPE(SIDE * SIDE, 1);
    const ad_var in[] = {ad_constant(tape, "x", AD_F64, column, x), ad_constant(tape, "t", AD_F64, column, t)};
    ad_var out;
    temperature(tape, in, &out, weights);
    ad_view u = ad_value(out);
    for (int i = 0; i < SIDE * SIDE && u.data; i++)
        worst = fmax(worst, fabs(ad_view_get(&u, i) - exp(-k * pi * pi * t[i]) * sin(pi * x[i])));
    return u.data ? worst : NAN;
}

static ad_status make_weights(ad_param **w, ad_error *error) {
    const ad_shape shapes[WEIGHTS] = {AD_SHAPE(HIDDEN, 2), AD_SHAPE(HIDDEN),    AD_SHAPE(HIDDEN, HIDDEN),
                                      AD_SHAPE(HIDDEN),    AD_SHAPE(1, HIDDEN), AD_SHAPE(1)};
    const char *const names[WEIGHTS] = {"W0", "b0", "W1", "b1", "W2", "b2"};
    double numbers[HIDDEN * HIDDEN];
    ad_rng rng = {.seed = 1};
    ad_status status = AD_OK;
    for (int i = 0; i < WEIGHTS && !status; i++) {
        for (int e = 0; e < HIDDEN * HIDDEN; e++)
            numbers[e] = i % 2 ? 0 : ad_rng_normal(&rng) / sqrt((double)shapes[i].dim[1]);
        status = ad_param_new(&w[i], NULL, names[i], AD_F64, shapes[i], numbers, error);
    }
    return status;
}

/* Returns the error on the grid at the end. */
static double train(ad_tape *tape, ad_param **w, ad_optim *optim, ad_error *error) {
    ad_rng rng = {.seed = 2};
    double worst = NAN;
    for (int step = 0; step <= STEPS; step++) {
        ad_tape_reset(tape);
        ad_var weights[WEIGHTS];
        for (int i = 0; i < WEIGHTS; i++) weights[i] = ad_use(tape, w[i]);
        ad_var loss = residual(tape, weights, &rng);
        if (step % 500 == 0) {
            worst = error_on_grid(tape, weights);
            printf("  step %4d: residual %.1e, largest error %.1e\n", step, sqrt(ad_item(loss)), worst);
        }
        ad_backward(loss);
        if (ad_optim_set_rate(optim, 1e-2 * pow(0.03, (double)step / STEPS), error)) break;
        if (ad_tape_status(tape) || ad_optim_step(optim, error)) break;
    }
    return worst;
}

int main(void) {
    ad_param *w[WEIGHTS] = {NULL};
    ad_optim *optim = NULL;
    ad_error error = {AD_OK, ""};
    ad_tape *tape = ad_tape_new(NULL);
    double worst = NAN;
    printf("A network that solves the heat equation, at %d random points a step:\n\n", POINTS);
    if (!make_weights(w, &error) && !ad_adam_new(&optim, NULL, WEIGHTS, w, NULL, &error))
        worst = train(tape, w, optim, &error);
    printf("\nlargest error on a grid of 33 x 33 points: %.1e\n", worst);
    if (!(worst < 2e-3)) fprintf(stderr, "pinn: that is too much. %s%s\n", error.message, ad_tape_error(tape));
    ad_optim_free(optim);
    for (int i = 0; i < WEIGHTS; i++) ad_param_unref(w[i]);
    ad_tape_free(tape);
    return !(worst < 2e-3);
}
