/* Standardizing one row, for one type: T, and S(name) to name them. A row is a few runs of n elements; strides are in
 * elements. Sums are in double, in lanes whose order does not depend on the machine. */

enum { S(LANES) = 8 };

static double S(total)(const double *lane) {
    double sum = 0;
    for (int k = 0; k < S(LANES); k++) sum += lane[k];
    return sum;
}

static double S(sum_of_deviations)(int64_t n, const T *x, int64_t sx, double from) {
    double lane[S(LANES)] = {0};
    int64_t i = 0;
    if (sx == 1)
        for (; i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++) lane[k] += (double)x[i + k] - from;
    for (; i < n; i++) lane[0] += (double)x[i * sx] - from;
    return S(total)(lane);
}

static double S(sum_of_squares)(int64_t n, const T *x, int64_t sx, double from) {
    double lane[S(LANES)] = {0};
    int64_t i = 0;
    if (sx == 1)
        for (; i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++)
                lane[k] += ((double)x[i + k] - from) * ((double)x[i + k] - from);
    for (; i < n; i++) lane[0] += ((double)x[i * sx] - from) * ((double)x[i * sx] - from);
    return S(total)(lane);
}

/* The two sums of the backward pass: of g w, and of g w (x - mean). */
static void S(sums_of_products)(int64_t n, const T *g, int64_t sg, const T *w, int64_t sw, const T *x, int64_t sx,
                                double mean, double sum[2]) {
    double plain[S(LANES)] = {0}, weighted[S(LANES)] = {0};
    int64_t i = 0;
    if (sg == 1 && sx == 1 && sw <= 1 && sw >= 0) {
        for (; i + S(LANES) <= n; i += S(LANES)) {
            for (int k = 0; k < S(LANES); k++) {
                double h = (double)g[i + k] * (double)w[(i + k) * sw];
                plain[k] += h;
                weighted[k] += h * ((double)x[i + k] - mean);
            }
        }
    }
    for (; i < n; i++) {
        double h = (double)g[i * sg] * (double)w[i * sw];
        plain[0] += h;
        weighted[0] += h * ((double)x[i * sx] - mean);
    }
    sum[0] += S(total)(plain);
    sum[1] += S(total)(weighted);
}

/* y = (x - mean) r w + b */
static void S(scale_and_shift)(int64_t n, const T *restrict x, int64_t sx, const T *restrict w, int64_t sw,
                               const T *restrict b, int64_t sb, double mean, double r, T *restrict y, int64_t sy) {
#define AD_SCALE_AND_SHIFT(sx, sw, sb, sy)                                                                           \
    for (int64_t i = 0; i < n; i++)                                                                                  \
    y[i * (sy)] = (T)(((double)x[i * (sx)] - mean) * r * (double)w[i * (sw)] + (double)b[i * (sb)])
    const bool unit = sx == 1 && sy == 1;
    if (unit && sw == 1 && sb == 1) AD_SCALE_AND_SHIFT(1, 1, 1, 1);
    else if (unit && sw == 0 && sb == 0) AD_SCALE_AND_SHIFT(1, 0, 0, 1);
    else if (unit && sw == 1 && sb == 0) AD_SCALE_AND_SHIFT(1, 1, 0, 1);
    else AD_SCALE_AND_SHIFT(sx, sw, sb, sy);
#undef AD_SCALE_AND_SHIFT
}

/* x_bar (+)= r g w + slope (x - mean) + shift */
static void S(pull_back)(int64_t n, const T *restrict g, int64_t sg, const T *restrict w, int64_t sw,
                         const T *restrict x, int64_t sx, const double c[4], T *restrict bar, int64_t s, bool add) {
    const double mean = c[0], r = c[1], slope = c[2], shift = c[3];
#define AD_PULL_BACK(sg, sw, sx, s)                                                                                  \
    for (int64_t i = 0; i < n; i++) {                                                                                \
        double value = r * (double)g[i * (sg)] * (double)w[i * (sw)] + slope * ((double)x[i * (sx)] - mean) + shift; \
        bar[i * (s)] = (T)(add ? (double)bar[i * (s)] + value : value);                                              \
    }
    const bool unit = sg == 1 && sx == 1 && s == 1;
    if (unit && sw == 1) AD_PULL_BACK(1, 1, 1, 1)
    else if (unit && sw == 0) AD_PULL_BACK(1, 0, 1, 1)
    else AD_PULL_BACK(sg, sw, sx, s)
#undef AD_PULL_BACK
}

#define AD_RUN(type, k) ((type *)(void *)walk.at[k])
#define AD_RUNS(count, ...)                                                                                          \
    (ad_walk walk = ad_walk_start(count, (const ad_view *const[]){__VA_ARGS__}); walk.more; ad_walk_next(&walk))

static void S(standardize_row)(const ad_standardize *row) {
    const ad_view *x = &row->x;
    const double n = (double)ad_view_count(x);
    double mean = row->centred ? NAN : 0, square = 0;
    if (n > 0 && row->centred) { /* through the first element: exact if all are equal */
        double first = (double)*(const T *)x->data, sum = 0;
        for AD_RUNS(1, x) sum += S(sum_of_deviations)(walk.n, AD_RUN(const T, 0), walk.inner[0], first);
        mean = first + sum / n;
    }
    for AD_RUNS(1, x) square += S(sum_of_squares)(walk.n, AD_RUN(const T, 0), walk.inner[0], mean);
    square /= n;
    if (row->centred) *(T *)row->mean.data = (T)mean;
    *(T *)row->square.data = (T)square;
    const double r = inverse_root(square + row->epsilon);
    for AD_RUNS(4, x, &row->w, &row->b, &row->y)
        S(scale_and_shift)(walk.n, AD_RUN(const T, 0), walk.inner[0], AD_RUN(const T, 1), walk.inner[1],
                           AD_RUN(const T, 2), walk.inner[2], mean, r, AD_RUN(T, 3), walk.inner[3]);
}

static void S(standardize_back_row)(const ad_standardize *row) {
    const ad_view *x = &row->x, *g = &row->g, *w = &row->w;
    const double n = (double)ad_view_count(x), mean = row->centred ? (double)*(const T *)row->mean.data : 0;
    const double r = inverse_root((double)*(const T *)row->square.data + row->epsilon);
    if (row->x_bar.data) {
        double sum[2] = {0}, c[4] = {mean, r, 0, 0};
        for AD_RUNS(3, g, w, x)
            S(sums_of_products)(walk.n, AD_RUN(const T, 0), walk.inner[0], AD_RUN(const T, 1), walk.inner[1],
                                AD_RUN(const T, 2), walk.inner[2], mean, sum);
        c[2] = (2 * (double)*(const T *)row->square_bar.data - r * r * r * sum[1]) / n;
        if (row->centred) c[3] = ((double)*(const T *)row->mean_bar.data - r * sum[0]) / n;
        for AD_RUNS(4, g, w, x, &row->x_bar)
            S(pull_back)(walk.n, AD_RUN(const T, 0), walk.inner[0], AD_RUN(const T, 1), walk.inner[1],
                         AD_RUN(const T, 2), walk.inner[2], c, AD_RUN(T, 3), walk.inner[3], row->add);
    }
    if (row->product.data)
        for AD_RUNS(3, g, x, &row->product)
            for (int64_t i = 0; i < walk.n; i++)
                AD_RUN(T, 2)[i * walk.inner[2]] = (T)((double)AD_RUN(const T, 0)[i * walk.inner[0]] *
                                                      ((double)AD_RUN(const T, 1)[i * walk.inner[1]] - mean) * r);
}

#undef AD_RUN
#undef AD_RUNS
