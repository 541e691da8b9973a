/* What the commands share: options, and the program that the arguments make. */
#include "tools/adtape/lexer.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ----------------------------------------------------------------------------------------------------- */

/* -x may have been meant as an expression. */
static int refuse_option(char **argv) {
    const char *given = argv[optind - 1];
    bool is_short = optopt > 0;
    if (is_short) {
        fprintf(stderr, "adtape: %s: there is no option -%c; an expression that begins with - goes behind --\n",
                argv[0], optopt);
    } else {
        fprintf(stderr, "adtape: %s: there is no option %s; 'adtape %s --help' lists them\n", argv[0], given,
                argv[0]);
    }
    return STATUS_USAGE;
}

int next_option(int argc, char **argv, const char *letters, const struct option *options, const char *help,
                int *status) {
    opterr = 0;
    int option = getopt_long(argc, argv, letters, options, NULL);
    if (option == ':') {
        fprintf(stderr, "adtape: %s: the option %s needs a value\n", argv[0], argv[optind - 1]);
        *status = STATUS_USAGE;
        return OPTION_DONE;
    }
    if (option == '?') {
        *status = refuse_option(argv);
        return OPTION_DONE;
    }
    if (option == 'h') {
        cmd_fault fault = {0};
        fputs(help, stdout);
        *status = close_output(stdout, NULL, &fault) ? STATUS_OK : tell_fault(&fault);
        return OPTION_DONE;
    }
    return option;
}

bool read_dtype(const char *text, ad_dtype *dtype, cmd_fault *fault) {
    for (*dtype = AD_F32; *dtype <= AD_F64; ++*dtype)
        if (strcmp(text, ad_dtype_name(*dtype)) == 0) return true;
    return set_fault(fault, STATUS_USAGE, "--dtype is f32 or f64, not '%s'", text);
}

bool read_integer(const char *option, const char *text, int least, int most, int *value, cmd_fault *fault) {
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (end == text || *end || errno || number < least || number > most)
        return set_fault(fault, STATUS_USAGE, "--%s is a whole number from %d to %d, not '%s'", option, least, most,
                         text);
    *value = (int)number;
    return true;
}

/* ---- the program ------------------------------------------------------------------------------------------------- */

static char *read_all(FILE *in) {
    char *text = NULL;
    size_t length = 0, room = 0;
    for (int c; (c = fgetc(in)) != EOF;) {
        text = with_room(text, length + 1, &room, 1);
        text[length++] = (char)c;
    }
    text = with_room(text, length, &room, 1);
    text[length] = '\0';
    return text;
}

/* The expression; "-" is standard input. */
static bool read_expression(cmd_workspace *space, const char *argument, cmd_fault *fault) {
    space->source[0] = source_of("expr", argument);
    if (strcmp(argument, "-") != 0) return true;
    space->input = read_all(stdin);
    if (ferror(stdin)) return set_fault(fault, STATUS_SYSTEM, "standard input cannot be read: %s", strerror(errno));
    space->source[0] = source_of("expr", space->input);
    return true;
}

static bool read_inputs(cmd_workspace *space, int count, char **arguments, cmd_fault *fault) {
    for (int i = 0; i < count; i++) {
        cmd_source *source = &space->source[i + 1];
        *source = source_of("argument", arguments[i]);
        if (!add_input_argument(&space->program, source, fault)) return false;
    }
    return true;
}

bool open_workspace(cmd_workspace *space, int count, char **arguments, ad_dtype dtype, cmd_fault *fault) {
    *space = (cmd_workspace){.program = {.dtype = dtype}};
    if (count < 1) return set_fault(fault, STATUS_USAGE, "an expression is missing");
    space->source = allocate((size_t)count * sizeof *space->source);
    space->tape = ad_tape_new(NULL);
    return read_expression(space, arguments[0], fault) && read_inputs(space, count - 1, arguments + 1, fault) &&
           parse(&space->program, &space->source[0], fault);
}

void close_workspace(cmd_workspace *space) {
    free_program(&space->program);
    free(space->source);
    free(space->input);
    ad_tape_free(space->tape);
}

ad_var read_seed(cmd_workspace *space, const char *text, ad_var y, cmd_fault *fault) {
    const ad_var none = {.tape = NULL};
    cmd_literal literal;
    space->seed = source_of("seed", text);
    if (!parse_literal(&space->seed, &literal, fault)) return none;
    ad_view value = ad_value(y), from = ad_view_of(literal.value, AD_F64, literal.shape), to;
    ad_var seed = none;
    char wanted[AD_TYPE_TEXT], given[AD_TYPE_TEXT];
    if (ad_view_broadcast(&from, &value.shape, &to)) {
        set_fault(fault, STATUS_WRONG, "the seed is %s, but the result is %s",
                  ad_type_text(AD_F64, &literal.shape, given), ad_type_text(value.dtype, &value.shape, wanted));
    } else {
        void *data = allocate((size_t)ad_view_count(&value) * ad_dtype_size(value.dtype));
        ad_view copy = ad_view_of(data, value.dtype, value.shape);
        (void)!ad_view_copy(&to, &copy);
        seed = ad_constant_at(NULL, space->tape, "seed", value.dtype, value.shape, data);
        free(data);
    }
    free(literal.value);
    return seed;
}
