/* Derivatives of functions as functions: against closed forms, inside one another, and what they refuse. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

/* y0 = a b (a scalar times a vector), y1 = sum of b^3 + a^2. */
static ad_status pair_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_mul(in[0], in[1]);
    out[1] = ad_add(total(ad_power(in[1], 3)), ad_square(in[0]));
    return AD_OK;
}
static const ad_function pair = {.fn = pair_fn, .inputs = 2, .outputs = 2, .name = "pair"};

/* f(a, b) = a sum(b^2) + exp(a) */
static ad_status energy_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_add(ad_mul(in[0], total(ad_square(in[1]))), ad_exp(in[0]));
    return AD_OK;
}
static const ad_function energy = {.fn = energy_fn, .inputs = 2, .outputs = 1, .name = "energy"};

/* a = 2, b = (1, -3), and directions 5 and (7, 11), as leaves and then constants. */
static void points(ad_tape *t, ad_var x[4]) {
    x[0] = ad_scalar(t, "a", 2);
    x[1] = LEAF(t, 1, -3);
    x[2] = ad_number(t, AD_F64, 5);
    x[3] = CONSTANT(t, 7, 11);
}

/* ---- each of them, against the hand ------------------------------------------------------------------------------------ */

Test(transform, a_function_is_called_and_may_overwrite_its_inputs) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4];
    points(t, x);
    cr_assert_eq(ad_function_record(&pair, t, x, x), AD_OK);
    expect_values(ad_value(x[0]), 2, -6);
    expect_values(ad_value(x[1]), 1 - 27 + 4);
    expect_ok(t);
    ad_tape_free(t);
}

Test(transform, gradients_with_and_without_the_value) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], g[2], both[3];
    points(t, x);
    ad_function gradient = ad_grad_of(&energy), value_and = ad_value_and_grad_of(&energy);
    cr_assert(gradient.inputs == 2 && gradient.outputs == 2 && value_and.outputs == 3);
    ad_function_record(&gradient, t, x, g);
    ad_function_record(&value_and, t, x, both);
    expect_values(ad_value(g[0]), 10 + exp(2));
    expect_values(ad_value(g[1]), 4, -12);
    expect_values(ad_value(both[0]), 20 + exp(2));
    expect_values(ad_value(both[1]), 10 + exp(2));
    expect_values(ad_value(both[2]), 4, -12);
    expect_ok(t);
    ad_tape_free(t);
}

Test(transform, products_with_the_jacobian) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], out[4], seeded[4];
    points(t, x);
    ad_function jvp = ad_jvp_of(&pair), vjp = ad_vjp_of(&pair);
    ad_function_record(&jvp, t, x, out);
    expect_values(ad_value(out[0]), 2, -6);
    expect_values(ad_value(out[1]), -22);
    expect_values(ad_value(out[2]), 5 * 1 + 2 * 7, 5 * -3 + 2 * 11);
    expect_values(ad_value(out[3]), 3 * 1 * 7 + 3 * 9 * 11 + 2 * 2 * 5);
    memcpy(seeded, x, sizeof seeded);
    seeded[2] = CONSTANT(t, 7, 11);
    seeded[3] = ad_number(t, AD_F64, 5);
    ad_function_record(&vjp, t, seeded, out);
    expect_values(ad_value(out[0]), 2, -6);
    expect_values(ad_value(out[1]), -22);
    expect_values(ad_value(out[2]), 7 * 1 + 11 * -3 + 5 * 4);
    expect_values(ad_value(out[3]), 7 * 2 + 5 * 3, 11 * 2 + 5 * 27);
    expect_ok(t);
    ad_tape_free(t);
}

/* H = (exp(a), 2 b^T; 2 b, 2 a I) */
Test(transform, products_with_the_hessian_itself_and_its_diagonal) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], out[4];
    points(t, x);
    ad_function hvp = ad_hvp_of(&energy), hessian = ad_hessian_of(&energy),
                diagonal = ad_hessian_diagonal_of(&energy);
    ad_function_record(&hvp, t, x, out);
    expect_values(ad_value(out[0]), 10 + exp(2));
    expect_values(ad_value(out[1]), 4, -12);
    expect_values(ad_value(out[2]), exp(2) * 5 + 2 * 7 - 6 * 11);
    expect_values(ad_value(out[3]), 2 * 5 + 4 * 7, -6 * 5 + 4 * 11);
    ad_function_record(&hessian, t, x, out);
    expect_values(ad_value(out[0]), exp(2));
    expect_values(ad_value(out[1]), 2, -6);
    expect_values(ad_value(out[2]), 2, -6);
    expect_values(ad_value(out[3]), 4, 0, 0, 4);
    ad_function_record(&diagonal, t, x, out);
    expect_values(ad_value(out[0]), exp(2));
    expect_values(ad_value(out[1]), 4, 4);
    expect_ok(t);
    ad_tape_free(t);
}

/* By columns: 3 inputs elements, 3 outputs elements are rows; with b longer it is 3 of each, so both ways are met below. */
static ad_status widen_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_mul(ad_reshape(in[0], AD_SHAPE(2, 1)), CONSTANT(in[0].tape, 1, 2, 3));
    return AD_OK;
}

Test(transform, jacobians_by_rows_and_by_columns) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], j[4];
    points(t, x);
    ad_function by_rows = ad_jacobian_of(&pair);
    ad_function_record(&by_rows, t, x, j);
    expect_values(ad_value(j[0]), 1, -3);
    expect_values(ad_value(j[1]), 2, 0, 0, 2);
    expect_values(ad_value(j[2]), 4);
    expect_values(ad_value(j[3]), 3, 27);
    const ad_function widen = {.fn = widen_fn, .inputs = 1, .outputs = 1};
    ad_function by_columns = ad_jacobian_of(&widen);
    ad_function_record(&by_columns, t, &x[1], j);
    ad_view view = ad_value(j[0]);
    cr_assert(ad_shape_equal(&view.shape, &AD_SHAPE(2, 3, 2)));
    expect_values(view, 1, 0, 2, 0, 3, 0, 0, 1, 0, 2, 0, 3);
    expect_ok(t);
    ad_tape_free(t);
}

static ad_status softplus_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_add(total(ad_softplus(in[0])), ad_softplus(in[1]));
    return AD_OK;
}

/* J v = (19, 7; 338), J^T of that; with a loss, its Hessian comes between. */
Test(transform, gauss_newton_products) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], out[4];
    points(t, x);
    const double v0 = 19, v1 = 7, v2 = 21 + 297 + 20;
    ad_function plain = ad_gauss_newton_of(&pair, NULL);
    ad_function_record(&plain, t, x, out);
    expect_values(ad_value(out[0]), 2, -6);
    expect_values(ad_value(out[2]), v0 - 3 * v1 + 4 * v2);
    expect_values(ad_value(out[3]), 2 * v0 + 3 * v2, 2 * v1 + 27 * v2);
    const ad_function loss = {.fn = softplus_fn, .inputs = 2, .outputs = 1};
    ad_function curved = ad_gauss_newton_of(&pair, &loss);
    ad_function_record(&curved, t, x, out);
    const double y[] = {2, -6, -22}, moved[] = {v0, v1, v2};
    double w[3];
    for (int i = 0; i < 3; i++) w[i] = moved[i] / (1 + exp(y[i])) / (1 + exp(-y[i]));
    expect_near(ad_item(out[2]), w[0] - 3 * w[1] + 4 * w[2], 1e-14);
    expect_near(((const double *)ad_value(out[3]).data)[0], 2 * w[0] + 3 * w[2], 1e-14);
    expect_near(((const double *)ad_value(out[3]).data)[1], 2 * w[1] + 27 * w[2], 1e-14);
    expect_ok(t);
    ad_tape_free(t);
}

/* y0(t) = (2 + 5 t)(1 + 7 t), (2 + 5 t)(-3 + 11 t); y1(t) = (1 + 7 t)^3 + (-3 + 11 t)^3 + (2 + 5 t)^2 */
Test(transform, derivatives_along_a_line) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[4], out[10];
    points(t, x);
    ad_function line = ad_directional_of(&pair, 4);
    cr_assert_eq(line.outputs, 10);
    ad_function_record(&line, t, x, out);
    expect_values(ad_value(out[0]), 2, -6);
    expect_values(ad_value(out[2]), 19, 7);
    expect_values(ad_value(out[4]), 70, 110);
    expect_values(ad_value(out[6]), 0, 0);
    expect_values(ad_value(out[1]), -22);
    expect_values(ad_value(out[3]), 338);
    expect_values(ad_value(out[5]), 6 * 49 - 18 * 121 + 50);
    expect_values(ad_value(out[7]), 6 * (343 + 1331));
    expect_values(ad_value(out[9]), 0);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- to any order ------------------------------------------------------------------------------------------------------ */

enum { ORDERS = 6 };

static ad_status exp_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_exp(in[0]);
    return AD_OK;
}
static ad_status sin_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_sin(in[0]);
    return AD_OK;
}
/* x^6 as products; */
static ad_status product_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    ad_var cube = ad_mul(ad_mul(in[0], in[0]), in[0]);
    out[0] = ad_mul(cube, cube);
    return AD_OK;
}
/* x exp(x), whose derivatives are (x + k) exp(x). */
static ad_status x_exp_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_mul(in[0], ad_exp(in[0]));
    return AD_OK;
}

