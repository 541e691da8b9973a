/* Reading values, gradients and nodes. */
#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <string.h>

/* ---- values ------------------------------------------------------------------------------------------------- */

static ad_view no_view(void) { return (ad_view){.data = NULL, .dtype = AD_F64, .shape = AD_SCALAR}; }

ad_view ad_value_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_value", where)) return no_view();
    ad_view scratch = no_view();
    return *ad_node_view(ad_node_at(x.tape, x.index), &scratch);
}

/* The element of a view of one, or NaN and an error. */
static double only_element(ad_var x, const ad_view *view, const char *subject, const char *where) {
    if (!view->data && x.tape->error.status) return NAN;
    if (ad_view_count(view) == 1) return ad_view_get(view, 0);
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(x.tape, x.index, true, text, sizeof text);
    ad_tape_fail(x.tape, AD_ERR_SHAPE, subject, where, "%s, not a single number", text);
    return NAN;
}

double ad_item_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_item", where)) return NAN;
    ad_view scratch = no_view();
    return only_element(x, ad_node_view(ad_node_at(x.tape, x.index), &scratch), "ad_item", where);
}

ad_tensor *ad_tensor_of_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_tensor_of", where)) return NULL;
    ad_node *node = ad_node_at(x.tape, x.index);
    if (!(node->flags & AD_NODE_INLINE)) return ad_tensor_ref(node->value.tensor);
    ad_shape shape = AD_SCALAR;
    ad_tensor *tensor = ad_pool_tensor(x.tape->pool, (ad_dtype)node->dtype, &shape);
    if (tensor) {
        memcpy(tensor->view.data, &node->value, ad_dtype_size((ad_dtype)node->dtype));
    } else {
        ad_tape_out_of_memory(x.tape, "ad_tensor_of", where);
    }
    return tensor;
}

/* ---- gradients ------------------------------------------------------------------------------------------------ */

/* Gives a node that the pass did not reach a gradient of zeros. */
static bool make_zeros(ad_tape *tape, uint32_t index, ad_node *node) {
    if (!(node->flags & AD_NODE_INLINE)) {
        const ad_view *value = &node->value.tensor->view;
        if (!ad_list_reserve(&tape->graded, tape->allocator, 1)) return false;
        node->grad.tensor = ad_pool_tensor(tape->pool, value->dtype, &value->shape);
        if (!node->grad.tensor) return false;
        ad_list_push(&tape->graded, index);
    }
    node->pass = tape->pass;
    node->flags = (uint16_t)((node->flags & ~AD_NODE_PASS_STATE) | AD_NODE_UNREACHED);
    ad_view scratch;
    ad_kernels_get()->fill(ad_node_gradient(node, &scratch), 0.0);
    return true;
}

/* A gradient that was passed on without a copy may be strided: people index it as row-major. */
static bool make_row_major(ad_tape *tape, ad_node *node) {
    ad_tensor *old = node->grad.tensor;
    if ((node->flags & AD_NODE_INLINE) || ad_view_is_contiguous(&old->view)) return true;
    ad_tensor *dense = ad_pool_tensor(tape->pool, old->view.dtype, &old->view.shape);
    if (!dense) return false;
    ad_kernels_get()->copy(&old->view, &dense->view, 1.0, false);
    ad_tensor_unref(old);
    node->grad.tensor = dense;
    return true;
}

static const char *why_no_gradient(const ad_tape *tape, const ad_node *node) {
    if (!ad_dtype_is_float((ad_dtype)node->dtype)) return "integers have no gradient";
    if (!(node->flags & AD_NODE_GRAD))
        return node->op == &ad_leaf_constant ? "it is a constant: make it an ad_leaf to get its gradient"
                                             : "it does not depend on a leaf that gets a gradient";
    if (tape->pass_end == 0) return "there was no backward pass since it was recorded: call ad_backward first";
    if (node->pass == tape->pass && (node->flags & AD_NODE_GIVEN_BACK))
        return "the last backward pass gave it back (.leaves_only): name it in .wrt to keep it";
    if (node->pass != tape->pass && tape->pass_has_wrt && !(node->flags & AD_NODE_ASKED))
        return "the last backward pass was asked for others: name it in .wrt";
    return NULL;
}

ad_view ad_gradient_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_gradient", where)) return no_view();
    ad_tape *tape = x.tape;
    ad_node *node = ad_node_at(tape, x.index);
    const char *reason = why_no_gradient(tape, node);
    if (reason) {
        char text[128];
        ad_node_text(tape, x.index, false, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_NOGRAD, "ad_gradient", where, "%s: %s", text, reason);
        return no_view();
    }
    if (!(ad_node_has_gradient(tape, node) ? make_row_major(tape, node) : make_zeros(tape, x.index, node))) {
        ad_tape_out_of_memory(tape, "ad_gradient", where);
        return no_view();
    }
    ad_view scratch = no_view();
    return *ad_node_gradient(node, &scratch);
}

double ad_gradient_item_at(const char *where, ad_var x) {
    ad_view gradient = ad_gradient_at(where, x);
    return gradient.data ? only_element(x, &gradient, "ad_gradient_item", where) : NAN;
}

bool ad_gradient_reached(ad_var x) {
    if (!ad_var_is_valid(x) || x.tape->pass_end == 0) return false;
    const ad_node *node = ad_node_at(x.tape, x.index);
    return node->pass == x.tape->pass && !(node->flags & AD_NODE_UNREACHED);
}

/* ---- nodes ------------------------------------------------------------------------------------------------------ */

ad_var ad_tape_var(ad_tape *tape, int64_t index) {
    if (!tape || index < 0 || index >= tape->count) return ad_var_invalid(tape);
    return ad_var_of(tape, (uint32_t)index);
}

ad_status ad_tape_node(const ad_tape *tape, int64_t index, ad_node_info *info) {
    if (!tape || !info) return AD_ERR_NULL;
    if (index < 0 || index >= tape->count) return AD_ERR_INDEX;
    const ad_node *node = ad_node_at(tape, (uint32_t)index);
    const ad_extra *extra = node->extra;
    bool same_pass = tape->pass_end != 0 && node->pass == tape->pass;
    ad_view scratch = no_view();
    *info = (ad_node_info){
        .index = index,
        .op = node->op,
        .attrs = extra ? extra->attrs : NULL,
        .name = extra && extra->name ? extra->name : "",
        .scope = node->scope ? tape->scopes[node->scope].path : "",
        .where = node->where,
        .inputs = ad_node_input_count(node),
        .input = ad_node_inputs(node),
        .result = ad_node_result(node),
        .value = *ad_node_view(node, &scratch),
        .is_view = node->flags & AD_NODE_VIEW,
        .needs_gradient = node->flags & AD_NODE_GRAD,
        .has_gradient = ad_node_has_gradient(tape, node) && ((node->flags & AD_NODE_INLINE) || node->grad.tensor),
        .reached = same_pass && !(node->flags & AD_NODE_UNREACHED),
        .is_seed = same_pass && (node->flags & AD_NODE_SEED),
        .param = extra ? extra->param : NULL,
    };
    if (info->has_gradient) info->gradient = *ad_node_gradient(node, &scratch);
    return AD_OK;
}
