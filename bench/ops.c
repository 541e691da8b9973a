/* Single operations on 64 Ki and 16 Mi elements, forward alone and with their way back; AdamW's step; and what an operation
 * on few elements costs, from its recording to its gradient. */
#include "bench.h"

typedef struct subject {
    ad_tape *tape;
    ad_tensor *x, *seed;     /* seed: the gradient that comes in */
    ad_tensor *gain, *shift; /* [last axis of x] */
    ad_var (*op)(const struct subject *, ad_var x);
    ad_var at, y; /* of the last recording */
} subject;

static void close_subject(subject *s) {
    ad_tape_free(s->tape);
    ad_tensor *const arrays[] = {s->x, s->seed, s->gain, s->shift};
    for (int i = 0; i < 4; i++) ad_tensor_unref(arrays[i]);
}

static ad_var use_constant(const subject *s, ad_tensor *value) { return ad_constant_tensor(s->tape, NULL, value); }

static ad_var op_add(const subject *s, ad_var x) { return ad_add(x, use_constant(s, s->seed)); }
static ad_var op_exp(const subject *s, ad_var x) { return (void)s, ad_exp(x); }
static ad_var op_tanh(const subject *s, ad_var x) { return (void)s, ad_tanh(x); }
static ad_var op_erf(const subject *s, ad_var x) { return (void)s, ad_erf(x); }
static ad_var op_gelu(const subject *s, ad_var x) { return (void)s, ad_gelu(x); }
static ad_var op_softmax(const subject *s, ad_var x) { return (void)s, ad_softmax(x, -1); }
static ad_var op_transpose(const subject *s, ad_var x) { return (void)s, ad_contiguous(ad_transpose(x)); }
static ad_var op_sum(const subject *s, ad_var x) { return (void)s, ad_sum(x, AD_ALL_AXES, false); }
static ad_var op_layer_norm(const subject *s, ad_var x) {
    return ad_layer_norm(x, 1, use_constant(s, s->gain), use_constant(s, s->shift), 1e-5);
}

typedef struct op_case {
    const char *name;
    ad_var (*op)(const subject *, ad_var x);
    bool is_square;      /* x is a square matrix; otherwise it has rows of 1024 */
    int value, gradient; /* arrays of x's size that are read and written at least; 0: not measured */
} op_case;

static const op_case ops[] = {
    {"add f32", op_add, false, 3, 0},
    {"exp f32", op_exp, false, 2, 5},
    {"tanh f32", op_tanh, false, 2, 5},
    {"erf f32", op_erf, false, 2, 5},
    {"gelu f32", op_gelu, false, 2, 5},
    {"softmax f32", op_softmax, false, 2, 5},
    {"layer_norm f32", op_layer_norm, false, 2, 5},
    {"transpose f32", op_transpose, true, 2, 4},
    {"sum f32", op_sum, false, 1, 0},
};

static const struct {
    const char *name;
    int64_t count, side;
} sizes[] = {{"64Ki", 64 << 10, 256}, {"16Mi", 16 << 20, 4096}};

static void forward(void *user, double *part) {
    subject *s = user;
    double start = bench_now();
    ad_tape_reset(s->tape);
    s->at = ad_leaf_tensor(s->tape, "x", s->x);
    s->y = s->op(s, s->at);
    part[0] += bench_now() - start;
}

static void forward_and_back(void *user, double *part) {
    subject *s = user;
    double start = bench_now();
    ad_tape_reset(s->tape);
    s->at = ad_leaf_tensor(s->tape, "x", s->x);
    s->y = s->op(s, s->at);
    ad_backward_options options = {.seed = use_constant(s, s->seed), .wrt = &s->at, .wrt_count = 1};
    ad_backward_with(s->y, &options);
    part[0] += bench_now() - start;
}

static void run_part(const bench *b, subject *s, const char *name, bench_call *call, double bytes) {
    if (!bench_wants(b, name)) return;
    if (b->check) {
        call(s, (double[]){0});
        ad_view result = call == forward ? ad_value(s->y) : ad_gradient(s->at);
        bench_print(name, "result", bench_fingerprint(&result));
    } else {
        double seconds[BENCH_PARTS];
        bench_measure(b, call, s, seconds);
        bench_print_work(name, "us", 1e6 * seconds[0], 0, bytes);
    }
    bench_need(ad_tape_status(s->tape), ad_tape_error(s->tape));
}

/* Sines, in the shape of a matrix; made once for each size, as that takes longer than any of the operations. */
static ad_tensor *matrix_of(ad_tensor *flat, int64_t rows, int64_t columns) {
    ad_error error = {AD_OK, ""};
    ad_view view = *ad_tensor_view(flat);
    const ad_shape shape = AD_SHAPE(rows, columns);
    ad_tensor *made;
    bench_need(ad_view_reshape(&view, &shape, &view), "a row becomes a matrix");
    bench_need(ad_tensor_alias(&made, flat, &view, &error), error.message);
    return made;
}

