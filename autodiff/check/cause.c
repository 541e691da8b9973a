/* What a wrong gradient looks like: its likely cause. The first pattern of a list that fits is named. */
#include "autodiff/check/check.h"

#include <math.h>
#include <string.h>

typedef struct pattern_input {
    const ad_checker *checker;
    const ad_part *part;         /* the input whose gradient is wrong */
    const double *wrong, *right; /* of that input */
    const double *all_right;     /* of all inputs of its shape */
    double scale;                /* the largest of wrong and right */
    int64_t wrong_count;
    double ratio;      /* wrong / right where both are wrong; NaN if it is not one number */
    double ratio_here; /* at the element that was reported */
    char *text;
    size_t size;
} pattern_input;

static void say(pattern_input *in, const char *format, ...) AD_PRINTF(2, 3);
static void say(pattern_input *in, const char *format, ...) {
    va_list args;
    size_t length = strlen(in->text);
    va_start(args, format);
    ad_text_add_v(in->text, in->size, &length, format, args);
    va_end(args);
}

/* Alike enough to tell a pattern, given that `right` may be from differences. */
static bool alike(double a, double b, double scale) {
    return fabs(a - b) <= 1e-4 * fmax(fabs(a), fabs(b)) + 1e-7 * scale;
}

/* What it means to be off by a factor. */
static void say_ratio(pattern_input *in, double ratio) {
    double size = fabs(ratio), times = size >= 1 ? size : 1 / size;
    bool is_whole = times < 1e6 && alike(times, round(times), 0) && times > 1.5;
    if (ratio < 0) say(in, "the sign is flipped");
    if (ratio < 0 && !alike(size, 1, 0)) say(in, ", and ");
    if (alike(size, 1, 0)) return;
    if (!is_whole) {
        say(in, "it is off by a factor %.6g", size);
    } else if (size > 1) {
        say(in, "it is %.0f times too large: a contribution counted %s, or a factor too many", times,
            times < 2.5 ? "twice" : "several times");
    } else {
        say(in,
            "it is %.0f times too small: a contribution missing, a factor 1/%.0f too many, or a mean in place of a "
            "sum",
            times, times);
    }
}

/* ---- patterns --------------------------------------------------------------------------------------------------- */

static int64_t count_not_finite(const pattern_input *in) {
    int64_t count = 0;
    for (int64_t i = 0; i < in->part->count; i++) count += !isfinite(in->wrong[i]);
    return count;
}

static bool is_not_finite(pattern_input *in) {
    int64_t count = count_not_finite(in);
    if (count == 0) return false;
    say(in,
        "%lld of its %lld elements are NaN or infinite: a division by 0, infinity times 0 (ad_masked_mul leaves that "
        "0), or memory that is read before it is written",
        (long long)count, (long long)in->part->count);
    return true;
}

static bool is_all_zero(pattern_input *in) {
    for (int64_t i = 0; i < in->part->count; i++)
        if (in->wrong[i] != 0) return false;
    say(in, "all of it is 0: its VJP gives nothing to this input, or a detach or a constant cuts the way");
    return true;
}

/* The input is stretched to the shape of a result: how many of its elements there are for one of the input. */
static int64_t stretch(const pattern_input *in) {
    for (int k = 0; k < in->checker->results; k++) {
        const ad_part *result = &in->checker->result[k];
        ad_shape common;
        if (ad_shape_broadcast(&in->part->shape, &result->shape, &common) == AD_OK &&
            ad_shape_equal(&common, &result->shape) && in->part->count > 0 && result->count > in->part->count)
            return result->count / in->part->count;
    }
    return 1;
}

static bool is_one_ratio(pattern_input *in) {
    if (isnan(in->ratio) || in->wrong_count < in->part->count) return false;
    int64_t times = stretch(in);
    if (times > 1 && alike(in->ratio * (double)times, 1, 0)) {
        say(in, "it is a mean over the %lld elements that this input is stretched to, and should be their sum",
            (long long)times);
    } else {
        say_ratio(in, in->ratio);
        if (in->part->count > 1) say(in, " (everywhere in this input)");
    }
    return true;
}

static bool is_one_element(pattern_input *in) {
    if (in->wrong_count != 1 || in->part->count < 2) return false;
    say(in, "only this element of %lld is wrong", (long long)in->part->count);
    if (isfinite(in->ratio_here) && in->ratio_here != 0) {
        say(in, ": ");
        say_ratio(in, in->ratio_here);
    } else if (in->ratio_here == 0) {
        say(in, ": it is 0, as if never written");
    }
    return true;
}

/* Element i of an array with axes p and q exchanged, read row-major. */
static int64_t exchanged(const ad_shape *shape, int p, int q, int64_t i) {
    int64_t stride[AD_MAX_RANK], from = 0;
    ad_shape_strides(shape, stride);
    for (int axis = shape->rank - 1; axis >= 0; axis--) {
        int source = axis == p ? q : axis == q ? p : axis;
        from += i % shape->dim[source] * stride[source];
        i /= shape->dim[source];
    }
    return from;
}

