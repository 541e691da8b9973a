/* Images [N,C,H,W] made smaller or larger: pooling, which takes the largest or the mean element of each window, and
 * rearrangements. Only max_pool2d is an op; the others are made of slices, windows and means. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/window.h"
#include "ops/ops.h"

typedef struct pool_attrs {
    int64_t kernel[2], stride[2], padding[2], dilation[2], ceil;
} pool_attrs;

static pool_attrs attrs_of(const ad_pool_options *options) {
    pool_attrs attrs = {.kernel = {0, 0}};
    for (int i = 0; options && i < 2; i++) {
        attrs.kernel[i] = options->kernel[i];
        attrs.stride[i] = options->stride[i] ? options->stride[i] : options->kernel[i];
        attrs.padding[i] = options->padding[i];
        attrs.dilation[i] = options->dilation[i] ? options->dilation[i] : 1;
        attrs.ceil = options->ceil;
    }
    return attrs;
}

/* Says in `text` what is wrong, if anything is. */
static bool is_unfit(const pool_attrs *a, char *text, size_t size) {
    size_t length = 0;
    for (int i = 0; i < 2; i++) {
        if (a->kernel[i] >= 1 && a->stride[i] >= 1 && a->dilation[i] >= 1 && a->padding[i] >= 0 &&
            a->padding[i] <= a->kernel[i] / 2)
            continue;
        ad_text_add(
            text, size, &length,
            "kernel %lld, stride %lld, dilation %lld, padding %lld: the first three must be above 0, the last one 0 "
            "to half of the kernel",
            (long long)a->kernel[i], (long long)a->stride[i], (long long)a->dilation[i], (long long)a->padding[i]);
        return true;
    }
    return false;
}

/* Along an axis that is long enough for a window, or if `ceil` for the beginning of one; 0 if it is not. Rounding up is as
 * if a stride less one element followed; but the padding behind the image begins no window. */
static int64_t count_of(const pool_attrs *a, int axis, int64_t size) {
    const int64_t stride = a->stride[axis], padding = a->padding[axis], more = a->ceil ? stride - 1 : 0;
    int64_t extent, padded;
    if (__builtin_mul_overflow(a->kernel[axis] - 1, a->dilation[axis], &extent) ||
        __builtin_mul_overflow(padding, 2, &padded) || __builtin_add_overflow(padded, size, &padded) ||
        __builtin_add_overflow(padded, more, &padded) || extent >= padded)
        return 0;
    const int64_t count = (padded - extent - 1) / stride + 1;
    return a->ceil && (count - 1) * stride >= size + padding ? count - 1 : count;
}

/* ---- max_pool2d -------------------------------------------------------------------------------------------------- */

static ad_windows windows_of(const ad_call *call) {
    const pool_attrs *a = call->attrs;
    ad_windows windows = {.size = {0, 0}};
    for (int i = 0; i < 2; i++) {
        windows.size[i] = call->in[0]->shape.dim[2 + i];
        windows.kernel[i] = a->kernel[i];
        windows.stride[i] = a->stride[i];
        windows.padding[i] = a->padding[i];
        windows.dilation[i] = a->dilation[i];
        windows.count[i] = count_of(a, i, windows.size[i]);
    }
    return windows;
}

/* There is one, and none that sees padding alone, which only dilation can make. */
static ad_status check_windows(ad_call *call, const ad_windows *windows, int axis) {
    if (windows->count[axis] < 1)
        return ad_fail(
            call, AD_ERR_SHAPE,
            "a kernel of %lld with dilation %lld does not fit into the %lld elements along axis %d, padding "
            "%lld",
            (long long)windows->kernel[axis], (long long)windows->dilation[axis], (long long)windows->size[axis],
            2 + axis, (long long)windows->padding[axis]);
    for (int64_t i = 0; windows->dilation[axis] > 1 && i < windows->count[axis]; i++)
        if (ad_window_is_blind(windows, axis, i))
            return ad_fail(call, AD_ERR_SHAPE, "window %lld along axis %d sees nothing but padding", (long long)i,
                           2 + axis);
    return AD_OK;
}

