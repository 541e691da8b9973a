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
static void S(columns)(const ad_convolution *c, int64_t k0, int64_t k1, void *x, int64_t first, int64_t last,
                       void *columns, bool back) {
    const ad_windows *v = &c->windows;
    const int64_t plane = v->size[0] * v->size[1], of_channel = v->kernel[0] * v->kernel[1];
    const int64_t length = (last - first) * v->count[1];
    T *row = (T *)columns + k0 * length;
    for (int64_t k = k0; k < k1; k++, row += length) {
        const int64_t channel = k / of_channel, a = k % of_channel / v->kernel[1], b = k % v->kernel[1];
        T *from = (T *)x + channel * plane;
        if (back)
            S(scatter_row)(v, from, a, b, first, last, row);
        else
            S(gather_row)(v, from, (c->channels - channel) * plane, a, b, first, last, row);
    }
}

/* What lies under the kernel's elements `rows` x `columns` of a window with this corner: where the largest is. */
static inline int64_t S(largest_at)(const T *x, int64_t corner, ad_span rows, ad_span columns, int64_t down,
                                    int64_t right) {
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

/* The same for LANES windows, `step` apart, that see all of these rows of the kernel; `x` and `corner` are the first one's. */
INLINE void S(largest_of_many)(const T *x, int64_t corner, ad_span rows, int64_t width, int64_t down, int64_t right,
                               const int step, T *y, int64_t *index) {
    S(whole) lane;
    UNROLL
    for (int k = 0; k < S(LANES); k++) lane[k] = k * step;
    S(vec) most = S(load_apart)(x + rows.from * down, step);
    S(whole) at = lane + (WHOLE)(corner + rows.from * down);
    for (int64_t a = rows.from; a < rows.to; a++)
        for (int64_t b = 0; b < width; b++) {
            const S(vec) seen = S(load_apart)(x + a * down + b * right, step);
            const S(whole) better = (most == most) & ((seen > most) | (seen != seen));
            most = S(choose)(better, seen, most);
            at = (better & (lane + (WHOLE)(corner + a * down + b * right))) | (~better & at);
        }
    S(store)(y, most);
    UNROLL
    for (int k = 0; k < S(LANES); k++) index[k] = at[k];
}

/* Window j of a row that begins at `top`. */
static inline int64_t S(largest_in_window)(const ad_windows *v, const T *x, int64_t top, ad_span rows, int64_t j) {
    const int64_t left = ad_window_begin(v, 1, j);
    return S(largest_at)(x, top * v->size[1] + left, rows, ad_window_seen(v, 1, left), v->dilation[0] * v->size[1],
                         v->dilation[1]);
}

/* `readable` elements from x on, room for `writable` results. */
static void S(max_pool_plane)(const ad_windows *v, const T *x, int64_t readable, T *y, int64_t *index,
                              int64_t writable) {
    const int64_t width = v->size[1], n = v->count[1], down = v->dilation[0] * width, right = v->dilation[1];
    const int64_t step = v->stride[1], past = (v->kernel[1] - 1) * right;
    /* The windows that see all of a row of the kernel, if many of them can be taken at once. */
    const bool many = step <= 2 && v->size[0] * width <= INT32_MAX;
    const int64_t from = many ? ad_clamp_whole(ad_divide_up(v->padding[1], step), 0, n) : n;
    const int64_t to = ad_clamp_whole(ad_divide_up(width - past + v->padding[1], step), from, n);
    for (int64_t i = 0; i < v->count[0]; i++, y += n, index += n, writable -= n) {
        const int64_t top = ad_window_begin(v, 0, i);
        const ad_span rows = ad_window_seen(v, 0, top);
        int64_t j = 0;
        for (; j < from; j++) index[j] = S(largest_in_window)(v, x, top, rows, j), y[j] = x[index[j]];
        for (; j < to && j + S(LANES) <= writable; j += S(LANES)) {
            const int64_t corner = top * width + ad_window_begin(v, 1, j);
            if (corner + (rows.to - 1) * down + past + step * S(LANES) > readable) break;
            if (step == 1)
                S(largest_of_many)(x + corner, corner, rows, v->kernel[1], down, right, 1, y + j, index + j);
            else
                S(largest_of_many)(x + corner, corner, rows, v->kernel[1], down, right, 2, y + j, index + j);
        }
        for (j = j < to ? j : to; j < n; j++) index[j] = S(largest_in_window)(v, x, top, rows, j), y[j] = x[index[j]];
    }
}

static void S(max_pool)(const ad_windows *v, int64_t planes, const T *x, T *y, int64_t *index) {
    const int64_t of_x = v->size[0] * v->size[1], of_y = v->count[0] * v->count[1];
    for (int64_t p = 0; p < planes; p++, x += of_x, y += of_y, index += of_y)
        S(max_pool_plane)(v, x, (planes - p) * of_x, y, index, (planes - p) * of_y);
}

/* Adds each cotangent where the largest element was, plane by plane: what was cleared is still in the cache. */
static void S(max_pool_back)(const ad_windows *v, int64_t planes, const T *g, const int64_t *index, T *x_bar,
                             bool add) {
    const int64_t windows = v->count[0] * v->count[1], of_x = v->size[0] * v->size[1];
    for (int64_t p = 0; p < planes; p++, x_bar += of_x) {
        if (!add) memset(x_bar, 0, (size_t)of_x * sizeof(T));
        for (int64_t i = 0; i < windows; i++) x_bar[*index++] += *g++;
    }
}
