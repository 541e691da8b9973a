/* Tapes of millions of nodes: nothing recurses, and nothing takes time that grows faster than the tape. */
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

/* Of the processor: a machine that is busy with other things must not fail a test. */
static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* A recursion over a few thousand nodes would end the program. */
static void shrink_stack(void) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_STACK, &limit), 0);
    limit.rlim_cur = 512 * 1024;
    cr_assert_eq(setrlimit(RLIMIT_STACK, &limit), 0);
}

TestSuite(deep, .init = shrink_stack);

static const uint64_t most_bytes = (uint64_t)2 << 30;

/* ---- long chains ------------------------------------------------------------------------------------------------------------ */

/* y = 1 - (1 - (... x)), n operations long. */
static ad_var chain(ad_tape *t, ad_var x, int n) {
    ad_var one = ad_number(t, AD_F64, 1), y = x;
    for (int i = 0; i < n; i += 2) y = ad_add(one, ad_neg(y));
    return y;
}

static void expect_short_dump(ad_tape *t) {
    FILE *file = tmpfile();
    cr_assert_not_null(file);
    for (int format = AD_DUMP_TEXT; format <= AD_DUMP_DOT; format++)
        cr_assert_eq(ad_tape_dump(t, (ad_dump_format)format, file), AD_OK);
    cr_assert_lt(ftell(file), 200000);
    fclose(file);
}

Test(deep, ten_million_numbers_in_a_row) {
    const int n = 10 * 1000 * 1000;
    ad_tape *t = ad_tape_new(NULL);
    double start = seconds();
    ad_var x = ad_scalar(t, "x", 0.25), y = chain(t, x, n);
    double recording = seconds() - start;
    cr_assert_eq(ad_item(y), 0.25);
    cr_assert_leq(ad_tape_memory(t), (uint64_t)n * 65);
    cr_assert_eq(ad_backward(y), AD_OK);
    expect_values(ad_gradient(x), 1);
    ad_var middle = ad_tape_var(t, n / 2 + 2), gradient;
    cr_assert_eq(ad_backward_with(y, &(ad_backward_options){.wrt = &middle, .wrt_count = 1}), AD_OK);
    expect_values(ad_gradient(middle), -1); /* an odd number of signs changes after it */
    expect_short_dump(t);
    cr_assert_eq(ad_grad(y, (ad_var){0}, 1, &x, &gradient), AD_OK);
    cr_assert_eq(ad_item(gradient), 1);
    cr_assert_geq(ad_tape_size(t), n + n / 2);
    cr_assert_lt(ad_tape_memory(t), most_bytes);
    expect_ok(t);

    /* Numbers own nothing, so to forget them costs nothing. */
    start = seconds();
    ad_tape_reset(t);
    cr_assert_lt(seconds() - start, recording / 20);
    cr_assert_eq(ad_item(chain(t, ad_scalar(t, "x", 3), 1001)), -2);
    ad_tape_free(t);
}

Test(deep, a_million_arrays_in_a_row) {
    const int n = 1000 * 1000;
    ad_tape *t = ad_tape_new(NULL);
    ad_param *param;
    ad_param_new(&param, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){1, -1}, NULL);
    ad_var x = ad_use(t, param), y = x;
    for (int i = 0; i < n; i++) y = i % 4 ? ad_neg(y) : ad_reshape(y, i % 8 ? AD_SHAPE(2) : AD_SHAPE(1, 2));
    y = ad_sum(y, AD_ALL_AXES, false);
    cr_assert_eq(ad_backward_with(y, &(ad_backward_options){.leaves_only = true}), AD_OK);
    expect_values(*ad_param_gradient(param), 1, 1);
    cr_assert_lt(ad_tape_memory(t), most_bytes);
    expect_short_dump(t);
    ad_tape_reset(t);

    /* Recorded derivatives of a chain that is shorter, but deep. */
    x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, -1}), y = x;
    for (int i = 0; i < n / 10; i++) y = ad_where(x, ad_neg(y), x);
    ad_var gradient;
    cr_assert_eq(ad_grad(ad_sum(y, AD_ALL_AXES, false), (ad_var){0}, 1, &x, &gradient), AD_OK);
    expect_values(ad_value(gradient), 1, 1);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(param);
}

/* One value with a million consumers: all merge there. */
Test(deep, a_million_contributions_to_one_value) {
    const int n = 1000 * 1000;
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1), v = ad_leaf(t, "v", AD_F64, AD_SHAPE(2), (double[]){1, 2});
    ad_var y = ad_number(t, AD_F64, 0), sum = v, gradient[2], of[] = {x, v};
    for (int i = 0; i < n; i++) y = ad_add(y, x);
    for (int i = 0; i < n / 10; i++) sum = ad_add(sum, v);
    y = ad_add(y, ad_sum(sum, AD_ALL_AXES, false));
    cr_assert_eq(ad_backward_with(y, &(ad_backward_options){.leaves_only = true}), AD_OK);
    expect_values(ad_gradient(x), n);
    expect_values(ad_gradient(v), n / 10 + 1, n / 10 + 1);
    cr_assert_eq(ad_grad(y, (ad_var){0}, 2, of, gradient), AD_OK);
    expect_values(ad_value(gradient[0]), n);
    expect_values(ad_value(gradient[1]), n / 10 + 1, n / 10 + 1);
    cr_assert_lt(ad_tape_memory(t), most_bytes);
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- time -------------------------------------------------------------------------------------------------------------------- */

/* How long the walk back takes over a chain of n selections, whose derivative is written in ops only. */
static double walk_of_selections(int n) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), y = x;
    ad_var mask = ad_constant(t, "mask", AD_I32, AD_SHAPE(2), (int32_t[]){1, 0});
    for (int i = 0; i < n; i++) y = ad_where(mask, y, x);
    y = ad_sum(y, AD_ALL_AXES, false);
    double start = seconds();
    ad_backward(y);
    double end = seconds();
    cr_assert_eq(ad_tape_status(t), AD_OK, "%s", ad_tape_error(t));
    expect_values(ad_gradient(x), 1, 1);
    ad_tape_free(t);
    return end - start;
}

Test(deep, a_walk_over_derivatives_written_in_ops_takes_time_in_proportion) {
    (void)walk_of_selections(20000);
    double few = walk_of_selections(20000), many = walk_of_selections(400000);
    cr_assert_lt(many, 100 * few, "20,000 operations took %.4f s, 400,000 took %.4f s", few, many);
}
