/* attention: softmax(scale q k^T + mask) v without the probabilities in memory.
 *
 * The scores are made block by block. Forward, each row keeps its largest score so far and the sum of exponentials relative
 * to it, and what was summed before is scaled down when a larger score comes (Milakov and Gimelshein 2018; Dao et al.,
 * "FlashAttention", 2022). Result 1, the row's log-sum-exp, is all that backward needs to make the same block again. */
#include "ops/attention.h"

#include <math.h>
#include <stdio.h>

enum { BLOCK_ROWS = 64, BLOCK_COLUMNS = 128 };

/* ---- the shape rule ---------------------------------------------------------------------------------------------- */

ad_status ad_attention_check(ad_call *call, int mask) {
    ad_status status = AD_OK;
    for (int i = 0; i < 3 && !status; i++) {
        status = ad_need_matrix(call, i);
        if (!status && i > 0) status = ad_need_same_dtype(call, 0, i);
    }
    if (!status && mask) status = ad_need_float(call, mask);
    if (!status && mask) status = ad_need_same_dtype(call, 0, mask);
    if (status) return status;
    const ad_shape *q = &call->in[0]->shape, *k = &call->in[1]->shape, *v = &call->in[2]->shape;
    int last = q->rank - 1;
    bool fits = k->rank == q->rank && v->rank == q->rank && q->dim[last] == k->dim[last] &&
                k->dim[last - 1] == v->dim[last - 1];
    for (int i = 0; fits && i < last - 1; i++) fits = q->dim[i] == k->dim[i] && q->dim[i] == v->dim[i];
    if (!fits)
        return ad_fail(call, AD_ERR_SHAPE,
                       "queries [..., T, d], keys [..., S, d] and values [..., S, e] do not fit: %s, %s, %s",
                       ad_describe(call, 0), ad_describe(call, 1), ad_describe(call, 2));
    ad_shape scores = *q, common;
    scores.dim[last] = k->dim[last - 1];
    if (mask && (ad_shape_broadcast(&call->in[mask]->shape, &scores, &common) || !ad_shape_equal(&common, &scores))) {
        char text[AD_TYPE_TEXT];
        return ad_fail(call, AD_ERR_SHAPE, "%s, but a mask must broadcast to the scores, %s", ad_describe(call, mask),
                       ad_type_text(call->in[0]->dtype, &scores, text));
    }
    return AD_OK;
}

void ad_attention_set_results(ad_call *call) {
    ad_shape y = call->in[0]->shape, sums = y;
    y.dim[y.rank - 1] = call->in[2]->shape.dim[y.rank - 1];
    sums.rank--;
    ad_set_out(call, 0, call->in[0]->dtype, y);
    ad_set_out(call, 1, call->in[0]->dtype, sums);
}

static ad_status attention_shape(ad_call *call) {
    if (call->inputs != 3 && call->inputs != 4)
        return ad_fail(call, AD_ERR_VALUE, "%d inputs; it takes q, k, v and perhaps a mask", call->inputs);
    ad_status status = ad_attention_check(call, call->inputs == 4 ? 3 : 0);
    if (!status) ad_attention_set_results(call);
    return status;
}

/* ---- blocks -------------------------------------------------------------------------------------------------------- */

/* Rows [row, row + rows) and columns likewise. */
typedef struct block {
    int64_t row, rows, column, columns;
} block;

/* One matrix of each stack, and memory for one block: each thread has a frame of its own. */
typedef struct frame {
    const ad_call *call;
    const ad_kernels *kernels;
    ad_attention_attrs attrs;
    ad_dtype dtype;
    int64_t t, s;
    ad_view q, k, v, mask; /* mask: data NULL if there is none */
    void *memory[3];       /* blocks of scores */
    void *rows;            /* a block of rows of the result */
    void *scratch;         /* of any product of a block */
} frame;

/* The results and gradients, as stacks, and the matrix of each at hand; data NULL: none. */
typedef struct results {
    ad_view y_stack, logs_stack, seed[2], bar[4];
    ad_view y, logs, g, g_logs, q_bar, k_bar, v_bar, mask_bar;
    bool one_row, one_column; /* the mask has only one, which all are summed into */
} results;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

