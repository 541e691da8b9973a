/* Recurrent cells, as compositions; PyTorch's conventions. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

/* One dense layer gives the sums of all gates, one after the other along the last axis; an invalid variable if the weights
 * do not fit. */
static ad_var sums_of(const char *where, const char *cell, int gates, ad_var x, ad_var w, ad_var b, int64_t size) {
    ad_var all = ad_linear_at(where, x, w, b);
    ad_shape shape = ad_value_at(where, all).shape;
    if (!ad_var_is_valid(all) || shape.dim[shape.rank - 1] == gates * size) return all;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(w.tape, w.index, true, text, sizeof text);
    ad_tape_fail(w.tape, AD_ERR_SHAPE, cell, where,
                 "%s, but a state of %lld elements needs %lld rows of weights: %d gates", text, (long long)size,
                 (long long)(gates * size), gates);
    return ad_var_invalid(w.tape);
}

/* Those of the input and of the state; false: the tape has the error. */
static bool all_sums(const char *where, const char *cell, int gates, ad_var x, ad_var h, const ad_cell *w,
                     ad_var *of_x, ad_var *of_h) {
    ad_shape shape;
    int last = ad_composed_axis(h, -1, cell, where, &shape);
    if (last < 0) return false;
    *of_x = sums_of(where, cell, gates, x, w->w_input, w->b_input, shape.dim[last]);
    *of_h = sums_of(where, cell, gates, h, w->w_state, w->b_state, shape.dim[last]);
    return ad_var_is_valid(*of_x) && ad_var_is_valid(*of_h);
}

ad_var ad_lstm_cell_at(const char *where, ad_var x, ad_var h, ad_var c, const ad_cell *weights, ad_var *c_next) {
    ad_var of_x, of_h;
    *c_next = ad_var_invalid(h.tape);
    if (!all_sums(where, "lstm_cell", 4, x, h, weights, &of_x, &of_h)) return ad_var_invalid(h.tape);
    return ad_lstm_gates_at(where, ad_add_at(where, of_x, of_h), c, c_next);
}

ad_var ad_gru_cell_at(const char *where, ad_var x, ad_var h, const ad_cell *weights) {
    enum { R, Z, N, GATES };
    ad_var of_x[GATES], of_h[GATES], sums_x, sums_h;
    if (!all_sums(where, "gru_cell", GATES, x, h, weights, &sums_x, &sums_h)) return ad_var_invalid(h.tape);
    ad_chunk_at(where, sums_x, -1, GATES, of_x);
    ad_chunk_at(where, sums_h, -1, GATES, of_h);
    ad_var reset = ad_sigmoid_at(where, ad_add_at(where, of_x[R], of_h[R]));
    ad_var keep = ad_sigmoid_at(where, ad_add_at(where, of_x[Z], of_h[Z]));
    ad_var candidate = ad_tanh_at(where, ad_add_at(where, of_x[N], ad_mul_at(where, reset, of_h[N])));
    return ad_lerp_at(where, candidate, h, keep);
}
