"""Files as people have them: odd columns, odd text, damage. Each is scored, or refused in a sentence."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.score import inputs
from app.score.options import Format
from tests.score.support import ROWS, Score


def write(path: Path, **columns: Any) -> Path:
    """Rows of the model with further columns, in two row groups."""
    table = pa.table({name: [0.5, 1.5, 2.5] for name in "xyz"} | columns)
    pq.write_table(table, path, row_group_size=2)
    return path


KEPT = {
    "list": [[1], [2, 3], None],
    "struct": [{"a": 1}, None, {"a": 2}],
    "decimal": [decimal.Decimal("1.50"), None, decimal.Decimal("2")],
    "nanoseconds": pa.array([1, 10**18 + 1, None], pa.timestamp("ns", "UTC")),
    "days": [datetime.date(2026, 1, 1)] * 3,
    "large": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "view": pa.array(["a", "b", None], pa.string_view()),
    "category": pa.array(["a", "b", "a"]).dictionary_encode(),
    'a "quoted"\nname, é': ["x"] * 3,
}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("written", ["parquet", "csv", "ndjson", "arrow"])
def test_a_kept_column_of_any_type_is_written_or_refused(score: Score, tmp_path: Path, name: str, written: str) -> None:
    source, output = write(tmp_path / "in.parquet", **{name: KEPT[name]}), tmp_path / f"out.{written}"
    result = score(source, output)
    if written == "csv" and name in ("list", "struct"):
        assert (result.exit_code, "that the output cannot hold: Unsupported Type" in result.stderr) == (1, True)
        assert not output.exists()
        return
    assert result.exit_code == 0, result.output
    if written in ("parquet", "arrow"):
        table = pq.read_table(output) if written == "parquet" else pa.ipc.open_file(output).read_all()
        assert table[name].to_pylist() == pq.read_table(source)[name].to_pylist()
    elif name == "large":
        assert str(2**64 - 1) in output.read_text()


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("\ufeffid,x,y,z", "7,1,2,3"),
        ('"id","x","y","z"\r', '"7","1","2","3"\r'),
        ('"a\nname",id,x,y,z', '"of\ntwo lines",7,1,2,3'),
    ],
)
def test_csv_of_every_writer_is_read(score: Score, tmp_path: Path, header: str, row: str) -> None:
    (tmp_path / "in.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    result = score(tmp_path / "in.csv", tmp_path / "out.parquet", "--keep", "id")
    assert result.exit_code == 0, result.output
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["7"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,x,y,z\nsecret,1,2\n", "row 0: (row) has another number of cells than the header"),
        (b"id,x,x,y,z\n1,1,1,1,1\n", "x appears more than once"),
        (b"id,id,x,y,z\n1,1,1,1,1\n", "has several columns id, which is to be kept"),
        (b"id;x;y;z\n1;1;2;3\n", "z is missing. The header is one cell; --delimiter tells what"),
        (b"prediction,x,y,z\n1,1,2,3\n", "would have two columns prediction"),
        (b"caf\xe9,x,y,z\n1,1,2,3\n", "header of the CSV file is not in UTF-8"),
        (b"id,x,y,z\n\xe9,1,2,3\n", "invalid UTF8 data"),
        (b"", "needs a header"),
        (b'"' + b"a" * 2**19, "needs a header of at most"),
        (b"id,x,y,z\n" + b"s" * 2**23 + b",1,2,3\n", "cannot be read"),
    ],
)
def test_csv_that_cannot_be_read_is_refused_without_its_values(
    score: Score, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    result = score(tmp_path / "in.csv", tmp_path / "out.csv")
    assert (result.exit_code, message in result.stderr) == (1, True), result.output
    assert "secret" not in result.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_a_truncated_file_has_no_output(score: Score, folder: Path, tmp_path: Path, suffix: str) -> None:
    content = (folder / f"in.{suffix}").read_bytes()
    (tmp_path / f"in.{suffix}").write_bytes(content[: len(content) - 20])
    assert score(tmp_path / f"in.{suffix}", tmp_path / "out.parquet").exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"in.{suffix}"]


def test_a_damaged_page_is_refused_where_it_has_a_checksum(score: Score, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.parquet"
    table = pq.read_table(folder / "in.parquet", columns=["x", "y", "z"])
    pq.write_table(table, source, write_page_checksum=True, use_dictionary=False, compression="none")
    content = bytearray(source.read_bytes())
    content[content.index(table["y"].to_numpy()[700].tobytes())] ^= 1
    source.write_bytes(content)
    result = score(source, tmp_path / "out.parquet")
    assert (result.exit_code, "checksum verification failed" in result.stderr) == (1, True), result.output


@pytest.mark.parametrize("format", ["parquet", "arrow", "csv"])
def test_a_wide_file_is_read_by_fewer_rows(folder: Path, monkeypatch: pytest.MonkeyPatch, format: Format) -> None:
    monkeypatch.setattr(inputs, "BATCH_CELLS", 30)
    pieces = list(inputs.read_pieces(str(folder / f"in.{format}"), format, (), lambda schema: schema.names))
    assert {piece.batch.num_rows for piece in pieces[:10]} == {7}
    assert sum(piece.batch.num_rows for piece in pieces) == ROWS


def test_notes_of_other_tools_in_a_folder_are_no_inputs(score: Score, folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    (many / "a.parquet").write_bytes((folder / "in.parquet").read_bytes())
    for name in ("_SUCCESS", "_metadata.parquet", "._a.parquet", "notes.txt"):
        (many / name).write_text("no rows")
    result = score(many, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.parquet"]
    assert "(--format would): notes.txt.\n" in result.stderr, result.stderr


def test_files_of_a_folder_are_told_by_names_in_capitals_and_by_format(
    score: Score, folder: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for name in ("A.CSV", "part-0000"):
        (many / name).write_bytes((folder / "in.csv").read_bytes())
    result = score(many, tmp_path / "out")
    assert (result.exit_code, "would): part-0000.\n" in result.stderr) == (0, True), result.output
    result = score(many, tmp_path / "out", "--format", "csv")
    assert (result.exit_code, f"{2 * ROWS} rows in" in result.stderr) == (0, True), result.output
    (many / "A.CSV").unlink()
    result = score(many, tmp_path / "out")
    assert (result.exit_code, "--format takes those" in result.stderr) == (1, True), result.output


@pytest.mark.parametrize("through", ["link", "folder", "dots"])
def test_no_path_to_the_input_may_be_the_output(score: Score, folder: Path, tmp_path: Path, through: str) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "in.parquet").write_bytes((folder / "in.parquet").read_bytes())
    (tmp_path / "there").symlink_to(here)
    (tmp_path / "link.parquet").symlink_to(here / "in.parquet")
    paths = {"link": "link.parquet", "folder": "there/in.parquet", "dots": "here/../here/in.parquet"}
    result = score(here / "in.parquet", tmp_path / paths[through])
    assert (result.exit_code, "would replace an input" in result.stderr) == (1, True), result.output
