/* adtape/check.h: does a derivative prove itself? Gradients against central differences, and the other laws.
 *
 * Everything is checked in f64, whatever dtype the user works in: inputs are converted, integers stay. A function with
 * many results is checked through a random weighting of them, so that every element of the Jacobian counts. */
#ifndef ADTAPE_CHECK_H
#define ADTAPE_CHECK_H

#include <adtape/op.h>

#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ad_check_mode {
    AD_CHECK_AUTO, /* full up to 256 elements, fast above */
    AD_CHECK_FULL, /* every element on its own */
    /* Random directions of +1 and -1 through all elements at once, not normalised, so that one wrong element is not
     * lost among many; and single elements of each input: the first, the last, the edges of each axis, and some random
     * ones. A direction that disagrees is halved until the element is found. */
    AD_CHECK_FAST
} ad_check_mode;

typedef struct ad_check_options {
    ad_check_mode mode;
    double tolerance;      /* relative; 0: 1e-6. The differences' own error estimate comes on top. */
    int directions;        /* fast mode; 0: 4 */
    int elements;          /* fast mode, random single ones over all inputs; 0: 16 */
    uint64_t seed;         /* of samples, weights, directions and choices */
    bool first_order_only; /* leave out the derivative of the derivative */
    const ad_allocator *allocator;
} ad_check_options;

/* One element of one input at which derivative and differences were compared: the derivative of the weighted sum of
 * results, or of the result itself if that is a single number. */
typedef struct ad_check_point {
    int input;
    char name[32];         /* of the input, "" if it has none */
    int64_t element;       /* row-major */
    ad_shape at;           /* the same as an index, one number per axis */
    double x;              /* its value */
    double analytic;       /* from the backward pass */
    double numeric, error; /* from differences, with the estimate of their error */
    double left, right;    /* one-sided slopes */
} ad_check_point;

#define AD_CHECK_MOST_LAWS 24
typedef struct ad_check_report {
    ad_status status; /* AD_OK; AD_ERR_CHECK: a law is broken; else: the function itself failed */
    const char *law;  /* which law is broken, "" if none */
    char subject[64]; /* the op or function */
    int sample;       /* ad_op_check: the number of the last sample that was looked at, from 0; ad_gradcheck: -1 */
    bool has_point;   /* a law is broken at one element: */
    ad_check_point point;
    int64_t compared; /* numbers that were compared; 0: nothing was, so that the check says nothing */
    int laws;         /* that had something to compare, and held: */
    const char *held[AD_CHECK_MOST_LAWS];
    int64_t kinks;       /* points where the one-sided slopes stay apart as the step shrinks: failures only where the
                           * derivative lies outside of them. Jumps count too, and never fail. */
    ad_check_point kink; /* the first one */
    double worst;        /* the largest difference, in units of what is allowed; above 1 fails */
    char message[1024];  /* what is wrong, with the likely cause; "" if nothing */
} ad_check_report;

/* Records y = f(x[0..n)) on the tape and returns y, of any float shape. It is called many times, with other values of
 * the same shapes, sometimes with constants or with one variable in two places, and must compute the same each time.
 * Constants that it makes itself must be f64: ad_value(x[0]).dtype. */
typedef ad_var (*ad_check_function)(ad_tape *tape, const ad_var *x, int n, void *user);

/* Checks the gradient of f at the values x[0..n): against differences, the same when recorded (ad_grad), on every run
 * and for each input alone, zero and linear in the seed, adding up when f is used twice or two inputs are one variable,
 * and of second order. Options and report may be NULL. Returns report->status. Errors: AD_ERR_NULL, AD_ERR_VALUE (n < 1
 * or an option), AD_ERR_NOGRAD (no float input), AD_ERR_OOM. */
AD_API ad_status ad_gradcheck(const char *name, ad_check_function f, void *user, int n, ad_tensor *const *x,
                              const ad_check_options *options, ad_check_report *report);

/* Checks an op on each of its own samples: all of the above, that its shortcuts (.scalar, .backward) equal its VJP and
 * read only what .saves declares, f32 against f64, and inputs and cotangents that are not row-major. Of an op without
 * a derivative: what it computes, and that a gradient is refused (or stops). Ends at the first broken law. The op need
 * not be registered. */
AD_API ad_status ad_op_check(const ad_op *op, const ad_check_options *options, ad_check_report *report);

/* Prints a report for people; nothing else in this header prints. AD_ERR_IO if the stream fails. */
AD_API ad_status ad_check_print(const ad_check_report *report, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
