/* mutants: are the laws able to fail? Each registered op's derivatives are corrupted, one at a time and one way at a time,
 * and ad_op_check must refuse every such mutant. Not part of the quick test: `./dev mutants` runs it.
 *
 *   mutants [OP]    all ops, or one
 *
 * A mutant is a copy of the op's descriptor in which one function (its VJP, its fused backward, its rule for numbers or for
 * neighbours, or its JVP) is wrapped: it runs the original, looks at what that gives to one input or result, and passes on
 * something else.
 * A corruption that changes no number on any sample (three times nothing) makes no mutant. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <adtape/check.h>
#include <adtape/ops.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum corruption {
    TIMES_3,
    SIGN,
    ZERO,
    ORDER,
    ONE_ELEMENT,
    MISSING_SUM,
    NOT_A_NUMBER,
    CORRUPTIONS
} corruption;
static const char *const corruption_names[CORRUPTIONS] = {
    [TIMES_3] = "times 3",
    [SIGN] = "sign",
    [ZERO] = "zero",
    [ORDER] = "order of elements",
    [ONE_ELEMENT] = "one element",
    [MISSING_SUM] = "missing sum",
    [NOT_A_NUMBER] = "NaN",
};

typedef enum place { IN_VJP, IN_BACKWARD, IN_SCALAR, IN_FLAT, IN_JVP, PLACES } place;
static const char *const place_names[PLACES] = {"vjp", "backward", "scalar", "flat", "jvp"};

/* The mutant that is being checked: the wrappers below have no other way to know. */
static struct {
    const ad_op *op;
    corruption how;
    int which;    /* the input, or for a JVP the result, that gets something else */
    bool changed; /* a number became another */
} mutant;

/* ---- corrupting numbers ------------------------------------------------------------------------------------------ */

/* Where element i of the corrupted array is taken from: the transpose of a square matrix, or the reverse. */
static int64_t other_place(const ad_shape *shape, int64_t i, int64_t n) {
    int last = shape->rank - 1;
    if (shape->rank < 2 || shape->dim[last] != shape->dim[last - 1]) return n - 1 - i;
    int64_t side = shape->dim[last], square = side * side, at = i % square;
    return i - at + at % side * side + at / side;
}

static double corrupted(const double *from, const ad_shape *shape, int64_t i, int64_t n, double share) {
    switch (mutant.how) {
    case TIMES_3: return 3 * from[i];
    case SIGN: return -from[i];
    case ZERO: return 0;
    case ORDER: return from[other_place(shape, i, n)];
    case ONE_ELEMENT: return i == n - 1 ? 2 * from[i] + 0.25 : from[i];
    case MISSING_SUM: return share * from[i];
    default: return i == 0 ? NAN : from[i];
    }
}

/* Corrupts a row-major array in place. `share`: what one of the summed parts is of the whole. */
static void corrupt(const ad_view *view, double share) {
    int64_t n = ad_view_count(view);
    double *from = malloc((size_t)(n ? n : 1) * sizeof *from);
    if (!from) exit(2);
    for (int64_t i = 0; i < n; i++) from[i] = ad_view_get(view, i);
    for (int64_t i = 0; i < n; i++) {
        double value = corrupted(from, &view->shape, i, n, share);
        if (!(value == from[i]) && !(isnan(value) && isnan(from[i]))) mutant.changed = true;
        ad_element_set((char *)view->data + (size_t)i * ad_dtype_size(view->dtype), view->dtype, value);
    }
    free(from);
}

/* The same recorded: factor * x + offset with constants, or x with its elements in another order. The numbers decide
 * whether anything changed; the derivative is corrupted alike. */
static ad_var corrupt_variable(ad_var x, double share) {
    ad_view value = ad_value(x);
    int64_t n = ad_view_count(&value);
    if (n == 0) return x;
    ad_shape flat = AD_SHAPE(n);
    double *was = malloc((size_t)n * sizeof *was), *factor = malloc((size_t)n * sizeof *factor);
    double *offset = calloc((size_t)n, sizeof *offset);
    int64_t *from = malloc((size_t)n * sizeof *from);
    if (!was || !factor || !offset || !from) exit(2);
    for (int64_t i = 0; i < n; i++) {
        bool last = mutant.how == ONE_ELEMENT && i == n - 1;
        was[i] = ad_view_get(&value, i);
        from[i] = mutant.how == ORDER ? other_place(&value.shape, i, n) : i;
        factor[i] = mutant.how == TIMES_3 ? 3 : mutant.how == SIGN ? -1 : mutant.how == ZERO ? 0 : last ? 2 : 1;
        if (mutant.how == MISSING_SUM) factor[i] = share;
        if (mutant.how == NOT_A_NUMBER && i == 0) factor[i] = NAN;
        if (last) offset[i] = 0.25;
    }
    for (int64_t i = 0; i < n; i++) {
        double becomes = corrupted(was, &value.shape, i, n, share);
        if (!(becomes == was[i]) && !(isnan(becomes) && isnan(was[i]))) mutant.changed = true;
    }
    ad_tape *tape = x.tape;
    ad_tensor *scale = NULL, *shift = NULL;
    if (ad_tensor_new(&scale, NULL, value.dtype, flat, NULL, NULL) ||
        ad_tensor_new(&shift, NULL, value.dtype, flat, NULL, NULL))
        exit(2);
    for (int64_t i = 0; i < n; i++) {
        size_t at = (size_t)i * ad_dtype_size(value.dtype);
        ad_element_set((char *)ad_tensor_view(scale)->data + at, value.dtype, factor[i]);
        ad_element_set((char *)ad_tensor_view(shift)->data + at, value.dtype, offset[i]);
    }
    ad_var y = ad_gather(ad_reshape(x, flat), 0, ad_constant(tape, NULL, AD_I64, flat, from));
    y = ad_add(ad_mul(y, ad_constant_tensor(tape, NULL, scale)), ad_constant_tensor(tape, NULL, shift));
    ad_tensor_unref(scale);
    ad_tensor_unref(shift);
    free(was), free(factor), free(offset), free(from);
    return ad_reshape(y, value.shape);
}

