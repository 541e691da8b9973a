#!/usr/bin/env python3
"""Puts the results of a run into docs/performance.md: each part between <!-- bench PART --> and <!-- end --> is made of
docs/performance/results.json, which a new run replaces.

    page.py [check]    writes the page again from those results; with check only says whether it is up to date
"""

import pathlib
import re
import shutil
import sys

import goals
import plots
import results as measured

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"
PAGE, FOLDER = DOCS / "performance.md", DOCS / "performance"
PART = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Title: which cases it has. The first that fits takes a case.
GROUPS = {
    "Training steps": r"(?!.*: (value|gradient|hvp)$).*( step, | gradient, )",
    None: r".*( step, | gradient, )",  # what these are made of is in the table of costs
    "Scalars": r"scalar ",
    "Operations on few elements": r"small ops ",
    "Matrix products": r"gemm ",
    "Attention by length": r"attention ",
    "Perceptrons by width and batch": r"mlp f32 ",
    "Whole matrices of derivatives": r"(jacobian|hessian) ",
    "Single operations": r"",
}
SHARED_BETWEEN_THREADS = ("Training steps", "Attention by length", "Perceptrons by width and batch")


# ---- the parts -------------------------------------------------------------------------------------------------------


def table(head, rows):
    """In Markdown; all columns but the first are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine(results):
    quick = ", a quick look" if results.quick else ""
    text = f"{results.machine}; {results.date}; {measured.rounds_text(results.rounds)}{quick}.\n\n"
    head = ["limit", *(measured.threads_text(threads) for threads in sorted(results.floors))]
    rows = []
    for what, unit in limits(results):
        rows.append([what_of(what), *(f"{results.floors[n][what]:.0f} {unit}" for n in sorted(results.floors))])
    return text + table(head, rows)


def limits(results):
    first = next(iter(results.floors.values()))
    return [(what, "GFLOP/s" if what.startswith("fma") else "GB/s") for what in first]


def what_of(what):
    kind, detail = what.split()
    if kind == "fma":
        return f"multiply-adds, {detail}"
    return f"a copy that touches {int(detail) >> 10} KiB" if int(detail) < 1 << 20 else f"… {int(detail) >> 20} MiB"


def group_of(case):
    return next(title for title, pattern in GROUPS.items() if re.match(pattern, case.name))


def tables(results):
    parts = []
    for threads in sorted(results.floors):
        folded = threads > 1
        parts.append(f"<details><summary>{measured.threads_text(threads)}</summary>\n" if folded else "")
        for title in filter(None, GROUPS):
            cases = [case for case in results.cases if case.threads == threads and group_of(case) == title]
            if cases:
                parts.append(f"**{title}**, {measured.threads_text(threads)}\n\n{group_table(results, cases)}")
        parts.append("</details>\n" if folded else "")
    return "\n".join(filter(None, parts))


def group_table(results, cases):
    keys = [key for key in results.names if key != "adtape" and any(key in case.sides for case in cases)]
    has_floor = any(results.above_floor(case)[0] for case in cases)
    head = ["case", "adtape", "least .. most", *(["floor"] if has_floor else []), *(results.names[key] for key in keys)]
    return table(head, [row(results, case, keys, has_floor) for case in cases])


def row(results, case, keys, has_floor):
    ours = case.sides["adtape"]
    above, _ = results.above_floor(case)
    floor = [f"{above:.3g}x" if above else ""] if has_floor else []
    spread = f"{measured.digits(ours.least)} .. {measured.digits(ours.most)}"
    median = f"{measured.digits(ours.median)} {case.unit}"
    return [case.name, median, spread, *floor, *(ratio_text(case.ratio(key)) for key in keys)]


def ratio_text(ratio):
    if ratio is None:
        return ""
    return measured.times(ratio) if ratio >= 1 else f"**{measured.times(ratio)}**"


def standings(results):
    head = ["peer", "threads", "adtape is ahead in", "the peer takes, in the geometric mean"]
    rows = [
        [standing.name, str(standing.threads), f"{standing.cases - len(standing.behind)} of {standing.cases}",
         measured.times(standing.mean)]
        for standing in measured.standings(results)
    ]  # fmt: skip
    return table(head, rows) if rows else "No peer was measured.\n"


def behind(results):
    """The cases that some peer is faster in, and those ratios."""
    found = {}  # (threads, case) -> key -> ratio
    for standing in measured.standings(results):
        for name, ratio in standing.behind:
            found.setdefault((standing.threads, name), {})[standing.key] = ratio
    if not found:
        return "Nowhere, in this run.\n"
    keys = [key for key in results.names if any(key in ratios for ratios in found.values())]
    rows = [
        [name, str(threads), *(measured.times(ratios[key]) if key in ratios else "" for key in keys)]
        for (threads, name), ratios in sorted(found.items(), key=lambda item: (item[0][0], min(item[1].values())))
    ]
    return table(["case", "threads", *(results.names[key] for key in keys)], rows)


def aims(results):
    rows = []
    for goal in goals.GOALS:
        number = goal.found(results)
        if number is None:
            rows.append([goal.case, str(goal.threads), f"{goal.aim:g}", "not measured", ""])
        else:
            verdict = "reached" if goal.reached(number) else "**no**"
            rows.append([goal.case, str(goal.threads), goal.text(goal.aim), goal.text(number), verdict])
    return table(["case", "threads", "goal", "measured", ""], rows)


def costs(results):
    rows = [
        [name, *(cost_text(what, ratios.get(what)) for what in measured.BOUNDS)]
        for name, threads, ratios in results.costs()
        if threads == 1
    ]
    return table(["function", "its gradient", "Hessian times a vector"], rows)


def cost_text(what, ratio):
    if ratio is None:
        return ""
    return measured.times(ratio) if ratio <= measured.BOUNDS[what] else f"**{measured.times(ratio)}**"


def drawings(_results):
    shown = [plot for plot in plots.PLOTS if (FOLDER / f"{plot.file}.svg").exists()]
    return "\n".join(f"![{plot.title}](performance/{plot.file}.svg)\n" for plot in shown)


def gains(results):
    """How many times as fast each side is with the most threads as with one."""
    most = max(results.floors)
    many = {case.name: case for case in results.cases if case.threads == most}
    pairs = [
        (case, many[case.name])
        for case in results.cases
        if case.threads == 1 and case.name in many and group_of(case) in SHARED_BETWEEN_THREADS
    ]
    if most == 1 or not pairs:
        return "This run had one thread.\n"
    keys = [key for key in results.names if any(key in more.sides for _, more in pairs)]
    rows = [[one.name, *(gain_text(one, more, key) for key in keys)] for one, more in pairs]
    return table([measured.threads_text(most), *(results.names[key] for key in keys)], rows)


def gain_text(one, more, key):
    if key not in one.sides or key not in more.sides:
        return ""
    return measured.times(one.sides[key].median / more.sides[key].median)


PARTS = {
    "machine": machine,
    "standings": standings,
    "behind": behind,
    "goals": aims,
    "tables": tables,
    "costs": costs,
    "gains": gains,
    "plots": drawings,
}


# ---- the page --------------------------------------------------------------------------------------------------------


def page_of(results):
    text = PAGE.read_text(encoding="utf-8")
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]](results)}\n{found[3]}", text)


def write(path):
    """Makes the results in `path` those of the page."""
    results = measured.read(path)
    FOLDER.mkdir(exist_ok=True)
    if path.resolve() != (FOLDER / "results.json").resolve():
        shutil.copyfile(path, FOLDER / "results.json")
    plots.draw(results, FOLDER, print)
    PAGE.write_text(page_of(results), encoding="utf-8")
    print(f"wrote {PAGE}")


def check():
    """Whether the page is what its results make of it."""
    if page_of(measured.read(FOLDER / "results.json")) == PAGE.read_text(encoding="utf-8"):
        return True
    print("docs/performance.md is stale: run bench/page.py")
    return False


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        sys.exit(0 if check() else 1)
    write(FOLDER / "results.json")
