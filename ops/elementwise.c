/* Elementwise arithmetic and functions. Value and derivative of each are a row of ops/kernels/elementwise_table.h, which
 * the kernels and the scalar rules below are made from; here is the rest of what each op is. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/elementary.h"
#include "ops/ops.h"

/* ---- from the table: scalar rule, forward and backward of each row ------------------------------------------------ */

typedef double T;

#define X(name, value, x_bar)                                                                                        \
    static inline double name##_value(double x, double b, const double *c) {                                         \
        (void)b, (void)c;                                                                                            \
        return value;                                                                                                \
    }                                                                                                                \
    static ad_pair name##_adjoint(double g, double x, double b, double y, const double *c) {                         \
        (void)x, (void)b, (void)y, (void)c;                                                                          \
        return (ad_pair){g == 0 ? 0 : (x_bar), 0};                                                                   \
    }                                                                                                                \
    static const ad_scalar_rule name##_scalar = {name##_value, name##_adjoint};                                      \
    static ad_status name##_forward(ad_call *call) {                                                                 \
        ad_kernels_get()->unary(AD_UNARY_##name, call->in[0], &call->out[0], call->attrs);                           \
        return AD_OK;                                                                                                \
    }                                                                                                                \
    static ad_status name##_backward(ad_call *call, ad_adjoint *adjoint) {                                           \
        return unary_backward(AD_UNARY_##name, call, adjoint);                                                       \
    }

static ad_status unary_backward(ad_unary op, ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar)
        ad_kernels_get()->unary_back(op, &adjoint->seed[0], call->in[0], &call->out[0], x_bar, add, call->attrs);
    return AD_OK;
}

AD_UNARY_ROWS(X)
#undef X

#define X(name, value, a_bar, b_bar)                                                                                 \
    static inline double name##_value(double a, double b, const double *c) {                                         \
        (void)c;                                                                                                     \
        return value;                                                                                                \
    }                                                                                                                \
    static ad_pair name##_adjoint(double g, double a, double b, double y, const double *c) {                         \
        (void)a, (void)b, (void)y, (void)c;                                                                          \
        return (ad_pair){g == 0 ? 0 : (a_bar), g == 0 ? 0 : (b_bar)};                                                \
    }                                                                                                                \
    static const ad_scalar_rule name##_scalar = {name##_value, name##_adjoint};                                      \
    static ad_status name##_forward(ad_call *call) { return binary_forward(AD_BINARY_##name, call); }               \
    static ad_status name##_backward(ad_call *call, ad_adjoint *adjoint) {                                           \
        return binary_backward(AD_BINARY_##name, call, adjoint);                                                     \
    }

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

AD_BINARY_ROWS(X)
#undef X

/* The constructors decide on the scalar path, and compute, in place. */
#define UNARY_CONSTRUCTOR(name)                                                                                      \
    ad_var ad_##name##_at(const char *where, ad_var x) {                                                             \
        const ad_node *node;                                                                                         \
        if (x.tape && x.tape->count < x.tape->fast_end && ad_fast_operand(x.tape, x, &node))                         \
            return ad_fast_push(x.tape, where, &ad_op_##name, name##_value(node->value.f64, 0, NULL), node->flags,   \
                                x.index, 0, 1);                                                                      \
        return ad_apply_1(where, &ad_op_##name, x, NULL);                                                            \
    }

#define BINARY_CONSTRUCTOR(name)                                                                                     \
    ad_var ad_##name##_at(const char *where, ad_var a, ad_var b) {                                                   \
        ad_tape *tape = a.tape;                                                                                      \
        const ad_node *m, *n;                                                                                        \
        if (tape && tape->count < tape->fast_end && ad_fast_operand(tape, a, &m) && ad_fast_operand(tape, b, &n))    \
            return ad_fast_push(tape, where, &ad_op_##name, name##_value(m->value.f64, n->value.f64, NULL),          \
                                (uint16_t)(m->flags | n->flags), a.index, b.index, 2);                               \
        return ad_apply_2(where, &ad_op_##name, a, b, NULL);                                                         \
    }

#define FROM_UNARY_ROW(row)                                                                                          \
    .name = #row, .inputs = 1, .shape = ad_shape_like_input, .forward = row##_forward, .backward = row##_backward,   \
    .scalar = &row##_scalar
#define FROM_BINARY_ROW(row)                                                                                         \
    .name = #row, .inputs = 2, .broadcasts = true, .shape = binary_shape, .forward = row##_forward,                  \
    .backward = row##_backward, .scalar = &row##_scalar

