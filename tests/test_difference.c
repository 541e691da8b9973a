/* Two tapes beside each other. */
#include "helpers.h"
#include "tapes.h"
#include "texts.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- tapes ----------------------------------------------------------------------------------------------------- */

/* y = x + relu(H x + v), its cross-entropy, and the way back; H[0][0] is what is given. */
static ad_tape *layer(const ad_allocator *allocator, double corner) {
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = allocator});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), ((double[]){1.0, -2.0, 0.5}));
    ad_var H = ad_leaf(t, "H", AD_F64, AD_SHAPE(3, 3), ((double[]){corner, .2, -.3, .4, -.5, .6, -.7, .8, .9}));
    ad_var v = ad_leaf(t, "v", AD_F64, AD_SHAPE(3), ((double[]){0.1, 0.2, 0.3}));
    ad_var y = ad_add(x, ad_relu(ad_add(ad_matmul(H, x), v)));
    ad_backward(ad_name(ad_softmax_xent(y, ad_index(t, 2)), "e"));
    return t;
}

/* The square of x with an op of one's own, whose derivative is right or forgets the factor 2. */
static ad_status square_shape(ad_call *call) {
    call->out[0] = *call->in[0];
    return AD_OK;
}
static ad_status square_forward(ad_call *call) {
    double *to = call->out[0].data;
    for (int64_t i = 0; i < ad_view_count(call->in[0]); i++) to[i] = pow(ad_view_get(call->in[0], i), 2);
    return AD_OK;
}
static void right_vjp(ad_vjp *v) {
    ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_mul(ad_vjp_number(v, 2), ad_vjp_input(v, 0))));
}
static void wrong_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_mul(ad_vjp_seed(v, 0), ad_vjp_input(v, 0))); }

static ad_tape *own_square(void (*vjp)(ad_vjp *v), ad_op *op) {
    *op = (ad_op){.name = "own_square",
                  .inputs = 1,
                  .saves = AD_SAVES_INPUT(0),
                  .shape = square_shape,
                  .forward = square_forward,
                  .vjp = vjp,
                  .formula = "$y = $0^2",
                  .adjoint = {"~0 += 2 * ~y * $0"}};
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), ((double[]){3, 0}));
    ad_backward(ad_name(ad_sum(ad_apply(t, op, 1, &x, NULL, NULL), AD_ALL_AXES, false), "y"));
    return t;
}

/* x and y; there are further nodes between them, or not. */
static ad_tape *with_middle(int further, double last) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 0.5), y = x;
    for (int i = 0; i < further; i++) y = ad_tanh(y);
    ad_name(ad_scale(ad_exp(y), last), "y");
    return t;
}

/* ---- what is said ---------------------------------------------------------------------------------------------- */

/* The dump, to be freed; *count is how many nodes differ. Frees both tapes. */
#define difference(first, second, count, ...)                                                                        \
    difference_of(first, second, &(ad_difference_options){.dump = {.format = AD_DUMP_TEXT}, __VA_ARGS__}, count)
static char *difference_of(ad_tape *first, ad_tape *second, const ad_difference_options *options, int64_t *count) {
    text t = {.data = NULL};
    ad_status status = ad_tape_difference_to(first, second, options, add_piece, &t, count);
    cr_assert_eq(status, AD_OK, "%s", ad_status_name(status));
    cr_assert_null(strstr(t.data, " \n"), "a blank at the end of a line of\n%s", t.data);
    ad_tape_free(first);
    ad_tape_free(second);
    return t.data;
}

static char *plain_difference(ad_tape *first, ad_tape *second, int64_t *count) {
    return difference_of(first, second, NULL, count);
}

static void expect_golden_difference(const char *name, char *got) {
    expect_golden_text(name, got);
    free(got);
}

Test(difference, of_a_tape_before_and_after_a_step) {
    int64_t count;
    expect_golden_difference("difference.txt", difference(layer(NULL, 3), layer(NULL, 2.5), &count,
                                                          .first_name = "before", .second_name = "after"));
    cr_expect_eq(count, 9, "all but the class: %" PRId64, count);
    expect_golden_difference("difference-all.txt", difference(layer(NULL, .1), layer(NULL, .2), &count, .all = true));
}

Test(difference, of_a_right_and_a_wrong_derivative) {
    int64_t count;
    ad_op right, wrong;
    ad_tape *first = own_square(right_vjp, &right), *second = own_square(wrong_vjp, &wrong);
    expect_golden_difference("difference-vjp.txt",
                             difference(first, second, &count, .first_name = "right", .second_name = "wrong"));
    cr_expect_eq(count, 1);
}

