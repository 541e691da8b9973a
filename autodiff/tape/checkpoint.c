/* Checkpoints: an operation that stands for a function of the user's, whose nodes are forgotten once they have run and
 * recorded again past the end of the tape when a derivative comes by.
 *
 * Replayed nodes read the very nodes that they read at first, so the walk goes on through them as through any others and
 * adds to the same gradients in the same order: hence results that are bitwise those without a checkpoint. */
#include "autodiff/tape/checkpoint.h"
#include "ops/kernels/kernels.h"

#include <stdio.h>
#include <string.h>

/* ---- the first run ----------------------------------------------------------------------------------------------- */

ad_first_run ad_first_run_begin(ad_tape *tape, const char *subject, const char *where) {
    return (ad_first_run){.subject = subject,
                          .where = where,
                          .drawn = tape->drawn.count,
                          .used = tape->used.count,
                          .captured = tape->captured.count};
}

void ad_first_run_end(ad_tape *tape, const ad_first_run *run) {
    /* After a reset the lists are shorter already. */
    bool keeps = tape->frame && !tape->frame->log && !tape->error.status;
    if (!keeps && tape->drawn.count > run->drawn) tape->drawn.count = run->drawn;
    if (!keeps && tape->used.count > run->used) tape->used.count = run->used;
    if (tape->captured.count > run->captured) tape->captured.count = run->captured;
    for (int k = 0; k < AD_MAX_RESULTS; k++) ad_kept_drop(&tape->kept[k]);
}

static void mark_listed(const ad_tape *tape, const ad_first_run *run, bool is_listed) {
    for (size_t i = run->captured; i < tape->captured.count; i++) {
        ad_node *node = ad_node_at(tape, tape->captured.item[i]);
        node->flags = (uint16_t)(is_listed ? node->flags | AD_NODE_LISTED : node->flags & ~AD_NODE_LISTED);
    }
}

/* Appends a node that is not marked, and marks it. */
static bool list(ad_tape *tape, const ad_first_run *run, uint32_t index) {
    ad_node *node = ad_node_at(tape, index);
    if (node->flags & AD_NODE_LISTED) return true;
    if (!ad_list_reserve(&tape->captured, tape->allocator, 1)) {
        ad_tape_out_of_memory(tape, run->subject, run->where);
        return false;
    }
    ad_list_push(&tape->captured, index);
    node->flags |= AD_NODE_LISTED;
    return true;
}

bool ad_first_run_input(ad_tape *tape, const ad_first_run *run, uint32_t index) {
    mark_listed(tape, run, true);
    bool ok = list(tape, run, index);
    mark_listed(tape, run, false);
    return ok;
}

/* What the nodes from `first` on read from before. */
static bool list_captured(ad_tape *tape, const ad_first_run *run, uint32_t first) {
    bool ok = true;
    mark_listed(tape, run, true);
    for (uint32_t index = first; index < tape->count && ok; index++) {
        const ad_node *node = ad_node_at(tape, index);
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node) && ok; i++)
            if (in[i] < first) ok = list(tape, run, in[i]);
    }
    mark_listed(tape, run, false);
    return ok;
}

/* A view of other memory that holds the same as a view of a parameter's. It lies there in the same way: kernels may sum
 * in another order where it lies in another. NULL: no memory. */
static ad_tensor *copy_of_view(ad_tape *tape, const ad_tensor *of, const ad_tensor *param) {
    ad_tensor *all = ad_pool_tensor(tape->pool, param->view.dtype, &param->view.shape);
    if (!all) return NULL;
    ad_kernels_get()->copy(&param->view, &all->view, 1.0, false);
    ad_view view = of->view;
    view.data = (char *)all->view.data + ((const char *)of->view.data - (const char *)param->view.data);
    ad_tensor *copy = ad_pool_alias(tape->pool, all, &view);
    ad_tensor_unref(all);
    return copy;
}

bool ad_value_keep(ad_tape *tape, uint32_t index, ad_kept *kept) {
    const ad_node *node = ad_node_at(tape, index), *memory = ad_memory_of(tape, index);
    *kept = (ad_kept){.value = node->value,
                      .dtype = node->dtype,
                      .is_kept = true,
                      .is_inline = node->flags & AD_NODE_INLINE,
                      .needs_gradient = node->flags & AD_NODE_GRAD};
    if (kept->is_inline) return true;
    /* The memory of a parameter may change; a value must not. */
    kept->value.tensor = memory->op == &ad_leaf_parameter
                             ? copy_of_view(tape, node->value.tensor, memory->value.tensor)
                             : ad_tensor_ref(node->value.tensor);
    kept->is_kept = kept->value.tensor;
    return kept->is_kept;
}

