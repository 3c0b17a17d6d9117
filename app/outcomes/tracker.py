"""Takes outcomes, and computes the error of the model versions in service from the tables.

Every replica that shares the database reads the same rows, so that all tell the same. A pass reads what is new since
the last one; each hour, and when another version comes into service, it reads all. The rows of each version's window
are kept in memory.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from prometheus_client import CollectorRegistry, Counter
from sqlalchemy import exc

from app.feature import Category
from app.models.slot import ModelSlot
from app.outcomes.body import Outcome, Read
from app.outcomes.report import OutcomesReport
from app.outcomes.series import OutcomeSeries
from app.outcomes.store import Fate, Joined, Key, Model, OutcomeStore, Refused, Stopped
from app.outcomes.target import Target, target_of
from app.outcomes.window import Window
from app.prediction_log.sink import fault_of

WAIT = timedelta(hours=1)
"""Time in which the prediction of an outcome must be logged: it may still be in a queue or in the spool. After that the
outcome is unknown, and deleted."""

MOST_WAITING = 100_000
"""Most outcomes that wait; further ones are refused, so that unknown ids fill no disk."""

OVERLAP = timedelta(minutes=1)
"""Outcomes that are read again by the next pass: their transactions may have ended after it, and clocks differ."""

ALL_AGAIN = timedelta(hours=1)
"""Time between passes that read all outcomes."""

RESULTS = ("matched", "waiting", "unknown", "duplicate", "corrected", "refused")

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class OutcomeTracker:
    """Takes outcomes and computes figures; its methods block on the database, and any thread may call them.

    Args:
        store: The tables.
        slots: The models in service, a slot for each name.
        registry: Registry of metrics.
        window_rows: Newest rows of each version that figures are computed from.
        clock: Gives the time, in UTC; a test passes its own.

    Attributes:
        report: The newest report.
    """

    def __init__(
        self, store: OutcomeStore, slots: Sequence[ModelSlot], registry: CollectorRegistry, window_rows: int,
        clock: Callable[[], datetime] = _now,
    ) -> None:  # fmt: skip
        self.report = OutcomesReport(state="starting", window_rows=window_rows)
        self._store = store
        self._slots = slots
        self._rows = window_rows
        self._clock = clock
        self._counts = Counter(
            "outcomes_total",
            "Outcomes by what became of them; one that waited counts again once it has matched or is unknown.",
            ("result",), registry=registry,
        )  # fmt: skip
        for result in RESULTS:
            self._counts.labels(result)
        registry.register(OutcomeSeries(lambda: self.report))
        self._windows: dict[Model, Window] = {}
        self._waiting: dict[Key, datetime] = {}
        self._own: set[Key] = set()  # those that wait, and came to this process, which counts what becomes of them
        self._sharing = threading.Lock()
        self._read_all_at: datetime | None = None
        self._read_at: datetime | None = None

    def add(self, outcomes: list[Read]) -> list[Fate | Refused]:
        """Write outcomes, all of them that are not refused, or none.

        Returns:
            What became of each.

        Raises:
            SQLAlchemyError, OSError: Nothing was written.
        """
        valid = [outcome for outcome in outcomes if isinstance(outcome, Outcome)]
        now, targets = self._clock(), self._targets()
        with self._sharing:
            room = MOST_WAITING - len(self._waiting)
        written = iter(self._store.add(valid, now, lambda model, actual: _judge(targets, model, actual), room))
        fates: list[Fate | Refused] = []
        for outcome in outcomes:
            if not isinstance(outcome, Outcome):
                fates.append(Refused(outcome.field, outcome.message))
                continue
            fates.append(fate := next(written))
            if fate == "waiting":
                with self._sharing:
                    self._waiting[outcome.key] = now
                    self._own.add(outcome.key)
        self._count(fates)
        return fates

    def refresh(self) -> None:
        """Read what is new, and compute the figures again. What fails is told in the report, and tried again later."""
        try:
            self._read()
        except Stopped:
            return
        except (exc.SQLAlchemyError, OSError) as error:
            fault = fault_of(error)
            if self.report.reason != fault:
                log.warning("outcomes cannot be read", extra={"error": fault})
            self._tell("unavailable", fault)
            self._read_all_at = None
        else:
            self._tell("ready", None)

    def stop(self) -> None:
        """End a call of `refresh` soon."""
        self._store.stop()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def _count(self, fates: Iterable[Fate | Refused]) -> None:
        for fate in fates:
            self._counts.labels("refused" if isinstance(fate, Refused) else fate).inc()

    def _targets(self) -> dict[Model, Target]:
        """What the models in service predict, the one that answers first. A shadow's predictions are not logged."""
        served = [one for slot in self._slots for one in (slot.current, slot.canary) if one is not None]
        return {(one.identity.name, one.identity.version): target_of(one) for one in served}

    def _read(self) -> None:
        now, targets, windows = self._clock(), self._targets(), self._windows
        in_service = {model: window.target for model, window in windows.items()}
        since: datetime | None = None
        if in_service == targets and self._read_all_at is not None and now - self._read_all_at < ALL_AGAIN:
            since = None if self._read_at is None else self._read_at - OVERLAP
        if since is None:
            windows = {model: Window(target, self._rows) for model, target in targets.items()}
        for page in self._store.pages(since):
            for joined in page:
                if joined.id is not None:
                    _enter(windows, joined)
                elif len(self._waiting) < MOST_WAITING:
                    with self._sharing:
                        self._waiting.setdefault(joined.key, joined.received_at)
        self._settle(windows, now)
        self._windows, self._read_at = windows, now
        if since is None:
            self._read_all_at = now

    def _settle(self, windows: dict[Model, Window], now: datetime) -> None:
        """Look again for the predictions of outcomes that wait, and forget those that have waited for too long."""
        with self._sharing:
            waiting = dict(self._waiting)
        found: set[Key] = set()
        for joined in self._store.found(waiting):
            found.add(joined.key)
            _enter(windows, joined)
        unknown = {key for key, received in waiting.items() if key not in found and now - received > WAIT}
        if unknown:
            self._counts.labels("unknown").inc(self._store.forget(unknown))
        with self._sharing:
            self._counts.labels("matched").inc(len(found & self._own))
            for key in found | unknown:
                self._waiting.pop(key, None)
                self._own.discard(key)

    def _tell(self, state: str, reason: str | None) -> None:
        versions = tuple(window.performance(model) for model, window in self._windows.items())
        self.report = OutcomesReport(
            state=state,  # pyright: ignore[reportArgumentType]
            reason=reason,
            window_rows=self._rows,
            waiting=len(self._waiting),
            computed_at=self._read_at,
            versions=versions,
        )


def _judge(targets: dict[Model, Target], model: Model, actual: Category) -> Refused | None:
    """Why an actual value cannot be one of a model; None where it can, or the model is not in service any more."""
    target = targets.get(model)
    return None if target is None or target.number(actual) is not None else Refused("actual", target.rule)


def _enter(windows: dict[Model, Window], joined: Joined) -> None:
    if (window := windows.get(joined.model)) is not None:
        window.add(joined)
