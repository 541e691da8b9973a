/* Optimisers and clipping: against closed forms, hand-computed steps and PyTorch (tests/reference/optim.py), and what they
 * refuse. */
#include "autodiff/tape/tape.h"
#include "helpers.h"

#include <adtape.h>

#include "reference/optim.h"

#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* ---- parameters for the tests ---------------------------------------------------------------------------------- */

static void set_all(const ad_view *to, const double *from) {
    ad_view view = ad_view_of((void *)(uintptr_t)from, AD_F64, to->shape);
    cr_assert_eq(ad_view_copy(&view, to), AD_OK);
}

static ad_param *make_param(const char *name, ad_dtype dtype, ad_shape shape, const double *value) {
    ad_param *param;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_param_new(&param, NULL, name, dtype, shape, NULL, &error), AD_OK, "%s", error.message);
    if (value) set_all(ad_param_edit(param), value);
    return param;
}

static ad_param *vector(const char *name, ad_dtype dtype, int64_t n, const double *value) {
    return make_param(name, dtype, AD_SHAPE(n), value);
}

static void set_gradient(ad_param *param, const double *gradient) {
    set_all(ad_param_edit_gradient(param), gradient);
}

static double weight(const ad_param *param, int64_t i) { return ad_view_get(ad_param_value(param), i); }

static void step(ad_optim *optim) {
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_optim_step(optim, &error), AD_OK, "%s", error.message);
}

/* Any kind, by name; the test fails if it cannot be made. */
static ad_optim *make_optim(const char *kind, int count, ad_param *const *params, const ad_sgd_options *sgd,
                            const ad_adam_options *adam) {
    ad_optim *optim = NULL;
    ad_error error = {AD_OK, ""};
    if (strcmp(kind, "sgd") == 0) {
        ad_sgd_new(&optim, NULL, count, params, sgd, &error);
    } else if (strcmp(kind, "adam") == 0) {
        ad_adam_new(&optim, NULL, count, params, adam, &error);
    } else {
        ad_adamw_new(&optim, NULL, count, params, adam, &error);
    }
    cr_assert_not_null(optim, "%s", error.message);
    return optim;
}

/* The message has every part in it, in this order. */
static void assert_says(const ad_error *error, ad_status status, const char *first, const char *second) {
    cr_expect_eq(error->status, status, "%s: %s", ad_status_name(error->status), error->message);
    const char *at = strstr(error->message, first);
    cr_expect(at && strstr(at, second), "there is no '%s ... %s' in: %s", first, second, error->message);
}

/* ---- what they compute -------------------------------------------------------------------------------------------- */

static void reference_gradient(int at_step, double g[REF_WEIGHTS]) {
    for (int i = 0; i < REF_WEIGHTS; i++) g[i] = ((at_step * 7 + i * 3) % 11 - 5) / 4.0;
}

/* Six steps as in reference/optim.py, from the start of the optimiser. */
static void run_reference(int number, ad_dtype dtype, ad_optim *optim, ad_param *w) {
    const double start[REF_WEIGHTS] = {-1, -0.5, 0, 0.5, 1}, tolerance = dtype == AD_F32 ? 5e-7 : 5e-15;
    double g[REF_WEIGHTS], rate = ad_optim_rate(optim);
    set_all(ad_param_edit(w), start);
    for (int s = 0; s < REF_STEPS; s++) {
        if (s == REF_HALVED_AFTER) cr_assert_eq(ad_optim_set_rate(optim, rate / 2, NULL), AD_OK);
        reference_gradient(s, g);
        set_gradient(w, g);
        step(optim);
        cr_expect_eq(ad_optim_steps(optim), s + 1);
        for (int i = 0; i < REF_WEIGHTS; i++)
            cr_expect(test_near(weight(w, i), ref_optim[number].w[dtype == AD_F64][s][i], tolerance),
                      "case %d (%s %s), step %d, weight %d: %.17g, PyTorch %.17g", number, ref_optim[number].kind,
                      ad_dtype_name(dtype), s + 1, i, weight(w, i), ref_optim[number].w[dtype == AD_F64][s][i]);
    }
    cr_assert_eq(ad_optim_set_rate(optim, rate, NULL), AD_OK);
}

Test(optim, agrees_with_pytorch_and_again_after_a_reset) {
    const ad_dtype dtypes[] = {AD_F32, AD_F64};
    for (int d = 0; d < COUNT(dtypes); d++) {
        for (int i = 0; i < COUNT(ref_optim); i++) {
            ad_param *w = vector("w", dtypes[d], REF_WEIGHTS, NULL);
            ad_optim *optim = make_optim(ref_optim[i].kind, 1, &w, &ref_optim[i].sgd, &ref_optim[i].adam);
            run_reference(i, dtypes[d], optim, w);
            ad_optim_reset(optim);
            cr_expect_eq(ad_optim_steps(optim), 0);
            run_reference(i, dtypes[d], optim, w);
            ad_optim_free(optim);
            ad_param_unref(w);
        }
    }
}

