/* Training steps: forward, backward and update of small perceptrons in f32.
 *
 *   mlp 2-16-16-1    relu, mean squared error, SGD
 *   digits step      64-128-10 with a residual layer of 128, softmax cross-entropy, AdamW, batch 64
 *
 * Weights and data come from sines, so that a peer in any language starts at the same place. */
#include "bench.h"

#include <math.h>

enum { MOST_PARAMS = 8 };

typedef struct model {
    int params;
    ad_param *param[MOST_PARAMS];
    ad_optim *optim;
    int batch, inputs;
    float *x, *y;
    int64_t *label;
    ad_var (*loss)(const struct model *, ad_tape *);
} model;

static void add_param(model *m, ad_shape shape) {
    ad_error error = {AD_OK, ""};
    ad_param *param;
    bench_need(ad_param_new(&param, NULL, NULL, AD_F32, shape, NULL, &error), error.message);
    const ad_view *value = ad_param_edit(param);
    double scale = shape.rank == 2 ? sqrt(2.0 / (double)shape.dim[0]) : 0.0;
    for (int64_t i = 0, n = ad_view_count(value); i < n; i++)
        ((float *)value->data)[i] = (float)(scale * sin(1.7 * (double)i + 1.0));
    m->param[m->params++] = param;
}

static void add_dense(model *m, int64_t from, int64_t to) {
    add_param(m, AD_SHAPE(from, to));
    add_param(m, AD_SHAPE(to));
}

static ad_var dense(const model *m, int layer, ad_var x) {
    ad_tape *tape = x.tape;
    return ad_add(ad_matmul(x, ad_use(tape, m->param[2 * layer])), ad_use(tape, m->param[2 * layer + 1]));
}

static ad_var regression_loss(const model *m, ad_tape *tape) {
    ad_var x = ad_constant(tape, NULL, AD_F32, AD_SHAPE(m->batch, m->inputs), m->x);
    ad_var y = ad_constant(tape, NULL, AD_F32, AD_SHAPE(m->batch, 1), m->y);
    ad_var error = ad_sub(dense(m, 2, ad_relu(dense(m, 1, ad_relu(dense(m, 0, x))))), y);
    return ad_mean(ad_mul(error, error), AD_ALL_AXES, false);
}

static ad_var digits_loss(const model *m, ad_tape *tape) {
    ad_var x = ad_constant(tape, NULL, AD_F32, AD_SHAPE(m->batch, m->inputs), m->x);
    ad_var label = ad_constant(tape, NULL, AD_I64, AD_SHAPE(m->batch), m->label);
    ad_var h = ad_relu(dense(m, 0, x));
    h = ad_add(h, ad_relu(dense(m, 1, h)));
    return ad_mean(ad_softmax_xent(dense(m, 2, h), label), AD_ALL_AXES, false);
}

static void make_data(model *m, int batch, int inputs) {
    m->batch = batch;
    m->inputs = inputs;
    m->x = malloc(sizeof(float) * (size_t)(batch * inputs));
    m->y = malloc(sizeof(float) * (size_t)batch);
    m->label = malloc(sizeof(int64_t) * (size_t)batch);
    bench_need(m->x && m->y && m->label ? AD_OK : AD_ERR_OOM, "no memory for the data");
    for (int i = 0; i < batch * inputs; i++) m->x[i] = (float)sin(0.37 * i);
    for (int i = 0; i < batch; i++) {
        m->y[i] = (float)cos(0.11 * i);
        m->label[i] = i % 10;
    }
}

static void open_regression(model *m, int batch) {
    *m = (model){.loss = regression_loss};
    make_data(m, batch, 2);
    add_dense(m, 2, 16);
    add_dense(m, 16, 16);
    add_dense(m, 16, 1);
    ad_sgd_options options = ad_sgd_defaults();
    options.rate = 1e-3;
    ad_error error = {AD_OK, ""};
    bench_need(ad_sgd_new(&m->optim, NULL, m->params, m->param, &options, &error), error.message);
}

static void open_digits(model *m) {
    *m = (model){.loss = digits_loss};
    make_data(m, 64, 64);
    add_dense(m, 64, 128);
    add_dense(m, 128, 128);
    add_dense(m, 128, 10);
    ad_adam_options options = ad_adamw_defaults();
    ad_error error = {AD_OK, ""};
    bench_need(ad_adamw_new(&m->optim, NULL, m->params, m->param, &options, &error), error.message);
}

static void close_model(model *m) {
    ad_optim_free(m->optim);
    for (int i = 0; i < m->params; i++) ad_param_unref(m->param[i]);
    free(m->x);
    free(m->y);
    free(m->label);
}

static double step(const model *m, ad_tape *tape) {
    ad_error error = {AD_OK, ""};
    ad_tape_reset(tape);
    ad_var loss = m->loss(m, tape);
    ad_backward(loss);
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    bench_need(ad_optim_step(m->optim, &error), error.message);
    return ad_item(loss);
}

static void run(model *m, ad_tape *tape, const char *name, int steps, bool check) {
    if (check) {
        for (int i = 0; i < 5; i++) step(m, tape);
        bench_print(name, "loss", step(m, tape));
    } else {
        double sample[BENCH_SAMPLES];
        for (int s = -1; s < BENCH_SAMPLES; s++) {
            double start = bench_now();
            for (int i = 0; i < steps; i++) step(m, tape);
            if (s >= 0) sample[s] = 1e6 * (bench_now() - start) / steps;
        }
        bench_print(name, "us", bench_median(sample, BENCH_SAMPLES));
    }
    close_model(m);
}

int main(int argc, char **argv) {
    bool check = argc > 1 && strcmp(argv[1], "check") == 0;
    ad_tape *tape = ad_tape_new(NULL);
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    model m;
    open_regression(&m, 1);
    run(&m, tape, "mlp 2-16-16-1 step, batch 1", 500, check);
    open_regression(&m, 32);
    run(&m, tape, "mlp 2-16-16-1 step, batch 32", 500, check);
    open_digits(&m);
    run(&m, tape, "digits step, batch 64", 50, check);
    ad_tape_free(tape);
    return 0;
}
