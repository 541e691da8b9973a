/* adtape/op.h: what an operation is. Ours and yours are the same kind of thing: a constant `ad_op`.
 *
 * An op's functions see one application of it as an `ad_call`. docs/adding-an-op.md walks through an example. */
#ifndef ADTAPE_OP_H
#define ADTAPE_OP_H

#include <adtape/tape.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AD_MAX_RESULTS 8

/* What an op keeps for its backward pass: a set of the inputs and results whose *values* its VJP reads. The VJP is
 * refused any other, so this is always true, and the dump shows it. */
#define AD_SAVES_NOTHING   0u
#define AD_SAVES_INPUT(i)  (1u << ((i) < 15 ? (i) : 15)) /* inputs from 15 on share a bit */
#define AD_SAVES_INPUTS    0xFFFFu                       /* all of them */
#define AD_SAVES_RESULT(k) (1u << (16 + (k)))

typedef enum ad_derivative {
    AD_DIFFERENTIABLE = 0, /* has a VJP */
    AD_STOPS_GRADIENT,     /* by design, like detach: nothing flows back */
    AD_NOT_DIFFERENTIABLE  /* a float input that needs a gradient is refused when recording, unless every result
                               * is an integer */
} ad_derivative;

/* One application of an op. */
typedef struct ad_call {
    const ad_op *op;
    const void *attrs;            /* op->attrs_size bytes */
    int inputs;                   /* how many */
    const ad_view *const *in;     /* [inputs] */
    ad_view out[AD_MAX_RESULTS];  /* [op->results]: see ad_op.shape */
    bool is_view[AD_MAX_RESULTS]; /* result k shares the memory of input 0 */
    struct ad_call_private *priv; /* the engine's */
} ad_call;

/* Reports an error of this application: the message is prefixed with op and place. Returns `status`. */
AD_API ad_status ad_fail(ad_call *call, ad_status status, const char *format, ...) AD_PRINTF(3, 4);
/* Input i by name and type, as "H is f64[4,3]", for messages; lives as long as the call. */
AD_API const char *ad_describe(ad_call *call, int i);
AD_API const char *ad_input_name(ad_call *call, int i);

/* Scratch memory that lives until the function that asked returns; NULL (and an error) if there is none. */
AD_API void *ad_scratch(ad_call *call, size_t bytes);

/* The numeric backward pass of one application. `call->in` and `call->out` hold the saved values, the others have
 * data NULL; shapes are always there. */
typedef struct ad_adjoint {
    ad_view seed[AD_MAX_RESULTS]; /* cotangents of the results, possibly strided; data NULL where none arrived, which
                                   * only an op with several results meets */
    struct ad_adjoint_private *priv;
} ad_adjoint;
/* Does input i want a contribution? */
AD_API bool ad_wants(const ad_adjoint *adjoint, int i);
/* Where to put the contribution to input i: a row-major buffer of its shape, to be stored (*add false; it holds
 * garbage) or added to (*add true). NULL if none is wanted or there is no memory. Use it before the next call. */
AD_API const ad_view *ad_into(ad_adjoint *adjoint, int i, bool *add);
/* The contribution to input i is this view of seed k itself: costs nothing when it is the first. A broadcasting op may
 * pass the shape of its result; it is summed. */
AD_API void ad_pass(ad_adjoint *adjoint, int i, int k, const ad_view *view);
/* Adds a copy of `view` to the gradient of input i; shapes as for ad_pass. */
AD_API void ad_give(ad_adjoint *adjoint, int i, const ad_view *view);

/* The VJP of one application, written in ops. */
typedef struct ad_vjp ad_vjp;
AD_API ad_tape *ad_vjp_tape(const ad_vjp *vjp);
AD_API const void *ad_vjp_attrs(const ad_vjp *vjp);
AD_API int ad_vjp_inputs(const ad_vjp *vjp);
AD_API bool ad_vjp_wants(const ad_vjp *vjp, int i);
AD_API ad_var ad_vjp_input(ad_vjp *vjp, int i);  /* must be declared in .saves */
AD_API ad_var ad_vjp_result(ad_vjp *vjp, int k); /* must be declared in .saves */
AD_API ad_var ad_vjp_seed(ad_vjp *vjp, int k);   /* the cotangent of result k; zeros if none arrived */
AD_API bool ad_vjp_has_seed(const ad_vjp *vjp, int k);
AD_API ad_shape ad_vjp_input_shape(const ad_vjp *vjp, int i);
AD_API ad_shape ad_vjp_result_shape(const ad_vjp *vjp, int k);
AD_API ad_dtype ad_vjp_input_dtype(const ad_vjp *vjp, int i);
AD_API ad_var ad_vjp_number(ad_vjp *vjp, double value); /* a 0-d constant of result 0's dtype */
/* Adds `contribution` to the gradient of input i. Its dtype and shape must be those of the input; for ops that
 * broadcast, the shape of the result will do: it is summed back. */
