/* TEST_THREADS=3 in the environment makes three threads share all there is to share, however little, in any test. */
#include "autodiff/base/base.h"

#include <stdlib.h>

__attribute__((constructor)) static void share_everything(void) {
    const char *threads = getenv("TEST_THREADS");
    if (!threads || ad_set_threads(atoi(threads))) return;
    atomic_store(&ad_parallel_forced, true);
}