ad_view ad_matrix_block(const ad_view *m, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    ad_view p = *m;
    p.shape = AD_SHAPE(rows, columns);
    p.data = (char *)p.data + (row * m->stride[0] + column * m->stride[1]) * (int64_t)ad_dtype_size(m->dtype);
    return p;
}

static ad_view rows_of(const ad_view *m, int64_t row, int64_t rows) {
    return ad_matrix_block(m, row, rows, 0, m->shape.dim[1]);
}

ad_view ad_matrix_at(const ad_view *stack, int64_t number) {
    int batch = stack->shape.rank - 2;
    int64_t offset = 0;
    for (int i = batch - 1; i >= 0; i--) {
        offset += number % stack->shape.dim[i] * stack->stride[i];
        number /= stack->shape.dim[i];
    }
    ad_view m = *stack;
    m.data = (char *)m.data + offset * (int64_t)ad_dtype_size(m.dtype);
    m.shape = AD_SHAPE(stack->shape.dim[batch], stack->shape.dim[batch + 1]);
    m.stride[0] = stack->stride[batch];
    m.stride[1] = stack->stride[batch + 1];
    return m;
}

static ad_view matrix_or_none(const ad_view *stack, int64_t number) {
    return stack->data ? ad_matrix_at(stack, number) : (ad_view){.data = NULL};
}

static ad_view dense(const frame *f, void *memory, int64_t rows, int64_t columns) {
    return ad_view_of(memory, f->dtype, AD_SHAPE(rows, columns));
}

ad_view ad_attention_mask(const ad_call *call, const ad_view *mask) {
    ad_shape scores = call->in[0]->shape;
    scores.dim[scores.rank - 1] = call->in[1]->shape.dim[scores.rank - 2];
    return ad_stretched(mask, &scores);
}

static void enter_matrix(frame *f, results *r, int64_t number) {
    const ad_call *call = f->call;
    f->q = ad_matrix_at(call->in[0], number);
    f->k = ad_matrix_at(call->in[1], number);
    f->v = ad_matrix_at(call->in[2], number);
    if (call->inputs == 4) {
        ad_view mask = ad_attention_mask(call, call->in[3]);
        f->mask = ad_matrix_at(&mask, number);
    }
    r->y = ad_matrix_at(&r->y_stack, number);
    r->logs = ad_matrix_at(&r->logs_stack, number);
    r->g = matrix_or_none(&r->seed[0], number);
    r->g_logs = matrix_or_none(&r->seed[1], number);
    r->q_bar = matrix_or_none(&r->bar[0], number);
    r->k_bar = matrix_or_none(&r->bar[1], number);
    r->v_bar = matrix_or_none(&r->bar[2], number);
    r->mask_bar = matrix_or_none(&r->bar[3], number);
}

/* How many columns the rows of a block see. */
static int64_t columns_seen(const frame *f, int64_t row, int64_t rows) {
    return f->attrs.causal ? least(f->s, row + rows) : f->s;
}

/* ---- products ------------------------------------------------------------------------------------------------------ */

/* What is multiplied in a block. x are its scores and p its probabilities, which lie in memory[0] in turn; p_bar is in
 * memory[1], x_bar in memory[2]. */
typedef enum product {
    QUERIES_KEYS,     /* x = q k^T */
    VALUES,           /* y += p v, or = in the first block */
    TO_VALUES,        /* v_bar += p^T g */
    TO_PROBABILITIES, /* p_bar = g v^T */
    TO_QUERIES,       /* q_bar += x_bar k */
    TO_KEYS,          /* k_bar += x_bar^T q */
    PRODUCTS
} product;

static ad_gemm product_of(const frame *f, const results *r, const block *b, product which) {
    const ad_view q = rows_of(&f->q, b->row, b->rows), k = rows_of(&f->k, b->column, b->columns);
    const ad_view v = rows_of(&f->v, b->column, b->columns), p = dense(f, f->memory[0], b->rows, b->columns);
    const ad_view p_bar = dense(f, f->memory[1], b->rows, b->columns),
                  x_bar = dense(f, f->memory[2], b->rows, b->columns);
    const ad_view kt = ad_swap_last(&k), vt = ad_swap_last(&v), pt = ad_swap_last(&p), xt_bar = ad_swap_last(&x_bar);
    ad_view g, to;
    switch (which) {
    case QUERIES_KEYS: return ad_matrix_product(&q, &kt, &p, false);
    case VALUES: to = rows_of(&r->y, b->row, b->rows); return ad_matrix_product(&p, &v, &to, b->column > 0);
    case TO_VALUES:
        g = rows_of(&r->g, b->row, b->rows), to = rows_of(&r->v_bar, b->column, b->columns);
        return ad_matrix_product(&pt, &g, &to, true);
    case TO_PROBABILITIES: g = rows_of(&r->g, b->row, b->rows); return ad_matrix_product(&g, &vt, &p_bar, false);
    case TO_QUERIES: to = rows_of(&r->q_bar, b->row, b->rows); return ad_matrix_product(&x_bar, &k, &to, true);
    default: to = rows_of(&r->k_bar, b->column, b->columns); return ad_matrix_product(&xt_bar, &q, &to, true);
    }
}

