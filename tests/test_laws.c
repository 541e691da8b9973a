/* Every registered op keeps every law on every sample of its own. */
#include <adtape.h>

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* A law that is broken must be easy to look at again: OP=name and SEED=n narrow the test down. The number of laws. */
static int check(const ad_op *op, uint64_t seed, int *samples) {
    ad_check_report report;
    ad_check_options options = {.seed = seed};
    ad_status status = ad_op_check(op, &options, &report);
    cr_expect_eq(status, AD_OK, "%s\nagain: OP=%s SEED=%llu build/tests/test_laws --filter 'laws/*'", report.message,
                 op->name, (unsigned long long)seed);
    cr_expect_gt(report.compared, 0, "%s: nothing was compared", op->name);
    cr_expect_eq(report.kinks, 0, "%s: a sample lies on a kink, where nothing can be checked", op->name);
    *samples = report.sample + 1;
    return status ? 0 : report.laws;
}

/* What hardly ever has nothing to compare: an op without one of these is hardly checked, whatever else holds. */
static int fewest_laws(const ad_op *op) { return op->derivative == AD_DIFFERENTIABLE ? 10 : 2; }

/* Criterion hides what a test prints, so the table goes to the file that ADTAPE_COVERAGE names; ./dev test shows it. */
static FILE *open_table(void) {
    const char *path = getenv("ADTAPE_COVERAGE");
    FILE *table = path ? fopen(path, "w") : NULL;
    if (table) fprintf(table, "%-20s %7s %5s %5s\n", "op", "samples", "seeds", "laws");
    return table;
}

Test(laws, hold_for_every_registered_op) {
    const char *only = getenv("OP"), *number = getenv("SEED");
    uint64_t first = number ? strtoull(number, NULL, 10) : 1, last = number ? first : 5;
    int checked = 0;
    FILE *table = open_table();
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        if (only && op != ad_op_find(only)) continue;
        int samples = 0, laws = 0;
        for (uint64_t seed = first; seed <= last; seed++) laws = check(op, seed, &samples);
        cr_expect_geq(laws, fewest_laws(op), "%s: only %d laws had something to compare", op->name, laws);
        if (table) fprintf(table, "%-20s %7d %5d %5d\n", op->name, samples, (int)(last - first + 1), laws);
        checked++;
    }
    if (table) fclose(table);
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