static ad_status max_pool2d_shape(ad_call *call) {
    char text[256];
    if (is_unfit(call->attrs, text, sizeof text)) return ad_fail(call, AD_ERR_VALUE, "%s", text);
    ad_status status = ad_need_float(call, 0);
    if (status) return status;
    const ad_shape *x = &call->in[0]->shape;
    if (x->rank != 4) return ad_fail(call, AD_ERR_SHAPE, "%s, but it takes images [N,C,H,W]", ad_describe(call, 0));
    if (x->dim[2] == 0 || x->dim[3] == 0)
        return ad_fail(call, AD_ERR_SHAPE, "%s: there is no largest element of nothing", ad_describe(call, 0));
    const ad_windows windows = windows_of(call);
    for (int i = 0; i < 2 && !status; i++) status = check_windows(call, &windows, i);
    const ad_shape y = AD_SHAPE(x->dim[0], x->dim[1], windows.count[0], windows.count[1]);
    ad_set_out(call, 0, call->in[0]->dtype, y);
    ad_set_out(call, 1, AD_I64, y);
    return status;
}

static ad_status max_pool2d_forward(ad_call *call) {
    const ad_view *x = call->in[0], *y = &call->out[0];
    if (ad_view_count(y) == 0) return AD_OK;
    const ad_windows windows = windows_of(call);
    const void *data = ad_row_major(call, x);
    if (!data) return AD_ERR_OOM;
    ad_kernels_get()->max_pool(&windows, x->dtype, x->shape.dim[0] * x->shape.dim[1], data, y->data,
                               call->out[1].data);
    return AD_OK;
}

/* [N,C,H,W] as planes of a row each, in which the indices count. */
static ad_shape flat(ad_shape shape) { return AD_SHAPE(shape.dim[0], shape.dim[1], shape.dim[2] * shape.dim[3]); }

static void max_pool2d_vjp(ad_vjp *v) {
    const ad_shape from = ad_vjp_input_shape(v, 0), to = flat(ad_vjp_result_shape(v, 0));
    ad_var zeros = ad_broadcast_to(ad_vjp_number(v, 0), flat(from)), g = ad_reshape(ad_vjp_seed(v, 0), to);
    ad_var x_bar = ad_scatter_add(zeros, 2, ad_reshape(ad_vjp_result(v, 1), to), g);
    ad_vjp_give(v, 0, ad_reshape(x_bar, from));
}

static void max_pool2d_jvp(ad_jvp *j) {
    ad_var t = ad_jvp_tangent(j, 0), index = ad_jvp_result(j, 1);
    const ad_shape to = ad_value(index).shape;
    ad_var picked = ad_gather(ad_reshape(t, flat(ad_value(t).shape)), 2, ad_reshape(index, flat(to)));
    ad_jvp_give(j, 0, ad_reshape(picked, to));
}

static ad_status max_pool2d_backward(ad_call *call, ad_adjoint *adjoint) {
    const ad_view *y = &call->out[0], *x = call->in[0];
    if (!adjoint->seed[0].data || ad_view_count(y) == 0) {
        (void)ad_into_cleared(adjoint, 0);
        return AD_OK;
    }
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    if (!into) return AD_OK;
    const ad_windows windows = windows_of(call);
    const void *g = ad_row_major(call, &adjoint->seed[0]), *index = ad_row_major(call, &call->out[1]);
    if (!g || !index) return AD_ERR_OOM;
    ad_kernels_get()->max_pool_back(&windows, x->dtype, x->shape.dim[0] * x->shape.dim[1], g, index, into->data, add);
    return AD_OK;
}

static void show_pool(const void *attrs, char *text, size_t size) {
    const pool_attrs *a = attrs;
    size_t length = 0;
    ad_text_add(text, size, &length, "kernel %lld,%lld, stride %lld,%lld, padding %lld,%lld", (long long)a->kernel[0],
                (long long)a->kernel[1], (long long)a->stride[0], (long long)a->stride[1], (long long)a->padding[0],
                (long long)a->padding[1]);
    if (a->dilation[0] != 1 || a->dilation[1] != 1)
        ad_text_add(text, size, &length, ", dilation %lld,%lld", (long long)a->dilation[0],
                    (long long)a->dilation[1]);
    if (a->ceil) ad_text_add(text, size, &length, ", ceil");
}

