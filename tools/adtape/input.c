/* Values of variables, as they are given on the command line. */
#include "tools/adtape/lexer.h"

#include <stdlib.h>
#include <string.h>

static bool tensor_of(const cmd_literal *literal, ad_tensor **out, cmd_fault *fault) {
    ad_error error = {.status = AD_OK};
    if (ad_tensor_new(out, NULL, AD_F64, literal->shape, literal->value, &error) == AD_OK) return true;
    return set_fault(fault, STATUS_WRONG, "%s", error.message);
}

static bool read_value(const cmd_source *value, ad_tensor **out, cmd_fault *fault) {
    size_t at = value->start + strspn(value->text + value->start, " ");
    if (value->text[at] == '@') return read_npy(value->text + at + 1, out, fault);
    cmd_literal literal;
    if (!parse_literal(value, &literal, fault)) return false;
    bool good = tensor_of(&literal, out, fault);
    free(literal.value);
    return good;
}

bool read_input(const cmd_source *argument, cmd_input *input, cmd_fault *fault) {
    cmd_fault none = {0};
    cmd_token name = read_token(argument, 0, false, &none);
    cmd_token equals = read_token(argument, name.at + name.length, false, &none);
    if (name.kind != TOKEN_NAME || equals.kind != '=')
        return set_fault(fault, STATUS_USAGE, "'%s' is not NAME=VALUE", argument->text);
    cmd_source rest = *argument;
    rest.start = equals.at + 1;
    *input = (cmd_input){.name = argument->text + name.at, .length = name.length};
    if (read_value(&rest, &input->value, fault)) return true;
    if (fault->source) fault->source = argument; /* `rest` goes */
    return false;
}

bool add_input_argument(cmd_program *program, const cmd_source *argument, cmd_fault *fault) {
    cmd_input input;
    if (!read_input(argument, &input, fault)) return false;
    if (find_slot(program, input.name, input.length) >= 0) {
        ad_tensor_unref(input.value);
        return set_fault(fault, STATUS_USAGE, "%.*s is given twice", (int)input.length, input.name);
    }
    add_input(program, input.name, input.length, input.value);
    return true;
}
