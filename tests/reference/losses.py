#!/usr/bin/env python3
"""Writes the reference data about losses, as make.py does about the other ops:

    python3 tests/reference/losses.py
"""

import torch
from torch.nn import functional as f

from make import case, numbers, random_tensor, write_ops

SHAPES = [(3, 4), (), (5,), (2, 3, 4), (0, 3), (1,)]


def probabilities(shape):
    return torch.sigmoid(random_tensor(shape))


def two(function, first=random_tensor, second=random_tensor, attributes=(), shapes=SHAPES):
    for shape in shapes:
        yield from case(function, [first(shape), second(shape)], list(attributes))


def mse():
    yield from two(lambda a, t: f.mse_loss(a, t, reduction="none"))


def l1():
    yield from two(lambda a, t: f.l1_loss(a, t, reduction="none"))


def huber():
    for delta in (0.5, 2.0):
        yield from two(lambda a, t: f.huber_loss(a, t, reduction="none", delta=delta),
                       attributes=[f"number {delta}"])


def bce():
    yield from two(lambda p, t: -(t * torch.log(p) + (1 - t) * torch.log1p(-p)), probabilities, probabilities)


def bce_with_logits():
    yield from two(lambda x, t: f.binary_cross_entropy_with_logits(x, t, reduction="none"), random_tensor,
                   probabilities)
    x, t = numbers([-800, 800, -800, 800, 0]), numbers([0, 1, 1, 0, 0.5])
    yield from case(lambda x, t: f.binary_cross_entropy_with_logits(x, t, reduction="none"), [x, t], only_f64=True)


def kl_div():
    yield from two(lambda x, t: t * (torch.log(t) - x), random_tensor, probabilities)


def nll():
    for shape in ((4, 5), (3,), (2, 3, 4)):
        x = torch.log_softmax(random_tensor(shape), -1)
        index = torch.arange(x[..., 0].numel()).reshape(x.shape[:-1]) % shape[-1]
        yield from case(lambda x, i: -torch.gather(x, -1, i.unsqueeze(-1)).squeeze(-1), [x, index])


def poisson_nll():
    yield from two(lambda x, t: f.poisson_nll_loss(x, t, log_input=True, full=False, reduction="none"))


def gaussian_nll():
    for shape in SHAPES:
        inputs = [random_tensor(shape), probabilities(shape) + 0.25, random_tensor(shape)]
        yield from case(lambda m, v, t: 0.5 * (torch.log(v) + (t - m) ** 2 / v), inputs)


def gaussian_kl():
    yield from two(lambda m, s: 0.5 * (m**2 + torch.exp(s) - 1 - s))


def hinge():
    yield from two(lambda a, t: torch.clamp(1 - a * t, min=0))


def cosine_loss():
    yield from two(lambda a, b: 1 - f.cosine_similarity(a, b, dim=-1), shapes=[(3, 4), (5,), (2, 3, 4)])


def triplet_loss():
    for shape in ((3, 4), (5,), (2, 3, 4)):
        yield from case(
            lambda a, p, n: torch.relu(torch.linalg.norm(a - p, dim=-1) - torch.linalg.norm(a - n, dim=-1) + 2.5),
            [random_tensor(shape) for _ in range(3)], ["number 2.5"])


def ctc_loss():
    """Through log_softmax, which PyTorch's gradient takes for granted."""
    for steps, examples, classes, longest, blank in ((5, 2, 4, 2, 0), (7, 3, 3, 3, 2), (1, 1, 2, 1, 0), (4, 2, 3, 0, 1), (12, 4, 5, 4, 0)):
        labels = [c for c in range(classes) if c != blank]
        target = torch.tensor([[labels[(i * 5 + k * 3 + i * k) % len(labels)] for k in range(longest)] for i in range(examples)],
                              dtype=torch.int64).reshape(examples, longest)
        length = torch.tensor([longest - i % (longest + 1) if steps > 1 else longest for i in range(examples)])
        step_count = torch.tensor([steps - i % 2 for i in range(examples)])
        yield from case(lambda x, t, n, l: f.ctc_loss(torch.log_softmax(x, -1), t, n, l, blank, reduction="none"),
                        [random_tensor((steps, examples, classes)), target, step_count, length], [f"axis {blank}"])


OPS = {op.__name__: op for op in (mse, l1, huber, bce, bce_with_logits, kl_div, nll, poisson_nll, gaussian_nll,
                                  gaussian_kl, hinge, cosine_loss, triplet_loss, ctc_loss)}

if __name__ == "__main__":
    write_ops(OPS, "losses.py")
