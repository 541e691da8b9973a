/* Elementwise kernels: the rows of the table as loops over strided memory. */
#include "ops/kernels/circular.h"
#include "ops/kernels/composed.h"
#include "ops/kernels/isa.h"
#include "ops/kernels/special.h"
#include "ops/kernels/transpose.h"

#include <string.h>

#define AD_SIN(x)    AD_OF_TYPE(ad_sin, x)(x, exact, &far)
#define AD_COS(x)    AD_OF_TYPE(ad_cos, x)(x, exact, &far)
#define AD_TAN(x)    AD_OF_TYPE(ad_tan, x)(x, exact, &far)
#define AD_IS_FAR(x) AD_OF_TYPE(ad_is_far, x)(x)

/* AD_BLOCK: of elements that pass through the stack. AD_GROUP: elements that a loop does together. */
enum { AD_BLOCK = 256, AD_GROUP = 16 };

/* Less than a group of elements, to a group and back: units of 4 bytes, of `all` that a group has. */
static inline void take_few(int64_t units, int64_t all, const void *from, void *group) {
#if defined __AVX512F__
    for (int64_t i = 0; i < all; i += 16) {
        const int64_t left = units > i ? units - i : 0;
        const __mmask16 some = (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffff);
        _mm512_storeu_si512((char *)group + 4 * i, _mm512_maskz_loadu_epi32(some, (const char *)from + 4 * i));
    }
#else
    memset(group, 0, 4 * (size_t)all);
    memcpy(group, from, 4 * (size_t)units);
#endif
}

static inline void put_few(int64_t units, const void *group, void *to) {
#if defined __AVX512F__
    for (int64_t i = 0; i < units; i += 16) {
        const int64_t left = units - i;
        const __mmask16 some = (__mmask16)(left < 16 ? (1u << left) - 1 : 0xffff);
        _mm512_mask_storeu_epi32((char *)to + 4 * i, some, _mm512_loadu_si512((const char *)group + 4 * i));
    }
#else
    memcpy(to, group, 4 * (size_t)units);
#endif
}

#define T       float
#define S(name) name##_f32
#include "ops/kernels/elementwise_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/elementwise_typed.h"
#undef T
#undef S

void AD_NAME(unary_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *x, void *y, const double *c) {
    if (dtype == AD_F32)
        run_unary_f32(op, n, x, y, c);
    else
        run_unary_f64(op, n, x, y, c);
}

void AD_NAME(unary_back_flat)(ad_unary op, ad_dtype dtype, int64_t n, const void *g, const void *x, const void *y,
                              void *x_bar, bool add, const double *c) {
    if (dtype == AD_F32)
        flat_unary_back_f32(op, n, g, x, y, x_bar, add, c);
    else
        flat_unary_back_f64(op, n, g, x, y, x_bar, add, c);
}

void AD_NAME(binary_flat)(ad_binary op, ad_dtype dtype, int64_t n, const void *a, const void *b, void *y) {
    if (dtype == AD_F32)
        run_binary_f32(op, n, a, b, y);
    else
        run_binary_f64(op, n, a, b, y);
}

void AD_NAME(binary_back_flat)(ad_binary op, int which, ad_dtype dtype, int64_t n, const void *g, const void *a,
                               const void *b, const void *y, void *bar, bool add) {
    if (dtype == AD_F32)
        flat_binary_back_f32(op, which, n, g, a, b, y, bar, add);
    else
        flat_binary_back_f64(op, which, n, g, a, b, y, bar, add);
}

/* Most arrays are one row of neighbours, and many are short: these need no walk. */
static inline bool are_flat(int arrays, const ad_view *const *views) {
    for (int k = 0; k < arrays; k++)
        if (views[k]->shape.rank != 1 || views[k]->stride[0] != 1) return false;
    return true;
}

void AD_NAME(unary)(ad_unary op, const ad_view *x, const ad_view *y, const double *c) {
    const ad_view *views[] = {x, y};
    if (are_flat(2, views)) {
        AD_NAME(unary_flat)(op, y->dtype, y->shape.dim[0], x->data, y->data, c);
        return;
    }
    ad_walk w = ad_walk_start(2, views);
    if (y->dtype == AD_F32)
        rows_unary_f32(op, &w, c);
    else
        rows_unary_f64(op, &w, c);
}

void AD_NAME(unary_back)(ad_unary op, const ad_view *g, const ad_view *x, const ad_view *y, const ad_view *x_bar,
                         bool add, const double *c) {
    /* A row that does not read x or y may be given g in its place. */
    if (!x->data) x = g;
    if (!y->data) y = g;
    const ad_view *views[] = {g, x, y, x_bar};
    if (are_flat(4, views)) {
        AD_NAME(unary_back_flat)(op, g->dtype, g->shape.dim[0], g->data, x->data, y->data, x_bar->data, add, c);
        return;
    }
    ad_walk w = ad_walk_start(4, views);
    if (g->dtype == AD_F32)
        rows_unary_back_f32(op, &w, add, c);
    else
        rows_unary_back_f64(op, &w, add, c);
}

