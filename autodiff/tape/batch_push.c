/* Tangents pushed along the tape for several directions at once: numbers only, nothing stays on the tape. */
#include "autodiff/tape/batch.h"
#include "ops/kernels/kernels.h"

#include <string.h>

/* Who reads the tangent of a node: nobody that matters; who asked for it; the same of one that was given, and is nobody's
 * to work out; else the last operation that does, by its index. */
#define UNREAD ((uint32_t)0)
#define ASKED  UINT32_MAX
#define GIVEN  (UINT32_MAX - 1)

typedef struct walk {
    ad_batch batch;
    uint32_t first, end;
    uint32_t *reader;   /* by node, from `first` on */
    ad_by_node tangent; /* what JVPs look at: of the operation that is walked, else 0 */
} walk;

static bool moves(const walk *w, uint32_t index) { return w->batch.at[index].memory; }
static uint32_t *reader_of(const walk *w, uint32_t index) { return &w->reader[index - w->first]; }
static bool is_sought(const walk *w, uint32_t index) {
    return *reader_of(w, index) != UNREAD && *reader_of(w, index) != GIVEN;
}

/* ---- what needs to be walked ----------------------------------------------------------------------------------------- */

/* Any result of the operation. */
static inline bool is_read(const walk *w, uint32_t index, const ad_node *node) {
    if (*reader_of(w, index) != UNREAD || (node->flags & AD_NODE_FAST)) return *reader_of(w, index) != UNREAD;
    bool read = false;
    for (uint32_t k = 1; k < (uint32_t)ad_op_results(node->op) && !read; k++)
        read = *reader_of(w, index + k) != UNREAD;
    return read;
}

