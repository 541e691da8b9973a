/* The walk back with several cotangents of y at once, as the rows of a Jacobian take: the tape is read once for all of
 * them, and products with vectors become products with matrices.
 *
 * A *seed* is one of those cotangents. The gradient of a node is a matrix, a row for each seed, and lies beside the tape,
 * which has no gradients of such a pass:
 *   numbers   in a block of 8 bytes for each seed. Of an f64's, only the seeds [from, to) are there and the others are 0:
 *             most numbers of a sparse Jacobian's function matter to few rows.
 *   arrays    in a tensor.
 * An operation goes back in one of three ways: a scalar rule is a loop over seeds; an op whose .batches agrees has one call
 * of its .backward for all seeds, whose axis comes first in all views; any other has a call for each seed. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum {
    LANES = 8,     /* seeds come in groups, of which the compiler makes vector code */
    TOGETHER = -1, /* in place of the number of a seed */
    /* How many seeds are worth it: by then the tape costs next to nothing; and what arrays of them may take. */
    MOST_SEEDS = 64,
    MOST_BYTES = 4 << 20
};

typedef struct slot {
    void *memory; /* a block or an ad_tensor [seeds, elements]; NULL: no gradient */
    uint32_t from, to;
} slot;

/* Of one input of an operation that goes back seed by seed: its gradient was there before, and has this seed's row. */
typedef struct progress {
    bool was_there, is_written;
} progress;

typedef struct ad_batch {
    ad_tape *tape;
    ad_arena memory;
    int64_t seeds;
    uint32_t room; /* seeds, up to the end of a group */
    slot *at;      /* by node */
    void *free;    /* blocks, each with the address of the next */

    /* Of the operation that goes back: */
    int64_t seed; /* TOGETHER, or the one whose turn it is */
    int rank;     /* TOGETHER: of all views, without the axis of seeds */
    progress *progress;
} ad_batch;

/* ---- where gradients lie ------------------------------------------------------------------------------------------- */

static bool is_number(const ad_node *node) { return node->flags & AD_NODE_INLINE; }
static bool is_f64(const ad_node *node) { return is_number(node) && node->dtype == AD_F64; }

static void *take_block(ad_batch *batch) {
    void *block = batch->free;
    if (!block) return ad_arena_take(&batch->memory, batch->room * sizeof(double));
    memcpy(&batch->free, block, sizeof batch->free);
    return block;
}

static void release(ad_batch *batch, uint32_t index) {
    slot *s = &batch->at[index];
    if (!s->memory) return;
    if (is_number(ad_node_at(batch->tape, index))) {
        memcpy(s->memory, &batch->free, sizeof batch->free);
        batch->free = s->memory;
    } else {
        ad_tensor_unref(s->memory);
    }
    s->memory = NULL;
}

/* An f64's gradient, with these seeds at least. NULL: no memory. */
static double *open_numbers(ad_batch *batch, uint32_t index, uint32_t from, uint32_t to) {
    slot *s = &batch->at[index];
    if (!s->memory) *s = (slot){take_block(batch), from, from};
    double *g = s->memory;
    if (!g) return NULL;
    if (s->from == s->to) s->from = s->to = from;
    if (from < s->from) {
        memset(g + from, 0, (s->from - from) * sizeof *g);
        s->from = from;
    }
    if (to > s->to) {
        memset(g + s->to, 0, (to - s->to) * sizeof *g);
        s->to = to;
    }
    return g;
}

/* Without the groups at both ends that are all 0. */
static void trim(slot *s) {
    static const double none[LANES];
    const double *g = s->memory;
    while (s->from < s->to && memcmp(g + s->from, none, sizeof none) == 0) s->from += LANES;
    while (s->from < s->to && memcmp(g + s->to - LANES, none, sizeof none) == 0) s->to -= LANES;
}

