"""Targets, page and pictures of `just bench http`."""

from statistics import median
from typing import Any

from matplotlib.figure import Figure

from benchmarks.pages.cells import LABELS, Results
from benchmarks.report import OWN_COLOUR, Report, Target, at_least, at_most, middle, panels, render

COLOURS = {
    "madrone": OWN_COLOUR,
    "bundled": "#e0a89b",
    "echo": "#8c8c8c",
    "fastapi": "#2f6f4f",
    "mlflow": "#3a78b5",
    "bentoml": "#bc8f2c",
    "litserve": "#7a5195",
    "mlserver": "#5a9aa8",
}
MB = 1e6


def targets(results: dict[str, Any]) -> list[Target]:
    """Each target with its figure."""
    found = Results(results)
    row = "madrone", "row", 1, 16

    def against(name: str) -> float | None:
        return found.times(row, (name, "row", 1, 16))

    share = against("echo")
    half = results.get("open_loop", {}).get("madrone", {}).get("shares", {}).get("0.5")
    spread = median(p99 / p50 for p50, p99 in half["rounds"]) if half else None
    objects, matrices = (
        [found.per_core(forms, rows) for rows in (100, 1000)] for forms in (["objects"], ["arrays", "columns"])
    )
    million = found.bulk("Arrow IPC", 1_000_000)
    beside, starts = results.get("beside"), results.get("starts")
    return [
        at_least("One row, at least 50 % of the echo's requests a second (65 % would be fine)",
                 None if share is None else 100 * share, 50, "{:.0f} %"),
        at_least("One row, at least 30 times mlflow models serve", against("mlflow"), 30, "{:.1f} times"),
        at_least("One row, at least 3 times FastAPI + uvicorn", against("fastapi"), 3, "{:.1f} times"),
        at_most("One row at half of saturation, p99 at most 3 times p50", spread, 3, "{:.1f} times"),
        both("JSON objects, 100 and 1,000 rows, at least 150,000 rows a second of one core", objects, 150_000),
        both("JSON arrays and columns, 100 and 1,000 rows, at least 300,000", matrices, 300_000),
        peers_target([found.best_peer(rows) for rows in (100, 1000)]),
        at_least("A million rows as Arrow IPC, at least 500,000 rows a second end to end",
                 middle(million["rounds"], "rows_per_s") if million else None, 500_000, "{:,.0f}"),
        at_most("Beside them, one row's p99 at most 5 times that without them", beside and beside_times(beside), 5,
                "{:.1f} times"),
        at_most("Memory for them, at most 3 times the body",
                million["peak_bytes"] / million["body_bytes"] if million else None, 3, "{:.1f} times"),
        at_most("From a process's start to its first prediction, kernels cached, at most 3 s",
                median(starts["seconds"]) if starts else None, 3, "{:.2f} s"),
        at_most("Resident after warm-up, at most 350 MB",
                median(starts["worker_bytes"]) / MB if starts else None, 350, "{:.0f} MB"),
    ]  # fmt: skip


def both(text: str, values: list[float | None], least: float) -> Target:
    known = [value for value in values if value is not None]
    seen = " and ".join(f"{value:,.0f}" for value in known)
    return Target(text, seen, min(known) >= least if len(known) == len(values) else None)


def peers_target(found: list[tuple[float, str] | None]) -> Target:
    known = [one for one in found if one is not None]
    seen = " and ".join(f"{times:.1f} times {LABELS[name]}" for times, name in known)
    held = min(times for times, _ in known) >= 3 if len(known) == len(found) else None
    return Target("JSON objects, 100 and 1,000 rows, at least 3 times the best peer", seen, held)


def beside_times(beside: dict[str, Any]) -> float:
    """p99 beside bulk over p99 without: median of the ratios within each round."""
    return median(one["beside_ms"][1] / one["alone_ms"][1] for one in beside["rounds"])


def page(report: Report) -> str:
    results = report["results"]
    return render("http", report, targets=targets(results), found=Results(results), LABELS=LABELS)


def bars(report: Report) -> Figure | None:
    """Requests a second with one row, by server, on a logarithmic axis."""
    found = Results(report["results"])
    rates = {name: middle(rounds, "requests_per_s") for name in COLOURS if (rounds := found.cell(name, "row", 1, 16))}
    if not rates:
        return None
    drawing, (axes,) = panels(report, "One row a request, 16 connections", (9, 0.55 * len(rates) + 1.6))
    names = sorted(rates, key=lambda name: rates[name])
    drawn = axes.barh(
        [LABELS[name] for name in names], [rates[name] for name in names], color=[COLOURS[name] for name in names]
    )
    axes.bar_label(drawn, [f"{rates[name]:,.0f}" for name in names], padding=4)
    axes.set(xscale="log", xlabel="requests/s", xlim=(min(rates.values()) / 2, max(rates.values()) * 2))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=False, axis="y")
    return drawing


def curves(report: Report) -> Figure | None:
    """p50 and p99 by the share of saturation, for each server."""
    found = report["results"].get("open_loop")
    if not found:
        return None
    title = "One row a request, Poisson arrivals: p99 (solid) and p50 (dashed)"
    drawing, (axes,) = panels(report, title, (9, 5.2))
    shares = [100 * float(share) for share in next(iter(found.values()))["shares"]]
    for name, one in found.items():
        for quantile, style in ((0, "--"), (2, "-")):
            values = [part["quantiles_ms"][quantile] for part in one["shares"].values()]
            axes.plot(
                shares, [float("nan") if value is None else value for value in values], style, color=COLOURS[name],
                marker="o", markersize=4, linewidth=2.4 if name == "madrone" else 1.5,
                label=f"{LABELS[name]}, {one['saturation']:,.0f} requests/s" if quantile else None,
            )  # fmt: skip
    axes.set(yscale="log", xlabel="offered, % of the server's own saturation", ylabel="ms from when it was due")
    axes.set_xticks(shares)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return drawing
