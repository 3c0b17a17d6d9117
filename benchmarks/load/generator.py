"""Load generator: closed or open loop, with a record of when each request was due, sent and answered.

    python -m benchmarks.load.generator PLAN RECORD

One thread, non-blocking sockets and epoll; requests are bytes made beforehand, one at a time on each connection, which
is kept or, if the plan says so, made anew. PLAN is the file of a `Plan`, RECORD becomes a file for `read_record`.

- Closed loop: every connection sends the next request as soon as it is answered, until the time is over. Measures
  throughput.
- Open loop: requests are due at given times, whether or not earlier ones are answered. One that finds all connections
  busy waits here, and its latency is counted from when it was due: a server that stalls cannot hide the requests that
  it kept from being sent (G. Tene's "coordinated omission").

SIGTERM ends a closed loop before its time.

Why not wrk: it has no open loop (wrk2, a fork, has one) and does not look at what is answered. The price is the speed
of Python, which `just bench wrk` measures. The record says what share of a core the generator took, so that a reader
sees whether it or the server was the bottleneck.
"""

import errno
import gc
import math
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.load.answer import DROPPED, Answer
from benchmarks.load.plan import Plan, Record, write_record

READ_BYTES = 1 << 16
"""A megabyte halves the throughput: the memory is allocated anew at each read."""
RECONNECT_S = 0.05
"""Pause after a connection that is refused, so that a closed loop does not try for ever without one."""


class Connection:
    """A connection with at most one request under way."""

    __slots__ = ("answer", "left", "request", "socket", "writing")

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.request = -1
        """Index in the record; negative while no request is under way."""
        self.left = memoryview(b"")
        self.writing = False
        self.answer: Answer | None = None


