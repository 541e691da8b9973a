/* The derivatives of attention as ops, so that the gradient can be recorded and moved along a direction without the
 * probabilities in memory:
 *
 *   attention_jvp       its derivative in a direction
 *   attention_back      its VJP
 *   attention_back_jvp  the derivative of that in a direction, which both of the others need for theirs
 *
 * They go by strips: a few queries with all keys that these see. With x the scores, p = softmax(x), q' and so on the
 * directions and g the cotangent of the result,
 *
 *   x' = scale (q' k^T + q k'^T) + mask',  p' = p (x' - <p, x'>)
 *   x_bar = p (p_bar - <p, p_bar>) with p_bar = g v^T */
#include "ops/attention.h"

#include <math.h>

typedef ad_attention_attrs attention_attrs;

enum { STRIP = 16384, MOST_ROWS = 64 };

/* Which inputs there are; 0: none. The first half stands, the second are directions. */
typedef struct layout {
    int mask, g, q_dot, mask_dot, g_dot;
} layout;

/* One strip of one matrix of the stack. A strip's arrays are [rows, seen]; those of its rows are [rows]. */
typedef struct strip {
    ad_call *call;
    const ad_kernels *kernels;
    attention_attrs attrs;
    layout in;
    ad_dtype dtype;
    int64_t number, row, rows, seen;
    ad_view q, k, v, g; /* of this strip; k and v: what is seen */
    ad_view p, spare;
} strip;

/* ---- strips ---------------------------------------------------------------------------------------------------------- */

static ad_view strip_array(const strip *s) { return ad_scratch_view(s->call, s->dtype, AD_SHAPE(s->rows, s->seen)); }

/* The rows of queries, and of keys or values, of an array that goes with them. */
static ad_view of_queries(const strip *s, const ad_view *stack) {
    ad_view m = ad_matrix_at(stack, s->number);
    return ad_matrix_block(&m, s->row, s->rows, 0, m.shape.dim[1]);
}
static ad_view of_keys(const strip *s, const ad_view *stack) {
    ad_view m = ad_matrix_at(stack, s->number);
    return ad_matrix_block(&m, 0, s->seen, 0, m.shape.dim[1]);
}
static ad_view query_input(const strip *s, int i) { return of_queries(s, s->call->in[i]); }
static ad_view key_input(const strip *s, int i) { return of_keys(s, s->call->in[i]); }
static ad_view mask_input(const strip *s, int i) {
    ad_view stretched = ad_attention_mask(s->call, s->call->in[i]), m = ad_matrix_at(&stretched, s->number);
    return ad_matrix_block(&m, s->row, s->rows, 0, s->seen);
}

/* c (+)= a b^T, a b, a^T b */
static void times_transposed(const strip *s, const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    ad_view bt = ad_swap_last(b);
    ad_multiply_matrices(s->call, a, &bt, c, add);
}
static void times(const strip *s, const ad_view *a, const ad_view *b, const ad_view *c, bool add) {
    ad_multiply_matrices(s->call, a, b, c, add);
}
static void transposed_times(const strip *s, const ad_view *a, const ad_view *b, const ad_view *c) {
    ad_view at = ad_swap_last(a);
    ad_multiply_matrices(s->call, &at, b, c, true);
}

/* sum (+)= the sums of the rows of p x, where p is not 0. */
static void add_row_sums(const strip *s, const ad_view *p, const ad_view *x, double *sum, bool add) {
    double row[MOST_ROWS];
    ad_view sums = ad_view_of(row, AD_F64, AD_SHAPE(s->rows, 1));
    s->kernels->binary(AD_BINARY_masked_mul, p, x, &s->spare);
    s->kernels->reduce(AD_REDUCTION_sum, &s->spare, NULL, 0, &sums);
    for (int64_t i = 0; i < s->rows; i++) sum[i] = add ? sum[i] + row[i] : row[i];
}

/* x = p (x - less), 0 where p is 0 */
static void centred(const strip *s, const ad_view *p, const double *less, const ad_view *x) {
    const ad_scores scores = {.dtype = s->dtype, .rows = s->rows, .columns = s->seen, .scale = 1, .x = p->data};
    s->kernels->attend_back(&scores, less, x->data, s->spare.data);
}

static void rescale(const strip *s, const ad_view *x, double factor) {
    s->kernels->rescale(x->dtype, ad_view_count(x), x->data, factor);
}

