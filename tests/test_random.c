/* Random programs: whatever is called, in whatever order, with whatever variables, the tape stays whole. A failure names
 * the seed; RANDOM_SEED=n runs that program alone. */
#include "helpers.h"
#include "tapes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { variables = 16, marks = 3, params = 3, programs = 1000, calls = 200 };

typedef struct program {
    test_memory memory;
    ad_rng rng;
    ad_tape *tape, *other;
    ad_param *param[params];
    ad_var var[variables]; /* live, stale, of the other tape, or never set */
    ad_mark mark[marks];
    int scopes; /* open, as far as it knows */
    int64_t seed;
} program;

static int below(program *p, int bound) { return (int)ad_rng_below(&p->rng, bound); }

/* Most calls are sensible, so that programs get somewhere; the wild ones take anything. */
static bool is_wild(program *p) { return below(p, 60) == 0; }

static ad_shape any_shape(program *p) {
    const ad_shape shapes[] = {AD_SCALAR,   AD_SCALAR,      AD_SHAPE(3),       AD_SHAPE(2, 3), AD_SHAPE(2, 1),
                               AD_SHAPE(1), AD_SHAPE(3, 3), AD_SHAPE(2, 1, 3), AD_SHAPE(0),    AD_SHAPE(-1, 3)};
    return shapes[below(p, is_wild(p) ? 10 : 8)];
}

static ad_axes any_axes(program *p) {
    const ad_axes axes[] = {AD_ALL_AXES, AD_AXES(0), AD_AXES(-1), AD_AXES(1, 0), AD_AXES(0, 0), AD_AXES(2)};
    return axes[below(p, is_wild(p) ? 6 : 1)];
}

static bool is_live(const program *p, ad_var x) {
    return x.tape == p->tape && x.generation && ad_tape_var(p->tape, x.index).generation == x.generation;
}

static ad_view view_of(ad_var x) {
    ad_node_info info;
    cr_assert_eq(ad_tape_node(x.tape, x.index, &info), AD_OK);
    return info.value;
}

/* A float variable whose shape goes with that of `like`, unless that is dead; a leaf if there is none. */
static ad_var any_leaf(program *p);
static ad_var any_var(program *p, ad_var like) {
    if (is_wild(p)) return p->var[below(p, variables)];
    for (int i = 0; i < 30; i++) {
        ad_var x = p->var[below(p, variables)];
        ad_shape common;
        if (!is_live(p, x) || !ad_dtype_is_float(view_of(x).dtype)) continue;
        if (!is_live(p, like)) return x;
        ad_view a = view_of(x), b = view_of(like);
        if (a.dtype == b.dtype && ad_shape_broadcast(&a.shape, &b.shape, &common) == AD_OK) return x;
    }
    return is_live(p, like) ? like : any_leaf(p);
}
static const ad_var nothing = {0};

/* One that a gradient can be asked for. */
static ad_var any_wanted(program *p) {
    for (int i = 0; i < 30; i++) {
        ad_var x = any_var(p, nothing);
        ad_node_info info;
        if (is_live(p, x) && !ad_tape_node(p->tape, x.index, &info) && info.needs_gradient) return x;
    }
    return ad_scalar(p->tape, "s", 0.5);
}

static void keep(program *p, ad_var x) {
    if (x.generation == 0 && below(p, 4)) return;
    p->var[below(p, variables)] = x;
}

static ad_var any_leaf(program *p) {
    double data[9];
    float floats[9];
    for (int i = 0; i < 9; i++) floats[i] = (float)(data[i] = 0.25 * below(p, 9) - 1);
    ad_shape shape = any_shape(p);
    switch (below(p, 12)) {
    case 0: return ad_constant(p->tape, "c", AD_F64, shape, data);
    case 1: return ad_leaf(p->tape, NULL, AD_F32, shape, floats);
    case 2: return ad_use(p->tape, p->param[below(p, params)]);
    case 3: return ad_index(p->tape, below(p, 4));
    case 4: return ad_number(p->tape, AD_F64, data[0]);
    default: return ad_leaf(p->tape, "x", AD_F64, shape, data);
    }
}

