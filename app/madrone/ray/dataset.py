"""Rows of Ray Data scored by actors that hold the model."""

import logging
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, Dataset

from app.commands.common import keep_kernels
from app.config.contradictions import environ_of_model
from app.config.settings import Settings
from app.score.options import OnError, ScoreOptions, ScoreRefused, options_of

BATCH_ROWS = 65_536
"""Most rows that are scored at a time; they bound an actor's memory."""

log = logging.getLogger(__name__)


class RowScorer:
    """What an actor does: it makes the model once, and scores tables with it, in one thread.

    Args:
        model: The model, as pickled bytes in Ray's object store.
        options: What the output has.
        data_dir: DATA_DIR of this node, which keeps compiled kernels.

    Raises:
        ModelRefused: This node has another version of Madrone than the driver.
    """

    def __init__(self, model: "ray.ObjectRef[bytes]", options: ScoreOptions, data_dir: Path) -> None:
        keep_kernels(Settings(data_dir=data_dir))  # before numba is imported
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # an actor that asks for no GPU sees all of the node's

        from threadpoolctl import threadpool_limits

        from app.score.scorer import Scorer

        # Of the bytes and not of a struct in the store, whose arrays would be read-only: other types for the kernels.
        self._scorer = Scorer(pickle.loads(ray.get(model)).served(), options)
        threadpool_limits(1)

    def __call__(self, table: Any) -> Any:
        """Score the rows of a `pyarrow.Table`.

        Raises:
            ScoreRefused: Its columns are not the model's, or it has bad rows and these are to fail.
        """
        batches = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        return pa.Table.from_batches([self._scored(batch) for batch in batches])

    def _scored(self, batch: Any) -> Any:
        scored = self._scorer.scored(batch)
        if scored.bad.rows:
            text = f"Of {batch.num_rows} rows in a batch, counted from 0: {scored.bad.described()}"
            if self._scorer.options.on_error == "fail":
                raise ScoreRefused(text)
            log.warning(text)
        return scored.batch


def score(
    dataset: Dataset,
    model: str,
    *,
    interval: float | None = None,
    explain: bool | int = False,
    labels: bool = False,
    keep: Sequence[str] | None = None,
    renamed: Mapping[str, str] | None = None,
    on_error: OnError = "fail",
    concurrency: int | tuple[int, int] | None = None,
    batch_size: int = BATCH_ROWS,
) -> Dataset:
    """Score the rows of a dataset, as `madrone score` does those of files.

    The model is loaded and checked here, once, and the actors get it through Ray's object store: all have the same
    version, and none needs the registry. As all of Ray Data, this computes nothing until the rows are asked for.

    Args:
        dataset: Rows with the model's features by name, in any order.
        model: File, directory or address of the model, as for `madrone score`.
        interval: Level of the columns `lower` and `upper`.
        explain: True for what each feature adds; a number for the largest ones of each row.
        labels: Whether there is a column `label`.
        keep: Columns that come before the predictions; None for all that are no features.
        renamed: The model's feature of each column whose name is another one.
        on_error: Whether bad rows fail, have no prediction ("null") or are left out ("skip").
        concurrency: Actors, each of which has one CPU; or the fewest and the most. By default they grow with the work
            from one to as many as the cluster has CPUs for.
        batch_size: Most rows that an actor scores at a time.

    Returns:
        The kept columns, then `prediction` and what else was asked for. Blocks may change their order, as in all of Ray
        Data, unless its `preserve_order` is set.

    Raises:
        ScoreRefused: The model cannot give what is asked for, or the columns are known and not the model's. Bad rows
            raise it when they are scored.
        AddressError: The model's address is none.
        SettingsError: A setting, from an environment variable, is not valid.
        ModelRefused: The model cannot be served.
        NothingToServe: There is no such model.
        RegistryUnreachable: The registry does not answer.
    """
    options = options_of(
        interval=interval, explain=explain, labels=labels, on_error=on_error, keep=keep, renamed=renamed
    )
    settings = Settings.from_environ(environ_of_model(model, os.environ))
    keep_kernels(settings)  # before numba is imported

    from app.models.process.client import quiet_worker
    from app.score.scorer import Scorer
    from app.udf.portable import load_portable

    source = quiet_worker(settings)
    try:
        served, portable = load_portable(settings, source)
    finally:
        source.close()
    wanted = _wanted(dataset, Scorer(served, options))
    rows = dataset if wanted is None else dataset.select_columns(wanted)
    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency or (1, None)
    return rows.map_batches(
        RowScorer,
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        fn_constructor_args=(ray.put(pickle.dumps(portable)), options, settings.data_dir.absolute()),
        num_cpus=1,
        udf_modifying_row_count=on_error == "skip",
    )


def _wanted(dataset: Dataset, scorer: Any) -> list[str] | None:
    """Columns that are needed, where those of the dataset are known without reading it."""
    schema = dataset.schema(fetch_if_missing=False)
    known = None if schema is None else schema.base_schema
    return scorer.wanted(known) if isinstance(known, pa.Schema) else None
