"""The real service: `madrone serve` as a process, spoken to over sockets, ended by signals."""

import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import mlflow.pyfunc
import msgspec
import numpy as np
import pandas as pd
import psutil
import pytest

from app.config.settings import Settings
from app.models.registry.embedded import BUNDLED
from app.training import train
from app.training.california import FULL, MODEL_NAME
from app.training.dataset import FEATURES, SHARED_COPY, load_dataset
from app.training.split import split_rows
from tests.models.support import mlflows_own_warnings_silenced
from tests.support import HTTP, Server, eventually
from tests.wire import Wire

Serve = Callable[..., Server]


def rows_to_predict(source: str, example: dict[str, float]) -> pd.DataFrame:
    if source == "real rows":
        if not SHARED_COPY.is_file():
            pytest.skip("the California Housing data is not beside the checkout")
        return pd.DataFrame(load_dataset().features[:1000], columns=list(FEATURES))
    generator = np.random.default_rng(0)
    centre = np.array(list(example.values()))
    return pd.DataFrame(centre * generator.uniform(0.9, 1.1, (1000, len(centre))), columns=list(FEATURES))


class FreshServer(Server):
    """A server whose DATA_DIR is not there when it starts."""

    def __init__(self, directory: Path) -> None:
        self.data_dir = directory / "fresh"
        environ = {"DATA_DIR": str(self.data_dir), "DATABASE_URL": None, "MAX_BATCH_SIZE": "1000"}
        super().__init__(environ, directory)

    def logged(self) -> dict[str, float]:
        """Predictions in its log, by their requests; none before the log has its table, which no answer awaits."""
        path = self.data_dir / "predictions.db"
        if not path.exists():
            return {}
        with closing(sqlite3.connect(path)) as database:
            if not database.execute("select 1 from sqlite_schema where name = 'predictions'").fetchall():
                return {}
            return dict(database.execute("select request_id, prediction from predictions").fetchall())


@pytest.fixture(scope="module")
def servers() -> Iterator[list[FreshServer]]:
    """Those that were started for this module's tests, the last of which may still run."""
    servers: list[FreshServer] = []
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
def server(servers: list[FreshServer], tmp_path_factory: pytest.TempPathFactory) -> FreshServer:
    """A server for tests that only ask, and for those that end it, after which the next test gets another."""
    if not servers or servers[-1].popen.poll() is not None:
        servers.append(FreshServer(tmp_path_factory.mktemp("server")))
        servers[-1].wait_ready()
    return servers[-1]


def test_a_fresh_data_dir_is_all_that_a_first_start_needs(server: FreshServer, example: dict[str, float]) -> None:
    answer = HTTP.post(f"{server.url}/predict", json=example)
    assert answer.status_code == 200
    assert answer.json()["model_version"] == "1"
    assert answer.json()["model_stage"] == "Production"
    assert {"mlflow.db", "artifacts"} <= {path.name for path in server.data_dir.iterdir()}
    assert server.data_dir.stat().st_mode & 0o077 == 0
    eventually(lambda: server.logged().get(answer.json()["request_id"]) == answer.json()["prediction"], process=server)
    told = [line for line in map(msgspec.json.decode, server.log().splitlines()) if line["logger"].startswith("app.")]
    steps = [
        "asking the registry",
        "creating the embedded registry",
        "bundled model registered",
        "fetching model",
        "loading model",
        "model in service",
    ]
    assert [line["message"] for line in told if line["message"] in steps] == steps
    assert [line["seconds"] > 0 for line in told if line["message"] == "model in service"] == [True]


