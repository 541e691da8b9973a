/* Convolution of images [N,C,H,W] with kernels w[O,C/groups,h,w] (what others call cross-correlation), and its two
 * transposes. The three ops are the sides of one form that is linear in each of image x, kernel w and result y:
 *
 *     conv2d             y from x and w
 *     conv_transpose2d   x from y and w; also a layer of its own
 *     conv2d_kernel      w from x and y: the gradient of the kernel
 *
 * so that the derivative of each of them is made of the other two, to any order. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/window.h"
#include "ops/ops.h"

typedef struct conv_attrs {
    int64_t stride[2], padding[2], dilation[2], groups;
    int64_t size[2]; /* of x in conv_transpose2d, of w in conv2d_kernel */
} conv_attrs;

/* The result and the two inputs of each op. */
typedef const ad_side sides[3];
static sides conv2d_sides = {AD_SIDE_Y, AD_SIDE_X, AD_SIDE_W}, transposed_sides = {AD_SIDE_X, AD_SIDE_Y, AD_SIDE_W},
             kernel_sides = {AD_SIDE_W, AD_SIDE_X, AD_SIDE_Y};

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static ad_status check_attrs(ad_call *call) {
    const conv_attrs *a = call->attrs;
    for (int i = 0; i < 2; i++)
        if (a->stride[i] < 1 || a->dilation[i] < 1 || a->padding[i] < 0)
            return ad_fail(
                call, AD_ERR_VALUE,
                "stride %lld, dilation %lld, padding %lld: the first two must be above 0, the last one 0 or "
                "more",
                (long long)a->stride[i], (long long)a->dilation[i], (long long)a->padding[i]);
    if (a->groups >= 1) return AD_OK;
    return ad_fail(call, AD_ERR_VALUE, "%lld groups: there must be one or more", (long long)a->groups);
}

static ad_windows windows_of(const conv_attrs *a, const int64_t size[2], const int64_t kernel[2]) {
    ad_windows windows = {.size = {size[0], size[1]}, .kernel = {kernel[0], kernel[1]}};
    for (int i = 0; i < 2; i++) {
        windows.stride[i] = a->stride[i];
        windows.padding[i] = a->padding[i];
        windows.dilation[i] = a->dilation[i];
    }
    return windows;
}

/* Sets how many windows there are along each axis, at least one. */
static ad_status count_windows(ad_call *call, ad_windows *v) {
    for (int i = 0; i < 2; i++) {
        int64_t extent, padded;
        if (v->kernel[i] < 1)
            return ad_fail(call, AD_ERR_SHAPE, "the kernel is [%lld,%lld], but it needs an element",
                           (long long)v->kernel[0], (long long)v->kernel[1]);
        if (__builtin_mul_overflow(v->kernel[i] - 1, v->dilation[i], &extent) ||
            __builtin_mul_overflow(v->padding[i], 2, &padded) || __builtin_add_overflow(padded, v->size[i], &padded))
            return ad_fail(call, AD_ERR_LIMIT, "the size along axis %d overflows", 2 + i);
        if (extent >= padded)
            return ad_fail(
                call, AD_ERR_SHAPE,
                "a kernel of %lld with dilation %lld does not fit into the %lld elements (padding included) "
                "along axis %d",
                (long long)v->kernel[i], (long long)v->dilation[i], (long long)padded, 2 + i);
        v->count[i] = (padded - extent - 1) / v->stride[i] + 1;
    }
    return AD_OK;
}

/* What all three ops ask of the two inputs. */
static ad_status check_inputs(ad_call *call) {
    ad_status status = check_attrs(call);
    if (!status) status = ad_need_float(call, 0);
    for (int i = 1; i < call->inputs && !status; i++) status = ad_need_same_dtype(call, 0, i);
    for (int i = 0; i < 2 && !status; i++)
        if (call->in[i]->shape.rank != 4)
            status = ad_fail(call, AD_ERR_SHAPE,
                             "%s, but it takes 4 axes: images [N,C,H,W], kernels [O,C/groups,h,w]",
                             ad_describe(call, i));
    return status;
}

static ad_status check_divides(ad_call *call, int64_t n, const char *what) {
    int64_t groups = ((const conv_attrs *)call->attrs)->groups;
    if (n % groups == 0) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "%lld groups do not divide the %lld %s: %s, %s", (long long)groups,
                   (long long)n, what, ad_describe(call, 0), ad_describe(call, 1));
}