static void find_readers(walk *w, int n, const ad_var *x, int m, const ad_var *y) {
    for (int j = 0; j < m; j++)
        if (y[j].index >= w->first) *reader_of(w, y[j].index) = ASKED;
    for (uint32_t index = w->end; index-- > w->first;) {
        const ad_node *node = ad_node_at(w->batch.tape, index);
        AD_PREFETCH(node, -AD_NODES_AHEAD);
        if (node->op == &ad_result_of || !is_read(w, index, node)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (in[i] >= w->first && *reader_of(w, in[i]) == UNREAD) *reader_of(w, in[i]) = index;
    }
    for (int i = 0; i < n; i++) *reader_of(w, x[i].index) = GIVEN;
}

/* ---- scalar rules ---------------------------------------------------------------------------------------------------- */

static void push_scalar(walk *w, uint32_t index) {
    const ad_node *node = ad_node_at(w->batch.tape, index);
    for (int i = 0; i < node->inputs; i++) {
        if (!moves(w, node->in[i])) continue;
        const ad_rows *rows = &w->batch.at[node->in[i]];
        double *y_dot = ad_rows_open_numbers(&w->batch, index, rows->from, rows->to);
        if (!y_dot) {
            ad_batch_no_memory(&w->batch);
            return;
        }
        ad_rows_add_scaled(&w->batch, node, rows, i == 0 ? y_dot : NULL, i == 1 ? y_dot : NULL);
    }
}

/* ---- JVPs ------------------------------------------------------------------------------------------------------------ */

/* Tells the JVP which inputs move and how, and which results are asked for. */
static void show_tangents(walk *w, const ad_call *call, uint32_t index) {
    for (int i = 0; i < call->inputs; i++) {
        const uint32_t in = call->priv->inputs[i];
        if (!moves(w, in) || *ad_of_node(&w->tangent, in) != AD_STANDS_STILL) continue;
        *ad_of_node(&w->tangent, in) = AD_TANGENT_BASE + ad_rows_constant(&w->batch, in).index;
    }
    for (uint32_t k = index; k < index + (uint32_t)ad_op_results(call->op); k++)
        *ad_of_node(&w->tangent, k) = is_sought(w, k) ? AD_STANDS_STILL : AD_NOT_ASKED;
}

static void hide_tangents(walk *w, const ad_call *call, uint32_t index) {
    for (int i = 0; i < call->inputs; i++)
        if (moves(w, call->priv->inputs[i])) *ad_of_node(&w->tangent, call->priv->inputs[i]) = AD_STANDS_STILL;
    for (uint32_t k = index; k < index + (uint32_t)ad_op_results(call->op); k++)
        *ad_of_node(&w->tangent, k) = AD_STANDS_STILL;
}

/* The rows of a result are what lies in the node `from`, which stays nobody's when the tape is rewound. */
static bool take_rows(walk *w, uint32_t result, uint32_t from) {
    const ad_node *node = ad_node_at(w->batch.tape, from);
    ad_tensor *made = node->value.tensor;
    if (!ad_is_number(ad_node_at(w->batch.tape, result)) && ad_view_is_contiguous(&made->view)) {
        w->batch.at[result].memory = ad_tensor_ref(made);
        return true;
    }
    if (!ad_rows_open(&w->batch, result)) return false;
    const ad_view first = ad_rows_one(&w->batch, result, 0),
                  whole = ad_view_of(first.data, first.dtype, made->view.shape);
    ad_rows_copy(&made->view, &whole);
    return true;
}

static void push_together(walk *w, ad_call *call, uint32_t index) {
    const ad_mark mark = ad_tape_mark(w->batch.tape);
    if (!ad_batch_stretch(&w->batch, call)) return;
    show_tangents(w, call, index);
    if (!w->batch.tape->error.status) ad_push_operation(w->batch.tape, call, index, &w->tangent, true);
    for (uint32_t k = index; k < index + (uint32_t)ad_op_results(call->op) && !w->batch.tape->error.status; k++) {
        const uint32_t known = *ad_of_node(&w->tangent, k);
        if (is_sought(w, k) && known != AD_STANDS_STILL && !take_rows(w, k, known - AD_TANGENT_BASE))
            ad_batch_no_memory(&w->batch);
    }
    hide_tangents(w, call, index);
    ad_tape_rewind_to(w->batch.tape, &mark);
}

static bool any_moves(const walk *w, const ad_call *call) {
    bool any = false;
    for (int i = 0; i < call->inputs && !any; i++) {
        if (!moves(w, call->priv->inputs[i])) continue;
        const ad_view row = ad_rows_seen(&w->batch, call->priv->inputs[i]);
        any = !ad_rows_are_zero(&row);
    }
    return any;
}

/* The seed's row of a result, by what is known of its tangent. */
static bool take_row(walk *w, uint32_t result, uint32_t known) {
    const bool is_zero = known == AD_STANDS_STILL;
    if (is_zero && !w->batch.at[result].memory) return true;
    if (!ad_rows_open_next(&w->batch, result)) return false;
    const ad_view row = ad_rows_seen(&w->batch, result);
    ad_view scratch;
    if (is_zero)
        ad_kernels_get()->fill(&row, 0);
    else
        ad_rows_copy(ad_node_view(ad_node_at(w->batch.tape, known - AD_TANGENT_BASE), &scratch), &row);
    return true;
}

static void push_one_by_one(walk *w, ad_call *call, uint32_t index) {
    ad_tape *tape = w->batch.tape;
    const ad_call as_recorded = *call;
    const ad_mark mark = ad_tape_mark(tape);
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    for (w->batch.seed = 0; w->batch.seed < w->batch.seeds && !tape->error.status; w->batch.seed++) {
        *call = as_recorded;
        if (any_moves(w, call)) {
            show_tangents(w, call, index);
            if (!tape->error.status) ad_push_operation(tape, call, index, &w->tangent, false);
        }
        for (uint32_t k = index; k < index + (uint32_t)ad_op_results(call->op) && !tape->error.status; k++)
            if (is_sought(w, k) && !take_row(w, k, *ad_of_node(&w->tangent, k))) ad_batch_no_memory(&w->batch);
        hide_tangents(w, call, index);
        ad_tape_rewind_to(tape, &mark);
        ad_arena_rewind(&tape->scratch, scratch);
    }
}

static void push_operation(walk *w, uint32_t index) {
    ad_tape *tape = w->batch.tape;
    struct ad_call_private priv;
    ad_call call;
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    if (ad_call_of_node(tape, index, &call, &priv)) {
        for (int i = 0; i < call.inputs && !tape->error.status; i++)
            if (moves(w, priv.inputs[i]) && !ad_rows_open(&w->batch, priv.inputs[i])) ad_batch_no_memory(&w->batch);
        if (!tape->error.status && w->batch.seeds > 1 && call.op->jvp &&
            ad_batch_goes_together(&w->batch, &call, NULL))
            push_together(w, &call, index);
        else if (!tape->error.status)
            push_one_by_one(w, &call, index);
    }
    ad_arena_rewind(&tape->scratch, scratch);
}

/* ---- the walk -------------------------------------------------------------------------------------------------------- */

/* Nobody needs the tangents any more that this operation was the last to read. */
static void release_inputs(walk *w, uint32_t index) {
    const ad_node *node = ad_node_at(w->batch.tape, index);
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; i < ad_node_input_count(node); i++)
        if (moves(w, in[i]) && *reader_of(w, in[i]) == index) ad_rows_release(&w->batch, in[i]);
}

