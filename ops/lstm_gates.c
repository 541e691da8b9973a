/* The elementwise part of an LSTM cell (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000): from the
 * sums that enter the four gates i, f, g, o, one after the other along the last axis, and the state c,
 *
 *     c' = sigmoid(f) c + sigmoid(i) tanh(g),  h' = sigmoid(o) tanh(c')
 *
 * One pass instead of a dozen; the gates are computed again on the way back rather than kept. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

static ad_status lstm_gates_shape(ad_call *call) {
    ad_status status = ad_need_float(call, 0);
    if (!status) status = ad_need_same_dtype(call, 0, 1);
    if (status) return status;
    ad_shape gates = call->in[0]->shape, state = call->in[1]->shape;
    const int last = gates.rank - 1;
    bool fits = gates.rank > 0 && gates.rank == state.rank && gates.dim[last] % 4 == 0;
    if (fits) gates.dim[last] /= 4;
    if (!fits || !ad_shape_equal(&gates, &state))
        return ad_fail(call, AD_ERR_SHAPE, "gates [..., 4 n] and a state [..., n] do not fit: %s, %s",
                       ad_describe(call, 0), ad_describe(call, 1));
    ad_set_out(call, 0, call->in[0]->dtype, state);
    ad_set_out(call, 1, call->in[0]->dtype, state);
    return AD_OK;
}

static int64_t width_of(const ad_view *state) { return state->shape.dim[state->shape.rank - 1]; }

static ad_status lstm_gates_forward(ad_call *call) {
    const ad_view *h = &call->out[0];
    const int64_t count = ad_view_count(h);
    if (count == 0) return AD_OK;
    const void *gates = ad_row_major(call, call->in[0]), *c = ad_row_major(call, call->in[1]);
    if (!gates || !c) return AD_ERR_OOM;
    ad_kernels_get()->lstm(h->dtype, count / width_of(h), width_of(h), gates, c, h->data, call->out[1].data);
    return AD_OK;
}

enum { I, F, G, O, GATES };

/* The values of the gates, from the sums that enter them. */
static void open_gates(ad_var sums, ad_var gate[GATES]) {
    ad_chunk(sums, -1, GATES, gate);
    for (int k = 0; k < GATES; k++) gate[k] = k == G ? ad_tanh(gate[k]) : ad_sigmoid(gate[k]);
}

/* The derivative of a gate by its sum. */
static ad_var slope_of(int k, ad_var gate) {
    ad_var one = ad_number_like(AD_HERE, gate, 1);
    return k == G ? ad_sub(one, ad_square(gate)) : ad_mul(gate, ad_sub(one, gate));
}

static void lstm_gates_vjp(ad_vjp *v) {
    ad_var in[] = {ad_vjp_input(v, 0), ad_vjp_input(v, 1), ad_vjp_seed(v, 0), ad_vjp_seed(v, 1)}, bar[2];
    ad_apply_at(AD_HERE, ad_vjp_tape(v), &ad_op_lstm_gates_back, 4, in, NULL, bar);
    for (int i = 0; i < 2; i++)
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, bar[i]);
}

static void lstm_gates_jvp(ad_jvp *j) {
    ad_var gate[GATES], dot[GATES], c = ad_jvp_input(j, 1), t = ad_tanh(ad_jvp_result(j, 1));
    open_gates(ad_jvp_input(j, 0), gate);
    ad_chunk(ad_jvp_tangent(j, 0), -1, GATES, dot);
    for (int k = 0; k < GATES; k++) dot[k] = ad_mul(dot[k], slope_of(k, gate[k]));
    ad_var kept = ad_add(ad_mul(dot[F], c), ad_mul(gate[F], ad_jvp_tangent(j, 1)));
    ad_var c_dot = ad_add(kept, ad_add(ad_mul(dot[I], gate[G]), ad_mul(gate[I], dot[G])));
    ad_jvp_give(j, 1, c_dot);
    ad_jvp_give(j, 0, ad_add(ad_mul(dot[O], t), ad_mul(ad_mul(gate[O], slope_of(G, t)), c_dot)));
}

