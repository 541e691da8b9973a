/* The elementwise operations: one row is all there is to say about one operation. Kernels (compiled once per instruction
 * set), the tape's scalar path and the op descriptors are made from these rows, so they cannot disagree. A new row also
 * needs its constructor and its place in the list of adtape/ops.h.
 *
 * Numbers, where T is float or double; x, a, b are the inputs, y the value, g the cotangent of y, c[] the constants of
 * this application (double). AD_LIBM(f, x) is the C library's f for T, AD_EXP and so on are our own (elementary.h); AD_SIN,
 * AD_COS and AD_TAN are defined by who includes this.
 *   value      y
 *   x_bar      the contribution to x; it only counts where g is not 0: a masked-out gradient is exactly 0, never 0 * inf
 * Rules, where g, x, a, b, y are variables, c[] as above and NUMBER(n) a constant; kernels do not look at these.
 *   saves      what the derivative reads
 *   vjp        the contribution to x, in ops; what is too long for a row has a name in ops/elementwise.c
 *   formula, adjoint, convention, sample    as in ad_op */
#ifndef AD_ELEMENTWISE_TABLE_H
#define AD_ELEMENTWISE_TABLE_H

/* It would take * for a declaration, and fill lines that group what belongs together. */
/* clang-format off */

/*  X(name, value, x_bar, saves, vjp, formula, adjoint, convention, sample) */
#define AD_UNARY_ROWS(X)                                                                                              \
    X(neg, -x, -g, AD_SAVES_NOTHING, ad_neg(g),                                                                       \
      "$y = -$0", "~0 -= ~y", NULL, ad_sample_one_normal)                                                             \
    X(abs, AD_LIBM(fabs, x), g * AD_SIGN(x), AD_SAVES_INPUT(0), ad_masked_mul(g, ad_sign(x)),                         \
      "$y = abs($0)", "~0 += ~y * sign($0)", "at 0: 0", ad_sample_one_away_from_0)                                    \
    X(square, x * x, 2 * x * g, AD_SAVES_INPUT(0), ad_scale(ad_masked_mul(g, x), 2),                                  \
      "$y = $0^2", "~0 += 2 * ~y * $0", NULL, ad_sample_one_normal)                                                   \
    X(reciprocal, 1 / x, -g * y * y, AD_SAVES_RESULT(0), ad_neg(ad_masked_mul(ad_masked_mul(g, y), y)),               \
      "$y = 1 / $0", "~0 -= ~y * $y^2", "at 0: -infinity, 0 where ~y is 0", ad_sample_one_away_from_0)                \
    X(sqrt, AD_LIBM(sqrt, x), g / (2 * y), AD_SAVES_RESULT(0), ad_masked_div(ad_scale(g, 0.5), y),                    \
      "$y = sqrt($0)", "~0 += ~y / (2 * $y)", "at 0: infinity, 0 where ~y is 0", ad_sample_one_positive)              \
    X(rsqrt, 1 / AD_LIBM(sqrt, x), g * (T)-0.5 * y * y * y, AD_SAVES_RESULT(0),                                       \
      ad_masked_mul(ad_masked_mul(ad_masked_mul(ad_scale(g, -0.5), y), y), y),                                        \
      "$y = 1 / sqrt($0)", "~0 -= ~y * $y^3 / 2", "at 0: -infinity, 0 where ~y is 0", ad_sample_one_positive)         \
    X(cbrt, AD_CBRT(x), g / (3 * y * y), AD_SAVES_RESULT(0),                                                          \
      ad_masked_div(ad_scale(g, 1.0 / 3), ad_square(y)),                                                              \
      "$y = cbrt($0)", "~0 += ~y / (3 * $y^2)", "at 0: infinity, 0 where ~y is 0", ad_sample_one_away_from_0)         \
    X(exp, AD_EXP(x), g * y, AD_SAVES_RESULT(0), ad_masked_mul(g, y),                                                 \
      "$y = exp($0)", "~0 += ~y * $y", NULL, ad_sample_one_normal)                                                    \
    X(exp2, AD_EXP2(x), g * (T)AD_LN2 * y, AD_SAVES_RESULT(0), ad_scale(ad_masked_mul(g, y), AD_LN2),                 \
      "$y = 2^$0", "~0 += ~y * $y * log(2)", NULL, ad_sample_one_normal)                                              \
    X(expm1, AD_EXPM1(x), g * AD_EXP(x), AD_SAVES_INPUT(0), ad_masked_mul(g, ad_exp(x)),                              \
      "$y = exp($0) - 1", "~0 += ~y * exp($0)", NULL, ad_sample_one_normal)                                           \
    X(log, AD_LOG(x), g / x, AD_SAVES_INPUT(0), ad_masked_div(g, x),                                                  \
      "$y = log($0)", "~0 += ~y / $0", "at 0: infinity, 0 where ~y is 0", ad_sample_one_positive)                     \
    X(log2, AD_LOG2(x), g * (T)(1 / AD_LN2) / x, AD_SAVES_INPUT(0), ad_masked_div(ad_scale(g, 1 / AD_LN2), x),        \
      "$y = log2($0)", "~0 += ~y / ($0 * log(2))", "at 0: infinity, 0 where ~y is 0", ad_sample_one_positive)         \
    X(log10, AD_LOG10(x), g * (T)(1 / AD_LN10) / x, AD_SAVES_INPUT(0),                                                \
      ad_masked_div(ad_scale(g, 1 / AD_LN10), x),                                                                     \
      "$y = log10($0)", "~0 += ~y / ($0 * log(10))", "at 0: infinity, 0 where ~y is 0", ad_sample_one_positive)       \
    X(log1p, AD_LOG1P(x), g / (1 + x), AD_SAVES_INPUT(0), ad_masked_div(g, ad_add(x, NUMBER(1))),                     \
      "$y = log(1 + $0)", "~0 += ~y / (1 + $0)", "at -1: infinity, 0 where ~y is 0", ad_sample_one_positive)          \
    X(logit, AD_LOGIT(x), g / (x * (1 - x)), AD_SAVES_INPUT(0), ad_masked_div(g, ad_mul(x, ad_sub(NUMBER(1), x))),    \
      "$y = log($0 / (1 - $0))", "~0 += ~y / ($0 * (1 - $0))", "at 0 and 1: infinity, 0 where ~y is 0",               \
      ad_sample_one_fraction)                                                                                         \
    X(sin, AD_SIN(x), g * AD_COS(x), AD_SAVES_INPUT(0), ad_masked_mul(g, ad_cos(x)),                                  \
      "$y = sin($0)", "~0 += ~y * cos($0)", NULL, ad_sample_one_normal)                                               \
    X(cos, AD_COS(x), -g * AD_SIN(x), AD_SAVES_INPUT(0), ad_neg(ad_masked_mul(g, ad_sin(x))),                         \
      "$y = cos($0)", "~0 -= ~y * sin($0)", NULL, ad_sample_one_normal)                                               \
    X(tan, AD_TAN(x), g * (1 + y * y), AD_SAVES_RESULT(0), ad_masked_mul(g, ad_add(ad_square(y), NUMBER(1))),         \
      "$y = tan($0)", "~0 += ~y * (1 + $y^2)", NULL, ad_sample_one_inside_1)                                          \
    X(asin, AD_ASIN(x), g / AD_LIBM(sqrt, (1 - x) * (1 + x)), AD_SAVES_INPUT(0),                                      \
      ad_masked_mul(g, ad_rsqrt(ad_mul(ad_sub(NUMBER(1), x), ad_add(x, NUMBER(1))))),                                 \
      "$y = asin($0)", "~0 += ~y / sqrt(1 - $0^2)", "at -1 and 1: infinity, 0 where ~y is 0", ad_sample_one_inside_1) \
    X(acos, AD_ACOS(x), -g / AD_LIBM(sqrt, (1 - x) * (1 + x)), AD_SAVES_INPUT(0),                                     \
      ad_neg(ad_masked_mul(g, ad_rsqrt(ad_mul(ad_sub(NUMBER(1), x), ad_add(x, NUMBER(1)))))),                         \
      "$y = acos($0)", "~0 -= ~y / sqrt(1 - $0^2)", "at -1 and 1: -infinity, 0 where ~y is 0",                        \
      ad_sample_one_inside_1)                                                                                         \
    X(atan, AD_ATAN(x), g / AD_HYPOT_1(x) / AD_HYPOT_1(x), AD_SAVES_INPUT(0),                                         \
      ad_masked_div(g, ad_add(ad_square(x), NUMBER(1))),                                                              \
      "$y = atan($0)", "~0 += ~y / (1 + $0^2)", NULL, ad_sample_one_normal)                                           \
    X(sinc, AD_SINC(x), g * AD_SINC_SLOPE(x), AD_SAVES_INPUT(0), ad_masked_mul(g, sinc_slope(x)),                     \
      "$y = sin(pi $0) / (pi $0)", "~0 += ~y * (cos(pi $0) - $y) / $0",                                               \
      "at 0 and infinity: the limits", ad_sample_one_normal)                                                          \
    X(sinh, AD_SINH(x), g * AD_COSH(x), AD_SAVES_INPUT(0), ad_masked_mul(g, ad_cosh(x)),                              \
      "$y = sinh($0)", "~0 += ~y * cosh($0)", NULL, ad_sample_one_normal)                                             \
    X(cosh, AD_COSH(x), g * AD_SINH(x), AD_SAVES_INPUT(0), ad_masked_mul(g, ad_sinh(x)),                              \
      "$y = cosh($0)", "~0 += ~y * sinh($0)", NULL, ad_sample_one_normal)                                             \
    X(tanh, AD_TANH(x), g * ((T)1 - y * y), AD_SAVES_RESULT(0), ad_through_tanh(g, y),                                   \
      "$y = tanh($0)", "~0 += ~y * (1 - $y^2)", NULL, ad_sample_one_normal)                                           \
    X(asinh, AD_ASINH(x), g / AD_HYPOT_1(x), AD_SAVES_INPUT(0),                                                       \
      ad_masked_div(g, ad_hypot(x, NUMBER(1))),                                                                       \
      "$y = asinh($0)", "~0 += ~y / sqrt($0^2 + 1)", NULL, ad_sample_one_normal)                                      \
    X(acosh, AD_ACOSH(x), g / (AD_LIBM(sqrt, x - 1) * AD_LIBM(sqrt, x + 1)), AD_SAVES_INPUT(0),                       \
      ad_masked_mul(g, ad_mul(ad_rsqrt(ad_sub(x, NUMBER(1))), ad_rsqrt(ad_add(x, NUMBER(1))))),                       \
      "$y = acosh($0)", "~0 += ~y / sqrt($0^2 - 1)", "at 1: infinity, 0 where ~y is 0", ad_sample_one_above_1)        \
    X(atanh, AD_ATANH(x), g / ((1 - x) * (1 + x)), AD_SAVES_INPUT(0),                                                 \
      ad_masked_div(g, ad_mul(ad_sub(NUMBER(1), x), ad_add(x, NUMBER(1)))),                                           \
      "$y = atanh($0)", "~0 += ~y / (1 - $0^2)", "at -1 and 1: infinity, 0 where ~y is 0", ad_sample_one_inside_1)    \
    X(erf, AD_ERF(x), g * (T)(2 * AD_INV_SQRT_PI) * AD_GAUSS(x), AD_SAVES_INPUT(0),                                   \
      ad_masked_mul(ad_scale(g, 2 * AD_INV_SQRT_PI), ad_exp(ad_neg(ad_square(x)))),                                   \
      "$y = erf($0)", "~0 += ~y * 2 / sqrt(pi) * exp(-$0^2)", NULL, ad_sample_one_normal)                             \
    X(erfc, AD_ERFC(x), -g * (T)(2 * AD_INV_SQRT_PI) * AD_GAUSS(x), AD_SAVES_INPUT(0),                                \
      ad_masked_mul(ad_scale(g, -2 * AD_INV_SQRT_PI), ad_exp(ad_neg(ad_square(x)))),                                  \
      "$y = 1 - erf($0)", "~0 -= ~y * 2 / sqrt(pi) * exp(-$0^2)", NULL, ad_sample_one_normal)                         \
    X(erfinv, (T)ad_erfinv_f64((double)x), g * (T)(AD_SQRT_PI / 2) * AD_EXP(y * y), AD_SAVES_RESULT(0),               \
      ad_masked_mul(ad_scale(g, AD_SQRT_PI / 2), ad_exp(ad_square(y))),                                               \
      "$y = erfinv($0)", "~0 += ~y * sqrt(pi) / 2 * exp($y^2)", "at -1 and 1: infinity, 0 where ~y is 0",             \
      ad_sample_one_inside_1)                                                                                         \
    X(lgamma, (T)ad_lgamma_f64((double)x), g * (T)ad_digamma_f64((double)x), AD_SAVES_INPUT(0),                       \
      ad_masked_mul(g, ad_digamma(x)),                                                                                \
      "$y = log abs Gamma($0)", "~0 += ~y * digamma($0)", NULL, ad_sample_one_positive)                               \
    X(digamma, (T)ad_digamma_f64((double)x), g * (T)ad_trigamma_f64((double)x), AD_SAVES_INPUT(0),                    \
      ad_masked_mul(g, ad_trigamma(x)),                                                                               \
      "$y = digamma($0)", "~0 += ~y * trigamma($0)", NULL, ad_sample_one_positive)                                    \
    X(trigamma, (T)ad_trigamma_f64((double)x), g * (T)ad_polygamma_f64(2, (double)x), AD_SAVES_INPUT(0),              \
      ad_masked_mul(g, ad_polygamma(x, 2)),                                                                           \
      "$y = trigamma($0)", "~0 += ~y * polygamma(2, $0)", NULL, ad_sample_one_positive)                               \
    X(sigmoid, AD_SIGMOID(x), g * (y * AD_SIGMOID(-x)), AD_SAVES_INPUT(0) | AD_SAVES_RESULT(0),                       \
      ad_masked_mul(g, ad_mul(y, ad_sigmoid(ad_neg(x)))),                                                             \
      "$y = sigmoid($0)", "~0 += ~y * $y * sigmoid(-$0)", NULL, ad_sample_one_normal)                                 \
    X(logsigmoid, (x < 0 ? x : 0) - AD_LOG1P(AD_EXP(-AD_LIBM(fabs, x))), g * AD_SIGMOID(-x),                          \
      AD_SAVES_INPUT(0), ad_masked_mul(g, ad_sigmoid(ad_neg(x))),                                                     \
      "$y = log sigmoid($0)", "~0 += ~y * sigmoid(-$0)", NULL, ad_sample_one_normal)                                  \
    X(softplus, AD_SOFTPLUS(x), g * AD_SIGMOID(x), AD_SAVES_INPUT(0),                                                 \
      ad_masked_mul(g, ad_sigmoid(x)),                                                                                \
      "$y = log(1 + exp($0))", "~0 += ~y * sigmoid($0)", NULL, ad_sample_one_normal)                                  \
    X(relu, x <= (T)0 ? (T)0 : x, y > (T)0 ? g : (T)0, AD_SAVES_RESULT(0),                                            \
      ad_through_relu(g, y),                                                                                        \
      "$y = max($0, 0)", "~0 += [$y > 0] ~y", "at 0: 0, the subgradient of least norm", ad_sample_one_away_from_0)    \
    X(relu6, x <= 0 ? 0 : x >= 6 ? 6 : x, y > 0 && y < 6 ? g : 0, AD_SAVES_RESULT(0),                                 \
      ad_where(inside(y, 0, 6), g, NUMBER(0)),                                                                        \
      "$y = min(max($0, 0), 6)", "~0 += [0 < $y < 6] ~y", "at 0 and 6: 0", ad_sample_one_away_from_integers)          \
    X(gelu, AD_GELU(x), g * AD_GELU_SLOPE(x), AD_SAVES_INPUT(0),                                                      \
      ad_masked_mul(g, ad_add(normal_cdf(x), ad_masked_mul(normal_density(x), x))),                                   \
      "$y = $0 Phi($0)", "~0 += ~y * (Phi($0) + $0 phi($0))", "at infinity: the limits", ad_sample_one_normal)        \
    X(gelu_tanh, AD_MASKED_MUL(AD_SIGMOID(AD_GELU_U(x)), x), g * AD_GELU_TANH_SLOPE(x), AD_SAVES_INPUT(0),            \
      ad_through_gelu_tanh(g, x),                                                                                        \
      "$y = $0 sigmoid(u), u = 2 sqrt(2/pi) ($0 + 0.044715 $0^3)",                                                    \
      "~0 += ~y * (sigmoid(u) + $0 u' sigmoid(u) sigmoid(-u))", "at infinity: the limits", ad_sample_one_normal)      \
    X(silu, AD_MASKED_MUL(AD_SIGMOID(x), x), g * AD_SILU_SLOPE(x), AD_SAVES_INPUT(0),                                 \
      ad_masked_mul(g, silu_slope(x)),                                                                                \
      "$y = $0 sigmoid($0)", "~0 += ~y * sigmoid($0) * (1 + $0 sigmoid(-$0))", "at infinity: the limits",             \
      ad_sample_one_normal)                                                                                           \
    X(mish, AD_MASKED_MUL(AD_TANH_SOFTPLUS(x), x), g * AD_MISH_SLOPE(x), AD_SAVES_INPUT(0),                           \
      ad_masked_mul(g, mish_slope(x)),                                                                                \
      "$y = $0 tanh(softplus($0))", "~0 += ~y * (t + $0 sigmoid($0) (1 - t^2)), t = tanh(softplus($0))",              \
      "at infinity: the limits", ad_sample_one_normal)                                                                \
    X(softsign, AD_SOFTSIGN(x), g / (1 + AD_LIBM(fabs, x)) / (1 + AD_LIBM(fabs, x)), AD_SAVES_INPUT(0),               \
      ad_masked_div(g, ad_square(ad_add(ad_abs(x), NUMBER(1)))),                                                      \
      "$y = $0 / (1 + abs($0))", "~0 += ~y / (1 + abs($0))^2", "at infinity: the limits", ad_sample_one_away_from_0)  \
    X(selu, x >= 0 ? (T)AD_SELU_SCALE * x : (T)(AD_SELU_SCALE * AD_SELU_ALPHA) * AD_EXPM1(x),                         \
      x >= 0 ? (T)AD_SELU_SCALE * g : g * (T)(AD_SELU_SCALE * AD_SELU_ALPHA) * AD_EXP(x), AD_SAVES_INPUT(0),          \
      selu_rule(g, x),                                                                                                \
      "$y = s ($0 >= 0 ? $0 : a (exp($0) - 1)), s = 1.0507, a = 1.6733", "~0 += ~y * s ($0 >= 0 ? 1 : a exp($0))",    \
      "at 0: s", ad_sample_one_away_from_0)                                                                           \
    X(hardsigmoid, x <= -3 ? 0 : x >= 3 ? 1 : (x + 3) / 6, x > -3 && x < 3 ? g / 6 : 0, AD_SAVES_INPUT(0),            \
      ad_where(inside(x, -3, 3), ad_scale(g, 1.0 / 6), NUMBER(0)),                                                    \
      "$y = min(max(($0 + 3) / 6, 0), 1)", "~0 += [-3 < $0 < 3] ~y / 6", "at -3 and 3: 0",                            \
      ad_sample_one_away_from_integers)                                                                               \
    X(hardswish, x <= -3 ? 0 : x >= 3 ? x : x * (x + 3) / 6, x <= -3 ? 0 : x >= 3 ? g : g * (2 * x + 3) / 6,          \
      AD_SAVES_INPUT(0),                                                                                              \
      hardswish_rule(g, x),                                                                                           \
      "$y = $0 hardsigmoid($0)", "~0 += ~y * ($0 <= -3 ? 0 : $0 >= 3 ? 1 : (2 $0 + 3) / 6)", "at -3: 0; at 3: 1",     \
      ad_sample_one_away_from_integers)                                                                               \
    X(frac, x - AD_LIBM(trunc, x), g, AD_SAVES_NOTHING, g,                                                            \
      "$y = $0 - trunc($0)", "~0 += ~y", "at integers: 1", ad_sample_one_away_from_integers)

