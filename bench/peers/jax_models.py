"""The workloads of bench/models.c in JAX, each step (loss, gradient, update) as one jitted function, its weights given up
to the new ones.

    jax_models.py [--threads N] [--only TEXT] [check]
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import peer


def parameter(shape, size):
    return np.asarray(size * np.sin(1.7 * np.arange(math.prod(shape)) + 1.0), np.float32).reshape(shape)


def numbers(*shape):
    return jnp.asarray(np.sin(0.37 * np.arange(math.prod(shape))).reshape(shape), jnp.float32)


def indices(shape, factor, bound):
    return jnp.asarray((np.arange(math.prod(shape)) * factor % bound).reshape(shape), jnp.int32)


def dense(*sizes):
    made = []
    for start, end in zip(sizes, sizes[1:]):
        made += [parameter((end, start), math.sqrt(2.0 / start)), parameter((end,), 0.0)]
    return made


def linear(x, w, b):
    return x @ w.T + b


def cross_entropy(logits, label):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], -1).mean()


# ---- updates: (state, gradients) -> state ------------------------------------------------------------------------------


class Sgd:
    def __init__(self, rate=1e-3):
        self.rate = rate

    def start(self, w):
        return w

    def weights(self, state):
        return state

    def update(self, state, gradients):
        return [p - self.rate * g for p, g in zip(state, gradients)]


class AdamW:
    def start(self, w):
        return w, [jnp.zeros_like(p) for p in w], [jnp.zeros_like(p) for p in w], jnp.zeros(())

    def weights(self, state):
        return state[0]

    def update(self, state, gradients):
        w, m, v, count = state
        count = count + 1
        m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients)]
        v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradients)]
        along = lambda a, b: a / (1 - 0.9**count) / (jnp.sqrt(b / (1 - 0.999**count)) + 1e-8)
        return [p - 1e-3 * (along(a, b) + 0.01 * p) for p, a, b in zip(w, m, v)], m, v, count


# ---- perceptrons -------------------------------------------------------------------------------------------------------


def regression(batch):
    x, y = numbers(batch, 2), numbers(batch, 1)

    def loss(w):
        h = jax.nn.relu(linear(x, *w[0:2]))
        return jnp.square(linear(jax.nn.relu(linear(h, *w[2:4])), *w[4:6]) - y).mean()

    return loss, dense(2, 16, 16, 1), Sgd()


def digits(batch):
    x, label = numbers(batch, 64), indices((batch,), 1, 10)

    def loss(w):
        h = jax.nn.relu(linear(x, *w[0:2]))
        return cross_entropy(linear(h + jax.nn.relu(linear(h, *w[2:4])), *w[4:6]), label)

    return loss, dense(64, 128, 128, 10), AdamW()


def mlp(batch):
    x, label = numbers(batch, 784), indices((batch,), 1, 10)

    def loss(w):
        h = jax.nn.relu(linear(x, *w[0:2]))
        return cross_entropy(linear(jax.nn.relu(linear(h, *w[2:4])), *w[4:6]), label)

    return loss, dense(784, 256, 256, 10), Sgd()


# ---- images ------------------------------------------------------------------------------------------------------------


def convolution(start, end, kernel):
    size = math.sqrt(2.0 / (start * kernel * kernel))
    return [parameter((end, start, kernel, kernel), size), parameter((end,), 0.0)]


def conv(x, w, b, padding):
    y = jax.lax.conv_general_dilated(x, w, (1, 1), [(padding, padding)] * 2) + b[:, None, None]
    return jax.lax.reduce_window(jax.nn.relu(y), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def lenet(batch):
    x, label = numbers(batch, 1, 28, 28), indices((batch,), 1, 10)

    def loss(w):
        h = conv(conv(x, w[0], w[1], 2), w[2], w[3], 0).reshape(batch, -1)
        h = jax.nn.relu(linear(jax.nn.relu(linear(h, *w[4:6])), *w[6:8]))
        return cross_entropy(linear(h, *w[8:10]), label)

    return loss, [*convolution(1, 6, 5), *convolution(6, 16, 5), *dense(400, 120, 84, 10)], Sgd()


def cnn(batch):
    x, label = numbers(batch, 1, 28, 28), indices((batch,), 1, 10)

    def loss(w):
        h = conv(conv(x, w[0], w[1], 1), w[2], w[3], 1).reshape(batch, -1)
        return cross_entropy(linear(jax.nn.relu(linear(h, *w[4:6])), *w[6:8]), label)

    return loss, [*convolution(1, 32, 3), *convolution(32, 64, 3), *dense(64 * 7 * 7, 128, 10)], Sgd()


# ---- a small GPT -------------------------------------------------------------------------------------------------------

LAYERS, D, HEADS, TIME, VOCABULARY = 4, 128, 4, 64, 65


def layer_norm(x, gain, shift):
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(jnp.square(x - mean).mean(-1, keepdims=True) + 1e-5) * gain + shift


def gpt(batch):
    token, following = indices((batch, TIME), 7, VOCABULARY), indices((batch, TIME), 11, VOCABULARY)
    norm = lambda: [parameter((D,), 1.0), parameter((D,), 0.0)]
    weights = [parameter((VOCABULARY, D), 0.1), parameter((TIME, D), 0.1)]
    for _ in range(LAYERS):
        weights += [*norm(), *dense(D, 3 * D), *dense(D, D), *norm(), *dense(D, 4 * D), *dense(4 * D, D)]
    weights += norm()

    def loss(w):
        x = w[0][token] + w[1]
        for k in range(LAYERS):
            g1, s1, qkv, bqkv, o, bo, g2, s2, up, bup, down, bdown = w[2 + 12 * k : 14 + 12 * k]
            parts = jnp.split(linear(layer_norm(x, g1, s1), qkv, bqkv), 3, -1)
            q, k_, v = (part.reshape(batch, TIME, HEADS, D // HEADS) for part in parts)
            seen = jax.nn.dot_product_attention(q, k_, v, is_causal=True)
            x = x + linear(seen.reshape(batch, TIME, D), o, bo)
            hidden = jax.nn.gelu(linear(layer_norm(x, g2, s2), up, bup), approximate=True)
            x = x + linear(hidden, down, bdown)
        return cross_entropy(layer_norm(x, w[-2], w[-1]) @ w[0].T, following)

    return loss, weights, AdamW()


# ---- the others --------------------------------------------------------------------------------------------------------

STEPS, STATE, INPUTS = 64, 128, 64


def lstm(batch):
    x, h0 = numbers(STEPS, batch, INPUTS), numbers(batch, STATE)
    weights = [parameter((4 * STATE, INPUTS), 0.1), parameter((4 * STATE, STATE), 0.1)]

    def loss(w):
        def step(state, of_x):
            h, c = state
            i, f, g, o = jnp.split(of_x + linear(h, w[1], w[3]), 4, -1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        (h, _), _ = jax.lax.scan(step, (h0, h0), linear(x, w[0], w[2]))
        return jnp.square(h).mean()

    return loss, weights + [parameter((4 * STATE,), 0.0) for _ in range(2)], Sgd(1e-1)


NODES, EDGES = 10000, 100000


def gnn(_):
    x, label = numbers(NODES, 32), indices((NODES,), 3, 8)
    source, target = indices((EDGES,), 7919, NODES), indices((EDGES,), 104729, NODES)
    passed_on = lambda h: jax.ops.segment_sum(h[source], target, NODES)

    def loss(w):
        h = jax.nn.relu(passed_on(linear(x, *w[0:2])))
        return cross_entropy(passed_on(linear(0.1 * h, *w[2:4])), label)

    return loss, dense(32, 32, 8), Sgd()


def pinn(batch):
    x, t = numbers(batch, 1), numbers(batch, 1)

    def loss(w):
        def u(x, t):
            h = jnp.tanh(linear(jnp.concatenate([x, t], 1), *w[0:2]))
            return linear(jnp.tanh(linear(h, *w[2:4])), *w[4:6]).sum()

        u_x = jax.grad(u)
        u_xx = jax.grad(lambda x, t: u_x(x, t).sum())
        return jnp.square(jax.grad(u, 1)(x, t) - 0.1 * u_xx(x, t)).mean()

    return loss, dense(2, 32, 32, 1), AdamW()


def rosenbrock(n):
    def loss(w):
        x, y = w[0][:-1], w[0][1:]
        return (100 * jnp.square(y - x * x) + jnp.square(1 - x)).mean()

    return loss, [parameter((n,), 1.0)], Sgd()


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


def fingerprint(gradients):
    return sum(peer.fingerprint(np.asarray(g, np.float64).ravel(), np.arange(g.size)) for g in gradients)


def run(name, loss, w, optimizer, check):
    def step(state):
        value, gradients = jax.value_and_grad(loss)(optimizer.weights(state))
        return optimizer.update(state, gradients), value

    jitted = jax.jit(step, donate_argnums=0)
    state = optimizer.start([jnp.asarray(p) for p in w])
    if check:
        peer.report(name, "gradient", fingerprint(jax.jit(jax.grad(loss))(optimizer.weights(state))))
        state, _ = jitted(state)
        _, value = jitted(state)
        peer.report(name, "loss", float(value))
        return
    kept = [state]

    def call():
        kept[0], value = jitted(kept[0])
        jax.block_until_ready(value)

    peer.report(name, "us", 1e6 * peer.measure(call))


def main():
    options = peer.arguments()
    for name, make, size in WORKLOADS:
        if options.only in name:
            run(name, *make(size), options.check)


main()
