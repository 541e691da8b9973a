/* adtape/tape.h: the tape, its variables, parameters and the walk back.
 *
 *   tape       the list of operations in the order in which they ran (a Wengert list): index order is topological
 *              order. One tape belongs to one thread at a time.
 *   variable   a handle to one node of a tape, passed by value. Needs no freeing. A handle that outlived its node,
 *              or that belongs to another tape, is detected and reported.
 *   leaf       a node that no operation made: an input, a constant or a parameter.
 *   gradient   of a node x after ad_backward(y): the derivative of y (times the seed) with respect to x.
 *
 * Errors are sticky: the first one stays on the tape, every later operation on that tape does nothing and returns an
 * invalid variable, until ad_tape_reset. Check once, at the end, with ad_tape_status. */
#ifndef ADTAPE_TAPE_H
#define ADTAPE_TAPE_H

#include <adtape/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ad_tape ad_tape;
typedef struct ad_param ad_param;

typedef struct ad_var {
    ad_tape *tape;
    uint32_t index;
    uint32_t generation; /* 0 is never valid, so a zeroed ad_var is invalid */
} ad_var;

/* The place in the caller's source, as "file.c:12". The functions below that end in _at take it first, and a macro
 * without _at passes AD_HERE. It must live as long as the tape (a string literal does); NULL: not known. */
#define AD_TEXT_(line) #line
#define AD_TEXT(line)  AD_TEXT_(line)
#define AD_HERE        __FILE__ ":" AD_TEXT(__LINE__)

/* ---- tapes ---------------------------------------------------------------------------------------------- */

/* What values and gradients may hold. A tape that checks stops at the first bad number, in either pass, with AD_ERR_NUMBER:
 * the message says which op made it, where, from what, or with which leaf it came in. */
typedef enum ad_numbers { AD_NUMBERS_ANY, AD_NUMBERS_NO_NAN, AD_NUMBERS_FINITE } ad_numbers;

typedef struct ad_tape_options {
    const ad_allocator *allocator; /* NULL: the default; must outlive the tape and every tensor taken from it */
    /* Called once when the tape enters its error state. It must not use the tape, and may longjmp out of it only to a
     * place that resets or frees the tape. */
    void (*on_error)(void *user, const ad_error *error);
    void *user;
    /* 0: as many as an index can name (2^32 - 2). A walk back needs room for a few more where a derivative is written in
     * ops: it records them, and forgets them again. */
    uint64_t max_nodes;
    /* Called, with `user`, at the 8th backward pass in a row that finds more nodes than the one before, none of which was
     * forgotten in between, and then each time they have doubled: most likely a loop that does not call ad_tape_reset. */
    void (*on_growth)(void *user, int64_t passes, int64_t nodes, uint64_t bytes);
    /* Reads every value and gradient as it is made; scalars then do without their short cut. */
    ad_numbers numbers;
} ad_tape_options;

/* A new, empty tape; NULL if out of memory. `options` NULL: all zero. */
AD_API ad_tape *ad_tape_new(const ad_tape_options *options);
AD_API void ad_tape_free(ad_tape *tape); /* NULL is allowed; its variables must not be used any more */

/* Forgets every node and the error, and keeps the memory for the next recording. Handles become stale. */
AD_API void ad_tape_reset(ad_tape *tape);

/* AD_ERR_NULL and a message for a NULL tape, so that a failed ad_tape_new is reported like everything else. */
AD_API ad_status ad_tape_status(const ad_tape *tape);
AD_API const char *ad_tape_error(const ad_tape *tape); /* "" when all is well; lives until the next reset */

/* Changes that option, for what is recorded and walked from now on. */
AD_API void ad_tape_check_numbers(ad_tape *tape, ad_numbers numbers);

AD_API int64_t ad_tape_size(const ad_tape *tape);    /* nodes */
AD_API uint64_t ad_tape_memory(const ad_tape *tape); /* bytes that the tape holds from its allocator */

