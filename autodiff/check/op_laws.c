/* The laws that hold for an op, besides the common ones. */
#include "autodiff/check/check.h"
#include "autodiff/tape/tape.h"

#include <math.h>
#include <string.h>

/* Results and, if there are any, gradients computed in a way must be those of the op as it is. */
static ad_status same_output(ad_checker *checker, const char *law, double tolerance, const ad_way *way,
                             const char *usual) {
    double *output = ad_checker_numbers(checker, checker->outputs);
    if (!output) return AD_ERR_OOM;
    ad_status status = ad_checker_output(checker, way, output);
    if (status) return status;
    return ad_compare(checker, law, true, tolerance, output, way->text, checker->output, usual);
}

static ad_status same_gradient(ad_checker *checker, const char *law, double tolerance, const ad_way *way,
                               const char *usual) {
    double *expected = ad_checker_numbers(checker, checker->inputs);
    double *gradient = ad_checker_numbers(checker, checker->inputs);
    if (!expected || !gradient) return AD_ERR_OOM;
    if (checker->subject->no_gradient) return AD_OK;
    ad_status status = ad_checker_gradient(checker, &(ad_way){.weight = way->weight}, expected);
    for (int recorded = 0; recorded < 2 && !status; recorded++) {
        ad_way now = *way;
        now.recorded = recorded;
        status = ad_checker_gradient(checker, &now, gradient);
        if (!status) status = ad_compare(checker, law, false, tolerance, gradient, way->text, expected, usual);
    }
    return status;
}

static ad_status same_in_a_way(ad_checker *checker, const char *law, double tolerance, const ad_way *way,
                               const char *usual) {
    ad_status status = same_output(checker, law, tolerance, way, usual);
    return status ? status : same_gradient(checker, law, tolerance, way, usual);
}

/* ---- the shortcuts ---------------------------------------------------------------------------------------------- */

/* The same as another op would do it. Nodes point at that op, so none must stay. */
static ad_status same_as_op(ad_checker *checker, const char *law, const ad_op *op, const char *text,
                            const char *usual) {
    ad_subject subject = *checker->subject;
    subject.op = op;
    ad_status status = same_in_a_way(checker, law, 1e-10, &(ad_way){.text = text, .subject = &subject}, usual);
    ad_tape_reset(checker->tape);
    return status;
}

static ad_status short_cuts(ad_checker *checker, const char *law) {
    ad_op general = *checker->subject->op;
    if (!general.scalar && !general.flat) return AD_OK;
    general.scalar = NULL;
    general.flat = NULL;
    return same_as_op(checker, law, &general, "by .forward and .backward", "by .scalar or .flat");
}

static ad_status fused_backward(ad_checker *checker, const char *law) {
    ad_op written = *checker->subject->op;
    if (!written.backward) return AD_OK;
    written.backward = NULL;
    written.scalar = NULL;
    written.flat = NULL;
    return same_as_op(checker, law, &written, "by .vjp", "by .backward");
}

/* ---- several at once ---------------------------------------------------------------------------------------------- */

enum { SEEDS = 11 };

/* Rows of `count` numbers: none, then by turns one element alone and all, like `model` but for each seed another way. */
static void draw_seeds(double *seeds, int64_t stride, int64_t count, const double *model) {
    for (int64_t s = 1; s < SEEDS; s++)
        for (int64_t i = 0; i < count; i++)
            seeds[s * stride + i] = s % 2 ? i == s % count : (1 + model[(i + s) % count]) * (double)s;
}

/* Of the float inputs or results: variables, and rows of their numbers among `numbers`, which are `stride` for each seed. */
static ad_view *views_of_floats(ad_checker *checker, int n, const ad_part *part, const ad_var *x, double *numbers,
                                int64_t stride, int *floats, ad_var *of) {
    ad_view *views = ad_arena_take(&checker->memory, (size_t)n * sizeof *views);
    *floats = 0;
    for (int i = 0; i < n && views; i++) {
        if (!ad_dtype_is_float(part[i].dtype)) continue;
        of[*floats] = x[i];
        views[*floats] = ad_view_of(numbers + part[i].first, AD_F64, AD_SHAPE(SEEDS, part[i].count));
        views[(*floats)++].stride[0] = stride;
    }
    if (!views) ad_report_no_memory(checker);
    return views;
}