/* Makes room for the gradient of a node. What is not there yet is garbage, but for an f64's. */
static bool open_slot(ad_batch *batch, uint32_t index) {
    const ad_node *node = ad_node_at(batch->tape, index);
    slot *s = &batch->at[index];
    if (is_f64(node)) return open_numbers(batch, index, 0, batch->room);
    if (s->memory) return true;
    if (is_number(node)) return (s->memory = take_block(batch));
    const ad_view *value = &node->value.tensor->view;
    const ad_shape shape = AD_SHAPE(batch->seeds, ad_view_count(value));
    return (s->memory = ad_pool_tensor(batch->tape->pool, value->dtype, &shape));
}

static char *first_row(const ad_batch *batch, uint32_t index) {
    void *memory = batch->at[index].memory;
    return is_number(ad_node_at(batch->tape, index)) ? memory : ((ad_tensor *)memory)->view.data;
}

/* All of a gradient, which must be open: [seeds, elements]. */
static ad_view rows_of(const ad_batch *batch, uint32_t index) {
    const ad_node *node = ad_node_at(batch->tape, index);
    const ad_shape shape = ad_node_shape(node);
    return ad_view_of(first_row(batch, index), (ad_dtype)node->dtype, AD_SHAPE(batch->seeds, ad_shape_count(&shape)));
}

static ad_view row_of(const ad_batch *batch, uint32_t index, int64_t seed) {
    const ad_node *node = ad_node_at(batch->tape, index);
    const ad_shape shape = ad_node_shape(node);
    const int64_t bytes = ad_shape_count(&shape) * (int64_t)ad_dtype_size((ad_dtype)node->dtype);
    return ad_view_of(first_row(batch, index) + seed * bytes, (ad_dtype)node->dtype, shape);
}

/* A view with the axis of seeds, and axes of 1 up to the common rank, in front of those of the shape. */
static ad_view with_seeds(const ad_batch *batch, const ad_view *view, bool steps) {
    const int front = batch->rank + 1 - view->shape.rank;
    ad_view all = {.data = view->data, .dtype = view->dtype, .shape = {.rank = batch->rank + 1}};
    for (int i = 1; i < front; i++) all.shape.dim[i] = 1;
    for (int i = 0; i < view->shape.rank; i++) {
        all.shape.dim[front + i] = view->shape.dim[i];
        all.stride[front + i] = view->stride[i];
    }
    all.shape.dim[0] = batch->seeds;
    all.stride[0] = steps ? ad_view_count(view) : 0;
    return all;
}

static ad_view gradient_with_seeds(const ad_batch *batch, uint32_t index) {
    const ad_view row = row_of(batch, index, 0);
    return with_seeds(batch, &row, true);
}

/* ---- where contributions go -------------------------------------------------------------------------------------- */

static const ad_view *keep_view(ad_adjoint *adjoint, int i, ad_view view) {
    ad_view *kept = i < AD_FEW_INPUTS ? &adjoint->priv->into[i] : ad_scratch(adjoint->priv->call, sizeof *kept);
    if (kept) *kept = view;
    return kept;
}

/* This seed's row: of what other seeds have not reached, what comes before it is 0. */
static const ad_view *into_row(ad_adjoint *adjoint, int i, bool *add) {
    ad_batch *batch = adjoint->priv->batch;
    const uint32_t *in = adjoint->priv->call->priv->inputs, index = in[i];
    int first = 0;
    while (in[first] != index) first++;
    progress *p = &batch->progress[first];
    const bool is_new = !batch->at[index].memory;
    *add = p->was_there || p->is_written;
    if (!open_slot(batch, index)) {
        ad_tape_out_of_memory(batch->tape, "ad_backward", adjoint->priv->call->priv->where);
        return NULL;
    }
    for (int64_t seed = 0; is_new && seed < batch->seed; seed++) {
        ad_view row = row_of(batch, index, seed);
        ad_kernels_get()->fill(&row, 0);
    }
    p->is_written = true;
    return keep_view(adjoint, i, row_of(batch, index, batch->seed));
}

