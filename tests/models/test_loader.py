"""Loading a version: measured costs, the machine's own faults, and what is freed afterwards."""

import logging
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.models.artifact import read_artifact
from app.models.disk.batch_costs import BatchCosts
from app.models.refusal import ModelRefused
from kernels.cost import Cost
from kernels.engine import Engine
from tests.models.colors import trained_on
from tests.models.keeping import Kept, keep
from tests.models.support import Catalogue, SavedModel, save_booster, tiny_booster


async def test_a_full_machine_refuses_no_model(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    first = await kept.keeper.refresh()
    assert (first.outcome, first.reason) == ("failed", "this machine could not load it: No such file or directory")
    assert kept.refresher.last_refusal is None
    monkeypatch.undo()
    assert (await kept.keeper.refresh()).outcome == "swapped"


async def test_batch_costs_are_measured_once_and_survive_a_restart(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    assert kept.slot.engine_status() is None
    await kept.keeper.refresh()
    costs = kept.slot.require().engine.costs()
    assert costs
    assert kept.batch_costs.costs(read_artifact(saved.directory).digest) == costs
    monkeypatch.setattr("kernels.dispatch.measure", lambda *_: pytest.fail("measured again"))
    restarted = keep(houses)
    await restarted.keeper.refresh()
    restarted.keeper.close()
    assert restarted.slot.require().engine.costs() == costs
    assert restarted.slot.engine_status() == restarted.slot.require().engine.status()


async def test_another_model_is_measured_for_itself(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    other = save_booster(tiny_booster(rounds=2), tmp_path / "other")
    catalogue.add(other, "Production")
    monkeypatch.setattr("kernels.dispatch.measure", lambda predictors, _: (Cost((512,), (1.25,)),) * len(predictors))
    await kept.keeper.refresh()
    assert kept.slot.require().engine.cost(2) == 1.25
    assert set(kept.batch_costs.costs(read_artifact(other).digest).values()) == {Cost((512,), (1.25,))}


async def test_the_engine_of_a_replaced_or_refused_model_is_freed(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines: list[weakref.ref[Engine]] = []
    warm_up = Engine.warm_up

    def noted(engine: Engine, *arguments: Any) -> None:
        engines.append(weakref.ref(engine))
        warm_up(engine, *arguments)

    def refuse(*_: object) -> None:
        raise ModelRefused("for the test")

    monkeypatch.setattr(Engine, "warm_up", noted)
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "other"), "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    monkeypatch.setattr("app.models.loader.check_predictions", refuse)
    catalogue.add(save_booster(tiny_booster(rounds=3), tmp_path / "refused"), "Production")
    assert (await kept.keeper.refresh()).outcome == "refused"
    assert [engine() for engine in engines] == [None, kept.slot.require().engine, None]


async def test_costs_are_read_measured_and_kept_beside_the_event_loop(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    threads: list[str] = []

    def noted(original: Callable[..., Any], *arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return original(*arguments)

    for owner, name in ((BatchCosts, "costs"), (BatchCosts, "store"), (Engine, "warm_up")):
        original = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments, original=original: noted(original, *arguments))
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert len(threads) == 3
    assert all(name.startswith("model-keeper") for name in threads)


async def test_batch_costs_that_cannot_be_kept_refuse_no_model(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    (houses.data_dir / "calibrations.json").mkdir()
    catalogue.add(saved.directory, "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert kept.slot.require().engine.cost(1) < np.inf


async def test_every_stage_of_a_load_is_logged_as_it_begins(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.models.loader")
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    assert [record.message for record in caplog.records if record.name == "app.models.loader"] == [
        *("fetching model", "loading model", "checking model", "warming model up", "keeping model")
    ]
    assert kept.refresher.loading is None


async def test_a_model_knows_the_checks_that_it_has_passed(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    always = ("artifact", "agreement", "kernels", "prediction")
    assert kept.slot.require().checks == always  # no digest is known of it, and no model was in service before
    catalogue.add(save_booster(tiny_booster(rounds=2, linear_tree=True), tmp_path / "linear"), "Production")
    await kept.keeper.refresh()
    assert kept.slot.require().checks == ("artifact", "agreement", "interface", "prediction")
    restarted = keep(houses)
    restarted.refresher.start()
    restarted.keeper.close()
    assert restarted.slot.require().checks == ("digest", "artifact", "agreement", "prediction")


async def test_the_digest_of_the_registry_and_limits_of_metrics_are_checks(registry_dir: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=registry_dir, model_min_r2=0.1)
    kept = keep(msgspec.structs.replace(settings, data_dir=tmp_path, mlflow_tracking_uri=settings.tracking_uri))
    await kept.keeper.refresh()
    kept.keeper.close()
    assert kept.slot.require().checks == ("digest", "artifact", "agreement", "metrics", "kernels", "prediction")


async def test_a_restored_model_refuses_unseen_values_as_set(
    houses: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    catalogue.add(trained_on(tmp_path / "model").directory, "Production")
    for unseen in ("missing", "refuse", "missing"):
        kept = keep(msgspec.structs.replace(houses, model_unseen_categories=unseen))
        await kept.keeper.refresh()
        kept.keeper.close()
        features = kept.slot.require().artifact.features
        assert {feature.unseen for feature in features if feature.kind == "category"} == {unseen}
        assert {feature.unseen for feature in features if feature.kind != "category"} == {"missing"}
