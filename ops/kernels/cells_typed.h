/* What an LSTM cell does elementwise, for one type: T, and S(name) to name them. Of each row the parts are told apart, so
 * that the compiler sees that they do not overlap. */

static void S(lstm_row)(int64_t n, const T *restrict i, const T *restrict f, const T *restrict g, const T *restrict o,
                        const T *restrict c, T *restrict h, T *restrict c_next) {
    for (int64_t j = 0; j < n; j++) {
        const T next = AD_SIGMOID(f[j]) * c[j] + AD_SIGMOID(i[j]) * AD_TANH(g[j]);
        c_next[j] = next;
        h[j] = AD_SIGMOID(o[j]) * AD_TANH(next);
    }
}

static void S(lstm)(int64_t rows, int64_t n, const T *gates, const T *c, T *h, T *c_next) {
    for (int64_t row = 0; row < rows; row++, gates += 4 * n)
        S(lstm_row)(n, gates, gates + n, gates + 2 * n, gates + 3 * n, c + row * n, h + row * n, c_next + row * n);
}

/* What comes to the new state, and through it to the input gate, the forget gate and the candidate. */
static void S(lstm_back_state)(int64_t n, const T *restrict i, const T *restrict f, const T *restrict g,
                               const T *restrict c, const T *restrict of_c, T *restrict i_bar, T *restrict f_bar,
                               T *restrict g_bar, T *restrict c_bar) {
    for (int64_t j = 0; j < n; j++) {
        const T input = AD_SIGMOID(i[j]), forget = AD_SIGMOID(f[j]), candidate = AD_TANH(g[j]), bar = of_c[j];
        i_bar[j] = bar * candidate * input * (1 - input);
        f_bar[j] = bar == 0 ? 0 : bar * c[j] * forget * (1 - forget);
        g_bar[j] = bar * input * (1 - candidate * candidate);
        c_bar[j] = bar * forget;
    }
}

static void S(lstm_back_output)(int64_t n, const T *restrict o, const T *restrict c_next, const T *restrict h_bar,
                                const T *restrict c_next_bar, T *restrict o_bar, T *restrict of_c) {
    for (int64_t j = 0; j < n; j++) {
        const T output = AD_SIGMOID(o[j]), t = AD_TANH(c_next[j]);
        o_bar[j] = h_bar[j] * t * output * (1 - output);
        of_c[j] = c_next_bar[j] + h_bar[j] * output * (1 - t * t);
    }
}

static void S(lstm_back)(const ad_lstm_back *b) {
    const int64_t n = b->n;
    const T *gates = b->gates, *c = b->c, *c_next = b->c_next, *h_bar = b->h_bar, *c_next_bar = b->c_next_bar;
    T *bar = b->gates_bar, *c_bar = b->c_bar, *of_c = b->row;
    for (int64_t row = 0; row < b->rows; row++, gates += 4 * n, bar += 4 * n) {
        const int64_t at = row * n;
        S(lstm_back_output)(n, gates + 3 * n, c_next + at, h_bar + at, c_next_bar + at, bar + 3 * n, of_c);
        S(lstm_back_state)(n, gates, gates + n, gates + 2 * n, c + at, of_c, bar, bar + n, bar + 2 * n, c_bar + at);
    }
}

/* The derivative of lstm_back in a direction, element by element: what is called X_dot moves with it. */
static void S(lstm_back_jvp_row)(int64_t n, const T *restrict gates, const T *restrict gates_dot, const T *restrict c,
                                 const T *restrict c_dot, const T *restrict h_bar, const T *restrict h_bar_dot,
                                 const T *restrict next_bar, const T *restrict next_bar_dot, T *restrict bar_dot,
                                 T *restrict c_bar_dot) {
    for (int64_t j = 0; j < n; j++) {
        const T i = AD_SIGMOID(gates[j]), f = AD_SIGMOID(gates[n + j]), g = AD_TANH(gates[2 * n + j]);
        const T o = AD_SIGMOID(gates[3 * n + j]), di = i * (1 - i), df = f * (1 - f), dg = 1 - g * g,
                o1 = o * (1 - o);
        const T i_dot = di * gates_dot[j], f_dot = df * gates_dot[n + j], g_dot = dg * gates_dot[2 * n + j];
        const T o_dot = o1 * gates_dot[3 * n + j], t = AD_TANH(f * c[j] + i * g), dt = 1 - t * t;
        const T t_dot = dt * (f_dot * c[j] + f * c_dot[j] + i_dot * g + i * g_dot);
        const T s = next_bar[j] + h_bar[j] * o * dt;
        const T s_dot = next_bar_dot[j] + h_bar_dot[j] * o * dt + h_bar[j] * (o_dot * dt - 2 * o * t * t_dot);
        const T of_f = s_dot * df + s * (1 - 2 * f) * f_dot; /* times c, which may be infinite */
        bar_dot[j] = (s_dot * g + s * g_dot) * di + s * g * (1 - 2 * i) * i_dot;
        bar_dot[n + j] = (of_f == 0 ? 0 : of_f * c[j]) + s * c_dot[j] * df;
        bar_dot[2 * n + j] = (s_dot * i + s * i_dot) * dg - 2 * s * i * g * g_dot;
        bar_dot[3 * n + j] = (h_bar_dot[j] * t + h_bar[j] * t_dot) * o1 + h_bar[j] * t * (1 - 2 * o) * o_dot;
        c_bar_dot[j] = s_dot * f + s * f_dot;
    }
}

static void S(lstm_back_jvp)(const ad_lstm_back_jvp *b) {
    const int64_t n = b->n;
    const T *gates = b->gates, *gates_dot = b->gates_dot, *c = b->c, *c_dot = b->c_dot;
    const T *h_bar = b->h_bar, *h_bar_dot = b->h_bar_dot, *bar = b->c_next_bar, *bar_dot = b->c_next_bar_dot;
    T *gates_bar_dot = b->gates_bar_dot, *c_bar_dot = b->c_bar_dot;
    for (int64_t row = 0, at = 0; row < b->rows; row++, at += n)
        S(lstm_back_jvp_row)
        (n, gates + 4 * at, gates_dot + 4 * at, c + at, c_dot + at, h_bar + at, h_bar_dot + at, bar + at,
         bar_dot + at, gates_bar_dot + 4 * at, c_bar_dot + at);
}
