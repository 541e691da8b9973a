/* Triangular matrices: triangular_solve, and the Cholesky factorisation. */
#include "ops/linalg.h"

typedef struct triangle_attrs {
    unsigned flags; /* AD_UPPER, AD_TRANSPOSED, AD_UNIT_DIAGONAL */
} triangle_attrs;

static unsigned flags_of(const void *attrs) { return ((const triangle_attrs *)attrs)->flags; }

/* ---- triangular_solve -------------------------------------------------------------------------------------------- */

static ad_status triangular_solve_shape(ad_call *call) {
    unsigned flags = flags_of(call->attrs);
    if ((flags & ~(unsigned)(AD_UPPER | AD_TRANSPOSED | AD_UNIT_DIAGONAL)) == 0) return ad_shape_of_solution(call);
    return ad_fail(call, AD_ERR_VALUE,
                   "flags are %u, which is not made of AD_LOWER, AD_UPPER, AD_TRANSPOSED and AD_UNIT_DIAGONAL",
                   flags);
}

static ad_status check_diagonals(ad_call *call) {
    ad_status status = AD_OK;
    for (ad_stack s = ad_stack_start(1, call->in); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number, ad_kernel_diagonal(&s.matrix[0]),
                                 "cannot be divided by on its diagonal", "");
    return status;
}

/* Forward from the first row with a lower triangle, backward from the last row with an upper one. */
static ad_pivot solve_one(const ad_matrix *a, unsigned flags, const ad_matrix *x, ad_arena *scratch) {
    ad_matrix t = flags & AD_TRANSPOSED ? ad_matrix_transposed(a) : *a, rows = *x;
    bool is_upper = !(flags & AD_UPPER) != !(flags & AD_TRANSPOSED);
    if (is_upper) {
        t = ad_matrix_reversed(&t);
        rows = ad_matrix_part(x, x->rows ? x->rows - 1 : 0, 0, x->rows, x->columns);
        rows.rs = -x->rs;
    }
    return ad_kernel_solve_lower(&t, flags & AD_UNIT_DIAGONAL, &rows, scratch);
}

static ad_status triangular_solve_forward(ad_call *call) {
    unsigned flags = flags_of(call->attrs);
    ad_status status = flags & AD_UNIT_DIAGONAL ? AD_OK : check_diagonals(call);
    if (status) return status;
    ad_view b = ad_stretched(call->in[1], &call->out[0].shape), x = call->out[0];
    ad_kernels_get()->copy(&b, &call->out[0], 1, false);
    if (call->in[1]->shape.rank == 1) x = ad_insert_axis(&x, x.shape.rank);
    ad_view a = ad_stretch_stack(call->in[0], &x.shape, x.shape.rank);
    x.stride[x.shape.rank - 1] = 1;
    const ad_view *views[] = {&a, &x};
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 solve_one(&s.matrix[0], flags, &s.matrix[1], ad_scratch_arena(call)), "", "");
    return status;
}

/* The part of x that is read of a matrix with these flags. */
static ad_var part_read(ad_var x, unsigned flags) {
    int64_t k = flags & AD_UNIT_DIAGONAL ? 1 : 0;
    return flags & AD_UPPER ? ad_triu(x, k) : ad_tril(x, -k);
}

/* For op(A) = A^T, A^T X = B, the roles of the two factors of A's gradient are exchanged. */
static void triangular_solve_vjp(ad_vjp *v) {
    unsigned flags = flags_of(ad_vjp_attrs(v));
    bool is_vector = ad_vjp_input_shape(v, 1).rank == 1;
    ad_var g = ad_as_columns(ad_vjp_seed(v, 0), is_vector);
    ad_var b_bar = ad_triangular_solve(ad_vjp_input(v, 0), g, flags ^ AD_TRANSPOSED);
    ad_give_matrix(v, 1, b_bar);
    if (!ad_vjp_wants(v, 0)) return;
    ad_var x = ad_as_columns(ad_vjp_result(v, 0), is_vector);
    int rank = ad_vjp_input_shape(v, 0).rank;
    ad_var full = flags & AD_TRANSPOSED ? ad_outer_of_columns(x, b_bar, rank) : ad_outer_of_columns(b_bar, x, rank);
    ad_give_matrix(v, 0, ad_neg(part_read(full, flags)));
}