/* The probabilities. */
static void open_probabilities(const strip *s) {
    double largest[MOST_ROWS], sum[MOST_ROWS] = {0}, factor[MOST_ROWS];
    ad_scores scores = {.dtype = s->dtype,
                        .rows = s->rows,
                        .columns = s->seen,
                        .diagonal = s->row,
                        .causal = s->attrs.causal,
                        .scale = s->attrs.scale,
                        .x = s->p.data};
    if (s->in.mask) scores.mask = mask_input(s, s->in.mask);
    for (int i = 0; i < MOST_ROWS; i++) largest[i] = -INFINITY;
    times_transposed(s, &s->q, &s->k, &s->p, false);
    s->kernels->attend(&scores, largest, sum, factor);
    for (int64_t i = 0; i < s->rows; i++) factor[i] = sum[i] == 0 ? 0 : 1 / sum[i];
    s->kernels->scale_rows(s->dtype, s->rows, s->seen, factor, s->p.data);
}

/* x' of the scores, and of each row <p, x'>. */
static void move_scores(const strip *s, const ad_view *x_dot, double *mean) {
    ad_view q_dot = query_input(s, s->in.q_dot), k_dot = key_input(s, s->in.q_dot + 1);
    times_transposed(s, &q_dot, &s->k, x_dot, false);
    times_transposed(s, &s->q, &k_dot, x_dot, true);
    rescale(s, x_dot, s->attrs.scale);
    if (s->in.mask_dot) {
        ad_view mask_dot = mask_input(s, s->in.mask_dot);
        s->kernels->copy(&mask_dot, x_dot, 1, true);
    }
    add_row_sums(s, &s->p, x_dot, mean, false);
}

/* ---- the walk over strips ---------------------------------------------------------------------------------------------- */

static bool open_strip(strip *s) {
    s->q = query_input(s, 0);
    s->k = key_input(s, 1);
    s->v = key_input(s, 2);
    if (s->in.g) s->g = query_input(s, s->in.g);
    s->p = strip_array(s);
    s->spare = strip_array(s);
    if (s->p.data && s->spare.data) open_probabilities(s);
    return s->p.data && s->spare.data;
}

/* Runs `on` for each strip, whose scratch memory lasts as long. */
static ad_status each_strip(ad_call *call, layout in, bool (*on)(const strip *)) {
    const ad_shape *q = &call->in[0]->shape, *v = &call->in[2]->shape;
    const int64_t t = q->dim[q->rank - 2], all = v->dim[v->rank - 2];
    int64_t matrices = 1, most = all ? STRIP / all : MOST_ROWS;
    for (int i = 0; i < q->rank - 2; i++) matrices *= q->dim[i];
    most = most > MOST_ROWS ? MOST_ROWS : most < 8 ? 8 : most;
    strip s = {.call = call, .kernels = ad_kernels_get(), .attrs = *(const attention_attrs *)call->attrs, .in = in};
    s.dtype = call->in[0]->dtype;
    bool ok = true;
    for (s.number = 0; s.number < matrices && ok; s.number++) {
        for (s.row = 0; s.row < t && ok; s.row += most) {
            const uint64_t scratch = ad_arena_position(ad_scratch_arena(call));
            s.rows = t - s.row < most ? t - s.row : most;
            s.seen = s.attrs.causal && s.row + s.rows < all ? s.row + s.rows : all;
            ok = open_strip(&s) && on(&s);
            ad_arena_rewind(ad_scratch_arena(call), scratch);
        }
    }
    return ok ? AD_OK : AD_ERR_OOM;
}

/* ---- what the three share ---------------------------------------------------------------------------------------------- */

/* Whether each input from `from` on is of the type of that so many before it. */
static ad_status check_directions(ad_call *call, int from) {
    ad_status status = AD_OK;
    for (int i = from; i < call->inputs && !status; i++) {
        status = ad_need_same_dtype(call, 0, i);
        if (!status && !ad_shape_equal(&call->in[i]->shape, &call->in[i - from]->shape))
            status = ad_fail(call, AD_ERR_SHAPE, "a direction has another shape: %s, %s", ad_describe(call, i - from),
                             ad_describe(call, i));
    }
    return status;
}

