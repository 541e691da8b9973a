/* The number of threads changes no bit: of any op on its samples, of large arrays, and of whole training runs. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

/* ---- the bits of all that a tape holds ------------------------------------------------------------------------------- */

/* FNV-1a of the elements in row-major order. */
static uint64_t hash_view(uint64_t hash, const ad_view *view) {
    const int64_t n = ad_view_count(view);
    for (int64_t i = 0; i < n; i++) {
        const unsigned char *byte = test_at(view, i);
        for (size_t k = 0; k < ad_dtype_size(view->dtype); k++) hash = (hash ^ byte[k]) * 0x100000001b3;
    }
    return hash;
}

/* Of the values and gradients of all nodes. */
static uint64_t hash_tape(const ad_tape *tape) {
    uint64_t hash = 0xcbf29ce484222325;
    for (int64_t i = 0; i < ad_tape_size(tape); i++) {
        ad_node_info info;
        cr_assert_eq(ad_tape_node(tape, i, &info), AD_OK);
        hash = hash_view(hash, &info.value);
        if (info.has_gradient) hash = hash_view(hash, &info.gradient);
    }
    return hash;
}

/* With a gradient of random numbers. */
static void walk_back(ad_var y) {
    const ad_view value = ad_value(y);
    if (!ad_dtype_is_float(value.dtype)) return;
    ad_view seed = test_random(value.dtype, value.shape, TEST_DENSE, 5);
    ad_backward_options options = {.seed = ad_constant(y.tape, NULL, value.dtype, value.shape, seed.data)};
    ad_backward_with(y, &options);
}

/* Calls `digest`, with one thread and with some, and expects the same of each. Without force, little work is not shared. */
static void expect_same(uint64_t (*digest)(const void *), const void *what, const char *name, bool force) {
    ad_set_threads(1);
    const uint64_t alone = digest(what);
    for (int threads = 2; threads <= 3; threads++) {
        ad_set_threads(threads);
        atomic_store(&ad_parallel_forced, force);
        cr_assert_eq(digest(what), alone, "%s: %d threads give other bits", name, threads);
        atomic_store(&ad_parallel_forced, false);
    }
}

/* ---- every op, on its samples ------------------------------------------------------------------------------------------ */

typedef struct subject {
    const ad_op *op;
    const ad_sample *sample;
} subject;

static uint64_t digest_op(const void *what) {
    const subject *s = what;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[AD_MAX_SAMPLE_INPUTS], y[AD_MAX_RESULTS];
    for (int i = 0; i < s->sample->inputs; i++) x[i] = ad_leaf_tensor(t, NULL, s->sample->input[i]);
    ad_apply_at(NULL, t, s->op, s->sample->inputs, x, &s->sample->attrs, y);
    expect_ok(t);
    uint64_t hash = hash_tape(t);
    for (int i = 0; i < ad_op_results(s->op) && s->op->derivative == AD_DIFFERENTIABLE; i++) {
        walk_back(y[i]);
        expect_ok(t);
        hash = hash * 31 + hash_tape(t);
    }
    ad_tape_free(t);
    return hash;
}

static void check_samples(const ad_op *op, ad_dtype dtype) {
    for (int k = 0;; k++) {
        ad_sample sample = {.rng = {1, (uint64_t)k << 32}, .dtype = dtype, .allocator = ad_allocator_default()};
        const bool more = op->sample(&sample, k);
        if (more) expect_same(digest_op, &(subject){op, &sample}, op->name, true);
        for (int i = 0; i < sample.inputs; i++) ad_tensor_unref(sample.input[i]);
        if (!more) return;
    }
}

Test(parallel, every_op_gives_the_same_bits, .fini = test_arrays_free) {
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        check_samples(op, AD_F32);
        check_samples(op, AD_F64);
        test_arrays_free();
    }
    if (ad_threads() > 1) cr_assert_gt(ad_parallel_regions(), 1000);
}

/* ---- large arrays, in many shapes -------------------------------------------------------------------------------------- */

static ad_var leaf(ad_tape *t, ad_dtype dtype, ad_shape shape, uint64_t seed) {
    ad_view data = test_random(dtype, shape, TEST_DENSE, seed);
    return ad_leaf(t, NULL, dtype, shape, data.data);
}

