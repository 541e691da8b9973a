/* The matrix product. */
#include "ops/kernels/isa.h"

#define DEFINE_GEMM(T, S)                                                                                            \
    static void gemm_##S(const ad_gemm *p) {                                                                         \
        const T *a = p->a, *b = p->b;                                                                                \
        T *c = p->c;                                                                                                 \
        for (int64_t i = 0; i < p->m; i++) {                                                                         \
            T *row = c + i * p->rsc;                                                                                 \
            for (int64_t j = 0; j < p->n && !p->add; j++) row[j * p->csc] = 0;                                       \
            for (int64_t l = 0; l < p->k; l++) {                                                                     \
                const T factor = a[i * p->rsa + l * p->csa], *from = b + l * p->rsb;                                 \
                for (int64_t j = 0; j < p->n; j++) row[j * p->csc] += factor * from[j * p->csb];                     \
            }                                                                                                        \
        }                                                                                                            \
    }
DEFINE_GEMM(float, f32)
DEFINE_GEMM(double, f64)

size_t AD_NAME(gemm_scratch)(const ad_gemm *problem) {
    (void)problem;
    return 0;
}

void AD_NAME(gemm)(const ad_gemm *problem, void *scratch) {
    (void)scratch;
    if (problem->dtype == AD_F32) {
        gemm_f32(problem);
    } else {
        gemm_f64(problem);
    }
}
