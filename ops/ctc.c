/* Connectionist temporal classification, as a composition in log space (Graves et al. 2006, section 4.1).
 *
 * A path names a class or the blank at every step; without repetitions and blanks it is the target. With the target
 * spread to blank, t1, blank, t2, ..., blank, alpha[l] is the log-probability of all ways to have come to label l: from
 * l, from l - 1, or from l - 2 where that skips the blank between two different classes. */
#include "autodiff/tape/tape.h"
#include "ops/ops.h"

#include <math.h>

static const char loss[] = "ctc_loss";

typedef struct ctc {
    const char *where;
    ad_tape *tape;
    ad_var log_p;
    ad_dtype dtype;
    int64_t steps, examples, classes, longest, labels; /* labels: 2 longest + 1 */
    int64_t blank;
    ad_view target, step_count, length; /* [examples, longest], [examples], [examples] */
} ctc;

static int64_t integer_at(const ad_view *view, int64_t i) { return (int64_t)ad_view_get(view, i); }
static int64_t target_at(const ctc *c, int64_t example, int64_t k) {
    return integer_at(&c->target, example * c->longest + k);
}
static int64_t label_at(const ctc *c, int64_t example, int64_t l) {
    if (l % 2 == 0 || l / 2 >= integer_at(&c->length, example)) return c->blank;
    return target_at(c, example, l / 2);
}

/* ---- what does not fit --------------------------------------------------------------------------------------------- */

static bool fail(const ctc *c, ad_status status, const char *what, ad_var x, const char *wanted) {
    char text[AD_TYPE_TEXT + 128];
    ad_node_text(c->tape, x.index, true, text, sizeof text);
    ad_tape_fail(c->tape, status, loss, c->where, "%s: %s, but %s", what, text, wanted);
    return false;
}

static bool integers_fit(const ctc *c, const char *what, ad_var x, const ad_view *view, ad_shape shape) {
    char wanted[AD_TYPE_TEXT + 64], type[AD_TYPE_TEXT];
    size_t length = 0;
    if (!ad_dtype_is_float(view->dtype) && ad_shape_equal(&view->shape, &shape)) return true;
    ad_text_add(wanted, sizeof wanted, &length, "it must be %s", ad_type_text(AD_I64, &shape, type));
    return fail(c, AD_ERR_SHAPE, what, x, wanted);
}

static bool counts_fit(const ctc *c, const char *what, const ad_view *counts, int64_t least, int64_t most) {
    for (int64_t i = 0; i < c->examples; i++) {
        int64_t n = integer_at(counts, i);
        if (n >= least && n <= most) continue;
        ad_tape_fail(c->tape, AD_ERR_INDEX, loss, c->where, "%s of example %lld is %lld; it must be %lld to %lld",
                     what, (long long)i, (long long)n, (long long)least, (long long)most);
        return false;
    }
    return true;
}

static bool classes_fit(const ctc *c) {
    if (c->blank < 0 || c->blank >= c->classes) {
        ad_tape_fail(c->tape, AD_ERR_INDEX, loss, c->where, "the blank is %lld, but there are %lld classes",
                     (long long)c->blank, (long long)c->classes);
        return false;
    }
    for (int64_t i = 0; i < c->examples; i++)
        for (int64_t k = 0; k < integer_at(&c->length, i); k++) {
            int64_t class = target_at(c, i, k);
            if (class >= 0 && class < c->classes && class != c->blank) continue;
            ad_tape_fail(c->tape, AD_ERR_INDEX, loss, c->where,
                         "target [%lld,%lld] is %lld; it must be one of the %lld classes, and not the blank, %lld",
                         (long long)i, (long long)k, (long long)class, (long long)c->classes, (long long)c->blank);
            return false;
        }
    return true;
}

/* Reads the arguments into *c; false: the tape has the error. */
static bool open_ctc(ctc *c, ad_var target, ad_var step_count, ad_var length) {
    ad_tape *tape = c->tape;
    if (!ad_check_var(c->log_p, loss, c->where) || !ad_tape_check_var(tape, target, loss, c->where, "the target") ||
        !ad_tape_check_var(tape, step_count, loss, c->where, "the numbers of steps") ||
        !ad_tape_check_var(tape, length, loss, c->where, "the lengths of the targets"))
        return false;
    ad_view log_p = ad_value_at(c->where, c->log_p);
    c->target = ad_value_at(c->where, target);
    c->step_count = ad_value_at(c->where, step_count);
    c->length = ad_value_at(c->where, length);
    c->dtype = log_p.dtype;
    if (!ad_dtype_is_float(log_p.dtype) || log_p.shape.rank != 3)
        return fail(c, AD_ERR_SHAPE, "the log-probabilities", c->log_p, "they are floats [steps, examples, classes]");
    if (c->target.shape.rank != 2)
        return fail(c, AD_ERR_SHAPE, "the target", target, "it has two axes: [examples, longest]");
    c->steps = log_p.shape.dim[0], c->examples = log_p.shape.dim[1], c->classes = log_p.shape.dim[2];
    c->longest = c->target.shape.dim[1];
    if (__builtin_mul_overflow(c->longest, 2, &c->labels) || __builtin_add_overflow(c->labels, 1, &c->labels))
        return fail(c, AD_ERR_LIMIT, "the target", target, "twice its length overflows");
    return integers_fit(c, "the target", target, &c->target, AD_SHAPE(c->examples, c->longest)) &&
           integers_fit(c, "the numbers of steps", step_count, &c->step_count, AD_SHAPE(c->examples)) &&
           integers_fit(c, "the lengths of the targets", length, &c->length, AD_SHAPE(c->examples)) &&
           counts_fit(c, "the number of steps", &c->step_count, 1, c->steps) &&
           counts_fit(c, "the length of the target", &c->length, 0, c->longest) && classes_fit(c);
}

