"""A child process answers messages, and is ended when it does not."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from app import child_process
from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess, ChildStopped

TIMEOUT_S = 60.0
SHORT_S = 0.2


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    child = ChildProcess("tests.child", b"the setup")
    yield child
    child.kill()
    child.end()


def running() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process.cmdline()[-1:] == ["tests.child"]]


def test_messages_of_any_size_are_answered_by_one_process(child: ChildProcess) -> None:
    assert child.ask(b"setup", TIMEOUT_S) == b"the setup"
    (process,) = running()
    for size in (0, 1, 10_000, 20_000_000):
        content = bytes(size)
        assert child.ask(b"echo " + content, TIMEOUT_S) == content
    assert running() == [process]


def test_what_the_child_prints_is_no_answer(child: ChildProcess) -> None:
    assert child.ask(b"print 1", TIMEOUT_S) == b"1"


@pytest.mark.parametrize("order", [b"sleep", b"half"])
def test_a_late_answer_ends_the_process(child: ChildProcess, order: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "STALL_TIMEOUT_S", 1)
    child.ask(b"echo", TIMEOUT_S)
    with pytest.raises(TimeoutError):
        child.ask(order, SHORT_S)
    assert running() == []
    assert child.ask(b"echo again", TIMEOUT_S) == b"again"


def test_a_child_that_stops_reading_is_ended(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "STALL_TIMEOUT_S", 1)
    assert child.ask(b"deaf 1", TIMEOUT_S) == b"1"
    with pytest.raises(TimeoutError):
        child.ask(bytes(10_000_000), TIMEOUT_S)
    assert running() == []


def test_a_child_that_ends_is_started_anew(child: ChildProcess) -> None:
    with pytest.raises(ChildGone):
        child.ask(b"exit", TIMEOUT_S)
    assert child.ask(b"echo again", TIMEOUT_S) == b"again"


def test_a_watch_ends_the_process_with_its_reason(child: ChildProcess) -> None:
    seen: list[int] = []

    def watch(pid: int) -> str | None:
        seen.append(pid)
        return "enough" if len(seen) == 3 else None

    child.ask(b"echo", TIMEOUT_S)
    (process,) = running()
    with pytest.raises(ChildStopped, match=r"^enough$"):
        child.ask(b"sleep", TIMEOUT_S, watch)
    assert seen == [process.pid] * 3
    assert running() == []


def test_a_watch_that_fails_leaves_no_late_answer_behind(child: ChildProcess) -> None:
    def watch(pid: int) -> str | None:
        raise KeyError(pid)

    child.ask(b"echo", TIMEOUT_S)
    with pytest.raises(KeyError):
        child.ask(b"sleep first", TIMEOUT_S, watch)
    assert child.ask(b"echo second", TIMEOUT_S) == b"second"


def test_a_slow_watch_is_called_less_often(child: ChildProcess) -> None:
    seen: list[float] = []

    def watch(_: int) -> str | None:
        seen.append(time.monotonic())
        time.sleep(0.1)
        return "enough" if len(seen) == 2 else None

    child.ask(b"echo", TIMEOUT_S)
    with pytest.raises(ChildStopped):
        child.ask(b"sleep", TIMEOUT_S, watch)
    assert seen[1] - seen[0] >= 1.0


def test_kill_ends_a_call_that_waits(child: ChildProcess) -> None:
    child.ask(b"echo", TIMEOUT_S)
    killer = threading.Thread(target=child.kill)

    def watch(_: int) -> None:  # called while the call waits
        if killer.ident is None:
            killer.start()

    with pytest.raises(ChildGone):
        child.ask(b"sleep", TIMEOUT_S, watch)
    killer.join()
    with pytest.raises(ChildClosed):
        child.ask(b"echo", TIMEOUT_S)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda patch: patch.setattr(sys, "executable", "/nowhere/python"),
        lambda patch: patch.setenv("PYTHONHOME", "/nowhere"),
    ],
    ids=["no interpreter", "a broken interpreter"],
)
def test_a_process_that_does_not_start_is_told(
    child: ChildProcess, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> None:
    spoil(monkeypatch)
    with pytest.raises(ChildNotStarted):
        child.ask(b"echo", TIMEOUT_S)


@pytest.mark.parametrize(("order", "seconds"), [(b"echo", TIMEOUT_S), (b"deaf", 0.1)])
def test_finish_lets_the_process_end_by_itself_if_it_does_in_time(
    child: ChildProcess, order: bytes, seconds: float
) -> None:
    child.ask(order, TIMEOUT_S)
    began = time.monotonic()
    child.finish(seconds)
    assert time.monotonic() - began < TIMEOUT_S
    assert running() == []
    with pytest.raises(ChildClosed):
        child.ask(b"echo", TIMEOUT_S)


def test_finish_ends_a_start_that_waits(child: ChildProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_setup", b"never read", raising=True)
    told: list[BaseException] = []

    def start() -> None:
        try:
            child.start()
        except ChildNotStarted as error:
            told.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    while not running():
        time.sleep(0.001)
    child.finish(TIMEOUT_S)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    assert running() == []


@pytest.mark.parametrize("module", ["app.models.process.worker", "app.prediction_log.writer"])
def test_a_child_whose_parent_ends_at_once_says_nothing(module: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen([sys.executable, "-m", module], stdin=theirs, stderr=subprocess.PIPE)
    _, said = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, said) == (0, b"")
