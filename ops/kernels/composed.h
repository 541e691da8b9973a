/* What the elementwise operations are made of besides the elementary functions, for either type. */
#ifndef AD_COMPOSED_H
#define AD_COMPOSED_H

#include "ops/kernels/classical.h"

/* AD_LIBM(pow, x, y) is powf or pow. */
#define AD_FIRST_OF(first, ...) (first)
#define AD_LIBM(name, ...)      _Generic(AD_FIRST_OF(__VA_ARGS__, 0), float : name##f, default : name)(__VA_ARGS__)

#define AD_SQRT_HALF    0.70710678118654752440
#define AD_INV_SQRT_2PI 0.39894228040143267794
#define AD_GELU_SCALE   1.59576912160573071176 /* 2 sqrt(2 / pi) */
/* gelu(x) is 0 from - this on, and x from this on. */
#define AD_GELU_END(x) _Generic((x), float : 14.5f, default : 39.0)
#define AD_SELU_SCALE  1.05070098735548049342 /* Klambauer et al. 2017 */
#define AD_SELU_ALPHA  1.67326324235437728482

/* sinc'(x) / x as a series in x^2: the formula cancels near 0. Coefficient k is (-1)^k 2k pi^2k / (2k + 1)!, k = 1... */
enum { AD_SINC_TERMS = 9 };
AD_INLINE double ad_sinc_coefficient(int k) {
    double c = 2.0 * k;
    for (int i = 1; i <= k; i++) c *= -9.86960440108935861883 / ((2.0 * i) * (2.0 * i + 1));
    return c;
}
AD_INLINE double ad_sinc_series(double z) {
    double sum = 0;
    for (int k = AD_SINC_TERMS; k >= 1; k--) sum = sum * z + ad_sinc_coefficient(k);
    return sum;
}

