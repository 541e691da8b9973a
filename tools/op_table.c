/* op_table: prints docs/ops.md, a table of every op in the registry. The types in a row, and the attributes in its
 * formulas, are those of one of the op's own samples. */
#include "tools/adtape/formula.h"

#include <stdio.h>
#include <stdlib.h>

static _Noreturn void fail(const ad_op *op, const char *message) {
    fprintf(stderr, "op_table: %s: %s\n", op->name, message);
    exit(1);
}

/* ---- the parts of a row ---------------------------------------------------------------------------------------- */

static void put_text(const ad_op *op, const void *attrs, const char *formula) {
    char text[256] = "";
    if (op->show_attrs) op->show_attrs(attrs, text, sizeof text);
    put_formula(stdout, op, text, formula);
}

static void put_code(const ad_op *op, const void *attrs, const char *formula) {
    putchar('`');
    put_text(op, attrs, formula);
    putchar('`');
}

static void put_values(const ad_op *op, const void *attrs) {
    put_code(op, attrs, op->formula);
    for (int k = 1; k < op->results; k++) {
        printf("<br>");
        put_code(op, attrs, op->result_formula[k - 1]);
    }
}

static void put_adjoints(const ad_op *op, const void *attrs) {
    if (op->derivative == AD_STOPS_GRADIENT) printf("nothing, by design");
    if (op->derivative == AD_NOT_DIFFERENTIABLE) printf("has none");
    const char *separator = "";
    for (int i = 0; i < 4 && op->adjoint[i]; i++) {
        if (!*op->adjoint[i]) continue;
        printf("%s", separator);
        put_code(op, attrs, op->adjoint[i]);
        separator = "<br>";
    }
}

static void put_saved(const ad_op *op, int inputs) {
    const char *separator = "";
    for (int i = 0; i < inputs; i++) {
        if (!(op->saves & AD_SAVES_INPUT(i))) continue;
        printf("%s", separator);
        put_input(stdout, op, i, false);
        separator = ", ";
    }
    for (int k = 0; k < AD_MAX_RESULTS; k++) {
        if (!(op->saves & AD_SAVES_RESULT(k))) continue;
        printf("%s", separator);
        put_result(stdout, k, false);
        separator = ", ";
    }
}

/* ---- a sample -------------------------------------------------------------------------------------------------- */

typedef struct application {
    ad_sample sample;
    ad_view in[AD_MAX_SAMPLE_INPUTS], out[AD_MAX_RESULTS];
} application;

static int result_count(const ad_op *op) { return op->results ? op->results : 1; }

/* Applies the op to its sample number k; false if there is none. */
static bool apply(ad_tape *tape, const ad_op *op, int k, application *a) {
    a->sample = (ad_sample){.rng = {1, 0}, .dtype = AD_F64, .allocator = ad_allocator_default()};
    if (!op->sample(&a->sample, k)) return false;
    ad_var in[AD_MAX_SAMPLE_INPUTS], out[AD_MAX_RESULTS];
    for (int i = 0; i < a->sample.inputs; i++) in[i] = ad_leaf_tensor(tape, NULL, a->sample.input[i]);
    ad_apply(tape, op, a->sample.inputs, in, &a->sample.attrs, out);
    if (ad_tape_status(tape)) fail(op, ad_tape_error(tape));
    for (int i = 0; i < a->sample.inputs; i++) a->in[i] = ad_value(in[i]);
    for (int i = 0; i < result_count(op); i++) a->out[i] = ad_value(out[i]);
    return true;
}

static void release(ad_tape *tape, application *a) {
    for (int i = 0; i < a->sample.inputs; i++) ad_tensor_unref(a->sample.input[i]);
    ad_tape_reset(tape);
}

static bool is_all_of_one_shape(const ad_op *op, const application *a) {
    for (int i = 0; i < a->sample.inputs; i++)
        for (int k = 0; k < result_count(op); k++)
            if (!ad_shape_equal(&a->in[i].shape, &a->out[k].shape)) return false;
    return true;
}

