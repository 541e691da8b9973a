/* Linear algebra: against PyTorch; by its own identities where matrices are large; and what it says when it cannot. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch --------------------------------------------------------------------------------------------- */

#define OP(name, expression)                                                                                         \
    static ad_var make_##name(const ad_var *in, const reference_case *c) { return (void)c, expression; }             \
    Test(pytorch, name) { reference_check(#name, make_##name); }

/* "upper transposed unit" */
static unsigned flags(const reference_case *c) {
    return (strstr(c->text, "upper") ? AD_UPPER : AD_LOWER) | (strstr(c->text, "transposed") ? AD_TRANSPOSED : 0) |
           (strstr(c->text, "unit") ? AD_UNIT_DIAGONAL : 0);
}

/* "012", or "-" for none */
static ad_axes digits(const char *text) {
    ad_axes axes = {.count = 0, .axis = {0}};
    for (; *text >= '0' && *text <= '9'; text++) axes.axis[axes.count++] = *text - '0';
    return axes;
}

/* The second or third result of an op. */
static ad_var sign_of(ad_var a) {
    ad_var sign;
    ad_slogdet(a, &sign);
    return sign;
}
static ad_var r_of(ad_var a) {
    ad_var r;
    ad_qr(a, &r);
    return r;
}
static ad_var vectors_of(ad_var a) {
    ad_var vectors;
    ad_eigh(a, &vectors);
    return vectors;
}
static ad_var u_of(ad_var a) {
    ad_var u;
    ad_svd(a, &u, NULL);
    return u;
}
static ad_var vt_of(ad_var a) {
    ad_var vt;
    ad_svd(a, NULL, &vt);
    return vt;
}

OP(linear, ad_linear(in[0], in[1], in[2]))
OP(linear_relu, ad_linear_relu(in[0], in[1], in[2]))
OP(linear_tanh, ad_linear_tanh(in[0], in[1], in[2]))
OP(dot, ad_dot(in[0], in[1]))
OP(outer, ad_outer(in[0], in[1]))
OP(tensordot, ad_tensordot(in[0], in[1], digits(c->text), digits(strchr(c->text, ' ') + 1)))
OP(einsum, ad_einsum(c->text, c->inputs, in))
OP(triangular_solve, ad_triangular_solve(in[0], in[1], flags(c)))
OP(cholesky, ad_cholesky(in[0]))
OP(cholesky_solve, ad_cholesky_solve(in[0], in[1]))
OP(solve, ad_solve(in[0], in[1]))
OP(inverse, ad_inverse(in[0]))
OP(slogdet, ad_slogdet(in[0], NULL))
OP(slogdet_sign, sign_of(in[0]))
OP(logdet, ad_logdet(in[0]))
OP(det, ad_det(in[0]))
OP(qr_q, ad_qr(in[0], NULL))
OP(qr_r, r_of(in[0]))
OP(eigh_values, ad_eigh(in[0], NULL))
OP(eigh_vectors, vectors_of(in[0]))
OP(svd_values, ad_svd(in[0], NULL, NULL))
OP(svd_u, u_of(in[0]))
OP(svd_vt, vt_of(in[0]))
OP(matrix_exp, ad_matrix_exp(in[0]))

/* ---- by their identities, at sizes around those of the blocks ---------------------------------------------------- */

static const int sizes[] = {1, 2, 31, 32, 33, 64, 97};

static ad_tape *t;

static void open_tape(void) { t = ad_tape_new(NULL); }
static void close_tape(void) {
    ad_tape_free(t);
    test_arrays_free();
}

TestSuite(identity, .init = open_tape, .fini = close_tape);

/* Random numbers, `shift` added to the diagonal. */
static ad_var matrix(ad_dtype dtype, int64_t m, int64_t n, double shift, uint64_t seed) {
    ad_view view = test_random(dtype, AD_SHAPE(m, n), TEST_DENSE, seed);
    for (int64_t i = 0; i < m && i < n; i++) test_set(&view, i * (n + 1), test_get(&view, i * (n + 1)) + shift);
    return ad_leaf(t, NULL, dtype, view.shape, view.data);
}

static ad_var identity(ad_dtype dtype, int64_t n) {
    return ad_diag_embed(ad_broadcast_to(ad_number(t, dtype, 1), AD_SHAPE(n)), 0);
}

/* The largest difference of any two elements. */
static double distance(ad_var a, ad_var b) {
    ad_view x = ad_value(a), y = ad_value(b);
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s", ad_tape_error(t));
    cr_assert(ad_shape_equal(&x.shape, &y.shape));
    double largest = 0;
    for (int64_t i = 0, n = ad_view_count(&x); i < n; i++) {
        double difference = fabs(ad_view_get(&x, i) - ad_view_get(&y, i));
        cr_assert_not(isnan(difference), "NaN at %lld", (long long)i);
        largest = fmax(largest, difference);
    }
    return largest;
}

static double rounding(ad_dtype dtype) { return dtype == AD_F32 ? 0x1p-23 : 0x1p-52; }

/* Runs for both types and all sizes. */
static void each_size(void (*check)(ad_dtype dtype, int n, double rounding)) {
    for (int dtype = AD_F32; dtype <= AD_F64; dtype++) {
        for (int i = 0; i < TEST_COUNT(sizes); i++) {
            ad_tape_reset(t);
            check((ad_dtype)dtype, sizes[i], rounding((ad_dtype)dtype) * sizes[i]);
        }
    }
}

static ad_var half(ad_var x, unsigned flags) {
    int64_t k = flags & AD_UNIT_DIAGONAL ? 1 : 0;
    return flags & AD_UPPER ? ad_triu(x, k) : ad_tril(x, -k);
}

/* NaN wherever the matrix must not be read. */
static void check_triangles(ad_dtype dtype, int n, double rounding) {
    for (unsigned flags = 0; flags < 8; flags++) {
        ad_var a = ad_scale(matrix(dtype, n, n, 4 * sqrt(n), 1), 1 / sqrt(n)), b = matrix(dtype, n, 5, 0, 2);
        ad_var ones = ad_broadcast_to(ad_number(t, dtype, 1), AD_SHAPE(n, n)), triangle = half(a, flags);
        ad_var read = ad_where(half(ones, flags), a, ad_number(t, dtype, NAN));
        if (flags & AD_UNIT_DIAGONAL) triangle = ad_add(triangle, identity(dtype, n));
        if (flags & AD_TRANSPOSED) triangle = ad_transpose(triangle);
        ad_var x = ad_triangular_solve(read, b, flags);
        cr_assert_lt(distance(ad_matmul(triangle, x), b), 20 * rounding, "%d: %u", n, flags);
        ad_var gradient;
        ad_grad(x, b, 1, &read, &gradient);
        cr_assert_eq(distance(gradient, half(gradient, flags)), 0);
    }
}
Test(identity, a_triangle_times_its_solution_is_the_right_hand_side) { each_size(check_triangles); }

static void check_cholesky(ad_dtype dtype, int n, double rounding) {
    ad_var x = matrix(dtype, n, n, 0, 3), a = ad_add(ad_matmul(x, ad_transpose(x)), ad_scale(identity(dtype, n), n));
    ad_var l = ad_cholesky(a), b = matrix(dtype, n, 3, 0, 4);
    cr_assert_lt(distance(ad_matmul(l, ad_transpose(l)), a), 10 * n * rounding);
    cr_assert_eq(distance(l, ad_tril(l, 0)), 0);
    cr_assert_lt(distance(ad_matmul(a, ad_cholesky_solve(l, b)), b), 20 * rounding);
    ad_var log_diagonal = ad_log(ad_einsum("ii->i", 1, &l));
    ad_var log_det = ad_scale(ad_sum(log_diagonal, AD_ALL_AXES, false), 2);
    cr_assert(test_near(ad_item(ad_logdet(a)), ad_item(log_det), 20 * rounding));
}
Test(identity, cholesky_factors_multiply_to_the_matrix) { each_size(check_cholesky); }

static void check_solve(ad_dtype dtype, int n, double rounding) {
    ad_var a = matrix(dtype, n, n, 0, 5), b = matrix(dtype, n, 4, 0, 6), in[] = {a, b}, y[3];
    ad_apply(t, ad_op_find("solve"), 2, in, NULL, y);
    ad_var l = ad_add(ad_tril(y[1], -1), identity(dtype, n)), u = ad_triu(y[1], 0);
    ad_var order = ad_broadcast_to(ad_reshape(y[2], AD_SHAPE(n, 1)), AD_SHAPE(n, n));
    cr_assert_lt(distance(ad_matmul(l, u), ad_gather(a, 0, order)), 10 * rounding, "%d", n);
    /* the residual of a backward stable solution is small against |A| |x| */
    ad_view x = ad_value(y[0]);
    double largest = 1;
    for (int64_t i = 0; i < ad_view_count(&x); i++) largest = fmax(largest, fabs(ad_view_get(&x, i)));
    cr_assert_lt(distance(ad_matmul(a, y[0]), b), 20 * rounding * largest, "%d", n);
    for (int i = 0; i < n; i++) {
        ad_view lower = ad_value(l);
        for (int j = 0; j < i; j++) cr_assert_leq(fabs(ad_view_get(&lower, i * n + j)), 1, "not the largest pivot");
    }
}
Test(identity, lu_factors_multiply_to_the_rows_in_their_order_and_solve) { each_size(check_solve); }

static void check_inverse(ad_dtype dtype, int n, double rounding) {
    ad_var a = matrix(dtype, n, n, 2 * sqrt(n), 7), sign;
    cr_assert_lt(distance(ad_matmul(a, ad_inverse(a)), identity(dtype, n)), 20 * rounding, "%d", n);
    ad_var log_det = ad_slogdet(a, &sign), twice = ad_slogdet(ad_matmul(a, a), NULL);
    cr_assert(test_near(2 * ad_item(log_det), ad_item(twice), 20 * rounding), "%d", n);
    ad_var back = ad_slogdet(ad_inverse(a), NULL);
    cr_assert(test_near(ad_item(log_det), -ad_item(back), 20 * rounding));
    cr_assert_eq(fabs(ad_item(sign)), 1);
}
Test(identity, a_matrix_times_its_inverse_is_one_and_determinants_multiply) { each_size(check_inverse); }

static void check_qr_of(ad_dtype dtype, int m, int n, double rounding) {
    ad_var a = matrix(dtype, m, n, 0, 8), r, q = ad_qr(a, &r);
    int k = m < n ? m : n;
    cr_assert_lt(distance(ad_matmul(q, r), a), 10 * rounding);
    cr_assert_lt(distance(ad_matmul(ad_transpose(q), q), identity(dtype, k)), 5 * rounding);
    cr_assert_eq(distance(r, ad_triu(r, 0)), 0);
    ad_view upper = ad_value(r);
    for (int i = 0; i < k; i++) cr_assert_geq(ad_view_get(&upper, i * n + i), 0);
}
static void check_qr(ad_dtype dtype, int n, double rounding) {
    check_qr_of(dtype, n, n, rounding);
    check_qr_of(dtype, n + 7, n, rounding);
    check_qr_of(dtype, n, n + 7, rounding);
}
Test(identity, q_is_orthogonal_r_a_triangle_and_their_product_the_matrix) { each_size(check_qr); }

/* Scales the columns of `vectors`. */
static ad_var times_diagonal(ad_var vectors, ad_var values) {
    ad_view view = ad_value(values);
    return ad_mul(vectors, ad_reshape(values, AD_SHAPE(1, view.shape.dim[0])));
}

static void check_order(ad_var values, int sign) {
    ad_view view = ad_value(values);
    for (int64_t i = 1; i < view.shape.dim[0]; i++)
        cr_assert_geq(sign * ad_view_get(&view, i), sign * ad_view_get(&view, i - 1));
}

static void check_eigh(ad_dtype dtype, int n, double rounding) {
    ad_var x = matrix(dtype, n, n, 0, 9), a = ad_scale(ad_add(x, ad_transpose(x)), 0.5), v, w = ad_eigh(x, &v);
    cr_assert_lt(distance(ad_matmul(times_diagonal(v, w), ad_transpose(v)), a), 10 * rounding, "%d", n);
    cr_assert_lt(distance(ad_matmul(ad_transpose(v), v), identity(dtype, n)), 5 * rounding);
    check_order(w, 1);
}
Test(identity, eigenvectors_are_orthogonal_and_give_the_matrix_back) { each_size(check_eigh); }

static void check_svd_of(ad_dtype dtype, ad_var a, int k, double rounding) {
    ad_var u, vt, s = ad_svd(a, &u, &vt);
    cr_assert_lt(distance(ad_matmul(times_diagonal(u, s), vt), a), 10 * rounding);
    cr_assert_lt(distance(ad_matmul(ad_transpose(u), u), identity(dtype, k)), 5 * rounding);
    cr_assert_lt(distance(ad_matmul(vt, ad_transpose(vt)), identity(dtype, k)), 5 * rounding);
    check_order(s, -1);
    ad_view values = ad_value(s);
    for (int i = 0; i < k; i++) cr_assert_geq(ad_view_get(&values, i), 0);
}
static void check_svd(ad_dtype dtype, int n, double rounding) {
    check_svd_of(dtype, matrix(dtype, n, n, 0, 10), n, rounding);
    check_svd_of(dtype, matrix(dtype, n + 7, n, 0, 11), n, rounding);
    check_svd_of(dtype, matrix(dtype, n, n + 7, 0, 12), n, rounding);
    ad_var thin = matrix(dtype, n, 2, 0, 13);
    check_svd_of(dtype, ad_matmul(thin, ad_transpose(thin)), n, 10 * rounding); /* of rank 2 */
}
Test(identity, singular_vectors_are_orthogonal_and_give_the_matrix_back_whatever_its_rank) { each_size(check_svd); }

static void check_exp(ad_dtype dtype, int n, double rounding) {
    ad_var a = ad_scale(matrix(dtype, n, n, 0, 14), 1 / sqrt(n)), forward = ad_matrix_exp(a);
    cr_assert_lt(distance(ad_matmul(forward, ad_matrix_exp(ad_neg(a))), identity(dtype, n)), 100 * rounding, "%d", n);
    cr_assert_lt(distance(ad_matrix_exp(ad_scale(a, 2)), ad_matmul(forward, forward)), 100 * rounding, "%d", n);
    ad_var log_det = ad_logdet(forward), trace = ad_sum(ad_einsum("ii->i", 1, &a), AD_ALL_AXES, false);
    cr_assert(test_near(ad_item(log_det), ad_item(trace), 100 * rounding));
}
Test(identity, the_exponential_of_the_negative_is_the_inverse_and_its_determinant_that_of_the_trace) {
    each_size(check_exp);
}

/* ---- far from 1 -------------------------------------------------------------------------------------------------- */

/* All of these scale with the matrix, exactly where the factor is a power of 2 that leaves the numbers normal. */
Test(identity, decompositions_neither_overflow_nor_vanish) {
    for (int exponent = -900; exponent <= 900; exponent += 300) {
        ad_tape_reset(t);
        ad_var a = matrix(AD_F64, 6, 6, 1, 15), big = ad_scale(a, ldexp(1, exponent)), r, r_big;
        ad_var q = ad_qr(a, &r), q_big = ad_qr(big, &r_big);
        cr_assert_eq(distance(q, q_big) + distance(ad_scale(r, ldexp(1, exponent)), r_big), 0);
        ad_var w = ad_eigh(a, NULL), w_big = ad_eigh(big, NULL), s = ad_svd(a, NULL, NULL),
               s_big = ad_svd(big, NULL, NULL);
        cr_assert_eq(distance(ad_scale(w, ldexp(1, exponent)), w_big), 0);
        cr_assert_eq(distance(ad_scale(s, ldexp(1, exponent)), s_big), 0);
        ad_var b = matrix(AD_F64, 6, 2, 0, 16);
        cr_assert_eq(distance(ad_solve(a, b), ad_scale(ad_solve(big, b), ldexp(1, exponent))), 0);
        ad_var log_det = ad_slogdet(a, NULL);
        cr_assert(test_near(ad_item(ad_slogdet(big, NULL)), ad_item(log_det) + 6 * exponent * log(2), 1e-14));
    }
}

/* Columns of very different sizes: each singular value has all its digits, which squaring the matrix would lose. */
Test(identity, small_singular_values_are_as_exact_as_large_ones) {
    const double scales[] = {1, 1e-6, 1e-12, 1e-18};
    ad_var q = ad_qr(matrix(AD_F64, 7, 4, 0, 17), NULL), s = ad_constant(t, NULL, AD_F64, AD_SHAPE(4), scales);
    ad_view got = ad_value(ad_svd(times_diagonal(q, s), NULL, NULL));
    for (int i = 0; i < 4; i++) cr_assert_lt(fabs(ad_view_get(&got, i) / scales[i] - 1), 1e-13, "%d", i);
}

/* ---- conventions ------------------------------------------------------------------------------------------------- */

TestSuite(convention, .init = open_tape, .fini = close_tape);

#define MATRIX(n, ...)   ad_leaf(t, "A", AD_F64, AD_SHAPE(n, n), ((double[]){__VA_ARGS__}))
#define STACK(m, n, ...) ad_leaf(t, "A", AD_F64, AD_SHAPE(m, n, n), ((double[]){__VA_ARGS__}))

static ad_var gradient_of(ad_var y, ad_var seed, ad_var x) {
    ad_var gradient;
    ad_grad(y, seed, 1, &x, &gradient);
    return gradient;
}

static void expect_matrix_at(const char *line, ad_var x, int64_t n, const double *values, double tolerance) {
    ad_view view = ad_value(x);
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s: %s", line, ad_tape_error(t));
    cr_assert_eq(ad_view_count(&view), n, "%s: %lld elements", line, (long long)ad_view_count(&view));
    for (int64_t i = 0; i < n; i++) expect_near_at(line, ad_view_get(&view, i), values[i], tolerance);
}
#define expect_matrix(x, ...)                                                                                        \
    expect_matrix_at(AD_HERE, x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)),                        \
                     (double[]){__VA_ARGS__}, 1e-14)