/* On w^2/2 the gradient is w, and plain descent shrinks w by the same factor every step. */
Test(optim, sgd_descends_a_parabola_as_the_closed_form_says) {
    const double start = 3;
    ad_param *w = make_param("w", AD_F64, AD_SCALAR, &start);
    ad_optim *optim = make_optim("sgd", 1, &w, &(ad_sgd_options){.rate = 0.25}, NULL);
    for (int t = 1; t <= 20; t++) {
        set_gradient(w, &(double){weight(w, 0)});
        step(optim);
        cr_expect_eq(weight(w, 0), 3 * pow(0.75, t));
    }
    ad_optim_free(optim);
    ad_param_unref(w);
}

/* With momentum 1/4 and rate (1 - sqrt(1/4))^2 = 1/4 the recurrence has the double root 1/2 (critical damping), so that
 * w_t = (1 + t/2) / 2^t, which is exact in binary. */
Test(optim, momentum_descends_a_parabola_as_the_closed_form_says) {
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        const double start = 1;
        ad_param *w = make_param("w", dtype, AD_SCALAR, &start);
        ad_optim *optim = make_optim("sgd", 1, &w, &(ad_sgd_options){.rate = 0.25, .momentum = 0.25}, NULL);
        for (int t = 1; t <= 10; t++) {
            set_gradient(w, &(double){weight(w, 0)});
            step(optim);
            cr_expect_eq(weight(w, 0), (1 + t / 2.0) / pow(2, t));
        }
        ad_optim_free(optim);
        ad_param_unref(w);
    }
}

/* By hand, momentum 1/2, rate 1, gradients 1, 1: v = 1, then 3/2; w = 4 - (1 + 1/2), then - (1 + 3/4). */
Test(optim, nesterov_looks_ahead_by_the_momentum) {
    ad_param *w = make_param("w", AD_F64, AD_SCALAR, &(double){4});
    ad_optim *optim = make_optim("sgd", 1, &w, &(ad_sgd_options){.rate = 1, .momentum = 0.5, .nesterov = true}, NULL);
    set_gradient(w, &(double){1});
    step(optim);
    cr_expect_eq(weight(w, 0), 2.5);
    step(optim);
    cr_expect_eq(weight(w, 0), 0.75);
    ad_optim_free(optim);
    ad_param_unref(w);
}

/* Both corrected means of a constant are the constant: every step is the rate, whatever the size of the gradient. */
Test(optim, adam_moves_by_the_rate_along_a_constant_gradient) {
    const double g[] = {1e-3, -7, 0, 1e6};
    ad_param *w = vector("w", AD_F64, 4, NULL);
    ad_optim *optim = make_optim("adam", 1, &w, NULL, NULL);
    set_gradient(w, g);
    for (int t = 1; t <= 1000; t++) {
        step(optim);
        for (int i = 0; i < 4; i++) {
            double expected = -t * 0.001 * g[i] / (fabs(g[i]) + 1e-8);
            cr_assert(fabs(weight(w, i) - expected) < 1e-12, "step %d, weight %d: %.17g, expected %.17g", t, i,
                      weight(w, i), expected);
        }
    }
    ad_optim_free(optim);
    ad_param_unref(w);
}

Test(optim, adamw_decays_apart_from_the_gradient_and_adam_does_not) {
    ad_adam_options options = ad_adamw_defaults();
    options.rate = 0.5, options.decay = 0.5;
    ad_param *w = make_param("w", AD_F64, AD_SCALAR, &(double){8});
    ad_optim *optim = make_optim("adamw", 1, &w, NULL, &options);
    for (int t = 1; t <= 5; t++) {
        step(optim); /* the gradient is 0 */
        cr_expect_eq(weight(w, 0), 8 * pow(0.75, t));
    }
    ad_optim_free(optim);
    set_all(ad_param_edit(w), &(double){8});
    optim = make_optim("adam", 1, &w, NULL, &options);
    step(optim); /* the decayed weight is all of the gradient, so the step is the rate */
    cr_expect(test_near(weight(w, 0), 7.5, 1e-8));
    ad_optim_free(optim);
    ad_param_unref(w);
}

Test(optim, a_new_rate_counts_from_the_next_step_on) {
    ad_param *w = make_param("w", AD_F64, AD_SCALAR, NULL);
    ad_optim *optim = make_optim("sgd", 1, &w, &(ad_sgd_options){.rate = 1}, NULL);
    set_gradient(w, &(double){1});
    step(optim);
    cr_expect_eq(weight(w, 0), -1);
    cr_assert_eq(ad_optim_set_rate(optim, 0.5, NULL), AD_OK);
    cr_expect_eq(ad_optim_rate(optim), 0.5);
    cr_expect_eq(weight(w, 0), -1);
    step(optim);
    cr_expect_eq(weight(w, 0), -1.5);
    cr_assert_eq(ad_optim_set_rate(optim, 0, NULL), AD_OK);
    step(optim);
    cr_expect_eq(weight(w, 0), -1.5);
    ad_optim_free(optim);
    ad_param_unref(w);
}

