/* The tape itself: its life, its nodes, marks, names and scopes. */
#include "autodiff/tape/tape.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- life ------------------------------------------------------------------------------------------------- */

/* A tape may lie where a freed one lay, whose variables are still about: where generations start is left to chance. */
static uint32_t any_generation(void) {
    struct timespec now = {0};
    timespec_get(&now, TIME_UTC);
    uint64_t time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint32_t generation = (uint32_t)(time * 0x9E3779B97F4A7C15u >> 32);
    return generation ? generation : 1;
}

ad_tape *ad_tape_new(const ad_tape_options *options) {
    static const ad_tape_options none;
    if (!options) options = &none;
    const ad_allocator *allocator = options->allocator ? options->allocator : ad_allocator_default();
    ad_tape *tape = ad_allocate(allocator, sizeof *tape, _Alignof(ad_tape));
    if (!tape) return NULL;
    memset(tape, 0, sizeof *tape);
    tape->allocator = allocator;
    tape->on_error = options->on_error;
    tape->on_growth = options->on_growth;
    tape->user = options->user;
    tape->generation = tape->first_generation = any_generation();
    tape->max_nodes = options->max_nodes && options->max_nodes < UINT32_MAX - 1 ? (uint32_t)options->max_nodes
                                                                                : UINT32_MAX - 1;
    tape->numbers = tape->numbers_asked = (uint8_t)options->numbers;
    tape->scope_count = 1; /* the top; its entry is only needed when another is made */
    ad_arena_open(&tape->extras, allocator);
    ad_arena_open(&tape->scratch, allocator);
    ad_arena_open(&tape->rows, allocator);
    tape->pool = ad_pool_new(allocator);
    if (!tape->pool) {
        ad_release(allocator, tape, sizeof *tape);
        return NULL;
    }
    return tape;
}

static void drop_gradient(ad_tape *tape, uint32_t index) {
    ad_cotangent *grad = ad_cotangent_at(tape, index);
    ad_tensor_unref(grad->value.tensor);
    *grad = (ad_cotangent){.pass = 0};
}

void ad_tape_drop_gradients(ad_tape *tape) {
    while (tape->graded.count > 0) drop_gradient(tape, tape->graded.item[--tape->graded.count]);
    tape->pass_nodes = 0;
}

void ad_tape_forget_gradients(ad_tape *tape, uint32_t count, size_t graded) {
    if (tape->pass_nodes <= count) return;
    size_t kept = graded;
    for (size_t i = graded; i < tape->graded.count; i++) {
        uint32_t index = tape->graded.item[i];
        if (index < count) {
            tape->graded.item[kept++] = index;
        } else {
            drop_gradient(tape, index);
        }
    }
    tape->graded.count = kept;
    tape->pass_nodes = count;
}

/* Forgets the nodes from `count` on. Costs as much as they hold tensors, not as they are many. */
static void forget_nodes(ad_tape *tape, uint32_t count) {
    ad_tape_forget_gradients(tape, count, 0);
    ad_sequences_forget(tape, count);
    while (tape->params.count > 0 && tape->params.item[tape->params.count - 1] >= count) tape->params.count--;
    while (tape->owners.count > 0 && tape->owners.item[tape->owners.count - 1] >= count) {
        ad_node *node = ad_node_at(tape, tape->owners.item[--tape->owners.count]);
        if (!(node->flags & AD_NODE_INLINE)) ad_tensor_unref(node->value.tensor);
        if (node->op == &ad_leaf_parameter) ad_param_unref(node->extra->param);
    }
    tape->count = count;
    if (count < tape->grown_to) tape->growing = tape->grown_to = 0;
    /* New nodes must not answer to old handles. */
    if (++tape->generation == 0) tape->generation = 1;
}

void ad_tape_update_fast_end(ad_tape *tape) {
    uint64_t room = (uint64_t)tape->chunks * AD_CHUNK_NODES;
    tape->fast_end = tape->error.status || ad_tape_looks_at_each(tape) ? 0
                     : room < tape->max_nodes                          ? (uint32_t)room
                                                                       : tape->max_nodes;
}

