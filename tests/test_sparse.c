/* Sparse derivatives: patterns that miss nothing, of every op; colourings; matrices equal to the dense ones. */
#include "helpers.h"
#include "tapes.h"

#include "autodiff/tape/tape.h"
#include "autodiff/transform/coloring.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static ad_var total(ad_var x) { return ad_sum(x, AD_ALL_AXES, false); }

/* ---- patterns of ops ------------------------------------------------------------------------------------------------------ */

static bool has_column(const ad_column_set *set, int64_t column) {
    for (uint32_t i = 0; i < set->count; i++)
        if (set->column[i] == column) return true;
    return false;
}

/* Compares the pattern of an application with its Jacobian; adds up elements of both. */
static void compare_pattern(const ad_op *op, int number, int n, const ad_var *x, int m, const ad_var *y,
                            int64_t *size, int64_t *needed) {
    ad_tape *t = x[0].tape;
    ad_dependence_rows rows;
    cr_assert(ad_tape_depends(t, "the test", AD_HERE, n, x, m, y, &rows), "%s: %s", op->name, ad_tape_error(t));
    int64_t row = 0;
    for (int j = 0; j < m; j++) {
        ad_view value = ad_value(y[j]);
        for (int64_t e = 0; e < ad_view_count(&value); e++, row++) {
            double *unit = calloc((size_t)ad_view_count(&value), sizeof *unit);
            unit[e] = 1;
            ad_backward_with(y[j], &(ad_backward_options){.seed = ad_constant(t, NULL, AD_F64, value.shape, unit)});
            free(unit);
            int64_t column = 0;
            for (int i = 0; i < n; i++) {
                ad_view g = ad_gradient(x[i]);
                for (int64_t k = 0; k < ad_view_count(&g); k++, column++) {
                    bool is_zero = ad_view_get(&g, k) == 0;
                    *needed += !is_zero;
                    cr_assert(is_zero || has_column(rows.row[row], column),
                              "%s, sample %d: element %lld of result %d depends on element %lld of input %d",
                              op->name, number, (long long)e, j, (long long)k, i);
                }
            }
            *size += rows.row[row]->count;
        }
    }
    expect_ok(t);
    ad_arena_close(&rows.memory);
}

static bool check_sample(const ad_op *op, int number, int64_t *size, int64_t *needed) {
    ad_sample sample = {.rng = {.seed = 3, .counter = (uint64_t)number << 32}, .dtype = AD_F64};
    sample.allocator = ad_allocator_default();
    bool more = op->sample(&sample, number);
    ad_tape *t = ad_tape_new(NULL);
    ad_var in[AD_MAX_SAMPLE_INPUTS], x[AD_MAX_SAMPLE_INPUTS], results[AD_MAX_RESULTS], y[AD_MAX_RESULTS];
    int n = 0, m = 0;
    for (int i = 0; i < sample.inputs && more; i++) {
        in[i] = ad_leaf_tensor(t, NULL, sample.input[i]);
        if (ad_dtype_is_float(ad_tensor_view(sample.input[i])->dtype)) x[n++] = in[i];
    }
    if (more) ad_apply(t, op, sample.inputs, in, &sample.attrs, results);
    for (int k = 0; k < ad_op_results(op) && more; k++)
        if (ad_dtype_is_float(ad_value(results[k]).dtype)) y[m++] = results[k];
    if (n > 0 && m > 0) compare_pattern(op, number, n, x, m, y, size, needed);
    ad_tape_free(t);
    for (int i = 0; i < sample.inputs; i++) ad_tensor_unref(sample.input[i]);
    return more;
}

/* Never too few, for every op. */
Test(sparse, the_pattern_of_every_op_misses_nothing) {
    int said = 0;
    for (int i = 0; i < ad_op_count(); i++) {
        const ad_op *op = ad_op_at(i);
        int64_t size = 0, needed = 0;
        if (op->derivative != AD_DIFFERENTIABLE) continue;
        for (int number = 0; check_sample(op, number, &size, &needed); number++)
            ;
        cr_assert_gt(needed, 0, "%s: nothing depends on anything", op->name);
        said += op->depends != NULL || !op->forward;
        if (getenv("PATTERNS"))
            fprintf(stderr, "%-20s %6lld of %6lld%s\n", op->name, (long long)needed, (long long)size,
                    op->depends ? "" : " -");
    }
    cr_assert_gt(said, 100);
}

