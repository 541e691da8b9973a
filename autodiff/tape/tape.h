/* Inside the tape layer: the node, the tape, and the checks that every operation makes.
 *
 *   node    48 bytes; never moves. A value of rank 0 lies in the node itself, any other in a tensor.
 *   grad    16 bytes beside each node, which recording does not touch: what backward passes leave there.
 *   extra   what few nodes have: a name, attributes, more than two inputs, a parameter.
 *   pass    one backward walk, numbered; a node has a gradient if its grad carries the number of the last pass.
 *
 * A long tape is as fast as memory: hence nodes that are small, and gradients apart from them. */
#ifndef AD_TAPE_INTERNAL_H
#define AD_TAPE_INTERNAL_H

#include "autodiff/base/base.h"

#include <adtape/op.h>

typedef union ad_slot {
    double f64;
    float f32;
    int32_t i32;
    int64_t i64;
    ad_tensor *tensor;
} ad_slot;

typedef struct ad_extra {
    const char *name;
    const void *attrs;
    const uint32_t *inputs; /* when there are more than two */
    uint32_t input_count;
    ad_param *param;
    uint64_t param_version; /* when it was put on the tape */
    struct ad_hook *hook;   /* the first of those for its gradient (hook.c) */
} ad_extra;

enum {
    AD_NODE_INLINE = 1 << 0, /* rank 0: value and gradient lie in the node */
    AD_NODE_GRAD = 1 << 1,   /* some leaf that gets a gradient leads here */
    AD_NODE_VIEW = 1 << 2,   /* the value shares the memory of input 0 */
    AD_NODE_FAST = 1 << 3,   /* inline f64 all around, made by an op with a scalar rule */
    AD_NODE_ASKED = 1 << 4,  /* one of .wrt of the last pass */
    AD_NODE_WANTED = 1 << 5, /* on the way from y to one that was asked for */
    AD_NODE_DIRECT = 1 << 6, /* this pass writes straight into the parameter's gradient */
    AD_NODE_LISTED = 1 << 7, /* while inputs are collected: this one is in the list */
    AD_NODE_FLAT = 1 << 8,   /* made by an elementwise op of row-major arrays of one type */
    AD_NODE_HOOKED = 1 << 9, /* somebody wants to see its gradient */

    AD_NODE_RESULT_SHIFT = 12, /* which result of its operation: the top bits */
    AD_NODE_MANY = 3           /* ad_node.inputs: more than two, see the extra */
};

enum {
    AD_GRAD_UNREACHED = 1 << 0,  /* zeros, made when somebody looked: y does not depend on this node */
    AD_GRAD_SEED = 1 << 1,       /* the pass began here */
    AD_GRAD_GIVEN_BACK = 1 << 2, /* passed on, and its memory given back */
    AD_GRAD_IN_PART = 1 << 3     /* written only in one of tape->stripe so far; elsewhere it is 0 to come */
};

typedef struct ad_cotangent {
    ad_slot value;
    uint32_t pass;  /* the pass that left it here; 0: none */
    uint32_t state; /* AD_GRAD_... of that pass */
} ad_cotangent;

/* What is written of a gradient that many slices fill, one beside the other. */
typedef struct ad_stripe {
    uint32_t index; /* node */
    int axis;
    int64_t from, to;
} ad_stripe;
enum { AD_MOST_STRIPES = 8 };

typedef struct ad_node {
    const ad_op *op;
    const char *where;
    ad_slot value;
    ad_extra *extra; /* NULL: none */
    uint32_t in[2];
    uint32_t generation;
    uint16_t flags;
    uint8_t dtype;
    uint8_t inputs; /* 0, 1, 2 or AD_NODE_MANY */
} ad_node;
_Static_assert(sizeof(void *) != 8 || sizeof(ad_node) == 48, "three quarters of a cache line");

enum { AD_CHUNK_SHIFT = 10, AD_CHUNK_NODES = 1 << AD_CHUNK_SHIFT };

