/* Recording one application of an op: check, shape, allocate, compute, commit. Nothing is on the tape before the
 * commit, so a failure anywhere leaves the tape as it was, but for the error. */
#include "autodiff/tape/tape.h"

#include <string.h>

/* Results 1, 2, ... of an operation are nodes of their own, right after the node of result 0, which is their input. */
const ad_op ad_result_of = {.name = "result", .inputs = 1, .results = 1, .formula = "$y"};

/* ---- what an op's functions may call ------------------------------------------------------------------------ */

ad_status ad_fail(ad_call *call, ad_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ad_tape_fail_v(call->priv->tape, status, call->op->name, call->priv->where, format, args);
    va_end(args);
    return status;
}

static const char *describe(ad_call *call, int i, bool with_type) {
    char text[AD_TYPE_TEXT + 128];
    if (i < 0 || i >= call->inputs) return "?";
    ad_node_text(call->priv->tape, call->priv->inputs[i], with_type, text, sizeof text);
    const char *copy = ad_arena_text(&call->priv->tape->scratch, text);
    return copy ? copy : "?";
}

const char *ad_describe(ad_call *call, int i) { return describe(call, i, true); }
const char *ad_input_name(ad_call *call, int i) { return describe(call, i, false); }

void *ad_scratch(ad_call *call, size_t bytes) {
    const size_t alignment = 64;
    char *memory = bytes < SIZE_MAX / 2 ? ad_arena_take(&call->priv->tape->scratch, bytes + alignment) : NULL;
    if (!memory) {
        ad_tape_out_of_memory(call->priv->tape, call->op->name, call->priv->where);
        return NULL;
    }
    return memory + (alignment - (uintptr_t)memory % alignment) % alignment;
}

/* ---- the call ------------------------------------------------------------------------------------------------- */

static ad_var refuse(ad_tape *tape, const ad_op *op, ad_var *results) {
    for (int k = 0; results && k < ad_op_results(op) && k < AD_MAX_RESULTS; k++) results[k] = ad_var_invalid(tape);
    return ad_var_invalid(tape);
}

/* Points call->in at the values of the nodes in call->priv->inputs. False: no memory. */
static bool bind_inputs(ad_call *call) {
    struct ad_call_private *priv = call->priv;
    const ad_view **view = priv->view;
    ad_view *scalar = priv->scalar;
    if (call->inputs > AD_FEW_INPUTS) {
        size_t n = (size_t)call->inputs;
        view = ad_scratch(call, n * sizeof(ad_view *));
        scalar = ad_scratch(call, n * sizeof *scalar);
        if (!view || !scalar) return false;
    }
    for (int i = 0; i < call->inputs; i++)
        view[i] = ad_node_view(ad_node_at(priv->tape, priv->inputs[i]), &scalar[i]);
    call->in = view;
    return true;
}

bool ad_call_of_node(ad_tape *tape, uint32_t result0, ad_call *call, struct ad_call_private *priv) {
    const ad_node *node = ad_node_at(tape, result0);
    priv->tape = tape;
    priv->where = node->where;
    priv->inputs = ad_node_inputs(node);
    call->op = node->op;
    call->attrs = node->extra ? node->extra->attrs : NULL;
    call->inputs = ad_node_input_count(node);
    call->priv = priv;
    for (int k = 0; k < ad_op_results(node->op); k++) {
        const ad_node *result = ad_node_at(tape, result0 + (uint32_t)k);
        const ad_view *view = ad_node_view(result, &call->out[k]);
        if (view != &call->out[k]) call->out[k] = *view;
        call->is_view[k] = result->flags & AD_NODE_VIEW;
    }
    return bind_inputs(call);
}

static bool check_inputs(ad_tape *tape, const char *where, const ad_op *op, int n, const ad_var *in) {
    if (op->inputs >= 0 ? n != op->inputs : n < 1) {
        ad_tape_fail(tape, AD_ERR_OP, op->name, where, "takes %d input%s, was given %d",
                     op->inputs >= 0 ? op->inputs : 1, op->inputs >= 0 ? (op->inputs == 1 ? "" : "s") : " or more",
                     n);
        return false;
    }
    for (int i = 0; i < n; i++) {
        if (in[i].tape == tape && ad_var_is_valid(in[i])) continue;
        char role[32];
        size_t length = 0;
        ad_text_add(role, sizeof role, &length, "input %d", i);
        return ad_tape_check_var(tape, in[i], op->name, where, role);
    }
    return true;
}

