/* Elementwise arithmetic and functions. What each is stands in one row of ops/kernels/elementwise_table.h; here the rows
 * become descriptors and constructors. Broadcasting is the same for all of them and is here too. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/composed.h"
#include "ops/kernels/special.h"
#include "ops/ops.h"

#define NUMBER(n) number(g, n)
#define AD_SIN(x) AD_LIBM(sin, x)
#define AD_COS(x) AD_LIBM(cos, x)
#define AD_TAN(x) AD_LIBM(tan, x)

/* A variable of the application if the row saves it; the rule does not read it otherwise. */
static ad_var saved_input(ad_vjp *v, uint32_t saves, int i) {
    return saves & AD_SAVES_INPUT(i) ? ad_vjp_input(v, i) : ad_vjp_seed(v, 0);
}
static ad_var saved_result(ad_vjp *v, uint32_t saves) {
    return saves & AD_SAVES_RESULT(0) ? ad_vjp_result(v, 0) : ad_vjp_seed(v, 0);
}

/* The scalar rules compute in double. */
typedef double T;

/* ---- rules that are too long for a row ---------------------------------------------------------------------------- */

static ad_var number(ad_var like, double n) { return ad_number_like(AD_HERE, like, n); }
static ad_var plus(ad_var x, double n) { return ad_add(x, number(x, n)); }

static ad_var zeros_like(ad_var g) { return ad_broadcast_to(number(g, 0), ad_value(g).shape); }

/* low < x < high */
static ad_var inside(ad_var x, double low, double high) {
    return ad_logical_and(ad_greater(x, number(x, low)), ad_less(x, number(x, high)));
}
static ad_var outside(ad_var x, double low, double high) {
    return ad_logical_or(ad_less(x, number(x, low)), ad_greater(x, number(x, high)));
}

/* What of g goes to `large` where the larger of two counts: all, half of a tie, or nothing. */
static ad_var share(ad_var g, ad_var large, ad_var other) {
    ad_var tie = ad_where(ad_equal(large, other), ad_scale(g, 0.5), number(g, 0));
    return ad_where(ad_greater(large, other), g, tie);
}

static ad_var normal_cdf(ad_var x) { return ad_scale(ad_erfc(ad_scale(x, -AD_SQRT_HALF)), 0.5); }
static ad_var normal_density(ad_var x) { return ad_scale(ad_exp(ad_scale(ad_square(x), -0.5)), AD_INV_SQRT_2PI); }

/* The second derivative of gelu_tanh, with u as in the table. */
static ad_var gelu_tanh_curve(ad_var x) {
    ad_var u = ad_scale(ad_add(x, ad_scale(ad_mul(x, ad_square(x)), 0.044715)), AD_GELU_SCALE);
    ad_var q = ad_scale(ad_square(x), 3 * 0.044715), by_x = ad_scale(plus(q, 1), AD_GELU_SCALE);
    ad_var twice = ad_scale(plus(ad_scale(q, 2), 1), 2 * AD_GELU_SCALE);
    ad_var s = ad_sigmoid(u), rest = ad_sigmoid(ad_neg(u));
    ad_var bend = ad_mul(ad_sub(rest, s), ad_mul(x, ad_square(by_x)));
    return ad_masked_mul(ad_mul(s, rest), ad_add(twice, bend));
}

static ad_var silu_slope(ad_var x) {
    return ad_masked_mul(ad_sigmoid(x), plus(ad_masked_mul(ad_sigmoid(ad_neg(x)), x), 1));
}

static ad_var mish_slope(ad_var x) {
    ad_var t = ad_tanh(ad_softplus(x)), change = ad_sub(number(x, 1), ad_square(t));
    return ad_add(t, ad_masked_mul(ad_mul(ad_sigmoid(x), change), x));
}

static ad_var bce_slope(ad_var g, ad_var b) {
    ad_var rest = ad_sub(NUMBER(1), b);
    return ad_sub(ad_masked_div(rest, ad_sub(NUMBER(1), g)), ad_masked_div(b, g));
}

