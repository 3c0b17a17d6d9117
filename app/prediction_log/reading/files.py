"""Rows of the log's Parquet files, whose names sort by the time of their first row."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from app.prediction_log.arrow import SCHEMA
from app.prediction_log.parquet import NAME
from app.prediction_log.reading.page import LoggedRow, Page, as_row
from app.prediction_log.reading.query import Query

pc: Any = pyarrow.compute  # whose functions are made when it is imported

PLAIN = ("prediction_type", "model_name", "model_version")
MEASURED = ("interval_lower", "interval_upper", "interval_level", "latency_ms", "key_id")


class DamagedFile(OSError):
    """A file that is not one of Parquet."""


class FileRows:
    """Reads the files, one at a time.

    Args:
        directory: Their directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def pages(self, query: Query, limit: int, size: int) -> Iterator[Page]:
        """See `Source.pages`. Files that are deleted meanwhile are passed over."""
        last, index = query.after if isinstance(query.after, tuple) else (None, -1)
        newest, left = query.order == "newest", limit
        for name in self._names(newest=newest):
            if last is not None and (name > last if newest else name < last):
                continue
            try:
                file = pq.ParquetFile(self._directory / name)
                if _is_outside(file.metadata, query):
                    continue
                table = file.read()
            except FileNotFoundError:
                continue
            except pa.ArrowException as error:
                raise DamagedFile(name) from error
            places = np.flatnonzero(_matches(table, query))
            if name == last:
                places = places[places < index] if newest else places[places > index]
            if newest:
                places = places[::-1]
            while left > 0 and len(places):
                taken, places = places[: min(size, left)], places[min(size, left) :]
                left -= len(taken)
                yield Page(_rows(table.take(taken)), [(name, place) for place in taken.tolist()])
            if left <= 0:
                return

    def close(self) -> None:
        """Nothing: no file stays open."""

    def _names(self, *, newest: bool) -> list[str]:
        try:
            names = os.listdir(self._directory)
        except FileNotFoundError:
            return []
        return sorted(filter(NAME.fullmatch, names), reverse=newest)


def _is_outside(metadata: Any, query: Query) -> bool:
    """Whether a file tells, before its rows are read, that all of them are of another time."""
    groups = [metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups)]
    if not groups or not all(times is not None and times.has_min_max for times in groups):
        return False
    first, last = min(times.min for times in groups), max(times.max for times in groups)
    return (query.since is not None and last < query.since) or (query.until is not None and first >= query.until)


def _matches(table: Any, query: Query) -> Any:
    """bool[N], whether a query holds for each row."""
    moment = SCHEMA.field("created_at").type
    conditions = [pc.equal(table[name], value) for name, value in query.equal.items()]
    if query.since is not None:
        conditions.append(pc.greater_equal(table["created_at"], pa.scalar(query.since, moment)))
    if query.until is not None:
        conditions.append(pc.less(table["created_at"], pa.scalar(query.until, moment)))
    found = np.ones(len(table), bool)
    for condition in conditions:
        found &= condition.to_numpy()
    return found


def _rows(table: Any) -> list[LoggedRow]:
    """Rows of a table, which lacks columns if an early release wrote it."""
    return [
        as_row(
            None, row["created_at"], row["request_id"], _place(row), *(row[name] for name in PLAIN),
            dict(row["features"]) | dict(row["categories"]),
            row["prediction"][0] if len(row["prediction"]) == 1 else row["prediction"],
            *(row.get(name) for name in MEASURED), None, None,
        )
        for row in table.to_pylist()
    ]  # fmt: skip


def _place(row: dict[str, Any]) -> int | None:
    """Index of a row in its request, by the rule of the tables' `place_of`."""
    place = row.get("row")
    return 0 if place is None and row["prediction_type"] == "single" else place