void ad_tape_release_held(ad_tape *tape) {
    for (int k = 0; k < AD_MAX_RESULTS; k++) {
        ad_tensor_unref(tape->held[k]);
        tape->held[k] = NULL;
        ad_kept_drop(&tape->kept[k]);
    }
}

void ad_tape_reset(ad_tape *tape) {
    if (!tape) return;
    forget_nodes(tape, 0);
    ad_tape_release_held(tape);
    ad_arena_rewind(&tape->extras, 0);
    ad_arena_rewind(&tape->scratch, 0);
    ad_arena_rewind(&tape->rows, 0);
    tape->first_generation = tape->generation;
    tape->named.count = 0;
    tape->scope = 0;
    tape->scope_count = 1;
    tape->stretch_count = 0;
    tape->no_grad = tape->no_grad_scopes = 0;
    tape->in_hook = false;
    tape->where = NULL;
    tape->frame = NULL;
    tape->deriving = 0;
    tape->numbers = tape->numbers_asked;
    tape->profile = tape->profile_asked;
    tape->drawn.count = tape->used.count = tape->captured.count = 0;
    tape->error.status = AD_OK;
    tape->error.message[0] = '\0';
    ad_tape_update_fast_end(tape);
}

void ad_tape_free(ad_tape *tape) {
    if (!tape) return;
    const ad_allocator *allocator = tape->allocator;
    forget_nodes(tape, 0);
    ad_tape_release_held(tape);
    for (uint32_t i = 0; i < tape->chunks; i++) ad_release(allocator, tape->chunk[i], sizeof(ad_chunk));
    ad_release(allocator, tape->chunk, tape->chunk_room * sizeof *tape->chunk);
    ad_release(allocator, tape->scopes, tape->scope_room * sizeof *tape->scopes);
    ad_release(allocator, tape->stretch, tape->stretch_room * sizeof *tape->stretch);
    ad_list_free(&tape->owners, allocator);
    ad_list_free(&tape->graded, allocator);
    ad_list_free(&tape->params, allocator);
    ad_list_free(&tape->named, allocator);
    ad_list_free(&tape->drawn, allocator);
    ad_list_free(&tape->used, allocator);
    ad_list_free(&tape->captured, allocator);
    ad_arena_close(&tape->extras);
    ad_arena_close(&tape->scratch);
    ad_arena_close(&tape->rows);
    ad_pool_close(tape->pool);
    ad_release(allocator, tape, sizeof *tape);
}

ad_status ad_tape_status(const ad_tape *tape) { return tape ? tape->error.status : AD_ERR_NULL; }

const char *ad_tape_error(const ad_tape *tape) {
    return tape ? tape->error.message : "the tape is NULL: ad_tape_new ran out of memory, or was never called";
}

void ad_tape_check_numbers(ad_tape *tape, ad_numbers numbers) {
    if (!tape) return;
    tape->numbers = tape->numbers_asked = (uint8_t)numbers;
    ad_tape_update_fast_end(tape);
}

int64_t ad_tape_size(const ad_tape *tape) { return tape ? tape->count : 0; }

uint64_t ad_tape_memory(const ad_tape *tape) {
    if (!tape) return 0;
    return sizeof *tape + tape->chunks * (uint64_t)sizeof(ad_chunk) + tape->chunk_room * sizeof *tape->chunk +
           tape->scope_room * sizeof *tape->scopes + tape->stretch_room * sizeof *tape->stretch +
           (tape->owners.room + tape->graded.room + tape->params.room + tape->named.room + tape->drawn.room +
            tape->used.room + tape->captured.room) *
               sizeof(uint32_t) +
           tape->extras.bytes + tape->scratch.bytes + tape->rows.bytes + ad_pool_bytes(tape->pool);
}

