/* Every error that a tape can carry: its status, and the words that a reader needs. */
#include "helpers.h"
#include "tapes.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static test_memory memory;
static ad_tape *t;

static void open_tape(void) {
    test_memory_open(&memory);
    memory.most = 1 << 24;
    t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
}

static void close_tape(void) {
    ad_tape_free(t);
    test_memory_close(&memory);
}

TestSuite(errors, .init = open_tape, .fini = close_tape);

static const double zeros[64];

/* A leaf of zeros, named. */
#define INPUT(name, ...)  ad_leaf(t, name, AD_F64, AD_SHAPE(__VA_ARGS__), zeros)
#define FLOATS(name, ...) ad_leaf(t, name, AD_F32, AD_SHAPE(__VA_ARGS__), zeros)
#define INDEX(name, ...)  ad_constant(t, name, AD_I64, AD_SHAPE(__VA_ARGS__), zeros)

static ad_shape wild_rank(int rank) {
    ad_shape shape = {.rank = rank, .dim = {1, 1, 1, 1, 1, 1, 1, 1}};
    return shape;
}

static ad_axes wild_axes(int count) {
    ad_axes axes = {.count = count, .axis = {0}};
    return axes;
}

/* ---- how errors behave ------------------------------------------------------------------------------------------------ */

Test(errors, the_message_names_file_and_line_without_the_folders) {
    int before = __LINE__;
    ad_add(INPUT("a", 2), INPUT("b", 3));
    char place[64];
    snprintf(place, sizeof place, "add at test_errors.c:%d: ", before + 1);
    cr_assert_eq(strncmp(ad_tape_error(t), place, strlen(place)), 0, "%s", ad_tape_error(t));
    expect_error(t, AD_ERR_SHAPE, "a is f64[2], b is f64[3]");
}

Test(errors, the_first_one_stays_and_what_follows_does_nothing) {
    ad_var a = INPUT("a", 2), bad = ad_add(a, INPUT("b", 3));
    char message[1024];
    snprintf(message, sizeof message, "%s", ad_tape_error(t));
    int64_t nodes = ad_tape_size(t);
    cr_assert_eq(bad.generation, 0);
    ad_mark mark = ad_tape_mark(t);
    ad_var next = ad_mul(bad, ad_matmul(a, INPUT("c", 3)));
    cr_assert_eq(next.generation, 0);
    cr_assert_eq(ad_relu(a).generation, 0);
    cr_assert_eq(ad_scalar(t, "s", 1).generation, 0);
    cr_assert_eq(ad_name(a, "other").generation, 0);
    ad_scope_begin(t, "scope");
    ad_scope_end(t);
    ad_scope_end(t);
    cr_assert_eq(ad_backward(a), AD_ERR_SHAPE);
    ad_var gradient = a;
    cr_assert_eq(ad_grad(a, a, 1, &a, &gradient), AD_ERR_SHAPE);
    cr_assert_eq(gradient.generation, 0);
    cr_assert_null(ad_value(a).data);
    cr_assert_null(ad_gradient(a).data);
    cr_assert_null(ad_tensor_of(a));
    cr_assert(isnan(ad_item(a)) && isnan(ad_gradient_item(a)));
    cr_assert_not(ad_gradient_reached(a));
    cr_assert_eq(ad_tape_rewind(t, mark), AD_ERR_SHAPE);
    cr_assert_eq(ad_tape_size(t), nodes);
    cr_assert_str_eq(ad_tape_error(t), message);
    cr_assert_eq(ad_tape_verify(t, NULL), AD_OK);
    ad_tape_reset(t);
    cr_assert_eq(ad_item(ad_mul(ad_scalar(t, "x", 3), ad_scalar(t, "y", 4))), 12);
    expect_ok(t);
}

typedef struct heard {
    int times;
    ad_status status;
    char message[1024];
} heard;

static void listen(void *user, const ad_error *error) {
    heard *h = user;
    h->times++;
    h->status = error->status;
    snprintf(h->message, sizeof h->message, "%s", error->message);
}

Test(errors, the_handler_is_called_once_with_the_message_and_again_after_a_reset) {
    heard h = {.times = 0};
    ad_tape *loud = ad_tape_new(&(ad_tape_options){.on_error = listen, .user = &h});
    for (int round = 1; round <= 2; round++) {
        ad_var x = ad_scalar(loud, "x", 1), empty = {0};
        cr_assert_eq(h.times, round - 1);
        ad_add(x, empty);
        ad_add(x, empty);
        ad_scope_end(loud);
        cr_assert_eq(h.times, round);
        cr_assert_eq(h.status, AD_ERR_HANDLE);
        cr_assert_str_eq(h.message, ad_tape_error(loud));
        ad_tape_reset(loud);
    }
    ad_tape_free(loud);
}

