/* Inside the check layer.
 *
 *   subject   what is checked: a function of variables with one or more results.
 *   checker   a subject at one point: its inputs, its results, their weights, its gradient.
 *   way       how to compute the same numbers differently. Most laws say that two ways agree.
 *
 * All float inputs together are one array of numbers, `value`, and so are gradients; all results together another. */
#ifndef AD_CHECK_INTERNAL_H
#define AD_CHECK_INTERNAL_H

#include "autodiff/base/base.h"

#include <adtape/check.h>
#include <adtape/ops.h>

/* ---- what is checked, and how ----------------------------------------------------------------------------------- */

typedef struct ad_subject {
    /* Records the function and returns the number of results; 0: the tape has the error. */
    int (*record)(const struct ad_subject *self, ad_tape *tape, const ad_var *x, ad_var *y);
    int n;
    bool no_gradient; /* its inputs must be constants */

    ad_check_function function; /* a user's function, */
    void *user;
    const ad_op *op; /* an op, */
    const void *attrs;
    const struct ad_subject *inner; /* or the gradient of another subject: inputs and cotangents of results to it */
    ad_var *target;                 /* [inner->n], for its use */
} ad_subject;

/* How an array lies in memory. */
typedef struct ad_layout {
    const char *text;
    bool column_major;
    bool repeated; /* along axis 0, with stride 0 */
    int step;      /* from neighbour to neighbour along each axis; negative: backwards */
} ad_layout;

/* Zeroed: as the checker's subject is normally computed. */
typedef struct ad_way {
    const char *text;
    const ad_subject *subject; /* NULL: the checker's */
    const double *weight;      /* NULL: the checker's */
    const ad_layout *layout;   /* of inputs and cotangents; NULL: row-major */
    bool f32;                  /* inputs and cotangents are f32 */
    bool recorded;             /* by ad_grad instead of ad_backward */
    bool twice;                /* two applications on the same variables, added */
    int only_input;            /* 0: all; 1 + i: the others are constants */
    int only_result;           /* 0: all; 1 + k: the others have no cotangent */
    int alias, alias_of;       /* if they differ: input `alias` is the same variable as input `alias_of` */
} ad_way;

/* An input or a result, and where its numbers are among those of all. */
typedef struct ad_part {
    const char *name; /* NULL: none */
    ad_dtype dtype;
    ad_shape shape;
    int64_t first, count;
} ad_part;

typedef struct ad_checker {
    const ad_subject *subject;
    const ad_check_options *options;
    ad_check_report *report;
    const char *setting; /* for messages: which sample; NULL: none */
    const ad_allocator *allocator;
    ad_arena memory;
    ad_tape *tape;
    ad_rng rng;
    ad_var *x, *y, *again, *target, *gradient; /* for recording */

    ad_tensor **tensor; /* [n]; those of floats lie in `value` */
    ad_part *input;     /* [n]; integers have a count of 0 */
    int64_t inputs;     /* numbers in all inputs */
    double *value;      /* [inputs] */
    double *center;     /* [inputs]: the point itself, from which differences step away */
    double *scale;      /* [inputs]: max(1, |center|), down to a power of 2, so that steps are exact */
    double *analytic;   /* [inputs]: the gradient at the point, by ad_backward */

    ad_part *result; /* [results] */
    int results;
    int64_t outputs; /* numbers in all results */
    int64_t float_outputs;
    double *output; /* [outputs]: at the point */
    double *weight; /* [outputs]: 0 for integers */
} ad_checker;

/* ---- checker.c -------------------------------------------------------------------------------------------------- */

/* Opens a checker at the values `x`, and computes its results. To be closed even when it fails. */
ad_status ad_checker_open(ad_checker *checker, const ad_subject *subject, const ad_view *x,
                          const ad_check_options *options, ad_check_report *report, const char *setting);
void ad_checker_close(ad_checker *checker);