/* Number 3 is like the result. */
static ad_status check_cotangent(ad_call *call) {
    ad_status status = ad_need_same_dtype(call, 0, 3);
    ad_shape y = call->in[0]->shape;
    if (status) return status;
    y.dim[y.rank - 1] = call->in[2]->shape.dim[y.rank - 1];
    if (ad_shape_equal(&call->in[3]->shape, &y)) return AD_OK;
    char text[AD_TYPE_TEXT];
    return ad_fail(call, AD_ERR_SHAPE, "%s, but the cotangent is of the result, %s", ad_describe(call, 3),
                   ad_type_text(call->in[0]->dtype, &y, text));
}

static void results_like_inputs(ad_call *call) {
    for (int k = 0; k < 3; k++) ad_set_out(call, k, call->in[0]->dtype, call->in[k]->shape);
}

static void clear_results(const ad_call *call) {
    for (int k = 0; k < 3; k++) ad_kernels_get()->fill(&call->out[k], 0);
}

static ad_var zeros_like(ad_var x) { return ad_broadcast_to(ad_number_like(AD_HERE, x, 0), ad_value(x).shape); }

typedef struct size {
    ad_shape q, k, v, mask;
    bool causal, masked;
} size;
static bool size_of_sample(int k, size *out) {
    const size sizes[] = {
        {AD_SHAPE(3, 2), AD_SHAPE(4, 2), AD_SHAPE(4, 3), AD_SCALAR, false, false},
        {AD_SHAPE(2, 3, 2), AD_SHAPE(2, 3, 2), AD_SHAPE(2, 3, 1), AD_SHAPE(1, 3), true, true},
        {AD_SHAPE(3, 1), AD_SHAPE(2, 1), AD_SHAPE(2, 2), AD_SHAPE(3, 2), true, true},
        {AD_SHAPE(0, 2), AD_SHAPE(3, 2), AD_SHAPE(3, 2), AD_SCALAR, false, false},
        {AD_SHAPE(2, 2), AD_SHAPE(0, 2), AD_SHAPE(0, 1), AD_SCALAR, true, false},
    };
    if (k >= (int)(sizeof sizes / sizeof *sizes)) return false;
    *out = sizes[k];
    return true;
}

/* Queries, keys and values, a cotangent if one is wanted, and the mask if there is one. */
static bool sample_inputs(ad_sample *sample, const size *s, bool g, bool masked) {
    ad_shape y = s->q;
    y.dim[y.rank - 1] = s->v.dim[y.rank - 1];
    *(attention_attrs *)(void *)sample->attrs.bytes = (attention_attrs){.scale = 0.7, .causal = s->causal};
    return ad_sample_normal(sample, s->q) && ad_sample_normal(sample, s->k) && ad_sample_normal(sample, s->v) &&
           (!g || ad_sample_normal(sample, y)) && (!masked || ad_sample_normal(sample, s->mask));
}

/* ---- attention_jvp: q, k, v, perhaps a mask, and the directions of the first of these ------------------------------------ */

static int standing(int inputs) { return (inputs + 1) / 2; }

static ad_status jvp_shape(ad_call *call) {
    if (call->inputs < 6 || call->inputs > 8)
        return ad_fail(call, AD_ERR_VALUE, "%d inputs; it takes q, k, v, perhaps a mask, and as many directions",
                       call->inputs);
    const int n = standing(call->inputs);
    ad_status status = ad_attention_check(call, n == 4 ? 3 : 0);
    if (!status) status = check_directions(call, n);
    if (!status) ad_attention_set_results(call);
    return status;
}

static bool jvp_strip(const strip *s) {
    double mean[MOST_ROWS];
    ad_view p_dot = strip_array(s), v_dot = key_input(s, s->in.q_dot + 2);
    ad_view y_dot = of_queries(s, &s->call->out[0]),
            sums = ad_insert_axis(&s->call->out[1], s->call->out[1].shape.rank);
    ad_view sums_dot = of_queries(s, &sums), means = ad_view_of(mean, AD_F64, AD_SHAPE(s->rows, 1));
    if (!p_dot.data) return false;
    move_scores(s, &p_dot, mean);
    centred(s, &s->p, mean, &p_dot);
    times(s, &p_dot, &s->v, &y_dot, false);
    times(s, &s->p, &v_dot, &y_dot, true);
    (void)!ad_view_copy(&means, &sums_dot); /* of one shape */
    return true;
}

static ad_status jvp_forward(ad_call *call) {
    const int n = standing(call->inputs);
    return each_strip(call, (layout){.mask = n == 4 ? 3 : 0, .q_dot = n, .mask_dot = call->inputs == 8 ? 7 : 0},
                      jvp_strip);
}

