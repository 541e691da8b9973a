/* One call of a transformed function. */
#include "autodiff/transform/transform.h"

void *ad_frame_take(ad_frame *frame, int64_t count, size_t size) {
    size_t bytes;
    bool fits = !__builtin_mul_overflow((size_t)count, size, &bytes);
    void *memory = fits ? ad_arena_take(&frame->tape->scratch, bytes) : NULL;
    if (!memory) ad_tape_out_of_memory(frame->tape, frame->self->transform->name, frame->where);
    return memory;
}

bool ad_frame_has_gradient(const ad_frame *frame) {
    const char *subject = frame->self->transform->name;
    if (frame->m <= 1) return ad_check_start(frame->y[0], AD_NONE, subject, frame->where);
    ad_tape_fail(frame->tape, AD_ERR_SHAPE, subject, frame->where,
                 "%s has %d outputs, but a gradient is of one number: see ad_jacobian_of and ad_vjp_of",
                 frame->f->name ? frame->f->name : "the function", frame->m);
    return false;
}

void ad_frame_gradient(ad_frame *frame, ad_var *out) {
    if (ad_frame_has_gradient(frame)) ad_grad_at(frame->where, frame->y[0], AD_NONE, frame->n, frame->x, out);
}

bool ad_frame_has_hooks(const ad_frame *frame) {
    const ad_tape *tape = frame->tape;
    for (size_t i = 0; i < tape->named.count; i++)
        if (ad_node_at(tape, tape->named.item[i])->flags & AD_NODE_HOOKED) return true;
    return false;
}

void ad_frame_pull(const ad_frame *frame, ad_var y, ad_var y_bar, ad_var *x_bar) {
    ad_tape *tape = frame->tape;
    if (!frame->on_numbers || ad_frame_has_hooks(frame)) {
        ad_grad_at(frame->where, y, y_bar, frame->n, frame->x, x_bar);
        return;
    }
    ad_backward_options options = {.seed = y_bar, .wrt = frame->x, .wrt_count = frame->n, .leaves_only = true};
    ad_backward_with_at(frame->where, y, &options);
    for (int i = 0; i < frame->n; i++) {
        ad_view gradient = ad_gradient_at(frame->where, frame->x[i]);
        x_bar[i] = ad_constant_at(frame->where, tape, NULL, gradient.dtype, gradient.shape, gradient.data);
    }
}

/* Views of values as one row each; NULL if one cannot be seen so, or there is no memory. */
static ad_view *rows_of(ad_tape *tape, int n, const ad_var *x) {
    ad_view *rows = ad_arena_take(&tape->scratch, (size_t)n * sizeof *rows), scratch;
    for (int i = 0; i < n && rows; i++) {
        const ad_view *value = ad_node_view(ad_node_at(tape, x[i].index), &scratch);
        const ad_shape shape = AD_SHAPE(1, ad_view_count(value));
        if (ad_view_reshape(value, &shape, &rows[i])) rows = NULL;
    }
    return rows;
}

void ad_frame_push(const ad_frame *frame, const ad_var *x_dot, int m, const ad_var *y, ad_var *y_dot) {
    ad_tape *tape = frame->tape;
    const ad_view *from = frame->on_numbers ? rows_of(tape, frame->n, x_dot) : NULL;
    if (!from) {
        ad_pushforward_at(frame->where, frame->n, frame->x, x_dot, m, y, y_dot);
        return;
    }
    for (int j = 0; j < m; j++) {
        const ad_shape shape = ad_var_shape(y[j]);
        y_dot[j] = ad_tape_filled(tape, frame->where, &ad_leaf_constant, ad_var_dtype(y[j]), &shape, 0.0);
    }
    const ad_view *to = tape->error.status ? NULL : rows_of(tape, m, y_dot);
    if (to)
        ad_pushforward_batch_at(frame->where, frame->n, frame->x, from, m, y, to);
    else
        ad_tape_out_of_memory(tape, frame->self->transform->name, frame->where);
}

/* Another variable of the same value, which gets a gradient. */
static ad_var fresh(const ad_frame *frame, ad_var x) {
    ad_tape *tape = frame->tape;
    const ad_node *node = ad_node_at(tape, x.index);
    ad_shape shape = ad_node_shape(node);
    char text[AD_TYPE_TEXT + 128];
    if (!ad_dtype_is_float((ad_dtype)node->dtype)) {
        ad_node_text(tape, x.index, true, text, sizeof text);
        ad_tape_fail(tape, AD_ERR_NOGRAD, frame->self->transform->name, frame->where,
                     "%s: there is no derivative by integers; make them .constants", text);
        return ad_var_invalid(tape);
    }
    if ((node->flags & AD_NODE_GRAD) && !frame->no_grad) return ad_reshape_at(frame->where, x, shape);
    /* x - 0 is x, and gets a gradient; it still moves when x does, should somebody push a tangent through. */
    ad_var zero = ad_tape_filled(tape, frame->where, &ad_leaf_input, (ad_dtype)node->dtype, &shape, 0.0);
    return ad_sub_at(frame->where, x, zero);
}

