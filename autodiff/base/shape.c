/* Dtypes, shapes and single elements. */
#include "autodiff/base/base.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[AD_DTYPE_COUNT] = {
    [AD_F32] = {"f32", 4}, [AD_F64] = {"f64", 8}, [AD_I32] = {"i32", 4}, [AD_I64] = {"i64", 8}};

const char *ad_dtype_name(ad_dtype dtype) { return (unsigned)dtype < AD_DTYPE_COUNT ? dtypes[dtype].name : "?"; }

size_t ad_dtype_size(ad_dtype dtype) { return (unsigned)dtype < AD_DTYPE_COUNT ? dtypes[dtype].size : 0; }

int64_t ad_shape_count(const ad_shape *shape) {
    /* Half the address space, so that byte offsets of either sign fit a ptrdiff_t. */
    const int64_t most = PTRDIFF_MAX / 2 / 8;
    if (!shape || shape->rank < 0 || shape->rank > AD_MAX_RANK) return -1;
    int64_t count = 1;
    bool empty = false;
    for (int i = 0; i < shape->rank; i++) {
        int64_t n = shape->dim[i];
        if (n < 0) return -1;
        if (n == 0) {
            empty = true;
        } else if (count > most / n) {
            return -1;
        } else {
            count *= n;
        }
    }
    return empty ? 0 : count;
}

bool ad_shape_equal(const ad_shape *a, const ad_shape *b) { return ad_same_shape(a, b); }

ad_status ad_shape_broadcast(const ad_shape *a, const ad_shape *b, ad_shape *out) {
    ad_shape result = {.rank = ad_max_int(a->rank, b->rank), .dim = {0}};
    for (int i = 1; i <= result.rank; i++) {
        int64_t m = i <= a->rank ? a->dim[a->rank - i] : 1;
        int64_t n = i <= b->rank ? b->dim[b->rank - i] : 1;
        if (m != n && m != 1 && n != 1) return AD_ERR_SHAPE;
        result.dim[result.rank - i] = m == 1 ? n : m;
    }
    *out = result;
    return ad_shape_count(&result) < 0 ? AD_ERR_LIMIT : AD_OK;
}

void ad_shape_strides(const ad_shape *shape, int64_t stride[AD_MAX_RANK]) {
    int64_t step = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape->dim[i] > 0 ? shape->dim[i] : 1;
    }
}

void ad_text_shape(char *buffer, size_t size, size_t *length, const ad_shape *shape) {
    ad_text_add(buffer, size, length, "[");
    if (shape->rank < 0 || shape->rank > AD_MAX_RANK) {
        ad_text_add(buffer, size, length, "rank %d", shape->rank);
    } else {
        for (int i = 0; i < shape->rank; i++)
            ad_text_add(buffer, size, length, "%s%lld", i ? "," : "", (long long)shape->dim[i]);
    }
    ad_text_add(buffer, size, length, "]");
}

const char *ad_type_text(ad_dtype dtype, const ad_shape *shape, char buffer[AD_TYPE_TEXT]) {
    size_t length = 0;
    ad_text_add(buffer, AD_TYPE_TEXT, &length, "%s", ad_dtype_name(dtype));
    ad_text_shape(buffer, AD_TYPE_TEXT, &length, shape);
    return buffer;
}

double ad_element_get(const void *data, ad_dtype dtype) {
    switch (dtype) {
    case AD_F32: return *(const float *)data;
    case AD_F64: return *(const double *)data;
    case AD_I32: return *(const int32_t *)data;
    case AD_I64: return (double)*(const int64_t *)data;
    default: return NAN;
    }
}

/* 2^63 is a double, INT64_MAX is not: compare against the power of two. */
static int64_t integer_of(double value, double low, double above) {
    if (isnan(value)) return 0;
    if (value < low) return (int64_t)low;
    if (value >= above) return above == 0x1p63 ? INT64_MAX : (int64_t)above - 1;
    return (int64_t)value;
}

void ad_element_set(void *data, ad_dtype dtype, double value) {
    switch (dtype) {
    case AD_F32: *(float *)data = (float)value; break;
    case AD_F64: *(double *)data = value; break;
    case AD_I32: *(int32_t *)data = (int32_t)integer_of(value, -0x1p31, 0x1p31); break;
    case AD_I64: *(int64_t *)data = integer_of(value, -0x1p63, 0x1p63); break;
    default: break;
    }
}
