/* Reductions. Everything accumulates in double, in an order that does not depend on the machine: blocks of neighbours, in
 * twice 16 lanes, and then blocks in pairs, pairs of pairs, and so on, so that the error of a sum grows with the logarithm of
 * their number. Which reductions there are says reduce_table.h; the comments here speak of sums. */
#include "ops/kernels/elementary.h"
#include "ops/kernels/isa.h"

#include <math.h>
#include <string.h>

enum {
    LANES = 16,
    ROW_BLOCK = 1024, /* elements of a row that are summed in lanes */
    TALL_BLOCK = 256, /* rows that are added to each other */
    WIDE_BLOCK = 128, /* and how many columns of them at a time */
    AHEAD = 8,   /* rows from where memory is asked for to where it is needed: it sees no pattern in rows far apart */
    LEVELS = 52, /* of pairs of pairs: more blocks than memory can hold */
    GRAIN = 8192 /* elements that are summed in a microsecond or two */
};

/* ---- from the table ---------------------------------------------------------------------------------------------- */

/* How two parts become one; `width` of them side by side. The first NaN stays. */
#define DEFINE_JOIN(name, joined)                                                                                    \
    static inline double join_##name(double a, double b) { return joined; }                                          \
    static void join_all_##name(double *restrict a, const double *restrict b, int64_t width) {                       \
        for (int64_t i = 0; i < width; i++) a[i] = join_##name(a[i], b[i]);                                          \
    }
DEFINE_JOIN(sum, a + b)
DEFINE_JOIN(product, (a * b))
DEFINE_JOIN(larger, b > a || b != b ? b : a)
DEFINE_JOIN(smaller, b < a || b != b ? b : a)

/* One block of a row; and a row that is added to the sums of its columns. */
#define DEFINE_REDUCTION(T, S, name, start, join, term)                                                              \
    static inline double name##_term_##S(T element, double c, double p) {                                            \
        const double x = (double)element;                                                                            \
        (void)c, (void)p;                                                                                            \
        return term;                                                                                                 \
    }                                                                                                                \
    static double name##_block_##S(const void *elements, int64_t n, int64_t stride, double c, double p) {            \
        const T *x = elements;                                                                                       \
        double lane[LANES], more[LANES], sum = start;                                                                \
        int64_t i = 0;                                                                                               \
        if (n < LANES) {                                                                                             \
            for (; i < n; i++) sum = join_##join(sum, name##_term_##S(x[i * stride], c, p));                         \
            return sum;                                                                                              \
        }                                                                                                            \
        for (int k = 0; k < LANES; k++) lane[k] = more[k] = start;                                                   \
        if (stride == 1) {                                                                                           \
            for (; i + 2 * LANES <= n; i += 2 * LANES) {                                                             \
                for (int k = 0; k < LANES; k++) lane[k] = join_##join(lane[k], name##_term_##S(x[i + k], c, p));     \
                for (int k = 0; k < LANES; k++)                                                                      \
                    more[k] = join_##join(more[k], name##_term_##S(x[i + LANES + k], c, p));                         \
            }                                                                                                        \
        }                                                                                                            \
        for (; i < n; i++) lane[i % LANES] = join_##join(lane[i % LANES], name##_term_##S(x[i * stride], c, p));     \
        for (int k = 0; k < LANES; k++) lane[k] = join_##join(lane[k], more[k]);                                     \
        for (int half = LANES / 2; half > 0; half /= 2)                                                              \
            for (int k = 0; k < half; k++) lane[k] = join_##join(lane[k], lane[k + half]);                           \
        return lane[0];                                                                                              \
    }                                                                                                                \
    static void name##_row_##S(double *restrict sum, const void *elements, int64_t n, int64_t stride,                \
                               const double *restrict c, double p) {                                                 \
        const T *restrict x = elements;                                                                              \
        if (stride == 1) {                                                                                           \
            for (int64_t i = 0; i < n; i++) sum[i] = join_##join(sum[i], name##_term_##S(x[i], c[i], p));            \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) sum[i] = join_##join(sum[i], name##_term_##S(x[i * stride], c[i], p));   \
        }                                                                                                            \
    }
#define X(...) DEFINE_REDUCTION(float, f32, __VA_ARGS__) DEFINE_REDUCTION(double, f64, __VA_ARGS__)
AD_REDUCTION_ROWS(X)
#undef X

