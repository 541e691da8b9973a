/* What the benchmark programs share: a clock, medians, and lines that bench/run.sh reads.
 *
 * A program measures each of its cases once per call (a median over many repetitions) and prints lines of three fields
 * with tabs between: case, unit, number. Called with the argument "check" it prints, for each case that has one, the
 * loss after a few steps instead, so that run.sh can see that adtape and its peers compute the same thing. */
#ifndef BENCH_H
#define BENCH_H

#include <adtape.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BENCH_SAMPLES = 15 };

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

static inline void bench_print(const char *name, const char *unit, double value) {
    printf("%s\t%s\t%.6g\n", name, unit, value);
    fflush(stdout);
}

/* Ends the program with a message if something went wrong: a benchmark of a failure would be a fast one. */
static inline void bench_need(ad_status status, const char *message) {
    if (status == AD_OK) return;
    fprintf(stderr, "%s: %s\n", ad_status_name(status), message);
    exit(1);
}

#endif
