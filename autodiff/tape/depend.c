/* Which elements depend on which: the pattern of a sparse Jacobian, read off the tape.
 *
 * Every element of a node has a *set*, the columns (elements of x) that it may depend on, and carries its number; an
 * operation's results get the union of the sets that it says they depend on (ad_op.depends). Equal sets are one set, so
 * the same number, and set 0 is empty. What is not said is taken to depend on everything: a pattern may have too many
 * places, never too few. */
#include "autodiff/tape/tape.h"

#include <stdlib.h>
#include <string.h>

/* ---- sets ------------------------------------------------------------------------------------------------------------ */

enum { MEMOS = 4096 };

typedef struct memo {
    uint32_t a, b, both;
} memo;

typedef struct ad_sets {
    ad_arena *memory;
    ad_column_set **set; /* by number */
    uint32_t count, room;
    uint32_t *slot; /* numbers of sets by their hash; 0: free */
    uint32_t slots; /* a power of two */
    uint32_t stamp;
    uint32_t *mark; /* per column: the stamp of the last union that it was in */
    uint32_t *list; /* the columns of a union under way */
    uint32_t columns;
    memo *memo; /* of recent unions of two */
    bool no_memory;
} ad_sets;

static void *take(ad_sets *sets, size_t count, size_t size) {
    void *memory = ad_arena_take(sets->memory, (count ? count : 1) * size);
    if (memory) {
        memset(memory, 0, count * size);
    } else {
        sets->no_memory = true;
    }
    return memory;
}

