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
#include "ops/kernels/isa.h"
#include "ops/kernels/transpose.h"

/* Bytes of a vector, rows of a tile (as many as the registers hold). X(rows, v) for all numbers of rows that a tile of v
 * vectors can have, up to ROWS, half of it and a quarter. */
#if defined __AVX512F__
enum { VECTOR = 64, ROWS = 14 };
#define FOR_QUARTER(X, v) X(1, v) X(2, v) X(3, v)
#define FOR_HALF(X, v)    FOR_QUARTER(X, v) X(4, v) X(5, v) X(6, v) X(7, v)
#define FOR_ROWS(X, v)    FOR_HALF(X, v) X(8, v) X(9, v) X(10, v) X(11, v) X(12, v) X(13, v) X(14, v)
#elif defined __AVX2__
enum { VECTOR = 32, ROWS = 6 };
#define FOR_QUARTER(X, v) X(1, v)
#define FOR_HALF(X, v)    FOR_QUARTER(X, v) X(2, v) X(3, v)
#define FOR_ROWS(X, v)    FOR_HALF(X, v) X(4, v) X(5, v) X(6, v)
#else
enum { VECTOR = 16, ROWS = 4 };
#define FOR_QUARTER(X, v) X(1, v)
#define FOR_HALF(X, v)    FOR_QUARTER(X, v) X(2, v)
#define FOR_ROWS(X, v)    FOR_HALF(X, v) X(3, v) X(4, v)
#endif

/* KC * ROWS elements fit L1, KC * NC fit L2. LARGE: so many bytes of B do not. OFTEN: so many uses are worth packing.
 * AHEAD: steps of k from the prefetch of a line to its use. */
enum { KC = 256, NC = 1024, LARGE = 1 << 20, OFTEN = 256, AHEAD = 8 };

/* ---- how the work is cut ----------------------------------------------------------------------------------------- */

/* n things in `parts` nearly equal parts: the first `longer` of them have size + 1. */
typedef struct cut {
    int64_t parts, size, longer;
} cut;

INLINE cut cut_evenly(int64_t n, int64_t most) {
    if (n <= most) return (cut){1, n, 0};
    const int64_t parts = (n + most - 1) / most;
    return (cut){parts, n / parts, n % parts};
}
INLINE int64_t part_size(cut c, int64_t part) { return c.size + (part < c.longer); }

INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

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
#include "ops/kernels/gemm_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
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