Test(errors, a_message_that_does_not_fit_is_cut_and_marked) {
    char name[3000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ad_leaf(t, name, AD_F64, AD_SHAPE(2), NULL);
    cr_assert_eq(strlen(ad_tape_error(t)), sizeof((ad_error *)0)->message - 1);
    expect_error(t, AD_ERR_NULL, "xxx...");
    ad_add(ad_leaf(t, name, AD_F64, AD_SHAPE(2), zeros), INPUT("short", 3));
    expect_error(t, AD_ERR_SHAPE, "xxx...", "short is f64[3]");
    ad_leaf(t, "%s%n%d", AD_F64, AD_SHAPE(2), NULL);
    expect_error(t, AD_ERR_NULL, "%s%n%d at test_errors.c");
}

Test(errors, nothing_crashes_on_a_tape_that_is_null) {
    ad_tape *none = NULL;
    ad_tape_free(none);
    ad_tape_reset(none);
    cr_assert_eq(ad_tape_status(none), AD_ERR_NULL);
    cr_assert(strstr(ad_tape_error(none), "ad_tape_new"));
    cr_assert_eq(ad_tape_size(none), 0);
    cr_assert_eq(ad_tape_memory(none), 0);
    ad_mark mark = ad_tape_mark(none);
    cr_assert_eq(ad_tape_rewind(none, mark), AD_ERR_NULL);
    ad_error error = {AD_OK, ""};
    ad_tape_verify(none, &error);
    expect_message(&error, AD_ERR_NULL, "tape is NULL");
    cr_assert_eq(ad_tape_verify(none, NULL), AD_ERR_NULL);
    ad_scope_begin(none, "s");
    ad_scope_end(none);
    ad_var leaves[] = {ad_leaf(none, "x", AD_F64, AD_SHAPE(2), zeros),
                       ad_leaf_tensor(none, "x", NULL),
                       ad_constant(none, "x", AD_F64, AD_SHAPE(2), zeros),
                       ad_constant_tensor(none, "x", NULL),
                       ad_number(none, AD_F64, 1),
                       ad_index(none, 1),
                       ad_scalar(none, "x", 1),
                       ad_use(none, NULL),
                       ad_tape_var(none, 0)};
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++)
        cr_assert(leaves[i].tape == NULL && leaves[i].generation == 0, "leaf %zu", i);
    ad_node_info info;
    cr_assert_eq(ad_tape_node(none, 0, &info), AD_ERR_NULL);
    cr_assert_eq(ad_tape_node(t, 0, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_tape_node(t, 0, &info), AD_ERR_INDEX);
    cr_assert_eq(ad_tape_node(t, -1, &info), AD_ERR_INDEX);
}

Test(errors, nothing_crashes_on_variables_without_a_tape) {
    ad_var x = {0}, gradient, results[2];
    ad_var made[] = {ad_add(x, x),
                     ad_sub(x, x),
                     ad_mul(x, x),
                     ad_div(x, x),
                     ad_masked_mul(x, x),
                     ad_masked_div(x, x),
                     ad_greater(x, x),
                     ad_where(x, x, x),
                     ad_neg(x),
                     ad_scale(x, 2),
                     ad_exp(x),
                     ad_log(x),
                     ad_tanh(x),
                     ad_sigmoid(x),
                     ad_relu(x),
                     ad_detach(x),
                     ad_reshape(x, AD_SHAPE(1)),
                     ad_permute(x, AD_AXES(0)),
                     ad_transpose(x),
                     ad_broadcast_to(x, AD_SHAPE(1)),
                     ad_sum(x, AD_ALL_AXES, false),
                     ad_mean(x, AD_ALL_AXES, false),
                     ad_sum_to(x, AD_SCALAR),
                     ad_matmul(x, x),
                     ad_gather(x, 0, x),
                     ad_scatter_add(x, 0, x, x),
                     ad_pick(x, x),
                     ad_softmax(x, 0),
                     ad_log_softmax(x, 0),
                     ad_softmax_xent(x, x),
                     ad_name(x, "x"),
                     ad_apply(NULL, ad_op_find("add"), 2, &x, NULL, results)};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        cr_assert(made[i].tape == NULL && made[i].generation == 0, "number %zu", i);
    cr_assert_eq(ad_backward(x), AD_ERR_HANDLE);
    cr_assert_eq(ad_grad(x, x, 1, &x, &gradient), AD_ERR_HANDLE);
    cr_assert_eq(gradient.generation, 0);
    cr_assert_null(ad_value(x).data);
    cr_assert_null(ad_gradient(x).data);
    cr_assert_null(ad_tensor_of(x));
    cr_assert(isnan(ad_item(x)) && isnan(ad_gradient_item(x)));
    cr_assert_not(ad_gradient_reached(x));
}

Test(errors, nothing_crashes_on_a_parameter_that_is_null) {
    ad_param_unref(NULL);
    cr_assert_null(ad_param_ref(NULL));
    cr_assert_str_empty(ad_param_name(NULL));
    cr_assert_null(ad_param_value(NULL));
    cr_assert_null(ad_param_gradient(NULL));
    cr_assert_null(ad_param_edit(NULL));
    cr_assert_null(ad_param_edit_gradient(NULL));
    cr_assert_not(ad_param_gradient_is_complete(NULL));
    ad_use(t, NULL);
    expect_error(t, AD_ERR_NULL, "ad_use at test_errors.c", "the parameter is NULL", "ad_param_new");
}

/* ---- variables ---------------------------------------------------------------------------------------------------------- */

Test(errors, an_unusable_variable_says_why) {
    ad_var x = INPUT("x", 2), empty = {0};
    ad_add(x, empty);
    expect_error(t, AD_ERR_HANDLE, "add at test_errors.c", "input 1 is an empty variable", "never set");
    ad_mul(x, INPUT("y", 2));
    expect_error(t, AD_ERR_HANDLE, "mul at", "input 0 is a stale variable (node 0)", "reset or rewound",
                 "record it again");
    ad_var bad = ad_log_softmax(INPUT("z", 2), 7);
    ad_tape_reset(t);
    ad_exp(bad);
    expect_error(t, AD_ERR_HANDLE, "exp at", "input 0 is an invalid variable", "that should have made it failed");
    ad_tape *other = ad_tape_new(NULL);
    ad_where(INPUT("c", 2), INPUT("a", 2), ad_leaf(other, "b", AD_F64, AD_SHAPE(2), zeros));
    expect_error(t, AD_ERR_HANDLE, "where at", "input 2 belongs to another tape", "ad_constant or ad_leaf");
    ad_tape_free(other);
    ad_value(x);
    expect_error(t, AD_ERR_HANDLE, "ad_value at", "the variable is a stale variable");
    ad_item(x);
    expect_error(t, AD_ERR_HANDLE, "ad_item at");
    ad_tensor_of(x);
    expect_error(t, AD_ERR_HANDLE, "ad_tensor_of at");
    ad_gradient(x);
    expect_error(t, AD_ERR_HANDLE, "ad_gradient at");
    ad_name(x, "x");
    expect_error(t, AD_ERR_HANDLE, "ad_name at");
    ad_backward(x);
    expect_error(t, AD_ERR_HANDLE, "ad_backward at");
    ad_transpose(x);
    expect_error(t, AD_ERR_HANDLE, "ad_transpose at");
    ad_pick(INPUT("x", 2, 3), x);
    expect_error(t, AD_ERR_HANDLE, "ad_pick at", "the index is a stale");
    ad_var y = ad_scalar(t, "y", 1), gradient;
    ad_grad(y, empty, 1, &x, &gradient);
    expect_error(t, AD_ERR_HANDLE, "ad_grad at", "one of x is a stale");
}

/* ---- leaves --------------------------------------------------------------------------------------------------------------- */

Test(errors, leaves_refuse_impossible_types) {
    ad_leaf(t, "x", (ad_dtype)77, AD_SHAPE(2), zeros);
    expect_error(t, AD_ERR_DTYPE, "x at test_errors.c", "unknown dtype 77", "AD_F32");
    ad_constant(t, NULL, (ad_dtype)-1, AD_SHAPE(2), zeros);
    expect_error(t, AD_ERR_DTYPE, "constant at", "unknown dtype -1");
    ad_number(t, (ad_dtype)4, 1.0);
    expect_error(t, AD_ERR_DTYPE, "constant at", "unknown dtype 4");
    ad_leaf(t, "x", AD_F64, wild_rank(9), zeros);
    expect_error(t, AD_ERR_LIMIT, "x at", "f64[rank 9] is not a possible shape", "rank 0..8");
    ad_leaf(t, "", AD_F64, wild_rank(-1), zeros);
    expect_error(t, AD_ERR_LIMIT, "input at", "f64[rank -1]");
    ad_leaf(t, "x", AD_F64, wild_rank(INT_MAX), zeros);
    expect_error(t, AD_ERR_LIMIT, "not a possible shape");
    ad_leaf(t, "x", AD_I32, AD_SHAPE(2, -3), zeros);
    expect_error(t, AD_ERR_LIMIT, "i32[2,-3]", "no negative dimension");
    ad_leaf(t, "x", AD_F32, AD_SHAPE(INT64_MIN, INT64_MIN), zeros);
    expect_error(t, AD_ERR_LIMIT, "f32[-9223372036854775808,-9223372036854775808]");
    ad_constant(t, "c", AD_F64, AD_SHAPE(INT64_MAX, 2), zeros);
    expect_error(t, AD_ERR_LIMIT, "c at", "f64[9223372036854775807,2]", "fits memory");
    ad_constant(t, "c", AD_F64, AD_SHAPE(1LL << 32, 1LL << 32, 0), zeros);
    expect_error(t, AD_ERR_LIMIT, "f64[4294967296,4294967296,0]");
    ad_leaf(t, "w", AD_F64, AD_SHAPE(2, 3), NULL);
    expect_error(t, AD_ERR_NULL, "w at test_errors.c", "data is NULL", "f64[2,3] has 6 elements");
    ad_leaf(t, NULL, AD_F64, AD_SCALAR, NULL);
    expect_error(t, AD_ERR_NULL, "input at", "f64[] has 1 elements");
    ad_leaf_tensor(t, "w", NULL);
    expect_error(t, AD_ERR_NULL, "w at", "the tensor is NULL");
    ad_constant_tensor(t, NULL, NULL);
    expect_error(t, AD_ERR_NULL, "constant at", "the tensor is NULL");
}

Test(errors, more_memory_than_there_is_is_reported_with_what_the_tape_holds) {
    (void)INPUT("x", 2);
    ad_leaf(t, "huge", AD_F64, AD_SHAPE(1LL << 57), zeros);
    expect_error(t, AD_ERR_OOM, "huge at test_errors.c", "out of memory", "bytes in 1 nodes", "reset it");
    ad_broadcast_to(ad_exp(ad_broadcast_to(INPUT("x", 1), AD_SHAPE(1LL << 57))), AD_SHAPE(2, 1LL << 57));
    expect_error(t, AD_ERR_OOM, "exp at", "out of memory for its result f64[144115188075855872]");
}

Test(errors, an_empty_leaf_needs_no_data) {
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(0, 3), NULL);
    cr_assert_eq(ad_item(ad_sum(x, AD_ALL_AXES, false)), 0);
    expect_ok(t);
}

