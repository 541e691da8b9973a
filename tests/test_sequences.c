/* Ops for sequences, and softmax_xent with options, against PyTorch; their conventions and their messages. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

static ad_cell cell_of(const ad_var *in) {
    return (ad_cell){.w_input = in[0], .w_state = in[1], .b_input = in[2], .b_state = in[3]};
}

static ad_var lstm(const ad_var *in, int part) {
    ad_cell weights = cell_of(in + 3);
    ad_var c, h = ad_lstm_cell(in[0], in[1], in[2], &weights, &c);
    return part == 0 ? h : c;
}

static ad_var gru(const ad_var *in) {
    ad_cell weights = cell_of(in + 2);
    return ad_gru_cell(in[0], in[1], &weights);
}

static ad_var xent(const ad_var *in, const reference_case *c) {
    ad_xent_options options = {.smoothing = c->value, .weights = c->inputs == 3 ? &in[2] : NULL};
    options.ignores = c->shape.rank == 1;
    options.ignore_index = c->shape.dim[0];
    return ad_softmax_xent_with(in[0], in[1], &options);
}

OP(rope, ad_rope(in[0], c->value, c->axis))
OP(lstm_cell_h, lstm(in, 0))
OP(lstm_cell_c, lstm(in, 1))
OP(gru_cell, gru(in))
OP(softmax_xent_with, xent(in, c))
OP(attention, ad_attention(in[0], in[1], in[2], c->inputs == 4 ? in[3] : AD_NONE, c->value, c->reverse))

/* ---- rope ------------------------------------------------------------------------------------------------------------ */

Test(rope, keeps_lengths_and_depends_on_distances_alone) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 1};
    ad_var x = ad_randn(t, NULL, AD_F64, AD_SHAPE(1, 6), &rng), z = ad_randn(t, NULL, AD_F64, AD_SHAPE(1, 6), &rng);
    double product[3];
    for (int i = 0; i < 3; i++) {
        ad_var a = ad_rope(x, 10000, 10 * i + 4), b = ad_rope(z, 10000, 10 * i);
        product[i] = ad_item(ad_sum(ad_mul(a, b), AD_ALL_AXES, false));
        expect_near(ad_item(ad_norm(a, 2, AD_ALL_AXES, false)), ad_item(ad_norm(x, 2, AD_ALL_AXES, false)), 1e-14);
    }
    expect_near(product[1], product[0], 1e-13);
    expect_near(product[2], product[0], 1e-13);
    expect_ok(t);
    ad_tape_free(t);
}

Test(rope, position_0_stays) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 2), ((double[]){3, -4}));
    expect_values(ad_value(ad_rope(x, 10000, 0)), 3, -4);
    expect_ok(t);
    ad_tape_free(t);
}

Test(rope, says_what_it_takes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rope(LEAF(t, 1, 2), 10000, 0);
    expect_error(t, AD_ERR_SHAPE, "rope at", "f64[2]", "[..., positions, features]", "pairs", "test_sequences.c");
    ad_rope(ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 3), ((double[]){1, 2, 3})), 10000, 0);
    expect_error(t, AD_ERR_SHAPE, "x is f64[1,3]", "pairs");
    ad_rope(ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 2), ((double[]){1, 2})), 0, 0);
    expect_error(t, AD_ERR_VALUE, "the base is 0", "positive");
    ad_tape_free(t);
}

/* ---- cells ----------------------------------------------------------------------------------------------------------- */

Test(cells, say_how_many_rows_of_weights_they_need) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 2};
    ad_var x = LEAF(t, 1, 2), h = LEAF(t, 1, 2, 3), c;
    ad_cell weights = {.w_input = ad_randn(t, "W", AD_F64, AD_SHAPE(9, 2), &rng),
                       .w_state = ad_randn(t, "U", AD_F64, AD_SHAPE(9, 3), &rng),
                       .b_input = ad_randn(t, "b", AD_F64, AD_SHAPE(9), &rng),
                       .b_state = ad_randn(t, "d", AD_F64, AD_SHAPE(9), &rng)};
    ad_gru_cell(x, h, &weights);
    expect_ok(t);
    ad_var y = ad_lstm_cell(x, h, h, &weights, &c);
    cr_expect(y.generation == 0 && c.generation == 0);
    expect_error(t, AD_ERR_SHAPE, "lstm_cell at", "W is f64[9,2]", "3 elements", "12 rows", "test_sequences.c");
    ad_tape_free(t);
}

/* ---- softmax_xent with options ---------------------------------------------------------------------------------------- */

static ad_var class_index(ad_tape *t, int64_t i) { return ad_constant(t, "t", AD_I64, AD_SCALAR, &i); }

