/* residual_block: backpropagation through one residual layer, by hand and by tape.
 *
 *     x2 = H x    x3 = x2 + v    x4 = relu(x3)    y = x4 + x    p = softmax(y)    e = -sum_i p*_i log p_i
 *
 * p* is 1 at the right class and 0 elsewhere. Below, g stands for de/dy, M for diag([x3 > 0]) and a for the learning
 * rate. Everything that docs/derivations.md derives is computed twice: with plain loops, and by the tape.
 *
 *     residual_block [FILE]    the dump goes to FILE instead of the screen, in the format that its ending says: .html is a
 *                              page to step through, .dot is for Graphviz, .json for programs, anything else text */
#include <adtape.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { N = 3, RIGHT = 1 };
static const double rate = 0.5;
static const double x[N] = {1, -2, 0.5}, v[N] = {0.1, 0.2, 0.3};
static const double H[N][N] = {{0.1, 0.2, -0.3}, {0.4, -0.5, 0.6}, {0.7, -0.8, 0.9}};

static ad_error error;

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

static struct hand {
    double x2[N], x3[N], x4[N], y[N], p[N], e;
    double J[N][N], de_dp[N], g[N]; /* the softmax's Jacobian, the cross-entropy's gradient, their product */
    double Mg[N], de_dH[N][N], by_layer[N], de_dx[N];
    double H[N][N], v[N], e_after; /* after one step */
} hand;

static void forward(const double *A, const double *b, struct hand *h, double *e) {
    double sum = 0;
    for (int i = 0; i < N; i++) {
        h->x2[i] = 0;
        for (int j = 0; j < N; j++) h->x2[i] += A[N * i + j] * x[j];
        h->x3[i] = h->x2[i] + b[i];
        h->x4[i] = h->x3[i] > 0 ? h->x3[i] : 0;
        h->y[i] = h->x4[i] + x[i];
        sum += exp(h->y[i]);
    }
    for (int i = 0; i < N; i++) h->p[i] = exp(h->y[i]) / sum;
    *e = -log(h->p[RIGHT]);
}

static void derive(void) {
    forward(H[0], v, &hand, &hand.e);
    for (int i = 0; i < N; i++) {
        double target = i == RIGHT; /* p* */
        for (int j = 0; j < N; j++) hand.J[i][j] = hand.p[i] * ((i == j) - hand.p[j]);
        hand.de_dp[i] = -target / hand.p[i];
        hand.g[i] = hand.p[i] - target;
        hand.Mg[i] = hand.x3[i] > 0 ? hand.g[i] : 0;
    }
    for (int i = 0; i < N; i++) {
        hand.by_layer[i] = 0;
        for (int j = 0; j < N; j++) {
            hand.by_layer[i] += H[j][i] * hand.Mg[j]; /* H^T M g */
            hand.de_dH[i][j] = hand.Mg[i] * x[j];     /* (M g) x^T */
            hand.H[i][j] = H[i][j] - rate * hand.de_dH[i][j];
        }
        hand.de_dx[i] = hand.by_layer[i] + hand.g[i];
        hand.v[i] = v[i] - rate * hand.Mg[i];
    }
    struct hand after;
    forward(hand.H[0], hand.v, &after, &hand.e_after);
}

/* ---- beside each other ------------------------------------------------------------------------------------------- */

static double largest; /* difference so far; NaN is larger than all */

static void compare(const char *name, const char *formula, const double *by_hand, ad_view tape) {
    int64_t n = ad_view_count(&tape);
    double worst = tape.data ? 0 : NAN;
    printf("%-9s %-17s hand", name, formula);
    for (int64_t i = 0; i < n; i++) printf(" %9.6f", by_hand[i] + 0.0); /* -0 + 0 is 0 */
    printf("\n%-9s %-17s tape", "", "");
    for (int64_t i = 0; i < n && tape.data; i++) {
        double value = ad_view_get(&tape, i), difference = fabs(value - by_hand[i]);
        printf(" %9.6f", value + 0.0);
        if (!(difference <= worst)) worst = difference;
    }
    printf("\n");
    if (!(worst <= largest)) largest = worst;
}

/* What one use of x added to its gradient. */
static void compare_merged(ad_tape *t, const char *name, const char *formula, const double *by_hand,
                           ad_var consumer) {
    ad_tensor *part = NULL;
    ad_view none = {.data = NULL, .dtype = AD_F64, .shape = AD_SHAPE(N), .stride = {1}};
    (void)!ad_tape_contribution(t, consumer.index, 1, &part);
    compare(name, formula, by_hand, part ? *ad_tensor_view(part) : none);
    ad_tensor_unref(part);
}

/* ---- by tape ----------------------------------------------------------------------------------------------------- */

typedef struct block {
    ad_var x, x2, x3, x4, y;
} block;

static block record(ad_tape *t, ad_param *weights, ad_param *bias) {
    block b;
    b.x = ad_leaf(t, "x", AD_F64, AD_SHAPE(N), x);
    b.x2 = ad_name(ad_matmul(ad_use(t, weights), b.x), "x2");
    b.x3 = ad_name(ad_add(b.x2, ad_use(t, bias)), "x3");
    b.x4 = ad_name(ad_relu(b.x3), "x4");
    b.y = ad_name(ad_add(b.x4, b.x), "y");
    return b;
}

