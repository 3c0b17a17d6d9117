"""The servers under test: command line, environment, and form of a request.

Each has one worker, and one thread to compute with. Peers are asked in the form that their documentation shows for a
model of scikit-learn's kind, and log no requests; what they run with is pinned in benchmarks/peers/*.txt.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from app.config.settings import Settings
from app.models.registry.publish import publish
from benchmarks.bodies import OBJECTS, ROW, Wire
from benchmarks.peers import process as peers
from benchmarks.peers.process import PeerError
from benchmarks.rows import NAMES

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60
MODEL_NAME = "bench-forest"
BODY_BYTES = 1 << 29


class Place(NamedTuple):
    """Port to listen on, directory of the run, MLflow's directory of the model, and Python of the environment."""

    port: int
    directory: Path
    model: Path
    python: Path


@dataclass(frozen=True)
class Contender:
    """Server that can be started.

    Attributes:
        key: Name on the command line.
        name: Name in the report.
        command: Makes the command line.
        ready: Path that answers 200 once the server can predict.
        row: Form of a request with one row.
        rows: Form of a request with several rows; None where that is not measured.
        environment: Name of a requirements file in benchmarks/peers; None for the project's own environment.
        environ: Environment variables.
    """

    key: str
    name: str
    command: Callable[[Place], list[str]]
    ready: str
    row: Wire
    rows: Wire | None = None
    environment: str | None = None
    environ: dict[str, str] = field(default_factory=dict)

    def python(self, cache: Path) -> Path:
        """Python of the environment, which is made at first use (PeerError: it cannot be made)."""
        return peers.python_of(peers.Peer(self.name, self.key, self.environment), cache)


