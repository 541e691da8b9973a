/* Every op of the registry survives an allocator that refuses: each single allocation that recording, walking back, and
 * recording the gradient and the tangent of a sample make is refused in turn, alone (the pool then tries again) and with
 * all after it. Either nothing is missing, or the tape says so; nothing is lost, and after a reset the same gives the same
 * as ever. */
#include "helpers.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <string.h>

/* What came out, as far as there is room: the same program must give the same numbers. */
typedef struct outcome {
    int count;
    double number[4096];
} outcome;

static void note(outcome *o, ad_view view) {
    for (int64_t i = 0; view.data && i < ad_view_count(&view) && o->count < TEST_COUNT(o->number); i++)
        o->number[o->count++] = ad_view_get(&view, i);
}

static int result_count(const ad_op *op) { return op->results ? op->results : 1; }

/* The results that are floats, and the inputs; 0: nothing to differentiate. */
static int floats_among(int n, const ad_var *from, ad_var *to) {
    int count = 0;
    for (int i = 0; i < n; i++)
        if (ad_dtype_is_float(ad_value(from[i]).dtype)) to[count++] = from[i];
    return count;
}

static void differentiate(int inputs, const ad_var *in, int results, const ad_var *out, outcome *o) {
    ad_var x[AD_MAX_SAMPLE_INPUTS], y[AD_MAX_RESULTS], g[AD_MAX_SAMPLE_INPUTS], y_dot[AD_MAX_RESULTS];
    int n = floats_among(inputs, in, x), m = floats_among(results, out, y);
    if (n == 0 || m == 0) return;
    ad_var total = ad_sum(y[0], AD_ALL_AXES, false);
    for (int k = 1; k < m; k++) total = ad_add(total, ad_sum(y[k], AD_ALL_AXES, false));
    ad_backward(total);
    for (int i = 0; i < n; i++) note(o, ad_gradient(x[i]));
    ad_grad(total, AD_NONE, n, x, g);
    for (int i = 0; i < n; i++) note(o, ad_value(g[i]));
    ad_pushforward(n, x, x, m, y, y_dot);
    for (int k = 0; k < m; k++) note(o, ad_value(y_dot[k]));
}

/* Everything that can be done with a sample; stops by itself at the first error. */
static void run(ad_tape *t, const ad_op *op, const ad_sample *sample, outcome *o) {
    ad_var in[AD_MAX_SAMPLE_INPUTS], out[AD_MAX_RESULTS];
    for (int i = 0; i < sample->inputs; i++)
        in[i] = op->derivative == AD_NOT_DIFFERENTIABLE ? ad_constant_tensor(t, NULL, sample->input[i])
                                                        : ad_leaf_tensor(t, NULL, sample->input[i]);
    ad_apply(t, op, sample->inputs, in, &sample->attrs, out);
    for (int k = 0; k < result_count(op); k++) note(o, ad_value(out[k]));
    if (op->derivative == AD_DIFFERENTIABLE) differentiate(sample->inputs, in, result_count(op), out, o);
}

static bool same(const outcome *a, const outcome *b) {
    return a->count == b->count && memcmp(a->number, b->number, (size_t)a->count * sizeof *a->number) == 0;
}

/* What is run: an op on a sample; NULL: `compositions`. */
typedef struct program {
    const ad_op *op;
    const ad_sample *sample;
} program;

static void compositions(ad_tape *t, outcome *o);

static void run_program(ad_tape *t, const program *p, outcome *o) {
    o->count = 0;
    if (p->op)
        run(t, p->op, p->sample, o);
    else
        compositions(t, o);
}

