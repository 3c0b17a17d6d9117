"""Health: what people, orchestrators and the admin are told, with a model and without one."""

import threading
from pathlib import Path
from typing import Any

import httpx
import lightgbm as lgb
import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from app.models.refresh.outcome import Refresh
from app.models.registry.embedded import BUNDLED
from app.models.served import ServedModel
from app.prediction_log.log import PredictionLog
from kernels.cpu.backend import CpuBackend
from kernels.engine import Engine
from tests.kernels.hardware import PREFERRED, Hardware
from tests.routes.support import (
    CHURN_ROW,
    Client,
    Hanging,
    client_of,
    compute_with,
    put,
    register,
    save_churn,
    served_by,
    services_of,
)
from tests.support import come_true, problem
from tests.telemetry.test_gpu import FakeNvml

ADMIN = {"X-API-Key": "admin"}


@pytest.fixture
def client(shared_client: Client) -> Client:
    return shared_client


@pytest.fixture
def no_model(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, model_name="nobody-trained-this")


@pytest.fixture
def admin_settings(settings: Settings, private_registry_dir: Path) -> Settings:
    return msgspec.structs.replace(settings, data_dir=private_registry_dir, admin_api_key="admin")


def accelerated(served: ServedModel, hardware: Hardware) -> ServedModel:
    """The model, computed by this hardware as long as that works."""
    artifact = served.artifact
    backends = [hardware, CpuBackend()]
    engine = Engine(artifact.forest, artifact.plan, artifact.table, artifact.difficulty, backends=backends)
    engine.warm_up(artifact.sample(), PREFERRED)
    return msgspec.structs.replace(served, engine=engine)


def linear_booster() -> lgb.Booster:
    """A booster for the columns of `save_churn` whose leaves are linear functions, which only LightGBM evaluates."""
    random = np.random.default_rng(0)
    rows = np.column_stack([random.integers(0, 60, 200), random.uniform(20, 120, 200), random.integers(0, 2, 200)])
    parameters = {
        "objective": "regression", "linear_tree": True, "num_leaves": 4, "num_threads": 1, "deterministic": True,
        "verbosity": -1,
    }  # fmt: skip
    names = ["tenure", "monthly_charge", "contract"]
    data = lgb.Dataset(rows.astype(np.float64), rows @ [1.0, 0.5, 9.0], feature_name=names, params=parameters)
    return lgb.train(parameters, data, num_boost_round=3)


def answered(response: httpx.Response, status: int = 200) -> Any:
    assert response.status_code == status
    return response.json()


async def reasons(client: Client) -> list[tuple[str, str, str]]:
    """Code, status and sentence of each reason in /health/detailed, whose status is the worst of them."""
    answer = answered(await client.get("/health/detailed"))
    found = [(reason["code"], reason["status"], reason["message"]) for reason in answer["reasons"]]
    assert answer["status"] == max((status for _, status, _ in found), default="healthy")
    return found


async def test_a_service_with_a_model_is_healthy(client: Client) -> None:
    answer = answered(await client.get("/health"))
    assert answer.keys() == {"status", "version", "model_loaded", "problems", "timestamp"}
    assert (answer["status"], answer["model_loaded"], answer["problems"]) == ("healthy", True, [])


async def test_without_a_model_health_is_503_with_a_reason(no_model: Settings) -> None:
    async with client_of(no_model) as client:
        answer = answered(await client.get("/health"), 503)
        assert (answer["status"], answer["model_loaded"]) == ("unhealthy", False)
        assert answer["problems"][0] == "no model is loaded"
        assert "nobody-trained-this" in answer["problems"][1]
        detailed = answered(await client.get("/health/detailed"), 503)
        assert detailed["status"] == "unhealthy"
        codes = [(reason["code"], reason["status"]) for reason in detailed["reasons"]]
        assert codes == [("model_missing", "unhealthy"), ("model_unknown", "degraded")]
        model = answered(await client.get("/health/model"), 503)
        assert (model["status"], model["version"], model["engine"]) == ("unhealthy", None, None)
        assert model["last_refresh"]["outcome"] == "model_unknown"
        assert "nobody-trained-this" in model["last_refresh"]["reason"]


