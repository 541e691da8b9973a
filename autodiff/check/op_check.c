/* ad_op_check: an op, on each of its samples. */
#include "autodiff/check/check.h"
#include "autodiff/tape/tape.h"

static int record_op(const ad_subject *self, ad_tape *tape, const ad_var *x, ad_var *y) {
    ad_apply_at(NULL, tape, self->op, self->n, x, self->attrs, y);
    return ad_tape_status(tape) ? 0 : ad_op_results(self->op);
}

/* ---- samples ---------------------------------------------------------------------------------------------------- */

/* "sample 2 (f64[3,4], f64[4]; axis 1)" */
static void describe(const ad_op *op, const ad_sample *sample, int number, char *text, size_t size) {
    char type[AD_TYPE_TEXT];
    size_t length = 0;
    text[0] = '\0';
    ad_text_add(text, size, &length, "sample %d (", number);
    for (int i = 0; i < sample->inputs; i++) {
        const ad_view *view = ad_tensor_view(sample->input[i]);
        ad_text_add(text, size, &length, "%s%s", i ? ", " : "", ad_type_text(view->dtype, &view->shape, type));
    }
    if (op->show_attrs) {
        char attrs[128] = "";
        op->show_attrs(&sample->attrs, attrs, sizeof attrs);
        ad_text_add(text, size, &length, "; %s", attrs);
    }
    ad_text_add(text, size, &length, ")");
}

/* One sample, being checked. */
typedef struct ad_sampled {
    const ad_op *op;
    const ad_check_options *options;
    ad_check_report *report;
    ad_sample sample;
    int number;
    bool says_something; /* some sample has what there is to check */
} ad_sampled;

static ad_status check_at(ad_sampled *s, const ad_view *x, const ad_law *laws) {
    char setting[256];
    ad_subject subject = {.record = record_op, .n = s->sample.inputs, .op = s->op, .attrs = &s->sample.attrs};
    subject.no_gradient = s->op->derivative == AD_NOT_DIFFERENTIABLE;
    describe(s->op, &s->sample, s->number, setting, sizeof setting);
    ad_checker checker;
    ad_status status = ad_checker_open(&checker, &subject, x, s->options, s->report, setting);
    s->says_something |= subject.no_gradient ? checker.outputs > 0 : checker.inputs > 0 && checker.float_outputs > 0;
    if (!status) status = ad_check_laws(&checker, laws);
    ad_checker_close(&checker);
    return status;
}

/* Repeating a slice may leave the op's domain; then this says nothing. */
static ad_status check_repeated(ad_sampled *s, const ad_view *x) {
    ad_check_report before = *s->report;
    ad_view slice[AD_MAX_SAMPLE_INPUTS];
    bool any = false;
    for (int i = 0; i < s->sample.inputs; i++) {
        slice[i] = x[i];
        if (x[i].shape.rank == 0 || x[i].shape.dim[0] < 2) continue;
        slice[i].stride[0] = 0;
        any = true;
    }
    ad_status status = any ? check_at(s, slice, ad_op_repeated_laws) : AD_OK;
    if (status == AD_OK || status == AD_ERR_CHECK || status == AD_ERR_OOM) return status;
    *s->report = before;
    return AD_OK;
}

/* Draws sample number `number`; false in *more if there is none. */
static ad_status draw(ad_sampled *s, int number, ad_dtype dtype, bool *more) {
    s->number = number;
    s->sample = (ad_sample){.rng = {s->options->seed, (uint64_t)number << 32}, .dtype = dtype};
    s->sample.allocator = s->options->allocator;
    *more = s->op->sample(&s->sample, number);
    if (*more || s->sample.error.status) s->report->sample = number;
    if (s->sample.error.status)
        return ad_report_error(s->report, s->sample.error.status, "%s, sample %d: %s", s->report->subject, number,
                               s->sample.error.message);
    return AD_OK;
}

static ad_status check_sample(ad_sampled *s, int number, ad_dtype dtype, bool *more) {
    ad_view x[AD_MAX_SAMPLE_INPUTS];
    ad_status status = draw(s, number, dtype, more);
    for (int i = 0; i < s->sample.inputs; i++) x[i] = *ad_tensor_view(s->sample.input[i]);
    if (!status && *more) status = check_at(s, x, dtype == AD_F32 ? ad_op_f32_laws : ad_op_laws(s->op->derivative));
    if (!status && *more && dtype == AD_F64) status = check_repeated(s, x);
    for (int i = 0; i < s->sample.inputs; i++) ad_tensor_unref(s->sample.input[i]);
    return status;
}

static ad_status check_samples(ad_sampled *s) {
    enum { too_many = 1000 };
    const char *name = s->report->subject;
    bool more = true, more_f32;
    ad_status status = AD_OK;
    for (int number = 0; more && !status && number < too_many; number++) {
        status = check_sample(s, number, AD_F64, &more);
        if (!status && more) status = check_sample(s, number, AD_F32, &more_f32);
    }
    if (status) return status;
    if (more)
        return ad_report_error(s->report, AD_ERR_OP,
                               "%s: .sample made %d samples: it must return false past the last", name, too_many);
    if (s->says_something) return AD_OK;
    return ad_report_error(s->report, AD_ERR_CHECK, "%s: nothing was checked: no sample has %s with elements", name,
                           s->op->derivative == AD_DIFFERENTIABLE ? "a float input and a float result" : "a result");
}

ad_status ad_op_check(const ad_op *op, const ad_check_options *options, ad_check_report *report) {
    ad_check_report own;
    ad_check_options complete;
    ad_error error = {AD_OK, ""};
    if (!report) report = &own;
    ad_report_begin(report, op ? op->name : NULL);
    if (!op || !op->name)
        return ad_report_error(report, AD_ERR_NULL, "ad_op_check: the op%s is NULL", op ? "'s name" : "");
    ad_status status = ad_check_open_options(options, &complete, report);
    if (status) return status;
    status = ad_op_validate(op, complete.allocator, &error);
    if (status) return ad_report_error(report, status, "%s", error.message);
    return check_samples(&(ad_sampled){.op = op, .options = &complete, .report = report});
}
