/* ad_gradcheck: a user's function of variables. */
#include "autodiff/check/check.h"
#include "autodiff/tape/tape.h"

#include <string.h>

static int record_function(const ad_subject *self, ad_tape *tape, const ad_var *x, ad_var *y) {
    y[0] = self->function(tape, x, self->n, self->user);
    if (!ad_tape_check_var(tape, y[0], "the function", NULL, "its result")) return 0;
    if (ad_dtype_is_float((ad_dtype)ad_node_at(tape, y[0].index)->dtype)) return 1;
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(tape, y[0].index, true, text, sizeof text);
    ad_tape_fail(tape, AD_ERR_NOGRAD, "the function", NULL, "its result %s: integers have no derivative", text);
    return 0;
}

static ad_status check_arguments(ad_check_report *report, ad_check_function f, int n, ad_tensor *const *x) {
    bool any_float = false;
    if (!f || (!x && n > 0))
        return ad_report_error(report, AD_ERR_NULL, "%s: %s NULL", report->subject, f ? "x is" : "the function is");
    if (n < 1)
        return ad_report_error(report, AD_ERR_VALUE, "%s: n is %d, but a check needs an input", report->subject, n);
    for (int i = 0; i < n; i++) {
        if (!x[i]) return ad_report_error(report, AD_ERR_NULL, "%s: input %d is NULL", report->subject, i);
        any_float |= ad_dtype_is_float(ad_tensor_view(x[i])->dtype);
    }
    if (any_float) return AD_OK;
    return ad_report_error(report, AD_ERR_NOGRAD,
                           "%s: every input is an integer: there is nothing to differentiate by", report->subject);
}

static ad_status check_function(const ad_subject *subject, ad_tensor *const *x, const ad_check_options *options,
                                ad_check_report *report) {
    size_t bytes = (size_t)subject->n * sizeof(ad_view);
    ad_view *views = ad_allocate(options->allocator, bytes, _Alignof(ad_view));
    if (!views) return ad_report_error(report, AD_ERR_OOM, "%s: out of memory for the check", report->subject);
    for (int i = 0; i < subject->n; i++) views[i] = *ad_tensor_view(x[i]);
    ad_checker checker;
    ad_status status = ad_checker_open(&checker, subject, views, options, report, NULL);
    if (!status) status = ad_check_common_laws(&checker);
    ad_checker_close(&checker);
    ad_release(options->allocator, views, bytes);
    return status;
}

ad_status ad_gradcheck(const char *name, ad_check_function f, void *user, int n, ad_tensor *const *x,
                       const ad_check_options *options, ad_check_report *report) {
    ad_check_report own;
    ad_check_options complete;
    if (!report) report = &own;
    ad_report_begin(report, name);
    ad_status status = ad_check_open_options(options, &complete, report);
    if (!status) status = check_arguments(report, f, n, x);
    if (status) return status;
    ad_subject subject = {.record = record_function, .n = n, .function = f, .user = user};
    return check_function(&subject, x, &complete, report);
}
