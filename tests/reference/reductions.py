#!/usr/bin/env python3
"""Writes the reference data about reductions and scans, as make.py does about the other ops:

    python3 tests/reference/reductions.py
"""

import random

import torch

from make import INF, case, numbers, random_tensor, reductions, write_ops


def distinct(shape):
    """No two are equal: which of equal ones gets the gradient, PyTorch leaves open."""
    count = torch.Size(shape).numel()
    values = random.sample(range(-256, 257), count)
    return torch.tensor(values, dtype=torch.float64).reshape(shape) / 64


def with_zeros(shape):
    x = random_tensor(shape)
    return torch.where(torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.2, 0, x)


SOME = [((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((5,), 0), ((2, 1), 1), ((2, 1, 2, 1, 3, 1, 2, 2), 4)]
ALONG = [*SOME, ((2, 3, 4), -1), ((0, 3), 1), ((6, 7), -2), ((3, 70), 0)]
SETS = [((3, 4), (0, 1)), ((3, 4), (0,)), ((2, 3, 4), (1,)), ((2, 3, 4), (-1, 0)), ((2, 1, 2, 1, 3, 1, 2, 2), (0, 4, -1))]


def along(function, sample=distinct, attributes=(), shapes=ALONG):
    """function(x, axis, keep)"""
    for shape, axis in shapes:
        for keep in (False, True):
            yield from case(lambda x: function(x, axis, keep), [sample(shape)],
                            [f"axis {axis}"] + ["keepdim"] * keep + list(attributes))


def some_reductions(function, attributes):
    for shape, axes in SETS:
        yield from case(lambda x: function(x, axes, False), [random_tensor(shape)],
                        ["axes" + "".join(f" {axis}" for axis in axes), *attributes])


def edge(function, attributes, *rows):
    """Rows of their own, in f64 alone, with cotangents of 1."""
    x = numbers(rows)
    yield from case(lambda x: function(x, 1, False), [x], ["axis 1", *attributes], only_f64=True,
                    seed=torch.ones(len(rows), dtype=torch.float64))


def edge_axes(function, attributes, *rows):
    yield from case(lambda x: function(x, (1,), False), [numbers(rows)], ["axes 1", *attributes], only_f64=True,
                    seed=torch.ones(len(rows), dtype=torch.float64))


def extremum(function):
    yield from along(lambda x, axis, keep: function(x, axis, keep))
    yield from edge(function, (), [-INF, INF, 1], [INF, -INF, 2], [5e-324, 0, -5e-324], [-1e308, 1e308, 0])


def argument(function):
    yield from along(lambda x, axis, keep: function(x, dim=axis, keepdim=keep))


def quantiles():
    for q in (0, 0.1, 0.25, 0.5, 0.9, 1):
        yield from along(lambda x, axis, keep: torch.quantile(x, q, axis, keep), attributes=[f"number {q}"], shapes=SOME)
    yield from edge(lambda x, axis, keep: torch.quantile(x, 0.5, axis, keep), ["number 0.5"], [3, -INF, INF],
                    [0, 1e300, 1e-300])


def scans(function, sample):
    for shape, axis in ALONG:
        yield from case(lambda x: function(x, axis), [sample(shape)], [f"axis {axis}"])
        yield from case(lambda x: function(x.flip(axis), axis).flip(axis), [sample(shape)], [f"axis {axis}", "reverse"])


def edge_scan(function, *rows):
    for row in rows:
        yield from case(lambda x: function(x, 0), [numbers(row)], ["axis 0"], only_f64=True)


def prod(x, dim, keep):
    for axis in sorted((axis % x.dim() for axis in dim), reverse=True):
        x = x.prod(axis, keep)
    return x


def products():
    yield from reductions(prod)
    yield from edge_axes(prod, (), [0, 2, 3], [0, 0, 3], [0, 0, 0], [1e200, 1e-200, 1e200], [-1, -2, -0.5])


def moments(function):
    yield from reductions(lambda x, dim, keep: function(x, dim, correction=0, keepdim=keep), ["number 0"])
    for correction in (1, 0.5):
        yield from some_reductions(lambda x, dim, keep: function(x, dim, correction=correction, keepdim=keep),
                                   [f"number {correction}"])
    yield from edge_axes(lambda x, dim, keep: function(x, dim, correction=1, keepdim=keep), ["number 1"],
                         [1e9, 1e9 + 1, 1e9 + 2], [1e-160, 2e-160, 4e-160], [1e150, -1e150, 0])


def logsumexp(x, dim, keep):
    return torch.logsumexp(x, dim, keep)


def logsumexps():
    yield from reductions(logsumexp)
    yield from edge_axes(logsumexp, (), [1000, 1000, 999], [-1000, -1001, -3000], [-INF, 0, 1], [700, -INF, -INF])


def norm(p):
    return lambda x, dim, keep: torch.linalg.vector_norm(x, p, dim, keep)


def norms():
    yield from reductions(norm(2), ["number 2"])
    for p in (1, INF, 3, 1.5, 0.5):
        yield from some_reductions(norm(p), [f"number {p}"])
    for p in (1, 2, INF, 3):
        yield from edge_axes(norm(p), [f"number {p}"], [0, -3, 4], [-1, 0, 0])


def traces():
    for shape in [(3, 3), (3, 4), (2, 4, 3), (2, 1, 2, 2), (1, 1), (3, 0)]:
        yield from case(lambda x: x.diagonal(0, -2, -1).sum(-1), [random_tensor(shape)])


def ties(function):
    """Reduced dimensions of even split: few different numbers."""
    yield from reductions(function)
    yield from edge_axes(function, (), [1, 1, 0], [2, 2, 2], [-1, 3, 3], [INF, -INF, INF])


OPS = {
    "prod": products,
    "variance": lambda: moments(torch.var),
    "std": lambda: moments(torch.std),
    "trace": traces,
    "max": lambda: extremum(lambda x, axis, keep: x.max(axis, keep).values),
    "min": lambda: extremum(lambda x, axis, keep: x.min(axis, keep).values),
    "argmax": lambda: argument(torch.argmax),
    "argmin": lambda: argument(torch.argmin),
    "amax": lambda: ties(torch.amax),
    "amin": lambda: ties(torch.amin),
    "median": lambda: along(lambda x, axis, keep: x.median(axis, keep).values),
    "median_index": lambda: along(lambda x, axis, keep: x.median(axis, keep).indices),
    "quantile": quantiles,
    "logsumexp": logsumexps,
    "norm": norms,
    "cumsum": lambda: scans(torch.cumsum, random_tensor),
    "cumprod": lambda: scans(torch.cumprod, with_zeros),
    "logcumsumexp": lambda: (*scans(torch.logcumsumexp, random_tensor),
                             *edge_scan(torch.logcumsumexp, [0, 100, 200, 50], [-1000, 1000, -1000])),
    "cummax": lambda: scans(lambda x, axis: x.cummax(axis).values, distinct),
    "cummin": lambda: scans(lambda x, axis: x.cummin(axis).values, distinct),
    "count_nonzero": lambda: reductions(lambda x, dim, keep: x.count_nonzero(dim) if not keep else
                                        x.ne(0).sum(dim, keep)),
}


if __name__ == "__main__":
    write_ops(OPS, "reductions.py")