/* From row-major numbers; `c_next` NULL: it is worked out again. */
static ad_status run_back(ad_call *call, ad_lstm_back back) {
    const ad_view *c = call->in[1];
    const size_t size = ad_dtype_size(c->dtype);
    back.dtype = c->dtype;
    back.rows = ad_view_count(c) / width_of(c);
    back.n = width_of(c);
    back.gates = ad_row_major(call, call->in[0]);
    back.c = ad_row_major(call, c);
    back.row = ad_scratch(call, (size_t)back.n * size);
    if (!back.row || !back.gates || !back.c || !back.h_bar || !back.c_next_bar) return AD_ERR_OOM;
    if (!back.c_next) {
        void *h = ad_scratch(call, (size_t)(back.rows * back.n) * size),
             *c_next = ad_scratch_view(call, c->dtype, c->shape).data;
        if (!h || !c_next) return AD_ERR_OOM;
        ad_kernels_get()->lstm(back.dtype, back.rows, back.n, back.gates, back.c, h, c_next);
        back.c_next = c_next;
    }
    ad_kernels_get()->lstm_back(&back);
    return AD_OK;
}

/* Row-major numbers of a cotangent, zeros if none arrived; NULL: no memory. */
static const void *seed_of(ad_call *call, const ad_adjoint *adjoint, int k) {
    if (adjoint->seed[k].data) return ad_row_major(call, &adjoint->seed[k]);
    ad_view zeros = ad_scratch_view(call, call->out[k].dtype, call->out[k].shape);
    if (zeros.data) ad_kernels_get()->fill(&zeros, 0);
    return zeros.data;
}

/* Where the kernel, which only writes, is to leave a contribution: the gradient itself if that is the first, else scratch
 * memory to add from. */
typedef struct target {
    const ad_view *into; /* NULL: nobody wants it */
    bool add;
    ad_view bar;
} target;

static target open_target(ad_call *call, ad_adjoint *adjoint, int i) {
    target t;
    t.into = ad_into(adjoint, i, &t.add);
    t.bar = t.into && !t.add ? *t.into : ad_scratch_view(call, call->in[i]->dtype, call->in[i]->shape);
    return t;
}

static void close_target(const target *t) {
    if (t->into && t->add) ad_kernels_get()->copy(&t->bar, t->into, 1, true);
}

static ad_status lstm_gates_backward(ad_call *call, ad_adjoint *adjoint) {
    const ad_view *c = call->in[1];
    if (ad_view_count(c) == 0) return AD_OK;
    const target gates_bar = open_target(call, adjoint, 0), c_bar = open_target(call, adjoint, 1);
    const void *c_next = ad_row_major(call, &call->out[1]);
    if (!gates_bar.bar.data || !c_bar.bar.data || !c_next) return AD_ERR_OOM;
    ad_status status = run_back(call, (ad_lstm_back){.c_next = c_next,
                                                     .h_bar = seed_of(call, adjoint, 0),
                                                     .c_next_bar = seed_of(call, adjoint, 1),
                                                     .gates_bar = gates_bar.bar.data,
                                                     .c_bar = c_bar.bar.data});
    if (status) return status;
    close_target(&gates_bar);
    close_target(&c_bar);
    return AD_OK;
}

static bool lstm_gates_sample(ad_sample *sample, int k) {
    const ad_shape states[] = {AD_SHAPE(2, 3), AD_SHAPE(4), AD_SHAPE(2, 1, 2), AD_SHAPE(0, 2), AD_SHAPE(3, 17)};
    if (k >= (int)(sizeof states / sizeof *states)) return false;
    ad_shape gates = states[k];
    gates.dim[gates.rank - 1] *= 4;
    return ad_sample_normal(sample, gates) && ad_sample_normal(sample, states[k]);
}

