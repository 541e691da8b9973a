/* The inner loops of the elementwise kernels for one type: T, and S(name) to name them. Strides are in elements. */

#define X(name, value, x_bar, ...)                                                                                   \
    static void S(name)(int64_t n, const T *restrict px, int64_t sx, T *restrict py, int64_t sy, const double *c) { \
        (void)c;                                                                                                     \
        if (sx == 1 && sy == 1) {                                                                                    \
            for (int64_t i = 0; i < n; i++) {                                                                        \
                const T x = px[i];                                                                                   \
                py[i] = value;                                                                                       \
            }                                                                                                        \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) {                                                                        \
                const T x = px[i * sx];                                                                              \
                py[i * sy] = value;                                                                                  \
            }                                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
    static inline T S(name##_bar)(T g, T x, T y, const double *c) {                                                  \
        (void)x, (void)y, (void)c;                                                                                   \
        const T bar = x_bar;                                                                                         \
        return g == (T)0 ? (T)0 : bar;                                                                               \
    }                                                                                                                \
    static void S(name##_back)(int64_t n, const T *restrict g, int64_t sg, const T *restrict x, int64_t sx,          \
                               const T *restrict y, int64_t sy, T *restrict out, int64_t so, bool add,               \
                               const double *c) {                                                                    \
        if (sg == 1 && sx == 1 && sy == 1 && so == 1) {                                                              \
            if (add)                                                                                                 \
                for (int64_t i = 0; i < n; i++) out[i] += S(name##_bar)(g[i], x[i], y[i], c);                        \
            else                                                                                                     \
                for (int64_t i = 0; i < n; i++) out[i] = S(name##_bar)(g[i], x[i], y[i], c);                         \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) {                                                                        \
                const T bar = S(name##_bar)(g[i * sg], x[i * sx], y[i * sy], c);                                     \
                out[i * so] = add ? out[i * so] + bar : bar;                                                         \
            }                                                                                                        \
        }                                                                                                            \
    }
AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X)
#undef X

#define X(name, value, a_bar, b_bar, ...)                                                                            \
    static inline T S(name##_value)(T a, T b) { return value; }                                                      \
    static void S(name)(int64_t n, const T *restrict pa, int64_t sa, const T *restrict pb, int64_t sb,               \
                        T *restrict py, int64_t sy) {                                                                \
        if (sa == 1 && sb == 1 && sy == 1) {                                                                         \
            for (int64_t i = 0; i < n; i++) py[i] = S(name##_value)(pa[i], pb[i]);                                   \
        } else if (sa == 0 && sb == 1 && sy == 1) {                                                                  \
            const T a = pa[0];                                                                                       \
            for (int64_t i = 0; i < n; i++) py[i] = S(name##_value)(a, pb[i]);                                       \
        } else if (sa == 1 && sb == 0 && sy == 1) {                                                                  \
            const T b = pb[0];                                                                                       \
            for (int64_t i = 0; i < n; i++) py[i] = S(name##_value)(pa[i], b);                                       \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) py[i * sy] = S(name##_value)(pa[i * sa], pb[i * sb]);                    \
        }                                                                                                            \
    }                                                                                                                \
    static inline T S(name##_bars)(int which, T g, T a, T b, T y) {                                                  \
        (void)a, (void)b, (void)y;                                                                                   \
        const T bar = which == 0 ? (a_bar) : (b_bar);                                                                \
        return g == (T)0 ? (T)0 : bar;                                                                               \
    }                                                                                                                \
    static inline void S(name##_back_to)(int which, int64_t n, const T *restrict g, int64_t sg,                      \
                                         const T *restrict a, int64_t sa, const T *restrict b, int64_t sb,           \
                                         const T *restrict y, int64_t sy, T *restrict out, int64_t so, bool add) {   \
        if (sg == 1 && sa == 1 && sb == 1 && sy == 1 && so == 1) {                                                   \
            if (add)                                                                                                 \
                for (int64_t i = 0; i < n; i++) out[i] += S(name##_bars)(which, g[i], a[i], b[i], y[i]);             \
            else                                                                                                     \
                for (int64_t i = 0; i < n; i++) out[i] = S(name##_bars)(which, g[i], a[i], b[i], y[i]);              \
        } else {                                                                                                     \
            for (int64_t i = 0; i < n; i++) {                                                                        \
                const T bar = S(name##_bars)(which, g[i * sg], a[i * sa], b[i * sb], y[i * sy]);                     \
                out[i * so] = add ? out[i * so] + bar : bar;                                                         \
            }                                                                                                        \
        }                                                                                                            \
    }                                                                                                                \
    static void S(name##_back)(int which, int64_t n, const T *g, int64_t sg, const T *a, int64_t sa, const T *b,     \
                               int64_t sb, const T *y, int64_t sy, T *out, int64_t so, bool add) {                   \
        if (which == 0)                                                                                              \
            S(name##_back_to)(0, n, g, sg, a, sa, b, sb, y, sy, out, so, add);                                       \
        else                                                                                                         \
            S(name##_back_to)(1, n, g, sg, a, sa, b, sb, y, sy, out, so, add);                                       \
    }
AD_BINARY_ROWS(X)
#undef X

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

static void S(rows_unary)(ad_unary op, ad_walk w, const double *c) {
    static void (*const loop[])(int64_t, const T *, int64_t, T *, int64_t, const double *) = {
#define X(name, ...) [AD_UNARY_##name] = S(name),
        AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X)
#undef X
    };
    for (; w.more; ad_walk_next(&w))
        loop[op](w.n, (const T *)(void *)w.at[0], w.inner[0], (T *)(void *)w.at[1], w.inner[1], c);
}

static void S(rows_unary_back)(ad_unary op, ad_walk w, bool add, const double *c) {
    static void (*const loop[])(int64_t, const T *, int64_t, const T *, int64_t, const T *, int64_t, T *, int64_t,
                                bool, const double *) = {
#define X(name, ...) [AD_UNARY_##name] = S(name##_back),
        AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X)
#undef X
    };
    for (; w.more; ad_walk_next(&w))
        loop[op](w.n, (const T *)(void *)w.at[0], w.inner[0], (const T *)(void *)w.at[1], w.inner[1],
                 (const T *)(void *)w.at[2], w.inner[2], (T *)(void *)w.at[3], w.inner[3], add, c);
}

static void S(rows_binary)(ad_binary op, ad_walk w) {
    static void (*const loop[])(int64_t, const T *, int64_t, const T *, int64_t, T *, int64_t) = {
#define X(name, ...) [AD_BINARY_##name] = S(name),
        AD_BINARY_ROWS(X)
#undef X
    };
    for (; w.more; ad_walk_next(&w))
        loop[op](w.n, (const T *)(void *)w.at[0], w.inner[0], (const T *)(void *)w.at[1], w.inner[1],
                 (T *)(void *)w.at[2], w.inner[2]);
}

static void S(rows_binary_back)(ad_binary op, int which, ad_walk w, bool add) {
    static void (*const loop[])(int, int64_t, const T *, int64_t, const T *, int64_t, const T *, int64_t, const T *,
                                int64_t, T *, int64_t, bool) = {
#define X(name, ...) [AD_BINARY_##name] = S(name##_back),
        AD_BINARY_ROWS(X)
#undef X
    };
    for (; w.more; ad_walk_next(&w))
        loop[op](which, w.n, (const T *)(void *)w.at[0], w.inner[0], (const T *)(void *)w.at[1], w.inner[1],
                 (const T *)(void *)w.at[2], w.inner[2], (const T *)(void *)w.at[3], w.inner[3],
                 (T *)(void *)w.at[4], w.inner[4], add);
}

static void S(rows_copy)(ad_walk w, double scale, bool add) {
    for (; w.more; ad_walk_next(&w))
        S(copy)(w.n, (const T *)(void *)w.at[0], w.inner[0], (T *)(void *)w.at[1], w.inner[1], (T)scale, add);
}
