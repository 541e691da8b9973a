/* Solutions of equations, differentiated by the implicit function theorem: where f(x, theta) = 0,
 *     dx/dtheta = -(df/dx)^-1 df/dtheta.
 * The solution is one operation, whose VJP is written in functions of f at the solution itself. So it does not matter how
 * the solution was found, nothing of the search is kept, and derivatives are right to any order. */
#include "autodiff/transform/transform.h"

#include <math.h>

typedef struct root_attrs {
    const ad_function *f;
} root_attrs;

static const ad_function *function_of(const void *attrs) { return ((const root_attrs *)attrs)->f; }

/* ---- the operation --------------------------------------------------------------------------------------------------- */

/* Input 0 is the solution as a number; the others are those of f. */
static ad_status root_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}

static ad_status root_forward(ad_call *call) { return ad_view_copy(call->in[0], &call->out[0]); }

/* df/dx as a matrix [n, n], where f is called with in[0] as x. */
static ad_var slope_matrix(const char *where, const ad_function *f, ad_tape *tape, const ad_var *in) {
    ad_function by_x = *f;
    by_x.constants = f->inputs - 1;
    ad_function jacobian = ad_jacobian_of(&by_x);
    ad_var slope = ad_var_invalid(tape);
    if (ad_function_call(where, &jacobian, tape, in, &slope)) return slope;
    int64_t n = ad_var_count(in[0]);
    return ad_name_at(where, ad_reshape_at(where, slope, AD_SHAPE(n, n)), "df/dx");
}

static ad_var solved(const char *where, ad_var matrix, ad_var y) {
    ad_var x = ad_solve_at(where, matrix, ad_reshape_at(where, y, AD_SHAPE(-1)));
    return y.tape->error.status ? x : ad_reshape_at(where, x, ad_var_shape(y));
}

/* theta_bar -= (df/dtheta)^T (df/dx)^-T x_bar */
static void root_vjp(ad_vjp *v) {
    const ad_function *f = function_of(ad_vjp_attrs(v));
    ad_tape *tape = ad_vjp_tape(v);
    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_function vjp = ad_vjp_of(f);
    int inputs = f->inputs, n = ad_inputs_of(f);
    ad_var *in = ad_arena_take(&tape->scratch, (size_t)(inputs + 1 + vjp.outputs) * sizeof *in);
    if (!in) {
        ad_tape_out_of_memory(tape, "root", NULL);
        return;
    }
    in[0] = ad_vjp_result(v, 0);
    for (int i = 1; i < inputs; i++) in[i] = ad_vjp_input(v, i);
    ad_var slope = slope_matrix(AD_HERE, f, tape, in);
    if (!tape->error.status) {
        ad_var w = ad_neg(solved(AD_HERE, ad_transpose(slope), ad_vjp_seed(v, 0)));
        for (int i = inputs; i > n; i--) in[i] = in[i - 1]; /* the cotangent comes before the constants */
        in[n] = w;
        ad_var *out = in + inputs + 1;
        if (!tape->error.status && !ad_function_call(AD_HERE, &vjp, tape, in, out))
            for (int i = 1; i < n; i++) ad_vjp_give(v, i, out[1 + i]);
    }
    ad_scratch_back(tape, scratch);
}

static const ad_op root = {
    .name = "root",
    .inputs = -1,
    .attrs_size = sizeof(root_attrs),
    .saves = AD_SAVES_INPUTS | AD_SAVES_RESULT(0),
    .shape = root_shape,
    .forward = root_forward,
    .vjp = root_vjp,
    .formula = "$y = where f(x) = 0, near $0",
    .adjoint = {"", "~1 -= (df/d$1)^T (df/dx)^-T ~y"},
};

/* ---- the search ------------------------------------------------------------------------------------------------------ */