/* A mark remembers how far the tape is; rewinding forgets the nodes recorded since and makes their handles stale.
 * Rewinding to a mark that was itself rewound or reset away is AD_ERR_HANDLE. */
typedef struct ad_mark {
    ad_tape *tape;
    uint32_t count, generation, scope, scopes, stretches, stretch_generation;
    uint64_t names, extras;
} ad_mark;
AD_API ad_mark ad_tape_mark(ad_tape *tape);
AD_API ad_status ad_tape_rewind(ad_tape *tape, ad_mark mark);

/* Checks every invariant of the tape's own structures; for tests. */
AD_API ad_status ad_tape_verify(const ad_tape *tape, ad_error *error);

/* ---- names and scopes ----------------------------------------------------------------------------------- */

#define ad_name(...) ad_name_at(AD_HERE, __VA_ARGS__)
/* Names a node, for messages and dumps, and returns it. The text is copied. */
AD_API ad_var ad_name_at(const char *where, ad_var x, const char *name);

/* Nodes recorded until the matching end belong to the scope; scopes nest: "block0/attention". */
AD_API void ad_scope_begin(ad_tape *tape, const char *format, ...) AD_PRINTF(2, 3);
AD_API void ad_scope_end(ad_tape *tape);

/* ---- leaves --------------------------------------------------------------------------------------------- */

/* An input that gets a gradient; `data` (row-major, of `dtype`) is copied. `name` may be NULL. */
#define ad_leaf(...) ad_leaf_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_leaf_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                         const void *data);
/* The same from a tensor, shared, not copied: do not write to it while the tape uses it. Integers get no gradient. */
#define ad_leaf_tensor(...) ad_leaf_tensor_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_leaf_tensor_at(const char *where, ad_tape *tape, const char *name, ad_tensor *value);

/* Leaves that get no gradient. */
#define ad_constant(...) ad_constant_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_constant_at(const char *where, ad_tape *tape, const char *name, ad_dtype dtype, ad_shape shape,
                             const void *data);
#define ad_constant_tensor(...) ad_constant_tensor_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_constant_tensor_at(const char *where, ad_tape *tape, const char *name, ad_tensor *value);
#define ad_number(...) ad_number_at(AD_HERE, __VA_ARGS__) /* a 0-d constant */
AD_API ad_var ad_number_at(const char *where, ad_tape *tape, ad_dtype dtype, double value);
#define ad_index(...) ad_index_at(AD_HERE, __VA_ARGS__) /* a 0-d i64 constant */
AD_API ad_var ad_index_at(const char *where, ad_tape *tape, int64_t value);
#define ad_scalar(...) ad_scalar_at(AD_HERE, __VA_ARGS__) /* a 0-d f64 leaf that gets a gradient */
AD_API ad_var ad_scalar_at(const char *where, ad_tape *tape, const char *name, double value);

/* A parameter lives outside any tape: a float tensor, its gradient, and a count of its changes. It is reference-
 * counted; a tape on which it is used holds a reference until reset. Tapes of several threads may use it, but only one
 * thread at a time may change it or walk back to it. */
AD_API ad_status ad_param_new(ad_param **out, const ad_allocator *allocator, const char *name, ad_dtype dtype,
                              ad_shape shape, const void *data, ad_error *error);
AD_API ad_param *ad_param_ref(ad_param *param);
AD_API void ad_param_unref(ad_param *param);
AD_API const char *ad_param_name(const ad_param *param);
AD_API const ad_view *ad_param_value(const ad_param *param);    /* row-major; read only */
AD_API const ad_view *ad_param_gradient(const ad_param *param); /* row-major; zeros until a backward pass */
/* The same memory for writing: counts as a change, so that a backward pass over an older use is refused. Ask for the
 * gradient anew after each backward pass. */
