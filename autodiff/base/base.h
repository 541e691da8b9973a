/* Inside the base layer: what the library's other layers use of it beyond the public header. */
#ifndef AD_BASE_INTERNAL_H
#define AD_BASE_INTERNAL_H

#include <adtape/base.h>

#include <stdarg.h>
#include <stdatomic.h>

#define AD_LIKELY(x)   __builtin_expect(!!(x), 1)
#define AD_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline int ad_min_int(int a, int b) { return a < b ? a : b; }
static inline int ad_max_int(int a, int b) { return a > b ? a : b; }

/* Appends formatted text at `*length` of a buffer of `size` bytes, which stays terminated; what does not fit is
 * replaced by "...", *length is then `size`, and nothing more is added. */
void ad_text_add(char *buffer, size_t size, size_t *length, const char *format, ...) AD_PRINTF(4, 5);
void ad_text_add_v(char *buffer, size_t size, size_t *length, const char *format, va_list args);
void ad_text_shape(char *buffer, size_t size, size_t *length, const ad_shape *shape); /* "[4,3]" */

ad_status ad_error_set_v(ad_error *error, ad_status status, const char *format, va_list args);

static inline void *ad_allocate(const ad_allocator *allocator, size_t size, size_t alignment) {
    return allocator->allocate(allocator->user, size, alignment);
}
static inline void ad_release(const ad_allocator *allocator, void *memory, size_t size) {
    if (memory) allocator->release(allocator->user, memory, size);
}

/* ---- shapes ---------------------------------------------------------------------------------------------- */

/* The axis counted from the front, or -1 if it is out of range. */
static inline int ad_axis_index(int axis, int rank) {
    return axis >= 0 ? (axis < rank ? axis : -1) : (axis >= -rank ? axis + rank : -1);
}
/* Where the start or the stop of a slice of n elements lies: counted from the end if negative, and not beyond either end. */
int64_t ad_slice_bound(int64_t at, int64_t n, int64_t step);
/* Makes it one of n numbers in a row; writes no more than that takes. */
static inline void ad_view_flatten(ad_view *view, void *data, ad_dtype dtype, int64_t n) {
    view->data = data;
    view->dtype = dtype;
    view->shape.rank = 1;
    view->shape.dim[0] = n;
    view->stride[0] = 1;
}
/* How many elements a shape that is known to be valid has: ad_shape_count without looking for an overflow. */
static inline int64_t ad_elements(const ad_shape *shape) {
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) count *= shape->dim[i];
    return count;
}
/* ad_shape_equal, without a call. */
static inline bool ad_same_shape(const ad_shape *a, const ad_shape *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}
/* Row-major strides, in elements. */
void ad_shape_strides(const ad_shape *shape, int64_t stride[AD_MAX_RANK]);
/* A valid element of any dtype at `data`, as double. */
double ad_element_get(const void *data, ad_dtype dtype);
void ad_element_set(void *data, ad_dtype dtype, double value);

/* ---- loops over strided memory --------------------------------------------------------------------------- */

/* Steps through the index space of up to five arrays of one shape in row-major order. Neighbouring axes are merged
 * where all strides allow it, axes of size 1 dropped; the innermost is left to the caller as a loop of `n` elements
 * with strides `inner`:
 *
 *     for (ad_walk w = ad_walk_start(2, views); w.more; ad_walk_next(&w))
 *         for (int64_t i = 0; i < w.n; i++) ... ((float *)w.at[0])[i * w.inner[0]] ... */
#define AD_WALK_MAX 5
typedef struct ad_walk {
    bool more;
    int64_t n;
    char *at[AD_WALK_MAX];
    int64_t inner[AD_WALK_MAX]; /* in elements */
    int arrays, rank;           /* rank of what is outside the inner loop */
    int64_t dim[AD_MAX_RANK], index[AD_MAX_RANK];
    int64_t step[AD_WALK_MAX][AD_MAX_RANK]; /* in bytes */
} ad_walk;
void ad_walk_merge_axes(ad_walk *walk, const ad_view *const *views);
static inline ad_walk ad_walk_start(int arrays, const ad_view *const *views) {
    ad_walk w;
    const int rank = views[0]->shape.rank;
    w.arrays = arrays;
    w.rank = 0;
    w.n = rank == 1 ? views[0]->shape.dim[0] : 1;
    w.more = w.n > 0;
    for (int k = 0; k < arrays; k++) {
        w.at[k] = (char *)views[k]->data;
        w.inner[k] = w.n != 1 ? views[k]->stride[0] : 0;
    }
    if (rank > 1) ad_walk_merge_axes(&w, views);
    return w;
}
void ad_walk_next(ad_walk *walk);
/* As many times ad_walk_next, of a walk that has just begun. There is more than that. */
void ad_walk_skip(ad_walk *walk, int64_t times);

/* ---- work for several threads ---------------------------------------------------------------------------- */

