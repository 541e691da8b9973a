/* Blocks of attention's scores, for one type: T, and S(name) to name them. Sums run in lanes whose order does not depend on
 * the machine. */

enum { S(LANES) = 16 };

/* The scores of row i, in place; returns how many columns it sees. */
static int64_t S(score_row)(const ad_scores *b, int64_t i, T *restrict x) {
    const int64_t seen = seen_by(b, i);
    const T scale = (T)b->scale;
    if (!b->mask.data) {
        for (int64_t j = 0; j < seen; j++) x[j] *= scale;
        return seen;
    }
    const T *mask = (const T *)b->mask.data + i * b->mask.stride[0];
    const int64_t step = b->mask.stride[1];
    for (int64_t j = 0; j < seen; j++) x[j] = x[j] * scale + mask[j * step];
    return seen;
}

/* NaN if there is one; -inf of nothing. */
static T S(largest_of)(const T *x, int64_t n) {
    T lane[S(LANES)], most;
    int64_t i = 0;
    for (int k = 0; k < S(LANES); k++) lane[k] = -(T)INFINITY;
    for (; i + S(LANES) <= n; i += S(LANES))
        for (int k = 0; k < S(LANES); k++) lane[k] = x[i + k] > lane[k] || x[i + k] != x[i + k] ? x[i + k] : lane[k];
    for (int k = 0; i < n; i++, k++) lane[k] = x[i] > lane[k] || x[i] != x[i] ? x[i] : lane[k];
    most = lane[0];
    for (int k = 1; k < S(LANES); k++) most = lane[k] > most || lane[k] != lane[k] ? lane[k] : most;
    return most;
}

/* x = exp(x - shift) where row i sees a column, else 0. */
static void S(exp_row)(const ad_scores *b, T *restrict x, int64_t seen, T shift) {
    for (int64_t j = 0; j < seen; j++) x[j] = AD_EXP(x[j] - shift);
    for (int64_t j = seen; j < b->columns; j++) x[j] = 0;
}

static double S(sum_of)(const T *x, int64_t n) {
    T lane[S(LANES)] = {0};
    double sum = 0;
    int64_t i = 0;
    for (; i + S(LANES) <= n; i += S(LANES))
        for (int k = 0; k < S(LANES); k++) lane[k] += x[i + k];
    for (int k = 0; i < n; i++, k++) lane[k] += x[i];
    for (int k = 0; k < S(LANES); k++) sum += (double)lane[k];
    return sum;
}

static void S(attend)(const ad_scores *b, double *largest, double *sum, double *factor) {
    T *x = b->x;
    for (int64_t i = 0; i < b->rows; i++, x += b->columns) {
        const int64_t seen = S(score_row)(b, i, x);
        const double most = (double)S(largest_of)(x, seen);
        factor[i] = 1;
        if (!(most <= largest[i])) {
            factor[i] = exp(largest[i] - most);
            largest[i] = most;
        }
        S(exp_row)(b, x, seen, largest[i] == -INFINITY ? 0 : (T)largest[i]);
        sum[i] = sum[i] * factor[i] + S(sum_of)(x, seen);
    }
}

static void S(attend_again)(const ad_scores *b, const double *logs) {
    T *x = b->x;
    for (int64_t i = 0; i < b->rows; i++, x += b->columns) {
        const int64_t seen = S(score_row)(b, i, x);
        S(exp_row)(b, x, seen, logs[i] == -INFINITY ? 0 : (T)logs[i]);
    }
}

static void S(attend_back)(const ad_scores *b, const double *less, void *p_bar, void *scaled) {
    const T *p = b->x, scale = (T)b->scale;
    T *restrict bar = p_bar, *restrict times = scaled;
    for (int64_t i = 0; i < b->rows; i++, p += b->columns, bar += b->columns, times += b->columns) {
        const T mean = (T)less[i];
        for (int64_t j = 0; j < b->columns; j++) {
            bar[j] = p[j] == 0 ? 0 : p[j] * (bar[j] - mean);
            times[j] = bar[j] * scale;
        }
    }
}

static void S(scale_rows)(int64_t rows, int64_t columns, const double *factor, T *x) {
    for (int64_t i = 0; i < rows; i++, x += columns) {
        const T c = (T)factor[i];
        for (int64_t j = 0; j < columns; j++) x[j] *= c;
    }
}
