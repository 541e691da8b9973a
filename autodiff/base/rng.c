/* Counter-based random numbers: Philox4x32-10.
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#include "autodiff/base/base.h"

#include <math.h>

__extension__ typedef unsigned __int128 uint128;

static void philox(uint64_t seed, uint64_t counter, uint32_t out[4]) {
    uint32_t x0 = (uint32_t)counter, x1 = (uint32_t)(counter >> 32), x2 = 0, x3 = 0;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        uint32_t y0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0, y2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x1 = (uint32_t)p1;
        x3 = (uint32_t)p0;
        x0 = y0;
        x2 = y2;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    out[0] = x0;
    out[1] = x1;
    out[2] = x2;
    out[3] = x3;
}

/* One draw uses one half of a block, so that a counter names exactly one number. */
uint64_t ad_rng_next(ad_rng *rng) {
    uint32_t block[4];
    philox(rng->seed, rng->counter++, block);
    return (uint64_t)block[1] << 32 | block[0];
}

double ad_rng_uniform(ad_rng *rng) { return (double)(ad_rng_next(rng) >> 11) * 0x1p-53; }

double ad_rng_normal(ad_rng *rng) {
    uint32_t block[4];
    philox(rng->seed, rng->counter++, block);
    uint64_t first = (uint64_t)block[1] << 32 | block[0], second = (uint64_t)block[3] << 32 | block[2];
    double u = (double)((first >> 11) + 1) * 0x1p-53; /* in (0, 1]: its logarithm is finite */
    double v = (double)(second >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

int64_t ad_rng_below(ad_rng *rng, int64_t bound) {
    if (bound < 1) return 0;
    /* Lemire's method (2019): reject the few products whose low half would make some results more likely. */
    uint64_t range = (uint64_t)bound, threshold = (0 - range) % range;
    for (;;) {
        uint128 product = (uint128)ad_rng_next(rng) * range;
        if ((uint64_t)product >= threshold) return (int64_t)(product >> 64);
    }
}
