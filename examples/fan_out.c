/* fan_out: a value that is used several times gets a gradient from each use, and they add up.
 *
 * That is the chain rule for y = f(a(x), b(x), ...): dy/dx = df/da da/dx + df/db db/dx + ... On a tape it means that a
 * gradient must never be overwritten by the next one that arrives, and that a node may pass its gradient on only after
 * its last use has been walked back. Both are so because the walk goes from the end of the tape to its start. */
#include <adtape.h>

#include <math.h>
#include <stdio.h>

static double largest; /* difference between the tape and the hand */

static void compare(const char *what, int n, const double *hand, ad_view tape) {
    printf("  %-26s by hand", what);
    for (int i = 0; i < n; i++) printf(" %9.6f", hand[i]);
    printf("\n  %-26s tape   ", "");
    for (int i = 0; i < n; i++) {
        double value = tape.data ? ad_view_get(&tape, i) : NAN;
        printf(" %9.6f", value);
        if (!(fabs(value - hand[i]) <= largest)) largest = fabs(value - hand[i]);
    }
    printf("\n");
}

static void dump(ad_tape *t) {
    const ad_dump_options options = {.hide = AD_DUMP_HIDE_PLACES | AD_DUMP_HIDE_SAVED | AD_DUMP_HIDE_TYPES};
    printf("\n");
    ad_tape_dump_with(t, &options, stdout);
    printf("\n");
}

/* x is used four times by three operations: the product uses it twice. */
static void one_value(ad_tape *t) {
    printf("1. y = x x + 3 x + tanh(x) at x = 0.5\n\n");
    ad_var x = ad_scalar(t, "x", 0.5);
    ad_var square = ad_mul(x, x), triple = ad_scale(x, 3), bent = ad_tanh(x);
    ad_var y = ad_name(ad_add(ad_add(square, triple), bent), "y");
    ad_backward(y);
    double by_tanh = 1 - tanh(0.5) * tanh(0.5);
    printf("  x x adds x and x, 3 x adds 3, tanh adds 1 - tanh(x)^2: 0.5 + 0.5 + 3 + %.6f\n", by_tanh);
    compare("dy/dx", 1, (double[]){0.5 + 0.5 + 3 + by_tanh}, ad_gradient(x));
    dump(t);
}

/* One matrix at two depths, as in a recurrent network. With g = (1, 1), the gradient of the sum: the outer use adds
 * g (W u)^T, the inner one (W^T g) u^T. */
static void shared_weights(ad_tape *t) {
    printf("2. y = sum(W (W u)): the same weights in two layers\n\n");
    ad_var W = ad_leaf(t, "W", AD_F64, AD_SHAPE(2, 2), (double[]){1, 2, 3, 4});
    ad_var u = ad_constant(t, "u", AD_F64, AD_SHAPE(2), (double[]){1, -1});
    ad_var h = ad_name(ad_matmul(W, u), "h");
    ad_var y = ad_name(ad_sum(ad_matmul(W, h), AD_ALL_AXES, false), "y");
    ad_backward(y);
    const double outer[] = {-1, -1, -1, -1}, inner[] = {4, -4, 6, -6}; /* W u = (-1, -1), W^T g = (4, 6) */
    double sum[4];
    for (int i = 0; i < 4; i++) sum[i] = outer[i] + inner[i];
    compare("dy/dW", 4, sum, ad_gradient(W));
    dump(t);
}

/* Stretching b over three rows uses each of its elements three times. */
static void broadcast(ad_tape *t) {
    printf("3. y = sum(c (X + b)): b is added to every row of X\n\n");
    ad_var X = ad_constant(t, "X", AD_F64, AD_SHAPE(3, 2), (double[]){1, 2, 3, 4, 5, 6});
    ad_var c = ad_constant(t, "c", AD_F64, AD_SHAPE(3, 2), (double[]){1, 10, 2, 20, 3, 30});
    ad_var b = ad_leaf(t, "b", AD_F64, AD_SHAPE(2), (double[]){0.5, -0.5});
    ad_backward(ad_sum(ad_mul(c, ad_add(X, b)), AD_ALL_AXES, false));
    compare("dy/db = rows of c summed", 2, (double[]){1 + 2 + 3, 10 + 20 + 30}, ad_gradient(b));
}

int main(void) {
    void (*const parts[])(ad_tape *) = {one_value, shared_weights, broadcast};
    ad_tape *t = ad_tape_new(NULL);
    ad_status status = ad_tape_status(t);
    for (int i = 0; i < 3 && status == AD_OK; i++) {
        ad_tape_reset(t);
        parts[i](t);
        status = ad_tape_status(t);
    }
    if (status != AD_OK) fprintf(stderr, "fan_out: %s\n", ad_tape_error(t));
    printf("\nlargest difference between hand and tape: %.1e\n", largest);
    ad_tape_free(t);
    return status != AD_OK || !(largest <= 1e-14);
}
