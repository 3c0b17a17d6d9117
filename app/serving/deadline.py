"""The time that requests have, without a timer for each.

All requests have equally long, so the one that began first is the first to run out: one timer, set for that one,
serves them all, and a request that is answered in time costs an entry in a dict.
"""

import asyncio
from types import TracebackType
from typing import Any, Self

from app.errors import BodyTimeout, DeadlineExceeded, Disconnected


class Deadlines:
    """Ends requests that take too long.

    Args:
        seconds: That each one has.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> "Deadline":
        """The deadline of a request that begins now; to be entered at once, by the task that answers it."""
        return Deadline(self)

    def add(self, deadline: "Deadline") -> None:
        """Watch a request."""
        self._running[deadline] = None
        if self._timer is None:
            self._timer = deadline.loop.call_at(deadline.ends, self._expire)

    def remove(self, deadline: "Deadline") -> None:
        """Watch it no longer."""
        self._running.pop(deadline, None)

    def _expire(self) -> None:
        """End what has run out, and come back for the next."""
        self._timer = None
        while self._running:
            first = next(iter(self._running))
            if first.ends > first.loop.time():
                self._timer = first.loop.call_at(first.ends, self._expire)
                return
            del self._running[first]
            first.expire()


class Deadline:
    """One request's. Leaving it raises what the request was ended for, in the place of the cancellation.

    Attributes:
        ends: Time of the event loop.
        reading: Whether the body is still coming; whose fault it is that time runs out depends on that.
    """

    __slots__ = ("_cancelling", "_deadlines", "_ended", "_task", "ends", "loop", "reading")

    def __init__(self, deadlines: Deadlines) -> None:
        self.loop = asyncio.get_running_loop()
        self.ends = self.loop.time() + deadlines.seconds
        self.reading = True
        self._deadlines = deadlines
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._ended: Exception | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if self._ended is not None and self._task is not None:
            others = self._task.uncancel() > self._cancelling
            if kind is asyncio.CancelledError and not others:
                raise self._ended from None

    def expire(self) -> None:
        """End the request because its time is over."""
        seconds = f"{self._deadlines.seconds:g} seconds"
        self.end(
            BodyTimeout(f"The body did not come within {seconds}.")
            if self.reading
            else DeadlineExceeded(f"The request was not answered within {seconds}.")
        )

    def disconnect(self) -> None:
        """End the request because its caller has gone."""
        self.end(Disconnected())

    def end(self, reason: Exception) -> None:
        """Cancel what is done for the request; leaving the deadline raises the reason."""
        if self._ended is None and self._task is not None:
            self._ended = reason
            self._task.cancel()
