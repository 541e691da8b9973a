"""The cases of bench/scalar.c, gemm.c, ops.c, sweep.c and jacobians.c in PyTorch.

    torch_ops.py [--compile] [--threads N] [--only TEXT] [check]

With --compile, those cases that torch.compile can do better than call one kernel, and fewer points of a series.
"""

import math
import statistics
import time

import torch
from torch.nn import functional as f

import peer

SIZES = {"64Ki": (64 << 10, 256), "16Mi": (16 << 20, 4096)}


def sines(shape, step, dtype=torch.float32):
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    return torch.sin(step * places + 1).to(dtype).reshape(shape)


def fingerprint(array):
    flat = array.detach().double().flatten()
    return peer.fingerprint(flat, torch.arange(flat.numel()))


class Runner:
    """Does what the command line asks of each case."""

    def __init__(self, options):
        self.options = options

    def wants(self, name):
        return self.options.only in name

    def made(self, function):
        """A function as it is, or compiled. Its gradient is then compiled with it."""
        return torch.compile(function, dynamic=False) if self.options.compile else function

    def run(self, name, what, call, number=None, unit="us", scale=1e6):
        """`call` is measured; checked is its result, or what `number` makes of that."""
        if not self.wants(name):
            return
        if self.options.check:
            peer.report(name, what, (number or fingerprint)(call()))
        else:
            peer.report(name, unit, scale * peer.measure(call))


# ---- scalars ---------------------------------------------------------------------------------------------------------