/* How far ahead of a walk over nodes memory is asked for. Measured: on tapes that do not fit the cache it halves the
 * time of recording. The place may lie outside the chunk, hence numbers, not pointers. */
enum { AD_NODES_AHEAD = 32 };
#define AD_PREFETCH(at, count)                                                                                       \
    __builtin_prefetch((const void *)((uintptr_t)(at) + sizeof *(at) * (uintptr_t)(count)), 1)

typedef struct ad_chunk {
    ad_node node[AD_CHUNK_NODES];
    ad_cotangent grad[AD_CHUNK_NODES];
} ad_chunk;

typedef struct ad_scope {
    const char *path;
    uint32_t parent, depth;
} ad_scope;

/* Nodes from `first` on, up to the next stretch, belong to `scope`. */
typedef struct ad_stretch {
    uint32_t first, scope, generation;
} ad_stretch;

/* A value that outlives its node. */
typedef struct ad_kept {
    ad_slot value;
    uint8_t dtype;
    bool is_kept, is_inline, needs_gradient;
} ad_kept;
static inline void ad_kept_drop(ad_kept *kept) {
    if (kept->is_kept && !kept->is_inline) ad_tensor_unref(kept->value.tensor);
    *kept = (ad_kept){.is_kept = false};
}

struct ad_tape {
    ad_chunk **chunk;
    uint32_t count;
    uint32_t fast_end;   /* nodes for which there is room; 0 while the tape carries an error */
    uint32_t generation; /* of nodes and stretches that begin now */
    uint32_t pass;       /* number of the last backward pass; 0: none yet */
    uint32_t scope;
    uint8_t no_grad;        /* > 0: what is recorded needs no gradient */
    uint8_t no_grad_scopes; /* as many of those are the user's */
    bool in_hook;
    bool zeros_stop; /* no pass goes on where a scalar's gradient is 0, nor says that it came by what is behind */
    uint8_t numbers; /* ad_numbers; ANY while a VJP runs for its numbers, which are looked at afterwards */
    uint8_t numbers_asked;
    struct ad_profile *profile; /* NULL: none, or not while an operation is walked back, which is timed as a whole */
    struct ad_profile *profile_asked;
    uint32_t deriving; /* 1 + the node whose derivative is being recorded; 0: none */

    uint32_t chunks, chunk_room;
    uint32_t max_nodes;
    const ad_allocator *allocator;
    ad_pool *pool;
    ad_arena extras, scratch;
    ad_arena rows; /* of a walk for many seeds (batch.h) */
    ad_list owners;   /* nodes that hold a tensor or a parameter, ascending */
    ad_list graded;   /* nodes that hold a gradient tensor */
    ad_list params;   /* parameter leaves, ascending */
    ad_list named;    /* nodes in the order in which they were given a name or a hook */
    ad_scope *scopes; /* [0] is the top */
    uint32_t scope_count, scope_room;
    uint32_t first_generation; /* since the last reset */
    ad_stretch *stretch;       /* ascending; nodes before the first one are at the top */
    uint32_t stretch_count, stretch_room;
    uint32_t pass_nodes; /* how many there were at the last pass and still are: no later one has a gradient */
    uint32_t pass_start; /* node where the last pass began; at least pass_nodes: it is gone */
    bool pass_has_wrt;   /* that pass was asked for some gradients only */
    ad_stripe stripe[AD_MOST_STRIPES];
    int stripes;
    const char *where;               /* unless NULL: the place in the user's source that recording is done for */
    ad_tensor *held[AD_MAX_RESULTS]; /* of the call under way, no node's yet: a handler may jump out of it */
    ad_kept kept[AD_MAX_RESULTS];    /* likewise, of the function that ran */

