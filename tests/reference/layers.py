#!/usr/bin/env python3
"""Writes the reference data about normalization, convolution and pooling, as make.py does about the other ops:

    python3 tests/reference/layers.py

`axis` is how many axes are normalized, or the number of groups; `axes` are stride, padding and dilation (two each), groups
and output padding of a convolution; or kernel, stride and padding of pooling, then
dilation (max) or whether padding is excluded (avg), and whether to round up.
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


# x, w, stride, padding, dilation, groups
CONVOLUTIONS = [((2, 3, 5, 4), (4, 3, 3, 2), (1, 1), (0, 0), (1, 1), 1), ((1, 4, 6, 7), (6, 2, 3, 3), (2, 2), (1, 1), (1, 1), 2),
                ((2, 2, 7, 6), (2, 1, 3, 2), (2, 1), (2, 1), (1, 3), 2), ((2, 3, 2, 4), (5, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1),
                ((1, 2, 5, 5), (3, 2, 1, 1), (2, 3), (1, 0), (1, 1), 1), ((1, 1, 3, 3), (1, 1, 3, 3), (1, 1), (3, 3), (2, 2), 1)]


def convolution(function, bias, cases=CONVOLUTIONS, output_padding=0):
    for x, w, stride, padding, dilation, groups in cases:
        inputs = [random_tensor(x), random_tensor(w), random_tensor((bias(w, groups),))]
        numbers = (*stride, *padding, *dilation, groups, output_padding)
        yield from case(lambda x, w, b: function(x, w, b, stride, padding, dilation, groups), inputs,
                        ["axes" + "".join(f" {n}" for n in numbers)])


def conv2d():
    yield from convolution(lambda x, w, b, s, p, d, g: f.conv2d(x, w, b, s, p, d, g), lambda w, g: w[0])


def conv1d():
    cases = [((2, 3, 7), (4, 3, 3), (1, 1), (0, 0), (1, 1), 1), ((1, 4, 8), (2, 2, 3), (2, 1), (1, 0), (2, 1), 2),
             ((3, 2, 5), (2, 2, 1), (1, 1), (0, 0), (1, 1), 1)]
    yield from convolution(lambda x, w, b, s, p, d, g: f.conv1d(x, w, b, s[0], p[0], d[0], g), lambda w, g: w[0], cases)


def conv_transpose2d():
    transposed = [((2, 4, 3, 2), *CONVOLUTIONS[0][1:]), ((1, 6, 2, 3), *CONVOLUTIONS[1][1:]),
                  ((1, 2, 4, 3), (2, 3, 2, 2), (3, 2), (1, 0), (1, 2), 1), ((2, 5, 2, 3), *CONVOLUTIONS[3][1:])]
    for output_padding in (0, 1):
        yield from convolution(lambda x, w, b, s, p, d, g: f.conv_transpose2d(x, w, b, s, p, output_padding, g, d),
                               lambda w, g: w[1] * g, transposed if output_padding == 0 else transposed[1:3], output_padding)


# x, kernel, stride, padding, dilation, ceil
POOLS = [((2, 3, 4, 6), (2, 2), (2, 2), (0, 0), 1, False), ((1, 2, 5, 7), (3, 2), (2, 1), (1, 0), 1, False),
         ((2, 1, 6, 5), (2, 5), (3, 1), (1, 2), 1, False), ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0), 1, False),
         ((1, 2, 6, 7), (2, 2), (1, 2), (1, 0), 2, False), ((2, 1, 5, 8), (2, 3), (2, 2), (0, 1), 1, True),
         ((1, 1, 5, 6), (3, 3), (2, 4), (1, 1), 1, True), ((1, 2, 7, 7), (2, 2), (3, 2), (1, 1), 3, True),
         ((1, 1, 4, 4), (3, 3), (3, 3), (1, 1), 1, True)]


def pooling(function, last):
    for x, kernel, stride, padding, dilation, ceil in POOLS:
        count = torch.Size(x).numel()
        distinct = torch.randperm(count, generator=torch.Generator().manual_seed(count)).double().reshape(x) / 64
        for option in last(dilation):
            yield from case(lambda x: function(x, kernel, stride, padding, option, ceil), [distinct],
                            ["axes" + "".join(f" {int(n)}" for n in (*kernel, *stride, *padding, option, ceil))])


def max_pool2d():
    yield from pooling(lambda x, k, s, p, d, c: f.max_pool2d(x, k, s, p, d, c), lambda dilation: [dilation])


def avg_pool2d():
    yield from pooling(lambda x, k, s, p, e, c: f.avg_pool2d(x, k, s, p, c, not e),
                       lambda dilation: [False, True] if dilation == 1 else [])


def adaptive_avg_pool2d():
    for x, size in (((2, 2, 4, 6), (2, 3)), ((1, 2, 5, 7), (3, 2)), ((2, 3, 3, 4), (1, 1)), ((1, 1, 3, 40), (5, 37))):
        yield from case(lambda x: f.adaptive_avg_pool2d(x, size), [random_tensor(x)], [f"axes {size[0]} {size[1]}"])


def upsample_nearest():
    for x, scale in (((2, 2, 3, 4), 2), ((1, 1, 2, 3), 3), ((1, 2, 2, 2), 1)):
        yield from case(lambda x: f.interpolate(x, scale_factor=scale, mode="nearest"), [random_tensor(x)], [f"axis {scale}"])


def upsample_bilinear():
    for x, size in (((2, 2, 3, 4), (6, 8)), ((1, 1, 5, 3), (2, 7)), ((1, 2, 2, 2), (1, 1)), ((1, 1, 1, 4), (3, 4))):
        for corners in (False, True):
            yield from case(lambda x: f.interpolate(x, size, mode="bilinear", align_corners=corners), [random_tensor(x)],
                            [f"axes {size[0]} {size[1]} {int(corners)}"])


def pixel_shuffle():
    for x, scale in (((2, 8, 3, 4), 2), ((1, 9, 2, 3), 3), ((1, 2, 2, 2), 1)):
        yield from case(lambda x: f.pixel_shuffle(x, scale), [random_tensor(x)], [f"axis {scale}"])


OPS = {op.__name__: op for op in (layer_norm, rms_norm, batch_norm, batch_norm_with, group_norm, conv2d, conv1d,
                                  conv_transpose2d, max_pool2d, avg_pool2d, adaptive_avg_pool2d, upsample_nearest,
                                  upsample_bilinear, pixel_shuffle)}

if __name__ == "__main__":
    write_ops(OPS, "layers.py")
