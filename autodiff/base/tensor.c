/* Reference-counted tensors and the pool that keeps their memory. */
#include "autodiff/base/base.h"

#include <string.h>

enum {
    tensor_alignment = 64,
    /* Sizes 2^e, 1.25 * 2^e, 1.5 * 2^e, 1.75 * 2^e, from 2^8 on: at most a fifth is wasted. */
    smallest_exponent = 8,
    size_classes = (64 - smallest_exponent) * 4, /* a valid shape and its header stay below 2^63 bytes */
    header_bytes = (sizeof(ad_tensor) + tensor_alignment - 1) / tensor_alignment * tensor_alignment
};

struct ad_pool {
    const ad_allocator *allocator;
    int64_t outstanding;   /* tensors in use */
    uint64_t bytes;        /* of all blocks, in use or kept, and of this one */
    uint64_t in_use, peak; /* bytes of those in use, and the most there were */
    bool closed;
    ad_tensor *kept[size_classes]; /* linked through `base` */
};

static size_t class_bytes(int size_class) {
    int exponent = smallest_exponent + size_class / 4;
    return ((size_t)1 << exponent) + ((size_t)(size_class % 4) << (exponent - 2));
}

static int class_of(size_t bytes) {
    if (bytes <= (size_t)1 << smallest_exponent) return 0;
    int exponent = 63 - __builtin_clzll(bytes);
    size_t quarter = (size_t)1 << (exponent - 2);
    int part = (int)((bytes - ((size_t)1 << exponent) + quarter - 1) / quarter);
    return (exponent - smallest_exponent) * 4 + part;
}

ad_pool *ad_pool_new(const ad_allocator *allocator) {
    ad_pool *pool = ad_allocate(allocator, sizeof *pool, _Alignof(ad_pool));
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->allocator = allocator;
    pool->bytes = sizeof *pool;
    return pool;
}

static void pool_give_back_kept(ad_pool *pool) {
    for (int c = 0; c < size_classes; c++) {
        while (pool->kept[c]) {
            ad_tensor *tensor = pool->kept[c];
            pool->kept[c] = tensor->base;
            pool->bytes -= tensor->block;
            ad_release(pool->allocator, tensor, tensor->block);
        }
    }
}

static void pool_free_if_unused(ad_pool *pool) {
    if (pool->closed && pool->outstanding == 0) ad_release(pool->allocator, pool, sizeof *pool);
}

void ad_pool_close(ad_pool *pool) {
    if (!pool) return;
    pool_give_back_kept(pool);
    pool->closed = true;
    pool_free_if_unused(pool);
}

uint64_t ad_pool_bytes(const ad_pool *pool) { return pool->bytes; }

void ad_pool_use(const ad_pool *pool, uint64_t *in_use, uint64_t *peak) {
    *in_use = pool->in_use;
    *peak = pool->peak;
}

static ad_tensor *pool_block(ad_pool *pool, size_t bytes) {
    int c = class_of(bytes);
    ad_tensor *tensor = pool->kept[c];
    if (tensor) {
        pool->kept[c] = tensor->base;
    } else {
        size_t block = class_bytes(c);
        tensor = ad_allocate(pool->allocator, block, tensor_alignment);
        if (!tensor) {
            /* What is kept for other sizes may be what is missing. */
            pool_give_back_kept(pool);
            tensor = ad_allocate(pool->allocator, block, tensor_alignment);
            if (!tensor) return NULL;
        }
        tensor->block = block;
        tensor->size_class = c;
        tensor->allocator = pool->allocator;
        tensor->pool = pool;
        pool->bytes += block;
    }
    atomic_init(&tensor->refs, 1);
    tensor->base = NULL;
    tensor->release = NULL;
    pool->outstanding++;
    pool->in_use += tensor->block;
    if (pool->in_use > pool->peak) pool->peak = pool->in_use;
    return tensor;
}

/* One with memory for so many elements; the rest of its view is the caller's to set. */
static ad_tensor *pool_elements(ad_pool *pool, ad_dtype dtype, int64_t count) {
    ad_tensor *tensor = pool_block(pool, header_bytes + (size_t)count * ad_dtype_size(dtype));
    if (!tensor) return NULL;
    tensor->owns_data = true;
    tensor->dense = count;
    tensor->view.data = (char *)tensor + header_bytes;
    tensor->view.dtype = dtype;
    return tensor;
}

ad_tensor *ad_pool_tensor(ad_pool *pool, ad_dtype dtype, const ad_shape *shape) {
    ad_tensor *tensor = pool_elements(pool, dtype, ad_elements(shape));
    if (!tensor) return NULL;
    tensor->view.shape = *shape;
    ad_shape_strides(shape, tensor->view.stride);
    return tensor;
}

