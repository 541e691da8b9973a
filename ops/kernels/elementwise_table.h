/* The elementwise operations: one row is one operation, its value and its derivative. Kernels (compiled once per
 * instruction set) and the tape's scalar path are both made from these rows, so they cannot disagree.
 *
 * In a row, T is float or double; x, a, b are the inputs, y the value, g the cotangent of y, c[] the constants of
 * this application (double). A contribution is only evaluated where g is not 0: a masked-out gradient is exactly 0,
 * never 0 * inf. The functions ad_exp_T and so on are branch-free and defined per dtype (elementary.h). */
#ifndef AD_ELEMENTWISE_TABLE_H
#define AD_ELEMENTWISE_TABLE_H

/*    name     value y                        contribution to x */
#define AD_UNARY_ROWS(X)                                                                                         \
    X(neg,     -x,                            -g)                                                                \
    X(scale,   (T)c[0] * x,                   (T)c[0] * g)                                                       \
    X(exp,     AD_EXP(x),                     g * y)                                                             \
    X(log,     AD_LOG(x),                     g / x)                                                             \
    X(tanh,    AD_TANH(x),                    g * ((T)1 - y * y))                                                \
    X(sigmoid, AD_SIGMOID(x),                 g * (y * AD_SIGMOID(-x)))                                          \
    X(relu,    x <= (T)0 ? (T)0 : x,          y > (T)0 ? g : (T)0)

/*    name     value y                        contribution to a        contribution to b */
#define AD_BINARY_ROWS(X)                                                                                        \
    X(add,     a + b,                         g,                       g)                                        \
    X(sub,     a - b,                         g,                       -g)                                       \
    X(mul,     a * b,                         g * b,                   g * a)                                    \
    X(div,     a / b,                         g / b,                   -g * (a / b) / b)                         \
    X(masked_mul, a == (T)0 ? (T)0 : a * b,   g * b,                   a == (T)0 ? (T)0 : g * a)                 \
    X(masked_div, a == (T)0 ? (T)0 : a / b,   g / b,                   a == (T)0 ? (T)0 : -g * (a / b) / b)

#endif
