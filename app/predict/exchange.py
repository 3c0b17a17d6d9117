"""One request and its answer, on plain ASGI.

The prediction routes do not use Litestar's handlers: their arguments, validation and response objects cost more than a
prediction. Errors have the same form as on Litestar's routes.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from litestar.types import HTTPScope, Message, Receive, Scope, Send

from app.codecs.compression import check_encoding, decompress
from app.errors import BROKEN_OFF, ERROR_TYPE, REQUEST_ID, AnswerTimeout, Disconnected, Overloaded
from app.headers import Headers, headers_of
from app.predict.body import SMALL_BODY_BYTES, Body, declared_bytes, drain, read_body
from app.problems import answer_error
from app.serving.admission import Reservation
from app.serving.connection import Address, acknowledged, cut
from app.serving.deadline import Deadline, Deadlines
from app.serving.gate import Gate
from app.telemetry.middleware import STARTED
from app.telemetry.stages import Stages, StageTimes

WHOLE_ANSWER_BYTES = 256 * 1024
"""Largest answer that is handed to the server whole. Of others the server takes a part when the client has read those
before, so that no more than some parts of an answer that is not read are in memory."""

PART_BYTES = 128 * 1024
"""Part of an answer that the server takes at a time, for which the client has REQUEST_TIMEOUT."""

log = logging.getLogger(__name__)


class Exchange:
    """A request that is being answered.

    Attributes:
        headers: Headers of the request by name, from `headers_of`.
        request_id: Id of the request.
        begun: When the request began, by `time.perf_counter`.
        deadline: Deadline of the request.
        started: Whether the answer has begun.
        stages: Stages that the request has passed through.
    """

    __slots__ = (
        "_gate", "_receive", "_scope", "_send", "_sending", "_watcher", "begun", "deadline", "headers", "request_id",
        "stages", "started",
    )  # fmt: skip

    def __init__(self, scope: HTTPScope, receive: Receive, send: Send, deadline: Deadline, gate: Gate) -> None:
        self.headers = headers_of(scope)  # pyright: ignore[reportArgumentType]
        self.request_id: str = scope.get(REQUEST_ID, "")  # pyright: ignore[reportAttributeAccessIssue]
        self.deadline = deadline
        self.started = False
        self.stages: Stages = []
        self._sending = 0.0
        # The straight way may have waited for the body already.
        self.begun: float = scope.get(STARTED) or time.perf_counter()  # pyright: ignore[reportAttributeAccessIssue]
        self._gate = gate
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None

    @property
    def raw_headers(self) -> Iterable[tuple[bytes, bytes]]:
        """All headers, including repeated ones."""
        return self._scope["headers"]

    def header(self, name: bytes) -> str | None:
        """The text of a header, None where it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def client(self) -> Address:
        """Address of the client."""
        host, port = self._scope["client"] or ("", 0)
        return host, int(port)  # which Granian gives as a text

    @property
    def parameters(self) -> dict[str, str]:
        """Parameters of the path."""
        return self._scope["path_params"]

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
        read = time.perf_counter()
        self.stages.append(("read", self.begun, read))
        if len(body) <= SMALL_BODY_BYTES:
            self._gate.has_read(read - self.begun)
        if encoding is None:
            return body
        if reservation is not None and len(body) > SMALL_BODY_BYTES:
            reservation.join_queue()
        plain = await in_thread(lambda: decompress(body, encoding, limit, setting))
        self.stages.append(("decode", read, time.perf_counter()))
        if reservation is not None:
            reservation.reserve_bytes(len(plain))
        return plain

    def watch(self) -> None:
        """End the request when the client disconnects, from now on. The body must have been read."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] == "http.request":
            pass
        self.deadline.disconnect()

    def ended(self) -> Stages:
        """All stages, once the answer is sent or cannot be."""
        if self.started:
            self.stages.append(("send", self._sending, time.perf_counter()))
        return self.stages

    def close(self) -> None:
        """Watch the client no more."""
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

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
        self._sending = time.perf_counter()
        message: Any = {
            "type": "http.response.start", "status": status, "headers": [(b"content-type", media_type), *headers],
        }  # fmt: skip
        await self._send(message)

    async def send(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body of an answer, or all of it.

        The server takes a large answer part by part, as its client reads it.

        Raises:
            AnswerTimeout: The client reads nothing (when the deadline ends).
            Disconnected: The client has gone (when the deadline ends).
        """
        in_parts = more or self.deadline.sending or len(body) > WHOLE_ANSWER_BYTES
        size = PART_BYTES if in_parts else max(1, len(body))
        if in_parts and not self.deadline.sending:
            self.watch()
            self.deadline.send_in_parts(partial(acknowledged, self.client))
        for start in range(0, max(1, len(body)), size):
            is_last = not more and start + size >= len(body)
            if in_parts:
                self.deadline.restart()
            if is_last:
                self.close()  # the server reports the end of the answer as a disconnect
            part = body[start : start + size]
            message: Message = {"type": "http.response.body", "body": part, "more_body": not is_last}
            await self._send(message)

    async def refuse(self, error: Exception) -> None:
        """Answer with the error, then read the rest of the body, unless the service is overloaded."""
        failed = answer_error(self._scope, error)  # pyright: ignore[reportArgumentType]
        headers = [(name.lower().encode(), value.encode()) for name, value in failed.headers.items()]
        overloaded = isinstance(error, Overloaded)
        if overloaded and self.deadline.reading:
            headers += closing(self.headers)
        _forget(error)
        await self.answer(failed.body, failed.media_type.encode(), failed.status, headers)
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


def _forget(error: BaseException) -> None:
    """Free what the frames of an error hold, rows among it: the client may take seconds to send the rest of a body."""
    error.__traceback__ = error.__cause__ = error.__context__ = None


Handle = Callable[[Exchange], Awaitable[None]]


class Endpoint:
    """An ASGI application that answers one route's POST requests.

    Args:
        path: Path of the route.
        handle: Answers a request, or raises the error to answer with.
        deadlines: Deadlines of the requests.
        gate: Counts requests in progress.
        times: Counts the stages of the requests.
    """

    def __init__(
        self, path: str, handle: Handle, deadlines: Deadlines, gate: Gate, times: StageTimes
    ) -> None:  # fmt: skip
        self._path = path
        self._handle = handle
        self._deadlines = deadlines
        self._gate = gate
        self._times = times

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
            scope[BROKEN_OFF] = True  # pyright: ignore[reportGeneralTypeIssues]
        except AnswerTimeout as error:
            scope[BROKEN_OFF], scope[ERROR_TYPE] = True, error.kind  # pyright: ignore[reportGeneralTypeIssues]
            cut(exchange.client)
            log.warning("an answer was not read", extra={"endpoint": self._path, "reason": str(error)})
        except Exception as error:
            if exchange.started:
                log.exception("an answer broke off")
                raise
            await exchange.refuse(error)
        finally:
            exchange.close()
            self._times.add(exchange.ended())
            if ticket is not None:
                self._gate.leave(ticket)