/* ---- arithmetic ------------------------------------------------------------------------------------------------------ */

static bool sample_divisor(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_normal(sample, a) && ad_sample_away(sample, b, 0.0, 0.5);
}

static bool sample_masked(ad_sample *sample, int k) {
    ad_shape a, b;
    return ad_sample_shape_pair(k, &a, &b) && ad_sample_away(sample, a, 0.0, 0.1) &&
           ad_sample_away(sample, b, 0.0, 0.5);
}

static void add_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    ad_vjp_give(v, 1, ad_vjp_seed(v, 0));
}

const ad_op ad_op_add = {
    FROM_BINARY_ROW(add),
    .saves = AD_SAVES_NOTHING,
    .vjp = add_vjp,
    .formula = "$y = $0 + $1",
    .adjoint = {"~0 += ~y", "~1 += ~y"},
    .sample = ad_sample_two_normal,
};
BINARY_CONSTRUCTOR(add)

static void sub_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_vjp_seed(v, 0));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_neg(ad_vjp_seed(v, 0)));
}

const ad_op ad_op_sub = {
    FROM_BINARY_ROW(sub),
    .saves = AD_SAVES_NOTHING,
    .vjp = sub_vjp,
    .formula = "$y = $0 - $1",
    .adjoint = {"~0 += ~y", "~1 -= ~y"},
    .sample = ad_sample_two_normal,
};
BINARY_CONSTRUCTOR(sub)

static void mul_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_masked_mul(g, ad_vjp_input(v, 1)));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_masked_mul(g, ad_vjp_input(v, 0)));
}

const ad_op ad_op_mul = {
    FROM_BINARY_ROW(mul),
    .saves = AD_SAVES_INPUTS,
    .vjp = mul_vjp,
    .formula = "$y = $0 * $1",
    .adjoint = {"~0 += ~y * $1", "~1 += ~y * $0"},
    .sample = ad_sample_two_normal,
};
BINARY_CONSTRUCTOR(mul)

static void div_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), a = ad_vjp_input(v, 0), b = ad_vjp_input(v, 1);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_masked_div(g, b));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_neg(ad_masked_div(ad_masked_mul(g, ad_div(a, b)), b)));
}

const ad_op ad_op_div = {
    FROM_BINARY_ROW(div),
    .saves = AD_SAVES_INPUTS,
    .vjp = div_vjp,
    .formula = "$y = $0 / $1",
    .adjoint = {"~0 += ~y / $1", "~1 -= ~y * $0 / $1^2"},
    .sample = sample_divisor,
};
BINARY_CONSTRUCTOR(div)

static void masked_mul_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), a = ad_vjp_input(v, 0), b = ad_vjp_input(v, 1);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_masked_mul(g, b));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_masked_mul(a, g));
}

const ad_op ad_op_masked_mul = {
    FROM_BINARY_ROW(masked_mul),
    .saves = AD_SAVES_INPUTS,
    .vjp = masked_mul_vjp,
    .formula = "$y = [$0 != 0] $0 * $1",
    .adjoint = {"~0 += ~y * $1", "~1 += [$0 != 0] ~y * $0"},
    .convention = "0 where $0 is 0, whatever $1 is",
    .sample = sample_masked,
};
BINARY_CONSTRUCTOR(masked_mul)

static void masked_div_vjp(ad_vjp *v) {
    ad_var g = ad_vjp_seed(v, 0), a = ad_vjp_input(v, 0), b = ad_vjp_input(v, 1);
    if (ad_vjp_wants(v, 0)) ad_vjp_give(v, 0, ad_masked_div(g, b));
    if (ad_vjp_wants(v, 1)) ad_vjp_give(v, 1, ad_neg(ad_masked_div(ad_masked_mul(g, ad_masked_div(a, b)), b)));
}

const ad_op ad_op_masked_div = {
    FROM_BINARY_ROW(masked_div),
    .saves = AD_SAVES_INPUTS,
    .vjp = masked_div_vjp,
    .formula = "$y = [$0 != 0] $0 / $1",
    .adjoint = {"~0 += ~y / $1", "~1 -= [$0 != 0] ~y * $0 / $1^2"},
    .convention = "0 where $0 is 0, whatever $1 is",
    .sample = sample_masked,
};
BINARY_CONSTRUCTOR(masked_div)

static void neg_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_neg(ad_vjp_seed(v, 0))); }

const ad_op ad_op_neg = {
    FROM_UNARY_ROW(neg),
    .saves = AD_SAVES_NOTHING,
    .vjp = neg_vjp,
    .formula = "$y = -$0",
    .adjoint = {"~0 -= ~y"},
    .sample = ad_sample_one_normal,
};
UNARY_CONSTRUCTOR(neg)