static uint64_t hash_of(uint32_t count, const uint32_t *column) {
    uint64_t hash = 0xcbf29ce484222325u ^ count; /* FNV-1a over words, then mixed: the table reads low bits */
    for (uint32_t i = 0; i < count; i++) hash = (hash ^ column[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

/* Where the set is in the table, or the free place for it. */
static uint32_t *slot_of(const ad_sets *sets, uint32_t count, const uint32_t *column) {
    uint64_t at = hash_of(count, column);
    for (;; at++) {
        uint32_t *slot = &sets->slot[at & (sets->slots - 1)];
        const ad_column_set *set = sets->set[*slot];
        if (!*slot || (set->count == count && memcmp(set->column, column, count * sizeof *column) == 0)) return slot;
    }
}

static bool grow(ad_sets *sets) {
    uint32_t room = sets->room * 2, slots = room * 2;
    ad_column_set **set = take(sets, room, sizeof *set);
    uint32_t *slot = take(sets, slots, sizeof *slot);
    if (!set || !slot) return false;
    memcpy(set, sets->set, sets->count * sizeof *set);
    sets->set = set;
    sets->room = room;
    sets->slot = slot;
    sets->slots = slots;
    for (uint32_t i = 1; i < sets->count; i++) *slot_of(sets, set[i]->count, set[i]->column) = i;
    return true;
}

/* The number of the set with these columns, ascending. */
static uint32_t number_of(ad_sets *sets, uint32_t count, const uint32_t *column) {
    if (sets->count == sets->room && !grow(sets)) return 0;
    uint32_t *slot = slot_of(sets, count, column);
    if (*slot) return *slot;
    ad_column_set *set = take(sets, 1, sizeof *set + count * sizeof *column);
    if (!set) return 0;
    set->count = count;
    memcpy(set->column, column, count * sizeof *column);
    sets->set[sets->count] = set;
    return *slot = sets->count++;
}

static bool open_sets(ad_sets *sets, ad_arena *memory, uint32_t columns) {
    enum { AT_FIRST = 1024 };
    *sets = (ad_sets){.memory = memory, .count = 1, .room = AT_FIRST, .slots = 2 * AT_FIRST, .columns = columns};
    sets->set = take(sets, sets->room, sizeof(ad_column_set *));
    sets->slot = take(sets, sets->slots, sizeof *sets->slot);
    sets->mark = take(sets, columns, sizeof *sets->mark);
    sets->list = take(sets, columns, sizeof *sets->list);
    sets->memo = take(sets, MEMOS, sizeof *sets->memo);
    if (!sets->no_memory) sets->set[0] = take(sets, 1, sizeof(ad_column_set));
    return !sets->no_memory;
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Adds the columns of a set to the union under way, whose count is returned. */
static uint32_t add_set(ad_sets *sets, uint32_t count, uint32_t number) {
    ad_column_set *set = sets->set[number];
    if (set->stamp == sets->stamp) return count;
    set->stamp = sets->stamp;
    for (uint32_t i = 0; i < set->count; i++) {
        uint32_t column = set->column[i];
        if (sets->mark[column] == sets->stamp) continue;
        sets->mark[column] = sets->stamp;
        sets->list[count++] = column;
    }
    return count;
}

static uint32_t close_union(ad_sets *sets, uint32_t count) {
    if (count > sets->columns / 16) {
        count = 0;
        for (uint32_t column = 0; column < sets->columns; column++)
            if (sets->mark[column] == sets->stamp) sets->list[count++] = column;
    } else {
        qsort(sets->list, count, sizeof *sets->list, ascending);
    }
    return count ? number_of(sets, count, sets->list) : 0;
}

static uint32_t both(ad_sets *sets, uint32_t a, uint32_t b) {
    if (a == b || b == 0) return a;
    if (a == 0) return b;
    memo *known = &sets->memo[(a * 31 + b) % MEMOS];
    if (known->a == a && known->b == b) return known->both;
    sets->stamp++;
    uint32_t number = close_union(sets, add_set(sets, add_set(sets, 0, a), b));
    *known = (memo){a, b, number};
    return number;
}

/* The union of all sets in a view. */
static uint32_t all_of(ad_sets *sets, const ad_view *view) {
    uint32_t first = 0, count = 0;
    bool is_one = true, any = false;
    sets->stamp++;
    for (ad_walk w = ad_walk_start(1, &view); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            uint32_t number = ((const uint32_t *)w.at[0])[i * w.inner[0]];
            if (any && number == first) continue;
            is_one = !any;
            first = number;
            any = true;
            count = add_set(sets, count, number);
        }
    }
    return is_one ? first : close_union(sets, count);
}

/* ---- what an op may call ---------------------------------------------------------------------------------------------- */

struct ad_dependence {
    ad_sets *sets;
    ad_call *call;
    const ad_view *const *in;    /* numbers of sets; NULL where nothing depends on x */
    ad_view out[AD_MAX_RESULTS]; /* the same, to be filled; data NULL for integers */
};

ad_call *ad_dependence_call(const ad_dependence *dependence) { return dependence->call; }

bool ad_dependence_input(const ad_dependence *dependence, int i, ad_view *view) {
    if (i < 0 || i >= dependence->call->inputs || !dependence->in[i]) return false;
    *view = *dependence->in[i];
    return true;
}

bool ad_dependence_result(const ad_dependence *dependence, int k, ad_view *view) {
    if (k < 0 || k >= ad_op_results(dependence->call->op) || !dependence->out[k].data) return false;
    *view = dependence->out[k];
    return true;
}

/* The view's first `rank` axes, or the others from element 0 on. */
static ad_view first_axes(const ad_view *view, int rank) {
    ad_view part = *view;
    part.shape.rank = rank;
    return part;
}
static ad_view last_axes(const ad_view *view, int from) {
    ad_view part = *view;
    part.shape.rank = view->shape.rank - from;
    for (int i = 0; i < part.shape.rank; i++) {
        part.shape.dim[i] = view->shape.dim[from + i];
        part.stride[i] = view->stride[from + i];
    }
    return part;
}

static void add_to_all(ad_sets *sets, const ad_view *result, uint32_t number) {
    for (ad_walk w = ad_walk_start(1, &result); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++) {
            uint32_t *at = (uint32_t *)w.at[0] + i * w.inner[0];
            *at = both(sets, *at, number);
        }
    }
}

void ad_depend(ad_dependence *dependence, const ad_view *result, const ad_view *input, int shared) {
    ad_sets *sets = dependence->sets;
    for (int i = 0; i < shared; i++) /* not as the op promised: everything then depends on everything */
        if (shared > result->shape.rank || shared > input->shape.rank || result->shape.dim[i] != input->shape.dim[i])
            shared = 0;
    ad_view out_each = first_axes(result, shared), in_each = first_axes(input, shared);
    ad_view out_all = last_axes(result, shared), in_all = last_axes(input, shared);
    const ad_view *each[] = {&out_each, &in_each};
    bool is_single = out_all.shape.rank == 0 && in_all.shape.rank == 0;
    for (ad_walk w = ad_walk_start(2, each); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n && !sets->no_memory; i++) {
            out_all.data = (uint32_t *)w.at[0] + i * w.inner[0];
            in_all.data = (uint32_t *)w.at[1] + i * w.inner[1];
            if (is_single) {
                *(uint32_t *)out_all.data = both(sets, *(uint32_t *)out_all.data, *(const uint32_t *)in_all.data);
            } else {
                add_to_all(sets, &out_all, all_of(sets, &in_all));
            }
        }
    }
}

static void depends_on_all(ad_dependence *dependence) {
    ad_view in, out;
    for (int k = 0; k < ad_op_results(dependence->call->op); k++)
        for (int i = 0; i < dependence->call->inputs; i++)
            if (ad_dependence_input(dependence, i, &in) && ad_dependence_result(dependence, k, &out))
                ad_depend(dependence, &out, &in, 0);
}

void ad_depends_elementwise(ad_dependence *dependence) {
    ad_view in, out;
    for (int k = 0; k < ad_op_results(dependence->call->op); k++)
        for (int i = 0; i < dependence->call->inputs; i++)
            if (ad_dependence_input(dependence, i, &in) && ad_dependence_result(dependence, k, &out))
                ad_depend(dependence, &out, &in,
                          ad_view_broadcast(&in, &out.shape, &in) == AD_OK ? out.shape.rank : 0);
}

/* ---- ops that add elements up ---------------------------------------------------------------------------------------------- */

void ad_depend_added(ad_dependence *dependence, const ad_view *result, const ad_view *input, const ad_view *target) {
    int64_t places = ad_view_count(result), count = ad_view_count(input);
    int64_t *start = ad_scratch(dependence->call, ((size_t)places + 2) * sizeof *start);
    uint32_t *sorted = ad_scratch(dependence->call, ((size_t)count + 1) * sizeof *sorted);
    if (!start || !sorted) return;
    memset(start, 0, ((size_t)places + 2) * sizeof *start);
    /* Sorted by target: those of place p are start[p] to start[p + 1], once each was put one further than it was. */
    for (int64_t e = 0; e < count; e++) start[(int64_t)ad_view_get(target, e) + 2]++;
    for (int64_t p = 0; p < places; p++) start[p + 2] += start[p + 1];
    for (int64_t e = 0; e < count; e++)
        sorted[start[(int64_t)ad_view_get(target, e) + 1]++] = (uint32_t)ad_view_get(input, e);
    int64_t place = 0;
    for (ad_walk w = ad_walk_start(1, &result); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++, place++) {
            ad_view own = ad_view_of(sorted + start[place], AD_I32, AD_SHAPE(start[place + 1] - start[place]));
            uint32_t *at = (uint32_t *)w.at[0] + i * w.inner[0];
            *at = both(dependence->sets, *at, all_of(dependence->sets, &own));
        }
    }
}

