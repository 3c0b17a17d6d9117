"""Targets and page of `just bench protocols`."""

from typing import Any

from benchmarks.report import Report, Target, at_least, middle, ratio, render

SERVERS = {"madrone": "Madrone", "mlflow": "mlflow models serve", "mlserver": "MLServer"}


def cell(report: Report, server: str, protocol: str, rows: int) -> list[dict[str, float]] | None:
    """Rounds of a measurement; None where there is none."""
    wanted = server, protocol, rows
    found = [one["rounds"] for one in report["results"] if (one["server"], one["protocol"], one["rows"]) == wanted]
    return found[0] if found else None


def times(ours: list[dict[str, float]] | None, theirs: list[dict[str, float]] | None) -> float | None:
    """Requests/s of one over those of another; None where one is missing."""
    if ours is None or theirs is None:
        return None
    return ratio((one["requests_per_s"] for one in ours), (one["requests_per_s"] for one in theirs))


def targets(report: Report) -> list[Target]:
    native, mlflow = cell(report, "madrone", "/predict", 1), cell(report, "madrone", "/invocations", 1)
    share = times(mlflow, native)
    binary = cell(report, "madrone", "/v2, binary", 1000)
    return [
        at_least(
            "One row through /invocations at least 70 % of the throughput of /predict",
            None if share is None else 100 * share, 70, "{:.0f} %",
        ),
        at_least(
            "1,000 rows as binary tensors through /v2 at least 500,000 rows/s of a core",
            None if binary is None else middle(binary, "rows_per_cpu_s"), 500_000, "{:,.0f}",
        ),
    ]  # fmt: skip


def page(report: Report) -> str:
    rows: list[tuple[dict[str, Any], str, float | None]] = []
    for one in report["results"]:
        own = cell(report, "madrone", one["protocol"], one["rows"]) if one["server"] != "madrone" else None
        rows.append((one, SERVERS[one["server"]], times(own, one["rounds"])))
    return render("protocols", report, targets=targets(report), rows=rows)
