/* The matrix of cofactors, which is the derivative of the determinant. */
#include "ops/kernels/linalg.h"

#include <math.h>

static double product(const ad_matrix *x, int64_t without) {
    double y = 1;
    for (int64_t i = 0; i < x->rows; i++)
        if (i != without) y *= ad_matrix_get(x, i, 0);
    return y;
}

static ad_matrix diagonal(const ad_matrix *a) { return (ad_matrix){a->dtype, a->rows, 1, a->rs + a->cs, 1, a->data}; }

/* The smallest pivot is not much smaller than the largest: det(a) a^-T then loses few digits. */
static bool is_well_conditioned(const ad_matrix *lu) {
    double least = INFINITY, largest = 0;
    for (int64_t i = 0; i < lu->rows; i++) {
        double pivot = fabs(ad_matrix_get(lu, i, i));
        least = fmin(least, pivot);
        largest = fmax(largest, pivot);
    }
    return least > 1e-3 * largest;
}

static ad_pivot by_inverse(const ad_matrix *lu, int64_t *order, const ad_matrix *c, ad_arena *scratch) {
    const int64_t n = lu->rows;
    double *memory = ad_kernel_scratch(scratch, n * n * (int64_t)sizeof *memory);
    if (!memory) return (ad_pivot){AD_NO_MEMORY, 0};
    ad_matrix inverse = ad_matrix_f64(memory, n, n), pivots = diagonal(lu);
    ad_matrix_identity(&inverse);
    ad_pivot end = ad_kernel_lu_solve(lu, order, &inverse, scratch);
    const double det = product(&pivots, -1) * ad_kernel_order_sign(order, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) ad_matrix_set(c, i, j, det * ad_matrix_get(&inverse, j, i));
    return end;
}

/* 1 or -1 for an orthogonal q, which is destroyed. */
static ad_pivot sign_of(const ad_matrix *q, int64_t *order, double *sign, ad_arena *scratch) {
    ad_pivot end = ad_kernel_lu(q, order, scratch);
    if (end.at == AD_NO_MEMORY) return end;
    *sign = ad_kernel_order_sign(order, q->rows);
    for (int64_t i = 0; i < q->rows; i++)
        if (ad_matrix_get(q, i, i) < 0) *sign = -*sign;
    return (ad_pivot){AD_DONE, 0};
}

/* With a = U diag(s) Vt: det(U) det(Vt) U diag(products of s without s_i) Vt. No division: right for any rank. */
static ad_pivot by_singular_values(const ad_matrix *a, int64_t *order, const ad_matrix *c, ad_arena *scratch) {
    const int64_t n = a->rows;
    double *memory = ad_kernel_scratch(scratch, (3 * n * n + n) * (int64_t)sizeof *memory), u_sign = 1, v_sign = 1;
    if (!memory) return (ad_pivot){AD_NO_MEMORY, 0};
    ad_matrix u = ad_matrix_f64(memory, n, n), vt = ad_matrix_f64(memory + n * n, n, n);
    ad_matrix y = ad_matrix_f64(memory + 2 * n * n, n, n), s = ad_matrix_f64(memory + 3 * n * n, n, 1);
    ad_pivot end = ad_kernel_svd(a, &s, &u, &vt, scratch);
    if (end.at != AD_DONE) return end;
    ad_matrix_copy(&u, &y);
    end = sign_of(&y, order, &u_sign, scratch);
    ad_matrix_copy(&vt, &y);
    if (end.at == AD_DONE) end = sign_of(&y, order, &v_sign, scratch);
    for (int64_t j = 0; j < n; j++) {
        const double f = u_sign * v_sign * product(&s, j);
        for (int64_t i = 0; i < n; i++) ad_matrix_set(&u, i, j, f * ad_matrix_get(&u, i, j));
    }
    ad_workspace space = {.arena = scratch};
    if (end.at == AD_DONE && !ad_kernel_multiply(&u, &vt, &y, false, &space)) end.at = AD_NO_MEMORY;
    if (end.at == AD_DONE) ad_matrix_copy(&y, c);
    return end;
}

ad_pivot ad_kernel_cofactor(const ad_matrix *a, const ad_matrix *c, ad_arena *scratch) {
    const int64_t n = a->rows;
    uint64_t position = ad_arena_position(scratch);
    double *memory = ad_kernel_scratch(scratch, n * n * (int64_t)sizeof *memory);
    int64_t *order = ad_kernel_scratch(scratch, n * (int64_t)sizeof *order);
    ad_pivot end = {AD_NO_MEMORY, 0};
    if (memory && order) {
        ad_matrix lu = ad_matrix_f64(memory, n, n);
        ad_matrix_copy(a, &lu);
        end = ad_kernel_lu(&lu, order, scratch);
        if (end.at == AD_DONE && is_well_conditioned(&lu)) {
            end = by_inverse(&lu, order, c, scratch);
        } else if (end.at != AD_NO_MEMORY) {
            end = by_singular_values(a, order, c, scratch);
        }
    }
    ad_arena_rewind(scratch, position);
    return end;
}