    /* Functions that run again (run.c): the one under way; and what those under way for the first time drew, which
     * parameters they used, what they read from outside. Each has the end of a list, from where it began. */
    struct ad_run_frame *frame;
    ad_list drawn, used, captured;
    struct ad_sequence *sequences; /* those with snapshots, the last one first */

    void (*on_error)(void *user, const ad_error *error);
    void (*on_growth)(void *user, int64_t passes, int64_t nodes, uint64_t bytes);
    uint32_t growing, grown_to; /* passes in a row that found more nodes, and how many the last one found */
    void *user;
    ad_error error;
};

struct ad_param {
    atomic_uint refs;
    const ad_allocator *allocator;
    ad_tensor *value, *grad;
    uint64_t version;
    /* During a pass: a leaf of it that wants a gradient was found, and which was the first; one of them is written. */
    bool claimed, written;
    uint32_t first_leaf;
    bool incomplete; /* a pass failed half-way */
    bool few_rows;   /* the gradient is 0 but for these rows, along axis 0, so that only they need be cleared */
    ad_list rows;
    size_t size; /* of this block */
    char name[];
};

/* The leaf kinds are ops too, so that nothing that looks at nodes needs to know. */
extern const ad_op ad_leaf_input, ad_leaf_constant, ad_leaf_parameter, ad_result_of;
/* The walk merges with add, sums with sum_to, and knows the derivatives of scalar sums and products by heart. */
extern const ad_op ad_op_add, ad_op_mul, ad_op_sum_to;
/* Ours, ended by NULL. */
extern const ad_op *const ad_builtin_ops[];

/* ---- nodes ------------------------------------------------------------------------------------------------ */

static inline ad_node *ad_node_at(const ad_tape *tape, uint32_t index) {
    return &tape->chunk[index >> AD_CHUNK_SHIFT]->node[index & (AD_CHUNK_NODES - 1)];
}
static inline ad_cotangent *ad_cotangent_at(const ad_tape *tape, uint32_t index) {
    return &tape->chunk[index >> AD_CHUNK_SHIFT]->grad[index & (AD_CHUNK_NODES - 1)];
}
static inline bool ad_var_is_valid(ad_var x) {
    return x.tape && x.index < x.tape->count && ad_node_at(x.tape, x.index)->generation == x.generation;
}
static inline ad_var ad_var_of(ad_tape *tape, uint32_t index) {
    return (ad_var){tape, index, ad_node_at(tape, index)->generation};
}
static inline ad_var ad_var_invalid(ad_tape *tape) { return (ad_var){tape, 0, 0}; }
static inline bool ad_node_is_leaf(const ad_node *node) {
    return node->op == &ad_leaf_input || node->op == &ad_leaf_constant || node->op == &ad_leaf_parameter;
}
static inline int ad_node_result(const ad_node *node) { return node->flags >> AD_NODE_RESULT_SHIFT; }
static inline const uint32_t *ad_node_inputs(const ad_node *node) {
    return node->inputs == AD_NODE_MANY ? node->extra->inputs : node->in;
}
static inline int ad_node_input_count(const ad_node *node) {
    return node->inputs == AD_NODE_MANY ? (int)node->extra->input_count : node->inputs;
}
/* The last pass came by, though it may have given the gradient back. */
static inline bool ad_pass_came_by(const ad_tape *tape, uint32_t index) {
    return index < tape->pass_nodes && ad_cotangent_at(tape, index)->pass == tape->pass;
}
/* And y depends on the node: its gradient is not just zeros that somebody asked for. */
static inline bool ad_pass_reached(const ad_tape *tape, uint32_t index) {
    return ad_pass_came_by(tape, index) && !(ad_cotangent_at(tape, index)->state & AD_GRAD_UNREACHED);
}
static inline bool ad_has_gradient(const ad_tape *tape, uint32_t index) {
    return ad_pass_came_by(tape, index) && !(ad_cotangent_at(tape, index)->state & AD_GRAD_GIVEN_BACK);
}

/* ---- functions that run again (run.c) ------------------------------------------------------------------------- */

