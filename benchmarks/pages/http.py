"""The benchmark of the HTTP path as a page and as pictures; and what it was to reach."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from benchmarks.pages.forest import table, versions

LABELS = {
    "madrone": "Madrone",
    "bundled": "Madrone, the bundled model",
    "echo": "raw ASGI echo",
    "fastapi": "FastAPI + uvicorn",
    "mlflow": "mlflow models serve",
    "bentoml": "BentoML",
    "litserve": "LitServe",
    "mlserver": "MLServer",
    "quiet": "the log (LOG_LEVEL=WARNING)",
    "unlogged": "the prediction log (PREDICTION_LOG_ROWS=0)",
    "unmeasured": "the metrics' endpoints (ENABLE_PROMETHEUS=false)",
    "bare": "all three",
}
VARIANTS = ("quiet", "unlogged", "unmeasured", "bare")
COLOURS = {
    "madrone": "#b5442e",
    "bundled": "#e0a89b",
    "echo": "#8c8c8c",
    "fastapi": "#2f6f4f",
    "mlflow": "#3a78b5",
    "bentoml": "#bc8f2c",
    "litserve": "#7a5195",
    "mlserver": "#5a9aa8",
}
MB = 1e6
MIB = 2**20

Cell = dict[str, Any]


class Target(NamedTuple):
    """Something that was to be reached, and what was seen; None where it was not measured."""

    text: str
    seen: str
    held: bool | None

    def line(self) -> str:
        """For a list."""
        verdict = {True: "Held.", False: "Missed.", None: "Not measured."}[self.held]
        return f"- {self.text}: {self.seen + '. ' if self.seen else ''}{verdict}"


class Results:
    """The figures of one run, as its JSON file has them."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.all = results
        self.cells: list[Cell] = results.get("closed_loop", [])

    def cell(self, server: str, form: str, rows: int, connections: int) -> list[dict[str, float]] | None:
        """The rounds of one cell, if it was measured."""
        wanted = {"server": server, "form": form, "rows": rows, "connections": connections}
        return next((cell["rounds"] for cell in self.cells if wanted.items() <= cell.items()), None)

    def times(self, one: tuple[str, str, int, int], other: tuple[str, str, int, int]) -> float | None:
        """Requests a second of one cell over those of another: the median of the rounds' ratios."""
        ours, theirs = self.cell(*one), self.cell(*other)
        return None if ours is None or theirs is None else ratio(ours, theirs, "requests_per_s")

    def per_core(self, forms: Iterable[str], rows: int) -> float | None:
        """Rows a second of the server's processor time, 4 connections; of several forms the slowest."""
        found = [self.cell("madrone", form, rows, 4) for form in forms]
        return None if None in found else min(median(one, "rows_per_cpu_s") for one in found if one)

    def best_peer(self, rows: int) -> tuple[float, str] | None:
        """How many times the requests of the fastest peer Madrone answers, rows as JSON objects, 4 connections."""
        names = {cell["server"] for cell in self.cells} - {"madrone", "bundled", "echo", *VARIANTS}
        own = "madrone", "objects", rows, 4
        found = [(self.times(own, (name, "objects", rows, 4)), name) for name in sorted(names)]
        return min(((times, name) for times, name in found if times is not None), default=None)

    def bulk(self, name: str, rows: int) -> Cell | None:
        """What was measured of a format and size."""
        wanted = {"format": name, "rows": rows}
        return next((one for one in self.all.get("bulk", []) if wanted.items() <= one.items()), None)


def median(rounds: list[dict[str, float]], key: str) -> float:
    return statistics.median(one[key] for one in rounds)


def ratio(ours: list[dict[str, float]], theirs: list[dict[str, float]], key: str) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(one[key] / other[key] for one, other in zip(ours, theirs, strict=True))


def at_least(text: str, value: float | None, least: float, form: str) -> Target:
    return Target(text, "" if value is None else form.format(value), None if value is None else value >= least)


def at_most(text: str, value: float | None, most: float, form: str) -> Target:
    return Target(text, "" if value is None else form.format(value), None if value is None else value <= most)


