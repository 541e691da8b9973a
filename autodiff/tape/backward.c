/* The walk back: from y to the leaves, each operation adds its vector-Jacobian product to the gradients of its inputs.
 * A first contribution is stored, if possible without a copy; later ones are added: that is how gradients merge where
 * a value was used more than once. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <string.h>

/* ---- where contributions go --------------------------------------------------------------------------------- */

static ad_status no_memory_at(ad_tape *tape, const ad_op *op, const char *where) {
    return ad_tape_fail(tape, AD_ERR_OOM, op->name, where, "out of memory for a gradient, in the backward pass");
}
static ad_status no_memory(const ad_adjoint *adjoint) {
    const ad_call *call = adjoint->priv->call;
    return no_memory_at(adjoint->priv->tape, call->op, call->priv->where);
}

/* The node gets its first gradient of this pass: this tensor, whose reference it takes, unless it lies in the node.
 * False if there is no memory, be it for the tensor (NULL). */
static bool claim(ad_tape *tape, uint32_t index, ad_tensor *tensor) {
    if (!(ad_node_at(tape, index)->flags & AD_NODE_INLINE)) {
        if (!tensor || !ad_list_reserve(&tape->graded, tape->allocator, 1)) {
            ad_tensor_unref(tensor);
            return false;
        }
        ad_list_push(&tape->graded, index);
    }
    *ad_cotangent_at(tape, index) = (ad_cotangent){.value = {.tensor = tensor}, .pass = tape->pass, .state = 0};
    return true;
}

/* Makes the tensor in *store one that nobody else sees, row-major. */
static bool make_own(ad_tape *tape, ad_tensor **store) {
    ad_tensor *shared = *store;
    if (ad_tensor_is_unique(shared)) return true;
    ad_tensor *own = ad_pool_tensor(tape->pool, shared->view.dtype, &shared->view.shape);
    if (!own) return false;
    ad_kernels_get()->copy(&shared->view, &own->view, 1.0, false);
    ad_tensor_unref(shared);
    *store = own;
    return true;
}

/* ---- gradients in part --------------------------------------------------------------------------------------- */

static ad_stripe *stripe_of(ad_tape *tape, uint32_t index) {
    ad_stripe *stripe = tape->stripe;
    while (stripe->index != index) stripe++;
    return stripe;
}

static void forget_stripe(ad_tape *tape, ad_stripe *stripe) {
    ad_cotangent_at(tape, stripe->index)->state &= ~(uint32_t)AD_GRAD_IN_PART;
    *stripe = tape->stripe[--tape->stripes];
}

/* Writes the zeros that are still missing. */
static void complete_gradient(ad_tape *tape, uint32_t index) {
    ad_stripe *stripe = stripe_of(tape, index);
    const ad_view *all = &ad_cotangent_at(tape, index)->value.tensor->view;
    const int64_t edges[2][2] = {{0, stripe->from}, {stripe->to, all->shape.dim[stripe->axis]}};
    for (int i = 0; i < 2; i++) {
        ad_view rest = *all;
        (void)!ad_view_slice(all, stripe->axis, edges[i][0], edges[i][1], 1, &rest);
        ad_kernels_get()->fill(&rest, 0.0);
    }
    forget_stripe(tape, stripe);
}

/* Makes the gradient of a node a row-major buffer that nobody else sees. *add: whether it holds something. */
static bool open_gradient(ad_tape *tape, uint32_t index, bool *add) {
    const ad_node *node = ad_node_at(tape, index);
    *add = ad_has_gradient(tape, index);
    if (*add && (ad_cotangent_at(tape, index)->state & AD_GRAD_IN_PART)) complete_gradient(tape, index);
    if (node->flags & AD_NODE_INLINE) return *add || claim(tape, index, NULL);
    if (node->flags & AD_NODE_DIRECT) node->extra->param->few_rows = false;
    if (*add) return (node->flags & AD_NODE_DIRECT) || make_own(tape, &ad_cotangent_at(tape, index)->value.tensor);
    const ad_view *value = &node->value.tensor->view;
    return claim(tape, index,
                 node->flags & AD_NODE_DIRECT ? ad_tensor_ref(node->extra->param->grad)
                                              : ad_pool_tensor(tape->pool, value->dtype, &value->shape));
}

bool ad_wants(const ad_adjoint *adjoint, int i) {
    const struct ad_adjoint_private *priv = adjoint->priv;
    if (i < 0 || i >= priv->call->inputs) return false;
    if (priv->capture_input >= 0) return i == priv->capture_input;
    return ad_node_at(priv->tape, priv->call->priv->inputs[i])->flags & priv->mask;
}

static const ad_view *into_captured(ad_adjoint *adjoint, int i, bool *add) {
    struct ad_adjoint_private *priv = adjoint->priv;
    const ad_view *input = priv->call->in[i];
    *add = priv->captured != NULL;
    if (!*add) priv->captured = ad_pool_tensor(priv->tape->pool, input->dtype, &input->shape);
    if (priv->captured && make_own(priv->tape, &priv->captured)) return &priv->captured->view;
    no_memory(adjoint);
    return NULL;
}

const ad_view *ad_into(ad_adjoint *adjoint, int i, bool *add) {
    struct ad_adjoint_private *priv = adjoint->priv;
    if (priv->tape->error.status || !ad_wants(adjoint, i)) return NULL;
    if (AD_UNLIKELY(priv->batch != NULL)) return ad_batch_into(adjoint, i, add);
    if (priv->capture_input >= 0) return into_captured(adjoint, i, add);
    uint32_t index = priv->call->priv->inputs[i];
    if (!open_gradient(priv->tape, index, add)) {
        no_memory(adjoint);
        return NULL;
    }
    if (priv->is_flat) {
        const ad_view *gradient = &ad_cotangent_at(priv->tape, index)->value.tensor->view;
        ad_view_flatten(&priv->into[i], gradient->data, gradient->dtype, priv->call->in[i]->shape.dim[0]);
        return &priv->into[i];
    }
    ad_view *scratch = i < AD_FEW_INPUTS ? &priv->into[i] : ad_scratch(priv->call, sizeof *scratch);
    return scratch ? ad_gradient_view(priv->tape, index, scratch) : NULL;
}

