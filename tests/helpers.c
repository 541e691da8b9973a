/* See helpers.h. */
#include "helpers.h"

#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_filled(const void *at, size_t n, int byte) {
    const unsigned char *bytes = at;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte) return false;
    return true;
}

/* ---- the allocator ----------------------------------------------------------------------------------------------- */

/* In memory: padding, head, fence, the block, fence. */
typedef struct block_head {
    size_t size;
    void *start;
} block_head;

enum { fence_byte = 0xAB, freed_byte = 0xDD, fence_bytes = 32, least_alignment = 16 };

static block_head *head_of(void *block) { return (block_head *)(void *)((char *)block - fence_bytes) - 1; }

static void *watched_allocate(void *user, size_t size, size_t alignment) {
    test_memory *memory = user;
    cr_assert(size > 0 && alignment > 0 && alignment <= 4096 && (alignment & (alignment - 1)) == 0,
              "asked for %zu bytes aligned to %zu", size, alignment);
    memory->calls++;
    if (memory->fail_at && (memory->calls == memory->fail_at || (memory->fail_on && memory->calls > memory->fail_at)))
        return NULL;
    if (memory->most && size > memory->most) return NULL;
    if (alignment < least_alignment) alignment = least_alignment;
    size_t front = (sizeof(block_head) + fence_bytes + alignment - 1) / alignment * alignment;
    size_t total = (front + size + fence_bytes + alignment - 1) / alignment * alignment;
    char *start = aligned_alloc(alignment, total), *block = start + front;
    cr_assert_not_null(start, "no memory for the test");
    *head_of(block) = (block_head){size, start};
    memset(block - fence_bytes, fence_byte, fence_bytes);
    memset(block + size, fence_byte, fence_bytes);
    memory->blocks++;
    memory->bytes += (int64_t)size;
    if (memory->bytes > memory->peak) memory->peak = memory->bytes;
    return block;
}

static void watched_release(void *user, void *block, size_t size) {
    test_memory *memory = user;
    cr_assert_not_null(block);
    cr_assert(is_filled((char *)block - fence_bytes, fence_bytes, fence_byte), "written before the block's start");
    cr_assert_eq(head_of(block)->size, size, "allocated %zu bytes, released %zu", head_of(block)->size, size);
    cr_assert(is_filled((char *)block + size, fence_bytes, fence_byte), "written past the block's end");
    memset(block, freed_byte, size);
    memory->blocks--;
    memory->bytes -= (int64_t)size;
    free(head_of(block)->start);
}

void test_memory_open(test_memory *memory) {
    *memory = (test_memory){.allocator = {watched_allocate, watched_release, memory}};
}

void test_memory_close(const test_memory *memory) {
    cr_assert_eq(memory->blocks, 0, "%lld blocks (%lld bytes) were not released", (long long)memory->blocks,
                 (long long)memory->bytes);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

enum { pattern_byte = 0x5C, gap = 2 };

typedef struct array {
    struct array *next;
    ad_view view;
    size_t bytes;
    char *memory;
} array;

static array *arrays;

/* Strides in elements, all positive, and how many elements they span. */
static int64_t layout_strides(const ad_shape *shape, test_layout layout, int64_t *stride) {
    int64_t span = 1;
    for (int i = 0; i < shape->rank; i++) {
        int axis = layout == TEST_COLUMNS ? i : shape->rank - 1 - i;
        bool is_inner = i == 0;
        stride[axis] = layout == TEST_DENSE || (layout == TEST_REVERSED && is_inner) ? span : span + gap;
        span = stride[axis] * (shape->dim[axis] > 0 ? shape->dim[axis] : 1);
    }
    return ad_shape_count(shape) == 0 ? 0 : span;
}

ad_view test_array(ad_dtype dtype, ad_shape shape, test_layout layout) {
    array *made = malloc(sizeof *made);
    cr_assert_not_null(made, "no memory for the test");
    made->view = (ad_view){.dtype = dtype, .shape = shape, .stride = {0}};
    int64_t span = layout_strides(&shape, layout, made->view.stride);
    made->bytes = (size_t)span * ad_dtype_size(dtype);
    made->memory = malloc(made->bytes ? made->bytes : 1);
    cr_assert_not_null(made->memory, "no memory for the test");
    memset(made->memory, pattern_byte, made->bytes);
    made->view.data = made->memory;
    for (int i = 0; i < shape.rank && layout == TEST_REVERSED && span > 0; i++) {
        made->view.data = (char *)made->view.data +
                          (shape.dim[i] - 1) * made->view.stride[i] * (int64_t)ad_dtype_size(dtype);
        made->view.stride[i] = -made->view.stride[i];
    }
    made->next = arrays;
    arrays = made;
    return made->view;
}

ad_view test_random(ad_dtype dtype, ad_shape shape, test_layout layout, uint64_t seed) {
    ad_view view = test_array(dtype, shape, layout);
    ad_rng rng = {.seed = seed};
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        test_set(&view, i, ad_dtype_is_float(dtype) ? ad_rng_normal(&rng) : (double)ad_rng_below(&rng, 19) - 9);
    return view;
}

ad_view test_copy(const ad_view *view) {
    ad_view copy = test_array(view->dtype, view->shape, TEST_DENSE);
    size_t size = ad_dtype_size(view->dtype);
    for (int64_t i = 0, n = ad_shape_count(&view->shape); i < n; i++)
        memcpy(test_at(&copy, i), test_at(view, i), size);
    return copy;
}

ad_shape test_any_shape(ad_rng *rng) {
    ad_shape shape = {.rank = (int)ad_rng_below(rng, AD_MAX_RANK + 1), .dim = {0}};
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++) {
        int64_t kind = ad_rng_below(rng, 30), longest = shape.rank < 3 ? 40 : 5;
        shape.dim[i] = kind == 0 ? 0 : kind < 8 || count > 2000 ? 1 : 1 + ad_rng_below(rng, longest);
        count *= shape.dim[i] > 0 ? shape.dim[i] : 1;
    }
    return shape;
}

