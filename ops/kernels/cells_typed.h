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