static ad_var indices(ad_tape *t, ad_shape shape, int64_t bound) {
    ad_view data = test_random(AD_I64, shape, TEST_DENSE, 9);
    for (int64_t i = 0; i < ad_view_count(&data); i++) ((int64_t *)data.data)[i] = (i * 7919 + i / 3) % bound;
    return ad_constant(t, NULL, AD_I64, shape, data.data);
}

/* X(name, expression with the tape t and the dtype d) */
#define LEAF_OF(seed, ...) leaf(t, d, AD_SHAPE(__VA_ARGS__), seed)
#define LARGE(X)                                                                                                     \
    X(exp, ad_exp(LEAF_OF(1, 70000)))                                                                                \
    X(lgamma, ad_lgamma(LEAF_OF(1, 3, 500)))                                                                         \
    X(transposed, ad_tanh(ad_transpose(LEAF_OF(1, 301, 211))))                                                       \
    X(reversed, ad_mul(ad_flip(LEAF_OF(1, 60001), AD_AXES(0)), LEAF_OF(2, 60001)))                                   \
    X(short_axes, ad_mul(LEAF_OF(1, 5, 3, 7, 3, 5, 3, 11, 4), LEAF_OF(2, 5, 3, 7, 3, 5, 3, 11, 4)))                  \
    X(one_long_axis, ad_add(LEAF_OF(1, 2, 3, 20011), LEAF_OF(2, 3, 20011)))                                          \
    X(broadcast, ad_mul(LEAF_OF(1, 300, 1, 20), LEAF_OF(2, 40, 1)))                                                  \
    X(comparison, ad_where(ad_greater(LEAF_OF(1, 70001), LEAF_OF(2, 70001)), LEAF_OF(3, 70001), LEAF_OF(4, 70001)))  \
    X(sum, ad_sum(LEAF_OF(1, 300007), AD_ALL_AXES, false))                                                           \
    X(sum_of_transposed, ad_sum(ad_transpose(LEAF_OF(1, 457, 389)), AD_ALL_AXES, false))                             \
    X(sum_of_planes, ad_sum(ad_slice(LEAF_OF(1, 40, 70, 50), 1, 3, 68, 2), AD_ALL_AXES, false))                      \
    X(sum_rows, ad_sum(LEAF_OF(1, 130, 1201), AD_AXES(1), false))                                                    \
    X(sum_columns, ad_sum(LEAF_OF(1, 1201, 130), AD_AXES(0), true))                                                  \
    X(sum_few_columns, ad_sum(LEAF_OF(1, 30011, 5), AD_AXES(0), false))                                              \
    X(sum_middle, ad_sum(LEAF_OF(1, 30, 71, 65), AD_AXES(1), false))                                                 \
    X(sum_ends, ad_sum(LEAF_OF(1, 30, 71, 65), AD_AXES(0, 2), false))                                                \
    X(mean_of_images, ad_mean(LEAF_OF(1, 8, 12, 33, 31), AD_AXES(0, 2, 3), true))                                    \
    X(prod, ad_prod(LEAF_OF(1, 90, 1300), AD_AXES(0), false))                                                        \
    X(amax, ad_amax(LEAF_OF(1, 90, 1300), AD_AXES(1), false))                                                        \
    X(variance, ad_variance(LEAF_OF(1, 300, 401), AD_AXES(0), 1, false))                                             \
    X(logsumexp, ad_logsumexp(LEAF_OF(1, 4, 30007), AD_AXES(1), false))                                              \
    X(norm, ad_norm(LEAF_OF(1, 120011), 2, AD_ALL_AXES, false))                                                      \
    X(matmul, ad_matmul(LEAF_OF(1, 147, 203), LEAF_OF(2, 203, 131)))                                                 \
    X(matmul_wide, ad_matmul(LEAF_OF(1, 17, 500), LEAF_OF(2, 500, 401)))                                             \
    X(matmul_tall, ad_matmul(LEAF_OF(1, 1003, 60), LEAF_OF(2, 60, 13)))                                              \
    X(matmul_vector, ad_matmul(LEAF_OF(1, 1003, 900), LEAF_OF(2, 900)))                                              \
    X(matmul_stack, ad_matmul(LEAF_OF(1, 12, 45, 40), LEAF_OF(2, 12, 40, 37)))                                       \
    X(matmul_stack_of_transposed, ad_matmul(LEAF_OF(1, 3, 4, 45, 40), ad_transpose(LEAF_OF(2, 4, 37, 40))))          \
    X(matmul_large_stack, ad_matmul(LEAF_OF(1, 2, 145, 140), LEAF_OF(2, 2, 140, 137)))                               \
    X(linear, ad_linear(LEAF_OF(1, 6, 50, 120), LEAF_OF(2, 150, 120), LEAF_OF(3, 150)))                              \
    X(einsum, ad_einsum("bij,bkj->bik", 2, ((ad_var[]){LEAF_OF(1, 7, 41, 60), LEAF_OF(2, 7, 43, 60)})))              \
    X(softmax, ad_softmax(LEAF_OF(1, 200, 300), 1))                                                                  \
    X(softmax_along_0, ad_softmax(LEAF_OF(1, 200, 300), 0))                                                          \
    X(log_softmax, ad_log_softmax(LEAF_OF(1, 7, 90, 100), 1))                                                        \
    X(xent, ad_softmax_xent(LEAF_OF(1, 300, 211), indices(t, AD_SHAPE(300), 211)))                                   \
    X(xent_soft, ad_softmax_xent(LEAF_OF(1, 300, 211), ad_softmax(LEAF_OF(2, 300, 211), 1)))                         \
    X(layer_norm, ad_layer_norm(LEAF_OF(1, 20, 31, 96), 1, LEAF_OF(2, 96), LEAF_OF(3, 96), 1e-5))                    \
    X(batch_norm, ad_batch_norm(LEAF_OF(1, 9, 12, 25, 27), LEAF_OF(2, 12), LEAF_OF(3, 12), 1e-5, NULL, NULL))        \
    X(batch_norm_of_columns,                                                                                         \
      ad_batch_norm(LEAF_OF(1, 500, 200), LEAF_OF(2, 200), LEAF_OF(3, 200), 1e-5, NULL, NULL))                       \
    X(group_norm, ad_group_norm(LEAF_OF(1, 9, 12, 25, 27), 3, LEAF_OF(2, 12), LEAF_OF(3, 12), 1e-5))                 \
    X(conv2d, ad_conv2d(LEAF_OF(1, 5, 6, 23, 19), LEAF_OF(2, 10, 6, 3, 3), LEAF_OF(3, 10),                           \
                        (&(ad_conv_options){.padding = {1, 1}})))                                                    \
    X(conv2d_of_many_channels, ad_conv2d(LEAF_OF(1, 5, 33, 14, 9), LEAF_OF(2, 48, 33, 3, 3), LEAF_OF(3, 48),         \
                                         (&(ad_conv_options){.padding = {1, 1}})))                                   \
    X(conv2d_of_one_image, ad_conv2d(LEAF_OF(1, 1, 3, 90, 70), LEAF_OF(2, 16, 3, 5, 5), AD_NONE, NULL))              \
    X(conv2d_in_groups, ad_conv2d(LEAF_OF(1, 2, 12, 23, 19), LEAF_OF(2, 9, 4, 3, 3), AD_NONE,                        \
                                  (&(ad_conv_options){.stride = {2, 1}, .groups = 3})))                              \
    X(conv2d_of_points, ad_conv2d(LEAF_OF(1, 5, 16, 23, 19), LEAF_OF(2, 10, 16, 1, 1), AD_NONE, NULL))               \
    X(conv_transpose2d, ad_conv_transpose2d(LEAF_OF(1, 5, 10, 13, 9), LEAF_OF(2, 10, 6, 3, 3), LEAF_OF(3, 6), NULL)) \
    X(max_pool2d, ad_max_pool2d(LEAF_OF(1, 5, 8, 41, 40), (&(ad_pool_options){.kernel = {2, 3}}), NULL))             \
    X(avg_pool2d, ad_avg_pool2d(LEAF_OF(1, 5, 8, 41, 40), (&(ad_pool_options){.kernel = {2, 3}})))                   \
    X(attention, ad_attention(LEAF_OF(1, 3, 4, 90, 16), LEAF_OF(2, 3, 4, 150, 16), LEAF_OF(3, 3, 4, 150, 20),        \
                              AD_NONE, 0.25, false))                                                                 \
    X(attention_causal,                                                                                              \
      ad_attention(LEAF_OF(1, 3, 200, 16), LEAF_OF(2, 3, 200, 16), LEAF_OF(3, 3, 200, 16), AD_NONE, 0.25, true))     \
    X(attention_masked, ad_attention(LEAF_OF(1, 2, 3, 70, 8), LEAF_OF(2, 2, 3, 90, 8), LEAF_OF(3, 2, 3, 90, 8),      \
                                     LEAF_OF(4, 3, 1, 90), 0.25, false))                                             \
    X(attention_alone,                                                                                               \
      ad_attention(LEAF_OF(1, 200, 16), LEAF_OF(2, 300, 16), LEAF_OF(3, 300, 24), AD_NONE, 0.25, false))             \
    X(embedding, ad_embedding(LEAF_OF(1, 100, 64), indices(t, AD_SHAPE(20, 50), 100)))                               \
    X(gather, ad_gather(LEAF_OF(1, 300, 70), 1, indices(t, AD_SHAPE(300, 40), 70)))                                  \
    X(index_add, ad_index_add(LEAF_OF(1, 30, 90, 7), 1, indices(t, AD_SHAPE(200), 90), LEAF_OF(2, 30, 200, 7)))      \
    X(cat, ad_cat(2, (ad_var[]){LEAF_OF(1, 200, 150), LEAF_OF(2, 200, 171)}, 1))                                     \
    X(contiguous, ad_contiguous(ad_permute(LEAF_OF(1, 40, 50, 35), AD_AXES(2, 0, 1))))                               \
    X(fold, ad_fold(LEAF_OF(1, 7, 300, 40), 1, 3, 937))                                                              \
    X(fold_of_one, ad_fold(LEAF_OF(1, 9000, 64), 0, 1, 9063))                                                        \
    X(unfold, ad_unfold(LEAF_OF(1, 70, 900), 1, 40, 3))                                                              \
    X(cumsum, ad_cumsum(LEAF_OF(1, 150, 300), 1, false))                                                             \
    X(cumsum_down, ad_cumsum(LEAF_OF(1, 150, 300), 0, true))                                                         \
    X(max, ad_max(LEAF_OF(1, 20, 150, 30), 1, false, NULL))                                                          \
    X(median, ad_median(LEAF_OF(1, 150, 300), 1, false, NULL))                                                       \
    X(sort, ad_sort(LEAF_OF(1, 150, 300), 1, false, NULL))                                                           \
    X(sort_down, ad_sort(LEAF_OF(1, 150, 300), 0, true, NULL))                                                       \
    X(rope, ad_rope(LEAF_OF(1, 3, 100, 64), 10000, 5))                                                               \
    X(rope_of_one, ad_rope(LEAF_OF(1, 300, 64), 10000, 5))                                                           \
    X(dropout, ad_dropout(LEAF_OF(1, 30, 2000), 0.3, (&(ad_rng){3, 4})))                                             \
    X(dropout_of_transposed, ad_dropout(ad_transpose(LEAF_OF(1, 30, 2000)), 0.3, (&(ad_rng){3, 4})))                 \
    X(randn, ad_mul(ad_randn(t, NULL, d, AD_SHAPE(3, 20000), (&(ad_rng){5, 1})), LEAF_OF(1, 20000)))                 \
    X(rand, ad_mul(ad_rand(t, NULL, d, AD_SHAPE(3, 20000), (&(ad_rng){5, 1})), LEAF_OF(1, 20000)))