/* For random ops: where to draw from, which is `rng` unless a function runs again; and, once drawn, where to leave the
 * user's generator. False: the tape has the error. */
bool ad_draw(ad_tape *tape, const ad_rng *rng, const char *subject, const char *where, ad_rng *state);
void ad_drawn(ad_tape *tape, ad_rng *rng, ad_rng after);
/* True if a function runs again; *leaf is then that of the parameter in its first run, or the tape has the error. */
bool ad_run_use(ad_tape *tape, const ad_param *param, const char *where, ad_var *leaf);
/* A parameter on the tape, known to no function under way. */
ad_var ad_param_put(const char *where, ad_tape *tape, ad_param *param);

/* The view of a slot: the tensor's own, or one of the slot itself, written to `scratch`. */
const ad_view *ad_slot_view(const ad_slot *slot, bool is_inline, ad_dtype dtype, ad_view *scratch);
static inline const ad_view *ad_node_view(const ad_node *node, ad_view *scratch) {
    return ad_slot_view(&node->value, node->flags & AD_NODE_INLINE, (ad_dtype)node->dtype, scratch);
}
static inline const ad_view *ad_gradient_view(const ad_tape *tape, uint32_t index, ad_view *scratch) {
    const ad_node *node = ad_node_at(tape, index);
    return ad_slot_view(&ad_cotangent_at(tape, index)->value, node->flags & AD_NODE_INLINE, (ad_dtype)node->dtype,
                        scratch);
}
static inline ad_shape ad_node_shape(const ad_node *node) {
    return node->flags & AD_NODE_INLINE ? AD_SCALAR : node->value.tensor->view.shape;
}

/* Room for `n` more nodes; false (and the tape's error) if there is none. */
bool ad_tape_room(ad_tape *tape, const char *where, uint32_t n);
/* How far the fast path may go without a further look, which is nowhere if each operation is looked at. */
void ad_tape_update_fast_end(ad_tape *tape);
static inline bool ad_tape_looks_at_each(const ad_tape *tape) { return tape->numbers_asked || tape->profile_asked; }
/* The next node, with everything but op, value and inputs set. There must be room. */
ad_node *ad_tape_push(ad_tape *tape, const char *where);
/* Says that the nodes from `from` on were recorded for that place: the fast path does not look at tape->where. */
void ad_tape_place(ad_tape *tape, uint32_t from, const char *where);
ad_extra *ad_node_extra(ad_tape *tape, ad_node *node); /* made when missing; NULL: the tape has the error */
void ad_tape_release_held(ad_tape *tape);
void ad_tape_drop_gradients(ad_tape *tape); /* of the last pass */
void ad_tape_watch_growth(ad_tape *tape);   /* a pass begins */
/* Of the nodes from `count` on, none of which stands among the first `graded` of tape->graded. */
void ad_tape_forget_gradients(ad_tape *tape, uint32_t count, size_t graded);
bool ad_mark_is_live(const ad_tape *tape, const ad_mark *mark);
void ad_sequences_forget(ad_tape *tape, uint32_t count); /* those of the nodes from `count` on */
uint32_t ad_scope_of(const ad_tape *tape, uint32_t index);
void ad_tape_rewind_to(ad_tape *tape, const ad_mark *mark); /* a valid mark; also while the tape carries an error */
/* A leaf of the given kind with every element `value`. */
ad_var ad_tape_filled(ad_tape *tape, const char *where, const ad_op *kind, ad_dtype dtype, const ad_shape *shape,
                      double value);

/* ---- errors ------------------------------------------------------------------------------------------------ */

/* Sets the tape's error, unless it has one: "subject at file.c:12: message". Any of the texts may be NULL. */
ad_status ad_tape_fail(ad_tape *tape, ad_status status, const char *subject, const char *where, const char *format,
                       ...) AD_PRINTF(5, 6);
