/* exp, expm1, log, log1p, tanh and the logistic function without branches, so that the compiler turns loops over them into vector
 * code. Over the whole range, subnormals included, exp and log are within 1.1 units in the last place, the others 2.5.
 * AD_EXP(x) and so on choose by type.
 *
 * exp: x = n ln2 + r, |r| <= ln2 / 2, exp(r) by its Taylor series, times 2^n in two steps so that neither overflows.
 * log: x = 2^e m, sqrt(1/2) <= m < sqrt(2), and with f = m - 1, s = f / (2 + f):
 *      log(1 + f) = f - f^2/2 + s (f^2/2 + R), R = 2 (s^2/3 + s^4/5 + ...)   (the arrangement of fdlibm's e_log.c)
 * log1p: log(u) for u = 1 + x as it is rounded, and what was lost in rounding, over u.
 * tanh(x) = t / (t + 2) with t = expm1(2|x|), and the sign of x; while t is small as t/2 - (t^2/2) / (t + 2), where the
 *      second term is too small for its roundings to count. */
#ifndef AD_ELEMENTARY_H
#define AD_ELEMENTARY_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t ad_bits_f32(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float ad_from_bits_f32(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static inline uint64_t ad_bits_f64(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline double ad_from_bits_f64(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- f32 ------------------------------------------------------------------------------------------------------ */

/* Adding 1.5 * 2^23 leaves the nearest integer in the low bits. */
#define AD_ROUND_F32 12582912.0f

/* expm1(r) for |r| <= ln2 / 2 */
static inline float ad_expm1_reduced_f32(float r) {
    float q = 1.0f / 5040;
    q = q * r + 1.0f / 720;
    q = q * r + 1.0f / 120;
    q = q * r + 1.0f / 24;
    q = q * r + 1.0f / 6;
    q = q * r + 0.5f;
    return r + r * r * q;
}

static inline float ad_reduce_f32(float x, int32_t *n) {
    float shifted = x * 1.44269504f + AD_ROUND_F32;
    float count = shifted - AD_ROUND_F32;
    *n = (int32_t)(ad_bits_f32(shifted) - ad_bits_f32(AD_ROUND_F32));
    return (x - count * 0.693359375f) + count * 2.12194440e-4f;
}

/* Of a NaN n is any number, and may overflow: hence unsigned. */
static inline float ad_power_of_2_f32(uint32_t n) { return ad_from_bits_f32((n + 127) << 23); }

static inline float ad_exp_f32(float x) {
    float z = x > 89.0f ? 89.0f : x;
    z = z < -104.0f ? -104.0f : z;
    int32_t n;
    float r = ad_reduce_f32(z, &n);
    uint32_t half = (uint32_t)(n >> 1), rest = (uint32_t)n - half;
    float y = (1.0f + ad_expm1_reduced_f32(r)) * ad_power_of_2_f32(half) * ad_power_of_2_f32(rest);
    return x == x ? y : x;
}

/* 2^n p + 2^n - 1 with 2^n in two factors, as above. */
static inline float ad_expm1_f32(float x) {
    float z = x > 89.0f ? 89.0f : x;
    z = z < -20.0f ? -20.0f : z;
    int32_t n;
    float p = ad_expm1_reduced_f32(ad_reduce_f32(z, &n));
    uint32_t half = (uint32_t)(n >> 1), rest = (uint32_t)n - half;
    float scale = ad_power_of_2_f32(half);
    float y = (scale * p + (scale - ad_power_of_2_f32(0 - rest))) * ad_power_of_2_f32(rest);
    return x == x && x != 0.0f ? y : x;
}

static inline float ad_log_f32(float x) {
    const float inf = __builtin_inff();
    const uint32_t low = 0x3f3504f3u; /* sqrt(1/2) */
    float scaled = x < 0x1p-126f ? x * 0x1p25f : x;
    uint32_t bits = ad_bits_f32(scaled) - low + (127u << 23);
    float e = (float)(int32_t)(bits >> 23) - (x < 0x1p-126f ? 152.0f : 127.0f);
    float f = ad_from_bits_f32((bits & 0x7fffffu) + low) - 1.0f;
    float s = f / (2.0f + f), z = s * s;
    float r = z * (2.0f / 3 + z * (2.0f / 5 + z * (2.0f / 7 + z * (2.0f / 9 + z * (2.0f / 11)))));
    float h = 0.5f * f * f;
    float y = e * 0.693359375f + (f - (h - s * (h + r)) - e * 2.12194440e-4f);
    y = x == 0.0f ? -inf : y;
    y = x < 0.0f ? __builtin_nanf("") : y;
    return x < inf ? y : x;
}

