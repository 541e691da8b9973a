/* The matrix product for one element type: T is float or double, S(name) the name of a function or type for it. */

/* ---- what C begins with ------------------------------------------------------------------------------------------ */

/* At the first element of a part of C: nothing (NULL), the bias, or what C holds already. */
typedef struct S(start) {
    const T *at;
    int64_t rs, cs;
} S(start);

INLINE S(start) S(start_of)(const ad_gemm *p, int64_t l, int64_t i, int64_t j) {
    if (p->add || l > 0) return (S(start)){(const T *)p->c + i * p->rsc + j * p->csc, p->rsc, p->csc};
    if (!p->bias) return (S(start)){NULL, 0, 0};
    return (S(start)){(const T *)p->bias + i * p->rs_bias + j * p->cs_bias, p->rs_bias, p->cs_bias};
}

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
    S(mask) last;   /* of the last vector */
    S(start) start; /* of contiguous rows, if any */
} S(tile);

#define WHOLE(j) (full || j + 1 < vecs)

INLINE void S(tile_any)(const int rows, const int vecs, const bool full, const S(tile) * t) {
    S(vec) acc[ROWS][4];
    const T *group[(ROWS + 3) / 4], *a = t->a, *b = t->b; /* four rows share a pointer: registers are few */
    const int64_t k = t->k, rsa = t->rsa, csa = t->csa, rsb = t->rsb, rsc = t->rsc;
    const S(mask) last = t->last;
    T *c = t->c;
    UNROLL
    for (int i = 0; i < rows; i++) {
        if (i % 4 == 0) {
            group[i / 4] = a;
            STEP(a, 4 * rsa);
        }
        UNROLL
        for (int j = 0; j < vecs; j++) acc[i][j] = (S(vec)){0};
    }
    if (vecs > 1 && k > 4 * AHEAD) {
        T *to = c;
        for (int i = 0; i < rows; i++) {
            __builtin_prefetch(to, 1);
            __builtin_prefetch(to + S(LANES) * (vecs - 1), 1);
            STEP(to, rsc);
        }
    }
    for (int64_t l = 0; l < k; l++) {
        S(vec) x[4];
        UNROLL
        for (int j = 0; j < vecs; j++) {
            const T *from = b + j * S(LANES);
            x[j] = WHOLE(j) ? S(load)(from) : S(load_first)(from, last);
            if (vecs > 1) __builtin_prefetch(from + AHEAD * rsb); /* past the end it does no harm */
        }
        STEP(b, rsb);
        if (vecs > 1) __builtin_prefetch(group[0] + AHEAD * csa);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const T f = group[i / 4][i % 4 * rsa];
            UNROLL
            for (int j = 0; j < vecs; j++) acc[i][j] += f * x[j];
            if (i % 4 == 3 || i + 1 == rows) STEP(group[i / 4], csa);
        }
    }
    if (t->start.at) {
        const T *from = t->start.at;
        const int64_t rs = t->start.rs;
        UNROLL
        for (int i = 0; i < rows; i++) {
            UNROLL
            for (int j = 0; j < vecs; j++) {
                const T *at = from + j * S(LANES);
                acc[i][j] += WHOLE(j) ? S(load)(at) : S(load_first)(at, last);
            }
            STEP(from, rs);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vecs; j++) {
            T *at = c + j * S(LANES);
            if (WHOLE(j))
                S(store)(at, acc[i][j]);
            else
                S(store_first)(at, last, acc[i][j]);
        }
        STEP(c, rsc);
    }
}
/* tiles[the last vector is whole][vectors - 1][rows - 1]. With AVX-512 a part of a vector costs no more than the whole. */
#define TILE(r, v)                                                                                                   \
    static void S(part_##r##_##v)(const S(tile) * t) { S(tile_any)(r, v, false, t); }                                \
    FULL(r, v)
#if defined __AVX512F__
#define FULL(r, v)
#define FULL_NAME(r, v) S(part_##r##_##v),
#else
#define FULL(r, v)                                                                                                   \
    static void S(full_##r##_##v)(const S(tile) * t) { S(tile_any)(r, v, true, t); }
#define FULL_NAME(r, v) S(full_##r##_##v),
#endif
#define PART_NAME(r, v) S(part_##r##_##v),
FOR_ROWS(TILE, 1)
FOR_ROWS(TILE, 2)
FOR_HALF(TILE, 3)
FOR_QUARTER(TILE, 4)
typedef void S(tile_function)(const S(tile) * t);
static S(tile_function) *const S(tiles)[2][4][ROWS] = {
    {{FOR_ROWS(PART_NAME, 1)}, {FOR_ROWS(PART_NAME, 2)}, {FOR_HALF(PART_NAME, 3)}, {FOR_QUARTER(PART_NAME, 4)}},
    {{FOR_ROWS(FULL_NAME, 1)}, {FOR_ROWS(FULL_NAME, 2)}, {FOR_HALF(FULL_NAME, 3)}, {FOR_QUARTER(FULL_NAME, 4)}},
};
#undef TILE
#undef FULL
#undef FULL_NAME
#undef PART_NAME

/* The width of the next panel, with n columns left: three vectors rather than two and one. */
INLINE int S(vectors)(int vecs, int64_t n) {
    const int64_t left = (n + S(LANES) - 1) / S(LANES);
    return left <= vecs || left == 3 ? (int)left : vecs;
}

/* ---- blocks of tiles --------------------------------------------------------------------------------------------- */

/* A tile of a C, or of what it begins with, without contiguous rows. */
static void S(scattered)(const S(tile) * t, S(tile_function) * tile, int64_t rows, int64_t width, int64_t csc) {
    T block[ROWS * S(PANEL)], columns[S(PANEL) * S(STRIP)];
    const S(start) start = t->start;
    S(tile) to_block = *t;
    to_block.c = block, to_block.rsc = S(PANEL), to_block.start.at = NULL;
    tile(&to_block);
    if (t->rsc != 1 || (start.at && start.rs != 1)) {
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < width; j++) {
                const T product = block[i * S(PANEL) + j];
                t->c[i * t->rsc + j * csc] = start.at ? start.at[i * start.rs + j * start.cs] + product : product;
            }
        }
        return;
    }
    S(pack)(rows, width, block, S(PANEL), 1, columns, S(STRIP));
    for (int64_t i = 0; i < rows; i += S(LANES)) {
        const S(mask) some = S(first)(min_of(rows - i, S(LANES)));
        T *column = columns + i, *c = t->c + i;
        /* All is read before anything is written: a read next to a write of parts of a vector waits for it. */
        for (int64_t j = 0; j < width && start.at; j++) {
            T *sum = column + j * S(STRIP);
            S(store)(sum, S(load)(sum) + S(load_first)(start.at + i + j * start.cs, some));
        }
        for (int64_t j = 0; j < width; j++) S(store_first)(c + j * csc, some, S(load)(column + j * S(STRIP)));
    }
}

