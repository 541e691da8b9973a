/* The classical functions that are short to say in terms of others, in f32 by way of f64: what they lose there does not
 * count. In f64 they are the C library's. Without branches, as elementary.h.
 *
 * pow(x, y) = exp(y log |x|), with the sign of x if y is odd. sinh and the inverse hyperbolic functions come from expm1 and
 * log1p, so that they keep their digits next to 0; the inverse circular functions are angles of points in the first quarter
 * of the plane, atan(t) = t + t^3 P(t^2) for t <= 1, with the P whose largest error is least. */
#ifndef AD_CLASSICAL_H
#define AD_CLASSICAL_H

#include "ops/kernels/elementary.h"

AD_INLINE double ad_fabs_f64(double x) { return ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu); }
AD_INLINE double ad_with_sign_f64(double size, double sign) {
    return ad_from_bits_f64(ad_bits_f64(size) | (ad_bits_f64(sign) & 0x8000000000000000u));
}

/* The nearest integer to a number of no more digits than f32 has. */
AD_INLINE double ad_whole(double x) { return (x + AD_ROUND_F64) - AD_ROUND_F64; }

/* log and exp as in elementary.h, but to 38 and 33 bits: f32 shows no more. x is not subnormal, as no f32 is in f64. */
AD_INLINE double ad_log_for_f32(double x) {
    const uint64_t low = 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    const uint64_t bits = ad_bits_f64(x) - low + (1023ull << 52);
    const double e = ad_from_bits_f64(0x4330000000000000u | bits >> 52) - (0x1p52 + 1023.0);
    const double f = ad_from_bits_f64((bits & 0xfffffffffffffu) + low) - 1.0;
    double q = -0.048226147409753096;
    q = ad_fma_f64(q, f, 0.09115765632957927);
    q = ad_fma_f64(q, f, -0.092869538235332366);
    q = ad_fma_f64(q, f, 0.090401985559770359);
    q = ad_fma_f64(q, f, -0.098893836001389623);
    q = ad_fma_f64(q, f, 0.11105470900552432);
    q = ad_fma_f64(q, f, -0.12505713620663811);
    q = ad_fma_f64(q, f, 0.14286179138453819);
    q = ad_fma_f64(q, f, -0.16666532457796632);
    q = ad_fma_f64(q, f, 0.19999989260117634);
    q = ad_fma_f64(q, f, -0.25000001125729676);
    q = ad_fma_f64(q, f, 0.33333333399185738);
    const double curved = ad_fma_f64(f, q, -0.5) * (f * f);
    return ad_log_ends_f64(x, ad_fma_f64(e, 0.69314718055994530942, f + curved));
}

AD_INLINE double ad_exp_for_f32(double x) {
    double z = x > 200.0 ? 200.0 : x;
    z = z < -200.0 ? -200.0 : z;
    int64_t n;
    const double r = ad_reduce_f64(z, &n);
    double q = 0.00019733374942972455;
    q = ad_fma_f64(q, r, 0.0013935271389496056);
    q = ad_fma_f64(q, r, 0.008333586702170017);
    q = ad_fma_f64(q, r, 0.041666460974852826);
    q = ad_fma_f64(q, r, 0.16666665578244927);
    q = ad_fma_f64(q, r, 0.5);
    const double y = 1.0 + ad_fma_f64(r * r, q, r);
    return x == x ? ad_from_bits_f64(ad_bits_f64(y) + ((uint64_t)n << 52)) : x;
}

AD_INLINE float ad_pow_f32(float x, float y) {
    const double a = ad_fabs_f64((double)x), b = (double)y;
    const bool whole = ad_whole(b) == b, odd = whole && ad_whole(0.5 * b) != 0.5 * b;
    const double size = ad_exp_for_f32(b * ad_log_for_f32(a));
    const bool is_1 = b == 0.0 || x == 1.0f || (a == 1.0 && ad_fabs_f64(b) == __builtin_inf());
    const double sized = is_1 ? 1.0 : size;
    const bool negative = x < 0.0f, wrong = negative && !whole && a < __builtin_inf();
    return (float)(wrong ? __builtin_nan("") : odd ? ad_with_sign_f64(sized, (double)x) : sized);
}

AD_INLINE float ad_cbrt_f32(float x) {
    const double a = ad_fabs_f64((double)x), y = ad_exp_for_f32(ad_log_for_f32(a) * (1.0 / 3));
    return (float)ad_with_sign_f64(y, (double)x);
}

/* ---- hyperbolic -------------------------------------------------------------------------------------------------- */

