/* The kernels of the table, shared between threads: those of one thread, called with pieces of their arrays. Compiled for
 * each instruction set, so that a piece costs no other look into a table.
 *
 * A grain is how many elements take one thread a microsecond or two, in the cache; with less than two grains nothing is
 * shared. They were measured with the widest vectors: the slower the kernel, the more sharing pays. */
#include "ops/kernels/isa.h"
#include "ops/kernels/pieces.h"
#include "ops/kernels/window.h"

#include <stdatomic.h>

/* Elements of f32. */
enum {
    LIGHT = 24576,   /* as fast as memory: one or two instructions each */
    FUNCTION = 4096, /* exp and what is made of it */
    SLOW = 1024,     /* what is vector code by way of f64, or in f32 alone */
    HEAVY = 128,     /* what no vector code is made for */
    SUM = 12288,
    ROWS = 1536, /* softmax and the like */
    ADAM = 4096
};

static int64_t grain_of(ad_dtype dtype, int64_t elements) {
    return ad_dtype_size(dtype) == 4 ? elements : elements / 2;
}

/* ---- elementwise ------------------------------------------------------------------------------------------------- */

static int64_t unary_grain(ad_unary op, ad_dtype dtype) {
    static const int16_t grains[AD_UNARY_COUNT] = {
        [AD_UNARY_neg] = LIGHT,      [AD_UNARY_abs] = LIGHT,        [AD_UNARY_square] = LIGHT,
        [AD_UNARY_relu] = LIGHT,     [AD_UNARY_relu6] = LIGHT,      [AD_UNARY_frac] = LIGHT,
        [AD_UNARY_scale] = LIGHT,    [AD_UNARY_leaky_relu] = LIGHT, [AD_UNARY_clamp] = LIGHT,
        [AD_UNARY_hardtanh] = LIGHT, [AD_UNARY_sign] = LIGHT,       [AD_UNARY_floor] = LIGHT,
        [AD_UNARY_ceil] = LIGHT,     [AD_UNARY_round] = LIGHT,      [AD_UNARY_trunc] = LIGHT,
        [AD_UNARY_cbrt] = SLOW,      [AD_UNARY_logit] = SLOW,       [AD_UNARY_tan] = SLOW,
        [AD_UNARY_asin] = SLOW,      [AD_UNARY_acos] = SLOW,        [AD_UNARY_atan] = SLOW,
        [AD_UNARY_sinh] = SLOW,      [AD_UNARY_cosh] = SLOW,        [AD_UNARY_asinh] = SLOW,
        [AD_UNARY_acosh] = SLOW,     [AD_UNARY_atanh] = SLOW,       [AD_UNARY_sinc] = HEAVY,
        [AD_UNARY_erfinv] = HEAVY,   [AD_UNARY_lgamma] = HEAVY,     [AD_UNARY_digamma] = HEAVY,
        [AD_UNARY_trigamma] = HEAVY, [AD_UNARY_power] = HEAVY,      [AD_UNARY_polygamma] = HEAVY,
    };
    return grain_of(dtype, grains[op] ? grains[op] : FUNCTION);
}

static int64_t binary_grain(ad_binary op, ad_dtype dtype) {
    const bool heavy = op == AD_BINARY_pow || op == AD_BINARY_atan2 || op == AD_BINARY_fmod ||
                       op == AD_BINARY_remainder;
    return grain_of(dtype, heavy ? HEAVY : LIGHT);
}

typedef struct unary_options {
    ad_unary op;
    bool add;
    const double *c;
} unary_options;

static void unary_piece(const ad_view *const *v, const void *options) {
    const unary_options *o = options;
    AD_NAME(unary)(o->op, v[0], v[1], o->c);
}
static void parallel_unary(ad_unary op, const ad_view *x, const ad_view *y, const double *c) {
    const int64_t grain = unary_grain(op, x->dtype);
    if (ad_is_one_piece(x, grain))
        AD_NAME(unary)(op, x, y, c);
    else
        ad_in_pieces(2, (const ad_view *[]){x, y}, AD_EVERY_AXIS, grain, unary_piece, &(unary_options){op, false, c});
}