static bool is_wanted(const results *r, product which) {
    switch (which) {
    case TO_VALUES: return r->g.data && r->v_bar.data;
    case TO_PROBABILITIES: return r->g.data;
    case TO_QUERIES: return r->q_bar.data;
    case TO_KEYS: return r->k_bar.data;
    default: return true;
    }
}

static void multiply(const frame *f, const results *r, const block *b, product which) {
    if (!is_wanted(r, which)) return;
    const ad_gemm problem = product_of(f, r, b, which);
    if (problem.m > 0 && problem.n > 0) f->kernels->gemm(&problem, f->scratch);
}

/* The scratch memory that products of blocks of this size need. */
static size_t bytes_of(const frame *f, const results *r, int64_t rows, int64_t columns) {
    size_t most = 0;
    for (int which = 0; which < PRODUCTS; which++) {
        if (!is_wanted(r, (product)which)) continue;
        /* Scratch does not depend on where things lie, but a first block may store what later ones add. */
        for (int64_t later = 0; later < 2; later++) {
            const block b = {.rows = rows, .column = later * columns, .columns = columns};
            const ad_gemm problem = product_of(f, r, &b, (product)which);
            const size_t bytes = problem.m > 0 && problem.n > 0 ? f->kernels->gemm_scratch(&problem) : 0;
            if (bytes > most) most = bytes;
        }
    }
    return most;
}

/* Of any block: rows come in blocks of BLOCK_ROWS and the rest, and how many columns are left at the end of what is seen
 * depends, if `causal`, on the rows. */
static size_t most_bytes(const frame *f, const results *r) {
    const int64_t rest = f->t % BLOCK_ROWS, rows[] = {BLOCK_ROWS, rest};
    const int64_t columns[] = {BLOCK_COLUMNS, f->s % BLOCK_COLUMNS, BLOCK_ROWS, rest, BLOCK_ROWS + rest};
    size_t most = 0;
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < (f->attrs.causal ? 5 : 2); j++) {
            if (rows[i] == 0 || rows[i] > f->t || columns[j] == 0 || columns[j] > f->s) continue;
            const size_t bytes = bytes_of(f, r, rows[i], columns[j]);
            if (bytes > most) most = bytes;
        }
    }
    return most;
}
_Static_assert(BLOCK_COLUMNS == 2 * BLOCK_ROWS, "or other numbers of columns are left");

/* ---- what threads share -------------------------------------------------------------------------------------------- */

typedef struct shared {
    frame *frames; /* one for each thread */
    const results *results;
    int threads;
    int64_t matrices, row_blocks;
    int64_t grains; /* of work, a microsecond or two each */
} shared;

static bool open_frame(frame *f, ad_call *call) {
    const ad_shape *q = &call->in[0]->shape, *v = &call->in[2]->shape;
    int last = q->rank - 1;
    *f = (frame){.call = call, .kernels = ad_kernels_get(), .attrs = *(const ad_attention_attrs *)call->attrs};
    f->dtype = call->in[0]->dtype;
    f->t = q->dim[last - 1];
    f->s = v->dim[last - 1];
    size_t size = ad_dtype_size(f->dtype), width = (size_t)v->dim[last];
    for (int i = 0; i < 3; i++)
        if (!(f->memory[i] = ad_scratch(call, BLOCK_ROWS * BLOCK_COLUMNS * size))) return false;
    return (f->rows = ad_scratch(call, BLOCK_ROWS * width * size)) != NULL;
}

