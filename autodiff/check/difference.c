/* The gradient against central differences.
 *
 * Along a line through the point, x(t) = x + t d, the change of <weight, results> is measured at t = -h, -h/2, h/2 and
 * h. Two central differences give a derivative free of the h^2 term, and how much that term mattered, its error
 * (Richardson 1911). The steps are h = cbrt(epsilon) max(1, |x|), down to a power of 2, where the errors of truncation
 * and of rounding are about equal.
 *
 * At a kink the slopes to the left and to the right stay apart as h shrinks; of a smooth function the gap halves with
 * h. At a jump a slope grows without bound, and there is no derivative to be right or wrong. A kink close to the point,
 * or a function that is wild at this scale, shows its slope once h is small enough: when a step tells little, smaller
 * ones are tried, until the error grows, and the one with the least counts; its error is then at least its distance
 * from the one before (after Ridders 1982). */
#include "autodiff/check/check.h"

#include <float.h>
#include <math.h>
#include <string.h>

static const double first_step = 0x1p-17; /* cbrt(DBL_EPSILON) = 2^-17.3 */
enum { rounds = 4, shrink = 8 };

/* d is `scale` with these signs on [from, to), 0 elsewhere. */
typedef struct ad_line {
    int64_t from, to;
    const double *sign; /* [inputs], +1 or -1; NULL: +1 */
} ad_line;

typedef struct ad_slope {
    double numeric, error;
    double rounding; /* the part of the error that smaller steps make worse */
    double left, right;
    bool apart;   /* left and right, however small the step: a kink, */
    bool is_jump; /* or a jump */
} ad_slope;

/* What came of comparing derivative and slope along a line. */
typedef struct ad_outcome {
    ad_slope slope;
    double analytic;
    double excess; /* in units of what is allowed */
    bool is_kink;  /* and the derivative lies between the slopes, if it is not a jump */
} ad_outcome;

static double along(const ad_line *line, int64_t i) { return line->sign ? line->sign[i] : 1; }

/* ---- measuring -------------------------------------------------------------------------------------------------- */

/* <weight, results> at t, minus that at t = 0, and how much rounding may have changed it. */
static ad_status change_at(ad_checker *checker, const ad_line *line, double *output, double t, double *change,
                           double *noise) {
    ad_tape_reset(checker->tape); /* it shares `value` */
    for (int64_t i = line->from; i < line->to; i++)
        checker->value[i] = checker->center[i] + t * along(line, i) * checker->scale[i];
    ad_status status = ad_checker_output(checker, &(ad_way){0}, output);
    ad_tape_reset(checker->tape);
    memcpy(checker->value + line->from, checker->center + line->from,
           (size_t)(line->to - line->from) * sizeof *checker->value);
    long double sum = 0, squares = 0;
    for (int64_t i = 0; i < checker->outputs && !status; i++) {
        double weight = checker->weight[i], old = checker->output[i];
        double size = fabs(weight) * (fabs(output[i]) + fabs(old));
        if (weight == 0 || (output[i] == old && !isfinite(old))) continue; /* an infinity may stay one */
        sum += weight * ((long double)output[i] - old);
        squares += (long double)size * size;
    }
    *change = (double)sum;
    *noise = (double)sqrtl(squares) * DBL_EPSILON; /* what does not change is rounded too */
    return status;
}

/* A one-sided slope that doubles as h is halved leads to a jump, or, if small, to rounding inside the function. */
static bool grows(double slope, double slope_far, double h, double noise) {
    return fabs(slope) > 1.5 * fabs(slope_far) && fabs(slope) * h > 1e7 * noise;
}

