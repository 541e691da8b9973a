/* Systems of linear equations, through LU with partial pivoting: solve and inverse. */
#include "ops/linalg.h"

/* x = A^-1 x, for stacks of which x has the full one. */
static ad_status back_substitute(ad_call *call, const ad_view *lu, const ad_view *order, const ad_view *x) {
    int rank = x->shape.rank;
    ad_view rows = ad_insert_axis(order, order->shape.rank - 1), factors = ad_stretch_stack(lu, &x->shape, rank);
    rows = ad_stretch_stack(&rows, &x->shape, rank);
    const ad_view *views[] = {&factors, &rows, x};
    ad_status status = AD_OK;
    for (ad_stack s = ad_stack_start(3, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_lu_solve(&s.matrix[0], s.matrix[1].data, &s.matrix[2],
                                                    ad_scratch_arena(call)),
                                 "is singular", "");
    return status;
}

/* ---- solve ------------------------------------------------------------------------------------------------------- */

/* Results 1 and 2 are the factors, L below the diagonal and U from it on, and the order of rows: row i of L U is row
 * order[i] of A, so A = P^T L U for the permutation P of that order. */
static ad_status solve_shape(ad_call *call) {
    ad_status status = ad_shape_of_solution(call);
    if (status) return status;
    ad_shape shape = call->in[0]->shape;
    ad_set_out(call, 1, call->in[0]->dtype, shape);
    shape.rank--;
    ad_set_out(call, 2, AD_I64, shape);
    return AD_OK;
}

static ad_status solve_forward(ad_call *call) {
    ad_status status = ad_factor_stack(call, call->in[0], &call->out[1], &call->out[2], true);
    if (status) return status;
    ad_view b = ad_stretched(call->in[1], &call->out[0].shape), x = call->out[0];
    ad_kernels_get()->copy(&b, &x, 1, false);
    if (call->in[1]->shape.rank == 1) x = ad_insert_axis(&x, x.shape.rank);
    x.stride[x.shape.rank - 1] = 1;
    return back_substitute(call, &call->out[1], &call->out[2], &x);
}

/* The order, one number for each element of x. */
static ad_var order_like(ad_var order, ad_var x) {
    ad_shape column = ad_value(order).shape;
    column.dim[column.rank++] = 1;
    return ad_broadcast_to(ad_reshape(order, column), ad_value(x).shape);
}

/* P x */
static ad_var rows_in_order(ad_var order, ad_var x) { return ad_gather(x, -2, order_like(order, x)); }

/* P^T x */
static ad_var rows_back(ad_var order, ad_var x) {
    ad_var zeros = ad_broadcast_to(ad_number_like(AD_HERE, x, 0), ad_value(x).shape);
    return ad_scatter_add(zeros, -2, order_like(order, x), x);
}

/* A^-T x = P^T L^-T U^-T x */
static ad_var solve_transposed(ad_var lu, ad_var order, ad_var x) {
    x = ad_triangular_solve(lu, x, AD_UPPER | AD_TRANSPOSED);
    x = ad_triangular_solve(lu, x, AD_LOWER | AD_UNIT_DIAGONAL | AD_TRANSPOSED);
    return rows_back(order, x);
}

/* What a cotangent g of the factors gives A. With M = L^-1 P dA U^-1, dL = L tril(M) and dU = triu(M) U, so M gets
 * tril(L^T g) + triu(g U^T), and A gets P^T L^-T of that U^-T. */
static ad_var through_factors(ad_var lu, ad_var order, ad_var g) {
    ad_var l = ad_tril(lu, -1), u = ad_triu(lu, 0), g_l = ad_tril(g, -1);
    ad_var below = ad_add(g_l, ad_tril(ad_matmul(ad_transpose(l), g_l), -1));
    ad_var above = ad_triu(ad_matmul(ad_triu(g, 0), ad_transpose(u)), 0);
    ad_var m = ad_triangular_solve(lu, ad_add(below, above), AD_LOWER | AD_UNIT_DIAGONAL | AD_TRANSPOSED);
    return rows_back(order, ad_transpose(ad_triangular_solve(lu, ad_transpose(m), AD_UPPER)));
}

static void solve_vjp(ad_vjp *v) {
    ad_var lu = ad_vjp_result(v, 1), order = ad_vjp_result(v, 2);
    if (ad_vjp_has_seed(v, 0)) {
        bool is_vector = ad_vjp_input_shape(v, 1).rank == 1;
        ad_var b_bar = solve_transposed(lu, order, ad_as_columns(ad_vjp_seed(v, 0), is_vector));
        ad_give_matrix(v, 1, b_bar);
        if (ad_vjp_wants(v, 0)) {
            ad_var x = ad_as_columns(ad_vjp_result(v, 0), is_vector);
            ad_give_matrix(v, 0, ad_neg(ad_outer_of_columns(b_bar, x, ad_vjp_input_shape(v, 0).rank)));
        }
    }
    if (ad_vjp_has_seed(v, 1) && ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, through_factors(lu, order, ad_vjp_seed(v, 1)));
}

/* L^-1 P x */
static ad_var half_solved(ad_var lu, ad_var order, ad_var x) {
    return ad_triangular_solve(lu, rows_in_order(order, x), AD_LOWER | AD_UNIT_DIAGONAL);
}

/* x' = A^-1 (B' - A' x) (Giles, "Collected matrix derivative results", 2008, section 2.3.1). With M = L^-1 P A' U^-1 the
 * factors move by L' = L tril(M) and U' = triu(M) U. */
static void move_factors(ad_jvp *j, ad_var lu, ad_var order) {
    ad_var left = half_solved(lu, order, ad_jvp_tangent(j, 0));
    ad_var m = ad_transpose(ad_triangular_solve(lu, ad_transpose(left), AD_UPPER | AD_TRANSPOSED));
    ad_var below = ad_tril(m, -1), lower = ad_add(below, ad_matmul(ad_tril(lu, -1), below));
    ad_jvp_give(j, 1, ad_add(lower, ad_matmul(ad_triu(m, 0), ad_triu(lu, 0))));
}

static void move_solution(ad_jvp *j, ad_var lu, ad_var order) {
    bool is_vector = ad_value(ad_jvp_input(j, 1)).shape.rank == 1;
    ad_var x = ad_as_columns(ad_jvp_result(j, 0), is_vector), step = {0};
    if (ad_jvp_moves(j, 1)) step = ad_broadcast_to(ad_as_columns(ad_jvp_tangent(j, 1), is_vector), ad_value(x).shape);
    if (ad_jvp_moves(j, 0)) {
        ad_var less = ad_matmul(ad_jvp_tangent(j, 0), x);
        step = step.tape ? ad_sub(step, less) : ad_neg(less);
    }
    ad_jvp_give(j, 0, ad_as_vector(ad_triangular_solve(lu, half_solved(lu, order, step), AD_UPPER), is_vector));
}

static void solve_jvp(ad_jvp *j) {
    ad_var lu = ad_jvp_result(j, 1), order = ad_jvp_result(j, 2);
    if (ad_jvp_wants(j, 0)) move_solution(j, lu, order);
    if (ad_jvp_wants(j, 1) && ad_jvp_moves(j, 0)) move_factors(j, lu, order);
}

static bool solve_sample(ad_sample *sample, int k) {
    const ad_shape cases[][2] = {
        {AD_SHAPE(3, 3), AD_SHAPE(3, 2)},          {AD_SHAPE(3, 3), AD_SHAPE(3)},
        {AD_SHAPE(2, 3, 3), AD_SHAPE(3, 2)},       {AD_SHAPE(3, 3), AD_SHAPE(2, 3, 2)},
        {AD_SHAPE(2, 1, 2, 2), AD_SHAPE(3, 2, 1)}, {AD_SHAPE(2, 3, 3), AD_SHAPE(3)},
        {AD_SHAPE(1, 1), AD_SHAPE(1, 1)},          {AD_SHAPE(0, 0), AD_SHAPE(0, 2)},
        {AD_SHAPE(3, 3), AD_SHAPE(3, 0)},          {AD_SHAPE(0, 2, 2), AD_SHAPE(0, 2, 3)},
        {AD_SHAPE(4, 4), AD_SHAPE(4, 4)},
    };
    if (k >= (int)(sizeof cases / sizeof *cases) || !ad_sample_normal(sample, cases[k][0])) return false;
    ad_sample_add_diagonal(sample, 4, 1);
    if (k % 2 == 0) ad_sample_reverse_columns(sample); /* then there is much to pivot */
    return ad_sample_normal(sample, cases[k][1]);
}

const ad_op ad_op_solve = {
    .name = "solve",
    .inputs = 2,
    .results = 3,
    .saves = AD_SAVES_RESULT(0) | AD_SAVES_RESULT(1) | AD_SAVES_RESULT(2),
    .shape = solve_shape,
    .forward = solve_forward,
    .vjp = solve_vjp,
    .jvp = solve_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = $0^-1 $1",
    .result_formula = {"$y1 = LU factors of $0", "$y2 = their order of rows"},
    .adjoint = {"~0 -= ~1 $y^T", "~1 += $0^-T ~y"},
    .convention = "$0 singular: an error",
    .sample = solve_sample,
};

ad_var ad_solve_at(const char *where, ad_var a, ad_var b) { return ad_apply_2(where, &ad_op_solve, a, b, NULL); }

/* ---- inverse ----------------------------------------------------------------------------------------------------- */

static ad_status inverse_forward(ad_call *call) {
    ad_view lu, order;
    const ad_view *y = &call->out[0];
    ad_scratch_factors(call, &lu, &order);
    if (!order.data) return AD_ERR_OOM;
    ad_status status = ad_factor_stack(call, call->in[0], &lu, &order, true);
    for (ad_stack s = ad_stack_start(1, &y); s.more; ad_stack_next(&s)) ad_matrix_identity(&s.matrix[0]);
    return status ? status : back_substitute(call, &lu, &order, y);
}

static void inverse_vjp(ad_vjp *v) {
    ad_var yt = ad_transpose(ad_vjp_result(v, 0));
    ad_vjp_give(v, 0, ad_neg(ad_matmul(yt, ad_matmul(ad_vjp_seed(v, 0), yt))));
}

static void inverse_jvp(ad_jvp *j) {
    ad_var y = ad_jvp_result(j, 0);
    ad_jvp_give(j, 0, ad_neg(ad_matmul(y, ad_matmul(ad_jvp_tangent(j, 0), y))));
}

const ad_op ad_op_inverse = {
    .name = "inverse",
    .inputs = 1,
    .saves = AD_SAVES_RESULT(0),
    .shape = ad_shape_like_square_input,
    .forward = inverse_forward,
    .vjp = inverse_vjp,
    .jvp = inverse_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = $0^-1",
    .adjoint = {"~0 -= $y^T ~y $y^T"},
    .convention = "$0 singular: an error",
    .sample = ad_sample_square,
};

ad_var ad_inverse_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_inverse, a, NULL); }
