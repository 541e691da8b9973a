/* maml: learns weights from which one step of descent is enough (model-agnostic meta-learning, Finn et al. 2017).
 *
 * Each task is a wave a sin(x + b), of which the network sees ten points. It takes one step down its loss on these,
 * w' = w - r dloss/dw, and is then asked for ten other points of the wave. What is trained, over many tasks, is the start w
 * (and the rate r): the loss after the step is differentiated through the step, which holds a gradient itself. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>

enum { POINTS = 10, HIDDEN = 24, WEIGHTS = 6, RATE = WEIGHTS, PARAMS, TASKS = 4, STEPS = 4000, HELD_OUT = 100 };

typedef struct wave {
    double x[POINTS], y[POINTS];
} wave;

/* What the network sees of a task, and what it is asked for. */
static void draw_task(ad_rng *rng, wave *seen, wave *asked) {
    double a = 0.5 + 1.5 * ad_rng_uniform(rng), b = 3 * ad_rng_uniform(rng);
    wave *const parts[] = {seen, asked};
    for (int p = 0; p < 2; p++) {
        for (int i = 0; i < POINTS; i++) {
            parts[p]->x[i] = 6 * ad_rng_uniform(rng) - 3;
            parts[p]->y[i] = a * sin(parts[p]->x[i] + b);
        }
    }
}

/* The mean square error of the network with these weights. */
static ad_status loss_fn(ad_tape *t, const ad_var *w, ad_var *out, void *user) {
    const wave *data = user;
    ad_var x = ad_constant(t, "x", AD_F64, AD_SHAPE(POINTS, 1), data->x);
    ad_var y = ad_constant(t, "y", AD_F64, AD_SHAPE(POINTS, 1), data->y);
    for (int layer = 0; layer < 2; layer++) x = ad_tanh(ad_linear(x, w[2 * layer], w[2 * layer + 1]));
    out[0] = ad_mean(ad_mse(ad_linear(x, w[4], w[5]), y), AD_ALL_AXES, false);
    return AD_OK;
}

/* The loss on what is asked, after a step on what is seen. */
static ad_var loss_after_a_step(ad_tape *t, const ad_var *w, wave *seen, wave *asked) {
    ad_function before = {.fn = loss_fn, .inputs = WEIGHTS, .outputs = 1, .user = seen};
    ad_function after = {.fn = loss_fn, .inputs = WEIGHTS, .outputs = 1, .user = asked};
    ad_function gradient = ad_grad_of(&before);
    ad_var g[WEIGHTS], moved[WEIGHTS], loss;
    ad_function_record(&gradient, t, w, g);
    for (int i = 0; i < WEIGHTS; i++) moved[i] = ad_sub(w[i], ad_mul(w[RATE], g[i]));
    ad_function_record(&after, t, moved, &loss);
    return loss;
}

static void use_all(ad_tape *t, ad_param **params, ad_var *w) {
    ad_tape_reset(t);
    for (int i = 0; i < PARAMS; i++) w[i] = ad_use(t, params[i]);
}

/* The mean loss on tasks that were not trained on, before and after the step. */
static double judge(ad_tape *t, ad_param **params, const char *who) {
    ad_rng rng = {.seed = 1000};
    double before = 0, after = 0;
    for (int task = 0; task < HELD_OUT; task++) {
        wave seen, asked;
        ad_var w[PARAMS], loss;
        draw_task(&rng, &seen, &asked);
        use_all(t, params, w);
        loss_fn(t, w, &loss, &asked);
        before += ad_item(loss) / HELD_OUT;
        after += ad_item(loss_after_a_step(t, w, &seen, &asked)) / HELD_OUT;
    }
    printf("  %-10s before the step %.4f, after it %.4f\n", who, before, after);
    return after;
}

static ad_status train(ad_tape *t, ad_param **params, ad_optim *optim, ad_error *error) {
    ad_rng rng = {.seed = 2};
    for (int step = 0; step < STEPS; step++) {
        ad_var w[PARAMS], sum = AD_NONE;
        use_all(t, params, w);
        for (int task = 0; task < TASKS; task++) {
            wave seen, asked;
            draw_task(&rng, &seen, &asked);
            ad_var loss = loss_after_a_step(t, w, &seen, &asked);
            sum = task ? ad_add(sum, loss) : loss;
        }
        if (ad_backward(ad_scale(sum, 1.0 / TASKS))) return ad_tape_status(t);
        if (ad_clip_gradients(PARAMS, params, 1, NULL, error) || ad_optim_step(optim, error)) return error->status;
    }
    return AD_OK;
}

static ad_status make_params(ad_param **params, ad_error *error) {
    const ad_shape shapes[PARAMS] = {
        AD_SHAPE(HIDDEN, 1), AD_SHAPE(HIDDEN), AD_SHAPE(HIDDEN, HIDDEN), AD_SHAPE(HIDDEN), AD_SHAPE(1, HIDDEN),
        AD_SHAPE(1),         AD_SCALAR};
    const char *const names[PARAMS] = {"W0", "b0", "W1", "b1", "W2", "b2", "rate"};
    double numbers[HIDDEN * HIDDEN];
    ad_rng rng = {.seed = 1};
    ad_status status = AD_OK;
    for (int i = 0; i < PARAMS && !status; i++) {
        for (int e = 0; e < HIDDEN * HIDDEN; e++)
            numbers[e] = i == RATE ? 0.05 : i % 2 ? 0 : ad_rng_normal(&rng) / sqrt((double)shapes[i].dim[1]);
        status = ad_param_new(&params[i], NULL, names[i], AD_F64, shapes[i], numbers, error);
    }
    return status;
}

int main(void) {
    ad_param *params[PARAMS] = {NULL};
    ad_optim *optim = NULL;
    ad_error error = {AD_OK, ""};
    ad_adam_options options = ad_adam_defaults();
    options.rate = 3e-3;
    ad_tape *t = ad_tape_new(NULL);
    double first = NAN, last = NAN;
    printf("One step on ten points of an unknown wave, mean square error on ten others:\n\n");
    if (!make_params(params, &error) && !ad_adam_new(&optim, NULL, PARAMS, params, &options, &error)) {
        first = judge(t, params, "untrained:");
        if (!train(t, params, optim, &error)) last = judge(t, params, "trained:");
        printf("\nthe rate of the step, which is trained too: %.3f\n", ad_view_get(ad_param_value(params[RATE]), 0));
    }
    bool learnt = last < first / 3;
    if (!learnt) fprintf(stderr, "maml: it did not learn to learn. %s%s\n", error.message, ad_tape_error(t));
    ad_optim_free(optim);
    for (int i = 0; i < PARAMS; i++) ad_param_unref(params[i]);
    ad_tape_free(t);
    return !learnt;
}