static ad_var selu_rule(ad_var g, ad_var x) {
    ad_var left = ad_masked_mul(ad_scale(g, AD_SELU_SCALE * AD_SELU_ALPHA), ad_exp(x));
    return ad_where(ad_greater_equal(x, number(x, 0)), ad_scale(g, AD_SELU_SCALE), left);
}

static ad_var hardswish_rule(ad_var g, ad_var x) {
    ad_var middle = ad_scale(ad_masked_mul(g, plus(ad_scale(x, 2), 3)), 1.0 / 6);
    ad_var not_left = ad_where(ad_greater_equal(x, number(x, 3)), g, middle);
    return ad_where(ad_less_equal(x, number(x, -3)), number(g, 0), not_left);
}

/* Near 0 by the series of elementary.h, so that every further derivative is right there too; elsewhere with
 * cos(pi x) = cos(pi h) for the h in [-1, 1] that differs from x by an even number, so that large x keep their digits. */
static ad_var sinc_slope(ad_var x) {
    ad_var z = ad_square(x), series = number(x, ad_sinc_coefficient(AD_SINC_TERMS));
    for (int k = AD_SINC_TERMS - 1; k >= 1; k--) series = plus(ad_mul(series, z), ad_sinc_coefficient(k));
    ad_var h = ad_sub(x, ad_scale(ad_round(ad_scale(x, 0.5)), 2));
    ad_var formula = ad_div(ad_sub(ad_cos(ad_scale(h, AD_PI)), ad_sinc(x)), x);
    ad_var slope = ad_where(inside(x, -0.25, 0.25), ad_mul(x, series), formula);
    return ad_where(ad_isinf(x), number(x, 0), slope);
}

/* y log a, which is 0 at a = 0 for b >= 0. */
static ad_var power_log(ad_var a, ad_var b, ad_var y) {
    ad_var vanishes = ad_logical_and(ad_equal(a, number(a, 0)), ad_greater_equal(b, number(b, 0)));
    return ad_where(vanishes, number(y, 0), ad_masked_mul(y, ad_log(a)));
}

static ad_var xlogy_rule(ad_var g, ad_var a, ad_var b) {
    ad_var vanishes = ad_logical_and(ad_equal(a, number(a, 0)), ad_less_equal(b, number(b, 0)));
    return ad_where(vanishes, number(g, 0), ad_masked_mul(g, ad_log(b)));
}

/* a / (a^2 + b^2), whose squares may overflow and vanish. Infinitely far out it is 0. */
static ad_var over_squares(ad_var a, ad_var b) {
    ad_var length = ad_hypot(a, b), far = ad_isinf(ad_maximum(ad_abs(a), ad_abs(b)));
    return ad_where(far, number(a, 0), ad_div(ad_div(a, length), length));
}

/* exp(a - y) for y = log(exp(a) + exp(b)); of two equal infinities one half each, or nothing if they are -inf. */
static ad_var logaddexp_share(ad_var a, ad_var b) {
    ad_var same = ad_logical_and(ad_isinf(a), ad_equal(a, b));
    ad_var of_infinity = ad_where(ad_greater(a, number(a, 0)), number(a, 0.5), number(a, 0));
    return ad_where(same, of_infinity, ad_sigmoid(ad_sub(a, b)));
}

/* ---- one input -------------------------------------------------------------------------------------------------- */

static ad_status unary_backward(ad_unary op, ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar)
        ad_kernels_get()->unary_back(op, &adjoint->seed[0], call->in[0], &call->out[0], x_bar, add, call->attrs);
    return AD_OK;
}

