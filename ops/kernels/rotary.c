/* See rotary.h. */
#include "ops/kernels/rotary.h"
#include "ops/kernels/pieces.h"

#include <math.h>

enum { GRAIN = 512 }; /* elements */

void ad_rotary_table(int64_t positions, int64_t pairs, double first, double base, bool inverse, double *table) {
    for (int64_t j = 0; j < pairs; j++) {
        double speed = pow(base, -(double)j / (double)pairs);
        for (int64_t i = 0; i < positions; i++) {
            double angle = (first + (double)i) * speed, *at = &table[2 * (i * pairs + j)];
            at[0] = cos(angle);
            at[1] = inverse ? -sin(angle) : sin(angle);
        }
    }
}

/* The first element of every row. */
static ad_view row_starts(const ad_view *view) {
    ad_view starts = *view;
    starts.shape.rank--;
    return starts;
}

/* Goes through the rows; the table starts again after the last position. */
#define LOOP(type)                                                                                                   \
    for (ad_walk w = ad_walk_start(2, rows); w.more; ad_walk_next(&w)) {                                             \
        for (int64_t i = 0; i < w.n; i++, row = (row + 1) % positions) {                                             \
            const type *from = (const type *)(void *)w.at[0] + i * w.inner[0];                                       \
            type *to = (type *)(void *)w.at[1] + i * w.inner[1];                                                     \
            for (int64_t j = 0; j < pairs; j++, from += 2 * step[0], to += 2 * step[1]) {                            \
                const double *turn = &table[2 * (row * pairs + j)];                                                  \
                double a = (double)from[0], b = (double)from[step[0]];                                               \
                type u = (type)(turn[0] * a - turn[1] * b), v = (type)(turn[1] * a + turn[0] * b);                   \
                to[0] = add ? to[0] + u : u;                                                                         \
                to[step[1]] = add ? to[step[1]] + v : v;                                                             \
            }                                                                                                        \
        }                                                                                                            \
    }

static void rotate_piece(const ad_view *const *views, const void *options) {
    const ad_view *x = views[0], *y = views[2];
    const double *table = views[1]->data;
    const bool add = *(const bool *)options;
    int last = x->shape.rank - 1;
    const int64_t positions = x->shape.dim[last - 1], pairs = x->shape.dim[last] / 2;
    const int64_t step[] = {x->stride[last], y->stride[last]};
    ad_view from_rows = row_starts(x), to_rows = row_starts(y);
    const ad_view *rows[] = {&from_rows, &to_rows};
    int64_t row = 0;
    if (x->dtype == AD_F32) {
        LOOP(float)
    } else {
        LOOP(double)
    }
}

void ad_rotate_pairs(const ad_view *x, const double *table, const ad_view *y, bool add) {
    const int last = x->shape.rank - 1;
    if (ad_view_count(x) == 0) return;
    /* As an array of rows, so that it is cut where the positions are. */
    ad_view turns = {.data = (void *)(uintptr_t)table, .dtype = AD_F64, .shape = x->shape};
    for (int i = 0; i <= last; i++)
        if (i != last - 1) turns.shape.dim[i] = 1;
    turns.stride[last - 1] = x->shape.dim[last];
    ad_in_pieces(3, (const ad_view *[]){x, &turns, y}, (1u << last) - 1, GRAIN, rotate_piece, &add);
}
