/* Randomness, by its distribution and its replay, and ops that change the gradient alone. */
#include "helpers.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

TestSuite(sampling, .fini = test_arrays_free);

enum { many = 20000 };

static const ad_dtype dtypes[] = {AD_F32, AD_F64};

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov: the largest distance between the two distribution functions; beyond 1.95 / sqrt(n) with a
 * probability of 0.001. */
static void expect_distribution(ad_view sample, double (*cdf)(double)) {
    static double x[many];
    double largest = 0;
    for (int i = 0; i < many; i++) x[i] = test_get(&sample, i);
    qsort(x, many, sizeof *x, ascending);
    for (int i = 0; i < many; i++) {
        double above = (i + 1.0) / many - cdf(x[i]), below = cdf(x[i]) - (double)i / many;
        largest = fmax(largest, fmax(above, below));
    }
    cr_expect_lt(largest, 1.95 / sqrt(many), "the distribution functions differ by %g", largest);
}

/* Within four standard errors. */
static void expect_moments(ad_view sample, double mean, double variance) {
    double sum = 0, squares = 0;
    for (int i = 0; i < many; i++) sum += test_get(&sample, i);
    for (int i = 0; i < many; i++) squares += pow(test_get(&sample, i) - mean, 2);
    expect_near_at(AD_HERE, sum / many, mean, 4 * sqrt(variance / many));
    expect_near_at(AD_HERE, squares / many, variance, 0.05 * variance);
}

static double uniform_cdf(double x) { return fmin(fmax(x, 0), 1); }
static double normal_cdf(double x) { return 0.5 * erfc(-x * 0.70710678118654752); }

Test(sampling, rand_is_uniform_and_below_1) {
    for (int i = 0; i < 2; i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_rng rng = {.seed = 3};
        ad_view x = ad_value(ad_rand(t, "x", dtypes[i], AD_SHAPE(many), &rng));
        expect_distribution(x, uniform_cdf);
        expect_moments(x, 0.5, 1.0 / 12);
        for (int64_t k = 0; k < many; k++) cr_assert(test_get(&x, k) >= 0 && test_get(&x, k) < 1);
        cr_expect_eq(rng.counter, many);
        expect_ok(t);
        ad_tape_free(t);
    }
}

Test(sampling, randn_is_normal) {
    for (int i = 0; i < 2; i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_rng rng = {.seed = 4};
        ad_view x = ad_value(ad_randn(t, "x", dtypes[i], AD_SHAPE(many / 100, 100), &rng));
        expect_distribution(x, normal_cdf);
        expect_moments(x, 0, 1);
        expect_ok(t);
        ad_tape_free(t);
    }
}

Test(sampling, bernoulli_hits_with_its_probability) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 5};
    for (int i = 0; i < 2; i++) {
        ad_view x = ad_value(ad_bernoulli(t, NULL, dtypes[i], AD_SHAPE(many), 0.3, &rng));
        expect_moments(x, 0.3, 0.21);
        for (int64_t k = 0; k < many; k++) cr_assert(test_get(&x, k) == 0 || test_get(&x, k) == 1);
    }
    expect_values(ad_value(ad_bernoulli(t, NULL, AD_F64, AD_SHAPE(3), 0, &rng)), 0, 0, 0);
    expect_values(ad_value(ad_bernoulli(t, NULL, AD_F64, AD_SHAPE(3), 1, &rng)), 1, 1, 1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(sampling, neighbours_are_independent) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 6};
    ad_view x = ad_value(ad_randn(t, NULL, AD_F64, AD_SHAPE(many), &rng));
    double products = 0;
    for (int i = 1; i < many; i++) products += test_get(&x, i) * test_get(&x, i - 1);
    expect_near(products / many, 0, 4 / sqrt(many));
    ad_tape_free(t);
}

Test(sampling, a_copy_of_the_generator_replays) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 8, .counter = 123}, copy = rng;
    ad_view first = ad_value(ad_randn(t, NULL, AD_F64, AD_SHAPE(4, 5), &rng));
    ad_view next = ad_value(ad_randn(t, NULL, AD_F64, AD_SHAPE(4, 5), &rng));
    ad_view again = ad_value(ad_randn(t, NULL, AD_F64, AD_SHAPE(20), &copy));
    for (int64_t i = 0; i < 20; i++) {
        cr_expect_eq(test_get(&first, i), test_get(&again, i));
        cr_expect_neq(test_get(&first, i), test_get(&next, i));
    }
    ad_tape_free(t);
}

