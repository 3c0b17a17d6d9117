"""Orders of an operator: look now, pin a version, unpin it."""

import shutil
from pathlib import Path

import msgspec

from app.config.settings import Settings
from app.models.registry.source import RegistryUnreachable
from tests.models.keeping import Kept, keep
from tests.models.support import MODEL, Catalogue, SavedModel, numbers, save_booster, tiny_booster
from tests.models.test_refresher_restart import restarted


async def test_a_pinned_version_stays_until_it_is_unpinned(
    second_in_use: Kept, catalogue: Catalogue, saved: SavedModel
) -> None:
    kept = second_in_use
    refresh = await kept.keeper.reload("1")
    assert (refresh.outcome, refresh.version, refresh.reason) == ("swapped", "1", None)
    assert kept.slot.require().resolved_by == "pinned to version 1"
    assert (kept.slot.pinned, kept.value("model_pinned")) == ("1", 1)
    catalogue.add(saved.directory, "Production")
    for _ in range(2):
        assert (await kept.keeper.refresh()).outcome == "unchanged"
    assert (await kept.keeper.reload()).outcome == "unchanged"
    assert kept.slot.require().identity.version == "1"
    assert (await kept.keeper.reload(None)).outcome == "swapped"
    assert kept.slot.require().identity.version == "3"
    assert (kept.slot.pinned, kept.value("model_pinned")) == (None, 0)


async def test_a_pin_outlives_the_process(second_in_use: Kept, houses: Settings) -> None:
    await second_in_use.keeper.reload("1")
    for failing in (None, RegistryUnreachable("down")):
        after = await restarted(houses, failing)
        assert after.slot.pinned == "1"
        assert after.slot.require().identity.version == "1"
    await second_in_use.keeper.reload(None)
    assert (await restarted(houses, None)).slot.require().identity.version == "2"


async def test_an_unknown_version_changes_nothing(second_in_use: Kept) -> None:
    kept = second_in_use
    before, last = kept.slot.require(), kept.keeper.last_refresh
    refresh = await kept.keeper.reload("9")
    assert (refresh.outcome, refresh.version) == ("version_unknown", "9")
    assert kept.slot.require() is before
    assert kept.slot.pinned is None
    assert kept.keeper.last_refresh is last


async def test_a_refused_version_is_not_pinned(
    second_in_use: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    kept = second_in_use
    broken = save_booster(saved.booster, tmp_path / "broken")
    (broken / "model.lgb").write_text("tree\n")
    version = catalogue.add(broken)
    refresh = await kept.keeper.reload(version)
    assert refresh.outcome == "refused"
    assert refresh.reason
    assert kept.slot.pinned is None
    assert kept.slot.require().identity.version == "2"
    (broken / "model.lgb").write_text(saved.booster.model_to_string())
    assert (await kept.keeper.reload(version)).outcome == "swapped"


async def test_while_the_registry_is_down_a_kept_version_can_be_pinned(second_in_use: Kept) -> None:
    kept = second_in_use
    kept.source.failing = RegistryUnreachable("down")
    assert (await kept.keeper.reload("1")).outcome == "swapped"
    assert (kept.slot.require().identity.version, kept.slot.pinned) == ("1", "1")
    assert (await kept.keeper.reload("1")).outcome == "unchanged"
    missing = await kept.keeper.reload("7")
    assert missing.outcome == "registry_unreachable"
    assert missing.reason == "down; and the version is not kept on disk"
    assert kept.slot.pinned == "1"


async def test_a_pinned_version_that_is_deleted_goes_on_serving(second_in_use: Kept, catalogue: Catalogue) -> None:
    kept = second_in_use
    await kept.keeper.reload("1")
    catalogue.client.delete_model_version(MODEL, "1")
    refresh = await kept.keeper.refresh()
    assert (refresh.outcome, refresh.reason) == ("nothing_to_serve", "pinned version 1 is not in the registry any more")
    assert kept.slot.require().identity.version == "1"


async def test_without_its_pinned_version_a_new_process_serves_another(
    second_in_use: Kept, houses: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    await second_in_use.keeper.reload("1")
    catalogue.client.delete_model_version(MODEL, "1")
    (houses.data_dir / "models").rename(tmp_path / "elsewhere")
    after = await restarted(houses, None)
    assert after.slot.require().identity.version == "2"
    assert after.slot.pinned == "1"


async def test_a_pinned_version_is_served_though_nothing_else_could_be(
    second_in_use: Kept, houses: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    await second_in_use.keeper.reload("1")
    for version in ("1", "2"):
        catalogue.move(version, "Archived")
    assert (await second_in_use.keeper.refresh()).outcome == "unchanged"
    (houses.data_dir / "models").rename(tmp_path / "elsewhere")
    assert (await restarted(houses, None)).slot.require().identity.version == "1"


async def test_a_pin_brings_no_other_version_back_that_was_asked_for_differently(
    second_in_use: Kept, houses: Settings
) -> None:
    await second_in_use.keeper.reload("1")
    (entry,) = (houses.data_dir / "models").glob("*/version-1-*")
    shutil.rmtree(entry)
    other = keep(msgspec.structs.replace(houses, model_alias="blue"))
    other.refresher.start()
    other.keeper.close()
    assert other.slot.current is None


async def test_a_pin_that_cannot_be_written_holds_and_is_reported(second_in_use: Kept, houses: Settings) -> None:
    (houses.data_dir / "pin.json").mkdir()
    refresh = await second_in_use.keeper.reload("1")
    assert refresh.outcome == "swapped"
    assert refresh.reason is not None
    assert "a restart will not know" in refresh.reason
    assert second_in_use.slot.pinned == "1"


async def test_a_version_that_callers_could_not_use_must_be_pinned_to_be_served(
    second_in_use: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    kept = second_in_use
    names = ("income", "rooms", "storeys")
    other = save_booster(
        tiny_booster(feature_name=names), tmp_path / "renamed", signature=numbers(*names), input_example=None
    )
    version = catalogue.add(other, "Production")
    refresh = await kept.keeper.refresh()
    assert refresh.outcome == "refused"
    assert refresh.reason is not None
    assert "callers of version 2 could not use it: it does not take 'age', it requires 'storeys'" in refresh.reason
    assert kept.value("model_refusals_total", role="current", check="interface") == 1
    assert (await kept.keeper.reload(version)).outcome == "swapped"
    assert (await kept.keeper.reload(None)).outcome == "unchanged"
    assert kept.slot.require().identity.version == version
