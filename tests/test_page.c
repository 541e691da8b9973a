/* Dumps as HTML, in a real browser: tests/page/driver.js uses the page, and what it reports is read here. */
#include "helpers.h"
#include "tapes.h"
#include "texts.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the page in a browser ------------------------------------------------------------------------------------- */

static char *page_of(ad_tape *tape, const ad_dump_options *options) {
    text page = {.data = NULL};
    cr_assert_eq(ad_tape_dump_to(tape, options, add_piece, &page), AD_OK);
    return page.data;
}

/* The page with a script in front that collects errors, and the driver behind. */
static void write_driven(const char *path, const char *page) {
    static const char collect[] = "<head><script>const pageErrors = [];"
                                  "addEventListener('error', (event) => pageErrors.push(event.message));"
                                  "addEventListener('securitypolicyviolation', (event) => "
                                  "pageErrors.push('wants ' + event.blockedURI));"
                                  "console.error = (...words) => pageErrors.push(words.join(' '));</script>";
    const char *head = strstr(page, "<head>"), *end = strstr(page, "</body>");
    cr_assert(head && end, "not a page");
    char *script = read_file(ADTAPE_SOURCE_DIR "/tests/page/driver.js");
    FILE *file = fopen(path, "wb");
    cr_assert(file && script);
    fprintf(file, "%.*s%s%.*s<script>%s</script>%s", (int)(head - page), page, collect,
            (int)(end - head - (ptrdiff_t)strlen("<head>")), head + strlen("<head>"), script, end);
    cr_assert_eq(fclose(file), 0);
    free(script);
}

/* What the driver reports, one line for each thing that it found. Skips the test where there is no browser. */
static char *report_of(const char *page, const char *size) {
    if (system("command -v chromium >/dev/null 2>&1") != 0)
        cr_skip_test("chromium is not installed (Debian: chromium)");
    char folder[] = "/tmp/adtape-page-XXXXXX", path[64], command[512];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/page.html", folder);
    write_driven(path, page);
    snprintf(command, sizeof command,
             "timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir=%s/profile --window-size=%s "
             "--dump-dom file://%s 2>/dev/null",
             folder, size, path);
    FILE *browser = popen(command, "r");
    cr_assert_not_null(browser);
    text document = {.data = NULL};
    add_piece(&document, "", 0);
    add_stream(&document, browser);
    cr_expect_eq(pclose(browser), 0, "the browser failed");
    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
    char *report = strstr(document.data, "<pre id=\"report\">");
    cr_assert_not_null(report, "the driver did not come to its end:\n%.2000s", document.data);
    report = strdup(report + strlen("<pre id=\"report\">"));
    *strstr(report, "</pre>") = '\0';
    free(document.data);
    return report;
}

/* Nothing failed, and the report says every one of these. */
#define expect_report(report, ...) expect_report_at(AD_HERE, report, (const char *[]){__VA_ARGS__, NULL})
static void expect_report_at(const char *line, const char *report, const char *const *texts) {
    cr_expect_null(strstr(report, "FAILED"), "%s:\n%s", line, report);
    for (; *texts; texts++)
        cr_expect_not_null(strstr(report, *texts), "%s: \"%s\" is not in\n%s", line, *texts, report);
}

/* The number behind a word, in milliseconds. */
static double time_of(const char *report, const char *what) {
    const char *line = strstr(report, what);
    cr_assert_not_null(line, "%s", report);
    return strtod(line + strlen(what), NULL);
}

static const ad_dump_options html = {.format = AD_DUMP_HTML};

/* ---- tapes ----------------------------------------------------------------------------------------------------- */

/* y = x + relu(H x + v), and its cross-entropy: two gradients meet at x. */
static ad_tape *residual(void) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), ((double[]){1.0, -2.0, 0.5}));
    ad_var H = ad_leaf(t, "H", AD_F64, AD_SHAPE(3, 3), ((double[]){.1, .2, -.3, .4, -.5, .6, -.7, .8, .9}));
    ad_var v = ad_leaf(t, "v", AD_F64, AD_SHAPE(3), ((double[]){0.1, 0.2, 0.3}));
    ad_var y = ad_add(x, ad_relu(ad_add(ad_matmul(H, x), v)));
    ad_backward(ad_name(ad_softmax_xent(y, ad_index(t, 2)), "e"));
    return t;
}

/* A chain in scopes, with a merge at every tenth node. */
static ad_tape *long_tape(int nodes) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1), c = ad_scalar(t, "c", 0.999), kept = x;
    while (ad_tape_size(t) < nodes) {
        ad_scope_begin(t, "block %d", (int)(ad_tape_size(t) / 50));
        for (int i = 0; i < 50 && ad_tape_size(t) < nodes; i++) {
            x = i % 10 == 9 ? ad_add(x, kept) : i % 3 ? ad_mul(x, c) : ad_sin(x);
            if (i % 10 == 9) kept = x;
        }
        ad_scope_end(t);
    }
    ad_backward(x);
    return t;
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

Test(page, is_one_file_that_loads_nothing) {
    ad_tape *t = residual();
    char *page = page_of(t, &html);
    const char *const loads[] = {" src=", "@import", "http-equiv=\"refresh\"", "fetch(", "import("};
    for (size_t i = 0; i < sizeof loads / sizeof *loads; i++)
        cr_expect_null(strstr(page, loads[i]), "the page has %s", loads[i]);
    for (const char *at = page; (at = strstr(at, "url(")); at++) cr_expect_eq(at[4], '#', "%.40s", at);
    cr_expect_not_null(strstr(page, "default-src 'none'"));
    cr_expect_eq(strncmp(page, "<!doctype html>\n", 16), 0);
    const char *end = page + strlen(page) - strlen("</html>\n");
    cr_expect_str_eq(end, "</html>\n");
    free(page);
    ad_tape_free(t);
}