/*  The same with a constant c[0], which their constructors take after x, and two more columns: the shape rule, which also
 *  refuses impossible constants; and the constant's name. */
#define AD_UNARY_CONSTANT_ROWS(X)                                                                                     \
    X(scale, (T)c[0] * x, (T)c[0] * g, AD_SAVES_NOTHING, ad_scale(g, c[0]),                                           \
      "$y = $a * $0", "~0 += $a * ~y", NULL, ad_sample_one_normal_with_constant, ad_shape_like_input, "c")            \
    X(power, AD_POWER(x, (T)c[0]), c[0] == 0 ? 0 : g * (T)c[0] * AD_POWER(x, (T)(c[0] - 1)),                          \
      AD_SAVES_INPUT(0), ad_masked_mul(ad_scale(g, c[0]), ad_power(x, c[0] - 1)),                                     \
      "$y = $0^$a", "~0 += ~y * $a * $0^($a - 1)", "at 0: as the formula says, and 0 for the power 0",                \
      ad_sample_one_positive_with_constant, ad_shape_like_input, "c")                                                 \
    X(polygamma, (T)ad_polygamma_f64(c[0], (double)x), g * (T)ad_polygamma_f64(c[0] + 1, (double)x),                  \
      AD_SAVES_INPUT(0), ad_masked_mul(g, ad_polygamma(x, c[0] + 1)),                                                 \
      "$y = polygamma($a, $0)", "~0 += ~y * polygamma($a + 1, $0)", NULL, ad_sample_one_positive_with_order,          \
      polygamma_shape, "n")                                                                                           \
    X(leaky_relu, x > 0 ? x : (T)c[0] * x, x > 0 ? g : (T)c[0] * g, AD_SAVES_INPUT(0),                                \
      ad_where(ad_greater(x, NUMBER(0)), g, ad_scale(g, c[0])),                                                       \
      "$y = $0 > 0 ? $0 : $a * $0", "~0 += ~y * ($0 > 0 ? 1 : $a)", "at 0: the slope of the left",                    \
      ad_sample_one_away_from_0_with_constant, ad_shape_like_input, "slope")                                          \
    X(elu, x >= 0 ? x : (T)c[0] * AD_EXPM1(x), x >= 0 ? g : g * (T)c[0] * AD_EXP(x), AD_SAVES_INPUT(0),               \
      ad_where(ad_greater_equal(x, NUMBER(0)), g, ad_masked_mul(ad_scale(g, c[0]), ad_exp(x))),                       \
      "$y = $0 >= 0 ? $0 : $a (exp($0) - 1)", "~0 += ~y * ($0 >= 0 ? 1 : $a exp($0))", "at 0: 1",                     \
      ad_sample_one_away_from_0_with_constant, ad_shape_like_input, "alpha")                                          \
    X(celu, x >= 0 ? x : (T)c[0] * AD_EXPM1(x / (T)c[0]), x >= 0 ? g : g * AD_EXP(x / (T)c[0]), AD_SAVES_INPUT(0),    \
      ad_where(ad_greater_equal(x, NUMBER(0)), g, ad_masked_mul(g, ad_exp(ad_scale(x, 1 / c[0])))),                   \
      "$y = $0 >= 0 ? $0 : $a (exp($0 / $a) - 1)", "~0 += ~y * ($0 >= 0 ? 1 : exp($0 / $a))", "at 0: 1",              \
      ad_sample_one_away_from_0_with_constant, celu_shape, "alpha")

