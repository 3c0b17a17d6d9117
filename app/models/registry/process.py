"""Calls the model process, with a deadline and a memory limit on each call."""

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess, ChildStopped, Watch
from app.config.settings import Settings
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity
from app.models.refusal import ModelRefused
from app.models.registry.array_file import read_struct
from app.models.registry.messages import (
    Answer,
    Build,
    Built,
    Card,
    Carded,
    Failure,
    Fetch,
    Look,
    MovePin,
    PinMoved,
    Request,
    Score,
    Scores,
    Version,
    path_from_text,
)
from app.models.registry.source import (
    Candidate,
    Fetched,
    ModelUnknown,
    NothingToServe,
    Offer,
    PinNotMoved,
    PlaceUnreachable,
    RegistrySchema,
    RegistryUnreachable,
    VersionUnknown,
)
from app.telemetry.system import memory_bytes

T = TypeVar("T")

EMBEDDED_TIMEOUT_S = 300.0
"""Deadline of a look into the embedded registry, a file of this machine that the first look creates."""

MEMORY_SHARE = 2
LEAST_MEMORY = 1024**3
"""Memory limit of the process: half of the machine's or container's memory, but at least a GiB. MLflow and LightGBM
take a quarter of a GiB before anything is read."""

FILE_BYTES = 4096
"""Least size that a downloaded file counts as, since a disk has a limited number of files."""

FAILURES: dict[str, type[Exception]] = {kind.__name__: kind for kind in (ModelUnknown, NothingToServe, VersionUnknown)}
UNREACHABLE: dict[str, type[RegistryUnreachable]] = {
    kind.__name__: kind for kind in (RegistryUnreachable, RegistrySchema, PlaceUnreachable, PinNotMoved)
}


class _Defect(Exception):
    """An unforeseen exception in the process; the message is its class."""