Test(optim, defaults_are_those_of_the_papers) {
    ad_param *w = make_param("w", AD_F64, AD_SCALAR, NULL);
    ad_optim *sgd = make_optim("sgd", 1, &w, NULL, NULL), *adam = make_optim("adam", 1, &w, NULL, NULL);
    cr_expect_eq(ad_optim_rate(sgd), 0.01);
    cr_expect_eq(ad_optim_rate(adam), 0.001);
    cr_expect_eq(ad_adam_defaults().decay, 0);
    cr_expect_eq(ad_adamw_defaults().decay, 0.01);
    cr_expect_eq(ad_adam_defaults().beta1, 0.9);
    cr_expect_eq(ad_adam_defaults().beta2, 0.999);
    cr_expect_eq(ad_adam_defaults().epsilon, 1e-8);
    ad_optim_free(sgd);
    ad_optim_free(adam);
    ad_param_unref(w);
}

/* y = 2 a - b through five points, by least squares: the loss is a sum over x * w - y. */
Test(optim, every_kind_fits_a_line_with_a_tape) {
    const double x[] = {-2, 1, -1, 1, 0, 1, 1, 1, 2, 1}, y[] = {-5, -3, -1, 1, 3};
    const char *const kinds[] = {"sgd", "adam", "adamw"};
    for (int k = 0; k < COUNT(kinds); k++) {
        ad_param *w = vector("w", AD_F64, 2, NULL);
        ad_adam_options adam = ad_adam_defaults();
        adam.rate = 0.02;
        ad_optim *optim = make_optim(kinds[k], 1, &w,
                                     &(ad_sgd_options){.rate = 0.05, .momentum = 0.5, .nesterov = true}, &adam);
        ad_tape *t = ad_tape_new(NULL);
        for (int i = 0; i < 1000; i++) {
            ad_var fit = ad_matmul(ad_constant(t, "x", AD_F64, AD_SHAPE(5, 2), x), ad_use(t, w));
            ad_var miss = ad_sub(fit, ad_constant(t, "y", AD_F64, AD_SHAPE(5), y));
            cr_assert_eq(ad_backward(ad_mean(ad_mul(miss, miss), AD_ALL_AXES, false)), AD_OK, "%s", ad_tape_error(t));
            step(optim);
            ad_tape_reset(t);
        }
        cr_expect(fabs(weight(w, 0) - 2) < 1e-3 && fabs(weight(w, 1) + 1) < 1e-3, "%s: %g, %g", kinds[k],
                  weight(w, 0), weight(w, 1));
        ad_tape_free(t);
        ad_optim_free(optim);
        ad_param_unref(w);
    }
}

/* ---- sizes, lifetimes, memory --------------------------------------------------------------------------------------- */

Test(optim, parameters_may_differ_in_dtype_and_shape_and_be_empty) {
    const double ones[] = {1, 1, 1, 1, 1, 1};
    ad_param *params[] = {make_param("a", AD_F32, AD_SHAPE(2, 3), NULL), make_param("b", AD_F64, AD_SCALAR, NULL),
                          make_param("empty", AD_F32, AD_SHAPE(0, 7), NULL), vector("c", AD_F64, 1, NULL)};
    ad_optim *optim = make_optim("adam", COUNT(params), params, NULL, NULL);
    for (int i = 0; i < COUNT(params); i++) set_gradient(params[i], ones);
    step(optim);
    for (int i = 0; i < COUNT(params); i++)
        for (int64_t j = 0; j < ad_view_count(ad_param_value(params[i])); j++)
            cr_expect(test_near(weight(params[i], j), -0.001, 1e-8), "%s: %g", ad_param_name(params[i]),
                      weight(params[i], j));
    ad_optim_free(optim);
    for (int i = 0; i < COUNT(params); i++) ad_param_unref(params[i]);
}

Test(optim, none_at_all_is_a_valid_set_of_parameters) {
    ad_optim *optim = make_optim("adamw", 0, NULL, NULL, NULL);
    step(optim);
    cr_expect_eq(ad_optim_steps(optim), 1);
    double norm = -1;
    cr_expect_eq(ad_clip_gradients(0, NULL, 1, &norm, NULL), AD_OK);
    cr_expect_eq(norm, 0);
    ad_optim_free(optim);
}

