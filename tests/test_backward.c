/* The walk back: seeds, merges, parameters, contributions, and gradients that are recorded. */
#include "tapes.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

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

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

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

/* ---- where recorded derivatives come from ------------------------------------------------------------------------------- */

Test(backward, what_is_recorded_for_a_derivative_names_the_line_that_asked) {
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
            snprintf(wanted, sizeof wanted, "/test_backward.c:%d", line);
            cr_assert(place && strcmp(place, wanted) == 0, "node %lld, %s, at %s", (long long)i, info.op->name,
                      info.where);
        }
    }
    expect_ok(t);
    ad_tape_free(t);
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
