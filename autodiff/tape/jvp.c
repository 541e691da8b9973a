/* Forward mode: tangents pushed along the tape, each operation by its JVP, written in ops and recorded. */
#include "autodiff/tape/tape.h"

#include <adtape/ops.h>

#include <string.h>

/* ---- what a JVP may call ---------------------------------------------------------------------------------------- */

static const uint32_t *tangent_of(const ad_jvp *jvp, int i) {
    return ad_of_node(jvp->tangent, jvp->call->priv->inputs[i]);
}

ad_tape *ad_jvp_tape(const ad_jvp *jvp) { return jvp->tape; }
const void *ad_jvp_attrs(const ad_jvp *jvp) { return jvp->call->attrs; }
int ad_jvp_inputs(const ad_jvp *jvp) { return jvp->call->inputs; }

bool ad_jvp_moves(const ad_jvp *jvp, int i) {
    return i >= 0 && i < jvp->call->inputs && *tangent_of(jvp, i) != AD_STANDS_STILL;
}

bool ad_jvp_wants(const ad_jvp *jvp, int k) {
    return k >= 0 && k < ad_op_results(jvp->call->op) &&
           *ad_of_node(jvp->tangent, jvp->first + (uint32_t)k) != AD_NOT_ASKED;
}

static ad_var as_seen(const ad_jvp *jvp, uint32_t index, const ad_view *view) {
    const ad_var value = ad_var_of(jvp->tape, index);
    return jvp->has_seeds ? ad_broadcast_to_at(jvp->call->priv->where, value, view->shape) : value;
}

ad_var ad_jvp_input(ad_jvp *jvp, int i) {
    if (i >= 0 && i < jvp->call->inputs) return as_seen(jvp, jvp->call->priv->inputs[i], jvp->call->in[i]);
    ad_fail(jvp->call, AD_ERR_OP, "its JVP reads input %d, which it does not have", i);
    return ad_var_invalid(jvp->tape);
}

ad_var ad_jvp_result(ad_jvp *jvp, int k) {
    if (k >= 0 && k < ad_op_results(jvp->call->op)) return as_seen(jvp, jvp->first + (uint32_t)k, &jvp->call->out[k]);
    ad_fail(jvp->call, AD_ERR_OP, "its JVP reads result %d, which it does not have", k);
    return ad_var_invalid(jvp->tape);
}

ad_var ad_jvp_tangent(ad_jvp *jvp, int i) {
    if (ad_jvp_moves(jvp, i)) return ad_var_of(jvp->tape, *tangent_of(jvp, i) - AD_TANGENT_BASE);
    ad_var x = ad_jvp_input(jvp, i);
    if (!x.generation) return x;
    const ad_view *view = jvp->call->in[i];
    return ad_tape_filled(jvp->tape, jvp->call->priv->where, &ad_leaf_constant, view->dtype, &view->shape, 0.0);
}

ad_var ad_jvp_number(ad_jvp *jvp, double value) {
    return ad_number_at(jvp->call->priv->where, jvp->tape, jvp->call->out[0].dtype, value);
}

void ad_jvp_give(ad_jvp *jvp, int k, ad_var tangent) {
    ad_tape *tape = jvp->tape;
    const char *where = jvp->call->priv->where;
    if (tape->error.status ||
        !ad_tape_check_var(tape, tangent, jvp->call->op->name, where, "a tangent given by its JVP"))
        return;
    if (k < 0 || k >= ad_op_results(jvp->call->op)) {
        ad_fail(jvp->call, AD_ERR_OP, "its JVP gives result %d, which it does not have", k);
        return;
    }
    const ad_view *out = &jvp->call->out[k];
    /* A sum that drops axes has fewer, with seeds; those of the result were made as many as all have. */
    if (jvp->has_seeds) tangent = ad_reshape_at(where, tangent, out->shape);
    if (tape->error.status) return;
    const ad_node *node = ad_node_at(tape, tangent.index);
    ad_shape given = ad_node_shape(node);
    if ((ad_dtype)node->dtype != out->dtype || !ad_shape_equal(&given, &out->shape)) {
        char text[AD_TYPE_TEXT], wanted[AD_TYPE_TEXT];
        ad_fail(jvp->call, AD_ERR_OP, "its JVP gave result %d a tangent %s, but that result is %s", k,
                ad_type_text((ad_dtype)node->dtype, &given, text), ad_type_text(out->dtype, &out->shape, wanted));
        return;
    }
    if (jvp->result[k] != AD_STANDS_STILL) {
        ad_var both[] = {ad_var_of(tape, jvp->result[k] - AD_TANGENT_BASE), tangent};
        tangent = ad_apply_at(where, tape, &ad_op_add, 2, both, NULL, NULL);
        if (tape->error.status) return;
    }
    jvp->result[k] = AD_TANGENT_BASE + tangent.index;
}

