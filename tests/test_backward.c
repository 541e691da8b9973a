/* The walk back: seeds, merges, parameters, contributions, and gradients that are recorded. */
#include "tapes.h"

#include <criterion/criterion.h>
#include <limits.h>

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

/* ---- the walk -------------------------------------------------------------------------------------------------------------- */

Test(backward, begins_at_one_number_of_any_rank_or_at_anything_with_a_seed) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 1), (double[]){3}), s = ad_scalar(t, "s", 4);
    ad_var v = ad_leaf(t, "v", AD_F32, AD_SHAPE(2, 3), (float[]){1, 2, 3, 4, 5, 6});
    ad_backward(ad_mul(x, ad_mul(x, s)));
    expect_values(ad_gradient(x), 24);
    expect_values(ad_gradient(s), 9);
    ad_backward_with(ad_mul(s, s), &(ad_backward_options){.seed = ad_number(t, AD_F64, -2)});
    expect_values(ad_gradient(s), -16);

    ad_var seed = ad_constant(t, "seed", AD_F32, AD_SHAPE(2, 3), (float[]){1, 0, -1, 2, 0.5, 0});
    ad_backward_with(ad_mul(v, v), &(ad_backward_options){.seed = seed});
    expect_values(ad_gradient(v), 2, 0, -6, 16, 5, 0);
    ad_var y = ad_mul(ad_transpose(v), ad_transpose(v)); /* a seed with strides, itself the result of operations */
    ad_backward_with(y, &(ad_backward_options){.seed = ad_transpose(ad_scale(seed, 2))});
    expect_values(ad_gradient(v), 4, 0, -12, 32, 10, 0);
    expect_values(ad_gradient(y), 2, 4, 0, 1, -2, 0);
    expect_values(ad_value(seed), 1, 0, -1, 2, 0.5, 0);
    ad_backward_with(v, &(ad_backward_options){.seed = seed});
    expect_values(ad_gradient(v), 1, 0, -1, 2, 0.5, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(backward, a_later_pass_replaces_what_an_earlier_one_left) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), s = ad_scalar(t, "s", 5);
    ad_var a = ad_mul(x, s), y = total(ad_mul(a, a)), z = total(ad_mul(x, x));
    for (int round = 0; round < 3; round++) {
        ad_backward(y);
        expect_values(ad_gradient(x), 100, 150);
        expect_values(ad_gradient(s), 130);
        expect_values(ad_gradient(a), 20, 30);
        ad_backward(z);
        expect_values(ad_gradient(x), 4, 6);
        cr_assert_not(ad_gradient_reached(s) || ad_gradient_reached(a) || ad_gradient_reached(y));
        expect_values(ad_gradient(s), 0);
        expect_values(ad_gradient(a), 0, 0);
        expect_values(ad_gradient(y), 0);
        cr_assert_not(ad_gradient_reached(s), "looking is not reaching");
        expect_ok(t);
    }
    ad_tape_free(t);
}

Test(backward, gives_the_gradients_that_were_asked_for) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}),
           w = ad_leaf(t, "w", AD_F64, AD_SHAPE(2), (double[]){5, 7});
    ad_var a = ad_mul(x, w), b = ad_mul(a, a), y = total(b), later = ad_exp(x);
    const ad_var wrt[] = {a, w, later, a};
    ad_backward_with(y, &(ad_backward_options){.wrt = wrt, .wrt_count = 4, .leaves_only = true});
    expect_values(ad_gradient(a), 20, 42);
    expect_values(ad_gradient(w), 40, 126);
    expect_values(ad_gradient(later), 0, 0);
    cr_assert_not(ad_gradient_reached(later) || ad_gradient_reached(x));
    expect_ok(t);
    ad_backward_with(y, &(ad_backward_options){.wrt = wrt, .wrt_count = 0}); /* none at all */
    cr_assert_not(ad_gradient_reached(a));
    ad_backward(y); /* and all again */
    expect_values(ad_gradient(x), 100, 294);
    expect_values(ad_gradient(b), 1, 1);
    expect_ok(t);
    ad_tape_free(t);
}

static void expect_first(ad_view view, double value) { cr_assert_eq(ad_view_get(&view, 0), value); }

/* 1 is lost beside 1e16: the sum tells in which order it was made. */
Test(backward, merges_in_the_order_of_descending_consumers) {
    const double factor[] = {1, 1e16, -1e16};
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "p", AD_F64, AD_SHAPE(2), NULL, NULL);
    for (int kind = 0; kind < 3; kind++) {
        ad_var x = kind == 0   ? ad_scalar(t, "x", 1)
                   : kind == 1 ? ad_use(t, param)
                               : ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[2]){0});
        ad_var a = ad_scale(x, factor[0]), b = ad_scale(x, factor[1]), c = ad_scale(x, factor[2]);
        ad_backward(total(ad_add(ad_add(c, a), b)));
        expect_first(ad_gradient(x), 1);
        ad_var gradient;
        ad_grad(total(ad_add(ad_add(c, a), b)), (ad_var){0}, 1, &x, &gradient);
        expect_first(ad_value(gradient), 1);
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_param_unref(param);
    ad_tape_free(t);
}

