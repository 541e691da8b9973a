/* The interface that dumps are made with: nodes, formulas, saved values, contributions, scopes and totals. */
#include "helpers.h"
#include "tapes.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static ad_node_info node_of(ad_var x) {
    ad_node_info node;
    cr_assert_eq(ad_tape_node(x.tape, x.index, &node), AD_OK);
    return node;
}

/* ---- nodes ----------------------------------------------------------------------------------------------------- */

Test(look, a_node_tells_what_it_is) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf_at("a.c:1", t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), c = ad_index(t, 3);
    ad_scope_begin(t, "outer");
    ad_scope_begin(t, "inner");
    ad_var y = ad_reshape_at("a.c:5", x, AD_SHAPE(2, 1));
    ad_scope_end(t);
    ad_scope_end(t);
    ad_node_info leaf = node_of(x), constant = node_of(c), view = node_of(y);
    cr_expect_str_eq(leaf.name, "x");
    cr_expect_str_eq(leaf.where, "a.c:1");
    cr_expect_str_eq(leaf.op->name, "input");
    cr_expect(leaf.is_leaf && leaf.needs_gradient && !leaf.is_view && leaf.inputs == 0 && !leaf.param);
    cr_expect(constant.is_leaf && !constant.needs_gradient && constant.value.dtype == AD_I64);
    cr_expect_str_eq(constant.name, "");
    cr_expect(!view.is_leaf && view.is_view && view.inputs == 1 && view.input[0] == x.index && view.result == 0);
    cr_expect_str_eq(view.scope, "outer/inner");
    cr_expect_str_eq(view.where, "a.c:5");
    cr_expect_eq(view.scope_number, 2);
    expect_values(view.value, 1, 2);
    cr_expect_eq(ad_tape_node(t, 3, &leaf), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_node(t, -1, &leaf), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_node(NULL, 0, &leaf), AD_ERR_NULL);
    cr_expect_eq(ad_tape_node(t, 0, NULL), AD_ERR_NULL);
    expect_ok(t);
    ad_tape_free(t);
}

Test(look, a_node_tells_what_the_last_pass_left) {
    ad_tape *t = ad_tape_new(NULL);
    ad_pass_info pass;
    ad_var x = ad_scalar(t, "x", 3), z = ad_scalar(t, "z", 1), y = ad_mul(x, x);
    cr_assert_eq(ad_tape_pass(t, &pass), AD_OK);
    cr_expect(pass.nodes == 0 && pass.start == -1 && !pass.is_selective);
    cr_expect(!node_of(x).wanted && !node_of(x).reached && !node_of(x).has_gradient);
    ad_backward(y);
    ad_tape_pass(t, &pass);
    cr_expect(pass.nodes == 3 && pass.start == y.index && !pass.is_selective);
    cr_expect(node_of(x).wanted && node_of(x).reached && node_of(x).has_gradient && !node_of(x).is_seed);
    expect_values(node_of(x).gradient, 6);
    cr_expect(node_of(y).is_seed);
    cr_expect(node_of(z).wanted && !node_of(z).reached && !node_of(z).has_gradient);
    expect_values(ad_gradient(z), 0);
    cr_expect(node_of(z).has_gradient && !node_of(z).reached, "zeros that somebody asked for");
    ad_var later = ad_exp(y);
    cr_expect(!node_of(later).wanted && !node_of(later).has_gradient);
    ad_backward_with(later, &(ad_backward_options){.wrt = &y, .wrt_count = 1});
    ad_tape_pass(t, &pass);
    cr_expect(pass.is_selective);
    cr_expect(node_of(y).wanted && !node_of(x).wanted && !node_of(x).reached);
    expect_ok(t);
    ad_tape_free(t);
}

Test(look, a_parameter_tells_that_it_was_changed) {
    ad_tape *t = ad_tape_new(NULL);
    ad_param *w = NULL;
    cr_assert_eq(ad_param_new(&w, NULL, "w", AD_F64, AD_SHAPE(1), NULL, NULL), AD_OK);
    ad_var x = ad_use(t, w);
    cr_expect(node_of(x).param == w && node_of(x).is_leaf && !node_of(x).is_changed);
    ad_param_edit(w);
    cr_expect(node_of(x).is_changed);
    ad_tape_free(t);
    ad_param_unref(w);
}

