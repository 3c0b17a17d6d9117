"""What a scoring tells of its progress: rows, speed, and the time left of inputs of every format."""

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from app.feature import Feature
from app.score.inputs import read_pieces
from app.score.options import Format
from app.score.progress import Counter, shown_rows


@pytest.mark.parametrize(
    ("format", "packed"),
    [("parquet", False), ("csv", False), ("ndjson", False), ("arrow", False), ("csv", True), ("ndjson", True)],
)
def test_the_share_that_is_read_grows_with_the_rows(tmp_path: Path, format: Format, packed: bool) -> None:
    count = 200_000
    table: Any = pa.table({"x": np.linspace(0.1, 0.9, count)})
    path = tmp_path / "in"
    if format == "parquet":
        pq.write_table(table, path, row_group_size=75_000)
    elif format == "csv":
        pyarrow.csv.write_csv(table, path)
    elif format == "arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 50_000)
    else:
        path.write_text("".join(f'{{"x":{value}}}\n' for value in table["x"].to_pylist()))
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    rows = 0
    for piece in read_pieces(str(path), format, (Feature(name="x"),), lambda schema: schema.names):
        rows += piece.batch.num_rows
        assert piece.share == pytest.approx(rows / count, abs=0.5)
    assert (rows, piece.share) == (count, pytest.approx(1, abs=0.01))


def test_the_time_left_is_of_what_this_run_does() -> None:
    now = [100.0]
    counter = Counter(lambda: now[0])
    note = counter.of([600, 200], 0)
    assert (counter.left, counter.described()) == (None, "0 rows after 0 s, 0 rows/s")
    now[0] += 10
    note(50, 0.5)  # the parts before are those of an earlier run
    assert (counter.share, counter.left) == (0.375, None)
    now[0] += 10
    note(50, 1.0)
    assert (counter.share, counter.left) == (0.75, pytest.approx(10 / 0.375 * 0.25))
    assert counter.described() == "100 rows after 20 s, 5 rows/s, 75% done, about 7 s left"
    counter.of([600, 200], 1)(1, 1.0)
    assert (counter.share, counter.left) == (1.0, 0.0)
    counter.of([600, None], 1)(1, None)
    assert counter.share is None


@pytest.mark.parametrize(("width", "term"), [(20, "xterm"), (120, "xterm"), (80, "dumb")])
def test_rows_are_shown_on_every_terminal(width: int, term: str) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, _environ={"TERM": term, "NO_COLOR": "1"})
    with shown_rows(console, every_s=0.01) as counter:
        counter.add(12345, 0.5)
    assert "12" in shown.getvalue()