static ad_status same_rows(ad_checker *checker, const char *law, bool results, const double *at_once,
                           const double *each) {
    const int64_t stride = results ? checker->outputs : checker->inputs;
    ad_status status = AD_OK;
    for (int s = 0; s < SEEDS && !status; s++)
        status = ad_compare(checker, law, results, 1e-11, at_once + s * stride, "for several at once",
                            each + s * stride, "for each alone");
    return status;
}

/* Of result k in the recording that there is. */
static ad_status pull_at_once(ad_checker *checker, int k, double *seeds, double *gradients) {
    const ad_part *result = &checker->result[k];
    int n;
    ad_view y_bar = ad_view_of(seeds + result->first, AD_F64, AD_SHAPE(SEEDS, result->count));
    y_bar.stride[0] = checker->outputs;
    const ad_view *x_bar = views_of_floats(checker, checker->subject->n, checker->input, checker->x, gradients,
                                           checker->inputs, &n, checker->target);
    if (!x_bar) return AD_ERR_OOM;
    ad_backward_batch_at(NULL, checker->y[k], &y_bar, n, checker->target, x_bar);
    return ad_tape_status(checker->tape) ? ad_report_tape(checker) : AD_OK;
}

/* Also by ops without .batches, which go back for one seed after the other. */
static ad_status cotangents_at_once(ad_checker *checker, const char *law) {
    if (checker->subject->no_gradient || checker->inputs == 0) return AD_OK;
    double *seeds = ad_checker_numbers(checker, SEEDS * checker->outputs),
           *gradients = ad_checker_numbers(checker, SEEDS * checker->inputs),
           *each = ad_checker_numbers(checker, SEEDS * checker->inputs);
    ad_status status = seeds && gradients && each ? AD_OK : AD_ERR_OOM;
    for (int k = 0; k < checker->results && !status; k++) {
        const ad_part *part = &checker->result[k];
        if (!ad_dtype_is_float(part->dtype)) continue;
        memset(seeds, 0, (size_t)(SEEDS * checker->outputs) * sizeof *seeds);
        draw_seeds(seeds + part->first, checker->outputs, part->count, checker->weight + part->first);
        for (int s = 0; s < SEEDS && !status; s++) {
            const ad_way way = {.weight = seeds + s * checker->outputs, .only_result = 1 + k};
            status = ad_checker_gradient(checker, &way, each + s * checker->inputs);
        }
        if (!status) status = pull_at_once(checker, k, seeds, gradients);
        if (!status) status = same_rows(checker, law, false, gradients, each);
    }
    return status;
}

static ad_status push_at_once(ad_checker *checker, double *seeds, double *moved) {
    int n, m;
    const ad_view *x_dot = views_of_floats(checker, checker->subject->n, checker->input, checker->x, seeds,
                                           checker->inputs, &n, checker->target);
    const ad_view *y_dot = views_of_floats(checker, checker->results, checker->result, checker->y, moved,
                                           checker->outputs, &m, checker->again);
    if (!x_dot || !y_dot) return AD_ERR_OOM;
    ad_pushforward_batch_at(NULL, n, checker->target, x_dot, m, checker->again, y_dot);
    return ad_tape_status(checker->tape) ? ad_report_tape(checker) : AD_OK;
}

static ad_status tangents_at_once(ad_checker *checker, const char *law) {
    if (checker->subject->no_gradient || checker->inputs == 0 || checker->float_outputs == 0) return AD_OK;
    double *seeds = ad_checker_numbers(checker, SEEDS * checker->inputs),
           *moved = ad_checker_numbers(checker, SEEDS * checker->outputs),
           *each = ad_checker_numbers(checker, SEEDS * checker->outputs),
           *output = ad_checker_numbers(checker, checker->outputs);
    ad_status status = seeds && moved && each && output ? AD_OK : AD_ERR_OOM;
    if (status) return status;
    draw_seeds(seeds, checker->inputs, checker->inputs, checker->center);
    for (int s = 0; s < SEEDS && !status; s++)
        status = ad_checker_push(checker, &(ad_way){0}, seeds + s * checker->inputs, each + s * checker->outputs);
    if (!status) status = ad_checker_output(checker, &(ad_way){0}, output); /* a recording to push along */
    if (!status) status = push_at_once(checker, seeds, moved);
    return status ? status : same_rows(checker, law, true, moved, each);
}

/* ---- what is saved ---------------------------------------------------------------------------------------------- */

/* An op whose backward sees everything but one value, which is NaN (an integer: 0) instead. */
typedef struct ad_blindfolded {
    ad_op op;
    const ad_op *original;
    int input, result; /* which one; -1: none */
} ad_blindfolded;

