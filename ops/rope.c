/* rope: rotary position embedding. Su, Lu, Pan, Murtadha, Wen, Liu: "RoFormer", 2021. */
#include "ops/kernels/rotary.h"
#include "ops/ops.h"

#include <stdio.h>

typedef struct rope_attrs {
    double base;
    int64_t first; /* the position of row 0 */
    bool inverse;
} rope_attrs;

static ad_status rope_shape(ad_call *call) {
    const rope_attrs *attrs = call->attrs;
    const ad_shape *x = &call->in[0]->shape;
    ad_status status = ad_shape_like_input(call);
    if (status) return status;
    if (x->rank < 2 || x->dim[x->rank - 1] % 2)
        return ad_fail(call, AD_ERR_SHAPE, "%s, but it takes [..., positions, features], features in pairs",
                       ad_describe(call, 0));
    if (attrs->base > 0 && attrs->base <= 1e300) return AD_OK;
    return ad_fail(call, AD_ERR_VALUE, "the base is %g; it must be positive and finite (10000 is usual)",
                   attrs->base);
}

static ad_status rotate(ad_call *call, const ad_view *x, bool inverse, const ad_view *y, bool add) {
    const rope_attrs *attrs = call->attrs;
    int rank = x->shape.rank;
    ad_view table = ad_scratch_view(call, AD_F64, AD_SHAPE(x->shape.dim[rank - 2], x->shape.dim[rank - 1]));
    if (!table.data) return AD_ERR_OOM;
    ad_rotary_table(table.shape.dim[0], table.shape.dim[1] / 2, (double)attrs->first, attrs->base, inverse,
                    table.data);
    ad_rotate_pairs(x, table.data, y, add);
    return AD_OK;
}

static ad_status rope_forward(ad_call *call) {
    return rotate(call, call->in[0], ((const rope_attrs *)call->attrs)->inverse, &call->out[0], false);
}

static ad_status rope_backward(ad_call *call, ad_adjoint *adjoint) {
    bool add;
    const ad_view *x_bar = ad_into(adjoint, 0, &add);
    if (!x_bar) return AD_OK;
    return rotate(call, &adjoint->seed[0], !((const rope_attrs *)call->attrs)->inverse, x_bar, add);
}

/* The transpose of a rotation is its inverse. */
static void rope_vjp(ad_vjp *v) {
    rope_attrs attrs = *(const rope_attrs *)ad_vjp_attrs(v);
    attrs.inverse = !attrs.inverse;
    ad_vjp_give(v, 0, ad_apply_1(AD_HERE, &ad_op_rope, ad_vjp_seed(v, 0), &attrs));
}

static void show_rope(const void *attrs, char *text, size_t size) {
    const rope_attrs *a = attrs;
    snprintf(text, size, "%sbase %g, from position %lld", a->inverse ? "inverse, " : "", a->base,
             (long long)a->first);
}

static bool rope_sample(ad_sample *sample, int k) {
    const ad_shape shapes[] = {AD_SHAPE(5, 4), AD_SHAPE(2, 3, 6), AD_SHAPE(1, 2),
                               AD_SHAPE(0, 4), AD_SHAPE(3, 0),    AD_SHAPE(2, 1, 2, 2)};
    rope_attrs *attrs = (rope_attrs *)(void *)sample->attrs.bytes;
    if (k >= (int)(sizeof shapes / sizeof *shapes)) return false;
    *attrs = (rope_attrs){.base = k % 2 ? 100 : 10000, .first = 3 * k, .inverse = k == 1};
    return ad_sample_normal(sample, shapes[k]);
}

/* Both features of a pair depend on both. */
static void rope_depends(ad_dependence *d) {
    ad_view x, y;
    if (!ad_dependence_input(d, 0, &x) || !ad_dependence_result(d, 0, &y)) return;
    for (int from = 0; from < 2; from++) {
        for (int to = 0; to < 2; to++) {
            ad_view in = x, out = y;
            (void)(ad_view_slice(&x, -1, from, INT64_MAX, 2, &in) || ad_view_slice(&y, -1, to, INT64_MAX, 2, &out));
            ad_depend(d, &out, &in, out.shape.rank);
        }
    }
}

const ad_op ad_op_rope = {
    .name = "rope",
    .inputs = 1,
    .attrs_size = sizeof(rope_attrs),
    .attrs = AD_ATTRS(AD_ATTR("base", DOUBLE, rope_attrs, base, AD_USUALLY(10000)),
                      AD_ATTR("first", INT64, rope_attrs, first, AD_USUALLY(0)),
                      AD_ATTR("inverse", BOOL, rope_attrs, inverse, AD_USUALLY(false))),
    .saves = AD_SAVES_NOTHING,
    .shape = rope_shape,
    .forward = rope_forward,
    .vjp = rope_vjp,
    .backward = rope_backward,
    .jvp = ad_jvp_linear,
    .depends = rope_depends,
    .formula = "$y = $0 turned ($a)",
    .adjoint = {"~0 += ~y turned back"},
    .show_attrs = show_rope,
    .sample = rope_sample,
};

ad_var ad_rope_at(const char *where, ad_var x, double base, int64_t first) {
    rope_attrs attrs = {.base = base, .first = first, .inverse = false};
    return ad_apply_1(where, &ad_op_rope, x, &attrs);
}
