#!/usr/bin/env python3
"""Writes the reference data about shapes, joining, indexing and sorting, as make.py does about the other ops:

    python3 tests/reference/indexing.py
"""

import torch
import torch.nn.functional as F

from make import INF, case, indices, numbers, random_tensor, write_ops
from reductions import distinct

HUGE_RANK = (1, 2, 1, 2, 1, 2, 1, 2)


def shape_line(numbers):
    return "shape" + "".join(f" {n}" for n in numbers)


def axes_line(axes):
    return "axes" + "".join(f" {axis}" for axis in axes)


# ---- shapes --------------------------------------------------------------------------------------------------------------


def squeezes():
    for shape, axes in [((3, 1, 4), ()), ((3, 1, 4), (1,)), ((1, 1), ()), ((1, 2, 1), (-1, 0)), ((), ()), ((0, 1), (1,))]:
        yield from case(lambda x: x.squeeze(axes) if axes else x.squeeze(), [random_tensor(shape)], [axes_line(axes)])


def unsqueezes():
    for shape, axis in [((3, 4), 0), ((3, 4), -1), ((3, 4), 1), ((), 0), ((0, 3), 2), ((2, 1), -3)]:
        yield from case(lambda x: x.unsqueeze(axis), [random_tensor(shape)], [f"axis {axis}"])


def slices():
    """PyTorch takes no negative steps."""
    for shape, axis, start, stop, step in [((5, 3), 0, 1, 4, 1), ((5, 3), 0, 0, 5, 2), ((2, 7, 2), 1, 1, 7, 3),
                                           ((6,), 0, -4, -1, 1), ((3, 4), -1, -100, 100, 1), ((3, 4), 1, 2, 1, 1),
                                           ((0, 3), 0, 0, 1, 1), (HUGE_RANK, 7, 1, 2, 1)]:
        def take(x):
            first, last, _ = slice(start, stop, step).indices(shape[axis])
            return x.transpose(axis, 0)[first:last:step].transpose(axis, 0)
        yield from case(take, [random_tensor(shape)], [f"axis {axis}", shape_line((start, stop, step))])
    for shape, axis, taken in [((5, 3), 0, (4, -100, -1)), ((3, 6), 1, (4, 0, -2)), ((2, 4), -1, (-1, 1, -1))]:
        which = torch.tensor(list(range(shape[axis]))[slice(*taken)])
        yield from case(lambda x: x.index_select(axis, which), [random_tensor(shape)], [f"axis {axis}", shape_line(taken)])


def flips():
    for shape, axes in [((5,), (0,)), ((3, 4), (0,)), ((3, 4), (1,)), ((3, 4), ()), ((2, 3, 4), (-1, 0)), ((0, 2), (0,)),
                        ((), ())]:
        yield from case(lambda x: x.flip(axes or tuple(range(len(shape)))), [random_tensor(shape)], [axes_line(axes)])


def rolls():
    for shape, axis, shift in [((5,), 0, 2), ((5,), 0, -1), ((3, 4), 1, 9), ((3, 4), 0, 0), ((0, 3), 0, 2), ((2, 3), -1, -7)]:
        yield from case(lambda x: x.roll(shift, axis), [random_tensor(shape)], [f"axis {axis}", f"number {shift}"])


def cats():
    for shapes, axis in [([(3, 4), (2, 4)], 0), ([(3, 2), (3, 0), (3, 1)], 1), ([(5,)], 0), ([(2, 1, 3), (2, 2, 3)], -2),
                         ([(0, 3), (0, 2)], 1)]:
        yield from case(lambda *x: torch.cat(x, axis), [random_tensor(shape) for shape in shapes], [f"axis {axis}"])


def stacks():
    for shape, n, axis in [((3, 4), 2, 0), ((3, 4), 3, 1), ((3,), 2, -1), ((), 3, 0), ((0, 2), 2, 2), ((2, 1), 1, 1)]:
        yield from case(lambda *x: torch.stack(x, axis), [random_tensor(shape) for _ in range(n)], [f"axis {axis}"])


def tiles():
    for shape, times in [((3,), (2,)), ((2, 3), (2, 2)), ((2, 3), (3,)), ((2,), (2, 3)), ((), (3,)), ((2, 0), (2, 2)),
                         ((2, 1, 2), (1, 0, 1)), (HUGE_RANK, (2, 1, 2, 1, 2, 1, 2, 1))]:
        yield from case(lambda x: torch.tile(x, times), [random_tensor(shape)], [shape_line(times)])


