"""Reads the rows of a spool, and has a sink write them, each exactly once.

How far a segment is written is kept by the sink together with the rows, so whoever is killed at whatever moment, the
next process goes on there.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import exc

from app.prediction_log.messages import Drained, LoggedPredictions, LoggedRequest, Readable
from app.prediction_log.sink import Moved, Sink, fault_of
from app.prediction_log.spool.records import SpooledModel, decode, records


class _Rows(NamedTuple):
    """Rows behind a position of a segment.

    Attributes:
        batch: The rows.
        end: Position behind them.
        rows: Number of rows.
        damaged: Number of bytes among them that are no record.
        torn: Number of bytes behind them that are none.
    """

    batch: list[LoggedPredictions]
    end: int
    rows: int
    damaged: int
    torn: int


NOTHING = _Rows([], 0, 0, 0, 0)


class _Segment:
    """A segment that is being read.

    Attributes:
        name: Name of its file in the spool.
        position: Number of bytes whose rows are written.
        rows: Number of rows in these bytes.
        saved: Position that the sink keeps. It is lower where the bytes behind it hold no rows.
    """

    def __init__(self, directory: Path, name: str, position: int, piece_bytes: int) -> None:
        self.name = name
        self.position = 0
        self.rows = 0
        self.saved = position
        self._piece_bytes = piece_bytes
        self._waiting_since: float | None = None
        self._models: dict[int, SpooledModel] = {}
        self._descriptor = os.open(directory / name, os.O_RDONLY)
        while self.position < position:  # for the models, and to count the rows
            found = self.read(position, 2**63)
            self.pass_over(found)

    def waiting(self, size: int) -> float:
        """Seconds for which bytes behind the position have been waiting, as far as this process knows."""
        if self._waiting_since is None and size > self.position:
            self._waiting_since = time.monotonic()
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def read(self, size: int, most_rows: int) -> _Rows:
        """The next rows, at most `most_rows` and those of one more request.

        Args:
            size: Number of bytes that may be read.
            most_rows: Number of rows.
        """
        data = os.pread(self._descriptor, min(size - self.position, self._piece_bytes), self.position)
        found = self._rows_in(data, most_rows, whole=self.position + len(data) == size)
        if found.end == self.position and len(data) < size - self.position:  # a record is larger than a piece
            data = os.pread(self._descriptor, size - self.position, self.position)
            found = self._rows_in(data, most_rows, whole=True)
        if found.end == self.position:  # the file is shorter than it was
            return _Rows([], size, 0, 0, size - self.position)
        return found

    def pass_over(self, found: _Rows) -> None:
        """Go on behind rows that are written."""
        self.position = found.end
        self._waiting_since = None
        self.rows += found.rows

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _rows_in(self, data: bytes, most_rows: int, *, whole: bool) -> _Rows:
        batch: list[LoggedPredictions] = []
        newest: int | None = None
        end, rows, damaged, torn = self.position, 0, 0, 0
        for record in records(data, self.position, whole=whole):
            damaged, torn = damaged + torn, 0
            payload = None if record.payload is None else _decoded(record.payload)
            if isinstance(payload, SpooledModel):
                self._models[payload.number] = payload
            elif payload is None or (model := self._models.get(payload.model)) is None:
                torn = record.end - record.start
            else:
                if newest != payload.model:
                    newest = payload.model
                    batch.append(_begun(model))
                request = LoggedRequest(
                    payload.id, payload.kind, payload.time, payload.count, payload.latency_ms, payload.places
                )
                batch[-1].add(request, payload.rows, payload.predictions, payload.difficulty)
                rows += payload.count
            end = record.end
            if rows >= most_rows:
                break
        return _Rows(batch, end, rows, damaged, torn) if whole else _Rows(batch, end, rows, damaged + torn, 0)


class SpoolReader:
    """Has the rows of a spool written.

    Args:
        directory: Directory of the spool.
        sink: Writes the rows.
    """

    def __init__(self, directory: Path, sink: Sink) -> None:
        self._directory = directory
        self._sink = sink
        self._segment: _Segment | None = None
        self._finished: list[str] = []

    def drain(self, segments: list[Readable]) -> Drained:
        """Write the oldest rows that are not written: those of one transaction, of one segment.

        Args:
            segments: All segments of the spool, the oldest first; at least one.
        """
        now = segments[0]
        try:
            self._forget({segment.name for segment in segments})
            segment = self._opened(now.name)
            waiting = now.size - segment.position
            if waiting <= 0 or not (now.sealed or self._sink.is_due(waiting, segment.waiting(now.size))):
                return self._drained(now)
            found = segment.read(now.size, self._sink.most_rows)
            if found.batch:
                self._sink.write_at(found.batch, now.name, segment.saved, found.end)
                segment.saved = found.end
            segment.pass_over(found)
            return self._drained(now, found)
        except (exc.SQLAlchemyError, OSError, Moved) as error:
            self.close()
            fault = "Moved" if isinstance(error, Moved) else fault_of(error)
            return Drained(now.name, fault=fault)

    def close(self) -> None:
        """Close the segment that is being read."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def end(self) -> None:
        """Close, and remove the positions of files that are deleted: no later start will know that they were here."""
        self.close()
        present = {name for name in self._finished if (self._directory / name).exists()}
        with suppress(exc.SQLAlchemyError, OSError):  # a position too many harms nobody
            self._forget(present)

    def _drained(self, now: Readable, found: _Rows = NOTHING) -> Drained:
        assert self._segment is not None
        position, rows = self._segment.position, self._segment.rows
        if now.sealed and position >= now.size:
            self.close()  # a deleted file takes up the disk for as long as it is open
            if now.name not in self._finished:
                self._finished.append(now.name)
        return Drained(now.name, position, rows, found.rows, found.damaged, found.torn)

    def _opened(self, name: str) -> _Segment:
        if self._segment is None or self._segment.name != name:
            self.close()
            self._segment = _Segment(self._directory, name, self._sink.position(name), self._sink.piece_bytes)
        return self._segment

    def _forget(self, present: set[str]) -> None:
        """Remove the positions of segments that were written whole, and have been deleted since."""
        while self._finished and self._finished[0] not in present:
            self._sink.forget(self._finished[0])
            del self._finished[0]


def _begun(model: SpooledModel) -> LoggedPredictions:
    """Predictions of a model, without any yet."""
    return LoggedPredictions(
        model.model, model.names, model.outputs, model.categories, calibration=model.calibration, key_id=model.key_id
    )


def _decoded(payload: bytes) -> SpooledModel | None:
    try:
        return decode(payload)  # pyright: ignore[reportReturnType]
    except msgspec.DecodeError:
        return None