/* The softmax and the cross-entropy one after the other, each with its own derivative. */
static void unfused(ad_tape *t, ad_param *weights, ad_param *bias) {
    const double target[N] = {[RIGHT] = 1};
    block b = record(t, weights, bias);
    ad_var p = ad_name(ad_softmax(b.y, -1), "p");
    compare("p", "softmax(y)", hand.p, ad_value(p));
    for (int i = 0; i < N; i++) { /* the gradient of p_i is row i of the Jacobian */
        const double unit[3][N] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}};
        char name[16];
        snprintf(name, sizeof name, "dp%d/dy", i);
        ad_backward_with(p, &(ad_backward_options){.seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(N), unit[i])});
        compare(name, "p_i (d_ij - p_j)", hand.J[i], ad_gradient(b.y));
    }
    ad_var star = ad_constant(t, "p*", AD_F64, AD_SHAPE(N), target);
    ad_var e = ad_neg(ad_sum(ad_mul(star, ad_log(p)), AD_ALL_AXES, false));
    ad_backward(ad_name(e, "e"));
    compare("e", "-log p_right", &hand.e, ad_value(e));
    compare("de/dp", "-p*/p", hand.de_dp, ad_gradient(p));
    compare("de/dy", "their product", hand.g, ad_gradient(b.y));
    compare("de/dx", "", hand.de_dx, ad_gradient(b.x));
}

/* The two as one operation, and back through the block. */
static void fused(ad_tape *t, ad_param *weights, ad_param *bias) {
    block b = record(t, weights, bias);
    ad_var e = ad_name(ad_softmax_xent(b.y, ad_index(t, RIGHT)), "e");
    ad_backward(e);
    compare("e", "-log p_right", &hand.e, ad_value(e));
    compare("de/dy", "p - p* = g", hand.g, ad_gradient(b.y));
    compare("de/dx4", "g", hand.g, ad_gradient(b.x4));
    compare("de/dx3", "M g", hand.Mg, ad_gradient(b.x3));
    compare("de/dx2", "M g", hand.Mg, ad_gradient(b.x2));
    compare("de/dv", "M g", hand.Mg, *ad_param_gradient(bias));
    compare("de/dH", "(M g) x^T", hand.de_dH[0], *ad_param_gradient(weights));
    printf("\nAt x two gradients merge, one from the layer and one from the way around it:\n\n");
    compare_merged(t, "by H x", "H^T M g", hand.by_layer, b.x2);
    compare_merged(t, "by x4 + x", "g", hand.g, b.y);
    compare("de/dx", "H^T M g + g", hand.de_dx, ad_gradient(b.x));
}

/* One step of gradient descent, and the loss it leads to. */
static ad_status descend(ad_tape *t, ad_param *weights, ad_param *bias) {
    ad_optim *sgd;
    ad_status status = ad_sgd_new(&sgd, NULL, 2, (ad_param *[]){weights, bias}, &(ad_sgd_options){.rate = rate},
                                  &error);
    if (!status) status = ad_optim_step(sgd, &error);
    ad_optim_free(sgd);
    if (status) return status;
    compare("H", "H - a (M g) x^T", hand.H[0], *ad_param_value(weights));
    compare("v", "v - a M g", hand.v, *ad_param_value(bias));
    ad_var after = ad_softmax_xent(record(t, weights, bias).y, ad_index(t, RIGHT));
    compare("e after", "", &hand.e_after, ad_value(after));
    printf("\nThe loss falls from %.6f to %.6f.\n", hand.e, ad_item(after));
    if (!(ad_item(after) < hand.e)) largest = NAN;
    return AD_OK;
}

static ad_dump_format format_of(const char *name) {
    static const struct {
        const char *ending;
        ad_dump_format format;
    } formats[] = {{".dot", AD_DUMP_DOT}, {".html", AD_DUMP_HTML}, {".json", AD_DUMP_JSON}};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof formats / sizeof *formats; i++)
        if (strcmp(dot, formats[i].ending) == 0) return formats[i].format;
    return AD_DUMP_TEXT;
}

static ad_status dump(ad_tape *t, const char *name) {
    if (!name) return ad_tape_dump(t, AD_DUMP_TEXT, stdout);
    FILE *file = fopen(name, "w");
    if (!file) return ad_error_set(&error, AD_ERR_IO, "%s cannot be written", name);
    ad_status status = ad_tape_dump(t, format_of(name), file);
    if (fclose(file) != 0 || status) return ad_error_set(&error, AD_ERR_IO, "%s: could not be written", name);
    printf("The dump of the tape is in %s.\n", name);
    return AD_OK;
}

static ad_status show_all(ad_tape *t, ad_param *weights, ad_param *bias, const char *file) {
    derive();
    printf("Softmax, then cross-entropy:\n\n");
    unfused(t, weights, bias);
    ad_tape_reset(t);
    printf("\nBoth as one operation, and back through y = x + relu(H x + v):\n\n");
    fused(t, weights, bias);
    printf("\nThe tape:\n\n");
    ad_status status = dump(t, file);
    ad_tape_reset(t);
    if (status) return status;
    printf("\nOne step of gradient descent, a = %g:\n\n", rate);
    status = descend(t, weights, bias);
    return status ? status : ad_tape_status(t);
}

int main(int argc, char **argv) {
    ad_param *weights = NULL, *bias = NULL;
    ad_tape *t = ad_tape_new(NULL);
    ad_status status = ad_param_new(&weights, NULL, "H", AD_F64, AD_SHAPE(N, N), H, &error);
    if (!status) status = ad_param_new(&bias, NULL, "v", AD_F64, AD_SHAPE(N), v, &error);
    if (!status) status = show_all(t, weights, bias, argc > 1 ? argv[1] : NULL);
    if (status) {
        fprintf(stderr, "residual_block: %s\n", *ad_tape_error(t) ? ad_tape_error(t) : error.message);
    } else {
        printf("\nlargest difference between hand and tape: %.1e\n", largest);
    }
    ad_tape_free(t);
    ad_param_unref(weights);
    ad_param_unref(bias);
    return status || !(largest <= 1e-12);
}
