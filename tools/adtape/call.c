/* Calls: inputs, and attributes by name or in their order. What a function takes stands in its descriptor. */
#include "tools/adtape/parser.h"

#include <stdlib.h>
#include <string.h>

/* ---- calls ------------------------------------------------------------------------------------------------------- */

static bool fail_with_signature(parser *p, size_t at, const ad_op *op, const char *message) {
    char *signature = signature_text(op);
    FAIL_AT(p, at, "%s: %s", message, signature);
    free(signature);
    return false;
}

/* One number of an attribute's value. */
static bool read_attr_number(parser *p, double *value) {
    for (int flag = 0; flag < 2; flag++) {
        if (!token_is(p->source, &p->now, flag ? "true" : "false")) continue;
        *value = flag;
        advance(p);
        return true;
    }
    for (ad_dtype dtype = 0; dtype < AD_DTYPE_COUNT; dtype++) {
        if (!token_is(p->source, &p->now, ad_dtype_name(dtype))) continue;
        *value = dtype;
        advance(p);
        return true;
    }
    return read_signed(p, value,
                       "the value of an attribute is a number, a list like [0, 1], true, false, or a dtype");
}

static bool read_attr(parser *p, const ad_attr *attr, void *attrs) {
    double values[AD_MAX_RANK + 1];
    int n = 0;
    size_t at = p->now.at;
    ad_error error = {.status = AD_OK};
    if (p->now.kind == '[') {
        open_bracket(p);
        for (; p->now.kind != ']' && n <= AD_MAX_RANK; n++) {
            if (n > 0 && p->now.kind != ',') return close_bracket(p, ']', at);
            if (n > 0) advance(p);
            if (!read_attr_number(p, &values[n])) return false;
        }
        if (p->now.kind == ']' && !close_bracket(p, ']', at)) return false;
    } else if (!read_attr_number(p, &values[n++])) {
        return false;
    }
    if (ad_attr_set(attr, attrs, n, values, &error)) return FAIL_AT(p, at, "%s", error.message);
    return true;
}

/* A call while its arguments are read. */
typedef struct call {
    cmd_function function;
    size_t at;
    int *input;
    size_t inputs, room;
    void *attrs;
    uint64_t given; /* attribute number i was */
} call;

static bool read_named_attr(parser *p, call *c) {
    const ad_op *op = c->function.op;
    const ad_attr *attr = op->attrs;
    while (attr && attr->name && !token_is(p->source, &p->now, attr->name)) attr++;
    if (!attr || !attr->name) {
        char *message = format_text("%s has no attribute %.*s", op->name, length_of(&p->now), text_of(p, &p->now));
        fail_with_signature(p, p->now.at, op, message);
        free(message);
        return false;
    }
    if (c->given >> (attr - op->attrs) & 1) return FAIL_AT(p, p->now.at, "%s is given twice", attr->name);
    c->given |= UINT64_C(1) << (attr - op->attrs);
    advance(p);
    advance(p); /* = */
    return read_attr(p, attr, c->attrs);
}

/* What comes after the inputs are attributes, in their order. */
static bool read_next_attr(parser *p, call *c) {
    const ad_attr *attr = c->function.op->attrs;
    while (attr && attr->name && (c->given >> (attr - c->function.op->attrs) & 1)) attr++;
    if (!attr || !attr->name) return fail_with_signature(p, p->now.at, c->function.op, "one argument too many");
    c->given |= UINT64_C(1) << (attr - c->function.op->attrs);
    return read_attr(p, attr, c->attrs);
}

static bool read_argument(parser *p, call *c) {
    int takes = c->function.op->inputs;
    if (p->now.kind == TOKEN_NAME && next_token(p).kind == '=') return read_named_attr(p, c);
    if (takes >= 0 && c->inputs == (size_t)takes) return read_next_attr(p, c);
    int input = parse_expression(p);
    if (input < 0) return false;
    c->input = with_room(c->input, c->inputs, &c->room, sizeof *c->input);
    c->input[c->inputs++] = input;
    return true;
}

static bool is_complete(parser *p, const call *c) {
    const ad_op *op = c->function.op;
    if (op->inputs >= 0 ? c->inputs < (size_t)op->inputs : c->inputs == 0)
        return fail_with_signature(p, c->at, op, "an input is missing");
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++) {
        if (attr->is_optional || (c->given >> (attr - op->attrs) & 1)) continue;
        char *message = format_text("%s is missing", attr->name);
        fail_with_signature(p, c->at, op, message);
        free(message);
        return false;
    }
    return true;
}

static bool read_arguments(parser *p, call *c) {
    size_t opened = p->now.at;
    open_bracket(p);
    for (int i = 0; p->now.kind != ')'; i++) {
        if (i > 0 && p->now.kind != ',') return close_bracket(p, ')', opened);
        if (i > 0) advance(p);
        if (!read_argument(p, c)) return false;
    }
    return is_complete(p, c) && close_bracket(p, ')', opened);
}

static void fail_unknown_function(parser *p, const cmd_token *name) {
    const char *text = text_of(p, name);
    int length = length_of(name);
    const char *like = most_similar(text, name->length, function_name_at, NULL);
    if (find_slot(p->program, text, name->length) >= 0) {
        FAIL_AT(p, name->at, "%.*s is a variable, not an op; a product is written with *", length, text);
    } else if (like) {
        FAIL_AT(p, name->at, "there is no op %.*s; did you mean %s?", length, text, like);
    } else {
        FAIL_AT(p, name->at, "there is no op %.*s; 'adtape ops' lists them", length, text);
    }
}

int parse_call(parser *p, const cmd_token *name) {
    call c = {.at = name->at};
    if (!find_function(text_of(p, name), name->length, &c.function)) {
        fail_unknown_function(p, name);
        return -1;
    }
    const ad_op *op = c.function.op;
    if (op->attrs_size && !op->attrs)
        return NO_STEP_AT(p, name->at, "%s does not describe its attributes, so that they cannot be given here",
                          op->name);
    if (op->attrs_size) c.attrs = allocate(op->attrs_size);
    ad_attrs_init(op, c.attrs);
    int result = -1;
    if (read_arguments(p, &c)) {
        result = add_call(p, c.at, &c.function, (int)c.inputs, c.input, c.attrs);
    } else {
        free(c.attrs);
    }
    free(c.input);
    return result;
}
