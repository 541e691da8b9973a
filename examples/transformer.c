/* transformer: a transformer block learns to say words backwards.
 *
 * It reads the letters of a word, then a bar, then those of the reversed word, and at each place guesses what is next:
 * "a d c | c d" -> "a". Two heads of causal attention look back, a dense network thinks about what they saw:
 *
 *     x = x + attention(layer_norm(x)),  x = x + W2 gelu(W1 layer_norm(x) + b1) + b2      (pre-norm, as in GPT-2)
 *
 * The gradient of all of it is checked first. */
#include "model.h"

enum { LETTERS = 8, BAR = LETTERS, TOKENS = LETTERS + 1, WORD = 5, T = 2 * WORD, N = 32, STEPS = 250, TESTED = 20 };
enum { D = 32, HEADS = 2, HIDDEN = 4 * D };

enum { TOKEN, PLACE, G1, C1, W_QKV, B_QKV, W_O, B_O, G2, C2, W1, B1, W2, B2, G3, C3, PARAMS };
static const weight weights[PARAMS] = {
    [TOKEN] = {"tokens", {.rank = 2, .dim = {TOKENS, D}}, 0.5},
    [PLACE] = {"places", {.rank = 2, .dim = {T, D}}, 0.5},
    [G1] = {"gain1", {.rank = 1, .dim = {D}}, -1},
    [C1] = {"shift1", {.rank = 1, .dim = {D}}, 0},
    [W_QKV] = {"Wqkv", {.rank = 2, .dim = {3 * D, D}}, 0.2},
    [B_QKV] = {"bqkv", {.rank = 1, .dim = {3 * D}}, 0},
    [W_O] = {"Wo", {.rank = 2, .dim = {D, D}}, 0.2},
    [B_O] = {"bo", {.rank = 1, .dim = {D}}, 0},
    [G2] = {"gain2", {.rank = 1, .dim = {D}}, -1},
    [C2] = {"shift2", {.rank = 1, .dim = {D}}, 0},
    [W1] = {"W1", {.rank = 2, .dim = {HIDDEN, D}}, 0.2},
    [B1] = {"b1", {.rank = 1, .dim = {HIDDEN}}, 0},
    [W2] = {"W2", {.rank = 2, .dim = {D, HIDDEN}}, 0.1},
    [B2] = {"b2", {.rank = 1, .dim = {D}}, 0},
    [G3] = {"gain3", {.rank = 1, .dim = {D}}, -1},
    [C3] = {"shift3", {.rank = 1, .dim = {D}}, 0},
};

/* letters | reversed: the token at each place, and the one after it. */
typedef struct words {
    int64_t n;
    int64_t token[N][T], next[N][T];
} words;

static ad_var norm(ad_var x, ad_var gain, ad_var shift) { return ad_layer_norm(x, 1, gain, shift, 1e-5); }

/* [N,T,D] -> [N,HEADS,T,D/HEADS] */
static ad_var heads(ad_var x, int64_t n) {
    return ad_permute(ad_reshape(x, AD_SHAPE(n, T, HEADS, D / HEADS)), AD_AXES(0, 2, 1, 3));
}

static ad_var attention(ad_tape *t, const ad_var *w, ad_var x, int64_t n) {
    ad_var part[3];
    ad_scope_begin(t, "attention");
    ad_chunk(ad_linear(norm(x, w[G1], w[C1]), w[W_QKV], w[B_QKV]), -1, 3, part);
    for (int i = 0; i < 3; i++) part[i] = heads(part[i], n);
    ad_var seen = ad_attention(part[0], part[1], part[2], AD_NONE, sqrt((double)HEADS / D), AD_CAUSAL);
    seen = ad_reshape(ad_permute(seen, AD_AXES(0, 2, 1, 3)), AD_SHAPE(n, T, D));
    ad_var y = ad_linear(seen, w[W_O], w[B_O]);
    ad_scope_end(t);
    return y;
}

static ad_var dense(ad_tape *t, const ad_var *w, ad_var x) {
    ad_scope_begin(t, "dense");
    ad_var y = ad_linear(ad_gelu(ad_linear(norm(x, w[G2], w[C2]), w[W1], w[B1])), w[W2], w[B2]);
    ad_scope_end(t);
    return y;
}

/* The scores of each token to be next: those of the embeddings that are most like what came out. */
static ad_var logits(ad_tape *t, const ad_var *w, const words *batch) {
    ad_var token = ad_constant(t, "token", AD_I64, AD_SHAPE(batch->n, T), batch->token);
    ad_var x = ad_add(ad_embedding(w[TOKEN], token), w[PLACE]);
    x = ad_add(x, attention(t, w, x, batch->n));
    x = ad_add(x, dense(t, w, x));
    return ad_matmul(norm(x, w[G3], w[C3]), ad_transpose(w[TOKEN]));
}

/* The word itself cannot be guessed: only what follows the bar counts. */
static ad_var loss(ad_tape *t, const ad_var *w, int n, void *data) {
    (void)n;
    const words *batch = data;
    ad_var next = ad_constant(t, "next", AD_I64, AD_SHAPE(batch->n, T), batch->next);
    ad_var each = ad_softmax_xent(logits(t, w, batch), next);
    return ad_mean(ad_slice(each, 1, WORD, AD_TO_END, 1), AD_ALL_AXES, false);
}

static void next(void *data, ad_rng *rng) {
    words *batch = data;
    for (int64_t i = 0; i < batch->n; i++) {
        int64_t text[T + 1];
        text[WORD] = BAR;
        for (int k = 0; k < WORD; k++) text[k] = text[T - k] = (int64_t)(LETTERS * ad_rng_uniform(rng));
        for (int k = 0; k < T; k++) batch->token[i][k] = text[k], batch->next[i][k] = text[k + 1];
    }
}

/* The fraction of new words of which every letter is right. */
static double accuracy(model *m, words *batch) {
    int64_t right = 0;
    for (int k = 0; k < TESTED; k++) {
        ad_var w[PARAMS];
        next(batch, &m->rng);
        model_use(m, w);
        ad_view guess = ad_value(ad_argmax(logits(m->tape, w, batch), -1, false));
        if (!guess.data) return NAN;
        for (int64_t i = 0; i < batch->n; i++) {
            int same = 0;
            for (int j = WORD; j < T; j++) same += ad_view_get(&guess, i * T + j) == (double)batch->next[i][j];
            right += same == WORD;
        }
    }
    return (double)right / (TESTED * N);
}

int main(void) {
    static words batch;
    model m;
    bool right = false, good = false;
    if (model_new(&m, PARAMS, weights, 0.005)) {
        batch.n = 2;
        next(&batch, &m.rng);
        printf("The gradient of the whole block, on two words:\n\n");
        right = model_is_right(&m, "transformer", loss, &batch);
        batch.n = N;
        printf("\nTraining on batches of %d new words of %d letters:\n\n", N, WORD);
        double last = model_train(&m, loss, next, &batch, STEPS);
        double reversed = accuracy(&m, &batch);
        printf("\n%.1f %% of %d other words are reversed without a mistake\n", 100 * reversed, TESTED * N);
        good = last < 0.2 && reversed > 0.95;
    }
    int status = model_verdict(&m, "transformer", right, good);
    model_free(&m);
    return status;
}
