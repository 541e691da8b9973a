/* Handles, marks, names, scopes, reset: what a tape remembers and what it forgets. */
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>

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

/* ---- handles ---------------------------------------------------------------------------------------------------------- */

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
