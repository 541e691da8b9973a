"""The same cases as scalar.c and mlp.c in PyTorch, eager, with one thread, printing the same lines."""

import math
import statistics
import sys
import time

import torch
from torch.nn.functional import cross_entropy

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


def parameters(*shapes):
    made = []
    for shape in shapes:
        scale = math.sqrt(2.0 / shape[0]) if len(shape) == 2 else 0.0
        values = [scale * math.sin(1.7 * i + 1.0) for i in range(math.prod(shape))]
        made.append(torch.tensor(values, dtype=torch.float32).reshape(shape).requires_grad_())
    return made


def data(batch, inputs):
    x = torch.tensor([math.sin(0.37 * i) for i in range(batch * inputs)], dtype=torch.float32).reshape(batch, inputs)
    y = torch.tensor([[math.cos(0.11 * i)] for i in range(batch)], dtype=torch.float32)
    return x, y, torch.tensor([i % 10 for i in range(batch)])


def regression(batch):
    w = parameters((2, 16), (16,), (16, 16), (16,), (16, 1), (1,))
    x, y, _ = data(batch, 2)

    def loss():
        h = torch.relu(torch.addmm(w[1], x, w[0]))
        h = torch.relu(torch.addmm(w[3], h, w[2]))
        error = torch.addmm(w[5], h, w[4]) - y
        return (error * error).mean()

    return loss, torch.optim.SGD(w, lr=1e-3)


def digits():
    w = parameters((64, 128), (128,), (128, 128), (128,), (128, 10), (10,))
    x, _, label = data(64, 64)

    def loss():
        h = torch.relu(torch.addmm(w[1], x, w[0]))
        h = h + torch.relu(torch.addmm(w[3], h, w[2]))
        return cross_entropy(torch.addmm(w[5], h, w[4]), label)

    return loss, torch.optim.AdamW(w, lr=1e-3, weight_decay=0.01, fused=True)


def step(loss, optimizer):
    optimizer.zero_grad(set_to_none=True)
    value = loss()
    value.backward()
    optimizer.step()
    return value


def steps(loss, optimizer, n):
    start = time.perf_counter()
    for _ in range(n):
        step(loss, optimizer)
    return 1e6 * (time.perf_counter() - start) / n


def main():
    torch.set_num_threads(1)
    check = len(sys.argv) > 1 and sys.argv[1] == "check"
    cases = [
        ("mlp 2-16-16-1 step, batch 1", *regression(1), 500),
        ("mlp 2-16-16-1 step, batch 32", *regression(32), 500),
        ("digits step, batch 64", *digits(), 50),
    ]
    if check:
        x, y = chain(1000)
        y.backward()
        report("scalar chain", "dy/dx", x.grad.item())
    else:
        rounds = [scalar(10000) for _ in range(SAMPLES)]
        report("scalar op, record (1e4)", "ns/op", statistics.median(r[0] for r in rounds))
        report("scalar op, back (1e4)", "ns/op", statistics.median(r[1] for r in rounds))
    for name, loss, optimizer, n in cases:
        if check:
            for _ in range(5):
                step(loss, optimizer)
            report(name, "loss", step(loss, optimizer).item())
        else:
            report(name, "us", median_of(SAMPLES, lambda: steps(loss, optimizer, n)))


main()
