"""A writer of the log whose answers are noted, for the reports of the service's health."""

from collections.abc import Callable
from typing import TypeVar

from app.prediction_log.messages import Drained, LoggedPredictions, Readable
from app.prediction_log.process import LogWriter
from app.telemetry.dependencies import Dependency

T = TypeVar("T")


class NotedWriter:
    """Passes all rows on, and notes whether and how soon they were written.

    Args:
        writer: Writer of the rows.
        database: Takes the notes.
    """

    def __init__(self, writer: LogWriter, database: Dependency) -> None:
        self._writer = writer
        self._database = database

    def start(self) -> str | None:
        """See `LogWriter`."""
        return self._writer.start()

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """See `LogWriter`."""
        return self._noted(lambda: self._writer.write(batch), lambda fault: fault)

    def drain(self, segments: list[Readable]) -> Drained:
        """See `LogWriter`."""
        return self._noted(lambda: self._writer.drain(segments), lambda drained: drained.fault)

    def pruned(self) -> int:
        """See `LogWriter`."""
        return self._writer.pruned()

    def close(self) -> None:
        """See `LogWriter`."""
        self._writer.close()

    def _noted(self, write: Callable[[], T], fault: Callable[[T], str | None]) -> T:
        self._database.began()
        try:
            answer = write()
        except BaseException as error:
            self._database.ended(type(error).__name__)
            raise
        self._database.ended(fault(answer))
        return answer
