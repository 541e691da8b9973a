/* adtape/ops.h: the op list. One entry per op: what it computes, and its constructor.
 *
 * All broadcast as NumPy does unless said otherwise. Float dtypes are never mixed or promoted. Each sets the tape's
 * error and returns an invalid variable if its inputs do not fit. */
#ifndef ADTAPE_OPS_H
#define ADTAPE_OPS_H

#include <adtape/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- elementwise ---------------------------------------------------------------------------------------- */

#define ad_add(...) ad_add_at(AD_HERE, __VA_ARGS__) /* a + b */
AD_API ad_var ad_add_at(const char *where, ad_var a, ad_var b);
#define ad_sub(...) ad_sub_at(AD_HERE, __VA_ARGS__) /* a - b */
AD_API ad_var ad_sub_at(const char *where, ad_var a, ad_var b);
#define ad_mul(...) ad_mul_at(AD_HERE, __VA_ARGS__) /* a b, elementwise */
AD_API ad_var ad_mul_at(const char *where, ad_var a, ad_var b);
#define ad_div(...) ad_div_at(AD_HERE, __VA_ARGS__) /* a / b */
AD_API ad_var ad_div_at(const char *where, ad_var a, ad_var b);
/* a b and a / b, but 0 where a is 0, whatever b is: for VJPs, so that a cotangent of 0 stays 0 where the derivative is
 * infinite. */
#define ad_masked_mul(...) ad_masked_mul_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_masked_mul_at(const char *where, ad_var a, ad_var b);
#define ad_masked_div(...) ad_masked_div_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_masked_div_at(const char *where, ad_var a, ad_var b);
#define ad_greater(...) ad_greater_at(AD_HERE, __VA_ARGS__) /* a > b as 1 or 0 in i32; carries no gradient */
AD_API ad_var ad_greater_at(const char *where, ad_var a, ad_var b);
#define ad_where(...) ad_where_at(AD_HERE, __VA_ARGS__) /* condition ? a : b; any dtype, not 0 is true */
AD_API ad_var ad_where_at(const char *where, ad_var condition, ad_var a, ad_var b);

#define ad_neg(...) ad_neg_at(AD_HERE, __VA_ARGS__) /* -x */
AD_API ad_var ad_neg_at(const char *where, ad_var x);
#define ad_scale(...) ad_scale_at(AD_HERE, __VA_ARGS__) /* c x for a constant c */
AD_API ad_var ad_scale_at(const char *where, ad_var x, double c);
#define ad_exp(...) ad_exp_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_exp_at(const char *where, ad_var x);
#define ad_log(...) ad_log_at(AD_HERE, __VA_ARGS__) /* natural logarithm */
AD_API ad_var ad_log_at(const char *where, ad_var x);
#define ad_tanh(...) ad_tanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tanh_at(const char *where, ad_var x);
#define ad_sigmoid(...) ad_sigmoid_at(AD_HERE, __VA_ARGS__) /* 1 / (1 + exp(-x)) */
AD_API ad_var ad_sigmoid_at(const char *where, ad_var x);
#define ad_relu(...) ad_relu_at(AD_HERE, __VA_ARGS__) /* max(x, 0); the derivative at 0 is 0 */
AD_API ad_var ad_relu_at(const char *where, ad_var x);

#define ad_detach(...) ad_detach_at(AD_HERE, __VA_ARGS__) /* x, through which no gradient flows */
AD_API ad_var ad_detach_at(const char *where, ad_var x);

/* ---- shape: views where the strides allow, copies otherwise ------------------------------------------------ */

#define ad_reshape(...) ad_reshape_at(AD_HERE, __VA_ARGS__) /* one dimension may be -1: it is worked out */
AD_API ad_var ad_reshape_at(const char *where, ad_var x, ad_shape shape);
#define ad_permute(...) ad_permute_at(AD_HERE, __VA_ARGS__) /* axis i of the result is axis axes[i] of x */
AD_API ad_var ad_permute_at(const char *where, ad_var x, ad_axes axes);
#define ad_transpose(...) ad_transpose_at(AD_HERE, __VA_ARGS__) /* swaps the last two axes */
AD_API ad_var ad_transpose_at(const char *where, ad_var x);
#define ad_broadcast_to(...) ad_broadcast_to_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_broadcast_to_at(const char *where, ad_var x, ad_shape shape);

/* ---- reductions ----------------------------------------------------------------------------------------- */

#define AD_KEEPDIM true
#define ad_sum(...)  ad_sum_at(AD_HERE, __VA_ARGS__) /* over the axes (AD_ALL_AXES: all); of nothing: 0 */
AD_API ad_var ad_sum_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_mean(...) ad_mean_at(AD_HERE, __VA_ARGS__) /* of nothing: NaN */
AD_API ad_var ad_mean_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_prod(...) ad_prod_at(AD_HERE, __VA_ARGS__) /* of nothing: 1; the gradient is right with zeros */
AD_API ad_var ad_prod_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
/* Mean squared deviation from the mean, divided by n - correction (0 or 1, usually) instead of n; NaN if that is not
 * above 0. In two passes. The gradient of std where all elements are equal is 0. */