def chain(n):
    x, b, c = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 1 - 1e-6, 1e-6))
    y = x
    for _ in range(n // 2):
        y = y * b + c
    return x, y


def record_and_back(n):
    start = time.perf_counter()
    x, y = chain(n)
    recorded = time.perf_counter()
    y.backward()
    return recorded - start, time.perf_counter() - recorded, x.grad.item()


def scalars(runner):
    """A chain of 1e6 operations would take seconds, and say the same."""
    for n in ("1e3", "1e4", "1e5"):
        names = [f"scalar f64 {what} ops={n}" for what in ("record", "back")]
        if not any(map(runner.wants, names)):
            continue
        runs = [record_and_back(int(float(n))) for _ in range(1 if runner.options.check else 4)]
        for part, name in enumerate(names):
            if runner.wants(name) and runner.options.check:
                peer.report(name, "dy/dx", runs[0][2])
            elif runner.wants(name):
                peer.report(name, "ns/op", 1e9 / float(n) * statistics.median(run[part] for run in runs[1:]))


# ---- matrix products -------------------------------------------------------------------------------------------------

SQUARES = {
    "f32": (torch.float32, (8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
    "f64": (torch.float64, (8, 16, 32, 64, 128, 256, 512, 1024)),
}
OTHERS = [("nn", 64, 256, 784), ("nt", 64, 256, 784), ("tn", 784, 256, 64), ("nn", 64, 10, 256), ("nt", 64, 10, 256)]


def products(runner):
    for dtype, (torch_dtype, squares) in SQUARES.items():
        cases = [("nn", n, n, n) for n in squares] + [(way, 256, 256, 256) for way in ("nt", "tn", "tt")]
        for way, m, n, k in cases + (OTHERS if dtype == "f32" else []):
            size = f"n={n}" if m == n == k else f"{m}x{n}x{k}"
            name = f"gemm {dtype} {way} {size}"
            if not runner.wants(name):
                continue
            a = sines((k, m), 0.37, torch_dtype).T if way[0] == "t" else sines((m, k), 0.37, torch_dtype)
            b = sines((n, k), 0.73, torch_dtype).T if way[1] == "t" else sines((k, n), 0.73, torch_dtype)
            runner.run(name, "product", lambda a=a, b=b: a @ b)


# ---- single operations -----------------------------------------------------------------------------------------------


# Name: function of x and the constants; whether x is square; whether the way back is measured.
OPERATIONS = {
    "add": (lambda x, c: x + c["seed"], False, False),
    "exp": (lambda x, c: torch.exp(x), False, True),
    "tanh": (lambda x, c: torch.tanh(x), False, True),
    "erf": (lambda x, c: torch.erf(x), False, True),
    "gelu": (lambda x, c: f.gelu(x), False, True),
    "softmax": (lambda x, c: torch.softmax(x, -1), False, True),
    "layer_norm": (lambda x, c: f.layer_norm(x, x.shape[-1:], c["gain"], c["shift"]), False, True),
    "transpose": (lambda x, c: x.T.contiguous(), True, True),
    "sum": (lambda x, c: x.sum(), False, False),
}
WORTH_COMPILING = {"exp", "gelu", "softmax", "layer_norm"}  # each takes seconds to compile


def single(runner, size):
    n, side = SIZES[size]
    arrays = {}
    for operation, (function, is_square, has_gradient) in OPERATIONS.items():
        if runner.options.compile and operation not in WORTH_COMPILING:
            continue
        value, gradient = (f"{operation} f32 n={size}: {what}" for what in ("value", "gradient"))
        if not runner.wants(value) and not (has_gradient and runner.wants(gradient)):
            continue
        if not arrays:
            arrays = {"x": sines((n,), 0.37), "seed": sines((n,), 0.73)}
        shape = (side, side) if is_square else (n // 1024, 1024)
        c = {"seed": arrays["seed"].reshape(shape), "gain": sines(shape[1:], 0.11), "shift": sines(shape[1:], 0.13)}
        x = arrays["x"].reshape(shape).detach().requires_grad_(has_gradient)
        function = runner.made(function)

        def back():
            return torch.autograd.grad(function(x, c), x, c["seed"])[0]

        runner.run(value, "result", lambda: function(x, c))
        if has_gradient:
            runner.run(gradient, "result", back)


def adamw(runner, size):
    name = f"adamw f32 n={size}"
    if not runner.wants(name):
        return
    w = sines((SIZES[size][0],), 0.37).requires_grad_()
    w.grad = sines(w.shape, 0.73)
    optimizer = torch.optim.AdamW([w], lr=1e-3, weight_decay=0.01, fused=True)

    def weights(_):
        for _ in range(2):  # after the first
            optimizer.step()
        return fingerprint(w)

    runner.run(name, "weights", optimizer.step, weights)


CHAIN_LENGTH = 100


def small(runner, n):
    x, b, c = sines((n,), 0.37).requires_grad_(), sines((n,), 0.002), sines((n,), 0.13)

    def chain(x):
        for _ in range(CHAIN_LENGTH // 2):
            x = x * b + c
        return x.sum()

    chain = runner.made(chain)

    def chain_and_back():
        return torch.autograd.grad(chain(x), x)[0]

    runner.run(f"small ops f32 n={n}", "gradient", chain_and_back, unit="ns/op", scale=1e9 / CHAIN_LENGTH)


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def sweep(runner, series, w, loss):
    """Value and gradient of a loss of parameters w."""
    loss = runner.made(loss)

    def gradient():
        return torch.autograd.grad(loss(), w)

    runner.run(f"{series}: value", "value", loss, lambda value: value.item())
    runner.run(f"{series}: gradient", "gradient", gradient, lambda gradients: sum(map(fingerprint, gradients)))


def attention(runner, steps):
    w = [sines((1, 4, steps, 64), 0.37 + 0.1 * i).requires_grad_() for i in range(3)]
    loss = lambda: f.scaled_dot_product_attention(*w, is_causal=True).square().mean()
    sweep(runner, f"attention f32 T={steps}", w, loss)


def weight(outputs, inputs):
    places = torch.arange(outputs * inputs, dtype=torch.float64)
    return (math.sqrt(2.0 / inputs) * torch.sin(1.7 * places + 1)).float().reshape(outputs, inputs)


def mlp(runner, series, width, batch):
    x = torch.sin(0.37 * torch.arange(batch * width, dtype=torch.float64)).float().reshape(batch, width)
    w = []
    for _ in range(3):
        w += [weight(width, width).requires_grad_(), torch.zeros(width, requires_grad=True)]

    def loss():
        h = x
        for k in range(3):
            h = torch.relu(f.linear(h, w[2 * k], w[2 * k + 1]))
        return h.square().mean()

    sweep(runner, series, w, loss)


# ---- Jacobians -------------------------------------------------------------------------------------------------------


def layers(outputs):
    """A function of x, and x."""
    w = []
    for start, end in ((100, 256), (256, 256), (256, outputs)):
        w += [weight(end, start), torch.zeros(end)]

    def last_layer(x):
        h = torch.tanh(f.linear(x, w[0], w[1]))
        return f.linear(torch.tanh(f.linear(h, w[2], w[3])), w[4], w[5])

    return last_layer, torch.sin(0.37 * torch.arange(100, dtype=torch.float64)).float()


def jacobians(runner):
    for name, derivative, outputs in (
        ("jacobian f32 100x100", torch.func.jacrev, 100),
        ("jacobian f32 400x100", torch.func.jacfwd, 400),
        ("hessian f32 100x100", torch.func.hessian, 100),
    ):
        if not runner.wants(name):
            continue
        function, x = layers(outputs)
        energy = lambda x, function=function: function(x).square().mean()
        matrix = runner.made(derivative(energy if name.startswith("hessian") else function))
        runner.run(name, "matrix", lambda: matrix(x))


def main():
    options = peer.arguments("--compile")
    torch.set_num_threads(options.threads)
    runner = Runner(options)
    if not options.compile:
        if options.threads == 1:
            scalars(runner)
        products(runner)
    for n in (10, 100, 1000):
        small(runner, n)
    for size in SIZES:
        single(runner, size)
        if not options.compile:
            adamw(runner, size)
    jacobians(runner)
    every = 2 if options.compile else 1
    if not options.compile:
        for steps in (64, 128, 256, 512, 1024, 2048):
            attention(runner, steps)
    for width in (16, 32, 64, 128, 256, 512, 1024)[::every]:
        mlp(runner, f"mlp f32 width={width}", width, 64)
    for batch in (1, 4, 16, 64, 256, 1024)[::every]:
        mlp(runner, f"mlp f32 batch={batch}", 256, batch)


main()