Test(convention, cholesky_and_eigh_take_the_symmetric_part_and_give_it_a_symmetric_gradient) {
    ad_var a = MATRIX(2, 4, 3, 1, 5), symmetric = MATRIX(2, 4, 2, 2, 5), v, v_symmetric;
    cr_assert_eq(distance(ad_cholesky(a), ad_cholesky(symmetric)), 0);
    cr_assert_eq(distance(ad_eigh(a, &v), ad_eigh(symmetric, &v_symmetric)) + distance(v, v_symmetric), 0);
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 2), ((double[]){1, 2, 3, 4}));
    ad_var by_cholesky = gradient_of(ad_cholesky(a), seed, a), by_eigh = gradient_of(v, seed, a);
    cr_assert_eq(distance(by_cholesky, ad_transpose(by_cholesky)) + distance(by_eigh, ad_transpose(by_eigh)), 0);
}

Test(convention, vectors_have_their_largest_element_positive_and_r_its_diagonal) {
    ad_var v, vt, u, r;
    ad_eigh(MATRIX(2, -2, -1, -1, 5), &v);
    ad_view vectors = ad_value(v);
    cr_assert(ad_view_get(&vectors, 0) > 0 && ad_view_get(&vectors, 3) > 0);
    ad_var a = ad_leaf(t, NULL, AD_F64, AD_SHAPE(3, 2), ((double[]){-3, 0, 0, -2, 0, 0}));
    expect_matrix(ad_svd(a, &u, &vt), 3, 2);
    expect_matrix(vt, 1, 0, 0, 1);
    expect_matrix(u, -1, 0, 0, -1, 0, 0);
    expect_matrix(ad_svd(ad_transpose(a), &u, &vt), 3, 2);
    expect_matrix(u, 1, 0, 0, 1);
    expect_matrix(vt, -1, 0, 0, 0, -1, 0);
    expect_matrix(ad_qr(a, &r), -1, 0, 0, -1, 0, 0);
    expect_matrix(r, 3, 0, 0, 2);
}

