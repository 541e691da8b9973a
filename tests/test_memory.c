/* Memory: what a training step asks of its allocator, and what happens when it is refused. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

/* ---- a network and one step of its training ------------------------------------------------------------------------------ */

enum { batch = 5, inputs = 6, classes = 3, weights = 4 };

/* A residual layer y = x + relu(x H + v), then z = y W + b. */
typedef struct net {
    ad_param *weight[weights];
} net;

static net net_new(const ad_allocator *allocator) {
    static const char *const names[weights] = {"H", "v", "W", "b"};
    const ad_shape shapes[weights] = {AD_SHAPE(inputs, inputs), AD_SHAPE(inputs), AD_SHAPE(inputs, classes),
                                      AD_SHAPE(classes)};
    net n;
    ad_rng rng = {.seed = 7, .counter = 0};
    for (int i = 0; i < weights; i++) {
        cr_assert_eq(ad_param_new(&n.weight[i], allocator, names[i], AD_F32, shapes[i], NULL, NULL), AD_OK);
        float *value = ad_param_edit(n.weight[i])->data;
        for (int64_t k = 0; k < ad_shape_count(&shapes[i]); k++) value[k] = (float)(0.5 * ad_rng_normal(&rng));
    }
    return n;
}

static void net_free(const net *n) {
    for (int i = 0; i < weights; i++) ad_param_unref(n->weight[i]);
}

/* Uses every way to record and to walk back; `derived`, unless NULL, gets the norm of a recorded gradient. */
static ad_var net_loss(ad_tape *t, const net *n, ad_var *derived) {
    static const float zero = 0;
    float data[batch * inputs];
    int32_t class[batch];
    ad_rng rng = {.seed = 11, .counter = 0};
    for (int i = 0; i < batch * inputs; i++) data[i] = (float)ad_rng_normal(&rng);
    for (int i = 0; i < batch; i++) class[i] = (int32_t)ad_rng_below(&rng, classes);

    ad_var x = ad_leaf(t, "x", AD_F32, AD_SHAPE(batch, inputs), data);
    ad_var target = ad_constant(t, "class", AD_I32, AD_SHAPE(batch), class);
    ad_scope_begin(t, "block%d", 0);
    ad_var H = ad_use(t, n->weight[0]), v = ad_use(t, n->weight[1]);
    ad_var y = ad_name(ad_add(x, ad_relu(ad_add(ad_matmul(x, H), v))), "y");
    ad_scope_end(t);
    ad_var W = ad_use(t, n->weight[2]), b = ad_use(t, n->weight[3]);
    ad_var z = ad_add(ad_matmul(y, W), b);
    ad_var loss = ad_mean(ad_softmax_xent(z, target), AD_ALL_AXES, false);
    /* where has no derivative but the one written in ops */
    ad_var floor = ad_constant(t, NULL, AD_F32, AD_SCALAR, &zero);
    ad_var positive = ad_where(ad_greater(H, floor), H, floor);
    loss = ad_add(loss, ad_scale(ad_sum(ad_mul(positive, positive), AD_ALL_AXES, false), 0.01));
    if (!derived) return loss;
    ad_var gradient;
    ad_grad(loss, (ad_var){0}, 1, &x, &gradient);
    *derived = ad_sum(ad_mul(gradient, gradient), AD_ALL_AXES, false);
    return ad_add(loss, *derived);
}

static void net_descend(const net *n) {
    for (int i = 0; i < weights; i++) {
        const ad_view *g = ad_param_gradient(n->weight[i]);
        float *w = ad_param_edit(n->weight[i])->data;
        for (int64_t k = 0; k < ad_view_count(g); k++) w[k] -= 0.1f * ((const float *)g->data)[k];
    }
}

/* The loss and all gradients, for comparisons bit by bit. */
typedef struct outcome {
    double loss;
    float gradient[inputs * inputs + inputs + inputs * classes + classes];
} outcome;

static outcome outcome_of(const net *n, double loss) {
    outcome o;
    memset(&o, 0, sizeof o);
    o.loss = loss;
    float *at = o.gradient;
    for (int i = 0; i < weights; i++) {
        const ad_view *g = ad_param_gradient(n->weight[i]);
        memcpy(at, g->data, (size_t)ad_view_count(g) * sizeof *at);
        at += ad_view_count(g);
    }
    return o;
}

/* ---- the steady state ------------------------------------------------------------------------------------------------------ */

