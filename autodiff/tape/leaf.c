/* Leaves: inputs, constants and parameters. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <string.h>

const ad_op ad_leaf_input = {.name = "input", .results = 1, .formula = "$y"};
const ad_op ad_leaf_constant = {.name = "constant", .results = 1, .derivative = AD_STOPS_GRADIENT, .formula = "$y"};
const ad_op ad_leaf_parameter = {.name = "parameter", .results = 1, .formula = "$y"};

/* Records a leaf. `value` 0-d: copied into the node; otherwise `tensor`, whose reference it takes, even when it fails. */
static ad_var push_leaf(ad_tape *tape, const char *where, const ad_op *op, const char *name, const ad_view *value,
                        ad_tensor *tensor, ad_param *param) {
    bool is_inline = value->shape.rank == 0;
    if (tape->where) where = tape->where;
    tape->held[0] = tensor;
    if (tape->numbers && !ad_numbers_in_leaf(tape, name && *name ? name : op->name, where, value)) {
        ad_tape_release_held(tape);
        return ad_var_invalid(tape);
    }
    ad_extra *extra = NULL;
    bool ok = ad_tape_room(tape, where, 1) && ad_list_reserve(&tape->owners, tape->allocator, 1) &&
              (!param || ad_list_reserve(&tape->params, tape->allocator, 1));
    if (ok && (param || (name && *name))) {
        extra = ad_arena_take(&tape->extras, sizeof *extra);
        /* A parameter's name lives as long as the parameter, which the tape keeps. */
        const char *copy = name && *name ? (param ? name : ad_arena_text(&tape->extras, name)) : NULL;
        ok = extra && (copy || !name || !*name);
        if (ok) *extra = (ad_extra){.name = copy, .param = param, .param_version = param ? param->version : 0};
    }
    if (!ok) {
        ad_tape_out_of_memory(tape, name && *name ? name : op->name, where);
        ad_tape_release_held(tape);
        return ad_var_invalid(tape);
    }
    tape->held[0] = NULL;
    ad_node *node = ad_tape_push(tape, where);
    uint32_t index = tape->count - 1;
    node->op = op;
    node->dtype = (uint8_t)value->dtype;
    node->extra = extra;
    bool wants_gradient = op != &ad_leaf_constant && ad_dtype_is_float(value->dtype) && !tape->no_grad;
    node->flags = (uint16_t)((is_inline ? AD_NODE_INLINE : 0) | (wants_gradient ? AD_NODE_GRAD : 0));
    if (is_inline) {
        memcpy(&node->value, value->data, ad_dtype_size(value->dtype));
        ad_tensor_unref(tensor);
    } else {
        node->value.tensor = tensor;
    }
    if (!is_inline || param) ad_list_push(&tape->owners, index);
    if (param) {
        ad_param_ref(param);
        ad_list_push(&tape->params, index);
    }
    return ad_var_of(tape, index);
}

static ad_var leaf_from_data(ad_tape *tape, const char *where, const ad_op *op, const char *name, ad_dtype dtype,
                             const ad_shape *shape, const void *data) {
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    char type[AD_TYPE_TEXT];
    const char *subject = name && *name ? name : op->name;
    if (!ad_dtype_size(dtype)) {
        ad_tape_fail(tape, AD_ERR_DTYPE, subject, where, "unknown dtype %d: use AD_F32, AD_F64, AD_I32 or AD_I64",
                     (int)dtype);
        return ad_var_invalid(tape);
    }
    int64_t count = ad_shape_count(shape);
    if (count < 0) {
        ad_tape_fail(tape, AD_ERR_LIMIT, subject, where,
                     "%s is not a possible shape: rank 0..%d, no negative dimension, and a size that fits memory",
                     ad_type_text(dtype, shape, type), AD_MAX_RANK);
        return ad_var_invalid(tape);
    }
    if (!data && count > 0) {
        ad_tape_fail(tape, AD_ERR_NULL, subject, where, "data is NULL, but %s has %lld elements",
                     ad_type_text(dtype, shape, type), (long long)count);
        return ad_var_invalid(tape);
    }
    if (shape->rank == 0) {
        ad_view value = ad_view_of((void *)data, dtype, *shape);
        return push_leaf(tape, where, op, name, &value, NULL, NULL);
    }
    ad_tensor *tensor = ad_pool_tensor(tape->pool, dtype, shape);
    if (!tensor) {
        ad_tape_out_of_memory(tape, subject, where);
        return ad_var_invalid(tape);
    }
    if (count > 0) memcpy(tensor->view.data, data, (size_t)count * ad_dtype_size(dtype));
    return push_leaf(tape, where, op, name, &tensor->view, tensor, NULL);
}

static ad_var leaf_from_tensor(ad_tape *tape, const char *where, const ad_op *op, const char *name,
                               ad_tensor *tensor) {
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    if (!tensor) {
        ad_tape_fail(tape, AD_ERR_NULL, name && *name ? name : op->name, where, "the tensor is NULL");
        return ad_var_invalid(tape);
    }
    return push_leaf(tape, where, op, name, &tensor->view, ad_tensor_ref(tensor), NULL);
}

ad_var ad_leaf_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                  const void *data) {
    return leaf_from_data(tape, where, &ad_leaf_input, name, dtype, &shape, data);
}

ad_var ad_leaf_tensor_at(const char *where, ad_tape *tape, const char *name, ad_tensor *value) {
    return leaf_from_tensor(tape, where, &ad_leaf_input, name, value);
}

ad_var ad_constant_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                      const void *data) {
    return leaf_from_data(tape, where, &ad_leaf_constant, name, dtype, &shape, data);
}