static double exp_k(double x, int k) { return exp(x + 0 * k); }
static double sin_k(double x, int k) {
    const double cycle[] = {sin(x), cos(x), -sin(x), -cos(x)};
    return cycle[k % 4];
}
static double product_k(double x, int k) {
    double factor = 1;
    for (int i = 0; i < k; i++) factor *= 6 - i;
    return factor * pow(x, 6 - k);
}
static double x_exp_k(double x, int k) { return (x + k) * exp(x); }

static const struct {
    const char *name;
    ad_status (*fn)(ad_tape *t, const ad_var *in, ad_var *out, void *user);
    double (*derivative)(double x, int k);
} closed[] = {{"exp", exp_fn, exp_k},
              {"sin", sin_fn, sin_k},
              {"x^6", product_fn, product_k},
              {"x exp(x)", x_exp_fn, x_exp_k}};

/* Gradients of gradients of ..., by functions of functions; and forward mode in forward mode. */
Test(transform, nested_derivatives_to_the_sixth_order) {
    const double points_at[] = {-1.5, 0.25, 2};
    for (int f = 0; f < TEST_COUNT(closed); f++) {
        ad_function chain[ORDERS + 1] = {{.fn = closed[f].fn, .inputs = 1, .outputs = 1}};
        for (int k = 0; k < ORDERS; k++) chain[k + 1] = ad_grad_of(&chain[k]);
        ad_function line = ad_directional_of(&chain[0], ORDERS);
        for (int p = 0; p < TEST_COUNT(points_at); p++) {
            double x = points_at[p];
            ad_tape *t = ad_tape_new(NULL);
            ad_var in[] = {ad_scalar(t, "x", x), ad_number(t, AD_F64, 1)}, nested, along[ORDERS + 1];
            ad_function_record(&line, t, in, along);
            for (int k = 0; k <= ORDERS; k++) {
                ad_function_record(&chain[k], t, in, &nested);
                double want = closed[f].derivative(x, k);
                cr_assert(test_near(ad_item(nested), want, 4e-15), "%s, order %d at %g: %.17g, not %.17g",
                          closed[f].name, k, x, ad_item(nested), want);
                cr_assert(test_near(ad_item(along[k]), want, 4e-15), "%s, order %d at %g along: %.17g, not %.17g",
                          closed[f].name, k, x, ad_item(along[k]), want);
            }
            expect_ok(t);
            ad_tape_free(t);
        }
    }
}

/* Every way to the second and third derivative of one function gives the same. */
Test(transform, modes_nest_in_any_order) {
    const double x = 0.75;
    ad_function f = {.fn = x_exp_fn, .inputs = 1, .outputs = 1};
    ad_function grad = ad_grad_of(&f), forward = ad_jvp_of(&f), hvp = ad_hvp_of(&f), hessian = ad_hessian_of(&f);
    ad_function forward_reverse = ad_jvp_of(&grad), reverse_jacobian = ad_jacobian_of(&grad);
    ad_function forward_forward = ad_jvp_of(&forward), third = ad_grad_of(&hessian), hvp_hessian = ad_hvp_of(&grad);
    ad_tape *t = ad_tape_new(NULL);
    ad_var one = ad_number(t, AD_F64, 1), in[] = {ad_scalar(t, "x", x), one, one, ad_number(t, AD_F64, 0)}, out[4];
    ad_function_record(&hvp, t, in, out);
    expect_near(ad_item(out[1]), x_exp_k(x, 2), 1e-15);
    ad_function_record(&forward_reverse, t, in, out);
    expect_near(ad_item(out[1]), x_exp_k(x, 2), 1e-15);
    ad_function_record(&reverse_jacobian, t, in, out);
    expect_near(ad_item(out[0]), x_exp_k(x, 2), 1e-15);
    ad_function_record(&forward_forward, t, in, out);
    expect_near(ad_item(out[0]), x_exp_k(x, 0), 1e-15);
    expect_near(ad_item(out[3]), x_exp_k(x, 2), 1e-15);
    ad_function_record(&third, t, in, out);
    expect_near(ad_item(out[0]), x_exp_k(x, 3), 1e-15);
    ad_function_record(&hvp_hessian, t, in, out);
    expect_near(ad_item(out[1]), x_exp_k(x, 3), 1e-15);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- inside a function that is differentiated --------------------------------------------------------------------------- */

static ad_status plus_captured_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t;
    out[0] = ad_add(*(const ad_var *)user, in[0]);
    return AD_OK;
}

/* d/dx (x d/dy (x + y)) at y = x is 1: the inner derivative is by y alone (Siskind and Pearlmutter 2005). */
static ad_status confused_by_grad_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = in[0], inner;
    ad_function plus = {.fn = plus_captured_fn, .inputs = 1, .outputs = 1, .user = &x}, by_y = ad_grad_of(&plus);
    ad_function_record(&by_y, t, &x, &inner);
    out[0] = ad_mul(x, inner);
    return AD_OK;
}
static ad_status confused_by_jvp_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = in[0], both[] = {x, ad_number(t, AD_F64, 1)}, inner[2];
    ad_function plus = {.fn = plus_captured_fn, .inputs = 1, .outputs = 1, .user = &x}, by_y = ad_jvp_of(&plus);
    ad_function_record(&by_y, t, both, inner);
    out[0] = ad_mul(x, inner[1]);
    return AD_OK;
}

Test(transform, perturbations_are_not_confused) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[] = {ad_scalar(t, "x", 3), ad_number(t, AD_F64, 1)}, out[2];
    const ad_function by_grad = {.fn = confused_by_grad_fn, .inputs = 1, .outputs = 1};
    const ad_function by_jvp = {.fn = confused_by_jvp_fn, .inputs = 1, .outputs = 1};
    const ad_function *inner[] = {&by_grad, &by_jvp};
    for (int i = 0; i < 2; i++) {
        ad_function reverse = ad_grad_of(inner[i]), forward = ad_jvp_of(inner[i]);
        ad_function_record(&reverse, t, x, out);
        cr_assert_eq(ad_item(out[0]), 1);
        ad_function_record(&forward, t, x, out);
        cr_assert_eq(ad_item(out[1]), 1);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* f(x) = sum(w x^3) with the weights captured. */
static ad_status weighted_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t;
    out[0] = total(ad_mul(*(const ad_var *)user, ad_power(in[0], 3)));
    return AD_OK;
}

/* The penalty |df/dx|^2 = sum (3 w x^2)^2 has the derivatives 18 w x^4 by w and 36 w^2 x^3 by x. */
Test(transform, a_gradient_penalty_is_differentiated) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var w = LEAF(t, 1, -2), x = LEAF(t, 3, 2), g;
    ad_function f = {.fn = weighted_fn, .inputs = 1, .outputs = 1, .user = &w}, gradient = ad_grad_of(&f);
    ad_function_record(&gradient, t, &x, &g);
    ad_backward(total(ad_square(g)));
    expect_values(ad_gradient(w), 18 * 81, 18 * -2 * 16);
    expect_values(ad_gradient(x), 36 * 27, 36 * 4 * 8);
    expect_ok(t);
    ad_tape_free(t);
}

/* A step of descent on half w^2 a, w' = w - r a w, then the loss half w'^2 b: by w, (1 - r a)^2 b w; by r,
 * -a w (1 - r a) w b. */
static ad_status half_square_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t;
    out[0] = ad_scale(total(ad_square(in[0])), *(const double *)user / 2);
    return AD_OK;
}

Test(transform, a_step_of_descent_is_differentiated) {
    double a = 3, b = 5;
    ad_tape *t = ad_tape_new(NULL);
    ad_var w = ad_scalar(t, "w", 2), rate = ad_scalar(t, "rate", 0.25), g, loss;
    ad_function inner = {.fn = half_square_fn, .inputs = 1, .outputs = 1, .user = &a}, slope = ad_grad_of(&inner);
    ad_function outer = {.fn = half_square_fn, .inputs = 1, .outputs = 1, .user = &b};
    ad_function_record(&slope, t, &w, &g);
    ad_var moved = ad_sub(w, ad_mul(rate, g));
    ad_function_record(&outer, t, &moved, &loss);
    ad_backward(loss);
    expect_values(ad_gradient(w), 0.25 * 0.25 * 5 * 2);
    expect_values(ad_gradient(rate), -3 * 2 * 0.25 * 2 * 5);
    expect_ok(t);
    ad_tape_free(t);
}

