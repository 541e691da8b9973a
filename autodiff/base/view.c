/* Views: other shapes of the same memory. */
#include "autodiff/base/base.h"

#include <string.h>

ad_view ad_view_of(void *data, ad_dtype dtype, ad_shape shape) {
    ad_view view = {.data = data, .dtype = dtype, .shape = shape, .stride = {0}};
    ad_shape_strides(&view.shape, view.stride);
    return view;
}

int64_t ad_view_count(const ad_view *view) { return ad_shape_count(&view->shape); }

bool ad_view_is_contiguous(const ad_view *view) {
    if (ad_view_count(view) == 0) return true;
    int64_t expected = 1;
    for (int i = view->shape.rank - 1; i >= 0; i--) {
        int64_t n = view->shape.dim[i];
        if (n != 1 && view->stride[i] != expected) return false;
        expected *= n;
    }
    return true;
}

ad_status ad_view_reshape(const ad_view *view, const ad_shape *shape, ad_view *out) {
    int64_t count = ad_view_count(view);
    if (ad_shape_count(shape) != count) return AD_ERR_SHAPE;
    ad_view result = ad_view_of(view->data, view->dtype, *shape);
    if (count == 0) {
        *out = result;
        return AD_OK;
    }
    /* Match groups of old axes with groups of new axes of equal product; inside a group, the old axes must step
     * through memory as one. */
    int rank = view->shape.rank, i = 0, j = 0;
    while (i < rank || j < shape->rank) {
        int i0 = i, j0 = j;
        int64_t old_count = i < rank ? view->shape.dim[i++] : 1;
        int64_t new_count = j < shape->rank ? shape->dim[j++] : 1;
        while (old_count != new_count) {
            if (old_count < new_count) {
                old_count *= view->shape.dim[i++];
            } else {
                new_count *= shape->dim[j++];
            }
        }
        int64_t step = 1, expected = 0;
        bool innermost = true;
        for (int k = i - 1; k >= i0; k--) {
            if (view->shape.dim[k] == 1) continue;
            if (innermost) {
                step = view->stride[k];
            } else if (view->stride[k] != expected) {
                return AD_ERR_VALUE;
            }
            innermost = false;
            expected = view->stride[k] * view->shape.dim[k];
        }
        for (int k = j - 1; k >= j0; k--) {
            result.stride[k] = step;
            step *= shape->dim[k];
        }
    }
    *out = result;
    return AD_OK;
}

ad_status ad_view_permute(const ad_view *view, const ad_axes *axes, ad_view *out) {
    int rank = view->shape.rank;
    if (axes->count != 0 && axes->count != rank) return AD_ERR_INDEX;
    ad_view result = *view;
    unsigned seen = 0;
    for (int i = 0; i < rank; i++) {
        int from = axes->count ? ad_axis_index(axes->axis[i], rank) : rank - 1 - i;
        if (from < 0 || (seen & 1u << from)) return AD_ERR_INDEX;
        seen |= 1u << from;
        result.shape.dim[i] = view->shape.dim[from];
        result.stride[i] = view->stride[from];
    }
    *out = result;
    return AD_OK;
}

ad_status ad_view_broadcast(const ad_view *view, const ad_shape *shape, ad_view *out) {
    int missing = shape->rank - view->shape.rank;
    if (missing < 0 || ad_shape_count(shape) < 0) return AD_ERR_SHAPE;
    ad_view result = {.data = view->data, .dtype = view->dtype, .shape = *shape, .stride = {0}};
    for (int i = missing; i < shape->rank; i++) {
        int64_t from = view->shape.dim[i - missing];
        if (from != shape->dim[i] && from != 1) return AD_ERR_SHAPE;
        result.stride[i] = from == 1 ? 0 : view->stride[i - missing];
    }
    *out = result;
    return AD_OK;
}

static int64_t clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

int64_t ad_slice_bound(int64_t at, int64_t n, int64_t step) {
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
    return clamp(at < 0 ? (at < -n ? low : at + n) : at, low, high);
}

ad_status ad_view_slice(const ad_view *view, int axis, int64_t start, int64_t stop, int64_t step, ad_view *out) {
    axis = ad_axis_index(axis, view->shape.rank);
    if (axis < 0) return AD_ERR_INDEX;
    if (step == 0) return AD_ERR_VALUE;
    int64_t n = view->shape.dim[axis];
    start = ad_slice_bound(start, n, step);
    stop = ad_slice_bound(stop, n, step);
    int64_t length = 0;
    if (step > 0 && stop > start) length = (stop - start - 1) / step + 1;
    /* -(step + 1) + 1 avoids negating INT64_MIN */
    if (step < 0 && start > stop)
        length = (int64_t)((uint64_t)(start - stop - 1) / ((uint64_t)(-(step + 1)) + 1)) + 1;
    ad_view result = *view;
    result.shape.dim[axis] = length;
    if (length > 0 && result.data)
        result.data = (char *)view->data + start * view->stride[axis] * (int64_t)ad_dtype_size(view->dtype);
    result.stride[axis] = length > 1 ? view->stride[axis] * step : view->stride[axis];
    *out = result;
    return AD_OK;
}

double ad_view_get(const ad_view *view, int64_t i) {
    int64_t offset = 0;
    for (int axis = view->shape.rank - 1; axis >= 0; axis--) {
        offset += i % view->shape.dim[axis] * view->stride[axis];
        i /= view->shape.dim[axis];
    }
    return ad_element_get((const char *)view->data + offset * (int64_t)ad_dtype_size(view->dtype), view->dtype);
}

ad_status ad_view_copy(const ad_view *from, const ad_view *to) {
    if (!ad_shape_equal(&from->shape, &to->shape)) return AD_ERR_SHAPE;
    if (!ad_dtype_size(from->dtype) || !ad_dtype_size(to->dtype)) return AD_ERR_DTYPE;
    bool same = from->dtype == to->dtype;
    int64_t from_size = (int64_t)ad_dtype_size(from->dtype), to_size = (int64_t)ad_dtype_size(to->dtype);
    const ad_view *views[] = {from, to};
    for (ad_walk w = ad_walk_start(2, views); w.more; ad_walk_next(&w)) {
        if (same && w.inner[0] == 1 && w.inner[1] == 1) {
            memcpy(w.at[1], w.at[0], (size_t)(w.n * to_size));
            continue;
        }
        for (int64_t i = 0; i < w.n; i++) {
            const char *source = w.at[0] + i * w.inner[0] * from_size;
            char *target = w.at[1] + i * w.inner[1] * to_size;
            if (same) {
                memcpy(target, source, (size_t)to_size);
            } else if (from->dtype == AD_I64 && to->dtype == AD_F32) {
                *(float *)target = (float)*(const int64_t *)source; /* through double it would round twice */
            } else {
                ad_element_set(target, to->dtype, ad_element_get(source, from->dtype));
            }
        }
    }
    return AD_OK;
}
