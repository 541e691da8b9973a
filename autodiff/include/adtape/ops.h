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

/* ---- arithmetic ----------------------------------------------------------------------------------------- */

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
#define ad_neg(...) ad_neg_at(AD_HERE, __VA_ARGS__) /* -x */
AD_API ad_var ad_neg_at(const char *where, ad_var x);
#define ad_scale(...) ad_scale_at(AD_HERE, __VA_ARGS__) /* c x for a constant c */
AD_API ad_var ad_scale_at(const char *where, ad_var x, double c);
#define ad_abs(...) ad_abs_at(AD_HERE, __VA_ARGS__) /* |x|; the derivative at 0 is 0 */
AD_API ad_var ad_abs_at(const char *where, ad_var x);
#define ad_sign(...) ad_sign_at(AD_HERE, __VA_ARGS__) /* -1, 0 or 1; no gradient */
AD_API ad_var ad_sign_at(const char *where, ad_var x);
#define ad_square(...) ad_square_at(AD_HERE, __VA_ARGS__) /* x^2 */
AD_API ad_var ad_square_at(const char *where, ad_var x);
#define ad_reciprocal(...) ad_reciprocal_at(AD_HERE, __VA_ARGS__) /* 1 / x */
AD_API ad_var ad_reciprocal_at(const char *where, ad_var x);
#define ad_sqrt(...) ad_sqrt_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_sqrt_at(const char *where, ad_var x);
#define ad_rsqrt(...) ad_rsqrt_at(AD_HERE, __VA_ARGS__) /* 1 / sqrt(x) */
AD_API ad_var ad_rsqrt_at(const char *where, ad_var x);
#define ad_cbrt(...) ad_cbrt_at(AD_HERE, __VA_ARGS__) /* the cube root */
AD_API ad_var ad_cbrt_at(const char *where, ad_var x);
#define ad_pow(...) ad_pow_at(AD_HERE, __VA_ARGS__) /* a^b; 0^0 is 1 */
AD_API ad_var ad_pow_at(const char *where, ad_var a, ad_var b);
#define ad_power(...) ad_power_at(AD_HERE, __VA_ARGS__) /* x^c for a constant c */
AD_API ad_var ad_power_at(const char *where, ad_var x, double c);
/* sqrt(a^2 + b^2) without overflow; the derivative at (0, 0) is 0 */
#define ad_hypot(...) ad_hypot_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_hypot_at(const char *where, ad_var a, ad_var b);
#define ad_fmod(...) ad_fmod_at(AD_HERE, __VA_ARGS__) /* a - trunc(a / b) b, of the sign of a */
AD_API ad_var ad_fmod_at(const char *where, ad_var a, ad_var b);
#define ad_remainder(...) ad_remainder_at(AD_HERE, __VA_ARGS__) /* a - floor(a / b) b, of the sign of b */
AD_API ad_var ad_remainder_at(const char *where, ad_var a, ad_var b);
#define ad_copysign(...) ad_copysign_at(AD_HERE, __VA_ARGS__) /* |a| with the sign of b */
AD_API ad_var ad_copysign_at(const char *where, ad_var a, ad_var b);
#define ad_maximum(...) ad_maximum_at(AD_HERE, __VA_ARGS__) /* NaN if either is; a tie shares the gradient */
AD_API ad_var ad_maximum_at(const char *where, ad_var a, ad_var b);
#define ad_minimum(...) ad_minimum_at(AD_HERE, __VA_ARGS__) /* the same for the smaller one */
AD_API ad_var ad_minimum_at(const char *where, ad_var a, ad_var b);
/* x kept in [low, high]; the derivative at a bound is 1 */
#define ad_clamp(...) ad_clamp_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_clamp_at(const char *where, ad_var x, double low, double high);
/* Compositions: a + w (b - a); x + c a b; x + c a / b; */
#define ad_lerp(...) ad_lerp_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_lerp_at(const char *where, ad_var a, ad_var b, ad_var w);
#define ad_addcmul(...) ad_addcmul_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_addcmul_at(const char *where, ad_var x, ad_var a, ad_var b, double c);
#define ad_addcdiv(...) ad_addcdiv_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_addcdiv_at(const char *where, ad_var x, ad_var a, ad_var b, double c);
/* x kept between bounds that are variables: min(max(x, low), high); where x is at a bound they share the gradient. */
#define ad_clamp_between(...) ad_clamp_between_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_clamp_between_at(const char *where, ad_var x, ad_var low, ad_var high);

/* ---- functions ------------------------------------------------------------------------------------------ */

