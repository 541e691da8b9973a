/* Numbers and arrays of them. */
#include "tools/adtape/parser.h"

#include <math.h>
#include <stdlib.h>

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

bool constant_of(const parser *p, const cmd_token *t, double *value) {
    static const struct {
        const char *name;
        double value;
    } constants[] = {{"pi", 3.14159265358979323846}, {"inf", INFINITY}, {"nan", NAN}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (token_is(p->source, t, constants[i].name)) return *value = constants[i].value, true;
    return false;
}

/* [+-]... NUMBER */
bool read_signed(parser *p, double *value, const char *otherwise) {
    double sign = 1;
    for (; p->now.kind == '-' || p->now.kind == '+'; advance(p))
        if (p->now.kind == '-') sign = -sign;
    if (p->now.kind == TOKEN_NUMBER) {
        *value = p->now.number;
    } else if (!constant_of(p, &p->now, value)) {
        return FAIL_AT(p, p->now.at, "%s", otherwise);
    }
    *value *= sign;
    advance(p);
    return true;
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

typedef struct array {
    ad_shape shape; /* rank 0 until the first row has ended */
    double *value;
    size_t count, room;
} array;

static bool read_rows(parser *p, array *a, int depth);

static bool read_element(parser *p, array *a, int depth) {
    if (p->now.kind == '[') return read_rows(p, a, depth + 1);
    if (a->shape.rank > depth + 1)
        return FAIL_AT(p, p->now.at, "a number, where the rows before are arrays: all must have one shape");
    a->value = with_room(a->value, a->count, &a->room, sizeof *a->value);
    if (!read_signed(p, &a->value[a->count], "an array holds numbers; cat and stack join variables")) return false;
    a->count++;
    if (a->shape.rank == 0) a->shape.rank = depth + 1;
    return true;
}

/* One array at this depth; the first one at each depth says how long they are, and the first number how deep. */
static bool read_rows(parser *p, array *a, int depth) {
    size_t opened = p->now.at;
    int64_t rows = 0;
    if (depth >= AD_MAX_RANK) return FAIL_AT(p, opened, "an array has at most %d axes", AD_MAX_RANK);
    if (a->shape.rank > 0 && depth >= a->shape.rank)
        return FAIL_AT(p, opened, "an array, where the rows before hold numbers: all must have one shape");
    open_bracket(p);
    for (; p->now.kind != ']'; rows++) {
        if (rows > 0) {
            if (p->now.kind != ',') return close_bracket(p, ']', opened);
            advance(p);
        }
        if (!read_element(p, a, depth)) return false;
    }
    if (a->shape.rank == 0) a->shape.rank = depth + 1;
    if (a->shape.dim[depth] < 0) a->shape.dim[depth] = rows;
    if (a->shape.dim[depth] != rows)
        return FAIL_AT(p, opened, "rows differ in length: this one has %lld, those before have %lld", (long long)rows,
                       (long long)a->shape.dim[depth]);
    return close_bracket(p, ']', opened);
}

bool read_array(parser *p, cmd_literal *out) {
    array a = {.shape = {.rank = 0}};
    for (int i = 0; i < AD_MAX_RANK; i++) a.shape.dim[i] = -1;
    if (!read_rows(p, &a, 0)) {
        free(a.value);
        return false;
    }
    for (int i = a.shape.rank; i < AD_MAX_RANK; i++) a.shape.dim[i] = 0;
    *out = (cmd_literal){.shape = a.shape, .value = a.value ? a.value : allocate(sizeof(double))};
    return true;
}

static bool read_literal(parser *p, cmd_literal *out) {
    double value;
    if (p->now.kind == '[') return read_array(p, out);
    if (!read_signed(p, &value, "a number or an array like [1, 2] is missing here")) return false;
    *out = (cmd_literal){.shape = AD_SCALAR, .value = allocate(sizeof value)};
    *out->value = value;
    return true;
}

bool parse_literal(const cmd_source *source, cmd_literal *out, cmd_fault *fault) {
    parser p = {.source = source, .fault = fault};
    *out = (cmd_literal){.value = NULL};
    start_parser(&p);
    if (!read_literal(&p, out)) return false;
    if (p.now.kind == TOKEN_END) return true;
    FAIL_AT(&p, p.now.at, "one number or array is all that can stand here");
    free(out->value);
    return false;
}
