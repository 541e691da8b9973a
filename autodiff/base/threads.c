/* Work shared between threads: one pool of workers per process, started at the first work that is worth it.
 *
 * A *region* is one call of ad_parallel. Its items are cut into *lanes*, one per thread, and a lane into *chunks*. A thread
 * does the chunks of its own lane and then those that are left of the others': nobody waits for a worker that comes late,
 * and yet a thread mostly works where it worked the last time, on what its cache holds. Who did what changes from run to
 * run, and no result may depend on it.
 *
 * A lane is one atomic word, the number of the region and how many chunks are left, and taking a chunk is lowering it. A
 * worker that is so late that another region has begun finds another number and takes nothing. Everything else about a
 * region is read only by those who have taken a chunk of it: it cannot end before they are done.
 *
 * Workers wait for the next region in a loop, as it is often near, and go to sleep after SPIN. There is one region at a
 * time: who wants another meanwhile, be it another user's thread or work inside of work, does it alone. */
#include "autodiff/base/base.h"

atomic_bool ad_parallel_forced;

#ifdef AD_HAVE_THREADS
#include <fenv.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum {
    LANES = AD_MAX_THREADS,
    LANE_BITS = 8, /* in the word of a region: number, lanes */
    CHUNKS = 4,    /* of a lane, at most */
    CHUNK_BITS = 3,
    LARGE = 16,        /* grains that are worth waking a worker, which takes some microseconds */
    SPIN = 200 * 1000, /* nanoseconds */
    PATIENCE = 1000,   /* looks before offering the processor, which others may need: even who is waited for */
    LINE = 64          /* bytes that two threads should not both write to */
};
_Static_assert(LANES < 1 << LANE_BITS && CHUNKS < 1 << CHUNK_BITS, "they fit");

typedef struct lane {
    _Alignas(LINE) _Atomic(uint64_t) chunks; /* number of the region, chunks left */
} lane;

typedef struct worker {
    _Alignas(LINE) atomic_bool asleep;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} worker;

static struct pool {
    _Alignas(LINE) _Atomic(uint64_t) region; /* the last one: its number, its lanes */
    atomic_bool stopping;
    _Alignas(LINE) atomic_int done; /* chunks, by workers */
    _Alignas(LINE) atomic_bool locked;
    atomic_int wanted; /* threads, the caller's among them; 0: not known yet */

    /* Of whoever has locked the pool; the region's are read by those who took a chunk. */
    ad_work *work;
    const void *context;
    int64_t count;
    int lanes, chunks; /* chunks: of each lane */
    unsigned mode;
    int started;               /* workers 1 to `started` are running */
    bool refused;              /* no more threads could be started */
    bool sees_forks;           /* after_fork is installed: set once, by watch_forks */
    _Atomic(uint64_t) regions; /* that had more than one lane */

    lane lane[LANES];
    worker worker[LANES]; /* 0: not used, that is the caller */
} pool;

/* ---- small things ------------------------------------------------------------------------------------------------- */

#if defined __x86_64__ || defined __i386__
#define PAUSE() __builtin_ia32_pause()
#elif defined __aarch64__
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static bool try_lock(void) {
    return !atomic_load_explicit(&pool.locked, memory_order_relaxed) &&
           !atomic_exchange_explicit(&pool.locked, true, memory_order_acquire);
}
static void lock(void) {
    while (!try_lock()) sched_yield();
}
static void unlock(void) { atomic_store_explicit(&pool.locked, false, memory_order_release); }

/* Rounding, and what becomes of subnormal numbers: a worker computes as the caller would. */
#ifdef __SSE__
static unsigned get_mode(void) { return __builtin_ia32_stmxcsr() & ~0x3fu; } /* without the exception flags */
static void set_mode(unsigned mode) { __builtin_ia32_ldmxcsr(mode); }
#else
static unsigned get_mode(void) { return (unsigned)fegetround(); }
static void set_mode(unsigned mode) { fesetround((int)mode); }
#endif

/* ---- chunks --------------------------------------------------------------------------------------------------------- */

/* Where part i begins when n things are cut into nearly equal parts. */
static int64_t cut(int64_t n, int parts, int i) {
    const int64_t size = n / parts, longer = n % parts;
    return size * i + (i < longer ? i : longer);
}

