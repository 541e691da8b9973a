/* linear: x W^T + b, a dense layer, alone and with an activation; and the products of vectors, dot and outer. */
#include "ops/linalg.h"

/* ---- linear ------------------------------------------------------------------------------------------------------ */

static ad_status linear_shape(ad_call *call) {
    const ad_shape *x = &call->in[0]->shape, *w = &call->in[1]->shape, *b = &call->in[2]->shape;
    ad_status status = ad_need_float(call, 0);
    for (int i = 1; i < 3 && !status; i++) status = ad_need_same_dtype(call, 0, i);
    if (status) return status;
    if (x->rank == 0)
        return ad_fail(call, AD_ERR_SHAPE, "%s: it needs a last axis, of features", ad_describe(call, 0));
    if (w->rank != 2)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but weights are a matrix [outputs, inputs]", ad_describe(call, 1));
    int64_t k = x->dim[x->rank - 1];
    if (w->dim[1] != k)
        return ad_fail(call, AD_ERR_SHAPE,
                       "the last axis of the input and the columns of the weights [outputs, inputs] differ: %s, %s "
                       "(%lld != %lld)%s%s%s",
                       ad_describe(call, 0), ad_describe(call, 1), (long long)k, (long long)w->dim[1],
                       w->dim[0] == k ? "; did you mean ad_transpose(" : "",
                       w->dim[0] == k ? ad_input_name(call, 1) : "", w->dim[0] == k ? ")?" : "");
    if (b->rank != 1 || b->dim[0] != w->dim[0])
        return ad_fail(call, AD_ERR_SHAPE, "the bias needs one element per row of the weights: %s, %s",
                       ad_describe(call, 2), ad_describe(call, 1));
    ad_shape y = *x;
    y.dim[y.rank - 1] = w->dim[0];
    ad_set_out(call, 0, call->in[0]->dtype, y);
    return AD_OK;
}

/* y = x W^T + b, of the shape of the result and row-major. */
static ad_status compute_sums(ad_call *call, const ad_view *sums) {
    ad_view x = ad_fold_rows(call, call->in[0]), w = ad_swap_last(call->in[1]), y = ad_fold_rows(call, sums);
    if (!x.data && ad_view_count(&x) > 0) return AD_ERR_OOM;
    ad_gemm product = ad_matrix_product(&x, &w, &y, false);
    product.bias = call->in[2]->data;
    product.cs_bias = call->in[2]->stride[0];
    ad_run_gemm(call, &product);
    return AD_OK;
}

static ad_status linear_forward(ad_call *call) { return compute_sums(call, &call->out[0]); }

/* From the cotangent of the sums: one product for each of x and W, whatever the rank of x, and a sum over all rows for b. */
static ad_status pass_back(ad_call *call, ad_adjoint *adjoint, const ad_view *sums_bar) {
    ad_view g = ad_fold_rows(call, sums_bar);
    if (!g.data && ad_view_count(&g) > 0) return AD_ERR_OOM;
    bool add;
    const ad_view *into = ad_into(adjoint, 0, &add);
    if (into) {
        ad_view x_bar = ad_fold_rows(call, into), w = ad_last_matrix(call->in[1]);
        ad_multiply_matrices(call, &g, &w, &x_bar, add);
    }
    into = ad_into(adjoint, 1, &add);
    if (into) {
        ad_view x = ad_fold_rows(call, call->in[0]), gt = ad_swap_last(&g);
        if (!x.data && ad_view_count(&x) > 0) return AD_ERR_OOM;
        ad_multiply_matrices(call, &gt, &x, into, add);
    }
    into = ad_into(adjoint, 2, &add);
    if (into) ad_kernels_get()->sum_to(&g, into, 1, add);
    return AD_OK;
}

static ad_status linear_backward(ad_call *call, ad_adjoint *adjoint) {
    return pass_back(call, adjoint, &adjoint->seed[0]);
}

/* Rows of several cotangents are as good as more rows of one, but for the sums over rows. */
static bool linear_batches(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    (void)call, (void)seeds, (void)attrs;
    return !adjoint || (!ad_wants(adjoint, 1) && !ad_wants(adjoint, 2));
}