const ad_op ad_op_lstm_gates = {
    .name = "lstm_gates",
    .inputs = 2,
    .results = 2,
    .saves = AD_SAVES_INPUTS | AD_SAVES_RESULT(1),
    .shape = lstm_gates_shape,
    .forward = lstm_gates_forward,
    .vjp = lstm_gates_vjp,
    .jvp = lstm_gates_jvp,
    .backward = lstm_gates_backward,
    .formula = "$y = sigmoid(o) tanh($y1), with i, f, g, o = $0",
    .result_formula = {"$y1 = sigmoid(f) $1 + sigmoid(i) tanh(g)"},
    .adjoint = {"~0 += [s $1' , ...], s = ~y1 + ~y sigmoid(o) (1 - tanh($y1)^2)", "~1 += s sigmoid(f)"},
    .sample = lstm_gates_sample,
};

ad_var ad_lstm_gates_at(const char *where, ad_var gates, ad_var c, ad_var *c_next) {
    ad_var results[2] = {ad_var_invalid(gates.tape), ad_var_invalid(gates.tape)};
    ad_var h = ad_apply_at(where, gates.tape, &ad_op_lstm_gates, 2, (ad_var[]){gates, c}, NULL, results);
    if (c_next) *c_next = results[1];
    return h;
}

/* ---- lstm_gates_back: the VJP, from gates, c and the cotangents of h' and c' --------------------------------------------- */

/* The inputs of number `at` on: gates, c, and two like c. */
static ad_status check_four(ad_call *call, int at) {
    ad_status status = AD_OK;
    for (int i = at; i < at + 4 && !status; i++) {
        status = ad_need_same_dtype(call, 0, i);
        if (!status && !ad_shape_equal(&call->in[i]->shape, &call->in[i % 4 == 0 ? 0 : 1]->shape))
            status = ad_fail(call, AD_ERR_SHAPE, "shapes differ: %s, %s", ad_describe(call, i % 4 == 0 ? 0 : 1),
                             ad_describe(call, i));
    }
    return status;
}

static ad_status lstm_gates_back_shape(ad_call *call) {
    ad_status status = lstm_gates_shape(call);
    for (int at = 0; at < call->inputs && !status; at += 4) status = check_four(call, at);
    for (int k = 0; k < 2; k++) ad_set_out(call, k, call->in[0]->dtype, call->in[k]->shape);
    return status;
}

static ad_status lstm_gates_back_forward(ad_call *call) {
    if (ad_view_count(call->in[1]) == 0) return AD_OK;
    return run_back(call, (ad_lstm_back){.h_bar = ad_row_major(call, call->in[2]),
                                         .c_next_bar = ad_row_major(call, call->in[3]),
                                         .gates_bar = call->out[0].data,
                                         .c_bar = call->out[1].data});
}

static void define_back(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_var gate[GATES], c = in[1], h_bar = in[2];
    (void)n, (void)attrs;
    open_gates(in[0], gate);
    ad_var t = ad_tanh(ad_add(ad_mul(gate[F], c), ad_mul(gate[I], gate[G])));
    ad_var of_c = ad_add(in[3], ad_mul(ad_mul(h_bar, gate[O]), slope_of(G, t)));
    ad_var bar[GATES] = {ad_mul(of_c, gate[G]), ad_masked_mul(of_c, c), ad_mul(of_c, gate[I]), ad_mul(h_bar, t)};
    for (int k = 0; k < GATES; k++) bar[k] = ad_mul(bar[k], slope_of(k, gate[k]));
    out[0] = ad_cat(GATES, bar, -1);
    out[1] = ad_mul(of_c, gate[F]);
}

static void lstm_gates_back_vjp(ad_vjp *v) { ad_vjp_of_definition(v, define_back); }

