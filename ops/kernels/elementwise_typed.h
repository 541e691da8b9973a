/* The elementwise kernels for one type: T, and S(name) to name them.
 *
 * A row becomes one loop for its value and one for each derivative, over contiguous memory alone, which is what compilers
 * turn into vector code. Operands of any other stride, and results that are added to, pass through a block on the stack:
 * a loop of its own for each case would be ten times the code. */

/* n elements from p on with stride s, contiguous: where they are, or in `block`. */
static inline const T *S(gathered)(const T *p, int64_t s, int64_t n, T *block) {
    if (s == 1) return p;
    if (s == 0) {
        for (int64_t i = 0; i < n; i++) block[i] = p[0];
    } else {
        for (int64_t i = 0; i < n; i++) block[i] = p[i * s];
    }
    return block;
}

/* Where to compute n results that go to p with stride s. */
static inline T *S(target)(T *p, int64_t s, bool add, T *block) { return s == 1 && !add ? p : block; }

/* Takes them from there. */
static inline void S(scattered)(T *p, int64_t s, int64_t n, bool add, const T *from) {
    if (from == p) return;
    if (s == 1 && add) {
        for (int64_t i = 0; i < n; i++) p[i] += from[i];
    } else if (add) {
        for (int64_t i = 0; i < n; i++) p[i * s] += from[i];
    } else {
        for (int64_t i = 0; i < n; i++) p[i * s] = from[i];
    }
}

static inline void S(take)(int64_t n, const T *from, T *group) {
    take_few(n * (int64_t)sizeof(T) / 4, AD_GROUP * sizeof(T) / 4, from, group);
}
static inline void S(put)(int64_t n, const T *group, T *to) { put_few(n * (int64_t)sizeof(T) / 4, group, to); }

/* How many of n elements a row's loop does: whole groups, so that vectors need no other code for what is left; or all, where
 * that code is short, or there are no vectors because the C library computes them. */
static inline int64_t S(whole_of_unary)(ad_unary op, int64_t n) {
    switch (op) {
    case AD_UNARY_neg:
    case AD_UNARY_abs:
    case AD_UNARY_square:
    case AD_UNARY_scale:
    case AD_UNARY_relu:
    case AD_UNARY_power:
    case AD_UNARY_sinc:
    case AD_UNARY_erfinv:
    case AD_UNARY_lgamma:
    case AD_UNARY_digamma:
    case AD_UNARY_trigamma:
    case AD_UNARY_polygamma: return n;
    case AD_UNARY_cbrt:
    case AD_UNARY_logit:
    case AD_UNARY_tan:
    case AD_UNARY_asin:
    case AD_UNARY_acos:
    case AD_UNARY_atan:
    case AD_UNARY_sinh:
    case AD_UNARY_cosh:
    case AD_UNARY_asinh:
    case AD_UNARY_acosh:
    case AD_UNARY_atanh: return sizeof(T) == sizeof(double) ? n : n & -AD_GROUP;
    default: return n & -AD_GROUP;
    }
}
static inline int64_t S(whole_of_binary)(ad_binary op, int64_t n) {
    switch (op) {
    case AD_BINARY_add:
    case AD_BINARY_sub:
    case AD_BINARY_mul:
    case AD_BINARY_div:
    case AD_BINARY_hypot:
    case AD_BINARY_fmod:
    case AD_BINARY_remainder: return n;
    case AD_BINARY_pow:
    case AD_BINARY_atan2: return sizeof(T) == sizeof(double) ? n : n & -AD_GROUP;
    default: return n & -AD_GROUP;
    }
}

/* How many elements to do at once: all where nothing passes through a block. */
static inline int64_t S(step)(const ad_walk *w, bool add) {
    for (int k = 0; k < w->arrays; k++)
        if (w->inner[k] != 1) return AD_BLOCK;
    return add ? AD_BLOCK : w->n;
}

#define FOR_BLOCKS(w, add)                                                                                           \
    for (; w->more; ad_walk_next(w))                                                                                 \
        for (int64_t first = 0, step = S(step)(w, add), n; first < w->n; first += step)                              \
            if (n = w->n - first < step ? w->n - first : step, n > 0)
#define OPERAND(k)      ((T *)(void *)w->at[k] + first * w->inner[k])
#define GATHERED(k, to) S(gathered)(OPERAND(k), w->inner[k], n, to)

/* ---- one input -------------------------------------------------------------------------------------------------- */

/* The constants are copied first: a load that only some elements need would keep the loop from becoming vector code. */
#define NO_CONSTANTS                                                                                                 \
    { 0, 0 }
#define ONE_CONSTANT                                                                                                 \
    { constants[0], 0 }