/* ---- formulas -------------------------------------------------------------------------------------------------- */

/* The parts as "[i0]" for $0, "[~r1]" for ~y1, "[a]" for $a, with the text between them as it is. */
static void expect_parts(const char *formula, const char *wanted) {
    char got[256] = "";
    ad_formula_part part;
    for (const char *at = formula; ad_formula_next(&at, &part);) {
        char text[64];
        const char *bar = part.is_cotangent ? "~" : "";
        switch (part.kind) {
        case AD_FORMULA_TEXT: snprintf(text, sizeof text, "%.*s", (int)part.length, part.text); break;
        case AD_FORMULA_INPUT: snprintf(text, sizeof text, "[%si%d]", bar, part.number); break;
        case AD_FORMULA_RESULT: snprintf(text, sizeof text, "[%sr%d]", bar, part.number); break;
        case AD_FORMULA_ATTRS: snprintf(text, sizeof text, "[a]"); break;
        }
        strcat(got, text);
    }
    cr_expect_str_eq(got, wanted);
}

Test(look, a_formula_is_cut_into_text_and_references) {
    expect_parts("$y = $0 + $1", "[r0] = [i0] + [i1]");
    expect_parts("~0 += ~y * ($y1 - onehot($12))", "[~i0] += [~r0] * ([r1] - onehot([i12]))");
    expect_parts("$y = $a * $0^2", "[r0] = [a] * [i0]^2");
    expect_parts("", "");
    expect_parts("$ and ~ and $z, $$0", "$ and ~ and $z, $[i0]");
    expect_parts("~a$", "~a$");
    const char *none = NULL;
    ad_formula_part part;
    cr_expect_not(ad_formula_next(&none, &part));
}

Test(look, the_last_adjoint_formula_stands_for_all_further_inputs) {
    const ad_op op = {.name = "any", .inputs = -1, .adjoint = {"~0 += ~y", "~1 += $1 ~y"}};
    const ad_op leaf = {.name = "leaf"};
    int written_for;
    cr_expect_str_eq(ad_op_adjoint(&op, 0, &written_for), "~0 += ~y");
    cr_expect_eq(written_for, 0);
    cr_expect_str_eq(ad_op_adjoint(&op, 7, &written_for), "~1 += $1 ~y");
    cr_expect_eq(written_for, 1);
    cr_expect_str_eq(ad_op_adjoint(&leaf, 0, &written_for), "");
    cr_expect_str_eq(ad_op_adjoint(&op, -1, &written_for), "");
}

/* ---- saved values ---------------------------------------------------------------------------------------------- */

typedef struct saved_wanted {
    ad_var value;
    int input;
    uint64_t bytes, read_for;
} saved_wanted;

#define expect_saved(x, ...)                                                                                         \
    expect_saved_at(AD_HERE, x, (int)(sizeof((saved_wanted[]){__VA_ARGS__}) / sizeof(saved_wanted)),                 \
                    (saved_wanted[]){__VA_ARGS__})
#define expect_nothing_saved(x) expect_saved_at(AD_HERE, x, 0, NULL)
static void expect_saved_at(const char *line, ad_var x, int n, const saved_wanted *wanted) {
    ad_saved saved;
    int cursor = 0;
    for (int i = 0; i < n; i++) {
        cr_assert(ad_tape_saved(x.tape, x.index, &cursor, &saved), "%s: only %d values are saved", line, i);
        cr_expect(saved.node == wanted[i].value.index && saved.input == wanted[i].input &&
                      saved.bytes == wanted[i].bytes && saved.read_for == wanted[i].read_for,
                  "%s: number %d is node %lld, input %d, %llu bytes, read for %llx", line, i, (long long)saved.node,
                  saved.input, (unsigned long long)saved.bytes, (unsigned long long)saved.read_for);
    }
    cr_expect_not(ad_tape_saved(x.tape, x.index, &cursor, &saved), "%s: more is saved", line);
}

