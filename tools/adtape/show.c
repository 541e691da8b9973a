/* adtape show, adtape diff: dumps that were kept as JSON, shown again, and two of them beside each other. */
#include "tools/adtape/reader.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char show_help[] =
    "usage: adtape show [OPTION]... FILE\n"
    "\n"
    "Shows a tape again that was kept as JSON (by adtape trace --format json, or by a program with\n"
    "AD_DUMP_JSON). FILE is - for standard input.\n"
    "\n"
    "  -f, --format FORMAT  text (the default), html, json, dot, md, latex\n"
    "  -o, --output FILE    instead of standard output\n"
    "      --scope PATH     only the nodes of that scope, such as block0/attention, and those inside it\n"
    "      --precision N    significant digits, 1 to 17; the default is what the file was made with\n"
    "      --elements N     of a value that are shown; larger ones as statistics; the default is 12\n"
    "      --all            all nodes, however many\n"
    "      --width N        of lines of text; the default is that of the terminal\n"
    "      --ascii          no characters but ASCII\n"
    "  -h, --help           this text\n";

static const char diff_help[] =
    "usage: adtape diff [OPTION]... FILE FILE\n"
    "\n"
    "Shows two tapes that were kept as JSON beside each other, and what differs: values, gradients,\n"
    "inputs of operations, and nodes that only one of them has. The exit status is 1 if anything does.\n"
    "\n"
    "  -f, --format FORMAT  text (the default), html\n"
    "  -o, --output FILE    instead of standard output\n"
    "      --absolute X     a and b are the same if |a - b| <= X + R max(|a|, |b|); the default is 0\n"
    "      --relative R     the default is 0\n"
    "      --same           also what is the same\n"
    "      --scope PATH, --precision N, --elements N, --all, --width N, --ascii: as for adtape show\n"
    "  -h, --help           this text\n";

enum { SCOPE = 256, PRECISION, ELEMENTS, ALL, WIDTH, ASCII, ABSOLUTE, RELATIVE, SAME };
#define SHARED_OPTIONS                                                                                               \
    {"format", required_argument, NULL, 'f'}, {"output", required_argument, NULL, 'o'},                              \
        {"scope", required_argument, NULL, SCOPE}, {"precision", required_argument, NULL, PRECISION},                \
        {"elements", required_argument, NULL, ELEMENTS}, {"all", no_argument, NULL, ALL},                            \
        {"width", required_argument, NULL, WIDTH}, {"ascii", no_argument, NULL, ASCII}, {                            \
        "help", no_argument, NULL, 'h'                                                                               \
    }
static const struct option show_options[] = {SHARED_OPTIONS, {NULL, 0, NULL, 0}};
static const struct option diff_options[] = {SHARED_OPTIONS,
                                             {"absolute", required_argument, NULL, ABSOLUTE},
                                             {"relative", required_argument, NULL, RELATIVE},
                                             {"same", no_argument, NULL, SAME},
                                             {NULL, 0, NULL, 0}};

typedef struct showing {
    ad_difference_options options; /* .dump is what both commands have */
    const char *output;
} showing;

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool read_format(showing *s, const char *text, bool is_diff, cmd_fault *fault) {
    static const char *const names[AD_DUMP_FORMAT_COUNT] = {
        [AD_DUMP_TEXT] = "text", [AD_DUMP_HTML] = "html",   [AD_DUMP_JSON] = "json",
        [AD_DUMP_DOT] = "dot",   [AD_DUMP_MARKDOWN] = "md", [AD_DUMP_LATEX] = "latex"};
    for (int i = 0; i < AD_DUMP_FORMAT_COUNT; i++) {
        if (!names[i] || strcmp(text, names[i]) != 0 || (is_diff && i != AD_DUMP_TEXT && i != AD_DUMP_HTML)) continue;
        s->options.dump.format = (ad_dump_format)i;
        return true;
    }
    return set_fault(fault, STATUS_USAGE, "--format is %s, not '%s'",
                     is_diff ? "text or html" : "text, html, json, dot, md or latex", text);
}

