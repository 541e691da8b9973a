"""Plots of time against size, as SVG; they need matplotlib, which is used if it is there."""

import dataclasses

COLOURS = {
    "adtape": "#d62728",
    "torch": "#1f77b4",
    "compile": "#17becf",
    "libtorch": "#9467bd",
    "jax": "#2ca02c",
    "adolc": "#8c564b",
    "cblas": "#ff7f0e",
}
OTHER = "#7f7f7f"


@dataclasses.dataclass
class Plot:
    file: str
    title: str
    size: str  # what is along the horizontal axis
    key: str  # that of the series' points
    series: dict  # name of a series: title of its panel


PLOTS = [
    Plot("scalar", "an f64 operation in a chain", "operations in the chain", "ops",
         {"scalar f64 record": "recorded", "scalar f64 back": "walked back"}),
    Plot("gemm", "f32 matrix product", "n", "n", {"gemm f32 nn": ""}),
    Plot("attention", "attention, forward and back", "length of the sequence", "T", {"attention f32: gradient": ""}),
    Plot("width", "perceptron of 3 layers, forward and back, batch 64", "width", "width", {"mlp f32: gradient": ""}),
    Plot("batch", "perceptron of 3 layers, forward and back, width 256", "batch", "batch", {"mlp f32: gradient": ""}),
]  # fmt: skip


def draw(results, folder, say):
    """Writes those plots that the results have points for. True if there is matplotlib."""
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        say("there are no plots without matplotlib: pip install matplotlib")
        return False
    # The same file from the same numbers; letters as letters, which is smaller.
    matplotlib.rcParams.update({"svg.hashsalt": "adtape", "svg.fonttype": "none", "font.size": 9})
    folder.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        if draw_one(plot, results, folder, pyplot):
            say(f"drew {folder / plot.file}.svg")
    return True


def points_of(series, key, results):
    """Cases at one thread of a series: [(size, case)], in order."""
    found = []
    for case in results.cases:
        point = case.point()
        if case.threads == 1 and point and point[:2] == (series, key):
            found.append((point[2], case))
    return sorted(found, key=lambda pair: pair[0])


def draw_one(plot, results, folder, pyplot):
    panels = {series: points_of(series, plot.key, results) for series in plot.series}
    if not any(len(points) > 1 for points in panels.values()):
        return False
    figure, axes = pyplot.subplots(1, len(panels), figsize=(3.2 + 3.2 * len(panels), 3.6), sharey=True, squeeze=False)
    for axis, (series, points) in zip(axes[0], panels.items()):
        draw_panel(axis, points, results)
        axis.set_title(f"{plot.title}{', ' if plot.series[series] else ''}{plot.series[series]}", fontsize=10)
        axis.set_xlabel(plot.size)
    axes[0][0].set_ylabel(points[0][1].unit)
    axes[0][-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(folder / f"{plot.file}.svg", metadata={"Date": None})
    pyplot.close(figure)
    return True


def draw_panel(axis, points, results):
    for key, name in results.names.items():
        curve = [(size, case.sides[key]) for size, case in points if key in case.sides]
        if not curve:
            continue
        sizes, spreads = zip(*curve)
        colour, is_ours = COLOURS.get(key, OTHER), key == "adtape"
        axis.fill_between(sizes, [s.least for s in spreads], [s.most for s in spreads], color=colour, alpha=0.15, lw=0)
        medians = [s.median for s in spreads]
        axis.plot(sizes, medians, color=colour, label=name, marker="o", ms=3, lw=2 if is_ours else 1)
    floors = [(size, results.floor(case)[0], case.seconds) for size, case in points]
    floors = [(size, floor / unit) for size, floor, unit in floors if floor]
    if floors:
        axis.plot(*zip(*floors), color="black", ls=":", lw=1, label="floor")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.grid(alpha=0.25)
    axis.minorticks_off()
    if points[-1][0] < 1e4:
        axis.set_xticks([size for size, _ in points], [f"{size:g}" for size, _ in points])
