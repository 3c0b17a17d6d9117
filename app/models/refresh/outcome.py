"""Outcome of a look into the registry, or of an order to serve a version."""

from datetime import UTC, datetime
from typing import Literal

import msgspec

Outcome = Literal[
    "swapped",
    "unchanged",
    "refused",
    "failed",
    "unloaded",
    "nothing_to_serve",
    "model_unknown",
    "version_unknown",
    "registry_unreachable",
    "registry_schema",
    "place_unreachable",
    "pin_not_moved",
]


class Refresh(msgspec.Struct, frozen=True):
    """A look into the registry, or at one version of it, and its outcome.

    Attributes:
        version: Version that the outcome is about, where it is about one.
        reason: Why the outcome was no success; safe for any caller, since it repeats nothing that a registry said.
        detail: Words of the registry or of a library, for callers with ADMIN_API_KEY only.
        at: End of the look.
    """

    outcome: Outcome
    version: str | None = None
    reason: str | None = None
    detail: str | None = None
    at: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))

    @property
    def serves(self) -> bool:
        """Whether the version is in service."""
        return self.outcome in ("swapped", "unchanged")

    def for_anybody(self) -> "Refresh":
        """Copy without the detail."""
        return msgspec.structs.replace(self, detail=None)


def unloaded(version: str | None = None) -> Refresh:
    """Outcome of a look, or of an order to serve a version, while the model is unloaded."""
    return Refresh("unloaded", version, "an operator has unloaded the model")


def brief(error: BaseException) -> str:
    """Text of an error without paths of this machine."""
    return getattr(error, "strerror", None) or type(error).__name__
