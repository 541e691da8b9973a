/* Transposing squares in registers, and the words in which code for registers is written. */
#ifndef AD_KERNELS_TRANSPOSE_H
#define AD_KERNELS_TRANSPOSE_H

#include <stdint.h>

#if defined __SSE2__
#include <immintrin.h>
#endif

#define OUTLINE static __attribute__((noinline, unused)) /* not every file needs all that a header has */
/* UNROLL: before loops that must become straight code, or their arrays would not be registers. Sanitizers do without:
 * straight code, instrumented, takes a minute to compile. */
#if defined AD_GEMM_PLAIN
#define INLINE static inline
#define UNROLL
#elif defined __clang__
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#endif
/* Adds to a pointer and hides the result, or the compiler would compute all the addresses to come and spill them. */
#define STEP(pointer, by)                                                                                            \
    do {                                                                                                             \
        pointer += by;                                                                                               \
        __asm__("" : "+r"(pointer));                                                                                 \
    } while (0)

/* Bytes of a vector. */
#if defined __AVX2__
enum { WIDE = 32 };
#else
enum { WIDE = 16 };
#endif

/* Of each 16 bytes of a and b the low or high halves, interleaved in units of 4 or 8 bytes. */
typedef float wide32 __attribute__((vector_size(WIDE)));
typedef double wide64 __attribute__((vector_size(WIDE)));
typedef double wide_at __attribute__((vector_size(WIDE), aligned(4), may_alias)); /* anywhere in memory */
typedef double lane64 __attribute__((vector_size(16)));
#if defined __AVX2__
INLINE wide32 low32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13); }
INLINE wide32 high32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15); }
INLINE wide64 low64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 0, 4, 2, 6); }
INLINE wide64 high64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 1, 5, 3, 7); }
INLINE wide64 join(const void *a, const void *b) { return _mm256_loadu2_m128d(b, a); }
INLINE lane64 lower(wide64 a) { return __builtin_shufflevector(a, a, 0, 1); }
INLINE lane64 upper(wide64 a) { return __builtin_shufflevector(a, a, 2, 3); }
#else
INLINE wide32 low32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
INLINE wide32 high32(wide32 a, wide32 b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
INLINE wide64 low64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 0, 2); }
INLINE wide64 high64(wide64 a, wide64 b) { return __builtin_shufflevector(a, b, 1, 3); }
INLINE wide64 join(const void *a, const void *b) { return (void)b, *(const wide_at *)a; }
INLINE lane64 lower(wide64 a) { return a; }
INLINE lane64 upper(wide64 a) { return a; }
#endif

#endif
