/* Parameters: what backward passes leave in their gradients. */
#include <adtape.h>

#include <criterion/criterion.h>

/* A new tape may lie where an old one lay: it must not be taken for it. */
Test(param, a_new_tape_for_every_step_does_as_well_as_a_reset) {
    ad_param *w = NULL;
    cr_assert_eq(ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){1, 2}, NULL), AD_OK);
    for (int i = 0; i < 3; i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var loss = ad_sum(ad_scale(ad_use(t, w), 3), AD_ALL_AXES, false);
        for (int k = 0; k < i; k++) loss = ad_add(loss, ad_number(t, AD_F64, 1)); /* other nodes, other places */
        cr_assert_eq(ad_backward(loss), AD_OK);
        for (int k = 0; k < 2; k++) cr_expect_eq(ad_view_get(ad_param_gradient(w), k), 3);
        ad_tape_free(t);
    }
    ad_param_unref(w);
}