#define DEFINE_COMPOSED(T, S)                                                                                        \
    AD_INLINE T ad_sign_##S(T x) { return x > 0 ? 1 : x < 0 ? -1 : x; }                                              \
    /* 0 where a is 0, whatever b is: a limit where b goes to infinity more slowly than a to 0 */                    \
    AD_INLINE T ad_masked_mul_##S(T a, T b) { return a == 0 ? 0 : a * b; }                                           \
    AD_INLINE T ad_max_##S(T a, T b) { return a != a ? a : b != b ? b : a > b ? a : b; }                             \
    AD_INLINE T ad_min_##S(T a, T b) { return a != a ? a : b != b ? b : a < b ? a : b; }                             \
    /* the powers that people write, without pow */                                                                  \
    AD_INLINE T ad_power_##S(T x, T c) {                                                                             \
        return c == 1 ? x : c == 2 ? x * x : c == 3 ? x * x * x : c == -1 ? 1 / x : AD_LIBM(pow, x, c);              \
    }                                                                                                                \
    /* as in Python: of the sign of b */                                                                             \
    AD_INLINE T ad_remainder_##S(T a, T b) {                                                                         \
        T r = AD_LIBM(fmod, a, b);                                                                                   \
        return r != 0 && (r < 0) != (b < 0) ? r + b : r;                                                             \
    }                                                                                                                \
    /* a / (a^2 + b^2) and sqrt(x^2 + 1), whose squares would overflow */                                            \
    AD_INLINE T ad_over_squares_##S(T a, T b) {                                                                      \
        const T most = ad_max_##S(AD_LIBM(fabs, a), AD_LIBM(fabs, b)), u = a / most, v = b / most;                   \
        return most == (T)INFINITY ? 0 : u / most / (u * u + v * v);                                                 \
    }                                                                                                                \
    AD_INLINE T ad_hypot_1_##S(T x) {                                                                                \
        const T a = AD_LIBM(fabs, x);                                                                                \
        return a > (T)1e10 ? a : AD_LIBM(sqrt, a * a + 1);                                                           \
    }                                                                                                                \
    AD_INLINE T ad_logaddexp_##S(T a, T b) {                                                                         \
        T most = ad_max_##S(a, b), d = AD_LIBM(fabs, a - b);                                                         \
        return a == b ? a + (T)0.69314718055994530942 : most + AD_LOG1P(AD_EXP(-d));                                 \
    }                                                                                                                \
    AD_INLINE T ad_logaddexp_share_##S(T a, T b) {                                                                   \
        return a == b ? (a > -(T)INFINITY ? (T)0.5 : 0) : AD_SIGMOID(a - b);                                         \
    }                                                                                                                \
    /* both logarithms and what is in them cancel near 1/2 */                                                        \
    AD_INLINE T ad_logit_##S(T x) {                                                                                  \
        return x > (T)0.25 && x < (T)0.75 ? 2 * AD_ATANH(2 * x - 1) : AD_LOG(x / (1 - x));                           \
    }                                                                                                                \
    /* x less the even number next to it: in [-1, 1], and exact; sin(pi x) and cos(pi x) of it are those of x */     \
    AD_INLINE T ad_half_turns_##S(T x) { return x - 2 * AD_LIBM(rint, x / 2); }                                      \
    AD_INLINE T ad_sinc_##S(T x) {                                                                                   \
        const T h = ad_half_turns_##S(x), a = AD_LIBM(fabs, h), near = a > (T)0.5 ? 1 - a : a;                       \
        const T y = AD_LIBM(copysign, AD_LIBM(sin, (T)AD_PI * near), h) / ((T)AD_PI * x);                            \
        return x == 0 ? 1 : AD_LIBM(fabs, x) == (T)INFINITY ? 0 : y;                                                 \
    }                                                                                                                \
    AD_INLINE T ad_sinc_slope_##S(T x) {                                                                             \
        const T a = AD_LIBM(fabs, x), h = AD_LIBM(fabs, ad_half_turns_##S(x));                                       \
        if (a < (T)0.25) return x * (T)ad_sinc_series((double)(x * x));                                              \
        return a == (T)INFINITY ? 0 : (AD_LIBM(sin, (T)AD_PI * ((T)0.5 - h)) - ad_sinc_##S(x)) / x;                  \
    }                                                                                                                \
    AD_INLINE T ad_softsign_##S(T x) {                                                                               \
        const T a = ad_min_##S(AD_LIBM(fabs, x), (T)1e30); /* where the quotient is 1 */                             \
        return AD_LIBM(copysign, a / (1 + a), x);                                                                    \
    }                                                                                                                \
    /* exp(-x^2) */                                                                                                  \
    AD_INLINE T ad_gauss_at_##S(T x) {                                                                               \
        return x == x ? ad_gauss_##S(ad_bounded_##S(x, sizeof(T) == sizeof(float) ? (T)11 : (T)28), -1) : x;         \
    }                                                                                                                \
    /* x Phi(x) = x - |x| Phi(-|x|) for x > 0, -|x| Phi(-|x|) for x < 0; its derivative likewise */                  \
    AD_INLINE T ad_gelu_##S(T x) {                                                                                   \
        const T a = ad_bounded_##S(x, AD_GELU_END(x)), e = ad_erfcx_##S(a * (T)AD_SQRT_HALF);                        \
        const T u = a * ((T)0.5 * e) * ad_gauss_##S(a, (T)-0.5);                                                     \
        return x < 0 ? -u : x - u;                                                                                   \
    }                                                                                                                \
    AD_INLINE T ad_gelu_slope_##S(T x) {                                                                             \
        const T a = ad_bounded_##S(x, AD_GELU_END(x)), e = ad_erfcx_##S(a * (T)AD_SQRT_HALF);                        \
        const T v = (a * (T)AD_INV_SQRT_2PI - (T)0.5 * e) * ad_gauss_##S(a, (T)-0.5);                                \
        return x < 0 ? -v : x >= 0 ? 1 + v : x;                                                                      \
    }                                                                                                                \
    AD_INLINE T ad_gelu_tanh_u_##S(T x) { return (T)AD_GELU_SCALE * (x + (T)0.044715 * (x * x * x)); }               \
    /* sigmoid(x), and sigmoid(-x) in `other` */                                                                     \
    AD_INLINE T ad_sigmoids_##S(T x, T *other) {                                                                     \
        const T e = AD_EXP(-AD_LIBM(fabs, x)), large = 1 / (1 + e), small = e * large;                               \
        *other = x < 0 ? large : small;                                                                              \
        return x < 0 ? small : large;                                                                                \
    }                                                                                                                \
    AD_INLINE T ad_gelu_tanh_slope_##S(T x) {                                                                        \
        T rest;                                                                                                      \
        const T s = ad_sigmoids_##S(ad_gelu_tanh_u_##S(x), &rest);                                                   \
        return s + ad_masked_mul_##S(s * rest, x * ((T)AD_GELU_SCALE * (1 + (T)(3 * 0.044715) * (x * x))));          \
    }                                                                                                                \
    AD_INLINE T ad_gelu_tanh_curve_##S(T x) {                                                                        \
        T rest;                                                                                                      \
        const T s = ad_sigmoids_##S(ad_gelu_tanh_u_##S(x), &rest), q = (T)(3 * 0.044715) * (x * x);                  \
        const T by_x = (T)AD_GELU_SCALE * (1 + q), twice = (T)(2 * AD_GELU_SCALE) * (1 + 2 * q);                     \
        return ad_masked_mul_##S(s * rest, twice + (rest - s) * (x * (by_x * by_x)));                                \
    }                                                                                                                \
    AD_INLINE T ad_silu_slope_##S(T x) {                                                                             \
        T rest;                                                                                                      \
        const T s = ad_sigmoids_##S(x, &rest);                                                                       \
        return ad_masked_mul_##S(s, 1 + ad_masked_mul_##S(rest, x));                                                 \
    }                                                                                                                \
    AD_INLINE T ad_softplus_##S(T x) { return (x > 0 ? x : 0) + AD_LOG1P(AD_EXP(-AD_LIBM(fabs, x))); }               \
    /* a log(b) and a log(1 + b), 0 where a is 0 */                                                                  \
    AD_INLINE T ad_xlogy_##S(T a, T b) { return a == 0 ? 0 : a * AD_LOG(b); }                                        \
    AD_INLINE T ad_xlog1py_##S(T a, T b) { return a == 0 ? 0 : a * AD_LOG1P(b); }                                    \
    /* tanh(softplus(x)) = n / d with n = (1 + exp(x))^2 - 1, d = n + 2, or both over exp(2 x) */                    \
    AD_INLINE T ad_tanh_softplus_##S(T x) {                                                                          \
        const T e = AD_EXP(-AD_LIBM(fabs, x));                                                                       \
        return x > 0 ? (1 + 2 * e) / (1 + 2 * e + 2 * (e * e)) : e * (e + 2) / (e * (e + 2) + 2);                    \
    }                                                                                                                \
    AD_INLINE T ad_mish_slope_##S(T x) {                                                                             \
        const T e = AD_EXP(-AD_LIBM(fabs, x)), d = x > 0 ? 1 + 2 * e + 2 * (e * e) : e * (e + 2) + 2;                \
        const T change = 4 * (x > 0 ? e * e : e) * (1 + e) / (d * d); /* the derivative of n / d */                  \
        return ad_tanh_softplus_##S(x) + ad_masked_mul_##S(change, x);                                               \
    }

