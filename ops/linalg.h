/* Inside the ops layer: what the ops of linear algebra share. They see every operand as a stack of matrices,
 * [batch..., rows, columns]; stacks broadcast, and gradients are summed back. */
#ifndef AD_OPS_LINALG_H
#define AD_OPS_LINALG_H

#include "autodiff/tape/tape.h"
#include "ops/kernels/linalg.h"
#include "ops/ops.h"

/* ---- views ------------------------------------------------------------------------------------------------------- */

/* With a new axis of length 1. */
ad_view ad_insert_axis(const ad_view *view, int at);
ad_view ad_last_matrix(const ad_view *view); /* the first of a stack */
ad_view ad_swap_last(const ad_view *view);
/* The view with its stack stretched to the one of `batch`, the leading axes of a shape of `rank` axes. */
ad_view ad_stretch_stack(const ad_view *view, const ad_shape *batch, int rank);
/* [..., columns] as one matrix [rows, columns]: a view, or a copy in scratch memory; data NULL if there is none. */
ad_view ad_fold_rows(ad_call *call, const ad_view *view);
/* c (+)= a b for three matrices, as the kernel takes it. */
ad_gemm ad_matrix_product(const ad_view *a, const ad_view *b, const ad_view *c, bool add);
/* Computes it, by as many threads as pay. No memory: the tape has the error. */
void ad_run_gemm(ad_call *call, ad_gemm *problem);
void ad_multiply_matrices(ad_call *call, const ad_view *a, const ad_view *b, const ad_view *c, bool add);

/* ---- going through stacks ---------------------------------------------------------------------------------------- */

/* The matrices of up to five stacks of one batch shape, in step:
 *
 *     for (ad_stack s = ad_stack_start(2, views); s.more; ad_stack_next(&s)) ... s.matrix[0], s.matrix[1] ... */
typedef struct ad_stack {
    bool more;
    int64_t number; /* of the matrices at hand, row-major */
    ad_matrix matrix[AD_WALK_MAX];
    ad_walk walk;
    int64_t inner;
} ad_stack;
ad_stack ad_stack_start(int count, const ad_view *const *views);
void ad_stack_next(ad_stack *stack);
static inline ad_arena *ad_scratch_arena(ad_call *call) { return &call->priv->tape->scratch; }

/* ---- checks ------------------------------------------------------------------------------------------------------ */

ad_status ad_need_matrix(ad_call *call, int i); /* float, of rank 2 or more */
ad_status ad_need_square(ad_call *call, int i);
ad_status ad_shape_like_square_input(ad_call *call);     /* one square input, a result of its type */
ad_status ad_need_finite_matrices(ad_call *call, int i); /* no inf, no NaN; else which matrix */
/* "A" or, in a stack, "A[1,0]": matrix `number` of input i. */
const char *ad_matrix_name(ad_call *call, int i, int64_t number);
/* A kernel's end as a status: AD_ERR_VALUE with the matrix's name, what it is or is not, and the pivot. */
ad_status ad_pivot_status(ad_call *call, int i, int64_t number, ad_pivot end, const char *what, const char *hint);
/* A square input 0 and an input 1 of as many rows, a stack of columns or (rank 1) one column; result 0 is like input 1,
 * with the common stack. */
ad_status ad_shape_of_solution(ad_call *call);

/* ---- LU ---------------------------------------------------------------------------------------------------------- */

/* The LU factors of every matrix of the stack `a`, to row-major `lu` and order[..., n]. Bad pivots are reported only if
 * they are errors. */
ad_status ad_factor_stack(ad_call *call, const ad_view *a, const ad_view *lu, const ad_view *order, bool report);
/* Scratch arrays for the factors of input 0; order->data NULL: no memory. */
void ad_scratch_factors(ad_call *call, ad_view *lu, ad_view *order);

/* ---- in VJPs and JVPs -------------------------------------------------------------------------------------------- */

/* The solution of a linear system, or its cotangent, as a stack of columns; and back. */
ad_var ad_as_columns(ad_var x, bool is_vector);
ad_var ad_as_vector(ad_var x, bool is_vector);
/* a b^T for stacks of columns; one matrix, summed over the stack, if the input it is for is one (rank 2). */
ad_var ad_outer_of_columns(ad_var a, ad_var b, int rank);
ad_var ad_symmetric_part(ad_var x); /* (x + x^T) / 2 */
/* x / d, 0 where d is 0 */
ad_var ad_divide_where_not_0(ad_var x, ad_var d);
/* Gives input i a contribution that may have a larger stack, as a column if the input is one (rank 1). */
void ad_give_matrix(ad_vjp *v, int i, ad_var contribution);

/* ---- samples ----------------------------------------------------------------------------------------------------- */

/* Adds value, value + step, value + 2 step, ... to the diagonals of the last input. */
void ad_sample_add_diagonal(ad_sample *sample, double value, double step);
void ad_sample_reverse_columns(ad_sample *sample);
bool ad_sample_square(ad_sample *sample, int k); /* regular matrices, from none to 4 x 4 */

#endif