static ad_status measure(ad_checker *checker, const ad_line *line, double *output, double h, ad_slope *slope) {
    const double at[] = {-h, -h / 2, h / 2, h};
    double change[4], noise = 0;
    for (int k = 0; k < 4; k++) {
        double rounding;
        ad_status status = change_at(checker, line, output, at[k], &change[k], &rounding);
        if (status) return status;
        noise = fmax(noise, rounding);
    }
    double left_far = -change[0] / h, left = -change[1] / (h / 2), right = change[2] / (h / 2),
           right_far = change[3] / h;
    double far = (left_far + right_far) / 2, near = (left + right) / 2;
    double gap_far = right_far - left_far, gap = right - left;
    slope->numeric = (4 * near - far) / 3;
    slope->left = 2 * left - left_far;
    slope->right = 2 * right - right_far;
    slope->is_jump = grows(left, left_far, h, noise) || grows(right, right_far, h, noise);
    bool stays = fabs(gap) > 0.7 * fabs(gap_far) && fabs(gap) < 1.5 * fabs(gap_far) && gap * gap_far > 0;
    slope->apart = slope->is_jump || (stays && fabs(gap) * h > 64 * noise);
    slope->rounding = 8 * noise / h;
    slope->error = fabs(slope->numeric - near) + slope->rounding;
    /* What the fourth difference of a smooth function leaves is rounding, also of numbers that are not seen here. */
    if (!slope->apart) slope->error += fabs(change[0] - 4 * change[1] - 4 * change[2] + change[3]) / h;
    return AD_OK;
}

static double derivative_along(const ad_checker *checker, const ad_line *line, double *largest) {
    long double sum = 0;
    *largest = 0;
    for (int64_t i = line->from; i < line->to; i++) {
        double term = checker->analytic[i] * along(line, i) * checker->scale[i];
        sum += term;
        *largest = fmax(*largest, fabs(term));
    }
    return (double)sum;
}

static bool lies_between(const ad_slope *slope, double derivative, double allowed) {
    return derivative >= fmin(slope->left, slope->right) - allowed &&
           derivative <= fmax(slope->left, slope->right) + allowed;
}

static bool is_number(const ad_slope *slope) {
    return !slope->apart && isfinite(slope->numeric) && isfinite(slope->error);
}

/* How little of a slope can be believed. */
static double doubt(const ad_slope *slope) {
    return is_number(slope) ? slope->error : slope->apart ? DBL_MAX : INFINITY;
}

/* Compares the derivative along a line with the slope there. */
static ad_status compare_along(ad_checker *checker, const ad_line *line, double *output, ad_outcome *outcome) {
    double tolerance = checker->options->tolerance, largest, h = first_step;
    ad_slope now, last = {.numeric = NAN};
    outcome->analytic = derivative_along(checker, line, &largest);
    for (int round = 0; round < rounds; round++, h /= shrink, last = now) {
        ad_status status = measure(checker, line, output, h, &now);
        if (status) return status;
        if (is_number(&last) && is_number(&now)) now.error = fmax(now.error, fabs(now.numeric - last.numeric));
        if (round == 0 || doubt(&now) < doubt(&outcome->slope)) outcome->slope = now;
        /* Smaller steps are for when this one tells little, and rounding is not the reason; nor if it got worse. */
        double known = fmax(tolerance * fmax(fabs(outcome->analytic), fabs(now.numeric)), 4 * now.rounding);
        if (doubt(&now) <= known || (is_number(&now) && doubt(&now) > 2 * doubt(&outcome->slope))) break;
    }
    const ad_slope *slope = &outcome->slope;
    double difference = fabs(outcome->analytic - slope->numeric);
    double allowed = tolerance * fmax(fabs(outcome->analytic), fabs(slope->numeric)) + slope->error + 1e-12 * largest;
    outcome->excess = difference == 0 ? 0 : isfinite(difference) ? difference / allowed : INFINITY;
    outcome->is_kink = slope->apart && isfinite(difference) &&
                       (slope->is_jump || lies_between(slope, outcome->analytic, allowed));
    return AD_OK;
}

/* ---- what is found ---------------------------------------------------------------------------------------------- */

static void fill_point(const ad_checker *checker, int64_t i, const ad_outcome *outcome, ad_check_point *point) {
    double scale = checker->scale[i];
    ad_point_fill(checker, i, point);
    point->analytic = checker->analytic[i];
    point->numeric = outcome->slope.numeric / scale;
    point->error = outcome->slope.error / scale;
    point->left = outcome->slope.left / scale;
    point->right = outcome->slope.right / scale;
}