static bool read_tolerance(const char *option, const char *text, double *value, cmd_fault *fault) {
    char *end;
    *value = strtod(text, &end);
    if (end != text && !*end && isfinite(*value) && *value >= 0) return true;
    return set_fault(fault, STATUS_USAGE, "--%s is a number that is not negative, not '%s'", option, text);
}

static bool read_option(showing *s, int option, bool is_diff, cmd_fault *fault) {
    ad_dump_options *dump = &s->options.dump;
    int elements = 0;
    switch (option) {
    case 'f': return read_format(s, optarg, is_diff, fault);
    case 'o': s->output = optarg; return true;
    case SCOPE: dump->scope = optarg; return true;
    case PRECISION: return read_integer("precision", optarg, 1, 17, &dump->precision, fault);
    case ELEMENTS:
        if (!read_integer("elements", optarg, 1, 1000000000, &elements, fault)) return false;
        dump->most_elements = elements;
        return true;
    case ALL: dump->most_nodes = -1; return true;
    case WIDTH: return read_integer("width", optarg, 20, 100000, &dump->width, fault);
    case ASCII: dump->ascii = true; return true;
    case ABSOLUTE: return read_tolerance("absolute", optarg, &s->options.absolute, fault);
    case RELATIVE: return read_tolerance("relative", optarg, &s->options.relative, fault);
    default: s->options.all = true; return true;
    }
}

/* ---- the commands ------------------------------------------------------------------------------------------------ */

static bool refuse(const ad_dump_options *options, ad_status status, cmd_fault *fault) {
    if (status == AD_OK || status == AD_ERR_IO) return true; /* closing the output tells */
    if (status == AD_ERR_VALUE && options->scope)
        return set_fault(fault, STATUS_WRONG, "there is no scope '%s'", options->scope);
    return set_fault(fault, STATUS_SYSTEM, "the tape cannot be shown: %s", ad_status_name(status));
}

static bool show_to(const showing *s, cmd_reader *const *reader, bool is_diff, int64_t *count, FILE *out,
                    cmd_fault *fault) {
    ad_difference_options options = s->options;
    fill_reader_options(reader[is_diff ? 1 : 0], &options.dump);
    ad_dump_source first = source_of_reader(reader[0]);
    if (!is_diff) return refuse(&options.dump, ad_dump_source_with(&first, &options.dump, out), fault);
    ad_dump_source second = source_of_reader(reader[1]);
    return refuse(&options.dump, ad_dump_source_difference(&first, &second, &options, out, count), fault);
}

static bool show_files(const showing *s, char **paths, bool is_diff, int64_t *count, cmd_fault *fault) {
    cmd_reader *reader[2] = {NULL, NULL};
    for (int k = 0; k <= is_diff && !fault->status; k++) reader[k] = open_reader(paths[k], fault);
    FILE *out = fault->status ? NULL : open_output(s->output, fault);
    if (out) {
        cmd_fault late = {0};
        bool good = show_to(s, reader, is_diff, count, out, fault);
        if (!close_output(out, s->output, &late) && good) *fault = late;
    }
    for (int k = 0; k < 2; k++) close_reader(reader[k]);
    return !fault->status;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int run_command(int argc, char **argv, const struct option *options, const char *help, bool is_diff) {
    showing s = {.options = {.dump = {.format = AD_DUMP_TEXT}}};
    cmd_fault fault = {0};
    int option, status, files = is_diff ? 2 : 1;
    int64_t count = 0;
    while ((option = next_option(argc, argv, ":hf:o:", options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        if (!read_option(&s, option, is_diff, &fault)) return tell_fault(&fault);
    }
    if (argc - optind != files) {
        set_fault(&fault, STATUS_USAGE, "%s takes %s", argv[0], is_diff ? "two files" : "one file");
        return tell_fault(&fault);
    }
    s.options.first_name = last_part(argv[optind]);
    s.options.second_name = last_part(argv[argc - 1]);
    if (!show_files(&s, argv + optind, is_diff, &count, &fault)) return tell_fault(&fault);
    return count > 0 ? STATUS_WRONG : STATUS_OK;
}

int command_show(int argc, char **argv) { return run_command(argc, argv, show_options, show_help, false); }

int command_diff(int argc, char **argv) { return run_command(argc, argv, diff_options, diff_help, true); }
