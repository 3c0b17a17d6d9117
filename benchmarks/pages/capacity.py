"""Page and picture of `just bench capacity`."""

import math
from typing import Any

from matplotlib.figure import Figure

from benchmarks.fleet.planning import CROWDS, RAMPS
from benchmarks.report import OWN_COLOUR, Report, Target, panels, render

COLOURS = {"in turns": "#3a78b5", "at random": "#8c8c8c", "of two the less busy": OWN_COLOUR}
CLOSE = 0.25
"""Largest error of a median that is computed."""


def error(computed: float, measured: float) -> float:
    """Relative error of what is computed."""
    return computed / measured - 1


def on_time(row: dict[str, Any]) -> bool:
    """Whether load generators sent in time: 99 % of the requests within a millisecond, or a tenth of their p99."""
    return row["measured"]["sent_late_ms"][2] <= max(1.0, 0.1 * row["measured"]["ms"][2])


def targets(check: dict[str, Any] | None) -> list[Target]:
    """How close the computation comes to what is measured."""
    if check is None:
        return []
    found: list[Target] = []
    for name, place, most in (("p50", 0, 0.25), ("p99", 2, 0.5)):
        for count in sorted({one["replicas"] for one in check["latency"]}):
            off = [
                abs(error(one["computed"]["ms"][place], one["measured"]["ms"][place]))
                for one in check["latency"]
                if one["replicas"] == count and on_time(one)
            ]
            text = f"{name} of {count} {'process' if count == 1 else 'processes'}, within {most:.0%} at every rate"
            seen = f"off by {max(off):.0%} at most" if off else ""
            found.append(Target(text, seen, max(off) <= most if off else None))
    for name, what in (("looks", "Looks a second"), ("rollout", "Seconds until a replica answers with a new version")):
        off = error(check[name]["computed"]["mean"], check[name]["measured"]["mean"])
        found.append(Target(f"{what}, in the mean, within 25%", f"off by {off:+.0%}", abs(off) <= CLOSE))
    return found


def fleet_of(report: Report, rate: int, traffic: str) -> dict[str, Any] | None:
    """The smallest fleet for a rate and kind of traffic."""
    return next(one["fleet"] for one in report["plan"]["replicas"] if (one["rate"], one["traffic"]) == (rate, traffic))


def pick(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """The one row with these values."""
    return next(row for row in rows if wanted.items() <= row.items())


def examples(report: Report, per_s: float) -> dict[str, Any]:
    """Numbers of the worked examples."""
    plan, costs = report["plan"], report["costs"]
    shop, market, net = (
        fleet_of(report, rate, traffic)
        for rate, traffic in (
            (1_000, "one row, in bursts"),
            (100_000, "with bulk, in bursts"),
            (1_000_000, "one row, steady"),
        )
    )
    slow = pick(plan["room"], machine="a machine has to start", start="kernels")
    use = slow["uses"][CROWDS.index(2.0)][RAMPS.index(300)]
    registry_s, download = costs["look"]["registry_s"], costs["start"]["download"]
    return {
        "shop": shop and shop["replicas"],
        "market": market and market["replicas"],
        "zones": market and math.ceil(1.5 * market["replicas"]),
        "crowd_use": use,
        "crowd": math.ceil(100_000 / per_s / use),
        "net": net and net["replicas"],
        "net_looks_s": net and net["replicas"] * registry_s,
        "net_workers": net and math.ceil(net["replicas"] * registry_s / 10),
        "net_download_s": net and net["replicas"] * download,
    }


def page(report: Report) -> str:
    row = report["costs"]["row"]
    loop_us = sum(row["loop_us"]) / len(row["loop_us"])
    return render(
        "capacity", report, targets=targets(report["check"]), on_time=on_time, loop_us=loop_us, per_s=1e6 / loop_us,
        pick=pick, own=examples(report, 1e6 / loop_us),
    )  # fmt: skip


def picture(report: Report) -> Figure:
    """Measured and computed quantiles, p99 by use, looks a second by fleet, and a day with a flash crowd."""
    drawing, (checked, by_use, looks, rollouts) = panels(report, "Capacity of a fleet", (11, 8), rows=2, columns=2)
    for one in (report["check"] or {"latency": []})["latency"]:
        marker = ("o" if one["replicas"] == 1 else "s") if on_time(one) else "x"
        for place, colour in ((0, "#3a78b5"), (2, OWN_COLOUR)):
            checked.plot(one["measured"]["ms"][place], one["computed"]["ms"][place], marker, color=colour, alpha=0.8)
    ends = [0.1, 100]
    checked.plot(ends, ends, color="#8c8c8c", linewidth=1)
    checked.set(
        xscale="log", yscale="log", xlabel="measured, ms", ylabel="computed, ms",
        title="p50 (blue), p99 (red); 1 process ●, 4 ■, late x",
    )  # fmt: skip
    for name, colour in COLOURS.items():
        for balancers, style in ((1, "-"), (20, "--")):
            rows = [one for one in report["plan"]["by_use"] if (one["policy"], one["balancers"]) == (name, balancers)]
            by_use.plot(
                [100 * one["offered"] for one in rows], [one["ms"][1] for one in rows], style, color=colour,
                marker="o", markersize=4, label=name if balancers == 1 else None,
            )  # fmt: skip
    by_use.set(yscale="log", xlabel="use of 32 replicas, %", ylabel="p99, ms", title="1 balancer (solid), 20 (dashed)")
    by_use.legend(frameon=False, fontsize=9)
    rows = [one for one in report["plan"]["looks"] if one["ttl"] == 3600]
    for key, label, colour in (
        ("together", "no jitter, started together", "#8c8c8c"),
        ("first", "first look after that, with jitter", "#3a78b5"),
        ("spread", "spread evenly", OWN_COLOUR),
    ):
        counts = [one["replicas"] for one in rows]
        looks.plot(counts, [one[key]["simulated"] for one in rows], "o", color=colour, label=label)
        looks.plot(counts, [one[key]["formula"] for one in rows], color=colour, linewidth=1)
    looks.set(
        xscale="log", yscale="log", xlabel="replicas", ylabel="most looks in a second",
        title="TTL of an hour: simulated (points), formula (lines)",
    )  # fmt: skip
    looks.legend(frameon=False, fontsize=9)
    named: dict[str, list[dict[str, Any]]] = {}
    for one in report["plan"]["rollouts"]:
        named.setdefault(one["told_by"], []).append(one)
    for (name, rows), colour in zip(named.items(), ("#3a78b5", "#8c8c8c", OWN_COLOUR, "#bc8f2c"), strict=True):
        counts = [one["replicas"] for one in rows]
        rollouts.plot(counts, [one["answers_s"][1] for one in rows], color=colour, marker="o", label=name)
    rollouts.set(xscale="log", yscale="log", xlabel="replicas", ylabel="s until all answer", title="A new version")
    rollouts.legend(frameon=False, fontsize=9)
    return drawing
