/* The op list, and what several families share. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>
#include <string.h>

const ad_op *const ad_builtin_ops[] = {
#define X(name) &ad_op_##name,
    AD_OP_LIST(X)
#undef X
        NULL};

/* ---- several cotangents at once ----------------------------------------------------------------------------------- */

bool ad_batches_always(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    (void)call, (void)adjoint, (void)seeds, (void)attrs;
    return true;
}

bool ad_batches_shape(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    const ad_shape own = call->out[0].shape;
    ad_shape *shape = attrs;
    (void)adjoint;
    *shape = (ad_shape){.rank = seeds->rank + 1, .dim = {seeds->count}};
    for (int i = 1; i < shape->rank; i++) {
        const int at = i - (shape->rank - own.rank);
        shape->dim[i] = at < 0 ? 1 : own.dim[at];
    }
    return true;
}

bool ad_batches_axis(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs) {
    ad_axis_attrs *own = attrs;
    (void)adjoint;
    if (call->in[0]->shape.rank == 0) return false;
    own->axis = ad_axis_with_seeds(call, seeds, own->axis);
    return true;
}

/* ---- checks ---------------------------------------------------------------------------------------------------- */

ad_status ad_need_float(ad_call *call, int i) {
    if (ad_dtype_is_float(call->in[i]->dtype)) return AD_OK;
    return ad_fail(call, AD_ERR_DTYPE, "%s, but it takes f32 or f64", ad_describe(call, i));
}

ad_status ad_need_integer(ad_call *call, int i) {
    ad_dtype dtype = call->in[i]->dtype;
    if (dtype == AD_I32 || dtype == AD_I64) return AD_OK;
    return ad_fail(call, AD_ERR_DTYPE, "%s, but indices are i32 or i64", ad_describe(call, i));
}

ad_status ad_need_same_dtype(ad_call *call, int i, int j) {
    if (call->in[i]->dtype == call->in[j]->dtype) return AD_OK;
    return ad_fail(call, AD_ERR_DTYPE, "dtypes differ: %s, %s; nothing is converted silently: make both of one dtype",
                   ad_describe(call, i), ad_describe(call, j));
}

ad_status ad_need_alike(ad_call *call, int i, int j, int axis) {
    ad_shape shape = call->in[j]->shape;
    ad_status status = ad_need_same_dtype(call, i, j);
    if (status) return status;
    if (shape.rank == call->in[i]->shape.rank) {
        shape.dim[axis] = call->in[i]->shape.dim[axis];
        if (ad_shape_equal(&shape, &call->in[i]->shape)) return AD_OK;
    }
    return ad_fail(call, AD_ERR_SHAPE, "shapes differ other than along axis %d: %s, %s", axis, ad_describe(call, i),
                   ad_describe(call, j));
}

/* `what` is that which has, or has not, the axis. */
static const char *bad_axis(char *text, size_t size, int axis, int rank, const char *what) {
    size_t length = 0;
    text[0] = '\0';
    if (rank == 0) {
        ad_text_add(text, size, &length, "axis %d: %s, which has no axes", axis, what);
    } else {
        ad_text_add(text, size, &length,
                    "axis %d is out of range: %s, so its axes are 0 to %d, or %d to -1 from the end", axis, what,
                    rank - 1, -rank);
    }
    return text;
}

int ad_need_axis(ad_call *call, int i, int axis) {
    char text[AD_TYPE_TEXT + 256];
    int rank = call->in[i]->shape.rank, index = ad_axis_index(axis, rank);
    if (index < 0) ad_fail(call, AD_ERR_INDEX, "%s", bad_axis(text, sizeof text, axis, rank, ad_describe(call, i)));
    return index;
}

ad_status ad_need_axes(ad_call *call, const ad_axes *axes) {
    if (axes->count >= 0 && axes->count <= AD_MAX_RANK) return AD_OK;
    return ad_fail(call, AD_ERR_INDEX, "a list of %d axes is outside 0..%d: make it with AD_AXES", axes->count,
                   AD_MAX_RANK);
}

ad_status ad_need_indices(ad_call *call, int i, int64_t bound) {
    const ad_view *index = call->in[i];
    int64_t bad = ad_kernels_get()->find_bad_index(index, bound);
    if (bad < 0) return AD_OK;
    char position[AD_TYPE_TEXT];
    size_t length = 0;
    ad_shape at = {.rank = index->shape.rank, .dim = {0}};
    int64_t rest = bad;
    for (int axis = at.rank - 1; axis >= 0; axis--) {
        at.dim[axis] = rest % index->shape.dim[axis];
        rest /= index->shape.dim[axis];
    }
    position[0] = '\0';
    ad_text_shape(position, sizeof position, &length, &at);
    return ad_fail(call, AD_ERR_INDEX, "index %.0f at %s%s is out of range: it must be at least 0 and below %lld",
                   ad_view_get(index, bad), ad_input_name(call, i), position, (long long)bound);
}

ad_status ad_shape_like_input(ad_call *call) {
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    return ad_need_float(call, 0);
}

