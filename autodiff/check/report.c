/* What a check says. */
#include "autodiff/check/check.h"

#include <math.h>
#include <string.h>

void ad_report_begin(ad_check_report *report, const char *subject) {
    size_t length = 0;
    *report = (ad_check_report){.status = AD_OK, .law = "", .sample = -1};
    ad_text_add(report->subject, sizeof report->subject, &length, "%s", subject && *subject ? subject : "function");
}

static void add_v(ad_check_report *report, const char *format, va_list args) {
    size_t length = strlen(report->message);
    ad_text_add_v(report->message, sizeof report->message, &length, format, args);
}

void ad_report_add(ad_check_report *report, const char *format, ...) {
    va_list args;
    va_start(args, format);
    add_v(report, format, args);
    va_end(args);
}

ad_status ad_report_error(ad_check_report *report, ad_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    report->status = status;
    report->message[0] = '\0';
    add_v(report, format, args);
    va_end(args);
    return status;
}

ad_status ad_report_no_memory(ad_checker *checker) {
    return ad_report_error(checker->report, AD_ERR_OOM, "%s: out of memory for the check", checker->report->subject);
}

/* "mul, sample 2 (f64[3,4], f64[4]): " */
static void begin_message(ad_checker *checker, ad_status status) {
    ad_check_report *report = checker->report;
    ad_report_error(report, status, "%s", report->subject);
    if (checker->setting) ad_report_add(report, ", %s", checker->setting);
    ad_report_add(report, ": ");
}

ad_status ad_report_tape(ad_checker *checker) {
    ad_status status = ad_tape_status(checker->tape);
    begin_message(checker, status);
    ad_report_add(checker->report, "%s", ad_tape_error(checker->tape));
    if (status == AD_ERR_DTYPE && checker->subject->function)
        ad_report_add(checker->report, " (a check runs in f64: make constants of the dtype of the inputs)");
    return status;
}

ad_status ad_report_broken(ad_checker *checker, const char *law, const char *format, ...) {
    va_list args;
    va_start(args, format);
    begin_message(checker, AD_ERR_CHECK);
    ad_report_add(checker->report, "%s: ", law);
    add_v(checker->report, format, args);
    va_end(args);
    checker->report->law = law;
    return AD_ERR_CHECK;
}

/* ---- places ----------------------------------------------------------------------------------------------------- */

const ad_part *ad_part_of(const ad_part *parts, int64_t i) {
    while (i >= parts->first + parts->count) parts++;
    return parts;
}

static ad_shape index_of(const ad_shape *shape, int64_t i) {
    ad_shape at = {.rank = shape->rank, .dim = {0}};
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        at.dim[axis] = i % shape->dim[axis];
        i /= shape->dim[axis];
    }
    return at;
}

const char *ad_place_text(const ad_checker *checker, bool result, int64_t i, char text[AD_PLACE_TEXT]) {
    const ad_part *parts = result ? checker->result : checker->input, *part = ad_part_of(parts, i);
    const ad_subject *inner = checker->subject->inner;
    int k = (int)(part - parts);
    size_t length = 0;
    text[0] = '\0';
    if (inner && !result && k >= inner->n) {
        ad_text_add(text, AD_PLACE_TEXT, &length, "the cotangent of a result");
    } else {
        ad_text_add(text, AD_PLACE_TEXT, &length, "%s %d", result ? "result" : "input", k);
    }
    if (part->name) ad_text_add(text, AD_PLACE_TEXT, &length, " (%s)", part->name);
    if (part->shape.rank == 0) return text;
    ad_shape at = index_of(&part->shape, i - part->first);
    ad_text_add(text, AD_PLACE_TEXT, &length, " at ");
    ad_text_shape(text, AD_PLACE_TEXT, &length, &at);
    return text;
}

void ad_point_fill(const ad_checker *checker, int64_t i, ad_check_point *point) {
    const ad_part *part = ad_part_of(checker->input, i);
    size_t length = 0;
    point->input = (int)(part - checker->input);
    point->name[0] = '\0';
    if (part->name) ad_text_add(point->name, sizeof point->name, &length, "%s", part->name);
    point->element = i - part->first;
    point->at = index_of(&part->shape, point->element);
    point->x = checker->center[i];
}

