/* Matrix products C = A B through ad_matmul, as a user gets at them: square ones, and those of a perceptron's training step.
 * Small ones run many to a tape, so that what a tape costs does not count. */
#include "bench.h"

typedef struct product {
    ad_dtype dtype;
    const char *transposed; /* "nt": B is stored transposed */
    int64_t m, n, k;
} product;

static const product products[] = {
    {AD_F32, "nn", 8, 8, 8},          {AD_F32, "nn", 16, 16, 16},       {AD_F32, "nn", 32, 32, 32},
    {AD_F32, "nn", 64, 64, 64},       {AD_F32, "nn", 128, 128, 128},    {AD_F32, "nn", 256, 256, 256},
    {AD_F32, "nn", 512, 512, 512},    {AD_F32, "nn", 1024, 1024, 1024}, {AD_F32, "nn", 2048, 2048, 2048},
    {AD_F32, "nt", 256, 256, 256},    {AD_F32, "tn", 256, 256, 256},    {AD_F32, "tt", 256, 256, 256},
    {AD_F32, "nn", 64, 256, 784},     {AD_F32, "nt", 64, 256, 784},     {AD_F32, "tn", 784, 256, 64},
    {AD_F32, "nn", 64, 10, 256},      {AD_F32, "nt", 64, 10, 256},      {AD_F64, "nn", 8, 8, 8},
    {AD_F64, "nn", 16, 16, 16},       {AD_F64, "nn", 32, 32, 32},       {AD_F64, "nn", 64, 64, 64},
    {AD_F64, "nn", 128, 128, 128},    {AD_F64, "nn", 256, 256, 256},    {AD_F64, "nn", 512, 512, 512},
    {AD_F64, "nn", 1024, 1024, 1024}, {AD_F64, "nt", 256, 256, 256},    {AD_F64, "tn", 256, 256, 256},
    {AD_F64, "tt", 256, 256, 256},
};

/* "gemm f32 nn n=256", or "gemm f32 nn 64x256x784" for m x n x k. */
static void name_of(const product *p, char name[BENCH_NAME]) {
    int n = snprintf(name, BENCH_NAME, "gemm %s %s ", ad_dtype_name(p->dtype), p->transposed);
    if (p->m == p->n && p->n == p->k)
        snprintf(name + n, (size_t)(BENCH_NAME - n), "n=%lld", (long long)p->n);
    else
        snprintf(name + n, (size_t)(BENCH_NAME - n), "%lldx%lldx%lld", (long long)p->m, (long long)p->n,
                 (long long)p->k);
}

typedef struct operands {
    ad_tape *tape;
    ad_tensor *a, *b;
    bool a_transposed, b_transposed;
    int count; /* of products in one recording */
    ad_var c;
} operands;

static void multiply(void *user, double *part) {
    operands *o = user;
    double start = bench_now();
    ad_tape_reset(o->tape);
    ad_var a = ad_constant_tensor(o->tape, NULL, o->a), b = ad_constant_tensor(o->tape, NULL, o->b);
    if (o->a_transposed) a = ad_transpose(a);
    if (o->b_transposed) b = ad_transpose(b);
    for (int i = 0; i < o->count; i++) o->c = ad_matmul(a, b);
    part[0] += bench_now() - start;
}

static void run(const bench *b, const product *p) {
    char name[BENCH_NAME];
    name_of(p, name);
    if (!bench_wants(b, name)) return;
    operands o = {.tape = bench_tape(),
                  .a_transposed = p->transposed[0] == 't',
                  .b_transposed = p->transposed[1] == 't'};
    o.a = bench_sines(p->dtype, o.a_transposed ? AD_SHAPE(p->k, p->m) : AD_SHAPE(p->m, p->k), 0.37);
    o.b = bench_sines(p->dtype, o.b_transposed ? AD_SHAPE(p->n, p->k) : AD_SHAPE(p->k, p->n), 0.73);
    double flops = 2.0 * (double)p->m * (double)p->n * (double)p->k;
    double bytes = (double)((p->m * p->k + p->k * p->n + p->m * p->n) * (int64_t)ad_dtype_size(p->dtype));
    o.count = flops < 1e5 ? 100 : flops < 1e7 ? 10 : 1;
    if (b->check) {
        multiply(&o, (double[]){0});
        ad_view c = ad_value(o.c);
        bench_print(name, "product", bench_fingerprint(&c));
    } else {
        double seconds[BENCH_PARTS];
        bench_measure(b, multiply, &o, seconds);
        bench_print_work(name, "us", 1e6 * seconds[0] / o.count, flops, bytes);
    }
    bench_need(ad_tape_status(o.tape), ad_tape_error(o.tape));
    ad_tape_free(o.tape);
    ad_tensor_unref(o.a);
    ad_tensor_unref(o.b);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) run(&b, &products[i]);
    return 0;
}