#define X(name, expression)                                                                                          \
    static ad_var large_##name(ad_tape *t, ad_dtype d) { return expression; }
LARGE(X)
#undef X

typedef struct large_case {
    const char *name;
    ad_var (*make)(ad_tape *t, ad_dtype dtype);
    ad_dtype dtype;
} large_case;

static uint64_t digest_large(const void *what) {
    const large_case *c = what;
    ad_tape *t = ad_tape_new(NULL);
    walk_back(c->make(t, c->dtype));
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s: %s", c->name, ad_tape_error(t));
    uint64_t hash = hash_tape(t);
    ad_tape_free(t);
    test_arrays_free();
    return hash;
}

#if defined AD_HAVE_CBLAS
enum { WITH_CBLAS = 1 };
#else
enum { WITH_CBLAS = 0 };
#endif

/* Products by a CBLAS library have its threads, not ours. */
static void check_large(bool force) {
    large_case cases[] = {
#define X(name, expression) {#name, large_##name, AD_F32},
        LARGE(X)
#undef X
    };
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        for (cases[i].dtype = AD_F32; cases[i].dtype <= AD_F64; cases[i].dtype++) {
            const uint64_t before = ad_parallel_regions();
            expect_same(digest_large, &cases[i], cases[i].name, force);
            if (force && ad_threads() > 1 && !(WITH_CBLAS && strncmp(cases[i].name, "matmul", 6) == 0))
                cr_expect_gt(ad_parallel_regions(), before, "%s: nothing was shared", cases[i].name);
        }
    }
}
Test(parallel, large_arrays_give_the_same_bits) { check_large(false); }
Test(parallel, large_arrays_give_the_same_bits_in_many_pieces) { check_large(true); }

