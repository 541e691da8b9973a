/* model.h: what the examples with a network have in common: parameters that begin at random, the check of the whole
 * network's gradient, and training with Adam. The network itself is a function of its parameters: its loss on a batch. */
#ifndef EXAMPLES_MODEL_H
#define EXAMPLES_MODEL_H

#include <adtape.h>

#include <math.h>
#include <stdio.h>

enum { MOST_PARAMS = 24 };

/* The size of its random numbers; 0: it begins with zeros, and 1 with a size below 0. */
typedef struct weight {
    const char *name;
    ad_shape shape;
    double size;
} weight;

typedef struct model {
    int n;
    ad_param *param[MOST_PARAMS];
    ad_tape *tape;
    ad_optim *optim;
    ad_rng rng;
    ad_error error;
} model;

static double first_value(double size, ad_rng *rng) { return size < 0 ? 1 : size * ad_rng_normal(rng); }

static bool model_new(model *m, int n, const weight *weights, double rate) {
    ad_adam_options options = ad_adam_defaults();
    options.rate = rate;
    *m = (model){.rng = {.seed = 1}, .tape = ad_tape_new(NULL)};
    for (; m->n < n; m->n++) {
        ad_param **param = &m->param[m->n];
        if (ad_param_new(param, NULL, weights[m->n].name, AD_F64, weights[m->n].shape, NULL, &m->error)) return false;
        const ad_view *value = ad_param_edit(*param);
        for (int64_t i = 0; i < ad_view_count(value); i++)
            ((double *)value->data)[i] = first_value(weights[m->n].size, &m->rng);
    }
    return m->tape && ad_adam_new(&m->optim, NULL, n, m->param, &options, &m->error) == AD_OK;
}

static void model_free(model *m) {
    ad_optim_free(m->optim);
    for (int i = 0; i < m->n; i++) ad_param_unref(m->param[i]);
    ad_tape_free(m->tape);
}

/* Against differences and all the other laws, at the parameters as they are. */
static bool model_is_right(const model *m, const char *name, ad_check_function loss, void *batch) {
    ad_tensor *x[MOST_PARAMS] = {NULL};
    ad_check_report report;
    for (int i = 0; i < m->n; i++) {
        const ad_view *value = ad_param_value(m->param[i]);
        (void)!ad_tensor_new(&x[i], NULL, AD_F64, value->shape, value->data, NULL);
    }
    bool right = ad_gradcheck(name, loss, batch, m->n, x, NULL, &report) == AD_OK;
    (void)!ad_check_print(&report, stdout);
    for (int i = 0; i < m->n; i++) ad_tensor_unref(x[i]);
    return right;
}

/* Puts the parameters on an empty tape. */
static void model_use(model *m, ad_var *w) {
    ad_tape_reset(m->tape);
    for (int i = 0; i < m->n; i++) w[i] = ad_use(m->tape, m->param[i]);
}

/* Each step on a new batch. The last loss; NaN if something failed. */
static double model_train(model *m, ad_check_function loss, void (*next)(void *batch, ad_rng *rng), void *batch,
                          int steps) {
    double now = NAN;
    for (int step = 1; step <= steps; step++) {
        ad_var w[MOST_PARAMS];
        next(batch, &m->rng);
        model_use(m, w);
        ad_var e = loss(m->tape, w, m->n, batch);
        now = ad_item(e);
        if (step == 1 || step % (steps / 5) == 0) printf("  step %4d: loss %.4f\n", step, now);
        if (ad_backward(e) || ad_optim_step(m->optim, &m->error)) return NAN;
    }
    return now;
}

/* 0 if all is well, else it says what is not. */
static int model_verdict(const model *m, const char *program, bool right, bool good) {
    if (!right) fprintf(stderr, "%s: the gradient is wrong\n", program);
    if (!good)
        fprintf(stderr, "%s: it does not learn. %s%s\n", program, m->error.message,
                m->tape ? ad_tape_error(m->tape) : "there is no memory");
    return !(right && good);
}

#endif
