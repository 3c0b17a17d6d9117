"""One request and its answer, on plain ASGI.

The prediction routes do not use Litestar's handlers: their arguments, validation and response objects cost more than a
prediction. Errors have the same form as on Litestar's routes.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from litestar.types import HTTPScope, Message, Receive, Scope, Send

from app.codecs.compression import check_encoding, decompress
from app.errors import REQUEST_ID, Disconnected, Overloaded
from app.predict.body import Body, declared_bytes, drain, read_body
from app.predict.headers import Headers, headers_of
from app.problems import PROBLEM_MEDIA_TYPE, answer_problem
from app.serving.admission import Reservation
from app.serving.deadline import Deadline, Deadlines
from app.serving.gate import Gate

SMALL_BODY_BYTES = 32 * 1024
"""Largest body that is read and answered on the event loop, in a fraction of a millisecond; others go to threads."""

log = logging.getLogger(__name__)


class Exchange:
    """A request that is being answered.

    Attributes:
        headers: Headers of the request by name, from `headers_of`.
        request_id: Id of the request.
        deadline: Deadline of the request.
        started: Whether the answer has begun.
    """

    __slots__ = ("_begun", "_gate", "_receive", "_scope", "_send", "deadline", "headers", "request_id", "started")

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, deadline: Deadline, gate: Gate) -> None:
        self.headers = headers_of(scope)  # pyright: ignore[reportArgumentType]
        self.request_id: str = scope.get(REQUEST_ID, "")  # pyright: ignore[reportAttributeAccessIssue]
        self.deadline = deadline
        self.started = False
        self._begun = time.perf_counter()
        self._gate = gate
        self._scope = scope
        self._receive = receive
        self._send = send

    @property
    def raw_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """All headers, including repeated ones."""
        return self._scope["headers"]

    def header(self, name: bytes) -> str | None:
        """The text of a header, None where it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> bytes:
        """The query string."""
        return self._scope["query_string"]

    async def body(
        self, limit: int, setting: str, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        reservation: Reservation | None = None,
    ) -> Body:  # fmt: skip
        """Read the body, and decompress it.

        Args:
            limit: Most bytes of the body, before and after it is decompressed.
            setting: Name of that limit.
            in_thread: Runs work in a thread.
            reservation: Reservation for the bytes received so far.

        Raises:
            ServiceError: As `read_body`, `check_encoding` and `decompress` do.
        """
        encoding = self.header(b"content-encoding")
        encoding = None if encoding is None else check_encoding(encoding)
        body = await read_body(self.headers, self._receive, limit, setting, reservation)
        self.deadline.reading = False
        if len(body) <= SMALL_BODY_BYTES:
            self._gate.has_read(time.perf_counter() - self._begun)
        if encoding is None:
            return body
        plain = await in_thread(lambda: decompress(body, encoding, limit, setting))
        if reservation is not None:
            reservation.reserve_bytes(len(plain))
        return plain

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None, None]:
        """Cancel the work inside the context when the client disconnects. The body must have been read."""

        async def watch() -> None:
            while (await self._receive())["type"] == "http.request":
                pass
            self.deadline.disconnect()

        watcher = asyncio.create_task(watch())
        try:
            yield
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def answer(
        self, body: bytes, media_type: bytes = b"application/json", status: int = 200,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:  # fmt: skip
        """Send a whole answer."""
        await self.begin(media_type, status, ((b"content-length", b"%d" % len(body)), *headers))
        await self.send(body, more=False)

    async def begin(self, media_type: bytes, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the status and headers of an answer."""
        self.started = True
        message: Any = {
            "type": "http.response.start", "status": status, "headers": [(b"content-type", media_type), *headers],
        }  # fmt: skip
        await self._send(message)

    async def send(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body of an answer."""
        message: Message = {"type": "http.response.body", "body": body, "more_body": more}
        await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer with problem details, then read the rest of the body, unless the service is overloaded."""
        problem = answer_problem(self._scope, error)  # pyright: ignore[reportArgumentType]
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        overloaded = isinstance(error, Overloaded)
        if overloaded and self.deadline.reading:
            headers += closing(self.headers)
        await self.answer(problem.body, PROBLEM_MEDIA_TYPE.encode(), problem.status, headers)
        if self.deadline.reading and not overloaded:
            with suppress(TimeoutError):
                await drain(self._receive)


def closing(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Headers of an answer whose request has a body that nobody will read.

    To read it would be work in vain for an overloaded service. So the connection is closed, unless the body is so small
    that the server has read it all.
    """
    declared = declared_bytes(headers)
    return [(b"connection", b"close")] if declared is None or declared > SMALL_BODY_BYTES else []


Handle = Callable[[Exchange], Awaitable[None]]


class Endpoint:
    """An ASGI application that answers one route's POST requests.

    Args:
        handle: Answers a request, or raises the error to answer with.
        deadlines: Deadlines of the requests.
        gate: Counts requests in progress.
    """

    def __init__(self, handle: Handle, deadlines: Deadlines, gate: Gate) -> None:
        self._handle = handle
        self._deadlines = deadlines
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or answer with its error."""
        deadline = self._deadlines.start()
        exchange = Exchange(scope, receive, send, deadline, self._gate)  # pyright: ignore[reportArgumentType]
        ticket = None
        try:
            ticket = self._gate.enter()
            with deadline:
                await self._handle(exchange)
        except Disconnected:
            return
        except Exception as error:
            if exchange.started:
                log.exception("an answer broke off")
                raise
            await exchange.refuse(error)
        finally:
            if ticket is not None:
                self._gate.leave(ticket)
