"""The models of a service with several workers: the leader asks the registry, and the others serve what it does.

The leader tells what it serves by the description of a stored model. The others take the model from the leader's store,
where it is after it has passed every check. A model that cannot be taken leaves the old one in service.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from app.models.disk.entry import StoredModel
from app.models.disk.store import ModelStore
from app.models.loader import ModelLoader
from app.models.refresh.keeper import ModelKeeper
from app.models.refresh.outcome import Refresh
from app.models.refresh.refresher import Refresher
from app.models.served import ServedModel
from app.models.slot import ROLES, ModelSlot, Role
from app.tasks import BackgroundTasks, crashed
from app.workers.link import Link
from app.workers.messages import ModelState, Ping, Serves, State
from app.workers.team import Team

T = TypeVar("T")

PUBLISH_S = 0.1
"""Pause between two looks of the leader at what it serves."""

SIGN_S = 1.0
"""Pause between two signs of another worker, and before it tries again to take a model."""

PATIENCE_S = 10.0
"""Time for a new worker to hear what the leader serves, after which it takes the last stored model; and for a leader to
have a model, after which it says why there is none."""

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """What one registered model has in this worker."""

    name: str
    slot: ModelSlot
    loader: ModelLoader
    refresher: Refresher
    keeper: ModelKeeper


class SharedModels:
    """Tells the other workers what this one serves, if it leads; else serves what the leader does.

    Args:
        team: The workers.
        models: The models.
        tasks: Background tasks of this worker, of which the leader hears when one has crashed.

    Attributes:
        revision: Newest revision that this worker has told of, if it leads.
        changed: Time of that revision, by `time.monotonic`.
    """

    def __init__(self, team: Team, models: Sequence[Kept], tasks: BackgroundTasks) -> None:
        self._tasks = tasks
        self.revision = 0
        self.changed = time.monotonic()
        self._team = team
        self._models = {model.name: model for model in models}
        self._told: list[ModelState] = []
        self._state: State | None = None
        self._served = 0
        self._problems: tuple[str, ...] = ()
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model-follower")
        team.answer(State, self._hear)
        team.on_member(self._welcome)
        for model in models:
            model.keeper.spread = self._spread

    async def run(self) -> None:
        """Tell, or follow, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._give_signs())
            while True:
                if self._team.leads:
                    self._publish()
                    await asyncio.sleep(PUBLISH_S)
                else:
                    await self._catch_up()

    async def may_begin(self) -> None:
        """Wait until this worker can answer: it serves what the leader does, or leads and serves a model.

        Until then the others take the requests, or these wait. After a while a leader begins without a model, to say
        why there is none, and another worker with some of the models. If the leader hangs, the last stored ones are
        served.
        """
        end = time.monotonic() + PATIENCE_S
        while not self._follows():
            await asyncio.sleep(PUBLISH_S)
            if time.monotonic() < end:
                continue
            if self._team.leads or self._has_model():
                return
            if self._state is None:
                log.warning("no worker leads, or it hangs: taking the last stored model")
                for model in self._models.values():
                    await self._in_thread(model.refresher.start)
                return

    def _follows(self) -> bool:
        if self._team.leads:
            return self._has_model()
        return self._has_model() and self._state is not None and self._served == self._state.revision

    def _has_model(self) -> bool:
        return any(model.slot.current is not None for model in self._models.values())

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _publish(self) -> None:
        """Tell what this worker serves, if that has changed."""
        told = [_state_of(model) for model in self._models.values()]
        if told != self._told:
            self._told = told
            self.revision, self.changed = time.monotonic_ns(), time.monotonic()  # grows from leader to leader, too
            self._team.tell_members(State(self.revision, os.getpid(), told))

    def _welcome(self, link: Link) -> None:
        self._publish()
        link.tell(State(self.revision, os.getpid(), self._told))

    async def _spread(self, refresh: Refresh) -> Refresh:
        """The outcome of an order, once all workers serve it, or after a while."""
        if not (refresh.serves or refresh.outcome == "unloaded"):
            return refresh
        self._publish()
        if not (behind := await self._team.spread(self.revision)):
            return refresh
        return msgspec.structs.replace(
            refresh, reason=f"{behind} of {len(self._team.members) + 1} workers does not serve it so far"
        )

    async def _hear(self, state: State) -> None:
        self._state, self._team.leader_pid = state, state.pid
        self._news.set()

    async def _catch_up(self) -> None:
        """Serve the newest state, or try again after a pause."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), SIGN_S)
        self._news.clear()
        state = self._state
        if state is None or (state.revision == self._served and not self._problems):
            return
        problems = await self._in_thread(lambda: self._take(state))
        if problems != self._problems and problems:
            log.warning("what the leader serves cannot be taken", extra={"problems": problems})
        self._problems = problems
        if not problems:
            self._served = state.revision
        self._sign()

    async def _give_signs(self) -> None:
        while True:
            self._sign()
            self._team.end_hanging()
            await asyncio.sleep(SIGN_S)

    def _sign(self) -> None:
        if self._team.leads:
            self._team.tell_members(Ping())
        elif (leader := self._team.leader) is not None:
            leader.tell(Serves(self._served, (*self._problems, *crashed(self._tasks))))

    def _take(self, state: State) -> tuple[str, ...]:
        """Serve a state; what cannot be taken of it."""
        problems: list[str] = []
        for told in state.models:
            if (model := self._models.get(told.name)) is None:
                continue
            for role in ROLES:
                try:
                    _take(model, role, getattr(told, role), unloaded=told.unloaded)
                except Exception as error:
                    # Whatever is wrong with a stored model or with this machine, the old model stays.
                    problems.append(f"{role} model {told.name} cannot be taken: {error}"[:300])
            model.slot.pinned, model.slot.unloaded = told.pinned, told.unloaded
            model.slot.registry_answered(answered=not told.stale, alias_missing=told.alias_missing)
        return tuple(problems)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _state_of(model: Kept) -> ModelState:
    slot = model.slot
    served = {role: _entry(model.loader, slot.get(role)) for role in ROLES}
    return ModelState(
        name=model.name, **served, pinned=slot.pinned, stale=slot.stale, alias_missing=slot.alias_missing,
        unloaded=slot.unloaded,
    )  # fmt: skip


def _entry(loader: ModelLoader, served: ServedModel | None) -> StoredModel | None:
    """Description of a model in service, the same for as long as it is."""
    if served is None:
        return None
    return msgspec.structs.replace(loader.entry(served), stored_at=served.loaded_at)


def stores_of_others(directory: Path, source: str, name: str) -> dict[Role, ModelStore]:
    """Where other workers find the canary and the shadow of a model, which no later start needs.

    Args:
        directory: Directory of all stores.
        source: URI of the registry, or of the model that is served without one.
        name: Name of the model.
    """
    roles: tuple[Role, ...] = ("canary", "shadow")
    return {role: ModelStore(directory, source, f"{name}\0{role}", 1) for role in roles}


def _take(model: Kept, role: Role, entry: StoredModel | None, *, unloaded: bool) -> None:
    """Serve a stored model in a role. A model in service is taken out without another by an operator only."""
    before = model.slot.get(role)
    if entry is None:
        if before is not None and (unloaded or role != "current"):
            model.refresher.swapper.put(role, None)
        return
    same = before is not None and before.identity.is_same_version(entry.identity)
    if before is None or not same or before.artifact.digest != entry.digest:
        model.refresher.swapper.put(role, model.loader.restore(entry, role))
    elif (before.identity, before.resolved_by) != (entry.identity, entry.resolved_by):
        model.refresher.swapper.put(
            role, msgspec.structs.replace(before, identity=entry.identity, resolved_by=entry.resolved_by)
        )