async def test_the_model_page_shows_the_model_and_how_it_was_chosen(client: Client) -> None:
    answer = answered(await client.get("/health/model"))
    served = served_by(client)
    assert answer["status"] == "healthy"
    assert (answer["name"], answer["version"], answer["stage"]) == ("california-housing-model", "1", "Production")
    assert (answer["aliases"], answer["resolved_by"]) == (["champion"], "stage Production")
    assert answer["digest"] == served.artifact.digest
    assert answer["load_seconds"] > 0
    assert answer["not_finite"] == []
    assert answer["engine"]["disabled"] is None
    assert "cpu" in answer["engine"]["backends"]
    assert answer["engine"]["forest"]["evaluator"] == "kernels"
    assert answer["last_refresh"]["outcome"] == "unchanged"
    assert answer["last_refusal"] is None


async def test_the_detailed_page_has_all_other_reports(own_client: Client) -> None:
    answer = answered(await own_client.get("/health/detailed"))
    assert answer["status"] == "healthy"
    assert answer["model"]["version"] == "1"
    assert answer["tasks"].keys() == {
        "model-keeper", "gpu-poller", "disk-poller", "parent-watch", "loop-lag", "drift", "outcomes", "prediction-log",
        "metrics-server",
    }  # fmt: skip
    assert {task["state"] for task in answer["tasks"].values()} == {"running"}
    assert answer["prediction_log"] == {"enabled": True, "queued": 0, "last_error": None}
    assert answer["system"].keys() == answered(await own_client.get("/health/system")).keys()
    assert answer["gpu"].keys() == answered(await own_client.get("/health/gpu")).keys()
    assert answer["reasons"] == []


async def test_the_host_is_reported(client: Client) -> None:
    answer = answered(await client.get("/health/system"))
    assert answer["memory_total_bytes"] >= answer["memory_available_bytes"] > 0
    assert answer["process_memory_bytes"] > 0
    assert len(answer["load_average"]) == 3


async def test_gpus_are_reported(settings: Settings) -> None:
    async with client_of(settings, nvml=FakeNvml()) as client:
        services_of(client).gpu.poll()
        answer = answered(await client.get("/health/gpu"))
        assert (answer["available"], answer["reason"]) == (True, None)
        assert [device["utilization_percent"] for device in answer["devices"]] == [37, None]


async def test_a_machine_without_a_gpu_is_healthy(settings: Settings) -> None:
    nvml = FakeNvml()
    nvml.failure = nvml.NVMLError(9, "Driver Not Loaded")
    async with client_of(settings, nvml=nvml) as client:
        services_of(client).gpu.poll()
        answer = answered(await client.get("/health/gpu"))
        assert (answer["available"], answer["reason"], answer["devices"]) == (False, "Driver Not Loaded", [])
        assert answer["backends"].keys() == {"cpu"}
        assert (answer["disabled"], answer["disabled_reason"]) == (None, None)
        assert answered(await client.get("/health"))["status"] == "healthy"


async def test_the_gpu_page_shows_backends_and_their_costs(client: Client) -> None:
    put(client, accelerated(served_by(client), Hardware()))
    rest = {"largest_chunk": None, "out_of_memory": 0}
    costs = msgspec.json.decode(msgspec.json.encode(PREFERRED))
    assert answered(await client.get("/health/gpu"))["backends"] == {
        "cuda": {"device": "NVIDIA H100", "uuid": "GPU-0", "cost": costs["NVIDIA H100"], **rest},
        "cpu": {"device": CpuBackend().device, "uuid": None, "cost": costs[CpuBackend().device], **rest},
    }


async def test_there_are_no_backends_without_a_model(no_model: Settings) -> None:
    async with client_of(no_model) as client:
        answer = answered(await client.get("/health/gpu"))
        assert (answer["backends"], answer["disabled"], answer["disabled_reason"]) == ({}, None, None)
        assert "compute_backend_" not in (await client.get("/metrics")).text


