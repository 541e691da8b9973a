/* Triangular solves, Cholesky and LU, in blocks: all but a narrow band of the work is matrix products.
 *
 * A band holds BAND rows or columns. Inside it, loops run along contiguous rows, so that they vectorise. */
#include "ops/kernels/linalg.h"

#include <math.h>
#include <string.h>

enum { BAND = 32, STRIP = 256 /* columns that are looked at together, to stay in L1 */ };

static const ad_pivot done = {AD_DONE, 0}, no_memory = {AD_NO_MEMORY, 0};

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

bool ad_kernel_multiply(const ad_matrix *a, const ad_matrix *b, const ad_matrix *c, bool add, ad_workspace *space) {
    const ad_kernels *kernels = ad_kernels_get();
    ad_gemm problem = {.dtype = c->dtype, .m = c->rows, .n = c->columns, .k = a->columns, .add = add};
    problem.a = a->data, problem.rsa = a->rs, problem.csa = a->cs;
    problem.b = b->data, problem.rsb = b->rs, problem.csb = b->cs;
    problem.c = c->data, problem.rsc = c->rs, problem.csc = c->cs;
    if (problem.m == 0 || problem.n == 0) return true;
    size_t bytes = kernels->gemm_scratch(&problem);
    if (bytes > space->bytes) {
        space->bytes = bytes > 2 * space->bytes ? bytes : 2 * space->bytes;
        space->memory = ad_kernel_scratch(space->arena, (int64_t)space->bytes);
    }
    if (bytes && !space->memory) return false;
    kernels->gemm(&problem, space->memory);
    return true;
}

#define T       float
#define S(name) name##_f32
#include "ops/kernels/factor_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/factor_typed.h"
#undef T
#undef S

ad_pivot ad_kernel_diagonal(const ad_matrix *a) {
    for (int64_t i = 0; i < a->rows; i++) {
        int64_t at = i * (a->rs + a->cs);
        double value = a->dtype == AD_F32 ? (double)((const float *)a->data)[at] : ((const double *)a->data)[at];
        if (!isfinite(value) || value == 0) return (ad_pivot){i, value};
    }
    return done;
}

ad_pivot ad_kernel_solve_lower(const ad_matrix *l, bool unit, const ad_matrix *x, ad_arena *scratch) {
    uint64_t position = ad_arena_position(scratch);
    bool ok = l->dtype == AD_F32 ? solve_lower_f32(l, unit, x, scratch) : solve_lower_f64(l, unit, x, scratch);
    ad_arena_rewind(scratch, position);
    return ok ? done : no_memory;
}

ad_pivot ad_kernel_cholesky(const ad_matrix *a, const ad_matrix *l, ad_arena *scratch) {
    uint64_t position = ad_arena_position(scratch);
    ad_pivot end = l->dtype == AD_F32 ? cholesky_f32(a, l, scratch) : cholesky_f64(a, l, scratch);
    ad_arena_rewind(scratch, position);
    return end;
}

ad_pivot ad_kernel_lu(const ad_matrix *lu, int64_t *order, ad_arena *scratch) {
    uint64_t position = ad_arena_position(scratch);
    ad_pivot end = lu->dtype == AD_F32 ? lu_f32(lu, order, scratch) : lu_f64(lu, order, scratch);
    ad_arena_rewind(scratch, position);
    return end;
}

ad_pivot ad_kernel_lu_solve(const ad_matrix *lu, const int64_t *order, const ad_matrix *x, ad_arena *scratch) {
    size_t row = (size_t)x->columns * ad_dtype_size(x->dtype);
    uint64_t position = ad_arena_position(scratch);
    char *copy = ad_kernel_scratch(scratch, x->rows * (int64_t)row);
    ad_pivot end = copy ? done : no_memory;
    for (int64_t i = 0; i < x->rows && copy; i++)
        memcpy(copy + (size_t)i * row, ad_matrix_part(x, i, 0, 1, 1).data, row);
    for (int64_t i = 0; i < x->rows && copy; i++)
        memcpy(ad_matrix_part(x, i, 0, 1, 1).data, copy + (size_t)order[i] * row, row);
    ad_arena_rewind(scratch, position);
    if (end.at == AD_DONE) end = ad_kernel_solve_lower(lu, true, x, scratch);
    if (end.at != AD_DONE) return end;
    ad_matrix upper = ad_matrix_reversed(lu),
              from_below = ad_matrix_part(x, x->rows ? x->rows - 1 : 0, 0, x->rows, x->columns);
    from_below.rs = -x->rs;
    return ad_kernel_solve_lower(&upper, false, &from_below, scratch);
}

/* Each swap that puts one row in its place changes the sign. */
int ad_kernel_order_sign(int64_t *order, int64_t n) {
    int sign = 1;
    for (int64_t i = 0; i < n; i++) {
        while (order[i] != i) {
            int64_t j = order[i];
            order[i] = order[j];
            order[j] = j;
            sign = -sign;
        }
    }
    return sign;
}
