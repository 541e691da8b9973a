/* Handles, marks, names, scopes, reset: what a tape remembers and what it forgets. */
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static ad_node_info info_of(ad_var x) {
    ad_node_info info;
    cr_assert_eq(ad_tape_node(x.tape, x.index, &info), AD_OK);
    return info;
}

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

static void expect_stale(ad_tape *t, ad_var x) {
    cr_assert_null(ad_value(x).data);
    cr_assert_eq(ad_tape_status(t), AD_ERR_HANDLE);
    cr_assert(strstr(ad_tape_error(t), "stale") || strstr(ad_tape_error(t), "invalid"), "%s", ad_tape_error(t));
    cr_assert_not(ad_gradient_reached(x));
}

Test(tape, refuses_a_variable_of_before_the_reset_whatever_lies_in_its_place) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var old[3000];
    for (int i = 0; i < 3000; i++) old[i] = ad_scalar(t, "x", i);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i += 1499) {
            ad_tape_reset(t);
            if (round == 1) /* now something lies there again */
                for (int k = 0; k < 3000; k++) (void)ad_scalar(t, "x", k);
            expect_stale(t, old[i]);
        }
    }
    ad_tape_free(t);
}

Test(tape, refuses_forged_variables) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1);
    const ad_var forged[] = {
        {t, 1, x.generation},          {t, AD_CHUNK_NODES, x.generation}, /* the first of a chunk that is not there */
        {t, UINT32_MAX, x.generation}, {t, UINT32_MAX - 1, x.generation}, {t, 0, 0},
        {t, 0, x.generation + 1},      {t, 0, x.generation - 1},
    };
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        expect_stale(t, forged[i]);
        ad_tape_reset(t);
        x = ad_scalar(t, "x", 1);
        ad_var sum = ad_add(x, (ad_var){t, forged[i].index, i > 3 ? forged[i].generation : x.generation + (i == 3)});
        cr_assert_eq(sum.generation, 0);
        expect_error(t, AD_ERR_HANDLE, "add at test_tape.c", "input 1 is");
        x = ad_scalar(t, "x", 1);
    }
    ad_tape_free(t);
}

Test(tape, refuses_a_variable_of_another_tape_with_the_same_numbers) {
    ad_tape *a = ad_tape_new(NULL), *b = ad_tape_new(NULL);
    a->generation = b->generation = 5;
    ad_var x = ad_scalar(a, "x", 1), y = ad_scalar(b, "y", 2);
    cr_assert(x.index == y.index && x.generation == y.generation);
    ad_mul(x, y);
    expect_error(a, AD_ERR_HANDLE, "mul at", "input 1 belongs to another tape");
    expect_ok(b);
    ad_backward_with(y, &(ad_backward_options){.seed = x});
    expect_error(b, AD_ERR_HANDLE, "the seed belongs to another tape");
    y = ad_scalar(b, "y", 2);
    ad_backward_with(y, &(ad_backward_options){.wrt = &x, .wrt_count = 1});
    expect_error(b, AD_ERR_HANDLE, "one of .wrt belongs to another tape");
    ad_tape_free(a);
    ad_tape_free(b);
}

/* 2^32 generations take more than an hour of resets and nothing else: what matters is that none of them is 0, which
 * marks what was never valid, and that the last one is not taken for the next. */
Test(tape, outlives_the_end_of_its_generations) {
    ad_tape *t = ad_tape_new(NULL);
    t->generation = UINT32_MAX - 1;
    ad_var old[4], zeroed = {.tape = t};
    for (int i = 0; i < 4; i++) {
        ad_tape_reset(t);
        old[i] = ad_scalar(t, "x", i);
        cr_assert_neq(old[i].generation, 0);
        cr_assert_eq(ad_item(old[i]), i);
        expect_ok(t);
        for (int k = 0; k < i; k++) cr_assert_neq(old[k].generation, old[i].generation);
    }
    expect_stale(t, zeroed);
    ad_tape_free(t);
}

