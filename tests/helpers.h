/* What the tests share: an allocator that counts, fences and fails on request, arrays in awkward layouts, and distances
 * between numbers. */
#ifndef AD_TEST_HELPERS_H
#define AD_TEST_HELPERS_H

#include "autodiff/base/base.h"

#define TEST_COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* Whether a sanitizer takes memory and threads of its own: gcc says it with macros, clang with features. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__ || __has_feature(thread_sanitizer) ||                \
    __has_feature(address_sanitizer)
enum { TEST_SANITIZED = 1 };
#else
enum { TEST_SANITIZED = 0 };
#endif

/* ---- an allocator that watches ----------------------------------------------------------------------------------- */

/* Every block has a fence on both sides, looked at when it is released; a block of another size, or a broken fence, fails
 * the test. What is released is overwritten. Not for several threads. */
typedef struct test_memory {
    ad_allocator allocator; /* pass &memory.allocator */
    int64_t calls;          /* of allocate, failed ones included */
    int64_t blocks, bytes;  /* not yet released */
    int64_t peak;           /* the most bytes there were */
    int64_t fail_at;        /* the number of the call that fails, from 1 on; 0: none */
    bool fail_on;           /* and all calls after it */
    size_t most;            /* a larger request fails, as on a machine with that much memory; 0: no limit */
} test_memory;
void test_memory_open(test_memory *memory);
/* Fails the test if something was not released. */
void test_memory_close(const test_memory *memory);

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

/* How an array lies in memory. */
typedef enum test_layout {
    TEST_DENSE,    /* row-major */
    TEST_GAPS,     /* row-major, with unused elements after every element and every row */
    TEST_REVERSED, /* row-major, with unused elements between rows only; every axis runs backwards */
    TEST_COLUMNS,  /* the first axis runs fastest, with unused elements as above */
    TEST_LAYOUTS
} test_layout;

/* A new array in memory of exactly its size, which test_arrays_free releases; elements and gaps hold a pattern. */
ad_view test_array(ad_dtype dtype, ad_shape shape, test_layout layout);
/* The same, filled with normal variates (floats) or numbers from -9 to 9 (integers), other ones for another seed. */
ad_view test_random(ad_dtype dtype, ad_shape shape, test_layout layout, uint64_t seed);
/* A row-major copy in another array. */
ad_view test_copy(const ad_view *view);
/* Releases all arrays made above, and crashes if a gap of one no longer holds the pattern. Put it into .fini. */
void test_arrays_free(void);

/* What a kernel may be given: a shape of any rank, often with axes of 1, sometimes with one of 0; */
ad_shape test_any_shape(ad_rng *rng);
/* an input of any layout, with normal variates or small integers, some of its axes perhaps repeating (stride 0); */
ad_view test_any_input(ad_rng *rng, ad_dtype dtype, ad_shape shape);
/* and a result of any layout, which holds NaN, or a large integer, until it is written. */
ad_view test_any_result(ad_rng *rng, ad_dtype dtype, ad_shape shape);

/* Element i in row-major order. Strides are applied here, not by the code under test. */
void *test_at(const ad_view *view, int64_t i);
double test_get(const ad_view *view, int64_t i);
void test_set(const ad_view *view, int64_t i, double value);
/* Both views have one dtype, one shape and the same bits, signs of zero and NaN included (every NaN equals every NaN). */
bool test_same_bits(const ad_view *a, const ad_view *b);

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

/* Calls `check` with every table of kernels that runs on this machine. */
struct ad_kernels;
void test_each_table(void (*check)(const struct ad_kernels *kernels));

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

/* |got - want| in units of the last place that numbers of this dtype have at `want`. 0 if both are NaN or the same
 * infinity, infinite if only one is. A result that overflows counts from the largest finite number. */
double test_ulps(ad_dtype dtype, double got, long double want);
/* |got - want| <= tolerance * max(1, |want|), or both NaN, or the same infinity. */
bool test_near(double got, double want, double tolerance);

#endif
