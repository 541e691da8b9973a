/* Normalization, convolution and pooling against PyTorch; their conventions, and what they refuse. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

TestSuite(pytorch, .fini = test_arrays_free);

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

OP(layer_norm, ad_layer_norm(in[0], c->axis, in[1], in[2], c->value))
OP(rms_norm, ad_rms_norm(in[0], c->axis, in[1], c->value))
OP(batch_norm, ad_batch_norm(in[0], in[1], in[2], c->value, NULL, NULL))
OP(batch_norm_with, ad_batch_norm_with(in[0], in[1], in[2], in[3], AD_NONE, c->value))
OP(group_norm, ad_group_norm(in[0], c->axis, in[1], in[2], c->value))

static ad_conv_options options_of(const reference_case *c) {
    const int *a = c->axes.axis;
    return (ad_conv_options){.stride = {a[0], a[1]},
                             .padding = {a[2], a[3]},
                             .dilation = {a[4], a[5]},
                             .groups = a[6],
                             .output_padding = {a[7], a[7]}};
}

#define CONVOLUTION(name)                                                                                            \
    static ad_var make_##name(const ad_var *in, const reference_case *c) {                                           \
        ad_conv_options options = options_of(c);                                                                     \
        return ad_##name(in[0], in[1], in[2], &options);                                                             \
    }                                                                                                                \
    Test(pytorch, name) { reference_check(#name, make_##name); }

CONVOLUTION(conv2d)
CONVOLUTION(conv1d)
CONVOLUTION(conv_transpose2d)

static ad_var make_max_pool2d(const ad_var *in, const reference_case *c) {
    const int *a = c->axes.axis;
    const ad_pool_options options = {.kernel = {a[0], a[1]},
                                     .stride = {a[2], a[3]},
                                     .padding = {a[4], a[5]},
                                     .dilation = {a[6], a[6]},
                                     .ceil = a[7]};
    return ad_max_pool2d(in[0], &options, NULL);
}
Test(pytorch, max_pool2d) { reference_check("max_pool2d", make_max_pool2d); }

static ad_var make_avg_pool2d(const ad_var *in, const reference_case *c) {
    const int *a = c->axes.axis;
    const ad_pool_options options = {.kernel = {a[0], a[1]},
                                     .stride = {a[2], a[3]},
                                     .padding = {a[4], a[5]},
                                     .padding_is_excluded = a[6],
                                     .ceil = a[7]};
    return ad_avg_pool2d(in[0], &options);
}
Test(pytorch, avg_pool2d) { reference_check("avg_pool2d", make_avg_pool2d); }

OP(adaptive_avg_pool2d, ad_adaptive_avg_pool2d(in[0], c->axes.axis[0], c->axes.axis[1]))
OP(upsample_nearest, ad_upsample_nearest(in[0], c->axis))
OP(upsample_bilinear, ad_upsample_bilinear(in[0], c->axes.axis[0], c->axes.axis[1], c->axes.axis[2]))
OP(pixel_shuffle, ad_pixel_shuffle(in[0], c->axis))

/* ---- normalization ---------------------------------------------------------------------------------------------------- */

static ad_var numbers(ad_tape *t, const char *name, ad_shape shape) {
    double data[64];
    for (int i = 0; i < TEST_COUNT(data); i++) data[i] = i % 5 - 0.25 * i;
    return ad_leaf(t, name, AD_F64, shape, data);
}

Test(norm, equal_elements_give_the_bias_and_gradient_0_without_epsilon) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), ((double[]){0.1, 0.1}));
    ad_var w = ad_leaf(t, "w", AD_F64, AD_SHAPE(2), ((double[]){2, 3}));
    ad_var b = ad_leaf(t, "b", AD_F64, AD_SHAPE(2), ((double[]){5, 7})), y = ad_layer_norm(x, 1, w, b, 0);
    expect_values(ad_value(y), 5, 7);
    ad_backward(ad_sum(ad_mul(y, w), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 0, 0);
    ad_var zero = ad_leaf(t, "zero", AD_F64, AD_SHAPE(2), ((double[]){0, 0})), z = ad_rms_norm(zero, 1, w, 0);
    expect_values(ad_value(z), 0, 0);
    ad_backward(ad_sum(z, AD_ALL_AXES, false));
    expect_values(ad_gradient(zero), 0, 0);
    expect_ok(t);
    ad_tape_free(t);
}

