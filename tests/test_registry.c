/* The op registry: what it holds, what it refuses and why, and the samples that it asks for. */
#include "helpers.h"
#include "tapes.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* ---- ours -------------------------------------------------------------------------------------------------------------------- */

Test(registry, holds_ours_from_the_start_in_the_order_of_the_list) {
    static const char *const names[] = {
#define X(name) #name,
        AD_OP_LIST(X)
#undef X
    };
    const int count = (int)(sizeof names / sizeof *names);
    cr_assert_eq(ad_op_count(), count);
    for (int i = 0; i < count; i++) {
        cr_assert_str_eq(ad_op_at(i)->name, names[i]);
        cr_assert_eq(ad_op_find(names[i]), ad_op_at(i));
        cr_assert_eq(ad_op_register(ad_op_at(i), NULL), AD_OK, "each would be accepted");
    }
    cr_assert_eq(ad_op_count(), count, "and is there once");
    const int outside[] = {-1, count, INT_MAX, INT_MIN};
    for (int i = 0; i < 4; i++) cr_assert_null(ad_op_at(outside[i]));
    cr_assert_null(ad_op_find(NULL));
    cr_assert_null(ad_op_find(""));
    cr_assert_null(ad_op_find("Add"));
    cr_assert_null(ad_op_find("add "));
}

/* ---- an op of the user's ------------------------------------------------------------------------------------------------------- */

static ad_status cube_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status cube_forward(ad_call *call) {
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) {
        double x = ad_view_get(call->in[0], i);
        ((double *)call->out[0].data)[i] = x * x * x;
    }
    return AD_OK;
}
static void cube_vjp(ad_vjp *v) {
    ad_var x = ad_vjp_input(v, 0);
    ad_vjp_give(v, 0, ad_scale(ad_mul(ad_vjp_seed(v, 0), ad_mul(x, x)), 3));
}
static bool cube_sample(ad_sample *sample, int k) { return k < 2 && ad_sample_normal(sample, AD_SHAPE(k + 1)); }

#define CUBE                                                                                                         \
    .inputs = 1, .saves = AD_SAVES_INPUT(0), .shape = cube_shape, .forward = cube_forward, .vjp = cube_vjp,          \
    .formula = "$y = $0^3", .adjoint = {"~0 += 3 ~y $0^2"}, .sample = cube_sample
static const ad_op cube = {.name = "cube", CUBE}, impostor = {.name = "cube", CUBE},
                   other_add = {.name = "add", CUBE};

Test(registry, takes_an_op_once_and_no_other_of_its_name) {
    ad_error error = {AD_OK, ""};
    int count = ad_op_count();
    cr_assert_null(ad_op_find("cube"));
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(ad_op_register(&cube, &error), AD_OK, "%s", error.message);
        cr_assert_eq(ad_op_count(), count + 1);
        cr_assert_eq(ad_op_find("cube"), &cube);
        cr_assert_eq(ad_op_at(count), &cube);
    }
    ad_op_register(&impostor, &error);
    expect_message(&error, AD_ERR_OP, "op cube", "another op of this name");
    ad_op_register(&other_add, &error);
    expect_message(&error, AD_ERR_OP, "op add", "another op of this name");
    cr_assert_eq(ad_op_register(&impostor, NULL), AD_ERR_OP);
    cr_assert_eq(ad_op_count(), count + 1);

    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, -1}), gradient, second;
    ad_var y = ad_sum(ad_apply(t, ad_op_find("cube"), 1, &x, NULL, NULL), AD_ALL_AXES, false);
    ad_backward(y);
    expect_values(ad_gradient(x), 12, 3);
    ad_grad(y, (ad_var){0}, 1, &x, &gradient);
    ad_grad(ad_sum(gradient, AD_ALL_AXES, false), (ad_var){0}, 1, &x, &second);
    expect_values(ad_value(second), 12, -6);
    expect_ok(t);
    ad_tape_free(t);
}

