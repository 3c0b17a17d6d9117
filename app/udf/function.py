"""A model as one function from Arrow to Arrow, which an engine can send to its workers."""

import contextlib
import os
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from app.address import LATEST, Address, parse_address
from app.config.contradictions import environ_of_model
from app.config.settings import Settings
from app.models.registry.snapshot import NoModel, content_version, list_files
from app.score.options import ScoreOptions, ScoreRefused, options_of
from kernels.cache import cache_kernels

if TYPE_CHECKING:
    from app.models.registry.source import ModelSource
    from app.models.served import ServedModel
    from app.score.scorer import Scorer

BATCH_ROWS = 131_072
"""Most rows of a table that are scored at a time."""

_loading = threading.Lock()
_loaded: dict[str, "ServedModel"] = {}
"""The newest models of this process, by address: a worker loads each once."""


class ArrowFunction:
    """Scores record batches and tables: see `udf`.

    It is pickled without the model, which each process loads at its first call. Safe to call from several threads at
    once; the kernels release the GIL.

    Args:
        model: Address of the model.
        options: What the output has.
        threads: Threads that score a table.
        version: Version that the files at the address must have; None for any.

    Raises:
        AddressError: The model's address is none.
    """

    def __init__(self, model: str, options: ScoreOptions, threads: int = 1, version: str | None = None) -> None:
        address = parse_address(model)
        # A worker may have another working directory.
        self.model = str(address.path) if address.kind == "file" else model
        self.options = options
        self.threads = threads
        self.version = version
        self._scorer: Scorer | None = None

    def __reduce__(self) -> tuple[type["ArrowFunction"], tuple[str, ScoreOptions, int, str | None]]:
        return ArrowFunction, (self.model, self.options, self.threads, self.version)

    def __call__(self, rows: Any) -> Any:
        """Score a `pyarrow.RecordBatch` or `pyarrow.Table`, and give one of the same kind.

        Its columns are the model's features by name, in any order. All others come first in the output; then come
        `prediction` and what else was asked for.

        Raises:
            ScoreRefused: The columns are not the model's, or rows break the rules of its features.
            TypeError: The rows are neither.
        """
        if isinstance(rows, pa.RecordBatch):
            return self.scorer.score(rows)
        if not isinstance(rows, pa.Table):
            kind = type(rows)
            raise TypeError(f"Rows must be a pyarrow.Table or RecordBatch, not {kind.__module__}.{kind.__qualname__}.")
        batches = rows.combine_chunks().to_batches(max_chunksize=BATCH_ROWS)
        batches = batches or [pa.RecordBatch.from_pylist([], rows.schema)]
        scored, checked = self.scorer.scored, self.scorer.checked
        if self.threads == 1 or len(batches) == 1:
            return pa.Table.from_batches(checked(map(scored, batches)))
        with ThreadPoolExecutor(self.threads) as pool:
            try:
                return pa.Table.from_batches(checked(pool.map(scored, batches)))
            finally:
                pool.shutdown(cancel_futures=True)  # after bad rows, no thread scores the rest

    def batches(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Score record batches one by one, as Spark's `mapInArrow` wants it."""
        yield from self.scorer.checked(map(self.scorer.scored, batches))

    def predict(self, *columns: Any) -> Any:
        """Predictions for columns of the features in the order of `features`, for engines that pass them so.

        Args:
            columns: Arrow arrays, or chunked ones, of one length.

        Returns:
            float64[B] as a `pyarrow.ChunkedArray`.

        Raises:
            ScoreRefused: The model has several outputs, or as of a call.
            ValueError: There are more or fewer columns than features.
        """
        if self.scorer.served.artifact.forest.n_outputs > 1:
            raise ScoreRefused("The model has several outputs: call the function itself, which gives a table of them.")
        names = list(self.features)
        if len(columns) != len(names):
            raise ValueError(f"The model takes {len(names)} columns, and not {len(columns)}: {', '.join(names)}.")
        return self(pa.table(list(columns), names=names)).column("prediction")

    def schema(self, schema: Any) -> Any:
        """Arrow schema of the output for rows of a schema, for engines that ask for it before the rows."""
        return self.scorer.score(pa.RecordBatch.from_pylist([], schema)).schema

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the model's features."""
        return tuple(feature.name for feature in self.scorer.features)

    @property
    def scorer(self) -> "Scorer":
        """What scores record batches in this process, with the model loaded and checked as the service does.

        Raises:
            SettingsError: A variable of the environment is not valid.
            ModelRefused: The model cannot be served.
            NothingToServe: There is none.
            RegistryUnreachable: The registry does not answer.
            ScoreRefused: The model cannot give what the options ask for, or its files have changed.
        """
        if self._scorer is None:
            from app.score.scorer import Scorer

            with _loading:
                served = _loaded.get(self.model)
                if served is None or not self._is_of(served):
                    served = _loaded[self.model] = _load(self.model)
            if not self._is_of(served):
                raise ScoreRefused("The files of the model have changed since the function was made.")
            self._scorer = Scorer(served, self.options)
        return self._scorer

    def _is_of(self, served: "ServedModel") -> bool:
        return self.version in (None, served.identity.version)


def udf(
    model: str | os.PathLike[str],
    interval: float | None = None,
    explain: bool | int | None = None,
    labels: bool = False,
    *,
    on_error: Literal["fail", "null"] = "fail",
    threads: int = 1,
) -> ArrowFunction:
    """A model as a function that engines call: Arrow in, Arrow out.

    An alias, a stage or `latest` is asked for here, once, so that all workers score with the same version. So are files
    at a path, if they are here.

    Args:
        model: File, directory or address of the model, as for MODEL_PATH. Workers must reach it under the same address.
        interval: Level of the columns `lower` and `upper`; None for none.
        explain: True for a column `contribution:NAME` of each feature; a number for the largest ones of each row.
        labels: Whether there is a column `label`.
        on_error: Whether rows that break the rules of a feature fail the call, or have no prediction.
        threads: Threads that score a table of more than `BATCH_ROWS` rows, for engines that pass all rows at once.

    Raises:
        AddressError: The model's address is none.
        ValueError: An argument has none of its values.
        SettingsError, NothingToServe, RegistryUnreachable: The registry cannot be asked, or has no such version.
    """
    options = options_of(interval=interval, explain=explain, labels=labels, on_error=on_error)
    if options.on_error == "skip":
        raise ValueError("on_error must be fail or null: an engine wants an answer for each row")
    if threads < 1:
        raise ValueError("threads must be above 0")
    model = os.fspath(model)
    address, version = parse_address(model), None
    if address.kind == "registered" and address.version in (None, LATEST):
        model = _pinned(model)
    elif address.kind == "file":
        version = _version_of(model, address)
    return ArrowFunction(model, options, threads, version)


def _pinned(model: str) -> str:
    """Address of the version that an address of a registered model names now."""
    settings = _prepared(model)

    from app.models.registry.source import NothingToServe

    with _opened(settings) as source:
        offer = source.look()
    if not offer.candidates:
        raise NothingToServe(offer.problem)
    identity = offer.candidates[0].identity
    return f"models:/{identity.name}/{identity.version}"


def _version_of(model: str, address: Address) -> str | None:
    """Version of the files at a path; None if only the workers have them."""
    most = Settings.from_environ(environ_of_model(model, os.environ)).model_max_bytes
    try:
        return content_version(list_files(address.path, most))
    except (NoModel, OSError):
        return None


def _load(model: str) -> "ServedModel":
    settings = _prepared(model)

    from app.models.loader import load_preferred

    with _opened(settings) as source:
        return load_preferred(settings, source)


def _prepared(model: str) -> Settings:
    """Settings for a model, after the place of compiled kernels is set, which the imports of the kernels read."""
    settings = Settings.from_environ(environ_of_model(model, os.environ))
    with contextlib.suppress(OSError):  # compiled kernels then go to a temporary directory
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cache_kernels(settings.data_dir / "kernels")
    return settings


@contextlib.contextmanager
def _opened(settings: Settings) -> Generator["ModelSource"]:
    from app.models.process.client import quiet_worker

    source = quiet_worker(settings)
    try:
        yield source
    finally:
        source.close()