/* The place among run's uses of the parameter leaf at `index`, from `from` on; or the end of the list. */
static size_t find_use(const ad_tape *tape, size_t from, size_t end, const ad_param *param) {
    while (from < end && ad_node_at(tape, tape->used.item[from])->extra->param != param) from++;
    return from;
}

/* Puts the parameters that the run used, which are listed from `from` on, on the tape for good: once for each use or,
 * with `once`, once in the whole run. leaf[i] becomes the node of param[i]. */
static bool put_params(ad_tape *tape, const ad_first_run *run, size_t from, size_t count, ad_param *const *param,
                       const bool *needs_gradient, bool once, uint32_t *leaf) {
    tape->used.count = from;
    uint8_t no_grad = tape->no_grad;
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        size_t known = once ? find_use(tape, run->used, tape->used.count, param[i]) : tape->used.count;
        if (known < tape->used.count) {
            leaf[i] = tape->used.item[known];
            continue;
        }
        tape->no_grad = !needs_gradient[i];
        ad_var put = ad_param_put(run->where, tape, param[i]);
        ok = ad_var_is_valid(put) && ad_first_run_input(tape, run, put.index);
        if (ok) ad_list_push(&tape->used, leaf[i] = put.index);
    }
    tape->no_grad = no_grad;
    return ok;
}

/* Keeps the values of y[0..m) that lie past `first`, each node once: y[k] that are one variable share the first one's. */
static bool keep_values(ad_tape *tape, const ad_first_run *run, uint32_t first, int m, const ad_var *y,
                        ad_kept *kept) {
    for (int k = 0; k < m; k++) {
        if (y[k].index < first) continue;
        if (ad_value_keep(tape, y[k].index, &kept[k])) continue;
        ad_tape_out_of_memory(tape, run->subject, run->where);
        return false;
    }
    return true;
}

static bool check_results(ad_tape *tape, const ad_first_run *run, int m, const ad_var *y) {
    for (int k = 0; k < m; k++) {
        char role[48];
        snprintf(role, sizeof role, "result %d of the function", k);
        if (!ad_tape_check_var(tape, y[k], run->subject, run->where, role)) return false;
    }
    return true;
}

bool ad_first_run_collect(ad_tape *tape, const ad_first_run *run, const ad_run_frame *frame, int m, ad_var *y,
                          ad_kept *kept, bool once) {
    uint32_t first = frame->mark.count;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    size_t count = tape->used.count - frame->used;
    ad_param **param = ad_arena_take(&tape->scratch, count * sizeof *param);
    bool *needs_gradient = ad_arena_take(&tape->scratch, count * sizeof *needs_gradient);
    uint32_t *leaf = ad_arena_take(&tape->scratch, count * sizeof *leaf);
    bool ok = param && needs_gradient && leaf && ad_list_reserve(&tape->captured, tape->allocator, count);
    if (!ok) ad_tape_out_of_memory(tape, run->subject, run->where);
    ok = ok && check_results(tape, run, m, y) && list_captured(tape, run, first) &&
         keep_values(tape, run, first, m, y, kept);
    int use_of[AD_MAX_RESULTS]; /* the parameter that the function gave back as it is */
    for (int k = 0; k < m; k++) use_of[k] = -1;
    for (size_t i = 0; i < count && ok; i++) {
        uint32_t index = tape->used.item[frame->used + i];
        param[i] = ad_param_ref(ad_node_at(tape, index)->extra->param);
        needs_gradient[i] = ad_node_at(tape, index)->flags & AD_NODE_GRAD;
        for (int k = 0; k < m; k++)
            if (y[k].index == index) use_of[k] = (int)i;
    }
    ad_tape_rewind_to(tape, &frame->mark);
    if (ok) {
        ok = put_params(tape, run, frame->used, count, param, needs_gradient, once, leaf);
        for (int k = 0; k < m && ok; k++) {
            if (use_of[k] < 0) continue;
            y[k] = ad_var_of(tape, leaf[use_of[k]]);
            ad_kept_drop(&kept[k]);
        }
        for (size_t i = 0; i < count; i++) ad_param_unref(param[i]);
    }
    ad_arena_rewind(&tape->scratch, scratch);
    return ok;
}

