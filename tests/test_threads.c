/* The pool of threads: every item is done once, whatever the number of threads, in every situation. */
#include "helpers.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 3000 };

/* False where the library was built without threads: then there is nothing to see. */
static bool use_threads(int count) {
    cr_assert_eq(ad_set_threads(count), AD_OK);
    atomic_store(&ad_parallel_forced, true);
    return ad_threads() > 1;
}

/* Threads of this process. */
static int count_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;
    if (!tasks) return -1;
    while (readdir(tasks)) count++;
    closedir(tasks);
    return count - 2;
}

/* ---- items ---------------------------------------------------------------------------------------------------------- */

typedef struct items {
    atomic_int done[MOST];
    atomic_int by[AD_MAX_THREADS]; /* items by each worker */
    atomic_int inside[AD_MAX_THREADS];
    atomic_bool shared; /* a worker's number was used twice at one time */
} items;

static void count_items(const void *context, int64_t from, int64_t to, int worker) {
    items *all = *(items *const *)context;
    if (atomic_fetch_add(&all->inside[worker], 1) != 0) atomic_store(&all->shared, true);
    for (int64_t i = from; i < to; i++) atomic_fetch_add(&all->done[i], 1);
    atomic_fetch_add(&all->by[worker], (int)(to - from));
    atomic_fetch_sub(&all->inside[worker], 1);
}

/* Shares `count` items, and fails unless each was done `times`. */
static void expect_done(items *all, int workers, int64_t count, int times) {
    ad_parallel(workers, count, count, count_items, &all);
    for (int64_t i = 0; i < count; i++)
        cr_assert_eq(atomic_load(&all->done[i]), times, "item %d of %d, %d workers", (int)i, (int)count, workers);
    cr_assert_not(atomic_load(&all->shared));
}

Test(threads, do_every_item_once) {
    for (int threads = 1; threads <= 5; threads++) {
        use_threads(threads);
        for (int64_t count = 1; count <= MOST; count += count < 40 ? 1 : 370) {
            const int workers = ad_parallel_workers(count, 1000);
            cr_assert_eq(workers, ad_min_int(ad_threads(), (int)count));
            for (int times = 0; times < 20; times++) {
                items *all = calloc(1, sizeof *all);
                expect_done(all, workers, count, 1);
                for (int i = workers; i < AD_MAX_THREADS; i++) cr_assert_eq(atomic_load(&all->by[i]), 0);
                free(all);
            }
        }
    }
}

/* The caller's first piece lasts until somebody else has begun another. */
static void wait_for_company(const void *context, int64_t from, int64_t to, int worker) {
    items *all = *(items *const *)context;
    count_items(context, from, to, worker);
    while (worker == 0 && atomic_load(&all->by[1]) == 0) sched_yield();
}

Test(threads, take_part_when_they_are_asked) {
    static items all;
    items *at = &all;
    if (!use_threads(2)) return;
    const uint64_t before = ad_parallel_regions();
    for (int times = 1; times <= 5; times++) {
        atomic_store(&all.by[1], 0);
        ad_parallel(2, 300, 300, wait_for_company, &at);
        for (int i = 0; i < 300; i++) cr_assert_eq(atomic_load(&all.done[i]), times);
        if (times > 3) usleep(5000); /* they sleep by then */
    }
    cr_assert_eq(ad_parallel_regions(), before + 5);
}

Test(threads, are_not_asked_for_little_work) {
    static items all;
    cr_assert_eq(ad_set_threads(4), AD_OK);
    cr_assert_eq(ad_parallel_workers(199, 100), 1);
    cr_assert_leq(ad_parallel_workers(200, 100), 2);
    cr_assert_eq(ad_parallel_workers(0, 1), 1);
    cr_assert_eq(ad_parallel_workers(1, 1), 1);
    cr_assert_eq(ad_parallel_workers(INT64_MAX, 1), ad_threads());
    expect_done(&all, 1, 10, 1);
    cr_assert_eq(ad_parallel_regions(), 0);
    /* Not worth starting one. */
    ad_parallel(2, 200, 2, count_items, (items *[]){&all});
    cr_assert_eq(ad_parallel_regions(), 0);
}

