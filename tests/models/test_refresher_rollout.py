"""Canary and shadow follow their aliases, and never affect the model in service."""

from pathlib import Path

import msgspec
import pytest

from app.config.settings import Settings
from app.models.served import ServedModel
from tests.models.keeping import Kept, keep
from tests.models.support import MODEL, Catalogue, SavedModel, numbers, save_booster, tiny_booster

ALIASES = {"canary": "next", "shadow": "rival"}


@pytest.fixture(params=ALIASES)
def role(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def kept(houses: Settings) -> Kept:
    """A keeper that looks for a canary and a shadow."""
    return keep(msgspec.structs.replace(houses, model_canary_alias="next", model_shadow_alias="rival"))


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return save_booster(tiny_booster(rounds=2), tmp_path / "other")


def held(kept: Kept, role: str) -> str | None:
    served: ServedModel | None = getattr(kept.slot, role)
    return served and served.identity.version


async def test_canary_and_shadow_come_go_and_follow_their_aliases(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, other: Path, role: str
) -> None:
    catalogue.add(saved.directory, "Production")
    await kept.keeper.refresh()
    assert held(kept, role) is None
    for version in ("2", "3"):
        catalogue.add(other, alias=ALIASES[role])
        assert (await kept.keeper.refresh()).outcome == "unchanged"
        assert held(kept, role) == version
        assert kept.value("model_rollout_info", role=role, model_version=version) == 1
    assert kept.value("model_rollout_info", role=role, model_version="2") is None
    assert kept.value("model_swaps_total", role=role) == 2
    catalogue.client.delete_registered_model_alias(MODEL, ALIASES[role])
    await kept.keeper.refresh()
    assert held(kept, role) is None
    assert kept.value("model_rollout_info", role=role, model_version="3") is None
    assert kept.slot.require().identity.version == "1"
    kept.keeper.close()


async def test_the_model_in_use_is_not_its_own_canary_or_shadow(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, other: Path, role: str
) -> None:
    catalogue.add(saved.directory, "Production")
    promoted = catalogue.add(other, alias=ALIASES[role])
    await kept.keeper.refresh()
    assert held(kept, role) == promoted
    catalogue.move(promoted, "Production")
    assert (await kept.keeper.refresh()).outcome == "swapped"
    assert kept.slot.require().identity.version == promoted
    assert held(kept, role) is None
    kept.keeper.close()


async def test_a_refused_canary_or_shadow_leaves_the_old_one_in_place(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, other: Path, role: str, tmp_path: Path
) -> None:
    catalogue.add(saved.directory, "Production")
    catalogue.add(other, alias=ALIASES[role])
    await kept.keeper.refresh()
    broken = save_booster(saved.booster, tmp_path / "broken")
    (broken / "model.lgb").write_text("tree\n")
    catalogue.add(broken, alias=ALIASES[role])
    for _ in range(2):
        assert (await kept.keeper.refresh()).outcome == "unchanged"
    assert (kept.slot.require().identity.version, held(kept, role)) == ("1", "2")
    assert kept.source.fetched == ["1", "2", "3"]
    assert kept.value("model_refusals_total", role=role, check="artifact") == 1
    assert kept.refresher.rollout[role].outcome == "refused"  # pyright: ignore[reportArgumentType]
    assert kept.value("model_stale") == 0
    kept.keeper.close()


async def test_a_canary_or_shadow_that_callers_could_not_use_is_refused(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, role: str, tmp_path: Path
) -> None:
    names = ("income", "rooms", "storeys")
    catalogue.add(saved.directory, "Production")
    renamed = save_booster(
        tiny_booster(feature_name=names), tmp_path / "renamed", signature=numbers(*names), input_example=None
    )
    catalogue.add(renamed, alias=ALIASES[role])
    await kept.keeper.refresh()
    assert held(kept, role) is None
    assert kept.value("model_refusals_total", role=role, check="interface") == 1
    kept.keeper.close()


async def test_without_a_model_in_service_there_is_no_canary_or_shadow(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, role: str, tmp_path: Path
) -> None:
    broken = save_booster(saved.booster, tmp_path / "broken")
    (broken / "model.lgb").write_text("tree\n")
    catalogue.add(broken, "Production", alias=ALIASES[role])
    await kept.keeper.refresh()
    assert kept.slot.current is None
    assert held(kept, role) is None
    kept.keeper.close()


async def test_a_canary_or_shadow_is_not_stored(
    kept: Kept, catalogue: Catalogue, saved: SavedModel, other: Path, role: str
) -> None:
    catalogue.add(saved.directory, "Production")
    catalogue.add(other, alias=ALIASES[role])
    await kept.keeper.refresh()
    kept.keeper.close()
    assert kept.store.status().entries == ("1",)
