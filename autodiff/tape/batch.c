/* What both walks for several seeds have in common: where their rows lie, and how operations see them. */
#include "autodiff/tape/batch.h"
#include "ops/kernels/kernels.h"

#include <math.h>
#include <string.h>

ad_status ad_batch_no_memory(const ad_batch *batch) {
    return ad_tape_out_of_memory(batch->tape, batch->subject, batch->where);
}

bool ad_batch_open(ad_batch *batch, const char *subject, const char *where, ad_tape *tape, int64_t seeds,
                   uint32_t end) {
    const size_t bytes = end * sizeof *batch->at;
    *batch = (ad_batch){.tape = tape, .subject = subject, .where = where, .seeds = seeds};
    batch->room = (uint32_t)(seeds + AD_LANES - 1) / AD_LANES * AD_LANES;
    batch->at = ad_arena_take(&batch->tape->rows, bytes);
    if (batch->at) memset(batch->at, 0, bytes);
    return batch->at || ad_batch_no_memory(batch) == AD_OK;
}

void ad_batch_close(ad_batch *batch, uint32_t end) {
    for (uint32_t index = 0; batch->at && index < end; index++) ad_rows_release(batch, index);
    ad_arena_rewind(&batch->tape->rows, 0);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

static void *take_block(ad_batch *batch) {
    void *block = batch->free;
    if (!block) return ad_arena_take(&batch->tape->rows, batch->room * sizeof(double));
    memcpy(&batch->free, block, sizeof batch->free);
    return block;
}

void ad_rows_release(ad_batch *batch, uint32_t index) {
    ad_rows *rows = &batch->at[index];
    if (!rows->memory) return;
    if (ad_is_number(ad_node_at(batch->tape, index))) {
        memcpy(rows->memory, &batch->free, sizeof batch->free);
        batch->free = rows->memory;
    } else {
        ad_tensor_unref(rows->memory);
    }
    rows->memory = NULL;
}

double *ad_rows_open_numbers(ad_batch *batch, uint32_t index, uint32_t from, uint32_t to) {
    ad_rows *rows = &batch->at[index];
    if (!rows->memory) *rows = (ad_rows){take_block(batch), from, from};
    double *g = rows->memory;
    if (!g) return NULL;
    if (rows->from == rows->to) rows->from = rows->to = from;
    if (from < rows->from) {
        memset(g + from, 0, (rows->from - from) * sizeof *g);
        rows->from = from;
    }
    if (to > rows->to) {
        memset(g + rows->to, 0, (to - rows->to) * sizeof *g);
        rows->to = to;
    }
    return g;
}

void ad_rows_trim(ad_rows *rows) {
    static const double none[AD_LANES];
    const double *g = rows->memory;
    while (rows->from < rows->to && memcmp(g + rows->from, none, sizeof none) == 0) rows->from += AD_LANES;
    while (rows->from < rows->to && memcmp(g + rows->to - AD_LANES, none, sizeof none) == 0) rows->to -= AD_LANES;
}

bool ad_rows_open(ad_batch *batch, uint32_t index) {
    const ad_node *node = ad_node_at(batch->tape, index);
    ad_rows *rows = &batch->at[index];
    if (ad_is_f64_number(node)) return ad_rows_open_numbers(batch, index, 0, batch->room);
    if (rows->memory) return true;
    if (ad_is_number(node)) return (rows->memory = take_block(batch));
    const ad_view *value = &node->value.tensor->view;
    const ad_shape shape = AD_SHAPE(batch->seeds, ad_view_count(value));
    return (rows->memory = ad_pool_tensor(batch->tape->pool, value->dtype, &shape));
}

bool ad_rows_open_next(ad_batch *batch, uint32_t index) {
    const bool is_new = !batch->at[index].memory;
    if (!ad_rows_open(batch, index)) return false;
    for (int64_t seed = 0; is_new && seed < batch->seed; seed++) {
        const ad_view row = ad_rows_one(batch, index, seed);
        ad_kernels_get()->fill(&row, 0);
    }
    return true;
}

static char *first_row(const ad_batch *batch, uint32_t index) {
    void *memory = batch->at[index].memory;
    return ad_is_number(ad_node_at(batch->tape, index)) ? memory : ((ad_tensor *)memory)->view.data;
}

ad_view ad_rows_one(const ad_batch *batch, uint32_t index, int64_t seed) {
    const ad_node *node = ad_node_at(batch->tape, index);
    const ad_shape shape = ad_node_shape(node);
    const int64_t bytes = ad_shape_count(&shape) * (int64_t)ad_dtype_size((ad_dtype)node->dtype);
    return ad_view_of(first_row(batch, index) + seed * bytes, (ad_dtype)node->dtype, shape);
}

/* A view with the axis of seeds, and axes of 1 up to the common rank, in front of those of the shape. */
static ad_view with_seeds(const ad_batch *batch, const ad_view *view, bool steps) {
    const int front = batch->rank + 1 - view->shape.rank;
    ad_view all = {.data = view->data, .dtype = view->dtype, .shape = {.rank = batch->rank + 1}};
    for (int i = 1; i < front; i++) all.shape.dim[i] = 1;
    for (int i = 0; i < view->shape.rank; i++) {
        all.shape.dim[front + i] = view->shape.dim[i];
        all.stride[front + i] = view->stride[i];
    }
    all.shape.dim[0] = batch->seeds;
    all.stride[0] = steps ? ad_view_count(view) : 0;
    return all;
}

ad_view ad_rows_seen(const ad_batch *batch, uint32_t index) {
    if (batch->seed != AD_TOGETHER) return ad_rows_one(batch, index, batch->seed);
    const ad_view row = ad_rows_one(batch, index, 0);
    return with_seeds(batch, &row, true);
}

ad_var ad_rows_constant(const ad_batch *batch, uint32_t index) {
    ad_tape *tape = batch->tape;
    const ad_view view = ad_rows_seen(batch, index);
    if (ad_is_number(ad_node_at(tape, index)))
        return ad_constant_at(batch->where, tape, NULL, view.dtype, view.shape, view.data);
    ad_tensor *alias = ad_pool_alias(tape->pool, batch->at[index].memory, &view);
    if (!alias) {
        ad_batch_no_memory(batch);
        return ad_var_invalid(tape);
    }
    ad_var constant = ad_constant_tensor_at(batch->where, tape, NULL, alias);
    ad_tensor_unref(alias);
    return constant;
}

/* [seeds, elements] */
static ad_view all_rows(const ad_batch *batch, uint32_t index) {
    const ad_view row = ad_rows_one(batch, index, 0);
    return ad_view_of(row.data, row.dtype, AD_SHAPE(batch->seeds, ad_view_count(&row)));
}

bool ad_rows_write(ad_batch *batch, uint32_t index, const ad_view *from) {
    if (!ad_rows_open(batch, index)) return false;
    const ad_view rows = all_rows(batch, index);
    ad_rows_copy(from, &rows);
    return true;
}

void ad_rows_read(ad_batch *batch, uint32_t index, const ad_view *to) {
    if (!batch->at[index].memory) {
        ad_kernels_get()->fill(to, 0);
        return;
    }
    (void)!ad_rows_open(batch, index); /* writes the zeros that were left out; there is memory */
    const ad_view rows = all_rows(batch, index);
    ad_rows_copy(&rows, to);
}

bool ad_rows_are_zero(const ad_view *row) {
    const char *data = row->data;
    const size_t bytes = (size_t)ad_view_count(row) * ad_dtype_size(row->dtype);
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

void ad_rows_copy(const ad_view *from, const ad_view *to) {
    if (from->dtype == to->dtype)
        ad_kernels_get()->copy(from, to, 1, false);
    else
        (void)!ad_view_copy(from, to); /* the shapes are equal */
}

/* into[k] += g[k] * by; where g is 0, so is the product. */
static void add_product(double *into, const double *g, double by, uint32_t from, uint32_t to) {
    if (isfinite(by)) {
        for (uint32_t group = from; group < to; group += AD_LANES)
            for (uint32_t k = group; k < group + AD_LANES; k++) into[k] += g[k] * by;
    } else {
        for (uint32_t k = from; k < to; k++) into[k] += g[k] == 0 ? 0 : g[k] * by;
    }
}

void ad_rows_add_scaled(const ad_batch *batch, const ad_node *node, const ad_rows *g, double *a, double *b) {
    const double x = ad_node_at(batch->tape, node->in[0])->value.f64,
                 z = ad_node_at(batch->tape, node->in[1])->value.f64;
    const double *attrs = node->extra ? node->extra->attrs : NULL, *numbers = g->memory;
    const bool is_product = node->op == &ad_op_mul;
    if (is_product || node->op == &ad_op_add) {
        if (a) add_product(a, numbers, is_product ? z : 1, g->from, g->to);
        if (b) add_product(b, numbers, is_product ? x : 1, g->from, g->to);
        return;
    }
    for (uint32_t k = g->from; k < g->to; k++) {
        if (numbers[k] == 0) continue;
        const ad_pair made = node->op->scalar->adjoint(numbers[k], x, z, node->value.f64, attrs);
        if (a) a[k] += made.a;
        if (b) b[k] += made.b;
    }
}

/* ---- one by one -------------------------------------------------------------------------------------------------------- */

ad_var ad_row_as_constant(const char *where, ad_var like, const ad_view *rows, int64_t seed) {
    ad_tape *tape = like.tape;
    const ad_node *node = ad_node_at(tape, like.index);
    const ad_shape shape = ad_node_shape(node);
    ad_var made = ad_tape_filled(tape, where, &ad_leaf_constant, (ad_dtype)node->dtype, &shape, 0.0);
    if (tape->error.status) return made;
    ad_view scratch, row;
    const ad_view *value = ad_node_view(ad_node_at(tape, made.index), &scratch);
    const ad_view line = ad_view_of(value->data, value->dtype, AD_SHAPE(1, ad_view_count(value)));
    (void)!ad_view_slice(rows, 0, seed, seed + 1, 1, &row);
    ad_rows_copy(&row, &line);
    return made;
}

void ad_row_store(const ad_view *value, const ad_view *rows, int64_t seed) {
    ad_view row;
    (void)!ad_view_slice(rows, 0, seed, seed + 1, 1, &row);
    (void)!ad_view_reshape(&row, &value->shape, &row);
    ad_rows_copy(value, &row);
}

/* ---- operations ------------------------------------------------------------------------------------------------------ */

bool ad_batch_goes_together(ad_batch *batch, ad_call *call, const ad_adjoint *adjoint) {
    const ad_op *op = call->op;
    batch->rank = 0;
    for (int k = 0; k < ad_op_results(op); k++) batch->rank = ad_max_int(batch->rank, call->out[k].shape.rank);
    for (int i = 0; i < call->inputs; i++) batch->rank = ad_max_int(batch->rank, call->in[i]->shape.rank);
    if (!op->batches || batch->rank == AD_MAX_RANK) return false;
    void *attrs = ad_scratch(call, op->attrs_size + 1);
    if (!attrs) return false;
    if (op->attrs_size) memcpy(attrs, call->attrs, op->attrs_size);
    const ad_seeds seeds = {.count = batch->seeds, .rank = batch->rank};
    if (!op->batches(call, adjoint, &seeds, attrs)) return false;
    call->attrs = attrs;
    return true;
}

bool ad_batch_stretch(ad_batch *batch, ad_call *call) {
    const size_t n = (size_t)call->inputs;
    ad_view *view = ad_scratch(call, n * sizeof *view);
    const ad_view **in = ad_scratch(call, n * sizeof *in);
    if (!view || !in) return false;
    batch->seed = AD_TOGETHER;
    for (size_t i = 0; i < n; i++) {
        view[i] = with_seeds(batch, call->in[i], false);
        in[i] = &view[i];
    }
    call->in = in;
    for (int k = 0; k < ad_op_results(call->op); k++) {
        call->out[k] = with_seeds(batch, &call->out[k], false);
        call->is_view[k] = false;
    }
    return true;
}
