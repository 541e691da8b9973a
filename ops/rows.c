/* Rows of an array by number: index_select takes them, index_add adds to them, and each is the transpose of the other. An
 * index has any shape, which takes the place of the axis that it indexes. Embeddings, advanced indexing and selection by
 * a mask are made of these. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/along.h"
#include "ops/kernels/move.h"
#include "ops/ops.h"

static int attr_axis(const ad_call *call) {
    return ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, call->in[0]->shape.rank);
}

/* The shape of the rows that input 1 names of input 0. */
static ad_status rows_shape(ad_call *call, ad_shape *shape) {
    int axis = ad_need_axis(call, 0, ((const ad_axis_attrs *)call->attrs)->axis);
    if (axis < 0) return AD_ERR_INDEX;
    ad_status status = ad_need_integer(call, 1);
    if (status) return status;
    const ad_shape *x = &call->in[0]->shape, *index = &call->in[1]->shape;
    shape->rank = x->rank - 1 + index->rank;
    if (shape->rank > AD_MAX_RANK)
        return ad_fail(call, AD_ERR_LIMIT, "%s, %s: the result would have %d axes, and %d are the most",
                       ad_describe(call, 0), ad_describe(call, 1), shape->rank, AD_MAX_RANK);
    for (int i = 0; i < shape->rank; i++) {
        int within = i - axis;
        shape->dim[i] = within < 0             ? x->dim[i]
                        : within < index->rank ? index->dim[within]
                                               : x->dim[i - index->rank + 1];
    }
    return AD_OK;
}

/* Shapes of x and index, and an axis, with repeated indices. */
static bool rows_case(int k, ad_shape *x, ad_shape *index, int *axis) {
    const ad_shape cases[][2] = {{AD_SHAPE(5, 3), AD_SHAPE(2, 4)}, {AD_SHAPE(3, 4), AD_SHAPE(6)},
                                 {AD_SHAPE(2, 3, 2), AD_SHAPE(4)}, {AD_SHAPE(6), AD_SCALAR},
                                 {AD_SHAPE(3, 4), AD_SHAPE(0)},    {AD_SHAPE(2, 1, 3), AD_SHAPE(2, 1)},
                                 {AD_SHAPE(3, 0), AD_SHAPE(4)}};
    const int axes[] = {0, -1, 1, 0, 0, 1, 0};
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    *x = cases[k][0];
    *index = cases[k][1];
    *axis = axes[k];
    return true;
}

/* ---- index_select ------------------------------------------------------------------------------------------------ */

static ad_status select_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    return rows_shape(call, &call->out[0].shape);
}

static ad_status select_forward(ad_call *call) {
    int axis = attr_axis(call);
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[axis]);
    if (!status) ad_kernel_take_rows(call->in[0], axis, call->in[1], &call->out[0]);
    return status;
}

static void select_vjp(ad_vjp *v) {
    ad_var zeros = ad_broadcast_to(ad_vjp_number(v, 0), ad_vjp_input_shape(v, 0));
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_vjp_give(v, 0, ad_index_add(zeros, axis, ad_vjp_input(v, 1), ad_vjp_seed(v, 0)));
}

/* Along axis 0, the usual case of a table, only the rows that were taken are touched. */
static ad_status select_backward(ad_call *call, ad_adjoint *adjoint) {
    const int axis = attr_axis(call);
    const ad_view *x_bar = ad_into_rows(adjoint, 0, axis, call->in[1]);
    if (x_bar) ad_kernel_add_rows(&adjoint->seed[0], axis, call->in[1], x_bar);
    return AD_OK;
}

static bool select_sample(ad_sample *sample, int k) {
    ad_shape x, index;
    int axis;
    if (!rows_case(k, &x, &index, &axis)) return false;
    *(int *)(void *)sample->attrs.bytes = axis;
    return ad_sample_normal(sample, x) && ad_sample_index(sample, index, x.dim[ad_axis_index(axis, x.rank)]);
}