/* Windows of x, each times a number of its own, and now and then all of x: neighbours, strangers, overlaps, along either axis,
 * in any order. Their gradient is written piece by piece, into memory that held other numbers before. */
enum { WINDOWED_ROWS = 6, WINDOWED_COLUMNS = 5, WINDOWS = 7 };

static ad_var windowed_sum(ad_rng *rng, ad_var x, double *expected) {
    ad_var y = ad_scalar(x.tape, NULL, 0);
    int64_t next = 0;
    for (int k = 0; k < WINDOWS; k++) {
        const bool all = ad_rng_below(rng, 8) == 0;
        const int axis = ad_rng_below(rng, 4) == 0;
        const int64_t n = axis ? WINDOWED_COLUMNS : WINDOWED_ROWS;
        const int64_t from = ad_rng_below(rng, 3) ? next % n : ad_rng_below(rng, n);
        const int64_t to = from + ad_rng_below(rng, n - from + 1), factor = 1 + ad_rng_below(rng, 9);
        ad_var part = all ? x : ad_slice(x, axis, from, to, 1);
        y = ad_add(y, ad_scale(total(part), (double)factor));
        next = to;
        for (int64_t i = 0; i < WINDOWED_ROWS; i++)
            for (int64_t j = 0; j < WINDOWED_COLUMNS; j++)
                if (all || ((axis ? j : i) >= from && (axis ? j : i) < to))
                    expected[i * WINDOWED_COLUMNS + j] += (double)factor;
    }
    return y;
}

Test(backward, puts_windows_together) {
    ad_rng rng = {.seed = 3};
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "p", AD_F64, AD_SHAPE(WINDOWED_ROWS, WINDOWED_COLUMNS), NULL, NULL);
    for (int round = 0; round < 3000; round++) {
        double expected[2][WINDOWED_ROWS * WINDOWED_COLUMNS] = {0};
        ad_var leaf = ad_use(t, param), x[] = {leaf, ad_exp(leaf)}, y = ad_scalar(t, NULL, 0);
        const int used = 1 + (int)ad_rng_below(&rng, 2);
        for (int k = 0; k < used; k++) y = ad_add(y, windowed_sum(&rng, x[k], expected[k]));
        ad_backward(y);
        for (int k = used; k-- > 0;) { /* exp(0) passes on what it got */
            for (int64_t i = 0; i < WINDOWED_ROWS * WINDOWED_COLUMNS; i++) {
                ad_view gradient = ad_gradient(x[k]);
                const double all = expected[k][i] + (k == 0 ? expected[1][i] : 0);
                cr_assert_eq(ad_view_get(&gradient, i), all, "round %d, element %d of %d", round, (int)i, k);
            }
        }
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_param_unref(param);
    ad_tape_free(t);
}

Test(backward, passes_through_views_and_not_through_detach) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, 4, 5, 6});
    ad_var w = ad_constant(t, "w", AD_F64, AD_SHAPE(3, 2), (double[]){1, 2, 3, 4, 5, 6});
    ad_backward(total(ad_mul(ad_transpose(x), w)));
    expect_values(ad_gradient(x), 1, 3, 5, 2, 4, 6);
    ad_backward(total(ad_mul(ad_reshape(ad_transpose(x), AD_SHAPE(6)), ad_reshape(w, AD_SHAPE(-1)))));
    expect_values(ad_gradient(x), 1, 3, 5, 2, 4, 6);
    ad_var one = ad_leaf(t, "one", AD_F64, AD_SHAPE(2, 1), (double[]){1, 2});
    ad_var wide = ad_broadcast_to(one, AD_SHAPE(4, 2, 3));
    ad_backward(total(ad_mul(wide, ad_reshape(x, AD_SHAPE(1, 2, 3)))));
    expect_values(ad_gradient(one), 24, 60);
    expect_values(ad_gradient(x), 4, 4, 4, 8, 8, 8);
    /* A sum passes its one number on, stretched: the gradient is dense all the same. */
    ad_backward(total(x));
    ad_view gradient = ad_gradient(x);
    cr_assert(ad_view_is_contiguous(&gradient));
    expect_values(gradient, 1, 1, 1, 1, 1, 1);
    ad_backward(total(ad_mul(ad_detach(x), x)));
    expect_values(ad_gradient(x), 1, 2, 3, 4, 5, 6);
    ad_var s = ad_scalar(t, "s", 3);
    ad_backward(ad_mul(ad_detach(s), ad_mul(s, ad_detach(ad_mul(s, s)))));
    expect_values(ad_gradient(s), 27);
    expect_ok(t);
    ad_tape_free(t);
}