/* ---- ops that only move elements ----------------------------------------------------------------------------------------- */

/* A row-major f64 array of that shape in scratch memory. */
static bool scratch_numbers(ad_call *call, const ad_shape *shape, ad_view *view) {
    int64_t count = ad_shape_count(shape);
    void *data = ad_scratch(call, (size_t)(count ? count : 1) * sizeof(double));
    *view = ad_view_of(data, AD_F64, *shape);
    return data != NULL;
}

/* Moves the numbers of sets, or zeros, as if they were the values. */
static bool move_numbers(const ad_dependence *dependence, bool zeros, ad_view *moved) {
    ad_call call = *dependence->call;
    const ad_view **in = ad_scratch(&call, (size_t)call.inputs * sizeof *in);
    ad_view *stand_in = ad_scratch(&call, (size_t)call.inputs * sizeof *stand_in);
    if (!in || !stand_in) return false;
    for (int i = 0; i < call.inputs; i++) {
        in[i] = call.in[i];
        if (!ad_dtype_is_float(in[i]->dtype)) continue;
        if (!scratch_numbers(&call, &in[i]->shape, &stand_in[i])) return false;
        int64_t count = ad_view_count(&stand_in[i]);
        if (count) memset(stand_in[i].data, 0, (size_t)count * sizeof(double));
        if (dependence->in[i] && !zeros) (void)!ad_view_copy(dependence->in[i], &stand_in[i]);
        in[i] = &stand_in[i];
    }
    call.in = in;
    for (int k = 0; k < ad_op_results(call.op); k++) {
        if (ad_dtype_is_float(call.out[k].dtype) && !scratch_numbers(&call, &call.out[k].shape, &moved[k]))
            return false;
        if (ad_dtype_is_float(call.out[k].dtype)) call.out[k] = moved[k];
        call.is_view[k] = false;
    }
    return call.op->forward(&call) == AD_OK;
}