static inline float ad_log1p_f32(float x) {
    float u = 1.0f + x, lost = u > 0.0f && u < __builtin_inff() ? (x - (u - 1.0f)) / u : 0.0f;
    return x == 0.0f ? x : ad_log_f32(u) + lost;
}

static inline float ad_tanh_f32(float x) {
    float a = ad_from_bits_f32(ad_bits_f32(x) & 0x7fffffffu);
    a = a > 10.0f ? 10.0f : a;
    int32_t n;
    float p = ad_expm1_reduced_f32(ad_reduce_f32(2.0f * a, &n)), scale = ad_power_of_2_f32((uint32_t)n);
    float t = scale * p + (scale - 1.0f);
    float h = 0.5f * t, y = (t < 0.75f ? h : 0.0f) + (t < 0.75f ? -h * t : t) / (t + 2.0f);
    return ad_from_bits_f32(ad_bits_f32(y) | (ad_bits_f32(x) & 0x80000000u));
}

static inline float ad_sigmoid_f32(float x) {
    float e = ad_exp_f32(-ad_from_bits_f32(ad_bits_f32(x) & 0x7fffffffu));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* ---- f64 ------------------------------------------------------------------------------------------------------ */

#define AD_ROUND_F64 6755399441055744.0 /* 1.5 * 2^52 */

static inline double ad_expm1_reduced_f64(double r) {
    double q = 1.0 / 6227020800.0;
    q = q * r + 1.0 / 479001600.0;
    q = q * r + 1.0 / 39916800.0;
    q = q * r + 1.0 / 3628800.0;
    q = q * r + 1.0 / 362880.0;
    q = q * r + 1.0 / 40320.0;
    q = q * r + 1.0 / 5040.0;
    q = q * r + 1.0 / 720.0;
    q = q * r + 1.0 / 120.0;
    q = q * r + 1.0 / 24.0;
    q = q * r + 1.0 / 6.0;
    q = q * r + 0.5;
    return r + r * r * q;
}

static inline double ad_reduce_f64(double x, int64_t *n) {
    double shifted = x * 1.4426950408889634 + AD_ROUND_F64;
    double count = shifted - AD_ROUND_F64;
    *n = (int64_t)(ad_bits_f64(shifted) - ad_bits_f64(AD_ROUND_F64));
    return (x - count * 6.93147180369123816490e-01) - count * 1.90821492927058770002e-10;
}

/* Of a NaN these numbers are any, and may overflow: hence unsigned. */
static inline double ad_power_of_2_f64(uint64_t n) { return ad_from_bits_f64((n + 1023) << 52); }

static inline double ad_exp_f64(double x) {
    double z = x > 710.0 ? 710.0 : x;
    z = z < -746.0 ? -746.0 : z;
    int64_t n;
    double r = ad_reduce_f64(z, &n);
    /* n / 2 without an arithmetic shift, which AVX2 lacks for 64 bits */
    uint64_t half = (((uint64_t)n + 2048) >> 1) - 1024, rest = (uint64_t)n - half;
    double y = (1.0 + ad_expm1_reduced_f64(r)) * ad_power_of_2_f64(half) * ad_power_of_2_f64(rest);
    return x == x ? y : x;
}

static inline double ad_expm1_f64(double x) {
    double z = x > 710.0 ? 710.0 : x;
    z = z < -40.0 ? -40.0 : z;
    int64_t n;
    double p = ad_expm1_reduced_f64(ad_reduce_f64(z, &n));
    uint64_t half = (((uint64_t)n + 2048) >> 1) - 1024, rest = (uint64_t)n - half;
    double scale = ad_power_of_2_f64(half);
    double y = (scale * p + (scale - ad_power_of_2_f64(0 - rest))) * ad_power_of_2_f64(rest);
    return x == x && x != 0.0 ? y : x;
}

static inline double ad_log_f64(double x) {
    const double inf = __builtin_inf();
    const uint64_t low = 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    double scaled = x < 0x1p-1022 ? x * 0x1p54 : x;
    uint64_t bits = ad_bits_f64(scaled) - low + (1023ull << 52);
    double e = ad_from_bits_f64(0x4330000000000000u | bits >> 52) - 0x1p52 - (x < 0x1p-1022 ? 1077.0 : 1023.0);
    double f = ad_from_bits_f64((bits & 0xfffffffffffffu) + low) - 1.0;
    double s = f / (2.0 + f), z = s * s;
    double r = 2.0 / 23;
    r = r * z + 2.0 / 21;
    r = r * z + 2.0 / 19;
    r = r * z + 2.0 / 17;
    r = r * z + 2.0 / 15;
    r = r * z + 2.0 / 13;
    r = r * z + 2.0 / 11;
    r = r * z + 2.0 / 9;
    r = r * z + 2.0 / 7;
    r = r * z + 2.0 / 5;
    r = z * (r * z + 2.0 / 3);
    double h = 0.5 * f * f;
    double y = e * 6.93147180369123816490e-01 - ((h - (s * (h + r) + e * 1.90821492927058770002e-10)) - f);
    y = x == 0.0 ? -inf : y;
    y = x < 0.0 ? __builtin_nan("") : y;
    return x < inf ? y : x;
}

static inline double ad_log1p_f64(double x) {
    double u = 1.0 + x, lost = u > 0.0 && u < __builtin_inf() ? (x - (u - 1.0)) / u : 0.0;
    return x == 0.0 ? x : ad_log_f64(u) + lost;
}

static inline double ad_tanh_f64(double x) {
    double a = ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu);
    a = a > 20.0 ? 20.0 : a;
    int64_t n;
    double p = ad_expm1_reduced_f64(ad_reduce_f64(2.0 * a, &n)), scale = ad_power_of_2_f64((uint64_t)n);
    double t = scale * p + (scale - 1.0);
    double h = 0.5 * t, y = (t < 0.75 ? h : 0.0) + (t < 0.75 ? -h * t : t) / (t + 2.0);
    return ad_from_bits_f64(ad_bits_f64(y) | (ad_bits_f64(x) & 0x8000000000000000u));
}

