"""The process that speaks to MLflow and LightGBM for the service.

    python -m app.models.registry.worker

Both are slow to import, take the memory of the service over again, have no deadlines that hold, and LightGBM can end
the process over a damaged text. Here none of that costs a request anything: this process is started when there is
something to ask, ended when it does not answer in time, and ends itself when nothing is asked for a while.

Its messages (`child_process`) are MessagePack; the first one is the settings.
"""

import logging.config
import os
import sys
import threading
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.child_process import parent
from app.models.artifact import ModelContent, read_content
from app.models.directory import MAX_BOOSTER_BYTES, read_file
from app.models.identity import ModelIdentity
from app.models.refusal import Check, ModelRefused
from app.models.registry.array_file import write_struct
from app.models.registry.embedded import prepare_embedded_registry
from app.models.registry.mlflow import Registry
from app.models.registry.source import (
    Candidate,
    Fetched,
    ModelUnknown,
    NothingToServe,
    Offer,
    RegistrySchema,
    RegistryUnreachable,
    VersionUnknown,
)
from app.settings import Settings
from app.telemetry.logging import logging_config
from kernels.forest.booster import read_booster
from kernels.forest.layout import BoosterText
from kernels.forest.model_text import ForestError

LINGER_S = 30.0
"""Without a request for so long it ends: two looks in a row share it, and its memory is not held between rare ones."""

NICENESS = 10


class Look(msgspec.Struct, frozen=True, tag=True):
    """Ask `ModelWorker.look`."""


class Version(msgspec.Struct, frozen=True, tag=True):
    """Ask `ModelWorker.version`."""

    number: str


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Ask `ModelWorker.fetch`."""

    identity: ModelIdentity
    destination: Path


class Build(msgspec.Struct, frozen=True, tag=True):
    """Ask `ModelWorker.build`; what it gives goes to a file."""

    directory: Path
    digest: str | None
    destination: Path


class Built(msgspec.Struct, frozen=True, tag=True):
    """The file is there."""


class Score(msgspec.Struct, frozen=True, tag=True):
    """Ask `ModelWorker.raw_scores`; the rows are those of a C-contiguous float64 array."""

    booster: Path
    shape: tuple[int, int]
    rows: bytes


class Scores(msgspec.Struct, frozen=True, tag=True):
    """A float64 array."""

    shape: tuple[int, ...]
    values: bytes


class Failure(msgspec.Struct, frozen=True, tag=True):
    """An exception of the worker's: its class by name, and its message.

    Attributes:
        check: A ModelRefused's.
        errno: An OSError's.
        detail: A RegistryUnreachable's.
    """

    kind: Literal[
        "ModelUnknown",
        "NothingToServe",
        "VersionUnknown",
        "RegistryUnreachable",
        "RegistrySchema",
        "ModelRefused",
        "OSError",
        "other",
    ]
    message: str
    check: Check = "artifact"
    errno: int | None = None
    detail: str | None = None


Request = Look | Version | Fetch | Build | Score
Answer = Offer | Candidate | Fetched | Built | Scores | Failure


class ModelWorker:
    """What the process does. It can be done in the caller's process too, without deadlines.

    Args:
        settings: Name the registry and the model.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._registry = Registry(settings)
        self._prepared = not settings.embedded_registry

    def prepare(self) -> None:
        """See `Registry.prepare`."""
        self._registry.prepare()

    def look(self) -> Offer:
        """See `Registry.look`. The embedded registry is set up before the first."""
        if not self._prepared:
            prepare_embedded_registry(self._settings)
            self._prepared = True
        return self._registry.look()

    def version(self, number: str) -> Candidate:
        """See `Registry.version`."""
        return self._registry.version(number)

    def fetch(self, identity: ModelIdentity, destination: Path) -> Fetched:
        """See `Registry.fetch`."""
        return self._registry.fetch(identity, destination)

    def build(self, directory: Path, digest: str | None) -> ModelContent:
        """Read a model directory, and lay out what it holds.

        Args:
            directory: As `Registry.fetch` gives it.
            digest: The model's, where it is known.

        Raises:
            ModelRefused: It cannot be served.
        """
        content = read_content(directory, digest)
        try:
            for forest in (content.forest, content.difficulty):
                if isinstance(forest, BoosterText):
                    read_booster(forest.text)  # as the service will
        except ForestError as error:
            raise ModelRefused(str(error)) from error
        return content

    def raw_scores(self, booster: Path, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """LightGBM's raw scores.

        Args:
            booster: A file, as LightGBM writes it.
            rows: float64[B, F].

        Returns:
            float64[B], or float64[B, K] for K > 1 outputs.

        Raises:
            ModelRefused: LightGBM does not take the file or the rows.
        """
        from lightgbm.basic import LightGBMError

        try:
            text = read_file(booster.parent, booster.name, MAX_BOOSTER_BYTES).decode()
            scores = read_booster(text).predict(rows, raw_score=True, num_threads=1)
        except (ForestError, LightGBMError, UnicodeDecodeError) as error:
            raise ModelRefused(str(error), "kernels") from error
        return np.asarray(scores, dtype=np.float64)

    def close(self) -> None:
        """Nothing is held."""


def path_from_text(kind: type, value: Any) -> Any:
    """What msgspec does not know how to make: `Path` is the only such type in a message."""
    return kind(value)


def answer(worker: ModelWorker, request: Request) -> Answer:
    """Do what is asked, whatever comes of it."""
    try:
        match request:
            case Look():
                return worker.look()
            case Version(number):
                return worker.version(number)
            case Fetch(identity, destination):
                return worker.fetch(identity, destination)
            case Build(directory, digest, destination):
                write_struct(destination, worker.build(directory, digest))
                return Built()
            case Score(booster, shape, rows):
                scores = worker.raw_scores(booster, np.frombuffer(rows).reshape(shape))
                return Scores(scores.shape, scores.tobytes())
    except ModelRefused as error:
        return Failure("ModelRefused", str(error), error.check)
    except (RegistryUnreachable, RegistrySchema) as error:
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
    # Requests are served first where the processor is short.
    os.nice(NICENESS)
    connection = parent()
    settings = msgspec.msgpack.decode(connection.recv_bytes(), type=Settings, dec_hook=path_from_text)
    logging.config.dictConfig(logging_config(settings.effective_log_level))
    worker = ModelWorker(settings)
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
    decoder = msgspec.msgpack.Decoder(Request, dec_hook=path_from_text)
    encoder = msgspec.msgpack.Encoder(enc_hook=str)
    while True:
        try:
            request = queue.get(timeout=LINGER_S)
        except Empty:
            break
        connection.send_bytes(encoder.encode(answer(worker, decoder.decode(request))))
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
