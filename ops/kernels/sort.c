/* Sorting lines: elements become unsigned keys of the same order, which a radix sort puts in order. It is stable, and as
 * fast on every input. Where few elements are wanted, those found so far are kept in order instead. */
#include "ops/kernels/move.h"

#include <string.h>

typedef struct item {
    uint64_t key;
    int64_t at; /* along the axis */
} item;

enum { DIGIT = 8, DIGITS = 1 << DIGIT, FEW = 24 };

static uint64_t key_of_f32(float x) {
    const uint32_t top = (uint32_t)1 << 31;
    uint32_t bits;
    if (x != x) return UINT64_MAX;
    x += 0; /* both zeros have one key */
    memcpy(&bits, &x, sizeof bits);
    return bits & top ? (uint32_t)~bits : bits | top;
}

static uint64_t key_of_f64(double x) {
    const uint64_t top = (uint64_t)1 << 63;
    uint64_t bits;
    if (x != x) return UINT64_MAX;
    x += 0;
    memcpy(&bits, &x, sizeof bits);
    return bits & top ? ~bits : bits | top;
}

static uint64_t key_of(const char *line, ad_dtype dtype, int64_t i) {
    const void *at = line;
    switch (dtype) {
    case AD_F32: return key_of_f32(((const float *)at)[i]);
    case AD_F64: return key_of_f64(((const double *)at)[i]);
    case AD_I32: return (uint64_t)((int64_t)((const int32_t *)at)[i] - INT32_MIN);
    default: return (uint64_t)((const int64_t *)at)[i] ^ (uint64_t)1 << 63;
    }
}

/* Puts one more item into its place among the first `wanted`, of which there are *count so far. */
static void insert(item *items, int64_t *count, int64_t wanted, item added) {
    if (*count == wanted && items[wanted - 1].key <= added.key) return;
    int64_t k = *count < wanted ? (*count)++ : wanted - 1;
    for (; k > 0 && items[k - 1].key > added.key; k--) items[k] = items[k - 1];
    items[k] = added;
}

/* From the last digit to the first; a digit that all keys share is passed over. Returns the sorted array, either one. */
static item *radix_sort(item *items, item *other, int64_t n) {
    for (int shift = 0; shift < 64; shift += DIGIT) {
        int64_t start[DIGITS] = {0}, sum = 0;
        for (int64_t i = 0; i < n; i++) start[items[i].key >> shift & (DIGITS - 1)]++;
        if (start[items[0].key >> shift & (DIGITS - 1)] == n) continue;
        for (int digit = 0; digit < DIGITS; digit++) {
            const int64_t count = start[digit];
            start[digit] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++) other[start[items[i].key >> shift & (DIGITS - 1)]++] = items[i];
        item *sorted = other;
        other = items;
        items = sorted;
    }
    return items;
}

size_t ad_kernel_sort_scratch(const ad_view *x, int axis) { return (size_t)x->shape.dim[axis] * 2 * sizeof(item); }

void ad_kernel_sort(const ad_view *x, int axis, bool descending, const ad_view *y, const ad_view *index,
                    void *scratch) {
    const int64_t n = x->shape.dim[axis], wanted = y->shape.dim[axis], size = (int64_t)ad_dtype_size(x->dtype);
    const int64_t x_step = x->stride[axis], y_step = y->stride[axis] * size, index_step = index->stride[axis];
    ad_view x_head = *x, y_head = *y, index_head = *index;
    const ad_view *heads[] = {&x_head, &y_head, &index_head};
    const uint64_t flip = descending ? UINT64_MAX : 0; /* equal keys stay equal, so this is stable, too */
    if (wanted == 0) return;
    x_head.shape.dim[axis] = y_head.shape.dim[axis] = index_head.shape.dim[axis] = 1;
    for (ad_walk w = ad_walk_start(3, heads); w.more; ad_walk_next(&w)) {
        for (int64_t line = 0; line < w.n; line++) {
            const char *from = w.at[0] + line * w.inner[0] * size;
            char *to = w.at[1] + line * w.inner[1] * size;
            int64_t *places = (int64_t *)(void *)w.at[2] + line * w.inner[2];
            item *items = scratch;
            int64_t count = 0;
            for (int64_t i = 0; i < n; i++) {
                const item next = {key_of(from, x->dtype, i * x_step) ^ flip, i};
                if (wanted <= FEW) {
                    insert(items, &count, wanted, next);
                } else {
                    items[i] = next;
                }
            }
            if (wanted > FEW) items = radix_sort(items, items + n, n);
            for (int64_t i = 0; i < wanted; i++) {
                memcpy(to + i * y_step, from + items[i].at * x_step * size, (size_t)size);
                places[i * index_step] = items[i].at;
            }
        }
    }
}
