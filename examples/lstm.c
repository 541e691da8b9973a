/* lstm: a recurrent network learns a sentence by heart, one letter after the other, and says it again.
 *
 *     letter -> embedding -> LSTM -> dense layer -> which letter is next
 *
 * After an "s" comes one of " ", "e", "h": what was before is in the state of the LSTM alone, so the gradient must reach
 * back through all steps. The whole of it is checked first. */
#include "model.h"

#include <string.h>

static const char sentence[] = "she sells sea shells by the sea shore.";
static const char letters[] = " .abehlorsty";
enum { LENGTH = sizeof sentence - 1, LETTERS = sizeof letters - 1, FEATURES = 8, STATE = 24, STEPS = 100 };

enum { EMBEDDING, W_INPUT, W_STATE, B_INPUT, B_STATE, W_OUT, B_OUT, PARAMS };
static const weight weights[PARAMS] = {
    [EMBEDDING] = {"embedding", {.rank = 2, .dim = {LETTERS, FEATURES}}, 0.5},
    [W_INPUT] = {"w input", {.rank = 2, .dim = {4 * STATE, FEATURES}}, 0.3},
    [W_STATE] = {"w state", {.rank = 2, .dim = {4 * STATE, STATE}}, 0.2},
    [B_INPUT] = {"b input", {.rank = 1, .dim = {4 * STATE}}, 0},
    [B_STATE] = {"b state", {.rank = 1, .dim = {4 * STATE}}, 0},
    [W_OUT] = {"w out", {.rank = 2, .dim = {LETTERS, STATE}}, 0.2},
    [B_OUT] = {"b out", {.rank = 1, .dim = {LETTERS}}, 0},
};

typedef struct text {
    int length;
    int64_t letter[LENGTH];
} text;

typedef struct state {
    ad_var h, c;
} state;

static state first_state(ad_tape *t) {
    static const double zeros[STATE] = {0};
    return (state){ad_constant(t, "h0", AD_F64, AD_SHAPE(STATE), zeros),
                   ad_constant(t, "c0", AD_F64, AD_SHAPE(STATE), zeros)};
}

/* Reads a letter. */
static void step(const ad_var *w, ad_var letter, state *s) {
    const ad_cell cell = {w[W_INPUT], w[W_STATE], w[B_INPUT], w[B_STATE]};
    s->h = ad_lstm_cell(ad_embedding(w[EMBEDDING], letter), s->h, s->c, &cell, &s->c);
}

/* Each letter is guessed from those before it. */
static ad_var loss(ad_tape *t, const ad_var *w, int n, void *data) {
    (void)n;
    const text *s = data;
    ad_var h[LENGTH];
    state now = first_state(t);
    for (int i = 0; i + 1 < s->length; i++) {
        ad_scope_begin(t, "step%d", i);
        step(w, ad_index(t, s->letter[i]), &now);
        ad_scope_end(t);
        h[i] = now.h;
    }
    ad_var logits = ad_linear(ad_stack(s->length - 1, h, 0), w[W_OUT], w[B_OUT]);
    ad_var next = ad_constant(t, "next", AD_I64, AD_SHAPE(s->length - 1), s->letter + 1);
    return ad_mean(ad_softmax_xent(logits, next), AD_ALL_AXES, false);
}

static void same_again(void *data, ad_rng *rng) {
    (void)data;
    (void)rng;
}

/* Beginning with the first letter, goes on with whatever is likeliest. */
static void recite(model *m, char *said) {
    ad_var w[PARAMS];
    model_use(m, w);
    state now = first_state(m->tape);
    said[0] = sentence[0];
    for (int i = 0; i + 1 < LENGTH; i++) {
        step(w, ad_index(m->tape, strchr(letters, said[i]) - letters), &now);
        double likeliest = ad_item(ad_argmax(ad_linear(now.h, w[W_OUT], w[B_OUT]), -1, false));
        said[i + 1] = likeliest >= 0 ? letters[(int)likeliest] : '.';
    }
}

int main(void) {
    text s = {.length = 9};
    char said[LENGTH + 1] = "";
    model m;
    bool right = false, good = false;
    for (int i = 0; i < LENGTH; i++) s.letter[i] = strchr(letters, sentence[i]) - letters;
    if (model_new(&m, PARAMS, weights, 0.02)) {
        printf("The gradient through the first %d letters:\n\n", s.length);
        right = model_is_right(&m, "lstm", loss, &s);
        s.length = LENGTH;
        printf("\nReading the sentence again and again:\n\n");
        double last = model_train(&m, loss, same_again, &s, STEPS);
        recite(&m, said);
        printf("\n\"%s\"\n", said);
        good = last < 0.1 && strcmp(said, sentence) == 0;
    }
    int status = model_verdict(&m, "lstm", right, good);
    model_free(&m);
    return status;
}
