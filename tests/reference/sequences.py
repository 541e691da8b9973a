#!/usr/bin/env python3
"""Writes the reference data about ops for sequences and about softmax_xent with options, as make.py does about the other
ops:

    python3 tests/reference/sequences.py
"""

import torch
from torch.nn import functional as f

from make import case, indices, random_tensor, write_ops


def rotated(x, base, first):
    pairs = x.shape[-1] // 2
    position = torch.arange(first, first + x.shape[-2], dtype=x.dtype)
    angle = position[:, None] * base ** (-torch.arange(pairs, dtype=x.dtype) / pairs)
    point = torch.view_as_complex(x.reshape(*x.shape[:-1], pairs, 2))
    return torch.view_as_real(point * torch.polar(torch.ones_like(angle), angle)).reshape(x.shape)


def rope():
    for shape in ((5, 4), (2, 3, 6), (1, 2), (0, 4), (2, 2, 7, 8)):
        for first in (0, 11):
            yield from case(lambda x: rotated(x, 100.0, first), [random_tensor(shape)], ["number 100", f"axis {first}"])


CELLS = [((3,), 4, 2), ((), 2, 3), ((2, 2), 1, 1), ((0,), 2, 2)]


def cell(gates, step, states):
    for batch, inputs, size in CELLS:
        yield from case(step, [random_tensor((*batch, inputs)), *(random_tensor((*batch, size)) for _ in range(states)),
                               random_tensor((gates * size, inputs)), random_tensor((gates * size, size)),
                               random_tensor((gates * size,)), random_tensor((gates * size,))])


def lstm(part):
    def step(x, h, c, *weights):
        flat = [t.reshape(-1, t.shape[-1]) for t in (x, h, c)]
        return torch.lstm_cell(flat[0], flat[1:], *weights)[part].reshape(h.shape)

    return lambda: cell(4, step, 2)


def gru_cell():
    def step(x, h, *weights):
        return torch.gru_cell(x.reshape(-1, x.shape[-1]), h.reshape(-1, h.shape[-1]), *weights).reshape(h.shape)

    yield from cell(3, step, 1)


# ---- softmax_xent with options ---------------------------------------------------------------------------------------


def xent(shape, soft, weighted, ignored, smoothing):
    classes = shape[-1]
    x, w = random_tensor(shape, -5, 5), random_tensor((classes,), 0, 3)
    t = torch.softmax(random_tensor(shape), -1) if soft else indices(shape[:-1], classes)
    if ignored is not None:
        t.flatten()[0] = ignored

    def loss(x, t, w=None):
        flat = t.reshape(-1, classes) if soft else t.reshape(-1)
        options = {} if ignored is None else {"ignore_index": ignored}
        each = f.cross_entropy(x.reshape(-1, classes), flat, w, reduction="none", label_smoothing=smoothing, **options)
        return each.reshape(shape[:-1])

    attributes = [f"number {smoothing}"] + ([f"shape {ignored}"] if ignored is not None else [])
    # PyTorch takes no gradient for the weights.
    for lines in [case(loss, [x, t], attributes)] if not weighted else [weighted_case(loss, x, t, w, attributes)]:
        yield from lines


def weighted_case(loss, x, t, w, attributes):
    """The formula itself, where the weights need a gradient, after it was compared with PyTorch's."""
    smoothing = float(attributes[0].split()[1])
    ignored = int(attributes[1].split()[1]) if len(attributes) > 1 else None

    def formula(x, t, w):
        weighted = w * torch.log_softmax(x, -1)
        if t.is_floating_point():
            return -((t * (1 - smoothing) + smoothing / x.shape[-1]) * weighted).sum(-1)
        kept = t != ignored if ignored is not None else torch.ones_like(t, dtype=torch.bool)
        at = torch.where(kept, t, 0)[..., None]
        each = -(1 - smoothing) * weighted.gather(-1, at).squeeze(-1) - smoothing * weighted.mean(-1)
        return torch.where(kept, each, 0)

    torch.testing.assert_close(formula(x, t, w), loss(x, t, w))
    yield from case(formula, [x, t, w], attributes)


def softmax_xent_with():
    for shape in ((4, 5), (3,), (2, 3, 4)):
        for weighted in (False, True):
            for smoothing in (0.0, 0.25, 1.0):
                yield from xent(shape, True, weighted, None, smoothing)
                for ignored in (None, -100, 1):
                    yield from xent(shape, False, weighted, ignored, smoothing)


# ---- attention -------------------------------------------------------------------------------------------------------

ATTENTION = [((), 5, 7, 4, 3), ((2,), 3, 3, 2, 2), ((2, 3), 4, 5, 1, 6), ((), 1, 1, 1, 1), ((0,), 2, 3, 2, 2),
             ((2,), 0, 3, 2, 2), ((), 70, 150, 1, 1)]


def attention_case(stack, t, s, d, e, causal, mask, scale):
    def function(q, k, v, m=None):
        scores = q @ k.transpose(-1, -2) * scale
        if causal:
            scores = scores.masked_fill(~torch.ones(t, s, dtype=torch.bool).tril(), -float("inf"))
        if m is not None:
            scores = scores + m
        return torch.softmax(scores, -1) @ v

    q, k, v = (random_tensor((*stack, *shape)) for shape in ((t, d), (s, d), (s, e)))
    inputs = [q, k, v] if mask is None else [q, k, v, random_tensor(mask)]
    if mask is None and stack and t:
        torch.testing.assert_close(function(q, k, v),
                                   f.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale))
    yield from case(function, inputs, [f"number {scale}", *["reverse"] * causal])


def attention():
    for stack, t, s, d, e in ATTENTION:
        for causal in (False, True):
            yield from attention_case(stack, t, s, d, e, causal, None, 0.5)
            yield from attention_case(stack, t, s, d, e, causal, (s,), 0.75)
    yield from attention_case((2, 3), 4, 5, 2, 2, False, (3, 1, 5), 0.5)
    yield from attention_case((2,), 4, 5, 2, 2, True, (), -0.5)
    yield from attention_case((2,), 4, 5, 2, 2, False, (2, 4, 1), 0.5)
    yield from attention_case((), 4, 5, 2, 2, True, (4, 5), 0.5)


OPS = {"rope": rope, "lstm_cell_h": lstm(0), "lstm_cell_c": lstm(1), "gru_cell": gru_cell,
       "softmax_xent_with": softmax_xent_with, "attention": attention}

if __name__ == "__main__":
    write_ops(OPS, "sequences.py")