static void define_attention(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_var x = ad_attention_scores(in[0], in[1], n == 4 ? in[3] : AD_NONE, attrs);
    out[0] = ad_matmul(ad_softmax(x, -1), in[2]);
    out[1] = ad_logsumexp(x, AD_AXES(-1), false);
}

static void define_jvp(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_define_jvp(define_attention, standing(n), n - standing(n), in, attrs, 2, out);
}

/* <g, J t> is linear in the directions t, of which the VJP is that of attention, and by q, k and v its derivative is that of
 * the VJP along t. */
static void attention_jvp_vjp(ad_vjp *v) {
    const int inputs = ad_vjp_inputs(v), n = standing(inputs);
    if (inputs != 6 || ad_vjp_has_seed(v, 1)) {
        ad_vjp_of_definition(v, define_jvp);
        return;
    }
    ad_var g = ad_vjp_seed(v, 0), in[8], bar[3];
    for (int i = 0; i < 3; i++) in[i] = ad_vjp_input(v, i), in[i + 4] = ad_vjp_input(v, n + i);
    in[3] = g;
    in[7] = zeros_like(g);
    ad_apply_at(AD_HERE, g.tape, &ad_op_attention_back, 4, in, ad_vjp_attrs(v), bar);
    for (int i = 0; i < 3; i++)
        if (ad_vjp_wants(v, n + i)) ad_vjp_give(v, n + i, bar[i]);
    if (!ad_vjp_wants(v, 0) && !ad_vjp_wants(v, 1) && !ad_vjp_wants(v, 2)) return;
    ad_apply_at(AD_HERE, g.tape, &ad_op_attention_back_jvp, 8, in, ad_vjp_attrs(v), bar);
    for (int i = 0; i < 3; i++)
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, bar[i]);
}

static bool jvp_sample(ad_sample *sample, int k) {
    size s;
    return size_of_sample(k, &s) && sample_inputs(sample, &s, false, s.masked) &&
           sample_inputs(sample, &s, false, s.masked && k % 2);
}

const ad_op ad_op_attention_jvp = {
    .name = "attention_jvp",
    .inputs = -1,
    .results = 2,
    .attrs_size = sizeof(attention_attrs),
    .attrs = ad_attention_attr_list,
    .saves = AD_SAVES_INPUTS,
    .shape = jvp_shape,
    .forward = jvp_forward,
    .vjp = attention_jvp_vjp,
    .formula = "$y = the derivative of attention ($a) along the second half of the inputs",
    .result_formula = {"$y1 = that of the logsumexp"},
    .adjoint = {"that of the formula"},
    .convention = "a row of scores -inf: zeros",
    .show_attrs = ad_show_attention,
    .sample = jvp_sample,
};

/* ---- attention_back: q, k, v, the cotangent of the result, perhaps a mask ------------------------------------------------ */

static ad_status back_shape(ad_call *call) {
    if (call->inputs != 4 && call->inputs != 5)
        return ad_fail(call, AD_ERR_VALUE, "%d inputs; it takes q, k, v, a cotangent and perhaps a mask",
                       call->inputs);
    ad_status status = ad_attention_check(call, call->inputs == 5 ? 4 : 0);
    if (!status) status = check_cotangent(call);
    results_like_inputs(call);
    return status;
}

/* x_bar of the scores, and of each row <p, p_bar>. */
static void pull_scores(const strip *s, const ad_view *p_bar, const ad_view *x_bar, double *mean) {
    times_transposed(s, &s->g, &s->v, p_bar, false);
    add_row_sums(s, &s->p, p_bar, mean, false);
    if (x_bar != p_bar) s->kernels->copy(p_bar, x_bar, 1, false);
    centred(s, &s->p, mean, x_bar);
}

static bool back_strip(const strip *s) {
    double mean[MOST_ROWS];
    ad_view x_bar = strip_array(s), *out = s->call->out;
    ad_view q_bar = of_queries(s, &out[0]), k_bar = of_keys(s, &out[1]), v_bar = of_keys(s, &out[2]);
    if (!x_bar.data) return false;
    pull_scores(s, &x_bar, &x_bar, mean);
    rescale(s, &x_bar, s->attrs.scale);
    times(s, &x_bar, &s->k, &q_bar, false);
    transposed_times(s, &x_bar, &s->q, &k_bar);
    transposed_times(s, &s->p, &s->g, &v_bar);
    return true;
}

