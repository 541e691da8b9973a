/* What the benchmarks of training steps share: a model is its parameters, its data and the function that records its loss.
 * Weights and data come from sines, so that a peer in any language starts at the same place. */
#ifndef TRAINING_H
#define TRAINING_H

#include "bench.h"

#include <math.h>

enum { MOST_PARAMS = 64, MOST_ARRAYS = 4 };

typedef struct model {
    int params;
    ad_param *param[MOST_PARAMS];
    ad_var used[MOST_PARAMS];      /* the parameters on the tape of this recording */
    ad_tensor *along[MOST_PARAMS]; /* a direction, for products with the Hessian; make_direction makes it */
    ad_optim *optim;
    int arrays;
    ad_tensor *array[MOST_ARRAYS]; /* data */
    ad_var (*loss)(const struct model *, ad_tape *);
    int64_t batch;
    ad_tape *tape;
} model;

/* size * sin(1.7 i + 1) */
static inline void add_param(model *m, ad_shape shape, double size) {
    ad_error error = {AD_OK, ""};
    ad_param *param;
    bench_need(ad_param_new(&param, NULL, NULL, AD_F32, shape, NULL, &error), error.message);
    bench_fill_waves(ad_param_edit(param), size, 1.7, 1);
    m->param[m->params++] = param;
}

/* sin(0.37 i) */
static inline void add_numbers(model *m, ad_shape shape) {
    m->array[m->arrays++] = bench_waves(AD_F32, shape, 1, 0.37, 0);
}

/* (factor i) mod bound */
static inline void add_indices(model *m, ad_shape shape, int64_t factor, int64_t bound) {
    ad_error error = {AD_OK, ""};
    bench_need(ad_tensor_new(&m->array[m->arrays], NULL, AD_I64, shape, NULL, &error), error.message);
    const ad_view *value = ad_tensor_view(m->array[m->arrays++]);
    for (int64_t i = 0, n = ad_view_count(value); i < n; i++) ((int64_t *)value->data)[i] = i * factor % bound;
}

static inline ad_var param_of(const model *m, int i) { return m->used[i]; }
static inline ad_var array_of(const model *m, ad_tape *tape, int i) {
    return ad_constant_tensor(tape, NULL, m->array[i]);
}

static inline void use_sgd(model *m, double rate) {
    ad_sgd_options options = ad_sgd_defaults();
    ad_error error = {AD_OK, ""};
    options.rate = rate;
    bench_need(ad_sgd_new(&m->optim, NULL, m->params, m->param, &options, &error), error.message);
}
static inline void use_adamw(model *m) {
    ad_adam_options options = ad_adamw_defaults();
    ad_error error = {AD_OK, ""};
    bench_need(ad_adamw_new(&m->optim, NULL, m->params, m->param, &options, &error), error.message);
}

static inline void close_model(model *m) {
    ad_optim_free(m->optim);
    for (int i = 0; i < m->params; i++) ad_param_unref(m->param[i]);
    for (int i = 0; i < m->params; i++) ad_tensor_unref(m->along[i]);
    for (int i = 0; i < m->arrays; i++) ad_tensor_unref(m->array[i]);
}

/* ---- what is measured ----------------------------------------------------------------------------------------------- */

static inline ad_var record_loss(model *m) {
    ad_tape_reset(m->tape);
    for (int i = 0; i < m->params; i++) m->used[i] = ad_use(m->tape, m->param[i]);
    return m->loss(m, m->tape);
}

static inline double step(model *m) {
    ad_error error = {AD_OK, ""};
    ad_var loss = record_loss(m);
    ad_backward(loss);
    bench_need(ad_tape_status(m->tape), ad_tape_error(m->tape));
    bench_need(ad_optim_step(m->optim, &error), error.message);
    return ad_item(loss);
}

static inline void run_step(void *user, double *part) {
    double start = bench_now();
    step(user);
    part[0] += bench_now() - start;
}

static inline void run_value(void *user, double *part) {
    double start = bench_now();
    record_loss(user);
    part[0] += bench_now() - start;
}

static inline void run_gradient(void *user, double *part) {
    double start = bench_now();
    ad_backward(record_loss(user));
    part[0] += bench_now() - start;
}

static inline void make_direction(model *m) {
    for (int i = 0; i < m->params; i++) {
        ad_error error = {AD_OK, ""};
        const ad_view *value = ad_param_value(m->param[i]);
        bench_need(ad_tensor_new(&m->along[i], NULL, value->dtype, value->shape, value->data, &error), error.message);
    }
}

/* The gradient of the derivative along the direction: reverse mode over forward mode, as ad_hvp_of does on numbers. */
static inline void run_hvp(void *user, double *part) {
    model *m = user;
    ad_var along[MOST_PARAMS], slope;
    double start = bench_now();
    ad_var loss = record_loss(m);
    for (int i = 0; i < m->params; i++) along[i] = ad_constant_tensor(m->tape, NULL, m->along[i]);
    ad_pushforward(m->params, m->used, along, 1, &loss, &slope);
    ad_backward(slope);
    part[0] += bench_now() - start;
}

/* ---- what is checked -------------------------------------------------------------------------------------------- */

static inline double gradient_fingerprint(const model *m) {
    double sum = 0;
    for (int i = 0; i < m->params; i++) sum += bench_fingerprint(ad_param_gradient(m->param[i]));
    return sum;
}

/* The gradients at the start, and the loss after one step. */
static inline void check_step(const char *name, model *m) {
    step(m);
    bench_print(name, "gradient", gradient_fingerprint(m));
    bench_print(name, "loss", step(m));
}

static inline void check_value(const char *name, model *m) { bench_print(name, "value", ad_item(record_loss(m))); }

static inline void check_gradient(const char *name, model *m) {
    ad_backward(record_loss(m));
    bench_print(name, "gradient", gradient_fingerprint(m));
}

static inline void check_hvp(const char *name, model *m) {
    run_hvp(m, (double[]){0});
    bench_print(name, "product", gradient_fingerprint(m));
}

/* ---- the run ---------------------------------------------------------------------------------------------------- */

typedef struct model_part {
    const char *suffix; /* of the case's name */
    bench_call *call;
    void (*check)(const char *name, model *);
} model_part;

static const model_part part_step = {"", run_step, check_step}, part_value = {": value", run_value, check_value},
                        part_gradient = {": gradient", run_gradient, check_gradient},
                        part_hvp = {": hvp", run_hvp, check_hvp};

static inline bool wants_model(const bench *b, const char *series) {
    const model_part *const parts[] = {&part_step, &part_value, &part_gradient, &part_hvp};
    char name[BENCH_NAME];
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        snprintf(name, sizeof name, "%s%s", series, parts[i]->suffix);
        if (bench_wants(b, name)) return true;
    }
    return false;
}

/* Measures or checks one part of what a model does, if it is wanted. Without flops and bytes it has no floor. */
static inline void run_part(const bench *b, const model_part *part, const char *series, model *m, double flops,
                            double bytes) {
    char name[BENCH_NAME];
    double seconds[BENCH_PARTS];
    snprintf(name, sizeof name, "%s%s", series, part->suffix);
    if (!bench_wants(b, name)) return;
    if (b->check) {
        part->check(name, m);
    } else {
        bench_measure(b, part->call, m, seconds);
        bench_print_work(name, "us", 1e6 * seconds[0], flops, bytes);
    }
    bench_need(ad_tape_status(m->tape), ad_tape_error(m->tape));
}

#endif