/* ---- in odd places -------------------------------------------------------------------------------------------------- */

static void count_alone(const void *context, int64_t from, int64_t to, int worker) {
    items *all = *(items *const *)context;
    cr_assert_eq(worker, 0);
    for (int64_t i = from; i < to; i++) atomic_fetch_add(&all->done[i], 1);
}
static void nest_alone(const void *context, int64_t from, int64_t to, int worker) {
    (void)worker;
    for (int64_t i = from; i < to; i++) ad_parallel(ad_threads(), 100, 1, count_alone, context);
}

Test(threads, do_work_inside_of_work_alone) {
    static items all;
    items *at = &all;
    if (!use_threads(3)) return;
    const uint64_t before = ad_parallel_regions();
    ad_parallel(3, 30, 1, nest_alone, &at);
    for (int i = 0; i < 100; i++) cr_assert_eq(atomic_load(&all.done[i]), 30);
    cr_assert_eq(ad_parallel_regions(), before + 1);
}

static void *share_often(void *user) {
    items *all = user;
    for (int i = 0; i < 500; i++) ad_parallel(ad_threads(), 200, 1, count_items, &all);
    return NULL;
}

Test(threads, serve_the_threads_of_a_user_in_turn) {
    enum { USERS = 3 };
    static items all[USERS];
    pthread_t user[USERS];
    use_threads(3);
    for (int i = 0; i < USERS; i++) cr_assert_eq(pthread_create(&user[i], NULL, share_often, &all[i]), 0);
    for (int i = 0; i < 20; i++) ad_set_threads(1 + i % 3);
    for (int i = 0; i < USERS; i++) pthread_join(user[i], NULL);
    for (int i = 0; i < USERS; i++) {
        for (int k = 0; k < 200; k++) cr_assert_eq(atomic_load(&all[i].done[k]), 500);
        cr_assert_not(atomic_load(&all[i].shared));
    }
}

#ifndef __SANITIZE_THREAD__ /* which allows a child of a process with threads no threads of its own */
static bool child_succeeds(pid_t child) {
    int status;
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The address sanitizer's allocator is lost to the child of a fork that finds a thread inside it, and threads that start
 * or end are. */
Test(threads, are_started_again_in_the_child_of_a_fork) {
    static items all;
    if (TEST_SANITIZED || !use_threads(3)) return;
    expect_done(&all, 3, 300, 1);
    for (int times = 2; times <= 4; times++) {
        pid_t child = fork();
        if (child == 0) {
            int alone = count_threads();
            expect_done(&all, 3, 300, times);
            if (alone != 1 || count_threads() != 3) _exit(1);
            ad_set_threads(1);
            _exit(count_threads() != 1);
        }
        cr_assert(child_succeeds(child));
        expect_done(&all, 3, 300, times);
    }
}

static atomic_bool over;
static void *share_until_over(void *user) {
    while (!atomic_load(&over)) share_often(user);
    return NULL;
}

Test(threads, may_be_at_work_while_another_thread_forks) {
    static items all, others;
    pthread_t user;
    if (TEST_SANITIZED || !use_threads(3)) return;
    cr_assert_eq(pthread_create(&user, NULL, share_until_over, &others), 0);
    for (int times = 0; times < 20; times++) {
        pid_t child = fork();
        if (child == 0) {
            expect_done(&all, 3, 300, 1);
            _exit(0);
        }
        cr_assert(child_succeeds(child));
    }
    atomic_store(&over, true);
    pthread_join(user, NULL);
}
#endif

/* ---- what a worker is like ------------------------------------------------------------------------------------------- */

typedef struct state {
    atomic_bool came, blocks_interrupts, blocks_crashes, rounds_up;
} state;

static bool rounds_up(void) {
    volatile double one = 1, little = 0x1p-80;
    return one + little > 1;
}

static void look(const void *context, int64_t from, int64_t to, int worker) {
    state *seen = *(state *const *)context;
    sigset_t blocked;
    (void)from, (void)to;
    while (worker == 0 && !atomic_load(&seen->came)) sched_yield();
    if (worker == 0) return;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    atomic_store(&seen->blocks_interrupts, sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGALRM));
    atomic_store(&seen->blocks_crashes, sigismember(&blocked, SIGSEGV) || sigismember(&blocked, SIGFPE));
    atomic_store(&seen->rounds_up, rounds_up());
    atomic_store(&seen->came, true);
}

