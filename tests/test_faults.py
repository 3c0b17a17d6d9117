"""The registry's doubles: what a fault test relies on, against a real MLflow server."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import mlflow.artifacts
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.faults import Fault, FaultProxy, MlflowServer
from tests.support import HTTP, eventually

CONTENT = bytes(range(256)) * 40
HEALTH = "/health"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server of this module's own; its tests leave it running."""
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[FaultProxy]:
    with FaultProxy(mlflow_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def files(mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of a run with the artifacts `model/model.lgb` and `model/other.lgb`, uploaded through a proxy."""
    directory = tmp_path_factory.mktemp("files")
    for name in ("model.lgb", "other.lgb"):
        (directory / name).write_bytes(CONTENT)
    with FaultProxy(mlflow_server) as proxy:
        client = MlflowClient(proxy.url, proxy.url)
        run_id = str(client.create_run("0").info.run_id)
        client.log_artifacts(run_id, str(directory), "model")
    return run_id


def get(url: str, path: str = HEALTH) -> httpx.Response:
    return HTTP.get(url + path, timeout=30)


def ask(proxy: FaultProxy | MlflowServer, path: str = HEALTH) -> socket.socket:
    """A connection on which a path was asked for."""
    host, port = proxy.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return connection


def read_all(connection: socket.socket) -> bytes:
    answer = b""
    while part := connection.recv(65536):
        answer += part
    return answer


def download_path(run_id: str, name: str) -> str:
    return f"/api/2.0/mlflow-artifacts/artifacts/0/{run_id}/artifacts/model/{name}"


def killed(server: MlflowServer) -> None:
    server.kill()


def stopped_while_it_hangs_and_once_more(server: MlflowServer) -> None:
    server.hang()
    server.stop()
    server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("end", [killed, stopped_while_it_hangs_and_once_more])
def test_a_server_that_ended_starts_again_on_its_port_with_what_it_held(
    server: MlflowServer, end: Callable[[MlflowServer], None]
) -> None:
    url, name = server.url, end.__name__
    MlflowClient(url, url).create_registered_model(name)
    end(server)
    with pytest.raises(httpx.ConnectError):
        get(url)
    server.start()
    assert server.url == url
    assert MlflowClient(url, url).get_registered_model(name).name == name


@pytest.mark.slow
def test_a_hung_server_takes_connections_and_answers_once_it_is_resumed(server: MlflowServer) -> None:
    server.hang()
    try:
        with ask(server) as connection:
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            server.resume()
            connection.settimeout(30)
            assert connection.recv(12).startswith(b"HTTP/1.1")
    finally:
        server.resume()
    assert get(server.url).status_code == 200


def test_without_a_fault_everything_passes_and_is_counted(mlflow_server: str, proxy: FaultProxy) -> None:
    through, direct = get(proxy.url), get(mlflow_server)
    assert (through.status_code, through.content) == (direct.status_code, direct.content) == (200, b"OK")
    assert get(proxy.url, "/absent?a=b").status_code == get(mlflow_server, "/absent?a=b").status_code == 404
    assert proxy.requests == {HEALTH: 1, "/absent": 1}
    assert proxy.connections == 2


def test_mlflows_client_works_through_the_proxy(proxy: FaultProxy, files: str, tmp_path: Path) -> None:
    client = MlflowClient(proxy.url, proxy.url)
    uri = f"{client.get_run(files).info.artifact_uri}/model"
    mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path), tracking_uri=proxy.url)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {
        "model.lgb": CONTENT,
        "other.lgb": CONTENT,
    }
    assert proxy.requests[download_path(files, "model.lgb")] == 1


def test_an_error_is_mlflows_own_and_the_server_is_not_asked() -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy:
        proxy.fault = "error"
        response = get(proxy.url, "/api/2.0/mlflow/registered-models/get")
    assert response.status_code == 500
    assert response.json()["error_code"] == "INTERNAL_ERROR"


def test_mlflows_client_raises_on_an_error(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.fault = "error"
    with pytest.raises(MlflowException):
        MlflowClient(proxy.url, proxy.url).get_registered_model("any")


def test_a_drip_gives_a_byte_and_then_waits(mlflow_server: str) -> None:
    proxy = FaultProxy(mlflow_server, pace=3600)
    proxy.fault = "drip"
    with ask(proxy) as connection:
        assert connection.recv(65536) == b"H"
        proxy.close()
        assert read_all(connection) == b""


def test_a_drip_loses_nothing(mlflow_server: str) -> None:
    with FaultProxy(mlflow_server, pace=0) as proxy:
        proxy.fault = "drip"
        assert get(proxy.url).content == b"OK"


@pytest.mark.parametrize("name", ["model.lgb", "other.lgb"])
def test_a_truncated_download_ends_halfway(proxy: FaultProxy, files: str, name: str) -> None:
    proxy.fault = "truncate"
    with ask(proxy, download_path(files, name)) as connection:
        head, _, received = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: %d" % len(CONTENT) in head
    assert received == CONTENT[: len(CONTENT) // 2]
    with pytest.raises(httpx.RemoteProtocolError):
        get(proxy.url, download_path(files, name))


def test_a_corrupted_download_differs_in_one_byte_of_the_named_file(proxy: FaultProxy, files: str) -> None:
    proxy.fault = "corrupt"
    received = get(proxy.url, download_path(files, "model.lgb")).content
    assert len(received) == len(CONTENT)
    differing = [place for place, pair in enumerate(zip(received, CONTENT, strict=True)) if pair[0] != pair[1]]
    assert differing == [len(CONTENT) // 2]
    assert get(proxy.url, download_path(files, "other.lgb")).content == CONTENT


@pytest.mark.parametrize("fault", ["truncate", "corrupt"])
def test_what_spoils_downloads_lets_all_else_pass(
    mlflow_server: str, proxy: FaultProxy, files: str, fault: Fault
) -> None:
    proxy.fault = fault
    for path in (HEALTH, f"/api/2.0/mlflow-artifacts/artifacts?path=0/{files}/artifacts/model"):
        assert get(proxy.url, path).content == get(mlflow_server, path).content
    path = f"/api/2.0/mlflow-artifacts/artifacts/0/{files}/artifacts/uploaded/model.lgb"
    through, direct = (HTTP.put(url + path, content=CONTENT) for url in (proxy.url, mlflow_server))
    assert (through.status_code, through.content) == (direct.status_code, direct.content)
    assert get(mlflow_server, path).content == CONTENT


def test_refused_connections_are_taken_and_closed(proxy: FaultProxy) -> None:
    proxy.fault = "refuse"
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        get(proxy.url)
    assert proxy.connections == 1
    assert not proxy.requests


def test_a_server_that_is_away_closes_the_connection() -> None:
    with FaultProxy("http://127.0.0.1:9") as proxy, pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        get(proxy.url)


@pytest.mark.slow
def test_closing_ends_connections_that_wait_for_a_hung_server(server: MlflowServer) -> None:
    proxy = FaultProxy(server.url)
    server.hang()
    try:
        with ask(proxy) as asked, ask(proxy) as other:
            eventually(lambda: proxy.requests[HEALTH] == 2)
            proxy.close()
            assert read_all(asked) == read_all(other) == b""
    finally:
        server.resume()
    with pytest.raises(httpx.ConnectError):
        get(proxy.url)
