/* adtape/base.h: status, errors, memory, shapes, tensors and random numbers. Nothing here knows of a tape.
 *
 *   view     where an n-d array lies in memory: data, dtype, shape, strides. Plain data, owns nothing.
 *   tensor   a reference-counted owner of memory with a view of it. */
#ifndef ADTAPE_BASE_H
#define ADTAPE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <initializer_list>
#endif

#if defined(_WIN32)
#define AD_API
#else
#define AD_API __attribute__((visibility("default")))
#endif
#if defined(__GNUC__)
#define AD_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#define AD_MUST_CHECK          __attribute__((warn_unused_result))
#else
#define AD_PRINTF(text, first)
#define AD_MUST_CHECK
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status and errors ---------------------------------------------------------------------------------- */

typedef enum ad_status {
    AD_OK = 0,
    AD_ERR_OOM,     /* the allocator returned NULL */
    AD_ERR_NULL,    /* a required pointer is NULL */
    AD_ERR_HANDLE,  /* a variable or mark that is stale, invalid or of another tape */
    AD_ERR_SHAPE,   /* shapes do not fit the operation */
    AD_ERR_DTYPE,   /* dtypes differ, or the operation does not take this one */
    AD_ERR_INDEX,   /* an axis or an element index is out of range */
    AD_ERR_VALUE,   /* an argument has a value that makes no sense */
    AD_ERR_LIMIT,   /* a size overflows, or a limit (rank, nodes, depth) is passed */
    AD_ERR_NOGRAD,  /* a gradient was asked for where none exists */
    AD_ERR_CHANGED, /* a parameter was changed between its use and the backward pass, or a function that runs again in it
                     * (checkpoint.h) did something else */
    AD_ERR_OP,      /* an op descriptor is invalid, unknown, or broke its own declaration */
    AD_ERR_CHECK,   /* a gradient check found a wrong derivative */
    AD_ERR_IO,      /* a stream could not be written */
    AD_ERR_NUMBER,  /* a NaN or an infinity, on a tape that checks for them */
    AD_STATUS_COUNT
} ad_status;

/* "AD_ERR_SHAPE" and so on; "unknown status" for anything else. Never NULL. */
AD_API const char *ad_status_name(ad_status status);

/* A status with its message, owned by the caller. Functions that take an `ad_error *` accept NULL. */
typedef struct ad_error {
    ad_status status;
    char message[1024]; /* UTF-8, "" when status is AD_OK */
} ad_error;

/* Fills `error` (which may be NULL) and returns `status`, so that a failing function ends in one line. A message
 * that does not fit ends in "...". */
AD_API ad_status ad_error_set(ad_error *error, ad_status status, const char *format, ...) AD_PRINTF(3, 4);

/* ---- memory --------------------------------------------------------------------------------------------- */

/* Where memory comes from. The struct must outlive everything made with it. Both functions may be called from
 * any thread that uses objects made with this allocator. */
typedef struct ad_allocator {
    /* `size` > 0 bytes aligned to `alignment` (a power of two, at most 4096), or NULL. */
    void *(*allocate)(void *user, size_t size, size_t alignment);
    /* `memory` and `size` as they were allocated; never NULL. */
    void (*release)(void *user, void *memory, size_t size);
    void *user; /* handed to both */
} ad_allocator;

/* The C library's allocator, used wherever an `ad_allocator *` is NULL. */
AD_API const ad_allocator *ad_allocator_default(void);

/* ---- dtypes and shapes ---------------------------------------------------------------------------------- */

typedef enum ad_dtype { AD_F32, AD_F64, AD_I32, AD_I64, AD_DTYPE_COUNT } ad_dtype;

AD_API const char *ad_dtype_name(ad_dtype dtype); /* "f32", "f64", "i32", "i64"; "?" for anything else */
AD_API size_t ad_dtype_size(ad_dtype dtype);      /* bytes per element; 0 for anything else */
static inline bool ad_dtype_is_float(ad_dtype dtype) { return dtype == AD_F32 || dtype == AD_F64; }

#define AD_MAX_RANK 8

/* AD_SHAPE(2, 3) is a 2x3 matrix; AD_SCALAR has rank 0 and one element; a dimension may be 0. */
typedef struct ad_shape {
    int rank;
    int64_t dim[AD_MAX_RANK];
} ad_shape;

/* A list of axes; negative ones count from the end; AD_ALL_AXES (the empty list) means every axis. */
typedef struct ad_axes {
    int count;
    int axis[AD_MAX_RANK];
} ad_axes;

#ifdef __cplusplus
#define AD_SHAPE(...) (ad_shape{(int)std::initializer_list<int64_t>{__VA_ARGS__}.size(), {__VA_ARGS__}})
#define AD_AXES(...)  (ad_axes{(int)std::initializer_list<int>{__VA_ARGS__}.size(), {__VA_ARGS__}})
#define AD_SCALAR     (ad_shape{})
#define AD_ALL_AXES   (ad_axes{})
#else
#define AD_SHAPE(...)                                                                                                \
    ((ad_shape){.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = {__VA_ARGS__}})
#define AD_AXES(...) ((ad_axes){.count = (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), .axis = {__VA_ARGS__}})
#define AD_SCALAR    ((ad_shape){.rank = 0, .dim = {0}})
#define AD_ALL_AXES  ((ad_axes){.count = 0, .axis = {0}})
#endif

/* The number of elements, or -1 if the shape is invalid: a rank out of 0..8, a negative dimension, or a product
 * that (with elements of 8 bytes) does not fit the address space. */
AD_API int64_t ad_shape_count(const ad_shape *shape);
AD_API bool ad_shape_equal(const ad_shape *a, const ad_shape *b);
/* NumPy's rule: align at the right; a dimension of 1 stretches. AD_ERR_SHAPE if the two do not fit; AD_ERR_LIMIT if
 * they do, but *out has more elements than the address space can hold. */
