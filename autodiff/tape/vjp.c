/* VJPs written in ops: run for their numbers only, or recorded as part of the tape (ad_grad), which makes gradients
 * that can be differentiated again. */
#include "autodiff/tape/batch.h"

#include <adtape/ops.h>

#include <string.h>

/* Recording: what is known of the gradient of input i. */
static uint32_t *gradient_of(const ad_vjp *vjp, int i) {
    return vjp->by_input ? &vjp->by_input[i] : ad_of_node(vjp->gradient, vjp->call->priv->inputs[i]);
}

ad_tape *ad_vjp_tape(const ad_vjp *vjp) { return vjp->tape; }
const void *ad_vjp_attrs(const ad_vjp *vjp) { return vjp->call->attrs; }
int ad_vjp_inputs(const ad_vjp *vjp) { return vjp->call->inputs; }

bool ad_vjp_wants(const ad_vjp *vjp, int i) {
    if (i < 0 || i >= vjp->call->inputs) return false;
    return vjp->adjoint ? ad_wants(vjp->adjoint, i) : *gradient_of(vjp, i) != AD_NOT_WANTED;
}

/* The batch that runs this rule for its numbers, or NULL. */
static const ad_batch *batch_of(const ad_vjp *vjp) { return vjp->adjoint ? vjp->adjoint->priv->batch : NULL; }

/* For many seeds together, values repeat along their axis. */
static ad_var as_seen(const ad_vjp *vjp, ad_var value, const ad_view *view) {
    return batch_of(vjp) ? ad_broadcast_to_at(vjp->call->priv->where, value, view->shape) : value;
}

ad_var ad_vjp_input(ad_vjp *vjp, int i) {
    if (i < 0 || i >= vjp->call->inputs || !ad_op_saves_input(vjp->call->op, i)) {
        ad_fail(vjp->call, AD_ERR_OP, "its VJP reads input %d, which .saves does not declare", i);
        return ad_var_invalid(vjp->tape);
    }
    return as_seen(vjp, ad_var_of(vjp->tape, vjp->call->priv->inputs[i]), vjp->call->in[i]);
}

ad_var ad_vjp_result(ad_vjp *vjp, int k) {
    if (k < 0 || k >= ad_op_results(vjp->call->op) || !ad_op_saves_result(vjp->call->op, k)) {
        ad_fail(vjp->call, AD_ERR_OP, "its VJP reads result %d, which .saves does not declare", k);
        return ad_var_invalid(vjp->tape);
    }
    return as_seen(vjp, ad_var_of(vjp->tape, vjp->first + (uint32_t)k), &vjp->call->out[k]);
}

ad_shape ad_vjp_input_shape(const ad_vjp *vjp, int i) {
    return i >= 0 && i < vjp->call->inputs ? vjp->call->in[i]->shape : AD_SCALAR;
}

ad_shape ad_vjp_result_shape(const ad_vjp *vjp, int k) {
    return k >= 0 && k < ad_op_results(vjp->call->op) ? vjp->call->out[k].shape : AD_SCALAR;
}

ad_dtype ad_vjp_input_dtype(const ad_vjp *vjp, int i) {
    return i >= 0 && i < vjp->call->inputs ? vjp->call->in[i]->dtype : AD_DTYPE_COUNT;
}

ad_var ad_vjp_number(ad_vjp *vjp, double value) {
    return ad_number_at(vjp->call->priv->where, vjp->tape, vjp->call->out[0].dtype, value);
}

/* A constant that holds the gradient of result k, without a copy. */
static ad_var numeric_seed(ad_vjp *vjp, int k) {
    uint32_t index = vjp->first + (uint32_t)k;
    const ad_node *result = ad_node_at(vjp->tape, index);
    const ad_cotangent *grad = ad_cotangent_at(vjp->tape, index);
    const char *where = vjp->call->priv->where;
    if (batch_of(vjp)) return ad_rows_constant(batch_of(vjp), index);
    if (result->flags & AD_NODE_INLINE)
        return ad_constant_at(where, vjp->tape, NULL, (ad_dtype)result->dtype, AD_SCALAR, &grad->value);
    return ad_constant_tensor_at(where, vjp->tape, NULL, grad->value.tensor);
}

bool ad_vjp_has_seed(const ad_vjp *vjp, int k) {
    if (k < 0 || k >= ad_op_results(vjp->call->op)) return false;
    if (vjp->by_input) return vjp->seed[k].generation != 0;
    uint32_t index = vjp->first + (uint32_t)k;
    if (batch_of(vjp)) return batch_of(vjp)->at[index].memory;
    return vjp->adjoint ? ad_has_gradient(vjp->tape, index) : *ad_of_node(vjp->gradient, index) >= AD_GRADIENT_BASE;
}