void ad_depends_moved(ad_dependence *dependence) {
    const ad_call *call = dependence->call;
    ad_view named[AD_MAX_RESULTS], constant[AD_MAX_RESULTS], out;
    if (!call->op->forward) {
        depends_on_all(dependence);
        return;
    }
    if (!move_numbers(dependence, false, named) || !move_numbers(dependence, true, constant)) return;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        if (!ad_dependence_result(dependence, k, &out)) continue;
        const double *name = named[k].data, *value = constant[k].data;
        for (int64_t i = 0, n = ad_view_count(&out); i < n; i++) /* row-major: it is no view */
            ((uint32_t *)out.data)[i] = value[i] == 0 && name[i] > 0 ? (uint32_t)name[i] : 0;
    }
}

/* ---- up the tape --------------------------------------------------------------------------------------------------------- */

typedef struct climb {
    ad_tape *tape;
    ad_sets sets;
    uint8_t *is_needed; /* per node: a y is made from it */
    ad_view **numbers;  /* per node: those of its elements' sets, in the layout of its value; NULL: it stands still */
} climb;

static ad_view *new_numbers(climb *c, const ad_shape *shape) {
    ad_view *view = take(&c->sets, 1, sizeof *view);
    uint32_t *data = view ? take(&c->sets, (size_t)ad_shape_count(shape), sizeof *data) : NULL;
    if (!data) return NULL;
    *view = ad_view_of(data, AD_I32, *shape);
    return view;
}

static bool start_at_columns(climb *c, int n, const ad_var *x) {
    uint32_t column = 0;
    for (int i = 0; i < n; i++) {
        ad_shape shape = ad_node_shape(ad_node_at(c->tape, x[i].index));
        ad_view *view = new_numbers(c, &shape);
        if (!view) return false;
        for (int64_t e = 0, count = ad_view_count(view); e < count; e++, column++)
            ((uint32_t *)view->data)[e] = number_of(&c->sets, 1, &column);
        c->numbers[x[i].index] = view;
    }
    return !c->sets.no_memory;
}

/* A result that shares the memory of input 0 has its sets too: where they are, the shape rule says once more. NULL if it
 * is no such result. */
static ad_view *follow_view(climb *c, const ad_call *call, int k, const ad_view *input) {
    ad_call again = *call;
    if (!input || (call->op->forward && !call->is_view[k] && call->out[k].shape.rank > 0)) return NULL;
    for (int j = 0; j < ad_op_results(call->op); j++) again.is_view[j] = false;
    if (again.op->shape(&again) || !again.is_view[k]) return NULL;
    const ad_view *value = call->in[0];
    for (int i = 0; i < value->shape.rank; i++)
        if (value->shape.dim[i] > 1 && value->stride[i] != input->stride[i]) return NULL;
    ad_view *view = take(&c->sets, 1, sizeof *view);
    if (!view) return NULL;
    *view = again.out[k];
    int64_t bytes = (const char *)view->data - (const char *)value->data;
    view->data = (uint32_t *)input->data + bytes / (int64_t)ad_dtype_size(view->dtype);
    view->dtype = AD_I32;
    return view;
}

/* The sets of the results of the operation whose result 0 is at `index`. */
static void climb_over(climb *c, uint32_t index, ad_call *call) {
    ad_dependence dependence = {.sets = &c->sets, .call = call};
    const ad_view **in = ad_scratch(call, (size_t)call->inputs * sizeof *in);
    if (!in) return;
    for (int i = 0; i < call->inputs; i++) in[i] = c->numbers[call->priv->inputs[i]];
    dependence.in = in;
    bool any = false;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        if (!ad_dtype_is_float(call->out[k].dtype) || c->numbers[index + (uint32_t)k]) continue;
        ad_view *view = follow_view(c, call, k, in[0]);
        c->numbers[index + (uint32_t)k] = view;
        if (view) continue;
        view = new_numbers(c, &call->out[k].shape);
        if (!view) return;
        c->numbers[index + (uint32_t)k] = view;
        dependence.out[k] = *view;
        any = true;
    }
    if (any) (call->op->depends ? call->op->depends : depends_on_all)(&dependence);
}