static void unary_back_piece(const ad_view *const *v, const void *options) {
    const unary_options *o = options;
    AD_NAME(unary_back)(o->op, v[0], v[1], v[2], v[3], o->add, o->c);
}
static void parallel_unary_back(ad_unary op, const ad_view *g, const ad_view *x, const ad_view *y,
                                const ad_view *x_bar, bool add, const double *c) {
    const int64_t grain = unary_grain(op, g->dtype);
    if (ad_is_one_piece(g, grain))
        AD_NAME(unary_back)(op, g, x, y, x_bar, add, c);
    else
        ad_in_pieces(4, (const ad_view *[]){g, x, y, x_bar}, AD_EVERY_AXIS, grain, unary_back_piece,
                     &(unary_options){op, add, c});
}

typedef struct binary_options {
    ad_binary op;
    int which;
    bool add;
} binary_options;

static void binary_piece(const ad_view *const *v, const void *options) {
    AD_NAME(binary)(((const binary_options *)options)->op, v[0], v[1], v[2]);
}
static void parallel_binary(ad_binary op, const ad_view *a, const ad_view *b, const ad_view *y) {
    const int64_t grain = binary_grain(op, y->dtype);
    if (ad_is_one_piece(y, grain))
        AD_NAME(binary)(op, a, b, y);
    else
        ad_in_pieces(3, (const ad_view *[]){a, b, y}, AD_EVERY_AXIS, grain, binary_piece,
                     &(binary_options){op, 0, false});
}

static void binary_back_piece(const ad_view *const *v, const void *options) {
    const binary_options *o = options;
    AD_NAME(binary_back)(o->op, o->which, v[0], v[1], v[2], v[3], v[4], o->add);
}
static void parallel_binary_back(ad_binary op, int which, const ad_view *g, const ad_view *a, const ad_view *b,
                                 const ad_view *y, const ad_view *bar, bool add) {
    const int64_t grain = binary_grain(op, g->dtype);
    if (ad_is_one_piece(g, grain))
        AD_NAME(binary_back)(op, which, g, a, b, y, bar, add);
    else
        ad_in_pieces(5, (const ad_view *[]){g, a, b, y, bar}, AD_EVERY_AXIS, grain, binary_back_piece,
                     &(binary_options){op, which, add});
}

/* Of neighbours: where threads share them, they are views like any others. */
static void parallel_unary_flat(ad_unary op, ad_dtype dtype, int64_t n, const void *x, void *y, const double *c) {
    ad_view views[2];
    if (ad_parallel_workers(n, unary_grain(op, dtype)) < 2) {
        AD_NAME(unary_flat)(op, dtype, n, x, y, c);
        return;
    }
    ad_view_flatten(&views[0], (void *)(uintptr_t)x, dtype, n);
    ad_view_flatten(&views[1], y, dtype, n);
    parallel_unary(op, &views[0], &views[1], c);
}

static void parallel_unary_back_flat(ad_unary op, ad_dtype dtype, int64_t n, const void *g, const void *x,
                                     const void *y, void *x_bar, bool add, const double *c) {
    const void *const arrays[] = {g, x, y, x_bar};
    ad_view views[4];
    if (ad_parallel_workers(n, unary_grain(op, dtype)) < 2) {
        AD_NAME(unary_back_flat)(op, dtype, n, g, x, y, x_bar, add, c);
        return;
    }
    for (int k = 0; k < 4; k++) ad_view_flatten(&views[k], (void *)(uintptr_t)arrays[k], dtype, n);
    parallel_unary_back(op, &views[0], &views[1], &views[2], &views[3], add, c);
}

