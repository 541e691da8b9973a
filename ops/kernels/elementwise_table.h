/* The elementwise operations: one row is all there is to say about one operation. Kernels (compiled once per instruction
 * set), the tape's scalar path and the op descriptors are made from these rows, so they cannot disagree. A new row also
 * needs its constructor and its place in the list of adtape/ops.h.
 *
 * Numbers, where T is float or double; x, a, b are the inputs, y the value, g the cotangent of y, c[] the constants of
 * this application (double). AD_EXP and so on are branch-free and defined per type (elementary.h).
 *   value      y
 *   x_bar      the contribution to x; it only counts where g is not 0: a masked-out gradient is exactly 0, never 0 * inf
 * Rules, where g, x, a, b, y are variables, c[] as above and NUMBER(n) a constant; kernels do not look at these.
 *   saves      what the derivative reads
 *   vjp        the contribution to x, in ops
 *   formula, adjoint, convention, sample    as in ad_op */
#ifndef AD_ELEMENTWISE_TABLE_H
#define AD_ELEMENTWISE_TABLE_H

/*  X(name, value, x_bar, saves, vjp, formula, adjoint, convention, sample) */
#define AD_UNARY_ROWS(X)                                                                                               \
    X(neg, -x, -g, AD_SAVES_NOTHING, ad_neg(g),                                                                        \
      "$y = -$0", "~0 -= ~y", NULL, ad_sample_one_normal)                                                              \
    X(exp, AD_EXP(x), g * y, AD_SAVES_RESULT(0), ad_masked_mul(g, y),                                                  \
      "$y = exp($0)", "~0 += ~y * $y", NULL, ad_sample_one_normal)                                                     \
    X(log, AD_LOG(x), g / x, AD_SAVES_INPUT(0), ad_masked_div(g, x),                                                   \
      "$y = log($0)", "~0 += ~y / $0", "at 0: infinity, 0 where ~y is 0", ad_sample_one_positive)                      \
    X(tanh, AD_TANH(x), g * ((T)1 - y * y), AD_SAVES_RESULT(0),                                                        \
      ad_masked_mul(g, ad_sub(NUMBER(1), ad_mul(y, y))),                                                               \
      "$y = tanh($0)", "~0 += ~y * (1 - $y^2)", NULL, ad_sample_one_normal)                                            \
    /* 1 - y would lose every digit for large x; y(-x) does not */                                                     \
    X(sigmoid, AD_SIGMOID(x), g * (y * AD_SIGMOID(-x)), AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),                        \
      ad_masked_mul(g, ad_mul(y, ad_sigmoid(ad_neg(x)))),                                                              \
      "$y = sigmoid($0)", "~0 += ~y * $y * sigmoid(-$0)", NULL, ad_sample_one_normal)                                  \
    X(relu, x <= (T)0 ? (T)0 : x, y > (T)0 ? g : (T)0, AD_SAVES_RESULT(0),                                             \
      ad_where(ad_greater(y, NUMBER(0)), g, NUMBER(0)),                                                                \
      "$y = max($0, 0)", "~0 += [$y > 0] ~y", "at 0: 0, the subgradient of least norm", ad_sample_one_away_from_0)

/*  The same with a constant c[0], which their constructors take after x. */
#define AD_UNARY_CONSTANT_ROWS(X)                                                                                      \
    X(scale, (T)c[0] * x, (T)c[0] * g, AD_SAVES_NOTHING, ad_scale(g, c[0]),                                            \
      "$y = $a * $0", "~0 += $a * ~y", NULL, ad_sample_one_normal_with_constant)

/*  X(name, value, a_bar, b_bar, saves, a_vjp, b_vjp, formula, a_adjoint, b_adjoint, convention, sample) */
#define AD_BINARY_ROWS(X)                                                                                              \
    X(add, a + b, g, g, AD_SAVES_NOTHING, g, g,                                                                        \
      "$y = $0 + $1", "~0 += ~y", "~1 += ~y", NULL, ad_sample_two_normal)                                              \
    X(sub, a - b, g, -g, AD_SAVES_NOTHING, g, ad_neg(g),                                                               \
      "$y = $0 - $1", "~0 += ~y", "~1 -= ~y", NULL, ad_sample_two_normal)                                              \
    X(mul, a * b, g * b, g * a, AD_SAVES_INPUTS, ad_masked_mul(g, b), ad_masked_mul(g, a),                             \
      "$y = $0 * $1", "~0 += ~y * $1", "~1 += ~y * $0", NULL, ad_sample_two_normal)                                    \
    X(div, a / b, g / b, -g * (a / b) / b, AD_SAVES_INPUTS,                                                            \
      ad_masked_div(g, b), ad_neg(ad_masked_div(ad_masked_mul(g, ad_div(a, b)), b)),                                   \
      "$y = $0 / $1", "~0 += ~y / $1", "~1 -= ~y * $0 / $1^2", NULL, ad_sample_two_away_from_0)                        \
    X(masked_mul, a == (T)0 ? (T)0 : a * b, g * b, a == (T)0 ? (T)0 : g * a, AD_SAVES_INPUTS,                          \
      ad_masked_mul(g, b), ad_masked_mul(a, g),                                                                        \
      "$y = [$0 != 0] $0 * $1", "~0 += ~y * $1", "~1 += [$0 != 0] ~y * $0",                                            \
      "0 where $0 is 0, whatever $1 is", ad_sample_two_away_from_0)                                                    \
    X(masked_div, a == (T)0 ? (T)0 : a / b, g / b, a == (T)0 ? (T)0 : -g * (a / b) / b, AD_SAVES_INPUTS,               \
      ad_masked_div(g, b), ad_neg(ad_masked_div(ad_masked_mul(g, ad_masked_div(a, b)), b)),                            \
      "$y = [$0 != 0] $0 / $1", "~0 += ~y / $1", "~1 -= [$0 != 0] ~y * $0 / $1^2",                                     \
      "0 where $0 is 0, whatever $1 is", ad_sample_two_away_from_0)

#endif
