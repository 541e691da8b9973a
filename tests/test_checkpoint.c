/* Checkpoints: gradients to the bit those without them, the price in steps and in memory, and what is refused. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/checkpoint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

/* ---- a model ------------------------------------------------------------------------------------------------------- */

enum { rows = 3, width = 5, blocks = 4 };

typedef enum way { PLAIN, CHECKPOINT, NESTED, STEPS, WAYS } way;

/* Blocks of h = drop(tanh(h W + b)) + scale h + x, with W a parameter used inside, b used twice, scale a variable from
 * outside, and a running sum as a second result. */
typedef struct model {
    ad_param *W, *b;
    ad_rng rng;
    way how;
    ad_var scale, x; /* captured */
    int calls;
    bool has_leaves; /* the parameters are put on the tape once, outside */
    ad_var W_leaf, b_leaf;
} model;

static model model_new(const ad_allocator *allocator) {
    model m = {.rng = {.seed = 5, .counter = 0}};
    ad_param_new(&m.W, allocator, "W", AD_F64, AD_SHAPE(width, width), NULL, NULL);
    ad_param_new(&m.b, allocator, "b", AD_F64, AD_SHAPE(width), NULL, NULL);
    cr_assert(m.W && m.b);
    ad_rng rng = {.seed = 3, .counter = 0};
    for (int i = 0; i < width * width; i++) ((double *)ad_param_edit(m.W)->data)[i] = 0.4 * ad_rng_normal(&rng);
    for (int i = 0; i < width; i++) ((double *)ad_param_edit(m.b)->data)[i] = 0.1 * ad_rng_normal(&rng);
    return m;
}

static void model_free(const model *m) {
    ad_param_unref(m->W);
    ad_param_unref(m->b);
}

static ad_var W_of(ad_tape *t, model *m) { return m->has_leaves ? m->W_leaf : ad_use(t, m->W); }
static ad_var b_of(ad_tape *t, model *m) { return m->has_leaves ? m->b_leaf : ad_use(t, m->b); }

/* in: h W + b; out: tanh of it, dropped. */
static void inner(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    model *m = user;
    cr_assert(n == 1 && results == 1);
    ad_scope_begin(t, "inner");
    ad_var h = ad_add(ad_matmul(in[0], W_of(t, m)), b_of(t, m));
    out[0] = ad_dropout(ad_tanh(h), 0.25, &m->rng);
    ad_scope_end(t);
}

/* in, out: h and the sum so far. */
static void block(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    model *m = user;
    cr_assert(n == 2 && results == 2);
    m->calls++;
    ad_var h;
    if (m->how == NESTED) {
        ad_checkpoint(t, inner, m, 1, in, 1, &h);
    } else {
        inner(t, in, 1, &h, 1, m);
    }
    h = ad_add(h, ad_mul(m->scale, in[0]));
    h = ad_add(ad_add(h, m->x), ad_mul(b_of(t, m), in[0]));
    out[0] = h;
    out[1] = ad_add(in[1], ad_mean(ad_mul(h, h), AD_ALL_AXES, false));
}

static void block_step(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    cr_assert(number >= 0 && number < blocks);
    block(t, state, n, next, n, user);
}

static ad_var input(ad_tape *t, uint64_t seed) {
    ad_rng rng = {.seed = seed, .counter = 0};
    double data[rows * width];
    for (int i = 0; i < rows * width; i++) data[i] = ad_rng_normal(&rng);
    return ad_leaf(t, "x", AD_F64, AD_SHAPE(rows, width), data);
}

/* Records the whole, and returns the loss. */
static ad_var model_loss(ad_tape *t, model *m, way how) {
    m->rng = (ad_rng){.seed = 5, .counter = 0};
    m->how = how;
    m->x = input(t, 1);
    m->scale = ad_scalar(t, "scale", 0.7);
    m->W_leaf = ad_use(t, m->W);
    m->b_leaf = ad_use(t, m->b);
    ad_var state[] = {m->x, ad_scalar(t, "sum", 0.5)};
    if (how == STEPS) {
        ad_checkpoint_steps(t, block_step, m, blocks, 2, 2, state, state);
    } else {
        for (int i = 0; i < blocks; i++) {
            ad_var next[2];
            if (how == PLAIN) {
                block(t, state, 2, next, 2, m);
            } else {
                ad_checkpoint(t, block, m, 2, state, 2, next);
            }
            state[0] = next[0], state[1] = next[1];
        }
    }
    return ad_add(ad_mean(ad_sin(state[0]), AD_ALL_AXES, false), state[1]);
}

/* ---- to the bit ------------------------------------------------------------------------------------------------------ */

typedef struct outcome {
    double loss, x[rows * width], scale, W[width * width], b[width];
    ad_rng rng;
} outcome;

static void copy_out(double *to, ad_view view) {
    for (int64_t i = 0; i < ad_view_count(&view); i++) to[i] = ad_view_get(&view, i);
}

