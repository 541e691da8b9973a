/* Losses against PyTorch; what they do at the edges, and that they never broadcast. */
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

OP(mse, ad_mse(in[0], in[1]))
OP(l1, ad_l1(in[0], in[1]))
OP(huber, ad_huber(in[0], in[1], c->value))
OP(bce, ad_bce(in[0], in[1]))
OP(bce_with_logits, ad_bce_with_logits(in[0], in[1]))
OP(kl_div, ad_kl_div(in[0], in[1]))
OP(nll, ad_nll(in[0], in[1]))
OP(poisson_nll, ad_poisson_nll(in[0], in[1]))
OP(gaussian_nll, ad_gaussian_nll(in[0], in[1], in[2]))
OP(gaussian_kl, ad_gaussian_kl(in[0], in[1]))
OP(hinge, ad_hinge(in[0], in[1]))
OP(cosine_loss, ad_cosine_loss(in[0], in[1]))
OP(triplet_loss, ad_triplet_loss(in[0], in[1], in[2], c->value))
OP(ctc_loss, ad_ctc_loss(ad_log_softmax(in[0], -1), in[1], in[2], in[3], c->axis))

/* ---- edges ------------------------------------------------------------------------------------------------------------ */

static ad_var vector(ad_tape *t, const char *name, double a, double b) {
    return ad_leaf(t, name, AD_F64, AD_SHAPE(2), ((double[]){a, b}));
}

static void backward_of_sum(ad_var y) { ad_backward(ad_sum(y, AD_ALL_AXES, false)); }

Test(edge, certain_and_right_costs_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var p = vector(t, "p", 1, 0), y = vector(t, "y", 1, 0), x = vector(t, "x", INFINITY, -INFINITY);
    ad_var loss = ad_bce(p, y);
    expect_values(ad_value(loss), 0, 0);
    backward_of_sum(loss);
    expect_values(ad_gradient(p), -1, 1);
    expect_values(ad_value(ad_bce_with_logits(x, y)), 0, 0);
    ad_var kl = ad_kl_div(vector(t, "log p", 0, -INFINITY), y);
    expect_values(ad_value(kl), 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, equal_vectors_have_finite_gradients) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var a = vector(t, "a", 1, 2), zero = vector(t, "zero", 0, 0);
    backward_of_sum(ad_l1(a, a));
    expect_values(ad_gradient(a), 0, 0);
    backward_of_sum(ad_cosine_loss(a, zero));
    expect_values(ad_gradient(a), 0, 0);
    backward_of_sum(ad_triplet_loss(a, a, a, 1));
    expect_values(ad_gradient(a), 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(edge, a_target_that_does_not_fit_is_infinitely_unlikely_without_a_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    const double half = log(0.5);
    ad_var log_p = ad_leaf(t, "log p", AD_F64, AD_SHAPE(2, 2, 2),
                           ((double[]){half, half, half, half, half, half, half, half}));
    /* "1 1" needs a blank between, so three steps; "1" is said by 1 1, 1 0 and 0 1. */
    ad_var target = ad_constant(t, NULL, AD_I64, AD_SHAPE(2, 2), ((int64_t[]){1, 1, 1, 0}));
    ad_var steps = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){2, 2}));
    ad_var length = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){2, 1}));
    ad_var loss = ad_ctc_loss(log_p, target, steps, length, 0);
    expect_values(ad_value(loss), INFINITY, -log(0.75));
    backward_of_sum(loss);
    expect_values(ad_gradient(log_p), 0, 0, -1.0 / 3, -2.0 / 3, 0, 0, -1.0 / 3, -2.0 / 3);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- errors ----------------------------------------------------------------------------------------------------------- */

typedef ad_var (*two_inputs)(const char *, ad_var, ad_var);

static ad_var huber_1(const char *where, ad_var a, ad_var b) { return ad_huber_at(where, a, b, 1); }
static ad_var gaussian_1(const char *where, ad_var a, ad_var b) { return ad_gaussian_nll_at(where, a, a, b); }
static ad_var triplet_1(const char *where, ad_var a, ad_var b) { return ad_triplet_loss_at(where, a, b, a, 1); }