static ad_status conv2d_shape(ad_call *call) {
    if (call->inputs != 2 && call->inputs != 3)
        return ad_fail(call, AD_ERR_OP, "%d inputs, but it takes an image, a kernel and perhaps a bias",
                       call->inputs);
    ad_status status = check_inputs(call);
    if (status) return status;
    const int64_t *x = call->in[0]->shape.dim, *w = call->in[1]->shape.dim;
    const int64_t groups = ((const conv_attrs *)call->attrs)->groups;
    status = check_divides(call, x[1], "channels");
    if (!status) status = check_divides(call, w[0], "filters");
    if (!status && x[1] / groups != w[1])
        status = ad_fail(call, AD_ERR_SHAPE,
                         "the channels of image and kernel differ: %s, %s, groups %lld (%lld != %lld)",
                         ad_describe(call, 0), ad_describe(call, 1), (long long)groups, (long long)(x[1] / groups),
                         (long long)w[1]);
    if (!status && call->inputs == 3 && (call->in[2]->shape.rank != 1 || call->in[2]->shape.dim[0] != w[0]))
        status = ad_fail(call, AD_ERR_SHAPE, "the bias needs one element per filter: %s, %s", ad_describe(call, 2),
                         ad_describe(call, 1));
    ad_windows windows = windows_of(call->attrs, x + 2, w + 2);
    if (!status) status = count_windows(call, &windows);
    ad_set_out(call, 0, call->in[0]->dtype, AD_SHAPE(x[0], w[0], windows.count[0], windows.count[1]));
    return status;
}

/* Of the transposes, which are told the size of their result: y has as many windows as that makes. */
static ad_status check_count(ad_call *call, const int64_t size[2], const int64_t kernel[2], int y) {
    ad_windows windows = windows_of(call->attrs, size, kernel);
    ad_status status = count_windows(call, &windows);
    const int64_t *actual = call->in[y]->shape.dim + 2, *count = windows.count;
    if (!status && (count[0] != actual[0] || count[1] != actual[1]))
        status = ad_fail(call, AD_ERR_SHAPE, "an image [%lld,%lld] has [%lld,%lld] windows of [%lld,%lld], but %s",
                         (long long)size[0], (long long)size[1], (long long)count[0], (long long)count[1],
                         (long long)kernel[0], (long long)kernel[1], ad_describe(call, y));
    return status;
}

static ad_status transposed_shape(ad_call *call) {
    const conv_attrs *a = call->attrs;
    ad_status status = check_inputs(call);
    if (status) return status;
    const int64_t *y = call->in[0]->shape.dim, *w = call->in[1]->shape.dim;
    int64_t channels;
    if (y[1] != w[0])
        return ad_fail(call, AD_ERR_SHAPE, "the input has %lld channels and the kernel %lld filters: %s, %s",
                       (long long)y[1], (long long)w[0], ad_describe(call, 0), ad_describe(call, 1));
    if (__builtin_mul_overflow(w[1], a->groups, &channels))
        return ad_fail(call, AD_ERR_LIMIT, "the number of channels overflows");
    status = check_divides(call, w[0], "filters");
    if (!status) status = check_count(call, a->size, w + 2, 0);
    ad_set_out(call, 0, call->in[0]->dtype, AD_SHAPE(y[0], channels, a->size[0], a->size[1]));
    return status;
}

static ad_status kernel_shape(ad_call *call) {
    const conv_attrs *a = call->attrs;
    ad_status status = check_inputs(call);
    if (status) return status;
    const int64_t *x = call->in[0]->shape.dim, *y = call->in[1]->shape.dim;
    if (x[0] != y[0])
        return ad_fail(call, AD_ERR_SHAPE, "the numbers of images differ: %s, %s", ad_describe(call, 0),
                       ad_describe(call, 1));
    status = check_divides(call, x[1], "channels");
    if (!status) status = check_divides(call, y[1], "filters");
    if (!status) status = check_count(call, x + 2, a->size, 1);
    ad_set_out(call, 0, call->in[0]->dtype, AD_SHAPE(y[1], x[1] / a->groups, a->size[0], a->size[1]));
    return status;
}

/* ---- computing --------------------------------------------------------------------------------------------------- */

