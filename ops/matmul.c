/* matmul: NumPy's matrix product of two arrays of any rank from 1 on.
 *
 * Inside, every operand is a stack of matrices: [batch..., rows, columns]. A 1-d operand is one row (left) or one
 * column (right). Stacks broadcast; where they do, the gradient of the smaller one sums over the stack. */
#include "ops/linalg.h"

/* ---- stacks of matrices ---------------------------------------------------------------------------------------- */

static ad_view left_matrix(const ad_view *a) { return a->shape.rank == 1 ? ad_insert_axis(a, 0) : *a; }
static ad_view right_matrix(const ad_view *b) { return b->shape.rank == 1 ? ad_insert_axis(b, 1) : *b; }

/* The result (or its cotangent) with the axes of 1-d operands put back. */
static ad_view full_result(const ad_call *call, const ad_view *y) {
    ad_view full = *y;
    if (call->in[1]->shape.rank == 1) full = ad_insert_axis(&full, full.shape.rank);
    if (call->in[0]->shape.rank == 1) full = ad_insert_axis(&full, full.shape.rank - 1);
    return full;
}

static bool stack_is_broadcast(const ad_view *view) {
    for (int i = 0; i < view->shape.rank - 2; i++)
        if (view->stride[i] != 0 && view->shape.dim[i] != 1) return false;
    return true;
}

/* ---- the product ------------------------------------------------------------------------------------------------ */

/* A stack times one matrix: the rows of the whole stack are one tall matrix, if memory allows to see them so. */
static bool fold_rows(const ad_view *a, const ad_view *b, const ad_view *c, ad_view folded[3]) {
    int rank = a->shape.rank;
    if (!stack_is_broadcast(b)) return false;
    int64_t rows = 1;
    for (int i = 0; i < rank - 1; i++) rows *= a->shape.dim[i];
    ad_shape a_shape = AD_SHAPE(rows, a->shape.dim[rank - 1]), c_shape = AD_SHAPE(rows, c->shape.dim[rank - 1]);
    if (ad_view_reshape(a, &a_shape, &folded[0]) || ad_view_reshape(c, &c_shape, &folded[2])) return false;
    if (folded[2].stride[0] == 0 && rows > 1) return false; /* they are to be summed */
    folded[1] = ad_view_of(b->data, b->dtype, AD_SHAPE(b->shape.dim[rank - 2], b->shape.dim[rank - 1]));
    folded[1].stride[0] = b->stride[rank - 2];
    folded[1].stride[1] = b->stride[rank - 1];
    return true;
}

/* One matrix that sums over the stack: the stack joins the axis that is summed over. */
static bool fold_sum(const ad_view *a, const ad_view *b, const ad_view *c, ad_view folded[3]) {
    int rank = a->shape.rank;
    if (!stack_is_broadcast(c)) return false;
    ad_view at = ad_swap_last(a); /* [batch..., k, m] */
    int64_t rows = 1;
    for (int i = 0; i < rank - 1; i++) rows *= b->shape.dim[i];
    ad_shape a_shape = AD_SHAPE(rows, at.shape.dim[rank - 1]), b_shape = AD_SHAPE(rows, b->shape.dim[rank - 1]);
    if (ad_view_reshape(&at, &a_shape, &folded[0]) || ad_view_reshape(b, &b_shape, &folded[1])) return false;
    folded[0] = ad_swap_last(&folded[0]);
    folded[2] = ad_view_of(c->data, c->dtype, AD_SHAPE(c->shape.dim[rank - 2], c->shape.dim[rank - 1]));
    folded[2].stride[0] = c->stride[rank - 2];
    folded[2].stride[1] = c->stride[rank - 1];
    return true;
}

/* A stack of products, one matrix after another. */
typedef struct stack_product {
    const ad_view *a, *b, *c;
    ad_gemm first; /* of the first matrices */
    char *scratch;
    size_t bytes; /* of it, of one thread */
} stack_product;