Test(sampling, a_refused_call_does_not_move_the_generator) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 8};
    ad_rand(t, NULL, AD_F64, AD_SHAPE(-1), &rng);
    expect_error(t, AD_ERR_LIMIT, "rand at", "f64[-1]", "not a possible shape", "test_sampling.c");
    ad_randn(t, NULL, AD_I32, AD_SHAPE(2), &rng);
    expect_error(t, AD_ERR_DTYPE, "randn at", "AD_F32 or AD_F64");
    ad_bernoulli(t, NULL, AD_F64, AD_SHAPE(2), 1.5, &rng);
    expect_error(t, AD_ERR_VALUE, "bernoulli at", "p is 1.5", "between 0 and 1");
    ad_dropout(LEAF(t, 1, 2), NAN, &rng);
    expect_error(t, AD_ERR_VALUE, "dropout at", "p is nan", "between 0 and 1");
    ad_gumbel_softmax(LEAF(t, 1, 2), 0, AD_HARD, &rng);
    expect_error(t, AD_ERR_VALUE, "gumbel_softmax at", "temperature is 0", "positive");
    ad_gumbel_softmax(ad_leaf(t, NULL, AD_F64, AD_SCALAR, &(double){1}), 1, AD_HARD, &rng);
    expect_error(t, AD_ERR_INDEX, "gumbel_softmax", "test_sampling.c");
    ad_rand(t, NULL, AD_F64, AD_SHAPE(2), NULL);
    expect_error(t, AD_ERR_NULL, "rand at", "generator is NULL");
    ad_dropout(LEAF(t, 1, 2), 0.5, NULL);
    expect_error(t, AD_ERR_NULL, "dropout at", "generator is NULL");
    ad_gumbel_softmax(LEAF(t, 1, 2), 1, AD_HARD, NULL);
    expect_error(t, AD_ERR_NULL, "gumbel_softmax at", "generator is NULL");
    cr_expect_eq(rng.counter, 0);
    ad_tape_free(t);
}

/* ---- dropout --------------------------------------------------------------------------------------------------------- */

Test(sampling, dropout_keeps_the_mean_and_drops_its_part) {
    for (int i = 0; i < 2; i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_rng rng = {.seed = 9};
        ad_var x = ad_broadcast_to(ad_number(t, dtypes[i], 1), AD_SHAPE(many));
        ad_view y = ad_value(ad_dropout(x, 0.2, &rng));
        expect_moments(y, 1, 0.25); /* p / (1 - p) */
        for (int64_t k = 0; k < many; k++) cr_assert(test_get(&y, k) == 0 || test_near(test_get(&y, k), 1.25, 1e-7));
        cr_expect_eq(rng.counter, many);
        ad_tape_free(t);
    }
}

