"""The channel to the model process, which works for all models of the service, one question at a time.

Its messages (`child_process`) are MessagePack; the first one is the settings of each model.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import msgspec
import psutil

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess, Watch
from app.config.settings import Settings
from app.models.process.messages import Answer, Failure, Order, Request, path_from_text
from app.models.refusal import ModelRefused
from app.models.registry.source import (
    ModelUnknown,
    NothingToServe,
    PinNotMoved,
    PlaceUnreachable,
    RegistrySchema,
    RegistryUnreachable,
    VersionUnknown,
)
from app.telemetry.system import memory_bytes

T = TypeVar("T")

MEMORY_SHARE = 2
LEAST_MEMORY = 1024**3
"""Memory limit of the process: half of the machine's or container's memory, but at least a GiB. MLflow and LightGBM
take a quarter of a GiB before anything is read."""

SLOW_S = 1.0
"""Least wait in vain that other models are spared."""

FAILURES: dict[str, type[Exception]] = {kind.__name__: kind for kind in (ModelUnknown, NothingToServe, VersionUnknown)}
UNREACHABLE: dict[str, type[RegistryUnreachable]] = {
    kind.__name__: kind for kind in (RegistryUnreachable, RegistrySchema, PlaceUnreachable, PinNotMoved)
}


class Defect(Exception):
    """An unforeseen exception in the process; the message is its class."""


class _Outage(NamedTuple):
    """A look that the registry did not answer.

    Attributes:
        model: Model that it was for.
        error: What it was told.
        until: End of the time in which looks for other models are told the same, monotonic.
    """

    model: str
    error: TimeoutError | RegistryUnreachable
    until: float


class Channel:
    """Asks the model process. Any thread may ask; each waits for its turn.

    The process is started by the first question, and again by one that finds it gone.

    Args:
        models: Settings of all models.
        memory: Memory limit of the process, in bytes; a test passes its own.
    """

    def __init__(self, models: Sequence[Settings], memory: int | None = None) -> None:
        self._memory = memory or max(LEAST_MEMORY, memory_bytes() // MEMORY_SHARE)
        self._asking = threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(Answer, dec_hook=path_from_text)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=str)
        self._process = ChildProcess("app.models.process.worker", self._encoder.encode(models))
        self._outage: _Outage | None = None

    def ask(self, model: str, request: Request, timeout: float, kind: type[T], watch: Watch | None = None) -> T:
        """Ask about a model.

        Args:
            model: Its name.
            request: The question.
            timeout: Seconds for the answer.
            kind: Type of the answer.
            watch: Called with the number of the process again and again until the answer comes; by default, the
                memory of the process is watched.

        Raises:
            TimeoutError: The answer took too long.
            ChildStopped: `watch` gave a reason to end the process.
            ChildGone: The process ended.
            Defect: The process met what nobody foresees.
            RegistryUnreachable: The process could not be started; or as the question says.
            ModelRefused, NothingToServe, VersionUnknown, OSError: As the question says.
        """
        content = self._encoder.encode(Order(model, request))
        with self._asking:
            answer = self._decoder.decode(self._exchange(content, timeout, watch or self.too_much_memory))
        if isinstance(answer, Failure):
            raise _error_of(answer)
        if not isinstance(answer, kind):
            raise TypeError(f"asked for {kind.__name__}, the model worker answered {type(answer).__name__}")
        return answer

    def look(self, model: str, request: Request, timeout: float, kind: type[T], watch: Watch | None = None) -> T:
        """Ask the registry about versions of a model.

        If it has just let a look for another model wait in vain, it is not asked: so a round of looks at a registry
        that is away waits once, and not once for each model.

        Raises:
            Exception: As `ask` does.
        """
        outage = self._outage
        if outage is not None and outage.model != model and time.monotonic() < outage.until:
            raise _again(outage.error)
        began = time.monotonic()
        try:
            return self.ask(model, request, timeout, kind, watch)
        except (TimeoutError, RegistryUnreachable) as error:
            ended = time.monotonic()
            if ended - began >= SLOW_S:
                self._outage = _Outage(model, error, ended + (ended - began))
            raise

    def too_much_memory(self, pid: int) -> str | None:
        """What the process takes, if that is too much memory."""
        try:
            taken = psutil.Process(pid).memory_info().rss
        except psutil.Error:  # it has ended
            return None
        return f"more than {self._memory // 2**20} MiB of memory" if taken > self._memory else None

    def start(self) -> None:
        """Start the process beside the caller, so that the first question has its imports behind it."""
        threading.Thread(target=self._start, name="model-process", daemon=True).start()

    def close(self) -> None:
        """End the process for good, and any call that waits for it."""
        self._process.kill()
        with self._asking:  # until a waiting call has ended
            self._process.end()

    def _start(self) -> None:
        with self._asking, suppress(ChildNotStarted, ChildClosed):  # of which the first question tells
            self._process.start()

    def _exchange(self, content: bytes, timeout: float, watch: Watch) -> bytes:
        try:
            try:
                return self._process.ask(content, timeout, watch)
            except ChildGone:
                # It ends by itself when nothing is asked for a while, which may be in this very moment.
                return self._process.ask(content, timeout, watch)
        except ChildNotStarted:
            raise RegistryUnreachable("the process that asks the registry did not start") from None
        except ChildClosed:
            raise RegistryUnreachable("the service is stopping") from None


def _error_of(failure: Failure) -> Exception:
    """The exception that a failure in the process stands for."""
    if failure.kind == "OSError":
        return OSError(failure.errno, failure.message)
    if failure.kind == "ModelRefused":
        return ModelRefused(failure.message, failure.check)
    if failure.kind in FAILURES:
        return FAILURES[failure.kind](failure.message)
    if failure.kind == "other":
        return Defect(failure.message)
    return UNREACHABLE[failure.kind](failure.message, failure.detail)


def _again(error: TimeoutError | RegistryUnreachable) -> Exception:
    if isinstance(error, RegistryUnreachable):
        return type(error)(str(error), error.detail)
    return TimeoutError()