static bool max_pool2d_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(2, 2, 4, 4), AD_SHAPE(1, 2, 5, 4), AD_SHAPE(1, 1, 1, 1), AD_SHAPE(0, 2, 3, 3),
                               AD_SHAPE(1, 2, 6, 4)};
    static const pool_attrs attrs[] = {
        {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}},
        {.kernel = {3, 2}, .stride = {2, 1}, .padding = {1, 0}, .dilation = {1, 1}},
        {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}},
        {.kernel = {2, 2}, .stride = {1, 1}, .dilation = {1, 1}},
        {.kernel = {2, 2}, .stride = {2, 3}, .padding = {1, 0}, .dilation = {2, 1}, .ceil = true}};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *(pool_attrs *)(void *)sample->attrs.bytes = attrs[k];
    return ad_sample_normal(sample, shapes[k]);
}

const ad_op ad_op_max_pool2d = {
    .name = "max_pool2d",
    .inputs = 1,
    .results = 2,
    .attrs_size = sizeof(pool_attrs),
    .attrs = AD_ATTRS(AD_ATTR("kernel", PAIR, pool_attrs, kernel, AD_REQUIRED),
                      AD_ATTR("stride", PAIR, pool_attrs, stride, AD_REQUIRED),
                      AD_ATTR("padding", PAIR, pool_attrs, padding, AD_USUALLY(0)),
                      AD_ATTR("dilation", PAIR, pool_attrs, dilation, AD_USUALLY(1)),
                      AD_ATTR("ceil", INT64, pool_attrs, ceil, AD_USUALLY(0))),
    .saves = AD_SAVES_RESULT(1),
    .shape = max_pool2d_shape,
    .forward = max_pool2d_forward,
    .vjp = max_pool2d_vjp,
    .backward = max_pool2d_backward,
    .jvp = max_pool2d_jvp,
    .formula = "$y = max_pool2d($0), $a",
    .result_formula = {"$y1 = where in its plane"},
    .adjoint = {"~0[$y1] += ~y"},
    .convention = "of equal elements the first gets the gradient",
    .show_attrs = show_pool,
    .sample = max_pool2d_sample,
};

ad_var ad_max_pool2d_at(const char *where, ad_var x, const ad_pool_options *options, ad_var *index) {
    pool_attrs attrs = attrs_of(options);
    ad_var results[2] = {ad_var_invalid(x.tape), ad_var_invalid(x.tape)};
    ad_var y = ad_apply_at(where, x.tape, &ad_op_max_pool2d, 1, &x, &attrs, results);
    if (index) *index = results[1];
    return y;
}

/* ---- means ------------------------------------------------------------------------------------------------------- */

/* An image: its shape; else the error. */
static bool check_image(const char *where, const char *subject, ad_var x, ad_shape *shape) {
    if (!ad_check_var(x, subject, where)) return false;
    *shape = ad_node_shape(ad_node_at(x.tape, x.index));
    if (shape->rank == 4) return true;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(x.tape, x.index, true, text, sizeof text);
    ad_tape_fail(x.tape, AD_ERR_SHAPE, subject, where, "%s, but it takes images [N,C,H,W]", text);
    return false;
}

/* How many elements window i along an axis is the mean of. */
static int64_t elements_of(const pool_attrs *a, bool padding_is_excluded, int axis, int64_t size, int64_t i) {
    const int64_t begin = i * a->stride[axis] - a->padding[axis],
                  last = size + (padding_is_excluded ? 0 : a->padding[axis]);
    const int64_t end = begin + a->kernel[axis] < last ? begin + a->kernel[axis] : last;
    return end - (padding_is_excluded && begin < 0 ? 0 : begin);
}

/* The same along both axes, [windows, windows]. */
static ad_var elements_of_windows(const char *where, ad_var x, const pool_attrs *a, bool padding_is_excluded,
                                  const int64_t size[2], const int64_t count[2]) {
    const ad_dtype dtype = ad_value_at(where, x).dtype;
    ad_var elements = ad_tape_filled(x.tape, where, &ad_leaf_constant, dtype, &AD_SHAPE(count[0], count[1]), 0);
    ad_view view = ad_value_at(where, elements);
    for (int64_t k = 0; view.data && k < count[0] * count[1]; k++)
        ad_element_set((char *)view.data + (size_t)k * ad_dtype_size(dtype), dtype,
                       (double)elements_of(a, padding_is_excluded, 0, size[0], k / count[1]) *
                           (double)elements_of(a, padding_is_excluded, 1, size[1], k % count[1]));
    return elements;
}