/* What one result element is of the results that a stretched input's gradient sums over. */
static double share_of(const ad_shape *input, const ad_shape *result) {
    double parts = (double)ad_shape_count(result) / (double)ad_shape_count(input);
    return parts > 1 ? 1 / parts : 1;
}

/* ---- wrapping an op's functions ---------------------------------------------------------------------------------- */

/* Runs the VJP as if the operation stood alone, which collects its contributions, and hands them on. */
static void wrapped_vjp(ad_vjp *vjp) {
    uint32_t by_input[AD_MAX_SAMPLE_INPUTS];
    ad_vjp inner = *vjp;
    inner.adjoint = NULL;
    inner.by_input = by_input;
    for (int i = 0; i < vjp->call->inputs; i++) by_input[i] = ad_vjp_wants(vjp, i) ? AD_WANTED : AD_NOT_WANTED;
    for (int k = 0; k < ad_op_results(vjp->call->op); k++)
        inner.seed[k] = ad_vjp_has_seed(vjp, k) ? ad_vjp_seed(vjp, k) : (ad_var){0};
    mutant.op->vjp(&inner);
    for (int i = 0; i < vjp->call->inputs && !vjp->tape->error.status; i++) {
        if (by_input[i] < AD_GRADIENT_BASE) continue;
        ad_var contribution = ad_var_of(vjp->tape, by_input[i] - AD_GRADIENT_BASE);
        if (i == mutant.which)
            contribution = corrupt_variable(contribution,
                                            share_of(&vjp->call->in[i]->shape, &vjp->call->out[0].shape));
        ad_vjp_give(vjp, i, contribution);
    }
}

static ad_status wrapped_backward(ad_call *call, ad_adjoint *adjoint) {
    for (int i = 0; i < call->inputs; i++) {
        if (!ad_wants(adjoint, i)) continue;
        struct ad_adjoint_private inner = *adjoint->priv;
        ad_adjoint alone = *adjoint;
        inner.capture_input = i;
        inner.captured = NULL;
        alone.priv = &inner;
        ad_status status = mutant.op->backward(call, &alone);
        if (status) return status;
        if (!inner.captured) continue;
        ad_tensor *own = NULL;
        ad_view given = inner.captured->view;
        /* What was passed on by reference has its own shape where the op is shown 1-d arrays. */
        if (inner.is_flat) given = ad_view_of(given.data, given.dtype, call->in[i]->shape);
        if (ad_tensor_new(&own, NULL, given.dtype, given.shape, NULL, NULL)) exit(2);
        (void)!ad_view_copy(&given, ad_tensor_view(own));
        if (i == mutant.which) corrupt(ad_tensor_view(own), share_of(&call->in[i]->shape, &call->out[0].shape));
        ad_give(adjoint, i, ad_tensor_view(own));
        ad_tensor_unref(own);
        ad_tensor_unref(inner.captured);
    }
    return AD_OK;
}

static ad_pair wrapped_scalar(double g, double a, double b, double y, const double *attrs) {
    ad_pair pair = mutant.op->scalar->adjoint(g, a, b, y, attrs);
    double *number = mutant.which == 0 ? &pair.a : &pair.b;
    ad_view view = ad_view_of(number, AD_F64, AD_SCALAR);
    corrupt(&view, 1);
    return pair;
}

static void wrapped_flat(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b, const void *y,
                         void *bar, bool add) {
    ad_tensor *own = NULL;
    if (ad_tensor_new(&own, NULL, dtype, AD_SHAPE(n), NULL, NULL)) exit(2);
    const ad_view *given = ad_tensor_view(own), into = ad_view_of(bar, dtype, given->shape);
    mutant.op->flat->adjoint(dtype, n, i, g, a, b, y, given->data, false);
    if (i == mutant.which) corrupt(given, 1);
    ad_kernels_get()->copy(given, &into, 1, add);
    ad_tensor_unref(own);
}