/* The functions of a row of the table, by dtype. */
static const struct reduction {
    double start;
    void (*join_all)(double *restrict a, const double *restrict b, int64_t width);
    double (*block[2])(const void *x, int64_t n, int64_t stride, double c, double p);
    void (*row[2])(double *restrict sum, const void *x, int64_t n, int64_t stride, const double *restrict c,
                   double p);
} reductions[] = {
#define X(name, start, join, term)                                                                                   \
    [AD_REDUCTION_##                                                                                                 \
        name] = {start, join_all_##join, {name##_block_f32, name##_block_f64}, {name##_row_f32, name##_row_f64}},
    AD_REDUCTION_ROWS(X)
#undef X
};
_Static_assert(AD_F32 == 0 && AD_F64 == 1, "they index the functions");

/* ---- pairs of pairs ---------------------------------------------------------------------------------------------- */

/* `part` holds, for each bit of the number of blocks so far, the sum of so many blocks; `width` sums side by side. Adds
 * another block, as a binary counter counts. */
static void add_block(const struct reduction *r, double *part, uint64_t blocks, double *sum, int64_t width) {
    for (; blocks & 1; blocks >>= 1, part += width) r->join_all(sum, part, width);
    memcpy(part, sum, (size_t)width * sizeof *sum);
}

static void start_sums(const struct reduction *r, double *sum, int64_t width) {
    for (int64_t i = 0; i < width; i++) sum[i] = r->start;
}

static void add_up_blocks(const struct reduction *r, const double *part, uint64_t blocks, double *sum,
                          int64_t width) {
    start_sums(r, sum, width);
    for (; blocks; blocks >>= 1, part += width)
        if (blocks & 1) r->join_all(sum, part, width);
}

/* ---- axes -------------------------------------------------------------------------------------------------------- */

/* One request. */
typedef struct job {
    const struct reduction *reduction;
    double p, divisor;
    bool add;
    /* The axes that stay, and those that x is summed over. */
    ad_view x_kept, y_kept, c_kept, x_summed;
    bool last_is_summed; /* of the axes that are longer than 1 */
} job;

/* Of the same memory, without axes. */
static void start_view(ad_view *view, const ad_view *of) {
    view->data = of->data;
    view->dtype = of->dtype;
    view->shape.rank = 0;
}

static void append_axis(ad_view *view, int64_t n, int64_t stride) {
    view->shape.dim[view->shape.rank] = n;
    view->stride[view->shape.rank++] = stride;
}

static void split_axes(job *j, const ad_view *x, const ad_view *c, const ad_view *y) {
    start_view(&j->x_kept, x);
    start_view(&j->x_summed, x);
    start_view(&j->y_kept, y);
    start_view(&j->c_kept, c);
    j->last_is_summed = false;
    int missing = x->shape.rank - y->shape.rank;
    for (int i = 0; i < x->shape.rank; i++) {
        int64_t n = x->shape.dim[i];
        bool is_summed = i < missing || (y->shape.dim[i - missing] == 1 && n != 1);
        if (n != 1) j->last_is_summed = is_summed;
        if (is_summed) {
            append_axis(&j->x_summed, n, x->stride[i]);
        } else {
            append_axis(&j->x_kept, n, x->stride[i]);
            append_axis(&j->y_kept, n, y->stride[i - missing]);
            append_axis(&j->c_kept, n, c->stride[i - missing]);
        }
    }
}

static void store(const job *j, char *y, int64_t offset, double sum) {
    const double value = sum / j->divisor;
    if (j->y_kept.dtype == AD_F32) {
        float *at = (float *)(void *)y + offset;
        *at = (float)(j->add ? (double)*at + value : value);
    } else {
        double *at = (double *)(void *)y + offset;
        *at = j->add ? *at + value : value;
    }
}

/* What goes into one result, or into `width` neighbouring ones: rows that begin at x, in blocks. */
typedef struct source {
    const job *job;
    const ad_walk *rows;
    char *x;
    const double *c;
    int64_t width, stride;
    int64_t blocks;
    /* Adds up blocks [from, to), as if they were all; `part` as in add_block. */
    void (*add)(const struct source *source, int64_t from, int64_t to, double *part);
} source;

enum {
    GROUPS = 64,     /* of blocks, that threads share */
    WIDE_GROUPS = 16 /* of blocks with columns side by side */
};

typedef struct groups {
    const source *source;
    int level; /* 2^level blocks each */
    double *sum;
} groups;

static void add_groups(const void *context, int64_t from, int64_t to, int worker) {
    const groups *g = context;
    const int64_t width = g->source->width;
    double part[LEVELS * WIDE_BLOCK];
    (void)worker;
    for (int64_t i = from; i < to; i++) {
        g->source->add(g->source, i << g->level, (i + 1) << g->level, part);
        memcpy(g->sum + i * width, part + g->level * width, (size_t)width * sizeof *part);
    }
}

/* Adds up all blocks. A group of 2^level blocks that begins at a multiple of that is a part of the whole, to the last bit. */
static void add_blocks(const source *s, double *part) {
    const int64_t most = s->width > 1 ? WIDE_GROUPS : GROUPS,
                  per_block = s->width > 1 ? s->width * TALL_BLOCK : ROW_BLOCK;
    const int workers = ad_parallel_workers(s->blocks * per_block, GRAIN);
    groups g = {.source = s, .level = 2};
    while (s->blocks >> g.level > most) g.level++;
    const int64_t count = s->blocks >> g.level;
    if (workers < 2 || count < 2) {
        s->add(s, 0, s->blocks, part);
        return;
    }
    double sum[WIDE_GROUPS * WIDE_BLOCK];
    g.sum = sum;
    ad_parallel(workers, count, s->blocks * per_block / GRAIN, add_groups, &g);
    for (int64_t i = 0; i < count; i++)
        add_block(s->job->reduction, part + g.level * s->width, (uint64_t)i, sum + i * s->width, s->width);
    s->add(s, count << g.level, s->blocks, part);
}

static void add_row_blocks(const source *s, int64_t from, int64_t to, double *part) {
    const struct reduction *r = s->job->reduction;
    const ad_dtype dtype = s->job->x_kept.dtype;
    const int64_t size = (int64_t)ad_dtype_size(dtype), per_row = (s->rows->n + ROW_BLOCK - 1) / ROW_BLOCK;
    ad_walk w = *s->rows;
    w.at[0] = s->x;
    ad_walk_skip(&w, from / per_row);
    for (int64_t block = from, first = from % per_row * ROW_BLOCK; block < to; ad_walk_next(&w), first = 0) {
        for (; first < w.n && block < to; first += ROW_BLOCK, block++) {
            const int64_t n = w.n - first < ROW_BLOCK ? w.n - first : ROW_BLOCK;
            double sum = r->block[dtype](w.at[0] + first * w.inner[0] * size, n, w.inner[0], *s->c, s->job->p);
            add_block(r, part, (uint64_t)(block - from), &sum, 1);
        }
    }
}

static int64_t count_rows(const ad_walk *rows) {
    int64_t count = 1;
    for (int i = 0; i < rows->rank; i++) count *= rows->dim[i];
    return count;
}

/* One result: the sum of the rows that begin at x. */
static double sum_of_rows(const job *j, const ad_walk *rows, char *x, double c) {
    const struct reduction *r = j->reduction;
    if (rows->rank == 0 && rows->n <= ROW_BLOCK)
        return r->block[j->x_kept.dtype](x, rows->n, rows->inner[0], c, j->p);
    double part[LEVELS], sum;
    const int64_t blocks = count_rows(rows) * ((rows->n + ROW_BLOCK - 1) / ROW_BLOCK);
    const source s = {j, rows, x, &c, .width = 1, .blocks = blocks, .add = add_row_blocks};
    add_blocks(&s, part);
    add_up_blocks(r, part, (uint64_t)blocks, &sum, 1);
    return sum;
}

/* Every result is the sum of rows that lie along the last axis. */
static void sum_rows(const job *j) {
    const int64_t size = (int64_t)ad_dtype_size(j->x_kept.dtype);
    const ad_view *kept[] = {&j->x_kept, &j->y_kept, &j->c_kept}, *summed = &j->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    for (ad_walk w = ad_walk_start(3, kept); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            const double c = ((const double *)(void *)w.at[2])[i * w.inner[2]];
            store(j, w.at[1], i * w.inner[1], sum_of_rows(j, &rows, w.at[0] + i * w.inner[0] * size, c));
        }
    }
}

