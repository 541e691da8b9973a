/* Expressions, as docs/command.md describes them, to steps. Operators are other names for ops. Recursion is bounded: a
 * text may come from anywhere. */
#include "tools/adtape/lexer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { deepest = 200 };

typedef struct parser {
    cmd_program *program;
    const cmd_source *source;
    cmd_fault *fault;
    cmd_token now;
    int depth, brackets;
    cmd_place place; /* of the step that was made last */
} parser;

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static void advance(parser *p) {
    if (p->now.kind == TOKEN_BAD) return;
    p->now = read_token(p->source, p->now.at + p->now.length, p->brackets > 0, p->fault);
}

static void start(parser *p) {
    p->now = (cmd_token){.kind = 0, .at = p->source->start};
    advance(p);
}

static void open_bracket(parser *p) {
    p->brackets++;
    advance(p);
}

/* Every failure ends here; that of the lexer came first. */
#define FAIL_AT(p, at, ...)                                                                                          \
    ((p)->now.kind == TOKEN_BAD || (p)->fault->status ? false                                                        \
                                                      : set_fault_at((p)->fault, (p)->source, at, __VA_ARGS__))
#define NO_STEP_AT(p, at, ...) (FAIL_AT(p, at, __VA_ARGS__), -1)

static bool close_bracket(parser *p, char bracket, size_t opened) {
    if (p->now.kind != bracket) {
        char *place = place_in(p->source, opened);
        FAIL_AT(p, p->now.at, "'%c' is missing: the bracket at %s is still open", bracket, place);
        free(place);
        return false;
    }
    p->brackets--;
    advance(p);
    return true;
}

static bool deeper(parser *p) {
    if (++p->depth <= deepest) return true;
    return FAIL_AT(p, p->now.at, "nested more than %d deep", deepest);
}

static cmd_token next_token(const parser *p) {
    cmd_fault ignored = {0};
    return read_token(p->source, p->now.at + p->now.length, p->brackets > 0, &ignored);
}

