/* trace: the sum of the diagonal of each matrix of a stack. */
#include "ops/ops.h"

static ad_status trace_shape(ad_call *call) {
    const ad_shape *x = &call->in[0]->shape;
    if (x->rank < 2) return ad_fail(call, AD_ERR_SHAPE, "%s, which is no matrix", ad_describe(call, 0));
    ad_set_out(call, 0, call->in[0]->dtype, *x);
    call->out[0].shape.rank -= 2;
    return ad_need_float(call, 0);
}

/* The diagonals of a stack of matrices, as the last axis. */
static ad_view diagonal_of(const ad_view *x) {
    ad_view diagonal = *x;
    int row = x->shape.rank - 2, column = row + 1;
    if (x->shape.dim[column] < x->shape.dim[row]) diagonal.shape.dim[row] = x->shape.dim[column];
    diagonal.stride[row] += x->stride[column];
    diagonal.shape.rank--;
    return diagonal;
}

/* One number for each matrix, with a last axis of 1. */
static ad_view as_column(const ad_view *numbers) {
    ad_view column = *numbers;
    column.shape.dim[column.shape.rank] = 1;
    column.stride[column.shape.rank++] = 0;
    return column;
}

static ad_status trace_forward(ad_call *call) {
    ad_view diagonal = diagonal_of(call->in[0]), y = as_column(&call->out[0]);
    ad_kernels_get()->sum_to(&diagonal, &y, 1, false);
    return AD_OK;
}

static void trace_vjp(ad_vjp *v) {
    ad_shape shape = ad_vjp_input_shape(v, 0), ones = shape;
    ones.dim[shape.rank - 1] = ones.dim[shape.rank - 2] = 1;
    ad_var g = ad_broadcast_to(ad_reshape(ad_vjp_seed(v, 0), ones), shape);
    ad_vjp_give(v, 0, ad_triangle(ad_triangle(g, AD_LOWER, 1), AD_UPPER, 1));
}

static ad_status trace_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    (void)call;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (!x_bar) return AD_OK;
    if (!add) ad_kernels_get()->fill(x_bar, 0);
    ad_view diagonal = diagonal_of(x_bar), seed = as_column(&adjoint->seed[0]);
    ad_view g = ad_stretched(&seed, &diagonal.shape);
    ad_kernels_get()->copy(&g, &diagonal, 1, true);
    return AD_OK;
}

static bool trace_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3), AD_SHAPE(3, 4), AD_SHAPE(2, 4, 3),
                               AD_SHAPE(1, 1), AD_SHAPE(0, 3), AD_SHAPE(0, 2, 2)};
    return k < (int)(sizeof shapes / sizeof *shapes) && ad_sample_normal(sample, shapes[k]);
}

const ad_op ad_op_trace = {
    .name = "trace",
    .inputs = 1,
    .saves = AD_SAVES_NOTHING,
    .shape = trace_shape,
    .forward = trace_forward,
    .vjp = trace_vjp,
    .backward = trace_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = trace($0)",
    .adjoint = {"~0 += ~y on the diagonal"},
    .sample = trace_sample,
};

ad_var ad_trace_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_trace, x, NULL); }
