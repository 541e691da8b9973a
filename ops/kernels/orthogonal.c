/* QR, the symmetric eigenproblem and the singular value decomposition. All three are computed in double, for f32 too.
 *
 * Matrices are scaled by a power of 2 first, so that squares neither overflow nor vanish. Where a decomposition leaves
 * signs open they are fixed: the same matrix gives the same vectors on every machine, and a small change of the matrix
 * makes a small change of the vectors. */
#include "ops/kernels/linalg.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* ---- to and from double ------------------------------------------------------------------------------------------ */

static double *element(const ad_matrix *a, int64_t i, int64_t j) { return (double *)a->data + i * a->rs + j * a->cs; }

/* The power of 2 that brings the largest element to about 1: x is multiplied by 2^-exponent. */
static int scale(double *x, int64_t count) {
    double largest = 0;
    int exponent;
    for (int64_t i = 0; i < count; i++) largest = fmax(largest, fabs(x[i]));
    if (largest == 0) return 0;
    frexp(largest, &exponent);
    for (int64_t i = 0; i < count; i++) x[i] = ldexp(x[i], -exponent);
    return exponent;
}

static double dot(const double *x, const double *y, int64_t n) { return ad_kernels_get()->dot(x, y, n); }

/* x, y = c x - s y, s x + c y */
static void rotate(double *x, double *y, double c, double s, int64_t n) { ad_kernels_get()->rotate(x, y, c, s, n); }

static void negate(double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = -x[i];
}

static void swap(double *restrict x, double *restrict y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double kept = x[i];
        x[i] = y[i];
        y[i] = kept;
    }
}

/* The element of largest absolute value, the first of them, is to be positive. */
static bool points_backwards(const double *x, int64_t n) {
    int64_t largest = 0;
    for (int64_t i = 1; i < n; i++)
        if (fabs(x[i]) > fabs(x[largest])) largest = i;
    return n > 0 && x[largest] < 0;
}

/* ---- reflections ------------------------------------------------------------------------------------------------- */

/* H = I - tau v v^T with v[0] = 1 turns column x, of n elements, into (beta, 0, ...). beta replaces x[0], the rest of v
 * the rest of x. Returns tau. */
static double reflect(const ad_matrix *x, int64_t n) {
    double rest = 0, *first = element(x, 0, 0);
    for (int64_t i = 1; i < n; i++) rest += *element(x, i, 0) * *element(x, i, 0);
    if (rest == 0) return 0;
    const double beta = -copysign(sqrt(*first * *first + rest), *first), tau = (beta - *first) / beta;
    for (int64_t i = 1; i < n; i++) *element(x, i, 0) /= *first - beta;
    *first = beta;
    return tau;
}

/* a = H a, for the v in column x (whose first element counts as 1) and a row-major `a`; w: room for a row of it. */
static void apply(const ad_matrix *x, double tau, const ad_matrix *a, double *restrict w) {
    if (tau == 0) return;
    memcpy(w, element(a, 0, 0), (size_t)a->columns * sizeof *w);
    for (int64_t i = 1; i < a->rows; i++) {
        const double v = *element(x, i, 0), *row = element(a, i, 0);
        for (int64_t j = 0; j < a->columns; j++) w[j] += v * row[j];
    }
    for (int64_t i = 0; i < a->rows; i++) {
        const double f = tau * (i ? *element(x, i, 0) : 1);
        double *row = element(a, i, 0);
        for (int64_t j = 0; j < a->columns; j++) row[j] -= f * w[j];
    }
}

/* Reflects the first `count` columns of a, one after the other; their v replace what becomes 0. w: room for BAND. */
static void reflect_columns(const ad_matrix *a, int64_t count, double *tau, double *w) {
    for (int64_t j = 0; j < count; j++) {
        ad_matrix x = ad_matrix_part(a, j, j, a->rows - j, 1);
        ad_matrix right = ad_matrix_part(a, j, j + 1, a->rows - j, count - j - 1);
        tau[j] = reflect(&x, a->rows - j);
        if (right.columns > 0) apply(&x, tau[j], &right, w);
    }
}