ad_view test_any_input(ad_rng *rng, ad_dtype dtype, ad_shape shape) {
    ad_view view = test_random(dtype, shape, (test_layout)ad_rng_below(rng, TEST_LAYOUTS), ad_rng_next(rng));
    for (int i = 0; i < shape.rank; i++)
        if (ad_rng_below(rng, 8) == 0) view.stride[i] = 0;
    return view;
}

ad_view test_any_result(ad_rng *rng, ad_dtype dtype, ad_shape shape) {
    ad_view view = test_array(dtype, shape, (test_layout)ad_rng_below(rng, TEST_LAYOUTS));
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n; i++)
        test_set(&view, i, ad_dtype_is_float(dtype) ? (double)NAN : 123456789.0);
    return view;
}

/* Overwrites the elements with the pattern, so that it must then be everywhere. */
static bool gaps_are_intact(const array *checked) {
    size_t size = ad_dtype_size(checked->view.dtype);
    for (int64_t i = 0, n = ad_shape_count(&checked->view.shape); i < n; i++)
        memset(test_at(&checked->view, i), pattern_byte, size);
    return is_filled(checked->memory, checked->bytes, pattern_byte);
}

void test_arrays_free(void) {
    bool intact = true;
    while (arrays) {
        array *next = arrays->next;
        intact &= gaps_are_intact(arrays);
        free(arrays->memory);
        free(arrays);
        arrays = next;
    }
    if (intact) return;
    fprintf(stderr, "something was written between the elements of an array\n");
    abort(); /* an assertion would go unnoticed here, after the test */
}

void *test_at(const ad_view *view, int64_t i) {
    int64_t offset = 0;
    for (int axis = view->shape.rank - 1; axis >= 0; axis--) {
        offset += i % view->shape.dim[axis] * view->stride[axis];
        i /= view->shape.dim[axis];
    }
    return (char *)view->data + offset * (int64_t)ad_dtype_size(view->dtype);
}

double test_get(const ad_view *view, int64_t i) {
    const void *at = test_at(view, i);
    switch (view->dtype) {
    case AD_F32: return *(const float *)at;
    case AD_F64: return *(const double *)at;
    case AD_I32: return *(const int32_t *)at;
    default: return (double)*(const int64_t *)at;
    }
}

void test_set(const ad_view *view, int64_t i, double value) {
    void *at = test_at(view, i);
    switch (view->dtype) {
    case AD_F32: *(float *)at = (float)value; break;
    case AD_F64: *(double *)at = value; break;
    case AD_I32: *(int32_t *)at = (int32_t)value; break;
    default: *(int64_t *)at = (int64_t)value; break;
    }
}

bool test_same_bits(const ad_view *a, const ad_view *b) {
    if (a->dtype != b->dtype || !ad_shape_equal(&a->shape, &b->shape)) return false;
    size_t size = ad_dtype_size(a->dtype);
    for (int64_t i = 0, n = ad_shape_count(&a->shape); i < n; i++) {
        if (memcmp(test_at(a, i), test_at(b, i), size) == 0) continue;
        if (!isnan(test_get(a, i)) || !isnan(test_get(b, i))) return false;
    }
    return true;
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

void test_each_table(void (*check)(const struct ad_kernels *kernels)) {
    for (int i = 0; ad_kernels_table(i); i++) check(ad_kernels_table(i));
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static long double spacing_at(ad_dtype dtype, long double x) {
    int digits = dtype == AD_F32 ? 24 : 53, least = dtype == AD_F32 ? -149 : -1074, exponent;
    if (x == 0) return ldexpl(1, least);
    frexpl(x, &exponent); /* |x| = m 2^exponent, 1/2 <= m < 1 */
    return ldexpl(1, exponent - digits > least ? exponent - digits : least);
}

double test_ulps(ad_dtype dtype, double got, long double want) {
    if (isnan(got) && isnan(want)) return 0;
    const double most = dtype == AD_F32 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
    const long double beyond = (long double)most + spacing_at(dtype, most);
    if (isinf(got) && isinf(want)) return (got > 0) == (want > 0) ? 0 : INFINITY;
    if (isnan(got) || isnan(want) || isinf(want)) return INFINITY;
    long double value = isinf(got) ? copysignl(beyond, got) : (long double)got;
    if (fabsl(want) > beyond) want = copysignl(beyond, want);
    return (double)(fabsl(value - want) / spacing_at(dtype, fabsl(want) > most ? most : want));
}

bool test_near(double got, double want, double tolerance) {
    if (isnan(got) || isnan(want)) return isnan(got) && isnan(want);
    if (isinf(got) || isinf(want)) return got == want;
    return fabs(got - want) <= tolerance * fmax(1, fabs(want));
}
