/* Chooses the kernels for this machine, once. */
#include "ops/kernels/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

extern const ad_kernels ad_kernels_baseline;
#ifdef AD_HAVE_AVX2
extern const ad_kernels ad_kernels_avx2;
#endif
#ifdef AD_HAVE_AVX512
extern const ad_kernels ad_kernels_avx512;
#endif

const ad_kernels *ad_kernels_table(int i) {
    const ad_kernels *table[4] = {&ad_kernels_baseline};
    int count = 1;
#ifdef AD_HAVE_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) table[count++] = &ad_kernels_avx2;
#endif
#ifdef AD_HAVE_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        table[count++] = &ad_kernels_avx512;
#endif
    return i >= 0 && i < count ? table[i] : NULL;
}

static const ad_kernels *choose(void) {
    const char *wanted = getenv("ADTAPE_ISA");
    const ad_kernels *best = ad_kernels_table(0);
    for (int i = 0; ad_kernels_table(i); i++) {
        best = ad_kernels_table(i);
        if (wanted && strcmp(wanted, best->isa) == 0) break;
    }
    return best;
}

const ad_kernels *ad_kernels_get(void) {
    /* Two threads that meet here choose the same. */
    static _Atomic(const ad_kernels *) chosen;
    const ad_kernels *kernels = atomic_load_explicit(&chosen, memory_order_acquire);
    if (!kernels) {
        kernels = choose();
        atomic_store_explicit(&chosen, kernels, memory_order_release);
    }
    return kernels;
}