#define ad_exp(...) ad_exp_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_exp_at(const char *where, ad_var x);
#define ad_exp2(...) ad_exp2_at(AD_HERE, __VA_ARGS__) /* 2^x */
AD_API ad_var ad_exp2_at(const char *where, ad_var x);
#define ad_expm1(...) ad_expm1_at(AD_HERE, __VA_ARGS__) /* exp(x) - 1, exact for small x */
AD_API ad_var ad_expm1_at(const char *where, ad_var x);
#define ad_log(...) ad_log_at(AD_HERE, __VA_ARGS__) /* natural logarithm */
AD_API ad_var ad_log_at(const char *where, ad_var x);
#define ad_log2(...) ad_log2_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_log2_at(const char *where, ad_var x);
#define ad_log10(...) ad_log10_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_log10_at(const char *where, ad_var x);
#define ad_log1p(...) ad_log1p_at(AD_HERE, __VA_ARGS__) /* log(1 + x), exact for small x */
AD_API ad_var ad_log1p_at(const char *where, ad_var x);
#define ad_logit(...) ad_logit_at(AD_HERE, __VA_ARGS__) /* log(x / (1 - x)) */
AD_API ad_var ad_logit_at(const char *where, ad_var x);
#define ad_logaddexp(...) ad_logaddexp_at(AD_HERE, __VA_ARGS__) /* log(exp(a) + exp(b)) without overflow */
AD_API ad_var ad_logaddexp_at(const char *where, ad_var a, ad_var b);
#define ad_xlogy(...) ad_xlogy_at(AD_HERE, __VA_ARGS__) /* a log(b), 0 where a is 0 */
AD_API ad_var ad_xlogy_at(const char *where, ad_var a, ad_var b);
#define ad_sin(...) ad_sin_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_sin_at(const char *where, ad_var x);
#define ad_cos(...) ad_cos_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cos_at(const char *where, ad_var x);
#define ad_tan(...) ad_tan_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tan_at(const char *where, ad_var x);
#define ad_asin(...) ad_asin_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_asin_at(const char *where, ad_var x);
#define ad_acos(...) ad_acos_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_acos_at(const char *where, ad_var x);
#define ad_atan(...) ad_atan_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_atan_at(const char *where, ad_var x);
#define ad_atan2(...) ad_atan2_at(AD_HERE, __VA_ARGS__) /* the angle of the point (b, a) */
AD_API ad_var ad_atan2_at(const char *where, ad_var a, ad_var b);
#define ad_sinc(...) ad_sinc_at(AD_HERE, __VA_ARGS__) /* sin(pi x) / (pi x), 1 at 0 */
AD_API ad_var ad_sinc_at(const char *where, ad_var x);
#define ad_sinh(...) ad_sinh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_sinh_at(const char *where, ad_var x);
#define ad_cosh(...) ad_cosh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cosh_at(const char *where, ad_var x);
#define ad_tanh(...) ad_tanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tanh_at(const char *where, ad_var x);
#define ad_asinh(...) ad_asinh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_asinh_at(const char *where, ad_var x);
#define ad_acosh(...) ad_acosh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_acosh_at(const char *where, ad_var x);
#define ad_atanh(...) ad_atanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_atanh_at(const char *where, ad_var x);
#define ad_erf(...) ad_erf_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_erf_at(const char *where, ad_var x);
#define ad_erfc(...) ad_erfc_at(AD_HERE, __VA_ARGS__) /* 1 - erf(x), exact in the tail */
AD_API ad_var ad_erfc_at(const char *where, ad_var x);
#define ad_erfinv(...) ad_erfinv_at(AD_HERE, __VA_ARGS__) /* the inverse of erf */
AD_API ad_var ad_erfinv_at(const char *where, ad_var x);
#define ad_lgamma(...) ad_lgamma_at(AD_HERE, __VA_ARGS__) /* log |Gamma(x)| */
AD_API ad_var ad_lgamma_at(const char *where, ad_var x);
#define ad_digamma(...) ad_digamma_at(AD_HERE, __VA_ARGS__) /* the derivative of lgamma */
AD_API ad_var ad_digamma_at(const char *where, ad_var x);
#define ad_trigamma(...) ad_trigamma_at(AD_HERE, __VA_ARGS__) /* the derivative of digamma */
AD_API ad_var ad_trigamma_at(const char *where, ad_var x);
/* the n-th derivative of digamma, n a whole number */
#define ad_polygamma(...) ad_polygamma_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_polygamma_at(const char *where, ad_var x, double n);
#define ad_floor(...) ad_floor_at(AD_HERE, __VA_ARGS__) /* no gradient, as for the next three */
AD_API ad_var ad_floor_at(const char *where, ad_var x);
#define ad_ceil(...) ad_ceil_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_ceil_at(const char *where, ad_var x);
#define ad_round(...) ad_round_at(AD_HERE, __VA_ARGS__) /* to the nearest integer, a half to the even one */
AD_API ad_var ad_round_at(const char *where, ad_var x);
#define ad_trunc(...) ad_trunc_at(AD_HERE, __VA_ARGS__) /* towards 0 */
AD_API ad_var ad_trunc_at(const char *where, ad_var x);
#define ad_frac(...) ad_frac_at(AD_HERE, __VA_ARGS__) /* x - trunc(x) */
AD_API ad_var ad_frac_at(const char *where, ad_var x);

/* ---- activations ---------------------------------------------------------------------------------------- */

#define ad_relu(...) ad_relu_at(AD_HERE, __VA_ARGS__) /* max(x, 0); the derivative at 0 is 0 */
AD_API ad_var ad_relu_at(const char *where, ad_var x);
#define ad_relu6(...) ad_relu6_at(AD_HERE, __VA_ARGS__) /* min(max(x, 0), 6) */
AD_API ad_var ad_relu6_at(const char *where, ad_var x);
/* x > 0 ? x : slope x; the derivative at 0 is the slope */
#define ad_leaky_relu(...) ad_leaky_relu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_leaky_relu_at(const char *where, ad_var x, double slope);
/* the same with the slope as a variable, which is learned: for a slope per channel of [N,C,H,W] it is [C,1,1] */
#define ad_prelu(...) ad_prelu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_prelu_at(const char *where, ad_var x, ad_var slope);
#define ad_elu(...) ad_elu_at(AD_HERE, __VA_ARGS__) /* x >= 0 ? x : alpha (exp(x) - 1) */
AD_API ad_var ad_elu_at(const char *where, ad_var x, double alpha);
#define ad_celu(...) ad_celu_at(AD_HERE, __VA_ARGS__) /* x >= 0 ? x : alpha (exp(x / alpha) - 1) */
AD_API ad_var ad_celu_at(const char *where, ad_var x, double alpha);
#define ad_selu(...) ad_selu_at(AD_HERE, __VA_ARGS__) /* elu of fixed scale and alpha */
AD_API ad_var ad_selu_at(const char *where, ad_var x);
#define ad_gelu(...) ad_gelu_at(AD_HERE, __VA_ARGS__) /* x Phi(x), through erf */
AD_API ad_var ad_gelu_at(const char *where, ad_var x);
#define ad_gelu_tanh(...) ad_gelu_tanh_at(AD_HERE, __VA_ARGS__) /* its approximation through tanh */
AD_API ad_var ad_gelu_tanh_at(const char *where, ad_var x);
#define ad_silu(...) ad_silu_at(AD_HERE, __VA_ARGS__) /* x sigmoid(x) */
AD_API ad_var ad_silu_at(const char *where, ad_var x);
/* a f'(x), as the derivatives of tanh, for y = tanh(x), and of gelu_tanh need it: in one pass. */
#define ad_through_tanh(...) ad_through_tanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_through_tanh_at(const char *where, ad_var a, ad_var y);
#define ad_through_gelu_tanh(...) ad_through_gelu_tanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_through_gelu_tanh_at(const char *where, ad_var a, ad_var x);
#define ad_swiglu(...) ad_swiglu_at(AD_HERE, __VA_ARGS__) /* silu(a) b (Shazeer 2020) */
AD_API ad_var ad_swiglu_at(const char *where, ad_var a, ad_var b);
#define ad_mish(...) ad_mish_at(AD_HERE, __VA_ARGS__) /* x tanh(softplus(x)) */
AD_API ad_var ad_mish_at(const char *where, ad_var x);
#define ad_sigmoid(...) ad_sigmoid_at(AD_HERE, __VA_ARGS__) /* 1 / (1 + exp(-x)) */
AD_API ad_var ad_sigmoid_at(const char *where, ad_var x);
#define ad_logsigmoid(...) ad_logsigmoid_at(AD_HERE, __VA_ARGS__) /* log sigmoid(x), without overflow */
AD_API ad_var ad_logsigmoid_at(const char *where, ad_var x);
#define ad_softplus(...) ad_softplus_at(AD_HERE, __VA_ARGS__) /* log(1 + exp(x)), without overflow */
AD_API ad_var ad_softplus_at(const char *where, ad_var x);
#define ad_softsign(...) ad_softsign_at(AD_HERE, __VA_ARGS__) /* x / (1 + |x|) */
AD_API ad_var ad_softsign_at(const char *where, ad_var x);
/* x kept in [low, high]; the derivative at a bound is 0 */
#define ad_hardtanh(...) ad_hardtanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_hardtanh_at(const char *where, ad_var x, double low, double high);
#define ad_hardsigmoid(...) ad_hardsigmoid_at(AD_HERE, __VA_ARGS__) /* min(max(x / 6 + 1/2, 0), 1) */
AD_API ad_var ad_hardsigmoid_at(const char *where, ad_var x);
#define ad_hardswish(...) ad_hardswish_at(AD_HERE, __VA_ARGS__) /* x hardsigmoid(x) */
AD_API ad_var ad_hardswish_at(const char *where, ad_var x);