@dataclass(frozen=True)
class Peer:
    """Server that was started."""

    name: str
    port: int
    ready: str
    process: subprocess.Popen[bytes]
    log: Path | None = None

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def processes(self) -> list[psutil.Process]:
        """Process of the server, and its descendants."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def worker(self) -> psutil.Process:
        """Process that answers: the child with most memory, or the server where it has no child."""
        parent = psutil.Process(self.process.pid)
        return max(parent.children(), key=lambda child: child.memory_info().rss, default=parent)

    def cpu_seconds(self) -> float:
        """Processor time of all processes."""
        total = 0.0
        for one in self.processes():
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def stop(self) -> None:
        """Stop the server with all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_ready(peer: Peer) -> None:
    """Wait until a server can predict (PeerError: it ended, or takes too long)."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if peer.process.poll() is not None:
            said = "" if peer.log is None else f", last said {peers.last_line(peer.log.read_text(errors='replace'))!r}"
            raise PeerError(f"{peer.name} ended with {peer.process.returncode}{said}")
        try:
            if httpx.get(f"{peer.url}{peer.ready}", trust_env=False, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise PeerError(f"{peer.name} was not ready within {START_TIMEOUT_S} s")


def start(contender: Contender, place: Place, **environ: str) -> Peer:
    """Start a server, without waiting until it is ready."""
    text = place.model / "model.lgb"
    search = {"PATH": f"{place.python.parent}:{os.environ['PATH']}"}  # mlflow starts uvicorn by its name
    log = place.directory / f"{contender.key}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            contender.command(place), cwd=ROOT, stdout=output, stderr=output, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "MODEL": str(text)} | search | contender.environ
            | madrone_environ(contender, place) | environ,
        )  # fmt: skip
    return Peer(contender.name, place.port, contender.ready, process, log)


@contextmanager
def running(
    contender: Contender, model: Path, directory: Path, cache: Path, **environ: str
) -> Generator[Peer, None, None]:
    """Server that is ready, and is stopped when the context ends (PeerError: it cannot be installed or started)."""
    peer = start(contender, Place(free_port(), directory, model, contender.python(cache)), **environ)
    try:
        wait_ready(peer)
        yield peer
    finally:
        peer.stop()


def madrone_environ(contender: Contender, place: Place) -> dict[str, str]:
    """Settings of Madrone; no other server reads them.

    Variants that serve the same model share a DATA_DIR, and with it the measured costs of the model, but no database.
    """
    own = "bundled" if contender is BUNDLED else "data"
    settings = {
        "API_HOST": "127.0.0.1",
        "API_PORT": str(place.port),
        "PROMETHEUS_PORT": str(free_port()),
        "DATA_DIR": str(place.directory / own),
        "DATABASE_URL": f"sqlite:///{place.directory / contender.key}.db",
        "MAX_BATCH_SIZE": "1000",
        "MAX_BODY_BYTES": str(BODY_BYTES),
    }
    return (settings if contender is BUNDLED else settings | {"MODEL_NAME": MODEL_NAME}) | contender.environ


def register(model: Path, directory: Path) -> None:
    """Register the model in the embedded registry that servers in this directory share."""
    data = directory / "data"
    data.mkdir(mode=0o700)
    settings = Settings(data_dir=data, model_name=MODEL_NAME)
    publish(settings, model, name=MODEL_NAME, params={}, metrics={}, tags={})


def _madrone(place: Place) -> list[str]:
    return [str(place.python), "-m", "app", "serve"]


def _module(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [str(place.python), "-m", f"benchmarks.servers.{name}", str(place.port)]


def _mlflow(place: Place) -> list[str]:
    return [
        *(str(place.python), "-m", "mlflow", "models", "serve", "--model-uri", str(place.model)),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(place.port), "--workers", "1"),
    ]


def _bentoml(place: Place) -> list[str]:
    return [
        *(str(place.python), "-m", "bentoml", "serve", "benchmarks.servers.bentoml:Forest"),
        *("--host", "127.0.0.1", "--port", str(place.port)),
    ]


def _mlserver(place: Place) -> list[str]:
    folder = place.directory / "mlserver"
    folder.mkdir(exist_ok=True)
    settings = {
        "host": "127.0.0.1", "http_port": place.port, "grpc_port": free_port(), "metrics_port": free_port(),
        "debug": False, "parallel_workers": 0,
    }  # fmt: skip
    model: dict[str, Any] = {
        "name": "forest",
        "implementation": "mlserver_lightgbm.LightGBMModel",
        "parameters": {"uri": str(place.model / "model.lgb")},
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(place.python.parent / "mlserver"), "start", str(folder)]


MLFLOW = Wire(
    "/invocations",
    lambda rows: {"dataframe_split": {"columns": NAMES, "data": rows.tolist()}},
    lambda body: body["predictions"],
)
FASTAPI = OBJECTS._replace(decode=lambda body: body["predictions"])
BENTOML = Wire("/predict", lambda rows: {"rows": rows.tolist()}, lambda body: body)
LITSERVE = Wire("/predict", lambda rows: {"input": rows.tolist()}, lambda body: body["output"])
OPEN_INFERENCE = Wire(
    "/v2/models/forest/infer",
    lambda rows: {"inputs": [{"name": "rows", "shape": rows.shape, "datatype": "FP64", "data": rows.ravel().tolist()}]},
    lambda body: body["outputs"][0]["data"],
)

READY = "/health/ready"
MADRONE = Contender("madrone", "Madrone", _madrone, READY, ROW, OBJECTS)
BUNDLED = Contender("bundled", "Madrone, the bundled model", _madrone, READY, ROW)
ECHO = Contender("echo", "echo", _module("echo"), "/", ROW)
"""Answers with the body of the request, so only its size matters."""
FASTAPI_UVICORN = Contender("fastapi", "FastAPI + uvicorn", _module("fastapi"), "/health", ROW, FASTAPI, "fastapi")
MLFLOW_SERVE = Contender("mlflow", "mlflow models serve", _mlflow, "/ping", MLFLOW, MLFLOW)
SILENT = {
    "quiet": {"LOG_LEVEL": "WARNING"},
    "unlogged": {"PREDICTION_LOG_ROWS": "0"},
    "unmeasured": {"ENABLE_PROMETHEUS": "false"},
    "bare": {"LOG_LEVEL": "WARNING", "PREDICTION_LOG_ROWS": "0", "ENABLE_PROMETHEUS": "false"},
}
VARIANTS = tuple(
    Contender(key, f"Madrone, {key}", _madrone, READY, ROW, environ=environ) for key, environ in SILENT.items()
)
"""Madrone without logs or metrics."""
PEERS = (
    FASTAPI_UVICORN,
    MLFLOW_SERVE,
    Contender("bentoml", "BentoML", _bentoml, "/readyz", BENTOML, BENTOML, "bentoml"),
    Contender("litserve", "LitServe", _module("litserve"), "/health", LITSERVE, LITSERVE, "litserve"),
    Contender("mlserver", "MLServer", _mlserver, "/v2/models/forest/ready", OPEN_INFERENCE, OPEN_INFERENCE, "mlserver"),
)
CONTENDERS = (MADRONE, BUNDLED, ECHO, *PEERS, *VARIANTS)