static ad_var rows_of(ad_var x, ad_shape shape) {
    if (shape.rank == 2) return x;
    ad_shape folded = AD_SHAPE(1, shape.dim[shape.rank - 1]);
    for (int i = 0; i < shape.rank - 1; i++) folded.dim[0] *= shape.dim[i];
    return ad_reshape(x, folded);
}

/* The same in ops. */
static void give_back(ad_vjp *v, ad_var g) {
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_matmul(g, ad_vjp_input(v, 1)));
    if (ad_vjp_wants(v, 1)) {
        ad_var rows = rows_of(g, ad_vjp_result_shape(v, 0));
        ad_var x = rows_of(ad_vjp_input(v, 0), ad_vjp_input_shape(v, 0));
        ad_vjp_give(v, 1, ad_matmul_sum(AD_VARS(rows, x), AD_LEFT_TRANSPOSED));
    }
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_sum_to(g, ad_vjp_input_shape(v, 2)));
}

static void linear_vjp(ad_vjp *v) { give_back(v, ad_vjp_seed(v, 0)); }

/* The tangent of the sums: x' W^T + x W'^T + b', of what moves. */
static ad_var push_sums(ad_jvp *j) {
    ad_shape shape = ad_value(ad_jvp_result(j, 0)).shape;
    bool is_vector = shape.rank == 1;
    ad_var in[5];
    int n = 0;
    for (int i = 0; i < 2; i++) {
        if (!ad_jvp_moves(j, i)) continue;
        ad_var x = i == 0 ? ad_jvp_tangent(j, 0) : ad_jvp_input(j, 0);
        in[n++] = is_vector ? ad_unsqueeze(x, 0) : x;
        in[n++] = i == 1 ? ad_jvp_tangent(j, 1) : ad_jvp_input(j, 1);
    }
    if (n == 0) return ad_broadcast_to(ad_jvp_tangent(j, 2), shape);
    if (ad_jvp_moves(j, 2)) in[n++] = ad_jvp_tangent(j, 2);
    ad_var y = ad_matmul_sum(n, in, AD_RIGHT_TRANSPOSED);
    return is_vector ? ad_reshape(y, shape) : y;
}

static void linear_jvp(ad_jvp *j) { ad_jvp_give(j, 0, push_sums(j)); }

static bool linear_sample(ad_sample *sample, int k) {
    const ad_shape x[] = {AD_SHAPE(3, 4), AD_SHAPE(4),    AD_SHAPE(2, 3, 4),
                          AD_SHAPE(0, 4), AD_SHAPE(2, 0), AD_SHAPE(1, 1)};
    const ad_shape w[] = {AD_SHAPE(5, 4), AD_SHAPE(5, 4), AD_SHAPE(2, 4),
                          AD_SHAPE(3, 4), AD_SHAPE(3, 0), AD_SHAPE(1, 1)};
    if (k >= (int)(sizeof x / sizeof *x)) return false;
    return ad_sample_normal(sample, x[k]) && ad_sample_normal(sample, w[k]) &&
           ad_sample_normal(sample, AD_SHAPE(w[k].dim[0]));
}

/* A result depends on its row of x, and on the row of W and the element of b that its last axis names. */
static void linear_depends(ad_dependence *d) {
    ad_view in, y;
    if (!ad_dependence_result(d, 0, &y)) return;
    ad_axes order = {.count = y.shape.rank};
    for (int i = 0; i < order.count; i++) order.axis[i] = (i + order.count - 1) % order.count;
    ad_view by_output = y;
    (void)!ad_view_permute(&y, &order, &by_output);
    if (ad_dependence_input(d, 0, &in)) ad_depend(d, &y, &in, y.shape.rank - 1);
    if (ad_dependence_input(d, 1, &in)) ad_depend(d, &by_output, &in, 1);
    if (ad_dependence_input(d, 2, &in)) ad_depend(d, &by_output, &in, 1);
}