static void parallel_binary_flat(ad_binary op, ad_dtype dtype, int64_t n, const void *a, const void *b, void *y) {
    const void *const arrays[] = {a, b, y};
    ad_view views[3];
    if (ad_parallel_workers(n, binary_grain(op, dtype)) < 2) {
        AD_NAME(binary_flat)(op, dtype, n, a, b, y);
        return;
    }
    for (int k = 0; k < 3; k++) ad_view_flatten(&views[k], (void *)(uintptr_t)arrays[k], dtype, n);
    parallel_binary(op, &views[0], &views[1], &views[2]);
}

static void parallel_binary_back_flat(ad_binary op, int which, ad_dtype dtype, int64_t n, const void *g,
                                      const void *a, const void *b, const void *y, void *bar, bool add) {
    const void *const arrays[] = {g, a, b, y, bar};
    ad_view views[5];
    if (ad_parallel_workers(n, binary_grain(op, dtype)) < 2) {
        AD_NAME(binary_back_flat)(op, which, dtype, n, g, a, b, y, bar, add);
        return;
    }
    for (int k = 0; k < 5; k++) ad_view_flatten(&views[k], (void *)(uintptr_t)arrays[k], dtype, n);
    parallel_binary_back(op, which, &views[0], &views[1], &views[2], &views[3], &views[4], add);
}

static void compare_piece(const ad_view *const *v, const void *op) {
    AD_NAME(compare)(*(const ad_compare *)op, v[0], v[1], v[2]);
}
static void parallel_compare(ad_compare op, const ad_view *a, const ad_view *b, const ad_view *y) {
    if (ad_is_one_piece(a, LIGHT))
        AD_NAME(compare)(op, a, b, y);
    else
        ad_in_pieces(3, (const ad_view *[]){a, b, y}, AD_EVERY_AXIS, LIGHT, compare_piece, &op);
}

static void select_piece(const ad_view *const *v, const void *options) {
    (void)options;
    AD_NAME(select)(v[0], v[1], v[2], v[3]);
}
static void parallel_select(const ad_view *condition, const ad_view *a, const ad_view *b, const ad_view *y) {
    if (ad_is_one_piece(y, FUNCTION))
        AD_NAME(select)(condition, a, b, y);
    else
        ad_in_pieces(4, (const ad_view *[]){condition, a, b, y}, AD_EVERY_AXIS, FUNCTION, select_piece, NULL);
}

static void fill_piece(const ad_view *const *v, const void *value) { AD_NAME(fill)(v[0], *(const double *)value); }
static void parallel_fill(const ad_view *y, double value) {
    if (ad_is_one_piece(y, 2 * LIGHT))
        AD_NAME(fill)(y, value);
    else
        ad_in_pieces(1, &y, AD_EVERY_AXIS, 2 * LIGHT, fill_piece, &value);
}

typedef struct copy_options {
    double scale;
    bool add;
} copy_options;

static void copy_piece(const ad_view *const *v, const void *options) {
    const copy_options *o = options;
    AD_NAME(copy)(v[0], v[1], o->scale, o->add);
}
static void parallel_copy(const ad_view *x, const ad_view *y, double scale, bool add) {
    const int64_t grain = grain_of(y->dtype, LIGHT);
    if (ad_is_one_piece(y, grain))
        AD_NAME(copy)(x, y, scale, add);
    else
        ad_in_pieces(2, (const ad_view *[]){x, y}, AD_EVERY_AXIS, grain, copy_piece, &(copy_options){scale, add});
}

/* ---- reductions -------------------------------------------------------------------------------------------------- */

typedef struct reduce_options {
    ad_reduction row;
    ad_reduction_back back;
    bool add, has_c;
    double p; /* the divisor of sum_to */
} reduce_options;

/* With all axes of `shape`, those on the left being of length 1. */
static ad_view with_axes(const ad_view *view, const ad_shape *shape) {
    ad_view y = *view;
    const int missing = shape->rank - view->shape.rank;
    y.shape.rank = shape->rank;
    for (int i = 0; i < shape->rank; i++) {
        y.shape.dim[i] = i < missing ? 1 : view->shape.dim[i - missing];
        y.stride[i] = i < missing ? 0 : view->stride[i - missing];
    }
    return y;
}