/* ---- patterns of whole functions ------------------------------------------------------------------------------------------- */

static ad_tensor *vector(int64_t n, uint64_t seed) {
    ad_tensor *made;
    cr_assert_eq(ad_tensor_new(&made, NULL, AD_F64, AD_SHAPE(n), NULL, NULL), AD_OK);
    ad_rng rng = {.seed = seed};
    for (int64_t i = 0; i < n; i++) ((double *)ad_tensor_view(made)->data)[i] = ad_rng_normal(&rng);
    return made;
}

/* The Rosenbrock chain: a tridiagonal Hessian. */
static ad_status chain_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = ad_slice(in[0], 0, 0, -1, 1), next = ad_slice(in[0], 0, 1, AD_TO_END, 1);
    out[0] = ad_add(total(ad_square(ad_sub(next, ad_square(x)))),
                    total(ad_square(ad_sub(ad_number(t, AD_F64, 1), x))));
    return AD_OK;
}
/* x0 times the sum of the cubes of the others: an arrow. */
static ad_status arrow_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_mul(ad_select(in[0], 0, 0), total(ad_power(ad_slice(in[0], 0, 1, AD_TO_END, 1), 3)));
    return AD_OK;
}
/* Pairs by index, some more than once, as in a graph of springs. */
static ad_status springs_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    const int64_t from[] = {0, 1, 2, 3, 0, 5, 5, 2, 9}, to[] = {1, 2, 3, 4, 4, 6, 7, 8, 0};
    ad_var i = ad_constant(t, NULL, AD_I64, AD_SHAPE(9), from), j = ad_constant(t, NULL, AD_I64, AD_SHAPE(9), to);
    ad_var stretch = ad_sub(ad_index_select(in[0], 0, i), ad_gather(in[0], 0, j));
    out[0] = total(ad_power(stretch, 4));
    return AD_OK;
}
/* Five points in the plane, all rows of a softmax, a layer, a matrix product, a sum along an axis, a sort, a window. */
static ad_status blocks_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = ad_reshape(in[0], AD_SHAPE(5, 2)), w = CONSTANT(t, 1, -2, 3, 0.5, 2, 1);
    ad_var h = ad_linear(x, ad_reshape(w, AD_SHAPE(3, 2)), CONSTANT(t, 1, 2, 3));
    ad_var parts[] = {ad_softmax(h, 1), ad_sort(ad_mul(h, h), 1, false, NULL), ad_cumsum(h, 1, false)};
    ad_var joined = ad_mul(ad_cat(3, parts, 1), ad_sum(x, AD_AXES(1), true));
    ad_var m = ad_matmul(ad_tanh(joined), ad_broadcast_to(ad_number(t, AD_F64, 0.5), AD_SHAPE(9, 2)));
    out[0] = ad_add(total(ad_square(m)),
                    total(ad_square(ad_mean(ad_unfold(ad_exp(in[0]), 0, 2, 2), AD_AXES(1), false))));
    return AD_OK;
}
/* Everything with everything. */
static ad_status dense_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_exp(ad_scale(total(in[0]), 0.25));
    return AD_OK;
}
/* Nothing with anything: the second derivative of a sum. */
static ad_status linear_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = total(in[0]);
    return AD_OK;
}

/* Jacobians, with more rows than columns, fewer, and several outputs and inputs. */
static ad_status differences_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_square(ad_sub(ad_slice(in[0], 0, 1, AD_TO_END, 1), ad_slice(in[0], 0, 0, -1, 1)));
    return AD_OK;
}
static ad_status repeat_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    out[0] = ad_sin(ad_repeat_interleave(in[0], 3, 0));
    return AD_OK;
}
static ad_status pairs_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)t, (void)user;
    ad_var x = ad_reshape(in[0], AD_SHAPE(5, 2));
    out[0] = ad_prod(x, AD_AXES(1), false);
    return AD_OK;
}

/* A stencil along one axis of a grid [5,2], as a convolution; and the sum of its fourth powers. */
static ad_status stencil_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var kernel = ad_constant(t, NULL, AD_F64, AD_SHAPE(1, 1, 3, 1), (double[]){1, -2, 1});
    ad_conv_options options = {.padding = {1, 0}};
    ad_var grid = ad_reshape(in[0], AD_SHAPE(1, 1, 5, 2));
    out[0] = ad_exp(ad_reshape(ad_conv2d(grid, kernel, AD_NONE, &options), AD_SHAPE(10)));
    return AD_OK;
}
static ad_status stencil_energy_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    stencil_fn(t, in, out, user);
    out[0] = total(out[0]);
    return AD_OK;
}

