"""CSV with another character than a comma between its cells."""

import gzip
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.score.support import ROWS, Score


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with rows in a .tsv file, and with semicolons in a .csv file; a text has both, and a comma."""
    source = tmp_path / "source"
    source.mkdir()
    for name, sign in (("a.tsv", "\t"), ("b.csv", ";")):
        lines = [f'"a;b,c\td"{sign}{row}{sign}2{sign}3\n' for row in range(5)]
        (source / name).write_text(sign.join(["id", "x", "y", "z"]) + "\n" + "".join(lines))
    return source


def header(path: Path) -> str:
    return path.read_text().splitlines()[0].replace('"', "")


@pytest.mark.parametrize(
    ("input", "output", "options", "sign"),
    [
        ("a.tsv", "out.tsv", (), "\t"),
        ("a.tsv", "out.csv", (), ","),
        ("b.csv", "out.csv", ("--delimiter", ";"), ";"),
        ("a.tsv", "out.csv", ("--delimiter", "\\t"), "\t"),
        ("a.tsv", "folder/", (), "\t"),
        ("a.tsv", "folder/", ("--output-format", "csv"), ","),
        ("b.csv", "folder/", ("--delimiter", ";"), ";"),
        ("a.tsv", "-", (), "\t"),
        ("a.tsv", "-", ("--output-format", "csv"), ","),
    ],
)
def test_the_option_or_else_the_suffix_tells_it(
    score: Score, source: Path, tmp_path: Path, input: str, output: str, options: tuple[str, ...], sign: str
) -> None:
    target = output if output == "-" else f"{tmp_path}/{output}"
    result = score(source / input, target, *options)
    assert result.exit_code == 0, result.output
    if output == "-":
        (tmp_path / "out").write_text(result.stdout)
    written = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file() and path.parent != source)
    assert header(written) == f"id{sign}prediction"
    table = pyarrow.csv.read_csv(written, parse_options=pyarrow.csv.ParseOptions(delimiter=sign))
    assert table["id"].to_pylist() == ["a;b,c\td"] * 5


def test_compressed_tabs_and_standard_input_are_read(score: Score, source: Path, tmp_path: Path) -> None:
    content = (source / "a.tsv").read_bytes()
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(content))
    for given, input in ((tmp_path / "a.tsv.gz", None), ("-", content)):
        options = () if input is None else ("--format", "csv", "--delimiter", "\t")
        assert score(given, tmp_path / "out.parquet", *options, input=input).exit_code == 0
        assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == ["a;b,c\td"] * 5


def test_it_is_that_of_the_output_of_parquet_and_of_no_other_format(score: Score, folder: Path, tmp_path: Path) -> None:
    assert score(folder / "in.parquet", tmp_path / "out.csv", "--delimiter", "|").exit_code == 0
    assert header(tmp_path / "out.csv") == "id|prediction"
    assert len((tmp_path / "out.csv").read_text().splitlines()) == ROWS + 1
    result = score(folder / "in.parquet", tmp_path / "out.parquet", "--delimiter", "|")
    assert (result.exit_code, result.stderr) == (1, "--delimiter is for CSV, and there is none to read or write.\n")


@pytest.mark.parametrize("given", ["", "ab", '"', "\n", "\r", "é", ".", "-", "5", "e", ":", " ", "\\n"])
def test_what_cannot_be_between_cells_is_bad_usage(score: Score, folder: Path, tmp_path: Path, given: str) -> None:
    result = score(folder / "in.csv", tmp_path / "out.csv", "--delimiter", given)
    assert (result.exit_code, "'--delimiter': must be" in result.stderr) == (2, True), result.output


def test_parts_of_rows_with_another_one_are_refused(score: Score, source: Path, tmp_path: Path) -> None:
    lines = (source / "b.csv").read_text()
    (source / "b.csv").write_text(lines + "a;q;2;3\n")
    assert score(source / "b.csv", tmp_path / "out.csv", "--delimiter", ";", "--resume").exit_code == 1
    result = score(source / "b.csv", tmp_path / "out.csv", "--delimiter", "|", "--resume")
    assert (result.exit_code, "had another format" in result.stderr) == (1, True), result.output