/* The original, applied anew to the same values, pushes for us. */
static void wrapped_jvp(ad_jvp *jvp) {
    ad_var in[AD_MAX_SAMPLE_INPUTS], x[AD_MAX_SAMPLE_INPUTS], dot[AD_MAX_SAMPLE_INPUTS];
    ad_var y[AD_MAX_RESULTS], y_dot[AD_MAX_RESULTS];
    int moving = 0, results = 0;
    ad_tape *tape = ad_jvp_tape(jvp);
    for (int i = 0; i < ad_jvp_inputs(jvp); i++) {
        in[i] = ad_detach(ad_jvp_input(jvp, i));
        if (!ad_jvp_moves(jvp, i)) continue;
        x[moving] = in[i];
        dot[moving++] = ad_jvp_tangent(jvp, i);
    }
    ad_apply(tape, mutant.op, ad_jvp_inputs(jvp), in, ad_jvp_attrs(jvp), y);
    int which[AD_MAX_RESULTS];
    ad_var floats[AD_MAX_RESULTS];
    for (int k = 0; k < ad_op_results(mutant.op) && !ad_tape_status(tape); k++) {
        if (!ad_dtype_is_float(ad_value(y[k]).dtype)) continue;
        which[results] = k;
        floats[results++] = y[k];
    }
    if (moving == 0 || results == 0 || ad_pushforward(moving, x, dot, results, floats, y_dot)) return;
    for (int k = 0; k < results; k++)
        ad_jvp_give(jvp, which[k], which[k] == mutant.which ? corrupt_variable(y_dot[k], 1) : y_dot[k]);
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

static bool has(const ad_op *op, place where) {
    if (op->derivative != AD_DIFFERENTIABLE) return false;
    switch (where) {
    case IN_VJP: return op->vjp;
    case IN_BACKWARD: return op->backward;
    case IN_SCALAR: return op->scalar;
    case IN_FLAT: return op->flat;
    default: return op->jvp;
    }
}

typedef struct tally {
    int killed, survived;
} tally;

static void check_mutant(const ad_op *op, place where, int which, tally *count) {
    for (int how = 0; how < CORRUPTIONS; how++) {
        ad_scalar_rule rule;
        ad_flat_rule flat_rule;
        ad_op copy = *op;
        mutant.op = op;
        mutant.how = (corruption)how;
        mutant.which = which;
        mutant.changed = false;
        if (where == IN_VJP) copy.vjp = wrapped_vjp;
        if (where == IN_BACKWARD) copy.backward = wrapped_backward;
        if (where == IN_JVP) copy.jvp = wrapped_jvp;
        if (where == IN_SCALAR) {
            rule = *op->scalar;
            rule.adjoint = wrapped_scalar;
            copy.scalar = &rule;
        }
        if (where == IN_FLAT) {
            flat_rule = *op->flat;
            flat_rule.adjoint = wrapped_flat;
            copy.flat = &flat_rule;
        }
        ad_check_report report;
        ad_status status = ad_op_check(&copy, NULL, &report);
        if (!mutant.changed) continue;
        if (status == AD_ERR_CHECK) {
            count->killed++;
        } else {
            count->survived++;
            printf("SURVIVED  %s, its %s for %s %d: %s (%s)\n", op->name, place_names[where],
                   where == IN_JVP ? "result" : "input", which, corruption_names[how],
                   status ? report.message : "every law holds");
        }
    }
}

/* The number of inputs in the op's first sample. */
static int inputs_of(const ad_op *op) {
    ad_sample sample = {.rng = {1, 0}, .dtype = AD_F64, .allocator = ad_allocator_default()};
    int n = op->sample(&sample, 0) ? sample.inputs : 0;
    for (int i = 0; i < sample.inputs; i++) ad_tensor_unref(sample.input[i]);
    return n;
}

int main(int argc, char **argv) {
    tally all = {0, 0};
    int ops = 0;
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        if (argc > 1 && strcmp(argv[1], op->name) != 0) continue;
        tally count = {0, 0};
        for (int where = 0; where < PLACES; where++) {
            int n = where == IN_JVP ? ad_op_results(op) : where == IN_SCALAR ? op->inputs : inputs_of(op);
            for (int which = 0; which < n && has(op, (place)where); which++)
                check_mutant(op, (place)where, which, &count);
        }
        if (op->derivative == AD_DIFFERENTIABLE) {
            printf("%-20s %4d killed, %d survived\n", op->name, count.killed, count.survived);
            fflush(stdout);
            ops++;
        }
        all.killed += count.killed;
        all.survived += count.survived;
    }
    printf("%d mutants of %d ops: %d killed, %d survived\n", all.killed + all.survived, ops, all.killed,
           all.survived);
    return all.survived > 0 || all.killed == 0;
}
