/* Inside the ops layer: what several families share. An op's file holds what it means; how it is computed is in
 * ops/kernels. */
#ifndef AD_OPS_INTERNAL_H
#define AD_OPS_INTERNAL_H

#include "autodiff/tape/tape.h"
#include "ops/kernels/kernels.h"

#include <adtape/ops.h>

/* Every op of ours, by its place in AD_OP_LIST. */
#define X(name) extern const ad_op ad_op_##name;
AD_OP_LIST(X)
#undef X

/* ---- checks of inputs and shape rules ------------------------------------------------------------------------ */

ad_status ad_need_float(ad_call *call, int i);       /* f32 or f64 */
ad_status ad_need_integer(ad_call *call, int i);     /* i32 or i64 */
ad_status ad_need_same_dtype(ad_call *call, int i, int j);
ad_status ad_need_alike(ad_call *call, int i, int j, int axis); /* of one dtype, and one shape but along the axis */
/* The axis counted from the front, or -1 and the error. */
int ad_need_axis(ad_call *call, int i, int axis);
ad_status ad_need_axes(ad_call *call, const ad_axes *axes); /* the list has a possible length */
/* Every index of input i is in [0, bound); else an error with position and value. */
ad_status ad_need_indices(ad_call *call, int i, int64_t bound);

static inline void ad_set_out(ad_call *call, int k, ad_dtype dtype, ad_shape shape) {
    call->out[k].dtype = dtype;
    call->out[k].shape = shape;
}
ad_status ad_shape_like_input(ad_call *call);  /* one float input, a result of its type */
ad_status ad_shape_broadcast_inputs(ad_call *call, int i, int j, ad_shape *shape); /* the common shape of two inputs */

/* ---- several cotangents at once: for ad_op.batches ------------------------------------------------------------ */

bool ad_batches_always(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs);
/* The attributes are a shape, of the result; or begin with an ad_axis_attrs, of input 0, which is no number. */
bool ad_batches_shape(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs);
bool ad_batches_axis(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs);
/* A valid axis of input 0 where there are seeds. */
static inline int ad_axis_with_seeds(const ad_call *call, const ad_seeds *seeds, int axis) {
    const int rank = call->in[0]->shape.rank;
    return seeds->rank + 1 - rank + ad_axis_index(axis, rank);
}

/* ---- views ------------------------------------------------------------------------------------------------------ */

/* `view` stretched to `shape`, which it is known to broadcast to. */
static inline ad_view ad_stretched(const ad_view *view, const ad_shape *shape) {
    ad_view out = *view;
    if (!ad_same_shape(&view->shape, shape)) (void)!ad_view_broadcast(view, shape, &out);
    return out;
}
void ad_copy_any(const ad_view *from, const ad_view *to); /* of any one dtype */
/* A row-major scratch array; data NULL if out of memory (the error is set). */
ad_view ad_scratch_view(ad_call *call, ad_dtype dtype, ad_shape shape);

/* The elements in row-major order, copied to scratch memory if need be; NULL if there is none. */
void *ad_row_major(ad_call *call, const ad_view *view);

/* A window is a view of a part of an array, which attributes describe; slice.c. */
typedef ad_status ad_window(const void *attrs, const ad_view *x, ad_view *window);
/* Result 0 is zeros of `shape`, but for the window, which is input 0. */
ad_status ad_embed_shape(ad_call *call, ad_window *find, ad_shape shape);
ad_status ad_embed(ad_call *call, ad_window *find);
/* Backward: the window of the gradient of input 0 gets the cotangent; */
ad_status ad_window_back(ad_call *call, ad_adjoint *adjoint, ad_window *find);
/* or the gradient of input 0 gets the window of the cotangent. */
ad_status ad_window_pass(ad_call *call, ad_adjoint *adjoint, ad_window *find);

/* ---- which elements depend on which (depends.c): for ad_op.depends ------------------------------------------------- */

/* On those along an axis, of ops whose attributes begin with an ad_axis_attrs, and whose other axes are the result's. */
void ad_depends_along(ad_dependence *dependence);
/* On those of the same row, along the last axis, of the inputs. */
void ad_depends_rows(ad_dependence *dependence);
/* On those of the same matrix of a stack: the leading axes of input 0 count them. */
void ad_depends_stacked(ad_dependence *dependence);
/* On those that are reduced to it, of ops whose attributes begin with an ad_reduce_attrs (reduce.c). */
void ad_depends_reduced(ad_dependence *dependence);
/* The same where result 0 has the shape of input 0, and scale and shift broadcast to it: the others are statistics. */
void ad_depends_normalized(ad_dependence *dependence);
/* Of ops that add input 2 to places of input 0: `take` reads, for the elements of input 2, the numbers of those places. */
void ad_depends_scattered(ad_dependence *dependence,
                          void (*take)(const ad_call *call, const ad_view *places, const ad_view *targets));
