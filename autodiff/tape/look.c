/* Looking at a tape: the walking interface that every dump is made with. */
#include "autodiff/tape/tape.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

ad_var ad_tape_var(ad_tape *tape, int64_t index) {
    if (!tape || index < 0 || index >= tape->count) return ad_var_invalid(tape);
    return ad_var_of(tape, (uint32_t)index);
}

ad_status ad_tape_pass(const ad_tape *tape, ad_pass_info *info) {
    if (!tape || !info) return AD_ERR_NULL;
    *info = (ad_pass_info){.nodes = tape->pass_nodes,
                           .start = tape->pass_start < tape->pass_nodes ? (int64_t)tape->pass_start : -1,
                           .is_selective = tape->pass_nodes > 0 && tape->pass_has_wrt};
    return AD_OK;
}

ad_status ad_tape_node(const ad_tape *tape, int64_t index, ad_node_info *info) {
    if (!tape || !info) return AD_ERR_NULL;
    if (index < 0 || index >= tape->count) return AD_ERR_INDEX;
    uint32_t at = (uint32_t)index;
    const ad_node *node = ad_node_at(tape, at);
    const ad_extra *extra = node->extra;
    uint32_t scope = ad_scope_of(tape, at);
    ad_view scratch = {.data = NULL};
    *info = (ad_node_info){
        .index = index,
        .op = node->op,
        .attrs = extra ? extra->attrs : NULL,
        .name = extra && extra->name ? extra->name : "",
        .scope = scope ? tape->scopes[scope].path : "",
        .scope_number = scope,
        .where = node->where,
        .inputs = ad_node_input_count(node),
        .input = ad_node_inputs(node),
        .result = ad_node_result(node),
        .value = *ad_node_view(node, &scratch),
        .is_leaf = ad_node_is_leaf(node),
        .is_view = node->flags & AD_NODE_VIEW,
        .needs_gradient = node->flags & AD_NODE_GRAD,
        .wanted = at < tape->pass_nodes && (node->flags & (tape->pass_has_wrt ? AD_NODE_WANTED : AD_NODE_GRAD)),
        .reached = ad_pass_reached(tape, at),
        .has_gradient = ad_has_gradient(tape, at) &&
                        ((node->flags & AD_NODE_INLINE) || ad_cotangent_at(tape, at)->value.tensor),
        .param = extra ? extra->param : NULL,
        .is_changed = extra && extra->param && extra->param->version != extra->param_version,
        .is_incomplete = extra && extra->param && extra->param->incomplete,
    };
    info->is_seed = info->reached && (ad_cotangent_at(tape, at)->state & AD_GRAD_SEED);
    if (info->has_gradient) info->gradient = *ad_gradient_view(tape, at, &scratch);
    return AD_OK;
}

/* ---- formulas -------------------------------------------------------------------------------------------------- */

/* The length of the reference at `text`, which starts with $ or ~; 0: it is none. */
static size_t reference(const char *text, ad_formula_part *part) {
    size_t length = 1;
    part->number = 0;
    part->is_cotangent = text[0] == '~';
    if (text[1] == 'a' && text[0] == '$') {
        part->kind = AD_FORMULA_ATTRS;
        return 2;
    }
    part->kind = text[1] == 'y' ? AD_FORMULA_RESULT : AD_FORMULA_INPUT;
    if (text[1] == 'y') length++;
    size_t digits = length;
    while (isdigit((unsigned char)text[length]) && length < digits + 5)
        part->number = part->number * 10 + (text[length++] - '0');
    return part->kind == AD_FORMULA_RESULT || length > digits ? length : 0;
}

bool ad_formula_next(const char **at, ad_formula_part *part) {
    const char *text = *at;
    if (!text || !*text) return false;
    *part = (ad_formula_part){.text = text};
    if (*text == '$' || *text == '~') part->length = reference(text, part);
    if (part->length == 0) {
        part->kind = AD_FORMULA_TEXT;
        part->length = 1 + strcspn(text + 1, "$~");
    }
    *at = text + part->length;
    return true;
}