void ad_jvp_linear(ad_jvp *jvp) {
    ad_var few[AD_FEW_INPUTS], *in = few, results[AD_MAX_RESULTS];
    int n = jvp->call->inputs;
    if (n > AD_FEW_INPUTS) in = ad_scratch(jvp->call, (size_t)n * sizeof *in);
    if (!in) return;
    for (int i = 0; i < n; i++)
        in[i] = ad_dtype_is_float(jvp->call->in[i]->dtype) ? ad_jvp_tangent(jvp, i) : ad_jvp_input(jvp, i);
    ad_apply_at(jvp->call->priv->where, jvp->tape, jvp->call->op, n, in, jvp->call->attrs, results);
    for (int k = 0; k < ad_op_results(jvp->call->op); k++)
        if (ad_dtype_is_float(jvp->call->out[k].dtype)) ad_jvp_give(jvp, k, results[k]);
}

/* ---- a JVP from the VJP ------------------------------------------------------------------------------------------ */

/* The VJP of cotangents u is J^T u, linear in u, so its own VJP with the tangents t as the seed is J t. It is recorded
 * for leaves u of zeros: only its derivative is read. */
static void transpose_twice(ad_jvp *jvp) {
    ad_tape *tape = jvp->tape;
    ad_call *call = jvp->call;
    const char *where = call->priv->where;
    int results = ad_op_results(call->op), floats = 0, which[AD_MAX_RESULTS];
    ad_var u[AD_MAX_RESULTS], moved[AD_MAX_RESULTS];
    uint32_t *by_input = ad_scratch(call, (size_t)call->inputs * sizeof *by_input);
    if (!by_input) return;
    for (int i = 0; i < call->inputs; i++) by_input[i] = ad_jvp_moves(jvp, i) ? AD_WANTED : AD_NOT_WANTED;

    uint8_t no_grad = tape->no_grad;
    tape->no_grad = 0;
    ad_vjp vjp = {.tape = tape, .call = call, .first = jvp->first, .own = tape->count, .by_input = by_input};
    for (int k = 0; k < results; k++) {
        if (!ad_dtype_is_float(call->out[k].dtype)) continue;
        which[floats] = k;
        u[floats] = ad_tape_filled(tape, where, &ad_leaf_input, call->out[k].dtype, &call->out[k].shape, 0.0);
        vjp.seed[k] = u[floats++];
    }
    if (!tape->error.status) call->op->vjp(&vjp);
    for (int i = 0; i < call->inputs && !tape->error.status; i++) {
        if (by_input[i] < AD_GRADIENT_BASE) continue;
        ad_var contribution = ad_var_of(tape, by_input[i] - AD_GRADIENT_BASE);
        if (ad_grad_at(where, contribution, ad_jvp_tangent(jvp, i), floats, u, moved)) break;
        for (int k = 0; k < floats; k++) ad_jvp_give(jvp, which[k], moved[k]);
    }
    tape->no_grad = no_grad;
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

static bool check_pairs(ad_tape *tape, int n, const ad_var *x, const ad_var *x_dot, const char *where) {
    for (int i = 0; i < n; i++) {
        if (!ad_tape_check_var(tape, x[i], "ad_pushforward", where, "one of x") ||
            !ad_tape_check_var(tape, x_dot[i], "ad_pushforward", where, "one of x_dot"))
            return false;
        const ad_node *node = ad_node_at(tape, x[i].index), *dot = ad_node_at(tape, x_dot[i].index);
        ad_shape shape = ad_node_shape(node), dot_shape = ad_node_shape(dot);
        char text[AD_TYPE_TEXT + 128], type[AD_TYPE_TEXT];
        ad_node_text(tape, x[i].index, true, text, sizeof text);
        if (!ad_dtype_is_float((ad_dtype)node->dtype)) {
            ad_tape_fail(tape, AD_ERR_NOGRAD, "ad_pushforward", where, "%s: integers do not move", text);
            return false;
        }
        if (node->dtype == dot->dtype && ad_shape_equal(&shape, &dot_shape)) continue;
        ad_tape_fail(tape, AD_ERR_SHAPE, "ad_pushforward", where,
                     "%s, but its tangent is %s: they must be of one type", text,
                     ad_type_text((ad_dtype)dot->dtype, &dot_shape, type));
        return false;
    }
    return true;
}

static bool is_given(const ad_by_node *tangent, uint32_t index) {
    const uint32_t known = *ad_of_node(tangent, index);
    return known != AD_STANDS_STILL && known != AD_NOT_ASKED;
}

/* Whether anybody asks for the tangent of a result of the operation at `index`. */
static bool is_asked(const ad_tape *tape, const ad_by_node *tangent, uint32_t index) {
    bool asked = false;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(ad_node_at(tape, index)->op) && !asked; k++)
        asked = *ad_of_node(tangent, index + k) != AD_NOT_ASKED;
    return asked;
}

