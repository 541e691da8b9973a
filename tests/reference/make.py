#!/usr/bin/env python3
"""Writes the reference data beside it, which the C tests read. Needs PyTorch; run it when a case is added:

    python3 tests/reference/make.py

A file about an op holds cases of these lines, each of them a keyword and what belongs to it:

    case                            begins one
    f64 only                        the numbers do not fit f32
    axis 1 | axes 0 -1 | keepdim | reverse | shape 2 -1 | number -1.75 3    attributes
    input DTYPE[DIMENSIONS] NUMBERS                                in order
    seed ...                        the cotangent of the result
    result ...
    gradient ...                    one for each float input, in order
"""

import itertools
import pathlib
import random

import torch

HERE = pathlib.Path(__file__).parent
DTYPES = {torch.float64: "f64", torch.int32: "i32", torch.int64: "i64"}
INF = float("inf")


def write(name, about, lines):
    text = "".join(f"# {line}\n" for line in about) + "".join(f"{line}\n" for line in lines)
    (HERE / f"{name}.txt").write_text(text)


# ---- what Python's slice takes ---------------------------------------------------------------------------------------


def slices():
    ends = (-6, -5, -4, -1, 0, 1, 4, 5)
    for n, start, stop, step in itertools.product((0, 1, 5), ends, ends, (1, 2, -1, -3)):
        taken = range(n)[start:stop:step]
        yield f"{n} {start} {stop} {step} : {taken.start if taken else 0} {len(taken)}"


# ---- ops ---------------------------------------------------------------------------------------------------------------


def random_tensor(shape, low=-2.0, high=2.0):
    """Multiples of 1/64: short to write, and exact in f32."""
    count = torch.Size(shape).numel()
    numbers = [random.randint(int(low * 64), int(high * 64)) / 64 for _ in range(count)]
    return torch.tensor(numbers, dtype=torch.float64).reshape(shape)


def away_from_0(shape):
    x = random_tensor(shape)
    return torch.where(x.abs() < 0.25, x + 0.75, x)


def indices(shape, bound, dtype=torch.int64):
    return torch.tensor([random.randrange(bound) for _ in range(torch.Size(shape).numel())], dtype=dtype).reshape(shape)


def numbers(values):
    return torch.tensor(values, dtype=torch.float64)


def line(keyword, tensor):
    shape = ",".join(str(n) for n in tensor.shape)
    values = "".join(f" {value!r}" if tensor.is_floating_point() else f" {value}" for value in tensor.flatten().tolist())
    return f"{keyword} {DTYPES[tensor.dtype]}[{shape}]{values}".replace(".0 ", " ").removesuffix(".0")


def case(function, inputs, attributes=(), only_f64=False, seed=None):
    """The lines of one case: `function` applied to `inputs`, and its gradients for a random cotangent."""
    leaves = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    y = function(*leaves)
    yield "case"
    if only_f64:
        yield "f64 only"
    yield from attributes
    for x in inputs:
        yield line("input", x)
    if y.is_floating_point() and y.requires_grad:
        seed = random_tensor(y.shape) if seed is None else seed
        y.backward(seed)
        yield line("seed", seed)
        yield line("result", y.detach())
        for x in leaves:
            if x.is_floating_point():
                yield line("gradient", torch.zeros_like(x) if x.grad is None else x.grad)
    else:
        yield line("result", y)


