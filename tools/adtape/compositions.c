/* What the library composes of ops and a person would look for by name. Each has a row: nothing else knows of it. */
#include "tools/adtape/command.h"

/* The attributes of all of them; each describes those that it has. */
typedef struct composed_attrs {
    double number;
    int64_t integer;
    int axis;
    ad_axes axes;
} composed_attrs;

/* A constructor that takes the inputs and no more. */
#define TAKES_1(name)                                                                                                \
    static ad_var apply_##name(const char *where, int n, const ad_var *in, const void *attrs) {                      \
        (void)n, (void)attrs;                                                                                        \
        return ad_##name##_at(where, in[0]);                                                                         \
    }
#define TAKES_2(name)                                                                                                \
    static ad_var apply_##name(const char *where, int n, const ad_var *in, const void *attrs) {                      \
        (void)n, (void)attrs;                                                                                        \
        return ad_##name##_at(where, in[0], in[1]);                                                                  \
    }
#define TAKES_3(name)                                                                                                \
    static ad_var apply_##name(const char *where, int n, const ad_var *in, const void *attrs) {                      \
        (void)n, (void)attrs;                                                                                        \
        return ad_##name##_at(where, in[0], in[1], in[2]);                                                           \
    }
/* Any other: its arguments, of which `in` and `a` are known. */
#define CALLS(name, ...)                                                                                             \
    static ad_var apply_##name(const char *where, int n, const ad_var *in, const void *attrs) {                      \
        const composed_attrs *a = attrs;                                                                             \
        (void)n, (void)a;                                                                                            \
        return ad_##name##_at(where, __VA_ARGS__);                                                                   \
    }

TAKES_1(transpose)
TAKES_1(trace)
TAKES_1(tanhshrink)
TAKES_1(reverse_gradient)
TAKES_2(dot)
TAKES_2(outer)
TAKES_2(pick)
TAKES_2(nll)
TAKES_2(embedding)
TAKES_2(cosine_loss)
TAKES_2(cholesky_solve)
TAKES_2(masked_select)
TAKES_2(straight_through)
TAKES_3(lerp)
TAKES_3(gaussian_nll)
TAKES_3(clamp_between)
CALLS(huber, in[0], in[1], a->number)
CALLS(triplet_loss, in[0], in[1], in[2], a->number)
CALLS(masked_fill, in[0], in[1], a->number)
CALLS(softmin, in[0], a->axis)
CALLS(glu, in[0], a->axis)
CALLS(unsqueeze, in[0], a->axis)
CALLS(squeeze, in[0], a->axes)
CALLS(flip, in[0], a->axes)
CALLS(diag, in[0], a->integer)
CALLS(diag_embed, in[0], a->integer)
CALLS(roll, in[0], a->integer, a->axis)
CALLS(select, in[0], a->axis, a->integer)
CALLS(stack, n, in, a->axis)
CALLS(layer_norm, in[0], (int)a->integer, in[1], in[2], a->number)

#define NUMBER(name, ...)  AD_ATTR(name, DOUBLE, composed_attrs, number, __VA_ARGS__)
#define INTEGER(name, ...) AD_ATTR(name, INT64, composed_attrs, integer, __VA_ARGS__)
#define AXIS(...)          AD_ATTR("axis", INT, composed_attrs, axis, __VA_ARGS__)
#define AXES(...)          AD_ATTR("axes", AXES, composed_attrs, axes, __VA_ARGS__)

#define ROW(text, inputs_, ...)                                                                                      \
    { .op = {.name = #text, .inputs = inputs_, .formula = __VA_ARGS__}, .apply = apply_##text }
#define WITH(...) .attrs_size = sizeof(composed_attrs), .attrs = AD_ATTRS(__VA_ARGS__)
#define INDEXED(text, formula_)                                                                                      \
    { .op = {.name = #text, .inputs = 2, .formula = formula_}, .integers = 2, .apply = apply_##text }

const cmd_composition compositions[] = {
    ROW(transpose, 1, "$y = $0^T, also written $0.T"),
    ROW(trace, 1, "$y = the sum of the diagonal of $0"),
    ROW(dot, 2, "$y = sum($0 * $1) over the last axis"),
    ROW(outer, 2, "$y = $0 $1^T"),
    ROW(diag, 1, "$y = diagonal k of a matrix, a matrix of a diagonal", WITH(INTEGER("k", AD_USUALLY(0)))),
    ROW(diag_embed, 1, "$y = matrices with diagonal k", WITH(INTEGER("k", AD_USUALLY(0)))),
    ROW(cholesky_solve, 2, "$y = ($0 $0^T)^-1 $1"),
    ROW(squeeze, 1, "$y = $0 without axes of size 1", WITH(AXES(AD_USUALLY(0)))),
    ROW(unsqueeze, 1, "$y = $0 with an axis of size 1", WITH(AXIS(AD_REQUIRED))),
    ROW(flip, 1, "$y = $0 backwards", WITH(AXES(AD_USUALLY(0)))),
    ROW(roll, 1, "$y[i + shift] = $0[i]", WITH(INTEGER("shift", AD_REQUIRED), AXIS(AD_REQUIRED))),
    ROW(select, 1, "$y = element i along the axis", WITH(AXIS(AD_REQUIRED), INTEGER("i", AD_REQUIRED))),
    ROW(stack, -1, "$y = all of them along a new axis", WITH(AXIS(AD_USUALLY(0)))),
    INDEXED(pick, "$y = $0[..., $1[...]]"),
    INDEXED(embedding, "$y = rows $1 of $0"),
    ROW(masked_fill, 2, "$y = $1 ? value : $0", WITH(NUMBER("value", AD_REQUIRED))),
    ROW(masked_select, 2, "$y = the elements of $0 where $1 is not 0"),
    ROW(lerp, 3, "$y = $0 + $2 ($1 - $0)"),
    ROW(clamp_between, 3, "$y = min(max($0, $1), $2)"),
    ROW(softmin, 1, "$y = softmax(-$0)", WITH(AXIS(AD_USUALLY(-1)))),
    ROW(glu, 1, "$y = a sigmoid(b) for the halves of $0", WITH(AXIS(AD_USUALLY(-1)))),
    ROW(tanhshrink, 1, "$y = $0 - tanh($0)"),
    ROW(layer_norm, 3, "$y = standardized $0 over its last k axes, times $1 plus $2",
        WITH(INTEGER("k", AD_USUALLY(1)), NUMBER("epsilon", AD_USUALLY(1e-5)))),
    ROW(huber, 2, "$y = d^2 / 2 up to |d| = delta, then delta (|d| - delta / 2), d = $0 - $1",
        WITH(NUMBER("delta", AD_USUALLY(1)))),
    INDEXED(nll, "$y = -$0[..., $1[...]]"),
    ROW(gaussian_nll, 3, "$y = (log($1) + ($2 - $0)^2 / $1) / 2"),
    ROW(cosine_loss, 2, "$y = 1 - <$0, $1> / (|$0| |$1|)"),
    ROW(triplet_loss, 3, "$y = max(0, |$0 - $1| - |$0 - $2| + margin)", WITH(NUMBER("margin", AD_USUALLY(1)))),
    ROW(reverse_gradient, 1, "$y = $0, whose gradient is negated"),
    ROW(straight_through, 2, "$y = $0, whose gradient goes to $1"),
};
const int composition_count = sizeof compositions / sizeof *compositions;
