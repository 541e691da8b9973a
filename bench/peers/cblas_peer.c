/* The cases of bench/gemm.c with OpenBLAS, called through cblas.
 *
 *     cblas_peer [--threads N] [--only TEXT] [check] */
#include <cblas.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void openblas_set_num_threads(int count);

enum { SAMPLES = 15, LEAST = 3, NAME = 96 };

typedef struct product {
    bool is_double;
    CBLAS_TRANSPOSE a_transposed, b_transposed;
    int m, n, k;
    void *a, *b, *c;
} product;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* sin(step i + 1) */
static void *sines(bool is_double, int count, double step) {
    void *made = malloc((is_double ? sizeof(double) : sizeof(float)) * (size_t)count);
    if (!made) exit(1);
    for (int i = 0; i < count; i++) {
        double value = sin(step * i + 1);
        if (is_double)
            ((double *)made)[i] = value;
        else
            ((float *)made)[i] = (float)value;
    }
    return made;
}

static void multiply(const product *p) {
    const int lda = p->a_transposed == CblasTrans ? p->m : p->k, ldb = p->b_transposed == CblasTrans ? p->k : p->n;
    if (p->is_double)
        cblas_dgemm(CblasRowMajor, p->a_transposed, p->b_transposed, p->m, p->n, p->k, 1, p->a, lda, p->b, ldb, 0,
                    p->c, p->n);
    else
        cblas_sgemm(CblasRowMajor, p->a_transposed, p->b_transposed, p->m, p->n, p->k, 1, p->a, lda, p->b, ldb, 0,
                    p->c, p->n);
}

static double seconds_of(const product *p, long repeat) {
    double start = now();
    for (long i = 0; i < repeat; i++) multiply(p);
    return now() - start;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median seconds of a product; the first, which warms up, does not count. */
static double measure(const product *p, double seconds) {
    double sample[SAMPLES];
    long repeat = 1;
    multiply(p);
    while (seconds_of(p, repeat) < seconds / SAMPLES / 2) repeat *= 2;
    int n = 0;
    for (double end = now() + seconds; n < SAMPLES && (n < LEAST || now() < end); n++)
        sample[n] = seconds_of(p, repeat) / (double)repeat;
    qsort(sample, (size_t)n, sizeof *sample, compare);
    return n % 2 ? sample[n / 2] : 0.5 * (sample[n / 2 - 1] + sample[n / 2]);
}

/* As bench_fingerprint in bench/bench.h. */
static double fingerprint(const product *p) {
    double sum = 0;
    for (int i = 0; i < p->m * p->n; i++) {
        double weighted = p->is_double ? ((double *)p->c)[i] : (double)((float *)p->c)[i];
        weighted *= 1 + (double)(i % 8) / 8;
        sum += 2 * fabs(weighted) + weighted;
    }
    return sum;
}

static const char *only = "";
static bool is_check;
static double seconds_per_case = 0.1;

static void run(bool is_double, const char *transposed, int m, int n, int k) {
    char name[NAME];
    int length = snprintf(name, sizeof name, "gemm %s %s ", is_double ? "f64" : "f32", transposed);
    if (m == n && n == k)
        snprintf(name + length, sizeof name - (size_t)length, "n=%d", n);
    else
        snprintf(name + length, sizeof name - (size_t)length, "%dx%dx%d", m, n, k);
    if (!strstr(name, only)) return;
    product p = {.is_double = is_double, .m = m, .n = n, .k = k};
    p.a_transposed = transposed[0] == 't' ? CblasTrans : CblasNoTrans;
    p.b_transposed = transposed[1] == 't' ? CblasTrans : CblasNoTrans;
    p.a = sines(is_double, m * k, 0.37);
    p.b = sines(is_double, k * n, 0.73);
    p.c = sines(is_double, m * n, 0);
    if (is_check) {
        multiply(&p);
        printf("%s\tproduct\t%.10g\n", name, fingerprint(&p));
    } else {
        printf("%s\tus\t%.6g\n", name, 1e6 * measure(&p, seconds_per_case));
    }
    fflush(stdout);
    free(p.a);
    free(p.b);
    free(p.c);
}

int main(int argc, char **argv) {
    const char *seconds = getenv("ADTAPE_BENCH_SECONDS");
    if (seconds) seconds_per_case = atof(seconds);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "check") == 0) is_check = true;
        if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) only = argv[++i];
        if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) openblas_set_num_threads(atoi(argv[++i]));
    }
    for (int is_double = 0; is_double < 2; is_double++) {
        for (int n = 8; n <= (is_double ? 1024 : 2048); n *= 2) run(is_double, "nn", n, n, n);
        run(is_double, "nt", 256, 256, 256);
        run(is_double, "tn", 256, 256, 256);
        run(is_double, "tt", 256, 256, 256);
    }
    run(false, "nn", 64, 256, 784);
    run(false, "nt", 64, 256, 784);
    run(false, "tn", 784, 256, 64);
    run(false, "nn", 64, 10, 256);
    run(false, "nt", 64, 10, 256);
    return 0;
}