/* Runs the shape rule and looks at what it says. */
static bool infer_shapes(ad_call *call) {
    ad_tape *tape = call->priv->tape;
    if (call->op->shape(call) || tape->error.status) {
        ad_fail(call, AD_ERR_OP, "its shape rule failed without saying why (use ad_fail)");
        return false;
    }
    for (int k = 0; k < ad_op_results(call->op); k++) {
        const ad_view *out = &call->out[k];
        char type[AD_TYPE_TEXT];
        if (!ad_dtype_size(out->dtype)) {
            ad_fail(call, AD_ERR_OP, "its shape rule set no dtype for result %d", k);
            return false;
        }
        if (ad_view_count(out) < 0) {
            ad_fail(call, AD_ERR_LIMIT, "the result %s would not fit into memory",
                    ad_type_text(out->dtype, &out->shape, type));
            return false;
        }
        if (call->is_view[k] && (call->inputs < 1 || out->dtype != call->in[0]->dtype)) {
            ad_fail(call, AD_ERR_OP, "result %d is called a view but is not of input 0's dtype", k);
            return false;
        }
        if (!call->op->forward && !call->is_view[k]) {
            ad_fail(call, AD_ERR_OP, "it has no .forward to compute result %d, which is not a view", k);
            return false;
        }
    }
    return true;
}

/* Whether the results need a gradient; false in *ok if one was asked for where none exists. */
static bool needs_gradient(ad_call *call, bool *ok) {
    const ad_tape *tape = call->priv->tape;
    *ok = true;
    if (tape->no_grad || call->op->derivative == AD_STOPS_GRADIENT) return false;
    bool float_result = false;
    for (int k = 0; k < ad_op_results(call->op); k++) float_result |= ad_dtype_is_float(call->out[k].dtype);
    for (int i = 0; i < call->inputs && float_result; i++) {
        if (!(ad_node_at(tape, call->priv->inputs[i])->flags & AD_NODE_GRAD)) continue;
        if (call->op->derivative == AD_DIFFERENTIABLE) return true;
        ad_fail(call, AD_ERR_NOGRAD, "it has no derivative, but %s needs a gradient; put ad_detach around it",
                ad_input_name(call, i));
        *ok = false;
        return false;
    }
    return false;
}

/* Gives every result its memory: a slot, a tensor, or an alias of input 0. */
static bool allocate_results(ad_call *call) {
    struct ad_call_private *priv = call->priv;
    ad_tape *tape = priv->tape;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        ad_view *out = &call->out[k];
        ad_slot *slot = &priv->slot[k];
        if (out->shape.rank == 0) {
            slot->i64 = 0;
            if (call->is_view[k]) memcpy(slot, out->data, ad_dtype_size(out->dtype));
            out->data = slot;
            continue;
        }
        const ad_node *source = call->is_view[k] ? ad_node_at(tape, priv->inputs[0]) : NULL;
        if (source && !(source->flags & AD_NODE_INLINE)) {
            slot->tensor = ad_pool_alias(tape->pool, source->value.tensor, out);
        } else {
            slot->tensor = ad_pool_tensor(tape->pool, out->dtype, &out->shape);
        }
        if (!slot->tensor) {
            char type[AD_TYPE_TEXT];
            ad_fail(call, AD_ERR_OOM, "out of memory for its result %s", ad_type_text(out->dtype, &out->shape, type));
            ad_tape_release_held(tape);
            return false;
        }
        tape->held[k] = slot->tensor;
        if (source && (source->flags & AD_NODE_INLINE)) {
            /* A view of a 0-d value has nothing to share: every element is that value. */
            ad_view all = *out;
            memset(all.stride, 0, sizeof all.stride);
            all.data = (void *)(uintptr_t)&source->value;
            ad_view_copy(&all, &slot->tensor->view);
            call->is_view[k] = false;
        }
        *out = slot->tensor->view;
    }
    return true;
}

