/* softmax and its kin on one row, for one type: T, and S(name) to name them. Strides are in elements. */

/* Sums run in lanes whose order does not depend on the machine, and in double every so often, so that the error grows
 * with the block and not with the row. */
enum { S(LANES) = 16, S(BLOCK) = 1024 };

static T S(row_max)(int64_t n, const T *x, int64_t sx) {
    T lane[S(LANES)], most = -(T)INFINITY;
    int64_t i = 0;
    if (sx == 1 && n >= S(LANES)) {
        for (int k = 0; k < S(LANES); k++) lane[k] = x[k];
        for (i = S(LANES); i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
        for (int k = 0; k < S(LANES); k++) most = lane[k] > most ? lane[k] : most;
    }
    for (; i < n; i++) most = x[i * sx] > most ? x[i * sx] : most;
    return most;
}

static double S(row_sum)(int64_t n, const T *x, int64_t sx) {
    double total = 0;
    for (int64_t first = 0; first < n; first += S(BLOCK)) {
        int64_t end = n - first < S(BLOCK) ? n : first + S(BLOCK), i = first;
        T lane[S(LANES)] = {0};
        if (sx == 1)
            for (; i + S(LANES) <= end; i += S(LANES))
                for (int k = 0; k < S(LANES); k++) lane[k] += x[i + k];
        for (int k = 0; i < end; i++, k = (k + 1) % S(LANES)) lane[k] += x[i * sx];
        for (int k = 0; k < S(LANES); k++) total += (double)lane[k];
    }
    return total;
}

/* <x, y>; where one of them is 0 nothing is added, whatever the other is. */
static double S(row_dot)(int64_t n, const T *x, int64_t sx, const T *y, int64_t sy) {
    double lane[S(LANES)] = {0}, total = 0;
    int64_t i = 0;
    if (sx == 1 && sy == 1)
        for (; i + S(LANES) <= n; i += S(LANES))
            for (int k = 0; k < S(LANES); k++) {
                const T a = x[i + k], b = y[i + k];
                const double product = (double)a * (double)b;
                lane[k] += ((a == 0) | (b == 0)) ? 0 : product;
            }
    for (int k = 0; i < n; i++, k = (k + 1) % S(LANES)) {
        const T a = x[i * sx], b = y[i * sy];
        if (a != 0 && b != 0) lane[k] += (double)a * (double)b;
    }
    for (int k = 0; k < S(LANES); k++) total += lane[k];
    return total;
}

/* y = exp(x - m), and their sum. */
static double S(row_exp)(int64_t n, const T *restrict x, int64_t sx, T m, T *restrict y, int64_t sy) {
    if (sx == 1 && sy == 1) {
        for (int64_t i = 0; i < n; i++) y[i] = AD_EXP(x[i] - m);
    } else {
        for (int64_t i = 0; i < n; i++) y[i * sy] = AD_EXP(x[i * sx] - m);
    }
    return S(row_sum)(n, y, sy);
}

static void S(row_scale)(int64_t n, T factor, T *y, int64_t sy) {
    if (sy == 1) {
        for (int64_t i = 0; i < n; i++) y[i] *= factor;
    } else {
        for (int64_t i = 0; i < n; i++) y[i * sy] *= factor;
    }
}

static void S(row_fill)(int64_t n, T value, T *y, int64_t sy) {
    for (int64_t i = 0; i < n; i++) y[i * sy] = value;
}

/* The largest of all -inf is -inf, and so is that of NaN alone: then the row must show the NaN. */
static bool S(has_mass)(int64_t n, const T *x, int64_t sx, T most) {
    bool none = most == -(T)INFINITY;
    for (int64_t i = 0; i < n && none; i++) none = x[i * sx] == -(T)INFINITY;
    return !none;
}

static void S(softmax_row)(int64_t n, const T *x, int64_t sx, T *y, int64_t sy) {
    const T m = S(row_max)(n, x, sx);
    if (!S(has_mass)(n, x, sx, m)) {
        S(row_fill)(n, 0, y, sy);
        return;
    }
    S(row_scale)(n, (T)(1 / S(row_exp)(n, x, sx, m, y, sy)), y, sy);
}

static void S(log_softmax_row)(int64_t n, const T *x, int64_t sx, T *y, int64_t sy) {
    const T m = S(row_max)(n, x, sx);
    if (!S(has_mass)(n, x, sx, m)) {
        S(row_fill)(n, -(T)INFINITY, y, sy);
        return;
    }
    const T log_sum = (T)log(S(row_exp)(n, x, sx, m, y, sy));
    if (sx == 1 && sy == 1)
        for (int64_t i = 0; i < n; i++) y[i] = x[i] - m - log_sum;
    else
        for (int64_t i = 0; i < n; i++) y[i * sy] = x[i * sx] - m - log_sum;
}

/* The rest of the next two functions for neighbours, as loops that become vector code. */
static inline T S(softmax_bar)(T g, T y, T mean) {
    const T above = g - mean, product = y * above;
    return ((y == 0) | (above == 0)) ? 0 : product;
}
static void S(softmax_back_neighbours)(int64_t n, const T *restrict g, const T *restrict y, T mean, T *restrict x_bar,
                                       bool add) {
    if (add)
        for (int64_t i = 0; i < n; i++) x_bar[i] += S(softmax_bar)(g[i], y[i], mean);
    else
        for (int64_t i = 0; i < n; i++) x_bar[i] = S(softmax_bar)(g[i], y[i], mean);
}
static void S(log_softmax_back_neighbours)(int64_t n, const T *restrict g, const T *restrict y, T sum,
                                           T *restrict x_bar, bool add) {
    if (add)
        for (int64_t i = 0; i < n; i++) x_bar[i] += g[i] - AD_EXP(y[i]) * sum;
    else
        for (int64_t i = 0; i < n; i++) x_bar[i] = g[i] - AD_EXP(y[i]) * sum;
}

/* x_bar (+)= y (g - <g, y>); where y or g - <g, y> is 0 nothing passes, whatever the other is. */
static void S(softmax_back_row)(int64_t n, const T *g, int64_t sg, const T *y, int64_t sy, T *x_bar, int64_t so,
                                bool add) {
    const T mean = (T)S(row_dot)(n, g, sg, y, sy);
    if (sg == 1 && sy == 1 && so == 1) {
        S(softmax_back_neighbours)(n, g, y, mean, x_bar, add);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const T bar = S(softmax_bar)(g[i * sg], y[i * sy], mean);
        x_bar[i * so] = add ? x_bar[i * so] + bar : bar;
    }
}

/* x_bar (+)= g - exp(y) sum(g), where a sum of 0 stays 0 whatever y is; nothing passes in a row without mass. */
static void S(log_softmax_back_row)(int64_t n, const T *g, int64_t sg, const T *y, int64_t sy, T *x_bar, int64_t so,
                                    bool add) {
    const bool mass = S(has_mass)(n, y, sy, S(row_max)(n, y, sy));
    const T sum = (T)S(row_sum)(n, g, sg);
    if (mass && sum != 0 && sg == 1 && sy == 1 && so == 1) {
        S(log_softmax_back_neighbours)(n, g, y, sum, x_bar, add);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const T bar = mass ? g[i * sg] - (sum == 0 ? 0 : AD_EXP(y[i * sy]) * sum) : 0;
        x_bar[i * so] = add ? x_bar[i * so] + bar : bar;
    }
}

/* p = softmax(x); returns m + log s apart, as the two numbers that a loss subtracts x from: m and log s. */
static T S(xent_start)(int64_t n, const T *x, int64_t sx, T *p, T *log_sum) {
    const T m = S(row_max)(n, x, sx);
    if (!S(has_mass)(n, x, sx, m)) {
        S(row_fill)(n, 0, p, 1);
        *log_sum = 0;
        return 0;
    }
    const double sum = S(row_exp)(n, x, sx, m, p, 1);
    S(row_scale)(n, (T)(1 / sum), p, 1);
    *log_sum = (T)log(sum);
    return m;
}

static T S(xent_row)(int64_t n, const T *x, int64_t sx, int64_t target, T *p) {
    T log_sum;
    const T m = S(xent_start)(n, x, sx, p, &log_sum);
    return log_sum - (x[target * sx] - m);
}

static T S(xent_soft_row)(int64_t n, const T *x, int64_t sx, const T *t, int64_t st, T *p) {
    T log_sum;
    const T m = S(xent_start)(n, x, sx, p, &log_sum);
    double loss = 0;
    for (int64_t i = 0; i < n; i++)
        if (t[i * st] != 0) loss += (double)t[i * st] * (double)(log_sum - (x[i * sx] - m));
    return (T)loss;
}

/* x_bar (+)= g (p - onehot(target)); nothing where g is 0. */
static void S(xent_back_row)(int64_t n, T g, const T *restrict p, int64_t target, T *restrict x_bar, bool add) {
    if (g == 0) {
        if (!add) S(row_fill)(n, 0, x_bar, 1);
        return;
    }
    const T at_target = (add ? x_bar[target] : 0) + g * (p[target] - (T)1);
    if (add)
        for (int64_t i = 0; i < n; i++) x_bar[i] += g * p[i];
    else
        for (int64_t i = 0; i < n; i++) x_bar[i] = g * p[i];
    x_bar[target] = at_target;
}

/* x_bar (+)= g (p sum(t) - t) */
static void S(xent_soft_back_row)(int64_t n, T g, const T *restrict p, const T *t, int64_t st, T *restrict x_bar,
                                  bool add) {
    if (g == 0) {
        if (!add) S(row_fill)(n, 0, x_bar, 1);
        return;
    }
    const T mass = (T)S(row_sum)(n, t, st);
    for (int64_t i = 0; i < n; i++) {
        const T bar = g * (p[i] * mass - t[i * st]);
        x_bar[i] = add ? x_bar[i] + bar : bar;
    }
}