/* The axes that stay. The last one that is longer than 1 decides how sums are made, so it must not get that short: where
 * results are next to each other, pieces are long. One result alone is shared by the kernel itself. */
static unsigned kept_axes(const ad_view *x, const ad_view *y) {
    unsigned axes = 0;
    bool last = true;
    for (int i = x->shape.rank - 1; i >= 0; i--) {
        if (x->shape.dim[i] == 1) continue;
        if (y->shape.dim[i] != 1 && (!last || y->stride[i] == 1 || y->stride[i] == -1)) axes |= 1u << i;
        last = false;
    }
    return axes;
}

static void sum_to_piece(const ad_view *const *v, const void *options) {
    const reduce_options *o = options;
    AD_NAME(sum_to)(v[0], v[1], o->p, o->add);
}
static void parallel_sum_to(const ad_view *x, const ad_view *y, double divisor, bool add) {
    if (ad_is_one_piece(x, SUM)) {
        AD_NAME(sum_to)(x, y, divisor, add);
        return;
    }
    const ad_view full = with_axes(y, &x->shape);
    ad_in_pieces(2, (const ad_view *[]){x, &full}, kept_axes(x, &full), SUM, sum_to_piece,
                 &(reduce_options){.add = add, .p = divisor});
}

static void reduce_piece(const ad_view *const *v, const void *options) {
    const reduce_options *o = options;
    AD_NAME(reduce)(o->row, v[0], v[1]->data ? v[1] : NULL, o->p, v[2]);
}
static void parallel_reduce(ad_reduction row, const ad_view *x, const ad_view *c, double p, const ad_view *y) {
    if (ad_is_one_piece(x, SUM)) {
        AD_NAME(reduce)(row, x, c, p, y);
        return;
    }
    const ad_view full = with_axes(y, &x->shape), full_c = c ? with_axes(c, &x->shape) : (ad_view){.data = NULL};
    ad_in_pieces(3, (const ad_view *[]){x, &full_c, &full}, kept_axes(x, &full), SUM, reduce_piece,
                 &(reduce_options){.row = row, .p = p});
}

static void reduce_back_piece(const ad_view *const *v, const void *options) {
    const reduce_options *o = options;
    AD_NAME(reduce_back)(o->back, v[0], v[1], v[2], o->p, v[3], o->add);
}
static void parallel_reduce_back(ad_reduction_back row, const ad_view *g, const ad_view *x, const ad_view *c,
                                 double p, const ad_view *x_bar, bool add) {
    const int64_t grain = row == AD_REDUCTION_BACK_power ? HEAVY : FUNCTION;
    if (ad_is_one_piece(x, grain))
        AD_NAME(reduce_back)(row, g, x, c, p, x_bar, add);
    else
        ad_in_pieces(4, (const ad_view *[]){g, x, c, x_bar}, AD_EVERY_AXIS, grain, reduce_back_piece,
                     &(reduce_options){.back = row, .p = p, .add = add});
}

