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

enum { GRAIN = 128 }; /* elements that take a microsecond or two */

int ad_kernel_sort_threads(const ad_view *x, int axis) {
    const int64_t n = x->shape.dim[axis], count = ad_view_count(x), lines = n ? count / n : 0;
    const int threads = ad_parallel_workers(count, GRAIN);
    return lines < threads ? ad_max_int(1, (int)lines) : threads;
}

static size_t line_bytes(const ad_view *x, int axis) {
    return ((size_t)x->shape.dim[axis] * 2 * sizeof(item) + 63) / 64 * 64;
}

size_t ad_kernel_sort_scratch(const ad_view *x, int axis, int threads) {
    return line_bytes(x, axis) * (size_t)threads;
}

/* One request; steps along a line in elements of x and of the index, in bytes of y. */
typedef struct sort_lines {
    ad_walk walk; /* over the first elements of x, y and the index */
    ad_dtype dtype;
    int64_t n, wanted, x_step, y_step, index_step;
    uint64_t flip; /* for descending order: equal keys stay equal, so this is stable, too */
    char *scratch;
    size_t bytes; /* of it, of one thread */
} sort_lines;

static void sort_line(const sort_lines *s, const char *from, char *to, int64_t *places, item *items) {
    const int64_t size = (int64_t)ad_dtype_size(s->dtype);
    int64_t count = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const item next = {key_of(from, s->dtype, i * s->x_step) ^ s->flip, i};
        if (s->wanted <= FEW) {
            insert(items, &count, s->wanted, next);
        } else {
            items[i] = next;
        }
    }
    if (s->wanted > FEW) items = radix_sort(items, items + s->n, s->n);
    for (int64_t i = 0; i < s->wanted; i++) {
        memcpy(to + i * s->y_step, from + items[i].at * s->x_step * size, (size_t)size);
        places[i * s->index_step] = items[i].at;
    }
}

static void sort_some(const void *context, int64_t line, int64_t past, int worker) {
    const sort_lines *s = context;
    const int64_t size = (int64_t)ad_dtype_size(s->dtype);
    item *items = (item *)(void *)(s->scratch + (size_t)worker * s->bytes);
    int64_t i = line % s->walk.n;
    ad_walk w = s->walk;
    ad_walk_skip(&w, line / w.n);
    for (; line < past; ad_walk_next(&w), i = 0)
        for (; i < w.n && line < past; i++, line++)
            sort_line(s, w.at[0] + i * w.inner[0] * size, w.at[1] + i * w.inner[1] * size,
                      (int64_t *)(void *)w.at[2] + i * w.inner[2], items);
}

void ad_kernel_sort(const ad_view *x, int axis, bool descending, const ad_view *y, const ad_view *index, int threads,
                    void *scratch) {
    ad_view x_head = *x, y_head = *y, index_head = *index;
    const ad_view *heads[] = {&x_head, &y_head, &index_head};
    x_head.shape.dim[axis] = y_head.shape.dim[axis] = index_head.shape.dim[axis] = 1;
    const int64_t lines = ad_view_count(&x_head);
    sort_lines s = {.walk = ad_walk_start(3, heads), .dtype = x->dtype, .n = x->shape.dim[axis]};
    s.wanted = y->shape.dim[axis];
    s.x_step = x->stride[axis];
    s.y_step = y->stride[axis] * (int64_t)ad_dtype_size(x->dtype);
    s.index_step = index->stride[axis];
    s.flip = descending ? UINT64_MAX : 0;
    s.scratch = scratch;
    s.bytes = line_bytes(x, axis);
    if (s.wanted > 0 && lines > 0) ad_parallel(threads, lines, lines * s.n / GRAIN, sort_some, &s);
}