/*  The same with two constants, c[0] <= c[1]. */
#define AD_UNARY_BOUNDS_ROWS(X)                                                                                       \
    X(clamp, x < (T)c[0] ? (T)c[0] : x > (T)c[1] ? (T)c[1] : x, x < (T)c[0] || x > (T)c[1] ? 0 : g,                   \
      AD_SAVES_INPUT(0), ad_where(outside(x, c[0], c[1]), NUMBER(0), g),                                              \
      "$y = clamp($0, $a)", "~0 += [$0 in bounds] ~y", "at a bound: 1", ad_sample_one_away_from_bounds)               \
    X(hardtanh, x < (T)c[0] ? (T)c[0] : x > (T)c[1] ? (T)c[1] : x, x > (T)c[0] && x < (T)c[1] ? g : 0,                \
      AD_SAVES_INPUT(0), ad_where(inside(x, c[0], c[1]), g, NUMBER(0)),                                               \
      "$y = clamp($0, $a)", "~0 += [$0 between the bounds] ~y", "at a bound: 0", ad_sample_one_away_from_bounds)

/*  X(name, value, a_bar, b_bar, saves, a_vjp, b_vjp, formula, a_adjoint, b_adjoint, convention, sample) */
#define AD_BINARY_ROWS(X)                                                                                             \
    X(add, a + b, g, g, AD_SAVES_NOTHING, g, g,                                                                       \
      "$y = $0 + $1", "~0 += ~y", "~1 += ~y", NULL, ad_sample_two_normal)                                             \
    X(sub, a - b, g, -g, AD_SAVES_NOTHING, g, ad_neg(g),                                                              \
      "$y = $0 - $1", "~0 += ~y", "~1 -= ~y", NULL, ad_sample_two_normal)                                             \
    X(mul, a * b, g * b, g * a, AD_SAVES_INPUTS, ad_masked_mul(g, b), ad_masked_mul(g, a),                            \
      "$y = $0 * $1", "~0 += ~y * $1", "~1 += ~y * $0", NULL, ad_sample_two_normal)                                   \
    X(div, a / b, g / b, -g * (a / b) / b, AD_SAVES_INPUTS, ad_masked_div(g, b),                                      \
      ad_neg(ad_masked_div(ad_masked_mul(g, ad_div(a, b)), b)),                                                       \
      "$y = $0 / $1", "~0 += ~y / $1", "~1 -= ~y * $0 / $1^2", NULL, ad_sample_two_away_from_0)                       \
    X(masked_mul, a == (T)0 ? (T)0 : a * b, g * b, a == (T)0 ? (T)0 : g * a, AD_SAVES_INPUTS, ad_masked_mul(g, b),    \
      ad_masked_mul(a, g),                                                                                            \
      "$y = [$0 != 0] $0 * $1", "~0 += ~y * $1", "~1 += [$0 != 0] ~y * $0", "0 where $0 is 0, whatever $1 is",        \
      ad_sample_two_away_from_0)                                                                                      \
    X(masked_div, a == (T)0 ? (T)0 : a / b, g / b, a == (T)0 ? (T)0 : -g * (a / b) / b, AD_SAVES_INPUTS,              \
      ad_masked_div(g, b), ad_neg(ad_masked_div(ad_masked_mul(g, ad_masked_div(a, b)), b)),                           \
      "$y = [$0 != 0] $0 / $1", "~0 += ~y / $1", "~1 -= [$0 != 0] ~y * $0 / $1^2",                                    \
      "0 where $0 is 0, whatever $1 is", ad_sample_two_away_from_0)                                                   \
    X(pow, AD_POW(a, b), b == 0 ? 0 : g * b * AD_POW(a, b - 1),                                                       \
      a == 0 && b >= 0 ? 0 : g * AD_MASKED_MUL(y, AD_LOG(a)), AD_SAVES_INPUTS | AD_SAVES_RESULT(0),                   \
      ad_masked_mul(g, ad_masked_mul(b, ad_pow(a, ad_sub(b, NUMBER(1))))), ad_masked_mul(g, power_log(a, b, y)),      \
      "$y = $0^$1", "~0 += ~y * $1 * $0^($1 - 1)", "~1 += ~y * $y * log($0)",                                         \
      "0^0: both 0; ~1 where $0 is 0 and $1 > 0: 0", ad_sample_two_positive)                                          \
    X(maximum, AD_MAX(a, b), a > b ? g : a == b ? g / 2 : 0, b > a ? g : a == b ? g / 2 : 0, AD_SAVES_INPUTS,         \
      share(g, a, b), share(g, b, a),                                                                                 \
      "$y = max($0, $1)", "~0 += [$0 > $1] ~y", "~1 += [$1 > $0] ~y", "where both are equal: one half each",          \
      ad_sample_two_apart)                                                                                            \
    X(minimum, AD_MIN(a, b), a < b ? g : a == b ? g / 2 : 0, b < a ? g : a == b ? g / 2 : 0, AD_SAVES_INPUTS,         \
      share(g, b, a), share(g, a, b),                                                                                 \
      "$y = min($0, $1)", "~0 += [$0 < $1] ~y", "~1 += [$1 < $0] ~y", "where both are equal: one half each",          \
      ad_sample_two_apart)                                                                                            \
    X(prelu, a > 0 ? a : b * a, a > 0 ? g : b * g, a > 0 ? 0 : g * a, AD_SAVES_INPUTS,                                \
      ad_where(ad_greater(a, NUMBER(0)), g, ad_masked_mul(g, b)),                                                     \
      ad_where(ad_greater(a, NUMBER(0)), NUMBER(0), ad_masked_mul(g, a)),                                             \
      "$y = $0 > 0 ? $0 : $1 * $0", "~0 += ~y * ($0 > 0 ? 1 : $1)", "~1 += [$0 <= 0] ~y * $0",                        \
      "where $0 is 0: the slope of the left", ad_sample_two_away_from_0)                                              \
    X(swiglu, AD_MASKED_MUL(AD_SIGMOID(a), a) * b, g * (AD_SILU_SLOPE(a) * b), g * AD_MASKED_MUL(AD_SIGMOID(a), a),   \
      AD_SAVES_INPUTS, ad_masked_mul(g, ad_mul(silu_slope(a), b)), ad_masked_mul(g, ad_silu(a)),                      \
      "$y = silu($0) * $1", "~0 += ~y * silu'($0) * $1", "~1 += ~y * silu($0)", NULL, ad_sample_two_normal)           \
    X(through_tanh, AD_MASKED_MUL(a, 1 - b * b), g * (1 - b * b), -2 * g * a * b, AD_SAVES_INPUTS, ad_through_tanh(g, b),   \
      ad_scale(ad_masked_mul(g, ad_mul(a, b)), -2),                                                                   \
      "$y = $0 * (1 - $1^2)", "~0 += ~y * (1 - $1^2)", "~1 -= 2 * ~y * $0 * $1", NULL, ad_sample_two_normal)          \
    X(through_gelu_tanh, AD_MASKED_MUL(a, AD_GELU_TANH_SLOPE(b)), g * AD_GELU_TANH_SLOPE(b),                             \
      g * AD_MASKED_MUL(a, AD_GELU_TANH_CURVE(b)), AD_SAVES_INPUTS, ad_through_gelu_tanh(g, b),                          \
      ad_masked_mul(g, ad_masked_mul(a, gelu_tanh_curve(b))),                                                         \
      "$y = $0 * (sigmoid(u) + $1 u' sigmoid(u) sigmoid(-u)), u = 2 sqrt(2/pi) ($1 + 0.044715 $1^3)",                 \
      "~0 += ~y * (sigmoid(u) + $1 u' sigmoid(u) sigmoid(-u))",                                                       \
      "~1 += ~y * $0 * sigmoid(u) sigmoid(-u) (2 u' + $1 u'' + $1 u'^2 (sigmoid(-u) - sigmoid(u)))",                  \
      "at infinity: the limits", ad_sample_two_normal)                                                                \
    X(xlogy, a == 0 && b == b ? 0 : a * AD_LOG(b), a == 0 && b <= 0 ? 0 : g * AD_LOG(b), a == 0 ? 0 : g * (a / b),    \
      AD_SAVES_INPUTS, xlogy_rule(g, a, b), ad_masked_mul(g, ad_masked_div(a, b)),                                    \
      "$y = $0 log($1)", "~0 += ~y * log($1)", "~1 += ~y * $0 / $1",                                                  \
      "where $0 is 0: y and ~1 are 0 whatever $1 is, ~0 where $1 <= 0", ad_sample_two_positive)                       \
    X(atan2, AD_ATAN2(a, b), g * AD_OVER_SQUARES(b, a), -g * AD_OVER_SQUARES(a, b), AD_SAVES_INPUTS,                  \
      ad_masked_mul(g, over_squares(b, a)), ad_neg(ad_masked_mul(g, over_squares(a, b))),                             \
      "$y = atan2($0, $1)", "~0 += ~y * $1 / ($0^2 + $1^2)", "~1 -= ~y * $0 / ($0^2 + $1^2)", "at (0, 0): NaN",       \
      ad_sample_two_away_from_0)                                                                                      \
    X(hypot, AD_LIBM(hypot, a, b), a == 0 ? 0 : g * (a / y), b == 0 ? 0 : g * (b / y),                                \
      AD_SAVES_INPUTS | AD_SAVES_RESULT(0), ad_masked_mul(g, ad_masked_div(a, y)),                                    \
      ad_masked_mul(g, ad_masked_div(b, y)),                                                                          \
      "$y = sqrt($0^2 + $1^2)", "~0 += ~y * $0 / $y", "~1 += ~y * $1 / $y", "at (0, 0): 0",                           \
      ad_sample_two_away_from_0)                                                                                      \
    X(logaddexp, AD_LOGADDEXP(a, b), g * AD_LOGADDEXP_SHARE(a, b), g * AD_LOGADDEXP_SHARE(b, a), AD_SAVES_INPUTS,     \
      ad_masked_mul(g, logaddexp_share(a, b)), ad_masked_mul(g, logaddexp_share(b, a)),                               \
      "$y = log(exp($0) + exp($1))", "~0 += ~y * sigmoid($0 - $1)", "~1 += ~y * sigmoid($1 - $0)",                    \
      "where both are -inf: 0; both inf: one half each", ad_sample_two_normal)                                        \
    X(fmod, AD_LIBM(fmod, a, b), g, -g * AD_LIBM(rint, (a - y) / b), AD_SAVES_INPUTS | AD_SAVES_RESULT(0), g,         \
      ad_neg(ad_masked_mul(g, ad_round(ad_div(ad_sub(a, y), b)))),                                                    \
      "$y = $0 - trunc($0 / $1) $1", "~0 += ~y", "~1 -= ~y * trunc($0 / $1)",                                         \
      "where $0 / $1 is an integer: the formula", ad_sample_two_modulo)                                               \
    X(remainder, AD_REMAINDER(a, b), g, -g * AD_LIBM(rint, (a - y) / b), AD_SAVES_INPUTS | AD_SAVES_RESULT(0), g,     \
      ad_neg(ad_masked_mul(g, ad_round(ad_div(ad_sub(a, y), b)))),                                                    \
      "$y = $0 - floor($0 / $1) $1", "~0 += ~y", "~1 -= ~y * floor($0 / $1)",                                         \
      "where $0 / $1 is an integer: the formula", ad_sample_two_modulo)                                               \
    X(copysign, AD_LIBM(copysign, a, b), g * AD_SIGN(a) * AD_LIBM(copysign, (T)1, b), 0, AD_SAVES_INPUTS,             \
      ad_masked_mul(g, ad_mul(ad_sign(a), ad_copysign(NUMBER(1), b))), zeros_like(g),                                 \
      "$y = abs($0) with the sign of $1", "~0 += ~y * sign($0) sign($1)", "~1 += 0", "at 0: 0",                       \
      ad_sample_two_away_from_0)