ad_status ad_shape_broadcast_inputs(ad_call *call, int i, int j, ad_shape *shape) {
    if (ad_shape_broadcast(&call->in[i]->shape, &call->in[j]->shape, shape) == AD_OK) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE,
                   "shapes do not broadcast: %s, %s; aligned at the right, each pair of dimensions must be equal or "
                   "one of them 1",
                   ad_describe(call, i), ad_describe(call, j));
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

void ad_copy_any(const ad_view *from, const ad_view *to) {
    if (ad_dtype_is_float(from->dtype)) {
        ad_kernels_get()->copy(from, to, 1.0, false);
    } else {
        (void)!ad_view_copy(from, to);
    }
}

ad_view ad_scratch_view(ad_call *call, ad_dtype dtype, ad_shape shape) {
    size_t bytes = (size_t)ad_shape_count(&shape) * ad_dtype_size(dtype);
    return ad_view_of(ad_scratch(call, bytes ? bytes : 1), dtype, shape);
}

void *ad_row_major(ad_call *call, const ad_view *view) {
    if (ad_view_is_contiguous(view)) return view->data;
    ad_view copy = ad_scratch_view(call, view->dtype, view->shape);
    if (copy.data) ad_copy_any(view, &copy);
    return copy.data;
}

/* ---- composed constructors -------------------------------------------------------------------------------------------- */

int ad_composed_axis(ad_var x, int axis, const char *subject, const char *where, ad_shape *shape) {
    if (!ad_check_var(x, subject, where)) return -1;
    *shape = ad_node_shape(ad_node_at(x.tape, x.index));
    int index = ad_axis_index(axis, shape->rank);
    if (index < 0) {
        char type[AD_TYPE_TEXT + 128], text[AD_TYPE_TEXT + 256];
        ad_node_text(x.tape, x.index, true, type, sizeof type);
        ad_tape_fail(x.tape, AD_ERR_INDEX, subject, where, "%s",
                     bad_axis(text, sizeof text, axis, shape->rank, type));
    }
    return index;
}

bool ad_composed_axes(ad_var x, const ad_axes *axes, const char *subject, const char *where, ad_shape *shape,
                      unsigned *named) {
    if (!ad_check_var(x, subject, where)) return false;
    if (axes->count < 0 || axes->count > AD_MAX_RANK) {
        ad_tape_fail(x.tape, AD_ERR_INDEX, subject, where, "a list of %d axes is outside 0..%d: make it with AD_AXES",
                     axes->count, AD_MAX_RANK);
        return false;
    }
    *shape = ad_node_shape(ad_node_at(x.tape, x.index));
    *named = axes->count == 0 ? ~0u : 0;
    for (int i = 0; i < axes->count; i++) {
        int axis = ad_composed_axis(x, axes->axis[i], subject, where, shape);
        if (axis < 0) return false;
        if (*named & 1u << axis) {
            ad_tape_fail(x.tape, AD_ERR_INDEX, subject, where, "axis %d is named twice", axes->axis[i]);
            return false;
        }
        *named |= 1u << axis;
    }
    return true;
}

/* ---- attributes --------------------------------------------------------------------------------------------------- */

const ad_attr ad_axis_attr_list[] = {AD_ATTR("axis", INT, ad_axis_attrs, axis, AD_REQUIRED), AD_ATTRS_END};

void ad_show_axis(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "axis %d", ((const ad_axis_attrs *)attrs)->axis);
}

void ad_show_shape(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_shape(text, size, &length, attrs);
}

void ad_show_axes(const void *attrs, char *text, size_t size) {
    const ad_axes *axes = attrs;
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, axes->count ? "axes " : "all axes");
    for (int i = 0; i < axes->count; i++) ad_text_add(text, size, &length, "%s%d", i ? "," : "", axes->axis[i]);
}

/* ---- samples --------------------------------------------------------------------------------------------------------- */

bool ad_sample_shape(int k, ad_shape *shape) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4),    AD_SCALAR,      AD_SHAPE(5),
                               AD_SHAPE(2, 1, 3), AD_SHAPE(0, 3), AD_SHAPE(1)};
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *shape = shapes[k];
    return true;
}

bool ad_sample_shape_pair(int k, ad_shape *a, ad_shape *b) {
    const ad_shape pairs[][2] = {
        {AD_SHAPE(3, 4), AD_SHAPE(3, 4)},    {AD_SCALAR, AD_SCALAR},      {AD_SHAPE(3, 4), AD_SHAPE(4)},
        {AD_SHAPE(2, 1, 3), AD_SHAPE(4, 1)}, {AD_SCALAR, AD_SHAPE(2, 3)}, {AD_SHAPE(0, 3), AD_SHAPE(1, 3)},
        {AD_SHAPE(1), AD_SHAPE(5)},
    };
    if (k >= (int)(sizeof pairs / sizeof *pairs)) return false;
    *a = pairs[k][0];
    *b = pairs[k][1];
    return true;
}