async def test_a_dead_gpu_fails_no_request_and_is_reported(client: Client, example: dict[str, float]) -> None:
    hardware = Hardware()
    put(client, accelerated(served_by(client), hardware))
    want = answered(await client.post("/predict", json=example))["prediction"]
    assert hardware.calls == 2
    series = 'compute_backend_usable{backend="cuda",device="NVIDIA H100",model_name="california-housing-model"}'
    assert f"{series} 1.0" in (await client.get("/metrics")).text
    assert answered(await client.get("/health"))["status"] == "healthy"
    hardware.fails_after = 2
    assert answered(await client.post("/predict", json=example))["prediction"] == want
    reason = "RuntimeError: an illegal memory access was encountered"
    answer = answered(await client.get("/health"))
    assert (answer["status"], answer["problems"]) == ("degraded", [f"GPU backend is off: {reason}"])
    assert await reasons(client) == [("gpu_off", "degraded", f"GPU backend is off: {reason}")]
    gpu = answered(await client.get("/health/gpu"))
    assert (gpu["disabled"], gpu["disabled_reason"]) == ("cuda", reason)
    assert gpu["backends"].keys() == {"cpu"}
    assert f"{series} 0.0" in (await client.get("/metrics")).text
    assert answered(await client.get("/health/ready"))["status"] == "ready"
    assert hardware.calls == 3


async def test_shutdown_frees_gpu_memory(settings: Settings) -> None:
    hardware = Hardware()
    async with client_of(settings) as client:
        put(client, accelerated(served_by(client), hardware))
        assert hardware.closed == 0
    assert hardware.closed == 1


async def test_running_out_of_gpu_memory_is_counted_and_healthy(client: Client, example: dict[str, float]) -> None:
    hardware = Hardware()
    put(client, accelerated(served_by(client), hardware))
    want = answered(await client.post("/predict", json=example))["prediction"]
    hardware.most_rows = 0
    assert answered(await client.post("/predict", json=example))["prediction"] == want
    assert answered(await client.get("/health"))["status"] == "healthy"
    assert answered(await client.get("/health/gpu"))["backends"]["cuda"]["out_of_memory"] == 1
    assert (
        'compute_backend_out_of_memory_total{backend="cuda",model_name="california-housing-model"} 1.0'
        in (await client.get("/metrics")).text
    )


async def test_health_shows_that_only_lightgbm_evaluates_the_model(
    settings: Settings, private_registry_dir: Path, tmp_path: Path
) -> None:
    booster = linear_booster()
    away = msgspec.structs.replace(settings, data_dir=private_registry_dir, model_name="linear")
    register(away, save_churn(tmp_path / "linear", booster))
    async with client_of(away) as client:
        forest = answered(await client.get("/health/model"))["engine"]["forest"]
        assert forest["evaluator"] == "lightgbm"
        assert "linear" in forest["reason"]
        assert answered(await client.get("/health/gpu"))["backends"].keys() == {"cpu"}
        (want,) = booster.predict(np.array([list(CHURN_ROW.values())], dtype=np.float64))
        assert answered(await client.post("/predict", json=CHURN_ROW))["prediction"] == want


async def test_without_a_model_the_service_is_live_but_not_ready(no_model: Settings) -> None:
    async with client_of(no_model) as client:
        assert answered(await client.get("/health/live")) == {"status": "live", "reason": None}
        assert answered(await client.get("/health/ready"), 503) == {
            "status": "not ready",
            "reason": "no model is loaded",
        }


async def test_readiness_makes_a_prediction_that_is_not_counted(own_client: Client) -> None:
    double = compute_with(own_client)
    assert answered(await own_client.get("/health/ready")) == {"status": "ready", "reason": None}
    (rows,) = double.batches
    np.testing.assert_array_equal(rows, served_by(own_client).artifact.sample())
    assert "predictions_total{" not in (await own_client.get("/metrics")).text


@pytest.mark.parametrize("value", [np.nan, np.inf])
async def test_a_prediction_that_is_not_finite_is_not_ready(client: Client, value: float) -> None:
    compute_with(client, lambda rows: np.full(len(rows), value))
    answer = answered(await client.get("/health/ready"), 503)
    assert answer["reason"] == "the model's prediction is not finite"