/* The attributes fit the image x, and how many windows there are; false: the tape has the error. */
static bool check_means(const char *where, ad_var x, const pool_attrs *a, const int64_t size[2], int64_t count[2]) {
    char text[256];
    size_t length = 0;
    ad_status status = is_unfit(a, text, sizeof text) ? AD_ERR_VALUE : AD_OK;
    for (int i = 0; i < 2 && !status; i++) {
        count[i] = count_of(a, i, size[i]);
        if (count[i] > 0) continue;
        status = AD_ERR_SHAPE;
        ad_text_add(text, sizeof text, &length, "a kernel of %lld does not fit into the %lld elements along axis %d",
                    (long long)a->kernel[i], (long long)size[i], 2 + i);
    }
    if (status) ad_tape_fail(x.tape, status, "ad_avg_pool2d", where, "%s", text);
    return !status;
}

ad_var ad_avg_pool2d_at(const char *where, ad_var x, const ad_pool_options *options) {
    pool_attrs a = attrs_of(options);
    ad_shape shape, before = AD_SHAPE(0, 0, a.padding[0], a.padding[1]), after = before;
    int64_t count[2];
    a.dilation[0] = a.dilation[1] = 1;
    if (!check_image(where, "ad_avg_pool2d", x, &shape)) return ad_var_invalid(x.tape);
    const int64_t *size = shape.dim + 2;
    if (!check_means(where, x, &a, size, count)) return ad_var_invalid(x.tape);
    bool equal = true, padded = false;
    for (int i = 0; i < 2; i++) {
        const int64_t missing = (count[i] - 1) * a.stride[i] + a.kernel[i] - (size[i] + 2 * a.padding[i]);
        if (missing > 0) after.dim[2 + i] += missing;
        equal &= missing <= 0 && (a.padding[i] == 0 || !options->padding_is_excluded);
        padded |= before.dim[2 + i] > 0 || after.dim[2 + i] > 0;
    }
    if (padded) x = ad_pad_at(where, x, before, after, AD_PAD_CONSTANT, 0);
    for (int i = 0; i < 2; i++) x = ad_unfold_at(where, x, 2 + i, a.kernel[i], a.stride[i]);
    if (equal) return ad_mean_at(where, x, AD_AXES(4, 5), false);
    ad_var elements = elements_of_windows(where, x, &a, options->padding_is_excluded, size, count);
    return ad_div_at(where, ad_sum_at(where, x, AD_AXES(4, 5), false), elements);
}

/* Means of n parts along an axis: part i reaches from i length / n, rounded down, to (i + 1) length / n, rounded up. */
static ad_var means_of_parts(const char *where, ad_var x, int axis, int64_t length, int64_t n) {
    if (length % n == 0) {
        ad_var parts = ad_unfold_at(where, x, axis, length / n, length / n);
        return ad_mean_at(where, parts, AD_AXES(-1), false);
    }
    enum { MOST = 32 };
    ad_var mean[MOST] = {x};
    int count = 0;
    for (int64_t i = 0; i < n && ad_var_is_valid(x); i++) {
        const int64_t first = i * length / n, end = ((i + 1) * length + n - 1) / n;
        mean[count++] = ad_mean_at(where, ad_slice_at(where, x, axis, first, end, 1), AD_AXES(axis), AD_KEEPDIM);
        if (count < MOST && i < n - 1) continue;
        mean[0] = ad_cat_at(where, count, mean, axis);
        count = 1;
    }
    return mean[0];
}