/* The sum of the eigenvalues is the trace, and has a derivative, though single vectors have none. */
Test(convention, equal_eigenvalues_pass_the_gradient_of_values_and_of_what_does_not_tell_their_vectors_apart) {
    ad_var a = MATRIX(3, 2, 0, 0, 0, 2, 0, 0, 0, 5), v, w = ad_eigh(a, &v), ones = CONSTANT(t, 1, 1, 1);
    expect_matrix(w, 2, 2, 5);
    expect_matrix(gradient_of(w, ones, a), 1, 0, 0, 0, 1, 0, 0, 0, 1);
    ad_var third = ad_einsum("ij,j,kj->ik", AD_VARS(v, ad_mul(w, ad_mul(w, w)), v)); /* A^3 */
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(3, 3), ((double[]){0, 0, 1, 0, 0, 0, 0, 0, 0}));
    expect_matrix(gradient_of(third, seed, a), 0, 0, 19.5, 0, 0, 0, 19.5, 0, 0); /* sym of 4 + 10 + 25 */
    cr_assert(isfinite(ad_item(ad_sum(gradient_of(v, seed, a), AD_ALL_AXES, false))));
}

/* The sum of the singular values has the gradient U V^T. */
Test(convention, equal_singular_values_pass_the_gradient_of_values) {
    ad_var a = MATRIX(2, 0, -3, 3, 0), s = ad_svd(a, NULL, NULL);
    expect_matrix(s, 3, 3);
    expect_matrix(gradient_of(s, CONSTANT(t, 1, 1), a), 0, -1, 1, 0);
    ad_var zero = MATRIX(2, 0, 0, 0, 0), u;
    expect_matrix(ad_svd(zero, &u, NULL), 0, 0);
    ad_var seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 2), ((double[]){1, 2, 3, 4}));
    expect_matrix(gradient_of(u, seed, zero), 0, 0, 0, 0);
}

