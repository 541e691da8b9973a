/* adtape: gradients, traces and checks of expressions, for people who do not write C. */
#include "tools/adtape/command.h"

#include <locale.h>
#include <string.h>

static const char help[] =
    "usage: adtape COMMAND ...\n"
    "\n"
    "  adtape trace EXPRESSION [NAME=VALUE]...   what happens forward and backward, step by step\n"
    "  adtape grad  EXPRESSION NAME=VALUE...     the derivatives, as numbers\n"
    "  adtape check EXPRESSION NAME=VALUE...     the gradient against differences\n"
    "  adtape ops   [NAME]                       what can be called, or one op in full\n"
    "  adtape repl                               expressions line by line\n"
    "  adtape show  FILE                         a tape again that was kept as JSON\n"
    "  adtape diff  FILE FILE                    two such tapes beside each other\n"
    "\n"
    "  adtape trace 'y = x + relu(H@x + v); e = softmax_xent(y, 2)' x=[1,-2,0.5] H=@H.npy v=[0,1,0]\n"
    "\n"
    "'adtape COMMAND --help' has the options; 'man adtape' the language. 'adtape --version' says which one this is.\n"
    "Exit status: 0 all is well; 1 the expression or a value is wrong, or a check failed; 2 wrong usage;\n"
    "3 a file, another program or memory failed.\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"trace", command_trace}, {"grad", command_grad}, {"check", command_check},
    {"ops", command_ops},     {"repl", command_repl},
#ifdef HAVE_CJSON
    {"show", command_show},   {"diff", command_diff},
#endif
};

static int print(const char *text) {
    cmd_fault fault = {0};
    fputs(text, stdout);
    return close_output(stdout, NULL, &fault) ? STATUS_OK : tell_fault(&fault);
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, ""); /* numbers stay as they are */
    if (argc < 2) {
        fputs(help, stderr);
        return STATUS_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        return print(help);
    if (strcmp(argv[1], "--version") == 0) return print("adtape " ADTAPE_VERSION "\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 1, argv + 1);
    cmd_fault fault = {0};
    bool needs_json = strcmp(argv[1], "show") == 0 || strcmp(argv[1], "diff") == 0;
    set_fault(&fault, STATUS_USAGE,
              needs_json ? "'%s' reads JSON with the library cJSON (Debian: libcjson-dev); this was built without it"
                         : "there is no command '%s'; 'adtape --help' lists them",
              argv[1]);
    return tell_fault(&fault);
}