class Generator:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._epoll = select.epoll()
        self._free = [Connection() for _ in range(plan.connections)]
        self._by_fd: dict[int, Connection] = {}
        self._busy = 0
        self._end = math.inf
        self._kept_bytes = max(plan.keep, *map(len, plan.starts), 0)
        self._due: list[float] = []
        self._sent: list[float] = []
        self._answered: list[float] = []
        self._status: list[int] = []
        self._right: list[bool] = []
        self._kept: list[bytes] = []

    def run(self) -> Record:
        """Run the plan (BadAnswer: the server does not speak HTTP/1.1 as it is understood here)."""
        for connection in self._free if not self._plan.fresh else ():
            self._connect(connection)
        cpu, start = time.process_time(), max(time.monotonic(), self._plan.begin)
        loop = self._closed if self._plan.arrivals is None else self._open
        loop(start)
        seconds = time.monotonic() - start
        share = (time.process_time() - cpu) / seconds
        for connection in list(self._by_fd.values()):
            self._close(connection)
        self._epoll.close()
        return Record(
            due=np.array(self._due, np.float64),
            sent=np.array(self._sent, np.float64),
            answered=np.array(self._answered, np.float64),
            status=np.array(self._status, np.int64),
            right=np.array(self._right, np.bool_),
            cpu_share=share,
            seconds=seconds,
            kept=np.array(self._kept, np.bytes_),
        )

    def stop(self, *_: object) -> None:
        """End a closed loop now: send nothing more, and wait for the answers under way."""
        self._end = min(self._end, time.monotonic())

    def _closed(self, start: float) -> None:
        self._end = start + self._plan.seconds
        patience, free = self._plan.patience, self._free
        for _ in range(self._plan.connections):
            self._send(free.pop(), time.monotonic())
        while (now := time.monotonic()) < self._end + patience and (self._busy or now < self._end):
            while free and time.monotonic() < self._end:
                self._send(free.pop(), time.monotonic())
            self._wait(self._end + patience - now if self._busy else 0)

    def _open(self, start: float) -> None:
        arrivals = [start + offset for offset in self._plan.arrivals or ()]
        end = (arrivals[-1] if arrivals else start) + self._plan.patience
        following = iter(arrivals)
        due = next(following, math.inf)
        while (now := time.monotonic()) < end and (self._busy or due < math.inf):
            while due <= now and (self._free or now - due > self._plan.give_up):
                if now - due > self._plan.give_up:
                    self._note(due, math.nan)
                else:
                    self._send(self._free.pop(), due)
                due = next(following, math.inf)
                now = time.monotonic()
            self._wait(min(due if self._free else now + min(self._plan.give_up, 1.0), end) - now)
        while due < math.inf:
            self._note(due, math.nan)
            due = next(following, math.inf)

    def _wait(self, seconds: float) -> None:
        """Handle events of the connections; wait for one at most so many seconds."""
        if self._plan.arrivals is None:
            events = self._epoll.poll(max(0.0, min(seconds, 1.0)))
        elif not (events := self._epoll.poll(0)) and seconds > 0:
            # By select, since epoll's own time-out comes in whole milliseconds.
            select.select([self._epoll], [], [], min(seconds, 1.0))
            events = self._epoll.poll(0)
        for fd, event in events:
            connection = self._by_fd.get(fd)
            if connection is not None:
                if event & ~select.EPOLLOUT:
                    self._read(connection)
                elif connection.request >= 0:
                    self._write(connection)

    def _note(self, due: float, sent: float) -> int:
        self._due.append(due)
        self._sent.append(sent)
        self._answered.append(math.nan)
        self._status.append(DROPPED)
        self._right.append(False)
        self._kept.append(b"")
        return len(self._due) - 1

    def _send(self, connection: Connection, due: float) -> None:
        connection.request = self._note(due, time.monotonic())
        connection.answer = Answer(self._kept_bytes)
        request = self._plan.requests[connection.request % len(self._plan.requests)]
        connection.left = memoryview(request)
        self._busy += 1
        if connection.socket is None:
            self._connect(connection)
        self._write(connection)

    def _write(self, connection: Connection) -> None:
        try:
            while connection.left and connection.socket is not None:
                connection.left = connection.left[connection.socket.send(connection.left) :]
        except BlockingIOError:
            self._watch(connection, select.EPOLLIN | select.EPOLLOUT)
            return
        except OSError:
            self._read(connection)  # it may have answered before it closed
            return
        if connection.socket is None:
            self._finish(connection, DROPPED)
        elif connection.writing:
            self._watch(connection, select.EPOLLIN)

    def _watch(self, connection: Connection, events: int) -> None:
        assert connection.socket is not None
        connection.writing = bool(events & select.EPOLLOUT)
        self._epoll.modify(connection.socket, events)

    def _read(self, connection: Connection) -> None:
        if connection.socket is None:
            return
        try:
            data = connection.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answer = connection.answer
        if not data or answer is None or connection.request < 0:
            self._close(connection)
            if connection.request >= 0:
                self._finish(connection, DROPPED)
        elif answer.feed(data):
            # What is not sent yet would be taken for the next request.
            if answer.closes or connection.left or self._plan.fresh:
                self._close(connection)
            self._finish(connection, answer.status)

    def _finish(self, connection: Connection, status: int) -> None:
        place, starts = connection.request, self._plan.starts
        if status:
            self._answered[place] = time.monotonic()
            self._status[place] = status
            assert connection.answer is not None
            self._right[place] = not starts or connection.answer.start.startswith(starts[place % len(starts)])
            self._kept[place] = connection.answer.start if self._plan.keep else b""
        connection.request = -1
        self._busy -= 1
        self._free.append(connection)

    def _connect(self, connection: Connection) -> None:
        """Begin to connect; a request can be written at once, and is sent when the connection is there."""
        opened = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if opened.connect_ex(("127.0.0.1", self._plan.port)) not in (0, errno.EINPROGRESS):
            opened.close()
            time.sleep(RECONNECT_S)
            return
        connection.socket, connection.writing = opened, False
        self._by_fd[opened.fileno()] = connection
        self._epoll.register(opened, select.EPOLLIN)

    def _close(self, connection: Connection) -> None:
        if connection.socket is not None:
            del self._by_fd[connection.socket.fileno()]
            connection.socket.close()
            connection.socket = None


def main() -> None:
    plan = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    with suppress(OSError):  # the 50 µs that Linux may let a sleeper wait longer
        Path("/proc/self/timerslack_ns").write_text("1")
    gc.disable()  # nothing here makes cycles
    generator = Generator(plan)
    signal.signal(signal.SIGTERM, generator.stop)
    write_record(Path(sys.argv[2]), generator.run())


if __name__ == "__main__":
    main()
