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

/* ---- errors ----------------------------------------------------------------------------------------------------------- */

typedef ad_var (*two_inputs)(const char *, ad_var, ad_var);

static ad_var huber_1(const char *where, ad_var a, ad_var b) { return ad_huber_at(where, a, b, 1); }
static ad_var gaussian_1(const char *where, ad_var a, ad_var b) { return ad_gaussian_nll_at(where, a, a, b); }
static ad_var triplet_1(const char *where, ad_var a, ad_var b) { return ad_triplet_loss_at(where, a, b, a, 1); }

Test(errors, a_loss_never_broadcasts) {
    const two_inputs losses[] = {ad_mse_at,  ad_l1_at,          ad_bce_at,   ad_bce_with_logits_at, ad_kl_div_at,
                                 ad_hinge_at, ad_poisson_nll_at, huber_1,     gaussian_1,            ad_gaussian_kl_at,
                                 triplet_1,   ad_cosine_loss_at};
    ad_tape *t = ad_tape_new(NULL);
    for (int i = 0; i < TEST_COUNT(losses); i++) {
        ad_var a = ad_leaf(t, "a", AD_F64, AD_SHAPE(2, 1), ((double[]){1, 2})), b = vector(t, "b", 1, 2);
        losses[i](AD_HERE, a, b);
        expect_error(t, AD_ERR_SHAPE, "f64[2,1]", "f64[2]", "never broadcasts", "test_losses.c");
    }
    ad_tape_free(t);
}

Test(errors, huber_needs_a_positive_delta) {
    ad_tape *t = ad_tape_new(NULL);
    ad_huber(vector(t, "a", 1, 2), vector(t, "b", 1, 2), 0);
    expect_error(t, AD_ERR_VALUE, "huber at", "delta is 0", "positive");
    ad_tape_free(t);
}
