/* What a tape's memory is for: by op and scope. */
#include "autodiff/tape/tape.h"

#include <adtape/memory.h>

#include <stdlib.h>
#include <string.h>

typedef struct group {
    ad_memory_row row;
    const ad_op *op;
    uint32_t scope;
} group;

/* A piece of memory that an operation saves. */
typedef struct piece {
    const void *storage; /* the tensor that owns it, or the node */
    uint64_t bytes;
    size_t order, group;
} piece;

typedef struct usage {
    const ad_tape *tape;
    group *group;
    piece *piece;
    size_t groups, group_room, pieces, piece_room;
} usage;

/* Doubles the room of an array that is full; false: no memory. */
static bool grow(const ad_tape *tape, void **items, size_t size, size_t count, size_t *room) {
    if (count < *room) return true;
    size_t more = *room ? 2 * *room : 32;
    void *grown = ad_allocate(tape->allocator, more * size, _Alignof(max_align_t));
    if (!grown) return false;
    if (count) memcpy(grown, *items, count * size);
    ad_release(tape->allocator, *items, *room * size);
    *items = grown;
    *room = more;
    return true;
}

static void usage_free(usage *u) {
    ad_release(u->tape->allocator, u->group, u->group_room * sizeof *u->group);
    ad_release(u->tape->allocator, u->piece, u->piece_room * sizeof *u->piece);
}

/* The group of an op in a scope, most likely one that was there of late; NULL: no memory. */
static group *group_of(usage *u, const ad_op *op, uint32_t scope) {
    for (size_t i = u->groups; i-- > 0;)
        if (u->group[i].op == op && u->group[i].scope == scope) return &u->group[i];
    void *items = u->group;
    if (!grow(u->tape, &items, sizeof *u->group, u->groups, &u->group_room)) return NULL;
    u->group = items;
    group *g = &u->group[u->groups++];
    *g = (group){.row = {.op = op->name, .scope = scope ? u->tape->scopes[scope].path : ""},
                 .op = op,
                 .scope = scope};
    return g;
}

static uint64_t view_bytes(const ad_view *view) { return (uint64_t)ad_view_count(view) * ad_dtype_size(view->dtype); }

static bool add_saved(usage *u, uint32_t index, size_t g) {
    ad_saved saved;
    for (int cursor = 0; ad_tape_saved(u->tape, index, &cursor, &saved);) {
        const ad_node *node = ad_node_at(u->tape, (uint32_t)saved.node);
        const ad_tensor *tensor = node->flags & AD_NODE_INLINE ? NULL : node->value.tensor;
        const void *storage = !tensor ? (const void *)node : tensor->base ? tensor->base : tensor;
        void *items = u->piece;
        if (!grow(u->tape, &items, sizeof *u->piece, u->pieces, &u->piece_room)) return false;
        u->piece = items;
        u->piece[u->pieces] = (piece){.storage = storage, .bytes = saved.bytes, .order = u->pieces, .group = g};
        u->pieces++;
    }
    return true;
}

static bool add_node(usage *u, uint32_t index) {
    const ad_node *node = ad_node_at(u->tape, index);
    bool is_result = node->op == &ad_result_of;
    const ad_op *op = is_result ? ad_node_at(u->tape, node->in[0])->op : node->op;
    group *g = group_of(u, op, ad_scope_of(u->tape, index));
    if (!g) return false;
    ad_view scratch;
    uint64_t bytes = view_bytes(ad_node_view(node, &scratch));
    g->row.nodes++;
    if (!(node->flags & AD_NODE_VIEW) && op != &ad_leaf_parameter) g->row.values += bytes;
    if (ad_has_gradient(u->tape, index) && !(node->flags & AD_NODE_DIRECT)) g->row.gradients += bytes;
    return is_result || add_saved(u, index, (size_t)(g - u->group));
}

static int by_storage(const void *a, const void *b) {
    const piece *p = a, *q = b;
    if (p->storage != q->storage) return (uintptr_t)p->storage < (uintptr_t)q->storage ? -1 : 1;
    return (p->order > q->order) - (p->order < q->order);
}

ad_status ad_tape_memory_rows(const ad_tape *tape, ad_memory_row *rows, int64_t room, int64_t *count) {
    if (count) *count = 0;
    if (!tape || !count || (room > 0 && !rows)) return AD_ERR_NULL;
    usage u = {.tape = tape};
    bool ok = true;
    for (uint32_t index = 0; index < tape->count && ok; index++) ok = add_node(&u, index);
    if (ok && u.pieces) qsort(u.piece, u.pieces, sizeof *u.piece, by_storage);
    for (size_t i = 0; i < u.pieces && ok; i++)
        if (i == 0 || u.piece[i].storage != u.piece[i - 1].storage)
            u.group[u.piece[i].group].row.saved += u.piece[i].bytes;
    if (ok) *count = (int64_t)u.groups;
    for (int64_t i = 0; i < room && i < *count; i++) rows[i] = u.group[i].row;
    usage_free(&u);
    return ok ? AD_OK : AD_ERR_OOM;
}

ad_status ad_tape_memory_use(const ad_tape *tape, ad_memory *memory) {
    if (!tape || !memory) return AD_ERR_NULL;
    *memory = (ad_memory){.held = ad_tape_memory(tape)};
    ad_pool_use(tape->pool, &memory->in_use, &memory->peak);
    return AD_OK;
}