/* Constants can be differentiated by, and where the tape records no gradients results get none. */
Test(transform, constants_and_tapes_that_record_no_gradients) {
    ad_tape *t = ad_tape_new(NULL);
    ad_function gradient = ad_grad_of(&energy);
    ad_var x[] = {ad_number(t, AD_F64, 2), CONSTANT(t, 1, -3)}, g[2];
    ad_function_record(&gradient, t, x, g);
    expect_values(ad_value(g[1]), 4, -12);
    t->no_grad = 1;
    ad_var leaf = LEAF(t, 1, -3), both[] = {x[0], leaf};
    ad_function_record(&gradient, t, both, g);
    cr_assert_eq(t->no_grad, 1);
    t->no_grad = 0;
    expect_values(ad_value(g[1]), 4, -12);
    ad_node_info info;
    ad_tape_node(t, g[1].index, &info);
    cr_assert(!info.needs_gradient);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- numbers in, numbers out --------------------------------------------------------------------------------------------- */

static ad_tensor *tensor(ad_dtype dtype, ad_shape shape, const void *data) {
    ad_tensor *made;
    cr_assert_eq(ad_tensor_new(&made, NULL, dtype, shape, data, NULL), AD_OK);
    return made;
}

Test(transform, numbers_are_enough) {
    ad_tensor *in[] = {tensor(AD_F64, AD_SCALAR, (double[]){2}), tensor(AD_F64, AD_SHAPE(2), (double[]){1, -3}),
                       tensor(AD_F64, AD_SCALAR, (double[]){5}), tensor(AD_F64, AD_SHAPE(2), (double[]){7, 11})},
              *out[4];
    ad_function hvp = ad_hvp_of(&energy), hessian = ad_hessian_of(&energy);
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_function_evaluate(&hvp, NULL, in, out, &error), AD_OK, "%s", error.message);
    expect_values(*ad_tensor_view(out[2]), exp(2) * 5 + 2 * 7 - 6 * 11);
    expect_values(*ad_tensor_view(out[3]), 2 * 5 + 4 * 7, -6 * 5 + 4 * 11);
    for (int i = 0; i < 4; i++) ad_tensor_unref(out[i]);
    cr_assert_eq(ad_function_evaluate(&hessian, NULL, in, out, NULL), AD_OK);
    expect_values(*ad_tensor_view(out[3]), 4, 0, 0, 4);
    for (int i = 0; i < 4; i++) ad_tensor_unref(out[i]);
    for (int i = 0; i < 4; i++) ad_tensor_unref(in[i]);
}

/* A function with all that a pass must leave alone or get right: a hook, a parameter, an input that nothing depends on, one
 * that is passed on, several dtypes and ranks. */
typedef struct mixture {
    ad_param *param;
    bool hooked;
    int outputs;
} mixture;

static void spoil(void *user, ad_var x, const ad_view *gradient) {
    (void)user, (void)x;
    ad_kernels_get()->fill(gradient, 1e9);
}

static ad_status mixture_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    const mixture *m = user;
    ad_var h = ad_tanh(ad_mul(in[0], ad_add(in[1], ad_use(t, m->param)))), single = ad_cast(ad_exp(in[1]), AD_F32);
    if (m->hooked) ad_on_gradient(h, spoil, NULL);
    out[0] = ad_add(ad_mul(total(ad_square(h)), in[0]), ad_cast(total(single), AD_F64));
    if (m->outputs > 1) out[1] = ad_mul(h, in[3]);
    if (m->outputs > 2) out[2] = in[0];
    return AD_OK;
}

typedef ad_function transform_of(const ad_function *f);

/* takes_u: its further inputs go with the outputs of f, and not with the inputs. */
static void expect_numbers_as_recorded(transform_of *make, bool takes_u, mixture *m, const char *name) {
    ad_function f = {.fn = mixture_fn, .inputs = 4, .constants = 1, .outputs = m->outputs, .user = m}, g = make(&f);
    const ad_view one = test_random(AD_F64, AD_SCALAR, TEST_DENSE, 1),
                  few = test_random(AD_F64, AD_SHAPE(3), TEST_DENSE, 2),
                  none = test_random(AD_F32, AD_SHAPE(2, 0), TEST_DENSE, 3);
    const ad_view *of_f[] = {&one, &few, &none}, *of_outputs[] = {&one, &few, &one};
    ad_tensor *in[8] = {NULL}, *out[64] = {NULL};
    ad_error error = {AD_OK, ""};
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[8], y[64];
    for (int i = 0; i < g.inputs; i++) {
        const ad_view *v = i == g.inputs - 1 ? &few : i < 3 ? of_f[i] : takes_u ? of_outputs[i - 3] : of_f[i - 3];
        ad_tensor_new(&in[i], NULL, v->dtype, v->shape, v->data, &error);
        x[i] = ad_leaf_tensor(t, NULL, in[i]);
    }
    cr_assert_eq(ad_function_record(&g, t, x, y), AD_OK, "%s: %s", name, ad_tape_error(t));
    cr_assert_eq(ad_function_evaluate(&g, NULL, in, out, &error), AD_OK, "%s: %s", name, error.message);
    for (int j = 0; j < g.outputs; j++) {
        const ad_view recorded = ad_value(y[j]), *number = ad_tensor_view(out[j]);
        cr_assert(ad_shape_equal(&recorded.shape, &number->shape) && recorded.dtype == number->dtype);
        for (int64_t i = 0; i < ad_view_count(number); i++) {
            const double a = ad_view_get(&recorded, i), b = ad_view_get(number, i);
            cr_assert_float_eq(a, b, 1e-6 * (fabs(a) + 1e-9), "%s, output %d[%d]: %g, not %g", name, j, (int)i, b, a);
        }
        ad_tensor_unref(out[j]);
    }
    for (int i = 0; i < g.inputs; i++) ad_tensor_unref(in[i]);
    ad_tape_free(t);
}

Test(transform, on_numbers_as_recorded, .fini = test_arrays_free) {
    mixture m = {.outputs = 1};
    ad_param_new(&m.param, NULL, "p", AD_F64, AD_SHAPE(3), (double[]){1, -2, 0.5}, NULL);
    const double *gradient = ad_param_gradient(m.param)->data, before[] = {7, 8, 9};
    memcpy((void *)(uintptr_t)gradient, before, sizeof before);
    for (int hooked = 0; hooked < 2; hooked++) {
        m.hooked = hooked;
        m.outputs = 1;
        expect_numbers_as_recorded(ad_grad_of, false, &m, "gradient");
        expect_numbers_as_recorded(ad_value_and_grad_of, false, &m, "value and gradient");
        expect_numbers_as_recorded(ad_hvp_of, false, &m, "Hessian times v");
        expect_numbers_as_recorded(ad_hessian_of, false, &m, "Hessian");
        expect_numbers_as_recorded(ad_hessian_diagonal_of, false, &m, "diagonal of the Hessian");
        m.outputs = 3;
        expect_numbers_as_recorded(ad_jvp_of, false, &m, "J v");
        expect_numbers_as_recorded(ad_vjp_of, true, &m, "u J");
        expect_numbers_as_recorded(ad_jacobian_of, false, &m, "Jacobian");
    }
    cr_assert_arr_eq(gradient, before, sizeof before, "a parameter's gradient was written");
    ad_param_unref(m.param);
}

Test(transform, a_linear_map_multiplies_and_moves) {
    ad_tensor *in[] = {tensor(AD_F64, AD_SCALAR, (double[]){2}), tensor(AD_F64, AD_SHAPE(2), (double[]){1, -3})};
    ad_linear *linear;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_linear_new(&linear, &pair, NULL, in, &error), AD_OK, "%s", error.message);
    cr_assert(ad_linear_rows(linear) == 3 && ad_linear_columns(linear) == 3);
    double out[9], at[] = {1, 2, 0};
    ad_linear_value(linear, out, NULL);
    cr_assert(out[0] == 2 && out[1] == -6 && out[2] == -22);
    for (int again = 0; again < 3; again++) {
        cr_assert_eq(ad_linear_push(linear, (double[]){5, 7, 11}, out, NULL), AD_OK);
        cr_assert(out[0] == 19 && out[1] == 7 && out[2] == 338);
        cr_assert_eq(ad_linear_pull(linear, (double[]){7, 11, 5}, out, NULL), AD_OK);
        cr_assert(out[0] == -6 && out[1] == 29 && out[2] == 157);
    }
    cr_assert_eq(ad_linear_dense(linear, out, NULL), AD_OK);
    cr_assert_arr_eq(out, ((double[]){1, 2, 0, -3, 0, 2, 4, 3, 27}), sizeof out);
    cr_assert_eq(ad_linear_move(linear, at, NULL), AD_OK);
    cr_assert_eq(ad_linear_dense(linear, out, NULL), AD_OK);
    cr_assert_arr_eq(out, ((double[]){2, 1, 0, 0, 0, 1, 2, 12, 0}), sizeof out);
    ad_linear_free(linear);
    for (int i = 0; i < 2; i++) ad_tensor_unref(in[i]);
}

/* f32 and f64 outputs together, more rows than columns. */
static ad_status mixed_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_square(in[0]);
    out[1] = ad_scale(ad_cast(in[0], AD_F64), 3);
    return AD_OK;
}

