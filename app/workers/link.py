"""Messages between two workers over a stream, in both directions: some are told, others asked and answered.

A message is a head and MessagePack. The head has the length, the number of the question, and what it is.
"""

import asyncio
import contextlib
import itertools
import logging
import struct
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from app.workers.messages import AnyMessage

HEAD = struct.Struct("<IQB")
TOLD, ASKED, ANSWERED, FAILED = range(4)

MOST_WAITING_BYTES = 64 * 2**20
"""Bytes that wait for the other side to read them. Of more, the link ends: the other side hangs."""

T = TypeVar("T")
Handler = Callable[["Link", AnyMessage], Awaitable[AnyMessage | None]]

log = logging.getLogger(__name__)


class LinkLost(Exception):
    """The other side has gone, or does not answer in time."""


class Link:
    """A stream of messages to another worker, on the event loop.

    Args:
        reader: What the other side sends.
        writer: What it gets.
        handle: Answers its messages; None for one that was told.

    Attributes:
        heard: Time of its last message, by `time.monotonic`.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
        self.heard = time.monotonic()
        self._reader = reader
        self._writer = writer
        self._handle = handle
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[AnyMessage]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(AnyMessage)

    async def run(self) -> None:
        """Handle messages until the other side has gone, or `close` is called."""
        try:
            while True:
                size, number, kind = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                content = await self._reader.readexactly(size)
                self.heard = time.monotonic()
                self._take(number, kind, content)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self.close()

    def tell(self, message: AnyMessage) -> None:
        """Send a message that is not answered. Nothing happens if the other side has gone."""
        self._send(0, TOLD, self._encoder.encode(message))

    async def ask(self, message: AnyMessage, kind: type[T], seconds: float) -> T:
        """Send a message, and return its answer.

        Args:
            message: The message.
            kind: Type of the answer.
            seconds: Time for it.

        Raises:
            LinkLost: There is no answer.
        """
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = future
        try:
            async with asyncio.timeout(seconds):
                self._send(number, ASKED, self._encoder.encode(message))
                answer = await future
        except TimeoutError:
            raise LinkLost(f"no answer within {seconds:g} s") from None
        finally:
            del self._asked[number]
        if not isinstance(answer, kind):
            raise LinkLost(f"the answer to {type(message).__name__} is {type(answer).__name__}")
        return answer

    def close(self) -> None:
        """End the link. Whoever waits for an answer is told so."""
        with contextlib.suppress(OSError):
            self._writer.transport.abort()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(LinkLost("the other worker has gone"))

    def _take(self, number: int, kind: int, content: bytes) -> None:
        if kind == FAILED:
            self._settle(number, LinkLost("the other worker could not answer"))
            return
        message = self._decoder.decode(content)
        if kind == ANSWERED:
            self._settle(number, message)
            return
        task = asyncio.create_task(self._answer(number if kind == ASKED else None, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _settle(self, number: int, answer: AnyMessage | LinkLost) -> None:
        future = self._asked.get(number)  # None: nobody waits any more
        if future is None or future.done():
            return
        if isinstance(answer, LinkLost):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    async def _answer(self, number: int | None, message: AnyMessage) -> None:
        try:
            answer = await self._handle(self, message)
        except LinkLost:
            answer = None
        except Exception:
            log.exception("a message of another worker could not be answered", extra={"kind": type(message).__name__})
            answer = None
        if number is not None:
            content = b"" if answer is None else self._encoder.encode(answer)
            self._send(number, FAILED if answer is None else ANSWERED, content)

    def _send(self, number: int, kind: int, content: bytes) -> None:
        transport = self._writer.transport
        if transport.is_closing():
            if kind == ASKED:
                raise LinkLost("the other worker has gone")
            return
        if transport.get_write_buffer_size() > MOST_WAITING_BYTES:
            log.warning("another worker reads nothing, and is left")
            self.close()
            return
        transport.write(HEAD.pack(len(content), number, kind) + content)  # pyright: ignore[reportAttributeAccessIssue]