void AD_NAME(binary)(ad_binary op, const ad_view *a, const ad_view *b, const ad_view *y) {
    const ad_view *views[] = {a, b, y};
    if (are_flat(3, views)) {
        AD_NAME(binary_flat)(op, y->dtype, y->shape.dim[0], a->data, b->data, y->data);
        return;
    }
    ad_walk w = ad_walk_start(3, views);
    if (y->dtype == AD_F32)
        rows_binary_f32(op, &w);
    else
        rows_binary_f64(op, &w);
}

void AD_NAME(binary_back)(ad_binary op, int which, const ad_view *g, const ad_view *a, const ad_view *b,
                          const ad_view *y, const ad_view *bar, bool add) {
    if (!a->data) a = g;
    if (!b->data) b = g;
    if (!y->data) y = g;
    const ad_view *views[] = {g, a, b, y, bar};
    if (are_flat(5, views)) {
        AD_NAME(binary_back_flat)(op, which, g->dtype, g->shape.dim[0], g->data, a->data, b->data, y->data, bar->data,
                                  add);
        return;
    }
    ad_walk w = ad_walk_start(5, views);
    if (g->dtype == AD_F32)
        rows_binary_back_f32(op, which, &w, add);
    else
        rows_binary_back_f64(op, which, &w, add);
}

/* ---- of any dtype ------------------------------------------------------------------------------------------------ */

#define DEFINE_COMPARE(row, T, S, value)                                                                             \
    static void row##_##S(int64_t n, const T *pa, int64_t sa, const T *pb, int64_t sb, int32_t *py, int64_t sy) {    \
        for (int64_t i = 0; i < n; i++) {                                                                            \
            const T a = pa[i * sa], b = pb[i * sb], x = a;                                                           \
            (void)b, (void)x;                                                                                        \
            py[i * sy] = (value);                                                                                    \
        }                                                                                                            \
    }                                                                                                                \
    static void row##_rows_##S(ad_walk w) {                                                                          \
        for (; w.more; ad_walk_next(&w))                                                                             \
            row##_##S(w.n, (const T *)(void *)w.at[0], w.inner[0], (const T *)(void *)w.at[1], w.inner[1],           \
                      (int32_t *)(void *)w.at[2], w.inner[2]);                                                       \
    }
#define X(row, value, formula)                                                                                       \
    DEFINE_COMPARE(row, float, f32, value)                                                                           \
    DEFINE_COMPARE(row, double, f64, value)                                                                          \
    DEFINE_COMPARE(row, int32_t, i32, value)                                                                         \
    DEFINE_COMPARE(row, int64_t, i64, value)
AD_COMPARE_ROWS(X)
AD_TEST_ROWS(X)
#undef X

void AD_NAME(compare)(ad_compare op, const ad_view *a, const ad_view *b, const ad_view *y) {
    static void (*const rows[][AD_DTYPE_COUNT])(ad_walk) = {
#define X(row, ...)                                                                                                  \
    [AD_COMPARE_##row] = {                                                                                           \
        [AD_F32] = row##_rows_f32, [AD_F64] = row##_rows_f64, [AD_I32] = row##_rows_i32, [AD_I64] = row##_rows_i64},
        AD_COMPARE_ROWS(X) AD_TEST_ROWS(X)
#undef X
    };
    const ad_view *views[] = {a, b, y};
    rows[op][a->dtype](ad_walk_start(3, views));
}

static inline bool is_true(const void *at, int64_t i, ad_dtype dtype) {
    switch (dtype) {
    case AD_F32: return ((const float *)at)[i] != 0;
    case AD_F64: return ((const double *)at)[i] != 0;
    case AD_I32: return ((const int32_t *)at)[i] != 0;
    default: return ((const int64_t *)at)[i] != 0;
    }
}

/* Values are moved as bits of their size. */
#define LOOP_SELECT(type)                                                                                            \
    for (; w.more; ad_walk_next(&w))                                                                                 \
        for (int64_t i = 0; i < w.n; i++)                                                                            \
    memcpy(w.at[3] + i * w.inner[3] * (int64_t)sizeof(type),                                                         \
           is_true(w.at[0], i * w.inner[0], condition->dtype) ? w.at[1] + i * w.inner[1] * (int64_t)sizeof(type)     \
                                                              : w.at[2] + i * w.inner[2] * (int64_t)sizeof(type),    \
           sizeof(type))

void AD_NAME(select)(const ad_view *condition, const ad_view *a, const ad_view *b, const ad_view *y) {
    const ad_view *views[] = {condition, a, b, y};
    ad_walk w = ad_walk_start(4, views);
    if (ad_dtype_size(y->dtype) == 4) {
        LOOP_SELECT(uint32_t);
    } else {
        LOOP_SELECT(uint64_t);
    }
}

#define LOOP_FILL(type)                                                                                              \
    for (; w.more; ad_walk_next(&w)) {                                                                               \
        type *at = (type *)(void *)w.at[0];                                                                          \
        for (int64_t i = 0; i < w.n; i++) at[i * w.inner[0]] = element.type##_value;                                 \
    }

void AD_NAME(fill)(const ad_view *y, double value) {
    union {
        uint32_t uint32_t_value;
        uint64_t uint64_t_value;
    } element = {.uint64_t_value = 0};
    ad_element_set(&element, y->dtype, value);
    ad_walk w = ad_walk_start(1, &y);
    if (ad_dtype_size(y->dtype) == 4) {
        LOOP_FILL(uint32_t)
    } else {
        LOOP_FILL(uint64_t)
    }
}
