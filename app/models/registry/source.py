"""Where a keeper gets its models from: what it can ask, what it is told, and what can go wrong."""

from pathlib import Path
from typing import ClassVar, Literal, Protocol

import msgspec

from app.codecs.rules import FloatArray
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity

LookUpOutcome = Literal["found", "empty", "not_ready", "refused"]

STAGES = ("Staging", "Production", "None")
"""Stages that are looked in after the configured ones with MODEL_FALLBACK_ANY, in this order."""

FALLBACK = "fallback stage"
REMAINING = "remaining stage"
"""How the rules begin that choose a version where MODEL_STAGE has none."""


class RegistryUnreachable(Exception):
    """The registry did not answer, or answered with an error of its own.

    Args:
        reason: What went wrong, by its kind alone: anybody may read it.
        detail: What the registry or a library said of it, such as a body, a host or a path; for the log and the
            operator.
    """

    outcome: ClassVar[Literal["registry_unreachable", "registry_schema"]] = "registry_unreachable"

    def __init__(self, reason: str, detail: str | None = None) -> None:
        super().__init__(reason)
        self.detail = detail


class RegistrySchema(RegistryUnreachable):
    """The registry is not as MLflow would have it, and MLflow is not let change it."""

    outcome = "registry_schema"


class NothingToServe(Exception):
    """The registry answered, and has no version of the model that could be served."""


class ModelUnknown(NothingToServe):
    """The registry answered, and knows no such model."""


class VersionUnknown(Exception):
    """The registry answered, and has no such version of the model."""


class Candidate(msgspec.Struct, frozen=True, tag=True):
    """A version that may be served, and the rule that chose it."""

    identity: ModelIdentity
    rule: str


class LookUp(msgspec.Struct, frozen=True):
    """A place that was looked in, and what was there.

    Attributes:
        rule: The place, such as `alias champion` or `stage Production`.
        outcome: `empty` if nothing was there, `not_ready` if only versions whose upload had not ended.
        version: What was found.
        reason: Why a version that was found was passed over.
    """

    rule: str
    outcome: LookUpOutcome
    version: str | None = None
    reason: str | None = None


class Offer(msgspec.Struct, frozen=True, tag=True):
    """What one look into the registry saw.

    Attributes:
        candidates: For the model in use, the preferred one first, each version once.
        look_ups: Each place that was looked in up to the first candidate.
        problem: Why there is no candidate; None where there is one.
        alias_missing: Whether MODEL_ALIAS names no version; None where it is unset.
        canary: Under the canary's alias, if there is a version.
        shadow: Likewise.
    """

    candidates: tuple[Candidate, ...]
    look_ups: tuple[LookUp, ...]
    problem: str | None = None
    alias_missing: bool | None = None
    canary: Candidate | None = None
    shadow: Candidate | None = None


class Fetched(msgspec.Struct, frozen=True, tag=True):
    """A version's files and what the registry knows of them.

    Attributes:
        directory: Holds the MLmodel file.
        metrics: The training run's; None where they could not be asked for.
        digest: What the version's tag says that the digest of the files is, if it has one.
    """

    directory: Path
    metrics: dict[str, float] | None
    digest: str | None


class ModelSource(Protocol):
    """Where a keeper gets its models from."""

    def look(self) -> Offer:
        """See `Registry.look`."""
        ...

    def version(self, number: str) -> Candidate:
        """See `Registry.version`."""
        ...

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`."""
        ...

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `app.models.registry.worker.ModelWorker.build`."""
        ...

    def raw_scores(self, booster: Path, rows: FloatArray) -> FloatArray:
        """LightGBM's, of a booster's file: see `app.models.registry.worker.ModelWorker.raw_scores`."""
        ...

    def close(self) -> None:
        """End what is under way."""
        ...