Test(look, what_is_saved_says_for_which_gradient) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), (double[]){1, 2, 3});
    ad_var H = ad_leaf(t, "H", AD_F64, AD_SHAPE(2, 3), (double[]){1, 2, 3, 4, 5, 6});
    ad_var c = ad_constant(t, "c", AD_F64, AD_SHAPE(3), (double[]){1, 2, 3});
    expect_saved(ad_matmul(H, x), {H, 0, 48, 2}, {x, 1, 24, 1});
    expect_nothing_saved(ad_add(x, x));
    expect_saved(ad_mul(x, x), {x, 0, 24, 3}); /* once, for both inputs */
    expect_saved(ad_mul(x, c), {c, 1, 24, 1}); /* x is read for the gradient of c only, which nobody wants */
    expect_nothing_saved(ad_mul(c, c));
    ad_var y = ad_relu(x);
    expect_saved(y, {y, -1, 24, 1});
    ad_var s = ad_scalar(t, "s", 2), e = ad_exp(s);
    expect_saved(e, {e, -1, 8, 1});
    ad_var target = ad_index(t, 1), loss = ad_softmax_xent(x, target), p = ad_tape_var(t, loss.index + 1);
    expect_saved(loss, {target, 1, 8, 1}, {p, -1, 24, 1});
    expect_nothing_saved(p);
    expect_nothing_saved(x);
    expect_ok(t);
    ad_tape_free(t);
}

static ad_status wide_shape(ad_call *call) {
    call->out[0].dtype = AD_F64;
    call->out[0].shape = AD_SCALAR;
    return AD_OK;
}

static ad_status wide_forward(ad_call *call) {
    double product = 1;
    for (int i = 0; i < call->inputs; i++) product *= ad_view_get(call->in[i], 0);
    *(double *)call->out[0].data = product;
    return AD_OK;
}

static void wide_vjp(ad_vjp *v) {
    for (int i = 0; i < ad_vjp_inputs(v); i++)
        ad_vjp_give(v, i, ad_div(ad_mul(ad_vjp_seed(v, 0), ad_vjp_result(v, 0)), ad_vjp_input(v, i)));
}

static const ad_op wide = {.name = "wide",
                           .inputs = -1,
                           .saves = AD_SAVES_INPUTS | AD_SAVES_RESULT(0),
                           .shape = wide_shape,
                           .forward = wide_forward,
                           .vjp = wide_vjp,
                           .formula = "$y = $0 * $1 * ...",
                           .adjoint = {"~0 += ~y * $y / $0"}};

Test(look, one_formula_for_any_number_of_inputs_reads_each_for_itself) {
    ad_tape *t = ad_tape_new(NULL);
    enum { n = 70 };
    ad_var in[n];
    for (int i = 0; i < n; i++) in[i] = ad_scalar(t, NULL, 1 + i % 3);
    ad_var y = ad_apply(t, &wide, n, in, NULL, NULL);
    ad_saved saved;
    int cursor = 0;
    for (int i = 0; i < n; i++) {
        cr_assert(ad_tape_saved(t, y.index, &cursor, &saved));
        cr_expect(saved.input == i && saved.node == in[i].index && saved.read_for == (uint64_t)1 << (i < 63 ? i : 63),
                  "input %d is read for %llx", i, (unsigned long long)saved.read_for);
    }
    cr_assert(ad_tape_saved(t, y.index, &cursor, &saved));
    cr_expect(saved.node == y.index && saved.input == -1 && saved.read_for == UINT64_MAX);
    cr_expect_not(ad_tape_saved(t, y.index, &cursor, &saved));
    ad_backward(y);
    for (int i = 0; i < n; i++) cr_expect_eq(ad_gradient_item(in[i]), ad_item(y) / ad_item(in[i]));
    expect_ok(t);
    ad_tape_free(t);
}

/* ---- contributions --------------------------------------------------------------------------------------------- */

/* A tape of random additions and products on vectors, with many merges. */
static ad_var random_graph(ad_tape *t, uint64_t seed, int operations) {
    ad_rng rng = {.seed = seed};
    for (int i = 0; i < 4; i++) {
        double data[3] = {ad_rng_normal(&rng), ad_rng_normal(&rng), ad_rng_normal(&rng)};
        ad_leaf(t, NULL, AD_F64, AD_SHAPE(3), data);
    }
    for (int i = 0; i < operations; i++) {
        ad_var a = ad_tape_var(t, ad_rng_below(&rng, ad_tape_size(t)));
        ad_var b = ad_tape_var(t, ad_rng_below(&rng, ad_tape_size(t)));
        ad_rng_below(&rng, 2) ? ad_add(a, b) : ad_mul(ad_tanh(a), b);
    }
    return ad_sum(ad_tape_var(t, ad_tape_size(t) - 1), AD_ALL_AXES, false);
}

