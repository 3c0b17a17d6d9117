"""Writing of an output."""

import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.score.output import GROUP_ROWS, Output


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