AD_API void ad_vjp_give(ad_vjp *vjp, int i, ad_var contribution);

/* One of several applications of an op to the same variable, input 0 of each: its attributes and the cotangent of its
 * result. */
typedef struct ad_use {
    const void *attrs;
    ad_var seed;
} ad_use;

/* The JVP of one application, written in ops: how its results move when its inputs do (forward mode). */
typedef struct ad_jvp ad_jvp;
AD_API ad_tape *ad_jvp_tape(const ad_jvp *jvp);
AD_API const void *ad_jvp_attrs(const ad_jvp *jvp);
AD_API int ad_jvp_inputs(const ad_jvp *jvp);
AD_API bool ad_jvp_moves(const ad_jvp *jvp, int i); /* does input i have a tangent? */
AD_API bool ad_jvp_wants(const ad_jvp *jvp, int k); /* does anybody ask for the tangent of result k? */
AD_API ad_var ad_jvp_tangent(ad_jvp *jvp, int i);   /* of input i; zeros if it has none */
AD_API ad_var ad_jvp_input(ad_jvp *jvp, int i);
AD_API ad_var ad_jvp_result(ad_jvp *jvp, int k);
AD_API ad_var ad_jvp_number(ad_jvp *jvp, double value); /* a 0-d constant of result 0's dtype */
/* Adds `tangent`, of the type of result k, to that result's tangent. */
AD_API void ad_jvp_give(ad_jvp *jvp, int k, ad_var tangent);
/* A JVP for ops that are linear in all their float inputs together: the op itself, applied to the tangents. */
AD_API void ad_jvp_linear(ad_jvp *jvp);

/* Which elements of the results of one application depend on which of its inputs: what sparse derivatives go by. For each
 * element of a result and of an input there is a number, in views that can be transformed as those of the values can: sliced,
 * permuted, stretched. */
typedef struct ad_dependence ad_dependence;
AD_API ad_call *ad_dependence_call(const ad_dependence *dependence);
/* False if nothing that counts comes from input i, or goes to result k: there is nothing to say then. */
AD_API bool ad_dependence_input(const ad_dependence *dependence, int i, ad_view *view);
AD_API bool ad_dependence_result(const ad_dependence *dependence, int k, ad_view *view);
/* The first `shared` axes of both views are the same, and at each place along them every element of `result` depends on
 * every element of `input`. Repeated calls add up. */
AD_API void ad_depend(ad_dependence *dependence, const ad_view *result, const ad_view *input, int shared);
/* Element e of `input`, in row-major order, is added to element target[e] of `result`: integers, in any dtype. */
AD_API void ad_depend_added(ad_dependence *dependence, const ad_view *result, const ad_view *input,
                            const ad_view *target);
/* For ad_op.depends. Each element depends on those at its place in the inputs, which broadcast. */
AD_API void ad_depends_elementwise(ad_dependence *dependence);
/* Each element is one of a float input or a constant, and where it comes from does not hang on the values of those:
 * .forward is run on numbers that name elements. */
AD_API void ad_depends_moved(ad_dependence *dependence);

/* One random valid application, for the laws: filled by ad_op.sample. */
#define AD_MAX_SAMPLE_INPUTS 10
typedef struct ad_sample {
    ad_rng rng;     /* seeded by the caller; draw from it */
    ad_dtype dtype; /* AD_F32 or AD_F64: of the float inputs */
    int inputs;
    ad_tensor *input[AD_MAX_SAMPLE_INPUTS];
    union ad_sample_attrs {
        double number[8];
        int64_t integer[32];
        ad_shape shape;
        ad_axes axes;
        char bytes[256];
    } attrs; /* op->attrs_size bytes are used */
    const ad_allocator *allocator;
    ad_error error; /* set by the functions below */
} ad_sample;
/* Add one input. All return false, with the error set, if there is no memory or no room. */
AD_API bool ad_sample_normal(ad_sample *sample, ad_shape shape);
AD_API bool ad_sample_uniform(ad_sample *sample, ad_shape shape, double low, double high);
/* Normal, but at least `gap` away from `point`: for ops with a kink there. */
AD_API bool ad_sample_away(ad_sample *sample, ad_shape shape, double point, double gap);
AD_API bool ad_sample_index(ad_sample *sample, ad_shape shape, int64_t bound); /* i64 in [0, bound) */
AD_API bool ad_sample_simplex(ad_sample *sample, ad_shape shape); /* positive, sums to 1 along the last axis */