/* ---- training ------------------------------------------------------------------------------------------------------------ */

enum { BATCH = 64, SIDE = 16, PIXELS = SIDE * SIDE, CLASSES = 10, HIDDEN = 96, FILTERS = 8, STEPS = 6, WEIGHTS = 6 };

/* A perceptron with normalisation, or a small convolutional net, and its optimiser. */
typedef struct net {
    bool convolves;
    ad_param *weight[WEIGHTS];
    int weights;
    ad_optim *optim;
} net;

static void add_weight(net *n, const ad_allocator *allocator, ad_shape shape, double scale, double shift) {
    ad_rng rng = {.seed = (uint64_t)n->weights + 3};
    ad_param **w = &n->weight[n->weights++];
    cr_assert_eq(ad_param_new(w, allocator, NULL, AD_F32, shape, NULL, NULL), AD_OK);
    float *value = ad_param_edit(*w)->data;
    for (int64_t i = 0; i < ad_shape_count(&shape); i++) value[i] = (float)(shift + scale * ad_rng_normal(&rng));
}

static net net_new(const ad_allocator *allocator, bool convolves) {
    net n = {.convolves = convolves};
    const int64_t features = convolves ? FILTERS * PIXELS / 4 : HIDDEN;
    if (convolves) {
        add_weight(&n, allocator, AD_SHAPE(FILTERS, 1, 3, 3), 0.3, 0);
        add_weight(&n, allocator, AD_SHAPE(FILTERS), 0, 0);
    } else {
        add_weight(&n, allocator, AD_SHAPE(PIXELS, HIDDEN), 0.06, 0);
        add_weight(&n, allocator, AD_SHAPE(HIDDEN), 0, 0);
        add_weight(&n, allocator, AD_SHAPE(HIDDEN), 0, 1);
        add_weight(&n, allocator, AD_SHAPE(HIDDEN), 0, 0);
    }
    add_weight(&n, allocator, AD_SHAPE(features, CLASSES), 0.05, 0);
    add_weight(&n, allocator, AD_SHAPE(CLASSES), 0, 0);
    cr_assert_eq(ad_adamw_new(&n.optim, allocator, n.weights, n.weight, NULL, NULL), AD_OK);
    return n;
}