/* A strip of rows by a panel of columns: one tile, or several with fewer rows if the panel is wide. */
INLINE void S(multiply_strip)(S(tile) * t, int64_t rows, int64_t width, int64_t csc) {
    const int vecs = (int)((width + S(LANES) - 1) / S(LANES));
    const bool whole = width == vecs * S(LANES), rows_lie = csc == 1 && (!t->start.at || t->start.cs == 1);
    const cut parts = cut_evenly(rows, vecs < 3 ? ROWS : vecs == 3 ? ROWS / 2 : ROWS / 4);
    t->last = S(first)(width - (vecs - 1) * S(LANES));
    for (int64_t i = 0; i < parts.parts; i++) {
        const int64_t part = part_size(parts, i);
        S(tile_function) *tile = S(tiles)[whole][vecs - 1][part - 1];
        if (rows_lie)
            tile(t);
        else
            S(scattered)(t, tile, part, width, csc);
        t->a += part * t->rsa;
        t->c += part * t->rsc;
        if (t->start.at) t->start.at += part * t->start.rs;
    }
}

static void S(pack_b)(int64_t n, int64_t k, const T *b, int64_t rsb, int64_t csb, int vecs, T *to) {
    for (int64_t j = 0, width; j < n; j += width) {
        width = S(vectors)(vecs, n - j) * S(LANES);
        S(pack)(min_of(n - j, width), k, b + j * csb, csb, rsb, to + j * k, width);
    }
}

