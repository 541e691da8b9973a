/* Training steps of whole models in f32: forward, backward and update.
 *
 * Each row of the table below is one case; flops are those of its products alone, three times the forward ones where a
 * gradient is wanted on both sides. */
#include "training.h"

/* ---- perceptrons --------------------------------------------------------------------------------------------------- */

static void add_dense(model *m, int64_t from, int64_t to) {
    add_param(m, AD_SHAPE(to, from), sqrt(2.0 / (double)from));
    add_param(m, AD_SHAPE(to), 0);
}

/* Layer number k of a model whose parameters are pairs of weights and bias. */
static ad_var dense(const model *m, int k, ad_var x) {
    return ad_linear(x, param_of(m, 2 * k), param_of(m, 2 * k + 1));
}

static ad_var mean_xent(ad_var logits, ad_var label) {
    return ad_mean(ad_softmax_xent(logits, label), AD_ALL_AXES, false);
}

static ad_var regression_loss(const model *m, ad_tape *tape) {
    ad_var h = ad_relu(dense(m, 1, ad_relu(dense(m, 0, array_of(m, tape, 0)))));
    return ad_mean(ad_mse(dense(m, 2, h), array_of(m, tape, 1)), AD_ALL_AXES, false);
}

static void open_regression(model *m, int64_t batch) {
    m->loss = regression_loss;
    add_numbers(m, AD_SHAPE(batch, 2));
    add_numbers(m, AD_SHAPE(batch, 1));
    add_dense(m, 2, 16);
    add_dense(m, 16, 16);
    add_dense(m, 16, 1);
    use_sgd(m, 1e-3);
}

static ad_var digits_loss(const model *m, ad_tape *tape) {
    ad_var h = ad_relu(dense(m, 0, array_of(m, tape, 0)));
    h = ad_add(h, ad_relu(dense(m, 1, h)));
    return mean_xent(dense(m, 2, h), array_of(m, tape, 1));
}

static void open_digits(model *m, int64_t batch) {
    m->loss = digits_loss;
    add_numbers(m, AD_SHAPE(batch, 64));
    add_indices(m, AD_SHAPE(batch), 1, 10);
    add_dense(m, 64, 128);
    add_dense(m, 128, 128);
    add_dense(m, 128, 10);
    use_adamw(m);
}

static ad_var mlp_loss(const model *m, ad_tape *tape) {
    ad_var h = ad_relu(dense(m, 1, ad_relu(dense(m, 0, array_of(m, tape, 0)))));
    return mean_xent(dense(m, 2, h), array_of(m, tape, 1));
}

static void open_mlp(model *m, int64_t batch) {
    m->loss = mlp_loss;
    add_numbers(m, AD_SHAPE(batch, 784));
    add_indices(m, AD_SHAPE(batch), 1, 10);
    add_dense(m, 784, 256);
    add_dense(m, 256, 256);
    add_dense(m, 256, 10);
    use_sgd(m, 1e-3);
}

/* ---- images [N,1,28,28] -------------------------------------------------------------------------------------------- */

static void add_conv(model *m, int64_t from, int64_t to, int64_t kernel) {
    add_param(m, AD_SHAPE(to, from, kernel, kernel), sqrt(2.0 / (double)(from * kernel * kernel)));
    add_param(m, AD_SHAPE(to), 0);
}

static void add_images(model *m, int64_t batch) {
    m->batch = batch;
    add_numbers(m, AD_SHAPE(batch, 1, 28, 28));
    add_indices(m, AD_SHAPE(batch), 1, 10);
}

/* Convolution number k, relu, and the largest of each 2 x 2. */
static ad_var conv(const model *m, int k, int64_t padding, ad_var x) {
    const ad_conv_options options = {.padding = {padding, padding}};
    const ad_pool_options pool = {.kernel = {2, 2}};
    ad_var y = ad_conv2d(x, param_of(m, 2 * k), param_of(m, 2 * k + 1), &options);
    return ad_max_pool2d(ad_relu(y), &pool, NULL);
}

static ad_var lenet_loss(const model *m, ad_tape *tape) {
    ad_var x = conv(m, 1, 0, conv(m, 0, 2, array_of(m, tape, 0)));
    x = ad_relu(dense(m, 2, ad_reshape(x, AD_SHAPE(m->batch, -1))));
    return mean_xent(dense(m, 4, ad_relu(dense(m, 3, x))), array_of(m, tape, 1));
}