Test(transform, outputs_of_two_dtypes) {
    ad_tensor *in = tensor(AD_F32, AD_SHAPE(2), (float[]){2, 5});
    const ad_function mixed = {.fn = mixed_fn, .inputs = 1, .outputs = 2};
    ad_linear *linear;
    cr_assert_eq(ad_linear_new(&linear, &mixed, NULL, &in, NULL), AD_OK);
    double out[8];
    cr_assert_eq(ad_linear_dense(linear, out, NULL), AD_OK);
    cr_assert_arr_eq(out, ((double[]){4, 0, 0, 10, 3, 0, 0, 3}), sizeof out);
    cr_assert_eq(ad_linear_pull(linear, (double[]){1, 2, 3, 4}, out, NULL), AD_OK);
    cr_assert(out[0] == 4 + 9 && out[1] == 20 + 12);
    ad_linear_free(linear);
    ad_tensor_unref(in);
}

/* ---- whole models ---------------------------------------------------------------------------------------------------------- */

/* A network with a normalisation, two layers and a loss, and its data. */
enum { EXAMPLES = 4, FEATURES = 3, HIDDEN = 5, CLASSES = 3 };
static ad_status network_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    double data[EXAMPLES * FEATURES];
    ad_rng rng = {.seed = 3};
    for (int i = 0; i < EXAMPLES * FEATURES; i++) data[i] = ad_rng_normal(&rng);
    ad_var x = ad_constant(t, "x", AD_F64, AD_SHAPE(EXAMPLES, FEATURES), data);
    ad_var target = ad_constant(t, "target", AD_I32, AD_SHAPE(EXAMPLES), (int32_t[]){0, 2, 1, 2});
    ad_var h = ad_tanh(ad_linear(x, in[0], in[1]));
    ad_var y = ad_layer_norm(ad_matmul(ad_gelu(h), in[2]), 1, AD_NONE, AD_NONE, 1e-3);
    out[0] = ad_mean(ad_softmax_xent(y, target), AD_ALL_AXES, false);
    return AD_OK;
}
static const ad_function network = {.fn = network_fn, .inputs = 3, .outputs = 1, .name = "network"};
enum { WEIGHTS = HIDDEN * FEATURES + HIDDEN + HIDDEN * CLASSES };

static void network_weights(ad_tensor *weight[3]) {
    const ad_shape shapes[] = {AD_SHAPE(HIDDEN, FEATURES), AD_SHAPE(HIDDEN), AD_SHAPE(HIDDEN, CLASSES)};
    ad_rng rng = {.seed = 4};
    for (int i = 0; i < 3; i++) {
        double data[HIDDEN * FEATURES];
        for (int64_t e = 0; e < ad_shape_count(&shapes[i]); e++) data[e] = ad_rng_normal(&rng);
        weight[i] = tensor(AD_F64, shapes[i], data);
    }
}

Test(transform, the_hessian_of_a_network_is_symmetric_and_that_of_differences) {
    ad_tensor *weight[3];
    network_weights(weight);
    ad_function gradient = ad_grad_of(&network);
    ad_linear *linear;
    static double hessian[WEIGHTS * WEIGHTS], x[WEIGHTS], high[WEIGHTS], low[WEIGHTS], forward[WEIGHTS],
        unit[WEIGHTS];
    cr_assert_eq(ad_linear_new(&linear, &gradient, NULL, weight, NULL), AD_OK);
    cr_assert_eq(ad_linear_dense(linear, hessian, NULL), AD_OK);
    double largest = 0;
    for (int i = 0; i < WEIGHTS * WEIGHTS; i++) largest = fmax(largest, fabs(hessian[i]));
    cr_assert_gt(largest, 0.01);
    for (int i = 0; i < WEIGHTS; i++)
        for (int j = 0; j < i; j++) expect_near(hessian[i * WEIGHTS + j], hessian[j * WEIGHTS + i], 1e-13);
    for (int i = 0, at = 0; i < 3; i++) {
        const ad_view *view = ad_tensor_view(weight[i]);
        for (int64_t e = 0; e < ad_view_count(view); e++) x[at++] = ad_view_get(view, e);
    }
    for (int j = 0; j < WEIGHTS; j++) {
        unit[j] = 1;
        cr_assert_eq(ad_linear_push(linear, unit, forward, NULL), AD_OK);
        unit[j] = 0;
        for (int i = 0; i < WEIGHTS; i++) expect_near(forward[i], hessian[i * WEIGHTS + j], 1e-13);
    }
    const double step = 1e-4;
    for (int j = 0; j < WEIGHTS; j++) {
        double at = x[j];
        x[j] = at + step;
        ad_linear_move(linear, x, NULL);
        ad_linear_value(linear, high, NULL);
        x[j] = at - step;
        ad_linear_move(linear, x, NULL);
        ad_linear_value(linear, low, NULL);
        x[j] = at;
        for (int i = 0; i < WEIGHTS; i++)
            expect_near(hessian[i * WEIGHTS + j], (high[i] - low[i]) / (2 * step), 1e-7);
    }
    ad_linear_free(linear);
    for (int i = 0; i < 3; i++) ad_tensor_unref(weight[i]);
}

/* <u, J v> = <J^T u, v> for the network, its gradient, and a map with several results. */
Test(transform, forward_and_reverse_mode_agree_on_whole_models) {
    ad_tensor *weight[3];
    network_weights(weight);
    ad_function gradient = ad_grad_of(&network), curvature = ad_hessian_diagonal_of(&network);
    const ad_function *const models[] = {&network, &gradient, &curvature};
    for (int k = 0; k < TEST_COUNT(models); k++) {
        ad_linear *linear;
        cr_assert_eq(ad_linear_new(&linear, models[k], NULL, weight, NULL), AD_OK);
        int64_t rows = ad_linear_rows(linear);
        double u[WEIGHTS], v[WEIGHTS], forward[WEIGHTS], back[WEIGHTS], left = 0, right = 0;
        ad_rng rng = {.seed = 5};
        for (int i = 0; i < WEIGHTS; i++) {
            u[i] = ad_rng_normal(&rng);
            v[i] = ad_rng_normal(&rng);
        }
        cr_assert_eq(ad_linear_push(linear, v, forward, NULL), AD_OK);
        cr_assert_eq(ad_linear_pull(linear, u, back, NULL), AD_OK);
        for (int i = 0; i < rows; i++) left += u[i] * forward[i];
        for (int i = 0; i < WEIGHTS; i++) right += v[i] * back[i];
        cr_assert(fabs(left) > 1e-3, "model %d moves by %g", k, left);
        expect_near(left, right, 1e-13);
        ad_linear_free(linear);
    }
    for (int i = 0; i < 3; i++) ad_tensor_unref(weight[i]);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------------- */

static ad_status refuse_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = in[0];
    return AD_ERR_VALUE;
}
static ad_status forget_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)in, (void)out, (void)user;
    return AD_OK;
}
static ad_status foreign_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)in;
    out[0] = *(const ad_var *)user;
    return AD_OK;
}
static ad_status reset_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)in, (void)user;
    ad_tape_reset(t);
    out[0] = ad_scalar(t, NULL, 1);
    return AD_OK;
}
static ad_status misfit_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    out[0] = ad_matmul(in[0], CONSTANT(t, 1, 2, 3));
    return AD_OK;
}
static ad_status floor_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = total(ad_floor(in[0]));
    return AD_OK;
}
static ad_status integer_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_argmax(in[0], 0, false);
    return AD_OK;
}
static ad_status square_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_square(in[0]);
    return AD_OK;
}

Test(transform, what_a_function_does_wrong_is_said) {
    ad_tape *t = ad_tape_new(NULL), *other = ad_tape_new(NULL);
    ad_var elsewhere = ad_scalar(other, "z", 1);
    const struct {
        ad_function f;
        ad_status status;
        const char *says;
    } cases[] = {
        {{.fn = refuse_fn, .inputs = 1, .outputs = 1, .name = "refuse"}, AD_ERR_VALUE, "refuse at test_transform.c:"},
        {{.fn = refuse_fn, .inputs = 1, .outputs = 1}, AD_ERR_VALUE, "it returned AD_ERR_VALUE"},
        {{.fn = forget_fn, .inputs = 1, .outputs = 1}, AD_ERR_HANDLE, "output 0 is an empty variable"},
        {{.fn = foreign_fn, .inputs = 1, .outputs = 1, .user = &elsewhere},
         AD_ERR_HANDLE,
         "output 0 belongs to another"},
        {{.fn = reset_fn, .inputs = 1, .outputs = 1}, AD_ERR_HANDLE, "it reset the tape"},
        {{.fn = misfit_fn, .inputs = 1, .outputs = 1}, AD_ERR_SHAPE, "matmul at test_transform.c:"},
        {{.fn = integer_fn, .inputs = 1, .outputs = 1}, AD_ERR_NOGRAD, "integers have no derivative"},
        {{.fn = square_fn, .inputs = 1, .outputs = 1}, AD_ERR_SHAPE, "not a single number"},
        {{.fn = square_fn, .inputs = 1, .outputs = 2}, AD_ERR_HANDLE, "output 1 is an empty variable"},
        {{.fn = NULL, .inputs = 1, .outputs = 1, .name = "empty"}, AD_ERR_NULL, "empty at test_transform.c:"},
        {{.fn = square_fn, .inputs = 0, .outputs = 1}, AD_ERR_VALUE, ".inputs is 0"},
        {{.fn = square_fn, .inputs = 1, .outputs = -1}, AD_ERR_VALUE, ".outputs is -1"},
    };
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        ad_var x = LEAF(t, 1, 2), g[3];
        ad_function gradient = ad_grad_of(&cases[i].f);
        cr_assert_eq(ad_function_record(&gradient, t, &x, g), cases[i].status, "case %d: %s", i, ad_tape_error(t));
        if (gradient.outputs > 0) cr_assert_eq(g[0].generation, 0);
        expect_error(t, cases[i].status, cases[i].says);
        expect_ok(t);
    }
    ad_function gradient = ad_grad_of(&pair);
    ad_var x[4];
    points(t, x);
    ad_function_record(&gradient, t, x, x);
    expect_error(t, AD_ERR_SHAPE, "ad_grad_of at", "pair has 2 outputs", "ad_vjp_of");
    ad_tape_free(other);
    ad_tape_free(t);
}