Test(convention, the_determinant_is_differentiable_where_it_is_0) {
    ad_var a = MATRIX(2, 1, 2, 2, 4), seed = ad_number(t, AD_F64, 1);
    expect_matrix(ad_det(a), 0);
    expect_matrix(gradient_of(ad_det(a), seed, a), 4, -2, -2, 1);
    ad_var zero = MATRIX(2, 0, 0, 0, 0), first = gradient_of(ad_det(zero), seed, zero);
    expect_matrix(first, 0, 0, 0, 0);
    ad_var corner = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 2), ((double[]){1, 0, 0, 0}));
    expect_matrix(gradient_of(first, corner, zero), 0, 0, 0, 1); /* d2 / da11 da22 */
}

Test(convention, a_singular_matrix_has_the_log_determinant_minus_infinity_and_a_gradient_only_of_0) {
    ad_var a = STACK(2, 2, 1, 2, 2, 4, 2, 0, 0, 2), sign, y = ad_slogdet(a, &sign);
    expect_values(ad_value(y), -INFINITY, log(4));
    expect_values(ad_value(sign), 0, 1);
    expect_values(ad_value(ad_logdet(a)), -INFINITY, log(4));
    expect_gradient(y, CONSTANT(t, 0, 1), a, 0, 0, 0, 0, 0.5, 0, 0, 0.5);
    expect_gradient(ad_logdet(a), CONSTANT(t, 0, 1), a, 0, 0, 0, 0, 0.5, 0, 0, 0.5);
    ad_backward_with(y, &(ad_backward_options){.seed = CONSTANT(t, 1, 0)});
    expect_error(t, AD_ERR_VALUE, "inverse", "is singular: pivot 1 is 0");
}

Test(convention, the_sign_of_a_determinant_has_gradient_0) {
    ad_var a = MATRIX(2, 1, 2, 3, 4), sign;
    ad_slogdet(a, &sign);
    cr_assert_eq(ad_item(sign), -1);
    expect_gradient(sign, ad_number(t, AD_F64, 1), a, 0, 0, 0, 0);
}

Test(convention, matrices_of_no_rows_have_the_determinant_1_and_nothing_else) {
    ad_var none = ad_leaf(t, NULL, AD_F64, AD_SHAPE(0, 0), NULL), v, sign;
    ad_tape_reset(t);
    none = ad_leaf(t, NULL, AD_F64, AD_SHAPE(0, 0), (double[]){0});
    cr_assert_eq(ad_item(ad_det(none)), 1);
    cr_assert_eq(ad_item(ad_slogdet(none, &sign)), 0);
    cr_assert_eq(ad_item(sign), 1);
    expect_matrix_at(AD_HERE, ad_eigh(none, &v), 0, NULL, 0);
    expect_matrix_at(AD_HERE, ad_matrix_exp(none), 0, NULL, 0);
    expect_matrix_at(AD_HERE, ad_inverse(none), 0, NULL, 0);
}

/* ---- third derivatives ---------------------------------------------------------------------------------------- */