static void open_lenet(model *m, int64_t batch) {
    m->loss = lenet_loss;
    add_images(m, batch);
    add_conv(m, 1, 6, 5);
    add_conv(m, 6, 16, 5);
    add_dense(m, 400, 120);
    add_dense(m, 120, 84);
    add_dense(m, 84, 10);
    use_sgd(m, 1e-3);
}

static ad_var cnn_loss(const model *m, ad_tape *tape) {
    ad_var x = conv(m, 1, 1, conv(m, 0, 1, array_of(m, tape, 0)));
    x = ad_relu(dense(m, 2, ad_reshape(x, AD_SHAPE(m->batch, -1))));
    return mean_xent(dense(m, 3, x), array_of(m, tape, 1));
}

static void open_cnn(model *m, int64_t batch) {
    m->loss = cnn_loss;
    add_images(m, batch);
    add_conv(m, 1, 32, 3);
    add_conv(m, 32, 64, 3);
    add_dense(m, 64 * 7 * 7, 128);
    add_dense(m, 128, 10);
    use_sgd(m, 1e-3);
}

/* ---- a small GPT --------------------------------------------------------------------------------------------------- */

enum { LAYERS = 4, D = 128, HEADS = 4, TIME = 64, VOCABULARY = 65 };
enum { GAIN1, SHIFT1, W_QKV, B_QKV, W_O, B_O, GAIN2, SHIFT2, W_UP, B_UP, W_DOWN, B_DOWN, OF_LAYER };
enum { TOKENS, PLACES, FIRST_LAYER, GAIN = FIRST_LAYER + LAYERS * OF_LAYER, SHIFT };

static ad_var norm(const model *m, ad_var x, int gain) {
    return ad_layer_norm(x, 1, param_of(m, gain), param_of(m, gain + 1), 1e-5);
}
static ad_var linear(const model *m, ad_var x, int weight) {
    return ad_linear(x, param_of(m, weight), param_of(m, weight + 1));
}

/* [N,T,D] -> [N,HEADS,T,D/HEADS] */
static ad_var heads(ad_var x, int64_t n) {
    return ad_permute(ad_reshape(x, AD_SHAPE(n, TIME, HEADS, D / HEADS)), AD_AXES(0, 2, 1, 3));
}

static ad_var attention(const model *m, ad_var x, int layer) {
    ad_var part[3];
    ad_chunk(linear(m, norm(m, x, layer + GAIN1), layer + W_QKV), -1, 3, part);
    for (int i = 0; i < 3; i++) part[i] = heads(part[i], m->batch);
    ad_var seen = ad_attention(part[0], part[1], part[2], AD_NONE, sqrt((double)HEADS / D), AD_CAUSAL);
    seen = ad_reshape(ad_permute(seen, AD_AXES(0, 2, 1, 3)), AD_SHAPE(m->batch, TIME, D));
    return linear(m, seen, layer + W_O);
}

static ad_var gpt_loss(const model *m, ad_tape *tape) {
    ad_var tokens = param_of(m, TOKENS);
    ad_var x = ad_add(ad_embedding(tokens, array_of(m, tape, 0)), param_of(m, PLACES));
    for (int k = 0; k < LAYERS; k++) {
        const int layer = FIRST_LAYER + k * OF_LAYER;
        x = ad_add(x, attention(m, x, layer));
        ad_var up = ad_gelu_tanh(linear(m, norm(m, x, layer + GAIN2), layer + W_UP));
        x = ad_add(x, linear(m, up, layer + W_DOWN));
    }
    return mean_xent(ad_matmul(norm(m, x, GAIN), ad_transpose(tokens)), array_of(m, tape, 1));
}

static void add_norm(model *m) {
    add_param(m, AD_SHAPE(D), 1);
    add_param(m, AD_SHAPE(D), 0);
}