Test(errors, parameters_refuse_what_has_no_gradient) {
    ad_error error = {AD_OK, ""};
    ad_param *param = (ad_param *)t;
    ad_param_new(NULL, NULL, "w", AD_F64, AD_SCALAR, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_param_new", "out is NULL");
    ad_param_new(&param, NULL, "w", AD_I32, AD_SHAPE(2), zeros, &error);
    expect_message(&error, AD_ERR_DTYPE, "parameter w", "i32 has no gradient", "AD_F32 or AD_F64");
    cr_assert_null(param);
    ad_param_new(&param, NULL, NULL, (ad_dtype)77, AD_SHAPE(2), zeros, &error);
    expect_message(&error, AD_ERR_DTYPE, "parameter", "AD_F32 or AD_F64");
    ad_param_new(&param, NULL, "w", AD_F64, wild_rank(9), zeros, &error);
    expect_message(&error, AD_ERR_LIMIT, "parameter w", "rank 9");
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(-1), zeros, &error);
    expect_message(&error, AD_ERR_SHAPE, "parameter w", "negative");
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(INT64_MAX), zeros, &error);
    expect_message(&error, AD_ERR_LIMIT, "parameter w", "address space");
    ad_param_new(&param, &memory.allocator, "w", AD_F64, AD_SHAPE(1LL << 57), NULL, &error);
    expect_message(&error, AD_ERR_OOM, "parameter w", "out of memory");
    cr_assert_null(param);
    cr_assert_eq(ad_param_new(&param, NULL, "w", AD_I32, AD_SHAPE(2), zeros, NULL), AD_ERR_DTYPE);
}

/* ---- the tape ------------------------------------------------------------------------------------------------------------- */

Test(errors, a_full_tape_says_what_its_limit_is) {
    ad_tape *small = ad_tape_new(&(ad_tape_options){.max_nodes = 3});
    ad_var x = ad_scalar(small, "x", 2), y = ad_mul(x, x);
    cr_assert_eq(ad_item(ad_add(y, x)), 6);
    ad_add(y, y);
    expect_error(small, AD_ERR_LIMIT, "test_errors.c", "full", "3 nodes is its limit", "max_nodes");
    ad_tape_free(small);
}

Test(errors, scopes_and_marks) {
    ad_scope_end(t);
    expect_error(t, AD_ERR_VALUE, "ad_scope_end", "no scope is open", "too many");
    void (*begin)(ad_tape *, const char *, ...) = ad_scope_begin; /* without the compiler's look at the format */
    begin(t, NULL);
    expect_error(t, AD_ERR_NULL, "ad_scope_begin", "name is NULL");
    cr_assert_eq(ad_tape_rewind(t, (ad_mark){0}), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "ad_tape_rewind", "mark is empty", "ad_tape_mark");
    ad_tape *other = ad_tape_new(NULL);
    cr_assert_eq(ad_tape_rewind(t, ad_tape_mark(other)), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "ad_tape_rewind", "belongs to another tape");
    ad_tape_free(other);
}

Test(errors, reading_one_number_of_several) {
    ad_item(INPUT("x", 2, 3));
    expect_error(t, AD_ERR_SHAPE, "ad_item at", "x is f64[2,3], not a single number");
    ad_item(ad_leaf(t, "none", AD_F64, AD_SHAPE(0), NULL));
    expect_error(t, AD_ERR_SHAPE, "none is f64[0], not a single number");
    ad_var x = INPUT("x", 2);
    ad_backward(ad_sum(x, AD_ALL_AXES, false));
    ad_gradient_item(x);
    expect_error(t, AD_ERR_SHAPE, "ad_gradient_item at", "x is f64[2], not a single number");
}

/* ---- backward --------------------------------------------------------------------------------------------------------------- */

Test(errors, a_walk_back_needs_a_start) {
    ad_var x = INPUT("x", 2, 3), three = INPUT("three", 3), single = FLOATS("single", 2, 3), gradient;
    ad_backward(x);
    expect_error(t, AD_ERR_SHAPE, "ad_backward at test_errors.c", "x is f64[2,3], not a single number",
                 "ad_sum or ad_mean", "a seed of its shape");
    ad_backward(INDEX("i", 1));
    expect_error(t, AD_ERR_NOGRAD, "ad_backward at", "i is i64[1]: integers have no derivative");
    x = INPUT("x", 2, 3), three = INPUT("three", 3);
    ad_backward_with(x, &(ad_backward_options){.seed = three});
    expect_error(t, AD_ERR_SHAPE, "ad_backward at", "the seed is f64[3]", "x is f64[2,3]", "one type");
    x = INPUT("x", 2, 3), single = FLOATS("single", 2, 3);
    ad_backward_with(x, &(ad_backward_options){.seed = single});
    expect_error(t, AD_ERR_DTYPE, "ad_backward at", "the seed is f32[2,3]", "x is f64[2,3]");
    ad_backward_with(INPUT("x", 1), &(ad_backward_options){.seed = x});
    expect_error(t, AD_ERR_HANDLE, "ad_backward at", "the seed is a stale variable");
    x = INPUT("x", 2);
    ad_grad(x, (ad_var){0}, 1, &x, &gradient);
    expect_error(t, AD_ERR_SHAPE, "ad_grad at test_errors.c", "x is f64[2], not a single number");
}

