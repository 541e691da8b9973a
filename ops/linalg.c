/* See linalg.h. */
#include "ops/linalg.h"

/* ---- views ------------------------------------------------------------------------------------------------------- */

ad_view ad_insert_axis(const ad_view *view, int at) {
    ad_view out = *view;
    out.shape.rank++;
    for (int i = out.shape.rank - 1; i > at; i--) {
        out.shape.dim[i] = out.shape.dim[i - 1];
        out.stride[i] = out.stride[i - 1];
    }
    out.shape.dim[at] = 1;
    out.stride[at] = 0;
    return out;
}

ad_view ad_last_matrix(const ad_view *view) {
    const int i = view->shape.rank - 2, j = view->shape.rank - 1;
    ad_view matrix = ad_view_of(view->data, view->dtype, AD_SHAPE(view->shape.dim[i], view->shape.dim[j]));
    matrix.stride[0] = view->stride[i];
    matrix.stride[1] = view->stride[j];
    return matrix;
}

ad_view ad_swap_last(const ad_view *view) {
    ad_view out = *view;
    int i = out.shape.rank - 2, j = out.shape.rank - 1;
    out.shape.dim[i] = view->shape.dim[j];
    out.shape.dim[j] = view->shape.dim[i];
    out.stride[i] = view->stride[j];
    out.stride[j] = view->stride[i];
    return out;
}

ad_view ad_stretch_stack(const ad_view *view, const ad_shape *batch, int rank) {
    if (rank == 2) return *view;
    ad_shape shape = *batch;
    shape.rank = rank;
    for (int i = 1; i <= 2; i++) shape.dim[rank - i] = view->shape.dim[view->shape.rank - i];
    return ad_stretched(view, &shape);
}

ad_view ad_fold_rows(ad_call *call, const ad_view *view) {
    if (view->shape.rank == 2) return *view;
    ad_shape folded = AD_SHAPE(1, view->shape.dim[view->shape.rank - 1]);
    for (int i = 0; i < view->shape.rank - 1; i++) folded.dim[0] *= view->shape.dim[i];
    ad_view out;
    if (ad_view_reshape(view, &folded, &out) == AD_OK) return out;
    out = ad_scratch_view(call, view->dtype, view->shape);
    if (out.data) ad_copy_any(view, &out);
    return ad_view_of(out.data, out.dtype, folded);
}

ad_gemm ad_matrix_product(const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    int i = a->shape.rank - 2, j = i + 1;
    return (ad_gemm){.dtype = c->dtype,
                     .m = c->shape.dim[i],
                     .n = c->shape.dim[j],
                     .k = a->shape.dim[j],
                     .a = a->data,
                     .rsa = a->stride[i],
                     .csa = a->stride[j],
                     .b = b->data,
                     .rsb = b->stride[i],
                     .csb = b->stride[j],
                     .c = c->data,
                     .rsc = c->stride[i],
                     .csc = c->stride[j],
                     .add = add};
}

void ad_run_gemm(ad_call *call, ad_gemm *problem) {
    if (problem->m == 0 || problem->n == 0) return;
    const ad_kernels *kernels = ad_kernels_get();
    problem->threads = ad_gemm_threads(problem);
    size_t bytes = kernels->gemm_scratch(problem);
    void *scratch = bytes ? ad_scratch(call, bytes) : NULL;
    if (bytes && !scratch) return; /* the tape has the error */
    kernels->gemm(problem, scratch);
}

void ad_multiply_matrices(ad_call *call, const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    ad_gemm problem = ad_matrix_product(a, b, c, add);
    ad_run_gemm(call, &problem);
}

/* ---- going through stacks ---------------------------------------------------------------------------------------- */

ad_stack ad_stack_start(int count, const ad_view *const *views) {
    ad_stack stack = {.number = 0};
    ad_view head[AD_WALK_MAX];
    const ad_view *heads[AD_WALK_MAX] = {views[0]};
    for (int k = 0; k < count; k++) {
        const ad_view *view = views[k];
        int i = view->shape.rank - 2;
        stack.matrix[k] = (ad_matrix){view->dtype,     view->shape.dim[i],  view->shape.dim[i + 1],
                                      view->stride[i], view->stride[i + 1], view->data};
        head[k] = *view;
        head[k].shape.rank = i;
        heads[k] = &head[k];
    }
    stack.walk = ad_walk_start(count, heads);
    stack.more = stack.walk.more;
    return stack;
}