/* Attributes and long input lists live as long as the node. */
static bool keep_extra(ad_call *call, ad_extra **extra) {
    ad_tape *tape = call->priv->tape;
    *extra = NULL;
    if (call->op->attrs_size == 0 && call->inputs <= 2) return true;
    ad_extra *made = ad_arena_take(&tape->extras, sizeof *made);
    void *attrs = call->op->attrs_size ? ad_arena_take(&tape->extras, call->op->attrs_size) : NULL;
    uint32_t *inputs = call->inputs > 2 ? ad_arena_take(&tape->extras, (size_t)call->inputs * sizeof *inputs) : NULL;
    if (!made || (call->op->attrs_size && !attrs) || (call->inputs > 2 && !inputs)) {
        ad_fail(call, AD_ERR_OOM, "out of memory for its node");
        return false;
    }
    if (attrs) memcpy(attrs, call->attrs, call->op->attrs_size);
    if (inputs) memcpy(inputs, call->priv->inputs, (size_t)call->inputs * sizeof *inputs);
    *made = (ad_extra){.attrs = attrs, .inputs = inputs, .input_count = inputs ? (uint32_t)call->inputs : 0};
    *extra = made;
    return true;
}

static void commit(const ad_call *call, ad_extra *extra, bool grad, ad_var *results) {
    const struct ad_call_private *priv = call->priv;
    ad_tape *tape = priv->tape;
    uint32_t first = tape->count;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        ad_node *node = ad_tape_push(tape, priv->where);
        const ad_view *out = &call->out[k];
        bool is_inline = out->shape.rank == 0;
        node->op = k ? &ad_result_of : call->op;
        node->value = priv->slot[k];
        node->dtype = (uint8_t)out->dtype;
        node->flags = (uint16_t)((is_inline ? AD_NODE_INLINE : 0) |
                                 (grad && ad_dtype_is_float(out->dtype) ? AD_NODE_GRAD : 0) |
                                 (call->is_view[k] && !is_inline ? AD_NODE_VIEW : 0) | k << AD_NODE_RESULT_SHIFT);
        if (k == 0) {
            node->extra = extra;
            node->inputs = (uint8_t)(call->inputs > 2 ? AD_NODE_MANY : call->inputs);
            for (int i = 0; i < call->inputs && i < 2; i++) node->in[i] = priv->inputs[i];
        } else {
            node->inputs = 1;
            node->in[0] = first;
        }
        if (!is_inline) ad_list_push(&tape->owners, tape->count - 1);
        tape->held[k] = NULL;
        if (results) results[k] = (ad_var){tape, tape->count - 1, tape->generation};
    }
}

/* The general path, from valid inputs on; scratch memory is the caller's to rewind. */
static ad_var record(ad_call *call, ad_var *results) {
    ad_tape *tape = call->priv->tape;
    const ad_op *op = call->op;
    int count = ad_op_results(op);
    for (int k = 0; k < count; k++) {
        call->out[k].data = NULL;
        call->out[k].dtype = AD_DTYPE_COUNT;
        call->out[k].shape.rank = -1;
        call->is_view[k] = false;
    }
    bool ok;
    if (!bind_inputs(call) || !infer_shapes(call)) return refuse(tape, op, results);
    bool grad = needs_gradient(call, &ok);
    if (!ok || !ad_tape_room(tape, call->priv->where, (uint32_t)count)) return refuse(tape, op, results);
    if (!ad_list_reserve(&tape->owners, tape->allocator, (size_t)count)) {
        ad_fail(call, AD_ERR_OOM, "out of memory for its node");
        return refuse(tape, op, results);
    }
    uint64_t extras = ad_arena_position(&tape->extras);
    ad_extra *extra;
    if (keep_extra(call, &extra) && allocate_results(call)) {
        bool computed = !op->forward || (op->forward(call) == AD_OK && tape->error.status == AD_OK);
        if (computed && (!tape->numbers || ad_numbers_in_results(call))) {
            uint32_t first = tape->count;
            commit(call, extra, grad, results);
            return (ad_var){tape, first, tape->generation};
        }
        ad_fail(call, AD_ERR_OP, "its forward function failed without saying why (use ad_fail)");
        ad_tape_release_held(tape);
    }
    ad_arena_rewind(&tape->extras, extras);
    return refuse(tape, op, results);
}

