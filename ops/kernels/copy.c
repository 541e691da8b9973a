/* Copies of strided arrays.
 *
 * Where the neighbours of one array are far apart in the other, a plain loop would use a few bytes of each cache line and
 * come back for the rest when it is gone. There tiles whose sides are a cache line are transposed in registers. */
#include "ops/kernels/isa.h"
#include "ops/kernels/transpose.h"

#include <string.h>

/* MUCH: bytes of a result that no cache keeps until somebody reads it. */
enum { LINE = 64, MUCH = 16 << 20 };

/* Two axes along which y is x transposed: x[i * x_row + j] goes to y[j * y_row + i]. */
typedef struct turn {
    int64_t rows, columns; /* of x */
    int64_t x_row, y_row;
} turn;

/* Finds such axes, at least so long, and takes them out of the walk. */
static bool take_turn(ad_walk *w, int64_t size, int64_t least, turn *t) {
    const int contiguous = w->inner[0] == 1 ? 0 : 1, other = 1 - contiguous;
    if (w->inner[contiguous] != 1 || w->inner[other] == 1 || w->n < least) return false;
    int r = 0;
    while (r < w->rank && w->step[other][r] != size) r++;
    if (r == w->rank || w->dim[r] < least) return false;
    const int64_t step = w->step[contiguous][r] / size;
    *t = contiguous == 1 ? (turn){w->n, w->dim[r], w->inner[0], step} : (turn){w->dim[r], w->n, step, w->inner[1]};
    for (w->rank--; r < w->rank; r++) {
        w->dim[r] = w->dim[r + 1];
        for (int k = 0; k < 2; k++) w->step[k][r] = w->step[k][r + 1];
    }
    return true;
}

#define T       float
#define S(name) name##_f32
#include "ops/kernels/copy_typed.h"
#undef T
#undef S

#define T       double
#define S(name) name##_f64
#include "ops/kernels/copy_typed.h"
#undef T
#undef S

void AD_NAME(copy)(const ad_view *x, const ad_view *y, double scale, bool add) {
    const ad_view *views[] = {x, y};
    const bool f32 = y->dtype == AD_F32, much = ad_view_count(y) * (f32 ? 4 : 8) >= MUCH;
    ad_walk w = ad_walk_start(2, views);
    if (f32)
        rows_copy_f32(&w, scale, add, much);
    else
        rows_copy_f64(&w, scale, add, much);
#if defined __SSE2__
    if (much) _mm_sfence(); /* after stores past the cache, for the thread that reads */
#endif
}