typedef ad_var (*one_matrix)(ad_var a);
static ad_var solved(ad_var a) { return ad_solve(a, ad_tril(a, 0)); }
static ad_var solved_by_triangle(ad_var a) {
    return ad_triangular_solve(a, ad_transpose(a), AD_UPPER | AD_TRANSPOSED);
}
static ad_var cholesky_factor(ad_var a) { return ad_cholesky(a); }
static ad_var inverse_of(ad_var a) { return ad_inverse(a); }
static ad_var log_determinant(ad_var a) { return ad_logdet(a); }
static ad_var determinant(ad_var a) { return ad_det(a); }
static ad_var values_of(ad_var a) { return ad_eigh(a, NULL); }
static ad_var q_of(ad_var a) { return ad_qr(a, NULL); }
static ad_var singular_values_of(ad_var a) { return ad_svd(a, NULL, NULL); }
static ad_var exponential(ad_var a) { return ad_matrix_exp(ad_scale(a, 0.25)); }

static ad_var gradient_of_squares(ad_tape *tape, const ad_var *x, int n, void *user) {
    (void)tape;
    ad_var y = (*(one_matrix *)user)(x[0]), none = {0}, gradient;
    ad_grad(ad_sum(ad_mul(y, ad_mul(y, y)), AD_ALL_AXES, false), none, n, x, &gradient);
    return gradient;
}

/* The second derivative of a gradient is the third of the function. */
Test(derivatives, of_the_third_order_agree_with_differences) {
    one_matrix functions[] = {solved,     solved_by_triangle, cholesky_factor,
                              inverse_of, log_determinant,    determinant,
                              values_of,  vectors_of,         q_of,
                              r_of,       singular_values_of, u_of,
                              vt_of,      exponential};
    const double values[] = {4, 1, -1, 0.5, 7, 2, -0.25, 1.5, 11};
    ad_tensor *x;
    cr_assert_eq(ad_tensor_new(&x, NULL, AD_F64, AD_SHAPE(3, 3), values, NULL), AD_OK);
    for (int i = 0; i < TEST_COUNT(functions); i++) {
        ad_check_report report;
        ad_gradcheck("gradient", gradient_of_squares, &functions[i], 1, &x, NULL, &report);
        cr_expect_eq(report.status, AD_OK, "function %d: %s", i, report.message);
    }
    ad_tensor_unref(x);
}

/* ---- einsum ------------------------------------------------------------------------------------------------------ */

TestSuite(einsum, .init = open_tape, .fini = close_tape);

/* The most elements that any node holds. */
static int64_t largest_value(void) {
    int64_t largest = 0;
    ad_node_info info;
    for (int64_t i = 0; i < ad_tape_size(t); i++) {
        cr_assert_eq(ad_tape_node(t, i, &info), AD_OK);
        int64_t count = ad_view_count(&info.value);
        if (!info.is_view && count > largest) largest = count;
    }
    return largest;
}

Test(einsum, contracts_in_an_order_that_keeps_what_is_between_small) {
    ad_var a = matrix(AD_F64, 20, 30, 0, 1), b = matrix(AD_F64, 30, 20, 0, 2), x = matrix(AD_F64, 20, 1, 0, 3);
    ad_einsum("ij,jk,kl->il", AD_VARS(a, b, x));
    cr_assert_eq(largest_value(), 600, "A B was made before B x");
    ad_tape_reset(t);
    ad_var u = matrix(AD_F64, 40, 1, 0, 1), v = matrix(AD_F64, 40, 1, 0, 2);
    ad_einsum("ab,cb,ad,cd->", AD_VARS(u, v, u, v));
    cr_assert_eq(largest_value(), 40, "an outer product was made");
    expect_ok(t);
}

Test(einsum, of_one_matrix_product_is_that_product) {
    ad_var a = matrix(AD_F64, 3, 4, 0, 1), b = matrix(AD_F64, 4, 5, 0, 2);
    int64_t before = ad_tape_size(t);
    ad_var y = ad_einsum("ij,jk->ik", AD_VARS(a, b));
    cr_assert_eq(ad_tape_size(t), before + 1, "more than a matmul");
    cr_assert_eq(distance(y, ad_matmul(a, b)), 0);
    cr_assert_eq(ad_einsum("ij->ij", 1, &a).index, a.index, "nothing to do");
}