/* Compositions: a sigmoid(b) for the halves a and b of x along `axis` (Dauphin et al. 2017); */
#define ad_glu(...) ad_glu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_glu_at(const char *where, ad_var x, int axis);
#define ad_threshold(...) ad_threshold_at(AD_HERE, __VA_ARGS__) /* x > threshold ? x : value */
AD_API ad_var ad_threshold_at(const char *where, ad_var x, double threshold, double value);
#define ad_hardshrink(...) ad_hardshrink_at(AD_HERE, __VA_ARGS__) /* |x| > lambda ? x : 0 */
AD_API ad_var ad_hardshrink_at(const char *where, ad_var x, double lambda);
/* x - lambda above lambda, x + lambda below -lambda, 0 between; the derivative at a bound is 0 */
#define ad_softshrink(...) ad_softshrink_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_softshrink_at(const char *where, ad_var x, double lambda);
#define ad_tanhshrink(...) ad_tanhshrink_at(AD_HERE, __VA_ARGS__) /* x - tanh(x) */
AD_API ad_var ad_tanhshrink_at(const char *where, ad_var x);

/* ---- comparisons and logic: 1 or 0 in i32, no gradient; operands of any one dtype ---------------------------- */

#define ad_greater(...) ad_greater_at(AD_HERE, __VA_ARGS__) /* a > b */
AD_API ad_var ad_greater_at(const char *where, ad_var a, ad_var b);
#define ad_greater_equal(...) ad_greater_equal_at(AD_HERE, __VA_ARGS__) /* a >= b */
AD_API ad_var ad_greater_equal_at(const char *where, ad_var a, ad_var b);
#define ad_less(...) ad_less_at(AD_HERE, __VA_ARGS__) /* a < b */
AD_API ad_var ad_less_at(const char *where, ad_var a, ad_var b);
#define ad_less_equal(...) ad_less_equal_at(AD_HERE, __VA_ARGS__) /* a <= b */
AD_API ad_var ad_less_equal_at(const char *where, ad_var a, ad_var b);
#define ad_equal(...) ad_equal_at(AD_HERE, __VA_ARGS__) /* a = b */
AD_API ad_var ad_equal_at(const char *where, ad_var a, ad_var b);
#define ad_not_equal(...) ad_not_equal_at(AD_HERE, __VA_ARGS__) /* a != b */
AD_API ad_var ad_not_equal_at(const char *where, ad_var a, ad_var b);
#define ad_logical_and(...) ad_logical_and_at(AD_HERE, __VA_ARGS__) /* not 0 is true */
AD_API ad_var ad_logical_and_at(const char *where, ad_var a, ad_var b);
#define ad_logical_or(...) ad_logical_or_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_logical_or_at(const char *where, ad_var a, ad_var b);
#define ad_logical_xor(...) ad_logical_xor_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_logical_xor_at(const char *where, ad_var a, ad_var b);
#define ad_logical_not(...) ad_logical_not_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_logical_not_at(const char *where, ad_var x);
#define ad_isnan(...) ad_isnan_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_isnan_at(const char *where, ad_var x);
#define ad_isinf(...) ad_isinf_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_isinf_at(const char *where, ad_var x);
#define ad_isfinite(...) ad_isfinite_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_isfinite_at(const char *where, ad_var x);
/* condition ? a : b; the condition of any dtype, not 0 is true */
#define ad_where(...) ad_where_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_where_at(const char *where, ad_var condition, ad_var a, ad_var b);
/* x where `sign`, which does not move, is above 0; else 0. Of one shape: the derivative of relu. */
#define ad_through_relu(...) ad_through_relu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_through_relu_at(const char *where, ad_var x, ad_var sign);

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

/* Drop axes of size 1: all such, or those named; put one in as axis `axis` of the result. Compositions, always views. */
#define ad_squeeze(...) ad_squeeze_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_squeeze_at(const char *where, ad_var x, ad_axes axes);
#define ad_unsqueeze(...) ad_unsqueeze_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_unsqueeze_at(const char *where, ad_var x, int axis);
#define ad_cast(...) ad_cast_at(AD_HERE, __VA_ARGS__) /* to another dtype, converting as ad_view_copy does */
AD_API ad_var ad_cast_at(const char *where, ad_var x, ad_dtype dtype);
#define ad_contiguous(...) ad_contiguous_at(AD_HERE, __VA_ARGS__) /* x in row-major order; a view if it is already */
AD_API ad_var ad_contiguous_at(const char *where, ad_var x);

/* x[start:stop:step] along an axis, a view, with Python's rules: negative ends count from the end, all are clamped, and a
 * negative step runs backwards. */
#define AD_TO_END   INT64_MAX
#define AD_TO_START INT64_MIN /* for a negative step: 0 included */
#define ad_slice(...) ad_slice_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_slice_at(const char *where, ad_var x, int axis, int64_t start, int64_t stop, int64_t step);
/* Zeros with length n along the axis, but x where that slice is: the transpose of ad_slice. */
#define ad_unslice(...) ad_unslice_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_unslice_at(const char *where, ad_var x, int axis, int64_t start, int64_t stop, int64_t step,
                            int64_t n);
/* Zeros with length `length` along the axis, to which each of the n x, alike but for that axis, is added from its start on:
 * starts are n integers. The transpose of many slices at once, which may overlap. */
#define ad_unslices(...) ad_unslices_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_unslices_at(const char *where, ad_var starts, int n, const ad_var *x, int axis, int64_t length);
/* Compositions of slices. */
#define ad_select(...) ad_select_at(AD_HERE, __VA_ARGS__) /* element i along an axis, which goes */
AD_API ad_var ad_select_at(const char *where, ad_var x, int axis, int64_t i);
#define ad_split(...) ad_split_at(AD_HERE, __VA_ARGS__) /* parts of these sizes, which add up to that of the axis */
AD_API void ad_split_at(const char *where, ad_var x, int axis, int count, const int64_t *sizes, ad_var *parts);
#define ad_chunk(...) ad_chunk_at(AD_HERE, __VA_ARGS__) /* parts as equal as possible; the longer ones come first */
AD_API void ad_chunk_at(const char *where, ad_var x, int axis, int count, ad_var *parts);
#define ad_flip(...) ad_flip_at(AD_HERE, __VA_ARGS__) /* backwards along these axes */
AD_API ad_var ad_flip_at(const char *where, ad_var x, ad_axes axes);
#define ad_roll(...) ad_roll_at(AD_HERE, __VA_ARGS__) /* element i goes to i + shift, around the end */
AD_API ad_var ad_roll_at(const char *where, ad_var x, int64_t shift, int axis);

