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
    if (value->start < value->length && value->text[value->start] == '@')
        return read_npy(value->text + value->start + 1, out, fault);
    cmd_literal literal;
    if (!parse_literal(value, &literal, fault)) return false;
    bool good = tensor_of(&literal, out, fault);
    free(literal.value);
    return good;
}

bool add_input_argument(cmd_program *program, const cmd_source *argument, cmd_fault *fault) {
    cmd_fault none = {0};
    cmd_token name = read_token(argument, 0, false, &none),
              equals = read_token(argument, name.at + name.length, false, &none);
    if (name.kind != TOKEN_NAME || equals.kind != '=')
        return set_fault(fault, STATUS_USAGE, "'%s' is not NAME=VALUE", argument->text);
    const char *text = argument->text + name.at;
    if (find_slot(program, text, name.length) >= 0)
        return set_fault(fault, STATUS_USAGE, "%.*s is given twice", (int)name.length, text);
    ad_tensor *value;
    cmd_source rest = *argument;
    rest.start = equals.at + 1;
    if (!read_value(&rest, &value, fault)) {
        if (fault->source) fault->source = argument;
        return false;
    }
    add_input(program, text, name.length, value);
    return true;
}
