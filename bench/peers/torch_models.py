"""The workloads of bench/models.c in PyTorch: the same weights and data, so the same loss after the same steps.

    torch_models.py [--compile] [--threads N] [--only TEXT] [check]

Eager, or with --compile through torch.compile. Prints the lines that bench/bench.h describes.
"""

import math

import torch
from torch.nn import functional as f

import peer


def parameter(shape, size):
    count = math.prod(shape)
    values = [size * math.sin(1.7 * i + 1.0) for i in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(shape).requires_grad_()


def numbers(*shape):
    return torch.tensor([math.sin(0.37 * i) for i in range(math.prod(shape))], dtype=torch.float32).reshape(shape)


def indices(shape, factor, bound):
    return (torch.arange(math.prod(shape)) * factor % bound).reshape(shape)


def dense(*sizes):
    made = []
    for start, end in zip(sizes, sizes[1:]):
        made += [parameter((end, start), math.sqrt(2.0 / start)), parameter((end,), 0.0)]
    return made


def sgd(w, rate=1e-3):
    return torch.optim.SGD(w, lr=rate)


def adamw(w):
    return torch.optim.AdamW(w, lr=1e-3, weight_decay=0.01, fused=True)


# ---- perceptrons -----------------------------------------------------------------------------------------------------


def regression(batch):
    w, x, y = dense(2, 16, 16, 1), numbers(batch, 2), numbers(batch, 1)

    def loss():
        h = torch.relu(f.linear(x, w[0], w[1]))
        return f.mse_loss(f.linear(torch.relu(f.linear(h, w[2], w[3])), w[4], w[5]), y)

    return loss, w, sgd(w)


def digits(batch):
    w, x, label = dense(64, 128, 128, 10), numbers(batch, 64), indices((batch,), 1, 10)

    def loss():
        h = torch.relu(f.linear(x, w[0], w[1]))
        h = h + torch.relu(f.linear(h, w[2], w[3]))
        return f.cross_entropy(f.linear(h, w[4], w[5]), label)

    return loss, w, adamw(w)


def mlp(batch):
    w, x, label = dense(784, 256, 256, 10), numbers(batch, 784), indices((batch,), 1, 10)

    def loss():
        h = torch.relu(f.linear(x, w[0], w[1]))
        return f.cross_entropy(f.linear(torch.relu(f.linear(h, w[2], w[3])), w[4], w[5]), label)

    return loss, w, sgd(w)


# ---- images ----------------------------------------------------------------------------------------------------------


def convolution(start, end, kernel):
    return [parameter((end, start, kernel, kernel), math.sqrt(2.0 / (start * kernel * kernel))), parameter((end,), 0.0)]


def conv(x, w, b, padding):
    return f.max_pool2d(torch.relu(f.conv2d(x, w, b, padding=padding)), 2)


def lenet(batch):
    w = [*convolution(1, 6, 5), *convolution(6, 16, 5), *dense(400, 120, 84, 10)]
    x, label = numbers(batch, 1, 28, 28), indices((batch,), 1, 10)

    def loss():
        h = conv(conv(x, w[0], w[1], 2), w[2], w[3], 0).reshape(batch, -1)
        h = torch.relu(f.linear(torch.relu(f.linear(h, w[4], w[5])), w[6], w[7]))
        return f.cross_entropy(f.linear(h, w[8], w[9]), label)

    return loss, w, sgd(w)


def cnn(batch):
    w = [*convolution(1, 32, 3), *convolution(32, 64, 3), *dense(64 * 7 * 7, 128, 10)]
    x, label = numbers(batch, 1, 28, 28), indices((batch,), 1, 10)

    def loss():
        h = conv(conv(x, w[0], w[1], 1), w[2], w[3], 1).reshape(batch, -1)
        return f.cross_entropy(f.linear(torch.relu(f.linear(h, w[4], w[5])), w[6], w[7]), label)

    return loss, w, sgd(w)


# ---- a small GPT -----------------------------------------------------------------------------------------------------

LAYERS, D, HEADS, TIME, VOCABULARY = 4, 128, 4, 64, 65


def gpt(batch):
    token, following = indices((batch, TIME), 7, VOCABULARY), indices((batch, TIME), 11, VOCABULARY)
    norm = lambda: [parameter((D,), 1.0), parameter((D,), 0.0)]
    w = [parameter((VOCABULARY, D), 0.1), parameter((TIME, D), 0.1)]
    for _ in range(LAYERS):
        w += [*norm(), *dense(D, 3 * D), *dense(D, D), *norm(), *dense(D, 4 * D), *dense(4 * D, D)]
    w += norm()

    def heads(x):
        return x.reshape(batch, TIME, HEADS, D // HEADS).transpose(1, 2)

    def loss():
        x = w[0][token] + w[1]
        for k in range(LAYERS):
            g1, s1, qkv, bqkv, o, bo, g2, s2, up, bup, down, bdown = w[2 + 12 * k : 14 + 12 * k]
            q, k_, v = f.linear(f.layer_norm(x, (D,), g1, s1), qkv, bqkv).chunk(3, -1)
            seen = f.scaled_dot_product_attention(heads(q), heads(k_), heads(v), is_causal=True)
            x = x + f.linear(seen.transpose(1, 2).reshape(batch, TIME, D), o, bo)
            hidden = f.gelu(f.linear(f.layer_norm(x, (D,), g2, s2), up, bup), approximate="tanh")
            x = x + f.linear(hidden, down, bdown)
        logits = f.layer_norm(x, (D,), w[-2], w[-1]) @ w[0].T
        return f.cross_entropy(logits.reshape(-1, VOCABULARY), following.reshape(-1))

    return loss, w, adamw(w)


# ---- the others ------------------------------------------------------------------------------------------------------

STEPS, STATE, INPUTS = 64, 128, 64


def lstm(batch):
    x, h0 = numbers(STEPS, batch, INPUTS), numbers(batch, STATE)
    w = [parameter((4 * STATE, INPUTS), 0.1), parameter((4 * STATE, STATE), 0.1), *(parameter((4 * STATE,), 0.0) for _ in "ab")]

    def loss():
        _, h, _ = torch.lstm(x, (h0[None], h0[None]), w, True, 1, 0.0, True, False, False)
        return h.square().mean()

    return loss, w, sgd(w, 1e-1)


NODES, EDGES = 10000, 100000


def gnn(_):
    x = numbers(NODES, 32)
    source, target = indices((EDGES,), 7919, NODES), indices((EDGES,), 104729, NODES)
    label = indices((NODES,), 3, 8)
    w = dense(32, 32, 8)

    def passed_on(h):
        return torch.zeros(NODES, h.shape[1]).index_add(0, target, h.index_select(0, source))

    def loss():
        h = torch.relu(passed_on(f.linear(x, w[0], w[1])))
        return f.cross_entropy(passed_on(f.linear(0.1 * h, w[2], w[3])), label)

    return loss, w, sgd(w)


def pinn(batch):
    x, t = numbers(batch, 1).requires_grad_(), numbers(batch, 1).requires_grad_()
    w = dense(2, 32, 32, 1)

    def loss():
        h = torch.tanh(f.linear(torch.cat([x, t], 1), w[0], w[1]))
        u = f.linear(torch.tanh(f.linear(h, w[2], w[3])), w[4], w[5])
        u_x, u_t = torch.autograd.grad(u.sum(), [x, t], create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), x, create_graph=True)
        return (u_t - 0.1 * u_xx).square().mean()

    return loss, w, adamw(w)


def rosenbrock(n):
    w = [parameter((n,), 1.0)]

    def loss():
        x, y = w[0][:-1], w[0][1:]
        return (100 * (y - x * x).square() + (1 - x).square()).mean()

    return loss, w, sgd(w)


# name, what makes it, its size
WORKLOADS = [
    ("mlp 2-16-16-1 step, batch 1", regression, 1),
    ("mlp 2-16-16-1 step, batch 32", regression, 32),
    ("digits step, batch 64", digits, 64),
    ("mlp 784-256-256-10 step, batch 64", mlp, 64),
    ("lenet step, batch 64", lenet, 64),
    ("cnn step, batch 64", cnn, 64),
    ("gpt step, batch 8", gpt, 8),
    ("lstm step, batch 16", lstm, 16),
    ("gnn step, 1e4 nodes, 1e5 edges", gnn, NODES),
    ("pinn step, batch 1024", pinn, 1024),
    ("rosenbrock gradient, n 1e4", rosenbrock, 10000),
]
# torch.compile cannot differentiate a gradient that is part of the loss, and fails at torch.lstm.
NOT_COMPILED = {pinn, lstm}


def step(loss, w, optimizer):
    for p in w:
        p.grad = None
    value = loss()
    value.backward(inputs=w)
    optimizer.step()
    return value


def fingerprint(w):
    """Of the gradients; a parameter that the loss does not depend on has none."""
    return sum(peer.fingerprint(p.grad.double().flatten(), torch.arange(p.numel())) for p in w if p.grad is not None)


def main():
    options = peer.arguments("--compile")
    torch.set_num_threads(options.threads)
    for name, make, size in WORKLOADS:
        if options.only not in name or (options.compile and make in NOT_COMPILED):
            continue
        loss, w, optimizer = make(size)
        if options.compile:
            loss = torch.compile(loss)
        if options.check:
            step(loss, w, optimizer)
            peer.report(name, "gradient", fingerprint(w))
            peer.report(name, "loss", step(loss, w, optimizer).item())
        else:
            peer.report(name, "us", 1e6 * peer.measure(lambda: step(loss, w, optimizer)))


main()
