/* The optimisers' steps of every instruction set against their papers' formulas in long double. */
#include "helpers.h"
#include "ops/kernels/kernels.h"

#include <criterion/criterion.h>
#include <math.h>

TestSuite(optimise, .fini = test_arrays_free);

static const double epsilon[] = {[AD_F32] = 0x1p-23, [AD_F64] = 0x1p-52};
static const int64_t lengths[] = {0, 1, 2, 7, 15, 16, 17, 33, 100};

/* A constant as the kernel sees it. */
static long double rounded(ad_dtype dtype, double x) { return dtype == AD_F32 ? (float)x : x; }

static void check_sgd(const ad_kernels *k) {
    const ad_sgd_step steps[] = {{.rate = 0.1},
                                 {.rate = 0.1, .decay = 0.01},
                                 {.rate = 0.05, .momentum = 0.9},
                                 {.rate = 0.05, .momentum = 0.9, .decay = 0.1},
                                 {.rate = 0.05, .momentum = 0.9, .decay = 0.1, .nesterov = true}};
    for (int round = 0; round < 2 * TEST_COUNT(lengths) * TEST_COUNT(steps); round++) {
        const ad_sgd_step *step = &steps[round / 2 % TEST_COUNT(steps)];
        int64_t n = lengths[round / 2 / TEST_COUNT(steps)];
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        bool has_velocity = step->momentum != 0;
        ad_view w = test_random(dtype, AD_SHAPE(n), TEST_DENSE, 1), g = test_random(dtype, w.shape, TEST_DENSE, 2);
        ad_view v = test_random(dtype, w.shape, TEST_DENSE, 3), w0 = test_copy(&w), v0 = test_copy(&v),
                g0 = test_copy(&g);
        k->sgd(dtype, n, w.data, g.data, has_velocity ? v.data : NULL, step);
        for (int64_t i = 0; i < n; i++) {
            long double slope = test_get(&g, i) + step->decay * (long double)test_get(&w0, i), move = slope;
            if (has_velocity) {
                long double velocity = step->momentum * (long double)test_get(&v0, i) + slope;
                cr_assert(test_near(test_get(&v, i), (double)velocity, 8 * epsilon[dtype]), "%s", k->isa);
                move = step->nesterov ? slope + step->momentum * velocity : velocity;
            }
            double want = (double)(test_get(&w0, i) - step->rate * move);
            cr_assert(test_near(test_get(&w, i), want, 8 * epsilon[dtype]), "%s, round %d", k->isa, round);
        }
        cr_assert(test_same_bits(&g, &g0) && (has_velocity || test_same_bits(&v, &v0)), "only w and v change");
    }
}

Test(optimise, sgd) { test_each_table(check_sgd); }

static void check_adam(const ad_kernels *k) {
    for (int round = 0; round < 2 * 3 * TEST_COUNT(lengths); round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        int kind = round / 2 % 3; /* plain, decay in the gradient, decoupled decay */
        int64_t n = lengths[round / 6];
        ad_adam_step step = {.rate = 0.01, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .decay = kind ? 0.1 : 0};
        step.decoupled = kind == 2;
        step.correction1 = 1 - pow(step.beta1, 3);
        step.correction2 = 1 - pow(step.beta2, 3);
        ad_view w = test_random(dtype, AD_SHAPE(n), TEST_DENSE, 4), g = test_random(dtype, w.shape, TEST_DENSE, 5);
        ad_view m = test_random(dtype, w.shape, TEST_DENSE, 6), v = test_random(dtype, w.shape, TEST_DENSE, 7);
        for (int64_t i = 0; i < n; i++) test_set(&v, i, fabs(test_get(&v, i)));
        if (n > 3) test_set(&g, 3, 0), test_set(&m, 3, 0), test_set(&v, 3, 0); /* 0 / epsilon, not 0 / 0 */
        ad_view w0 = test_copy(&w), m0 = test_copy(&m), v0 = test_copy(&v), g0 = test_copy(&g);
        k->adam(dtype, n, w.data, g.data, m.data, v.data, &step);
        for (int64_t i = 0; i < n; i++) {
            long double x = test_get(&w0, i), slope = test_get(&g, i) + (kind == 1 ? step.decay * x : 0);
            long double m1 = rounded(dtype, step.beta1) * test_get(&m0, i) + rounded(dtype, 1 - step.beta1) * slope;
            long double v1 = rounded(dtype, step.beta2) * test_get(&v0, i) +
                             rounded(dtype, 1 - step.beta2) * slope * slope;
            cr_assert(test_near(test_get(&m, i), (double)m1, 8 * epsilon[dtype]), "%s, round %d", k->isa, round);
            cr_assert(test_near(test_get(&v, i), (double)v1, 8 * epsilon[dtype]), "%s, round %d", k->isa, round);
            long double move = (m1 / step.correction1) / (sqrtl(v1 / step.correction2) + step.epsilon);
            double want = (double)(x - step.rate * (move + (kind == 2 ? step.decay * x : 0)));
            cr_assert(test_near(test_get(&w, i), want, 8 * epsilon[dtype]), "%s, round %d: %g, not %g", k->isa, round,
                      test_get(&w, i), want);
        }
        cr_assert(test_same_bits(&g, &g0));
    }
}

Test(optimise, adam_and_adamw) { test_each_table(check_adam); }

static void check_rescale(const ad_kernels *k) {
    for (int round = 0; round < 2 * TEST_COUNT(lengths); round++) {
        ad_dtype dtype = round % 2 ? AD_F32 : AD_F64;
        ad_view x = test_random(dtype, AD_SHAPE(lengths[round / 2]), TEST_DENSE, 8), before = test_copy(&x);
        k->rescale(dtype, lengths[round / 2], x.data, 0.3);
        for (int64_t i = 0; i < lengths[round / 2]; i++)
            cr_assert_leq(test_ulps(dtype, test_get(&x, i), 0.3L * test_get(&before, i)), 1, "%s", k->isa);
    }
}

Test(optimise, rescale) { test_each_table(check_rescale); }

/* A training run must not depend on the machine. */
Test(optimise, every_instruction_set_gives_the_same_bits) {
    const ad_adam_step step = {.rate = 0.01,
                               .beta1 = 0.9,
                               .beta2 = 0.99,
                               .epsilon = 1e-8,
                               .decay = 0.1,
                               .correction1 = 0.1,
                               .correction2 = 0.01,
                               .decoupled = true};
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_view first[3];
        for (int t = 0; ad_kernels_table(t); t++) {
            ad_view g = test_random(dtype, AD_SHAPE(1003), TEST_DENSE, 9), state[3];
            for (uint64_t i = 0; i < 3; i++) state[i] = test_random(dtype, g.shape, TEST_DENSE, 10 + i);
            for (int64_t i = 0; i < 1003; i++) test_set(&state[2], i, fabs(test_get(&state[2], i)));
            ad_kernels_table(t)->adam(dtype, 1003, state[0].data, g.data, state[1].data, state[2].data, &step);
            for (int i = 0; i < 3; i++) {
                if (t == 0) first[i] = state[i];
                cr_assert(test_same_bits(&state[i], &first[i]), "%s", ad_kernels_table(t)->isa);
            }
        }
    }
}