ad_var ad_adaptive_avg_pool2d_at(const char *where, ad_var x, int64_t height, int64_t width) {
    ad_shape shape;
    if (!check_image(where, "ad_adaptive_avg_pool2d", x, &shape)) return ad_var_invalid(x.tape);
    const int64_t n[] = {height, width};
    for (int i = 0; i < 2; i++) {
        int64_t product;
        if (n[i] < 1 || shape.dim[2 + i] < 1 || __builtin_mul_overflow(n[i] + 1, shape.dim[2 + i] + 1, &product)) {
            ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_adaptive_avg_pool2d", where,
                         "%lld parts along axis %d of %lld elements: there must be one or more of both",
                         (long long)n[i], 2 + i, (long long)shape.dim[2 + i]);
            return ad_var_invalid(x.tape);
        }
        x = means_of_parts(where, x, 2 + i, shape.dim[2 + i], n[i]);
    }
    return x;
}

/* ---- larger images ----------------------------------------------------------------------------------------------- */

ad_var ad_upsample_nearest_at(const char *where, ad_var x, int64_t scale) {
    ad_shape shape;
    if (!check_image(where, "ad_upsample_nearest", x, &shape)) return ad_var_invalid(x.tape);
    return ad_repeat_interleave_at(where, ad_repeat_interleave_at(where, x, scale, 2), scale, 3);
}

/* Element i of n lies at a place among m; the matrix that takes the mean of its two neighbours there, [n, m]. */
static ad_var between(const char *where, ad_var x, int64_t n, int64_t m, bool corners) {
    const ad_dtype dtype = ad_value_at(where, x).dtype;
    ad_var weights = ad_tape_filled(x.tape, where, &ad_leaf_constant, dtype, &AD_SHAPE(n, m), 0);
    ad_view view = ad_value_at(where, weights);
    for (int64_t i = 0; view.data && i < n; i++) {
        double at = corners ? (n > 1 ? (double)i * (double)(m - 1) / (double)(n - 1) : 0)
                            : ((double)i + 0.5) * (double)m / (double)n - 0.5;
        at = at < 0 ? 0 : at;
        const int64_t first = (int64_t)at < m - 1 ? (int64_t)at : m - 1;
        const double share = first < m - 1 ? at - (double)first : 0;
        char *row = (char *)view.data + (size_t)(i * m + first) * ad_dtype_size(dtype);
        ad_element_set(row, dtype, 1 - share);
        if (share > 0) ad_element_set(row + ad_dtype_size(dtype), dtype, share);
    }
    return weights;
}

ad_var ad_upsample_bilinear_at(const char *where, ad_var x, int64_t height, int64_t width, bool corners) {
    ad_shape shape;
    if (!check_image(where, "ad_upsample_bilinear", x, &shape)) return ad_var_invalid(x.tape);
    if (height < 1 || width < 1 || shape.dim[2] < 1 || shape.dim[3] < 1) {
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_upsample_bilinear", where,
                     "from %lld x %lld to %lld x %lld elements: there must be one or more of each",
                     (long long)shape.dim[2], (long long)shape.dim[3], (long long)height, (long long)width);
        return ad_var_invalid(x.tape);
    }
    ad_var rows = ad_matmul_at(where, between(where, x, height, shape.dim[2], corners), x);
    return ad_matmul_at(where, rows, ad_transpose_at(where, between(where, x, width, shape.dim[3], corners)));
}

ad_var ad_pixel_shuffle_at(const char *where, ad_var x, int64_t scale) {
    ad_shape shape;
    if (!check_image(where, "ad_pixel_shuffle", x, &shape)) return ad_var_invalid(x.tape);
    int64_t *n = shape.dim;
    if (scale < 1 || n[1] % scale != 0 || n[1] / scale % scale != 0) {
        ad_tape_fail(x.tape, AD_ERR_VALUE, "ad_pixel_shuffle", where,
                     "scale %lld: its square must divide the %lld channels", (long long)scale, (long long)n[1]);
        return ad_var_invalid(x.tape);
    }
    const int64_t channels = n[1] / scale / scale;
    ad_var split = ad_reshape_at(where, x, AD_SHAPE(n[0], channels, scale, scale, n[2], n[3]));
    ad_var spread = ad_permute_at(where, split, AD_AXES(0, 1, 4, 2, 5, 3));
    return ad_reshape_at(where, spread, AD_SHAPE(n[0], channels, n[2] * scale, n[3] * scale));
}
