/* Which elements of results depend on which of inputs, as families of ops have it in common. */
#include "ops/ops.h"

/* The view with one axis last. */
static ad_view axis_last(const ad_view *view, int axis) {
    ad_axes order = {.count = view->shape.rank};
    for (int i = 0; i < order.count - 1; i++) order.axis[i] = i < axis ? i : i + 1;
    if (order.count) order.axis[order.count - 1] = axis;
    ad_view moved = *view;
    (void)!ad_view_permute(view, &order, &moved);
    return moved;
}

void ad_depends_along(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    for (int k = 0; k < (call->op->results ? call->op->results : 1); k++) {
        for (int i = 0; i < call->inputs; i++) {
            ad_view x, y;
            if (!ad_dependence_input(d, i, &x) || !ad_dependence_result(d, k, &y)) continue;
            int rank = y.shape.rank, axis = ad_axis_index(((const ad_axis_attrs *)call->attrs)->axis, rank);
            /* Either may be the shorter one along the axis; otherwise an input is stretched to the result. */
            if (ad_view_broadcast(&x, &y.shape, &x) != AD_OK && x.shape.rank != rank) rank = 0;
            x = rank ? axis_last(&x, axis) : x;
            y = rank ? axis_last(&y, axis) : y;
            ad_depend(d, &y, &x, rank ? rank - 1 : 0);
        }
    }
}

void ad_depends_rows(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    ad_view x, y;
    for (int k = 0; k < (call->op->results ? call->op->results : 1); k++)
        for (int i = 0; i < call->inputs; i++)
            if (ad_dependence_input(d, i, &x) && ad_dependence_result(d, k, &y))
                ad_depend(d, &y, &x, call->in[0]->shape.rank - 1);
}

void ad_depends_stacked(ad_dependence *d) {
    const ad_call *call = ad_dependence_call(d);
    int stack = call->in[0]->shape.rank - 2;
    for (int k = 0; k < (call->op->results ? call->op->results : 1); k++) {
        for (int i = 0; i < call->inputs; i++) {
            ad_view x, y;
            if (!ad_dependence_input(d, i, &x) || !ad_dependence_result(d, k, &y)) continue;
            /* Stacks of several inputs are aligned at the right: they are the same axes where all ranks are equal. */
            bool aligned = call->inputs == 1 || (x.shape.rank == stack + 2 && y.shape.rank == stack + 2);
            ad_depend(d, &y, &x, aligned ? stack : 0);
        }
    }
}

void ad_depends_scattered(ad_dependence *d,
                          void (*take)(const ad_call *call, const ad_view *places, const ad_view *targets)) {
    ad_call *call = ad_dependence_call(d);
    ad_view x, source, y;
    if (!ad_dependence_result(d, 0, &y)) return;
    if (ad_dependence_input(d, 0, &x)) ad_depend(d, &y, &x, y.shape.rank);
    if (!ad_dependence_input(d, 2, &source)) return;
    ad_view places = ad_scratch_numbered(call, y.shape), targets = ad_scratch_numbered(call, source.shape);
    if (!places.data || !targets.data) return;
    take(call, &places, &targets);
    ad_depend_added(d, &y, &source, &targets);
}

ad_view ad_scratch_numbered(ad_call *call, ad_shape shape) {
    ad_view numbers = ad_scratch_view(call, AD_F64, shape);
    for (int64_t i = 0, n = ad_shape_count(&shape); i < n && numbers.data; i++)
        ((double *)numbers.data)[i] = (double)i;
    return numbers;
}