static ad_var any_operation(program *p) {
    ad_var a = any_var(p, nothing), b = any_var(p, a), c = any_var(p, b);
    switch (below(p, 22)) {
    case 0: return ad_add(a, b);
    case 1: return ad_sub(a, b);
    case 2: return ad_mul(a, b);
    case 3: return ad_div(a, b);
    case 4: return ad_where(a, b, c);
    case 5: return ad_where(ad_greater(a, b), a, b);
    case 6: return ad_neg(a);
    case 7: return ad_scale(a, 0.5);
    case 8: return ad_tanh(a);
    case 9: return ad_sigmoid(a);
    case 10: return ad_relu(a);
    case 11: return ad_detach(a);
    case 12: return ad_reshape(a, is_wild(p) ? any_shape(p) : AD_SHAPE(-1));
    case 13: return ad_permute(a, any_axes(p));
    case 14: return ad_broadcast_to(is_wild(p) ? a : ad_sum(a, AD_ALL_AXES, false), any_shape(p));
    case 15: return ad_sum(a, any_axes(p), below(p, 2));
    case 16: return ad_mean(a, AD_ALL_AXES, false);
    case 17:
        return is_wild(p) ? ad_matmul(a, b)
                          : ad_matmul(ad_reshape(a, AD_SHAPE(-1, 1)), ad_reshape(b, AD_SHAPE(1, -1)));
    case 18: return ad_softmax(a, -1);
    case 19: return ad_softmax_xent(ad_reshape(a, AD_SHAPE(1, -1)), ad_softmax(ad_reshape(a, AD_SHAPE(1, -1)), -1));
    case 20:
        return is_wild(p) ? ad_gather(a, 0, b)
                          : ad_gather(ad_reshape(a, AD_SHAPE(-1)), 0, ad_reshape(ad_index(p->tape, 0), AD_SHAPE(1)));
    default: return ad_name(a, below(p, 3) ? "name" : NULL);
    }
}

static ad_backward_options any_options(program *p, ad_var y, ad_var *wrt) {
    ad_backward_options options = {.accumulate = below(p, 3) == 0, .leaves_only = below(p, 3) == 0};
    for (int i = 0; i < 2; i++) wrt[i] = any_wanted(p);
    if (below(p, 4) == 0) options.wrt = wrt, options.wrt_count = below(p, 3);
    if (below(p, 4) == 0) options.seed = y;
    return options;
}

/* A recorded gradient is the one that the walk leaves, but for the order of roundings. */
static void compare_gradients(program *p) {
    ad_var y = ad_sum(any_var(p, nothing), AD_ALL_AXES, false), x = any_wanted(p), gradient;
    if (ad_backward(y) || ad_grad(y, (ad_var){0}, 1, &x, &gradient)) return;
    ad_view walked = ad_gradient(x), recorded = ad_value(gradient);
    if (ad_tape_status(p->tape)) return;
    cr_assert(walked.dtype == recorded.dtype && ad_shape_equal(&walked.shape, &recorded.shape));
    for (int64_t i = 0; i < ad_view_count(&walked); i++) {
        double a = ad_view_get(&walked, i), b = ad_view_get(&recorded, i);
        cr_assert(fabs(a - b) <= 1e-5 * fmax(1, fabs(a)) || !isfinite(a) || !isfinite(b),
                  "program %lld: %.17g walked, %.17g recorded", (long long)p->seed, a, b);
    }
    keep(p, gradient);
}

static void look_at_gradient(program *p) {
    ad_var x = any_wanted(p);
    ad_pass_info pass;
    if (ad_tape_pass(p->tape, &pass)) return;
    if (is_wild(p) || (is_live(p, x) && x.index < pass.nodes)) (void)ad_gradient(x);
}

static void look_around(program *p) {
    int64_t index = below(p, 40) - 1;
    ad_node_info info;
    if (ad_tape_node(p->tape, index, &info)) return;
    for (int i = 0; i < info.inputs; i++) {
        ad_tensor *piece;
        (void)ad_tape_contribution(p->tape, index, i, &piece);
        ad_tensor_unref(piece);
    }
    if (info.has_gradient) (void)ad_view_is_contiguous(&info.gradient);
    keep(p, ad_tape_var(p->tape, index));
}