static void open_gpt(model *m, int64_t batch) {
    m->loss = gpt_loss;
    m->batch = batch;
    add_indices(m, AD_SHAPE(batch, TIME), 7, VOCABULARY);
    add_indices(m, AD_SHAPE(batch, TIME), 11, VOCABULARY);
    add_param(m, AD_SHAPE(VOCABULARY, D), 0.1);
    add_param(m, AD_SHAPE(TIME, D), 0.1);
    for (int k = 0; k < LAYERS; k++) {
        add_norm(m);
        add_dense(m, D, 3 * D);
        add_dense(m, D, D);
        add_norm(m);
        add_dense(m, D, 4 * D);
        add_dense(m, 4 * D, D);
    }
    add_norm(m);
    use_adamw(m);
}

/* ---- an LSTM, unrolled --------------------------------------------------------------------------------------------- */

enum { LSTM_STEPS = 64, LSTM_STATE = 128, LSTM_INPUTS = 64 };

/* The inputs' part of the gates is one product for all steps. */
static ad_var lstm_loss(const model *m, ad_tape *tape) {
    ad_var of_x = ad_linear(array_of(m, tape, 0), param_of(m, 0), param_of(m, 2));
    ad_var w = param_of(m, 1), b = param_of(m, 3), h = array_of(m, tape, 1), c = h;
    for (int t = 0; t < LSTM_STEPS; t++) h = ad_lstm_gates(ad_add(ad_select(of_x, 0, t), ad_linear(h, w, b)), c, &c);
    return ad_mean(ad_square(h), AD_ALL_AXES, false);
}

static void open_lstm(model *m, int64_t batch) {
    m->loss = lstm_loss;
    add_numbers(m, AD_SHAPE(LSTM_STEPS, batch, LSTM_INPUTS));
    add_numbers(m, AD_SHAPE(batch, LSTM_STATE));
    add_param(m, AD_SHAPE(4 * LSTM_STATE, LSTM_INPUTS), 0.1);
    add_param(m, AD_SHAPE(4 * LSTM_STATE, LSTM_STATE), 0.1);
    add_param(m, AD_SHAPE(4 * LSTM_STATE), 0);
    add_param(m, AD_SHAPE(4 * LSTM_STATE), 0);
    use_sgd(m, 1e-1);
}

/* ---- a graph network ----------------------------------------------------------------------------------------------- */

enum { NODES = 10000, EDGES = 100000, GNN_FEATURES = 32, GNN_HIDDEN = 32, GNN_CLASSES = 8 };

/* Each node gets the sum of what the sources of its edges have to say. */
static ad_var passed_on(const model *m, ad_var x) {
    ad_var said = ad_index_select(x, 0, array_of(m, x.tape, 1));
    return ad_segment_sum(said, array_of(m, x.tape, 2), NODES);
}

static ad_var gnn_loss(const model *m, ad_tape *tape) {
    ad_var h = ad_relu(passed_on(m, dense(m, 0, array_of(m, tape, 0))));
    return mean_xent(passed_on(m, dense(m, 1, ad_scale(h, 0.1))), array_of(m, tape, 3));
}

static void open_gnn(model *m, int64_t nodes) {
    m->loss = gnn_loss;
    add_numbers(m, AD_SHAPE(nodes, GNN_FEATURES));
    add_indices(m, AD_SHAPE(EDGES), 7919, nodes);
    add_indices(m, AD_SHAPE(EDGES), 104729, nodes);
    add_indices(m, AD_SHAPE(nodes), 3, GNN_CLASSES);
    add_dense(m, GNN_FEATURES, GNN_HIDDEN);
    add_dense(m, GNN_HIDDEN, GNN_CLASSES);
    use_sgd(m, 1e-3);
}

/* ---- a physics-informed network ------------------------------------------------------------------------------------ */

/* u(x, t) with the residual u_t - 0.1 u_xx, whose derivatives are part of the loss. */
static ad_var pinn_loss(const model *m, ad_tape *tape) {
    ad_var x = ad_leaf_tensor(tape, NULL, m->array[0]), t = ad_leaf_tensor(tape, NULL, m->array[1]);
    ad_var h = ad_tanh(dense(m, 0, ad_cat(AD_VARS(x, t), 1)));
    ad_var u = dense(m, 2, ad_tanh(dense(m, 1, h)));
    const ad_var at[] = {x, t};
    ad_var slope[2], curvature;
    ad_grad(ad_sum(u, AD_ALL_AXES, false), AD_NONE, 2, at, slope);
    ad_grad(ad_sum(slope[0], AD_ALL_AXES, false), AD_NONE, 1, &x, &curvature);
    ad_var residual = ad_sub(slope[1], ad_scale(curvature, 0.1));
    return ad_mean(ad_square(residual), AD_ALL_AXES, false);
}

