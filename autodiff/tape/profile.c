/* Timing operations one by one: sums by op and scope, and a list of events. Nothing here fails a tape; what there is no
 * memory for is counted as lost. */
#include "autodiff/tape/tape.h"

#include <adtape/profile.h>

#include <string.h>
#include <time.h>

/* uthash asks the profile's allocator, and leaves an element out if there is no memory. */
#define HASH_NONFATAL_OOM            1
#define uthash_nonfatal_oom(element) ((element)->is_known = false)
#define uthash_malloc(size)          ad_allocate(p->allocator, size, _Alignof(max_align_t))
#define uthash_free(memory, size)    ad_release(p->allocator, memory, size)
#include <uthash.h>

typedef struct group {
    ad_profile_row row;
    bool is_known;
    size_t size; /* of this block */
    struct group *next;
    UT_hash_handle hh;
    const ad_op *op; /* the key: this, NULL for a scope itself, and the text */
    char scope[];
} group;

typedef struct event {
    const group *group;
    const char *where;
    int64_t start, duration;
    uint64_t bytes;
    uint32_t node;
    uint8_t kind;
} event;

enum { PATH = 512, DEEPEST = 64 };

struct ad_profile {
    const ad_allocator *allocator;
    int64_t (*clock)(void *user);
    void *user;
    int64_t most_events, lost, began;
    group *by_key, *first, *last;
    int64_t rows;
    event *events;
    size_t count, room;
    int64_t scope_start[DEEPEST]; /* of the open scopes, by depth */
    bool has_begun;
};

/* ---- its life ------------------------------------------------------------------------------------------------------ */

static int64_t system_clock(void *user) {
    struct timespec now;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

ad_status ad_profile_new(ad_profile **out, const ad_profile_options *options, ad_error *error) {
    static const ad_profile_options none;
    if (!out) return ad_error_set(error, AD_ERR_NULL, "ad_profile_new: out is NULL");
    if (!options) options = &none;
    const ad_allocator *allocator = options->allocator ? options->allocator : ad_allocator_default();
    ad_profile *p = *out = ad_allocate(allocator, sizeof *p, _Alignof(ad_profile));
    if (!p) return ad_error_set(error, AD_ERR_OOM, "ad_profile_new: out of memory");
    *p = (ad_profile){.allocator = allocator,
                      .clock = options->clock ? options->clock : system_clock,
                      .user = options->user,
                      .most_events = options->most_events ? options->most_events : 1000000};
    return AD_OK;
}

void ad_profile_free(ad_profile *p) {
    if (!p) return;
    HASH_CLEAR(hh, p->by_key);
    for (group *g = p->first, *next; g; g = next) {
        next = g->next;
        ad_release(p->allocator, g, g->size);
    }
    ad_release(p->allocator, p->events, p->room * sizeof *p->events);
    ad_release(p->allocator, p, sizeof *p);
}

int64_t ad_profile_now(ad_profile *p) {
    int64_t now = p->clock(p->user);
    if (!p->has_begun) p->began = now;
    p->has_begun = true;
    return now - p->began;
}

/* ---- adding -------------------------------------------------------------------------------------------------------- */

static group *add_group(ad_profile *p, const ad_op *op, const char *scope, size_t length) {
    size_t size = sizeof(group) + length + 1, key = sizeof op + length;
    group *g = ad_allocate(p->allocator, size, _Alignof(group));
    if (!g) return NULL;
    *g = (group){.row = {.op = op ? op->name : NULL}, .is_known = true, .size = size, .op = op};
    memcpy(g->scope, scope, length + 1);
    g->row.scope = g->scope;
    HASH_ADD(hh, p->by_key, op, (unsigned)key, g);
    if (!g->is_known) {
        ad_release(p->allocator, g, size);
        return NULL;
    }
    if (p->last) p->last->next = g;
    if (!p->first) p->first = g;
    p->last = g;
    p->rows += op != NULL;
    return g;
}

/* The sums of an op in a scope, or of a scope; NULL: no memory. */
static group *group_of(ad_profile *p, const ad_op *op, const char *scope) {
    struct {
        const ad_op *op;
        char scope[PATH];
    } key = {.op = op};
    _Static_assert(offsetof(group, scope) == offsetof(group, op) + sizeof(const ad_op *), "the key is in one piece");
    size_t length = strlen(scope);
    if (length >= PATH) length = PATH - 1;
    memcpy(key.scope, scope, length);
    group *g = NULL;
    HASH_FIND(hh, p->by_key, &key, (unsigned)(sizeof op + length), g);
    return g ? g : add_group(p, op, key.scope, length);
}

static bool event_room(ad_profile *p) {
    if (p->count < p->room) return true;
    size_t room = p->room ? p->room * 2 : 256;
    event *events = ad_allocate(p->allocator, room * sizeof *events, _Alignof(event));
    if (!events) return false;
    if (p->count) memcpy(events, p->events, p->count * sizeof *events);
    ad_release(p->allocator, p->events, p->room * sizeof *events);
    p->events = events;
    p->room = room;
    return true;
}

static void add_event(ad_profile *p, const event *e) {
    if (p->most_events < 0) return;
    if ((int64_t)p->count < p->most_events && event_room(p)) {
        p->events[p->count++] = *e;
    } else {
        p->lost++;
    }
}

/* What its results take, in bytes. */
static uint64_t result_bytes(const ad_tape *tape, uint32_t index) {
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(ad_node_at(tape, index)->op); k++) {
        const ad_node *node = ad_node_at(tape, index + k);
        ad_shape shape = ad_node_shape(node);
        if (!(node->flags & AD_NODE_VIEW))
            bytes += (uint64_t)ad_shape_count(&shape) * ad_dtype_size((ad_dtype)node->dtype);
    }
    return bytes;
}