static void forget(program *p) {
    ad_tape_reset(p->tape);
    memset(p->mark, 0, sizeof p->mark);
    p->scopes = 0;
}

static void any_call(program *p) {
    ad_var wrt[2];
    int at;
    switch (below(p, 32)) {
    case 0:
        if (below(p, 3) == 0) forget(p);
        break;
    case 1: p->mark[below(p, marks)] = ad_tape_mark(p->tape); break;
    case 2:
        at = below(p, marks);
        if (p->mark[at].tape || is_wild(p)) (void)ad_tape_rewind(p->tape, p->mark[at]);
        break;
    case 3: ad_scope_begin(p->tape, "s%d", p->scopes++); break;
    case 4:
        if (p->scopes-- > 0 || is_wild(p)) ad_scope_end(p->tape);
        break;
    case 5: {
        ad_var y = any_var(p, nothing);
        ad_backward_options options = any_options(p, y, wrt);
        if (!options.seed.tape && !is_wild(p)) y = ad_sum(y, AD_ALL_AXES, false);
        (void)ad_backward_with(y, &options);
        break;
    }
    case 6: (void)ad_backward(ad_mean(any_wanted(p), AD_ALL_AXES, false)); break;
    case 7: look_at_gradient(p); break;
    case 8: compare_gradients(p); break;
    case 9: ad_tensor_unref(ad_tensor_of(any_var(p, nothing))); break;
    case 10:
        if (below(p, 6) == 0) *(double *)ad_param_edit(p->param[below(p, params)])->data += 0.125;
        break;
    case 11: look_around(p); break;
    case 12: {
        ad_var x = any_var(p, nothing), dot = is_wild(p) ? any_var(p, x) : x, y = any_var(p, nothing), pushed;
        (void)ad_pushforward(1, &x, &dot, 1, &y, &pushed);
        keep(p, pushed);
        break;
    }
    case 13:
        if (below(p, 6) == 0) p->memory.fail_at = p->memory.calls + 1 + below(p, 20);
        break;
    case 14: p->memory.fail_on = below(p, 2); break;
    case 15: keep(p, ad_scalar(p->other, "other", 1)); break;
    case 16:
    case 17:
    case 18:
    case 19:
    case 20: keep(p, any_leaf(p)); break;
    default: keep(p, any_operation(p)); break;
    }
}

/* The tape is whole; an error has words and does not last. */
static void check(program *p, int call) {
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_tape_verify(p->tape, &error), AD_OK, "program %lld, call %d: %s", (long long)p->seed, call,
                 error.message);
    if (ad_tape_status(p->tape) == AD_OK) {
        cr_assert_str_empty(ad_tape_error(p->tape));
        return;
    }
    cr_assert_gt(strlen(ad_tape_error(p->tape)), 20);
    if (below(p, 4) == 0) return; /* go on in error for a while */
    p->memory.fail_at = 0;
    forget(p);
}

static void run(int64_t seed) {
    program p = {.seed = seed, .rng = {.seed = (uint64_t)seed, .counter = 0}};
    test_memory_open(&p.memory);
    p.memory.most = 1 << 20; /* products of products grow fast */
    p.tape = ad_tape_new(&(ad_tape_options){.allocator = &p.memory.allocator, .max_nodes = below(&p, 8) ? 0 : 40});
    p.other = ad_tape_new(NULL);
    for (int i = 0; i < params; i++) {
        ad_shape shape = i == 0 ? AD_SCALAR : AD_SHAPE(3);
        cr_assert_eq(ad_param_new(&p.param[i], NULL, "p", AD_F64, shape, (double[]){0.5, -1, 2}, NULL), AD_OK);
    }
    for (int i = 0; i < calls; i++) {
        any_call(&p);
        check(&p, i);
    }
    ad_tape_free(p.tape);
    ad_tape_free(p.other);
    for (int i = 0; i < params; i++) ad_param_unref(p.param[i]);
    test_memory_close(&p.memory);
}

Test(random, programs_leave_the_tape_whole) {
    const char *only = getenv("RANDOM_SEED");
    if (only) run(atoll(only));
    for (int64_t seed = 0; seed < programs && !only; seed++) run(seed);
}
