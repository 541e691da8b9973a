/* Texts that grow, and golden files. */
#include "texts.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

bool add_piece(void *user, const char *piece, size_t length) {
    text *t = user;
    if (t->most && t->pieces == t->most) return false;
    t->pieces++;
    t->data = realloc(t->data, t->length + length + 1);
    memcpy(t->data + t->length, piece, length);
    t->length += length;
    t->data[t->length] = '\0';
    return true;
}

void add_stream(text *t, FILE *file) {
    char piece[4096];
    for (size_t n; (n = fread(piece, 1, sizeof piece, file)) > 0;) add_piece(t, piece, n);
}

char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    text t = {.data = NULL};
    add_piece(&t, "", 0);
    add_stream(&t, file);
    fclose(file);
    return t.data;
}

void expect_golden_text(const char *name, const char *got) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/%s", ADTAPE_SOURCE_DIR, name);
    const char *mode = getenv("ADTAPE_GOLDEN");
    if (mode && strcmp(mode, "write") == 0) {
        FILE *file = fopen(path, "wb");
        cr_assert(file && fputs(got, file) >= 0 && fclose(file) == 0, "%s cannot be written", path);
    }
    char *wanted = read_file(path);
    cr_assert_not_null(wanted, "%s is missing", path);
    cr_expect(strcmp(got, wanted) == 0, "%s differs; this is the dump:\n%s", name, got);
    free(wanted);
}
