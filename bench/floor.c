/* What the machine can do at most, for the floors: multiply-adds from registers, and copies of memory, by size.
 *
 *     floor [--threads N]
 *
 * prints `fma f32  GFLOP/s  number`, the same for f64, and `copy BYTES  GB/s  number` where BYTES is the memory that is
 * read and written, which is what is counted. Each is the best of many tries: a limit, not a habit. */
#include "bench.h"

#include <pthread.h>
#include <stdatomic.h>

enum { MOST_THREADS = 256, TRIES_A_SECOND = 500, LEAST_TRIES = 3, CHAINS = 12 };

/* ---- one thread ---------------------------------------------------------------------------------------------------- */

/* CHAINS independent chains of x <- x m + a hide the latency; the sum at the end keeps the compiler from leaving them out. */
#define FMA_LOOP(name, target, type, bytes)                                                                          \
    target static double name(int64_t steps) {                                                                       \
        typedef type vector __attribute__((vector_size(bytes)));                                                     \
        vector x[CHAINS], m, a;                                                                                      \
        for (size_t i = 0; i < (bytes) / sizeof(type); i++) m[i] = (type)0.5, a[i] = (type)0.25;                     \
        for (int k = 0; k < CHAINS; k++) x[k] = a * (type)k;                                                         \
        for (int64_t s = 0; s < steps; s++)                                                                          \
            for (int k = 0; k < CHAINS; k++) x[k] = x[k] * m + a;                                                    \
        for (int k = 1; k < CHAINS; k++) x[0] += x[k];                                                               \
        return (double)x[0][0];                                                                                      \
    }

/* As an elementwise kernel would: the C library's memcpy takes other ways, which are not always the fastest. */
#define COPY_LOOP(name, target, bytes)                                                                               \
    target static void name(const char *from, char *to, size_t size, uint64_t mask) {                                \
        typedef uint64_t vector __attribute__((vector_size(bytes)));                                                 \
        for (size_t i = 0; i < size / (bytes); i++) ((vector *)to)[i] = ((const vector *)from)[i] ^ mask;            \
    }

#define LOOPS(isa, target, bytes)                                                                                    \
    FMA_LOOP(fma_f32_##isa, target, float, bytes)                                                                    \
    FMA_LOOP(fma_f64_##isa, target, double, bytes)                                                                   \
    COPY_LOOP(copy_##isa, target, bytes)                                                                             \
    static const loops loops_##isa = {bytes, {fma_f32_##isa, fma_f64_##isa}, copy_##isa};

typedef struct loops {
    int vector_bytes;
    double (*fma[2])(int64_t steps); /* f32, f64 */
    void (*copy)(const char *from, char *to, size_t size, uint64_t mask);
} loops;

LOOPS(baseline, , 16)
#if defined __x86_64__ && defined __GNUC__
LOOPS(avx2, __attribute__((target("avx2,fma"))), 32)
LOOPS(avx512, __attribute__((target("avx512f"))), 64)

static const loops *best_loops(void) {
    if (__builtin_cpu_supports("avx512f")) return &loops_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &loops_avx2 : &loops_baseline;
}
#else
static const loops *best_loops(void) { return &loops_baseline; }
#endif

/* ---- the same in each thread -------------------------------------------------------------------------------------------- */

/* Threads wait for each other before each try, so that all of them are measured while all of them work. */
typedef struct team {
    int threads;
    atomic_int waiting;
    atomic_int round;
    const loops *loops;
    int64_t steps;  /* of fma, or repetitions of the copy */
    bool is_double; /* fma */
    size_t bytes;   /* to copy, for each thread; 0: fma */
    int tries;
} team;

typedef struct member {
    team *team;
    pthread_t thread;
    char *from, *to;
    double best; /* seconds */
    double sum;
} member;

static void wait_for_all(team *t) {
    int round = atomic_load(&t->round);
    if (atomic_fetch_add(&t->waiting, 1) == t->threads - 1) {
        atomic_store(&t->waiting, 0);
        atomic_fetch_add(&t->round, 1);
    }
    while (atomic_load(&t->round) == round) {
    }
}

static void work(member *m) {
    const team *t = m->team;
    if (t->bytes == 0) {
        m->sum += t->loops->fma[t->is_double](t->steps);
        return;
    }
    for (int64_t i = 0; i < t->steps; i++) t->loops->copy(m->from, m->to, t->bytes, (uint64_t)i);
}

static void *measure(void *user) {
    member *m = user;
    for (int i = 0; i < m->team->tries; i++) {
        wait_for_all(m->team);
        double start = bench_now();
        work(m);
        wait_for_all(m->team);
        double seconds = bench_now() - start;
        if (i == 0 || seconds < m->best) m->best = seconds;
    }
    return NULL;
}

/* Seconds of the best try. */
static double run(team *t) {
    static member members[MOST_THREADS];
    for (int i = 0; i < t->threads; i++) {
        members[i] = (member){.team = t};
        if (t->bytes == 0) continue;
        members[i].from = aligned_alloc(4096, 2 * t->bytes);
        if (!members[i].from) bench_fail("floor", "no memory");
        members[i].to = members[i].from + t->bytes;
        memset(members[i].from, 1, 2 * t->bytes);
    }
    for (int i = 1; i < t->threads; i++)
        if (pthread_create(&members[i].thread, NULL, measure, &members[i]) != 0) bench_fail("floor", "no thread");
    measure(&members[0]);
    for (int i = 1; i < t->threads; i++) pthread_join(members[i].thread, NULL);
    for (int i = 0; i < t->threads; i++) free(members[i].from);
    return members[0].best;
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    if (b.threads > MOST_THREADS) bench_fail("--threads", "more than floor can start");
    const int tries = (int)fmax(LEAST_TRIES, TRIES_A_SECOND * b.seconds);
    for (int i = 0; i < 2; i++) {
        team t = {.threads = b.threads, .loops = best_loops(), .tries = tries, .is_double = i == 1, .steps = 100000};
        char name[BENCH_NAME];
        snprintf(name, sizeof name, "fma %s", i ? "f64" : "f32");
        if (!bench_wants(&b, name)) continue;
        int lanes = t.loops->vector_bytes / (i ? 8 : 4);
        double flops = 2.0 * CHAINS * lanes * (double)t.steps * t.threads;
        bench_print(name, "GFLOP/s", 1e-9 * flops / run(&t));
    }
    /* From what fits in the first cache to what fits in none, or in the memory of a small machine. */
    for (size_t touched = (size_t)32 << 10; touched <= (size_t)512 << 20; touched *= 4) {
        size_t each = touched / 2 / (size_t)b.threads / 4096 * 4096;
        team t = {.threads = b.threads, .loops = best_loops(), .tries = tries, .bytes = each ? each : 4096};
        if (touched > (size_t)32 << 20) t.tries = LEAST_TRIES;
        t.steps = touched < (size_t)4 << 20 ? (int64_t)(((size_t)4 << 20) / touched) : 1;
        char name[BENCH_NAME];
        snprintf(name, sizeof name, "copy %zu", touched);
        if (!bench_wants(&b, name)) continue;
        bench_print(name, "GB/s", 1e-9 * 2.0 * (double)t.bytes * t.threads * (double)t.steps / run(&t));
    }
    return 0;
}
