/* Scalars: what one f64 operation costs on the tape, forward and backward, and how much memory it takes, for chains of
 * 1e3 to 1e7 of them. */
#include "bench.h"

/* What an operation must at least write when it is recorded: its value, two inputs and which operation it was. On the way
 * back that is read again, with the gradient that comes in, and a gradient is written. */
enum { RECORD_BYTES = 8 + 2 * 4 + 4, BACK_BYTES = RECORD_BYTES + 2 * 8 };

typedef struct chain {
    ad_tape *tape;
    int64_t n;
    ad_var x;
} chain;

/* x <- (x b) + c, n operations in all. */
static ad_var record(chain *c) {
    ad_tape_reset(c->tape);
    c->x = ad_scalar(c->tape, "x", 1.0);
    ad_var factor = ad_scalar(c->tape, "b", 1 - 1e-6), term = ad_scalar(c->tape, "c", 1e-6), y = c->x;
    for (int64_t i = 0; i < c->n; i += 2) y = ad_add(ad_mul(y, factor), term);
    return y;
}

static void record_and_back(void *user, double *part) {
    double start = bench_now();
    ad_var y = record(user);
    double recorded = bench_now();
    ad_backward(y);
    part[0] += recorded - start;
    part[1] += bench_now() - recorded;
}

static void run(const bench *b, const char *size, int64_t n) {
    const char *const what[] = {"record", "back", "memory"};
    char name[3][BENCH_NAME];
    bool wanted = false;
    for (int i = 0; i < 3; i++) {
        snprintf(name[i], BENCH_NAME, "scalar f64 %s ops=%s", what[i], size);
        wanted = wanted || bench_wants(b, name[i]);
    }
    if (!wanted) return;
    chain c = {.tape = bench_tape(), .n = n};
    double seconds[BENCH_PARTS] = {0};
    if (b->check)
        record_and_back(&c, seconds);
    else
        bench_measure(b, record_and_back, &c, seconds);
    bench_need(ad_tape_status(c.tape), ad_tape_error(c.tape));
    if (b->check) {
        for (int i = 0; i < 2; i++)
            if (bench_wants(b, name[i])) bench_print(name[i], "dy/dx", ad_gradient_item(c.x));
        if (bench_wants(b, name[2])) bench_print(name[2], "nodes", (double)ad_tape_size(c.tape));
    } else {
        double ns = 1e9 / (double)n, memory = (double)ad_tape_memory(c.tape) / (double)ad_tape_size(c.tape);
        if (bench_wants(b, name[0])) bench_print_work(name[0], "ns/op", ns * seconds[0], 1, RECORD_BYTES);
        if (bench_wants(b, name[1])) bench_print_work(name[1], "ns/op", ns * seconds[1], 2, BACK_BYTES);
        if (bench_wants(b, name[2])) bench_print(name[2], "B/op", memory);
    }
    ad_tape_free(c.tape);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    if (b.threads > 1) return 0; /* nothing in a chain can be done at the same time */
    run(&b, "1e3", 1000);
    run(&b, "1e4", 10000);
    run(&b, "1e5", 100000);
    run(&b, "1e6", 1000000);
    run(&b, "1e7", 10000000);
    return 0;
}