Test(errors, what_has_no_gradient_cannot_be_asked_for) {
    ad_var y = ad_scalar(t, "y", 1), c = ad_number(t, AD_F64, 2);
    ad_backward_with(y, &(ad_backward_options){.wrt = NULL, .wrt_count = 2});
    expect_error(t, AD_ERR_VALUE, "ad_backward at", ".wrt_count is 2, .wrt is NULL");
    y = ad_scalar(t, "y", 1);
    ad_backward_with(y, &(ad_backward_options){.wrt = &y, .wrt_count = -1});
    expect_error(t, AD_ERR_VALUE, ".wrt_count is -1, .wrt is set");
    y = ad_scalar(t, "y", 1), c = ad_number(t, AD_F64, 2);
    ad_backward_with(y, &(ad_backward_options){.wrt = &c, .wrt_count = 1});
    expect_error(t, AD_ERR_NOGRAD, "ad_backward at", "v1 is f64[], one of .wrt, has no gradient");
    y = ad_scalar(t, "y", 1);
    ad_backward_with(y, &(ad_backward_options){.wrt = &c, .wrt_count = 1});
    expect_error(t, AD_ERR_HANDLE, "one of .wrt is a stale variable");
    ad_var gradient;
    y = ad_scalar(t, "y", 1), c = ad_number(t, AD_F64, 2);
    ad_grad(y, (ad_var){0}, 1, &c, &gradient);
    expect_error(t, AD_ERR_NOGRAD, "ad_grad at", "v1 is f64[], one of x, has no gradient");
    y = ad_scalar(t, "y", 1);
    ad_grad(y, (ad_var){0}, 0, &y, &gradient);
    expect_error(t, AD_ERR_VALUE, "ad_grad at", "n is 0");
    y = ad_scalar(t, "y", 1);
    ad_grad(y, (ad_var){0}, 1, NULL, &gradient);
    expect_error(t, AD_ERR_NULL, "ad_grad at", "x is NULL");
    y = ad_scalar(t, "y", 1);
    ad_grad(y, (ad_var){0}, 1, &y, NULL);
    expect_error(t, AD_ERR_NULL, "ad_grad at", "the result is NULL");
}

Test(errors, a_gradient_that_is_not_there_says_why) {
    ad_gradient(ad_scalar(t, "x", 1));
    expect_error(t, AD_ERR_NOGRAD, "ad_gradient at", "x: there was no backward pass", "call ad_backward first");
    ad_gradient(ad_index(t, 3));
    expect_error(t, AD_ERR_NOGRAD, "v0: integers have no gradient");
    ad_gradient(ad_number(t, AD_F64, 3));
    expect_error(t, AD_ERR_NOGRAD, "it is a constant", "make it an ad_leaf");
    ad_gradient(ad_exp(ad_number(t, AD_F64, 3)));
    expect_error(t, AD_ERR_NOGRAD, "v1: it does not depend on a leaf that gets a gradient");
    ad_var x = INPUT("x", 2), y = ad_exp(x), z = ad_sum(y, AD_ALL_AXES, false);
    ad_backward_with(z, &(ad_backward_options){.leaves_only = true});
    cr_assert(ad_gradient_reached(y));
    ad_gradient(y);
    expect_error(t, AD_ERR_NOGRAD, "v1: the last backward pass gave it back", ".leaves_only", ".wrt");
    x = INPUT("x", 2), y = ad_exp(x), z = ad_sum(ad_mul(y, INPUT("w", 2)), AD_ALL_AXES, false);
    ad_backward_with(z, &(ad_backward_options){.wrt = &x, .wrt_count = 1});
    ad_gradient(ad_tape_var(t, 2));
    expect_error(t, AD_ERR_NOGRAD, "w: the last backward pass was asked for others", ".wrt");
}

/* ---- ops: shapes and dtypes --------------------------------------------------------------------------------------------------- */

Test(errors, elementwise) {
    ad_sub(INPUT("a", 2, 3), INPUT("b", 4, 3));
    expect_error(t, AD_ERR_SHAPE, "sub at", "a is f64[2,3], b is f64[4,3]", "do not broadcast",
                 "aligned at the right");
    ad_mul(INPUT("a", 2), FLOATS("b", 2));
    expect_error(t, AD_ERR_DTYPE, "mul at", "dtypes differ: a is f64[2], b is f32[2]",
                 "nothing is converted silently");
    ad_add(INDEX("i", 2), INDEX("j", 2));
    expect_error(t, AD_ERR_DTYPE, "add at", "i is i64[2], but it takes f32 or f64");
    ad_exp(INDEX("i", 2));
    expect_error(t, AD_ERR_DTYPE, "exp at", "i is i64[2], but it takes f32 or f64");
    ad_div(ad_scalar(t, "a", 1), ad_number(t, AD_F32, 2));
    expect_error(t, AD_ERR_DTYPE, "div at", "a is f64[]", "is f32[]");
    ad_greater(INPUT("a", 2), INDEX("b", 2));
    expect_error(t, AD_ERR_DTYPE, "greater at", "a is f64[2], b is i64[2]");
    ad_greater(INPUT("a", 2), INPUT("b", 3));
    expect_error(t, AD_ERR_SHAPE, "greater at", "do not broadcast");
    ad_where(INDEX("c", 4), INPUT("a", 2), INPUT("b", 2));
    expect_error(t, AD_ERR_SHAPE, "where at", "c is i64[4], a is f64[2], b is f64[2]", "do not broadcast");
    ad_where(INDEX("c", 2), INPUT("a", 2), INPUT("b", 3));
    expect_error(t, AD_ERR_SHAPE, "where at", "a is f64[2], b is f64[3]");
    ad_where(INDEX("c", 2), INPUT("a", 2), FLOATS("b", 2));
    expect_error(t, AD_ERR_DTYPE, "where at", "a is f64[2], b is f32[2]");
    ad_var one = INPUT("one", 1); /* its stretched views take no memory */
    ad_add(ad_broadcast_to(one, AD_SHAPE(1LL << 30, 1)), ad_broadcast_to(one, AD_SHAPE(1LL << 30)));
    expect_error(t, AD_ERR_SHAPE, "add at", "f64[1073741824,1]", "f64[1073741824]");
}

Test(errors, reshape) {
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(4));
    expect_error(t, AD_ERR_SHAPE, "reshape at", "x is f64[2,3]: its 6 elements do not fill f64[4]");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(-1, -1));
    expect_error(t, AD_ERR_SHAPE, "reshape at", "two dimensions", "-1");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(-1, 4));
    expect_error(t, AD_ERR_SHAPE, "6 elements do not fill f64[-1,4]");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(-1, 0));
    expect_error(t, AD_ERR_SHAPE, "do not fill f64[-1,0]");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(-2, -3));
    expect_error(t, AD_ERR_SHAPE, "dimension 0 of the new shape is -2");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(2, INT64_MIN));
    expect_error(t, AD_ERR_SHAPE, "dimension 1 of the new shape is -9223372036854775808");
    ad_reshape(INPUT("x", 2, 3), AD_SHAPE(INT64_MAX, INT64_MAX));
    expect_error(t, AD_ERR_SHAPE, "9223372036854775807,9223372036854775807", "overflows");
    ad_reshape(INPUT("x", 1), wild_rank(9));
    expect_error(t, AD_ERR_SHAPE, "do not fill f64[rank 9]");
    ad_reshape(INPUT("x", 1), wild_rank(-1));
    expect_error(t, AD_ERR_SHAPE, "do not fill f64[rank -1]");
    ad_reshape(INPUT("x", 1), wild_rank(INT_MIN));
    expect_error(t, AD_ERR_SHAPE, "rank -2147483648");
}

