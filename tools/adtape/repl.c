/* adtape repl: a program that grows line by line. After each line all of it runs again, so that a variable can be given
 * another value, and a line that is wrong can be taken back. */
#include "tools/adtape/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(HAVE_LIBEDIT)
#include <editline/readline.h>
#elif defined(HAVE_READLINE)
#include <readline/history.h>
#include <readline/readline.h>
#endif

static const char help[] = "usage: adtape repl [OPTION]...\n"
                           "\n"
                           "Reads expressions line by line, and shows their values. These lines do more:\n"
                           "\n"
                           "  :let x = [1, 2]    a variable that gets a gradient; again, to change its value\n"
                           "  :grad              the derivatives of the last value by every variable\n"
                           "  :trace [FORMAT]    what happened forward and backward\n"
                           "  :check             the gradient against differences\n"
                           "  :ops [NAME]        what can be called, or one op in full\n"
                           "  :list              the variables and lines so far\n"
                           "  :reset             forget them\n"
                           "  :help, :quit\n"
                           "\n"
                           "      --dtype DTYPE    f32 or f64 (the default): of numbers and variables\n"
                           "  -h, --help           this text\n"
                           "\n"
                           "The exit status is 1 if a line was wrong.\n";

enum { DTYPE = 256 };
static const struct option long_options[] = {
    {"dtype", required_argument, NULL, DTYPE},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

typedef struct line {
    char *text;
    cmd_source source;
    char name[32]; /* "line 3" */
    size_t steps;  /* of the program before it */
} line;

typedef struct repl {
    cmd_workspace space;
    line **lines; /* of statements, which the steps point to */
    size_t count, room, read;
    int status;
    bool quit;
} repl;

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Without its end; NULL after the last. */
static char *read_plain_line(bool prompt) {
    char *text = NULL;
    size_t room = 0;
    if (prompt) {
        fputs("adtape> ", stdout);
        fflush(stdout);
    }
    ssize_t length = getline(&text, &room, stdin);
    if (length < 0) {
        free(text);
        return NULL;
    }
    if (length > 0 && text[length - 1] == '\n') text[length - 1] = '\0';
    return text;
}

#if defined(HAVE_LIBEDIT) || defined(HAVE_READLINE)
static char *read_line(void) {
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return read_plain_line(false);
    char *text = readline("adtape> ");
    if (text && *text) add_history(text);
    return text;
}
#else
static char *read_line(void) { return read_plain_line(isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)); }
#endif

/* ---- running ----------------------------------------------------------------------------------------------------- */

static bool run_again(repl *r, cmd_fault *fault) {
    ad_tape_reset(r->space.tape);
    return run(&r->space.program, r->space.tape, NULL, fault);
}

static void free_line(line *l) {
    free(l->text);
    free(l);
}

static void show_value(const repl *r) {
    const cmd_program *program = &r->space.program;
    ad_view value = ad_value(result_of(program));
    char *indent = format_text("\n%*s", printf("%s = ", result_name(program)), "");
    put_array(stdout, &value, value.dtype, 0, indent, false);
    putchar('\n');
    free(indent);
}

static bool add_statements(repl *r, const char *text, cmd_fault *fault) {
    cmd_program *program = &r->space.program;
    line *l = allocate(sizeof *l);
    l->text = format_text("%s", text);
    snprintf(l->name, sizeof l->name, "line %zu", r->read);
    l->source = source_of(l->name, l->text);
    l->steps = program->steps;
    size_t slots = program->slots;
    if (!parse(program, &l->source, fault) || !run_again(r, fault)) {
        tell_fault(fault);
        cmd_fault again = {0};
        truncate_program(program, l->steps, slots);
        free_line(l);
        return run_again(r, &again) && false;
    }
    r->lines = with_room(r->lines, r->count, &r->room, sizeof *r->lines);
    r->lines[r->count++] = l;
    show_value(r);
    return true;
}

/* ---- :let -------------------------------------------------------------------------------------------------------- */

static int find_input(const cmd_program *program, const cmd_input *input) {
    int slot = find_slot(program, input->name, input->length);
    return slot >= 0 && program->slot[slot].value ? slot : -1;
}

/* Another value for a variable: the one before comes back if a line does not work with it. */
static bool change_input(repl *r, int slot, ad_tensor *value, cmd_fault *fault) {
    ad_tensor *before = r->space.program.slot[slot].value;
    r->space.program.slot[slot].value = value;
    find_indices(&r->space.program);
    if (run_again(r, fault)) {
        ad_tensor_unref(before);
        return true;
    }
    tell_fault(fault);
    cmd_fault again = {0};
    r->space.program.slot[slot].value = before;
    find_indices(&r->space.program);
    ad_tensor_unref(value);
    return run_again(r, &again) && false;
}

static bool let(repl *r, const char *text, cmd_fault *fault) {
    cmd_source source = source_of("value", text);
    cmd_input input;
    if (!read_input(&source, &input, fault)) {
        tell_fault(fault);
        return false;
    }
    int slot = find_input(&r->space.program, &input);
    if (slot >= 0) {
        if (!change_input(r, slot, input.value, fault)) return false;
        if (r->count > 0) show_value(r);
        return true;
    }
    add_input(&r->space.program, input.name, input.length, input.value);
    cmd_fault none = {0};
    return run_again(r, &none);
}