/* The sum of a row does not move: whatever epsilon is, it passes nothing on. */
Test(norm, a_constant_row_gets_gradient_0_of_a_sum) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), ((double[]){0.1, 0.1, 0.1}));
    ad_backward(ad_sum(ad_layer_norm(x, 1, AD_NONE, AD_NONE, 1e-5), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 0, 0, 0);
    ad_tape_free(t);
}

Test(norm, batch_norm_gives_the_statistics_of_the_batch) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 2), ((double[]){1, 10, 3, 14})), mean, variance;
    ad_batch_norm(x, AD_NONE, AD_NONE, 1e-5, &mean, &variance);
    expect_values(ad_value(mean), 2, 12);
    expect_values(ad_value(variance), 1, 4);
    ad_backward(ad_sum(ad_add(mean, variance), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 0.5 - 1, 0.5 - 2, 0.5 + 1, 0.5 + 2);
    expect_ok(t);
    ad_tape_free(t);
}

Test(errors, of_normalization) {
    ad_tape *t = ad_tape_new(NULL);
    ad_layer_norm(numbers(t, "x", AD_SHAPE(2, 3)), 1, numbers(t, "w", AD_SHAPE(2)), AD_NONE, 1e-5);
    expect_error(t, AD_ERR_SHAPE, "ad_layer_norm at", "the weight must have shape [3]", "w is f64[2]",
                 "x is f64[2,3]");
    ad_layer_norm(numbers(t, "x", AD_SHAPE(2, 3)), 3, AD_NONE, AD_NONE, 1e-5);
    expect_error(t, AD_ERR_INDEX, "ad_layer_norm at", "the last 3 axes", "x is f64[2,3]");
    ad_rms_norm(numbers(t, "x", AD_SHAPE(2, 3)), 1, AD_NONE, -1);
    expect_error(t, AD_ERR_VALUE, "rms_norm at", "epsilon is -1", "1e-5");
    ad_batch_norm(numbers(t, "x", AD_SHAPE(4)), AD_NONE, AD_NONE, 1e-5, NULL, NULL);
    expect_error(t, AD_ERR_SHAPE, "ad_batch_norm at", "x is f64[4]", "[N,C,...]");
    ad_group_norm(numbers(t, "x", AD_SHAPE(2, 3)), 2, AD_NONE, AD_NONE, 1e-5);
    expect_error(t, AD_ERR_VALUE, "ad_group_norm at", "2 groups do not divide the 3 channels", "x is f64[2,3]");
    ad_tape_free(t);
}

