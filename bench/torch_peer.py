"""The same cases as scalar.c in PyTorch, eager, with one thread, printing the same lines."""

import statistics
import sys
import time

import torch

SAMPLES = 15


def report(name, unit, value):
    print(f"{name}\t{unit}\t{value:.6g}", flush=True)


def median_of(samples, function):
    function()
    return statistics.median(function() for _ in range(samples))


def chain(n):
    x, b, c = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.0, 0.999, 1e-3))
    y = x
    for _ in range(n // 2):
        y = y * b + c
    return x, y


def scalar(n):
    start = time.perf_counter()
    _, y = chain(n)
    recorded = time.perf_counter()
    y.backward()
    return 1e9 * (recorded - start) / n, 1e9 * (time.perf_counter() - recorded) / n


def main():
    torch.set_num_threads(1)
    if len(sys.argv) > 1 and sys.argv[1] == "check":
        x, y = chain(1000)
        y.backward()
        report("scalar chain", "dy/dx", x.grad.item())
    else:
        rounds = [scalar(10000) for _ in range(SAMPLES)]
        report("scalar op, record (1e4)", "ns/op", statistics.median(r[0] for r in rounds))
        report("scalar op, back (1e4)", "ns/op", statistics.median(r[1] for r in rounds))


main()