static void net_free(net *n) {
    ad_optim_free(n->optim);
    for (int i = 0; i < n->weights; i++) ad_param_unref(n->weight[i]);
}

static ad_var net_loss(ad_tape *t, const net *n, ad_rng *rng) {
    static _Thread_local float images[BATCH * PIXELS];
    int32_t class[BATCH];
    ad_var w[WEIGHTS], y;
    for (int i = 0; i < BATCH; i++) {
        class[i] = (int32_t)ad_rng_below(rng, CLASSES);
        for (int k = 0; k < PIXELS; k++)
            images[i * PIXELS + k] = (float)(k / SIDE == class[i]) + 0.3f * (float)ad_rng_normal(rng);
    }
    for (int i = 0; i < n->weights; i++) w[i] = ad_use(t, n->weight[i]);
    const ad_var target = ad_constant(t, NULL, AD_I32, AD_SHAPE(BATCH), class);
    if (n->convolves) {
        const ad_var x = ad_constant(t, NULL, AD_F32, AD_SHAPE(BATCH, 1, SIDE, SIDE), images);
        y = ad_relu(ad_conv2d(x, w[0], w[1], (&(ad_conv_options){.padding = {1, 1}})));
        y = ad_max_pool2d(y, (&(ad_pool_options){.kernel = {2, 2}}), NULL);
        y = ad_reshape(y, AD_SHAPE(BATCH, FILTERS * PIXELS / 4));
    } else {
        const ad_var x = ad_constant(t, NULL, AD_F32, AD_SHAPE(BATCH, PIXELS), images);
        y = ad_layer_norm(ad_gelu(ad_add(ad_matmul(x, w[0]), w[1])), 1, w[2], w[3], 1e-5);
        y = ad_dropout(y, 0.1, rng);
    }
    y = ad_add(ad_matmul(y, w[n->weights - 2]), w[n->weights - 1]);
    return ad_mean(ad_softmax_xent(y, target), AD_ALL_AXES, false);
}

