#!/usr/bin/env python3
"""Writes the reference data about elementwise functions, as make.py does about the other ops:

    python3 tests/reference/elementwise.py

A case of "text second" is about the gradient of input `axis`, as a function of the inputs and the cotangent.
"""

import functools

import torch
import torch.nn.functional as F

from make import HUGE, INF, PAIRS, SHAPES, TINY, case, indices, numbers, positive, random_tensor, write_ops

# ---- samples: multiples of 1/64, or between them where those may be kinks ------------------------------------------------


def within(low, high):
    return lambda shape: random_tensor(shape, low, high)


def between(low, high):
    return lambda shape: random_tensor(shape, low, high) + 1 / 128


def wide(shape):
    """Powers of 2 from 2^-20 to 2^20, of either sign."""
    x = random_tensor(shape, -10, 10)
    return x.sign() * torch.exp2((2 * x).round())


# ---- cases -------------------------------------------------------------------------------------------------------------


def derivative(function, which, *inputs):
    *leaves, seed = inputs
    return torch.autograd.grad(function(*leaves), leaves[which], seed, create_graph=True)[0]


def second(function, samples, attributes, shapes):
    for which in range(len(samples)):
        for given in shapes:
            inputs = [sample(shape) for sample, shape in zip(samples, given)]
            seed = random_tensor(torch.broadcast_shapes(*given))
            yield from case(functools.partial(derivative, function, which), [*inputs, seed],
                            [*attributes, "text second", f"axis {which}"])


def one(function, sample=random_tensor, edges=(), constants=(), smooth=True, more=()):
    attributes = [*more, "number " + " ".join(str(c) for c in constants)] if constants else more
    for shape in SHAPES:
        yield from case(function, [sample(shape)], attributes)
    if edges:
        yield from case(function, [numbers(edges)], attributes, only_f64=True, seed=torch.ones(len(edges), dtype=torch.float64))
    if smooth:
        yield from second(function, [sample], attributes, [[(3, 4)], [()], [(0, 3)]])


def two(function, left=random_tensor, right=random_tensor, edges=(), smooth=True):
    for a, b in PAIRS:
        yield from case(function, [left(a), right(b)])
        yield from case(function, [left(b), right(a)])
    if edges:
        a, b = zip(*edges)
        yield from case(function, [numbers(a), numbers(b)], only_f64=True, seed=torch.ones(len(a), dtype=torch.float64))
    if smooth:
        yield from second(function, [left, right], [], [[(3, 4), (4,)], [(), (2, 3)], [(2, 1), (2, 3)]])


def three(function, constants=(), right=random_tensor):
    attributes = ["number " + " ".join(str(c) for c in constants)] if constants else []
    for a, b, c in [((3, 4), (3, 4), (3, 4)), ((), (), ()), ((3, 1), (4,), ()), ((2, 1, 3), (4, 1), (3,)), ((0, 3), (1, 3), ())]:
        yield from case(function, [random_tensor(a), random_tensor(b), right(c)], attributes)


def compared(function):
    """Of integers too, and with ties."""
    for a, b in PAIRS:
        yield from case(lambda x, y: function(x, y).int(), [within(-1, 1)(a).round(), within(-1, 1)(b).round()])
        yield from case(lambda x, y: function(x, y).int(), [indices(a, 3, torch.int32), indices(b, 3, torch.int32)])
    strange = numbers([0, -0.0, 1, INF, -INF, float("nan")])
    yield from case(lambda x, y: function(x, y).int(), [strange[:, None], strange])


def asked(function):
    for shape in SHAPES:
        yield from case(lambda x: function(x).int(), [within(-1, 1)(shape).round()])
    yield from case(lambda x: function(x).int(), [numbers([0, -0.0, 1, INF, -INF, float("nan"), TINY, HUGE])], only_f64=True)


def along(function):
    for shape, axis in [((4, 3), 0), ((3, 4), 1), ((2, 6), -1), ((2, 3, 4), -1), ((2, 0), 1), ((2, 4, 1), 1)]:
        yield from case(lambda x: function(x, axis), [random_tensor(shape)], [f"axis {axis}"])