/* An element at which derivative and differences disagree. */
static ad_status report_element(ad_checker *checker, const char *law, int64_t i, const ad_outcome *outcome) {
    ad_check_report *report = checker->report;
    const ad_part *part = ad_part_of(checker->input, i);
    char place[AD_PLACE_TEXT];
    ad_check_point point;
    fill_point(checker, i, outcome, &point);
    report->has_point = true;
    report->point = point;
    ad_place_text(checker, false, i, place);
    if (outcome->slope.apart)
        return ad_report_broken(
            checker, law,
            "the gradient of %s is %.9g, outside of the slopes to the left, %.9g, and to the right, "
            "%.9g, of a kink there",
            place, point.analytic, point.left, point.right);
    ad_report_broken(checker, law, "the gradient of %s is wrong: backward gives %.9g, differences %.9g (error %.1g)",
                     place, point.analytic, point.numeric, point.error);
    if (!isfinite(point.numeric))
        ad_report_add(report, ". The function is not finite next to this point (x = %.9g): keep it inside its domain",
                      point.x);
    if (!isfinite(point.numeric) && isfinite(point.analytic)) return AD_ERR_CHECK;
    /* Knowing the whole gradient of this input tells much more, if it can be had. */
    enum { affordable = 4096 };
    ad_check_report kept = *report;
    double *right = part->count <= affordable ? ad_checker_numbers(checker, checker->inputs) : NULL;
    for (const ad_part *other = checker->input; right && other < checker->input + checker->subject->n; other++)
        if (other == part || (ad_shape_equal(&other->shape, &part->shape) && other->count))
            if (ad_differences(checker, other, right + other->first)) right = NULL;
    *report = kept;
    ad_report_cause(checker, i, point.analytic, point.numeric, checker->analytic, right);
    return AD_ERR_CHECK;
}

static void count(ad_checker *checker, const ad_outcome *outcome) {
    checker->report->compared++;
    if (!outcome->is_kink) checker->report->worst = fmax(checker->report->worst, outcome->excess);
}

static ad_status check_element(ad_checker *checker, const char *law, double *output, int64_t i) {
    ad_outcome outcome;
    ad_status status = compare_along(checker, &(ad_line){i, i + 1, NULL}, output, &outcome);
    if (status) return status;
    count(checker, &outcome);
    if (outcome.is_kink && checker->report->kinks++ == 0) fill_point(checker, i, &outcome, &checker->report->kink);
    return outcome.excess <= 1 || outcome.is_kink ? AD_OK : report_element(checker, law, i, &outcome);
}

/* ---- directions ------------------------------------------------------------------------------------------------- */

/* Halves a direction that disagrees, or that meets a kink, down to elements. Of many kinks it finds some; those that
 * hide each other along the direction disagree, and are all looked at as far as the budget goes. */
static ad_status search(ad_checker *checker, const char *law, double *output, const double *sign,
                        const ad_outcome *whole) {
    enum { enough_kinks = 8, budget = 4096 };
    ad_line pending[64] = {{0, checker->inputs, sign}};
    int64_t kinks_before = checker->report->kinks;
    for (int n = 1, spent = 0; n > 0 && spent < budget; spent++) {
        ad_line now = pending[--n];
        if (now.to - now.from == 1) {
            ad_status status = check_element(checker, law, output, now.from);
            if (status) return status;
            continue;
        }
        int64_t middle = now.from + (now.to - now.from) / 2;
        const ad_line halves[] = {{middle, now.to, sign}, {now.from, middle, sign}};
        bool wants_kinks = checker->report->kinks < kinks_before + enough_kinks;
        for (int k = 0; k < 2; k++) {
            ad_outcome half;
            ad_status status = compare_along(checker, &halves[k], output, &half);
            if (status) return status;
            if (half.is_kink ? wants_kinks : half.excess > 1) pending[n++] = halves[k];
        }
    }
    if (checker->report->kinks > kinks_before || whole->is_kink) return AD_OK;
    count(checker, whole);
    return ad_report_broken(checker, law,
                            "along a direction of +1 and -1 through all elements, backward gives %.9g, differences "
                            "%.9g (error %.1g), but no half of it is wrong by itself",
                            whole->analytic, whole->slope.numeric, whole->slope.error);
}