const ad_op ad_op_index_select = {
    .name = "index_select",
    .inputs = 2,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUT(1),
    .shape = select_shape,
    .forward = select_forward,
    .vjp = select_vjp,
    .backward = select_backward,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_moved,
    .formula = "$y = rows $1 of $0 along $a",
    .adjoint = {"rows $1 of ~0 += ~y", ""},
    .show_attrs = ad_show_axis,
    .sample = select_sample,
};

ad_var ad_index_select_at(const char *where, ad_var x, int axis, ad_var index) {
    ad_axis_attrs attrs = {axis};
    return ad_apply_2(where, &ad_op_index_select, x, index, &attrs);
}

/* ---- index_add --------------------------------------------------------------------------------------------------- */

static ad_status add_shape(ad_call *call) {
    ad_shape rows;
    char text[AD_TYPE_TEXT];
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 2);
    if (!status) status = rows_shape(call, &rows);
    if (status) return status;
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    if (ad_shape_equal(&rows, &call->in[2]->shape)) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "%s, but what is added to rows %s of %s must be %s", ad_describe(call, 2),
                   ad_input_name(call, 1), ad_describe(call, 0), ad_type_text(call->in[0]->dtype, &rows, text));
}

static ad_status add_forward(ad_call *call) {
    int axis = attr_axis(call);
    ad_status status = ad_need_indices(call, 1, call->in[0]->shape.dim[axis]);
    if (status) return status;
    ad_kernels_get()->copy(call->in[0], &call->out[0], 1, false);
    ad_kernel_add_rows(call->in[2], axis, call->in[1], &call->out[0]);
    return AD_OK;
}

static void add_vjp(ad_vjp *v) {
    int axis = ((const ad_axis_attrs *)ad_vjp_attrs(v))->axis;
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_index_select(ad_vjp_seed(v, 0), axis, ad_vjp_input(v, 1)));
}

static bool add_sample(ad_sample *sample, int k) {
    ad_shape x, index, rows;
    int axis;
    if (!rows_case(k, &x, &index, &axis)) return false;
    *(int *)(void *)sample->attrs.bytes = axis;
    axis = ad_axis_index(axis, x.rank);
    rows.rank = 0;
    for (int i = 0; i < axis; i++) rows.dim[rows.rank++] = x.dim[i];
    for (int i = 0; i < index.rank; i++) rows.dim[rows.rank++] = index.dim[i];
    for (int i = axis + 1; i < x.rank; i++) rows.dim[rows.rank++] = x.dim[i];
    return ad_sample_normal(sample, x) && ad_sample_index(sample, index, x.dim[axis]) &&
           ad_sample_normal(sample, rows);
}

static void take_places(const ad_call *call, const ad_view *places, const ad_view *targets) {
    ad_kernel_take_rows(places, attr_axis(call), call->in[1], targets);
}
static void add_depends(ad_dependence *d) { ad_depends_scattered(d, take_places); }

const ad_op ad_op_index_add = {
    .name = "index_add",
    .inputs = 3,
    .attrs_size = sizeof(ad_axis_attrs),
    .attrs = ad_axis_attr_list,
    .saves = AD_SAVES_INPUT(1),
    .shape = add_shape,
    .forward = add_forward,
    .vjp = add_vjp,
    .jvp = ad_jvp_linear,
    .depends = add_depends,
    .formula = "$y = $0, with rows $1 += $2 along $a",
    .adjoint = {"~0 += ~y", "", "~2 += rows $1 of ~y"},
    .show_attrs = ad_show_axis,
    .sample = add_sample,
};

ad_var ad_index_add_at(const char *where, ad_var x, int axis, ad_var index, ad_var source) {
    ad_var in[] = {x, index, source};
    ad_axis_attrs attrs = {axis};
    ad_tape *tape = x.tape ? x.tape : index.tape ? index.tape : source.tape;
    return ad_apply_at(where, tape, &ad_op_index_add, 3, in, &attrs, NULL);
}