/* AD_VARS(a, b, c) is what a call that takes n variables needs: how many, and where. */
#ifdef __cplusplus
#define AD_VARS(...)                                                                                             \
    (int)std::initializer_list<ad_var>{__VA_ARGS__}.size(), std::initializer_list<ad_var>{__VA_ARGS__}.begin()
#else
#define AD_VARS(...) (int)(sizeof((ad_var[]){__VA_ARGS__}) / sizeof(ad_var)), (const ad_var[]){__VA_ARGS__}
#endif
#define ad_cat(...) ad_cat_at(AD_HERE, __VA_ARGS__) /* one after another along an axis: ad_cat(AD_VARS(a, b), 0) */
AD_API ad_var ad_cat_at(const char *where, int n, const ad_var *x, int axis);
#define ad_stack(...) ad_stack_at(AD_HERE, __VA_ARGS__) /* the same along a new axis; a composition */
AD_API ad_var ad_stack_at(const char *where, int n, const ad_var *x, int axis);
/* Compositions of ad_broadcast_to and ad_reshape: all of x that many times along each axis (np.tile: the shorter of the
 * lists is extended with 1 on the left), or each element along one. */
#define ad_tile(...) ad_tile_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tile_at(const char *where, ad_var x, ad_shape times);
#define ad_repeat_interleave(...) ad_repeat_interleave_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_repeat_interleave_at(const char *where, ad_var x, int64_t times, int axis);

/* Margins around x: before.dim[i] elements in front of axis i and after.dim[i] behind it, of `value`, or of elements of x:
 * 3 2 | 1 2 3 | 2 1 reflects, 1 1 | 1 2 3 | 3 3 replicates, 2 3 | 1 2 3 | 1 2 is circular. All but the first are
 * compositions of slices and ad_cat, and leave `value` alone. */
typedef enum ad_pad_mode { AD_PAD_CONSTANT, AD_PAD_REFLECT, AD_PAD_REPLICATE, AD_PAD_CIRCULAR } ad_pad_mode;
#define ad_pad(...) ad_pad_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_pad_at(const char *where, ad_var x, ad_shape before, ad_shape after, ad_pad_mode mode, double value);

/* Matrices [..., rows, columns] with zeros above diagonal k (tril) or below it (triu); 0 is the main one, above it they
 * are positive. */
#define ad_tril(...) ad_tril_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tril_at(const char *where, ad_var x, int64_t k);
#define ad_triu(...) ad_triu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_triu_at(const char *where, ad_var x, int64_t k);
/* Diagonal k of the matrices that two axes make, as the last axis of the result: a view. */
#define ad_diagonal(...) ad_diagonal_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_diagonal_at(const char *where, ad_var x, int64_t k, int row_axis, int column_axis);
#define ad_diag_embed(...) ad_diag_embed_at(AD_HERE, __VA_ARGS__) /* square matrices whose diagonal k is x[..., n] */
AD_API ad_var ad_diag_embed_at(const char *where, ad_var x, int64_t k);
#define ad_diag(...) ad_diag_at(AD_HERE, __VA_ARGS__) /* ad_diagonal of a matrix, ad_diag_embed of a vector */
AD_API ad_var ad_diag_at(const char *where, ad_var x, int64_t k);

/* Windows of `size` elements along an axis, every `step` (torch.Tensor.unfold), a view: the axis counts the windows, a
 * new last axis the elements in one. */
#define ad_unfold(...) ad_unfold_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_unfold_at(const char *where, ad_var x, int axis, int64_t size, int64_t step);
/* Adds windows x[..., windows, ..., size] up to length n along that axis of the result: the transpose of ad_unfold. */
#define ad_fold(...) ad_fold_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_fold_at(const char *where, ad_var x, int axis, int64_t step, int64_t n);

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
/* The largest or smallest element, which must exist; of equal ones each gets an even part of the gradient. */
#define ad_amax(...) ad_amax_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_amax_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_amin(...) ad_amin_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_amin_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
/* (sum |x|^p)^(1/p) for p > 0, or the largest |x| for p = INFINITY, without overflow; the derivative where all are 0 is 0.
 * Norms 1 and INFINITY are compositions: ad_sum and ad_amax of ad_abs. */
#define ad_norm(...) ad_norm_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_norm_at(const char *where, ad_var x, double p, ad_axes axes, bool keepdim);
#define ad_logsumexp(...) ad_logsumexp_at(AD_HERE, __VA_ARGS__) /* log(sum(exp(x))) without overflow; of nothing: -inf */
AD_API ad_var ad_logsumexp_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
/* How many elements, of any dtype, are not 0 (i64); whether any is, or all are (1 or 0 in i32). No gradient. */
#define ad_count_nonzero(...) ad_count_nonzero_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_count_nonzero_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_any(...) ad_any_at(AD_HERE, __VA_ARGS__) /* of nothing: 0 */
AD_API ad_var ad_any_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
#define ad_all(...) ad_all_at(AD_HERE, __VA_ARGS__) /* of nothing: 1 */
AD_API ad_var ad_all_at(const char *where, ad_var x, ad_axes axes, bool keepdim);
/* The sum of the diagonal of x[..., m, n]: a composition of ad_diagonal and ad_sum. */
#define ad_trace(...) ad_trace_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_trace_at(const char *where, ad_var x);
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
/* x0 x1 + x2 x3 + ..., and of an odd number the last, which broadcasts: matrices or stacks of them, every pair of the shapes
 * of the first. `flags`: whether all left, or all right ones are transposed. Derivatives of products are made of these. */
enum { AD_LEFT_TRANSPOSED = 1, AD_RIGHT_TRANSPOSED = 2 };
#define ad_matmul_sum(...) ad_matmul_sum_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_matmul_sum_at(const char *where, int n, const ad_var *x, unsigned flags);

/* x W^T + b, a dense layer: x[..., inputs], W[outputs, inputs], b[outputs]. Without b: ad_matmul(x, ad_transpose(w)). */
#define ad_linear(...) ad_linear_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_linear_at(const char *where, ad_var x, ad_var w, ad_var b);
/* relu and tanh of that, which keep one array for the backward pass where the two ops after one another keep two. */
#define ad_linear_relu(...) ad_linear_relu_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_linear_relu_at(const char *where, ad_var x, ad_var w, ad_var b);
#define ad_linear_tanh(...) ad_linear_tanh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_linear_tanh_at(const char *where, ad_var x, ad_var w, ad_var b);
/* Of vectors [..., n] each: the sum of their products; of [..., m] and [..., n]: all their products [..., m, n]. Leading
 * dimensions broadcast. Compositions of the above. */