Test(errors, axes) {
    ad_permute(INPUT("x", 2, 3), AD_AXES(0, 0));
    expect_error(t, AD_ERR_INDEX, "permute at", "x is f64[2,3], but axes 0,0 do not name each of its axes once");
    ad_permute(INPUT("x", 2, 3), AD_AXES(0));
    expect_error(t, AD_ERR_INDEX, "axes 0 do not name");
    ad_permute(INPUT("x", 2, 3), AD_AXES(INT_MIN, INT_MAX));
    expect_error(t, AD_ERR_INDEX, "axes -2147483648,2147483647 do not name");
    int counts[] = {-1, 9, INT_MAX, INT_MIN};
    for (int i = 0; i < 4; i++) {
        char count[64];
        snprintf(count, sizeof count, "a list of %d axes is outside 0..8", counts[i]);
        ad_permute(INPUT("x", 2, 3), wild_axes(counts[i]));
        expect_error(t, AD_ERR_INDEX, "permute at", count, "AD_AXES");
        ad_sum(INPUT("x", 2, 3), wild_axes(counts[i]), false);
        expect_error(t, AD_ERR_INDEX, "sum at", count);
    }
    ad_transpose(INPUT("x", 2));
    expect_error(t, AD_ERR_SHAPE, "ad_transpose at", "x is f64[2], which has no two axes to swap", "ad_reshape");
    ad_transpose(ad_scalar(t, "x", 2));
    expect_error(t, AD_ERR_SHAPE, "ad_transpose at", "x is f64[]");
    ad_sum(INPUT("x", 2, 3), AD_AXES(0, -2), false);
    expect_error(t, AD_ERR_INDEX, "sum at", "axis -2 is named twice: x is f64[2,3]");
    ad_mean(INPUT("x", 2, 3), AD_AXES(2), true);
    expect_error(t, AD_ERR_INDEX, "mean at",
                 "axis 2 is out of range: x is f64[2,3], so its axes are 0 to 1, or -2 to -1");
    ad_mean(INPUT("x", 2, 3), AD_AXES(INT_MIN), true);
    expect_error(t, AD_ERR_INDEX, "mean at", "axis -2147483648 is out of range");
    ad_sum(ad_scalar(t, "x", 1), AD_AXES(0), false);
    expect_error(t, AD_ERR_INDEX, "sum at", "axis 0: x is f64[], which has no axes");
    ad_softmax(INPUT("x", 2), INT_MIN);
    expect_error(t, AD_ERR_INDEX, "softmax at", "axis -2147483648 is out of range: x is f64[2]");
    ad_log_softmax(ad_scalar(t, "x", 1), 1);
    expect_error(t, AD_ERR_INDEX, "log_softmax at", "axis 1: x is f64[], which has no axes");
    ad_softmax(INDEX("x", 2), 0);
    expect_error(t, AD_ERR_DTYPE, "softmax at", "x is i64[2], but it takes f32 or f64");
    ad_sum(INDEX("x", 2), AD_ALL_AXES, false);
    expect_error(t, AD_ERR_DTYPE, "sum at", "x is i64[2], but it takes f32 or f64");
}

Test(errors, broadcast_to_and_sum_to) {
    ad_broadcast_to(INPUT("x", 2, 3), AD_SHAPE(3));
    expect_error(t, AD_ERR_SHAPE, "broadcast_to at", "x is f64[2,3], which does not broadcast to f64[3]");
    ad_broadcast_to(INPUT("x", 1), wild_rank(9));
    expect_error(t, AD_ERR_SHAPE, "does not broadcast to f64[rank 9]");
    ad_broadcast_to(INPUT("x", 1), wild_rank(-1));
    expect_error(t, AD_ERR_SHAPE, "does not broadcast to f64[rank -1]");
    ad_broadcast_to(INPUT("x", 1), AD_SHAPE(INT64_MAX, 9));
    expect_error(t, AD_ERR_SHAPE, "does not broadcast to f64[9223372036854775807,9]");
    ad_broadcast_to(INPUT("x", 1), AD_SHAPE(-1));
    expect_error(t, AD_ERR_SHAPE, "does not broadcast to f64[-1]");
    ad_sum_to(INPUT("x", 2, 3), AD_SHAPE(2));
    expect_error(t, AD_ERR_SHAPE, "sum_to at", "x is f64[2,3], which cannot be summed to f64[2]",
                 "does not broadcast");
    ad_sum_to(INPUT("x", 2, 3), wild_rank(9));
    expect_error(t, AD_ERR_SHAPE, "sum_to at", "f64[rank 9]");
    ad_sum_to(INPUT("x", 2, 3), AD_SHAPE(4, 2, 3));
    expect_error(t, AD_ERR_SHAPE, "cannot be summed to f64[4,2,3]");
    ad_sum_to(INDEX("x", 2, 3), AD_SHAPE(3));
    expect_error(t, AD_ERR_DTYPE, "sum_to at", "x is i64[2,3], but it takes f32 or f64");
}

Test(errors, matmul) {
    ad_matmul(INPUT("H", 4, 3), INPUT("x", 4, 1));
    expect_error(t, AD_ERR_SHAPE, "matmul at test_errors.c",
                 "inner dimensions differ: H is f64[4,3], x is f64[4,1] (3 != 4); did you mean ad_transpose(H)?");
    ad_matmul(INPUT("a", 2, 3), INPUT("b", 5, 3));
    expect_error(t, AD_ERR_SHAPE, "(3 != 5); did you mean ad_transpose(b)?");
    ad_matmul(INPUT("a", 2, 3), INPUT("b", 5));
    cr_assert_null(strstr(ad_tape_error(t), "did you mean"));
    expect_error(t, AD_ERR_SHAPE, "(3 != 5)");
    ad_matmul(ad_scalar(t, "a", 2), INPUT("b", 5));
    expect_error(t, AD_ERR_SHAPE, "matmul at", "a is f64[], a single number: use ad_mul");
    ad_matmul(INPUT("a", 5), ad_scalar(t, "b", 2));
    expect_error(t, AD_ERR_SHAPE, "b is f64[], a single number: use ad_mul");
    ad_matmul(INPUT("a", 2, 3, 4), INPUT("b", 3, 4, 1));
    expect_error(t, AD_ERR_SHAPE, "leading dimensions do not broadcast: a is f64[2,3,4], b is f64[3,4,1]");
    ad_matmul(INPUT("a", 2, 2), FLOATS("b", 2, 2));
    expect_error(t, AD_ERR_DTYPE, "matmul at", "a is f64[2,2], b is f32[2,2]");
    ad_matmul(INDEX("a", 2, 2), INDEX("b", 2, 2));
    expect_error(t, AD_ERR_DTYPE, "a is i64[2,2], but it takes f32 or f64");
    ad_var one = INPUT("one", 1);
    ad_matmul(ad_broadcast_to(one, AD_SHAPE(1LL << 40, 1)), ad_broadcast_to(one, AD_SHAPE(1, 1LL << 40)));
    expect_error(t, AD_ERR_LIMIT, "matmul at",
                 "the result f64[1099511627776,1099511627776] would not fit into memory");
}

