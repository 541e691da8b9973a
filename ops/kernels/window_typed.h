/* Windows over images, for one type: T, and S(name) to name them. */

/* For element (a, b) of the kernel: the row of what it sees in the windows of rows [first, last), one after another. */
static void S(gather_row)(const ad_windows *v, const T *restrict plane, int64_t a, int64_t b, int64_t first, int64_t last,
                          T *restrict row) {
    const span seen = windows_seeing(v, 1, b);
    const int64_t n = v->count[1], offset = b * v->dilation[1] - v->padding[1], step = v->stride[1];
    for (int64_t i = first; i < last; i++, row += n) {
        const int64_t y = i * v->stride[0] - v->padding[0] + a * v->dilation[0];
        const bool inside = y >= 0 && y < v->size[0];
        const int64_t from = inside ? seen.from : n, to = inside ? seen.to : n;
        const T *source = plane + (inside ? y * v->size[1] : 0);
        for (int64_t j = 0; j < from; j++) row[j] = 0;
        if (step == 1) {
            for (int64_t j = from; j < to; j++) row[j] = source[j + offset];
        } else {
            for (int64_t j = from; j < to; j++) row[j] = source[j * step + offset];
        }
        for (int64_t j = to; j < n; j++) row[j] = 0;
    }
}

/* Its transpose: adds to what they see. */
static void S(scatter_row)(const ad_windows *v, T *restrict plane, int64_t a, int64_t b, int64_t first, int64_t last,
                           const T *restrict row) {
    const span seen = windows_seeing(v, 1, b);
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

/* The columns of windows in rows [first, last), of all channels of a group: to `columns`, or added from there to x. */
static void S(columns)(const ad_convolution *c, void *x, int64_t first, int64_t last, void *columns, bool back) {
    const ad_windows *v = &c->windows;
    const int64_t plane = v->size[0] * v->size[1];
    T *row = columns;
    for (int64_t channel = 0; channel < c->channels; channel++) {
        for (int64_t a = 0; a < v->kernel[0]; a++) {
            for (int64_t b = 0; b < v->kernel[1]; b++, row += (last - first) * v->count[1]) {
                if (back) S(scatter_row)(v, (T *)x + channel * plane, a, b, first, last, row);
                else S(gather_row)(v, (const T *)x + channel * plane, a, b, first, last, row);
            }
        }
    }
}

static void S(max_pool)(const ad_windows *v, int64_t planes, const T *x, T *y, int64_t *index) {
    const int64_t width = v->size[1], down = v->dilation[0] * width, right = v->dilation[1];
    for (int64_t p = 0; p < planes; p++, x += v->size[0] * width) {
        for (int64_t i = 0; i < v->count[0]; i++) {
            const int64_t top = begin_of(v, 0, i);
            const span rows = seen_from(v, 0, top);
            for (int64_t j = 0; j < v->count[1]; j++) {
                const int64_t left = begin_of(v, 1, j), corner = top * width + left;
                const span columns = seen_from(v, 1, left);
                int64_t best = corner + rows.from * down + columns.from * right;
                for (int64_t a = rows.from; a < rows.to; a++)
                    for (int64_t b = columns.from; b < columns.to; b++) {
                        const int64_t at = corner + a * down + b * right;
                        const T value = x[at], most = x[best];
                        if (most == most && (value > most || value != value)) best = at;
                    }
                *y++ = x[best];
                *index++ = best;
            }
        }
    }
}