/* ---- embedding --------------------------------------------------------------------------------------------------- */

ad_var ad_embedding_at(const char *where, ad_var table, ad_var index) {
    if (!ad_check_var(table, "ad_embedding", where)) return ad_var_invalid(table.tape);
    ad_shape shape = ad_node_shape(ad_node_at(table.tape, table.index));
    if (shape.rank == 2) return ad_index_select_at(where, table, 0, index);
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(table.tape, table.index, true, text, sizeof text);
    ad_tape_fail(table.tape, AD_ERR_SHAPE, "ad_embedding", where, "%s, but a table is [how many, how long]", text);
    return ad_var_invalid(table.tape);
}

/* ---- flat_index -------------------------------------------------------------------------------------------------- */

static ad_status flat_shape(ad_call *call) {
    const ad_shape *dims = call->attrs;
    ad_shape shape = AD_SCALAR;
    if (dims->rank != call->inputs)
        return ad_fail(call, AD_ERR_SHAPE, "%d indices for %d axes: it takes one for each", call->inputs, dims->rank);
    if (ad_shape_count(dims) < 0) return ad_fail(call, AD_ERR_LIMIT, "no array is as large as the axes say");
    for (int i = 0; i < call->inputs; i++) {
        ad_status status = ad_need_integer(call, i);
        if (status) return status;
        if (ad_shape_broadcast(&shape, &call->in[i]->shape, &shape))
            return ad_fail(call, AD_ERR_SHAPE, "the indices do not broadcast: %s and those before it",
                           ad_describe(call, i));
    }
    ad_set_out(call, 0, AD_I64, shape);
    return AD_OK;
}

static ad_status flat_forward(ad_call *call) {
    const ad_shape *dims = call->attrs;
    int64_t stride[AD_MAX_RANK];
    ad_shape_strides(dims, stride);
    ad_kernels_get()->fill(&call->out[0], 0);
    for (int i = 0; i < call->inputs; i++) {
        ad_status status = ad_need_indices(call, i, dims->dim[i]);
        if (status) return status;
        ad_view index = ad_stretched(call->in[i], &call->out[0].shape);
        ad_kernel_add_index(&index, stride[i], &call->out[0]);
    }
    return AD_OK;
}

static bool flat_sample(ad_sample *sample, int k) {
    if (k >= 3) return false;
    sample->attrs.shape = k == 0 ? AD_SHAPE(3, 4) : k == 1 ? AD_SHAPE(5) : AD_SHAPE(2, 3, 2);
    for (int i = 0; i < sample->attrs.shape.rank; i++)
        if (!ad_sample_index(sample, i ? AD_SHAPE(4) : AD_SHAPE(3, 1), sample->attrs.shape.dim[i])) return false;
    return true;
}

const ad_op ad_op_flat_index = {
    .name = "flat_index",
    .inputs = -1,
    .attrs_size = sizeof(ad_shape),
    .attrs = AD_ATTRS({"shape", AD_ATTR_SHAPE, 0, AD_REQUIRED, 0}),
    .derivative = AD_NOT_DIFFERENTIABLE,
    .shape = flat_shape,
    .forward = flat_forward,
    .formula = "$y = the place of [$0, ...] in $a",
    .show_attrs = ad_show_shape,
    .sample = flat_sample,
};

ad_var ad_flat_index_at(const char *where, int n, const ad_var *index, ad_shape shape) {
    ad_tape *tape = NULL;
    for (int i = 0; i < n && index && !tape; i++) tape = index[i].tape;
    return ad_apply_at(where, tape, &ad_op_flat_index, n, index, &shape, NULL);
}

/* ---- index_get, index_put ------------------------------------------------------------------------------------------ */

/* x with its first n axes as one, and where the indices point along it. */
typedef struct flat {
    ad_shape shape; /* of x */
    ad_var x, index;
} flat;