AD_API ad_status ad_shape_broadcast(const ad_shape *a, const ad_shape *b, ad_shape *out);
/* "f64[4,3]", "i64[]", into `buffer`, which is returned. */
#define AD_TYPE_TEXT 208
AD_API const char *ad_type_text(ad_dtype dtype, const ad_shape *shape, char buffer[AD_TYPE_TEXT]);

/* ---- views ---------------------------------------------------------------------------------------------- */

typedef struct ad_view {
    void *data; /* the element at index (0, ..., 0); may be NULL when there are no elements */
    ad_dtype dtype;
    ad_shape shape;
    int64_t stride[AD_MAX_RANK]; /* in elements; 0 where broadcast, negative allowed */
} ad_view;

/* A row-major view of `data`. The shape must be valid. */
AD_API ad_view ad_view_of(void *data, ad_dtype dtype, ad_shape shape);
AD_API int64_t ad_view_count(const ad_view *view);
AD_API bool ad_view_is_contiguous(const ad_view *view); /* row-major without gaps */

/* The transformations below write another view of the same memory to `out` (which may be `view`). */

/* A view with `shape`, if the strides allow it without copying; AD_ERR_SHAPE if the counts differ, AD_ERR_VALUE if
 * only a copy could do it. */
AD_API ad_status ad_view_reshape(const ad_view *view, const ad_shape *shape, ad_view *out);
/* Axis i of the result is axis `axes->axis[i]` of `view`; every axis exactly once; the empty list reverses. */
AD_API ad_status ad_view_permute(const ad_view *view, const ad_axes *axes, ad_view *out);
AD_API ad_status ad_view_broadcast(const ad_view *view, const ad_shape *shape, ad_view *out);
/* Elements start, start + step, ... before `stop` along `axis`. Negative start and stop count from the end, both
 * are then clamped as Python does; `step` may be negative, not 0. */
AD_API ad_status ad_view_slice(const ad_view *view, int axis, int64_t start, int64_t stop, int64_t step,
                               ad_view *out);

/* Element number `i` in row-major order, converted to double. The index must be in range. */
AD_API double ad_view_get(const ad_view *view, int64_t i);
/* Copies with conversion; shapes must be equal (AD_ERR_SHAPE). Overlap gives unspecified values. Float to integer
 * truncates; a value out of the integer's range becomes the nearest end of it, NaN becomes 0. */
AD_API ad_status ad_view_copy(const ad_view *from, const ad_view *to);

/* ---- tensors -------------------------------------------------------------------------------------------- */

typedef struct ad_tensor ad_tensor;

/* A new row-major tensor with one reference, filled from `data` (row-major, of `dtype`), with zeros if NULL.
 * `allocator` NULL: the default. Errors: AD_ERR_SHAPE, AD_ERR_LIMIT, AD_ERR_DTYPE, AD_ERR_OOM; *out is then NULL. */
AD_API ad_status ad_tensor_new(ad_tensor **out, const ad_allocator *allocator, ad_dtype dtype, ad_shape shape,
                               const void *data, ad_error *error);
/* A tensor on memory of the caller's. `release(user)`, unless NULL, is called when the last reference goes. */
AD_API ad_status ad_tensor_wrap(ad_tensor **out, const ad_allocator *allocator, const ad_view *view,
                                void (*release)(void *user), void *user, ad_error *error);
/* Another view of a tensor's memory, which it keeps alive. `view` must lie inside it (AD_ERR_INDEX), and be aligned
 * (AD_ERR_VALUE). */
AD_API ad_status ad_tensor_alias(ad_tensor **out, ad_tensor *base, const ad_view *view, ad_error *error);

/* Reference counts are atomic; NULL is allowed. Tensors that came out of a tape belong to that tape's thread. */
AD_API ad_tensor *ad_tensor_ref(ad_tensor *tensor);
AD_API void ad_tensor_unref(ad_tensor *tensor);
AD_API const ad_view *ad_tensor_view(const ad_tensor *tensor); /* lives as long as the tensor; NULL for NULL */

/* ---- threads -------------------------------------------------------------------------------------------- */

/* How many threads, the caller's among them, share the work of large operations. They are the process's, whatever the
 * number of tapes; no result depends on how many there are. 1: none are started; 0: the default, which is the environment
 * variable ADTAPE_THREADS, else OMP_NUM_THREADS, else the processor cores that the process may use; more than the library's
 * limit is lowered to that. Those that are running are stopped, so that 1 gives everything back. Any thread may call it, at
 * any time. AD_ERR_VALUE if count < 0. */
AD_API ad_status ad_set_threads(int count);
AD_API int ad_threads(void); /* 1 in a library that was built without threads */

/* ---- random numbers ------------------------------------------------------------------------------------- */

/* Counter-based: draw number n of seed s is a pure function of (s, n) (Philox4x32-10, Salmon et al. 2011), the same
 * on every machine. Copy the struct to replay; set `counter` to jump. */
typedef struct ad_rng {
    uint64_t seed;
    uint64_t counter;
} ad_rng;

AD_API uint64_t ad_rng_next(ad_rng *rng);                /* 64 random bits */
AD_API double ad_rng_uniform(ad_rng *rng);               /* in [0, 1), 53 bits */
AD_API double ad_rng_normal(ad_rng *rng);                /* mean 0, variance 1 (Box and Muller 1958) */
AD_API int64_t ad_rng_below(ad_rng *rng, int64_t bound); /* in [0, bound), unbiased; 0 if bound < 1 */

#ifdef __cplusplus
}
#endif
#endif
