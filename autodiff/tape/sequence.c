/* Sequences of steps: only few states are kept, as snapshots, and the walk back makes the others again from them.
 *
 * Snapshots are a stack: a later one is used up before an earlier one. At the bottom, not counted here, is the first
 * state, whose nodes stay on the tape. revolve.c says when to take one. */
#include "autodiff/tape/checkpoint.h"

#include <string.h>

struct ad_sequence {
    struct ad_sequence *next; /* of the tape's */
    uint32_t owner;           /* its node; while it runs first, the last node before it */
    ad_step_function step;
    void *user;
    int64_t steps, snapshots;
    int n;
    int64_t depth;     /* snapshots in the stack */
    int64_t *at;       /* [depth] which state, */
    ad_kept *state;    /* [depth][n] and the state */
    ad_run_log *draws; /* [steps] NULL: no step draws */
    ad_kept now[AD_MAX_RESULTS];
    ad_kept
        adjoint[AD_MAX_RESULTS]; /* in a walk: the gradients of the state after the steps that are not walked yet */
};

static const char subject[] = "ad_checkpoint_steps";

/* ---- its life ------------------------------------------------------------------------------------------------------ */

static void drop_all(ad_kept *kept, int n) {
    for (int i = 0; i < n; i++) ad_kept_drop(&kept[i]);
}

static void drop_snapshot(struct ad_sequence *s) {
    s->depth--;
    drop_all(s->state + s->depth * s->n, s->n);
}

static void drop_first_of_tape(ad_tape *tape) {
    struct ad_sequence *s = tape->sequences;
    tape->sequences = s->next;
    while (s->depth > 0) drop_snapshot(s);
    drop_all(s->now, AD_MAX_RESULTS);
    drop_all(s->adjoint, AD_MAX_RESULTS);
}

void ad_sequences_forget(ad_tape *tape, uint32_t count) {
    while (tape->sequences && tape->sequences->owner >= count) drop_first_of_tape(tape);
}

static struct ad_sequence *sequence_new(ad_tape *tape, ad_step_function step, void *user, int64_t steps,
                                        int64_t snapshots, int n) {
    if (snapshots > steps) snapshots = steps;
    struct ad_sequence *s = ad_arena_take(&tape->extras, sizeof *s);
    /* Room for one more, the state before the last step, with which the walk begins; the first state needs none. */
    size_t room = (size_t)snapshots;
    int64_t *at = ad_arena_take(&tape->extras, room * sizeof *at);
    ad_kept *state = ad_arena_take(&tape->extras, room * (size_t)n * sizeof *state);
    if (!s || !at || !state) return NULL;
    *s = (struct ad_sequence){.next = tape->sequences,
                              .owner = tape->count - 1,
                              .step = step,
                              .user = user,
                              .steps = steps,
                              .snapshots = snapshots,
                              .n = n,
                              .at = at,
                              .state = state};
    tape->sequences = s;
    return s;
}

/* ---- states ---------------------------------------------------------------------------------------------------------- */

static ad_kept share(const ad_kept *kept) {
    if (kept->is_kept && !kept->is_inline) ad_tensor_ref(kept->value.tensor);
    return *kept;
}

static void push_snapshot(struct ad_sequence *s, int64_t at) {
    s->at[s->depth] = at;
    for (int i = 0; i < s->n; i++) s->state[s->depth * s->n + i] = share(&s->now[i]);
    s->depth++;
}

/* Makes the last snapshot the present state; that of the first state leaves none, as its nodes are there. */
static int64_t load_snapshot(struct ad_sequence *s) {
    drop_all(s->now, s->n);
    if (s->depth == 0) return 0;
    for (int i = 0; i < s->n; i++) s->now[i] = share(&s->state[(s->depth - 1) * s->n + i]);
    return s->at[s->depth - 1];
}

/* The variables of the present state, that of step `t`: the given nodes, or leaves. */
static bool put_state(ad_tape *tape, const struct ad_sequence *s, int64_t t, const uint32_t *x, const char *where,
                      ad_var *state) {
    uint8_t no_grad = tape->no_grad;
    for (int i = 0; i < s->n && !tape->error.status; i++) {
        if (t == 0) {
            state[i] = ad_var_of(tape, x[i]);
            continue;
        }
        tape->no_grad = s->now[i].needs_gradient ? 0 : 1;
        state[i] = s->now[i].is_inline
                       ? ad_leaf_at(where, tape, NULL, (ad_dtype)s->now[i].dtype, AD_SCALAR, &s->now[i].value)
                       : ad_leaf_tensor_at(where, tape, NULL, s->now[i].value.tensor);
    }
    tape->no_grad = no_grad;
    return !tape->error.status;
}