/* A node that stays from pass to pass must not take a gradient of 2^32 passes ago for one of this pass. */
Test(tape, outlives_the_end_of_its_pass_numbers) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 2), v = ad_leaf(t, "v", AD_F64, AD_SHAPE(2), (double[]){1, 2});
    ad_var y = ad_mul(ad_mul(x, x), ad_sum(v, AD_ALL_AXES, false)), z = ad_scalar(t, "z", 1);
    ad_backward(y); /* pass 1 */
    t->pass = UINT32_MAX - 1;
    for (int i = 0; i < 4; i++) {
        ad_backward(i % 2 ? y : z);
        cr_assert_neq(t->pass, 0);
        cr_assert_eq(ad_gradient_reached(x), i % 2);
        expect_values(ad_gradient(x), i % 2 ? 12 : 0);
        expect_values(ad_gradient(v), i % 2 ? 4 : 0, i % 2 ? 4 : 0);
        expect_ok(t);
    }
    ad_tape_free(t);
}

/* ---- leaves ------------------------------------------------------------------------------------------------------------ */

Test(tape, a_leaf_copies_its_data_and_a_tensor_is_shared) {
    ad_tape *t = ad_tape_new(NULL);
    double data[] = {1, 2}, number = 3;
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), data), n = ad_leaf(t, "n", AD_F64, AD_SCALAR, &number);
    ad_tensor *tensor, *scalar;
    ad_tensor_new(&tensor, NULL, AD_F64, AD_SHAPE(2), data, NULL);
    ad_tensor_new(&scalar, NULL, AD_F64, AD_SCALAR, &number, NULL);
    data[0] = number = 99;
    expect_values(ad_value(x), 1, 2);
    expect_values(ad_value(n), 3);
    ad_var shared = ad_leaf_tensor(t, "shared", tensor), copied = ad_leaf_tensor(t, "copied", scalar);
    cr_assert_eq(ad_value(shared).data, ad_tensor_view(tensor)->data);
    ad_tensor_unref(tensor);
    ad_tensor_unref(scalar);
    ad_backward(ad_sum(ad_mul(shared, copied), AD_ALL_AXES, false));
    expect_values(ad_gradient(copied), 3);
    expect_values(ad_gradient(shared), 3, 3);
    expect_ok(t);
    ad_tape_free(t);
}

Test(tape, knows_which_leaves_get_a_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    const int64_t whole[2] = {1, 2};
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F32, AD_SHAPE(2), NULL, NULL);
    const struct {
        ad_var x;
        ad_dtype dtype;
        int rank;
        bool gradient;
        const char *name, *op;
    } leaves[] = {
        {ad_leaf(t, "a", AD_F32, AD_SHAPE(2), whole), AD_F32, 1, true, "a", "input"},
        {ad_leaf(t, "b", AD_I64, AD_SHAPE(2), whole), AD_I64, 1, false, "b", "input"},
        {ad_leaf(t, NULL, AD_I32, AD_SCALAR, whole), AD_I32, 0, false, "", "input"},
        {ad_constant(t, "c", AD_F64, AD_SHAPE(2), whole), AD_F64, 1, false, "c", "constant"},
        {ad_number(t, AD_F32, 1.5), AD_F32, 0, false, "", "constant"},
        {ad_index(t, -7), AD_I64, 0, false, "", "constant"},
        {ad_scalar(t, "d", 2.5), AD_F64, 0, true, "d", "input"},
        {ad_use(t, param), AD_F32, 1, true, "w", "parameter"},
    };
    for (size_t i = 0; i < sizeof leaves / sizeof *leaves; i++) {
        ad_node_info info = info_of(leaves[i].x);
        cr_assert(info.value.dtype == leaves[i].dtype && info.value.shape.rank == leaves[i].rank &&
                      info.needs_gradient == leaves[i].gradient && info.is_leaf && info.inputs == 0,
                  "leaf %zu", i);
        cr_assert_str_eq(info.name, leaves[i].name);
        cr_assert_str_eq(info.op->name, leaves[i].op);
        cr_assert_eq(info.param, i == 7 ? param : NULL);
        cr_assert(strstr(info.where, "test_tape.c:"));
    }
    cr_assert_eq(ad_item(leaves[4].x), 1.5);
    cr_assert_eq(ad_item(leaves[5].x), -7);
    expect_ok(t);
    cr_assert_eq(ad_tape_var(t, -1).generation, 0);
    cr_assert_eq(ad_tape_var(t, ad_tape_size(t)).generation, 0);
    cr_assert_eq(ad_tape_var(t, INT64_MAX).generation, 0);
    cr_assert_eq(ad_tape_var(t, 1LL << 32).generation, 0);
    ad_tape_free(t);
    ad_param_unref(param);
}