ad_tensor *ad_pool_like(ad_pool *pool, const ad_tensor *like) {
    if (like->dense < 0) return ad_pool_tensor(pool, like->view.dtype, &like->view.shape);
    ad_tensor *tensor = pool_elements(pool, like->view.dtype, like->dense);
    if (!tensor) return NULL;
    tensor->view.shape = like->view.shape;
    memcpy(tensor->view.stride, like->view.stride, sizeof tensor->view.stride);
    return tensor;
}

static void set_view(ad_tensor *tensor, const ad_view *view) {
    tensor->view = *view;
    tensor->dense = ad_view_is_contiguous(view) ? ad_view_count(view) : -1;
}

ad_tensor *ad_pool_alias(ad_pool *pool, ad_tensor *base, const ad_view *view) {
    ad_tensor *tensor = pool_block(pool, header_bytes);
    if (!tensor) return NULL;
    tensor->owns_data = false;
    set_view(tensor, view);
    tensor->base = ad_tensor_ref(base->base ? base->base : base);
    return tensor;
}

/* ---- tensors ---------------------------------------------------------------------------------------------- */

/* A block outside any pool. */
static ad_tensor *tensor_block(const ad_allocator *allocator, size_t bytes) {
    if (!allocator) allocator = ad_allocator_default();
    ad_tensor *tensor = ad_allocate(allocator, bytes, tensor_alignment);
    if (!tensor) return NULL;
    memset(tensor, 0, sizeof *tensor);
    atomic_init(&tensor->refs, 1);
    tensor->size_class = -1;
    tensor->block = bytes;
    tensor->allocator = allocator;
    return tensor;
}

static ad_status out_of_memory(ad_error *error, ad_dtype dtype, const ad_shape *shape) {
    char type[AD_TYPE_TEXT];
    return ad_error_set(error, AD_ERR_OOM, "out of memory for a tensor %s", ad_type_text(dtype, shape, type));
}

static ad_status check_type(ad_dtype dtype, const ad_shape *shape, ad_error *error) {
    char type[AD_TYPE_TEXT];
    if (!ad_dtype_size(dtype))
        return ad_error_set(error, AD_ERR_DTYPE, "unknown dtype %d: use AD_F32, AD_F64, AD_I32 or AD_I64",
                            (int)dtype);
    if (shape->rank < 0 || shape->rank > AD_MAX_RANK)
        return ad_error_set(error, AD_ERR_LIMIT, "rank %d is outside 0..%d", shape->rank, AD_MAX_RANK);
    for (int i = 0; i < shape->rank; i++)
        if (shape->dim[i] < 0)
            return ad_error_set(error, AD_ERR_SHAPE, "dimension %d of %s is negative", i,
                                ad_type_text(dtype, shape, type));
    if (ad_shape_count(shape) < 0)
        return ad_error_set(error, AD_ERR_LIMIT, "%s has more elements than the address space can hold",
                            ad_type_text(dtype, shape, type));
    return AD_OK;
}

static ad_status check_alignment(const ad_view *view, const char *function, ad_error *error) {
    if ((uintptr_t)view->data % ad_dtype_size(view->dtype) == 0) return AD_OK;
    return ad_error_set(error, AD_ERR_VALUE, "%s: the data is not aligned for %s", function,
                        ad_dtype_name(view->dtype));
}

ad_status ad_tensor_new(ad_tensor **out, const ad_allocator *allocator, ad_dtype dtype, ad_shape shape,
                        const void *data, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_tensor_new: out is NULL");
    *out = NULL;
    ad_status status = check_type(dtype, &shape, error);
    if (status) return status;
    size_t bytes = (size_t)ad_shape_count(&shape) * ad_dtype_size(dtype);
    ad_tensor *tensor = tensor_block(allocator, header_bytes + bytes);
    if (!tensor) return out_of_memory(error, dtype, &shape);
    tensor->owns_data = true;
    const ad_view view = ad_view_of((char *)tensor + header_bytes, dtype, shape);
    set_view(tensor, &view);
    if (data && bytes) {
        memcpy(tensor->view.data, data, bytes);
    } else {
        memset(tensor->view.data, 0, bytes);
    }
    *out = tensor;
    return AD_OK;
}

