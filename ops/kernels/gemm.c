/* The matrix product C (+)= A B.
 *
 * C is cut into tiles of up to ROWS rows by two vectors of columns, which stay in registers while k runs:
 *
 *     for l < k:  for each row i and vector j of the tile:  acc[i][j] += A[i,l] * B[l,j]
 *
 * There is one such loop for each number of rows and vectors, so that an edge costs what it holds; the last vector may
 * be a part of one. A strip of A (the rows of a tile) stays in L1 while the tiles along it read B from L2, one panel
 * (the columns of a tile) after another; hence k is cut into blocks of KC, columns into blocks of NC. What is read
 * often, or lies so that vectors cannot read it, is packed first: A into strips, B into panels. The rest is read in
 * place.
 *
 * Every product is also C' = B' A': whichever of the two promises less work is computed. So a C with contiguous columns
 * is as good as one with contiguous rows; one with neither gets its tiles element by element.
 *
 * Two other loops take over where tiles would be thin: dot products of rows of A with columns of B, both contiguous,
 * and for a C of one row the sum of the rows of B.
 *
 * How an element of C is summed depends on the problem alone, not on where it lies: any rectangle of C can be computed
 * by itself and gets the same bits. */
#include "ops/kernels/tile.h"

/* KC * ROWS elements fit L1, KC * NC fit L2. LARGE: so many bytes of B do not. OFTEN: so many uses are worth packing.
 * AHEAD: steps of k from the prefetch of a line to its use. COLLIDE: rows a multiple of so many bytes apart meet in a few
 * sets of L1, which cannot hold a tile's. */
enum { KC = 256, NC = 1024, LARGE = 1 << 20, OFTEN = 256, AHEAD = 8, COLLIDE = 2048 };

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

typedef enum path { TILES, DOTS, SUMS } path;

typedef struct plan {
    path path;
    bool pack_a, pack_b;
    int vecs; /* per panel */
    int64_t kc;
    size_t a_bytes, b_bytes; /* of scratch */
} plan;

/* The same product as C' = B' A'. */
static ad_gemm transposed(const ad_gemm *p) {
    ad_gemm t;
    t.dtype = p->dtype, t.add = p->add;
    t.m = p->n, t.n = p->m, t.k = p->k;
    t.a = p->b, t.rsa = p->csb, t.csa = p->rsb;
    t.b = p->a, t.rsb = p->csa, t.csb = p->rsa;
    t.c = p->c, t.rsc = p->csc, t.csc = p->rsc;
    t.bias = p->bias, t.rs_bias = p->cs_bias, t.cs_bias = p->rs_bias;
    return t;
}

/* ---- per element type -------------------------------------------------------------------------------------------- */

#define T       float
#define S(name) name##_f32
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/gemm_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/tile_typed.h"
#include "ops/kernels/gemm_typed.h"
#undef T
#undef S

size_t AD_NAME(gemm_scratch)(const ad_gemm *problem) {
    ad_gemm turned;
    plan g;
    if (problem->dtype == AD_F32) {
        make_plan_f32(problem, &turned, &g);
    } else {
        make_plan_f64(problem, &turned, &g);
    }
    return g.a_bytes + g.b_bytes;
}

void AD_NAME(gemm_part)(const ad_gemm *problem, int64_t i0, int64_t i1, int64_t j0, int64_t j1, void *scratch) {
    if (problem->dtype == AD_F32) {
        gemm_f32(problem, i0, i1, j0, j1, scratch);
    } else {
        gemm_f64(problem, i0, i1, j0, j1, scratch);
    }
}

void AD_NAME(gemm)(const ad_gemm *problem, void *scratch) {
    AD_NAME(gemm_part)(problem, 0, problem->m, 0, problem->n, scratch);
}