/* Adds up what the interface says was contributed to a node; false if it holds the seed or nothing came. */
static bool sum_of_contributions(ad_tape *t, const ad_contributors *contributors, int64_t index, double sum[3]) {
    int64_t last = INT64_MAX, n = 0;
    ad_contribution contribution;
    for (; ad_contributors_at(contributors, index, n, &contribution); n++) {
        cr_assert_leq(contribution.consumer, last, "the last consumer comes first");
        last = contribution.consumer;
        ad_node_info consumer;
        ad_tape_node(t, contribution.consumer, &consumer);
        cr_assert_eq(consumer.input[contribution.input], index);
        ad_tensor *tensor;
        cr_assert_eq(ad_tape_contribution(t, contribution.consumer, contribution.input, &tensor), AD_OK);
        cr_assert_not_null(tensor);
        for (int k = 0; k < 3; k++) sum[k] = ad_view_get(ad_tensor_view(tensor), k) + (n ? sum[k] : 0);
        ad_tensor_unref(tensor);
    }
    cr_assert_eq(n, ad_contributors_count(contributors, index));
    return n > 0;
}

Test(look, contributions_add_up_to_the_gradient) {
    int64_t merges = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        ad_tape *t = ad_tape_new(NULL);
        ad_var y = random_graph(t, seed, 40);
        ad_backward(y);
        int64_t nodes = ad_tape_size(t), own_merges = 0;
        ad_contributors *contributors;
        cr_assert_eq(ad_contributors_new(&contributors, t, 0, nodes, 0), AD_OK);
        for (int64_t i = 0; i < nodes - 1; i++) {
            ad_node_info node;
            double sum[3];
            ad_tape_node(t, i, &node);
            cr_assert_eq(sum_of_contributions(t, contributors, i, sum), node.reached, "node %lld", (long long)i);
            for (int k = 0; node.reached && k < 3; k++)
                cr_assert(test_near(sum[k], ad_view_get(&node.gradient, k), 1e-14), "node %lld", (long long)i);
            own_merges += ad_contributors_count(contributors, i) > 1;
        }
        ad_totals totals;
        cr_assert_eq(ad_tape_totals(t, &totals), AD_OK);
        cr_assert_eq(totals.merges, own_merges);
        merges += own_merges;
        ad_contributors_free(contributors);
        expect_ok(t);
        ad_tape_free(t);
    }
    cr_assert_gt(merges, 50);
}

Test(look, an_index_of_contributors_covers_its_nodes_and_keeps_as_many_as_asked) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_scalar(t, "x", 1), y = x, other = ad_scalar(t, "other", 1);
    for (int i = 0; i < 10; i++) y = ad_add(y, x);
    ad_backward(y);
    ad_exp(x); /* recorded since: contributes nothing */
    ad_contributors *contributors;
    ad_contribution contribution;
    cr_assert_eq(ad_contributors_new(&contributors, t, 0, 2, 3), AD_OK);
    cr_expect_eq(ad_contributors_count(contributors, x.index), 11);
    for (int n = 0; n < 3; n++) {
        cr_assert(ad_contributors_at(contributors, x.index, n, &contribution));
        cr_expect(contribution.consumer == (int64_t)y.index - n && contribution.input == 1);
    }
    cr_expect_not(ad_contributors_at(contributors, x.index, 3, &contribution));
    cr_expect_not(ad_contributors_at(contributors, x.index, -1, &contribution));
    cr_expect_eq(ad_contributors_count(contributors, other.index), 0);
    cr_expect_eq(ad_contributors_count(contributors, y.index - 1), 0, "not in the index");
    cr_expect_eq(ad_contributors_count(NULL, 0), 0);
    ad_contributors_free(contributors);
    ad_contributors_free(NULL);
    cr_expect_eq(ad_contributors_new(&contributors, t, 1, 0, 0), AD_ERR_INDEX);
    cr_expect_eq(ad_contributors_new(&contributors, t, 0, 99, 0), AD_ERR_INDEX);
    cr_expect_null(contributors);
    cr_expect_eq(ad_contributors_new(&contributors, NULL, 0, 0, 0), AD_ERR_NULL);
    cr_expect_eq(ad_contributors_new(NULL, t, 0, 0, 0), AD_ERR_NULL);
    cr_assert_eq(ad_contributors_new(&contributors, t, 0, 0, 0), AD_OK);
    ad_contributors_free(contributors);
    ad_tape_free(t);
}