Test(errors, of_convolution) {
    ad_tape *t = ad_tape_new(NULL);
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 3, 4, 4)), numbers(t, "w", AD_SHAPE(2, 2, 3, 3)), AD_NONE, NULL);
    expect_error(t, AD_ERR_SHAPE, "conv2d at", "channels of image and kernel differ", "x is f64[1,3,4,4]",
                 "(3 != 2)");
    ad_conv2d(numbers(t, "x", AD_SHAPE(3, 4, 4)), numbers(t, "w", AD_SHAPE(2, 2, 3, 3)), AD_NONE, NULL);
    expect_error(t, AD_ERR_SHAPE, "x is f64[3,4,4]", "4 axes", "[N,C,H,W]");
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 2, 2, 4)), numbers(t, "w", AD_SHAPE(2, 2, 3, 3)), AD_NONE, NULL);
    expect_error(t, AD_ERR_SHAPE, "kernel of 3", "does not fit into the 2 elements", "axis 2");
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 2, 4, 4)), numbers(t, "w", AD_SHAPE(2, 2, 3, 3)),
              numbers(t, "b", AD_SHAPE(3)), NULL);
    expect_error(t, AD_ERR_SHAPE, "one element per filter", "b is f64[3]", "w is f64[2,2,3,3]");
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 2, 4, 4)), numbers(t, "w", AD_SHAPE(2, 2, 3, 3)), AD_NONE,
              &(ad_conv_options){.stride = {-1, 1}});
    expect_error(t, AD_ERR_VALUE, "stride -1");
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 3, 4, 4)), numbers(t, "w", AD_SHAPE(2, 1, 3, 3)), AD_NONE,
              &(ad_conv_options){.groups = 2});
    expect_error(t, AD_ERR_SHAPE, "2 groups do not divide the 3 channels");
    ad_conv2d(numbers(t, "x", AD_SHAPE(1, 1, 4, 4)), numbers(t, "w", AD_SHAPE(2, 1, 3, 3)), AD_NONE,
              &(ad_conv_options){.padding = {INT64_MAX, 0}});
    expect_error(t, AD_ERR_LIMIT, "axis 2 overflows");
    ad_conv_transpose2d(numbers(t, "x", AD_SHAPE(1, 3, 4, 4)), numbers(t, "w", AD_SHAPE(2, 1, 2, 2)), AD_NONE, NULL);
    expect_error(t, AD_ERR_SHAPE, "conv_transpose2d at", "3 channels", "2 filters");
    ad_conv_transpose2d(numbers(t, "x", AD_SHAPE(1, 2, 4, 4)), numbers(t, "w", AD_SHAPE(2, 1, 2, 2)), AD_NONE,
                        &(ad_conv_options){.output_padding = {1, 0}});
    expect_error(t, AD_ERR_SHAPE, "image [6,5] has [5,4] windows", "x is f64[1,2,4,4]");
    ad_tape_free(t);
}

/* An image so wide that its columns come in many blocks, of which the last is smaller, against a plain loop. */
Test(conv2d, kernels_may_reach_far_beyond_the_image) {
    ad_tape *t = ad_tape_new(NULL);
    const int64_t far = INT64_C(1) << 40;
    const ad_conv_options options = {.padding = {far / 2, far / 2}, .dilation = {far, far}};
    ad_var x = numbers(t, "x", AD_SHAPE(1, 2, 3, 3)), w = numbers(t, "w", AD_SHAPE(2, 2, 2, 2));
    ad_var y = ad_sum(ad_conv2d(x, w, AD_NONE, &options), AD_ALL_AXES, false);
    ad_backward(y);
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s", ad_tape_error(t));
    cr_assert_eq(ad_item(y), 0);
    ad_tape_free(t);
}

Test(conv2d, of_a_large_image_is_that_of_its_windows) {
    enum { N = 70, C = 5, K = 5, M = N - K + 1 };
    static double x[C * N * N], w[C * K * K];
    for (int i = 0; i < C * N * N; i++) x[i] = i % 17 - 8;
    for (int i = 0; i < C * K * K; i++) w[i] = i % 11 - 5;
    ad_tape *t = ad_tape_new(NULL);
    ad_var image = ad_leaf(t, "x", AD_F64, AD_SHAPE(1, C, N, N), x),
           kernel = ad_leaf(t, "w", AD_F64, AD_SHAPE(1, C, K, K), w);
    ad_var y = ad_conv2d(image, kernel, AD_NONE, NULL);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    const double *value = ad_value(y).data, *w_bar = ad_gradient(kernel).data;
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < M; j++) {
            double sum = 0;
            for (int k = 0; k < C * K * K; k++) sum += w[k] * x[(k / (K * K) * N + i + k / K % K) * N + j + k % K];
            cr_assert_eq(value[i * M + j], sum, "at [%d,%d]: %g, not %g", i, j, value[i * M + j], sum);
        }
    }
    for (int k = 0; k < C * K * K; k++) {
        double sum = 0;
        for (int i = 0; i < M * M; i++) sum += x[(k / (K * K) * N + i / M + k / K % K) * N + i % M + k % K];
        cr_assert_eq(w_bar[k], sum, "kernel element %d: %g, not %g", k, w_bar[k], sum);
    }
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- pooling ---------------------------------------------------------------------------------------------------------- */