static bool flatten(const char *where, ad_var x, int n, const ad_var *index, const char *subject, flat *f) {
    if (!ad_check_var(x, subject, where)) return false;
    f->shape = ad_node_shape(ad_node_at(x.tape, x.index));
    if (n < 1 || n > f->shape.rank || !index) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(x.tape, x.index, true, text, sizeof text);
        ad_tape_fail(x.tape, AD_ERR_INDEX, subject, where, "%d indices: %s, so there can be 1 to %d", index ? n : 0,
                     text, f->shape.rank);
        return false;
    }
    ad_shape lead = f->shape, shape = {.rank = 1, .dim = {1}};
    lead.rank = n;
    for (int i = 0; i < n; i++)
        shape.dim[0] *= lead.dim[i]; /* of an array that exists: no overflow, unless others are 0 */
    for (int i = n; i < f->shape.rank; i++) shape.dim[shape.rank++] = f->shape.dim[i];
    f->x = ad_reshape_at(where, x, shape);
    f->index = ad_flat_index_at(where, n, index, lead);
    return ad_tape_status(x.tape) == AD_OK;
}

ad_var ad_index_get_at(const char *where, ad_var x, int n, const ad_var *index) {
    flat f;
    if (!flatten(where, x, n, index, "ad_index_get", &f)) return ad_var_invalid(x.tape);
    return ad_index_select_at(where, f.x, 0, f.index);
}

ad_var ad_index_put_at(const char *where, ad_var x, int n, const ad_var *index, ad_var values, bool accumulate) {
    flat f;
    if (!flatten(where, x, n, index, "ad_index_put", &f)) return ad_var_invalid(x.tape);
    ad_shape at = ad_value(f.index).shape, rows = at, row = ad_value(f.x).shape;
    for (int i = 1; i < row.rank && rows.rank < AD_MAX_RANK; i++) rows.dim[rows.rank++] = row.dim[i];
    values = ad_broadcast_to_at(where, values, rows);
    if (accumulate) return ad_reshape_at(where, ad_index_add_at(where, f.x, 0, f.index, values), f.shape);
    /* One element of the index for each of the values. */
    ad_shape column = {.rank = row.rank, .dim = {ad_shape_count(&at)}}, all = row;
    for (int i = 1; i < row.rank; i++) column.dim[i] = 1;
    all.dim[0] = column.dim[0];
    ad_var each = ad_broadcast_to_at(where, ad_reshape_at(where, f.index, column), all);
    ad_var put = ad_scatter_at(where, f.x, 0, each, ad_reshape_at(where, values, all));
    return ad_reshape_at(where, put, f.shape);
}

/* ---- flat_nonzero, masks -------------------------------------------------------------------------------------------- */

/* The only shape that depends on values: they are there when an operation is recorded. */
static ad_status nonzero_shape(ad_call *call) {
    int64_t count;
    ad_shape one = call->in[0]->shape;
    for (int i = 0; i < one.rank; i++) one.dim[i] = 1;
    ad_view total = ad_view_of(&count, AD_I64, one);
    ad_kernel_count_nonzero(call->in[0], &total);
    ad_set_out(call, 0, AD_I64, AD_SHAPE(count));
    return AD_OK;
}

static ad_status nonzero_forward(ad_call *call) {
    ad_kernel_nonzero(call->in[0], &call->out[0]);
    return AD_OK;
}

static bool nonzero_sample(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_index(sample, shape, 2);
}

const ad_op ad_op_flat_nonzero = {
    .name = "flat_nonzero",
    .inputs = 1,
    .derivative = AD_NOT_DIFFERENTIABLE,
    .shape = nonzero_shape,
    .forward = nonzero_forward,
    .formula = "$y = where $0 is not 0",
    .sample = nonzero_sample,
};

ad_var ad_flat_nonzero_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_flat_nonzero, x, NULL); }