Test(difference, finds_nodes_that_one_tape_has_alone) {
    int64_t count;
    expect_golden_difference("difference-nodes.txt",
                             difference(with_middle(1, 1), with_middle(3, 1), &count, .dump.ascii = true));
    free(plain_difference(with_middle(0, 1), with_middle(20, 1), &count));
    cr_expect_geq(count, 20);
    free(plain_difference(with_middle(200, 1), with_middle(0, 1), &count));
    cr_expect_geq(count, 200);
    ad_tape *nothing = ad_tape_new(NULL);
    char *got = plain_difference(nothing, with_middle(0, 1), &count);
    cr_expect_eq(count, 3);
    cr_expect_not_null(strstr(got, "only second"), "%s", got);
    free(got);
}

Test(difference, of_a_tape_and_itself_is_nothing) {
    int64_t count;
    char *got = plain_difference(layer(NULL, NAN), layer(NULL, NAN), &count);
    cr_expect_eq(count, 0);
    cr_expect_str_eq(got, "first: 10 nodes; second: 10 nodes; 0 differ\n");
    free(got);
}

Test(difference, passes_over_what_is_small_enough) {
    int64_t count;
    free(plain_difference(with_middle(0, 1), with_middle(0, 1 + 1e-9), &count));
    cr_expect_eq(count, 1);
    free(difference(with_middle(0, 1), with_middle(0, 1 + 1e-9), &count, .relative = 1e-8));
    cr_expect_eq(count, 0);
    free(difference(with_middle(0, 1e6), with_middle(0, 1e6 + 1e-3), &count, .absolute = 1e-2));
    cr_expect_eq(count, 0);
    free(difference(with_middle(0, 1), with_middle(0, NAN), &count, .absolute = 1e300));
    cr_expect_eq(count, 1, "NaN is near to nothing");
    free(difference(with_middle(0, INFINITY), with_middle(0, 1), &count, .relative = 2));
    cr_expect_eq(count, 1);
}

static ad_tape *whole_number(int64_t value) {
    ad_tape *t = ad_tape_new(NULL);
    ad_constant(t, "n", AD_I64, AD_SCALAR, &value);
    return t;
}

Test(difference, of_integers_that_a_double_cannot_tell_apart) {
    int64_t count;
    free(plain_difference(whole_number(INT64_MAX), whole_number(INT64_MAX - 1), &count));
    cr_expect_eq(count, 1);
    free(plain_difference(whole_number(INT64_MAX), whole_number(INT64_MAX), &count));
    cr_expect_eq(count, 0);
}

Test(difference, of_types_and_of_gradients_that_are_missing) {
    int64_t count;
    ad_tape *first = ad_tape_new(NULL), *second = ad_tape_new(NULL);
    ad_leaf(first, "x", AD_F64, AD_SHAPE(2), ((double[]){1, 2}));
    ad_leaf(second, "x", AD_F32, AD_SHAPE(2, 1), ((float[]){1, 2}));
    char *got = plain_difference(first, second, &count);
    cr_expect(strstr(got, "f64[2]") && strstr(got, "f32[2,1]") && strstr(got, "other type"), "%s", got);
    free(got);
    first = with_middle(0, 1);
    ad_backward(ad_tape_var(first, 2));
    got = plain_difference(first, with_middle(0, 1), &count);
    cr_expect_eq(count, 3);
    cr_expect_not_null(strstr(got, "none"), "%s", got);
    free(got);
}

Test(difference, of_what_an_operation_is_applied_to) {
    int64_t count;
    ad_tape *tape[2];
    for (int k = 0; k < 2; k++) {
        tape[k] = ad_tape_new(NULL);
        ad_var a = ad_scalar(tape[k], "a", 2), b = ad_scalar(tape[k], "b", 2);
        ad_name(ad_exp(k ? b : a), "y");
    }
    char *got = plain_difference(tape[0], tape[1], &count);
    cr_expect_eq(count, 1);
    cr_expect(strstr(got, "of a") && strstr(got, "of b") && strstr(got, "other inputs"), "%s", got);
    free(got);
}

Test(difference, lists_so_many_nodes_and_counts_the_others) {
    int64_t count;
    char *got = difference(with_middle(0, 1), with_middle(100, 1), &count, .dump.most_nodes = 5);
    char more[64];
    snprintf(more, sizeof more, "and %" PRId64 " more nodes", count - 5);
    cr_expect_not_null(strstr(got, more), "%s is not in\n%s", more, got);
    free(got);
}