static ad_convolution problem_of(const conv_attrs *a, const ad_view *const view[3]) {
    const int64_t *x = view[AD_SIDE_X]->shape.dim, *w = view[AD_SIDE_W]->shape.dim, *y = view[AD_SIDE_Y]->shape.dim;
    ad_convolution c = {.dtype = view[AD_SIDE_X]->dtype,
                        .images = x[0],
                        .groups = a->groups,
                        .channels = w[1],
                        .filters = w[0] / a->groups,
                        .windows = windows_of(a, x + 2, w + 2)};
    for (int i = 0; i < 2; i++) c.windows.count[i] = y[2 + i];
    return c;
}

/* A number for each channel, as a view that broadcasts to images. */
static ad_view per_channel(const ad_view *b) {
    ad_shape shape = AD_SHAPE(b->shape.dim[0], 1, 1);
    ad_view view = *b;
    (void)!ad_view_reshape(b, &shape, &view); /* axes of 1 never need a copy */
    return view;
}

/* view[result] (+)= what the form gives for the other two, and y a bias, if there is one. */
static ad_status compute(ad_call *call, ad_side result, const ad_view *const view[3], const ad_view *bias, bool add) {
    void *data[3], *of_bias = NULL;
    for (int i = 0; i < 3; i++) {
        if (ad_view_count(view[i]) > 0) continue;
        ad_view start = bias ? per_channel(bias) : ad_view_of(&(double){0}, view[result]->dtype, AD_SCALAR);
        start = ad_stretched(&start, &view[result]->shape);
        if (!add) ad_kernels_get()->copy(&start, view[result], 1, false);
        return AD_OK;
    }
    if (bias && !(of_bias = ad_row_major(call, bias))) return AD_ERR_OOM;
    for (int i = 0; i < 3; i++) {
        data[i] = ad_row_major(call, view[i]);
        if (!data[i]) return AD_ERR_OOM;
    }
    ad_convolution c = problem_of(call->attrs, view);
    const int threads = ad_kernel_convolution_threads(&c);
    int64_t bytes = ad_kernel_convolution_scratch(&c, result, threads);
    if (bytes < 0) return ad_fail(call, AD_ERR_LIMIT, "the columns of the image do not fit the address space");
    void *scratch = ad_scratch(call, (size_t)bytes);
    if (!scratch) return AD_ERR_OOM;
    ad_kernel_convolve(&c, result, data, of_bias, add, threads, scratch);
    return AD_OK;
}

static ad_status forward(ad_call *call, sides s, const ad_view *bias) {
    const ad_view *view[3];
    view[s[0]] = &call->out[0];
    view[s[1]] = call->in[0];
    view[s[2]] = call->in[1];
    return compute(call, s[0], view, bias, false);
}

/* The form is linear in each side: an input gets it with the cotangent in the place of the result. */
static ad_status backward(ad_call *call, ad_adjoint *adjoint, sides s) {
    ad_status status = AD_OK;
    for (int i = 0; i < 2 && !status; i++) {
        const ad_view *view[3];
        bool add;
        view[s[0]] = &adjoint->seed[0];
        view[s[2 - i]] = call->in[1 - i];
        view[s[1 + i]] = ad_into(adjoint, i, &add);
        if (view[s[1 + i]]) status = compute(call, s[1 + i], view, NULL, add);
    }
    return status;
}

/* The same in ops. `shape` is that of the result. */
static ad_var apply_side(ad_side result, const ad_var in[3], const conv_attrs *attrs, ad_shape shape) {
    conv_attrs sized = *attrs;
    for (int i = 0; i < 2; i++) sized.size[i] = shape.dim[2 + i];
    if (result == AD_SIDE_X)
        return ad_apply_2(AD_HERE, &ad_op_conv_transpose2d, in[AD_SIDE_Y], in[AD_SIDE_W], &sized);
    if (result == AD_SIDE_W) return ad_apply_2(AD_HERE, &ad_op_conv2d_kernel, in[AD_SIDE_X], in[AD_SIDE_Y], &sized);
    return ad_apply_2(AD_HERE, &ad_op_conv2d, in[AD_SIDE_X], in[AD_SIDE_W], &sized);
}

static void give(ad_vjp *v, sides s) {
    for (int i = 0; i < 2; i++) {
        if (!ad_vjp_wants(v, i)) continue;
        ad_var in[3];
        in[s[0]] = ad_vjp_seed(v, 0);
        in[s[2 - i]] = ad_vjp_input(v, 1 - i);
        ad_vjp_give(v, i, apply_side(s[1 + i], in, ad_vjp_attrs(v), ad_vjp_input_shape(v, i)));
    }
}

