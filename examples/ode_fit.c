/* ode_fit: finds the parameters of a differential equation from its solution, seen through noise.
 *
 * Hares h and lynxes l (Lotka and Volterra): h' = a h - b h l, l' = c h l - d l. The solver is part of what is recorded, so
 * the tape differentiates what was computed, step by step: the discrete adjoint of the solver, exact to rounding. Two
 * solvers: the classical Runge-Kutta method with fixed steps, and that of Bogacki and Shampine (1989), which estimates its
 * error and chooses its steps; the choice is by value, so steps are constants. Fitted by Gauss-Newton steps (J^T J + m I) p =
 * -J^T r, damped as Levenberg and Marquardt do. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TIMES = 30, PARAMETERS = 4, RESIDUALS = 2 * TIMES, STEPS = 30 };
static const double interval = 0.5, truth[PARAMETERS] = {1.1, 0.4, 0.1, 0.4},
                    start[PARAMETERS] = {0.8, 0.3, 0.15, 0.5};
static const char names[] = "abcd";

typedef struct problem {
    ad_var (*advance)(ad_var y, const ad_var *parameters); /* over one interval */
    double seen[RESIDUALS];
} problem;

/* ---- the equation and its solvers --------------------------------------------------------------------------------------- */

/* y' for y = (h, l) */
static ad_var change(ad_var y, const ad_var *p) {
    ad_var h = ad_select(y, 0, 0), l = ad_select(y, 0, 1), both = ad_mul(h, l);
    ad_var born = ad_sub(ad_mul(p[0], h), ad_mul(p[1], both)), fed = ad_sub(ad_mul(p[2], both), ad_mul(p[3], l));
    return ad_stack(AD_VARS(born, fed), 0);
}

/* y + s k */
static ad_var moved(ad_var y, double s, ad_var k) { return ad_add(y, ad_scale(k, s)); }

static ad_var runge_kutta(ad_var y, const ad_var *p) {
    enum { PARTS = 10 };
    const double s = interval / PARTS;
    for (int i = 0; i < PARTS; i++) {
        ad_var k1 = change(y, p), k2 = change(moved(y, s / 2, k1), p), k3 = change(moved(y, s / 2, k2), p);
        ad_var k4 = change(moved(y, s, k3), p);
        y = moved(moved(moved(moved(y, s / 6, k1), s / 3, k2), s / 3, k3), s / 6, k4);
    }
    return y;
}

static double largest(ad_var x) {
    ad_view view = ad_value(x);
    return view.data ? fmax(fabs(ad_view_get(&view, 0)), fabs(ad_view_get(&view, 1))) : NAN;
}

/* Third order, with an error estimate from the second; a step that is refused is forgotten, tape and all. */
static ad_var bogacki_shampine(ad_var y, const ad_var *p) {
    const double tolerance = 1e-7;
    double at = 0, s = interval / 4;
    ad_var k1 = change(y, p);
    while (at < interval && ad_tape_status(y.tape) == AD_OK) {
        ad_mark mark = ad_tape_mark(y.tape);
        ad_var k2 = change(moved(y, s / 2, k1), p), k3 = change(moved(y, 3 * s / 4, k2), p);
        ad_var next = moved(moved(moved(y, 2 * s / 9, k1), s / 3, k2), 4 * s / 9, k3), k4 = change(next, p);
        double error = largest(moved(moved(moved(ad_scale(k1, -5 * s / 72), s / 12, k2), s / 9, k3), -s / 8, k4));
        double factor = fmin(3, fmax(0.2, 0.9 * cbrt(tolerance / (error + 1e-300))));
        if (error <= tolerance) {
            at += s;
            y = next;
            k1 = k4;
        } else {
            ad_tape_rewind(y.tape, mark);
        }
        s = fmin(s * factor, interval - at);
    }
    return y;
}

/* ---- the fit -------------------------------------------------------------------------------------------------------------- */

/* The solution at all times minus what was seen, for parameters theta[4]. */
static ad_status residuals(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    const problem *data = user;
    ad_var p[PARAMETERS], y = ad_constant(t, "y0", AD_F64, AD_SHAPE(2), (double[]){10, 5}), all[TIMES];
    for (int i = 0; i < PARAMETERS; i++) p[i] = ad_select(in[0], 0, i);
    for (int i = 0; i < TIMES; i++) all[i] = y = data->advance(y, p);
    out[0] = ad_sub(ad_cat(TIMES, all, 0), ad_constant(t, "seen", AD_F64, AD_SHAPE(RESIDUALS), data->seen));
    return AD_OK;
}

static ad_status half_square(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    ad_var r;
    ad_status status = residuals(t, in, &r, user);
    out[0] = ad_scale(ad_sum(ad_square(r), AD_ALL_AXES, false), 0.5);
    return status;
}

static ad_linear *linearised(const ad_function *f, const double *at, ad_error *error) {
    ad_tensor *x = NULL;
    ad_linear *made = NULL;
    if (!ad_tensor_new(&x, NULL, AD_F64, AD_SHAPE(PARAMETERS), at, error))
        (void)!ad_linear_new(&made, f, NULL, &x, error);
    ad_tensor_unref(x);
    return made;
}

static double half_norm(const double *r) {
    double sum = 0;
    for (int i = 0; i < RESIDUALS; i++) sum += r[i] * r[i] / 2;
    return sum;
}