Test(transform, what_a_caller_does_wrong_is_said) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), out[9], in[] = {x, x};
    const ad_function square = {.fn = square_fn, .inputs = 1, .outputs = 1};
    ad_function of_null = ad_jacobian_of(NULL), gradient = ad_grad_of(&square), forward = ad_jvp_of(&square);
    ad_function backward = ad_vjp_of(&square), line = ad_directional_of(&square, -1),
                jacobian = ad_jacobian_of(&square);
    cr_assert_eq(ad_function_record(&square, NULL, &x, out), AD_ERR_NULL);
    ad_function_record(NULL, t, &x, out);
    expect_error(t, AD_ERR_NULL, "ad_function_record at test_transform.c:", "the function is NULL");
    ad_function_record(&of_null, t, &x, out);
    expect_error(t, AD_ERR_NULL, "ad_jacobian_of at", "the function that it transforms is NULL");
    ad_function_record(&square, t, NULL, out);
    expect_error(t, AD_ERR_NULL, "the inputs are NULL");
    ad_function_record(&square, t, in, NULL);
    expect_error(t, AD_ERR_NULL, "the outputs are NULL");
    ad_function_record(&gradient, t, &x, out); /* the resets above made it stale */
    expect_error(t, AD_ERR_HANDLE, "ad_grad_of at", "input 0 is a stale variable");
    ad_function_record(&line, t, in, out);
    expect_error(t, AD_ERR_VALUE, "ad_directional_of at", "at least one of each");

    in[0] = LEAF(t, 1, 2), in[1] = LEAF(t, 1, 2, 3);
    ad_function_record(&forward, t, in, out);
    expect_error(t, AD_ERR_SHAPE, "ad_jvp_of at", "input 1 is f64[3]", "direction for input 0, which is f64[2]");
    in[0] = LEAF(t, 1, 2), in[1] = ad_constant(t, NULL, AD_F32, AD_SHAPE(2), (float[]){1, 2});
    ad_function_record(&forward, t, in, out);
    expect_error(t, AD_ERR_DTYPE, "ad_jvp_of at", "input 1 is f32[2]");
    in[0] = LEAF(t, 1, 2), in[1] = LEAF(t, 1, 2, 3);
    ad_function_record(&backward, t, in, out);
    expect_error(t, AD_ERR_SHAPE, "ad_vjp_of at", "the seed is f64[3]");
    in[0] = ad_constant(t, "k", AD_I64, AD_SHAPE(2), (int64_t[]){1, 2});
    ad_function_record(&gradient, t, in, out);
    expect_error(t, AD_ERR_NOGRAD, "ad_grad_of at", "k is i64[2]", "make them .constants");
    in[0] = ad_leaf(t, NULL, AD_F64, AD_SHAPE(1, 1, 1, 1, 2), (double[]){1, 2});
    ad_function_record(&jacobian, t, in, out);
    expect_error(t, AD_ERR_LIMIT, "ad_jacobian_of at", "10 axes");
    points(t, out);
    ad_function mismatched = ad_gauss_newton_of(&pair, &square);
    ad_function_record(&mismatched, t, out, out);
    expect_error(t, AD_ERR_VALUE, "ad_gauss_newton_of at", "the loss has 1 inputs", "which are 2");
    ad_tape_free(t);
}

/* An op that has no derivative is named, also when only a derivative of it is asked for: a user's op whose VJP is made of
 * an op without one. */
static ad_status same_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status copy_forward(ad_call *call) { return ad_view_copy(call->in[0], &call->out[0]); }
static void once_vjp(ad_vjp *v);
static const ad_op opaque = {
    .name = "opaque", .inputs = 1, .derivative = AD_NOT_DIFFERENTIABLE, .shape = same_shape, .forward = copy_forward};
static const ad_op once = {.name = "once",
                           .inputs = 1,
                           .saves = AD_SAVES_INPUT(0),
                           .shape = same_shape,
                           .forward = copy_forward,
                           .vjp = once_vjp};
static void once_vjp(ad_vjp *v) {
    ad_var x = ad_vjp_input(v, 0);
    ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_apply(ad_vjp_tape(v), &opaque, 1, &x, NULL, NULL)));
}
static ad_status once_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    out[0] = ad_apply(t, &once, 1, in, NULL, NULL);
    return AD_OK;
}

Test(transform, an_op_without_the_derivative_is_named) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1.5), g;
    const ad_function flat = {.fn = floor_fn, .inputs = 1, .outputs = 1};
    ad_function gradient = ad_grad_of(&flat), second;
    ad_function_record(&gradient, t, &x, &g);
    expect_values(ad_value(g), 0);
    const ad_function only_once = {.fn = once_fn, .inputs = 1, .outputs = 1};
    gradient = ad_grad_of(&only_once);
    second = ad_grad_of(&gradient);
    ad_function_record(&second, t, &x, &g);
    expect_error(t, AD_ERR_NOGRAD, "opaque at test_transform.c:", "it has no derivative");
    ad_tape_free(t);
}

