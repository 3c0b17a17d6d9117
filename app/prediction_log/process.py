"""The process that writes the log, as the service sees it."""

from typing import Protocol

import msgspec

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess
from app.prediction_log.messages import PRUNED, Drained, LoggedPredictions, LogTarget, Readable

WRITE_TIMEOUT_S = 60.0
"""Timeout of one transaction; covers a network that drops packets silently."""

END_TIMEOUT_S = 3.0


class LogWriter(Protocol):
    """Writer of rows, which blocks on the database."""

    def start(self) -> str | None:
        """Start the writer; returns the fault if that failed."""
        ...

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """Write the rows of a batch, all or none; returns the fault if it failed."""
        ...

    def drain(self, segments: list[Readable]) -> Drained:
        """Write the oldest rows of the spool's segments, of which there is at least one."""
        ...

    def pruned(self) -> int:
        """Number of old rows that were deleted since the last call."""
        ...

    def close(self) -> None:
        """Close the database."""
        ...


class LogWriterProcess:
    """A `Writer` in a separate process, which is started again when it has ended.

    Args:
        target: Place of the log.
    """

    def __init__(self, target: LogTarget) -> None:
        self._process = ChildProcess("app.prediction_log.writer", msgspec.msgpack.encode(target))

    def start(self) -> str | None:
        """Start the process; returns the fault if that failed. The next write tries it again."""
        try:
            self._process.start()
        except (ChildNotStarted, ChildClosed) as error:
            return type(error).__name__
        return None

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """See `Writer.write`."""
        return self.write_encoded(msgspec.msgpack.encode(batch))

    def write_encoded(self, batch: bytes) -> str | None:
        """The same for a batch in MessagePack."""
        answer = self._ask(batch)
        return answer if isinstance(answer, str) else msgspec.msgpack.decode(answer, type=str | None)

    def drain(self, segments: list[Readable]) -> Drained:
        """See `Writer.drain`."""
        answer = self._ask(msgspec.msgpack.encode(segments))
        if isinstance(answer, str):
            return Drained(segments[0].name, fault=answer)
        return msgspec.msgpack.decode(answer, type=Drained)

    def pruned(self) -> int:
        """See `Writer.pruned`."""
        answer = self._ask(PRUNED)
        return 0 if isinstance(answer, str) else msgspec.msgpack.decode(answer, type=int)

    def close(self) -> None:
        """End the process, once it has written what it holds back."""
        self._process.finish(END_TIMEOUT_S)

    def _ask(self, content: bytes) -> bytes | str:
        """The answer to a message, or a fault."""
        try:
            try:
                return self._process.ask(content, WRITE_TIMEOUT_S)
            except ChildGone:
                return self._process.ask(content, WRITE_TIMEOUT_S)
        except (TimeoutError, ChildGone, ChildNotStarted, ChildClosed) as error:
            return type(error).__name__
