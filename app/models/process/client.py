"""Calls the model process, with a deadline and a memory limit on each call."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.child_process import ChildGone, ChildStopped, Watch
from app.config.settings import Settings
from app.models.artifact import ModelContent
from app.models.identity import ModelIdentity
from app.models.process.array_file import read_struct
from app.models.process.channel import Channel, Defect
from app.models.process.messages import (
    Build,
    Built,
    Card,
    Carded,
    Fetch,
    Look,
    MovePin,
    PinMoved,
    Request,
    Score,
    Scores,
    Version,
)
from app.models.refusal import ModelRefused
from app.models.registry.source import Candidate, Fetched, Offer, PlaceUnreachable, RegistryUnreachable

T = TypeVar("T")

EMBEDDED_TIMEOUT_S = 300.0
"""Deadline of a look into the embedded registry, a file of this machine that the first look creates."""

FILE_BYTES = 4096
"""Least size that a downloaded file counts as, since a disk has a limited number of files."""


class WorkerProcess:
    """A `ModelWorker` in a separate process, with a deadline on each call. One thread may call it at a time.

    The process is started by the first call, and again by a call that finds it gone.

    Args:
        settings: Settings with the registry, the model, and the deadlines.
        memory: Memory limit of the process, in bytes; a test passes its own.
        channel: The process, which other models may share; by default one of its own.
    """

    def __init__(self, settings: Settings, memory: int | None = None, channel: Channel | None = None) -> None:
        self._settings = settings
        self._channel = channel or Channel((settings,), memory)
        place = settings.place
        self._unreachable = RegistryUnreachable if place is None else PlaceUnreachable
        self._downloads = place is not None and place.kind != "file" and place.fixed_version is None
        self._spool: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> None:
        """Start the process beside the caller, so that the first call has its imports behind it."""
        self._channel.start()

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
        """End the process, and any call that waits for it, for all models that share it."""
        self._channel.close()
        self._empty_spool()

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
            memory = self._channel.too_much_memory(pid)
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
        ask = self._channel.look if isinstance(request, Look | Version) else self._channel.ask
        try:
            return ask(self._settings.model_name, request, timeout, kind, watch)
        except TimeoutError:
            raise self._unreachable(f"no answer within {timeout:g} s") from None
        except ChildGone:
            raise self._unreachable("the process that asks the registry ended before it answered") from None
        except Defect as defect:
            raise self._unreachable(str(defect)) from None

    def _ask_of_model(self, request: Build | Score, kind: type[T]) -> T:
        """Ask for work whose cost depends on the model, so that any failure refuses the model."""
        reading = isinstance(request, Build)
        timeout = self._settings.model_build_timeout
        try:
            return self._channel.ask(self._settings.model_name, request, timeout, kind)
        except TimeoutError:
            what = "reading it" if reading else "LightGBM's reading of it"
            raise ModelRefused(f"{what} took longer than MODEL_BUILD_TIMEOUT = {timeout:g} s") from None
        except ChildStopped as stopped:
            raise ModelRefused(f"to read it takes {stopped}") from None
        except Defect as defect:
            # A model can be strange in more ways than are foreseen, and none may cost more than its own refusal.
            raise ModelRefused(f"it cannot be loaded: {defect}") from None
        except ChildGone:
            if reading:
                raise ModelRefused("the process that was to read it ended over it") from None
            raise ModelRefused("LightGBM ended the process that it was to predict in", "kernels") from None


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
