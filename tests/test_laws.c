/* Every registered op keeps every law on every sample of its own. */
#include <adtape.h>

#include <criterion/criterion.h>
#include <stdlib.h>

/* A law that is broken must be easy to look at again: OP=name and SEED=n narrow the test down. */
static void check(const ad_op *op, uint64_t seed) {
    ad_check_report report;
    ad_check_options options = {.seed = seed};
    ad_status status = ad_op_check(op, &options, &report);
    cr_expect_eq(status, AD_OK, "%s\nagain: OP=%s SEED=%llu build/tests/test_laws --filter 'laws/*'", report.message,
                 op->name, (unsigned long long)seed);
    cr_expect_gt(report.compared, 0, "%s: nothing was compared", op->name);
    cr_expect_eq(report.kinks, 0, "%s: a sample lies on a kink, where nothing can be checked", op->name);
}

Test(laws, hold_for_every_registered_op) {
    const char *only = getenv("OP"), *number = getenv("SEED");
    uint64_t first = number ? strtoull(number, NULL, 10) : 1, last = number ? first : 5;
    int checked = 0;
    for (int i = 0; i < ad_op_count(); i++) {
        if (only && ad_op_at(i) != ad_op_find(only)) continue;
        for (uint64_t seed = first; seed <= last; seed++) check(ad_op_at(i), seed);
        checked++;
    }
    cr_expect_gt(checked, 0, "there is no op %s", only ? only : "at all");
}

/* The directions of the fast mode meet the same ops. */
Test(laws, hold_for_every_registered_op_along_directions) {
    for (int i = 0; i < ad_op_count(); i++) {
        ad_check_report report;
        ad_check_options options = {.mode = AD_CHECK_FAST, .seed = 7};
        cr_expect_eq(ad_op_check(ad_op_at(i), &options, &report), AD_OK, "%s", report.message);
    }
}