static outcome outcome_of(const model *m, ad_var loss, bool with_scale) {
    outcome o;
    memset(&o, 0, sizeof o);
    o.loss = ad_item(loss);
    copy_out(o.x, ad_gradient(m->x));
    if (with_scale) o.scale = ad_gradient_item(m->scale);
    copy_out(o.W, *ad_param_gradient(m->W));
    copy_out(o.b, *ad_param_gradient(m->b));
    o.rng = m->rng;
    return o;
}

static outcome run(way how, bool has_leaves, int variant) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    m.has_leaves = has_leaves;
    ad_var loss = model_loss(t, &m, how);
    ad_backward_options options = {.leaves_only = variant == 1, .accumulate = variant == 2};
    ad_var wrt[] = {m.x};
    if (variant == 3) options.wrt = wrt, options.wrt_count = 1;
    ad_backward_with(loss, &options);
    if (variant == 2) ad_backward_with(loss, &options);
    expect_ok(t);
    outcome o = outcome_of(&m, loss, variant != 3);
    ad_tape_free(t);
    model_free(&m);
    return o;
}

Test(checkpoint, gradients_are_to_the_bit_those_without_it) {
    for (int has_leaves = 0; has_leaves < 2; has_leaves++)
        for (int variant = 0; variant < 4; variant++) {
            outcome plain = run(PLAIN, has_leaves, variant);
            cr_assert(plain.W[3] != 0 || variant == 3);
            for (way how = CHECKPOINT; how < WAYS; how++) {
                if (how == STEPS && !has_leaves) continue; /* adds the steps of a parameter in another order */
                outcome got = run(how, has_leaves, variant);
                cr_assert_eq(memcmp(&got, &plain, sizeof got), 0, "way %d, variant %d, leaves %d: %.17g %.17g", how,
                             variant, has_leaves, got.x[0], plain.x[0]);
            }
        }
}

Test(checkpoint, a_parameter_that_a_sequence_puts_on_the_tape_gets_the_gradient_of_all_steps) {
    outcome plain = run(PLAIN, false, 0), got = run(STEPS, false, 0);
    for (int i = 0; i < width * width; i++) expect_near(got.W[i], plain.W[i], 1e-14);
    for (int i = 0; i < width; i++) expect_near(got.b[i], plain.b[i], 1e-14);
}

/* The order of the nodes is another, so that second derivatives add up in another order. */
Test(checkpoint, recorded_gradients_are_the_same_and_can_be_differentiated_again) {
    double plain[rows * width] = {0};
    outcome second = {.loss = 0};
    for (way how = PLAIN; how < WAYS; how++) {
        ad_tape *t = ad_tape_new(NULL);
        model m = model_new(NULL);
        m.has_leaves = true;
        ad_var loss = model_loss(t, &m, how), x[] = {m.x, m.scale, m.W_leaf}, g[3];
        ad_grad(loss, (ad_var){0}, 3, x, g);
        double got[rows * width];
        copy_out(got, ad_value(g[0]));
        ad_var norm = ad_add(ad_sum(ad_mul(g[0], g[0]), AD_ALL_AXES, false), ad_mul(g[1], g[1]));
        ad_backward(norm);
        expect_ok(t);
        outcome o = outcome_of(&m, norm, true);
        if (how == PLAIN) memcpy(plain, got, sizeof plain), second = o;
        cr_assert(plain[1] != 0 && second.W[1] != 0 && second.scale != 0);
        cr_assert_eq(memcmp(got, plain, sizeof plain), 0, "way %d: %.17g %.17g", how, got[0], plain[0]);
        expect_near(o.scale, second.scale, 1e-13);
        for (int i = 0; i < width * width; i++) expect_near(o.W[i], second.W[i], 1e-13);
        for (int i = 0; i < rows * width; i++) expect_near(o.x[i], second.x[i], 1e-13);
        ad_tape_free(t);
        model_free(&m);
    }
}

Test(checkpoint, tangents_pass_through) {
    double plain = 0, plain_derived = 0;
    for (way how = PLAIN; how < WAYS; how++) {
        ad_tape *t = ad_tape_new(NULL);
        model m = model_new(NULL);
        ad_var loss = model_loss(t, &m, how), from[] = {m.x, m.scale}, along[] = {input(t, 2), ad_scalar(t, "", 0.3)};
        ad_var moved, derived;
        ad_pushforward(2, from, along, 1, &loss, &moved);
        ad_grad(moved, (ad_var){0}, 1, &m.scale, &derived);
        expect_ok(t);
        if (how == PLAIN) plain = ad_item(moved), plain_derived = ad_item(derived);
        cr_assert(plain != 0 && plain_derived != 0);
        cr_assert_eq(ad_item(moved), plain, "way %d: %.17g, %.17g", how, ad_item(moved), plain);
        expect_near(ad_item(derived), plain_derived, 1e-13);
        ad_tape_free(t);
        model_free(&m);
    }
}

Test(checkpoint, the_functions_run_once_more_in_each_walk) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    ad_var loss = model_loss(t, &m, CHECKPOINT);
    cr_assert_eq(m.calls, blocks);
    ad_rng rng = m.rng;
    for (int i = 2; i < 5; i++) {
        ad_backward(loss);
        expect_ok(t);
        cr_assert_eq(m.calls, i * blocks);
        cr_assert(m.rng.counter == rng.counter && m.rng.counter > 0, "the generator moved in a replay");
    }
    ad_tape_free(t);
    model_free(&m);
}

