"""The model process, which calls MLflow and LightGBM for the service.

    python -m app.models.process.worker

Both are slow to import, need as much memory as the service, and keep no deadlines, and LightGBM can crash over a
damaged text. In a separate process none of that delays a request: it is started by the first call, killed when it
misses a deadline, and ends by itself after LINGER_S seconds without a call.

Its messages (`child_process`) are MessagePack; the first one is the settings of each model.
"""

import gc
import logging.config
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.child_process import parent
from app.config.settings import Settings
from app.models.artifact import ModelContent, read_content
from app.models.directory import MAX_BOOSTER_BYTES, read_file
from app.models.identity import ModelIdentity
from app.models.objects.booster import stored_booster
from app.models.process.array_file import write_struct
from app.models.process.messages import (
    Answer,
    Build,
    Built,
    Card,
    Carded,
    Failure,
    Fetch,
    Look,
    MovePin,
    Order,
    PinMoved,
    Request,
    Score,
    Scores,
    Version,
    path_from_text,
)
from app.models.refusal import ModelRefused
from app.models.registry.embedded import prepare_embedded_registry
from app.models.registry.mlflow import Registry
from app.models.registry.place import Place
from app.models.registry.source import (
    Candidate,
    Fetched,
    ModelUnknown,
    NothingToServe,
    Offer,
    RegistryUnreachable,
    VersionUnknown,
)
from app.telemetry.logging import logging_config
from kernels.forest.booster import read_booster
from kernels.forest.errors import ForestError
from kernels.forest.layout import BoosterText

LINGER_S = 30.0
"""Seconds without a request after which the process ends: looks in quick succession share it, rare ones free it."""

NICENESS = 10  # requests are served first where the processor is short


class ModelWorker:
    """Work of the model process. Tests do it in their own process, without deadlines.

    Args:
        settings: Settings that name the registry and the model.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        place = settings.place
        self._registry = Registry(settings) if place is None else Place(settings, place)
        self._prepared = not settings.embedded_registry

    def prepare(self) -> None:
        """See `Registry.prepare` and `Place.prepare`."""
        self._registry.prepare()

    def look(self, spool: Path | None = None) -> Offer:
        """See `Registry.look` and `Place.look`. The embedded registry is set up before the first."""
        if isinstance(self._registry, Place):
            return self._registry.look(spool)
        if not self._prepared:
            prepare_embedded_registry(self._settings)
            self._prepared = True
        return self._registry.look()

    def version(self, number: str) -> Candidate:
        """See `Registry.version`."""
        return self._registry.version(number)

    def move_pin(self, number: str | None) -> None:
        """See `Registry.move_pin`. Without a registry, no other service knows of a pin."""
        if isinstance(self._registry, Registry):
            self._registry.move_pin(number)

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`."""
        return self._registry.fetch(identity, destination)

    def card(self, identity: ModelIdentity, destination: Path) -> Path | None:
        """See `Registry.card`. A model without a registry has none."""
        return None if isinstance(self._registry, Place) else self._registry.card(identity, destination)

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """Read a model directory, and lay out its content.

        Args:
            directory: Directory from `Registry.fetch`.
            digest: Digest that the model must have, where it is known.

        Raises:
            ModelRefused: The model cannot be served.
        """
        content = read_content(directory, digest)
        try:
            for forest in (content.forest, content.difficulty):
                if isinstance(forest, BoosterText):
                    read_booster(forest.text)  # as the service will, so that a refusal or a crash happens here
        except ForestError as error:
            raise ModelRefused(str(error)) from error
        return content

    def raw_scores(self, booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores by LightGBM.

        Args:
            booster: File in LightGBM's native text, or with an object that holds it.
            rows: float64[B, F].

        Returns:
            float64[B], or float64[B, K] for K > 1 outputs.

        Raises:
            ModelRefused: LightGBM refuses the file or the rows.
        """
        from lightgbm.basic import LightGBMError

        try:
            text = stored_booster(read_file(booster.parent, booster.name, MAX_BOOSTER_BYTES)).text
            scores = read_booster(text).predict(rows, raw_score=True, num_threads=1)
        except (ForestError, LightGBMError) as error:
            raise ModelRefused(str(error), "kernels") from error
        return np.asarray(scores, dtype=np.float64)

    def close(self) -> None:
        """Do nothing: a `ModelSource` can be closed, and this one holds no resources."""


def answer(worker: ModelWorker, request: Request) -> Answer:
    """Answer a request; an exception becomes a `Failure`."""
    try:
        match request:
            case Look(spool):
                return worker.look() if spool is None else worker.look(spool)
            case Version(number):
                return worker.version(number)
            case MovePin(number):
                worker.move_pin(number)
                return PinMoved()
            case Fetch(identity, destination):
                return worker.fetch(identity, destination)
            case Card(identity, destination):
                return Carded(worker.card(identity, destination))
            case Build(directory, digest, destination):
                write_struct(destination, worker.build(directory, digest))
                return Built()
            case Score(booster, shape, rows):
                scores = worker.raw_scores(booster, np.frombuffer(rows).reshape(shape))
                return Scores(scores.shape, scores.tobytes())
    except ModelRefused as error:
        return Failure("ModelRefused", str(error), error.check)
    except RegistryUnreachable as error:
        return Failure(type(error).__name__, str(error), detail=error.detail)  # pyright: ignore[reportArgumentType]
    except (ModelUnknown, NothingToServe, VersionUnknown) as error:
        return Failure(type(error).__name__, str(error))  # pyright: ignore[reportArgumentType]
    except OSError as error:
        return Failure("OSError", error.strerror or type(error).__name__, errno=error.errno)
    except UnicodeEncodeError:
        return Failure("ModelRefused", "the model has a name that is not Unicode")
    except Exception as error:
        logging.getLogger(__name__).exception("model worker failed")
        return Failure("other", type(error).__name__)


def main() -> None:
    """Answer until the parent has gone or nothing more comes."""
    os.nice(NICENESS)
    # MLflow and LightGBM make a million objects that stay: to search them for garbage is a sixth of their import. So is
    # scikit-learn, which LightGBM takes where it is there, and which no booster needs.
    gc.set_threshold(100_000)
    sys.modules["sklearn"] = None  # pyright: ignore[reportArgumentType]
    connection = parent()
    models = msgspec.msgpack.decode(connection.recv_bytes(), type=tuple[Settings, ...], dec_hook=path_from_text)
    logging.config.dictConfig(logging_config(models[0].effective_log_level))
    workers = {settings.model_name: ModelWorker(settings) for settings in models}
    for worker in workers.values():
        worker.prepare()  # before the first deadline runs
    connection.send_bytes(b"")
    queue: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        # In a thread, so that the process ends with its parent even while it hangs in a look-up.
        try:
            while True:
                queue.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    with suppress(Empty):
        while True:
            order = msgspec.msgpack.decode(queue.get(timeout=LINGER_S), type=Order, dec_hook=path_from_text)
            answered = answer(workers[order.model], order.request)
            connection.send_bytes(msgspec.msgpack.encode(answered, enc_hook=str))
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent has gone before all was ready
        main()