#define ad_dot(...)   ad_dot_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_dot_at(const char *where, ad_var a, ad_var b);
#define ad_outer(...) ad_outer_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_outer_at(const char *where, ad_var a, ad_var b);
/* The sum over pairs of axes: axes_a[i] of a with axes_b[i] of b; the others of a, then of b, stay. No axes: all products
 * of an element of a with one of b. */
#define ad_tensordot(...) ad_tensordot_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_tensordot_at(const char *where, ad_var a, ad_var b, ad_axes axes_a, ad_axes axes_b);
/* Einstein's sum: ad_einsum("ij,jk->ik", AD_VARS(a, b)) multiplies two matrices. Letters name axes; those not in the
 * output are summed over; a letter twice in one operand takes its diagonal; "..." stands for any axes, which broadcast.
 * Without "->" the output has the letters that occur once, in alphabetical order. Made of permute, reshape, sum, mul and
 * matmul, in an order that keeps what is in between small. */
#define ad_einsum(...) ad_einsum_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_einsum_at(const char *where, const char *spec, int n, const ad_var *operands);

/* What follows takes matrices [..., n, n] and works on each of a stack. A matrix that has no inverse, or is not positive
 * definite, is AD_ERR_VALUE; the message names it and the pivot. */

/* How a triangular matrix is used. Only that triangle of it is read. */
enum {
    AD_LOWER = 0,
    AD_UPPER = 1,
    AD_TRANSPOSED = 2,   /* its transpose is meant */
    AD_UNIT_DIAGONAL = 4 /* its diagonal is not read: all 1 */
};
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
/* det A; the derivative is right where A is singular too. For large matrices it overflows: see ad_slogdet. */
#define ad_det(...) ad_det_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_det_at(const char *where, ad_var a);
#define ad_cofactor(...) ad_cofactor_at(AD_HERE, __VA_ARGS__) /* the derivative of det A: det A A^-T, if that exists */
AD_API ad_var ad_cofactor_at(const char *where, ad_var a);
#define ad_matrix_exp(...) ad_matrix_exp_at(AD_HERE, __VA_ARGS__) /* I + A + A^2 / 2 + A^3 / 6 + ... */
AD_API ad_var ad_matrix_exp_at(const char *where, ad_var a);
/* A[..., m, n] = Q R with k = min(m, n): returns Q[..., m, k] and, unless NULL, *r[..., k, n], upper triangular with a
 * diagonal >= 0. */
#define ad_qr(...) ad_qr_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_qr_at(const char *where, ad_var a, ad_var *r);
/* Eigenvalues[..., n] of (A + A^T) / 2, ascending, and, unless NULL, *vectors[..., n, n], one in each column. Its element
 * of largest absolute value is positive. */
#define ad_eigh(...) ad_eigh_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_eigh_at(const char *where, ad_var a, ad_var *vectors);
/* A[..., m, n] = U diag(s) V^T with k = min(m, n): returns s[..., k], descending, and, unless NULL, *u[..., m, k] and
 * *vt[..., k, n]. The element of largest absolute value of each right vector (m < n: left vector) is positive. */
#define ad_svd(...) ad_svd_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_svd_at(const char *where, ad_var a, ad_var *u, ad_var *vt);

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

/* x with source in the places that ad_gather would read; where several go to one place, the last one stays. */
#define ad_scatter(...) ad_scatter_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_scatter_at(const char *where, ad_var x, int axis, ad_var index, ad_var source);
/* The same places get the sum, product, mean, largest or smallest of what is there in x and what comes. Equal extrema share
 * the gradient evenly; that of products is right with zeros. Sum and largest are ops of their own, the others made of ops. */
typedef enum ad_scatter_reduction {
    AD_SCATTER_SUM,
    AD_SCATTER_PROD,
    AD_SCATTER_MEAN,
    AD_SCATTER_AMAX,
    AD_SCATTER_AMIN
} ad_scatter_reduction;
#define ad_scatter_reduce(...) ad_scatter_reduce_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_scatter_reduce_at(const char *where, ad_var x, int axis, ad_var index, ad_var source,
                                   ad_scatter_reduction reduction);

/* Rows by number (np.take): the index, of any shape, stands in the place of the axis. In the backward pass only the rows
 * that were taken are touched where x is a parameter and the axis the first; else the gradient is set to zero first. */
#define ad_index_select(...) ad_index_select_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_index_select_at(const char *where, ad_var x, int axis, ad_var index);
#define ad_embedding(...) ad_embedding_at(AD_HERE, __VA_ARGS__) /* rows of table[V, D]: index[...] gives [..., D] */
AD_API ad_var ad_embedding_at(const char *where, ad_var table, ad_var index);
/* x with source added to the rows that ad_index_select would take, in row-major order of the index. */
#define ad_index_add(...) ad_index_add_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_index_add_at(const char *where, ad_var x, int axis, ad_var index, ad_var source);
/* x[i, j, ...]: n indices, which broadcast, for the first n axes of x. Compositions. With ad_index_put, `values`, which
 * broadcast, are put there, or added; where several are put to one place, the last one stays. */
#define ad_index_get(...) ad_index_get_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_index_get_at(const char *where, ad_var x, int n, const ad_var *index);
#define AD_ACCUMULATE true
#define ad_index_put(...) ad_index_put_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_index_put_at(const char *where, ad_var x, int n, const ad_var *index, ad_var values, bool accumulate);
/* The row-major position (i64) that indices, one for each axis, name in an array of that shape. */
#define ad_flat_index(...) ad_flat_index_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_flat_index_at(const char *where, int n, const ad_var *index, ad_shape shape);
/* The row-major positions (i64) of the elements, of any dtype, that are not 0. How many they are depends on values, so a
 * recorded stretch of tape fits these values only. */
#define ad_flat_nonzero(...) ad_flat_nonzero_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_flat_nonzero_at(const char *where, ad_var x);
/* Where the mask, which broadcasts to x, is not 0: `value` instead of x; or those elements alone, in one row (the same
 * holds of it). Compositions. */
#define ad_masked_fill(...) ad_masked_fill_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_masked_fill_at(const char *where, ad_var x, ad_var mask, double value);
#define ad_masked_select(...) ad_masked_select_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_masked_select_at(const char *where, ad_var x, ad_var mask);
/* y[..., c] = 1 where c = index[...], else 0, in that dtype. */
#define ad_one_hot(...) ad_one_hot_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_one_hot_at(const char *where, ad_var index, int64_t classes, ad_dtype dtype);

/* In order along the axis, or the k largest or smallest, in order. Equal elements stay in their order; NaN is above all
 * numbers. *index, unless NULL, gets the indices (i64); the gradient goes to these. */
