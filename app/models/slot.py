"""The models in service. A request only ever reads the slot, and a swap replaces one reference."""

import time
from collections.abc import Callable
from typing import NamedTuple

from app.errors import ModelUnavailable
from app.models.served import ServedModel
from kernels.engine import EngineStatus


class Freshness(NamedTuple):
    """How much the registry has to do with the model in use.

    Attributes:
        stale: Whether the registry did not answer the last time that it was asked, or was not asked yet.
        pinned: Whether an operator chose it.
        age: Seconds since it last answered; None if it never did.
    """

    stale: bool
    pinned: bool
    age: float | None


class ModelSlot:
    """Holds the snapshots that requests are answered with.

    Args:
        clock: Seconds that never go back; a test passes its own.

    Attributes:
        current: The model in use; None until there is one.
        canary: Answers a share of the requests, where there is one.
        shadow: Scores a share of the rows for comparison, where there is one.
        pinned: The version that an operator asked for, in the place of what the registry prefers.
        stale: Whether the registry's last answer is missing.
        alias_missing: Whether the registry said, when it was last asked, that MODEL_ALIAS names no version; None
            where it did not answer, or none is set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.current: ServedModel | None = None
        self.canary: ServedModel | None = None
        self.shadow: ServedModel | None = None
        self.pinned: str | None = None
        self.stale = True
        self.alias_missing: bool | None = None
        self._clock = clock
        self._answered_at: float | None = None

    def require(self) -> ServedModel:
        """The model in use.

        Raises:
            ModelUnavailable: There is none yet.
        """
        if self.current is None:
            raise ModelUnavailable("No model is loaded yet. /health/model says why.")
        return self.current

    def registry_answered(self, *, answered: bool, alias_missing: bool | None = None) -> None:
        """Note whether the registry answered when it was asked just now, and what it said of the alias."""
        self.stale = not answered
        self.alias_missing = alias_missing
        if answered:
            self._answered_at = self._clock()

    def freshness(self) -> Freshness | None:
        """Of the model in use; None while there is none."""
        if self.current is None:
            return None
        age = None if self._answered_at is None else self._clock() - self._answered_at
        return Freshness(self.stale, self.pinned is not None, age)

    def close(self) -> None:
        """Free what the models hold of devices, when the service ends. What is still asked, the CPU answers."""
        for served in (self.current, self.canary, self.shadow):
            if served is not None:
                served.engine.close()

    def engine_status(self) -> EngineStatus | None:
        """What the model in use computes with; None while there is none."""
        return self.current and self.current.engine.status()