void ad_tape_watch_growth(ad_tape *tape) {
    const uint32_t first_warning = 8;
    if (tape->grown_to && tape->count > tape->grown_to) tape->growing++;
    tape->grown_to = tape->count;
    bool is_power = (tape->growing & (tape->growing - 1)) == 0;
    if (tape->on_growth && tape->growing >= first_warning && is_power)
        tape->on_growth(tape->user, tape->growing, tape->count, ad_tape_memory(tape));
}

/* ---- errors ------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

ad_status ad_tape_fail_v(ad_tape *tape, ad_status status, const char *subject, const char *where, const char *format,
                         va_list args) {
    if (!tape || tape->error.status) return status; /* the first error is the cause, later ones are its echo */
    ad_error *error = &tape->error;
    size_t length = 0;
    error->status = status;
    error->message[0] = '\0';
    if (subject) ad_text_add(error->message, sizeof error->message, &length, "%s", subject);
    if (where) ad_text_add(error->message, sizeof error->message, &length, " at %s", base_name(where));
    if (subject || where) ad_text_add(error->message, sizeof error->message, &length, ": ");
    ad_text_add_v(error->message, sizeof error->message, &length, format, args);
    ad_tape_update_fast_end(tape);
    if (tape->on_error) tape->on_error(tape->user, error);
    return status;
}

ad_status ad_tape_fail(ad_tape *tape, ad_status status, const char *subject, const char *where, const char *format,
                       ...) {
    va_list args;
    va_start(args, format);
    ad_tape_fail_v(tape, status, subject, where, format, args);
    va_end(args);
    return status;
}

ad_status ad_tape_out_of_memory(ad_tape *tape, const char *subject, const char *where) {
    return ad_tape_fail(
        tape, AD_ERR_OOM, subject, where,
        "out of memory: the tape holds %llu bytes in %lld nodes; reset it, or give its allocator more",
        (unsigned long long)ad_tape_memory(tape), (long long)tape->count);
}

void ad_error_scope_begin(ad_error_scope *scope, ad_tape *tape) {
    scope->outer = tape->error;
    scope->on_error = tape->on_error;
    tape->on_error = NULL;
    tape->error.status = AD_OK;
    tape->error.message[0] = '\0';
    ad_tape_update_fast_end(tape);
}

ad_status ad_error_scope_end(const ad_error_scope *scope, ad_tape *tape) {
    ad_status status = tape->error.status;
    tape->error = scope->outer;
    tape->on_error = scope->on_error;
    ad_tape_update_fast_end(tape);
    return status;
}

bool ad_tape_check_var(ad_tape *tape, ad_var x, const char *subject, const char *where, const char *role) {
    if (tape->error.status) return false;
    if (x.tape == tape && ad_var_is_valid(x)) return true;
    if (!x.tape) {
        ad_tape_fail(tape, AD_ERR_HANDLE, subject, where, "%s is an empty variable: it was never set", role);
    } else if (x.tape != tape) {
        ad_tape_fail(tape, AD_ERR_HANDLE, subject, where,
                     "%s belongs to another tape; bring its value over with ad_constant or ad_leaf", role);
    } else if (x.generation == 0) {
        ad_tape_fail(tape, AD_ERR_HANDLE, subject, where,
                     "%s is an invalid variable: the operation that should have made it failed", role);
    } else {
        ad_tape_fail(tape, AD_ERR_HANDLE, subject, where,
                     "%s is a stale variable (node %u): the tape was reset or rewound since it was made; record it "
                     "again",
                     role, x.index);
    }
    return false;
}

bool ad_check_var(ad_var x, const char *subject, const char *where) {
    return x.tape && ad_tape_check_var(x.tape, x, subject, where, "the variable");
}

void ad_node_text(const ad_tape *tape, uint32_t index, bool with_type, char *text, size_t size) {
    const ad_node *node = ad_node_at(tape, index);
    size_t length = 0;
    text[0] = '\0';
    if (node->extra && node->extra->name) {
        ad_text_add(text, size, &length, "%s", node->extra->name);
    } else {
        ad_text_add(text, size, &length, "v%u", index);
    }
    if (!with_type) return;
    ad_shape shape = ad_node_shape(node);
    ad_text_add(text, size, &length, " is %s", ad_dtype_name((ad_dtype)node->dtype));
    ad_text_shape(text, size, &length, &shape);
}

