/* What the benchmarks of training steps share: a model is its parameters, its data and the function that records its loss.
 * Weights and data come from sines, so that a peer in any language starts at the same place. */
#ifndef TRAINING_H
#define TRAINING_H

#include "bench.h"

#include <math.h>

enum { MOST_PARAMS = 64, MOST_ARRAYS = 4, CHECKED_STEPS = 5 };

typedef struct model {
    int params;
    ad_param *param[MOST_PARAMS];
    ad_optim *optim;
    int arrays;
    ad_tensor *array[MOST_ARRAYS]; /* data */
    ad_var (*loss)(const struct model *, ad_tape *);
    int64_t batch;
} model;

/* size * sin(1.7 i + 1) */
static inline void add_param(model *m, ad_shape shape, double size) {
    ad_error error = {AD_OK, ""};
    ad_param *param;
    bench_need(ad_param_new(&param, NULL, NULL, AD_F32, shape, NULL, &error), error.message);
    const ad_view *value = ad_param_edit(param);
    for (int64_t i = 0, n = ad_view_count(value); i < n; i++)
        ((float *)value->data)[i] = (float)(size * sin(1.7 * (double)i + 1.0));
    m->param[m->params++] = param;
}

/* sin(0.37 i) */
static inline void add_numbers(model *m, ad_shape shape) {
    ad_error error = {AD_OK, ""};
    bench_need(ad_tensor_new(&m->array[m->arrays], NULL, AD_F32, shape, NULL, &error), error.message);
    const ad_view *value = ad_tensor_view(m->array[m->arrays++]);
    for (int64_t i = 0, n = ad_view_count(value); i < n; i++)
        ((float *)value->data)[i] = (float)sin(0.37 * (double)i);
}

/* (factor i) mod bound */
static inline void add_indices(model *m, ad_shape shape, int64_t factor, int64_t bound) {
    ad_error error = {AD_OK, ""};
    bench_need(ad_tensor_new(&m->array[m->arrays], NULL, AD_I64, shape, NULL, &error), error.message);
    const ad_view *value = ad_tensor_view(m->array[m->arrays++]);
    for (int64_t i = 0, n = ad_view_count(value); i < n; i++) ((int64_t *)value->data)[i] = i * factor % bound;
}

static inline ad_var param_of(const model *m, ad_tape *tape, int i) { return ad_use(tape, m->param[i]); }
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
    for (int i = 0; i < m->arrays; i++) ad_tensor_unref(m->array[i]);
}

static inline double step(const model *m, ad_tape *tape) {
    ad_error error = {AD_OK, ""};
    ad_tape_reset(tape);
    ad_var loss = m->loss(m, tape);
    ad_backward(loss);
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    bench_need(ad_optim_step(m->optim, &error), error.message);
    return ad_item(loss);
}

#endif
