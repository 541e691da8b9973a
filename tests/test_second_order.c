/* Derivatives of derivatives: gradients recorded on the tape and differentiated again, against closed forms. */
#include "helpers.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

static const ad_var none = {0};

static ad_var derivative(ad_var y, ad_var x) {
    ad_var result;
    ad_grad(y, none, 1, &x, &result);
    return result;
}

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

/* Row i of the derivative of y by x. */
static void derivative_row(ad_var y, int64_t i, ad_var x, double *row) {
    ad_view shape = ad_value(y), at = ad_value(x);
    double unit[64] = {0};
    unit[i] = 1;
    ad_var result;
    ad_grad(y, ad_constant(y.tape, NULL, AD_F64, shape.shape, unit), 1, &x, &result);
    at = ad_value(result);
    for (int64_t j = 0; j < ad_view_count(&at); j++) row[j] = ad_view_get(&at, j);
}

/* ---- functions of one number ------------------------------------------------------------------------------------------ */

static ad_var reciprocal(ad_var x) { return ad_div(ad_number(x.tape, AD_F64, 1), x); }
static ad_var fourth_power(ad_var x) { return ad_mul(ad_mul(x, x), ad_mul(x, x)); }
static ad_var exp_(ad_var x) { return ad_exp(x); }
static ad_var log_(ad_var x) { return ad_log(x); }
static ad_var tanh_(ad_var x) { return ad_tanh(x); }
static ad_var sigmoid_(ad_var x) { return ad_sigmoid(x); }
static ad_var square_of_relu(ad_var x) { return ad_mul(ad_relu(x), ad_relu(x)); }

typedef long double (*closed)(long double x);
static long double logistic(long double x) { return 1 / (1 + expl(-x)); }
static long double minus_square(long double x) { return -1 / (x * x); }
static long double inverse(long double x) { return 1 / x; }
static long double log_3(long double x) { return 2 / (x * x * x); }
static long double reciprocal_2(long double x) { return 2 / (x * x * x); }
static long double reciprocal_3(long double x) { return -6 / (x * x * x * x); }
static long double power_1(long double x) { return 4 * x * x * x; }
static long double power_2(long double x) { return 12 * x * x; }
static long double power_3(long double x) { return 24 * x; }
static long double tanh_1(long double x) { return 1 - tanhl(x) * tanhl(x); }
static long double tanh_2(long double x) { return -2 * tanhl(x) * tanh_1(x); }
static long double tanh_3(long double x) { return tanh_1(x) * (6 * tanhl(x) * tanhl(x) - 2); }
static long double sigmoid_1(long double x) { return logistic(x) * logistic(-x); }
static long double sigmoid_2(long double x) { return sigmoid_1(x) * (1 - 2 * logistic(x)); }
static long double sigmoid_3(long double x) { return sigmoid_1(x) * (1 - 6 * sigmoid_1(x)); }
static long double relu_1(long double x) { return x > 0 ? 2 * x : 0; }
static long double relu_2(long double x) { return x > 0 ? 2 : 0; }
static long double zero(long double x) { return 0 * x; }

/* Each function with its first three derivatives. */
static const struct {
    const char *name;
    ad_var (*record)(ad_var x);
    closed by[3];
} functions[] = {
    {"exp", exp_, {expl, expl, expl}},
    {"log", log_, {inverse, minus_square, log_3}},
    {"1/x", reciprocal, {minus_square, reciprocal_2, reciprocal_3}},
    {"x^4", fourth_power, {power_1, power_2, power_3}},
    {"tanh", tanh_, {tanh_1, tanh_2, tanh_3}},
    {"sigmoid", sigmoid_, {sigmoid_1, sigmoid_2, sigmoid_3}},
    {"relu^2", square_of_relu, {relu_1, relu_2, zero}},
};