const ad_op ad_op_linear = {
    .name = "linear",
    .inputs = 3,
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_INPUT(1),
    .shape = linear_shape,
    .forward = linear_forward,
    .vjp = linear_vjp,
    .backward = linear_backward,
    .batches = linear_batches,
    .jvp = linear_jvp,
    .depends = linear_depends,
    .formula = "$y = $0 $1^T + $2",
    .adjoint = {"~0 += ~y $1", "~1 += ~y^T $0", "~2 += ~y summed over rows"},
    .sample = linear_sample,
};

ad_var ad_linear_at(const char *where, ad_var x, ad_var w, ad_var b) {
    ad_tape *tape = x.tape ? x.tape : w.tape ? w.tape : b.tape;
    return ad_apply_at(where, tape, &ad_op_linear, 3, (ad_var[]){x, w, b}, NULL, NULL);
}

/* ---- linear with an activation ----------------------------------------------------------------------------------- */

/* One operation in place of two, which keeps one array in place of two: for activations whose result tells their
 * derivative. Apart from that they are what they are alone; these are their rows (elementwise_table.h) in a layer. */
static ad_view in_a_row(const ad_view *row_major) {
    ad_view flat;
    ad_view_flatten(&flat, row_major->data, row_major->dtype, ad_view_count(row_major));
    return flat;
}

static ad_status activated_forward(ad_call *call, ad_unary activation) {
    const ad_view *y = &call->out[0];
    ad_view sums = ad_scratch_view(call, y->dtype, y->shape);
    if (!sums.data && ad_view_count(y) > 0) return AD_ERR_OOM;
    ad_status status = compute_sums(call, &sums);
    const ad_view flat_sums = in_a_row(&sums), flat_y = in_a_row(y);
    if (!status) ad_kernels_get()->unary(activation, &flat_sums, &flat_y, NULL);
    return status;
}

static ad_status activated_backward(ad_call *call, ad_adjoint *adjoint, ad_unary activation) {
    const ad_view *y = &call->out[0], *g = &adjoint->seed[0];
    const bool are_rows = ad_view_is_contiguous(y) && ad_view_is_contiguous(g);
    ad_view sums_bar = ad_scratch_view(call, y->dtype, y->shape);
    if (!sums_bar.data && ad_view_count(y) > 0) return AD_ERR_OOM;
    const ad_view from = are_rows ? in_a_row(g) : *g, at = are_rows ? in_a_row(y) : *y;
    const ad_view to = are_rows ? in_a_row(&sums_bar) : sums_bar;
    ad_view unused = at;
    unused.data = NULL;
    ad_kernels_get()->unary_back(activation, &from, &unused, &at, &to, false, NULL);
    return pass_back(call, adjoint, &sums_bar);
}

#define DEFINE_ACTIVATED(row, formula_, factor)                                                                      \
    static ad_status row##_layer_forward(ad_call *call) { return activated_forward(call, AD_UNARY_##row); }          \
    static ad_status row##_layer_backward(ad_call *call, ad_adjoint *adjoint) {                                      \
        return activated_backward(call, adjoint, AD_UNARY_##row);                                                    \
    }                                                                                                                \
    static void row##_layer_vjp(ad_vjp *v) {                                                                         \
        give_back(v, ad_through_##row(ad_vjp_seed(v, 0), ad_vjp_result(v, 0)));                                      \
    }                                                                                                                \
    static void row##_layer_jvp(ad_jvp *j) {                                                                         \
        ad_jvp_give(j, 0, ad_through_##row(push_sums(j), ad_jvp_result(j, 0)));                                      \
    }                                                                                                                \
    const ad_op ad_op_linear_##row = {                                                                               \
        .name = "linear_" #row,                                                                                      \
        .inputs = 3,                                                                                                 \
        .saves = AD_SAVES_INPUT(0) | AD_SAVES_INPUT(1) | AD_SAVES_RESULT(0),                                         \
        .shape = linear_shape,                                                                                       \
        .forward = row##_layer_forward,                                                                              \
        .vjp = row##_layer_vjp,                                                                                      \
        .backward = row##_layer_backward,                                                                            \
        .batches = linear_batches,                                                                                   \
        .jvp = row##_layer_jvp,                                                                                      \
        .depends = linear_depends,                                                                                   \
        .formula = formula_,                                                                                         \
        .adjoint = {"~0 += s $1, s = " factor, "~1 += s^T $0", "~2 += s summed over rows"},                          \
        .sample = linear_sample,                                                                                     \
    };                                                                                                               \
    ad_var ad_linear_##row##_at(const char *where, ad_var x, ad_var w, ad_var b) {                                   \
        ad_tape *tape = x.tape ? x.tape : w.tape ? w.tape : b.tape;                                                  \
        return ad_apply_at(where, tape, &ad_op_linear_##row, 3, (ad_var[]){x, w, b}, NULL, NULL);                    \
    }
