/* The laws that hold for every subject. */
#include "autodiff/check/check.h"

#include <math.h>
#include <string.h>

/* Two ways to compute a gradient in f64 differ by rounding only; sums may be in another order. */
static const double exact = 1e-10;

/* Once each: other samples keep the same laws. */
static void law_held(ad_check_report *report, const char *name) {
    for (int i = 0; i < report->laws; i++)
        if (report->held[i] == name) return;
    if (report->laws < AD_CHECK_MOST_LAWS) report->held[report->laws++] = name;
}

ad_status ad_check_laws(ad_checker *checker, const ad_law *laws) {
    ad_status status = AD_OK;
    for (; laws->name && !status; laws++) {
        uint64_t position = ad_arena_position(&checker->memory);
        int64_t compared = checker->report->compared;
        status = laws->check(checker, laws->name);
        if (!status && *laws->name && checker->report->compared > compared) law_held(checker->report, laws->name);
        ad_arena_rewind(&checker->memory, position);
    }
    return status;
}

/* The gradient computed in a way must be `expected`. */
static ad_status compare_way(ad_checker *checker, const char *law, double tolerance, const ad_way *way,
                             const double *expected, const char *expected_text) {
    double *gradient = ad_checker_numbers(checker, checker->inputs);
    if (!gradient) return AD_ERR_OOM;
    ad_status status = ad_checker_gradient(checker, way, gradient);
    if (status) return status;
    return ad_compare(checker, law, false, tolerance, gradient, way->text, expected, expected_text);
}

static ad_status must_be_numbers(ad_checker *checker, const char *law) {
    char place[AD_PLACE_TEXT];
    for (int64_t i = 0; i < checker->outputs; i++)
        if (isnan(checker->output[i]))
            return ad_report_broken(checker, law,
                                    "%s is NaN at the point itself: keep it inside the function's domain",
                                    ad_place_text(checker, true, i, place));
    return AD_OK;
}

/* Before all others: nothing else makes sense of a function that changes from call to call. */
static ad_status same_on_every_run(ad_checker *checker, const char *law) {
    double *output = ad_checker_numbers(checker, checker->outputs);
    double *gradient = ad_checker_numbers(checker, checker->inputs);
    if (!output || !gradient) return AD_ERR_OOM;
    ad_status status = ad_checker_output(checker, &(ad_way){0}, output);
    if (!status)
        status = ad_compare(checker, law, true, 0, output, "on the second run", checker->output, "on the first");
    if (!status) status = ad_checker_gradient(checker, &(ad_way){0}, checker->analytic);
    if (!status) status = ad_checker_gradient(checker, &(ad_way){0}, gradient);
    if (status) return status;
    return ad_compare(checker, law, false, 0, gradient, "on the second run", checker->analytic, "on the first");
}

static ad_status recorded(ad_checker *checker, const char *law) {
    ad_way way = {.text = "recorded by ad_grad", .recorded = true};
    return compare_way(checker, law, exact, &way, checker->analytic, "by ad_backward");
}

static ad_status zero_for_a_zero_seed(ad_checker *checker, const char *law) {
    double *zeros = ad_checker_numbers(checker, checker->outputs),
           *gradient = ad_checker_numbers(checker, checker->inputs);
    char place[AD_PLACE_TEXT];
    if (!zeros || !gradient) return AD_ERR_OOM;
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_status status = ad_checker_gradient(checker, &(ad_way){.weight = zeros, .recorded = recorded}, gradient);
        if (status) return status;
        for (int64_t i = 0; i < checker->inputs; i++, checker->report->compared++)
            if (gradient[i] != 0)
                return ad_report_broken(checker, law, "for a cotangent of 0 the gradient of %s is %.9g, not 0%s",
                                        ad_place_text(checker, false, i, place), gradient[i],
                                        recorded ? " (recorded by ad_grad)" : "");
    }
    return AD_OK;
}