Test(einsum, takes_many_operands) {
    enum { MANY = 40 };
    ad_var in[MANY];
    char text[4 * MANY + 8] = "";
    for (int i = 0; i < MANY; i++) {
        in[i] = matrix(AD_F64, 2, 2, 0, (uint64_t)i + 1);
        sprintf(text + strlen(text), "%s%c%c", i ? "," : "", 'a' + i % 26 - (i < 26 ? 0 : 32),
                i + 1 < 26 ? 'b' + i : 'A' + i + 1 - 26);
    }
    sprintf(text + strlen(text), "->a%c", 'A' + MANY - 26);
    ad_var product = in[0];
    for (int i = 1; i < MANY; i++) product = ad_matmul(product, in[i]);
    ad_view view = ad_value(product);
    double size = fabs(ad_view_get(&view, 0)) + 1;
    cr_assert_lt(distance(ad_einsum(text, MANY, in), product), 1e-12 * size, "%s", text);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

TestSuite(linalg_errors, .init = open_tape, .fini = close_tape);

static const double zeros[64];
#define ZEROS(name, ...) ad_leaf(t, name, AD_F64, AD_SHAPE(__VA_ARGS__), zeros)

Test(linalg_errors, products_say_what_does_not_fit) {
    ad_linear(ZEROS("x", 2, 3), ZEROS("W", 3, 4), ZEROS("b", 3));
    expect_error(t, AD_ERR_SHAPE, "linear", "x is f64[2,3], W is f64[3,4] (3 != 4)", "did you mean ad_transpose(W)?");
    ad_linear(ZEROS("x", 2, 3), ZEROS("W", 4, 3), ZEROS("b", 3));
    expect_error(t, AD_ERR_SHAPE, "one element per row of the weights: b is f64[3], W is f64[4,3]");
    ad_linear(ZEROS("x", 2, 3), ZEROS("W", 3), ZEROS("b", 3));
    expect_error(t, AD_ERR_SHAPE, "W is f64[3], but weights are a matrix [outputs, inputs]");
    ad_linear(ad_scalar(t, "x", 1), ZEROS("W", 3, 1), ZEROS("b", 3));
    expect_error(t, AD_ERR_SHAPE, "x is f64[]: it needs a last axis, of features");
    ad_linear(ad_leaf(t, "x", AD_F32, AD_SHAPE(2, 3), zeros), ZEROS("W", 4, 3), ZEROS("b", 4));
    expect_error(t, AD_ERR_DTYPE, "x is f32[2,3], W is f64[4,3]");
    ad_dot(ZEROS("a", 2, 3), ZEROS("b", 4));
    expect_error(t, AD_ERR_SHAPE, "ad_dot", "differ in length: a is f64[2,3], b is f64[4]");
    ad_dot(ad_scalar(t, "a", 1), ZEROS("b", 4));
    expect_error(t, AD_ERR_SHAPE, "a is f64[], but it takes vectors, or stacks of them of up to 7 axes");
    ad_outer(ZEROS("a", 2), ZEROS("b", 1, 1, 1, 1, 1, 1, 1, 2));
    expect_error(t, AD_ERR_SHAPE, "ad_outer", "b is f64[1,1,1,1,1,1,1,2]");
    ad_outer(ZEROS("a", 2), (ad_var){0});
    expect_error(t, AD_ERR_HANDLE, "ad_outer", "b");
}

Test(linalg_errors, sums_of_products_need_pairs_that_are_alike) {
    ad_matmul_sum(AD_VARS(ZEROS("a", 2, 3)), 0);
    expect_error(t, AD_ERR_VALUE, "matmul_sum", "1 inputs, but it multiplies pairs");
    ad_matmul_sum(AD_VARS(ZEROS("a", 2, 3), ZEROS("b", 3, 2)), 4);
    expect_error(t, AD_ERR_VALUE, "flags are 4", "AD_LEFT_TRANSPOSED");
    ad_matmul_sum(AD_VARS(ZEROS("a", 2, 3), ZEROS("b", 3, 2)), AD_RIGHT_TRANSPOSED);
    expect_error(t, AD_ERR_SHAPE, "inner dimensions differ: a is f64[2,3], b is f64[3,2] (3 != 2)");
    ad_matmul_sum(AD_VARS(ZEROS("a", 3), ZEROS("b", 3, 2)), 0);
    expect_error(t, AD_ERR_SHAPE, "a is f64[3]");
    ad_matmul_sum(AD_VARS(ZEROS("a", 2, 3), ZEROS("b", 3, 2), ZEROS("c", 2, 3), ZEROS("d", 3, 4)), 0);
    expect_error(t, AD_ERR_SHAPE, "the pairs differ in shape: b is f64[3,2], d is f64[3,4]");
    ad_matmul_sum(AD_VARS(ZEROS("a", 4, 2, 3), ZEROS("b", 5, 3, 2)), 0);
    expect_error(t, AD_ERR_SHAPE, "leading dimensions do not broadcast: a is f64[4,2,3], b is f64[5,3,2]");
    ad_matmul_sum(AD_VARS(ZEROS("a", 2, 3), ZEROS("b", 3, 2), ZEROS("c", 3)), 0);
    expect_error(t, AD_ERR_SHAPE, "c is f64[3], but what is added must broadcast to the products, f64[2,2]");
    ad_through_relu(ZEROS("a", 2, 3), ZEROS("b", 3));
    expect_error(t, AD_ERR_SHAPE, "through_relu", "shapes differ: a is f64[2,3], b is f64[3]");
}

Test(linalg_errors, tensordot_names_the_axis) {
    ad_var a = ZEROS("a", 2, 3), b = ZEROS("b", 3, 4);
    ad_tensordot(a, b, AD_AXES(1), AD_AXES(1));
    expect_error(t, AD_ERR_SHAPE, "tensordot",
                 "axis 1 of a is f64[2,3] and axis 1 of b is f64[3,4] differ in length");
    ad_tensordot(ZEROS("a", 2, 3), ZEROS("b", 3, 4), AD_AXES(1, 0), AD_AXES(0));
    expect_error(t, AD_ERR_INDEX, "2 axes of a, but 1 of b");
    ad_tensordot(ZEROS("a", 2, 3), ZEROS("b", 3, 4), AD_AXES(2), AD_AXES(0));
    expect_error(t, AD_ERR_INDEX, "axis 2 is out of range: a is f64[2,3]");
    ad_tensordot(ZEROS("a", 3, 3), ZEROS("b", 3, 3), AD_AXES(0, 1), AD_AXES(1, -1));
    expect_error(t, AD_ERR_INDEX, "axis -1 is named twice: b is f64[3,3]");
}

Test(linalg_errors, einsum_points_at_the_letter) {
    const struct {
        const char *spec;
        ad_status status;
        const char *text[2];
    } cases[] = {
        {"ij,jk->ik",
         AD_ERR_SHAPE,
         {"einsum", "\"ij,[j]k->ik\": j has length 4 here, but 3 before: A is f64[2,3], B is f64[4,5]"}},
        {"ii,jk", AD_ERR_SHAPE, {"\"i[i],jk\": i has length 3 here, but 2 before: A is f64[2,3]", ""}},
        {"ijk,jk", AD_ERR_SHAPE, {"\"[ijk],jk\": 3 letters for an operand of rank 2: A is f64[2,3]", ""}},
        {"i,jk",
         AD_ERR_SHAPE,
         {"\"[i],jk\": 1 letter for an operand of rank 2: A is f64[2,3]", "\"...\" stands for axes"}},
        {"ij,j1", AD_ERR_VALUE, {"\"ij,j[1]\": axes are named by letters", ""}},
        {"ij", AD_ERR_VALUE, {"\"ij\": names 1 operand, but 2 were given", ""}},
        {"ij,kl,mn", AD_ERR_VALUE, {"names more operands than the 2 given", ""}},
        {"ij,kl->im", AD_ERR_VALUE, {"\"ij,kl->i[m]\": m is in no operand", ""}},
        {"ij,kl->ii", AD_ERR_VALUE, {"\"ij,kl->i[i]\": i is in the output twice", ""}},
        {"ij,kl-ik", AD_ERR_VALUE, {"\"ij,kl[-]ik\"", "not part of \"->\""}},
        {"ij,kl->i,k", AD_ERR_VALUE, {"\"ij,kl->i[,]k\": the output is one list of letters", ""}},
        {"i..,kl", AD_ERR_VALUE, {"\"i[.].,kl\"", "not part of \"...\""}},
        {"...i...,kl", AD_ERR_VALUE, {"\"...i[...],kl\": a second \"...\"", ""}},
        {"...,kl->kl", AD_ERR_VALUE, {"\"...,kl->[kl]\"", "needs \"...\" too"}},
        {"i...,...->i...",
         AD_ERR_SHAPE,
         {"\"i...,[...]->i...\": an axis of ... has length 5 here, but 3 before", ""}},
        {"abcdefghi,kl", AD_ERR_LIMIT, {"\"abcdefgh[i],kl\": more than 8 axes", ""}},
        {NULL, AD_ERR_NULL, {"the text is NULL", ""}},
    };
    for (int i = 0; i < TEST_COUNT(cases); i++) {
        ad_var in[] = {ZEROS("A", 2, 3), ZEROS("B", 4, 5)};
        cr_assert_eq(ad_einsum(cases[i].spec, 2, in).generation, 0);
        expect_error(t, cases[i].status, cases[i].text[0], cases[i].text[1]);
    }
}

Test(linalg_errors, einsum_refuses_bad_operands_and_what_has_too_many_axes) {
    ad_var wide[] = {ZEROS("A", 1, 1, 1, 1, 1, 1), ZEROS("B", 1, 1, 1, 1, 1, 1)};
    ad_einsum("abcdef,ghijkl->a", 2, wide);
    expect_ok(t);
    ad_einsum("abcdef,ghijkl", 2, wide);
    expect_error(t, AD_ERR_LIMIT, "the result has more than 8 axes");
    ad_var three[] = {ZEROS("A", 1, 1, 1, 1, 1), ZEROS("B", 1, 1, 1, 1, 1), ZEROS("C", 1, 1, 1, 1, 1, 1, 1, 1)};
    ad_einsum("abcde,fghij,abcdfghi->ej", 3, three);
    expect_ok(t);
    ad_tensordot(three[0], three[2], AD_AXES(0), AD_AXES(0));
    expect_error(t, AD_ERR_LIMIT, "an intermediate result would have 11 axes, but 8 is the most");
    ad_var bad[] = {ZEROS("A", 1), {0}};
    ad_einsum("a,a", 2, bad);
    expect_error(t, AD_ERR_HANDLE, "operand 1");
    cr_assert_eq(ad_einsum("a", 0, bad).generation, 0);
    cr_assert_eq(ad_einsum("a", 1, NULL).generation, 0);
}

Test(linalg_errors, matrices_must_be_square_and_right_hand_sides_fit) {
    ad_var (*const square[])(const char *, ad_var) = {ad_cholesky_at, ad_inverse_at,  ad_det_at,
                                                      ad_logdet_at,   ad_cofactor_at, ad_matrix_exp_at};
    for (int i = 0; i < TEST_COUNT(square); i++) {
        square[i](AD_HERE, ZEROS("A", 2, 3));
        expect_error(t, AD_ERR_SHAPE, "A is f64[2,3], but it must be square, or a stack of square matrices");
        square[i](AD_HERE, ZEROS("A", 3));
        expect_error(t, AD_ERR_SHAPE, "A is f64[3], but it must be a matrix or a stack of matrices");
        square[i](AD_HERE, ad_constant(t, "A", AD_I64, AD_SHAPE(2, 2), zeros));
        expect_error(t, AD_ERR_DTYPE, "A is i64[2,2], but it takes f32 or f64");
    }
    ad_eigh(ZEROS("A", 2, 3), NULL);
    expect_error(t, AD_ERR_SHAPE, "eigh", "must be square");
    ad_slogdet(ZEROS("A", 2, 3), NULL);
    expect_error(t, AD_ERR_SHAPE, "slogdet", "must be square");
    ad_qr(ZEROS("A", 2), NULL);
    expect_error(t, AD_ERR_SHAPE, "qr", "must be a matrix");
    ad_svd(ad_constant(t, "A", AD_I32, AD_SHAPE(2, 2), zeros), NULL, NULL);
    expect_error(t, AD_ERR_DTYPE, "svd", "A is i32[2,2]");
    ad_solve(ZEROS("A", 3, 3), ZEROS("b", 4, 2));
    expect_error(t, AD_ERR_SHAPE, "solve", "another number of rows: A is f64[3,3], b is f64[4,2] (3 != 4)");
    ad_solve(ZEROS("A", 3, 3), ZEROS("b", 2, 3));
    expect_error(t, AD_ERR_SHAPE, "a stack of vectors needs a last axis of 1");
    ad_solve(ZEROS("A", 3, 3), ad_scalar(t, "b", 1));
    expect_error(t, AD_ERR_SHAPE, "b is f64[], but the right-hand side is a column or a stack of columns");
    ad_triangular_solve(ZEROS("A", 2, 3, 3), ZEROS("b", 3, 3, 1), AD_LOWER);
    expect_error(t, AD_ERR_SHAPE, "triangular_solve",
                 "leading dimensions do not broadcast: A is f64[2,3,3], b is f64[3,3,1]");
    ad_triangular_solve(ZEROS("A", 3, 3), ZEROS("b", 3), 9);
    expect_error(t, AD_ERR_VALUE,
                 "flags are 9, which is not made of AD_LOWER, AD_UPPER, AD_TRANSPOSED and AD_UNIT_DIAGONAL");
    ad_cholesky_solve(ZEROS("L", 3, 3), (ad_var){0});
    expect_error(t, AD_ERR_HANDLE, "ad_cholesky_solve", "b");
}

Test(linalg_errors, what_has_no_solution_names_the_matrix_and_the_pivot) {
    const double stack[] = {2, 0, 0, 3, 1, 2, 2, 4}, indefinite[] = {2, 0, 0, 3, 1, 2, 2, 1};
    ad_inverse(STACK(2, 2, 2, 0, 0, 3, 1, 2, 2, 4));
    expect_error(t, AD_ERR_VALUE, "inverse at test_linalg.c", "A[1] is singular: pivot 1 is 0 (A is f64[2,2,2])");
    ad_solve(ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 1, 2, 2), stack), ZEROS("b", 2));
    expect_error(t, AD_ERR_VALUE, "A[1,0] is singular: pivot 1 is 0 (A is f64[2,1,2,2])");
    ad_solve(ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 2), stack + 4), ZEROS("b", 2));
    expect_error(t, AD_ERR_VALUE, "A is singular: pivot 1 is 0 (A is f64[2,2])");
    ad_cholesky(ad_leaf(t, "K", AD_F64, AD_SHAPE(2, 2, 2), indefinite));
    expect_error(t, AD_ERR_VALUE, "K[1] is not positive definite: pivot 1 is -3 (K is f64[2,2,2])",
                 "add a small multiple of the identity");
    ad_cholesky(ad_leaf(t, "K", AD_F64, AD_SHAPE(1, 1), (double[]){NAN}));
    expect_error(t, AD_ERR_VALUE, "K is not positive definite: pivot 0 is nan");
    ad_triangular_solve(ad_leaf(t, "L", AD_F64, AD_SHAPE(2, 2), (double[]){1, 5, 5, 0}), ZEROS("b", 2), AD_UPPER);
    expect_error(t, AD_ERR_VALUE, "L cannot be divided by on its diagonal: pivot 1 is 0 (L is f64[2,2])");
    ad_logdet(STACK(2, 2, 1, 0, 0, 1, 0, 1, 1, 0));
    expect_error(t, AD_ERR_VALUE,
                 "the determinant of A[1] is negative (A is f64[2,2,2]): ad_slogdet takes its absolute value");
    ad_matrix_exp(MATRIX(1, 1000));
    expect_error(t, AD_ERR_VALUE, "A has an exponential that overflows (A is f64[1,1])");
}

