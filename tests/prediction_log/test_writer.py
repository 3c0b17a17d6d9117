"""The process that writes the prediction log."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

from app.prediction_log.messages import LoggedPredictions, LoggedRequest, LogTarget
from app.prediction_log.process import LogWriterProcess
from app.prediction_log.writer import Writer
from tests.prediction_log.databases import PASSWORD, Database, rows_in
from tests.support import eventually


@pytest.fixture
def start() -> Iterator[Callable[[str], LogWriterProcess]]:
    """Makes writers, and ends them after the test."""
    writers: list[LogWriterProcess] = []

    def make(url: str) -> LogWriterProcess:
        writers.append(LogWriterProcess(LogTarget(url, 1000)))
        return writers[-1]

    yield make
    for writer in writers:
        writer.close()


def batch(*numbers: float) -> list[LoggedPredictions]:
    predictions = LoggedPredictions(("houses", "3"), ("MedInc",), 1)
    for number in numbers:
        row = np.array([number])
        predictions.add(LoggedRequest("id", "single", time.time(), 1), row.tobytes(), row.tobytes())
    return [predictions]


def predictions_in(database: Database) -> list[float]:
    return [row["prediction"] for row in rows_in(database)]


def children() -> list[psutil.Process]:
    """The writers' processes, of those that this one has started."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # another test's, that has ended
            if child.cmdline()[-1:] == ["app.prediction_log.writer"]:
                found.append(child)
    return found


def test_rows_are_written_and_the_process_is_kept(database: Database, start: Callable[[str], LogWriterProcess]) -> None:
    writer = start(database.url)
    assert children() == []
    assert writer.start() is None
    (process,) = children()
    eventually(lambda: process.nice() > psutil.Process().nice())  # requests go before it
    assert writer.write(batch(1.0, 2.0)) is None
    assert writer.write(batch(3.0)) is None
    assert children() == [process]
    assert predictions_in(database) == [1.0, 2.0, 3.0]
    writer.close()
    assert children() == []
    assert writer.write(batch(4.0)) == "ChildClosed"


def test_a_fault_is_named_by_its_class_alone(
    start: Callable[[str], LogWriterProcess], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").mkdir()
    with closing(Writer(LogTarget(f"sqlite:///{tmp_path / 'taken'}", 1000))) as writer:
        assert writer.write(batch(1.0)) == "OperationalError"
    away = start(f"postgresql+psycopg://madrone:{PASSWORD}@127.0.0.1:1/predictions")
    assert away.write(batch(1.0)) == "OperationalError"
    assert not any(PASSWORD in text for child in children() for text in child.cmdline())
    assert PASSWORD not in "".join(capfd.readouterr())


def test_a_process_that_is_killed_hangs_or_cannot_be_started_is_replaced(
    sqlite: Database, start: Callable[[str], LogWriterProcess], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writer = start(sqlite.url)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(tmp_path / "missing"))
        assert writer.write(batch(0.0)) == "ChildNotStarted"
    assert writer.write(batch(1.0)) is None
    (process,) = children()
    process.kill()
    assert writer.write(batch(2.0)) is None
    (process,) = children()
    process.suspend()
    with monkeypatch.context() as patch:
        patch.setattr("app.prediction_log.process.WRITE_TIMEOUT_S", 0.2)
        assert writer.write(batch(3.0)) == "TimeoutError"
    assert writer.write(batch(4.0)) is None
    assert predictions_in(sqlite) == [1.0, 2.0, 4.0]


@pytest.mark.parametrize("absent", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_the_writer_outlives_the_service_and_writes_its_rows(database: Database) -> None:
    command = [sys.executable, "-m", "app.prediction_log.writer"]
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(command, stdin=theirs.fileno())
    with process:
        with Connection(ours.detach()) as connection:
            connection.send_bytes(msgspec.msgpack.encode(LogTarget(database.url, 1000)))
            assert connection.recv_bytes() == b""
            process.send_signal(signal.SIGTERM)
            connection.send_bytes(msgspec.msgpack.encode(batch(1.0, 2.0)))
        assert process.wait(60) == 0  # though nobody reads the answer any more
    assert predictions_in(database) == [1.0, 2.0]
