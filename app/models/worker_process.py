"""Asks the model worker, in its process."""

import threading
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.child_process import ChildClosed, ChildGone, ChildNotStarted, ChildProcess
from app.models.artifact import ModelIdentity
from app.models.signature import ModelRefused
from app.models.source import (
    Candidate,
    Fetched,
    ModelUnknown,
    NothingToServe,
    Offer,
    RegistrySchema,
    RegistryUnreachable,
    VersionUnknown,
)
from app.models.worker import (
    Answer,
    Failure,
    Fetch,
    Look,
    Request,
    Score,
    Scores,
    Version,
    path_from_text,
)
from app.settings import Settings

T = TypeVar("T")

EMBEDDED_TIMEOUT_S = 300.0
"""For a look into the embedded registry, which the first one creates. It is a file of this machine."""

SCORE_TIMEOUT_S = 300.0

FAILURES: dict[str, type[Exception]] = {kind.__name__: kind for kind in (ModelUnknown, NothingToServe, VersionUnknown)}


class WorkerProcess:
    """A `ModelWorker` in a process of its own, with a deadline on each call. One thread may call it at a time.

    The process is started by the first call, and anew by one that finds it gone.

    Args:
        settings: Name the registry, the model, and the deadlines.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._asking = threading.Lock()
        self._decoder = msgspec.msgpack.Decoder(Answer, dec_hook=path_from_text)
        self._encoder = msgspec.msgpack.Encoder(enc_hook=str)
        self._process = ChildProcess("app.models.worker", self._encoder.encode(settings))

    def look(self) -> Offer:
        """See `Registry.look`; a registry that has not answered by MODEL_LOOKUP_TIMEOUT is unreachable."""
        return self._ask(Look(), self._look_timeout(), Offer)

    def version(self, number: str) -> Candidate:
        """See `Registry.version`; likewise."""
        return self._ask(Version(number), self._look_timeout(), Candidate)

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`; a download that has not ended by MODEL_FETCH_TIMEOUT has failed."""
        return self._ask(Fetch(identity, destination), self._settings.model_fetch_timeout, Fetched)

    def raw_scores(self, text: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `ModelWorker.raw_scores`.

        Raises:
            ModelRefused: LightGBM does not take it, or ended the process over it.
        """
        question = Score(text, (len(rows), rows.shape[1]), np.ascontiguousarray(rows, dtype=np.float64).tobytes())
        try:
            answer = self._ask(question, SCORE_TIMEOUT_S, Scores)
        except ChildGone:
            raise ModelRefused("LightGBM ended the process that it was to predict in", "kernels") from None
        return np.frombuffer(answer.values).reshape(answer.shape)

    def close(self) -> None:
        """End the process, and with that any call that waits for it."""
        self._process.kill()
        with self._asking:  # a call that waited ends now
            self._process.end()

    def _look_timeout(self) -> float:
        return EMBEDDED_TIMEOUT_S if self._settings.embedded_registry else self._settings.model_lookup_timeout

    def _ask(self, request: Request, timeout: float, kind: type[T]) -> T:
        content = self._encoder.encode(request)
        with self._asking:
            try:
                answer = self._decoder.decode(self._exchange(content, timeout))
            except ChildGone:
                # It ends by itself when nothing is asked for a while, which may be in this very moment.
                try:
                    answer = self._decoder.decode(self._exchange(content, timeout))
                except ChildGone:
                    if isinstance(request, Score):
                        raise
                    raise RegistryUnreachable("the process that asks the registry ended before it answered") from None
        if isinstance(answer, Failure):
            if answer.kind == "OSError":
                raise OSError(answer.errno, answer.message)
            if answer.kind == "ModelRefused":
                raise ModelRefused(answer.message, "kernels")
            if answer.kind in FAILURES:
                raise FAILURES[answer.kind](answer.message)
            unreachable = RegistrySchema if answer.kind == "RegistrySchema" else RegistryUnreachable
            raise unreachable(answer.message, answer.detail)
        if not isinstance(answer, kind):
            raise TypeError(f"asked for {kind.__name__}, the model worker answered {type(answer).__name__}")
        return answer

    def _exchange(self, content: bytes, timeout: float) -> bytes:
        try:
            return self._process.ask(content, timeout)
        except TimeoutError:
            raise RegistryUnreachable(f"no answer within {timeout:g} s") from None
        except ChildNotStarted:
            raise RegistryUnreachable("the process that asks the registry did not start") from None
        except ChildClosed:
            raise RegistryUnreachable("the service is stopping") from None
