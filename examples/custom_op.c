/* custom_op: an operation of one's own, which its derivative has to earn.
 *
 * logcosh(x) = log(cosh(a x)) / a is a loss that is quadratic near 0 and grows like |x| far away; a says how soon. Its
 * derivative is tanh(a x). Here it is defined outside the library, as any program may, first with a mistake that is
 * easily made: the 1 / a is forgotten on the way back. The checker, which only compares with differences of the
 * function itself, finds that. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What a call is given besides its inputs. */
typedef struct logcosh_attrs {
    double a;
} logcosh_attrs;

/* ---- what it is -------------------------------------------------------------------------------------------------- */

/* The type of the result is that of the input, which must be a float. */
static ad_status logcosh_shape(ad_call *call) {
    const logcosh_attrs *attrs = call->attrs;
    if (!ad_dtype_is_float(call->in[0]->dtype))
        return ad_fail(call, AD_ERR_DTYPE, "%s, but it must be f32 or f64", ad_describe(call, 0));
    if (!(attrs->a > 0)) return ad_fail(call, AD_ERR_VALUE, "a is %g, but it must be above 0", attrs->a);
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}

/* cosh overflows early: log(cosh(z)) = |z| + log(1 + exp(-2 |z|)) - log(2) does not. The result is row-major, the input
 * may lie anyhow. */
static ad_status logcosh_forward(ad_call *call) {
    double a = ((const logcosh_attrs *)call->attrs)->a;
    const ad_view *x = call->in[0], *y = &call->out[0];
    for (int64_t i = 0, n = ad_view_count(x); i < n; i++) {
        double z = fabs(a * ad_view_get(x, i)), value = (z + log1p(exp(-2 * z)) - log(2)) / a;
        if (y->dtype == AD_F32) {
            ((float *)y->data)[i] = (float)value;
        } else {
            ((double *)y->data)[i] = value;
        }
    }
    return AD_OK;
}

/* Written in operations of the tape, so that it can itself be differentiated. */
static ad_var slope(ad_vjp *v) {
    const logcosh_attrs *attrs = ad_vjp_attrs(v);
    return ad_tanh(ad_scale(ad_vjp_input(v, 0), attrs->a));
}
static void logcosh_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), slope(v))); }

static void wrong_vjp(ad_vjp *v) {
    const logcosh_attrs *attrs = ad_vjp_attrs(v);
    ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_seed(v, 0), slope(v)), attrs->a));
}

/* Valid random calls, for the checker: rank 0, a matrix, nothing at all. */
static bool logcosh_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(3, 4), AD_SCALAR, AD_SHAPE(2, 0)};
    if (k >= 3) return false;
    sample->attrs.number[0] = 2; /* a */
    return ad_sample_normal(sample, shapes[k]);
}

static void show_attrs(const void *attrs, char *text, size_t size) {
    snprintf(text, size, "%g", ((const logcosh_attrs *)attrs)->a);
}

#define LOGCOSH(rule)                                                                                                \
    {                                                                                                                \
        .name = "logcosh", .inputs = 1, .attrs_size = sizeof(logcosh_attrs),                                         \
        .attrs = AD_ATTRS(AD_ATTR("a", DOUBLE, logcosh_attrs, a, AD_USUALLY(1))),                                    \
        .saves = AD_SAVES_INPUT(0), /* all that the VJP reads */                                                     \
            .shape = logcosh_shape, .forward = logcosh_forward, .vjp = rule,                                         \
        .formula = "$y = log(cosh($a * $0)) / $a", .adjoint = {"~0 += ~y * tanh($a * $0)"},                          \
        .show_attrs = show_attrs, .sample = logcosh_sample,                                                          \
    }
static const ad_op wrong = LOGCOSH(wrong_vjp), right = LOGCOSH(logcosh_vjp);

static ad_var logcosh(ad_var x, double a) { return ad_apply(x.tape, &right, 1, &x, &(logcosh_attrs){.a = a}, NULL); }

/* ---- what it is good for ----------------------------------------------------------------------------------------- */

enum { N = 6 };
static const double x[N] = {1.1, 0.9, 1.0, 1.2, 0.8, 50};

/* The number m for which the mean of loss(x - m) is least, by gradient descent. Leaves its last step on the tape. */
static double centre(ad_tape *t, bool robust) {
    double m = 0;
    for (int i = 0; i < 400; i++) {
        ad_tape_reset(t);
        ad_var guess = ad_scalar(t, "m", m);
        ad_var miss = ad_name(ad_sub(ad_constant(t, "x", AD_F64, AD_SHAPE(N), x), guess), "miss");
        ad_var loss = robust ? logcosh(miss, 2) : ad_mul(miss, miss);
        ad_backward(ad_name(ad_mean(loss, AD_ALL_AXES, false), "loss"));
        m -= 0.2 * ad_gradient_item(guess);
    }
    return m;
}

static bool centres_are_right(ad_tape *t) {
    double mean = centre(t, false), robust = centre(t, true), pull = 0;
    printf("\nThe centre of 1.1, 0.9, 1.0, 1.2, 0.8 and a slip of the pen, 50:\n");
    printf("  with squares, which is the mean:  %.3f\n  with logcosh:  %.3f\n\nIts last step:\n\n", mean, robust);
    ad_tape_dump_with(t, &(ad_dump_options){.hide = AD_DUMP_HIDE_PLACES | AD_DUMP_HIDE_TYPES}, stdout);
    for (int i = 0; i < N; i++) pull += tanh(2 * (x[i] - robust)); /* 0 where the loss is least */
    return ad_tape_status(t) == AD_OK && fabs(mean - 55.0 / 6) < 1e-9 && fabs(pull) < 1e-9;
}

/* Whether the checker finds what it should. */
static bool checks_as(const ad_op *op, ad_status expected) {
    ad_check_report report;
    bool as_expected = ad_op_check(op, NULL, &report) == expected;
    (void)!ad_check_print(&report, stdout);
    return as_expected;
}

int main(void) {
    printf("With the wrong derivative:\n\n");
    bool caught = checks_as(&wrong, AD_ERR_CHECK);
    printf("\nWith the right one:\n\n");
    bool accepted = checks_as(&right, AD_OK);

    ad_error error = {AD_OK, ""};
    bool registered = ad_op_register(&right, &error) == AD_OK && ad_op_find("logcosh") == &right;
    ad_tape *t = ad_tape_new(NULL);
    bool good = centres_are_right(t);
    if (!caught) fprintf(stderr, "custom_op: the wrong derivative was not caught\n");
    if (!accepted) fprintf(stderr, "custom_op: the right derivative was not accepted\n");
    if (!registered) fprintf(stderr, "custom_op: logcosh is not an op like any other. %s\n", error.message);
    if (!good) fprintf(stderr, "custom_op: the centres are wrong. %s\n", ad_tape_error(t));
    ad_tape_free(t);
    return !(caught && accepted && registered && good);
}