AD_API const ad_view *ad_param_edit(ad_param *param);
AD_API const ad_view *ad_param_edit_gradient(ad_param *param);
/* False after a backward pass failed half-way: the gradient is then not to be used. */
AD_API bool ad_param_gradient_is_complete(const ad_param *param);

/* Puts a parameter on a tape. */
#define ad_use(...) ad_use_at(AD_HERE, __VA_ARGS__)
AD_API ad_var ad_use_at(const char *where, ad_tape *tape, ad_param *param);

/* ---- reading -------------------------------------------------------------------------------------------- */

/* A view of the node's value, valid until its node goes (reset, rewind, free). An invalid handle sets the tape's
 * error and gives a view with data NULL, rank 0. */
#define ad_value(...) ad_value_at(AD_HERE, __VA_ARGS__)
AD_API ad_view ad_value_at(const char *where, ad_var x);
/* The only element of a value, as double; NaN and an error if there is not exactly one. */
#define ad_item(...) ad_item_at(AD_HERE, __VA_ARGS__)
AD_API double ad_item_at(const char *where, ad_var x);
/* The value as a tensor with a reference of the caller's, which may outlive the tape; NULL and an error otherwise. It is
 * not a copy: that of a parameter, or of a view of one, changes with the parameter. */
#define ad_tensor_of(...) ad_tensor_of_at(AD_HERE, __VA_ARGS__)
AD_API ad_tensor *ad_tensor_of_at(const char *where, ad_var x);

/* ---- backward ------------------------------------------------------------------------------------------- */

typedef struct ad_backward_options {
    ad_var seed;       /* the cotangent of y, of y's shape and dtype; zeroed: y has one element and the seed is 1 */
    const ad_var *wrt; /* the nodes whose gradients are wanted, leaves or not; NULL: all */
    int wrt_count;
    bool accumulate;  /* parameters: add to their gradients instead of overwriting them */
    bool leaves_only; /* give back the gradient of an intermediate as soon as it has been passed on */
} ad_backward_options;

/* Walks from y to the leaves and leaves in each node that y depends on its gradient, which replaces that of an
 * earlier backward pass; the gradients of parameters are overwritten (those on the tape that y does not depend on:
 * with zeros) or, with .accumulate, added to, and then only if the whole pass succeeds. May be called again. */
#define ad_backward(...) ad_backward_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_backward_at(const char *where, ad_var y);
#define ad_backward_with(...) ad_backward_with_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_backward_with_at(const char *where, ad_var y, const ad_backward_options *options);

/* What is recorded in between, leaves included, needs no gradient; may be nested. Both do nothing on a tape in error. */
AD_API void ad_no_grad_begin(ad_tape *tape);
AD_API void ad_no_grad_end(ad_tape *tape);

/* Has f called by each backward pass when the gradient of x is complete and before it is passed on. The view is row-major
 * and may be written to: to clip the gradient, or put another in its place. f must not use the tape but to read values;
 * several functions for one x are called in the order in which they came. ad_grad calls none. */
typedef void (*ad_gradient_function)(void *user, ad_var x, const ad_view *gradient);
#define ad_on_gradient(...) ad_on_gradient_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_on_gradient_at(const char *where, ad_var x, ad_gradient_function f, void *user);

/* The gradient that the last ad_backward left at x: valid until the next backward pass or until the node goes. Zeros
 * if y does not depend on x (ad_gradient_reached tells). An error if there was no backward pass since x was recorded, for
 * integers and constants, and where .leaves_only or .wrt left none: the view then has data NULL. */
#define ad_gradient(...) ad_gradient_at(AD_HERE, __VA_ARGS__)
AD_API ad_view ad_gradient_at(const char *where, ad_var x);
#define ad_gradient_item(...) ad_gradient_item_at(AD_HERE, __VA_ARGS__)
AD_API double ad_gradient_item_at(const char *where, ad_var x);
AD_API bool ad_gradient_reached(ad_var x);

/* Records the gradients of y with respect to x[0..n) on the tape, as variables that can be differentiated again.
 * `seed` as in ad_backward_options; a y that does not depend on x[i] gives zeros. Returns the tape's status; on error
 * the gradients are invalid variables. */