static void clear_rows(ad_param *param) {
    const ad_view *grad = &param->grad->view;
    size_t row = (size_t)(ad_view_count(grad) / grad->shape.dim[0]) * ad_dtype_size(grad->dtype);
    for (size_t k = 0; k < param->rows.count; k++) memset((char *)grad->data + param->rows.item[k] * row, 0, row);
    param->rows.count = 0;
}

/* False if they are not few, or there is no memory for them: then all of the gradient counts as written. */
static bool remember_rows(ad_param *param, const ad_view *index) {
    const int64_t rows = param->grad->view.shape.dim[0], n = ad_view_count(index);
    if (rows > UINT32_MAX || n > rows / 2 || (int64_t)param->rows.count > rows / 2 ||
        !ad_list_reserve(&param->rows, param->allocator, (size_t)n))
        return false;
    for (int64_t k = 0; k < n; k++) ad_list_push(&param->rows, (uint32_t)ad_view_get(index, k));
    return true;
}

const ad_view *ad_into_cleared(ad_adjoint *adjoint, int i) {
    bool add;
    const ad_view *into = ad_into(adjoint, i, &add);
    if (into && !add) ad_kernels_get()->fill(into, 0);
    return into;
}

/* Takes the window into the part that is written; false if it does not lie at its edge. */
static bool extend_stripe(ad_tape *tape, uint32_t index, int axis, int64_t from, int64_t to) {
    ad_stripe *stripe = stripe_of(tape, index);
    if (stripe->axis != axis || (to != stripe->from && from != stripe->to)) return false;
    stripe->from = from < stripe->from ? from : stripe->from;
    stripe->to = to > stripe->to ? to : stripe->to;
    const int64_t n = ad_cotangent_at(tape, index)->value.tensor->view.shape.dim[axis];
    if (stripe->from == 0 && stripe->to == n) forget_stripe(tape, stripe);
    return true;
}

const ad_view *ad_into_window(ad_adjoint *adjoint, int i, int axis, int64_t from, int64_t to, bool *add) {
    const struct ad_adjoint_private *priv = adjoint->priv;
    ad_tape *tape = priv->tape;
    const uint32_t index = priv->call->priv->inputs[i];
    *add = true;
    if (from >= to || priv->capture_input >= 0 || priv->batch || tape->numbers || !ad_wants(adjoint, i))
        return ad_into_cleared(adjoint, i);
    const ad_cotangent *gradient = ad_cotangent_at(tape, index);
    if (ad_has_gradient(tape, index)) {
        if (!(gradient->state & AD_GRAD_IN_PART) || !extend_stripe(tape, index, axis, from, to))
            return ad_into(adjoint, i, add);
        *add = false;
        return &gradient->value.tensor->view;
    }
    if (tape->stripes == AD_MOST_STRIPES) return ad_into_cleared(adjoint, i);
    const ad_view *into = ad_into(adjoint, i, add);
    if (!into || (from == 0 && to == into->shape.dim[axis])) return into;
    tape->stripe[tape->stripes++] = (ad_stripe){.index = index, .axis = axis, .from = from, .to = to};
    ad_cotangent_at(tape, index)->state |= AD_GRAD_IN_PART;
    return into;
}

const ad_view *ad_into_rows(ad_adjoint *adjoint, int i, int axis, const ad_view *index) {
    const struct ad_adjoint_private *priv = adjoint->priv;
    if (axis != 0 || priv->batch) return ad_into_cleared(adjoint, i);
    const ad_node *node = ad_node_at(priv->tape, priv->call->priv->inputs[i]);
    bool direct = priv->capture_input < 0 && (node->flags & AD_NODE_DIRECT), add;
    ad_param *param = direct ? node->extra->param : NULL;
    bool few = param && param->few_rows;
    const ad_view *into = ad_into(adjoint, i, &add);
    if (!into) return NULL;
    if (!add && few) clear_rows(param);
    if (!add && !few) ad_kernels_get()->fill(into, 0);
    if (!add && param) param->rows.count = 0;
    if (param) param->few_rows = (few || !add) && remember_rows(param, index);
    return into;
}

static bool same_view(const ad_view *a, const ad_view *b) {
    return a->data == b->data && ad_same_shape(&a->shape, &b->shape) &&
           memcmp(a->stride, b->stride, (size_t)a->shape.rank * sizeof *a->stride) == 0;
}

/* The view itself becomes the gradient: possible if it is the first contribution and its memory is counted. */
static bool share(ad_adjoint *adjoint, int i, const ad_view *view, ad_tensor *owner) {
    struct ad_adjoint_private *priv = adjoint->priv;
    ad_tape *tape = priv->tape;
    uint32_t index = priv->call->priv->inputs[i];
    bool captures = priv->capture_input >= 0;
    if (priv->batch) return false;
    if (captures
            ? priv->captured != NULL
            : (ad_node_at(tape, index)->flags & (AD_NODE_INLINE | AD_NODE_DIRECT)) || ad_has_gradient(tape, index))
        return false;
    ad_tensor *shared = priv->is_flat || same_view(view, &owner->view) ? ad_tensor_ref(owner)
                                                                       : ad_pool_alias(tape->pool, owner, view);
    if (captures) priv->captured = shared;
    if (captures ? !shared : !claim(tape, index, shared)) no_memory(adjoint);
    return true;
}

void ad_contribute(ad_adjoint *adjoint, int i, const ad_view *view, ad_tensor *owner) {
    struct ad_adjoint_private *priv = adjoint->priv;
    if (priv->tape->error.status || !ad_wants(adjoint, i)) return;
    const ad_view *input = priv->call->in[i];
    char given[AD_TYPE_TEXT], expected[AD_TYPE_TEXT];
    bool same_shape = ad_same_shape(&view->shape, &input->shape);
    ad_shape common;
    bool sums = !same_shape && priv->call->op->broadcasts &&
                ad_shape_broadcast(&view->shape, &input->shape, &common) == AD_OK &&
                ad_shape_equal(&common, &view->shape);
    if (view->dtype != input->dtype || (!same_shape && !sums)) {
        ad_fail(priv->call, AD_ERR_OP, "its VJP gave input %d a contribution %s, but that input is %s", i,
                ad_type_text(view->dtype, &view->shape, given), ad_type_text(input->dtype, &input->shape, expected));
        return;
    }
    if (same_shape && owner && share(adjoint, i, view, owner)) return;
    bool add;
    const ad_view *into = ad_into(adjoint, i, &add);
    if (!into) return;
    if (sums) {
        ad_kernels_get()->sum_to(view, into, 1.0, add);
    } else {
        ad_kernels_get()->copy(view, into, 1.0, add);
    }
}

