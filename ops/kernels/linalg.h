/* Dense linear algebra, one matrix at a time. Compiled once: in factorisations and solves, what is large is a matrix
 * product, and that has code for every instruction set.
 *
 * Inputs are read in any strides. Scratch memory is taken from an arena and given back. */
#ifndef AD_KERNELS_LINALG_H
#define AD_KERNELS_LINALG_H

#include "ops/kernels/kernels.h"

/* Element (i, j) is data[i * rs + j * cs]; strides of any sign, in elements. */
typedef struct ad_matrix {
    ad_dtype dtype;
    int64_t rows, columns;
    int64_t rs, cs;
    void *data;
} ad_matrix;

/* How a kernel ended: one of these, or at which pivot, from 0 on, there was nothing to divide by. */
enum { AD_DONE = -1, AD_NO_MEMORY = -2, AD_NO_CONVERGENCE = -3 };
typedef struct ad_pivot {
    int64_t at;
    double value; /* of that pivot */
} ad_pivot;

/* The first element of the diagonal that is 0 or no number. */
ad_pivot ad_kernel_diagonal(const ad_matrix *a);
/* x = L^-1 x for the lower triangle of L, its diagonal taken as 1 if `unit`. Rows of x are contiguous (cs 1). An upper
 * triangle is a lower one with rows and columns reversed, so negative strides solve with it. */
ad_pivot ad_kernel_solve_lower(const ad_matrix *l, bool unit, const ad_matrix *x, ad_arena *scratch);
/* The symmetric part of a is l l^T; l is row-major, zeros above its diagonal. */
ad_pivot ad_kernel_cholesky(const ad_matrix *a, const ad_matrix *l, ad_arena *scratch);
/* Row-major lu (in place): row i of L U is row order[i] of the matrix that was there; L below the diagonal has 1 on it.
 * Partial pivoting. Factors to the end though a pivot is bad, and tells the first one. */
ad_pivot ad_kernel_lu(const ad_matrix *lu, int64_t *order, ad_arena *scratch);
/* x = A^-1 x with A = P^T L U as above; x as in ad_kernel_solve_lower. */
ad_pivot ad_kernel_lu_solve(const ad_matrix *lu, const int64_t *order, const ad_matrix *x, ad_arena *scratch);
/* 1 or -1: of the permutation; `order` is destroyed. */
int ad_kernel_order_sign(int64_t *order, int64_t n);

/* a[m,n] = q[m,k] r[k,n], k = min(m, n), by Householder reflections; the diagonal of r is not negative. */
ad_pivot ad_kernel_qr(const ad_matrix *a, const ad_matrix *q, const ad_matrix *r, ad_arena *scratch);
/* The symmetric part of a, finite, is V diag(w) V^T, w[n,1] ascending; tridiagonal QL. In each column of V the element of
 * largest absolute value is positive. */
ad_pivot ad_kernel_eigh(const ad_matrix *a, const ad_matrix *w, const ad_matrix *v, ad_arena *scratch);
/* a[m,n], finite, = U[m,k] diag(s) Vt[k,n], s[k,1] descending; one-sided Jacobi. In each row of Vt (of a wide matrix:
 * each column of U) the element of largest absolute value is positive. */
ad_pivot ad_kernel_svd(const ad_matrix *a, const ad_matrix *s, const ad_matrix *u, const ad_matrix *vt,
                       ad_arena *scratch);
/* The matrix of cofactors, det(a) a^-T where that exists, and exact to rounding where it does not. */
ad_pivot ad_kernel_cofactor(const ad_matrix *a, const ad_matrix *c, ad_arena *scratch);
/* exp(a), by scaling and squaring of a Pade approximant (Higham 2005). AD_NO_CONVERGENCE: it overflows. */
ad_pivot ad_kernel_matrix_exp(const ad_matrix *a, const ad_matrix *y, ad_arena *scratch);

/* Scratch memory for a series of products: grows with the largest one, by doubling. Zeroed but for the arena. */
typedef struct ad_workspace {
    ad_arena *arena;
    void *memory;
    size_t bytes;
} ad_workspace;
/* c (+)= a b. False: no memory. */
bool ad_kernel_multiply(const ad_matrix *a, const ad_matrix *b, const ad_matrix *c, bool add, ad_workspace *space);

static inline ad_matrix ad_matrix_part(const ad_matrix *a, int64_t i, int64_t j, int64_t rows, int64_t columns) {
    ad_matrix part = *a;
    part.rows = rows;
    part.columns = columns;
    part.data = (char *)a->data + (i * a->rs + j * a->cs) * (int64_t)ad_dtype_size(a->dtype);
    return part;
}
static inline ad_matrix ad_matrix_transposed(const ad_matrix *a) {
    return (ad_matrix){a->dtype, a->columns, a->rows, a->cs, a->rs, a->data};
}
/* Both axes run backwards: a lower triangle becomes an upper one. */
static inline ad_matrix ad_matrix_reversed(const ad_matrix *a) {
    ad_matrix reversed = *a;
    if (a->rows > 0 && a->columns > 0) reversed = ad_matrix_part(a, a->rows - 1, a->columns - 1, a->rows, a->columns);
    reversed.rs = -a->rs;
    reversed.cs = -a->cs;
    return reversed;
}
/* ---- elements and copies, of either type ------------------------------------------------------------------------- */

static inline double ad_matrix_get(const ad_matrix *a, int64_t i, int64_t j) {
    const int64_t at = i * a->rs + j * a->cs;
    return a->dtype == AD_F32 ? (double)((const float *)a->data)[at] : ((const double *)a->data)[at];
}
static inline void ad_matrix_set(const ad_matrix *a, int64_t i, int64_t j, double value) {
    const int64_t at = i * a->rs + j * a->cs;
    if (a->dtype == AD_F32) {
        ((float *)a->data)[at] = (float)value;
    } else {
        ((double *)a->data)[at] = value;
    }
}
static inline void ad_matrix_copy(const ad_matrix *from, const ad_matrix *to) {
    for (int64_t i = 0; i < to->rows; i++)
        for (int64_t j = 0; j < to->columns; j++) ad_matrix_set(to, i, j, ad_matrix_get(from, i, j));
}
static inline void ad_matrix_identity(const ad_matrix *a) {
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < a->columns; j++) ad_matrix_set(a, i, j, i == j);
}
/* A row-major matrix of doubles. */
static inline ad_matrix ad_matrix_f64(double *data, int64_t rows, int64_t columns) {
    return (ad_matrix){AD_F64, rows, columns, columns, 1, data};
}
/* Memory for any vectors; NULL if there is none. */
static inline void *ad_kernel_scratch(ad_arena *scratch, int64_t bytes) {
    enum { ALIGNMENT = 64 };
    char *memory = ad_arena_take(scratch, (size_t)bytes + ALIGNMENT);
    return memory ? memory + (ALIGNMENT - (uintptr_t)memory % ALIGNMENT) % ALIGNMENT : NULL;
}

#endif