/* Five systems of two equations, whose matrices depend on their own unknowns too. */
static ad_status stack_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    (void)user;
    ad_var x = ad_reshape(in[0], AD_SHAPE(5, 2, 1)),
           eye = ad_constant(t, NULL, AD_F64, AD_SHAPE(2, 2), (double[]){3, 0, 0, 3});
    ad_var a = ad_add(ad_tanh(ad_matmul(x, ad_transpose(x))), eye);
    out[0] = ad_mul(ad_reshape(ad_solve(a, x), AD_SHAPE(10)), ad_repeat_interleave(ad_logdet(a), 2, 0));
    return AD_OK;
}

static const struct {
    const char *name;
    ad_status (*fn)(ad_tape *t, const ad_var *in, ad_var *out, void *user);
    bool hessian;
    int64_t elements, products;
} functions[] = {
    {"chain", chain_fn, true, 10 + 2 * 9, 3},
    {"arrow", arrow_fn, true, 9 + 2 * 9, 2},
    {"springs", springs_fn, true, 10 + 2 * 9, 4},
    {"blocks", blocks_fn, true, 5 * 4, 2},
    {"dense", dense_fn, true, 100, 10},
    {"linear", linear_fn, true, 0, 1},
    {"differences", differences_fn, false, 2 * 9, 2},
    {"repeat", repeat_fn, false, 30, 1},
    {"pairs", pairs_fn, false, 10, 1},
    {"stack", stack_fn, false, 5 * 4, 2},
    {"stencil", stencil_fn, false, 2 * 13, 3},
    {"stencil energy", stencil_energy_fn, true, 2 * 19, 4},
};

static double element_of(const ad_csr *m, int64_t r, int64_t c) {
    for (int64_t e = m->start[r]; e < m->start[r + 1]; e++)
        if (m->column[e] == c) return m->value[e];
    return 0;
}

static void expect_same_matrix(const char *name, const ad_csr *m, const double *dense) {
    for (int64_t r = 0; r < m->rows; r++) {
        for (int64_t e = m->start[r] + 1; e < m->start[r + 1]; e++) cr_assert_gt(m->column[e], m->column[e - 1]);
        for (int64_t c = 0; c < m->columns; c++) {
            double got = element_of(m, r, c), want = dense[r * m->columns + c];
            cr_assert(test_near(got, want, 1e-13), "%s[%lld,%lld]: %.17g, not %.17g", name, (long long)r,
                      (long long)c, got, want);
        }
    }
}