static int length_of(const cmd_token *t) { return t->length < 100 ? (int)t->length : 100; }
static const char *text_of(const parser *p, const cmd_token *t) { return p->source->text + t->at; }

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static bool constant_of(const parser *p, const cmd_token *t, double *value) {
    static const struct {
        const char *name;
        double value;
    } constants[] = {{"pi", 3.14159265358979323846}, {"inf", INFINITY}, {"nan", NAN}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (token_is(p->source, t, constants[i].name)) return *value = constants[i].value, true;
    return false;
}

/* [+-]... NUMBER */
static bool read_signed(parser *p, double *value, const char *otherwise) {
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

static bool read_array(parser *p, cmd_literal *out) {
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
    start(&p);
    if (!read_literal(&p, out)) return false;
    if (p.now.kind == TOKEN_END) return true;
    FAIL_AT(&p, p.now.at, "one number or array is all that can stand here");
    free(out->value);
    return false;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* A new last step; its number. */
static int add_step(parser *p, step_kind kind, size_t at) {
    cmd_program *to = p->program;
    to->step = with_room(to->step, to->steps, &to->step_room, sizeof *to->step);
    move_place(p->source, &p->place, at);
    to->step[to->steps] =
        (cmd_step){.kind = kind, .source = p->source, .at = at, .where = place_text(p->source, &p->place)};
    return (int)to->steps++;
}

static int add_slot(cmd_program *to, const char *name, size_t length) {
    to->slot = with_room(to->slot, to->slots, &to->slot_room, sizeof *to->slot);
    to->slot[to->slots] = (cmd_slot){.name = format_text("%.*s", (int)length, name), .literal = -1};
    return (int)to->slots++;
}

static void add_argument(cmd_program *to, int step) {
    to->argument = with_room(to->argument, to->arguments, &to->argument_room, sizeof *to->argument);
    to->argument[to->arguments++] = step;
}

static int add_number(parser *p, size_t at, double value) {
    int number = add_step(p, STEP_LITERAL, at);
    cmd_literal *literal = &p->program->step[number].literal;
    literal->value = allocate(sizeof value);
    *literal->value = value;
    return number;
}

static int add_call(parser *p, size_t at, const cmd_function *f, int n, const int *inputs, void *attrs) {
    int call = add_step(p, STEP_CALL, at);
    cmd_step *s = &p->program->step[call];
    s->function = *f;
    s->inputs = n;
    s->attrs = attrs;
    s->first_argument = (int)p->program->arguments;
    for (int i = 0; i < n; i++) add_argument(p->program, inputs[i]);
    return call;
}

/* Of operators, which the registry is known to have. */
static int add_operation(parser *p, size_t at, const char *name, int n, const int *inputs) {
    cmd_function f;
    if (!find_function(name, strlen(name), &f)) return NO_STEP_AT(p, at, "there is no op %s", name);
    return add_call(p, at, &f, n, inputs, NULL);
}

static bool is_number(const parser *p, int step) {
    return p->program->step[step].kind == STEP_LITERAL && p->program->step[step].literal.shape.rank == 0;
}

/* The op with a constant, such as scale or power: the literal becomes its attribute. */
static int add_with_constant(parser *p, size_t at, const char *name, int input, int constant) {
    cmd_function f;
    if (!find_function(name, strlen(name), &f)) return NO_STEP_AT(p, at, "there is no op %s", name);
    void *attrs = allocate(f.op->attrs_size);
    ad_attrs_init(f.op, attrs);
    cmd_step *literal = &p->program->step[constant];
    (void)!ad_attr_set(f.op->attrs, attrs, 1, literal->literal.value, NULL);
    literal->kind = STEP_NOTHING;
    return add_call(p, at, &f, 1, &input, attrs);
}

/* The square has an op of its own. */
static int add_power(parser *p, size_t at, int base, int exponent) {
    cmd_step *literal = &p->program->step[exponent];
    if (!is_number(p, exponent)) return add_operation(p, at, "pow", 2, (int[]){base, exponent});
    if (*literal->literal.value != 2) return add_with_constant(p, at, "power", base, exponent);
    literal->kind = STEP_NOTHING;
    return add_operation(p, at, "square", 1, &base);
}

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

static int parse_expression(parser *p);

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

static int parse_call(parser *p, const cmd_token *name) {
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

/* ---- expressions ------------------------------------------------------------------------------------------------- */

static const char *slot_name_at(const void *names, int i) {
    const cmd_program *program = names;
    return (size_t)i < program->slots ? program->slot[i].name : NULL;
}

static int parse_variable(parser *p, const cmd_token *name) {
    double value;
    cmd_function f;
    int slot = find_slot(p->program, text_of(p, name), name->length);
    if (slot >= 0) {
        int use = add_step(p, STEP_USE, name->at);
        p->program->step[use].slot = slot;
        return use;
    }
    if (constant_of(p, name, &value)) return add_number(p, name->at, value);
    if (find_function(text_of(p, name), name->length, &f)) {
        char *signature = signature_text(f.op);
        FAIL_AT(p, name->at, "there is no variable %s; the op of that name is called: %s", f.op->name, signature);
        free(signature);
        return -1;
    }
    const char *like = most_similar(text_of(p, name), name->length, slot_name_at, p->program);
    int length = length_of(name);
    if (like)
        return NO_STEP_AT(p, name->at, "there is no variable %.*s; did you mean %s?", length, text_of(p, name), like);
    return NO_STEP_AT(p, name->at, "there is no variable %.*s; give it a value: %.*s=...", length, text_of(p, name),
                      length, text_of(p, name));
}

static int parse_atom(parser *p) {
    cmd_token t = p->now;
    if (t.kind == '(') {
        open_bracket(p);
        int inside = parse_expression(p);
        return inside >= 0 && close_bracket(p, ')', t.at) ? inside : -1;
    }
    if (t.kind == '[') {
        cmd_literal literal;
        if (!read_array(p, &literal)) return -1;
        int step = add_step(p, STEP_LITERAL, t.at);
        p->program->step[step].literal = literal;
        return step;
    }
    if (t.kind == TOKEN_NUMBER) {
        advance(p);
        return add_number(p, t.at, t.number);
    }
    if (t.kind == TOKEN_NAME) {
        advance(p);
        return p->now.kind == '(' ? parse_call(p, &t) : parse_variable(p, &t);
    }
    if (t.kind == TOKEN_END) return NO_STEP_AT(p, t.at, "the expression ends where a value should follow");
    return NO_STEP_AT(p, t.at, "a number, a variable or '(' should stand here");
}

/* ATOM {.T} */
static int parse_postfix(parser *p) {
    int value = parse_atom(p);
    while (value >= 0 && p->now.kind == '.') {
        size_t at = p->now.at;
        advance(p);
        if (!token_is(p->source, &p->now, "T"))
            return NO_STEP_AT(p, at, "only .T, the transpose, can follow a point");
        advance(p);
        value = add_operation(p, at, "transpose", 1, &value);
    }
    if (value >= 0 && p->now.kind == '[')
        return NO_STEP_AT(p, p->now.at,
                          "an element is select(x, axis=0, i=0), a part is slice(x, axis=0, start=0, stop=2)");
    return value;
}

static int parse_unary(parser *p);

/* What follows a sign or a ^, which may be a sign again. */
static int parse_nested_unary(parser *p) {
    if (!deeper(p)) return -1;
    int value = parse_unary(p);
    p->depth--;
    return value;
}

static int parse_power(parser *p) {
    int base = parse_postfix(p);
    if (base < 0 || p->now.kind != TOKEN_POWER) return base;
    size_t at = p->now.at;
    advance(p);
    int exponent = parse_nested_unary(p);
    if (exponent < 0) return -1;
    return add_power(p, at, base, exponent);
}

static int negate(parser *p, size_t at, int value) {
    if (value < 0) return -1;
    cmd_literal *literal = &p->program->step[value].literal;
    if (p->program->step[value].kind != STEP_LITERAL) return add_operation(p, at, "neg", 1, &value);
    for (int64_t i = 0; i < ad_shape_count(&literal->shape); i++) literal->value[i] = -literal->value[i];
    return value;
}

static int parse_unary(parser *p) {
    size_t at = p->now.at;
    int sign = p->now.kind;
    if (sign != '-' && sign != '+') return parse_power(p);
    advance(p);
    int value = parse_nested_unary(p);
    return sign == '-' ? negate(p, at, value) : value;
}

typedef struct binary_operator {
    int token;
    const char *op;
    int level; /* higher ones bind tighter */
} binary_operator;

enum { COMPARISON = 1, SUM, PRODUCT };

static const binary_operator *operator_of(int token) {
    static const binary_operator operators[] = {
        {'<', "less", COMPARISON},
        {'>', "greater", COMPARISON},
        {TOKEN_LESS_EQUAL, "less_equal", COMPARISON},
        {TOKEN_GREATER_EQUAL, "greater_equal", COMPARISON},
        {TOKEN_EQUAL, "equal", COMPARISON},
        {TOKEN_NOT_EQUAL, "not_equal", COMPARISON},
        {'+', "add", SUM},
        {'-', "sub", SUM},
        {'*', "mul", PRODUCT},
        {'/', "div", PRODUCT},
        {'@', "matmul", PRODUCT},
    };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].token == token) return &operators[i];
    return NULL;
}

/* A number times x is one op with a constant. */
static int add_binary(parser *p, size_t at, const binary_operator *o, int left, int right) {
    if (o->token == '*' && is_number(p, left)) return add_with_constant(p, at, "scale", right, left);
    if (o->token == '*' && is_number(p, right)) return add_with_constant(p, at, "scale", left, right);
    return add_operation(p, at, o->op, 2, (int[]){left, right});
}

/* Operators of this level and above, from the left. */
static int parse_level(parser *p, int level) {
    int left = level > PRODUCT ? parse_unary(p) : parse_level(p, level + 1);
    for (const binary_operator *o; left >= 0 && (o = operator_of(p->now.kind)) && o->level == level;) {
        size_t at = p->now.at;
        advance(p);
        int right = level + 1 > PRODUCT ? parse_unary(p) : parse_level(p, level + 1);
        if (right < 0) return -1;
        left = add_binary(p, at, o, left, right);
        if (level == COMPARISON && (o = operator_of(p->now.kind)) && o->level == level)
            return NO_STEP_AT(p, p->now.at, "comparisons do not chain: put them into brackets, or use logical_and");
    }
    return left;
}

static int parse_expression(parser *p) {
    if (!deeper(p)) return -1;
    int value = parse_level(p, COMPARISON);
    p->depth--;
    return value;
}

/* ---- statements -------------------------------------------------------------------------------------------------- */

/* How many names stand before a '=', separated by commas; 0: this is no assignment. */
static int count_targets(const parser *p) {
    parser look = *p;
    cmd_fault ignored = {0};
    look.fault = &ignored;
    for (int count = 1;; count++) {
        if (look.now.kind != TOKEN_NAME) return 0;
        advance(&look);
        if (look.now.kind == '=') return count;
        if (look.now.kind != ',') return 0;
        advance(&look);
    }
}

static int results_of(const parser *p, int value) {
    const cmd_step *s = &p->program->step[value];
    return s->kind == STEP_CALL && s->function.op->results > 1 ? s->function.op->results : 1;
}

static bool parse_assignment(parser *p, int targets) {
    cmd_token name[AD_MAX_RESULTS];
    if (targets > AD_MAX_RESULTS) return FAIL_AT(p, p->now.at, "no op has more than %d results", AD_MAX_RESULTS);
    for (int i = 0; i < targets; i++) {
        name[i] = p->now;
        advance(p);
        advance(p); /* , or = */
    }
    size_t at = p->now.at;
    int value = parse_expression(p);
    if (value < 0) return false;
    if (results_of(p, value) < targets)
        return FAIL_AT(p, at, "%d names, but only %d result%s", targets, results_of(p, value),
                       results_of(p, value) == 1 ? "" : "s");
    int assign = add_step(p, STEP_ASSIGN, name[0].at);
    p->program->step[assign].first_argument = value;
    p->program->step[assign].targets = targets;
    for (int i = 0; i < targets; i++) {
        int slot = add_slot(p->program, text_of(p, &name[i]), name[i].length);
        if (i == 0) p->program->step[assign].slot = slot;
        if (p->program->step[value].kind == STEP_LITERAL) p->program->slot[slot].literal = value;
    }
    return true;
}

static bool parse_statements(parser *p) {
    for (;;) {
        while (p->now.kind == TOKEN_SEPARATOR) advance(p);
        if (p->now.kind == TOKEN_END) return true;
        int targets = count_targets(p);
        if (targets > 0 ? !parse_assignment(p, targets) : parse_expression(p) < 0) return false;
        if (p->now.kind != TOKEN_SEPARATOR && p->now.kind != TOKEN_END)
            return FAIL_AT(p, p->now.at,
                           p->now.kind == ')' || p->now.kind == ']' ? "this bracket closes nothing"
                                                                    : "an operator or ';' is missing before this");
    }
}

/* ---- which literals are indices ----------------------------------------------------------------------------------- */

static bool is_whole(const double *value, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(value[i]) <= 0x1p53) || value[i] != rint(value[i])) return false;
    return true;
}