void ad_stack_next(ad_stack *stack) {
    stack->number++;
    if (++stack->inner == stack->walk.n) {
        stack->inner = 0;
        ad_walk_next(&stack->walk);
        stack->more = stack->walk.more;
    }
    for (int k = 0; k < stack->walk.arrays && stack->more; k++)
        stack->matrix[k].data = stack->walk.at[k] +
                                stack->inner * stack->walk.inner[k] * (int64_t)ad_dtype_size(stack->matrix[k].dtype);
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

ad_status ad_need_matrix(ad_call *call, int i) {
    ad_status status = ad_need_float(call, i);
    if (status || call->in[i]->shape.rank >= 2) return status;
    return ad_fail(call, AD_ERR_SHAPE, "%s, but it must be a matrix or a stack of matrices", ad_describe(call, i));
}

ad_status ad_need_square(ad_call *call, int i) {
    const ad_shape *shape = &call->in[i]->shape;
    ad_status status = ad_need_matrix(call, i);
    if (status || shape->dim[shape->rank - 2] == shape->dim[shape->rank - 1]) return status;
    return ad_fail(call, AD_ERR_SHAPE, "%s, but it must be square, or a stack of square matrices",
                   ad_describe(call, i));
}

ad_status ad_shape_like_square_input(ad_call *call) {
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    return ad_need_square(call, 0);
}

ad_status ad_need_finite_matrices(ad_call *call, int i) {
    if (ad_kernels_get()->all_finite(call->in[i])) return AD_OK;
    ad_view finite = *call->in[i];
    for (ad_stack s = ad_stack_start(1, call->in + i); s.more; ad_stack_next(&s)) {
        const ad_matrix *a = &s.matrix[0];
        finite.data = a->data;
        finite.shape = AD_SHAPE(a->rows, a->columns);
        finite.stride[0] = a->rs;
        finite.stride[1] = a->cs;
        if (!ad_kernels_get()->all_finite(&finite))
            return ad_fail(call, AD_ERR_VALUE, "%s holds inf or NaN (%s)", ad_matrix_name(call, i, s.number),
                           ad_describe(call, i));
    }
    return AD_OK;
}

const char *ad_matrix_name(ad_call *call, int i, int64_t number) {
    ad_shape at = call->in[i]->shape;
    const char *name = ad_input_name(call, i);
    at.rank -= 2;
    if (at.rank <= 0) return name;
    for (int axis = at.rank - 1; axis >= 0; axis--) {
        int64_t length = at.dim[axis];
        at.dim[axis] = number % length;
        number /= length;
    }
    char text[AD_TYPE_TEXT + 128];
    size_t length = 0;
    ad_text_add(text, sizeof text, &length, "%s", name);
    ad_text_shape(text, sizeof text, &length, &at);
    const char *copy = ad_arena_text(ad_scratch_arena(call), text);
    return copy ? copy : name;
}

ad_status ad_pivot_status(ad_call *call, int i, int64_t number, ad_pivot end, const char *what, const char *hint) {
    if (end.at == AD_DONE) return AD_OK;
    if (end.at == AD_NO_MEMORY) return ad_fail(call, AD_ERR_OOM, "out of memory for its scratch arrays");
    const char *name = ad_matrix_name(call, i, number), *type = ad_describe(call, i);
    if (end.at == AD_NO_CONVERGENCE) return ad_fail(call, AD_ERR_VALUE, "%s %s (%s)%s", name, what, type, hint);
    return ad_fail(call, AD_ERR_VALUE, "%s %s: pivot %lld is %g (%s)%s", name, what, (long long)end.at, end.value,
                   type, hint);
}

ad_status ad_shape_of_solution(ad_call *call) {
    ad_status status = ad_need_square(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status) return status;
    const ad_view *a = call->in[0], *b = call->in[1];
    if (b->shape.rank == 0)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but the right-hand side is a column or a stack of columns",
                       ad_describe(call, 1));
    ad_view columns = b->shape.rank == 1 ? ad_insert_axis(b, 1) : *b;
    ad_shape a_stack = a->shape, b_stack = columns.shape, shape;
    int64_t n = a->shape.dim[a->shape.rank - 1], rows = columns.shape.dim[columns.shape.rank - 2];
    if (n != rows)
        return ad_fail(call, AD_ERR_SHAPE, "the right-hand side has another number of rows: %s, %s (%lld != %lld)%s",
                       ad_describe(call, 0), ad_describe(call, 1), (long long)n, (long long)rows,
                       b->shape.rank > 1 && b->shape.dim[b->shape.rank - 1] == n
                           ? "; only one of rank 1 is a vector: a stack of vectors needs a last axis of 1"
                           : "");
    a_stack.rank -= 2;
    b_stack.rank -= 2;
    if (ad_shape_broadcast(&a_stack, &b_stack, &shape))
        return ad_fail(call, AD_ERR_SHAPE, "the leading dimensions do not broadcast: %s, %s", ad_describe(call, 0),
                       ad_describe(call, 1));
    shape.dim[shape.rank++] = n;
    if (b->shape.rank > 1) shape.dim[shape.rank++] = b->shape.dim[b->shape.rank - 1];
    ad_set_out(call, 0, a->dtype, shape);
    return AD_OK;
}

/* ---- LU ---------------------------------------------------------------------------------------------------------- */

