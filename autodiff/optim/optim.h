/* Inside the optimisers: what one is made of. A new kind is one file like sgd.c: its options with their limits, and a
 * rule, which is a kernel and the numbers that the kernel needs. */
#ifndef AD_OPTIM_INTERNAL_H
#define AD_OPTIM_INTERNAL_H

#include "ops/kernels/kernels.h"

#include <adtape/optim.h>

enum { AD_OPTIM_MOMENTS = 2 }; /* at most, for each parameter */

typedef union ad_optim_rule {
    ad_sgd_step sgd;
    ad_adam_step adam;
} ad_optim_rule;

typedef struct ad_optim_kind {
    /* Brings the rule up to date for step number optim->steps, counted from 1. */
    void (*begin)(ad_optim *optim);
    void (*update)(const ad_optim_rule *rule, ad_dtype dtype, int64_t n, void *w, const void *g,
                   void *const moment[AD_OPTIM_MOMENTS]);
} ad_optim_kind;

typedef struct ad_optim_slot {
    ad_param *param;
    ad_dtype dtype; /* of the parameter when the optimiser was made, as its shape */
    ad_shape shape;
    ad_tensor *moment[AD_OPTIM_MOMENTS];
} ad_optim_slot;

struct ad_optim {
    const ad_optim_kind *kind;
    ad_optim_rule rule;
    double rate;
    int moments; /* of AD_OPTIM_MOMENTS, how many are used */
    int64_t steps;
    const ad_allocator *allocator;
    int count;
    ad_optim_slot slot[];
};

/* A copy of `model`, of which kind, rule, rate and moments are read, with slots for these parameters. `subject` is the
 * function that was called, for messages. */
ad_status ad_optim_new(ad_optim **out, const char *subject, const ad_optim *model, const ad_allocator *allocator,
                       int count, ad_param *const *params, ad_error *error);

/* A number from the caller and the range [low, high) that it must lie in. */
typedef struct ad_limit {
    const char *name;
    double value, low, high;
} ad_limit;
ad_status ad_limits_check(const char *subject, int count, const ad_limit *limits, ad_error *error);
/* Above this a number would be infinite for f32 parameters. */
#define AD_LIMIT_HIGH 3.4e38

/* No parameter is NULL, and none is given twice. */
ad_status ad_params_check(const char *subject, int count, ad_param *const *params, ad_error *error);
/* The gradient of parameter number i is complete and finite. */
ad_status ad_gradient_check(const char *subject, int i, const ad_param *param, ad_error *error);

#endif
