/* Loops over contiguous doubles, for decompositions that are not made of matrix products. */
#include "ops/kernels/isa.h"

enum { LANES = 8 }; /* side by side, whatever the vectors of this machine hold: always the same sums */

double AD_NAME(dot)(const double *x, const double *y, int64_t n) {
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) lane[k] += x[i + k] * y[i + k];
    for (; i < n; i++) lane[i % LANES] += x[i] * y[i];
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

void AD_NAME(rotate)(double *restrict x, double *restrict y, double c, double s, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = c * kept - s * y[i];
        y[i] = s * kept + c * y[i];
    }
}
