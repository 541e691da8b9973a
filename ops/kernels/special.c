/* Special functions that the C library lacks, in double. f32 computes in double and rounds once.
 *
 * psi(x), the digamma function, is the derivative of log Gamma(x); its derivatives are the polygamma functions. Formulas:
 * NIST Digital Library of Mathematical Functions, chapter 5 (5.5, 5.11, 5.15). */
#include "ops/kernels/special.h"

#include "ops/kernels/elementary.h"

/* lgamma() would write the global signgam. */
double ad_lgamma_f64(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

/* x minus the nearest integer: pi times it is exact enough for tan and sin where pi x is not. */
static double off_integer(double x) { return x - rint(x); }

/* On [1, 2]: (x - root) times a polynomial in x - 1.5, which interpolates psi(x) / (x - root) at Chebyshev points with an
 * error of 2e-17. The root is split in two, so that nothing is lost beside it. */
static double digamma_near_root(double x) {
    static const double c[] = {0.9510558760318328,    -0.42362742128146047,   0.24054248424078736,
                               -0.14840492305391761,  0.09498872445283,       -0.06192213327165706,
                               0.04076083394462657,   -0.02697579684427536,   0.017907248195969127,
                               -0.011908215172584002, 0.007927024067961237,   -0.00528001782089874,
                               0.0035180800751066694, -0.002344650082351321,  0.0015635679757533885,
                               -0.001042261556504223, 0.0006899717801166841,  -0.0004599625144612576,
                               0.0003268068044141764, -0.0002178682145501451, 9.173383289174792e-05,
                               -6.11554261750751e-05, 0.00012230983055406747, -8.153978973309418e-05};
    const double t = x - 1.5;
    double p = 0;
    for (int i = (int)(sizeof c / sizeof *c) - 1; i >= 0; i--) p = p * t + c[i];
    return ((x - 1.4616321449683622) - 9.549995429965697e-17) * p;
}

double ad_digamma_f64(double x) {
    if (!(x > 0)) {
        const double off = off_integer(x);
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
    return sum + digamma_near_root(x);
}

/* |psi^(n)(x)| for n >= 1 and x > 0: the sum of n! (x + k)^-(n+1) over k = 0, 1, ..., by Euler and Maclaurin from where x + k
 * is large. Every term but the last few of that is positive. The small ones are added first. */
static double polygamma_right(int n, double x) {
    static const double bernoulli_over_factorial[] = {1.0 / 12,
                                                      -1.0 / 720,
                                                      1.0 / 30240,
                                                      -1.0 / 1209600,
                                                      1.0 / 47900160,
                                                      -691.0 / 1307674368000.0,
                                                      1.0 / 74724249600.0,
                                                      -3617.0 / 10670622842880000.0};
    const double steps = fmax(0, ceil(12 + 2 * n - x)), far = x + steps, z = 1 / far / far;
    double factor = 1, term = (n + 1) * z, tail = 0;
    for (int k = 1; k <= n; k++) factor *= k / far; /* n! / far^n */
    for (int j = 0; j < 8; j++) {
        tail += bernoulli_over_factorial[j] * term;
        term *= (double)(n + 2 * j + 2) * (double)(n + 2 * j + 3) * z;
    }
    double sum = factor * (tail + 0.5 / far + 1.0 / n);
    const double factorial = tgamma(n + 1);
    for (double k = steps - 1; k >= 0; k--) sum += n == 1 ? 1 / ((x + k) * (x + k)) : factorial * pow(x + k, -n - 1);
    return sum;
}

/* The n-th derivative of -pi cot(pi x), less its sign (-1)^(n+1): with w = pi cot(pi x) it is Q_n(w), where Q_0 = w and
 * Q_(n+1) = (pi^2 + w^2) Q_n'. The coefficients are positive and of every other power: nothing cancels. */
static double cotangent_derivative(int n, double x) {
    const double off = off_integer(x), a = fabs(off);
    const double w = AD_PI * copysign(a < 0.25 ? 1 / tan(AD_PI * a) : tan(AD_PI * (0.5 - a)), off);
    double q[AD_POLYGAMMA_ORDERS + 4] = {0, 1}; /* n may be one order more */
    for (int k = 1; k <= n; k++) {
        double left = 0, here = q[0]; /* of the old polynomial, at i - 1 and i */
        for (int i = 0; i <= k + 1; i++) {
            const double right = q[i + 1];
            q[i] = AD_PI * AD_PI * (i + 1) * right + (i > 1 ? (i - 1) * left : 0);
            left = here;
            here = right;
        }
    }
    double value = 0;
    for (int i = n + 1; i >= 0; i--) value = value * w + q[i];
    return value;
}

/* psi^(n)(x) for whole n >= 0; to the left of 0 by reflection. At the poles: infinite for odd n, NaN for
 * even n, where the two sides differ. */
double ad_polygamma_f64(double order, double x) {
    const int n = (int)order;
    if (n == 0) return ad_digamma_f64(x);
    const double sign = n % 2 ? 1 : -1;
    if (x > 0) return x == INFINITY ? -sign * 0.0 : sign * polygamma_right(n, x);
    if (!(x > -INFINITY)) return NAN;
    if (off_integer(x) == 0) return n % 2 ? INFINITY : (double)NAN;
    return sign * (cotangent_derivative(n, x) - polygamma_right(n, 1 - x));
}

double ad_trigamma_f64(double x) { return ad_polygamma_f64(1, x); }

/* The inverse of erf: Winitzki's approximation (2008), then Halley steps on erf, or in the tails on erfc, which keeps the
 * digits of 1 - |x|. */
double ad_erfinv_f64(double x) {
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