Test(errors, indexing) {
    ad_var x = INPUT("x", 2, 3);
    ad_gather(x, 2, INDEX("i", 2, 3));
    expect_error(t, AD_ERR_INDEX, "gather at", "axis 2 is out of range: x is f64[2,3]");
    ad_gather(INPUT("x", 2, 3), 0, INPUT("i", 2, 3));
    expect_error(t, AD_ERR_DTYPE, "gather at", "i is f64[2,3], but indices are i32 or i64");
    ad_gather(INPUT("x", 2, 3), 0, INDEX("i", 2));
    expect_error(t, AD_ERR_SHAPE, "ranks differ: x is f64[2,3], i is i64[2]");
    ad_gather(INPUT("x", 2, 3), 0, INDEX("i", 2, 4));
    expect_error(t, AD_ERR_SHAPE, "axis 1 of the index is longer", "i is i64[2,4], x is f64[2,3]");
    ad_gather(INPUT("x", 2, 3), 1, ad_constant(t, "i", AD_I32, AD_SHAPE(2, 2), (int32_t[]){0, 2, 1, 3}));
    expect_error(t, AD_ERR_INDEX, "gather at", "index 3 at i[1,1] is out of range", "at least 0 and below 3");
    ad_gather(INPUT("x", 3), 0, ad_constant(t, "i", AD_I64, AD_SHAPE(2), (int64_t[]){0, INT64_MIN}));
    expect_error(t, AD_ERR_INDEX, "index -9223372036854775808 at i[1] is out of range");
    ad_scatter_add(INPUT("x", 2, 3), 0, INDEX("i", 1, 3), INPUT("s", 2, 3));
    expect_error(t, AD_ERR_SHAPE, "scatter_add at", "index and source differ in shape: i is i64[1,3], s is f64[2,3]");
    ad_scatter_add(INPUT("x", 3), 0, INDEX("i", 2), FLOATS("s", 2));
    expect_error(t, AD_ERR_DTYPE, "scatter_add at", "x is f64[3], s is f32[2]");
    ad_scatter_add(INDEX("x", 3), 0, INDEX("i", 2), INDEX("s", 2));
    expect_error(t, AD_ERR_DTYPE, "scatter_add at", "x is i64[3], but it takes f32 or f64");
    ad_scatter_add(INPUT("x", 3), 1, INDEX("i", 2), INPUT("s", 2));
    expect_error(t, AD_ERR_INDEX, "scatter_add at", "axis 1 is out of range");
    ad_scatter_add(INPUT("x", 3), 0, ad_constant(t, "i", AD_I64, AD_SHAPE(2), (int64_t[]){0, -1}), INPUT("s", 2));
    expect_error(t, AD_ERR_INDEX, "scatter_add at", "index -1 at i[1] is out of range", "below 3");
    ad_pick(INPUT("x", 2, 3), INDEX("i", 3));
    expect_error(t, AD_ERR_SHAPE, "ad_pick at", "x is f64[2,3], i is i64[3]", "without the last axis");
    ad_pick(ad_scalar(t, "x", 1), ad_index(t, 0));
    expect_error(t, AD_ERR_SHAPE, "ad_pick at", "x is f64[]");
    ad_pick(INPUT("x", 2, 3), INPUT("i", 2));
    expect_error(t, AD_ERR_DTYPE, "gather at", "indices are i32 or i64");
}

Test(errors, losses) {
    ad_softmax_xent(ad_scalar(t, "x", 1), ad_index(t, 0));
    expect_error(t, AD_ERR_SHAPE, "softmax_xent at", "x is f64[]: the logits need a last axis, of classes");
    ad_softmax_xent(INPUT("x", 4, 3), INDEX("class", 3));
    expect_error(t, AD_ERR_SHAPE, "softmax_xent at", "x is f64[4,3], so the class indices must be i64[4]",
                 "class is i64[3]", "never broadcasts");
    ad_softmax_xent(INPUT("x", 4, 3), INPUT("p", 3));
    expect_error(t, AD_ERR_SHAPE, "softmax_xent_soft at", "x is f64[4,3], p is f64[3]", "never broadcasts");
    ad_softmax_xent(INPUT("x", 4, 3), FLOATS("p", 4, 3));
    expect_error(t, AD_ERR_DTYPE, "softmax_xent_soft at", "x is f64[4,3], p is f32[4,3]");
    ad_softmax_xent(INDEX("x", 4, 3), INDEX("class", 4));
    expect_error(t, AD_ERR_DTYPE, "softmax_xent at", "x is i64[4,3], but it takes f32 or f64");
    ad_softmax_xent(INPUT("x", 2, 3), ad_constant(t, "class", AD_I64, AD_SHAPE(2), (int64_t[]){1, 3}));
    expect_error(t, AD_ERR_INDEX, "softmax_xent at", "index 3 at class[1] is out of range", "below 3");
}

/* What looks odd but has a meaning is no error. */
Test(errors, odd_values_are_values) {
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){INFINITY, -0.0});
    expect_values(ad_value(ad_scale(x, NAN)), NAN, NAN);
    expect_values(ad_value(ad_scale(x, INFINITY)), INFINITY, NAN);
    expect_values(ad_value(ad_exp(x)), INFINITY, 1);
    expect_values(ad_value(ad_number(t, AD_I32, 1e300)), INT32_MAX);
    expect_values(ad_value(ad_number(t, AD_I64, NAN)), 0);
    expect_values(ad_value(ad_index(t, INT64_MIN)), (double)INT64_MIN);
    ad_backward(ad_sum(ad_scale(x, NAN), AD_ALL_AXES, false));
    expect_values(ad_gradient(x), NAN, NAN);
    ad_var none = ad_leaf(t, "none", AD_F64, AD_SHAPE(3, 0), NULL),
           seed = ad_constant(t, NULL, AD_F64, AD_SHAPE(3, 0), NULL);
    ad_var y = ad_mul(ad_exp(none), ad_reshape(none, AD_SHAPE(3, 0)));
    ad_backward_with(y, &(ad_backward_options){.seed = seed});
    cr_assert_eq(ad_view_count(&(ad_view[]){ad_gradient(none)}[0]), 0);
    cr_assert(ad_gradient_reached(none));
    expect_values(ad_value(ad_sum(y, AD_AXES(1), false)), 0, 0, 0);
    expect_ok(t);
}

/* ---- ops: broken descriptors ------------------------------------------------------------------------------------------------ */

static ad_status same_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status copy_forward(ad_call *call) { return ad_view_copy(call->in[0], &call->out[0]); }
static void pass_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 0)); }

/* An op that copies, to be made worse. */
static ad_op op;
static ad_op *odd(void) {
    op = (ad_op){.name = "odd", .inputs = 1, .shape = same_shape, .forward = copy_forward, .vjp = pass_vjp};
    return &op;
}

static void apply(void) {
    ad_var x = INPUT("x", 2), y = ad_apply(t, &op, 1, &x, NULL, NULL);
    cr_assert_eq(y.generation, 0);
    cr_assert_eq(ad_tape_size(t), 1);
}

Test(errors, an_op_is_applied_to_what_it_takes) {
    ad_var x[] = {INPUT("x", 2), INPUT("y", 2), INPUT("z", 2)}, results[4];
    memset(results, 0x55, sizeof results);
    ad_apply(t, NULL, 1, x, NULL, results);
    cr_assert_eq(results[0].generation, 0);
    expect_error(t, AD_ERR_NULL, "ad_apply at test_errors.c", "the op is NULL");
    ad_apply(t, ad_op_find("add"), 3, x, NULL, NULL);
    expect_error(t, AD_ERR_OP, "add at", "takes 2 inputs, was given 3");
    ad_apply(t, ad_op_find("exp"), 0, x, NULL, NULL);
    expect_error(t, AD_ERR_OP, "exp at", "takes 1 input, was given 0");
    ad_apply(t, ad_op_find("exp"), INT_MIN, x, NULL, NULL);
    expect_error(t, AD_ERR_OP, "exp at", "takes 1 input, was given -2147483648");
    odd()->inputs = -1;
    ad_apply(t, &op, 0, NULL, NULL, NULL);
    expect_error(t, AD_ERR_OP, "odd at", "takes 1 input or more, was given 0");
    ad_apply(t, ad_op_find("add"), 2, NULL, NULL, results);
    expect_error(t, AD_ERR_OP, "add at", "the inputs are NULL");
    x[0] = INPUT("x", 2);
    ad_apply(t, ad_op_find("scale"), 1, x, NULL, NULL);
    expect_error(t, AD_ERR_OP, "scale at", "its attributes are NULL");
}