static ad_status linear_in_the_seed(ad_checker *checker, const char *law) {
    const double a = -1.75, b = 0.625;
    double *seed = ad_checker_numbers(checker, checker->outputs),
           *sum = ad_checker_numbers(checker, checker->outputs);
    double *expected = ad_checker_numbers(checker, checker->inputs);
    if (!seed || !sum || !expected) return AD_ERR_OOM;
    for (int64_t i = 0; i < checker->outputs; i++) {
        seed[i] = ad_rng_normal(&checker->rng);
        sum[i] = a * checker->weight[i] + b * seed[i];
    }
    ad_status status = ad_checker_gradient(checker, &(ad_way){.weight = seed}, expected);
    if (status) return status;
    for (int64_t i = 0; i < checker->inputs; i++) expected[i] = a * checker->analytic[i] + b * expected[i];
    ad_way way = {.text = "for the sum of two cotangents", .weight = sum};
    return compare_way(checker, law, exact, &way, expected, "as the sum of their gradients");
}

/* A cotangent of one result at a time, the others having none. */
static ad_status each_result_alone(ad_checker *checker, const char *law) {
    double *sum = ad_checker_numbers(checker, checker->inputs), *one = ad_checker_numbers(checker, checker->inputs);
    if (!sum || !one) return AD_ERR_OOM;
    for (int recorded = 0; recorded < 2 && checker->results > 1; recorded++) {
        memset(sum, 0, (size_t)checker->inputs * sizeof *sum);
        for (int k = 0; k < checker->results; k++) {
            if (!ad_dtype_is_float(checker->result[k].dtype)) continue;
            ad_status status = ad_checker_gradient(checker, &(ad_way){.only_result = 1 + k, .recorded = recorded},
                                                   one);
            if (status) return status;
            for (int64_t i = 0; i < checker->inputs; i++) sum[i] += one[i];
        }
        ad_status status = ad_compare(checker, law, false, exact, sum, "as the sum over single results",
                                      checker->analytic, "from all results together");
        if (status) return status;
    }
    return AD_OK;
}

static ad_status each_input_alone(ad_checker *checker, const char *law) {
    double *expected = ad_checker_numbers(checker, checker->inputs);
    if (!expected) return AD_ERR_OOM;
    for (int k = 0; k < checker->subject->n; k++) {
        const ad_part *part = &checker->input[k];
        if (part->count == 0 || part->count == checker->inputs) continue;
        memset(expected, 0, (size_t)checker->inputs * sizeof *expected);
        memcpy(expected + part->first, checker->analytic + part->first, (size_t)part->count * sizeof *expected);
        for (int recorded = 0; recorded < 2; recorded++) {
            ad_way way = {.text = "when the other inputs are constants", .only_input = 1 + k, .recorded = recorded};
            ad_status status = compare_way(checker, law, exact, &way, expected, "when they are not");
            if (status) return status;
        }
    }
    return AD_OK;
}

static ad_status adds_up(ad_checker *checker, const char *law) {
    double *expected = ad_checker_numbers(checker, checker->inputs);
    if (!expected) return AD_ERR_OOM;
    for (int64_t i = 0; i < checker->inputs; i++) expected[i] = 2 * checker->analytic[i];
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_way way = {.text = "of two applications on the same inputs", .twice = true, .recorded = recorded};
        ad_status status = compare_way(checker, law, exact, &way, expected, "as twice that of one");
        if (status) return status;
    }
    return AD_OK;
}

/* ---- forward mode ----------------------------------------------------------------------------------------------- */

/* <a, b>, and the sum of the terms' sizes is added to *size. */
static double inner_product(const double *a, const double *b, int64_t count, double *size) {
    long double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += (long double)a[i] * b[i];
        *size += fabs(a[i] * b[i]);
    }
    return (double)sum;
}