/* Result 1 of softmax_xent is softmax(x): alone, together with the loss, and against softmax itself. */
Test(backward, passes_through_any_result_of_an_operation) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[]){1, -2, 0.5, 0, 3, -1});
    ad_var target = ad_constant(t, "class", AD_I64, AD_SHAPE(2), (int64_t[]){2, 0}), in[] = {x, target};
    ad_var w = ad_constant(t, "w", AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, -4, 5, -6}), result[4], gradient[3];
    cr_assert_eq(ad_apply(t, ad_op_find("softmax_xent"), 2, in, NULL, result).index, result[0].index);
    cr_assert_eq(result[1].index, result[0].index + 1);
    ad_var weighted = total(ad_mul(result[1], w)), plain = total(ad_mul(ad_softmax(x, -1), w)),
           loss = total(result[0]);
    const ad_var y[] = {weighted, plain, loss, ad_add(loss, weighted), ad_add(weighted, loss)};
    double value[5][6];
    for (int i = 0; i < 5; i++) {
        ad_backward(y[i]);
        ad_view view = ad_gradient(x);
        for (int k = 0; k < 6; k++) value[i][k] = ad_view_get(&view, k);
        cr_assert_eq(ad_gradient_reached(result[0]), i >= 2);
        cr_assert_eq(ad_gradient_reached(result[1]), i != 1 && i != 2);
        ad_grad(y[i], (ad_var){0}, 1, &x, gradient);
        view = ad_value(gradient[0]);
        for (int k = 0; k < 6; k++) expect_near(ad_view_get(&view, k), value[i][k], 1e-15);
    }
    for (int k = 0; k < 6; k++) {
        expect_near(value[0][k], value[1][k], 1e-15);
        expect_near(value[3][k], value[0][k] + value[2][k], 1e-15);
        expect_near(value[4][k], value[3][k], 1e-15);
    }
    /* Result 1 as the start: result 0, which lies before it, has no gradient. */
    ad_backward_with(result[1], &(ad_backward_options){.seed = w, .leaves_only = true});
    ad_view view = ad_gradient(x);
    for (int k = 0; k < 6; k++) expect_near(ad_view_get(&view, k), value[0][k], 1e-15);
    cr_assert_not(ad_gradient_reached(result[0]));
    expect_ok(t);
    ad_tape_free(t);
}

Test(backward, a_cotangent_of_zero_stays_zero_where_the_derivative_is_infinite) {
    ad_tape *t = ad_tape_new(NULL);
    const double at[] = {0, -1, 4}, zeros[3] = {0};
    for (int rank = 0; rank < 2; rank++) {
        ad_shape shape = {.rank = rank, .dim = {3}};
        for (int i = 0; i < (rank ? 1 : 3); i++) {
            ad_var x = ad_leaf(t, "x", AD_F64, shape, at + i), zero = ad_constant(t, NULL, AD_F64, shape, zeros);
            double positive = at[rank ? 2 : i] > 0 ? 1 / at[rank ? 2 : i] : 0;
            /* where(x > 0, log(x), 0), the most reported NaN of all */
            ad_var y = total(ad_where(ad_greater(x, zero), ad_log(x), zero)), gradient;
            ad_backward(y);
            ad_grad(y, (ad_var){0}, 1, &x, &gradient);
            const ad_view views[] = {ad_gradient(x), ad_value(gradient)};
            for (int k = 0; k < 2; k++) {
                if (rank) expect_values(views[k], 0, 0, positive);
                if (!rank) expect_values(views[k], positive);
            }
            /* a seed of zeros through everything that is singular at 0 */
            ad_var all = ad_mul(ad_div(zero, x), ad_mul(ad_log(x), ad_exp(ad_div(ad_add(zero, zero), x))));
            ad_backward_with(all, &(ad_backward_options){.seed = zero});
            ad_grad(all, zero, 1, &x, &gradient);
            const ad_view none[] = {ad_gradient(x), ad_value(gradient)};
            for (int k = 0; k < 2; k++) {
                if (rank) expect_values(none[k], 0, 0, 0);
                if (!rank) expect_values(none[k], 0);
            }
            expect_ok(t);
            ad_tape_reset(t);
        }
    }
    ad_tape_free(t);
}

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

static ad_param *param_of(int64_t n, const double *data) {
    ad_param *param;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_param_new(&param, NULL, "p", AD_F64, AD_SHAPE(n), data, &error), AD_OK, "%s", error.message);
    return param;
}

static ad_param *number_param(double value) {
    ad_param *param;
    cr_assert_eq(ad_param_new(&param, NULL, "p", AD_F64, AD_SCALAR, &value, NULL), AD_OK);
    return param;
}

/* A claim on a parameter must not be mistaken for one of the new tape's, which lies in the same place and counts its
 * passes from the same number. */
