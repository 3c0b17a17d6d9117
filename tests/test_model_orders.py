"""What an operator does to a model in service: aliases, pins, limits, deletions, a canary and a shadow."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import pytest
from mlflow.lightgbm import log_model

from tests.faults import FaultProxy
from tests.models.support import NAMES, mlflows_own_warnings_silenced, numbers
from tests.shelf import ALIAS, Shelf, booster, predicted
from tests.support import HTTP, eventually, problem
from tests.watch import Sender, Watched


@pytest.fixture
def proxy(mlflow_server: str) -> Iterator[FaultProxy]:
    with FaultProxy(mlflow_server) as proxy:
        yield proxy


@pytest.mark.slow
def test_a_moved_alias_is_followed_and_a_deleted_version_stays_served(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "moved", tmp_path)
    first, second = shelf.good(), shelf.good(alias=None)
    with Watched(tmp_path, mlflow_server, shelf.name) as server, Sender(server.wait_ready()) as sender:
        sender.goes_on()
        shelf.point(ALIAS, second)
        server.becomes(version=second, resolved_by=f"alias {ALIAS}")
        sender.goes_on()
        shelf.point(ALIAS, first)
        server.becomes(version=first)
        sender.goes_on()
        shelf.client.delete_model_version(shelf.name, second)
        shelf.client.delete_model_version(shelf.name, first)
        told = server.becomes(last_refresh__outcome="nothing_to_serve")
        sender.goes_on()
        assert (told["version"], told["stale"], told["status"]) == (first, False, "degraded")
        assert "has no version to serve (alias champion: empty" in told["last_refresh"]["reason"]
        assert server.count("model_refreshes_total", outcome="nothing_to_serve") > 0
        shelf.client.delete_registered_model(shelf.name)
        told = server.becomes(last_refresh__outcome="model_unknown", version=first)
        sender.goes_on()
        shelf.client.create_registered_model(shelf.name)
        again = shelf.good()
        server.becomes(version=again, status="healthy", last_refresh__outcome="unchanged", aliases=[ALIAS])
        sender.goes_on()
    # The numbers begin anew, and the answers are those of the new version 1.
    assert again == first
    predictions = [answer.prediction for answer in sender.answers]
    assert {answer.status for answer in sender.answers} == {200}
    assert predictions[-1] == shelf.predictions[again] != predictions[0]


@pytest.mark.slow
def test_a_pin_outlives_the_process_while_the_registry_is_down(
    mlflow_server: str, proxy: FaultProxy, tmp_path: Path
) -> None:
    shelf = Shelf(mlflow_server, "pinned", tmp_path)
    first = shelf.good()
    with Watched(tmp_path, proxy.url, shelf.name) as server, Sender(server.wait_ready()) as before:
        second = shelf.good()
        server.becomes(version=second)
        before.goes_on()
        assert server.reload(key=None).status_code == server.reload(key="another").status_code == 401
        unknown = server.reload(version="99")
        assert unknown.status_code == 404
        assert "has no version '99', or its upload has not ended" in str(problem(unknown)["detail"])
        assert server.model()["pinned"] is None
        assert server.reload(version=first).json()["outcome"] == "swapped"
        before.goes_on()
        with ThreadPoolExecutor(20) as threads:
            reloads = list(threads.map(lambda _: server.reload(), range(20)))
        assert [reload.status_code for reload in reloads] == [200] * 20
        assert {reload.json()["outcome"] for reload in reloads} == {"unchanged"}
    proxy.fault = "refuse"
    with Watched(tmp_path, proxy.url, shelf.name) as server, Sender(server.wait_ready()) as after:
        server.becomes(version=first, pinned=first, stale=True)
        after.goes_on()
        assert server.metric("model_pinned") == 1
        proxy.fault = None
        server.becomes(version=first, stale=False, look_ups__0__rule=f"pinned to version {first}")
        assert server.reload(version=None).json()["version"] == second
        server.becomes(version=second, pinned=None, status="healthy")
        after.goes_on()
    assert before.versions(shelf.predictions)[-2:] == [second, first]
    assert after.versions(shelf.predictions) == [first, second]


@pytest.mark.slow
def test_admin_routes_need_a_key_and_metric_limits_refuse_worse_models(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "limits", tmp_path)
    first = shelf.good(metrics={"test_r2": 0.8, "test_rmse": 0.5})
    limits = {"MODEL_MIN_R2": "0.7", "MODEL_MAX_RMSE": "0.6", "ADMIN_API_KEY": None}
    with Watched(tmp_path, mlflow_server, shelf.name, **limits) as server, Sender(server.wait_ready()) as sender:
        assert server.reload().status_code == 403
        for metrics, reason in (
            ({"test_r2": 0.6, "test_rmse": 0.5}, "the run's test_r2 is 0.6, and MODEL_MIN_R2 is 0.7"),
            ({"test_r2": 0.8, "test_rmse": 0.7}, "the run's test_rmse is 0.7, and MODEL_MAX_RMSE is 0.6"),
            ({"test_r2": 0.8}, "MODEL_MAX_RMSE is set, and the run has no metric test_rmse or"),
        ):
            worse = shelf.good(metrics=metrics)
            told = server.becomes(last_refresh__outcome="refused", last_refresh__version=worse, version=first)
            sender.goes_on()
            assert reason in told["last_refresh"]["reason"]
        assert server.count("model_refusals_total", role="current", check="metrics") == 3
        better = shelf.good(metrics={"test_r2": 0.9, "test_rmse": 0.4})
        server.becomes(version=better, status="healthy")
        sender.goes_on()
    assert sender.versions(shelf.predictions) == [first, better]


@pytest.mark.slow
def test_a_registry_that_is_not_the_tracking_server_is_served_from(
    mlflow_server: str, private_registry_dir: Path, tmp_path: Path
) -> None:
    registry = f"sqlite:///{private_registry_dir / 'mlflow.db'}"
    shelf = Shelf(mlflow_server, "apart", tmp_path, registry)
    version = shelf.good(metrics={"test_rmse": 0.25})
    with Watched(tmp_path, mlflow_server, shelf.name, MLFLOW_REGISTRY_URI=registry) as server:
        server.becomes(version=version, stale=False, status="healthy")
        with Sender(server) as sender:
            sender.goes_on()
        info = HTTP.get(f"{server.url}/predict/model/info").json()
    assert info["metrics"] == {"test_rmse": 0.25}
    assert sender.versions(shelf.predictions) == [version]


@pytest.mark.slow
def test_a_model_that_mlflow_logged_apart_from_its_run_is_served(
    mlflow_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", mlflow_server)
    shelf, model = Shelf(mlflow_server, "logged", tmp_path), booster(1)
    with mlflows_own_warnings_silenced(), mlflow.start_run():
        log_model(model, name="model", signature=numbers(*NAMES), registered_model_name=shelf.name, pip_requirements=[])
    assert str(shelf.client.get_model_version(shelf.name, "1").source).startswith("models:/m-")
    shelf.point(ALIAS, "1")
    with Watched(tmp_path, mlflow_server, shelf.name) as server, Sender(server.wait_ready()) as sender:
        sender.goes_on()
    assert sender.versions({"1": predicted(model)}) == ["1"]


@pytest.mark.slow
def test_a_canary_answers_its_share_and_a_broken_one_leaves_the_rest_alone(mlflow_server: str, tmp_path: Path) -> None:
    shelf = Shelf(mlflow_server, "canary", tmp_path)
    first, second = shelf.good(), shelf.good(alias=None)
    environ = {
        "MODEL_CANARY_ALIAS": "canary",
        "MODEL_CANARY_PERCENT": "40",
        "MODEL_SHADOW_ALIAS": "shadow",
        "MODEL_SHADOW_PERCENT": "100",
    }
    with Watched(tmp_path, mlflow_server, shelf.name, **environ) as server:
        server.wait_ready()
        with Sender(server) as alone:
            alone.goes_on()
        shelf.point("canary", second)
        shelf.point("shadow", second)
        server.becomes(version=first, canary__version=second, shadow__version=second)
        assert server.metric("model_rollout_info", role="canary", model_version=second) == 1
        with Sender(server) as shared:
            shared.goes_on(200)
        eventually(lambda: server.count("model_shadow_rows_total", outcome="scored") > 0, process=server)
        labels = {"model_version": first, "shadow_version": second}
        assert server.count("model_shadow_difference_count", **labels) > 0
        broken = shelf.publish(shelf.model("no booster"), alias="canary")
        told = server.becomes(canary__last_refresh__outcome="refused", canary__last_refresh__version=broken)
        assert (told["version"], told["last_refresh"]["outcome"]) == (first, "unchanged")
        assert server.count("model_refusals_total", role="canary", check="artifact") == 1
        with Sender(server) as still:
            still.goes_on(200)
        shelf.client.delete_registered_model_alias(shelf.name, "canary")
        server.becomes(canary__version=None, status="healthy")
        assert server.metric("model_rollout_info", role="canary", model_version=second) is None
        with Sender(server) as after:
            after.goes_on()
    assert alone.versions(shelf.predictions) == after.versions(shelf.predictions) == [first]
    for sender in (shared, still):
        assert set(sender.versions(shelf.predictions)) == {first, second}
        share = sum(answer.version == second for answer in sender.answers) / len(sender.answers)
        assert 0.2 < share < 0.6


@pytest.mark.slow
def test_a_link_in_a_model_directory_is_not_followed(private_registry_dir: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{private_registry_dir / 'mlflow.db'}"
    shelf = Shelf(uri, "links", tmp_path)
    outside = tmp_path / "outside.lgb"
    outside.write_text(booster(50).model_to_string())
    good, linked = shelf.model(booster(1).model_to_string()), shelf.model("")
    (linked / "model.lgb").unlink()
    (linked / "model.lgb").symlink_to(outside)

    def publish(directory: Path) -> str:
        version = str(shelf.client.create_model_version(shelf.name, source=directory.as_uri()).version)
        shelf.point(ALIAS, version)
        return version

    first = publish(good)
    with Watched(tmp_path, uri, shelf.name) as server, Sender(server.wait_ready()) as sender:
        bad = publish(linked)
        told = server.becomes(last_refresh__version=bad)
        sender.goes_on()
    assert told["last_refresh"]["outcome"] == "refused"
    assert sender.versions({first: predicted(booster(1))}) == [first]
