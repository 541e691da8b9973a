/* Convolution without columns: products are summed where the image lies, or rather where a copy of a block of it does, with
 * the padding written out. direct.c says how. */
#ifndef AD_KERNELS_DIRECT_H
#define AD_KERNELS_DIRECT_H

#include "ops/kernels/window.h"

/* A convolution, and what its loops need to know. The image that is read is x, or y where x is the result: a gradient with
 * respect to x is the convolution of y with each kernel turned round, if windows are one apart. */
typedef struct ad_direct {
    ad_convolution c;
    ad_side result;
    ad_windows windows;        /* over the image that is read */
    int64_t planes, results;   /* channels of a group of that image, and of the result (of the kernel: filters) */
    int64_t w_plane, w_result; /* elements of w from one of them to the next */
    bool pixels;               /* the lanes of a vector are neighbours in a row of the result, and not its channels */
    int64_t rows, blocks;      /* of windows in a block, and blocks of an image */
    int64_t row, plane;        /* elements from one to the next in the copy of a block */
    int64_t of_copy;           /* elements, and what vectors may read behind it */
    int64_t panel;             /* channels or filters that are packed side by side: two vectors */
    int64_t parts_of_k, parts_of_results; /* that threads share, where the kernel is the result */
    int64_t items;                        /* of work */
    int64_t shared, each;                 /* bytes of scratch memory, of all threads and of one, in units of 64 */

    const char *x, *w, *y, *bias; /* one of the first three is written to */
    bool add;
    bool skips; /* w is finite, so that products with the padding need not be computed */
    char *scratch;
} ad_direct;

/* Elements of the kernel that a window sees, channels included, and those of one of its rows; and windows of an image. */
static inline int64_t ad_direct_row(const ad_direct *d) { return d->planes * d->windows.kernel[1]; }
static inline int64_t ad_direct_k(const ad_direct *d) {
    return d->planes * d->windows.kernel[0] * d->windows.kernel[1];
}
static inline int64_t ad_direct_n(const ad_direct *d) { return d->windows.count[0] * d->windows.count[1]; }

#endif
