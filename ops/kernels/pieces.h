/* Arrays cut into pieces along one axis, for several threads. A kernel that is called with the pieces computes the same
 * bits as with the whole, as long as only axes are cut along which no result depends on more than its own place. */
#ifndef AD_KERNELS_PIECES_H
#define AD_KERNELS_PIECES_H

#include "autodiff/base/base.h"

enum { AD_PIECES_MOST = 12, AD_EVERY_AXIS = (1 << AD_MAX_RANK) - 1 };

/* Does what is to be done with a piece of each array. */
typedef void ad_pieces_function(const ad_view *const *views, const void *options);

/* Calls f with pieces of the arrays which together are the whole, each piece once, or with the whole. `axes`: the bits of
 * those that may be cut. `grain`: so many elements of views[0] are work for a microsecond. An array that is shorter than
 * views[0] along the axis, or not there (data NULL), goes to every call as it is. The last one is written to. */
void ad_in_pieces(int arrays, const ad_view *const *views, unsigned axes, int64_t grain, ad_pieces_function *f,
                  const void *options);

/* Whether that would be one call. */
static inline bool ad_is_one_piece(const ad_view *view, int64_t grain) {
    return ad_parallel_workers(ad_elements(&view->shape), grain) < 2;
}

#endif