DEFINE_ACTIVATED(relu, "$y = max($0 $1^T + $2, 0)", "[$y > 0] ~y")
DEFINE_ACTIVATED(tanh, "$y = tanh($0 $1^T + $2)", "~y * (1 - $y^2)")

/* ---- dot, outer -------------------------------------------------------------------------------------------------- */

static bool check_vector(const char *where, const char *subject, ad_tape *tape, ad_var x, const char *role) {
    if (!ad_tape_check_var(tape, x, subject, where, role)) return false;
    int rank = ad_node_shape(ad_node_at(tape, x.index)).rank;
    if (rank > 0 && rank < AD_MAX_RANK) return true;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(tape, x.index, true, text, sizeof text);
    ad_tape_fail(tape, AD_ERR_SHAPE, subject, where, "%s, but it takes vectors, or stacks of them of up to %d axes",
                 text, AD_MAX_RANK - 1);
    return false;
}

/* [..., n] as a stack of columns [..., n, 1] or rows [..., 1, n] */
static ad_var as_matrix(const char *where, ad_var x, bool column) {
    ad_shape shape = ad_node_shape(ad_node_at(x.tape, x.index));
    int last = shape.rank++;
    shape.dim[last] = column ? 1 : shape.dim[last - 1];
    if (!column) shape.dim[last - 1] = 1;
    return ad_reshape_at(where, x, shape);
}

ad_var ad_dot_at(const char *where, ad_var a, ad_var b) {
    ad_tape *tape = a.tape ? a.tape : b.tape;
    if (!tape || !check_vector(where, "ad_dot", tape, a, "a") || !check_vector(where, "ad_dot", tape, b, "b"))
        return ad_var_invalid(tape);
    ad_shape a_shape = ad_node_shape(ad_node_at(tape, a.index)), b_shape = ad_node_shape(ad_node_at(tape, b.index));
    if (a_shape.dim[a_shape.rank - 1] != b_shape.dim[b_shape.rank - 1]) {
        char a_text[AD_TYPE_TEXT + 128], b_text[AD_TYPE_TEXT + 128];
        ad_node_text(tape, a.index, true, a_text, sizeof a_text);
        ad_node_text(tape, b.index, true, b_text, sizeof b_text);
        ad_tape_fail(tape, AD_ERR_SHAPE, "ad_dot", where, "the vectors differ in length: %s, %s", a_text, b_text);
        return ad_var_invalid(tape);
    }
    ad_var y = ad_matmul_at(where, as_matrix(where, a, false), as_matrix(where, b, true));
    if (tape->error.status) return y;
    ad_shape shape = ad_node_shape(ad_node_at(tape, y.index));
    shape.rank -= 2;
    return ad_reshape_at(where, y, shape);
}

ad_var ad_outer_at(const char *where, ad_var a, ad_var b) {
    ad_tape *tape = a.tape ? a.tape : b.tape;
    if (!tape || !check_vector(where, "ad_outer", tape, a, "a") || !check_vector(where, "ad_outer", tape, b, "b"))
        return ad_var_invalid(tape);
    return ad_mul_at(where, as_matrix(where, a, true), as_matrix(where, b, false));
}