enum { TEXT_SIZE = 1 << 17 };

static bool append(void *user, const char *text, size_t size) {
    char *all = user;
    size_t length = strlen(all);
    cr_assert_lt(length + size, TEXT_SIZE);
    memcpy(all + length, text, size);
    all[length + size] = '\0';
    return true;
}

Test(checkpoint, keeps_no_nodes_and_shows_its_contributions) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    ad_var loss = model_loss(t, &m, PLAIN);
    int64_t plain = ad_tape_size(t);
    ad_backward(loss);
    outcome want = outcome_of(&m, loss, true);
    ad_tape_reset(t);
    loss = model_loss(t, &m, CHECKPOINT);
    cr_assert_lt(ad_tape_size(t), plain - 20);
    ad_backward(loss);
    expect_ok(t);
    /* What each operation contributed to x adds up to its gradient, recomputed through the functions. */
    double sum[rows * width] = {0};
    ad_contributors *c;
    cr_assert_eq(ad_contributors_new(&c, t, m.x.index, m.x.index + 1, 0), AD_OK);
    int calls = m.calls;
    for (int64_t i = 0; i < ad_contributors_count(c, m.x.index); i++) {
        ad_contribution by;
        ad_tensor *piece = NULL;
        cr_assert(ad_contributors_at(c, m.x.index, i, &by));
        cr_assert_eq(ad_tape_contribution(t, by.consumer, by.input, &piece), AD_OK);
        for (int k = 0; piece && k < rows * width; k++) sum[k] += ad_view_get(ad_tensor_view(piece), k);
        ad_tensor_unref(piece);
    }
    cr_assert_eq(m.calls, calls + blocks);
    for (int k = 0; k < rows * width; k++) expect_near(sum[k], want.x[k], 1e-13);
    ad_contributors_free(c);
    expect_ok(t);
    static char text[TEXT_SIZE];
    cr_assert_eq(ad_tape_dump_to(t, &(ad_dump_options){.width = -1}, append, text), AD_OK);
    cr_assert(strstr(text, "f(x, ") && strstr(text, " nodes not kept"), "%s", text);
    ad_tape_free(t);
    model_free(&m);
}

/* ---- results of every kind -------------------------------------------------------------------------------------------- */

/* in: x, y; out: what was given, one value twice, an integer, a view, a view of a parameter, the parameter, a constant */
static void odd_results(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    cr_assert(n == 2 && results == 8);
    ad_var product = ad_mul(in[0], in[1]), w = ad_use(t, user);
    out[0] = in[1];
    out[1] = out[2] = product;
    out[3] = ad_argmax(product, -1, true);
    out[4] = ad_transpose(ad_exp(product));
    out[5] = ad_transpose(w);
    out[6] = w;
    out[7] = CONSTANT(t, 1, 2);
}

static outcome odd(bool checkpoint) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    m.x = input(t, 1);
    ad_var in[] = {m.x, input(t, 2)}, out[8], at;
    if (checkpoint) {
        ad_checkpoint(t, odd_results, m.W, 2, in, 8, out);
    } else {
        odd_results(t, in, 2, out, 8, m.W);
    }
    cr_assert_eq(out[0].index, in[1].index, "what is given back as it was stays that variable");
    cr_assert_eq(out[1].index, out[2].index);
    ad_node_info info;
    ad_tape_node(t, out[6].index, &info);
    cr_assert_eq(info.param, m.W);
    at = ad_mean(ad_mul(ad_mul(out[1], out[2]), out[0]), AD_ALL_AXES, false);
    at = ad_add(at, ad_sum(ad_matmul(out[4], ad_matmul(out[0], out[5])), AD_ALL_AXES, false));
    at = ad_add(at, ad_mul(ad_sum(ad_mul(out[6], out[6]), AD_ALL_AXES, false), ad_sum(out[7], AD_ALL_AXES, false)));
    at = ad_add(at, ad_mean(ad_gather(out[1], -1, out[3]), AD_ALL_AXES, false));
    ad_backward(at);
    expect_ok(t);
    outcome o = outcome_of(&m, at, false);
    ad_tape_free(t);
    model_free(&m);
    return o;
}

Test(checkpoint, results_may_be_what_was_given_and_of_any_kind) {
    outcome plain = odd(false), got = odd(true);
    cr_assert(plain.x[2] != 0 && plain.W[1] != 0);
    cr_assert_eq(memcmp(&got, &plain, sizeof got), 0, "%.17g %.17g", got.x[0], plain.x[0]);
}

static void all_given_back(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    cr_assert(n == 1 && results == 1 && !user);
    (void)ad_exp(in[0]);
    (void)t;
    out[0] = in[0];
}

static void from_nothing(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    cr_assert(n == 0 && results == 1);
    out[0] = ad_exp(*(ad_var *)user);
    (void)t, (void)in;
}