void ad_pass(ad_adjoint *adjoint, int i, int k, const ad_view *view) {
    struct ad_adjoint_private *priv = adjoint->priv;
    if (k < 0 || k >= ad_op_results(priv->call->op) || !adjoint->seed[k].data) return;
    uint32_t result = priv->first + (uint32_t)k;
    bool owned = !priv->batch && !(ad_node_at(priv->tape, result)->flags & AD_NODE_INLINE);
    ad_contribute(adjoint, i, view, owned ? ad_cotangent_at(priv->tape, result)->value.tensor : NULL);
}

void ad_give(ad_adjoint *adjoint, int i, const ad_view *view) { ad_contribute(adjoint, i, view, NULL); }

/* ---- one operation -------------------------------------------------------------------------------------------- */

/* Takes from the op's functions what it did not declare to save. */
static void hide_unsaved(ad_call *call, ad_view *hidden, const ad_view **in) {
    for (int i = 0; i < call->inputs; i++) {
        in[i] = call->in[i];
        if (ad_op_saves_input(call->op, i)) continue;
        hidden[i] = *call->in[i];
        hidden[i].data = NULL;
        in[i] = &hidden[i];
    }
    call->in = in;
    for (int k = 0; k < ad_op_results(call->op); k++)
        if (!ad_op_saves_result(call->op, k)) call->out[k].data = NULL;
}

void ad_run_backward(ad_call *call, ad_adjoint *adjoint) {
    ad_view few_hidden[AD_FEW_INPUTS], *hidden = few_hidden;
    const ad_view *few_in[AD_FEW_INPUTS], **in = few_in;
    if (call->inputs > AD_FEW_INPUTS) {
        hidden = ad_scratch(call, (size_t)call->inputs * sizeof *hidden);
        in = ad_scratch(call, (size_t)call->inputs * sizeof *in);
        if (!hidden || !in) return;
    }
    hide_unsaved(call, hidden, in);
    if (call->op->backward(call, adjoint))
        ad_fail(call, AD_ERR_OP, "its backward function failed without saying why (use ad_fail)");
}

/* Adds the VJP of the operation at node `first` to the gradients of its inputs, or captures one contribution. */
static void operation_back(ad_tape *tape, uint32_t first, uint16_t mask, int capture_input, ad_tensor **captured) {
    struct ad_call_private call_priv;
    struct ad_adjoint_private priv = {.tape = tape,
                                      .first = first,
                                      .mask = mask,
                                      .is_flat = false,
                                      .capture_input = capture_input,
                                      .captured = NULL,
                                      .batch = NULL};
    ad_call call;
    ad_adjoint adjoint;
    adjoint.priv = &priv;
    priv.call = &call;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (ad_call_of_node(tape, first, &call, &call_priv)) {
        bool wanted = false;
        for (int i = 0; i < call.inputs && !wanted; i++) wanted = ad_wants(&adjoint, i);
        for (int k = 0; k < ad_op_results(call.op) && wanted; k++) {
            uint32_t result = first + (uint32_t)k;
            if (ad_has_gradient(tape, result)) {
                const ad_view *view = ad_gradient_view(tape, result, &adjoint.seed[k]);
                if (view != &adjoint.seed[k]) adjoint.seed[k] = *view;
            } else {
                adjoint.seed[k] = call.out[k];
                adjoint.seed[k].data = NULL;
            }
        }
        if (wanted && call.op->backward) {
            ad_run_backward(&call, &adjoint);
        } else if (wanted) {
            ad_vjp_numeric(&adjoint);
        }
    }
    ad_arena_rewind(&tape->scratch, scratch);
    if (captured) {
        *captured = priv.captured;
    }
}

/* The same for an elementwise operation, if its gradient lies as its result does; false if not. */
static bool elementwise_back(ad_tape *tape, uint32_t index, uint16_t mask) {
    const ad_node *node = ad_node_at(tape, index);
    const ad_op *op = node->op;
    const ad_tensor *y = node->value.tensor, *g = ad_cotangent_at(tape, index)->value.tensor;
    const ad_dtype dtype = y->view.dtype;
    if (!op->backward || g->dense != y->dense) return false;
    struct ad_call_private call_priv;
    struct ad_adjoint_private priv;
    ad_call call;
    ad_adjoint adjoint;
    call_priv.tape = tape;
    call_priv.where = node->where;
    call_priv.inputs = node->in;
    call.op = op;
    call.attrs = node->extra ? node->extra->attrs : NULL;
    call.inputs = op->inputs;
    call.in = call_priv.view;
    call.priv = &call_priv;
    call.is_view[0] = false;
    bool wanted = false;
    for (int i = 0; i < op->inputs; i++) {
        const ad_node *x = ad_node_at(tape, node->in[i]);
        wanted |= (x->flags & mask) != 0;
        ad_call_flatten(&call, i, ad_op_saves_input(op, i) ? x->value.tensor->view.data : NULL, dtype, y->dense);
    }
    if (!wanted) return true;
    ad_view_flatten(&call.out[0], ad_op_saves_result(op, 0) ? y->view.data : NULL, dtype, y->dense);
    priv.tape = tape;
    priv.call = &call;
    priv.first = index;
    priv.mask = mask;
    priv.is_flat = true;
    priv.capture_input = -1;
    priv.batch = NULL;
    adjoint.priv = &priv;
    ad_view_flatten(&adjoint.seed[0], g->view.data, dtype, g->dense);
    uint64_t scratch = ad_arena_position(&tape->scratch);
    if (op->backward(&call, &adjoint))
        ad_fail(&call, AD_ERR_OP, "its backward function failed without saying why (use ad_fail)");
    ad_arena_rewind(&tape->scratch, scratch);
    return true;
}