/* Matrix `number` of a view, which is the first where its stack does not step. */
static void *matrix_data(const ad_view *view, int64_t number) {
    int64_t offset = 0;
    for (int i = view->shape.rank - 3; i >= 0; i--) {
        offset += number % view->shape.dim[i] * view->stride[i];
        number /= view->shape.dim[i];
    }
    return (char *)view->data + offset * (int64_t)ad_dtype_size(view->dtype);
}

/* Whether matrix `number` of the stack is the first that goes to its place in c. */
static bool is_first(const ad_view *c, int64_t number) {
    for (int i = c->shape.rank - 3; i >= 0; number /= c->shape.dim[i--])
        if (c->stride[i] == 0 && number % c->shape.dim[i] != 0) return false;
    return true;
}

static void multiply_some(const void *context, int64_t from, int64_t to, int worker) {
    const stack_product *p = context;
    for (int64_t i = from; i < to; i++) {
        ad_gemm g = p->first;
        g.a = matrix_data(p->a, i), g.b = matrix_data(p->b, i), g.c = matrix_data(p->c, i);
        g.add = g.add || !is_first(p->c, i);
        ad_kernels_get()->gemm(&g, p->scratch + (size_t)worker * p->bytes);
    }
}

/* Threads share the stack or, if there are few matrices or some are summed, each product. */
static void multiply_stack(ad_call *call, const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    stack_product p = {.a = a, .b = b, .c = c, .first = ad_matrix_product(a, b, c, add)};
    int64_t matrices = 1;
    bool sums = false;
    for (int i = 0; i < c->shape.rank - 2; i++) {
        matrices *= c->shape.dim[i];
        sums = sums || (c->stride[i] == 0 && c->shape.dim[i] > 1);
    }
    if (matrices == 0 || p.first.m == 0 || p.first.n == 0) return;
    const int64_t grains = (int64_t)((double)ad_gemm_work(&p.first) * (double)matrices / AD_GEMM_GRAIN);
    int threads = ad_parallel_workers(grains, 1);
    if (sums || matrices < 2 * threads) {
        p.first.threads = ad_gemm_threads(&p.first);
        threads = 1;
    }
    p.bytes = (ad_kernels_get()->gemm_scratch(&p.first) + 63) / 64 * 64;
    p.scratch = ad_scratch(call, p.bytes * (size_t)threads);
    if (p.scratch) ad_parallel(threads, matrices, grains, multiply_some, &p); /* else the tape has the error */
}

/* c (+)= a b, for stacks of one shape; where c's stack is broadcast, the products are summed. */
static void multiply(ad_call *call, const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    ad_view folded[3];
    if (a->shape.rank == 2) {
        ad_multiply_matrices(call, a, b, c, add);
    } else if (fold_rows(a, b, c, folded) || fold_sum(a, b, c, folded)) {
        ad_multiply_matrices(call, &folded[0], &folded[1], &folded[2], add);
    } else {
        multiply_stack(call, a, b, c, add);
    }
}

/* ---- the op -------------------------------------------------------------------------------------------------------- */

static ad_status inner_dimensions_differ(ad_call *call, const ad_view *a, const ad_view *b) {
    int64_t k = a->shape.dim[a->shape.rank - 1], rows = b->shape.dim[b->shape.rank - 2];
    int64_t columns = b->shape.dim[b->shape.rank - 1];
    const char *hint = "";
    if (call->in[0]->shape.rank > 1 && a->shape.dim[a->shape.rank - 2] == rows)
        hint = ad_input_name(call, 0);
    else if (call->in[1]->shape.rank > 1 && columns == k)
        hint = ad_input_name(call, 1);
    return ad_fail(call, AD_ERR_SHAPE, "inner dimensions differ: %s, %s (%lld != %lld)%s%s%s", ad_describe(call, 0),
                   ad_describe(call, 1), (long long)k, (long long)rows, *hint ? "; did you mean ad_transpose(" : "",
                   hint, *hint ? ")?" : "");
}

