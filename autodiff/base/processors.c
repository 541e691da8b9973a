/* How many threads have a processor core of their own: those that this process may use, one per core where a core shows up
 * as several processors, and no more than a container's share of time. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "autodiff/base/base.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

#ifdef __linux__
/* The first bytes of a small file, as text; false if there is none. */
static bool read_text(const char *path, char *text, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    ssize_t length = read(file, text, size - 1);
    close(file);
    if (length <= 0) return false;
    text[length] = '\0';
    return true;
}

/* The first of the processors that are one core with this one; itself if that is not known. */
static size_t first_of_core(size_t processor) {
    char path[96], text[64];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", processor);
    return read_text(path, text, sizeof text) ? strtoul(text, NULL, 10) : processor;
}

static int count_cores(void) {
    cpu_set_t usable;
    int cores = 0;
    if (sched_getaffinity(0, sizeof usable, &usable)) return 0;
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &usable)) continue;
        const size_t first = first_of_core(i);
        if (first == i || first >= CPU_SETSIZE || !CPU_ISSET(first, &usable)) cores++;
    }
    return cores;
}

/* "200000 100000": so many microseconds of processor time in so many; "max 100000" if there is no limit. */
static int count_share(int otherwise) {
    char text[64];
    long quota, period;
    if (!read_text("/sys/fs/cgroup/cpu.max", text, sizeof text)) return otherwise;
    if (sscanf(text, "%ld %ld", &quota, &period) != 2 || quota <= 0 || period <= 0) return otherwise;
    const long share = (quota + period - 1) / period;
    return share < otherwise ? (int)share : otherwise;
}
#else
static int count_cores(void) { return 0; }
static int count_share(int otherwise) { return otherwise; }
#endif

int ad_processors(void) {
    int cores = count_cores();
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return ad_max_int(1, count_share(cores));
}
