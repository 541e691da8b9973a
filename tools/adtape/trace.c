/* adtape trace: evaluates an expression, walks back, and dumps the tape. */
#include "tools/adtape/command.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help[] =
    "usage: adtape trace [OPTION]... EXPRESSION [NAME=VALUE]...\n"
    "\n"
    "Evaluates the expression, walks back from its last value, and shows every value, every\n"
    "gradient, what is kept for the way back, and where gradients merge.\n"
    "\n"
    "  adtape trace 'y = x + relu(H@x + v)' x=[1,-2] H='[[1,2],[3,4]]' v=@v.npy --seed [1,0]\n"
    "\n"
    "  -f, --format FORMAT  text (the default), html, md, latex, json, dot, svg (by dot)\n"
    "  -o, --output FILE    instead of standard output\n"
    "      --forward        only evaluate\n"
    "      --seed VALUE     what the walk back starts from, where the result is not one number\n"
    "      --dtype DTYPE    f32 or f64 (the default): of numbers and variables\n"
    "      --precision N    significant digits, 1 to 17; the default is 4\n"
    "      --elements N     of a value that are shown; larger ones as statistics; the default is 12\n"
    "      --all            all nodes, however many\n"
    "      --width N        of lines of text; the default is that of the terminal\n"
    "      --ascii          no characters but ASCII\n"
    "      --color WHEN     auto (the default: on a terminal, unless NO_COLOR is set), always, never\n"
    "  -h, --help           this text\n"
    "\n"
    "EXPRESSION is - for standard input. 'man adtape' has the language.\n";

enum { FORWARD = 256, SEED, DTYPE, PRECISION, ELEMENTS, ALL, WIDTH, ASCII, COLOR };
static const struct option long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, 'o'},
    {"forward", no_argument, NULL, FORWARD},
    {"seed", required_argument, NULL, SEED},
    {"dtype", required_argument, NULL, DTYPE},
    {"precision", required_argument, NULL, PRECISION},
    {"elements", required_argument, NULL, ELEMENTS},
    {"all", no_argument, NULL, ALL},
    {"width", required_argument, NULL, WIDTH},
    {"ascii", no_argument, NULL, ASCII},
    {"color", required_argument, NULL, COLOR},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

typedef struct tracing {
    ad_dump_options dump;
    bool is_svg, forward;
    const char *output, *seed;
    ad_dtype dtype;
} tracing;

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool read_format(tracing *t, const char *text, cmd_fault *fault) {
    static const struct {
        const char *name;
        ad_dump_format format;
    } formats[] = {{"text", AD_DUMP_TEXT}, {"dot", AD_DUMP_DOT},     {"svg", AD_DUMP_DOT},    {"json", AD_DUMP_JSON},
                   {"html", AD_DUMP_HTML}, {"md", AD_DUMP_MARKDOWN}, {"latex", AD_DUMP_LATEX}};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(text, formats[i].name) != 0) continue;
        t->dump.format = formats[i].format;
        t->is_svg = strcmp(text, "svg") == 0;
        return true;
    }
    return set_fault(fault, STATUS_USAGE, "--format is text, dot, svg, json, html, md or latex, not '%s'", text);
}

static bool read_color(tracing *t, const char *text, cmd_fault *fault) {
    static const char *const names[] = {
        [AD_COLOUR_AUTO] = "auto", [AD_COLOUR_ALWAYS] = "always", [AD_COLOUR_NEVER] = "never"};
    for (int i = AD_COLOUR_AUTO; i <= AD_COLOUR_NEVER; i++) {
        if (strcmp(text, names[i]) != 0) continue;
        t->dump.colour = (ad_dump_colour)i;
        return true;
    }
    return set_fault(fault, STATUS_USAGE, "--color is auto, always or never, not '%s'", text);
}

static bool read_option(tracing *t, int option, cmd_fault *fault) {
    int elements = 0;
    switch (option) {
    case 'f': return read_format(t, optarg, fault);
    case 'o': t->output = optarg; return true;
    case FORWARD: t->forward = true; return true;
    case SEED: t->seed = optarg; return true;
    case DTYPE: return read_dtype(optarg, &t->dtype, fault);
    case PRECISION: return read_integer("precision", optarg, 1, 17, &t->dump.precision, fault);
    case ELEMENTS:
        if (!read_integer("elements", optarg, 1, 1000000000, &elements, fault)) return false;
        t->dump.most_elements = elements;
        return true;
    case ALL: t->dump.most_nodes = -1; return true;
    case WIDTH: return read_integer("width", optarg, 20, 100000, &t->dump.width, fault);
    case ASCII: t->dump.ascii = true; return true;
    default: return read_color(t, optarg, fault);
    }
}