/* ---- marks ----------------------------------------------------------------------------------------------------------- */

/* Between both marks there is no node, only scopes: their paths lie in memory that the rewind gives back. */
Test(tape, refuses_a_mark_that_a_rewind_to_an_earlier_one_without_nodes_between_undid) {
    ad_tape *t = ad_tape_new(NULL);
    (void)ad_scalar(t, "x", 1);
    ad_mark early = ad_tape_mark(t);
    for (int i = 0; i < 200; i++) ad_scope_begin(t, "%0400d", i);
    ad_mark late = ad_tape_mark(t);
    cr_assert_eq(ad_tape_rewind(t, early), AD_OK);
    cr_assert_eq(ad_tape_rewind(t, late), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "ad_tape_rewind", "stale");
    ad_tape_free(t);
}

Test(tape, refuses_a_mark_of_an_empty_tape_after_a_reset) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scope_begin(t, "%0400d", 1);
    ad_mark mark = ad_tape_mark(t);
    ad_tape_reset(t);
    cr_assert_eq(ad_tape_rewind(t, mark), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "stale");
    ad_tape_free(t);
}

Test(tape, refuses_a_mark_that_an_undone_scope_end_separates_from_the_one_rewound_to) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scope_begin(t, "block");
    ad_mark early = ad_tape_mark(t);
    ad_scope_end(t);
    ad_mark late = ad_tape_mark(t);
    cr_assert_eq(ad_tape_rewind(t, early), AD_OK);
    ad_scope_begin(t, "inner");
    cr_assert_eq(ad_tape_rewind(t, late), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "stale");
    ad_tape_free(t);
}

Test(tape, keeps_the_gradients_of_nodes_before_the_mark_when_y_is_rewound) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){2, 3}), c = ad_scalar(t, "c", 5);
    ad_mark mark = ad_tape_mark(t);
    ad_backward(ad_sum(ad_mul(ad_mul(x, x), c), AD_ALL_AXES, false));
    cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
    expect_values(ad_gradient(x), 20, 30);
    expect_values(ad_gradient(c), 13);
    cr_assert(ad_gradient_reached(x));
    expect_ok(t);

    /* What is recorded now lies where nodes with gradients lay. */
    ad_var y = ad_mul(x, c);
    cr_assert_not(ad_gradient_reached(y));
    cr_assert_null(ad_gradient(y).data);
    expect_error(t, AD_ERR_NOGRAD, "ad_gradient at test_tape.c", "no backward pass since it was recorded",
                 "ad_backward");
    ad_tape_free(t);
}

Test(tape, refuses_variables_and_marks_of_a_freed_tape_that_lay_in_the_same_place) {
    same_place place;
    same_place_open(&place);
    ad_tape *first = NULL;
    ad_var old = {0};
    ad_mark mark = {0};
    for (int i = 0; i < 100; i++) {
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &place.allocator});
        if (i == 0) first = t;
        cr_assert_eq((void *)t, (void *)first);
        ad_var x = ad_scalar(t, "x", i), y = ad_scalar(t, "y", i);
        if (i > 0) {
            cr_assert_eq(old.index, x.index);
            ad_add(y, old);
            expect_error(t, AD_ERR_HANDLE, "input 1 is a stale variable");
            ad_tape_rewind(t, mark);
            expect_error(t, AD_ERR_HANDLE, "the mark is stale");
            x = ad_scalar(t, "x", i);
        }
        old = x;
        mark = ad_tape_mark(t);
        ad_tape_free(t);
    }
    same_place_close(&place);
}