DEFINE_COMPOSED(float, f32)
DEFINE_COMPOSED(double, f64)

#define AD_OF_TYPE(name, x)      _Generic((x), float : name##_f32, default : name##_f64)
#define AD_SIGN(x)               AD_OF_TYPE(ad_sign, x)(x)
#define AD_MASKED_MUL(a, b)      AD_OF_TYPE(ad_masked_mul, a)(a, b)
#define AD_POWER(x, c)           AD_OF_TYPE(ad_power, x)(x, c)
#define AD_MAX(a, b)             AD_OF_TYPE(ad_max, a)(a, b)
#define AD_MIN(a, b)             AD_OF_TYPE(ad_min, a)(a, b)
#define AD_REMAINDER(a, b)       AD_OF_TYPE(ad_remainder, a)(a, b)
#define AD_HYPOT_1(x)            AD_OF_TYPE(ad_hypot_1, x)(x)
#define AD_OVER_SQUARES(a, b)    AD_OF_TYPE(ad_over_squares, a)(a, b)
#define AD_LOGADDEXP(a, b)       AD_OF_TYPE(ad_logaddexp, a)(a, b)
#define AD_LOGADDEXP_SHARE(a, b) AD_OF_TYPE(ad_logaddexp_share, a)(a, b)
#define AD_LOGIT(x)              AD_OF_TYPE(ad_logit, x)(x)
#define AD_SINC(x)               AD_OF_TYPE(ad_sinc, x)(x)
#define AD_SINC_SLOPE(x)         AD_OF_TYPE(ad_sinc_slope, x)(x)
#define AD_SOFTPLUS(x)           AD_OF_TYPE(ad_softplus, x)(x)
#define AD_XLOGY(a, b)           AD_OF_TYPE(ad_xlogy, a)(a, b)
#define AD_XLOG1PY(a, b)         AD_OF_TYPE(ad_xlog1py, a)(a, b)
#define AD_SOFTSIGN(x)           AD_OF_TYPE(ad_softsign, x)(x)
#define AD_GAUSS(x)              AD_OF_TYPE(ad_gauss_at, x)(x)
#define AD_GELU(x)               AD_OF_TYPE(ad_gelu, x)(x)
#define AD_GELU_SLOPE(x)         AD_OF_TYPE(ad_gelu_slope, x)(x)
#define AD_GELU_U(x)             AD_OF_TYPE(ad_gelu_tanh_u, x)(x)
#define AD_GELU_TANH_SLOPE(x)    AD_OF_TYPE(ad_gelu_tanh_slope, x)(x)
#define AD_GELU_TANH_CURVE(x)    AD_OF_TYPE(ad_gelu_tanh_curve, x)(x)
#define AD_SILU_SLOPE(x)         AD_OF_TYPE(ad_silu_slope, x)(x)
#define AD_TANH_SOFTPLUS(x)      AD_OF_TYPE(ad_tanh_softplus, x)(x)
#define AD_MISH_SLOPE(x)         AD_OF_TYPE(ad_mish_slope, x)(x)

#endif