ad_status ad_tape_fail_v(ad_tape *tape, ad_status status, const char *subject, const char *where, const char *format,
                         va_list args);
ad_status ad_tape_out_of_memory(ad_tape *tape, const char *subject, const char *where);
/* Work whose failure is not the tape's: in between, the tape starts without an error and tells nobody of a new one. */
typedef struct ad_error_scope {
    ad_error outer;
    void (*on_error)(void *user, const ad_error *error);
} ad_error_scope;
void ad_error_scope_begin(ad_error_scope *scope, ad_tape *tape);
ad_status ad_error_scope_end(const ad_error_scope *scope, ad_tape *tape); /* the status in between */
/* True if `x` is a live variable of `tape`; otherwise the tape gets an error that says what is wrong with it.
 * `role` names it: "input 1". */
bool ad_tape_check_var(ad_tape *tape, ad_var x, const char *subject, const char *where, const char *role);
/* The same where the variable itself says which tape: false for a NULL tape, or one in error. */
bool ad_check_var(ad_var x, const char *subject, const char *where);
/* "H is f64[4,3]", or without the type; v12 for node 12 if it has no name. */
void ad_node_text(const ad_tape *tape, uint32_t index, bool with_type, char *text, size_t size);

/* ---- hooks (hook.c) ------------------------------------------------------------------------------------------------ */

/* Shows the complete gradient of a node to those who asked. False: the tape has the error. */
bool ad_hooks_run(ad_tape *tape, uint32_t index, const ad_view *gradient);

/* ---- timing (profile.c) -------------------------------------------------------------------------------------------- */

struct ad_profile;
int64_t ad_profile_now(struct ad_profile *profile);
/* The operation at `index` was recorded, or walked back, since `start`. */
void ad_profile_operation(ad_tape *tape, struct ad_profile *profile, bool is_backward, uint32_t index, int64_t start);
void ad_profile_pass(struct ad_profile *profile, const char *where, uint32_t index, int64_t start);
void ad_profile_scope_begin(struct ad_profile *profile, uint32_t depth);
void ad_profile_scope_end(struct ad_profile *profile, uint32_t depth, const char *path);
const ad_allocator *ad_profile_allocator(const struct ad_profile *profile);

/* ---- numbers that are not (numbers.c) ------------------------------------------------------------------------------ */

/* False, and the tape's error, if there is a number that tape->numbers does not allow: in a leaf's value, */
bool ad_numbers_in_leaf(ad_tape *tape, const char *subject, const char *where, const ad_view *value);
/* in what an op computed, */
bool ad_numbers_in_results(ad_call *call);
/* or in the gradients of its inputs, where this pass just went back through the operation at `index`. */
bool ad_numbers_in_gradients(ad_tape *tape, uint32_t index);
/* How an element of result 0 moves with the same element of an input, whose shape is the same; and what the operation
 * just added to the gradient of that element. NaN if that cannot be had. */
double ad_local_slope(ad_tape *tape, uint32_t index, int input, int64_t element);
double ad_local_contribution(ad_tape *tape, uint32_t index, int input, int64_t element);

/* ---- one application ----------------------------------------------------------------------------------------- */

enum { AD_FEW_INPUTS = 4 };

struct ad_call_private {
    ad_tape *tape;
    const char *where;
    uint32_t input_index[AD_FEW_INPUTS]; /* nodes, when there are few inputs */
    const uint32_t *inputs;              /* nodes */
    const ad_view *view[AD_FEW_INPUTS];
    ad_view scalar[AD_FEW_INPUTS];
    ad_slot slot[AD_MAX_RESULTS];
};

/* Points call->in[i] at what stands for input i of an elementwise operation: n numbers. */
static inline void ad_call_flatten(ad_call *call, int i, void *data, ad_dtype dtype, int64_t n) {
    ad_view_flatten(&call->priv->scalar[i], data, dtype, n);
    call->priv->view[i] = &call->priv->scalar[i];
}

