"""The one process that writes the prediction log, for all workers: the leader's, which the others reach through it."""

import asyncio
import threading
from collections.abc import Callable

import msgspec

from app.prediction_log.messages import Drained, LoggedPredictions, Readable
from app.prediction_log.process import WRITE_TIMEOUT_S, LogWriterProcess
from app.workers.link import LinkLost
from app.workers.messages import DrainSpool, SpoolDrained, WriteRows, Written
from app.workers.team import Team

NOBODY = "NoLeader"
"""Fault while no worker leads, or it does not answer."""

PATIENCE_S = WRITE_TIMEOUT_S + 5.0
"""Time for the leader's answer, which waits for its own rows and those of others."""


class SharedWriter:
    """A `LogWriter` that writes by itself if this worker leads, and else asks the leader to.

    Args:
        team: The workers.
        writer: Writes the rows of all workers, one call at a time.
        ends: Whether the whole service is about to end, and not this worker alone.
    """

    def __init__(self, team: Team, writer: LogWriterProcess, ends: Callable[[], bool]) -> None:
        self._team = team
        self._ends = ends
        self._writer = writer
        self._writing = threading.Lock()
        team.answer(WriteRows, self._write_for_other)
        team.answer(DrainSpool, self._drain_for_other)

    def start(self) -> str | None:
        """See `LogWriter`; the first write starts it where this worker begins to lead later."""
        return self._writer.start() if self._team.leads else None

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """See `LogWriter`."""
        if self._team.leads:
            return self._write(msgspec.msgpack.encode(batch))
        try:
            rows = WriteRows(msgspec.msgpack.encode(batch))
            return self._team.ask_leader_from_thread(rows, Written, PATIENCE_S).fault
        except LinkLost:
            return NOBODY

    def drain(self, segments: list[Readable]) -> Drained:
        """See `LogWriter`."""
        if self._team.leads:
            return self._drain(segments)
        try:
            return self._team.ask_leader_from_thread(DrainSpool(segments), SpoolDrained, PATIENCE_S).drained
        except LinkLost:
            return Drained(segments[0].name, fault=NOBODY)

    def pruned(self) -> int:
        """See `LogWriter`; the leader counts."""
        if not self._team.leads:
            return 0
        with self._writing:
            return self._writer.pruned()

    def close(self) -> None:
        """See `LogWriter`; the leader's stays open while the service ends, until the others have left."""
        if self._team.leads and self._ends():
            self._team.wait_alone()
        with self._writing:
            self._writer.close()

    def _write(self, batch: bytes) -> str | None:
        with self._writing:
            return self._writer.write_encoded(batch)

    def _drain(self, segments: list[Readable]) -> Drained:
        with self._writing:
            return self._writer.drain(segments)

    async def _write_for_other(self, asked: WriteRows) -> Written | None:
        if not self._team.leads:
            return None
        return Written(await asyncio.to_thread(self._write, asked.batch))

    async def _drain_for_other(self, asked: DrainSpool) -> SpoolDrained | None:
        if not self._team.leads:
            return None
        return SpoolDrained(await asyncio.to_thread(self._drain, asked.segments))
