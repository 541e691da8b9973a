/* adtape/profile.h: where the time goes, and the memory. Operations are timed one by one while a profile is attached to
 * their tape, in the recording and in backward passes; scalars then do without their short cut. A profile outlives resets,
 * so that it can take in many steps, and more than one tape if all are of one thread.
 *
 *   ad_profile_new(&profile, NULL, NULL);
 *   ad_tape_attach_profile(tape, profile);
 *   ... record, ad_backward, reset, again ...
 *   ad_profile_print(profile, stdout);
 *   ad_profile_trace(profile, file);      for ui.perfetto.dev or chrome://tracing */
#ifndef ADTAPE_PROFILE_H
#define ADTAPE_PROFILE_H

#include <adtape/tape.h>

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ad_profile ad_profile;

typedef struct ad_profile_options {
    const ad_allocator *allocator; /* NULL: the default */
    int64_t most_events;           /* kept for the trace, the first ones; 0: 1,000,000; -1: none */
    int64_t (*clock)(void *user);  /* nanoseconds since any moment; NULL: a clock of the system's that never jumps */
    void *user;                    /* handed to it */
} ad_profile_options;

/* Errors: AD_ERR_NULL, AD_ERR_OOM. */
AD_API ad_status ad_profile_new(ad_profile **out, const ad_profile_options *options, ad_error *error);
/* No tape may have it attached. NULL is allowed. */
AD_API void ad_profile_free(ad_profile *profile);
/* From here on; NULL: no longer. The profile must live as long as it is attached. */
AD_API void ad_tape_attach_profile(ad_tape *tape, ad_profile *profile);

/* All that one op did in one scope. Nanoseconds; the backward time of a checkpoint has all that it ran again. */
typedef struct ad_profile_row {
    const char *op;
    const char *scope; /* "block0/attention", "" at the top */
    int64_t calls, backward_calls;
    int64_t forward, backward;
    uint64_t bytes; /* of results; views have none */
} ad_profile_row;
AD_API int64_t ad_profile_rows(const ad_profile *profile);
AD_API ad_status ad_profile_row_at(const ad_profile *profile, int64_t i,
                                   ad_profile_row *row); /* as they first came */

typedef enum ad_profile_kind {
    AD_PROFILE_FORWARD,
    AD_PROFILE_BACKWARD,
    AD_PROFILE_PASS, /* a whole backward pass */
    AD_PROFILE_SCOPE /* from its begin to its end */
} ad_profile_kind;
typedef struct ad_profile_event {
    ad_profile_kind kind;
    const char *name; /* of the op; "ad_backward"; or of the scope */
    const char *scope;
    const char *where;       /* NULL if not known */
    int64_t node;            /* of the operation, or where the pass began; -1 for a scope */
    int64_t start, duration; /* nanoseconds since the first event began */
    uint64_t bytes;
} ad_profile_event;
AD_API int64_t ad_profile_events(const ad_profile *profile);
AD_API ad_status ad_profile_event_at(const ad_profile *profile, int64_t i, ad_profile_event *event);
/* Operations that are missing in the rows, or events, as there was no memory or no room: profiling fails no tape. */
AD_API int64_t ad_profile_lost(const ad_profile *profile);

/* Tables for people: by op and by scope, the slowest first. AD_ERR_IO if the stream fails; AD_ERR_OOM. */
AD_API ad_status ad_profile_print(const ad_profile *profile, FILE *stream);
/* Trace events in JSON, for Perfetto and Chrome. AD_ERR_IO if the stream fails. */
AD_API ad_status ad_profile_trace(const ad_profile *profile, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
