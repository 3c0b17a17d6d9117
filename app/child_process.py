"""A Python module that runs in a process of its own, and is ended when it does not answer in time.

Work that holds the interpreter's lock, hangs, or can end its process does not disturb requests there. The two sides
send each other messages of bytes over a socket, by `multiprocessing.connection` without its pickles. The first message
to the child is its setup, which it answers with an empty one when it is ready. Then each message is answered by one.
"""

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import NamedTuple

START_TIMEOUT_S = 120.0
"""Time for imports, which take seconds on a busy machine."""

STALL_TIMEOUT_S = 10
"""Time for which the child may read or write nothing in the middle of a message."""

WATCH_S = 0.05
"""Shortest pause between two calls of a watch."""


class ChildGone(Exception):
    """The process ended before it answered."""


class ChildNotStarted(Exception):
    """The process could not be started."""


class ChildClosed(Exception):
    """The process was closed for good."""


class ChildStopped(Exception):
    """The process was ended by its watch; the message is the reason."""


Watch = Callable[[int], str | None]
"""Takes a process's id, and returns a reason to end the process, or None."""


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    connection: Connection


class ChildProcess:
    """Starts a module, asks it, and ends it. One thread may ask at a time.

    The first question starts the process unless `start` has, and so does one that finds it ended.

    Args:
        module: Module to run as `python -m`.
        setup: First message to the process.
    """

    def __init__(self, module: str, setup: bytes) -> None:
        self._module = module
        self._setup = setup
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, content: bytes, timeout: float, watch: Watch | None = None) -> bytes:
        """Send a message, and return its answer. The process is ended on any failure.

        Args:
            content: Message to the process.
            timeout: Seconds for the answer; the start of the process is not counted.
            watch: Called again and again until the answer comes.

        Raises:
            TimeoutError: The answer took too long.
            ChildStopped: `watch` gave a reason to end the process.
            ChildGone: The process ended.
            ChildNotStarted: The process could not be started.
            ChildClosed: `kill` was called.
        """
        return self._exchange(self._running(), content, timeout, watch)

    def start(self) -> None:
        """Start the process unless it runs, so that the first question need not wait for its imports.

        Raises:
            ChildNotStarted: The process could not be started.
            ChildClosed: `kill` was called.
        """
        self._running()

    def kill(self) -> None:
        """End the process for good, and with it any call that waits for an answer."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.process.kill()

    def end(self) -> None:
        """End the process and close its connection; not while another thread asks."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.process.kill()
            child.process.wait()
            child.connection.close()

    def finish(self, seconds: float) -> None:
        """End the connection for good, so that the process ends by itself, and kill it if it does not in time.

        Not while another thread asks; one that starts the process is told that it is gone.

        Args:
            seconds: Time for the process to end.
        """
        with self._lock:
            self._closed = True
            child = self._child
        if child is not None:
            with suppress(OSError), socket.socket(fileno=os.dup(child.connection.fileno())) as ours:
                ours.shutdown(socket.SHUT_RDWR)  # unlike a close, this wakes a thread that waits for an answer
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(seconds)
            self.end()

    def _running(self) -> _Child:
        child = self._child
        return self._start() if child is None or child.process.poll() is not None else child

    def _start(self) -> _Child:
        self.end()
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", STALL_TIMEOUT_S, 0))
        with self._lock, ours, theirs:
            if self._closed:
                raise ChildClosed
            try:
                # What it prints is for the log. In a session of its own no interrupt from a terminal reaches it.
                command = [sys.executable, "-m", self._module]
                process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=2, start_new_session=True)
            except OSError as error:
                raise ChildNotStarted from error
            child = self._child = _Child(process, Connection(ours.detach()))
        try:
            self._exchange(child, self._setup, START_TIMEOUT_S)
        except (TimeoutError, ChildGone):
            raise ChildNotStarted from None
        return child

    def _exchange(self, child: _Child, content: bytes, timeout: float, watch: Watch | None = None) -> bytes:
        end = time.monotonic() + timeout
        try:
            child.connection.send_bytes(content)
            pause = timeout if watch is None else 0.0
            while not child.connection.poll(pause):
                started = time.monotonic()
                if started >= end:
                    raise TimeoutError
                if watch is not None and (reason := watch(child.process.pid)) is not None:
                    raise ChildStopped(reason)
                now = time.monotonic()
                # A slow watch, such as one that looks at a directory of many files, is called less often.
                pause = max(0.0, min(end - now, max(WATCH_S, 10 * (now - started))))
            return child.connection.recv_bytes()
        except BaseException as error:
            self.end()
            if isinstance(error, BlockingIOError):  # STALL_TIMEOUT_S has passed
                raise TimeoutError from None
            if isinstance(error, OSError | EOFError) and not isinstance(error, TimeoutError):
                raise ChildGone from None
            raise


def parent() -> Connection:
    """The connection to the parent process, for the child; libraries find its standard input empty from now on."""
    connection = Connection(os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return connection