static ad_status matmul_shape(ad_call *call) {
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status) return status;
    for (int i = 0; i < 2; i++)
        if (call->in[i]->shape.rank == 0)
            return ad_fail(call, AD_ERR_SHAPE, "%s, a single number: use ad_mul", ad_describe(call, i));
    ad_view a = left_matrix(call->in[0]), b = right_matrix(call->in[1]);
    if (a.shape.dim[a.shape.rank - 1] != b.shape.dim[b.shape.rank - 2]) return inner_dimensions_differ(call, &a, &b);
    ad_shape a_stack = a.shape, b_stack = b.shape, shape;
    a_stack.rank -= 2;
    b_stack.rank -= 2;
    if (ad_shape_broadcast(&a_stack, &b_stack, &shape))
        return ad_fail(call, AD_ERR_SHAPE, "the leading dimensions do not broadcast: %s, %s", ad_describe(call, 0),
                       ad_describe(call, 1));
    if (call->in[0]->shape.rank > 1) shape.dim[shape.rank++] = a.shape.dim[a.shape.rank - 2];
    if (call->in[1]->shape.rank > 1) shape.dim[shape.rank++] = b.shape.dim[b.shape.rank - 1];
    ad_set_out(call, 0, a.dtype, shape);
    return AD_OK;
}

static ad_status matmul_forward(ad_call *call) {
    ad_view y = full_result(call, &call->out[0]);
    ad_view a = left_matrix(call->in[0]), b = right_matrix(call->in[1]);
    a = ad_stretch_stack(&a, &y.shape, y.shape.rank);
    b = ad_stretch_stack(&b, &y.shape, y.shape.rank);
    multiply(call, &a, &b, &y, false);
    return AD_OK;
}

/* With an empty stack nothing is summed, and what is to be stored is zero. */
static void clear_if_empty(const ad_view *g, const ad_view *bar, bool add) {
    if (ad_view_count(g) == 0 && !add) ad_kernels_get()->fill(bar, 0);
}

static ad_status matmul_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view g = full_result(call, &adjoint->seed[0]);
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    if (into) {
        ad_view b = right_matrix(call->in[1]), a_bar = left_matrix(into);
        b = ad_swap_last(&b);
        b = ad_stretch_stack(&b, &g.shape, g.shape.rank);
        a_bar = ad_stretch_stack(&a_bar, &g.shape, g.shape.rank);
        clear_if_empty(&g, into, add);
        multiply(call, &g, &b, &a_bar, add);
    }
    into = ad_into(adjoint, 1, &add);
    if (into) {
        ad_view a = left_matrix(call->in[0]), b_bar = right_matrix(into);
        a = ad_swap_last(&a);
        a = ad_stretch_stack(&a, &g.shape, g.shape.rank);
        b_bar = ad_stretch_stack(&b_bar, &g.shape, g.shape.rank);
        clear_if_empty(&g, into, add);
        multiply(call, &a, &g, &b_bar, add);
    }
    return AD_OK;
}

/* The same in ops: reshape 1-d operands to matrices, multiply, sum the stack back. */
static ad_var as_matrix(ad_var x, ad_shape shape, bool left) {
    if (shape.rank > 1) return x;
    return ad_reshape(x, left ? AD_SHAPE(1, shape.dim[0]) : AD_SHAPE(shape.dim[0], 1));
}

static void give_summed(ad_vjp *v, int i, ad_var product) {
    ad_shape shape = ad_vjp_input_shape(v, i), full = shape;
    if (shape.rank == 1) full = i == 0 ? AD_SHAPE(1, shape.dim[0]) : AD_SHAPE(shape.dim[0], 1);
    ad_vjp_give(v, i, ad_reshape(ad_sum_to(product, full), shape));
}