async def test_a_prediction_that_hangs_is_not_ready(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routes.readiness.READY_TIMEOUT_S", 0.05)
    with Hanging() as hanging:
        compute_with(client, hanging)
        answer = answered(await client.get("/health/ready"), 503)
        assert answer["reason"] == "no prediction within 0.05 s"
        assert answered(await client.get("/health/live"))["status"] == "live"


async def test_a_prediction_that_fails_is_not_ready(client: Client) -> None:
    def fail(rows: object) -> Any:
        raise RuntimeError("secret of the house")

    compute_with(client, fail)
    response = await client.get("/health/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "not ready"
    assert "secret" not in response.text


async def test_a_crashed_task_degrades_but_answers(own_client: Client) -> None:
    services_of(own_client).tasks.status["gpu-poller"].state = "waiting"
    answer = answered(await own_client.get("/health"))
    assert answer["status"] == "degraded"
    assert answer["problems"] == ["background task gpu-poller crashed and will be restarted"]


async def test_a_failed_refresh_degrades_but_answers(own_client: Client, example: dict[str, float]) -> None:
    services_of(own_client).keeper.last_refresh = Refresh("registry_unreachable", reason="connection refused")
    answer = answered(await own_client.get("/health"))
    assert answer["status"] == "degraded"
    assert answer["problems"] == ["model refresh: registry_unreachable: connection refused"]
    assert await reasons(own_client) == [("model_registry_unreachable", "degraded", answer["problems"][0])]
    assert answered(await own_client.get("/health/model"))["status"] == "degraded"
    assert answered(await own_client.get("/health/ready"))["status"] == "ready"
    assert answered(await own_client.post("/predict", json=example))["model_version"] == "1"


async def test_a_registry_that_has_not_answered_for_three_looks_degrades(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = services_of(client).registry
    for looks, expected in ((2.9, []), (3.1, ["registry_old"])):
        silence = looks * settings.model_cache_ttl
        monkeypatch.setattr(registry, "silence", lambda silence=silence: silence)
        assert [code for code, _, _ in await reasons(client)] == expected
    assert "service_status 1.0" in (await client.get("/metrics")).text


async def test_the_registry_and_the_logs_database_are_reported(own_client: Client, example: dict[str, float]) -> None:
    log: PredictionLog = services_of(own_client).prediction_log
    before = answered(await own_client.get("/health/detailed"))["dependencies"]
    assert (before["registry"]["up"], before["prediction_log"]["up"]) == (True, None)  # nobody had to write
    assert answered(await own_client.post("/predict", json=example))
    assert log.flush()
    answer = answered(await own_client.get("/health/detailed"))
    for reading in answer["dependencies"].values():
        assert reading["up"] is True
        assert 0 <= reading["age_seconds"] < 60
        assert 0 < reading["latency_seconds"] < 60
        assert (reading["unanswered_seconds"], reading["last_error"], reading["detail"]) == (None, None, None)
    assert answer["status"] == "healthy"
    text = (await own_client.get("/metrics")).text
    assert 'dependency_up{dependency="prediction_log"} 1.0' in text
    assert "service_status 0.0" in text


async def test_a_version_of_the_fallback_stage_is_served_and_reported(admin_settings: Settings) -> None:
    settings = msgspec.structs.replace(admin_settings, model_stage="Staging", model_fallback_stage="Production")
    async with client_of(settings) as client:
        answer = answered(await client.get("/health"))
        problems = ["version 1 is served from fallback stage Production, not from stage Staging"]
        assert (answer["status"], answer["problems"]) == ("degraded", problems)
        assert answered(await client.get("/health/model"))["status"] == "degraded"
        assert answered(await client.get("/health/ready"))["status"] == "ready"
        assert "model_alias_missing" not in (await client.get("/metrics")).text


async def test_a_missing_alias_is_reported_and_nothing_else_is_served(admin_settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(admin_settings, model_alias="champoin")) as client:
        reason = (
            "model 'california-housing-model' has no version to serve "
            "(alias champoin: empty; aliases that exist: champion)"
        )
        answer = answered(await client.get("/health"), 503)
        assert answer["problems"] == ["no model is loaded", f"model refresh: nothing_to_serve: {reason}"]
        assert answered(await client.get("/health/ready"), 503)["status"] == "not ready"
        assert 'model_alias_missing{model_name="california-housing-model"} 1.0' in (await client.get("/metrics")).text


async def test_an_unwritable_prediction_log_degrades_but_answers(
    settings: Settings, example: dict[str, float], tmp_path: Path
) -> None:
    away = msgspec.structs.replace(settings, database_url=f"sqlite:///{tmp_path / 'taken'}")
    (tmp_path / "taken").mkdir()
    async with client_of(away) as client:
        log: PredictionLog = services_of(client).prediction_log
        assert answered(await client.post("/predict", json=example))
        assert not log.flush()
        answer = answered(await client.get("/health"))
        assert (answer["status"], answer["problems"]) == ("degraded", ["predictions cannot be logged"])
        assert answered(await client.get("/health/detailed"))["prediction_log"]["queued"] == 1


async def test_reload_is_forbidden_without_an_admin_key_setting(client: Client) -> None:
    response = await client.post("/health/model/reload", headers=ADMIN)
    assert response.status_code == 403
    assert "Set ADMIN_API_KEY" in str(problem(response)["detail"])


async def test_reload_accepts_only_the_admin_key(admin_settings: Settings) -> None:
    async with client_of(msgspec.structs.replace(admin_settings, api_key="caller")) as client:
        for headers in ({}, {"X-API-Key": "caller"}, {"Authorization": "Bearer caller"}):
            response = await client.post("/health/model/reload", headers=headers)
            assert response.status_code == 401
            problem(response)
        assert answered(await client.post("/health/model/reload", headers=ADMIN))["outcome"] == "unchanged"


async def test_reload_loads_a_new_version(admin_settings: Settings, example: dict[str, float]) -> None:
    async with client_of(admin_settings) as client:
        unchanged = answered(await client.post("/health/model/reload", headers=ADMIN))
        assert (unchanged["outcome"], unchanged["version"], unchanged["reason"]) == ("unchanged", "1", None)
        version = register(admin_settings, BUNDLED / "model")
        swapped = answered(await client.post("/health/model/reload", headers={"Authorization": "Bearer admin"}))
        assert (swapped["outcome"], swapped["version"]) == ("swapped", version)
        assert answered(await client.post("/predict", json=example))["model_version"] == version


async def test_reload_pins_and_unpins_a_version(admin_settings: Settings, example: dict[str, float]) -> None:
    async with client_of(admin_settings) as client:
        version = register(admin_settings, BUNDLED / "model")
        assert answered(await client.post("/health/model/reload", headers=ADMIN))["version"] == version
        pinned = answered(await client.post("/health/model/reload", headers=ADMIN, json={"version": "1"}))
        assert (pinned["outcome"], pinned["version"]) == ("swapped", "1")
        health = answered(await client.get("/health/model"))
        assert (health["status"], health["pinned"], health["resolved_by"]) == ("healthy", "1", "pinned to version 1")
        assert answered(await client.post("/health/model/reload", headers=ADMIN))["version"] == "1"
        assert answered(await client.post("/predict", json=example))["model_version"] == "1"
        freed = answered(await client.post("/health/model/reload", headers=ADMIN, json={"version": None}))
        assert (freed["outcome"], freed["version"]) == ("swapped", version)
        assert answered(await client.get("/health/model"))["pinned"] is None


async def test_an_unknown_version_is_404_and_degrades_nothing(admin_settings: Settings) -> None:
    async with client_of(admin_settings) as client:
        for version in ("77", "../1", "1 "):
            response = await client.post("/health/model/reload", headers=ADMIN, json={"version": version})
            assert response.status_code == 404
            assert "has no version" in str(problem(response)["detail"])
        assert answered(await client.get("/health/model"))["status"] == "healthy"


async def test_an_invalid_reload_changes_nothing(admin_settings: Settings) -> None:
    async with client_of(admin_settings) as client:
        for body, status in (
            ("{", 400), ("\xff", 400), ("[" * 5000, 422), ("{}", 422), ('{"version": 3}', 422),
            ('{"version": ""}', 422), ('{"version": "1", "force": true}', 422), ('{"version": ["1"]}', 422),
            ("null", 422), ('"1"', 422), ('{"version": "1", "version": null}', 422),
        ):  # fmt: skip
            response = await client.post("/health/model/reload", headers=ADMIN, content=body.encode("latin-1"))
            assert response.status_code == status, body
            if problem(response)["status"] == 422:
                assert response.json()["errors"][0]["field"] == "version", body
            assert answered(await client.get("/health/model"))["pinned"] is None, body


async def test_a_slow_reload_is_202_and_continues(admin_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    source, gate = ModelWorker(admin_settings), threading.Event()
    async with client_of(
        msgspec.structs.replace(admin_settings, request_timeout=0.05), sources=lambda _: source
    ) as client:
        version = register(admin_settings, BUNDLED / "model")
        look = source.look
        monkeypatch.setattr(source, "look", lambda: (gate.wait(60), look())[1])
        response = await client.post("/health/model/reload", headers=ADMIN)
        assert (response.status_code, response.json()) == (202, {"outcome": "pending"})
        gate.set()
        served = services_of(client).slot
        await come_true(lambda: served.require().identity.version == version)


async def test_a_slow_load_is_a_problem_with_version_and_stage(
    admin_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, gate = ModelWorker(admin_settings), threading.Event()
    async with client_of(
        msgspec.structs.replace(admin_settings, request_timeout=0.05), sources=lambda _: source
    ) as client:
        version, build = register(admin_settings, BUNDLED / "model"), source.build
        monkeypatch.setattr(source, "build", lambda *arguments: (gate.wait(60), build(*arguments))[1])
        assert (await client.post("/health/model/reload", headers=ADMIN)).status_code == 202
        refresher = services_of(client).refresher
        await come_true(lambda: refresher.loading is not None and refresher.loading.stage == "build")
        loading = answered(await client.get("/health/model"))["loading"]
        assert (loading["version"], loading["stage"]) == (version, "build")
        assert 0 <= loading["seconds"] < 60
        assert answered(await client.get("/health"))["status"] == "healthy"
        monkeypatch.setattr("app.routes.reasons.SLOW_STAGE_S", -1.0)
        health = answered(await client.get("/health"))
        assert health["status"] == "degraded"
        assert health["problems"][0].startswith(f"version {version} has been loading (build) for ")
        gate.set()
        served = services_of(client).slot
        await come_true(lambda: served.require().identity.version == version)
        assert answered(await client.get("/health/model"))["loading"] is None


async def test_the_model_page_shows_look_ups_store_and_next_look(
    admin_settings: Settings,
) -> None:
    async with client_of(admin_settings) as client:
        health = answered(await client.get("/health/model"))
        assert health["stale"] is False
        assert 0 <= health["age_seconds"] < 3600
        assert 0 < health["next_look_seconds"] <= 3600
        assert health["look_ups"] == [{"rule": "stage Production", "outcome": "found", "version": "1", "reason": None}]
        assert (health["canary"], health["shadow"]) == (None, None)
        assert health["store"] == {"entries": ["1"], "quarantined": [], "last_error": None}


async def test_the_model_page_shows_every_state_of_a_canary(
    admin_settings: Settings, churn: lgb.Booster, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(admin_settings, model_canary_alias="next", model_canary_percent=20)
    async with client_of(settings) as client:
        canary = answered(await client.get("/health/model"))["canary"]
        assert canary == {
            "alias": "next",
            "percent": 20,
            "version": None,
            "digest": None,
            "not_finite": [],
            "last_refresh": None,
        }
        register(settings, save_churn(tmp_path / "churn", churn), alias="next")
        answered(await client.post("/health/model/reload", headers=ADMIN))
        health = answered(await client.get("/health/model"))
        assert (health["status"], health["canary"]["last_refresh"]["outcome"]) == ("degraded", "refused")
        version = register(settings, BUNDLED / "model", alias="next")
        answered(await client.post("/health/model/reload", headers=ADMIN))
        health = answered(await client.get("/health/model"))
        assert (health["status"], health["canary"]["version"]) == ("healthy", version)


async def test_a_refused_version_leaves_the_old_one_in_use(
    admin_settings: Settings, example: dict[str, float], churn: lgb.Booster, tmp_path: Path
) -> None:
    broken = save_churn(tmp_path / "broken", churn)
    (broken / "model.lgb").write_text("tree\nno trees here\n")
    async with client_of(admin_settings) as client:
        version = register(admin_settings, broken)
        answer = answered(await client.post("/health/model/reload", headers=ADMIN))
        assert (answer["outcome"], answer["version"]) == ("refused", version)
        assert answer["reason"]
        assert answered(await client.post("/predict", json=example))["model_version"] == "1"
        health = answered(await client.get("/health/model"))
        assert (health["status"], health["version"]) == ("degraded", "1")
        assert health["last_refusal"]["version"] == version
