"""What the peers in Python share with bench/bench.h: the command line, how time is measured, what is printed."""

import argparse
import math
import os
import statistics
import time

SAMPLES, LEAST = 15, 3


def arguments(*flags):
    """The command line; `flags` are more options that are on or off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="")
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    parser.add_argument("check", nargs="?", choices=["check"])
    return parser.parse_args()


def seconds():
    return float(os.environ.get("ADTAPE_BENCH_SECONDS", "0.1"))


def measure(call):
    """The median seconds of a call. The first, which warms up, does not count."""
    call()
    repeat, enough = 1, seconds() / SAMPLES / 2
    while (start := time.perf_counter()) and _run(call, repeat) < enough:
        repeat *= 2
    samples, end = [], start + seconds()
    while len(samples) < SAMPLES and (len(samples) < LEAST or time.perf_counter() < end):
        samples.append(_run(call, repeat) / repeat)
    return statistics.median(samples)


def _run(call, repeat):
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return time.perf_counter() - start


def report(name, unit, number):
    print(f"{name}\t{unit}\t{number:.10g}", flush=True)


def fingerprint(flat, places):
    """What bench_fingerprint of bench/bench.h computes, of a vector of doubles and its indices, of NumPy or PyTorch."""
    weighted = flat * (1 + places % 8 / 8)
    return float((2 * abs(weighted) + weighted).sum())


def sines(count, step=0.37, size=1.0, start=0.0):
    """size sin(step i + start), as the programs in C make their data."""
    return [size * math.sin(step * i + start) for i in range(count)]
