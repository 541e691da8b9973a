/* What a tape says of its memory, and the warning of one that grows. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <adtape/memory.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static ad_var record(ad_tape *t) {
    double data[60] = {0};
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(10, 6), data), s = ad_scalar(t, "s", 2);
    ad_scope_begin(t, "net");
    ad_var h = ad_exp(x); /* saves its result */
    h = ad_mul(h, h);     /* saves the same */
    h = ad_mul(ad_transpose(h), s);
    ad_scope_end(t);
    return ad_sum(h, AD_ALL_AXES, false);
}

static ad_memory_row row_of(const ad_tape *t, const char *op, const char *scope) {
    ad_memory_row rows[16];
    int64_t count;
    cr_assert_eq(ad_tape_memory_rows(t, rows, 16, &count), AD_OK);
    for (int64_t i = 0; i < count; i++)
        if (strcmp(rows[i].op, op) == 0 && strcmp(rows[i].scope, scope) == 0) return rows[i];
    cr_assert(false, "no row of %s in '%s'", op, scope);
    return rows[0];
}

Test(usage, says_what_is_saved_by_which_op_in_which_scope) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var y = record(t);
    ad_memory_row leaves = row_of(t, "input", ""), exp = row_of(t, "exp", "net"), mul = row_of(t, "mul", "net"),
                  view = row_of(t, "permute", "net"), sum = row_of(t, "sum", "");
    cr_assert_eq(leaves.nodes, 2);
    cr_assert_eq(leaves.values, 480 + 8);
    cr_assert_eq(exp.saved, 480);
    cr_assert_eq(mul.nodes, 2);
    cr_assert_eq(mul.values, 960);
    cr_assert_eq(mul.saved, 480 + 8, "of what is saved twice, the first counts; %llu", (unsigned long long)mul.saved);
    cr_assert_eq(view.values + view.saved, 0);
    cr_assert_eq(sum.values, 8);
    cr_assert_eq(mul.gradients, 0);
    ad_totals totals[2];
    ad_tape_totals(t, totals);
    cr_assert_eq(totals[0].saved_bytes, exp.saved + mul.saved, "as the totals say");
    ad_backward(y);
    cr_assert_eq(row_of(t, "mul", "net").gradients, 960);
    ad_backward_with(y, &(ad_backward_options){.leaves_only = true});
    cr_assert_eq(row_of(t, "mul", "net").gradients, 0);
    cr_assert_eq(row_of(t, "input", "").gradients, 488);
    expect_ok(t);
    ad_tape_free(t);
}

Test(usage, knows_what_is_in_use_and_was_at_most) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_memory none, full, after;
    cr_assert_eq(ad_tape_memory_use(t, &none), AD_OK);
    cr_assert_eq(none.in_use + none.peak, 0);
    ad_backward(record(t));
    ad_tape_memory_use(t, &full);
    cr_assert_eq(full.held, (uint64_t)memory.bytes);
    cr_assert(full.in_use > 8 * 480 && full.in_use <= full.peak && full.peak < full.held);
    ad_tape_reset(t);
    ad_tape_memory_use(t, &after);
    cr_assert_eq(after.in_use, 0);
    cr_assert_eq(after.peak, full.peak);
    cr_assert_eq(after.held, full.held);
    ad_tape_free(t);
    test_memory_close(&memory);
}

Test(usage, prints_it_the_largest_first) {
    ad_tape *t = ad_tape_new(NULL);
    ad_backward(record(t));
    FILE *file = tmpfile();
    char text[4096];
    cr_assert_eq(ad_tape_memory_print(t, file), AD_OK);
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *mul = strstr(text, "mul            2            960            488            960  net\n"),
               *exp = strstr(text, "exp            1            480            480            480  net\n");
    cr_assert(mul && exp && mul < exp, "%s", text);
    cr_assert(strstr(text, "total ") && strstr(text, "\nin use: "), "%s", text);
    FILE *full = fopen("/dev/full", "w");
    if (full) cr_assert_eq(ad_tape_memory_print(t, full), AD_ERR_IO);
    if (full) fclose(full);
    ad_tape_free(t);
}

Test(usage, arguments_are_checked_and_memory_may_be_refused) {
    ad_memory memory_use;
    ad_memory_row row;
    int64_t count = 7;
    cr_assert_eq(ad_tape_memory_use(NULL, &memory_use), AD_ERR_NULL);
    cr_assert_eq(ad_tape_memory_rows(NULL, &row, 1, &count), AD_ERR_NULL);
    cr_assert_eq(count, 0);
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    cr_assert_eq(ad_tape_memory_use(t, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_tape_memory_rows(t, NULL, 1, &count), AD_ERR_NULL);
    cr_assert_eq(ad_tape_memory_rows(t, &row, 1, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_tape_memory_print(t, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_tape_memory_rows(t, NULL, 0, &count), AD_OK);
    cr_assert_eq(count, 0);
    record(t);
    for (int i = 0; i < 40; i++) ad_square(LEAF(t, 1, 2));
    FILE *file = tmpfile();
    int64_t at = 1;
    for (;; at++) {
        memory.fail_at = memory.calls + at;
        ad_status status = ad_tape_memory_print(t, file);
        bool reached = memory.calls >= memory.fail_at;
        cr_assert_eq(status, reached ? AD_ERR_OOM : AD_OK);
        if (!reached) break;
    }
    cr_assert_gt(at, 5);
    memory.fail_at = 0;
    fclose(file);
    expect_ok(t);
    ad_tape_free(t);
    test_memory_close(&memory);
}

/* ---- growth ---------------------------------------------------------------------------------------------------------- */

typedef struct warning {
    int calls;
    int64_t passes, nodes;
    uint64_t bytes;
} warning;

static void warn(void *user, int64_t passes, int64_t nodes, uint64_t bytes) {
    warning *w = user;
    *w = (warning){.calls = w->calls + 1, .passes = passes, .nodes = nodes, .bytes = bytes};
}

Test(usage, a_tape_that_grows_from_pass_to_pass_is_told_of) {
    warning w = {.calls = 0};
    ad_tape *t = ad_tape_new(&(ad_tape_options){.on_growth = warn, .user = &w});
    for (int i = 0; i < 100; i++) {
        ad_backward(record(t));
        ad_tape_reset(t);
    }
    ad_var y = record(t);
    for (int i = 0; i < 100; i++) ad_backward(y);
    ad_mark mark = ad_tape_mark(t);
    for (int i = 0; i < 100; i++) {
        ad_backward(record(t));
        ad_tape_rewind(t, mark);
    }
    cr_assert_eq(w.calls, 0);
    ad_tape_reset(t);
    for (int i = 0; i < 9; i++) ad_backward(record(t));
    cr_assert_eq(w.calls, 1);
    cr_assert_eq(w.passes, 8);
    cr_assert_eq(w.nodes, ad_tape_size(t));
    cr_assert_eq(w.bytes, ad_tape_memory(t));
    for (int i = 0; i < 100; i++) ad_backward(record(t));
    cr_assert_eq(w.calls, 4, "at 16, 32 and 64");
    expect_ok(t);
    ad_tape_free(t);
}