#define TWO_CONSTANTS                                                                                                \
    { constants[0], constants[1] }

/* Where some elements were too far out for circular.h, those are computed again, by the C library. */
#define VALUE_LOOP(name, value, ...)                                                                                 \
    static void S(name)(int64_t n, const T *restrict px, T *restrict py, const double *constants) {                  \
        const int64_t whole = S(whole_of_unary)(AD_UNARY_##name, n);                                                 \
        const double c[2] = __VA_ARGS__;                                                                             \
        int far = 0;                                                                                                 \
        (void)constants, (void)c;                                                                                    \
        for (int64_t i = 0; i < whole; i++) {                                                                        \
            const bool exact = false;                                                                                \
            const T x = px[i];                                                                                       \
            (void)exact;                                                                                             \
            py[i] = (T)(value);                                                                                      \
        }                                                                                                            \
        if (far) {                                                                                                   \
            for (int64_t i = 0; i < whole; i++) {                                                                    \
                const bool exact = true;                                                                             \
                const T x = px[i];                                                                                   \
                (void)exact;                                                                                         \
                if (AD_IS_FAR(x)) py[i] = (T)(value);                                                                \
            }                                                                                                        \
        }                                                                                                            \
    }
#define BAR_LOOP(name, x_bar, ...)                                                                                   \
    static void S(name##_back)(int64_t n, const T *restrict pg, const T *restrict px, const T *restrict py,          \
                               T *restrict out, const double *constants) {                                           \
        const int64_t whole = S(whole_of_unary)(AD_UNARY_##name, n);                                                 \
        const double c[2] = __VA_ARGS__;                                                                             \
        int far = 0;                                                                                                 \
        (void)px, (void)py, (void)constants, (void)c;                                                                \
        for (int64_t i = 0; i < whole; i++) {                                                                        \
            const bool exact = false;                                                                                \
            const T g = pg[i], x = px[i], y = py[i], bar = (T)(x_bar);                                               \
            (void)x, (void)y, (void)exact;                                                                           \
            out[i] = g == (T)0 ? (T)0 : bar;                                                                         \
        }                                                                                                            \
        if (far) {                                                                                                   \
            for (int64_t i = 0; i < whole; i++) {                                                                    \
                const bool exact = true;                                                                             \
                const T g = pg[i], x = px[i], y = py[i];                                                             \
                (void)x, (void)y, (void)exact;                                                                       \
                if (g != (T)0 && AD_IS_FAR(x)) out[i] = (T)(x_bar);                                                  \
            }                                                                                                        \
        }                                                                                                            \
    }

#define X(name, value, formula) VALUE_LOOP(name, value, NO_CONSTANTS)
AD_STEP_ROWS(X)
#undef X
#define X(name, value, x_bar, ...) VALUE_LOOP(name, value, NO_CONSTANTS) BAR_LOOP(name, x_bar, NO_CONSTANTS)
AD_UNARY_ROWS(X)
#undef X
#define X(name, value, x_bar, ...) VALUE_LOOP(name, value, ONE_CONSTANT) BAR_LOOP(name, x_bar, ONE_CONSTANT)
AD_UNARY_CONSTANT_ROWS(X)
#undef X
#define X(name, value, x_bar, ...) VALUE_LOOP(name, value, TWO_CONSTANTS) BAR_LOOP(name, x_bar, TWO_CONSTANTS)
AD_UNARY_BOUNDS_ROWS(X)
#undef X
#undef VALUE_LOOP
#undef BAR_LOOP
#undef NO_CONSTANTS
#undef ONE_CONSTANT
#undef TWO_CONSTANTS

static void (*const S(unary_loop)[])(int64_t, const T *, T *, const double *) = {
#define X(name, ...) [AD_UNARY_##name] = S(name),
    AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X) AD_UNARY_BOUNDS_ROWS(X) AD_STEP_ROWS(X)
#undef X
};
static void (*const S(unary_back_loop)[])(int64_t, const T *, const T *, const T *, T *, const double *) = {
#define X(name, ...) [AD_UNARY_##name] = S(name##_back),
    AD_UNARY_ROWS(X) AD_UNARY_CONSTANT_ROWS(X) AD_UNARY_BOUNDS_ROWS(X)
#undef X
};

/* n is not whole groups. What is left is done with the end of the group before it, or if there is none in groups on the
 * stack. */
OUTLINE void S(unary_in_groups)(ad_unary op, int64_t n, const T *x, T *y, const double *c) {
    const int64_t last = n - AD_GROUP;
    if (last > 0) {
        S(unary_loop)[op](n, x, y, c);
        S(unary_loop)[op](AD_GROUP, x + last, y + last, c);
    } else {
        T few[2][AD_GROUP];
        S(take)(n, x, few[0]);
        S(unary_loop)[op](AD_GROUP, few[0], few[1], c);
        S(put)(n, few[1], y);
    }
}
OUTLINE void S(unary_back_in_groups)(ad_unary op, int64_t n, const T *g, const T *x, const T *y, T *x_bar,
                                            const double *c) {
    const int64_t last = n - AD_GROUP;
    if (last > 0) {
        S(unary_back_loop)[op](n, g, x, y, x_bar, c);
        S(unary_back_loop)[op](AD_GROUP, g + last, x + last, y + last, x_bar + last, c);
    } else {
        T few[4][AD_GROUP];
        S(take)(n, g, few[0]);
        S(take)(n, x, few[1]);
        S(take)(n, y, few[2]);
        S(unary_back_loop)[op](AD_GROUP, few[0], few[1], few[2], few[3], c);
        S(put)(n, few[3], x_bar);
    }
}

static inline void S(run_unary)(ad_unary op, int64_t n, const T *x, T *y, const double *c) {
    if (S(whole_of_unary)(op, n) == n)
        S(unary_loop)[op](n, x, y, c);
    else
        S(unary_in_groups)(op, n, x, y, c);
}
static inline void S(run_unary_back)(ad_unary op, int64_t n, const T *g, const T *x, const T *y, T *x_bar,
                                     const double *c) {
    if (S(whole_of_unary)(op, n) == n)
        S(unary_back_loop)[op](n, g, x, y, x_bar, c);
    else
        S(unary_back_in_groups)(op, n, g, x, y, x_bar, c);
}

static void S(rows_unary)(ad_unary op, ad_walk *w, const double *c) {
    T x_block[AD_BLOCK], y_block[AD_BLOCK];
    FOR_BLOCKS(w, false) {
        T *to = S(target)(OPERAND(1), w->inner[1], false, y_block);
        S(run_unary)(op, n, GATHERED(0, x_block), to, c);
        S(scattered)(OPERAND(1), w->inner[1], n, false, to);
    }
}

/* n neighbours: x_bar (+)= their contributions. */
static void S(flat_unary_back)(ad_unary op, int64_t n, const T *g, const T *x, const T *y, T *x_bar, bool add,
                               const double *c) {
    if (!add) {
        S(run_unary_back)(op, n, g, x, y, x_bar, c);
        return;
    }
    T block[AD_BLOCK];
    for (int64_t i = 0; i < n; i += AD_BLOCK) {
        const int64_t some = n - i < AD_BLOCK ? n - i : AD_BLOCK;
        S(run_unary_back)(op, some, g + i, x + i, y + i, block, c);
        S(scattered)(x_bar + i, 1, some, true, block);
    }
}

/* g, x, y and x_bar */
static void S(rows_unary_back)(ad_unary op, ad_walk *w, bool add, const double *c) {
    T block[4][AD_BLOCK];
    FOR_BLOCKS(w, add) {
        T *to = S(target)(OPERAND(3), w->inner[3], add, block[3]);
        S(run_unary_back)(op, n, GATHERED(0, block[0]), GATHERED(1, block[1]), GATHERED(2, block[2]), to, c);
        S(scattered)(OPERAND(3), w->inner[3], n, add, to);
    }
}

/* ---- two inputs --------------------------------------------------------------------------------------------------- */

#define BARS_LOOP(row, name, contribution)                                                                           \
    static void S(name)(int64_t n, const T *restrict pg, const T *restrict pa, const T *restrict pb,                 \
                        const T *restrict py, T *restrict out) {                                                     \
        const int64_t whole = S(whole_of_binary)(AD_BINARY_##row, n);                                                \
        (void)pa, (void)pb, (void)py;                                                                                \
        for (int64_t i = 0; i < whole; i++) {                                                                        \
            const T g = pg[i], a = pa[i], b = pb[i], y = py[i], bar = (T)(contribution);                             \
            (void)a, (void)b, (void)y;                                                                               \
            out[i] = g == (T)0 ? (T)0 : bar;                                                                         \
        }                                                                                                            \
    }

#define X(name, value, a_bar, b_bar, ...)                                                                            \
    static void S(name)(int64_t n, const T *restrict pa, const T *restrict pb, T *restrict py) {                     \
        const int64_t whole = S(whole_of_binary)(AD_BINARY_##name, n);                                               \
        for (int64_t i = 0; i < whole; i++) {                                                                        \
            const T a = pa[i], b = pb[i];                                                                            \
            py[i] = (T)(value);                                                                                      \
        }                                                                                                            \
    }                                                                                                                \
    BARS_LOOP(name, name##_a, a_bar)                                                                                 \
    BARS_LOOP(name, name##_b, b_bar)
AD_BINARY_ROWS(X)
AD_LOSS_ROWS(X)
#undef X
#undef BARS_LOOP

static void (*const S(binary_loop)[])(int64_t, const T *, const T *, T *) = {
#define X(name, ...) [AD_BINARY_##name] = S(name),
    AD_BINARY_ROWS(X) AD_LOSS_ROWS(X)
#undef X
};
static void (*const S(binary_back_loop)[][2])(int64_t, const T *, const T *, const T *, const T *, T *) = {
#define X(name, ...) [AD_BINARY_##name] = {S(name##_a), S(name##_b)},
    AD_BINARY_ROWS(X) AD_LOSS_ROWS(X)
#undef X
};

OUTLINE void S(binary_in_groups)(ad_binary op, int64_t n, const T *a, const T *b, T *y) {
    const int64_t last = n - AD_GROUP;
    if (last > 0) {
        S(binary_loop)[op](n, a, b, y);
        S(binary_loop)[op](AD_GROUP, a + last, b + last, y + last);
    } else {
        T few[3][AD_GROUP];
        S(take)(n, a, few[0]);
        S(take)(n, b, few[1]);
        S(binary_loop)[op](AD_GROUP, few[0], few[1], few[2]);
        S(put)(n, few[2], y);
    }
}
OUTLINE void S(binary_back_in_groups)(ad_binary op, int which, int64_t n, const T *g, const T *a, const T *b,
                                             const T *y, T *bar) {
    void (*const loop)(int64_t, const T *, const T *, const T *, const T *, T *) = S(binary_back_loop)[op][which];
    const int64_t last = n - AD_GROUP;
    if (last > 0) {
        loop(n, g, a, b, y, bar);
        loop(AD_GROUP, g + last, a + last, b + last, y + last, bar + last);
    } else {
        T few[5][AD_GROUP];
        S(take)(n, g, few[0]);
        S(take)(n, a, few[1]);
        S(take)(n, b, few[2]);
        S(take)(n, y, few[3]);
        loop(AD_GROUP, few[0], few[1], few[2], few[3], few[4]);
        S(put)(n, few[4], bar);
    }
}

static inline void S(run_binary)(ad_binary op, int64_t n, const T *a, const T *b, T *y) {
    if (S(whole_of_binary)(op, n) == n)
        S(binary_loop)[op](n, a, b, y);
    else
        S(binary_in_groups)(op, n, a, b, y);
}
static inline void S(run_binary_back)(ad_binary op, int which, int64_t n, const T *g, const T *a, const T *b,
                                      const T *y, T *bar) {
    if (S(whole_of_binary)(op, n) == n)
        S(binary_back_loop)[op][which](n, g, a, b, y, bar);
    else
        S(binary_back_in_groups)(op, which, n, g, a, b, y, bar);
}

static void S(rows_binary)(ad_binary op, ad_walk *w) {
    T block[3][AD_BLOCK];
    FOR_BLOCKS(w, false) {
        T *to = S(target)(OPERAND(2), w->inner[2], false, block[2]);
        S(run_binary)(op, n, GATHERED(0, block[0]), GATHERED(1, block[1]), to);
        S(scattered)(OPERAND(2), w->inner[2], n, false, to);
    }
}

/* n neighbours: bar (+)= their contributions. */
static void S(flat_binary_back)(ad_binary op, int which, int64_t n, const T *g, const T *a, const T *b, const T *y,
                                T *bar, bool add) {
    if (!add) {
        S(run_binary_back)(op, which, n, g, a, b, y, bar);
        return;
    }
    T block[AD_BLOCK];
    for (int64_t i = 0; i < n; i += AD_BLOCK) {
        const int64_t some = n - i < AD_BLOCK ? n - i : AD_BLOCK;
        S(run_binary_back)(op, which, some, g + i, a + i, b + i, y + i, block);
        S(scattered)(bar + i, 1, some, true, block);
    }
}

/* g, a, b, y and the contribution to a (`which` 0) or b (1) */
static void S(rows_binary_back)(ad_binary op, int which, ad_walk *w, bool add) {
    T block[5][AD_BLOCK];
    FOR_BLOCKS(w, add) {
        T *to = S(target)(OPERAND(4), w->inner[4], add, block[4]);
        S(run_binary_back)(op, which, n, GATHERED(0, block[0]), GATHERED(1, block[1]), GATHERED(2, block[2]),
                           GATHERED(3, block[3]), to);
        S(scattered)(OPERAND(4), w->inner[4], n, add, to);
    }
}

#undef FOR_BLOCKS
#undef OPERAND
#undef GATHERED
