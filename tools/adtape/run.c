/* Running a program: its inputs, then its steps, on a tape. */
#include "tools/adtape/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The library calls the ops as C does, ad_transpose; here they have no prefix. */
static void drop_prefixes(char *text) {
    char before = ' ', *to = text;
    for (const char *from = text; *from; before = to[-1]) {
        if (strncmp(from, "ad_", 3) == 0 && !isalnum((unsigned char)before) && before != '_') from += 3;
        *to++ = *from++;
    }
    *to = '\0';
}

bool set_tape_fault(cmd_fault *fault, const cmd_program *program, int step, const ad_tape *tape) {
    set_fault(fault, ad_tape_status(tape) == AD_ERR_OOM ? STATUS_SYSTEM : STATUS_WRONG, "%s", ad_tape_error(tape));
    drop_prefixes(fault->message);
    if (step < 0) return false;
    fault->source = program->step[step].source;
    fault->at = program->step[step].at;
    return false;
}

/* What an input is on a tape: a copy in the program's dtype, or the integers that it has. */
static ad_var put_input_value(const cmd_program *program, const cmd_slot *slot, ad_tape *tape) {
    const ad_view *value = ad_tensor_view(slot->value);
    ad_dtype dtype = ad_dtype_is_float(value->dtype) ? program->dtype : value->dtype;
    ad_tensor *copy = NULL;
    if (slot->is_index) dtype = AD_I64;
    if (dtype != value->dtype && ad_tensor_new(&copy, NULL, dtype, value->shape, NULL, NULL)) copy = NULL;
    if (copy) (void)!ad_view_copy(value, ad_tensor_view(copy));
    ad_tensor *used = copy ? copy : slot->value;
    ad_var var = ad_dtype_is_float(dtype) ? ad_leaf_tensor_at(NULL, tape, slot->name, used)
                                          : ad_constant_tensor_at(NULL, tape, slot->name, used);
    ad_tensor_unref(copy);
    return var;
}

static ad_var put_literal(const cmd_program *program, const cmd_step *s, ad_tape *tape) {
    ad_dtype dtype = s->is_index ? AD_I64 : program->dtype;
    ad_view from = ad_view_of(s->literal.value, AD_F64, s->literal.shape);
    size_t bytes = (size_t)ad_view_count(&from) * ad_dtype_size(dtype);
    void *data = allocate(bytes);
    ad_view to = ad_view_of(data, dtype, s->literal.shape);
    (void)!ad_view_copy(&from, &to);
    ad_var var = ad_constant_at(s->where, tape, NULL, dtype, s->literal.shape, data);
    free(data);
    return var;
}

static void call(const cmd_program *program, cmd_step *s, ad_tape *tape) {
    ad_var *in = allocate((size_t)s->inputs * sizeof *in);
    for (int i = 0; i < s->inputs; i++) in[i] = program->step[program->argument[s->first_argument + i]].result[0];
    apply_function(&s->function, s->where, tape, s->inputs, in, s->attrs, s->result);
    free(in);
}

/* The results get the names; y = x makes no new one of x. */
static void assign(cmd_program *program, cmd_step *s) {
    const cmd_step *value = &program->step[s->first_argument];
    for (int k = 0; k < s->targets; k++) {
        cmd_slot *slot = &program->slot[s->slot + k];
        s->result[k] = value->result[k];
        if (value->kind != STEP_USE) ad_name_at(s->where, s->result[k], slot->name);
        slot->var = s->result[k];
    }
}

static void run_step(cmd_program *program, cmd_step *s, ad_tape *tape) {
    switch (s->kind) {
    case STEP_LITERAL: s->result[0] = put_literal(program, s, tape); break;
    case STEP_USE: s->result[0] = program->slot[s->slot].var; break;
    case STEP_CALL: call(program, s, tape); break;
    case STEP_ASSIGN: assign(program, s); break;
    case STEP_NOTHING: break;
    }
}

bool run(cmd_program *program, ad_tape *tape, const ad_var *in, cmd_fault *fault) {
    int inputs = 0;
    for (size_t i = 0; i < program->slots; i++) {
        cmd_slot *slot = &program->slot[i];
        if (!slot->value) continue;
        slot->var = in ? ad_name_at(NULL, in[inputs++], slot->name) : put_input_value(program, slot, tape);
    }
    if (ad_tape_status(tape)) return set_tape_fault(fault, program, -1, tape);
    for (size_t i = 0; i < program->steps; i++) {
        run_step(program, &program->step[i], tape);
        if (ad_tape_status(tape)) return set_tape_fault(fault, program, (int)i, tape);
    }
    return true;
}

ad_var result_of(const cmd_program *program) { return program->step[program->steps - 1].result[0]; }