/* The mask in the shape of x; an invalid variable, and the error, if it does not broadcast to it. */
static ad_var stretched_mask(const char *where, ad_var x, ad_var mask, const char *subject) {
    ad_tape *tape = x.tape ? x.tape : mask.tape;
    if (!tape || !ad_tape_check_var(tape, x, subject, where, "x") ||
        !ad_tape_check_var(tape, mask, subject, where, "the mask"))
        return ad_var_invalid(tape);
    return ad_broadcast_to_at(where, mask, ad_node_shape(ad_node_at(tape, x.index)));
}

ad_var ad_masked_fill_at(const char *where, ad_var x, ad_var mask, double value) {
    mask = stretched_mask(where, x, mask, "ad_masked_fill");
    if (!ad_var_is_valid(mask)) return mask;
    ad_dtype dtype = (ad_dtype)ad_node_at(x.tape, x.index)->dtype;
    return ad_where_at(where, mask, ad_number_at(where, x.tape, dtype, value), x);
}

ad_var ad_masked_select_at(const char *where, ad_var x, ad_var mask) {
    mask = stretched_mask(where, x, mask, "ad_masked_select");
    if (!ad_var_is_valid(mask)) return mask;
    return ad_index_select_at(where, ad_reshape_at(where, x, AD_SHAPE(-1)), 0, ad_flat_nonzero_at(where, mask));
}

/* ---- one_hot ------------------------------------------------------------------------------------------------------- */

typedef struct one_hot_attrs {
    int64_t classes;
    ad_dtype dtype;
} one_hot_attrs;

static ad_status one_hot_shape(ad_call *call) {
    const one_hot_attrs *attrs = call->attrs;
    ad_shape shape = call->in[0]->shape;
    ad_status status = ad_need_integer(call, 0);
    if (status) return status;
    if (attrs->classes < 0) return ad_fail(call, AD_ERR_VALUE, "%lld classes", (long long)attrs->classes);
    if (!ad_dtype_size(attrs->dtype)) return ad_fail(call, AD_ERR_DTYPE, "%d is no dtype", (int)attrs->dtype);
    if (shape.rank == AD_MAX_RANK)
        return ad_fail(call, AD_ERR_LIMIT, "%s: the result would have more than %d axes", ad_describe(call, 0),
                       AD_MAX_RANK);
    shape.dim[shape.rank++] = attrs->classes;
    ad_set_out(call, 0, attrs->dtype, shape);
    return AD_OK;
}

static ad_status one_hot_forward(ad_call *call) {
    ad_status status = ad_need_indices(call, 0, ((const one_hot_attrs *)call->attrs)->classes);
    if (!status) ad_kernel_one_hot(call->in[0], &call->out[0]);
    return status;
}

static void show_one_hot(const void *attrs, char *text, size_t size) {
    const one_hot_attrs *one_hot = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%lld classes, %s", (long long)one_hot->classes, ad_dtype_name(one_hot->dtype));
}

static bool one_hot_sample(ad_sample *sample, int k) {
    ad_shape shape;
    *(one_hot_attrs *)(void *)sample->attrs.bytes = (one_hot_attrs){.classes = 3 + k, .dtype = AD_F64};
    return ad_sample_shape(k, &shape) && ad_sample_index(sample, shape, 3 + k);
}

const ad_op ad_op_one_hot = {
    .name = "one_hot",
    .inputs = 1,
    .attrs_size = sizeof(one_hot_attrs),
    .attrs = AD_ATTRS(AD_ATTR("classes", INT64, one_hot_attrs, classes, AD_REQUIRED),
                      AD_ATTR("dtype", DTYPE, one_hot_attrs, dtype, AD_USUALLY(AD_F64))),
    .derivative = AD_NOT_DIFFERENTIABLE,
    .shape = one_hot_shape,
    .forward = one_hot_forward,
    .formula = "$y = one-hot($0), $a",
    .show_attrs = show_one_hot,
    .sample = one_hot_sample,
};

ad_var ad_one_hot_at(const char *where, ad_var index, int64_t classes, ad_dtype dtype) {
    one_hot_attrs attrs = {.classes = classes, .dtype = dtype};
    return ad_apply_1(where, &ad_op_one_hot, index, &attrs);
}
