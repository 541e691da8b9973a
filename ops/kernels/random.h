/* Kernels that draw random numbers: compiled once, the generator is what takes the time. */
#ifndef AD_KERNELS_RANDOM_H
#define AD_KERNELS_RANDOM_H

#include "autodiff/base/base.h"

/* y (+)= x / (1 - p) where a uniform number is at least p, else 0, whatever x is there. f32 and f64. */
void ad_drop(const ad_view *x, ad_rng rng, double p, const ad_view *y, bool add);

#endif