/* ---- running again ------------------------------------------------------------------------------------------------ */

/* Records the function, or every step, again past the end of the tape. */
static bool run_again(ad_tape *tape, const ad_checkpoint_attrs *attrs, const char *where, ad_var *y) {
    if (attrs->sequence) return ad_sequence_again(tape, attrs, where, y);
    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_var *x = ad_arena_take(&tape->scratch, (size_t)attrs->n * sizeof *x);
    if (!x) {
        ad_tape_out_of_memory(tape, "ad_checkpoint", where);
        return false;
    }
    ad_run_frame frame;
    ad_run_begin(tape, &frame, &attrs->log);
    for (int i = 0; i < attrs->n; i++) x[i] = ad_var_of(tape, attrs->x[i]);
    for (int k = 0; k < attrs->m; k++) y[k] = ad_var_invalid(NULL);
    attrs->f(tape, x, attrs->n, y, attrs->m, attrs->user);
    bool ok = ad_run_end(tape, &frame, "ad_checkpoint", where);
    ad_arena_rewind(&tape->scratch, scratch);
    return ok;
}

/* Whether two values are one type and the same bits; *element is the first that is not, -1: the types differ. */
static bool same_bits(const ad_view *a, const ad_view *b, int64_t *element) {
    *element = -1;
    if (a->dtype != b->dtype || !ad_shape_equal(&a->shape, &b->shape)) return false;
    size_t size = ad_dtype_size(a->dtype);
    *element = 0;
    for (ad_walk w = ad_walk_start(2, (const ad_view *const[]){a, b}); w.more; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++, ++*element)
            if (memcmp(w.at[0] + i * w.inner[0] * (int64_t)size, w.at[1] + i * w.inner[1] * (int64_t)size, size))
                return false;
    return true;
}

static void fail_changed(ad_tape *tape, const char *where, int k, const ad_view *now, const ad_view *was,
                         int64_t element) {
    const char *advice = "it must do the same each time: what it reads through `user` must not change, and random "
                         "numbers must come from ops";
    char now_type[AD_TYPE_TEXT], was_type[AD_TYPE_TEXT];
    if (element < 0) {
        ad_tape_fail(tape, AD_ERR_CHANGED, "ad_checkpoint", where,
                     "result %d of the function was %s and became %s when it ran again; %s", k,
                     ad_type_text(was->dtype, &was->shape, was_type), ad_type_text(now->dtype, &now->shape, now_type),
                     advice);
    } else {
        ad_tape_fail(tape, AD_ERR_CHANGED, "ad_checkpoint", where,
                     "result %d of the function was %.17g at element %lld and became %.17g when it ran again; %s", k,
                     ad_view_get(was, element), (long long)element, ad_view_get(now, element), advice);
    }
}

bool ad_checkpoint_same(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, const ad_var *y,
                        uint32_t first) {
    const char *where = ad_node_at(tape, index)->where;
    const ad_first_run run = {.subject = "ad_checkpoint", .where = where};
    if (!check_results(tape, &run, attrs->m, y)) return false;
    for (int k = 0; k < attrs->m; k++) {
        if (attrs->result[k] < 0) continue;
        ad_view now_scratch, was_scratch;
        int64_t element;
        const ad_node *was = ad_node_at(tape, index + (uint32_t)attrs->result[k]);
        const ad_view *was_view = ad_node_view(was, &was_scratch);
        const ad_view *now_view = ad_node_view(ad_node_at(tape, y[k].index), &now_scratch);
        bool same = same_bits(now_view, was_view, &element);
        if (same && y[k].index >= first) continue;
        fail_changed(tape, where, k, now_view, was_view, same ? 0 : element);
        return false;
    }
    return true;
}

static bool made_again(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, ad_var *y) {
    uint32_t first = tape->count;
    return run_again(tape, attrs, ad_node_at(tape, index)->where, y) &&
           ad_checkpoint_same(tape, index, attrs, y, first);
}

bool ad_checkpoint_is_first(const ad_checkpoint_attrs *attrs, int k) {
    for (int j = 0; j < k; j++)
        if (attrs->result[j] == attrs->result[k]) return false;
    return attrs->result[k] >= 0;
}

/* ---- its derivatives ------------------------------------------------------------------------------------------------ */