/* A variable is one of indices if every use of it is. */
typedef struct usage {
    int uses, as_index;
} usage;

static void count_uses(const cmd_program *program, usage *count) {
    for (size_t i = 0; i < program->steps; i++) {
        const cmd_step *s = &program->step[i];
        if (s->kind == STEP_USE) count[s->slot].uses++;
        for (int k = 0; s->kind == STEP_CALL && k < s->inputs; k++) {
            cmd_step *input = &program->step[program->argument[s->first_argument + k]];
            bool literal = input->kind == STEP_LITERAL;
            if ((!literal && input->kind != STEP_USE) || !takes_index(&s->function, k)) continue;
            if (literal) input->is_index = is_whole(input->literal.value, ad_shape_count(&input->literal.shape));
            if (!literal) count[input->slot].as_index++;
        }
    }
}

void find_indices(cmd_program *program) {
    usage *count = allocate(program->slots * sizeof *count);
    count_uses(program, count);
    for (size_t i = 0; i < program->slots; i++) {
        cmd_slot *slot = &program->slot[i];
        bool only = count[i].uses > 0 && count[i].as_index == count[i].uses;
        const ad_view *value = ad_tensor_view(slot->value);
        if (value) slot->is_index = only && value->dtype == AD_F64 && is_whole(value->data, ad_view_count(value));
        if (slot->literal < 0) continue;
        cmd_step *literal = &program->step[slot->literal];
        literal->is_index = only && is_whole(literal->literal.value, ad_shape_count(&literal->literal.shape));
    }
    free(count);
}

