/* The walk back with several cotangents of y at once. */
#include "autodiff/tape/batch.h"
#include "ops/kernels/kernels.h"

#include <string.h>

/* How many seeds are worth it. By the first, reading the tape costs next to nothing; by the second, products with matrices
 * are as fast as they get; and between them, what all seeds have of one array should stay in the cache: measured, memory that
 * is new to the process costs more than larger products gain. */
enum { MOST_SEEDS = 128, LEAST_SEEDS = 16, CACHE_BYTES = 16 << 10, MOST_BYTES = 16 << 20 };

/* ---- where contributions go -------------------------------------------------------------------------------------- */

static const ad_view *keep_view(ad_adjoint *adjoint, int i, ad_view view) {
    ad_view *kept = i < AD_FEW_INPUTS ? &adjoint->priv->into[i] : ad_scratch(adjoint->priv->call, sizeof *kept);
    if (kept) *kept = view;
    return kept;
}

/* Where seeds go back one by one, what others have not reached before this one is 0. */
static bool open_row(ad_adjoint *adjoint, int i, bool *add) {
    ad_batch *batch = adjoint->priv->batch;
    const uint32_t *in = adjoint->priv->call->priv->inputs;
    int first = 0;
    while (in[first] != in[i]) first++;
    ad_row_state *state = &batch->state[first];
    *add = state->was_there || state->is_written;
    return state->is_written = ad_rows_open_next(batch, in[i]);
}

const ad_view *ad_batch_into(ad_adjoint *adjoint, int i, bool *add) {
    ad_batch *batch = adjoint->priv->batch;
    const uint32_t index = adjoint->priv->call->priv->inputs[i];
    *add = batch->at[index].memory;
    if (batch->seed == AD_TOGETHER ? ad_rows_open(batch, index) : open_row(adjoint, i, add))
        return keep_view(adjoint, i, ad_rows_seen(batch, index));
    ad_batch_no_memory(batch);
    return NULL;
}

/* ---- one operation ------------------------------------------------------------------------------------------------- */

static bool scalar_back(ad_batch *batch, uint32_t index) {
    const ad_tape *tape = batch->tape;
    const ad_node *node = ad_node_at(tape, index);
    ad_rows *rows = &batch->at[index];
    double *into[2] = {NULL, NULL};
    ad_rows_trim(rows);
    if (rows->from == rows->to) return true;
    for (int i = 0; i < node->inputs; i++) {
        if (!(ad_node_at(tape, node->in[i])->flags & AD_NODE_WANTED)) continue;
        into[i] = ad_rows_open_numbers(batch, node->in[i], rows->from, rows->to);
        if (!into[i]) return false;
    }
    ad_rows_add_scaled(batch, node, rows, into[0], into[1]);
    return true;
}

static void run(ad_call *call, ad_adjoint *adjoint) {
    if (call->op->backward)
        ad_run_backward(call, adjoint);
    else
        ad_vjp_numeric(adjoint);
}

/* False if all that the results have is 0. */
static bool show_rows(const ad_batch *batch, const ad_call *call, ad_adjoint *adjoint) {
    bool any = false;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        const uint32_t index = adjoint->priv->first + (uint32_t)k;
        adjoint->seed[k] = call->out[k];
        adjoint->seed[k].data = NULL;
        if (!batch->at[index].memory) continue;
        adjoint->seed[k] = ad_rows_seen(batch, index);
        any = any || !ad_rows_are_zero(&adjoint->seed[k]);
    }
    return any;
}

static void back_together(ad_batch *batch, ad_call *call, ad_adjoint *adjoint) {
    if (ad_batch_stretch(batch, call) && show_rows(batch, call, adjoint)) run(call, adjoint);
}

/* The operation gave nothing to some inputs: that is 0, where others of their rows are there. */
static void complete_rows(ad_batch *batch, const ad_call *call) {
    for (int i = 0; i < call->inputs; i++) {
        ad_row_state *state = &batch->state[i];
        const uint32_t index = call->priv->inputs[i];
        /* Of a variable that is there twice, only the first place counts. */
        bool is_first = true;
        for (int j = 0; j < i && is_first; j++) is_first = call->priv->inputs[j] != index;
        if (is_first && batch->at[index].memory && !state->was_there && !state->is_written) {
            ad_view row = ad_rows_one(batch, index, batch->seed);
            ad_kernels_get()->fill(&row, 0);
        }
        state->is_written = false;
    }
}

