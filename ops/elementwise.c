/* Elementwise arithmetic and functions. What each is stands in one row of ops/kernels/elementwise_table.h; here the rows
 * become descriptors and constructors. Broadcasting is the same for all of them and is here too. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/elementary.h"
#include "ops/kernels/special.h"
#include "ops/ops.h"

#define NUMBER(n) ad_number(g.tape, ad_value(g).dtype, n)

/* A variable of the application if the row saves it; the rule does not read it otherwise. */
static ad_var saved_input(ad_vjp *v, uint32_t saves, int i) {
    return saves & AD_SAVES_INPUT(i) ? ad_vjp_input(v, i) : ad_vjp_seed(v, 0);
}
static ad_var saved_result(ad_vjp *v, uint32_t saves) {
    return saves & AD_SAVES_RESULT(0) ? ad_vjp_result(v, 0) : ad_vjp_seed(v, 0);
}

/* The Jacobian of an elementwise op is diagonal, its own transpose: the rule for cotangents serves tangents as well. */

/* The scalar rules compute in double. */
typedef double T;

/* ---- rules that are too long for a row ---------------------------------------------------------------------------- */

/* Zeros of the shape of g, whatever g is. */
static ad_var zeros_like(ad_var g) { return ad_where(ad_index(g.tape, 0), g, NUMBER(0)); }

/* low < x < high */
static ad_var inside(ad_var g, double low, double high) {
    return ad_logical_and(ad_greater(g, NUMBER(low)), ad_less(g, NUMBER(high)));
}
static ad_var outside(ad_var g, double low, double high) {
    return ad_logical_or(ad_less(g, NUMBER(low)), ad_greater(g, NUMBER(high)));
}

/* What of g goes to `large` where the larger of two counts: all, half of a tie, or nothing. */
static ad_var share(ad_var g, ad_var large, ad_var other) {
    ad_var tie = ad_where(ad_equal(large, other), ad_scale(g, 0.5), NUMBER(0));
    return ad_where(ad_greater(large, other), g, tie);
}

static ad_var normal_cdf(ad_var x) { return ad_scale(ad_erfc(ad_scale(x, -AD_SQRT_HALF)), 0.5); }
static ad_var normal_density(ad_var x) { return ad_scale(ad_exp(ad_scale(ad_square(x), -0.5)), AD_INV_SQRT_2PI); }

static ad_var gelu_tanh_slope(ad_var g) {
    ad_var u = ad_scale(ad_add(g, ad_scale(ad_mul(g, ad_square(g)), 0.044715)), AD_GELU_SCALE);
    ad_var u_slope = ad_scale(ad_add(ad_scale(ad_square(g), 3 * 0.044715), NUMBER(1)), AD_GELU_SCALE);
    ad_var s = ad_sigmoid(u);
    return ad_add(s, ad_mul(ad_mul(g, u_slope), ad_mul(s, ad_sigmoid(ad_neg(u)))));
}

static ad_var mish_slope(ad_var g) {
    ad_var t = ad_tanh(ad_softplus(g));
    return ad_add(t, ad_mul(ad_mul(g, ad_sigmoid(g)), ad_sub(NUMBER(1), ad_square(t))));
}

static ad_var selu_rule(ad_var g, ad_var x) {
    ad_var left = ad_masked_mul(ad_scale(g, AD_SELU_SCALE * AD_SELU_ALPHA), ad_exp(x));
    return ad_where(ad_less(x, NUMBER(0)), left, ad_scale(g, AD_SELU_SCALE));
}

static ad_var hardswish_rule(ad_var g, ad_var x) {
    ad_var middle = ad_masked_mul(g, ad_add(ad_scale(x, 1.0 / 3), NUMBER(0.5)));
    return ad_where(inside(x, -3, 3), middle, ad_where(ad_greater(x, NUMBER(0)), g, NUMBER(0)));
}

/* Near 0 by the series of elementary.h, so that every further derivative is right there too. */
static ad_var sinc_slope(ad_var g) {
    ad_var z = ad_square(g), series = NUMBER(ad_sinc_coefficient(AD_SINC_TERMS));
    for (int k = AD_SINC_TERMS - 1; k >= 1; k--)
        series = ad_add(ad_mul(series, z), NUMBER(ad_sinc_coefficient(k)));
    ad_var formula = ad_div(ad_sub(ad_cos(ad_scale(g, AD_PI)), ad_sinc(g)), g);
    return ad_where(inside(g, -0.25, 0.25), ad_mul(g, series), formula);
}

/* a^b log a, which is 0 at a = 0 for b >= 0. */
static ad_var power_log(ad_var a, ad_var b, ad_var g) {
    ad_var vanishes = ad_logical_and(ad_equal(a, NUMBER(0)), ad_greater_equal(b, NUMBER(0)));
    return ad_where(vanishes, NUMBER(0), ad_masked_mul(g, ad_log(a)));
}

/* exp(a - y) for y = log(exp(a) + exp(b)), and 0 where y is -inf. */
static ad_var logaddexp_share(ad_var a, ad_var b, ad_var g) {
    return ad_where(ad_greater(g, NUMBER(-INFINITY)), ad_sigmoid(ad_sub(a, b)), NUMBER(0));
}

/* ---- one input -------------------------------------------------------------------------------------------------- */

static ad_status unary_backward(ad_unary op, ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar)
        ad_kernels_get()->unary_back(op, &adjoint->seed[0], call->in[0], &call->out[0], x_bar, add, call->attrs);
    return AD_OK;
}

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

