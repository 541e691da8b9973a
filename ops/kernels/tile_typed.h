/* Vectors for one element type: T is float or double, S(name) the name of a function or type for it. */

typedef T S(vec) __attribute__((vector_size(VECTOR)));
typedef T S(vec_at) __attribute__((vector_size(VECTOR), aligned(sizeof(T)), may_alias)); /* anywhere in memory */
enum { S(LANES) = VECTOR / sizeof(T), S(PANEL) = 4 * S(LANES) }; /* columns of the widest panel */

INLINE S(vec) S(load)(const T *p) { return *(const S(vec_at) *)p; }
INLINE void S(store)(T *p, S(vec) x) { *(S(vec_at) *)p = x; }

/* Whole numbers, as many and as large; a comparison makes them, of all bits or none. */
typedef __typeof__((S(vec)){0} == (S(vec)){0}) S(whole);
INLINE S(vec) S(choose)(S(whole) which, S(vec) a, S(vec) b) {
    return (S(vec))((which & (S(whole))a) | (~which & (S(whole))b));
}

/* LANES elements, `step` apart: 1 or 2. */
INLINE S(vec) S(load_apart)(const T *p, const int step) {
    if (step == 1) return S(load)(p);
    const S(vec) low = S(load)(p), high = S(load)(p + S(LANES));
    return sizeof(T) == 4 ? (S(vec))evens32((full32)low, (full32)high) : (S(vec))evens64((full64)low, (full64)high);
}

/* ---- the first `count` lanes of a vector, 0 < count <= LANES; the memory after them is not touched --------------- */

#if defined __AVX512F__
typedef uint32_t S(mask);
INLINE S(mask) S(first)(int64_t count) { return (1u << count) - 1; }
INLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    return sizeof(T) == 4 ? (S(vec))_mm512_maskz_loadu_ps((__mmask16)m, p)
                          : (S(vec))_mm512_maskz_loadu_pd((__mmask8)m, p);
}
INLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    if (sizeof(T) == 4)
        _mm512_mask_storeu_ps(p, (__mmask16)m, (__m512)x);
    else
        _mm512_mask_storeu_pd(p, (__mmask8)m, (__m512d)x);
}
#elif defined __AVX2__
typedef __m256i S(mask);
INLINE S(mask) S(first)(int64_t count) {
    return sizeof(T) == 4
               ? _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
               : _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    return sizeof(T) == 4 ? (S(vec))_mm256_maskload_ps((const float *)p, m)
                          : (S(vec))_mm256_maskload_pd((const double *)p, m);
}
INLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    if (sizeof(T) == 4)
        _mm256_maskstore_ps((float *)p, m, (__m256)x);
    else
        _mm256_maskstore_pd((double *)p, m, (__m256d)x);
}
#else
typedef int64_t S(mask);
INLINE S(mask) S(first)(int64_t count) { return count; }
OUTLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    S(vec) x = {0};
    UNROLL
    for (int i = 0; i < S(LANES); i++)
        if (i < m) x[i] = p[i];
    return x;
}
OUTLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    UNROLL
    for (int i = 0; i < S(LANES); i++)
        if (i < m) p[i] = x[i];
}
#endif

/* ---- packing ----------------------------------------------------------------------------------------------------- */

#include "ops/kernels/transpose_typed.h"

enum { S(STRIP) = (ROWS + S(LANES) - 1) / S(LANES) * S(LANES) };

/* Packs `count` >= BAND contiguous rows, and asks for the lines of as many after these. */
OUTLINE void S(pack_rows)(int64_t count, int64_t k, const T *x, int64_t is, T *to, int64_t stride) {
    enum { RUN = 64 / sizeof(T) };
    for (int64_t l = 0; l < k; l += RUN, x += RUN, to += RUN * stride) {
        const int64_t run = min_of(RUN, k - l);
        for (int64_t b = 0; b < count; b += S(BAND)) {
            const int64_t i = min_of(b, count - S(BAND));
            const T *from = x + i * is, *next = from + count * is;
            for (int r = 0; r < S(BAND); r++, next += is) __builtin_prefetch(next, 0, 2);
            const T *upper = from + (S(BAND) - S(SQUARE)) * is;
            T *at = to + i;
            int64_t q = run;
            for (; q >= S(SQUARE); q -= S(SQUARE)) {
                S(transpose_rows)(from, upper, is, at, stride);
                STEP(from, S(SQUARE));
                STEP(upper, S(SQUARE));
                at += S(SQUARE) * stride;
            }
            for (; q > 0; q--, from++, at += stride)
                for (int r = 0; r < S(BAND); r++) at[r] = from[r * is];
        }
    }
}

/* to[l * stride + i] = x[i * is + l * ls], i < count, l < k. From count up to the next multiple of LANES, `to` gets any
 * numbers that are there. */
OUTLINE void S(pack)(int64_t count, int64_t k, const T *x, int64_t is, int64_t ls, T *to, int64_t stride) {
    if (ls == 1 && is != 1 && count >= S(BAND)) {
        S(pack_rows)(count, k, x, is, to, stride);
        return;
    }
    const int64_t whole = is == 1 ? (count - 1) / S(LANES) * S(LANES) : 0, rest = count - whole;
    const S(mask) last = S(first)(is == 1 ? rest : 1);
    for (int64_t l = 0; l < k; l++, x += ls, to += stride) {
        for (int64_t i = 0; i < whole; i += S(LANES)) {
            S(store)(to + i, S(load)(x + i));
            __builtin_prefetch(x + i + count, 0, 2);
        }
        if (is == 1) {
            S(store)(to + whole, S(load_first)(x + whole, last));
            __builtin_prefetch(x + whole + count, 0, 2);
        } else {
            for (int64_t i = 0; i < round_up(count, S(LANES)); i++) to[i] = x[min_of(i, count - 1) * is];
        }
    }
}