/* The path for ops with a scalar rule on 0-d f64 values; an invalid variable without a tape if this is none. */
static ad_var apply_scalar(const char *where, ad_tape *tape, const ad_op *op, const ad_var *in, const void *attrs) {
    const ad_node *a, *b = NULL;
    if (tape->count >= tape->fast_end || !ad_fast_operand(tape, in[0], &a)) return ad_var_invalid(NULL);
    if (op->inputs == 2 && !ad_fast_operand(tape, in[1], &b)) return ad_var_invalid(NULL);
    ad_extra *extra = NULL;
    if (op->attrs_size) {
        extra = ad_arena_take(&tape->extras, sizeof *extra + op->attrs_size);
        if (!extra) return ad_var_invalid(NULL);
        *extra = (ad_extra){.attrs = extra + 1};
        memcpy(extra + 1, attrs, op->attrs_size);
    }
    double value = op->scalar->value(a->value.f64, b ? b->value.f64 : 0, attrs);
    ad_var y = ad_fast_push(tape, where, op, value, (uint16_t)(a->flags | (b ? b->flags : 0)), in[0].index,
                            b ? in[1].index : 0, (uint8_t)op->inputs);
    ad_node_at(tape, y.index)->extra = extra;
    return y;
}

/* The values x of the inputs of an elementwise op, if all are row-major arrays of one type. *flags: those that any of the
 * nodes has. */
static bool find_alike(const ad_tape *tape, const ad_op *op, const ad_var *in, const ad_tensor *x[2],
                       unsigned *flags) {
    *flags = 0;
    for (int i = 0; i < op->inputs; i++) {
        if (in[i].tape != tape || !ad_var_is_valid(in[i])) return false;
        const ad_node *node = ad_node_at(tape, in[i].index);
        if (node->flags & AD_NODE_INLINE) return false;
        x[i] = node->value.tensor;
        if (x[i]->dense < 0) return false;
        if (i > 0 && (x[i]->view.dtype != x[0]->view.dtype || !ad_same_shape(&x[i]->view.shape, &x[0]->view.shape)))
            return false;
        *flags |= node->flags;
    }
    return true;
}

/* The node of such an application, whose value y is taken. There is room for it and its place among the owners. */
static ad_var push_alike(ad_tape *tape, const char *where, const ad_op *op, const ad_var *in, unsigned flags,
                         ad_extra *extra, ad_tensor *y) {
    ad_node *node = ad_tape_push(tape, where);
    const bool grad = (flags & AD_NODE_GRAD) && !tape->no_grad && op->derivative == AD_DIFFERENTIABLE;
    node->op = op;
    node->value.tensor = y;
    node->extra = extra;
    node->dtype = (uint8_t)y->view.dtype;
    node->flags = (uint16_t)(AD_NODE_FLAT | (grad ? AD_NODE_GRAD : 0));
    node->inputs = (uint8_t)op->inputs;
    for (int i = 0; i < op->inputs; i++) node->in[i] = in[i].index;
    ad_list_push(&tape->owners, tape->count - 1);
    return (ad_var){tape, tape->count - 1, tape->generation};
}

/* The path for elementwise ops on neighbours of one float type; an invalid variable without a tape if this is none, or
 * there is no memory. */
static ad_var apply_flat(const char *where, ad_tape *tape, const ad_op *op, const ad_var *in) {
    const ad_var none = ad_var_invalid(NULL);
    const ad_tensor *x[2] = {NULL, NULL};
    unsigned flags;
    if (tape->count >= tape->fast_end || !ad_list_reserve(&tape->owners, tape->allocator, 1)) return none;
    if (!find_alike(tape, op, in, x, &flags) || !ad_dtype_is_float(x[0]->view.dtype)) return none;
    ad_tensor *y = ad_pool_like(tape->pool, x[0]);
    if (!y) return none;
    op->flat->value(y->view.dtype, y->dense, x[0]->view.data, x[1] ? x[1]->view.data : NULL, y->view.data);
    return push_alike(tape, where, op, in, flags, NULL, y);
}