static int64_t grains_of(const ad_call *call, int64_t matrices) {
    const ad_shape *q = &call->in[0]->shape, *v = &call->in[2]->shape;
    int last = q->rank - 1;
    const double scores = (double)matrices * (double)q->dim[last - 1] * (double)v->dim[last - 1];
    return (int64_t)(scores * (1.0 / 2048 + (double)(q->dim[last] + v->dim[last]) / AD_GEMM_GRAIN));
}

/* Frames for at most as many threads as there are blocks of rows, or `by_matrices` matrices. */
static bool open_frames(shared *all, ad_call *call, results *r, bool by_matrices) {
    const ad_shape *q = &call->in[0]->shape;
    int last = q->rank - 1;
    r->y_stack = call->out[0];
    r->logs_stack = ad_insert_axis(&call->out[1], call->out[1].shape.rank);
    *all = (shared){.results = r, .matrices = 1, .row_blocks = (q->dim[last - 1] + BLOCK_ROWS - 1) / BLOCK_ROWS};
    for (int i = 0; i < last - 1; i++) all->matrices *= q->dim[i];
    all->grains = grains_of(call, all->matrices);
    const int64_t items = by_matrices ? all->matrices : all->matrices * all->row_blocks;
    all->threads = ad_max_int(1, (int)least(items, ad_parallel_workers(all->grains, 1)));
    all->frames = ad_scratch(call, (size_t)all->threads * sizeof *all->frames);
    if (!all->frames) return false;
    for (int i = 0; i < all->threads; i++)
        if (!open_frame(&all->frames[i], call)) return false;
    if (all->matrices == 0) return true;
    results first = *r;
    enter_matrix(&all->frames[0], &first, 0);
    const size_t bytes = most_bytes(&all->frames[0], &first);
    for (int i = 0; i < all->threads; i++)
        if (!(all->frames[i].scratch = ad_scratch(call, bytes))) return false;
    return true;
}

/* The products of queries and keys, in memory[0], and all else that makes the scores of them. */
static ad_scores scores(const frame *f, const results *r, const block *b) {
    ad_scores scores = {.dtype = f->dtype,
                        .rows = b->rows,
                        .columns = b->columns,
                        .diagonal = b->row - b->column,
                        .causal = f->attrs.causal,
                        .scale = f->attrs.scale,
                        .x = f->memory[0]};
    multiply(f, r, b, QUERIES_KEYS);
    if (f->mask.data) scores.mask = ad_matrix_block(&f->mask, b->row, b->rows, b->column, b->columns);
    return scores;
}

static void row_numbers(const frame *f, ad_reduction row, const ad_view *x, double *numbers) {
    ad_view y = ad_view_of(numbers, AD_F64, AD_SHAPE(x->shape.dim[0], 1));
    f->kernels->reduce(row, x, NULL, 0, &y);
}

/* ---- forward -------------------------------------------------------------------------------------------------------- */

/* The rows of y are row-major; what is summed in them is divided by the sum of exponentials at the end. */
static void forward_rows(const frame *f, const results *r, block b) {
    double largest[BLOCK_ROWS], sum[BLOCK_ROWS], factor[BLOCK_ROWS];
    ad_view rows = rows_of(&r->y, b.row, b.rows);
    const int64_t seen = columns_seen(f, b.row, b.rows), width = rows.shape.dim[1];
    for (int i = 0; i < BLOCK_ROWS; i++) largest[i] = -INFINITY, sum[i] = 0;
    if (seen == 0) f->kernels->fill(&rows, 0);
    for (b.column = 0; b.column < seen; b.column += BLOCK_COLUMNS) {
        b.columns = least(BLOCK_COLUMNS, seen - b.column);
        const ad_scores made = scores(f, r, &b);
        f->kernels->attend(&made, largest, sum, factor);
        if (b.column > 0) f->kernels->scale_rows(f->dtype, b.rows, width, factor, rows.data);
        multiply(f, r, &b, VALUES);
    }
    for (int64_t i = 0; i < b.rows; i++) {
        factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];
        ad_element_set((char *)r->logs.data + (size_t)(b.row + i) * ad_dtype_size(f->dtype), f->dtype,
                       sum[i] == 0 ? -INFINITY : largest[i] + log(sum[i]));
    }
    f->kernels->scale_rows(f->dtype, b.rows, width, factor, rows.data);
}

