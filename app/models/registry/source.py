"""The interface of a source of models: its questions, answers and errors."""

from pathlib import Path
from typing import ClassVar, Literal, Protocol

import msgspec

from app.codecs.rules import FloatArray
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity

LookUpOutcome = Literal["found", "empty", "not_ready", "refused"]

STAGES = ("Staging", "Production", "None")
"""Stages that MODEL_FALLBACK_ANY adds after the configured ones, in this order."""

FALLBACK = "fallback stage"
REMAINING = "remaining stage"
"""First words of the selection rules that apply where MODEL_STAGE has no version."""


class RegistryUnreachable(Exception):
    """The registry did not answer, or answered with an error of its own.

    Args:
        reason: Kind of fault; safe for any caller.
        detail: Words of the registry or of a library, such as a body, a host or a path; for the log and the operator.
    """

    outcome: ClassVar[Literal["registry_unreachable", "registry_schema", "place_unreachable", "pin_not_moved"]] = (
        "registry_unreachable"
    )

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.detail = detail


class RegistrySchema(RegistryUnreachable):
    """The registry has another schema than this MLflow, which must not migrate it."""

    outcome = "registry_schema"


class PlaceUnreachable(RegistryUnreachable):
    """The place that MODEL_PATH names did not answer, or could not be read."""

    outcome = "place_unreachable"


class PinNotMoved(RegistryUnreachable):
    """The registry refused to move MODEL_PIN_ALIAS."""

    outcome = "pin_not_moved"


class NothingToServe(Exception):
    """The registry answered, but has no version of the model to serve."""


class ModelUnknown(NothingToServe):
    """The registry answered, but has no such model."""


class VersionUnknown(Exception):
    """The registry answered, but has no such version of the model."""


class Candidate(msgspec.Struct, frozen=True, tag=True):
    """A version that may be served, and the selection rule that it matched."""

    identity: ModelIdentity
    rule: str


class LookUp(msgspec.Struct, frozen=True):
    """A selection rule that was tried, and its outcome.

    Attributes:
        rule: The rule, such as `alias champion` or `stage Production`.
        outcome: `empty` if no version matched, `not_ready` if only versions matched whose upload has not ended.
        version: Version that matched.
        reason: Reason why a version that matched was passed over.
    """

    rule: str
    outcome: LookUpOutcome
    version: str | None = None
    reason: str | None = None


class Offer(msgspec.Struct, frozen=True, tag=True):
    """Result of one look into the registry.

    Attributes:
        candidates: Versions for the model in service, the preferred one first, each version once.
        look_ups: Rules tried, up to the first with a candidate.
        problem: Why there is no candidate; None where there is one.
        alias_missing: Whether MODEL_ALIAS names no version; None where it is unset.
        canary: Version under the alias of the canary, if any.
        shadow: Version under the alias of the shadow, if any.
        pin: Number under MODEL_PIN_ALIAS, None where no version has it; unset where that setting is.
        pinned: The version of that number, if it is there and its upload has ended.
    """

    candidates: tuple[Candidate, ...]
    look_ups: tuple[LookUp, ...]
    problem: str | None = None
    alias_missing: bool | None = None
    canary: Candidate | None = None
    shadow: Candidate | None = None
    pin: str | msgspec.UnsetType | None = msgspec.UNSET
    pinned: Candidate | None = None


class Fetched(msgspec.Struct, frozen=True, tag=True):
    """Files of a version, with what the registry knows about them.

    Attributes:
        directory: Directory with the MLmodel file.
        metrics: Metrics of the training run; None where they cannot be read.
        digest: Digest that the files must have, from the version's tag, if it has one.
    """

    directory: Path
    metrics: dict[str, float] | None
    digest: str | None


class ModelSource(Protocol):
    """A registry or a place of one model, and a reader of its models."""

    def look(self) -> Offer:
        """See `Registry.look`."""
        ...

    def version(self, number: str) -> Candidate:
        """See `Registry.version`."""
        ...

    def move_pin(self, number: str | None) -> None:
        """See `Registry.move_pin`."""
        ...

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`."""
        ...

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        """See `Registry.card`."""
        ...

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `app.models.process.worker.ModelWorker.build`."""
        ...

    def raw_scores(self, booster: Path, rows: FloatArray) -> FloatArray:
        """See `app.models.process.worker.ModelWorker.raw_scores`."""
        ...

    def close(self) -> None:
        """End a call under way."""
        ...
