"""What several test modules use: waiting for a condition, a `madrone serve` process, reading an error."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest
from litestar.testing import AsyncTestClient
from prometheus_client import CollectorRegistry

from app.config.settings import Settings
from app.container import Services
from app.main import Application
from app.models.process.worker import ModelWorker
from app.models.registry.embedded import BUNDLED
from app.models.registry.snapshot import content_version, list_files
from app.prediction_log.writer import Writer

START_TIMEOUT_S = 180
"""Two cores may be shared by three of the tests' processes, each with servers and their workers, and they compile."""

PORTS_EACH = 2000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_ports = itertools.cycle(range(10_000 + _worker * PORTS_EACH, 10_000 + (_worker + 1) * PORTS_EACH))

ROOT = Path(__file__).parents[1]
"""The checkout."""

HTTP = httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Client for the tests' own servers; each request has a connection of its own, and any thread may send one.

`httpx.get` reads all certificate authorities at each call. That is 30 ms of processor time, most of what a test that
polls a server would take.
"""


def free_port() -> int:
    """A port that nothing listens on now, and that no other test process will be given.

    Below those that the system gives to outgoing connections, for one of these could take it before its server does.
    """
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("there is no port left")


def eventually(check: Callable[[], bool], timeout: float = START_TIMEOUT_S, process: "Server | None" = None) -> None:
    """Wait until `check` holds; a test fails when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not check():
        if process is not None and process.popen.poll() is not None:
            pytest.fail(f"the server ended with {process.popen.returncode}:\n{process.log()}")
        if time.monotonic() > deadline:
            pytest.fail(f"did not happen within {timeout} s" + (f":\n{process.log()}" if process else ""))
        time.sleep(0.05)


async def come_true(check: Callable[[], object]) -> None:
    """Wait, in a loop that goes on turning, until `check` holds; a test fails when it does not in time."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while not check():  # noqa: ASYNC110 - what it waits for knows of no event
            await asyncio.sleep(0.01)


def in_process(settings: Settings) -> dict[str, Any]:
    """Arguments for `create_app`: what is done in processes of their own, which take seconds to start, is done here."""
    return {"sources": ModelWorker, "log_writer": Writer(settings.prediction_log_target)}


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Generator[None]:
    """A file system of its own; skips where none can be mounted."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


class Client(AsyncTestClient[Application]):
    """Client of an application in this process, whose services a test can reach."""

    def __init__(self, app: Application) -> None:
        super().__init__(app)
        self.app = app  # Litestar's client wraps whatever is not a Litestar


async def loaded(client: Client) -> Services:
    """The services of a client's app, once its keeper has had its first look and waits for the next."""
    services = client.app.services
    await come_true(lambda: services.keeper.next_look() is not None)
    return services


def sample_value(registry: CollectorRegistry, name: str, labels: Mapping[str, str]) -> float | None:
    """A sample of a registry, whatever its model's name if that is not given; None where there is none."""
    for family in registry.collect():
        for sample in family.samples:
            told = {key: value for key, value in sample.labels.items() if key in labels or key != "model_name"}
            if sample.name == name and told == labels:
                return sample.value
    return None


def problem(response: httpx.Response) -> dict[str, object]:
    """The body of an error, checked to be problem details that agree with the response."""
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = msgspec.json.decode(response.content)
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= body.keys()
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    return body


def server_environ(registry_dir: Path, directory: Path) -> dict[str, str]:
    """Environment of a server over the session's registry, which all servers share like their compiled kernels."""
    return {
        "DATA_DIR": str(registry_dir),
        "DATABASE_URL": f"sqlite:///{directory / 'predictions.db'}",
    }


BY_PATH = {"MODEL_PATH": str(BUNDLED / "model"), "MODEL_NAME": Settings().model_name}
"""Environment of a server that serves the bundled model without a registry, and so without MLflow.

Importing that takes seconds of processor time, in a process which goes on with it after the server is ready.
"""


def version_by_path() -> str:
    """Version of what is served `BY_PATH`, which is that of its files."""
    return content_version(list_files(BUNDLED / "model", most_bytes=10**9))


class Server:
    """A `madrone serve` process.

    Args:
        environ: Variables beside those that every server needs; one of None is left unset.
        directory: Where it runs.
        arguments: Of the command.
    """

    def __init__(self, environ: Mapping[str, str | None], directory: Path, arguments: tuple[str, ...] = ()) -> None:
        self.port, self.prometheus_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / f"server-{self.port}.log"
        inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
        own = {
            "PYTHONPATH": str(ROOT),
            "API_HOST": "127.0.0.1",
            "API_PORT": str(self.port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
        }
        self._environ = {name: value for name, value in (inherited | own | environ).items() if value is not None}
        self._arguments, self._directory = arguments, directory
        self.start()

    def start(self) -> None:
        """Start the process, again after it has ended; the log then begins anew."""
        with self._log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", *self._arguments],
                cwd=self._directory,
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """What the process has said; without the line that it may be writing."""
        text = self._log.read_text()
        return text[: text.rfind("\n") + 1] if self.popen.poll() is None else text

    def status(self, path: str) -> int:
        """Status of a GET, 0 while nothing answers."""
        try:
            return HTTP.get(self.url + path, timeout=5).status_code
        except httpx.TransportError:
            return 0

    def wait_ready(self) -> "Server":
        eventually(lambda: self.status("/health/ready") == 200, process=self)
        return self

    def terminate(self, timeout: float = 30) -> int:
        """Send SIGTERM and give the exit status."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(timeout)

    def kill(self) -> None:
        """End the process and the worker that it started, whatever state they are in."""
        if self.popen.poll() is None:
            children = psutil.Process(self.popen.pid).children(recursive=True)
            self.popen.kill()
            self.popen.wait()
            for child in children:
                if child.is_running():
                    child.kill()