def targets(results: dict[str, Any]) -> list[Target]:
    """Each with its figure."""
    found = Results(results)
    row = "madrone", "row", 1, 16

    def against(name: str) -> float | None:
        return found.times(row, (name, "row", 1, 16))

    share = against("echo")
    half = results.get("open_loop", {}).get("madrone", {}).get("shares", {}).get("0.5")
    spread = statistics.median(p99 / p50 for p50, p99 in half["rounds"]) if half else None
    objects, matrices = (
        [found.per_core(forms, rows) for rows in (100, 1000)] for forms in (["objects"], ["arrays", "columns"])
    )
    million = found.bulk("Arrow IPC", 1_000_000)
    beside = results.get("beside")
    starts = results.get("starts")
    lines = [
        at_least("One row, at least 50 % of the echo's requests a second (65 % would be fine)",
                 None if share is None else 100 * share, 50, "{:.0f} %"),
        at_least("One row, at least 30 times mlflow models serve", against("mlflow"), 30, "{:.1f} times"),
        at_least("One row, at least 3 times FastAPI + uvicorn", against("fastapi"), 3, "{:.1f} times"),
        at_most("One row at half of saturation, p99 at most 3 times p50", spread, 3, "{:.1f} times"),
        both("JSON objects, 100 and 1,000 rows, at least 150,000 rows a second of one core", objects, 150_000),
        both("JSON arrays and columns, 100 and 1,000 rows, at least 300,000", matrices, 300_000),
        peers_target([found.best_peer(rows) for rows in (100, 1000)]),
        at_least("A million rows as Arrow IPC, at least 500,000 rows a second end to end",
                 median(million["rounds"], "rows_per_s") if million else None, 500_000, "{:,.0f}"),
        at_most("Beside them, one row's p99 at most 5 times that without them", beside and beside_times(beside), 5,
                "{:.1f} times"),
        at_most("Memory for them, at most 3 times the body",
                million["peak_bytes"] / million["body_bytes"] if million else None, 3, "{:.1f} times"),
        at_most("From a process's start to its first prediction, kernels cached, at most 3 s",
                statistics.median(starts["seconds"]) if starts else None, 3, "{:.2f} s"),
        at_most("Resident after warm-up, at most 350 MB",
                statistics.median(starts["worker_bytes"]) / MB if starts else None, 350, "{:.0f} MB"),
    ]  # fmt: skip
    return lines


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
    """p99 beside bulk over p99 without: the median of the rounds' ratios."""
    return statistics.median(one["beside_ms"][1] / one["alone_ms"][1] for one in beside["rounds"])