enum { AD_MAX_THREADS = 128 };

/* Does items [from, to). Nothing that it computes may depend on how they were cut, nor on `worker`, which is only there
 * to tell scratch memory apart: below the number that ad_parallel was given, and another one in each thread. */
typedef void ad_work(const void *context, int64_t from, int64_t to, int worker);

/* How many threads should share `count` items, if `grain` of them (at most 2^40) are work for a microsecond or two: one
 * for most calls, which find out at no cost. */
extern atomic_bool ad_parallel_forced; /* for tests: share all there is, between as many threads as are allowed */
int ad_parallel_workers_for(int64_t grains);
static inline int ad_parallel_workers(int64_t count, int64_t grain) {
    if (AD_UNLIKELY(atomic_load_explicit(&ad_parallel_forced, memory_order_relaxed)))
        return ad_parallel_workers_for(count);
    return count < 2 * grain ? 1 : ad_parallel_workers_for(count / grain);
}

/* Calls `work` for all items, by at most `workers` threads, the caller's among them, and returns when all is done. Never
 * fails; without other threads it is one call. Inside of `work`, it does everything in the calling thread. Threads that
 * sleep are woken if there are enough `grains`. */
void ad_parallel(int workers, int64_t count, int64_t grains, ad_work *work, const void *context);

uint64_t ad_parallel_regions(void); /* calls so far that were shared */
int ad_processors(void);            /* cores that this process may use */

/* ---- arena ----------------------------------------------------------------------------------------------- */

/* Memory that is given back all at once, or down to a position. Never moves, keeps its chunks for the next use. */
typedef struct ad_arena {
    const ad_allocator *allocator;
    struct ad_arena_chunk *first, *current;
    size_t used;     /* of the current chunk */
    uint64_t before; /* sizes of the chunks before the current one, summed */
    uint64_t bytes;  /* of all chunks */
} ad_arena;
void ad_arena_open(ad_arena *arena, const ad_allocator *allocator);
void ad_arena_close(ad_arena *arena);
void *ad_arena_take(ad_arena *arena, size_t size); /* aligned to 16; NULL if out of memory */
char *ad_arena_text(ad_arena *arena, const char *text);
static inline uint64_t ad_arena_position(const ad_arena *arena) { return arena->before + arena->used; }
void ad_arena_rewind(ad_arena *arena, uint64_t position);

/* ---- growing array of 32-bit numbers ---------------------------------------------------------------------- */

typedef struct ad_list {
    uint32_t *item;
    size_t count, room;
} ad_list;
bool ad_list_grow(ad_list *list, const ad_allocator *allocator, size_t more);
/* Room for `more` pushes. */
static inline bool ad_list_reserve(ad_list *list, const ad_allocator *allocator, size_t more) {
    return AD_LIKELY(list->room - list->count >= more) || ad_list_grow(list, allocator, more);
}
static inline void ad_list_push(ad_list *list, uint32_t item) { list->item[list->count++] = item; }
void ad_list_free(ad_list *list, const ad_allocator *allocator);

/* ---- tensors and their pool -------------------------------------------------------------------------------- */

struct ad_tensor {
    ad_view view;
    int64_t dense; /* how many elements it has, if they lie row-major; else -1 */
    atomic_uint refs;
    int size_class; /* of the pool; -1: straight from the allocator */
    size_t block;   /* bytes of header and data together */
    const ad_allocator *allocator;
    struct ad_pool *pool;        /* NULL: none */
    ad_tensor *base;             /* an alias keeps the owner of its memory alive */
    void (*release)(void *user); /* of wrapped memory */
    void *user;
    bool owns_data; /* the data follow this header */
};

/* Keeps released tensors by size for the next request. Not thread-safe: one per tape. Lives until it is closed and
 * its last tensor is released. */
typedef struct ad_pool ad_pool;
ad_pool *ad_pool_new(const ad_allocator *allocator);
void ad_pool_close(ad_pool *pool);
uint64_t ad_pool_bytes(const ad_pool *pool);
/* Of tensors that somebody refers to: bytes now, and the most there were. */
void ad_pool_use(const ad_pool *pool, uint64_t *in_use, uint64_t *peak);

/* A row-major tensor whose elements hold garbage; the shape must be valid. NULL if out of memory. */
ad_tensor *ad_pool_tensor(ad_pool *pool, ad_dtype dtype, const ad_shape *shape);
ad_tensor *ad_pool_like(ad_pool *pool, const ad_tensor *tensor); /* one of its type */
/* Another view of `base`, not checked. NULL if out of memory. */
ad_tensor *ad_pool_alias(ad_pool *pool, ad_tensor *base, const ad_view *view);

/* Nobody else sees this memory, so it may be written in place. */
static inline bool ad_tensor_is_unique(const ad_tensor *tensor) {
    return tensor->owns_data && atomic_load_explicit(&tensor->refs, memory_order_acquire) == 1;
}

#endif