/* ---- the other commands ------------------------------------------------------------------------------------------ */

static bool reset(repl *r, const char *text, cmd_fault *fault) {
    (void)text, (void)fault;
    truncate_program(&r->space.program, 0, 0);
    while (r->count > 0) free_line(r->lines[--r->count]);
    ad_tape_reset(r->space.tape);
    return true;
}

static bool list(repl *r, const char *text, cmd_fault *fault) {
    (void)text, (void)fault;
    for (size_t i = 0; i < r->space.program.slots; i++) {
        const cmd_slot *slot = &r->space.program.slot[i];
        if (!slot->value) continue;
        const ad_view *value = ad_tensor_view(slot->value);
        printf(":let %s = ", slot->name);
        put_array(stdout, value, value->dtype, 0, " ", true);
        putchar('\n');
    }
    for (size_t i = 0; i < r->count; i++) printf("%s\n", r->lines[i]->text);
    return true;
}

static bool quit(repl *r, const char *text, cmd_fault *fault) {
    (void)text, (void)fault;
    return r->quit = true;
}

static bool print_help(repl *r, const char *text, cmd_fault *fault) {
    (void)r, (void)text, (void)fault;
    fputs(help, stdout);
    return true;
}

static bool needs_a_value(const repl *r, cmd_fault *fault) {
    if (r->count > 0) return true;
    return set_fault(fault, STATUS_WRONG, "there is no value yet: write an expression first");
}

/* What these record is forgotten again. */
static bool grad(repl *r, const char *text, cmd_fault *fault) {
    (void)text;
    return needs_a_value(r, fault) && run_again(r, fault) && show_gradients(&r->space, stdout, fault);
}

static bool trace(repl *r, const char *text, cmd_fault *fault) {
    return needs_a_value(r, fault) && run_again(r, fault) &&
           show_trace(&r->space, *text ? text : NULL, stdout, fault);
}

static bool check(repl *r, const char *text, cmd_fault *fault) {
    (void)text;
    if (!needs_a_value(r, fault)) return false;
    ad_tape_reset(r->space.tape);
    return show_check(&r->space, stdout, fault);
}

static bool ops(repl *r, const char *text, cmd_fault *fault) {
    (void)r;
    return show_ops(*text ? text : "*", stdout, fault);
}

static const struct {
    const char *name;
    bool (*run)(repl *r, const char *text, cmd_fault *fault); /* false: it failed; has told unless the fault stands */
    bool tells;
} commands[] = {
    {"let", let, true},      {"grad", grad, false},       {"trace", trace, false},
    {"check", check, false}, {"ops", ops, false},         {"list", list, false},
    {"reset", reset, false}, {"help", print_help, false}, {"quit", quit, false},
};

/* ":grad", ":let x = 1" */
static bool run_command(repl *r, const char *text, cmd_fault *fault) {
    size_t length = strcspn(text, " ");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strlen(commands[i].name) != length || strncmp(commands[i].name, text, length) != 0) continue;
        const char *rest = text + length + strspn(text + length, " ");
        if (commands[i].run(r, rest, fault)) return true;
        if (!commands[i].tells) tell_fault(fault);
        return false;
    }
    set_fault(fault, STATUS_WRONG, "there is no command :%.*s; :help lists them", (int)length, text);
    tell_fault(fault);
    return false;
}

static void run_line(repl *r, char *text) {
    cmd_fault fault = {0};
    const char *at = text + strspn(text, " \t\r");
    size_t end = strlen(text);
    while (end > 0 && strchr(" \t\r", text[end - 1])) text[--end] = '\0';
    r->read++;
    if (!*at || *at == '#') return;
    bool good = *at == ':' ? run_command(r, at + 1, &fault) : add_statements(r, at, &fault);
    if (!good) r->status = STATUS_WRONG;
}

int command_repl(int argc, char **argv) {
    repl r = {.space = {.program = {.dtype = AD_F64}}};
    cmd_fault fault = {0};
    int option, status;
    while ((option = next_option(argc, argv, ":h", long_options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        if (!read_dtype(optarg, &r.space.program.dtype, &fault)) return tell_fault(&fault);
    }
    if (optind < argc) {
        set_fault(&fault, STATUS_USAGE, "repl takes no expression: it reads them");
        return tell_fault(&fault);
    }
    r.space.tape = ad_tape_new(NULL);
    for (char *text; !r.quit && (text = read_line());) {
        run_line(&r, text);
        free(text);
    }
    if (ferror(stdin)) set_fault(&fault, STATUS_SYSTEM, "standard input cannot be read: %s", strerror(errno));
    if (!close_output(stdout, NULL, &fault) || fault.status) r.status = tell_fault(&fault);
    reset(&r, "", NULL);
    free(r.lines);
    close_workspace(&r.space);
    return r.status;
}
