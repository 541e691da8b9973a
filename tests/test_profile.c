/* Profiles: what is counted and timed, with a clock that ticks when it is read. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"

#include <adtape/profile.h>

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A microsecond passes each time. */
static int64_t tick(void *user) { return *(int64_t *)user += 1000; }

static ad_profile *profile_new(int64_t *time, int64_t most_events) {
    ad_profile *p;
    cr_assert_eq(ad_profile_new(&p, &(ad_profile_options){.clock = tick, .user = time, .most_events = most_events},
                                NULL),
                 AD_OK);
    return p;
}

static ad_var step(ad_tape *t) {
    ad_tape_reset(t);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2, 3), (double[]){.1, -.2, .3, -.4, .5, .6}),
           s = ad_scalar(t, "s", 2);
    ad_scope_begin(t, "net");
    ad_scope_begin(t, "block\"0");
    ad_var y = ad_mul(ad_tanh(x), s);
    ad_scope_end(t);
    y = ad_add(ad_mul(y, y), ad_transpose(ad_transpose(x)));
    ad_scope_end(t);
    ad_var loss = ad_mul(ad_sum(y, AD_ALL_AXES, false), s);
    ad_backward(loss);
    expect_ok(t);
    return x;
}

static ad_profile_row row_of(const ad_profile *p, const char *op, const char *scope) {
    ad_profile_row row = {.op = NULL};
    for (int64_t i = 0; i < ad_profile_rows(p); i++) {
        cr_assert_eq(ad_profile_row_at(p, i, &row), AD_OK);
        if (strcmp(row.op, op) == 0 && strcmp(row.scope, scope) == 0) return row;
    }
    cr_assert(false, "no row of %s in '%s'", op, scope);
    return row;
}

Test(profile, adds_up_by_op_and_scope_over_many_steps) {
    int64_t time = 5000000;
    ad_profile *p = profile_new(&time, 0);
    ad_tape *t = ad_tape_new(NULL);
    step(t); /* not seen */
    ad_tape_attach_profile(t, p);
    for (int i = 0; i < 3; i++) step(t);
    ad_profile_row in_block = row_of(p, "mul", "net/block\"0"), in_net = row_of(p, "mul", "net"),
                   at_top = row_of(p, "mul", ""), view = row_of(p, "permute", "net");
    cr_assert_eq(in_block.calls, 3);
    cr_assert_eq(in_block.backward_calls, 3);
    cr_assert_eq(in_block.forward, 3000, "%" PRId64, in_block.forward);
    cr_assert_eq(in_block.backward, 3000);
    cr_assert_eq(in_block.bytes, 3 * 48);
    cr_assert_eq(in_net.calls, 3);
    cr_assert_eq(at_top.bytes, 3 * 8, "a scalar is timed too");
    cr_assert_eq(view.calls, 6);
    cr_assert_eq(view.bytes, 0);
    int64_t rows = ad_profile_rows(p), events = ad_profile_events(p);
    cr_assert_eq(rows, 7);
    cr_assert_eq(events, 3 * (8 + 8 + 2 + 1));
    ad_tape_attach_profile(t, NULL);
    ad_var x = step(t);
    cr_assert_eq(ad_profile_events(p), events);
    cr_assert(t->fast_end > 0, "scalars have their short cut again");
    ad_view g = ad_gradient(x);
    double without[6], with[6];
    for (int i = 0; i < 6; i++) without[i] = ad_view_get(&g, i);
    ad_tape_attach_profile(t, p);
    x = step(t);
    g = ad_gradient(x);
    for (int i = 0; i < 6; i++) with[i] = ad_view_get(&g, i);
    cr_assert_eq(memcmp(with, without, sizeof with), 0);
    ad_tape_free(t);
    ad_profile_free(p);
}