static bool is_transposed(pattern_input *in) {
    const ad_shape *shape = &in->part->shape;
    for (int p = 0; p < shape->rank; p++) {
        for (int q = p + 1; q < shape->rank; q++) {
            if (shape->dim[p] < 2 || shape->dim[q] < 2) continue;
            bool fits = true;
            for (int64_t i = 0; i < in->part->count && fits; i++)
                fits = alike(in->wrong[i], in->right[exchanged(shape, p, q, i)], in->scale);
            if (!fits) continue;
            say(in, "it is transposed: right but for axes %d and %d being exchanged", p, q);
            return true;
        }
    }
    return false;
}

static bool is_of_another_input(pattern_input *in) {
    for (int k = 0; k < in->checker->subject->n; k++) {
        const ad_part *other = &in->checker->input[k];
        if (other == in->part || other->count == 0 || !ad_shape_equal(&other->shape, &in->part->shape)) continue;
        bool fits = true;
        for (int64_t i = 0; i < other->count && fits; i++)
            fits = alike(in->wrong[i], in->all_right[other->first + i], in->scale);
        if (!fits) continue;
        say(in, "it is the gradient of input %d: the two are exchanged", k);
        return true;
    }
    return false;
}

static bool is_missing_sum(pattern_input *in) {
    int64_t times = stretch(in);
    if (times == 1 || in->wrong_count < in->part->count) return false;
    say(in,
        "this input is stretched %lld times to the shape of the result: its contributions must be summed back "
        "(.broadcasts, or ad_sum_to)",
        (long long)times);
    return true;
}

static bool has_zeros(pattern_input *in) {
    int64_t zeros = 0;
    for (int64_t i = 0; i < in->part->count; i++) zeros += in->wrong[i] == 0 && !alike(0, in->right[i], in->scale);
    if (zeros == 0 || zeros < in->wrong_count) return false;
    say(in, "%lld of its %lld elements are 0 and should not be, as if never written", (long long)zeros,
        (long long)in->part->count);
    return true;
}

static bool has_one_ratio(pattern_input *in) {
    if (isnan(in->ratio)) return false;
    say_ratio(in, in->ratio);
    say(in, " (at %lld of the %lld elements of this input)", (long long)in->wrong_count, (long long)in->part->count);
    return true;
}

static bool is_slight(pattern_input *in) {
    if (in->wrong_count > 0) return false;
    say(in, "it is off by %.1g only: rounding, a series cut short, or constants that are not exact",
        fabs(in->ratio_here - 1));
    return true;
}

static bool is_something(pattern_input *in) {
    if (in->part->count < 2) return false;
    say(in, "not a pattern that is known here; %lld of the %lld elements of this input are wrong",
        (long long)in->wrong_count, (long long)in->part->count);
    return true;
}

static bool (*const patterns[])(pattern_input *) = {
    is_not_finite,       is_slight,      is_all_zero, is_one_element, is_one_ratio, is_transposed,
    is_of_another_input, is_missing_sum, has_zeros,   has_one_ratio,  is_something,
};

/* Counts what is wrong, and finds the ratio if it is the same wherever something is. */
static void look(pattern_input *in) {
    in->ratio = NAN;
    for (int64_t i = 0; i < in->part->count; i++)
        in->scale = fmax(in->scale, fmax(fabs(in->wrong[i]), fabs(in->right[i])));
    bool one_ratio = true;
    for (int64_t i = 0; i < in->part->count; i++) {
        if (alike(in->wrong[i], in->right[i], in->scale)) continue;
        double ratio = in->wrong[i] / in->right[i];
        if (in->wrong_count++ == 0) in->ratio = ratio;
        one_ratio &= isfinite(ratio) && ratio != 0 && alike(ratio, in->ratio, 0);
    }
    if (!one_ratio) in->ratio = NAN;
}

void ad_report_cause(ad_checker *checker, int64_t i, double wrong_i, double right_i, const double *wrong,
                     const double *right) {
    char text[400] = "";
    const ad_part *part = ad_part_of(checker->input, i);
    pattern_input in = {.checker = checker, .part = part, .text = text, .size = sizeof text};
    in.ratio_here = wrong_i / right_i;
    if (right) {
        in.wrong = wrong + part->first;
        in.right = right + part->first;
        in.all_right = right;
        look(&in);
        for (size_t k = 0; k < sizeof patterns / sizeof *patterns && !patterns[k](&in); k++) continue;
    } else if (isfinite(in.ratio_here) && in.ratio_here != 0) {
        say_ratio(&in, in.ratio_here);
    } else if (in.ratio_here == 0) {
        say(&in, "it is 0");
    }
    if (*text) ad_report_add(checker->report, ". Likely cause: %s", text);
}
