/* exp, exp2, expm1, log, log2, log10, log1p, tanh, the logistic function, erf and erfc without branches, so that the compiler
 * turns loops over them into vector code. Over the whole range, subnormals included, exp and log are within 1.1 units in the
 * last place, the error functions within 4, the others within 2.5. AD_EXP(x) and so on choose by type.
 *
 * exp: x = n ln2 + r, |r| <= ln2 / 2, exp(r) by a polynomial (f64: its Taylor series), and n is added to the exponent.
 * log: x = 2^e m, sqrt(1/2) <= m < sqrt(2), f = m - 1. In f32 log(1 + f) = f - f^2/2 + f^3 times a polynomial;
 *      in f64, with s = f / (2 + f), f - f^2/2 + s (f^2/2 + R), R = 2 (s^2/3 + s^4/5 + ...) (as in fdlibm's e_log.c).
 * log1p: log(u) for u = 1 + x as it is rounded, and what was lost in rounding, over u.
 * erfc(x) = exp(-x^2) E(x) for x > 0: (x + k) E(x) in f32, (1 + 2 x) E(x) in f64, which hardly vary, are polynomials in
 *      (x - k) / (x + k) (Shepherd and Laframboise 1981), and x^2 is taken in two parts so that exp(-x^2) keeps its digits
 *      far out. erf(x) is 1 - erfc(x), or below 1 x times a polynomial in x^2; that it has few digits to lose where it is
 *      close to 1 lets f32 take erfc as the exponential of a polynomial. All of them interpolate at Chebyshev points, or
 *      have the least largest error, to the last place.
 * tanh(x) = t / (t + 2) with t = expm1(2|x|), and the sign of x; while t is small as t/2 - (t^2/2) / (t + 2), where the
 *      second term is too small for its roundings to count. */
#ifndef AD_ELEMENTARY_H
#define AD_ELEMENTARY_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define AD_PI 3.14159265358979323846

/* A call in a loop keeps it from becoming vector code. */
#define AD_INLINE static inline __attribute__((always_inline))