#define ad_variance(...) ad_variance_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_variance_at(const char *where, ad_var x, ad_axes axes, bool keepdim, double correction);
#define ad_std(...) ad_std_at(AD_HERE, __VA_ARGS__) /* its square root */
AD_API ad_var ad_std_at(const char *where, ad_var x, ad_axes axes, bool keepdim, double correction);
/* How many elements, of any dtype, are not 0 (i64); whether any is, or all are (1 or 0 in i32). No gradient. */
#define ad_count_nonzero(...) ad_count_nonzero_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_count_nonzero_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_any(...) ad_any_at(AD_HERE, __VA_ARGS__) /* of nothing: 0 */
AD_API ad_var ad_any_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_all(...) ad_all_at(AD_HERE, __VA_ARGS__) /* of nothing: 1 */
AD_API ad_var ad_all_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
/* Sums x down to a shape that broadcasts to x's: the transpose of ad_broadcast_to. */
#define ad_sum_to(...) ad_sum_to_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_sum_to_at(const char *where, ad_var x, ad_shape shape);

/* The largest or smallest element along `axis`: the first of equal ones, or the first NaN. Its index (i64) goes to
 * *index, unless that is NULL; the gradient goes to that element. There is none of nothing. */
#define ad_max(...) ad_max_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_max_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index);
#define ad_min(...) ad_min_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_min_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index);
#define ad_argmax(...) ad_argmax_at(AD_HERE, __VA_ARGS__) /* the index alone */
AD_API ad_var ad_argmax_at(const char *where, ad_var x, int axis, bool keepdim);
#define ad_argmin(...) ad_argmin_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_argmin_at(const char *where, ad_var x, int axis, bool keepdim);
/* The element in the middle along `axis`, the lower of two; their mean is ad_quantile(x, 0.5, axis, keepdim). The rest is
 * as for ad_max. */
#define ad_median(...) ad_median_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_median_at(const char *where, ad_var x, int axis, bool keepdim, ad_var *index);
/* The value below which the fraction q of the elements lies, linear between two neighbours; NaN if one of them is. */
#define ad_quantile(...) ad_quantile_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_quantile_at(const char *where, ad_var x, double q, int axis, bool keepdim);

/* ---- scans: up to each element along `axis`, or, in reverse, from each element on -------------------------- */

#define AD_REVERSE true
#define ad_cumsum(...) ad_cumsum_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cumsum_at(const char *where, ad_var x, int axis, bool reverse);
#define ad_cumprod(...) ad_cumprod_at(AD_HERE, __VA_ARGS__) /* the gradient is right with zeros */
AD_API ad_var ad_cumprod_at(const char *where, ad_var x, int axis, bool reverse);
#define ad_logcumsumexp(...) ad_logcumsumexp_at(AD_HERE, __VA_ARGS__) /* log(cumsum(exp(x))) without overflow */
AD_API ad_var ad_logcumsumexp_at(const char *where, ad_var x, int axis, bool reverse);
/* The largest or smallest element so far; *index as for ad_max. */
#define ad_cummax(...) ad_cummax_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cummax_at(const char *where, ad_var x, int axis, bool reverse, ad_var *index);
#define ad_cummin(...) ad_cummin_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cummin_at(const char *where, ad_var x, int axis, bool reverse, ad_var *index);
/* y[0] = start, y[i+1] = a[i] y[i] + b[i], of the length of a and b: the derivatives of scans are made of it. */
#define ad_recurrence(...) ad_recurrence_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_recurrence_at(const char *where, ad_var a, ad_var b, int axis, bool reverse, double start);

/* ---- linear algebra ------------------------------------------------------------------------------------- */

/* np.matmul: [m,k] x [k,n]; 1-d operands are a row on the left and a column on the right, and that axis is dropped
 * from the result; leading dimensions broadcast. */
#define ad_matmul(...) ad_matmul_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_matmul_at(const char *where, ad_var a, ad_var b);

/* x W^T + b, a dense layer: x[..., inputs], W[outputs, inputs], b[outputs]. */
#define ad_linear(...) ad_linear_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_linear_at(const char *where, ad_var x, ad_var w, ad_var b);
/* Of vectors [..., n] each: the sum of their products; of [..., m] and [..., n]: all their products [..., m, n]. Leading
 * dimensions broadcast. Compositions of the above. */
#define ad_dot(...)   ad_dot_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_dot_at(const char *where, ad_var a, ad_var b);
#define ad_outer(...) ad_outer_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_outer_at(const char *where, ad_var a, ad_var b);

/* What follows takes matrices [..., n, n] and works on each of a stack. A matrix that has no inverse, or is not positive
 * definite, is AD_ERR_VALUE; the message names it and the pivot. */