/* Singular in the middle of a large matrix, where a whole block of columns is done before. */
Test(linalg_errors, a_bad_pivot_is_found_in_any_block) {
    enum { N = 70 };
    for (int bad = 1; bad < N; bad += 31) {
        ad_view a = test_array(AD_F64, AD_SHAPE(N, N), TEST_DENSE);
        for (int i = 0; i < N * N; i++) test_set(&a, i, i % (N + 1) == 0 && i / N != bad);
        char text[32];
        snprintf(text, sizeof text, "pivot %d is 0", bad);
        ad_solve(ad_leaf(t, "A", AD_F64, a.shape, a.data), ad_leaf(t, "b", AD_F64, AD_SHAPE(N), a.data));
        expect_error(t, AD_ERR_VALUE, "A is singular", text);
        ad_cholesky(ad_leaf(t, "A", AD_F64, a.shape, a.data));
        expect_error(t, AD_ERR_VALUE, "A is not positive definite", text);
        ad_var logdet = ad_logdet(ad_leaf(t, "A", AD_F64, a.shape, a.data));
        cr_assert_eq(ad_item(logdet), -INFINITY);
        ad_tape_reset(t);
    }
}

Test(linalg_errors, decompositions_refuse_what_is_no_number) {
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < TEST_COUNT(bad); i++) {
        const double values[] = {1, 2, 3, 4, 1, 2, bad[i], 4};
        for (int k = 0; k < 5; k++) {
            ad_var a = ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 2, 2), values);
            if (k == 0) ad_qr(a, NULL);
            if (k == 1) ad_eigh(a, NULL);
            if (k == 2) ad_svd(a, NULL, NULL);
            if (k == 3) ad_matrix_exp(a);
            if (k == 4) ad_cofactor(a);
            expect_error(t, AD_ERR_VALUE, "A[1] holds inf or NaN (A is f64[2,2,2])");
        }
        ad_solve(ad_leaf(t, "A", AD_F64, AD_SHAPE(2, 2, 2), values), ZEROS("b", 2));
        expect_error(t, AD_ERR_VALUE, "A[1] is singular: pivot");
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* Each op forward and backward, at a size that needs blocks. */
static void record_all(ad_tape *tape) {
    enum { N = 40 };
    static double values[N * N], right[N];
    for (int i = 0; i < N * N; i++) values[i] = (i % (N + 1) == 0 ? 50 + i / N : 0) + sin(i);
    for (int i = 0; i < N; i++) right[i] = cos(i);
    ad_var a = ad_leaf(tape, "A", AD_F64, AD_SHAPE(N, N), values), b = ad_leaf(tape, "b", AD_F64, AD_SHAPE(N), right);
    ad_var r, v, u, vt, small = ad_scale(a, 0.01), l = ad_cholesky(a), in[] = {a, b, b};
    ad_var q = ad_qr(a, &r), w = ad_eigh(a, &v), s = ad_svd(a, &u, &vt);
    const ad_var parts[] = {ad_linear(b, a, b),   ad_outer(b, b), ad_solve(a, b), ad_triangular_solve(l, b, AD_LOWER),
                            ad_inverse(a),        ad_mul(q, r),   ad_mul(v, w),   ad_mul(ad_mul(u, s), vt),
                            ad_matrix_exp(small), ad_det(small)};
    ad_var sum = ad_add(ad_logdet(a), ad_einsum("ij,i,j->", 3, in));
    for (int i = 0; i < TEST_COUNT(parts); i++) sum = ad_add(sum, ad_sum(parts[i], AD_ALL_AXES, false));
    ad_backward(sum);
}

