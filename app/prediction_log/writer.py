"""Writes the prediction log, in a separate process.

    python -m app.prediction_log.writer

Making and writing a row takes as much CPU time as a prediction, half of it with the GIL held, for which every request
would wait in the service's own process. When the service ends, however it does, its end of the connection closes; this
process then writes all rows that it was given, and ends too. Its messages (`child_process`) are MessagePack:
`LogTarget`, then either lists of `LoggedPredictions`, each answered by a fault or None, or (for a durable log) lists of
`Readable`, each answered by a `Drained`. An empty list is answered by the number of old rows that were deleted.
"""

import fcntl
import os
import signal

import msgspec
from sqlalchemy import exc

from app.child_process import parent
from app.prediction_log.database import LogDatabase
from app.prediction_log.messages import PRUNED, Drained, LoggedPredictions, LogTarget, Readable
from app.prediction_log.sink import Sink, fault_of
from app.prediction_log.spool.reader import SpoolReader

NICENESS = 5
"""Niceness of the process: requests go first on a busy machine, but the log must keep up with them."""

REST = 4.0
"""Seconds of sleep for each second of work, so that the process takes at most a fifth of a core. Without sleep it could
take a whole one, since batches are predicted faster than a database takes rows."""

TURN_S = 1.0
"""Time without a message after which files are looked after."""


class Writer:
    """Writes the log where its target says.

    Args:
        target: The place.
        rest: Seconds to sleep for each second of CPU time.
    """

    def __init__(self, target: LogTarget, rest: float = 0.0) -> None:
        self._target = target
        self._sink = _sink(target, rest)
        self._readers: dict[str, SpoolReader] = {}
        self._claim: int | None = None

    def start(self) -> str | None:
        """Do nothing: it has started."""

    def write(self, batch: list[LoggedPredictions]) -> str | None:
        """Write the rows of a batch, all or none; returns the class of the error if that failed."""
        try:
            self._sink.write(batch)
        except (exc.SQLAlchemyError, OSError) as error:
            return fault_of(error)
        return None

    def drain(self, segments: list[Readable]) -> Drained:
        """Write the oldest rows of the spool's segments, of which there is at least one."""
        name = segments[0].name
        if not self._has_claim():
            return Drained(name, fault="SpoolLocked")
        folder, _, _ = name.rpartition("/")  # each worker's; a reader knows where it is in one
        if folder not in self._readers:
            self._readers[folder] = SpoolReader(self._target.spool, self._sink)
        return self._readers[folder].drain(segments)

    def pruned(self) -> int:
        """Number of old rows that were deleted since the last call."""
        return self._sink.pruned()

    def turn(self) -> None:
        """Do what is due without a message."""
        self._sink.turn()

    def close(self) -> None:
        """Write what is held back, and close the database."""
        for reader in self._readers.values():
            reader.end()
        self._sink.close()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _has_claim(self) -> bool:
        """Whether no other process writes rows of this spool; one of a service that was killed may still do so."""
        if self._claim is None:
            claim = os.open(self._target.spool / "writer.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(claim)
                return False
            self._claim = claim
        return True


def _sink(target: LogTarget, rest: float) -> Sink:
    if target.format == "sql":
        return LogDatabase(target, rest)
    from app.prediction_log.parquet import ParquetFiles  # pyarrow takes a second and 40 MB

    return ParquetFiles(target)


def main() -> None:
    """Write what is asked until the parent has gone."""
    connection = parent()
    os.nice(NICENESS)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may reach all processes before the service's last rows do
    try:
        target = msgspec.msgpack.decode(connection.recv_bytes(), type=LogTarget)
    except (EOFError, OSError):  # the service has ended already
        return
    writer = Writer(target, REST)
    given = msgspec.msgpack.Decoder(list[LoggedPredictions])
    segments = msgspec.msgpack.Decoder(list[Readable])
    try:
        connection.send_bytes(b"")
        while True:
            while not connection.poll(TURN_S):
                writer.turn()
            content = connection.recv_bytes()
            if content == PRUNED:
                answer = writer.pruned()
            elif target.durable:
                answer = writer.drain(segments.decode(content))
            else:
                answer = writer.write(given.decode(content))
            connection.send_bytes(msgspec.msgpack.encode(answer))
    except (EOFError, OSError):
        writer.close()


if __name__ == "__main__":
    main()
