/* adtape/memory.h: what a tape's memory is for: values, what is saved for the backward pass and by which op, gradients. */
#ifndef ADTAPE_MEMORY_H
#define ADTAPE_MEMORY_H

#include <adtape/tape.h>

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In bytes. */
typedef struct ad_memory {
    uint64_t held; /* from the allocator, as ad_tape_memory says */
    uint64_t
        in_use; /* of it now: by values, gradients, and tensors taken from the tape; the rest is nodes and what is kept
                      * for the next recording */
    uint64_t peak; /* the most that was in use at a time, since the tape was made */
} ad_memory;
AD_API ad_status ad_tape_memory_use(const ad_tape *tape, ad_memory *memory);

/* What one op has in one scope. */
typedef struct ad_memory_row {
    const char *op;
    const char *scope; /* "block0/attention", "" at the top; lives until reset */
    int64_t nodes;
    uint64_t values; /* that it made: views have none, nor do parameters, which lie outside */
    uint64_t saved;  /* that its backward passes read, its own or others'; what several save counts for the first */
    uint64_t gradients; /* that the last pass left at its results */
} ad_memory_row;
/* Writes up to `room` rows, in the order in which they were recorded first; *count: how many there are. Errors: AD_ERR_NULL,
 * AD_ERR_OOM; the tape's own status stays as it is. Takes a walk over the tape. */
AD_API ad_status ad_tape_memory_rows(const ad_tape *tape, ad_memory_row *rows, int64_t room, int64_t *count);
/* The same for people, with totals. AD_ERR_IO if the stream fails. */
AD_API ad_status ad_tape_memory_print(const ad_tape *tape, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