Test(errors, an_op_that_could_not_run_is_not_applied) {
    static const ad_scalar_rule half = {.value = NULL};
    static const struct {
        ad_op op;
        const char *says;
    } flawed[] = {
        {{.shape = same_shape}, "the descriptor has no name"},
        {{.name = "odd", .inputs = -2, .shape = same_shape}, ".inputs must be a number"},
        {{.name = "odd", .inputs = 1, .results = 9, .shape = same_shape}, ".results must be 1 to 8"},
        {{.name = "odd", .inputs = 1, .results = -1, .shape = same_shape}, ".results must be 1 to 8"},
        {{.name = "odd", .inputs = 1}, "no shape rule"},
        {{.name = "odd", .inputs = 1, .shape = same_shape, .forward = copy_forward}, "it has no .vjp"},
        {{.name = "odd", .inputs = 1, .shape = same_shape, .derivative = AD_STOPS_GRADIENT, .vjp = pass_vjp},
         ".derivative says that there is none"},
        {{.name = "odd", .inputs = 1, .shape = same_shape, .vjp = pass_vjp, .scalar = &half}, "lacks a function"},
        {{.name = "odd", .inputs = 1, .shape = same_shape, .vjp = pass_vjp},
         "it has no .forward to compute result 0"},
    };
    for (size_t i = 0; i < sizeof flawed / sizeof *flawed; i++) {
        op = flawed[i].op;
        apply();
        expect_error(t, AD_ERR_OP, flawed[i].says);
    }
}

static ad_status silent(ad_call *call) {
    (void)call;
    return AD_ERR_VALUE;
}
static ad_status no_dtype(ad_call *call) {
    call->out[0].shape = AD_SCALAR;
    return AD_OK;
}
static ad_status too_large(ad_call *call) {
    call->out[0].dtype = AD_F64;
    call->out[0].shape = AD_SHAPE(INT64_MAX, 3);
    return AD_OK;
}
static ad_status other_view(ad_call *call) {
    call->out[0] = *call->in[0];
    call->out[0].dtype = AD_I64;
    call->is_view[0] = true;
    return AD_OK;
}
static ad_status with_words(ad_call *call) {
    return ad_fail(call, AD_ERR_VALUE, "%s and %s and %s are odd", ad_describe(call, 0), ad_input_name(call, 0),
                   ad_describe(call, 1));
}
static ad_status greedy(ad_call *call) {
    return ad_scratch(call, SIZE_MAX) || ad_scratch(call, (size_t)1 << 60) ? AD_OK : AD_ERR_OOM;
}
static ad_status greedy_without_saying(ad_call *call) {
    (void)ad_scratch(call, (size_t)1 << 60);
    return AD_OK;
}

Test(errors, an_op_that_fails_when_applied_leaves_nothing_behind) {
    odd()->shape = silent;
    apply();
    expect_error(t, AD_ERR_OP, "odd at", "its shape rule failed without saying why", "ad_fail");
    odd()->shape = no_dtype;
    apply();
    expect_error(t, AD_ERR_OP, "odd at", "its shape rule set no dtype for result 0");
    odd()->shape = too_large;
    apply();
    expect_error(t, AD_ERR_LIMIT, "odd at", "the result f64[9223372036854775807,3] would not fit into memory");
    odd()->shape = other_view;
    apply();
    expect_error(t, AD_ERR_OP, "odd at", "result 0 is called a view but is not of input 0's dtype");
    odd()->shape = with_words;
    apply();
    expect_error(t, AD_ERR_VALUE, "odd at test_errors.c", "x is f64[2] and x and ? are odd");
    odd()->forward = silent;
    apply();
    expect_error(t, AD_ERR_OP, "odd at", "its forward function failed without saying why", "ad_fail");
    odd()->forward = with_words;
    apply();
    expect_error(t, AD_ERR_VALUE, "odd at", "x is f64[2]");
    odd()->forward = greedy;
    apply();
    expect_error(t, AD_ERR_OOM, "odd at", "out of memory", "reset it");
    odd()->forward = greedy_without_saying;
    apply();
    expect_error(t, AD_ERR_OOM, "odd at", "out of memory");
}

Test(errors, an_op_without_a_derivative_refuses_what_needs_one) {
    odd()->vjp = NULL;
    op.derivative = AD_NOT_DIFFERENTIABLE;
    apply();
    expect_error(t, AD_ERR_NOGRAD, "odd at", "it has no derivative, but x needs a gradient", "ad_detach");
    ad_var x = ad_detach(INPUT("x", 2));
    cr_assert_neq(ad_apply(t, &op, 1, &x, NULL, NULL).generation, 0);
    expect_ok(t);
}

/* ---- ops: broken derivatives ------------------------------------------------------------------------------------------------- */

static void reads_input(ad_vjp *v) { ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0))); }
static void reads_no_input(ad_vjp *v) { (void)ad_vjp_input(v, 7); }
static void reads_result(ad_vjp *v) { ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_vjp_result(v, 0))); }
static void reads_no_seed(ad_vjp *v) { ad_vjp_give(v, 0, ad_vjp_seed(v, 1)); }
static void gives_shape(ad_vjp *v) { ad_vjp_give(v, 0, ad_sum(ad_vjp_seed(v, 0), AD_ALL_AXES, false)); }
static void gives_dtype(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_constant(ad_vjp_tape(v), NULL, AD_F32, AD_SHAPE(2), zeros));
}
static void gives_nothing_valid(ad_vjp *v) { ad_vjp_give(v, 0, (ad_var){0}); }
static void mixes(ad_vjp *v) { ad_vjp_give(v, 0, ad_add(ad_vjp_seed(v, 0), ad_number(ad_vjp_tape(v), AD_F32, 1))); }
static ad_status backward_silent(ad_call *call, ad_adjoint *adjoint) {
    (void)call, (void)adjoint;
    return AD_ERR_VALUE;
}
static ad_status backward_speaks(ad_call *call, ad_adjoint *adjoint) {
    (void)adjoint;
    return ad_fail(call, AD_ERR_VALUE, "no gradient today for %s", ad_input_name(call, 0));
}
static ad_status backward_gives_shape(ad_call *call, ad_adjoint *adjoint) {
    ad_view one = adjoint->seed[0];
    one.shape.dim[0] = 1;
    ad_give(adjoint, 0, &one);
    return call->in[0]->data ? AD_ERR_OP : AD_OK; /* nothing is saved: hidden */
}

/* Both ways to run a VJP, for numbers and recorded, end in the same error. */
static void expect_broken(ad_status status, const char *first, const char *second) {
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_var x = INPUT("x", 2), y = ad_sum(ad_apply(t, &op, 1, &x, NULL, NULL), AD_ALL_AXES, false), gradient;
        int64_t nodes = ad_tape_size(t);
        ad_status got = recorded ? ad_grad(y, (ad_var){0}, 1, &x, &gradient) : ad_backward(y);
        cr_assert_eq(got, status, "%s", ad_tape_error(t));
        if (!recorded) cr_assert_eq(ad_tape_size(t), nodes);
        if (recorded) cr_assert_eq(gradient.generation, 0);
        expect_error(t, status, "odd at test_errors.c", first, second);
    }
}

