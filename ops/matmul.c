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
    folded[1] = ad_last_matrix(b);
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
    folded[2] = ad_last_matrix(c);
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

/* The same in ops: 1-d operands become matrices, and the stack is summed back. */
static ad_var as_matrix(ad_var x, ad_shape shape, bool left) {
    if (shape.rank > 1) return x;
    return ad_reshape(x, left ? AD_SHAPE(1, shape.dim[0]) : AD_SHAPE(shape.dim[0], 1));
}

static void give_summed(ad_vjp *v, int i, ad_var product) {
    ad_shape shape = ad_vjp_input_shape(v, i), full = shape;
    if (shape.rank > 1) {
        ad_give_matrix(v, i, product);
        return;
    }
    full = i == 0 ? AD_SHAPE(1, shape.dim[0]) : AD_SHAPE(shape.dim[0], 1);
    ad_vjp_give(v, i, ad_reshape(ad_sum_to(product, full), shape));
}

static void matmul_vjp(ad_vjp *v) {
    ad_shape a_shape = ad_vjp_input_shape(v, 0), b_shape = ad_vjp_input_shape(v, 1);
    ad_shape full = ad_vjp_result_shape(v, 0);
    const int rank = full.rank;
    if (b_shape.rank == 1) full.dim[full.rank++] = 1;
    if (a_shape.rank == 1) {
        full.dim[full.rank] = full.rank ? full.dim[full.rank - 1] : 1;
        full.dim[full.rank++ - 1] = 1;
    }
    ad_var g = full.rank > rank ? ad_reshape(ad_vjp_seed(v, 0), full) : ad_vjp_seed(v, 0);
    if (ad_vjp_wants(v, 0)) {
        ad_var b = as_matrix(ad_vjp_input(v, 1), b_shape, false);
        give_summed(v, 0, ad_matmul_sum(AD_VARS(g, b), AD_RIGHT_TRANSPOSED));
    }
    if (ad_vjp_wants(v, 1)) {
        ad_var a = as_matrix(ad_vjp_input(v, 0), a_shape, true);
        give_summed(v, 1, ad_matmul_sum(AD_VARS(a, g), AD_LEFT_TRANSPOSED));
    }
}

static void matmul_jvp(ad_jvp *j) {
    ad_var a = ad_jvp_input(j, 0), b = ad_jvp_input(j, 1);
    bool are_matrices = ad_value(a).shape.rank > 1 && ad_value(b).shape.rank > 1;
    if (are_matrices && ad_jvp_moves(j, 0) && ad_jvp_moves(j, 1)) {
        ad_jvp_give(j, 0, ad_matmul_sum(AD_VARS(ad_jvp_tangent(j, 0), b, a, ad_jvp_tangent(j, 1)), 0));
        return;
    }
    if (ad_jvp_moves(j, 0)) ad_jvp_give(j, 0, ad_matmul(ad_jvp_tangent(j, 0), b));
    if (ad_jvp_moves(j, 1)) ad_jvp_give(j, 0, ad_matmul(a, ad_jvp_tangent(j, 1)));
}