/* Rows i0 to i1 and columns j0 to j1 of C, all k. */
static void S(multiply_tiles)(const ad_gemm *p, const plan *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                              T *packed_a, T *packed_b) {
    const cut strips = cut_evenly(i1 - i0, ROWS);
    S(tile) t;
    t.rsa = g->pack_a ? 1 : p->rsa;
    t.csa = g->pack_a ? S(STRIP) : p->csa;
    t.rsc = p->rsc;
    for (int64_t jb = j0; jb < j1; jb += NC) {
        const int64_t n = min_of(j1 - jb, NC);
        for (int64_t l = 0; l < p->k; l += g->kc) {
            const int64_t k = t.k = min_of(g->kc, p->k - l);
            const T *b = (const T *)p->b + l * p->rsb + jb * p->csb;
            if (g->pack_b) S(pack_b)(n, k, b, p->rsb, p->csb, g->vecs, packed_b);
            for (int64_t s = 0, i = i0, rows; s < strips.parts; s++, i += rows) {
                rows = part_size(strips, s);
                const T *a = (const T *)p->a + i * p->rsa + l * p->csa;
                if (g->pack_a) S(pack)(rows, k, a, p->rsa, p->csa, packed_a, S(STRIP));
                for (int64_t j = 0, width; j < n; j += width) {
                    width = S(vectors)(g->vecs, n - j) * S(LANES);
                    t.a = g->pack_a ? packed_a : a;
                    t.b = g->pack_b ? packed_b + j * k : b + j;
                    t.rsb = g->pack_b ? width : p->rsb;
                    t.c = (T *)p->c + i * p->rsc + (jb + j) * p->csc;
                    t.start = S(start_of)(p, l, i, jb + j);
                    S(multiply_strip)(&t, rows, min_of(n - j, width), p->csc);
                }
            }
        }
    }
}

/* ---- dot products ------------------------------------------------------------------------------------------------ */

/* Of rows of four vectors each the sums of their lanes, to `rows` by `columns` elements of C. */
OUTLINE void S(store_dots)(int rows, int columns, S(vec) x[4][4], T *c, int64_t rsc, int64_t csc, S(start) start) {
    for (int i = 0; i < rows; i++, c += rsc) {
        const T *from = start.at ? start.at + i * start.rs : NULL;
        S(lane) sums[4 / S(SQUARE)];
        UNROLL
        for (int j = 0; j < 4; j += S(SQUARE)) {
            wide64 v[4];
            UNROLL
            for (int q = 0; q < S(SQUARE); q++) {
                const S(wide_at) *half = (const S(wide_at) *)&x[i][j + q];
                S(wide) sum = half[0];
                if (sizeof(S(vec)) > sizeof(S(wide))) sum += half[1];
                v[q] = (wide64)sum;
            }
            S(transpose)(v);
            S(wide) sum = (S(wide))v[0];
            UNROLL
            for (int q = 1; q < S(SQUARE); q++) sum += (S(wide))v[q];
            sums[j / S(SQUARE)] = (S(lane))lower((wide64)sum);
            if (WIDE > 16) sums[j / S(SQUARE)] += (S(lane))upper((wide64)sum);
        }
        T *to = c;
        UNROLL
        for (int j = 0; j < 4; j++) {
            const T sum = sums[j / S(SQUARE)][j % S(SQUARE)];
            if (j < columns) *to = from ? from[j * start.cs] + sum : sum;
            to += csc;
        }
    }
}