@pytest.mark.parametrize("source", ["real rows", "rows around the medians"])
def test_predictions_equal_those_of_mlflow_pyfunc(server: Server, example: dict[str, float], source: str) -> None:
    frame = rows_to_predict(source, example)
    expected = mlflow.pyfunc.load_model(str(BUNDLED / "model")).predict(frame)
    with httpx.Client(base_url=server.url, trust_env=False, verify=False) as client:
        rows = frame.to_dict(orient="records")
        batch = client.post("/predict/batch", json={"predictions": rows}).json()
        single = [client.post("/predict", json=row).json()["prediction"] for row in rows[:50]]
    assert batch["successful_predictions"] == 1000
    np.testing.assert_allclose([item["prediction"] for item in batch["predictions"]], expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(single, expected[:50], rtol=0, atol=1e-9)


def test_metrics_are_scraped_from_both_ports(server: Server, example: dict[str, float]) -> None:
    HTTP.post(f"{server.url}/predict", json=example)
    for port in (server.port, server.prometheus_port):
        text = HTTP.get(f"http://127.0.0.1:{port}/metrics").text
        assert (
            'predictions_total{model_name="california-housing-model",model_version="1",prediction_type="single"}'
            in text
        )
        assert 'model_status{model_name="california-housing-model"} 1.0' in text
    assert "API_KEY" not in server.log()  # nobody but this machine can reach it


@pytest.mark.parametrize(
    ("request_line", "hosts", "status"),
    [
        ("GET /health/live HTTP/1.1", [], 400),
        ("GET /health/live HTTP/1.1", ["a", "b"], 400),
        ("GET /health/live HTTP/1.1", ["a"], 200),
        ("GET /health/live HTTP/1.0", [], 200),
    ],
)
def test_a_request_says_once_which_host_it_is_for(
    server: Server, request_line: str, hosts: list[str], status: int
) -> None:
    with Wire(server) as wire:
        wire.send("\r\n".join([request_line, *(f"Host: {host}" for host in hosts), "", ""]).encode())
        answer = wire.answer()
    assert answer.status == status
    if status == 400:
        assert answer.kind == "bad-request"


def test_no_body_follows_the_answer_to_head(server: Server) -> None:
    with Wire(server) as wire:
        wire.send(b"HEAD /info HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"HEAD /info HTTP/1.0\r\n\r\n")
        heads = wire.rest().split(b"\r\n\r\n")
    length = len(HTTP.get(f"{server.url}/info").content)
    assert heads.pop() == b""
    assert [f"content-length: {length}".encode() in head for head in heads] == [True] * 3


def request_head(body: bytes) -> bytes:
    head = "POST /predict HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode()


def refuses_connections(server: Server) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.slow
def test_sigterm_answers_the_request_in_flight_and_takes_no_new_one(serve: Serve, example: dict[str, float]) -> None:
    server = serve().wait_ready()
    body = msgspec.json.encode(example)
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(request_head(body) + body[:-1])
        # A second request on another connection, answered after that one was sent, shows that the first has arrived.
        assert server.status("/health/live") == 200
        server.popen.terminate()
        eventually(lambda: refuses_connections(server))
        connection.sendall(body[-1:])
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"prediction"' in answer
    assert server.popen.wait(30) == 0


def test_under_traffic_sigterm_cuts_no_answer_short(server: FreshServer, example: dict[str, float]) -> None:
    answers: list[tuple[int, str]] = []
    broken: list[str] = []
    enough = threading.Event()

    def send() -> None:
        # A connection a request, so that none is sent into one that the server has just closed for idling.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=server.url, limits=limits, trust_env=False, verify=False, timeout=20) as client:
            while True:
                try:
                    response = client.post("/predict", json=example)
                    assert response.json()["model_version"] == "1"
                    answers.append((response.status_code, response.json()["request_id"]))
                except httpx.ConnectError:
                    return
                except (httpx.HTTPError, ValueError, KeyError) as error:
                    broken.append(repr(error))
                    return
                if len(answers) >= 100:
                    enough.set()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    assert server.terminate() == 0
    for thread in threads:
        thread.join(30)
    assert {status for status, _ in answers} == {200}
    assert server.logged().keys() >= {request_id for _, request_id in answers}
    # The kernel may have taken connections that the server never accepted: those are reset, before any answer began.
    assert [text for text in broken if "ReadError" not in text and "RemoteProtocolError" not in text] == []
    assert len(broken) <= len(threads)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_an_open_door_is_named_once(serve: Serve) -> None:
    server = serve(API_HOST="0.0.0.0").wait_ready()
    (worker,) = psutil.Process(server.popen.pid).children()
    worker.kill()
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    server.wait_ready()
    (warning,) = [msgspec.json.decode(line) for line in server.log().splitlines() if "API_KEY" in line]
    assert (warning["level"], warning["logger"]) == ("WARNING", "app.commands.listening")
    assert warning["message"] == (
        f"API_KEY is not set: everybody who can reach API_HOST 0.0.0.0, API_PORT {server.port} gets predictions"
    )


def test_a_taken_port_is_named_without_a_traceback(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(API_PORT=str(taken.getsockname()[1]))
        assert server.popen.wait(60) == 1
    assert "API_PORT" in server.log()
    assert "Traceback" not in server.log()


@pytest.mark.slow
def test_a_taken_metrics_port_degrades_health_and_nothing_else(serve: Serve, example: dict[str, float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = serve(PROMETHEUS_PORT=str(taken.getsockname()[1])).wait_ready()
        health = HTTP.get(f"{server.url}/health/detailed").json()
        assert health["tasks"]["metrics-server"]["restarts"] >= 1
        assert health["tasks"]["metrics-server"]["last_error"] == "OSError"
        assert HTTP.post(f"{server.url}/predict", json=example).status_code == 200
        assert HTTP.get(f"{server.url}/metrics").status_code == 200


@pytest.mark.slow
def test_without_any_registry_the_process_stays_up_and_says_so(
    serve: Serve, tmp_path: Path, example: dict[str, float]
) -> None:
    server = serve(MLFLOW_TRACKING_URI="http://user:hunter2@127.0.0.1:9", DATA_DIR=str(tmp_path / "empty"))
    eventually(lambda: server.status("/health/live") == 200, process=server)

    def looked() -> bool:
        last = HTTP.get(f"{server.url}/health/model").json()["last_refresh"]
        return last is not None and last["outcome"] == "registry_unreachable"

    eventually(looked, process=server)
    assert server.status("/health/ready") == 503
    answer = HTTP.post(f"{server.url}/predict", json=example)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "hunter2" not in HTTP.get(f"{server.url}/health/detailed").text
    assert "hunter2" not in server.log()
    assert server.terminate() == 0


@pytest.mark.slow
def test_a_model_with_stored_rows_answers_as_it_was_evaluated(serve: Serve, tmp_path: Path) -> None:
    """`just train` and `just serve` in small: the shipped recipe, on a part of the rows."""
    if not SHARED_COPY.is_file():
        pytest.skip("the California Housing data is not beside the checkout")
    whole = load_dataset()
    rows = np.random.default_rng(0).permutation(len(whole.target))[:2000]
    data = msgspec.structs.replace(whole, features=whole.features[rows], target=whole.target[rows])
    areas = msgspec.structs.replace(FULL.areas, holdouts=0)
    model = train(data, msgspec.structs.replace(FULL, areas=areas, max_rounds=60))
    data_dir = tmp_path / "data"
    with mlflows_own_warnings_silenced():
        model.register(MODEL_NAME, Settings(data_dir=data_dir))
    server = serve(DATA_DIR=str(data_dir), MAX_BATCH_SIZE="1000").wait_ready()
    test = split_rows(len(data.target)).test
    bodies = [dict(zip(data.names, row, strict=True)) for row in data.features[test].tolist()]
    away = bodies[0] | {"Latitude": 36.0, "Longitude": -124.3}
    with httpx.Client(base_url=server.url, trust_env=False, verify=False) as client:
        items = client.post("/predict/batch", json={"predictions": [*bodies, away]}).json()["predictions"]
        single = [client.post("/predict", json=body).json() for body in bodies[:30]]
        info = client.get("/predict/model/info").json()
    answer = model.parts.engine().evaluate(data.features[test])
    np.testing.assert_allclose([item["prediction"] for item in items[:-1]], answer.prediction, rtol=0, atol=1e-6)
    np.testing.assert_allclose([one["prediction"] for one in single], answer.prediction[:30], rtol=0, atol=1e-6)
    residual = np.array([item["prediction"] for item in items[:-1]]) - data.target[test]
    assert np.sqrt(np.mean(residual**2)) == pytest.approx(model.metrics["test_rmse"], abs=1e-6)
    intervals = [item["confidence_interval"] for item in items[:-1]]
    held = [one["lower"] <= true <= one["upper"] for one, true in zip(intervals, data.target[test], strict=True)]
    assert {one["level"] for one in intervals} == {0.9}
    assert 0.8 < np.mean(held) < 0.97
    assert any(warning.startswith("outside_reference: ") for warning in items[-1]["warnings"])
    assert info["reference_rows"] == len(split_rows(len(data.target)).fit)