/* A band of reflections as one (Schreiber and Van Loan 1989): H_0 H_1 ... = I - V T V^T, T upper triangular. */
enum { BAND = 32 };
typedef struct band {
    ad_matrix v, minus_t; /* V with its zeros and ones, -T */
    double *memory;       /* of these two, and for V^T a and its product with -T */
    ad_workspace space;
} band;

static bool band_open(band *b, int64_t rows, int64_t columns, ad_arena *scratch) {
    *b = (band){.space.arena = scratch};
    b->memory = ad_kernel_scratch(scratch, (rows + BAND + 2 * columns) * BAND * (int64_t)sizeof(double));
    return b->memory != NULL;
}

/* The v in the columns of x, below the diagonal. */
static void band_set(band *b, const ad_matrix *x, const double *tau) {
    const int64_t n = x->columns;
    b->v = ad_matrix_f64(b->memory, x->rows, n);
    b->minus_t = ad_matrix_f64(b->memory + x->rows * n, n, n);
    for (int64_t i = 0; i < x->rows; i++)
        for (int64_t j = 0; j < n; j++) *element(&b->v, i, j) = i < j ? 0 : i == j ? 1 : *element(x, i, j);
    for (int64_t j = 0; j < n; j++) {
        double along[BAND] = {0};
        for (int64_t i = j; i < x->rows; i++)
            for (int64_t k = 0; k < j; k++) along[k] += *element(&b->v, i, k) * *element(&b->v, i, j);
        for (int64_t i = 0; i < n; i++) {
            double sum = 0;
            for (int64_t k = i; k < j; k++) sum += *element(&b->minus_t, i, k) * along[k];
            *element(&b->minus_t, i, j) = i < j ? -tau[j] * sum : i == j ? -tau[j] : 0;
        }
    }
}

/* a = H_0 H_1 ... a, or `reversed` ... H_1 H_0 a: a - V T V^T a, with T^T for the latter. */
static bool band_apply(band *b, bool reversed, const ad_matrix *a) {
    const int64_t n = b->v.columns;
    double *room = b->memory + b->v.rows * n + n * n;
    ad_matrix vt = ad_matrix_transposed(&b->v), t = reversed ? ad_matrix_transposed(&b->minus_t) : b->minus_t;
    ad_matrix w = ad_matrix_f64(room, n, a->columns), tw = ad_matrix_f64(room + n * a->columns, n, a->columns);
    return ad_kernel_multiply(&vt, a, &w, false, &b->space) && ad_kernel_multiply(&t, &w, &tw, false, &b->space) &&
           ad_kernel_multiply(&b->v, &tw, a, true, &b->space);
}

/* Row-major a[m,n] becomes r, and below its diagonal the v of `count` reflections; tau of each. */
static bool reduce(const ad_matrix *a, int64_t count, double *tau, double *w, band *b) {
    for (int64_t k = 0; k < count; k += BAND) {
        const int64_t n = count - k < BAND ? count - k : BAND, rest = a->columns - k - n;
        ad_matrix panel = ad_matrix_part(a, k, k, a->rows - k, n),
                  right = ad_matrix_part(a, k, k + n, a->rows - k, rest);
        reflect_columns(&panel, n, tau + k, w);
        if (rest == 0) break;
        band_set(b, &panel, tau + k);
        if (!band_apply(b, true, &right)) return false;
    }
    return true;
}

/* The first columns of H_0 H_1 ..., whose v stand in the columns of a, below its diagonal. */
static bool accumulate(const ad_matrix *a, int64_t count, const double *tau, const ad_matrix *q, band *b) {
    ad_matrix_identity(q);
    for (int64_t k = (count - 1) / BAND * BAND; k >= 0 && count > 0; k -= BAND) {
        const int64_t n = count - k < BAND ? count - k : BAND;
        ad_matrix panel = ad_matrix_part(a, k, k, a->rows - k, n);
        ad_matrix part = ad_matrix_part(q, k, k, q->rows - k, q->columns - k);
        band_set(b, &panel, tau + k);
        if (!band_apply(b, false, &part)) return false;
    }
    return true;
}