typedef enum way { PLAIN, LEAVES_ONLY, ACCUMULATE, CHOSEN, SECOND_ORDER, REWIND, WAYS } way;

static void step(ad_tape *t, const net *n, way how) {
    ad_mark mark = ad_tape_mark(t);
    ad_var derived, loss = net_loss(t, n, how == SECOND_ORDER ? &derived : NULL), x = ad_tape_var(t, mark.count);
    ad_backward_options options = {.leaves_only = how == LEAVES_ONLY, .accumulate = how == ACCUMULATE};
    ad_var wrt[] = {x, ad_tape_var(t, mark.count + 2)};
    if (how == CHOSEN) options.wrt = wrt, options.wrt_count = 2;
    ad_backward_with(loss, &options);
    (void)ad_gradient(x);
    (void)ad_item(loss);
    expect_ok(t);
    net_descend(n);
    if (how == REWIND) {
        ad_tape_rewind(t, mark);
    } else {
        ad_tape_reset(t);
    }
}

Test(memory, a_training_step_allocates_nothing_after_the_first) {
    for (way how = PLAIN; how < WAYS; how++) {
        test_memory memory;
        test_memory_open(&memory);
        net n = net_new(&memory.allocator);
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
        step(t, &n, how);
        int64_t calls = memory.calls, bytes = memory.bytes;
        cr_assert_gt(calls, 10);
        for (int i = 0; i < 20; i++) step(t, &n, how);
        cr_assert_eq(memory.calls, calls, "way %d: %lld more calls", (int)how, (long long)(memory.calls - calls));
        cr_assert_eq(memory.bytes, bytes);
        ad_tape_free(t);
        net_free(&n);
        test_memory_close(&memory);
    }
}

Test(memory, a_step_of_scalars_allocates_nothing_after_the_first) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_param *w;
    ad_param_new(&w, &memory.allocator, "w", AD_F64, AD_SCALAR, (double[]){0.5}, NULL);
    int64_t calls = 0;
    for (int i = 0; i < 10; i++) {
        ad_var x = ad_use(t, w), y = x;
        for (int k = 0; k < 3000; k++) y = ad_add(ad_mul(ad_scale(y, 0.5), x), ad_tanh(x));
        ad_backward(y);
        expect_ok(t);
        *(double *)ad_param_edit(w)->data -= 0.01 * ad_view_get(ad_param_gradient(w), 0);
        ad_tape_reset(t);
        if (i == 0) calls = memory.calls;
    }
    cr_assert_eq(memory.calls, calls);
    ad_tape_free(t);
    ad_param_unref(w);
    test_memory_close(&memory);
}

/* Pages that this process was given. */
static int64_t page_faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

/* Arrays of 1 MiB, of which the C library would give each back to the system and ask for it again. */
Test(memory, a_step_of_large_arrays_takes_no_new_pages_after_the_first) {
    if (TEST_SANITIZED) return; /* which keeps memory that is given back */
    ad_set_threads(1);
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w;
    ad_param_new(&w, NULL, "w", AD_F32, AD_SHAPE(512, 512), NULL, NULL);
    int64_t at_first = page_faults(), before = 0;
    for (int i = 0; i < 12; i++) {
        ad_var x = ad_use(t, w), y = ad_matmul(ad_tanh(x), ad_transpose(ad_exp(x)));
        ad_backward(ad_mean(ad_add(ad_relu(y), ad_reshape(x, AD_SHAPE(512, 512))), AD_ALL_AXES, false));
        expect_ok(t);
        ad_tape_reset(t);
        if (i == 0) at_first = page_faults() - at_first;
        if (i == 1) before = page_faults();
    }
    int64_t faults = page_faults() - before;
    cr_assert_gt(at_first, 0);
    cr_assert_leq(faults, 16, "%lld new pages in 10 steps", (long long)faults); /* the system may move a few */
    ad_tape_free(t);
    ad_param_unref(w);
}

Test(memory, the_tape_knows_what_it_holds) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    net n = net_new(NULL);
    cr_assert_eq(ad_tape_memory(t), (uint64_t)memory.bytes);
    for (int i = 0; i < 3; i++) {
        ad_var derived;
        ad_backward(net_loss(t, &n, &derived));
        expect_ok(t);
        cr_assert_eq(ad_tape_memory(t), (uint64_t)memory.bytes, "%llu instead of %lld",
                     (unsigned long long)ad_tape_memory(t), (long long)memory.bytes);
        ad_tape_reset(t);
        cr_assert_eq(ad_tape_memory(t), (uint64_t)memory.bytes);
    }
    ad_tape_free(t);
    net_free(&n);
    test_memory_close(&memory);
}

