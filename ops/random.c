/* Randomness: dropout, and constants of random numbers. Every number is a pure function of a generator's seed and counter;
 * a constructor moves the counter on by one for each element. A generator's copy therefore replays all of it. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/random.h"
#include "ops/ops.h"

#include <math.h>
#include <stdio.h>

static bool has_generator(ad_tape *tape, const ad_rng *rng, const char *subject, const char *where) {
    if (rng) return true;
    ad_tape_fail(tape, AD_ERR_NULL, subject, where, "the generator is NULL: pass an ad_rng with a seed");
    return false;
}

/* ---- dropout ----------------------------------------------------------------------------------------------------- */

/* The mask is not stored: the generator as it was when the op was recorded draws it again. */
typedef struct dropout_attrs {
    ad_rng rng;
    double p;
} dropout_attrs;

static ad_status dropout_shape(ad_call *call) {
    double p = ((const dropout_attrs *)call->attrs)->p;
    if (!(p >= 0 && p <= 1)) return ad_fail(call, AD_ERR_VALUE, "p is %g; a probability is between 0 and 1", p);
    return ad_shape_like_input(call);
}

static ad_status dropout_forward(ad_call *call) {
    const dropout_attrs *attrs = call->attrs;
    ad_drop(call->in[0], attrs->rng, attrs->p, &call->out[0], false);
    return AD_OK;
}

/* A diagonal matrix is its own transpose. */
static void dropout_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_apply_1(AD_HERE, &ad_op_dropout, ad_vjp_seed(v, 0), ad_vjp_attrs(v)));
}

static ad_status dropout_backward(ad_call *call, ad_adjoint *adjoint) {
    const dropout_attrs *attrs = call->attrs;
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (x_bar) ad_drop(&adjoint->seed[0], attrs->rng, attrs->p, x_bar, add);
    return AD_OK;
}

static void show_dropout(const void *attrs, char *text, size_t size) {
    const dropout_attrs *a = attrs;
    snprintf(text, size, "%g", a->p);
}

static bool dropout_sample(ad_sample *sample, int k) {
    const double p[] = {0.5, 0.25, 0, 1, 0.9, 0.5};
    dropout_attrs *attrs = (dropout_attrs *)(void *)sample->attrs.bytes;
    ad_shape shape;
    if (!ad_sample_shape(k, &shape)) return false;
    *attrs = (dropout_attrs){.rng = {.seed = 7, .counter = 100 * (uint64_t)k}, .p = p[k % 6]};
    return ad_sample_normal(sample, shape);
}

const ad_op ad_op_dropout = {
    .name = "dropout",
    .inputs = 1,
    .attrs_size = sizeof(dropout_attrs),
    .attrs = AD_ATTRS(AD_ATTR("p", DOUBLE, dropout_attrs, p, AD_REQUIRED),
                      AD_ATTR("seed", INT64, dropout_attrs, rng.seed, AD_USUALLY(0)),
                      AD_ATTR("counter", INT64, dropout_attrs, rng.counter, AD_USUALLY(0))),
    .saves = AD_SAVES_NOTHING,
    .shape = dropout_shape,
    .forward = dropout_forward,
    .vjp = dropout_vjp,
    .backward = dropout_backward,
    .jvp = ad_jvp_linear,
    .depends = ad_depends_elementwise,
    .formula = "$y = dropout($0, p = $a)",
    .adjoint = {"~0 += dropout(~y, p = $a), the same elements"},
    .show_attrs = show_dropout,
    .sample = dropout_sample,
};

ad_var ad_dropout_at(const char *where, ad_var x, double p, ad_rng *rng) {
    if (x.tape && !has_generator(x.tape, rng, "dropout", where)) return ad_var_invalid(x.tape);
    dropout_attrs attrs = {.rng = {.seed = 0}, .p = p};
    if (x.tape && !ad_draw(x.tape, rng, "dropout", where, &attrs.rng)) return ad_var_invalid(x.tape);
    ad_var y = ad_apply_1(where, &ad_op_dropout, x, &attrs);
    if (!ad_var_is_valid(y)) return y;
    ad_view value = ad_value_at(where, y);
    attrs.rng.counter += (uint64_t)ad_view_count(&value);
    ad_drawn(y.tape, rng, attrs.rng);
    return y;
}

/* ---- constants of random numbers ----------------------------------------------------------------------------------- */

typedef struct distribution {
    const char *name;
    double (*next)(ad_rng *rng, double p);
    double p;
} distribution;

static double uniform(ad_rng *rng, double p) { return (void)p, ad_rng_uniform(rng); }
/* A number just below 1 would round up to 1 in f32, which does not belong to the interval. */
static double uniform_f32(ad_rng *rng, double p) { return (void)p, (double)(ad_rng_next(rng) >> 40) * 0x1p-24; }
static double normal(ad_rng *rng, double p) { return (void)p, ad_rng_normal(rng); }
static double hit(ad_rng *rng, double p) { return ad_rng_uniform(rng) < p; }
/* The number in the middle of its interval: neither 0 nor 1. */
static double gumbel(ad_rng *rng, double p) {
    return (void)p, -log(-log(ad_rng_uniform(rng) * (1 - 0x1p-53) + 0x1p-54));
}