/* Rows [from, to) are added to each other. */
static void add_some_rows(const source *s, int64_t from, int64_t to, double *sum) {
    const struct reduction *r = s->job->reduction;
    const ad_dtype dtype = s->job->x_kept.dtype;
    const int64_t size = (int64_t)ad_dtype_size(dtype);
    ad_walk w = *s->rows;
    w.at[0] = s->x;
    ad_walk_skip(&w, from / w.n);
    start_sums(r, sum, s->width);
    const int64_t step = w.inner[0] * size, bytes = s->stride == 1 ? s->width * size : 0;
    for (int64_t row = from, k = from % w.n; row < to; ad_walk_next(&w), k = 0) {
        for (; k < w.n && row < to; k++, row++) {
            const char *x = w.at[0] + k * step;
            for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(x + AHEAD * step + i);
            r->row[dtype](sum, x, s->width, s->stride, s->c, s->job->p);
        }
    }
}

static void add_tall_blocks(const source *s, int64_t from, int64_t to, double *part) {
    const int64_t rows = count_rows(s->rows) * s->rows->n;
    double sum[WIDE_BLOCK];
    for (int64_t block = from; block < to; block++) {
        const int64_t past = (block + 1) * TALL_BLOCK;
        add_some_rows(s, block * TALL_BLOCK, past < rows ? past : rows, sum);
        add_block(s->job->reduction, part, (uint64_t)(block - from), sum, s->width);
    }
}