ad_status ad_factor_stack(ad_call *call, const ad_view *a, const ad_view *lu, const ad_view *order, bool report) {
    ad_view rows = ad_insert_axis(order, order->shape.rank - 1);
    const ad_view *views[] = {lu, &rows};
    ad_status status = AD_OK;
    ad_kernels_get()->copy(a, lu, 1, false);
    for (ad_stack s = ad_stack_start(2, views); s.more && !status; ad_stack_next(&s)) {
        ad_pivot end = ad_kernel_lu(&s.matrix[0], s.matrix[1].data, ad_scratch_arena(call));
        if (report || end.at == AD_NO_MEMORY) status = ad_pivot_status(call, 0, s.number, end, "is singular", "");
    }
    return status;
}

/* Factors and order as scratch arrays; data NULL: no memory. */
void ad_scratch_factors(ad_call *call, ad_view *lu, ad_view *order) {
    ad_shape shape = call->in[0]->shape;
    *lu = ad_scratch_view(call, call->in[0]->dtype, shape);
    shape.rank--;
    *order = ad_scratch_view(call, AD_I64, shape);
    if (!lu->data) order->data = NULL;
}

/* ---- in VJPs and JVPs -------------------------------------------------------------------------------------------- */

ad_var ad_as_columns(ad_var x, bool is_vector) { return is_vector ? ad_unsqueeze(x, -1) : x; }
ad_var ad_as_vector(ad_var x, bool is_vector) { return is_vector ? ad_squeeze(x, AD_AXES(-1)) : x; }

/* [batch..., n, m] as [n, batch... m] */
static ad_var side_by_side(ad_var x) {
    ad_shape shape = ad_value(x).shape;
    if (shape.rank < 2) return x; /* there was an error */
    ad_axes axes = {.count = shape.rank, .axis = {shape.rank - 2}};
    for (int i = 1; i < shape.rank; i++) axes.axis[i] = i < shape.rank - 1 ? i - 1 : i;
    int64_t n = shape.dim[shape.rank - 2], columns = shape.dim[shape.rank - 1];
    for (int i = 0; i < shape.rank - 2; i++) columns *= shape.dim[i];
    return ad_reshape(ad_permute(x, axes), AD_SHAPE(n, columns));
}

ad_var ad_outer_of_columns(ad_var a, ad_var b, int rank) {
    if (rank == 2 && ad_value(a).shape.rank > 2) {
        a = side_by_side(a);
        b = side_by_side(b);
    }
    return ad_matmul(a, ad_transpose(b));
}

ad_var ad_symmetric_part(ad_var x) { return ad_scale(ad_add(x, ad_transpose(x)), 0.5); }

ad_var ad_divide_where_not_0(ad_var x, ad_var d) {
    ad_var divisor = ad_where(d, d, ad_number_like(AD_HERE, d, 1));
    return ad_where(d, ad_div(x, divisor), ad_number_like(AD_HERE, x, 0));
}

void ad_give_matrix(ad_vjp *v, int i, ad_var contribution) {
    ad_shape shape = ad_vjp_input_shape(v, i), full = shape, given;
    if (shape.rank == 1) full.dim[full.rank++] = 1;
    given = ad_value(contribution).shape;
    if (!ad_shape_equal(&given, &full)) contribution = ad_sum_to(contribution, full);
    ad_vjp_give(v, i, shape.rank == 1 ? ad_reshape(contribution, shape) : contribution);
}

/* ---- samples ----------------------------------------------------------------------------------------------------- */

void ad_sample_add_diagonal(ad_sample *sample, double value, double step) {
    const ad_view *view = ad_tensor_view(sample->input[sample->inputs - 1]);
    for (ad_stack s = ad_stack_start(1, &view); s.more; ad_stack_next(&s))
        for (int64_t i = 0; i < s.matrix[0].rows && i < s.matrix[0].columns; i++)
            ad_matrix_set(&s.matrix[0], i, i, ad_matrix_get(&s.matrix[0], i, i) + value + step * (double)i);
}

void ad_sample_reverse_columns(ad_sample *sample) {
    const ad_view *view = ad_tensor_view(sample->input[sample->inputs - 1]);
    for (ad_stack s = ad_stack_start(1, &view); s.more; ad_stack_next(&s)) {
        const ad_matrix *a = &s.matrix[0];
        for (int64_t i = 0; i < a->rows; i++) {
            for (int64_t j = 0, k = a->columns - 1; j < k; j++, k--) {
                double kept = ad_matrix_get(a, i, j);
                ad_matrix_set(a, i, j, ad_matrix_get(a, i, k));
                ad_matrix_set(a, i, k, kept);
            }
        }
    }
}

bool ad_sample_square(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3), AD_SHAPE(2, 3, 3), AD_SHAPE(1, 1),
                               AD_SHAPE(0, 0), AD_SHAPE(0, 2, 2), AD_SHAPE(4, 4)};
    if (k >= (int)(sizeof shapes / sizeof *shapes) || !ad_sample_normal(sample, shapes[k])) return false;
    ad_sample_add_diagonal(sample, 3, 0.5);
    return true;
}