static void call_step(ad_tape *tape, const struct ad_sequence *s, int64_t t, const ad_var *state, ad_var *next) {
    for (int i = 0; i < s->n; i++) next[i] = ad_var_invalid(NULL);
    s->step(tape, t, state, s->n, next, s->user);
}

/* ---- the first run --------------------------------------------------------------------------------------------------- */

/* Takes what step `t` drew off the tape's list, unless an outer first run needs it there too. */
static bool keep_draws(ad_tape *tape, struct ad_sequence *s, int64_t t, size_t drawn) {
    if (tape->drawn.count == drawn) return true;
    if (!s->draws) {
        s->draws = ad_arena_take(&tape->extras, (size_t)s->steps * sizeof *s->draws);
        if (!s->draws) return false;
        memset(s->draws, 0, (size_t)s->steps * sizeof *s->draws);
    }
    if (!ad_run_keep_draws(tape, drawn, &s->draws[t])) return false;
    if (!tape->frame || tape->frame->log) tape->drawn.count = drawn;
    return true;
}

/* Runs step `t` from the present state, which it then replaces; the last step sets next[i] that it found. */
static bool first_step(ad_tape *tape, const ad_first_run *run, struct ad_sequence *s, int64_t t, const uint32_t *x,
                       ad_var *next) {
    ad_var state[AD_MAX_RESULTS];
    ad_run_frame frame;
    ad_run_begin(tape, &frame, NULL);
    if (put_state(tape, s, t, x, run->where, state)) call_step(tape, s, t, state, next);
    if (!ad_run_end(tape, &frame, subject, run->where)) return false;
    drop_all(s->now, s->n);
    if (!ad_first_run_collect(tape, run, &frame, s->n, next, s->now, true)) return false;
    bool ok = keep_draws(tape, s, t, frame.drawn);
    for (int i = 0; i < s->n && t + 1 < s->steps && ok; i++)
        if (!s->now[i].is_kept) ok = ad_value_keep(tape, next[i].index, &s->now[i]);
    if (!ok) ad_tape_out_of_memory(tape, subject, run->where);
    return ok;
}

/* Where the next snapshot is due, with `end` steps in all. */
static int64_t next_snapshot(const struct ad_sequence *s, int64_t from, int64_t end) {
    return from + ad_revolve_next(end - from, s->snapshots - s->depth);
}

static bool first_steps(ad_tape *tape, const ad_first_run *run, struct ad_sequence *s, const uint32_t *x,
                        ad_var *last) {
    int64_t due = next_snapshot(s, 0, s->steps);
    for (int64_t t = 0; t < s->steps; t++) {
        if (t == due || (t > 0 && t == s->steps - 1)) push_snapshot(s, t);
        if (t == due) due = next_snapshot(s, t, s->steps);
        if (!first_step(tape, run, s, t, x, last)) return false;
    }
    return true;
}

static bool check_call(ad_tape *tape, const char *where, ad_step_function f, int64_t steps, int64_t snapshots, int n,
                       const ad_var *state, const ad_var *last) {
    if (tape->error.status) return false;
    if (!f || !state || !last) {
        ad_tape_fail(tape, AD_ERR_NULL, subject, where, "the function is %s, the state is %s, the last one is %s",
                     f ? "set" : "NULL", state ? "set" : "NULL", last ? "set" : "NULL");
    } else if (n < 1 || n > AD_MAX_RESULTS) {
        ad_tape_fail(tape, AD_ERR_VALUE, subject, where,
                     "n is %d: a state has 1 to %d variables; join some with ad_cat", n, AD_MAX_RESULTS);
    } else if (steps < 0 || snapshots < 1) {
        ad_tape_fail(tape, AD_ERR_VALUE, subject, where,
                     "%lld steps with %lld snapshots: at least one snapshot, the first state, is kept",
                     (long long)steps, (long long)snapshots);
    }
    for (int i = 0; i < n && !tape->error.status; i++)
        ad_tape_check_var(tape, state[i], subject, where, "a variable of the state");
    return !tape->error.status;
}