Test(checkpoint, a_function_may_give_back_what_it_got_or_get_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y;
    int64_t size = ad_tape_size(t);
    cr_assert_eq(ad_checkpoint(t, all_given_back, NULL, 1, &x, 1, &y), AD_OK);
    cr_assert_eq(y.index, x.index);
    cr_assert_eq(ad_tape_size(t), size, "nothing is left of it");
    cr_assert_eq(ad_checkpoint(t, from_nothing, &x, 0, NULL, 1, &y), AD_OK);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_ok(t);
    ad_view gradient = ad_gradient(x);
    expect_near(ad_view_get(&gradient, 1), exp(2), 1e-15);
    ad_tape_free(t);
}

/* ---- what is refused -------------------------------------------------------------------------------------------------- */

static double factor;
static int extra_draws;
static ad_rng generator;

static void changing(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    (void)n, (void)results, (void)user;
    out[0] = ad_scale(in[0], factor);
    for (int i = 0; i < extra_draws; i++) out[0] = ad_add(out[0], ad_randn(t, NULL, AD_F64, AD_SHAPE(2), &generator));
}

static void unset(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    (void)t, (void)in, (void)n, (void)out, (void)results, (void)user;
}
static void resetting(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    ad_tape_reset(t);
    unset(t, in, n, out, results, user);
}
static void leaving_scope(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    ad_scope_begin(t, "open");
    changing(t, in, n, out, results, user);
}
static void walking(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    changing(t, in, n, out, results, user);
    ad_backward(ad_sum(out[0], AD_ALL_AXES, false));
}
static void rewinding(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    ad_tape_rewind(t, *(ad_mark *)user);
    (void)in, (void)n, (void)results;
    out[0] = LEAF(t, 1);
}
static void failing(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    (void)n, (void)results, (void)user;
    out[0] = ad_add(in[0], LEAF(t, 1, 2, 3));
}
/* Resets when it runs again. */
static int resets_at;
static void resetting_later(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    if (resets_at-- == 0) {
        resetting(t, in, n, out, results, user);
        (void)LEAF(t, 1, 2, 3, 4);
    } else {
        changing(t, in, n, out, results, user);
    }
}

Test(checkpoint, a_function_that_misbehaves_is_reported) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y;
    factor = 2;
    cr_assert_eq(ad_checkpoint(t, unset, NULL, 1, &x, 1, &y), AD_ERR_HANDLE);
    cr_assert_eq(y.tape, t);
    expect_error(t, AD_ERR_HANDLE, "ad_checkpoint at test_checkpoint.c:", "result 0 of the function", "never set");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, resetting, NULL, 1, &x, 1, &y);
    expect_error(t, AD_ERR_HANDLE, "reset the tape");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, leaving_scope, NULL, 1, &x, 1, &y);
    expect_error(t, AD_ERR_VALUE, "left a scope open");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, walking, NULL, 1, &x, 1, &y);
    expect_error(t, AD_ERR_VALUE, "ad_backward at", "cannot walk back", "ad_grad");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, failing, NULL, 1, &x, 1, &y);
    cr_assert_eq(ad_tape_size(t), 1, "what a failing function recorded is forgotten");
    expect_error(t, AD_ERR_SHAPE, "add at test_checkpoint.c:");
    ad_mark mark = ad_tape_mark(t);
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, rewinding, &mark, 1, &x, 1, &y);
    expect_error(t, AD_ERR_VALUE, "rewound the tape to before its own beginning");
    ad_tape_free(t);
}

Test(checkpoint, a_replay_that_differs_is_reported) {
    ad_tape *t = ad_tape_new(NULL);
    for (int how = 0; how < 5; how++) {
        ad_var x = LEAF(t, 1, 2), y, g;
        factor = 2;
        extra_draws = how == 2 ? 2 : 0;
        generator = (ad_rng){.seed = 1, .counter = 0};
        resets_at = how >= 3 ? 1 : -1;
        ad_checkpoint(t, how >= 3 ? resetting_later : changing, NULL, 1, &x, 1, &y);
        if (how == 0) factor = 2.5;
        extra_draws = how == 1 ? 1 : how == 2 ? 1 : 0;
        y = ad_sum(y, AD_ALL_AXES, false);
        if (how == 4) {
            ad_grad(y, (ad_var){0}, 1, &x, &g);
        } else {
            ad_backward(y);
        }
        if (how == 0)
            expect_error(t, AD_ERR_CHANGED, "ad_checkpoint at test_checkpoint.c:", "result 0",
                         "was 2 at element 0 and became 2.5", "through `user`");
        if (how == 1) expect_error(t, AD_ERR_CHANGED, "randn at", "drew more random numbers");
        if (how == 2) expect_error(t, AD_ERR_VALUE, "drew fewer random numbers");
        if (how >= 3) expect_error(t, AD_ERR_HANDLE, "reset the tape");
    }
    ad_tape_free(t);
}

Test(checkpoint, a_changed_parameter_is_detected) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    ad_var loss = model_loss(t, &m, CHECKPOINT);
    (void)ad_param_edit(m.W);
    ad_backward(loss);
    expect_error(t, AD_ERR_CHANGED, "parameter W was changed after checkpoint");
    ad_tape_free(t);
    model_free(&m);
}

static void use_one(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    (void)n, (void)results;
    out[0] = ad_mul(in[0], ad_use(t, *(ad_param **)user));
}