/* C[rows, columns] (+)= A B with contiguous rows of A, columns of B; up to 4 columns, or 8 of a single row, which are then
 * summed like two rows of 4. */
INLINE void S(dots)(const int rows, const int columns, const ad_gemm *p, const T *a, const T *b, T *c,
                    S(start) start) {
    S(vec) acc[4][4], x[4];
    const int64_t k = p->k, rsa = p->rsa, csb = p->csb, whole = (k - 1) / S(LANES) * S(LANES);
    UNROLL
    for (int i = 0; i < 16; i++) acc[i / 4][i % 4] = (S(vec)){0};
    for (int64_t l = 0; l < whole; l += S(LANES)) {
        UNROLL
        for (int i = 0; i < rows; i++) x[i] = S(load)(a + i * rsa + l);
        UNROLL
        for (int j = 0; j < columns; j++) {
            const S(vec) y = S(load)(b + j * csb + l);
            UNROLL
            for (int i = 0; i < rows; i++) acc[i + j / 4][j % 4] += x[i] * y;
        }
    }
    const S(mask) rest = S(first)(k - whole);
    UNROLL
    for (int i = 0; i < rows; i++) x[i] = S(load_first)(a + i * rsa + whole, rest);
    UNROLL
    for (int j = 0; j < columns; j++) {
        const S(vec) y = S(load_first)(b + j * csb + whole, rest);
        UNROLL
        for (int i = 0; i < rows; i++) acc[i + j / 4][j % 4] += x[i] * y;
    }
    if (columns == 8)
        S(store_dots)(2, 4, acc, c, 4 * p->csc, p->csc, (S(start)){start.at, 4 * start.cs, start.cs});
    else
        S(store_dots)(rows, columns, acc, c, p->rsc, p->csc, start);
}

#define FOR_COLUMNS(X, r) X(r, 1) X(r, 2) X(r, 3) X(r, 4)
#define DOTS(r, n)                                                                                                   \
    static void S(dots_##r##_##n)(const ad_gemm *p, const T *a, const T *b, T *c, S(start) start) {                  \
        S(dots)(r, n, p, a, b, c, start);                                                                            \
    }
#define DOTS_NAME(r, n) S(dots_##r##_##n),
FOR_COLUMNS(DOTS, 1)
FOR_COLUMNS(DOTS, 2)
FOR_COLUMNS(DOTS, 3)
FOR_COLUMNS(DOTS, 4)
DOTS(1, 8)

OUTLINE void S(multiply_dots)(const ad_gemm *p, const plan *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                              T *packed_a) {
    typedef void dots_function(const ad_gemm *p, const T *a, const T *b, T *c, S(start) start);
    static dots_function *const dots[4][4] = {{FOR_COLUMNS(DOTS_NAME, 1)},
                                              {FOR_COLUMNS(DOTS_NAME, 2)},
                                              {FOR_COLUMNS(DOTS_NAME, 3)},
                                              {FOR_COLUMNS(DOTS_NAME, 4)}};
    const T *a = (const T *)p->a + i0 * p->rsa;
    for (int64_t l = 0; l < p->k && g->pack_a; l++) packed_a[l] = a[l * p->csa];
    if (g->pack_a) a = packed_a;
    const cut strips = cut_evenly(i1 - i0, 4);
    for (int64_t s = 0, i = i0, rows; s < strips.parts; s++, i += rows, a += rows * p->rsa) {
        rows = part_size(strips, s);
        const T *b = (const T *)p->b + j0 * p->csb;
        T *c = (T *)p->c + i * p->rsc + j0 * p->csc;
        for (int64_t left = j1 - j0, columns; left > 0;
             left -= columns, b += columns * p->csb, c += columns * p->csc) {
            columns = rows == 1 && left >= 8 ? 8 : min_of(left, 4);
            const S(start) start = S(start_of)(p, 0, i, j1 - left);
            if (columns == 8)
                S(dots_1_8)(p, a, b, c, start);
            else
                dots[rows - 1][columns - 1](p, a, b, c, start);
        }
    }
}
#undef FOR_COLUMNS
#undef DOTS
#undef DOTS_NAME