Test(sparse, matrices_are_the_dense_ones_with_few_products) {
    enum { n = 10 };
    ad_tensor *x = vector(n, 1), *there = vector(n, 2);
    for (int i = 0; i < TEST_COUNT(functions); i++) {
        ad_function f = {.fn = functions[i].fn, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
        const ad_function *g = functions[i].hessian ? &gradient : &f;
        static double dense[3 * n * n], diagonal[n];
        ad_linear *linear;
        ad_sparse *sparse;
        ad_error error = {AD_OK, ""};
        cr_assert_eq(ad_linear_new(&linear, g, NULL, &x, &error), AD_OK, "%s", error.message);
        cr_assert_eq(ad_linear_dense(linear, dense, NULL), AD_OK);
        cr_assert_eq(ad_sparse_new(&sparse, linear, &error), AD_OK, "%s", error.message);
        ad_csr m = ad_sparse_matrix(sparse);
        cr_assert(m.rows == ad_linear_rows(linear) && m.columns == n);
        expect_same_matrix(functions[i].name, &m, dense);
        cr_assert_eq(m.start[m.rows], functions[i].elements, "%s: %lld elements", functions[i].name,
                     (long long)m.start[m.rows]);
        cr_assert_eq(ad_sparse_products(sparse), functions[i].products, "%s: %lld products", functions[i].name,
                     (long long)ad_sparse_products(sparse));
        ad_linear_move(linear, ad_tensor_view(there)->data, NULL);
        cr_assert_eq(ad_sparse_update(sparse, linear, NULL), AD_OK);
        ad_linear_dense(linear, dense, NULL);
        expect_same_matrix(functions[i].name, &m, dense);
        if (m.rows == n) {
            cr_assert_eq(ad_linear_diagonal(linear, diagonal, NULL), AD_OK);
            for (int k = 0; k < n; k++) expect_near(diagonal[k], dense[k * n + k], 1e-13);
        }
        ad_sparse_free(sparse);
        ad_linear_free(linear);
    }
    ad_tensor_unref(x);
    ad_tensor_unref(there);
}

/* Element for element the closed form: 12 x_i^2 - 4 x_{i+1} + 2 [+ 2], -4 x_i beside it. */
Test(sparse, a_tridiagonal_hessian_of_10000_variables_takes_three_products) {
    enum { n = 10000 };
    ad_tensor *x = vector(n, 1);
    const double *at = ad_tensor_view(x)->data;
    static double diagonal[n];
    ad_function f = {.fn = chain_fn, .inputs = 1, .outputs = 1}, gradient = ad_grad_of(&f);
    ad_linear *linear;
    ad_sparse *sparse;
    cr_assert_eq(ad_linear_new(&linear, &gradient, NULL, &x, NULL), AD_OK);
    cr_assert_eq(ad_sparse_new(&sparse, linear, NULL), AD_OK);
    cr_assert_eq(ad_sparse_products(sparse), 3);
    cr_assert_eq(ad_linear_diagonal(linear, diagonal, NULL), AD_OK);
    ad_csr m = ad_sparse_matrix(sparse);
    cr_assert_eq(m.start[n], n + 2 * (n - 1));
    for (int i = 0; i < n; i++) {
        double want = (i > 0 ? 2 : 0) + (i < n - 1 ? 12 * at[i] * at[i] - 4 * at[i + 1] + 2 : 0);
        expect_near(element_of(&m, i, i), want, 1e-13);
        expect_near(diagonal[i], want, 1e-13);
        if (i + 1 == n) break;
        expect_near(element_of(&m, i, i + 1), -4 * at[i], 1e-14);
        expect_near(element_of(&m, i + 1, i), -4 * at[i], 1e-14);
    }
    ad_sparse_free(sparse);
    ad_linear_free(linear);
    ad_tensor_unref(x);
}

/* An op of a user's that says nothing depends on everything; one that says it is elementwise does not. */
static ad_status same_shape(ad_call *call) {
    if (call->in[0]->dtype != AD_F64) return ad_fail(call, AD_ERR_DTYPE, "%s: only f64", ad_describe(call, 0));
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status double_forward(ad_call *call) {
    for (int64_t i = 0, n = ad_view_count(call->in[0]); i < n; i++)
        ((double *)call->out[0].data)[i] = 2 * ad_view_get(call->in[0], i);
    return AD_OK;
}
static void double_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_scale(ad_vjp_seed(v, 0), 2)); }
static const ad_op silent = {
    .name = "silent", .inputs = 1, .shape = same_shape, .forward = double_forward, .vjp = double_vjp};
static const ad_op said = {.name = "said",
                           .inputs = 1,
                           .shape = same_shape,
                           .forward = double_forward,
                           .vjp = double_vjp,
                           .depends = ad_depends_elementwise};
static ad_status apply_fn(ad_tape *t, const ad_var *in, ad_var *out, void *user) {
    out[0] = ad_apply(t, user, 1, in, NULL, NULL);
    return AD_OK;
}

Test(sparse, an_op_that_does_not_say_is_taken_to_be_dense) {
    ad_tensor *x = vector(6, 1);
    const ad_op *const ops[] = {&silent, &said};
    for (int i = 0; i < 2; i++) {
        ad_function f = {.fn = apply_fn, .inputs = 1, .outputs = 1, .user = (void *)(uintptr_t)ops[i]};
        ad_linear *linear;
        ad_sparse *sparse;
        cr_assert_eq(ad_linear_new(&linear, &f, NULL, &x, NULL), AD_OK);
        cr_assert_eq(ad_sparse_new(&sparse, linear, NULL), AD_OK);
        ad_csr m = ad_sparse_matrix(sparse);
        cr_assert_eq(m.start[6], i ? 6 : 36);
        cr_assert_eq(ad_sparse_products(sparse), i ? 1 : 6);
        for (int k = 0; k < 6; k++) cr_assert_eq(element_of(&m, k, k), 2);
        ad_sparse_free(sparse);
        ad_linear_free(linear);
    }
    ad_tensor_unref(x);
}

