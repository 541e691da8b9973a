// The workloads of bench/models.c in PyTorch without Python: the same weights and data, so the same gradients.
#include "peer.hpp"

#include <torch/torch.h>

namespace {

using torch::Tensor;
using tensors = std::vector<Tensor>;

Tensor sines(at::IntArrayRef shape, double step, double size, double start) {
    const auto places = torch::arange(c10::multiply_integers(shape), torch::dtype(torch::kFloat64));
    return (size * torch::sin(step * places + start)).to(torch::kFloat32).reshape(shape);
}

Tensor parameter(at::IntArrayRef shape, double size) { return sines(shape, 1.7, size, 1).requires_grad_(); }
Tensor numbers(at::IntArrayRef shape) { return sines(shape, 0.37, 1, 0); }
Tensor indices(at::IntArrayRef shape, long factor, long bound) {
    return (torch::arange(c10::multiply_integers(shape)) * factor).remainder(bound).reshape(shape);
}

void add_dense(tensors &w, const std::vector<long> &sizes) {
    for (size_t i = 0; i + 1 < sizes.size(); i++) {
        w.push_back(parameter({sizes[i + 1], sizes[i]}, std::sqrt(2.0 / static_cast<double>(sizes[i]))));
        w.push_back(parameter({sizes[i + 1]}, 0));
    }
}

void add_conv(tensors &w, long from, long to, long kernel) {
    w.push_back(parameter({to, from, kernel, kernel}, std::sqrt(2.0 / static_cast<double>(from * kernel * kernel))));
    w.push_back(parameter({to}, 0));
}

Tensor dense(const Tensor &x, const tensors &w, size_t at) { return torch::linear(x, w[at], w[at + 1]); }
Tensor xent(const Tensor &logits, const Tensor &label) { return torch::nn::functional::cross_entropy(logits, label); }

struct model {
    tensors w;
    std::function<Tensor(const tensors &w)> loss;
    std::unique_ptr<torch::optim::Optimizer> optimizer;