#define ad_grad(...) ad_grad_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_grad_at(const char *where, ad_var y, ad_var seed, int n, const ad_var *x, ad_var *gradient);

/* Records how y[0..m) move when x[0..n) move along x_dot[0..n) (forward mode: the Jacobian times a vector), as variables
 * that can be differentiated again. x_dot[i] has the type of x[i]; x need not be leaves, but what x[i] was made from
 * counts as standing still. A y that does not depend on x gives zeros. Returns the tape's status; on error y_dot are
 * invalid variables. */
#define ad_pushforward(...) ad_pushforward_at(AD_HERE, __VA_ARGS__)
AD_API ad_status ad_pushforward_at(const char *where, int n, const ad_var *x, const ad_var *x_dot, int m,
                                   const ad_var *y, ad_var *y_dot);

/* ---- looking at a tape ---------------------------------------------------------------------------------- */

/* What the dumps are made with, and enough for one of your own: nodes and the formulas of their ops, what is saved for
 * backward and why, who contributed what to a gradient, scopes, and totals. Looking changes nothing and works on a tape
 * in error too. Pointers live until the node goes, gradients until the next backward pass. */
typedef struct ad_op ad_op;

typedef struct ad_node_info {
    int64_t index;
    const ad_op *op; /* leaves have one too; that of result 1, 2, ... of an operation is called "result" */
    const void *attrs;
    const char *name;     /* "" if it has none */
    const char *scope;    /* "block0/attention", "" at the top */
    int64_t scope_number; /* for ad_tape_scope */
    const char *where;    /* NULL if not known */
    int inputs;
    const uint32_t *input; /* indices of nodes, all smaller than `index` */
    int result;            /* which result of its operation this is; > 0: input[0] is result 0 */
    ad_view value;
    bool is_leaf;
    bool is_view;        /* shares the memory of input[0] */
    bool needs_gradient; /* some leaf that gets a gradient leads here */
    bool wanted;         /* the last backward pass was to leave a gradient here, or to pass one on */
    bool reached;        /* it came by, though it may have given the gradient back */
    bool has_gradient;   /* it left a gradient here: zeros, where somebody asked, if it did not come by */
    bool is_seed;        /* it began here */
    ad_view gradient;    /* when has_gradient */
    ad_param *param;     /* of a parameter leaf, else NULL; borrowed */
    bool is_changed;     /* a parameter that was edited since it was put on the tape */
    bool is_incomplete;  /* a parameter whose gradient a failed pass left half done */
} ad_node_info;
AD_API ad_status ad_tape_node(const ad_tape *tape, int64_t index, ad_node_info *info);
AD_API ad_var ad_tape_var(ad_tape *tape, int64_t index); /* a handle to a node, invalid if out of range */

/* The last backward pass. */
typedef struct ad_pass_info {
    int64_t nodes;     /* those from this one on were recorded since and have no gradient; 0: there was no pass */
    int64_t start;     /* where it began; -1 if that node is gone */
    bool is_selective; /* it was asked for some gradients only (.wrt) */
} ad_pass_info;
AD_API ad_status ad_tape_pass(const ad_tape *tape, ad_pass_info *info);

/* A formula of an op (op.h), cut into text and references. Start with *at at its beginning:
 *     for (const char *at = op->formula; ad_formula_next(&at, &part);) ... */
typedef enum ad_formula_kind {
    AD_FORMULA_TEXT,
    AD_FORMULA_INPUT,
    AD_FORMULA_RESULT,
    AD_FORMULA_ATTRS
} ad_formula_kind;
typedef struct ad_formula_part {
    ad_formula_kind kind;
    const char *text; /* of any kind, as written; not terminated */
    size_t length;
    int number;        /* of the input or result */
    bool is_cotangent; /* ~ rather than $ */
} ad_formula_part;
AD_API bool ad_formula_next(const char **at, ad_formula_part *part);
/* The formula of the contribution to input i: "" if there is none. One that stands for all further inputs is written
 * for input *written_for: read that number in it as i. */
