"""Lines of requests are written soon, in order, and whole."""

import asyncio
import json
import logging
import threading
from typing import Any

import pytest

from app.telemetry import request_log
from app.telemetry.request_log import RequestLog


def record(log: RequestLog, number: int) -> None:
    log.record("POST", "/predict", 200, number / 1000, "10.0.0.1", f"request-{number}")


def lines_of(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [json.loads(line) for entry in caplog.records for line in entry.getMessage().split("\n")]


async def test_lines_are_written_without_being_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = RequestLog()
    for number in range(3):
        record(log, number)
    assert caplog.records == []
    async with asyncio.timeout(10):
        while not caplog.records:  # noqa: ASYNC110 - the log tells nobody
            await asyncio.sleep(0.01)
    assert [(line["request_id"], line["duration_ms"]) for line in lines_of(caplog)] == [
        ("request-0", 0.0), ("request-1", 1.0), ("request-2", 2.0),
    ]  # fmt: skip
    log.flush()
    assert len(caplog.records) == 1


async def test_many_lines_are_written_in_order(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "PIECE_LINES", 5)
    caplog.set_level(logging.INFO)
    log = RequestLog()
    for number in range(12):
        record(log, number)
    log.close()
    assert len(caplog.records) == 3
    assert [line["request_id"] for line in lines_of(caplog)] == [f"request-{number}" for number in range(12)]


async def test_a_blocked_reader_loses_the_oldest_lines_and_blocks_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_log, "MOST_LINES", 10)
    monkeypatch.setattr(request_log, "FLUSH_SECONDS", 0.001)
    caplog.set_level(logging.INFO)
    stuck, stuck_in = threading.Event(), threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stuck_in.set()
            stuck.wait()

    handler = Stuck()
    request_log.log.addHandler(handler)
    try:
        log = RequestLog()
        record(log, 0)
        await asyncio.to_thread(stuck_in.wait)
        for number in range(1, 13):
            record(log, number)
            await asyncio.sleep(0.002)
    finally:
        stuck.set()
        request_log.log.removeHandler(handler)
    log.close()
    assert [line["request_id"] for line in lines_of(caplog)] == [f"request-{number}" for number in (0, *range(6, 13))]


async def test_nothing_is_kept_that_is_not_to_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log = RequestLog()
    record(log, 1)
    caplog.set_level(logging.INFO)
    log.flush()
    assert caplog.records == []
