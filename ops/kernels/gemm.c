/* The matrix product C (+)= A B.
 *
 * C is cut into tiles of up to ROWS rows by two vectors of columns, which stay in registers while k runs:
 *
 *     for l < k:  for each row i and vector j of the tile:  acc[i][j] += A[i,l] * B[l,j]
 *
 * There is one such loop for each number of rows and vectors, so that an edge costs what it holds; the last vector may
 * be a part of one. Around it, k is cut into blocks of KC, columns into blocks of NC and rows into blocks of MC, so
 * that the part of B that a tile reads stays in L1 or L2, and the part of A in L2. What is read often, or lies so that
 * vectors cannot read it, is packed first: A into strips of a tile's rows, B into panels of a tile's columns. The rest
 * is read in place. A C with contiguous columns is computed transposed (C' = B' A'); one with neither rows nor columns
 * contiguous gets its tiles element by element.
 *
 * A C of one row is limited by memory and has two loops of its own, for a B with contiguous rows or columns.
 *
 * How an element of C is summed depends on k and the strides, not on where it lies: any rectangle of C of more than one
 * row and column can be computed by itself and gets the same bits. */
#include "ops/kernels/isa.h"

#if defined __AVX2__
#include <immintrin.h>
#endif

/* Bytes of a vector, rows of a tile (as many as the registers hold), bytes of a vector for transposing. */
#if defined __AVX512F__
enum { VECTOR = 64, WIDE = 32 };
#elif defined __AVX2__
enum { VECTOR = 32, WIDE = 32 };
#else
enum { VECTOR = 16, WIDE = 16 };
#endif
#if defined AD_SMALL_TILES /* for the sanitizers: full tiles, instrumented, take minutes to compile */
enum { ROWS = 3 };
#define FOR_ROWS(X) X(1) X(2) X(3)
#elif defined __AVX512F__
enum { ROWS = 14 };
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif defined __AVX2__
enum { ROWS = 6 };
#define FOR_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
enum { ROWS = 4 };
#define FOR_ROWS(X) X(1) X(2) X(3) X(4)
#endif

/* Largest blocks of k (f32; half of it for f64), rows and columns. */
enum { KC = 512, MC = 336, NC = 2048 };
/* B is read in place up to so many rows, A up to so many columns of C. */
enum { FEW_ROWS = 256, FEW_COLUMNS = 256 };

#define INLINE static inline __attribute__((always_inline))
/* Before loops that must become straight code, or their arrays would not be registers. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* ---- how the work is cut ----------------------------------------------------------------------------------------- */

/* n things in `parts` nearly equal parts: the first `longer` of them have size + 1. */
typedef struct cut {
    int64_t parts, size, longer;
} cut;

static cut cut_evenly(int64_t n, int64_t most) {
    if (n <= most) return (cut){1, n, 0};
    int64_t parts = (n + most - 1) / most;
    return (cut){parts, n / parts, n % parts};
}
INLINE int64_t part_size(cut c, int64_t part) { return c.size + (part < c.longer); }
INLINE int64_t largest_part(cut c) { return c.size + (c.longer > 0); }

INLINE int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

/* One row of C, with the columns of B contiguous (DOTS) or its rows (SUMS); otherwise TILES. */
typedef enum path { TILES, DOTS, SUMS } path;

typedef struct plan {
    path path;
    bool pack_a, pack_b;
    int64_t kc, mc, nc;
    size_t a_bytes, b_bytes; /* of scratch */
} plan;

static int64_t element_size(const ad_gemm *p) { return p->dtype == AD_F32 ? 4 : 8; }

/* The same problem with rows of C contiguous, or C a row, if that can be had by transposing it into `turned`. */
static const ad_gemm *oriented(const ad_gemm *p, ad_gemm *turned) {
    if (p->m == 1 || (p->n > 1 && (p->csc == 1 || p->rsc != 1))) return p;
    turned->dtype = p->dtype, turned->add = p->add;
    turned->m = p->n, turned->n = p->m, turned->k = p->k;
    turned->a = p->b, turned->rsa = p->csb, turned->csa = p->rsb;
    turned->b = p->a, turned->rsb = p->csa, turned->csb = p->rsa;
    turned->c = p->c, turned->rsc = p->csc, turned->csc = p->rsc;
    return turned;
}

static plan make_plan(const ad_gemm *p) {
    const int64_t size = element_size(p), lanes = VECTOR / size;
    plan g;
    g.a_bytes = g.b_bytes = 0;
    g.path = TILES;
    if (p->m == 1 && p->rsb == 1 && (p->csb != 1 || p->n == 1)) g.path = DOTS;
    else if (p->m == 1 && p->csb == 1 && p->csc == 1) g.path = SUMS;
    if (g.path != TILES) {
        g.pack_a = g.path == DOTS && p->csa != 1;
        if (g.pack_a) g.a_bytes = (size_t)(p->k * size);
        return g;
    }
    g.kc = largest_part(cut_evenly(p->k, KC * 4 / size));
    g.mc = largest_part(cut_evenly(p->m, MC));
    g.nc = NC;
    g.pack_a = p->n > FEW_COLUMNS;
    g.pack_b = p->csb != 1 || p->m > FEW_ROWS;
    if (g.pack_a) g.a_bytes = (size_t)(cut_evenly(g.mc, ROWS).parts * round_up(ROWS, lanes) * g.kc * size);
    if (g.pack_b) g.b_bytes = (size_t)(round_up(min_of(g.nc, p->n), lanes) * g.kc * size);
    return g;
}

/* ---- transposing ------------------------------------------------------------------------------------------------- */

/* In each 16 bytes of the result, the low or high halves of a and b, interleaved in units of 4 or 8 bytes. */
typedef float wide32 __attribute__((vector_size(WIDE)));
typedef double wide64 __attribute__((vector_size(WIDE)));
typedef double wide_at __attribute__((vector_size(WIDE), aligned(4), may_alias)); /* anywhere in memory */
typedef double half_at __attribute__((vector_size(16), aligned(4), may_alias));
#if defined __AVX2__
INLINE wide32 low32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
INLINE wide32 high32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
INLINE wide64 low64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 0, 4, 2, 6); }
INLINE wide64 high64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 1, 5, 3, 7); }
INLINE wide64 join(const void *a, const void *b) {
    return __builtin_shufflevector(*(const half_at *)a, *(const half_at *)b, 0, 1, 2, 3);
}
#else
INLINE wide32 low32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
INLINE wide32 high32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
INLINE wide64 low64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 0, 2); }
INLINE wide64 high64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 1, 3); }
INLINE wide64 join(const void *a, const void *b) {
    (void)b;
    return *(const half_at *)a;
}
#endif

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
    plan g = make_plan(oriented(problem, &turned));
    return g.a_bytes + g.b_bytes;
}

void AD_NAME(gemm)(const ad_gemm *problem, void *scratch) {
    ad_gemm turned;
    const ad_gemm *p = oriented(problem, &turned);
    plan g = make_plan(p);
    void *packed_a = scratch, *packed_b = g.b_bytes ? (char *)scratch + g.a_bytes : NULL;
    if (p->dtype == AD_F32) {
        multiply_f32(p, &g, 0, p->m, 0, p->n, packed_a, packed_b);
    } else {
        multiply_f64(p, &g, 0, p->m, 0, p->n, packed_a, packed_b);
    }
}