static bool check_equation(const ad_frame *frame, ad_var x, ad_var y) {
    ad_shape unknowns = ad_var_shape(x), equations = ad_var_shape(y);
    char of[AD_TYPE_TEXT], by[AD_TYPE_TEXT];
    if (ad_shape_equal(&unknowns, &equations) && ad_var_dtype(x) == ad_var_dtype(y)) return true;
    ad_tape_fail(frame->tape, AD_ERR_SHAPE, frame->self->transform->name, frame->where,
                 "the output is %s, but the first input %s: there must be as many equations as unknowns",
                 ad_type_text(ad_var_dtype(y), &equations, of), ad_type_text(ad_var_dtype(x), &unknowns, by));
    return false;
}

static double largest(ad_var x) {
    ad_view view = ad_value_at(NULL, x);
    double most = 0;
    for (int64_t i = 0, n = ad_view_count(&view); i < n; i++) {
        double size = fabs(ad_view_get(&view, i));
        if (!(size <= most)) most = size; /* NaN too */
    }
    return most;
}

/* How exact a dtype lets a solution be: each element of f, and x relative to the largest. */
typedef struct exactness {
    double residual, step;
} exactness;
static exactness exactness_of(ad_dtype dtype) {
    return dtype == AD_F32 ? (exactness){1e-5, 1e-6} : (exactness){1e-12, 1e-15};
}

/* One step of Newton's method from in[0]: the new value; NULL if it is a solution already, or there is an error. *found: the
 * new one is, as far as numbers can tell. */
static ad_tensor *newton_step(const ad_frame *frame, const ad_var *in, double *residual, bool *found) {
    ad_tape *tape = frame->tape;
    ad_var y;
    if (ad_function_call(frame->where, frame->f, tape, in, &y) || !check_equation(frame, in[0], y)) return NULL;
    exactness enough = exactness_of(ad_var_dtype(y));
    *residual = largest(y);
    if (*residual <= enough.residual) return NULL;
    ad_var slope = slope_matrix(frame->where, frame->f, tape, in);
    if (tape->error.status) return NULL;
    ad_var step = solved(frame->where, slope, y);
    if (tape->error.status) return NULL;
    *found = largest(step) <= enough.step * largest(in[0]);
    return ad_tensor_of_at(frame->where, ad_sub_at(frame->where, in[0], step));
}

/* Newton's method on numbers: what it records is forgotten. in[0] becomes a constant, the solution. */
static void search(const ad_frame *frame, ad_var *in) {
    enum { STEPS = 100 };
    ad_tape *tape = frame->tape;
    double residual = NAN;
    bool found = false;
    ad_mark mark = ad_tape_mark(tape);
    for (int k = 0; k < STEPS && !found; k++) {
        ad_tensor *next = newton_step(frame, in, &residual, &found);
        if (tape->error.status) return;
        ad_tape_rewind_to(tape, &mark);
        if (!next) return;
        in[0] = ad_constant_tensor_at(frame->where, tape, NULL, next);
        ad_tensor_unref(next);
        mark = ad_tape_mark(tape);
    }
    if (!found)
        ad_tape_fail(tape, AD_ERR_VALUE, frame->self->transform->name, frame->where,
                     "no solution in %d steps of Newton's method: the residual is %g; start nearer to one", STEPS,
                     residual);
}

static void record_root(ad_frame *frame, const ad_var *in, ad_var *out) {
    ad_var *own = ad_frame_take(frame, frame->self->inputs, sizeof *own);
    if (!own) return;
    for (int i = 0; i < frame->self->inputs; i++) own[i] = in[i];
    if (frame->m != 1) {
        ad_tape_fail(frame->tape, AD_ERR_VALUE, frame->self->transform->name, frame->where,
                     "the function has %d outputs, but there is one equation, for its first input", frame->m);
        return;
    }
    search(frame, own);
    root_attrs attrs = {frame->f};
    out[0] = ad_apply_at(frame->where, frame->tape, &root, frame->self->inputs, own, &attrs, NULL);
}

static const ad_transform root_transform = {.name = "ad_root_of", .record = record_root, .calls_itself = true};

ad_function ad_root_of(const ad_function *f) { return ad_transformed(&root_transform, f, ad_inputs_of(f), 1); }
