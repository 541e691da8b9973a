/* Orthogonal decompositions: qr, eigh, svd. */
#include "ops/linalg.h"

static const char no_convergence[] = "does not converge";

/* A float matrix of input 0, and min(rows, columns). */
static ad_status decomposed_shape(ad_call *call, ad_shape *shape, int64_t *k) {
    ad_status status = ad_need_matrix(call, 0);
    *shape = call->in[0]->shape;
    if (status) return status;
    int64_t m = shape->dim[shape->rank - 2], n = shape->dim[shape->rank - 1];
    *k = m < n ? m : n;
    return AD_OK;
}

/* Result `at` is [..., rows, columns]. */
static void set_matrix(ad_call *call, int at, ad_shape shape, int64_t rows, int64_t columns) {
    shape.dim[shape.rank - 2] = rows;
    shape.dim[shape.rank - 1] = columns;
    ad_set_out(call, at, call->in[0]->dtype, shape);
}

/* Result `at` is [..., k]. */
static void set_values(ad_call *call, int at, ad_shape shape, int64_t k) {
    shape.dim[--shape.rank - 1] = k;
    ad_set_out(call, at, call->in[0]->dtype, shape);
}

static int64_t rows_of(ad_shape shape) { return shape.dim[shape.rank - 2]; }
static int64_t columns_of(ad_shape shape) { return shape.dim[shape.rank - 1]; }

/* w[..., k] as a row or a column of a matrix */
static ad_var as_row(ad_var w) { return ad_unsqueeze(w, -2); }
static ad_var as_column(ad_var w) { return ad_unsqueeze(w, -1); }

/* ---- qr ---------------------------------------------------------------------------------------------------------- */

static ad_status qr_shape(ad_call *call) {
    ad_shape shape;
    int64_t k;
    ad_status status = decomposed_shape(call, &shape, &k);
    if (status) return status;
    set_matrix(call, 0, shape, rows_of(shape), k);
    set_matrix(call, 1, shape, k, columns_of(shape));
    return AD_OK;
}

static ad_status qr_forward(ad_call *call) {
    const ad_view *views[] = {call->in[0], &call->out[0], &call->out[1]};
    ad_status status = ad_need_finite_matrices(call, 0);
    for (ad_stack s = ad_stack_start(3, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_qr(&s.matrix[0], &s.matrix[1], &s.matrix[2], ad_scratch_arena(call)),
                                 no_convergence, "");
    return status;
}

/* The symmetric matrix with the lower triangle of m. */
static ad_var mirrored(ad_var m) { return ad_add(ad_tril(m, 0), ad_transpose(ad_tril(m, -1))); }

/* For square R: (gQ + Q mirrored(R gR^T - gQ^T Q)) R^-T, where gR^T and R may come as the product `rg`. */
static ad_var qr_square(ad_var q, ad_var r, ad_var g_q, ad_var rg) {
    ad_var m = ad_sub(rg, ad_matmul(ad_transpose(g_q), q));
    ad_var x = ad_add(g_q, ad_matmul(q, mirrored(m)));
    return ad_transpose(ad_triangular_solve(r, ad_transpose(x), AD_UPPER));
}

/* A wide A is [A1 A2] = Q [R1 R2] with R2 = Q^T A2: A2 gets Q gR2, and Q gets A2 gR2^T = Q R2 gR2^T more. What is left
 * is the square A1 = Q R1. */
static ad_var qr_wide(ad_var q, ad_var r, ad_var g_q, ad_var g_r, int64_t k) {
    ad_var r1 = ad_slice(r, -1, 0, k, 1), r2 = ad_slice(r, -1, k, AD_TO_END, 1);
    ad_var g_r1 = ad_slice(g_r, -1, 0, k, 1), g_r2 = ad_slice(g_r, -1, k, AD_TO_END, 1);
    g_q = ad_add(g_q, ad_matmul(q, ad_matmul(r2, ad_transpose(g_r2))));
    ad_var a1 = qr_square(q, r1, g_q, ad_matmul(r1, ad_transpose(g_r1)));
    return ad_cat(AD_VARS(a1, ad_matmul(q, g_r2)), -1);
}

static void qr_vjp(ad_vjp *v) {
    ad_var q = ad_vjp_result(v, 0), r = ad_vjp_result(v, 1), g_q = ad_vjp_seed(v, 0), g_r = ad_vjp_seed(v, 1);
    ad_shape shape = ad_vjp_input_shape(v, 0);
    ad_vjp_give(v, 0,
                rows_of(shape) < columns_of(shape) ? qr_wide(q, r, g_q, g_r, rows_of(shape))
                                                   : qr_square(q, r, g_q, ad_matmul(r, ad_transpose(g_r))));
}

/* For square R (Townsend, "Differentiating the QR decomposition", 2018): Q^T dA R^-1 is a skew-symmetric matrix, by which Q
 * turns, and an upper triangle, times R what R moves by. */
typedef struct qr_motion {
    ad_var q, r, skew;
} qr_motion;

static qr_motion qr_square_motion(ad_var q, ad_var r, ad_var a_dot) {
    ad_var right = ad_transpose(ad_triangular_solve(r, ad_transpose(a_dot), AD_UPPER | AD_TRANSPOSED));
    ad_var c = ad_matmul(ad_transpose(q), right), below = ad_tril(c, -1), skew = ad_sub(below, ad_transpose(below));
    ad_var upper = ad_sub(c, skew);
    return (qr_motion){ad_sub(right, ad_matmul(q, upper)), ad_matmul(upper, r), skew};
}

/* Of a wide A = Q [R1 R2]: A1 = Q R1 alone moves Q, and R2 = Q^T A2. */
static void qr_jvp(ad_jvp *j) {
    ad_var q = ad_jvp_result(j, 0), r = ad_jvp_result(j, 1), a_dot = ad_jvp_tangent(j, 0);
    ad_shape shape = ad_value(a_dot).shape;
    if (shape.rank < 2) return; /* there was an error */
    int64_t k = rows_of(shape);
    bool is_wide = k < columns_of(shape);
    qr_motion moved = qr_square_motion(q, is_wide ? ad_slice(r, -1, 0, k, 1) : r,
                                       is_wide ? ad_slice(a_dot, -1, 0, k, 1) : a_dot);
    if (is_wide) {
        ad_var r2 = ad_slice(r, -1, k, AD_TO_END, 1), a2_dot = ad_slice(a_dot, -1, k, AD_TO_END, 1);
        ad_var r2_dot = ad_sub(ad_matmul(ad_transpose(q), a2_dot), ad_matmul(moved.skew, r2));
        moved.r = ad_cat(AD_VARS(moved.r, r2_dot), -1);
    }
    ad_jvp_give(j, 0, moved.q);
    ad_jvp_give(j, 1, moved.r);
}

static bool qr_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(4, 3), AD_SHAPE(2, 3, 3), AD_SHAPE(2, 4),    AD_SHAPE(1, 1),
                               AD_SHAPE(0, 2), AD_SHAPE(3, 0),    AD_SHAPE(0, 3, 2), AD_SHAPE(1, 3)};
    if (k >= (int)(sizeof shapes / sizeof *shapes) || !ad_sample_normal(sample, shapes[k])) return false;
    ad_sample_add_diagonal(sample, k % 2 ? -3 : 3, 0);
    return true;
}