ad_status ad_tensor_wrap(ad_tensor **out, const ad_allocator *allocator, const ad_view *view,
                         void (*release)(void *user), void *user, ad_error *error) {
    if (!out || !view) return ad_error_set(error, AD_ERR_NULL, "ad_tensor_wrap: %s is NULL", out ? "view" : "out");
    *out = NULL;
    ad_status status = check_type(view->dtype, &view->shape, error);
    if (status) return status;
    if (!view->data && ad_view_count(view) > 0)
        return ad_error_set(error, AD_ERR_NULL, "ad_tensor_wrap: the view has elements but its data is NULL");
    status = check_alignment(view, "ad_tensor_wrap", error);
    if (status) return status;
    ad_tensor *tensor = tensor_block(allocator, header_bytes);
    if (!tensor) return out_of_memory(error, view->dtype, &view->shape);
    set_view(tensor, view);
    tensor->release = release;
    tensor->user = user;
    *out = tensor;
    return AD_OK;
}

/* The bytes that a non-empty view touches: [*low, *high) relative to its data. False if that overflows. */
static bool view_extent(const ad_view *view, int64_t *low, int64_t *high) {
    int64_t size = (int64_t)ad_dtype_size(view->dtype);
    *low = 0;
    *high = size;
    for (int i = 0; i < view->shape.rank; i++) {
        int64_t reach;
        if (__builtin_mul_overflow(view->stride[i], view->shape.dim[i] - 1, &reach) ||
            __builtin_mul_overflow(reach, size, &reach) ||
            __builtin_add_overflow(reach < 0 ? *low : *high, reach, reach < 0 ? low : high))
            return false;
    }
    return true;
}

static bool view_lies_inside(const ad_view *view, const ad_view *outer) {
    if (ad_view_count(view) == 0) return true;
    if (ad_view_count(outer) == 0) return false;
    int64_t low, high, outer_low, outer_high;
    if (!view_extent(view, &low, &high) || !view_extent(outer, &outer_low, &outer_high)) return false;
    int64_t offset = (int64_t)((uintptr_t)view->data - (uintptr_t)outer->data);
    return !__builtin_add_overflow(offset, low, &low) && !__builtin_add_overflow(offset, high, &high) &&
           low >= outer_low && high <= outer_high;
}

ad_status ad_tensor_alias(ad_tensor **out, ad_tensor *base, const ad_view *view, ad_error *error) {
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_tensor_alias: out is NULL");
    *out = NULL;
    if (!base || !view)
        return ad_error_set(error, AD_ERR_NULL, "ad_tensor_alias: %s is NULL", base ? "view" : "base");
    ad_status status = check_type(view->dtype, &view->shape, error);
    if (status) return status;
    if (view->dtype != base->view.dtype)
        return ad_error_set(error, AD_ERR_DTYPE, "ad_tensor_alias: a view as %s of a tensor of %s",
                            ad_dtype_name(view->dtype), ad_dtype_name(base->view.dtype));
    status = check_alignment(view, "ad_tensor_alias", error);
    if (status) return status;
    if (!view_lies_inside(view, &base->view))
        return ad_error_set(error, AD_ERR_INDEX, "ad_tensor_alias: the view reaches outside the tensor's memory");
    ad_tensor *tensor = tensor_block(base->allocator, header_bytes);
    if (!tensor) return out_of_memory(error, view->dtype, &view->shape);
    set_view(tensor, view);
    tensor->base = ad_tensor_ref(base->base ? base->base : base);
    *out = tensor;
    return AD_OK;
}

ad_tensor *ad_tensor_ref(ad_tensor *tensor) {
    if (tensor) atomic_fetch_add_explicit(&tensor->refs, 1, memory_order_relaxed);
    return tensor;
}

/* Gives one up; true if there was no other. Nobody can take one from a tensor of which this is the only one. */
static bool is_last_reference(ad_tensor *tensor) {
    return atomic_load_explicit(&tensor->refs, memory_order_acquire) == 1 ||
           atomic_fetch_sub_explicit(&tensor->refs, 1, memory_order_acq_rel) == 1;
}

void ad_tensor_unref(ad_tensor *tensor) {
    /* An alias holds its owner, and an owner nothing: two rounds at most. */
    while (tensor && is_last_reference(tensor)) {
        ad_tensor *base = tensor->base;
        ad_pool *pool = tensor->pool;
        if (tensor->release) tensor->release(tensor->user);
        if (!pool) {
            ad_release(tensor->allocator, tensor, tensor->block);
        } else {
            pool->outstanding--;
            pool->in_use -= tensor->block;
            if (pool->closed) {
                ad_release(tensor->allocator, tensor, tensor->block);
                pool_free_if_unused(pool);
            } else {
                tensor->base = pool->kept[tensor->size_class];
                pool->kept[tensor->size_class] = tensor;
            }
        }
        tensor = base;
    }
}

const ad_view *ad_tensor_view(const ad_tensor *tensor) { return tensor ? &tensor->view : NULL; }
