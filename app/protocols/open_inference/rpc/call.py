"""One call of a method that predicts, as `ManyRows` takes it."""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import unquote

from grpc import aio

from app.errors import MalformedBody, Overloaded, TooLarge
from app.headers import Headers, headers_of
from app.predict.body import SMALL_BODY_BYTES
from app.serving.admission import Reservation
from app.serving.connection import Address
from app.serving.deadline import Deadline
from app.serving.gate import Gate
from app.telemetry.middleware import identify
from app.telemetry.stages import Stages

QUICK_S = 0.1
"""Time in which the message of most calls has arrived. Those whose message takes longer are counted."""

EOF: Any = vars(aio)["EOF"]
"""What is read after the last message; the package's own types do not have it."""

Context = Any
"""`grpc.aio.ServicerContext`, whose type is generic in what handlers without a serializer do not have."""


class Arrivals:
    """Bounds the messages that take long to arrive: how large one is shows when all of it is there.

    Args:
        most: Most of them at a time.

    Attributes:
        count: Number of them now.
    """

    def __init__(self, most: int) -> None:
        self.count = 0
        self._most = most

    def check(self) -> None:
        """Raise Overloaded if there is no room for another one."""
        if self.count >= self._most:
            text = "The service is reading as many large messages as it can. Try again later."
            raise Overloaded(text, refusal="arriving")


class RpcCall:
    """A call that is being answered.

    Attributes:
        headers: Metadata of the call by name, as headers of HTTP.
        raw_headers: All metadata, including repeated ones.
        request_id: Id of the call.
        begun: When the call began, by `time.perf_counter`.
        peer: Address of the client.
        reply: Message of the answer, once it is made.
        stages: Stages that the call has passed through; grpcio sends the answer after them.
    """

    def __init__(self, context: Context, gate: Gate, arrivals: Arrivals) -> None:
        self.raw_headers = [
            (name.encode(), value if isinstance(value, bytes) else value.encode())
            for name, value in context.invocation_metadata()
        ]
        self.request_id = identify(next((value for name, value in self.raw_headers if name == b"x-request-id"), None))
        self.peer = address_of(context.peer())
        self.begun = time.perf_counter()
        self._context = context
        self._gate = gate
        self._arrivals = arrivals
        self._message = b""
        self._is_late = False
        self.reply = b""
        self.stages: Stages = []

    @property
    def headers(self) -> Headers:
        """Metadata by name.

        Raises:
            BadRequest: A key is repeated.
        """
        return headers_of({"headers": self.raw_headers})

    async def read(self, limit: int, setting: str, deadline: Deadline) -> bytes:
        """Read the message.

        Raises:
            MalformedBody: There is none, or the server could not take it.
            TooLarge: It is larger than the limit.
            Overloaded: Too many messages are arriving.
        """
        timer = deadline.loop.call_later(QUICK_S, self._count_late, deadline)
        try:
            message = await self._context.read()
        finally:
            timer.cancel()
            self._arrivals.count -= self._is_late
        deadline.reading = False
        read = time.perf_counter()
        self.stages.append(("read", self.begun, read))
        if message is EOF:
            raise MalformedBody("The call has no message that can be read.")
        if len(message) > limit:
            raise TooLarge(f"The message is larger than {setting}.")
        if len(message) <= SMALL_BODY_BYTES:
            self._gate.has_read(read - self.begun)
        self._message = message
        return message

    def _count_late(self, deadline: Deadline) -> None:
        """Count the message, which has not arrived yet, or end the call."""
        try:
            self._arrivals.check()
        except Overloaded as error:
            deadline.end(error)
        else:
            self._arrivals.count += 1
            self._is_late = True

    async def body(
        self, limit: int, setting: str, in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        reservation: Reservation | None = None,
    ) -> bytes:  # fmt: skip
        """The message, which was read before."""
        message, self._message = self._message, b""
        if reservation is not None and len(message) > SMALL_BODY_BYTES:
            reservation.reserve_bytes(len(message))
        return message

    def watch(self) -> None:
        """Nothing to do: grpcio cancels the task of a call when its client cancels it, or the client's time is over."""

    async def answer(
        self, body: bytes, media_type: bytes = b"", status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Keep the message of the answer, which grpcio sends when the handler of the call returns it."""
        self.reply = body


def address_of(peer: str) -> Address:
    """Address of a client, of `ipv4:127.0.0.1:1` or `ipv6:%5B::1%5D:1`."""
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if kind in ("ipv4", "ipv6") else (kind, 0)