Test(xent, an_ignored_example_gives_zeros_even_if_it_is_nan) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, NAN, 1, 2), loss;
    ad_xent_options options = {.ignores = true, .ignore_index = -100, .smoothing = 0.1};
    loss = ad_softmax_xent_with(x, class_index(t, -100), &options);
    expect_values(ad_value(loss), 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(xent, without_options_is_softmax_xent) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2, 4), i = class_index(t, 1);
    ad_xent_options none = {0};
    expect_near(ad_item(ad_softmax_xent_with(x, i, &none)), ad_item(ad_softmax_xent(x, i)), 1e-15);
    expect_near(ad_item(ad_softmax_xent_with(x, i, NULL)), ad_item(ad_softmax_xent(x, i)), 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(xent, a_class_of_weight_0_may_be_impossible) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0, 0, -INFINITY), w = CONSTANT(t, 1, 1, 0);
    ad_xent_options options = {.weights = &w, .smoothing = 0.3};
    expect_near(ad_item(ad_softmax_xent_with(x, class_index(t, 0), &options)), 0.9 * log(2), 1e-15);
    expect_ok(t);
    ad_tape_free(t);
}

Test(xent, says_what_does_not_fit) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2, 4), w = LEAF(t, 1, 2), i = class_index(t, 1);
    ad_softmax_xent_with(x, i, &(ad_xent_options){.weights = &w});
    expect_error(t, AD_ERR_SHAPE, "softmax_xent_with at", "3 classes", "f64[2]", "test_sequences.c");
    x = LEAF(t, 1, 2, 4);
    ad_softmax_xent_with(x, class_index(t, 1), &(ad_xent_options){.smoothing = 1.5});
    expect_error(t, AD_ERR_VALUE, "smoothing is 1.5", "between 0 and 1");
    x = LEAF(t, 1, 2, 4);
    ad_softmax_xent_with(x, x, &(ad_xent_options){.ignores = true});
    expect_error(t, AD_ERR_VALUE, "only class indices can be ignored");
    x = LEAF(t, 1, 2, 4);
    ad_softmax_xent_with(x, LEAF(t, 1, 2), &(ad_xent_options){0});
    expect_error(t, AD_ERR_SHAPE, "f64[3]", "f64[2]", "never broadcasts");
    x = LEAF(t, 1, 2, 4);
    ad_softmax_xent_with(x, class_index(t, 3), &(ad_xent_options){0});
    expect_error(t, AD_ERR_INDEX, "3");
    ad_tape_free(t);
}

/* ---- attention -------------------------------------------------------------------------------------------------------- */

TestSuite(attention, .fini = test_arrays_free);

static ad_var plain_attention(ad_var q, ad_var k, ad_var v, ad_var mask, double scale, bool causal) {
    ad_var x = ad_scale(ad_matmul(q, ad_transpose(k)), scale);
    ad_dtype dtype = ad_value(x).dtype;
    if (mask.tape) x = ad_add(x, mask);
    if (causal) {
        ad_var seen = ad_tril(ad_broadcast_to(ad_number(x.tape, dtype, 1), ad_value(x).shape), 0);
        x = ad_where(seen, x, ad_number(x.tape, dtype, -INFINITY));
    }
    return ad_matmul(ad_softmax(x, -1), v);
}

static void expect_near_views(ad_view got, ad_view want, double tolerance) {
    cr_assert(ad_shape_equal(&got.shape, &want.shape));
    for (int64_t i = 0, n = ad_shape_count(&want.shape); i < n; i++)
        cr_assert(test_near(test_get(&got, i), test_get(&want, i), tolerance), "element %lld is %.9g, not %.9g",
                  (long long)i, test_get(&got, i), test_get(&want, i));
}

static void compare_with_plain(ad_dtype dtype, bool causal, bool masked) {
    enum { inputs = 4 };
    const ad_shape shapes[inputs] = {AD_SHAPE(2, 150, 9), AD_SHAPE(2, 300, 9), AD_SHAPE(2, 300, 5),
                                     AD_SHAPE(150, 300)};
    const double tolerance = dtype == AD_F32 ? 2e-4 : 1e-12;
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[inputs], blocks[inputs], plain[inputs], y[2];
    ad_rng rng = {.seed = 3};
    for (int i = 0; i < inputs; i++) {
        ad_var numbers = ad_randn(t, NULL, dtype, shapes[i], &rng);
        in[i] = ad_leaf(t, NULL, dtype, shapes[i], ad_value(numbers).data);
    }
    ad_var seed = ad_randn(t, NULL, dtype, AD_SHAPE(2, 150, 5), &rng), mask = masked ? in[3] : AD_NONE;
    y[0] = ad_attention(in[0], in[1], in[2], mask, 0.8, causal);
    y[1] = plain_attention(in[0], in[1], in[2], mask, 0.8, causal);
    expect_near_views(ad_value(y[0]), ad_value(y[1]), tolerance);
    int wanted = masked ? inputs : inputs - 1;
    for (int i = 0; i < wanted; i++) {
        ad_backward_options options = {.seed = seed, .wrt = &in[i], .wrt_count = 1};
        ad_backward_with(y[0], &options);
        ad_view copy = ad_gradient(in[i]);
        blocks[i] = ad_constant(t, NULL, dtype, shapes[i], copy.data);
        ad_backward_with(y[1], &options);
        copy = ad_gradient(in[i]);
        plain[i] = ad_constant(t, NULL, dtype, shapes[i], copy.data);
    }
    for (int i = 0; i < wanted; i++) expect_near_views(ad_value(blocks[i]), ad_value(plain[i]), tolerance);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, in_many_blocks_is_what_it_is_in_one) {
    for (int k = 0; k < 8; k++) compare_with_plain(k & 1 ? AD_F32 : AD_F64, k & 2, k & 4);
}