/* The call of a recorded node, for its backward pass. `result0` is the index of its result 0. False: no memory. */
bool ad_call_of_node(ad_tape *tape, uint32_t result0, ad_call *call, struct ad_call_private *priv);
static inline int ad_op_results(const ad_op *op) { return op->results ? op->results : 1; }
static inline bool ad_op_saves_input(const ad_op *op, int i) { return op->saves & AD_SAVES_INPUT(i); }
static inline bool ad_op_saves_result(const ad_op *op, int k) { return op->saves & AD_SAVES_RESULT(k); }
/* ad_apply_at for an op of which it is known that it and the arguments are fit. */
ad_var ad_apply_fit(const char *where, ad_tape *tape, const ad_op *op, int n, const ad_var *in, const void *attrs,
                    ad_var *results);
/* What makes a descriptor unfit to be applied; NULL: nothing. */
const char *ad_op_flaw(const ad_op *op);
const char *ad_attrs_flaw(const ad_op *op); /* what is wrong with .attrs, or NULL */
/* Whether a descriptor could be registered; a sample is drawn from the allocator. */
ad_status ad_op_validate(const ad_op *op, const ad_allocator *allocator, ad_error *error);

/* ---- the walk back -------------------------------------------------------------------------------------------- */

/* False, and an error, if a parameter was changed whose value the derivative of the operation at `index` would read;
 * `saves` as in ad_op: the inputs and results that it reads. */
bool ad_check_unchanged(ad_tape *tape, uint32_t index, uint32_t saves, const char *subject, const char *where);
/* Checks that y and its seed can start a walk; `subject` is the function that was asked. */
bool ad_check_start(ad_var y, ad_var seed, const char *subject, const char *where);

/* The node whose memory the value of this one is. */
const ad_node *ad_memory_of(const ad_tape *tape, uint32_t index);

/* For operations that record nodes past the end of the tape while a pass goes on, and forget them again. The first
 * function takes the nodes from `first` on into the pass and returns what ad_tape_forget_gradients wants as `graded`;
 * the second adds to the gradient of a node (false: no memory); the third walks back down to `first`. */
size_t ad_pass_extend(ad_tape *tape, uint32_t first, uint16_t mask);
bool ad_pass_give(ad_tape *tape, uint32_t index, uint16_t mask, const ad_slot *gradient);
void ad_pass_walk(ad_tape *tape, uint32_t first, uint16_t mask);

struct ad_adjoint_private {
    ad_tape *tape;
    ad_call *call;
    uint32_t first;    /* node of result 0 */
    uint16_t mask;     /* AD_NODE_GRAD or AD_NODE_WANTED: inputs with this flag want a contribution */
    bool is_flat;      /* the operation sees 1-d arrays in place of all others */
    int capture_input; /* >= 0: only this input, and its contribution goes to `captured` */
    ad_tensor *captured;
    struct ad_batch *batch; /* NULL unless several cotangents are walked back at once */
    ad_view into[AD_FEW_INPUTS];
};
/* Adds `view` to the gradient of input i; `owner`, unless NULL, is the tensor whose memory the view shares, which may
 * then become the gradient itself. */
void ad_contribute(ad_adjoint *adjoint, int i, const ad_view *view, ad_tensor *owner);

/* ad_into for an op that adds to parts of input i: what is not there yet is 0. */
const ad_view *ad_into_cleared(ad_adjoint *adjoint, int i);
/* The same for one that adds to a window, [from, to) along the axis. Where nothing is there yet, and the window lies at the
 * edge of what is, the rest is left alone until somebody needs it: *add is then false. */
const ad_view *ad_into_window(ad_adjoint *adjoint, int i, int axis, int64_t from, int64_t to, bool *add);
/* The same for one that adds to rows along an axis: if that is the first, the gradient of a parameter is cleared only in
 * the rows that hold something. index: integers in range. */
