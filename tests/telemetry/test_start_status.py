"""The status line of a start, on a real terminal."""

import asyncio
import json
import logging
import logging.config
import os
import pty
import sys
from collections.abc import Iterator

import pytest

from app.telemetry.logging import logging_config
from app.telemetry.start_status import show_start

SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def logging_to_stderr() -> Iterator[None]:
    """The service's logging, taken back afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logging.config.dictConfig(logging_config("INFO"))
    yield
    root.handlers[:], root.level = before


class Terminal:
    """A terminal that keeps what is shown."""

    def __init__(self) -> None:
        self.shown = ""
        self._master, slave = pty.openpty()
        self.stream = os.fdopen(slave, "w")
        os.set_blocking(self._master, False)

    def read(self) -> str:
        try:
            while text := os.read(self._master, 65536):
                self.shown += text.decode()
        except BlockingIOError:
            pass
        return self.shown

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text not in self.read():  # noqa: ASYNC110 - a terminal knows of no event
                await asyncio.sleep(0.01)

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, logging_to_stderr: None) -> Iterator[Terminal]:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    yield terminal
    terminal.close()


async def test_a_terminal_shows_the_newest_step_until_ready(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    done = False
    shown = asyncio.create_task(show_start(lambda: done))
    await terminal.shows("starting")
    logging.getLogger("app.models.refresh.refresher").info("asking the registry", extra={"text": "word " * 100})
    logging.getLogger("app.tasks").info("something else")
    await terminal.shows("asking the registry \x1b")  # behind which the seconds are, in a colour
    logging.getLogger("kernels.compiling").info("compiling [bold]")
    await terminal.shows("compiling [bold] \x1b")
    done = True
    await shown
    assert SHOW_CURSOR in terminal.read()[-20:]
    assert sys.stderr is terminal.stream
    lines = [line for line in terminal.shown.replace("\r", "\n").splitlines() if '{"level"' in line]
    told = [json.loads(line[line.index("{") :]) for line in lines]
    assert [line["message"] for line in told] == ["asking the registry", "something else", "compiling [bold]"]
    assert told[0]["text"] == "word " * 100


async def test_a_start_that_is_stopped_leaves_the_terminal_as_it_was(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.stream)
    shown = asyncio.create_task(show_start(lambda: False))
    await terminal.shows("starting")
    shown.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shown
    await terminal.shows(SHOW_CURSOR)
    assert sys.stderr is terminal.stream