/* The Jacobian of an elementwise op is diagonal, its own transpose: the rule for cotangents serves tangents as well. */
#define DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                         \
    static inline double row##_value(double x, double b, const double *c) {                                          \
        (void)b, (void)c;                                                                                            \
        return (T)(value_);                                                                                          \
    }                                                                                                                \
    static ad_pair row##_adjoint(double g, double x, double b, double y, const double *c) {                          \
        (void)x, (void)b, (void)y, (void)c;                                                                          \
        return (ad_pair){g == 0 ? 0 : (x_bar), 0};                                                                   \
    }                                                                                                                \
    static const ad_scalar_rule row##_scalar = {row##_value, row##_adjoint};                                         \
    static ad_status row##_forward(ad_call *call) {                                                                  \
        ad_kernels_get()->unary(AD_UNARY_##row, call->in[0], &call->out[0], call->attrs);                            \
        return AD_OK;                                                                                                \
    }                                                                                                                \
    static ad_status row##_backward(ad_call *call, ad_adjoint *adjoint) {                                            \
        return unary_backward(AD_UNARY_##row, call, adjoint);                                                        \
    }                                                                                                                \
    static void row##_vjp(ad_vjp *v) {                                                                               \
        const double *c = ad_vjp_attrs(v);                                                                           \
        ad_var g = ad_vjp_seed(v, 0), x = saved_input(v, saves_, 0), y = saved_result(v, saves_);                    \
        (void)x, (void)y, (void)c;                                                                                   \
        ad_vjp_give(v, 0, vjp_);                                                                                     \
    }                                                                                                                \
    static void row##_jvp(ad_jvp *j) {                                                                               \
        const double *c = ad_jvp_attrs(j);                                                                           \
        ad_var g = ad_jvp_tangent(j, 0), x = ad_jvp_input(j, 0), y = ad_jvp_result(j, 0);                            \
        (void)x, (void)y, (void)c;                                                                                   \
        ad_jvp_give(j, 0, vjp_);                                                                                     \
    }

#define DEFINE_UNARY_OP(row, saves_, shape_, formula_, adjoint_, convention_, sample_, ...)                          \
    const ad_op ad_op_##row = {.name = #row,                                                                         \
                               .inputs = 1,                                                                          \
                               .elementwise = true,                                                                  \
                               .saves = saves_,                                                                      \
                               .shape = shape_,                                                                      \
                               .forward = row##_forward,                                                             \
                               .vjp = row##_vjp,                                                                     \
                               .backward = row##_backward,                                                           \
                               .batches = ad_batches_always,                                                         \
                               .jvp = row##_jvp,                                                                     \
                               .scalar = &row##_scalar,                                                              \
                               .depends = ad_depends_elementwise,                                                    \
                               .formula = formula_,                                                                  \
                               .adjoint = {adjoint_},                                                                \
                               .convention = convention_,                                                            \
                               .sample = sample_,                                                                    \
                               __VA_ARGS__};