/* ---- nodes -------------------------------------------------------------------------------------------------- */

const ad_view *ad_slot_view(const ad_slot *slot, bool is_inline, ad_dtype dtype, ad_view *scratch) {
    if (!is_inline) return &slot->tensor->view;
    scratch->data = (void *)slot;
    scratch->dtype = dtype;
    scratch->shape.rank = 0;
    return scratch;
}

static bool add_chunk(ad_tape *tape) {
    if (tape->chunks == tape->chunk_room) {
        uint32_t room = tape->chunk_room ? tape->chunk_room * 2 : 16;
        ad_chunk **chunk = ad_allocate(tape->allocator, room * sizeof *chunk, _Alignof(ad_chunk *));
        if (!chunk) return false;
        if (tape->chunks) memcpy(chunk, tape->chunk, tape->chunks * sizeof *chunk);
        ad_release(tape->allocator, tape->chunk, tape->chunk_room * sizeof *chunk);
        tape->chunk = chunk;
        tape->chunk_room = room;
    }
    ad_chunk *chunk = ad_allocate(tape->allocator, sizeof *chunk, 64);
    if (!chunk) return false;
    memset(chunk->grad, 0, sizeof chunk->grad);
    tape->chunk[tape->chunks++] = chunk;
    ad_tape_update_fast_end(tape);
    return true;
}

bool ad_tape_room(ad_tape *tape, const char *where, uint32_t n) {
    if (tape->error.status) return false;
    if (n > tape->max_nodes - tape->count) {
        ad_tape_fail(tape, AD_ERR_LIMIT, "tape", where,
                     "it is full: %u nodes is its limit (ad_tape_options.max_nodes)", tape->max_nodes);
        return false;
    }
    while ((uint64_t)tape->chunks * AD_CHUNK_NODES < (uint64_t)tape->count + n) {
        if (!add_chunk(tape)) {
            ad_tape_out_of_memory(tape, "tape", where);
            return false;
        }
    }
    return true;
}

ad_node *ad_tape_push(ad_tape *tape, const char *where) {
    ad_node *node = ad_node_at(tape, tape->count++);
    node->where = where;
    node->extra = NULL;
    node->in[0] = node->in[1] = 0;
    node->generation = tape->generation;
    node->flags = 0;
    node->inputs = 0;
    return node;
}

void ad_tape_place(ad_tape *tape, uint32_t from, const char *where) {
    for (uint32_t index = from; index < tape->count; index++) ad_node_at(tape, index)->where = where;
}

ad_extra *ad_node_extra(ad_tape *tape, ad_node *node) {
    if (!node->extra) {
        node->extra = ad_arena_take(&tape->extras, sizeof *node->extra);
        if (node->extra) {
            *node->extra = (ad_extra){0};
        } else {
            ad_tape_out_of_memory(tape, "tape", node->where);
        }
    }
    return node->extra;
}

/* ---- marks -------------------------------------------------------------------------------------------------- */

/* Of the last of `count` nodes, and of the last of `count` stretches: a mark is live while both are the ones that it was
 * taken after. */
static uint32_t node_generation(const ad_tape *tape, uint32_t count) {
    return count ? ad_node_at(tape, count - 1)->generation : tape->first_generation;
}
static uint32_t stretch_generation(const ad_tape *tape, uint32_t count) {
    return count ? tape->stretch[count - 1].generation : tape->first_generation;
}

bool ad_mark_is_live(const ad_tape *tape, const ad_mark *mark) {
    return mark->count <= tape->count && mark->stretches <= tape->stretch_count &&
           mark->generation == node_generation(tape, mark->count) &&
           mark->stretch_generation == stretch_generation(tape, mark->stretches);
}

