/* Windows over images, for one type: T, and S(name) to name them. */

enum { S(WIDE) = 64 / sizeof(T) };

/* n elements and, if `over`, some more: up to the next multiple of WIDE. */
static inline void S(copy_row)(const T *restrict from, T *restrict to, int64_t n, bool over) {
    int64_t j = 0;
    for (; j + (over ? 0 : S(WIDE) - 1) < n; j += S(WIDE))
        for (int k = 0; k < S(WIDE); k++) to[j + k] = from[j + k];
    for (; j < n; j++) to[j] = from[j];
}

/* For element (a, b) of the kernel: the row of what it sees in the windows of rows [first, last), one after another. Rows
 * are short, so each is copied as whole vectors: what is written behind it is overwritten by the next one, and there is
 * AD_COLUMNS_ROOM behind the last. What is read behind a row must be there: `readable` elements from `plane` on. */
static void S(gather_row)(const ad_windows *v, const T *restrict plane, int64_t readable, int64_t a, int64_t b,
                          int64_t first, int64_t last, T *restrict row) {
    const ad_span seen = windows_seeing(v, 1, b);
    const int64_t n = v->count[1], offset = b * v->dilation[1] - v->padding[1], step = v->stride[1];
    for (int64_t i = first; i < last; i++, row += n) {
        const int64_t y = i * v->stride[0] - v->padding[0] + a * v->dilation[0], begin = y * v->size[1] + offset;
        const bool inside = y >= 0 && y < v->size[0];
        const int64_t from = inside ? seen.from : n, to = inside ? seen.to : n;
        for (int64_t j = 0; j < from; j++) row[j] = 0;
        if (step == 1 && from < to) {
            S(copy_row)(plane + begin + from, row + from, to - from, begin + to + S(WIDE) <= readable);
        } else {
            for (int64_t j = from; j < to; j++) row[j] = plane[begin + j * step];
        }
        for (int64_t j = to; j < n; j++) row[j] = 0;
    }
}

/* Its transpose: adds to what they see. */
static void S(scatter_row)(const ad_windows *v, T *restrict plane, int64_t a, int64_t b, int64_t first, int64_t last,
                           const T *restrict row) {
    const ad_span seen = windows_seeing(v, 1, b);
    const int64_t n = v->count[1], offset = b * v->dilation[1] - v->padding[1], step = v->stride[1];
    for (int64_t i = first; i < last; i++, row += n) {
        const int64_t y = i * v->stride[0] - v->padding[0] + a * v->dilation[0];
        if (y < 0 || y >= v->size[0]) continue;
        T *target = plane + y * v->size[1];
        if (step == 1) {
            for (int64_t j = seen.from; j < seen.to; j++) target[j + offset] += row[j];
        } else {
            for (int64_t j = seen.from; j < seen.to; j++) target[j * step + offset] += row[j];
        }
    }
}

/* Elements k0 to k1 of the columns of windows in rows [first, last): to `columns`, or added from there to x. */
static void S(columns)(const ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last, void *columns,
                       bool back) {
    const ad_windows *v = &c->windows;
    const int64_t plane = v->size[0] * v->size[1], of_channel = v->kernel[0] * v->kernel[1];
    const int64_t length = (last - first) * v->count[1];
    T *row = (T *)columns + k0 * length;
    for (int64_t k = k0; k < k1; k++, row += length) {
        const int64_t channel = k / of_channel, a = k % of_channel / v->kernel[1], b = k % v->kernel[1];
        T *from = (T *)x + channel * plane;
        if (back) S(scatter_row)(v, from, a, b, first, last, row);
        else S(gather_row)(v, from, (c->channels - channel) * plane, a, b, first, last, row);
    }
}

/* What lies under the kernel's elements `rows` x `columns` of a window with this corner: where the largest is. */
static inline int64_t S(largest_at)(const T *x, int64_t corner, ad_span rows, ad_span columns, int64_t down, int64_t right) {
    int64_t best = corner + rows.from * down + columns.from * right;
    T most = x[best];
    for (int64_t a = rows.from; a < rows.to; a++)
        for (int64_t b = columns.from; b < columns.to; b++) {
            const int64_t at = corner + a * down + b * right;
            const bool better = (most == most) & ((x[at] > most) | (x[at] != x[at]));
            best = better ? at : best;
            most = better ? x[at] : most;
        }
    return best;
}

static void S(max_pool)(const ad_windows *v, int64_t planes, const T *x, T *y, int64_t *index) {
    const int64_t width = v->size[1], down = v->dilation[0] * width, right = v->dilation[1];
    const ad_span two = {0, 2}, whole = {0, v->kernel[1]};
    for (int64_t p = 0; p < planes; p++, x += v->size[0] * width) {
        for (int64_t i = 0; i < v->count[0]; i++) {
            const int64_t top = ad_window_begin(v, 0, i);
            const ad_span rows = ad_window_seen(v, 0, top);
            const bool pairs = v->kernel[0] == 2 && v->kernel[1] == 2 && rows.to - rows.from == 2;
            for (int64_t j = 0; j < v->count[1]; j++, y++, index++) {
                const int64_t left = ad_window_begin(v, 1, j), corner = top * width + left;
                /* Most windows see all that is under them, and what they see needs no division. */
                const bool inside = left >= 0 && left + (v->kernel[1] - 1) * right < width;
                const ad_span columns = inside ? whole : ad_window_seen(v, 1, left);
                *index = pairs && inside ? S(largest_at)(x, corner, two, two, down, right)
                                         : S(largest_at)(x, corner, rows, columns, down, right);
                *y = x[*index];
            }
        }
    }
}

/* Adds each cotangent where the largest element was. */
static void S(max_pool_back)(const ad_windows *v, int64_t planes, const T *g, const int64_t *index, T *x_bar) {
    const int64_t windows = v->count[0] * v->count[1];
    for (int64_t p = 0; p < planes; p++, x_bar += v->size[0] * v->size[1])
        for (int64_t i = 0; i < windows; i++) x_bar[*index++] += *g++;
}
