"""The cases of bench/gemm.c, ops.c, sweep.c and jacobians.c in JAX, each as one jitted function.

    jax_ops.py [--threads N] [--only TEXT] [check]
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

import peer

SIZES = {"64Ki": (64 << 10, 256), "16Mi": (16 << 20, 4096)}


def sines(shape, step, dtype=jnp.float32):
    places = np.arange(math.prod(shape), dtype=np.float64)
    return jnp.asarray(np.sin(step * places + 1).reshape(shape), dtype)


def fingerprint(array):
    flat = np.asarray(array, dtype=np.float64).ravel()
    return peer.fingerprint(flat, np.arange(flat.size))


class Runner:
    """Does what the command line asks of each case."""

    def __init__(self, options):
        self.options = options

    def wants(self, name):
        return self.options.only in name

    def run(self, name, what, function, inputs, number=None, unit="us", scale=1e6):
        """function(*inputs) is measured; checked is its result, or what `number` makes of that."""
        if not self.wants(name):
            return
        jitted = jax.jit(function)
        if self.options.check:
            peer.report(name, what, (number or fingerprint)(jitted(*inputs)))
        else:
            peer.report(name, unit, scale * peer.measure(lambda: jax.block_until_ready(jitted(*inputs))))


def pull(function):
    """x, seed -> the gradient at x."""
    return lambda x, seed, *more: jax.vjp(lambda x: function(x, seed, *more), x)[1](seed)[0]


# ---- matrix products -------------------------------------------------------------------------------------------------

SQUARES = {
    "f32": (jnp.float32, (8, 16, 32, 64, 128, 256, 512, 1024, 2048)),
    "f64": (jnp.float64, (8, 16, 32, 64, 128, 256, 512, 1024)),
}
OTHERS = [("nn", 64, 256, 784), ("nt", 64, 256, 784), ("tn", 784, 256, 64), ("nn", 64, 10, 256), ("nt", 64, 10, 256)]
PRODUCTS = {
    "nn": lambda a, b: a @ b,
    "nt": lambda a, b: a @ b.T,
    "tn": lambda a, b: a.T @ b,
    "tt": lambda a, b: a.T @ b.T,
}


def products(runner):
    for name_of_type, (dtype, squares) in SQUARES.items():
        cases = [("nn", n, n, n) for n in squares] + [(way, 256, 256, 256) for way in ("nt", "tn", "tt")]
        for way, m, n, k in cases + (OTHERS if name_of_type == "f32" else []):
            size = f"n={n}" if m == n == k else f"{m}x{n}x{k}"
            name = f"gemm {name_of_type} {way} {size}"
            if not runner.wants(name):
                continue
            a = sines((k, m) if way[0] == "t" else (m, k), 0.37, dtype)
            b = sines((n, k) if way[1] == "t" else (k, n), 0.73, dtype)
            runner.run(name, "product", PRODUCTS[way], (a, b))


# ---- single operations -----------------------------------------------------------------------------------------------


def layer_norm(x, seed, gain, shift):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * gain + shift


# Name: function of x, the seed, and two rows; whether x is square; whether the way back is measured.
OPERATIONS = {
    "add": (lambda x, seed, *_: x + seed, False, False),
    "exp": (lambda x, *_: jnp.exp(x), False, True),
    "tanh": (lambda x, *_: jnp.tanh(x), False, True),
    "erf": (lambda x, *_: jax.scipy.special.erf(x), False, True),
    "gelu": (lambda x, *_: jax.nn.gelu(x, approximate=False), False, True),
    "softmax": (lambda x, *_: jax.nn.softmax(x), False, True),
    "layer_norm": (layer_norm, False, True),
    "transpose": (lambda x, *_: x.T, True, True),
    "sum": (lambda x, *_: x.sum(), False, False),
}


def single(runner, size):
    n, side = SIZES[size]
    arrays = []
    for operation, (function, is_square, has_gradient) in OPERATIONS.items():
        value, gradient = (f"{operation} f32 n={size}: {what}" for what in ("value", "gradient"))
        if not runner.wants(value) and not (has_gradient and runner.wants(gradient)):
            continue
        arrays = arrays or [sines((n,), step) for step in (0.37, 0.73)]
        shape = (side, side) if is_square else (n // 1024, 1024)
        inputs = [array.reshape(shape) for array in arrays] + [sines(shape[1:], step) for step in (0.11, 0.13)]
        runner.run(value, "result", function, inputs)
        if has_gradient:
            runner.run(gradient, "result", pull(function), inputs)


CHAIN_LENGTH = 100


def small(runner, n):
    def chain(x, b, c):
        for _ in range(CHAIN_LENGTH // 2):
            x = x * b + c
        return x.sum()

    inputs = [sines((n,), step) for step in (0.37, 0.002, 0.13)]
    name = f"small ops f32 n={n}"
    runner.run(name, "gradient", jax.grad(chain), inputs, unit="ns/op", scale=1e9 / CHAIN_LENGTH)


def adamw(runner, size):
    """The memory of weights and moments is given up to the new ones, as one would when training."""
    name = f"adamw f32 n={size}"
    if not runner.wants(name):
        return

    def step(w, m, v, count, g):
        count = count + 1
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        update = m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return w - 1e-3 * (update + 0.01 * w), m, v, count

    w, g = sines((SIZES[size][0],), 0.37), sines((SIZES[size][0],), 0.73)
    state = [w, jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros(())]
    jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def call():
        state[:] = jitted(*state, g)
        jax.block_until_ready(state)

    if runner.options.check:
        for _ in range(3):
            call()
        peer.report(name, "weights", fingerprint(state[0]))
    else:
        peer.report(name, "us", 1e6 * peer.measure(call))


# ---- sweeps ----------------------------------------------------------------------------------------------------------


def sweep(runner, series, loss, w):
    """Value and gradient of a loss of parameters w."""
    runner.run(f"{series}: value", "value", loss, (w,), float)
    runner.run(f"{series}: gradient", "gradient", jax.grad(loss), (w,), lambda made: sum(map(fingerprint, made)))


def attention(runner, steps):
    series = f"attention f32 T={steps}"
    if not any(runner.wants(f"{series}: {what}") for what in ("value", "gradient")):
        return

    def loss(w):
        q, k, v = w
        return jnp.square(jax.nn.dot_product_attention(q, k, v, is_causal=True)).mean()

    # JAX wants [1,T,heads,features]; the data is [1,heads,T,features], and so is what is checked.
    w = [sines((1, 4, steps, 64), 0.37 + 0.1 * i).transpose(0, 2, 1, 3).copy() for i in range(3)]
    def turned(made):
        return sum(fingerprint(array.transpose(0, 2, 1, 3)) for array in made)

    runner.run(f"{series}: value", "value", loss, (w,), float)
    runner.run(f"{series}: gradient", "gradient", jax.grad(loss), (w,), turned)


def weight(outputs, inputs):
    flat = math.sqrt(2.0 / inputs) * np.sin(1.7 * np.arange(outputs * inputs) + 1)
    return jnp.asarray(flat.reshape(outputs, inputs), jnp.float32)


def mlp(runner, series, width, batch):
    if not any(runner.wants(f"{series}: {what}") for what in ("value", "gradient")):
        return
    x = jnp.asarray(np.sin(0.37 * np.arange(batch * width)).reshape(batch, width), jnp.float32)
    w = [weight(width, width), jnp.zeros(width, jnp.float32)] * 3

    def loss(w):
        h = x
        for k in range(3):
            h = jax.nn.relu(h @ w[2 * k].T + w[2 * k + 1])
        return jnp.square(h).mean()

    sweep(runner, series, loss, w)


# ---- Jacobians -------------------------------------------------------------------------------------------------------


def jacobians(runner):
    for name, derivative, outputs in (
        ("jacobian f32 100x100", jax.jacrev, 100),
        ("jacobian f32 400x100", jax.jacfwd, 400),
        ("hessian f32 100x100", jax.hessian, 100),
    ):
        if not runner.wants(name):
            continue
        w = [weight(end, start) for start, end in ((100, 256), (256, 256), (256, outputs))]

        def last_layer(x, w):
            return jnp.tanh(jnp.tanh(x @ w[0].T) @ w[1].T) @ w[2].T

        def energy(x, w):
            return jnp.square(last_layer(x, w)).mean()

        x = jnp.asarray(np.sin(0.37 * np.arange(100)), jnp.float32)
        runner.run(name, "matrix", derivative(energy if name.startswith("hessian") else last_layer), (x, w))


def main():
    jax.config.update("jax_enable_x64", True)
    runner = Runner(peer.arguments())
    products(runner)
    for n in (10, 100, 1000):
        small(runner, n)
    for size in SIZES:
        single(runner, size)
        adamw(runner, size)
    jacobians(runner)
    for steps in (64, 128, 256, 512, 1024, 2048):
        attention(runner, steps)
    for width in (16, 32, 64, 128, 256, 512, 1024):
        mlp(runner, f"mlp f32 width={width}", width, 64)
    for batch in (1, 4, 16, 64, 256, 1024):
        mlp(runner, f"mlp f32 batch={batch}", 256, batch)


main()