ad_var ad_constant_tensor_at(const char *where, ad_tape *tape, const char *name, ad_tensor *value) {
    return leaf_from_tensor(tape, where, &ad_leaf_constant, name, value);
}

ad_var ad_number_at(const char *where, ad_tape *tape, ad_dtype dtype, double value) {
    ad_shape scalar = AD_SCALAR;
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    return ad_tape_filled(tape, where, &ad_leaf_constant, dtype, &scalar, value);
}

ad_var ad_index_at(const char *where, ad_tape *tape, int64_t value) {
    ad_shape scalar = AD_SCALAR;
    return leaf_from_data(tape, where, &ad_leaf_constant, NULL, AD_I64, &scalar, &value);
}

ad_var ad_scalar_at(const char *where, ad_tape *tape, const char *name, double value) {
    ad_shape scalar = AD_SCALAR;
    return leaf_from_data(tape, where, &ad_leaf_input, name, AD_F64, &scalar, &value);
}

ad_var ad_tape_filled(ad_tape *tape, const char *where, const ad_op *kind, ad_dtype dtype, const ad_shape *shape,
                      double value) {
    if (shape->rank == 0) {
        ad_slot slot = {.f64 = 0};
        ad_element_set(&slot, dtype, value);
        return leaf_from_data(tape, where, kind, NULL, dtype, shape, &slot);
    }
    ad_tensor *tensor = tape->error.status ? NULL : ad_pool_tensor(tape->pool, dtype, shape);
    if (!tensor) {
        ad_tape_out_of_memory(tape, kind->name, where);
        return ad_var_invalid(tape);
    }
    ad_kernels_get()->fill(&tensor->view, value);
    return push_leaf(tape, where, kind, NULL, &tensor->view, tensor, NULL);
}

/* ---- parameters ------------------------------------------------------------------------------------------- */

ad_status ad_param_new(ad_param **out, const ad_allocator *allocator, const char *name, ad_dtype dtype,
                       ad_shape shape, const void *data, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_param_new: out is NULL");
    *out = NULL;
    if (!name) name = "";
    if (!ad_dtype_is_float(dtype))
        return ad_error_set(error, AD_ERR_DTYPE, "parameter %s: %s has no gradient; use AD_F32 or AD_F64", name,
                            ad_dtype_name(dtype));
    if (!allocator) allocator = ad_allocator_default();
    size_t length = strlen(name) + 1, size = sizeof(ad_param) + length;
    ad_tensor *value = NULL, *grad = NULL;
    ad_error cause = {AD_ERR_OOM, "out of memory"};
    ad_status status = ad_tensor_new(&value, allocator, dtype, shape, data, &cause);
    if (!status) status = ad_tensor_new(&grad, allocator, dtype, shape, NULL, &cause);
    ad_param *param = status ? NULL : ad_allocate(allocator, size, _Alignof(ad_param));
    if (!param) {
        ad_tensor_unref(value);
        ad_tensor_unref(grad);
        return ad_error_set(error, cause.status, "parameter %s: %s", name, cause.message);
    }
    memset(param, 0, sizeof *param);
    atomic_init(&param->refs, 1);
    param->allocator = allocator;
    param->value = value;
    param->grad = grad;
    param->few_rows = shape.rank > 0 && shape.dim[0] > 0; /* none yet */
    param->size = size;
    memcpy(param->name, name, length);
    *out = param;
    return AD_OK;
}

ad_param *ad_param_ref(ad_param *param) {
    if (param) atomic_fetch_add_explicit(&param->refs, 1, memory_order_relaxed);
    return param;
}

void ad_param_unref(ad_param *param) {
    if (!param || atomic_fetch_sub_explicit(&param->refs, 1, memory_order_acq_rel) != 1) return;
    ad_tensor_unref(param->value);
    ad_tensor_unref(param->grad);
    ad_list_free(&param->rows, param->allocator);
    ad_release(param->allocator, param, param->size);
}

const char *ad_param_name(const ad_param *param) { return param ? param->name : ""; }
const ad_view *ad_param_value(const ad_param *param) { return param ? &param->value->view : NULL; }
const ad_view *ad_param_gradient(const ad_param *param) { return param ? &param->grad->view : NULL; }

const ad_view *ad_param_edit(ad_param *param) {
    if (!param) return NULL;
    param->version++;
    return &param->value->view;
}

const ad_view *ad_param_edit_gradient(ad_param *param) {
    if (!param) return NULL;
    param->incomplete = false;
    param->few_rows = false;
    return &param->grad->view;
}

bool ad_param_gradient_is_complete(const ad_param *param) { return param && !param->incomplete; }

ad_var ad_param_put(const char *where, ad_tape *tape, ad_param *param) {
    ad_var leaf;
    if (ad_run_use(tape, param, where, &leaf)) return leaf;
    return push_leaf(tape, where, &ad_leaf_parameter, param->name, &param->value->view, ad_tensor_ref(param->value),
                     param);
}

ad_var ad_use_at(const char *where, ad_tape *tape, ad_param *param) {
    if (!tape || tape->error.status) return ad_var_invalid(tape);
    if (!param) {
        ad_tape_fail(tape, AD_ERR_NULL, "ad_use", where, "the parameter is NULL: did ad_param_new fail?");
        return ad_var_invalid(tape);
    }
    if (tape->frame && !ad_list_reserve(&tape->used, tape->allocator, 1)) {
        ad_tape_out_of_memory(tape, "ad_use", where);
        return ad_var_invalid(tape);
    }
    uint32_t end = tape->count;
    ad_var leaf = ad_param_put(where, tape, param);
    if (tape->frame && leaf.index >= end) ad_list_push(&tape->used, leaf.index);
    return leaf;
}