void ad_profile_operation(ad_tape *tape, ad_profile *p, bool is_backward, uint32_t index, int64_t start) {
    int64_t duration = ad_profile_now(p) - start;
    const ad_node *node = ad_node_at(tape, index);
    uint32_t scope = ad_scope_of(tape, index);
    group *g = group_of(p, node->op, scope ? tape->scopes[scope].path : "");
    if (!g) {
        p->lost++;
        return;
    }
    uint64_t bytes = is_backward ? 0 : result_bytes(tape, index);
    g->row.bytes += bytes;
    g->row.calls += !is_backward;
    g->row.backward_calls += is_backward;
    *(is_backward ? &g->row.backward : &g->row.forward) += duration;
    add_event(p, &(event){.group = g,
                          .where = node->where,
                          .start = start,
                          .duration = duration,
                          .bytes = bytes,
                          .node = index,
                          .kind = is_backward ? AD_PROFILE_BACKWARD : AD_PROFILE_FORWARD});
}

static void add_span(ad_profile *p, ad_profile_kind kind, const char *scope, const char *where, uint32_t node,
                     int64_t start) {
    const group *g = group_of(p, NULL, scope);
    if (g) {
        add_event(p, &(event){.group = g,
                              .where = where,
                              .start = start,
                              .duration = ad_profile_now(p) - start,
                              .node = node,
                              .kind = (uint8_t)kind});
    } else {
        p->lost++;
    }
}

void ad_profile_pass(ad_profile *p, const char *where, uint32_t index, int64_t start) {
    add_span(p, AD_PROFILE_PASS, "", where, index, start);
}

void ad_profile_scope_begin(ad_profile *p, uint32_t depth) {
    if (depth < DEEPEST) p->scope_start[depth] = ad_profile_now(p);
}

void ad_profile_scope_end(ad_profile *p, uint32_t depth, const char *path) {
    if (depth < DEEPEST) add_span(p, AD_PROFILE_SCOPE, path, NULL, 0, p->scope_start[depth]);
}

/* ---- attaching ------------------------------------------------------------------------------------------------------ */

void ad_tape_attach_profile(ad_tape *tape, ad_profile *profile) {
    if (!tape) return;
    tape->profile = tape->profile_asked = profile;
    ad_tape_update_fast_end(tape);
}

const ad_allocator *ad_profile_allocator(const ad_profile *p) { return p->allocator; }

/* ---- reading ------------------------------------------------------------------------------------------------------- */

int64_t ad_profile_rows(const ad_profile *p) { return p ? p->rows : 0; }
int64_t ad_profile_events(const ad_profile *p) { return p ? (int64_t)p->count : 0; }
int64_t ad_profile_lost(const ad_profile *p) { return p ? p->lost : 0; }

ad_status ad_profile_row_at(const ad_profile *p, int64_t i, ad_profile_row *row) {
    if (!p || !row) return AD_ERR_NULL;
    if (i < 0 || i >= p->rows) return AD_ERR_INDEX;
    const group *g = p->first;
    while (!g->op || i-- > 0) g = g->next;
    *row = g->row;
    return AD_OK;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

ad_status ad_profile_event_at(const ad_profile *p, int64_t i, ad_profile_event *out) {
    if (!p || !out) return AD_ERR_NULL;
    if (i < 0 || i >= (int64_t)p->count) return AD_ERR_INDEX;
    const event *e = &p->events[i];
    *out = (ad_profile_event){.kind = (ad_profile_kind)e->kind,
                              .name = e->kind == AD_PROFILE_PASS    ? "ad_backward"
                                      : e->kind == AD_PROFILE_SCOPE ? last_part(e->group->scope)
                                                                    : e->group->op->name,
                              .scope = e->group->scope,
                              .where = e->where,
                              .node = e->kind == AD_PROFILE_SCOPE ? -1 : (int64_t)e->node,
                              .start = e->start,
                              .duration = e->duration,
                              .bytes = e->bytes};
    return AD_OK;
}