const ad_op ad_op_qr = {
    .name = "qr",
    .inputs = 1,
    .results = 2,
    .saves = AD_SAVES_RESULT(0) | AD_SAVES_RESULT(1),
    .shape = qr_shape,
    .forward = qr_forward,
    .vjp = qr_vjp,
    .jvp = qr_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = Q of $0 = Q R",
    .result_formula = {"$y1 = R, its diagonal >= 0"},
    .adjoint = {"~0 += (~y + $y mirror($y1 ~y1^T - ~y^T $y)) $y1^-T, mirror: lower triangle, made symmetric"},
    .convention = "0 on the diagonal of $y1: an error",
    .sample = qr_sample,
};

ad_var ad_qr_at(const char *where, ad_var a, ad_var *r) {
    ad_var results[2];
    ad_apply_at(where, a.tape, &ad_op_qr, 1, &a, NULL, results);
    if (r) *r = results[1];
    return results[0];
}

/* ---- eigh -------------------------------------------------------------------------------------------------------- */

static ad_status eigh_shape(ad_call *call) {
    ad_shape shape;
    int64_t k;
    ad_status status = decomposed_shape(call, &shape, &k);
    if (!status) status = ad_need_square(call, 0);
    if (status) return status;
    set_values(call, 0, shape, k);
    set_matrix(call, 1, shape, k, k);
    return AD_OK;
}