/* How a triangular matrix is used. Only that triangle of it is read. */
enum {
    AD_LOWER = 0,
    AD_UPPER = 1,
    AD_TRANSPOSED = 2,   /* its transpose is meant */
    AD_UNIT_DIAGONAL = 4 /* its diagonal is not read: all 1 */
};
/* The lower (or AD_UPPER) triangle of x, zeros elsewhere; its diagonal is multiplied by `diagonal`: 1, or 0 for none. */
#define ad_triangle(...) ad_triangle_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_triangle_at(const char *where, ad_var x, unsigned flags, double diagonal);
/* A^-1 B for a triangular A[..., n, n]; B is [..., n, m], or [n]: one column. Stacks broadcast. */
#define ad_triangular_solve(...) ad_triangular_solve_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_triangular_solve_at(const char *where, ad_var a, ad_var b, unsigned flags);
/* The lower L with L L^T = (A + A^T) / 2: a matrix that is not symmetric counts as its symmetric part. */
#define ad_cholesky(...) ad_cholesky_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cholesky_at(const char *where, ad_var a);
/* (L L^T)^-1 B for the factor L that ad_cholesky gave: two triangular solves. */
#define ad_cholesky_solve(...) ad_cholesky_solve_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cholesky_solve_at(const char *where, ad_var l, ad_var b);
/* A^-1 B, through LU with partial pivoting; B as for ad_triangular_solve. */
#define ad_solve(...) ad_solve_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_solve_at(const char *where, ad_var a, ad_var b);
#define ad_inverse(...) ad_inverse_at(AD_HERE, __VA_ARGS__) /* A^-1; ad_solve is faster and more exact */
AD_API ad_var ad_inverse_at(const char *where, ad_var a);
/* log |det A|, and in *sign (unless NULL) its sign; of a singular matrix -inf and 0. */
#define ad_slogdet(...) ad_slogdet_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_slogdet_at(const char *where, ad_var a, ad_var *sign);
#define ad_logdet(...) ad_logdet_at(AD_HERE, __VA_ARGS__) /* log det A; a negative determinant is AD_ERR_VALUE */
AD_API ad_var ad_logdet_at(const char *where, ad_var a);

/* ---- indexing ------------------------------------------------------------------------------------------- */

/* y[.., j, ..] = x[.., index[.., j, ..], ..] along `axis` (torch.gather, np.take_along_axis). `index` is i32 or i64,
 * of x's rank, and not larger than x off the axis. */
#define ad_gather(...) ad_gather_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_gather_at(const char *where, ad_var x, int axis, ad_var index);
/* x with source added at the places that ad_gather would read; duplicates add up in row-major order. */
#define ad_scatter_add(...) ad_scatter_add_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_scatter_add_at(const char *where, ad_var x, int axis, ad_var index, ad_var source);
/* x[..., C] and class indices [...] give y[...] = x[..., index[...]]. */
#define ad_pick(...) ad_pick_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_pick_at(const char *where, ad_var x, ad_var index);

/* ---- softmax and its loss --------------------------------------------------------------------------------- */

#define ad_softmax(...) ad_softmax_at(AD_HERE, __VA_ARGS__) /* along `axis`; a row of all -inf gives zeros */
AD_API ad_var ad_softmax_at(const char *where, ad_var x, int axis);
#define ad_log_softmax(...) ad_log_softmax_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_log_softmax_at(const char *where, ad_var x, int axis);

/* The cross-entropy of softmax(x) over the last axis, per example: x[..., C] with class indices [...] or
 * probabilities [..., C] as the target gives [...]. Never broadcasts. Stable: computed through log-sum-exp. */
#define ad_softmax_xent(...) ad_softmax_xent_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_softmax_xent_at(const char *where, ad_var x, ad_var target);

/* new-op: constructors go above this line */

/* Every op by name; the registry is filled from this list. */
#define AD_OP_LIST(X)                                                                                            \
    X(add) X(sub) X(mul) X(div) X(masked_mul) X(masked_div) X(greater) X(where)                                  \
    X(neg) X(scale) X(exp) X(log) X(tanh) X(sigmoid) X(relu) X(detach)                                           \
    X(reshape) X(permute) X(broadcast_to) X(sum) X(mean) X(sum_to) X(matmul)                                     \
    X(linear) X(triangle) X(triangular_solve) X(cholesky) X(solve) X(inverse) X(slogdet) X(logdet)               \
    X(gather) X(scatter_add) X(softmax) X(log_softmax) X(softmax_xent) X(softmax_xent_soft)                      \
    X(prod) X(variance) X(std) X(count_nonzero) X(any) X(all)                                                    \
    X(max) X(min) X(argmax) X(argmin) X(median) X(quantile)                                                      \
    X(cumsum) X(cumprod) X(logcumsumexp) X(cummax) X(cummin) X(recurrence)                                       \
    /* new-op: rows go above this line */

#ifdef __cplusplus
}
#endif
#endif
