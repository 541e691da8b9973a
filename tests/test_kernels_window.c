/* The kernels that slide windows over images, of every instruction set, against plain loops over all elements. */
#include "helpers.h"
#include "ops/kernels/direct.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

TestSuite(window, .fini = test_arrays_free);

/* Windows that fit, however they may be asked for. */
static ad_windows any_windows(ad_rng *rng, int64_t most_size, int64_t most_kernel) {
    ad_windows v;
    for (int i = 0; i < 2; i++) {
        v.size[i] = 1 + ad_rng_below(rng, most_size);
        v.stride[i] = 1 + ad_rng_below(rng, 3);
        v.dilation[i] = 1 + ad_rng_below(rng, 2);
        v.kernel[i] = 1 + ad_rng_below(rng, most_kernel);
        v.padding[i] = ad_rng_below(rng, v.kernel[i] / 2 + 1);
        const int64_t steps = v.size[i] + 2 * v.padding[i] - (v.kernel[i] - 1) * v.dilation[i] - 1;
        if (steps < 0) return any_windows(rng, most_size, most_kernel);
        v.count[i] = steps / v.stride[i] + 1;
        /* One more, which does not see all that it might. */
        if (ad_rng_below(rng, 2) && v.count[i] * v.stride[i] < v.size[i] + v.padding[i]) v.count[i]++;
    }
    return v;
}

/* ---- the largest element ------------------------------------------------------------------------------------------- */

static bool is_blind(const ad_windows *v) {
    for (int axis = 0; axis < 2; axis++)
        for (int64_t i = 0; i < v->count[axis]; i++)
            if (ad_window_is_blind(v, axis, i)) return true;
    return false;
}

/* Where in its plane the first of the largest elements is that the window sees, or the first NaN. */
static int64_t largest(const ad_windows *v, const ad_view *x, int64_t plane, int64_t i, int64_t j) {
    int64_t best = -1;
    double most = 0;
    for (int64_t a = 0; a < v->kernel[0]; a++)
        for (int64_t b = 0; b < v->kernel[1]; b++) {
            const int64_t row = i * v->stride[0] - v->padding[0] + a * v->dilation[0];
            const int64_t column = j * v->stride[1] - v->padding[1] + b * v->dilation[1];
            if (row < 0 || row >= v->size[0] || column < 0 || column >= v->size[1]) continue;
            const int64_t at = row * v->size[1] + column;
            const double seen = test_get(x, plane * v->size[0] * v->size[1] + at);
            if (best >= 0 && (isnan(most) || !(seen > most || isnan(seen)))) continue;
            best = at, most = seen;
        }
    return best;
}

static void check_max_pool(const ad_kernels *kernels, const ad_windows *v, ad_rng *rng, int round) {
    enum { PLANES = 3 };
    const ad_dtype dtype = round % 2 ? AD_F64 : AD_F32;
    const int64_t of_x = v->size[0] * v->size[1], of_y = v->count[0] * v->count[1];
    ad_view x = test_array(dtype, AD_SHAPE(PLANES, of_x), TEST_DENSE), x_bar = test_copy(&x), added = test_copy(&x);
    ad_view y = test_array(dtype, AD_SHAPE(PLANES, of_y), TEST_DENSE), g = test_copy(&y);
    ad_view index = test_array(AD_I64, AD_SHAPE(PLANES, of_y), TEST_DENSE);
    for (int64_t i = 0; i < PLANES * of_x; i++) { /* many are equal, some NaN */
        test_set(&x, i, ad_rng_below(rng, 50) ? (double)ad_rng_below(rng, 9) : NAN);
        test_set(&added, i, 1);
    }
    for (int64_t i = 0; i < PLANES * of_y; i++) test_set(&g, i, (double)(1 + i % 5));
    kernels->max_pool(v, dtype, PLANES, x.data, y.data, index.data);
    kernels->max_pool_back(v, dtype, PLANES, g.data, index.data, x_bar.data, false);
    kernels->max_pool_back(v, dtype, PLANES, g.data, index.data, added.data, true);
    for (int64_t i = 0; i < PLANES * of_y; i++) {
        const int64_t plane = i / of_y, window = i % of_y;
        const int64_t at = largest(v, &x, plane, window / v->count[1], window % v->count[1]);
        const int64_t element = plane * of_x + at;
        cr_assert_eq(at, (int64_t)test_get(&index, i), "%s, round %d, window %lld", kernels->isa, round,
                     (long long)i);
        const double expected = test_get(&x, element), actual = test_get(&y, i);
        cr_assert(expected == actual || (isnan(expected) && isnan(actual)));
        test_set(&x_bar, element, test_get(&x_bar, element) - test_get(&g, i));
        test_set(&added, element, test_get(&added, element) - test_get(&g, i));
    }
    for (int64_t i = 0; i < PLANES * of_x; i++) /* whole numbers: nothing is left of sums that were right */
        cr_assert(test_get(&x_bar, i) == 0 && test_get(&added, i) == 1, "%s, round %d", kernels->isa, round);
    test_arrays_free();
}