ad_var ad_vjp_seed(ad_vjp *vjp, int k) {
    ad_tape *tape = vjp->tape;
    if (k < 0 || k >= ad_op_results(vjp->call->op)) {
        ad_fail(vjp->call, AD_ERR_OP, "its VJP asks for the cotangent of result %d", k);
        return ad_var_invalid(tape);
    }
    if (vjp->seed[k].generation) return vjp->seed[k];
    if (ad_vjp_has_seed(vjp, k)) {
        vjp->seed[k] = vjp->adjoint
                           ? numeric_seed(vjp, k)
                           : ad_var_of(tape, *ad_of_node(vjp->gradient, vjp->first + (uint32_t)k) - AD_GRADIENT_BASE);
    } else {
        const ad_view *out = &vjp->call->out[k];
        vjp->seed[k] = ad_tape_filled(tape, vjp->call->priv->where, &ad_leaf_constant, out->dtype, &out->shape, 0.0);
    }
    return vjp->seed[k];
}

static void give_number(ad_vjp *vjp, int i, ad_var contribution) {
    const ad_node *node = ad_node_at(vjp->tape, contribution.index);
    ad_view scratch;
    /* Values that were there before must not become a gradient by reference: a parameter may be changed later. */
    bool own = contribution.index >= vjp->own && !(node->flags & AD_NODE_INLINE);
    ad_contribute(vjp->adjoint, i, ad_node_view(node, &scratch), own ? node->value.tensor : NULL);
}

void ad_gradient_add(ad_tape *tape, const char *where, uint32_t *gradient, ad_var contribution) {
    if (*gradient >= AD_GRADIENT_BASE) {
        ad_var both[] = {ad_var_of(tape, *gradient - AD_GRADIENT_BASE), contribution};
        contribution = ad_apply_at(where, tape, &ad_op_add, 2, both, NULL, NULL);
        if (tape->error.status) return;
    }
    *gradient = AD_GRADIENT_BASE + contribution.index;
}

static void give_variable(ad_vjp *vjp, int i, ad_var contribution) {
    const char *where = vjp->call->priv->where;
    ad_shape expected = vjp->call->in[i]->shape;
    const ad_node *node = ad_node_at(vjp->tape, contribution.index);
    ad_shape given = ad_node_shape(node);
    if (!ad_shape_equal(&given, &expected) && vjp->call->op->broadcasts) {
        contribution = ad_apply_at(where, vjp->tape, &ad_op_sum_to, 1, &contribution, &expected, NULL);
        if (vjp->tape->error.status) return;
        given = expected;
    }
    char text[AD_TYPE_TEXT], wanted[AD_TYPE_TEXT];
    if (!ad_shape_equal(&given, &expected) || (ad_dtype)node->dtype != vjp->call->in[i]->dtype) {
        ad_fail(vjp->call, AD_ERR_OP, "its VJP gave input %d a contribution %s, but that input is %s", i,
                ad_type_text((ad_dtype)node->dtype, &given, text),
                ad_type_text(vjp->call->in[i]->dtype, &expected, wanted));
        return;
    }
    ad_gradient_add(vjp->tape, where, gradient_of(vjp, i), contribution);
}

void ad_vjp_give(ad_vjp *vjp, int i, ad_var contribution) {
    if (vjp->tape->error.status || !ad_vjp_wants(vjp, i)) return;
    if (!ad_tape_check_var(vjp->tape, contribution, vjp->call->op->name, vjp->call->priv->where,
                           "a contribution of its VJP"))
        return;
    if (vjp->adjoint) {
        give_number(vjp, i, contribution);
    } else {
        give_variable(vjp, i, contribution);
    }
}

void ad_vjp_numeric(ad_adjoint *adjoint) {
    ad_tape *tape = adjoint->priv->tape;
    ad_call *call = adjoint->priv->call;
    ad_mark mark = ad_tape_mark(tape);
    ad_vjp vjp = {.tape = tape, .call = call, .first = adjoint->priv->first, .own = tape->count, .adjoint = adjoint};
    const char *outer = tape->where;
    uint8_t numbers = tape->numbers;
    tape->where = call->priv->where;
    tape->numbers = AD_NUMBERS_ANY;
    tape->no_grad++;
    call->op->vjp(&vjp);
    tape->no_grad--;
    tape->numbers = numbers;
    tape->where = outer;
    ad_tape_rewind_to(tape, &mark);
}

