/* Standardizing one row, for one type: T, and S(name) to name them. A row is a few runs of n elements; strides are in
 * elements. Sums are in double, in lanes whose order does not depend on the machine. */

enum { S(LANES) = 16 };

static double S(total)(const double *lane) {
    double sum = 0;
    for (int k = 0; k < S(LANES); k++) sum += lane[k];
    return sum;
}

/* Adds up x - from, and its squares. */
static void S(sums_of_deviations)(int64_t n, const T *x, int64_t sx, double from, double sum[2]) {
    double plain[S(LANES)] = {0}, squared[S(LANES)] = {0};
    int64_t i = 0;
    if (sx == 1) {
        for (; i + S(LANES) <= n; i += S(LANES)) {
            for (int k = 0; k < S(LANES); k++) {
                const double d = (double)x[i + k] - from;
                plain[k] += d;
                squared[k] = ad_fma_f64(d, d, squared[k]);
            }
        }
    }
    for (; i < n; i++) {
        const double d = (double)x[i * sx] - from;
        plain[0] += d;
        squared[0] = ad_fma_f64(d, d, squared[0]);
    }
    sum[0] += S(total)(plain);
    sum[1] += S(total)(squared);
}

/* The two sums of the backward pass: of g w, and of g w (x - mean). */
static void S(sums_of_products)(int64_t n, const T *g, int64_t sg, const T *w, int64_t sw, const T *x, int64_t sx,
                                double mean, double sum[2]) {
    double plain[S(LANES)] = {0}, weighted[S(LANES)] = {0};
    int64_t i = 0;
#define AD_ADD_PRODUCTS(k, sg, sw, sx)                                                                               \
    {                                                                                                                \
        const double h = (double)g[(i + (k)) * (sg)] * (double)w[(i + (k)) * (sw)];                                  \
        plain[k] += h;                                                                                               \
        weighted[k] = ad_fma_f64(h, (double)x[(i + (k)) * (sx)] - mean, weighted[k]);                                \
    }
    if (sg == 1 && sx == 1 && sw == 1)
        for (; i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++) AD_ADD_PRODUCTS(k, 1, 1, 1)
    else if (sg == 1 && sx == 1 && sw == 0)
        for (; i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++) AD_ADD_PRODUCTS(k, 1, 0, 1)
    for (; i < n; i++) AD_ADD_PRODUCTS(0, sg, sw, sx)
#undef AD_ADD_PRODUCTS
    sum[0] += S(total)(plain);
    sum[1] += S(total)(weighted);
}

/* y = (x - mean) r w + b, with a mean that has more digits than x. */
static void S(scale_and_shift)(int64_t n, const T *restrict x, int64_t sx, const T *restrict w, int64_t sw,
                               const T *restrict b, int64_t sb, double mean, double root, T *restrict y,
                               int64_t sy) {
    const T high = (T)mean, low = (T)(mean - (double)high), r = (T)root;
#define AD_SCALE_AND_SHIFT(sx, sw, sb, sy)                                                                           \
    for (int64_t i = 0; i < n; i++)                                                                                  \
    y[i * (sy)] = AD_FMA((x[i * (sx)] - high - low) * r, w[i * (sw)], b[i * (sb)])
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
    const T mean = (T)c[0], r = (T)c[1], slope = (T)c[2], shift = (T)c[3];
#define AD_PULL_BACK(op, sg, sw, sx, s)                                                                              \
    for (int64_t i = 0; i < n; i++) {                                                                                \
        const T rest = AD_FMA(slope, x[i * (sx)] - mean, shift);                                                     \
        bar[i * (s)] op AD_FMA(r * g[i * (sg)], w[i * (sw)], rest);                                                  \
    }
    const bool unit = sg == 1 && sx == 1 && s == 1;
    if (unit && sw == 1 && add) AD_PULL_BACK(+=, 1, 1, 1, 1)
    else if (unit && sw == 1) AD_PULL_BACK(=, 1, 1, 1, 1)
    else if (unit && sw == 0 && !add) AD_PULL_BACK(=, 1, 0, 1, 1)
    else if (add) AD_PULL_BACK(+=, sg, sw, sx, s)
    else AD_PULL_BACK(=, sg, sw, sx, s)
#undef AD_PULL_BACK
}

/* product = g (x - mean) r */
static void S(multiply)(int64_t n, const T *restrict g, int64_t sg, const T *restrict x, int64_t sx, double mean,
                        double r, T *restrict product, int64_t s) {
    if (sg == 1 && sx == 1 && s == 1)
        for (int64_t i = 0; i < n; i++) product[i] = (T)((double)g[i] * (((double)x[i] - mean) * r));
    else
        for (int64_t i = 0; i < n; i++) product[i * s] = (T)((double)g[i * sg] * (((double)x[i * sx] - mean) * r));
}

#define AD_RUN(type, k) ((type *)(void *)walk.at[k])
#define AD_RUNS(count, ...)                                                                                          \
    (ad_walk walk = ad_walk_start(count, (const ad_view *const[]){__VA_ARGS__}); walk.more; ad_walk_next(&walk))

/* The mean and the variance of n elements, from a guess at the mean: with one of them, the variance loses digits in
 * proportion to n at most; with the mean, none. */
static void S(moments)(const ad_view *x, double n, double *mean, double *square) {
    double sum[2] = {0};
    for AD_RUNS(1, x) S(sums_of_deviations)(walk.n, AD_RUN(const T, 0), walk.inner[0], *mean, sum);
    const double rest = sum[1] - sum[0] * sum[0] / n;
    *mean += sum[0] / n;
    *square = rest < 0 ? 0 : rest / n;
}

static void S(standardize_row)(const ad_standardize *row) {
    const ad_view *x = &row->x;
    const double n = (double)ad_view_count(x);
    double mean = n == 0 ? NAN : 0, square = mean;
    if (row->centred && n > 0) { /* through the first element: exact if all are equal */
        mean = (double)*(const T *)x->data;
        S(moments)(x, n, &mean, &square);
        if (sizeof(T) == sizeof(double)) S(moments)(x, n, &mean, &square);
    } else if (n > 0) {
        double sum[2] = {0};
        for AD_RUNS(1, x) S(sums_of_deviations)(walk.n, AD_RUN(const T, 0), walk.inner[0], 0, sum);
        square = sum[1] / n;
    }
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
            S(multiply)(walk.n, AD_RUN(const T, 0), walk.inner[0], AD_RUN(const T, 1), walk.inner[1], mean, r,
                        AD_RUN(T, 2), walk.inner[2]);
}

#undef AD_RUN
#undef AD_RUNS