/* The constructor decides on the scalar path, and computes, in place. */
#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_)                                \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    static void row##_flat_value(ad_dtype dtype, int64_t n, const void *x, const void *b, void *y) {                 \
        (void)b;                                                                                                     \
        ad_kernels_get()->unary_flat(AD_UNARY_##row, dtype, n, x, y, NULL);                                          \
    }                                                                                                                \
    static void row##_flat_adjoint(ad_dtype dtype, int64_t n, int i, const void *g, const void *x, const void *b,    \
                                   const void *y, void *bar, bool add) {                                             \
        (void)i, (void)b;                                                                                            \
        ad_kernels_get()->unary_back_flat(AD_UNARY_##row, dtype, n, g, x, y, bar, add, NULL);                        \
    }                                                                                                                \
    static const ad_flat_rule row##_flat = {row##_flat_value, row##_flat_adjoint};                                   \
    DEFINE_UNARY_OP(row, saves_, ad_shape_like_input, formula_, adjoint_, convention_, sample_, .flat = &row##_flat) \
    ad_var ad_##row##_at(const char *where, ad_var x) {                                                              \
        const ad_node *node;                                                                                         \
        if (x.tape && x.tape->count < x.tape->fast_end && ad_fast_operand(x.tape, x, &node))                         \
            return ad_fast_push(x.tape, where, &ad_op_##row, row##_value(node->value.f64, 0, NULL), node->flags,     \
                                x.index, 0, 1);                                                                      \
        return ad_apply_1(where, &ad_op_##row, x, NULL);                                                             \
    }
AD_UNARY_ROWS(X)
#undef X

/* ---- one input and constants --------------------------------------------------------------------------------------- */

static void show_constant(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%.6g", *(const double *)attrs);
}

static void show_bounds(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%.6g, %.6g", ((const double *)attrs)[0], ((const double *)attrs)[1]);
}

static const ad_attr bounds_attrs[] = {{"low", AD_ATTR_DOUBLE, 0, AD_REQUIRED, 0},
                                       {"high", AD_ATTR_DOUBLE, sizeof(double), AD_REQUIRED, 0},
                                       AD_ATTRS_END};

static ad_status celu_shape(ad_call *call) {
    if (*(const double *)call->attrs == 0) return ad_fail(call, AD_ERR_VALUE, "alpha is 0, but x is divided by it");
    return ad_shape_like_input(call);
}

static ad_status polygamma_shape(ad_call *call) {
    const double n = *(const double *)call->attrs;
    if (n >= 0 && n <= AD_POLYGAMMA_ORDERS && n == rint(n)) return ad_shape_like_input(call);
    return ad_fail(call, AD_ERR_VALUE, "the order is %g, but it must be a whole number from 0 to %d", n,
                   AD_POLYGAMMA_ORDERS);
}

static ad_status bounds_shape(ad_call *call) {
    const double *c = call->attrs;
    if (c[0] <= c[1]) return ad_shape_like_input(call);
    return ad_fail(call, AD_ERR_VALUE, "the bounds are %g and %g, but the first must not be above the second", c[0],
                   c[1]);
}

#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_, shape_, constant_)             \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    DEFINE_UNARY_OP(row, saves_, shape_, formula_, adjoint_, convention_, sample_, .attrs_size = sizeof(double),     \
                    .attrs = AD_ATTRS({constant_, AD_ATTR_DOUBLE, 0, AD_REQUIRED, 0}), .show_attrs = show_constant)  \
    ad_var ad_##row##_at(const char *where, ad_var x, double c) { return ad_apply_1(where, &ad_op_##row, x, &c); }
AD_UNARY_CONSTANT_ROWS(X)
#undef X

#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_)                                \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    DEFINE_UNARY_OP(row, saves_, bounds_shape, formula_, adjoint_, convention_, sample_,                             \
                    .attrs_size = 2 * sizeof(double), .attrs = bounds_attrs, .show_attrs = show_bounds)              \
    ad_var ad_##row##_at(const char *where, ad_var x, double low, double high) {                                     \
        double c[] = {low, high};                                                                                    \
        return ad_apply_1(where, &ad_op_##row, x, c);                                                                \
    }
AD_UNARY_BOUNDS_ROWS(X)
#undef X

/* ---- steps --------------------------------------------------------------------------------------------------------- */

#define X(row, value_, formula_)                                                                                     \
    static ad_status row##_forward(ad_call *call) {                                                                  \
        ad_kernels_get()->unary(AD_UNARY_##row, call->in[0], &call->out[0], NULL);                                   \
        return AD_OK;                                                                                                \
    }                                                                                                                \
    const ad_op ad_op_##row = {                                                                                      \
        .name = #row,                                                                                                \
        .inputs = 1,                                                                                                 \
        .elementwise = true,                                                                                         \
        .derivative = AD_STOPS_GRADIENT,                                                                             \
        .shape = ad_shape_like_input,                                                                                \
        .forward = row##_forward,                                                                                    \
        .formula = formula_,                                                                                         \
        .convention = "the derivative is 0 everywhere",                                                              \
        .sample = ad_sample_one_away_from_integers,                                                                  \
    };                                                                                                               \
    ad_var ad_##row##_at(const char *where, ad_var x) { return ad_apply_1(where, &ad_op_##row, x, NULL); }
AD_STEP_ROWS(X)
#undef X