/* An f64 scratch array of 0, 1, 2, ... in row-major order; data NULL if there is no memory. */
ad_view ad_scratch_numbered(ad_call *call, ad_shape shape);

/* ---- reductions over axes (reduce.c) ---------------------------------------------------------------------------- */

/* Ops with more attributes begin theirs with these; ops along one axis have a list of one. */
typedef struct ad_reduce_attrs {
    ad_axes axes;
    bool keepdim;
} ad_reduce_attrs;
/* The descriptions: of a struct whose members `axes` and `keepdim` are these, of one that begins with ad_reduce_attrs, and
 * of that itself; of a reduction along one axis. */
#define AD_REDUCE_ATTRS_OF(struct_, axes, keepdim)                                                                   \
    AD_ATTR("axes", AXES, struct_, axes, AD_USUALLY(0)), AD_ATTR("keepdim", BOOL, struct_, keepdim, AD_USUALLY(false))
#define AD_REDUCE_ATTRS(struct_) AD_REDUCE_ATTRS_OF(struct_, reduce.axes, reduce.keepdim)
extern const ad_attr ad_reduce_attr_list[], ad_pick_attr_list[];

ad_status ad_reduced_shape(ad_call *call, ad_shape *shape); /* of a result; checks the axes */
ad_status ad_reduce_shape(ad_call *call);                   /* a shape rule: a float input, result 0 of its dtype */
/* From here on the axes are known to be valid. */
ad_status ad_need_elements(ad_call *call);                           /* every result is over at least one */
int64_t ad_reduced_count(const ad_call *call);                       /* how many elements each result is over */
ad_shape ad_kept_shape(const ad_reduce_attrs *attrs, ad_shape from); /* the reduced axes have size 1 */
ad_view ad_as_kept(const ad_call *call, const ad_view *y);           /* a result, or its cotangent, in that shape, */
ad_view ad_stretched_back(const ad_call *call, const ad_view *y);    /* and stretched to the shape of input 0; */
ad_var ad_stretch_back(ad_var y, const ad_reduce_attrs *attrs, ad_shape shape); /* the same in ops */
ad_var ad_stretched_seed(ad_vjp *v);

/* Numbers of the results, computed in double: f64, row-major, of the kept shape. */
ad_view ad_scratch_kept(ad_call *call);                       /* data NULL if out of memory (the error is set) */
ad_view ad_scratch_copy(ad_call *call, const ad_view *y);     /* of a result or its cotangent */
ad_status ad_set_result(ad_call *call, const ad_view *value); /* to such numbers */
/* Contributes what the row of reduce_table.h says to input 0; g and c are such numbers. */
ad_status ad_reduce_back(ad_call *call, ad_adjoint *adjoint, ad_reduction_back row, const ad_view *g, const ad_view *c,
                         double p);

/* Of input 0, in ops: the axes that stay, then all reduced ones as one. */
typedef struct ad_flattening {
    ad_axes order, back;
    ad_shape permuted, flat;
} ad_flattening;
ad_flattening ad_flattening_of(const ad_reduce_attrs *attrs, ad_shape shape);
ad_var ad_flattened(ad_var x, const ad_flattening *f);
ad_var ad_unflattened(ad_var flat, const ad_flattening *f);

void ad_show_reduce(const void *attrs, char *text, size_t size);
/* Sets attributes and gives a shape for sample number k; false past the end. */
bool ad_sample_reduce(ad_sample *sample, int k, ad_shape *shape);
bool ad_sample_reduce_normal(ad_sample *sample, int k); /* with normal elements */
ad_var ad_apply_reduce(const char *where, const ad_op *op, ad_var x, ad_axes axes, bool keepdim);

/* ---- derivatives of ops that are derivatives themselves (definition.c) -------------------------------------------- */

/* The results of an op, recorded in other ops: what a fused one computes in one pass. */
typedef void ad_definition(int n, const ad_var *in, const void *attrs, ad_var *out);
/* A VJP: back through the definition. */
void ad_vjp_of_definition(ad_vjp *v, ad_definition *define);
/* The m results' derivative in a direction: the first `moving` of the n inputs move by in[n], ...; a definition in turn. */
void ad_define_jvp(ad_definition *define, int n, int moving, const ad_var *in, const void *attrs, int m, ad_var *out);

/* ---- picking elements along an axis (extremum.c) ------------------------------------------------------------------ */

/* `index` says which elements of input 0 were picked; `shape` is its shape with the rank of input 0. VJP: they get g.
 * JVP: result 0 moves as they do. */
