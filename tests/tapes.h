/* What the tests of the tape share: expectations that name the line they stand on. */
#ifndef AD_TEST_TAPES_H
#define AD_TEST_TAPES_H

#include <adtape.h>

/* The tape carries no error, and ad_tape_verify finds nothing. */
#define expect_ok(tape) expect_ok_at(AD_HERE, tape)
void expect_ok_at(const char *line, const ad_tape *tape);

/* The tape carries this error, and its message holds every one of the texts; the tape is then reset. */
#define expect_error(tape, status, ...) expect_error_at(AD_HERE, tape, status, (const char *[]){__VA_ARGS__, NULL})
void expect_error_at(const char *line, ad_tape *tape, ad_status status, const char *const *texts);

/* The same for an ad_error, which is then cleared. */
#define expect_message(error, status, ...)                                                                           \
    expect_message_at(AD_HERE, error, status, (const char *[]){__VA_ARGS__, NULL})
void expect_message_at(const char *line, ad_error *error, ad_status status, const char *const *texts);

/* The view has this many elements and these values, in row-major order, exactly. */
#define expect_values(view, ...)                                                                                     \
    expect_values_at(AD_HERE, view, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),                     \
                     (double[]){__VA_ARGS__})
void expect_values_at(const char *line, ad_view view, int64_t n, const double *values);

/* A vector of f64 with these values, as a leaf and as a constant. */
#define LEAF(t, ...)                                                                                                 \
    ad_leaf(t, NULL, AD_F64, AD_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), ((double[]){__VA_ARGS__}))
#define CONSTANT(t, ...)                                                                                             \
    ad_constant(t, NULL, AD_F64, AD_SHAPE(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),                         \
                ((double[]){__VA_ARGS__}))

/* The gradient of y at x for a seed, walked back and recorded, is exactly these numbers. */
#define expect_gradient(y, seed, x, ...)                                                                             \
    expect_gradient_at(AD_HERE, y, seed, x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),             \
                       (double[]){__VA_ARGS__})
void expect_gradient_at(const char *line, ad_var y, ad_var seed, ad_var x, int64_t n, const double *values);

/* |got - wanted| <= tolerance * max(1, |wanted|). */
#define expect_near(got, wanted, tolerance) expect_near_at(AD_HERE, got, wanted, tolerance)
void expect_near_at(const char *line, double got, double wanted, double tolerance);

/* How many nodes from `first` on are of that op. */
int nodes_of(const ad_tape *t, int64_t first, const char *op);

/* An allocator that gives back the block released last to the next request of its size, so that a new object lies
 * where the old one lay. */
typedef struct same_place {
    ad_allocator allocator; /* pass &place.allocator */
    void *kept;
    size_t size;
} same_place;
void same_place_open(same_place *place);
void same_place_close(same_place *place);

#endif
