"""Spools for tests: requests in them, and what has become of their rows."""

import itertools
from pathlib import Path

import numpy as np

from app.prediction_log.messages import LogTarget
from app.prediction_log.spool.records import SpooledModel, SpooledRequest, encode
from app.prediction_log.spool.segments import Spool
from tests.prediction_log.databases import Database, rows_in

NAMES = ("MedInc", "année")
MODEL = encode(SpooledModel(1, ("houses", "3"), NAMES, 1, {}), 0)


def record(number: int, rows: int = 1, model: int = 1) -> bytes:
    """A request whose rows have its number for a prediction."""
    features, predictions = np.full((rows, 2), 0.5), np.full(rows, float(number))
    request = SpooledRequest(model, f"request-{number}", "single", 1e9, rows, features.tobytes(), predictions.tobytes())
    return encode(request, rows)


def append(spool: Spool, *numbers: int) -> None:
    """Append requests of one row, each flushed alone."""
    for number in numbers:
        spool.append(record(number), 1, {1: MODEL})


def target(url: str, directory: Path, **changes: object) -> LogTarget:
    return LogTarget(**({"url": url, "keep_rows": 10**6, "directory": str(directory), "durable": True} | changes))  # type: ignore[arg-type]


def segments(directory: Path) -> list[Path]:
    """The files of a spool, the oldest first."""
    return sorted(directory.glob("*.spool"))


def numbers_in(database: Database) -> list[int]:
    """Numbers of the requests that are logged, in their order."""
    return [int(row["prediction"]) for row in rows_in(database)]


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for _, group in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        members = [number for _, number in group]
        found.append((members[0], members[-1]))
    return found