Test(errors, a_vjp_keeps_to_what_it_declared) {
    odd()->vjp = reads_input;
    expect_broken(AD_ERR_OP, "its VJP reads input 0", ".saves");
    odd()->vjp = reads_no_input;
    op.saves = AD_SAVES_INPUTS;
    expect_broken(AD_ERR_OP, "its VJP reads input 7", ".saves");
    odd()->vjp = reads_result;
    expect_broken(AD_ERR_OP, "its VJP reads result 0", ".saves");
    odd()->vjp = reads_no_seed;
    expect_broken(AD_ERR_OP, "its VJP asks for the cotangent of result 1", "");
    odd()->vjp = gives_shape;
    expect_broken(AD_ERR_OP, "its VJP gave input 0 a contribution f64[]", "that input is f64[2]");
    odd()->vjp = gives_dtype;
    expect_broken(AD_ERR_OP, "its VJP gave input 0 a contribution f32[2]", "that input is f64[2]");
    odd()->vjp = gives_nothing_valid;
    expect_broken(AD_ERR_HANDLE, "a contribution of its VJP is an empty variable", "");
}

Test(errors, an_error_inside_a_vjp_names_the_place_of_the_op) {
    odd()->vjp = mixes;
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_var x = INPUT("x", 2), y = ad_sum(ad_apply(t, &op, 1, &x, NULL, NULL), AD_ALL_AXES, false), gradient;
        cr_assert_eq(recorded ? ad_grad(y, (ad_var){0}, 1, &x, &gradient) : ad_backward(y), AD_ERR_DTYPE);
        expect_error(t, AD_ERR_DTYPE, "add at test_errors.c", "f64[2]", "f32[]");
    }
}

Test(errors, a_backward_function_speaks_or_is_spoken_for) {
    static const struct {
        ad_status (*backward)(ad_call *, ad_adjoint *);
        ad_status status;
        const char *says;
    } broken[] = {
        {backward_silent, AD_ERR_OP, "its backward function failed without saying why"},
        {backward_speaks, AD_ERR_VALUE, "no gradient today for x"},
        {backward_gives_shape, AD_ERR_OP, "its VJP gave input 0 a contribution f64[1], but that input is f64[2]"},
    };
    for (int i = 0; i < 3; i++) {
        ad_var x = INPUT("x", 2);
        odd()->backward = broken[i].backward;
        ad_var y = ad_apply(t, &op, 1, &x, NULL, NULL);
        ad_backward(ad_sum(y, AD_ALL_AXES, false));
        expect_error(t, broken[i].status, "odd at test_errors.c", broken[i].says);
    }
}

/* ---- forward mode ------------------------------------------------------------------------------------------------------------ */

Test(errors, a_push_forward_needs_a_tangent_for_every_x) {
    ad_var x = INPUT("x", 2), three = INPUT("three", 3), y = ad_exp(x), y_dot = x, empty = {0};
    cr_assert_eq(ad_pushforward(0, &x, &x, 1, &y, &y_dot), AD_ERR_HANDLE);
    cr_assert_eq(ad_pushforward(1, NULL, &x, 1, &y, &y_dot), AD_ERR_HANDLE);
    cr_assert_eq(ad_pushforward(1, &empty, &x, 1, &y, &y_dot), AD_ERR_HANDLE);
    cr_assert_eq(y_dot.generation, 0);
    expect_ok(t);
    ad_pushforward(1, &x, NULL, 1, &y, &y_dot);
    expect_error(t, AD_ERR_NULL, "ad_pushforward at test_errors.c", "x_dot is NULL");
    x = INPUT("x", 2), y = ad_exp(x);
    ad_pushforward(1, &x, &x, 0, &y, &y_dot);
    expect_error(t, AD_ERR_NULL, "ad_pushforward at", "m is 0");
    x = INPUT("x", 2), three = INPUT("three", 3), y = ad_exp(x);
    ad_pushforward(1, &x, &three, 1, &y, &y_dot);
    expect_error(t, AD_ERR_SHAPE, "ad_pushforward at", "x is f64[2], but its tangent is f64[3]", "one type");
    x = INDEX("i", 2), y = INPUT("y", 2);
    ad_pushforward(1, &x, &x, 1, &y, &y_dot);
    expect_error(t, AD_ERR_NOGRAD, "ad_pushforward at", "i is i64[2]: integers do not move");
    x = INPUT("x", 2);
    ad_pushforward(1, &x, &y, 1, &x, &y_dot);
    expect_error(t, AD_ERR_HANDLE, "ad_pushforward at", "one of x_dot is a stale");
    x = INPUT("x", 2);
    ad_pushforward(1, &x, &x, 1, &y, &y_dot);
    expect_error(t, AD_ERR_HANDLE, "ad_pushforward at", "one of y is a stale");
    odd()->vjp = NULL;
    op.derivative = AD_NOT_DIFFERENTIABLE;
    x = ad_constant(t, "x", AD_F64, AD_SHAPE(2), zeros), y = ad_apply(t, &op, 1, &x, NULL, NULL);
    ad_pushforward(1, &x, &x, 1, &y, &y_dot);
    expect_error(t, AD_ERR_NOGRAD, "odd at test_errors.c", "it has no derivative, but an input of it moves",
                 "ad_detach");
}

static void jvp_reads_no_input(ad_jvp *j) { (void)ad_jvp_input(j, ad_jvp_inputs(j)); }
static void jvp_reads_no_result(ad_jvp *j) { (void)ad_jvp_result(j, -1); }
static void jvp_gives_no_result(ad_jvp *j) { ad_jvp_give(j, 1, ad_jvp_tangent(j, 0)); }
static void jvp_gives_shape(ad_jvp *j) { ad_jvp_give(j, 0, ad_sum(ad_jvp_tangent(j, 0), AD_ALL_AXES, false)); }
static void jvp_gives_nothing_valid(ad_jvp *j) { ad_jvp_give(j, 0, (ad_var){ad_jvp_tape(j), 0, 0}); }

Test(errors, a_jvp_keeps_to_what_there_is) {
    static const struct {
        void (*jvp)(ad_jvp *);
        ad_status status;
        const char *says;
    } broken[] = {
        {jvp_reads_no_input, AD_ERR_OP, "its JVP reads input 1, which it does not have"},
        {jvp_reads_no_result, AD_ERR_OP, "its JVP reads result -1, which it does not have"},
        {jvp_gives_no_result, AD_ERR_OP, "its JVP gives result 1, which it does not have"},
        {jvp_gives_shape, AD_ERR_OP, "its JVP gave result 0 a tangent f64[], but that result is f64[2]"},
        {jvp_gives_nothing_valid, AD_ERR_HANDLE, "is an invalid variable"},
    };
    for (int i = 0; i < 5; i++) {
        odd()->jvp = broken[i].jvp;
        ad_var x = INPUT("x", 2), y = ad_apply(t, &op, 1, &x, NULL, NULL), y_dot = x;
        cr_assert_eq(ad_pushforward(1, &x, &x, 1, &y, &y_dot), broken[i].status);
        cr_assert_eq(y_dot.generation, 0);
        expect_error(t, broken[i].status, "odd at test_errors.c", broken[i].says);
    }
}
