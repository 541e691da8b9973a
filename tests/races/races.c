/* All that threads share, for the thread sanitizer: ./dev tsan runs this program, because Criterion itself does not bear it.
 *
 * Two threads of a user each keep the laws of every op and train a network, on tapes of their own, with every kernel shared
 * by the threads of the pool; a third changes their number meanwhile, and looks ops up. */
#include "autodiff/base/base.h"

#include <adtape.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { USERS = 2, STEPS = 10 };

typedef struct user {
    int number, done, failed;
} user;

static atomic_int at_work;

static void count(user *u, bool good, const char *what, const char *why) {
    u->done++;
    if (good) return;
    u->failed++;
    printf("FAILED  thread %d, %s: %s\n", u->number, what, why);
}

static void check_op(user *u, const ad_op *op) {
    ad_check_report report;
    ad_status status = ad_op_check(op, NULL, &report);
    count(u, status == AD_OK, op->name, report.message);
}

static void train(user *u) {
    ad_param *w[2] = {NULL, NULL};
    ad_error error = {AD_OK, ""};
    ad_optim *optim = NULL;
    ad_adam_options options = ad_adam_defaults();
    ad_rng rng = {.seed = 1};
    ad_tape *t = ad_tape_new(NULL);
    ad_status status = ad_param_new(&w[0], NULL, "W", AD_F32, AD_SHAPE(40, 50), NULL, &error);
    if (!status) status = ad_param_new(&w[1], NULL, "b", AD_F32, AD_SHAPE(40), NULL, &error);
    if (!status) status = ad_adam_new(&optim, NULL, 2, w, &options, &error);
    for (int i = 0; i < STEPS && !status; i++) {
        ad_var x = ad_randn(t, NULL, AD_F32, AD_SHAPE(30, 50), &rng);
        ad_var y = ad_linear(x, ad_use(t, w[0]), ad_use(t, w[1]));
        ad_backward(ad_mean(ad_mul(ad_tanh(y), ad_softmax(y, 1)), AD_ALL_AXES, false));
        status = ad_tape_status(t);
        if (!status) status = ad_optim_step(optim, &error);
        ad_tape_reset(t);
    }
    count(u, status == AD_OK, "training", status ? ad_status_name(status) : "");
    ad_optim_free(optim);
    for (int i = 0; i < 2; i++) ad_param_unref(w[i]);
    ad_tape_free(t);
}

static void *work(void *argument) {
    user *u = argument;
    for (int i = 0; i < ad_op_count(); i++) {
        check_op(u, ad_op_at(i));
        if (i % 16 == 0) train(u);
    }
    atomic_fetch_sub(&at_work, 1);
    return NULL;
}

int main(void) {
    user users[USERS];
    pthread_t thread[USERS];
    int done = 2, failed = 0;
    bool obeyed = true;
    atomic_store(&ad_parallel_forced, true);
    atomic_store(&at_work, USERS);
    for (int i = 0; i < USERS; i++) {
        users[i] = (user){.number = i};
        if (pthread_create(&thread[i], NULL, work, &users[i])) return 2;
    }
    for (int i = 0; atomic_load(&at_work) > 0; i++)
        obeyed = obeyed && ad_set_threads(1 + i % 4) == AD_OK && ad_op_find("matmul");
    for (int i = 0; i < USERS; i++) {
        pthread_join(thread[i], NULL);
        done += users[i].done;
        failed += users[i].failed;
    }
    if (!obeyed) printf("FAILED  the number of threads, or an op, while others work\n");
    if (ad_parallel_regions() == 0) printf("FAILED  nothing was shared\n");
    failed += !obeyed + (ad_parallel_regions() == 0);
    printf("%d passed, %d failed\n", done - failed, failed);
    return failed > 0;
}
