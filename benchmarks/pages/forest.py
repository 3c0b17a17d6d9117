"""The benchmark of the forest as a page and as a picture."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

BATCHES = ("1", "32", "64", "1000", "20000")
LABELS = ("1 row", "32", "64", "1,000", "20,000 rows")
COLOURS = {
    "Madrone": "#b5442e",
    "LightGBM, 1 thread": "#2f6f4f",
    "lleaves": "#7a5195",
    "TL2cgen": "#bc8f2c",
    "Treelite GTIL": "#8c8c8c",
    "ONNX Runtime, double": "#3a78b5",
    "Madrone's transforms + LightGBM": "#2f6f4f",
    "Madrone's transforms alone": "#e0a89b",
}
MANY_THREADS = "#8fbfa5"
COMPARED = ("LightGBM, 1 thread", "lleaves", "Madrone's transforms + LightGBM")
"""Engines whose ratios the page shows; the JSON file has all."""

NOTES = (
    "All compute in double precision. lleaves adds the trees up in blocks, and compiles the two larger forests without "
    "inlining, since with it LLVM was not done after minutes. The time of TL2cgen includes making its DMatrix."
)


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    models = report["models"]
    lines = [
        "# The forest: Madrone and other engines",
        "",
        f"{report['date']}, {report['machine']}, Python {report['python']}; {versions(report['versions'])}. "
        f"`just bench forest`: medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s for each "
        "figure, ± half the distance between the quartiles; one thread, except where more are named. "
        "µs a row; with one row a call, the whole call in Python.",
        "",
    ]
    for name, model in models.items():
        rows = [
            [label, *(figure(found["us_a_row"][batch]) for batch in BATCHES), equality(found["largest_error"])]
            for label, found in model["engines"].items()
        ]
        lines += table([name, *LABELS, "scores"], rows)
        lines += [f"{label} was not measured: {why}\n" for label, why in model["failed"].items()]
    ratios = [
        [name, label, *(f"{found['times_madrones'][batch]:.3g}" for batch in BATCHES)]
        for name, model in models.items()
        for label, found in model["engines"].items()
        if label in COMPARED
    ]
    lines += ["Times as long as Madrone takes:", "", *table(["model", "engine", *LABELS], ratios)]
    threads = [
        [
            name,
            *map(figure, model["threads_us_a_row"]),
            f"{model['threads_speedup']:.2f}",
            f"{model['hashing_speedup']:.2f}",
        ]
        for name, model in models.items()
    ]
    lines += [
        "Madrone in two Python threads, each with half of 20,000 rows, µs a row; and how much faster two threads are "
        "at SHA-256, which is what the machine gives:",
        "",
        *table(["model", "one thread", "two threads", "faster by", "SHA-256"], threads),
    ]
    labels = dict.fromkeys(label for model in models.values() for label in model["engines"])
    builds = [[label, *(preparation(model["engines"].get(label)) for model in models.values())] for label in labels]
    lines += [
        "Before the first prediction: from the model's file to the prediction of one row in a warm process, ms; and "
        "what is compiled or converted first, once, s of CPU:",
        "",
        *table(["engine", *models], builds),
    ]
    starts = [
        [name, label, *(figure(parts[part]) for part in ("process_s", "import_s", "first_row_s", "first_batch_s"))]
        for name, model in models.items()
        for label, parts in model.get("fresh", {}).items()
    ]
    lines += [
        "A new process, s: from its start to the first prediction; of that, its imports, and the model's file to the "
        "prediction of one row; and then the first 1,000 rows:",
        "",
        *table(["model", "engine", "start to prediction", "imports", "file to one row", "then 1,000 rows"], starts),
    ]
    peers = {
        label: versions(found["versions"])
        for model in models.values()
        for label, found in model["engines"].items()
        if found["versions"]
    }
    lines += ["; ".join(f"{label}: {text}" for label, text in peers.items()) + ". " + NOTES, ""]
    return "\n".join(lines)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)] + [""]


def figure(value: dict[str, float]) -> str:
    return f"{number(value['median'], 3)} ± {number((value['high'] - value['low']) / 2, 1)}"


def number(value: float, digits: int) -> str:
    """Rounded to so many digits, and never with an exponent."""
    return f"{float(f'{value:.{digits}g}'):.12g}" if abs(value) >= 1e-4 else "0"


def preparation(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    once = f"; once {number(found['build_s'], 2)} s" if found["build_s"] > 0.02 else ""
    return figure(found["first_ms"]) + once


def equality(error: float | None) -> str:
    if error is None:
        return ""
    return f"off by {error:.1e}" if error else "bit-equal"


def versions(found: dict[str, str]) -> str:
    return ", ".join(f"{package} {number}" for package, number in found.items())


def picture(report: dict[str, Any], path: Path) -> None:
    """µs a row by rows a call, a panel for each model."""
    drawing = Figure(figsize=(11, 8.5), layout="constrained")
    at = [int(batch) for batch in BATCHES]
    shown: dict[str, Line2D] = {}
    for axes, (name, model) in zip(drawing.subplots(2, 2).flat, report["models"].items(), strict=True):
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
        axes.grid(color="#e2e2e2", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    drawing.legend(handles=[*shown.values()], loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    drawing.suptitle(
        f"One CPU thread, except where more are named; median and quartiles\n{report['machine']}; {report['date']}",
        fontsize=10,
    )
    drawing.savefig(path, dpi=130)
