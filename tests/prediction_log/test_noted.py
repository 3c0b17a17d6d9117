"""What the writes of the prediction log tell of its database."""

from typing import Any

import pytest

from app.prediction_log.messages import Drained, Readable
from app.prediction_log.noted import NotedWriter
from app.telemetry.dependencies import Dependency


class Given:
    """A writer that meets a fault, if it is told to."""

    fault: str | None = None

    def start(self) -> str | None:
        return "ChildNotStarted"

    def write(self, batch: list[Any]) -> str | None:
        if self.fault == "raised":
            raise RuntimeError
        return self.fault

    def drain(self, segments: list[Readable]) -> Drained:
        return Drained(segments[0].name, fault=self.fault)


def test_both_ways_of_writing_tell_of_the_database() -> None:
    given, database = Given(), Dependency("prediction_log")
    writer: Any = NotedWriter(given, database)  # type: ignore[arg-type]
    assert writer.start() == "ChildNotStarted"
    assert database.read().up is None  # nothing was written yet
    for fault, up in ((None, True), ("OperationalError", False), (None, True)):
        given.fault = fault
        assert writer.write([]) == fault
        assert (database.read().up, database.read().last_error) == (up, fault)
        assert writer.drain([Readable("a", 1, False)]).fault == fault
        assert (database.read().up, database.read().last_error) == (up, fault)


def test_an_error_of_the_writer_itself_is_a_fault() -> None:
    given, database = Given(), Dependency("prediction_log")
    given.fault = "raised"
    with pytest.raises(RuntimeError):
        NotedWriter(given, database).write([])  # type: ignore[arg-type]
    assert (database.read().up, database.read().last_error) == (False, "RuntimeError")
