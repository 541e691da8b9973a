/* What the tests of dumps share: texts that grow, and golden files. Small dumps are compared with the files in
 * tests/golden, to the byte; after a change that is meant to show, ADTAPE_GOLDEN=write makes the files again, to be
 * looked at before they are committed. */
#ifndef AD_TEST_TEXTS_H
#define AD_TEST_TEXTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef struct text {
    char *data; /* terminated, if anything was added; to be freed */
    size_t length;
    int64_t pieces, most; /* fails after so many, if that is not 0 */
} text;
bool add_piece(void *user, const char *piece, size_t length); /* an ad_write for a text */
void add_stream(text *t, FILE *file);                         /* all that can be read */

/* The whole file; NULL: it cannot be read. */
char *read_file(const char *path);

/* `got` is what tests/golden/`name` holds. */
void expect_golden_text(const char *name, const char *got);

#endif
