/* Values as text: all elements where they are few, statistics where they are many. */
#include "autodiff/dump/dump.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { line_elements = 6 }; /* more continue on the next line */

/* ---- numbers --------------------------------------------------------------------------------------------------- */

const void *ad_view_element(const ad_view *view, int64_t i) {
    int64_t offset = 0;
    for (int axis = view->shape.rank - 1; axis >= 0; axis--) {
        offset += i % view->shape.dim[axis] * view->stride[axis];
        i /= view->shape.dim[axis];
    }
    return (const char *)view->data + offset * (int64_t)ad_dtype_size(view->dtype);
}

int ad_number_text(const ad_view *view, int64_t i, const ad_number_style *style, char text[64]) {
    const void *element = ad_view_element(view, i);
    if (!ad_dtype_is_float(view->dtype)) {
        int64_t value = view->dtype == AD_I64 ? *(const int64_t *)element : *(const int32_t *)element;
        return snprintf(text, 64, "%*" PRId64, style->width, value);
    }
    double value = ad_element_get(element, view->dtype) + 0.0; /* -0 becomes 0 */
    if (isnan(value)) return snprintf(text, 64, "%*s", style->width, "NaN");
    if (isinf(value) || style->decimals < 0)
        return snprintf(text, 64, "%*.*g", style->width, style->precision, value);
    return snprintf(text, 64, "%*.*f", style->width, style->decimals, value);
}

/* Whether every number is the same to the style's precision with one decimal less. */
static bool can_drop_decimal(int count, const ad_view *const *views, const ad_number_style *style) {
    char text[64];
    for (int k = 0; k < count; k++)
        for (int64_t i = 0, n = ad_view_count(views[k]); i < n; i++) {
            if (!isfinite(ad_view_get(views[k], i))) continue;
            int length = ad_number_text(views[k], i, style, text);
            if (text[length - 1] != '0') return false;
        }
    return true;
}

/* Fixed point, unless that would leave fewer than two digits of a small number or drown in those of a great one. */
static void choose_decimals(int count, const ad_view *const *views, ad_number_style *style) {
    int before_point = style->greatest >= 1 ? (int)floor(log10(style->greatest)) + 1 : 0;
    style->decimals = ad_max_int(style->precision - before_point, 0);
    if (before_point > ad_max_int(style->precision, 6) || style->least < pow(10, 1 - style->decimals)) {
        bool whole = style->greatest < 1e9;
        for (int k = 0; k < count && whole; k++)
            for (int64_t i = 0, n = ad_view_count(views[k]); i < n && whole; i++)
                whole = !isfinite(ad_view_get(views[k], i)) ||
                        ad_view_get(views[k], i) == rint(ad_view_get(views[k], i));
        style->decimals = whole ? 0 : -1;
    }
    while (style->decimals > 0 && can_drop_decimal(count, views, style)) style->decimals--;
}

bool ad_shows_elements(const ad_dump *dump, const ad_view *view) {
    return view->data && ad_view_count(view) <= dump->options.most_elements;
}

ad_number_style ad_number_style_of(const ad_dump *dump, int count, const ad_view *const *views) {
    ad_number_style style = {.precision = dump->options.precision, .least = INFINITY};
    for (int k = 0; k < count; k++) {
        if (!ad_shows_elements(dump, views[k])) return style;
        for (int64_t i = 0, n = ad_view_count(views[k]); i < n; i++) {
            double magnitude = fabs(ad_view_get(views[k], i));
            if (!isfinite(magnitude)) continue;
            style.greatest = fmax(style.greatest, magnitude);
            if (magnitude > 0) style.least = fmin(style.least, magnitude);
        }
    }
    choose_decimals(count, views, &style);
    int width = 0;
    char text[64];
    for (int k = 0; k < count; k++)
        for (int64_t i = 0, n = ad_view_count(views[k]); i < n; i++)
            width = ad_max_int(width, ad_number_text(views[k], i, &style, text));
    style.width = width;
    return style;
}

/* ---- statistics ------------------------------------------------------------------------------------------------ */

typedef struct statistics {
    double least, greatest, magnitude; /* of what is not NaN; the last is of what is finite */
    double sum, squares;               /* in units of `magnitude`, so that they do not overflow */
    int64_t numbers, nans, infinities;
} statistics;

