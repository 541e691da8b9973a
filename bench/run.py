#!/usr/bin/env python3
"""Runs the benchmarks of a build, beside those peers that are installed, and says which is how fast.

First every program computes each of its cases once: what a peer does not compute as adtape does is not compared. Then
all run in turn, A B A B, so that what the machine does meanwhile meets all of them. bench/bench.h describes the
programs, docs/performance.md what the numbers mean.
"""

import argparse
import math
import os
import pathlib
import subprocess
import sys

import page
import plots
import results
import sides
from progress import Progress

TOLERANCE = 1e-3  # relative, of a number that both compute in float


def arguments():
    cores = "1,2" if (os.cpu_count() or 1) > 1 else "1"
    known = ",".join(sides.FINDERS)
    parser = argparse.ArgumentParser(prog="./dev bench", description="Measure adtape and its peers side by side.")
    add = parser.add_argument
    add("build", help=argparse.SUPPRESS)
    add("rounds", nargs="?", type=int, help="how often each program runs; default 3, with --quick 1")
    add("--only", default="", metavar="TEXT", help="the cases with this text in their names")
    add("--peers", metavar="LIST", help=f"of these: {known}, or none; default: all that are installed")
    add("--peer", action="append", default=[], metavar="NAME=WHAT", help="one more: another build folder of adtape, or a "
        "program that takes and prints what bench/bench.h says")  # fmt: skip
    add("--threads", metavar="LIST", help=f"numbers of threads; default {cores}, with --quick 1")
    add("--quick", action="store_true", help="a rough look, in minutes: one round, little time for each case")
    add("--json", metavar="FILE", help="where the results go; default: bench.json in the build folder")
    add("--write-docs", action="store_true", help="run nothing; put the results into docs/performance.md")
    options = parser.parse_intermixed_args()
    options.build = pathlib.Path(options.build).resolve()
    options.json = pathlib.Path(options.json or options.build / "bench.json").resolve()
    options.rounds = (1 if options.quick else 3) if options.rounds is None else options.rounds
    try:
        options.threads = [int(number) for number in (options.threads or ("1" if options.quick else cores)).split(",")]
        options.peers = sides.choose(options.peers)
        options.more = [sides.given(text) for text in options.peer]
    except ValueError as error:
        parser.error(str(error))
    if options.rounds < 1 or min(options.threads) < 1:
        parser.error("rounds and threads are numbers above 0")
    return options


# ---- programs --------------------------------------------------------------------------------------------------------


class Failed(Exception):
    """A program ended badly, or printed what cannot be read; `lines` are those that it printed before."""

    def __init__(self, why, lines=()):
        super().__init__(why)
        self.lines = lines


def stem(program):
    """What to call a program: the last file of its command."""
    files = [pathlib.Path(word) for word in program]
    return next((path.stem for path in reversed(files) if path.is_file()), files[0].name)


def lines_of(program, side, threads, *more):
    """What a program prints, as lists of fields."""
    command = [str(word) for word in [*program, "--threads", threads, *more]]
    environment = sides.environment(side, threads)
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"{stem(program)} does not start: {error.strerror}") from error
    lines = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    for line in lines:
        if len(line) not in (3, 5) or not all(map(is_number, line[2:])):
            raise Failed(f"{stem(program)} printed what is not a result: {' '.join(line)}")
    if done.returncode != 0:
        last = (done.stderr.strip() or "nothing was said").splitlines()[-1]
        raise Failed(
            f"{stem(program)}{' check' if 'check' in more else ''}: exit status {done.returncode}: {last}", lines
        )
    return lines


def is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def run_or_refuse(program, side, threads, record, *more):
    """The lines of a program; up to there, and a refusal, if a peer's fails. Ours may not."""
    try:
        return lines_of(program, side, threads, *more)
    except Failed as error:
        if side.key == "adtape":
            raise
        record.refuse(side, str(error))
        return error.lines


def measure_floor(build, options, record):
    """The limits of the machine: the best that was seen in any round."""
    for threads in options.threads:
        for what, _, number in lines_of([build / "bench" / "floor"], None, threads):
            limits = record.floors.setdefault(threads, {})
            limits[what] = max(limits.get(what, 0.0), float(number))


# ---- checking --------------------------------------------------------------------------------------------------------


def agree(a, b):
    return math.isclose(a, b, rel_tol=TOLERANCE)


def check(everyone, options, record, progress):
    """Computes every case once on every side. Cases that come out as ours do are put down as agreed."""
    ours = {}
    for side in everyone:
        theirs = {}
        for program in side.programs:
            progress.step(f"checking {side.name} ({stem(program)})")
            for case, what, number in run_or_refuse(program, side, 1, record, *only(options), "check"):
                theirs[case, what] = float(number)
        ours = ours or theirs
        wrong = {key for key in theirs.keys() & ours.keys() if not agree(ours[key], theirs[key])}
        for key in sorted(wrong):
            record.refuse(side, f"{': '.join(key)} is {theirs[key]:.7g}, that of adtape {ours[key]:.7g}")
        record.agreed[side.key] = {case for case, _ in theirs.keys() & ours.keys()} - {case for case, _ in wrong}


def only(options):
    return ["--only", options.only] if options.only else []


# ---- the run ---------------------------------------------------------------------------------------------------------


def measure(everyone, options, record, progress):
    for number in range(1, options.rounds + 1):
        measure_floor(options.build, options, record)
        for side in everyone:
            for threads in options.threads:
                for program in side.programs:
                    who = f"{side.name} ({stem(program)}), {results.threads_text(threads)}"
                    progress.step(f"round {number} of {options.rounds}: {who}")
                    for line in run_or_refuse(program, side, threads, record, *only(options)):
                        record.add(side, threads, *line)


def our_side(build):
    names = sides.our_programs()
    missing = [name for name in [*names, "floor"] if not (build / "bench" / name).is_file()]
    if missing:
        raise Failed(f"{build}/bench has no {', '.join(missing)}: build it first")
    return sides.Side(key="adtape", name="adtape", programs=[[build / "bench" / name] for name in names])


def run(options):
    progress = Progress()
    everyone = [our_side(options.build)]
    for name, ignored in sorted(sides.ignored_variables().items()):
        progress.note(f"{name}={ignored} is set, and ignored: it would change how fast a peer is")
    for found in sides.find(options.peers, options.build, progress) + options.more:
        if isinstance(found, sides.Side):
            everyone.append(found)
        else:
            progress.note(f"{found.name} is left out: {found.why}")
    record = results.Record(everyone, options)
    programs = sum(len(side.programs) for side in everyone)
    progress.expect(programs * (1 + options.rounds * len(options.threads)))
    check(everyone, options, record, progress)
    measure(everyone, options, record, progress)
    progress.end()
    return record


def main():
    options = arguments()
    if options.write_docs:
        return page.write(options.json)
    os.environ.setdefault("ADTAPE_BENCH_SECONDS", "0.02" if options.quick else "0.1")
    try:
        record = run(options)
    except Failed as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("\nbench: interrupted")
    if not record.cases:
        sys.exit(f"bench: there is no case with '{options.only}' in its name")
    found = record.results()
    found.write(options.json)
    results.print_tables(found, sys.stdout, colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    print()
    plots.draw(found, options.json.parent / "bench-plots", print)
    print(f"wrote {os.path.relpath(options.json)}")
    for refusal in record.refused:
        print(f"not compared: {refusal}", file=sys.stderr)
    return 1 if record.refused else 0


if __name__ == "__main__":
    sys.exit(main())
