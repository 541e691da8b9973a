/* errors STATUS: provokes errors of one kind, and prints what was called and the message; for docs/errors.md. */
#include <adtape.h>

#include <stdio.h>
#include <string.h>

/* ---- where it happens ------------------------------------------------------------------------------------------ */

/* No more than so many bytes: running out of memory must not depend on the machine. */
enum { memory_limit = 4 << 20 };
static size_t in_use;

static void *allocate(void *user, size_t size, size_t alignment) {
    const ad_allocator *below = ad_allocator_default();
    if (in_use + size > memory_limit) return NULL;
    in_use += size;
    return below->allocate(user, size, alignment);
}

static void release(void *user, void *memory, size_t size) {
    in_use -= size;
    ad_allocator_default()->release(user, memory, size);
}

static const ad_allocator limited = {.allocate = allocate, .release = release, .user = NULL};
static const double numbers[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

/* What the samples use: a tape with some leaves, an error of functions without a tape, a parameter. */
static ad_tape *t;
static ad_var x, v, H, image;
static ad_param *w;
static ad_error error;
static ad_check_report report;

static bool set_up(void) {
    ad_tape_options options = {.allocator = &limited};
    t = ad_tape_new(&options);
    x = ad_leaf(t, "x", AD_F64, AD_SHAPE(4, 1), numbers);
    v = ad_leaf(t, "v", AD_F64, AD_SHAPE(3), numbers);
    H = ad_leaf(t, "H", AD_F64, AD_SHAPE(4, 3), numbers);
    image = ad_constant(t, "image", AD_F32, AD_SHAPE(4), numbers);
    return ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(3), numbers, &error) == AD_OK;
}

static void tear_down(void) {
    ad_param_unref(w);
    ad_tape_free(t);
}

/* ---- an op with a wrong derivative ----------------------------------------------------------------------------- */

static ad_status cube_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}

static ad_status cube_forward(ad_call *call) {
    const ad_view *y = &call->out[0];
    for (int64_t i = 0; i < ad_view_count(y); i++) {
        double a = ad_view_get(call->in[0], i);
        if (y->dtype == AD_F32) {
            ((float *)y->data)[i] = (float)(a * a * a);
        } else {
            ((double *)y->data)[i] = a * a * a;
        }
    }
    return AD_OK;
}

static void cube_vjp(ad_vjp *vjp) {
    ad_var a = ad_vjp_input(vjp, 0);
    ad_vjp_give(vjp, 0, ad_mul(ad_vjp_seed(vjp, 0), ad_scale(ad_mul(a, a), 6)));
}

static bool cube_sample(ad_sample *sample, int k) { return k == 0 && ad_sample_normal(sample, AD_SHAPE(2, 3)); }

static ad_op cube = {
    .name = "cube",
    .inputs = 1,
    .saves = AD_SAVES_INPUT(0),
    .shape = cube_shape,
    .forward = cube_forward,
    .vjp = cube_vjp,
    .formula = "$y = $0^3",
    .adjoint = {"~0 += 6 * $0^2 * ~y"},
    .sample = cube_sample,
};

/* ---- the errors ------------------------------------------------------------------------------------------------ */

static int failures;

/* The code, a statement a line, and below it the message. */
static void show(const char *code, ad_status expected, ad_status status) {
    const char *message = "(no message: the status says it)";
    if (error.status) status = error.status, message = error.message;
    if (report.status) status = report.status, message = report.message;
    if (ad_tape_status(t)) status = ad_tape_status(t), message = ad_tape_error(t);
    for (const char *c = code; *c; c++) {
        putchar(*c);
        if (*c == ';' && c[1] == ' ') putchar('\n'), c++;
    }
    printf("\n--> %s\n", message);
    if (status == expected) return;
    fprintf(stderr, "errors: %s gives %s, not %s\n", code, ad_status_name(status), ad_status_name(expected));
    failures++;
}

static void provoke(const char *name) {
    static int shown;
    ad_status status = AD_OK;
    ad_optim *optim = NULL;
    ad_var y = {NULL, 0, 0};
    FILE *full = fopen("/dev/full", "w");

#define TRY(expected, ...)                                                                                           \
    if (strcmp(#expected, name) == 0 && set_up()) {                                                                  \
        if (shown++) putchar('\n');                                                                                  \
        __VA_ARGS__                                                                                                  \
        show(#__VA_ARGS__, expected, status);                                                                        \
        tear_down();                                                                                                 \
    }
    TRY(AD_ERR_OOM, y = ad_broadcast_to(v, AD_SHAPE(1000, 1000, 3)); ad_add(y, y);)
    TRY(AD_ERR_NULL, ad_leaf(t, "z", AD_F64, AD_SHAPE(3), NULL);)
    TRY(AD_ERR_HANDLE, ad_tape_reset(t); ad_exp(x);)
    TRY(AD_ERR_SHAPE, ad_matmul(H, x);)
    TRY(AD_ERR_SHAPE, ad_add(H, ad_transpose(H));)
    TRY(AD_ERR_SHAPE, ad_backward(H);)
    TRY(AD_ERR_DTYPE, ad_mul(x, image);)
    TRY(AD_ERR_INDEX, ad_softmax(H, 2);)
    TRY(AD_ERR_INDEX, ad_softmax_xent(v, ad_index(t, 3));)
    TRY(AD_ERR_VALUE, ad_scope_begin(t, "block"); ad_scope_end(t); ad_scope_end(t);)
    TRY(AD_ERR_VALUE, ad_sgd_options options = {.rate = -0.1}; ad_sgd_new(&optim, NULL, 1, &w, &options, &error);)
    TRY(AD_ERR_LIMIT, ad_constant(t, "z", AD_F64, AD_SHAPE(1000000, 1000000, 1000000, 3), numbers);)
    TRY(AD_ERR_NOGRAD, ad_gradient(x);)
    TRY(AD_ERR_NOGRAD, ad_backward(ad_greater(x, x));)
    TRY(AD_ERR_CHANGED, y = ad_sum(ad_log(ad_use(t, w)), AD_ALL_AXES, false); ad_param_edit(w); ad_backward(y);)
    TRY(AD_ERR_OP, cube.sample = NULL; ad_op_register(&cube, &error);)
    TRY(AD_ERR_OP, cube.saves = AD_SAVES_NOTHING; ad_grad(ad_apply(t, &cube, 1, &v, NULL, NULL), v, 1, &v, &y);)
    TRY(AD_ERR_CHECK, ad_op_check(&cube, NULL, &report);)
    TRY(AD_ERR_IO, status = ad_tape_dump(t, AD_DUMP_TEXT, full);)
    TRY(AD_ERR_NUMBER, ad_tape_check_numbers(t, AD_NUMBERS_NO_NAN); ad_log(ad_sub(v, ad_square(v)));)
    TRY(AD_ERR_NUMBER, ad_tape_check_numbers(t, AD_NUMBERS_NO_NAN);
        ad_backward(ad_sum(ad_sqrt(ad_mul(x, ad_sub(x, x))), AD_ALL_AXES, false));)
#undef TRY
    if (full) fclose(full);
    failures += shown == 0;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    provoke(argv[1]);
    return failures > 0;
}