Test(page, steps_through_the_residual_layer) {
    ad_tape *t = residual();
    char *page = page_of(t, &html), *report = report_of(page, "1280,800");
    /* 0.5156 + 0.0687 = 0.5843 and so on, with the digits that all of them have */
    expect_report(report, "title Backpropagation from e",
                  "merge 0.5156|0.1716|−0.6873|0.0687|−0.0858|0.1030|0.5843|0.0858|−0.5843");
    free(report);
    report = report_of(page, "500,800");
    expect_report(report, "ok nothing is wider than the page");
    free(report);
    free(page);
    ad_tape_free(t);
}

Test(page, shows_tapes_without_a_pass_without_nodes_and_in_error) {
    ad_tape *t = ad_tape_new(NULL);
    char *page = page_of(t, &html), *report = report_of(page, "1280,800");
    expect_report(report, "title A tape of 0 nodes");
    free(page);
    free(report);
    ad_var x = ad_scalar(t, "x", 3);
    ad_matmul(ad_mul(x, x), x);
    cr_assert_eq(ad_tape_status(t), AD_ERR_SHAPE);
    page = page_of(t, &html);
    report = report_of(page, "1280,800");
    expect_report(report, "title A tape of 2 nodes");
    free(page);
    free(report);
    ad_tape_free(t);
}

Test(page, names_and_numbers_cannot_break_it) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scope_begin(t, "</script><script>pageErrors.push('run')</script>");
    ad_var x = ad_leaf_at("</title><img src=x onerror=pageErrors.push('run')>", t,
                          "<!--<script>\xE2\x80\xA8\xFF\\\" ${1} `", AD_F64, AD_SHAPE(3),
                          ((double[]){NAN, INFINITY, -1e-300}));
    ad_constant(t, "</script>", AD_I64, AD_SHAPE(2), ((int64_t[]){INT64_MAX, INT64_MIN}));
    float many[3000];
    for (int i = 0; i < 3000; i++) many[i] = i == 7 ? NAN : i == 9 ? INFINITY : (float)(i - 1500);
    ad_leaf(t, "__proto__", AD_F32, AD_SHAPE(30, 100), many);
    ad_leaf(t, "constructor", AD_F32, AD_SHAPE(0, 3), NULL);
    ad_backward(ad_sum(ad_mul(x, ad_exp(x)), AD_ALL_AXES, false));
    ad_scope_end(t);
    char *page = page_of(t, &html), *report = report_of(page, "1280,800");
    expect_report(report, "ok every step has a title");
    free(report);
    free(page);
    ad_tape_free(t);
}

Test(page, shows_two_tapes_beside_each_other) {
    ad_tape *tape[2];
    for (int k = 0; k < 2; k++) {
        tape[k] = ad_tape_new(NULL);
        ad_var x = ad_leaf(tape[k], "x", AD_F64, AD_SHAPE(2), ((double[]){1, 2 + k}));
        ad_backward(ad_sum(k ? x : ad_neg(x), AD_ALL_AXES, false));
    }
    text page = {.data = NULL};
    const ad_difference_options options = {.dump = html, .first_name = "<before>", .second_name = "after"};
    cr_assert_eq(ad_tape_difference_to(tape[0], tape[1], &options, add_piece, &page, NULL), AD_OK);
    char *report = report_of(page.data, "1280,800");
    expect_report(report, "differs Compared with &lt;before&gt; &lt;before&gt;|after −3|4 marked −3|4",
                  "only only &lt;before&gt;v1 (neg)");
    free(report);
    free(page.data);
    for (int k = 0; k < 2; k++) ad_tape_free(tape[k]);
}

/* Every op's formulas are set, whatever is in them. */
Test(page, sets_the_formulas_of_every_op) {
    ad_tape *t = ad_tape_new(NULL);
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        ad_sample sample = {.rng = {.seed = 1}, .dtype = AD_F64};
        ad_var in[AD_MAX_SAMPLE_INPUTS];
        cr_assert(op->sample(&sample, 0), "%s", op->name);
        for (int k = 0; k < sample.inputs; k++) in[k] = ad_leaf_tensor(t, NULL, sample.input[k]);
        ad_apply(t, op, sample.inputs, in, &sample.attrs, NULL);
        for (int k = 0; k < sample.inputs; k++) ad_tensor_unref(sample.input[k]);
        cr_assert_eq(ad_tape_status(t), AD_OK, "%s", ad_tape_error(t));
    }
    char *page = page_of(t, &html), *report = report_of(page, "1280,800");
    expect_report(report, "ok every step has a title");
    free(report);
    free(page);
    ad_tape_free(t);
}

static double step_time(int nodes) {
    ad_tape *t = long_tape(nodes);
    char *page = page_of(t, &html), *report = report_of(page, "1280,800");
    expect_report(report, "ok a closed scope hides its rows", "ok few rows are in the document");
    double time = time_of(report, "\nstep ");
    free(report);
    free(page);
    ad_tape_free(t);
    return time;
}

/* A page that does something for every node at every step takes fifty times as long. */
Test(page, a_step_of_five_thousand_nodes_takes_no_longer_than_one_of_a_hundred) {
    double one = step_time(100), other = step_time(5000);
    cr_expect_lt(other, 8 * one, "%.1f ms and %.1f ms", one, other);
}