/* With an axis in front, a vector on the left is what it was, a matrix of one row; one on the right is not a column. */
static bool matmul_batches(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    const int a = call->in[0]->shape.rank, b = call->in[1]->shape.rank;
    (void)adjoint, (void)seeds, (void)attrs;
    return a > 1 ? b > 1 : b == 2;
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

/* Row i of A, column j of B: c[i, j] depends on all of both, which are inputs `at` and the next. */
static void depends_on_product(ad_dependence *d, ad_view y, int at, unsigned flags) {
    ad_view a, b;
    if (ad_dependence_input(d, at, &a)) {
        a = left_matrix(&a);
        if (flags & AD_LEFT_TRANSPOSED) a = ad_swap_last(&a);
        a = ad_stretch_stack(&a, &y.shape, y.shape.rank);
        ad_depend(d, &y, &a, y.shape.rank - 1);
    }
    if (ad_dependence_input(d, at + 1, &b)) {
        b = right_matrix(&b);
        if (flags & AD_RIGHT_TRANSPOSED) b = ad_swap_last(&b);
        b = ad_stretch_stack(&b, &y.shape, y.shape.rank);
        ad_view columns = ad_swap_last(&b), y_columns = ad_swap_last(&y);
        ad_depend(d, &y_columns, &columns, y.shape.rank - 1);
    }
}

static void matmul_depends(ad_dependence *d) {
    ad_view y;
    if (ad_dependence_result(d, 0, &y)) depends_on_product(d, full_result(ad_dependence_call(d), &y), 0, 0);
}

const ad_op ad_op_matmul = {
    .name = "matmul",
    .inputs = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = matmul_shape,
    .forward = matmul_forward,
    .vjp = matmul_vjp,
    .backward = matmul_backward,
    .batches = matmul_batches,
    .jvp = matmul_jvp,
    .depends = matmul_depends,
    .formula = "$y = $0 $1",
    .adjoint = {"~0 += ~y $1^T", "~1 += $0^T ~y"},
    .sample = matmul_sample,
};

ad_var ad_matmul_at(const char *where, ad_var a, ad_var b) { return ad_apply_2(where, &ad_op_matmul, a, b, NULL); }

/* ---- matmul_sum: what derivatives of products are made of ----------------------------------------------------------- */

typedef struct sum_attrs {
    unsigned flags; /* AD_LEFT_TRANSPOSED, AD_RIGHT_TRANSPOSED */
} sum_attrs;

static unsigned flags_of(const void *attrs) { return ((const sum_attrs *)attrs)->flags; }

/* The left or right operand of a pair as it is multiplied. */
static ad_view operand(const ad_call *call, const ad_view *x, bool left) {
    const unsigned flag = left ? AD_LEFT_TRANSPOSED : AD_RIGHT_TRANSPOSED;
    return flags_of(call->attrs) & flag ? ad_swap_last(x) : *x;
}

static bool has_addend(const ad_call *call) { return call->inputs % 2; }

/* Every pair has the shapes of the first. */
static ad_status check_pairs(ad_call *call) {
    ad_status status = AD_OK;
    for (int i = 0; i < call->inputs && !status; i++) {
        status = i < call->inputs - has_addend(call) ? ad_need_matrix(call, i) : ad_need_float(call, i);
        if (!status) status = ad_need_same_dtype(call, 0, i);
    }
    for (int i = 2; i < call->inputs - has_addend(call) && !status; i++)
        if (!ad_shape_equal(&call->in[i]->shape, &call->in[i % 2]->shape))
            status = ad_fail(call, AD_ERR_SHAPE, "the pairs differ in shape: %s, %s", ad_describe(call, i % 2),
                             ad_describe(call, i));
    return status;
}

static ad_status matmul_sum_shape(ad_call *call) {
    if (flags_of(call->attrs) & ~(unsigned)(AD_LEFT_TRANSPOSED | AD_RIGHT_TRANSPOSED))
        return ad_fail(call, AD_ERR_VALUE,
                       "flags are %u, which is not made of AD_LEFT_TRANSPOSED and "
                       "AD_RIGHT_TRANSPOSED",
                       flags_of(call->attrs));
    if (call->inputs < 2) return ad_fail(call, AD_ERR_VALUE, "%d inputs, but it multiplies pairs", call->inputs);
    ad_status status = check_pairs(call);
    if (status) return status;
    ad_view a = operand(call, call->in[0], true), b = operand(call, call->in[1], false);
    const int64_t m = a.shape.dim[a.shape.rank - 2], n = b.shape.dim[b.shape.rank - 1];
    if (a.shape.dim[a.shape.rank - 1] != b.shape.dim[b.shape.rank - 2])
        return ad_fail(call, AD_ERR_SHAPE, "inner dimensions differ: %s, %s (%lld != %lld)", ad_describe(call, 0),
                       ad_describe(call, 1), (long long)a.shape.dim[a.shape.rank - 1],
                       (long long)b.shape.dim[b.shape.rank - 2]);
    ad_shape shape, common;
    a.shape.rank -= 2;
    b.shape.rank -= 2;
    if (ad_shape_broadcast(&a.shape, &b.shape, &shape))
        return ad_fail(call, AD_ERR_SHAPE, "the leading dimensions do not broadcast: %s, %s", ad_describe(call, 0),
                       ad_describe(call, 1));
    shape.dim[shape.rank++] = m;
    shape.dim[shape.rank++] = n;
    const int last = call->inputs - 1;
    if (has_addend(call) &&
        (ad_shape_broadcast(&call->in[last]->shape, &shape, &common) || !ad_shape_equal(&common, &shape))) {
        char text[AD_TYPE_TEXT];
        return ad_fail(call, AD_ERR_SHAPE, "%s, but what is added must broadcast to the products, %s",
                       ad_describe(call, last), ad_type_text(call->in[0]->dtype, &shape, text));
    }
    ad_set_out(call, 0, call->in[0]->dtype, shape);
    return AD_OK;
}

static ad_status matmul_sum_forward(ad_call *call) {
    const ad_view *y = &call->out[0];
    if (has_addend(call)) {
        ad_view addend = ad_stretched(call->in[call->inputs - 1], &y->shape);
        ad_kernels_get()->copy(&addend, y, 1, false);
    }
    for (int i = 0; i + 1 < call->inputs; i += 2) {
        ad_view a = operand(call, call->in[i], true), b = operand(call, call->in[i + 1], false);
        a = ad_stretch_stack(&a, &y->shape, y->shape.rank);
        b = ad_stretch_stack(&b, &y->shape, y->shape.rank);
        multiply(call, &a, &b, y, has_addend(call) || i > 0);
    }
    return AD_OK;
}

static ad_status matmul_sum_backward(ad_call *call, ad_adjoint *adjoint) {
    const ad_view *g = &adjoint->seed[0];
    for (int i = 0; i + has_addend(call) < call->inputs; i++) {
        const bool left = i % 2 == 0;
        bool add;
        const ad_view *into = ad_into(adjoint, i, &add);
        if (!into) continue;
        ad_view other = operand(call, call->in[left ? i + 1 : i - 1], !left), bar = operand(call, into, left);
        other = ad_swap_last(&other);
        other = ad_stretch_stack(&other, &g->shape, g->shape.rank);
        bar = ad_stretch_stack(&bar, &g->shape, g->shape.rank);
        clear_if_empty(g, into, add);
        multiply(call, left ? g : &other, left ? &other : g, &bar, add);
    }
    if (has_addend(call)) ad_pass(adjoint, call->inputs - 1, 0, g);
    return AD_OK;
}

/* What operand i gets of y = A B is g B^T or A^T g, and if it was transposed itself the transpose of that, B g^T or g^T A. */
static void matmul_sum_vjp(ad_vjp *v) {
    const unsigned flags = flags_of(ad_vjp_attrs(v));
    const int inputs = ad_vjp_inputs(v);
    ad_var g = ad_vjp_seed(v, 0);
    for (int i = 0; i < inputs - inputs % 2; i++) {
        if (!ad_vjp_wants(v, i)) continue;
        const bool left = i % 2 == 0;
        const bool self = flags & (left ? AD_LEFT_TRANSPOSED : AD_RIGHT_TRANSPOSED);
        const bool other = flags & (left ? AD_RIGHT_TRANSPOSED : AD_LEFT_TRANSPOSED);
        ad_var pair[2];
        const bool g_first = left != self;
        pair[g_first ? 0 : 1] = g;
        pair[g_first ? 1 : 0] = ad_vjp_input(v, left ? i + 1 : i - 1);
        const unsigned g_flag = self ? (g_first ? AD_LEFT_TRANSPOSED : AD_RIGHT_TRANSPOSED) : 0;
        const unsigned other_flag = other == self ? (g_first ? AD_RIGHT_TRANSPOSED : AD_LEFT_TRANSPOSED) : 0;
        ad_vjp_give(v, i, ad_matmul_sum(2, pair, g_flag | other_flag));
    }
    if (inputs % 2) ad_vjp_give(v, inputs - 1, g);
}

/* The pairs in which something moves, each of them once for each operand that does. */
static void matmul_sum_jvp(ad_jvp *j) {
    const int inputs = ad_jvp_inputs(j), pairs = inputs - inputs % 2;
    const bool addend_moves = inputs % 2 && ad_jvp_moves(j, inputs - 1);
    ad_var *in = ad_scratch(j->call, ((size_t)inputs * 2 + 1) * sizeof *in);
    int n = 0;
    for (int i = 0; i < pairs && in; i++) {
        if (!ad_jvp_moves(j, i)) continue;
        in[n++] = i % 2 ? ad_jvp_input(j, i - 1) : ad_jvp_tangent(j, i);
        in[n++] = i % 2 ? ad_jvp_tangent(j, i) : ad_jvp_input(j, i + 1);
    }
    if (n > 0 && addend_moves) in[n++] = ad_jvp_tangent(j, inputs - 1);
    if (n > 0) {
        ad_jvp_give(j, 0, ad_matmul_sum(n, in, flags_of(ad_jvp_attrs(j))));
    } else if (addend_moves) {
        ad_jvp_give(j, 0, ad_broadcast_to(ad_jvp_tangent(j, inputs - 1), ad_value(ad_jvp_result(j, 0)).shape));
    }
}

static void matmul_sum_depends(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    ad_view y, addend;
    if (!ad_dependence_result(d, 0, &y)) return;
    for (int i = 0; i + 1 < call->inputs; i += 2) depends_on_product(d, y, i, flags_of(call->attrs));
    if (has_addend(call) && ad_dependence_input(d, call->inputs - 1, &addend)) {
        addend = ad_stretched(&addend, &y.shape);
        ad_depend(d, &y, &addend, y.shape.rank);
    }
}

static void show_sum(const void *attrs, char *text, size_t size) {
    static const char *const names[] = {"as they are", "left transposed", "right transposed", "both transposed"};
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%s", names[flags_of(attrs) & 3]);
}

static bool matmul_sum_sample(ad_sample *sample, int k) {
    const struct {
        ad_shape a, b, addend;
        int pairs;
        unsigned flags;
        bool adds;
    } cases[] = {
        {AD_SHAPE(3, 4), AD_SHAPE(4, 2), AD_SCALAR, 2, 0, false},
        {AD_SHAPE(4, 3), AD_SHAPE(4, 2), AD_SHAPE(2), 1, AD_LEFT_TRANSPOSED, true},
        {AD_SHAPE(2, 3, 4), AD_SHAPE(2, 4), AD_SHAPE(3, 1), 2, AD_RIGHT_TRANSPOSED, true},
        {AD_SHAPE(4, 3), AD_SHAPE(2, 2, 4), AD_SHAPE(2, 3, 2), 1, AD_LEFT_TRANSPOSED | AD_RIGHT_TRANSPOSED, true},
        {AD_SHAPE(2, 1, 2, 3), AD_SHAPE(2, 3, 1), AD_SCALAR, 1, 0, true},
        {AD_SHAPE(3, 0), AD_SHAPE(0, 2), AD_SCALAR, 1, 0, false},
        {AD_SHAPE(0, 2, 3), AD_SHAPE(3, 2), AD_SHAPE(2), 1, 0, true},
        {AD_SHAPE(1, 1), AD_SHAPE(1, 1), AD_SCALAR, 3, 0, false},
    };
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *(unsigned *)(void *)sample->attrs.bytes = cases[k].flags;
    for (int i = 0; i < cases[k].pairs; i++)
        if (!ad_sample_normal(sample, cases[k].a) || !ad_sample_normal(sample, cases[k].b)) return false;
    return !cases[k].adds || ad_sample_normal(sample, cases[k].addend);
}

const ad_op ad_op_matmul_sum = {
    .name = "matmul_sum",
    .inputs = -1,
    .attrs_size = sizeof(sum_attrs),
    .attrs = AD_ATTRS(AD_ATTR_BIT_OF("left_transposed", sum_attrs, flags, AD_LEFT_TRANSPOSED),
                      AD_ATTR_BIT_OF("right_transposed", sum_attrs, flags, AD_RIGHT_TRANSPOSED)),
    .broadcasts = true,
    .saves = AD_SAVES_INPUTS,
    .shape = matmul_sum_shape,
    .forward = matmul_sum_forward,
    .vjp = matmul_sum_vjp,
    .backward = matmul_sum_backward,
    .batches = ad_batches_always,
    .jvp = matmul_sum_jvp,
    .depends = matmul_sum_depends,
    .formula = "$y = $0 $1 + ..., $a",
    .adjoint = {"~0 += ~y $1^T", "~1 += $0^T ~y", "the same, pair by pair; what is added gets ~y"},
    .show_attrs = show_sum,
    .sample = matmul_sum_sample,
};

ad_var ad_matmul_sum_at(const char *where, int n, const ad_var *x, unsigned flags) {
    sum_attrs attrs = {.flags = flags};
    return ad_apply_at(where, n > 0 && x ? x[0].tape : NULL, &ad_op_matmul_sum, n, x, &attrs, NULL);
}