static void lstm_gates_back_jvp(ad_jvp *j) {
    ad_var in[8], dot[2];
    for (int i = 0; i < 4; i++) in[i] = ad_jvp_input(j, i), in[i + 4] = ad_jvp_tangent(j, i);
    ad_apply_at(AD_HERE, ad_jvp_tape(j), &ad_op_lstm_gates_back_jvp, 8, in, NULL, dot);
    for (int k = 0; k < 2; k++) ad_jvp_give(j, k, dot[k]);
}

static bool sample_fours(ad_sample *sample, int k, int fours) {
    const ad_shape states[] = {AD_SHAPE(2, 3), AD_SHAPE(4), AD_SHAPE(0, 2), AD_SHAPE(3, 17)};
    if (k >= (int)(sizeof states / sizeof *states)) return false;
    ad_shape gates = states[k];
    gates.dim[gates.rank - 1] *= 4;
    for (int i = 0; i < 4 * fours; i++)
        if (!ad_sample_normal(sample, i % 4 == 0 ? gates : states[k])) return false;
    return true;
}

static bool lstm_gates_back_sample(ad_sample *sample, int k) { return sample_fours(sample, k, 1); }

const ad_op ad_op_lstm_gates_back = {
    .name = "lstm_gates_back",
    .inputs = 4,
    .results = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = lstm_gates_back_shape,
    .forward = lstm_gates_back_forward,
    .vjp = lstm_gates_back_vjp,
    .jvp = lstm_gates_back_jvp,
    .formula =
        "$y = [s g i (1 - i), s $1 f (1 - f), s i (1 - g^2), $2 tanh(c') o (1 - o)], s = $3 + $2 o (1 - tanh(c')^2)",
    .result_formula = {"$y1 = s f"},
    .adjoint = {"~0 += that of the formula", "~1 += that of the formula", "~2 += that of the formula",
                "~3 += that of the formula"},
    .sample = lstm_gates_back_sample,
};

/* ---- lstm_gates_back_jvp: its derivative in a direction, which is four more inputs ------------------------------------ */

static ad_status lstm_gates_back_jvp_forward(ad_call *call) {
    const ad_view *c = call->in[1];
    const void *in[8];
    if (ad_view_count(c) == 0) return AD_OK;
    for (int i = 0; i < 8; i++)
        if (!(in[i] = ad_row_major(call, call->in[i]))) return AD_ERR_OOM;
    const ad_lstm_back_jvp jvp = {.dtype = c->dtype,
                                  .rows = ad_view_count(c) / width_of(c),
                                  .n = width_of(c),
                                  .gates = in[0],
                                  .c = in[1],
                                  .h_bar = in[2],
                                  .c_next_bar = in[3],
                                  .gates_dot = in[4],
                                  .c_dot = in[5],
                                  .h_bar_dot = in[6],
                                  .c_next_bar_dot = in[7],
                                  .gates_bar_dot = call->out[0].data,
                                  .c_bar_dot = call->out[1].data};
    ad_kernels_get()->lstm_back_jvp(&jvp);
    return AD_OK;
}

static void define_back_jvp(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_define_jvp(define_back, n / 2, n / 2, in, attrs, 2, out);
}

static void lstm_gates_back_jvp_vjp(ad_vjp *v) { ad_vjp_of_definition(v, define_back_jvp); }

static bool lstm_gates_back_jvp_sample(ad_sample *sample, int k) { return sample_fours(sample, k, 2); }

const ad_op ad_op_lstm_gates_back_jvp = {
    .name = "lstm_gates_back_jvp",
    .inputs = 8,
    .results = 2,
    .saves = AD_SAVES_INPUTS,
    .shape = lstm_gates_back_shape,
    .forward = lstm_gates_back_jvp_forward,
    .vjp = lstm_gates_back_jvp_vjp,
    .formula = "$y = the derivative of lstm_gates_back at $0, $1, $2, $3 along the next four",
    .result_formula = {"$y1 = that of its second result"},
    .adjoint = {"~0 += that of the formula", "~1 += that of the formula", "~2 += that of the formula",
                "~3 += that of the formula"},
    .sample = lstm_gates_back_jvp_sample,
};