#define DEFINE_UNARY_OP(row, saves_, formula_, adjoint_, convention_, sample_, ...)                                  \
    const ad_op ad_op_##row = {                                                                                      \
        .name = #row,                                                                                                \
        .inputs = 1,                                                                                                 \
        .saves = saves_,                                                                                             \
        .shape = ad_shape_like_input,                                                                                \
        .forward = row##_forward,                                                                                    \
        .vjp = row##_vjp,                                                                                            \
        .backward = row##_backward,                                                                                  \
        .jvp = row##_jvp,                                                                                            \
        .scalar = &row##_scalar,                                                                                     \
        .formula = formula_,                                                                                         \
        .adjoint = {adjoint_},                                                                                       \
        .convention = convention_,                                                                                   \
        .sample = sample_,                                                                                           \
        __VA_ARGS__};

/* The constructor decides on the scalar path, and computes, in place. */
#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_)                                \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    DEFINE_UNARY_OP(row, saves_, formula_, adjoint_, convention_, sample_, .attrs_size = 0)                          \
    ad_var ad_##row##_at(const char *where, ad_var x) {                                                              \
        const ad_node *node;                                                                                         \
        if (x.tape && x.tape->count < x.tape->fast_end && ad_fast_operand(x.tape, x, &node))                         \
            return ad_fast_push(x.tape, where, &ad_op_##row, row##_value(node->value.f64, 0, NULL), node->flags,     \
                                x.index, 0, 1);                                                                      \
        return ad_apply_1(where, &ad_op_##row, x, NULL);                                                             \
    }
AD_UNARY_ROWS(X)
#undef X

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

#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_)                                \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    DEFINE_UNARY_OP(row, saves_, formula_, adjoint_, convention_, sample_, .attrs_size = sizeof(double),             \
                    .show_attrs = show_constant)                                                                     \
    ad_var ad_##row##_at(const char *where, ad_var x, double c) { return ad_apply_1(where, &ad_op_##row, x, &c); }
AD_UNARY_CONSTANT_ROWS(X)
#undef X

#define X(row, value_, x_bar, saves_, vjp_, formula_, adjoint_, convention_, sample_)                                \
    DEFINE_UNARY_RULES(row, value_, x_bar, saves_, vjp_)                                                             \
    DEFINE_UNARY_OP(row, saves_, formula_, adjoint_, convention_, sample_, .attrs_size = 2 * sizeof(double),         \
                    .show_attrs = show_bounds)                                                                       \
    ad_var ad_##row##_at(const char *where, ad_var x, double low, double high) {                                     \
        double c[] = {low, high};                                                                                    \
        return ad_apply_1(where, &ad_op_##row, x, c);                                                                \
    }
AD_UNARY_BOUNDS_ROWS(X)
#undef X

#define X(row, value_, formula_)                                                                                     \
    static ad_status row##_forward(ad_call *call) {                                                                  \
        ad_kernels_get()->unary(AD_UNARY_##row, call->in[0], &call->out[0], NULL);                                   \
        return AD_OK;                                                                                                \
    }                                                                                                                \
    const ad_op ad_op_##row = {                                                                                      \
        .name = #row,                                                                                                \
        .inputs = 1,                                                                                                 \
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
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (!status) status = ad_shape_broadcast_inputs(call, 0, 1, &call->out[0].shape);
    call->out[0].dtype = call->in[0]->dtype;
    return status;
}

static ad_status binary_forward(ad_binary op, ad_call *call) {
    const ad_view *y = &call->out[0];
    ad_view a = ad_stretched(call->in[0], &y->shape), b = ad_stretched(call->in[1], &y->shape);
    ad_kernels_get()->binary(op, &a, &b, y);
    return AD_OK;
}

static ad_status binary_backward(ad_binary op, ad_call *call, ad_adjoint *adjoint) {
    const ad_view *g = &adjoint->seed[0], *y = &call->out[0];
    ad_view a = ad_stretched(call->in[0], &g->shape), b = ad_stretched(call->in[1], &g->shape);
    for (int i = 0; i < 2; i++) {
        if (!ad_wants(adjoint, i)) continue;
        if (op == AD_BINARY_add) {
            ad_pass(adjoint, i, 0, g); /* the seed itself: nothing is copied */
        } else if (ad_shape_equal(&call->in[i]->shape, &g->shape)) {
            bool add;
            const ad_view *bar = ad_into(adjoint, i, &add);
            if (bar) ad_kernels_get()->binary_back(op, i, g, &a, &b, y, bar, add);
        } else {
            ad_view bar = ad_scratch_view(call, g->dtype, g->shape);
            if (!bar.data) return AD_ERR_OOM;
            ad_kernels_get()->binary_back(op, i, g, &a, &b, y, &bar, false);
            ad_give(adjoint, i, &bar);
        }
    }
    return AD_OK;
}

/* Of an input that is stretched, the tangent is too: the contributions below have the result's shape then. */
static ad_var stretched_tangent(ad_jvp *j, int i) {
    return ad_broadcast_to(ad_jvp_tangent(j, i), ad_value(ad_jvp_result(j, 0)).shape);
}

#define X(row, value_, a_bar, b_bar, saves_, a_vjp, b_vjp, formula_, a_adjoint, b_adjoint, convention_, sample_)     \
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
        .broadcasts = true,                                                                                          \
        .saves = saves_,                                                                                             \
        .shape = binary_shape,                                                                                       \
        .forward = row##_forward,                                                                                    \
        .vjp = row##_vjp,                                                                                            \
        .backward = row##_backward,                                                                                  \
        .jvp = row##_jvp,                                                                                            \
        .scalar = &row##_scalar,                                                                                     \
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
AD_BINARY_ROWS(X)
#undef X

/* ---- compositions ------------------------------------------------------------------------------------------------ */

ad_var ad_lerp_at(const char *where, ad_var a, ad_var b, ad_var w) {
    return ad_add_at(where, a, ad_mul_at(where, w, ad_sub_at(where, b, a)));
}
