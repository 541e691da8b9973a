/* adtape/optim.h: optimisers. They change parameters by their gradients, between steps and outside any tape.
 *
 *     for (...) {
 *         ... record a loss on the tape, from ad_use(tape, w), and so on ...
 *         ad_backward(loss);
 *         ad_optim_step(optim, &error);
 *         ad_tape_reset(tape);
 *     }
 *
 * Whatever fails, fails before anything is changed: parameters, gradients and the optimiser are as they were. */
#ifndef ADTAPE_OPTIM_H
#define ADTAPE_OPTIM_H

#include <adtape/tape.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Holds a reference to each of its parameters and, for each, the moments that its rule needs. Those are allocated when
 * it is made: a step allocates nothing. */
typedef struct ad_optim ad_optim;

/* ---- kinds ---------------------------------------------------------------------------------------------- */

/* Each takes `count` different parameters, which may differ in dtype and shape, and gives an optimiser that is the
 * caller's to free. The options are copied and taken as they are: NULL is the only way to ask for all defaults, so to
 * change one, start from the function that returns them. `allocator` NULL: the default.
 * Errors: AD_ERR_NULL, AD_ERR_VALUE (a parameter given twice, an option out of its range), AD_ERR_OOM; *out is then
 * NULL. */

/* Stochastic gradient descent, w -= rate * g. With momentum (0 < momentum < 1) it follows a running sum of gradients
 * instead of g: v = momentum * v + g (Polyak 1964, without dampening), and with .nesterov it looks ahead by that much
 * (g + momentum * v; Sutskever et al. 2013). `decay` adds decay * w to the gradient (L2 regularisation). */
typedef struct ad_sgd_options {
    double rate;     /* >= 0; default 0.01 */
    double momentum; /* in [0, 1); default 0: none, and no memory for it */
    double decay;    /* >= 0; default 0 */
    bool nesterov;   /* needs a momentum */
} ad_sgd_options;
AD_API ad_sgd_options ad_sgd_defaults(void);
AD_API ad_status ad_sgd_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                            const ad_sgd_options *options, ad_error *error);

/* Adam (Kingma and Ba 2015, algorithm 1): running means m of the gradient and v of its square, both corrected for
 * their start at 0; w -= rate * m / (sqrt(v) + epsilon). `decay` adds decay * w to the gradient. AdamW (Loshchilov and
 * Hutter 2019, algorithm 2) keeps the decay apart from the means: w -= rate * decay * w. */
typedef struct ad_adam_options {
    double rate;    /* >= 0; default 0.001 */
    double beta1;   /* of m, in [0, 1); default 0.9 */
    double beta2;   /* of v, in [0, 1); default 0.999 */
    double epsilon; /* > 0; default 1e-8 */
    double decay;   /* >= 0; default 0 for Adam, 0.01 for AdamW */
} ad_adam_options;
AD_API ad_adam_options ad_adam_defaults(void);
AD_API ad_adam_options ad_adamw_defaults(void);
AD_API ad_status ad_adam_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                             const ad_adam_options *options, ad_error *error);
AD_API ad_status ad_adamw_new(ad_optim **out, const ad_allocator *allocator, int count, ad_param *const *params,
                              const ad_adam_options *options, ad_error *error);

/* ---- using one ------------------------------------------------------------------------------------------ */

AD_API void ad_optim_free(ad_optim *optim); /* NULL is allowed */

/* Changes every parameter by its present gradient. Refused, naming the parameter: a gradient that a failed backward
 * pass left incomplete (AD_ERR_NOGRAD), one that is not finite (AD_ERR_VALUE), and a parameter whose dtype or shape is
 * not what it was (AD_ERR_CHANGED). */
AD_API ad_status ad_optim_step(ad_optim *optim, ad_error *error);

AD_API int64_t ad_optim_steps(const ad_optim *optim); /* taken so far; 0 for NULL */
AD_API double ad_optim_rate(const ad_optim *optim);   /* the learning rate; NaN for NULL */
AD_API ad_status ad_optim_set_rate(ad_optim *optim, double rate, ad_error *error); /* from the next step on */
/* As new: the moments are zeros and no step has been taken. The learning rate and the parameters stay. */
AD_API void ad_optim_reset(ad_optim *optim);

/* ---- clipping ------------------------------------------------------------------------------------------- */

/* Scales the gradients of all the parameters by one factor if together, as one long vector, they are longer than
 * `max_norm` (Pascanu et al. 2013); an infinite `max_norm` only measures. *norm, unless NULL, gets the length before.
 * Does not overflow or underflow where the result does not. Errors as for ad_optim_step, and AD_ERR_VALUE unless
 * max_norm > 0. */
AD_API ad_status ad_clip_gradients(int count, ad_param *const *params, double max_norm, double *norm,
                                   ad_error *error);

#ifdef __cplusplus
}
#endif
#endif
