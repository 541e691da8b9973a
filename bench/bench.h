/* What the benchmark programs share: their command line, a clock, medians, and the lines that bench/run.py reads.
 *
 *     PROGRAM [--threads N] [--only TEXT] [check]
 *
 * measures each of its cases whose name has TEXT in it, and prints for each a line with tabs between:
 *
 *     case  unit  number  [flops  bytes]
 *
 * The number is a median; flops and bytes are what one unit of the work needs at least, for the floor: the bytes that must
 * be read and those that must be written, once each. With `check` it computes the same once and prints
 *
 *     case  what  number
 *
 * instead, a sum over gradients or the loss after a few steps, so that run.py can see that adtape and its peers compute
 * the same thing. Names of cases follow a few rules, which docs/performance.md explains:
 *
 *     ... f64 ...          computed in double, for the floor; anything else in float
 *     ... KEY=NUMBER ...   a point of a series: 16, 1e5, 64Ki, 16Mi; with ops=NUMBER, so many units were measured at once
 *     NAME: value          the function alone; its derivatives are NAME: gradient and NAME: hvp, and include the value */
#ifndef BENCH_H
#define BENCH_H

#include <adtape.h>

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BENCH_SAMPLES = 15, BENCH_LEAST = 3, BENCH_PARTS = 2, BENCH_NAME = 96 };

/* ---- the command line ------------------------------------------------------------------------------------------- */

typedef struct bench {
    int threads;
    const char *only;
    bool check;
    double seconds; /* that a case may take, if it can: $ADTAPE_BENCH_SECONDS */
} bench;

static inline void bench_fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Ends the program with a message if something went wrong: a benchmark of a failure would be a fast one. */
static inline void bench_need(ad_status status, const char *message) {
    if (status != AD_OK) bench_fail(ad_status_name(status), message);
}

static inline bench bench_start(int argc, char **argv) {
    const char *seconds = getenv("ADTAPE_BENCH_SECONDS");
    bench b = {.threads = 1, .only = "", .seconds = seconds ? atof(seconds) : 0.1};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "check") == 0)
            b.check = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            b.only = argv[++i];
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            b.threads = atoi(argv[++i]);
        else
            bench_fail(argv[i], "usage: [--threads N] [--only TEXT] [check]");
    }
    if (b.threads < 1) bench_fail("--threads", "wants a number above 0");
    bench_need(ad_set_threads(b.threads), "--threads");
    return b;
}

static inline bool bench_wants(const bench *b, const char *name) { return strstr(name, b->only) != NULL; }

static inline ad_tape *bench_tape(void) {
    ad_tape *tape = ad_tape_new(NULL);
    bench_need(ad_tape_status(tape), ad_tape_error(tape));
    return tape;
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

static inline double bench_now(void) { /* seconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline int bench_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static inline double bench_median(double *samples, int n) {
    qsort(samples, (size_t)n, sizeof *samples, bench_compare);
    return n % 2 ? samples[n / 2] : 0.5 * (samples[n / 2 - 1] + samples[n / 2]);
}

/* One repetition of a case. It adds the seconds that each of its parts took to part[0], part[1]. */
typedef void bench_call(void *user, double *part);

/* The median seconds of each part. The first call, which warms caches and pools, does not count; short ones are put
 * together until a sample is long enough to be measured. */
static inline void bench_measure(const bench *b, bench_call *call, void *user, double *median) {
    double sample[BENCH_PARTS][BENCH_SAMPLES], part[BENCH_PARTS] = {0};
    call(user, part);
    int64_t repeat = 1;
    for (double start = bench_now(); repeat < INT64_C(1) << 40; repeat *= 2, start = bench_now()) {
        for (int64_t i = 0; i < repeat; i++) call(user, part);
        if (bench_now() - start > b->seconds / BENCH_SAMPLES / 2) break;
    }
    int n = 0;
    for (double end = bench_now() + b->seconds; n < BENCH_SAMPLES && (n < BENCH_LEAST || bench_now() < end); n++) {
        memset(part, 0, sizeof part);
        for (int64_t i = 0; i < repeat; i++) call(user, part);
        for (int k = 0; k < BENCH_PARTS; k++) sample[k][n] = part[k] / (double)repeat;
    }
    for (int k = 0; k < BENCH_PARTS; k++) median[k] = bench_median(sample[k], n);
}

/* ---- data --------------------------------------------------------------------------------------------------------- */

/* size sin(step i + start), which a peer in any language makes too. */
static inline void bench_fill_waves(const ad_view *to, double size, double step, double start) {
    for (int64_t i = 0, n = ad_view_count(to); i < n; i++) {
        double value = size * sin(step * (double)i + start);
        if (to->dtype == AD_F32)
            ((float *)to->data)[i] = (float)value;
        else
            ((double *)to->data)[i] = value;
    }
}

static inline void bench_fill_sines(const ad_view *to, double step) { bench_fill_waves(to, 1, step, 1); }

static inline ad_tensor *bench_waves(ad_dtype dtype, ad_shape shape, double size, double step, double start) {
    ad_error error = {AD_OK, ""};
    ad_tensor *made;
    bench_need(ad_tensor_new(&made, NULL, dtype, shape, NULL, &error), error.message);
    bench_fill_waves(ad_tensor_view(made), size, step, start);
    return made;
}

static inline ad_tensor *bench_sines(ad_dtype dtype, ad_shape shape, double step) {
    return bench_waves(dtype, shape, 1, step, 1);
}

/* ---- printing --------------------------------------------------------------------------------------------------- */

static inline void bench_print(const char *name, const char *unit, double value) {
    printf("%s\t%s\t%.10g\n", name, unit, value);
    fflush(stdout);
}

static inline void bench_print_work(const char *name, const char *unit, double value, double flops, double bytes) {
    printf("%s\t%s\t%.6g\t%.6g\t%.6g\n", name, unit, value, flops, bytes);
    fflush(stdout);
}

/* A number that two programs have in common if and (but for bad luck) only if they have the same gradient, whatever the
 * rounding: nothing cancels, and signs and places count. */
static inline double bench_fingerprint(const ad_view *gradient) {
    double sum = 0;
    for (int64_t i = 0, n = ad_view_count(gradient); i < n; i++) {
        double weighted = ad_view_get(gradient, i) * (1 + (double)(i % 8) / 8);
        sum += 2 * fabs(weighted) + weighted;
    }
    return sum;
}

#endif