/* How many formulas of contributions an op has. */
static int adjoint_count(const ad_op *op) {
    int count = 0;
    while (count < 4 && op->adjoint[count]) count++;
    return count;
}

const char *ad_op_adjoint(const ad_op *op, int i, int *written_for) {
    int count = adjoint_count(op);
    *written_for = ad_min_int(i, count - 1);
    return count > 0 && i >= 0 ? op->adjoint[*written_for] : "";
}

/* ---- saved values ---------------------------------------------------------------------------------------------- */

/* Whether a formula reads the value of that input or result (whichever is not -1). */
static bool mentions(const char *formula, int input, int result) {
    ad_formula_part part;
    while ((formula = strchr(formula, '$')) && ad_formula_next(&formula, &part))
        if ((part.kind == AD_FORMULA_INPUT && part.number == input) ||
            (part.kind == AD_FORMULA_RESULT && part.number == result))
            return true;
    return false;
}

static void read_by(const ad_tape *tape, const ad_node *node, int i, ad_saved *saved) {
    if (ad_node_at(tape, ad_node_inputs(node)[i])->flags & AD_NODE_GRAD)
        saved->read_for |= (uint64_t)1 << ad_min_int(i, 63);
}

/* Adds to saved->read_for who reads that input or result (the other is -1); false if no formula mentions it. */
static bool find_readers(const ad_tape *tape, const ad_node *node, int input, int result, ad_saved *saved) {
    int inputs = ad_node_input_count(node), last = ad_min_int(adjoint_count(node->op), inputs) - 1;
    bool mentioned = false;
    for (int f = 0; f <= last; f++) {
        /* In the last formula, its own number is that of each input it stands for. */
        bool own = f == last && input >= f;
        if (!mentions(node->op->adjoint[f], own ? f : input, result)) continue;
        mentioned = true;
        int from = own ? input : f, to = own ? input + 1 : f == last ? inputs : f + 1;
        for (int i = from; i < to; i++) read_by(tape, node, i, saved);
    }
    return mentioned;
}

/* The tensor whose memory a node's value is; NULL if that is the node itself. */
static const ad_tensor *storage_of(const ad_node *node) {
    if (node->flags & AD_NODE_INLINE) return NULL;
    return node->value.tensor->base ? node->value.tensor->base : node->value.tensor;
}

static uint64_t bytes_of(const ad_node *node) {
    const ad_tensor *storage = storage_of(node);
    return ad_dtype_size((ad_dtype)node->dtype) * (storage ? (uint64_t)ad_view_count(&storage->view) : 1);
}

static bool any_result_needs_gradient(const ad_tape *tape, uint32_t first, const ad_op *op) {
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(op); k++)
        if (ad_node_at(tape, first + k)->flags & AD_NODE_GRAD) return true;
    return false;
}

/* Input i, if the op saves it and it is not the same node as an earlier one; false if nobody who counts reads it. */
static bool saved_input(const ad_tape *tape, const ad_node *node, int i, ad_saved *saved) {
    const uint32_t *in = ad_node_inputs(node);
    bool mentioned = false;
    if (!ad_op_saves_input(node->op, i)) return false;
    for (int k = 0; k < i; k++)
        if (in[k] == in[i] && ad_op_saves_input(node->op, k)) return false;
    for (int k = i; k < ad_node_input_count(node); k++)
        if (in[k] == in[i] && ad_op_saves_input(node->op, k)) mentioned |= find_readers(tape, node, k, -1, saved);
    saved->node = in[i];
    saved->input = i;
    return saved->read_for || !mentioned;
}

static bool saved_result(const ad_tape *tape, const ad_node *node, int64_t index, int k, ad_saved *saved) {
    if (!ad_op_saves_result(node->op, k)) return false;
    bool mentioned = find_readers(tape, node, -1, k, saved);
    saved->node = index + k;
    saved->input = -1;
    return saved->read_for || !mentioned;
}