/* Refuses allocation number `at`, and all after it if `on`; false if there are not so many. */
static bool refuse(const program *p, int64_t at, bool on, const outcome *undisturbed) {
    static outcome got;
    const char *name = p->op ? p->op->name : "compositions";
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    memory.fail_at = memory.calls + at;
    memory.fail_on = on;
    run_program(t, p, &got);
    bool reached = memory.calls >= memory.fail_at;
    ad_status status = ad_tape_status(t);
    cr_assert(status == (reached && on ? AD_ERR_OOM : AD_OK) || (reached && status == AD_ERR_OOM),
              "%s, allocation %lld: %s", name, (long long)at, ad_tape_error(t));
    if (status == AD_OK) cr_assert(same(&got, undisturbed), "%s, allocation %lld", name, (long long)at);
    cr_assert_eq(ad_tape_verify(t, NULL), AD_OK, "%s, allocation %lld", name, (long long)at);
    memory.fail_at = 0;
    ad_tape_reset(t);
    run_program(t, p, &got);
    expect_ok(t);
    cr_assert(same(&got, undisturbed), "%s, after allocation %lld", name, (long long)at);
    ad_tape_free(t);
    test_memory_close(&memory);
    return reached;
}

/* How many allocations there are to refuse. */
static int64_t refuse_each(const program *p) {
    static outcome undisturbed;
    int64_t at = 0;
    ad_tape *t = ad_tape_new(NULL);
    run_program(t, p, &undisturbed);
    expect_ok(t);
    ad_tape_free(t);
    for (int on = 0; on < 2; on++)
        for (at = 1; refuse(p, at, on, &undisturbed);) at++;
    return at - 1;
}

Test(refusal, no_op_loses_anything_when_memory_ends) {
    int64_t refused = 0;
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        for (int k = 0;; k++) {
            ad_sample sample = {.rng = {1, 0}, .dtype = AD_F64, .allocator = ad_allocator_default()};
            if (!op->sample(&sample, k)) break;
            int64_t number = refuse_each(&(program){op, &sample});
            cr_expect_gt(number, 2, "%s: only %lld allocations", op->name, (long long)number);
            refused += number;
            for (int j = 0; j < sample.inputs; j++) ad_tensor_unref(sample.input[j]);
        }
    }
    cr_expect_gt(refused, 10000, "only %lld allocations were refused", (long long)refused);
}

/* What a composition does between its ops, and a convolution of blocks. */
static void compositions(ad_tape *t, outcome *o) {
    static double x[2 * 3 * 6 * 6], w[4 * 3 * 3 * 3];
    for (int i = 0; i < TEST_COUNT(x); i++) x[i] = i % 7 - 3;
    for (int i = 0; i < TEST_COUNT(w); i++) w[i] = i % 5 - 2;
    ad_var image = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3, 6, 6), x),
           kernel = ad_leaf(t, "w", AD_F64, AD_SHAPE(4, 3, 3, 3), w);
    ad_var y = ad_relu(ad_conv2d(image, kernel, AD_NONE, &(ad_conv_options){.padding = {1, 1}}));
    const ad_pool_options pool = {.kernel = {2, 3}, .stride = {2, 2}, .ceil = true, .padding_is_excluded = true};
    y = ad_upsample_bilinear(ad_avg_pool2d(y, &pool), 4, 4, AD_CORNERS);
    ad_var rows = ad_reshape(y, AD_SHAPE(4, 2, 16));
    ad_var target = ad_constant(t, "target", AD_I64, AD_SHAPE(2, 1), ((int64_t[]){1, 2}));
    ad_var steps = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){4, 3}));
    ad_var length = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){1, 1}));
    ad_var loss = ad_sum(ad_ctc_loss(ad_log_softmax(rows, -1), target, steps, length, 0), AD_ALL_AXES, false);
    ad_var seen = ad_einsum("tnf,tng->fg", AD_VARS(rows, rows));
    ad_backward(ad_add(loss, ad_mean(seen, AD_ALL_AXES, false)));
    note(o, ad_gradient(image));
    note(o, ad_gradient(kernel));
}

Test(refusal, compositions_lose_nothing_either) { cr_expect_gt(refuse_each(&(program){NULL, NULL}), 50); }