/* ---- sums of rows ------------------------------------------------------------------------------------------------ */

/* c (+)= x[0] b[0,:] + x[1] b[1,:] + ..., `vecs` vectors of columns. Four sums, each of every fourth row, keep a narrow c
 * from waiting for itself. */
INLINE void S(sum_rows)(const int vecs, const bool full, int64_t k, const T *x, int64_t csx, const T *b, int64_t rsb,
                        T *c, S(mask) last, S(start) start) {
    S(vec) acc[4][4];
    UNROLL
    for (int w = 0; w < 4; w++) {
        UNROLL
        for (int j = 0; j < vecs; j++) acc[w][j] = (S(vec)){0};
    }
    for (; k >= 4; k -= 4) {
        UNROLL
        for (int w = 0; w < 4; w++) {
            UNROLL
            for (int j = 0; j < vecs; j++) {
                const T *from = b + j * S(LANES);
                acc[w][j] += *x * (WHOLE(j) ? S(load)(from) : S(load_first)(from, last));
            }
            STEP(x, csx);
            STEP(b, rsb);
        }
    }
    for (; k > 0; k--, x += csx, b += rsb) {
        UNROLL
        for (int j = 0; j < vecs; j++)
            acc[0][j] += *x * (WHOLE(j) ? S(load)(b + j * S(LANES)) : S(load_first)(b + j * S(LANES), last));
    }
    UNROLL
    for (int j = 0; j < vecs; j++) {
        T *at = c + j * S(LANES);
        S(vec) sum = (acc[0][j] + acc[1][j]) + (acc[2][j] + acc[3][j]);
        if (start.at && start.cs == 0) {
            sum += *start.at;
        } else if (start.at) {
            const T *from = start.at + j * S(LANES);
            sum += WHOLE(j) ? S(load)(from) : S(load_first)(from, last);
        }
        if (WHOLE(j))
            S(store)(at, sum);
        else
            S(store_first)(at, last, sum);
    }
}

OUTLINE void S(multiply_sums)(const ad_gemm *p, int64_t j0, int64_t j1) {
    for (int64_t l = 0; l < p->k; l += KC) {
        const int64_t k = min_of(p->k - l, KC), csx = p->csa, rsb = p->rsb;
        const T *x = (const T *)p->a + l * csx;
        for (int64_t j = j0, width; j < j1; j += width) {
            const T *b = (const T *)p->b + l * rsb + j;
            T *c = (T *)p->c + j;
            const S(start) start = S(start_of)(p, l, 0, j);
            const int64_t left = j1 - j;
            width = left >= 4 * S(LANES) ? 4 * S(LANES) : min_of(left, 2 * S(LANES));
            const S(mask) last = S(first)((width - 1) % S(LANES) + 1);
            if (left >= 4 * S(LANES))
                S(sum_rows)(4, true, k, x, csx, b, rsb, c, last, start);
            else if (left > S(LANES))
                S(sum_rows)(2, false, k, x, csx, b, rsb, c, last, start);
            else
                S(sum_rows)(1, false, k, x, csx, b, rsb, c, last, start);
        }
    }
}

/* ---- the choice of a path ---------------------------------------------------------------------------------------- */

/* Estimates in multiply-adds of vectors, two of which take a cycle. */
INLINE double S(tiles_work)(int64_t m, int64_t n, int64_t k, bool pack_b, bool scatter) {
    const double vectors = (double)((n + S(LANES) - 1) / S(LANES)), one_row = (double)k * (double)n;
    const double scattering = scatter ? (double)m * (double)n / 2 : 0;
    return (double)k * vectors * ((double)m + 0.5) + (pack_b ? one_row / 2 + 100 : 0) + scattering;
}
INLINE double S(dots_work)(int64_t m, int64_t n, int64_t k) {
    const double vectors = (double)((k + S(LANES) - 1) / S(LANES));
    return (double)m * (double)n * (vectors * (m > 16 && n * k > OFTEN * 32 ? 1.5 : 1.15) + 6);
}

