"""The workers of one service: one of them leads, and the others keep a link to it.

Whoever has the lock leads. When the leader ends, however it does, the system frees the lock and closes the links, and
another worker takes over. What leading and following mean is for those who subscribe here.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from app.workers.link import Link, LinkLost
from app.workers.messages import AnyMessage, Done, Joined, Ping, Serves
from app.workers.place import Place

RETRY_S = 0.05
"""Pause between two attempts to lead, or to reach the leader."""

ANSWER_S = 1.0
"""Time for another worker to answer whether it is there."""

SILENT_S = 3.0
"""Time without a sign after which a worker is not waited for."""

HANGS_S = 30.0
"""Time without a sign after which a worker is killed, so that another takes its place. Its clients have waited for as
long; compiling a large kernel may hold everything up for some seconds."""

SPREAD_S = 10.0
"""Longest wait until all workers serve what the leader does."""

LEAVE_S = 10.0
"""Longest wait of the leader for the others when the service ends."""

T = TypeVar("T")
Subscriber = Callable[[Any], Awaitable[AnyMessage | None]]

log = logging.getLogger(__name__)


class Member(msgspec.Struct):
    """A worker as the leader sees it.

    Attributes:
        link: The link to it.
        index: Its number.
        pid: Its process.
        revision: Newest revision that it serves.
        problems: What is wrong with it.
    """

    link: Link
    index: int
    pid: int
    revision: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether it has given no sign for a while."""
        return is_silent(self.link)


def is_silent(link: Link) -> bool:
    """Whether the other side has given no sign for a while."""
    return time.monotonic() - link.heard > SILENT_S