static ad_status back_forward(ad_call *call) {
    clear_results(call);
    return each_strip(call, (layout){.mask = call->inputs == 5 ? 4 : 0, .g = 3}, back_strip);
}

static void define_back(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_var q = in[0], k = in[1], v = in[2], g = in[3];
    ad_var p = ad_softmax(ad_attention_scores(q, k, n == 5 ? in[4] : AD_NONE, attrs), -1);
    ad_var p_bar = ad_matmul_sum(AD_VARS(g, v), AD_RIGHT_TRANSPOSED);
    ad_var slope = ad_sub(p_bar, ad_sum(ad_masked_mul(p, p_bar), AD_AXES(-1), AD_KEEPDIM));
    ad_var x_bar = ad_scale(ad_masked_mul(p, slope), ((const attention_attrs *)attrs)->scale);
    out[0] = ad_matmul(x_bar, k);
    out[1] = ad_matmul_sum(AD_VARS(x_bar, q), AD_LEFT_TRANSPOSED);
    out[2] = ad_matmul_sum(AD_VARS(p, g), AD_LEFT_TRANSPOSED);
}

/* The VJP is J^T g, so a direction t of its results pairs with it to <g, J t>: by g that is the derivative of attention
 * along t, and by q, k and v, as second derivatives are symmetric, the derivative of the VJP along t. */
static void attention_back_vjp(ad_vjp *v) {
    if (ad_vjp_inputs(v) != 4) {
        ad_vjp_of_definition(v, define_back);
        return;
    }
    ad_tape *tape = ad_vjp_tape(v);
    ad_var in[8], bar[3];
    for (int i = 0; i < 4; i++) in[i] = ad_vjp_input(v, i);
    for (int i = 0; i < 3; i++) in[4 + i] = ad_vjp_seed(v, i);
    in[7] = zeros_like(in[3]);
    if (ad_vjp_wants(v, 3)) {
        ad_var along[] = {in[0], in[1], in[2], in[4], in[5], in[6]};
        ad_vjp_give(v, 3, ad_apply_at(AD_HERE, tape, &ad_op_attention_jvp, 6, along, ad_vjp_attrs(v), NULL));
    }
    if (!ad_vjp_wants(v, 0) && !ad_vjp_wants(v, 1) && !ad_vjp_wants(v, 2)) return;
    ad_apply_at(AD_HERE, tape, &ad_op_attention_back_jvp, 8, in, ad_vjp_attrs(v), bar);
    for (int i = 0; i < 3; i++)
        if (ad_vjp_wants(v, i)) ad_vjp_give(v, i, bar[i]);
}

static void attention_back_jvp(ad_jvp *j) {
    const int n = ad_jvp_inputs(j), moving = n == 5 && ad_jvp_moves(j, 4) ? 5 : 4;
    ad_var in[10], dot[3];
    for (int i = 0; i < n; i++) in[i] = ad_jvp_input(j, i);
    for (int i = 0; i < moving; i++) in[n + i] = ad_jvp_tangent(j, i);
    ad_apply_at(AD_HERE, ad_jvp_tape(j), &ad_op_attention_back_jvp, n + moving, in, ad_jvp_attrs(j), dot);
    for (int k = 0; k < 3; k++) ad_jvp_give(j, k, dot[k]);
}

static bool back_sample(ad_sample *sample, int k) {
    size s;
    return size_of_sample(k, &s) && sample_inputs(sample, &s, true, s.masked);
}

const ad_op ad_op_attention_back = {
    .name = "attention_back",
    .inputs = -1,
    .results = 3,
    .attrs_size = sizeof(attention_attrs),
    .attrs = ad_attention_attr_list,
    .saves = AD_SAVES_INPUTS,
    .shape = back_shape,
    .forward = back_forward,
    .vjp = attention_back_vjp,
    .jvp = attention_back_jvp,
    .formula = "$y = scale s $1, where s = p * (p_bar - <p, p_bar>), p_bar = $3 $2^T, p those of attention ($a)",
    .result_formula = {"$y1 = scale s^T $0", "$y2 = p^T $3"},
    .adjoint = {"that of the formula"},
    .convention = "a row of scores -inf: zeros",
    .show_attrs = ad_show_attention,
    .sample = back_sample,
};

/* ---- attention_back_jvp: its inputs, and the directions of the first of them --------------------------------------------- */