static void walk_again(ad_tape *tape, uint32_t index, const ad_checkpoint_attrs *attrs, uint16_t mask) {
    ad_mark mark = ad_tape_mark(tape);
    ad_var y[AD_MAX_RESULTS];
    bool ok = made_again(tape, index, attrs, y);
    size_t graded = ad_pass_extend(tape, mark.count, mask);
    for (int k = 0; k < attrs->m && ok; k++) {
        uint32_t result = index + (uint32_t)attrs->result[k];
        if (ad_checkpoint_is_first(attrs, k) && ad_has_gradient(tape, result))
            ok = ad_pass_give(tape, y[k].index, mask, &ad_cotangent_at(tape, result)->value);
        if (!ok) ad_tape_out_of_memory(tape, "ad_checkpoint", ad_node_at(tape, index)->where);
    }
    if (ok) ad_pass_walk(tape, mark.count, mask);
    ad_tape_forget_gradients(tape, mark.count, graded);
    ad_tape_rewind_to(tape, &mark);
}

static ad_status checkpoint_backward(ad_call *call, ad_adjoint *adjoint) {
    struct ad_adjoint_private *priv = adjoint->priv;
    const ad_checkpoint_attrs *attrs = call->attrs;
    if (priv->capture_input >= 0) {
        ad_vjp_numeric(adjoint);
    } else if (attrs->sequence) {
        ad_sequence_back(priv->tape, priv->first, attrs, priv->mask);
    } else {
        walk_again(priv->tape, priv->first, attrs, priv->mask);
    }
    return priv->tape->error.status;
}

/* Where nodes have no gradients of the walk's own, as in a VJP taken alone: an array that wants those of the inputs. */
static bool open_inputs(ad_vjp *vjp, ad_by_node *inputs) {
    if (!ad_by_node_open(vjp->tape, inputs, 0, vjp->tape->count, NULL)) return false;
    for (int i = 0; i < vjp->call->inputs; i++)
        if (ad_vjp_wants(vjp, i)) inputs->at[vjp->call->priv->inputs[i]] = AD_WANTED;
    return true;
}

static void checkpoint_vjp(ad_vjp *vjp) {
    ad_tape *tape = vjp->tape;
    const ad_checkpoint_attrs *attrs = vjp->call->attrs;
    const char *where = vjp->call->priv->where;
    ad_by_node inputs, own;
    bool ok = vjp->gradient || open_inputs(vjp, &inputs);
    uint32_t first = tape->count;
    ad_var y[AD_MAX_RESULTS];
    if (ok && !made_again(tape, vjp->first, attrs, y)) return;
    uint32_t end = tape->count;
    if (!ok || !ad_by_node_open(tape, &own, first, end, vjp->gradient ? vjp->gradient : &inputs)) {
        ad_tape_out_of_memory(tape, "ad_checkpoint", where);
        return;
    }
    ad_gradient_mark_way(tape, &own, end);
    for (int k = 0; k < attrs->m; k++) {
        uint32_t *gradient = ad_of_node(&own, y[k].index);
        if (ad_checkpoint_is_first(attrs, k) && *gradient != AD_NOT_WANTED && ad_vjp_has_seed(vjp, attrs->result[k]))
            ad_gradient_add(tape, where, gradient, ad_vjp_seed(vjp, attrs->result[k]));
    }
    ad_gradient_walk(tape, where, &own, end, end);
    for (int i = 0; i < vjp->call->inputs && !vjp->gradient && !tape->error.status; i++) {
        uint32_t gradient = inputs.at[vjp->call->priv->inputs[i]];
        if (gradient >= AD_GRADIENT_BASE) ad_vjp_give(vjp, i, ad_var_of(tape, gradient - AD_GRADIENT_BASE));
    }
}

static void checkpoint_jvp(ad_jvp *jvp) {
    ad_tape *tape = jvp->tape;
    const ad_checkpoint_attrs *attrs = jvp->call->attrs;
    const char *where = jvp->call->priv->where;
    uint32_t first = tape->count;
    ad_var y[AD_MAX_RESULTS];
    ad_by_node own;
    if (!made_again(tape, jvp->first, attrs, y)) return;
    uint32_t end = tape->count;
    if (!ad_by_node_open(tape, &own, first, end, jvp->tangent)) {
        ad_tape_out_of_memory(tape, "ad_checkpoint", where);
        return;
    }
    ad_tangent_walk(tape, where, &own, end);
    for (int k = 0; k < attrs->m && !tape->error.status; k++) {
        uint32_t tangent = *ad_of_node(&own, y[k].index);
        if (ad_checkpoint_is_first(attrs, k) && tangent != AD_STANDS_STILL)
            ad_jvp_give(jvp, attrs->result[k], ad_var_of(tape, tangent - AD_TANGENT_BASE));
    }
}