/* ---- two inputs that broadcast ---------------------------------------------------------------------------------- */

static ad_status binary_shape(ad_call *call) {
    const ad_view *a = call->in[0], *b = call->in[1];
    call->out[0].dtype = a->dtype;
    if (a->dtype == b->dtype && ad_dtype_is_float(a->dtype) && ad_same_shape(&a->shape, &b->shape)) {
        call->out[0].shape = a->shape;
        return AD_OK;
    }
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (!status) status = ad_shape_broadcast_inputs(call, 0, 1, &call->out[0].shape);
    return status;
}

/* Input i, stretched if need be. */
static const ad_view *stretched(const ad_call *call, int i, const ad_shape *shape, ad_view *scratch) {
    if (ad_same_shape(&call->in[i]->shape, shape)) return call->in[i];
    (void)!ad_view_broadcast(call->in[i], shape, scratch);
    return scratch;
}

static ad_status binary_forward(ad_binary op, ad_call *call) {
    const ad_view *y = &call->out[0];
    ad_view a, b;
    ad_kernels_get()->binary(op, stretched(call, 0, &y->shape, &a), stretched(call, 1, &y->shape, &b), y);
    return AD_OK;
}

static ad_status binary_backward(ad_binary op, ad_call *call, ad_adjoint *adjoint) {
    const ad_view *g = &adjoint->seed[0], *y = &call->out[0];
    ad_view a_scratch, b_scratch;
    const ad_view *a = stretched(call, 0, &g->shape, &a_scratch), *b = stretched(call, 1, &g->shape, &b_scratch);
    for (int i = 0; i < 2; i++) {
        if (!ad_wants(adjoint, i)) continue;
        if (op == AD_BINARY_add) {
            ad_pass(adjoint, i, 0, g); /* the seed itself: nothing is copied */
        } else if (ad_same_shape(&call->in[i]->shape, &g->shape)) {
            bool add;
            const ad_view *bar = ad_into(adjoint, i, &add);
            if (bar) ad_kernels_get()->binary_back(op, i, g, a, b, y, bar, add);
        } else {
            ad_view bar = ad_scratch_view(call, g->dtype, g->shape);
            if (!bar.data) return AD_ERR_OOM;
            ad_kernels_get()->binary_back(op, i, g, a, b, y, &bar, false);
            ad_give(adjoint, i, &bar);
        }
    }
    return AD_OK;
}

/* Of an input that is stretched, the tangent is too: the contributions below have the result's shape then. */
static ad_var stretched_tangent(ad_jvp *j, int i) {
    return ad_broadcast_to(ad_jvp_tangent(j, i), ad_value(ad_jvp_result(j, 0)).shape);
}

/* A loss of shapes that differ is a mistake, even where they broadcast: [n,1] against [n] would give [n,n]. */
static ad_status loss_shape(ad_call *call) {
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status) return status;
    ad_set_out(call, 0, call->in[0]->dtype, call->in[0]->shape);
    if (ad_shape_equal(&call->in[0]->shape, &call->in[1]->shape)) return AD_OK;
    return ad_fail(call, AD_ERR_SHAPE, "prediction and target differ in shape: %s, %s (a loss never broadcasts)",
                   ad_describe(call, 0), ad_describe(call, 1));
}