static ad_status eigh_forward(ad_call *call) {
    ad_view values = ad_insert_axis(&call->out[0], call->out[0].shape.rank);
    const ad_view *views[] = {call->in[0], &values, &call->out[1]};
    ad_status status = ad_need_finite_matrices(call, 0);
    for (ad_stack s = ad_stack_start(3, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_eigh(&s.matrix[0], &s.matrix[1], &s.matrix[2], ad_scratch_arena(call)),
                                 no_convergence, "");
    return status;
}

/* d[i,j] = w[j] - w[i] */
static ad_var differences(ad_var w) { return ad_sub(as_row(w), as_column(w)); }

static void eigh_vjp(ad_vjp *v) {
    ad_var w = ad_vjp_result(v, 0), q = ad_vjp_result(v, 1), left = {0};
    if (ad_vjp_has_seed(v, 0)) left = ad_mul(q, as_row(ad_vjp_seed(v, 0)));
    if (ad_vjp_has_seed(v, 1)) {
        ad_var k = ad_matmul(ad_transpose(q), ad_vjp_seed(v, 1));
        ad_var turned = ad_matmul(q, ad_divide_where_not_0(k, differences(w)));
        left = left.tape ? ad_add(left, turned) : turned;
    }
    ad_vjp_give(v, 0, ad_symmetric_part(ad_matmul(left, ad_transpose(q))));
}

/* Giles, "Collected matrix derivative results", 2008, section 3.1: with K = Q^T dA Q, dw = diag(K), dQ = Q (F * K). */
static void eigh_jvp(ad_jvp *j) {
    ad_var w = ad_jvp_result(j, 0), q = ad_jvp_result(j, 1), a_dot = ad_symmetric_part(ad_jvp_tangent(j, 0));
    ad_var k = ad_matmul(ad_transpose(q), ad_matmul(a_dot, q));
    if (ad_jvp_wants(j, 0)) ad_jvp_give(j, 0, ad_diagonal(k, 0, -2, -1));
    if (ad_jvp_wants(j, 1)) ad_jvp_give(j, 1, ad_matmul(q, ad_divide_where_not_0(k, differences(w))));
}

static bool eigh_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3), AD_SHAPE(2, 3, 3), AD_SHAPE(1, 1),
                               AD_SHAPE(0, 0), AD_SHAPE(0, 2, 2), AD_SHAPE(4, 4)};
    if (k >= (int)(sizeof shapes / sizeof *shapes) || !ad_sample_normal(sample, shapes[k])) return false;
    ad_sample_add_diagonal(sample, -2, 6);
    return true;
}

const ad_op ad_op_eigh = {
    .name = "eigh",
    .inputs = 1,
    .results = 2,
    .saves = AD_SAVES_RESULT(0) | AD_SAVES_RESULT(1),
    .shape = eigh_shape,
    .forward = eigh_forward,
    .vjp = eigh_vjp,
    .jvp = eigh_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = eigenvalues of ($0 + $0^T) / 2, ascending",
    .result_formula = {"$y1 = its eigenvectors, in columns"},
    .adjoint = {"~0 += sym($y1 (diag(~y) + F * ($y1^T ~y1)) $y1^T), F[i,j] = 1 / ($y[j] - $y[i])"},
    .convention = "vectors of equal eigenvalues have no derivative: F is taken as 0 there",
    .sample = eigh_sample,
};

ad_var ad_eigh_at(const char *where, ad_var a, ad_var *vectors) {
    ad_var results[2];
    ad_apply_at(where, a.tape, &ad_op_eigh, 1, &a, NULL, results);
    if (vectors) *vectors = results[1];
    return results[0];
}

/* ---- svd --------------------------------------------------------------------------------------------------------- */

static ad_status svd_shape(ad_call *call) {
    ad_shape shape;
    int64_t k;
    ad_status status = decomposed_shape(call, &shape, &k);
    if (status) return status;
    set_values(call, 0, shape, k);
    set_matrix(call, 1, shape, rows_of(shape), k);
    set_matrix(call, 2, shape, k, columns_of(shape));
    return AD_OK;
}