/* Of <seed, attention>: the gradient, and how it moves, forward over reverse and reverse over forward. */
static void second_order_of(ad_var y, int n, const ad_var *in, const ad_var *along, ad_var seed, ad_var *got) {
    ad_var y_dot;
    ad_grad(y, seed, n, in, got);
    ad_pushforward(n, in, along, n, got, got + n);
    ad_pushforward(n, in, along, 1, &y, &y_dot);
    ad_grad(y_dot, seed, n, in, got + 2 * n);
    got[3 * n] = y_dot;
}

static void compare_second_order_with_plain(ad_dtype dtype, bool causal, bool masked) {
    const ad_shape shapes[] = {AD_SHAPE(2, 150, 9), AD_SHAPE(2, 300, 9), AD_SHAPE(2, 300, 5), AD_SHAPE(150, 300)};
    const double tolerance = dtype == AD_F32 ? 2e-3 : 1e-11;
    const int n = masked ? 4 : 3;
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[4], along[4], got[13], want[13];
    ad_rng rng = {.seed = 5};
    for (int i = 0; i < n; i++) {
        ad_var numbers = ad_randn(t, NULL, dtype, shapes[i], &rng);
        in[i] = ad_leaf(t, NULL, dtype, shapes[i], ad_value(numbers).data);
        along[i] = ad_randn(t, NULL, dtype, shapes[i], &rng);
    }
    ad_var seed = ad_randn(t, NULL, dtype, AD_SHAPE(2, 150, 5), &rng), mask = masked ? in[3] : AD_NONE;
    int64_t recorded = ad_tape_size(t);
    second_order_of(ad_attention(in[0], in[1], in[2], mask, 0.4, causal), n, in, along, seed, got);
    for (int64_t i = recorded; i < ad_tape_size(t) && !masked; i++) {
        ad_view value = ad_value(ad_tape_var(t, i));
        cr_assert_lt(ad_view_count(&value), 2 * 150 * 300, "no probabilities in memory");
    }
    second_order_of(plain_attention(in[0], in[1], in[2], mask, 0.4, causal), n, in, along, seed, want);
    for (int i = 0; i <= 3 * n; i++) expect_near_views(ad_value(got[i]), ad_value(want[i]), tolerance);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, second_derivatives_go_by_strips) {
    for (int k = 0; k < 8; k++) compare_second_order_with_plain(k & 1 ? AD_F32 : AD_F64, k & 2, k & 4);
}