/* Neighbouring results, at most WIDE_BLOCK. */
static void add_all_rows(source *s, double *sum) {
    const int64_t rows = count_rows(s->rows) * s->rows->n;
    double part[LEVELS * WIDE_BLOCK];
    s->blocks = (rows + TALL_BLOCK - 1) / TALL_BLOCK;
    s->add = add_tall_blocks;
    if (s->blocks == 1) {
        add_some_rows(s, 0, rows, sum);
        return;
    }
    add_blocks(s, part);
    add_up_blocks(s->job->reduction, part, (uint64_t)s->blocks, sum, s->width);
}

static void add_rows(const job *j) {
    const int64_t size = (int64_t)ad_dtype_size(j->x_kept.dtype);
    const ad_view *kept[] = {&j->x_kept, &j->y_kept, &j->c_kept}, *summed = &j->x_summed;
    const ad_walk rows = ad_walk_start(1, &summed);
    double sum[WIDE_BLOCK], c[WIDE_BLOCK];
    for (ad_walk w = ad_walk_start(3, kept); w.more; ad_walk_next(&w)) {
        for (int64_t first = 0; first < w.n; first += WIDE_BLOCK) {
            int64_t n = w.n - first < WIDE_BLOCK ? w.n - first : WIDE_BLOCK;
            for (int64_t i = 0; i < n; i++) c[i] = ((const double *)(void *)w.at[2])[(first + i) * w.inner[2]];
            source s = {j, &rows, w.at[0] + first * w.inner[0] * size, c, .width = n, .stride = w.inner[0]};
            add_all_rows(&s, sum);
            for (int64_t i = 0; i < n; i++) store(j, w.at[1], (first + i) * w.inner[1], sum[i]);
        }
    }
}

/* What takes longer to arrange than to add up: few neighbours to one number, and few rows of neighbours to the sums of their
 * columns. The additions are those that would be made anyway. */
static bool run_few(job *j, const ad_view *x, const ad_view *y) {
    static const double none[WIDE_BLOCK];
    const struct reduction *r = j->reduction;
    j->y_kept.dtype = y->dtype;
    if (ad_elements(&y->shape) == 1) {
        const int64_t n = ad_elements(&x->shape);
        if (n == 0 || n > ROW_BLOCK || !ad_view_is_contiguous(x)) return false;
        store(j, y->data, 0, r->block[x->dtype](x->data, n, 1, 0, j->p));
        return true;
    }
    const int64_t rows = x->shape.dim[0], columns = y->shape.dim[0];
    if (x->shape.rank != 2 || y->shape.rank != 1 || columns != x->shape.dim[1] || columns < 2 ||
        columns > WIDE_BLOCK || rows < 1 || rows > TALL_BLOCK || x->stride[1] != 1 || y->stride[0] != 1)
        return false;
    const int64_t step = x->stride[0] * (int64_t)ad_dtype_size(x->dtype);
    double sum[WIDE_BLOCK];
    start_sums(r, sum, columns);
    for (int64_t row = 0; row < rows; row++)
        r->row[x->dtype](sum, (const char *)x->data + row * step, columns, 1, none, j->p);
    for (int64_t i = 0; i < columns; i++) store(j, y->data, i, sum[i]);
    return true;
}

static void run(job *j, const ad_view *x, const ad_view *c, const ad_view *y) {
    if (!c && run_few(j, x, y)) return;
    double zero = 0;
    ad_view none = {.data = &zero, .dtype = AD_F64, .shape = y->shape};
    if (ad_elements(&x->shape) == 0) {
        /* What is summed is empty, what stays may not be. */
        j->y_kept = *y;
        for (ad_walk w = ad_walk_start(1, &y); w.more; ad_walk_next(&w))
            for (int64_t i = 0; i < w.n; i++) store(j, w.at[0], i * w.inner[0], j->reduction->start);
        return;
    }
    split_axes(j, x, c ? c : &none, y);
    if (j->last_is_summed) {
        sum_rows(j);
    } else {
        add_rows(j);
    }
}