/* a[m,n] = q[m,k] r[k,n], k = min(m, n), the diagonal of r not negative; all row-major doubles; `a` is destroyed. */
static bool decompose_qr(const ad_matrix *a, const ad_matrix *q, const ad_matrix *r, ad_arena *scratch) {
    const int64_t k = q->columns;
    double *tau = ad_kernel_scratch(scratch, (k + BAND) * (int64_t)sizeof *tau);
    band b;
    if (!tau || !band_open(&b, a->rows, a->columns, scratch) || !reduce(a, k, tau, tau + k, &b)) return false;
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < a->columns; j++) *element(r, i, j) = j < i ? 0 : *element(a, i, j);
    if (!accumulate(a, k, tau, q, &b)) return false;
    for (int64_t i = 0; i < k; i++) {
        if (!(*element(r, i, i) < 0)) continue;
        negate(element(r, i, i), a->columns - i);
        for (int64_t row = 0; row < q->rows; row++) *element(q, row, i) = -*element(q, row, i);
    }
    return true;
}

ad_pivot ad_kernel_qr(const ad_matrix *a, const ad_matrix *q, const ad_matrix *r, ad_arena *scratch) {
    const int64_t m = a->rows, n = a->columns, k = q->columns;
    uint64_t position = ad_arena_position(scratch);
    double *memory = ad_kernel_scratch(scratch, (m * n + m * k + k * n) * (int64_t)sizeof *memory);
    bool ok = memory != NULL;
    if (ok) {
        ad_matrix work = ad_matrix_f64(memory, m, n), q64 = ad_matrix_f64(memory + m * n, m, k);
        ad_matrix r64 = ad_matrix_f64(memory + m * n + m * k, k, n);
        ad_matrix_copy(a, &work);
        int exponent = scale(memory, m * n);
        ok = decompose_qr(&work, &q64, &r64, scratch);
        for (int64_t i = 0; i < k * n && ok; i++) *element(&r64, 0, i) = ldexp(*element(&r64, 0, i), exponent);
        if (ok) ad_matrix_copy(&q64, q);
        if (ok) ad_matrix_copy(&r64, r);
    }
    ad_arena_rewind(scratch, position);
    return (ad_pivot){ok ? AD_DONE : AD_NO_MEMORY, 0};
}

/* ---- symmetric eigenproblem -------------------------------------------------------------------------------------- */

/* Reflections from both sides leave a tridiagonal matrix (diagonal d, beside it e) and their v in the columns of a. */
static void tridiagonalise(const ad_matrix *a, double *d, double *e, double *tau, double *p) {
    const int64_t n = a->rows;
    for (int64_t j = 0; j < n; j++) {
        d[j] = *element(a, j, j);
        const int64_t rest = n - j - 1;
        tau[j] = 0;
        if (rest == 0) break;
        ad_matrix x = ad_matrix_part(a, j + 1, j, rest, 1), b = ad_matrix_part(a, j + 1, j + 1, rest, rest);
        double *v = p + n;
        tau[j] = reflect(&x, rest);
        e[j] = *element(&x, 0, 0);
        v[0] = 1;
        for (int64_t i = 1; i < rest; i++) v[i] = *element(&x, i, 0);
        if (tau[j] == 0) continue;
        /* H b H = b - v w^T - w v^T, w = p - (tau/2) (p v) v, p = tau b v */
        for (int64_t i = 0; i < rest; i++) p[i] = tau[j] * dot(element(&b, i, 0), v, rest);
        const double half = tau[j] / 2 * dot(p, v, rest);
        for (int64_t i = 0; i < rest; i++) p[i] -= half * v[i];
        for (int64_t i = 0; i < rest; i++) {
            double *row = element(&b, i, 0);
            const double vi = v[i], pi = p[i];
            for (int64_t c = 0; c < rest; c++) row[c] -= vi * p[c] + pi * v[c];
        }
    }
}

/* One implicit QL step, with Wilkinson's shift, on rows first..last of the tridiagonal matrix; rows of z are rotated
 * along. */