#define AD_DESCENDING true
#define ad_sort(...) ad_sort_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_sort_at(const char *where, ad_var x, int axis, bool descending, ad_var *index);
#define ad_argsort(...) ad_argsort_at(AD_HERE, __VA_ARGS__) /* the indices alone */
AD_API ad_var ad_argsort_at(const char *where, ad_var x, int axis, bool descending);
#define AD_LARGEST true
#define ad_topk(...) ad_topk_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_topk_at(const char *where, ad_var x, int64_t k, int axis, bool largest, ad_var *index);

/* Row i of x belongs to segment ids[i] in [0, count), in any order; the result has a row for each segment, or, of softmax,
 * for each row of x. Of no rows: sum and mean 0, max -inf, min inf. Compositions. */
#define ad_segment_sum(...) ad_segment_sum_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_segment_sum_at(const char *where, ad_var x, ad_var ids, int64_t count);
#define ad_segment_mean(...) ad_segment_mean_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_segment_mean_at(const char *where, ad_var x, ad_var ids, int64_t count);
#define ad_segment_max(...) ad_segment_max_at(AD_HERE, __VA_ARGS__) /* equal elements share the gradient evenly */
AD_API ad_var ad_segment_max_at(const char *where, ad_var x, ad_var ids, int64_t count);
#define ad_segment_min(...) ad_segment_min_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_segment_min_at(const char *where, ad_var x, ad_var ids, int64_t count);
#define ad_segment_softmax(...) ad_segment_softmax_at(AD_HERE, __VA_ARGS__) /* each column; all -inf gives zeros */
AD_API ad_var ad_segment_softmax_at(const char *where, ad_var x, ad_var ids, int64_t count);

/* ---- softmax and its loss --------------------------------------------------------------------------------- */

#define ad_softmax(...) ad_softmax_at(AD_HERE, __VA_ARGS__) /* along `axis`; a row of all -inf gives zeros */
AD_API ad_var ad_softmax_at(const char *where, ad_var x, int axis);
#define ad_softmin(...) ad_softmin_at(AD_HERE, __VA_ARGS__) /* softmax of -x: a composition */
AD_API ad_var ad_softmin_at(const char *where, ad_var x, int axis);
#define ad_log_softmax(...) ad_log_softmax_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_log_softmax_at(const char *where, ad_var x, int axis);

/* The cross-entropy of softmax(x) over the last axis, per example: x[..., C] with class indices [...] or
 * probabilities [..., C] as the target gives [...]. Never broadcasts. Stable: computed through log-sum-exp. */
#define ad_softmax_xent(...) ad_softmax_xent_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_softmax_xent_at(const char *where, ad_var x, ad_var target);

/* new-op: constructors go above this line */

/* ---- losses --------------------------------------------------------------------------------------------- */

/* Per element or per example: take ad_mean or ad_sum. Prediction and target must have one shape; they never broadcast.
 * Targets get gradients too, if they ask for them. */

#define ad_mse(...) ad_mse_at(AD_HERE, __VA_ARGS__) /* (a - t)^2 */
AD_API ad_var ad_mse_at(const char *where, ad_var prediction, ad_var target);
#define ad_l1(...) ad_l1_at(AD_HERE, __VA_ARGS__) /* |a - t|; the derivative at 0 is 0 */
AD_API ad_var ad_l1_at(const char *where, ad_var prediction, ad_var target);
/* (a - t)^2 / 2 up to |a - t| = delta, then delta (|a - t| - delta / 2) */
#define ad_huber(...) ad_huber_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_huber_at(const char *where, ad_var prediction, ad_var target, double delta);
#define ad_bce(...) ad_bce_at(AD_HERE, __VA_ARGS__) /* -t log(p) - (1 - t) log(1 - p) for probabilities p */
AD_API ad_var ad_bce_at(const char *where, ad_var p, ad_var target);
/* bce of sigmoid(x), without overflow */
#define ad_bce_with_logits(...) ad_bce_with_logits_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_bce_with_logits_at(const char *where, ad_var x, ad_var target);
/* t (log(t) - log_p), 0 where t is 0: its sum is the divergence of p from t */
#define ad_kl_div(...) ad_kl_div_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_kl_div_at(const char *where, ad_var log_p, ad_var target);
/* -log_p[target]: log-probabilities [..., C] and class indices [...] give [...] */
#define ad_nll(...) ad_nll_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_nll_at(const char *where, ad_var log_p, ad_var target);
#define ad_poisson_nll(...) ad_poisson_nll_at(AD_HERE, __VA_ARGS__) /* exp(log_rate) - t log_rate */
AD_API ad_var ad_poisson_nll_at(const char *where, ad_var log_rate, ad_var target);
#define ad_gaussian_nll(...) ad_gaussian_nll_at(AD_HERE, __VA_ARGS__) /* (log(v) + (t - m)^2 / v) / 2 */
AD_API ad_var ad_gaussian_nll_at(const char *where, ad_var mean, ad_var variance, ad_var target);
/* (m^2 + v - 1 - log(v)) / 2: of N(m, v) from N(0, 1) */
#define ad_gaussian_kl(...) ad_gaussian_kl_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_gaussian_kl_at(const char *where, ad_var mean, ad_var log_variance);
#define ad_hinge(...) ad_hinge_at(AD_HERE, __VA_ARGS__) /* max(0, 1 - a t) for targets -1 and 1 */
AD_API ad_var ad_hinge_at(const char *where, ad_var prediction, ad_var target);
/* 1 - <a, b> / (|a| |b|) along the last axis */
#define ad_cosine_loss(...) ad_cosine_loss_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_cosine_loss_at(const char *where, ad_var a, ad_var b);
/* max(0, |a - p| - |a - n| + margin) along the last axis */
#define ad_triplet_loss(...) ad_triplet_loss_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_triplet_loss_at(const char *where, ad_var anchor, ad_var positive, ad_var negative, double margin);

/* Connectionist temporal classification (Graves et al. 2006): -log of the probability that the steps name the target, with
 * repetitions and blanks left out. log_p[steps, examples, classes] are log-probabilities; of example i the first
 * step_count[i] steps count and the first length[i] classes of target[i], none of them the blank. Gives [examples]: inf,
 * without a gradient, where there are too few steps. A composition, of a dozen nodes for each step. */
#define ad_ctc_loss(...) ad_ctc_loss_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_ctc_loss_at(const char *where, ad_var log_p, ad_var target, ad_var step_count, ad_var length,
                             int64_t blank);

/* ---- neural layers --------------------------------------------------------------------------------------- */

/* In place of a weight or bias: there is none. */
#ifdef __cplusplus
#define AD_NONE (ad_var{})
#else
#define AD_NONE ((ad_var){.tape = NULL, .index = 0, .generation = 0})
#endif

/* (x - mean) / sqrt(variance + epsilon) * w + b over the last k axes, whose shape w and b have. The gradient is that of the
 * formula; with epsilon 0 a row of equal elements gives b, and gradient 0. This holds of all normalizations. */
