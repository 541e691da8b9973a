/* What loops over tiles of registers share, for one instruction set: vectors and parts of them, packing, and how work is
 * cut. tile_typed.h has what depends on the type of the elements. */
#ifndef AD_KERNELS_TILE_H
#define AD_KERNELS_TILE_H

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

/* ---- how work is cut ---------------------------------------------------------------------------------------------- */

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

/* ---- every second element of two vectors --------------------------------------------------------------------------- */

typedef float full32 __attribute__((vector_size(VECTOR)));
typedef double full64 __attribute__((vector_size(VECTOR)));
#define EVEN_2  0, 2
#define EVEN_4  EVEN_2, 4, 6
#define EVEN_8  EVEN_4, 8, 10, 12, 14
#define EVEN_16 EVEN_8, 16, 18, 20, 22, 24, 26, 28, 30
#if defined __AVX512F__
INLINE full32 evens32(full32 a, full32 b) { return __builtin_shufflevector(a, b, EVEN_16); }
INLINE full64 evens64(full64 a, full64 b) { return __builtin_shufflevector(a, b, EVEN_8); }
#elif defined __AVX2__
INLINE full32 evens32(full32 a, full32 b) { return __builtin_shufflevector(a, b, EVEN_8); }
INLINE full64 evens64(full64 a, full64 b) { return __builtin_shufflevector(a, b, EVEN_4); }
#else
INLINE full32 evens32(full32 a, full32 b) { return __builtin_shufflevector(a, b, EVEN_4); }
INLINE full64 evens64(full64 a, full64 b) { return __builtin_shufflevector(a, b, EVEN_2); }
#endif

#endif