static void ql_step(double *d, double *e, int64_t first, int64_t last, const ad_matrix *z) {
    double g = (d[first + 1] - d[first]) / (2 * e[first]);
    g = d[last] - d[first] + e[first] / (g + copysign(hypot(g, 1), g));
    double c = 1, s = 1, shift = 0;
    for (int64_t i = last - 1; i >= first; i--) {
        const double f = s * e[i], b = c * e[i], r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) { /* the matrix falls apart here */
            d[i + 1] -= shift;
            e[last] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - shift;
        const double t = (d[i] - g) * s + 2 * c * b;
        shift = s * t;
        d[i + 1] = g + shift;
        g = c * t - b;
        rotate(element(z, i, 0), element(z, i + 1, 0), c, s, z->columns);
    }
    d[first] -= shift;
    e[first] = g;
    e[last] = 0;
}

/* d becomes the eigenvalues. e[n-1] is room. */
static bool diagonalise(double *d, double *e, const ad_matrix *z) {
    enum { MOST_STEPS = 60 }; /* for one eigenvalue; two are usual */
    const int64_t n = z->rows;
    if (n > 0) e[n - 1] = 0;
    for (int64_t first = 0; first < n; first++) {
        for (int step = 0;; step++) {
            int64_t last = first;
            while (last < n - 1 && fabs(e[last]) > DBL_EPSILON * (fabs(d[last]) + fabs(d[last + 1])) + DBL_MIN)
                last++;
            if (last == first) break;
            if (step == MOST_STEPS) return false;
            ql_step(d, e, first, last, z);
        }
    }
    return true;
}

/* Values in ascending (sign 1) or descending (-1) order, with the rows that belong to them. */
static void sort(double *value, int sign, const ad_matrix *rows, const ad_matrix *more_rows) {
    for (int64_t i = 0; i < rows->rows; i++) {
        int64_t next = i;
        for (int64_t j = i + 1; j < rows->rows; j++)
            if (sign * value[j] < sign * value[next]) next = j;
        if (next == i) continue;
        swap(&value[i], &value[next], 1);
        swap(element(rows, i, 0), element(rows, next, 0), rows->columns);
        if (more_rows) swap(element(more_rows, i, 0), element(more_rows, next, 0), more_rows->columns);
    }
}

/* The rows of z become the eigenvectors; `a`, row-major and symmetric, is destroyed; room for 4 n numbers. */
static ad_pivot decompose_symmetric(const ad_matrix *a, double *values, const ad_matrix *z, double *room,
                                    ad_arena *scratch) {
    const int64_t n = a->rows;
    double *e = room, *tau = room + n, *w = room + 2 * n; /* w: two rows */
    tridiagonalise(a, values, e, tau, w);
    ad_matrix_identity(z);
    if (n > 1) { /* the first reflection leaves the first row as it is */
        ad_matrix below = ad_matrix_part(a, 1, 0, n - 1, n - 1), q = ad_matrix_part(z, 1, 1, n - 1, n - 1);
        band b;
        if (!band_open(&b, n - 1, n - 1, scratch) || !accumulate(&below, n - 1, tau, &q, &b))
            return (ad_pivot){AD_NO_MEMORY, 0};
    }
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) swap(element(z, i, j), element(z, j, i), 1);
    if (!diagonalise(values, e, z)) return (ad_pivot){AD_NO_CONVERGENCE, 0};
    sort(values, 1, z, NULL);
    for (int64_t i = 0; i < n; i++)
        if (points_backwards(element(z, i, 0), n)) negate(element(z, i, 0), n);
    return (ad_pivot){AD_DONE, 0};
}

static void symmetric_part(const ad_matrix *a, const ad_matrix *to) {
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->rows; j++)
            *element(to, i, j) = 0.5 * ad_matrix_get(a, i, j) + 0.5 * ad_matrix_get(a, j, i);
}

