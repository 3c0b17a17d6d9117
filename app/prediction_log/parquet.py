"""The prediction log as Parquet files, each of which appears whole under its name."""

import os
import re
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from app.files import sync_directory
from app.prediction_log.arrow import table_of
from app.prediction_log.messages import LoggedPredictions, LogTarget
from app.prediction_log.sink import Moved

ROLL_S = 60.0
"""Longest time for which rows wait for a file."""

FILE_ROWS = 100_000
FILE_BYTES = 32 * 2**20
"""Rows, and bytes of their numbers, that are enough for a file."""

LOOK_S = 60.0
"""Time after which old files are looked for again."""

LEFT_OVER_S = 3600.0
"""Age at which an unfinished file is deleted, because its process was killed."""

NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-([0-9a-f]{32})-(\d+)-(\d+)-(\d+)\.parquet", re.ASCII)
"""A file's name: what `_File` holds."""


class _File(NamedTuple):
    """What the name of a file says.

    Attributes:
        moment: Time of its first row.
        segment: Segment of the spool that its rows come from; another unique text where they come from none.
        start: Position of the first row in the segment.
        end: Position behind its last row.
        rows: Number of rows.
    """

    moment: str
    segment: str
    start: int
    end: int
    rows: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self))}.parquet"


class ParquetFiles:
    """Writes rows to files.

    Rows from a spool make a file with each write. Other rows are held back until there are enough for a file, or they
    have waited for ROLL_S.

    Args:
        target: Directory, and numbers of rows and days to keep.

    Attributes:
        most_rows: Rows of one write from a spool.
        piece_bytes: Bytes of a spool that are read for it.
    """

    most_rows = FILE_ROWS
    piece_bytes = FILE_BYTES

    def __init__(self, target: LogTarget) -> None:
        self._directory = target.parquet
        self._keep_rows = target.keep_rows
        self._keep_s = target.keep_days * 86400
        self._next_look = 0.0
        self._deleted = 0
        self._held: list[LoggedPredictions] = []
        self._since = 0.0
        self._sync = target.durable
        self._tidy = False

    def write(self, batch: list[LoggedPredictions]) -> None:
        """Take the rows of a batch, all or none.

        Raises:
            OSError: Rows that were taken before could not be written, so none were taken.
        """
        self._roll_if_due()
        if not self._held:
            self._since = time.monotonic()
        self._held += batch

    def position(self, segment: str) -> int:
        """Number of bytes of a segment whose rows are in files; 0 for a segment that it does not know."""
        key = _key(segment)
        return max((file.end for file in self._files() if file.segment == key), default=0)

    def is_due(self, size: int, seconds: float) -> bool:
        """Whether waiting rows should be written before more come."""
        return size >= FILE_BYTES or seconds >= ROLL_S

    def write_at(self, batch: list[LoggedPredictions], segment: str, start: int, end: int) -> None:
        """Write a file with the rows between two positions of a segment; its name is the new position.

        Raises:
            Moved: Another process has moved the position.
            OSError: Nothing was written.
        """
        if self.position(segment) != start:
            raise Moved
        self._write(batch, _key(segment), start, end)

    def forget(self, segment: str) -> None:
        """Nothing: the names of files stay."""

    def turn(self) -> None:
        """Write rows that have waited for long enough, and delete old ones. If that fails, the next write says so."""
        with suppress(OSError):
            self._roll_if_due()
        self._prune_by_age_if_due()

    def pruned(self) -> int:
        """Number of rows in files that were deleted since the last call."""
        deleted, self._deleted = self._deleted, 0
        return deleted

    def close(self) -> None:
        """Write the rows that are held back."""
        with suppress(OSError):
            self._roll()

    def _roll_if_due(self) -> None:
        rows = sum(predictions.count for predictions in self._held)
        size = sum(8 * one.count * (len(one.names) + one.outputs) for one in self._held)
        if self._held and (rows >= FILE_ROWS or size >= FILE_BYTES or time.monotonic() - self._since >= ROLL_S):
            self._roll()

    def _roll(self) -> None:
        if self._held:
            self._write(self._held, uuid.uuid4().hex, 0, 0)
            self._held = []

    def _write(self, batch: list[LoggedPredictions], key: str, start: int, end: int) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._tidy:
            self._remove_left_over()
        moment = datetime.fromtimestamp(batch[0].requests[0].time, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        name = _File(moment, key, start, end, sum(predictions.count for predictions in batch)).name
        unfinished = self._directory / f".{name}"
        try:
            with unfinished.open("wb") as file:
                table = pa.concat_tables(table_of(predictions) for predictions in batch)
                pq.write_table(table, file, compression="zstd")
                file.flush()
                if self._sync:
                    os.fsync(file.fileno())
            unfinished.rename(self._directory / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        if self._sync:
            sync_directory(self._directory)
        self._prune(name)
        self._prune_by_age_if_due()

    def _files(self) -> list[_File]:
        """All files, the oldest first."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        files: list[_File] = []
        for name in names:
            if (parts := NAME.fullmatch(name)) is not None:  # others are not ours
                moment, segment, *numbers = parts.groups()
                files.append(_File(moment, segment, *map(int, numbers)))
        return files

    def _prune(self, written: str) -> None:
        """Delete the oldest files, as long as the others have enough rows.

        Args:
            written: Name of the last written file, which stays, since it has a position. If the clock was set back, it
                is not the one with the newest time.
        """
        files = self._files()
        rows = sum(file.rows for file in files)
        for file in files:
            if file.name == written:
                continue
            rows -= file.rows
            if rows < self._keep_rows:
                return
            self._delete(file)

    def _prune_by_age_if_due(self) -> None:
        """Delete the files that were written too long ago; in a durable log not the last one, for its position."""
        if not self._keep_s or time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_S
        oldest = time.time() - self._keep_s
        times: dict[_File, float] = {}
        for file in self._files():
            with suppress(OSError):
                times[file] = (self._directory / file.name).stat().st_mtime
        last = max(times.values(), default=0.0) if self._sync else float("inf")
        for file, written in times.items():
            if written < min(oldest, last):
                self._delete(file)

    def _delete(self, file: _File) -> None:
        with suppress(OSError):
            (self._directory / file.name).unlink()
            self._deleted += file.rows

    def _remove_left_over(self) -> None:
        for path in self._directory.glob(".*.parquet"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > LEFT_OVER_S:
                    path.unlink()
        self._tidy = True


def _key(segment: str) -> str:
    """The unique part of a segment's name."""
    return segment.partition("-")[2].partition(".")[0]