typedef struct drawing {
    const ad_view *y; /* row-major */
    ad_rng rng;
    const distribution *distribution;
} drawing;

static void draw_some(const void *context, int64_t from, int64_t to, int worker) {
    const drawing *d = context;
    ad_rng rng = {d->rng.seed, d->rng.counter + (uint64_t)from};
    (void)worker;
    for (int64_t i = from; i < to; i++) {
        double value = d->distribution->next(&rng, d->distribution->p);
        if (d->y->dtype == AD_F32) {
            ((float *)d->y->data)[i] = (float)value;
        } else {
            ((double *)d->y->data)[i] = value;
        }
    }
}

static void draw(const ad_view *y, ad_rng *rng, const distribution *d) {
    enum { GRAIN = 128 }; /* elements that take some microseconds */
    const int64_t n = ad_view_count(y);
    ad_parallel(ad_parallel_workers(n, GRAIN), n, n / GRAIN, draw_some, &(drawing){y, *rng, d});
    rng->counter += (uint64_t)n;
}

/* A row-major tensor of garbage; NULL, and the tape's error, if there is no such dtype, shape, or memory. */
static ad_tensor *new_tensor(const char *where, ad_tape *tape, const char *subject, ad_dtype dtype,
                             const ad_shape *shape) {
    if (!ad_dtype_is_float(dtype)) {
        ad_tape_fail(tape, AD_ERR_DTYPE, subject, where, "the dtype must be AD_F32 or AD_F64");
        return NULL;
    }
    if (ad_shape_count(shape) < 0) {
        char type[AD_TYPE_TEXT];
        ad_tape_fail(tape, AD_ERR_LIMIT, subject, where,
                     "%s is not a possible shape: rank 0..%d, no negative dimension, and a size that fits memory",
                     ad_type_text(dtype, shape, type), AD_MAX_RANK);
        return NULL;
    }
    ad_tensor *tensor = ad_pool_tensor(tape->pool, dtype, shape);
    if (!tensor) ad_tape_out_of_memory(tape, subject, where);
    return tensor;
}

static ad_var drawn(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                    distribution d, ad_rng *rng) {
    if (!tape || tape->error.status || !has_generator(tape, rng, d.name, where)) return ad_var_invalid(tape);
    ad_rng after;
    ad_tensor *tensor = new_tensor(where, tape, d.name, dtype, &shape);
    if (!tensor || !ad_draw(tape, rng, d.name, where, &after)) {
        ad_tensor_unref(tensor);
        return ad_var_invalid(tape);
    }
    draw(&tensor->view, &after, &d);
    ad_var y = ad_constant_tensor_at(where, tape, name, tensor);
    ad_tensor_unref(tensor);
    if (ad_var_is_valid(y)) ad_drawn(tape, rng, after);
    return y;
}

ad_var ad_rand_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape, ad_rng *rng) {
    distribution d = {.name = "rand", .next = dtype == AD_F32 ? uniform_f32 : uniform};
    return drawn(where, tape, name, dtype, shape, d, rng);
}

ad_var ad_randn_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape, ad_rng *rng) {
    return drawn(where, tape, name, dtype, shape, (distribution){.name = "randn", .next = normal}, rng);
}

ad_var ad_bernoulli_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape, double p,
                       ad_rng *rng) {
    if (tape && !tape->error.status && !(p >= 0 && p <= 1))
        ad_tape_fail(tape, AD_ERR_VALUE, "bernoulli", where, "p is %g; a probability is between 0 and 1", p);
    return drawn(where, tape, name, dtype, shape, (distribution){.name = "bernoulli", .next = hit, .p = p}, rng);
}

/* ---- gumbel_softmax ------------------------------------------------------------------------------------------------ */

/* Jang, Gu, Poole: "Categorical reparameterization with Gumbel-softmax", ICLR 2017. */
ad_var ad_gumbel_softmax_at(const char *where, ad_var logits, double temperature, bool hard, ad_rng *rng) {
    ad_tape *tape = logits.tape;
    ad_shape shape;
    if (ad_composed_axis(logits, -1, "gumbel_softmax", where, &shape) < 0) return ad_var_invalid(tape);
    if (!(temperature > 0)) {
        ad_tape_fail(tape, AD_ERR_VALUE, "gumbel_softmax", where, "the temperature is %g; it must be positive",
                     temperature);
        return ad_var_invalid(tape);
    }
    ad_dtype dtype = ad_value_at(where, logits).dtype;
    ad_var noise = drawn(where, tape, NULL, dtype, shape, (distribution){.name = "gumbel_softmax", .next = gumbel},
                         rng);
    ad_var soft = ad_softmax_at(where, ad_scale_at(where, ad_add_at(where, logits, noise), 1 / temperature), -1);
    if (!hard) return soft;
    ad_var choice = ad_argmax_at(where, soft, -1, false);
    return ad_straight_through_at(where, ad_one_hot_at(where, choice, shape.dim[shape.rank - 1], dtype), soft);
}