#define ad_layer_norm(...) ad_layer_norm_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_layer_norm_at(const char *where, ad_var x, int k, ad_var w, ad_var b, double epsilon);
#define ad_rms_norm(...) ad_rms_norm_at(AD_HERE, __VA_ARGS__) /* x / sqrt(mean(x^2) + epsilon) * w over the last k axes */
AD_API ad_var ad_rms_norm_at(const char *where, ad_var x, int k, ad_var w, double epsilon);
/* x[N,C,...], w[C], b[C]: over all axes but 1, for training. *mean and *variance (divided by n, not n - 1), unless NULL,
 * get those of the batch, [C]. Who wants running ones keeps them outside the tape: after each step,
 * running += rate (ad_value(...) - running); variances are usually multiplied by n / (n - 1) for it. */
#define ad_batch_norm(...) ad_batch_norm_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_batch_norm_at(const char *where, ad_var x, ad_var w, ad_var b, double epsilon, ad_var *mean,
                               ad_var *variance);
/* The same with a given mean and variance, for inference. A composition. */
#define ad_batch_norm_with(...) ad_batch_norm_with_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_batch_norm_with_at(const char *where, ad_var x, ad_var mean, ad_var variance, ad_var w, ad_var b,
                                    double epsilon);
/* x[N,C,...], w[C], b[C]: over each of so many equal groups of channels. One for each channel is instance norm. */
#define ad_group_norm(...) ad_group_norm_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_group_norm_at(const char *where, ad_var x, int64_t groups, ad_var w, ad_var b, double epsilon);

/* Images x[N,C,H,W], kernels w[O,C/groups,h,w], and b[O] or AD_NONE, give [N,O,...]. All pairs are along height and width;
 * conv1d, of [N,C,L] with [O,C/groups,l], reads their first elements. NULL for the options, and 0 for one of them, is the
 * usual: stride, dilation and groups 1, padding 0. */
typedef struct ad_conv_options {
    int64_t stride[2], padding[2], dilation[2], groups;
    int64_t output_padding[2]; /* of conv_transpose2d alone: how much longer its result is */
} ad_conv_options;
#define ad_conv2d(...) ad_conv2d_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_conv2d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options);
#define ad_conv1d(...) ad_conv1d_at(AD_HERE, __VA_ARGS__) /* a view of conv2d */
AD_API ad_var ad_conv1d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options);
/* The transpose of conv2d with the same kernel: x[N,O,H,W], w[O,C/groups,h,w] and b[C] give [N,C,...], of height
 * (H - 1) stride - 2 padding + (h - 1) dilation + 1 + output_padding. */
#define ad_conv_transpose2d(...) ad_conv_transpose2d_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_conv_transpose2d_at(const char *where, ad_var x, ad_var w, ad_var b, const ad_conv_options *options);

/* Of each window of images x[N,C,H,W]: kernel and stride along height and width, a stride of 0 is the kernel; padding of up
 * to half of the kernel. As in PyTorch, and 0 for the usual: */
typedef struct ad_pool_options {
    int64_t kernel[2], stride[2], padding[2];
    int64_t dilation[2];      /* of ad_max_pool2d alone; 0: 1 */
    bool ceil;                /* a last window may reach out of the padded image, if it begins in it */
    bool padding_is_excluded; /* of ad_avg_pool2d alone: the mean is over the elements of the image only */
} ad_pool_options;
/* The largest element; the gradient goes to the first of equal ones. *index, unless NULL, gets where in its plane (i64) it
 * is. Padding is never the largest. */
#define ad_max_pool2d(...) ad_max_pool2d_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_max_pool2d_at(const char *where, ad_var x, const ad_pool_options *options, ad_var *index);
/* Compositions. The mean of each window, padding counted as elements of 0, what is out of it not at all; */
#define ad_avg_pool2d(...) ad_avg_pool2d_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_avg_pool2d_at(const char *where, ad_var x, const ad_pool_options *options);
/* of height x width windows that cover the image; where its size is not divisible, they overlap by an element. */
#define ad_adaptive_avg_pool2d(...) ad_adaptive_avg_pool2d_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_adaptive_avg_pool2d_at(const char *where, ad_var x, int64_t height, int64_t width);
/* Each element becomes scale x scale equal ones; */
#define ad_upsample_nearest(...) ad_upsample_nearest_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_upsample_nearest_at(const char *where, ad_var x, int64_t scale);
/* or is joined by those of the next channels: [N, C scale^2, H, W] gives [N, C, H scale, W scale]. */
#define ad_pixel_shuffle(...) ad_pixel_shuffle_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_pixel_shuffle_at(const char *where, ad_var x, int64_t scale);
/* or lies between those of x, linear along height and width; `corners`: the first and last elements are those of x, else the
 * edges of the image are (PyTorch's align_corners, off by default). */
#define AD_CORNERS true
#define ad_upsample_bilinear(...) ad_upsample_bilinear_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_upsample_bilinear_at(const char *where, ad_var x, int64_t height, int64_t width, bool corners);

/* softmax_xent with options, as a composition (ad_softmax_xent is one op, and faster): with class indices t as the target
 *     -(1 - smoothing) w[t] log p[t] - smoothing / C sum_c w[c] log p[c],
 * and 0, without a gradient, where t is the index to ignore; probabilities are smoothed in the same way. As in PyTorch
 * with reduction = "none". */
typedef struct ad_xent_options {
    const ad_var *weights; /* [C], a factor for each class; NULL: all are 1 */
    bool ignores;          /* examples whose class index is ignore_index, which need not be that of a class */
    int64_t ignore_index;
    double smoothing; /* between 0 and 1 */
} ad_xent_options;
#define ad_softmax_xent_with(...) ad_softmax_xent_with_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_softmax_xent_with_at(const char *where, ad_var x, ad_var target, const ad_xent_options *options);

/* ---- randomness and control of gradients ------------------------------------------------------------------ */

/* All that is random draws from a generator, which moves on by one number for each element: a copy of it replays the
 * same, and so do the derivatives. */

/* x / (1 - p), but 0 with probability p, each element by itself (inverted dropout) */
#define ad_dropout(...) ad_dropout_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_dropout_at(const char *where, ad_var x, double p, ad_rng *rng);
/* Constants: uniform in [0, 1); normal of mean 0 and variance 1; 1 with probability p, else 0. */
#define ad_rand(...) ad_rand_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_rand_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                         ad_rng *rng);
#define ad_randn(...) ad_randn_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_randn_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                          ad_rng *rng);
#define ad_bernoulli(...) ad_bernoulli_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_bernoulli_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                              double p, ad_rng *rng);
/* A random choice among the last axis, which the logits get a gradient of: softmax((logits + noise) / temperature); if
 * `hard`, the value is its largest as one-hot, the gradient that of the softmax. A composition. */
