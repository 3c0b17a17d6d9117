"""Messages between the service and the model process: requests, and their answers."""

from pathlib import Path
from typing import Any, Literal

import msgspec

from app.models.identity import ModelIdentity
from app.models.refusal import Check
from app.models.registry.source import Candidate, Fetched, Offer


class Look(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.look`."""

    spool: Path | None = None


class Version(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.version`."""

    number: str


class MovePin(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.move_pin`."""

    number: str | None


class PinMoved(msgspec.Struct, frozen=True, tag=True):
    """Answer to `MovePin`."""


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.fetch`."""

    identity: ModelIdentity
    destination: Path


class Card(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.card`."""

    identity: ModelIdentity
    destination: Path


class Carded(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Card`."""

    directory: Path | None


class Build(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.build`, whose result goes to the file `destination`."""

    directory: Path
    digest: str | None
    destination: Path


class Built(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Build`: the file is written."""


class Score(msgspec.Struct, frozen=True, tag=True):
    """Request for `ModelWorker.raw_scores`, with the bytes of a C-contiguous float64 array."""

    booster: Path
    shape: tuple[int, int]
    rows: bytes


class Scores(msgspec.Struct, frozen=True, tag=True):
    """Answer to `Score`: the bytes of a float64 array."""

    shape: tuple[int, ...]
    values: bytes


class Failure(msgspec.Struct, frozen=True, tag=True):
    """An exception in the model process: name of its class, and message.

    Attributes:
        check: Check of a ModelRefused.
        errno: Number of an OSError.
        detail: Detail of a RegistryUnreachable or a PinNotMoved.
    """

    kind: Literal[
        "ModelUnknown",
        "NothingToServe",
        "VersionUnknown",
        "RegistryUnreachable",
        "RegistrySchema",
        "PlaceUnreachable",
        "PinNotMoved",
        "ModelRefused",
        "OSError",
        "other",
    ]
    message: str
    check: Check = "artifact"
    errno: int | None = None
    detail: str | None = None


Request = Look | Version | MovePin | Fetch | Card | Build | Score


class Order(msgspec.Struct, frozen=True, array_like=True):
    """A request, and the name of the model that it is about."""

    model: str
    request: Request


Answer = Offer | Candidate | PinMoved | Fetched | Carded | Built | Scores | Failure


def path_from_text(kind: type, value: Any) -> Any:
    """Value of a type that msgspec cannot decode; `Path` is the only one in a message."""
    return kind(value)