bool ad_tape_saved(const ad_tape *tape, int64_t index, int *cursor, ad_saved *saved) {
    if (!tape || !cursor || !saved || index < 0 || index >= tape->count || *cursor < 0) return false;
    const ad_node *node = ad_node_at(tape, (uint32_t)index);
    if (!node->op->saves || node->op == &ad_result_of || !any_result_needs_gradient(tape, (uint32_t)index, node->op))
        return false;
    int inputs = ad_node_input_count(node), end = inputs + ad_op_results(node->op);
    while (*cursor < end) {
        int i = (*cursor)++;
        *saved = (ad_saved){.read_for = 0};
        bool is_kept = i < inputs ? saved_input(tape, node, i, saved)
                                  : saved_result(tape, node, index, i - inputs, saved);
        if (!is_kept) continue;
        saved->bytes = bytes_of(ad_node_at(tape, (uint32_t)saved->node));
        return true;
    }
    return false;
}

/* ---- who contributed ------------------------------------------------------------------------------------------- */

/* Whether the last pass went back through the operation at `index`. */
static bool went_through(const ad_tape *tape, uint32_t index, const ad_node *node) {
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op); k++)
        if (ad_pass_reached(tape, index + k)) return true;
    return false;
}

/* Whether an operation that the pass went through contributed to its input i. */
static bool contributes(const ad_tape *tape, const ad_node *node, int i) {
    int written_for;
    return ad_pass_reached(tape, ad_node_inputs(node)[i]) && *ad_op_adjoint(node->op, i, &written_for);
}

struct ad_contributors {
    const ad_allocator *allocator;
    uint32_t first, nodes;
    size_t kept, room;   /* contributions in all */
    uint32_t *count;     /* per node */
    size_t *start;       /* per node: where its contributions begin; one more for the end */
    ad_contribution *at; /* [room] */
};

void ad_contributors_free(ad_contributors *c) {
    if (!c) return;
    ad_release(c->allocator, c->count, c->nodes * sizeof *c->count);
    ad_release(c->allocator, c->start, (c->nodes + (size_t)1) * sizeof *c->start);
    ad_release(c->allocator, c->at, c->room * sizeof *c->at);
    ad_release(c->allocator, c, sizeof *c);
}

