"""A Python module that runs in a process of its own, and is ended when it does not answer in time.

Work that holds the interpreter's lock, hangs, or can end its process costs requests nothing there. Both sides speak in
frames over the child's standard streams: eight bytes of length, then the content. The first frame in is for the child
to begin with, the first one out is empty and says that it is ready; then each one in is answered by one out.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import BinaryIO, cast

LENGTH_BYTES = 8

START_TIMEOUT_S = 120.0
"""For imports, which take seconds on a busy machine."""


WATCH_S = 0.05


class ChildGone(Exception):
    """The process ended before it answered."""


class ChildNotStarted(Exception):
    """There is no process to be asked."""


class ChildClosed(Exception):
    """There is to be no process any more."""


class ChildStopped(Exception):
    """The process was ended by what watched it; the message is the reason."""


Watch = Callable[[int], str | None]
"""Given a process's id, says why to end it, if there is a reason."""


class ChildProcess:
    """Starts a module, asks it, and ends it. One thread may ask at a time.

    The process is started by the first question, and anew by one that finds it gone.

    Args:
        module: To be run as `python -m`.
        setup: The first frame.
    """

    def __init__(self, module: str, setup: bytes) -> None:
        self._module = module
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._closed = False

    def ask(self, content: bytes, timeout: float, watch: Watch | None = None) -> bytes:
        """Send a frame, and give the one that answers it.

        Args:
            content: Of the frame.
            timeout: Seconds until the process is ended instead, its start not counted.
            watch: Called again and again until it has answered.

        Raises:
            TimeoutError: It took too long.
            ChildStopped: `watch` had it ended.
            ChildGone: The process ended.
            ChildNotStarted: There is none.
            ChildClosed: This was closed.
        """
        process = self._running()
        return self._within(timeout, process, content, watch)

    def kill(self) -> None:
        """End the process, and with that any call that waits for it; no other is started."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def end(self) -> None:
        """End the process and let go of its pipes; not while another thread asks."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was not sent cannot be sent any more
                    if pipe is not None:
                        pipe.close()

    def _running(self) -> "subprocess.Popen[bytes]":
        """The process, ready to be asked."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.end()
        with self._lock:
            if self._closed:
                raise ChildClosed
            try:
                # In a session of its own: an interrupt from a terminal is the parent's to handle.
                process = self._process = subprocess.Popen(
                    [sys.executable, "-m", self._module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildNotStarted from error
        try:
            self._within(START_TIMEOUT_S, process, self._setup)
        except (TimeoutError, ChildGone):
            raise ChildNotStarted from None
        return process

    def _within(
        self, timeout: float, process: "subprocess.Popen[bytes]", content: bytes, watch: Watch | None = None
    ) -> bytes:
        """Send a frame and read one. The process is ended if that takes too long, or fails."""
        answered = threading.Event()
        ended: list[Exception] = []

        def look() -> None:
            deadline = time.monotonic() + timeout
            while (left := deadline - time.monotonic()) > 0:
                started = time.monotonic()
                if watch is not None and (reason := watch(process.pid)) is not None:
                    ended.append(ChildStopped(reason))
                    break
                # A look that takes long, as into a directory of many files, is taken less often.
                pause = left if watch is None else max(WATCH_S, 10 * (time.monotonic() - started))
                if answered.wait(min(left, pause)):
                    return
            if not answered.is_set():
                ended.append(TimeoutError())
                process.kill()

        threading.Thread(target=look, name="child-watch", daemon=True).start()
        try:
            write_frame(cast(BinaryIO, process.stdin), content)
            return read_frame(cast(BinaryIO, process.stdout))
        except (OSError, EOFError):
            self.end()
            raise ended[0] if ended else ChildGone() from None
        finally:
            answered.set()


def parents_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Requests and answers, for the child; what a library prints lands on standard error from now on."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return requests, answers


def read_frame(stream: BinaryIO) -> bytes:
    """The next frame.

    Raises:
        EOFError: The other side has gone.
    """
    length = _read_exactly(stream, LENGTH_BYTES)
    return _read_exactly(stream, int.from_bytes(length, "little"))


def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Send a frame."""
    stream.write(len(content).to_bytes(LENGTH_BYTES, "little") + content)
    stream.flush()


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise EOFError
    return content
