/* Diagonals of matrices, matrices with a given diagonal, and triangles. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* ---- diagonal ---------------------------------------------------------------------------------------------------- */

typedef struct diagonal_attrs {
    int64_t k; /* above the main diagonal, or, negative, below */
    int row_axis, column_axis;
    int64_t rows, columns; /* of undiagonal alone */
} diagonal_attrs;
#define DIAGONAL_ATTRS                                                                                               \
    AD_ATTR("k", INT64, diagonal_attrs, k, AD_USUALLY(0)),                                                           \
        AD_ATTR("row_axis", INT, diagonal_attrs, row_axis, AD_USUALLY(-2)),                                          \
        AD_ATTR("column_axis", INT, diagonal_attrs, column_axis, AD_USUALLY(-1))

/* x without the two axes, then the diagonal. */
static ad_status diagonal_of(const void *attrs, const ad_view *x, ad_view *window) {
    const diagonal_attrs *diagonal = attrs;
    int rank = x->shape.rank, row = ad_axis_index(diagonal->row_axis, rank),
        column = ad_axis_index(diagonal->column_axis, rank);
    int64_t rows = x->shape.dim[row], columns = x->shape.dim[column], k = diagonal->k;
    if (k > columns) k = columns;
    if (k < -rows) k = -rows;
    int64_t first_row = k < 0 ? -k : 0, first_column = k > 0 ? k : 0;
    int64_t down = rows - first_row, right = columns - first_column, n = down < right ? down : right;
    ad_view result = {.dtype = x->dtype, .data = x->data, .shape = {.rank = 0}};
    for (int i = 0; i < rank; i++) {
        if (i == row || i == column) continue;
        result.stride[result.shape.rank] = x->stride[i];
        result.shape.dim[result.shape.rank++] = x->shape.dim[i];
    }
    result.stride[result.shape.rank] = x->stride[row] + x->stride[column];
    result.shape.dim[result.shape.rank++] = n;
    if (n > 0 && x->data)
        result.data = (char *)x->data + (first_row * x->stride[row] + first_column * x->stride[column]) *
                                            (int64_t)ad_dtype_size(x->dtype);
    *window = result;
    return AD_OK;
}

static ad_status diagonal_shape(ad_call *call) {
    const diagonal_attrs *diagonal = call->attrs;
    int row = ad_need_axis(call, 0, diagonal->row_axis);
    int column = row < 0 ? -1 : ad_need_axis(call, 0, diagonal->column_axis);
    if (column < 0) return AD_ERR_INDEX;
    if (row == column)
        return ad_fail(call, AD_ERR_INDEX, "rows and columns are both axis %d: %s", row, ad_describe(call, 0));
    call->is_view[0] = true;
    return diagonal_of(diagonal, call->in[0], &call->out[0]);
}

static void diagonal_vjp(ad_vjp *v) {
    diagonal_attrs attrs = *(const diagonal_attrs *)ad_vjp_attrs(v);
    ad_shape shape = ad_vjp_input_shape(v, 0);
    attrs.rows = shape.dim[ad_axis_index(attrs.row_axis, shape.rank)];
    attrs.columns = shape.dim[ad_axis_index(attrs.column_axis, shape.rank)];
    ad_vjp_give(v, 0, ad_apply_1(NULL, &ad_op_undiagonal, ad_vjp_seed(v, 0), &attrs));
}

static ad_status diagonal_backward(ad_call *call, ad_adjoint *adjoint) {
    return ad_window_back(call, adjoint, diagonal_of);
}

static void show_diagonal(const void *attrs, char *text, size_t size) {
    const diagonal_attrs *diagonal = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "k %lld, axes %d,%d", (long long)diagonal->k, diagonal->row_axis,
                diagonal->column_axis);
}

static bool diagonal_case(int k, ad_shape *shape, diagonal_attrs *attrs) {
    const ad_shape shapes[] = {AD_SHAPE(3, 3),    AD_SHAPE(3, 5), AD_SHAPE(4, 2),
                               AD_SHAPE(2, 3, 4), AD_SHAPE(3, 0), AD_SHAPE(1, 1)};
    const diagonal_attrs cases[] = {{.row_axis = 0, .column_axis = 1},
                                    {.row_axis = 0, .column_axis = 1, .k = 2},
                                    {.row_axis = -2, .column_axis = -1, .k = -1},
                                    {.row_axis = 2, .column_axis = 0, .k = 1},
                                    {.row_axis = 0, .column_axis = 1},
                                    {.row_axis = 0, .column_axis = 1, .k = 3}};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *shape = shapes[k];
    *attrs = cases[k];
    attrs->rows = shape->dim[ad_axis_index(attrs->row_axis, shape->rank)];
    attrs->columns = shape->dim[ad_axis_index(attrs->column_axis, shape->rank)];
    return true;
}