Test(sampling, dropout_of_0_and_of_1) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 10};
    ad_var x = LEAF(t, 1, -2, INFINITY), g = CONSTANT(t, 1, 2, 3);
    ad_var all = ad_dropout(x, 0, &rng), none = ad_dropout(x, 1, &rng);
    expect_values(ad_value(all), 1, -2, INFINITY);
    expect_gradient(all, g, x, 1, 2, 3);
    expect_values(ad_value(none), 0, 0, 0);
    expect_gradient(none, g, x, 0, 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(sampling, the_gradient_of_dropout_goes_to_what_was_kept) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 11}, copy = rng;
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(10), ((double[10]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
    ad_var turned = ad_flip(x, AD_AXES(0)), y = ad_dropout(turned, 0.5, &rng), again = ad_dropout(x, 0.5, &copy);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    ad_view value = ad_value(y), same = ad_value(again), gradient = ad_gradient(x);
    int kept = 0;
    for (int64_t i = 0; i < 10; i++) {
        kept += test_get(&value, i) != 0;
        cr_expect_eq(test_get(&value, i), test_get(&same, i), "strides do not matter");
        cr_expect_eq(test_get(&gradient, 9 - i), test_get(&value, i));
    }
    cr_expect(kept > 0 && kept < 10);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- gradients by design ----------------------------------------------------------------------------------------------- */

Test(control, the_gradient_alone_is_scaled) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, -0.0, INFINITY), g = CONSTANT(t, 1, 2, 3);
    ad_var half = ad_scale_gradient(x, 0.5), back = ad_reverse_gradient(x), none = ad_scale_gradient(x, 0);
    expect_values(ad_value(half), 1, -0.0, INFINITY);
    expect_gradient(half, g, x, 0.5, 1, 1.5);
    expect_values(ad_value(back), 1, -0.0, INFINITY);
    expect_gradient(back, g, x, -1, -2, -3);
    expect_gradient(none, g, x, 0, 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(control, each_order_of_derivative_scales_once_more) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 3), cube, slope, curve;
    ad_var y = ad_scale_gradient(x, 0.5);
    cube = ad_mul(y, ad_mul(y, y));
    ad_grad(cube, CONSTANT(t, 1), 1, &x, &slope);
    expect_values(ad_value(slope), 13.5); /* 0.5 * 3 x^2 */
    ad_grad(slope, CONSTANT(t, 1), 1, &x, &curve);
    expect_values(ad_value(curve), 4.5); /* 0.25 * 6 x */
    expect_ok(t);
    ad_tape_free(t);
}

Test(control, straight_through_gives_the_gradient_to_the_other) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 0.3, -1.7), g = CONSTANT(t, 5, 7), y = ad_straight_through(ad_round(x), x);
    expect_values(ad_value(y), 0, -2);
    expect_gradient(y, g, x, 5, 7);
    expect_ok(t);
    ad_straight_through(LEAF(t, 1), x);
    expect_error(t, AD_ERR_SHAPE, "straight_through at", "f64[1]", "f64[2]", "differ in shape", "test_sampling.c");
    ad_tape_free(t);
}

/* ---- gumbel_softmax ---------------------------------------------------------------------------------------------------- */

Test(sampling, gumbel_softmax_chooses_with_the_probabilities_of_softmax) {
    const double p[] = {0.6, 0.3, 0.1};
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 12};
    ad_var logits = ad_broadcast_to(CONSTANT(t, log(0.6), log(0.3), log(0.1)), AD_SHAPE(many, 3));
    ad_view mean = ad_value(ad_mean(ad_gumbel_softmax(logits, 0.5, AD_HARD, &rng), AD_AXES(0), false));
    for (int64_t i = 0; i < 3; i++) expect_near(test_get(&mean, i), p[i], 4 * sqrt(p[i] * (1 - p[i]) / many));
    expect_ok(t);
    ad_tape_free(t);
}

Test(sampling, hard_gumbel_softmax_has_the_gradient_of_the_soft_one) {
    ad_tape *t = ad_tape_new(NULL);
    ad_rng rng = {.seed = 13}, copy = rng;
    ad_var x = LEAF(t, 1, 0.5, -0.5), g = CONSTANT(t, 1, 2, -1), hard_slope, soft_slope;
    ad_var hard = ad_gumbel_softmax(x, 0.7, AD_HARD, &rng), soft = ad_gumbel_softmax(x, 0.7, !AD_HARD, &copy);
    ad_view values = ad_value(hard), probabilities = ad_value(soft);
    double sum = 0, likely = 0;
    for (int64_t i = 0; i < 3; i++) likely = fmax(likely, test_get(&probabilities, i));
    for (int64_t i = 0; i < 3; i++) {
        sum += test_get(&probabilities, i);
        cr_expect_eq(test_get(&values, i), test_get(&probabilities, i) == likely);
    }
    expect_near(sum, 1, 1e-14);
    ad_grad(hard, g, 1, &x, &hard_slope);
    ad_grad(soft, g, 1, &x, &soft_slope);
    ad_view a = ad_value(hard_slope), b = ad_value(soft_slope);
    cr_expect(test_same_bits(&a, &b));
    cr_expect_neq(test_get(&a, 0), 0);
    expect_ok(t);
    ad_tape_free(t);
}