/* The path for elementwise ops on row-major arrays of one type; an invalid variable without a tape if this is none. */
static ad_var apply_elementwise(ad_call *call, const ad_var *in) {
    const ad_var none = ad_var_invalid(NULL);
    const ad_op *op = call->op;
    ad_tape *tape = call->priv->tape;
    const ad_tensor *x[2];
    unsigned flags;
    if (tape->count >= tape->fast_end || !ad_list_reserve(&tape->owners, tape->allocator, 1)) return none;
    if (!find_alike(tape, op, in, x, &flags)) return none;
    for (int i = 0; i < call->inputs; i++) {
        call->priv->input_index[i] = in[i].index;
        ad_call_flatten(call, i, x[i]->view.data, x[i]->view.dtype, x[i]->dense);
    }
    call->priv->inputs = call->priv->input_index;
    call->in = call->priv->view;
    ad_extra *extra;
    call->is_view[0] = false;
    if (op->shape(call) || !keep_extra(call, &extra)) return ad_var_invalid(tape);
    ad_tensor *y = tape->held[0] = ad_pool_like(tape->pool, x[0]);
    if (!y) return none;
    ad_view_flatten(&call->out[0], y->view.data, y->view.dtype, y->dense);
    if (op->forward(call)) {
        ad_tape_release_held(tape);
        return ad_var_invalid(tape);
    }
    tape->held[0] = NULL;
    return push_alike(tape, call->priv->where, op, in, flags, extra, y);
}

static const char *why_unfit(const ad_op *op, int n, const ad_var *in, const void *attrs) {
    const char *flaw = op->name ? ad_op_flaw(op) : "the descriptor has no name";
    if (flaw) return flaw;
    if (n > 0 && !in) return "the inputs are NULL";
    return op->attrs_size && !attrs ? "its attributes are NULL" : NULL;
}

ad_var ad_apply_fit(const char *where, ad_tape *tape, const ad_op *op, int n, const ad_var *in, const void *attrs,
                    ad_var *results) {
    if (!tape || tape->error.status) return refuse(tape, op, results);
    if (tape->where) where = tape->where;
    ad_var short_cut = ad_var_invalid(NULL);
    if (op->scalar && n == op->inputs && (n == 1 || n == 2)) short_cut = apply_scalar(where, tape, op, in, attrs);
    if (!short_cut.tape && op->flat && n == op->inputs && !tape->numbers) short_cut = apply_flat(where, tape, op, in);
    if (short_cut.tape) {
        if (results) results[0] = short_cut;
        return short_cut;
    }
    struct ad_call_private priv;
    priv.tape = tape;
    priv.where = where;
    ad_call call;
    call.op = op;
    call.attrs = attrs;
    call.inputs = n;
    call.priv = &priv;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (op->elementwise && n == op->inputs && !tape->numbers) {
        ad_var y = apply_elementwise(&call, in);
        if (y.tape) {
            ad_arena_rewind(&tape->scratch, scratch);
            if (results) results[0] = y;
            return y;
        }
    }
    if (!check_inputs(tape, where, op, n, in)) return refuse(tape, op, results);

    uint32_t *index = priv.input_index;
    if (n > AD_FEW_INPUTS) index = ad_scratch(&call, (size_t)n * sizeof *index);
    ad_var y = ad_var_invalid(tape);
    if (index) {
        for (int i = 0; i < n; i++) index[i] = in[i].index;
        priv.inputs = index;
        struct ad_profile *profile = tape->profile;
        int64_t start = profile ? ad_profile_now(profile) : 0;
        y = record(&call, results);
        if (profile && !tape->error.status) ad_profile_operation(tape, profile, false, y.index, start);
    } else {
        refuse(tape, op, results);
    }
    ad_arena_rewind(&tape->scratch, scratch);
    return y;
}

ad_var ad_apply_at(const char *where, ad_tape *tape, const ad_op *op, int n, const ad_var *in, const void *attrs,
                   ad_var *results) {
    if (!op) {
        ad_tape_fail(tape, AD_ERR_NULL, "ad_apply", where, "the op is NULL");
        if (results) results[0] = ad_var_invalid(tape);
        return ad_var_invalid(tape);
    }
    if (!tape || tape->error.status) return refuse(tape, op, results);
    const char *unfit = why_unfit(op, n, in, attrs);
    if (unfit) {
        ad_tape_fail(tape, AD_ERR_OP, op->name ? op->name : "ad_apply", tape->where ? tape->where : where, "%s",
                     unfit);
        return refuse(tape, op, results);
    }
    return ad_apply_fit(where, tape, op, n, in, attrs, results);
}
