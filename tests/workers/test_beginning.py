"""When a new worker begins to take requests."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from app.models.slot import ModelSlot
from app.workers.following import Kept, SharedModels
from app.workers.messages import State


async def test_a_worker_begins_once_it_serves_what_the_leader_does() -> None:
    heard: dict[Any, Any] = {}
    team = SimpleNamespace(
        leads=False, leader=None, leader_pid=None, answer=heard.__setitem__, on_member=lambda _: None,
        end_hanging=lambda: None,
    )  # fmt: skip
    slot = ModelSlot()
    slot.current = cast(Any, SimpleNamespace())  # one of its models, and not yet the others
    kept = cast(Kept, SimpleNamespace(name="house", slot=slot, keeper=SimpleNamespace()))
    tasks = cast(Any, SimpleNamespace(status={}))
    models = SharedModels(cast(Any, team), [kept], tasks)
    beginning = asyncio.create_task(models.may_begin())
    await heard[State](State(7, 1, []))
    await asyncio.sleep(0.3)
    assert not beginning.done()
    following = asyncio.create_task(models.run())
    await asyncio.wait_for(beginning, 5)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    models.close()
