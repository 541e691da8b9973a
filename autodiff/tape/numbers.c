/* Where did the NaN come from? A tape that checks looks at every value and gradient as it is made, so that the first bad
 * number is still at the operation that made it, from inputs that were good. */
#include "autodiff/tape/tape.h"

#include <math.h>
#include <string.h>

enum { MESSAGE = 800 };

/* ---- looking ------------------------------------------------------------------------------------------------------- */

static bool is_bad(double value, uint8_t numbers) {
    return isnan(value) || (numbers == AD_NUMBERS_FINITE && isinf(value));
}

/* The first element that is not allowed, or -1. */
static int64_t first_bad(const ad_view *view, uint8_t numbers) {
    if (!ad_dtype_is_float(view->dtype)) return -1;
    int64_t element = 0;
    for (ad_walk w = ad_walk_start(1, &view); w.more; ad_walk_next(&w)) {
        for (int64_t i = 0; i < w.n; i++, element++) {
            double value = view->dtype == AD_F64 ? ((const double *)(void *)w.at[0])[i * w.inner[0]]
                                                 : (double)((const float *)(void *)w.at[0])[i * w.inner[0]];
            if (is_bad(value, numbers)) return element;
        }
    }
    return -1;
}

static const char *name_of(double value) { return isnan(value) ? "NaN" : value > 0 ? "inf" : "-inf"; }

/* ---- telling ------------------------------------------------------------------------------------------------------- */

typedef struct message {
    char text[MESSAGE];
    size_t length;
} message;

#define ADD(m, ...) ad_text_add((m)->text, sizeof(m)->text, &(m)->length, __VA_ARGS__)

static void add_count(message *m, int64_t count, const char *what) {
    if (count) ADD(m, ", %lld %s", (long long)count, what);
}

/* "; x is f64[4], from -1 to 3, 1 zero" */
static void add_statistics(message *m, const ad_tape *tape, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    ad_view scratch;
    const ad_view *view = ad_node_view(node, &scratch);
    int64_t n = ad_view_count(view), zeros = 0, nans = 0, infinities = 0;
    double low = INFINITY, high = -INFINITY;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(tape, index, true, text, sizeof text);
    for (int64_t i = 0; i < n; i++) {
        double value = ad_view_get(view, i);
        zeros += value == 0;
        nans += isnan(value) != 0;
        infinities += isinf(value) != 0;
        if (value < low) low = value;
        if (value > high) high = value;
    }
    ADD(m, "; %s", text);
    if (n == 1) {
        ADD(m, ": %g", ad_view_get(view, 0));
        return;
    }
    if (low <= high) ADD(m, ", from %g to %g", low, high);
    add_count(m, zeros, zeros == 1 ? "zero" : "zeros");
    add_count(m, nans, "NaN");
    add_count(m, infinities, "infinite");
}

static void add_inputs(message *m, const ad_tape *tape, const uint32_t *inputs, int n) {
    for (int i = 0; i < n && i < 4; i++) add_statistics(m, tape, inputs[i]);
}

static void add_scope(message *m, const ad_tape *tape, uint32_t scope) {
    if (scope) ADD(m, "; in scope %s", tape->scopes[scope].path);
}

/* "mul at loss.c:12" */
static void add_operation(message *m, const ad_node *node) {
    const char *slash = node->where ? strrchr(node->where, '/') : NULL;
    ADD(m, "%s", node->op->name);
    if (node->where) ADD(m, " at %s", slash ? slash + 1 : node->where);
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

bool ad_numbers_in_leaf(ad_tape *tape, const char *subject, const char *where, const ad_view *value) {
    int64_t bad = first_bad(value, tape->numbers);
    if (bad < 0) return true;
    message m = {.length = 0};
    add_scope(&m, tape, tape->scope);
    ad_tape_fail(tape, AD_ERR_NUMBER, subject, where,
                 "%s at element %lld came in with this leaf; no operation made it%s",
                 name_of(ad_view_get(value, bad)), (long long)bad, m.text);
    return false;
}

bool ad_numbers_in_results(ad_call *call) {
    const struct ad_call_private *priv = call->priv;
    const ad_tape *tape = priv->tape;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        int64_t bad = call->is_view[k] ? -1 : first_bad(&call->out[k], tape->numbers);
        if (bad < 0) continue;
        message m = {.length = 0};
        char type[AD_TYPE_TEXT];
        add_inputs(&m, tape, priv->inputs, call->inputs);
        if (tape->deriving) {
            ADD(&m, "; recorded for the derivative of ");
            add_operation(&m, ad_node_at(tape, tape->deriving - 1));
        }
        add_scope(&m, tape, tape->scope);
        ad_fail(call, AD_ERR_NUMBER, "made %s at element %lld of its result %s%s",
                name_of(ad_view_get(&call->out[k], bad)), (long long)bad,
                ad_type_text(call->out[k].dtype, &call->out[k].shape, type), m.text);
        return false;
    }
    return true;
}