static bool diagonal_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return diagonal_case(k, &shape, (diagonal_attrs *)(void *)sample->attrs.bytes) && ad_sample_normal(sample, shape);
}

const ad_op ad_op_diagonal = {
    .name = "diagonal",
    .inputs = 1,
    .attrs_size = sizeof(diagonal_attrs),
    .attrs = AD_ATTRS(DIAGONAL_ATTRS),
    .saves = AD_SAVES_NOTHING,
    .shape = diagonal_shape,
    .vjp = diagonal_vjp,
    .backward = diagonal_backward,
    .jvp = ad_jvp_linear,
    .formula = "$y = diagonal($0, $a)",
    .adjoint = {"diagonal(~0, $a) += ~y"},
    .show_attrs = show_diagonal,
    .sample = diagonal_sample,
};

ad_var ad_diagonal_at(const char *where, ad_var x, int64_t k, int row_axis, int column_axis) {
    diagonal_attrs attrs = {.k = k, .row_axis = row_axis, .column_axis = column_axis};
    return ad_apply_1(where, &ad_op_diagonal, x, &attrs);
}

/* ---- undiagonal -------------------------------------------------------------------------------------------------- */

static ad_status undiagonal_shape(ad_call *call) {
    const diagonal_attrs *diagonal = call->attrs;
    const ad_shape *from = &call->in[0]->shape;
    ad_shape shape = {.rank = from->rank + 1, .dim = {0}};
    if (from->rank == 0) return ad_fail(call, AD_ERR_SHAPE, "%s, but a diagonal has an axis", ad_describe(call, 0));
    if (shape.rank > AD_MAX_RANK)
        return ad_fail(call, AD_ERR_LIMIT, "%s: the result would have more than %d axes", ad_describe(call, 0),
                       AD_MAX_RANK);
    int row = ad_axis_index(diagonal->row_axis, shape.rank),
        column = ad_axis_index(diagonal->column_axis, shape.rank);
    if (row < 0 || column < 0 || row == column)
        return ad_fail(call, AD_ERR_INDEX, "axes %d and %d are no two of the result's %d", diagonal->row_axis,
                       diagonal->column_axis, shape.rank);
    for (int i = 0, other = 0; i < shape.rank; i++)
        shape.dim[i] = i == row ? diagonal->rows : i == column ? diagonal->columns : from->dim[other++];
    return ad_embed_shape(call, diagonal_of, shape);
}

static ad_status undiagonal_forward(ad_call *call) { return ad_embed(call, diagonal_of); }

static void undiagonal_vjp(ad_vjp *v) {
    const diagonal_attrs *attrs = ad_vjp_attrs(v);
    ad_vjp_give(v, 0, ad_diagonal(ad_vjp_seed(v, 0), attrs->k, attrs->row_axis, attrs->column_axis));
}

static ad_status undiagonal_backward(ad_call *call, ad_adjoint *adjoint) {
    return ad_window_pass(call, adjoint, diagonal_of);
}

static bool undiagonal_sample(ad_sample *sample, int k) {
    ad_shape shape;
    diagonal_attrs *attrs = (diagonal_attrs *)(void *)sample->attrs.bytes;
    ad_view window;
    if (!diagonal_case(k, &shape, attrs)) return false;
    ad_view whole = ad_view_of(NULL, sample->dtype, shape);
    return diagonal_of(attrs, &whole, &window) == AD_OK && ad_sample_normal(sample, window.shape);
}

const ad_op ad_op_undiagonal = {
    .name = "undiagonal",
    .inputs = 1,
    .attrs_size = sizeof(diagonal_attrs),
    .attrs = AD_ATTRS(DIAGONAL_ATTRS, AD_ATTR("rows", INT64, diagonal_attrs, rows, AD_REQUIRED),
                      AD_ATTR("columns", INT64, diagonal_attrs, columns, AD_REQUIRED)),
    .saves = AD_SAVES_NOTHING,
    .shape = undiagonal_shape,
    .forward = undiagonal_forward,
    .vjp = undiagonal_vjp,
    .backward = undiagonal_backward,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = 0, with diagonal($y, $a) = $0",
    .adjoint = {"~0 += diagonal(~y, $a)"},
    .show_attrs = show_diagonal,
    .sample = undiagonal_sample,
};

ad_var ad_diag_embed_at(const char *where, ad_var x, int64_t k) {
    if (!ad_check_var(x, "ad_diag_embed", where)) return ad_var_invalid(x.tape);
    ad_shape shape = ad_node_shape(ad_node_at(x.tape, x.index));
    int64_t n = shape.rank ? shape.dim[shape.rank - 1] : 0;
    uint64_t off = k < 0 ? -(uint64_t)k : (uint64_t)k;
    if (off > (uint64_t)(INT64_MAX - n)) {
        ad_tape_fail(x.tape, AD_ERR_LIMIT, "ad_diag_embed", where, "diagonal %lld is too far away", (long long)k);
        return ad_var_invalid(x.tape);
    }
    diagonal_attrs attrs = {.k = k, .row_axis = -2, .column_axis = -1};
    attrs.rows = attrs.columns = n + (int64_t)off;
    return ad_apply_1(where, &ad_op_undiagonal, x, &attrs);
}