/* Forward mode likewise: the result is the sum of the forms with one side's tangent in its place. */
static void push(ad_jvp *j, sides s) {
    for (int i = 0; i < 2; i++) {
        if (!ad_jvp_moves(j, i)) continue;
        ad_var in[3];
        in[s[1 + i]] = ad_jvp_tangent(j, i);
        in[s[2 - i]] = ad_jvp_input(j, 1 - i);
        ad_jvp_give(j, 0, apply_side(s[0], in, ad_jvp_attrs(j), ad_value(ad_jvp_result(j, 0)).shape));
    }
}

/* ---- which elements depend on which ------------------------------------------------------------------------------ */

/* Cuts out what meets at one element of the kernel, along one axis of y and x. False: nothing does. */
static bool meet_along(const conv_attrs *a, int axis, int64_t at, ad_view *x, ad_view *y) {
    const int64_t stride = a->stride[axis],
                  offset = at * a->dilation[axis] - a->padding[axis]; /* x = stride y + offset */
    int64_t size = x->shape.dim[2 + axis], count = y->shape.dim[2 + axis];
    int64_t first = offset < 0 ? (-offset + stride - 1) / stride : 0;
    int64_t end = size > offset ? (size - offset + stride - 1) / stride : 0;
    if (end > count) end = count;
    if (first >= end) return false;
    int64_t from = stride * first + offset;
    return !ad_view_slice(y, 2 + axis, first, end, 1, y) &&
           !ad_view_slice(x, 2 + axis, from, stride * (end - 1) + offset + 1, stride, x);
}

/* Channels of one group, with that axis last or first. */
static ad_view group_of(const ad_view *view, int axis, int64_t groups, int64_t g, const ad_axes *order) {
    int64_t n = view->shape.dim[axis] / groups;
    ad_view group = *view;
    (void)(ad_view_slice(view, axis, g * n, (g + 1) * n, 1, &group) || ad_view_permute(&group, order, &group));
    return group;
}

/* x and y at the same place of the same image, for each element of the kernel. */
static void image_depends(ad_dependence *d, const conv_attrs *a, const int64_t kernel[2], const ad_view view[3],
                          bool x_is_result) {
    const ad_axes channels_last = AD_AXES(0, 2, 3, 1);
    for (int64_t k = 0; k < kernel[0] * kernel[1]; k++) {
        ad_view x = view[AD_SIDE_X], y = view[AD_SIDE_Y];
        if (!meet_along(a, 0, k / kernel[1], &x, &y) || !meet_along(a, 1, k % kernel[1], &x, &y)) continue;
        for (int64_t g = 0; g < a->groups; g++) {
            ad_view x_group = group_of(&x, 1, a->groups, g, &channels_last);
            ad_view y_group = group_of(&y, 1, a->groups, g, &channels_last);
            ad_depend(d, x_is_result ? &x_group : &y_group, x_is_result ? &y_group : &x_group, 3);
        }
    }
}

/* A filter, and the channel of y that it makes; or the kernel's channel, and that of x. */
static void kernel_depends(ad_dependence *d, const conv_attrs *a, const ad_view view[3], ad_side image,
                           bool w_is_result) {
    const ad_axes filters = AD_AXES(0, 1, 2, 3), channels = AD_AXES(1, 0, 2, 3);
    for (int64_t g = 0; g < a->groups; g++) {
        ad_view w = group_of(&view[AD_SIDE_W], 0, a->groups, g, image == AD_SIDE_Y ? &filters : &channels);
        ad_view other = group_of(&view[image], 1, a->groups, g, &channels);
        ad_depend(d, w_is_result ? &w : &other, w_is_result ? &other : &w, 1);
    }
}

static void depends(ad_dependence *d, sides s) {
    const ad_call *call = ad_dependence_call(d);
    const ad_view *whole[3] = {[0] = NULL};
    whole[s[0]] = &call->out[0];
    for (int i = 0; i < 2; i++) whole[s[1 + i]] = call->in[i];
    for (int i = 0; i < 2; i++) {
        ad_view view[3];
        ad_side in = s[1 + i];
        if (!ad_dependence_input(d, i, &view[in]) || !ad_dependence_result(d, 0, &view[s[0]])) continue;
        if (s[0] != AD_SIDE_W && in != AD_SIDE_W) {
            image_depends(d, call->attrs, whole[AD_SIDE_W]->shape.dim + 2, view, s[0] == AD_SIDE_X);
        } else {
            kernel_depends(d, call->attrs, view, s[0] == AD_SIDE_W ? in : s[0], s[0] == AD_SIDE_W);
        }
    }
}

