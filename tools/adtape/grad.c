/* adtape grad: the value of an expression and its derivatives, up to some order, as numbers. */
#include "tools/adtape/command.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: adtape grad [OPTION]... EXPRESSION NAME=VALUE...\n"
    "\n"
    "Prints the value of the expression and its derivative with respect to every variable. Of\n"
    "higher order: all partial derivatives, each once, as they do not depend on the sequence.\n"
    "\n"
    "  adtape grad 'sin(x*y) + exp(x)' x=1.5 y=0.5\n"
    "  adtape grad 'x^3' x=2 --order 3\n"
    "\n"
    "      --order N        up to this order, 1 to 8; the default is 1\n"
    "      --wrt NAMES      with respect to these only: x, or x,y\n"
    "      --seed VALUE     derive the sum of the results times these, where they are not one number\n"
    "  -f, --format FORMAT  text (the default) or json\n"
    "  -o, --output FILE    instead of standard output\n"
    "      --dtype DTYPE    f32 or f64 (the default): of numbers and variables\n"
    "      --precision N    significant digits, 1 to 17; the default is as many as it takes to read\n"
    "                       the same number back\n"
    "  -h, --help           this text\n"
    "\n"
    "EXPRESSION is - for standard input. 'man adtape' has the language.\n";

enum { ORDER = 256, WRT, SEED, DTYPE, PRECISION };
static const struct option long_options[] = {
    {"order", required_argument, NULL, ORDER},
    {"wrt", required_argument, NULL, WRT},
    {"seed", required_argument, NULL, SEED},
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, 'o'},
    {"dtype", required_argument, NULL, DTYPE},
    {"precision", required_argument, NULL, PRECISION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

enum { highest_order = 8 };

typedef struct deriving {
    cmd_workspace *space;
    int order, precision;
    bool json;
    const char *wrt, *seed, *output;
    ad_dtype dtype;
    int *x; /* the slots to derive by */
    int n;
    ad_var y; /* one number */
    FILE *out;
    cmd_fault *fault;
} deriving;

static const cmd_slot *variable(const deriving *d, int i) { return &d->space->program.slot[d->x[i]]; }

/* ---- options ----------------------------------------------------------------------------------------------------- */

static bool read_option(deriving *d, int option, cmd_fault *fault) {
    switch (option) {
    case ORDER: return read_integer("order", optarg, 1, highest_order, &d->order, fault);
    case WRT: d->wrt = optarg; return true;
    case SEED: d->seed = optarg; return true;
    case 'o': d->output = optarg; return true;
    case DTYPE: return read_dtype(optarg, &d->dtype, fault);
    case PRECISION: return read_integer("precision", optarg, 1, 17, &d->precision, fault);
    default:
        d->json = strcmp(optarg, "json") == 0;
        if (d->json || strcmp(optarg, "text") == 0) return true;
        return set_fault(fault, STATUS_USAGE, "--format is text or json, not '%s'", optarg);
    }
}

/* ---- what to derive ---------------------------------------------------------------------------------------------- */

static bool add_variable(deriving *d, const char *name, size_t length) {
    for (size_t i = 0; i < d->space->program.slots; i++) {
        const cmd_slot *slot = &d->space->program.slot[i];
        if (!slot->value || strlen(slot->name) != length || memcmp(slot->name, name, length) != 0) continue;
        if (slot->is_index || !ad_dtype_is_float(ad_tensor_view(slot->value)->dtype))
            return set_fault(d->fault, STATUS_WRONG, "there is no derivative by %s, whose values are indices",
                             slot->name);
        d->x[d->n++] = (int)i;
        return true;
    }
    return set_fault(d->fault, STATUS_WRONG, "there is no variable %.*s to derive by", (int)length, name);
}

static bool choose_named(deriving *d) {
    for (const char *at = d->wrt;; at++) {
        size_t length = strcspn(at, ",");
        if ((size_t)d->n == d->space->program.slots)
            return set_fault(d->fault, STATUS_USAGE, "--wrt names more variables than there are");
        if (!add_variable(d, at, length)) return false;
        at += length;
        if (!*at) return true;
    }
}

static bool choose_variables(deriving *d) {
    const cmd_program *program = &d->space->program;
    d->x = allocate(program->slots * sizeof *d->x);
    if (d->wrt) return choose_named(d);
    for (size_t i = 0; i < program->slots; i++) {
        const cmd_slot *slot = &program->slot[i];
        if (slot->value && !slot->is_index && ad_dtype_is_float(ad_tensor_view(slot->value)->dtype))
            d->x[d->n++] = (int)i;
    }
    if (d->n > 0) return true;
    return set_fault(d->fault, STATUS_WRONG, "there is no variable to derive by: give one as x=...");
}

/* One number: the result, or the sum of it times the seed. */
static bool choose_result(deriving *d) {
    cmd_program *program = &d->space->program;
    int last = result_step(program);
    const char *where = program->step[last].where;
    ad_view value = ad_value(result_of(program));
    d->y = result_of(program);
    if (d->seed) {
        ad_var seed = read_seed(d->space, d->seed, d->y, d->fault);
        if (d->fault->status) return false;
        d->y = ad_sum_at(where, ad_mul_at(where, d->y, seed), AD_ALL_AXES, false);
    } else if (value.shape.rank != 0 && ad_view_count(&value) == 1) {
        d->y = ad_reshape_at(where, d->y, AD_SCALAR);
    } else if (value.shape.rank != 0) {
        char type[AD_TYPE_TEXT];
        return set_fault_at(d->fault, program->step[last].source, program->step[last].at,
                            "the result is %s, but one number is derived: put sum(...) around it, or give --seed",
                            ad_type_text(value.dtype, &value.shape, type));
    }
    return ad_tape_status(d->space->tape) == AD_OK || set_tape_fault(d->fault, program, last, d->space->tape);
}

/* ---- deriving ---------------------------------------------------------------------------------------------------- */

/* The partial derivatives by variables combination[0..order): an array whose axes are theirs, one after the other. */
typedef struct block {
    int order;
    int combination[highest_order];
    ad_shape shape;
    double *value;
} block;

static bool needs_gradient(ad_var y) {
    ad_node_info info;
    return ad_tape_node(y.tape, y.index, &info) == AD_OK && info.needs_gradient;
}

static ad_var element_of(ad_var x, int64_t i) {
    ad_view value = ad_value(x);
    if (value.shape.rank == 0) return x;
    return ad_select(ad_reshape(x, AD_SHAPE(-1)), 0, i);
}

/* Derives y by the variables from number `depth` on; what comes out begins at `values`. A derivative that depends on
 * nothing any more leaves the zeros that are there. */
static void derive(const deriving *d, const block *b, ad_var y, int depth, double *values) {
    ad_tape *tape = d->space->tape;
    ad_var gradient;
    if (!needs_gradient(y)) return;
    ad_mark mark = ad_tape_mark(tape);
    if (ad_grad(y, AD_NONE, 1, &variable(d, b->combination[depth])->var, &gradient)) return;
    ad_view value = ad_value(gradient);
    int64_t n = ad_view_count(&value), below = 1;
    for (int i = depth + 1; i < b->order; i++)
        below *= ad_view_count(ad_tensor_view(variable(d, b->combination[i])->value));
    for (int64_t i = 0; i < n && ad_tape_status(tape) == AD_OK; i++) {
        if (depth + 1 == b->order) {
            values[i] = ad_view_get(&value, i);
        } else {
            derive(d, b, element_of(gradient, i), depth + 1, values + i * below);
        }
    }
    if (ad_tape_status(tape) == AD_OK) (void)!ad_tape_rewind(tape, mark);
}

static bool set_shape(const deriving *d, block *b) {
    b->shape = AD_SCALAR;
    for (int i = 0; i < b->order; i++) {
        const ad_shape *part = &ad_tensor_view(variable(d, b->combination[i])->value)->shape;
        if (b->shape.rank + part->rank > AD_MAX_RANK)
            return set_fault(d->fault, STATUS_WRONG, "the derivatives of order %d have more than %d axes", b->order,
                             AD_MAX_RANK);
        for (int k = 0; k < part->rank; k++) b->shape.dim[b->shape.rank++] = part->dim[k];
    }
    const int64_t most = 10000000;
    if (ad_shape_count(&b->shape) >= 0 && ad_shape_count(&b->shape) <= most) return true;
    return set_fault(d->fault, STATUS_WRONG, "the derivatives of order %d are more than %lld numbers", b->order,
                     (long long)most);
}

/* ---- showing ----------------------------------------------------------------------------------------------------- */

/* "dy/dx", "d2y/dx2", "d2y/dx dz"; returns how many columns that takes. */
static int put_title(const deriving *d, const block *b) {
    char *title = b->order == 1 ? format_text("d%s/", result_name(&d->space->program))
                                : format_text("d%d%s/", b->order, result_name(&d->space->program));
    for (int i = 0, power; i < b->order; i += power) {
        for (power = 1; i + power < b->order && b->combination[i + power] == b->combination[i];) power++;
        const char *name = variable(d, b->combination[i])->name;
        char *longer = power == 1 ? format_text("%s%sd%s", title, i ? " " : "", name)
                                  : format_text("%s%sd%s%d", title, i ? " " : "", name, power);
        free(title);
        title = longer;
    }
    int length = fprintf(d->out, "%s = ", title);
    free(title);
    return length;
}

static void put_block(const deriving *d, const block *b, bool is_first) {
    ad_view view = ad_view_of(b->value, AD_F64, b->shape);
    if (!d->json) {
        char *indent = format_text("\n%*s", put_title(d, b), "");
        put_array(d->out, &view, d->dtype, d->precision, indent, false);
        fputc('\n', d->out);
        free(indent);
        return;
    }
    fprintf(d->out, "%s\n    {\"order\": %d, \"wrt\": [", is_first ? "" : ",", b->order);
    for (int i = 0; i < b->order; i++)
        fprintf(d->out, "%s\"%s\"", i ? ", " : "", variable(d, b->combination[i])->name);
    fputs("], \"value\": ", d->out);
    put_array(d->out, &view, d->dtype, d->precision, " ", true);
    fputc('}', d->out);
}

static void put_result_value(const deriving *d) {
    const char *name = result_name(&d->space->program);
    ad_view value = ad_value(result_of(&d->space->program));
    if (d->json) {
        fprintf(d->out, "{\n  \"name\": \"%s\",\n  \"value\": ", name);
        put_array(d->out, &value, d->dtype, d->precision, " ", true);
        fputs(",\n  \"derivatives\": [", d->out);
    } else {
        char *indent = format_text("\n%*s", fprintf(d->out, "%s = ", name), "");
        put_array(d->out, &value, d->dtype, d->precision, indent, false);
        fputc('\n', d->out);
        free(indent);
    }
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

/* The next one, in which no variable stands behind a later one: 0 0, 0 1, 1 1. False: that was the last. */
static bool next_combination(block *b, int n) {
    int i = b->order - 1;
    while (i >= 0 && b->combination[i] == n - 1) i--;
    if (i < 0) return false;
    int next = b->combination[i] + 1;
    for (; i < b->order; i++) b->combination[i] = next;
    return true;
}

static bool put_derivatives(deriving *d) {
    bool is_first = true;
    for (int order = 1; order <= d->order; order++) {
        block b = {.order = order};
        do {
            if (!set_shape(d, &b)) return false;
            b.value = allocate((size_t)ad_shape_count(&b.shape) * sizeof *b.value);
            derive(d, &b, d->y, 0, b.value);
            bool good = ad_tape_status(d->space->tape) == AD_OK;
            if (good) put_block(d, &b, is_first);
            free(b.value);
            if (!good)
                return set_tape_fault(d->fault, &d->space->program, result_step(&d->space->program), d->space->tape);
            is_first = false;
        } while (next_combination(&b, d->n));
    }
    return true;
}

static bool show(deriving *d) {
    d->out = open_output(d->output, d->fault);
    if (!d->out) return false;
    put_result_value(d);
    bool good = put_derivatives(d);
    if (good && d->json) fputs("\n  ]\n}\n", d->out);
    cmd_fault late = {0};
    if (close_output(d->out, d->output, &late) || !good) return good;
    *d->fault = late;
    return false;
}

bool show_gradients(cmd_workspace *space, FILE *out, cmd_fault *fault) {
    deriving d = {.space = space, .order = 1, .dtype = space->program.dtype, .out = out, .fault = fault};
    bool good = choose_variables(&d) && choose_result(&d);
    if (good) put_result_value(&d);
    good = good && put_derivatives(&d);
    free(d.x);
    return good;
}

int command_grad(int argc, char **argv) {
    cmd_fault fault = {0};
    cmd_workspace space;
    deriving d = {.space = &space, .order = 1, .dtype = AD_F64, .fault = &fault};
    int option, status;
    while ((option = next_option(argc, argv, ":hf:o:", long_options, help, &status)) >= 0) {
        if (option == OPTION_DONE) return status;
        if (!read_option(&d, option, &fault)) return tell_fault(&fault);
    }
    (void)(open_workspace(&space, argc - optind, argv + optind, d.dtype, &fault) && choose_variables(&d) &&
           run(&space.program, space.tape, NULL, &fault) && choose_result(&d) && show(&d));
    status = fault.status ? tell_fault(&fault) : STATUS_OK;
    close_workspace(&space);
    free(d.x);
    return status;
}
