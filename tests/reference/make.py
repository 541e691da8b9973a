#!/usr/bin/env python3
"""Writes the reference data beside it, which the C tests read. Needs PyTorch; run it when a case is added:

    python3 tests/reference/make.py
"""

import itertools
import pathlib

HERE = pathlib.Path(__file__).parent


def write(name, about, lines):
    text = "".join(f"# {line}\n" for line in about) + "".join(f"{line}\n" for line in lines)
    (HERE / f"{name}.txt").write_text(text)


def slices():
    ends = (-6, -5, -4, -1, 0, 1, 4, 5)
    for n, start, stop, step in itertools.product((0, 1, 5), ends, ends, (1, 2, -1, -3)):
        taken = range(n)[start:stop:step]
        yield f"{n} {start} {stop} {step} : {taken.start if taken else 0} {len(taken)}"


if __name__ == "__main__":
    write("slice", ["Which elements Python's slice takes (make.py).", "n start stop step : first length"], slices())
