/* Tapes that check numbers: the first NaN or infinity stops either pass, and the message says where it came from. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static ad_tape *tape_that_checks(ad_numbers numbers) { return ad_tape_new(&(ad_tape_options){.numbers = numbers}); }

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

Test(numbers, the_op_that_made_a_nan_is_named_with_its_inputs) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_NO_NAN);
    ad_scope_begin(t, "net");
    ad_scope_begin(t, "block%d", 3);
    ad_var x = ad_name(LEAF(t, 1, 0, -2, 0), "x"), y = ad_log(x);
    ad_scope_end(t);
    cr_assert_eq(y.generation, 0);
    cr_assert_eq(ad_tape_size(t), 1);
    expect_error(t, AD_ERR_NUMBER, "log at test_numbers.c:", "made NaN at element 2 of its result f64[4]",
                 "x is f64[4], from -2 to 1, 2 zeros", "in scope net/block3");
    /* An infinity is no NaN. */
    cr_assert_eq(ad_item(ad_log(ad_scalar(t, "x", 0))), -INFINITY);
    expect_ok(t);
    ad_tape_check_numbers(t, AD_NUMBERS_FINITE);
    ad_log(ad_scalar(t, "x", 0));
    expect_error(t, AD_ERR_NUMBER, "log at test_numbers.c:", "made -inf at element 0 of its result f64[]",
                 "x is f64[]: 0");
    ad_tape_check_numbers(t, AD_NUMBERS_ANY);
    cr_assert(isnan(ad_item(ad_log(ad_scalar(t, "x", -1)))));
    expect_ok(t);
    ad_tape_free(t);
}

Test(numbers, a_leaf_that_brings_one_in_is_named) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_NO_NAN);
    float data[] = {1, 2, NAN, 4};
    ad_leaf(t, "image", AD_F32, AD_SHAPE(2, 2), data);
    expect_error(t, AD_ERR_NUMBER, "image at test_numbers.c:", "NaN at element 2 came in with this leaf");
    ad_scalar(t, NULL, NAN);
    expect_error(t, AD_ERR_NUMBER, "input at test_numbers.c:", "NaN at element 0 came in");
    ad_param *w;
    ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){NAN, 1}, NULL);
    ad_use(t, w);
    expect_error(t, AD_ERR_NUMBER, "w at test_numbers.c:", "NaN at element 0 came in");
    ad_param_unref(w);
    /* What is -inf on purpose, as in a mask, is let through by the one and not by the other. */
    ad_number(t, AD_F64, -INFINITY);
    ad_constant(t, "class", AD_I32, AD_SHAPE(1), (int32_t[]){-1});
    expect_ok(t);
    ad_tape_check_numbers(t, AD_NUMBERS_FINITE);
    ad_number(t, AD_F64, -INFINITY);
    expect_error(t, AD_ERR_NUMBER, "constant at test_numbers.c:", "-inf at element 0 came in");
    ad_tape_free(t);
}

Test(numbers, the_backward_pass_stops_where_it_makes_one) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_NO_NAN);
    ad_scope_begin(t, "loss");
    ad_var x = ad_name(LEAF(t, 4, 1), "x"), mask = ad_name(CONSTANT(t, 1, 0), "mask");
    ad_backward(total(ad_sqrt(ad_mul(x, mask))));
    ad_scope_end(t);
    expect_error(t, AD_ERR_NUMBER, "mul at test_numbers.c:",
                 "made NaN in its backward pass, at element 1 of the gradient of x: inf * 0",
                 "upstream gradient inf, of sqrt at test_numbers.c:", "x is f64[2], from 1 to 4",
                 "mask is f64[2], from 0 to 1, 1 zero", "in scope loss");
    ad_tape_check_numbers(t, AD_NUMBERS_FINITE);
    x = LEAF(t, 4, 1), mask = CONSTANT(t, 1, 0);
    ad_var product = ad_name(ad_mul(x, mask), "product");
    ad_backward(total(ad_sqrt(product)));
    expect_error(t, AD_ERR_NUMBER, "sqrt at test_numbers.c:", "made inf",
                 "element 1 of the gradient of product: 1 * inf", "upstream gradient 1, of sum at");
    /* What does not act element by element: the range of the upstream gradient. */
    ad_var w = ad_constant(t, "w", AD_F64, AD_SHAPE(2, 1), (double[]){1e10, 0});
    x = ad_name(ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 2), (double[]){1e-10, 1}), "x");
    ad_backward(total(ad_scale(ad_matmul(x, w), 1e300)));
    expect_error(t, AD_ERR_NUMBER, "matmul at", "made inf in its backward pass, at element 0 of the gradient of x",
                 "upstream gradient from 1e+300 to 1e+300, of scale at");
    ad_tape_free(t);
}

