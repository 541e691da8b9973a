/* first: a residual dense layer with its loss, differentiated, and everything that happened shown. */
#include <adtape.h>
#include <stdio.h>

int main(void) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), (double[]){1.0, -2.0, 0.5});
    ad_var H = ad_leaf(t, "H", AD_F64, AD_SHAPE(3, 3), (double[]){.1, .2, -.3, .4, -.5, .6, -.7, .8, .9});
    ad_var v = ad_leaf(t, "v", AD_F64, AD_SHAPE(3), (double[]){0.1, 0.2, 0.3});

    ad_var y = ad_add(x, ad_relu(ad_add(ad_matmul(H, x), v))); /* residual dense layer */
    ad_var e = ad_softmax_xent(y, ad_index(t, 2));             /* class 2 is right */

    ad_backward(e);
    ad_tape_dump(t, AD_DUMP_TEXT, stdout); /* values, gradients, merges */
    int failed = ad_tape_status(t) != AD_OK;
    if (failed) fprintf(stderr, "%s\n", ad_tape_error(t));
    ad_tape_free(t);
    return failed;
}