/* <w, J v> = <J^T w, v>, for tangents v of one input, or of all (`input` -1). */
static ad_status transposes_agree(ad_checker *checker, const char *law, int input, const double *v, double *moved) {
    int64_t from = input < 0 ? 0 : checker->input[input].first;
    int64_t count = input < 0 ? checker->inputs : checker->input[input].count;
    if (count == 0) return AD_OK;
    ad_status status = ad_checker_push(checker, &(ad_way){.only_input = input + 1}, v, moved);
    if (status) return status;
    double size = 0, forward = inner_product(checker->weight, moved, checker->outputs, &size);
    double backward = inner_product(checker->analytic + from, v + from, count, &size);
    checker->report->compared++;
    double excess = forward == backward ? 0 : fabs(forward - backward) / (exact * size);
    checker->report->worst = fmax(checker->report->worst, excess);
    if (excess <= 1) return AD_OK;
    char which[32] = "all inputs";
    size_t length = 0;
    if (input >= 0) ad_text_add(which, sizeof which, &length, "input %d", input);
    ad_report_broken(checker, law,
                     "when %s move%s along v, the result moves by <w, J v> = %.12g (by its JVP), but "
                     "<J^T w, v> = %.12g (by backward)",
                     which, input < 0 ? "" : "s", forward, backward);
    ad_report_cause(checker, from, forward, backward, NULL, NULL);
    return AD_ERR_CHECK;
}

static ad_status forward_mode(ad_checker *checker, const char *law) {
    double *v = ad_checker_numbers(checker, checker->inputs), *moved = ad_checker_numbers(checker, checker->outputs);
    if (!v || !moved) return AD_ERR_OOM;
    for (int64_t i = 0; i < checker->inputs; i++) v[i] = ad_rng_normal(&checker->rng);
    ad_status status = AD_OK;
    for (int input = checker->subject->n - 1; input >= -1 && !status; input--)
        status = transposes_agree(checker, law, input, v, moved);
    return status;
}

/* ---- one variable as two inputs --------------------------------------------------------------------------------- */

static bool all_finite(const double *numbers, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(numbers[i])) return false;
    return true;
}

static void set_input(ad_checker *checker, const ad_part *to, const double *from) {
    ad_tape_reset(checker->tape);
    memcpy(checker->value + to->first, from, (size_t)to->count * sizeof *from);
}

/* Input p becomes input q: its gradient is then the sum of what they have apart, at the same values. */
static ad_status alias(ad_checker *checker, const char *law, int p, int q) {
    const ad_part *from = &checker->input[p], *to = &checker->input[q];
    double *expected = ad_checker_numbers(checker, checker->inputs),
           *got = ad_checker_numbers(checker, checker->inputs);
    if (!expected || !got) return AD_ERR_OOM;
    ad_check_report before = *checker->report;
    ad_status status = ad_checker_gradient(checker, &(ad_way){0}, expected);
    if (status == AD_ERR_OOM) return status;
    /* The values of one input may lie outside the domain of the other: then this says nothing. */
    if (status || !all_finite(expected, checker->inputs)) {
        *checker->report = before;
        return AD_OK;
    }
    for (int64_t i = 0; i < to->count; i++) {
        expected[to->first + i] += expected[from->first + i];
        expected[from->first + i] = 0;
    }
    for (int recorded = 0; recorded < 2; recorded++) {
        ad_way way = {.alias = p, .alias_of = q, .recorded = recorded};
        status = ad_checker_gradient(checker, &way, got);
        if (status) return status;
        for (int64_t i = 0; i < from->count; i++) got[from->first + i] = 0; /* the same variable again */
        status = ad_compare(checker, law, false, exact, got, "when two inputs are this one variable", expected,
                            "as the sum over both");
        if (status) return status;
    }
    return AD_OK;
}

/* The next input of the same shape; -1: none. */
static int next_alike(const ad_checker *checker, int p) {
    const ad_part *part = &checker->input[p];
    for (int q = p + 1; q < checker->subject->n && part->count > 0; q++)
        if (checker->input[q].count > 0 && ad_shape_equal(&checker->input[q].shape, &part->shape)) return q;
    return -1;
}

static ad_status inputs_may_be_one(ad_checker *checker, const char *law) {
    ad_status status = AD_OK;
    for (int p = 0; p < checker->subject->n && !status; p++) {
        int pair[] = {p, next_alike(checker, p)};
        for (int k = 0; k < 2 && pair[1] >= 0 && !status; k++) {
            const ad_part *from = &checker->input[pair[k]], *to = &checker->input[pair[1 - k]];
            set_input(checker, from, checker->center + to->first);
            status = alias(checker, law, pair[k], pair[1 - k]);
            set_input(checker, from, checker->center + from->first);
        }
    }
    return status;
}

