"""What a run measured: medians with their spread, how far they are from the floor, who is ahead, as JSON and as text."""

import collections
import dataclasses
import datetime
import json
import math
import os
import platform
import re
import statistics

BOUNDS = {"gradient": 4, "hvp": 10}  # what derivatives may cost at most, in times of the function's own
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
POINT = re.compile(r"\b(\w+)=([0-9.]+(?:e[0-9]+)?)(Ki|Mi)?\b")


def threads_text(threads):
    return "1 thread" if threads == 1 else f"{threads} threads"


def digits(number):
    """Four of them, without an exponent."""
    return f"{number:.4g}" if number < 1000 else f"{number:.0f}"


def times(ratio):
    return f"{ratio:.2f}x" if ratio < 100 else f"{ratio:.0f}x"


def rounds_text(rounds):
    return "one round" if rounds == 1 else f"medians of {rounds} rounds"


@dataclasses.dataclass
class Spread:
    median: float
    least: float
    most: float

    def __str__(self):
        return f"{digits(self.median):>9}  {digits(self.least):>9} .. {digits(self.most):<9}"


@dataclasses.dataclass
class Case:
    """One case at one number of threads; `sides` has a Spread for each side that was measured, ours first."""

    name: str
    threads: int
    unit: str
    flops: float = 0.0
    bytes: float = 0.0
    sides: dict = dataclasses.field(default_factory=dict)

    @property
    def seconds(self):
        """One unit in seconds; None if it is not one of time."""
        return SECONDS.get(self.unit.split("/")[0])

    def ratio(self, key):
        """How many times as long (or as large) as ours that side is; None if either was not measured."""
        if key not in self.sides or "adtape" not in self.sides:
            return None
        return self.sides[key].median / self.sides["adtape"].median

    def point(self):
        """("mlp", "width", 256.0) for "mlp width=256", or None: the series, and where in it the case is."""
        found = POINT.search(self.name)
        if not found:
            return None
        size = float(found[2]) * {None: 1, "Ki": 1 << 10, "Mi": 1 << 20}[found[3]]
        rest = f"{self.name[: found.start()]}{self.name[found.end() :]}"
        return " ".join(rest.replace(" :", ":").split()), found[1], size


class Record:
    """What is being measured; Results are made of it."""

    def __init__(self, sides, options):
        self.names = {side.key: side.name for side in sides}
        self.rounds = options.rounds
        self.quick = options.quick
        self.floors = {}  # threads -> what -> the best that was seen
        self.cases = {}  # (name, threads) -> Case without its sides
        self.numbers = collections.defaultdict(list)  # (name, threads, key)
        self.agreed = collections.defaultdict(set)  # key -> names of cases
        self.refused = []

    def refuse(self, side, why):
        text = f"{side.name}: {why}"
        if text not in self.refused:
            self.refused.append(text)

    def add(self, side, threads, name, unit, number, flops=0, bytes=0):
        if side.key == "adtape":
            self.cases.setdefault((name, threads), Case(name, threads, unit, float(flops), float(bytes)))
        elif (name, threads) not in self.cases:
            return
        elif name not in self.agreed[side.key]:
            if not any(name in refusal for refusal in self.refused):
                self.refuse(side, f"{name}: nothing shows that it computes the same")
            return
        elif unit != self.cases[name, threads].unit:
            self.refuse(side, f"{name}: it counts in {unit}, adtape in {self.cases[name, threads].unit}")
            return
        self.numbers[name, threads, side.key].append(float(number))

    def results(self):
        for (name, threads, key), numbers in self.numbers.items():
            spread = (statistics.median(numbers), min(numbers), max(numbers))
            self.cases[name, threads].sides[key] = Spread(*(float(f"{number:.6g}") for number in spread))
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
        return Results(
            machine=machine(),
            date=date,
            rounds=self.rounds,
            quick=self.quick,
            names=self.names,
            floors=self.floors,
            cases=list(self.cases.values()),
            refused=self.refused,
        )


def machine():
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), model)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


