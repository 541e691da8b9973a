/* cnn: a small convolutional network learns to tell shapes apart, wherever in a noisy image they are.
 *
 *     images [N,1,10,10] -> convolution, relu, pooling [N,6,4,4] -> convolution, relu [N,12,2,2] -> dense [N,4]
 *
 * Its whole gradient, through both convolutions and the pooling, is checked first; then it is used. */
#include "model.h"

enum { SIDE = 10, CLASSES = 4, N = 32, STEPS = 200, TESTED = 20 };
static const char *const class_names[CLASSES] = {"bar", "pole", "cross", "ring"};

enum { W1, B1, W2, B2, W3, B3, PARAMS };
static const weight weights[PARAMS] = {
    [W1] = {"w1", {.rank = 4, .dim = {6, 1, 3, 3}}, 0.3},   [B1] = {"b1", {.rank = 1, .dim = {6}}, 0},
    [W2] = {"w2", {.rank = 4, .dim = {12, 6, 3, 3}}, 0.15}, [B2] = {"b2", {.rank = 1, .dim = {12}}, 0},
    [W3] = {"w3", {.rank = 2, .dim = {CLASSES, 48}}, 0.15}, [B3] = {"b3", {.rank = 1, .dim = {CLASSES}}, 0},
};

typedef struct images {
    int64_t n;
    double pixel[N][SIDE][SIDE];
    int64_t class[N];
} images;

static ad_var logits(ad_tape *t, const ad_var *w, const images *batch) {
    ad_var x = ad_constant(t, "images", AD_F64, AD_SHAPE(batch->n, 1, SIDE, SIDE), batch->pixel);
    ad_pool_options pool = {.kernel = {2, 2}};
    ad_scope_begin(t, "conv1");
    x = ad_max_pool2d(ad_relu(ad_conv2d(x, w[W1], w[B1], NULL)), &pool, NULL);
    ad_scope_end(t);
    ad_scope_begin(t, "conv2");
    x = ad_relu(ad_conv2d(x, w[W2], w[B2], NULL));
    ad_scope_end(t);
    return ad_linear(ad_reshape(x, AD_SHAPE(batch->n, -1)), w[W3], w[B3]);
}

static ad_var loss(ad_tape *t, const ad_var *w, int n, void *data) {
    (void)n;
    const images *batch = data;
    ad_var class = ad_constant(t, "classes", AD_I64, AD_SHAPE(batch->n), batch->class);
    return ad_mean(ad_softmax_xent(logits(t, w, batch), class), AD_ALL_AXES, false);
}

/* A shape of 5 x 5 pixels somewhere in noise. */
static void draw(double (*pixel)[SIDE], int64_t class, ad_rng *rng) {
    const int top = (int)(6 * ad_rng_uniform(rng)), left = (int)(6 * ad_rng_uniform(rng));
    for (int i = 0; i < SIDE * SIDE; i++) pixel[i / SIDE][i % SIDE] = 0.3 * ad_rng_normal(rng);
    for (int i = 0; i < 5; i++) {
        if (class == 0 || class == 2) pixel[top + 2][left + i] += 1;
        if (class == 1 || class == 2) pixel[top + i][left + 2] += 1;
        for (int edge = 0; class == 3 && edge < 5; edge += 4)
            pixel[top + edge][left + i] = pixel[top + i][left + edge] = 1;
    }
}

static void next(void *data, ad_rng *rng) {
    images *batch = data;
    for (int64_t i = 0; i < batch->n; i++) {
        batch->class[i] = (int64_t)(CLASSES * ad_rng_uniform(rng));
        draw(batch->pixel[i], batch->class[i], rng);
    }
}

/* The fraction of new images that are recognised, and how many of each shape are not. */
static double accuracy(model *m, images *batch) {
    int missed[CLASSES] = {0}, wrong = 0;
    for (int k = 0; k < TESTED; k++) {
        ad_var w[PARAMS];
        next(batch, &m->rng);
        model_use(m, w);
        ad_view guess = ad_value(ad_argmax(logits(m->tape, w, batch), -1, false));
        if (!guess.data) return NAN;
        for (int64_t i = 0; i < batch->n; i++)
            missed[batch->class[i]] += ad_view_get(&guess, i) != (double)batch->class[i];
    }
    for (int i = 0; i < CLASSES; i++) {
        printf("  %s: missed %d\n", class_names[i], missed[i]);
        wrong += missed[i];
    }
    return 1 - (double)wrong / (TESTED * N);
}

int main(void) {
    static images batch;
    model m;
    bool right = false, good = false;
    if (model_new(&m, PARAMS, weights, 0.01)) {
        batch.n = 2;
        next(&batch, &m.rng);
        printf("The gradient of the whole network, on two images:\n\n");
        right = model_is_right(&m, "cnn", loss, &batch);
        batch.n = N;
        printf("\nTraining on batches of %d new images:\n\n", N);
        double last = model_train(&m, loss, next, &batch, STEPS);
        printf("\nAmong %d images that it has not seen:\n\n", TESTED * N);
        double recognised = accuracy(&m, &batch);
        printf("\n%.1f %% are recognised\n", 100 * recognised);
        good = last < 0.5 && recognised > 0.95;
    }
    int status = model_verdict(&m, "cnn", right, good);
    model_free(&m);
    return status;
}
