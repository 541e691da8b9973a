/* Reading values and gradients. */
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
static bool make_zeros(ad_tape *tape, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    ad_cotangent grad = {.pass = tape->pass, .state = AD_GRAD_UNREACHED};
    if (!(node->flags & AD_NODE_INLINE)) {
        const ad_view *value = &node->value.tensor->view;
        if (!ad_list_reserve(&tape->graded, tape->allocator, 1)) return false;
        grad.value.tensor = ad_pool_tensor(tape->pool, value->dtype, &value->shape);
        if (!grad.value.tensor) return false;
        ad_list_push(&tape->graded, index);
    }
    *ad_cotangent_at(tape, index) = grad;
    ad_view scratch;
    ad_kernels_get()->fill(ad_gradient_view(tape, index, &scratch), 0.0);
    return true;
}

/* A gradient that was passed on without a copy may be strided: people index it as row-major. */
static bool make_row_major(ad_tape *tape, uint32_t index) {
    if (ad_node_at(tape, index)->flags & AD_NODE_INLINE) return true;
    ad_tensor *old = ad_cotangent_at(tape, index)->value.tensor;
    if (ad_view_is_contiguous(&old->view)) return true;
    ad_tensor *dense = ad_pool_tensor(tape->pool, old->view.dtype, &old->view.shape);
    if (!dense) return false;
    ad_kernels_get()->copy(&old->view, &dense->view, 1.0, false);
    ad_tensor_unref(old);
    ad_cotangent_at(tape, index)->value.tensor = dense;
    return true;
}

static const char *why_no_gradient(const ad_tape *tape, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    if (!ad_dtype_is_float((ad_dtype)node->dtype)) return "integers have no gradient";
    if (!(node->flags & AD_NODE_GRAD))
        return node->op == &ad_leaf_constant ? "it is a constant: make it an ad_leaf to get its gradient"
                                             : "it does not depend on a leaf that gets a gradient";
    if (index >= tape->pass_nodes) return "there was no backward pass since it was recorded: call ad_backward first";
    if (ad_pass_came_by(tape, index) && !ad_has_gradient(tape, index))
        return "the last backward pass gave it back (.leaves_only): name it in .wrt to keep it";
    if (!ad_pass_came_by(tape, index) && tape->pass_has_wrt && !(node->flags & AD_NODE_ASKED))
        return "the last backward pass was asked for others: name it in .wrt";
    return NULL;
}

ad_view ad_gradient_at(const char *where, ad_var x) {
    if (!ad_check_var(x, "ad_gradient", where)) return no_view();
    ad_tape *tape = x.tape;
    const char *reason = why_no_gradient(tape, x.index);
    if (reason) {
        char text[128];
        ad_node_text(tape, x.index, false, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_NOGRAD, "ad_gradient", where, "%s: %s", text, reason);
        return no_view();
    }
    if (!(ad_has_gradient(tape, x.index) ? make_row_major(tape, x.index) : make_zeros(tape, x.index))) {
        ad_tape_out_of_memory(tape, "ad_gradient", where);
        return no_view();
    }
    ad_view scratch = no_view();
    return *ad_gradient_view(tape, x.index, &scratch);
}

double ad_gradient_item_at(const char *where, ad_var x) {
    ad_view gradient = ad_gradient_at(where, x);
    return gradient.data ? only_element(x, &gradient, "ad_gradient_item", where) : NAN;
}

bool ad_gradient_reached(ad_var x) { return ad_var_is_valid(x) && ad_pass_reached(x.tape, x.index); }