Test(tape, rewinds_marks_inside_marks) {
    ad_tape *t = ad_tape_new(NULL);
    ad_mark empty = ad_tape_mark(t);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2});
    ad_mark outer = ad_tape_mark(t);
    ad_var y = ad_exp(x);
    ad_mark inner = ad_tape_mark(t);
    for (int round = 0; round < 3; round++) {
        ad_var z = ad_scale(y, round);
        expect_values(ad_gradient((ad_backward(ad_sum(z, AD_ALL_AXES, false)), y)), round, round);
        cr_assert_eq(ad_tape_rewind(t, inner), AD_OK);
        cr_assert_eq(ad_tape_size(t), 2);
        cr_assert_neq(ad_name(y, "kept").generation, 0);
        expect_ok(t);
        expect_values(ad_gradient(y), round, round);
    }
    cr_assert_eq(ad_tape_rewind(t, inner), AD_OK); /* again, with nothing to forget */
    cr_assert_eq(ad_tape_rewind(t, outer), AD_OK);
    ad_var new_y = ad_neg(x);
    cr_assert_eq(new_y.index, y.index);
    cr_assert_str_empty(info_of(new_y).name);
    expect_stale(t, y);
    ad_tape_reset(t);
    cr_assert_eq(ad_tape_rewind(t, inner), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "the mark is stale");
    cr_assert_eq(ad_tape_rewind(t, empty), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "the mark is stale");
    empty = ad_tape_mark(t);
    (void)ad_scalar(t, "x", 1);
    cr_assert_eq(ad_tape_rewind(t, empty), AD_OK);
    cr_assert_eq(ad_tape_size(t), 0);
    expect_ok(t);
    ad_tape_free(t);
}

Test(tape, refuses_an_inner_mark_after_the_outer_one_was_rewound_to) {
    ad_tape *t = ad_tape_new(NULL);
    (void)ad_scalar(t, "x", 1);
    ad_mark outer = ad_tape_mark(t);
    (void)ad_scalar(t, "y", 2);
    ad_mark inner = ad_tape_mark(t);
    cr_assert_eq(ad_tape_rewind(t, outer), AD_OK);
    (void)ad_scalar(t, "z", 3); /* as many nodes again */
    cr_assert_eq(ad_tape_rewind(t, inner), AD_ERR_HANDLE);
    expect_error(t, AD_ERR_HANDLE, "the mark is stale");
    ad_tape_free(t);
}

Test(tape, a_rewind_gives_back_parameters_and_tensors) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(2), NULL, NULL);
    ad_var kept = ad_use(t, param);
    ad_mark mark = ad_tape_mark(t);
    uint64_t held = 0;
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 2000; k++) (void)ad_add(ad_use(t, param), kept);
        ad_backward(ad_sum(ad_tape_var(t, ad_tape_size(t) - 1), AD_ALL_AXES, false));
        expect_values(*ad_param_gradient(param), 2, 2);
        cr_assert_eq(atomic_load(&param->refs), 2002);
        cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
        cr_assert_eq(atomic_load(&param->refs), 2);
        expect_ok(t);
        if (i == 0) held = ad_tape_memory(t);
        cr_assert_eq(ad_tape_memory(t), held);
    }
    ad_tape_free(t);
    cr_assert_eq(atomic_load(&param->refs), 1);
    ad_param_unref(param);
}

/* ---- names and scopes ----------------------------------------------------------------------------------------------------- */

Test(tape, names_are_copied_replaced_and_removed) {
    ad_tape *t = ad_tape_new(NULL);
    char name[] = "first";
    ad_var x = ad_scalar(t, NULL, 1), y = ad_scale(x, 2); /* y has attributes, which a name must not cost it */
    cr_assert_eq(ad_name(y, name).index, y.index);
    name[0] = 'F';
    cr_assert_str_eq(info_of(y).name, "first");
    ad_name(y, "second");
    cr_assert_str_eq(info_of(y).name, "second");
    const char *const none[] = {"", NULL};
    for (int i = 0; i < 2; i++) {
        ad_name(y, "third");
        ad_name(y, none[i]);
        cr_assert_str_empty(info_of(y).name);
    }
    static char long_name[100000];
    memset(long_name, 'n', sizeof long_name - 1);
    ad_name(x, long_name);
    cr_assert_str_eq(info_of(x).name, long_name);
    ad_backward(y);
    expect_values(ad_gradient(x), 2);
    expect_ok(t);
    ad_tape_free(t);
}

