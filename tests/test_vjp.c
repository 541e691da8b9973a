/* Derivatives that are recorded: ad_grad, to any order, and where it is asked in odd ways. */
#include "tapes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

static ad_var grad_of(ad_var y, ad_var x) {
    ad_var gradient;
    cr_assert_eq(ad_grad(y, (ad_var){0}, 1, &x, &gradient), AD_OK, "%s", ad_tape_error(y.tape));
    return gradient;
}

/* ---- where recorded derivatives come from ------------------------------------------------------------------------------- */

Test(vjp, what_is_recorded_for_a_derivative_names_the_line_that_asked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[] = {ad_scalar(t, "x", 2), ad_leaf(t, "v", AD_F64, AD_SHAPE(2), (double[]){1, 2})}, dot[2], gradient[2];
    ad_var y = ad_mul(ad_tanh(ad_mul(x[0], x[0])), total(ad_exp(x[1])));
    for (int forward = 0; forward < 2; forward++) {
        for (int i = 0; i < 2; i++) dot[i] = x[i];
        int64_t before = ad_tape_size(t);
        int line = __LINE__ + (forward ? 2 : 4);
        if (forward) {
            ad_pushforward(2, x, dot, 1, &y, gradient);
        } else {
            ad_grad(y, (ad_var){0}, 2, x, gradient);
        }
        cr_assert_gt(ad_tape_size(t), before + 5);
        for (int64_t i = before; i < ad_tape_size(t); i++) {
            ad_node_info info;
            ad_tape_node(t, i, &info);
            const char *place = strrchr(info.where, '/');
            char wanted[64];
            snprintf(wanted, sizeof wanted, "/test_vjp.c:%d", line);
            cr_assert(place && strcmp(place, wanted) == 0, "node %lld, %s, at %s", (long long)i, info.op->name,
                      info.where);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- order after order ----------------------------------------------------------------------------------------------------- */

Test(vjp, differentiates_again_and_again) {
    ad_tape *t = ad_tape_new(NULL);
    const double at[] = {0.7, -1.3};
    for (int rank = 0; rank < 2; rank++) {
        ad_shape shape = {.rank = rank, .dim = {2}};
        ad_var x = ad_leaf(t, "x", AD_F64, shape, at);
        ad_var d[5] = {ad_mul(ad_mul(x, x), ad_mul(x, ad_exp(x)))}; /* x^3 e^x */
        for (int n = 1; n < 5; n++) d[n] = grad_of(total(d[n - 1]), x);
        /* (x^3 e^x)^(n) = e^x (x^3 + 3 n x^2 + 3 n (n - 1) x + n (n - 1) (n - 2)) */
        for (int n = 0; n < 5; n++) {
            ad_view value = ad_value(d[n]);
            for (int i = 0; i < (rank ? 2 : 1); i++) {
                double z = at[i], p = z * z * z + 3 * n * z * z + 3 * n * (n - 1) * z + n * (n - 1) * (n - 2);
                expect_near(ad_view_get(&value, i), p * exp(z), 1e-13);
            }
        }
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_tape_free(t);
}

/* The Hessian of the cross-entropy is diag(p) - p p^T. */
Test(vjp, the_hessian_of_softmax_xent) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), (double[]){1, -2, 0.5});
    ad_var loss = ad_softmax_xent(x, ad_index(t, 2)), gradient = grad_of(loss, x);
    ad_view p = ad_value(ad_softmax(x, 0));
    for (int i = 0; i < 3; i++) {
        double unit[3] = {0};
        unit[i] = 1;
        ad_var row;
        ad_grad(gradient, ad_constant(t, NULL, AD_F64, AD_SHAPE(3), unit), 1, &x, &row);
        ad_view value = ad_value(row);
        for (int k = 0; k < 3; k++)
            expect_near(ad_view_get(&value, k), ad_view_get(&p, i) * ((i == k) - ad_view_get(&p, k)), 1e-15);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* f = sum((A x)^2 / 2): gradient A^T A x, and mixed second derivatives by A and by x in either order. */
Test(vjp, mixed_second_derivatives_agree_in_either_order) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var A = ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, -1, 0.5, 2});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), (double[]){0.5, -1, 2}), Ax = ad_matmul(A, x);
    ad_var f = ad_scale(total(ad_mul(Ax, Ax)), 0.5), of[] = {A, x}, first[2];
    ad_grad(f, (ad_var){0}, 2, of, first);
    ad_var U = ad_constant(t, "U", AD_F64, AD_SHAPE(2, 3), (double[]){1, -1, 0, 2, 1, 3});
    ad_var u = ad_constant(t, "u", AD_F64, AD_SHAPE(3), (double[]){-2, 1, 1});
    double one = ad_item(total(ad_mul(grad_of(total(ad_mul(first[0], U)), x), u)));
    double other = ad_item(total(ad_mul(grad_of(total(ad_mul(first[1], u)), A), U)));
    expect_near(one, other, 1e-14);
    cr_assert(fabs(one) > 1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(vjp, a_backward_pass_goes_through_recorded_gradients_to_parameters) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){3, 4}, NULL);
    for (int round = 0; round < 2; round++) {
        /* penalty: |d(sum(w x^2))/dx|^2 = sum(4 w^2 x^2), with derivative 8 w x^2 */
        ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){0.5, 2}), w = ad_use(t, param);
        ad_var gradient = grad_of(total(ad_mul(w, ad_mul(x, x))), x);
        ad_backward(total(ad_mul(gradient, gradient)));
        expect_values(*ad_param_gradient(param), 8 * 3 * 0.25, 8 * 4 * 4);
        expect_values(ad_gradient(x), 8 * 9 * 0.5, 8 * 16 * 2);
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_tape_free(t);
    ad_param_unref(param);
}

