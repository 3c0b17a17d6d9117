"""Messages between the leader and the other workers."""

import msgspec

from app.models.disk.entry import StoredModel
from app.prediction_log.messages import Drained, Readable


class Done(msgspec.Struct, frozen=True, tag=True):
    """What was asked for is done."""


class Joined(msgspec.Struct, frozen=True, tag=True):
    """A worker has joined the leader.

    Attributes:
        index: Its number.
        pid: Its process.
    """

    index: int
    pid: int


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """What the leader serves of one registered model.

    Attributes:
        name: Name of the model.
        current: Stored model in service; None while there is none.
        canary: Stored model of the canary, if any.
        shadow: Stored model of the shadow, if any.
        pinned: Version that an operator asked for.
        stale: Whether the registry failed to answer the last look.
        alias_missing: Whether MODEL_ALIAS names no version.
        unloaded: Whether an operator has unloaded the model.
    """

    name: str
    current: StoredModel | None
    canary: StoredModel | None
    shadow: StoredModel | None
    pinned: str | None
    stale: bool
    alias_missing: bool | None
    unloaded: bool


class State(msgspec.Struct, frozen=True, tag=True):
    """What the leader serves.

    Attributes:
        revision: Number that grows with each change.
        pid: Process of the leader.
        models: The models.
    """

    revision: int
    pid: int
    models: list[ModelState]


class Serves(msgspec.Struct, frozen=True, tag=True):
    """A worker serves what the leader does.

    Attributes:
        revision: Newest revision that it serves.
        problems: What is wrong with it, one sentence each.
    """

    revision: int
    problems: tuple[str, ...] = ()


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Asks whether a worker answers."""


class WriteRows(msgspec.Struct, frozen=True, tag=True):
    """Asks the leader to write rows of the prediction log.

    Attributes:
        batch: List of `LoggedPredictions` in MessagePack, which the leader passes on as it is.
    """

    batch: bytes


class DrainSpool(msgspec.Struct, frozen=True, tag=True):
    """Asks the leader to write rows of a spool."""

    segments: list[Readable]


class Written(msgspec.Struct, frozen=True, tag=True):
    """Rows are written, or why they are not."""

    fault: str | None


class SpoolDrained(msgspec.Struct, frozen=True, tag=True):
    """How far a spool is written."""

    drained: Drained


class DumpMetrics(msgspec.Struct, frozen=True, tag=True):
    """Asks a worker to write its metrics to its file, and the leader to have all others do so."""


class HttpRequest(msgspec.Struct, frozen=True, tag=True):
    """A request of HTTP that the leader is asked to answer.

    Attributes:
        method: Its method.
        path: Its path.
        query: Its query.
        headers: Its headers.
        client: Address and port of the client.
        request_id: Id of the request.
        body: Its body.
    """

    method: str
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    request_id: str
    body: bytes


class HttpAnswer(msgspec.Struct, frozen=True, tag=True):
    """The leader's answer to a request.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
        kind: Kind of error with which it ended.
        refusal: Reason, if it was refused.
        template: Path of its route.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    kind: str | None = None
    refusal: str | None = None
    template: str | None = None


class CountedRows(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rows that a worker has counted for drift detection since it last told.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        digest: Digest of its files.
        reference: Digest of what they were counted against.
        rows: Number of rows.
        features: Bytes of int64, counts of the features.
        prediction: Bytes of int64, counts of the outputs.
    """

    name: str
    version: str
    digest: str
    reference: bytes
    rows: int
    features: bytes
    features_shape: tuple[int, ...]
    prediction: bytes
    prediction_shape: tuple[int, ...]


class CollectedRows(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rows of a model without a reference, since a worker last told.

    Attributes:
        name: Name of the model.
        version: Version of the model.
        digest: Digest of its files.
        count: B, number of rows.
        rows: Bytes of float64[B, F].
        predictions: Bytes of float64[B, K].
    """

    name: str
    version: str
    digest: str
    count: int
    rows: bytes
    predictions: bytes


class AskFigures(msgspec.Struct, frozen=True, tag=True):
    """Asks the leader for the figures of the service.

    Attributes:
        model: Name of the model that some of them are of.
    """

    model: str


class Figures(msgspec.Struct, frozen=True, tag=True):
    """The figures of the service.

    Attributes:
        content: What a viewer of the console is sent, as JSON.
    """

    content: bytes


AnyMessage = (
    Done
    | Joined
    | State
    | Serves
    | Ping
    | WriteRows
    | DrainSpool
    | Written
    | SpoolDrained
    | DumpMetrics
    | HttpRequest
    | HttpAnswer
    | CountedRows
    | CollectedRows
    | AskFigures
    | Figures
)