/* Plans the problem, or its transpose in `turned`: returns the one. */
static const ad_gemm *S(make_plan)(const ad_gemm *p, ad_gemm *turned, plan *g) {
    *g = (plan){.path = TILES};
    const bool few = p->m == 1 || p->n == 1;
    const bool good = p->csc == 1 && p->csb == 1 && (p->rsa != 1 || p->n > S(PANEL) || p->n == S(LANES));
    if (p->m != 1 && (p->n == 1 || !good)) {
        const double as_is = S(tiles_work)(p->m, p->n, p->k, p->csb != 1, p->csc != 1);
        const double other = S(tiles_work)(p->n, p->m, p->k, p->rsa != 1, p->rsc != 1);
        if (few || other < as_is) *turned = transposed(p), p = turned;
    }
    const bool dots = p->rsb == 1 && (p->csa == 1 || p->m == 1);
    if (dots && (few || S(dots_work)(p->m, p->n, p->k) < S(tiles_work)(p->m, p->n, p->k, p->csb != 1, p->csc != 1))) {
        g->path = DOTS;
        g->pack_a = p->csa != 1;
        if (g->pack_a) g->a_bytes = (size_t)p->k * sizeof(T);
        return p;
    }
    if (p->m == 1 && p->csb == 1 && p->csc == 1 && (!p->bias || p->cs_bias == 0 || p->cs_bias == 1)) {
        g->path = SUMS;
        return p;
    }
    const cut k = cut_evenly(p->k, KC * 4 / sizeof(T));
    g->kc = k.size + (k.longer > 0);
    g->vecs = p->m <= ROWS / 4 ? 4 : 2;
    const bool collide = p->csa == 1 && p->rsa * (int64_t)sizeof(T) % COLLIDE == 0;
    g->pack_a = p->n >= (collide || p->rsa == 1 ? OFTEN : S(PANEL)) && (collide || p->csa != 1);
    g->pack_b = p->csb != 1 || (p->m >= OFTEN && p->k * p->n > LARGE / (int64_t)sizeof(T)) ||
                (p->m >= OFTEN / 4 && p->rsb % S(LANES) != 0);
    if (g->pack_a) g->a_bytes = (size_t)(S(STRIP) * g->kc) * sizeof(T);
    if (g->pack_b) g->b_bytes = (size_t)(round_up(min_of(NC, p->n), S(LANES)) * g->kc) * sizeof(T);
    return p;
}

/* Rows i0 to i1 and columns j0 to j1 of C. */
static void S(gemm)(const ad_gemm *problem, int64_t i0, int64_t i1, int64_t j0, int64_t j1, char *scratch) {
    ad_gemm turned;
    plan g;
    if (i0 >= i1 || j0 >= j1) return;
    const ad_gemm *p = S(make_plan)(problem, &turned, &g);
    if (p == &turned) {
        const int64_t i[] = {i0, i1};
        i0 = j0, i1 = j1, j0 = i[0], j1 = i[1];
    }
    T *packed_a = (T *)(void *)scratch, *packed_b = scratch ? (T *)(void *)(scratch + g.a_bytes) : NULL;
    if (p->k == 0) {
        for (int64_t i = i0; i < i1 && !p->add; i++) {
            for (int64_t j = j0; j < j1; j++) {
                const S(start) start = S(start_of)(p, 0, i, j);
                ((T *)p->c)[i * p->rsc + j * p->csc] = start.at ? *start.at : 0;
            }
        }
    } else if (g.path == TILES) {
        S(multiply_tiles)(p, &g, i0, i1, j0, j1, packed_a, packed_b);
    } else if (g.path == DOTS) {
        S(multiply_dots)(p, &g, i0, i1, j0, j1, packed_a);
    } else {
        S(multiply_sums)(p, j0, j1);
    }
}
#undef WHOLE
