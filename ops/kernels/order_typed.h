/* Order statistics of one line, for one type: T, KEY the unsigned integer of its size, and S(name) to name them. */

/* Keys are in the order of the numbers; both zeros have one key. */
static KEY S(key)(T x) {
    const KEY top = (KEY)1 << (8 * sizeof(KEY) - 1);
    KEY bits;
    x += 0;
    memcpy(&bits, &x, sizeof bits);
    return bits & top ? ~bits : bits | top;
}

/* The first of those elements that are equal to number `rank` in ascending order (a radix search, four bits at a time:
 * no scratch memory, and as fast on every input). */
static int64_t S(element_of_rank)(int64_t n, const T *x, int64_t stride, int64_t rank) {
    enum { DIGIT = 4, DIGITS = 1 << DIGIT };
    KEY found = 0, known = 0;
    for (int shift = 8 * (int)sizeof(KEY) - DIGIT; shift >= 0; shift -= DIGIT) {
        int64_t count[DIGITS] = {0};
        for (int64_t i = 0; i < n; i++) {
            const KEY key = S(key)(x[i * stride]);
            if ((key & known) == found) count[key >> shift & (DIGITS - 1)]++;
        }
        int digit = 0;
        while (rank >= count[digit]) rank -= count[digit++];
        found |= (KEY)digit << shift;
        known |= (KEY)(DIGITS - 1) << shift;
    }
    int64_t i = 0;
    while (S(key)(x[i * stride]) != found) i++;
    return i;
}

static int64_t S(first_nan)(int64_t n, const T *x, int64_t stride) {
    for (int64_t i = 0; i < n; i++)
        if (x[i * stride] != x[i * stride]) return i;
    return -1;
}

/* From a to b, without a - a where both are infinite. */
static T S(between)(T a, T b, double weight) {
    return a == b || weight == 0 ? a : (T)((1 - weight) * (double)a + weight * (double)b);
}

/* Arrays: x, y, lower, upper. options: the position, from 0 to n - 1. */
static void S(quantile)(const ad_lines *lines, const void *options) {
    const double position = *(const double *)options, weight = position - floor(position);
    for (int64_t i = 0, k = 0; k < lines->width; k++) {
        const T *x = AD_LINE(const T, 0);
        const int64_t stride = lines->along[0];
        int64_t lower = S(first_nan)(lines->n, x, stride), upper = lower;
        if (lower < 0) {
            lower = upper = S(element_of_rank)(lines->n, x, stride, (int64_t)position);
            if (weight > 0) upper = S(element_of_rank)(lines->n, x, stride, (int64_t)position + 1);
        }
        *AD_LINE(T, 1) = S(between)(x[lower * stride], x[upper * stride], weight);
        *AD_LINE(int64_t, 2) = lower;
        *AD_LINE(int64_t, 3) = upper;
    }
}
