"""What the protocol shares with the native routes: canary, keys, limits, metrics, log, deadlines."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from app.config.settings import Settings
from app.models.served import ServedModel
from app.serving.share import Share
from tests.models.support import NAMES, save_booster, serve, tiny_booster
from tests.protocols.open_inference.support import INFER, MODEL, App, body, error, sample, tensor
from tests.routes.support import Hanging, compute_with, settings_with
from tests.support import come_true

Array = NDArray[np.float64]
VERSIONED = f"/v2/models/{MODEL}/versions/{{}}/infer"
TEMPLATES = ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer")
ROW = body([0.5, -1.0, 3.0], [1, 3])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[ServedModel]:
    """Versions 1 and 2 of a model, which say different things of every row."""
    directory = tmp_path_factory.mktemp("versions")
    made: list[ServedModel] = []
    for version in ("1", "2"):
        target = np.random.default_rng(int(version)).normal(100 * int(version), 1, 50)
        served = serve(save_booster(tiny_booster(target), directory / version))
        identity = msgspec.structs.replace(served.identity, name=MODEL, version=version)
        made.append(msgspec.structs.replace(served, identity=identity))
    return made


@pytest.fixture
def start(app_settings: Settings, tmp_path: Path) -> Callable[..., Any]:
    """Starts an app with settings of its own."""

    @contextmanager
    def start(served: ServedModel, canary: ServedModel | None = None, **changes: Any) -> Iterator[App]:
        given = {"database_url": f"sqlite:///{tmp_path / 'log.db'}"} | changes
        app = App(settings_with(app_settings, **given), served)
        app.slot.canary = canary
        try:
            yield app
        finally:
            app.close()

    return start


def samples(app: App, name: str) -> dict[tuple[str, ...], float]:
    """Samples of a metric by the values of their labels."""
    return {
        tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value
        for family in app.services.metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_the_canary_answers_its_share_and_each_version_its_own_path(
    start: Callable[..., Any], models: list[ServedModel]
) -> None:
    rows = sample(4)
    with start(models[0], models[1], model_canary_percent=40) as app:
        versions: set[str] = set()
        for number in range(30):
            name = str(number)
            answer = app.infer([tensor("x", rows)], headers={"x-request-id": name})
            version = answer.get_response()["model_version"]
            assert version == ("2" if name.encode() in Share(40, b"canary") else "1")
            expected = models[int(version) - 1].engine.predict(rows)
            np.testing.assert_array_equal(answer.as_numpy("prediction")[:, 0], expected)
            versions.add(version)
        assert versions == {"1", "2"}
        for version, served in zip("12", models, strict=True):
            for number in range(5):
                headers = {"x-request-id": str(number)}
                answer = app.infer([tensor("x", rows)], path=VERSIONED.format(version), headers=headers)
                assert answer.get_response()["model_version"] == version
                np.testing.assert_array_equal(answer.as_numpy("prediction")[:, 0], served.engine.predict(rows))
        text = error(app.post(VERSIONED.format("3"), json=ROW), 404)
        assert text == "This version of the model is not in service. In service: 1, 2."
        error(app.post("/v2/models/another/infer", json=ROW), 404)


def test_a_canary_of_another_header_is_chosen_by_it(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(*models, model_canary_percent=50, model_canary_header="X-User") as app:
        for user in ("anna", "bert", "carl", "dora", "emil", "fred"):
            answers = {app.post(json=ROW, headers={"x-user": user}).json()["model_version"] for _ in range(3)}
            assert answers == {"2" if user.encode() in Share(50, b"canary") else "1"}


def test_keys_are_asked_for_before_anything_is_told(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0], api_key="sesame") as app:
        for path in (INFER, VERSIONED.format("1"), "/v2/models/another/infer"):
            response = app.post(path, json=ROW)
            assert error(response, 401) == "This route requires a key, as X-API-Key or as Authorization: Bearer."
            assert response.headers["www-authenticate"] == "Bearer"
            assert error(app.post(path, json=ROW, headers={"x-api-key": "wrong"}), 401) == "The key is not valid."
        for headers in ({"x-api-key": "sesame"}, {"authorization": "Bearer sesame"}):
            assert app.post(json=ROW, headers=headers).status_code == 200
        for path in ("/v2", "/v2/health/ready", f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/stats"):
            assert app.get(path).status_code == 200


def test_requests_count_against_the_limit_of_a_client(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0], rate_limit=2) as app:
        assert app.post(json=ROW).status_code == 200
        assert app.post(VERSIONED.format("1"), json=ROW).headers["ratelimit-remaining"] == "0"
        response = app.post(json=ROW)
        assert error(response, 429).startswith("The client made more requests")
        assert int(response.headers["retry-after"]) <= 60
        assert app.get(f"/v2/models/{MODEL}").status_code == 200


def test_metrics_have_the_template_of_the_route(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0]) as app:
        for count in (1, 3, 200):
            app.infer([tensor("x", sample(count))])
        app.post(VERSIONED.format("1"), json=ROW)
        error(app.post(json={}))
        error(app.post(VERSIONED.format("9"), json=ROW), 404)
        app.get(f"/v2/models/{MODEL}/ready")
        requests = samples(app, "api_requests_total")
        assert requests[TEMPLATES[0], "POST", "200"] == 3
        assert requests[TEMPLATES[0], "POST", "400"] == 1
        assert requests[TEMPLATES[1], "POST", "200"] == requests[TEMPLATES[1], "POST", "404"] == 1
        assert requests["/v2/models/{model}/ready", "GET", "200"] == 1
        assert {endpoint for endpoint, *_ in requests} >= set(TEMPLATES)
        assert not any(MODEL in endpoint for endpoint, *_ in requests)
        assert samples(app, "predictions_total") == {
            (MODEL, "1", "single"): 2, (MODEL, "1", "batch"): 3, (MODEL, "1", "bulk"): 200,
        }  # fmt: skip
        assert samples(app, "errors_total") == {
            (TEMPLATES[0], "invalid_input"): 1, (TEMPLATES[1], "not_found"): 1,
        }  # fmt: skip


def test_rows_are_logged_but_those_of_many(start: Callable[..., Any], models: list[ServedModel]) -> None:
    rows = sample(3)
    with start(models[0]) as app:
        app.infer([tensor("x", rows[:1])], headers={"x-request-id": "one"})
        app.infer([tensor("x", rows)], headers={"x-request-id": "three"})
        app.infer([tensor("x", sample(500))], headers={"x-request-id": "many"})
        log: Any = app.services.prediction_log
        assert log.flush()
        path = app.services.settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        found = database.execute(
            "SELECT request_id, prediction_type, model_version, features, prediction FROM predictions ORDER BY id"
        ).fetchall()
    assert [line[:3] for line in found] == [("one", "single", "1"), *[("three", "batch", "1")] * 3]
    assert msgspec.json.decode(found[1][3]) == dict(zip(NAMES, rows[0].tolist(), strict=True))
    assert [line[4] for line in found[1:]] == models[0].engine.predict(rows).tolist()


def test_a_durable_log_has_the_rows_before_the_answer(
    start: Callable[..., Any], models: list[ServedModel], tmp_path: Path
) -> None:
    with start(models[0], prediction_log="durable", data_dir=tmp_path / "data") as app:
        app.run(come_true(lambda: app.services.prediction_log.started))
        assert app.post(json=ROW).status_code == 200
        assert any(path.stat().st_size for path in (tmp_path / "data" / "prediction-log" / "spool").glob("*.spool"))


def test_a_request_ends_at_its_deadline(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0], request_timeout=0.1) as app, Hanging() as hanging:
        compute_with(app.client, hanging)
        assert error(app.post(json=ROW), 504).startswith("The request")


def test_a_request_is_refused_under_overload(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0], max_rows_in_flight=10) as app, app.services.admission.enter(3) as held:
        held.reserve(9)
        response = app.send([tensor("x", sample(5))])
        assert "MAX_ROWS_IN_FLIGHT" in error(response, 503)
        assert response.headers["retry-after"] == "1"


def test_web_origins_are_allowed(start: Callable[..., Any], models: list[ServedModel]) -> None:
    with start(models[0], cors_origins=("https://a.test",)) as app:
        response = app.post(json=ROW, headers={"origin": "https://a.test"})
        assert response.headers["access-control-allow-origin"] == "https://a.test"


def test_the_name_of_a_model_may_need_quotes(start: Callable[..., Any], models: list[ServedModel]) -> None:
    name = "price of a house, naïve"
    with start(models[0], model_name=name) as app:
        path = f"/v2/models/{quote(name)}"
        assert app.get(path).json()["name"] == name
        assert app.get(f"{path}/ready").json() == {"name": name, "ready": True}
        assert app.post(f"{path}/versions/1/infer", json=ROW).status_code == 200
        assert error(app.post(json=ROW), 404) == f"There is no model of this name; the model served here is {name}."
