"""Rows of CSV with another number of cells than the header: bad rows at their place, whatever is around them."""

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.score import csv_rows
from app.score.csv_rows import read_cells
from tests.score.support import Score

RAGGED = ["", ",,,,", "1,2", "1,2,3,4,5", '"a\nb",1,2', "   "]


def test_they_have_nulls_or_are_left_out(score: Score, folder: Path, tmp_path: Path) -> None:
    header, *lines = (folder / "in.csv").read_text().splitlines()
    (tmp_path / "in.csv").write_text("\n".join([header, "7,1", *lines, "secret,1,2", "8,1,2,3,4"]) + "\n")
    expected = np.load(folder / "expected.npy")
    for on_error in ("null", "skip"):
        result = score(tmp_path / "in.csv", tmp_path / "out.parquet", "--on-error", on_error)
        assert result.exit_code == 0, result.output
        assert "(row) has another number of cells than the header: 3 rows" in result.stderr
        assert f"row {len(lines) + 1}: (row) has another" in result.stderr
        scored = pq.read_table(tmp_path / "out.parquet")
        if on_error == "null":
            assert (
                scored.take([0, len(lines) + 1, len(lines) + 2]).to_pylist() == [{"id": None, "prediction": None}] * 3
            )
            scored = scored.slice(1, len(lines))
        assert np.array_equal(scored["prediction"].to_numpy(), expected)
    result = score(tmp_path / "in.csv", tmp_path / "other.parquet")
    assert (result.exit_code, "secret" in result.output) == (1, False)
    assert not (tmp_path / "other.parquet").exists()


def rows_of(text: str) -> tuple[list[int | None], list[int]]:
    """First cells of all rows, and the rows that cannot be read."""
    source = read_cells(io.BytesIO(f"a,b,c,d\n{text}".encode()))
    next(source)
    cells: list[Any] = []
    bad: list[int] = []
    for batch, unread in source:
        assert batch.num_rows == len(unread)
        bad += [len(cells) + int(place) for place in np.flatnonzero(unread)]
        cells += batch.column(0).to_pylist()
    return cells, bad


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_they_keep_their_places_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 200)
    monkeypatch.setattr(csv_rows, "RAGGED_ROWS", 7)
    chance = random.Random(1)
    lines = [chance.choice(RAGGED) if chance.random() < share else f'{place},"x\ny",2,3' for place in range(2000)]
    expected = [line.partition(",")[0] if '"x' in line else None for line in lines if line]
    cells, bad = rows_of("\n".join([*lines, ""]))
    assert cells == expected
    assert bad == [place for place, cell in enumerate(expected) if cell is None]


def test_so_many_in_succession_that_the_header_must_be_of_another_file_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_rows, "MOST_RAGGED", 50)
    assert len(rows_of("1,2\n" * 50)[1]) == 50
    with pytest.raises(pa.ArrowInvalid, match="Expected 4 columns, got 2"):
        rows_of("1,2\n" * 51)
