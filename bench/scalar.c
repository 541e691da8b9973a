/* Scalars: what one f64 operation costs on the tape, forward and backward, and how much memory it takes. */
#include "bench.h"

/* x <- (x b) + c, n operations in all. */
static ad_var chain(ad_tape *tape, int n, ad_var *x) {
    *x = ad_scalar(tape, "x", 1.0);
    ad_var b = ad_scalar(tape, "b", 0.999), c = ad_scalar(tape, "c", 1e-3), y = *x;
    for (int i = 0; i < n; i += 2) y = ad_add(ad_mul(y, b), c);
    return y;
}

static void measure(ad_tape *tape, int n, const char *forward_name, const char *backward_name) {
    double forward[BENCH_SAMPLES], backward[BENCH_SAMPLES];
    int repeat = n < 100000 ? 100000 / n : 1;
    for (int s = -1; s < BENCH_SAMPLES; s++) { /* the first round warms up */
        double record = 0, back = 0;
        for (int r = 0; r < repeat; r++) {
            ad_var x;
            ad_tape_reset(tape);
            double start = bench_now();
            ad_var y = chain(tape, n, &x);
            double recorded = bench_now();
            ad_backward(y);
            back += bench_now() - recorded;
            record += recorded - start;
        }
        bench_need(ad_tape_status(tape), ad_tape_error(tape));
        if (s < 0) continue;
        forward[s] = 1e9 * record / n / repeat;
        backward[s] = 1e9 * back / n / repeat;
    }
    bench_print(forward_name, "ns/op", bench_median(forward, BENCH_SAMPLES));
    bench_print(backward_name, "ns/op", bench_median(backward, BENCH_SAMPLES));
}

int main(int argc, char **argv) {
    ad_tape *tape = ad_tape_new(NULL);
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    if (argc > 1 && strcmp(argv[1], "check") == 0) {
        ad_var x, y = chain(tape, 1000, &x);
        ad_backward(y);
        bench_print("scalar chain", "dy/dx", ad_gradient_item(x));
    } else {
        measure(tape, 10000, "scalar op, record (1e4)", "scalar op, back (1e4)");
        measure(tape, 1000000, "scalar op, record (1e6)", "scalar op, back (1e6)");
        bench_print("scalar op, memory", "bytes", (double)ad_tape_memory(tape) / (double)ad_tape_size(tape));
    }
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    ad_tape_free(tape);
    return 0;
}