Test(optim, keeps_its_parameters_alive) {
    test_memory memory;
    test_memory_open(&memory);
    ad_param *w;
    cr_assert_eq(ad_param_new(&w, &memory.allocator, "w", AD_F32, AD_SHAPE(3), NULL, NULL), AD_OK);
    ad_optim *optim;
    cr_assert_eq(ad_adam_new(&optim, &memory.allocator, 1, &w, NULL, NULL), AD_OK);
    ad_param_unref(w);
    step(optim);
    cr_expect_gt(memory.blocks, 0);
    ad_optim_free(optim);
    test_memory_close(&memory);
}

Test(optim, allocates_when_made_and_never_again) {
    test_memory memory;
    test_memory_open(&memory);
    ad_param *w = vector("w", AD_F32, 100, NULL);
    ad_optim *optim;
    cr_assert_eq(ad_adamw_new(&optim, &memory.allocator, 1, &w, NULL, NULL), AD_OK);
    int64_t calls = memory.calls;
    for (int i = 0; i < 10; i++) {
        step(optim);
        cr_assert_eq(ad_clip_gradients(1, &w, 1, NULL, NULL), AD_OK);
        cr_assert_eq(ad_optim_set_rate(optim, 0.1, NULL), AD_OK);
    }
    ad_optim_reset(optim);
    cr_expect_eq(memory.calls, calls);
    ad_optim_free(optim);
    ad_param_unref(w);
    test_memory_close(&memory);
}

Test(optim, plain_sgd_has_no_moments) {
    test_memory plain, momentum;
    test_memory_open(&plain);
    test_memory_open(&momentum);
    ad_param *w = vector("w", AD_F64, 1000, NULL);
    ad_optim *a, *b;
    cr_assert_eq(ad_sgd_new(&a, &plain.allocator, 1, &w, NULL, NULL), AD_OK);
    cr_assert_eq(ad_sgd_new(&b, &momentum.allocator, 1, &w, &(ad_sgd_options){.rate = 1, .momentum = 0.9}, NULL),
                 AD_OK);
    cr_expect_eq(plain.blocks, 1);
    cr_expect_gt(momentum.bytes, plain.bytes + 8000);
    ad_optim_free(a);
    ad_optim_free(b);
    ad_param_unref(w);
    test_memory_close(&plain);
    test_memory_close(&momentum);
}

Test(optim, a_failed_allocation_at_each_place_is_reported_and_leaks_nothing) {
    ad_param *params[] = {vector("a", AD_F32, 3, NULL), vector("b", AD_F64, 5, NULL)};
    int64_t failures = 0;
    for (bool made = false; !made;) {
        test_memory memory;
        test_memory_open(&memory);
        memory.fail_at = failures + 1;
        ad_error error = {AD_OK, ""};
        ad_optim *optim = (void *)&memory;
        made = ad_adam_new(&optim, &memory.allocator, 2, params, NULL, &error) == AD_OK;
        if (made) {
            ad_optim_free(optim);
        } else {
            failures++;
            cr_expect_null(optim);
            assert_says(&error, AD_ERR_OOM, "out of memory", "");
        }
        test_memory_close(&memory);
    }
    cr_expect_eq(failures, 5); /* the optimiser and two means of two parameters */
    for (int i = 0; i < 2; i++) ad_param_unref(params[i]);
}

Test(optim, null_is_answered_and_not_followed) {
    ad_error error = {AD_OK, ""};
    ad_optim_free(NULL);
    ad_optim_reset(NULL);
    cr_expect_eq(ad_optim_steps(NULL), 0);
    cr_expect(isnan(ad_optim_rate(NULL)));
    cr_expect_eq(ad_optim_step(NULL, &error), AD_ERR_NULL);
    assert_says(&error, AD_ERR_NULL, "ad_optim_step: the optimiser is NULL", "");
    cr_expect_eq(ad_optim_set_rate(NULL, 1, &error), AD_ERR_NULL);
    assert_says(&error, AD_ERR_NULL, "ad_optim_set_rate: the optimiser is NULL", "");
    cr_expect_eq(ad_optim_step(NULL, NULL), AD_ERR_NULL);
}

/* ---- what they refuse ---------------------------------------------------------------------------------------------- */

