"""Pins in the registry: MODEL_PIN_ALIAS names the pinned version to every service that looks for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from mlflow.exceptions import MlflowException

from app.config.settings import Settings
from app.models.registry.source import RegistryUnreachable
from tests.models.keeping import Kept, keep
from tests.models.support import MODEL, Catalogue, SavedModel, numbers, save_booster, tiny_booster
from tests.models.test_refresher_restart import restarted

PIN = "pinned"


class Fleet:
    """Two keepers with disks of their own, which look into one registry."""

    def __init__(self, houses: Settings, tmp_path: Path) -> None:
        uri = houses.tracking_uri
        self.settings = [
            msgspec.structs.replace(houses, data_dir=tmp_path / name, mlflow_tracking_uri=uri, model_pin_alias=PIN)
            for name in ("a", "b")
        ]
        self.a, self.b = (keep(settings) for settings in self.settings)

    async def look(self) -> None:
        for kept in (self.a, self.b):
            await kept.keeper.refresh()

    def versions(self) -> list[str]:
        return [kept.slot.require().identity.version for kept in (self.a, self.b)]

    def pins(self) -> list[str | None]:
        return [kept.slot.pinned for kept in (self.a, self.b)]


@pytest.fixture
async def one(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> AsyncIterator[Kept]:
    """A service that serves version 2."""
    catalogue.add(saved.directory, "Production")
    catalogue.add(saved.directory, "Production")
    kept = keep(msgspec.structs.replace(houses, model_pin_alias=PIN))
    await kept.keeper.refresh()
    yield kept
    kept.keeper.close()


@pytest.fixture
async def fleet(houses: Settings, catalogue: Catalogue, saved: SavedModel, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet that serves version 2."""
    fleet = Fleet(houses, tmp_path)
    catalogue.add(saved.directory, "Production")
    catalogue.add(saved.directory, "Production")
    await fleet.look()
    assert fleet.versions() == ["2", "2"]
    yield fleet
    for kept in (fleet.a, fleet.b):
        kept.keeper.close()


def alias_of(catalogue: Catalogue) -> str | None:
    found = catalogue.client.get_registered_model(MODEL).aliases.get(PIN)
    return None if found is None else str(found)


async def test_a_pin_reaches_every_service_and_so_does_its_end(fleet: Fleet, catalogue: Catalogue) -> None:
    refresh = await fleet.a.keeper.reload("1")
    assert (refresh.outcome, refresh.version, refresh.reason) == ("swapped", "1", None)
    assert (fleet.versions(), alias_of(catalogue)) == (["1", "2"], "1")
    await fleet.look()
    assert (fleet.versions(), fleet.pins()) == (["1", "1"], ["1", "1"])
    assert fleet.b.slot.require().resolved_by == "pinned to version 1"
    assert [kept.value("model_pinned") for kept in (fleet.a, fleet.b)] == [1, 1]
    # Of two pins the last one holds for both.
    await fleet.b.keeper.reload("2")
    await fleet.a.keeper.refresh()
    assert (fleet.versions(), fleet.pins(), alias_of(catalogue)) == (["2", "2"], ["2", "2"], "2")
    # An alias that is set by hand is a pin.
    catalogue.client.set_registered_model_alias(MODEL, PIN, "1")
    await fleet.look()
    assert (fleet.versions(), fleet.pins()) == (["1", "1"], ["1", "1"])
    assert (await fleet.b.keeper.reload(None)).version == "2"
    assert alias_of(catalogue) is None
    await fleet.a.keeper.refresh()
    assert (fleet.versions(), fleet.pins()) == (["2", "2"], [None, None])