/* How many chunks the lane had, if one was taken; else 0. */
static int take_chunk(int at, uint64_t number) {
    _Atomic(uint64_t) *chunks = &pool.lane[at].chunks;
    const uint64_t mask = (1 << CHUNK_BITS) - 1;
    uint64_t seen = atomic_load_explicit(chunks, memory_order_acquire);
    while (seen >> CHUNK_BITS == number && (seen & mask))
        if (atomic_compare_exchange_weak_explicit(chunks, &seen, seen - 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return (int)(seen & mask);
    return 0;
}

static void do_chunk(int at, int left, int me) {
    const int64_t first = cut(pool.count, pool.lanes, at), n = cut(pool.count, pool.lanes, at + 1) - first;
    const int chunk = pool.chunks - left;
    if (get_mode() != pool.mode) set_mode(pool.mode);
    pool.work(pool.context, first + cut(n, pool.chunks, chunk), first + cut(n, pool.chunks, chunk + 1), me);
}

/* What chunks are left, in the own lane first. Returns how many they were. */
static int do_chunks(int me, uint64_t number, int lanes) {
    int done = 0;
    for (int i = 0; i < lanes; i++) {
        const int at = (me + i) % lanes;
        for (int left; (left = take_chunk(at, number)); done++) do_chunk(at, left, me);
    }
    return done;
}

/* ---- workers -------------------------------------------------------------------------------------------------------- */

static bool is_over(uint64_t seen) { return atomic_load(&pool.region) != seen || atomic_load(&pool.stopping); }

/* Waits while the last region is `seen`; in a loop until SPIN after `idle`, then asleep. */
static void wait_for_region(worker *self, uint64_t seen, int64_t idle) {
    do {
        for (int i = 0; i < PATIENCE; i++) {
            if (is_over(seen)) return;
            PAUSE();
        }
        sched_yield();
    } while (now() - idle < SPIN);
    /* Either this thread sees a new region now, or who made it sees that this thread is asleep. */
    pthread_mutex_lock(&self->mutex);
    atomic_store(&self->asleep, true);
    while (!is_over(seen)) pthread_cond_wait(&self->wake, &self->mutex);
    atomic_store(&self->asleep, false);
    pthread_mutex_unlock(&self->mutex);
}

static void wake(worker *w) {
    if (!atomic_load(&w->asleep)) return;
    pthread_mutex_lock(&w->mutex);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

static void *run_worker(void *self) {
    const int me = (int)((worker *)self - pool.worker);
    int64_t idle = now();
    for (uint64_t seen = 0;;) {
        wait_for_region(self, seen, idle);
        if (atomic_load(&pool.stopping)) return NULL;
        seen = atomic_load(&pool.region);
        const int lanes = (int)(seen & ((1 << LANE_BITS) - 1));
        if (me >= lanes) continue;
        const int done = do_chunks(me, seen >> LANE_BITS, lanes);
        if (done) atomic_fetch_add_explicit(&pool.done, done, memory_order_release);
        idle = now();
    }
}

/* The child of a fork has the thread that forked and no other. What that one was not in the middle of is over. */
static void after_fork(void) {
    pool.started = 0;
    pool.refused = false;
    atomic_store(&pool.stopping, false);
    for (int i = 0; i < LANES; i++) {
        atomic_store(&pool.lane[i].chunks, 0);
        atomic_store(&pool.worker[i].asleep, false);
    }
    unlock();
}

/* Before anybody locks the pool: a child must never find it locked by a thread that it does not have. */
static void install_after_fork(void) { pool.sees_forks = pthread_atfork(NULL, NULL, after_fork) == 0; }
static void watch_forks(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install_after_fork);
}

static bool start_worker(worker *w) {
    if (pthread_mutex_init(&w->mutex, NULL)) return false;
    if (pthread_cond_init(&w->wake, NULL)) {
        pthread_mutex_destroy(&w->mutex);
        return false;
    }
    if (!pthread_create(&w->thread, NULL, run_worker, w)) return true;
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    return false;
}

/* Until there are so many, or no more can be had. They take no signals but those that they cause themselves. */
static void start_workers(int count) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
    sigset_t others, before;
    if (pool.started >= count || pool.refused) return;
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) sigdelset(&others, own[i]);
    pthread_sigmask(SIG_BLOCK, &others, &before);
    while (pool.started < count && !pool.refused) {
        pool.refused = !pool.sees_forks || !start_worker(&pool.worker[pool.started + 1]);
        if (!pool.refused) pool.started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void stop_workers(void) {
    atomic_store(&pool.stopping, true);
    for (int i = 1; i <= pool.started; i++) {
        worker *w = &pool.worker[i];
        wake(w);
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
    }
    pool.started = 0;
    pool.refused = false;
    atomic_store(&pool.stopping, false);
}

/* At exit, or when the library is unloaded. A thread that is working still, as one whose signal handler exits, finds no
 * worker any more or keeps those that there are. */
__attribute__((destructor)) static void close_pool(void) {
    for (int tries = 0; !try_lock(); tries++) {
        if (tries == 1000) return;
        sched_yield();
    }
    stop_workers();
    atomic_store(&pool.wanted, 1);
    unlock();
}

/* ---- regions -------------------------------------------------------------------------------------------------------- */

static void share(int lanes, bool large, int64_t count, int64_t grains, ad_work *work, const void *context) {
    const bool forced = atomic_load_explicit(&ad_parallel_forced, memory_order_relaxed);
    const int64_t per_lane = (grains < count && !forced ? grains : count) / lanes;
    const uint64_t number = (atomic_load_explicit(&pool.region, memory_order_relaxed) >> LANE_BITS) + 1;
    pool.work = work;
    pool.context = context;
    pool.count = count;
    pool.lanes = lanes;
    pool.chunks = per_lane < 1 ? 1 : per_lane < CHUNKS ? (int)per_lane : CHUNKS;
    pool.mode = get_mode();
    atomic_store_explicit(&pool.done, 0, memory_order_relaxed);
    for (int i = 0; i < lanes; i++)
        atomic_store_explicit(&pool.lane[i].chunks, number << CHUNK_BITS | (unsigned)pool.chunks,
                              memory_order_release);
    atomic_store(&pool.region, number << LANE_BITS | (unsigned)lanes);
    for (int i = 1; i < lanes && large; i++) wake(&pool.worker[i]);
    const int others = lanes * pool.chunks - do_chunks(0, number, lanes);
    for (int spins = 0; atomic_load_explicit(&pool.done, memory_order_acquire) != others; spins++) {
        if (spins % PATIENCE)
            PAUSE();
        else
            sched_yield();
    }
    atomic_fetch_add_explicit(&pool.regions, 1, memory_order_relaxed);
}

void ad_parallel(int workers, int64_t count, int64_t grains, ad_work *work, const void *context) {
    if (workers > 1) watch_forks();
    if (workers > 1 && try_lock()) {
        const bool large = grains >= LARGE || atomic_load_explicit(&ad_parallel_forced, memory_order_relaxed);
        if (large) start_workers(workers - 1);
        int lanes = 1;
        while (lanes < workers && lanes <= pool.started && (large || !atomic_load(&pool.worker[lanes].asleep)))
            lanes++;
        if (lanes > 1) share(lanes, large, count, grains, work, context);
        unlock();
        if (lanes > 1) return;
    }
    work(context, 0, count, 0);
}

int ad_parallel_workers_for(int64_t grains) {
    const int threads = ad_threads();
    return grains < threads ? (int)(grains < 1 ? 1 : grains) : threads;
}

uint64_t ad_parallel_regions(void) { return atomic_load(&pool.regions); }

/* ---- how many ------------------------------------------------------------------------------------------------------- */

/* A positive number in the environment (of a list, the first), or 0. */
static int read_number(const char *name) {
    const char *text = getenv(name);
    const long number = text ? strtol(text, NULL, 10) : 0;
    return number < 1 ? 0 : number > INT_MAX ? INT_MAX : (int)number;
}

static int default_threads(void) {
    int count = read_number("ADTAPE_THREADS");
    if (!count) count = read_number("OMP_NUM_THREADS");
    if (!count) count = ad_processors();
    return ad_min_int(count, AD_MAX_THREADS);
}

int ad_threads(void) {
    int count = atomic_load_explicit(&pool.wanted, memory_order_relaxed), unknown = 0;
    if (AD_LIKELY(count)) return count;
    count = default_threads();
    return atomic_compare_exchange_strong(&pool.wanted, &unknown, count) ? count : unknown;
}

ad_status ad_set_threads(int count) {
    if (count < 0) return AD_ERR_VALUE;
    count = count ? ad_min_int(count, AD_MAX_THREADS) : default_threads();
    watch_forks();
    lock();
    stop_workers();
    atomic_store(&pool.wanted, count);
    unlock();
    return AD_OK;
}

#else /* built without threads */

void ad_parallel(int workers, int64_t count, int64_t grains, ad_work *work, const void *context) {
    (void)workers, (void)grains;
    work(context, 0, count, 0);
}
int ad_parallel_workers_for(int64_t grains) { return (void)grains, 1; }
uint64_t ad_parallel_regions(void) { return 0; }
int ad_threads(void) { return 1; }
ad_status ad_set_threads(int count) { return count < 0 ? AD_ERR_VALUE : AD_OK; }

#endif