/* The types of the results are those of the first run: they stand in the call already. */
static ad_status checkpoint_shape(ad_call *call) { return (void)call, AD_OK; }

static void show_checkpoint(const void *attrs, char *text, size_t size) {
    const ad_checkpoint_attrs *a = attrs;
    if (a->sequence) {
        snprintf(text, size, "%lld steps", (long long)a->steps);
    } else {
        snprintf(text, size, "%lld nodes", (long long)a->nodes);
    }
}

#define CHECKPOINT_OP(m)                                                                                             \
    [m - 1] = {                                                                                                      \
        .name = "checkpoint",                                                                                        \
        .inputs = -1,                                                                                                \
        .results = m,                                                                                                \
        .attrs_size = sizeof(ad_checkpoint_attrs),                                                                   \
        .saves = AD_SAVES_INPUTS,                                                                                    \
        .shape = checkpoint_shape,                                                                                   \
        .vjp = checkpoint_vjp,                                                                                       \
        .backward = checkpoint_backward,                                                                             \
        .jvp = checkpoint_jvp,                                                                                       \
        .formula = "$y = f($0, ...), $a not kept",                                                                   \
        .adjoint = {"~0 += its part of f's VJP, run again", "~1 += its part of f's VJP, run again"},                 \
        .show_attrs = show_checkpoint,                                                                               \
    }

static const ad_op checkpoint_op[AD_MAX_RESULTS] = {
    CHECKPOINT_OP(1), CHECKPOINT_OP(2), CHECKPOINT_OP(3), CHECKPOINT_OP(4),
    CHECKPOINT_OP(5), CHECKPOINT_OP(6), CHECKPOINT_OP(7), CHECKPOINT_OP(8),
};
_Static_assert(AD_MAX_RESULTS == 8, "a descriptor for each number of results");

bool ad_op_is_checkpoint(const ad_op *op) { return op->backward == checkpoint_backward; }

/* ---- recording it ----------------------------------------------------------------------------------------------------- */

/* Numbers the results: each y[k] of which a value is kept, those that are one variable together. Returns how many. */
static int number_results(ad_checkpoint_attrs *attrs, const ad_var *y, ad_kept *kept) {
    int results = 0;
    for (int k = 0; k < attrs->m; k++) {
        attrs->result[k] = -1;
        if (!kept[k].is_kept) continue;
        int j = 0;
        while (j < k && (attrs->result[j] < 0 || y[j].index != y[k].index)) j++;
        attrs->result[k] = j < k ? attrs->result[j] : results++;
        if (j < k) ad_kept_drop(&kept[k]);
    }
    return results;
}

/* What lives as long as the node: the attributes and the lists that they and it point to. */
static ad_extra *keep_lists(ad_tape *tape, const ad_first_run *run, const ad_checkpoint_attrs *attrs,
                            const ad_var *x) {
    ad_extra *extra = ad_arena_take(&tape->extras, sizeof *extra);
    ad_checkpoint_attrs *made = ad_arena_take(&tape->extras, sizeof *made);
    size_t n = (size_t)attrs->n, uses = tape->used.count - run->used, inputs = tape->captured.count - run->captured;
    uint32_t *given = ad_arena_take(&tape->extras, n * sizeof *given);
    uint32_t *use = ad_arena_take(&tape->extras, uses * sizeof *use);
    uint32_t *input = ad_arena_take(&tape->extras, inputs * sizeof *input);
    if (!extra || !made || !given || !use || !input) return NULL;
    for (size_t i = 0; i < n; i++) given[i] = x[i].index;
    if (uses) memcpy(use, tape->used.item + run->used, uses * sizeof *use);
    if (inputs) memcpy(input, tape->captured.item + run->captured, inputs * sizeof *input);
    *made = *attrs;
    made->x = given;
    made->log.use = use;
    made->log.uses = (uint32_t)uses;
    *extra = (ad_extra){.attrs = made, .inputs = input, .input_count = (uint32_t)inputs};
    return extra;
}