const ad_view *ad_into_rows(ad_adjoint *adjoint, int i, int axis, const ad_view *index);

/* Runs the op's VJP, recorded past the end of the tape and forgotten again. */
void ad_vjp_numeric(ad_adjoint *adjoint);
/* Runs the op's .backward, which sees nothing that the op does not save. */
void ad_run_backward(ad_call *call, ad_adjoint *adjoint);
/* Forgets the last pass and prepares the next, from y; false: the tape has the error. */
bool ad_pass_begin(ad_tape *tape, uint32_t y, const ad_backward_options *options, const char *where);

/* ---- several cotangents at once (batch.c) ------------------------------------------------------------------------ */

/* x_bar[i] = J_i^T y_bar, row by row: y_bar is [seeds, elements of y] and x_bar[i] becomes [seeds, elements of x[i]], of any
 * float dtypes and strides. One walk for all of them where that is possible, else one for each; afterwards the tape has no
 * gradients. */
ad_status ad_backward_batch_at(const char *where, ad_var y, const ad_view *y_bar, int n, const ad_var *x,
                               const ad_view *x_bar);
/* y_dot[j] = J_j x_dot, the same forwards: x_dot[i] is [seeds, elements of x[i]], and y_dot[j] becomes [seeds, elements of
 * y[j]]. Nothing stays on the tape. n, m > 0. */
ad_status ad_pushforward_batch_at(const char *where, int n, const ad_var *x, const ad_view *x_dot, int m,
                                  const ad_var *y, const ad_view *y_dot);
/* How many it is worth while to walk at once, of what leads to y. */
int64_t ad_batch_seeds(ad_var y);
const ad_view *ad_batch_into(ad_adjoint *adjoint, int i, bool *add); /* ad_into */
bool ad_op_is_checkpoint(const ad_op *op);                           /* checkpoint.c */

/* One number per node, from `first` on; of the nodes before it, in `outer`, or 0, which nobody changes. A walk over nodes that a function recorded
 * when it ran again (checkpoint.c) puts an array of theirs before the one it found. */
typedef struct ad_by_node {
    uint32_t *at;
    uint32_t first;
    const struct ad_by_node *outer;
} ad_by_node;
extern const uint32_t ad_zero_of_nodes;
static inline uint32_t *ad_of_node(const ad_by_node *by_node, uint32_t index) {
    while (by_node && index < by_node->first) by_node = by_node->outer;
    return by_node ? &by_node->at[index - by_node->first] : (uint32_t *)(uintptr_t)&ad_zero_of_nodes;
}
/* Adds an array of zeros for the nodes from `first` up to `end` from the tape's scratch memory; false: there is none. */
bool ad_by_node_open(ad_tape *tape, ad_by_node *by_node, uint32_t first, uint32_t end, const ad_by_node *outer);
/* Where walks for x may begin: no node before the first of x depends on any. So many small derivatives on a long tape do not
 * each cost its length. At most `end`. */
uint32_t ad_first_of(int n, const ad_var *x, uint32_t end);

/* What recording VJPs knows of a node: 0, not wanted; 1, wanted, no gradient yet; else 2 + the node that holds its
 * gradient so far. */
enum { AD_NOT_WANTED = 0, AD_WANTED = 1, AD_GRADIENT_BASE = 2 };
/* Adds a contribution to what is known of a node's gradient. */
void ad_gradient_add(ad_tape *tape, const char *where, uint32_t *gradient, ad_var contribution);
/* Marks as wanted each node from gradient->first up to `end` that lies on the way to one that is. */
void ad_gradient_mark_way(const ad_tape *tape, const ad_by_node *gradient, uint32_t end);
/* Records the VJPs from the node before `start` down to gradient->first; `end` is where the array ends. */
void ad_gradient_walk(ad_tape *tape, const char *where, const ad_by_node *gradient, uint32_t start, uint32_t end);

