"""Writing of an output."""

import errno
import io
import os
import resource
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.score.output import GROUP_ROWS, Output
from tests.score.support import Score


@pytest.fixture
def batch() -> pa.RecordBatch:
    """Rows of one row group."""
    return pa.record_batch({"prediction": np.zeros(GROUP_ROWS)})


def test_row_groups_go_to_the_disk_while_others_are_written(
    batch: pa.RecordBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with (tmp_path / "out").open("wb") as sink:
        output = Output(sink, "parquet", batch.schema, stream=False)
        output.write(batch)
        output.write(batch)
        output.close()
    assert 1 <= len(synced) <= 2
    assert pq.read_metadata(tmp_path / "out").num_row_groups == 2


def test_a_disk_that_fails_meanwhile_fails_the_run(
    batch: pa.RecordBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fails)
    with (tmp_path / "out").open("wb") as sink:
        output = Output(sink, "parquet", batch.schema, stream=False)
        output.write(batch)
        with pytest.raises(OSError, match="Input/output error"):
            output.close()


IDS = [0, None, 2**63 - 1, -(2**63), 7]
SHARED_NAME: dict[str, pa.Array] = {
    "a.b": pa.array(IDS, pa.int64()),
    "a": pa.StructArray.from_arrays([pa.array(["x", "y", None, "z", "x"])], names=["b"]),
}
"""A column of whole numbers, and another one a part of which has its name."""


@pytest.mark.parametrize(
    "columns",
    [
        {"id": pa.array(IDS, pa.int64())},
        {"id": pa.array([0, None, 2**64 - 1, 1, 7], pa.uint64()), "text": pa.array(["a", None, "a", "b", ""])},
        SHARED_NAME,
    ],
)
def test_whole_numbers_are_read_as_they_were_written(columns: dict[str, pa.Array]) -> None:
    batch, sink = pa.record_batch(columns), io.BytesIO()
    output = Output(sink, "parquet", batch.schema, stream=True)
    output.write(batch)
    output.close()
    assert pq.read_table(io.BytesIO(sink.getvalue())).to_pylist() == batch.to_pylist()
    assert polars.read_parquet(io.BytesIO(sink.getvalue())).to_dicts() == batch.to_pylist()


def test_ids_take_less_room_than_as_numbers() -> None:
    batch, sink = pa.record_batch({"id": np.arange(100_000)}), io.BytesIO()
    output = Output(sink, "parquet", batch.schema, stream=True)
    output.write(batch)
    output.close()
    assert len(sink.getvalue()) < 10_000


def test_a_disk_that_is_full_in_the_middle_of_a_row_group_is_told_as_such(tmp_path: Path) -> None:
    rows = np.arange(GROUP_ROWS)
    batch = pa.record_batch({"id": rows, "prediction": rows / 7})

    def write_most() -> None:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with (tmp_path / "out").open("wb") as sink, Output(sink, "parquet", batch.schema, stream=False) as output:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
            try:
                output.write(batch)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with pytest.raises(OSError, match="File too large"):
        write_most()


def test_a_run_that_fails_gives_its_stream_no_end(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pq.read_table(folder / "in.parquet")
    bad = table.set_column(1, "x", pa.array([*[0.0] * (len(table) - 1), float("inf")]))
    pq.write_table(bad, tmp_path / "bad.parquet", row_group_size=100)
    monkeypatch.setattr("app.score.output.GROUP_ROWS", 100)
    result = score(tmp_path / "bad.parquet", "-", "--output-format", "parquet")
    assert (result.exit_code, result.stdout_bytes[:4]) == (1, b"PAR1")
    with pytest.raises(pa.ArrowInvalid):  # it looks broken, and not like a file of fewer rows
        pq.read_table(pa.BufferReader(result.stdout_bytes))