Test(transform, numbers_that_do_not_fit_are_refused) {
    ad_tensor *x = tensor(AD_F64, AD_SHAPE(2), (double[]){1, 2}), *k = tensor(AD_I64, AD_SHAPE(2), NULL), *out;
    ad_tensor *none = NULL;
    const ad_function square = {.fn = square_fn, .inputs = 1, .outputs = 1},
                      wrong = {.fn = misfit_fn, .inputs = 1, .outputs = 1};
    const ad_function index = {.fn = integer_fn, .inputs = 1, .outputs = 1}, nothing = {.fn = square_fn};
    ad_error error = {AD_OK, ""};
    ad_function_evaluate(NULL, NULL, &x, &out, &error);
    expect_message(&error, AD_ERR_NULL, "ad_function_evaluate: the function is NULL");
    ad_function_evaluate(&square, NULL, NULL, &out, &error);
    expect_message(&error, AD_ERR_NULL, "the inputs are NULL");
    ad_function_evaluate(&square, NULL, &x, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "the outputs are NULL");
    ad_function_evaluate(&square, NULL, &none, &out, &error);
    expect_message(&error, AD_ERR_NULL, "the tensor is NULL");
    ad_function_evaluate(&nothing, NULL, &x, &out, &error);
    expect_message(&error, AD_ERR_VALUE, ".inputs is 0");
    ad_function_evaluate(&wrong, NULL, &x, &out, &error);
    expect_message(&error, AD_ERR_SHAPE, "matmul at test_transform.c:");
    cr_assert_null(out);

    ad_linear *linear;
    double numbers[4] = {0};
    ad_linear_new(NULL, &square, NULL, &x, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_new: out is NULL");
    ad_linear_new(&linear, NULL, NULL, &x, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_new: f is NULL");
    ad_linear_new(&linear, &square, NULL, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_new: in is NULL");
    ad_linear_new(&linear, &nothing, NULL, &x, &error);
    expect_message(&error, AD_ERR_VALUE, "0 inputs, 0 of them constants, and 0 outputs");
    ad_linear_new(&linear, &square, NULL, &none, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_new: input 0 is NULL");
    ad_linear_new(&linear, &square, NULL, &k, &error);
    expect_message(&error, AD_ERR_NOGRAD, "input 0 is i64[2]");
    ad_linear_new(&linear, &index, NULL, &x, &error);
    expect_message(&error, AD_ERR_NOGRAD, "ad_linear_new at test_transform.c:", "output 0", "i64[]");
    ad_linear_new(&linear, &wrong, NULL, &x, &error);
    expect_message(&error, AD_ERR_SHAPE, "matmul at test_transform.c:");
    cr_assert_null(linear);
    ad_linear_free(NULL);
    cr_assert(ad_linear_rows(NULL) == 0 && ad_linear_columns(NULL) == 0);
    ad_linear_push(NULL, numbers, numbers, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_push: the map is NULL");
    ad_linear_move(NULL, numbers, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_move: the map is NULL");
    cr_assert_eq(ad_linear_new(&linear, &square, NULL, &x, NULL), AD_OK);
    ad_linear_pull(linear, NULL, numbers, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_pull: the numbers are NULL");
    ad_linear_pull(linear, numbers, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_pull: the result is NULL");
    ad_linear_value(linear, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_value");
    ad_linear_dense(linear, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_dense");
    ad_linear_move(linear, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_move: the numbers are NULL");
    ad_linear_free(linear);
    ad_tensor_unref(x);
    ad_tensor_unref(k);
}

/* A function that fails where its input is negative. */
static ad_status picky_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_square(in[0]);
    return ad_item(in[0]) < 0 ? AD_ERR_VALUE : AD_OK;
}

Test(transform, a_map_that_could_not_move_can_be_moved_again) {
    ad_tensor *x = tensor(AD_F64, AD_SCALAR, (double[]){1});
    const ad_function picky = {.fn = picky_fn, .inputs = 1, .outputs = 1, .name = "picky"};
    ad_error error = {AD_OK, ""};
    ad_linear *linear;
    double out, one = 1;
    cr_assert_eq(ad_linear_new(&linear, &picky, NULL, &x, NULL), AD_OK);
    ad_linear_move(linear, (double[]){-1}, &error);
    expect_message(&error, AD_ERR_VALUE, "picky at test_transform.c:");
    ad_linear_push(linear, &one, &out, &error);
    expect_message(&error, AD_ERR_HANDLE, "ad_linear_push: the map has no values: ad_linear_move failed");
    cr_assert_eq(ad_linear_move(linear, (double[]){3}, NULL), AD_OK);
    cr_assert_eq(ad_linear_push(linear, &one, &out, NULL), AD_OK);
    cr_assert_eq(out, 6);
    ad_linear_free(linear);
    ad_tensor_unref(x);
}

/* ---- constants, batches ------------------------------------------------------------------------------------------------------- */

/* Softmax regression of one example: weights [3,2], then constants: data [2] and a label. */
static ad_status example_loss_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_softmax_xent(ad_matmul(in[0], in[1]), in[2]);
    return AD_OK;
}
static const ad_function example_loss = {
    .fn = example_loss_fn, .inputs = 3, .outputs = 1, .constants = 2, .name = "example_loss"};

static const double batch_data[] = {1, 2, -1, 0.5, 3, -2, 0, 1};
static const double batch_weights[] = {0.5, -1, 2, 0.25, -0.75, 1};

Test(transform, constants_are_handed_on_and_not_differentiated_by) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var w = ad_leaf(t, "w", AD_F64, AD_SHAPE(3, 2), batch_weights), x = LEAF(t, 1, 2), label = ad_index(t, 1);
    ad_function gradient = ad_grad_of(&example_loss), hvp = ad_hvp_of(&example_loss),
                second = ad_jacobian_of(&gradient);
    cr_assert(gradient.inputs == 3 && gradient.outputs == 1 && hvp.inputs == 4 && hvp.outputs == 2);
    cr_assert(second.inputs == 3 && second.outputs == 1 && second.constants == 2);
    ad_var in[] = {w, x, label}, with_v[] = {w, w, x, label}, g, products[2], hessian, want, by_hand;
    ad_function_record(&gradient, t, in, &g);
    ad_function_record(&hvp, t, with_v, products);
    ad_function_record(&second, t, in, &hessian);
    ad_var loss;
    example_loss_fn(t, in, &loss, NULL);
    ad_grad(loss, (ad_var){0}, 1, &w, &want);
    by_hand = ad_matmul(ad_reshape(hessian, AD_SHAPE(6, 6)), ad_reshape(w, AD_SHAPE(6)));
    for (int i = 0; i < 6; i++) {
        ad_view a = ad_value(g), b = ad_value(want), c = ad_value(products[1]), d = ad_value(by_hand);
        cr_assert_eq(ad_view_get(&a, i), ad_view_get(&b, i));
        expect_near(ad_view_get(&c, i), ad_view_get(&d, i), 1e-14);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* The gradient of each example, as one at a time; their sum is that of the whole batch; and a penalty on their sizes is
 * differentiated through them. */
Test(transform, gradients_of_each_example_of_a_batch) {
    const int32_t labels[] = {0, 2, 1, 1};
    ad_tape *t = ad_tape_new(NULL);
    ad_var w = ad_leaf(t, "w", AD_F64, AD_SHAPE(3, 2), batch_weights), each, one, whole, sum;
    ad_var x = ad_constant(t, "x", AD_F64, AD_SHAPE(4, 2), batch_data);
    ad_var label = ad_constant(t, "label", AD_I32, AD_SHAPE(4), labels);
    ad_function gradient = ad_grad_of(&example_loss), per_example = ad_map_of(&gradient, 1);
    cr_assert(per_example.inputs == 3 && per_example.outputs == 1);
    ad_function_record(&per_example, t, (ad_var[]){w, x, label}, &each);
    ad_view got = ad_value(each);
    cr_assert(ad_shape_equal(&got.shape, &AD_SHAPE(4, 3, 2)));
    for (int e = 0; e < 4; e++) {
        ad_function_record(&gradient, t, (ad_var[]){w, ad_select(x, 0, e), ad_select(label, 0, e)}, &one);
        ad_view want = ad_value(one);
        for (int i = 0; i < 6; i++) cr_assert_eq(ad_view_get(&got, e * 6 + i), ad_view_get(&want, i));
    }
    ad_var loss = total(ad_softmax_xent(ad_matmul(x, ad_transpose(w)), label));
    ad_grad(loss, (ad_var){0}, 1, &w, &whole);
    sum = ad_sum(each, AD_AXES(0), false);
    ad_view all = ad_value(whole), added = ad_value(sum);
    for (int i = 0; i < 6; i++) expect_near(ad_view_get(&added, i), ad_view_get(&all, i), 1e-15);
    ad_backward(total(ad_square(each)));
    cr_assert(ad_gradient_reached(w));
    expect_ok(t);
    ad_tape_free(t);
}

Test(transform, batches_that_do_not_fit_are_refused) {
    ad_tape *t = ad_tape_new(NULL);
    ad_function square = {.fn = pair_fn, .inputs = 2, .outputs = 2}, batched = ad_map_of(&square, 0),
                none = ad_map_of(&square, 2);
    ad_var out[2], in[] = {LEAF(t, 1, 2), LEAF(t, 1, 2, 3)};
    ad_function_record(&batched, t, in, out);
    expect_error(t, AD_ERR_SHAPE, "ad_map_of at", "input 1 is f64[3]", "of which there are others");
    in[0] = ad_scalar(t, NULL, 1), in[1] = LEAF(t, 1, 2);
    ad_function_record(&batched, t, in, out);
    expect_error(t, AD_ERR_SHAPE, "ad_map_of at", "input 0 is f64[]", "there must be one");
    in[0] = LEAF(t, 1, 2), in[1] = LEAF(t, 1, 2);
    ad_function_record(&none, t, in, out);
    expect_error(t, AD_ERR_VALUE, "ad_map_of at", "2 inputs are shared of 2");
    ad_function no_inputs = {.fn = pair_fn, .inputs = 2, .outputs = 2, .constants = 2},
                gradient = ad_grad_of(&no_inputs);
    in[0] = LEAF(t, 1, 2), in[1] = LEAF(t, 1, 2);
    ad_function_record(&gradient, t, in, out);
    expect_error(t, AD_ERR_VALUE, ".constants is 2");
    ad_tape_free(t);
}

/* ---- solutions ------------------------------------------------------------------------------------------------------------------ */

/* x^3 + a x = b */
static ad_status cubic_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_sub(ad_add(ad_power(in[0], 3), ad_mul(in[1], in[0])), in[2]);
    return AD_OK;
}
static const ad_function cubic = {.fn = cubic_fn, .inputs = 3, .outputs = 1, .name = "cubic"};

/* x(a, b) with the guess fixed. */
static ad_status cubic_root_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_function solve = ad_root_of(&cubic);
    return ad_function_record(&solve, t, (ad_var[]){ad_number(t, AD_F64, 1), in[0], in[1]}, out);
}

/* With d = 3 x^2 + a: x_b = 1 / d, x_a = -x / d, x_bb = -6 x / d^3, x_bbb = (72 x^2 - 6 d) / d^5. */
Test(transform, a_root_has_its_derivatives_to_the_third) {
    ad_function f = {.fn = cubic_root_fn, .inputs = 2, .outputs = 1}, chain[] = {f, f, f, f};
    ad_function by_b[] = {f, ad_grad_of(&chain[0])}, hessian = ad_hessian_of(&f), forward = ad_jvp_of(&f);
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[] = {ad_scalar(t, "a", 2), ad_scalar(t, "b", 5), ad_number(t, AD_F64, 0), ad_number(t, AD_F64, 1)},
           out[4];
    ad_function_record(&by_b[1], t, in, out);
    ad_var x;
    ad_function_record(&f, t, in, &x);
    double at = ad_item(x), d = 3 * at * at + 2;
    expect_near(at * at * at + 2 * at, 5, 1e-14);
    expect_near(ad_item(out[0]), -at / d, 1e-14);
    expect_near(ad_item(out[1]), 1 / d, 1e-14);
    ad_function_record(&forward, t, in, out);
    expect_near(ad_item(out[1]), 1 / d, 1e-14);
    ad_function_record(&hessian, t, in, out);
    expect_near(ad_item(out[3]), -6 * at / (d * d * d), 1e-14);
    expect_near(ad_item(out[1]), ad_item(out[2]), 1e-14);
    ad_function line = ad_directional_of(&f, 3);
    ad_function_record(&line, t, in, out);
    expect_near(ad_item(out[3]), (108 * at * at - 6 * d) / (d * d * d * d * d), 1e-13);
    ad_backward(x);
    expect_near(ad_gradient_item(in[1]), 1 / d, 1e-14);
    expect_ok(t);
    ad_tape_free(t);
}

/* A x + x^3 = c, for a vector; against differences, at first and second order. */
static ad_status system_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_sub(ad_add(ad_matmul(in[1], in[0]), ad_power(in[0], 3)), in[2]);
    return AD_OK;
}
static ad_var system_root(ad_tape *t, const ad_var *x, int n, void *user) {
    (void)n;
    ad_function solve = ad_root_of(user);
    ad_var root;
    ad_function_record(&solve, t, (ad_var[]){CONSTANT(t, 0, 0, 0), x[0], x[1]}, &root);
    return root;
}

Test(transform, the_root_of_a_system_withstands_the_checks) {
    ad_function system = {.fn = system_fn, .inputs = 3, .outputs = 1};
    ad_tensor *x[] = {tensor(AD_F64, AD_SHAPE(3, 3), (double[]){4, 1, 0, 1, 5, -1, 0.5, 0, 3}),
                      tensor(AD_F64, AD_SHAPE(3), (double[]){1, -2, 3})};
    ad_check_report report;
    cr_assert_eq(ad_gradcheck("root", system_root, &system, 2, x, NULL, &report), AD_OK, "%s", report.message);
    cr_assert_gt(report.compared, 100);
    for (int i = 0; i < 2; i++) ad_tensor_unref(x[i]);
}

/* A solution that is handed in stays, bit for bit, whoever found it; and the search leaves three nodes at most. */
Test(transform, a_root_that_is_known_stays) {
    ad_function solve = ad_root_of(&cubic);
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[] = {ad_number(t, AD_F64, 1 + 0x1p-52), ad_scalar(t, "a", 2), ad_scalar(t, "b", 3)}, x;
    int64_t before = ad_tape_size(t);
    ad_function_record(&solve, t, in, &x);
    cr_assert_eq(ad_item(x), 1 + 0x1p-52);
    cr_assert_eq(ad_tape_size(t), before + 1);
    in[0] = ad_number(t, AD_F64, -20);
    before = ad_tape_size(t);
    ad_function_record(&solve, t, in, &x);
    expect_near(ad_item(x), 1, 1e-12);
    cr_assert_lt(ad_tape_size(t), before + 30);
    ad_backward(x);
    expect_near(ad_gradient_item(in[1]), -1.0 / 5, 1e-12);
    expect_ok(t);
    ad_tape_free(t);
}

static ad_status no_root_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_add(ad_square(in[0]), ad_square(in[1]));
    return AD_OK;
}
static ad_status flat_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    out[0] = ad_add(ad_sub(ad_square(in[0]), in[1]), ad_number(t, AD_F64, 1));
    return AD_OK;
}

Test(transform, equations_without_a_solution_are_refused) {
    ad_tape *t = ad_tape_new(NULL);
    ad_function never = {.fn = no_root_fn, .inputs = 2, .outputs = 1},
                flat = {.fn = flat_fn, .inputs = 2, .outputs = 1};
    ad_function two = ad_root_of(&pair), none = ad_root_of(&never), singular = ad_root_of(&flat),
                missing = ad_root_of(NULL);
    ad_var in[] = {ad_number(t, AD_F64, 0.3), ad_scalar(t, "a", 1)}, out[2];
    ad_function_record(&none, t, in, out);
    expect_error(t, AD_ERR_VALUE, "ad_root_of at test_transform.c:", "no solution in 100 steps", "the residual is");
    in[0] = ad_number(t, AD_F64, 0), in[1] = ad_scalar(t, "a", 2);
    ad_function_record(&singular, t, in, out);
    expect_error(t, AD_ERR_VALUE, "solve at test_transform.c:", "df/dx is singular");
    in[0] = ad_number(t, AD_F64, 0), in[1] = LEAF(t, 2, 3);
    ad_function_record(&singular, t, in, out);
    expect_error(t, AD_ERR_SHAPE, "ad_root_of at", "the output is f64[2], but the first input f64[]");
    in[0] = ad_number(t, AD_F64, 0), in[1] = LEAF(t, 2, 3);
    ad_function_record(&two, t, in, out);
    expect_error(t, AD_ERR_VALUE, "ad_root_of at", "2 outputs");
    ad_function_record(&missing, t, in, out);
    expect_error(t, AD_ERR_NULL, "ad_root_of at");
    ad_tape_free(t);
}

/* ---- odd inputs --------------------------------------------------------------------------------------------------------------- */

static ad_status with_parameter_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    out[0] = total(ad_mul(ad_use(t, user), ad_square(in[0])));
    return AD_OK;
}

/* A map differentiates by its inputs: parameters that the function uses keep the gradients they have. */
Test(transform, a_map_leaves_the_gradients_of_parameters_alone) {
    ad_param *w;
    cr_assert_eq(ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){2, 3}, NULL), AD_OK);
    ((double *)ad_param_edit_gradient(w)->data)[1] = 42;
    ad_tensor *x = tensor(AD_F64, AD_SHAPE(2), (double[]){1, -1});
    const ad_function f = {.fn = with_parameter_fn, .inputs = 1, .outputs = 1, .user = w};
    ad_linear *linear;
    double one = 1, g[2];
    cr_assert_eq(ad_linear_new(&linear, &f, NULL, &x, NULL), AD_OK);
    cr_assert_eq(ad_linear_pull(linear, &one, g, NULL), AD_OK);
    cr_assert(g[0] == 4 && g[1] == -6);
    expect_values(*ad_param_gradient(w), 0, 42);
    ad_linear_free(linear);
    ad_tensor_unref(x);
    ad_param_unref(w);
}

/* Nothing has a Jacobian of nothing; an output may be an input, or not depend on any; f32 stays f32. */
static ad_status three_ways_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    out[0] = in[0];
    out[1] = ad_number(t, AD_F32, 7);
    out[2] = ad_slice(in[0], 0, 0, 0, 1);
    return AD_OK;
}

Test(transform, empty_constant_and_identical_outputs) {
    const ad_function f = {.fn = three_ways_fn, .inputs = 1, .outputs = 3};
    ad_function jacobian = ad_jacobian_of(&f), forward = ad_jvp_of(&f);
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[] = {ad_leaf(t, NULL, AD_F32, AD_SHAPE(2), (float[]){1, 2}),
                  ad_leaf(t, NULL, AD_F32, AD_SHAPE(2), (float[]){3, 4})},
           out[6];
    ad_function_record(&jacobian, t, x, out);
    expect_values(ad_value(out[0]), 1, 0, 0, 1);
    expect_values(ad_value(out[1]), 0, 0);
    ad_view empty = ad_value(out[2]);
    cr_assert(ad_shape_equal(&empty.shape, &AD_SHAPE(0, 2)) && empty.dtype == AD_F32);
    ad_function_record(&forward, t, x, out);
    expect_values(ad_value(out[3]), 3, 4);
    expect_values(ad_value(out[4]), 0);
    expect_ok(t);
    ad_tape_free(t);

    for (int64_t n = 0; n < 3; n += 2) {
        ad_tensor *numbers = tensor(AD_F32, AD_SHAPE(n), (float[]){1, 2});
        ad_linear *linear;
        ad_sparse *sparse;
        double matrix[6], value[3];
        cr_assert_eq(ad_linear_new(&linear, &f, NULL, &numbers, NULL), AD_OK);
        cr_assert(ad_linear_rows(linear) == n + 1 && ad_linear_columns(linear) == n);
        cr_assert_eq(ad_linear_value(linear, value, NULL), AD_OK);
        cr_assert_eq(value[n], 7);
        cr_assert_eq(ad_linear_dense(linear, matrix, NULL), AD_OK);
        cr_assert_eq(ad_sparse_new(&sparse, linear, NULL), AD_OK);
        ad_csr m = ad_sparse_matrix(sparse);
        cr_assert(m.rows == n + 1 && m.columns == n && m.start[n + 1] == n);
        for (int64_t i = 0; i < n; i++) cr_assert(m.column[i] == i && m.value[i] == 1);
        ad_sparse_free(sparse);
        ad_linear_free(linear);
        ad_tensor_unref(numbers);
    }
}

/* ---- without memory ---------------------------------------------------------------------------------------------------------- */

typedef struct outcome {
    double hv[4], dense[9], back[3], moved[3], each[2], root[2];
} outcome;

/* The sums of what a function gives for numbers. */
static ad_status sums_of(const ad_function *f, const ad_allocator *allocator, ad_tensor *const *in, double *sum,
                         ad_error *error) {
    ad_tensor *out[4];
    ad_status status = ad_function_evaluate(f, allocator, in, out, error);
    for (int j = 0; j < f->outputs; j++) {
        cr_assert(!status == !!out[j]);
        for (int64_t i = 0; !status && i < ad_view_count(ad_tensor_view(out[j])); i++)
            sum[j] += ad_view_get(ad_tensor_view(out[j]), i);
        ad_tensor_unref(out[j]);
    }
    return status;
}

/* The gradients of the examples of a batch, and of the root of an equation: functions inside functions. */
static ad_status nested(const ad_allocator *allocator, outcome *o, ad_error *error) {
    const int32_t labels[] = {0, 2, 1, 1};
    ad_tensor *batch[] = {tensor(AD_F64, AD_SHAPE(3, 2), batch_weights), tensor(AD_F64, AD_SHAPE(4, 2), batch_data),
                          tensor(AD_I32, AD_SHAPE(4), labels)};
    ad_tensor *numbers[] = {tensor(AD_F64, AD_SCALAR, (double[]){2}), tensor(AD_F64, AD_SCALAR, (double[]){5})};
    ad_function gradient = ad_grad_of(&example_loss), each = ad_map_of(&gradient, 1);
    ad_function solution = {.fn = cubic_root_fn, .inputs = 2, .outputs = 1}, by_all = ad_grad_of(&solution);
    ad_status status = sums_of(&each, allocator, batch, o->each, error);
    if (!status) status = sums_of(&by_all, allocator, numbers, o->root, error);
    for (int i = 0; i < 3; i++) ad_tensor_unref(batch[i]);
    for (int i = 0; i < 2; i++) ad_tensor_unref(numbers[i]);
    return status;
}

/* Everything once; the first failure ends it. */
static ad_status everything(const ad_allocator *allocator, outcome *o) {
    ad_tensor *in[] = {tensor(AD_F64, AD_SCALAR, (double[]){2}), tensor(AD_F64, AD_SHAPE(2), (double[]){1, -3}),
                       tensor(AD_F64, AD_SCALAR, (double[]){5}), tensor(AD_F64, AD_SHAPE(2), (double[]){7, 11})};
    ad_function transforms[] = {ad_hvp_of(&energy), ad_jacobian_of(&pair), ad_hessian_of(&energy),
                                ad_gauss_newton_of(&pair, NULL), ad_hessian_diagonal_of(&energy)};
    ad_error error = {AD_OK, ""};
    ad_status status = AD_OK;
    ad_linear *linear = NULL;
    memset(o, 0, sizeof *o);
    for (int i = 0; i < TEST_COUNT(transforms) && !status; i++)
        status = sums_of(&transforms[i], allocator, in, o->hv, &error);
    if (!status) status = nested(allocator, o, &error);
    if (!status) status = ad_linear_new(&linear, &pair, allocator, in, &error);
    if (!status) status = ad_linear_dense(linear, o->dense, &error);
    if (!status) status = ad_linear_pull(linear, (double[]){1, 2, 3}, o->back, &error);
    if (!status) status = ad_linear_push(linear, (double[]){1, 2, 3}, o->moved, &error);
    if (!status) status = ad_linear_move(linear, (double[]){1, 2, 3}, &error);
    if (!status) status = ad_linear_push(linear, (double[]){1, 2, 3}, o->moved, &error);
    cr_assert(!status || (status == AD_ERR_OOM && strstr(error.message, "out of memory")), "%s", error.message);
    ad_linear_free(linear);
    for (int i = 0; i < 4; i++) ad_tensor_unref(in[i]);
    return status;
}

Test(transform, each_allocation_may_fail) {
    outcome undisturbed, got;
    cr_assert_eq(everything(NULL, &undisturbed), AD_OK);
    for (int on = 0; on < 2; on++) {
        int64_t failures = 0;
        for (int64_t at = 1;; at++) {
            test_memory memory;
            test_memory_open(&memory);
            memory.fail_at = at;
            memory.fail_on = on;
            ad_status status = everything(&memory.allocator, &got);
            bool reached = memory.calls >= at;
            cr_assert(status == AD_ERR_OOM || memcmp(&got, &undisturbed, sizeof got) == 0, "allocation %lld",
                      (long long)at);
            cr_assert(!on || !reached || status == AD_ERR_OOM, "allocation %lld: no error", (long long)at);
            failures += status == AD_ERR_OOM;
            test_memory_close(&memory);
            if (!reached) break;
        }
        cr_assert_gt(failures, 50);
    }
}

/* Products over one recording, and moving it, ask for memory once. */
Test(transform, products_allocate_nothing_after_the_first) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tensor *weight[3];
    network_weights(weight);
    ad_function gradient = ad_grad_of(&network);
    ad_linear *linear;
    double v[WEIGHTS] = {1, 2, 3}, out[WEIGHTS];
    cr_assert_eq(ad_linear_new(&linear, &gradient, &memory.allocator, weight, NULL), AD_OK);
    int64_t calls = 0;
    for (int i = 0; i < 5; i++) {
        ad_linear_push(linear, v, out, NULL);
        ad_linear_pull(linear, v, out, NULL);
        ad_linear_move(linear, out, NULL);
        if (i == 1) calls = memory.calls;
    }
    cr_assert_eq(memory.calls, calls);
    ad_linear_free(linear);
    for (int i = 0; i < 3; i++) ad_tensor_unref(weight[i]);
    test_memory_close(&memory);
}