Test(checkpoint, another_parameter_in_the_replay_is_refused) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param[2], *used;
    for (int i = 0; i < 2; i++)
        ad_param_new(&param[i], NULL, i ? "other" : "one", AD_F64, AD_SCALAR, (double[]){2}, NULL);
    used = param[0];
    ad_var x = LEAF(t, 1, 2), y;
    ad_checkpoint(t, use_one, &used, 1, &x, 1, &y);
    used = param[1];
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_error(t, AD_ERR_CHANGED, "ad_use at test_checkpoint.c:", "did not use parameter other when it ran first");
    ad_tape_free(t);
    for (int i = 0; i < 2; i++) ad_param_unref(param[i]);
}

Test(checkpoint, arguments_are_checked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y[AD_MAX_RESULTS + 1];
    factor = 2;
    cr_assert_eq(ad_checkpoint(NULL, changing, NULL, 1, &x, 1, y), AD_ERR_NULL);
    cr_assert_eq(ad_checkpoint(t, NULL, NULL, 1, &x, 1, y), AD_ERR_NULL);
    expect_error(t, AD_ERR_NULL, "ad_checkpoint at", "the function is NULL");
    ad_checkpoint(t, changing, NULL, 1, &x, 1, y);
    expect_error(t, AD_ERR_HANDLE, "one of x", "stale");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, changing, NULL, 1, NULL, 1, y);
    expect_error(t, AD_ERR_NULL, "x is NULL");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, changing, NULL, 1, &x, 1, NULL);
    expect_error(t, AD_ERR_NULL, "y is NULL");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, changing, NULL, 1, &x, AD_MAX_RESULTS + 1, y);
    expect_error(t, AD_ERR_VALUE, "m is 9", "ad_cat");
    x = LEAF(t, 1, 2);
    ad_checkpoint(t, changing, NULL, -1, &x, 1, y);
    expect_error(t, AD_ERR_VALUE, "n is -1");
    ad_tape *other = ad_tape_new(NULL);
    ad_var foreign = LEAF(other, 1, 2);
    ad_checkpoint(t, changing, NULL, 1, &foreign, 1, y);
    expect_error(t, AD_ERR_HANDLE, "another tape");
    ad_tape_free(other);
    ad_tape_free(t);
}

/* ---- sequences -------------------------------------------------------------------------------------------------------- */

/* A pendulum with friction w and noise: state (angle, speed) of some elements, and the work done so far, 0-d. */
typedef struct pendulum {
    ad_var w;
    ad_rng rng;
    int64_t calls;
    bool is_noisy;
} pendulum;

static void swing(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    pendulum *p = user;
    cr_assert_eq(n, 3);
    p->calls++;
    ad_var speed = ad_sub(ad_scale(state[1], 0.99), ad_scale(ad_sin(state[0]), 0.05));
    speed = ad_sub(speed, ad_mul(p->w, ad_mul(speed, ad_abs(speed))));
    if (p->is_noisy && number % 3 == 0) speed = ad_dropout(speed, 0.1, &p->rng);
    next[0] = ad_add(state[0], ad_scale(speed, 0.1));
    next[1] = speed;
    next[2] = ad_add(state[2], ad_sum(ad_mul(speed, speed), AD_ALL_AXES, false));
    (void)t;
}

typedef struct swung {
    double loss, angle[2], speed[2], w;
    ad_rng rng;
    int64_t calls;
} swung;

/* With 0 snapshots: without a checkpoint. */
static swung swing_for(int64_t steps, int64_t snapshots, bool is_noisy, int passes) {
    ad_tape *t = ad_tape_new(NULL);
    pendulum p = {.w = ad_scalar(t, "w", 0.2), .rng = {.seed = 9, .counter = 0}, .is_noisy = is_noisy};
    ad_var state[] = {LEAF(t, 0.5, -1), LEAF(t, 0.1, 0.3), ad_scalar(t, "work", 0)}, start[] = {state[0], state[1]};
    if (snapshots) {
        ad_checkpoint_steps(t, swing, &p, steps, snapshots, 3, state, state);
    } else {
        for (int64_t i = 0; i < steps; i++) {
            ad_var next[3];
            swing(t, i, state, 3, next, &p);
            memcpy(state, next, sizeof next);
        }
    }
    ad_var loss = ad_add(ad_sum(ad_mul(state[0], state[1]), AD_ALL_AXES, false), state[2]);
    for (int i = 0; i < passes; i++) ad_backward(loss);
    expect_ok(t);
    swung o;
    memset(&o, 0, sizeof o);
    o.loss = ad_item(loss);
    copy_out(o.angle, ad_gradient(start[0]));
    copy_out(o.speed, ad_gradient(start[1]));
    o.w = ad_gradient_item(p.w);
    o.rng = p.rng;
    o.calls = p.calls;
    ad_tape_free(t);
    return o;
}