Test(threads, take_no_signals_and_round_as_the_caller_does) {
    state seen, *at = &seen;
    sigset_t blocked;
    if (!use_threads(2)) return;
    for (int up = 0; up < 3; up++) {
        memset(&seen, 0, sizeof seen);
        fesetround(up == 1 ? FE_UPWARD : FE_TONEAREST);
        ad_parallel(2, 2, 1, look, &at);
        cr_assert(atomic_load(&seen.blocks_interrupts));
        cr_assert_not(atomic_load(&seen.blocks_crashes));
        cr_assert_eq(atomic_load(&seen.rounds_up), rounds_up()); /* valgrind knows no other way to round */
    }
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    cr_assert_not(sigismember(&blocked, SIGINT), "the caller's mask was changed");
}

/* ---- how many -------------------------------------------------------------------------------------------------------- */

Test(threads, stop_when_they_are_not_wanted) {
    static items all;
    if (!use_threads(2)) return;
    expect_done(&all, 2, 400, 1);
    ad_set_threads(4);
    const int before = count_threads(); /* a sanitizer may have one of its own */
    memset(&all, 0, sizeof all);
    expect_done(&all, 4, 400, 1);
    cr_assert_eq(count_threads(), before + 3);
    ad_set_threads(2);
    expect_done(&all, 2, 400, 2);
    cr_assert_eq(count_threads(), before + 1);
    ad_set_threads(1);
    cr_assert_eq(count_threads(), before);
    expect_done(&all, ad_parallel_workers(400, 1), 400, 3);
    cr_assert_eq(count_threads(), before);
}

Test(threads, are_as_many_as_asked_for) {
    cr_assert_eq(ad_set_threads(-1), AD_ERR_VALUE);
    if (!use_threads(2)) return;
    cr_assert_eq(ad_threads(), 2);
    cr_assert_eq(ad_set_threads(-1), AD_ERR_VALUE);
    cr_assert_eq(ad_threads(), 2);
    ad_set_threads(1000000);
    cr_assert_eq(ad_threads(), AD_MAX_THREADS);
}

Test(threads, are_by_default_what_the_environment_says) {
    if (!use_threads(2)) return;
    static const struct {
        const char *own, *common;
        int threads; /* 0: the cores */
    } cases[] = {{"3", "5", 3}, {NULL, "5,2", 5}, {"none", "0", 0}, {NULL, NULL, 0}, {"9999999999999", NULL, 128},
                 {"-4", "6", 6}};
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        unsetenv("ADTAPE_THREADS");
        unsetenv("OMP_NUM_THREADS");
        if (cases[i].own) setenv("ADTAPE_THREADS", cases[i].own, 1);
        if (cases[i].common) setenv("OMP_NUM_THREADS", cases[i].common, 1);
        ad_set_threads(0);
        cr_assert_eq(ad_threads(), cases[i].threads ? cases[i].threads : ad_min_int(ad_processors(), AD_MAX_THREADS));
    }
}

Test(threads, are_done_without_when_they_cannot_be_started) {
    static items all;
    struct rlimit limit;
    if (TEST_SANITIZED || !use_threads(3)) return;
    getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = 1; /* not a page more */
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    const int before = count_threads();
    for (int times = 1; times <= 3; times++) {
        expect_done(&all, 3, 300, times);
        cr_assert_eq(ad_parallel_regions(), 0);
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_AS, &limit);
    cr_assert_eq(count_threads(), before);
    ad_set_threads(3); /* tries again */
    expect_done(&all, 3, 300, 4);
    cr_assert_eq(ad_parallel_regions(), 1);
}

Test(threads, end_with_the_process, .exit_code = 0) {
    static items all;
    use_threads(3);
    expect_done(&all, 3, 300, 1);
    exit(0);
}