ad_pivot ad_kernel_eigh(const ad_matrix *a, const ad_matrix *values, const ad_matrix *vectors, ad_arena *scratch) {
    const int64_t n = a->rows;
    uint64_t position = ad_arena_position(scratch);
    double *memory = ad_kernel_scratch(scratch, (2 * n + 5) * n * (int64_t)sizeof *memory);
    ad_pivot end = {AD_NO_MEMORY, 0};
    if (memory) {
        ad_matrix work = ad_matrix_f64(memory, n, n), z = ad_matrix_f64(memory + n * n, n, n);
        double *w = memory + 2 * n * n;
        symmetric_part(a, &work);
        int exponent = scale(memory, n * n);
        end = decompose_symmetric(&work, w, &z, w + n, scratch);
        for (int64_t i = 0; i < n; i++) ad_matrix_set(values, i, 0, ldexp(w[i], exponent));
        z = ad_matrix_transposed(&z);
        ad_matrix_copy(&z, vectors);
    }
    ad_arena_rewind(scratch, position);
    return end;
}

/* ---- singular values --------------------------------------------------------------------------------------------- */

/* Rotates rows p and q of w, and of v along, to a right angle, the longer one first; `squares` of their lengths are kept
 * up to date. False: they were so. */
static bool straighten(const ad_matrix *w, const ad_matrix *v, double *squares, int64_t p, int64_t q) {
    double *x = element(w, p, 0), *y = element(w, q, 0);
    const int64_t n = w->columns;
    bool is_swapped = squares[q] > squares[p];
    if (is_swapped) {
        swap(x, y, n);
        swap(element(v, p, 0), element(v, q, 0), v->columns);
        swap(&squares[p], &squares[q], 1);
    }
    const double xx = squares[p], yy = squares[q], xy = dot(x, y, n);
    const double rounding = DBL_EPSILON * sqrt((double)n) * sqrt(xx) * sqrt(yy);
    if (fabs(xy) <= fmax(rounding, DBL_MIN)) return is_swapped;
    const double zeta = (yy - xx) / (2 * xy); /* cot of twice the angle */
    const double t = copysign(1, zeta) / (fabs(zeta) + hypot(1, zeta)), c = 1 / hypot(1, t);
    rotate(x, y, c, c * t, n);
    rotate(element(v, p, 0), element(v, q, 0), c, c * t, v->columns);
    squares[p] = xx - t * xy;
    squares[q] = yy + t * xy;
    if (!(squares[q] > 0.1 * yy)) squares[q] = dot(y, y, n); /* digits were lost */
    return true;
}

/* All pairs of rows, those of two blocks together while they are in the cache. */
static bool sweep(const ad_matrix *w, const ad_matrix *v, double *squares) {
    enum { BLOCK = 16 };
    const int64_t n = w->rows;
    bool moved = false;
    for (int64_t p = 0; p < n; p++) squares[p] = dot(element(w, p, 0), element(w, p, 0), w->columns);
    for (int64_t first = 0; first < n; first += BLOCK)
        for (int64_t second = first; second < n; second += BLOCK)
            for (int64_t p = first; p < n && p < first + BLOCK; p++)
                for (int64_t q = second > p ? second : p + 1; q < n && q < second + BLOCK; q++)
                    moved |= straighten(w, v, squares, p, q);
    return moved;
}

/* One-sided Jacobi (Hestenes 1958): the rows of w = v_start^T diag(s) u^T are rotated until all are orthogonal. */
static bool straighten_all(const ad_matrix *w, const ad_matrix *v, double *squares) {
    enum { MOST_SWEEPS = 60 }; /* six to ten are usual */
    int sweeps = 0;
    while (sweeps < MOST_SWEEPS && sweep(w, v, squares)) sweeps++;
    return sweeps < MOST_SWEEPS;
}