/* ---- ad_grad ------------------------------------------------------------------------------------------------------- */

static bool check_targets(ad_tape *tape, int n, const ad_var *x, const char *where) {
    for (int i = 0; i < n; i++) {
        if (!ad_tape_check_var(tape, x[i], "ad_grad", where, "one of x")) return false;
        if (ad_node_at(tape, x[i].index)->flags & AD_NODE_GRAD) continue;
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(tape, x[i].index, true, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_NOGRAD, "ad_grad", where,
                     "%s, one of x, has no gradient: it does not depend on a leaf that gets one", text);
        return false;
    }
    return true;
}

const uint32_t ad_zero_of_nodes = 0;

uint32_t ad_first_of(int n, const ad_var *x, uint32_t end) {
    uint32_t first = end;
    for (int i = 0; i < n; i++) first = x[i].index < first ? x[i].index : first;
    return first;
}

bool ad_by_node_open(ad_tape *tape, ad_by_node *by_node, uint32_t first, uint32_t end, const ad_by_node *outer) {
    size_t size = (size_t)(end - first) * sizeof *by_node->at;
    *by_node = (ad_by_node){.at = ad_arena_take(&tape->scratch, size), .first = first, .outer = outer};
    if (by_node->at) memset(by_node->at, 0, size);
    return by_node->at;
}

void ad_gradient_mark_way(const ad_tape *tape, const ad_by_node *gradient, uint32_t end) {
    for (uint32_t index = gradient->first; index < end; index++) {
        const ad_node *node = ad_node_at(tape, index);
        if (!(node->flags & AD_NODE_GRAD)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (*ad_of_node(gradient, in[i])) *ad_of_node(gradient, index) = AD_WANTED;
    }
}

static void record_vjp(ad_tape *tape, uint32_t first, const ad_by_node *gradient) {
    struct ad_call_private priv;
    ad_call call;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (ad_call_of_node(tape, first, &call, &priv)) {
        ad_vjp vjp = {.tape = tape, .call = &call, .first = first, .own = tape->count, .gradient = gradient};
        uint32_t outer = tape->deriving;
        tape->deriving = first + 1;
        call.op->vjp(&vjp);
        tape->deriving = outer;
    }
    ad_arena_rewind(&tape->scratch, scratch);
}

/* Of each node that uses wait for, 1 + the first of them; of each that waits, 1 + the next one: as a node is walked past
 * before it can wait, both fit into one array. */
static uint32_t *waiting_at(const ad_by_node *waiting, uint32_t index) {
    return &waiting->at[index - waiting->first];
}

/* Whether the VJP of the operation at `index` is left until its input has its turn, together with those of other uses. */
static bool waits(const ad_tape *tape, const ad_by_node *waiting, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    if (!node->op->vjp_of_uses || node->in[0] < waiting->first) return false;
    uint32_t *others = waiting_at(waiting, node->in[0]);
    if (*others && ad_node_at(tape, *others - 1)->op != node->op) return false;
    *waiting_at(waiting, index) = *others;
    *others = index + 1;
    return true;
}

/* The VJPs of the uses that wait for `index`. */
static void record_uses(ad_tape *tape, uint32_t index, const ad_by_node *gradient, const ad_by_node *waiting) {
    uint32_t first = *waiting_at(waiting, index) - 1;
    int n = 0;
    for (uint32_t next = first + 1; next; next = *waiting_at(waiting, next - 1)) n++;
    if (n == 1) {
        record_vjp(tape, first, gradient);
        return;
    }
    struct ad_call_private priv;
    ad_call call;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_use *use = ad_call_of_node(tape, first, &call, &priv) ? ad_scratch(&call, (size_t)n * sizeof *use) : NULL;
    if (use) {
        n = 0;
        for (uint32_t next = first + 1; next; next = *waiting_at(waiting, next - 1)) {
            const ad_node *node = ad_node_at(tape, next - 1);
            use[n++] = (ad_use){.attrs = node->extra ? node->extra->attrs : NULL,
                                .seed = ad_var_of(tape, *ad_of_node(gradient, next - 1) - AD_GRADIENT_BASE)};
        }
        ad_vjp vjp = {.tape = tape, .call = &call, .first = first, .own = tape->count, .gradient = gradient};
        uint32_t outer = tape->deriving;
        tape->deriving = first + 1;
        call.op->vjp_of_uses(&vjp, n, use);
        tape->deriving = outer;
    }
    ad_arena_rewind(&tape->scratch, scratch);
}

/* Whether a result of the operation at `index` has a gradient, and an input wants one. */
static bool has_work(const ad_tape *tape, const ad_by_node *gradient, uint32_t end, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    if (ad_node_is_leaf(node) || node->op == &ad_result_of) return false;
    bool reached = false, wanted = false;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op) && index + k < end; k++)
        reached |= *ad_of_node(gradient, index + k) >= AD_GRADIENT_BASE;
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; reached && i < ad_node_input_count(node) && !wanted; i++)
        wanted = *ad_of_node(gradient, in[i]) != AD_NOT_WANTED;
    return wanted;
}