/* The least number of steps that reversing `steps` repeats with that many snapshots, found by trying. */
static int64_t least_repeated(int steps, int snapshots) {
    static int64_t known[65][65];
    if (steps <= 1) return 0;
    if (snapshots == 1) return (int64_t)steps * (steps - 1) / 2;
    int64_t *least = &known[steps][snapshots];
    for (int m = 1, fresh = *least == 0; m < steps && fresh; m++) {
        int64_t cost = m + least_repeated(steps - m, snapshots - 1) + least_repeated(m, snapshots);
        if (m == 1 || cost < *least) *least = cost;
    }
    return *least;
}

Test(checkpoint, the_cost_of_a_sequence_is_the_least_there_is) {
    for (int steps = 1; steps <= 64; steps++)
        for (int snapshots = 1; snapshots <= 8; snapshots++)
            cr_assert_eq(ad_checkpoint_cost(steps, snapshots), least_repeated(steps, snapshots) + steps + 1,
                         "%d steps, %d snapshots", steps, snapshots);
    cr_assert_eq(ad_checkpoint_cost(0, 1), 0);
    cr_assert_eq(ad_checkpoint_cost(-1, 1), -1);
    cr_assert_eq(ad_checkpoint_cost(5, 0), -1);
    cr_assert_eq(ad_checkpoint_cost(INT64_MAX, 1), INT64_MAX);
    cr_assert_eq(ad_checkpoint_cost(1000, 1000), ad_checkpoint_cost(1000, INT64_MAX));
}

Test(checkpoint, a_sequence_costs_what_it_says_and_gives_the_plain_gradient) {
    const int64_t steps[] = {1, 2, 3, 7, 30, 100}, snapshots[] = {1, 2, 3, 5, 200};
    for (int i = 0; i < TEST_COUNT(steps); i++)
        for (int noisy = 0; noisy < 2; noisy++) {
            swung plain = swing_for(steps[i], 0, noisy, 1);
            for (int k = 0; k < TEST_COUNT(snapshots); k++) {
                swung got = swing_for(steps[i], snapshots[k], noisy, 1);
                cr_assert_eq(got.calls, ad_checkpoint_cost(steps[i], snapshots[k]), "%lld calls",
                             (long long)got.calls);
                swung again = swing_for(steps[i], snapshots[k], noisy, 3);
                got.calls = again.calls = plain.calls;
                cr_assert_eq(memcmp(&got, &plain, sizeof got), 0, "%lld steps, %lld snapshots, noisy %d: %.17g %.17g",
                             (long long)steps[i], (long long)snapshots[k], noisy, got.angle[0], plain.angle[0]);
                cr_assert_eq(memcmp(&again, &plain, sizeof again), 0, "in the third pass");
            }
        }
}

/* x <- x + dt sin(w x), 100,000 times. */
static void flow(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    pendulum *p = user;
    (void)t, (void)number, (void)n;
    p->calls++;
    next[0] = ad_add(state[0], ad_scale(ad_sin(ad_mul(p->w, state[0])), 1e-4));
}

enum { flow_steps = 100000, flow_snapshots = 200, flow_size = 64 };

/* The gradient with respect to the start and, behind it, to w. */
static uint64_t flow_back(const ad_allocator *allocator, int64_t snapshots, double *gradient, int64_t *calls) {
    double data[flow_size];
    for (int i = 0; i < flow_size; i++) data[i] = 0.01 * i - 0.3;
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = allocator});
    pendulum p = {.w = ad_scalar(t, "w", 1.5)};
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(flow_size), data), y = x;
    if (snapshots) {
        ad_checkpoint_steps(t, flow, &p, flow_steps, snapshots, 1, &x, &y);
    } else {
        for (int64_t i = 0; i < flow_steps; i++) flow(t, i, &y, 1, &y, &p);
    }
    ad_backward_with(ad_sum(y, AD_ALL_AXES, false), &(ad_backward_options){.leaves_only = true});
    expect_ok(t);
    copy_out(gradient, ad_gradient(x));
    gradient[flow_size] = ad_gradient_item(p.w);
    *calls = p.calls;
    uint64_t bytes = ad_tape_memory(t);
    ad_tape_free(t);
    return bytes;
}

Test(checkpoint, a_hundred_thousand_steps_take_the_memory_of_a_few_hundred) {
    double plain[flow_size + 1], got[flow_size + 1];
    int64_t calls;
    test_memory memory;
    uint64_t all = flow_back(NULL, 0, plain, &calls);
    cr_assert_eq(calls, flow_steps);
    test_memory_open(&memory);
    flow_back(&memory.allocator, flow_snapshots, got, &calls);
    test_memory_close(&memory);
    cr_assert_eq(memcmp(got, plain, sizeof got), 0);
    cr_assert_eq(calls, ad_checkpoint_cost(flow_steps, flow_snapshots));
    cr_assert_lt(calls, 4 * (int64_t)flow_steps);
    /* 200 states, a chunk of nodes and the step under way: less than 300 steps without a checkpoint. */
    cr_assert_lt(memory.peak, (int64_t)(all / flow_steps) * 300, "%lld bytes; without a checkpoint %lld",
                 (long long)memory.peak, (long long)all);
}

