"""Tables in several folders, such as those of Spark: every file has an output at the same path."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.score.search import found
from tests.score.support import Score

PARTS = ["year=2023/part-0.parquet", "year=2024/month=01/part-0.parquet", "year=2024/month=02/part-0.parquet"]

NOTES = ["_SUCCESS", "year=2024/_SUCCESS.parquet", "_delta_log/0.parquet", "year=2024/.tmp/part-0.parquet"]


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> Path:
    """A partitioned table of five rows in each file, and what else writers leave there."""
    table = tmp_path / "table"
    for name in [*PARTS, *NOTES]:
        (table / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pq.read_table(folder / "in.parquet").slice(0, 5), table / name)
    return table


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", PARTS),
        ("/**/*.parquet", PARTS),
        ("/**", PARTS),
        ("/year=2024/**/part-?.parquet", ["month=01/part-0.parquet", "month=02/part-0.parquet"]),
        ("/**/month=*/**/part-0.parquet", PARTS[1:]),
        ("/*/part-0.parquet", PARTS[:1]),
        ("/**/month=0[!1]/*", PARTS[2:]),
        ("/_delta_log/*", ["0.parquet"]),
        ("/**/_delta_log/*", ["_delta_log/0.parquet"]),
    ],
)
def test_a_path_is_kept_from_the_folder_or_the_fixed_part_of_a_pattern_on(
    score: Score, table: Path, tmp_path: Path, pattern: str, expected: list[str]
) -> None:
    result = score(f"{table}{pattern}", tmp_path / "out", "--resume")
    assert result.exit_code == 0, result.output
    assert f"{5 * len(expected)} rows in" in result.stderr
    assert files(tmp_path / "out") == expected


def test_a_relative_pattern_begins_in_the_current_folder(
    score: Score, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(table)
    assert score("**/*.parquet", tmp_path / "out").exit_code == 0
    assert files(tmp_path / "out") == PARTS
    assert score("./*/./part-0.parquet", tmp_path / "one").exit_code == 0
    assert files(tmp_path / "one") == PARTS[:1]
    assert "There is no file to score" in score("*/../../*/*/part-0.parquet", tmp_path / "two").stderr


def test_a_partitioned_output_is_read_with_the_columns_of_its_path(score: Score, table: Path, tmp_path: Path) -> None:
    assert score(table, tmp_path / "out").exit_code == 0
    scored = pq.read_table(tmp_path / "out" / "year=2024")
    assert scored.column_names == ["id", "prediction", "month"]


@pytest.mark.parametrize("through", ["", "/", "link"])
@pytest.mark.parametrize("pattern", ["", "/**/*.parquet"])
def test_outputs_below_the_inputs_are_not_read(
    score: Score, table: Path, tmp_path: Path, pattern: str, through: str
) -> None:
    (tmp_path / "link").symlink_to(table)
    output = f"{tmp_path}/link/scored" if through == "link" else f"{table}/scored{through}"
    for _ in range(2):
        result = score(f"{table}{pattern}", output, "--keep", "none")
        assert result.exit_code == 0, result.output
        assert "15 rows in" in result.stderr
    assert files(table / "scored") == PARTS
    result = score(f"{table}{pattern}", table)
    assert (result.exit_code, "would replace an input" in result.stderr) == (1, True), result.output
    result = score(f"{table}/year=2023", table, "--output-format", "csv")
    assert (result.exit_code, (table / "part-0.csv").exists()) == (0, True), result.output


def test_links_are_followed_once(table: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "c.parquet").touch()
    (tmp_path / "there" / "back").symlink_to(table)
    (table / "a").symlink_to(tmp_path / "there")
    (table / "b").symlink_to(tmp_path / "there")
    (table / "latest").symlink_to(table / "year=2024")
    (table / "circle").symlink_to(table)
    (table / "nowhere").symlink_to(tmp_path / "none")
    assert found(str(table)) == [f"{table}/{name}" for name in ["a/c.parquet", *PARTS]]
    assert found(f"{table}/**/*.parquet") == found(str(table))


def test_a_folder_that_cannot_be_read_is_told(score: Score, table: Path, tmp_path: Path) -> None:
    (table / "deep").symlink_to("deep")
    assert score(table, tmp_path / "out").exit_code == 0
    deep = table
    while len(str(deep)) < 4096:
        deep /= "d" * 200
    result = score(deep, tmp_path / "out")
    assert (result.exit_code, str(deep) in result.stderr) == (1, True), result.output
    result = score(f"{tmp_path}/none/", tmp_path / "out")
    assert (result.exit_code, "There is no file to score" in result.stderr) == (1, True), result.output
