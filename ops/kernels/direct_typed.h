/* Convolution by sums over tables, for one type: T, and S(name) to name them. */

/* ---- a tile -------------------------------------------------------------------------------------------------------- */

typedef struct S(tile) {
    int64_t k;
    const T *row[ROWS], *vec[4];
    const int64_t *row_at, *vec_at;
    _Alignas(VECTOR) T sums[ROWS * S(PANEL)]; /* rows of four vectors */
} S(tile);

INLINE void S(sum_any)(const int rows, const int vecs, S(tile) * t) {
    S(vec) acc[ROWS][4];
    const T *row[ROWS], *vec[4];
    const int64_t *row_at = t->row_at, *vec_at = t->vec_at;
    UNROLL
    for (int j = 0; j < vecs; j++) vec[j] = t->vec[j];
    UNROLL
    for (int i = 0; i < rows; i++) {
        row[i] = t->row[i];
        UNROLL
        for (int j = 0; j < vecs; j++) acc[i][j] = (S(vec)){0};
    }
    for (int64_t l = 0; l < t->k; l++) {
        S(vec) x[4];
        const int64_t at = row_at[l], from = vec_at[l];
        UNROLL
        for (int j = 0; j < vecs; j++) x[j] = S(load)(vec[j] + from);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const T f = row[i][at];
            UNROLL
            for (int j = 0; j < vecs; j++) acc[i][j] += f * x[j];
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++) {
        UNROLL
        for (int j = 0; j < vecs; j++) S(store)(t->sums + i * S(PANEL) + j * S(LANES), acc[i][j]);
    }
}