/* The first sample that shows something: where shapes differ, if there is one, else the first. */
static void apply_telling(ad_tape *tape, const ad_op *op, application *a) {
    for (int k = 0; apply(tape, op, k, a); k++) {
        if (!is_all_of_one_shape(op, a)) return;
        release(tape, a);
    }
    if (!apply(tape, op, 0, a)) fail(op, a->sample.error.message);
}

/* ---- orders ---------------------------------------------------------------------------------------------------- */

enum { TRIED_ORDERS = 3 };

/* One number that depends on all the float ones among x[0..n). */
static ad_var total(ad_tape *tape, int n, const ad_var *x) {
    ad_var sum = ad_number(tape, AD_F64, 0);
    for (int i = 0; i < n; i++)
        if (ad_dtype_is_float(ad_value(x[i]).dtype)) sum = ad_add(sum, ad_sum(ad_sin(x[i]), AD_ALL_AXES, false));
    return sum;
}

/* How often the derivative of a sample can be taken, up to TRIED_ORDERS. What a VJP records are ops of this table, so
 * if every row gets that far, every order can be had. */
static int orders_of(ad_tape *tape, const ad_op *op) {
    application a;
    ad_var x[AD_MAX_SAMPLE_INPUTS], y[AD_MAX_RESULTS], gradient[AD_MAX_SAMPLE_INPUTS];
    int floats = 0, order = 0;
    if (op->derivative != AD_DIFFERENTIABLE || !apply(tape, op, 0, &a)) return 0;
    for (int i = 0; i < a.sample.inputs; i++)
        if (ad_dtype_is_float(a.in[i].dtype)) x[floats++] = ad_tape_var(tape, i);
    for (int k = 0; k < result_count(op); k++) y[k] = ad_tape_var(tape, a.sample.inputs + k);
    ad_var now = total(tape, result_count(op), y);
    while (order < TRIED_ORDERS && !ad_grad(now, AD_NONE, floats, x, gradient)) {
        now = total(tape, floats, gradient);
        order++;
    }
    release(tape, &a);
    return order;
}

static void put_orders(ad_tape *tape, const ad_op *op) {
    int orders = orders_of(tape, op);
    if (orders == TRIED_ORDERS) {
        printf("any");
    } else {
        printf("%d", orders);
    }
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

static void put_type(const ad_view *view, const char *before) {
    char text[AD_TYPE_TEXT];
    printf("%s%s", before, ad_type_text(view->dtype, &view->shape, text));
}

static void put_row(ad_tape *tape, const ad_op *op) {
    application a;
    apply_telling(tape, op, &a);
    const void *attrs = &a.sample.attrs;
    printf("| `%s` | ", op->name);
    for (int i = 0; i < a.sample.inputs; i++) put_type(&a.in[i], i ? ", " : "");
    for (int k = 0; k < result_count(op); k++) put_type(&a.out[k], k ? ", " : " → ");
    printf(" | ");
    put_values(op, attrs);
    printf(" | ");
    put_adjoints(op, attrs);
    printf(" | ");
    put_orders(tape, op);
    printf(" | ");
    put_saved(op, a.sample.inputs);
    printf(" | ");
    if (op->convention) put_text(op, attrs, op->convention);
    printf(" |\n");
    release(tape, &a);
}

int main(void) {
    ad_tape *tape = ad_tape_new(NULL);
    printf(
        "# The ops\n\n"
        "<!-- `./dev docs` writes this page from the registry: edit the descriptors in ops/, not the page. -->\n\n"
        "Each row shows an op on one of its own samples. x̄ is the gradient of x; *kept* is what the backward pass\n"
        "reads, and nothing else is stored for it; *order* is how often the op can be differentiated. Constructors "
        "are declared in\n"
        "[adtape/ops.h](../autodiff/include/adtape/ops.h), every part of a descriptor in\n"
        "[adtape/op.h](../autodiff/include/adtape/op.h); [adding an op](adding-an-op.md) makes a new row.\n\n"
        "| op | types | value | backward | order | kept | where there is no derivative |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n");
    for (int i = 0; i < ad_op_count(); i++) put_row(tape, ad_op_at(i));
    ad_tape_free(tape);
    return fflush(stdout) ? 1 : 0;
}