void ad_give_picked(ad_vjp *v, int axis, ad_shape shape, ad_var index, ad_var g);
ad_var ad_picked_tangent(ad_jvp *j, int axis, ad_shape shape, ad_var index);
/* The same for a reduction along one axis. */
void ad_give_picked_by_reduction(ad_vjp *v, ad_var index, ad_var g);
ad_var ad_tangent_picked_by_reduction(ad_jvp *j, ad_var index);
ad_status ad_pick_backward(ad_call *call, ad_adjoint *adjoint); /* a .backward: the index is result 1 */
ad_status ad_pick_shape(ad_call *call); /* a shape rule: the value, and an i64 index for every further result */
bool ad_sample_pick(ad_sample *sample, int k);
/* Applies such an op; *index, unless NULL, gets result 1. */
ad_var ad_apply_pick(const char *where, const ad_op *op, ad_var x, int axis, bool keepdim, ad_var *index);

/* ---- scattering (index.c) ---------------------------------------------------------------------------------------- */

/* Of ops that put input 2 to the places in input 0 which input 1 names along an axis (an ad_axis_attrs). */
ad_status ad_scatter_shape(ad_call *call);
bool ad_sample_scatter(ad_sample *sample, int k);

/* ---- attributes ----------------------------------------------------------------------------------------------- */

typedef struct ad_axis_attrs {
    int axis;
} ad_axis_attrs;
extern const ad_attr ad_axis_attr_list[]; /* an axis that must be given */
void ad_show_axis(const void *attrs, char *text, size_t size);
void ad_show_shape(const void *attrs, char *text, size_t size); /* an ad_shape */
void ad_show_axes(const void *attrs, char *text, size_t size);  /* an ad_axes */

/* ---- samples ----------------------------------------------------------------------------------------------------- */

/* Shape number k of a list that covers rank 0, size 1 and size 0; false past its end. */
bool ad_sample_shape(int k, ad_shape *shape);
/* Pair number k of shapes that broadcast. */
bool ad_sample_shape_pair(int k, ad_shape *a, ad_shape *b);
/* Makes elements 0, 3, 6, ... of the last input 0: `zeros` of them, as far as there are. */
void ad_sample_zeros(ad_sample *sample, int zeros);
bool ad_sample_one_normal(ad_sample *sample, int k);
bool ad_sample_one_normal_with_constant(ad_sample *sample, int k);
bool ad_sample_one_positive(ad_sample *sample, int k);
bool ad_sample_one_positive_with_constant(ad_sample *sample, int k);
bool ad_sample_one_positive_with_order(ad_sample *sample, int k); /* of a polygamma function */
bool ad_sample_one_fraction(ad_sample *sample, int k);            /* between 0 and 1 */
bool ad_sample_one_inside_1(ad_sample *sample, int k);
bool ad_sample_one_above_1(ad_sample *sample, int k);
bool ad_sample_one_away_from_integers(ad_sample *sample, int k);
bool ad_sample_one_away_from_0_with_constant(ad_sample *sample, int k);
bool ad_sample_one_away_from_bounds(ad_sample *sample, int k); /* two bounds, with values on either side and between */
bool ad_sample_one_away_from_0(ad_sample *sample, int k);
bool ad_sample_two_normal(ad_sample *sample, int k);
bool ad_sample_two_away_from_0(ad_sample *sample, int k);
bool ad_sample_two_positive(ad_sample *sample, int k);
bool ad_sample_two_same_normal(ad_sample *sample, int k); /* of one shape, as for a loss */
bool ad_sample_two_same_apart(ad_sample *sample, int k);
bool ad_sample_two_same_fractions(ad_sample *sample, int k);
bool ad_sample_two_same_logits(ad_sample *sample, int k); /* and a probability */
bool ad_sample_two_same_logs(ad_sample *sample, int k);   /* negative, and a positive number */
bool ad_sample_two_apart(ad_sample *sample, int k);  /* different from each other */
bool ad_sample_two_modulo(ad_sample *sample, int k); /* with a quotient away from integers */

/* ---- composed constructors --------------------------------------------------------------------------------------- */

/* The axis counted from the front, and the shape of x; or -1, if x is no variable or has no such axis, and the error. */
int ad_composed_axis(ad_var x, int axis, const char *subject, const char *where, ad_shape *shape);
/* The same for a list: the axes as bits. */
bool ad_composed_axes(ad_var x, const ad_axes *axes, const char *subject, const char *where, ad_shape *shape,
                      unsigned *named);

/* ---- applying ------------------------------------------------------------------------------------------------------ */

static inline ad_var ad_apply_1(const char *where, const ad_op *op, ad_var x, const void *attrs) {
    return ad_apply_fit(where, x.tape, op, 1, &x, attrs, NULL);
}
static inline ad_var ad_apply_2(const char *where, const ad_op *op, ad_var a, ad_var b, const void *attrs) {
    ad_var in[] = {a, b};
    return ad_apply_fit(where, a.tape ? a.tape : b.tape, op, 2, in, attrs, NULL);
}
/* A 0-d constant of x's dtype. */
static inline ad_var ad_number_like(const char *where, ad_var x, double value) {
    return ad_number_at(where, x.tape, ad_value_at(where, x).dtype, value);
}

#endif