AD_INLINE uint32_t ad_bits_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
AD_INLINE float ad_from_bits_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
AD_INLINE uint64_t ad_bits_f64(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
AD_INLINE double ad_from_bits_f64(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* a b + c, rounded once where the processor does that; elsewhere a call would. */
#if defined __FMA__
AD_INLINE float ad_fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
AD_INLINE double ad_fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
AD_INLINE float ad_fma_f32(float a, float b, float c) { return a * b + c; }
AD_INLINE double ad_fma_f64(double a, double b, double c) { return a * b + c; }
#endif

/* ---- f32 ------------------------------------------------------------------------------------------------------ */

/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits. */
#define AD_ROUND_F32 12582912.0f

/* expm1(r) for |r| <= ln2 / 2 */
AD_INLINE float ad_expm1_reduced_f32(float r) {
    float q = 1.3863756e-3f;
    q = ad_fma_f32(q, r, 8.36751e-3f);
    q = ad_fma_f32(q, r, 0.041667238f);
    q = ad_fma_f32(q, r, 0.16666535f);
    q = ad_fma_f32(q, r, 0.5f);
    return ad_fma_f32(r * r, q, r);
}

AD_INLINE float ad_reduce_f32(float x, int32_t *n) {
    float shifted = ad_fma_f32(x, 1.44269504f, AD_ROUND_F32);
    float count = shifted - AD_ROUND_F32;
    *n = (int32_t)(ad_bits_f32(shifted) - ad_bits_f32(AD_ROUND_F32));
    return ad_fma_f32(count, 2.12194440e-4f, ad_fma_f32(count, -0.693359375f, x));
}

/* Of a NaN n is any number, and may overflow: hence unsigned. */
AD_INLINE float ad_power_of_2_f32(uint32_t n) { return ad_from_bits_f32((n + 127) << 23); }

/* 2^n exp(r) where that is finite, times `factor`: n is added to the exponent, but for what makes the result subnormal. Of a
 * NaN it may make a number. */
AD_INLINE float ad_exp_scaled_f32(float r, int32_t n, float factor) {
    const bool tiny = n < -120;
    const uint32_t most = (uint32_t)n + (tiny ? 64 : 0);
    const float y = ad_from_bits_f32(ad_bits_f32(1.0f + ad_expm1_reduced_f32(r)) + (most << 23));
    return y * (tiny ? factor * 0x1p-64f : factor);
}

/* What is 0 in the end becomes so by a factor of 0: a product that underflows costs a hundred times as much. */
AD_INLINE float ad_exp_f32(float x) {
    const bool gone = x < -104.0f;
    int32_t n;
    float r = ad_reduce_f32(gone ? 0.0f : x, &n), y = ad_exp_scaled_f32(r, n, gone ? 0.0f : 1.0f);
    return x < 88.722839f ? y : x + __builtin_inff();
}

AD_INLINE float ad_exp2_f32(float x) {
    const bool gone = x < -150.0f;
    const float z = gone ? 0.0f : x, shifted = z + AD_ROUND_F32, part = z - (shifted - AD_ROUND_F32);
    const int32_t n = (int32_t)(ad_bits_f32(shifted) - ad_bits_f32(AD_ROUND_F32));
    const float r = ad_fma_f32(part, 0.693359375f, part * -2.12194440e-4f),
                y = ad_exp_scaled_f32(r, n, gone ? 0.0f : 1.0f);
    return x < 128.0f ? y : x + __builtin_inff();
}

/* 2^n p + 2^n - 1, as twice the half: 2^n may overflow. */
AD_INLINE float ad_expm1_f32(float x) {
    float z = x > 89.0f ? 89.0f : x;
    z = z < -20.0f ? -20.0f : z;
    int32_t n;
    float p = ad_expm1_reduced_f32(ad_reduce_f32(z, &n)), scale = ad_power_of_2_f32((uint32_t)n - 1);
    float y = 2.0f * ad_fma_f32(scale, p, scale - 0.5f);
    return x != 0.0f ? y : x;
}

/* x = 2^e m, sqrt(1/2) <= m < sqrt(2): f = m - 1, and log(1 + f) = f + curved. */
AD_INLINE float ad_log_parts_f32(float x, float *f, float *curved) {
    const uint32_t low = 0x3f3504f3u; /* sqrt(1/2) */
    float scaled = x < 0x1p-126f ? x * 0x1p25f : x;
    uint32_t bits = ad_bits_f32(scaled) - low + (127u << 23);
    *f = ad_from_bits_f32((bits & 0x7fffffu) + low) - 1.0f;
    float q = -0.076344974f;
    q = ad_fma_f32(q, *f, 0.12761578f);
    q = ad_fma_f32(q, *f, -0.13160183f);
    q = ad_fma_f32(q, *f, 0.14201757f);
    q = ad_fma_f32(q, *f, -0.16623357f);
    q = ad_fma_f32(q, *f, 0.20001227f);
    q = ad_fma_f32(q, *f, -0.2500082f);
    q = ad_fma_f32(q, *f, 0.3333333f);
    *curved = ad_fma_f32(*f, q, -0.5f) * (*f * *f);
    return (float)(int32_t)(bits >> 23) - (x < 0x1p-126f ? 152.0f : 127.0f);
}

/* The logarithm of x, to any base, where it is not y. */
AD_INLINE float ad_log_ends_f32(float x, float y) {
    y = x > 0.0f ? y : x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
    return x < __builtin_inff() ? y : x;
}

AD_INLINE float ad_log_f32(float x) {
    float f, curved, e = ad_log_parts_f32(x, &f, &curved);
    return ad_log_ends_f32(x, ad_fma_f32(e, 0.693359375f, f + ad_fma_f32(e, -2.12194440e-4f, curved)));
}

/* 1 / log(2) = 1.4375 + 0.0051950409, 1 / log(10) = 0.43359375 + 7.0073198e-4 */
AD_INLINE float ad_log2_f32(float x) {
    float f, curved, e = ad_log_parts_f32(x, &f, &curved);
    float less = ad_fma_f32(curved, 1.44269504f, f * 5.19504089e-3f);
    return ad_log_ends_f32(x, e + ad_fma_f32(f, 1.4375f, less));
}

AD_INLINE float ad_log10_f32(float x) {
    float f, curved, e = ad_log_parts_f32(x, &f, &curved);
    float less = ad_fma_f32(curved, 0.434294482f, ad_fma_f32(f, 7.00731903e-4f, e * 4.60503944e-6f));
    return ad_log_ends_f32(x, ad_fma_f32(e, 0.301025391f, ad_fma_f32(f, 0.43359375f, less)));
}

AD_INLINE float ad_log1p_f32(float x) {
    float u = 1.0f + x, lost = u > 0.0f && u < __builtin_inff() ? (x - (u - 1.0f)) / u : 0.0f;
    return x == 0.0f ? x : ad_log_f32(u) + lost;
}

AD_INLINE float ad_tanh_f32(float x) {
    float a = ad_from_bits_f32(ad_bits_f32(x) & 0x7fffffffu);
    a = a > 10.0f ? 10.0f : a;
    int32_t n;
    float p = ad_expm1_reduced_f32(ad_reduce_f32(2.0f * a, &n)), scale = ad_power_of_2_f32((uint32_t)n);
    float t = ad_fma_f32(scale, p, scale - 1.0f);
    float h = 0.5f * t, y = (t < 0.75f ? h : 0.0f) + (t < 0.75f ? -h * t : t) / (t + 2.0f);
    return ad_from_bits_f32(ad_bits_f32(y) | (ad_bits_f32(x) & 0x80000000u));
}

AD_INLINE float ad_sigmoid_f32(float x) {
    float e = ad_exp_f32(-ad_from_bits_f32(ad_bits_f32(x) & 0x7fffffffu));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* exp(c x^2) for c = -1 or -1/2 and x from 0 to where that is 0, not much further, with what was lost in rounding the square.
 * Of a NaN it may make a number. */
AD_INLINE float ad_gauss_f32(float x, float c) {
#if defined __FMA__
    const float square = x * x, rest = ad_fma_f32(x, x, -square);
#else
    const float high = ad_from_bits_f32(ad_bits_f32(x) & 0xfffff000u);
    const float square = high * high, rest = (x - high) * (x + high);
#endif
    int32_t n;
    float r = ad_reduce_f32(c * square, &n);
    return ad_exp_scaled_f32(ad_fma_f32(c, rest, r), n, 1.0f);
}

/* E(x) = exp(x^2) erfc(x) for x >= 0 */
AD_INLINE float ad_erfcx_f32(float x) {
    float far = x + 2.0f, d = 1.0f / far, s = (x - 2.0f) * d;
    float q = 6.73049058e-05f;
    q = ad_fma_f32(q, s, 4.56321511e-05f);
    q = ad_fma_f32(q, s, -0.000587706004f);
    q = ad_fma_f32(q, s, -0.000828975242f);
    q = ad_fma_f32(q, s, 0.00305958398f);
    q = ad_fma_f32(q, s, 0.0064741092f);
    q = ad_fma_f32(q, s, -0.021504993f);
    q = ad_fma_f32(q, s, -0.0364414516f);
    q = ad_fma_f32(q, s, 0.279471707f);
    q = ad_fma_f32(q, s, -0.687160713f);
    q = ad_fma_f32(q, s, 1.02158271f);
    float y = q * d;
    return ad_fma_f32(ad_fma_f32(-y, far, q), d, y); /* y, less its roundings where q - y far is exact */
}

/* min(|x|, most), or NaN */
AD_INLINE float ad_size_f32(float x, float most) {
    float a = ad_from_bits_f32(ad_bits_f32(x) & 0x7fffffffu);
    return a > most ? most : a;
}
/* min(|x|, most), and `most` of a NaN: a smallest integer is one instruction */
AD_INLINE float ad_bounded_f32(float x, float most) {
    const int32_t size = (int32_t)(ad_bits_f32(x) & 0x7fffffffu), bound = (int32_t)ad_bits_f32(most);
    return ad_from_bits_f32((uint32_t)(size < bound ? size : bound));
}

/* erf(x) / x for |x| <= 1, from z = x^2 */
AD_INLINE float ad_erf_series_f32(float z) {
    float q = 7.87587506e-5f;
    q = ad_fma_f32(q, z, -8.01686429e-4f);
    q = ad_fma_f32(q, z, 5.18908742e-3f);
    q = ad_fma_f32(q, z, -0.0268542120f);
    q = ad_fma_f32(q, z, 0.112835947f);
    q = ad_fma_f32(q, z, -0.376126267f);
    q = ad_fma_f32(q, z, 1.12837917f);
    return q;
}

AD_INLINE float ad_erfc_f32(float x) {
    float a = ad_size_f32(x, 11.0f), tail = ad_gauss_f32(a, -1.0f) * ad_erfcx_f32(a);
    float near = ad_fma_f32(-x, ad_erf_series_f32(a * a), 1.0f);
    return a < 0.75f ? near : x < 0.0f ? 2.0f - tail : tail;
}

/* log(erfc(a)) for 1 <= a <= 3.95; from there on erf is 1 */
AD_INLINE float ad_log_erfc_f32(float a) {
    float q = 1.65832052e-6f;
    q = ad_fma_f32(q, a, -4.64599237e-5f);
    q = ad_fma_f32(q, a, 6.00055479e-4f);
    q = ad_fma_f32(q, a, -4.77419103e-3f);
    q = ad_fma_f32(q, a, 0.0264608792f);
    q = ad_fma_f32(q, a, -0.110147179f);
    q = ad_fma_f32(q, a, -0.63175755f);
    q = ad_fma_f32(q, a, -1.13027207f);
    return ad_fma_f32(q, a, 3.29357089e-4f);
}

AD_INLINE float ad_erf_f32(float x) {
    float a = ad_size_f32(x, 3.95f), near = a * ad_erf_series_f32(a * a);
    int32_t n;
    float r = ad_reduce_f32(ad_log_erfc_f32(a), &n), scale = ad_power_of_2_f32((uint32_t)n);
    float far = 1.0f - ad_fma_f32(scale, ad_expm1_reduced_f32(r), scale), y = a < 1.0f ? near : far;
    return ad_from_bits_f32(ad_bits_f32(y) | (ad_bits_f32(x) & 0x80000000u));
}

/* ---- f64 ------------------------------------------------------------------------------------------------------ */

#define AD_ROUND_F64 6755399441055744.0 /* 1.5 * 2^52 */

AD_INLINE double ad_expm1_reduced_f64(double r) {
    double q = 1.0 / 6227020800.0;
    q = ad_fma_f64(q, r, 1.0 / 479001600.0);
    q = ad_fma_f64(q, r, 1.0 / 39916800.0);
    q = ad_fma_f64(q, r, 1.0 / 3628800.0);
    q = ad_fma_f64(q, r, 1.0 / 362880.0);
    q = ad_fma_f64(q, r, 1.0 / 40320.0);
    q = ad_fma_f64(q, r, 1.0 / 5040.0);
    q = ad_fma_f64(q, r, 1.0 / 720.0);
    q = ad_fma_f64(q, r, 1.0 / 120.0);
    q = ad_fma_f64(q, r, 1.0 / 24.0);
    q = ad_fma_f64(q, r, 1.0 / 6.0);
    q = ad_fma_f64(q, r, 0.5);
    return ad_fma_f64(r * r, q, r);
}

AD_INLINE double ad_reduce_f64(double x, int64_t *n) {
    double shifted = ad_fma_f64(x, 1.4426950408889634, AD_ROUND_F64);
    double count = shifted - AD_ROUND_F64;
    *n = (int64_t)(ad_bits_f64(shifted) - ad_bits_f64(AD_ROUND_F64));
    return ad_fma_f64(count, -1.90821492927058770002e-10, ad_fma_f64(count, -6.93147180369123816490e-01, x));
}

/* Of a NaN these numbers are any, and may overflow: hence unsigned. */
AD_INLINE double ad_power_of_2_f64(uint64_t n) { return ad_from_bits_f64((n + 1023) << 52); }

AD_INLINE double ad_exp_scaled_f64(double r, int64_t n, double factor) {
    const bool tiny = n < -1000;
    const uint64_t most = (uint64_t)n + (tiny ? 128 : 0);
    const double y = ad_from_bits_f64(ad_bits_f64(1.0 + ad_expm1_reduced_f64(r)) + (most << 52));
    return y * (tiny ? factor * 0x1p-128 : factor);
}

AD_INLINE double ad_exp_f64(double x) {
    const bool gone = x < -746.0;
    int64_t n;
    double r = ad_reduce_f64(gone ? 0.0 : x, &n), y = ad_exp_scaled_f64(r, n, gone ? 0.0 : 1.0);
    return x < 709.78271289338409 ? y : x + __builtin_inf();
}

AD_INLINE double ad_exp2_f64(double x) {
    const bool gone = x < -1075.0;
    const double z = gone ? 0.0 : x, shifted = z + AD_ROUND_F64, part = z - (shifted - AD_ROUND_F64);
    const int64_t n = (int64_t)(ad_bits_f64(shifted) - ad_bits_f64(AD_ROUND_F64));
    const double r = ad_fma_f64(part, 6.93147180369123816490e-01, part * 1.90821492927058770002e-10),
                 y = ad_exp_scaled_f64(r, n, gone ? 0.0 : 1.0);
    return x < 1024.0 ? y : x + __builtin_inf();
}

AD_INLINE double ad_expm1_f64(double x) {
    double z = x > 710.0 ? 710.0 : x;
    z = z < -40.0 ? -40.0 : z;
    int64_t n;
    double p = ad_expm1_reduced_f64(ad_reduce_f64(z, &n)), scale = ad_power_of_2_f64((uint64_t)n - 1);
    double y = 2.0 * ad_fma_f64(scale, p, scale - 0.5);
    return x != 0.0 ? y : x;
}

AD_INLINE double ad_log_parts_f64(double x, double *f, double *curved) {
    const uint64_t low = 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    double scaled = x < 0x1p-1022 ? x * 0x1p54 : x;
    uint64_t bits = ad_bits_f64(scaled) - low + (1023ull << 52);
    *f = ad_from_bits_f64((bits & 0xfffffffffffffu) + low) - 1.0;
    double s = *f / (2.0 + *f), z = s * s;
    double r = 2.0 / 23;
    r = ad_fma_f64(r, z, 2.0 / 21);
    r = ad_fma_f64(r, z, 2.0 / 19);
    r = ad_fma_f64(r, z, 2.0 / 17);
    r = ad_fma_f64(r, z, 2.0 / 15);
    r = ad_fma_f64(r, z, 2.0 / 13);
    r = ad_fma_f64(r, z, 2.0 / 11);
    r = ad_fma_f64(r, z, 2.0 / 9);
    r = ad_fma_f64(r, z, 2.0 / 7);
    r = ad_fma_f64(r, z, 2.0 / 5);
    r = z * ad_fma_f64(r, z, 2.0 / 3);
    double h = 0.5 * *f * *f;
    *curved = ad_fma_f64(s, h + r, -h);
    return ad_from_bits_f64(0x4330000000000000u | bits >> 52) - 0x1p52 - (x < 0x1p-1022 ? 1077.0 : 1023.0);
}

AD_INLINE double ad_log_ends_f64(double x, double y) {
    y = x > 0.0 ? y : x == 0.0 ? -__builtin_inf() : __builtin_nan("");
    return x < __builtin_inf() ? y : x;
}

AD_INLINE double ad_log_f64(double x) {
    double f, curved, e = ad_log_parts_f64(x, &f, &curved);
    double less = ad_fma_f64(e, 1.90821492927058770002e-10, curved);
    return ad_log_ends_f64(x, ad_fma_f64(e, 6.93147180369123816490e-01, f + less));
}

/* 1 / log(2) and 1 / log(10) in two parts */
AD_INLINE double ad_log2_f64(double x) {
    double f, curved, e = ad_log_parts_f64(x, &f, &curved);
    double less = ad_fma_f64(curved, 1.4426950408889634, f * 4.3584687174185184e-09);
    return ad_log_ends_f64(x, e + ad_fma_f64(f, 1.4426950365304947, less));
}

AD_INLINE double ad_log10_f64(double x) {
    double f, curved, e = ad_log_parts_f64(x, &f, &curved);
    double less = ad_fma_f64(curved, 0.43429448190325182765,
                             ad_fma_f64(f, 1.0728208431540585e-09, e * 1.42050232272661e-13));
    return ad_log_ends_f64(x, ad_fma_f64(e, 0.30102999566383914, ad_fma_f64(f, 0.434294480830431, less)));
}

AD_INLINE double ad_log1p_f64(double x) {
    double u = 1.0 + x, lost = u > 0.0 && u < __builtin_inf() ? (x - (u - 1.0)) / u : 0.0;
    return x == 0.0 ? x : ad_log_f64(u) + lost;
}

AD_INLINE double ad_tanh_f64(double x) {
    double a = ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu);
    a = a > 20.0 ? 20.0 : a;
    int64_t n;
    double p = ad_expm1_reduced_f64(ad_reduce_f64(2.0 * a, &n)), scale = ad_power_of_2_f64((uint64_t)n);
    double t = ad_fma_f64(scale, p, scale - 1.0);
    double h = 0.5 * t, y = (t < 0.75 ? h : 0.0) + (t < 0.75 ? -h * t : t) / (t + 2.0);
    return ad_from_bits_f64(ad_bits_f64(y) | (ad_bits_f64(x) & 0x8000000000000000u));
}

AD_INLINE double ad_sigmoid_f64(double x) {
    double e = ad_exp_f64(-ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

AD_INLINE double ad_gauss_f64(double x, double c) {
#if defined __FMA__
    const double square = x * x, rest = ad_fma_f64(x, x, -square);
#else
    const double high = ad_from_bits_f64(ad_bits_f64(x) & 0xfffffffff8000000u);
    const double square = high * high, rest = (x - high) * (x + high);
#endif
    int64_t n;
    double r = ad_reduce_f64(c * square, &n);
    return ad_exp_scaled_f64(ad_fma_f64(c, rest, r), n, 1.0);
}

/* E(x) = exp(x^2) erfc(x) for x >= 0 */
AD_INLINE double ad_erfcx_f64(double x) {
    double s = (x - 4.0) / (x + 4.0);
    double q = 1.2694173376410971e-9;
    q = ad_fma_f64(q, s, 1.8860286899197188e-9);
    q = ad_fma_f64(q, s, -1.4090295142793565e-8);
    q = ad_fma_f64(q, s, -1.8044290688404783e-8);
    q = ad_fma_f64(q, s, 1.1002842107082326e-7);
    q = ad_fma_f64(q, s, 7.4765944953955058e-8);
    q = ad_fma_f64(q, s, -8.2542006936128397e-7);
    q = ad_fma_f64(q, s, 2.9375439807550607e-7);
    q = ad_fma_f64(q, s, 5.7097463955442233e-6);
    q = ad_fma_f64(q, s, -1.1222040504961904e-5);
    q = ad_fma_f64(q, s, -2.4399226953333663e-5);
    q = ad_fma_f64(q, s, 1.5062169709734075e-4);
    q = ad_fma_f64(q, s, -1.9925668919196227e-4);
    q = ad_fma_f64(q, s, -7.5777329775614344e-4);
    q = ad_fma_f64(q, s, 5.0319699766074080e-3);
    q = ad_fma_f64(q, s, -0.016197734055897644);
    q = ad_fma_f64(q, s, 0.037167515537679822);
    q = ad_fma_f64(q, s, -0.066330365812420140);
    q = ad_fma_f64(q, s, 0.093732834998335531);
    q = ad_fma_f64(q, s, -0.10103906603629406);
    q = ad_fma_f64(q, s, 0.068097054254693091);
    q = ad_fma_f64(q, s, 0.015379652102619548);
    q = ad_fma_f64(q, s, -0.13962111684056252);
    q = ad_fma_f64(q, s, 1.2329951186255525);
    return q / (1.0 + 2.0 * x);
}

/* min(|x|, most), or NaN */
AD_INLINE double ad_size_f64(double x, double most) {
    double a = ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu);
    return a > most ? most : a;
}
/* min(|x|, most), and `most` of a NaN: a smallest integer is one instruction */
AD_INLINE double ad_bounded_f64(double x, double most) {
    const int64_t size = (int64_t)(ad_bits_f64(x) & 0x7fffffffffffffffu), bound = (int64_t)ad_bits_f64(most);
    return ad_from_bits_f64((uint64_t)(size < bound ? size : bound));
}

/* erf(x) / x for |x| <= 1, from z = x^2 */
AD_INLINE double ad_erf_series_f64(double z) {
    double q = -7.7958988270021422e-10;
    q = ad_fma_f64(q, z, 1.3720064546777686e-8);
    q = ad_fma_f64(q, z, -1.6208483801871706e-7);
    q = ad_fma_f64(q, z, 1.6447424703317362e-6);
    q = ad_fma_f64(q, z, -1.4924736907419660e-5);
    q = ad_fma_f64(q, z, 1.2055294904839708e-4);
    q = ad_fma_f64(q, z, -8.5483259753896921e-4);
    q = ad_fma_f64(q, z, 5.2239776071164227e-3);
    q = ad_fma_f64(q, z, -0.026866170643237770);
    q = ad_fma_f64(q, z, 0.11283791670945006);
    q = ad_fma_f64(q, z, -0.37612638903183540);
    q = ad_fma_f64(q, z, 1.1283791670955126);
    return q;
}

AD_INLINE double ad_erfc_f64(double x) {
    double a = ad_size_f64(x, 28.0), tail = ad_gauss_f64(a, -1.0) * ad_erfcx_f64(a);
    double near = ad_fma_f64(-x, ad_erf_series_f64(a * a), 1.0);
    return a < 0.5 ? near : x < 0.0 ? 2.0 - tail : tail;
}

AD_INLINE double ad_erf_f64(double x) {
    double a = ad_size_f64(x, 28.0), near = a * ad_erf_series_f64(a * a);
    double far = 1.0 - ad_gauss_f64(a, -1.0) * ad_erfcx_f64(a), y = a < 1.0 ? near : far;
    return ad_from_bits_f64(ad_bits_f64(y) | (ad_bits_f64(x) & 0x8000000000000000u));
}

#define AD_FMA(a, b, c) _Generic((a), float : ad_fma_f32, default : ad_fma_f64)(a, b, c)
#define AD_EXP(x)       _Generic((x), float : ad_exp_f32, default : ad_exp_f64)(x)
#define AD_EXP2(x)      _Generic((x), float : ad_exp2_f32, default : ad_exp2_f64)(x)
#define AD_EXPM1(x)     _Generic((x), float : ad_expm1_f32, default : ad_expm1_f64)(x)
#define AD_ERF(x)       _Generic((x), float : ad_erf_f32, default : ad_erf_f64)(x)
#define AD_ERFC(x)      _Generic((x), float : ad_erfc_f32, default : ad_erfc_f64)(x)
#define AD_LOG(x)       _Generic((x), float : ad_log_f32, default : ad_log_f64)(x)
#define AD_LOG2(x)      _Generic((x), float : ad_log2_f32, default : ad_log2_f64)(x)
#define AD_LOG10(x)     _Generic((x), float : ad_log10_f32, default : ad_log10_f64)(x)
#define AD_LOG1P(x)     _Generic((x), float : ad_log1p_f32, default : ad_log1p_f64)(x)
#define AD_TANH(x)      _Generic((x), float : ad_tanh_f32, default : ad_tanh_f64)(x)
#define AD_SIGMOID(x)   _Generic((x), float : ad_sigmoid_f32, default : ad_sigmoid_f64)(x)

#endif