    void use_sgd(double rate = 1e-3) { optimizer = std::make_unique<torch::optim::SGD>(w, rate); }
    void use_adamw() {
        optimizer = std::make_unique<torch::optim::AdamW>(w, torch::optim::AdamWOptions(1e-3).weight_decay(0.01));
    }
};

// ---- perceptrons -----------------------------------------------------------------------------------------------------

model regression(long batch) {
    model m;
    add_dense(m.w, {2, 16, 16, 1});
    m.loss = [x = numbers({batch, 2}), y = numbers({batch, 1})](const tensors &w) {
        const auto h = torch::relu(dense(torch::relu(dense(x, w, 0)), w, 2));
        return torch::mse_loss(dense(h, w, 4), y);
    };
    m.use_sgd();
    return m;
}

model digits(long batch) {
    model m;
    add_dense(m.w, {64, 128, 128, 10});
    m.loss = [x = numbers({batch, 64}), label = indices({batch}, 1, 10)](const tensors &w) {
        const auto h = torch::relu(dense(x, w, 0));
        return xent(dense(h + torch::relu(dense(h, w, 2)), w, 4), label);
    };
    m.use_adamw();
    return m;
}

model mlp(long batch) {
    model m;
    add_dense(m.w, {784, 256, 256, 10});
    m.loss = [x = numbers({batch, 784}), label = indices({batch}, 1, 10)](const tensors &w) {
        return xent(dense(torch::relu(dense(torch::relu(dense(x, w, 0)), w, 2)), w, 4), label);
    };
    m.use_sgd();
    return m;
}

// ---- images ----------------------------------------------------------------------------------------------------------

Tensor conv(const Tensor &x, const tensors &w, size_t at, long padding) {
    return torch::max_pool2d(torch::relu(torch::conv2d(x, w[at], w[at + 1], 1, padding)), 2);
}

model lenet(long batch) {
    model m;
    add_conv(m.w, 1, 6, 5);
    add_conv(m.w, 6, 16, 5);
    add_dense(m.w, {400, 120, 84, 10});
    m.loss = [x = numbers({batch, 1, 28, 28}), label = indices({batch}, 1, 10), batch](const tensors &w) {
        const auto h = conv(conv(x, w, 0, 2), w, 2, 0).reshape({batch, -1});
        return xent(dense(torch::relu(dense(torch::relu(dense(h, w, 4)), w, 6)), w, 8), label);
    };
    m.use_sgd();
    return m;
}

model cnn(long batch) {
    model m;
    add_conv(m.w, 1, 32, 3);
    add_conv(m.w, 32, 64, 3);
    add_dense(m.w, {64 * 7 * 7, 128, 10});
    m.loss = [x = numbers({batch, 1, 28, 28}), label = indices({batch}, 1, 10), batch](const tensors &w) {
        const auto h = conv(conv(x, w, 0, 1), w, 2, 1).reshape({batch, -1});
        return xent(dense(torch::relu(dense(h, w, 4)), w, 6), label);
    };
    m.use_sgd();
    return m;
}

// ---- a small GPT -----------------------------------------------------------------------------------------------------

constexpr long layers = 4, d = 128, heads = 4, time_steps = 64, vocabulary = 65;
enum { gain1, shift1, qkv, bqkv, o, bo, gain2, shift2, up, bup, down, bdown, of_layer };

void add_norm(tensors &w) {
    w.push_back(parameter({d}, 1));
    w.push_back(parameter({d}, 0));
}
Tensor norm(const Tensor &x, const tensors &w, size_t at) { return torch::layer_norm(x, {d}, w[at], w[at + 1]); }
Tensor split_heads(const Tensor &x, long batch) {
    return x.reshape({batch, time_steps, heads, d / heads}).transpose(1, 2);
}

model gpt(long batch) {
    model m;
    m.w = {parameter({vocabulary, d}, 0.1), parameter({time_steps, d}, 0.1)};
    for (long k = 0; k < layers; k++) {
        add_norm(m.w);
        add_dense(m.w, {d, 3 * d});
        add_dense(m.w, {d, d});
        add_norm(m.w);
        add_dense(m.w, {d, 4 * d});
        add_dense(m.w, {4 * d, d});
    }
    add_norm(m.w);
    const auto token = indices({batch, time_steps}, 7, vocabulary), next = indices({batch, time_steps}, 11, vocabulary);
    m.loss = [token, next, batch](const tensors &w) {
        auto x = torch::embedding(w[0], token) + w[1];
        for (size_t at = 2; at + of_layer < w.size(); at += of_layer) {
            const auto parts = dense(norm(x, w, at + gain1), w, at + qkv).chunk(3, -1);
            const auto seen = at::scaled_dot_product_attention(split_heads(parts[0], batch), split_heads(parts[1], batch),
                                                               split_heads(parts[2], batch), {}, 0.0, true);
            x = x + dense(seen.transpose(1, 2).reshape({batch, time_steps, d}), w, at + o);
            x = x + dense(torch::gelu(dense(norm(x, w, at + gain2), w, at + up), "tanh"), w, at + down);
        }
        const auto logits = torch::matmul(norm(x, w, w.size() - 2), w[0].t());
        return xent(logits.reshape({-1, vocabulary}), next.reshape({-1}));
    };
    m.use_adamw();
    return m;
}

// ---- the others ------------------------------------------------------------------------------------------------------

model lstm(long batch) {
    constexpr long steps = 64, state = 128, inputs = 64;
    model m;
    m.w = {parameter({4 * state, inputs}, 0.1), parameter({4 * state, state}, 0.1), parameter({4 * state}, 0),
           parameter({4 * state}, 0)};
    const auto x = numbers({steps, batch, inputs}), h0 = numbers({batch, state}).unsqueeze(0);
    m.loss = [x, h0](const tensors &w) {
        return std::get<1>(torch::lstm(x, {h0, h0}, w, true, 1, 0.0, true, false, false)).square().mean();
    };
    m.use_sgd(1e-1);
    return m;
}

model gnn(long nodes) {
    constexpr long edges = 100000;
    model m;
    add_dense(m.w, {32, 32, 8});
    const auto source = indices({edges}, 7919, nodes), target = indices({edges}, 104729, nodes);
    const auto passed_on = [source, target, nodes](const Tensor &h) {
        return torch::zeros({nodes, h.size(1)}).index_add(0, target, h.index_select(0, source));
    };
    m.loss = [passed_on, x = numbers({nodes, 32}), label = indices({nodes}, 3, 8)](const tensors &w) {
        const auto h = torch::relu(passed_on(dense(x, w, 0)));
        return xent(passed_on(dense(0.1 * h, w, 2)), label);
    };
    m.use_sgd();
    return m;
}

model pinn(long batch) {
    model m;
    add_dense(m.w, {2, 32, 32, 1});
    const auto x = numbers({batch, 1}).requires_grad_(), t = numbers({batch, 1}).requires_grad_();
    m.loss = [x, t](const tensors &w) {
        const auto h = torch::tanh(dense(torch::cat({x, t}, 1), w, 0));
        const auto u = dense(torch::tanh(dense(h, w, 2)), w, 4);
        const auto slope = torch::autograd::grad({u.sum()}, {x, t}, {}, true, true);
        const auto curvature = torch::autograd::grad({slope[0].sum()}, {x}, {}, true, true)[0];
        return (slope[1] - 0.1 * curvature).square().mean();
    };
    m.use_adamw();
    return m;
}

model rosenbrock(long n) {
    model m;
    m.w = {parameter({n}, 1)};
    m.loss = [n](const tensors &w) {
        const auto x = w[0].slice(0, 0, n - 1), y = w[0].slice(0, 1, n);
        return (100 * (y - x * x).square() + (1 - x).square()).mean();
    };
    m.use_sgd();
    return m;
}

// ---- the run ---------------------------------------------------------------------------------------------------------

struct workload {
    const char *name;
    model (*make)(long size);
    long size;
};

constexpr workload workloads[] = {
    {"mlp 2-16-16-1 step, batch 1", regression, 1},  {"mlp 2-16-16-1 step, batch 32", regression, 32},
    {"digits step, batch 64", digits, 64},           {"mlp 784-256-256-10 step, batch 64", mlp, 64},
    {"lenet step, batch 64", lenet, 64},             {"cnn step, batch 64", cnn, 64},
    {"gpt step, batch 8", gpt, 8},                   {"lstm step, batch 16", lstm, 16},
    {"gnn step, 1e4 nodes, 1e5 edges", gnn, 10000},  {"pinn step, batch 1024", pinn, 1024},
    {"rosenbrock gradient, n 1e4", rosenbrock, 10000},
};

// A parameter that the loss does not depend on gets no gradient.
Tensor step(model &m) {
    m.optimizer->zero_grad(true);
    auto value = m.loss(m.w);
    value.backward({}, c10::nullopt, false, m.w);
    m.optimizer->step();
    return value;
}

double fingerprint(const model &m) {
    double sum = 0;
    for (const auto &p : m.w) {
        if (!p.grad().defined()) continue;
        const auto g = p.grad().contiguous();
        sum += peer::fingerprint(g.data_ptr<float>(), g.numel());
    }
    return sum;
}

void run(const peer::options &o, const workload &w) {
    model m = w.make(w.size);
    if (!o.check) {
        peer::report(w.name, "us", 1e6 * peer::measure(o, [&] { step(m); }));
        return;
    }
    step(m);
    peer::report(w.name, "gradient", fingerprint(m));
    peer::report(w.name, "loss", step(m).item<double>());
}

} // namespace

int main(int argc, char **argv) {
    const peer::options o(argc, argv);
    torch::set_num_threads(o.threads);
    for (const auto &w : workloads)
        if (o.wants(w.name)) run(o, w);
}