Test(errors, a_loss_never_broadcasts) {
    const two_inputs losses[] = {ad_mse_at,    ad_l1_at,          ad_bce_at,         ad_bce_with_logits_at,
                                 ad_kl_div_at, ad_hinge_at,       ad_poisson_nll_at, huber_1,
                                 gaussian_1,   ad_gaussian_kl_at, triplet_1,         ad_cosine_loss_at};
    ad_tape *t = ad_tape_new(NULL);
    for (int i = 0; i < TEST_COUNT(losses); i++) {
        ad_var a = ad_leaf(t, "a", AD_F64, AD_SHAPE(2, 1), ((double[]){1, 2})), b = vector(t, "b", 1, 2);
        losses[i](AD_HERE, a, b);
        expect_error(t, AD_ERR_SHAPE, "f64[2,1]", "f64[2]", "never broadcasts", "test_losses.c");
    }
    ad_tape_free(t);
}

static void expect_ctc_error(ad_status status, int64_t class, int64_t steps, int64_t length, int64_t blank,
                             const char *part) {
    ad_tape *t = ad_tape_new(NULL);
    double zeros[12] = {0};
    ad_var log_p = ad_leaf(t, "log p", AD_F64, AD_SHAPE(2, 2, 3), zeros);
    ad_var target = ad_constant(t, "words", AD_I64, AD_SHAPE(2, 1), ((int64_t[]){1, class}));
    ad_ctc_loss(log_p, target, ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){2, steps})),
                ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){1, length})), blank);
    expect_error(t, status, "ctc_loss at test_losses.c", part);
    ad_tape_free(t);
}

Test(errors, ctc_names_what_does_not_fit) {
    expect_ctc_error(AD_ERR_INDEX, 3, 2, 1, 0, "target [1,0] is 3");
    expect_ctc_error(AD_ERR_INDEX, 0, 2, 1, 0, "not the blank, 0");
    expect_ctc_error(AD_ERR_INDEX, 1, 3, 1, 0, "number of steps of example 1 is 3; it must be 1 to 2");
    expect_ctc_error(AD_ERR_INDEX, 1, 0, 1, 0, "number of steps of example 1 is 0");
    expect_ctc_error(AD_ERR_INDEX, 1, 2, 2, 0, "length of the target of example 1 is 2; it must be 0 to 1");
    expect_ctc_error(AD_ERR_INDEX, 1, 2, 1, 3, "the blank is 3, but there are 3 classes");
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = vector(t, "x", 1, 2);
    ad_ctc_loss(x, x, x, x, 0);
    expect_error(t, AD_ERR_SHAPE, "x is f64[2]", "[steps, examples, classes]");
    double zeros[12] = {0};
    ad_var log_p = ad_leaf(t, "log p", AD_F64, AD_SHAPE(2, 2, 3), zeros);
    ad_var target = ad_constant(t, "words", AD_I64, AD_SHAPE(3, 1), ((int64_t[]){1, 1, 1})), n = target;
    ad_ctc_loss(log_p, target, n, n, 0);
    expect_error(t, AD_ERR_SHAPE, "the target: words is i64[3,1]", "it must be i64[2,1]");
    log_p = ad_leaf(t, "log p", AD_F64, AD_SHAPE(2, 2, 3), zeros);
    ad_ctc_loss(log_p, (ad_var){0}, log_p, log_p, 0);
    expect_error(t, AD_ERR_HANDLE, "ctc_loss at", "the target");
    ad_tape_free(t);
}

Test(errors, huber_needs_a_positive_delta) {
    ad_tape *t = ad_tape_new(NULL);
    ad_huber(vector(t, "a", 1, 2), vector(t, "b", 1, 2), 0);
    expect_error(t, AD_ERR_VALUE, "huber at", "delta is 0", "positive");
    ad_tape_free(t);
}
