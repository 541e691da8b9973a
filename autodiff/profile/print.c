/* A profile as tables: by op, and by scope with what is inside it, the slowest first. */
#include "autodiff/tape/tape.h"

#include <adtape/profile.h>

#include <stdlib.h>
#include <string.h>

typedef struct line {
    const char *name;
    size_t length; /* of the name: a scope is the start of a path */
    ad_profile_row sum;
} line;

static int64_t time_of(const ad_profile_row *row) { return row->forward + row->backward; }

static int slowest_first(const void *a, const void *b) {
    int64_t x = time_of(&((const line *)a)->sum), y = time_of(&((const line *)b)->sum);
    return (x < y) - (x > y);
}

static void add(ad_profile_row *sum, const ad_profile_row *row) {
    sum->calls += row->calls;
    sum->backward_calls += row->backward_calls;
    sum->forward += row->forward;
    sum->backward += row->backward;
    sum->bytes += row->bytes;
}

/* Adds a row to the line of that name, which may be new. */
static void add_to(line *lines, size_t *count, const char *name, size_t length, const ad_profile_row *row) {
    size_t i = 0;
    while (i < *count && (lines[i].length != length || memcmp(lines[i].name, name, length) != 0)) i++;
    if (i == *count) lines[(*count)++] = (line){.name = name, .length = length};
    add(&lines[i].sum, row);
}

static size_t parts_of(const char *path) {
    size_t parts = 1;
    for (; *path; path++) parts += *path == '/';
    return parts;
}

/* Adds a row to its scope and to each scope around it. */
static void add_to_scopes(line *lines, size_t *count, const ad_profile_row *row) {
    for (size_t i = 1; i <= strlen(row->scope); i++)
        if (row->scope[i] == '/' || row->scope[i] == '\0') add_to(lines, count, row->scope, i, row);
}

static void put_bytes(uint64_t bytes, FILE *stream) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    double size = (double)bytes;
    for (; size >= 1024 && unit < 4; unit++) size /= 1024;
    fprintf(stream, unit ? " %9.1f %s" : " %9.0f %s", size, units[unit]);
}

static void put_table(const char *title, line *lines, size_t count, int64_t total, FILE *stream) {
    int width = (int)strlen(title);
    for (size_t i = 0; i < count; i++) width = ad_max_int(width, (int)lines[i].length);
    if (count) qsort(lines, count, sizeof *lines, slowest_first);
    fprintf(stream, "%-*s %10s %12s %12s %10s %6s %9s\n", width, title, "calls", "forward ms", "backward ms",
            "us/call", "%", "results");
    for (size_t i = 0; i < count; i++) {
        const ad_profile_row *sum = &lines[i].sum;
        int64_t calls = sum->calls > sum->backward_calls ? sum->calls : sum->backward_calls;
        fprintf(stream, "%-*.*s %10lld %12.3f %12.3f %10.3f %6.1f", width, (int)lines[i].length, lines[i].name,
                (long long)sum->calls, (double)sum->forward / 1e6, (double)sum->backward / 1e6,
                calls ? (double)time_of(sum) / 1e3 / (double)calls : 0,
                total ? 100 * (double)time_of(sum) / (double)total : 0);
        put_bytes(sum->bytes, stream);
        fputc('\n', stream);
    }
}

ad_status ad_profile_print(const ad_profile *profile, FILE *stream) {
    if (!profile || !stream) return AD_ERR_NULL;
    int64_t rows = ad_profile_rows(profile);
    size_t most = 1, count = 0;
    ad_profile_row row, total = {.op = NULL};
    for (int64_t i = 0; i < rows; i++) {
        ad_profile_row_at(profile, i, &row);
        add(&total, &row);
        most += parts_of(row.scope);
    }
    const ad_allocator *allocator = ad_profile_allocator(profile);
    line *lines = ad_allocate(allocator, most * sizeof *lines, _Alignof(line));
    if (!lines) return AD_ERR_OOM;
    for (int64_t i = 0; i < rows; i++) {
        ad_profile_row_at(profile, i, &row);
        add_to(lines, &count, row.op, strlen(row.op), &row);
    }
    put_table("op", lines, count, time_of(&total), stream);
    count = 0;
    for (int64_t i = 0; i < rows; i++) {
        ad_profile_row_at(profile, i, &row);
        add_to_scopes(lines, &count, &row);
    }
    if (count) {
        fputc('\n', stream);
        put_table("scope", lines, count, time_of(&total), stream);
    }
    fprintf(stream, "\n%lld operations, %lld of them walked back: %.3f ms forward, %.3f ms backward\n",
            (long long)total.calls, (long long)total.backward_calls, (double)total.forward / 1e6,
            (double)total.backward / 1e6);
    if (ad_profile_lost(profile))
        fprintf(stream, "%lld operations or events were left out: too many, or out of memory\n",
                (long long)ad_profile_lost(profile));
    ad_release(allocator, lines, most * sizeof *lines);
    return fflush(stream) || ferror(stream) ? AD_ERR_IO : AD_OK;
}