Test(optim, bad_parameters_are_refused_by_name) {
    ad_param *w = vector("w", AD_F64, 2, NULL), *unnamed = vector(NULL, AD_F64, 2, NULL);
    ad_param *with_null[] = {w, NULL}, *twice[] = {w, unnamed, w}, *unnamed_twice[] = {unnamed, unnamed};
    const struct {
        int count;
        ad_param **params;
        ad_status status;
        const char *first, *second;
    } cases[] = {
        {-1, &w, AD_ERR_VALUE, "count is -1", ""},
        {2, NULL, AD_ERR_NULL, "params is NULL", "2"},
        {2, with_null, AD_ERR_NULL, "parameter number 1 of 2 is NULL", "ad_param_new"},
        {3, twice, AD_ERR_VALUE, "parameter w was given twice", "number 0 and as number 2"},
        {2, unnamed_twice, AD_ERR_VALUE, "parameter number 1, which has no name, was given twice", "number 0"},
    };
    for (int i = 0; i < COUNT(cases); i++) {
        ad_optim *optim[3] = {(void *)w, (void *)w, (void *)w};
        ad_error error[4] = {{AD_OK, ""}};
        ad_sgd_new(&optim[0], NULL, cases[i].count, cases[i].params, NULL, &error[0]);
        ad_adam_new(&optim[1], NULL, cases[i].count, cases[i].params, NULL, &error[1]);
        ad_adamw_new(&optim[2], NULL, cases[i].count, cases[i].params, NULL, &error[2]);
        ad_clip_gradients(cases[i].count, cases[i].params, 1, NULL, &error[3]);
        const char *const subjects[] = {"ad_sgd_new:", "ad_adam_new:", "ad_adamw_new:", "ad_clip_gradients:"};
        for (int k = 0; k < COUNT(error); k++) {
            assert_says(&error[k], cases[i].status, cases[i].first, cases[i].second);
            assert_says(&error[k], cases[i].status, subjects[k], cases[i].first);
        }
        for (int k = 0; k < COUNT(optim); k++) cr_expect_null(optim[k]);
    }
    ad_error error = {AD_OK, ""};
    cr_expect_eq(ad_sgd_new(NULL, NULL, 1, &w, NULL, &error), AD_ERR_NULL);
    assert_says(&error, AD_ERR_NULL, "ad_sgd_new: out is NULL", "");
    cr_expect_eq(ad_adam_new(NULL, NULL, 1, &w, NULL, NULL), AD_ERR_NULL);
    cr_expect_eq(ad_adamw_new(NULL, NULL, 1, &w, NULL, NULL), AD_ERR_NULL);
    ad_param_unref(w);
    ad_param_unref(unnamed);
}

Test(optim, options_out_of_range_are_refused_by_name) {
    const struct {
        ad_sgd_options options;
        const char *name, *value;
    } sgd[] = {
        {{.rate = -0.1}, "rate is -0.1", "at least 0"},
        {{.rate = (double)NAN}, "rate is nan", "at least 0"},
        {{.rate = (double)INFINITY}, "rate is inf", "below 3.4e+38"},
        {{.rate = 1e39}, "rate is 1e+39", "below 3.4e+38"},
        {{.rate = 1, .momentum = -0.5}, "momentum is -0.5", "at least 0"},
        {{.rate = 1, .momentum = 1}, "momentum is 1", "below 1"},
        {{.rate = 1, .momentum = (double)NAN}, "momentum is nan", "below 1"},
        {{.rate = 1, .decay = -1}, "decay is -1", "at least 0"},
        {{.rate = 1, .decay = (double)INFINITY}, "decay is inf", "below"},
        {{.rate = 1, .nesterov = true}, "nesterov needs a momentum", ""},
    };
    ad_param *w = vector("w", AD_F32, 1, NULL);
    for (int i = 0; i < COUNT(sgd); i++) {
        ad_optim *optim = (void *)w;
        ad_error error = {AD_OK, ""};
        cr_expect_eq(ad_sgd_new(&optim, NULL, 1, &w, &sgd[i].options, &error), AD_ERR_VALUE);
        cr_expect_null(optim);
        assert_says(&error, AD_ERR_VALUE, sgd[i].name, sgd[i].value);
    }
    const struct {
        ad_adam_options options; /* rate, beta1, beta2, epsilon, decay */
        const char *name, *value;
    } adam[] = {
        {{-1, 0.9, 0.99, 1e-8, 0}, "rate is -1", "at least 0"},
        {{1, 1, 0.99, 1e-8, 0}, "beta1 is 1", "below 1"},
        {{1, -0.1, 0.99, 1e-8, 0}, "beta1 is -0.1", "at least 0"},
        {{1, 0.9, 1.5, 1e-8, 0}, "beta2 is 1.5", "below 1"},
        {{1, 0.9, (double)NAN, 1e-8, 0}, "beta2 is nan", "below 1"},
        {{1, 0.9, 0.99, 0, 0}, "epsilon is 0", "ad_adam_defaults()"},
        {{1, 0.9, 0.99, 1e-40, 0}, "epsilon is 1e-40", "at least 1.17549e-38"},
        {{1, 0.9, 0.99, -1e-8, 0}, "epsilon is -1e-08", "at least"},
        {{1, 0.9, 0.99, 1e-8, -0.5}, "decay is -0.5", "at least 0"},
        {{.rate = 1}, "epsilon is 0", "ad_adamw_defaults()"},
    };
    for (int i = 0; i < COUNT(adam); i++) {
        ad_optim *optim[2] = {(void *)w, (void *)w};
        ad_error error[2] = {{AD_OK, ""}};
        cr_expect_eq(ad_adam_new(&optim[0], NULL, 1, &w, &adam[i].options, &error[0]), AD_ERR_VALUE);
        cr_expect_eq(ad_adamw_new(&optim[1], NULL, 1, &w, &adam[i].options, &error[1]), AD_ERR_VALUE);
        for (int k = 0; k < 2; k++) {
            cr_expect_null(optim[k]);
            assert_says(&error[k], AD_ERR_VALUE, adam[i].name, adam[i].value);
        }
    }
    ad_param_unref(w);
}

