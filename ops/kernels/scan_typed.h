/* Scans of a block of lines, for one type: T, and S(name) to name them. They compute in double. */

static void S(cumsum)(const ad_lines *lines, const void *options) {
    double sum[AD_LINES_WIDE] = {0};
    (void)options;
    for (int64_t i = 0; i < lines->n; i++)
        for (int64_t k = 0; k < lines->width; k++) *AD_LINE(T, 1) = (T)(sum[k] += (double)*AD_LINE(const T, 0));
}

static void S(cumprod)(const ad_lines *lines, const void *options) {
    double product[AD_LINES_WIDE];
    (void)options;
    for (int64_t k = 0; k < lines->width; k++) product[k] = 1;
    for (int64_t i = 0; i < lines->n; i++)
        for (int64_t k = 0; k < lines->width; k++) *AD_LINE(T, 1) = (T)(product[k] *= (double)*AD_LINE(const T, 0));
}

/* log of the sum so far = most + log(sum), most being the largest exponent so far. */
static void S(logcumsumexp)(const ad_lines *lines, const void *options) {
    double most[AD_LINES_WIDE], sum[AD_LINES_WIDE] = {0};
    (void)options;
    for (int64_t k = 0; k < lines->width; k++) most[k] = -INFINITY;
    for (int64_t i = 0; i < lines->n; i++) {
        for (int64_t k = 0; k < lines->width; k++) {
            const double x = (double)*AD_LINE(const T, 0);
            if (x > most[k]) {
                sum[k] = sum[k] * exp(most[k] - x) + 1;
                most[k] = x;
            } else if (x == most[k]) {
                sum[k] += isfinite(x) ? 1 : 0; /* an infinity less itself is no number */
            } else {
                sum[k] += exp(x - most[k]);
            }
            *AD_LINE(T, 1) = (T)(most[k] + log(sum[k]));
        }
    }
}

/* Only what is better takes the place of the best, or the first NaN. options: 1 for the largest, -1 for the smallest. */
static bool S(is_better)(T sign, T x, T best) { return best == best && (sign * x > sign * best || x != x); }

/* Arrays: x, y, index. */
static void S(cumulative_extremum)(const ad_lines *lines, const void *options) {
    const T sign = (T) * (const int *)options;
    T best[AD_LINES_WIDE];
    int64_t at[AD_LINES_WIDE];
    for (int64_t i = 0; i < lines->n; i++) {
        for (int64_t k = 0; k < lines->width; k++) {
            const T x = *AD_LINE(const T, 0);
            if (i == 0 || S(is_better)(sign, x, best[k])) best[k] = x, at[k] = lines->first + i * lines->step;
            *AD_LINE(T, 1) = best[k];
            *AD_LINE(int64_t, 2) = at[k];
        }
    }
}

/* Arrays: x, index, and perhaps the value. */
static void S(extremum)(const ad_lines *lines, const void *options) {
    const T sign = (T) * (const int *)options;
    T best[AD_LINES_WIDE];
    int64_t at[AD_LINES_WIDE];
    for (int64_t i = 0; i < lines->n; i++) {
        for (int64_t k = 0; k < lines->width; k++) {
            const T x = *AD_LINE(const T, 0);
            if (i == 0 || S(is_better)(sign, x, best[k])) best[k] = x, at[k] = i;
        }
    }
    for (int64_t i = 0, k = 0; k < lines->width; k++) {
        *AD_LINE(int64_t, 1) = at[k];
        if (lines->arrays > 2) *AD_LINE(T, 2) = best[k];
    }
}

/* Arrays: a, b, y. options: y_0. A factor of 0 gives 0, whatever the other is. */
static void S(recurrence)(const ad_lines *lines, const void *options) {
    double state[AD_LINES_WIDE];
    for (int64_t k = 0; k < lines->width; k++) state[k] = *(const double *)options;
    for (int64_t i = 0; i < lines->n; i++) {
        for (int64_t k = 0; k < lines->width; k++) {
            const double a = (double)*AD_LINE(const T, 0);
            *AD_LINE(T, 2) = (T)state[k];
            state[k] = (double)*AD_LINE(const T, 1) + (a == 0 || state[k] == 0 ? 0 : a * state[k]);
        }
    }
}