/* What leads to no y needs no tangent: of the nodes up to `end`. */
static void ask(const ad_tape *tape, const ad_by_node *tangent, uint32_t end, int m, const ad_var *y) {
    memset(tangent->at, 0xFF, (size_t)(end - tangent->first) * sizeof *tangent->at);
    for (int j = 0; j < m; j++)
        if (y[j].index >= tangent->first) *ad_of_node(tangent, y[j].index) = AD_STANDS_STILL;
    for (uint32_t index = end; index-- > tangent->first;) {
        const ad_node *node = ad_node_at(tape, index);
        if (node->op == &ad_result_of || !is_asked(tape, tangent, index)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (in[i] >= tangent->first) *ad_of_node(tangent, in[i]) = AD_STANDS_STILL;
    }
}

bool ad_push_can(ad_tape *tape, uint32_t index, const char *where) {
    const ad_node *node = ad_node_at(tape, index);
    bool is_float = false;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op); k++)
        is_float |= ad_dtype_is_float((ad_dtype)ad_node_at(tape, index + k)->dtype);
    if (!is_float || node->op->derivative == AD_STOPS_GRADIENT) return false;
    if (node->op->derivative == AD_DIFFERENTIABLE) return true;
    ad_tape_fail(tape, AD_ERR_NOGRAD, node->op->name, node->where ? node->where : where,
                 "it has no derivative, but an input of it moves; put ad_detach around that");
    return false;
}

/* Whether the operation at `index` moves; sets the tape's error if it does and has no derivative. */
static bool moves(ad_tape *tape, const ad_by_node *tangent, uint32_t index, const char *where) {
    const ad_node *node = ad_node_at(tape, index);
    if (ad_node_is_leaf(node) || node->op == &ad_result_of || !is_asked(tape, tangent, index)) return false;
    const uint32_t *in = ad_node_inputs(node);
    bool any = false;
    for (int i = 0; i < ad_node_input_count(node) && !any; i++) any = *ad_of_node(tangent, in[i]) != AD_STANDS_STILL;
    return any && ad_push_can(tape, index, where);
}