static void conv2d_depends(ad_dependence *d) {
    ad_view b, y;
    depends(d, conv2d_sides);
    if (!ad_dependence_input(d, 2, &b) || !ad_dependence_result(d, 0, &y)) return;
    (void)!ad_view_permute(&y, &AD_AXES(1, 0, 2, 3), &y);
    ad_depend(d, &y, &b, 1);
}

static void transposed_depends(ad_dependence *d) { depends(d, transposed_sides); }
static void conv_kernel_depends(ad_dependence *d) { depends(d, kernel_sides); }

/* ---- attributes and samples -------------------------------------------------------------------------------------- */

#define CONV_ATTRS                                                                                                   \
    AD_ATTR("stride", PAIR, conv_attrs, stride, AD_USUALLY(1)),                                                      \
        AD_ATTR("padding", PAIR, conv_attrs, padding, AD_USUALLY(0)),                                                \
        AD_ATTR("dilation", PAIR, conv_attrs, dilation, AD_USUALLY(1)),                                              \
        AD_ATTR("groups", INT64, conv_attrs, groups, AD_USUALLY(1))
#define CONV_SIZE AD_ATTR("size", PAIR, conv_attrs, size, AD_REQUIRED)

static void show_conv(const void *attrs, char *text, size_t size) {
    const conv_attrs *a = attrs;
    const struct {
        const char *name;
        const int64_t *pair;
        int64_t usual;
    } pairs[] = {{"stride", a->stride, 1}, {"padding", a->padding, 0}, {"dilation", a->dilation, 1}};
    size_t length = 0;
    ad_text_add(text, size, &length, "groups %lld", (long long)a->groups);
    for (int i = 0; i < 3; i++)
        if (pairs[i].pair[0] != pairs[i].usual || pairs[i].pair[1] != pairs[i].usual)
            ad_text_add(text, size, &length, ", %s %lld,%lld", pairs[i].name, (long long)pairs[i].pair[0],
                        (long long)pairs[i].pair[1]);
}

/* Shapes by side, and the attributes but for the size; false past the end. */
static bool conv_case(int k, ad_shape shape[3], conv_attrs *attrs) {
    static const conv_attrs usual = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    const struct {
        ad_shape x, w;
        int64_t count[2];
        conv_attrs attrs;
    } cases[] = {
        {AD_SHAPE(2, 2, 4, 3), AD_SHAPE(3, 2, 3, 2), {2, 2}, usual},
        {AD_SHAPE(1, 4, 4, 5),
         AD_SHAPE(2, 2, 3, 3),
         {2, 3},
         {.stride = {2, 2}, .padding = {1, 1}, .dilation = {1, 1}, .groups = 2}},
        {AD_SHAPE(1, 2, 5, 4),
         AD_SHAPE(2, 1, 2, 2),
         {3, 3},
         {.stride = {2, 1}, .padding = {1, 0}, .dilation = {2, 1}, .groups = 2}},
        {AD_SHAPE(2, 3, 2, 3), AD_SHAPE(2, 3, 1, 1), {2, 3}, usual},
        {AD_SHAPE(0, 2, 3, 3), AD_SHAPE(1, 2, 2, 2), {2, 2}, usual},
        {AD_SHAPE(1, 0, 3, 3), AD_SHAPE(2, 0, 2, 2), {2, 2}, usual},
    };
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    shape[AD_SIDE_X] = cases[k].x;
    shape[AD_SIDE_W] = cases[k].w;
    shape[AD_SIDE_Y] = AD_SHAPE(shape[AD_SIDE_X].dim[0], shape[AD_SIDE_W].dim[0], cases[k].count[0],
                                cases[k].count[1]);
    *attrs = cases[k].attrs;
    return true;
}

static bool conv_sample(ad_sample *sample, int k, sides s) {
    ad_shape shape[3];
    conv_attrs *attrs = (conv_attrs *)(void *)sample->attrs.bytes;
    if (!conv_case(k, shape, attrs)) return false;
    for (int i = 0; i < 2; i++) attrs->size[i] = shape[s[0]].dim[2 + i];
    return ad_sample_normal(sample, shape[s[1]]) && ad_sample_normal(sample, shape[s[2]]);
}

