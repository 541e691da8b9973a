/* gaussian_process: how likely are data under a Gaussian process, and which hyperparameters make them likeliest?
 *
 * The values y at points x are jointly normal with mean 0 and covariance K = s^2 exp(-(x_i - x_j)^2 / 2 l^2) + r^2 I:
 * functions of size s that vary over a length l, seen through noise of size r. With K = L L^T (Cholesky) and
 * a = L^-1 y, y^T K^-1 y is a^T a and log det K is twice the sum of log L_ii:
 *
 *     log p(y) = -a^T a / 2 - sum of log L_ii - n/2 log 2 pi
 *
 * (Rasmussen and Williams 2006, algorithm 2.1). Its gradient in log s, log l and log r is checked, then followed. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>

enum { N = 24, HYPERPARAMETERS = 3, STEPS = 80 };
static const char *const names[HYPERPARAMETERS] = {"log s", "log l", "log r"};

typedef struct points {
    double x[N], y[N];
    double squares[N * N], identity[N * N]; /* (x_i - x_j)^2; 1 where i = j */
} points;

/* sin(3 x), with noise of size 0.1. */
static void observe(points *p) {
    ad_rng rng = {.seed = 1};
    for (int i = 0; i < N; i++) {
        p->x[i] = 4 * ad_rng_uniform(&rng);
        p->y[i] = sin(3 * p->x[i]) + 0.1 * ad_rng_normal(&rng);
    }
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < N; j++) {
            p->squares[i * N + j] = (p->x[i] - p->x[j]) * (p->x[i] - p->x[j]);
            p->identity[i * N + j] = i == j;
        }
    }
}

/* s^2 exp(-d / 2 l^2) */
static ad_var covariance(ad_var squares, const ad_var *log_theta) {
    ad_var s2 = ad_exp(ad_scale(log_theta[0], 2)), l2 = ad_exp(ad_scale(log_theta[1], 2));
    return ad_mul(s2, ad_exp(ad_scale(ad_div(squares, l2), -0.5)));
}

static ad_var factor(ad_tape *t, const points *p, const ad_var *log_theta) {
    ad_var squares = ad_constant(t, "squares", AD_F64, AD_SHAPE(N, N), p->squares);
    ad_var identity = ad_constant(t, "I", AD_F64, AD_SHAPE(N, N), p->identity);
    ad_var noise = ad_mul(ad_exp(ad_scale(log_theta[2], 2)), identity);
    return ad_name(ad_cholesky(ad_name(ad_add(covariance(squares, log_theta), noise), "K")), "L");
}

static ad_var log_likelihood(ad_tape *t, const ad_var *log_theta, int n, void *data) {
    const points *p = data;
    for (int i = 0; i < n; i++) ad_name(log_theta[i], names[i]);
    ad_var L = factor(t, p, log_theta), y = ad_constant(t, "y", AD_F64, AD_SHAPE(N), p->y);
    ad_var a = ad_name(ad_triangular_solve(L, y, AD_LOWER), "a");
    ad_var half_log_det = ad_sum(ad_log(ad_diag(L, 0)), AD_ALL_AXES, false);
    ad_var constant = ad_number(t, AD_F64, -0.5 * N * log(2 * 3.14159265358979323846));
    return ad_add(ad_sub(ad_scale(ad_dot(a, a), -0.5), half_log_det), constant);
}

/* Against differences, at first and second order. */
static bool gradient_is_right(points *p, const double *start) {
    ad_tensor *x[HYPERPARAMETERS] = {NULL};
    ad_check_report report;
    for (int i = 0; i < HYPERPARAMETERS; i++) (void)!ad_tensor_new(&x[i], NULL, AD_F64, AD_SCALAR, &start[i], NULL);
    bool right = ad_gradcheck("log p(y)", log_likelihood, p, HYPERPARAMETERS, x, NULL, &report) == AD_OK;
    (void)!ad_check_print(&report, stdout);
    for (int i = 0; i < HYPERPARAMETERS; i++) ad_tensor_unref(x[i]);
    return right;
}