/* A sequence whose steps use checkpoints, in a function that is itself a checkpoint. */
static void inner_step(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    swing(t, 0, in, n, out, user);
    cr_assert_eq(results, n);
}
static void step_of_checkpoints(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    ad_var half[3];
    (void)number;
    ad_checkpoint(t, inner_step, user, n, state, n, half);
    ad_checkpoint(t, inner_step, user, n, half, n, next);
}
static void whole_sequence(ad_tape *t, const ad_var *in, int n, ad_var *out, int results, void *user) {
    ad_checkpoint_steps(t, step_of_checkpoints, user, 5, 2, n, in, out);
    cr_assert_eq(results, n);
}

Test(checkpoint, sequences_and_checkpoints_nest) {
    swung got[2];
    double second[2];
    for (int plain = 0; plain < 2; plain++) {
        ad_tape *t = ad_tape_new(NULL);
        pendulum p = {.w = ad_scalar(t, "w", 0.2), .rng = {.seed = 9, .counter = 0}, .is_noisy = true};
        ad_var x[] = {LEAF(t, 0.5, -1), LEAF(t, 0.1, 0.3), ad_scalar(t, "work", 0)}, y[3];
        memcpy(y, x, sizeof x);
        if (plain) {
            for (int i = 0; i < 10; i++) {
                ad_var next[3];
                swing(t, 0, y, 3, next, &p);
                memcpy(y, next, sizeof next);
            }
        } else {
            ad_checkpoint(t, whole_sequence, &p, 3, x, 3, y);
        }
        ad_var loss = ad_add(ad_sum(ad_mul(y[0], y[1]), AD_ALL_AXES, false), y[2]), g;
        ad_grad(loss, (ad_var){0}, 1, &p.w, &g);
        ad_backward(g);
        second[plain] = ad_gradient_item(p.w);
        ad_backward(loss);
        expect_ok(t);
        memset(&got[plain], 0, sizeof got[plain]);
        got[plain].loss = ad_item(g);
        copy_out(got[plain].angle, ad_gradient(x[0]));
        copy_out(got[plain].speed, ad_gradient(x[1]));
        got[plain].w = ad_gradient_item(p.w);
        got[plain].rng = p.rng;
        ad_tape_free(t);
    }
    cr_assert(got[1].w != 0 && second[1] != 0);
    expect_near(second[0], second[1], 1e-13);
    cr_assert_eq(memcmp(&got[0], &got[1], sizeof got[0]), 0, "%.17g %.17g", got[0].w, got[1].w);
}

static void step_found(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    (void)t, (void)n, (void)state, (void)number;
    next[0] = *(ad_var *)user;
}
static void step_same(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    (void)t, (void)n, (void)user, (void)number;
    next[0] = state[0];
}
static void step_failing(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    (void)n, (void)user;
    next[0] = number == 3 ? ad_add(state[0], LEAF(t, 1, 2, 3)) : ad_neg(state[0]);
}
static void step_resetting(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    (void)n, (void)user, (void)number;
    if (resets_at-- == 0) {
        ad_tape_reset(t);
        (void)LEAF(t, 1, 2, 3, 4);
    } else {
        next[0] = ad_neg(state[0]);
    }
}

Test(checkpoint, a_sequence_may_have_no_steps_or_give_back_what_it_found) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), other = LEAF(t, 3, 4), y;
    cr_assert_eq(ad_checkpoint_steps(t, step_same, NULL, 0, 1, 1, &x, &y), AD_OK);
    cr_assert_eq(y.index, x.index);
    cr_assert_eq(ad_checkpoint_steps(t, step_same, NULL, 1, 1, 1, &x, &y), AD_OK);
    cr_assert_eq(y.index, x.index);
    cr_assert_eq(ad_checkpoint_steps(t, step_found, &other, 6, 3, 1, &x, &y), AD_OK);
    cr_assert_eq(y.index, other.index);
    cr_assert_null(t->sequences);
    cr_assert_eq(ad_checkpoint_steps(t, step_same, NULL, 9, 3, 1, &x, &y), AD_OK);
    ad_backward(ad_sum(ad_mul(y, other), AD_ALL_AXES, false));
    expect_ok(t);
    expect_values(ad_gradient(x), 3, 4);
    ad_tape_free(t);
}

