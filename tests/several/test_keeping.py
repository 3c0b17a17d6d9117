"""How several models are looked after: one thread, one process that asks the registry, and none in another's way."""

import asyncio
import shutil
import socket
import threading
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from mlflow import MlflowClient

from app.config.settings import Settings
from app.models.disk.pin import Pin
from app.models.process.channel import Channel
from app.models.process.client import WorkerProcess
from app.models.refresh.keeper import ModelKeeper, Turns
from app.models.registry.source import RegistryUnreachable
from tests.models.keeping import Kept, keep
from tests.models.support import Catalogue, SavedModel, mlflows_own_warnings_silenced
from tests.several.conftest import ROW, Fleet
from tests.support import come_true, eventually

ADMIN = {"X-API-Key": "admin"}

on_the_fleets_loop = pytest.mark.asyncio(loop_scope="module")


@on_the_fleets_loop
async def test_each_model_has_its_own_selection_and_canary(fleet: Fleet) -> None:
    client = MlflowClient(fleet.settings.tracking_uri)
    fleet.publish("risk")  # in Production, and this model is chosen from Staging
    refreshed = await fleet.client.post("/health/model/risk/reload", headers=ADMIN)
    assert refreshed.json()["outcome"] == "nothing_to_serve"
    with mlflows_own_warnings_silenced():
        client.transition_model_version_stage("risk", "1", "Staging")
    fleet.saved["risk"], first = fleet.saved["prices"], fleet.saved["risk"]
    fleet.publish("risk", alias="next")
    await fleet.client.post("/health/model/risk/reload", headers=ADMIN)
    slot = fleet.of("risk").slot
    assert (slot.current.identity.version, slot.canary.identity.version) == ("1", "2")
    assert await fleet.predicted("/predict/risk") == fleet.answers["prices"]  # by the canary, which gets all requests
    assert fleet.of("churn").slot.canary is None
    fleet.saved["risk"] = first
    assert (await fleet.client.get("/health/ready")).status_code == 200


@on_the_fleets_loop
async def test_a_refused_version_and_a_pin_concern_their_model_alone(fleet: Fleet, tmp_path: Path) -> None:
    broken = shutil.copytree(fleet.saved["churn"], tmp_path / "broken")
    (broken / "model.lgb").write_text("tree\nnonsense")
    fleet.saved["churn"], good = broken, fleet.saved["churn"]
    version = fleet.publish("churn", alias="champion")
    fleet.saved["churn"] = good
    refused = (await fleet.client.post("/health/model/churn/reload", headers=ADMIN)).json()
    assert (refused["outcome"], refused["version"]) == ("refused", version)
    assert await fleet.predicted("/predict/churn") == fleet.answers["churn"]
    assert (await fleet.client.get("/health/model/prices")).json()["last_refusal"] is None
    for name in ("prices", "churn"):
        order = await fleet.client.post(f"/health/model/{name}/reload", headers=ADMIN, json={"version": "1"})
        assert order.json()["outcome"] == "unchanged"
    assert fleet.of("risk").slot.pinned is None
    for name in ("prices", "churn"):  # the next process finds both
        settings = fleet.of(name).settings
        assert Pin(settings.data_dir / "pin.json", settings.source_uri, name).read() == "1"
        await fleet.client.post(f"/health/model/{name}/reload", headers=ADMIN, json={"version": None})
    assert not (fleet.settings.data_dir / "pin.json").exists()


@on_the_fleets_loop
async def test_while_one_model_loads_the_others_answer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    loading, go_on = threading.Event(), threading.Event()
    refresher = fleet.of("prices").refresher
    look = refresher.look

    def held(**options: bool) -> object:
        loading.set()
        assert go_on.wait(60)
        return look(**options)

    monkeypatch.setattr(refresher, "look", held)
    # The client blocks the thread that it is called in.
    order = asyncio.create_task(
        asyncio.to_thread(lambda: asyncio.run(fleet.client.post("/health/model/prices/reload", headers=ADMIN)))
    )
    await come_true(loading.is_set)
    for path, name in (("/predict", "prices"), ("/predict/prices", "prices"), ("/predict/churn", "churn")):
        assert await fleet.predicted(path) == fleet.answers[name]
    assert (await fleet.client.get("/health/ready")).status_code == 200
    go_on.set()
    assert (await order).json()["outcome"] == "unchanged"


async def test_an_order_waits_for_one_planned_look_and_not_for_all(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    kept, turns = [keep(houses) for _ in range(5)], Turns()
    keepers = [ModelKeeper(one.slot, one.source, one.refresher, 3600, turns=turns) for one in kept]
    done: list[str] = []
    running, go_on = threading.Event(), threading.Event()

    def noted(number: int, one: Kept) -> None:
        look = one.refresher.look

        def look_and_note(**options: bool) -> object:
            if not running.is_set():
                running.set()
                assert go_on.wait(60)
            done.append(f"{'order' if options['retry_refused'] else 'look'} {number}")
            return look(**options)

        one.refresher.look = look_and_note  # type: ignore[method-assign]

    for number, one in enumerate(kept):
        noted(number, one)
    looks = [asyncio.create_task(keeper.refresh()) for keeper in keepers]
    await come_true(running.is_set)
    order = asyncio.create_task(keepers[4].reload())
    await asyncio.sleep(0)  # it takes its place
    go_on.set()
    await asyncio.gather(order, *looks)
    assert done.index("order 4") <= 2
    turns.close()


async def test_planned_looks_go_together(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, "Production")
    kept, turns = [keep(msgspec.structs.replace(houses, model_cache_ttl=1)) for _ in range(2)], Turns()
    first, second = (
        ModelKeeper(one.slot, one.source, one.refresher, ttl, turns=turns)
        for one, ttl in zip(kept, (1, 1), strict=True)
    )
    wished: list[bool] = []
    second.look_soon = lambda: wished.append(True)  # type: ignore[method-assign]
    second.next_look = lambda: 0.05  # type: ignore[method-assign]
    task = asyncio.create_task(first.run())
    await come_true(lambda: wished)
    task.cancel()
    turns.close()


def test_a_registry_that_is_away_keeps_a_round_waiting_once() -> None:
    """The models share one process, and the wait for a registry that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        names = [f"model-{number}" for number in range(20)]
        models = [Settings(mlflow_tracking_uri=url, model_lookup_timeout=1.2, model_name=name) for name in names]
        before, channel = psutil.Process().children(), Channel(models)
        workers = [WorkerProcess(one, channel=channel) for one in models]
        try:
            with pytest.raises(RegistryUnreachable) as first:
                workers[0].look()
            began = time.monotonic()
            for worker in workers[1:]:
                with pytest.raises(RegistryUnreachable) as error:
                    worker.look()
                assert str(error.value) == str(first.value)
            assert time.monotonic() - began < 1.0
            assert len(psutil.Process().children()) <= len(before) + 1
        finally:
            workers[0].close()
        eventually(lambda: len(psutil.Process().children()) <= len(before))


@on_the_fleets_loop
async def test_rows_are_logged_under_the_name_of_their_model(fleet: Fleet) -> None:
    answer = await fleet.client.post("/predict/churn", json=ROW)
    identifier = answer.headers["x-request-id"]
    found: list[dict[str, object]] = []

    async def logged() -> bool:
        listed = await fleet.client.get("/predictions", params={"request_id": identifier}, headers=ADMIN)
        found[:] = listed.json().get("predictions", [])
        return bool(found)

    for _ in range(200):
        if await logged():
            break
        await asyncio.sleep(0.05)
    assert [row["model_name"] for row in found] == ["churn"]
