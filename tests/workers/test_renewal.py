"""Files with secrets and certificates that change while a service of two workers runs."""

import signal
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from tests.certificates import Authority
from tests.support import BY_PATH, HTTP, Server, eventually

Serve = Callable[..., Server]
ASKED = 16
"""Connections, each to one of the workers: all to the same one by chance once in 2 ** 15."""


def statuses(server: Server, key: str) -> set[int]:
    """What some connections with a key are answered; 422 for one that is right, since the body is not."""
    answers = [HTTP.post(f"{server.url}/predict", headers={"X-API-Key": key}, json={}) for _ in range(ASKED)]
    return {answer.status_code for answer in answers}


def messages(server: Server) -> list[str]:
    return [msgspec.json.decode(line)["message"] for line in server.log().splitlines()]


def started(server: Server) -> int:
    """Number of workers that listened so far."""
    return sum(message.startswith("Started worker-") for message in messages(server))


def certificates(server: Server) -> set[str]:
    return {ssl.get_server_certificate(("127.0.0.1", server.port), timeout=20) for _ in range(ASKED)}


@pytest.mark.slow
def test_a_worker_that_is_replaced_takes_the_keys_of_the_others(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old\n")
    server = serve(**BY_PATH, API_WORKERS="2", API_KEY_FILE=str(file), PREDICTION_LOG="off", SHUTDOWN_DELAY="0")
    eventually(lambda: started(server) == 2, process=server)
    for content in ("new", ""):
        file.write_text(content)
        before = started(server)
        psutil.Process(server.popen.pid).children()[0].kill()
        eventually(lambda before=before: started(server) > before, process=server)
        assert (statuses(server, "old"), statuses(server, "new")) == ({422}, {401})


@pytest.mark.slow
def test_sighup_takes_new_files_without_a_failed_answer(serve: Serve, tmp_path: Path) -> None:
    authority, file = Authority(tmp_path), tmp_path / "key"
    certificate, key = authority.issue("service")
    file.write_text("old")
    secrets = {"API_KEY": "new", "API_KEY_SECOND_FILE": str(file)}
    tls = {"API_TLS_CERT": str(certificate), "API_TLS_KEY": str(key)}
    server = serve(**BY_PATH, **tls, **secrets, API_WORKERS="2", PREDICTION_LOG="off", SHUTDOWN_DELAY="0.5")
    server.url = f"https://127.0.0.1:{server.port}"
    eventually(lambda: started(server) == 2, process=server)
    first = certificates(server)
    assert len(first) == 1
    certificate.write_text("half")
    server.popen.send_signal(signal.SIGHUP)
    eventually(lambda: "SIGHUP is ignored: some files cannot be read anew" in messages(server), process=server)
    assert (certificates(server), statuses(server, "old")) == (first, {422})

    authority.issue("service")
    file.write_text("newer")
    answered, lost, ended = list[int](), list[str](), threading.Event()

    def ask() -> None:
        connection = HTTPSConnection("127.0.0.1", server.port, context=ssl._create_unverified_context(), timeout=20)
        headers, kept = {"X-API-Key": "new", "Content-Type": "application/json"}, False
        while not ended.wait(0.01):
            try:
                connection.request("POST", "/predict", "{}", headers)
                with connection.getresponse() as answer:
                    answered.append(answer.status)
                    kept = not answer.will_close
            except (OSError, HTTPException) as error:  # a new connection may be closed, one that was kept may not
                lost.extend([repr(error)] if kept else [])
                connection.close()
                kept = False
        connection.close()

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        with httpx.stream("GET", f"{server.url}/console/live", verify=False, timeout=20) as figures:
            server.popen.send_signal(signal.SIGHUP)
            eventually(lambda: "all workers were replaced" in messages(server), 20, server)
            assert "".join(figures.iter_text()).endswith("\n\n")
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert (set(answered), lost) == ({422}, [])
    renewed = certificates(server)
    assert len(renewed) == 1
    assert renewed != first
    assert (statuses(server, "old"), statuses(server, "newer"), statuses(server, "new")) == ({401}, {422}, {422})
    assert server.terminate() == 0


@pytest.mark.slow
def test_a_worker_that_fails_while_it_is_replaced_is_so_once(serve: Serve) -> None:
    server = serve(**BY_PATH, API_WORKERS="2", PREDICTION_LOG="off", SHUTDOWN_DELAY="0")
    eventually(lambda: started(server) == 2, process=server)
    first = next(line.rpartition(" ")[2] for line in messages(server) if line.startswith("Spawning worker-1"))
    server.popen.send_signal(signal.SIGHUP)
    eventually(lambda: sum(line.startswith("Spawning worker-1") for line in messages(server)) == 2, process=server)
    psutil.Process(int(first)).kill()
    eventually(lambda: "all workers were replaced" in messages(server), process=server)
    assert server.terminate() == 0
    assert not any(line.startswith("Respawning") for line in messages(server))


@pytest.mark.slow
def test_sighup_disturbs_no_service_of_one_worker(serve: Serve) -> None:
    server = serve(**BY_PATH, PREDICTION_LOG="off", SHUTDOWN_DELAY="0").wait_ready()
    server.popen.send_signal(signal.SIGHUP)
    eventually(lambda: any(line.startswith("SIGHUP is ignored") for line in messages(server)), process=server)
    assert server.status("/health/ready") == 200
    assert started(server) == 1
    assert server.terminate() == 0