/* ---- entry points ------------------------------------------------------------------------------------------------ */

bool parse(cmd_program *program, const cmd_source *source, cmd_fault *fault) {
    parser p = {.program = program, .source = source, .fault = fault};
    size_t steps = program->steps, slots = program->slots;
    start(&p);
    bool good = parse_statements(&p);
    if (good && program->steps == steps)
        good = set_fault_at(fault, source, source->length, "the expression is empty");
    if (!good) truncate_program(program, steps, slots);
    find_indices(program);
    return good;
}

int find_slot(const cmd_program *program, const char *name, size_t length) {
    for (size_t i = program->slots; i-- > 0;)
        if (strlen(program->slot[i].name) == length && memcmp(program->slot[i].name, name, length) == 0)
            return (int)i;
    return -1;
}

void add_input(cmd_program *program, const char *name, size_t length, ad_tensor *value) {
    int slot = add_slot(program, name, length);
    program->slot[slot].value = value;
}

void truncate_program(cmd_program *program, size_t steps, size_t slots) {
    while (program->steps > steps) {
        cmd_step *s = &program->step[--program->steps];
        if (s->kind == STEP_CALL) program->arguments = (size_t)s->first_argument;
        free(s->where);
        free(s->literal.value);
        free(s->attrs);
    }
    while (program->slots > slots) {
        cmd_slot *slot = &program->slot[--program->slots];
        ad_tensor_unref(slot->value);
        free(slot->name);
    }
}

void free_program(cmd_program *program) {
    truncate_program(program, 0, 0);
    free(program->step);
    free(program->argument);
    free(program->slot);
}

int result_step(const cmd_program *program) { return (int)program->steps - 1; }

const char *result_name(const cmd_program *program) {
    const cmd_step *last = program->steps ? &program->step[program->steps - 1] : NULL;
    return last && last->kind == STEP_ASSIGN ? program->slot[last->slot].name : "f";
}