Test(numbers, scalars_are_checked_too) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_NO_NAN);
    ad_var x = ad_scalar(t, "x", 0), y = ad_sqrt(ad_mul(x, x));
    ad_backward(y);
    expect_error(t, AD_ERR_NUMBER, "mul at test_numbers.c:", "gradient of x: inf * 0",
                 "upstream gradient inf, of sqrt at");
    /* Two good contributions whose sum is none: that of the root recorded first comes last. */
    x = ad_scalar(t, "x", 0);
    ad_var less = ad_sqrt(x), from = ad_sqrt(x);
    ad_backward(ad_sub(from, less));
    expect_error(t, AD_ERR_NUMBER,
                 "sqrt at test_numbers.c:", "element 0 of the gradient of x: it added -inf to what others");
    /* On a tape that began to check when the node was there already. */
    ad_tape_check_numbers(t, AD_NUMBERS_ANY);
    x = ad_scalar(t, "x", 0), y = ad_sqrt(ad_mul(x, x));
    ad_tape_check_numbers(t, AD_NUMBERS_NO_NAN);
    ad_backward(y);
    expect_error(t, AD_ERR_NUMBER, "mul at test_numbers.c:", "gradient of x: inf * 0");
    ad_tape_free(t);
}

Test(numbers, a_recorded_gradient_says_whose_derivative_it_is) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_FINITE);
    ad_var x = LEAF(t, 4, 0), g;
    ad_grad(total(ad_sqrt(x)), (ad_var){0}, 1, &x, &g);
    expect_error(t, AD_ERR_NUMBER, " at test_numbers.c:", "made inf at element 1",
                 "recorded for the derivative of sqrt at test_numbers.c:");
    ad_tape_free(t);
}

static void in_checkpoint(ad_tape *t, const ad_var *in, int n, ad_var *out, int m, void *user) {
    (void)t, (void)n, (void)m, (void)user;
    out[0] = ad_sqrt(ad_mul(in[0], in[0]));
}

Test(numbers, inside_a_checkpoint_the_op_in_the_function_is_named) {
    ad_tape *t = tape_that_checks(AD_NUMBERS_NO_NAN);
    ad_var x = ad_name(LEAF(t, 4, 0), "x"), y;
    ad_checkpoint(t, in_checkpoint, NULL, 1, &x, 1, &y);
    ad_backward(total(y));
    expect_error(t, AD_ERR_NUMBER, "mul at test_numbers.c:", "element 1 of the gradient of x: inf * 0");
    ad_tape_free(t);
}

/* The same network with and without, in numbers and gradients. */
Test(numbers, checking_changes_no_result) {
    double value[2], gradient[2][6];
    for (int checks = 0; checks < 2; checks++) {
        ad_tape *t = tape_that_checks(checks ? AD_NUMBERS_FINITE : AD_NUMBERS_ANY);
        ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[]){.1, -.2, .3, -.4, .5, .6});
        ad_var s = ad_scalar(t, "s", 0.3), c = ad_tanh(ad_mul(ad_exp(s), s));
        ad_var y = ad_mean(ad_where(ad_greater(x, s), ad_softmax(x, -1), ad_mul(c, x)), AD_ALL_AXES, false);
        ad_backward(y);
        expect_ok(t);
        value[checks] = ad_item(y) + ad_gradient_item(s);
        ad_view g = ad_gradient(x);
        for (int i = 0; i < 6; i++) gradient[checks][i] = ad_view_get(&g, i);
        ad_tape_free(t);
    }
    cr_assert_eq(value[0], value[1]);
    cr_assert_eq(memcmp(gradient[0], gradient[1], sizeof gradient[0]), 0);
}

Test(numbers, a_message_survives_the_refusal_of_memory) {
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator, .numbers = AD_NUMBERS_NO_NAN});
        memory.fail_at = memory.calls + at;
        memory.fail_on = true;
        ad_var x = LEAF(t, 4, 1), mask = CONSTANT(t, 1, 0);
        ad_backward(total(ad_sqrt(ad_mul(x, mask))));
        ad_status status = ad_tape_status(t);
        cr_assert(status == AD_ERR_NUMBER || status == AD_ERR_OOM, "%s", ad_tape_error(t));
        cr_assert_eq(ad_tape_verify(t, NULL), AD_OK);
        bool reached = memory.calls >= memory.fail_at;
        ad_tape_free(t);
        test_memory_close(&memory);
        if (!reached) break;
        cr_assert_lt(at, 1000);
    }
    ad_tape_check_numbers(NULL, AD_NUMBERS_FINITE);
}
