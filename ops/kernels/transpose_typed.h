/* Squares of one type: T, and S(name) to name them. */

typedef T S(wide) __attribute__((vector_size(WIDE)));
typedef T S(wide_at) __attribute__((vector_size(WIDE), aligned(4), may_alias));
typedef T S(lane) __attribute__((vector_size(16)));
enum { S(SQUARE) = 16 / sizeof(T), S(BAND) = WIDE / sizeof(T) };

/* Transposes each 16 bytes wide square in SQUARE rows. */
INLINE void S(transpose)(wide64 *v) {
    if (sizeof(T) == 4) {
        const wide32 a = (wide32)v[0], b = (wide32)v[1], c = (wide32)v[2], d = (wide32)v[3];
        v[0] = (wide64)low32(a, b), v[1] = (wide64)low32(c, d);
        v[2] = (wide64)high32(a, b), v[3] = (wide64)high32(c, d);
    }
    UNROLL
    for (int i = 0; i < S(SQUARE); i += 2) {
        const wide64 low = low64(v[i], v[i + 1]), high = high64(v[i], v[i + 1]);
        v[i] = low, v[i + 1] = high;
    }
}

/* SQUARE columns of BAND rows, `is` apart, become SQUARE rows; `upper` is where the second half of the rows begins. */
INLINE void S(transpose_rows)(const T *x, const T *upper, int64_t is, T *to, int64_t stride) {
    wide64 v[4];
    UNROLL
    for (int i = 0; i < S(SQUARE); i++) v[i] = join(x + i * is, upper + i * is);
    S(transpose)(v);
    UNROLL
    for (int i = 0; i < S(SQUARE); i++) {
        *(wide_at *)to = v[i];
        STEP(to, stride);
    }
}