/* Steps `first` to `last` of a run. */
static void train(ad_tape *t, net *n, int first, int last) {
    for (int i = first; i < last; i++) {
        ad_rng rng = {.seed = 17, .counter = (uint64_t)i << 32};
        ad_backward(net_loss(t, n, &rng));
        ad_clip_gradients(n->weights, n->weight, 1, NULL, NULL);
        cr_assert_eq(ad_optim_step(n->optim, NULL), AD_OK);
        expect_ok(t);
        ad_tape_reset(t);
    }
}

static uint64_t digest_run(const void *what) {
    ad_tape *t = ad_tape_new(NULL);
    net n = net_new(NULL, *(const bool *)what);
    uint64_t hash = 0;
    train(t, &n, 0, STEPS);
    for (int i = 0; i < n.weights; i++) hash = hash_view(hash, ad_param_value(n.weight[i]));
    net_free(&n);
    ad_tape_free(t);
    return hash;
}

Test(parallel, whole_training_runs_give_the_same_bits) {
    for (int convolves = 0; convolves < 2; convolves++) {
        const bool what = convolves;
        expect_same(digest_run, &what, what ? "a convolutional net" : "a perceptron", false);
        expect_same(digest_run, &what, what ? "a convolutional net" : "a perceptron", true);
    }
}

Test(parallel, training_allocates_nothing_after_the_first_step) {
    ad_set_threads(3);
    atomic_store(&ad_parallel_forced, true);
    for (int convolves = 0; convolves < 2; convolves++) {
        test_memory memory;
        test_memory_open(&memory);
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
        net n = net_new(&memory.allocator, convolves);
        train(t, &n, 0, 2);
        const int64_t calls = memory.calls;
        train(t, &n, 2, STEPS);
        cr_expect_eq(memory.calls, calls, "%d more", (int)(memory.calls - calls));
        net_free(&n);
        ad_tape_free(t);
        test_memory_close(&memory);
    }
}

/* ---- several tapes -------------------------------------------------------------------------------------------------------- */

static void *run_by_itself(void *hash) {
    const bool convolves = *(uint64_t *)hash;
    *(uint64_t *)hash = digest_run(&convolves);
    return NULL;
}

Test(parallel, two_tapes_in_two_threads_share_the_pool) {
    const bool what[] = {false, true};
    ad_set_threads(1);
    const uint64_t alone[] = {digest_run(&what[0]), digest_run(&what[1])};
    ad_set_threads(3);
    atomic_store(&ad_parallel_forced, true);
    for (int round = 0; round < 3; round++) {
        pthread_t thread[2];
        uint64_t hash[] = {0, 1};
        for (int i = 0; i < 2; i++) cr_assert_eq(pthread_create(&thread[i], NULL, run_by_itself, &hash[i]), 0);
        for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
        for (int i = 0; i < 2; i++) cr_assert_eq(hash[i], alone[i]);
    }
}
