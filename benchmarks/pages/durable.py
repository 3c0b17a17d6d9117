"""Targets and page of `just bench durable`."""

from typing import Any

from benchmarks.report import Report, Target, at_least, render

VICTIMS = {"writer": "its writer", "service": "the service, not its writer", "all": "service and writer"}


def totals(kills: list[dict[str, Any]], mode: str, victim: str | None = None) -> dict[str, Any]:
    """Sums over the kills, and the most that one of them lost."""
    chosen = [one for one in kills if one["mode"] == mode and victim in (None, one["victim"])]
    sums: dict[str, Any] = {name: sum(one[name] for one in chosen) for name in ("answered", "lost", "twice")}
    return sums | {"kills": len(chosen), "most": max(one["lost"] for one in chosen)}


def targets(report: Report) -> list[Target]:
    durable = totals(report["kills"], "durable")
    return [
        Target(
            "Durable: no answered row is lost, none is logged twice",
            f"{durable['answered']:,} answered, {durable['lost']} lost, {durable['twice']} twice",
            durable["lost"] == durable["twice"] == 0,
        ),
        *(
            at_least(
                f"Durable, {count} connections, at least 75 % of the throughput by best effort",
                100 * found["durable"], 75, "{:.0f} %",
            )
            for count, found in report["throughput"].items()
        ),
        *(
            at_least(
                f"By best effort, {count} connections, at least 90 % of the throughput without a log",
                100 * found["best_effort"], 90, "{:.0f} %",
            )
            for count, found in report["throughput"].items()
        ),
    ]  # fmt: skip


def page(report: Report) -> str:
    rows = [
        (mode, VICTIMS[victim], totals(report["kills"], mode, victim))
        for mode in ("best_effort", "durable")
        for victim in VICTIMS
    ]
    return render("durable", report, targets=targets(report), rows=rows)