Test(attention, of_a_variable_with_itself_sums_its_gradients) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 4};
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3, 2),
                       ad_value(ad_randn(t, NULL, AD_F64, AD_SHAPE(3, 2), &rng)).data);
    ad_backward(ad_sum(ad_attention(x, x, x, AD_NONE, 1, AD_CAUSAL), AD_ALL_AXES, false));
    ad_view got = test_copy((const ad_view[]){ad_gradient(x)});
    ad_backward(ad_sum(plain_attention(x, x, x, AD_NONE, 1, AD_CAUSAL), AD_ALL_AXES, false));
    expect_near_views(got, ad_gradient(x), 1e-14);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, a_query_that_sees_nothing_gives_zeros_and_no_gradient) {
    const double hidden[] = {-INFINITY, -INFINITY, 0, 0};
    ad_tape *t = ad_tape_new(NULL);
    ad_var q = ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 1), ((double[]){1, 2}));
    ad_var k = ad_leaf(t, "k", AD_F64, AD_SHAPE(2, 1), ((double[]){0, 0}));
    ad_var v = ad_leaf(t, "v", AD_F64, AD_SHAPE(2, 1), ((double[]){3, 5}));
    ad_var mask = ad_leaf(t, "mask", AD_F64, AD_SHAPE(2, 2), hidden);
    ad_var y = ad_attention(q, k, v, mask, 1, false);
    ad_var g = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 1), ((double[]){7, 2}));
    expect_values(ad_value(y), 0, 4);
    expect_gradient(y, g, q, 0, 0);
    expect_gradient(y, g, k, -2, 2);
    expect_gradient(y, g, v, 1, 1);
    expect_gradient(y, g, mask, 0, 0, -1, 1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, over_no_keys_gives_zeros) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var q = ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 1), ((double[]){1, 2}));
    ad_var none = ad_leaf(t, "none", AD_F64, AD_SHAPE(0, 1), NULL);
    ad_var y = ad_attention(q, none, none, AD_NONE, 1, false);
    expect_values(ad_value(y), 0, 0);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_values(ad_gradient(q), 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, huge_scores_do_not_overflow) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var q = ad_leaf(t, "q", AD_F64, AD_SHAPE(1, 1), ((double[]){1e5}));
    ad_var k = ad_leaf(t, "k", AD_F64, AD_SHAPE(2, 1), ((double[]){1e5, -1e5}));
    ad_var v = ad_leaf(t, "v", AD_F64, AD_SHAPE(2, 1), ((double[]){3, 5}));
    ad_var y = ad_attention(q, k, v, AD_NONE, 1, false),
           g = ad_constant(t, NULL, AD_F64, AD_SHAPE(1, 1), &(double){1});
    expect_values(ad_value(y), 3);
    expect_gradient(y, g, q, 0);
    expect_gradient(y, g, v, 1, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(attention, says_what_does_not_fit) {
    const double x[12] = {0};
    ad_tape *t = ad_tape_new(NULL);
    ad_attention(ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 3), x), ad_leaf(t, "k", AD_F64, AD_SHAPE(2, 2), x),
                 ad_leaf(t, "v", AD_F64, AD_SHAPE(2, 2), x), AD_NONE, 1, false);
    expect_error(t, AD_ERR_SHAPE, "attention at", "q is f64[2,3]", "k is f64[2,2]", "do not fit", "test_sequences.c");
    ad_attention(ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 3), x), ad_leaf(t, "k", AD_F64, AD_SHAPE(4, 3), x),
                 ad_leaf(t, "v", AD_F64, AD_SHAPE(4, 2), x), ad_leaf(t, "m", AD_F64, AD_SHAPE(3, 4), x), 1, false);
    expect_error(t, AD_ERR_SHAPE, "m is f64[3,4]", "broadcast to the scores", "f64[2,4]");
    ad_attention(ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 3), x), ad_leaf(t, "k", AD_F32, AD_SHAPE(2, 3), x),
                 ad_leaf(t, "v", AD_F64, AD_SHAPE(2, 2), x), AD_NONE, 1, false);
    expect_error(t, AD_ERR_DTYPE, "attention at");
    ad_tape_free(t);
}

/* All scores would take 8 MB. */
Test(attention, never_holds_all_scores) {
    test_memory memory;
    test_memory_open(&memory);
    memory.most = 1 << 20;
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_rng rng = {.seed = 5};
    ad_var x = ad_randn(t, NULL, AD_F64, AD_SHAPE(1000, 4), &rng);
    ad_var q = ad_leaf(t, "q", AD_F64, AD_SHAPE(1000, 4), ad_value(x).data);
    ad_backward(ad_sum(ad_attention(q, q, x, AD_NONE, 0.5, false), AD_ALL_AXES, false));
    cr_expect_eq(ad_view_count(&(ad_view){.shape = ad_gradient(q).shape}), 4000);
    expect_ok(t);
    ad_tape_free(t);
    test_memory_close(&memory);
}

/* Returns whether it was refused memory. */
static bool run_without_memory(test_memory *memory) {
    const double x[] = {1, 2, 3, 4};
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory->allocator});
    if (!t) return true;
    ad_rng rng = {.seed = 6};
    ad_var q = ad_leaf(t, "q", AD_F64, AD_SHAPE(2, 2), x), mask = ad_leaf(t, "mask", AD_F64, AD_SHAPE(2, 2), x);
    ad_var noise = ad_rand(t, NULL, AD_F64, AD_SHAPE(2, 2), &rng);
    ad_var y = ad_attention(ad_rope(q, 10, 1), ad_dropout(q, 0.5, &rng), noise, mask, 1, AD_CAUSAL);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    ad_status status = ad_tape_status(t);
    cr_expect(status == AD_OK || status == AD_ERR_OOM, "%s", ad_tape_error(t));
    ad_tape_free(t);
    return status == AD_ERR_OOM;
}

Test(attention, survives_the_refusal_of_memory) {
    int refused = 0;
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        memory.fail_at = at;
        bool failed = run_without_memory(&memory);
        bool reached = memory.calls >= at;
        test_memory_close(&memory);
        refused += failed;
        if (!reached) break;
    }
    cr_expect_gt(refused, 10);
}
