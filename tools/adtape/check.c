/* adtape check: compares the gradient of an expression, or of an op on its samples, with differences, and applies the
 * other laws. */
#include "tools/adtape/command.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

static const char help[] =
    "usage: adtape check [OPTION]... EXPRESSION [NAME=VALUE]...\n"
    "       adtape check [OPTION]... --op NAME\n"
    "\n"
    "Checks the gradient of the expression with respect to every variable, at the values given:\n"
    "against central differences, the same on every run and when recorded, of second order, and\n"
    "more. With --op, checks an op on its own samples. Everything is computed in f64.\n"
    "\n"
    "  adtape check 'sum(tanh(H@x))' x=[1,-2] H='[[1,2],[3,4]]'\n"
    "\n"
    "      --op NAME          an op instead of an expression\n"
    "      --tolerance T      relative; the default is 1e-6\n"
    "      --full, --fast     every element on its own, or all at once and some; the default is\n"
    "                         full up to 256 elements\n"
    "      --first-order      leave out the derivative of the derivative\n"
    "      --random-seed N    of what is chosen at random; the default is 0\n"
    "  -o, --output FILE      instead of standard output\n"
    "  -h, --help             this text\n"
    "\n"
    "The exit status is 0 if the gradient is right, 1 if it is wrong.\n";

enum { OP = 256, TOLERANCE, FULL, FAST, FIRST_ORDER, RANDOM_SEED };
static const struct option long_options[] = {
    {"op", required_argument, NULL, OP},
    {"tolerance", required_argument, NULL, TOLERANCE},
    {"full", no_argument, NULL, FULL},
    {"fast", no_argument, NULL, FAST},
    {"first-order", no_argument, NULL, FIRST_ORDER},
    {"random-seed", required_argument, NULL, RANDOM_SEED},
    {"output", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

typedef struct checking {
    ad_check_options options;
    const char *op, *output;
} checking;

static bool read_tolerance(checking *c, cmd_fault *fault) {
    char *end;
    c->options.tolerance = strtod(optarg, &end);
    if (end != optarg && !*end && c->options.tolerance > 0 && c->options.tolerance < 1) return true;
    return set_fault(fault, STATUS_USAGE, "--tolerance is a number between 0 and 1, not '%s'", optarg);
}

static bool read_option(checking *c, int option, cmd_fault *fault) {
    int seed;
    switch (option) {
    case OP: c->op = optarg; return true;
    case TOLERANCE: return read_tolerance(c, fault);
    case FULL: c->options.mode = AD_CHECK_FULL; return true;
    case FAST: c->options.mode = AD_CHECK_FAST; return true;
    case FIRST_ORDER: c->options.first_order_only = true; return true;
    case RANDOM_SEED:
        if (!read_integer("random-seed", optarg, 0, 1 << 30, &seed, fault)) return false;
        c->options.seed = (uint64_t)seed;
        return true;
    default: c->output = optarg; return true;
    }
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static ad_var evaluate(ad_tape *tape, const ad_var *x, int n, void *user) {
    cmd_program *program = user;
    cmd_fault ignored; /* the tape has it, and the checker reports it */
    (void)n;
    if (!run(program, tape, x, &ignored)) return (ad_var){.tape = tape};
    return result_of(program);
}

static int count_inputs(const cmd_program *program) {
    int count = 0;
    for (size_t i = 0; i < program->slots; i++) count += program->slot[i].value != NULL;
    return count;
}

/* What ad_gradcheck gets: indices as integers, the rest as it is. */
static bool copy_inputs(const cmd_program *program, ad_tensor **x, cmd_fault *fault) {
    ad_error error;
    for (size_t i = 0; i < program->slots; i++) {
        const cmd_slot *slot = &program->slot[i];
        const ad_view *value = ad_tensor_view(slot->value);
        if (!value) continue;
        ad_dtype dtype = slot->is_index ? AD_I64 : value->dtype;
        if (ad_tensor_new(x, NULL, dtype, value->shape, NULL, &error))
            return set_fault(fault, STATUS_SYSTEM, "%s", error.message);
        (void)!ad_view_copy(value, ad_tensor_view(*x++));
    }
    return true;
}

static bool check_expression(const checking *c, cmd_workspace *space, ad_check_report *report, cmd_fault *fault) {
    cmd_program *program = &space->program;
    /* Once by itself, for a message that shows the place. */
    if (!run(program, space->tape, NULL, fault)) return false;
    int n = count_inputs(program);
    ad_tensor **x = allocate((size_t)n * sizeof(ad_tensor *));
    bool good = copy_inputs(program, x, fault);
    if (good && n == 0)
        good = set_fault(fault, STATUS_WRONG, "there is no variable to check the gradient of: give one as x=...");
    if (good) ad_gradcheck(result_name(program), evaluate, program, n, x, &c->options, report);
    for (int i = 0; i < n; i++) ad_tensor_unref(x[i]);
    free(x);
    return good;
}

bool show_check(cmd_workspace *space, FILE *out, cmd_fault *fault) {
    const checking c = {.op = NULL};
    ad_check_report report = {.status = AD_OK};
    if (!check_expression(&c, space, &report, fault)) return false;
    if (report.status && report.status != AD_ERR_CHECK) return set_fault(fault, STATUS_WRONG, "%s", report.message);
    (void)!ad_check_print(&report, out);
    return true;
}

static bool check_op(const checking *c, ad_check_report *report, cmd_fault *fault) {
    const ad_op *op = ad_op_find(c->op);
    if (!op) return set_fault(fault, STATUS_WRONG, "there is no op %s; 'adtape ops' lists them", c->op);
    ad_op_check(op, &c->options, report);
    return true;
}

static bool show(const checking *c, const ad_check_report *report, cmd_fault *fault) {
    if (report->status && report->status != AD_ERR_CHECK)
        return set_fault(fault, STATUS_WRONG, "%s", report->message);
    FILE *out = open_output(c->output, fault);
    if (!out) return false;
    (void)!ad_check_print(report, out);
    return close_output(out, c->output, fault);
}

int command_check(int argc, char **argv) {
    checking c = {.op = NULL};
    cmd_fault fault = {0};
    cmd_workspace space = {.tape = NULL};
    ad_check_report report = {.status = AD_OK};
    int option, status;
    while ((option = next_option(argc, argv, ":ho:", long_options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        if (!read_option(&c, option, &fault)) return tell_fault(&fault);
    }
    bool checked = c.op ? argc == optind ? check_op(&c, &report, &fault)
                                         : set_fault(&fault, STATUS_USAGE, "--op takes no expression")
                        : open_workspace(&space, argc - optind, argv + optind, AD_F64, &fault) &&
                              check_expression(&c, &space, &report, &fault);
    if (checked) checked = show(&c, &report, &fault);
    status = checked ? report.status == AD_OK ? STATUS_OK : STATUS_WRONG : tell_fault(&fault);
    close_workspace(&space);
    return status;
}
