"""How the service ends: told to, in whatever state it is, or killed."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from granian import Granian
from granian.constants import Interfaces

from app.config.settings import Settings
from app.serving.shutdown import NOTICE, REPLACED
from app.supervisor import DrainingServer
from tests.support import BY_PATH, HTTP, Client, Server, come_true, eventually
from tests.wire import WITHIN_S, Wire, head, metric

Serve = Callable[..., Server]
LONG = "3000"


def database(directory: Path) -> str:
    """What the processes of one test have in their environment, and no other's."""
    return f"sqlite:///{directory / 'predictions.db'}"


def processes(directory: Path) -> list[psutil.Process]:
    """All that a test's server has started and that still run, and itself."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATABASE_URL") == database(directory):
                found.append(process)
        except psutil.Error:  # it has gone, or is nobody's but init's to bury
            continue
    return found


def ends(server: Server, directory: Path) -> int:
    """Exit status of a server that is ending, none of whose processes stays."""
    status = server.popen.wait(2 * WITHIN_S)
    eventually(lambda: processes(directory) == [], WITHIN_S)
    return status


def readiness(server: Server) -> tuple[int, Any]:
    response = HTTP.get(f"{server.url}/health/ready", timeout=WITHIN_S)
    return response.status_code, response.json()["reason"]


def refuses(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=WITHIN_S).close()
    except ConnectionError:
        return True
    return False


def predict(server: Server, example: dict[str, float]) -> Any:
    response = HTTP.post(f"{server.url}/predict", json=example, timeout=WITHIN_S)
    assert response.status_code == 200
    return response.json()["prediction"]


@pytest.mark.slow
def test_readiness_ends_then_the_port_closes_then_the_last_answer_leaves(
    serve: Serve, tmp_path: Path, example: dict[str, float]
) -> None:
    server = serve(SHUTDOWN_DELAY="3").wait_ready()
    body = msgspec.json.encode(example)
    with Wire(server) as slow:
        slow.send(head(length=len(body)), body[:-1])
        expected = predict(server, example)  # answered after that one was sent: the first has arrived
        server.popen.terminate()
        eventually(lambda: readiness(server) == (503, "the service is shutting down"), WITHIN_S, server)
        with Wire(server) as other:
            answer = other.send(head(length=len(body)), body).answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert other.rest() == b""
        assert server.status("/health/live") == 200
        labels = {"model_name": BY_PATH["MODEL_NAME"], "model_version": "1", "prediction_type": "single"}
        assert metric(server, "predictions_total", **labels) == 2
        eventually(lambda: refuses(server), WITHIN_S, server)
        answer = slow.send(body[-1:]).answer()
    assert (answer.status, msgspec.json.decode(answer.body)["prediction"]) == (200, expected)
    assert ends(server, tmp_path) == 0


@pytest.mark.parametrize(("notice", "ready"), [(NOTICE, 503), (REPLACED, 200)])
async def test_answers_close_their_connections_once_the_end_is_announced(
    client: Client, example: dict[str, float], notice: signal.Signals, ready: int
) -> None:
    assert "connection" not in (await client.post("/predict", json=example)).headers
    client.app.services.shutdown.listen()
    signal.raise_signal(notice)
    await come_true(lambda: client.app.services.shutdown.leaving)
    answers = [
        await client.post("/predict", json=example),
        await client.post("/predict/batch", json={}),
        await client.get("/health/live"),
        await client.get("/nowhere"),
        await client.get("/health/ready"),
    ]
    assert [(one.status_code, one.headers["connection"]) for one in answers] == [
        (status, "close") for status in (200, 422, 200, 404, ready)
    ]


@pytest.mark.slow
def test_a_request_that_hangs_keeps_the_process_no_longer_than_its_grace(serve: Serve, tmp_path: Path) -> None:
    server = serve(SHUTDOWN_DELAY="0", SHUTDOWN_GRACE="1", REQUEST_TIMEOUT=LONG).wait_ready()
    with Wire(server) as wire:
        wire.send(head(length=100), b"{")
        assert server.status("/health/live") == 200
        server.popen.terminate()
        assert ends(server, tmp_path) == 0
        assert wire.rest() == b""


@pytest.mark.slow
def test_a_connection_that_idles_keeps_the_process_no_longer(
    serve: Serve, tmp_path: Path, example: dict[str, float]
) -> None:
    server = serve(SHUTDOWN_DELAY="0", SHUTDOWN_GRACE=LONG, IDLE_TIMEOUT=LONG).wait_ready()
    with httpx.Client(base_url=server.url, trust_env=False, verify=False) as client, Wire(server):
        assert client.post("/predict", json=example).status_code == 200
        server.popen.terminate()
        assert ends(server, tmp_path) == 0


def workers(server: Server) -> list[psutil.Process]:
    """What the supervising process has started: its workers, and Python's own helper."""
    try:
        children = psutil.Process(server.popen.pid).children()
        return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    "moment",
    [
        "a worker was started",
        pytest.param("the port is open", marks=pytest.mark.slow),
        pytest.param("no model is there yet", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_told_to_end_while_it_starts_it_ends_like_any_other_time(serve: Serve, tmp_path: Path, moment: str) -> None:
    server = serve(DATA_DIR=str(tmp_path / "fresh"), SHUTDOWN_DELAY="0.5")
    moments: dict[str, Callable[[], bool]] = {
        "a worker was started": lambda: workers(server) != [],
        "the port is open": lambda: not refuses(server),
        "no model is there yet": lambda: server.status("/health/ready") == 503,
    }
    eventually(moments[moment], process=server)
    server.popen.terminate()
    assert ends(server, tmp_path) == 0
    assert "Traceback" not in server.log()


@pytest.mark.slow
@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_told_again_and_again_it_ends_once(serve: Serve, tmp_path: Path, again: signal.Signals) -> None:
    server = serve(SHUTDOWN_DELAY="1").wait_ready()
    server.popen.terminate()
    for _ in range(5):
        if server.popen.poll() is None:
            server.popen.send_signal(again)
        time.sleep(0.05)
    assert ends(server, tmp_path) == 0
    assert "Traceback" not in server.log()


def test_a_signal_to_end_just_before_a_reload_is_seen_after_it() -> None:
    server = DrainingServer("app", settings=Settings(), interface=Interfaces.ASGI)
    server.signal_handler_reload()
    server.signal_handler_interrupt()
    server._reload(None, None)
    assert server.main_loop_interrupt.is_set()


def test_a_closed_terminal_ends_the_service_that_was_started_in_it() -> None:
    terminal, ours = os.openpty()
    kept = os.dup(2)
    os.dup2(ours, 2)
    try:
        server = DrainingServer("app", settings=Settings(), interface=Interfaces.ASGI)
        server.signal_handler_reload()
        assert not server.interrupt_signal
        os.close(terminal)
        server.signal_handler_reload()
        assert server.interrupt_signal
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(ours)


@pytest.mark.parametrize("first", ["interrupt", "reload"])
@pytest.mark.parametrize("second", ["interrupt", "reload"])
def test_a_signal_while_one_is_handled_is_no_deadlock(monkeypatch: pytest.MonkeyPatch, first: str, second: str) -> None:
    server = DrainingServer("app", settings=Settings(), interface=Interfaces.ASGI)
    handlers = {"interrupt": server.signal_handler_interrupt, "reload": server.signal_handler_reload}
    noted: list[bool] = []

    def note() -> None:
        noted.append(True)
        handlers[second]()  # as where the next signal comes just now

    monkeypatch.setattr(server.main_loop_interrupt, "set", note)
    handlers[first]()
    assert noted == [True]
    seen = {"interrupt": server.interrupt_signal, "reload": server.reload_signal}
    assert {name for name, is_seen in seen.items() if is_seen} == {first, second}


@pytest.mark.parametrize("told", [True, False])
def test_a_worker_that_ends_first_is_no_failure_when_all_were_told(monkeypatch: pytest.MonkeyPatch, told: bool) -> None:
    failed: list[list[int]] = []  # whose failures Granian turns into the exit status 1
    monkeypatch.setattr(Granian, "shutdown", lambda server, _: failed.append(list(server.interrupt_children)))
    server = DrainingServer("app", settings=Settings(shutdown_delay=0), interface=Interfaces.ASGI)
    server.interrupt_signal = told
    server.interrupt_children.append(0)
    server.shutdown()
    assert failed == [[] if told else [0]]


@pytest.mark.slow
def test_an_interrupt_ends_it_too(serve: Serve, tmp_path: Path) -> None:
    server = serve(SHUTDOWN_DELAY="0").wait_ready()
    server.popen.send_signal(signal.SIGINT)
    assert ends(server, tmp_path) == 0
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("told", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_all_of_its_processes_may_be_told_at_once(serve: Serve, tmp_path: Path, told: signal.Signals) -> None:
    """Ctrl-C does so, and systemd."""
    server = serve(SHUTDOWN_DELAY="0.5").wait_ready()
    family = psutil.Process(server.popen.pid).children(recursive=True)
    for process in (server.popen, *family):
        process.send_signal(told)
    assert ends(server, tmp_path) == 0


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_leaves_no_process_behind(
    serve: Serve, tmp_path: Path, example: dict[str, float]
) -> None:
    server = serve(SHUTDOWN_DELAY="0").wait_ready()
    expected = predict(server, example)
    (worker,) = workers(server)
    family = [worker, *worker.children(recursive=True)]
    worker.kill()
    eventually(lambda: not any(process in family for process in processes(tmp_path)), WITHIN_S, server)
    server.wait_ready()
    assert predict(server, example) == expected
    server.popen.terminate()
    assert ends(server, tmp_path) == 0


def test_a_killed_supervisor_leaves_nothing_that_keeps_the_port(
    serve: Serve, tmp_path: Path, example: dict[str, float]
) -> None:
    server = serve(**BY_PATH).wait_ready()
    predict(server, example)
    server.popen.kill()
    server.popen.wait()
    try:
        eventually(lambda: processes(tmp_path) == [], WITHIN_S)
        assert refuses(server)
    finally:
        for process in processes(tmp_path):
            process.kill()