static void triangular_solve_jvp(ad_jvp *j) {
    unsigned flags = flags_of(ad_jvp_attrs(j));
    ad_var a = ad_jvp_input(j, 0);
    bool is_vector = ad_value(ad_jvp_input(j, 1)).shape.rank == 1;
    if (ad_jvp_moves(j, 1)) {
        ad_var b_dot = ad_as_columns(ad_jvp_tangent(j, 1), is_vector);
        ad_jvp_give(j, 0, ad_as_vector(ad_triangular_solve(a, b_dot, flags), is_vector));
    }
    if (!ad_jvp_moves(j, 0)) return;
    ad_var x = ad_as_columns(ad_jvp_result(j, 0), is_vector);
    ad_var a_dot = part_read(ad_jvp_tangent(j, 0), flags);
    ad_var moved = ad_matmul(flags & AD_TRANSPOSED ? ad_transpose(a_dot) : a_dot, x);
    ad_jvp_give(j, 0, ad_as_vector(ad_neg(ad_triangular_solve(a, moved, flags)), is_vector));
}

static void show_flags(const void *attrs, char *text, size_t size) {
    unsigned flags = flags_of(attrs);
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%s%s%s", flags & AD_UPPER ? "upper" : "lower",
                flags & AD_TRANSPOSED ? ", transposed" : "", flags & AD_UNIT_DIAGONAL ? ", unit diagonal" : "");
}

static bool triangular_solve_sample(ad_sample *sample, int k) {
    const ad_shape cases[][2] = {
        {AD_SHAPE(3, 3), AD_SHAPE(3, 2)},          {AD_SHAPE(3, 3), AD_SHAPE(3)},
        {AD_SHAPE(2, 3, 3), AD_SHAPE(3, 2)},       {AD_SHAPE(3, 3), AD_SHAPE(2, 3, 2)},
        {AD_SHAPE(2, 1, 2, 2), AD_SHAPE(3, 2, 1)}, {AD_SHAPE(2, 3, 3), AD_SHAPE(3)},
        {AD_SHAPE(1, 1), AD_SHAPE(1, 1)},          {AD_SHAPE(0, 0), AD_SHAPE(0, 2)},
        {AD_SHAPE(3, 3), AD_SHAPE(3, 0)},          {AD_SHAPE(0, 2, 2), AD_SHAPE(0, 2, 3)},
        {AD_SHAPE(3, 3), AD_SHAPE(3, 3)},
    };
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *(unsigned *)(void *)sample->attrs.bytes = (unsigned)k % 8;
    if (!ad_sample_normal(sample, cases[k][0])) return false;
    ad_sample_add_diagonal(sample, 3, 0);
    return ad_sample_normal(sample, cases[k][1]);
}

const ad_op ad_op_triangular_solve = {
    .name = "triangular_solve",
    .inputs = 2,
    .attrs_size = sizeof(triangle_attrs),
    .attrs = AD_ATTRS(AD_ATTR_BIT_OF("upper", triangle_attrs, flags, AD_UPPER),
                      AD_ATTR_BIT_OF("transposed", triangle_attrs, flags, AD_TRANSPOSED),
                      AD_ATTR_BIT_OF("unit_diagonal", triangle_attrs, flags, AD_UNIT_DIAGONAL)),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .shape = triangular_solve_shape,
    .forward = triangular_solve_forward,
    .vjp = triangular_solve_vjp,
    .jvp = triangular_solve_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y = $0^-1 $1, $0 $a",
    .adjoint = {"~0 -= triangle of ~1 $y^T", "~1 += $0^-T ~y"},
    .convention = "0 on the diagonal of $0: an error",
    .show_attrs = show_flags,
    .sample = triangular_solve_sample,
};

ad_var ad_triangular_solve_at(const char *where, ad_var a, ad_var b, unsigned flags) {
    triangle_attrs attrs = {.flags = flags};
    return ad_apply_2(where, &ad_op_triangular_solve, a, b, &attrs);
}