Test(backward, overwrites_a_parameter_gradient_that_a_freed_tape_at_the_same_address_left) {
    same_place place;
    same_place_open(&place);
    ad_param *param = param_of(2, (double[]){3, 4});
    void *first = NULL;
    for (int i = 0; i < 3; i++) {
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &place.allocator});
        if (i == 0) first = t;
        cr_assert_eq((void *)t, first);
        if (i == 0) (void)ad_scalar(t, "unused", 1); /* the parameter's node then has another index */
        ad_var p = ad_use(t, param);
        ad_backward(total(ad_mul(p, p)));
        expect_ok(t);
        expect_values(*ad_param_gradient(param), 6, 8);
        ad_tape_free(t);
    }
    ad_param_unref(param);
    same_place_close(&place);
}

Test(backward, a_parameter_used_twice_gets_the_sum) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4}), *number = number_param(5);
    for (int round = 0; round < 2; round++) {
        ad_var p = ad_use(t, param), q = ad_use(t, param), n = ad_use(t, number), m = ad_use(t, number);
        ad_var y = total(ad_add(ad_mul(ad_mul(p, q), n), ad_mul(q, m)));
        for (int pass = 0; pass < 2; pass++) {
            ad_backward(y);
            expect_ok(t);
            expect_values(ad_gradient(p), 15, 20);
            expect_values(*ad_param_gradient(param), 15 + 15 + 5, 20 + 20 + 5);
            expect_values(*ad_param_gradient(number), 25 + 7);
        }
        ad_tape_reset(t);
    }
    ad_tape_free(t);
    ad_param_unref(param);
    ad_param_unref(number);
}

Test(backward, overwrites_or_accumulates_over_two_tapes) {
    ad_tape *t[] = {ad_tape_new(NULL), ad_tape_new(NULL)};
    ad_param *param = param_of(2, (double[]){3, 4}), *number = number_param(5);
    ad_var y[2];
    for (int i = 0; i < 2; i++) {
        ad_var scaled = ad_scale(ad_use(t[i], param), i + 2);
        y[i] = total(ad_mul(scaled, ad_use(t[i], number)));
    }
    for (int i = 0; i < 2; i++) {
        ad_backward(y[i]);
        expect_values(*ad_param_gradient(param), 5 * (i + 2), 5 * (i + 2));
        expect_values(*ad_param_gradient(number), 7 * (i + 2));
    }
    ad_backward_with(y[0], &(ad_backward_options){.accumulate = true});
    expect_values(*ad_param_gradient(param), 25, 25);
    expect_values(*ad_param_gradient(number), 35);
    ad_backward(y[0]);
    expect_values(*ad_param_gradient(param), 10, 10);
    for (int i = 0; i < 2; i++) {
        expect_ok(t[i]);
        ad_tape_free(t[i]);
    }
    ad_param_unref(param);
    ad_param_unref(number);
}

Test(backward, a_parameter_that_y_does_not_depend_on_gets_zeros_unless_it_was_not_asked_for) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4}), *other = param_of(2, (double[]){1, 1}),
             *absent = param_of(1, NULL);
    ad_view gradients[] = {*ad_param_edit_gradient(param), *ad_param_edit_gradient(other),
                           *ad_param_edit_gradient(absent)};
    for (int i = 0; i < 3; i++) *(double *)gradients[i].data = 99;
    ad_var p = ad_use(t, param), y = total(ad_use(t, other));
    ad_backward_with(y, &(ad_backward_options){.accumulate = true});
    expect_values(gradients[0], 99, 0);
    expect_values(gradients[1], 100, 1);
    ad_backward_with(y, &(ad_backward_options){.wrt = &y, .wrt_count = 1});
    expect_values(gradients[0], 99, 0);
    expect_values(gradients[1], 100, 1);
    ad_backward(y);
    expect_values(gradients[0], 0, 0);
    expect_values(gradients[1], 1, 1);
    expect_values(gradients[2], 99);
    cr_assert_not(ad_gradient_reached(p));
    ad_backward(ad_number(t, AD_F64, 7)); /* depends on nothing at all */
    expect_values(gradients[1], 0, 0);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(param);
    ad_param_unref(other);
    ad_param_unref(absent);
}

Test(backward, begins_at_a_parameter_itself) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4}), *number = number_param(1);
    for (int round = 1; round <= 2; round++) {
        ad_var p = ad_use(t, param), seed = ad_constant(t, "seed", AD_F64, AD_SHAPE(2), (double[]){5, 7});
        ad_backward_with(p, &(ad_backward_options){.seed = seed, .accumulate = round > 1});
        expect_values(*ad_param_gradient(param), 5 * round, 7 * round);
        expect_values(ad_gradient(p), 5, 7);
        expect_values(ad_value(seed), 5, 7);
        ad_tape_reset(t);
        ad_backward_with(ad_use(t, number), &(ad_backward_options){.accumulate = round > 1});
        expect_values(*ad_param_gradient(number), round);
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_tape_free(t);
    ad_param_unref(param);
    ad_param_unref(number);
}