static ad_status hide(ad_call *call, ad_view *view) {
    int64_t count = ad_view_count(view);
    size_t size = ad_dtype_size(view->dtype);
    char *data = ad_scratch(call, (size_t)count * size + 1);
    if (!data) return AD_ERR_OOM;
    for (int64_t i = 0; i < count; i++) ad_element_set(data + (size_t)i * size, view->dtype, NAN);
    *view = ad_view_of(data, view->dtype, view->shape);
    return AD_OK;
}

static ad_status blindfolded_backward(ad_call *call, ad_adjoint *adjoint) {
    const ad_blindfolded *self = (const void *)call->op;
    ad_call changed = *call;
    ad_status status = AD_OK;
    const ad_view **in = ad_scratch(call, (size_t)call->inputs * sizeof *in);
    ad_view hidden;
    if (!in) return AD_ERR_OOM;
    changed.in = in;
    for (int i = 0; i < call->inputs; i++) in[i] = call->in[i];
    if (self->input >= 0) {
        hidden = *in[self->input];
        status = hide(call, &hidden);
        in[self->input] = &hidden;
    }
    if (self->result >= 0) status = hide(call, &changed.out[self->result]);
    changed.op = self->original;
    return status ? status : self->original->backward(&changed, adjoint);
}

static ad_blindfolded blindfold(const ad_op *op, int input, int result) {
    ad_blindfolded copy = {.op = *op, .original = op, .input = input, .result = result};
    copy.op.backward = blindfolded_backward;
    copy.op.scalar = NULL;
    copy.op.flat = NULL;
    copy.op.saves = AD_SAVES_INPUTS;
    for (int k = 0; k < ad_op_results(op); k++) copy.op.saves |= AD_SAVES_RESULT(k);
    return copy;
}

static ad_status blind_gradient(ad_checker *checker, const ad_op *op, double *gradient) {
    ad_subject subject = *checker->subject;
    subject.op = op;
    ad_status status = ad_checker_gradient(checker, &(ad_way){.subject = &subject}, gradient);
    ad_tape_reset(checker->tape);
    return status;
}

static ad_status reads_undeclared(ad_checker *checker, const char *law, const char *kind, int k) {
    return ad_report_broken(checker, law,
                            "its .backward reads the value of %s %d, which .saves does not declare: it will be NULL",
                            kind, k);
}

/* The scalar rule with NaN for what is not saved. */
static ad_status scalar_saves(ad_checker *checker, const char *law) {
    const ad_op *op = checker->subject->op;
    if (!op->scalar || checker->outputs != 1 || checker->inputs != op->inputs) return AD_OK;
    double a = checker->center[0], b = op->inputs == 2 ? checker->center[1] : 0, y = checker->output[0];
    bool sees_b = op->inputs == 2 && ad_op_saves_input(op, 1);
    ad_pair seeing = op->scalar->adjoint(1, a, b, y, checker->subject->attrs);
    ad_pair blind = op->scalar->adjoint(1, ad_op_saves_input(op, 0) ? a : NAN, sees_b ? b : NAN,
                                        ad_op_saves_result(op, 0) ? y : NAN, checker->subject->attrs);
    checker->report->compared += op->inputs;
    if (memcmp(&seeing, &blind, sizeof seeing) == 0) return AD_OK;
    return ad_report_broken(checker, law, "its .scalar->adjoint reads a value that .saves does not declare");
}

/* A .vjp that reads more than .saves declares is refused; a .backward would find NULL. It is tried before it is run
 * without this protection. */
static ad_status saves_what_it_reads(ad_checker *checker, const char *law) {
    const ad_op *op = checker->subject->op;
    if (!op->backward || checker->float_outputs == 0) return scalar_saves(checker, law);
    double *seeing = ad_checker_numbers(checker, checker->inputs),
           *blind = ad_checker_numbers(checker, checker->inputs);
    if (!seeing || !blind) return AD_ERR_OOM;
    ad_blindfolded open = blindfold(op, -1, -1);
    ad_status status = blind_gradient(checker, &open.op, seeing);
    size_t bytes = (size_t)checker->inputs * sizeof *seeing;
    for (int i = 0; i < checker->subject->n && !status; i++) {
        if (ad_op_saves_input(op, i)) continue;
        ad_blindfolded shut = blindfold(op, i, -1);
        status = blind_gradient(checker, &shut.op, blind);
        checker->report->compared += checker->inputs;
        if (!status && memcmp(seeing, blind, bytes) != 0) status = reads_undeclared(checker, law, "input", i);
    }
    for (int k = 0; k < ad_op_results(op) && !status; k++) {
        if (ad_op_saves_result(op, k)) continue;
        ad_blindfolded shut = blindfold(op, -1, k);
        status = blind_gradient(checker, &shut.op, blind);
        checker->report->compared += checker->inputs;
        if (!status && memcmp(seeing, blind, bytes) != 0) status = reads_undeclared(checker, law, "result", k);
    }
    return status ? status : scalar_saves(checker, law);
}

