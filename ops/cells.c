/* Recurrent cells, as compositions; PyTorch's conventions. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

enum { MOST_GATES = 4 };

/* One dense layer gives all gates, one after the other along the last axis. */
static bool gates_of(const char *where, const char *cell, int gates, ad_var x, ad_var w, ad_var b, int64_t size,
                     ad_var *gate) {
    ad_var all = ad_linear_at(where, x, w, b);
    ad_shape shape = ad_value_at(where, all).shape;
    if (!ad_var_is_valid(all)) return false;
    int64_t rows = shape.dim[shape.rank - 1];
    if (rows != gates * size) {
        char text[AD_TYPE_TEXT + 128];
        ad_node_text(w.tape, w.index, true, text, sizeof text);
        ad_tape_fail(w.tape, AD_ERR_SHAPE, cell, where,
                     "%s, but a state of %lld elements needs %lld rows of weights: %d gates", text, (long long)size,
                     (long long)(gates * size), gates);
        return false;
    }
    const int64_t sizes[MOST_GATES] = {size, size, size, size};
    ad_split_at(where, all, -1, gates, sizes, gate);
    return ad_var_is_valid(gate[0]);
}

/* The gates of the input and of the state; false: the tape has the error. */
static bool all_gates(const char *where, const char *cell, int gates, ad_var x, ad_var h, const ad_cell *w,
                      ad_var *of_x, ad_var *of_h) {
    ad_shape shape;
    int last = ad_composed_axis(h, -1, cell, where, &shape);
    if (last < 0) return false;
    return gates_of(where, cell, gates, x, w->w_input, w->b_input, shape.dim[last], of_x) &&
           gates_of(where, cell, gates, h, w->w_state, w->b_state, shape.dim[last], of_h);
}

ad_var ad_lstm_cell_at(const char *where, ad_var x, ad_var h, ad_var c, const ad_cell *weights, ad_var *c_next) {
    ad_var gate[MOST_GATES], of_h[MOST_GATES];
    *c_next = ad_var_invalid(h.tape);
    if (!all_gates(where, "lstm_cell", 4, x, h, weights, gate, of_h)) return ad_var_invalid(h.tape);
    for (int i = 0; i < 4; i++) gate[i] = ad_add_at(where, gate[i], of_h[i]);
    ad_var input = ad_sigmoid_at(where, gate[0]), forget = ad_sigmoid_at(where, gate[1]);
    ad_var candidate = ad_tanh_at(where, gate[2]), output = ad_sigmoid_at(where, gate[3]);
    *c_next = ad_add_at(where, ad_mul_at(where, forget, c), ad_mul_at(where, input, candidate));
    return ad_mul_at(where, output, ad_tanh_at(where, *c_next));
}

ad_var ad_gru_cell_at(const char *where, ad_var x, ad_var h, const ad_cell *weights) {
    ad_var of_x[MOST_GATES], of_h[MOST_GATES];
    if (!all_gates(where, "gru_cell", 3, x, h, weights, of_x, of_h)) return ad_var_invalid(h.tape);
    ad_var reset = ad_sigmoid_at(where, ad_add_at(where, of_x[0], of_h[0]));
    ad_var keep = ad_sigmoid_at(where, ad_add_at(where, of_x[1], of_h[1]));
    ad_var candidate = ad_tanh_at(where, ad_add_at(where, of_x[2], ad_mul_at(where, reset, of_h[2])));
    return ad_lerp_at(where, candidate, h, keep);
}
