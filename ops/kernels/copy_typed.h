/* Copies of one type: T, and S(name) to name them. */
#include "ops/kernels/transpose_typed.h"

static void S(copy)(int64_t n, const T *restrict x, int64_t sx, T *restrict y, int64_t sy, T scale, bool add) {
    if (sx == 1 && sy == 1) {
        if (add)
            for (int64_t i = 0; i < n; i++) y[i] += scale * x[i];
        else
            for (int64_t i = 0; i < n; i++) y[i] = scale * x[i];
    } else if (sx == 0 && sy == 1) {
        const T value = scale * x[0];
        if (add)
            for (int64_t i = 0; i < n; i++) y[i] += value;
        else
            for (int64_t i = 0; i < n; i++) y[i] = value;
    } else {
        for (int64_t i = 0; i < n; i++) y[i * sy] = (add ? y[i * sy] : (T)0) + scale * x[i * sx];
    }
}

enum { S(SIDE) = LINE / sizeof(T) };
typedef T S(tile)[S(SIDE)][S(SIDE)];

/* tile[j][i] = x[i][j] */
INLINE void S(read_tile)(const T *x, int64_t row, S(tile) tile) {
    for (int i = 0; i < S(SIDE); i += S(BAND)) {
        const T *from = x + i * row, *upper = from + (S(BAND) - S(SQUARE)) * row;
        UNROLL
        for (int j = 0; j < S(SIDE); j += S(SQUARE))
            S(transpose_rows)(from + j, upper + j, row, &tile[j][i], S(SIDE));
    }
}

/* Writes whole lines without a place for them in the caches. */
INLINE void S(stream_tile)(S(tile) tile, T *y, int64_t row) {
#if defined __AVX512F__
    for (int j = 0; j < S(SIDE); j++)
        _mm512_stream_si512((void *)(y + j * row), _mm512_load_si512((const void *)tile[j]));
#elif defined __SSE2__
    for (int j = 0; j < S(SIDE); j++)
        for (int i = 0; i < S(SIDE); i += S(SQUARE))
            _mm_stream_si128((void *)(y + j * row + i), _mm_load_si128((const void *)&tile[j][i]));
#else
    for (int j = 0; j < S(SIDE); j++) memcpy(y + j * row, tile[j], LINE);
#endif
}

/* Tiles at the far edges reach back over those before them, and write what is new. */
static void S(copy_turned)(const turn *t, const T *restrict x, T *restrict y, T scale, bool add, bool stream) {
    enum { SIDE = S(SIDE) };
    _Alignas(LINE) S(tile) tile;
    stream = stream && scale == 1 && !add && ((uintptr_t)y | (uintptr_t)t->y_row * sizeof(T)) % LINE == 0;
    for (int64_t j = 0; j < t->columns; j += SIDE) {
        const int64_t j_back = j + SIDE > t->columns ? j + SIDE - t->columns : 0;
        for (int64_t i = 0; i < t->rows; i += SIDE) {
            const int64_t i_back = i + SIDE > t->rows ? i + SIDE - t->rows : 0;
            S(read_tile)(x + (i - i_back) * t->x_row + j - j_back, t->x_row, tile);
            if (stream && i_back + j_back == 0) {
                S(stream_tile)(tile, y + j * t->y_row + i, t->y_row);
                continue;
            }
            for (int64_t k = j_back; k < SIDE; k++)
                S(copy)(SIDE - i_back, tile[k] + i_back, 1, y + (j - j_back + k) * t->y_row + i, 1, scale, add);
        }
    }
}

static void S(rows_copy)(ad_walk *w, double scale, bool add, bool stream) {
    turn t;
    if (take_turn(w, sizeof(T), S(SIDE), &t)) {
        for (; w->more; ad_walk_next(w))
            S(copy_turned)(&t, (const T *)(void *)w->at[0], (T *)(void *)w->at[1], (T)scale, add, stream);
        return;
    }
    for (; w->more; ad_walk_next(w))
        S(copy)(w->n, (const T *)(void *)w->at[0], w->inner[0], (T *)(void *)w->at[1], w->inner[1], (T)scale, add);
}
