"""The client for asyncio."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from madrone.client.answers import Curve, FailedRow, OutcomesTaken, Prediction
from madrone.client.attempts import Attempt, Lost, Reply, Steps
from madrone.client.calls import MAX_ANSWER_BYTES, RETRIES, TIMEOUT_S, URL, Asked, Calls
from madrone.client.http import Body, http_options, lost, outgoing
from madrone.client.model import Model

T = TypeVar("T")


class AsyncClient:
    """`Client` for asyncio: the same arguments and calls, which are awaited. Tasks of one event loop may share it.

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
        self._http = httpx.AsyncClient(**http_options(self._calls, verify, httpx.AsyncHTTPTransport))

    async def predict(self, row: Any, **asked: Unpack[Asked]) -> Prediction:
        """Predict one row, as `Client.predict`."""
        return await self._run(self._calls.predict(row, **asked))

    async def predict_batch(self, rows: Iterable[Any], **asked: Unpack[Asked]) -> list[Prediction | FailedRow]:
        """Predict rows, as `Client.predict_batch`."""
        return await self._run(self._calls.predict_batch(rows, **asked))

    async def predict_table(self, table: Any, **asked: Unpack[Asked]) -> Any:
        """Predict a table, as `Client.predict_table`."""
        return await self._run(self._calls.predict_table(table, **asked))

    async def explain(self, row: Any, top: int | None = None, **asked: Unpack[Asked]) -> Prediction:
        """Predict one row and explain it, as `Client.explain`."""
        return await self._run(self._calls.explain(row, top, **asked))

    async def curve(
        self, row: Any, feature: str, *, points: int = 50, interval: float | None = None,
        timeout: float | None = None  # noqa: ASYNC109 - as in `Client`
    ) -> Curve:  # fmt: skip
        """What would be predicted for a row if `feature` had other values, as `Client.curve`."""
        return await self._run(self._calls.curve(row, feature, points, interval, timeout))

    async def send_outcomes(
        self, outcomes: Iterable[Any], *, timeout: float | None = None  # noqa: ASYNC109 - as in `Client`
    ) -> OutcomesTaken:  # fmt: skip
        """Report what became of predictions, as `Client.send_outcomes`."""
        return await self._run(self._calls.send_outcomes(outcomes, timeout))

    async def model(self) -> Model:
        """Describe the model in use."""
        return await self._run(self._calls.model())

    async def ready(self) -> bool:
        """Whether predictions are answered now; asks once."""
        return await self._run(self._calls.ready())

    @property
    def url(self) -> str:
        """URL of the service, without a password in it."""
        return self._calls.policy.base

    @property
    def path(self) -> str:
        """Path of the model's predictions."""
        return self._calls.path

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._calls.policy.base!r})"

    async def _run(self, steps: Steps[T]) -> T:
        """Do the steps of a call."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, Attempt):
                    step = steps.send(await self._attempt(step))
                else:
                    await asyncio.sleep(step.seconds)
                    step = steps.send(None)
        except StopIteration as end:
            return end.value

    async def _attempt(self, attempt: Attempt) -> Reply | Lost:
        """Send a request once."""
        try:
            async with asyncio.timeout(attempt.seconds), self._http.stream(**outgoing(attempt)) as response:
                body = Body(attempt)
                async for piece in response.aiter_raw():
                    if too_large := body.add(piece):
                        return too_large
                return body.reply(response)
        except httpx.TransportError as error:
            return lost(error)
        except TimeoutError:
            return Lost("the answer took too long", in_time=False)