/* ---- gradients ----------------------------------------------------------------------------------------------------- */

/* An operation that contributed to the gradient of a result of the one at `index`: the first after it; 0: none, the pass
 * began there. */
static uint32_t consumer_of(const ad_tape *tape, uint32_t index) {
    uint32_t end = index + (uint32_t)ad_op_results(ad_node_at(tape, index)->op);
    for (uint32_t at = end; at < tape->pass_nodes; at++) {
        const ad_node *node = ad_node_at(tape, at);
        if (node->op == &ad_result_of || !ad_pass_reached(tape, at)) continue;
        const uint32_t *in = ad_node_inputs(node);
        for (int i = 0; i < ad_node_input_count(node); i++)
            if (in[i] >= index && in[i] < end) return at;
    }
    return 0;
}

static void add_upstream(message *m, const ad_tape *tape, uint32_t index, int64_t element) {
    ad_view scratch;
    uint32_t consumer = consumer_of(tape, index);
    const ad_view *gradient = ad_has_gradient(tape, index) ? ad_gradient_view(tape, index, &scratch) : NULL;
    if (!gradient) return;
    if (element >= 0) {
        ADD(m, "; upstream gradient %g", ad_view_get(gradient, element));
    } else {
        double low = INFINITY, high = -INFINITY;
        for (int64_t i = 0, n = ad_view_count(gradient); i < n; i++) {
            low = fmin(low, ad_view_get(gradient, i));
            high = fmax(high, ad_view_get(gradient, i));
        }
        ADD(m, "; upstream gradient from %g to %g", low, high);
    }
    if (consumer) {
        ADD(m, ", of ");
        add_operation(m, ad_node_at(tape, consumer));
    } else {
        ADD(m, ", the seed");
    }
}

/* What made it: a sum of contributions that are good, or the product of the upstream gradient and a slope. */
static void add_cause(message *m, ad_tape *tape, uint32_t index, int input, int64_t element) {
    const ad_node *node = ad_node_at(tape, index);
    ad_shape of_input = ad_node_shape(ad_node_at(tape, ad_node_inputs(node)[input])), of_result = ad_node_shape(node);
    double added = ad_local_contribution(tape, index, input, element);
    if (isfinite(added) || (isinf(added) && tape->numbers == AD_NUMBERS_NO_NAN)) {
        ADD(m, ": it added %g to what others had added before", added);
        return;
    }
    bool by_element = ad_shape_equal(&of_input, &of_result) && node->op->depends == ad_depends_elementwise;
    if (by_element && ad_has_gradient(tape, index)) {
        ad_view scratch;
        double upstream = ad_view_get(ad_gradient_view(tape, index, &scratch), element);
        ADD(m, ": %g * %g", upstream, ad_local_slope(tape, index, input, element));
    }
    add_upstream(m, tape, index, by_element ? element : -1);
}

bool ad_numbers_in_gradients(ad_tape *tape, uint32_t index) {
    const ad_node *node = ad_node_at(tape, index);
    const uint32_t *in = ad_node_inputs(node);
    for (int i = 0; i < ad_node_input_count(node); i++) {
        ad_view scratch;
        const ad_view *gradient = ad_has_gradient(tape, in[i]) ? ad_gradient_view(tape, in[i], &scratch) : NULL;
        int64_t bad = gradient ? first_bad(gradient, tape->numbers) : -1;
        if (bad < 0) continue;
        message m = {.length = 0};
        char name[128];
        double value = ad_view_get(gradient, bad);
        ad_node_text(tape, in[i], false, name, sizeof name);
        add_cause(&m, tape, index, i, bad);
        add_inputs(&m, tape, in, ad_node_input_count(node));
        add_scope(&m, tape, ad_scope_of(tape, index));
        ad_tape_fail(tape, AD_ERR_NUMBER, node->op->name, node->where,
                     "made %s in its backward pass, at element %lld of the gradient of %s%s", name_of(value),
                     (long long)bad, name, m.text);
        return false;
    }
    return true;
}