AD_API const char *ad_op_adjoint(const ad_op *op, int i, int *written_for);

/* A value that the operation at a node keeps for its backward pass, once each. Only those are listed that are read for
 * an input which needs a gradient. */
typedef struct ad_saved {
    int64_t node;   /* whose value */
    int input;      /* which input of the operation that is, the first if several; -1: it is one of its results */
    uint64_t bytes; /* of memory that it keeps */
    /* Why: bit i set if the formula of the contribution to input i reads it, bit 63 for all further inputs; 0 if no
     * formula says. */
    uint64_t read_for;
} ad_saved;
/* Steps through them; *cursor is 0 at first. False: there are no more. */
AD_API bool ad_tape_saved(const ad_tape *tape, int64_t index, int *cursor, ad_saved *saved);

/* Who contributed, in the last backward pass, to the gradients of the nodes from `first` up to `end`: an index, made in
 * one walk over the tape. It keeps at most `most` contributions of each node (0: all) and counts the others. */
typedef struct ad_contributors ad_contributors;
typedef struct ad_contribution {
    int64_t consumer; /* node of an operation: its result 0 */
    int input;        /* which of its inputs the node is */
} ad_contribution;
AD_API ad_status ad_contributors_new(ad_contributors **out, const ad_tape *tape, int64_t first, int64_t end,
                                     int64_t most);
AD_API void ad_contributors_free(ad_contributors *contributors); /* before the tape; NULL is allowed */
AD_API int64_t ad_contributors_count(const ad_contributors *contributors, int64_t index);
/* Number n, in the order in which they were added: the last consumer first. False if it was not kept. */
AD_API bool ad_contributors_at(const ad_contributors *contributors, int64_t index, int64_t n, ad_contribution *out);

/* What the consumer's VJP added to the gradient of the node at its input number `input`: recomputed from the consumer's
 * gradient. *out is the caller's to unref; NULL if nothing was added, or the consumer's gradient was given back. A
 * failure does not become the tape's: AD_ERR_CHANGED if it would read a parameter that was changed since. */
AD_API ad_status ad_tape_contribution(ad_tape *tape, int64_t consumer, int input, ad_tensor **out);

/* The derivative of a result with respect to input number `input` of its operation, with everything else held fixed: a
 * matrix with a row for each element of the result at node `index` and a column for each of the input. Found by one VJP
 * for each row. *out is the caller's to unref; NULL if either is an integer, or the operation has no derivative. Errors as
 * for ad_tape_contribution. */
AD_API ad_status ad_tape_local_jacobian(ad_tape *tape, int64_t index, int input, ad_tensor **out);

/* Scopes by number, in the order in which they were begun; number 0 is the top and holds everything. */
typedef struct ad_scope_info {
    const char *path; /* "block0/attention" */
    const char *name; /* its last part: "attention" */
    int64_t parent;   /* -1 for the top */
    int depth;        /* 0 for the top */
} ad_scope_info;
AD_API int64_t ad_tape_scope_count(const ad_tape *tape); /* at least 1 */
AD_API ad_status ad_tape_scope(const ad_tape *tape, int64_t number, ad_scope_info *info);

typedef struct ad_totals {
    int64_t nodes, inputs, constants, parameters, operations;
    int64_t merges;       /* nodes to whose gradient the last pass added more than one contribution */
    uint64_t saved_bytes; /* kept for backward, each piece of memory counted once */
} ad_totals;
/* Of each scope with those inside it, so that totals[0] is of the whole tape; `totals` has ad_tape_scope_count
 * elements. Takes a walk over the tape. */
AD_API ad_status ad_tape_totals(const ad_tape *tape, ad_totals *totals);

#ifdef __cplusplus
}
#endif
#endif