#define AD_HARD true
#define ad_gumbel_softmax(...) ad_gumbel_softmax_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_gumbel_softmax_at(const char *where, ad_var logits, double temperature, bool hard, ad_rng *rng);

#define ad_scale_gradient(...) ad_scale_gradient_at(AD_HERE, __VA_ARGS__) /* x, whose gradient is multiplied with c */
AD_API ad_var ad_scale_gradient_at(const char *where, ad_var x, double c);
#define ad_reverse_gradient(...) ad_reverse_gradient_at(AD_HERE, __VA_ARGS__) /* the same with -1 */
AD_API ad_var ad_reverse_gradient_at(const char *where, ad_var x);
/* the value, whose gradient goes to a finite x of its type instead: ad_straight_through(ad_round(x), x); a composition */
#define ad_straight_through(...) ad_straight_through_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_straight_through_at(const char *where, ad_var value, ad_var x);

/* ---- sequences -------------------------------------------------------------------------------------------- */

/* Rotary position embedding of x[..., positions, features]: features 2 j and 2 j + 1 are a point, turned about 0 by the
 * angle (first + i) base^(-2 j / features) at row i. The paper's base is 10000; `first` is the position of row 0. */
#define ad_rope(...) ad_rope_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_rope_at(const char *where, ad_var x, double base, int64_t first);

/* One step of a recurrent network, with PyTorch's conventions: x[..., inputs], state[..., n]; the rows of the weights and
 * biases are those of the gates, one after the other. Compositions. */
typedef struct ad_cell {
    ad_var w_input; /* [gates n, inputs] */
    ad_var w_state; /* [gates n, n] */
    ad_var b_input, b_state; /* [gates n] */
} ad_cell;
/* Gates i, f, g, o: c' = sigmoid(f) c + sigmoid(i) tanh(g) goes to *c_next; h' = sigmoid(o) tanh(c') is returned. */
#define ad_lstm_cell(...) ad_lstm_cell_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_lstm_cell_at(const char *where, ad_var x, ad_var h, ad_var c, const ad_cell *weights, ad_var *c_next);
/* Its elementwise half, an op: gates[..., 4 n], c[..., n]. Whoever runs a cell over a whole sequence whose inputs are known
 * makes their part of the gates with one ad_linear for all steps, and adds that of the state. */
#define ad_lstm_gates(...) ad_lstm_gates_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_lstm_gates_at(const char *where, ad_var gates, ad_var c, ad_var *c_next);
/* Gates r, z, n: h' = (1 - z) tanh(n of x + r (n of h)) + z h, with r and z through sigmoid. */
#define ad_gru_cell(...) ad_gru_cell_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_gru_cell_at(const char *where, ad_var x, ad_var h, const ad_cell *weights);

/* softmax(scale q k^T + mask) v for queries q[..., T, d], keys k[..., S, d], values v[..., S, e]; the usual scale is
 * 1 / sqrt(d). Causal: query i sees keys 0 to i. The mask is AD_NONE or added to the scores, which it broadcasts to, and
 * gets a gradient too; -inf hides a key. A query that sees none gives zeros. The probabilities are never stored. */
#define AD_CAUSAL true
#define ad_attention(...) ad_attention_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_attention_at(const char *where, ad_var q, ad_var k, ad_var v, ad_var mask, double scale, bool causal);

/* Every op by name; the registry is filled from this list. */
#define AD_OP_LIST(X)                                                                                            \
    X(add) X(sub) X(mul) X(div) X(masked_mul) X(masked_div)                                                      \
    X(neg) X(scale) X(abs) X(sign) X(square) X(reciprocal) X(sqrt) X(rsqrt) X(cbrt) X(pow) X(power) X(hypot)     \
    X(fmod) X(remainder) X(copysign) X(maximum) X(minimum) X(clamp)                                              \
    X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(logit) X(logaddexp) X(xlogy)                      \
    X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(atan2) X(sinc) X(sinh) X(cosh) X(tanh) X(asinh) X(acosh)      \
    X(atanh) X(erf) X(erfc) X(erfinv) X(lgamma) X(digamma) X(trigamma) X(polygamma)                              \
    X(floor) X(ceil) X(round) X(trunc) X(frac)                                                                   \
    X(relu) X(relu6) X(leaky_relu) X(elu) X(celu) X(selu) X(gelu) X(gelu_tanh) X(silu) X(mish) X(sigmoid)        \
    X(logsigmoid) X(softplus) X(softsign) X(hardtanh) X(hardsigmoid) X(hardswish) X(prelu) X(swiglu)             \
    X(through_tanh) X(through_gelu_tanh)                                                                               \
    X(greater) X(greater_equal) X(less) X(less_equal) X(equal) X(not_equal) X(logical_and) X(logical_or)         \
    X(logical_xor) X(logical_not) X(isnan) X(isinf) X(isfinite) X(where) X(through_relu) X(detach)             \
    X(reshape) X(permute) X(broadcast_to) X(sum) X(mean) X(sum_to) X(matmul) X(matmul_sum)                       \
    X(linear) X(linear_relu) X(linear_tanh)                                                                      \
    X(triangular_solve) X(cholesky) X(solve) X(inverse) X(slogdet) X(logdet)                                     \
    X(det) X(cofactor) X(qr) X(eigh) X(svd) X(matrix_exp)                                                        \
    X(gather) X(scatter_add) X(softmax) X(log_softmax) X(softmax_xent) X(softmax_xent_soft)                      \
    X(amax) X(amin) X(norm) X(logsumexp)                                                                         \
    X(prod) X(variance) X(std) X(count_nonzero) X(any) X(all)                                                    \
    X(max) X(min) X(argmax) X(argmin) X(median) X(quantile)                                                      \
    X(cumsum) X(cumprod) X(logcumsumexp) X(cummax) X(cummin) X(recurrence)                                       \
    X(cast) X(contiguous) X(slice) X(unslice) X(unslices) X(cat) X(pad) X(tril) X(triu)                          \
    X(diagonal) X(undiagonal) X(unfold) X(fold)                                                                  \
    X(index_select) X(index_add) X(flat_index) X(flat_nonzero) X(one_hot)                                        \
    X(scatter) X(scatter_amax) X(sort) X(topk)                                                                   \
    X(mse) X(l1) X(bce) X(bce_with_logits) X(kl_div) X(poisson_nll) X(gaussian_kl) X(hinge)                      \
    X(standardize) X(rms_norm) X(conv2d) X(conv_transpose2d) X(conv2d_kernel) X(max_pool2d)                      \
    X(dropout) X(scale_gradient) X(rope) X(attention) X(attention_jvp) X(attention_back)               \
    X(attention_back_jvp) X(lstm_gates)                                                                          \
    X(lstm_gates_back) X(lstm_gates_back_jvp)                                                                    \
    /* new-op: rows go above this line */

#ifdef __cplusplus
}
#endif
#endif
