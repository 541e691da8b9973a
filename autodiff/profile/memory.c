/* What a tape's memory is for, as a table. */
#include "autodiff/tape/tape.h"

#include <adtape/memory.h>

#include <stdlib.h>
#include <string.h>

static uint64_t size_of(const ad_memory_row *row) { return row->saved + row->gradients; }

static int largest_first(const void *a, const void *b) {
    uint64_t x = size_of(a), y = size_of(b);
    return (x < y) - (x > y);
}

static void put_row(const char *op, int width, const ad_memory_row *row, FILE *stream) {
    fprintf(stream, "%-*s %8lld %14llu %14llu %14llu%s%s\n", width, op, (long long)row->nodes,
            (unsigned long long)row->values, (unsigned long long)row->saved, (unsigned long long)row->gradients,
            *row->scope ? "  " : "", row->scope);
}

static void put_table(ad_memory_row *rows, int64_t count, FILE *stream) {
    int width = 5;
    ad_memory_row total = {.scope = ""};
    if (count) qsort(rows, (size_t)count, sizeof *rows, largest_first);
    for (int64_t i = 0; i < count; i++) width = ad_max_int(width, (int)strlen(rows[i].op));
    fprintf(stream, "%-*s %8s %14s %14s %14s  scope\n", width, "bytes", "nodes", "values", "saved", "gradients");
    for (int64_t i = 0; i < count; i++) {
        put_row(rows[i].op, width, &rows[i], stream);
        total.nodes += rows[i].nodes;
        total.values += rows[i].values;
        total.saved += rows[i].saved;
        total.gradients += rows[i].gradients;
    }
    put_row("total", width, &total, stream);
}

ad_status ad_tape_memory_print(const ad_tape *tape, FILE *stream) {
    if (!tape || !stream) return AD_ERR_NULL;
    int64_t count = 0, again = 0;
    ad_memory use;
    ad_status status = ad_tape_memory_rows(tape, NULL, 0, &count);
    if (status) return status;
    size_t size = (size_t)(count ? count : 1) * sizeof(ad_memory_row);
    ad_memory_row *rows = ad_allocate(tape->allocator, size, _Alignof(ad_memory_row));
    if (!rows) return AD_ERR_OOM;
    status = ad_tape_memory_rows(tape, rows, count, &again);
    if (!status) put_table(rows, count, stream);
    ad_release(tape->allocator, rows, size);
    if (status) return status;
    ad_tape_memory_use(tape, &use);
    fprintf(stream, "\nin use: %llu bytes, %llu at most so far; held from the allocator: %llu\n",
            (unsigned long long)use.in_use, (unsigned long long)use.peak, (unsigned long long)use.held);
    return fflush(stream) || ferror(stream) ? AD_ERR_IO : AD_OK;
}
