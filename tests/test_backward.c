/* The walk back: seeds, merges, parameters, contributions, and gradients that are recorded. */
#include "tapes.h"

#include <criterion/criterion.h>

/* ---- parameters ----------------------------------------------------------------------------------------------------- */

static ad_param *param_of(int64_t n, const double *data) {
    ad_param *param;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_param_new(&param, NULL, "p", AD_F64, AD_SHAPE(n), data, &error), AD_OK, "%s", error.message);
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
        ad_backward(ad_sum(ad_mul(p, p), AD_ALL_AXES, false));
        expect_ok(t);
        expect_values(*ad_param_gradient(param), 6, 8);
        ad_tape_free(t);
    }
    ad_param_unref(param);
    same_place_close(&place);
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