static ad_status check_direction(ad_checker *checker, const char *law, double *output, double *sign) {
    ad_outcome outcome;
    for (int64_t i = 0; i < checker->inputs; i++) sign[i] = ad_rng_next(&checker->rng) & 1 ? 1 : -1;
    ad_status status = compare_along(checker, &(ad_line){0, checker->inputs, sign}, output, &outcome);
    if (status) return status;
    if (outcome.excess > 1 || outcome.is_kink) return search(checker, law, output, sign, &outcome);
    count(checker, &outcome);
    return AD_OK;
}

/* ---- which elements --------------------------------------------------------------------------------------------- */

/* Number k of the elements of an input that are always looked at: the first, the last, and per axis the other end of it
 * from the first and from the last. -1 past the end. */
static int64_t edge(const ad_part *part, int k) {
    int64_t stride[AD_MAX_RANK];
    if (part->count == 0 || k >= 2 + 2 * part->shape.rank) return -1;
    if (k < 2) return part->first + (k ? part->count - 1 : 0);
    int axis = k / 2 - 1;
    ad_shape_strides(&part->shape, stride);
    int64_t across = (part->shape.dim[axis] - 1) * stride[axis];
    return part->first + (k % 2 ? part->count - 1 - across : across);
}

static bool is_listed(const int64_t *list, int64_t count, int64_t i) {
    for (int64_t k = 0; k < count; k++)
        if (list[k] == i) return true;
    return false;
}

static ad_status check_some(ad_checker *checker, const char *law, double *output) {
    int64_t room = checker->options->elements + (2 + 2 * AD_MAX_RANK) * (int64_t)checker->subject->n, count = 0;
    int64_t *list = ad_arena_take(&checker->memory, (size_t)room * sizeof *list);
    double *sign = ad_checker_numbers(checker, checker->inputs);
    if (!list || !sign) return ad_report_no_memory(checker);
    for (int k = 0; k < checker->subject->n; k++)
        for (int n = 0; edge(&checker->input[k], n) >= 0; n++)
            if (!is_listed(list, count, edge(&checker->input[k], n))) list[count++] = edge(&checker->input[k], n);
    for (int k = 0; k < checker->options->elements; k++) {
        int64_t i = ad_rng_below(&checker->rng, checker->inputs);
        if (!is_listed(list, count, i)) list[count++] = i;
    }
    ad_status status = AD_OK;
    for (int64_t k = 0; k < count && !status; k++) status = check_element(checker, law, output, list[k]);
    for (int k = 0; k < checker->options->directions && !status; k++)
        status = check_direction(checker, law, output, sign);
    return status;
}

ad_status ad_check_differences(ad_checker *checker, const char *law) {
    enum { automatic_limit = 256 };
    if (checker->float_outputs == 0 || checker->inputs == 0) return AD_OK;
    double *output = ad_checker_numbers(checker, checker->outputs);
    if (!output) return AD_ERR_OOM;
    /* What is not a number is wrong for certain. */
    ad_status status = AD_OK;
    for (int64_t i = 0; i < checker->inputs && !status; i++)
        if (!isfinite(checker->analytic[i])) status = check_element(checker, law, output, i);
    if (status) return status;
    ad_check_mode mode = checker->options->mode;
    bool is_fast = mode == AD_CHECK_FAST || (mode == AD_CHECK_AUTO && checker->inputs > automatic_limit);
    if (is_fast && checker->options->elements < checker->inputs) return check_some(checker, law, output);
    for (int64_t i = 0; i < checker->inputs && !status; i++) status = check_element(checker, law, output, i);
    return status;
}

/* To tell a pattern, plain central differences will do. */
ad_status ad_differences(ad_checker *checker, const ad_part *part, double *numeric) {
    double *output = ad_checker_numbers(checker, checker->outputs);
    if (!output) return AD_ERR_OOM;
    ad_status status = AD_OK;
    for (int64_t i = part->first; i < part->first + part->count && !status; i++) {
        double left, right, noise;
        status = change_at(checker, &(ad_line){i, i + 1, NULL}, output, -first_step, &left, &noise);
        if (!status) status = change_at(checker, &(ad_line){i, i + 1, NULL}, output, first_step, &right, &noise);
        if (!status) numeric[i - part->first] = (right - left) / (2 * first_step * checker->scale[i]);
    }
    return status;
}