Test(window, max_pool_finds_the_first_of_the_largest) {
    enum { ROUNDS = 1000 };
    for (int k = 0; ad_kernels_table(k); k++) {
        ad_rng rng = {.seed = 1};
        for (int round = 0; round < ROUNDS; round++) {
            const ad_windows v = any_windows(&rng, round % 4 ? 12 : 80, 4);
            if (!is_blind(&v)) check_max_pool(ad_kernels_table(k), &v, &rng, round);
        }
    }
}

/* ---- convolution --------------------------------------------------------------------------------------------------- */

/* A problem with its three sides, of which one is the result. */
typedef struct problem {
    ad_convolution c;
    ad_side result;
    ad_view side[3], bias; /* bias: data NULL if there is none */
    bool add;
} problem;

static ad_shape shape_of(const ad_convolution *c, ad_side side) {
    const ad_windows *v = &c->windows;
    if (side == AD_SIDE_X) return AD_SHAPE(c->images, c->groups, c->channels, v->size[0], v->size[1]);
    if (side == AD_SIDE_Y) return AD_SHAPE(c->images, c->groups, c->filters, v->count[0], v->count[1]);
    return AD_SHAPE(c->groups, c->filters, c->channels, v->kernel[0], v->kernel[1]);
}

/* Windows of which some may lie beyond the image altogether. */
static ad_windows any_padded_windows(ad_rng *rng) {
    ad_windows v = any_windows(rng, 15, 4);
    for (int i = 0; i < 2; i++) {
        if (ad_rng_below(rng, 2)) v.stride[i] = 1;
        v.padding[i] += ad_rng_below(rng, v.kernel[i] * v.dilation[i] + 2);
        v.count[i] = (v.size[i] + 2 * v.padding[i] - (v.kernel[i] - 1) * v.dilation[i] - 1) / v.stride[i] + 1;
    }
    return v;
}

static problem any_problem(ad_rng *rng, int round) {
    const int64_t filters[] = {1, 2, 3, 6, 16, 17, 32, 35, 50, 70};
    problem p = {.c = {.dtype = round % 2 ? AD_F64 : AD_F32,
                       .images = 1 + ad_rng_below(rng, 3),
                       .groups = 1 + ad_rng_below(rng, 2),
                       .channels = filters[ad_rng_below(rng, round % 3 ? 4 : 8)],
                       .filters = filters[ad_rng_below(rng, TEST_COUNT(filters))],
                       .windows = any_padded_windows(rng)},
                 .result = (ad_side)(round / 2 % 3),
                 .add = round / 6 % 2};
    for (int i = 0; i < 3; i++)
        p.side[i] = test_random(p.c.dtype, shape_of(&p.c, (ad_side)i), TEST_DENSE, ad_rng_next(rng));
    p.bias.data = NULL;
    if (p.result == AD_SIDE_Y && !p.add && round % 5)
        p.bias = test_random(p.c.dtype, AD_SHAPE(p.c.groups, p.c.filters), TEST_DENSE, ad_rng_next(rng));
    return p;
}