/* sums[vectors - 1][rows - 1] */
#define SUM(r, v)                                                                                                    \
    static void S(sum_##r##_##v)(S(tile) * t) { S(sum_any)(r, v, t); }
#define SUM_NAME(r, v) S(sum_##r##_##v),
FOR_ROWS(SUM, 1)
FOR_ROWS(SUM, 2)
FOR_HALF(SUM, 3)
FOR_QUARTER(SUM, 4)
static void (*const S(sums)[4][ROWS])(S(tile) * t) = {{FOR_ROWS(SUM_NAME, 1)},
                                                      {FOR_ROWS(SUM_NAME, 2)},
                                                      {FOR_HALF(SUM_NAME, 3)},
                                                      {FOR_QUARTER(SUM_NAME, 4)}};
#undef SUM
#undef SUM_NAME

/* ---- what is read -------------------------------------------------------------------------------------------------- */

/* y[i] = x[i] for i < n, and anything in the rest of the last vector. Of x so many elements can be read. */
INLINE void S(copy_some)(const T *x, T *y, int64_t n, int64_t readable) {
    for (int64_t i = 0; i < n; i += S(LANES))
        S(store)(y + i, i + S(LANES) <= readable ? S(load)(x + i) : S(load_first)(x + i, S(first)(readable - i)));
}

/* What the windows in rows [first, last) see. */
static void S(copy_block)(const ad_direct *d, const T *image, int64_t first, int64_t last, T *block) {
    const ad_windows *v = &d->windows;
    const int64_t top = ad_window_begin(v, 0, first), seen = (v->kernel[0] - 1) * v->dilation[0] + 1;
    const int64_t rows = (last - first - 1) * v->stride[0] + seen;
    const int64_t left = ad_clamp_whole(v->padding[1], 0, d->row),
                  right = ad_clamp_whole(v->size[1] + v->padding[1], left, d->row);
    const int64_t of_plane = v->size[0] * v->size[1];
    for (int64_t p = 0; p < d->planes; p++) {
        const T *plane = image + p * of_plane;
        for (int64_t i = 0; i < rows; i++) {
            T *to = block + p * d->plane + i * d->row;
            const bool inside = top + i >= 0 && top + i < v->size[0];
            const int64_t from = inside ? left : d->row, end = inside ? right : d->row;
            for (int64_t j = 0; j < from; j++) to[j] = 0;
            if (from < end) { /* what is written behind the row is written again, or not read */
                const int64_t at = (top + i) * v->size[1] + from - v->padding[1];
                S(copy_some)(plane + at, to + from, end - from, (d->planes - p) * of_plane - at);
            }
            for (int64_t j = end; j < d->row; j++) to[j] = 0;
        }
    }
}

/* The width of the panel that begins at result j. */
INLINE int64_t S(panel)(const ad_direct *d, int64_t j) { return d->results - j > S(LANES) ? 2 * S(LANES) : S(LANES); }

INLINE T *S(packed_group)(const ad_direct *d, int64_t group) {
    return (T *)tables_of(d).packed + group * ad_direct_k(d) * round_up(d->results, S(LANES));
}

/* Panels [taps, width], one after another: plane by plane as taps lie in w, and from there to where they belong. */
static void S(pack_kernels)(const ad_direct *d) {
    const tables at = tables_of(d);
    const int64_t of_plane = d->windows.kernel[0] * d->windows.kernel[1], k = ad_direct_k(d);
    const int64_t by_row = ad_direct_row(d), wide = d->windows.kernel[1];
    T *taps = (T *)(void *)(d->scratch + d->shared);
    for (int64_t g = 0; g < d->c.groups; g++) {
        const T *w = (const T *)(const void *)d->w + g * d->results * k;
        T *to = S(packed_group)(d, g);
        for (int64_t j = 0, width; j < d->results; j += width) {
            width = S(panel)(d, j);
            for (int64_t p = 0; p < d->planes; p++) {
                const T *from = w + p * d->w_plane + j * d->w_result;
                S(pack)(min_of(width, d->results - j), of_plane, from, d->w_result, 1, taps, width);
                for (int64_t q = 0; q < of_plane; q++) {
                    const int64_t l = q / wide * by_row + p * wide + q % wide;
                    const T *tap = taps + (at.of_w[l] - p * d->w_plane) * width;
                    for (int64_t c = 0; c < width; c += S(LANES))
                        S(store)(to + j * k + l * width + c, S(load)(tap + c));
                }
            }
        }
    }
}

/* ---- the gradient or value of an image ----------------------------------------------------------------------------- */

/* Where a block of the result begins: [results, windows of an image] from there on. */
typedef struct S(target) {
    T *at;
    int64_t n;
    const T *bias;
    bool add;
} S(target);

/* y[i] = x[i] + bias. Stores of parts of vectors take longer than two that overlap. */
INLINE void S(store_biased)(const T *x, T *y, int64_t n, T bias) {
    if (n < S(BAND)) {
        for (int64_t i = 0; i < n; i++) y[i] = x[i] + bias;
        return;
    }
    for (int64_t b = 0; b < n; b += S(BAND)) {
        const int64_t i = min_of(b, n - S(BAND));
        *(S(wide_at) *)(y + i) = *(const S(wide_at) *)(x + i) + bias;
    }
}

/* Rows of windows, next to each other, become columns of the result, from channel j on. */
static void S(store_channels)(const S(target) * to, const S(tile) * t, int64_t rows, int64_t j, int64_t count) {
    _Alignas(VECTOR) T columns[2 * S(LANES) * S(STRIP)];
    S(pack)(rows, count, t->sums, S(PANEL), 1, columns, S(STRIP));
    T *y = to->at + j * to->n, *sums = columns;
    for (int64_t q = 0; q < count && to->add; q++, y += to->n, sums += S(STRIP))
        for (int64_t i = 0; i < rows; i++) sums[i] += y[i];
    y = to->at + j * to->n, sums = columns;
    for (int64_t q = 0; q < count; q++, y += to->n, sums += S(STRIP))
        S(store_biased)(sums, y, rows, to->bias ? to->bias[j + q] : 0);
}

/* Sums over these rows of the kernel. */
INLINE void S(sum_seen)(const ad_direct *d, S(tile) * t, ad_span seen, const int64_t *row_at, const int64_t *vec_at,
                        int64_t rows, int64_t vecs) {
    t->k = (seen.to - seen.from) * ad_direct_row(d);
    t->row_at = row_at + seen.from * ad_direct_row(d);
    t->vec_at = vec_at + seen.from * ad_direct_row(d);
    S(sums)[vecs - 1][rows - 1](t);
}

static void S(channels)(const ad_direct *d, const T *block, const T *packed, int64_t first, int64_t n, S(target) to) {
    const tables at = tables_of(d);
    const int64_t k = ad_direct_k(d), wide = d->windows.count[1];
    const cut strips = cut_evenly(n, ROWS);
    S(tile) t;
    for (int64_t j = 0, width; j < d->results; j += width) {
        width = S(panel)(d, j);
        const int64_t vecs = width / S(LANES);
        for (int64_t v = 0; v < vecs; v++) t.vec[v] = packed + j * k + v * S(LANES);
        S(target) strip = to;
        for (int64_t s = 0, i = 0, rows; s < strips.parts; s++, i += rows, strip.at += rows) {
            rows = part_size(strips, s);
            for (int64_t q = 0; q < rows; q++) t.row[q] = block + at.windows[i + q];
            const ad_span seen = rows_seen(d, first + i / wide, first + (i + rows - 1) / wide + 1);
            S(sum_seen)(d, &t, seen, at.taps, at.linear[vecs - 1], rows, vecs);
            S(store_channels)(&strip, &t, rows, j, min_of(width, d->results - j));
        }
    }
}

static void S(pixels)(const ad_direct *d, const T *block, const T *w, int64_t first, int64_t n, S(target) to) {
    const tables at = tables_of(d);
    const int64_t wide = d->windows.count[1], in_row = (wide + S(LANES) - 1) / S(LANES);
    const cut strips = cut_evenly(d->results, ROWS);
    const int64_t most = strips.size + (strips.longer > 0);
    const cut groups = cut_evenly(n / wide * in_row, most > ROWS / 2 ? 2 : most > ROWS / 4 ? 3 : 4);
    S(tile) t;
    for (int64_t s = 0, i = 0, rows; s < strips.parts; s++, i += rows) {
        rows = part_size(strips, s);
        for (int64_t q = 0; q < rows; q++) t.row[q] = w + (i + q) * d->w_result;
        for (int64_t g = 0, segment = 0, vecs; g < groups.parts; g++, segment += vecs) {
            T *y[4];
            S(mask) some[4];
            vecs = part_size(groups, g);
            for (int64_t v = 0; v < vecs; v++) {
                const int64_t row = (segment + v) / in_row, column = (segment + v) % in_row * S(LANES);
                t.vec[v] = block + at.windows[row * wide] + column;
                y[v] = to.at + i * to.n + row * wide + column;
                some[v] = S(first)(min_of(wide - column, S(LANES)));
            }
            const ad_span seen = rows_seen(d, first + segment / in_row, first + (segment + vecs - 1) / in_row + 1);
            S(sum_seen)(d, &t, seen, at.of_w, at.taps, rows, vecs);
            for (int64_t q = 0; q < rows; q++)
                for (int64_t v = 0; v < vecs; v++) {
                    T *result = y[v] + q * to.n;
                    S(vec) sum = S(load)(t.sums + q * S(PANEL) + v * S(LANES));
                    if (to.bias) sum += to.bias[i + q];
                    if (to.add) sum += S(load_first)(result, some[v]);
                    S(store_first)(result, some[v], sum);
                }
        }
    }
}

static void S(convolve_block)(const ad_direct *d, int64_t item, T *block) {
    const int64_t at = item / d->blocks, group = at % d->c.groups, n = ad_direct_n(d), k = ad_direct_k(d);
    const int64_t first = item % d->blocks * d->rows, last = min_of(first + d->rows, d->windows.count[0]);
    const int64_t windows = (last - first) * d->windows.count[1];
    const bool to_x = d->result == AD_SIDE_X;
    const T *image = (const T *)(const void *)(to_x ? d->y : d->x) +
                     at * d->planes * d->windows.size[0] * d->windows.size[1];
    const S(target)
        to = {.at = (T *)(uintptr_t)(to_x ? d->x : d->y) + at * d->results * n + first * d->windows.count[1],
              .n = n,
              .bias = d->bias ? (const T *)(const void *)d->bias + group * d->results : NULL,
              .add = d->add};
    S(copy_block)(d, image, first, last, block);
    if (d->pixels)
        S(pixels)(d, block, (const T *)(const void *)d->w + group * d->results * k, first, windows, to);
    else
        S(channels)(d, block, S(packed_group)(d, group), first, windows, to);
}

/* ---- the gradient of a kernel -------------------------------------------------------------------------------------- */

/* A part of the kernels of a group, taps k0 to k1 of filters j0 to j1, whose sums are panels [k1 - k0, panel]. */
typedef struct S(part) {
    int64_t group, k0, k1, j0, j1;
    T *block, *y, *sums;
} S(part);

/* Adds what taps k to end give with the windows of one block. */
static void S(add_taps)(const ad_direct *d, const S(part) * p, int64_t k, int64_t end, int64_t first, int64_t last,
                        int64_t width, T *sums) {
    const tables at = tables_of(d);
    const ad_span seeing = windows_of_tap(d, k, first, last);
    const int64_t skipped = (seeing.from - first) * d->windows.count[1], vecs = width / S(LANES);
    const cut strips = cut_evenly(end - k, ROWS);
    S(tile) t;
    t.k = (seeing.to - seeing.from) * d->windows.count[1];
    t.row_at = at.windows + skipped;
    t.vec_at = at.linear[vecs - 1] + skipped;
    for (int64_t v = 0; v < vecs; v++) t.vec[v] = p->y + v * S(LANES);
    for (int64_t s = 0, rows; s < strips.parts; s++, k += rows) {
        rows = part_size(strips, s);
        for (int64_t q = 0; q < rows; q++) t.row[q] = p->block + at.taps[k + q];
        S(sums)[vecs - 1][rows - 1](&t);
        for (int64_t q = 0; q < rows; q++, sums += width)
            for (int64_t c = 0; c < width; c += S(LANES))
                S(store)(sums + c, S(load)(sums + c) + S(load)(t.sums + q * S(PANEL) + c));
    }
}

/* Adds what the windows of one block give. */
static void S(add_block)(const ad_direct *d, const S(part) * p, int64_t image, int64_t first, int64_t last) {
    const ad_windows *v = &d->windows;
    const int64_t together = rows_of_taps(d) * ad_direct_row(d);
    const int64_t n = ad_direct_n(d), windows = (last - first) * v->count[1], taps = p->k1 - p->k0;
    const int64_t group = image * d->c.groups + p->group;
    const T *x = (const T *)(const void *)d->x + group * d->planes * v->size[0] * v->size[1];
    S(copy_block)(d, x, first, last, p->block);
    for (int64_t j = p->j0, width; j < p->j1; j += width) {
        const T *y = (const T *)(const void *)d->y + (group * d->results + j) * n + first * v->count[1];
        width = S(panel)(d, j);
        S(pack)(min_of(width, d->results - j), windows, y, n, 1, p->y, width);
        T *sums = p->sums + (j - p->j0) * taps;
        for (int64_t k = p->k0, end; k < p->k1; sums += (end - k) * width, k = end) {
            end = min_of(p->k1, (k / together + 1) * together);
            S(add_taps)(d, p, k, end, first, last, width, sums);
        }
    }
}

static void S(convolve_part)(const ad_direct *d, int64_t item, T *block) {
    const int64_t parts = d->parts_of_k * d->parts_of_results, k = ad_direct_k(d), part = item % parts;
    const int64_t of_k = part % d->parts_of_k, of_results = part / d->parts_of_k;
    const int64_t panels = (d->results + d->panel - 1) / d->panel;
    const S(part) p = {.group = item / parts,
                       .k0 = k * of_k / d->parts_of_k,
                       .k1 = k * (of_k + 1) / d->parts_of_k,
                       .j0 = panels * of_results / d->parts_of_results * d->panel,
                       .j1 = min_of(panels * (of_results + 1) / d->parts_of_results * d->panel, d->results),
                       .block = block,
                       .y = block + d->of_copy,
                       .sums = block + d->of_copy + d->rows * d->windows.count[1] * d->panel};
    const int64_t taps = p.k1 - p.k0, *of_w = tables_of(d).of_w;
    memset(p.sums, 0, (size_t)(taps * round_up(p.j1 - p.j0, d->panel)) * sizeof(T));
    for (int64_t image = 0; image < d->c.images; image++)
        for (int64_t first = 0; first < d->windows.count[0]; first += d->rows)
            S(add_block)(d, &p, image, first, min_of(first + d->rows, d->windows.count[0]));
    for (int64_t j = p.j0; j < p.j1; j++) {
        const int64_t panel = (j - p.j0) / d->panel * d->panel, width = S(panel)(d, p.j0 + panel);
        const T *sums = p.sums + panel * taps + (j - p.j0 - panel);
        T *w = (T *)(uintptr_t)d->w + (p.group * d->results + j) * k;
        for (int64_t l = 0; l < taps; l++) {
            T *to = w + of_w[p.k0 + l];
            *to = d->add ? *to + sums[l * width] : sums[l * width];
        }
    }
}

/* ---- all three ----------------------------------------------------------------------------------------------------- */

static void S(convolve)(const ad_direct *d, int64_t from, int64_t to, int worker) {
    T *block = (T *)(void *)(d->scratch + d->shared + worker * d->each);
    for (int64_t item = from; item < to; item++) {
        if (d->result == AD_SIDE_W)
            S(convolve_part)(d, item, block);
        else
            S(convolve_block)(d, item, block);
    }
}