/* ---- second order ----------------------------------------------------------------------------------------------- */

/* The gradient of the inner subject, as a function of its inputs and of the cotangents of its results. */
static int record_gradient(const ad_subject *self, ad_tape *tape, const ad_var *x, ad_var *y) {
    const ad_subject *inner = self->inner;
    ad_var result[AD_MAX_RESULTS], cotangents[AD_MAX_RESULTS], seed;
    int results = inner->record(inner, tape, x, result), n = 0, used = inner->n;
    if (ad_tape_status(tape)) return 0;
    for (int k = 0; k < results; k++)
        cotangents[k] = ad_dtype_is_float(ad_value_at(NULL, result[k]).dtype) ? x[used++] : (ad_var){0};
    ad_var start = ad_checker_start(result, cotangents, results, 0, &seed);
    for (int i = 0; i < inner->n; i++)
        if (ad_dtype_is_float(ad_value_at(NULL, x[i]).dtype)) self->target[n++] = x[i];
    return ad_grad_at(NULL, start, seed, n, self->target, y) ? 0 : n;
}

static ad_status second_order(ad_checker *checker, const char *law) {
    const ad_subject *inner = checker->subject;
    if (checker->options->first_order_only || checker->float_outputs == 0 || checker->inputs == 0) return AD_OK;
    int n = inner->n + checker->results;
    ad_subject subject = {.record = record_gradient, .n = inner->n, .inner = inner};
    subject.target = ad_arena_take(&checker->memory, (size_t)inner->n * sizeof(ad_var));
    ad_view *x = ad_arena_take(&checker->memory, (size_t)n * sizeof *x);
    if (!subject.target || !x) return ad_report_no_memory(checker);
    for (int i = 0; i < inner->n; i++) x[i] = *ad_tensor_view(checker->tensor[i]);
    for (int k = 0; k < checker->results; k++) {
        const ad_part *part = &checker->result[k];
        if (!ad_dtype_is_float(part->dtype)) continue;
        x[subject.n++] = ad_view_of(checker->weight + part->first, AD_F64, part->shape);
    }
    ad_checker gradient;
    ad_status status = ad_checker_open(&gradient, &subject, x, checker->options, checker->report, checker->setting);
    if (!status) status = ad_checker_gradient(&gradient, &(ad_way){0}, gradient.analytic);
    if (!status) status = ad_check_differences(&gradient, law);
    ad_checker_close(&gradient);
    return status;
}

/* ---- all of them ------------------------------------------------------------------------------------------------ */

ad_status ad_check_common_laws(ad_checker *checker) {
    static const ad_law laws[] = {
        {"results are numbers", must_be_numbers},
        {"the same on every run", same_on_every_run},
        {"gradient = differences", ad_check_differences},
        {"backward = recorded VJP", recorded},
        {"zero for a zero seed", zero_for_a_zero_seed},
        {"linear in the seed", linear_in_the_seed},
        {"each result alone", each_result_alone},
        {"each input alone", each_input_alone},
        {"twice adds", adds_up},
        {"JVP = transpose of VJP", forward_mode},
        {"two inputs may be one variable", inputs_may_be_one},
        {"second order", second_order},
        {NULL, NULL},
    };
    return ad_check_laws(checker, laws);
}

ad_status ad_check_open_options(const ad_check_options *given, ad_check_options *options, ad_check_report *report) {
    *options = given ? *given : (ad_check_options){0};
    if (!options->allocator) options->allocator = ad_allocator_default();
    if (!(options->tolerance >= 0) || !isfinite(options->tolerance))
        return ad_report_error(report, AD_ERR_VALUE, "%s: .tolerance is %g; it must be at least 0", report->subject,
                               options->tolerance);
    if (options->directions < 0 || options->elements < 0 || (unsigned)options->mode > AD_CHECK_FAST)
        return ad_report_error(report, AD_ERR_VALUE, "%s: .mode is %d, .directions %d, .elements %d", report->subject,
                               (int)options->mode, options->directions, options->elements);
    if (options->tolerance == 0) options->tolerance = 1e-6;
    if (options->directions == 0) options->directions = 4;
    if (options->elements == 0) options->elements = 16;
    return AD_OK;
}