/* ---- constants, by example and label ------------------------------------------------------------------------------- */

typedef double (*rule)(const ctc *c, int64_t example, int64_t l);

/* Only the blank before the target, and its first class, can begin a path. */
static double may_begin(const ctc *c, int64_t example, int64_t l) {
    return l < 2 && l <= 2 * integer_at(&c->length, example) ? 0 : -INFINITY;
}
static double may_skip(const ctc *c, int64_t example, int64_t l) {
    bool skips = l % 2 == 1 && l > 2 && label_at(c, example, l) != label_at(c, example, l - 2);
    return skips ? 0 : -INFINITY;
}
/* The last class and the blank after it end a path. */
static double may_end(const ctc *c, int64_t example, int64_t l) {
    int64_t last = 2 * integer_at(&c->length, example);
    return l == last || l == last - 1 ? 0 : -INFINITY;
}
static double label(const ctc *c, int64_t example, int64_t l) { return (double)label_at(c, example, l); }

/* A constant [examples, labels]; an empty variable if there is no memory. */
static ad_var table(const ctc *c, ad_dtype dtype, rule entry) {
    ad_var x = ad_tape_filled(c->tape, c->where, &ad_leaf_constant, dtype, &AD_SHAPE(c->examples, c->labels), 0);
    if (!ad_var_is_valid(x)) return x;
    ad_view view = ad_value_at(c->where, x);
    for (int64_t i = 0; i < c->examples * c->labels; i++)
        ad_element_set((char *)view.data + (size_t)i * ad_dtype_size(dtype), dtype,
                       entry(c, i / c->labels, i % c->labels));
    return x;
}

/* ---- the recursion ------------------------------------------------------------------------------------------------- */

static int64_t fewest_steps(const ctc *c) {
    int64_t fewest = c->steps;
    for (int64_t i = 0; i < c->examples; i++)
        if (integer_at(&c->step_count, i) < fewest) fewest = integer_at(&c->step_count, i);
    return fewest;
}

/* The log-probabilities of the labels at a step, [examples, labels]. */
static ad_var emitted(const ctc *c, int64_t t, ad_var labels) {
    return ad_gather_at(c->where, ad_select_at(c->where, c->log_p, 0, t), 1, labels);
}

/* One label further down; two are in front, which nobody can be at. */
static ad_var shifted(const ctc *c, ad_var padded, int64_t by) {
    return ad_slice_at(c->where, padded, 1, 2 - by, 2 - by + c->labels, 1);
}

static ad_var arrive(const ctc *c, ad_var alpha, ad_var skips) {
    const char *where = c->where;
    ad_var padded = ad_pad_at(where, alpha, AD_SHAPE(0, 2), AD_SHAPE(0, 0), AD_PAD_CONSTANT, -INFINITY);
    ad_var stayed_or_next = ad_logaddexp_at(where, alpha, shifted(c, padded, 1));
    return ad_logaddexp_at(where, stayed_or_next, ad_add_at(where, shifted(c, padded, 2), skips));
}

ad_var ad_ctc_loss_at(const char *where, ad_var log_p, ad_var target, ad_var step_count, ad_var length,
                      int64_t blank) {
    ctc c = {.where = where, .tape = log_p.tape, .log_p = log_p, .blank = blank};
    if (!open_ctc(&c, target, step_count, length)) return ad_var_invalid(log_p.tape);
    ad_var labels = table(&c, AD_I64, label), skips = table(&c, c.dtype, may_skip);
    ad_var alpha = ad_add_at(where, emitted(&c, 0, labels), table(&c, c.dtype, may_begin));
    const int64_t fewest = fewest_steps(&c);
    for (int64_t t = 1; t < c.steps && ad_var_is_valid(alpha); t++) {
        ad_var next = ad_add_at(where, emitted(&c, t, labels), arrive(&c, alpha, skips));
        if (t >= fewest) {
            ad_var goes_on = ad_greater_at(where, step_count, ad_number_like(where, step_count, (double)t));
            next = ad_where_at(where, ad_unsqueeze_at(where, goes_on, 1), next, alpha);
        }
        alpha = next;
    }
    ad_var ended = ad_add_at(where, alpha, table(&c, c.dtype, may_end));
    return ad_neg_at(where, ad_logsumexp_at(where, ended, AD_AXES(1), false));
}
