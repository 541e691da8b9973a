/* The factorisations for one element type: T is float or double, S(name) the name of a function for it. */

static inline T *S(at)(const ad_matrix *a, int64_t i, int64_t j) { return (T *)a->data + i * a->rs + j * a->cs; }

/* y -= f x */
static inline void S(subtract)(T *restrict y, const T *restrict x, T f, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] -= f * x[i];
}

/* ---- triangular solve -------------------------------------------------------------------------------------------- */

/* The rows of x that belong to one band of l; the bands before them are done. */
static void S(solve_band)(const ad_matrix *l, bool unit, const ad_matrix *x) {
    for (int64_t first = 0; first < x->columns; first += STRIP) {
        const int64_t n = min_of(STRIP, x->columns - first);
        for (int64_t i = 0; i < l->rows; i++) {
            T *row = S(at)(x, i, first);
            for (int64_t j = 0; j < i; j++) S(subtract)(row, S(at)(x, j, first), *S(at)(l, i, j), n);
            if (unit) continue;
            const T pivot = *S(at)(l, i, i);
            for (int64_t c = 0; c < n; c++) row[c] /= pivot;
        }
    }
}

static bool S(solve_lower)(const ad_matrix *l, bool unit, const ad_matrix *x, ad_arena *scratch) {
    ad_workspace space = {.arena = scratch};
    ad_matrix known = {x->dtype, BAND, x->columns, x->columns, 1, NULL};
    if (l->rows > BAND) known.data = ad_kernel_scratch(scratch, BAND * x->columns * (int64_t)sizeof(T));
    if (l->rows > BAND && !known.data) return false;
    for (int64_t k = 0; k < l->rows; k += BAND) {
        const int64_t n = min_of(BAND, l->rows - k);
        ad_matrix band = ad_matrix_part(x, k, 0, n, x->columns), corner = ad_matrix_part(l, k, k, n, n);
        if (k > 0) {
            ad_matrix left = ad_matrix_part(l, k, 0, n, k), above = ad_matrix_part(x, 0, 0, k, x->columns);
            known.rows = n;
            if (!ad_kernel_multiply(&left, &above, &known, false, &space)) return false;
            for (int64_t i = 0; i < n; i++) S(subtract)(S(at)(&band, i, 0), S(at)(&known, i, 0), 1, x->columns);
        }
        S(solve_band)(&corner, unit, &band);
    }
    return true;
}

/* ---- Cholesky ---------------------------------------------------------------------------------------------------- */

/* The rows of p are columns of what is left of the symmetric matrix, from the diagonal on; they become columns of l. */
static ad_pivot S(cholesky_band)(const ad_matrix *p, int64_t k) {
    for (int64_t j = 0; j < p->rows; j++) {
        T *row = S(at)(p, j, 0);
        const T pivot = row[j];
        if (!(pivot > 0) || !isfinite(pivot)) return (ad_pivot){k + j, (double)pivot};
        row[j] = (T)sqrt((double)pivot);
        for (int64_t r = j + 1; r < p->columns; r++) row[r] /= row[j];
        for (int64_t i = j + 1; i < p->rows; i++) S(subtract)(S(at)(p, i, i), row + i, row[i], p->columns - i);
    }
    return done;
}

static ad_pivot S(cholesky)(const ad_matrix *a, const ad_matrix *l, ad_arena *scratch) {
    const int64_t n = l->rows;
    ad_workspace space = {.arena = scratch};
    T *memory = ad_kernel_scratch(scratch, min_of(BAND, n) * n * (int64_t)sizeof(T));
    if (!memory) return no_memory;
    for (int64_t k = 0; k < n; k += BAND) {
        const int64_t band = min_of(BAND, n - k), below = n - k;
        ad_matrix p = {l->dtype, band, below, below, 1, memory};
        ad_matrix left = ad_matrix_part(l, k, 0, band, k), rest = ad_matrix_part(l, k, 0, below, k);
        rest = ad_matrix_transposed(&rest);
        if (!ad_kernel_multiply(&left, &rest, &p, false, &space)) return no_memory;
        for (int64_t j = 0; j < band; j++)
            for (int64_t r = j; r < below; r++)
                *S(at)(&p, j, r) = (T)0.5 * *S(at)(a, k + r, k + j) + (T)0.5 * *S(at)(a, k + j, k + r) -
                                   *S(at)(&p, j, r);
        ad_pivot end = S(cholesky_band)(&p, k);
        if (end.at != AD_DONE) return end;
        for (int64_t r = 0; r < below; r++) {
            T *row = S(at)(l, k + r, k);
            for (int64_t j = 0; j < band; j++) row[j] = j <= r ? *S(at)(&p, j, r) : 0;
        }
        for (int64_t i = 0; i < k; i++) memset(S(at)(l, i, k), 0, (size_t)band * sizeof(T));
    }
    return done;
}

/* ---- LU ---------------------------------------------------------------------------------------------------------- */

static void S(swap_rows)(const ad_matrix *a, int64_t i, int64_t j) {
    T *x = S(at)(a, i, 0), *y = S(at)(a, j, 0);
    for (int64_t c = 0; c < a->columns && i != j; c++) {
        const T kept = x[c];
        x[c] = y[c];
        y[c] = kept;
    }
}

/* Eliminates in columns k to k + band; whole rows are swapped. */
static void S(lu_band)(const ad_matrix *a, int64_t k, int64_t band, int64_t *order, ad_pivot *first_bad) {
    for (int64_t j = k; j < k + band; j++) {
        int64_t best = j;
        for (int64_t i = j + 1; i < a->rows; i++)
            if (fabs((double)*S(at)(a, i, j)) > fabs((double)*S(at)(a, best, j))) best = i;
        const T pivot = *S(at)(a, best, j);
        if ((!isfinite(pivot) || pivot == 0) && first_bad->at == AD_DONE) *first_bad = (ad_pivot){j, (double)pivot};
        if (pivot == 0) continue; /* so is all below */
        S(swap_rows)(a, j, best);
        const int64_t moved = order[j];
        order[j] = order[best];
        order[best] = moved;
        for (int64_t i = j + 1; i < a->rows; i++) {
            T *row = S(at)(a, i, j);
            row[0] /= pivot;
            S(subtract)(row + 1, S(at)(a, j, j + 1), row[0], k + band - j - 1);
        }
    }
}

static ad_pivot S(lu)(const ad_matrix *a, int64_t *order, ad_arena *scratch) {
    const int64_t n = a->rows;
    ad_workspace space = {.arena = scratch};
    ad_pivot first_bad = done;
    T *memory = n > BAND ? ad_kernel_scratch(scratch, BAND * n * (int64_t)sizeof(T)) : NULL;
    if (n > BAND && !memory) return no_memory;
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t k = 0; k < n; k += BAND) {
        const int64_t band = min_of(BAND, n - k), rest = n - k - band;
        S(lu_band)(a, k, band, order, &first_bad);
        if (rest == 0) break;
        ad_matrix corner = ad_matrix_part(a, k, k, band, band), right = ad_matrix_part(a, k, k + band, band, rest);
        ad_matrix trailing = ad_matrix_part(a, k + band, k + band, rest, rest);
        ad_matrix minus = {a->dtype, rest, band, band, 1, memory};
        S(solve_band)(&corner, true, &right);
        for (int64_t i = 0; i < rest; i++)
            for (int64_t j = 0; j < band; j++) memory[i * band + j] = -*S(at)(a, k + band + i, k + j);
        if (!ad_kernel_multiply(&minus, &right, &trailing, true, &space)) return no_memory;
    }
    return first_bad;
}