Test(backward, a_parameter_may_be_freed_while_a_tape_uses_it) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4}), *number = number_param(5);
    ad_var p = ad_use(t, param), n = ad_use(t, number);
    ad_param_unref(param);
    ad_param_unref(number);
    ad_backward(total(ad_mul(ad_mul(p, p), n)));
    expect_values(ad_gradient(p), 30, 40);
    expect_values(ad_gradient(n), 25);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- parameters that change ------------------------------------------------------------------------------------------- */

/* Ways from a parameter to the operand of a product that shares its memory. */
static ad_status halves_shape(ad_call *call) {
    for (int k = 0; k < 2; k++) {
        (void)!ad_view_slice(call->in[0], 0, k, k + 1, 1, &call->out[k]);
        call->is_view[k] = true;
    }
    return AD_OK;
}
static void halves_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 0)); }
static const ad_op halves = {.name = "halves", .inputs = 1, .results = 2, .shape = halves_shape, .vjp = halves_vjp};

static ad_var itself(ad_var p) { return p; }
static ad_var reshaped(ad_var p) { return ad_reshape(p, AD_SHAPE(1, 2)); }
static ad_var detached(ad_var p) { return ad_detach(ad_reshape(p, AD_SHAPE(2, 1))); }
static ad_var stretched(ad_var p) { return ad_broadcast_to(p, AD_SHAPE(3, 2)); }
static ad_var second_half(ad_var p) {
    ad_var results[2];
    ad_apply(p.tape, &halves, 1, &p, NULL, results);
    return results[1];
}

Test(backward, refuses_a_parameter_that_was_changed_after_its_use) {
    ad_var (*const ways[])(ad_var) = {itself, reshaped, detached, stretched, second_half};
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4});
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        for (int how = 0; how < 3; how++) {
            ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), gradient;
            ad_var y = total(ad_mul(x, ways[i](ad_use(t, param))));
            ad_param_edit(param);
            if (how == 0) ad_backward(y);
            if (how == 1) ad_grad(y, (ad_var){0}, 1, &x, &gradient);
            if (how == 2) ad_pushforward(1, &x, &x, 1, &y, &gradient);
            expect_error(t, AD_ERR_CHANGED,
                         how == 0   ? "ad_backward at test_backward.c"
                         : how == 1 ? "ad_grad at"
                                    : "ad_pushforward at",
                         "parameter p was changed after mul (node", "old value",
                         "optimiser's step after the backward pass");
        }
    }
    ad_tape_free(t);
    ad_param_unref(param);
}

Test(backward, a_changed_parameter_is_no_error_where_nothing_reads_its_old_value) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4}), *number = number_param(5);
    ad_var old = ad_use(t, param), n = ad_use(t, number), product = total(ad_mul(old, old));
    ad_var sum = total(ad_scale(old, 3)), cube = ad_mul(ad_mul(n, n), n);
    *(double *)ad_param_edit(param)->data = 30;
    *(double *)ad_param_edit(number)->data = 50;

    ad_backward(sum);
    expect_values(*ad_param_gradient(param), 3, 3);
    /* A number is copied when it is used, so its derivative there is at hand. */
    ad_backward(cube);
    expect_values(*ad_param_gradient(number), 75);
    ad_var gradient;
    ad_grad(cube, (ad_var){0}, 1, &n, &gradient);
    cr_assert_eq(ad_item(gradient), 75);

    /* A new use is a new node; the old one is on the tape but not on the way. */
    ad_var fresh = ad_use(t, param);
    ad_backward(total(ad_mul(fresh, fresh)));
    expect_values(*ad_param_gradient(param), 60, 8);
    expect_ok(t);
    ad_backward(product);
    expect_error(t, AD_ERR_CHANGED, "parameter p");
    expect_values(*ad_param_gradient(param), 60, 8);
    cr_assert(ad_param_gradient_is_complete(param));
    ad_tape_free(t);
    ad_param_unref(param);
    ad_param_unref(number);
}

Test(backward, a_contribution_that_would_read_a_changed_parameter_is_refused_quietly) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), p = ad_use(t, param), product = ad_mul(x, p);
    ad_backward(total(product));
    ad_param_edit(param);
    ad_tensor *tensor = (ad_tensor *)t;
    cr_assert_eq(ad_tape_contribution(t, product.index, 0, &tensor), AD_ERR_CHANGED);
    cr_assert_null(tensor);
    expect_ok(t);
    expect_values(ad_gradient(x), 3, 4);
    ad_tape_free(t);
    ad_param_unref(param);
}

Test(backward, a_gradient_does_not_follow_a_parameter_that_was_the_seed) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 1), (double[]){1, 2});
    ad_var y = ad_add(x, ad_leaf(t, "b", AD_F64, AD_SHAPE(2, 1), (double[]){1, 2}));
    ad_backward_with(y, &(ad_backward_options){.seed = ad_reshape(ad_use(t, param), AD_SHAPE(2, 1))});
    *(double *)ad_param_edit(param)->data = 99;
    expect_values(ad_gradient(x), 3, 4);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(param);
}

