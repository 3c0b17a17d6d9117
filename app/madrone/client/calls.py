"""The calls of a client, without any I/O: which requests each makes, and what it makes of the answers."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict, TypeVar
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from madrone.client.answers import (
    BatchAnswer,
    Curve,
    FailedRow,
    Outcome,
    OutcomesTaken,
    Output,
    Prediction,
    Space,
)
from madrone.client.attempts import Attempt, Policy, Reply, Request, Steps, bad_answer, check_timeout, exchange, read
from madrone.client.errors import OtherVersion, TooLarge
from madrone.client.model import Limits, Model
from madrone.client.rows import encode_json, row_of
from madrone.client.tables import Table, table_of

T = TypeVar("T")

URL = "http://127.0.0.1:8000"
UNIX = "unix:"
TIMEOUT_S, RETRIES = 60.0, 4
"""Defaults of a client. The time is more than the 30 s after which a service gives up by default, and says so."""

MAX_ANSWER_BYTES = 2**30
"""Most bytes of an answer by default. A million rows with contributions of 100 features have 800 MB."""

MOST_OUTCOMES = 10_000
"""Most outcomes that the service takes at a time."""

ROUNDS = 3
"""How often the parts of a table are sent that another version answered than the newest."""

HEADROOM = 0.95
"""Share of the service's MAX_BODY_BYTES that a body is planned for."""


class Asked(TypedDict, total=False):
    """What a prediction is asked for beside itself.

    Attributes:
        interval: Level of the interval, such as 0.8; by default the model's.
        output: What stands beside the prediction of a classifier.
        explain: Whether it is explained, or by how many features.
        space: Features of the explanation.
        leaves: Whether the leaf of each tree is told.
        version: Version that must answer: another one's answer is `OtherVersion`.
        timeout: Seconds for a request with its repetitions, in place of the client's.
    """

    interval: float | None
    output: Output | None
    explain: bool | int
    space: Space | None
    leaves: bool
    version: str | None
    timeout: float | None


class NameRefused(ValueError):
    """No model can have this name."""


class Calls:
    """The calls to one service.

    Args:
        url: URL of the service, or `unix:` and the path of its socket.
        key: Key of the service; None for none.
        timeout: Seconds for a request with all its repetitions.
        retries: Most repetitions of a request.
        max_answer_bytes: Most bytes of an answer.
        name: Name of the model; None for the first one of the service.

    Attributes:
        url: URL that requests are made of.
        path: Path of the model's predictions.
        socket: Path of the service's Unix socket; None where it has a host and a port.
    """

    def __init__(
        self, url: str, key: str | None, timeout: float, retries: int, max_answer_bytes: int, name: str | None = None
    ) -> None:
        self.socket = url.removeprefix(UNIX) if url.startswith(UNIX) else None
        parts = _parts("http://localhost" if self.socket else url)
        if key is not None and not (0 < len(key) <= 256 and key.isascii() and key.isprintable() and " " not in key):
            raise ValueError("The key must be 1 to 256 visible ASCII characters.")
        check_timeout(timeout)
        if retries < 0:
            raise ValueError("The retries must be 0 or more.")
        if max_answer_bytes < 1:
            raise ValueError("The max_answer_bytes must be 1 or more.")
        if name is not None and (not name or "/" in name or not name.isprintable()):
            raise NameRefused("The name of the model must be one that MLflow takes.")
        # In the path as one part, whatever it has in it.
        self.path = "/predict" if name is None else f"/predict/{quote(name, safe='')}"
        self._ready = "/health/ready" if name is None else f"/v2/models/{quote(name, safe='')}/ready"
        self.url = parts.geturl().rstrip("/")
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        shown_url = shown.geturl().rstrip("/") if self.socket is None else url
        self.policy = Policy(shown_url, timeout, retries, max_answer_bytes)
        self.headers = {"Accept-Encoding": "identity"} | ({} if key is None else {"X-API-Key": key})
        self._limits: Limits | None = None

    def predict(self, row: Any, **asked: Any) -> Steps[Prediction]:
        """Predict one row."""
        query, version, timeout = _query(**asked)
        request = Request("POST", f"{self.path}{query}", encode_json(row_of(row)))
        prediction = read((yield from exchange(request, self.policy, timeout)), Prediction, request)
        _check_version(prediction.version, version)
        return prediction

    def explain(self, row: Any, top: int | None, **asked: Any) -> Steps[Prediction]:
        """Predict one row and explain it."""
        return self.predict(row, **({"explain": True if top is None else top} | asked))

    def predict_batch(self, rows: Iterable[Any], **asked: Any) -> Steps[list[Prediction | FailedRow]]:
        """Predict rows, as many requests as are needed."""
        query, version, timeout = _query(**asked)
        given = [row_of(row, f" of row {index}") for index, row in enumerate(rows)]
        most = (yield from self._get_limits(timeout)).max_batch_size
        answers: list[Prediction | FailedRow] = []

        def send(start: int, stop: int) -> Steps[None]:
            body = encode_json({"predictions": given[start:stop]})
            request = Request("POST", f"{self.path}/batch{query}", body)
            batch = read((yield from exchange(request, self.policy, timeout)), BatchAnswer, request)
            _check_version(batch.model_version, version)
            answers.extend(batch.rows(start))

        for start in range(0, len(given), most):
            yield from _halved(send, start, min(start + most, len(given)))
        return answers

    def predict_table(self, given: Any, **asked: Any) -> Steps[Any]:
        """Predict a table, as many requests as are needed, all answered by one version."""
        query, version, timeout = _query(**asked)
        table = table_of(given)
        parts: dict[tuple[int, int], Reply] = {}
        # The service chooses between a model and its canary by this header: one choice for all parts.
        headers = (("X-Request-ID", uuid.uuid4().hex),)

        def send(start: int, stop: int) -> Steps[None]:
            body = table.body(start, stop)
            request = Request("POST", f"{self.path}/bulk{query}", body, table.media_type, table.media_type, headers)
            reply = yield from exchange(request, self.policy, timeout)
            if reply.media_type != table.media_type or "x-model-version" not in reply.headers:
                raise bad_answer(reply, request)
            parts[start, stop] = reply

        rows = _rows_of_part(table, (yield from self._get_limits(timeout)))
        for start in range(0, max(table.rows, 1), rows):
            yield from _halved(send, start, min(start + rows, table.rows))
        for _ in range(ROUNDS):
            newest = _version(next(reversed(parts.values())))
            _check_version(newest, version)
            older = [part for part, reply in parts.items() if _version(reply) != newest]
            if not older:
                break
            for part in older:
                del parts[part]  # so that the last one stays the newest
                yield from _halved(send, *part)
        else:
            raise OtherVersion("The version of the model changed again and again while the table was sent.")
        try:
            return table.answer([parts[part].body for part in sorted(parts)])
        except ValueError:  # ArrowInvalid is one too
            raise bad_answer(parts[min(parts)], Request("POST", f"{self.path}/bulk")) from None

    def curve(self, row: Any, feature: str, points: int, interval: float | None, timeout: float | None) -> Steps[Curve]:
        """Predict a row with other values of a feature."""
        body = encode_json({"row": row_of(row), "feature": feature, "points": points})
        request = Request("POST", f"{self.path}/curve{_query_string(interval=interval)}", body)
        return read((yield from exchange(request, self.policy, timeout)), Curve, request)

    def send_outcomes(self, outcomes: Iterable[Any], timeout: float | None) -> Steps[OutcomesTaken]:
        """Report what became of predictions."""
        given = [outcome if isinstance(outcome, Outcome | Mapping) else Outcome(*outcome) for outcome in outcomes]
        taken = OutcomesTaken()

        def send(start: int, stop: int) -> Steps[None]:
            nonlocal taken
            request = Request("POST", "/outcomes", encode_json({"outcomes": given[start:stop]}))
            reply = yield from exchange(request, self.policy, timeout)
            taken = taken.plus(read(reply, OutcomesTaken, request))

        for start in range(0, len(given), MOST_OUTCOMES):
            yield from _halved(send, start, min(start + MOST_OUTCOMES, len(given)))
        return taken

    def model(self) -> Steps[Model]:
        """Describe the model in use."""
        return (yield from self._get(f"{self.path}/model/info", Model))

    def ready(self) -> Steps[bool]:
        """Whether predictions are answered now."""
        reply = yield Attempt(Request("GET", self._ready), self.policy.timeout, self.policy.most_bytes)
        return isinstance(reply, Reply) and reply.status == 200

    def _get(self, path: str, kind: type[T], timeout: float | None = None) -> Steps[T]:
        request = Request("GET", path)
        return read((yield from exchange(request, self.policy, timeout)), kind, request)

    def _get_limits(self, timeout: float | None) -> Steps[Limits]:
        """The limits of the service, which are asked for once."""
        if self._limits is None:
            self._limits = yield from self._get("/info", Limits, timeout)
        return self._limits