void ad_gradient_walk(ad_tape *tape, const char *where, const ad_by_node *gradient, uint32_t start, uint32_t end) {
    ad_by_node waiting;
    if (!ad_by_node_open(tape, &waiting, gradient->first, start, NULL)) {
        ad_tape_out_of_memory(tape, "ad_grad", where);
        return;
    }
    for (uint32_t index = start; index-- > gradient->first && !tape->error.status;) {
        if (*waiting_at(&waiting, index)) record_uses(tape, index, gradient, &waiting);
        if (has_work(tape, gradient, end, index) &&
            ad_check_unchanged(tape, index, ad_node_at(tape, index)->op->saves, "ad_grad", where) &&
            !waits(tape, &waiting, index))
            record_vjp(tape, index, gradient);
    }
}

ad_status ad_grad_at(const char *where, ad_var y, ad_var seed, int n, const ad_var *x, ad_var *result) {
    for (int i = 0; result && i < n; i++) result[i] = ad_var_invalid(y.tape);
    if (!ad_check_start(y, seed, "ad_grad", where)) return y.tape ? y.tape->error.status : AD_ERR_HANDLE;
    ad_tape *tape = y.tape;
    if (n < 1 || !x || !result)
        return ad_tape_fail(tape, n < 1 ? AD_ERR_VALUE : AD_ERR_NULL, "ad_grad", where,
                            "n is %d, x is %s, the result is %s", n, x ? "set" : "NULL", result ? "set" : "NULL");
    if (!check_targets(tape, n, x, where)) return tape->error.status;

    /* Results after y of the same operation are read too. */
    uint32_t last = y.index + 1, end = tape->count;
    while (last < end && ad_node_at(tape, last)->op == &ad_result_of) last++;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_by_node gradient;
    if (!ad_by_node_open(tape, &gradient, ad_first_of(n, x, last), last, NULL))
        return ad_tape_out_of_memory(tape, "ad_grad", where);
    for (int i = 0; i < n; i++)
        if (x[i].index < last) *ad_of_node(&gradient, x[i].index) = AD_WANTED;
    ad_gradient_mark_way(tape, &gradient, last);

    const char *outer = tape->where;
    tape->where = where;
    ad_shape y_shape = ad_node_shape(ad_node_at(tape, y.index));
    if (!seed.tape)
        seed = ad_tape_filled(tape, where, &ad_leaf_constant, (ad_dtype)ad_node_at(tape, y.index)->dtype, &y_shape,
                              1.0);
    /* A y that does not depend on x, or stops the gradient, stays unwanted: nothing is walked. */
    if (!tape->error.status && *ad_of_node(&gradient, y.index) != AD_NOT_WANTED)
        *ad_of_node(&gradient, y.index) = AD_GRADIENT_BASE + seed.index;
    ad_gradient_walk(tape, where, &gradient, y.index + 1, last);
    for (int i = 0; i < n && !tape->error.status; i++) {
        const ad_node *node = ad_node_at(tape, x[i].index);
        ad_shape shape = ad_node_shape(node);
        uint32_t known = x[i].index < last ? *ad_of_node(&gradient, x[i].index) : AD_NOT_WANTED;
        result[i] = known >= AD_GRADIENT_BASE
                        ? ad_var_of(tape, known - AD_GRADIENT_BASE)
                        : ad_tape_filled(tape, where, &ad_leaf_constant, (ad_dtype)node->dtype, &shape, 0.0);
    }
    tape->where = outer;
    ad_tape_place(tape, end, where);
    ad_arena_rewind(&tape->scratch, scratch);
    for (int i = 0; i < n && tape->error.status; i++) result[i] = ad_var_invalid(tape);
    return tape->error.status;
}