void AD_NAME(reduce)(ad_reduction reduction, const ad_view *x, const ad_view *c, double p, const ad_view *y) {
    job j;
    j.reduction = &reductions[reduction], j.p = p, j.divisor = 1, j.add = false;
    run(&j, x, c, y);
}

void AD_NAME(sum_to)(const ad_view *x, const ad_view *y, double divisor, bool add) {
    job j;
    j.reduction = &reductions[AD_REDUCTION_sum], j.p = 0, j.divisor = divisor, j.add = add;
    run(&j, x, NULL, y);
}

double AD_NAME(sum_of_squares)(const ad_view *x) {
    double sum;
    ad_view y = {.data = &sum, .dtype = AD_F64};
    AD_NAME(reduce)(AD_REDUCTION_sum_of_squares, x, NULL, 0, &y);
    return sum;
}

/* ---- back -------------------------------------------------------------------------------------------------------- */

/* One row for one type, with the strides as they are, or known. */
#define LOOP_BACK(T, contribution, sg, sx, sc, so)                                                                   \
    for (int64_t i = 0; i < n; i++) {                                                                                \
        const double g = gs[i * (sg)], x = (double)xs[i * (sx)], c = cs[i * (sc)];                                   \
        const double bar = g == 0 ? 0 : (contribution);                                                              \
        (void)c;                                                                                                     \
        out[i * (so)] = (T)(add ? (double)out[i * (so)] + bar : bar);                                                \
    }
#define DEFINE_BACK(T, S, name, contribution)                                                                        \
    static void name##_back_##S(int64_t n, char *const *at, const int64_t *s, double p, bool add) {                  \
        const double *gs = (const double *)(void *)at[0], *cs = (const double *)(void *)at[2];                       \
        const T *xs = (const T *)(void *)at[1];                                                                      \
        T *restrict out = (T *)(void *)at[3];                                                                        \
        (void)p;                                                                                                     \
        if (s[0] == 0 && s[1] == 1 && s[2] == 0 && s[3] == 1) {                                                      \
            LOOP_BACK(T, contribution, 0, 1, 0, 1)                                                                   \
        } else if (s[0] == 1 && s[1] == 1 && s[2] == 1 && s[3] == 1) {                                               \
            LOOP_BACK(T, contribution, 1, 1, 1, 1)                                                                   \
        } else {                                                                                                     \
            LOOP_BACK(T, contribution, s[0], s[1], s[2], s[3])                                                       \
        }                                                                                                            \
    }
#define X(...) DEFINE_BACK(float, f32, __VA_ARGS__) DEFINE_BACK(double, f64, __VA_ARGS__)
AD_REDUCTION_BACK_ROWS(X)
#undef X

void AD_NAME(reduce_back)(ad_reduction_back row, const ad_view *g, const ad_view *x, const ad_view *c, double p,
                          const ad_view *x_bar, bool add) {
    static void (*const rows[][2])(int64_t n, char *const *at, const int64_t *stride, double p, bool add) = {
#define X(name, contribution) [AD_REDUCTION_BACK_##name] = {name##_back_f32, name##_back_f64},
        AD_REDUCTION_BACK_ROWS(X)
#undef X
    };
    const ad_view *views[] = {g, x, c, x_bar};
    for (ad_walk w = ad_walk_start(4, views); w.more; ad_walk_next(&w))
        rows[row][x->dtype](w.n, w.at, w.inner, p, add);
}

/* ---- finiteness -------------------------------------------------------------------------------------------------- */

/* x - x is 0 for a number, NaN for an infinity or a NaN: no branch, so it runs at the speed of memory. */
#define DEFINE_FINITE(T, S)                                                                                          \
    static bool row_finite_##S(const T *x, int64_t n, int64_t stride) {                                              \
        int bad = 0;                                                                                                 \
        if (stride == 1) {                                                                                           \
            for (int64_t i = 0; i < n; i++) bad |= x[i] - x[i] != (T)0;                                              \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) bad |= x[i * stride] - x[i * stride] != (T)0;                            \
        }                                                                                                            \
        return !bad;                                                                                                 \
    }
DEFINE_FINITE(float, f32)
DEFINE_FINITE(double, f64)

bool AD_NAME(all_finite)(const ad_view *x) {
    for (ad_walk w = ad_walk_start(1, &x); w.more; ad_walk_next(&w))
        if (!(x->dtype == AD_F32 ? row_finite_f32((const void *)w.at[0], w.n, w.inner[0])
                                 : row_finite_f64((const void *)w.at[0], w.n, w.inner[0])))
            return false;
    return true;
}
