/* The functions of one number, and their derivatives, against the digits that tests/reference/special.py wrote: none is
 * further off than docs/accuracy.md says, in units of the last place. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(accuracy, .fini = test_arrays_free);

enum { MOST_FUNCTIONS = 64, MOST_POINTS = 512 };

typedef struct function {
    char name[32]; /* "polygamma 2" */
    struct {
        double ulps;
        bool of_1;              /* beside results below 1, those of 1 */
    } bound[AD_DTYPE_COUNT][2]; /* of value and derivative */
    ad_unary op;
    double constants[2];
    bool has_derivative;
    int count;
    double x[MOST_POINTS];
    long double want[2][MOST_POINTS];
} function;

static FILE *open_source(const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", ADTAPE_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s cannot be read", path);
    return file;
}

static ad_unary row_named(const char *name) {
    static const char *const names[] = {
#define X(row, ...) [AD_UNARY_##row] = #row,
        AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X)
#undef X
    };
    int op = 0;
    while (op < TEST_COUNT(names) && strcmp(names[op], name) != 0) op++;
    cr_assert_lt(op, TEST_COUNT(names), "there is no row %s", name);
    return (ad_unary)op;
}

/* Rows of the table in docs/accuracy.md: "| `digamma left` | 8 of 1 | 8 | 1 | 1 |" */
static int read_bounds(function *functions) {
    FILE *file = open_source("docs/accuracy.md");
    char line[512];
    int count = 0;
    while (fgets(line, sizeof line, file)) {
        function *f = &functions[count];
        if (sscanf(line, "| `%31[^`]` |", f->name) != 1) continue;
        char row[32] = "", *rest = strchr(line + 1, '|');
        for (int i = 0; i < 4; i++) {
            ad_dtype dtype = i < 2 ? AD_F64 : AD_F32;
            f->bound[dtype][i % 2].ulps = strtod(rest + 1, &rest);
            f->bound[dtype][i % 2].of_1 = strncmp(rest, " of 1", 5) == 0;
            rest = strchr(rest, '|');
            cr_assert_not_null(rest, "%s has too few columns", f->name);
        }
        sscanf(f->name, "%31s %lf", row, &f->constants[0]);
        f->op = row_named(row);
        cr_assert_lt(++count, MOST_FUNCTIONS);
    }
    fclose(file);
    return count;
}

static void read_points(function *functions, int count) {
    FILE *file = open_source("tests/reference/special.txt");
    char line[512], *rest;
    function *f = NULL;
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '#') continue;
        if (line[0] >= 'a') {
            for (f = functions; f < functions + count && strcmp(f->name, line) != 0;) f++;
            cr_assert_lt(f - functions, count, "docs/accuracy.md does not tell of %s", line);
        } else {
            cr_assert_lt(f->count, MOST_POINTS);
            f->x[f->count] = strtod(line, &rest);
            f->want[0][f->count] = strtold(rest, &rest);
            f->has_derivative = strcmp(rest, " -") != 0;
            f->want[1][f->count++] = strtold(rest, NULL);
        }
    }
    fclose(file);
}

/* How far the furthest of the results is off, and where. */
static double worst_of(const function *f, const ad_view *x, const ad_view *got, const int *point, int which,
                       double *where) {
    double worst = 0;
    for (int64_t i = 0; i < x->shape.dim[0]; i++) {
        long double want = f->want[which][point[i]];
        double ulps = test_ulps(x->dtype, test_get(got, i), want);
        if (f->bound[x->dtype][which].of_1 && fabsl(want) < 1)
            ulps = (double)fabsl(test_get(got, i) - want) * (x->dtype == AD_F32 ? 0x1p23 : 0x1p52);
        if (!(ulps <= worst)) worst = ulps, *where = test_get(x, i);
    }
    return worst;
}

static void check(const ad_kernels *k, const function *f, ad_dtype dtype) {
    int point[MOST_POINTS], n = 0;
    for (int i = 0; i < f->count; i++)
        if (dtype == AD_F64 || (double)(float)f->x[i] == f->x[i]) point[n++] = i;
    cr_assert_gt(n, 10, "%s is looked at in %d places", f->name, n);
    ad_shape shape = AD_SHAPE(n);
    ad_view x = test_array(dtype, shape, TEST_DENSE), g = test_array(dtype, shape, TEST_DENSE);
    ad_view y = test_array(dtype, shape, TEST_DENSE), bar = test_array(dtype, shape, TEST_DENSE);
    for (int i = 0; i < n; i++) test_set(&x, i, f->x[point[i]]), test_set(&g, i, 1);
    k->unary(f->op, &x, &y, f->constants);
    k->unary_back(f->op, &g, &x, &y, &bar, false, f->constants);
    for (int which = 0; which < 1 + f->has_derivative; which++) {
        double where = 0, worst = worst_of(f, &x, which ? &bar : &y, point, which, &where);
        cr_expect_leq(worst, f->bound[dtype][which].ulps, "%s of %s, %s in %s, is off by %.2f ulp at %a = %g",
                      which ? "the derivative" : "the value", f->name, k->isa, ad_dtype_name(dtype), worst, where,
                      where);
    }
}

Test(accuracy, is_what_the_documentation_says) {
    function *functions = calloc(MOST_FUNCTIONS, sizeof *functions);
    cr_assert_not_null(functions);
    int count = read_bounds(functions);
    cr_assert_gt(count, 30);
    read_points(functions, count);
    for (int t = 0; ad_kernels_table(t); t++)
        for (int i = 0; i < 2 * count; i++) check(ad_kernels_table(t), &functions[i / 2], i % 2 ? AD_F32 : AD_F64);
    free(functions);
}
