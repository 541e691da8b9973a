/* Memory, texts, and what is said about them when they are wrong. */
#define _GNU_SOURCE /* vasprintf */
#include "tools/adtape/command.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static _Noreturn void out_of_memory(void) {
    fputs("adtape: out of memory\n", stderr);
    exit(STATUS_SYSTEM);
}

void *allocate(size_t size) {
    void *memory = calloc(1, size ? size : 1);
    if (!memory) out_of_memory();
    return memory;
}

void *with_room(void *array, size_t count, size_t *room, size_t element) {
    if (count < *room) return array;
    if (*room > SIZE_MAX / 4 / element) out_of_memory();
    *room = *room ? 2 * *room : 16;
    array = realloc(array, *room * element);
    if (!array) out_of_memory();
    return array;
}

char *format_text(const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text;
    if (vasprintf(&text, format, args) < 0) out_of_memory();
    va_end(args);
    return text;
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

cmd_source source_of(const char *name, const char *text) {
    return (cmd_source){.name = name, .text = text, .length = strlen(text), .has_lines = strchr(text, '\n')};
}

/* A byte within a character of UTF-8, not its first. */
static bool continues(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }

static size_t characters(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++) count += !continues(text[i]);
    return count;
}

/* The line that `at` is in: from *start up to *end. */
static void line_of(const cmd_source *source, size_t at, size_t *start, size_t *end) {
    for (*start = at; *start > 0 && source->text[*start - 1] != '\n';) --*start;
    for (*end = at; *end < source->length && source->text[*end] != '\n';) ++*end;
}

void move_place(const cmd_source *source, cmd_place *place, size_t at) {
    for (; place->at < at; place->at++) {
        bool ends = source->text[place->at] == '\n';
        place->line += ends;
        place->column = ends ? 0 : place->column + !continues(source->text[place->at]);
    }
    while (place->at > at) {
        if (source->text[--place->at] != '\n') {
            place->column -= !continues(source->text[place->at]);
            continue;
        }
        size_t start, end;
        place->line--;
        line_of(source, place->at, &start, &end);
        place->column = characters(source->text + start, place->at - start);
    }
}

char *place_text(const cmd_source *source, const cmd_place *place) {
    if (source->has_lines) return format_text("%s:%zu:%zu", source->name, place->line + 1, place->column + 1);
    return format_text("%s:%zu", source->name, place->column + 1);
}

char *place_in(const cmd_source *source, size_t at) {
    cmd_place place = {.at = 0};
    move_place(source, &place, at);
    return place_text(source, &place);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

bool set_fault(cmd_fault *fault, int status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fault->status = status;
    fault->source = NULL;
    vsnprintf(fault->message, sizeof fault->message, format, args);
    va_end(args);
    return false;
}

bool set_fault_at(cmd_fault *fault, const cmd_source *source, size_t at, const char *format, ...) {
    char *place = place_in(source, at);
    int length = snprintf(fault->message, sizeof fault->message, "%s: ", place);
    free(place);
    va_list args;
    va_start(args, format);
    vsnprintf(fault->message + length, sizeof fault->message - (size_t)length, format, args);
    va_end(args);
    fault->status = STATUS_WRONG;
    fault->source = source;
    fault->at = at;
    return false;
}

/* The line with a caret under the place; of a long line only what is around it. */
static void show_place(const cmd_source *source, size_t at) {
    enum { around = 60 };
    size_t start, end;
    line_of(source, at, &start, &end);
    bool cut_start = at - start > around, cut_end = end - at > around;
    if (cut_start) start = at - around;
    if (cut_end) end = at + around;
    while (start < at && continues(source->text[start])) start++;
    while (end > at && end < source->length && continues(source->text[end])) end--;
    fputs(cut_start ? "  ..." : start < end ? "  " : "", stderr);
    for (size_t i = start; i < end; i++) {
        unsigned char byte = (unsigned char)source->text[i];
        fputc(byte < 0x20 || byte == 0x7F ? ' ' : byte, stderr);
    }
    fputs(cut_end ? "...\n" : "\n", stderr);
    fprintf(stderr, "%*s^\n", (int)(characters(source->text + start, at - start) + (cut_start ? 5 : 2)), "");
}

int tell_fault(const cmd_fault *fault) {
    fflush(stdout);
    fprintf(stderr, "adtape: %s\n", fault->message);
    if (fault->source) show_place(fault->source, fault->at);
    return fault->status;
}

/* ---- names that are alike ---------------------------------------------------------------------------------------- */

enum { longest_name = 40 };

/* How many letters must be put in, left out, replaced or swapped (Damerau 1964). */
static int distance(const char *a, size_t m, const char *b, size_t n) {
    int row[3][longest_name + 1];
    for (size_t j = 0; j <= n; j++) row[0][j] = (int)j;
    for (size_t i = 1; i <= m; i++) {
        int *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int least = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < least) least = before[j] + 1;
            if (now[j - 1] + 1 < least) least = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && earlier[j - 2] + 1 < least)
                least = earlier[j - 2] + 1;
            now[j] = least;
        }
    }
    return row[m % 3][n];
}

const char *most_similar(const char *name, size_t length, name_at *at, const void *names) {
    const char *best = NULL, *other;
    if (length > longest_name) return NULL;
    int least = length < 5 ? 2 : length < 9 ? 3 : 4;
    for (int i = 0; (other = at(names, i)); i++) {
        size_t n = strlen(other);
        if (n > longest_name) continue;
        int d = distance(name, length, other, n);
        if (d >= least || d >= (int)length) continue;
        least = d;
        best = other;
    }
    return best;
}