ad_mark ad_tape_mark(ad_tape *tape) {
    if (!tape) return (ad_mark){0};
    return (ad_mark){.tape = tape,
                     .count = tape->count,
                     .generation = node_generation(tape, tape->count),
                     .scope = tape->scope,
                     .scopes = tape->scope_count,
                     .stretches = tape->stretch_count,
                     .stretch_generation = stretch_generation(tape, tape->stretch_count),
                     .names = tape->named.count,
                     .extras = ad_arena_position(&tape->extras)};
}

void ad_tape_rewind_to(ad_tape *tape, const ad_mark *mark) {
    /* A function of the user's reset the tape meanwhile: there is nothing left to forget. */
    if (!ad_mark_is_live(tape, mark)) return;
    forget_nodes(tape, mark->count);
    tape->scope = mark->scope;
    tape->scope_count = mark->scopes;
    tape->stretch_count = mark->stretches;
    /* A name or hook given since to a node that stays lies above the mark: that memory then goes at the next reset. */
    for (size_t i = (size_t)mark->names; i < tape->named.count; i++)
        if (tape->named.item[i] < mark->count) return;
    tape->named.count = (size_t)mark->names;
    ad_arena_rewind(&tape->extras, mark->extras);
}

ad_status ad_tape_rewind(ad_tape *tape, ad_mark mark) {
    if (!tape) return AD_ERR_NULL;
    if (tape->error.status) return tape->error.status;
    if (mark.tape != tape)
        return ad_tape_fail(tape, AD_ERR_HANDLE, "ad_tape_rewind", NULL, "the mark %s",
                            mark.tape ? "belongs to another tape" : "is empty: take it with ad_tape_mark");
    if (!ad_mark_is_live(tape, &mark))
        return ad_tape_fail(tape, AD_ERR_HANDLE, "ad_tape_rewind", NULL,
                            "the mark is stale: the tape was reset or rewound to an earlier place since");
    ad_tape_rewind_to(tape, &mark);
    return AD_OK;
}

/* ---- names and scopes ---------------------------------------------------------------------------------------- */

ad_var ad_name_at(const char *where, ad_var x, const char *name) {
    if (!ad_check_var(x, "ad_name", where)) return ad_var_invalid(x.tape);
    ad_node *node = ad_node_at(x.tape, x.index);
    ad_extra *extra = ad_node_extra(x.tape, node);
    const char *copy = name ? ad_arena_text(&x.tape->extras, name) : "";
    if (!extra || !copy || !ad_list_reserve(&x.tape->named, x.tape->allocator, 1)) {
        ad_tape_out_of_memory(x.tape, "ad_name", where);
        return ad_var_invalid(x.tape);
    }
    ad_list_push(&x.tape->named, x.index);
    extra->name = *copy ? copy : NULL;
    return x;
}

uint32_t ad_scope_of(const ad_tape *tape, uint32_t index) {
    uint32_t low = 0, high = tape->stretch_count; /* the stretch is before `high` */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tape->stretch[middle].first <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low ? tape->stretch[low - 1].scope : 0;
}

static bool stretch_room(ad_tape *tape) {
    if (tape->stretch_count < tape->stretch_room) return true;
    uint32_t room = tape->stretch_room ? tape->stretch_room * 2 : 32;
    ad_stretch *stretch = ad_allocate(tape->allocator, room * sizeof *stretch, _Alignof(ad_stretch));
    if (!stretch) return false;
    if (tape->stretch_count) memcpy(stretch, tape->stretch, tape->stretch_count * sizeof *stretch);
    ad_release(tape->allocator, tape->stretch, tape->stretch_room * sizeof *stretch);
    tape->stretch = stretch;
    tape->stretch_room = room;
    return true;
}

/* What is recorded from here on belongs to `scope`. There must be room. */
static void enter_scope(ad_tape *tape, uint32_t scope) {
    tape->scope = scope;
    tape->stretch[tape->stretch_count++] = (ad_stretch){tape->count, scope, tape->generation};
}