/* Items are the blocks of rows of all matrices. */
static void forward_items(const void *context, int64_t from, int64_t to, int worker) {
    const shared *all = context;
    frame *f = &all->frames[worker];
    results r = *all->results;
    for (int64_t i = from; i < to; i++) {
        const int64_t row = i % all->row_blocks * BLOCK_ROWS;
        enter_matrix(f, &r, i / all->row_blocks);
        forward_rows(f, &r, (block){.row = row, .rows = least(BLOCK_ROWS, f->t - row)});
    }
}

static ad_status attention_forward(ad_call *call) {
    results r = {.one_row = false};
    shared all;
    if (!open_frames(&all, call, &r, false)) return AD_ERR_OOM;
    ad_parallel(all.threads, all.matrices * all.row_blocks, all.grains, forward_items, &all);
    return AD_OK;
}

/* ---- backward ------------------------------------------------------------------------------------------------------- */

/* `less`: what is subtracted from a row of the gradient of the probabilities: <p, p_bar> = <g, y>, and -g of the logs. */
static void backward_block(const frame *f, const results *r, const block *b, const double *logs, const double *less) {
    const ad_scores made = scores(f, r, b);
    const ad_view bar = dense(f, f->memory[1], b->rows, b->columns);
    f->kernels->attend_again(&made, logs);
    if (!r->g.data) f->kernels->fill(&bar, 0);
    multiply(f, r, b, TO_VALUES);
    multiply(f, r, b, TO_PROBABILITIES);
    f->kernels->attend_back(&made, less, f->memory[1], f->memory[2]);
    if (r->mask_bar.data) {
        ad_view mask_bar = ad_matrix_block(&r->mask_bar, r->one_row ? 0 : b->row, r->one_row ? 1 : b->rows,
                                           r->one_column ? 0 : b->column, r->one_column ? 1 : b->columns);
        f->kernels->sum_to(&bar, &mask_bar, 1, true);
    }
    multiply(f, r, b, TO_QUERIES);
    multiply(f, r, b, TO_KEYS);
}

static void backward_rows(const frame *f, const results *r, block b) {
    double logs[BLOCK_ROWS], less[BLOCK_ROWS] = {0};
    if (r->g.data) {
        ad_view g = rows_of(&r->g, b.row, b.rows), y = rows_of(&r->y, b.row, b.rows);
        ad_view gy = dense(f, f->rows, b.rows, f->v.shape.dim[1]);
        f->kernels->binary(AD_BINARY_mul, &g, &y, &gy);
        row_numbers(f, AD_REDUCTION_sum, &gy, less);
    }
    for (int64_t i = 0; i < b.rows; i++) {
        logs[i] = ad_view_get(&r->logs, b.row + i);
        if (r->g_logs.data) less[i] -= ad_view_get(&r->g_logs, b.row + i);
    }
    int64_t seen = columns_seen(f, b.row, b.rows);
    for (b.column = 0; b.column < seen; b.column += BLOCK_COLUMNS) {
        b.columns = least(BLOCK_COLUMNS, seen - b.column);
        backward_block(f, r, &b, logs, less);
    }
}

/* Items are matrices: all rows of one add to its keys and values. */
static void backward_items(const void *context, int64_t from, int64_t to, int worker) {
    const shared *all = context;
    frame *f = &all->frames[worker];
    results r = *all->results;
    for (int64_t i = from; i < to; i++) {
        enter_matrix(f, &r, i);
        for (int64_t row = 0; row < f->t; row += BLOCK_ROWS)
            backward_rows(f, &r, (block){.row = row, .rows = least(BLOCK_ROWS, f->t - row)});
    }
}

/* Buffers for all gradients, ready to be added to. */
static void open_gradients(results *r, ad_call *call, ad_adjoint *adjoint) {
    *r = (results){.seed = {adjoint->seed[0], adjoint->seed[1]}};
    for (int i = 0; i < call->inputs; i++) {
        const ad_view *into = ad_into_cleared(adjoint, i);
        if (into) r->bar[i] = *into;
    }
    if (r->seed[1].data) r->seed[1] = ad_insert_axis(&r->seed[1], r->seed[1].shape.rank);
    if (call->inputs < 4) return;
    const ad_shape *mask = &call->in[3]->shape;
    r->one_row = mask->rank < 2 || mask->dim[mask->rank - 2] == 1;
    r->one_column = mask->rank < 1 || mask->dim[mask->rank - 1] == 1;
    if (r->bar[3].data) r->bar[3] = ad_attention_mask(call, &r->bar[3]);
}

