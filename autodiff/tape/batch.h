/* Inside the walks for several cotangents or tangents at once, as the rows or columns of a Jacobian take: the tape is read
 * once for all of them, and products with vectors become products with matrices.
 *
 *   seed      one of those cotangents or tangents.
 *   rows      of a node: its derivatives, a matrix [seeds, elements]. They lie beside the tape, which has no gradients of
 *             such a walk: those of numbers in a block of 8 bytes for each seed, those of arrays in a tensor. Of an f64's,
 *             only the seeds [from, to) are there and the others are 0: to most numbers of a sparse Jacobian's function few
 *             rows matter.
 *
 * An operation is walked in one of three ways: a scalar rule is a loop over seeds; an op whose .batches agrees is called once
 * for all, its views having the axis of seeds in front; any other is called for each seed.
 *
 * One walk at a time has the tape's memory for rows: none begins inside of another. */
#ifndef AD_BATCH_INTERNAL_H
#define AD_BATCH_INTERNAL_H

#include "autodiff/tape/tape.h"

enum {
    AD_LANES = 8,    /* seeds come in groups, of which the compiler makes vector code */
    AD_TOGETHER = -1 /* in place of the number of a seed */
};

typedef struct ad_rows {
    void *memory; /* a block or a tensor; NULL: there are none */
    uint32_t from, to;
} ad_rows;

/* Of one input of an operation that goes back seed by seed: its rows were there before, and this seed's is written. */
typedef struct ad_row_state {
    bool was_there, is_written;
} ad_row_state;

typedef struct ad_batch {
    ad_tape *tape;
    const char *subject, *where;
    int64_t seeds;
    uint32_t room; /* seeds, up to the end of a group */
    ad_rows *at;   /* by node */
    void *free;    /* blocks, each with the address of the next */

    /* Of the operation that is walked: */
    int64_t seed; /* AD_TOGETHER, or the one whose turn it is */
    int rank;     /* of all views, without the axis of seeds */
    ad_row_state *state;
} ad_batch;

/* ---- batch.c ------------------------------------------------------------------------------------------------------- */

/* For nodes before `end`; to be closed in any case. False: the tape has the error. */
bool ad_batch_open(ad_batch *batch, const char *subject, const char *where, ad_tape *tape, int64_t seeds,
                   uint32_t end);
void ad_batch_close(ad_batch *batch, uint32_t end);
ad_status ad_batch_no_memory(const ad_batch *batch);

static inline bool ad_is_number(const ad_node *node) { return node->flags & AD_NODE_INLINE; }
static inline bool ad_is_f64_number(const ad_node *node) { return ad_is_number(node) && node->dtype == AD_F64; }
/* Makes the rows of a node. What was not there is garbage, but for an f64's. False: no memory. */
bool ad_rows_open(ad_batch *batch, uint32_t index);
/* The same for the row of the seed whose turn it is: those of earlier seeds are 0 if they were not there. */
bool ad_rows_open_next(ad_batch *batch, uint32_t index);
/* An f64's, with these seeds at least; NULL: no memory. And without the groups at both ends that are 0. */
double *ad_rows_open_numbers(ad_batch *batch, uint32_t index, uint32_t from, uint32_t to);
void ad_rows_trim(ad_rows *rows);
void ad_rows_release(ad_batch *batch, uint32_t index);
ad_view ad_rows_one(const ad_batch *batch, uint32_t index, int64_t seed); /* of the node's shape; they must be open */
/* What the operation that is walked sees of them: the row of the seed whose turn it is, or all, with the axis of seeds. */
ad_view ad_rows_seen(const ad_batch *batch, uint32_t index);
ad_var ad_rows_constant(const ad_batch *batch, uint32_t index); /* that as a constant, without a copy of arrays */
/* All of them from a matrix [seeds, elements], which opens them (false: no memory), and to one: zeros if there are none. */
bool ad_rows_write(ad_batch *batch, uint32_t index, const ad_view *from);
void ad_rows_read(ad_batch *batch, uint32_t index, const ad_view *to);
bool ad_rows_are_zero(const ad_view *row);
void ad_rows_copy(const ad_view *from, const ad_view *to); /* of one shape, any dtypes */

/* Adds what the scalar rule of the node at `index` makes of rows of g to those of a and of b, which may be NULL. The
 * derivative is a number for each input: what takes cotangents back takes tangents on. */
void ad_rows_add_scaled(const ad_batch *batch, const ad_node *node, const ad_rows *g, double *a, double *b);

/* Where seeds are walked one by one: row number `seed` of a matrix as a constant of the type of `like`; and an array into
 * that row. */
ad_var ad_row_as_constant(const char *where, ad_var like, const ad_view *rows, int64_t seed);
void ad_row_store(const ad_view *value, const ad_view *rows, int64_t seed);

/* Whether the operation can be walked for all seeds together; then `call` has its attributes as they are needed there. */
bool ad_batch_goes_together(ad_batch *batch, ad_call *call, const ad_adjoint *adjoint);
/* Gives the call views with the axis of seeds. False: the tape has the error. */
bool ad_batch_stretch(ad_batch *batch, ad_call *call);

#endif