def repeats():
    for shape, axis, times in [((3,), 0, 2), ((2, 3), 0, 3), ((2, 3), -1, 2), ((2, 3, 2), 1, 2), ((2, 0), 0, 2)]:
        yield from case(lambda x: x.repeat_interleave(times, axis), [random_tensor(shape)], [f"axis {axis}", f"number {times}"])


def pads():
    """Margins before all axes, then after."""
    for shape, before, after in [((3, 4), (1, 0), (2, 1)), ((5,), (0,), (0,)), ((2, 1, 3), (0, 2, 1), (0, 0, 0)),
                                 ((0, 3), (1, 1), (0, 0)), ((), (), ())]:
        widths = [n for pair in reversed(list(zip(before, after))) for n in pair]
        for value in (0, -1.5):
            yield from case(lambda x: F.pad(x, widths, value=value) if widths else x * 1, [random_tensor(shape)],
                            [shape_line(before + after), f"number {value}"])


def mirrored(mode):
    """Of one axis alone, batched: that is what PyTorch does. The axis in the middle comes from it by transposition."""
    for n, before, after in [(4, 1, 2), (5, 3, 0), (3, 0, 2), (2, 1, 1), (6, 5, 5)]:
        yield from case(lambda x: F.pad(x, (before, after), mode=mode), [random_tensor((2, n))],
                        [shape_line((0, before, 0, after))])
    for rows, columns in [((1, 2), (2, 1)), ((0, 1), (0, 0)), ((2, 0), (1, 1))]:
        yield from case(lambda x: F.pad(x, (*columns, *rows), mode=mode), [random_tensor((2, 3, 4))],
                        [shape_line((0, rows[0], columns[0], 0, rows[1], columns[1]))])


def bands(function):
    for shape, k in [((3, 4), 0), ((4, 3), 1), ((2, 3, 3), -1), ((3, 0), 0), ((3, 3), -9), ((3, 3), 9), ((2, 2, 2, 3), 1)]:
        yield from case(lambda x: function(x, k), [random_tensor(shape)], [f"number {k}"])


def diagonals():
    for shape, k, axes in [((3, 3), 0, (0, 1)), ((3, 5), 2, (0, 1)), ((4, 2), -1, (-2, -1)), ((2, 3, 4), 1, (2, 0)),
                           ((3, 0), 0, (0, 1)), ((2, 3, 4), -1, (1, 2))]:
        yield from case(lambda x: x.diagonal(k, *axes), [random_tensor(shape)], [f"number {k}", axes_line(axes)])


def diag_embeds():
    for shape, k in [((3,), 0), ((3,), 2), ((2, 3), -1), ((0,), 0), ((0,), 1), ((2, 1, 2), 1)]:
        yield from case(lambda x: torch.diag_embed(x, k), [random_tensor(shape)], [f"number {k}"])


def diags():
    for shape, k in [((3,), 0), ((3,), -2), ((3, 3), 0), ((3, 5), 1), ((4, 2), -1)]:
        yield from case(lambda x: torch.diag(x, k), [random_tensor(shape)], [f"number {k}"])


WINDOWS = [((7,), 0, 3, 1), ((3, 5), -1, 2, 2), ((5, 3), 0, 3, 2), ((2, 6, 2), 1, 2, 3), ((4,), 0, 4, 1), ((0, 3), 1, 2, 1),
           ((9,), 0, 4, 3)]


def unfolds():
    for shape, axis, size, step in WINDOWS:
        yield from case(lambda x: x.unfold(axis, size, step), [random_tensor(shape)], [f"axis {axis}", shape_line((size, step))])


def folds():
    for shape, axis, size, step in WINDOWS:
        windows = torch.zeros(shape).unfold(axis, size, step).shape
        n = shape[axis]
        where = torch.arange(n).unfold(0, size, step).flatten()

        def fold(x):
            moved = x.movedim(axis if axis >= 0 else axis - 1, -2).flatten(-2)
            out = torch.zeros(*moved.shape[:-1], n, dtype=x.dtype)
            return out.index_add(-1, where, moved).movedim(-1, axis)
        yield from case(fold, [random_tensor(windows)], [f"axis {axis}", shape_line((step, n))])


# ---- indexing ------------------------------------------------------------------------------------------------------------


def index_selects():
    for shape, axis, n in [((5, 3), 0, 7), ((3, 4), -1, 6), ((2, 3, 2), 1, 4), ((6,), 0, 1), ((3, 4), 0, 0), ((4, 0), 0, 2)]:
        for dtype in (torch.int32, torch.int64):
            yield from case(lambda x, i: x.index_select(axis, i), [random_tensor(shape), indices((n,), shape[axis], dtype)],
                            [f"axis {axis}"])


