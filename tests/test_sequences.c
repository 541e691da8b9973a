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
