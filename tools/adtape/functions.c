/* What can be called by name: every op in the registry, and some compositions. An op needs nothing here: how many inputs
 * it has and what its attributes are called stands in its descriptor, and its samples show which inputs are indices. */
#include "tools/adtape/command.h"

#include <string.h>

/* ---- finding ----------------------------------------------------------------------------------------------------- */

bool find_function(const char *name, size_t length, cmd_function *found) {
    char terminated[128];
    if (length >= sizeof terminated) return false;
    memcpy(terminated, name, length);
    terminated[length] = '\0';
    *found = (cmd_function){.op = ad_op_find(terminated)};
    for (int i = 0; i < composition_count && !found->op; i++)
        if (strcmp(compositions[i].op.name, terminated) == 0)
            *found = (cmd_function){.op = &compositions[i].op, .composition = &compositions[i]};
    return found->op != NULL;
}

const char *function_name_at(const void *unused, int i) {
    (void)unused;
    int ops = ad_op_count();
    if (i < ops) return ad_op_at(i)->name;
    return i - ops < composition_count ? compositions[i - ops].op.name : NULL;
}

/* ---- indices ----------------------------------------------------------------------------------------------------- */

/* An input is one of indices if it is an integer in every sample; bit i for input i, the last one for all further. */
static unsigned integer_inputs(const ad_op *op) {
    unsigned integers = 0, floats = 0;
    for (int k = 0;; k++) {
        ad_sample sample = {.rng = {1, 0}, .dtype = AD_F64, .allocator = ad_allocator_default()};
        bool made = op->sample(&sample, k);
        for (int i = 0; i < sample.inputs; i++) {
            unsigned bit = 1u << i;
            *(ad_dtype_is_float(ad_tensor_view(sample.input[i])->dtype) ? &floats : &integers) |= bit;
            ad_tensor_unref(sample.input[i]);
        }
        if (!made) return integers & ~floats;
    }
}

bool takes_index(const cmd_function *f, int i) {
    static const ad_op *last;
    static unsigned integers;
    if (f->composition) return f->composition->integers >> i & 1;
    if (f->op != last) {
        last = f->op;
        integers = integer_inputs(f->op);
    }
    return i < AD_MAX_SAMPLE_INPUTS && (integers >> i & 1);
}

/* ---- showing ----------------------------------------------------------------------------------------------------- */

static void put_usual(FILE *out, const ad_attr *attr) {
    if (attr->type == AD_ATTR_BOOL || attr->type == AD_ATTR_BIT) {
        fputs(attr->usual != 0 ? "true" : "false", out);
    } else if (attr->type == AD_ATTR_DTYPE) {
        fputs(ad_dtype_name((ad_dtype)attr->usual), out);
    } else if (attr->type == AD_ATTR_AXES || attr->type == AD_ATTR_SHAPE) {
        fputs("[]", out);
    } else {
        fprintf(out, "%g", attr->usual);
    }
}

static void put_signature(FILE *out, const ad_op *op) {
    fprintf(out, "%s(", op->name);
    for (int i = 0; i < op->inputs; i++) {
        if (i > 0) fputs(", ", out);
        put_input(out, op, i, false);
    }
    if (op->inputs < 0) fputs("x0, x1, ...", out);
    for (const ad_attr *attr = op->attrs; attr && attr->name; attr++) {
        fprintf(out, ", %s", attr->name);
        if (!attr->is_optional) continue;
        fputc('=', out);
        put_usual(out, attr);
    }
    fputc(')', out);
}

char *signature_text(const ad_op *op) {
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (out) {
        put_signature(out, op);
        fclose(out);
    }
    return text ? text : format_text("%s", op->name);
}

/* ---- calling ----------------------------------------------------------------------------------------------------- */

ad_var apply_function(const cmd_function *f, const char *where, ad_tape *tape, int n, const ad_var *in,
                      const void *attrs, ad_var results[AD_MAX_RESULTS]) {
    if (!f->composition) return ad_apply_at(where, tape, f->op, n, in, attrs, results);
    return results[0] = f->composition->apply(where, n, in, attrs);
}
