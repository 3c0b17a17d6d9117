"""Page and picture of `just bench forest`."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report import FILTERS, OWN_COLOUR, Report, panels, render

BATCHES = ("1", "32", "64", "1000", "20000")
COLOURS = {
    "Madrone": OWN_COLOUR,
    "LightGBM, 1 thread": "#2f6f4f",
    "lleaves": "#7a5195",
    "TL2cgen": "#bc8f2c",
    "Treelite GTIL": "#8c8c8c",
    "ONNX Runtime, double": "#3a78b5",
    "pylignum, interpreted": "#d98cb3",
    "pylignum, compiled": "#b0447f",
    "Madrone's transforms + LightGBM": "#2f6f4f",
    "Madrone's transforms alone": "#e0a89b",
}
MANY_THREADS = "#8fbfa5"
COMPARED = ("LightGBM, 1 thread", "lleaves", "pylignum, compiled", "Madrone's transforms + LightGBM")
"""Engines whose ratios the page shows; the JSON file has all."""


def page(report: Report) -> str:
    engines = {label: one for model in report["models"].values() for label, one in model["engines"].items()}
    packages = {label: FILTERS["listed"](one["versions"]) for label, one in engines.items() if one["versions"]}
    return render("forest", report, BATCHES=BATCHES, COMPARED=COMPARED, labels=[*engines], engines=packages)


def picture(report: Report) -> Figure:
    """µs a row by rows a call, a panel for each model."""
    title = "One CPU thread, except where more are named; median and quartiles"
    drawing, all_axes = panels(report, title, (11, 8.5), 2, 2)
    at = [int(batch) for batch in BATCHES]
    shown: dict[str, Line2D] = {}
    for axes, (name, model) in zip(all_axes, report["models"].items(), strict=False):
        for label, found in model["engines"].items():
            low, middle, high = (
                [found["us_a_row"][batch][quartile] for batch in BATCHES] for quartile in ("low", "median", "high")
            )
            colour, own = COLOURS.get(label, MANY_THREADS), label == "Madrone"
            (shown[label],) = axes.plot(
                at, middle, label=label, color=colour, marker="o", markersize=5 if own else 4,
                linewidth=2.6 if own else 1.4, zorder=3 if own else 2,
            )  # fmt: skip
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="log", yscale="log", title=name[0].upper() + name[1:], xlabel="rows a call", ylabel="µs a row")
        axes.set_xticks(at, ["1", "32", "64", "1,000", "20,000"])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    drawing.legend(handles=[*shown.values()], loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return drawing