static void see_range(statistics *s, double value) {
    if (isnan(value)) {
        s->nans++;
        return;
    }
    s->numbers++;
    s->least = fmin(s->least, value);
    s->greatest = fmax(s->greatest, value);
    if (isinf(value)) {
        s->infinities++;
    } else {
        s->magnitude = fmax(s->magnitude, fabs(value));
    }
}

static void see_sum(statistics *s, double value) {
    if (isnan(value)) return;
    double scaled = s->magnitude > 0 ? value / s->magnitude : 0;
    if (isinf(value)) scaled = value;
    s->sum += scaled;
    s->squares += scaled * scaled;
}

static void see_all(statistics *s, const ad_view *view, void (*see)(statistics *s, double value)) {
    int64_t size = (int64_t)ad_dtype_size(view->dtype);
    for (ad_walk w = ad_walk_start(1, &view); w.more; ad_walk_next(&w))
        for (int64_t i = 0; i < w.n; i++) see(s, ad_element_get(w.at[0] + i * w.inner[0] * size, view->dtype));
}

ad_statistics ad_statistics_of(const ad_view *view) {
    statistics s = {.least = INFINITY, .greatest = -INFINITY};
    see_all(&s, view, see_range);
    see_all(&s, view, see_sum);
    double scale = s.magnitude > 0 ? s.magnitude : 1;
    return (ad_statistics){.numbers = s.numbers,
                           .least = s.least + 0.0,
                           .greatest = s.greatest + 0.0,
                           .mean = s.numbers ? s.sum / (double)s.numbers * scale + 0.0 : 0,
                           .norm = sqrt(s.squares) * scale,
                           .nans = s.nans,
                           .infinities = s.infinities};
}

static void put_statistics(ad_string *string, const ad_dump *dump, const ad_view *view) {
    ad_statistics s = ad_statistics_of(view);
    int digits = dump->options.precision;
    if (s.numbers > 0)
        ad_string_print(string, "min %.*g  mean %.*g  max %.*g  norm %.*g", digits, s.least, digits, s.mean, digits,
                        s.greatest, digits, s.norm);
    if (s.nans) ad_string_print(string, "%s%" PRId64 " NaN", s.numbers ? "  " : "", s.nans);
    if (s.infinities) ad_string_print(string, "  %" PRId64 " infinite", s.infinities);
}

/* ---- elements -------------------------------------------------------------------------------------------------- */

/* How many axes begin (or, counted from the other side, end) at element i. */
static int axes_that_turn(const ad_shape *shape, int64_t i) {
    int count = 0;
    for (int axis = shape->rank - 1; axis >= 0 && i % shape->dim[axis] == 0; axis--, count++) i /= shape->dim[axis];
    return count;
}

static void put_elements(ad_string *string, const ad_view *view, const ad_number_style *style) {
    static const char opening[] = "[[[[[[[[", closing[] = "]]]]]]]]", blanks[] = "        ";
    int rank = view->shape.rank;
    int64_t n = ad_view_count(view);
    char text[64];
    for (int64_t i = 0, in_line = 0; i < n; i++, in_line++) {
        int begin = axes_that_turn(&view->shape, i), end = axes_that_turn(&view->shape, i + 1);
        bool new_line = i > 0 && (begin > 0 || in_line == line_elements);
        if (new_line) {
            ad_string_put(string, "\n", 1);
            in_line = 0;
        } else if (i > 0) {
            ad_string_put(string, " ", 1);
        }
        if (new_line || i == 0) ad_string_put(string, blanks, (size_t)(rank - begin));
        ad_string_put(string, opening, (size_t)begin);
        ad_string_put(string, text, (size_t)ad_number_text(view, i, style, text));
        ad_string_put(string, closing, (size_t)end);
    }
}

void ad_put_value(ad_string *string, const ad_dump *dump, const ad_view *view, const ad_number_style *style) {
    if (ad_view_count(view) == 0) {
        ad_string_print(string, "no elements");
    } else if (!view->data) {
        ad_string_print(string, "(not kept)");
    } else if (!ad_shows_elements(dump, view)) {
        put_statistics(string, dump, view);
    } else {
        ad_number_style own;
        if (!style) own = ad_number_style_of(dump, 1, &view);
        put_elements(string, view, style ? style : &own);
    }
}