static void scale_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_scale(ad_vjp_seed(v, 0), *(const double *)ad_vjp_attrs(v)));
}

static void show_scale(const void *attrs, char *text, size_t size) {
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "%.6g", *(const double *)attrs);
}

static bool sample_scale(ad_sample *sample, int k) {
    sample->attrs.number[0] = -1.75;
    return ad_sample_one_normal(sample, k);
}

const ad_op ad_op_scale = {
    FROM_UNARY_ROW(scale),
    .attrs_size = sizeof(double),
    .saves = AD_SAVES_NOTHING,
    .vjp = scale_vjp,
    .formula = "$y = $a * $0",
    .adjoint = {"~0 += $a * ~y"},
    .show_attrs = show_scale,
    .sample = sample_scale,
};

ad_var ad_scale_at(const char *where, ad_var x, double c) { return ad_apply_1(where, &ad_op_scale, x, &c); }

/* ---- functions ---------------------------------------------------------------------------------------------------------- */

static void exp_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_masked_mul(ad_vjp_seed(v, 0), ad_vjp_result(v, 0))); }

const ad_op ad_op_exp = {
    FROM_UNARY_ROW(exp),
    .saves = AD_SAVES_RESULT(0),
    .vjp = exp_vjp,
    .formula = "$y = exp($0)",
    .adjoint = {"~0 += ~y * $y"},
    .sample = ad_sample_one_normal,
};
UNARY_CONSTRUCTOR(exp)

static void log_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_masked_div(ad_vjp_seed(v, 0), ad_vjp_input(v, 0))); }

static bool sample_positive(ad_sample *sample, int k) {
    ad_shape shape;
    return ad_sample_shape(k, &shape) && ad_sample_uniform(sample, shape, 0.2, 3.0);
}

const ad_op ad_op_log = {
    FROM_UNARY_ROW(log),
    .saves = AD_SAVES_INPUT(0),
    .vjp = log_vjp,
    .formula = "$y = log($0)",
    .adjoint = {"~0 += ~y / $0"},
    .convention = "at 0: infinity, 0 where ~y is 0",
    .sample = sample_positive,
};
UNARY_CONSTRUCTOR(log)

/* y' = 1 - y^2 */
static void tanh_vjp(ad_vjp *v) {
    ad_var y = ad_vjp_result(v, 0);
    ad_vjp_give(v, 0, ad_masked_mul(ad_vjp_seed(v, 0), ad_sub(ad_vjp_number(v, 1), ad_mul(y, y))));
}

const ad_op ad_op_tanh = {
    FROM_UNARY_ROW(tanh),
    .saves = AD_SAVES_RESULT(0),
    .vjp = tanh_vjp,
    .formula = "$y = tanh($0)",
    .adjoint = {"~0 += ~y * (1 - $y^2)"},
    .sample = ad_sample_one_normal,
};
UNARY_CONSTRUCTOR(tanh)

/* y' = y(x) y(-x): 1 - y would lose every digit for large x. */
static void sigmoid_vjp(ad_vjp *v) {
    ad_var slope = ad_mul(ad_vjp_result(v, 0), ad_sigmoid(ad_neg(ad_vjp_input(v, 0))));
    ad_vjp_give(v, 0, ad_masked_mul(ad_vjp_seed(v, 0), slope));
}

const ad_op ad_op_sigmoid = {
    FROM_UNARY_ROW(sigmoid),
    .saves = AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),
    .vjp = sigmoid_vjp,
    .formula = "$y = sigmoid($0)",
    .adjoint = {"~0 += ~y * $y * sigmoid(-$0)"},
    .sample = ad_sample_one_normal,
};
UNARY_CONSTRUCTOR(sigmoid)

static void relu_vjp(ad_vjp *v) {
    ad_var zero = ad_vjp_number(v, 0);
    ad_vjp_give(v, 0, ad_where(ad_greater(ad_vjp_result(v, 0), zero), ad_vjp_seed(v, 0), zero));
}

const ad_op ad_op_relu = {
    FROM_UNARY_ROW(relu),
    .saves = AD_SAVES_RESULT(0),
    .vjp = relu_vjp,
    .formula = "$y = max($0, 0)",
    .adjoint = {"~0 += [$y > 0] ~y"},
    .convention = "at 0: 0, the subgradient of least norm",
    .sample = ad_sample_one_away_from_0,
};
UNARY_CONSTRUCTOR(relu)