# ---- what PyTorch lacks --------------------------------------------------------------------------------------------------


def cbrt(x):
    return x.sign() * torch.exp(torch.log(x.abs()) / 3)


def swiglu(a, b):
    return F.silu(a) * b


fraction, inside, above, left_and_right = within(1 / 64, 63 / 64), within(-63 / 64, 63 / 64), within(65 / 64, 5), within(-6, 6)
whole = within(-3, 3)
steps = between(-3, 3)
OPS = {
    "abs": lambda: one(torch.abs, edges=[-INF, -TINY, -0.0, 0.0, TINY, HUGE, INF], smooth=False),
    "square": lambda: one(torch.square, edges=[-1e100, -TINY, 0.0, 1e150]),
    "reciprocal": lambda: one(torch.reciprocal, steps, edges=[-INF, -1e100, 1e-100, 1e100, INF]),
    "sqrt": lambda: one(torch.sqrt, positive, edges=[0.0, 5e-324, TINY, HUGE, INF]),
    "rsqrt": lambda: one(torch.rsqrt, positive, edges=[1e-150, 1e100, INF]),
    "cbrt": lambda: one(cbrt, steps, edges=[-1e100, -1e-100, 1e-100, 8, HUGE]),
    "power": lambda: one(lambda x: x.pow(2.5), positive, edges=[0.0, 1e-100, 1e100], constants=[2.5]),
    "power_2": lambda: one(lambda x: x.pow(2), edges=[-1e100, 0.0, 3], constants=[2]),
    "power_3": lambda: one(lambda x: x.pow(3), edges=[-1e100, 0.0, 3], constants=[3]),
    "power_minus_1": lambda: one(lambda x: x.pow(-1), steps, edges=[-1e100, 1e-100], constants=[-1]),
    "power_negative": lambda: one(lambda x: x.pow(-3), steps, edges=[-1e10, 1e-10], constants=[-3]),
    "pow": lambda: two(torch.pow, positive, edges=[(0, 2), (0, 1), (0, 0.5), (0, 0), (2, 0), (1e100, 2), (0.5, 1000), (4, -0.5)]),
    "hypot": lambda: two(torch.hypot, steps, steps, edges=[(3, 4), (0, 2), (1e200, 1e200), (1e-200, 2e-200)]),
    "fmod": lambda: two(torch.fmod, steps, between(2, 4), edges=[(7, 2), (-7, 2), (7, -2), (-7.5, -2), (1e15, 7), (3, INF)], smooth=False),
    "remainder": lambda: two(torch.remainder, steps, between(2, 4), edges=[(7, 2), (-7, 2), (7, -2), (-7.5, -2), (1e15, 7)], smooth=False),
    "copysign": lambda: two(torch.copysign, steps, steps, edges=[(0, 1), (1, 0), (1, -0.0), (-2, -0.0)], smooth=False),
    "maximum": lambda: two(torch.maximum, edges=[(1, 1), (-INF, 0), (INF, INF), (0, 0)], smooth=False),
    "minimum": lambda: two(torch.minimum, edges=[(1, 1), (-INF, 0), (INF, INF), (0, 0)], smooth=False),
    "clamp": lambda: one(lambda x: x.clamp(-0.75, 1.5), edges=[-INF, -0.75, 0, 1.5, INF], constants=[-0.75, 1.5], smooth=False),
    "lerp": lambda: three(torch.lerp),
    "addcmul": lambda: three(lambda x, a, b: torch.addcmul(x, a, b, value=-1.75), [-1.75]),
    "addcdiv": lambda: three(lambda x, a, b: torch.addcdiv(x, a, b, value=-1.75), [-1.75], steps),
    "clamp_between": lambda: three(lambda x, low, high: torch.minimum(torch.maximum(x, low), high)),
    "exp2": lambda: one(torch.exp2, edges=[-INF, -1070, -1000, TINY, 1000, 1023]),
    "expm1": lambda: one(torch.expm1, edges=[-1e-9, TINY, 1e-9, 30, 700]),
    "log2": lambda: one(torch.log2, positive, edges=[5e-324, TINY, 1 + 1e-15, HUGE, INF]),
    "log10": lambda: one(torch.log10, positive, edges=[5e-324, TINY, 1 + 1e-15, HUGE, INF]),
    "log1p": lambda: one(torch.log1p, positive, edges=[-0.999, -1e-17, TINY, 1e-10, HUGE, INF]),
    "logit": lambda: one(torch.logit, fraction, edges=[1e-300, 1e-10, 0.5, 1 - 1e-10]),
    "logaddexp": lambda: two(torch.logaddexp, edges=[(800, 799), (-800, -801), (1000, -1000), (0, -INF), (3, 3)]),
    "xlogy": lambda: two(torch.xlogy, right=positive, edges=[(0, 2), (2, 3), (-1, 0.5), (0, -1)]),
    "sin": lambda: one(torch.sin, edges=[-1e10, TINY, 1e-9, 22, 1e15]),
    "cos": lambda: one(torch.cos, edges=[-1e10, TINY, 1e-9, 22, 1e15]),
    "tan": lambda: one(torch.tan, inside, edges=[TINY, 1e-9, 1.5]),
    "asin": lambda: one(torch.asin, inside, edges=[-1, TINY, 1e-9, 1]),
    "acos": lambda: one(torch.acos, inside, edges=[-1, TINY, 1e-9, 1]),
    "atan": lambda: one(torch.atan, edges=[-INF, -1e10, TINY, 1e10, INF]),
    "atan2": lambda: two(torch.atan2, steps, steps, edges=[(0, 1), (0, -1), (1, 0), (-1, 0), (1e-100, 1), (3, 1e100)]),
    "sinc": lambda: one(torch.sinc, left_and_right, edges=[-0.25, 0.0, 0.3]),
    "sinh": lambda: one(torch.sinh, edges=[-700, TINY, 700]),
    "cosh": lambda: one(torch.cosh, edges=[-700, TINY, 700]),
    "asinh": lambda: one(torch.asinh, wide, edges=[-1e100, TINY, 1e-9, 1e150]),
    "acosh": lambda: one(torch.acosh, above, edges=[1, 1e100]),
    "atanh": lambda: one(torch.atanh, inside, edges=[-1, TINY, 1e-9, 1]),
    "erf": lambda: one(torch.erf, edges=[-INF, -30, -6, TINY, 1e-9, 6, INF]),
    "erfc": lambda: one(torch.erfc, edges=[-INF, -6, TINY, 6, 20, 26, INF]),
    "erfinv": lambda: one(torch.erfinv, inside, edges=[-1, TINY, 1e-9, 1]),
    # PyTorch's trigamma has 9 digits
    "lgamma": lambda: one(torch.lgamma, positive, edges=[-3.5, -0.5, 1e-10, 1, 2, 30, 1e10], more=["tolerance 1e-8"]),
    "digamma": lambda: one(torch.digamma, positive, edges=[-3.5, -0.5, 1e-10, 1, 2, 30, 1e10], more=["tolerance 1e-8"]),
    "trigamma": lambda: one(lambda x: torch.polygamma(1, x), positive, edges=[1e-10, 1, 2, 30, 1e10], more=["tolerance 1e-8"]),
    "polygamma": lambda: one(lambda x: torch.polygamma(3, x), positive, edges=[1e-10, 1, 2, 30, 1e10], constants=[3]),
    "floor": lambda: one(torch.floor, whole, edges=[-INF, -1e300, -1, -0.5, -0.0, 0.5, 1, 1e300], smooth=False),
    "ceil": lambda: one(torch.ceil, whole, edges=[-INF, -1e300, -1, -0.5, -0.0, 0.5, 1, 1e300], smooth=False),
    "round": lambda: one(torch.round, whole, edges=[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 4503599627370497], smooth=False),
    "trunc": lambda: one(torch.trunc, whole, edges=[-INF, -1e300, -1, -0.5, 0.5, 1, 1e300], smooth=False),
    "sign": lambda: one(torch.sign, whole, edges=[-INF, -TINY, 0.0, TINY, INF], smooth=False),
    "frac": lambda: one(torch.frac, whole, edges=[-1e10, -1, -0.5, 0.5, 1], smooth=False),
    "relu6": lambda: one(F.relu6, within(-3, 9), edges=[-INF, 0, 6, INF], smooth=False),
    "leaky_relu": lambda: one(lambda x: F.leaky_relu(x, 0.375), edges=[-INF, 0.0, INF], constants=[0.375], smooth=False),
    "prelu": lambda: two(lambda x, w: torch.where(x > 0, x, w * x), edges=[(0, 2), (-1, 0), (1e300, 0.5)]),
    "elu": lambda: one(lambda x: F.elu(x, 0.375), steps, edges=[-INF, -800, -1e-9, 1e300], constants=[0.375]),
    "celu": lambda: one(lambda x: F.celu(x, 1.5), steps, edges=[-INF, -800, -1e-9, 1e300], constants=[1.5]),
    "selu": lambda: one(F.selu, steps, edges=[-INF, -800, -1e-9, 1e300]),
    "gelu": lambda: one(F.gelu, left_and_right, edges=[-5, TINY, 8, 40, 1e300]),
    "gelu_tanh": lambda: one(lambda x: F.gelu(x, approximate="tanh"), within(-3, 6), edges=[-3, TINY, 8, 40]),
    "silu": lambda: one(F.silu, left_and_right, edges=[-700, -40, TINY, 40, 800]),
    "swiglu": lambda: two(swiglu, left_and_right, edges=[(-700, 2), (-40, 1e10), (800, 3), (0, 1)]),
    "mish": lambda: one(F.mish, left_and_right, edges=[-700, -40, TINY, 40, 800]),
    "logsigmoid": lambda: one(F.logsigmoid, left_and_right, edges=[-800, -40, TINY, 40, 800]),
    "softplus": lambda: one(lambda x: F.softplus(x, threshold=1000), left_and_right, edges=[-700, -40, TINY, 40, 700]),
    "softsign": lambda: one(F.softsign, steps, edges=[-1e100, TINY, 1e100]),
    "hardtanh": lambda: one(lambda x: F.hardtanh(x, -0.75, 1.5), edges=[-INF, -0.75, 0, 1.5, INF], constants=[-0.75, 1.5], smooth=False),
    "hardsigmoid": lambda: one(lambda x: F.relu6(x + 3) / 6,  # F.hardsigmoid's derivative is 1/6 in f32
                                within(-5, 5), edges=[-INF, -3, 0, 3, INF], smooth=False),
    "hardswish": lambda: one(F.hardswish, between(-5, 5), edges=[-1e300, 0, 1e300], smooth=False),
    "glu": lambda: along(F.glu),
    "softmin": lambda: along(F.softmin),
    "threshold": lambda: one(lambda x: F.threshold(x, 0.5, -1.75), edges=[-INF, 0.5, INF], constants=[0.5, -1.75], smooth=False),
    "hardshrink": lambda: one(lambda x: F.hardshrink(x, 0.5), edges=[-INF, -0.5, 0.5, INF], constants=[0.5], smooth=False),
    "softshrink": lambda: one(lambda x: F.softshrink(x, 0.5), edges=[-1e300, -0.5, 0.5, 1e300], constants=[0.5], smooth=False),
    "tanhshrink": lambda: one(F.tanhshrink, edges=[-INF, -1, TINY, 20, INF]),
    "greater_equal": lambda: compared(torch.ge),
    "less": lambda: compared(torch.lt),
    "less_equal": lambda: compared(torch.le),
    "equal": lambda: compared(torch.eq),
    "not_equal": lambda: compared(torch.ne),
    "logical_and": lambda: compared(torch.logical_and),
    "logical_or": lambda: compared(torch.logical_or),
    "logical_xor": lambda: compared(torch.logical_xor),
    "logical_not": lambda: asked(torch.logical_not),
    "isnan": lambda: asked(torch.isnan),
    "isinf": lambda: asked(torch.isinf),
    "isfinite": lambda: asked(torch.isfinite),
}

if __name__ == "__main__":
    write_ops(OPS, "elementwise.py")
