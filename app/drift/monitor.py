"""Drift detection of a service: a tracker for each version that answers, fed with the rows of all routes."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from app.drift.profile import Profile
from app.drift.store import ProfileStore
from app.drift.tracker import Options, Tracker, WatchedModel
from app.drift.window import Added

Array = NDArray[np.float64]

INLINE_VALUES = 16_384
"""Values of a batch that are counted on the event loop at most: 50 µs. Larger ones are for a thread."""

WAITING_BYTES = 256 * 1024 * 1024
"""Bytes of rows that wait for the thread at most, one request not counted. Rows beyond are passed over."""

TICK_S = 2.0
"""Seconds between looks for profiles and the ends of slices."""

log = logging.getLogger(__name__)


class DriftMonitor:
    """Watches the rows that are answered.

    Rows of versions that no longer answer are not counted, and the trackers of such versions are dropped, so that there
    are never more series than those of the models in service.

    Args:
        enabled: Whether rows are counted.
        in_service: Gives the models that answer now.
        options: How rows are watched.
        store: Profiles of models that came without.

    Attributes:
        relay: Takes what a tracker has counted to another process that counts for all; None where none does.
    """

    def __init__(
        self, enabled: bool, in_service: Callable[[], Iterable[WatchedModel]], options: Options, store: ProfileStore
    ) -> None:
        self.enabled = enabled
        self.window = options.window
        self.relay: Callable[[Tracker], None] | None = None
        self._in_service = in_service
        self._options = options
        self._store = store
        self._trackers: dict[tuple[str, str], Tracker] = {}
        self._last: Tracker | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drift")
        self._waiting = 0

    def add_one(self, model: WatchedModel, rows: Array, prediction: float | list[float]) -> None:
        """Note a single row; on the event loop only.

        Args:
            model: The model that answered.
            rows: float64[1, F]; copied.
            prediction: Its prediction.
        """
        if self.enabled:
            tracker = self._last
            if tracker is None or tracker.model is not model:
                tracker = self._tracker(model)
            if tracker is not None:
                tracker.add_one(rows, prediction)

    def add(self, model: WatchedModel, rows: Array, prediction: Array) -> None:
        """Count the rows of a request, in a thread if they are many; on the event loop only.

        Args:
            model: The model that answered.
            rows: float64[B, F].
            prediction: float64[B] or float64[B, K].
        """
        if not self.enabled or not len(rows) or (tracker := self._tracker(model)) is None:
            return
        if rows.size <= INLINE_VALUES or tracker.counts is None:
            tracker.add(rows, prediction)
        elif not self._waiting or self._waiting + rows.nbytes <= WAITING_BYTES:
            self._waiting += rows.nbytes
            counted = asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: tracker.count(rows, prediction, in_thread=True)
            )
            counted.add_done_callback(lambda done: self._counted(done, rows.nbytes))

    def trackers(self) -> list[Tracker]:
        """Trackers of the models in service, with all single rows counted, in the order of `in_service`."""
        found = map(self._tracker, self._in_service())
        trackers = [tracker for tracker in found if tracker is not None]
        for tracker in trackers:
            tracker.flush()
        return trackers

    async def run(self) -> None:
        """Look for profiles and move the windows, for ever."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Follow the models in service: their windows, profiles that have appeared, and those that can be made now."""
        models = tuple(self._in_service())
        for key in set(self._trackers) - {_key(model) for model in models}:
            del self._trackers[key]
            self._store.forget(key[1])
            self._last = None
        for model in models:
            tracker = self._tracker(model)
            if tracker is None:
                continue
            tracker.flush()
            if self.relay is not None:
                self.relay(tracker)
            if tracker.counts is not None:
                tracker.counts.window()  # which begins a new slice if it is time to
            if model.profile is None and (profile := await asyncio.to_thread(self._new_profile, tracker)) is not None:
                tracker.refer_to(profile)
                told = {"model_version": model.version, "source": profile.source, "rows": profile.rows}
                log.info("drift has a reference", extra=told)

    def add_counted(self, version: str, digest: str, counted: Added | tuple[Array, Array]) -> None:
        """Add what another process has counted for a model, if it is in service here."""
        tracker = next((one for one in self.trackers() if _key(one.model) == (version, digest)), None)
        if tracker is None:
            return
        if not isinstance(counted, Added):
            tracker.count(*counted)
        elif tracker.counts is not None:
            tracker.counts.add_counted(counted)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _tracker(self, model: WatchedModel) -> Tracker | None:
        """Tracker of a model, made if it is in service; None if it is not."""
        last = self._last
        if last is not None and last.model is model:
            return last
        tracker = self._trackers.get(_key(model))
        if tracker is None or tracker.model is not model:
            if not any(other is model for other in self._in_service()):
                return tracker
            if tracker is None:  # set by one thread alone, since a scrape may come here too
                tracker = self._trackers.setdefault(_key(model), Tracker(model, self._options))
            else:  # the same files, loaded again
                tracker.model = model
        self._last = tracker
        return tracker

    def _new_profile(self, tracker: Tracker) -> Profile | None:
        """The profile on disk, if it is a new one, or that of the first rows served; None without any."""
        profile = self._store.changed(tracker.model)
        if profile is None and (profile := tracker.served_profile()) is not None:
            self._store.keep(tracker.model.digest, profile)
        return profile

    def _counted(self, done: "asyncio.Future[None]", size: int) -> None:
        self._waiting -= size
        if not done.cancelled() and (error := done.exception()) is not None:
            log.error("rows cannot be counted", exc_info=error)


def _key(model: WatchedModel) -> tuple[str, str]:
    return model.version, model.digest
