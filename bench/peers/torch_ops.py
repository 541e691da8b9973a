"""The cases of bench/scalar.c in PyTorch.

    torch_ops.py [--compile] [--threads N] [--only TEXT] [check]
"""

import statistics
import time

import torch

import peer


def chain(n):
    x, b, c = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 1 - 1e-6, 1e-6))
    y = x
    for _ in range(n // 2):
        y = y * b + c
    return x, y


def record_and_back(n):
    start = time.perf_counter()
    x, y = chain(n)
    recorded = time.perf_counter()
    y.backward()
    return recorded - start, time.perf_counter() - recorded, x.grad.item()


def scalars(options):
    """A chain of 1e6 operations would take seconds, and say the same."""
    if options.compile or options.threads > 1:
        return
    for n in ("1e3", "1e4", "1e5"):
        names = [f"scalar f64 {what} ops={n}" for what in ("record", "back")]
        if not any(options.only in name for name in names):
            continue
        runs = [record_and_back(int(float(n))) for _ in range(1 if options.check else 4)]
        for part, name in enumerate(names):
            if options.only not in name:
                continue
            if options.check:
                peer.report(name, "dy/dx", runs[0][2])
            else:
                peer.report(name, "ns/op", 1e9 / float(n) * statistics.median(run[part] for run in runs[1:]))


def main():
    options = peer.arguments("--compile")
    torch.set_num_threads(options.threads)
    scalars(options)


main()