/* On numbers (the scalar path) and on an array (the kernels). */
Test(second_order, elementwise_functions_to_the_third_derivative) {
    const double points[] = {-2.5, -0.75, 0.125, 0.5, 1, 1.5, 3};
    enum { n = 7 };
    for (int f = 0; f < TEST_COUNT(functions); f++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(n), points), y = functions[f].record(x), number[n], value[n];
        for (int i = 0; i < n; i++) {
            number[i] = ad_scalar(t, NULL, points[i]);
            value[i] = functions[f].record(number[i]);
        }
        for (int order = 0; order < 3; order++) {
            y = derivative(total(y), x);
            ad_view got = ad_value(y);
            for (int i = 0; i < n; i++) {
                if (functions[f].by[0] == inverse && points[i] < 0) continue; /* log has no value there */
                value[i] = derivative(value[i], number[i]);
                double want = (double)functions[f].by[order](points[i]);
                cr_assert(test_near(ad_view_get(&got, i), want, 4e-15), "%s, order %d at %g: %.17g, not %.17g",
                          functions[f].name, order + 1, points[i], ad_view_get(&got, i), want);
                cr_assert(test_near(ad_item(value[i]), want, 4e-15), "%s, order %d at %g: %.17g, not %.17g",
                          functions[f].name, order + 1, points[i], ad_item(value[i]), want);
            }
        }
        expect_ok(t);
        ad_tape_free(t);
    }
}

/* Products of small integers are exact, and so must every derivative of them be. */
Test(second_order, the_fourth_derivative_of_a_fourth_power_is_24) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 3), y = fourth_power(x);
    const double want[] = {81, 108, 108, 72, 24, 0};
    for (int order = 0; order < 6; order++) {
        cr_assert_eq(ad_item(y), want[order], "order %d: %g", order, ad_item(y));
        y = derivative(y, x);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* f = exp(x y): f_xy = f_yx = (1 + x y) exp(x y), f_xx = y^2 f. */
Test(second_order, mixed_derivatives_are_symmetric) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 0.5), y = ad_scalar(t, "y", -1.25), f = ad_exp(ad_mul(x, y));
    ad_var by_x = derivative(f, x), by_y = derivative(f, y);
    double value = exp(0.5 * -1.25), mixed = (1 + 0.5 * -1.25) * value;
    expect_near(ad_item(derivative(by_x, y)), mixed, 1e-15);
    expect_near(ad_item(derivative(by_y, x)), mixed, 1e-15);
    expect_near(ad_item(derivative(by_x, x)), 1.25 * 1.25 * value, 1e-15);
    expect_near(ad_item(derivative(by_y, y)), 0.25 * value, 1e-15);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- sums, products, indices --------------------------------------------------------------------------------------------- */

