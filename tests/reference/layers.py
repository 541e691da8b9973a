#!/usr/bin/env python3
"""Writes the reference data about normalization, convolution and pooling, as make.py does about the other ops:

    python3 tests/reference/layers.py

`axis` is how many axes are normalized, or the number of groups; `axes` are stride, padding, dilation and groups, in this
order, and for a transposed convolution the output padding.
"""

import torch
from torch.nn import functional as f

from make import case, random_tensor, write_ops

EPSILON = 1e-3


def norm(function, x, parameter, attributes=()):
    inputs = [random_tensor(x), *(random_tensor(shape) for shape in parameter)]
    yield from case(function, inputs, [f"number {EPSILON}", *attributes])


def layer_norm():
    for shape, k in (((3, 4), 1), ((2, 3, 4), 2), ((2, 3, 4), 1), ((2, 2, 5), 3), ((7,), 1), ((0, 3), 1), ((3, 40), 1)):
        last = shape[-k:]
        yield from norm(lambda x, w, b: f.layer_norm(x, last, w, b, EPSILON), shape, [last, last], [f"axis {k}"])


def rms_norm():
    for shape, k in (((3, 4), 1), ((2, 3, 4), 2), ((7,), 1), ((3, 40), 1)):
        last = shape[-k:]
        yield from norm(lambda x, w: f.rms_norm(x, last, w, EPSILON), shape, [last], [f"axis {k}"])


def batch_norm():
    for shape in ((5, 3), (3, 2, 4), (2, 3, 4, 5), (2, 2, 2, 3, 2)):
        c = (shape[1],)
        yield from norm(lambda x, w, b: f.batch_norm(x, None, None, w, b, True, 0, EPSILON), shape, [c, c])


def batch_norm_with():
    for shape in ((5, 3), (2, 3, 4, 5), (1, 2, 3), (0, 2, 2)):
        c = (shape[1],)
        inputs = [random_tensor(shape), random_tensor(c), random_tensor(c, 0.25, 2.0), random_tensor(c)]
        yield from case(lambda x, m, v, w: (x - each(m, x)) / torch.sqrt(each(v, x) + EPSILON) * each(w, x), inputs,
                        [f"number {EPSILON}"])


def each(parameter, x):
    return parameter.reshape(-1, *[1] * (x.dim() - 2))


def group_norm():
    for shape, groups in (((2, 4, 3), 2), ((2, 6, 2, 3), 3), ((3, 4), 1), ((2, 3, 4, 5), 3)):
        c = (shape[1],)
        yield from norm(lambda x, w, b: f.group_norm(x, groups, w, b, EPSILON), shape, [c, c], [f"axis {groups}"])


OPS = {op.__name__: op for op in (layer_norm, rms_norm, batch_norm, batch_norm_with, group_norm)}

if __name__ == "__main__":
    write_ops(OPS, "layers.py")