/* Runs all steps and records the operation. */
static bool record(ad_tape *tape, const ad_first_run *run, struct ad_sequence *s, const ad_var *state, ad_var *last) {
    uint32_t x[AD_MAX_RESULTS];
    for (int i = 0; i < s->n; i++) {
        x[i] = state[i].index;
        if (!ad_first_run_input(tape, run, x[i])) return false;
    }
    ad_checkpoint_attrs attrs = {.user = s->user, .n = s->n, .m = s->n, .sequence = s, .steps = s->steps};
    if (!first_steps(tape, run, s, x, last)) return false;
    uint32_t count = tape->count;
    if (!ad_checkpoint_commit(tape, run, &attrs, state, last, s->now)) return false;
    /* Unless every step gave back what it found. */
    if (tape->count > count) s->owner = count;
    return tape->count > count;
}

static void record_or_forget(ad_tape *tape, const char *where, ad_step_function f, void *user, int64_t steps,
                             int64_t snapshots, int n, const ad_var *state, ad_var *last) {
    ad_first_run run = ad_first_run_begin(tape, subject, where);
    ad_mark mark = ad_tape_mark(tape);
    struct ad_sequence *s = sequence_new(tape, f, user, steps, snapshots, n);
    if (!s) ad_tape_out_of_memory(tape, subject, where);
    if (s && !record(tape, &run, s, state, last) && tape->sequences == s) drop_first_of_tape(tape);
    if (tape->error.status) ad_tape_rewind_to(tape, &mark);
    ad_first_run_end(tape, &run);
}

ad_status ad_checkpoint_steps_at(const char *where, ad_tape *tape, ad_step_function f, void *user, int64_t steps,
                                 int64_t snapshots, int n, const ad_var *state, ad_var *last) {
    ad_var made[AD_MAX_RESULTS]; /* apart from `last`, which may be `state` */
    if (tape && tape->where) where = tape->where;
    if (tape && check_call(tape, where, f, steps, snapshots, n, state, last)) {
        memcpy(made, state, (size_t)n * sizeof *made);
        if (steps > 0) record_or_forget(tape, where, f, user, steps, snapshots, n, state, made);
    }
    ad_status status = ad_tape_status(tape);
    for (int i = 0; last && i < n; i++) last[i] = status ? ad_var_invalid(tape) : made[i];
    return status;
}

/* ---- running again --------------------------------------------------------------------------------------------------- */

/* What step `t` is given in a replay. */
static ad_run_log log_of(const ad_checkpoint_attrs *attrs, int64_t t) {
    ad_run_log log = attrs->log;
    if (attrs->sequence->draws) {
        log.draw = attrs->sequence->draws[t].draw;
        log.draws = attrs->sequence->draws[t].draws;
    }
    return log;
}

static bool check_state(ad_tape *tape, int n, const ad_var *next, const char *where) {
    for (int i = 0; i < n; i++)
        if (!ad_tape_check_var(tape, next[i], subject, where, "a variable of the state that a step gave"))
            return false;
    return true;
}

bool ad_sequence_again(ad_tape *tape, const ad_checkpoint_attrs *attrs, const char *where, ad_var *y) {
    const struct ad_sequence *s = attrs->sequence;
    ad_var state[AD_MAX_RESULTS];
    put_state(tape, s, 0, attrs->x, where, y);
    for (int64_t t = 0; t < s->steps; t++) {
        ad_run_frame frame;
        ad_run_log log = log_of(attrs, t);
        memcpy(state, y, (size_t)s->n * sizeof *y);
        ad_run_begin(tape, &frame, &log);
        call_step(tape, s, t, state, y);
        if (!ad_run_end(tape, &frame, subject, where) || !check_state(tape, s->n, y, where)) return false;
    }
    return true;
}

/* Makes the present state, number `from`, number `to`. */
static bool advance(ad_tape *tape, const ad_checkpoint_attrs *attrs, const char *where, int64_t from, int64_t to) {
    struct ad_sequence *s = attrs->sequence;
    for (int64_t t = from; t < to; t++) {
        ad_var state[AD_MAX_RESULTS], next[AD_MAX_RESULTS];
        ad_run_frame frame;
        ad_run_log log = log_of(attrs, t);
        ad_run_begin(tape, &frame, &log);
        if (put_state(tape, s, t, attrs->x, where, state)) call_step(tape, s, t, state, next);
        if (!ad_run_end(tape, &frame, subject, where)) return false;
        bool ok = check_state(tape, s->n, next, where);
        drop_all(s->now, s->n);
        for (int i = 0; i < s->n && ok; i++) ok = ad_value_keep(tape, next[i].index, &s->now[i]);
        if (!ok) ad_tape_out_of_memory(tape, subject, where);
        ad_tape_rewind_to(tape, &frame.mark);
        if (!ok) return false;
    }
    return true;
}