ad_var ad_diag_at(const char *where, ad_var x, int64_t k) {
    if (!ad_check_var(x, "ad_diag", where)) return ad_var_invalid(x.tape);
    int rank = ad_node_shape(ad_node_at(x.tape, x.index)).rank;
    if (rank == 1) return ad_diag_embed_at(where, x, k);
    if (rank == 2) return ad_diagonal_at(where, x, k, 0, 1);
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(x.tape, x.index, true, text, sizeof text);
    ad_tape_fail(x.tape, AD_ERR_SHAPE, "ad_diag", where,
                 "%s, but it takes a vector or a matrix; for stacks there are ad_diag_embed and ad_diagonal", text);
    return ad_var_invalid(x.tape);
}

/* ---- tril, triu -------------------------------------------------------------------------------------------------- */

typedef struct band_attrs {
    int64_t k;
} band_attrs;

static ad_status band_shape(ad_call *call) {
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    if (call->in[0]->shape.rank >= 2) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "%s, but it takes matrices [..., rows, columns]", ad_describe(call, 0));
}

/* Row by row, in all matrices at once. Diagonal i + k of row i is the first of the upper triangle, the last of the
 * lower. */
static ad_status band_forward(ad_call *call, bool upper) {
    const ad_view *x = call->in[0], *y = &call->out[0];
    int row = x->shape.rank - 2;
    int64_t rows = x->shape.dim[row], columns = x->shape.dim[row + 1], k = ((const band_attrs *)call->attrs)->k;
    if (k > columns) k = columns;
    if (k < -rows - 1) k = -rows - 1;
    ad_kernels_get()->fill(y, 0);
    for (int64_t i = 0; i < rows; i++) {
        int64_t edge = i + k + (upper ? 0 : 1);
        edge = edge < 0 ? 0 : edge > columns ? columns : edge;
        ad_view from, to;
        (void)!ad_view_slice(x, row, i, i + 1, 1, &from);
        (void)!ad_view_slice(y, row, i, i + 1, 1, &to);
        (void)!ad_view_slice(&from, row + 1, upper ? edge : 0, upper ? columns : edge, 1, &from);
        (void)!ad_view_slice(&to, row + 1, upper ? edge : 0, upper ? columns : edge, 1, &to);
        ad_copy_any(&from, &to);
    }
    return AD_OK;
}

static ad_status tril_forward(ad_call *call) { return band_forward(call, false); }
static ad_status triu_forward(ad_call *call) { return band_forward(call, true); }
static void tril_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_tril(ad_vjp_seed(v, 0), ((const band_attrs *)ad_vjp_attrs(v))->k));
}
static void triu_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_triu(ad_vjp_seed(v, 0), ((const band_attrs *)ad_vjp_attrs(v))->k));
}

static void show_band(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "k %lld", (long long)((const band_attrs *)attrs)->k);
}

static bool band_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SHAPE(4, 3), AD_SHAPE(2, 3, 3),
                               AD_SHAPE(1, 1), AD_SHAPE(3, 0), AD_SHAPE(3, 3)};
    const int64_t diagonals[] = {0, 1, -1, 0, 0, -9};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    ((band_attrs *)(void *)sample->attrs.bytes)->k = diagonals[k];
    return ad_sample_normal(sample, shapes[k]);
}

#define BAND(text)                                                                                                   \
    {                                                                                                                \
        .name = #text, .inputs = 1, .attrs_size = sizeof(band_attrs),                                                \
        .attrs = AD_ATTRS(AD_ATTR("k", INT64, band_attrs, k, AD_USUALLY(0))), .saves = AD_SAVES_NOTHING,             \
        .shape = band_shape, .forward = text##_forward, .vjp = text##_vjp, .jvp = ad_jvp_linear,                     \
        .depends = ad_depends_moved, .formula = "$y = " #text "($0, $a)", .adjoint = {"~0 += " #text "(~y, $a)"},    \
        .show_attrs = show_band, .sample = band_sample,                                                              \
    }
const ad_op ad_op_tril = BAND(tril), ad_op_triu = BAND(triu);

ad_var ad_tril_at(const char *where, ad_var x, int64_t k) {
    band_attrs attrs = {k};
    return ad_apply_1(where, &ad_op_tril, x, &attrs);
}
ad_var ad_triu_at(const char *where, ad_var x, int64_t k) {
    band_attrs attrs = {k};
    return ad_apply_1(where, &ad_op_triu, x, &attrs);
}