@dataclasses.dataclass
class Results:
    machine: str
    date: str
    rounds: int
    quick: bool
    names: dict  # key -> name of each side
    floors: dict
    cases: list
    refused: list

    def floor(self, case):
        """The seconds that one unit of a case takes at least, and why: "compute" or "memory". (None, "") if it has none."""
        limits = self.floors.get(case.threads)
        if not limits or not case.seconds:
            return None, ""
        peak = limits["fma f64" if "f64" in case.name else "fma f32"] * 1e9
        compute, memory = case.flops / peak, case.bytes / self._bandwidth(case, limits)
        if not compute and not memory:
            return None, ""
        return max(compute, memory), "compute" if compute >= memory else "memory"

    def _bandwidth(self, case, limits):
        """Bytes a second of a copy that touches as much memory as the case does: between two that were measured."""
        point = case.point()
        touched = case.bytes * (point[2] if point and point[1] == "ops" else 1)
        known = sorted((int(what.split()[1]), speed * 1e9) for what, speed in limits.items() if what.startswith("copy"))
        if touched <= known[0][0]:
            return known[0][1]
        for (small, fast), (large, slow) in zip(known, known[1:]):
            if touched <= large:
                part = math.log(touched / small) / math.log(large / small)
                return fast ** (1 - part) * slow**part
        return known[-1][1]

    def above_floor(self, case):
        """How many times its floor a case of ours takes, and why it is the floor."""
        floor, why = self.floor(case)
        if floor is None or "adtape" not in case.sides:
            return None, ""
        return case.sides["adtape"].median * case.seconds / floor, why

    def costs(self):
        """(name, threads, {what: times of the value}) for each NAME: value that has a NAME: gradient or NAME: hvp."""
        found = {(c.name, c.threads): c.sides["adtape"].median for c in self.cases if "adtape" in c.sides}
        for (name, threads), value in found.items():
            if name.endswith(": value"):
                stem = name.removesuffix(": value")
                of = {what: found.get((f"{stem}: {what}", threads)) for what in BOUNDS}
                ratios = {what: time / value for what, time in of.items() if time}
                if ratios:
                    yield stem, threads, ratios

    def write(self, path):
        """As JSON, a case in a line."""
        head = dataclasses.asdict(self)
        cases = ",\n".join("  " + json.dumps(case) for case in head.pop("cases"))
        text = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
        path.write_text(f'{text},\n "cases": [\n{cases}\n ]\n}}\n', encoding="utf-8")


def read(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    data["floors"] = {int(threads): limits for threads, limits in data["floors"].items()}
    data["cases"] = [
        Case(**case | {"sides": {key: Spread(**spread) for key, spread in case["sides"].items()}})
        for case in data["cases"]
    ]
    return Results(**data)


# ---- who is ahead ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Standing:
    """Us against one peer, at one number of threads."""

    key: str
    name: str
    threads: int
    cases: int
    mean: float  # geometric, of the ratios
    behind: list  # (name of the case, ratio), the worst first


def standings(results):
    for threads in sorted(results.floors):
        for key, name in results.names.items():
            ratios = [
                (case.name, case.ratio(key))
                for case in results.cases
                if case.threads == threads and case.seconds and case.ratio(key)
            ]
            if key == "adtape" or not ratios:
                continue
            mean = math.exp(statistics.fmean(math.log(ratio) for _, ratio in ratios))
            behind = sorted((pair for pair in ratios if pair[1] < 1), key=lambda pair: pair[1])
            yield Standing(key, name, threads, len(ratios), mean, behind)


# ---- text ------------------------------------------------------------------------------------------------------------


def print_tables(results, stream, colour=False):
    def say(text=""):
        print(text.rstrip(), file=stream)

    def coloured(text, ratio):
        return f"\x1b[3{2 if ratio >= 1 else 1}m{text}\x1b[0m" if colour else text

    say(f"{results.machine}; {rounds_text(results.rounds)} (least .. most)")
    width = max(len(case.name) for case in results.cases) + 2
    for threads in sorted(results.floors):
        cases = [case for case in results.cases if case.threads == threads]
        if cases:
            say(f"\n{threads_text(threads)}\n")
        for case in cases:
            above, why = results.above_floor(case)
            note = f"{times(above):>8} the floor ({why})" if above else ""
            say(f"{case.name:{width}}{case.unit:6} {case.sides['adtape']} {note}")
            for key, spread in case.sides.items():
                if key != "adtape":
                    ratio = case.ratio(key)
                    say(f"  {results.names[key]:{width + 4}} {spread} {coloured(f'{times(ratio):>8} as long', ratio)}")
    print_costs(results, say)
    for standing in standings(results):
        ahead = standing.cases - len(standing.behind)
        say(
            f"\n{standing.name}, {threads_text(standing.threads)}: ahead in {ahead} of {standing.cases} cases; "
            f"it takes {standing.mean:.2f} times as long (geometric mean)"
        )
        for name, ratio in standing.behind:
            say(f"  behind  {ratio:5.2f}x  {name}")


def print_costs(results, say):
    costs = list(results.costs())
    if costs:
        bounds = ", ".join(f"{what} {bound}x" for what, bound in BOUNDS.items())
        say(f"\nwhat derivatives cost, in times of the function's own; the bounds are {bounds}\n")
    for name, threads, ratios in costs:
        text = ", ".join(
            f"{what} {ratio:.2f}x{' (above the bound)' if ratio > BOUNDS[what] else ''}"
            for what, ratio in ratios.items()
        )
        say(f"  {name}, {threads_text(threads)}: {text}")
