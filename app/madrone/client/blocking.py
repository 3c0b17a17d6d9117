"""The client for threads."""

import os
import time
from collections.abc import Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from madrone.client.answers import Curve, FailedRow, OutcomesTaken, Prediction
from madrone.client.attempts import Attempt, Lost, Reply, Steps
from madrone.client.calls import MAX_ANSWER_BYTES, RETRIES, TIMEOUT_S, URL, Asked, Calls
from madrone.client.http import Body, http_options, lost, outgoing
from madrone.client.model import Model

T = TypeVar("T")


class Client:
    """A client of a Madrone service. Threads may share it, and it keeps connections until it is closed.

    Every call raises `MadroneError` if it is not answered as it should be, and ValueError or TypeError for what
    cannot be sent. A request that found no room, no model or no connection is repeated, with growing waits and as
    Retry-After asks, as long as its time allows. A proxy of the environment (HTTPS_PROXY and the like) is used, but not
    for a service on this machine. A process that was forked makes connections of its own.

    Args:
        url: URL of the service, or `unix:` and the path of its socket.
        key: API_KEY of the service, if it has one.
        timeout: Seconds for a request with all its repetitions; a large table takes several requests.
        retries: Most repetitions of a request.
        verify: Whether an https certificate is checked, the file of the authority to check it with, or an
            `ssl.SSLContext`, which may have a certificate of its own to show.
        max_answer_bytes: Most bytes of an answer: a larger one is `BadAnswer`, before the rest of it is read.
        name: Name of the model, of several that the service has; by default the first.
    """

    def __init__(
        self, url: str = URL, key: str | None = None, *, timeout: float = TIMEOUT_S, retries: int = RETRIES,
        verify: Any = True, max_answer_bytes: int = MAX_ANSWER_BYTES, name: str | None = None,
    ) -> None:  # fmt: skip
        self._calls = Calls(url, key, timeout, retries, max_answer_bytes, name)
        self._options = partial(http_options, self._calls, verify, httpx.HTTPTransport)
        self._http, self._process = httpx.Client(**self._options()), os.getpid()

    def predict(self, row: Any, **asked: Unpack[Asked]) -> Prediction:
        """Predict one row.

        Args:
            row: Values by feature: a dict, or a Series of pandas. None and NaN are missing values.
            **asked: What is asked for beside the prediction.
        """
        return self._run(self._calls.predict(row, **asked))

    def predict_batch(self, rows: Iterable[Any], **asked: Unpack[Asked]) -> list[Prediction | FailedRow]:
        """Predict rows, each of which has a prediction or its own errors, in their order.

        More than the service takes at a time (MAX_BATCH_SIZE) go as several requests.
        """
        return self._run(self._calls.predict_batch(rows, **asked))

    def predict_table(self, table: Any, **asked: Unpack[Asked]) -> Any:
        """Predict a table, whose columns are the features.

        Args:
            table: A pandas or polars DataFrame, a pyarrow Table or RecordBatch, a NumPy matrix with the features in the
                model's order, a dict of columns, or what has `__arrow_c_stream__`.
            **asked: What is asked for beside the predictions; `explain` is true or false here.

        Returns:
            A table of the kind that was given, with the column `prediction`, and `lower` and `upper` if an interval was
            asked for. A DataFrame of pandas has the same index. For a matrix, float64[B] or float64[B, columns].
            A table larger than the service's limits goes in parts, all of which one version answers.
        """
        return self._run(self._calls.predict_table(table, **asked))

    def explain(self, row: Any, top: int | None = None, **asked: Unpack[Asked]) -> Prediction:
        """Predict one row and explain it, by the `top` features that matter most, or by all."""
        return self._run(self._calls.explain(row, top, **asked))

    def curve(
        self, row: Any, feature: str, *, points: int = 50, interval: float | None = None, timeout: float | None = None
    ) -> Curve:
        """What would be predicted for a row if `feature` had other values, of which `points` is the number."""
        return self._run(self._calls.curve(row, feature, points, interval, timeout))

    def send_outcomes(self, outcomes: Iterable[Any], *, timeout: float | None = None) -> OutcomesTaken:
        """Report what became of predictions.

        Args:
            outcomes: Such as `prediction.outcome(actual)`, an `Outcome`, or a tuple or dict of the same fields.
            timeout: Seconds for a request with its repetitions, in place of the client's.
        """
        return self._run(self._calls.send_outcomes(outcomes, timeout))

    def model(self) -> Model:
        """Describe the model in use."""
        return self._run(self._calls.model())

    def ready(self) -> bool:
        """Whether predictions are answered now; asks once."""
        return self._run(self._calls.ready())

    @property
    def url(self) -> str:
        """URL of the service, without a password in it."""
        return self._calls.policy.base

    @property
    def path(self) -> str:
        """Path of the model's predictions."""
        return self._calls.path

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._calls.policy.base!r})"

    def _run(self, steps: Steps[T]) -> T:
        """Do the steps of a call."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Attempt):
                    step = steps.send(self._attempt(step))
                else:
                    time.sleep(step.seconds)
                    step = steps.send(None)
        except StopIteration as end:
            return end.value

    def _attempt(self, attempt: Attempt) -> Reply | Lost:
        """Send a request once. The time is looked at between the pieces of an answer."""
        if self._process != os.getpid() and not self._http.is_closed:
            # After a fork, both processes would read from the same connections, and get each other's answers.
            self._http, self._process = httpx.Client(**self._options()), os.getpid()
        end = time.monotonic() + attempt.seconds
        try:
            with self._http.stream(**outgoing(attempt)) as response:
                body = Body(attempt)
                for piece in response.iter_raw():
                    if too_large := body.add(piece):
                        return too_large
                    if time.monotonic() > end:
                        return Lost("the answer took too long", in_time=False)
                return body.reply(response)
        except httpx.TransportError as error:
            return lost(error)
