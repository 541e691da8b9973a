/* The steps and slots of a program. */
#include "tools/adtape/parser.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- adding ------------------------------------------------------------------------------------------------------ */

/* A new last step; its number. */
int add_step(parser *p, step_kind kind, size_t at) {
    cmd_program *to = p->program;
    to->step = with_room(to->step, to->steps, &to->step_room, sizeof *to->step);
    move_place(p->source, &p->place, at);
    to->step[to->steps] =
        (cmd_step){.kind = kind, .source = p->source, .at = at, .where = place_text(p->source, &p->place)};
    return (int)to->steps++;
}

int add_slot(cmd_program *to, const char *name, size_t length) {
    to->slot = with_room(to->slot, to->slots, &to->slot_room, sizeof *to->slot);
    to->slot[to->slots] = (cmd_slot){.name = format_text("%.*s", (int)length, name), .literal = -1};
    return (int)to->slots++;
}

static void add_argument(cmd_program *to, int step) {
    to->argument = with_room(to->argument, to->arguments, &to->argument_room, sizeof *to->argument);
    to->argument[to->arguments++] = step;
}

int add_number(parser *p, size_t at, double value) {
    int number = add_step(p, STEP_LITERAL, at);
    cmd_literal *literal = &p->program->step[number].literal;
    literal->value = allocate(sizeof value);
    *literal->value = value;
    return number;
}

int add_call(parser *p, size_t at, const cmd_function *f, int n, const int *inputs, void *attrs) {
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
int add_operation(parser *p, size_t at, const char *name, int n, const int *inputs) {
    cmd_function f;
    if (!find_function(name, strlen(name), &f)) return NO_STEP_AT(p, at, "there is no op %s", name);
    return add_call(p, at, &f, n, inputs, NULL);
}

bool is_number(const parser *p, int step) {
    return p->program->step[step].kind == STEP_LITERAL && p->program->step[step].literal.shape.rank == 0;
}

/* The op with a constant, such as scale or power: the literal becomes its attribute. */
int add_with_constant(parser *p, size_t at, const char *name, int input, int constant) {
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
int add_power(parser *p, size_t at, int base, int exponent) {
    cmd_step *literal = &p->program->step[exponent];
    if (!is_number(p, exponent)) return add_operation(p, at, "pow", 2, (int[]){base, exponent});
    if (*literal->literal.value != 2) return add_with_constant(p, at, "power", base, exponent);
    literal->kind = STEP_NOTHING;
    return add_operation(p, at, "square", 1, &base);
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

/* ---- slots and results ------------------------------------------------------------------------------------------- */

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
