"""The models in service: a request reads the slot, and a swap replaces one reference."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from app.drift.tracker import WatchedModel
from app.errors import ModelUnavailable
from app.models.served import ServedModel
from kernels.engine import EngineStatus

Role = Literal["current", "canary", "shadow"]
ROLES: tuple[Role, ...] = get_args(Role)


class Freshness(NamedTuple):
    """Whether the model in service is known to be the one that the registry prefers.

    Attributes:
        unloaded: Whether an operator has unloaded the model, so that no version comes into service.
        stale: Whether the registry failed to answer the last look, or was not asked yet.
        pinned: Whether an operator chose the model.
        age: Seconds since the registry last answered; None if it never did.
    """

    stale: bool
    pinned: bool
    age: float | None


class ModelSlot:
    """The snapshots that requests to one model are answered with.

    Args:
        clock: Monotonic seconds; a test passes its own.
        reported_at: Path of the report on the model.

    Attributes:
        current: The model in service; None until there is one.
        canary: Answers a share of the requests, where there is one.
        shadow: Scores a share of the rows for comparison, where there is one.
        pinned: The version that an operator asked for, instead of the one that the registry prefers.
        stale: Whether the registry failed to answer the last look, or was not asked yet.
        alias_missing: Whether MODEL_ALIAS names no version, as of the last look; None where the registry did not
            answer, or no alias is set.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, reported_at: str = "/health/model") -> None:
        self._reported_at = reported_at
        self.current: ServedModel | None = None
        self.canary: ServedModel | None = None
        self.shadow: ServedModel | None = None
        self.pinned: str | None = None
        self.unloaded = False
        self.stale = True
        self.alias_missing: bool | None = None
        self._clock = clock
        self._answered_at: float | None = None

    def get(self, role: Role) -> ServedModel | None:
        """The model in a role; None while there is none."""
        return {"current": self.current, "canary": self.canary, "shadow": self.shadow}[role]

    def put(self, role: Role, model: ServedModel | None) -> None:
        """Put a model in a role, or take it out with None. Requests under way keep the snapshot that they took."""
        match role:
            case "current":
                self.current = model
            case "canary":
                self.canary = model
            case "shadow":
                self.shadow = model

    def answering(self) -> tuple[WatchedModel, ...]:
        """The models that answer requests, for drift detection."""
        return tuple(served.watched for served in (self.current, self.canary) if served is not None)

    def require(self) -> ServedModel:
        """The model in service.

        Raises:
            ModelUnavailable: There is none yet.
        """
        if self.current is None:
            is_missing = f"No model is loaded yet. {self._reported_at} says why."
            raise ModelUnavailable("The model is unloaded." if self.unloaded else is_missing)
        return self.current

    def registry_answered(self, *, answered: bool, alias_missing: bool | None = None) -> None:
        """Note whether the registry answered the look that just ended, and what it said of the alias."""
        self.stale = not answered
        self.alias_missing = alias_missing
        if answered:
            self._answered_at = self._clock()

    def freshness(self) -> Freshness | None:
        """Freshness of the model in service; None while there is none."""
        if self.current is None:
            return None
        age = None if self._answered_at is None else self._clock() - self._answered_at
        return Freshness(self.stale, self.pinned is not None, age)

    def engine_status(self) -> EngineStatus | None:
        """Compute backends of the model in service; None while there is none."""
        return self.current and self.current.engine.status()

    def close(self) -> None:
        """Free device memory of all models when the service ends. Requests under way are answered by the CPU."""
        for served in (self.current, self.canary, self.shadow):
            if served is not None:
                served.engine.close()