#define DEFINE_BINARY(broadcasts_, shape_, row, value_, a_bar, b_bar, saves_, a_vjp, b_vjp, formula_, a_adjoint,     \
                      b_adjoint, convention_, sample_)                                                               \
    static inline double row##_value(double a, double b, const double *c) {                                          \
        (void)c;                                                                                                     \
        return (T)(value_);                                                                                          \
    }                                                                                                                \
    static ad_pair row##_adjoint(double g, double a, double b, double y, const double *c) {                          \
        (void)a, (void)b, (void)y, (void)c;                                                                          \
        return (ad_pair){g == 0 ? 0 : (a_bar), g == 0 ? 0 : (b_bar)};                                                \
    }                                                                                                                \
    static const ad_scalar_rule row##_scalar = {row##_value, row##_adjoint};                                         \
    static ad_status row##_forward(ad_call *call) { return binary_forward(AD_BINARY_##row, call); }                  \
    static ad_status row##_backward(ad_call *call, ad_adjoint *adjoint) {                                            \
        return binary_backward(AD_BINARY_##row, call, adjoint);                                                      \
    }                                                                                                                \
    static void row##_flat_value(ad_dtype dtype, int64_t n, const void *a, const void *b, void *y) {                 \
        ad_kernels_get()->binary_flat(AD_BINARY_##row, dtype, n, a, b, y);                                           \
    }                                                                                                                \
    static void row##_flat_adjoint(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b,    \
                                   const void *y, void *bar, bool add) {                                             \
        ad_kernels_get()->binary_back_flat(AD_BINARY_##row, i, dtype, n, g, a, b, y, bar, add);                      \
    }                                                                                                                \
    static const ad_flat_rule row##_flat = {row##_flat_value, row##_flat_adjoint};                                   \
    static void row##_vjp(ad_vjp *v) {                                                                               \
        ad_var g = ad_vjp_seed(v, 0), y = saved_result(v, saves_);                                                   \
        ad_var a = saved_input(v, saves_, 0), b = saved_input(v, saves_, 1);                                         \
        (void)a, (void)b, (void)y;                                                                                   \
        if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, a_vjp);                                                            \
        if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, b_vjp);                                                            \
    }                                                                                                                \
    static void row##_jvp(ad_jvp *j) {                                                                               \
        ad_var a = ad_jvp_input(j, 0), b = ad_jvp_input(j, 1), y = ad_jvp_result(j, 0), g;                           \
        (void)a, (void)b, (void)y;                                                                                   \
        if (ad_jvp_moves(j, 0)) g = stretched_tangent(j, 0), ad_jvp_give(j, 0, a_vjp);                               \
        if (ad_jvp_moves(j, 1)) g = stretched_tangent(j, 1), ad_jvp_give(j, 0, b_vjp);                               \
    }                                                                                                                \
    const ad_op ad_op_##row = {                                                                                      \
        .name = #row,                                                                                                \
        .inputs = 2,                                                                                                 \
        .broadcasts = broadcasts_,                                                                                   \
        .elementwise = true,                                                                                         \
        .saves = saves_,                                                                                             \
        .shape = shape_,                                                                                             \
        .forward = row##_forward,                                                                                    \
        .vjp = row##_vjp,                                                                                            \
        .backward = row##_backward,                                                                                  \
        .batches = ad_batches_always,                                                                                \
        .jvp = row##_jvp,                                                                                            \
        .scalar = &row##_scalar,                                                                                     \
        .flat = &row##_flat,                                                                                         \
        .depends = ad_depends_elementwise,                                                                           \
        .formula = formula_,                                                                                         \
        .adjoint = {a_adjoint, b_adjoint},                                                                           \
        .convention = convention_,                                                                                   \
        .sample = sample_,                                                                                           \
    };                                                                                                               \
    ad_var ad_##row##_at(const char *where, ad_var a, ad_var b) {                                                    \
        ad_tape *tape = a.tape;                                                                                      \
        const ad_node *m, *n;                                                                                        \
        if (tape && tape->count < tape->fast_end && ad_fast_operand(tape, a, &m) && ad_fast_operand(tape, b, &n))    \
            return ad_fast_push(tape, where, &ad_op_##row, row##_value(m->value.f64, n->value.f64, NULL),            \
                                (uint16_t)(m->flags | n->flags), a.index, b.index, 2);                               \
        return ad_apply_2(where, &ad_op_##row, a, b, NULL);                                                          \
    }

#define X(...) DEFINE_BINARY(true, binary_shape, __VA_ARGS__)
AD_BINARY_ROWS(X)
#undef X

#define X(...) DEFINE_BINARY(false, loss_shape, __VA_ARGS__)
AD_LOSS_ROWS(X)
#undef X
