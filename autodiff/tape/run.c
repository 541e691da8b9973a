/* Functions that run again: what one draws and which parameters it uses in its first run is written down, and given to
 * it again in every later one. Frames nest as the calls of the functions do. */
#include "autodiff/tape/checkpoint.h"

#include <string.h>

enum { RNG_WORDS = sizeof(ad_rng) / sizeof(uint32_t) };

void ad_run_begin(ad_tape *tape, ad_run_frame *frame, const ad_run_log *log) {
    *frame = (ad_run_frame){.outer = tape->frame,
                            .mark = ad_tape_mark(tape),
                            .log = log,
                            .drawn = tape->drawn.count,
                            .used = tape->used.count,
                            .captured = tape->captured.count,
                            .no_grad = tape->no_grad,
                            .no_grad_scopes = tape->no_grad_scopes};
    tape->frame = frame;
    /* A replay must record what the first run did, wherever the derivative is taken. */
    if (log) tape->no_grad = 0;
}

static const char open_scope[] = "the function left a scope open, or ended one that it did not begin";

/* What the function did that it must not do; NULL: nothing. */
static const char *misdeed(const ad_tape *tape, const ad_run_frame *frame) {
    if (!ad_mark_is_live(tape, &frame->mark))
        return "the function rewound the tape to before its own beginning, where its inputs are";
    if (tape->scope != frame->mark.scope) return open_scope;
    if (frame->log && frame->next_draw != frame->log->draws)
        return "the function drew fewer random numbers when it ran again: it must do the same each time";
    return NULL;
}

bool ad_run_end(ad_tape *tape, ad_run_frame *frame, const char *subject, const char *where) {
    if (tape->frame != frame) {
        ad_tape_fail(tape, AD_ERR_HANDLE, subject, where, "the function reset the tape on which it was recorded");
        return false;
    }
    tape->frame = frame->outer;
    bool closed = tape->no_grad_scopes == frame->no_grad_scopes;
    tape->no_grad = frame->no_grad;
    tape->no_grad_scopes = frame->no_grad_scopes;
    const char *wrong = tape->error.status ? NULL : closed ? misdeed(tape, frame) : open_scope;
    if (wrong) ad_tape_fail(tape, AD_ERR_VALUE, subject, where, "%s", wrong);
    if (!tape->error.status) return true;
    if (ad_mark_is_live(tape, &frame->mark)) ad_tape_rewind_to(tape, &frame->mark);
    return false;
}

/* ---- random ops -------------------------------------------------------------------------------------------------- */

static ad_run_frame *replay_around(const ad_tape *tape) {
    ad_run_frame *frame = tape->frame;
    while (frame && !frame->log) frame = frame->outer;
    return frame;
}

bool ad_draw(ad_tape *tape, const ad_rng *rng, const char *subject, const char *where, ad_rng *state) {
    *state = *rng;
    if (!tape->frame) return true;
    ad_run_frame *replay = replay_around(tape);
    if (replay && replay->next_draw == replay->log->draws) {
        ad_tape_fail(tape, AD_ERR_CHANGED, subject, where,
                     "a function given to ad_checkpoint drew more random numbers when it ran again: it must do the "
                     "same each time");
        return false;
    }
    if (replay) *state = replay->log->draw[replay->next_draw++];
    if (tape->frame->log) return true;
    if (!ad_list_reserve(&tape->drawn, tape->allocator, RNG_WORDS)) {
        ad_tape_out_of_memory(tape, subject, where);
        return false;
    }
    memcpy(tape->drawn.item + tape->drawn.count, state, sizeof *state);
    tape->drawn.count += RNG_WORDS;
    return true;
}

void ad_drawn(ad_tape *tape, ad_rng *rng, ad_rng after) {
    if (!replay_around(tape)) *rng = after;
}

bool ad_run_keep_draws(ad_tape *tape, size_t drawn, ad_run_log *log) {
    size_t words = tape->drawn.count - drawn;
    log->draws = (uint32_t)(words / RNG_WORDS);
    if (!words) return true;
    ad_rng *copy = ad_arena_take(&tape->extras, words * sizeof(uint32_t));
    if (copy) memcpy(copy, tape->drawn.item + drawn, words * sizeof(uint32_t));
    log->draw = copy;
    return copy;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */

bool ad_run_use(ad_tape *tape, const ad_param *param, const char *where, ad_var *leaf) {
    ad_run_frame *frame = tape->frame;
    if (!frame || !frame->log) return false;
    /* In the order of the first run; a sequence has one leaf of each, whichever step comes first. */
    for (uint32_t i = 0; i < frame->log->uses; i++) {
        uint32_t at = (frame->next_use + i) % frame->log->uses, index = frame->log->use[at];
        if (ad_node_at(tape, index)->extra->param != param) continue;
        frame->next_use = at + 1;
        *leaf = ad_var_of(tape, index);
        return true;
    }
    ad_tape_fail(tape, AD_ERR_CHANGED, "ad_use", where,
                 "a function given to ad_checkpoint did not use parameter %s when it ran first: it must do the same "
                 "each time",
                 param->name);
    *leaf = ad_var_invalid(tape);
    return true;
}
