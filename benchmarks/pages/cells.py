"""Figures of `just bench http`, looked up by server, kind of request and connections."""

from collections.abc import Iterable
from typing import Any

from benchmarks.report import middle, ratio

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
Rounds = list[dict[str, float]]
Cell = dict[str, Any]


class Results:
    """The figures of one run, as its JSON file has them."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.all = results
        self.cells: list[Cell] = results.get("closed_loop", [])
        servers = [cell for cell in self.cells if cell["server"] not in VARIANTS]
        self.variants = [cell for cell in self.cells if cell["server"] in VARIANTS]
        self.one_row = [cell for cell in servers if cell["form"] == "row"]
        self.batches = [cell for cell in servers if cell["form"] != "row"]

    def cell(self, server: str, form: str, rows: int, connections: int) -> Rounds | None:
        """Rounds of one cell; None if it was not measured."""
        wanted = {"server": server, "form": form, "rows": rows, "connections": connections}
        return next((cell["rounds"] for cell in self.cells if wanted.items() <= cell.items()), None)

    def times(self, one: tuple[str, str, int, int], other: tuple[str, str, int, int]) -> float | None:
        """Requests a second of one cell over those of another: median of the ratios within each round."""
        ours, theirs = self.cell(*one), self.cell(*other)
        if ours is None or theirs is None:
            return None
        return ratio(*([each["requests_per_s"] for each in rounds] for rounds in (ours, theirs)))

    def per_core(self, forms: Iterable[str], rows: int) -> float | None:
        """Rows per second of the server's processor time, 4 connections; the slowest of several forms."""
        found = [self.cell("madrone", form, rows, 4) for form in forms]
        return None if None in found else min(middle(one, "rows_per_cpu_s") for one in found if one)

    def best_peer(self, rows: int) -> tuple[float, str] | None:
        """How many times the requests of the fastest peer Madrone answers, rows as JSON objects, 4 connections."""
        names = {cell["server"] for cell in self.cells} - {"madrone", "bundled", "echo", *VARIANTS}
        own = "madrone", "objects", rows, 4
        found = [(self.times(own, (name, "objects", rows, 4)), name) for name in sorted(names)]
        return min(((times, name) for times, name in found if times is not None), default=None)

    def bulk(self, name: str, rows: int) -> Cell | None:
        """Measurement of a format and size."""
        wanted = {"format": name, "rows": rows}
        return next((one for one in self.all.get("bulk", []) if wanted.items() <= one.items()), None)

    def slower(self, cell: Cell, form: str) -> str:
        """How many times a server's requests Madrone answers with rows in this form."""
        place = cell["rows"], cell["connections"]
        own = cell["server"] == "madrone"
        value = None if own else self.times(("madrone", form, *place), (cell["server"], cell["form"], *place))
        return "" if value is None else f"{value:.2f}"

    def absences(self) -> list[str]:
        """What was not measured, by reason."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.all.get("absent", {}).items():
            key, _, what = name.partition(" ")
            reasons.setdefault(why, []).append(f"{LABELS[key]} {what}".strip() if key in LABELS else name)
        return [f"- Not measured: {'; '.join(named)}: {why}" for why, named in reasons.items()]