Test(look, what_is_detached_or_an_index_contributes_nothing) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(3), (double[]){1, 2, 3}), index = ad_index(t, 1);
    ad_backward(ad_mul(ad_softmax_xent(x, index), ad_sum(ad_detach(x), AD_ALL_AXES, false)));
    ad_contributors *contributors;
    cr_assert_eq(ad_contributors_new(&contributors, t, 0, 2, 0), AD_OK);
    cr_expect_eq(ad_contributors_count(contributors, x.index), 1);
    cr_expect_eq(ad_contributors_count(contributors, index.index), 0);
    ad_contributors_free(contributors);
    ad_tape_free(t);
}

static bool refuses;
static ad_status moody_backward(ad_call *call, ad_adjoint *adjoint) {
    if (refuses) return ad_fail(call, AD_ERR_VALUE, "not today");
    ad_pass(adjoint, 0, 0, &adjoint->seed[0]);
    return AD_OK;
}

static ad_status moody_shape(ad_call *call) {
    call->out[0] = *call->in[0];
    call->is_view[0] = true;
    return AD_OK;
}

static void note_error(void *user, const ad_error *error) {
    (void)error;
    ++*(int *)user;
}

/* Looking at a tape never puts it into its error state, and works when it is. */
Test(look, an_op_that_fails_when_asked_again_leaves_the_tape_alone) {
    static const ad_op moody = {.name = "moody",
                                .inputs = 1,
                                .shape = moody_shape,
                                .backward = moody_backward,
                                .vjp = wide_vjp,
                                .formula = "$y = $0",
                                .adjoint = {"~0 += ~y"}};
    int errors = 0;
    ad_tape *t = ad_tape_new(&(ad_tape_options){.on_error = note_error, .user = &errors});
    ad_var x = ad_leaf(t, "x", AD_F64, AD_SHAPE(2), (double[]){1, 2}), y = ad_apply(t, &moody, 1, &x, NULL, NULL);
    ad_backward(ad_sum(y, AD_ALL_AXES, false));
    expect_ok(t);
    ad_tensor *tensor;
    refuses = true;
    cr_expect_eq(ad_tape_contribution(t, y.index, 0, &tensor), AD_ERR_VALUE);
    cr_expect(tensor == NULL && errors == 0);
    expect_ok(t);
    refuses = false;
    ad_item(x);
    cr_assert_eq(ad_tape_status(t), AD_ERR_SHAPE);
    cr_assert_eq(errors, 1);
    cr_expect_eq(ad_tape_contribution(t, y.index, 0, &tensor), AD_OK);
    expect_values(*ad_tensor_view(tensor), 1, 1);
    ad_tensor_unref(tensor);
    cr_expect_eq(ad_tape_status(t), AD_ERR_SHAPE);
    cr_expect_eq(errors, 1);
    cr_expect_eq(ad_tape_contribution(t, y.index, 1, &tensor), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_contribution(t, 99, 0, &tensor), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_contribution(NULL, 0, 0, &tensor), AD_ERR_NULL);
    cr_expect_eq(ad_tape_contribution(t, 0, 0, NULL), AD_ERR_NULL);
    expect_error(t, AD_ERR_SHAPE, "x is f64[2], not a single number");
    ad_tape_free(t);
}

/* ---- scopes and totals ----------------------------------------------------------------------------------------- */

static void expect_scope(const ad_tape *t, int64_t number, const char *path, const char *name, int64_t parent,
                         int depth) {
    ad_scope_info scope;
    cr_assert_eq(ad_tape_scope(t, number, &scope), AD_OK);
    cr_expect_str_eq(scope.path, path);
    cr_expect_str_eq(scope.name, name);
    cr_expect_eq(scope.parent, parent);
    cr_expect_eq(scope.depth, depth);
}

