/* The hand derivations that the project grew from (docs/derivations.md), each computed here by plain loops and compared
 * with what the tape gives. */
#include "helpers.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

enum { most = 8 };
static const double tolerance = 1e-12;

static void fill_normal(ad_rng *rng, int n, double *values) {
    for (int i = 0; i < n; i++) values[i] = ad_rng_normal(rng);
}

static void softmax(int n, const double *x, double *p) {
    double m = x[0], sum = 0;
    for (int i = 1; i < n; i++) m = fmax(m, x[i]);
    for (int i = 0; i < n; i++) sum += p[i] = exp(x[i] - m);
    for (int i = 0; i < n; i++) p[i] /= sum;
}

#define expect_all_near(view, n, want) expect_all_near_at(AD_HERE, view, n, want)
static void expect_all_near_at(const char *line, ad_view view, int n, const double *want) {
    cr_assert_eq(ad_view_count(&view), n, "%s: %lld elements", line, (long long)ad_view_count(&view));
    for (int i = 0; i < n; i++) expect_near_at(line, ad_view_get(&view, i), want[i], tolerance);
}

/* ---- softmax and cross-entropy ------------------------------------------------------------------------------------ */

/* The Jacobian of softmax is p_i (delta_ij - p_j). */
Test(derivation, jacobian_of_softmax) {
    ad_rng rng = {.seed = 1};
    for (int n = 1; n <= most; n++) {
        double x[most], p[most], row[most], unit[most] = {0};
        fill_normal(&rng, n, x);
        softmax(n, x, p);
        ad_tape *t = ad_tape_new(NULL);
        ad_var input = ad_leaf(t, "x", AD_F64, AD_SHAPE(n), x), y = ad_softmax(input, 0);
        expect_all_near(ad_value(y), n, p);
        for (int i = 0; i < n; i++) {
            unit[i] = 1;
            ad_backward_with(y, &(ad_backward_options){.seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(n), unit)});
            unit[i] = 0;
            for (int j = 0; j < n; j++) row[j] = p[i] * ((i == j) - p[j]);
            expect_all_near(ad_gradient(input), n, row);
        }
        expect_ok(t);
        ad_tape_free(t);
    }
}

/* e = -sum p* log p: the unfused path, whose parts have the derivatives -p* / p and then p - p*, as the fused has. */
Test(derivation, softmax_then_cross_entropy_collapses_to_p_minus_target) {
    ad_rng rng = {.seed = 2};
    for (int round = 0; round < 50; round++) {
        const int n = 1 + round % most, class = (int)ad_rng_below(&rng, n);
        double x[most], p[most], target[most] = {0}, by_p[most], by_x[most];
        fill_normal(&rng, n, x);
        softmax(n, x, p);
        target[class] = 1;
        for (int i = 0; i < n; i++) by_p[i] = -target[i] / p[i], by_x[i] = p[i] - target[i];
        ad_tape *t = ad_tape_new(NULL);
        ad_var input = ad_leaf(t, "x", AD_F64, AD_SHAPE(n), x), q = ad_softmax(input, -1);
        ad_var wanted = ad_constant(t, "target", AD_F64, AD_SHAPE(n), target);
        ad_var unfused = ad_neg(ad_sum(ad_mul(wanted, ad_log(q)), AD_ALL_AXES, false));
        ad_backward(unfused);
        expect_all_near(ad_gradient(q), n, by_p);
        expect_all_near(ad_gradient(input), n, by_x);
        const ad_var fused[] = {ad_softmax_xent(input, wanted), ad_softmax_xent(input, ad_index(t, class))};
        for (int i = 0; i < 2; i++) {
            expect_near(ad_item(fused[i]), ad_item(unfused), tolerance);
            ad_backward(fused[i]);
            expect_all_near(ad_gradient(input), n, by_x);
        }
        expect_ok(t);
        ad_tape_free(t);
    }
}

/* Where the unfused path has lost everything, the fused one is exact. */
Test(derivation, only_the_fused_loss_survives_large_logits) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1e4, -1e4});
    ad_var fused = ad_softmax_xent(x, ad_index(t, 1)), p = ad_softmax(x, 0);
    cr_assert_eq(ad_item(ad_neg(ad_log(ad_pick(p, ad_index(t, 1))))), INFINITY);
    cr_assert_eq(ad_item(fused), 2e4);
    ad_backward(fused);
    expect_values(ad_gradient(x), 1, -1);
    ad_tape_free(t);
}

/* ---- the residual dense layer ----------------------------------------------------------------------------------------- */

/* y = x + relu(H x + v) with softmax cross-entropy on top, and all that was derived by hand. */
typedef struct block {
    int n, class;
    double h[most * most], x[most], v[most];
    double x2[most], x3[most], x4[most], y[most], by_y[most], by_x3[most], by_x[most], by_h[most * most];
    double from_product[most]; /* H^T M de/dy, the part of de/dx that comes through the matrix product */
} block;

static block random_block(ad_rng *rng, int n) {
    block b = {.n = n, .class = (int)ad_rng_below(rng, n)};
    fill_normal(rng, n * n, b.h);
    fill_normal(rng, n, b.x);
    fill_normal(rng, n, b.v);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) b.x2[i] += b.h[i * n + j] * b.x[j];
        b.x3[i] = b.x2[i] + b.v[i];
        b.x4[i] = b.x3[i] > 0 ? b.x3[i] : 0;
        b.y[i] = b.x4[i] + b.x[i];
    }
    softmax(n, b.y, b.by_y);
    b.by_y[b.class] -= 1;
    for (int i = 0; i < n; i++) b.by_x3[i] = b.x3[i] > 0 ? b.by_y[i] : 0; /* M de/dy */
    for (int j = 0; j < n; j++) {
        for (int i = 0; i < n; i++) {
            b.from_product[j] += b.h[i * n + j] * b.by_x3[i];
            b.by_h[i * n + j] = b.by_x3[i] * b.x[j];
        }
        b.by_x[j] = b.from_product[j] + b.by_y[j];
    }
    return b;
}

