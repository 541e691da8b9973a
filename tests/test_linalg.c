/* Linear algebra: against PyTorch; by its own identities where matrices are large; and what it says when it cannot. */
#include "helpers.h"
#include "reference.h"
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

TestSuite(pytorch, .fini = test_arrays_free);

/* ---- against PyTorch ------------------------------------------------------------------------------------------------- */

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
OP(dot, ad_dot(in[0], in[1]))
OP(outer, ad_outer(in[0], in[1]))
OP(tensordot, ad_tensordot(in[0], in[1], digits(c->text), digits(strchr(c->text, ' ') + 1)))
OP(einsum, ad_einsum(c->text, c->inputs, in))
OP(triangle, ad_triangle(in[0], flags(c), c->value))
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