const ad_view *ad_batch_into(ad_adjoint *adjoint, int i, bool *add) {
    ad_batch *batch = adjoint->priv->batch;
    if (batch->seed != TOGETHER) return into_row(adjoint, i, add);
    const uint32_t index = adjoint->priv->call->priv->inputs[i];
    *add = batch->at[index].memory;
    if (open_slot(batch, index)) return keep_view(adjoint, i, gradient_with_seeds(batch, index));
    ad_tape_out_of_memory(batch->tape, "ad_backward", adjoint->priv->call->priv->where);
    return NULL;
}

/* ---- scalar rules -------------------------------------------------------------------------------------------------- */

static void add_product(double *into, const double *g, double by, uint32_t from, uint32_t to) {
    if (isfinite(by)) {
        for (uint32_t group = from; group < to; group += LANES)
            for (uint32_t k = group; k < group + LANES; k++) into[k] += g[k] * by;
    } else {
        for (uint32_t k = from; k < to; k++) into[k] += g[k] == 0 ? 0 : g[k] * by;
    }
}

static void add_by_rule(const ad_tape *tape, const ad_node *node, const slot *s, double *a, double *b) {
    const double *attrs = node->extra ? node->extra->attrs : NULL, *g = s->memory;
    const double x = ad_node_at(tape, node->in[0])->value.f64, z = ad_node_at(tape, node->in[1])->value.f64;
    for (uint32_t k = s->from; k < s->to; k++) {
        if (g[k] == 0) continue;
        const ad_pair back = node->op->scalar->adjoint(g[k], x, z, node->value.f64, attrs);
        if (a) a[k] += back.a;
        if (b) b[k] += back.b;
    }
}

static bool scalar_back(ad_batch *batch, uint32_t index) {
    const ad_tape *tape = batch->tape;
    const ad_node *node = ad_node_at(tape, index);
    slot *s = &batch->at[index];
    double *into[2] = {NULL, NULL};
    trim(s);
    if (s->from == s->to) return true;
    for (int i = 0; i < node->inputs; i++) {
        if (!(ad_node_at(tape, node->in[i])->flags & AD_NODE_WANTED)) continue;
        into[i] = open_numbers(batch, node->in[i], s->from, s->to);
        if (!into[i]) return false;
    }
    const bool is_product = node->op == &ad_op_mul;
    if (!is_product && node->op != &ad_op_add) {
        add_by_rule(tape, node, s, into[0], into[1]);
        return true;
    }
    for (int i = 0; i < 2; i++)
        if (into[i])
            add_product(into[i], s->memory, is_product ? ad_node_at(tape, node->in[1 - i])->value.f64 : 1, s->from,
                        s->to);
    return true;
}

/* ---- all seeds together -------------------------------------------------------------------------------------------- */

static bool go_together(ad_batch *batch, const ad_call *call, const ad_adjoint *adjoint) {
    batch->rank = 0;
    for (int k = 0; k < ad_op_results(call->op); k++)
        batch->rank = ad_max_int(batch->rank, call->out[k].shape.rank);
    for (int i = 0; i < call->inputs; i++) batch->rank = ad_max_int(batch->rank, call->in[i]->shape.rank);
    return call->op->backward && call->op->batches && batch->rank < AD_MAX_RANK && call->op->batches(call, adjoint);
}

static void back_together(ad_batch *batch, ad_call *call, ad_adjoint *adjoint) {
    const size_t n = (size_t)call->inputs;
    ad_view *view = ad_scratch(call, n * sizeof *view);
    const ad_view **in = ad_scratch(call, n * sizeof *in);
    if (!view || !in) return;
    batch->seed = TOGETHER;
    call->priv->front = batch->rank + 1 - call->in[0]->shape.rank;
    for (size_t i = 0; i < n; i++) {
        view[i] = with_seeds(batch, call->in[i], false);
        in[i] = &view[i];
    }
    call->in = in;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        const uint32_t result = adjoint->priv->first + (uint32_t)k;
        call->out[k] = adjoint->seed[k] = with_seeds(batch, &call->out[k], false);
        adjoint->seed[k].data = NULL;
        if (!batch->at[result].memory) continue;
        if (!open_slot(batch, result)) {
            ad_tape_out_of_memory(batch->tape, "ad_backward", call->priv->where);
            return;
        }
        adjoint->seed[k] = gradient_with_seeds(batch, result);
    }
    ad_run_backward(call, adjoint);
}

