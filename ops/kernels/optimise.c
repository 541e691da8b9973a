/* One step of an optimiser in one pass over the parameter, its gradient and its moments. */
#include "ops/kernels/isa.h"

#define DEFINE_STEPS(T, S, SQRT)                                                                                     \
    static void sgd_plain_##S(int64_t n, T *restrict w, const T *restrict g, T rate, T decay) {                      \
        for (int64_t i = 0; i < n; i++) w[i] -= rate * (g[i] + decay * w[i]);                                        \
    }                                                                                                                \
    static void sgd_momentum_##S(int64_t n, T *restrict w, const T *restrict g, T *restrict v, T rate, T momentum,   \
                                 T decay) {                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                            \
            v[i] = momentum * v[i] + (g[i] + decay * w[i]);                                                          \
            w[i] -= rate * v[i];                                                                                     \
        }                                                                                                            \
    }                                                                                                                \
    static void sgd_nesterov_##S(int64_t n, T *restrict w, const T *restrict g, T *restrict v, T rate, T momentum,   \
                                 T decay) {                                                                          \
        for (int64_t i = 0; i < n; i++) {                                                                            \
            const T slope = g[i] + decay * w[i];                                                                     \
            v[i] = momentum * v[i] + slope;                                                                          \
            w[i] -= rate * (slope + momentum * v[i]);                                                                \
        }                                                                                                            \
    }                                                                                                                \
    static void sgd_##S(int64_t n, void *w, const void *g, void *v, const ad_sgd_step *s) {                          \
        if (!v)                                                                                                      \
            sgd_plain_##S(n, w, g, (T)s->rate, (T)s->decay);                                                         \
        else if (s->nesterov)                                                                                        \
            sgd_nesterov_##S(n, w, g, v, (T)s->rate, (T)s->momentum, (T)s->decay);                                   \
        else                                                                                                         \
            sgd_momentum_##S(n, w, g, v, (T)s->rate, (T)s->momentum, (T)s->decay);                                   \
    }                                                                                                                \
    static void adam_##S(int64_t n, T *restrict w, const T *restrict g, T *restrict m, T *restrict v,                \
                         const ad_adam_step *s) {                                                                    \
        const T beta1 = (T)s->beta1, beta2 = (T)s->beta2, epsilon = (T)s->epsilon;                                   \
        const T new1 = (T)(1 - s->beta1), new2 = (T)(1 - s->beta2);                                                  \
        const T step = (T)(s->rate / s->correction1), unbias2 = (T)(1 / s->correction2);                             \
        const T keep = s->decoupled ? (T)(1 - s->rate * s->decay) : (T)1;                                            \
        const T decay = s->decoupled ? (T)0 : (T)s->decay;                                                           \
        for (int64_t i = 0; i < n; i++) {                                                                            \
            const T slope = g[i] + decay * w[i];                                                                     \
            m[i] = beta1 * m[i] + new1 * slope;                                                                      \
            v[i] = beta2 * v[i] + new2 * (slope * slope);                                                            \
            w[i] = keep * w[i] - step * m[i] / (SQRT(unbias2 * v[i]) + epsilon);                                     \
        }                                                                                                            \
    }                                                                                                                \
    static void rescale_##S(int64_t n, T *x, double factor) {                                                        \
        for (int64_t i = 0; i < n; i++) x[i] = (T)((double)x[i] * factor);                                           \
    }
DEFINE_STEPS(float, f32, __builtin_sqrtf)
DEFINE_STEPS(double, f64, __builtin_sqrt)

void AD_NAME(sgd)(ad_dtype dtype, int64_t n, void *w, const void *g, void *velocity, const ad_sgd_step *step) {
    if (dtype == AD_F32) {
        sgd_f32(n, w, g, velocity, step);
    } else {
        sgd_f64(n, w, g, velocity, step);
    }
}

void AD_NAME(adam)(ad_dtype dtype, int64_t n, void *w, const void *g, void *m, void *v, const ad_adam_step *step) {
    if (dtype == AD_F32) {
        adam_f32(n, w, g, m, v, step);
    } else {
        adam_f64(n, w, g, m, v, step);
    }
}

void AD_NAME(rescale)(ad_dtype dtype, int64_t n, void *x, double factor) {
    if (dtype == AD_F32) {
        rescale_f32(n, x, factor);
    } else {
        rescale_f64(n, x, factor);
    }
}
