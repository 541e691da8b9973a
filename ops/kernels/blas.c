/* Matrix products by a CBLAS library, in a build that asked for one. */
#include "ops/kernels/kernels.h"

#include <cblas.h>
#include <limits.h>

/* A matrix as CBLAS names it: rows that are contiguous, perhaps those of its transpose. */
typedef struct operand {
    bool fits;
    CBLAS_TRANSPOSE turned;
    int stride; /* from row to row */
} operand;

static operand operand_of(int64_t rows, int64_t columns, int64_t rs, int64_t cs) {
    if (cs == 1 && rs >= columns && rs <= INT_MAX) return (operand){true, CblasNoTrans, (int)rs};
    if (rs == 1 && cs >= rows && cs <= INT_MAX) return (operand){true, CblasTrans, (int)cs};
    return (operand){.fits = false};
}

static void put_bias(const ad_gemm *p) {
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->n; j++) {
            const int64_t from = i * p->rs_bias + j * p->cs_bias, to = i * p->rsc + j * p->csc;
            if (p->dtype == AD_F32)
                ((float *)p->c)[to] = ((const float *)p->bias)[from];
            else
                ((double *)p->c)[to] = ((const double *)p->bias)[from];
        }
    }
}

bool ad_blas_gemm(const ad_gemm *p) {
    const operand a = operand_of(p->m, p->k, p->rsa, p->csa), b = operand_of(p->k, p->n, p->rsb, p->csb);
    const bool sizes_fit = p->m <= INT_MAX && p->n <= INT_MAX && p->k <= INT_MAX && p->rsc <= INT_MAX;
    const bool rows_lie = p->csc == 1 && p->rsc >= p->n;
    if (!a.fits || !b.fits || !sizes_fit || !rows_lie || p->k == 0) return false;
    if (p->bias) put_bias(p);
    const int m = (int)p->m, n = (int)p->n, k = (int)p->k, c = (int)p->rsc;
    const int begins = p->add || p->bias;
    if (p->dtype == AD_F32)
        cblas_sgemm(CblasRowMajor, a.turned, b.turned, m, n, k, 1, p->a, a.stride, p->b, b.stride, (float)begins,
                    p->c, c);
    else
        cblas_dgemm(CblasRowMajor, a.turned, b.turned, m, n, k, 1, p->a, a.stride, p->b, b.stride, begins, p->c, c);
    return true;
}
