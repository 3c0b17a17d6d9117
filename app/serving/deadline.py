"""Time limits of requests, without a timer for each.

All requests have the same time limit, so the oldest one expires first. One timer, set for the oldest, is enough for
all of them, and a request that is answered in time costs one entry in a dict. A client that reads a large answer has as
much time again for each part of it: then the request becomes the youngest one. When that has expired, the client may
still be reading what the kernel holds of the answer, so it is given the same time again as long as that gets less.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from app.errors import AnswerTimeout, BodyTimeout, DeadlineExceeded, Disconnected


class Deadlines:
    """Ends requests that take too long.

    Args:
        seconds: Time limit of each request.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> "Deadline":
        """Create the deadline of a request that begins now. The task that answers it must enter it at once."""
        return Deadline(self)

    def add(self, deadline: "Deadline") -> None:
        """Add a request to those that are watched."""
        self._running[deadline] = None
        if self._timer is None:
            self._timer = deadline.loop.call_at(deadline.ends, self._expire)

    def remove(self, deadline: "Deadline") -> None:
        """Stop watching a request."""
        self._running.pop(deadline, None)

    def _expire(self) -> None:
        """End the requests that have expired, and set the timer for the next one."""
        self._timer = None
        while self._running:
            first = next(iter(self._running))
            if first.ends > first.loop.time():
                self._timer = first.loop.call_at(first.ends, self._expire)
                return
            del self._running[first]
            first.expire()


class Deadline:
    """Deadline of one request. On exit it raises the reason for which the request was ended, not a cancellation.

    Attributes:
        ends: Time of the event loop at which the request expires.
        reading: Whether the body is still being read. If so, an expired request is the client's fault.
        sending: Whether the answer is being sent in parts. If so, it is the client's fault too.
    """

    __slots__ = (
        "_cancelling", "_deadlines", "_ended", "_read", "_read_before", "_task", "ends", "loop", "reading", "sending",
    )  # fmt: skip

    def __init__(self, deadlines: Deadlines) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends = self.loop.time() + deadlines.seconds
        self.reading = True
        self.sending = False
        self._deadlines = deadlines
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._ended: Exception | None = None
        self._read: Callable[[], int | None] | None = None
        self._read_before = -1

    def __enter__(self) -> Self:
        self._task = asyncio.current_task(self.loop)
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        task, self._task = self._task, None
        ended, self._ended = self._ended, None
        if ended is not None and task is not None:
            others = task.uncancel() > self._cancelling
            if kind is asyncio.CancelledError and not others:
                try:
                    raise ended from None
                finally:  # or else reason and traceback keep each other, and with them all that the request held
                    del ended, error, traceback

    def send_in_parts(self, read: Callable[[], int | None]) -> None:
        """Give the client the whole time limit for each part of its answer.

        Args:
            read: How many bytes the client has read, None if that is not known.
        """
        self.sending = True
        self._read = read

    def restart(self) -> None:
        """Begin the time limit anew."""
        self._deadlines.remove(self)
        self.ends = self.loop.time() + self._deadlines.seconds
        self._deadlines.add(self)

    def expire(self) -> None:
        """End the request because it has expired."""
        seconds = f"{self._deadlines.seconds:g} seconds"
        if self.sending and self._has_read_more():
            self.restart()
        elif self.sending:
            self.end(AnswerTimeout(f"The client read nothing of the answer for {seconds}."))
        elif self.reading:
            self.end(BodyTimeout(f"The body did not arrive within {seconds}."))
        else:
            self.end(DeadlineExceeded(f"The request was not answered within {seconds}."))

    def _has_read_more(self) -> bool:
        """Whether the client has read more than when this was asked before."""
        before, read = self._read_before, None if self._read is None else self._read()
        self._read_before = -1 if read is None else read
        return read is not None and read > before

    def disconnect(self) -> None:
        """End the request because its client has gone."""
        self.end(Disconnected())

    def end(self, reason: Exception) -> None:
        """Cancel the task that answers the request; the exit of the deadline then raises the reason."""
        if self._ended is None and self._task is not None:
            self._ended = reason
            self._task.cancel()
