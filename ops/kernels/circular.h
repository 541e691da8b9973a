/* sin, cos and tan without branches, so that the compiler turns loops over them into vector code. They are within 1 unit in
 * the last place for |x| below AD_REACH_F32 and AD_REACH_F64. Beyond, numbers of their own precision no longer say how far x is
 * from a multiple of pi / 2: `far` becomes 1, and the caller asks again with `exact`, for the C library's.
 *
 * x = n pi/2 + r, |r| <= pi/4, with pi/2 in three parts, of which the first two have so few digits that their multiples are
 * exact (Cody and Waite 1980); sin(r) and cos(r) by polynomials, and n says which of them it is, and its sign. f32 is computed
 * in f64; in f64 r has two parts, as in fdlibm's k_sin.c and k_cos.c. tan is of our own in f32 only. */
#ifndef AD_CIRCULAR_H
#define AD_CIRCULAR_H

#include "ops/kernels/elementary.h"

#define AD_REACH_F32 1048576.0f
#define AD_REACH_F64 32768.0

#define AD_HALF_PI_1 0x1.921fb544p+0 /* 33 digits, 33, 53 */
#define AD_HALF_PI_2 0x1.0b4611a6p-34
#define AD_HALF_PI_3 0x1.3198a2e037073p-69

/* The integer nearest to x / (pi / 2); its last digits are those of `n`. */
AD_INLINE double ad_quarters(double x, uint64_t *n) {
    const double shifted = ad_fma_f64(x, 0.63661977236758134308, AD_ROUND_F64);
    *n = ad_bits_f64(shifted);
    return shifted - AD_ROUND_F64;
}

/* sin(r + n pi/2) from sin(r) and cos(r) */
AD_INLINE double ad_choose_quarter(double sine, double cosine, uint64_t n) {
    return ad_from_bits_f64(ad_bits_f64(n & 1 ? cosine : sine) ^ (n & 2) << 62);
}

/* ---- f32 ------------------------------------------------------------------------------------------------------ */

AD_INLINE uint64_t ad_sine_and_cosine_f32(float x, double *sine, double *cosine) {
    uint64_t n;
    const double k = ad_quarters((double)x, &n);
    const double r = (((double)x - k * AD_HALF_PI_1) - k * AD_HALF_PI_2) - k * AD_HALF_PI_3, z = r * r;
    double s = 2.72498952306116781e-6;
    s = ad_fma_f64(s, z, -1.98400864995935981e-4);
    s = ad_fma_f64(s, z, 8.33333187427371367e-3);
    s = ad_fma_f64(s, z, -0.16666666663854167);
    double c = -2.73009336872129431e-7;
    c = ad_fma_f64(c, z, 2.48006001803638087e-5);
    c = ad_fma_f64(c, z, -1.38888876716525039e-3);
    c = ad_fma_f64(c, z, 0.0416666666643202666);
    c = ad_fma_f64(c, z, -0.5);
    *sine = ad_fma_f64(s, z * r, r);
    *cosine = ad_fma_f64(c, z, 1.0);
    return n;
}

AD_INLINE bool ad_is_far_f32(float x) { return !(__builtin_fabsf(x) < AD_REACH_F32); }

AD_INLINE float ad_sin_f32(float x, bool exact, int *far) {
    if (exact) return (float)sin((double)x);
    double sine, cosine;
    const uint64_t n = ad_sine_and_cosine_f32(x, &sine, &cosine);
    *far |= ad_is_far_f32(x);
    return x == 0.0f ? x : (float)ad_choose_quarter(sine, cosine, n);
}

AD_INLINE float ad_cos_f32(float x, bool exact, int *far) {
    if (exact) return (float)cos((double)x);
    double sine, cosine;
    const uint64_t n = ad_sine_and_cosine_f32(x, &sine, &cosine);
    *far |= ad_is_far_f32(x);
    return (float)ad_choose_quarter(sine, cosine, n + 1);
}

AD_INLINE float ad_tan_f32(float x, bool exact, int *far) {
    if (exact) return (float)tan((double)x);
    double sine, cosine;
    const uint64_t n = ad_sine_and_cosine_f32(x, &sine, &cosine);
    *far |= ad_is_far_f32(x);
    return x == 0.0f ? x : (float)(n & 1 ? -cosine / sine : sine / cosine);
}

/* ---- f64 ------------------------------------------------------------------------------------------------------ */

AD_INLINE uint64_t ad_sine_and_cosine_f64(double x, double *sine, double *cosine) {
    uint64_t n;
    const double k = ad_quarters(x, &n), a = x - k * AD_HALF_PI_1, b = k * AD_HALF_PI_2, most = a - b;
    const double b_taken = a - most, lost = (a - (most + b_taken)) - (b - b_taken); /* a - b is most + lost */
    const double rest = k * AD_HALF_PI_3 - lost, r = most - rest, low = (most - r) - rest, z = r * r;
    double s = 1.59181152632659752e-10;
    s = ad_fma_f64(s, z, -2.50511316502351815e-8);
    s = ad_fma_f64(s, z, 2.75573161016178744e-6);
    s = ad_fma_f64(s, z, -1.98412698367567725e-4);
    s = ad_fma_f64(s, z, 8.33333333333094729e-3);
    double c = -1.13826236474746046e-11;
    c = ad_fma_f64(c, z, 2.08761461465586116e-9);
    c = ad_fma_f64(c, z, -2.7557317271145146e-7);
    c = ad_fma_f64(c, z, 2.48015872987645608e-5);
    c = ad_fma_f64(c, z, -1.38888888888873965e-3);
    c = ad_fma_f64(c, z, 0.0416666666666666654);
    const double cube = z * r, half = 0.5 * z, near = 1.0 - half;
    *sine = r - ((z * (0.5 * low - cube * s) - low) - cube * -0.166666666666666646);
    *cosine = near + (((1.0 - near) - half) + (z * (z * c) - r * low));
    return n;
}

AD_INLINE bool ad_is_far_f64(double x) { return !(__builtin_fabs(x) < AD_REACH_F64); }

AD_INLINE double ad_sin_f64(double x, bool exact, int *far) {
    if (exact) return sin(x);
    double sine, cosine;
    const uint64_t n = ad_sine_and_cosine_f64(x, &sine, &cosine);
    *far |= ad_is_far_f64(x);
    return x == 0.0 ? x : ad_choose_quarter(sine, cosine, n);
}

AD_INLINE double ad_cos_f64(double x, bool exact, int *far) {
    if (exact) return cos(x);
    double sine, cosine;
    const uint64_t n = ad_sine_and_cosine_f64(x, &sine, &cosine);
    *far |= ad_is_far_f64(x);
    return ad_choose_quarter(sine, cosine, n + 1);
}

AD_INLINE double ad_tan_f64(double x, bool exact, int *far) {
    (void)exact, (void)far;
    return tan(x);
}

#endif