Test(tape, a_name_given_after_the_mark_to_a_node_before_it_stays) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1);
    ad_mark mark = ad_tape_mark(t);
    for (int i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "renamed %d", i);
        ad_var y = ad_name(ad_scale(x, 2), "y");
        ad_name(x, name);
        ad_name(y, "y again");
        cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
        for (int k = 0; k < 50; k++)
            (void)ad_name(ad_scale(x, 3), "other"); /* where the name lay, if it was given back */
        cr_assert_str_eq(info_of(x).name, name);
        expect_ok(t);
        cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
    }
    ad_tape_free(t);
}

Test(tape, scopes_nest_and_end) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var top = ad_scalar(t, "x", 1);
    ad_scope_begin(t, "block%d", 0);
    ad_var outer = ad_neg(top);
    ad_scope_begin(t, "%s", "attention");
    ad_var inner = ad_neg(outer);
    ad_scope_end(t);
    ad_var after = ad_neg(inner);
    ad_scope_begin(t, "attention"); /* the same name once more */
    ad_var again = ad_neg(after);
    ad_scope_end(t);
    ad_scope_end(t);
    ad_var bottom = ad_neg(again);
    const char *const scopes[] = {"", "block0", "block0/attention", "block0", "block0/attention", ""};
    const ad_var x[] = {top, outer, inner, after, again, bottom};
    for (int i = 0; i < 6; i++) cr_assert_str_eq(info_of(x[i]).scope, scopes[i]);
    expect_ok(t);
    ad_tape_reset(t);
    cr_assert_str_empty(info_of(ad_scalar(t, "x", 1)).scope);
    ad_tape_free(t);
}

Test(tape, a_rewind_restores_the_scope_of_the_mark) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scope_begin(t, "a");
    ad_scope_begin(t, "b");
    ad_var x = ad_scalar(t, "x", 1);
    ad_mark mark = ad_tape_mark(t);
    for (int i = 0; i < 3; i++) {
        ad_scope_end(t);
        ad_scope_end(t);
        if (i == 2) ad_scope_begin(t, "c");
        ad_var y = ad_neg(x);
        cr_assert_str_eq(info_of(y).scope, i == 2 ? "c" : "");
        ad_backward(y);
        cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
        cr_assert_str_eq(info_of(x).scope, "a/b");
        cr_assert_str_eq(info_of(ad_neg(x)).scope, "a/b");
        cr_assert_eq(ad_tape_rewind(t, mark), AD_OK);
        expect_ok(t);
    }
    ad_scope_end(t);
    cr_assert_str_eq(info_of(ad_neg(x)).scope, "a");
    ad_scope_end(t);
    ad_scope_end(t);
    expect_error(t, AD_ERR_VALUE, "no scope is open");
    ad_tape_free(t);
}

