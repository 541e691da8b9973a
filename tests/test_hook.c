/* Seeing and changing gradients while a pass goes on, and recording what needs none. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

/* ---- hooks --------------------------------------------------------------------------------------------------------- */

typedef struct seen {
    int calls;
    double first, last;
    ad_var x;
} seen;

static void look(void *user, ad_var x, const ad_view *gradient) {
    seen *s = user;
    s->calls++;
    s->x = x;
    s->first = ad_view_get(gradient, 0);
    s->last = ad_view_get(gradient, ad_view_count(gradient) - 1);
}

static void clip_to_one(void *user, ad_var x, const ad_view *gradient) {
    (void)user, (void)x;
    double *g = gradient->data;
    cr_assert(ad_view_is_contiguous(gradient));
    for (int64_t i = 0; i < ad_view_count(gradient); i++) g[i] = fmax(-1, fmin(1, g[i]));
}

static void times(void *user, ad_var x, const ad_view *gradient) {
    (void)x;
    for (int64_t i = 0; i < ad_view_count(gradient); i++) ((double *)gradient->data)[i] *= *(double *)user;
}

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

Test(hook, sees_the_gradient_once_it_is_complete) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2, 3), y = ad_exp(x);
    seen s = {.calls = 0};
    cr_assert_eq(ad_on_gradient(y, look, &s), AD_OK);
    ad_backward(total(ad_add(ad_mul(y, y), ad_scale(y, 3)))); /* two uses, one of them twice */
    expect_ok(t);
    cr_assert_eq(s.calls, 1);
    cr_assert_eq(s.x.index, y.index);
    expect_near(s.first, 2 * exp(1) + 3, 1e-14);
    expect_near(s.last, 2 * exp(3) + 3, 1e-14);
    ad_backward(total(x)); /* does not come by */
    cr_assert_eq(s.calls, 1);
    ad_tape_free(t);
}

Test(hook, what_it_writes_is_passed_on) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, -2), y = ad_scale(x, 2);
    ad_on_gradient(y, clip_to_one, NULL);
    ad_backward(total(ad_mul(y, y)));
    expect_ok(t);
    expect_values(ad_gradient(y), 1, -1);
    expect_values(ad_gradient(x), 2, -2);
    /* In the order in which they came: 10 * clip, not clip(10 *). */
    double ten = 10;
    ad_on_gradient(y, times, &ten);
    ad_backward_with(total(ad_mul(y, y)), &(ad_backward_options){.leaves_only = true});
    expect_values(ad_gradient(x), 20, -20);
    /* A gradient that came by reference is the hook's own copy: others do not see the change. */
    ad_var a = LEAF(t, 1, 2), b = LEAF(t, 3, 4), sum = ad_add(a, b);
    ad_on_gradient(a, times, &ten);
    ad_backward(total(sum));
    expect_values(ad_gradient(a), 10, 10);
    expect_values(ad_gradient(b), 1, 1);
    expect_values(ad_gradient(sum), 1, 1);
    expect_ok(t);
    ad_tape_free(t);
}

Test(hook, works_on_scalars_results_leaves_and_the_start) {
    ad_tape *t = ad_tape_new(NULL);
    double ten = 10;
    ad_var x = ad_scalar(t, "x", 2), y = ad_mul(x, x), z = ad_mul(y, x);
    ad_on_gradient(y, times, &ten);
    ad_backward(z);
    cr_assert_eq(ad_gradient_item(y), 20);
    cr_assert_eq(ad_gradient_item(x), 4 + 20 * 4);
    ad_on_gradient(z, times, &ten);
    ad_backward(z);
    cr_assert_eq(ad_gradient_item(x), 40 + 200 * 4);
    ad_var v = LEAF(t, 3, 1, 2), index, m = ad_max(v, -1, false, &index), sorted = ad_sort(v, -1, false, &index);
    ad_on_gradient(m, times, &ten);
    ad_on_gradient(sorted, times, &ten);
    ad_on_gradient(v, times, &ten);
    ad_backward(ad_add(m, total(sorted)));
    expect_values(ad_gradient(v), 200, 100, 100);
    expect_ok(t);
    ad_tape_free(t);
}

Test(hook, of_a_parameter_changes_what_it_gets) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w;
    ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(2), (double[]){1, 2}, NULL);
    double ten = 10;
    ad_var leaf = ad_use(t, w), y = total(ad_mul(leaf, leaf));
    ad_on_gradient(leaf, times, &ten);
    ad_backward(y);
    expect_values(*ad_param_gradient(w), 20, 40);
    ad_backward_with(y, &(ad_backward_options){.accumulate = true});
    expect_values(*ad_param_gradient(w), 40, 80);
    expect_ok(t);
    ad_tape_free(t);
    ad_param_unref(w);
}

static void hooked_function(ad_tape *t, const ad_var *in, int n, ad_var *out, int m, void *user) {
    (void)t, (void)n, (void)m;
    ad_var h = ad_scale(in[0], 2);
    ad_on_gradient(h, times, user);
    out[0] = ad_mul(h, h);
}

Test(hook, inside_a_checkpoint_it_runs_in_the_replay) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 3), y;
    double ten = 10;
    ad_checkpoint(t, hooked_function, &ten, 1, &x, 1, &y);
    ad_backward(total(y));
    expect_ok(t);
    expect_values(ad_gradient(x), 80, 240);
    ad_tape_free(t);
}