/* ---- cholesky ---------------------------------------------------------------------------------------------------- */

static ad_status cholesky_forward(ad_call *call) {
    const ad_view *views[] = {call->in[0], &call->out[0]};
    ad_status status = AD_OK;
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s))
        status = ad_pivot_status(call, 0, s.number,
                                 ad_kernel_cholesky(&s.matrix[0], &s.matrix[1], ad_scratch_arena(call)),
                                 "is not positive definite",
                                 "; if it should be, add a small multiple of the identity");
    return status;
}

/* Phi of Murray 2016: the lower triangle with half the diagonal. */
static ad_var phi(ad_var x) { return ad_scale(ad_add(ad_tril(x, 0), ad_tril(x, -1)), 0.5); }

/* l^-T x l^-1 */
static ad_var between_inverses(ad_var l, ad_var x) {
    ad_var left = ad_triangular_solve(l, x, AD_LOWER | AD_TRANSPOSED);
    return ad_transpose(ad_triangular_solve(l, ad_transpose(left), AD_LOWER | AD_TRANSPOSED));
}

static void cholesky_vjp(ad_vjp *v) {
    ad_var l = ad_vjp_result(v, 0);
    ad_var p = phi(ad_matmul(ad_transpose(l), ad_vjp_seed(v, 0)));
    ad_vjp_give(v, 0, ad_symmetric_part(between_inverses(l, p)));
}

static void cholesky_jvp(ad_jvp *j) {
    ad_var l = ad_jvp_result(j, 0), a_dot = ad_symmetric_part(ad_jvp_tangent(j, 0));
    ad_var left = ad_triangular_solve(l, a_dot, AD_LOWER),
           both = ad_triangular_solve(l, ad_transpose(left), AD_LOWER);
    ad_jvp_give(j, 0, ad_matmul(l, phi(both)));
}

static bool cholesky_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3), AD_SHAPE(2, 3, 3), AD_SHAPE(1, 1),
                               AD_SHAPE(0, 0), AD_SHAPE(0, 2, 2), AD_SHAPE(5, 5)};
    if (k >= (int)(sizeof shapes / sizeof *shapes) || !ad_sample_normal(sample, shapes[k])) return false;
    ad_sample_add_diagonal(sample, 8, 1);
    return true;
}

const ad_op ad_op_cholesky = {
    .name = "cholesky",
    .inputs = 1,
    .saves = AD_SAVES_RESULT(0),
    .shape = ad_shape_like_square_input,
    .forward = cholesky_forward,
    .vjp = cholesky_vjp,
    .jvp = cholesky_jvp,
    .depends = ad_depends_stacked,
    .formula = "$y $y^T = ($0 + $0^T) / 2",
    .adjoint = {"~0 += sym($y^-T phi($y^T ~y) $y^-1), phi: lower triangle, half the diagonal"},
    .convention = "not positive definite: an error",
    .sample = cholesky_sample,
};

ad_var ad_cholesky_at(const char *where, ad_var a) { return ad_apply_1(where, &ad_op_cholesky, a, NULL); }

/* A vector becomes a column on the way: with a stack of factors, the first solution is a stack of vectors. */
ad_var ad_cholesky_solve_at(const char *where, ad_var l, ad_var b) {
    ad_tape *tape = l.tape ? l.tape : b.tape;
    if (!tape || !ad_tape_check_var(tape, b, "ad_cholesky_solve", where, "b")) return ad_var_invalid(tape);
    ad_shape shape = ad_node_shape(ad_node_at(tape, b.index));
    bool is_vector = shape.rank == 1;
    if (is_vector) b = ad_reshape_at(where, b, AD_SHAPE(shape.dim[0], 1));
    ad_var half = ad_triangular_solve_at(where, l, b, AD_LOWER);
    ad_var x = ad_triangular_solve_at(where, l, half, AD_LOWER | AD_TRANSPOSED);
    if (!is_vector || tape->error.status) return x;
    shape = ad_node_shape(ad_node_at(tape, x.index));
    shape.rank--;
    return ad_reshape_at(where, x, shape);
}
