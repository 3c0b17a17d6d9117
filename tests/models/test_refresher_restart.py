"""The last known good model serves after a restart, whatever the registry does."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.config.settings import Settings
from app.models.registry.source import LookUp, RegistryUnreachable
from kernels.engine import Engine
from tests.models.keeping import Kept, keep
from tests.models.support import MODEL, Catalogue, SavedModel, save_booster, tiny_booster
from tests.support import come_true

DOWN = RegistryUnreachable("nobody answers")


async def started(kept: Kept, until: Callable[[], object]) -> None:
    """Run a keeper's task until something holds."""
    task = asyncio.create_task(kept.keeper.run())
    await come_true(until)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def restarted(settings: Settings, failing: Exception | None = DOWN) -> Kept:
    """A keeper of the next process, after its first look."""
    kept = keep(settings)
    kept.source.failing = failing
    await started(kept, lambda: kept.keeper.last_refresh)
    kept.keeper.close()
    return kept


async def test_the_last_model_serves_and_is_stale_while_the_registry_is_down(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production", alias="champion")
    await kept.keeper.refresh()
    assert kept.value("model_stale") == 0
    before = kept.slot.require()
    after = await restarted(houses)
    model = after.slot.require()
    assert (model.identity, model.resolved_by) == (before.identity, before.resolved_by)
    assert model.artifact.digest == before.artifact.digest
    assert model.artifact.example == before.artifact.example
    np.testing.assert_array_equal(model.engine.predict(saved.rows), saved.booster.predict(saved.rows))
    assert after.source.fetched == []
    assert after.keeper.last_refresh is not None
    assert after.keeper.last_refresh.outcome == "registry_unreachable"
    assert after.value("model_status", model_name=MODEL) == 1
    assert after.value("model_stale") == 1
    assert after.value("model_age_seconds") is None


async def test_a_returning_registry_confirms_the_model_without_a_fetch(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    after = keep(houses)
    after.source.failing = DOWN
    await started(after, lambda: after.keeper.last_refresh)
    served = after.slot.require()
    after.source.failing = None
    assert (await after.keeper.refresh()).outcome == "unchanged"
    after.keeper.close()
    assert after.slot.require() is served
    assert after.source.fetched == []
    assert after.value("model_stale") == 0
    assert after.value("model_age_seconds") is not None


async def test_a_stored_model_serves_before_the_registry_is_asked(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    after = keep(houses)
    seen: list[str | None] = []
    look = after.source.look
    monkeypatch.setattr(
        after.source,
        "look",
        lambda: (seen.append(after.slot.current and after.slot.current.identity.version), look())[1],
    )
    await started(after, lambda: after.keeper.last_refresh)
    after.keeper.close()
    assert seen == ["1"]


async def test_a_stored_model_is_replaced_by_the_version_preferred_now(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "other"), "Production")
    after = await restarted(houses, failing=None)
    assert after.slot.require().identity.version == "2"


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({"model_alias": "blue"}, "2"),
        ({"model_alias": "green"}, None),
        ({"model_stage": "Staging", "model_fallback_stage": "Production"}, "2"),
        ({"model_stage": "Staging"}, None),
        ({"model_stage": "Staging", "model_fallback_any": True}, "2"),
    ],
    ids=str,
)
async def test_a_stored_version_of_another_alias_or_stage_is_not_served(
    change: dict[str, Any], version: str | None, kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    for alias in ("red", "blue"):
        catalogue.add(saved.directory, "Production", alias=alias)
        await kept.keeper.refresh()
    assert kept.store.status().entries == ("2", "1")
    after = await restarted(msgspec.structs.replace(houses, **change))
    served = after.slot.current
    assert (served and served.identity.version) == version


async def test_a_missing_alias_keeps_the_last_known_good_across_a_restart(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    settings = msgspec.structs.replace(houses, model_alias="champion")
    kept = keep(settings)
    assert kept.value("model_alias_missing") is None
    catalogue.add(saved.directory, alias="champion")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert kept.value("model_alias_missing") == 0
    catalogue.add(saved.directory, "Production", alias="green")
    catalogue.client.delete_registered_model_alias(MODEL, "champion")
    await kept.keeper.refresh()
    for after in (kept, await restarted(settings, failing=None)):
        refresh = after.keeper.last_refresh
        assert refresh is not None
        assert refresh.outcome == "nothing_to_serve"
        assert "alias champion: empty; aliases that exist: green" in str(refresh.reason)
        assert after.refresher.look_ups == (LookUp("alias champion", "empty"),)
        assert after.slot.require().identity.version == "1"
        assert (after.value("model_alias_missing"), after.value("model_stale")) == (1, 0)
    kept.source.failing = DOWN
    await kept.keeper.refresh()
    assert kept.value("model_alias_missing") is None  # it cannot be known
    kept.keeper.close()


async def test_a_missing_alias_without_a_stored_model_serves_nothing(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production", alias="champion")
    await kept.keeper.refresh()
    after = await restarted(msgspec.structs.replace(houses, model_alias="champoin"), failing=None)
    assert after.slot.current is None
    assert after.value("model_alias_missing") == 1


async def test_a_new_alias_of_the_model_in_service_survives_a_restart(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    version = catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.client.set_registered_model_alias(MODEL, "blue", version)
    assert (await kept.keeper.refresh()).outcome == "unchanged"
    assert kept.source.fetched == ["1"]
    after = await restarted(msgspec.structs.replace(houses, model_alias="blue"))
    assert after.slot.require().identity.aliases == ("blue",)


async def test_stored_versions_selected_by_todays_settings_come_first(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.add(saved.directory, "Staging", alias="next")
    trial = keep(msgspec.structs.replace(houses, model_alias="next"))
    await trial.keeper.refresh()
    trial.keeper.close()
    assert trial.store.status().entries == ("2", "1")
    assert (await restarted(houses)).slot.require().identity.version == "1"


@pytest.mark.parametrize(
    "change", [{"model_name": "others"}, {"mlflow_tracking_uri": "http://127.0.0.1:9"}], ids=["model", "registry"]
)
async def test_a_stored_model_of_another_name_or_registry_is_never_served(
    change: dict[str, str], kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    after = await restarted(msgspec.structs.replace(houses, **change))
    assert after.slot.current is None


def damage(houses: Settings, version: str) -> Path:
    """Flip one byte of a stored model."""
    (path,) = (houses.data_dir / "models").glob(f"*/version-{version}-*/model/model.lgb")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


async def test_a_damaged_entry_is_named_and_the_one_before_it_served(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "other"), "Production")
    await kept.keeper.refresh()
    path = damage(houses, "2")
    after = await restarted(houses)
    assert after.slot.require().identity.version == "1"
    (told,) = after.store.status().quarantined
    assert "version-2" in told
    assert "model.lgb" in told
    assert not path.exists()


async def test_with_every_entry_damaged_the_registry_heals_it(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    damage(houses, "1")
    after = keep(houses)
    after.source.failing = DOWN
    await started(after, lambda: after.keeper.last_refresh)
    assert after.slot.current is None
    after.source.failing = None
    assert (await after.keeper.refresh()).outcome == "swapped"
    after.keeper.close()
    assert (await restarted(houses)).slot.require().identity.version == "1"


async def test_only_the_newest_versions_are_kept(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    kept = keep(msgspec.structs.replace(houses, model_store_versions=2))
    for _ in range(3):
        catalogue.add(saved.directory, "Production")
        await kept.keeper.refresh()
    kept.keeper.close()
    assert kept.store.status().entries == ("3", "2")


async def test_changed_kernels_are_compared_with_lightgbm_again(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    asked: list[int] = []
    after = keep(houses)
    after.source.failing = DOWN
    scores = after.source.raw_scores
    monkeypatch.setattr(after.source, "raw_scores", lambda path, rows: (asked.append(len(rows)), scores(path, rows))[1])
    await started(after, lambda: after.keeper.last_refresh)
    assert asked == []
    monkeypatch.setattr("app.models.loader.kernels_version", lambda: "other kernels")
    after = keep(houses)
    after.source.failing = DOWN
    monkeypatch.setattr(after.source, "raw_scores", lambda path, rows: (asked.append(len(rows)), scores(path, rows))[1])
    await started(after, lambda: after.keeper.last_refresh)
    after.keeper.close()
    assert len(asked) == 1
    assert after.slot.require().identity.version == "1"


async def test_a_stored_model_that_fails_a_limit_set_since_is_not_served(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    after = await restarted(msgspec.structs.replace(houses, model_min_r2=0.5))
    assert after.slot.current is None


async def test_a_stored_model_that_cannot_be_loaded_is_passed_over(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "warm_up", fail)
    after = await restarted(houses)
    assert after.slot.current is None
    assert after.keeper.last_refresh is not None
    assert after.keeper.last_refresh.outcome == "registry_unreachable"


async def test_nothing_is_stored_of_a_refused_model(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    broken = save_booster(saved.booster, tmp_path / "broken")
    (broken / "model.lgb").write_text(saved.booster.model_to_string()[:1000])
    catalogue.add(broken, "Production")
    await kept.keeper.refresh()
    assert kept.store.status().entries == ()


async def test_a_store_that_cannot_be_written_costs_no_model(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    (houses.data_dir / "models").write_text("a file where the directory should be")
    kept = keep(houses)
    catalogue.add(saved.directory, "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    kept.keeper.close()
    assert kept.store.status().last_error


async def test_no_address_of_the_registry_reaches_the_disk(
    kept: Kept, houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    (entry,) = (houses.data_dir / "models").glob("*/version-1-*/entry.json")
    assert houses.registry_uri not in entry.read_text()
    assert json.loads(entry.read_bytes())["entry"]["identity"]["version"] == "1"


async def test_a_clock_that_jumps_back_changes_nothing(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = 100.0
    kept = keep(houses, clock=lambda: seconds)
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() - 1e9)
    seconds += 7
    assert kept.value("model_age_seconds") == 7
    catalogue.add(save_booster(tiny_booster(rounds=2), tmp_path / "other"), "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    kept.keeper.close()
    assert kept.value("model_age_seconds") == 0
    assert kept.store.status().entries == ("2", "1")
    assert (await restarted(houses)).slot.require().identity.version == "2"


async def test_a_model_is_stored_later_when_the_disk_has_room_again(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    place = houses.data_dir / "models"
    place.write_text("a file where the directory should be")
    kept = keep(houses)
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    assert kept.store.status().last_error
    assert (await kept.keeper.refresh()).outcome == "unchanged"
    assert kept.store.status().last_error
    place.unlink()
    assert (await kept.keeper.refresh()).outcome == "unchanged"
    kept.keeper.close()
    assert kept.store.status().last_error is None
    assert (await restarted(houses)).slot.require().identity.version == "1"
