"""Targets, page and picture of `just bench overload`."""

from collections.abc import Callable
from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import MIB, OWN_COLOUR, Report, Target, panels, render

Load = dict[str, Any]

GOALS: tuple[tuple[str, Callable[[Load], bool]], ...] = (
    ("goodput is at least 95 % of the peak", lambda load: load["goodput_per_s"] >= 0.95 * load["peak_per_s"]),
    ("half of the refusals take at most 10 ms", lambda load: _within(load["refused_ms"], 0, 10)),
    ("99 % of the refusals take at most 50 ms", lambda load: _within(load["refused_ms"], 1, 50)),
    ("every request finds a connection within 1 s", lambda load: load["statuses"]["never sent"] == 0),
    (
        "/health/live and /metrics answer, and 99 % of the times in 100 ms",
        lambda load: (
            load["live_failed"] + load["metrics_failed"] == 0
            and _within(load["live_ms"], 1, 100)
            and _within(load["metrics_ms"], 1, 100)
        ),
    ),
    (
        "one row is as fast as before within 0.5 s of the end",
        lambda load: load["recovery_s"] is not None and load["recovery_s"] <= 0.5,
    ),
    ("memory is at most 1.5 times that before", lambda load: load["rss"]["most"] <= 1.5 * load["rss"]["before"]),
)
"""What must hold under each load."""


def targets(results: dict[str, Any]) -> list[Target]:
    """The goals, and under how many of the loads each was reached."""
    loads = results["loads"]
    held = [sum(map(holds, loads)) for _, holds in GOALS]
    return [
        Target(f"Under every load {text}", f"under {count} of {len(loads)}", count == len(loads))
        for (text, _), count in zip(GOALS, held, strict=True)
    ]


def page(report: Report) -> str:
    loads = report["results"]["loads"]
    others = {name: sum(load["statuses"][name] for load in loads) for name in ("504", "another")}
    others["wrong"] = sum(load["wrong"] for load in loads)
    return render("overload", report, targets=targets(report["results"]), others=others)


def pictured(loads: list[Load]) -> Load:
    """The load of the picture: the smallest one of the requests with the most rows."""
    return max(loads, key=lambda load: (load["rows"], -load["times"], not load["fresh"]))


def picture(report: Report) -> Figure:
    """Goodput by second against the peak, and memory, along the time of one load."""
    load = pictured(report["results"]["loads"])
    title = f"{load['offered_per_s']:.0f} requests/s of {load['rows']:,} rows offered; the load ends at the line"
    drawing, (upper, lower) = panels(report, title, (9, 5.6), rows=2)
    by_second = load["goodput_by_second"]
    upper.stairs(by_second, color=OWN_COLOUR, linewidth=2, label="answered with 200")
    upper.axhline(load["peak_per_s"], color="#8c8c8c", linestyle="--", label="peak without overload")
    upper.set(ylabel="requests/s", ylim=(0, 1.35 * max(*by_second, load["peak_per_s"])))
    upper.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    looks = load["looks"]
    lower.plot([one["at"] for one in looks], [one["rss"] / MIB for one in looks], color="#3a78b5", linewidth=2)
    lower.set(xlabel="s from the start of the load", ylabel="worker, MiB", xlim=upper.get_xlim())
    lower.set_ylim(0, 1.2 * max(one["rss"] for one in looks) / MIB)
    for axes in (upper, lower):
        axes.axvline(report["seconds"], color="#c8c8c8", linewidth=1)
    return drawing


def _within(cuts: list[float] | None, place: int, most: float) -> bool:
    """Whether a quantile is at most so many ms; that of no requests is."""
    return cuts is None or cuts[place] <= most