/* A unit vector at right angles to the rows before `row`: the axis that they cover least, made orthogonal twice. */
static void complete(const ad_matrix *w, int64_t row) {
    double *x = element(w, row, 0), least = INFINITY;
    int64_t axis = 0;
    for (int64_t j = 0; j < w->columns; j++) {
        double covered = 0;
        for (int64_t i = 0; i < row; i++) covered += *element(w, i, j) * *element(w, i, j);
        if (covered < least) axis = j;
        least = fmin(least, covered);
    }
    for (int64_t j = 0; j < w->columns; j++) x[j] = j == axis;
    for (int64_t i = 0; i < 2 * row; i++) {
        const double *other = element(w, i % row, 0), along = dot(x, other, w->columns);
        for (int64_t j = 0; j < w->columns; j++) x[j] -= along * other[j];
    }
    const double length = sqrt(dot(x, x, w->columns));
    for (int64_t j = 0; j < w->columns; j++) x[j] /= length;
}

/* w[n,n] (destroyed) = v^T diag(s) w', where w' replaces w. */
static bool decompose_square(const ad_matrix *w, double *s, const ad_matrix *v) {
    const int64_t n = w->rows;
    const double nothing = 0x1p-500; /* the square of less would vanish */
    ad_matrix_identity(v);
    if (!straighten_all(w, v, s)) return false;
    for (int64_t i = 0; i < n; i++) s[i] = sqrt(dot(element(w, i, 0), element(w, i, 0), n));
    sort(s, -1, w, v);
    for (int64_t i = 0; i < n; i++) {
        double *row = element(w, i, 0);
        if (s[i] < nothing) s[i] = 0;
        for (int64_t j = 0; j < n && s[i] > 0; j++) row[j] /= s[i];
        if (s[i] == 0) complete(w, i);
        if (!points_backwards(row, n)) continue;
        negate(row, n);
        negate(element(v, i, 0), n);
    }
    return true;
}

/* a[m,n], m >= n: a = q r and r = v^T diag(s) w, so u = q v^T. */
static ad_pivot decompose_tall(const ad_matrix *a, double *s, const ad_matrix *u, const ad_matrix *vt,
                               ad_arena *scratch) {
    const int64_t m = a->rows, n = a->columns;
    double *memory = ad_kernel_scratch(scratch, (2 * m * n + 2 * n * n) * (int64_t)sizeof *memory);
    if (!memory) return (ad_pivot){AD_NO_MEMORY, 0};
    ad_matrix work = ad_matrix_f64(memory, m, n), q = ad_matrix_f64(memory + m * n, m, n);
    ad_matrix r = ad_matrix_f64(memory + 2 * m * n, n, n), v = ad_matrix_f64(memory + 2 * m * n + n * n, n, n);
    ad_matrix_copy(a, &work);
    int exponent = scale(memory, m * n);
    if (!decompose_qr(&work, &q, &r, scratch)) return (ad_pivot){AD_NO_MEMORY, 0};
    if (!decompose_square(&r, s, &v)) return (ad_pivot){AD_NO_CONVERGENCE, 0};
    ad_workspace space = {.arena = scratch};
    v = ad_matrix_transposed(&v);
    if (!ad_kernel_multiply(&q, &v, &work, false, &space)) return (ad_pivot){AD_NO_MEMORY, 0};
    for (int64_t i = 0; i < n; i++) s[i] = ldexp(s[i], exponent);
    ad_matrix_copy(&work, u);
    ad_matrix_copy(&r, vt);
    return (ad_pivot){AD_DONE, 0};
}

ad_pivot ad_kernel_svd(const ad_matrix *a, const ad_matrix *s, const ad_matrix *u, const ad_matrix *vt,
                       ad_arena *scratch) {
    const int64_t k = s->rows;
    uint64_t position = ad_arena_position(scratch);
    double *values = ad_kernel_scratch(scratch, k * (int64_t)sizeof *values);
    ad_pivot end = {AD_NO_MEMORY, 0};
    if (values && a->rows >= a->columns) {
        end = decompose_tall(a, values, u, vt, scratch);
    } else if (values) {
        ad_matrix turned = ad_matrix_transposed(a), left = ad_matrix_transposed(vt), right = ad_matrix_transposed(u);
        end = decompose_tall(&turned, values, &left, &right, scratch);
    }
    for (int64_t i = 0; i < k && end.at == AD_DONE; i++) ad_matrix_set(s, i, 0, values[i]);
    ad_arena_rewind(scratch, position);
    return end;
}