Test(tape, scopes_may_be_deep_long_and_left_open) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x[2000];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2000; i++) {
            ad_scope_begin(t, "s%d", i);
            x[i] = ad_scalar(t, "x", i);
        }
        cr_assert_str_eq(info_of(x[2]).scope, "s0/s1/s2");
        cr_assert_eq(strlen(info_of(x[1999]).scope), 511);
        cr_assert_str_eq(info_of(x[1999]).scope + 508, "...");
        for (int i = 0; i < 1000; i++) ad_scope_end(t);
        cr_assert_str_eq(info_of(ad_scalar(t, "y", 1)).scope, info_of(x[999]).scope);
        expect_ok(t);
        ad_tape_reset(t);
        cr_assert_str_empty(info_of(ad_scalar(t, "y", 1)).scope);
        ad_tape_reset(t);
    }
    char name[2000];
    memset(name, 's', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ad_scope_begin(t, "%s", name);
    cr_assert_eq(strlen(info_of(ad_scalar(t, "x", 1)).scope), 511);
    ad_scope_begin(t, "%s", "");
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- reset ------------------------------------------------------------------------------------------------------------------ */

Test(tape, a_reset_forgets_everything_and_keeps_the_memory) {
    ad_tape *t = ad_tape_new(NULL);
    uint64_t held = 0;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(ad_tape_size(t), 0);
        ad_scope_begin(t, "open");
        ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(100), (double[100]){0}), y = ad_exp(x);
        cr_assert_null(ad_gradient(x).data); /* none is left of the step before */
        expect_error(t, AD_ERR_NOGRAD, "no backward pass");
        x = ad_leaf(t, "x", AD_F64, AD_SHAPE(100), (double[100]){0}), y = ad_exp(x);
        ad_backward(ad_sum(y, AD_ALL_AXES, false));
        cr_assert(ad_gradient_reached(x));
        expect_ok(t);
        ad_tape_reset(t);
        if (i == 0) held = ad_tape_memory(t);
        cr_assert_eq(ad_tape_memory(t), held);
        ad_tape_reset(t); /* twice does no harm */
    }
    ad_tape_free(t);
}

/* ---- verify: it finds what it looks for -------------------------------------------------------------------------------------- */

/* Spoils one field, expects the message, and puts the field back. */
#define expect_found(tape, field, value, ...)                                                                        \
    do {                                                                                                             \
        ad_error error = {AD_OK, ""};                                                                                \
        __typeof__(field) kept = (field);                                                                            \
        (field) = (value);                                                                                           \
        ad_tape_verify(tape, &error);                                                                                \
        (field) = kept;                                                                                              \
        expect_message(&error, AD_ERR_OP, __VA_ARGS__);                                                              \
        expect_ok(tape);                                                                                             \
    } while (0)

Test(tape, verify_finds_what_is_broken) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(2), NULL, NULL);
    ad_var w = ad_use(t, param), x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2});
    ad_var s = ad_scalar(t, "s", 3), product = ad_mul(ad_mul(w, x), s), y = ad_sum(product, AD_ALL_AXES, false);
    ad_backward(y);
    expect_ok(t);
    ad_node *node = ad_node_at(t, product.index), *scalar = ad_node_at(t, s.index);
    ad_tensor *other = ad_tensor_of(y), *value = node->value.tensor;
    expect_found(t, node->op, NULL, "node 4 has no op");
    expect_found(t, node->dtype, 77, "node 4 has no op or no dtype");
    expect_found(t, node->generation, 0, "node 4 has generation 0");
    expect_found(t, t->scope_count, 0, "scope 0");
    expect_found(t, node->in[1], 4, "node 4 reads node 4");
    expect_found(t, node->value.tensor, NULL, "node 4 has a broken value");
    expect_found(t, value->view.dtype, AD_F32, "has a broken value");
    expect_found(t, value->view.shape.dim[0], -1, "has a broken value");
    expect_found(t, ad_cotangent_at(t, 4)->value.tensor, other, "the gradient of node 4 is not of its type");
    expect_found(t, t->owners.item[0], 1, "the list of owners is out of order at 1");
    expect_found(t, t->owners.item[t->owners.count - 1], 99, "the list of owners is out of order");
    expect_found(t, t->owners.count, 1, "node 1 is missing from a list of owners");
    expect_found(t, t->params.count, 0, "node 0 is missing");
    expect_found(t, scalar->op, &ad_leaf_parameter, "node 2 is missing");
    expect_found(t, t->params.item[0], 99, "the list of parameters is out of order at 0");
    expect_found(t, t->graded.item[0], 2, "the list of gradients names node 2");
    expect_found(t, t->pass_nodes, 99, "gradients of 99 nodes on a tape of 6");
    expect_found(t, t->chunks, 0, "6 nodes in 0 chunks");
    expect_found(t, t->held[0], other, "scratch memory is still in use");
    expect_found(t, t->no_grad, 1, "still records for a derivative");
    expect_found(t, t->where, "somewhere", "still records for a derivative");
    ad_tensor_unref(other);
    ad_tape_free(t);
    ad_param_unref(param);
}