/* x^T A x has the gradient (A + A^T) x and the Hessian A + A^T, exactly for small integers. */
Test(second_order, the_hessian_of_a_quadratic_form) {
    enum { n = 4 };
    double a[n * n], x[n] = {1, -2, 3, 2}, row[n];
    for (int i = 0; i < n * n; i++) a[i] = i * i % 7 - 3;
    ad_tape *t = ad_tape_new(NULL);
    ad_var v = ad_leaf(t, "x", AD_F64, AD_SHAPE(n), x), m = ad_constant(t, "A", AD_F64, AD_SHAPE(n, n), a);
    ad_var gradient = derivative(ad_matmul(v, ad_matmul(m, v)), v);
    for (int i = 0; i < n; i++) {
        derivative_row(gradient, i, v, row);
        for (int j = 0; j < n; j++) cr_assert_eq(row[j], a[i * n + j] + a[j * n + i]);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* f = sum(C o (A B)^2) by A and then by B, stacked and broadcast, against its differential written out. */
Test(second_order, mixed_derivatives_of_a_stacked_product) {
    enum { stack = 2, m = 2, k = 3, n = 2 };
    double a[stack * m * k], b[k * n], row[k * n];
    for (int i = 0; i < stack * m * k; i++) a[i] = i % 5 - 2;
    for (int i = 0; i < k * n; i++) b[i] = i % 3 - 1;
    ad_tape *t = ad_tape_new(NULL);
    ad_var va = ad_leaf(t, "A", AD_F64, AD_SHAPE(stack, m, k), a), vb = ad_leaf(t, "B", AD_F64, AD_SHAPE(k, n), b);
    ad_var product = ad_matmul(va, vb), by_a = derivative(total(ad_mul(product, product)), va);
    ad_view p = ad_value(product);
    for (int i = 0; i < stack * m * k; i++) {
        /* df/dA[s,i,l] = 2 sum_j P[s,i,j] B[l,j]; by B[l2,j]: 2 ([l = l2] P[s,i,j] + A[s,i,l2] B[l,j]) */
        derivative_row(by_a, i, vb, row);
        int si = i / k, l = i % k;
        for (int l2 = 0; l2 < k; l2++) {
            for (int j = 0; j < n; j++) {
                double want = 2 * ((l == l2 ? ad_view_get(&p, si * n + j) : 0) + a[si * k + l2] * b[l * n + j]);
                cr_assert_eq(row[l2 * n + j], want);
            }
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* Broadcasting undone twice: f = sum((x + y)^3) for x[3,1] and y[2]. */
Test(second_order, broadcast_operands) {
    double x[] = {1, -2, 3}, y[] = {2, -1}, row[3];
    ad_tape *t = ad_tape_new(NULL);
    ad_var vx = ad_leaf(t, "x", AD_F64, AD_SHAPE(3, 1), x), vy = ad_leaf(t, "y", AD_F64, AD_SHAPE(2), y);
    ad_var sum = ad_add(vx, vy), f = total(ad_mul(sum, ad_mul(sum, sum)));
    ad_var by_x = derivative(f, vx), by_y = derivative(f, vy);
    for (int i = 0; i < 3; i++) {
        derivative_row(by_x, i, vy, row);
        for (int j = 0; j < 2; j++) cr_assert_eq(row[j], 6 * (x[i] + y[j]));
        derivative_row(by_x, i, vx, row);
        for (int j = 0; j < 3; j++) cr_assert_eq(row[j], i == j ? 6 * (x[i] + y[0]) + 6 * (x[i] + y[1]) : 0);
    }
    derivative_row(by_y, 1, vx, row);
    for (int i = 0; i < 3; i++) cr_assert_eq(row[i], 6 * (x[i] + y[1]));
    expect_ok(t);
    ad_tape_free(t);
}

Test(second_order, means_views_and_indices) {
    double x[] = {1, -2, 3, 5, -7, 2}, row[6];
    const int64_t at[] = {2, 0, 2};
    ad_tape *t = ad_tape_new(NULL);
    ad_var v = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), x);
    ad_var squares = ad_mul(ad_transpose(v), ad_transpose(v));
    ad_var by_mean = derivative(ad_mean(ad_reshape(squares, AD_SHAPE(6)), AD_ALL_AXES, false), v);
    ad_var index = ad_constant(t, NULL, AD_I64, AD_SHAPE(3), at);
    ad_var taken = ad_gather(ad_reshape(v, AD_SHAPE(6)), 0, index),
           by_taken = derivative(total(ad_mul(taken, taken)), v);
    for (int i = 0; i < 6; i++) {
        derivative_row(by_mean, i, v, row);
        for (int j = 0; j < 6; j++) cr_assert_eq(row[j], i == j ? 2 * (1.0 / 6) : 0);
        derivative_row(by_taken, i, v, row);
        for (int j = 0; j < 6; j++) cr_assert_eq(row[j], i == j ? (i == 2 ? 4 : i == 0 ? 2 : 0) : 0);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- slices: what many of one array give its gradient is recorded as one array ------------------------------------------- */

/* f = sum over slices s of (sum of s)^2 / 2, of a matrix, has the Hessian sum over s of [i in s] [j in s]. */
typedef struct cut {
    int axis;
    int64_t start, stop, step;
} cut;

static bool holds(const cut *c, int64_t i) { /* of a 4 x 3 matrix */
    int64_t n = c->axis ? 3 : 4, at = c->axis ? i % 3 : i / 3;
    int64_t start = c->start < 0 ? c->start + n : c->start, stop = c->stop > n ? n : c->stop;
    if (c->step < 0) return at <= start && (start - at) % -c->step == 0;
    return at >= start && at < stop && (at - start) % c->step == 0;
}

static void expect_hessian_of_cuts(int n, const cut *cuts, int cats, int sums, int alone) {
    double numbers[12], row[12];
    for (int i = 0; i < 12; i++) numbers[i] = i % 5 - 2;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(4, 3), numbers), f = ad_number(t, AD_F64, 0);
    for (int k = 0; k < n; k++) {
        ad_var s = ad_slice(x, cuts[k].axis, cuts[k].start, cuts[k].stop, cuts[k].step);
        f = ad_add(f, ad_scale(ad_square(total(s)), 0.5));
    }
    int64_t recorded = ad_tape_size(t);
    ad_var gradient = derivative(f, x);
    cr_expect_eq(nodes_of(t, recorded, "cat"), cats);
    cr_expect_eq(nodes_of(t, recorded, "unslices"), sums);
    cr_expect_eq(nodes_of(t, recorded, "unslice"), alone);
    ad_backward(f);
    ad_view walked = ad_gradient(x), got = ad_value(gradient);
    for (int i = 0; i < 12; i++) {
        cr_assert_eq(ad_view_get(&got, i), ad_view_get(&walked, i), "%d: %g", i, ad_view_get(&got, i));
        derivative_row(gradient, i, x, row);
        for (int j = 0; j < 12; j++) {
            int want = 0;
            for (int k = 0; k < n; k++) want += holds(&cuts[k], i) && holds(&cuts[k], j);
            cr_assert_eq(row[j], want, "%d, %d: %g, not %d", i, j, row[j], want);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

Test(second_order, slices_of_one_array) {
    const cut rows[] = {{0, 0, 1, 1}, {0, 1, 2, 1}, {0, 2, 3, 1}, {0, -1, AD_TO_END, 1}};
    expect_hessian_of_cuts(4, rows, 1, 0, 0);
    expect_hessian_of_cuts(3, rows, 0, 1, 0);
    expect_hessian_of_cuts(1, rows, 0, 0, 1);
    const cut overlapping[] = {{0, 1, 4, 1}, {0, 0, 3, 1}, {0, 1, 4, 1}, {0, 0, AD_TO_END, 1}};
    expect_hessian_of_cuts(4, overlapping, 0, 1, 0);
    const cut any[] = {{1, 0, 2, 1}, {0, 3, AD_TO_START, -2}, {0, 2, 3, 1}, {-1, 1, 3, 1}, {1, 0, 3, 2},
                       {0, 0, 2, 1}};
    expect_hessian_of_cuts(6, any, 0, 2, 2);
    const cut all_and_more[] = {{0, 0, 4, 1}, {0, 1, 2, 1}};
    expect_hessian_of_cuts(2, all_and_more, 0, 1, 0);
}

/* A slice waits for what it is of, which may itself be a slice that waits. */
Test(second_order, slices_of_slices) {
    double numbers[8], row[8];
    for (int i = 0; i < 8; i++) numbers[i] = i - 3;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(8), numbers), f = ad_number(t, AD_F64, 0);
    for (int k = 0; k < 4; k++) {
        ad_var pair = ad_slice(x, 0, 2 * k, 2 * k + 2, 1);
        f = ad_add(f, ad_mul(ad_select(pair, 0, 0), ad_square(ad_select(pair, 0, 1))));
    }
    ad_var gradient = derivative(f, x);
    for (int i = 0; i < 8; i++) {
        derivative_row(gradient, i, x, row);
        double a = numbers[i / 2 * 2], b = numbers[i / 2 * 2 + 1];
        for (int j = 0; j < 8; j++) {
            double want = i / 2 != j / 2 ? 0 : i % 2 && j % 2 ? 2 * a : i % 2 != j % 2 ? 2 * b : 0;
            cr_assert_eq(row[j], want, "%d, %d: %g, not %g", i, j, row[j], want);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- softmax and its loss --------------------------------------------------------------------------------------------------- */

enum { classes = 5 };
static const double logits[classes] = {0.5, -1.25, 2, 0, -0.75};

static void probabilities(double *p) {
    double sum = 0;
    for (int i = 0; i < classes; i++) sum += p[i] = exp(logits[i]);
    for (int i = 0; i < classes; i++) p[i] /= sum;
}

/* The Hessian of the loss is diag(p) - p p^T, whatever the target, and so is that of -log_softmax. */
Test(second_order, the_hessian_of_the_cross_entropy) {
    double p[classes], row[classes];
    probabilities(p);
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(classes), logits);
    ad_var target = ad_constant(t, NULL, AD_F64, AD_SHAPE(classes), (double[]){0.125, 0.25, 0.25, 0.25, 0.125});
    const ad_var losses[] = {ad_softmax_xent(x, ad_index(t, 3)), ad_softmax_xent(x, target),
                             ad_neg(ad_pick(ad_log_softmax(x, 0), ad_index(t, 1))),
                             ad_neg(ad_log(ad_pick(ad_softmax(x, 0), ad_index(t, 1))))};
    for (int loss = 0; loss < TEST_COUNT(losses); loss++) {
        ad_var gradient = derivative(losses[loss], x);
        for (int i = 0; i < classes; i++) {
            derivative_row(gradient, i, x, row);
            for (int j = 0; j < classes; j++) expect_near(row[j], p[i] * ((i == j) - p[j]), 1e-15);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* Its third derivatives are the third cumulants of a one-hot variable. */
Test(second_order, the_third_derivatives_of_the_cross_entropy) {
    double p[classes], row[classes], unit[classes] = {0};
    probabilities(p);
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(classes), logits);
    ad_var gradient = derivative(ad_softmax_xent(x, ad_index(t, 0)), x), hessian_row;
    for (int i = 0; i < classes; i++) {
        unit[i] = 1;
        ad_grad(gradient, ad_constant(t, NULL, AD_F64, AD_SHAPE(classes), unit), 1, &x, &hessian_row);
        unit[i] = 0;
        for (int j = 0; j < classes; j++) {
            derivative_row(hessian_row, j, x, row);
            for (int k = 0; k < classes; k++) {
                double want = (i == j && j == k ? p[i] : 0) - (i == j ? p[i] * p[k] : 0) -
                              (i == k ? p[i] * p[j] : 0) - (j == k ? p[j] * p[i] : 0) + 2 * p[i] * p[j] * p[k];
                expect_near(row[k], want, 1e-15);
            }
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* f = <w, softmax(x)>: with m = f, the Hessian is p_j (delta_jk - p_k) (w_j - m) - p_j p_k (w_k - m). */
Test(second_order, the_hessian_of_softmax) {
    const double w[classes] = {1, -2, 0, 3, 0.5};
    double p[classes], row[classes], m = 0;
    probabilities(p);
    for (int i = 0; i < classes; i++) m += w[i] * p[i];
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(classes), logits);
    ad_var weights = ad_constant(t, NULL, AD_F64, AD_SHAPE(classes), w);
    ad_var gradient = derivative(ad_matmul(weights, ad_softmax(x, 0)), x);
    for (int j = 0; j < classes; j++) {
        derivative_row(gradient, j, x, row);
        for (int k = 0; k < classes; k++)
            expect_near(row[k], p[j] * ((j == k) - p[k]) * (w[j] - m) - p[j] * p[k] * (w[k] - m), 1e-15);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* y = x + relu(H x + v): M does not change near x, so the Hessian of the loss is J^T (diag(p) - p p^T) J, J = I + M H. */
Test(second_order, the_hessian_of_the_residual_block) {
    double h[classes * classes], v[classes], jacobian[classes][classes], p[classes], row[classes], sum = 0;
    ad_rng rng = {.seed = 1};
    for (int i = 0; i < classes * classes; i++) h[i] = ad_rng_normal(&rng);
    for (int i = 0; i < classes; i++) v[i] = ad_rng_normal(&rng);
    for (int i = 0; i < classes; i++) {
        double x3 = v[i];
        for (int j = 0; j < classes; j++) x3 += h[i * classes + j] * logits[j];
        for (int j = 0; j < classes; j++) jacobian[i][j] = (i == j) + (x3 > 0 ? h[i * classes + j] : 0);
        sum += p[i] = exp(logits[i] + fmax(x3, 0));
    }
    for (int i = 0; i < classes; i++) p[i] /= sum;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(classes), logits);
    ad_var matrix = ad_leaf(t, "H", AD_F64, AD_SHAPE(classes, classes), h),
           bias = ad_leaf(t, "v", AD_F64, AD_SHAPE(classes), v);
    ad_var y = ad_add(x, ad_relu(ad_add(ad_matmul(matrix, x), bias)));
    ad_var gradient = derivative(ad_softmax_xent(y, ad_index(t, 2)), x);
    for (int i = 0; i < classes; i++) {
        derivative_row(gradient, i, x, row);
        for (int j = 0; j < classes; j++) {
            double want = 0;
            for (int a = 0; a < classes; a++)
                for (int b = 0; b < classes; b++) want += jacobian[a][i] * p[a] * ((a == b) - p[b]) * jacobian[b][j];
            expect_near(row[j], want, 1e-14);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}
