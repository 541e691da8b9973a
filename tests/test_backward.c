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