/* 40,000 gradients one after the other: were each to walk all of the tape, they would take minutes. */
Test(transform, small_derivatives_on_a_long_tape_cost_only_themselves, .timeout = 60) {
    ad_function f = {.fn = x_exp_fn, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f), forward = ad_jvp_of(&f);
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1), one = ad_number(t, AD_F64, 1), g, pushed[2];
    double at = 1;
    for (int k = 0; k < 20000; k++) {
        ad_function_record(&gradient, t, &x, &g);
        x = ad_sub(x, ad_scale(g, 0.01));
        at -= 0.01 * (at + 1) * exp(at);
        ad_function_record(&forward, t, (ad_var[]){x, one}, pushed);
        x = ad_sub(x, ad_scale(pushed[1], 0.01));
        at -= 0.01 * (at + 1) * exp(at);
    }
    expect_near(ad_item(x), at, 1e-12);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- rows of a Jacobian of numbers ------------------------------------------------------------------------------------------ */

/* y = x^2, which counts how often a pass goes through it. */
static int passes;
static double counted_value(double a, double b, const double *attrs) { return (void)b, (void)attrs, a * a; }
static ad_pair counted_adjoint(double g, double a, double b, double y, const double *attrs) {
    (void)b, (void)y, (void)attrs;
    passes++;
    return (ad_pair){2 * a * g, 0};
}
static const ad_scalar_rule counted_rule = {counted_value, counted_adjoint};
static ad_status counted_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status counted_forward(ad_call *call) {
    ad_kernels_get()->unary(AD_UNARY_square, call->in[0], &call->out[0], NULL);
    return AD_OK;
}
static void counted_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_input(v, 0), ad_vjp_seed(v, 0)), 2)); }
static const ad_op counted = {.name = "counted",
                              .inputs = 1,
                              .saves = AD_SAVES_INPUT(0),
                              .shape = counted_shape,
                              .forward = counted_forward,
                              .vjp = counted_vjp,
                              .scalar = &counted_rule};

