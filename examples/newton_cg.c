/* newton_cg: minimises a function of 10,000 variables with its exact second derivatives, never written down.
 *
 * Rosenbrock's function as a chain, f(x) = sum over i of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2, is a curved valley whose
 * lowest point is (1, ..., 1). A step p of Newton's method solves H p = -gradient. The Hessian H has 10^8 elements, but
 * conjugate gradients only ask for products H v, and one costs about as much as a gradient: it is the derivative of the
 * gradient along v (Pearlmutter 1994). CG is stopped early, as usual (Nocedal and Wright 2006, algorithm 7.1): where the
 * curvature is negative, or where the residual is small beside the gradient; steps are halved until f falls enough. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>

enum { N = 10000, NEWTON_STEPS = 100, CG_STEPS = 400 };

static ad_status rosenbrock(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = ad_slice(in[0], 0, 0, -1, 1), next = ad_slice(in[0], 0, 1, AD_TO_END, 1);
    ad_var valley = ad_scale(ad_square(ad_sub(next, ad_square(x))), 100);
    ad_var slope = ad_square(ad_sub(ad_number(t, AD_F64, 1), x));
    out[0] = ad_sum(ad_add(valley, slope), AD_ALL_AXES, false);
    return AD_OK;
}

static double dot(const double *a, const double *b) {
    double sum = 0;
    for (int i = 0; i < N; i++) sum += a[i] * b[i];
    return sum;
}

/* y += c x */
static void add(double *y, double c, const double *x) {
    for (int i = 0; i < N; i++) y[i] += c * x[i];
}

/* Conjugate gradients for H p = -g. Counts the products. H is symmetric, so that a walk back (J^T u) gives the same as
 * one forward, and it is the faster one. */
static void solve(ad_linear *hessian, const double *g, double *p, int *products, ad_error *error) {
    static double r[N], d[N], hd[N];
    for (int i = 0; i < N; i++) {
        p[i] = 0;
        r[i] = g[i];
        d[i] = -g[i];
    }
    double rr = dot(r, r), size = sqrt(rr), enough = fmin(0.5, sqrt(size)) * size;
    for (int k = 0; k < CG_STEPS && sqrt(rr) > enough && !ad_linear_pull(hessian, d, hd, error); k++) {
        double curvature = dot(d, hd), before = rr;
        ++*products;
        if (curvature <= 0) {
            if (k == 0) add(p, 1, d);
            return;
        }
        add(p, before / curvature, d);
        add(r, before / curvature, hd);
        rr = dot(r, r);
        for (int i = 0; i < N; i++) d[i] = rr / before * d[i] - r[i];
    }
}

/* x goes along p as far as f falls enough; the new value of f. */
static double descend(ad_linear *f, double *x, const double *p, double fx, double slope, ad_error *error) {
    static double there[N];
    double value = NAN;
    for (double step = 1; step > 1e-10; step /= 2) {
        for (int i = 0; i < N; i++) there[i] = x[i] + step * p[i];
        if (ad_linear_move(f, there, error) || ad_linear_value(f, &value, error)) break;
        if (value > fx + 1e-4 * step * slope) continue;
        add(x, step, p);
        return value;
    }
    return fx;
}

/* Returns how far the last point is from (1, ..., 1). */
static double minimise(ad_linear *f, ad_linear *gradient, double *x, ad_error *error) {
    static double g[N], p[N];
    double value, worst = 0;
    int products = 0;
    if (ad_linear_value(f, &value, error)) return INFINITY;
    for (int k = 0; k <= NEWTON_STEPS; k++) {
        if (ad_linear_move(gradient, x, error) || ad_linear_value(gradient, g, error)) return INFINITY;
        double size = sqrt(dot(g, g));
        if (k % 5 == 0 || size < 1e-9)
            printf("  step %2d: f = %9.3e, |gradient| = %8.2e after %3d products\n", k, value, size, products);
        if (size < 1e-9) break;
        solve(gradient, g, p, &products, error);
        value = descend(f, x, p, value, dot(g, p), error);
    }
    for (int i = 0; i < N; i++) worst = fmax(worst, fabs(x[i] - 1));
    return worst;
}

int main(void) {
    static double x[N];
    ad_rng rng = {.seed = 1};
    for (int i = 0; i < N; i++) x[i] = 2 * ad_rng_uniform(&rng);
    ad_function f = {.fn = rosenbrock, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
    ad_error error = {AD_OK, ""};
    ad_tensor *start = NULL;
    ad_linear *f_map = NULL, *gradient_map = NULL;
    double distance = INFINITY;
    printf("Newton-CG on Rosenbrock's function of %d variables, from a random point:\n\n", N);
    if (!ad_tensor_new(&start, NULL, AD_F64, AD_SHAPE(N), x, &error) &&
        !ad_linear_new(&f_map, &f, NULL, &start, &error) &&
        !ad_linear_new(&gradient_map, &gradient, NULL, &start, &error))
        distance = minimise(f_map, gradient_map, x, &error);
    printf("\nlargest distance of an x[i] from 1: %.1e\n", distance);
    if (!(distance < 1e-8)) fprintf(stderr, "newton_cg: the lowest point was not found. %s\n", error.message);
    ad_linear_free(gradient_map);
    ad_linear_free(f_map);
    ad_tensor_unref(start);
    return !(distance < 1e-8);
}
