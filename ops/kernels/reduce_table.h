/* Reductions: one row is all there is to say about how one is computed. Everything is in double; x is an element, c a number
 * that belongs to the result it goes into, p one constant for all.
 *   start      the result of nothing
 *   join       how two parts become one: sum, product, larger, smaller
 *   term       what x contributes */
#ifndef AD_REDUCE_TABLE_H
#define AD_REDUCE_TABLE_H

/*  X(name, start, join, term) */
#define AD_REDUCTION_ROWS(X)                                                                                         \
    X(sum, 0, sum, x)                                                                                                \
    X(sum_of_squares, 0, sum, (x * x))                                                                               \
    X(sum_of_deviations, 0, sum, x - c)                                                                              \
    X(sum_of_squared_deviations, 0, sum, (x - c) * (x - c))                                                          \
    X(sum_of_squared_ratios, 0, sum, (x / c) * (x / c))                                                              \
    X(sum_of_powers, 0, sum, pow(fabs(x) / c, p))                                                                    \
    X(sum_of_exps, 0, sum, AD_EXP(x - c))                                                                            \
    X(count_equal, 0, sum, x == c || x != x ? 1 : 0)                                                                 \
    X(product, 1, product, x)                                                                                        \
    X(largest, -INFINITY, larger, x)                                                                                 \
    X(smallest, INFINITY, smaller, x)                                                                                \
    X(largest_magnitude, 0, larger, fabs(x))

/* What goes back to x where the cotangent g of its result, divided or multiplied by what is the same for all of its elements,
 * is not 0.    X(name, contribution) */
#define AD_REDUCTION_BACK_ROWS(X)                                                                                    \
    X(deviation, (g * (x - c)))                                                                                      \
    X(ratio, (g * (x / c)))                                                                                          \
    X(power, x == 0 ? 0 : g * copysign(pow(fabs(x) / c, p), x))                                                      \
    X(exp, (g * AD_EXP(x - c)))                                                                                      \
    X(equal, x == c || x != x ? g : 0)

#endif
