/* Inside the transforms: one call of a transformed function, from its fresh inputs to its outputs. */
#ifndef AD_TRANSFORM_INTERNAL_H
#define AD_TRANSFORM_INTERNAL_H

#include "autodiff/tape/tape.h"

#include <adtape/ops.h>
#include <adtape/transform.h>

/* A call of f by the transform `self`. The inputs are fresh: new variables of the same values, so that what f reaches
 * by other ways than its inputs stands still, and constants can be differentiated by. */
typedef struct ad_frame {
    ad_tape *tape;
    const char *where;
    const ad_function *self, *f;
    int n, m;      /* inputs of f without its constants, and outputs */
    ad_var *x, *y; /* [n] and the constants, [m] */
    uint64_t scratch;
    uint8_t no_grad; /* of the caller */
    bool on_numbers; /* nobody will differentiate the results */
} ad_frame;

typedef struct ad_transform {
    const char *name;
    void (*record)(ad_frame *frame, const ad_var *in, ad_var *out);
    bool takes_tangents; /* its further inputs go with those of f */
    bool calls_itself;   /* it is no derivative: there are no fresh inputs, and it calls f as it needs */
    bool is_gradient;    /* its Jacobian is symmetric */
} ad_transform;

/* Calls a transform: opens a frame, lets it record, closes the frame. */
void ad_transform_call(const char *where, const ad_function *self, ad_tape *tape, const ad_var *in, ad_var *out,
                       bool on_numbers);
/* Scratch memory until the frame closes; NULL, and the tape's error, if there is none. */
void *ad_frame_take(ad_frame *frame, int64_t count, size_t size);
/* Whether there is a gradient: f has one output, a number; the tape's error if not. */
bool ad_frame_has_gradient(const ad_frame *frame);
/* The gradient of the output of f, recorded. */
void ad_frame_gradient(ad_frame *frame, ad_var *out);
/* Whether somebody wants to see gradients: a pass would show them, a recorded gradient does not. */
bool ad_frame_has_hooks(const ad_frame *frame);
/* The cotangents of x from that of y, as results: recorded or, on numbers, from a pass, which costs less. */
void ad_frame_pull(const ad_frame *frame, ad_var y, ad_var y_bar, ad_var *x_bar);
/* The tangents of y from those of x, likewise. */
void ad_frame_push(const ad_frame *frame, const ad_var *x_dot, int m, const ad_var *y, ad_var *y_dot);

/* What a walk back to x_bar = J^T y_bar starts from: an output with its cotangent or, if there are several, all of
 * them in one row. False, and the tape's error, if a cotangent does not fit. */
bool ad_start_of(const char *where, const char *subject, int m, const ad_var *y, const ad_var *y_bar, ad_var *start,
                 ad_var *seed);

/* How many inputs and outputs the result of a transform has. Counts that do not fit become 0, which a call then refuses. */
static inline int ad_times(int a, int b) {
    int product;
    return a < 0 || b < 0 || __builtin_mul_overflow(a, b, &product) ? 0 : product;
}
static inline int ad_plus(int a, int b) {
    int sum;
    return __builtin_add_overflow(a, b, &sum) ? 0 : sum;
}

/* Without constants. */
static inline int ad_inputs_of(const ad_function *f) { return f ? f->inputs - f->constants : 0; }
static inline int ad_outputs_of(const ad_function *f) { return f ? f->outputs : 0; }

/* `inputs` without the constants, which are those of f. */
static inline ad_function ad_transformed(const ad_transform *transform, const ad_function *f, int inputs,
                                         int outputs) {
    int constants = f ? f->constants : 0;
    return (ad_function){.inputs = ad_plus(inputs, constants),
                         .outputs = outputs,
                         .constants = constants,
                         .transform = transform,
                         .of = f};
}

/* A variable's type. */
static inline ad_dtype ad_var_dtype(ad_var x) { return (ad_dtype)ad_node_at(x.tape, x.index)->dtype; }
static inline ad_shape ad_var_shape(ad_var x) { return ad_node_shape(ad_node_at(x.tape, x.index)); }
static inline int64_t ad_var_count(ad_var x) {
    ad_shape shape = ad_var_shape(x);
    return ad_shape_count(&shape);
}

/* A constant of the type of `like`, 1 at that element and 0 elsewhere. */
ad_var ad_unit_at(const char *where, ad_var like, int64_t element);

/* Row k of a matrix [count, length] of zeros gets a 1 at first + k, or back a 0. */
void ad_put_units(double *units, int64_t length, int64_t first, int64_t count, double number);

/* Back to a position of the scratch memory, unless a reset went further. */
void ad_scratch_back(ad_tape *tape, uint64_t position);

/* f(in) on the tape, where `in` and `out` do not overlap; what is wrong with f, its inputs or the outcome becomes the
 * tape's error. */
ad_status ad_function_call(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in, ad_var *out);

#endif
