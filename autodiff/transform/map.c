/* A function of one example, for each example of a batch. */
#include "autodiff/transform/transform.h"

/* How many examples there are; -1 and the tape's error if the inputs do not agree. */
static int64_t examples(const ad_frame *frame, const ad_var *in) {
    int64_t count = -1;
    for (int i = frame->self->shared; i < frame->self->inputs; i++) {
        ad_shape shape = ad_var_shape(in[i]);
        if (shape.rank > 0 && shape.dim[0] > 0 && (count < 0 || count == shape.dim[0])) {
            count = shape.dim[0];
            continue;
        }
        char text[AD_TYPE_TEXT];
        ad_tape_fail(frame->tape, AD_ERR_SHAPE, frame->self->transform->name, frame->where,
                     "input %d is %s: axis 0 should count the examples, %s", i,
                     ad_type_text(ad_var_dtype(in[i]), &shape, text),
                     count < 0 ? "of which there must be one" : "of which there are others in an input before it");
        return -1;
    }
    return count;
}

static void record_map(ad_frame *frame, const ad_var *in, ad_var *out) {
    int inputs = frame->self->inputs, shared = frame->self->shared, m = frame->m;
    if (shared < 0 || shared >= inputs) {
        ad_tape_fail(frame->tape, AD_ERR_VALUE, frame->self->transform->name, frame->where,
                     "%d inputs are shared of %d: at least one is cut into examples", shared, inputs);
        return;
    }
    int64_t count = examples(frame, in);
    if (count < 0) return;
    ad_var *x = ad_frame_take(frame, inputs, sizeof *x), *y = ad_frame_take(frame, m, sizeof *y);
    ad_var *parts = ad_frame_take(frame, m * count, sizeof *parts);
    for (int64_t e = 0; e < count && x && y && parts; e++) {
        for (int i = 0; i < inputs; i++) x[i] = i < shared ? in[i] : ad_select_at(frame->where, in[i], 0, e);
        if (ad_function_call(frame->where, frame->f, frame->tape, x, y)) return;
        for (int j = 0; j < m; j++) parts[j * count + e] = y[j];
    }
    for (int j = 0; j < m && !frame->tape->error.status; j++)
        out[j] = ad_stack_at(frame->where, (int)count, parts + j * count, 0);
}

static const ad_transform map = {.name = "ad_map_of", .record = record_map, .calls_itself = true};

ad_function ad_map_of(const ad_function *f, int shared) {
    ad_function made = ad_transformed(&map, f, ad_inputs_of(f), ad_outputs_of(f));
    made.shared = shared;
    return made;
}