/* ---- refusal ----------------------------------------------------------------------------------------------------------------- */

/* What the step took from its tape, also if it was left half-way. */
static ad_tensor *taken[2];
static void give_back_taken(void) {
    for (int i = 0; i < 2; i++) {
        ad_tensor_unref(taken[i]);
        taken[i] = NULL;
    }
}

/* The sum of any number of arrays: of more than a call has room for without asking for memory. */
static ad_status sum_all_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status sum_all_forward(ad_call *call) {
    for (int i = 0; i < call->inputs; i++)
        for (int64_t k = 0; k < ad_view_count(call->in[i]); k++)
            ((float *)call->out[0].data)[k] = (i ? ((float *)call->out[0].data)[k] : 0) +
                                              (float)ad_view_get(call->in[i], k);
    return AD_OK;
}
static void sum_all_vjp(ad_vjp *v) {
    for (int i = 0; i < ad_vjp_inputs(v); i++) ad_vjp_give(v, i, ad_vjp_seed(v, 0));
}
static ad_status sum_all_backward(ad_call *call, ad_adjoint *adjoint) {
    for (int i = 0; i < call->inputs; i++) ad_give(adjoint, i, &adjoint->seed[0]);
    return AD_OK;
}
static const ad_op sum_all = {.name = "sum_all",
                              .inputs = -1,
                              .shape = sum_all_shape,
                              .forward = sum_all_forward,
                              .vjp = sum_all_vjp,
                              .backward = sum_all_backward};

/* A contribution that cannot be had is no error of the tape. */
static int refused_quietly;
static void look_at_contributions(ad_tape *t) {
    refused_quietly = 0;
    for (int64_t i = 0; i < ad_tape_size(t); i++) {
        ad_node_info info;
        ad_tape_node(t, i, &info);
        for (int k = 0; k < info.inputs; k++) {
            ad_tensor *piece;
            ad_status status = ad_tape_contribution(t, i, k, &piece);
            cr_assert(status == AD_OK || (status == AD_ERR_OOM && !piece));
            refused_quietly += status == AD_ERR_OOM;
            ad_tensor_unref(piece);
        }
    }
}

/* All that a program does in a step, up to the first error. */
static outcome whole_step(ad_tape *t, const net *n) {
    ad_scope_begin(t, "step");
    ad_var derived, loss = net_loss(t, n, &derived);
    for (int i = 0; i < 16; i++) { /* so that the list of scopes grows where one ends */
        ad_scope_begin(t, "scope%d", i);
        ad_scope_end(t);
    }
    ad_var x0 = ad_tape_var(t, 0), many[] = {x0, x0, x0, x0, x0, x0};
    ad_var sum = ad_apply(t, &sum_all, 6, many, NULL, NULL);
    for (int i = 0; i < 70; i++) sum = ad_neg(sum); /* and that of tensors where an operation is recorded */
    loss = ad_add(loss, ad_scale(ad_mean(sum, AD_ALL_AXES, false), 1e-3));
    ad_var cross = ad_scalar(t, "cross", 1);
    ad_backward(ad_mul(cross, cross));
    look_at_contributions(t);
    ad_backward_with(loss, &(ad_backward_options){.leaves_only = true});
    ad_backward(loss);
    ad_var x = ad_tape_var(t, 0), y = ad_tape_var(t, 0);
    for (int64_t i = 0; i < ad_tape_size(t); i++) {
        ad_node_info info;
        ad_tape_node(t, i, &info);
        if (strcmp(info.name, "y") == 0) y = ad_tape_var(t, i);
    }
    ad_var dot = x, pushed, none;
    ad_pushforward(1, &x, &dot, 1, &y, &pushed);
    ad_grad(loss, (ad_var){0}, 1, &pushed, &none); /* zeros, of its shape */
    taken[0] = ad_tensor_of(y);
    taken[1] = ad_tensor_of(loss);
    double item = ad_item(loss) + ad_item(ad_sum(pushed, AD_ALL_AXES, false));
    (void)ad_gradient(x);
    (void)ad_gradient(dot);
    (void)ad_gradient(y);
    look_at_contributions(t);
    return outcome_of(n, item);
}

static void expect_same(const outcome *a, const outcome *b, int64_t at) {
    cr_assert_eq(memcmp(a, b, sizeof *a), 0, "allocation %lld: the results differ", (long long)at);
}