AD_INLINE float ad_sinh_f32(float x) {
    double a = ad_fabs_f64((double)x);
    a = a > 100.0 ? 100.0 : a;
    const double t = ad_expm1_f64(a);
    return (float)ad_with_sign_f64(0.5 * (t + t / (t + 1.0)), (double)x);
}

AD_INLINE float ad_cosh_f32(float x) {
    double a = ad_fabs_f64((double)x);
    a = a > 100.0 ? 100.0 : a;
    const double e = ad_exp_f64(a);
    return (float)(0.5 * (e + 1.0 / e));
}

AD_INLINE float ad_asinh_f32(float x) {
    const double a = ad_fabs_f64((double)x), square = a * a;
    return (float)ad_with_sign_f64(ad_log1p_f64(a + square / (1.0 + __builtin_sqrt(square + 1.0))), (double)x);
}

AD_INLINE float ad_acosh_f32(float x) {
    const double t = (double)x - 1.0, y = ad_log1p_f64(t + __builtin_sqrt(t * (t + 2.0)));
    return (float)(t < 0.0 ? __builtin_nan("") : y);
}

AD_INLINE float ad_atanh_f32(float x) {
    const double a = ad_fabs_f64((double)x);
    return (float)ad_with_sign_f64(0.5 * ad_log1p_f64(2.0 * a / (1.0 - a)), (double)x);
}

/* ---- inverse circular -------------------------------------------------------------------------------------------- */

/* Of the point (x, y), neither of them negative: 0 at the origin. */
AD_INLINE double ad_first_angle(double y, double x) {
    const bool steep = y > x;
    const double high = steep ? x : y, wide = steep ? y : x;
    const double ratio = high / wide, same = wide == 0.0 ? 0.0 : 1.0, t = high == wide ? same : ratio, s = t * t;
    double p = 1.1137900102555689e-3;
    p = ad_fma_f64(p, s, -7.3179626390562904e-3);
    p = ad_fma_f64(p, s, 0.022539879586502436);
    p = ad_fma_f64(p, s, -0.044689955809049976);
    p = ad_fma_f64(p, s, 0.067415980744213094);
    p = ad_fma_f64(p, s, -0.08811091749779372);
    p = ad_fma_f64(p, s, 0.11058223770973616);
    p = ad_fma_f64(p, s, -0.14279833063310643);
    p = ad_fma_f64(p, s, 0.19999671123632695);
    p = ad_fma_f64(p, s, -0.33333326899563409);
    const double angle = ad_fma_f64(t * s, p, t);
    return steep ? 0.5 * AD_PI - angle : angle;
}

AD_INLINE float ad_atan_f32(float x) {
    return (float)ad_with_sign_f64(ad_first_angle(ad_fabs_f64((double)x), 1.0), (double)x);
}

AD_INLINE float ad_atan2_f32(float y, float x) {
    const double angle = ad_first_angle(ad_fabs_f64((double)y), ad_fabs_f64((double)x));
    const double turned = ad_bits_f32(x) >> 31 ? AD_PI - angle : angle;
    return (float)ad_with_sign_f64(turned, (double)y);
}

AD_INLINE float ad_asin_f32(float x) {
    const double a = ad_fabs_f64((double)x);
    return (float)ad_with_sign_f64(ad_first_angle(a, __builtin_sqrt((1.0 - a) * (1.0 + a))), (double)x);
}

AD_INLINE float ad_acos_f32(float x) {
    const double a = ad_fabs_f64((double)x), angle = ad_first_angle(__builtin_sqrt((1.0 - a) * (1.0 + a)), a);
    return (float)(x < 0.0f ? AD_PI - angle : angle);
}

#define AD_POW(x, y)   _Generic((x), float : ad_pow_f32, default : pow)(x, y)
#define AD_ATAN2(y, x) _Generic((y), float : ad_atan2_f32, default : atan2)(y, x)
#define AD_CBRT(x)     _Generic((x), float : ad_cbrt_f32, default : cbrt)(x)
#define AD_SINH(x)     _Generic((x), float : ad_sinh_f32, default : sinh)(x)
#define AD_COSH(x)     _Generic((x), float : ad_cosh_f32, default : cosh)(x)
#define AD_ASINH(x)    _Generic((x), float : ad_asinh_f32, default : asinh)(x)
#define AD_ACOSH(x)    _Generic((x), float : ad_acosh_f32, default : acosh)(x)
#define AD_ATANH(x)    _Generic((x), float : ad_atanh_f32, default : atanh)(x)
#define AD_ASIN(x)     _Generic((x), float : ad_asin_f32, default : asin)(x)
#define AD_ACOS(x)     _Generic((x), float : ad_acos_f32, default : acos)(x)
#define AD_ATAN(x)     _Generic((x), float : ad_atan_f32, default : atan)(x)

#endif