bool ad_checkpoint_commit(ad_tape *tape, const ad_first_run *run, ad_checkpoint_attrs *attrs, const ad_var *x,
                          ad_var *y, ad_kept *kept) {
    int results = number_results(attrs, y, kept);
    if (results == 0) return true;
    if (!ad_tape_room(tape, run->where, (uint32_t)results)) return false;
    ad_extra *extra = keep_lists(tape, run, attrs, x);
    if (!extra || !ad_list_reserve(&tape->owners, tape->allocator, (size_t)results)) {
        ad_tape_out_of_memory(tape, run->subject, run->where);
        return false;
    }
    uint32_t first = tape->count;
    for (int k = 0; k < attrs->m; k++) {
        int result = attrs->result[k];
        if (kept[k].is_kept) {
            ad_node *node = ad_tape_push(tape, run->where);
            node->op = result ? &ad_result_of : &checkpoint_op[results - 1];
            node->value = kept[k].value;
            node->dtype = kept[k].dtype;
            node->flags = (uint16_t)((kept[k].is_inline ? AD_NODE_INLINE : 0) |
                                     (kept[k].needs_gradient ? AD_NODE_GRAD : 0) | result << AD_NODE_RESULT_SHIFT);
            node->extra = result ? NULL : extra;
            node->inputs = result ? 1 : AD_NODE_MANY;
            if (result) node->in[0] = first;
            if (!kept[k].is_inline) ad_list_push(&tape->owners, tape->count - 1);
            kept[k] = (ad_kept){.is_kept = false};
        }
        if (result >= 0) y[k] = ad_var_of(tape, first + (uint32_t)result);
    }
    return true;
}

static bool check_call(ad_tape *tape, const char *where, ad_checkpoint_function f, int n, const ad_var *x, int m,
                       const ad_var *y) {
    const char *subject = "ad_checkpoint";
    if (tape->error.status) return false;
    if (!f || !y || (n > 0 && !x)) {
        ad_tape_fail(tape, AD_ERR_NULL, subject, where, "the function is %s, x is %s, y is %s", f ? "set" : "NULL",
                     x ? "set" : "NULL", y ? "set" : "NULL");
    } else if (n < 0 || m < 1 || m > AD_MAX_RESULTS) {
        ad_tape_fail(tape, AD_ERR_VALUE, subject, where,
                     "n is %d, m is %d: a function has 1 to %d results; join some with ad_cat, or use more than one "
                     "checkpoint",
                     n, m, AD_MAX_RESULTS);
    }
    for (int i = 0; i < n && !tape->error.status; i++) ad_tape_check_var(tape, x[i], subject, where, "one of x");
    return !tape->error.status;
}

/* The first run, and the operation that stands for it. */
static bool record(ad_tape *tape, const ad_first_run *run, ad_checkpoint_attrs *attrs, const ad_var *x, ad_var *y) {
    ad_run_frame frame;
    for (int i = 0; i < attrs->n; i++)
        if (!ad_first_run_input(tape, run, x[i].index)) return false;
    ad_run_begin(tape, &frame, NULL);
    attrs->f(tape, x, attrs->n, y, attrs->m, attrs->user);
    if (!ad_run_end(tape, &frame, run->subject, run->where)) return false;
    attrs->nodes = (int64_t)tape->count - frame.mark.count;
    bool ok = ad_first_run_collect(tape, run, &frame, attrs->m, y, tape->kept, false);
    if (ok && !(ok = ad_run_keep_draws(tape, run->drawn, &attrs->log)))
        ad_tape_out_of_memory(tape, run->subject, run->where);
    if (ok) ok = ad_checkpoint_commit(tape, run, attrs, x, y, tape->kept);
    if (!ok) ad_tape_rewind_to(tape, &frame.mark);
    return ok;
}

ad_status ad_checkpoint_at(const char *where, ad_tape *tape, ad_checkpoint_function f, void *user, int n,
                           const ad_var *x, int m, ad_var *y) {
    ad_var made[AD_MAX_RESULTS]; /* apart from y, which may be x */
    for (int k = 0; k < AD_MAX_RESULTS; k++) made[k] = ad_var_invalid(NULL);
    if (tape && tape->where) where = tape->where;
    if (tape && check_call(tape, where, f, n, x, m, y)) {
        ad_first_run run = ad_first_run_begin(tape, "ad_checkpoint", where);
        ad_checkpoint_attrs attrs = {.f = f, .user = user, .n = n, .m = m};
        record(tape, &run, &attrs, x, made);
        ad_first_run_end(tape, &run);
    }
    ad_status status = ad_tape_status(tape);
    for (int k = 0; y && k < m; k++) y[k] = status ? ad_var_invalid(tape) : made[k];
    return status;
}