static void run_op(const bench *b, const op_case *o, int size, ad_tensor *sines[2]) {
    char value[BENCH_NAME], gradient[BENCH_NAME];
    const int64_t n = sizes[size].count, columns = o->is_square ? sizes[size].side : 1024;
    snprintf(value, BENCH_NAME, "%s n=%s: value", o->name, sizes[size].name);
    snprintf(gradient, BENCH_NAME, "%s n=%s: gradient", o->name, sizes[size].name);
    if (!bench_wants(b, value) && !(o->gradient && bench_wants(b, gradient))) return;
    for (int i = 0; i < 2; i++)
        if (!sines[i]) sines[i] = bench_sines(AD_F32, AD_SHAPE(n), i ? 0.73 : 0.37);
    subject s = {.tape = bench_tape(), .op = o->op};
    s.x = matrix_of(sines[0], n / columns, columns);
    s.seed = matrix_of(sines[1], n / columns, columns);
    s.gain = bench_sines(AD_F32, AD_SHAPE(columns), 0.11);
    s.shift = bench_sines(AD_F32, AD_SHAPE(columns), 0.13);
    run_part(b, &s, value, forward, 4.0 * o->value * (double)n);
    if (o->gradient) run_part(b, &s, gradient, forward_and_back, 4.0 * o->gradient * (double)n);
    close_subject(&s);
}

/* ---- AdamW ----------------------------------------------------------------------------------------------------------- */

enum {
    ADAM_ARRAYS = 7,
    ADAM_CHECKED_STEPS = 3
}; /* reads weight, gradient, two moments; writes all but the gradient */

static void adam_step(void *user, double *part) {
    ad_error error = {AD_OK, ""};
    double start = bench_now();
    bench_need(ad_optim_step(user, &error), error.message);
    part[0] += bench_now() - start;
}

static void run_adam(const bench *b, int size) {
    char name[BENCH_NAME];
    snprintf(name, BENCH_NAME, "adamw f32 n=%s", sizes[size].name);
    if (!bench_wants(b, name)) return;
    const int64_t n = sizes[size].count;
    ad_error error = {AD_OK, ""};
    ad_param *w;
    ad_optim *optim;
    bench_need(ad_param_new(&w, NULL, NULL, AD_F32, AD_SHAPE(n), NULL, &error), error.message);
    bench_fill_sines(ad_param_edit(w), 0.37);
    bench_fill_sines(ad_param_edit_gradient(w), 0.73);
    bench_need(ad_adamw_new(&optim, NULL, 1, &w, NULL, &error), error.message);
    if (b->check) {
        for (int i = 0; i < ADAM_CHECKED_STEPS; i++) adam_step(optim, (double[]){0});
        bench_print(name, "weights", bench_fingerprint(ad_param_value(w)));
    } else {
        double seconds[BENCH_PARTS];
        bench_measure(b, adam_step, optim, seconds);
        bench_print_work(name, "us", 1e6 * seconds[0], 0, 4.0 * ADAM_ARRAYS * (double)n);
    }
    ad_optim_free(optim);
    ad_param_unref(w);
}

/* ---- few elements ------------------------------------------------------------------------------------------------------ */

enum { CHAIN_LENGTH = 100 };

/* x <- (x b) + c, CHAIN_LENGTH operations in all, and a sum at the end. */
static ad_var op_chain(const subject *s, ad_var x) {
    ad_var b = use_constant(s, s->gain), c = use_constant(s, s->shift);
    for (int i = 0; i < CHAIN_LENGTH; i += 2) x = ad_add(ad_mul(x, b), c);
    return ad_sum(x, AD_ALL_AXES, false);
}

static void chain_and_back(void *user, double *part) {
    subject *s = user;
    double start = bench_now();
    forward(s, (double[]){0});
    ad_backward(s->y);
    part[0] += bench_now() - start;
}

static void run_chain(const bench *b, int64_t n) {
    char name[BENCH_NAME];
    snprintf(name, BENCH_NAME, "small ops f32 n=%lld", (long long)n);
    if (!bench_wants(b, name)) return;
    subject s = {.tape = bench_tape(), .op = op_chain};
    s.x = bench_sines(AD_F32, AD_SHAPE(n), 0.37);
    s.gain = bench_sines(AD_F32, AD_SHAPE(n), 0.002);
    s.shift = bench_sines(AD_F32, AD_SHAPE(n), 0.13);
    if (b->check) {
        chain_and_back(&s, (double[]){0});
        ad_view gradient = ad_gradient(s.at);
        bench_print(name, "gradient", bench_fingerprint(&gradient));
    } else {
        double seconds[BENCH_PARTS];
        bench_measure(b, chain_and_back, &s, seconds);
        /* Of each two operations: a product and a sum forward, a product back. */
        bench_print_work(name, "ns/op", 1e9 * seconds[0] / CHAIN_LENGTH, 1.5 * (double)n, 4.5 * 4 * (double)n);
    }
    bench_need(ad_tape_status(s.tape), ad_tape_error(s.tape));
    close_subject(&s);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    for (int64_t n = 10; n <= 1000; n *= 10) run_chain(&b, n);
    for (int size = 0; size < 2; size++) {
        ad_tensor *sines[2] = {NULL, NULL};
        for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) run_op(&b, &ops[i], size, sines);
        for (int i = 0; i < 2; i++) ad_tensor_unref(sines[i]);
        run_adam(&b, size);
    }
    return 0;
}