/* ---- passes that fail ---------------------------------------------------------------------------------------------------- */

/* Fails after it has written to the gradient. */
static ad_status spoil(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    *(double *)x_bar->data = 1e9;
    return ad_fail(call, AD_ERR_VALUE, "spoilt");
}
static ad_status spoiler_shape(ad_call *call) {
    call->out[0].dtype = AD_F64;
    call->out[0].shape = AD_SCALAR;
    return AD_OK;
}
static ad_status spoiler_forward(ad_call *call) {
    *(double *)call->out[0].data = 0;
    return AD_OK;
}
static const ad_op spoiler = {.name = "spoiler",
                              .inputs = 1,
                              .shape = spoiler_shape,
                              .forward = spoiler_forward,
                              .vjp = halves_vjp,
                              .backward = spoil};

Test(backward, a_pass_that_fails_leaves_gradients_alone_or_says_that_they_are_spoilt) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *params[] = {param_of(2, (double[]){3, 4}), number_param(5)};
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        ad_var y = ad_mul(total(ad_use(t, params[0])), ad_use(t, params[1]));
        ad_backward(y);
        expect_values(*ad_param_gradient(params[0]), 5, 5);
        ad_tape_reset(t);

        ad_var p = ad_use(t, params[0]);
        y = ad_add(ad_mul(total(p), ad_use(t, params[1])), ad_apply(t, &spoiler, 1, &p, NULL, NULL));
        cr_assert_eq(ad_backward_with(y, &(ad_backward_options){.accumulate = accumulate}), AD_ERR_VALUE);
        expect_error(t, AD_ERR_VALUE, "spoiler at", "spoilt");
        for (int i = 0; i < 2; i++) cr_assert_eq(ad_param_gradient_is_complete(params[i]), accumulate);
        if (!accumulate) continue;
        expect_values(*ad_param_gradient(params[0]), 5, 5);
        expect_values(*ad_param_gradient(params[1]), 7);
    }
    for (int i = 0; i < 2; i++) ad_param_unref(params[i]);
    ad_tape_free(t);
}

Test(backward, does_not_add_to_a_spoilt_gradient_before_it_was_made_anew) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param = param_of(2, (double[]){3, 4});
    ad_backward_options add = {.accumulate = true};
    for (int how = 0; how < 2; how++) {
        ad_var p = ad_use(t, param);
        ad_backward(ad_apply(t, &spoiler, 1, &p, NULL, NULL));
        ad_tape_reset(t);
        p = ad_use(t, param);
        cr_assert_eq(ad_backward_with(total(p), &add), AD_ERR_NOGRAD);
        expect_error(t, AD_ERR_NOGRAD, "ad_backward at", "gradient of parameter p is incomplete",
                     "without .accumulate");
        if (how == 0) {
            ad_backward(total(ad_use(t, param)));
        } else {
            ad_view gradient = *ad_param_edit_gradient(param);
            for (int i = 0; i < 2; i++) ((double *)gradient.data)[i] = 1;
        }
        cr_assert(ad_param_gradient_is_complete(param));
        ad_backward_with(total(ad_use(t, param)), &add);
        expect_values(*ad_param_gradient(param), 2, 2);
        expect_ok(t);
        ad_tape_reset(t);
    }
    ad_tape_free(t);
    ad_param_unref(param);
}

/* ---- contributions ---------------------------------------------------------------------------------------------------- */

/* y = x + 2 x, whose derivative is given in two pieces, the first of them the seed itself. */
static ad_status thrice_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}

static ad_status thrice_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++)
        ((double *)call->out[0].data)[i] = 3 * ad_view_get(call->in[0], i);
    return AD_OK;
}

static void thrice_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    ad_vjp_give(v, 0, ad_scale(ad_vjp_seed(v, 0), 2));
}

static const ad_op thrice = {
    .name = "thrice", .inputs = 1, .shape = thrice_shape, .forward = thrice_forward, .vjp = thrice_vjp};

static ad_tensor *contribution_of(ad_tape *tape, ad_var consumer, int input) {
    ad_tensor *tensor;
    cr_assert_eq(ad_tape_contribution(tape, consumer.index, input, &tensor), AD_OK, "%s", ad_tape_error(tape));
    return tensor;
}

Test(backward, a_contribution_in_two_pieces_leaves_the_seed_it_shares_alone) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), y = ad_apply(t, &thrice, 1, &x, NULL, NULL);
    ad_backward(ad_sum(ad_mul(y, y), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 36, 54);
    for (int i = 0; i < 2; i++) {
        ad_tensor *tensor = contribution_of(t, y, 0);
        expect_values(*ad_tensor_view(tensor), 36, 54);
        ad_tensor_unref(tensor);
    }
    expect_values(ad_gradient(y), 12, 18);
    expect_ok(t);
    ad_tape_free(t);
}

