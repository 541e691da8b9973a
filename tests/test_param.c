/* Parameters: what backward passes leave in their gradients. */
#include "tapes.h"

#include <adtape.h>

#include <criterion/criterion.h>
#include <math.h>

/* A new tape may lie where an old one lay: it must not be taken for it. */
Test(param, a_new_tape_for_every_step_does_as_well_as_a_reset) {
    ad_param *w = NULL;
    cr_assert_eq(ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){1, 2}, NULL), AD_OK);
    for (int i = 0; i < 3; i++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var loss = ad_sum(ad_scale(ad_use(t, w), 3), AD_ALL_AXES, false);
        for (int k = 0; k < i; k++) loss = ad_add(loss, ad_number(t, AD_F64, 1)); /* other nodes, other places */
        cr_assert_eq(ad_backward(loss), AD_OK);
        for (int k = 0; k < 2; k++) cr_expect_eq(ad_view_get(ad_param_gradient(w), k), 3);
        ad_tape_free(t);
    }
    ad_param_unref(w);
}

/* ---- few rows: the gradient is cleared in those that hold something, and no others are touched ------------------- */

enum { ROWS = 8, WIDTH = 2 };

static ad_param *new_table(void) {
    double data[ROWS * WIDTH];
    ad_param *table = NULL;
    for (int i = 0; i < ROWS * WIDTH; i++) data[i] = i;
    cr_assert_eq(ad_param_new(&table, NULL, "table", AD_F64, AD_SHAPE(ROWS, WIDTH), data, NULL), AD_OK);
    return table;
}

/* The sum of the rows a and b of the table. */
static ad_var two_rows(ad_tape *t, ad_var table, int64_t a, int64_t b) {
    ad_var at = ad_constant(t, NULL, AD_I64, AD_SHAPE(2), ((int64_t[]){a, b}));
    return ad_sum(ad_embedding(table, at), AD_ALL_AXES, false);
}

static void pass_over(ad_tape *t, ad_param *table, int64_t a, int64_t b) {
    ad_tape_reset(t);
    ad_backward(two_rows(t, ad_use(t, table), a, b));
    expect_ok(t);
}

static double *gradient_at(const ad_param *table, int64_t row) {
    return (double *)ad_param_gradient(table)->data + row * WIDTH;
}

/* The gradient is `number` in row a and in row b, twice that if they are one, and 0 elsewhere. */
#define expect_rows(table, a, b, number) expect_rows_at(__LINE__, table, a, b, number)
static void expect_rows_at(int line, const ad_param *table, int64_t a, int64_t b, double number) {
    for (int64_t i = 0; i < ROWS * WIDTH; i++) {
        double wanted = number * ((i / WIDTH == a) + (i / WIDTH == b));
        cr_expect_eq(gradient_at(table, 0)[i], wanted, "line %d: row %d: %g, not %g", line, (int)(i / WIDTH),
                     gradient_at(table, 0)[i], wanted);
    }
}

Test(param, rows_of_the_last_pass_are_cleared_and_no_others_are_touched) {
    ad_param *table = new_table();
    ad_tape *t = ad_tape_new(NULL);
    pass_over(t, table, 1, 3);
    expect_rows(table, 1, 3, 1);
    gradient_at(table, 6)[0] = 42; /* behind the engine's back: whoever clears all would clear it */
    pass_over(t, table, 3, 3);
    cr_expect_eq(gradient_at(table, 6)[0], 42);
    gradient_at(table, 6)[0] = 0;
    expect_rows(table, 3, 3, 1);
    ad_tape_free(t);
    ad_param_unref(table);
}

Test(param, whatever_else_writes_the_gradient_is_cleared_too) {
    ad_param *table = new_table();
    ad_tape *t = ad_tape_new(NULL);
    pass_over(t, table, 0, 1);
    ad_tape_reset(t);
    ad_backward(ad_sum(ad_use(t, table), AD_ALL_AXES, false)); /* all of it */
    pass_over(t, table, 2, 5);
    expect_rows(table, 2, 5, 1);
    for (int i = 0; i < ROWS * WIDTH; i++) ((double *)ad_param_edit_gradient(table)->data)[i] = NAN;
    pass_over(t, table, 7, 4);
    expect_rows(table, 7, 4, 1);
    ad_tape_free(t);
    ad_param_unref(table);
}

Test(param, rows_come_together_with_all_that_is_done_to_a_gradient) {
    ad_param *table = new_table();
    ad_tape *t = ad_tape_new(NULL);
    double norm;
    pass_over(t, table, 1, 2);
    ad_tape_reset(t);
    ad_backward_with(two_rows(t, ad_use(t, table), 1, 2), &(ad_backward_options){.accumulate = true});
    expect_rows(table, 1, 2, 2);
    cr_assert_eq(ad_clip_gradients(1, &table, 2, &norm, NULL), AD_OK);
    cr_expect_eq(norm, 4);
    expect_rows(table, 1, 2, 1);
    pass_over(t, table, 6, 0);
    expect_rows(table, 6, 0, 1);
    /* Not used by what was walked back from: zeros. */
    ad_tape_reset(t);
    ad_use(t, table);
    ad_backward(ad_square(ad_scalar(t, "x", 3)));
    expect_rows(table, 0, 0, 0);
    /* Two uses of one leaf, and two leaves. */
    ad_tape_reset(t);
    ad_var leaf = ad_use(t, table);
    ad_backward(ad_add(two_rows(t, leaf, 4, 5), two_rows(t, leaf, 4, 5)));
    expect_rows(table, 4, 5, 2);
    ad_tape_reset(t);
    ad_backward(ad_add(two_rows(t, ad_use(t, table), 3, 5), two_rows(t, ad_use(t, table), 3, 5)));
    expect_rows(table, 3, 5, 2);
    /* Rows and all of it. */
    ad_tape_reset(t);
    leaf = ad_use(t, table);
    ad_backward(
        ad_sub(ad_add(two_rows(t, leaf, 1, 7), ad_sum(leaf, AD_ALL_AXES, false)), ad_sum(leaf, AD_ALL_AXES, false)));
    expect_rows(table, 1, 7, 1);
    pass_over(t, table, 0, 2);
    expect_rows(table, 0, 2, 1);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(table);
}
