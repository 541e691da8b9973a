/* derivatives: a tour of functions of functions. docs/derivatives.md goes through it. */
#include <adtape.h>

#include <stdio.h>

static void show(const char *what, int64_t n, const double *numbers) {
    printf("%s", what);
    for (int64_t i = 0; i < n; i++) printf(" %g", numbers[i]);
    printf("\n");
}

/* f(x) = 2 sum(x^2) */
static ad_status energy(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_scale(ad_sum(ad_square(in[0]), AD_ALL_AXES, false), 2);
    return AD_OK;
}

/* ---- numbers in, numbers out ---- */

static ad_status on_numbers(ad_error *error) {
    ad_tensor *x, *g;
    ad_status status = ad_tensor_new(&x, NULL, AD_F64, AD_SHAPE(2), (double[]){1, -3}, error);
    if (status) return status;
    ad_function f = {.fn = energy, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
    status = ad_function_evaluate(&gradient, NULL, &x, &g, error);
    if (!status) show("gradient", 2, ad_tensor_view(g)->data);
    ad_tensor_unref(g);
    ad_tensor_unref(x);
    return status;
}

/* ---- inside a function that is differentiated ---- */

/* w sum(x^2), where w is a variable of the tape */
static ad_status weighted(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t;
    const ad_var *w = user;
    out[0] = ad_mul(*w, ad_sum(ad_square(in[0]), AD_ALL_AXES, false));
    return AD_OK;
}

static void gradient_penalty(ad_tape *t) {
    ad_var w = ad_scalar(t, "w", 2), x = ad_constant(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, -3}), g;
    ad_function f = {.fn = weighted, .inputs = 1, .outputs = 1, .user = &w}, gradient = ad_grad_of(&f);
    ad_function_record(&gradient, t, &x, &g); /* 2 w x */
    ad_backward(ad_sum(ad_square(g), AD_ALL_AXES, false));
    printf("penalty by w %g\n", ad_gradient_item(w)); /* 8 w sum(x^2) */
}

/* ---- many products at one point ---- */

/* The sum of (x[i+1] - x[i])^2 + x[i]^4: neighbours alone meet. */
static ad_status string(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    ad_var left = ad_slice(in[0], 0, 0, -1, 1), right = ad_slice(in[0], 0, 1, AD_TO_END, 1);
    ad_var stretch = ad_sum(ad_square(ad_sub(right, left)), AD_ALL_AXES, false);
    out[0] = ad_add(stretch, ad_sum(ad_power(in[0], 4), AD_ALL_AXES, false));
    return AD_OK;
}

static ad_status products(ad_error *error) {
    ad_tensor *x = NULL;
    ad_linear *hessian = NULL;
    ad_sparse *sparse = NULL;
    ad_function f = {.fn = string, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
    double product[5];
    ad_status status = ad_tensor_new(&x, NULL, AD_F64, AD_SHAPE(5), (double[]){0, 0, 0, 0, 0}, error);
    if (!status) status = ad_linear_new(&hessian, &gradient, NULL, &x, error);
    if (!status) status = ad_linear_pull(hessian, (double[]){1, 0, 2, 0, 0}, product, error);
    if (!status) show("H v", 5, product);
    if (!status) status = ad_sparse_new(&sparse, hessian, error);
    if (!status)
        printf("tridiagonal: %d elements in %d products\n", (int)ad_sparse_matrix(sparse).start[5],
               (int)ad_sparse_products(sparse));
    ad_sparse_free(sparse);
    ad_linear_free(hessian);
    ad_tensor_unref(x);
    return status;
}

/* ---- each example of a batch ---- */

/* (w x - y)^2 for one example: the data are constants. */
static ad_status miss(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_square(ad_sub(ad_dot(in[0], in[1]), in[2]));
    return AD_OK;
}

static void each_example(ad_tape *t) {
    ad_var w = ad_leaf(t, "w", AD_F64, AD_SHAPE(2), (double[]){1, 1}), g;
    ad_var x = ad_constant(t, "x", AD_F64, AD_SHAPE(2, 2), (double[]){1, 2, 3, -1});
    ad_var y = ad_constant(t, "y", AD_F64, AD_SHAPE(2), (double[]){2, 1});
    ad_function f = {.fn = miss, .inputs = 3, .outputs = 1, .constants = 2};
    ad_function gradient = ad_grad_of(&f), each = ad_map_of(&gradient, 1);
    ad_function_record(&each, t, (ad_var[]){w, x, y}, &g);
    ad_view rows = ad_value(g); /* [2, 2]: a gradient for each example */
    if (rows.data)
        printf("per example %g %g | %g %g\n", ad_view_get(&rows, 0), ad_view_get(&rows, 1), ad_view_get(&rows, 2),
               ad_view_get(&rows, 3));
}

/* ---- the solution of an equation ---- */

/* x^3 + a x - 3 */
static ad_status cubic(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = in[0], a = in[1];
    out[0] = ad_sub(ad_add(ad_power(x, 3), ad_mul(a, x)), ad_number(t, AD_F64, 3));
    return AD_OK;
}

static void solution(ad_tape *t) {
    ad_function f = {.fn = cubic, .inputs = 2, .outputs = 1}, solve = ad_root_of(&f);
    ad_var guess = ad_number(t, AD_F64, 0.5), a = ad_scalar(t, "a", 2), x;
    ad_function_record(&solve, t, (ad_var[]){guess, a}, &x);
    ad_backward(x);
    printf("root %g, by a %g\n", ad_item(x), ad_gradient_item(a)); /* -x / (3 x^2 + a) */
}

int main(void) {
    ad_error error = {AD_OK, ""};
    ad_tape *t = ad_tape_new(NULL);
    if (!on_numbers(&error)) (void)!products(&error);
    gradient_penalty(t);
    each_example(t);
    solution(t);
    bool failed = error.status || ad_tape_status(t);
    if (failed) fprintf(stderr, "derivatives: %s%s\n", error.message, ad_tape_error(t));
    ad_tape_free(t);
    return failed;
}