Test(optim, a_bad_rate_is_refused_and_the_old_one_stays) {
    const double bad[] = {-1, (double)NAN, (double)INFINITY, -(double)INFINITY, 1e300};
    ad_param *w = vector("w", AD_F64, 1, NULL);
    ad_optim *optim = make_optim("sgd", 1, &w, NULL, NULL);
    for (int i = 0; i < COUNT(bad); i++) {
        ad_error error = {AD_OK, ""};
        cr_expect_eq(ad_optim_set_rate(optim, bad[i], &error), AD_ERR_VALUE);
        assert_says(&error, AD_ERR_VALUE, "ad_optim_set_rate: rate is", "at least 0 and below");
        cr_expect_eq(ad_optim_rate(optim), 0.01);
    }
    ad_optim_free(optim);
    ad_param_unref(w);
}

/* Two parameters, of which the second one's gradient is spoilt: a step must be refused before the first one moves, and
 * when the gradient is whole again all must go on as if nothing had been tried. */
static void assert_refused(void (*spoil)(ad_param *), ad_status status, const char *first, const char *second) {
    const char *const kinds[] = {"sgd", "adam", "adamw"};
    const double g[] = {1, -2, 3};
    for (int k = 0; k < COUNT(kinds); k++) {
        ad_param *tried[] = {vector("a", AD_F32, 3, g), vector("b", AD_F64, 3, g)};
        ad_param *untried[] = {vector("a", AD_F32, 3, g), vector("b", AD_F64, 3, g)};
        const ad_sgd_options sgd = {.rate = 0.1, .momentum = 0.9};
        ad_optim *optim = make_optim(kinds[k], 2, tried, &sgd, NULL);
        ad_optim *other = make_optim(kinds[k], 2, untried, &sgd, NULL);
        for (int s = 0; s < 3; s++) {
            for (int i = 0; i < 2; i++) set_gradient(tried[i], g), set_gradient(untried[i], g);
            spoil(tried[1]);
            ad_error error = {AD_OK, ""};
            cr_expect_eq(ad_optim_step(optim, &error), status);
            assert_says(&error, status, first, second);
            assert_says(&error, status, "nothing was changed", "");
            cr_expect_eq(ad_optim_steps(optim), s);
            set_gradient(tried[1], g);
            step(optim);
            step(other);
            for (int i = 0; i < 2; i++)
                cr_expect(test_same_bits(ad_param_value(tried[i]), ad_param_value(untried[i])));
        }
        ad_optim_free(optim);
        ad_optim_free(other);
        for (int i = 0; i < 2; i++) ad_param_unref(tried[i]), ad_param_unref(untried[i]);
    }
}

static void make_nan(ad_param *param) { set_gradient(param, (double[]){0, 1, (double)NAN}); }
static void make_infinite(ad_param *param) { set_gradient(param, (double[]){0, -(double)INFINITY, 0}); }

Test(optim, a_nan_in_a_gradient_is_refused_before_anything_is_changed) {
    assert_refused(make_nan, AD_ERR_VALUE, "the gradient of parameter b is nan at element 2", "f64[3]");
}

Test(optim, an_infinity_in_a_gradient_is_refused_before_anything_is_changed) {
    assert_refused(make_infinite, AD_ERR_VALUE, "the gradient of parameter b is -inf at element 1", "f64[3]");
}

/* An op whose backward function fails. */
static ad_status same_shape(ad_call *call) {
    call->out[0].dtype = call->in[0]->dtype;
    call->out[0].shape = call->in[0]->shape;
    return AD_OK;
}
static ad_status copies(ad_call *call) { return ad_view_copy(call->in[0], &call->out[0]); }
static void no_vjp(ad_vjp *vjp) { (void)vjp; }
static ad_status fails(ad_call *call, ad_adjoint *adjoint) {
    (void)adjoint;
    return ad_fail(call, AD_ERR_VALUE, "it fails here");
}
static bool no_sample(ad_sample *sample, int k) { return k == 0 && ad_sample_normal(sample, AD_SHAPE(1)); }
static const ad_op failing = {.name = "failing",
                              .inputs = 1,
                              .shape = same_shape,
                              .forward = copies,
                              .vjp = no_vjp,
                              .backward = fails,
                              .formula = "$y = $0",
                              .adjoint = {"~0 += ~y"},
                              .sample = no_sample};

