/* Attributes by name: reading and writing the members that an op describes. */
#include "autodiff/tape/tape.h"

#include <math.h>
#include <string.h>

/* ---- types ------------------------------------------------------------------------------------------------------- */

static const struct {
    size_t size;
    int least, most;  /* how many numbers it is */
    double low, high; /* of each; whole ones unless `any` */
    bool any;
    const char *what;
} types[] = {
    [AD_ATTR_DOUBLE] = {sizeof(double), 1, 1, 0, 0, true, "a number"},
    [AD_ATTR_INT64] = {sizeof(int64_t), 1, 1, -INFINITY, INFINITY, false, "a whole number"},
    [AD_ATTR_INT] = {sizeof(int), 1, 1, INT32_MIN, INT32_MAX, false, "a whole number"},
    [AD_ATTR_BOOL] = {sizeof(bool), 1, 1, 0, 1, false, "true or false"},
    [AD_ATTR_BIT] = {sizeof(unsigned), 1, 1, 0, 1, false, "true or false"},
    [AD_ATTR_DTYPE] = {sizeof(ad_dtype), 1, 1, 0, AD_DTYPE_COUNT - 1, false, "f32, f64, i32 or i64"},
    [AD_ATTR_SHAPE] = {sizeof(ad_shape), 0, AD_MAX_RANK, -INFINITY, INFINITY, false,
                       "a shape of up to 8 whole numbers"},
    [AD_ATTR_AXES] = {sizeof(ad_axes), 0, AD_MAX_RANK, INT32_MIN, INT32_MAX, false, "a list of up to 8 axes"},
    [AD_ATTR_PAIR] = {2 * sizeof(int64_t), 1, 2, -INFINITY, INFINITY, false, "a whole number, or two of them"},
};

static bool is_type(ad_attr_type type) { return (size_t)type < sizeof types / sizeof *types; }

const char *ad_attrs_flaw(const ad_op *op) {
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++) {
        if (!is_type(attr->type)) return ".attrs has one whose type is none of ad_attr_type";
        if (types[attr->type].size > op->attrs_size || attr->offset > op->attrs_size - types[attr->type].size)
            return ".attrs has one that does not lie within .attrs_size";
    }
    return NULL;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

/* Beyond its ends an integer stays at them: they stand for infinity. */
static int64_t to_integer(double value) {
    if (value >= 0x1p63) return INT64_MAX;
    return value < -0x1p63 ? INT64_MIN : (int64_t)value;
}

static double from_integer(int64_t value) {
    if (value == INT64_MAX) return INFINITY;
    return value == INT64_MIN ? -INFINITY : (double)value;
}

static void store(const ad_attr *attr, void *attrs, int n, const double *values) {
    char *at = (char *)attrs + attr->offset;
    ad_shape shape = {.rank = n, .dim = {0}};
    ad_axes axes = {.count = n, .axis = {0}};
    int64_t pair[2];
    switch (attr->type) {
    case AD_ATTR_DOUBLE: memcpy(at, values, sizeof(double)); break;
    case AD_ATTR_INT64: memcpy(at, &(int64_t){to_integer(values[0])}, sizeof(int64_t)); break;
    case AD_ATTR_INT: memcpy(at, &(int){(int)values[0]}, sizeof(int)); break;
    case AD_ATTR_BOOL: memcpy(at, &(bool){values[0] != 0}, sizeof(bool)); break;
    case AD_ATTR_BIT: {
        unsigned bits;
        memcpy(&bits, at, sizeof bits);
        bits = values[0] != 0 ? bits | attr->bit : bits & ~attr->bit;
        memcpy(at, &bits, sizeof bits);
        break;
    }
    case AD_ATTR_DTYPE: memcpy(at, &(ad_dtype){(ad_dtype)values[0]}, sizeof(ad_dtype)); break;
    case AD_ATTR_SHAPE:
        for (int i = 0; i < n; i++) shape.dim[i] = to_integer(values[i]);
        memcpy(at, &shape, sizeof shape);
        break;
    case AD_ATTR_AXES:
        for (int i = 0; i < n; i++) axes.axis[i] = (int)values[i];
        memcpy(at, &axes, sizeof axes);
        break;
    case AD_ATTR_PAIR:
        for (int i = 0; i < 2; i++) pair[i] = to_integer(values[n == 2 ? i : 0]);
        memcpy(at, pair, sizeof pair);
        break;
    }
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

void ad_attrs_init(const ad_op *op, void *attrs) {
    if (!op || !attrs) return;
    memset(attrs, 0, op->attrs_size);
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++)
        if (attr->is_optional && is_type(attr->type)) store(attr, attrs, types[attr->type].least, &attr->usual);
}

const ad_attr *ad_attr_find(const ad_op *op, const char *name) {
    if (!op || !name) return NULL;
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++)
        if (strcmp(attr->name, name) == 0) return attr;
    return NULL;
}

ad_status ad_attr_set(const ad_attr *attr, void *attrs, int n, const double *values, ad_error *error) {
    if (!attr || !attr->name || !attrs || (n > 0 && !values))
        return ad_error_set(error, AD_ERR_NULL, "ad_attr_set: %s is NULL",
                            !attr || !attr->name ? "the attribute"
                            : attrs              ? "values"
                                                 : "attrs");
    if (!is_type(attr->type)) return ad_error_set(error, AD_ERR_OP, "attribute %s has no type", attr->name);
    if (n < types[attr->type].least || n > types[attr->type].most)
        return ad_error_set(error, AD_ERR_VALUE, "%s is %s, but was given %d numbers", attr->name,
                            types[attr->type].what, n);
    for (int i = 0; i < n && !types[attr->type].any; i++) {
        if (values[i] >= types[attr->type].low && values[i] <= types[attr->type].high && values[i] == rint(values[i]))
            continue;
        return ad_error_set(error, AD_ERR_VALUE, "%s is %s, but was given %g", attr->name, types[attr->type].what,
                            values[i]);
    }
    store(attr, attrs, n, values);
    return AD_OK;
}

int ad_attr_get(const ad_attr *attr, const void *attrs, double values[AD_MAX_RANK]) {
    if (!attr || !attr->name || !attrs || !values || !is_type(attr->type)) return 0;
    union {
        double number;
        int64_t integer[2];
        int small;
        bool flag;
        unsigned bits;
        ad_dtype dtype;
        ad_shape shape;
        ad_axes axes;
    } as;
    memcpy(&as, (const char *)attrs + attr->offset, types[attr->type].size);
    int n = 1;
    switch (attr->type) {
    case AD_ATTR_DOUBLE: values[0] = as.number; break;
    case AD_ATTR_INT64: values[0] = from_integer(as.integer[0]); break;
    case AD_ATTR_INT: values[0] = as.small; break;
    case AD_ATTR_BOOL: values[0] = as.flag; break;
    case AD_ATTR_BIT: values[0] = (as.bits & attr->bit) != 0; break;
    case AD_ATTR_DTYPE: values[0] = as.dtype; break;
    case AD_ATTR_SHAPE:
        n = ad_max_int(ad_min_int(as.shape.rank, AD_MAX_RANK), 0);
        for (int i = 0; i < n; i++) values[i] = from_integer(as.shape.dim[i]);
        break;
    case AD_ATTR_AXES:
        n = ad_max_int(ad_min_int(as.axes.count, AD_MAX_RANK), 0);
        for (int i = 0; i < n; i++) values[i] = as.axes.axis[i];
        break;
    case AD_ATTR_PAIR:
        n = 2;
        for (int i = 0; i < n; i++) values[i] = from_integer(as.integer[i]);
        break;
    }
    return n;
}