/* ---- conv2d ------------------------------------------------------------------------------------------------------ */

static ad_status conv2d_forward(ad_call *call) {
    return forward(call, conv2d_sides, call->inputs == 3 ? call->in[2] : NULL);
}

static ad_status conv2d_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_status status = backward(call, adjoint, conv2d_sides);
    bool add;
    const ad_view *into = call->inputs == 3 && !status ? ad_into(adjoint, 2, &add) : NULL;
    if (into) {
        ad_view b_bar = per_channel(into);
        ad_kernels_get()->sum_to(&adjoint->seed[0], &b_bar, 1, add);
    }
    return status;
}

static void conv2d_vjp(ad_vjp *v) {
    give(v, conv2d_sides);
    if (ad_vjp_inputs(v) == 3 && ad_vjp_wants(v, 2))
        ad_vjp_give(v, 2, ad_sum(ad_vjp_seed(v, 0), AD_AXES(0, 2, 3), false));
}

static void conv2d_jvp(ad_jvp *j) {
    push(j, conv2d_sides);
    if (ad_jvp_inputs(j) < 3 || !ad_jvp_moves(j, 2)) return;
    const ad_shape y = ad_value(ad_jvp_result(j, 0)).shape;
    ad_var channels = ad_reshape(ad_jvp_tangent(j, 2), AD_SHAPE(y.dim[1], 1, 1));
    ad_jvp_give(j, 0, ad_broadcast_to(channels, y));
}

static bool conv2d_sample(ad_sample *sample, int k) {
    if (!conv_sample(sample, k, conv2d_sides)) return false;
    const ad_shape w = ad_tensor_view(sample->input[1])->shape;
    return k % 2 || ad_sample_normal(sample, AD_SHAPE(w.dim[0]));
}

const ad_op ad_op_conv2d = {
    .name = "conv2d",
    .inputs = -1,
    .attrs_size = sizeof(conv_attrs),
    .attrs = AD_ATTRS(CONV_ATTRS),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_INPUT(1),
    .shape = conv2d_shape,
    .forward = conv2d_forward,
    .vjp = conv2d_vjp,
    .jvp = conv2d_jvp,
    .backward = conv2d_backward,
    .depends = conv2d_depends,
    .formula = "$y = conv2d($0, $1, bias), $a",
    .adjoint = {"~0 += conv_transpose2d(~y, $1)", "~1 += conv2d_kernel($0, ~y)",
                "~2 += ~y, summed over images and places"},
    .show_attrs = show_conv,
    .sample = conv2d_sample,
};

/* ---- conv_transpose2d -------------------------------------------------------------------------------------------- */

static ad_status transposed_forward(ad_call *call) { return forward(call, transposed_sides, NULL); }
static ad_status transposed_backward(ad_call *call, ad_adjoint *adjoint) {
    return backward(call, adjoint, transposed_sides);
}
static void transposed_vjp(ad_vjp *v) { give(v, transposed_sides); }
static void transposed_jvp(ad_jvp *j) { push(j, transposed_sides); }
static bool transposed_sample(ad_sample *sample, int k) { return conv_sample(sample, k, transposed_sides); }

const ad_op ad_op_conv_transpose2d = {
    .name = "conv_transpose2d",
    .inputs = 2,
    .attrs_size = sizeof(conv_attrs),
    .attrs = AD_ATTRS(CONV_ATTRS, CONV_SIZE),
    .saves = AD_SAVES_INPUTS,
    .shape = transposed_shape,
    .forward = transposed_forward,
    .vjp = transposed_vjp,
    .jvp = transposed_jvp,
    .backward = transposed_backward,
    .depends = transposed_depends,
    .formula = "$y = conv_transpose2d($0, $1), $a",
    .adjoint = {"~0 += conv2d(~y, $1)", "~1 += conv2d_kernel(~y, $0)"},
    .show_attrs = show_conv,
    .sample = transposed_sample,
};

/* ---- conv2d_kernel ----------------------------------------------------------------------------------------------- */

static ad_status kernel_forward(ad_call *call) { return forward(call, kernel_sides, NULL); }
static ad_status kernel_backward(ad_call *call, ad_adjoint *adjoint) { return backward(call, adjoint, kernel_sides); }
static void kernel_vjp(ad_vjp *v) { give(v, kernel_sides); }
static void kernel_jvp(ad_jvp *j) { push(j, kernel_sides); }
static bool kernel_sample(ad_sample *sample, int k) { return conv_sample(sample, k, kernel_sides); }

