/* Reads the cases that a script in tests/reference wrote about an op, and compares the op with them. */
#ifndef AD_TEST_REFERENCE_H
#define AD_TEST_REFERENCE_H

#include "autodiff/base/base.h"

#include <adtape.h>
#include <stdio.h>

enum { REFERENCE_INPUTS = 8, REFERENCE_TEXT = 64 };

typedef struct reference_case {
    int number; /* in its file, from 1 on */
    bool only_f64;
    /* attributes */
    int axis;
    ad_axes axes;
    bool keepdim, reverse;
    ad_shape shape;
    double value, other; /* "number -1.75 3" */
    char text[REFERENCE_TEXT];
    double tolerance; /* f64, relative; f32 gets 1e8 times as much */
    /* arrays of f64, i32 or i64, to be freed with test_arrays_free */
    int inputs;
    ad_view input[REFERENCE_INPUTS];
    ad_view result;
    bool has_gradients;
    ad_view seed, gradient[REFERENCE_INPUTS]; /* data NULL: of an integer input */
} reference_case;

/* The file about an op; the test fails if there is none. */
FILE *reference_open(const char *op);
/* Reads the next case; false at the end of the file. */
bool reference_next(FILE *file, reference_case *next);

typedef ad_var (*reference_constructor)(const ad_var *in, const reference_case *c);

/* Compares what `make` records, value and gradients, with every case about the op: numerically and recorded, in f64 and
 * f32, with inputs of every layout. */
void reference_check(const char *op, reference_constructor make);

#endif