static void open_pinn(model *m, int64_t batch) {
    m->loss = pinn_loss;
    add_numbers(m, AD_SHAPE(batch, 1));
    add_numbers(m, AD_SHAPE(batch, 1));
    add_dense(m, 2, 32);
    add_dense(m, 32, 32);
    add_dense(m, 32, 1);
    use_adamw(m);
}

/* ---- Rosenbrock's function ----------------------------------------------------------------------------------------- */

/* mean of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 */
static ad_var rosenbrock_loss(const model *m, ad_tape *tape) {
    ad_var x = param_of(m, 0);
    ad_var head = ad_slice(x, 0, 0, -1, 1), tail = ad_slice(x, 0, 1, AD_TO_END, 1);
    ad_var valley = ad_square(ad_sub(tail, ad_square(head)));
    ad_var slope = ad_square(ad_sub(ad_number(tape, AD_F32, 1), head));
    return ad_mean(ad_add(ad_scale(valley, 100), slope), AD_ALL_AXES, false);
}

static void open_rosenbrock(model *m, int64_t n) {
    m->loss = rosenbrock_loss;
    add_param(m, AD_SHAPE(n), 1);
    use_sgd(m, 1e-3);
}

/* ---- the run ------------------------------------------------------------------------------------------------------- */

typedef struct workload {
    const char *name;
    void (*open)(model *m, int64_t size);
    int64_t size;
    double flops; /* of a step: multiplications and additions of its products */
} workload;

static const workload workloads[] = {
    {"mlp 2-16-16-1 step, batch 1", open_regression, 1, 6.0 * 1 * (2 * 16 + 16 * 16 + 16)},
    {"mlp 2-16-16-1 step, batch 32", open_regression, 32, 6.0 * 32 * (2 * 16 + 16 * 16 + 16)},
    {"digits step, batch 64", open_digits, 64, 6.0 * 64 * (128 * 128 + 128 * 10) + 4.0 * 64 * 64 * 128},
    {"mlp 784-256-256-10 step, batch 64", open_mlp, 64, 6.0 * 64 * (256 * 256 + 256 * 10) + 4.0 * 64 * 784 * 256},
    {"lenet step, batch 64", open_lenet, 64,
     64 * (4.0 * 784 * 6 * 25 + 6.0 * 100 * 16 * 150 + 6.0 * (400 * 120 + 120 * 84 + 840))},
    {"cnn step, batch 64", open_cnn, 64,
     64 * (4.0 * 784 * 32 * 9 + 6.0 * 196 * 64 * 288 + 6.0 * (3136 * 128 + 1280))},
    {"gpt step, batch 8", open_gpt, 8,
     8 * TIME *(6.0 * LAYERS * 12 * D * D + 6.0 * VOCABULARY * D + LAYERS * 7.0 * TIME * D)},
    {"lstm step, batch 16", open_lstm, 16, 64 * 16 * 6.0 * 512 * (64 + 128)},
    {"gnn step, 1e4 nodes, 1e5 edges", open_gnn, NODES, NODES *(4.0 * 32 * 32 + 6.0 * 32 * 8)},
    {"pinn step, batch 1024", open_pinn, 1024, 1024 * 6.0 * 3 * (2 * 32 + 32 * 32 + 32)},
    {"rosenbrock gradient, n 1e4", open_rosenbrock, 10000, 20.0 * 10000},
};

/* The step comes last, as it changes the parameters. */
static void run(const bench *b, const workload *w, ad_tape *tape) {
    if (!wants_model(b, w->name)) return;
    model m = {.tape = tape, .batch = w->size};
    w->open(&m, w->size);
    make_direction(&m);
    run_part(b, &part_value, w->name, &m, 0, 0);
    run_part(b, &part_gradient, w->name, &m, 0, 0);
    run_part(b, &part_hvp, w->name, &m, 0, 0);
    run_part(b, &part_step, w->name, &m, w->flops, 0);
    close_model(&m);
}

int main(int argc, char **argv) {
    bench b = bench_start(argc, argv);
    ad_tape *tape = bench_tape();
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++) run(&b, &workloads[i], tape);
    ad_tape_free(tape);
    return 0;
}