/* ---- which elements depend on which ------------------------------------------------------------------------------- */

static bool has_column(const ad_column_set *set, int64_t column) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->column[i] == column) return true;
    return false;
}

/* The gradient of number `output` of the results alone is 0 but for the columns. */
static ad_status depends_on_no_others(ad_checker *checker, const char *law, int64_t output,
                                      const ad_column_set *columns, double *weight, double *gradient) {
    weight[output] = 1;
    ad_status status = ad_checker_gradient(checker, &(ad_way){.weight = weight}, gradient);
    weight[output] = 0;
    char of[AD_PLACE_TEXT], by[AD_PLACE_TEXT];
    for (int64_t i = 0; i < checker->inputs && !status; i++, checker->report->compared++)
        if (gradient[i] != 0 && !has_column(columns, i))
            status = ad_report_broken(checker, law, "%s depends on %s, which its .depends does not say",
                                      ad_place_text(checker, true, output, of), ad_place_text(checker, false, i, by));
    return status;
}

/* What the op says, of its float inputs and results as they were recorded last. */
static bool read_dependence(ad_checker *checker, ad_dependence_rows *rows) {
    int n = 0, m = 0;
    for (int i = 0; i < checker->subject->n; i++)
        if (ad_dtype_is_float(checker->input[i].dtype)) checker->target[n++] = checker->x[i];
    for (int k = 0; k < checker->results; k++)
        if (ad_dtype_is_float(checker->result[k].dtype)) checker->again[m++] = checker->y[k];
    return ad_tape_depends(checker->tape, "ad_op_check", NULL, n, checker->target, m, checker->again, rows);
}

static ad_status depends_as_it_says(ad_checker *checker, const char *law) {
    if (!checker->subject->op->depends || checker->float_outputs == 0 || checker->inputs == 0) return AD_OK;
    double *weight = ad_checker_numbers(checker, checker->outputs),
           *gradient = ad_checker_numbers(checker, checker->inputs);
    ad_dependence_rows rows;
    if (!weight || !gradient) return AD_ERR_OOM;
    ad_status status = ad_checker_output(checker, &(ad_way){0}, weight);
    if (status) return status;
    if (!read_dependence(checker, &rows)) return ad_report_tape(checker);
    memset(weight, 0, (size_t)checker->outputs * sizeof *weight);
    int64_t row = 0;
    for (int k = 0; k < checker->results; k++) {
        const ad_part *part = &checker->result[k];
        for (int64_t e = 0; e < part->count && ad_dtype_is_float(part->dtype) && !status; e++)
            status = depends_on_no_others(checker, law, part->first + e, rows.row[row++], weight, gradient);
    }
    ad_arena_close(&rows.memory);
    return status;
}

/* ---- memory and precision --------------------------------------------------------------------------------------- */

static ad_status any_strides(ad_checker *checker, const char *law) {
    static const ad_layout layouts[] = {
        {.text = "with arrays in column-major order, spaced out", .column_major = true, .step = 2},
        {.text = "with arrays in column-major order", .column_major = true, .step = 1},
        {.text = "with arrays in a larger one", .step = 1},
        {.text = "with arrays that run backwards", .step = -1},
    };
    ad_status status = AD_OK;
    for (size_t k = 0; k < sizeof layouts / sizeof *layouts && !status; k++) {
        uint64_t position = ad_arena_position(&checker->memory);
        ad_way way = {.text = layouts[k].text, .layout = &layouts[k]};
        status = same_in_a_way(checker, law, 1e-10, &way, "with row-major ones");
        ad_arena_rewind(&checker->memory, position);
    }
    return status;
}

/* An op that takes f64 only is left alone; one whose derivative does is not. */
static ad_status f32_agrees(ad_checker *checker, const char *law) {
    const double tolerance = 2e-5;
    ad_way way = {.text = "in f32", .f32 = true};
    ad_check_report before = *checker->report;
    ad_status status = same_output(checker, law, tolerance, &way, "in f64");
    if (status == AD_ERR_DTYPE) {
        *checker->report = before;
        return AD_OK;
    }
    return status ? status : same_gradient(checker, law, tolerance, &way, "in f64");
}