Test(profile, lists_events_in_order_with_scopes_and_passes_around_them) {
    int64_t time = 0;
    ad_profile *p = profile_new(&time, 0);
    ad_tape *t = ad_tape_new(NULL);
    ad_tape_attach_profile(t, p);
    step(t);
    ad_profile_event e, pass = {.kind = AD_PROFILE_FORWARD}, scope = {.kind = AD_PROFILE_FORWARD};
    for (int64_t i = 0; i < ad_profile_events(p); i++) {
        cr_assert_eq(ad_profile_event_at(p, i, &e), AD_OK);
        cr_assert(e.start >= 0 && e.duration > 0);
        if (e.kind == AD_PROFILE_PASS) pass = e;
        if (e.kind == AD_PROFILE_SCOPE && strcmp(e.name, "net") == 0) scope = e;
    }
    cr_assert_str_eq(pass.name, "ad_backward");
    cr_assert(strstr(pass.where, "test_profile.c:"));
    cr_assert_eq(scope.node, -1);
    for (int64_t i = 0; i < ad_profile_events(p); i++) {
        ad_profile_event_at(p, i, &e);
        const ad_profile_event *around = e.kind == AD_PROFILE_BACKWARD                                     ? &pass
                                         : e.kind == AD_PROFILE_FORWARD && strncmp(e.scope, "net", 3) == 0 ? &scope
                                                                                                           : NULL;
        if (around)
            cr_assert(e.start > around->start && e.start + e.duration < around->start + around->duration, "%s",
                      e.name);
        if (e.kind <= AD_PROFILE_BACKWARD) cr_assert(e.node > 0 && strstr(e.where, "test_profile.c:"));
    }
    ad_tape_free(t);
    ad_profile_free(p);
}

static void in_checkpoint(ad_tape *t, const ad_var *in, int n, ad_var *out, int m, void *user) {
    (void)t, (void)n, (void)m, (void)user;
    out[0] = ad_exp(ad_tanh(in[0]));
}

Test(profile, what_a_checkpoint_runs_again_is_its_own_time) {
    int64_t time = 0;
    ad_profile *p = profile_new(&time, 0);
    ad_tape *t = ad_tape_new(NULL);
    ad_tape_attach_profile(t, p);
    ad_var x = LEAF(t, 1, 2), y;
    ad_checkpoint(t, in_checkpoint, NULL, 1, &x, 1, &y);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_ok(t);
    cr_assert_eq(row_of(p, "exp", "").calls, 1);
    cr_assert_eq(row_of(p, "exp", "").backward_calls, 0);
    cr_assert_eq(row_of(p, "checkpoint", "").backward_calls, 1);
    cr_assert_eq(row_of(p, "checkpoint", "").calls, 0);
    ad_tape_free(t);
    ad_profile_free(p);
}

