/* Shared by checkpoint.c, sequence.c and run.c: functions of the user's that run again for a derivative. */
#ifndef AD_TAPE_CHECKPOINT_INTERNAL_H
#define AD_TAPE_CHECKPOINT_INTERNAL_H

#include "autodiff/tape/tape.h"

#include <adtape/checkpoint.h>

/* ---- frames: a function under way --------------------------------------------------------------------------------- */

/* What a function drew and used in its first run, for the others. */
typedef struct ad_run_log {
    const ad_rng *draw;  /* the generator as it was before each random op */
    const uint32_t *use; /* leaves of the parameters that it used */
    uint32_t draws, uses;
} ad_run_log;

typedef struct ad_run_frame {
    struct ad_run_frame *outer;
    ad_mark mark;          /* where it began */
    const ad_run_log *log; /* NULL: the first run, which writes it */
    uint32_t next_draw, next_use;
    size_t drawn, used, captured; /* first run: where its parts of the tape's lists begin */
    uint8_t no_grad, no_grad_scopes;
} ad_run_frame;

void ad_run_begin(ad_tape *tape, ad_run_frame *frame, const ad_run_log *log);
/* False, and the tape's error, if the function failed or did what it must not; what it recorded is then forgotten. */
bool ad_run_end(ad_tape *tape, ad_run_frame *frame, const char *subject, const char *where);

/* Copies what was drawn since tape->drawn had that length to where it lives as long as the next node. */
bool ad_run_keep_draws(ad_tape *tape, size_t drawn, ad_run_log *log);

/* ---- the first run -------------------------------------------------------------------------------------------------- */

/* The lists of a first run go on until its operation is recorded. */
typedef struct ad_first_run {
    const char *subject, *where;
    size_t drawn, used, captured;
} ad_first_run;

ad_first_run ad_first_run_begin(ad_tape *tape, const char *subject, const char *where);
/* Forgets the run's part of the lists; an outer first run keeps what it needs of them. */
void ad_first_run_end(ad_tape *tape, const ad_first_run *run);
/* Adds a node to the inputs of the operation, unless it is there. */
bool ad_first_run_input(ad_tape *tape, const ad_first_run *run, uint32_t index);
/* The function has run, and made y[0..m): adds what it read from before frame->mark to the inputs, keeps the values of y
 * in kept[0..m), forgets all it recorded, and puts the parameters that it used on the tape for good. y[k] that it did not
 * make, but found, stay as they are, with nothing kept. With `once`, a parameter gets one leaf for the whole run. */
bool ad_first_run_collect(ad_tape *tape, const ad_first_run *run, const ad_run_frame *frame, int m, ad_var *y,
                          ad_kept *kept, bool once);

/* ---- the operation -------------------------------------------------------------------------------------------------- */

typedef struct ad_checkpoint_attrs {
    ad_checkpoint_function f; /* NULL: a sequence of steps */
    void *user;
    int n, m;
    const uint32_t *x;          /* [n], the nodes given */
    int result[AD_MAX_RESULTS]; /* of the operation, that y[k] is; -1: y[k] is a node that was there before */
    int64_t nodes;              /* of f, forgotten */
    ad_run_log log;
    struct ad_sequence *sequence; /* of that many steps */
    int64_t steps;
} ad_checkpoint_attrs;

/* Records the operation with the values in `kept`, which it takes, as results; sets y[k] that have one. Nothing
 * is recorded if none has. */
bool ad_checkpoint_commit(ad_tape *tape, const ad_first_run *run, ad_checkpoint_attrs *attrs, const ad_var *x,
                          ad_var *y, ad_kept *kept);
/* y[k], made again, are the results of the operation at `index`, to the bit; otherwise the tape gets an error. */
bool ad_checkpoint_same(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, const ad_var *y,
                        uint32_t first);
/* y[k] is a result of the operation, and no earlier one is the same. */
bool ad_checkpoint_is_first(const ad_checkpoint_attrs *attrs, int k);
/* Keeps the value of a node; false: no memory. */
bool ad_value_keep(ad_tape *tape, uint32_t index, ad_kept *kept);

/* ---- sequences ------------------------------------------------------------------------------------------------------ */

/* Records every step again. */
bool ad_sequence_again(ad_tape *tape, const ad_checkpoint_attrs *attrs, const char *where, ad_var *y);
/* Walks back through the sequence that is recorded at node `index`. */
void ad_sequence_back(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, uint16_t mask);

/* How many of `steps` to advance before the next snapshot; all of them if there is to be none. */
int64_t ad_revolve_next(int64_t steps, int64_t snapshots);

#endif
