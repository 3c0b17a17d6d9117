"""A disk that is full, read-only or damaged, and a process that is killed: what can be served is served."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import FaultProxy
from tests.shelf import Shelf
from tests.support import HTTP, eventually, small_disk
from tests.watch import Sender, Watched


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[FaultProxy]:
    with FaultProxy(mlflow_server) as proxy:
        yield proxy


def stored(server: Watched, version: str) -> Path:
    (path,) = (server.data_dir / "models").glob(f"*/version-{version}-*/model/model.lgb")
    return path


@pytest.mark.slow
def test_a_model_that_fills_the_disk_is_served_and_stored_later(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "full-disk", tmp_path)
    first = shelf.good()
    models = tmp_path / "data" / "models"
    with small_disk(models, "size=64k,mode=700"):
        (models / "filling").write_bytes(bytes(60 * 1024))
        with Watched(tmp_path, mlflow_server, shelf.name) as server, Sender(server.wait_ready()) as sender:
            told = server.becomes(version=first, store__last_error="No space left on device")
            sender.goes_on()
            assert (told["status"], told["stale"], told["store"]["entries"]) == ("degraded", False, [])
            (models / "filling").unlink()
            server.becomes(version=first, status="healthy", store__last_error=None, store__entries=[first])
            second = shelf.good()
            server.becomes(version=second, status="healthy", store__entries=[second, first])
            sender.goes_on()
    assert sender.versions(shelf.predictions) == [first, second]


@pytest.mark.slow
def test_a_read_only_data_dir_is_reported_and_stops_no_model(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "read-only", tmp_path)
    first = shelf.good()
    with (
        small_disk(tmp_path / "data", "size=64k,ro"),
        Watched(tmp_path, mlflow_server, shelf.name) as server,
        Sender(server.wait_ready()) as sender,
    ):
        server.becomes(version=first, store__last_error="Read-only file system")
        second = shelf.good()
        server.becomes(version=second)
        sender.goes_on()
        pinned = server.reload(version=first)
        sender.goes_on()
        health = HTTP.get(f"{server.url}/health").json()
        detailed = HTTP.get(f"{server.url}/health/detailed").json()
    assert pinned.json()["outcome"] == "swapped"
    assert pinned.json()["reason"] == "DATA_DIR cannot be written: a restart will not know of the pin"
    assert "predictions cannot be logged" in health["problems"]
    assert {task["restarts"] for task in detailed["tasks"].values()} == {0}
    assert sender.versions(shelf.predictions) == [first, second, first]


@pytest.mark.slow
def test_a_damaged_stored_model_is_set_aside_and_the_one_before_it_served(
    mlflow_server: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    shelf = Shelf(mlflow_server, "damaged", tmp_path)
    first = shelf.good()
    with Watched(tmp_path, proxy.url, shelf.name) as server:
        server.becomes(version=first)
        second = shelf.good()
        server.becomes(version=second)
        third = shelf.good()
        server.becomes(version=third)
        cut, flipped = stored(server, third), stored(server, second)
    cut.write_bytes(cut.read_bytes()[:1000])
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    proxy.fault = "refuse"
    with Watched(tmp_path, proxy.url, shelf.name) as server, Sender(server.wait_ready()) as sender:
        told = server.becomes(version=first, stale=True)
        sender.goes_on()
        assert told["store"]["entries"] == [first]
        for version, reason in zip((second, third), told["store"]["quarantined"], strict=True):
            assert f"version-{version}" in reason
            assert "its file 'model.lgb' is not what was written" in reason
        proxy.fault = None
        server.becomes(version=third, stale=False, status="healthy")
        sender.goes_on()
    assert sender.versions(shelf.predictions) == [first, third]


@pytest.mark.slow
def test_a_process_killed_during_a_swap_leaves_whole_models(
    mlflow_server: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    shelf = Shelf(mlflow_server, "killed", tmp_path)
    versions = [shelf.good()]
    models = tmp_path / "data" / "models"
    for _ in range(2):
        with Watched(tmp_path, proxy.url, shelf.name) as server:
            with Sender(server.wait_ready()) as sender:
                sender.goes_on()
            said = server.model()
            proxy.fault = None
            server.becomes(version=versions[-1], stale=False)
            versions.append(shelf.good())
            eventually(lambda: any(models.glob("*/incoming-*")) or server.model()["version"] == versions[-1])
        assert said["version"] in versions[-3:-1]
        assert said["store"]["quarantined"] == []
        assert set(sender.versions(shelf.predictions)) <= set(versions[:-1])
        proxy.fault = "refuse"
    with Watched(tmp_path, proxy.url, shelf.name) as server, Sender(server.wait_ready()) as sender:
        said = server.becomes(stale=True, last_refresh__outcome="registry_unreachable")
        sender.goes_on()
    assert said["version"] in versions[-2:]
    assert said["store"]["quarantined"] == []
    assert sender.versions(shelf.predictions) == [said["version"]]
