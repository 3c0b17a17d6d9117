"""Targets, page and picture of `just bench overload`."""

from typing import Any

from matplotlib.figure import Figure

from benchmarks.report import MIB, OWN_COLOUR, Report, Target, at_least, at_most, panels, render


def targets(results: dict[str, Any]) -> list[Target]:
    refused = results["refused_ms"]
    share = 100 * results["goodput_per_s"] / results["peak_per_s"]
    unanswered = results["live_failed"] + results["metrics_failed"]
    recovered = results["recovery_s"]
    return [
        at_least("Goodput, at least 90 % of the peak", share, 90, "{:.0f} %"),
        at_most("A refusal's median, at most 5 ms", refused and refused[0], 5, "{:.2f} ms"),
        at_most("A refusal's p99, at most 5 ms", refused and refused[1], 5, "{:.2f} ms"),
        Target("/health/live and /metrics are answered meanwhile", f"{unanswered} were not", unanswered == 0),
        Target(
            "As fast as before within 1 s of the end",
            "never" if recovered is None else f"{recovered:.2f} s",
            recovered is not None and recovered <= 1,
        ),
    ]


def page(report: Report) -> str:
    return render("overload", report, targets=targets(report["results"]))


def picture(report: Report) -> Figure:
    """Goodput by second against the peak, and memory, along the time."""
    results = report["results"]
    title = f"{results['offered_per_s']:.0f} requests/s of {report['rows']:,} rows offered; the load ends at the line"
    drawing, (upper, lower) = panels(report, title, (9, 5.6), rows=2)
    by_second = results["goodput_by_second"]
    upper.stairs(by_second, color=OWN_COLOUR, linewidth=2, label="answered with 200")
    upper.axhline(results["peak_per_s"], color="#8c8c8c", linestyle="--", label="peak without overload")
    upper.set(ylabel="requests/s", ylim=(0, 1.35 * max(*by_second, results["peak_per_s"])))
    upper.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)
    looks = results["looks"]
    lower.plot([one["at"] for one in looks], [one["rss"] / MIB for one in looks], color="#3a78b5", linewidth=2)
    lower.set(xlabel="s from the start of the load", ylabel="worker, MiB", xlim=upper.get_xlim())
    lower.set_ylim(0, 1.2 * max(one["rss"] for one in looks) / MIB)
    for axes in (upper, lower):
        axes.axvline(report["seconds"], color="#c8c8c8", linewidth=1)
    return drawing