/* Calls for each contribution to the nodes of `c`, in the order in which they were added. */
static void each_contribution(const ad_tape *tape, ad_contributors *c,
                              void (*call)(ad_contributors *c, uint32_t slot, uint32_t consumer, int input)) {
    uint32_t end = tape->pass_start < tape->pass_nodes ? tape->pass_start + 1 : tape->pass_nodes;
    for (uint32_t index = end; index-- > c->first;) {
        const ad_node *node = ad_node_at(tape, index);
        if (node->op == &ad_result_of || !went_through(tape, index, node)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (in[i] >= c->first && in[i] - c->first < c->nodes && contributes(tape, node, i))
                call(c, in[i] - c->first, index, i);
    }
}

static void count_one(ad_contributors *c, uint32_t slot, uint32_t consumer, int input) {
    (void)consumer, (void)input;
    c->count[slot]++;
}

static void keep_one(ad_contributors *c, uint32_t slot, uint32_t consumer, int input) {
    size_t n = c->count[slot]++;
    if (n < c->start[slot + 1] - c->start[slot])
        c->at[c->start[slot] + n] = (ad_contribution){.consumer = consumer, .input = input};
}

ad_status ad_contributors_new(ad_contributors **out, const ad_tape *tape, int64_t first, int64_t end, int64_t most) {
    if (!out) return AD_ERR_NULL;
    *out = NULL;
    if (!tape) return AD_ERR_NULL;
    if (first < 0 || end < first || end > tape->count) return AD_ERR_INDEX;
    ad_contributors *c = ad_allocate(tape->allocator, sizeof *c, _Alignof(ad_contributors));
    if (!c) return AD_ERR_OOM;
    *c = (ad_contributors){.allocator = tape->allocator, .first = (uint32_t)first, .nodes = (uint32_t)(end - first)};
    size_t nodes = c->nodes;
    if (nodes) c->count = ad_allocate(c->allocator, nodes * sizeof *c->count, _Alignof(uint32_t));
    c->start = ad_allocate(c->allocator, (nodes + 1) * sizeof *c->start, _Alignof(size_t));
    if ((nodes && !c->count) || !c->start) {
        ad_contributors_free(c);
        return AD_ERR_OOM;
    }
    if (nodes) memset(c->count, 0, nodes * sizeof *c->count);
    each_contribution(tape, c, count_one);
    for (size_t i = 0; i < nodes; i++) {
        c->start[i] = c->room;
        c->room += most > 0 && c->count[i] > most ? (size_t)most : c->count[i];
        c->count[i] = 0;
    }
    c->start[nodes] = c->room;
    c->at = c->room ? ad_allocate(c->allocator, c->room * sizeof *c->at, _Alignof(ad_contribution)) : NULL;
    if (c->room && !c->at) {
        ad_contributors_free(c);
        return AD_ERR_OOM;
    }
    each_contribution(tape, c, keep_one);
    *out = c;
    return AD_OK;
}

int64_t ad_contributors_count(const ad_contributors *c, int64_t index) {
    return c && index >= c->first && index - c->first < c->nodes ? c->count[index - c->first] : 0;
}

bool ad_contributors_at(const ad_contributors *c, int64_t index, int64_t n, ad_contribution *out) {
    if (n < 0 || n >= ad_contributors_count(c, index)) return false;
    size_t slot = (size_t)(index - c->first);
    if ((size_t)n >= c->start[slot + 1] - c->start[slot]) return false;
    *out = c->at[c->start[slot] + (size_t)n];
    return true;
}

/* ---- scopes and totals ----------------------------------------------------------------------------------------- */

int64_t ad_tape_scope_count(const ad_tape *tape) { return tape ? tape->scope_count : 1; }

ad_status ad_tape_scope(const ad_tape *tape, int64_t number, ad_scope_info *info) {
    if (!tape || !info) return AD_ERR_NULL;
    if (number < 0 || number >= tape->scope_count) return AD_ERR_INDEX;
    *info = (ad_scope_info){.path = "", .name = "", .parent = -1, .depth = 0};
    if (number == 0) return AD_OK;
    const ad_scope *scope = &tape->scopes[number];
    info->path = info->name = scope->path;
    info->parent = scope->parent;
    info->depth = (int)scope->depth;
    size_t outer = scope->parent ? strlen(tape->scopes[scope->parent].path) : 0;
    /* A path that was too long was cut. */
    if (outer && strlen(scope->path) > outer && scope->path[outer] == '/') info->name = scope->path + outer + 1;
    return AD_OK;
}

static void count_node(const ad_node *node, ad_totals *totals) {
    totals->nodes++;
    totals->inputs += node->op == &ad_leaf_input;
    totals->constants += node->op == &ad_leaf_constant;
    totals->parameters += node->op == &ad_leaf_parameter;
    totals->operations += !ad_node_is_leaf(node) && node->op != &ad_result_of;
}

/* What the walk for the totals knows of each node. */
enum { SEEN_SAVED = 1, SEEN_CONTRIBUTION = 2, SEEN_MERGE = 4 };

static void count_merges(const ad_tape *tape, uint32_t index, const ad_node *node, uint8_t *seen, ad_totals *totals) {
    if (!went_through(tape, index, node)) return;
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; i < ad_node_input_count(node); i++) {
        uint8_t *of = &seen[in[i]];
        if ((*of & SEEN_MERGE) || !contributes(tape, node, i)) continue;
        if (*of & SEEN_CONTRIBUTION) totals[ad_scope_of(tape, in[i])].merges++;
        *of |= *of & SEEN_CONTRIBUTION ? SEEN_MERGE : SEEN_CONTRIBUTION;
    }
}

/* One piece of memory that is saved, and the first operation that saves it. */
typedef struct kept_piece {
    const ad_tensor *storage;
    uint64_t bytes;
    uint32_t order, scope;
} kept_piece;

