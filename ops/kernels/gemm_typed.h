/* The matrix product for one element type: T is float or double, S(name) the name of a function or type for it. */

typedef T S(vec) __attribute__((vector_size(VECTOR)));
typedef T S(vec_at) __attribute__((vector_size(VECTOR), aligned(sizeof(T)), may_alias)); /* anywhere in memory */
enum { S(LANES) = VECTOR / sizeof(T), S(PANEL) = 2 * S(LANES) };

INLINE S(vec) S(load)(const T *p) { return *(const S(vec_at) *)p; }
INLINE void S(store)(T *p, S(vec) x) { *(S(vec_at) *)p = x; }

/* ---- the first `count` lanes of a vector, 0 < count <= LANES; the memory after them is not touched --------------- */

#if defined __AVX512F__
typedef uint32_t S(mask);
INLINE S(mask) S(first)(int64_t count) { return (1u << count) - 1; }
INLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    return sizeof(T) == 4 ? (S(vec))_mm512_maskz_loadu_ps((__mmask16)m, p)
                          : (S(vec))_mm512_maskz_loadu_pd((__mmask8)m, p);
}
INLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    if (sizeof(T) == 4) _mm512_mask_storeu_ps(p, (__mmask16)m, (__m512)x);
    else _mm512_mask_storeu_pd(p, (__mmask8)m, (__m512d)x);
}
#elif defined __AVX2__
typedef __m256i S(mask);
INLINE S(mask) S(first)(int64_t count) {
    return sizeof(T) == 4 ? _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
                          : _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
INLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    return sizeof(T) == 4 ? (S(vec))_mm256_maskload_ps((const float *)p, m)
                          : (S(vec))_mm256_maskload_pd((const double *)p, m);
}
INLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    if (sizeof(T) == 4) _mm256_maskstore_ps((float *)p, m, (__m256)x);
    else _mm256_maskstore_pd((double *)p, m, (__m256d)x);
}
#else
typedef int64_t S(mask);
INLINE S(mask) S(first)(int64_t count) { return count; }
INLINE S(vec) S(load_first)(const T *p, S(mask) m) {
    S(vec) x = {0};
    for (int64_t i = 0; i < m; i++) x[i] = p[i];
    return x;
}
INLINE void S(store_first)(T *p, S(mask) m, S(vec) x) {
    for (int64_t i = 0; i < m; i++) p[i] = x[i];
}
#endif

/* ---- a tile of C ------------------------------------------------------------------------------------------------- */

/* `a` is the tile's first row at the block's first k, `b` and `c` its first column. */
typedef struct S(tile) {
    int64_t k;
    const T *a;
    int64_t rsa, csa;
    const T *b;
    int64_t rsb;
    T *c;
    int64_t rsc;
    S(mask) last; /* of the last vector */
    bool add;
} S(tile);

INLINE void S(tile_any)(const int rows, const int vecs, const bool full, const S(tile) *t) {
    S(vec) acc[ROWS][2];
    const T *group[(ROWS + 3) / 4], *b = t->b; /* four rows share a pointer: registers are few */
    T *c = t->c;
    const int64_t k = t->k, rsa = t->rsa, csa = t->csa, rsb = t->rsb, rsc = t->rsc;
    const S(mask) last = t->last;
#define WHOLE(j) (full || j + 1 < vecs)
    UNROLL
    for (int i = 0; i < rows; i++) {
        if (i % 4 == 0) group[i / 4] = t->a + i * rsa;
        __builtin_prefetch(c + i * rsc, 1);
        UNROLL
        for (int j = 0; j < vecs; j++) acc[i][j] = (S(vec)){0};
    }
    for (int64_t l = 0; l < k; l++, b += rsb) {
        S(vec) x[2];
        UNROLL
        for (int j = 0; j < vecs; j++) {
            const T *from = b + j * S(LANES);
            x[j] = WHOLE(j) ? S(load)(from) : S(load_first)(from, last);
            __builtin_prefetch(from + 8 * rsb);
        }
        __builtin_prefetch(group[0] + 8 * csa);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const T f = group[i / 4][i % 4 * rsa];
            UNROLL
            for (int j = 0; j < vecs; j++) acc[i][j] += f * x[j];
            if (i % 4 == 3 || i + 1 == rows) group[i / 4] += csa;
        }
    }
    if (t->add) {
        UNROLL
        for (int i = 0; i < rows; i++) {
            UNROLL
            for (int j = 0; j < vecs; j++) {
                const T *from = c + i * rsc + j * S(LANES);
                acc[i][j] += WHOLE(j) ? S(load)(from) : S(load_first)(from, last);
            }
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            T *to = c + i * rsc + j * S(LANES);
            if (WHOLE(j)) S(store)(to, acc[i][j]);
            else S(store_first)(to, last, acc[i][j]);
        }
    }