static void jump_out(void *user, const ad_error *error) {
    (void)error;
    longjmp(*(jmp_buf *)user, 1);
}

/* Runs a step in which the allocator refuses call number `at` (and all after it, if `on`), then, after a reset, a step in
 * which it does not. False when the step makes fewer calls. */
static bool refuse(int64_t at, bool on, bool jumps, const outcome *undisturbed) {
    static jmp_buf out;
    test_memory memory;
    test_memory_open(&memory);
    net n = net_new(&memory.allocator);
    ad_tape_options options = {.allocator = &memory.allocator, .on_error = jumps ? jump_out : NULL, .user = &out};
    memory.fail_at = memory.calls + at;
    memory.fail_on = on;
    ad_tape *t = ad_tape_new(&options);
    bool reached = true;
    if (t && setjmp(out) == 0) {
        outcome got = whole_step(t, &n);
        reached = memory.calls >= memory.fail_at;
        if (ad_tape_status(t) == AD_OK) expect_same(&got, undisturbed, at);
        cr_assert(!on || !reached || ad_tape_status(t) == AD_ERR_OOM || refused_quietly, "allocation %lld: no error",
                  (long long)at);
    }
    /* A handler that jumps out leaves the tape in the middle of a call: it is whole again after the reset. */
    if (!jumps) cr_assert_eq(ad_tape_verify(t, NULL), t ? AD_OK : AD_ERR_NULL, "allocation %lld", (long long)at);
    if (ad_tape_status(t) == AD_ERR_OOM) {
        cr_assert(strstr(ad_tape_error(t), "out of memory"), "%s", ad_tape_error(t));
        cr_assert(strstr(ad_tape_error(t), " at test_memory.c:") || strstr(ad_tape_error(t), "ad_scope_"), "%s",
                  ad_tape_error(t));
    } else {
        cr_assert(!t || ad_tape_status(t) == AD_OK, "allocation %lld: %s", (long long)at, ad_tape_error(t));
    }
    memory.fail_at = 0;
    give_back_taken();
    if (!t) t = ad_tape_new(&options);
    ad_tape_reset(t);
    outcome again = whole_step(t, &n);
    expect_ok(t);
    expect_same(&again, undisturbed, at);
    give_back_taken();
    ad_tape_free(t);
    net_free(&n);
    test_memory_close(&memory);
    return reached;
}

Test(memory, a_step_survives_the_refusal_of_each_of_its_allocations) {
    net n = net_new(NULL);
    ad_tape *t = ad_tape_new(NULL);
    outcome undisturbed = whole_step(t, &n);
    expect_ok(t);
    give_back_taken();
    ad_tape_free(t);
    net_free(&n);
    for (int how = 0; how < 4; how++) {
        int64_t at = 1;
        while (refuse(at, how & 1, how & 2, &undisturbed)) at++;
        cr_assert_gt(at, 40);
    }
}

Test(memory, a_parameter_survives_the_refusal_of_each_of_its_allocations) {
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        memory.fail_at = at;
        ad_param *param = NULL;
        ad_error error = {AD_OK, ""};
        ad_status status = ad_param_new(&param, &memory.allocator, "w", AD_F64, AD_SHAPE(3), NULL, &error);
        cr_assert_eq(status == AD_OK, param != NULL);
        if (status) expect_message(&error, AD_ERR_OOM, "parameter w", "out of memory");
        ad_param_unref(param);
        test_memory_close(&memory);
        if (status == AD_OK) {
            cr_assert_eq(at, 4);
            break;
        }
    }
}

/* The look for changed parameters takes a byte for each node, once a parameter was changed. */
Test(memory, a_walk_that_cannot_look_for_changed_parameters_is_refused) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(2), NULL, NULL);
    ad_var w = ad_use(t, param), y = ad_sum(w, AD_ALL_AXES, false);
    for (int i = 0; i < 100000; i++) y = ad_neg(y);
    ad_param_edit(param);
    memory.fail_at = memory.calls + 1;
    ad_backward(y);
    expect_error(t, AD_ERR_OOM, "ad_backward at test_memory.c", "out of memory");
    cr_assert(ad_param_gradient_is_complete(param));
    w = ad_use(t, param);
    ad_backward(ad_sum(w, AD_ALL_AXES, false));
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(param);
    test_memory_close(&memory);
}

/* ---- memory that others hold --------------------------------------------------------------------------------------------------- */

static void count_release(void *user) { ++*(int *)user; }