static bool none(ad_sample *sample, int k) {
    (void)sample, (void)k;
    return false;
}
static bool too_many(ad_sample *sample, int k) {
    for (int i = 0; i <= AD_MAX_SAMPLE_INPUTS; i++) (void)ad_sample_normal(sample, AD_SHAPE(k + 2));
    return true;
}
static bool impossible(ad_sample *sample, int k) { return ad_sample_normal(sample, AD_SHAPE(-1, k)); }
static bool two_inputs(ad_sample *sample, int k) {
    return ad_sample_normal(sample, AD_SHAPE(k + 2)) && ad_sample_normal(sample, AD_SHAPE(2));
}

Test(registry, says_what_a_descriptor_lacks) {
    static const ad_scalar_rule half = {.value = NULL};
    static const ad_flat_rule half_flat = {.value = NULL};
    ad_op op;
    ad_error error = {AD_OK, ""};
    int count = ad_op_count();
/* The op, but for one field, is refused with this message. */
#define REFUSED(field, value_, ...)                                                                                  \
    op = cube;                                                                                                       \
    op.name = "odd";                                                                                                 \
    op.field = value_;                                                                                               \
    ad_op_register(&op, &error);                                                                                     \
    expect_message(&error, AD_ERR_OP, __VA_ARGS__)
    REFUSED(name, "", "its name is not a C identifier");
    REFUSED(name, "2nd", "op 2nd: its name is not a C identifier");
    REFUSED(name, "soft max", "op soft max", "not a C identifier");
    REFUSED(name,
            "gr\xc3\xb6\xc3\x9f"
            "e",
            "not a C identifier");
    REFUSED(inputs, -2, "op odd: .inputs must be a number of inputs, or -1");
    REFUSED(inputs, 65536, ".inputs must be");
    REFUSED(results, 9, ".results must be 1 to 8");
    REFUSED(results, -1, ".results must be 1 to 8");
    REFUSED(shape, NULL, "no shape rule (.shape)");
    REFUSED(vjp, NULL, "it has no .vjp", ".derivative");
    REFUSED(derivative, AD_STOPS_GRADIENT, "it has a .vjp", ".derivative says that there is none");
    REFUSED(derivative, AD_NOT_DIFFERENTIABLE, "it has a .vjp", ".derivative says that there is none");
    REFUSED(scalar, &half, "its .scalar rule lacks a function");
    REFUSED(flat, &half_flat, "its .flat rule lacks a function");
    REFUSED(flat, ad_op_find("exp")->flat, ".flat is for .elementwise ops without attributes");
    REFUSED(saves, AD_SAVES_RESULT(1), ".saves names a result that it does not have");
    REFUSED(formula, NULL, "it has no .formula");
    REFUSED(adjoint[0], NULL, "it has no .adjoint formula for input 0");
    REFUSED(attrs, AD_ATTRS({"c", AD_ATTR_DOUBLE, 0, AD_REQUIRED, 0}),
            ".attrs has one that does not lie within .attrs_size");
    REFUSED(attrs, AD_ATTRS({"c", (ad_attr_type)99, 0, AD_REQUIRED, 0}), "whose type is none of ad_attr_type");
    REFUSED(sample, NULL, "it has no .sample, so that nothing could check it");
    REFUSED(sample, none, "op odd: .sample makes no sample 0");
    REFUSED(sample, two_inputs, "op odd: sample 0 has 2 inputs, but .inputs is 1");
#undef REFUSED
    op = cube;
    op.scalar = ad_op_find("exp")->scalar;
    op.inputs = 3;
    ad_op_register(&op, &error);
    expect_message(&error, AD_ERR_OP, ".scalar is for ops with one or two inputs");
    op = cube;
    op.elementwise = true;
    op.results = 2;
    ad_op_register(&op, &error);
    expect_message(&error, AD_ERR_OP, ".elementwise is for ops with one or two inputs and one result");
    op = cube;
    op.sample = too_many;
    ad_op_register(&op, &error);
    expect_message(&error, AD_ERR_LIMIT, "op cube: a sample has at most 10 inputs");
    op.sample = impossible;
    ad_op_register(&op, &error);
    expect_message(&error, AD_ERR_SHAPE, "op cube: dimension 0 of f64[-1,0] is negative");
    ad_op_register(NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_op_register: op is NULL");
    op.name = NULL;
    ad_op_register(&op, &error);
    expect_message(&error, AD_ERR_NULL, "ad_op_register: name is NULL");
    cr_assert_eq(ad_op_register(NULL, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_op_count(), count);
}

/* ---- attributes by name --------------------------------------------------------------------------------------------------------- */

static void unref_inputs(const ad_sample *sample) {
    for (int i = 0; i < sample->inputs; i++) ad_tensor_unref(sample->input[i]);
}

/* Applies the op and says what comes out, or the error; the attributes as people see them in front. */
static void outcome(const ad_op *op, const ad_sample *sample, const void *attrs, char *text, size_t size) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[AD_MAX_SAMPLE_INPUTS], out[AD_MAX_RESULTS];
    for (int i = 0; i < sample->inputs; i++) in[i] = ad_leaf_tensor(t, NULL, sample->input[i]);
    ad_apply(t, op, sample->inputs, in, attrs, out);
    text[0] = '\0';
    if (op->show_attrs) op->show_attrs(attrs, text, size);
    for (int k = 0; k < (op->results ? op->results : 1) && !ad_tape_status(t); k++) {
        ad_view y = ad_value(out[k]);
        for (int64_t i = 0; i < ad_view_count(&y); i++)
            snprintf(text + strlen(text), size - strlen(text), " %.17g", ad_view_get(&y, i));
    }
    snprintf(text + strlen(text), size - strlen(text), " %s", ad_tape_error(t));
    ad_tape_free(t);
}

/* Every sample of every op comes out the same with attributes that were read and set by name. */
Test(registry, ours_describe_all_their_attributes) {
    static char wanted[65536], got[65536];
    for (int n = 0; n < ad_op_count(); n++) {
        const ad_op *op = ad_op_at(n);
        cr_assert(!op->attrs == !op->attrs_size, "op %s: .attrs must describe its attributes: see AD_ATTRS",
                  op->name);
        for (int k = 0; op->attrs; k++) {
            ad_sample sample = {.rng = {1, 0}, .dtype = AD_F64, .allocator = ad_allocator_default()};
            if (!op->sample(&sample, k)) break;
            union ad_sample_attrs attrs;
            ad_attrs_init(op, &attrs);
            for (const ad_attr *attr = op->attrs; attr->name; attr++) {
                double values[AD_MAX_RANK];
                int count = ad_attr_get(attr, &sample.attrs, values);
                cr_assert_eq(ad_attr_set(attr, &attrs, count, values, NULL), AD_OK, "%s of %s", attr->name, op->name);
                cr_assert_eq(ad_attr_find(op, attr->name), attr);
            }
            outcome(op, &sample, &sample.attrs, wanted, sizeof wanted);
            outcome(op, &sample, &attrs, got, sizeof got);
            cr_assert_str_eq(got, wanted, "op %s, sample %d", op->name, k);
            unref_inputs(&sample);
        }
    }
}

typedef struct many_attrs {
    double number;
    int64_t whole, pair[2];
    int small;
    bool flag;
    unsigned bits;
    ad_dtype dtype;
    ad_shape shape;
    ad_axes axes;
} many_attrs;
static const ad_op many = {
    .name = "many",
    .attrs_size = sizeof(many_attrs),
    .attrs = AD_ATTRS(AD_ATTR("number", DOUBLE, many_attrs, number, AD_USUALLY(0.5)),
                      AD_ATTR("whole", INT64, many_attrs, whole, AD_USUALLY(INFINITY)),
                      AD_ATTR("pair", PAIR, many_attrs, pair, AD_USUALLY(1)),
                      AD_ATTR("small", INT, many_attrs, small, AD_USUALLY(-1)),
                      AD_ATTR("flag", BOOL, many_attrs, flag, AD_USUALLY(true)),
                      AD_ATTR_BIT_OF("bit", many_attrs, bits, 4),
                      AD_ATTR("dtype", DTYPE, many_attrs, dtype, AD_REQUIRED),
                      AD_ATTR("shape", SHAPE, many_attrs, shape, AD_REQUIRED),
                      AD_ATTR("axes", AXES, many_attrs, axes, AD_USUALLY(0))),
};

/* Sets one to these numbers, and reads it back. */
#define SETS(name, ...)                                                                                              \
    do {                                                                                                             \
        const double set_[] = {__VA_ARGS__};                                                                         \
        double back_[AD_MAX_RANK];                                                                                   \
        const int n_ = (int)(sizeof set_ / sizeof *set_);                                                            \
        cr_assert_eq(ad_attr_set(ad_attr_find(&many, name), &a, n_, set_, NULL), AD_OK);                             \
        cr_assert_eq(ad_attr_get(ad_attr_find(&many, name), &a, back_), n_);                                         \
        for (int i = 0; i < n_; i++) cr_assert_eq(back_[i], set_[i]);                                                \
    } while (0)

Test(registry, attributes_are_set_by_name) {
    many_attrs a;
    ad_attrs_init(&many, &a);
    cr_assert(a.number == 0.5 && a.whole == INT64_MAX && a.pair[0] == 1 && a.pair[1] == 1 && a.small == -1 && a.flag);
    cr_assert(a.bits == 0 && a.dtype == 0 && a.shape.rank == 0 && a.axes.count == 0);
    SETS("number", -1e300);
    SETS("whole", -INFINITY);
    cr_assert_eq(a.whole, INT64_MIN);
    SETS("whole", 0x1p53);
    SETS("pair", 3, -4);
    SETS("small", INT_MIN);
    SETS("flag", 0);
    a.bits = 3;
    SETS("bit", 1);
    cr_assert_eq(a.bits, 7);
    SETS("bit", 0);
    cr_assert_eq(a.bits, 3);
    SETS("dtype", AD_I64);
    SETS("shape", 2, -1, 3);
    SETS("shape", 1, 2, 3, 4, 5, 6, 7, 8);
    SETS("axes", -1, 0);
    cr_assert_eq(ad_attr_set(ad_attr_find(&many, "shape"), &a, 0, NULL, NULL), AD_OK);
    cr_assert_eq(a.shape.rank, 0);
    cr_assert_eq(ad_attr_set(ad_attr_find(&many, "pair"), &a, 1, (double[]){7}, NULL), AD_OK);
    cr_assert(a.pair[0] == 7 && a.pair[1] == 7);
}

Test(registry, an_attribute_that_does_not_fit_is_refused_and_nothing_is_set) {
    many_attrs a, before;
    memset(&before, 0x55, sizeof before);
    a = before;
    ad_error error = {AD_OK, ""};
    const double numbers[9] = {0.5, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct {
        const char *name;
        int n;
        double first;
        const char *says;
    } cases[] = {
        {"number", 0, 0, "number is a number, but was given 0 numbers"},
        {"number", 2, 0, "was given 2 numbers"},
        {"whole", 1, 0.5, "whole is a whole number, but was given 0.5"},
        {"whole", 1, NAN, "but was given nan"},
        {"pair", 3, 1, "pair is a whole number, or two of them, but was given 3 numbers"},
        {"small", 1, 1e10, "small is a whole number, but was given 1e+10"},
        {"small", 1, INFINITY, "was given inf"},
        {"flag", 1, 2, "flag is true or false, but was given 2"},
        {"bit", 1, -1, "bit is true or false"},
        {"dtype", 1, AD_DTYPE_COUNT, "dtype is f32, f64, i32 or i64"},
        {"shape", 9, 1, "shape is a shape of up to 8 whole numbers, but was given 9 numbers"},
        {"axes", 2, 0.5, "axes is a list of up to 8 axes, but was given 0.5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double values[9];
        memcpy(values, numbers, sizeof values);
        values[0] = cases[i].first;
        cr_assert_eq(ad_attr_set(ad_attr_find(&many, cases[i].name), &a, cases[i].n, values, &error), AD_ERR_VALUE);
        expect_message(&error, AD_ERR_VALUE, cases[i].says);
        cr_assert_arr_eq(&a, &before, sizeof a);
    }
    const ad_attr *number = ad_attr_find(&many, "number"), odd = {.name = "odd", .type = (ad_attr_type)99};
    cr_assert_eq(ad_attr_set(NULL, &a, 1, numbers, &error), AD_ERR_NULL);
    expect_message(&error, AD_ERR_NULL, "the attribute is NULL");
    cr_assert_eq(ad_attr_set(number, NULL, 1, numbers, &error), AD_ERR_NULL);
    cr_assert_eq(ad_attr_set(number, &a, 1, NULL, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_attr_set(&odd, &a, 1, numbers, &error), AD_ERR_OP);
    double values[AD_MAX_RANK];
    cr_assert_eq(ad_attr_get(NULL, &a, values), 0);
    cr_assert_eq(ad_attr_get(number, NULL, values), 0);
    cr_assert_eq(ad_attr_get(&odd, &a, values), 0);
    cr_assert_null(ad_attr_find(&many, "nothing"));
    cr_assert_null(ad_attr_find(NULL, "number"));
    cr_assert_null(ad_attr_find(&many, NULL));
    cr_assert_null(ad_attr_find(&cube, "number"));
    ad_attrs_init(NULL, &a);
    ad_attrs_init(&many, NULL);
    cr_assert_arr_eq(&a, &before, sizeof a);
}

/* ---- from several threads -------------------------------------------------------------------------------------------------------- */

enum { registering = 4, ops_each = 100 };
static char op_names[registering][ops_each][16];
static ad_op many_ops[registering][ops_each];

static void *register_many(void *user) {
    int which = *(int *)user;
    for (int i = 0; i < ops_each; i++) {
        if (ad_op_register(&many_ops[which][i], NULL) || ad_op_register(&cube, NULL)) return NULL;
        if (ad_op_find(op_names[which][i]) != &many_ops[which][i] || !ad_op_find("matmul")) return NULL;
        if (!ad_op_at(ad_op_count() - 1)) return NULL;
    }
    return user;
}

Test(registry, threads_register_and_look_up_at_once) {
    pthread_t thread[registering];
    int which[registering];
    for (int n = 0; n < registering; n++) {
        which[n] = n;
        for (int i = 0; i < ops_each; i++) {
            snprintf(op_names[n][i], sizeof op_names[n][i], "op_%d_%d", n, i);
            many_ops[n][i] = cube;
            many_ops[n][i].name = op_names[n][i];
        }
    }
    for (int n = 0; n < registering; n++) cr_assert_eq(pthread_create(&thread[n], NULL, register_many, &which[n]), 0);
    for (int n = 0; n < registering; n++) {
        void *done = NULL;
        pthread_join(thread[n], &done);
        cr_assert_eq(done, (void *)&which[n]);
    }
    int found = 0;
    for (int i = 0; i < ad_op_count(); i++) found += ad_op_at(i)->vjp == cube_vjp;
    cr_assert_eq(found, registering * ops_each + 1);
}

/* ---- samples ---------------------------------------------------------------------------------------------------------------------- */

Test(registry, samples_are_what_they_are_called) {
    test_memory memory;
    test_memory_open(&memory);
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_sample sample = {.rng = {3, 0}, .dtype = dtype, .allocator = &memory.allocator};
        cr_assert(ad_sample_normal(&sample, AD_SHAPE(500)) && ad_sample_uniform(&sample, AD_SHAPE(500), -3, 5) &&
                  ad_sample_away(&sample, AD_SHAPE(500), 2, 0.25) && ad_sample_index(&sample, AD_SHAPE(500), 7) &&
                  ad_sample_simplex(&sample, AD_SHAPE(100, 5)) && ad_sample_simplex(&sample, AD_SCALAR) &&
                  ad_sample_simplex(&sample, AD_SHAPE(3, 0)) && ad_sample_normal(&sample, AD_SHAPE(0)));
        while (sample.inputs < AD_MAX_SAMPLE_INPUTS) cr_assert(ad_sample_normal(&sample, AD_SCALAR));
        double sum = 0, squares = 0;
        int seen = 0;
        for (int i = 0; i < 500; i++) {
            double x = ad_view_get(ad_tensor_view(sample.input[0]), i);
            sum += x;
            squares += x * x;
            double u = ad_view_get(ad_tensor_view(sample.input[1]), i);
            cr_assert(u >= -3 && u < 5);
            cr_assert_geq(fabs(ad_view_get(ad_tensor_view(sample.input[2]), i) - 2), 0.25 * (1 - 1e-6));
            double index = ad_view_get(ad_tensor_view(sample.input[3]), i);
            cr_assert(index >= 0 && index < 7 && index == floor(index));
            seen |= 1 << (int)index;
        }
        cr_assert_lt(fabs(sum / 500), 0.2);
        cr_assert_lt(fabs(squares / 500 - 1), 0.25);
        cr_assert_eq(seen, 127);
        cr_assert_eq(ad_tensor_view(sample.input[3])->dtype, AD_I64);
        for (int row = 0; row < 100; row++) {
            double mass = 0;
            for (int i = 0; i < 5; i++) {
                double p = ad_view_get(ad_tensor_view(sample.input[4]), row * 5 + i);
                cr_assert_gt(p, 0);
                mass += p;
            }
            expect_near(mass, 1, dtype == AD_F64 ? 1e-15 : 1e-6);
        }
        expect_values(*ad_tensor_view(sample.input[5]), 1);
        for (int i = 0; i < sample.inputs; i++)
            cr_assert_eq(ad_tensor_view(sample.input[i])->dtype, i == 3 ? AD_I64 : dtype);
        cr_assert_not(ad_sample_normal(&sample, AD_SHAPE(2)));
        expect_message(&sample.error, AD_ERR_LIMIT, "a sample has at most 10 inputs");
        for (int i = 0; i < sample.inputs; i++) ad_tensor_unref(sample.input[i]);
    }
    test_memory_close(&memory);
}

Test(registry, a_sample_without_memory_or_with_an_impossible_shape_says_so) {
    test_memory memory;
    test_memory_open(&memory);
    ad_shape wild = {.rank = 9, .dim = {0}};
    for (int kind = 0; kind < 5; kind++) {
        for (int oom = 0; oom < 2; oom++) {
            ad_sample sample = {.rng = {3, 0}, .dtype = AD_F64, .allocator = &memory.allocator};
            ad_shape shape = oom ? AD_SHAPE(2) : wild;
            memory.fail_at = oom ? memory.calls + 1 : 0;
            bool made = kind == 0   ? ad_sample_normal(&sample, shape)
                        : kind == 1 ? ad_sample_uniform(&sample, shape, 0, 1)
                        : kind == 2 ? ad_sample_away(&sample, shape, 0, 1)
                        : kind == 3 ? ad_sample_index(&sample, shape, 3)
                                    : ad_sample_simplex(&sample, shape);
            cr_assert_not(made);
            cr_assert_eq(sample.inputs, 0);
            cr_assert_not(ad_sample_normal(&sample, AD_SHAPE(2)), "the first error stays");
            expect_message(&sample.error, oom ? AD_ERR_OOM : AD_ERR_LIMIT, oom ? "out of memory" : "rank 9");
        }
    }
    test_memory_close(&memory);
}
