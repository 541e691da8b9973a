/* adtape/checkpoint.h: functions whose intermediate values are not kept for the backward pass but computed again in it.
 *
 * A function of yours is called once when it is recorded, and again whenever a derivative goes through it. It may read
 * any variables of the tape, use parameters, draw from generators and call ad_checkpoint itself; gradients, walked or
 * recorded, are bitwise those of the same operations without a checkpoint. (Derivatives of recorded ones add up in another
 * order.)
 *
 *   It must do the same each time: what `user` points to stays, unchanged, until the tape is reset or rewound. Random ops
 *   (ad_dropout, ad_randn) are given the numbers of the first time; the generator then stays as it is.
 *   It must not call ad_backward, reset the tape, or rewind it to a mark from outside; it ends the scopes it begins.
 *
 * When a replay gives another result, to the bit, the walk stops with AD_ERR_CHANGED. */
#ifndef ADTAPE_CHECKPOINT_H
#define ADTAPE_CHECKPOINT_H

#include <adtape/op.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Records y[0..m) as functions of x[0..n). */
typedef void (*ad_checkpoint_function)(ad_tape *tape, const ad_var *x, int n, ad_var *y, int m, void *user);

/* Runs f on x[0..n) (n may be 0) and keeps y[0..m), but none of its nodes: in their place stands one operation, whose
 * inputs are x and whatever else f read. m is at most AD_MAX_RESULTS. A backward pass, or ad_grad, runs f again: that is
 * the price, one more forward pass through f. Returns the tape's status; on error y are invalid variables. */
#define ad_checkpoint(...) ad_checkpoint_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_checkpoint_at(const char *where, ad_tape *tape, ad_checkpoint_function f, void *user, int n,
                                  const ad_var *x, int m, ad_var *y);

/* Records one step, number `step` from 0 on: next[0..n) from state[0..n). */
typedef void (*ad_step_function)(ad_tape *tape, int64_t step, const ad_var *state, int n, ad_var *next, void *user);

/* Repeats f `steps` times from state[0..n) and gives the last state, n at most AD_MAX_RESULTS. At most `snapshots` states
 * are kept at a time, the first one included, whatever the number of steps: the backward pass computes the others again,
 * in the order that takes the fewest steps (Griewank and Walther 2000, Algorithm 799: revolve). Besides, 16 bytes are
 * kept for each random op. A parameter that f puts on the tape (ad_use) has one leaf for all steps.
 *
 * The first backward pass uses the snapshots up; another one makes them again. ad_grad records every step. */
#define ad_checkpoint_steps(...) ad_checkpoint_steps_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_checkpoint_steps_at(const char *where, ad_tape *tape, ad_step_function f, void *user,
                                        int64_t steps, int64_t snapshots, int n, const ad_var *state, ad_var *last);

/* How often f is called for that, in the forward and the first backward pass together; 2 `steps` would be each step run
 * and walked back once. -1 if steps < 0 or snapshots < 1. */
AD_API int64_t ad_checkpoint_cost(int64_t steps, int64_t snapshots);

#ifdef __cplusplus
}
#endif
#endif