void ad_push_operation(ad_tape *tape, ad_call *call, uint32_t index, const ad_by_node *tangent, bool has_seeds) {
    ad_jvp jvp = {.tape = tape, .call = call, .first = index, .tangent = tangent, .has_seeds = has_seeds};
    if (call->op->jvp) {
        call->op->jvp(&jvp);
    } else {
        transpose_twice(&jvp);
    }
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(call->op); k++) {
        uint32_t *of = ad_of_node(tangent, index + k);
        if (*of == AD_STANDS_STILL) *of = jvp.result[k];
    }
}

static void push(ad_tape *tape, uint32_t index, const ad_by_node *tangent) {
    struct ad_call_private priv;
    ad_call call;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (ad_call_of_node(tape, index, &call, &priv)) ad_push_operation(tape, &call, index, tangent, false);
    ad_arena_rewind(&tape->scratch, scratch);
}

void ad_tangent_walk(ad_tape *tape, const char *where, const ad_by_node *tangent, uint32_t end) {
    for (uint32_t index = tangent->first; index < end && !tape->error.status; index++)
        if (!is_given(tangent, index) && moves(tape, tangent, index, where) &&
            ad_check_unchanged(tape, index, UINT32_MAX, "ad_pushforward", where))
            push(tape, index, tangent);
}

ad_status ad_pushforward_at(const char *where, int n, const ad_var *x, const ad_var *x_dot, int m, const ad_var *y,
                            ad_var *y_dot) {
    ad_tape *tape = n > 0 && x ? x[0].tape : NULL;
    for (int j = 0; y_dot && j < m; j++) y_dot[j] = ad_var_invalid(tape);
    if (!tape) return AD_ERR_HANDLE;
    if (tape->error.status) return tape->error.status;
    if (!x_dot || m < 1 || !y || !y_dot)
        return ad_tape_fail(tape, AD_ERR_NULL, "ad_pushforward", where, "m is %d, x_dot is %s, y is %s, y_dot is %s",
                            m, x_dot ? "set" : "NULL", y ? "set" : "NULL", y_dot ? "set" : "NULL");
    if (!check_pairs(tape, n, x, x_dot, where)) return tape->error.status;
    uint32_t last = 0, end = tape->count;
    for (int j = 0; j < m; j++) {
        if (!ad_tape_check_var(tape, y[j], "ad_pushforward", where, "one of y")) return tape->error.status;
        if (y[j].index >= last) last = y[j].index + 1;
    }
    /* An operation's results are pushed together, x may come after every y. */
    while (last < end && ad_node_at(tape, last)->op == &ad_result_of) last++;
    for (int i = 0; i < n; i++)
        if (x[i].index >= last) last = x[i].index + 1;

    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_by_node tangent;
    if (!ad_by_node_open(tape, &tangent, ad_first_of(n, x, last), last, NULL))
        return ad_tape_out_of_memory(tape, "ad_pushforward", where);
    ask(tape, &tangent, last, m, y);
    for (int i = 0; i < n; i++) *ad_of_node(&tangent, x[i].index) = AD_TANGENT_BASE + x_dot[i].index;

    const char *outer = tape->where;
    tape->where = where;
    ad_tangent_walk(tape, where, &tangent, last);
    for (int j = 0; j < m && !tape->error.status; j++) {
        const ad_node *node = ad_node_at(tape, y[j].index);
        ad_shape shape = ad_node_shape(node);
        uint32_t known = *ad_of_node(&tangent, y[j].index);
        y_dot[j] = known != AD_STANDS_STILL
                       ? ad_var_of(tape, known - AD_TANGENT_BASE)
                       : ad_tape_filled(tape, where, &ad_leaf_constant, (ad_dtype)node->dtype, &shape, 0.0);
    }
    tape->where = outer;
    ad_tape_place(tape, end, where);
    ad_arena_rewind(&tape->scratch, scratch);
    for (int j = 0; j < m && tape->error.status; j++) y_dot[j] = ad_var_invalid(tape);
    return tape->error.status;
}