/* The same by the op's rule for neighbours, which needs no views. */
static bool flat_back(ad_tape *tape, uint32_t index, uint16_t mask) {
    const ad_node *node = ad_node_at(tape, index);
    const ad_op *op = node->op;
    const ad_tensor *y = node->value.tensor;
    ad_tensor *g = ad_cotangent_at(tape, index)->value.tensor;
    const void *seen[2] = {g->view.data, g->view.data}, *result = g->view.data;
    if (g->dense != y->dense) return false;
    for (int i = 0; i < op->inputs; i++)
        if (ad_op_saves_input(op, i)) seen[i] = ad_node_at(tape, node->in[i])->value.tensor->view.data;
    if (ad_op_saves_result(op, 0)) result = y->view.data;
    for (int i = 0; i < op->inputs; i++) {
        const uint32_t in = node->in[i];
        const uint16_t flags = ad_node_at(tape, in)->flags;
        bool add, done;
        if (!(flags & mask)) continue;
        if (op == &ad_op_add && !(flags & (AD_NODE_INLINE | AD_NODE_DIRECT)) && !ad_has_gradient(tape, in)) {
            done = claim(tape, in, ad_tensor_ref(g)); /* the seed itself: nothing is copied */
        } else if ((done = open_gradient(tape, in, &add))) {
            op->flat->adjoint(y->view.dtype, y->dense, i, g->view.data, seen[0], seen[1], result,
                              ad_cotangent_at(tape, in)->value.tensor->view.data, add);
        }
        if (!done) {
            no_memory_at(tape, op, node->where);
            return true;
        }
    }
    return true;
}

static inline void add_scalar(const ad_tape *tape, uint32_t index, uint16_t mask, double g) {
    if (!(ad_node_at(tape, index)->flags & mask)) return;
    ad_cotangent *grad = ad_cotangent_at(tape, index);
    if (grad->pass == tape->pass) {
        grad->value.f64 += g;
    } else {
        *grad = (ad_cotangent){.value = {.f64 = g}, .pass = tape->pass, .state = 0};
    }
}

/* Sums and products, of which most scalar code is made, save themselves the call; no product is 0 times infinity. */
static inline ad_pair scalar_back(const ad_tape *tape, const ad_node *node, double g) {
    if (node->op == &ad_op_add) return (ad_pair){g, g};
    if (node->op == &ad_op_mul && g != 0)
        return (ad_pair){g * ad_node_at(tape, node->in[1])->value.f64, g * ad_node_at(tape, node->in[0])->value.f64};
    const double *attrs = node->extra ? node->extra->attrs : NULL;
    return node->op->scalar->adjoint(g, ad_node_at(tape, node->in[0])->value.f64,
                                     ad_node_at(tape, node->in[1])->value.f64, node->value.f64, attrs);
}

static void give_back(ad_tape *tape, uint32_t index) {
    if (ad_node_at(tape, index)->flags & (AD_NODE_INLINE | AD_NODE_ASKED)) return;
    ad_cotangent *grad = ad_cotangent_at(tape, index);
    ad_tensor_unref(grad->value.tensor);
    grad->value.tensor = NULL;
    grad->state |= AD_GRAD_GIVEN_BACK;
}

static inline void either_back(ad_tape *tape, uint32_t index, uint16_t mask) {
    const ad_node *node = ad_node_at(tape, index);
    const bool is_flat = (node->flags & AD_NODE_FLAT) && !tape->numbers;
    if (is_flat && node->op->flat && flat_back(tape, index, mask)) return;
    if (!is_flat || !elementwise_back(tape, index, mask)) operation_back(tape, index, mask, -1, NULL);
}

/* What a VJP or a function that runs again records counts as the operation's own time. */
static void timed_back(ad_tape *tape, uint32_t index, uint16_t mask) {
    struct ad_profile *profile = tape->profile;
    int64_t start = ad_profile_now(profile);
    tape->profile = NULL;
    either_back(tape, index, mask);
    tape->profile = profile;
    if (!tape->error.status) ad_profile_operation(tape, profile, true, index, start);
}

/* Everything that adds to it has been walked: hooks may see the gradient, and change it. */
static bool show_gradient(ad_tape *tape, uint32_t index) {
    bool add;
    ad_view scratch;
    if (open_gradient(tape, index, &add)) return ad_hooks_run(tape, index, ad_gradient_view(tape, index, &scratch));
    ad_tape_out_of_memory(tape, "ad_on_gradient", ad_node_at(tape, index)->where);
    return false;
}

/* From the node before `end` down to `first`. */
static void walk_back(ad_tape *tape, uint32_t first, uint32_t end, uint16_t mask, bool leaves_only) {
    const uint32_t pass = tape->pass, none = UINT32_MAX;
    const uint16_t fast = ad_tape_looks_at_each(tape) ? 0 : AD_NODE_FAST;
    uint32_t pending = none; /* node of result 0 of an operation of which only another result has a gradient */
    const bool zeros_stop = tape->zeros_stop;
    for (uint32_t index = end; index-- > first;) {
        const ad_cotangent *grad = ad_cotangent_at(tape, index);
        if (grad->pass != pass && index != pending) continue;
        const ad_node *node = ad_node_at(tape, index);
        AD_PREFETCH(node, -AD_NODES_AHEAD);
        AD_PREFETCH(grad, -AD_NODES_AHEAD);
        if (node->flags & fast) {
            if (zeros_stop && grad->value.f64 == 0) continue;
            ad_pair back = scalar_back(tape, node, grad->value.f64);
            add_scalar(tape, node->in[0], mask, back.a);
            if (node->inputs == 2) add_scalar(tape, node->in[1], mask, back.b);
            continue;
        }
        if (grad->pass == pass && (grad->state & AD_GRAD_IN_PART)) complete_gradient(tape, index);
        if ((node->flags & AD_NODE_HOOKED) && grad->pass == pass && !show_gradient(tape, index)) return;
        if (node->op == &ad_result_of) {
            pending = node->in[0];
            continue;
        }
        if (ad_node_is_leaf(node)) continue;
        if (tape->profile) {
            timed_back(tape, index, mask);
        } else {
            either_back(tape, index, mask);
        }
        if (tape->error.status || (tape->numbers && !ad_numbers_in_gradients(tape, index))) return;
        pending = none;
        if (!leaves_only) continue;
        for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op); k++) {
            if (ad_has_gradient(tape, index + k)) give_back(tape, index + k);
        }
    }
}