static inline double ad_sigmoid_f64(double x) {
    double e = ad_exp_f64(-ad_from_bits_f64(ad_bits_f64(x) & 0x7fffffffffffffffu));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

#define AD_EXP(x)     _Generic((x), float : ad_exp_f32, default : ad_exp_f64)(x)
#define AD_EXPM1(x)   _Generic((x), float : ad_expm1_f32, default : ad_expm1_f64)(x)
#define AD_LOG(x)     _Generic((x), float : ad_log_f32, default : ad_log_f64)(x)
#define AD_LOG1P(x)   _Generic((x), float : ad_log1p_f32, default : ad_log1p_f64)(x)
#define AD_TANH(x)    _Generic((x), float : ad_tanh_f32, default : ad_tanh_f64)(x)
#define AD_SIGMOID(x) _Generic((x), float : ad_sigmoid_f32, default : ad_sigmoid_f64)(x)

/* ---- made of these and of the C library's functions, for either type ------------------------------------------------ */

/* AD_LIBM(pow, x, y) is powf or pow. */
#define AD_FIRST_OF(first, ...) (first)
#define AD_LIBM(name, ...)      _Generic(AD_FIRST_OF(__VA_ARGS__, 0), float : name##f, default : name)(__VA_ARGS__)

#define AD_PI           3.14159265358979323846
#define AD_SQRT_HALF    0.70710678118654752440
#define AD_INV_SQRT_2PI 0.39894228040143267794
#define AD_GELU_SCALE   1.59576912160573071176 /* 2 sqrt(2 / pi) */
#define AD_SELU_SCALE   1.05070098735548049342 /* Klambauer et al. 2017 */
#define AD_SELU_ALPHA   1.67326324235437728482

/* sinc'(x) / x as a series in x^2: the formula cancels near 0. Coefficient k is (-1)^k 2k pi^2k / (2k + 1)!, k = 1... */
enum { AD_SINC_TERMS = 9 };
static inline double ad_sinc_coefficient(int k) {
    double c = 2.0 * k;
    for (int i = 1; i <= k; i++) c *= -9.86960440108935861883 / ((2.0 * i) * (2.0 * i + 1));
    return c;
}
static inline double ad_sinc_series(double z) {
    double sum = 0;
    for (int k = AD_SINC_TERMS; k >= 1; k--) sum = sum * z + ad_sinc_coefficient(k);
    return sum;
}

#define DEFINE_COMPOSED(T, S)                                                                                        \
    static inline T ad_sign_##S(T x) { return x > 0 ? 1 : x < 0 ? -1 : x; }                                          \
    /* 0 where a is 0, whatever b is: a limit where b goes to infinity more slowly than a to 0 */                    \
    static inline T ad_masked_mul_##S(T a, T b) { return a == 0 ? 0 : a * b; }                                       \
    static inline T ad_max_##S(T a, T b) { return a != a ? a : b != b ? b : a > b ? a : b; }                         \
    static inline T ad_min_##S(T a, T b) { return a != a ? a : b != b ? b : a < b ? a : b; }                         \
    /* as in Python: of the sign of b */                                                                             \
    static inline T ad_remainder_##S(T a, T b) {                                                                     \
        T r = AD_LIBM(fmod, a, b);                                                                                   \
        return r != 0 && (r < 0) != (b < 0) ? r + b : r;                                                             \
    }                                                                                                                \
    static inline T ad_over_squares_##S(T a, T b) {                                                                  \
        T length = AD_LIBM(hypot, a, b);                                                                             \
        return a / length / length;                                                                                  \
    }                                                                                                                \
    static inline T ad_logaddexp_##S(T a, T b) {                                                                     \
        T most = ad_max_##S(a, b), d = AD_LIBM(fabs, a - b);                                                         \
        return a == b ? a + (T)0.69314718055994530942 : most + AD_LOG1P(AD_EXP(-d));                                 \
    }                                                                                                                \
    static inline T ad_logaddexp_share_##S(T a, T b) {                                                               \
        return a == b ? (a > -(T)INFINITY ? (T)0.5 : 0) : AD_SIGMOID(a - b);                                         \
    }                                                                                                                \
    /* both logarithms and what is in them cancel near 1/2 */                                                        \
    static inline T ad_logit_##S(T x) {                                                                              \
        return x > (T)0.25 && x < (T)0.75 ? 2 * AD_LIBM(atanh, 2 * x - 1) : AD_LOG(x / (1 - x));                     \
    }                                                                                                                \
    /* x less the even number next to it: in [-1, 1], and exact; sin(pi x) and cos(pi x) of it are those of x */     \
    static inline T ad_half_turns_##S(T x) { return x - 2 * AD_LIBM(rint, x / 2); }                                  \
    static inline T ad_sinc_##S(T x) {                                                                               \
        const T h = ad_half_turns_##S(x), a = AD_LIBM(fabs, h), near = a > (T)0.5 ? 1 - a : a;                       \
        const T y = AD_LIBM(copysign, AD_LIBM(sin, (T)AD_PI * near), h) / ((T)AD_PI * x);                            \
        return x == 0 ? 1 : AD_LIBM(fabs, x) == (T)INFINITY ? 0 : y;                                                 \
    }                                                                                                                \
    static inline T ad_sinc_slope_##S(T x) {                                                                         \
        const T a = AD_LIBM(fabs, x), h = AD_LIBM(fabs, ad_half_turns_##S(x));                                       \
        if (a < (T)0.25) return x * (T)ad_sinc_series((double)(x * x));                                              \
        return a == (T)INFINITY ? 0 : (AD_LIBM(sin, (T)AD_PI * ((T)0.5 - h)) - ad_sinc_##S(x)) / x;                  \
    }                                                                                                                \
    static inline T ad_softsign_##S(T x) {                                                                           \
        const T a = ad_min_##S(AD_LIBM(fabs, x), (T)1e30); /* where the quotient is 1 */                             \
        return AD_LIBM(copysign, a / (1 + a), x);                                                                    \
    }                                                                                                                \
    static inline T ad_normal_cdf_##S(T x) { return (T)0.5 * AD_LIBM(erfc, x * (T)-AD_SQRT_HALF); }                  \
    static inline T ad_normal_density_##S(T x) { return (T)AD_INV_SQRT_2PI * AD_EXP((T)-0.5 * x * x); }              \
    static inline T ad_gelu_tanh_u_##S(T x) { return (T)AD_GELU_SCALE * (x + (T)0.044715 * (x * x * x)); }           \
    static inline T ad_gelu_tanh_slope_##S(T x) {                                                                    \
        const T u = ad_gelu_tanh_u_##S(x), s = AD_SIGMOID(u), change = s * AD_SIGMOID(-u);                           \
        return s + ad_masked_mul_##S(change, x * ((T)AD_GELU_SCALE * (1 + (T)(3 * 0.044715) * (x * x))));            \
    }                                                                                                                \
    static inline T ad_silu_slope_##S(T x) {                                                                         \
        return ad_masked_mul_##S(AD_SIGMOID(x), 1 + ad_masked_mul_##S(AD_SIGMOID(-x), x));                           \
    }                                                                                                                \
    /* tanh(softplus(x)) = n / d with n = (1 + exp(x))^2 - 1, d = n + 2, or both over exp(2 x) */                     \
    static inline T ad_tanh_softplus_##S(T x) {                                                                      \
        const T e = AD_EXP(-AD_LIBM(fabs, x));                                                                       \
        return x > 0 ? (1 + 2 * e) / (1 + 2 * e + 2 * (e * e)) : e * (e + 2) / (e * (e + 2) + 2);                    \
    }                                                                                                                \
    static inline T ad_mish_slope_##S(T x) {                                                                         \
        const T e = AD_EXP(-AD_LIBM(fabs, x)), d = x > 0 ? 1 + 2 * e + 2 * (e * e) : e * (e + 2) + 2;                \
        const T change = 4 * (x > 0 ? e * e : e) * (1 + e) / (d * d); /* the derivative of n / d */                  \
        return ad_tanh_softplus_##S(x) + ad_masked_mul_##S(change, x);                                               \
    }