const ad_op ad_op_conv2d_kernel = {
    .name = "conv2d_kernel",
    .inputs = 2,
    .attrs_size = sizeof(conv_attrs),
    .attrs = AD_ATTRS(CONV_ATTRS, CONV_SIZE),
    .saves = AD_SAVES_INPUTS,
    .shape = kernel_shape,
    .forward = kernel_forward,
    .vjp = kernel_vjp,
    .jvp = kernel_jvp,
    .backward = kernel_backward,
    .depends = conv_kernel_depends,
    .formula = "$y = the kernel's gradient of conv2d($0, $y) for $1, $a",
    .adjoint = {"~0 += conv_transpose2d($1, ~y)", "~1 += conv2d($0, ~y)"},
    .show_attrs = show_conv,
    .sample = kernel_sample,
};

/* ---- constructors ------------------------------------------------------------------------------------------------ */

static int64_t or_1(int64_t n) { return n ? n : 1; }

static conv_attrs attrs_of(const ad_conv_options *options) {
    static const ad_conv_options usual;
    const ad_conv_options *o = options ? options : &usual;
    conv_attrs attrs = {.groups = or_1(o->groups)};
    for (int i = 0; i < 2; i++) {
        attrs.stride[i] = or_1(o->stride[i]);
        attrs.padding[i] = o->padding[i];
        attrs.dilation[i] = or_1(o->dilation[i]);
    }
    return attrs;
}

ad_var ad_conv2d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options) {
    conv_attrs attrs = attrs_of(options);
    ad_tape *tape = x.tape ? x.tape : w.tape;
    return ad_apply_at(where, tape, &ad_op_conv2d, b.tape ? 3 : 2, (ad_var[]){x, w, b}, &attrs, NULL);
}

/* The length is the width of an image of height 1. */
ad_var ad_conv1d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options) {
    static const ad_conv_options usual;
    const ad_conv_options *o = options ? options : &usual;
    const ad_conv_options flat = {.stride = {1, o->stride[0]},
                                  .padding = {0, o->padding[0]},
                                  .dilation = {1, o->dilation[0]},
                                  .groups = o->groups};
    ad_var y = ad_conv2d_at(where, ad_unsqueeze_at(where, x, -2), ad_unsqueeze_at(where, w, -2), b, &flat);
    return ad_squeeze_at(where, y, AD_AXES(-2));
}

/* (n - 1) stride - 2 padding + (kernel - 1) dilation + 1 + output_padding */
static bool transposed_length(int64_t n, int64_t kernel, const conv_attrs *a, int i, int64_t output_padding,
                              int64_t *length) {
    int64_t steps, extent, margins;
    return !(__builtin_mul_overflow(n - 1, a->stride[i], &steps) ||
             __builtin_mul_overflow(kernel - 1, a->dilation[i], &extent) ||
             __builtin_mul_overflow(a->padding[i], 2, &margins) || __builtin_add_overflow(steps, extent, length) ||
             __builtin_sub_overflow(*length, margins, length) ||
             __builtin_add_overflow(*length, output_padding, length) || __builtin_add_overflow(*length, 1, length));
}

ad_var ad_conv_transpose2d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options) {
    if (!ad_check_var(x, "ad_conv_transpose2d", where) ||
        !ad_tape_check_var(x.tape, w, "ad_conv_transpose2d", where, "the kernel"))
        return ad_var_invalid(x.tape);
    conv_attrs attrs = attrs_of(options);
    const ad_shape from = ad_node_shape(ad_node_at(x.tape, x.index)),
                   kernel = ad_node_shape(ad_node_at(x.tape, w.index));
    for (int i = 0; i < 2 && from.rank == 4 && kernel.rank == 4; i++)
        if (!transposed_length(from.dim[2 + i], kernel.dim[2 + i], &attrs, i,
                               options ? options->output_padding[i] : 0, &attrs.size[i]))
            attrs.size[i] = 0; /* which the shape rule refuses */
    ad_var y = ad_apply_2(where, &ad_op_conv_transpose2d, x, w, &attrs);
    if (!b.tape) return y;
    return ad_add_at(where, y, ad_reshape_at(where, b, AD_SHAPE(-1, 1, 1)));
}
