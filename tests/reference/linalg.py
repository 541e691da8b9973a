#!/usr/bin/env python3
"""Writes the reference data about linear algebra, as make.py does about other ops:

    python3 tests/reference/linalg.py

Further attributes: `text`, whose meaning each op's test knows.
"""

import torch
from make import case, random_tensor, write_ops

F64 = torch.float64


def plus_diagonal(shape, first=4, step=0.5):
    n = min(shape[-2:])
    x = random_tensor(shape)
    x.diagonal(dim1=-2, dim2=-1).add_(first + step * torch.arange(n, dtype=F64))
    return x


def turned(x):
    """The heavy diagonal becomes the other one, so that there is much to pivot."""
    return x.flip(-1)


def symmetric(x):
    return (x + x.mT) / 2


# ---- products --------------------------------------------------------------------------------------------------------


def linear(activation=lambda sums: sums):
    for x, w in [((3, 4), (5, 4)), ((4,), (5, 4)), ((2, 3, 4), (2, 4)), ((0, 4), (3, 4)), ((2, 0), (3, 0)), ((1, 1), (1, 1)),
                 ((17, 19), (18, 19)), ((2, 1, 1, 2, 1, 1, 2, 3), (2, 3)), ((3, 4), (0, 4))]:
        yield from case(lambda *in_: activation(torch.nn.functional.linear(*in_)), [random_tensor(x), random_tensor(w), random_tensor(w[:1])])


VECTORS = [((4,), (4,)), ((3, 4), (4,)), ((3, 1, 4), (2, 4)), ((0, 4), (4,)), ((2, 0), (2, 0)), ((1,), (1,))]


def outer():
    for a, b in VECTORS + [((3,), (4,)), ((2, 3), (5,)), ((2, 1, 1, 1, 1, 1, 3), (2, 2))]:
        yield from case(lambda x, y: x[..., :, None] * y[..., None, :], [random_tensor(a), random_tensor(b)])


def tensordot():
    for a, b, axes in [((3, 4), (4, 5), ([1], [0])), ((3, 4), (4, 3), ([0, 1], [1, 0])), ((2, 3, 4), (5, 4, 3), ([2, 1], [1, 2])),
                       ((3,), (4,), ([], [])), ((2, 3), (), ([], [])), ((2, 0), (0, 3), ([1], [0])), ((3, 2, 2), (2, 3), ([1], [0])),
                       ((2, 3, 1, 2), (2, 1, 3), ([0, 1, 2], [0, 2, 1]))]:
        text = " ".join("".join(map(str, part)) or "-" for part in axes)
        yield from case(lambda x, y: torch.tensordot(x, y, dims=axes), [random_tensor(a), random_tensor(b)], [f"text {text}"])


EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 5)), ("ij,jk", (3, 4), (4, 5)), ("ij,jk->ki", (3, 4), (4, 5)), ("ij->ji", (3, 4)),
    ("ij->", (3, 4)), ("ij->j", (3, 4)), ("ij", (3, 4)), ("ba", (3, 4)), ("ii", (3, 3)), ("ii->i", (3, 3)),
    ("i,i->", (4,), (4,)), ("i,i->i", (4,), (4,)), ("i,j->ij", (3,), (4,)), ("i,j->ji", (3,), (4,)), ("i,i", (4,), (4,)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bij,bkj->bik", (2, 3, 4), (2, 5, 4)), ("bij,jk->bik", (2, 3, 4), (4, 5)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)), ("ijk,ijk->", (2, 3, 4), (2, 3, 4)),
    ("iij->ij", (3, 3, 2)), ("iij->j", (3, 3, 2)), ("iji->j", (3, 2, 3)), ("iii->i", (2, 2, 2)), ("iijj->ij", (2, 2, 3, 3)),
    ("iij,jkk->ik", (2, 2, 3), (3, 2, 2)), ("ii,i->i", (3, 3), (3,)), ("Ab,bC", (2, 3), (3, 4)), ("bC,Ab", (3, 4), (2, 3)),
    ("...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)), ("...ij,jk->...ik", (2, 2, 3, 4), (4, 5)), ("...,...->...", (2, 1, 3), (4, 1)),
    ("i...,i...->...", (3, 2, 4), (3, 4)), ("...i->...", (2, 3, 4)), ("...ii->...i", (2, 3, 3)), ("...", (2, 3)), ("i...", (2, 3)),
    ("...i,...i", (2, 3), (1, 3)), ("ij,...->...ji", (2, 3), (4, 1)), ("...ij,...->i...", (1, 2, 3), (4,)), ("b...,b", (2, 3), (2,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("i,ij,j->", (3,), (3, 4), (4,)), ("ij,jk,ki->", (2, 3), (3, 4), (4, 2)),
    ("bi,ij,bj->b", (5, 3), (3, 4), (5, 4)), ("ij,jk,kl,lm->im", (2, 3), (3, 2), (2, 4), (4, 2)), ("i,j,k->ijk", (2,), (3,), (2,)),
    ("ab,cd->", (2, 3), (3, 2)), ("ab,bc,cd,da->bd", (2, 3), (3, 2), (2, 3), (3, 2)), ("i,->i", (3,), ()), (",", (), ()), ("", ()),
    ("ij,jk->ik", (0, 4), (4, 5)), ("ij,jk->ik", (3, 0), (0, 5)), ("ii->", (0, 0)), ("ij,kj->ik", (1, 1), (1, 1)),
    (" i j , j k -> i k ", (2, 3), (3, 2)), ("abcdefgh,bdfh->aceg", (1, 2, 1, 2, 2, 1, 2, 2), (2, 2, 1, 2)),
    ("abcdefgh,abcdefgh->abcdefgh", (1, 2, 1, 2, 1, 2, 1, 2), (1, 2, 1, 2, 1, 2, 1, 2)),
    ("abcdefg,abcdefg->abcdef", (1, 2, 1, 2, 1, 2, 3), (1, 2, 1, 2, 1, 2, 3)), ("abcdefgh,h->abcdefg", (1, 2, 1, 2, 1, 2, 1, 2), (2,)),
]


def einsum():
    for text, *shapes in EINSUMS:
        yield from case(lambda *x: torch.einsum(text, *x) * 1, [random_tensor(shape) for shape in shapes], [f"text {text}"])


# ---- triangles and factors -------------------------------------------------------------------------------------------


SYSTEMS = [((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 2)), ((2, 1, 2, 2), (3, 2, 1)), ((1, 1), (1, 1)), ((0, 0), (0, 2)),
           ((3, 3), (3, 0)), ((0, 2, 2), (0, 2, 3)), ((4, 4), (4, 4)), ((3, 3), (3,)), ((2, 3, 3), (3,)), ((7, 7), (2, 2, 7, 3))]


def as_columns(solve):
    return lambda a, b: solve(a, b[:, None])[..., 0] if b.dim() == 1 else solve(a, b)


def triangular_solve():
    for a, b in SYSTEMS:
        for upper in (False, True):
            for transposed in (False, True):
                for unit in (False, True):
                    def function(x, y):
                        return torch.linalg.solve_triangular(x.mT if transposed else x, y, upper=upper != transposed, unitriangular=unit)
                    names = ["upper" if upper else "lower"] + ["transposed"] * transposed + ["unit"] * unit
                    yield from case(as_columns(function), [plus_diagonal(a), random_tensor(b)], ["text " + " ".join(names)])


SQUARE = [(3, 3), (2, 3, 3), (1, 1), (0, 0), (0, 2, 2), (4, 4), (2, 1, 2, 2), (7, 7)]


def positive(shape):
    return plus_diagonal(shape, 9)


def cholesky():
    for shape in SQUARE:
        yield from case(lambda x: torch.linalg.cholesky(symmetric(x)), [positive(shape)])


def cholesky_solve():
    for a, b in SYSTEMS:
        yield from case(as_columns(lambda x, y: torch.linalg.solve(x.tril() @ x.tril().mT, y)), [plus_diagonal(a), random_tensor(b)],
                        ["tolerance 1e-12"])


def solve():
    for a, b in SYSTEMS:
        for x in (plus_diagonal(a), turned(plus_diagonal(a))):
            yield from case(as_columns(torch.linalg.solve), [x, random_tensor(b)])


def of_square(function, sample=plus_diagonal):
    for shape in SQUARE:
        yield from case(function, [sample(shape)])
        if min(shape[-2:]) > 1:
            yield from case(function, [turned(sample(shape))])


def logdet():
    for shape in SQUARE:
        yield from case(torch.logdet, [positive(shape)])


def singular(shape, rank):
    x = random_tensor(shape)
    x[..., rank:, :] = x[..., :1, :]
    return x


def det():
    def minors(x):
        """The sum over permutations: right and differentiable for every matrix, whatever its rank."""
        n = x.shape[-1]
        if n == 0:
            return torch.ones(x.shape[:-2], dtype=F64)
        return sum((-1) ** j * x[..., 0, j] * minors(torch.cat([x[..., 1:, :j], x[..., 1:, j + 1:]], -1)) for j in range(n))

    for shape in [(3, 3), (2, 3, 3), (1, 1), (4, 4), (2, 1, 2, 2), (0, 2, 2)]:
        yield from case(minors, [random_tensor(shape)])
    for shape, rank in [((3, 3), 2), ((3, 3), 1), ((4, 4), 3), ((4, 4), 2), ((2, 4, 4), 1), ((2, 2), 1)]:
        yield from case(minors, [singular(shape, rank)])
    for shape in [(3, 3), (4, 4), (2, 2), (1, 1)]:
        yield from case(minors, [torch.zeros(shape, dtype=F64)])


# ---- decompositions, with the signs that the library chooses -----------------------------------------------------------

TALL_AND_WIDE = [(4, 3), (2, 3, 3), (2, 4), (1, 1), (0, 2), (3, 0), (0, 3, 2), (1, 3), (3, 1), (6, 6), (2, 1, 7, 2), (2, 5)]


def qr(part):
    def function(x):
        q, r = torch.linalg.qr(x)
        signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(F64).detach()
        return q * signs[..., None, :] if part == 0 else r * signs[..., :, None]

    for shape in TALL_AND_WIDE:
        yield from case(function, [plus_diagonal(shape)])


def column_signs(v):
    if v.numel() == 0:
        return torch.ones(v.shape[:-2] + v.shape[-1:], dtype=F64)
    return torch.take_along_dim(v, v.abs().argmax(-2, keepdim=True), -2).sign().squeeze(-2).detach()


def eigh(part):
    def function(x):
        w, v = torch.linalg.eigh(symmetric(x))
        return w if part == 0 else v * column_signs(v)[..., None, :]

    for shape in SQUARE:
        yield from case(function, [plus_diagonal(shape, -2, 6)], ["tolerance 1e-12"])


def svd(part):
    def function(x):
        u, s, vt = torch.linalg.svd(x, full_matrices=False)
        signs = column_signs(u if x.shape[-2] < x.shape[-1] else vt.mT)
        return [s, u * signs[..., None, :], vt * signs[..., :, None]][part]

    for shape in TALL_AND_WIDE:
        yield from case(function, [plus_diagonal(shape, 4, 5)], ["tolerance 1e-12"])


def matrix_exp():
    for shape in SQUARE:
        for scale in (1 / 256, 1 / 16, 1 / 2, 1, 4):
            yield from case(torch.linalg.matrix_exp, [random_tensor(shape) * scale], ["tolerance 1e-11"])
    yield from case(torch.linalg.matrix_exp, [torch.tensor([[0, 64.0], [0, 0]], dtype=F64)])
    yield from case(torch.linalg.matrix_exp, [torch.zeros(3, 3, dtype=F64)])


OPS = {
    "linear": linear,
    "linear_relu": lambda: linear(torch.relu),
    "linear_tanh": lambda: linear(torch.tanh),
    "dot": lambda: (line for a, b in VECTORS for line in case(lambda x, y: (x * y).sum(-1), [random_tensor(a), random_tensor(b)])),
    "outer": outer,
    "tensordot": tensordot,
    "einsum": einsum,
    "triangular_solve": triangular_solve,
    "cholesky": cholesky,
    "cholesky_solve": cholesky_solve,
    "solve": solve,
    "inverse": lambda: of_square(torch.linalg.inv),
    "slogdet": lambda: of_square(lambda x: torch.linalg.slogdet(x).logabsdet),
    "slogdet_sign": lambda: of_square(lambda x: torch.linalg.slogdet(x).sign.detach()),
    "logdet": logdet,
    "det": det,
    "qr_q": lambda: qr(0),
    "qr_r": lambda: qr(1),
    "eigh_values": lambda: eigh(0),
    "eigh_vectors": lambda: eigh(1),
    "svd_values": lambda: svd(0),
    "svd_u": lambda: svd(1),
    "svd_vt": lambda: svd(2),
    "matrix_exp": matrix_exp,
}

if __name__ == "__main__":
    write_ops(OPS, "linalg.py")
