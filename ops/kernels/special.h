/* Special functions that the C library lacks, in double. f32 computes in double and rounds once.
 *
 * psi(x), the digamma function, is the derivative of log Gamma(x); its derivatives are the polygamma functions. Formulas:
 * NIST Digital Library of Mathematical Functions, chapter 5 (5.5, 5.11, 5.15) and 25.11 for the Hurwitz zeta function. */
#ifndef AD_SPECIAL_H
#define AD_SPECIAL_H

#include <math.h>

#define AD_PI          3.14159265358979323846
#define AD_SQRT_PI     1.77245385090551602730
#define AD_INV_SQRT_PI 0.56418958354775628695
#define AD_LN2         0.69314718055994530942
#define AD_LN10        2.30258509299404568402

/* lgamma() would write the global signgam. */
static inline double ad_lgamma_f64(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

/* x minus the nearest integer: pi times it is exact enough for tan and sin where pi x is not. */
static inline double ad_off_integer(double x) { return x - rint(x); }

/* On [1, 2]: (x - root) times a polynomial in x - 1.5, which interpolates psi(x) / (x - root) at Chebyshev points with an
 * error of 2e-17. The root is split in two, so that nothing is lost beside it. */
static inline double ad_digamma_near_root(double x) {
    static const double c[] = {
        0.9510558760318328,      -0.42362742128146047,   0.24054248424078736,    -0.14840492305391761,
        0.09498872445283,        -0.06192213327165706,   0.04076083394462657,    -0.02697579684427536,
        0.017907248195969127,    -0.011908215172584002,  0.007927024067961237,   -0.00528001782089874,
        0.0035180800751066694,   -0.002344650082351321,  0.0015635679757533885,  -0.001042261556504223,
        0.0006899717801166841,   -0.0004599625144612576, 0.0003268068044141764,  -0.0002178682145501451,
        9.173383289174792e-05,   -6.11554261750751e-05,  0.00012230983055406747, -8.153978973309418e-05};
    const double t = x - 1.5;
    double p = 0;
    for (int i = (int)(sizeof c / sizeof *c) - 1; i >= 0; i--) p = p * t + c[i];
    return ((x - 1.4616321449683622) - 9.549995429965697e-17) * p;
}

static inline double ad_digamma_f64(double x) {
    if (!(x > 0)) {
        const double off = ad_off_integer(x);
        if (off == 0 || !(x > -INFINITY)) return x == 0 ? copysign(INFINITY, -x) : (double)NAN; /* poles */
        return ad_digamma_f64(1 - x) - AD_PI / tan(AD_PI * off);
    }
    double sum = 0;
    if (x < 1) {
        sum = -1 / x;
        x += 1;
    }
    if (x >= 12) {
        if (!(x < INFINITY)) return x;
        /* log x - 1/2x - sum B_2k / (2k x^2k) */
        const double z = 1 / (x * x);
        double tail = 1.0 / 132 - z * (691.0 / 32760 - z * (1.0 / 12 - z * (3617.0 / 8160)));
        tail = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * tail))));
        return sum + (log(x) - 0.5 / x - tail);
    }
    for (; x > 2; sum += 1 / x) x -= 1;
    return sum + ad_digamma_near_root(x);
}

/* Hurwitz zeta sum_k (x + k)^-s for integer s >= 2, by Euler and Maclaurin from x + k >= 12 on; every term is of one
 * sign for x > 0. Far to the left the sum is too long to be done: NaN. */
static inline double ad_hurwitz(int s, double x) {
    static const double bernoulli_over_factorial[] = {
        1.0 / 12, -1.0 / 720, 1.0 / 30240, -1.0 / 1209600, 1.0 / 47900160, -691.0 / 1307674368000.0,
        1.0 / 74724249600.0, -3617.0 / 10670622842880000.0};
    if (x < -1e5) return NAN;
    double sum = 0;
    const double far = 12 + s;
    for (; x < far; x += 1) sum += pow(x, -s);
    const double power = pow(x, -s);
    double term = s * power / x, tail = 0;
    for (int j = 0; j < 8; j++) {
        tail += bernoulli_over_factorial[j] * term;
        term *= (double)(s + 2 * j + 1) * (double)(s + 2 * j + 2) / (x * x);
    }
    return sum + (x * power / (s - 1) + 0.5 * power + tail);
}

/* The n-th derivative of psi: (-1)^(n+1) n! zeta(n + 1, x). NaN at the poles (n > 0: infinite from both sides there,
 * with the sign of even n open), for an n that is no integer, and far to the left. */
static inline double ad_polygamma_f64(double n, double x) {
    if (n == 0) return ad_digamma_f64(x);
    if (!(n >= 1 && n <= 100) || n != rint(n)) return NAN;
    if (x <= 0 && ad_off_integer(x) == 0) return fmod(n, 2) == 1 ? INFINITY : (double)NAN;
    if (x == INFINITY) return 0;
    if (n == 1 && x < -1e3) {
        const double s = sin(AD_PI * ad_off_integer(x));
        return AD_PI / s * (AD_PI / s) - ad_hurwitz(2, 1 - x);
    }
    const double value = tgamma(n + 1) * ad_hurwitz((int)n + 1, x);
    return fmod(n, 2) == 1 ? value : -value;
}

static inline double ad_trigamma_f64(double x) { return ad_polygamma_f64(1, x); }

/* The inverse of erf: Winitzki's approximation (2008), then Halley steps on erf, or in the tails on erfc, which keeps the
 * digits of 1 - |x|. */
static inline double ad_erfinv_f64(double x) {
    const double a = fabs(x);
    if (!(a < 1)) return a == 1 ? copysign(INFINITY, x) : (double)NAN;
    const double rest = 1 - a, l = log1p(-a * a), k = 2 / (AD_PI * 0.147) + 0.5 * l;
    /* sqrt(k^2 - m) - k without cancellation */
    const double m = l / 0.147;
    double z = sqrt(-m / (sqrt(k * k - m) + k));
    for (int i = 0; i < 3; i++) {
        const double error = a < 0.5 ? erf(z) - a : rest - erfc(z);
        const double step = error * 0.5 * AD_SQRT_PI * exp(z * z);
        z -= step / (1 + z * step);
    }
    return copysign(z, x);
}

#endif