/*  Losses: a is the prediction, b the target. They do not broadcast: the shapes must be equal. */
#define AD_LOSS_ROWS(X)                                                                                               \
    X(mse, (a - b) * (a - b), 2 * (a - b) * g, 2 * (b - a) * g, AD_SAVES_INPUTS,                                      \
      ad_scale(ad_masked_mul(g, ad_sub(a, b)), 2), ad_scale(ad_masked_mul(g, ad_sub(b, a)), 2),                       \
      "$y = ($0 - $1)^2", "~0 += 2 * ~y * ($0 - $1)", "~1 -= 2 * ~y * ($0 - $1)", NULL, ad_sample_two_same_normal)    \
    X(l1, AD_LIBM(fabs, a - b), a > b ? g : a < b ? -g : 0, b > a ? g : b < a ? -g : 0, AD_SAVES_INPUTS,              \
      ad_masked_mul(g, ad_sign(ad_sub(a, b))), ad_masked_mul(g, ad_sign(ad_sub(b, a))),                               \
      "$y = abs($0 - $1)", "~0 += ~y * sign($0 - $1)", "~1 -= ~y * sign($0 - $1)", "where both are equal: 0",         \
      ad_sample_two_same_apart)                                                                                       \
    X(bce, -(AD_XLOGY(b, a) + AD_XLOG1PY(1 - b, -a)),                                                                 \
      g * (b == 0 ? 1 / (1 - a) : b == 1 ? -1 / a : (a - b) / (a * (1 - a))), -g * AD_LOGIT(a), AD_SAVES_INPUTS,      \
      ad_masked_mul(g, bce_slope(a, b)), ad_neg(ad_masked_mul(g, ad_logit(a))),                                       \
      "$y = -$1 log($0) - (1 - $1) log(1 - $0)", "~0 += ~y * ((1 - $1) / (1 - $0) - $1 / $0)",                        \
      "~1 -= ~y * logit($0)", "0 log(0) is 0", ad_sample_two_same_fractions)                                          \
    X(bce_with_logits, (b == 0 ? 0 : b * AD_SOFTPLUS(-a)) + (b == 1 ? 0 : (1 - b) * AD_SOFTPLUS(a)),                  \
      g * (AD_SIGMOID(a) - b), -g * a, AD_SAVES_INPUTS, ad_masked_mul(g, ad_sub(ad_sigmoid(a), b)),                   \
      ad_neg(ad_masked_mul(g, a)),                                                                                    \
      "$y = $1 softplus(-$0) + (1 - $1) softplus($0)", "~0 += ~y * (sigmoid($0) - $1)", "~1 -= ~y * $0", NULL,        \
      ad_sample_two_same_logits)                                                                                      \
    X(kl_div, b == 0 ? 0 : b * (AD_LOG(b) - a), -g * b, g * (AD_LOG(b) - a + 1), AD_SAVES_INPUTS,                     \
      ad_neg(ad_masked_mul(g, b)), ad_masked_mul(g, ad_add(ad_sub(ad_log(b), a), NUMBER(1))),                         \
      "$y = $1 (log($1) - $0)", "~0 -= ~y * $1", "~1 += ~y * (log($1) - $0 + 1)", "0 log(0) is 0",                    \
      ad_sample_two_same_logs)                                                                                        \
    X(poisson_nll, AD_EXP(a) - b * a, g * (AD_EXP(a) - b), -g * a, AD_SAVES_INPUTS,                                   \
      ad_masked_mul(g, ad_sub(ad_exp(a), b)), ad_neg(ad_masked_mul(g, a)),                                            \
      "$y = exp($0) - $1 $0", "~0 += ~y * (exp($0) - $1)", "~1 -= ~y * $0", NULL, ad_sample_two_same_normal)          \
    X(gaussian_kl, (a * a + (AD_EXPM1(b) - b)) / 2, g * a, g * AD_EXPM1(b) / 2, AD_SAVES_INPUTS,                      \
      ad_masked_mul(g, a), ad_masked_mul(ad_scale(g, 0.5), ad_expm1(b)),                                              \
      "$y = ($0^2 + exp($1) - 1 - $1) / 2", "~0 += ~y * $0", "~1 += ~y * (exp($1) - 1) / 2", NULL,                    \
      ad_sample_two_same_normal)                                                                                      \
    X(hinge, a * b < 1 ? 1 - a * b : a * b == a * b ? 0 : a * b, a * b < 1 ? -g * b : 0, a * b < 1 ? -g * a : 0,      \
      AD_SAVES_INPUTS, ad_where(ad_less(ad_mul(a, b), NUMBER(1)), ad_neg(ad_masked_mul(g, b)), NUMBER(0)),            \
      ad_where(ad_less(ad_mul(a, b), NUMBER(1)), ad_neg(ad_masked_mul(g, a)), NUMBER(0)),                             \
      "$y = max(0, 1 - $0 $1)", "~0 -= [$0 $1 < 1] ~y * $1", "~1 -= [$0 $1 < 1] ~y * $0", "where $0 $1 is 1: 0",      \
      ad_sample_two_same_normal)

