"""Refused versions, and when each of them is fetched again."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from app.models.identity import ModelIdentity
from app.models.refresh.outcome import Refresh
from app.models.refusal import Check
from app.models.slot import Role

MAX_VERSIONS = 1000
"""Refused versions that are remembered."""

DAMAGED: tuple[Check, ...] = ("artifact", "digest")
"""Checks that a model also fails after an unnoticed fault in its download, so that it is fetched again."""

MAX_DOUBLINGS = 10

Key = tuple[Role, str, int | None]


class _Refusal(NamedTuple):
    """A refused version: the last outcome, how often it was refused, and when it is fetched again."""

    refresh: Refresh
    times: int
    retry_at: float


class RefusalBackoff:
    """Remembers refused versions, so that a look does not fetch them again at once.

    Damaged files are fetched again after 2, 4, 8 … times `ttl`, up to 1,024 times; any other refusal stands until
    `clear` or `forget`.

    Args:
        ttl: Seconds between looks while all is well.
        clock: Monotonic seconds; a test passes its own.
    """

    def __init__(self, ttl: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl = ttl
        self._clock = clock
        self._refusals: dict[Key, _Refusal] = {}

    def standing(self, role: Role, identity: ModelIdentity) -> Refresh | None:
        """Outcome of the last refusal of a version; None if the version may be fetched."""
        refusal = self._refusals.get(_key(role, identity))
        return refusal.refresh if refusal is not None and self._clock() < refusal.retry_at else None

    def add(self, role: Role, identity: ModelIdentity, refresh: Refresh, check: Check) -> None:
        """Remember a refusal.

        Args:
            role: Role that the version was refused in.
            identity: The version.
            refresh: Outcome to repeat until the version is fetched again.
            check: Check that it failed.
        """
        if len(self._refusals) >= MAX_VERSIONS:
            self._refusals.clear()
        key = _key(role, identity)
        times = self._refusals[key].times + 1 if key in self._refusals else 1
        pause = self._ttl * 2.0 ** min(times, MAX_DOUBLINGS) if check in DAMAGED else math.inf
        self._refusals[key] = _Refusal(refresh, times, self._clock() + pause)

    def forget(self, role: Role, identity: ModelIdentity) -> None:
        """Let one version be fetched at the next look."""
        self._refusals.pop(_key(role, identity), None)

    def clear(self) -> None:
        """Let every version be fetched at the next look."""
        self._refusals.clear()


def _key(role: Role, identity: ModelIdentity) -> Key:
    """Key of a version in a role, whatever its stage and aliases are at a look."""
    return role, identity.version, identity.created_at_ms