/* ---- what goes wrong ------------------------------------------------------------------------------------------- */

Test(difference, options_that_make_no_sense_are_refused) {
    ad_tape *t = layer(NULL, 1);
    const struct {
        ad_difference_options options;
        ad_status status;
    } cases[] = {
        {{.dump.format = AD_DUMP_DOT}, AD_ERR_VALUE},
        {{.dump.format = AD_DUMP_JSON}, AD_ERR_VALUE},
        {{.absolute = -1}, AD_ERR_VALUE},
        {{.relative = NAN}, AD_ERR_VALUE},
        {{.absolute = INFINITY}, AD_ERR_VALUE},
        {{.dump.precision = 18}, AD_ERR_VALUE},
        {{.dump.first = 11}, AD_ERR_INDEX},
        {{.dump = {.first = 3, .end = 5}}, AD_OK},
        {{.dump.scope = "nowhere"}, AD_ERR_VALUE},
        {{.first_name = "", .second_name = "\n"}, AD_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        text got = {.data = NULL};
        cr_expect_eq(ad_tape_difference_to(t, t, &cases[i].options, add_piece, &got, NULL), cases[i].status,
                     "case %zu", i);
        cr_expect_eq(got.length > 0, cases[i].status == AD_OK);
        free(got.data);
    }
    cr_expect_eq(ad_tape_difference(NULL, t, NULL, stdout, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_tape_difference(t, NULL, NULL, stdout, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_tape_difference(t, t, NULL, NULL, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_tape_difference_to(t, t, NULL, NULL, NULL, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_dump_source_difference_to(NULL, NULL, NULL, add_piece, NULL, NULL), AD_ERR_NULL);
    expect_ok(t);
    ad_tape_free(t);
}

Test(difference, a_stream_that_fails_is_reported) {
    ad_tape *first = layer(NULL, 1), *second = layer(NULL, 2);
    FILE *full = fopen("/dev/full", "w");
    if (!full) cr_skip_test("there is no /dev/full");
    const ad_difference_options page = {.dump.format = AD_DUMP_HTML};
    cr_expect_eq(ad_tape_difference(first, second, NULL, full, NULL), AD_ERR_IO);
    cr_expect_eq(ad_tape_difference(first, second, &page, full, NULL), AD_ERR_IO);
    text whole = {.data = NULL};
    cr_assert_eq(ad_tape_difference_to(first, second, &page, add_piece, &whole, NULL), AD_OK);
    for (int64_t most = 1; most < whole.pieces; most++) {
        text got = {.most = most};
        cr_expect_eq(ad_tape_difference_to(first, second, &page, add_piece, &got, NULL), AD_ERR_IO);
        cr_expect_eq(got.pieces, most);
        free(got.data);
    }
    free(whole.data);
    fclose(full);
    ad_tape_free(first);
    ad_tape_free(second);
}

static ad_status without_memory(ad_dump_format format, int64_t fail_at, char **got, int64_t *calls) {
    const ad_difference_options options = {.dump.format = format};
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *first = layer(&memory.allocator, 1), *second = layer(&memory.allocator, 2);
    memory.calls = 0;
    memory.fail_at = fail_at;
    text collected = {.data = NULL};
    ad_status status = ad_tape_difference_to(first, second, &options, add_piece, &collected, NULL);
    *calls = memory.calls;
    *got = collected.data;
    expect_ok(first);
    expect_ok(second);
    ad_tape_free(first);
    ad_tape_free(second);
    test_memory_close(&memory);
    return status;
}

Test(difference, any_allocation_may_fail) {
    const ad_dump_format formats[] = {AD_DUMP_TEXT, AD_DUMP_HTML};
    for (int f = 0; f < 2; f++) {
        char *whole, *got;
        int64_t calls, others, failures = 0;
        cr_assert_eq(without_memory(formats[f], 0, &whole, &calls), AD_OK);
        for (int64_t i = 1; i <= calls; i++) {
            ad_status status = without_memory(formats[f], i, &got, &others);
            cr_expect(status == AD_ERR_OOM || strcmp(got, whole) == 0, "allocation %" PRId64 ": %s, and\n%s", i,
                      ad_status_name(status), got);
            failures += status == AD_ERR_OOM;
            free(got);
        }
        cr_expect_gt(failures, 10);
        free(whole);
    }
}