static void all_finite_piece(const ad_view *const *v, const void *options) {
    if (!AD_NAME(all_finite)(v[0]))
        atomic_store_explicit(*(atomic_bool *const *)options, false, memory_order_relaxed);
}
static bool parallel_all_finite(const ad_view *x) {
    const int64_t grain = grain_of(x->dtype, LIGHT);
    if (ad_is_one_piece(x, grain)) return AD_NAME(all_finite)(x);
    atomic_bool finite = true, *at = &finite;
    ad_in_pieces(1, &x, AD_EVERY_AXIS, grain, all_finite_piece, &at);
    return atomic_load_explicit(&finite, memory_order_relaxed);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

typedef struct row_options {
    int axis;
    bool add;
} row_options;

static unsigned other_axes(int axis) { return AD_EVERY_AXIS & ~(1u << axis); }

#define DEFINE_SOFTMAX(name)                                                                                         \
    static void name##_piece(const ad_view *const *v, const void *options) {                                         \
        AD_NAME(name)(v[0], ((const row_options *)options)->axis, v[1]);                                             \
    }                                                                                                                \
    static void parallel_##name(const ad_view *x, int axis, const ad_view *y) {                                      \
        const int64_t grain = grain_of(x->dtype, ROWS);                                                              \
        if (ad_is_one_piece(x, grain))                                                                               \
            AD_NAME(name)(x, axis, y);                                                                               \
        else                                                                                                         \
            ad_in_pieces(2, (const ad_view *[]){x, y}, other_axes(axis), grain, name##_piece,                        \
                         &(row_options){axis, false});                                                               \
    }                                                                                                                \
    static void name##_back_piece(const ad_view *const *v, const void *options) {                                    \
        const row_options *o = options;                                                                              \
        AD_NAME(name##_back)(v[0], v[1], o->axis, v[2], o->add);                                                     \
    }                                                                                                                \
    static void parallel_##name##_back(const ad_view *g, const ad_view *y, int axis, const ad_view *x_bar,           \
                                       bool add) {                                                                   \
        const int64_t grain = grain_of(y->dtype, ROWS);                                                              \
        if (ad_is_one_piece(y, grain))                                                                               \
            AD_NAME(name##_back)(g, y, axis, x_bar, add);                                                            \
        else                                                                                                         \
            ad_in_pieces(3, (const ad_view *[]){g, y, x_bar}, other_axes(axis), grain, name##_back_piece,            \
                         &(row_options){axis, add});                                                                 \
    }
DEFINE_SOFTMAX(softmax)
DEFINE_SOFTMAX(log_softmax)

static void softmax_xent_piece(const ad_view *const *v, const void *options) {
    (void)options;
    AD_NAME(softmax_xent)(v[0], v[1], v[2], v[3]);
}
static void parallel_softmax_xent(const ad_view *x, const ad_view *target, const ad_view *loss, const ad_view *p) {
    const int64_t grain = grain_of(x->dtype, ROWS);
    if (ad_is_one_piece(x, grain))
        AD_NAME(softmax_xent)(x, target, loss, p);
    else
        ad_in_pieces(4, (const ad_view *[]){x, target, loss, p}, other_axes(x->shape.rank - 1), grain,
                     softmax_xent_piece, NULL);
}

static void softmax_xent_back_piece(const ad_view *const *v, const void *options) {
    AD_NAME(softmax_xent_back)(v[2], v[0], v[1], v[3], ((const row_options *)options)->add);
}
static void parallel_softmax_xent_back(const ad_view *g, const ad_view *p, const ad_view *target,
                                       const ad_view *x_bar, bool add) {
    const int64_t grain = grain_of(p->dtype, SUM);
    if (ad_is_one_piece(p, grain))
        AD_NAME(softmax_xent_back)(g, p, target, x_bar, add);
    else
        ad_in_pieces(4, (const ad_view *[]){p, target, g, x_bar}, other_axes(p->shape.rank - 1), grain,
                     softmax_xent_back_piece, &(row_options){.add = add});
}

typedef struct standardize_options {
    const ad_standardize *whole;
    void (*f)(const ad_standardize *s);
} standardize_options;

/* x comes first, and last, as what of the rest is there differs. */
#define ARRAYS(s)                                                                                                    \
    {                                                                                                                \
        &(s)->x, &(s)->w, &(s)->b, &(s)->y, &(s)->mean, &(s)->square, &(s)->g, &(s)->mean_bar, &(s)->square_bar,     \
            &(s)->x_bar, &(s)->product, &(s)->x                                                                      \
    }

static void standardize_piece(const ad_view *const *v, const void *options) {
    const standardize_options *o = options;
    ad_standardize part = *o->whole;
    ad_view *const arrays[] = ARRAYS(&part);
    for (int i = 0; i < (int)(sizeof arrays / sizeof *arrays); i++) *arrays[i] = *v[i];
    o->f(&part);
}
static void share_rows(const ad_standardize *s, void (*f)(const ad_standardize *s)) {
    const int64_t grain = grain_of(s->x.dtype, ROWS);
    const ad_view *const arrays[] = ARRAYS(s);
    if (ad_is_one_piece(&s->x, grain))
        f(s);
    else
        ad_in_pieces((int)(sizeof arrays / sizeof *arrays), arrays, AD_EVERY_AXIS & ~s->reduced, grain,
                     standardize_piece, &(standardize_options){s, f});
}
#undef ARRAYS
static void parallel_standardize(const ad_standardize *s) { share_rows(s, AD_NAME(standardize)); }
static void parallel_standardize_back(const ad_standardize *s) { share_rows(s, AD_NAME(standardize_back)); }

/* ---- indices ----------------------------------------------------------------------------------------------------- */

static void gather_piece(const ad_view *const *v, const void *axis) {
    AD_NAME(gather)(v[1], *(const int *)axis, v[0], v[2]);
}
static void parallel_gather(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    if (ad_is_one_piece(index, FUNCTION))
        AD_NAME(gather)(x, axis, index, y);
    else
        ad_in_pieces(3, (const ad_view *[]){index, x, y}, other_axes(axis), FUNCTION, gather_piece, &axis);
}

static void scatter_add_piece(const ad_view *const *v, const void *axis) {
    AD_NAME(scatter_add)(v[1], *(const int *)axis, v[0], v[2]);
}
static void parallel_scatter_add(const ad_view *x, int axis, const ad_view *index, const ad_view *y) {
    if (ad_is_one_piece(index, FUNCTION))
        AD_NAME(scatter_add)(x, axis, index, y);
    else
        ad_in_pieces(3, (const ad_view *[]){index, x, y}, other_axes(axis), FUNCTION, scatter_add_piece, &axis);
}

/* ---- optimisers -------------------------------------------------------------------------------------------------- */

/* Rows of n numbers as arrays; what is missing stays missing. */
static ad_view row_of(ad_dtype dtype, int64_t n, const void *data) {
    return (ad_view){(void *)(uintptr_t)data, dtype, AD_SHAPE(n), {1}};
}

static void sgd_piece(const ad_view *const *v, const void *step) {
    AD_NAME(sgd)(v[0]->dtype, v[0]->shape.dim[0], v[2]->data, v[0]->data, v[1]->data, step);
}
static void parallel_sgd(ad_dtype dtype, int64_t n, void *w, const void *g, void *velocity, const ad_sgd_step *step) {
    if (ad_parallel_workers(n, LIGHT) < 2) {
        AD_NAME(sgd)(dtype, n, w, g, velocity, step);
        return;
    }
    const ad_view row[] = {row_of(dtype, n, g), row_of(dtype, n, velocity), row_of(dtype, n, w)};
    ad_in_pieces(3, (const ad_view *[]){&row[0], &row[1], &row[2]}, 1, LIGHT, sgd_piece, step);
}

static void adam_piece(const ad_view *const *v, const void *step) {
    AD_NAME(adam)(v[0]->dtype, v[0]->shape.dim[0], v[3]->data, v[0]->data, v[1]->data, v[2]->data, step);
}
static void parallel_adam(ad_dtype dtype, int64_t n, void *w, const void *g, void *m, void *v,
                          const ad_adam_step *step) {
    if (ad_parallel_workers(n, ADAM) < 2) {
        AD_NAME(adam)(dtype, n, w, g, m, v, step);
        return;
    }
    const ad_view row[] = {row_of(dtype, n, g), row_of(dtype, n, m), row_of(dtype, n, v), row_of(dtype, n, w)};
    ad_in_pieces(4, (const ad_view *[]){&row[0], &row[1], &row[2], &row[3]}, 1, ADAM, adam_piece, step);
}

static void rescale_piece(const ad_view *const *v, const void *factor) {
    AD_NAME(rescale)(v[0]->dtype, v[0]->shape.dim[0], v[0]->data, *(const double *)factor);
}
static void parallel_rescale(ad_dtype dtype, int64_t n, void *x, double factor) {
    const ad_view row = row_of(dtype, n, x), *rows[] = {&row};
    if (ad_parallel_workers(n, LIGHT) < 2)
        AD_NAME(rescale)(dtype, n, x, factor);
    else
        ad_in_pieces(1, rows, 1, LIGHT, rescale_piece, &factor);
}

/* ---- pooling ----------------------------------------------------------------------------------------------------- */

enum { POOL = 2048 }; /* elements of windows */

typedef struct pooling {
    const ad_windows *windows;
    ad_dtype dtype;
    const void *from;
    void *to;
    int64_t *index;
    bool add;
} pooling;

static int64_t seen_in_plane(const ad_windows *v) { return v->count[0] * v->count[1] * v->kernel[0] * v->kernel[1]; }

static void share_planes(ad_work *work, const pooling *p, int64_t planes) {
    const int64_t seen = planes * seen_in_plane(p->windows);
    ad_parallel(ad_parallel_workers(seen, POOL), planes, seen / POOL, work, p);
}

static void max_pool_planes(const void *context, int64_t from, int64_t to, int worker) {
    const pooling *p = context;
    const int64_t of_x = p->windows->size[0] * p->windows->size[1],
                  of_y = p->windows->count[0] * p->windows->count[1];
    const int64_t size = (int64_t)ad_dtype_size(p->dtype);
    (void)worker;
    AD_NAME(max_pool)
    (p->windows, p->dtype, to - from, (const char *)p->from + from * of_x * size, (char *)p->to + from * of_y * size,
     p->index + from * of_y);
}
static void parallel_max_pool(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *x, void *y,
                              int64_t *index) {
    share_planes(max_pool_planes, &(pooling){windows, dtype, x, y, index, false}, planes);
}

static void max_pool_back_planes(const void *context, int64_t from, int64_t to, int worker) {
    const pooling *p = context;
    const int64_t of_x = p->windows->size[0] * p->windows->size[1],
                  of_y = p->windows->count[0] * p->windows->count[1];
    const int64_t size = (int64_t)ad_dtype_size(p->dtype);
    (void)worker;
    AD_NAME(max_pool_back)
    (p->windows, p->dtype, to - from, (const char *)p->from + from * of_y * size, p->index + from * of_y,
     (char *)p->to + from * of_x * size, p->add);
}
static void parallel_max_pool_back(const ad_windows *windows, ad_dtype dtype, int64_t planes, const void *g,
                                   const int64_t *index, void *x_bar, bool add) {
    share_planes(max_pool_back_planes, &(pooling){windows, dtype, g, x_bar, (int64_t *)(uintptr_t)index, add},
                 planes);
}

/* ---- the matrix product ------------------------------------------------------------------------------------------ */

/* The longer side of C in as many pieces as there are threads: fewer would not use them, and what a piece packs the next
 * one cannot use. Pieces are whole cache lines of a row of C. */
typedef struct product {
    const ad_gemm *problem;
    char *scratch;
    size_t bytes; /* of scratch, of one piece */
    bool by_columns;
    int64_t unit, pieces;
} product;

static size_t piece_bytes(const ad_gemm *problem) { return (AD_NAME(gemm_scratch)(problem) + 63) / 64 * 64; }

static size_t parallel_gemm_scratch(const ad_gemm *problem) {
    return piece_bytes(problem) * (size_t)(problem->threads > 1 ? problem->threads : 1);
}

static void multiply_pieces(const void *context, int64_t from, int64_t to, int worker) {
    const product *p = context;
    const int64_t n = p->by_columns ? p->problem->n : p->problem->m, units = n / p->unit;
    const int64_t first = units * from / p->pieces * p->unit, past = units * to / p->pieces * p->unit;
    const int64_t end = to == p->pieces ? n : past;
    char *scratch = p->scratch ? p->scratch + (size_t)worker * p->bytes : NULL;
    if (p->by_columns)
        AD_NAME(gemm_part)(p->problem, 0, p->problem->m, first, end, scratch);
    else
        AD_NAME(gemm_part)(p->problem, first, end, 0, p->problem->n, scratch);
}

static void parallel_gemm(const ad_gemm *problem, void *scratch) {
#if defined AD_HAVE_CBLAS
    if (ad_blas_gemm(problem)) return;
#endif
    if (problem->threads < 2) {
        AD_NAME(gemm)(problem, scratch);
        return;
    }
    product p = {.problem = problem, .scratch = scratch, .bytes = piece_bytes(problem)};
    p.by_columns = problem->n >= problem->m;
    const int64_t n = p.by_columns ? problem->n : problem->m, line = 64 / (int64_t)ad_dtype_size(problem->dtype);
    const int64_t stride = p.by_columns ? problem->csc : problem->rsc;
    p.unit = stride == 1 && n >= line * problem->threads ? line : 1;
    p.pieces = n / p.unit < problem->threads ? n / p.unit : problem->threads;
    ad_parallel((int)p.pieces, p.pieces, ad_gemm_work(problem) / AD_GEMM_GRAIN, multiply_pieces, &p);
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

#define AD_TEXT_OF(isa)  #isa
#define AD_ISA_TEXT(isa) AD_TEXT_OF(isa)

extern const ad_kernels AD_NAME(kernels);
const ad_kernels AD_NAME(kernels) = {
    .isa = AD_ISA_TEXT(AD_ISA),
    .unary_flat = parallel_unary_flat,
    .unary_back_flat = parallel_unary_back_flat,
    .binary_flat = parallel_binary_flat,
    .binary_back_flat = parallel_binary_back_flat,
    .unary = parallel_unary,
    .unary_back = parallel_unary_back,
    .binary = parallel_binary,
    .binary_back = parallel_binary_back,
    .compare = parallel_compare,
    .select = parallel_select,
    .fill = parallel_fill,
    .copy = parallel_copy,
    .sum_to = parallel_sum_to,
    .sum_of_squares = AD_NAME(sum_of_squares),
    .reduce = parallel_reduce,
    .reduce_back = parallel_reduce_back,
    .all_finite = parallel_all_finite,
    .gemm_scratch = parallel_gemm_scratch,
    .gemm = parallel_gemm,
    .gemm_part = AD_NAME(gemm_part),
    .dot = AD_NAME(dot),
    .rotate = AD_NAME(rotate),
    .softmax = parallel_softmax,
    .softmax_back = parallel_softmax_back,
    .log_softmax = parallel_log_softmax,
    .log_softmax_back = parallel_log_softmax_back,
    .softmax_xent = parallel_softmax_xent,
    .softmax_xent_back = parallel_softmax_xent_back,
    .standardize = parallel_standardize,
    .standardize_back = parallel_standardize_back,
    .lstm = AD_NAME(lstm),
    .lstm_back = AD_NAME(lstm_back),
    .lstm_back_jvp = AD_NAME(lstm_back_jvp),
    .columns = AD_NAME(columns),
    .direct_plan = AD_NAME(direct_plan),
    .direct_prepare = AD_NAME(direct_prepare),
    .direct = AD_NAME(direct),
    .max_pool = parallel_max_pool,
    .max_pool_back = parallel_max_pool_back,
    .attend = AD_NAME(attend),
    .attend_again = AD_NAME(attend_again),
    .attend_back = AD_NAME(attend_back),
    .scale_rows = AD_NAME(scale_rows),
    .gather = parallel_gather,
    .scatter_add = parallel_scatter_add,
    .find_bad_index = AD_NAME(find_bad_index),
    .sgd = parallel_sgd,
    .adam = parallel_adam,
    .rescale = parallel_rescale,
};