static void back_one_by_one(ad_batch *batch, ad_call *call, ad_adjoint *adjoint) {
    ad_tape *tape = batch->tape;
    batch->state = ad_scratch(call, (size_t)call->inputs * sizeof *batch->state);
    if (!batch->state) return;
    for (int i = 0; i < call->inputs; i++)
        batch->state[i] = (ad_row_state){.was_there = batch->at[call->priv->inputs[i]].memory};
    const ad_call as_recorded = *call;
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    for (batch->seed = 0; batch->seed < batch->seeds && !tape->error.status; batch->seed++) {
        *call = as_recorded;
        if (show_rows(batch, call, adjoint)) run(call, adjoint);
        complete_rows(batch, call);
        ad_arena_rewind(&tape->scratch, scratch);
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static bool open_results(ad_batch *batch, const ad_op *op, uint32_t first) {
    bool ok = true;
    for (uint32_t k = first; k < first + (uint32_t)ad_op_results(op) && ok; k++)
        ok = !batch->at[k].memory || ad_rows_open(batch, k);
    return ok || ad_batch_no_memory(batch) == AD_OK;
}

static void operation_back(ad_batch *batch, uint32_t first) {
    ad_tape *tape = batch->tape;
    struct ad_call_private call_priv;
    ad_call call;
    struct ad_adjoint_private priv = {
        .tape = tape, .call = &call, .first = first, .mask = AD_NODE_WANTED, .capture_input = -1, .batch = batch};
    ad_adjoint adjoint = {.priv = &priv};
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    bool wanted = false;
    if (ad_call_of_node(tape, first, &call, &call_priv)) {
        for (int i = 0; i < call.inputs && !wanted; i++) wanted = ad_wants(&adjoint, i);
        wanted = wanted && open_results(batch, call.op, first);
        if (wanted && ad_batch_goes_together(batch, &call, &adjoint))
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
            ad_batch_no_memory(batch);
        }
        for (uint32_t k = index; k < index + (uint32_t)ad_op_results(node->op); k++)
            if (!(ad_node_at(tape, k)->flags & AD_NODE_ASKED)) ad_rows_release(batch, k);
    }
}

static void walk_together(const char *where, ad_var y, const ad_view *y_bar, int n, const ad_var *x,
                          const ad_view *x_bar) {
    ad_tape *tape = y.tape;
    const ad_backward_options options = {.wrt = x, .wrt_count = n};
    if (!ad_pass_begin(tape, y.index, &options, where)) return;
    ad_batch batch;
    /* The last operation may have further results. */
    const uint32_t end = y.index + AD_MAX_RESULTS;
    if (ad_batch_open(&batch, "ad_backward", where, tape, y_bar->shape.dim[0], end)) {
        if (!(ad_node_at(tape, y.index)->flags & AD_NODE_WANTED) || ad_rows_write(&batch, y.index, y_bar))
            walk_back(&batch, y.index);
        else
            ad_batch_no_memory(&batch);
    }
    for (int i = 0; i < n && !tape->error.status; i++) ad_rows_read(&batch, x[i].index, &x_bar[i]);
    ad_batch_close(&batch, y.index + 1);
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
    for (int64_t seed = 0; seed < y_bar->shape.dim[0]; seed++) {
        const ad_mark mark = ad_tape_mark(tape);
        const ad_backward_options options = {.seed = ad_row_as_constant(where, y, y_bar, seed),
                                             .wrt = x,
                                             .wrt_count = n,
                                             .leaves_only = true};
        if (tape->error.status || ad_backward_with_at(where, y, &options)) return;
        for (int i = 0; i < n; i++) {
            const ad_view gradient = ad_gradient_at(where, x[i]);
            if (tape->error.status) return;
            ad_row_store(&gradient, &x_bar[i], seed);
        }
        ad_tape_rewind_to(tape, &mark);
    }
}

static int64_t bytes_of(const ad_node *node) {
    const ad_shape shape = ad_node_shape(node);
    return ad_shape_count(&shape) * (int64_t)ad_dtype_size((ad_dtype)node->dtype);
}

int64_t ad_batch_seeds(ad_var y) {
    const int64_t of_y = bytes_of(ad_node_at(y.tape, y.index));
    int64_t most = 1; /* of what comes before y */
    for (uint32_t index = 0; index < y.index; index++) {
        const ad_node *node = ad_node_at(y.tape, index);
        /* Of leaves and views of them, such as weights, hardly any has rows. */
        if (!(node->flags & AD_NODE_GRAD) || (node->flags & (AD_NODE_INLINE | AD_NODE_VIEW)) || ad_node_is_leaf(node))
            continue;
        const int64_t bytes = bytes_of(node);
        most = bytes > most ? bytes : most;
    }
    const int64_t cached = CACHE_BYTES / most, fit = MOST_BYTES / (most > of_y ? most : of_y + 1);
    const int64_t wanted = cached < LEAST_SEEDS ? LEAST_SEEDS : cached < MOST_SEEDS ? cached : MOST_SEEDS;
    return fit < 1 ? 1 : fit < wanted ? fit : wanted;
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