/* Calls f for each product of an element of x with one of w that y has in it; all as element numbers. */
typedef void product_function(void *user, int64_t x, int64_t w, int64_t y);
static void for_products(const ad_convolution *c, product_function *f, void *user) {
    const ad_windows *v = &c->windows;
    const int64_t of_w = c->channels * v->kernel[0] * v->kernel[1], n = v->count[0] * v->count[1];
    for (int64_t y = 0; y < c->images * c->groups * c->filters * n; y++)
        for (int64_t l = 0; l < of_w; l++) {
            const int64_t filter = y / n % (c->groups * c->filters), group = y / n / c->filters; /* of all images */
            const int64_t channel = l / (v->kernel[0] * v->kernel[1]);
            const int64_t row = y % n / v->count[1] * v->stride[0] - v->padding[0] +
                                l / v->kernel[1] % v->kernel[0] * v->dilation[0];
            const int64_t column = y % v->count[1] * v->stride[1] - v->padding[1] + l % v->kernel[1] * v->dilation[1];
            if (row < 0 || row >= v->size[0] || column < 0 || column >= v->size[1]) continue;
            const int64_t plane = group * c->channels + channel;
            f(user, (plane * v->size[0] + row) * v->size[1] + column, filter * of_w + l, y);
        }
}

typedef struct expected {
    const problem *p;
    double *sum, *size; /* of the absolute values */
} expected;

static void add_product(void *user, int64_t x, int64_t w, int64_t y) {
    const expected *e = user;
    const int64_t at[] = {[AD_SIDE_X] = x, [AD_SIDE_W] = w, [AD_SIDE_Y] = y};
    double product = 1;
    for (int i = 0; i < 3; i++)
        if (i != (int)e->p->result) product *= test_get(&e->p->side[i], at[i]);
    e->sum[at[e->p->result]] += product;
    e->size[at[e->p->result]] += fabs(product);
}

static void check_result(const problem *p, const ad_view *before, const char *what, int round) {
    const ad_view *actual = &p->side[p->result];
    const int64_t n = ad_view_count(actual), per_filter = p->c.windows.count[0] * p->c.windows.count[1];
    const double exactness = p->c.dtype == AD_F32 ? 0x1p-22 : 0x1p-50;
    expected e = {p, calloc((size_t)n, sizeof(double)), calloc((size_t)n, sizeof(double))};
    for_products(&p->c, add_product, &e);
    for (int64_t i = 0; i < n; i++) {
        const int64_t filter = i / per_filter % (p->c.groups * p->c.filters);
        const double start = p->add ? test_get(before, i) : p->bias.data ? test_get(&p->bias, filter) : 0;
        const double value = start + e.sum[i], got = test_get(actual, i);
        const double allowed = exactness * (fabs(start) + 8 * e.size[i]);
        const bool right = isfinite(value) ? fabs(got - value) <= allowed : isnan(value) ? isnan(got) : got == value;
        cr_assert(right, "%s, round %d, side %d, element %lld of %lld: %g, not %g", what, round, (int)p->result,
                  (long long)i, (long long)n, got, value);
    }
    free(e.sum);
    free(e.size);
}

/* Of an image, NaN or infinite. */
static void spoil(ad_view *image, ad_rng *rng) {
    for (int64_t i = ad_rng_below(rng, 3); i > 0; i--)
        test_set(image, ad_rng_below(rng, ad_view_count(image)), i % 2 ? NAN : INFINITY);
}

static void *scratch_new(int64_t bytes) {
    void *scratch = aligned_alloc(64, (size_t)(bytes + 63) / 64 * 64);
    memset(scratch, 0xFF, (size_t)bytes); /* NaN */
    return scratch;
}