/* One that says what is not so is caught by ad_op_check: it turns its input around. */
static ad_status turn_forward(ad_call *call) {
    for (int64_t i = 0, n = ad_view_count(call->in[0]); i < n; i++)
        ((double *)call->out[0].data)[i] = ad_view_get(call->in[0], n - 1 - i);
    return AD_OK;
}
static void turn_vjp(ad_vjp *v) { ad_vjp_give(v, 0, ad_flip(ad_vjp_seed(v, 0), AD_ALL_AXES)); }
static bool turn_sample(ad_sample *sample, int k) { return k == 0 && ad_sample_normal(sample, AD_SHAPE(4)); }

Test(sparse, an_op_that_says_what_is_not_so_is_caught) {
    ad_op turn = {.name = "turn",
                  .inputs = 1,
                  .shape = same_shape,
                  .forward = turn_forward,
                  .vjp = turn_vjp,
                  .formula = "$y = $0 backwards",
                  .adjoint = {"~0 += ~y backwards"},
                  .depends = ad_depends_moved,
                  .sample = turn_sample};
    ad_check_report report;
    cr_assert_eq(ad_op_check(&turn, NULL, &report), AD_OK, "%s", report.message);
    turn.depends = ad_depends_elementwise;
    cr_assert_eq(ad_op_check(&turn, NULL, &report), AD_ERR_CHECK);
    cr_assert_str_eq(report.law, "depends as it says");
    cr_assert(strstr(report.message, "result 0 at [0] depends on input 0 at [3], which its .depends does not say"),
              "%s", report.message);
}

/* ---- colourings -------------------------------------------------------------------------------------------------------------- */

enum { MOST = 40 };
typedef struct random_pattern {
    bool has[MOST][MOST];
    ad_pattern pattern, transposed;
    int64_t start[2][MOST + 1], column[2][MOST * MOST];
} random_pattern;

static void list(ad_pattern *p, const random_pattern *r, bool transposed) {
    int64_t count = 0;
    for (int64_t i = 0; i < p->rows; i++) {
        for (int64_t j = 0; j < p->columns; j++)
            if (transposed ? r->has[j][i] : r->has[i][j]) p->column[count++] = j;
        p->start[i + 1] = count;
    }
}

static void make_random(random_pattern *r, ad_rng *rng, bool symmetric) {
    memset(r, 0, sizeof *r);
    int64_t rows = 1 + ad_rng_below(rng, MOST), columns = symmetric ? rows : 1 + ad_rng_below(rng, MOST);
    int64_t out_of = 1 + ad_rng_below(rng, 12);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < columns; j++) {
            if (ad_rng_below(rng, out_of)) continue;
            r->has[i][j] = true;
            if (symmetric) r->has[j][i] = true;
        }
    }
    r->pattern = (ad_pattern){rows, columns, r->start[0], r->column[0]};
    r->transposed = (ad_pattern){columns, rows, r->start[1], r->column[1]};
    list(&r->pattern, r, false);
    list(&r->transposed, r, true);
}

Test(sparse, colours_keep_apart_what_must_be) {
    static random_pattern r;
    int64_t color[MOST], forbidden[MOST + 1];
    ad_rng rng = {.seed = 1};
    for (int round = 0; round < 300; round++) {
        make_random(&r, &rng, false);
        int64_t colors = ad_color_columns(&r.pattern, &r.transposed, color, forbidden);
        for (int64_t i = 0; i < r.pattern.rows; i++)
            for (int64_t a = 0; a < r.pattern.columns; a++)
                for (int64_t b = 0; b < a; b++)
                    cr_assert(!(r.has[i][a] && r.has[i][b] && color[a] == color[b]), "round %d: row %d", round,
                              (int)i);
        for (int64_t a = 0; a < r.pattern.columns; a++) cr_assert(color[a] >= 0 && color[a] < colors);

        make_random(&r, &rng, true);
        int64_t n = r.pattern.rows;
        ad_color_neighbours(&r.pattern, color, forbidden);
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = 0; b < a; b++) cr_assert(!(r.has[a][b] && color[a] == color[b]));
        ad_color_star(&r.pattern, color, forbidden);
        for (int64_t a = 0; a < n; a++) {
            for (int64_t b = 0; b < n; b++) {
                if (a == b || !r.has[a][b]) continue;
                cr_assert_neq(color[a], color[b]);
                /* alone in its row, or its mirror image is */
                int in_row = 0, in_column = 0;
                for (int64_t k = 0; k < n; k++) {
                    in_row += r.has[a][k] && color[k] == color[b];
                    in_column += r.has[b][k] && color[k] == color[a];
                }
                cr_assert(in_row == 1 || in_column == 1, "round %d: %d, %d", round, (int)a, (int)b);
            }
        }
    }
}