SHAPES = [(3, 4), (), (5,), (2, 1, 3), (0, 3), (1,), (1, 2, 1, 2, 1, 2, 1, 2)]
PAIRS = [((3, 4), (3, 4)), ((), ()), ((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (2, 3)), ((0, 3), (1, 3)), ((1,), (5,)),
         ((3, 1), (1, 4)), ((1, 2, 1, 2, 1, 2, 1, 2), (2, 1, 2, 1))]


def unary(function, sample=random_tensor, edges=(), attributes=()):
    for shape in SHAPES:
        yield from case(function, [sample(shape)], attributes)
    if edges:
        yield from case(function, [numbers(edges)], attributes, only_f64=True, seed=torch.ones(len(edges), dtype=torch.float64))


def binary(function, left=random_tensor, right=random_tensor):
    for a, b in PAIRS:
        yield from case(function, [left(a), right(b)])
        yield from case(function, [left(b), right(a)])


def reductions(function, more_attributes=()):
    for shape, axes in [((3, 4), ()), ((3, 4), (0,)), ((3, 4), (1,)), ((2, 3, 4), (1,)), ((2, 3, 4), (-1, 0)), ((), ()),
                        ((5,), (0,)), ((2, 1, 3), (0, 1, 2)), ((2, 3, 4), (0, 2)), ((40,), ()),
                        ((2, 1, 2, 1, 3, 1, 2, 2), (0, 4, -1)), ((3, 0, 2), (0,))]:
        for keep in (False, True):
            attributes = ["axes" + "".join(f" {axis}" for axis in axes), *["keepdim"] * keep, *more_attributes]
            dim = axes or tuple(range(len(shape)))
            yield from case(lambda x: function(x, dim, keep) if dim else function(x.reshape(1), (0,), False).reshape(()),
                            [random_tensor(shape)], attributes)


def sums():
    yield from reductions(lambda x, dim, keep: x.sum(dim, keep))
    yield from case(lambda x: x.sum((0,)), [random_tensor((0, 3))], ["axes 0"])


def sum_to():
    for a, b in PAIRS:
        common = torch.broadcast_shapes(a, b)
        for shape in (a, b):
            yield from case(lambda x: x.sum_to_size(shape) if shape else x.sum(), [random_tensor(common)],
                            ["shape" + "".join(f" {n}" for n in shape)])


def reshape():
    for shape, new in [((3, 4), (2, -1)), ((3, 4), (12,)), ((6,), (1, 2, 3)), ((1, 1), ()), ((), (1,)), ((0, 3), (2, 0)),
                       ((2, 3, 4), (4, 3, 2)), ((2, 2, 2, 2), (1, 4, 1, 2, 1, 2))]:
        yield from case(lambda x: x.reshape(new), [random_tensor(shape)], ["shape" + "".join(f" {n}" for n in new)])


def permute():
    for shape, axes in [((3, 4), (1, 0)), ((3, 4), (0, 1)), ((2, 3, 4), (2, 0, -2)), ((5,), (0,)), ((2, 0), ()), ((), ()),
                        ((2, 3, 4), ()), ((1, 2, 1, 2, 1, 2, 1, 2), (7, 6, 5, 4, 0, 1, 2, 3))]:
        order = axes or tuple(reversed(range(len(shape))))
        yield from case(lambda x: x.permute(order), [random_tensor(shape)], ["axes" + "".join(f" {a}" for a in axes)])


def transpose():
    for shape in [(3, 4), (2, 3, 4), (1, 5), (2, 2, 0, 3)]:
        yield from case(lambda x: x.transpose(-1, -2), [random_tensor(shape)])


def broadcast_to():
    for shape, new in [((3, 4), (3, 4)), ((4,), (3, 4)), ((3, 1), (3, 4)), ((), (2, 3)), ((), ()), ((1, 3), (0, 3)),
                       ((2, 1, 3), (5, 2, 4, 3))]:
        yield from case(lambda x: x.expand(new), [random_tensor(shape)], ["shape" + "".join(f" {n}" for n in new)])


def matmul():
    for a, b in [((3, 4), (4, 5)), ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((1, 1), (1, 1)), ((2, 3, 4), (4, 5)),
                 ((2, 3, 4), (2, 4, 2)), ((3, 1, 2, 4), (2, 4, 3)), ((2, 4), (3, 4, 2)), ((2, 3, 4), (4,)),
                 ((4,), (2, 4, 3)), ((3, 0), (0, 2)), ((0, 2, 3), (3, 2)), ((3, 2), (0, 2, 4)), ((2, 1, 3, 2), (1, 4, 2, 3)),
                 ((1, 4), (3, 4, 2)), ((2, 1, 4), (4, 1)), ((17, 19), (19, 18)), ((2, 1, 1, 1, 1, 1, 2, 3), (1, 2, 1, 1, 1, 2, 3, 2))]:
        yield from case(torch.matmul, [random_tensor(a), random_tensor(b)])


def where():
    for a, b in PAIRS:
        condition = indices(torch.broadcast_shapes(a, b), 2, torch.int32)
        yield from case(lambda c, x, y: torch.where(c != 0, x, y), [condition, random_tensor(a), random_tensor(b)])
    yield from case(lambda c, x, y: torch.where(c != 0, x, y), [indices((3, 1), 2), random_tensor((2, 1, 1)), random_tensor((4,))])


INDEXED = [((3, 4), 1, (3, 1)), ((3, 4), 0, (5, 4)), ((2, 3, 4), 1, (1, 6, 3)), ((6,), -1, (8,)), ((3, 4), 1, (0, 2)),
           ((2, 1, 2, 1, 3, 1, 2, 2), 4, (2, 1, 1, 1, 5, 1, 2, 1))]


def gather():
    for shape, axis, at in INDEXED:
        for dtype in (torch.int32, torch.int64):
            yield from case(lambda x, i: x.gather(axis, i.long()), [random_tensor(shape), indices(at, shape[axis], dtype)],
                            [f"axis {axis}"])


def scatter_add():
    for shape, axis, at in INDEXED:
        yield from case(lambda x, i, s: x.scatter_add(axis, i, s),
                        [random_tensor(shape), indices(at, shape[axis]), random_tensor(at)], [f"axis {axis}"])


def pick():
    for shape in [(5, 4), (4,), (2, 3, 5), (0, 3)]:
        yield from case(lambda x, i: x.gather(-1, i[..., None]).squeeze(-1), [random_tensor(shape), indices(shape[:-1], shape[-1])])


def along_axis(function):
    for shape in [(3, 4), (), (5,), (2, 1, 3), (0, 3), (1,), (2, 3, 2, 2)]:
        for axis in sorted({0, -1, len(shape) // 2}) if shape else (0, -1):
            yield from case(lambda x: function(x, axis), [random_tensor(shape, -5, 5)], [f"axis {axis}"])
    large = numbers([[1e4, -1e4, 0, 5], [-1e4, -1e4, -1e4, -1e4], [1e4, 1e4, 9999, -3], [700, 710, 720, -745]])
    yield from case(lambda x: function(x, -1), [large], ["axis -1"])
    yield from case(lambda x: function(x, 0), [numbers([[0, 1], [-INF, 2], [3, -INF]])], ["axis 0"])


LOGITS = [(4, 5), (3,), (2, 3, 4), (1, 1), (0, 3), (2, 1, 2, 1, 1, 3)]


def large_logits():
    return numbers([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [1e4, 1e4, 9999], [-1e4, -9999, -1e4]])


def softmax_xent():
    def loss(x, t):
        flat = torch.nn.functional.cross_entropy(x.reshape(-1, x.shape[-1]), t.reshape(-1).long(), reduction="none")
        return flat.reshape(t.shape)

    for shape in LOGITS:
        for dtype in (torch.int32, torch.int64):
            yield from case(loss, [random_tensor(shape, -5, 5), indices(shape[:-1], shape[-1], dtype)])
    for target in ([0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]):
        yield from case(loss, [large_logits(), torch.tensor(target)])


def softmax_xent_soft():
    def loss(x, t):
        return -(t * torch.log_softmax(x, -1)).sum(-1)

    for shape in LOGITS:
        yield from case(loss, [random_tensor(shape, -5, 5), random_tensor(shape, 0, 1)])
    for target in ([[0, 1, 0]] * 4, [[0.25, 0.5, 0.25]] * 4, [[0.5, 0, 2]] * 4):
        yield from case(loss, [large_logits(), numbers(target)])


def detach():
    for shape in SHAPES:
        yield from case(lambda x: x.detach() * 1, [random_tensor(shape)])


def positive(shape):
    return random_tensor(shape, 0.25, 3)


TINY, HUGE = 1e-300, 1e300
OPS = {
    "add": lambda: binary(lambda a, b: a + b),
    "sub": lambda: binary(lambda a, b: a - b),
    "mul": lambda: binary(lambda a, b: a * b),
    "div": lambda: binary(lambda a, b: a / b, right=away_from_0),
    "masked_mul": lambda: binary(lambda a, b: a * b, left=away_from_0),
    "masked_div": lambda: binary(lambda a, b: a / b, left=away_from_0, right=away_from_0),
    "greater": lambda: binary(lambda a, b: (a > b).int()),
    "where": where,
    "neg": lambda: unary(lambda x: -x),
    "scale": lambda: unary(lambda x: -1.75 * x, attributes=["number -1.75"]),
    "exp": lambda: unary(torch.exp, edges=[-INF, -745, -700, -1e-17, TINY, 700, 709]),
    "log": lambda: unary(torch.log, positive, edges=[5e-324, 1e-310, TINY, 1 - 1e-16, 1 + 1e-15, HUGE, INF]),
    "tanh": lambda: unary(torch.tanh, edges=[-INF, -800, -20, -1e-9, TINY, 1e-8, 18, 400, INF]),
    "sigmoid": lambda: unary(torch.sigmoid, edges=[-700, -40, -1e-9, TINY, 30, INF]),
    "relu": lambda: unary(torch.relu, edges=[-INF, -TINY, -0.0, 0.0, TINY, INF]),
    "detach": detach,
    "reshape": reshape,
    "permute": permute,
    "transpose": transpose,
    "broadcast_to": broadcast_to,
    "sum": sums,
    "mean": lambda: reductions(lambda x, dim, keep: x.mean(dim, keep)),
    "sum_to": sum_to,
    "matmul": matmul,
    "gather": gather,
    "scatter_add": scatter_add,
    "pick": pick,
    "softmax": lambda: along_axis(torch.softmax),
    "log_softmax": lambda: along_axis(torch.log_softmax),
    "softmax_xent": softmax_xent,
    "softmax_xent_soft": softmax_xent_soft,
}


def write_ops(ops, script):
    for name, cases in ops.items():
        random.seed(name)
        about = f"{name}: values and gradients in f64, by PyTorch {torch.__version__.split('+')[0]} ({script})"
        write(name, [about], cases())


if __name__ == "__main__":
    write("slice", ["Which elements Python's slice takes (make.py).", "n start stop step : first length"], slices())
    write_ops(OPS, "make.py")