/* Zeros that live as long as the checker, or until its memory is rewound; NULL: the report has the error. */
double *ad_checker_numbers(ad_checker *checker, int64_t count);
/* The results to output[outputs]. */
ad_status ad_checker_output(ad_checker *checker, const ad_way *way, double *output);
/* The gradient of <weight, results> to gradient[inputs]; zeros for what is a constant. */
ad_status ad_checker_gradient(ad_checker *checker, const ad_way *way, double *gradient);
/* How the results move (forward mode) when float inputs, one of them if the way says so, move along x_dot[inputs]. */
ad_status ad_checker_push(ad_checker *checker, const ad_way *way, const double *x_dot, double *y_dot);
/* Brings results down to one variable to walk back from and its seed: the only float result with its own cotangent, or
 * the weighted sum of several. An empty variable if none is a float. `only` as in ad_way. */
ad_var ad_checker_start(const ad_var *y, const ad_var *cotangent, int results, int only, ad_var *seed);

/* ---- report.c --------------------------------------------------------------------------------------------------- */

void ad_report_begin(ad_check_report *report, const char *subject);
ad_status ad_report_error(ad_check_report *report, ad_status status, const char *format, ...) AD_PRINTF(3, 4);
ad_status ad_report_no_memory(ad_checker *checker);
ad_status ad_report_tape(ad_checker *checker); /* takes over the tape's error */
ad_status ad_report_broken(ad_checker *checker, const char *law, const char *format, ...) AD_PRINTF(3, 4);
void ad_report_add(ad_check_report *report, const char *format, ...) AD_PRINTF(2, 3);
/* "input 1 (H) at [2,0]" for number i of all inputs or results. */
#define AD_PLACE_TEXT 160
const char *ad_place_text(const ad_checker *checker, bool result, int64_t i, char text[AD_PLACE_TEXT]);
void ad_point_fill(const ad_checker *checker, int64_t i, ad_check_point *point);
const ad_part *ad_part_of(const ad_part *parts, int64_t i);

/* Compares arrays of gradients or results, of which `right` is trusted. A difference may be `tolerance` relative to the
 * larger, and a twentieth of that relative to the largest of all and of what they are made from; 0: the same bits. */
ad_status ad_compare(ad_checker *checker, const char *law, bool results, double tolerance, const double *wrong,
                     const char *wrong_text, const double *right, const char *right_text);

/* ---- difference.c ----------------------------------------------------------------------------------------------- */

ad_status ad_check_differences(ad_checker *checker, const char *law);
/* The gradient by differences of the part's numbers, to numeric[part->count]. */
ad_status ad_differences(ad_checker *checker, const ad_part *part, double *numeric);

/* ---- cause.c ---------------------------------------------------------------------------------------------------- */

/* Adds to the report what the gradient of this input being `wrong` looks like. Arrays of all inputs; `right` is NULL if
 * not all of it is known, and then only the ratio at `i` is looked at. */
void ad_report_cause(ad_checker *checker, int64_t i, double wrong_i, double right_i, const double *wrong,
                     const double *right);

/* ---- laws.c ----------------------------------------------------------------------------------------------------- */

typedef struct ad_law {
    const char *name;
    ad_status (*check)(ad_checker *checker, const char *law);
} ad_law;
/* Those of a list that ends with one that has no name, until one is broken. */
ad_status ad_check_laws(ad_checker *checker, const ad_law *laws);
/* Those that hold for every subject. */
ad_status ad_check_common_laws(ad_checker *checker);
/* The options with every default in place. AD_ERR_VALUE if one makes no sense. */
ad_status ad_check_open_options(const ad_check_options *given, ad_check_options *options, ad_check_report *report);

/* ---- op_laws.c -------------------------------------------------------------------------------------------------- */

/* At a sample; among them, for ops that have a derivative, the common ones. */
const ad_law *ad_op_laws(ad_derivative derivative);
extern const ad_law ad_op_f32_laws[];      /* at a sample whose values f32 holds exactly */
extern const ad_law ad_op_repeated_laws[]; /* at a sample that repeats its first slice along axis 0 */

#endif