/* ---- what is refused, and no memory -------------------------------------------------------------------------------------------- */

Test(sparse, what_does_not_fit_is_refused) {
    ad_tensor *x = vector(4, 1), *longer = vector(5, 1);
    const ad_function f = {.fn = differences_fn, .inputs = 1, .outputs = 1};
    ad_linear *linear, *other;
    ad_sparse *sparse;
    ad_error error = {AD_OK, ""};
    double numbers[5];
    cr_assert_eq(ad_linear_new(&linear, &f, NULL, &x, NULL), AD_OK);
    cr_assert_eq(ad_linear_new(&other, &f, NULL, &longer, NULL), AD_OK);
    ad_sparse_new(NULL, linear, &error);
    expect_message(&error, AD_ERR_NULL, "ad_sparse_new: out is NULL");
    ad_sparse_new(&sparse, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_sparse_new: the map is NULL");
    cr_assert_null(sparse);
    cr_assert_eq(ad_sparse_new(&sparse, linear, NULL), AD_OK);
    ad_sparse_update(NULL, linear, &error);
    expect_message(&error, AD_ERR_NULL, "ad_sparse_update: the matrix is NULL");
    ad_sparse_update(sparse, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_sparse_update: the map is NULL");
    ad_sparse_update(sparse, other, &error);
    expect_message(&error, AD_ERR_SHAPE, "the map is 4 x 5, the matrix 3 x 4");
    ad_linear_diagonal(linear, numbers, &error);
    expect_message(&error, AD_ERR_SHAPE, "the matrix is 3 x 4, not square");
    ad_linear_diagonal(linear, NULL, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_diagonal: the result is NULL");
    ad_linear_diagonal(NULL, numbers, &error);
    expect_message(&error, AD_ERR_NULL, "ad_linear_diagonal: the map is NULL");
    cr_assert(ad_sparse_products(NULL) == 0 && ad_sparse_matrix(NULL).rows == 0);
    ad_sparse_free(NULL);
    ad_sparse_free(sparse);
    ad_linear_free(linear);
    ad_linear_free(other);
    ad_tensor_unref(x);
    ad_tensor_unref(longer);
}

static ad_status everything(const ad_allocator *allocator, double *result) {
    ad_tensor *x = vector(10, 1);
    ad_function f = {.fn = springs_fn, .inputs = 1, .outputs = 1}, g = {.fn = blocks_fn, .inputs = 1, .outputs = 1};
    ad_function gradients[] = {ad_grad_of(&f), ad_grad_of(&g)};
    ad_error error = {AD_OK, ""};
    ad_status status = AD_OK;
    for (int i = 0; i < 2 && !status; i++) {
        ad_linear *linear = NULL;
        ad_sparse *sparse = NULL;
        status = ad_linear_new(&linear, &gradients[i], allocator, &x, &error);
        if (!status) status = ad_sparse_new(&sparse, linear, &error);
        if (!status) status = ad_linear_diagonal(linear, result, &error);
        for (int64_t e = 0; e < 20 && !status; e++) result[10 + e] = ad_sparse_matrix(sparse).value[e];
        /* A failure leaves the map as it was. */
        if (linear && status) cr_assert_eq(ad_linear_value(linear, result, NULL), AD_OK);
        ad_sparse_free(sparse);
        ad_linear_free(linear);
    }
    cr_assert(!status || (status == AD_ERR_OOM && strstr(error.message, "out of memory")), "%s", error.message);
    ad_tensor_unref(x);
    return status;
}

Test(sparse, each_allocation_may_fail) {
    double undisturbed[30], got[30];
    cr_assert_eq(everything(NULL, undisturbed), AD_OK);
    for (int64_t at = 1;; at++) {
        test_memory memory;
        test_memory_open(&memory);
        memory.fail_at = at;
        ad_status status = everything(&memory.allocator, got);
        bool reached = memory.calls >= at;
        cr_assert(status == AD_ERR_OOM || memcmp(got, undisturbed, sizeof got) == 0, "allocation %lld",
                  (long long)at);
        test_memory_close(&memory);
        if (!reached) break;
    }
}