typedef struct kept_list {
    kept_piece *piece;
    size_t count, room;
} kept_list;

static bool keep_piece(kept_list *list, const ad_allocator *allocator, const kept_piece *piece) {
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        kept_piece *grown = ad_allocate(allocator, room * sizeof *grown, _Alignof(kept_piece));
        if (!grown) return false;
        if (list->count) memcpy(grown, list->piece, list->count * sizeof *grown);
        ad_release(allocator, list->piece, list->room * sizeof *grown);
        list->piece = grown;
        list->room = room;
    }
    list->piece[list->count++] = *piece;
    return true;
}

static int by_storage(const void *a, const void *b) {
    const kept_piece *p = a, *q = b;
    if (p->storage != q->storage) return (uintptr_t)p->storage < (uintptr_t)q->storage ? -1 : 1;
    return (p->order > q->order) - (p->order < q->order);
}

/* Values in nodes are counted at once; tensors, which several nodes may share, are listed. */
static bool count_saved(const ad_tape *tape, uint32_t index, uint8_t *seen, kept_list *list, ad_totals *totals) {
    ad_saved saved;
    for (int cursor = 0; ad_tape_saved(tape, index, &cursor, &saved);) {
        if (seen[saved.node] & SEEN_SAVED) continue;
        seen[saved.node] |= SEEN_SAVED;
        const ad_tensor *storage = storage_of(ad_node_at(tape, (uint32_t)saved.node));
        uint32_t scope = ad_scope_of(tape, index);
        kept_piece piece = {.storage = storage, .bytes = saved.bytes, .order = index, .scope = scope};
        if (!storage) {
            totals[scope].saved_bytes += saved.bytes;
        } else if (!keep_piece(list, tape->allocator, &piece)) {
            return false;
        }
    }
    return true;
}

static void add_pieces(kept_list *list, ad_totals *totals) {
    if (list->count) qsort(list->piece, list->count, sizeof *list->piece, by_storage);
    for (size_t i = 0; i < list->count; i++)
        if (i == 0 || list->piece[i].storage != list->piece[i - 1].storage)
            totals[list->piece[i].scope].saved_bytes += list->piece[i].bytes;
}

static void add_to_parents(const ad_tape *tape, ad_totals *totals) {
    for (uint32_t i = tape->scope_count; i-- > 1;) {
        ad_totals *outer = &totals[tape->scopes[i].parent];
        const ad_totals *inner = &totals[i];
        outer->nodes += inner->nodes;
        outer->inputs += inner->inputs;
        outer->constants += inner->constants;
        outer->parameters += inner->parameters;
        outer->operations += inner->operations;
        outer->merges += inner->merges;
        outer->saved_bytes += inner->saved_bytes;
    }
}

ad_status ad_tape_totals(const ad_tape *tape, ad_totals *totals) {
    if (!tape || !totals) return AD_ERR_NULL;
    memset(totals, 0, tape->scope_count * sizeof *totals);
    if (tape->count == 0) return AD_OK;
    uint8_t *seen = ad_allocate(tape->allocator, tape->count, 1);
    if (!seen) return AD_ERR_OOM;
    memset(seen, 0, tape->count);
    kept_list list = {.piece = NULL};
    bool ok = true;
    for (uint32_t index = 0; index < tape->count && ok; index++) {
        const ad_node *node = ad_node_at(tape, index);
        count_node(node, &totals[ad_scope_of(tape, index)]);
        if (ad_node_is_leaf(node) || node->op == &ad_result_of) continue;
        if (index < tape->pass_nodes) count_merges(tape, index, node, seen, totals);
        ok = count_saved(tape, index, seen, &list, totals);
    }
    if (ok) {
        add_pieces(&list, totals);
        add_to_parents(tape, totals);
    }
    ad_release(tape->allocator, list.piece, list.room * sizeof *list.piece);
    ad_release(tape->allocator, seen, tape->count);
    return ok ? AD_OK : AD_ERR_OOM;
}