static void matmul_vjp(ad_vjp *v) {
    ad_shape a_shape = ad_vjp_input_shape(v, 0), b_shape = ad_vjp_input_shape(v, 1);
    ad_shape full = ad_vjp_result_shape(v, 0);
    if (b_shape.rank == 1) full.dim[full.rank++] = 1;
    if (a_shape.rank == 1) {
        full.dim[full.rank] = full.rank ? full.dim[full.rank - 1] : 1;
        full.dim[full.rank++ - 1] = 1;
    }
    ad_var g = ad_reshape(ad_vjp_seed(v, 0), full);
    if (ad_vjp_wants(v, 0))
        give_summed(v, 0, ad_matmul(g, ad_transpose(as_matrix(ad_vjp_input(v, 1), b_shape, false))));
    if (ad_vjp_wants(v, 1))
        give_summed(v, 1, ad_matmul(ad_transpose(as_matrix(ad_vjp_input(v, 0), a_shape, true)), g));
}

static void matmul_jvp(ad_jvp *j) {
    if (ad_jvp_moves(j, 0)) ad_jvp_give(j, 0, ad_matmul(ad_jvp_tangent(j, 0), ad_jvp_input(j, 1)));
    if (ad_jvp_moves(j, 1)) ad_jvp_give(j, 0, ad_matmul(ad_jvp_input(j, 0), ad_jvp_tangent(j, 1)));
}

static bool matmul_sample(ad_sample *sample, int k) {
    const ad_shape cases[][2] = {
        {AD_SHAPE(3, 4), AD_SHAPE(4, 5)},
        {AD_SHAPE(4), AD_SHAPE(4)},
        {AD_SHAPE(3, 4), AD_SHAPE(4)},
        {AD_SHAPE(4), AD_SHAPE(4, 5)},
        {AD_SHAPE(2, 3, 4), AD_SHAPE(4, 5)},
        {AD_SHAPE(2, 3, 4), AD_SHAPE(2, 4, 2)},
        {AD_SHAPE(3, 1, 2, 4), AD_SHAPE(2, 4, 3)},
        {AD_SHAPE(2, 4), AD_SHAPE(3, 4, 2)},
        {AD_SHAPE(2, 3, 4), AD_SHAPE(4)},
        {AD_SHAPE(4), AD_SHAPE(2, 4, 3)},
        {AD_SHAPE(3, 0), AD_SHAPE(0, 2)},
        {AD_SHAPE(1, 1), AD_SHAPE(1, 1)},
        {AD_SHAPE(0, 2, 3), AD_SHAPE(3, 2)},
    };
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    return ad_sample_normal(sample, cases[k][0]) && ad_sample_normal(sample, cases[k][1]);
}

/* Row i of A, column j of B: c[i, j] depends on all of both. */
static void matmul_depends(ad_dependence *d) {
    ad_view a, b, y;
    if (!ad_dependence_result(d, 0, &y)) return;
    y = full_result(ad_dependence_call(d), &y);
    if (ad_dependence_input(d, 0, &a)) {
        a = left_matrix(&a);
        a = ad_stretch_stack(&a, &y.shape, y.shape.rank);
        ad_depend(d, &y, &a, y.shape.rank - 1);
    }
    if (ad_dependence_input(d, 1, &b)) {
        b = right_matrix(&b);
        b = ad_stretch_stack(&b, &y.shape, y.shape.rank);
        ad_view columns = ad_swap_last(&b), y_columns = ad_swap_last(&y);
        ad_depend(d, &y_columns, &columns, y.shape.rank - 1);
    }
}

const ad_op ad_op_matmul = {
    .name = "matmul",
    .inputs = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = matmul_shape,
    .forward = matmul_forward,
    .vjp = matmul_vjp,
    .backward = matmul_backward,
    .jvp = matmul_jvp,
    .depends = matmul_depends,
    .formula = "$y = $0 $1",
    .adjoint = {"~0 += ~y $1^T", "~1 += $0^T ~y"},
    .sample = matmul_sample,
};

ad_var ad_matmul_at(const char *where, ad_var a, ad_var b) { return ad_apply_2(where, &ad_op_matmul, a, b, NULL); }