/* ---- the walk back ---------------------------------------------------------------------------------------------------- */

/* Takes the gradient that the walk left at a node, if it did. */
static void take_adjoint(const ad_tape *tape, ad_kept *adjoint, uint32_t index) {
    if (!ad_has_gradient(tape, index)) return;
    *adjoint = (ad_kept){.value = ad_cotangent_at(tape, index)->value,
                         .is_kept = true,
                         .is_inline = ad_node_at(tape, index)->flags & AD_NODE_INLINE};
    share(adjoint);
}

/* Gives the gradients of the state after a step to the variables that the step made. */
static bool give_adjoint(ad_tape *tape, struct ad_sequence *s, const ad_var *next, uint16_t mask) {
    bool ok = true;
    for (int i = 0; i < s->n && ok; i++) {
        if (s->adjoint[i].is_kept) ok = ad_pass_give(tape, next[i].index, mask, &s->adjoint[i].value);
        ad_kept_drop(&s->adjoint[i]);
    }
    return ok;
}

/* Records step `t` from the present state and walks back through it. */
static bool step_back(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, uint16_t mask, int64_t t) {
    struct ad_sequence *s = attrs->sequence;
    const char *where = ad_node_at(tape, index)->where;
    ad_var state[AD_MAX_RESULTS], next[AD_MAX_RESULTS];
    ad_run_frame frame;
    ad_run_log log = log_of(attrs, t);
    ad_run_begin(tape, &frame, &log);
    bool ok = put_state(tape, s, t, attrs->x, where, state);
    for (int i = 0; i < s->n && t > 0 && ok; i++) {
        ad_node *node = ad_node_at(tape, state[i].index);
        if (node->flags & AD_NODE_GRAD) node->flags |= mask;
    }
    if (ok) call_step(tape, s, t, state, next);
    if (!ad_run_end(tape, &frame, subject, where)) return false;
    uint32_t first = frame.mark.count;
    ok = t == s->steps - 1 ? ad_checkpoint_same(tape, index, attrs, next, first)
                           : check_state(tape, s->n, next, where);
    size_t graded = ad_pass_extend(tape, first, mask);
    if (ok && !(ok = give_adjoint(tape, s, next, mask))) ad_tape_out_of_memory(tape, subject, where);
    if (ok) ad_pass_walk(tape, first, mask);
    ok = !tape->error.status;
    for (int i = 0; i < s->n && t > 0 && ok; i++) take_adjoint(tape, &s->adjoint[i], state[i].index);
    ad_tape_forget_gradients(tape, first, graded);
    ad_tape_rewind_to(tape, &frame.mark);
    return ok;
}

/* Walks back through the last step before `end`, if the last snapshot is near enough; otherwise goes on from it to where
 * the next snapshot is due. */
static bool go_on(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, uint16_t mask, int64_t *end) {
    struct ad_sequence *s = attrs->sequence;
    const char *where = ad_node_at(tape, index)->where;
    int64_t from = load_snapshot(s), due = from + 1 < *end ? next_snapshot(s, from, *end) : *end;
    if (due < *end) {
        if (!advance(tape, attrs, where, from, due)) return false;
        push_snapshot(s, due);
        return true;
    }
    if (!advance(tape, attrs, where, from, *end - 1) || !step_back(tape, index, attrs, mask, *end - 1)) return false;
    --*end;
    if (s->depth > 0 && s->at[s->depth - 1] == *end) drop_snapshot(s);
    return true;
}

void ad_sequence_back(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, uint16_t mask) {
    struct ad_sequence *s = attrs->sequence;
    ad_mark mark = ad_tape_mark(tape);
    for (int k = 0; k < s->n; k++)
        if (ad_checkpoint_is_first(attrs, k)) take_adjoint(tape, &s->adjoint[k], index + (uint32_t)attrs->result[k]);
    for (int64_t end = s->steps; end > 0;)
        if (!go_on(tape, index, attrs, mask, &end)) break;
    if (!ad_mark_is_live(tape, &mark)) return; /* a step reset the tape, and the sequence went with it */
    drop_all(s->adjoint, s->n);
    drop_all(s->now, s->n);
}
