"""Page and picture of `just bench gpu`."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import OWN_COLOUR, Report, panels, render


def page(report: Report) -> str:
    return render("gpu", report, bound=bound)


def bound(model: dict[str, Any], batch: str) -> str:
    """The largest of the floors."""
    return max(("transfer", "memory", "issue"), key=lambda kind: model["floors"][kind][batch])


def picture(report: Report) -> Figure:
    """Rows a second by rows a call, a panel for each model."""
    drawing, all_axes = panels(report, "Rows a second by rows a call, the CPU by one thread", (11, 8.5), 2, 2)
    for axes, (name, model) in zip(all_axes, report["models"].items(), strict=False):
        for label, colour in (("gpu", OWN_COLOUR), ("cpu", "#2f6f4f")):
            found = model["seconds"][label]
            at = [int(batch) for batch in found]
            axes.plot(
                at, [rows / value["median"] for rows, value in zip(at, found.values(), strict=True)],
                label=label.upper(), color=colour, marker="o", linewidth=2,
            )  # fmt: skip
        for kind, style in (("transfer", ":"), ("memory", "--"), ("issue", "-.")):
            batch, seconds = next(iter(model["floors"][kind].items()))
            axes.axhline(int(batch) / seconds, color="#8c8c8c", linestyle=style, linewidth=1, label=f"bound: {kind}")
        axes.set(xscale="log", yscale="log", title=name[0].upper() + name[1:], xlabel="rows a call", ylabel="rows/s")
        axes.legend(fontsize=8, frameon=False)
    return drawing