/* ---- odd requests -------------------------------------------------------------------------------------------------------------- */

Test(vjp, no_dependence_gives_zeros_that_are_variables) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F32, AD_SHAPE(2), (float[]){1, 2}), s = ad_scalar(t, "s", 3), y = ad_exp(s);
    ad_var later = ad_neg(s), of[] = {x, s, later, y}, gradient[4];
    ad_grad(y, (ad_var){0}, 4, of, gradient);
    expect_values(ad_value(gradient[0]), 0, 0);
    cr_assert_eq(ad_value(gradient[0]).dtype, AD_F32);
    expect_near(ad_item(gradient[1]), exp(3), 1e-15);
    expect_values(ad_value(gradient[2]), 0);
    expect_values(ad_value(gradient[3]), 1);
    expect_values(ad_value(ad_add(gradient[0], x)), 1, 2);
    /* A y that is a constant, or that stops the gradient, depends on nothing. */
    const ad_var flat[] = {ad_number(t, AD_F64, 4), ad_detach(ad_mul(s, s))};
    for (int i = 0; i < 2; i++) {
        expect_values(ad_value(grad_of(flat[i], s)), 0);
        ad_backward(flat[i]);
        expect_values(ad_gradient(s), 0);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* d(g . s)/dg for a seed s that needs a gradient itself: how forward mode is made of two backward ones. */
Test(vjp, the_seed_may_be_differentiated_too) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}),
           seed = ad_leaf(t, "u", AD_F64, AD_SHAPE(2), (double[]){0, 0});
    ad_var y = ad_mul(x, ad_mul(x, x)), gradient, pushed;
    ad_grad(y, seed, 1, &x, &gradient);
    expect_values(ad_value(gradient), 0, 0);
    ad_grad(gradient, ad_constant(t, "dx", AD_F64, AD_SHAPE(2), (double[]){1, -2}), 1, &seed, &pushed);
    expect_values(ad_value(pushed), 12, -54);
    expect_ok(t);
    ad_tape_free(t);
}

Test(vjp, x_may_be_y_or_lie_on_the_way_or_be_named_twice) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 2), a = ad_mul(x, x), y = ad_mul(a, a), of[] = {y, a, x, a}, gradient[4];
    ad_grad(y, ad_number(t, AD_F64, 10), 4, of, gradient);
    const double wanted[] = {10, 80, 320, 80};
    for (int i = 0; i < 4; i++) expect_values(ad_value(gradient[i]), wanted[i]);
    expect_ok(t);
    ad_tape_free(t);
}

Test(vjp, recording_leaves_the_gradients_of_the_last_pass_alone) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), y = total(ad_mul(x, x));
    ad_backward(y);
    ad_var gradient = grad_of(total(ad_exp(x)), x);
    expect_values(ad_gradient(x), 4, 6);
    cr_assert_not(ad_gradient_reached(gradient));
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- what is pushed ------------------------------------------------------------------------------------------------------- */

/* Not even through an op without a derivative. */
Test(vjp, what_leads_to_no_output_is_not_pushed) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), y = ad_exp(x), beside = ad_exp(y), y_dot;
    ad_argmax(beside, 0, false);
    ad_one_hot(ad_argmax(x, 0, false), 2, AD_F64);
    ad_sign(beside);
    int64_t recorded = ad_tape_size(t);
    cr_assert_eq(ad_pushforward(1, &x, &x, 1, &y, &y_dot), AD_OK, "%s", ad_tape_error(t));
    cr_expect_eq(ad_tape_size(t), recorded + 1, "the tangent of y alone");
    ad_view got = ad_value(y_dot);
    cr_expect_eq(ad_view_get(&got, 1), 2 * exp(2));
    ad_tape_free(t);
}

/* Of an op with several results, the tangents that nobody asks for are not worked out; one that is given stays. */
Test(vjp, results_that_lead_to_no_output_are_not_pushed) {
    ad_tape *t = ad_tape_new(NULL);
    const double numbers[] = {3, 1, 0, 2};
    ad_var a = ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 2), numbers), u, vt, s = ad_svd(a, &u, &vt), y = total(s), all[2];
    ad_pushforward(1, &a, &a, 1, &y, all);
    cr_expect_eq(nodes_of(t, 0, "where"), 0, "vectors did not move");
    expect_near(ad_item(all[0]), ad_item(y), 1e-14); /* of degree 1 */
    ad_var outputs[] = {y, total(ad_square(u))};
    ad_pushforward(1, &a, &a, 2, outputs, all);
    cr_expect_eq(nodes_of(t, 0, "where"), 2, "those of U did");
    expect_near(ad_item(all[1]), 0, 1e-14);
    const ad_var x[] = {a, u}, x_dot[] = {a, u};
    ad_pushforward(2, x, x_dot, 2, outputs, all);
    expect_near(ad_item(all[0]), ad_item(y), 1e-14);
    expect_near(ad_item(all[1]), 2 * ad_item(outputs[1]), 1e-14);
    expect_ok(t);
    ad_tape_free(t);
}
