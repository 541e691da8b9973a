/* The exponential of a matrix, in double: N. J. Higham, The scaling and squaring method for the matrix exponential
 * revisited, SIAM J. Matrix Anal. Appl. 26 (2005).
 *
 * exp(x) is about q(x)^-1 p(x), a Pade approximant, where p(x) = v + u and q(x) = v - u; v holds the even powers of x and
 * u the odd ones. It is good for a 1-norm up to the limit of its order; beyond that, exp(x) = exp(x / 2^s)^(2^s). */
#include "ops/kernels/linalg.h"

#include <math.h>

static const struct {
    int order;
    double limit;
} approximant[] = {{3, 1.495585217958292e-2},
                   {5, 2.539398330063230e-1},
                   {7, 9.504178996162932e-1},
                   {13, 5.371920351148152}};
enum { HIGHEST = 3 /* of the list */, MOST = 14, POWERS = 3 };

/* b[0] + b[1] x + ...: the coefficients of p. */
static void coefficients(int order, double b[MOST]) {
    b[0] = 1;
    for (int j = 1; j < MOST; j++) b[j] = j > order ? 0 : b[j - 1] * (order - j + 1) / ((2.0 * order - j + 1) * j);
}

static double norm1(const double *x, int64_t n) {
    double norm = 0;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += fabs(x[i * n + j]);
        norm = fmax(norm, sum);
    }
    return norm;
}

/* What one exponential works with, each n x n. */
typedef struct work {
    int64_t n;
    double *x, *even[POWERS]; /* x^2, x^4, x^6 */
    double *u, *v, *t;
    ad_workspace space;
} work;
enum { MATRICES = 4 + POWERS };

static bool multiply(work *w, const double *a, const double *b, double *c) {
    ad_matrix left = ad_matrix_f64((double *)(uintptr_t)a, w->n, w->n);
    ad_matrix right = ad_matrix_f64((double *)(uintptr_t)b, w->n, w->n), product = ad_matrix_f64(c, w->n, w->n);
    return ad_kernel_multiply(&left, &right, &product, false, &w->space);
}

/* y = first I + b[0] x^2 + b[2] x^4 + b[4] x^6 */
static void combine(const work *w, double first, const double *b, double *y) {
    const double *x2 = w->even[0], *x4 = w->even[1], *x6 = w->even[2];
    for (int64_t i = 0; i < w->n * w->n; i++) y[i] = b[0] * x2[i] + b[2] * x4[i] + b[4] * x6[i];
    for (int64_t i = 0; i < w->n; i++) y[i * (w->n + 1)] += first;
}

/* y = b[0] I + b[2] x^2 + ... + b[12] x^12 */
static bool evaluate(work *w, int order, const double *b, double *y) {
    combine(w, b[0], b + 2, y);
    if (order <= 2 * POWERS + 1) return true;
    double *high = w->t, *product = y == w->v ? w->x : w->v;
    combine(w, 0, b + 8, high);
    if (!multiply(w, w->even[2], high, product)) return false;
    for (int64_t i = 0; i < w->n * w->n; i++) y[i] += product[i];
    return true;
}

/* The approximant at w->x, which ends in w->t. */
static ad_pivot pade(work *w, int order, int64_t *order_of_rows) {
    double b[MOST];
    const int64_t count = w->n * w->n;
    coefficients(order, b);
    if (!multiply(w, w->x, w->x, w->even[0]) || !multiply(w, w->even[0], w->even[0], w->even[1]) ||
        !multiply(w, w->even[0], w->even[1], w->even[2]) || !evaluate(w, order, b + 1, w->u) ||
        !multiply(w, w->x, w->u, w->t))
        return (ad_pivot){AD_NO_MEMORY, 0};
    for (int64_t i = 0; i < count; i++) w->u[i] = w->t[i];
    if (!evaluate(w, order, b, w->v)) return (ad_pivot){AD_NO_MEMORY, 0};
    for (int64_t i = 0; i < count; i++) {
        w->t[i] = w->v[i] + w->u[i];
        w->v[i] -= w->u[i];
    }
    ad_matrix q = ad_matrix_f64(w->v, w->n, w->n), p = ad_matrix_f64(w->t, w->n, w->n);
    ad_pivot end = ad_kernel_lu(&q, order_of_rows, w->space.arena);
    return end.at == AD_DONE ? ad_kernel_lu_solve(&q, order_of_rows, &p, w->space.arena) : end;
}

static ad_pivot exponential(work *w, int64_t *order_of_rows, double **result) {
    const int64_t count = w->n * w->n;
    const double norm = norm1(w->x, w->n), limit = approximant[HIGHEST].limit;
    int k = 0, squarings = 0;
    while (k < HIGHEST && norm > approximant[k].limit) k++;
    if (norm > limit) (void)frexp(norm / limit, &squarings);
    for (int64_t i = 0; i < count && squarings; i++) w->x[i] = ldexp(w->x[i], -squarings);
    ad_pivot end = pade(w, approximant[k].order, order_of_rows);
    double *y = w->t, *next = w->u;
    for (int i = 0; i < squarings && end.at == AD_DONE; i++) {
        if (!multiply(w, y, y, next)) end.at = AD_NO_MEMORY;
        double *kept = y;
        y = next;
        next = kept;
    }
    for (int64_t i = 0; i < count && end.at == AD_DONE; i++)
        if (!isfinite(y[i])) end = (ad_pivot){AD_NO_CONVERGENCE, y[i]};
    *result = y;
    return end;
}

ad_pivot ad_kernel_matrix_exp(const ad_matrix *a, const ad_matrix *y, ad_arena *scratch) {
    const int64_t n = a->rows, count = n * n;
    uint64_t position = ad_arena_position(scratch);
    double *memory = ad_kernel_scratch(scratch, MATRICES * count * (int64_t)sizeof *memory), *result;
    int64_t *order = ad_kernel_scratch(scratch, n * (int64_t)sizeof *order);
    ad_pivot end = {AD_NO_MEMORY, 0};
    if (memory && order) {
        work w = {.n = n, .x = memory, .u = memory + count, .v = memory + 2 * count, .t = memory + 3 * count};
        for (int i = 0; i < POWERS; i++) w.even[i] = memory + (4 + i) * count;
        w.space.arena = scratch;
        ad_matrix x = ad_matrix_f64(w.x, n, n);
        ad_matrix_copy(a, &x);
        end = exponential(&w, order, &result);
        x.data = result;
        if (end.at == AD_DONE) ad_matrix_copy(&x, y);
    }
    ad_arena_rewind(scratch, position);
    return end;
}
