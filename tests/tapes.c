/* See tapes.h. */
#include "tapes.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void expect_ok_at(const char *line, const ad_tape *tape) {
    cr_assert_eq(ad_tape_status(tape), AD_OK, "%s: %s: %s", line, ad_status_name(ad_tape_status(tape)),
                 ad_tape_error(tape));
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_tape_verify(tape, &error), AD_OK, "%s: verify: %s", line, error.message);
}

static void expect_text(const char *line, ad_status got, const char *message, ad_status status,
                        const char *const *texts) {
    cr_assert_eq(got, status, "%s: %s instead of %s: %s", line, ad_status_name(got), ad_status_name(status), message);
    for (; *texts; texts++)
        cr_assert_not_null(strstr(message, *texts), "%s: \"%s\" is not in \"%s\"", line, *texts, message);
}

void expect_error_at(const char *line, ad_tape *tape, ad_status status, const char *const *texts) {
    expect_text(line, ad_tape_status(tape), ad_tape_error(tape), status, texts);
    ad_tape_reset(tape);
    expect_ok_at(line, tape);
    cr_assert_str_empty(ad_tape_error(tape), "%s: a message is left after the reset", line);
}

void expect_message_at(const char *line, ad_error *error, ad_status status, const char *const *texts) {
    expect_text(line, error->status, error->message, status, texts);
    *error = (ad_error){AD_OK, ""};
}

void expect_values_at(const char *line, ad_view view, int64_t n, const double *values) {
    cr_assert_eq(ad_view_count(&view), n, "%s: %lld elements instead of %lld", line, (long long)ad_view_count(&view),
                 (long long)n);
    cr_assert(view.data, "%s: a view without data", line);
    for (int64_t i = 0; i < n; i++) {
        double got = ad_view_get(&view, i);
        cr_assert(got == values[i] || (isnan(got) && isnan(values[i])), "%s: element %lld is %.17g instead of %.17g",
                  line, (long long)i, got, values[i]);
    }
}

void expect_gradient_at(const char *line, ad_var y, ad_var seed, ad_var x, int64_t n, const double *values) {
    ad_backward_with(y, &(ad_backward_options){.seed = seed});
    expect_values_at(line, ad_gradient(x), n, values);
    ad_var recorded;
    ad_grad(y, seed, 1, &x, &recorded);
    expect_values_at(line, ad_value(recorded), n, values);
}

void expect_near_at(const char *line, double got, double wanted, double tolerance) {
    cr_assert(fabs(got - wanted) <= tolerance * fmax(1, fabs(wanted)), "%s: %.17g instead of %.17g", line, got,
              wanted);
}

int nodes_of(const ad_tape *t, int64_t first, const char *op) {
    int count = 0;
    ad_node_info info;
    for (int64_t i = first; i < ad_tape_size(t); i++)
        count += ad_tape_node(t, i, &info) == AD_OK && strcmp(info.op->name, op) == 0;
    return count;
}

/* ---- the same place again ------------------------------------------------------------------------------------------ */

static void *place_allocate(void *user, size_t size, size_t alignment) {
    same_place *place = user;
    void *block = place->kept;
    if (block && place->size == size) {
        place->kept = NULL;
        return block;
    }
    if (alignment < 64) alignment = 64;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

/* The tape itself is the last block that it releases. */
static void place_release(void *user, void *memory, size_t size) {
    same_place *place = user;
    free(place->kept);
    place->kept = memory;
    place->size = size;
}

void same_place_open(same_place *place) {
    *place = (same_place){.allocator = {place_allocate, place_release, place}};
}

void same_place_close(same_place *place) { free(place->kept); }