static ad_status attention_backward(ad_call *call, ad_adjoint *adjoint) {
    results r;
    shared all;
    open_gradients(&r, call, adjoint);
    if (!open_frames(&all, call, &r, true)) return AD_ERR_OOM;
    /* Several matrices may add to one mask. */
    const int threads = r.bar[3].data ? 1 : all.threads;
    ad_parallel(threads, all.matrices, all.grains, backward_items, &all);
    return AD_OK;
}

/* ---- the derivative in ops ------------------------------------------------------------------------------------------ */

ad_var ad_attention_scores(ad_var q, ad_var k, ad_var mask, const ad_attention_attrs *attrs) {
    ad_var x = ad_scale(ad_matmul_sum(AD_VARS(q, k), AD_RIGHT_TRANSPOSED), attrs->scale);
    if (mask.tape) x = ad_add(x, mask);
    ad_shape shape = ad_value(x).shape;
    if (!attrs->causal || shape.rank < 2) return x; /* of a lower rank if there was an error */
    ad_shape scores = AD_SHAPE(shape.dim[shape.rank - 2], shape.dim[shape.rank - 1]);
    ad_var seen = ad_tril(ad_broadcast_to(ad_number_like(AD_HERE, x, 1), scores), 0);
    return ad_where(seen, x, ad_number_like(AD_HERE, x, -INFINITY));
}

/* Through the probabilities, all of them: of the logs and of a mask. */
static void attention_vjp_at_length(ad_vjp *v) {
    const ad_attention_attrs *attrs = ad_vjp_attrs(v);
    ad_var mask = ad_vjp_inputs(v) == 4 ? ad_vjp_input(v, 3) : AD_NONE;
    ad_var p = ad_softmax(ad_attention_scores(ad_vjp_input(v, 0), ad_vjp_input(v, 1), mask, attrs), -1);
    ad_var g = ad_vjp_seed(v, 0), slope = ad_vjp_number(v, 0);
    if (ad_vjp_has_seed(v, 0)) {
        if (ad_vjp_wants(v, 2)) ad_vjp_give(v, 2, ad_matmul_sum(AD_VARS(p, g), AD_LEFT_TRANSPOSED));
        ad_var p_bar = ad_matmul_sum(AD_VARS(g, ad_vjp_input(v, 2)), AD_RIGHT_TRANSPOSED);
        slope = ad_sub(p_bar, ad_sum(ad_masked_mul(p, p_bar), AD_AXES(-1), AD_KEEPDIM));
    }
    if (ad_vjp_has_seed(v, 1)) slope = ad_add(slope, ad_unsqueeze(ad_vjp_seed(v, 1), -1));
    ad_var x_bar = ad_masked_mul(p, slope), scaled = ad_scale(x_bar, attrs->scale);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_matmul(scaled, ad_vjp_input(v, 1)));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_matmul_sum(AD_VARS(scaled, ad_vjp_input(v, 0)), AD_LEFT_TRANSPOSED));
    if (mask.tape && ad_vjp_wants(v, 3)) ad_vjp_give(v, 3, ad_sum_to(x_bar, ad_vjp_input_shape(v, 3)));
}

static void attention_vjp(ad_vjp *v) {
    const int inputs = ad_vjp_inputs(v);
    if (ad_vjp_has_seed(v, 1) || ad_vjp_wants(v, 3)) {
        attention_vjp_at_length(v);
        return;
    }
    ad_var in[] = {ad_vjp_input(v, 0), ad_vjp_input(v, 1), ad_vjp_input(v, 2), ad_vjp_seed(v, 0), AD_NONE}, bar[3];
    if (inputs == 4) in[4] = ad_vjp_input(v, 3);
    ad_apply_at(AD_HERE, ad_vjp_tape(v), &ad_op_attention_back, inputs + 1, in, ad_vjp_attrs(v), bar);
    for (int i = 0; i < 3; i++)
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, bar[i]);
}