/* ---- nodes that come and go during a pass ------------------------------------------------------------------------ */

size_t ad_pass_extend(ad_tape *tape, uint32_t first, uint16_t mask) {
    for (uint32_t index = first; index < tape->count; index++) {
        ad_node *node = ad_node_at(tape, index);
        ad_cotangent_at(tape, index)->pass = 0;
        if (mask != AD_NODE_WANTED || !(node->flags & AD_NODE_GRAD)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            node->flags |= ad_node_at(tape, in[i])->flags & AD_NODE_WANTED;
    }
    tape->pass_nodes = tape->count;
    return tape->graded.count;
}

bool ad_pass_give(ad_tape *tape, uint32_t index, uint16_t mask, const ad_slot *gradient) {
    const ad_node *node = ad_node_at(tape, index);
    bool add, is_inline = node->flags & AD_NODE_INLINE;
    if (!(node->flags & mask)) return true;
    if (!(node->flags & (AD_NODE_INLINE | AD_NODE_DIRECT)) && !ad_has_gradient(tape, index))
        return claim(tape, index, ad_tensor_ref(gradient->tensor));
    if (!open_gradient(tape, index, &add)) return false;
    ad_view from, into;
    ad_kernels_get()->copy(ad_slot_view(gradient, is_inline, (ad_dtype)node->dtype, &from),
                           ad_gradient_view(tape, index, &into), 1.0, add);
    return true;
}

void ad_pass_walk(ad_tape *tape, uint32_t first, uint16_t mask) { walk_back(tape, first, tape->count, mask, true); }

/* ---- parameters ------------------------------------------------------------------------------------------------ */

const ad_node *ad_memory_of(const ad_tape *tape, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    while (node->flags & AD_NODE_VIEW) {
        if (ad_node_result(node) > 0) node = ad_node_at(tape, node->in[0]);
        node = ad_node_at(tape, ad_node_inputs(node)[0]);
    }
    return node;
}

static bool is_changed(const ad_node *node) {
    return node->op == &ad_leaf_parameter && !(node->flags & AD_NODE_INLINE) &&
           node->extra->param->version != node->extra->param_version;
}

/* The leaf of a parameter that was changed, and whose old value that derivative would read; NULL: none. */
static const ad_node *changed_leaf(const ad_tape *tape, uint32_t index, uint32_t saves) {
    const ad_node *node = ad_node_at(tape, index), *memory = NULL;
    for (int i = 0; i < ad_node_input_count(node); i++)
        if ((saves & AD_SAVES_INPUT(i)) && is_changed(memory = ad_memory_of(tape, ad_node_inputs(node)[i])))
            return memory;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op); k++)
        if ((saves & AD_SAVES_RESULT(k)) && is_changed(memory = ad_memory_of(tape, index + k))) return memory;
    return NULL;
}

bool ad_check_unchanged(ad_tape *tape, uint32_t index, uint32_t saves, const char *subject, const char *where) {
    const ad_node *leaf = changed_leaf(tape, index, saves);
    if (!leaf) return true;
    ad_tape_fail(tape, AD_ERR_CHANGED, subject, where,
                 "parameter %s was changed after %s (node %u) used it: its derivative needs the old value; take the "
                 "optimiser's step after the backward pass",
                 leaf->extra->param->name, ad_node_at(tape, index)->op->name, index);
    return false;
}

/* Refuses to walk if an operation on the way would read a parameter that was changed since. Costs nothing unless one
 * was changed. */
