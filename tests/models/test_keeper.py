"""When the registry is asked: planned looks, and orders of an operator."""

import asyncio
import threading

import msgspec
import pytest

from app.config.settings import Settings
from app.models.refresh.refresher import Refresher
from app.models.registry.source import RegistryUnreachable
from tests.models.keeping import Kept, keep
from tests.models.support import Catalogue, SavedModel
from tests.support import come_true


async def test_orders_given_during_a_look_share_the_next_look(
    second_in_use: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = second_in_use.keeper
    looks = 0
    look = Refresher.look

    def counted(self: Refresher, **options: bool) -> object:
        nonlocal looks
        looks += 1
        return look(self, **options)

    monkeypatch.setattr(Refresher, "look", counted)
    first = asyncio.create_task(keeper.reload())
    await come_true(lambda: looks)
    others = [asyncio.create_task(keeper.reload()) for _ in range(20)]
    await asyncio.gather(first, *others)
    assert looks == 2
    assert len({id(task.result()) for task in others}) == 1


async def test_an_order_goes_on_when_its_caller_has_gone(second_in_use: Kept) -> None:
    caller = asyncio.create_task(second_in_use.keeper.reload("1"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await second_in_use.keeper.reload()).outcome == "unchanged"
    assert second_in_use.slot.require().identity.version == "1"


async def test_the_time_until_the_next_look_is_known(houses: Settings, catalogue: Catalogue, saved: SavedModel) -> None:
    catalogue.add(saved.directory, "Production")
    kept = keep(msgspec.structs.replace(houses, model_cache_ttl=60))
    assert kept.keeper.next_look() is None
    task = asyncio.create_task(kept.keeper.run())
    await come_true(lambda: kept.keeper.next_look() is not None)
    assert 0 < (kept.keeper.next_look() or 0) <= 60
    task.cancel()
    kept.keeper.close()


async def test_services_that_start_together_do_not_look_together_again(
    houses: Settings, catalogue: Catalogue, saved: SavedModel
) -> None:
    catalogue.add(saved.directory, "Production")
    kept = keep(msgspec.structs.replace(houses, model_cache_ttl=3600), clock=lambda: 0.0)  # time stands still
    task = asyncio.create_task(kept.keeper.run())
    pauses: set[float] = set()
    for _ in range(8):
        await come_true(lambda: kept.keeper.next_look() not in (None, *pauses))
        pauses.add(kept.keeper.next_look() or 0)
        kept.keeper.look_soon()
    assert len(pauses) == 8
    assert 3240 <= min(pauses) < max(pauses) <= 3600
    task.cancel()
    kept.keeper.close()


async def test_a_burst_of_wishes_is_one_look_and_one_after_it(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    kept = keep(msgspec.structs.replace(houses, model_cache_ttl=3600))
    looks, begun, go_on = 0, threading.Event(), threading.Event()
    go_on.set()
    look = Refresher.look

    def counted(self: Refresher, **options: bool) -> object:
        nonlocal looks
        looks += 1
        begun.set()
        assert go_on.wait(60)
        return look(self, **options)

    monkeypatch.setattr(Refresher, "look", counted)
    task = asyncio.create_task(kept.keeper.run())
    await come_true(lambda: kept.keeper.next_look() is not None)
    assert looks == 1
    begun.clear()
    go_on.clear()
    for _ in range(20):
        kept.keeper.look_soon()
    await come_true(begun.is_set)
    for _ in range(20):
        kept.keeper.look_soon()
    go_on.set()
    await come_true(lambda: looks == 3 and kept.keeper.next_look() is not None)
    assert (kept.keeper.next_look() or 0) > 3000
    task.cancel()
    kept.keeper.close()


async def test_a_look_that_was_wished_for_and_failed_is_tried_again(
    houses: Settings, catalogue: Catalogue, saved: SavedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue.add(saved.directory, "Production")
    kept = keep(msgspec.structs.replace(houses, model_cache_ttl=3600))
    task = asyncio.create_task(kept.keeper.run())
    await come_true(lambda: kept.keeper.next_look() is not None)
    kept.source.failing = RegistryUnreachable("connection refused")
    kept.keeper.look_soon()
    await come_true(lambda: kept.slot.stale)
    await come_true(lambda: kept.keeper.next_look() is not None)
    assert (kept.keeper.next_look() or 3600) < 60
    task.cancel()
    kept.keeper.close()