/* Both views start at the same place, with the same stride along axis 0. */
Test(backward, a_gradient_passed_through_a_reshape_has_the_shape_of_its_value) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), column = ad_reshape(x, AD_SHAPE(2, 1));
    ad_backward(ad_sum(ad_mul(column, column), AD_ALL_AXES, false));
    cr_expect_eq(ad_gradient(column).shape.rank, 2);
    cr_expect_eq(ad_gradient(x).shape.rank, 1);
    expect_values(ad_gradient(x), 4, 6);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- recorded gradients ----------------------------------------------------------------------------------------------- */

Test(backward, the_recorded_gradient_of_what_stops_it_is_zero) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), g;
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(2), (double[]){1, 1});
    ad_grad(ad_detach(x), seed, 1, &x, &g);
    expect_values(ad_value(g), 0, 0);
    ad_grad(seed, seed, 1, &x, &g);
    expect_values(ad_value(g), 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- products ----------------------------------------------------------------------------------------------------------- */

/* The stack of products has one vector under it: its gradient is their sum. */
Test(backward, a_vector_times_a_stretched_stack_sums_over_the_stack) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){5, 7});
    ad_var W = ad_leaf(t, "W", AD_F64, AD_SHAPE(2, 2), (double[]){1, 2, 3, 4});
    ad_var y = ad_matmul(x, ad_broadcast_to(W, AD_SHAPE(3, 2, 2)));
    ad_backward(ad_sum(ad_broadcast_to(ad_sum(y, AD_AXES(0), AD_KEEPDIM), AD_SHAPE(3, 2)), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 27, 63);
    expect_values(ad_gradient(W), 45, 45, 63, 63);
    expect_ok(t);
    ad_tape_free(t);
}

/* Every consumer's contribution, summed in the order in which they were added, is the gradient, bit by bit. */
static void expect_contributions(ad_tape *t, ad_var x, int wanted) {
    ad_view gradient = ad_gradient(x);
    int64_t n = ad_view_count(&gradient);
    double sum[8] = {0};
    int found = 0;
    for (int64_t consumer = ad_tape_size(t) - 1; consumer > x.index; consumer--) {
        ad_node_info info;
        ad_tape_node(t, consumer, &info);
        for (int i = 0; i < info.inputs; i++) {
            if (info.input[i] != x.index || info.result > 0) continue;
            ad_tensor *tensor = contribution_of(t, ad_tape_var(t, consumer), i);
            if (!tensor) continue;
            cr_assert(ad_shape_equal(&ad_tensor_view(tensor)->shape, &gradient.shape));
            for (int64_t k = 0; k < n; k++)
                sum[k] = found ? sum[k] + ad_view_get(ad_tensor_view(tensor), k)
                               : ad_view_get(ad_tensor_view(tensor), k);
            ad_tensor_unref(tensor);
            found++;
        }
    }
    cr_assert_eq(found, wanted, "%d contributions instead of %d", found, wanted);
    for (int64_t k = 0; k < n; k++) cr_assert_eq(sum[k], ad_view_get(&gradient, k));
}

Test(backward, contributions_add_up_to_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    for (int rank = 0; rank < 2; rank++) {
        ad_shape shape = {.rank = rank, .dim = {3}};
        ad_var x = ad_leaf(t, "x", AD_F64, shape, (double[]){0.3, -0.7, 1.1}), s = ad_scalar(t, "s", 0.1);
        ad_var square = ad_mul(x, x), unused = ad_tanh(x), stretched = ad_mul(x, s);
        ad_var y = total(
            ad_add(ad_where(ad_greater(x, s), ad_exp(x), ad_sigmoid(x)), ad_add(ad_add(x, square), stretched)));
        ad_var z = ad_mul(total(unused), s);
        for (int look = 0; look < 2; look++) {
            ad_backward(y);
            if (look) (void)ad_gradient(unused), (void)ad_gradient(z); /* zeros are no contribution */
            expect_contributions(t, x, 6);
            expect_contributions(t, s, 1);
            cr_assert_null(contribution_of(t, unused, 0));
            cr_assert_null(contribution_of(t, z, 1));
        }
        expect_ok(t);
        ad_backward_with(y, &(ad_backward_options){.wrt = &s, .wrt_count = 1});
        expect_contributions(t, s, 1);
        cr_assert_null(contribution_of(t, square, 0));
        ad_tape_reset(t);
    }
    ad_tape_free(t);
}