Test(memory, a_callers_buffer_is_used_in_place_and_given_back_once) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    double buffer[6] = {1, 2, 3, 4, 5, 6};
    ad_view view = ad_view_of(buffer, AD_F64, AD_SHAPE(2, 3)), columns;
    cr_assert_eq(ad_view_permute(&view, &AD_AXES(1, 0), &columns), AD_OK);
    int released = 0;
    for (int round = 1; round <= 2; round++) {
        ad_tensor *tensor;
        cr_assert_eq(ad_tensor_wrap(&tensor, &memory.allocator, &columns, count_release, &released, NULL), AD_OK);
        ad_var x = ad_leaf_tensor(t, "x", tensor), k = ad_constant_tensor(t, "k", tensor);
        ad_tensor_unref(tensor);
        cr_assert_eq((void *)ad_value(x).data, (void *)buffer);
        ad_var y = ad_mul(x, ad_mul(k, k));
        expect_values(ad_value(y), 1, 64, 8, 125, 27, 216);
        ad_backward(ad_sum(y, AD_ALL_AXES, false));
        expect_values(ad_gradient(x), 1, 16, 4, 25, 9, 36);
        expect_ok(t);
        cr_assert_eq(released, round - 1);
        ad_tape_reset(t);
        cr_assert_eq(released, round);
    }
    expect_values(view, 1, 2, 3, 4, 5, 6);
    ad_tape_free(t);
    test_memory_close(&memory);
}

Test(memory, what_was_taken_from_a_tape_outlives_it) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, 4, 5, 6}), y = ad_scale(x, 2);
    ad_backward(ad_sum(ad_mul(y, y), AD_ALL_AXES, false));
    ad_tensor *contribution;
    cr_assert_eq(ad_tape_contribution(t, y.index, 0, &contribution), AD_OK);
    ad_tensor *outlives[] = {ad_tensor_of(x), ad_tensor_of(ad_transpose(y)), ad_tensor_of(ad_scalar(t, "s", 7)),
                             ad_tensor_of(ad_index(t, -3)), contribution};
    expect_ok(t);
    for (int gone = 0; gone < 3; gone++) {
        expect_values(*ad_tensor_view(outlives[0]), 1, 2, 3, 4, 5, 6);
        expect_values(*ad_tensor_view(outlives[1]), 2, 8, 4, 10, 6, 12);
        expect_values(*ad_tensor_view(outlives[2]), 7);
        expect_values(*ad_tensor_view(outlives[3]), -3);
        expect_values(*ad_tensor_view(outlives[4]), 8, 16, 24, 32, 40, 48);
        if (gone == 0) {
            ad_tape_reset(t);
            (void)ad_scale(ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[6]){0}),
                           9); /* in their place, if it could */
        }
        if (gone == 1) ad_tape_free(t);
    }
    for (int i = 0; i < 5; i++) ad_tensor_unref(outlives[i]);
    test_memory_close(&memory);
}

/* ---- two tapes, two threads ------------------------------------------------------------------------------------------------------ */

enum { thread_steps = 50 };

static void *train(void *user) {
    net *n = user;
    ad_tape *t = ad_tape_new(NULL);
    for (int i = 0; i < thread_steps && ad_tape_status(t) == AD_OK; i++) {
        ad_var derived;
        ad_backward(net_loss(t, n, i % 2 ? &derived : NULL));
        net_descend(n);
        if (i < thread_steps - 1) ad_tape_reset(t);
    }
    bool ok = ad_tape_status(t) == AD_OK && ad_op_find("matmul") && ad_op_count() > 20;
    ad_tape_free(t);
    return ok ? n : NULL;
}

Test(memory, two_tapes_in_two_threads_do_not_meet) {
    net n[3];
    pthread_t thread[2];
    for (int i = 0; i < 3; i++) n[i] = net_new(NULL);
    for (int i = 0; i < 2; i++) cr_assert_eq(pthread_create(&thread[i], NULL, train, &n[i]), 0);
    for (int i = 0; i < 2; i++) {
        void *done = NULL;
        pthread_join(thread[i], &done);
        cr_assert_eq(done, (void *)&n[i]);
    }
    cr_assert_eq(train(&n[2]), (void *)&n[2]);
    outcome o[3];
    for (int i = 0; i < 3; i++) o[i] = outcome_of(&n[i], 0);
    for (int i = 0; i < 2; i++) expect_same(&o[i], &o[2], i);
    for (int i = 0; i < 3; i++) net_free(&n[i]);
}