#undef WHOLE
}

/* tiles[rows - 1][vectors - 1][the last vector is whole]; with AVX-512 a part costs no more than the whole. */
#if defined __AVX512F__
#define X(r)                                                                                                         \
    static void S(tile_##r##_1)(const S(tile) *t) { S(tile_any)(r, 1, false, t); }                                   \
    static void S(tile_##r##_2)(const S(tile) *t) { S(tile_any)(r, 2, false, t); }
FOR_ROWS(X)
#undef X
#define X(r) {{S(tile_##r##_1), S(tile_##r##_1)}, {S(tile_##r##_2), S(tile_##r##_2)}},
#else
#define X(r)                                                                                                         \
    static void S(tile_##r##_1)(const S(tile) *t) { S(tile_any)(r, 1, false, t); }                                   \
    static void S(tile_##r##_2)(const S(tile) *t) { S(tile_any)(r, 2, false, t); }                                   \
    static void S(full_##r##_1)(const S(tile) *t) { S(tile_any)(r, 1, true, t); }                                    \
    static void S(full_##r##_2)(const S(tile) *t) { S(tile_any)(r, 2, true, t); }
FOR_ROWS(X)
#undef X
#define X(r) {{S(tile_##r##_1), S(full_##r##_1)}, {S(tile_##r##_2), S(full_##r##_2)}},
#endif
static void (*const S(tiles)[ROWS][2][2])(const S(tile) *t) = {FOR_ROWS(X)};
#undef X

/* ---- packing ----------------------------------------------------------------------------------------------------- */

enum { S(SQUARE) = 16 / sizeof(T), S(BAND) = WIDE / sizeof(T), S(STRIP) = (ROWS + S(LANES) - 1) / S(LANES) * S(LANES) };

/* SQUARE columns, from column l on, of BAND rows become SQUARE rows. */
INLINE void S(transpose)(const T *const *row, int64_t l, T *to, int64_t stride) {
    wide64 v[4];
    UNROLL
    for (int i = 0; i < S(SQUARE); i++) v[i] = join(row[i] + l, row[S(BAND) - S(SQUARE) + i] + l);
    if (sizeof(T) == 4) {
        const wide32 a = (wide32)v[0], b = (wide32)v[1], c = (wide32)v[2], d = (wide32)v[3];
        v[0] = (wide64)low32(a, b), v[1] = (wide64)low32(c, d);
        v[2] = (wide64)high32(a, b), v[3] = (wide64)high32(c, d);
    }
    UNROLL
    for (int i = 0; i < S(SQUARE); i += 2) {
        *(wide_at *)(to + i * stride) = low64(v[i], v[i + 1]);
        *(wide_at *)(to + (i + 1) * stride) = high64(v[i], v[i + 1]);
    }
}

static void S(pack_rows)(int64_t count, int64_t k, const T *x, int64_t is, T *to, int64_t stride) {
    for (int64_t i = 0; i < count; i += S(BAND)) {
        const T *row[S(BAND)];
        UNROLL
        for (int r = 0; r < S(BAND); r++) row[r] = x + min_of(i + r, count - 1) * is;
        int64_t l = 0;
        for (; l + S(SQUARE) <= k; l += S(SQUARE)) S(transpose)(row, l, to + l * stride + i, stride);
        for (; l < k; l++) {
            UNROLL
            for (int r = 0; r < S(BAND); r++) to[l * stride + i + r] = row[r][l];
        }
    }
}

/* to[l * stride + i] = x[i * is + l * ls], i < count, l < k. From count up to the next multiple of LANES, `to` gets any
 * numbers that are there. */
static void S(pack)(int64_t count, int64_t k, const T *x, int64_t is, int64_t ls, T *to, int64_t stride) {
    if (ls == 1 && is != 1) {
        S(pack_rows)(count, k, x, is, to, stride);
        return;
    }
    const int64_t whole = is == 1 ? (count - 1) / S(LANES) * S(LANES) : 0, rest = count - whole;
    const S(mask) last = S(first)(is == 1 ? rest : 1);
    for (int64_t l = 0; l < k; l++, x += ls, to += stride) {
        for (int64_t i = 0; i < whole; i += S(LANES)) S(store)(to + i, S(load)(x + i));
        if (is == 1) {
            S(store)(to + whole, S(load_first)(x + whole, last));
        } else {
            for (int64_t i = 0; i < round_up(count, S(LANES)); i++) to[i] = x[min_of(i, count - 1) * is];
        }
    }
}

static void S(pack_a)(int64_t m, int64_t k, const T *a, int64_t rsa, int64_t csa, T *to) {
    const cut strips = cut_evenly(m, ROWS);
    for (int64_t s = 0; s < strips.parts; s++, to += S(STRIP) * k) {
        const int64_t rows = part_size(strips, s);
        S(pack)(rows, k, a, rsa, csa, to, S(STRIP));
        a += rows * rsa;
    }
}

static void S(pack_b)(int64_t n, int64_t k, const T *b, int64_t rsb, int64_t csb, T *to) {
    for (int64_t j = 0; j < n; j += S(PANEL)) {
        const int64_t width = min_of(n - j, S(PANEL));
        S(pack)(width, k, b + j * csb, csb, rsb, to + j * k, round_up(width, S(LANES)));
    }
}

/* ---- blocks of tiles --------------------------------------------------------------------------------------------- */

/* A tile of a C without contiguous rows. */
static void S(scattered)(const S(tile) *t, int64_t rows, int64_t width, int64_t csc) {
    T block[ROWS * S(PANEL)];
    const int vecs = width > S(LANES) ? 2 : 1;
    S(tile) to_block = *t;
    to_block.c = block, to_block.rsc = S(PANEL), to_block.add = false;
    S(tiles)[rows - 1][vecs - 1][width == vecs * S(LANES)](&to_block);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < width; j++) {
            T *c = t->c + i * t->rsc + j * csc;
            *c = t->add ? *c + block[i * S(PANEL) + j] : block[i * S(PANEL) + j];
        }
    }
}

/* m rows of one panel. t is the first of its tiles. */
static void S(multiply_panel)(S(tile) *t, int64_t m, int64_t width, int64_t csc, bool packed_a) {
    const cut strips = cut_evenly(m, ROWS);
    const int vecs = width > S(LANES) ? 2 : 1;
    t->last = S(first)(width - (vecs - 1) * S(LANES));
    for (int64_t s = 0; s < strips.parts; s++) {
        const int64_t rows = part_size(strips, s);
        if (csc == 1) S(tiles)[rows - 1][vecs - 1][width == vecs * S(LANES)](t);
        else S(scattered)(t, rows, width, csc);
        t->a += packed_a ? S(STRIP) * t->k : rows * t->rsa;
        t->c += rows * t->rsc;
    }
}

/* Rows i0 to i1 and columns j0 to j1 of C, all k. */
static void S(multiply_tiles)(const ad_gemm *p, const plan *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                              T *packed_a, T *packed_b) {
    for (int64_t jb = j0; jb < j1; jb += g->nc) {
        const int64_t n = min_of(j1 - jb, g->nc);
        for (int64_t l = 0; l < p->k; l += g->kc) {
            const int64_t k = min_of(g->kc, p->k - l);
            const T *b = (const T *)p->b + l * p->rsb + jb * p->csb;
            if (g->pack_b) S(pack_b)(n, k, b, p->rsb, p->csb, packed_b);
            for (int64_t ib = i0; ib < i1; ib += g->mc) {
                const int64_t m = min_of(i1 - ib, g->mc);
                const T *a = (const T *)p->a + ib * p->rsa + l * p->csa;
                if (g->pack_a) S(pack_a)(m, k, a, p->rsa, p->csa, packed_a);
                for (int64_t j = 0; j < n; j += S(PANEL)) {
                    const int64_t width = min_of(n - j, S(PANEL));
                    S(tile) t;
                    t.k = k;
                    t.a = g->pack_a ? packed_a : a;
                    t.rsa = g->pack_a ? 1 : p->rsa;
                    t.csa = g->pack_a ? S(STRIP) : p->csa;
                    t.b = g->pack_b ? packed_b + j * k : b + j;
                    t.rsb = g->pack_b ? round_up(width, S(LANES)) : p->rsb;
                    t.c = (T *)p->c + ib * p->rsc + (jb + j) * p->csc;
                    t.rsc = p->rsc;
                    t.add = p->add || l > 0;
                    S(multiply_panel)(&t, m, width, p->csc, g->pack_a);
                }
            }
        }
    }
}

/* ---- C is one row ------------------------------------------------------------------------------------------------ */

INLINE T S(sum_lanes)(S(vec) x) {
    for (int half = S(LANES) / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

/* Columns of B are contiguous: `columns` dot products with x, in two vectors each. */
INLINE void S(dots)(const int columns, int64_t k, const T *x, const T *b, int64_t csb, T *c, int64_t csc, bool add) {
    S(vec) even[4], odd[4];
    UNROLL
    for (int j = 0; j < columns; j++) even[j] = odd[j] = (S(vec)){0};
    int64_t l = 0;
    for (; l + S(PANEL) <= k; l += S(PANEL)) {
        UNROLL
        for (int j = 0; j < columns; j++) {
            even[j] += S(load)(x + l) * S(load)(b + j * csb + l);
            odd[j] += S(load)(x + l + S(LANES)) * S(load)(b + j * csb + l + S(LANES));
        }
    }
    for (; l < k; l += S(LANES)) {
        const S(mask) some = S(first)(min_of(k - l, S(LANES)));
        UNROLL
        for (int j = 0; j < columns; j++) even[j] += S(load_first)(x + l, some) * S(load_first)(b + j * csb + l, some);
    }
    UNROLL
    for (int j = 0; j < columns; j++) {
        const T sum = S(sum_lanes)(even[j] + odd[j]);
        c[j * csc] = add ? c[j * csc] + sum : sum;
    }
}

static void S(multiply_dots)(const ad_gemm *p, const T *x, int64_t j0, int64_t j1) {
    const T *b = p->b;
    T *c = p->c;
    int64_t j = j0;
    for (; j + 4 <= j1; j += 4) S(dots)(4, p->k, x, b + j * p->csb, p->csb, c + j * p->csc, p->csc, p->add);
    for (; j < j1; j++) S(dots)(1, p->k, x, b + j * p->csb, p->csb, c + j * p->csc, p->csc, p->add);
}

/* Rows of B are contiguous: c (+)= x[0] b[0,:] + x[1] b[1,:] + ..., `rows` of them. */
INLINE void S(sums)(const int rows, int64_t n, const T *x, int64_t csx, const T *b, int64_t rsb, T *c, bool add) {
    T f[8];
    UNROLL
    for (int l = 0; l < rows; l++) f[l] = x[l * csx];
    for (int64_t j = 0; j < n; j += S(LANES)) {
        const S(mask) some = S(first)(min_of(n - j, S(LANES)));
        S(vec) even = add ? S(load_first)(c + j, some) : (S(vec)){0}, odd = {0};
        UNROLL
        for (int l = 0; l < rows; l++) {
            if (l % 2 == 0) even += f[l] * S(load_first)(b + l * rsb + j, some);
            else odd += f[l] * S(load_first)(b + l * rsb + j, some);
        }
        S(store_first)(c + j, some, even + odd);
    }
}

static void S(multiply_sums)(const ad_gemm *p, int64_t j0, int64_t j1) {
    enum { BLOCK = 2048 }; /* of c, to stay in L1 */
    const T *x = p->a;
    for (int64_t j = j0; j < j1; j += BLOCK) {
        const int64_t n = min_of(j1 - j, BLOCK);
        const T *b = (const T *)p->b + j;
        T *c = (T *)p->c + j;
        int64_t l = 0;
        for (; l + 8 <= p->k; l += 8)
            S(sums)(8, n, x + l * p->csa, p->csa, b + l * p->rsb, p->rsb, c, p->add || l > 0);
        for (; l < p->k; l++) S(sums)(1, n, x + l * p->csa, p->csa, b + l * p->rsb, p->rsb, c, p->add || l > 0);
    }
}

/* ---- a rectangle of C -------------------------------------------------------------------------------------------- */

static void S(multiply)(const ad_gemm *p, const plan *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1, T *packed_a,
                        T *packed_b) {
    if (p->k == 0) {
        for (int64_t i = i0; i < i1 && !p->add; i++)
            for (int64_t j = j0; j < j1; j++) ((T *)p->c)[i * p->rsc + j * p->csc] = 0;
    } else if (g->path == TILES) {
        S(multiply_tiles)(p, g, i0, i1, j0, j1, packed_a, packed_b);
    } else if (g->path == SUMS) {
        S(multiply_sums)(p, j0, j1);
    } else {
        const T *x = p->a;
        for (int64_t l = 0; l < p->k && g->pack_a; l++) packed_a[l] = x[l * p->csa];
        S(multiply_dots)(p, g->pack_a ? packed_a : x, j0, j1);
    }
}