static bool check_unchanged(ad_tape *tape, uint32_t y, uint16_t mask, const char *where) {
    bool any = false;
    for (size_t i = 0; i < tape->params.count && tape->params.item[i] <= y; i++)
        any |= is_changed(ad_node_at(tape, tape->params.item[i]));
    if (!any) return true;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    uint8_t *reached = ad_arena_take(&tape->scratch, (size_t)y + 1);
    if (!reached) {
        ad_tape_out_of_memory(tape, "ad_backward", where);
        return false;
    }
    memset(reached, 0, (size_t)y + 1);
    reached[y] = 1;
    bool ok = true;
    for (uint32_t index = y + 1; index-- > 0 && ok;) {
        const ad_node *node = ad_node_at(tape, index);
        if (!reached[index] || ad_node_is_leaf(node)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (ad_node_at(tape, in[i])->flags & mask) reached[in[i]] = 1;
        ok = ad_check_unchanged(tape, index, node->op->saves, "ad_backward", where);
    }
    ad_arena_rewind(&tape->scratch, scratch);
    return ok;
}

/* Before the walk: lets each parameter's gradient be written directly by its only leaf. */
static bool open_params(ad_tape *tape, uint16_t mask, bool accumulate, const char *where) {
    for (size_t i = 0; i < tape->params.count; i++) {
        const ad_node *node = ad_node_at(tape, tape->params.item[i]);
        ad_param *param = node->extra->param;
        param->claimed = false;
        if (accumulate && (node->flags & mask) && param->incomplete) {
            ad_tape_fail(
                tape, AD_ERR_NOGRAD, "ad_backward", where,
                "the gradient of parameter %s is incomplete: the backward pass that wrote it failed; run one "
                "without .accumulate first",
                param->name);
            return false;
        }
    }
    for (size_t i = 0; i < tape->params.count; i++) {
        uint32_t index = tape->params.item[i];
        ad_node *node = ad_node_at(tape, index);
        ad_param *param = node->extra->param;
        node->flags &= (uint16_t)~AD_NODE_DIRECT;
        if (!(node->flags & mask)) continue;
        if (param->claimed) {
            ad_node_at(tape, param->first_leaf)->flags &= (uint16_t)~AD_NODE_DIRECT;
            continue;
        }
        param->claimed = true;
        param->first_leaf = index;
        param->written = false;
        if (accumulate) continue;
        param->incomplete = true;
        if (!(node->flags & AD_NODE_INLINE)) node->flags |= AD_NODE_DIRECT;
    }
    return true;
}

static void clear_gradient(ad_param *param) {
    if (param->few_rows)
        clear_rows(param);
    else
        ad_kernels_get()->fill(&param->grad->view, 0.0);
    param->rows.count = 0;
    param->few_rows = param->grad->view.shape.rank > 0 && param->grad->view.shape.dim[0] > 0;
}

/* After the walk: what could not be written directly; from here on nothing fails. */
static void close_params(ad_tape *tape, uint16_t mask, bool accumulate) {
    const ad_kernels *kernels = ad_kernels_get();
    for (size_t i = 0; i < tape->params.count; i++) {
        uint32_t index = tape->params.item[i];
        const ad_node *node = ad_node_at(tape, index);
        if (!(node->flags & mask)) continue;
        ad_param *param = node->extra->param;
        ad_view scratch;
        bool add = accumulate || param->written;
        if (ad_has_gradient(tape, index)) {
            if (!(node->flags & AD_NODE_DIRECT)) {
                kernels->copy(ad_gradient_view(tape, index, &scratch), &param->grad->view, 1.0, add);
                param->few_rows = false;
            }
        } else if (!add) {
            clear_gradient(param);
        }
        param->written = true;
        param->incomplete = false;
    }
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

bool ad_check_start(ad_var y, ad_var seed, const char *subject, const char *where) {
    if (!ad_check_var(y, subject, where)) return false;
    ad_tape *tape = y.tape;
    const ad_node *node = ad_node_at(tape, y.index);
    char text[AD_TYPE_TEXT + 128], type[AD_TYPE_TEXT];
    if (!ad_dtype_is_float((ad_dtype)node->dtype)) {
        ad_node_text(tape, y.index, true, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_NOGRAD, subject, where, "%s: integers have no derivative", text);
        return false;
    }
    ad_shape shape = ad_node_shape(node);
    if (!seed.tape) {
        if (ad_shape_count(&shape) == 1) return true;
        ad_node_text(tape, y.index, true, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_SHAPE, subject, where,
                     "%s, not a single number: reduce it with ad_sum or ad_mean, or give a seed of its shape", text);
        return false;
    }
    if (!ad_tape_check_var(tape, seed, subject, where, "the seed")) return false;
    const ad_node *given = ad_node_at(tape, seed.index);
    ad_shape given_shape = ad_node_shape(given);
    if (given->dtype == node->dtype && ad_shape_equal(&given_shape, &shape)) return true;
    ad_node_text(tape, y.index, true, text, sizeof text);
    ad_tape_fail(tape, given->dtype == node->dtype ? AD_ERR_SHAPE : AD_ERR_DTYPE, subject, where,
                 "the seed is %s, but %s: they must be of one type",
                 ad_type_text((ad_dtype)given->dtype, &given_shape, type), text);
    return false;
}

/* Marks what lies on the way to the nodes that were asked for. */
static bool mark_wanted(ad_tape *tape, uint32_t y, const ad_backward_options *options, const char *where) {
    for (int i = 0; i < options->wrt_count; i++) {
        if (!ad_tape_check_var(tape, options->wrt[i], "ad_backward", where, "one of .wrt")) return false;
        ad_node *node = ad_node_at(tape, options->wrt[i].index);
        if (!(node->flags & AD_NODE_GRAD)) {
            char text[AD_TYPE_TEXT + 128];
            ad_node_text(tape, options->wrt[i].index, true, text, sizeof text);
            ad_tape_fail(tape, AD_ERR_NOGRAD, "ad_backward", where,
                         "%s, one of .wrt, has no gradient: it does not depend on a leaf that gets one", text);
            return false;
        }
    }
    tape->pass_has_wrt = true;
    for (int i = 0; i < options->wrt_count; i++)
        ad_node_at(tape, options->wrt[i].index)->flags |= AD_NODE_ASKED | AD_NODE_WANTED;
    for (uint32_t index = 0; index <= y; index++) {
        ad_node *node = ad_node_at(tape, index);
        if (!(node->flags & AD_NODE_GRAD)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            node->flags |= ad_node_at(tape, in[i])->flags & AD_NODE_WANTED;
    }
    return true;
}

static void forget_last_pass(ad_tape *tape) {
    tape->stripes = 0;
    ad_tape_drop_gradients(tape);
    if (tape->pass_has_wrt)
        for (uint32_t i = 0; i < tape->count; i++)
            ad_node_at(tape, i)->flags &= (uint16_t) ~(AD_NODE_ASKED | AD_NODE_WANTED);
    tape->pass_has_wrt = false;
    if (++tape->pass == 0) {
        /* The numbers start again: old ones must not be taken for new ones. */
        for (uint32_t i = 0; i < tape->chunks; i++) memset(tape->chunk[i]->grad, 0, sizeof tape->chunk[i]->grad);
        tape->pass = 1;
    }
}

static uint16_t mask_of(const ad_backward_options *options) { return options->wrt ? AD_NODE_WANTED : AD_NODE_GRAD; }

bool ad_pass_begin(ad_tape *tape, uint32_t y, const ad_backward_options *options, const char *where) {
    ad_tape_watch_growth(tape);
    forget_last_pass(tape);
    if (options->wrt && !mark_wanted(tape, y, options, where)) return false;
    if (!check_unchanged(tape, y, mask_of(options), where)) return false;
    tape->pass_nodes = tape->count;
    tape->pass_start = y;
    return true;
}

/* Puts the seed, or 1, into y's gradient. */
static bool start_at(ad_tape *tape, uint32_t y, uint16_t mask, ad_var seed) {
    ad_view scratch, seed_scratch;
    bool add;
    const ad_node *given = seed.tape ? ad_node_at(tape, seed.index) : NULL;
    /* Gradients may share the seed's memory, but not that of a parameter, which may be changed later. */
    if (given && ad_memory_of(tape, seed.index)->op != &ad_leaf_parameter) {
        if (!ad_pass_give(tape, y, mask, &given->value)) return false;
    } else {
        if (!open_gradient(tape, y, &add)) return false;
        const ad_view *into = ad_gradient_view(tape, y, &scratch);
        if (given) {
            ad_kernels_get()->copy(ad_node_view(given, &seed_scratch), into, 1.0, false);
        } else {
            ad_kernels_get()->fill(into, 1.0);
        }
    }
    ad_cotangent_at(tape, y)->state |= AD_GRAD_SEED;
    return true;
}

ad_status ad_backward_with_at(const char *where, ad_var y, const ad_backward_options *options) {
    static const ad_backward_options none;
    if (!options) options = &none;
    if (!ad_check_start(y, options->seed, "ad_backward", where)) return y.tape ? y.tape->error.status : AD_ERR_HANDLE;
    ad_tape *tape = y.tape;
    if (tape->in_hook)
        return ad_tape_fail(tape, AD_ERR_VALUE, "ad_backward", where,
                            "a function given to ad_on_gradient cannot walk back, as it runs in a walk itself");
    if (tape->frame)
        return ad_tape_fail(tape, AD_ERR_VALUE, "ad_backward", where,
                            "a function given to ad_checkpoint cannot walk back, as it runs in a walk itself: record "
                            "the gradient with ad_grad, or walk back outside");
    if (options->wrt_count < 0 || (options->wrt_count > 0 && !options->wrt))
        return ad_tape_fail(tape, AD_ERR_VALUE, "ad_backward", where, ".wrt_count is %d, .wrt is %s",
                            options->wrt_count, options->wrt ? "set" : "NULL");
    if (!ad_pass_begin(tape, y.index, options, where)) return tape->error.status;
    uint16_t mask = mask_of(options);
    if (!open_params(tape, mask, options->accumulate, where)) return tape->error.status;
    if ((ad_node_at(tape, y.index)->flags & mask) && !start_at(tape, y.index, mask, options->seed))
        return ad_tape_out_of_memory(tape, "ad_backward", where);
    int64_t start = tape->profile ? ad_profile_now(tape->profile) : 0;
    walk_back(tape, 0, y.index + 1, mask, options->leaves_only);
    if (tape->error.status) return tape->error.status;
    if (tape->profile) ad_profile_pass(tape->profile, where, y.index, start);
    close_params(tape, mask, options->accumulate);
    return AD_OK;
}

ad_status ad_backward_at(const char *where, ad_var y) { return ad_backward_with_at(where, y, NULL); }

/* ---- contributions ------------------------------------------------------------------------------------------------ */

/* One contribution of a scalar operation, as a tensor. */
static ad_tensor *scalar_contribution(ad_tape *tape, uint32_t consumer, int input) {
    const ad_node *node = ad_node_at(tape, consumer);
    ad_shape shape = AD_SCALAR;
    ad_tensor *tensor = ad_pool_tensor(tape->pool, AD_F64, &shape);
    if (!tensor) {
        ad_tape_out_of_memory(tape, "ad_tape_contribution", node->where);
        return NULL;
    }
    ad_pair back = scalar_back(tape, node, ad_cotangent_at(tape, consumer)->value.f64);
    *(double *)tensor->view.data = input == 0 ? back.a : back.b;
    return tensor;
}

/* The last pass left a gradient there (zeros made for somebody who looked do not count), and it is still there. */
static bool keeps_gradient(const ad_tape *tape, uint32_t index) {
    return ad_has_gradient(tape, index) && ad_pass_reached(tape, index);
}

/* Whether the pass went through the operation at `consumer` to that input, and its gradient is still there. */
static bool can_contribute(const ad_tape *tape, uint32_t consumer, int input) {
    const ad_node *node = ad_node_at(tape, consumer);
    if (ad_node_is_leaf(node) || node->op == &ad_result_of || !keeps_gradient(tape, ad_node_inputs(node)[input]))
        return false;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(node->op); k++)
        if (keeps_gradient(tape, consumer + k)) return true;
    return false;
}

ad_status ad_tape_contribution(ad_tape *tape, int64_t consumer, int input, ad_tensor **out) {
    if (out) *out = NULL;
    if (!tape || !out) return AD_ERR_NULL;
    if (consumer < 0 || consumer >= tape->count || input < 0) return AD_ERR_INDEX;
    const ad_node *node = ad_node_at(tape, (uint32_t)consumer);
    if (input >= ad_node_input_count(node)) return AD_ERR_INDEX;
    if (!can_contribute(tape, (uint32_t)consumer, input)) return AD_OK;
    ad_error_scope scope;
    ad_error_scope_begin(&scope, tape);
    if (node->flags & AD_NODE_FAST) {
        *out = scalar_contribution(tape, (uint32_t)consumer, input);
    } else if (ad_check_unchanged(tape, (uint32_t)consumer, node->op->saves, "ad_tape_contribution", node->where)) {
        operation_back(tape, (uint32_t)consumer, 0, input, out);
    }
    ad_status status = ad_error_scope_end(&scope, tape);
    if (status) {
        ad_tensor_unref(*out);
        *out = NULL;
    }
    return status;
}

/* ---- local Jacobians ---------------------------------------------------------------------------------------------- */

/* What passes left at the results of one operation, while unit vectors stand in its place. */
typedef struct stand_in {
    uint32_t first, pass, pass_nodes;
    ad_cotangent kept[AD_MAX_RESULTS];
} stand_in;

static void begin_stand_in(stand_in *s, ad_tape *tape, uint32_t first) {
    *s = (stand_in){.first = first, .pass = tape->pass, .pass_nodes = tape->pass_nodes};
    tape->pass = tape->pass ? tape->pass : 1;
    tape->pass_nodes = tape->count;
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(ad_node_at(tape, first)->op); k++) {
        s->kept[k] = *ad_cotangent_at(tape, first + k);
        *ad_cotangent_at(tape, first + k) = (ad_cotangent){.pass = 0};
    }
}

static void end_stand_in(const stand_in *s, ad_tape *tape) {
    for (uint32_t k = 0; k < (uint32_t)ad_op_results(ad_node_at(tape, s->first)->op); k++)
        *ad_cotangent_at(tape, s->first + k) = s->kept[k];
    tape->pass = s->pass;
    tape->pass_nodes = s->pass_nodes;
}

/* Makes the gradient of the result at `index` 1 at one element and 0 elsewhere. */
static bool put_unit(ad_tape *tape, uint32_t index, int64_t element) {
    const ad_node *node = ad_node_at(tape, index);
    ad_dtype dtype = (ad_dtype)node->dtype;
    ad_cotangent *gradient = ad_cotangent_at(tape, index);
    ad_shape shape = ad_node_shape(node);
    ad_view scratch;
    *gradient = (ad_cotangent){.pass = tape->pass};
    if (!(node->flags & AD_NODE_INLINE)) {
        gradient->value.tensor = ad_pool_tensor(tape->pool, dtype, &shape);
        if (!gradient->value.tensor) return false;
        ad_kernels_get()->fill(&gradient->value.tensor->view, 0.0);
    }
    char *data = ad_gradient_view(tape, index, &scratch)->data;
    ad_element_set(data + element * (int64_t)ad_dtype_size(dtype), dtype, 1.0);
    return true;
}

/* Row number `element`: the contribution to the input when only that element of the result has a gradient. */
static void put_row(ad_tape *tape, uint32_t first, uint32_t index, int64_t element, int input, const ad_view *row) {
    ad_tensor *given = NULL;
    if (put_unit(tape, index, element)) {
        operation_back(tape, first, 0, input, &given);
        if (!(ad_node_at(tape, index)->flags & AD_NODE_INLINE))
            ad_tensor_unref(ad_cotangent_at(tape, index)->value.tensor);
    } else {
        ad_tape_out_of_memory(tape, "ad_tape_local_jacobian", ad_node_at(tape, index)->where);
    }
    if (given) ad_kernels_get()->copy(&given->view, row, 1.0, false);
    ad_tensor_unref(given);
}

/* One element of the contribution to an input; NaN if there is none. */
static double contribution_at(ad_tape *tape, uint32_t index, int input, int64_t element) {
    ad_tensor *given = NULL;
    operation_back(tape, index, 0, input, &given);
    double value = given ? ad_view_get(&given->view, element) : NAN;
    ad_tensor_unref(given);
    return value;
}

double ad_local_contribution(ad_tape *tape, uint32_t index, int input, int64_t element) {
    ad_error_scope scope;
    ad_error_scope_begin(&scope, tape);
    double value = contribution_at(tape, index, input, element);
    return ad_error_scope_end(&scope, tape) ? NAN : value;
}

double ad_local_slope(ad_tape *tape, uint32_t index, int input, int64_t element) {
    ad_error_scope scope;
    stand_in s;
    double slope = NAN;
    ad_error_scope_begin(&scope, tape);
    begin_stand_in(&s, tape, index);
    if (put_unit(tape, index, element)) {
        slope = contribution_at(tape, index, input, element);
        if (!(ad_node_at(tape, index)->flags & AD_NODE_INLINE))
            ad_tensor_unref(ad_cotangent_at(tape, index)->value.tensor);
    }
    end_stand_in(&s, tape);
    return ad_error_scope_end(&scope, tape) ? NAN : slope;
}

static ad_tensor *local_jacobian(ad_tape *tape, uint32_t first, uint32_t index, int input) {
    const ad_node *node = ad_node_at(tape, ad_node_inputs(ad_node_at(tape, first))[input]);
    ad_shape from = ad_node_shape(node), to = ad_node_shape(ad_node_at(tape, index));
    ad_shape shape = AD_SHAPE(ad_shape_count(&to), ad_shape_count(&from));
    ad_tensor *tensor = ad_shape_count(&shape) < 0 ? NULL : ad_pool_tensor(tape->pool, (ad_dtype)node->dtype, &shape);
    if (!tensor) {
        ad_tape_out_of_memory(tape, "ad_tape_local_jacobian", ad_node_at(tape, index)->where);
        return NULL;
    }
    ad_kernels_get()->fill(&tensor->view, 0.0);
    stand_in s;
    begin_stand_in(&s, tape, first);
    for (int64_t i = 0; i < shape.dim[0] && !tape->error.status; i++) {
        char *data = (char *)tensor->view.data + i * shape.dim[1] * (int64_t)ad_dtype_size(tensor->view.dtype);
        ad_view row = ad_view_of(data, tensor->view.dtype, from);
        put_row(tape, first, index, i, input, &row);
    }
    end_stand_in(&s, tape);
    return tensor;
}

ad_status ad_tape_local_jacobian(ad_tape *tape, int64_t index, int input, ad_tensor **out) {
    if (out) *out = NULL;
    if (!tape || !out) return AD_ERR_NULL;
    if (index < 0 || index >= tape->count || input < 0) return AD_ERR_INDEX;
    const ad_node *node = ad_node_at(tape, (uint32_t)index);
    uint32_t first = (uint32_t)index;
    if (node->op == &ad_result_of) node = ad_node_at(tape, first = node->in[0]);
    if (input >= ad_node_input_count(node)) return AD_ERR_INDEX;
    if (node->op->derivative != AD_DIFFERENTIABLE ||
        !ad_dtype_is_float((ad_dtype)ad_node_at(tape, (uint32_t)index)->dtype) ||
        !ad_dtype_is_float((ad_dtype)ad_node_at(tape, ad_node_inputs(node)[input])->dtype))
        return AD_OK;
    ad_error_scope scope;
    ad_error_scope_begin(&scope, tape);
    if (ad_check_unchanged(tape, first, node->op->saves, "ad_tape_local_jacobian", node->where))
        *out = local_jacobian(tape, first, (uint32_t)index, input);
    ad_status status = ad_error_scope_end(&scope, tape);
    if (status) {
        ad_tensor_unref(*out);
        *out = NULL;
    }
    return status;
}
