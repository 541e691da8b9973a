/* checkpoint: the gradient of a long recurrence in the memory of a short one.
 *
 * A pendulum swings for 20,000 small steps. A tape without checkpoints keeps what every step computed; with them it keeps
 * 50 states, and computes the steps between them again on the way back. */
#include <adtape.h>

#include <stdio.h>

enum { steps = 20000, snapshots = 50 };

/* state: angle and speed; user: the friction, a variable of the tape. */
static void swing(ad_tape *t, int64_t number, const ad_var *state, int n, ad_var *next, void *user) {
    (void)t, (void)number, (void)n;
    ad_var force = ad_add(ad_sin(state[0]), ad_mul(*(ad_var *)user, state[1]));
    next[1] = ad_sub(state[1], ad_scale(force, 1e-3));
    next[0] = ad_add(state[0], ad_scale(next[1], 1e-3));
}

static double energy_gradient(ad_tape *t, bool with_checkpoints) {
    ad_var friction = ad_scalar(t, "friction", 0.05);
    ad_var state[] = {ad_scalar(t, "angle", 1), ad_scalar(t, "speed", 0)};
    if (with_checkpoints) {
        ad_checkpoint_steps(t, swing, &friction, steps, snapshots, 2, state, state);
    } else {
        for (int64_t i = 0; i < steps; i++) {
            ad_var next[2];
            swing(t, i, state, 2, next, &friction);
            state[0] = next[0], state[1] = next[1];
        }
    }
    ad_var energy = ad_sub(ad_scale(ad_square(state[1]), 0.5), ad_cos(state[0]));
    ad_backward(energy);
    return ad_gradient_item(friction);
}

int main(void) {
    double gradient[2];
    for (int with = 0; with < 2; with++) {
        ad_tape *t = ad_tape_new(NULL);
        gradient[with] = energy_gradient(t, with);
        if (ad_tape_status(t) != AD_OK) {
            fprintf(stderr, "checkpoint: %s\n", ad_tape_error(t));
            return 1;
        }
        printf("%-20s d energy / d friction = %.15g, %5lld KiB\n",
               with ? "with checkpoints:" : "without:", gradient[with], (long long)ad_tape_memory(t) / 1024);
        ad_tape_free(t);
    }
    printf("%d steps, each run %.2f times in all instead of once\n", steps,
           (double)ad_checkpoint_cost(steps, snapshots) / steps);
    return gradient[0] != gradient[1];
}