/* Inputs and cotangents that are one slice, seen many times. */
static ad_status repeated_slices(ad_checker *checker, const char *law) {
    static const ad_layout repeated = {.text = "with arrays stretched along axis 0", .repeated = true, .step = 1};
    double *weight = ad_checker_numbers(checker, checker->outputs);
    if (!weight) return AD_ERR_OOM;
    for (int k = 0; k < checker->results; k++) {
        const ad_part *part = &checker->result[k];
        int64_t slice = part->shape.rank && part->count ? part->count / part->shape.dim[0] : 1;
        for (int64_t i = 0; i < part->count; i++) weight[part->first + i] = checker->weight[part->first + i % slice];
    }
    ad_way way = {.text = repeated.text, .layout = &repeated, .weight = weight};
    return same_in_a_way(checker, law, 1e-10, &way, "with row-major ones");
}

/* ---- ops without a derivative ----------------------------------------------------------------------------------- */

static ad_status output_is_the_same_again(ad_checker *checker, const char *law) {
    double *output = ad_checker_numbers(checker, checker->outputs);
    if (!output) return AD_ERR_OOM;
    ad_status status = ad_checker_output(checker, &(ad_way){0}, output);
    return status ? status
                  : ad_compare(checker, law, true, 0, output, "on the second run", checker->output, "on the first");
}

static ad_status stops_the_gradient(ad_checker *checker, const char *law) {
    char place[AD_PLACE_TEXT];
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_status status = ad_checker_gradient(checker, &(ad_way){.recorded = recorded}, checker->analytic);
        if (status) return status;
        for (int64_t i = 0; i < checker->inputs; i++, checker->report->compared++)
            if (checker->analytic[i] != 0)
                return ad_report_broken(checker, law, "%s gets a gradient of %.9g",
                                        ad_place_text(checker, false, i, place), checker->analytic[i]);
    }
    return AD_OK;
}

/* Recording with leaves, or walking back from a result that is an integer, must be refused. */
static ad_status refuses_a_gradient(ad_checker *checker, const char *law) {
    const ad_subject *subject = checker->subject;
    bool any_float = false;
    ad_tape_reset(checker->tape);
    for (int i = 0; i < subject->n; i++) {
        any_float |= ad_dtype_is_float(checker->input[i].dtype);
        checker->x[i] = ad_leaf_tensor_at(NULL, checker->tape, NULL, checker->tensor[i]);
    }
    if (!any_float) return AD_OK;
    ad_status status = subject->record(subject, checker->tape, checker->x, checker->y)
                           ? ad_backward_with_at(NULL, checker->y[0], NULL)
                           : ad_tape_status(checker->tape);
    checker->report->compared++;
    if (status == AD_ERR_NOGRAD) return AD_OK;
    if (status) return ad_report_tape(checker);
    return ad_report_broken(checker, law, "a gradient can be asked for, but the op has no derivative");
}

/* ---- which hold when -------------------------------------------------------------------------------------------- */

/* Which laws hold for an op, in order: first what would make the others crash or mislead. */
static ad_status common_laws(ad_checker *checker, const char *law) {
    (void)law;
    return ad_check_common_laws(checker);
}

enum { max_laws = 8 };
static const ad_law laws_of[][max_laws + 1] = {
    [AD_DIFFERENTIABLE] = {{"saves what it reads", saves_what_it_reads},
                           {"", common_laws},
                           {"short cuts = general path", short_cuts},
                           {"fused backward = VJP", fused_backward},
                           {"many cotangents = each", cotangents_at_once},
                           {"many tangents = each", tangents_at_once},
                           {"depends as it says", depends_as_it_says},
                           {"any strides", any_strides}},
    [AD_STOPS_GRADIENT] = {{"the same on every run", output_is_the_same_again},
                           {"stops the gradient", stops_the_gradient},
                           {"any strides", any_strides}},
    [AD_NOT_DIFFERENTIABLE] = {{"the same on every run", output_is_the_same_again},
                               {"refuses a gradient", refuses_a_gradient},
                               {"any strides", any_strides}},
};

const ad_law *ad_op_laws(ad_derivative derivative) { return laws_of[derivative]; }

const ad_law ad_op_f32_laws[] = {{"f32 = f64", f32_agrees}, {NULL, NULL}};
const ad_law ad_op_repeated_laws[] = {{"stretched inputs", repeated_slices}, {NULL, NULL}};