/* ---- seed by seed -------------------------------------------------------------------------------------------------- */

static bool is_zero(const ad_view *row) {
    const char *data = row->data;
    const size_t bytes = (size_t)ad_view_count(row) * ad_dtype_size(row->dtype);
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

/* Lends the results their rows, as the gradients that rules written in ops look for. False: no memory, or all are 0. */
static bool lend_rows(ad_batch *batch, const ad_call *call, ad_adjoint *adjoint) {
    bool any = false;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        const uint32_t index = adjoint->priv->first + (uint32_t)k;
        ad_cotangent *lent = ad_cotangent_at(batch->tape, index);
        ad_tensor *rows = batch->at[index].memory;
        adjoint->seed[k] = call->out[k];
        adjoint->seed[k].data = NULL;
        if (!rows) continue;
        const ad_view row = row_of(batch, index, batch->seed);
        any = any || !is_zero(&row);
        adjoint->seed[k] = row;
        *lent = (ad_cotangent){.pass = batch->tape->pass};
        if (is_number(ad_node_at(batch->tape, index))) {
            memcpy(&lent->value, row.data, ad_dtype_size(row.dtype));
        } else if (!(lent->value.tensor = ad_pool_alias(batch->tape->pool, rows, &row))) {
            lent->pass = 0;
            ad_tape_out_of_memory(batch->tape, "ad_backward", call->priv->where);
            return false;
        }
    }
    return any;
}

static void take_rows_back(ad_batch *batch, const ad_call *call, uint32_t first) {
    for (uint32_t index = first; index < first + (uint32_t)ad_op_results(call->op); index++) {
        ad_cotangent *lent = ad_cotangent_at(batch->tape, index);
        if (lent->pass == batch->tape->pass && !is_number(ad_node_at(batch->tape, index)))
            ad_tensor_unref(lent->value.tensor);
        *lent = (ad_cotangent){.pass = 0};
    }
}

/* The operation gave nothing to some inputs: that is 0, where others of their rows are there. */
static void complete_rows(ad_batch *batch, const ad_call *call) {
    for (int i = 0; i < call->inputs; i++) {
        progress *p = &batch->progress[i];
        const uint32_t index = call->priv->inputs[i];
        /* Of a variable that is there twice, only the first place counts. */
        bool is_first = true;
        for (int j = 0; j < i && is_first; j++) is_first = call->priv->inputs[j] != index;
        if (is_first && batch->at[index].memory && !p->was_there && !p->is_written) {
            ad_view row = row_of(batch, index, batch->seed);
            ad_kernels_get()->fill(&row, 0);
        }
        p->is_written = false;
    }
}

