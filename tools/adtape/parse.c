/* Expressions, as docs/command.md describes them, to steps. Operators are other names for ops. */
#include "tools/adtape/parser.h"

#include <stdlib.h>

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

int parse_expression(parser *p) {
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

/* ---- entry points ------------------------------------------------------------------------------------------------ */

bool parse(cmd_program *program, const cmd_source *source, cmd_fault *fault) {
    parser p = {.program = program, .source = source, .fault = fault};
    size_t steps = program->steps, slots = program->slots;
    start_parser(&p);
    bool good = parse_statements(&p);
    if (good && program->steps == steps)
        good = set_fault_at(fault, source, source->length, "the expression is empty");
    if (!good) truncate_program(program, steps, slots);
    find_indices(program);
    return good;
}
