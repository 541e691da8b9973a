/* Rotating pairs of elements by angles that grow with the position. */
#ifndef AD_KERNELS_ROTARY_H
#define AD_KERNELS_ROTARY_H

#include "autodiff/base/base.h"

/* The cosines and sines, [positions, pairs, 2], of the angles (first + i) base^(-j / pairs), backwards if `inverse`. */
void ad_rotary_table(int64_t positions, int64_t pairs, double first, double base, bool inverse, double *table);
/* y (+)= x[..., positions, 2 pairs] with elements 2 j and 2 j + 1 as coordinates, turned. f32 and f64. */
void ad_rotate_pairs(const ad_view *x, const double *table, const ad_view *y, bool add);

#endif