async def test_while_the_registry_is_down_nothing_is_pinned_and_the_known_pin_is_kept(
    one: Kept, houses: Settings
) -> None:
    await one.keeper.reload("1")
    kept = await restarted(msgspec.structs.replace(houses, model_pin_alias=PIN), RegistryUnreachable("down"))
    assert (kept.slot.pinned, kept.slot.require().identity.version) == ("1", "1")
    one.source.failing = RegistryUnreachable("down")
    for order in ("2", None):
        refresh = await one.keeper.reload(order)
        assert refresh.outcome == "registry_unreachable"
        assert refresh.reason == "down; nothing changes until a look finds that MODEL_PIN_ALIAS has moved"
    assert (one.slot.pinned, one.slot.require().identity.version) == ("1", "1")


async def test_a_version_that_is_unknown_or_refused_is_not_pinned(
    one: Kept, catalogue: Catalogue, saved: SavedModel, tmp_path: Path
) -> None:
    assert (await one.keeper.reload("9")).outcome == "version_unknown"
    broken = save_booster(saved.booster, tmp_path / "broken")
    (broken / "model.lgb").write_text("tree\n")
    version = catalogue.add(broken)
    assert (await one.keeper.reload(version)).outcome == "refused"
    assert (alias_of(catalogue), one.slot.pinned) == (None, None)
    # Set by hand all the same, it leaves the old model in service.
    catalogue.client.set_registered_model_alias(MODEL, PIN, version)
    refresh = await one.keeper.refresh()
    assert (refresh.outcome, refresh.version) == ("refused", version)
    assert (one.slot.require().identity.version, one.slot.pinned) == ("2", version)


async def test_a_version_that_was_refused_before_is_tried_again_once_it_is_pinned(
    one: Kept, catalogue: Catalogue, tmp_path: Path
) -> None:
    """Callers of version 2 could not use it, so every service refused it, and remembers that."""
    names = ("income", "rooms", "storeys")
    other = save_booster(
        tiny_booster(feature_name=names), tmp_path / "renamed", signature=numbers(*names), input_example=None
    )
    version = catalogue.add(other, "Production")
    assert (await one.keeper.refresh()).outcome == "refused"
    catalogue.client.set_registered_model_alias(MODEL, PIN, version)
    assert (await one.keeper.refresh()).outcome == "swapped"
    # A version that is deleted takes its alias with it, and so ends the pin.
    catalogue.client.delete_model_version(MODEL, version)
    await one.keeper.refresh()
    assert (one.slot.pinned, alias_of(catalogue)) == (None, None)


async def test_a_registry_that_refuses_the_write_changes_nothing(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "words of the owner"
    forbidden = f"API request to endpoint /x failed with error code 403 != 200. Response body: '{secret}'"
    for text, outcome, said in (
        (forbidden, "pin_not_moved", "the registry does not let this service move the alias 'pinned' (HTTP 403)"),
        (secret, "registry_unreachable", "MlflowException"),
    ):

        def refuse(*_: object, text: str = text) -> None:
            raise MlflowException(text)

        monkeypatch.setattr("mlflow.MlflowClient.set_registered_model_alias", refuse)
        refresh = await one.keeper.reload("1")
        assert refresh.outcome == outcome
        assert refresh.reason == f"{said}; nothing changes until a look finds that MODEL_PIN_ALIAS has moved"
        assert secret in str(refresh.detail)
        assert (one.slot.require().identity.version, one.slot.pinned) == ("2", None)
        assert one.keeper.last_refresh is not refresh


async def test_the_registry_is_believed_more_than_the_file_and_only_if_the_setting_is_set(
    one: Kept, houses: Settings, catalogue: Catalogue
) -> None:
    catalogue.client.set_registered_model_alias(MODEL, "champion", "2")
    before = dict(catalogue.client.get_registered_model(MODEL).aliases)
    local = keep(houses)
    await local.keeper.refresh()
    assert (await local.keeper.reload("1")).serves
    local.keeper.close()
    assert dict(catalogue.client.get_registered_model(MODEL).aliases) == before
    assert (await restarted(houses, None)).slot.pinned == "1"
    after = await restarted(msgspec.structs.replace(houses, model_pin_alias=PIN), None)
    assert (after.slot.pinned, after.slot.require().identity.version) == (None, "2")
    assert (await restarted(houses, None)).slot.pinned is None