static void back_one_by_one(ad_batch *batch, ad_call *call, ad_adjoint *adjoint) {
    ad_tape *tape = batch->tape;
    batch->progress = ad_scratch(call, (size_t)call->inputs * sizeof *batch->progress);
    if (!batch->progress) return;
    for (int i = 0; i < call->inputs; i++)
        batch->progress[i] = (progress){.was_there = batch->at[call->priv->inputs[i]].memory};
    for (int k = 0; k < ad_op_results(call->op); k++) {
        const uint32_t index = adjoint->priv->first + (uint32_t)k;
        if (batch->at[index].memory && !open_slot(batch, index)) {
            ad_tape_out_of_memory(tape, "ad_backward", call->priv->where);
            return;
        }
    }
    const ad_call as_recorded = *call;
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    for (batch->seed = 0; batch->seed < batch->seeds && !tape->error.status; batch->seed++) {
        *call = as_recorded;
        if (lend_rows(batch, call, adjoint)) {
            if (call->op->backward)
                ad_run_backward(call, adjoint);
            else
                ad_vjp_numeric(adjoint);
        }
        take_rows_back(batch, call, adjoint->priv->first);
        complete_rows(batch, call);
        ad_arena_rewind(&tape->scratch, scratch);
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static void operation_back(ad_batch *batch, uint32_t first) {
    ad_tape *tape = batch->tape;
    struct ad_call_private call_priv;
    ad_call call;
    struct ad_adjoint_private priv = {.tape = tape,
                                      .call = &call,
                                      .first = first,
                                      .mask = AD_NODE_WANTED,
                                      .capture_input = -1,
                                      .batch = batch};
    ad_adjoint adjoint = {.priv = &priv};
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    bool wanted = false;
    if (ad_call_of_node(tape, first, &call, &call_priv)) {
        for (int i = 0; i < call.inputs && !wanted; i++) wanted = ad_wants(&adjoint, i);
        if (wanted && go_together(batch, &call, &adjoint))
            back_together(batch, &call, &adjoint);
        else if (wanted)
            back_one_by_one(batch, &call, &adjoint);
    }
    ad_arena_rewind(&tape->scratch, scratch);
}

static void walk_back(ad_batch *batch, uint32_t start) {
    ad_tape *tape = batch->tape;
    const uint32_t none = UINT32_MAX;
    uint32_t pending = none; /* as in backward.c */
    for (uint32_t index = start + 1; index-- > 0 && !tape->error.status;) {
        const ad_node *node = ad_node_at(tape, index);
        if ((!batch->at[index].memory && index != pending) || ad_node_is_leaf(node)) continue;
        if (node->op == &ad_result_of) {
            pending = node->in[0];
            continue;
        }
        pending = none;
        if (!(node->flags & AD_NODE_FAST)) {
            operation_back(batch, index);
        } else if (!scalar_back(batch, index)) {
            ad_tape_out_of_memory(tape, "ad_backward", node->where);
        }
        for (uint32_t k = index; k < index + (uint32_t)ad_op_results(node->op); k++)
            if (!(ad_node_at(tape, k)->flags & AD_NODE_ASKED)) release(batch, k);
    }
}

static void copy(const ad_view *from, const ad_view *to) {
    if (from->dtype == to->dtype)
        ad_kernels_get()->copy(from, to, 1, false);
    else
        (void)!ad_view_copy(from, to); /* the shapes are equal */
}

static bool start_at(ad_batch *batch, uint32_t y, const ad_view *y_bar) {
    if (!(ad_node_at(batch->tape, y)->flags & AD_NODE_WANTED)) return true;
    if (!open_slot(batch, y)) return false;
    const ad_view rows = rows_of(batch, y);
    copy(y_bar, &rows);
    return true;
}

static void read_gradients(ad_batch *batch, int n, const ad_var *x, const ad_view *x_bar) {
    for (int i = 0; i < n; i++) {
        if (batch->at[x[i].index].memory) {
            (void)!open_slot(batch, x[i].index); /* writes the zeros that were left out */
            const ad_view rows = rows_of(batch, x[i].index);
            copy(&rows, &x_bar[i]);
        } else {
            ad_kernels_get()->fill(&x_bar[i], 0);
        }
    }
}

static void close_batch(ad_batch *batch, uint32_t end) {
    for (uint32_t index = 0; batch->at && index < end; index++) release(batch, index);
    ad_arena_close(&batch->memory);
}

static void walk_together(const char *where, ad_var y, const ad_view *y_bar, int n, const ad_var *x,
                          const ad_view *x_bar) {
    ad_tape *tape = y.tape;
    const ad_backward_options options = {.wrt = x, .wrt_count = n};
    if (!ad_pass_begin(tape, y.index, &options, where)) return;
    ad_batch batch = {.tape = tape, .seeds = y_bar->shape.dim[0]};
    /* The last operation may have further results. */
    const size_t bytes = ((size_t)y.index + AD_MAX_RESULTS) * sizeof *batch.at;
    batch.room = (uint32_t)(batch.seeds + LANES - 1) / LANES * LANES;
    ad_arena_open(&batch.memory, tape->allocator);
    batch.at = ad_arena_take(&batch.memory, bytes);
    if (batch.at) memset(batch.at, 0, bytes);
    if (batch.at && start_at(&batch, y.index, y_bar))
        walk_back(&batch, y.index);
    else
        ad_tape_out_of_memory(tape, "ad_backward", where);
    if (!tape->error.status) read_gradients(&batch, n, x, x_bar);
    close_batch(&batch, y.index + 1);
    tape->pass_nodes = 0; /* there is nothing to be read */
}

/* What a walk for all seeds cannot do: show gradients to those who want to see each, look at numbers, and run functions
 * that walk back themselves. */
static bool can_walk_together(const ad_tape *tape, ad_var y) {
    if (tape->in_hook || tape->frame || ad_tape_looks_at_each(tape) || tape->numbers || tape->profile) return false;
    for (uint32_t index = 0; index <= y.index; index++) {
        const ad_node *node = ad_node_at(tape, index);
        if ((node->flags & AD_NODE_HOOKED) || ad_op_is_checkpoint(node->op)) return false;
    }
    return true;
}

static void walk_for_each(const char *where, ad_var y, const ad_view *y_bar, int n, const ad_var *x,
                          const ad_view *x_bar) {
    ad_tape *tape = y.tape;
    const ad_mark mark = ad_tape_mark(tape);
    const ad_shape shape = ad_node_shape(ad_node_at(tape, y.index));
    const ad_dtype dtype = (ad_dtype)ad_node_at(tape, y.index)->dtype;
    for (int64_t seed = 0; seed < y_bar->shape.dim[0] && !tape->error.status; seed++) {
        ad_view from, scratch;
        ad_var y_seed = ad_tape_filled(tape, where, &ad_leaf_constant, dtype, &shape, 0.0);
        if (tape->error.status) return;
        const ad_view row = *ad_node_view(ad_node_at(tape, y_seed.index), &scratch);
        const ad_view flat = ad_view_of(row.data, dtype, AD_SHAPE(1, ad_view_count(&row)));
        (void)!ad_view_slice(y_bar, 0, seed, seed + 1, 1, &from);
        copy(&from, &flat);
        const ad_backward_options options = {.seed = y_seed, .wrt = x, .wrt_count = n, .leaves_only = true};
        if (ad_backward_with_at(where, y, &options)) return;
        for (int i = 0; i < n; i++) {
            const ad_view gradient = ad_gradient_at(where, x[i]);
            ad_view to, line = ad_view_of(gradient.data, gradient.dtype, AD_SHAPE(1, ad_view_count(&gradient)));
            (void)!ad_view_slice(&x_bar[i], 0, seed, seed + 1, 1, &to);
            copy(&line, &to);
        }
        ad_tape_rewind_to(tape, &mark);
    }
}

int64_t ad_batch_seeds(ad_var y) {
    int64_t most = 1;
    for (uint32_t index = 0; index <= y.index; index++) {
        const ad_node *node = ad_node_at(y.tape, index);
        if ((node->flags & AD_NODE_GRAD) && !is_number(node)) {
            const ad_view *value = &node->value.tensor->view;
            const int64_t bytes = ad_view_count(value) * (int64_t)ad_dtype_size(value->dtype);
            most = bytes > most ? bytes : most;
        }
    }
    const int64_t fit = MOST_BYTES / most;
    return fit < 1 ? 1 : fit < MOST_SEEDS ? fit : MOST_SEEDS;
}

ad_status ad_backward_batch_at(const char *where, ad_var y, const ad_view *y_bar, int n, const ad_var *x,
                               const ad_view *x_bar) {
    ad_tape *tape = y.tape;
    if (y_bar->shape.dim[0] > 1 && can_walk_together(tape, y))
        walk_together(where, y, y_bar, n, x, x_bar);
    else
        walk_for_each(where, y, y_bar, n, x, x_bar);
    return tape->error.status;
}