static void fail_backward(ad_param *param) {
    ad_tape *t = ad_tape_new(NULL);
    ad_var w = ad_use(t, param);
    cr_assert_eq(ad_backward(ad_sum(ad_apply(t, &failing, 1, &w, NULL, NULL), AD_ALL_AXES, false)), AD_ERR_VALUE);
    ad_tape_free(t);
}

Test(optim, an_incomplete_gradient_is_refused_before_anything_is_changed) {
    assert_refused(fail_backward, AD_ERR_NOGRAD, "the gradient of parameter b is incomplete", "backward pass failed");
}

Test(optim, a_parameter_of_another_type_is_refused) {
    const double g[] = {1, 1, 1};
    ad_param *w = vector("w", AD_F64, 3, g);
    ad_optim *optim = make_optim("adam", 1, &w, NULL, NULL);
    ad_tensor *value = w->value, *other;
    cr_assert_eq(ad_tensor_new(&other, NULL, AD_F32, AD_SHAPE(3), NULL, NULL), AD_OK);
    w->value = other; /* nothing public can do this */
    ad_error error = {AD_OK, ""};
    cr_expect_eq(ad_optim_step(optim, &error), AD_ERR_CHANGED);
    assert_says(&error, AD_ERR_CHANGED, "parameter w was f64[3]", "is f32[3] now");
    ad_tensor_unref(other);
    cr_assert_eq(ad_tensor_new(&other, NULL, AD_F64, AD_SHAPE(2), NULL, NULL), AD_OK);
    w->value = other;
    cr_expect_eq(ad_optim_step(optim, &error), AD_ERR_CHANGED);
    assert_says(&error, AD_ERR_CHANGED, "parameter w was f64[3]", "is f64[2] now");
    cr_expect_eq(ad_optim_steps(optim), 0);
    w->value = value;
    step(optim);
    ad_tensor_unref(other);
    ad_optim_free(optim);
    ad_param_unref(w);
}

Test(optim, a_backward_pass_over_a_use_from_before_the_step_is_refused) {
    ad_param *w = vector("w", AD_F64, 2, (double[]){1, 2});
    ad_optim *optim = make_optim("sgd", 1, &w, NULL, NULL);
    ad_tape *t = ad_tape_new(NULL);
    ad_var x = ad_use(t, w), y = ad_sum(ad_mul(x, x), AD_ALL_AXES, false);
    cr_assert_eq(ad_backward(y), AD_OK);
    step(optim);
    cr_expect_eq(ad_backward(y), AD_ERR_CHANGED, "%s", ad_tape_error(t));
    ad_tape_free(t);
    ad_optim_free(optim);
    ad_param_unref(w);
}

/* ---- clipping -------------------------------------------------------------------------------------------------------- */

typedef struct clip_result {
    double norm, g[2];
} clip_result;

/* Two parameters of one element each. */
static clip_result clip(ad_dtype da, ad_dtype db, double a, double b, double max_norm) {
    ad_param *params[] = {make_param("a", da, AD_SCALAR, NULL), make_param("b", db, AD_SHAPE(1, 1), NULL)};
    set_gradient(params[0], &a);
    set_gradient(params[1], &b);
    clip_result result;
    ad_error error = {AD_OK, ""};
    cr_assert_eq(ad_clip_gradients(2, params, max_norm, &result.norm, &error), AD_OK, "%s", error.message);
    for (int i = 0; i < 2; i++) {
        result.g[i] = ad_view_get(ad_param_gradient(params[i]), 0);
        ad_param_unref(params[i]);
    }
    return result;
}

Test(clip, scales_all_gradients_by_one_factor) {
    const ad_dtype dtypes[] = {AD_F32, AD_F64};
    for (int i = 0; i < 4; i++) {
        clip_result r = clip(dtypes[i / 2], dtypes[i % 2], 3, -4, 0.5);
        cr_expect_eq(r.norm, 5);
        cr_expect(test_near(r.g[0], 0.3, 1e-7) && test_near(r.g[1], -0.4, 1e-7), "%g %g", r.g[0], r.g[1]);
    }
    clip_result r = clip(AD_F64, AD_F64, 3, -4, 0.5);
    cr_expect(test_near(r.g[0], 0.3, 1e-15) && test_near(r.g[1], -0.4, 1e-15), "%.17g %.17g", r.g[0], r.g[1]);
}

Test(clip, leaves_gradients_alone_that_are_short_enough) {
    const double limits[] = {5, 6, (double)INFINITY};
    for (int i = 0; i < COUNT(limits); i++) {
        clip_result r = clip(AD_F64, AD_F32, 3, -4, limits[i]);
        cr_expect_eq(r.norm, 5);
        cr_expect_eq(r.g[0], 3);
        cr_expect_eq(r.g[1], -4);
    }
    clip_result r = clip(AD_F64, AD_F64, 0, 0, 1e-300);
    cr_expect_eq(r.norm, 0);
    cr_expect_eq(r.g[0], 0);
}