void ad_sample_zeros(ad_sample *sample, int zeros) {
    const ad_view *view = ad_tensor_view(sample->input[sample->inputs - 1]);
    const size_t size = ad_dtype_size(view->dtype);
    for (int64_t i = 0; i < 3 * zeros && i < ad_view_count(view); i += 3)
        memset((char *)view->data + (size_t)i * size, 0, size);
}

bool ad_sample_one_normal(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_normal(sample, shape);
}

bool ad_sample_one_normal_with_constant(ad_sample *sample, int k) {
    sample->attrs.number[0] = -1.75;
    return ad_sample_one_normal(sample, k);
}

static bool one_uniform(ad_sample *sample, int k, double low, double high) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_uniform(sample, shape, low, high);
}

bool ad_sample_one_positive(ad_sample *sample, int k) { return one_uniform(sample, k, 0.2, 3.0); }
bool ad_sample_one_fraction(ad_sample *sample, int k) { return one_uniform(sample, k, 0.1, 0.9); }
bool ad_sample_one_inside_1(ad_sample *sample, int k) { return one_uniform(sample, k, -0.9, 0.9); }
bool ad_sample_one_above_1(ad_sample *sample, int k) { return one_uniform(sample, k, 1.2, 4.0); }

/* Uniform inside [n + 0.1, n + 0.9] for random n. A number that is all there is lies where no function is flat, or a
 * wrong derivative of that case would go unseen. */
bool ad_sample_one_away_from_integers(ad_sample *sample, int k) {
    ad_shape shape;
    bool alone = ad_sample_shape(k, &shape) && shape.rank == 0;
    if (!one_uniform(sample, k, alone ? 0.0 : -6.0, alone ? 3.0 : 9.0)) return false;
    const ad_view *x = ad_tensor_view(sample->input[sample->inputs - 1]);
    for (int64_t i = 0, n = ad_view_count(x); i < n; i++) {
        double value = ad_view_get(x, i), floor_value = floor(value);
        ad_element_set((char *)x->data + (size_t)i * ad_dtype_size(x->dtype), x->dtype,
                       floor_value + 0.1 + 0.8 * (value - floor_value));
    }
    return true;
}

bool ad_sample_one_positive_with_constant(ad_sample *sample, int k) {
    sample->attrs.number[0] = k % 2 ? -0.7 : 2.5;
    return ad_sample_one_positive(sample, k);
}

bool ad_sample_one_positive_with_order(ad_sample *sample, int k) {
    sample->attrs.number[0] = k % 3;
    return ad_sample_one_positive(sample, k);
}

bool ad_sample_one_away_from_0_with_constant(ad_sample *sample, int k) {
    sample->attrs.number[0] = 0.3;
    return ad_sample_one_away_from_0(sample, k);
}

bool ad_sample_one_away_from_bounds(ad_sample *sample, int k) {
    sample->attrs.number[0] = -1;
    sample->attrs.number[1] = 3;
    return ad_sample_one_away_from_integers(sample, k);
}

bool ad_sample_one_away_from_0(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_away(sample, shape, 0.0, 0.1);
}

bool ad_sample_two_normal(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_normal(sample, a) && ad_sample_normal(sample, b);
}

bool ad_sample_two_away_from_0(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_away(sample, a, 0.0, 0.1) &&
           ad_sample_away(sample, b, 0.0, 0.5);
}

bool ad_sample_two_positive(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_uniform(sample, a, 0.3, 2.5) &&
           ad_sample_uniform(sample, b, 0.3, 2.5);
}

/* One is negative where the other is positive, or the other way round. */
bool ad_sample_two_apart(ad_sample *sample, int k) {
    ad_shape a, b;
    double side = k % 2 ? 1.0 : -1.0;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_uniform(sample, a, 0.1 * side, 2.0 * side) &&
           ad_sample_uniform(sample, b, -2.0 * side, -0.1 * side);
}

bool ad_sample_two_modulo(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_uniform(sample, a, 5.2, 5.7) &&
           ad_sample_uniform(sample, b, 1.9, 2.1);
}

static bool two_same(ad_sample *sample, int k, double low, double high, double target_low, double target_high) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_uniform(sample, shape, low, high) &&
           ad_sample_uniform(sample, shape, target_low, target_high);
}

bool ad_sample_two_same_normal(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_normal(sample, shape) && ad_sample_normal(sample, shape);
}
bool ad_sample_two_same_apart(ad_sample *sample, int k) {
    return k % 2 ? two_same(sample, k, 0.1, 2, -2, -0.1) : two_same(sample, k, -2, -0.1, 0.1, 2);
}
bool ad_sample_two_same_fractions(ad_sample *sample, int k) { return two_same(sample, k, 0.1, 0.9, 0.05, 0.95); }
bool ad_sample_two_same_logits(ad_sample *sample, int k) { return two_same(sample, k, -3, 3, 0.05, 0.95); }
bool ad_sample_two_same_logs(ad_sample *sample, int k) { return two_same(sample, k, -4, -0.2, 0.05, 0.95); }