/* The same on a tape. */
typedef struct taped {
    ad_var h, x, v, x2, x3, x4, y, e;
} taped;

static taped record(ad_tape *t, const block *b, ad_var h, ad_var v) {
    taped r = {.h = h, .v = v, .x = ad_leaf(t, "x", AD_F64, AD_SHAPE(b->n), b->x)};
    r.x2 = ad_matmul(r.h, r.x);
    r.x3 = ad_add(r.x2, r.v);
    r.x4 = ad_relu(r.x3);
    r.y = ad_add(r.x4, r.x);
    r.e = ad_softmax_xent(r.y, ad_index(t, b->class));
    return r;
}

Test(derivation, residual_block) {
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < 100; round++) {
        block b = random_block(&rng, 1 + round % most);
        ad_tape *t = ad_tape_new(NULL);
        taped r = record(t, &b, ad_leaf(t, "H", AD_F64, AD_SHAPE(b.n, b.n), b.h),
                         ad_leaf(t, "v", AD_F64, AD_SHAPE(b.n), b.v));
        ad_backward(r.e);
        expect_all_near(ad_value(r.x2), b.n, b.x2);
        expect_all_near(ad_value(r.x3), b.n, b.x3);
        expect_all_near(ad_value(r.x4), b.n, b.x4);
        expect_all_near(ad_value(r.y), b.n, b.y);
        expect_all_near(ad_gradient(r.y), b.n, b.by_y);
        expect_all_near(ad_gradient(r.x4), b.n, b.by_y);
        expect_all_near(ad_gradient(r.x3), b.n, b.by_x3);
        expect_all_near(ad_gradient(r.x2), b.n, b.by_x3);
        expect_all_near(ad_gradient(r.v), b.n, b.by_x3);
        expect_all_near(ad_gradient(r.h), b.n * b.n, b.by_h);
        expect_all_near(ad_gradient(r.x), b.n, b.by_x);
        expect_ok(t);
        ad_tape_free(t);
    }
}

/* At x two gradients merge: the tape names who gave which. */
Test(derivation, residual_block_merges_two_contributions_at_x) {
    ad_rng rng = {.seed = 4};
    block b = random_block(&rng, 5);
    ad_tape *t = ad_tape_new(NULL);
    taped r = record(t, &b, ad_leaf(t, "H", AD_F64, AD_SHAPE(5, 5), b.h), ad_leaf(t, "v", AD_F64, AD_SHAPE(5), b.v));
    ad_backward(r.e);
    ad_tensor *through_product, *through_skip;
    cr_assert_eq(ad_tape_contribution(t, r.x2.index, 1, &through_product), AD_OK);
    cr_assert_eq(ad_tape_contribution(t, r.y.index, 1, &through_skip), AD_OK);
    expect_all_near(*ad_tensor_view(through_product), 5, b.from_product);
    expect_all_near(*ad_tensor_view(through_skip), 5, b.by_y);
    ad_tensor_unref(through_product);
    ad_tensor_unref(through_skip);
    ad_tape_free(t);
}

/* H <- H - rate (M de/dy) x^T and v <- v - rate M de/dy. */
Test(derivation, gradient_descent) {
    const double rate = 0.1;
    ad_rng rng = {.seed = 5};
    for (int round = 0; round < 20; round++) {
        block b = random_block(&rng, 1 + round % most);
        ad_param *params[2];
        ad_optim *optim;
        ad_sgd_options options = ad_sgd_defaults();
        options.rate = rate;
        cr_assert_eq(ad_param_new(&params[0], NULL, "H", AD_F64, AD_SHAPE(b.n, b.n), b.h, NULL), AD_OK);
        cr_assert_eq(ad_param_new(&params[1], NULL, "v", AD_F64, AD_SHAPE(b.n), b.v, NULL), AD_OK);
        cr_assert_eq(ad_sgd_new(&optim, NULL, 2, params, &options, NULL), AD_OK);
        ad_tape *t = ad_tape_new(NULL);
        taped r = record(t, &b, ad_use(t, params[0]), ad_use(t, params[1]));
        ad_backward(r.e);
        expect_ok(t);
        cr_assert_eq(ad_optim_step(optim, NULL), AD_OK);
        for (int i = 0; i < b.n * b.n; i++) b.h[i] -= rate * b.by_h[i];
        for (int i = 0; i < b.n; i++) b.v[i] -= rate * b.by_x3[i];
        expect_all_near(*ad_param_value(params[0]), b.n * b.n, b.h);
        expect_all_near(*ad_param_value(params[1]), b.n, b.v);
        ad_tape_free(t);
        ad_optim_free(optim);
        ad_param_unref(params[0]);
        ad_param_unref(params[1]);
    }
}

/* The product must keep x from the forward pass, and relu the sign of its input, which its result has too. */
Test(derivation, what_backward_needs_is_declared) {
    cr_assert_eq(ad_op_find("matmul")->saves & AD_SAVES_INPUT(1), AD_SAVES_INPUT(1));
    cr_assert_eq(ad_op_find("relu")->saves, AD_SAVES_RESULT(0));
    cr_assert_eq(ad_op_find("add")->saves, AD_SAVES_NOTHING);
    cr_assert_eq(ad_op_find("softmax_xent")->saves, AD_SAVES_RESULT(1) | AD_SAVES_INPUT(1), "p and the class");
}
