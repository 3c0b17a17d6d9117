"""The model in service follows the registry, and survives every failure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.errors import ModelUnavailable
from app.models.identity import ModelIdentity
from app.models.registry.source import LookUp, RegistryUnreachable
from tests.models.keeping import Kept, keep
from tests.models.support import MODEL, Catalogue, SavedModel, altered, save_booster, tiny_booster
from tests.support import free_port


@pytest.fixture
def broken(saved: SavedModel, tmp_path: Path) -> Path:
    """A model directory whose booster is cut off."""
    directory = altered(saved.directory, tmp_path / "broken")
    (directory / "model.lgb").write_text(saved.booster.model_to_string()[:1000])
    return directory


async def test_the_first_look_puts_a_model_in_service_and_the_second_leaves_it(
    kept: Kept, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production", alias="champion")
    assert kept.keeper.last_refresh is None
    first = await kept.keeper.refresh()
    assert (first.outcome, first.version, first.reason) == ("swapped", "1", None)
    assert kept.keeper.last_refresh is first
    model = kept.slot.require()
    expected = ModelIdentity(name=MODEL, version="1", stage="Production", aliases=("champion",))
    assert msgspec.structs.replace(model.identity, created_at_ms=None) == expected
    assert model.resolved_by == "stage Production"
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))
    second = await kept.keeper.refresh()
    assert (second.outcome, second.version) == ("unchanged", "1")
    assert kept.slot.require() is model
    assert kept.source.fetched == ["1"]


async def test_a_new_version_is_swapped_in_while_the_old_snapshot_predicts(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    other = tiny_booster(rounds=2)
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    old = kept.slot.require()
    catalogue.add(save_booster(other, tmp_path / "other"), "Production")
    refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.version) == ("swapped", "2")
    assert kept.slot.require().identity.version == "2"
    np.testing.assert_array_equal(kept.slot.require().engine.predict(saved.rows), other.predict(saved.rows))
    assert old.identity.version == "1"
    np.testing.assert_array_equal(old.engine.predict(saved.rows), saved.booster.predict(saved.rows))


async def test_a_version_that_is_moved_back_to_is_swapped_in(
    kept: Kept, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    newer = catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.move(newer, "Archived")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert kept.slot.require().identity.version == "1"


async def test_a_changed_stage_or_alias_is_taken_over_without_a_load(
    kept: Kept, catalogue: Catalogue, saved: SavedModel
) -> None:
    version = catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    engine = kept.slot.require().engine
    catalogue.move(version, "Staging")
    catalogue.client.set_registered_model_alias(MODEL, "champion", version)
    assert (await kept.keeper.refresh()).outcome == "unchanged"
    model = kept.slot.require()
    assert (model.identity.stage, model.identity.aliases) == ("Staging", ("champion",))
    assert model.resolved_by == "fallback stage Staging"
    assert model.engine is engine
    assert kept.source.fetched == ["1"]
    assert [labels["model_stage"] for labels in kept.served_versions()] == ["Staging"]


async def test_a_model_registered_anew_under_the_same_number_is_another_model(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    other = tiny_booster(rounds=2)
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.client.delete_registered_model(MODEL)
    catalogue.create()
    assert catalogue.add(save_booster(other, tmp_path / "other"), "Production") == "1"
    await kept.keeper.refresh()
    np.testing.assert_array_equal(kept.slot.require().engine.predict(saved.rows), other.predict(saved.rows))


async def test_a_broken_candidate_is_refused_once_and_the_old_model_stays(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    old = kept.slot.require()
    catalogue.add(broken, "Production")
    for _ in range(3):
        refresh = await kept.keeper.refresh()
        assert (refresh.outcome, refresh.version) == ("refused", "2")
        assert refresh.reason is not None
        assert "tree" in refresh.reason
    assert kept.refresher.last_refusal is not None
    assert kept.refresher.last_refusal.version == "2"
    assert kept.slot.require() is old
    assert kept.source.fetched == ["1", "2"]


async def test_a_refused_candidate_is_looked_at_again_when_that_is_asked_for(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    catalogue.add(broken, "Production")
    await kept.keeper.refresh()
    assert (await kept.keeper.refresh(retry_refused=True)).outcome == "refused"
    assert kept.source.fetched == ["1", "1"]
    (broken / "model.lgb").write_text(saved.booster.model_to_string())
    assert (await kept.keeper.refresh()).outcome == "refused"
    assert (await kept.keeper.refresh(retry_refused=True)).outcome == "swapped"
    assert kept.slot.require().identity.version == "1"


async def test_a_version_after_a_refused_one_is_swapped_in(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    catalogue.add(broken, "Production")
    await kept.keeper.refresh()
    catalogue.add(saved.directory, "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert kept.slot.require().identity.version == "2"
    assert kept.refresher.last_refusal is not None
    assert kept.refresher.last_refusal.version == "1"


async def test_with_nothing_in_service_the_next_version_is_tried(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    catalogue.add(saved.directory, "Staging")
    catalogue.add(broken, "Production")
    refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.version) == ("swapped", "1")
    refused, found = kept.refresher.look_ups
    assert (refused.rule, refused.outcome, refused.version) == ("stage Production", "refused", "2")
    assert refused.reason
    assert found == LookUp("fallback stage Staging", "found", "1")
    assert kept.value("model_lookups_total", rule="stage Production", outcome="refused") == 1
    assert kept.value("model_lookups_total", rule="fallback stage Staging", outcome="found") == 1
    assert kept.value("model_refusals_total", role="current", check="artifact") == 1


async def test_with_a_model_in_service_nothing_less_preferred_takes_its_place(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path, tmp_path: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.move("1", "Archived")
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "experiment"), "Staging")
    catalogue.add(broken, "Production")
    assert (await kept.keeper.refresh()).outcome == "refused"
    assert kept.slot.require().identity.version == "1"


async def test_a_stage_that_changes_does_not_make_a_refused_version_another_one(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    version = catalogue.add(broken, "Production")
    await kept.keeper.refresh()
    catalogue.move(version, "Staging")
    assert (await kept.keeper.refresh()).outcome == "refused"
    assert kept.source.fetched == [version]


async def test_damaged_files_are_refetched_with_backoff(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    seconds = 0.0
    kept = keep(msgspec.structs.replace(houses, model_cache_ttl=10), clock=lambda: seconds)
    catalogue.add(broken, "Production")
    fetches: list[int] = []
    for now in (0, 10, 19, 20, 50, 59, 60, 139, 140):
        seconds = float(now)
        assert (await kept.keeper.refresh()).outcome == "refused"
        fetches.append(len(kept.source.fetched))
    assert fetches == [1, 1, 1, 2, 2, 2, 3, 3, 4]
    (broken / "model.lgb").write_text(saved.booster.model_to_string())
    seconds = 300.0
    assert (await kept.keeper.refresh()).outcome == "swapped"
    kept.keeper.close()


async def test_a_version_that_fails_another_check_is_not_refetched(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    seconds = 0.0
    kept = keep(msgspec.structs.replace(houses, model_min_r2=0.5), clock=lambda: seconds)
    catalogue.add(saved.directory, "Production")
    assert (await kept.keeper.refresh()).outcome == "refused"
    seconds = 1e9
    assert (await kept.keeper.refresh()).outcome == "refused"
    kept.keeper.close()
    assert kept.source.fetched == ["1"]


async def test_a_candidate_that_cannot_be_fetched_is_no_refusal(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    with monkeypatch.context() as patch:
        patch.setattr(kept.source, "fetch", fail_with(RegistryUnreachable("cut off")))
        refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.version, refresh.reason) == ("registry_unreachable", "1", "cut off")
    assert kept.refresher.look_ups == (LookUp("stage Production", "found", "1", "cut off"),)
    assert (await kept.keeper.refresh()).outcome == "swapped"


async def test_an_unforeseen_error_in_a_look_is_reported_without_a_crash(kept: Kept, catalogue: Catalogue) -> None:
    kept.source.failing = ZeroDivisionError()
    refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.reason) == ("failed", "this machine could not ask the registry: ZeroDivisionError")
    assert (await kept.keeper.reload("1")).outcome == "failed"


def fail_with(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


async def test_a_model_that_disappears_from_the_registry_stays_in_service(
    kept: Kept, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.client.delete_registered_model(MODEL)
    refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.reason) == ("model_unknown", "the registry knows no model 'houses'")
    assert kept.slot.require().identity.version == "1"
    assert kept.value("model_status", model_name=MODEL) == 1


async def test_a_registry_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    kept = keep(Settings(mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}", data_dir=tmp_path))
    refresh = await kept.keeper.refresh()
    kept.keeper.close()
    assert refresh.outcome == "registry_unreachable"
    assert refresh.reason
    assert kept.slot.current is None
    with pytest.raises(ModelUnavailable):
        kept.slot.require()


async def test_a_registry_that_cannot_be_reached_at_first_heals(private_registry_dir: Path, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.write_text("a file where the directory should be")
    settings = Settings(data_dir=data_dir)
    kept = keep(settings)
    assert (await kept.keeper.refresh()).outcome == "registry_unreachable"
    data_dir.unlink()
    data_dir.symlink_to(private_registry_dir)
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert (await kept.keeper.refresh()).outcome == "unchanged"
    kept.keeper.close()
    assert kept.slot.require().identity.version == "1"


async def test_metrics_show_the_model_in_service_and_every_look(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, broken: Path
) -> None:
    assert kept.value("model_status", model_name=MODEL) == 0
    assert kept.served_versions() == []
    await kept.keeper.refresh()
    assert kept.value("model_refreshes_total", outcome="nothing_to_serve") == 1
    assert kept.served_versions() == []
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    await kept.keeper.refresh()
    catalogue.add(broken, "Production")
    await kept.keeper.refresh()
    model = kept.slot.require()
    assert kept.value("model_status", model_name=MODEL) == 1
    assert kept.served_versions() == [
        {
            "model_name": MODEL,
            "model_version": "1",
            "model_stage": "Production",
            "run_id": "",
            "digest": model.artifact.digest,
        }
    ]
    assert kept.value("model_load_duration_seconds", model_version="1") == model.load_seconds
    assert model.load_seconds > 0
    looks = {
        outcome: kept.value("model_refreshes_total", outcome=outcome)
        for outcome in ("swapped", "unchanged", "refused", "nothing_to_serve", "registry_unreachable")
    }
    assert looks == {
        "swapped": 1,
        "unchanged": 1,
        "refused": 1,
        "nothing_to_serve": 1,
        "registry_unreachable": None,
    }


async def test_a_load_that_never_happened_has_no_duration(kept: Kept) -> None:
    assert kept.value("model_load_duration_seconds", model_version="1") is None


async def test_the_metrics_of_the_run_come_with_the_model(registry_dir: Path) -> None:
    kept = keep(Settings(data_dir=registry_dir))
    await kept.keeper.refresh()
    kept.keeper.close()
    assert kept.slot.require().metrics["test_rmse"] > 0