/* Up the gradient: Adam goes down, so -log p(y) is what it is given. Returns the last log p(y), and the first. */
static double climb(ad_tape *t, points *p, ad_param **theta, ad_optim *optim, double *first, ad_error *error) {
    double now = NAN;
    for (int step = 0; step <= STEPS; step++) {
        ad_tape_reset(t);
        ad_var log_theta[HYPERPARAMETERS];
        for (int i = 0; i < HYPERPARAMETERS; i++) log_theta[i] = ad_use(t, theta[i]);
        ad_var y = log_likelihood(t, log_theta, HYPERPARAMETERS, p);
        now = ad_item(y);
        if (step == 0) *first = now;
        if (step % 20 == 0) {
            printf("  step %2d: log p(y) %8.4f ", step, now);
            for (int i = 0; i < HYPERPARAMETERS; i++) printf("  %c %.4f", names[i][4], exp(ad_item(log_theta[i])));
            printf("\n");
        }
        if (step == STEPS || ad_backward(ad_neg(y)) || ad_optim_step(optim, error)) break;
    }
    return now;
}

/* What is expected at x = 1, 2, 3 given the data: k^T K^-1 y. The largest distance from sin(3 x). */
static double predict(ad_tape *t, const points *p, ad_param **theta) {
    double squares[3 * N], worst = 0;
    ad_var log_theta[HYPERPARAMETERS];
    ad_tape_reset(t);
    for (int i = 0; i < HYPERPARAMETERS; i++) log_theta[i] = ad_use(t, theta[i]);
    for (int i = 0; i < 3 * N; i++) squares[i] = (1 + i / N - p->x[i % N]) * (1 + i / N - p->x[i % N]);
    ad_var k = covariance(ad_constant(t, "squares", AD_F64, AD_SHAPE(3, N), squares), log_theta);
    ad_var y = ad_constant(t, "y", AD_F64, AD_SHAPE(N), p->y);
    ad_view expected = ad_value(ad_matmul(k, ad_cholesky_solve(factor(t, p, log_theta), y)));
    for (int i = 0; i < 3 && expected.data; i++) {
        printf("  f(%d) = %7.4f, sin(%d) = %7.4f\n", 1 + i, ad_view_get(&expected, i), 3 + 3 * i, sin(3 + 3 * i));
        worst = fmax(worst, fabs(ad_view_get(&expected, i) - sin(3 + 3 * i)));
    }
    return expected.data ? worst : NAN;
}

int main(void) {
    static points p;
    const double start[HYPERPARAMETERS] = {0, 0, -1};
    ad_param *theta[HYPERPARAMETERS] = {NULL};
    ad_optim *optim = NULL;
    ad_error error = {AD_OK, ""};
    ad_adam_options options = ad_adam_defaults();
    options.rate = 0.05;
    observe(&p);
    printf("The gradient of the log-likelihood of %d points:\n\n", N);
    bool right = gradient_is_right(&p, start);

    ad_tape *t = ad_tape_new(NULL);
    for (int i = 0; i < HYPERPARAMETERS; i++)
        (void)!ad_param_new(&theta[i], NULL, names[i], AD_F64, AD_SCALAR, &start[i], &error);
    (void)!ad_adam_new(&optim, NULL, HYPERPARAMETERS, theta, &options, &error);
    printf("\nFollowed with Adam:\n\n");
    double first = NAN, last = optim ? climb(t, &p, theta, optim, &first, &error) : NAN;
    printf("\nThe function seen through the noise:\n\n");
    double distance = predict(t, &p, theta);

    bool better = last > first + 5, close = distance < 0.2;
    if (!right) fprintf(stderr, "gaussian_process: the gradient is wrong\n");
    if (!better)
        fprintf(stderr, "gaussian_process: the likelihood does not grow. %s%s\n", error.message, ad_tape_error(t));
    if (!close) fprintf(stderr, "gaussian_process: the function is not found. %s\n", ad_tape_error(t));
    ad_optim_free(optim);
    for (int i = 0; i < HYPERPARAMETERS; i++) ad_param_unref(theta[i]);
    ad_tape_free(t);
    return !(right && better && close);
}