static bool scope_room(ad_tape *tape) {
    if (tape->scope_count < tape->scope_room) return true;
    uint32_t room = tape->scope_room ? tape->scope_room * 2 : 16;
    ad_scope *scopes = ad_allocate(tape->allocator, room * sizeof *scopes, _Alignof(ad_scope));
    if (!scopes) return false;
    if (tape->scopes) {
        memcpy(scopes, tape->scopes, tape->scope_count * sizeof *scopes);
    } else {
        scopes[0] = (ad_scope){"", 0, 0};
    }
    ad_release(tape->allocator, tape->scopes, tape->scope_room * sizeof *scopes);
    tape->scopes = scopes;
    tape->scope_room = room;
    return true;
}

void ad_scope_begin(ad_tape *tape, const char *format, ...) {
    if (!tape || tape->error.status) return;
    if (!format) {
        ad_tape_fail(tape, AD_ERR_NULL, "ad_scope_begin", NULL, "the name is NULL");
        return;
    }
    char path[512];
    size_t length = 0;
    path[0] = '\0';
    if (tape->scope) ad_text_add(path, sizeof path, &length, "%s/", tape->scopes[tape->scope].path);
    va_list args;
    va_start(args, format);
    ad_text_add_v(path, sizeof path, &length, format, args);
    va_end(args);
    const char *copy = scope_room(tape) && stretch_room(tape) ? ad_arena_text(&tape->extras, path) : NULL;
    if (!copy) {
        ad_tape_out_of_memory(tape, "ad_scope_begin", NULL);
        return;
    }
    tape->scopes[tape->scope_count] = (ad_scope){copy, tape->scope, tape->scopes[tape->scope].depth + 1};
    enter_scope(tape, tape->scope_count++);
    if (tape->profile) ad_profile_scope_begin(tape->profile, tape->scopes[tape->scope].depth);
}

void ad_scope_end(ad_tape *tape) {
    if (!tape || tape->error.status) return;
    if (tape->scope == 0) {
        ad_tape_fail(tape, AD_ERR_VALUE, "ad_scope_end", NULL, "no scope is open: one ad_scope_end too many");
        return;
    }
    const ad_scope *scope = &tape->scopes[tape->scope];
    if (tape->profile) ad_profile_scope_end(tape->profile, scope->depth, scope->path);
    if (stretch_room(tape)) {
        enter_scope(tape, scope->parent);
    } else {
        ad_tape_out_of_memory(tape, "ad_scope_end", NULL);
    }
}

void ad_no_grad_begin(ad_tape *tape) {
    if (!tape || tape->error.status) return;
    if (tape->no_grad == UINT8_MAX - 8) { /* a derivative may add some of its own */
        ad_tape_fail(tape, AD_ERR_LIMIT, "ad_no_grad_begin", NULL,
                     "%d scopes without gradients are open: is an ad_no_grad_end missing in a loop?", tape->no_grad);
        return;
    }
    tape->no_grad++;
    tape->no_grad_scopes++;
}

void ad_no_grad_end(ad_tape *tape) {
    if (!tape || tape->error.status) return;
    if (tape->no_grad_scopes == 0) {
        ad_tape_fail(tape, AD_ERR_VALUE, "ad_no_grad_end", NULL,
                     "no such scope is open: one ad_no_grad_end too many");
        return;
    }
    tape->no_grad--;
    tape->no_grad_scopes--;
}

/* ---- invariants ---------------------------------------------------------------------------------------------- */

