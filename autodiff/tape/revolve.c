/* When to keep which state of a sequence whose steps are walked back from the last to the first, with room for few.
 *
 * Griewank, Walther: "Algorithm 799: revolve", ACM TOMS 26 (2000). With s snapshots (one holds the first state) and no
 * step repeated more than r times, at most binomial(s + r, s) steps can be reversed. Of l steps, with the smallest such
 * r, the optimum repeats r l - binomial(s + r, r - 1) in all.
 *
 * To reverse l steps, advance m, take a snapshot, reverse the l - m steps after it with s - 1 snapshots, then the m
 * before it with s. m is optimal if it can be reversed with r - 1 repetitions and l - m with r. */
#include "autodiff/tape/checkpoint.h"

/* A product that stays at INT64_MAX where it would pass it. */
static int64_t times(int64_t a, int64_t b) { return b && a > INT64_MAX / b ? INT64_MAX : a * b; }

/* binomial(n, k), or INT64_MAX if it is larger than that. */
static int64_t binomial(int64_t n, int64_t k) {
    if (k < 0 || k > n) return 0;
    int64_t result = 1;
    if (k > n - k) k = n - k;
    for (int64_t i = 1; i <= k; i++) {
        /* result is binomial(n - k + i - 1, i - 1): the product below is divisible by i. */
        if (result > INT64_MAX / (n - k + i)) return INT64_MAX;
        result = result * (n - k + i) / i;
    }
    return result;
}

/* How many steps can be reversed with s snapshots if none is repeated more than r times. */
static int64_t reach(int64_t s, int64_t r) { return r < 0 || s < 0 ? 0 : binomial(s + r, s); }

static int64_t repetitions(int64_t steps, int64_t snapshots) {
    int64_t r = 0;
    if (snapshots == 1) return steps - 1;
    while (reach(snapshots, r) < steps) r++;
    return r;
}

int64_t ad_revolve_next(int64_t steps, int64_t snapshots) {
    if (snapshots <= 1 || steps <= 1) return steps;
    int64_t r = repetitions(steps, snapshots);
    int64_t before = reach(snapshots, r - 1), after = steps - reach(snapshots - 1, r - 1);
    return before < after ? before : after;
}

int64_t ad_checkpoint_cost(int64_t steps, int64_t snapshots) {
    if (steps < 0 || snapshots < 1) return -1;
    if (steps == 0) return 0;
    if (snapshots > steps) snapshots = steps;
    int64_t r = repetitions(steps, snapshots);
    int64_t repeated = snapshots == 1 ? times(steps, r) / 2 : times(r, steps) - binomial(snapshots + r, r - 1);
    /* Each step once for its derivative; the last one also for the value. */
    return repeated < INT64_MAX - steps - 1 ? repeated + steps + 1 : INT64_MAX;
}
