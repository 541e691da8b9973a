/* adtape ops: what the registry holds, and one op in full. */
#include "tools/adtape/command.h"

#include <fnmatch.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: adtape ops [OPTION]... [NAME]\n"
    "\n"
    "Lists what can be called in an expression, or shows one op: its value, its gradient, what it\n"
    "keeps for the way back, and what it does where there is no derivative. NAME may be a pattern:\n"
    "\n"
    "  adtape ops softmax_xent\n"
    "  adtape ops '*softmax*'\n"
    "\n"
    "  -o, --output FILE    instead of standard output\n"
    "  -h, --help           this text\n";

static const struct option long_options[] = {
    {"output", required_argument, NULL, 'o'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

/* ---- one op ------------------------------------------------------------------------------------------------------ */

/* "axis, keepdim": what stands for the attributes in a formula. */
static char *attribute_names(const ad_op *op) {
    char *names = format_text("%s", "");
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++) {
        char *longer = format_text("%s%s%s", names, *names ? ", " : "", attr->name);
        free(names);
        names = longer;
    }
    return names;
}

static void put_line(FILE *out, const char *title, const ad_op *op, const char *attrs, const char *formula) {
    fprintf(out, "  %-12s", title);
    put_formula(out, op, attrs, formula);
    fputc('\n', out);
}

static void put_gradients(FILE *out, const ad_op *op, const char *attrs) {
    const char *title = "gradient";
    if (op->derivative == AD_STOPS_GRADIENT) put_line(out, title, op, attrs, "nothing flows back, by design");
    if (op->derivative == AD_NOT_DIFFERENTIABLE) put_line(out, title, op, attrs, "it has none");
    for (int i = 0; i < 4 && op->adjoint[i]; i++) {
        if (!*op->adjoint[i]) continue;
        put_line(out, title, op, attrs, op->adjoint[i]);
        title = "";
    }
}

static void put_kept(FILE *out, const ad_op *op) {
    const char *separator = "";
    if (op->derivative != AD_DIFFERENTIABLE) return;
    fprintf(out, "  %-12s", "keeps");
    if (!op->saves) fputs("nothing", out);
    if (op->inputs < 0 && op->saves & AD_SAVES_INPUTS) fprintf(out, "its inputs"), separator = ", ";
    for (int i = 0; i < op->inputs; i++) {
        if (!(op->saves & AD_SAVES_INPUT(i))) continue;
        fputs(separator, out);
        put_input(out, op, i, false);
        separator = ", ";
    }
    for (int k = 0; k < AD_MAX_RESULTS; k++) {
        if (!(op->saves & AD_SAVES_RESULT(k))) continue;
        fputs(separator, out);
        put_result(out, k, false);
        separator = ", ";
    }
    fputc('\n', out);
}

static void put_orders(FILE *out, const ad_op *op) {
    if (op->derivative != AD_DIFFERENTIABLE) return;
    fprintf(out, "  %-12sof any order: the gradient is written in ops%s\n", "derivatives",
            op->backward || op->scalar ? "; the first is also computed directly" : "");
    fprintf(out, "  %-12s%s\n", "forward", op->jvp ? "by a rule of its own" : "worked out from the gradient");
}

static void put_op(FILE *out, const cmd_function *f) {
    const ad_op *op = f->op;
    char *attrs = attribute_names(op);
    char *signature = signature_text(op);
    fprintf(out, "%s\n", signature);
    free(signature);
    put_line(out, "value", op, attrs, op->formula);
    for (int k = 1; k < op->results; k++) put_line(out, "", op, attrs, op->result_formula[k - 1]);
    if (f->composition) {
        put_line(out, "gradient", op, attrs, "that of the ops it is composed of");
    } else {
        put_gradients(out, op, attrs);
        put_kept(out, op);
        if (op->convention) put_line(out, "convention", op, attrs, op->convention);
        put_orders(out, op);
    }
    free(attrs);
}

/* ---- the list ---------------------------------------------------------------------------------------------------- */

static void put_row(FILE *out, const cmd_function *f, int width) {
    char *signature = signature_text(f->op), *attrs = attribute_names(f->op);
    fprintf(out, "%-*s  ", width, signature);
    put_formula(out, f->op, attrs, f->op->formula);
    fputc('\n', out);
    free(signature);
    free(attrs);
}

static bool put_rows(FILE *out, const char *pattern, int width) {
    bool any = false;
    const char *name;
    for (int i = 0; (name = function_name_at(NULL, i)); i++) {
        cmd_function f;
        if (fnmatch(pattern, name, 0) != 0 || !find_function(name, strlen(name), &f)) continue;
        put_row(out, &f, width);
        any = true;
    }
    return any;
}

bool show_ops(const char *name, FILE *out, cmd_fault *fault) {
    enum { width = 34 };
    cmd_function f;
    if (find_function(name, strlen(name), &f)) {
        put_op(out, &f);
        return true;
    }
    if (strpbrk(name, "*?[") && put_rows(out, name, width)) return true;
    const char *like = most_similar(name, strlen(name), function_name_at, NULL);
    return set_fault(fault, STATUS_WRONG, "there is no op %s%s%s%s", name, like ? "; did you mean " : "",
                     like ? like : "", like ? "?" : "");
}

int command_ops(int argc, char **argv) {
    const char *output = NULL;
    cmd_fault fault = {0};
    int option, status;
    while ((option = next_option(argc, argv, ":ho:", long_options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        output = optarg;
    }
    if (argc - optind > 1) {
        set_fault(&fault, STATUS_USAGE, "ops takes one name; a pattern must be quoted");
        return tell_fault(&fault);
    }
    FILE *out = open_output(output, &fault);
    if (out && show_ops(argc > optind ? argv[optind] : "*", out, &fault)) close_output(out, output, &fault);
    return fault.status ? tell_fault(&fault) : STATUS_OK;
}