enum { NUMBERS = 6 };
static ad_status squares_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var y[NUMBERS];
    for (int i = 0; i < NUMBERS; i++) {
        ad_var x = ad_select(in[0], 0, i);
        y[i] = ad_apply(t, &counted, 1, &x, NULL, NULL);
    }
    out[0] = ad_stack(NUMBERS, y, 0);
    return AD_OK;
}

Test(transform, passes_for_the_rows_of_a_jacobian_stop_where_it_is_0) {
    const double x[NUMBERS] = {1, -2, 3, 0.5, 0, 4};
    const ad_function squares = {.fn = squares_fn, .inputs = 1, .outputs = 1}, jacobian = ad_jacobian_of(&squares);
    double matrix[NUMBERS * NUMBERS];
    ad_tensor *in, *out;
    ad_linear *linear;
    cr_assert_eq(ad_tensor_new(&in, NULL, AD_F64, AD_SHAPE(NUMBERS), x, NULL), AD_OK);
    cr_assert_eq(ad_linear_new(&linear, &squares, NULL, &in, NULL), AD_OK);
    passes = 0;
    cr_assert_eq(ad_linear_dense(linear, matrix, NULL), AD_OK);
    cr_expect_eq(passes, NUMBERS, "%d", passes);
    passes = 0;
    cr_assert_eq(ad_function_evaluate(&jacobian, NULL, &in, &out, NULL), AD_OK);
    cr_expect_eq(passes, NUMBERS, "%d", passes);
    for (int i = 0; i < NUMBERS * NUMBERS; i++) {
        double want = i / NUMBERS == i % NUMBERS ? 2 * x[i % NUMBERS] : 0;
        cr_expect_eq(matrix[i], want);
        cr_expect_eq(ad_view_get(ad_tensor_view(out), i), want);
    }
    ad_tensor_unref(out);
    ad_tensor_unref(in);
    ad_linear_free(linear);
}