static ad_status svd_forward(ad_call *call) {
    ad_view values = ad_insert_axis(&call->out[0], call->out[0].shape.rank);
    const ad_view *views[] = {call->in[0], &values, &call->out[1], &call->out[2]};
    ad_status status = ad_need_finite_matrices(call, 0);
    for (ad_stack s = ad_stack_start(4, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_svd(&s.matrix[0], &s.matrix[1], &s.matrix[2], &s.matrix[3],
                                               ad_scratch_arena(call)),
                                 no_convergence, "");
    return status;
}

/* X + X^T for X = F * (q^T g), F[i,j] = 1 / (s[j]^2 - s[i]^2) */
static ad_var turning(ad_var q, ad_var g, ad_var s) {
    ad_var x = ad_divide_where_not_0(ad_matmul(ad_transpose(q), g), differences(ad_mul(s, s)));
    return ad_add(x, ad_transpose(x));
}

/* The part of g that is at right angles to the columns of q, over s */
static ad_var leaving(ad_var q, ad_var g, ad_var s) {
    ad_var outside = ad_sub(g, ad_matmul(q, ad_matmul(ad_transpose(q), g)));
    return ad_divide_where_not_0(outside, as_row(s));
}

static ad_var add_to(ad_var sum, ad_var x) { return sum.tape ? ad_add(sum, x) : x; }

/* U (turning(U) S + S turning(V) + diag(gS)) V^T, and for sides longer than S what leaves the space of its vectors. */
static void svd_vjp(ad_vjp *v) {
    ad_var s = ad_vjp_result(v, 0), u = ad_vjp_result(v, 1), vt = ad_vjp_result(v, 2), left = {0};
    ad_shape shape = ad_vjp_input_shape(v, 0);
    int64_t m = rows_of(shape), n = columns_of(shape), k = m < n ? m : n;
    if (ad_vjp_has_seed(v, 0)) left = ad_mul(u, as_row(ad_vjp_seed(v, 0)));
    if (ad_vjp_has_seed(v, 1)) {
        ad_var g = ad_vjp_seed(v, 1);
        left = add_to(left, ad_matmul(u, ad_mul(turning(u, g, s), as_row(s))));
        if (m > k) left = add_to(left, leaving(u, g, s));
    }
    if (ad_vjp_has_seed(v, 2)) {
        ad_var g = ad_transpose(ad_vjp_seed(v, 2)), right = ad_transpose(vt);
        left = add_to(left, ad_matmul(u, ad_mul(as_column(s), turning(right, g, s))));
        if (n > k) ad_vjp_give(v, 0, ad_matmul(u, ad_transpose(leaving(right, g, s))));
    }
    ad_vjp_give(v, 0, ad_matmul(left, vt));
}

/* Townsend, "Differentiating the singular value decomposition", 2016: with K = U^T dA V, dS = diag(K),
 * dU = U (F * (K S + S K^T)) and dV = V (F * (S K + K^T S)), and what leaves the space of their vectors. */
static void svd_jvp(ad_jvp *j) {
    ad_var s = ad_jvp_result(j, 0), u = ad_jvp_result(j, 1), v = ad_transpose(ad_jvp_result(j, 2));
    ad_var a_dot = ad_jvp_tangent(j, 0), av = ad_matmul(a_dot, v), k = ad_matmul(ad_transpose(u), av);
    ad_var kt = ad_transpose(k), f = differences(ad_mul(s, s)), columns = as_row(s), rows = as_column(s);
    ad_shape shape = ad_value(a_dot).shape;
    if (shape.rank < 2) return; /* there was an error */
    if (ad_jvp_wants(j, 0)) ad_jvp_give(j, 0, ad_diagonal(k, 0, -2, -1));
    if (ad_jvp_wants(j, 1)) {
        ad_var turn = ad_divide_where_not_0(ad_add(ad_mul(k, columns), ad_mul(rows, kt)), f);
        ad_jvp_give(j, 1, ad_matmul(u, turn));
        if (rows_of(shape) > columns_of(shape)) ad_jvp_give(j, 1, leaving(u, av, s));
    }
    if (ad_jvp_wants(j, 2)) {
        ad_var turn = ad_divide_where_not_0(ad_add(ad_mul(rows, k), ad_mul(kt, columns)), f);
        ad_jvp_give(j, 2, ad_transpose(ad_matmul(v, turn)));
        if (rows_of(shape) < columns_of(shape))
            ad_jvp_give(j, 2, ad_transpose(leaving(v, ad_matmul(ad_transpose(a_dot), u), s)));
    }
}

static bool svd_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(4, 3), AD_SHAPE(2, 3, 3), AD_SHAPE(2, 4),    AD_SHAPE(1, 1),
                               AD_SHAPE(0, 2), AD_SHAPE(3, 0),    AD_SHAPE(0, 3, 2), AD_SHAPE(1, 3)};
    if (k >= (int)(sizeof shapes / sizeof *shapes) || !ad_sample_normal(sample, shapes[k])) return false;
    ad_sample_add_diagonal(sample, 4, 5);
    return true;
}

const ad_op ad_op_svd = {
    .name = "svd",
    .inputs = 1,
    .results = 3,
    .saves = AD_SAVES_RESULT(0) | AD_SAVES_RESULT(1) | AD_SAVES_RESULT(2),
    .shape = svd_shape,
    .forward = svd_forward,
    .vjp = svd_vjp,
    .jvp = svd_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = s of $0 = U diag(s) V^T, descending",
    .result_formula = {"$y1 = U", "$y2 = V^T"},
    .adjoint = {"~0 += $y1 (E($y1^T ~y1) diag($y) + diag($y) E($y2 ~y2^T) + diag(~y)) $y2 + what leaves their spans, "
                "over $y; "
                "E(x) = F * x + (F * x)^T, F[i,j] = 1 / ($y[j]^2 - $y[i]^2)"},
    .convention =
        "vectors of equal singular values, or (not square) of 0, have no derivative: those terms are taken as 0",
    .sample = svd_sample,
};

ad_var ad_svd_at(const char *where, ad_var a, ad_var *u, ad_var *vt) {
    ad_var results[3];
    ad_apply_at(where, a.tape, &ad_op_svd, 1, &a, NULL, results);
    if (u) *u = results[1];
    if (vt) *vt = results[2];
    return results[0];
}