Test(linalg_memory, every_allocation_may_fail_and_nothing_is_asked_for_in_the_steady_state) {
    test_memory memory;
    int64_t calls = 0;
    for (int64_t fail_at = 0; fail_at <= calls; fail_at++) {
        test_memory_open(&memory);
        memory.fail_at = fail_at;
        memory.fail_on = true; /* the pool tries again, with what it kept given back */
        ad_tape *tape = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
        if (tape) record_all(tape);
        cr_assert_eq(ad_tape_status(tape),
                     fail_at == 0 ? AD_OK
                     : tape       ? AD_ERR_OOM
                                  : AD_ERR_NULL,
                     "call %lld: %s: %s", (long long)fail_at, ad_status_name(ad_tape_status(tape)),
                     ad_tape_error(tape));
        if (fail_at == 0) calls = memory.calls;
        memory.fail_at = 0;
        for (int step = 0; step < 2 && tape; step++) {
            int64_t before = memory.calls;
            ad_tape_reset(tape);
            record_all(tape);
            expect_ok(tape);
            if (step == 1 || fail_at == 0)
                cr_assert_eq(memory.calls, before, "%lld allocations", (long long)(memory.calls - before));
        }
        ad_tape_free(tape);
        test_memory_close(&memory);
    }
    cr_assert_gt(calls, 20);
}