/* A scalar f64 path, optional: for ops whose inputs and result are all 0-d f64, without views or buffers. */
typedef struct ad_pair {
    double a, b;
} ad_pair;
typedef struct ad_scalar_rule {
    double (*value)(double a, double b, const double *attrs); /* unary ops do not read b */
    /* The contributions to a and b. */
    ad_pair (*adjoint)(double g, double a, double b, double y, const double *attrs);
} ad_scalar_rule;

/* A path without views or checks, optional: for elementwise ops without attributes. Arrays are n neighbours in memory, all
 * of one float dtype. b is NULL where there is one input. */
typedef struct ad_flat_rule {
    void (*value)(ad_dtype dtype, int64_t n, const void *a, const void *b, void *y);
    /* bar is, or grows by (`add`), the contributions to input i; what the op does not save is given g in its place. */
    void (*adjoint)(ad_dtype dtype, int64_t n, int i, const void *g, const void *a, const void *b, const void *y,
                    void *bar, bool add);
} ad_flat_rule;

/* For ad_op.batches: how many cotangents or tangents, and the highest rank of inputs and results, which all views have
 * besides the axis in front. */
typedef struct ad_seeds {
    int64_t count;
    int rank;
} ad_seeds;

/* One of an op's attributes, described so that a program can ask a person for it by name: the `adtape` command does, and
 * a binding to another language would. */
typedef enum ad_attr_type {
    AD_ATTR_DOUBLE,
    AD_ATTR_INT64,
    AD_ATTR_INT,
    AD_ATTR_BOOL,
    AD_ATTR_BIT, /* one of an unsigned */
    AD_ATTR_DTYPE,
    AD_ATTR_SHAPE,
    AD_ATTR_AXES,
    AD_ATTR_PAIR /* int64_t[2]: along height and width */
} ad_attr_type;
typedef struct ad_attr {
    const char *name; /* NULL ends the list */
    ad_attr_type type;
    size_t offset; /* of the member in the struct */
    bool is_optional;
    double usual; /* of an optional one, for each number of it; an infinity is the end of an integer's range */
    unsigned bit; /* of AD_ATTR_BIT */
} ad_attr;
/* For ad_op.attrs: AD_ATTRS(AD_ATTR("axis", INT, softmax_attrs, axis, AD_USUALLY(-1)), ...) */
#define AD_ATTRS(...) ((const ad_attr[]){__VA_ARGS__, AD_ATTRS_END})
#define AD_ATTRS_END                                                                                                 \
    { NULL, AD_ATTR_DOUBLE, 0, false, 0, 0 }
