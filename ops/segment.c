/* Reductions over segments: row i of x belongs to segment ids[i], in any order, and each segment gives one row. Messages
 * of a graph meet at its nodes in this way. Compositions of index_add, index_select and scatter_reduce. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>

/* What the functions below know of their arguments. */
typedef struct segments {
    ad_dtype dtype;
    ad_shape shape;  /* of x */
    ad_shape result; /* a row for each segment */
} segments;

static bool check_segments(const char *where, ad_var x, ad_var ids, int64_t count, const char *subject, segments *s) {
    ad_tape *tape = x.tape ? x.tape : ids.tape;
    if (!tape || !ad_tape_check_var(tape, x, subject, where, "x") ||
        !ad_tape_check_var(tape, ids, subject, where, "the segment ids"))
        return false;
    char x_text[AD_TYPE_TEXT + 128], ids_text[AD_TYPE_TEXT + 128];
    ad_shape given = ad_node_shape(ad_node_at(tape, ids.index));
    s->dtype = (ad_dtype)ad_node_at(tape, x.index)->dtype;
    s->shape = s->result = ad_node_shape(ad_node_at(tape, x.index));
    s->result.dim[0] = count;
    if (s->shape.rank < 1 || given.rank != 1 || given.dim[0] != s->shape.dim[0]) {
        ad_node_text(tape, x.index, true, x_text, sizeof x_text);
        ad_node_text(tape, ids.index, true, ids_text, sizeof ids_text);
        ad_tape_fail(tape, AD_ERR_SHAPE, subject, where, "%s, %s: there must be one id for each row", x_text,
                     ids_text);
        return false;
    }
    if (count >= 0) return true;
    ad_tape_fail(tape, AD_ERR_VALUE, subject, where, "%lld segments", (long long)count);
    return false;
}

static ad_var filled(const char *where, ad_tape *tape, ad_dtype dtype, ad_shape shape, double value) {
    return ad_broadcast_to_at(where, ad_number_at(where, tape, dtype, value), shape);
}

static ad_var sum_of(const char *where, ad_var x, ad_var ids, const segments *s) {
    return ad_index_add_at(where, filled(where, x.tape, s->dtype, s->result, 0), 0, ids, x);
}

/* One id for each element, a stretched view. */
static ad_var id_of_each(const char *where, ad_var ids, const segments *s) {
    ad_shape column = s->shape;
    for (int i = 1; i < column.rank; i++) column.dim[i] = 1;
    return ad_broadcast_to_at(where, ad_reshape_at(where, ids, column), s->shape);
}

static ad_var extremum_of(const char *where, ad_var x, ad_var ids, const segments *s,
                          ad_scatter_reduction reduction) {
    double least = reduction == AD_SCATTER_AMAX ? -INFINITY : INFINITY;
    ad_var start = filled(where, x.tape, s->dtype, s->result, least);
    return ad_scatter_reduce_at(where, start, 0, id_of_each(where, ids, s), x, reduction);
}

ad_var ad_segment_sum_at(const char *where, ad_var x, ad_var ids, int64_t count) {
    segments s;
    if (!check_segments(where, x, ids, count, "ad_segment_sum", &s)) return ad_var_invalid(x.tape);
    return sum_of(where, x, ids, &s);
}

ad_var ad_segment_mean_at(const char *where, ad_var x, ad_var ids, int64_t count) {
    segments s;
    if (!check_segments(where, x, ids, count, "ad_segment_mean", &s)) return ad_var_invalid(x.tape);
    ad_shape column = s.result;
    for (int i = 1; i < column.rank; i++) column.dim[i] = 1;
    ad_var rows = ad_index_add_at(where, filled(where, x.tape, s.dtype, AD_SHAPE(count), 0), 0, ids,
                                  filled(where, x.tape, s.dtype, AD_SHAPE(s.shape.dim[0]), 1));
    ad_var divisor = ad_where_at(where, rows, rows, ad_number_at(where, x.tape, s.dtype, 1));
    return ad_div_at(where, sum_of(where, x, ids, &s), ad_reshape_at(where, divisor, column));
}

ad_var ad_segment_max_at(const char *where, ad_var x, ad_var ids, int64_t count) {
    segments s;
    if (!check_segments(where, x, ids, count, "ad_segment_max", &s)) return ad_var_invalid(x.tape);
    return extremum_of(where, x, ids, &s, AD_SCATTER_AMAX);
}

ad_var ad_segment_min_at(const char *where, ad_var x, ad_var ids, int64_t count) {
    segments s;
    if (!check_segments(where, x, ids, count, "ad_segment_min", &s)) return ad_var_invalid(x.tape);
    return extremum_of(where, x, ids, &s, AD_SCATTER_AMIN);
}

/* exp(x - m) / sum, m being the largest of the segment. It is a constant: the result does not depend on it. Where all are
 * -inf, 0 takes its place, and the sum of zeros is not divided by. */
ad_var ad_segment_softmax_at(const char *where, ad_var x, ad_var ids, int64_t count) {
    segments s;
    if (!check_segments(where, x, ids, count, "ad_segment_softmax", &s)) return ad_var_invalid(x.tape);
    ad_var zero = ad_number_at(where, x.tape, s.dtype, 0), one = ad_number_at(where, x.tape, s.dtype, 1);
    ad_var most = extremum_of(where, ad_detach_at(where, x), ids, &s, AD_SCATTER_AMAX);
    ad_var is_some = ad_greater_at(where, most, ad_number_at(where, x.tape, s.dtype, -INFINITY));
    ad_var shift = ad_index_select_at(where, ad_where_at(where, is_some, most, zero), 0, ids);
    ad_var e = ad_exp_at(where, ad_sub_at(where, x, shift));
    ad_var sum = sum_of(where, e, ids, &s);
    ad_var divisor = ad_where_at(where, sum, sum, one);
    return ad_div_at(where, e, ad_index_select_at(where, divisor, 0, ids));
}