/* ---- svg --------------------------------------------------------------------------------------------------------- */

/* dot reads the file and writes to `out`. */
static bool run_dot(FILE *graph, FILE *out, cmd_fault *fault) {
    int status;
    fflush(out);
    rewind(graph);
    pid_t child = fork();
    if (child < 0) return set_fault(fault, STATUS_SYSTEM, "dot cannot be started: %s", strerror(errno));
    if (child == 0) {
        if (dup2(fileno(graph), STDIN_FILENO) >= 0 && dup2(fileno(out), STDOUT_FILENO) >= 0)
            execlp("dot", "dot", "-Tsvg", (char *)NULL);
        _exit(errno == ENOENT ? 127 : 126);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return set_fault(fault, STATUS_SYSTEM,
                         "svg is drawn by Graphviz, which is not installed: its package is called graphviz; "
                         "--format dot needs nothing");
    return set_fault(fault, STATUS_SYSTEM, "dot failed to draw the graph");
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static bool dump_to(const tracing *t, ad_tape *tape, FILE *out, cmd_fault *fault) {
    ad_status status = ad_tape_dump_with(tape, &t->dump, out);
    if (status == AD_OK || status == AD_ERR_IO) return true; /* closing it tells */
    return set_fault(fault, STATUS_SYSTEM, "the tape cannot be shown: %s", ad_status_name(status));
}

static bool draw(const tracing *t, ad_tape *tape, FILE *out, cmd_fault *fault) {
    FILE *graph = tmpfile();
    if (!graph) return set_fault(fault, STATUS_SYSTEM, "there is no place for a temporary file: %s", strerror(errno));
    bool good = dump_to(t, tape, graph, fault);
    if (good && fflush(graph))
        good = set_fault(fault, STATUS_SYSTEM, "the temporary file cannot be written: %s", strerror(errno));
    good = good && run_dot(graph, out, fault);
    fclose(graph);
    return good;
}

static bool show(const tracing *t, ad_tape *tape, cmd_fault *fault) {
    FILE *out = open_output(t->output, fault);
    if (!out) return false;
    bool good = t->is_svg ? draw(t, tape, out, fault) : dump_to(t, tape, out, fault);
    cmd_fault late = {0};
    if (close_output(out, t->output, &late) || !good) return good;
    *fault = late;
    return false;
}

static bool walk_back(const tracing *t, cmd_workspace *space, cmd_fault *fault) {
    ad_var y = result_of(&space->program);
    ad_backward_options options = {.wrt = NULL};
    if (t->seed) {
        options.seed = read_seed(space, t->seed, y, fault);
        if (fault->status) return false;
    }
    int last = result_step(&space->program);
    if (ad_backward_with_at(space->program.step[last].where, y, &options) == AD_OK) return true;
    return set_tape_fault(fault, &space->program, last, space->tape);
}

bool show_trace(cmd_workspace *space, const char *format, FILE *out, cmd_fault *fault) {
    tracing t = {.dtype = space->program.dtype};
    if (format && !read_format(&t, format, fault)) return false;
    if (!walk_back(&t, space, fault)) return false;
    return t.is_svg ? draw(&t, space->tape, out, fault) : dump_to(&t, space->tape, out, fault);
}

int command_trace(int argc, char **argv) {
    tracing t = {.dtype = AD_F64};
    cmd_fault fault = {0};
    cmd_workspace space;
    int option, status;
    while ((option = next_option(argc, argv, ":hf:o:", long_options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        if (!read_option(&t, option, &fault)) return tell_fault(&fault);
    }
    (void)(open_workspace(&space, argc - optind, argv + optind, t.dtype, &fault) &&
           run(&space.program, space.tape, NULL, &fault) && (t.forward || walk_back(&t, &space, &fault)) &&
           show(&t, space.tape, &fault));
    status = fault.status ? tell_fault(&fault) : STATUS_OK;
    close_workspace(&space);
    return status;
}