static ad_status verify_node(const ad_tape *tape, uint32_t index, ad_error *error) {
    const ad_node *node = ad_node_at(tape, index);
    if (!node->op || !ad_dtype_size((ad_dtype)node->dtype))
        return ad_error_set(error, AD_ERR_OP, "node %u has no op or no dtype", index);
    if (node->generation == 0 || ad_scope_of(tape, index) >= tape->scope_count)
        return ad_error_set(error, AD_ERR_OP, "node %u has generation %u, scope %u", index, node->generation,
                            ad_scope_of(tape, index));
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; i < ad_node_input_count(node); i++)
        if (in[i] >= index) return ad_error_set(error, AD_ERR_OP, "node %u reads node %u", index, in[i]);
    if (node->flags & AD_NODE_INLINE) return AD_OK;
    const ad_tensor *value = node->value.tensor;
    if (!value || atomic_load(&value->refs) < 1 || ad_view_count(&value->view) < 0 ||
        value->view.dtype != (ad_dtype)node->dtype)
        return ad_error_set(error, AD_ERR_OP, "node %u has a broken value", index);
    const ad_tensor *grad = ad_has_gradient(tape, index) ? ad_cotangent_at(tape, index)->value.tensor : NULL;
    if (grad && (!ad_shape_equal(&grad->view.shape, &value->view.shape) || grad->view.dtype != value->view.dtype))
        return ad_error_set(error, AD_ERR_OP, "the gradient of node %u is not of its type", index);
    return AD_OK;
}

/* Every list ascends and names nodes that exist. */
static ad_status verify_list(const ad_tape *tape, const ad_list *list, const char *name, ad_error *error) {
    for (size_t i = 0; i < list->count; i++)
        if (list->item[i] >= tape->count || (i > 0 && list->item[i] <= list->item[i - 1]))
            return ad_error_set(error, AD_ERR_OP, "the list of %s is out of order at %zu", name, i);
    return AD_OK;
}

/* The nodes that the lists name are those that reset has something to release for. */
static ad_status verify_owners(const ad_tape *tape, ad_error *error) {
    size_t owners = 0, params = 0;
    for (uint32_t index = 0; index < tape->count; index++) {
        const ad_node *node = ad_node_at(tape, index);
        bool is_param = node->op == &ad_leaf_parameter, owns = is_param || !(node->flags & AD_NODE_INLINE);
        if (owns != (owners < tape->owners.count && tape->owners.item[owners] == index) ||
            is_param != (params < tape->params.count && tape->params.item[params] == index))
            return ad_error_set(error, AD_ERR_OP, "node %u is missing from a list of owners, or should not be there",
                                index);
        owners += owns;
        params += is_param;
    }
    return AD_OK;
}

static ad_status verify_gradients(const ad_tape *tape, ad_error *error) {
    if (tape->pass_nodes > tape->count)
        return ad_error_set(error, AD_ERR_OP, "gradients of %u nodes on a tape of %u", tape->pass_nodes, tape->count);
    for (size_t i = 0; i < tape->graded.count; i++) {
        uint32_t index = tape->graded.item[i];
        if (index >= tape->pass_nodes || (ad_node_at(tape, index)->flags & AD_NODE_INLINE))
            return ad_error_set(error, AD_ERR_OP, "the list of gradients names node %u", index);
    }
    return AD_OK;
}

/* Between two calls nothing is under way. */
static ad_status verify_rest(const ad_tape *tape, ad_error *error) {
    if ((uint64_t)tape->chunks * AD_CHUNK_NODES < tape->count)
        return ad_error_set(error, AD_ERR_OP, "%u nodes in %u chunks", tape->count, tape->chunks);
    if (ad_arena_position(&tape->scratch) != 0 || tape->held[0])
        return ad_error_set(error, AD_ERR_OP, "scratch memory is still in use");
    if (tape->no_grad != tape->no_grad_scopes || tape->where || tape->frame || tape->in_hook)
        return ad_error_set(error, AD_ERR_OP, "the tape still records for a derivative");
    return AD_OK;
}

ad_status ad_tape_verify(const ad_tape *tape, ad_error *error) {
    if (!tape) return ad_error_set(error, AD_ERR_NULL, "the tape is NULL");
    ad_status status = verify_rest(tape, error);
    for (uint32_t i = 0; i < tape->count && !status; i++) status = verify_node(tape, i, error);
    if (!status) status = verify_list(tape, &tape->owners, "owners", error);
    if (!status) status = verify_list(tape, &tape->params, "parameters", error);
    if (!status) status = verify_owners(tape, error);
    return status ? status : verify_gradients(tape, error);
}
