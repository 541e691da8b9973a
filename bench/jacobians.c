/* Whole matrices of derivatives of a perceptron of two hidden layers, by its input: Jacobians with as many rows as columns
 * and with more, and a Hessian. */
#include "bench.h"

enum { INPUTS = 100, HIDDEN = 256, LAYERS = 3, ARRAYS = 1 + 2 * LAYERS };

typedef struct subject {
    ad_tensor *in[ARRAYS], *out; /* x, then weights and bias of each layer */
    ad_function f;
} subject;

/* x, weights and biases -> the last layer. */
static ad_status layers(ad_tape *tape, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var h = in[0];
    for (int k = 0; k < LAYERS; k++) {
        h = ad_linear(h, in[1 + 2 * k], in[2 + 2 * k]);
        if (k + 1 < LAYERS) h = ad_tanh(h);
    }
    out[0] = h;
    return ad_tape_status(tape);
}

static ad_status energy(ad_tape *tape, const ad_var *in, ad_var *out, void *user) {
    ad_status status = layers(tape, in, out, user);
    out[0] = ad_mean(ad_square(out[0]), AD_ALL_AXES, false);
    return status ? status : ad_tape_status(tape);
}

static void evaluate(void *user, double *part) {
    subject *s = user;
    ad_error error = {AD_OK, ""};
    ad_tensor_unref(s->out);
    s->out = NULL;
    double start = bench_now();
    bench_need(ad_function_evaluate(&s->f, NULL, s->in, &s->out, &error), error.message);
    part[0] += bench_now() - start;
}

/* `products`: with each of the weights, for each row or column of the matrix. */
static void run(const bench *b, const char *name, ad_function (*derivative)(const ad_function *),
                ad_status (*fn)(ad_tape *, const ad_var *, ad_var *, void *), int64_t outputs, double products) {
    if (!bench_wants(b, name)) return;
    const int64_t size[LAYERS + 1] = {INPUTS, HIDDEN, HIDDEN, outputs};
    const ad_function f = {.fn = fn, .inputs = ARRAYS, .constants = ARRAYS - 1, .outputs = 1};
    subject s = {.f = derivative(&f)};
    double flops = 0;
    s.in[0] = bench_waves(AD_F32, AD_SHAPE(INPUTS), 1, 0.37, 0);
    for (int k = 0; k < LAYERS; k++) {
        s.in[1 + 2 * k] = bench_waves(AD_F32, AD_SHAPE(size[k + 1], size[k]), sqrt(2 / (double)size[k]), 1.7, 1);
        s.in[2 + 2 * k] = bench_waves(AD_F32, AD_SHAPE(size[k + 1]), 0, 0, 0);
        flops += 2 * products * (double)(size[k] * size[k + 1]);
    }
    if (b->check) {
        evaluate(&s, (double[]){0});
        bench_print(name, "matrix", bench_fingerprint(ad_tensor_view(s.out)));
    } else {
        double seconds[BENCH_PARTS];
        bench_measure(b, evaluate, &s, seconds);
        bench_print_work(name, "us", 1e6 * seconds[0], flops, 0);
    }
    for (int i = 0; i < ARRAYS; i++) ad_tensor_unref(s.in[i]);
    ad_tensor_unref(s.out);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    run(&b, "jacobian f32 100x100", ad_jacobian_of, layers, 100, 100);
    run(&b, "jacobian f32 400x100", ad_jacobian_of, layers, 400, 100);
    run(&b, "hessian f32 100x100", ad_hessian_of, energy, 100, 2 * 100);
    return 0;
}