class WorkerProcess:
    """A `ModelWorker` in a separate process, with a deadline on each call. One thread may call it at a time.

    The process is started by the first call, and again by a call that finds it gone.

    Args:
        settings: Settings with the registry, the model, and the deadlines.
        memory: Memory limit of the process, in bytes; a test passes its own.
    """

    def __init__(self, settings: Settings, memory: int | None = None) -> None:
        self._settings = settings
        self._memory = memory or max(LEAST_MEMORY, memory_bytes() // MEMORY_SHARE)
        place = settings.place
        self._unreachable = RegistryUnreachable if place is None else PlaceUnreachable
        self._downloads = place is not None and place.kind != "file" and place.fixed_version is None
        self._spool: tempfile.TemporaryDirectory[str] | None = None
        self._asking = threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(Answer, dec_hook=path_from_text)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=str)
        self._process = ChildProcess("app.models.registry.worker", self._encoder.encode(settings))

    def start(self) -> None:
        """Start the process beside the caller, so that the first call has its imports behind it."""
        threading.Thread(target=self._start, name="model-process", daemon=True).start()

    def look(self) -> Offer:
        """See `Registry.look` and `Place.look`. What gives no answer by MODEL_LOOKUP_TIMEOUT is unreachable.

        A look that downloads files has the limits of a fetch.
        """
        self._empty_spool()
        if not self._downloads:
            return self._look_up(Look(), Offer)
        self._spool = tempfile.TemporaryDirectory(prefix="madrone-look-")
        directory = Path(self._spool.name)
        try:
            timeout, watch = self._settings.model_fetch_timeout, self._watch(directory)
            return self._ask_registry(Look(directory), timeout, Offer, watch)
        except ChildStopped as stopped:
            raise PlaceUnreachable(str(stopped)) from None

    def version(self, number: str) -> Candidate:
        """See `Registry.version`. A registry without an answer by MODEL_LOOKUP_TIMEOUT is unreachable."""
        return self._look_up(Version(number), Candidate)

    def move_pin(self, number: str | None) -> None:
        """See `Registry.move_pin`. A registry without an answer by MODEL_LOOKUP_TIMEOUT is unreachable."""
        if self._settings.model_pin_alias is not None:
            self._look_up(MovePin(number), PinMoved)

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`. A download beyond MODEL_FETCH_TIMEOUT has failed.

        Raises:
            ModelRefused: The files have more than MODEL_MAX_BYTES; the download stops there.
        """
        timeout, watch = self._settings.model_fetch_timeout, self._watch(destination)
        try:
            fetched = self._ask_registry(Fetch(identity, destination), timeout, Fetched, watch)
        except ChildStopped as stopped:
            raise ModelRefused(str(stopped)) from None
        finally:
            self._empty_spool()
        if (reason := self._too_large(destination)) is not None:  # the last bytes came after the last check
            raise ModelRefused(reason)
        return fetched

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        """See `Registry.card`. A download beyond MODEL_FETCH_TIMEOUT has failed."""
        timeout, watch = self._settings.model_fetch_timeout, self._watch(destination)
        try:
            return self._ask_registry(Card(identity, destination), timeout, Carded, watch).directory
        except ChildStopped as stopped:
            raise self._unreachable(str(stopped)) from None

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """See `ModelWorker.build`.

        Raises:
            ModelRefused: The model cannot be served, or took longer than MODEL_BUILD_TIMEOUT or too much memory.
        """
        with tempfile.TemporaryDirectory(prefix="madrone-build-") as temporary:
            destination = Path(temporary, "content")
            self._ask_of_model(Build(directory, digest, destination), Built)
            return read_struct(destination, ModelContent)

    def raw_scores(self, booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `ModelWorker.raw_scores`.

        Raises:
            ModelRefused: LightGBM refuses the booster or crashes over it, or as for `build`.
        """
        values = np.ascontiguousarray(rows, dtype=np.float64).tobytes()
        answer = self._ask_of_model(Score(booster, (len(rows), rows.shape[1]), values), Scores)
        return np.frombuffer(answer.values).reshape(answer.shape)

    def close(self) -> None:
        """End the process, and any call that waits for it."""
        self._process.kill()
        with self._asking:  # until a waiting call has ended
            self._process.end()
        self._empty_spool()

    def _start(self) -> None:
        with self._asking, contextlib.suppress(ChildNotStarted, ChildClosed):  # of which the first call tells
            self._process.start()

    def _empty_spool(self) -> None:
        """Remove what the last look has downloaded."""
        if self._spool is not None:
            self._spool.cleanup()
            self._spool = None

    def _too_large(self, directory: Path) -> str | None:
        most = self._settings.model_max_bytes
        return f"its files have more than MODEL_MAX_BYTES = {most} bytes" if _size(directory) > most else None

    def _watch(self, directory: Path) -> Watch:
        """Watch over a download to a directory."""

        def too_much(pid: int) -> str | None:
            memory = self._too_much_memory(pid)
            return self._too_large(directory) if memory is None else f"to fetch it takes {memory}"

        return too_much

    def _look_up(self, request: Look | Version | MovePin, kind: type[T]) -> T:
        settings = self._settings
        timeout = EMBEDDED_TIMEOUT_S if settings.embedded_registry else settings.model_lookup_timeout
        try:
            return self._ask_registry(request, timeout, kind)
        except ChildStopped as stopped:
            raise self._unreachable(f"its answer takes {stopped}") from None

    def _ask_registry(self, request: Request, timeout: float, kind: type[T], watch: Watch | None = None) -> T:
        try:
            return self._ask(request, timeout, kind, watch or self._too_much_memory)
        except TimeoutError:
            raise self._unreachable(f"no answer within {timeout:g} s") from None
        except ChildGone:
            raise self._unreachable("the process that asks the registry ended before it answered") from None
        except _Defect as defect:
            raise self._unreachable(str(defect)) from None

    def _ask_of_model(self, request: Build | Score, kind: type[T]) -> T:
        """Ask for work whose cost depends on the model, so that any failure refuses the model."""
        reading = isinstance(request, Build)
        timeout = self._settings.model_build_timeout
        try:
            return self._ask(request, timeout, kind, self._too_much_memory)
        except TimeoutError:
            what = "reading it" if reading else "LightGBM's reading of it"
            raise ModelRefused(f"{what} took longer than MODEL_BUILD_TIMEOUT = {timeout:g} s") from None
        except ChildStopped as stopped:
            raise ModelRefused(f"to read it takes {stopped}") from None
        except _Defect as defect:
            # A model can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            raise ModelRefused(f"it cannot be loaded: {defect}") from None
        except ChildGone:
            if reading:
                raise ModelRefused("the process that was to read it ended over it") from None
            raise ModelRefused("LightGBM ended the process that it was to predict in", "kernels") from None

    def _ask(self, request: Request, timeout: float, kind: type[T], watch: Watch) -> T:
        content = self._encoder.encode(request)
        with self._asking:
            answer = self._decoder.decode(self._exchange(content, timeout, watch))
        if isinstance(answer, Failure):
            if answer.kind == "OSError":
                raise OSError(answer.errno, answer.message)
            if answer.kind == "ModelRefused":
                raise ModelRefused(answer.message, answer.check)
            if answer.kind in FAILURES:
                raise FAILURES[answer.kind](answer.message)
            if answer.kind == "other":
                raise _Defect(answer.message)
            raise UNREACHABLE[answer.kind](answer.message, answer.detail)
        if not isinstance(answer, kind):
            raise TypeError(f"asked for {kind.__name__}, the model worker answered {type(answer).__name__}")
        return answer

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

    def _too_much_memory(self, pid: int) -> str | None:
        try:
            taken = psutil.Process(pid).memory_info().rss
        except psutil.Error:  # it has ended
            return None
        return f"more than {self._memory // 2**20} MiB of memory" if taken > self._memory else None


def _size(directory: Path) -> int:
    """Bytes of all files below a directory, which another process may change meanwhile."""
    total = 0
    for parent, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):
                total += max(FILE_BYTES, os.lstat(os.path.join(parent, name)).st_size)
    return total


def quiet_worker(settings: Settings) -> WorkerProcess:
    """A process for a command, which is being started.

    Only errors are logged: the command tells people itself what went wrong.
    """
    worker = WorkerProcess(msgspec.structs.replace(settings, log_level="ERROR", api_debug=False))
    worker.start()
    return worker