/* ---- comparing -------------------------------------------------------------------------------------------------- */

/* The largest of what is finite. */
static double largest(const double *numbers, int64_t count) {
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        if (isfinite(numbers[i])) largest = fmax(largest, fabs(numbers[i]));
    return largest;
}

/* A difference in units of what is allowed. */
static double excess(double a, double b, double tolerance, double scale) {
    if (memcmp(&a, &b, sizeof a) == 0) return 0;
    double allowed = tolerance * fmax(fmax(fabs(a), fabs(b)), 0.05 * scale);
    double ratio = a == b && tolerance > 0 ? 0 : fabs(a - b) / allowed;
    return isnan(ratio) ? INFINITY : ratio;
}

ad_status ad_compare(ad_checker *checker, const char *law, bool results, double tolerance, const double *wrong,
                     const char *wrong_text, const double *right, const char *right_text) {
    int64_t count = results ? checker->outputs : checker->inputs, at = 0;
    /* A sum that cancels is as wrong as its terms, whose size is that of what went in. */
    double scale = results ? largest(checker->center, checker->inputs) : largest(checker->weight, checker->outputs);
    scale = fmax(scale, largest(right, count));
    double worst = 0;
    for (int64_t i = 0; i < count; i++) {
        double ratio = excess(wrong[i], right[i], tolerance, scale);
        if (ratio > worst) at = i;
        worst = fmax(worst, ratio);
    }
    checker->report->compared += count;
    checker->report->worst = fmax(checker->report->worst, worst);
    if (worst <= 1) return AD_OK;
    char place[AD_PLACE_TEXT];
    ad_report_broken(checker, law, "%s%s is %.12g %s, but %.12g %s", results ? "" : "the gradient of ",
                     ad_place_text(checker, results, at, place), wrong[at], wrong_text, right[at], right_text);
    if (results) return AD_ERR_CHECK;
    checker->report->has_point = true;
    ad_point_fill(checker, at, &checker->report->point);
    checker->report->point.analytic = wrong[at];
    checker->report->point.numeric = right[at];
    ad_report_cause(checker, at, wrong[at], right[at], wrong, right);
    return AD_ERR_CHECK;
}

/* ---- printing --------------------------------------------------------------------------------------------------- */

/* The message in lines: where and which law, what is wrong, the likely cause. */
static void print_message(const ad_check_report *report, FILE *stream) {
    static const char cause_begins[] = ". Likely cause: ";
    const char *text = report->message, *law = *report->law ? strstr(text, report->law) : NULL;
    if (law) {
        int head = (int)(law - text + (ptrdiff_t)strlen(report->law));
        fprintf(stream, "  %.*s\n", head, text);
        text += head + 2;
    }
    const char *cause = strstr(text, cause_begins);
    if (cause) {
        fprintf(stream, "  %.*s\n", (int)(cause - text), text);
        text = cause + 2;
    }
    fprintf(stream, "  %s\n", text);
}

ad_status ad_check_print(const ad_check_report *report, FILE *stream) {
    if (!report || !stream) return AD_ERR_NULL;
    bool is_right = report->status == AD_OK;
    const char *verdict = !is_right ? "WRONG" : report->compared ? "right" : "NOTHING COMPARED";
    if (report->status && report->status != AD_ERR_CHECK) verdict = ad_status_name(report->status);
    fprintf(stream, "%s: %s\n", report->subject, verdict);
    if (!is_right) print_message(report, stream);
    fprintf(stream, "  %lld numbers compared", (long long)report->compared);
    if (is_right && report->sample >= 0) fprintf(stream, " in %d samples", report->sample + 1);
    if (report->compared) fprintf(stream, "; the largest difference is %.2g of what is allowed", report->worst);
    fprintf(stream, "\n");
    if (report->kinks) {
        char at[AD_TYPE_TEXT] = "";
        size_t length = 0;
        ad_text_shape(at, sizeof at, &length, &report->kink.at);
        fprintf(stream, "  %lld kink%s, the first in input %d at %s: slopes %.6g and %.6g, derivative %.6g\n",
                (long long)report->kinks, report->kinks == 1 ? "" : "s", report->kink.input, at, report->kink.left,
                report->kink.right, report->kink.analytic);
    }
    return ferror(stream) ? AD_ERR_IO : AD_OK;
}