Test(clip, does_not_overflow_where_the_result_does_not) {
    const double huge[] = {1e155, 1e200, 1e300, 0x1p1021};
    for (int i = 0; i < COUNT(huge); i++) {
        clip_result r = clip(AD_F64, AD_F64, 3 * huge[i], -4 * huge[i] / 2, 1);
        cr_expect(test_near(r.norm / huge[i], sqrt(13), 1e-14), "%g: %.17g", huge[i], r.norm / huge[i]);
        cr_expect(test_near(r.g[0], 3 / sqrt(13), 1e-14), "%g: %.17g", huge[i], r.g[0]);
        cr_expect(test_near(r.g[1], -2 / sqrt(13), 1e-14), "%g: %.17g", huge[i], r.g[1]);
    }
    /* Here the norm itself is beyond a double, and the clipped gradient is not. */
    clip_result r = clip(AD_F64, AD_F64, DBL_MAX, DBL_MAX, 1);
    cr_expect_eq(r.norm, INFINITY);
    cr_expect(test_near(r.g[0], sqrt(0.5), 1e-14) && test_near(r.g[1], sqrt(0.5), 1e-14), "%.17g", r.g[0]);
    r = clip(AD_F32, AD_F32, (double)FLT_MAX, (double)FLT_MAX, 1);
    cr_expect(test_near(r.norm / (double)FLT_MAX, sqrt(2), 1e-14));
    cr_expect(test_near(r.g[0], sqrt(0.5), 1e-7), "%.9g", r.g[0]);
}

Test(clip, does_not_underflow_where_the_result_does_not) {
    const double tiny[] = {1e-150, 1e-160, 1e-200, 1e-300};
    for (int i = 0; i < COUNT(tiny); i++) {
        clip_result r = clip(AD_F64, AD_F64, 3 * tiny[i], -4 * tiny[i], tiny[i]);
        cr_expect(test_near(r.norm / tiny[i], 5, 1e-14), "%g: %.17g", tiny[i], r.norm / tiny[i]);
        cr_expect(test_near(r.g[0] / tiny[i], 0.6, 1e-13) && test_near(r.g[1] / tiny[i], -0.8, 1e-13));
    }
    clip_result r = clip(AD_F32, AD_F64, 0, 0x1p-1074, 1);
    cr_expect_eq(r.norm, 0x1p-1074);
}

Test(clip, sums_long_gradients_as_one_vector) {
    enum { N = 1000 };
    double ones[N];
    for (int i = 0; i < N; i++) ones[i] = i % 2 ? 1 : -1;
    for (ad_dtype dtype = AD_F32; dtype <= AD_F64; dtype++) {
        ad_param *params[] = {vector("a", dtype, N, NULL), vector("empty", dtype, 0, NULL),
                              vector("b", dtype, N, NULL)};
        set_gradient(params[0], ones);
        set_gradient(params[2], ones);
        double norm;
        cr_assert_eq(ad_clip_gradients(3, params, 1, &norm, NULL), AD_OK);
        cr_expect(test_near(norm, sqrt(2 * N), 1e-15));
        cr_assert_eq(ad_clip_gradients(3, params, 2, &norm, NULL), AD_OK);
        cr_expect(test_near(norm, 1, 1e-6));
        for (int i = 0; i < 3; i++) ad_param_unref(params[i]);
    }
}

Test(clip, refuses_before_anything_is_changed) {
    ad_param *params[] = {vector("a", AD_F64, 3, NULL), vector("b", AD_F64, 3, NULL)};
    const double g[] = {10, 20, 30}, bad_norms[] = {0, -1, (double)NAN, -(double)INFINITY};
    double norm = 7;
    ad_error error = {AD_OK, ""};
    for (int i = 0; i < 2; i++) set_gradient(params[i], g);
    for (int i = 0; i < COUNT(bad_norms); i++) {
        cr_expect_eq(ad_clip_gradients(2, params, bad_norms[i], &norm, &error), AD_ERR_VALUE);
        assert_says(&error, AD_ERR_VALUE, "ad_clip_gradients: max_norm is", "above 0");
    }
    make_nan(params[1]);
    cr_expect_eq(ad_clip_gradients(2, params, 1, &norm, &error), AD_ERR_VALUE);
    assert_says(&error, AD_ERR_VALUE, "ad_clip_gradients: the gradient of parameter b is nan", "element 2 of f64[3]");
    fail_backward(params[1]);
    cr_expect_eq(ad_clip_gradients(2, params, 1, &norm, &error), AD_ERR_NOGRAD);
    assert_says(&error, AD_ERR_NOGRAD, "ad_clip_gradients: the gradient of parameter b is incomplete", "");
    cr_expect_eq(norm, 7);
    for (int i = 0; i < 3; i++) cr_expect_eq(ad_view_get(ad_param_gradient(params[0]), i), g[i]);
    for (int i = 0; i < 2; i++) ad_param_unref(params[i]);
}