struct ad_vjp {
    ad_tape *tape;
    ad_call *call;
    uint32_t first;             /* node of result 0 */
    uint32_t own;               /* nodes from here on were recorded by this VJP */
    ad_adjoint *adjoint;        /* numbers only: where contributions go */
    const ad_by_node *gradient; /* recording: per node, as above */
    uint32_t *by_input;         /* recording one operation alone: per input, as above; seed[] is then given */
    ad_var seed[AD_MAX_RESULTS];
};

/* ---- which elements depend on which ---------------------------------------------------------------------------- */

typedef struct ad_column_set {
    uint32_t count;
    uint32_t stamp;
    uint32_t column[]; /* ascending */
} ad_column_set;

/* Of the Jacobian of all of y by all of x, by rows: the columns where it may be other than 0. */
typedef struct ad_dependence_rows {
    ad_arena memory; /* to be closed */
    int64_t count;
    const ad_column_set **row;
} ad_dependence_rows;
/* False: the tape has the error, and there is nothing to close. */
bool ad_tape_depends(ad_tape *tape, const char *subject, const char *where, int n, const ad_var *x, int m,
                     const ad_var *y, ad_dependence_rows *rows);

/* ---- forward mode --------------------------------------------------------------------------------------------- */

/* What is known of a node's tangent: 0, it stands still; the largest number, nobody asks for it; else 1 + the node that holds
 * the tangent. */
enum { AD_STANDS_STILL = 0, AD_TANGENT_BASE = 1 };
#define AD_NOT_ASKED UINT32_MAX

struct ad_jvp {
    ad_tape *tape;
    ad_call *call;
    uint32_t first;            /* node of result 0 */
    const ad_by_node *tangent; /* per node, as above */
    bool has_seeds;            /* for many tangents together (batch.h): values repeat along their axis */
    uint32_t result[AD_MAX_RESULTS];
};
/* Whether tangents can pass the operation at `index`, an input of which moves; the tape's error if it has no derivative. */
bool ad_push_can(ad_tape *tape, uint32_t index, const char *where);
/* Pushes tangents through one operation, the call of the node at `index`. */
void ad_push_operation(ad_tape *tape, ad_call *call, uint32_t index, const ad_by_node *tangent, bool has_seeds);
/* Pushes tangents through the nodes from tangent->first up to `end`. */
void ad_tangent_walk(ad_tape *tape, const char *where, const ad_by_node *tangent, uint32_t end);

/* ---- the scalar path ------------------------------------------------------------------------------------------ */

/* Records a 0-d f64 operation; `value` is what op->scalar->value gives for a and b. Constructors inline it, with the
 * value computed in place. Returns NULL if this is not such an application (or something is wrong): the general path
 * then decides. */
static inline bool ad_fast_operand(const ad_tape *tape, ad_var x, const ad_node **node) {
    if (AD_UNLIKELY(x.tape != tape || x.index >= tape->count)) return false;
    *node = ad_node_at(tape, x.index);
    return AD_LIKELY((*node)->generation == x.generation && ((*node)->flags & AD_NODE_INLINE) &&
                     (*node)->dtype == AD_F64);
}

static inline ad_var ad_fast_push(ad_tape *tape, const char *where, const ad_op *op, double value, uint16_t grad,
                                  uint32_t a, uint32_t b, uint8_t inputs) {
    uint32_t index = tape->count++;
    ad_node *node = ad_node_at(tape, index);
    AD_PREFETCH(node, AD_NODES_AHEAD);
    node->op = op;
    node->where = where;
    node->value.f64 = value;
    node->extra = NULL;
    node->in[0] = a;
    node->in[1] = b;
    node->generation = tape->generation;
    node->flags = (uint16_t)(AD_NODE_INLINE | AD_NODE_FAST | (tape->no_grad ? 0 : grad & AD_NODE_GRAD));
    node->dtype = AD_F64;
    node->inputs = inputs;
    return (ad_var){tape, index, tape->generation};
}

#endif
