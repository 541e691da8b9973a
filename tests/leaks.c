/* Makes a leak fail the test program. LeakSanitizer looks when a test's process ends, but of that Criterion notices only
 * crashes, not the exit status. The report is to be seen when the program runs without --tap. */
#include <stdlib.h>

int __lsan_do_recoverable_leak_check(void) __attribute__((__weak__));

static void crash_if_leaked(void) {
    if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check()) abort();
}

__attribute__((constructor)) static void watch(void) { atexit(crash_if_leaked); }