Test(checkpoint, what_a_sequence_is_given_is_checked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), y[AD_MAX_RESULTS + 1];
    cr_assert_eq(ad_checkpoint_steps(NULL, step_same, NULL, 1, 1, 1, &x, y), AD_ERR_NULL);
    ad_checkpoint_steps(t, NULL, NULL, 1, 1, 1, &x, y);
    expect_error(t, AD_ERR_NULL, "ad_checkpoint_steps at test_checkpoint.c:", "the function is NULL");
    x = LEAF(t, 1, 2);
    ad_checkpoint_steps(t, step_same, NULL, -1, 1, 1, &x, y);
    expect_error(t, AD_ERR_VALUE, "-1 steps with 1 snapshots");
    x = LEAF(t, 1, 2);
    ad_checkpoint_steps(t, step_same, NULL, 1, 0, 1, &x, y);
    expect_error(t, AD_ERR_VALUE, "1 steps with 0 snapshots");
    x = LEAF(t, 1, 2);
    ad_checkpoint_steps(t, step_same, NULL, 1, 1, AD_MAX_RESULTS + 1, &x, y);
    expect_error(t, AD_ERR_VALUE, "n is 9", "ad_cat");
    ad_checkpoint_steps(t, step_same, NULL, 1, 1, 1, &x, y);
    expect_error(t, AD_ERR_HANDLE, "a variable of the state", "stale");
    x = LEAF(t, 1, 2);
    cr_assert_eq(ad_checkpoint_steps(t, step_failing, NULL, 9, 3, 1, &x, y), AD_ERR_SHAPE);
    cr_assert_eq(ad_tape_size(t), 1);
    cr_assert_null(t->sequences);
    expect_error(t, AD_ERR_SHAPE, "add at");
    for (int at = 0; at < 30; at++) {
        resets_at = at;
        x = LEAF(t, 1, 2);
        ad_checkpoint_steps(t, step_resetting, NULL, 9, 3, 1, &x, y);
        ad_backward(ad_sum(y[0], AD_ALL_AXES, false));
        if (at >= ad_checkpoint_cost(9, 3)) break;
        expect_error(t, AD_ERR_HANDLE, "reset the tape");
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- memory ----------------------------------------------------------------------------------------------------------- */

static void jump_out(void *user, const ad_error *error) {
    (void)error;
    longjmp(*(jmp_buf *)user, 1);
}

/* Every way to record and to walk, with gradients recorded and tangents. */
static double all_ways(ad_tape *t, model *m, pendulum *p) {
    double sum = 0;
    for (way how = CHECKPOINT; how < WAYS; how++) {
        ad_var loss = model_loss(t, m, how), g, moved;
        ad_backward(loss);
        ad_grad(loss, (ad_var){0}, 1, &m->scale, &g);
        ad_backward(g);
        ad_pushforward(1, &m->scale, &m->scale, 1, &loss, &moved);
        sum += ad_item(g) + ad_item(moved) + ad_gradient_item(m->scale);
        p->w = m->scale;
        p->is_noisy = true;
        ad_var state[] = {LEAF(t, 0.5, -1), LEAF(t, 0.1, 0.3), ad_scalar(t, "work", 0)}, y[3];
        ad_checkpoint(t, whole_sequence, p, 3, state, 3, y);
        ad_backward(y[2]);
        sum += ad_gradient_item(p->w);
    }
    return sum;
}

static bool refuse(int64_t at, bool on, bool jumps, double undisturbed) {
    static jmp_buf out;
    test_memory memory;
    test_memory_open(&memory);
    model m = model_new(NULL);
    pendulum p = {.rng = {.seed = 2, .counter = 0}};
    ad_tape_options options = {.allocator = &memory.allocator, .on_error = jumps ? jump_out : NULL, .user = &out};
    ad_tape *t = ad_tape_new(&options);
    memory.fail_at = memory.calls + at;
    memory.fail_on = on;
    volatile bool reached = true;
    if (setjmp(out) == 0) {
        double got = all_ways(t, &m, &p);
        reached = memory.calls >= memory.fail_at;
        /* The pool gives back what it keeps, and tries again. */
        cr_assert(!on || !reached || ad_tape_status(t) == AD_ERR_OOM, "allocation %lld: no error", (long long)at);
        if (ad_tape_status(t) == AD_OK) cr_assert_eq(got, undisturbed, "allocation %lld", (long long)at);
        if (ad_tape_status(t) != AD_OK) cr_assert_eq(ad_tape_status(t), AD_ERR_OOM, "%s", ad_tape_error(t));
    }
    ad_error error = {.status = AD_OK};
    if (!jumps) cr_assert_eq(ad_tape_verify(t, &error), AD_OK, "allocation %lld: %s", (long long)at, error.message);
    memory.fail_at = 0;
    ad_tape_reset(t);
    p.rng.counter = 0;
    cr_assert_eq(all_ways(t, &m, &p), undisturbed);
    expect_ok(t);
    ad_tape_free(t);
    model_free(&m);
    test_memory_close(&memory);
    return reached;
}

Test(checkpoint, every_allocation_may_be_refused) {
    ad_tape *t = ad_tape_new(NULL);
    model m = model_new(NULL);
    pendulum p = {.rng = {.seed = 2, .counter = 0}};
    double undisturbed = all_ways(t, &m, &p);
    expect_ok(t);
    ad_tape_free(t);
    model_free(&m);
    /* One alone, and all from there on with a handler that jumps. */
    for (int how = 0; how < 2; how++) {
        int64_t at = 1;
        while (refuse(at, how, how, undisturbed)) at++;
        cr_assert_gt(at, 100);
    }
}

Test(checkpoint, a_step_with_checkpoints_allocates_nothing_after_the_first) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    model m = model_new(NULL);
    int64_t calls = 0;
    for (int i = 0; i < 5; i++) {
        ad_tape_reset(t);
        ad_backward(model_loss(t, &m, NESTED));
        ad_backward(model_loss(t, &m, STEPS));
        expect_ok(t);
        cr_assert_eq(ad_tape_memory(t), (uint64_t)memory.bytes);
        if (i > 0) cr_assert_eq(memory.calls, calls);
        calls = memory.calls;
    }
    ad_tape_free(t);
    model_free(&m);
    test_memory_close(&memory);
}