#define AD_ATTR(name, type, struct_, member, ...)                                                                    \
    { name, AD_ATTR_##type, offsetof(struct_, member), __VA_ARGS__, 0 }
#define AD_ATTR_BIT_OF(name, struct_, member, bit)                                                                   \
    { name, AD_ATTR_BIT, offsetof(struct_, member), true, 0, bit }
#define AD_USUALLY(value) true, value
#define AD_REQUIRED       false, 0

/* Every optional attribute gets its usual value, every other byte is 0. */
AD_API void ad_attrs_init(const ad_op *op, void *attrs);
/* The description of an attribute; NULL if there is none of that name. */
AD_API const ad_attr *ad_attr_find(const ad_op *op, const char *name);
/* Sets an attribute to n numbers: as many as a shape or a list of axes has (up to AD_MAX_RANK), one or two for a pair,
 * else one. AD_ERR_VALUE if they are too many or too few, or one is not what the type holds; the attributes are then
 * left alone. */
AD_API ad_status ad_attr_set(const ad_attr *attr, void *attrs, int n, const double *values, ad_error *error);
/* The same backwards: returns how many numbers were written to `values`. */
AD_API int ad_attr_get(const ad_attr *attr, const void *attrs, double values[AD_MAX_RANK]);

struct ad_op {
    const char *name; /* a C identifier */
    int inputs;       /* how many; -1: any number from 1 on */
    int results;      /* 1 to AD_MAX_RESULTS; 0 is taken as 1 */
    size_t attrs_size;
    const ad_attr *attrs; /* describes them, see AD_ATTRS; NULL: people cannot set them */
    bool broadcasts;      /* VJP contributions may have the result's shape: they are summed back to the input's */
    /* One or two inputs and one result, each element of which comes from the same place of the inputs if these are of one
     * type. .shape, .forward and .backward may then be given 1-d arrays in their place, which costs less. */
    bool elementwise;
    ad_derivative derivative;
    uint32_t saves;

    /* Checks the inputs and sets dtype and shape of every call->out[k]. To make result k a view of input 0, copy
     * *in[0], change shape and strides, and set is_view[k]. */
    ad_status (*shape)(ad_call *call);
    /* Computes call->out, which are row-major buffers (views excepted). NULL: every result is a view. */
    ad_status (*forward)(ad_call *call);
    /* The derivative, written in ops: defines it. NULL only if `derivative` says that there is none. */
    void (*vjp)(ad_vjp *vjp);
    /* The same for n > 1 applications to one variable at once, of an op with one input and one result: gives input 0 the
     * sum. Optional, for ops of whose input each application reads a small part; used where gradients are recorded. What
     * `vjp` says of inputs and results is true of use[0]. */
    void (*vjp_of_uses)(ad_vjp *vjp, int n, const ad_use *use);
    /* .vjp computed directly, optional, for speed. A law keeps the two equal. */
    ad_status (*backward)(ad_call *call, ad_adjoint *adjoint);
    /* Whether this application's derivatives can be had for several cotangents, or tangents (adjoint is NULL), at once, as
     * the rows or columns of a Jacobian take; NULL: never, and they are had one after the other. What .backward, .vjp and
     * .jvp see has one more axis in front, along which values repeat, and axes of 1 after it up to the common rank.
     * `attrs`, a copy, is what they are given then: axes and shapes in it are to be adapted. A law keeps both equal. */
    bool (*batches)(const ad_call *call, const ad_adjoint *adjoint, const ad_seeds *seeds, void *attrs);
    /* The derivative in the other direction, written in ops. NULL: worked out from vjp, by transposing it twice. */
    void (*jvp)(ad_jvp *jvp);
    const ad_scalar_rule *scalar;
    const ad_flat_rule *flat;
    /* Which elements depend on which, for sparse derivatives. NULL: each of a result on each of every float input. Views
     * take care of themselves. */
    void (*depends)(ad_dependence *dependence);

    /* For people: in these texts $0, $1, ... are the inputs, $y (or $y0, $y1) the results, $a the attributes; ~ in
     * place of $ is the cotangent. */
    const char *formula;    /* "$y = $0 + $1" */
    const char *adjoint[4]; /* per input, "~0 += ~y"; the last one stands for all further inputs */
    const char *result_formula[AD_MAX_RESULTS - 1]; /* of results 1, 2, ... */
    const char *convention;                         /* at points without a derivative; NULL if there are none */
    /* Writes the attributes for people into `text`, always terminated. NULL: none are shown. */
    void (*show_attrs)(const void *attrs, char *text, size_t size);

    /* Fills sample number k; returns false if there is no such sample. At least one is needed to register. */
    bool (*sample)(ad_sample *sample, int k);
};

/* Applies an op to n inputs. Returns result 0; `results`, unless NULL, gets all of them. `attrs` is copied. */
#define ad_apply(...) ad_apply_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_apply_at(const char *where, ad_tape *tape, const ad_op *op, int n, const ad_var *in,
                          const void *attrs, ad_var *results);

/* The registry holds ours from the start. A descriptor must stay where it is for the rest of the program. Refused: an
 * incomplete one, one without samples, and a second one of the same name. Thread-safe. */
AD_API ad_status ad_op_register(const ad_op *op, ad_error *error);
AD_API const ad_op *ad_op_find(const char *name); /* NULL if there is none */
AD_API int ad_op_count(void);
AD_API const ad_op *ad_op_at(int i); /* in the order of registration; NULL out of range */

#ifdef __cplusplus
}
#endif
#endif