Test(backward, contributions_refuse_what_is_not_there) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 2), y = ad_mul(x, x);
    ad_tensor *tensor = NULL;
    cr_assert_null(contribution_of(t, y, 0), "before any pass");
    ad_backward(y);
    cr_assert_eq(ad_tape_contribution(NULL, 1, 0, &tensor), AD_ERR_NULL);
    cr_assert_eq(ad_tape_contribution(t, 1, 0, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_tape_contribution(t, 1, 2, &tensor), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_contribution(t, 1, -1, &tensor), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_contribution(t, 0, 0, &tensor), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_contribution(t, 2, 0, &tensor), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_contribution(t, -1, 0, &tensor), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_contribution(t, INT64_MIN, INT_MIN, &tensor), AD_ERR_INDEX);
    cr_assert_null(tensor);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- local Jacobians ------------------------------------------------------------------------------------------- */

#define expect_jacobian(y, input, ...)                                                                               \
    expect_jacobian_at(AD_HERE, y, input, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),               \
                       (double[]){__VA_ARGS__})
static void expect_jacobian_at(const char *line, ad_var y, int input, int64_t n, const double *values) {
    ad_tensor *jacobian = NULL;
    cr_assert_eq(ad_tape_local_jacobian(y.tape, y.index, input, &jacobian), AD_OK);
    cr_assert_not_null(jacobian, "%s: there is none", line);
    ad_view value = ad_value(y);
    cr_expect(ad_tensor_view(jacobian)->shape.rank == 2);
    cr_expect_eq(ad_tensor_view(jacobian)->shape.dim[0], ad_view_count(&value));
    expect_values_at(line, *ad_tensor_view(jacobian), n, values);
    ad_tensor_unref(jacobian);
}

Test(backward, a_local_jacobian_has_a_row_for_each_element_of_the_result) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 3, -4), s = ad_scalar(t, "s", 5);
    ad_var H = ad_leaf(t, "H", AD_F64, AD_SHAPE(2, 2), ((double[]){1, 2, 3, 4})), y = ad_matmul(H, x);
    expect_jacobian(y, 0, 3, -4, 0, 0, 0, 0, 3, -4);
    expect_jacobian(y, 1, 1, 2, 3, 4);
    expect_jacobian(ad_relu(x), 0, 1, 0, 0, 0);
    expect_jacobian(ad_mul(x, s), 1, 3, -4); /* s is stretched over x */
    expect_jacobian(ad_mul(s, s), 0, 5);     /* one input, the other held fixed */
    expect_jacobian(ad_transpose(H), 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1);
    ad_var most = ad_max(x, 0, false, NULL);
    expect_jacobian(most, 0, 1, 0);
    expect_jacobian(ad_sum(ad_leaf(t, "f", AD_F32, AD_SHAPE(3), ((float[]){1, 2, 3})), AD_ALL_AXES, false), 0, 1, 1,
                    1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(backward, a_local_jacobian_changes_no_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 3, -4), y = ad_mul(x, x), s = ad_sum(y, AD_ALL_AXES, false);
    ad_backward(s);
    expect_jacobian(y, 0, 3, 0, 0, -4);
    expect_values(ad_gradient(x), 6, -8);
    expect_values(ad_gradient(y), 1, 1);
    ad_var later = ad_exp(s); /* has no gradient, and is not given one */
    ad_tensor *jacobian = NULL;
    cr_assert_eq(ad_tape_local_jacobian(t, later.index, 0, &jacobian), AD_OK);
    ad_tensor_unref(jacobian);
    cr_expect_eq(ad_gradient(later).data, NULL);
    expect_error(t, AD_ERR_NOGRAD, "gradient");
    ad_tape_free(t);
}

Test(backward, local_jacobians_refuse_what_is_not_there) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = NULL;
    cr_assert_eq(ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){1, 2}, NULL), AD_OK);
    ad_var x = LEAF(t, 1, 2), i = ad_index(t, 1), y = ad_index_select(x, 0, i), z = ad_exp(ad_mul(ad_use(t, w), x));
    ad_tensor *tensor = NULL;
    cr_expect_eq(ad_tape_local_jacobian(t, y.index, 1, &tensor), AD_OK);
    cr_expect_null(tensor, "an index has no derivative");
    cr_expect_eq(ad_tape_local_jacobian(t, ad_detach(x).index, 0, &tensor), AD_OK);
    cr_expect_null(tensor);
    cr_expect_eq(ad_tape_local_jacobian(NULL, 1, 0, &tensor), AD_ERR_NULL);
    cr_expect_eq(ad_tape_local_jacobian(t, 1, 0, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_tape_local_jacobian(t, x.index, 0, &tensor), AD_ERR_INDEX, "a leaf has no inputs");
    cr_expect_eq(ad_tape_local_jacobian(t, y.index, 2, &tensor), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_local_jacobian(t, y.index, -1, &tensor), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_local_jacobian(t, -1, 0, &tensor), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_local_jacobian(t, 1000, 0, &tensor), AD_ERR_INDEX);
    ad_param_edit(w);
    cr_expect_eq(ad_tape_local_jacobian(t, z.index - 1, 1, &tensor), AD_ERR_CHANGED);
    cr_expect_null(tensor);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(w);
}