static const ad_pool_options pairs = {.kernel = {1, 2}};

Test(max_pool2d, the_first_of_equal_elements_gets_the_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 1, 1, 6), ((double[]){2, 2, NAN, 1, -INFINITY, -INFINITY})), index;
    ad_var y = ad_max_pool2d(x, &pairs, &index);
    const int64_t *at = ad_value(index).data;
    cr_assert(at[0] == 0 && at[1] == 2 && at[2] == 4, "%d %d %d", (int)at[0], (int)at[1], (int)at[2]);
    cr_assert(isnan(((const double *)ad_value(y).data)[1]));
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_values(ad_gradient(x), 1, 0, 1, 0, 1, 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(max_pool2d, padding_is_never_the_largest) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(1, 1, 1, 3), ((double[]){-3, -2, -1}));
    ad_var y = ad_max_pool2d(x, &(ad_pool_options){.kernel = {1, 2}, .padding = {0, 1}}, NULL);
    expect_values(ad_value(y), -3, -1);
    ad_tape_free(t);
}

Test(errors, of_pooling) {
    ad_tape *t = ad_tape_new(NULL);
    ad_max_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 2, 2)), NULL, NULL);
    expect_error(t, AD_ERR_VALUE, "max_pool2d at", "kernel 0");
    ad_max_pool2d(numbers(t, "x", AD_SHAPE(2, 2)), &pairs, NULL);
    expect_error(t, AD_ERR_SHAPE, "x is f64[2,2]", "[N,C,H,W]");
    ad_max_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 2, 1)), &pairs, NULL);
    expect_error(t, AD_ERR_SHAPE, "kernel of 2", "1 elements", "axis 3");
    ad_avg_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 2, 2)), &(ad_pool_options){.kernel = {2, 2}, .padding = {0, 2}});
    expect_error(t, AD_ERR_VALUE, "ad_avg_pool2d at", "padding 2", "half of the kernel");
    ad_adaptive_avg_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 2, 2)), 0, 1);
    expect_error(t, AD_ERR_VALUE, "ad_adaptive_avg_pool2d at", "0 parts along axis 2");
    ad_avg_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 2, 2)), &(ad_pool_options){.kernel = {3, 1}});
    expect_error(t, AD_ERR_SHAPE, "ad_avg_pool2d at", "kernel of 3", "2 elements along axis 2");
    ad_max_pool2d(numbers(t, "x", AD_SHAPE(1, 1, 1, 4)),
                  &(ad_pool_options){.kernel = {2, 1}, .padding = {1, 0}, .dilation = {2, 1}}, NULL);
    expect_error(t, AD_ERR_SHAPE, "max_pool2d at", "window 0 along axis 2 sees nothing but padding");
    ad_upsample_bilinear(numbers(t, "x", AD_SHAPE(1, 1, 2, 2)), 0, 1, false);
    expect_error(t, AD_ERR_VALUE, "ad_upsample_bilinear at", "to 0 x 1");
    ad_upsample_nearest(numbers(t, "x", AD_SHAPE(2)), 2);
    expect_error(t, AD_ERR_SHAPE, "ad_upsample_nearest at", "x is f64[2]");
    ad_pixel_shuffle(numbers(t, "x", AD_SHAPE(1, 2, 2, 2)), 2);
    expect_error(t, AD_ERR_VALUE, "ad_pixel_shuffle at", "scale 2", "2 channels");
    ad_tape_free(t);
}