static char *read_all(FILE *file) {
    static char text[1 << 16];
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

static void without_blanks(const char *text, char *out, size_t size) {
    size_t length = 0;
    for (; *text && length + 1 < size; text++)
        if (*text != ' ') out[length++] = *text;
    out[length] = '\0';
}

Test(profile, prints_tables_for_people) {
    int64_t time = 0;
    ad_profile *p = profile_new(&time, 5);
    ad_tape *t = ad_tape_new(NULL);
    ad_tape_attach_profile(t, p);
    step(t);
    FILE *file = tmpfile();
    cr_assert_eq(ad_profile_print(p, file), AD_OK);
    const char *text = read_all(file);
    /* Three of mul, in two scopes and outside; net with its block. */
    const char *const lines[] = {"op             calls   forward ms  backward ms    us/call      %   results\n",
                                 "mul                3        0.003        0.003      2.000   37.5     104 B\n",
                                 "scope            calls   forward ms  backward ms    us/call      %   results\n",
                                 "net                  6        0.006        0.006      2.000   75.0     192 B\n",
                                 "net/block\"0          2        0.002        0.002      2.000   25.0      96 B\n",
                                 "\n8 operations, 8 of them walked back: 0.008 ms forward, 0.008 ms backward\n",
                                 "\n14 operations or events were left out"};
    char flat[4096], want[256];
    without_blanks(text, flat, sizeof flat);
    for (int i = 0; i < TEST_COUNT(lines); i++) {
        without_blanks(lines[i], want, sizeof want);
        cr_assert(strstr(flat, want), "%s is not in\n%s", lines[i], text);
    }
    ad_tape_free(t);
    ad_profile_free(p);
}

Test(profile, writes_a_trace) {
    int64_t time = 0;
    ad_profile *p = profile_new(&time, 0);
    ad_tape *t = ad_tape_new(NULL);
    ad_tape_attach_profile(t, p);
    step(t);
    FILE *file = tmpfile();
    cr_assert_eq(ad_profile_trace(p, file), AD_OK);
    const char *text = read_all(file);
    cr_assert_eq(strstr(text, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n{\"name\":\""), text, "%s", text);
    cr_assert(strstr(text,
                     "{\"name\":\"tanh\",\"cat\":\"forward\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":2.000,"
                     "\"dur\":1.000,\"args\":{\"scope\":\"net/block\\\"0\",\"node\":2,\"bytes\":48,\"where\":\""),
              "%s", text);
    cr_assert(strstr(text, "{\"name\":\"ad_backward\",\"cat\":\"pass\""), "%s", text);
    int64_t depth = 0, events = 0;
    bool in_text = false;
    for (const char *at = text; *at; at++) {
        if (*at == '\\')
            at++;
        else if (*at == '"')
            in_text = !in_text;
        else if (!in_text)
            depth += (*at == '{') - (*at == '}'), events += *at == '{' && depth == 2;
    }
    cr_assert_eq(depth, 0);
    cr_assert_eq(events, ad_profile_events(p));
    ad_tape_free(t);
    ad_profile_free(p);
}

Test(profile, arguments_and_streams_are_checked) {
    ad_error error;
    ad_profile *p;
    cr_assert_eq(ad_profile_new(NULL, NULL, &error), AD_ERR_NULL);
    cr_assert_eq(ad_profile_new(&p, NULL, NULL), AD_OK);
    ad_profile_row row;
    ad_profile_event event;
    cr_assert_eq(ad_profile_row_at(p, 0, &row), AD_ERR_INDEX);
    cr_assert_eq(ad_profile_row_at(p, -1, &row), AD_ERR_INDEX);
    cr_assert_eq(ad_profile_row_at(NULL, 0, &row), AD_ERR_NULL);
    cr_assert_eq(ad_profile_event_at(p, 0, &event), AD_ERR_INDEX);
    cr_assert_eq(ad_profile_event_at(p, 0, NULL), AD_ERR_NULL);
    cr_assert_eq(ad_profile_rows(NULL) + ad_profile_events(NULL) + ad_profile_lost(NULL), 0);
    cr_assert_eq(ad_profile_print(NULL, stdout), AD_ERR_NULL);
    cr_assert_eq(ad_profile_trace(p, NULL), AD_ERR_NULL);
    FILE *full = fopen("/dev/full", "w");
    if (full) {
        cr_assert_eq(ad_profile_print(p, full), AD_ERR_IO);
        cr_assert_eq(ad_profile_trace(p, full), AD_ERR_IO);
        fclose(full);
    }
    ad_tape_attach_profile(NULL, p);
    ad_tape *t = ad_tape_new(NULL);
    ad_tape_attach_profile(t, p); /* the clock of the system */
    step(t);
    cr_assert_gt(row_of(p, "tanh", "net/block\"0").forward, 0);
    ad_tape_free(t);
    ad_profile_free(p);
    ad_profile_free(NULL);
}

Test(profile, what_it_has_no_memory_for_is_lost_and_fails_no_tape) {
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        int64_t time = 0;
        ad_profile *p = NULL;
        memory.fail_at = at;
        memory.fail_on = true;
        ad_status status = ad_profile_new(
            &p, &(ad_profile_options){.allocator = &memory.allocator, .clock = tick, .user = &time}, NULL);
        cr_assert_eq(status, at == 1 ? AD_ERR_OOM : AD_OK);
        ad_tape *t = ad_tape_new(NULL);
        ad_tape_attach_profile(t, p);
        step(t);
        bool reached = memory.calls >= memory.fail_at;
        if (p) {
            FILE *file = tmpfile();
            cr_assert_eq(ad_profile_lost(p) > 0, reached);
            status = ad_profile_print(p, file);
            cr_assert_eq(status, reached ? AD_ERR_OOM : memory.calls >= memory.fail_at ? AD_ERR_OOM : AD_OK);
            reached = memory.calls >= memory.fail_at;
            fclose(file);
        }
        ad_tape_free(t);
        ad_profile_free(p);
        test_memory_close(&memory);
        if (!reached) break;
    }
}