def embeddings():
    for table, index in [((5, 3), (2, 4)), ((5, 3), (7,)), ((2, 1), ()), ((4, 2), (2, 0, 3)), ((3, 70), (2, 2))]:
        for dtype in (torch.int32, torch.int64):
            yield from case(lambda x, i: F.embedding(i, x), [random_tensor(table), indices(index, table[0], dtype)])


def index_adds():
    for shape, axis, n in [((5, 3), 0, 7), ((3, 4), -1, 6), ((2, 3, 2), 1, 4), ((6,), 0, 1), ((3, 4), 0, 0)]:
        rows = list(shape)
        rows[axis] = n
        yield from case(lambda x, i, s: x.index_add(axis, i, s),
                        [random_tensor(shape), indices((n,), shape[axis]), random_tensor(rows)], [f"axis {axis}"])


def index_gets():
    for shape, a, b in [((3, 4), (5,), (5,)), ((3, 4), (2, 1), (3,)), ((3, 4, 2), (4,), ()), ((2, 5, 1, 2), (2, 2), (2, 2))]:
        yield from case(lambda x, i, j: x[i, j], [random_tensor(shape), indices(a, shape[0]), indices(b, shape[1])])


def index_puts(accumulate):
    """In the other case PyTorch leaves open which of several stays, so there are none."""
    for shape, n in [((5, 3), 4), ((5,), 3), ((4, 2, 2), 0), ((6, 1), 6)]:
        at = indices((n,), shape[0]) if accumulate else torch.randperm(shape[0], generator=torch.Generator().manual_seed(n))[:n]
        for values in ((n, *shape[1:]), shape[1:]):
            yield from case(lambda x, i, v: x.index_put((i,), v, accumulate), [random_tensor(shape), at, random_tensor(values)])


def different(shape, axis, bound):
    """Indices of which no two along the axis are equal."""
    generator = torch.Generator().manual_seed(bound)
    order = torch.rand([*shape[:axis], bound, *shape[axis + 1:]], generator=generator).argsort(axis)
    return order.narrow(axis, 0, shape[axis]).contiguous()


def scatters():
    for shape, index, axis in [((3, 4), (3, 2), 1), ((5, 2), (4, 2), 0), ((2, 3, 4), (1, 3, 3), 1), ((6,), (6,), 0), ((3, 4), (0, 2), 1)]:
        at = different(index, axis, shape[axis])
        yield from case(lambda x, i, s: x.scatter(axis, i, s), [random_tensor(shape), at, random_tensor(index)], [f"axis {axis}"])


SCATTERED = [((3, 4), (3, 2), 1), ((3, 4), (5, 4), 0), ((2, 3, 4), (1, 6, 3), 1), ((6,), (8,), 0), ((3, 4), (0, 2), 1)]


def scatter_reduces(reduction):
    for shape, index, axis in SCATTERED:
        yield from case(lambda x, i, s: x.scatter_reduce(axis, i, s, reduction),
                        [random_tensor(shape), indices(index, shape[axis]), random_tensor(index)], [f"axis {axis}"])
    if reduction == "prod":
        yield from case(lambda x, i, s: x.scatter_reduce(0, i, s, reduction),
                        [numbers([2, 0, 3, 4]), torch.tensor([2, 0, 1, 0, 2, 3, 3]), numbers([5, 0, 7, 3, 2, 0, 0])], ["axis 0"])
    if reduction[0] == "a":
        yield from case(lambda x, i, s: x.scatter_reduce(0, i, s, reduction),
                        [numbers([1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 2]), numbers([1, 1, 1, 2, 1, 3])], ["axis 0"])


def masked_fills():
    for shape, mask in [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 3), ()), ((0, 3), (3,)), ((5,), (5,))]:
        for value in (0, -2.5):
            yield from case(lambda x, m: x.masked_fill(m != 0, value), [random_tensor(shape), indices(mask, 2)], [f"number {value}"])


def masked_selects():
    for shape, mask in [((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 3), (2, 1)), ((5,), (5,)), ((0, 3), (3,))]:
        yield from case(lambda x, m: x.masked_select(m != 0), [random_tensor(shape), indices(mask, 2, torch.int32)])


def one_hots():
    for shape, classes in [((4,), 3), ((2, 3), 5), ((), 2), ((0,), 4), ((3,), 1)]:
        yield from case(lambda i: F.one_hot(i, classes), [indices(shape, classes)], [f"number {classes}"])


# ---- sorting -------------------------------------------------------------------------------------------------------------