static void attention_jvp(ad_jvp *j) {
    const int n = ad_jvp_inputs(j), moving = n == 4 && ad_jvp_moves(j, 3) ? 4 : 3;
    ad_var in[8], dot[2];
    for (int i = 0; i < n; i++) in[i] = ad_jvp_input(j, i);
    for (int i = 0; i < moving; i++) in[n + i] = ad_jvp_tangent(j, i);
    ad_apply_at(AD_HERE, ad_jvp_tape(j), &ad_op_attention_jvp, n + moving, in, ad_jvp_attrs(j), dot);
    for (int k = 0; k < 2; k++) ad_jvp_give(j, k, dot[k]);
}

const ad_attr ad_attention_attr_list[] = {AD_ATTR("scale", DOUBLE, ad_attention_attrs, scale, AD_REQUIRED),
                                          AD_ATTR("causal", BOOL, ad_attention_attrs, causal, AD_USUALLY(false)),
                                          AD_ATTRS_END};

void ad_show_attention(const void *attrs, char *text, size_t size) {
    const ad_attention_attrs *a = attrs;
    snprintf(text, size, "%g%s", a->scale, a->causal ? ", causal" : "");
}

static bool attention_sample(ad_sample *sample, int k) {
    const struct {
        ad_shape q, k, v, mask;
        bool causal, masked;
    } cases[] = {
        {AD_SHAPE(3, 2), AD_SHAPE(4, 2), AD_SHAPE(4, 3), AD_SCALAR, false, false},
        {AD_SHAPE(3, 2), AD_SHAPE(3, 2), AD_SHAPE(3, 1), AD_SHAPE(3, 3), true, true},
        {AD_SHAPE(2, 2, 2), AD_SHAPE(2, 3, 2), AD_SHAPE(2, 3, 2), AD_SHAPE(2, 1, 3), false, true},
        {AD_SHAPE(2, 3, 1), AD_SHAPE(2, 2, 1), AD_SHAPE(2, 2, 2), AD_SHAPE(3, 1), true, true},
        {AD_SHAPE(1, 1), AD_SHAPE(1, 1), AD_SHAPE(1, 1), AD_SCALAR, true, false},
        {AD_SHAPE(0, 2), AD_SHAPE(3, 2), AD_SHAPE(3, 2), AD_SCALAR, false, true},
        {AD_SHAPE(0, 2, 2), AD_SHAPE(0, 3, 2), AD_SHAPE(0, 3, 1), AD_SCALAR, false, false},
    };
    if (k >= (int)(sizeof cases / sizeof *cases)) return false;
    ad_attention_attrs *attrs = (ad_attention_attrs *)(void *)sample->attrs.bytes;
    *attrs = (ad_attention_attrs){.scale = 0.7, .causal = cases[k].causal};
    return ad_sample_normal(sample, cases[k].q) && ad_sample_normal(sample, cases[k].k) &&
           ad_sample_normal(sample, cases[k].v) && (!cases[k].masked || ad_sample_normal(sample, cases[k].mask));
}

const ad_op ad_op_attention = {
    .name = "attention",
    .inputs = -1,
    .results = 2,
    .attrs_size = sizeof(ad_attention_attrs),
    .attrs = ad_attention_attr_list,
    .saves = AD_SAVES_INPUTS | AD_SAVES_RESULT(0) | AD_SAVES_RESULT(1),
    .shape = attention_shape,
    .forward = attention_forward,
    .vjp = attention_vjp,
    .backward = attention_backward,
    .jvp = attention_jvp,
    .formula = "$y = softmax(scale $0 $1^T + mask) $2 ($a)",
    .result_formula = {"$y1 = logsumexp(scale $0 $1^T + mask)"},
    .adjoint = {"~0 += scale s $1, where s = p * (~y $2^T - <~y, $y> + ~y1)", "~1 += scale s^T $0", "~2 += p^T ~y",
                "~3 += s"},
    .convention = "a row of scores -inf: zeros, and gradient 0",
    .show_attrs = ad_show_attention,
    .sample = attention_sample,
};

ad_var ad_attention_at(const char *where, ad_var q, ad_var k, ad_var v, ad_var mask, double scale, bool causal) {
    ad_tape *tape = q.tape ? q.tape : k.tape ? k.tape : v.tape;
    ad_attention_attrs attrs = {.scale = scale, .causal = causal};
    return ad_apply_at(where, tape, &ad_op_attention, mask.tape ? 4 : 3, (ad_var[]){q, k, v, mask}, &attrs, NULL);
}