/* The inputs from number n on go with the first n: tangents. */
static bool check_tangents(const ad_frame *frame, const ad_var *in) {
    for (int i = 0; i < frame->n && frame->self->transform->takes_tangents; i++) {
        ad_var x = in[i], v = in[frame->n + i];
        ad_shape x_shape = ad_var_shape(x), v_shape = ad_var_shape(v);
        if (ad_var_dtype(x) == ad_var_dtype(v) && ad_shape_equal(&x_shape, &v_shape)) continue;
        char is[AD_TYPE_TEXT], expected[AD_TYPE_TEXT];
        ad_tape_fail(frame->tape, ad_var_dtype(x) == ad_var_dtype(v) ? AD_ERR_SHAPE : AD_ERR_DTYPE,
                     frame->self->transform->name, frame->where,
                     "input %d is %s, but it is a direction for input %d, which is %s", frame->n + i,
                     ad_type_text(ad_var_dtype(v), &v_shape, is), i,
                     ad_type_text(ad_var_dtype(x), &x_shape, expected));
        return false;
    }
    return true;
}

static bool open_frame(ad_frame *frame, const ad_var *in) {
    int constants = frame->f->constants;
    frame->x = ad_frame_take(frame, frame->f->inputs, sizeof *frame->x);
    frame->y = ad_frame_take(frame, frame->m, sizeof *frame->y);
    if (!frame->x || !frame->y || !check_tangents(frame, in)) return false;
    for (int i = 0; i < frame->n; i++) frame->x[i] = fresh(frame, in[i]);
    for (int i = 0; i < constants; i++) frame->x[frame->n + i] = in[frame->self->inputs - constants + i];
    return ad_function_call(frame->where, frame->f, frame->tape, frame->x, frame->y) == AD_OK;
}

void ad_transform_call(const char *where, const ad_function *self, ad_tape *tape, const ad_var *in, ad_var *out,
                       bool on_numbers) {
    const ad_function *f = self->of;
    ad_frame frame = {.tape = tape,
                      .where = where,
                      .self = self,
                      .f = f,
                      .n = ad_inputs_of(f),
                      .m = f->outputs,
                      .scratch = ad_arena_position(&tape->scratch),
                      .no_grad = tape->no_grad,
                      .on_numbers = on_numbers};
    uint32_t since = tape->first_generation;
    if (self->transform->calls_itself) {
        self->transform->record(&frame, in, out);
    } else {
        /* Derivatives inside count even where nobody asks for those of the result. */
        tape->no_grad = 0;
        if (open_frame(&frame, in)) self->transform->record(&frame, in, out);
        if (tape->first_generation == since) tape->no_grad = frame.no_grad;
        for (int j = 0; j < self->outputs && frame.no_grad && !tape->error.status; j++)
            out[j] = ad_detach_at(where, out[j]);
    }
    ad_scratch_back(tape, frame.scratch);
}

/* ---- several outputs as one -------------------------------------------------------------------------------------- */

/* All elements in one row of the dtype. */
static ad_var joined(const char *where, int m, const ad_var *y, ad_dtype dtype, ad_var *parts) {
    for (int j = 0; j < m; j++) {
        ad_var flat = ad_reshape_at(where, y[j], AD_SHAPE(-1));
        parts[j] = ad_var_is_valid(flat) && ad_var_dtype(flat) != dtype ? ad_cast_at(where, flat, dtype) : flat;
    }
    return ad_cat_at(where, m, parts, 0);
}

bool ad_start_of(const char *where, const char *subject, int m, const ad_var *y, const ad_var *y_bar, ad_var *start,
                 ad_var *seed) {
    ad_tape *tape = y[0].tape;
    ad_dtype dtype = ad_var_dtype(y[0]);
    for (int j = 0; j < m; j++) {
        if (!ad_check_start(y[j], y_bar[j], subject, where)) return false;
        if (ad_var_dtype(y[j]) != dtype) dtype = AD_F64;
    }
    *start = y[0];
    *seed = y_bar[0];
    if (m == 1) return true;
    uint64_t scratch = ad_arena_position(&tape->scratch);
    ad_var *parts = ad_arena_take(&tape->scratch, (size_t)m * sizeof *parts);
    if (parts) {
        *start = joined(where, m, y, dtype, parts);
        *seed = joined(where, m, y_bar, dtype, parts);
    } else {
        ad_tape_out_of_memory(tape, subject, where);
    }
    ad_scratch_back(tape, scratch);
    return !tape->error.status;
}
