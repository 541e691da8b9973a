/* Numbers, arrays, and where they go. */
#include "tools/adtape/command.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static bool reads_back(const char *text, double value, ad_dtype dtype) {
    return dtype == AD_F32 ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value;
}

/* As many as there are, so that 40 is not 4e+01; of numbers that are long anyway, 1. */
static int digits_before_point(double value) {
    double size = fabs(value);
    int digits = 1;
    if (size >= 1e15) return digits;
    for (; size >= 10; size /= 10) digits++;
    return digits;
}

/* -0 is shown as 0. */
static void number_text(double value, ad_dtype dtype, int precision, char text[32]) {
    if (isnan(value)) {
        snprintf(text, 32, "nan"); /* without a sign, which differs between machines */
        return;
    }
    value += 0.0;
    int least = precision ? precision : digits_before_point(value), most = precision ? precision : 17;
    for (int digits = least; digits <= most; digits++) {
        snprintf(text, 32, "%.*g", digits, value);
        if (reads_back(text, value, dtype)) break;
    }
}

void put_number(FILE *out, double value, ad_dtype dtype, int precision) {
    char text[32];
    number_text(value, dtype, precision, text);
    fputs(text, out);
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

/* How many of the innermost axes begin anew at element i. */
static int axes_that_turn(const ad_shape *shape, int64_t i) {
    int turn = 0;
    for (int64_t size = 1; turn < shape->rank; turn++) {
        size *= shape->dim[shape->rank - 1 - turn];
        if (i % size != 0) break;
    }
    return turn;
}

static void put_element(FILE *out, double value, ad_dtype dtype, int precision, bool json) {
    if (json && !isfinite(value)) {
        fputs("null", out); /* JSON has no word for it */
    } else {
        put_number(out, value, dtype, precision);
    }
}

static void put_times(FILE *out, const char *text, int times) {
    while (times-- > 0) fputs(text, out);
}

/* Brackets around nothing, where a dimension is 0. */
static void put_empty(FILE *out, const ad_shape *shape, int axis) {
    fputc('[', out);
    for (int64_t i = 0; axis < shape->rank - 1 && i < shape->dim[axis]; i++) {
        if (i > 0) fputs(", ", out);
        put_empty(out, shape, axis + 1);
    }
    fputc(']', out);
}

void put_array(FILE *out, const ad_view *view, ad_dtype dtype, int precision, const char *between, bool json) {
    int64_t n = ad_view_count(view);
    if (n == 0) {
        put_empty(out, &view->shape, 0);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        int begin = axes_that_turn(&view->shape, i), end = axes_that_turn(&view->shape, i + 1);
        if (i > 0) fputs(begin > 0 ? "," : ", ", out);
        if (i > 0 && begin > 0) fputs(between, out);
        if (i > 0 && begin > 0 && !json) put_times(out, " ", view->shape.rank - begin);
        put_times(out, "[", begin);
        put_element(out, ad_view_get(view, i), dtype, precision, json);
        put_times(out, "]", end);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

FILE *open_output(const char *path, cmd_fault *fault) {
    if (!path) return stdout;
    FILE *out = fopen(path, "w");
    if (!out) set_fault(fault, STATUS_SYSTEM, "%s: %s", path, strerror(errno));
    return out;
}

bool close_output(FILE *out, const char *path, cmd_fault *fault) {
    errno = 0;
    bool failed = fflush(out) != 0 || ferror(out);
    if (path && fclose(out) != 0) failed = true;
    if (!failed) return true;
    return set_fault(fault, STATUS_SYSTEM, "%s cannot be written%s%s", path ? path : "the output", errno ? ": " : "",
                     errno ? strerror(errno) : "");
}