def page(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    results = report["results"]
    lines = [
        "# HTTP: Madrone and other ways to serve the same model",
        "",
        f"{report['date']}, {report['machine']}, Python {report['python']}, {versions(report['versions'])}; "
        f"{versions(report['peers'])}",
        "",
        f"`{report['command']}`: a booster of 500 trees of 31 leaves on 8 numbers, one worker for each server, one "
        f"OpenMP thread; medians of {report['rounds']} interleaved rounds of {report['seconds']:g} s, ratios the "
        "medians of the rounds' own. The load generator shares the machine with the server; its CPU is its share of "
        "one core. No peer logs requests; Madrone does, and predictions too.",
        "",
        *(target.line() for target in targets(results)),
        "",
        *rows_section(results),
        *variants_section(results),
        *batches_section(results),
        *latency_section(results),
        *bulk_section(results),
        *beside_section(results),
        *starts_section(results),
    ]
    lines += absences(results.get("absent", {}))
    return "\n".join(lines).rstrip() + "\n"


def absences(absent: dict[str, str]) -> list[str]:
    """What was not measured, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, why in absent.items():
        key, _, what = name.partition(" ")
        reasons.setdefault(why, []).append(f"{LABELS[key]} {what}".strip() if key in LABELS else name)
    return [f"- Not measured: {'; '.join(named)}: {why}" for why, named in reasons.items()]


def cells_of(results: dict[str, Any], batch: bool) -> list[Cell]:
    cells = [cell for cell in results.get("closed_loop", []) if cell["server"] not in VARIANTS]
    return [cell for cell in cells if (cell["form"] != "row") == batch]


def rows_section(results: dict[str, Any]) -> list[str]:
    found = Results(results)
    rows = [
        [
            str(cell["connections"]),
            LABELS[cell["server"]],
            f"{median(cell['rounds'], 'requests_per_s'):,.0f}",
            f"{median(cell['rounds'], 'p50_ms'):.2f}",
            f"{median(cell['rounds'], 'p99_ms'):.2f}",
            f"{median(cell['rounds'], 'generator_cpu'):.0%}",
            times(found, cell, "row"),
        ]
        for cell in cells_of(results, batch=False)
    ]
    head = ["connections", "one row a request", "requests/s", "p50 ms", "p99 ms", "generator's CPU", "Madrone's times"]
    note = "The bundled model makes 88 features of the 8 and answers with intervals."
    return [*table(head, rows), note, ""] if rows else []


def times(found: Results, cell: Cell, form: str) -> str:
    """How many times a cell's requests Madrone answers."""
    if cell["server"] == "madrone":
        return ""
    value = found.times(
        ("madrone", form, cell["rows"], cell["connections"]),
        (cell["server"], cell["form"], cell["rows"], cell["connections"]),
    )
    return "" if value is None else f"{value:.2f}"


def variants_section(results: dict[str, Any]) -> list[str]:
    found = Results(results)
    rows: list[list[str]] = []
    for name in VARIANTS:
        gain = found.times((name, "row", 1, 16), ("madrone", "row", 1, 16))
        rounds = found.cell(name, "row", 1, 16)
        if rounds and gain is not None:
            rows.append([LABELS[name], f"{median(rounds, 'requests_per_s'):,.0f}", f"{gain - 1:+.0%}"])
    return table(["Madrone without, 16 connections", "requests/s", "more"], rows) if rows else []


def batches_section(results: dict[str, Any]) -> list[str]:
    found = Results(results)
    rows = [
        [
            f"{cell['rows']:,}",
            str(cell["connections"]),
            LABELS[cell["server"]] + (f", {cell['form']}" if cell["server"] == "madrone" else ""),
            f"{median(cell['rounds'], 'requests_per_s'):,.0f}",
            f"{median(cell['rounds'], 'p50_ms'):.2f}",
            f"{median(cell['rounds'], 'p99_ms'):.2f}",
            f"{median(cell['rounds'], 'rows_per_s'):,.0f}",
            f"{median(cell['rounds'], 'rows_per_cpu_s'):,.0f}",
            times(found, cell, "objects"),
        ]
        for cell in cells_of(results, batch=True)
    ]
    head = [
        *("rows a request", "connections", "in JSON", "requests/s", "p50 ms", "p99 ms", "rows/s"),
        *("rows/s of a core", "Madrone's objects, times"),
    ]
    note = (
        "Rows a second of a core are the rows answered over the processor time of all of the server's processes, "
        "user and system, meanwhile."
    )
    return [*table(head, rows), note, ""] if rows else []


def latency_section(results: dict[str, Any]) -> list[str]:
    found = results.get("open_loop", {})
    rows = [
        [
            LABELS[server],
            f"{float(share):.0%}",
            f"{float(share) * one['saturation']:,.0f}",
            *("" if value is None else f"{value:.2f}" for value in part["quantiles_ms"]),
            f"{statistics.median(p99 / p50 for p50, p99 in part['rounds']):.1f}",
        ]
        for server, one in found.items()
        for share, part in one["shares"].items()
    ]
    head = ["one row, open loop", "of saturation", "requests/s", "p50 ms", "p90", "p99", "p99.9", "p99/p50"]
    note = (
        "Arrivals are a Poisson process with a fixed seed, over at most 64 connections; latency counts from when a "
        "request was due, sent or not, so that a stall counts for all that it delays. Saturation is what the server "
        "answers at most in a closed loop of 16 connections. Quantiles with fewer than five requests beyond are left "
        "out."
    )
    return [*table(head, rows), note, ""] if rows else []


def bulk_section(results: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"{one['rows']:,}",
            one["format"],
            f"{one['body_bytes'] / MIB:.1f}",
            f"{median(one['rounds'], 'rows_per_s'):,.0f}",
            f"{median(one['rounds'], 'rows_per_cpu_s'):,.0f}",
            f"{one['peak_bytes'] / MIB:.0f}",
            f"{one['peak_bytes'] / one['body_bytes']:.1f}",
        ]
        for one in results.get("bulk", [])
    ]
    head = ["rows a request", "in bulk", "body MiB", "rows/s", "rows/s of a core", "peak MiB", "times the body"]
    note = (
        "One connection; the answer comes in the same format. The peak is the worker's resident memory during the "
        "first request of its kind, above what it was before, "
        "with what is loaded for a format when it is first asked for, and without what formats above it left behind."
    )
    return [*table(head, rows), note, ""] if rows else []