static ad_status back_jvp_shape(ad_call *call) {
    if (call->inputs < 8 || call->inputs > 10)
        return ad_fail(call, AD_ERR_VALUE,
                       "%d inputs; it takes q, k, v, a cotangent, perhaps a mask, and as many directions",
                       call->inputs);
    const int n = standing(call->inputs);
    ad_status status = ad_attention_check(call, n == 5 ? 4 : 0);
    if (!status) status = check_cotangent(call);
    if (!status) status = check_directions(call, n);
    results_like_inputs(call);
    return status;
}

/* x_bar' = x_bar (x' - <p, x'>) + p (p_bar' - <p', p_bar> - <p, p_bar'>), and p' as above. */
static bool back_jvp_strip(const strip *s) {
    const int dot = s->in.q_dot;
    double mean[MOST_ROWS], pull[MOST_ROWS], moved[MOST_ROWS];
    ad_view p_dot = strip_array(s), p_bar = strip_array(s), x_bar = strip_array(s), turned = strip_array(s);
    ad_view x_bar_dot = strip_array(s), *out = s->call->out;
    ad_view q_dot = query_input(s, dot), k_dot = key_input(s, dot + 1), v_dot = key_input(s, dot + 2);
    ad_view g_dot = query_input(s, s->in.g_dot);
    ad_view q_out = of_queries(s, &out[0]), k_out = of_keys(s, &out[1]), v_out = of_keys(s, &out[2]);
    if (!p_dot.data || !p_bar.data || !x_bar.data || !turned.data || !x_bar_dot.data) return false;
    move_scores(s, &p_dot, mean);
    pull_scores(s, &p_bar, &x_bar, pull);
    s->kernels->copy(&p_dot, &turned, 1, false);
    centred(s, &x_bar, mean, &turned);
    centred(s, &s->p, mean, &p_dot);
    times_transposed(s, &g_dot, &s->v, &x_bar_dot, false);
    times_transposed(s, &s->g, &v_dot, &x_bar_dot, true);
    add_row_sums(s, &p_dot, &p_bar, moved, false);
    add_row_sums(s, &s->p, &x_bar_dot, moved, true);
    centred(s, &s->p, moved, &x_bar_dot);
    s->kernels->copy(&turned, &x_bar_dot, 1, true);
    rescale(s, &x_bar, s->attrs.scale);
    rescale(s, &x_bar_dot, s->attrs.scale);
    times(s, &x_bar_dot, &s->k, &q_out, false);
    times(s, &x_bar, &k_dot, &q_out, true);
    transposed_times(s, &x_bar_dot, &s->q, &k_out);
    transposed_times(s, &x_bar, &q_dot, &k_out);
    transposed_times(s, &p_dot, &s->g, &v_out);
    transposed_times(s, &s->p, &g_dot, &v_out);
    return true;
}

static ad_status back_jvp_forward(ad_call *call) {
    const int n = standing(call->inputs);
    const layout in = {
        .mask = n == 5 ? 4 : 0, .g = 3, .q_dot = n, .g_dot = n + 3, .mask_dot = call->inputs == 10 ? 9 : 0};
    clear_results(call);
    return each_strip(call, in, back_jvp_strip);
}

static void define_back_jvp(int n, const ad_var *in, const void *attrs, ad_var *out) {
    ad_define_jvp(define_back, standing(n), n - standing(n), in, attrs, 3, out);
}

static void attention_back_jvp_vjp(ad_vjp *v) { ad_vjp_of_definition(v, define_back_jvp); }

static bool back_jvp_sample(ad_sample *sample, int k) {
    size s;
    return size_of_sample(k, &s) && sample_inputs(sample, &s, true, s.masked) &&
           sample_inputs(sample, &s, true, s.masked && k % 2);
}

const ad_op ad_op_attention_back_jvp = {
    .name = "attention_back_jvp",
    .inputs = -1,
    .results = 3,
    .attrs_size = sizeof(attention_attrs),
    .attrs = ad_attention_attr_list,
    .saves = AD_SAVES_INPUTS,
    .shape = back_jvp_shape,
    .forward = back_jvp_forward,
    .vjp = attention_back_jvp_vjp,
    .formula = "$y = the derivative of attention_back ($a) along the second half of the inputs",
    .result_formula = {"$y1 = that of its second result", "$y2 = that of its third"},
    .adjoint = {"that of the formula"},
    .convention = "a row of scores -inf: zeros",
    .show_attrs = ad_show_attention,
    .sample = back_jvp_sample,
};