LINES = [((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((5,), 0), ((300,), -1), ((0, 3), 1), ((2, 40), 1)]


def sorts(pick):
    for shape, axis in LINES:
        for descending in (False, True):
            yield from case(lambda x: pick(x.sort(dim=axis, descending=descending, stable=True)),
                            [distinct(shape)], [f"axis {axis}"] + ["reverse"] * descending)
    ties = numbers([[0.0, -0.0, 1, 0, -INF, INF, 1, 5e-324], [2, 2, 2, -1e308, 1e308, 2, -2, -2]])
    for descending in (False, True):
        yield from case(lambda x: pick(x.sort(dim=1, descending=descending, stable=True)), [ties],
                        ["axis 1"] + ["reverse"] * descending, only_f64=True)


def topks(pick):
    for shape, axis in LINES:
        for largest in (False, True):
            k = (shape[axis] + 1) // 2
            yield from case(lambda x: pick(x.topk(k, axis, largest)), [distinct(shape)],
                            [f"axis {axis}", f"number {k}"] + ["reverse"] * largest)


# ---- segments ------------------------------------------------------------------------------------------------------------

SEGMENTS = [((6, 2), 3), ((5,), 2), ((4, 2, 3), 4), ((0, 2), 2), ((7, 1), 1), ((3,), 5)]


def rows_of(ids, x):
    return ids.reshape(-1, *[1] * (x.dim() - 1)).expand_as(x)


def segments(function):
    for shape, count in SEGMENTS:
        for dtype in (torch.int32, torch.int64):
            yield from case(lambda x, i: function(x, i.long(), count), [random_tensor(shape), indices(shape[:1], count, dtype)],
                            [f"number {count}"])
    yield from case(lambda x, i: function(x, i, 3), [random_tensor((6,)), torch.tensor([0, 0, 1, 1, 1, 2])], ["number 3"])


def segment_sum(x, ids, count):
    return torch.zeros(count, *x.shape[1:], dtype=x.dtype).index_add(0, ids, x)


def segment_mean(x, ids, count):
    rows = torch.bincount(ids, minlength=count).clamp(min=1).reshape(-1, *[1] * (x.dim() - 1))
    return segment_sum(x, ids, count) / rows


def segment_extremum(reduction, least):
    def function(x, ids, count):
        start = torch.full((count, *x.shape[1:]), least, dtype=x.dtype)
        return start.scatter_reduce(0, rows_of(ids, x), x, reduction)
    return function


def segment_softmax(x, ids, count):
    most = segment_extremum("amax", -INF)(x.detach(), ids, count)
    e = torch.exp(x - most[ids])
    return e / segment_sum(e, ids, count)[ids]


OPS = {
    "squeeze": squeezes,
    "unsqueeze": unsqueezes,
    "slice_op": slices,
    "flip": flips,
    "roll": rolls,
    "cat": cats,
    "stack": stacks,
    "tile": tiles,
    "repeat_interleave": repeats,
    "pad": pads,
    "pad_reflect": lambda: mirrored("reflect"),
    "pad_replicate": lambda: mirrored("replicate"),
    "pad_circular": lambda: mirrored("circular"),
    "tril": lambda: bands(torch.tril),
    "triu": lambda: bands(torch.triu),
    "diagonal": diagonals,
    "diag_embed": diag_embeds,
    "diag": diags,
    "unfold": unfolds,
    "fold": folds,
    "index_select": index_selects,
    "embedding": embeddings,
    "index_add": index_adds,
    "index_get": index_gets,
    "index_put": lambda: index_puts(False),
    "index_put_accumulate": lambda: index_puts(True),
    "scatter": scatters,
    "scatter_prod": lambda: scatter_reduces("prod"),
    "scatter_mean": lambda: scatter_reduces("mean"),
    "scatter_amax": lambda: scatter_reduces("amax"),
    "scatter_amin": lambda: scatter_reduces("amin"),
    "masked_fill": masked_fills,
    "masked_select": masked_selects,
    "one_hot": one_hots,
    "sort": lambda: sorts(lambda pair: pair.values),
    "sort_index": lambda: sorts(lambda pair: pair.indices),
    "topk": lambda: topks(lambda pair: pair.values),
    "topk_index": lambda: topks(lambda pair: pair.indices),
    "segment_sum": lambda: segments(segment_sum),
    "segment_mean": lambda: segments(segment_mean),
    "segment_max": lambda: segments(segment_extremum("amax", -INF)),
    "segment_min": lambda: segments(segment_extremum("amin", INF)),
    "segment_softmax": lambda: segments(segment_softmax),
}


if __name__ == "__main__":
    write_ops(OPS, "indexing.py")
