// The cases of bench/scalar.c and those of ops.c and sweep.c where the way to the kernels counts, in PyTorch without Python.
#include "peer.hpp"

#include <torch/torch.h>

namespace {

constexpr int chain_length = 100, layers = 3;

torch::Tensor number(double value) { return torch::tensor(value, torch::dtype(torch::kFloat64)).requires_grad_(); }

torch::Tensor sines(at::IntArrayRef shape, double step, double size = 1, double start = 1) {
    const auto places = torch::arange(c10::multiply_integers(shape), torch::dtype(torch::kFloat64));
    return (size * torch::sin(step * places + start)).to(torch::kFloat32).reshape(shape);
}

double fingerprint(const torch::Tensor &array) {
    const auto flat = array.detach().contiguous();
    return peer::fingerprint(flat.data_ptr<float>(), flat.numel());
}

void run_scalars(const peer::options &o) {
    torch::Tensor x, y;
    const auto record = [&](long n) {
        x = number(1.0);
        const auto b = number(1 - 1e-6), c = number(1e-6);
        y = x;
        for (long i = 0; i < n; i += 2) y = y * b + c;
    };
    const auto back = [&] {
        y.backward();
        return x.grad().item<double>();
    };
    peer::scalars(o, {"1e3", "1e4", "1e5"}, record, back);
}

void run_small(const peer::options &o, long n) {
    const std::string name = "small ops f32 n=" + std::to_string(n);
    if (!o.wants(name)) return;
    const auto x = sines({n}, 0.37).requires_grad_(), b = sines({n}, 0.002), c = sines({n}, 0.13);
    const auto chain_and_back = [&] {
        auto y = x;
        for (int i = 0; i < chain_length; i += 2) y = y * b + c;
        return torch::autograd::grad({y.sum()}, {x})[0];
    };
    if (o.check)
        peer::report(name, "gradient", fingerprint(chain_and_back()));
    else
        peer::report(name, "ns/op", 1e9 / chain_length * peer::measure(o, [&] { chain_and_back(); }));
}

void run_mlp(const peer::options &o, const std::string &series, long width, long batch) {
    const std::string value = series + ": value", gradient = series + ": gradient";
    if (!o.wants(value) && !o.wants(gradient)) return;
    const auto x = sines({batch, width}, 0.37, 1, 0);
    std::vector<torch::Tensor> w;
    for (int k = 0; k < layers; k++) {
        w.push_back(sines({width, width}, 1.7, std::sqrt(2.0 / static_cast<double>(width))).requires_grad_());
        w.push_back(torch::zeros({width}).requires_grad_());
    }
    const auto loss = [&] {
        auto h = x;
        for (size_t k = 0; k < layers; k++) h = torch::relu(torch::linear(h, w[2 * k], w[2 * k + 1]));
        return h.square().mean();
    };
    const auto back = [&] { return torch::autograd::grad({loss()}, w); };
    if (o.wants(value) && o.check) peer::report(value, "value", loss().item<double>());
    if (o.wants(value) && !o.check) peer::report(value, "us", 1e6 * peer::measure(o, [&] { loss(); }));
    if (o.wants(gradient) && o.check) {
        double sum = 0;
        for (const auto &array : back()) sum += fingerprint(array);
        peer::report(gradient, "gradient", sum);
    }
    if (o.wants(gradient) && !o.check) peer::report(gradient, "us", 1e6 * peer::measure(o, [&] { back(); }));
}

} // namespace

int main(int argc, char **argv) {
    const peer::options o(argc, argv);
    torch::set_num_threads(o.threads);
    run_scalars(o);
    for (long n : {10, 100, 1000}) run_small(o, n);
    for (long width = 16; width <= 1024; width *= 2) run_mlp(o, "mlp f32 width=" + std::to_string(width), width, 64);
    for (long batch = 1; batch <= 1024; batch *= 4) run_mlp(o, "mlp f32 batch=" + std::to_string(batch), 256, batch);
}