static void push_along(walk *w) {
    ad_tape *tape = w->batch.tape;
    for (uint32_t index = w->first; index < w->end && !tape->error.status; index++) {
        const ad_node *node = ad_node_at(tape, index);
        AD_PREFETCH(node, AD_NODES_AHEAD);
        if (*reader_of(w, index) == GIVEN || !is_read(w, index, node)) continue;
        if (ad_node_is_leaf(node) || node->op == &ad_result_of) continue;
        const uint32_t *in = ad_node_inputs(node);
        bool any = false;
        for (int i = 0; i < ad_node_input_count(node) && !any; i++) any = moves(w, in[i]);
        if (!any) continue;
        if (node->flags & AD_NODE_FAST) {
            push_scalar(w, index);
        } else if (ad_push_can(tape, index, w->batch.where)) {
            if (!ad_check_unchanged(tape, index, UINT32_MAX, w->batch.subject, w->batch.where)) return;
            push_operation(w, index);
        }
        release_inputs(w, index);
    }
}

static bool open_walk(walk *w, int n, const ad_var *x, const ad_view *x_dot) {
    ad_tape *tape = w->batch.tape;
    const size_t bytes = (size_t)(w->end - w->first) * sizeof *w->reader;
    w->reader = ad_arena_take(&tape->rows, bytes + 1);
    if (!w->reader || !ad_by_node_open(tape, &w->tangent, w->first, w->end, NULL)) return false;
    memset(w->reader, 0, bytes);
    for (int i = 0; i < n; i++) {
        if (!ad_rows_write(&w->batch, x[i].index, &x_dot[i])) return false;
        if (ad_is_f64_number(ad_node_at(tape, x[i].index))) ad_rows_trim(&w->batch.at[x[i].index]);
    }
    return true;
}

static void walk_together(const char *where, int n, const ad_var *x, const ad_view *x_dot, int m, const ad_var *y,
                          const ad_view *y_dot) {
    ad_tape *tape = x[0].tape;
    const char *outer = tape->where;
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    walk w = {.end = 0};
    for (int j = 0; j < m; j++) w.end = y[j].index >= w.end ? y[j].index + 1 : w.end;
    while (w.end < tape->count && ad_node_at(tape, w.end)->op == &ad_result_of) w.end++;
    for (int i = 0; i < n; i++) w.end = x[i].index >= w.end ? x[i].index + 1 : w.end;
    w.first = ad_first_of(n, x, w.end);
    tape->where = where;
    tape->no_grad++;
    if (ad_batch_open(&w.batch, "ad_pushforward", where, tape, x_dot[0].shape.dim[0], w.end)) {
        if (open_walk(&w, n, x, x_dot)) {
            find_readers(&w, n, x, m, y);
            push_along(&w);
        } else {
            ad_batch_no_memory(&w.batch);
        }
    }
    for (int j = 0; j < m && !tape->error.status; j++) ad_rows_read(&w.batch, y[j].index, &y_dot[j]);
    ad_batch_close(&w.batch, w.end);
    tape->no_grad--;
    tape->where = outer;
    ad_arena_rewind(&tape->scratch, scratch);
}

static void walk_for_each(const char *where, int n, const ad_var *x, const ad_view *x_dot, int m, const ad_var *y,
                          const ad_view *y_dot) {
    ad_tape *tape = x[0].tape;
    const uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_var *moved = ad_arena_take(&tape->scratch, (size_t)(n + m) * sizeof *moved);
    if (!moved) {
        ad_tape_out_of_memory(tape, "ad_pushforward", where);
        return;
    }
    for (int64_t seed = 0; seed < x_dot[0].shape.dim[0]; seed++) {
        const ad_mark mark = ad_tape_mark(tape);
        for (int i = 0; i < n; i++) moved[i] = ad_row_as_constant(where, x[i], &x_dot[i], seed);
        if (tape->error.status || ad_pushforward_at(where, n, x, moved, m, y, moved + n)) break;
        for (int j = 0; j < m; j++) {
            const ad_view value = ad_value_at(where, moved[n + j]);
            ad_row_store(&value, &y_dot[j], seed);
        }
        ad_tape_rewind_to(tape, &mark);
    }
    ad_arena_rewind(&tape->scratch, scratch);
}

ad_status ad_pushforward_batch_at(const char *where, int n, const ad_var *x, const ad_view *x_dot, int m,
                                  const ad_var *y, const ad_view *y_dot) {
    const ad_tape *tape = x[0].tape;
    const bool looks = ad_tape_looks_at_each(tape) || tape->numbers || tape->profile || tape->frame;
    (looks ? walk_for_each : walk_together)(where, n, x, x_dot, m, y, y_dot);
    return tape->error.status;
}