static void walk_back(void *user, ad_var x, const ad_view *gradient) { (void)gradient, (void)user, ad_backward(x); }

Test(hook, what_is_wrong_is_reported) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), c = CONSTANT(t, 1, 2);
    cr_assert_eq(ad_on_gradient((ad_var){0}, look, NULL), AD_ERR_HANDLE);
    ad_on_gradient(x, NULL, NULL);
    expect_error(t, AD_ERR_NULL, "ad_on_gradient at test_hook.c:", "the function is NULL");
    ad_on_gradient(x, look, NULL);
    expect_error(t, AD_ERR_HANDLE, "stale");
    c = ad_name(CONSTANT(t, 1, 2), "c");
    ad_on_gradient(c, look, NULL);
    expect_error(t, AD_ERR_NOGRAD, "c is f64[2], and has no gradient");
    x = LEAF(t, 1, 2);
    ad_var y = total(x);
    ad_on_gradient(y, walk_back, NULL);
    ad_backward(y);
    expect_error(t, AD_ERR_VALUE, "ad_backward at test_hook.c:", "ad_on_gradient cannot walk back");
    ad_tape_free(t);
}

Test(hook, outlives_a_rewind_of_what_came_after_its_node) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2);
    double ten = 10;
    ad_mark mark = ad_tape_mark(t);
    ad_on_gradient(x, times, &ten);
    (void)ad_name(ad_exp(x), "a name that lies behind the hook");
    ad_tape_rewind(t, mark);
    ad_backward(total(ad_name(ad_scale(x, 1), "another name that would lie where the hook lay")));
    expect_ok(t);
    expect_values(ad_gradient(x), 10, 10);
    ad_tape_free(t);
}

Test(hook, every_allocation_may_be_refused) {
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
        memory.fail_at = memory.calls + at;
        memory.fail_on = true;
        double one = 1, ten = 10;
        ad_var x = LEAF(t, 1, 2), y = ad_add(x, x);
        for (int i = 0; i < 2000; i++) ad_on_gradient(y, times, &one);
        ad_on_gradient(y, times, &ten);
        ad_backward(total(y));
        bool reached = memory.calls >= memory.fail_at;
        cr_assert_eq(ad_tape_status(t), reached ? AD_ERR_OOM : AD_OK, "allocation %lld", (long long)at);
        if (!reached) expect_values(ad_gradient(x), 20, 20);
        ad_error error;
        cr_assert_eq(ad_tape_verify(t, &error), AD_OK);
        ad_tape_free(t);
        test_memory_close(&memory);
        if (!reached) break;
    }
}

/* ---- without gradients ------------------------------------------------------------------------------------------------ */

Test(no_grad, what_is_recorded_in_it_needs_no_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = LEAF(t, 1, 2), s = ad_scalar(t, "s", 3);
    ad_no_grad_begin(t);
    ad_no_grad_begin(t);
    ad_var inner = ad_exp(x);
    ad_no_grad_end(t);
    ad_var outer = ad_mul(s, s), leaf = LEAF(t, 1);
    ad_no_grad_end(t);
    ad_var after = ad_mul(x, inner);
    expect_ok(t);
    ad_node_info info;
    const ad_var none[] = {inner, outer, leaf};
    for (int i = 0; i < 3; i++) {
        ad_tape_node(t, none[i].index, &info);
        cr_assert_not(info.needs_gradient);
    }
    ad_backward(total(after));
    ad_view g = ad_gradient(x);
    cr_assert_eq(ad_view_get(&g, 1), exp(2));
    expect_ok(t);
    /* A walk back inside of one is as anywhere, and one around a checkpoint does not reach into its replay. */
    ad_var y;
    double one = 1;
    ad_checkpoint(t, hooked_function, &one, 1, &x, 1, &y);
    y = total(y);
    ad_no_grad_begin(t);
    ad_backward(y);
    ad_no_grad_end(t);
    expect_ok(t);
    expect_values(ad_gradient(x), 8, 16);
    ad_tape_free(t);
}

static void leaving_open(ad_tape *t, const ad_var *in, int n, ad_var *out, int m, void *user) {
    (void)n, (void)m, (void)user;
    ad_no_grad_begin(t);
    out[0] = ad_exp(in[0]);
}

Test(no_grad, ends_must_match) {
    ad_tape *t = ad_tape_new(NULL);
    ad_no_grad_end(t);
    expect_error(t, AD_ERR_VALUE, "ad_no_grad_end: no such scope is open");
    for (int i = 0; i < 1000; i++) ad_no_grad_begin(t);
    expect_error(t, AD_ERR_LIMIT, "ad_no_grad_begin:", "missing in a loop");
    ad_no_grad_begin(t);
    ad_tape_reset(t); /* closes it */
    ad_var x = LEAF(t, 1, 2), y;
    ad_backward(total(x));
    expect_ok(t);
    ad_checkpoint(t, leaving_open, NULL, 1, &x, 1, &y);
    expect_error(t, AD_ERR_VALUE, "left a scope open");
    x = LEAF(t, 1, 2);
    ad_backward(total(x));
    expect_ok(t);
    ad_no_grad_begin(NULL);
    ad_no_grad_end(NULL);
    ad_tape_free(t);
}