/* Each item by the next of some workers. */
static void run_direct(const ad_kernels *kernels, ad_direct *d, const problem *p, int threads, bool skips) {
    d->x = p->side[AD_SIDE_X].data, d->w = p->side[AD_SIDE_W].data, d->y = p->side[AD_SIDE_Y].data;
    d->bias = p->bias.data, d->add = p->add, d->skips = skips && p->result != AD_SIDE_W;
    d->scratch = scratch_new(d->shared + threads * d->each);
    kernels->direct_prepare(d);
    for (int64_t i = 0; i < d->items; i++) kernels->direct(d, i, i + 1, (int)(i % threads));
    free(d->scratch);
}

Test(window, convolution_in_the_direct_ways_is_the_sum_of_products) {
    enum { ROUNDS = 300, LEAST = 20 };
    for (int k = 0; ad_kernels_table(k); k++) {
        const ad_kernels *kernels = ad_kernels_table(k);
        ad_rng rng = {.seed = 2};
        int by_pixels = 0, by_channels = 0, of_kernels = 0;
        for (int round = 0; round < ROUNDS; round++) {
            problem p = any_problem(&rng, round);
            const int threads = 2 + (int)ad_rng_below(&rng, 3);
            const bool skips = ad_rng_below(&rng, 2);
            spoil(&p.side[p.result == AD_SIDE_X ? AD_SIDE_Y : AD_SIDE_X], &rng);
            const ad_view before = test_copy(&p.side[p.result]);
            ad_direct d;
            if (kernels->direct_plan(&p.c, p.result, 1, &d)) {
                by_pixels += d.pixels;
                by_channels += !d.pixels && p.result != AD_SIDE_W;
                of_kernels += p.result == AD_SIDE_W;
                run_direct(kernels, &d, &p, 1, skips);
                check_result(&p, &before, kernels->isa, round);
                problem shared = p;
                shared.side[p.result] = test_copy(&before);
                cr_assert(kernels->direct_plan(&p.c, p.result, threads, &d));
                run_direct(kernels, &d, &shared, threads, skips);
                cr_assert(test_same_bits(&p.side[p.result], &shared.side[p.result]), "%s, round %d: %d threads",
                          kernels->isa, round, threads);
            }
            test_arrays_free();
        }
        cr_assert(by_pixels >= LEAST && by_channels >= LEAST && of_kernels >= LEAST, "%s: %d, %d, %d", kernels->isa,
                  by_pixels, by_channels, of_kernels);
    }
}

static void run_chosen(const problem *p, int threads) {
    void *data[3];
    for (int i = 0; i < 3; i++) data[i] = p->side[i].data;
    void *scratch = scratch_new(ad_kernel_convolution_scratch(&p->c, p->result, threads));
    ad_kernel_convolve(&p->c, p->result, data, p->bias.data, p->add, threads, scratch);
    free(scratch);
}

Test(window, convolution_in_the_chosen_way_is_the_sum_of_products) {
    enum { ROUNDS = 300 };
    ad_rng rng = {.seed = 3};
    for (int round = 0; round < ROUNDS; round++) {
        problem p = any_problem(&rng, round);
        spoil(&p.side[p.result == AD_SIDE_X ? AD_SIDE_Y : AD_SIDE_X], &rng);
        const ad_view before = test_copy(&p.side[p.result]);
        run_chosen(&p, 1);
        check_result(&p, &before, "chosen", round);
        test_arrays_free();
    }
}

/* The copies of y have zeros around them, which must not be multiplied with it. */
Test(window, what_is_infinite_in_a_kernel_reaches_no_more_of_an_image_than_it_touches) {
    enum { ROUNDS = 120 };
    ad_rng rng = {.seed = 4};
    for (int round = 0; round < ROUNDS; round++) {
        problem p = any_problem(&rng, round);
        p.result = AD_SIDE_X;
        p.bias.data = NULL;
        test_set(&p.side[AD_SIDE_W], ad_rng_below(&rng, ad_view_count(&p.side[AD_SIDE_W])), INFINITY);
        const ad_view before = test_copy(&p.side[p.result]);
        run_chosen(&p, 1);
        check_result(&p, &before, "an infinite kernel", round);
        test_arrays_free();
    }
}