/*  Steps: flat wherever they have a derivative, which is taken to be 0 everywhere. X(name, value, formula) */
#define AD_STEP_ROWS(X)                                                                                               \
    X(sign, AD_SIGN(x), "$y = sign($0)")                                                                              \
    X(floor, AD_LIBM(floor, x), "$y = floor($0)")                                                                     \
    X(ceil, AD_LIBM(ceil, x), "$y = ceil($0)")                                                                        \
    X(round, AD_LIBM(rint, x), "$y = round($0)")                                                                      \
    X(trunc, AD_LIBM(trunc, x), "$y = trunc($0)")

/*  Comparisons and logic, of any dtype, into 1 or 0 in i32. X(name, value, formula) */
#define AD_COMPARE_ROWS(X)                                                                                            \
    X(greater, a > b, "$y = [$0 > $1]")                                                                               \
    X(greater_equal, a >= b, "$y = [$0 >= $1]")                                                                       \
    X(less, a < b, "$y = [$0 < $1]")                                                                                  \
    X(less_equal, a <= b, "$y = [$0 <= $1]")                                                                          \
    X(equal, a == b, "$y = [$0 = $1]")                                                                                \
    X(not_equal, a != b, "$y = [$0 != $1]")                                                                           \
    X(logical_and, a != 0 && b != 0, "$y = $0 and $1")                                                                \
    X(logical_or, a != 0 || b != 0, "$y = $0 or $1")                                                                  \
    X(logical_xor, (a != 0) != (b != 0), "$y = $0 xor $1")
#define AD_TEST_ROWS(X)                                                                                               \
    X(logical_not, x == 0, "$y = not $0")                                                                             \
    X(isnan, x != x, "$y = [$0 is NaN]")                                                                              \
    X(isinf, x - x != x - x && x == x, "$y = [$0 is infinite]")                                                       \
    X(isfinite, x - x == x - x, "$y = [$0 is finite]")

/* clang-format on */

#endif