def beside_section(results: dict[str, Any]) -> list[str]:
    beside = results.get("beside")
    if not beside:
        return []
    rounds = beside["rounds"]
    alone, during = (
        [statistics.median(one[key][place] for one in rounds) for place in (0, 1)] for key in ("alone_ms", "beside_ms")
    )
    lags = [one["lag_above"] for one in rounds if one["lag_above"] is not None]
    text = (
        f"One row at {beside['rate']:g} requests a second, Poisson: p50 {alone[0]:.2f} ms and p99 {alone[1]:.2f} ms "
        f"alone, {during[0]:.2f} and {during[1]:.2f} while {beside['rows']:,} rows of Arrow are scored again and again."
    )
    if lags:
        text += f" Meanwhile the event loop was late by more than 5 ms in {statistics.median(lags):.2%} of its looks."
    return [text, ""]


def starts_section(results: dict[str, Any]) -> list[str]:
    starts = results.get("starts")
    if not starts:
        return []
    seconds = starts["seconds"]
    return [
        f"{len(seconds)} starts with compiled kernels in their cache: {statistics.median(seconds):.2f} s to the first "
        f"prediction (median; {min(seconds):.2f} to {max(seconds):.2f}). After a "
        f"second of one-row requests the worker holds {statistics.median(starts['worker_bytes']) / MB:.0f} MB, "
        f"Granian's supervisor and the process that looks into the registry "
        f"{statistics.median(starts['other_bytes']) / MB:.0f} MB.",
        "",
    ]


def bars(report: dict[str, Any], path: Path) -> None:
    """Requests a second with one row, by server, on a logarithmic axis."""
    found = Results(report["results"])
    rates = {name: median(rounds, "requests_per_s") for name in COLOURS if (rounds := found.cell(name, "row", 1, 16))}
    if not rates:
        return
    drawing = Figure(figsize=(9, 0.55 * len(rates) + 1.6), layout="constrained")
    axes = drawing.subplots()
    names = sorted(rates, key=lambda name: rates[name])
    drawn = axes.barh(
        [LABELS[name] for name in names], [rates[name] for name in names], color=[COLOURS[name] for name in names]
    )
    axes.bar_label(drawn, [f"{rates[name]:,.0f}" for name in names], padding=4)
    axes.set(xscale="log", xlabel="requests/s")
    axes.set_xlim(min(rates.values()) / 2, max(rates.values()) * 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x", color="#e2e2e2", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_title(f"One row a request, 16 connections\n{report['machine']}; {report['date']}", fontsize=10)
    drawing.savefig(path, dpi=130)


def curves(report: dict[str, Any], path: Path) -> None:
    """p50 and p99 by the share of saturation, for each server."""
    found = report["results"].get("open_loop")
    if not found:
        return
    drawing = Figure(figsize=(9, 5.2), layout="constrained")
    axes = drawing.subplots()
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
    axes.grid(color="#e2e2e2", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    axes.set_title(
        f"One row a request, Poisson arrivals: p99 (solid) and p50 (dashed)\n{report['machine']}; {report['date']}",
        fontsize=10,
    )
    drawing.savefig(path, dpi=130)