/* p with (J^T J + m I) p = -J^T r: a small system, solved by a tape too. */
static void step_of(const double *jacobian, const double *r, double m, double *p) {
    double damping[PARAMETERS * PARAMETERS] = {0};
    for (int i = 0; i < PARAMETERS; i++) damping[i * PARAMETERS + i] = m;
    ad_tape *t = ad_tape_new(NULL);
    ad_var J = ad_constant(t, "J", AD_F64, AD_SHAPE(RESIDUALS, PARAMETERS), jacobian), Jt = ad_transpose(J);
    ad_var left = ad_add(ad_matmul(Jt, J), ad_constant(t, NULL, AD_F64, AD_SHAPE(PARAMETERS, PARAMETERS), damping));
    ad_var right = ad_matmul(Jt, ad_constant(t, "r", AD_F64, AD_SHAPE(RESIDUALS), r));
    ad_view x = ad_value(ad_solve(left, ad_neg(right)));
    for (int i = 0; i < PARAMETERS; i++) p[i] = x.data ? ad_view_get(&x, i) : NAN;
    ad_tape_free(t);
}

/* A step from theta that leaves less than `left`, damped as far as that takes: what it leaves; `left` if there is none. */
static double improve(ad_linear *map, const double *jacobian, const double *r, double left, double *m, double *theta,
                      ad_error *error) {
    double there[PARAMETERS], p[PARAMETERS], there_r[RESIDUALS];
    for (; *m < 1e12; *m *= 10) {
        step_of(jacobian, r, *m, p);
        for (int i = 0; i < PARAMETERS; i++) there[i] = theta[i] + p[i];
        if (ad_linear_move(map, there, error) || ad_linear_value(map, there_r, error)) break;
        if (!(half_norm(there_r) < left)) continue;
        memcpy(theta, there, sizeof there);
        *m /= 5;
        return half_norm(there_r);
    }
    return left;
}

/* theta goes to the parameters that fit best; returns what is left of the residual. */
static double fit(const ad_function *f, double *theta, ad_error *error) {
    static double jacobian[RESIDUALS * PARAMETERS], r[RESIDUALS];
    double m = 1, left = INFINITY, before;
    ad_linear *map = linearised(f, theta, error);
    if (ad_linear_value(map, r, error)) return INFINITY;
    for (int step = 0; step < STEPS; step++) {
        before = half_norm(r);
        printf("  step %d: residual %9.5f", step, before);
        for (int i = 0; i < PARAMETERS; i++) printf("  %c %.4f", names[i], theta[i]);
        printf("\n");
        if (ad_linear_dense(map, jacobian, error)) break;
        left = improve(map, jacobian, r, before, &m, theta, error);
        if (!(left < before * (1 - 1e-6)) || ad_linear_value(map, r, error)) break;
    }
    ad_linear_free(map);
    return left;
}

/* ---- the program ------------------------------------------------------------------------------------------------------------ */

/* The solution for the true parameters, with noise of 1 %. */
static ad_status observe(problem *data, ad_error *error) {
    const ad_function f = {.fn = residuals, .inputs = 1, .outputs = 1, .user = data};
    ad_linear *map = linearised(&f, truth, error);
    ad_status status = ad_linear_value(map, data->seen, error);
    ad_rng rng = {.seed = 1};
    for (int i = 0; i < RESIDUALS && !status; i++) data->seen[i] *= 1 + 0.01 * ad_rng_normal(&rng);
    ad_linear_free(map);
    return status;
}

static double gradient_of(problem *data, const double *at, double *g, ad_error *error) {
    const ad_function f = {.fn = half_square, .inputs = 1, .outputs = 1, .user = data};
    ad_linear *map = linearised(&f, at, error);
    double value = NAN;
    if (!ad_linear_value(map, &value, error)) (void)!ad_linear_pull(map, (double[]){1}, g, error);
    ad_linear_free(map);
    return value;
}

int main(void) {
    problem fixed = {.advance = runge_kutta}, adaptive;
    double theta[PARAMETERS], g[2][PARAMETERS] = {{NAN}, {NAN}}, difference = 0, distance = 0;
    ad_error error = {AD_OK, ""};
    memcpy(theta, start, sizeof theta);
    if (observe(&fixed, &error)) {
        fprintf(stderr, "ode_fit: %s\n", error.message);
        return 1;
    }
    adaptive = fixed;
    adaptive.advance = bogacki_shampine;

    printf("Half the squared residual, differentiated through both solvers at the start:\n\n");
    gradient_of(&fixed, start, g[0], &error);
    gradient_of(&adaptive, start, g[1], &error);
    for (int i = 0; i < PARAMETERS; i++) {
        printf("  by %c: fixed steps %14.6f, adaptive steps %14.6f\n", names[i], g[0][i], g[1][i]);
        difference = fmax(difference, fabs(g[1][i] / g[0][i] - 1));
    }
    printf("\nlargest relative difference of the two: %.1e\n\nFitted to %d values with 1 %% noise:\n\n", difference,
           RESIDUALS);
    const ad_function f = {.fn = residuals, .inputs = 1, .outputs = 1, .user = &adaptive};
    double left = fit(&f, theta, &error);
    for (int i = 0; i < PARAMETERS; i++) distance = fmax(distance, fabs(theta[i] / truth[i] - 1));
    printf("\nlargest relative error of a parameter: %.1e\n", distance);
    bool good = difference < 1e-4 && distance < 0.02 && left < 2;
    if (!good) fprintf(stderr, "ode_fit: that is not good enough. %s\n", error.message);
    return !good;
}