Test(look, scopes_know_their_place) {
    ad_tape *t = ad_tape_new(NULL);
    ad_scope_info scope;
    cr_expect_eq(ad_tape_scope_count(t), 1);
    expect_scope(t, 0, "", "", -1, 0);
    ad_scope_begin(t, "block0/attention");
    ad_scope_begin(t, "head");
    ad_scope_end(t);
    ad_scope_begin(t, "head");
    for (int i = 0; i < 3; i++) ad_scope_end(t);
    expect_error(t, AD_ERR_VALUE, "one ad_scope_end too many");
    ad_scope_begin(t, "block0/attention");
    ad_scope_begin(t, "head");
    ad_scope_end(t);
    ad_scope_begin(t, "head");
    cr_expect_eq(ad_tape_scope_count(t), 4);
    expect_scope(t, 1, "block0/attention", "block0/attention", 0, 1);
    expect_scope(t, 2, "block0/attention/head", "head", 1, 2);
    expect_scope(t, 3, "block0/attention/head", "head", 1, 2);
    cr_expect_eq(ad_tape_scope(t, 4, &scope), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_scope(t, -1, &scope), AD_ERR_INDEX);
    cr_expect_eq(ad_tape_scope(NULL, 0, &scope), AD_ERR_NULL);
    ad_tape_free(t);
}

Test(look, totals_count_memory_that_is_shared_once_and_scopes_with_those_inside) {
    ad_tape *t = ad_tape_new(NULL);
    ad_tensor *shared;
    cr_assert_eq(ad_tensor_new(&shared, NULL, AD_F64, AD_SHAPE(4), (double[]){1, 2, 3, 4}, NULL), AD_OK);
    ad_var x = ad_leaf_tensor(t, "x", shared), again = ad_leaf_tensor(t, "x", shared);
    ad_scope_begin(t, "outer");
    ad_var a = ad_mul(x, again); /* saves x twice: one piece of 32 bytes */
    ad_scope_begin(t, "inner");
    ad_var b = ad_mul(ad_reshape(x, AD_SHAPE(2, 2)), ad_reshape(a, AD_SHAPE(2, 2))); /* and a: 32 more */
    ad_scope_end(t);
    ad_scope_end(t);
    ad_number(t, AD_F64, 1);
    ad_backward(ad_sum(b, AD_ALL_AXES, false));
    ad_totals totals[3];
    cr_assert_eq(ad_tape_scope_count(t), 3);
    cr_assert_eq(ad_tape_totals(t, totals), AD_OK);
    cr_expect(totals[0].nodes == 8 && totals[0].inputs == 2 && totals[0].constants == 1 && totals[0].operations == 5);
    cr_expect(totals[0].saved_bytes == 64 && totals[1].saved_bytes == 64 && totals[2].saved_bytes == 32,
              "%llu, %llu and %llu bytes", (unsigned long long)totals[0].saved_bytes,
              (unsigned long long)totals[1].saved_bytes, (unsigned long long)totals[2].saved_bytes);
    cr_expect(totals[1].nodes == 4 && totals[1].operations == 4 && totals[1].inputs == 0 &&
              totals[2].operations == 3);
    cr_expect(totals[0].merges == 1 && totals[1].merges == 0);
    cr_expect_eq(ad_tape_totals(NULL, totals), AD_ERR_NULL);
    cr_expect_eq(ad_tape_totals(t, NULL), AD_ERR_NULL);
    expect_ok(t);
    ad_tape_free(t);
    ad_tensor_unref(shared);
}

Test(look, any_allocation_may_fail) {
    test_memory memory;
    test_memory_open(&memory);
    ad_tape *t = ad_tape_new(&(ad_tape_options){.allocator = &memory.allocator});
    ad_backward(random_graph(t, 5, 300));
    ad_totals totals;
    ad_contributors *contributors;
    int64_t failures = 0;
    for (ad_status status = AD_ERR_OOM; status; failures++) {
        memory.calls = 0;
        memory.fail_at = failures + 1;
        int64_t blocks = memory.blocks;
        status = ad_tape_totals(t, &totals);
        if (!status) status = ad_contributors_new(&contributors, t, 0, ad_tape_size(t), 0);
        if (!status) ad_contributors_free(contributors);
        cr_assert(status == AD_OK || status == AD_ERR_OOM);
        cr_assert_eq(memory.blocks, blocks);
    }
    cr_expect_gt(failures, 6);
    expect_ok(t);
    ad_tape_free(t);
    test_memory_close(&memory);
}