def _parts(url: str) -> SplitResult:
    """The parts of the URL of a service that count: a query or fragment does not.

    Raises:
        ValueError: It is none.
    """
    wrong = ValueError("The URL of the service must begin with http:// or https:// and name a host, or with unix:.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or a bad IPv6 address
        raise wrong from None
    if not usable or not url.isprintable() or " " in url:
        raise wrong
    return parts._replace(query="", fragment="")


def _halved(send: Callable[[int, int], Steps[None]], start: int, stop: int) -> Steps[None]:
    """Send rows, by halves if they are too large for the service or for a proxy before it."""
    try:
        yield from send(start, stop)
        return
    except TooLarge:
        if stop - start < 2:
            raise
    middle = (start + stop) // 2
    yield from _halved(send, start, middle)
    yield from _halved(send, middle, stop)


def _rows_of_part(table: Table, limits: Limits) -> int:
    """Rows of a request that the service takes, by their average size."""
    if table.nbytes == 0:
        return limits.max_bulk_rows
    fitting = int(HEADROOM * limits.max_body_bytes * table.rows / table.nbytes)
    return max(1, min(limits.max_bulk_rows, fitting))


def _query(
    *, interval: float | None = None, output: Output | None = None, explain: bool | int = False,
    space: Space | None = None, leaves: bool = False, version: str | None = None, timeout: float | None = None,
) -> tuple[str, str | None, float | None]:  # fmt: skip
    """The query string of what is asked for, the version that must answer, and the seconds for a request."""
    explained = None if explain is False else "true" if explain is True else explain
    query = _query_string(
        interval=interval, output=output, explain=explained, space=space, leaves="true" if leaves else None
    )
    return query, version, timeout


def _query_string(**given: object) -> str:
    values = {name: value for name, value in given.items() if value is not None}
    return f"?{urlencode(values)}" if values else ""


def _version(reply: Reply) -> str:
    return reply.headers["x-model-version"]


def _check_version(answered: str, wanted: str | None) -> None:
    if wanted is not None and answered != str(wanted):
        raise OtherVersion(f"Version {answered} of the model answered, not {wanted}.")