DEFINE_COMPOSED(float, f32)
DEFINE_COMPOSED(double, f64)

#define AD_OF_TYPE(name, x)      _Generic((x), float : name##_f32, default : name##_f64)
#define AD_SIGN(x)               AD_OF_TYPE(ad_sign, x)(x)
#define AD_MASKED_MUL(a, b)      AD_OF_TYPE(ad_masked_mul, a)(a, b)
#define AD_MAX(a, b)             AD_OF_TYPE(ad_max, a)(a, b)
#define AD_MIN(a, b)             AD_OF_TYPE(ad_min, a)(a, b)
#define AD_REMAINDER(a, b)       AD_OF_TYPE(ad_remainder, a)(a, b)
#define AD_OVER_SQUARES(a, b)    AD_OF_TYPE(ad_over_squares, a)(a, b)
#define AD_LOGADDEXP(a, b)       AD_OF_TYPE(ad_logaddexp, a)(a, b)
#define AD_LOGADDEXP_SHARE(a, b) AD_OF_TYPE(ad_logaddexp_share, a)(a, b)
#define AD_LOGIT(x)              AD_OF_TYPE(ad_logit, x)(x)
#define AD_SINC(x)               AD_OF_TYPE(ad_sinc, x)(x)
#define AD_SINC_SLOPE(x)         AD_OF_TYPE(ad_sinc_slope, x)(x)
#define AD_SOFTSIGN(x)           AD_OF_TYPE(ad_softsign, x)(x)
#define AD_NORMAL_CDF(x)         AD_OF_TYPE(ad_normal_cdf, x)(x)
#define AD_NORMAL_DENSITY(x)     AD_OF_TYPE(ad_normal_density, x)(x)
#define AD_GELU_U(x)             AD_OF_TYPE(ad_gelu_tanh_u, x)(x)
#define AD_GELU_TANH_SLOPE(x)    AD_OF_TYPE(ad_gelu_tanh_slope, x)(x)
#define AD_SILU_SLOPE(x)         AD_OF_TYPE(ad_silu_slope, x)(x)
#define AD_TANH_SOFTPLUS(x)      AD_OF_TYPE(ad_tanh_softplus, x)(x)
#define AD_MISH_SLOPE(x)         AD_OF_TYPE(ad_mish_slope, x)(x)

#endif