static bool is_moved(const climb *c, uint32_t index) {
    const ad_node *node = ad_node_at(c->tape, index);
    if (!c->is_needed[index] || ad_node_is_leaf(node) || node->op == &ad_result_of ||
        node->op->derivative != AD_DIFFERENTIABLE)
        return false;
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; i < ad_node_input_count(node); i++)
        if (c->numbers[in[i]]) return true;
    return false;
}

static void mark_needed(climb *c, uint32_t last, int m, const ad_var *y) {
    for (int j = 0; j < m; j++) c->is_needed[y[j].index] = 1;
    for (uint32_t index = last + 1; index-- > 0;) {
        const ad_node *node = ad_node_at(c->tape, index);
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; c->is_needed[index] && i < ad_node_input_count(node); i++) c->is_needed[in[i]] = 1;
    }
}

static void climb_up(climb *c, uint32_t last) {
    ad_tape *tape = c->tape;
    for (uint32_t index = 0; index <= last && !tape->error.status && !c->sets.no_memory; index++) {
        if (!is_moved(c, index)) continue;
        struct ad_call_private priv;
        ad_call call;
        uint64_t scratch = ad_arena_position(&tape->scratch);
        if (ad_call_of_node(tape, index, &call, &priv)) climb_over(c, index, &call);
        ad_arena_rewind(&tape->scratch, scratch);
    }
}

/* The sets of y's elements, one after the other. */
static void read_rows(climb *c, int m, const ad_var *y, ad_dependence_rows *rows) {
    rows->row = take(&c->sets, (size_t)rows->count, sizeof *rows->row);
    int64_t at = 0;
    for (int j = 0; j < m && rows->row; j++) {
        const ad_view *numbers = c->numbers[y[j].index];
        ad_shape shape = ad_node_shape(ad_node_at(c->tape, y[j].index));
        if (!numbers) {
            for (int64_t e = ad_shape_count(&shape); e > 0; e--) rows->row[at++] = c->sets.set[0];
            continue;
        }
        for (ad_walk w = ad_walk_start(1, &numbers); w.more; ad_walk_next(&w))
            for (int64_t i = 0; i < w.n; i++)
                rows->row[at++] = c->sets.set[((const uint32_t *)w.at[0])[i * w.inner[0]]];
    }
}

static int64_t elements(int n, const ad_var *x) {
    int64_t count = 0;
    for (int i = 0; i < n; i++) {
        ad_shape shape = ad_node_shape(ad_node_at(x[i].tape, x[i].index));
        count += ad_shape_count(&shape);
    }
    return count;
}

bool ad_tape_depends(ad_tape *tape, const char *subject, const char *where, int n, const ad_var *x, int m,
                     const ad_var *y, ad_dependence_rows *rows) {
    climb c = {.tape = tape};
    uint32_t last = 0;
    for (int i = 0; i < n; i++) last = x[i].index > last ? x[i].index : last;
    for (int j = 0; j < m; j++) last = y[j].index > last ? y[j].index : last;
    while (last + 1 < tape->count && ad_node_at(tape, last + 1)->op == &ad_result_of) last++;
    *rows = (ad_dependence_rows){.count = elements(m, y)};
    int64_t columns = elements(n, x);
    if (columns > INT32_MAX || rows->count > INT32_MAX) {
        ad_tape_fail(tape, AD_ERR_LIMIT, subject, where, "a matrix of %lld x %lld: at most 2^31 - 1 of each",
                     (long long)rows->count, (long long)columns);
        return false;
    }
    ad_arena_open(&rows->memory, tape->allocator);
    if (open_sets(&c.sets, &rows->memory, (uint32_t)columns)) {
        c.numbers = take(&c.sets, (size_t)last + 1, sizeof *c.numbers);
        c.is_needed = take(&c.sets, (size_t)last + 1, sizeof *c.is_needed);
    }
    if (!c.sets.no_memory && start_at_columns(&c, n, x)) {
        mark_needed(&c, last, m, y);
        climb_up(&c, last);
        read_rows(&c, m, y, rows);
    }
    if (c.sets.no_memory) ad_tape_out_of_memory(tape, subject, where);
    if (!tape->error.status) return true;
    ad_arena_close(&rows->memory);
    return false;
}
