/* Time against size: attention by the length of the sequence, a perceptron by its width and by the batch. */
#include "training.h"

enum { ATTENTION_HEADS = 4, ATTENTION_FEATURES = 64, MLP_LAYERS = 3 };

/* Runs value and gradient of a model whose cases are called "SERIES: value" and "SERIES: gradient". */
static void run(const bench *b, const char *series, void (*open)(model *, int64_t, int64_t), int64_t size,
                int64_t batch, double value_flops, double gradient_flops, double bytes) {
    if (!wants_model(b, series)) return;
    model m = {.tape = bench_tape()};
    open(&m, size, batch);
    run_part(b, &part_value, series, &m, value_flops, 0.5 * bytes);
    run_part(b, &part_gradient, series, &m, gradient_flops, bytes);
    close_model(&m);
    ad_tape_free(m.tape);
}

/* ---- attention: queries, keys and values [1,heads,T,features], causal ----------------------------------------------------- */

static ad_var attention_loss(const model *m, ad_tape *tape) {
    (void)tape;
    double scale = 1 / sqrt((double)ATTENTION_FEATURES);
    ad_var seen = ad_attention(param_of(m, 0), param_of(m, 1), param_of(m, 2), AD_NONE, scale, AD_CAUSAL);
    return ad_mean(ad_square(seen), AD_ALL_AXES, false);
}

static void open_attention(model *m, int64_t time, int64_t batch) {
    m->loss = attention_loss;
    for (int i = 0; i < 3; i++) {
        add_param(m, AD_SHAPE(batch, ATTENTION_HEADS, time, ATTENTION_FEATURES), 1);
        bench_fill_sines(ad_param_edit(m->param[i]), 0.37 + 0.1 * i);
    }
}

/* Half of each of the two products forward and the four back: later keys are not seen. */
static void run_attention(const bench *b, int64_t time) {
    char series[BENCH_NAME];
    snprintf(series, sizeof series, "attention f32 T=%lld", (long long)time);
    double product = (double)(ATTENTION_HEADS * time * time * ATTENTION_FEATURES);
    double bytes = 4.0 * 8 * (double)(ATTENTION_HEADS * time * ATTENTION_FEATURES);
    run(b, series, open_attention, time, 1, 2 * product, 6 * product, bytes);
}

/* ---- a perceptron of equal layers ------------------------------------------------------------------------------------------ */

static ad_var mlp_loss(const model *m, ad_tape *tape) {
    (void)tape;
    ad_var h = array_of(m, m->tape, 0);
    for (int k = 0; k < MLP_LAYERS; k++) h = ad_relu(ad_linear(h, param_of(m, 2 * k), param_of(m, 2 * k + 1)));
    return ad_mean(ad_square(h), AD_ALL_AXES, false);
}

static void open_mlp(model *m, int64_t width, int64_t batch) {
    m->loss = mlp_loss;
    add_numbers(m, AD_SHAPE(batch, width));
    for (int k = 0; k < MLP_LAYERS; k++) {
        add_param(m, AD_SHAPE(width, width), sqrt(2.0 / (double)width));
        add_param(m, AD_SHAPE(width), 0);
    }
}

static void run_mlp(const bench *b, const char *key, int64_t width, int64_t batch) {
    char series[BENCH_NAME];
    snprintf(series, sizeof series, "mlp f32 %s=%lld", key, (long long)(*key == 'w' ? width : batch));
    double layer = 2.0 * (double)batch * (double)width * (double)width;
    /* Weights are read, their gradients written; the first layer passes no gradient on. */
    double bytes = 4.0 * 2 * MLP_LAYERS * (double)(width * width);
    run(b, series, open_mlp, width, batch, MLP_LAYERS * layer, (3 * MLP_LAYERS - 1) * layer, bytes);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    for (int64_t time = 64; time <= 2048; time *= 2) run_attention(&b, time);
    for (int64_t width = 16; width <= 1024; width *= 2) run_mlp(&b, "width", width, 64);
    for (int64_t batch = 1; batch <= 1024; batch *= 4) run_mlp(&b, "batch", 256, batch);
    return 0;
}