class Team:
    """This worker's part in the service.

    Args:
        place: Where the workers meet.
        size: Number of workers that there should be.

    Attributes:
        place: Where the workers meet.
        size: Number of workers that there should be.
        leads: Whether this worker leads.
        leader: Link to the leader; None while there is none, or if this worker leads.
        leader_pid: Its process, once it has told; else 0.
        members: The other workers, if this one leads.
    """

    def __init__(self, place: Place, size: int) -> None:
        self.place = place
        self.size = size
        self.leads = False
        self.leader: Link | None = None
        self.leader_pid = 0
        self.members: dict[Link, Member] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: dict[type, Subscriber] = {}
        self._on_lead: list[Callable[[], None]] = []
        self._on_member: list[Callable[[Link], None]] = []
        self._server: asyncio.Server | None = None
        self._running: asyncio.Task[None] | None = None
        self._closing = False
        self._heard = asyncio.Condition()
        self.answer(Ping, _done)
        self.answer(Done, _done)

    def answer(self, kind: type[T], subscriber: Callable[[T], Awaitable[AnyMessage | None]]) -> None:
        """Have messages of a type answered."""
        self._subscribers[kind] = subscriber

    def on_lead(self, begin: Callable[[], None]) -> None:
        """Call when this worker begins to lead; not while the service ends."""
        self._on_lead.append(begin)

    def on_member(self, begin: Callable[[Link], None]) -> None:
        """Call when another worker joins this one, which leads."""
        self._on_member.append(begin)

    async def ask_leader(self, message: AnyMessage, kind: type[T], seconds: float = ANSWER_S) -> T:
        """Ask the leader.

        Raises:
            LinkLost: There is no answer.
        """
        if self.leader is None:
            raise LinkLost("no worker leads")
        return await self.leader.ask(message, kind, seconds)

    def ask_leader_from_thread(self, message: AnyMessage, kind: type[T], seconds: float) -> T:
        """The same, for a thread, which waits.

        Raises:
            LinkLost: There is no answer.
        """
        if self.loop is None or self.loop.is_closed():
            raise LinkLost("the worker has ended")
        future = asyncio.run_coroutine_threadsafe(self.ask_leader(message, kind, seconds), self.loop)
        try:
            return future.result(seconds + ANSWER_S)
        except (TimeoutError, asyncio.CancelledError):
            future.cancel()
            raise LinkLost("the leader does not answer") from None

    async def ask_members(self, message: AnyMessage, kind: type[T], seconds: float = ANSWER_S) -> list[T]:
        """Answers of the other workers to the leader's question, without those that give none in time."""
        asked = [link.ask(message, kind, seconds) for link in tuple(self.members)]
        return [answer for answer in await asyncio.gather(*asked, return_exceptions=True) if isinstance(answer, kind)]

    def tell_members(self, message: AnyMessage) -> None:
        """Tell all other workers, if this one leads."""
        for link in tuple(self.members):
            link.tell(message)

    async def spread(self, revision: int) -> int:
        """Wait until the others serve a revision of what this worker, the leader, serves.

        Returns:
            Number of workers that do not after SPREAD_S, or that hang.
        """
        behind: list[Member] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPREAD_S), self._heard:
                while True:
                    behind = [member for member in self.members.values() if member.revision < revision]
                    if all(member.is_silent for member in behind):
                        break
                    with contextlib.suppress(TimeoutError):  # silence makes no sign
                        await asyncio.wait_for(self._heard.wait(), ANSWER_S)
        return len(behind)

    async def _take_sign(self, link: Link, message: Serves) -> None:
        member = self.members.get(link)
        if member is not None:
            member.revision, member.problems = message.revision, message.problems
        async with self._heard:
            self._heard.notify_all()

    def end_hanging(self) -> None:
        """Kill workers that hang. The supervising process starts others, and what they were asked goes elsewhere."""
        links = [(link, member.pid) for link, member in self.members.items()]
        if self.leader is not None:
            links.append((self.leader, self.leader_pid))
        for link, pid in links:
            if pid and time.monotonic() - link.heard > HANGS_S:
                log.error("a worker hangs, and is killed", extra={"pid": pid})
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def wait_alone(self) -> None:
        """Wait, in a thread, until the other workers have left the leader, those that hang excepted."""
        end = time.monotonic() + LEAVE_S
        while time.monotonic() < end and any(not member.is_silent for member in tuple(self.members.values())):
            time.sleep(RETRY_S)

    def begin(self) -> None:
        """Lead or follow from now on, on this event loop."""
        self.loop = asyncio.get_running_loop()
        self._running = asyncio.create_task(self._run(), name="workers")

    def end(self) -> None:
        """Begin nothing more as the leader: this worker ends."""
        self._closing = True

    async def leave(self) -> None:
        """End all links, and let another worker lead."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        if self._server is not None:
            self._server.close()
        for link in (self.leader, *self.members):
            if link is not None:
                link.close()
        self.place.leave()

    async def _run(self) -> None:
        while True:
            try:
                if self.place.take_lead():
                    await self._lead()
                await self._follow()
            except OSError as error:
                log.error("the workers cannot meet", extra={"error": type(error).__name__})
            await asyncio.sleep(RETRY_S)

    async def _lead(self) -> None:
        self.place.socket.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve_member, self.place.socket)
        self.leads = True
        log.info("this worker leads", extra={"worker": self.place.index})
        if not self._closing:
            for begin in self._on_lead:
                begin()
        await asyncio.Event().wait()

    async def _follow(self) -> None:
        try:
            reader, writer = await asyncio.open_unix_connection(self.place.socket)
        except OSError:  # the one that leads has not come so far, or is gone
            return
        self.leader = link = Link(reader, writer, self._handle)
        link.tell(Joined(self.place.index, os.getpid()))
        try:
            await link.run()
        finally:
            self.leader, self.leader_pid = None, 0

    async def _serve_member(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer, self._handle)
        try:
            await link.run()
        finally:
            self.members.pop(link, None)
            async with self._heard:
                self._heard.notify_all()

    async def _handle(self, link: Link, message: AnyMessage) -> AnyMessage | None:
        if isinstance(message, Joined):
            self.members[link] = Member(link, message.index, message.pid)
            for begin in self._on_member:
                begin(link)
            return None
        if isinstance(message, Serves):
            await self._take_sign(link, message)
            return None
        subscriber = self._subscribers.get(type(message))
        return None if subscriber is None else await subscriber(message)


async def _done(_: object) -> Done:
    return Done()
