"""`madrone score` as people use it: its files, its exit status, its messages, and a run that was killed."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq
import pytest

from app.commands.common import settings_of_model
from app.config.settings import Settings
from app.score.scorer import Scorer
from tests.score.support import ROWS, Score


def table_of(path: Path) -> Any:
    match path.suffix:
        case ".parquet":
            return pq.read_table(path)
        case ".csv":
            return pyarrow.csv.read_csv(path)
        case ".ndjson":
            return pyarrow.json.read_json(path)
        case _:
            return pa.ipc.open_file(path).read_all()


@pytest.mark.parametrize(
    ("read", "written"), [("parquet", "csv"), ("csv", "ndjson"), ("ndjson", "arrow"), ("arrow", "parquet")]
)
def test_every_format_is_read_and_written(score: Score, folder: Path, tmp_path: Path, read: str, written: str) -> None:
    output = tmp_path / f"out.{written}"
    result = score(folder / f"in.{read}", output)
    assert result.exit_code == 0, result.output
    assert f"{ROWS} rows in" in result.stderr
    table = table_of(output)
    assert table.column_names == ["id", "prediction"]
    assert table["id"][7].as_py() == "n00007"
    assert np.allclose(table["prediction"], np.load(folder / "expected.npy"), rtol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_standard_input_goes_to_standard_output(score: Score, folder: Path) -> None:
    result = score("-", "-", "--format", "csv", "--keep", "none", input=(folder / "in.csv").read_bytes())
    assert result.exit_code == 0, result.stderr
    assert len(result.stdout.splitlines()) == ROWS + 1


def test_each_file_of_a_folder_has_an_output(score: Score, folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for name in ("a.parquet", "b.parquet"):
        (many / name).write_bytes((folder / "in.parquet").read_bytes())
    result = score(many, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.parquet", "b.parquet"]
    assert f"{2 * ROWS} rows in" in result.stderr


@pytest.mark.parametrize("sign", ["?", "[ab]", "*"])
def test_a_pattern_and_a_path_with_a_slash_at_its_end_mean_files_of_a_folder(
    score: Score, folder: Path, tmp_path: Path, sign: str
) -> None:
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(pq.read_table(folder / "in.parquet").slice(0, 5), tmp_path / name)
    one = score(f"{tmp_path}/{sign}.parquet", "-", "--output-format", "csv")
    assert (one.exit_code, one.stderr) == (1, "Several inputs need a folder for --output.\n")
    for source in (f"{tmp_path}/{sign}.parquet", tmp_path / "a.parquet"):
        result = score(source, f"{tmp_path}/out/", "--output-format", "csv")
        assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv", "b.csv"]


def test_of_several_files_that_at_fault_is_named(score: Score, folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    (many / "a.csv").write_text("x,y,z\n1,2,3\n")
    (many / "b.csv").write_text("x,y,z\n1,2,3\n1,2,q\n")
    result = score(many, tmp_path / "out", "--on-error", "null")
    assert (result.exit_code, f"  {many}/b.csv, row 1: z must be a number\n" in result.stderr) == (0, True), (
        result.output
    )
    result = score(many, tmp_path / "out")
    assert result.stderr.startswith(f"{many}/b.csv: 1 bad row\n"), result.output
    (many / "b.csv").write_text("x,y\n1,2\n")
    result = score(many, tmp_path / "out")
    assert result.stderr == f"{many}/b.csv: The columns are not the model's features. z is missing.\n"
    (tmp_path / "file").touch()
    result = score(many, tmp_path / "file")
    assert (result.exit_code, result.stderr) == (1, "Several inputs need a folder for --output.\n")


@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_tells_the_exit_status_from_the_begin_on(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, swallowed: bool
) -> None:
    def interrupted(model: str) -> Settings:
        with suppress(BaseException) if swallowed else nullcontext():
            os.kill(os.getpid(), number)
        return settings_of_model(model)

    monkeypatch.setattr("app.commands.score.settings_of_model", interrupted)
    result = score(folder / "in.parquet", tmp_path / "out.parquet")
    assert (result.exit_code, "is not complete" in result.stderr) == (128 + number, True), result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("on_error", "status", "count"), [("fail", 1, None), ("null", 0, ROWS), ("skip", 0, ROWS - 2)]
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_bad_rows_fail_have_nulls_or_are_left_out(
    score: Score, folder: Path, tmp_path: Path, on_error: str, status: int, count: int | None, suffix: str
) -> None:
    lines = (folder / f"in.{suffix}").read_text().splitlines()
    first = 1 if suffix == "csv" else 0
    for row in (5, 700):
        lines[first + row] = "n,secret,1,1" if suffix == "csv" else '{"id":"n","x":"secret","y":1,"z":1}'
    source, output = tmp_path / f"in.{suffix}", tmp_path / "out.parquet"
    source.write_text("\n".join(lines))
    result = score(source, output, "--on-error", on_error)
    assert result.exit_code == status, result.output
    assert "2 bad rows" in result.stderr
    assert "row 5: " in result.stderr
    assert "row 700: " in result.stderr
    assert "secret" not in result.output
    assert output.exists() == (count is not None)
    if count is not None:
        assert len(pq.read_table(output)) == count
        assert pq.read_table(output)["prediction"].null_count == (2 if on_error == "null" else 0)


@pytest.mark.parametrize(
    ("source", "options", "status", "message"),
    [
        ("none.parquet", (), 1, "There is no file to score"),
        ("m.txt", (), 1, "format of"),
        ("m.txt", ("--format", "parquet"), 1, "cannot be read"),
        ("in.parquet", ("--output", "out.xlsx"), 1, "told by its name; give it with --output-format"),
        ("in.parquet", ("--interval", "0.9"), 1, "no intervals of level 0.9"),
        ("in.parquet", ("--labels",), 1, "no labels"),
        ("in.parquet", ("--map", "q=x"), 1, "no column q"),
        ("in.parquet", ("--map", "x"), 2, "must be the input"),
        ("in.parquet", ("--explain", "5"), 2, "top="),
        ("-", (), 2, "--format"),
        ("-", ("--format", "csv", "--resume"), 2, "--resume needs files"),
    ],
)
def test_what_cannot_be_done_is_said(
    score: Score, folder: Path, tmp_path: Path, source: str, options: tuple[str, ...], status: int, message: str
) -> None:
    result = score(source if source == "-" else folder / source, tmp_path / "out.parquet", *options)
    assert (result.exit_code, message in result.stderr) == (status, True), result.output
    assert list(tmp_path.iterdir()) == []


def test_finished_parts_are_not_scored_again(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert score(folder / "in.parquet", whole).exit_code == 0
    scored: list[int] = []
    plain = Scorer.scored

    def failing(self: Scorer, batch: Any, **options: Any) -> Any:
        if batch.num_rows and batch.column("id")[0].as_py() == "n00600" and 600 not in scored:
            scored.append(600)
            raise OSError(5, "Input/output error")
        scored.append(batch.num_rows)
        return plain(self, batch, **options)

    monkeypatch.setattr(Scorer, "scored", failing)
    assert score(folder / "in.parquet", output, "--resume").exit_code == 1
    assert not output.exists()
    other = score(folder / "in.parquet", output, "--resume", "--keep", "none")
    assert (other.exit_code, "another options" in other.stderr) == (1, True), other.output
    scored[:] = [600]
    assert score(folder / "in.parquet", output, "--resume").exit_code == 0
    assert sum(scored[1:]) <= 500  # the part before may not have been written yet
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]


def test_finished_files_of_a_folder_are_not_scored_again(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    (many / "a.parquet").write_bytes((folder / "in.parquet").read_bytes())
    pq.write_table(pa.table({"x": [1.0]}), many / "b.parquet")  # lacks y and z
    assert score(many, out, "--resume").exit_code == 1
    rows: list[int] = []
    plain = Scorer.scored

    def counting(self: Scorer, batch: Any, **options: Any) -> Any:
        rows.append(batch.num_rows)
        return plain(self, batch, **options)

    monkeypatch.setattr(Scorer, "scored", counting)
    pq.write_table(pq.read_table(folder / "in.parquet").slice(0, 50), many / "b.parquet")
    shutil.rmtree(out / ".b.parquet.parts")  # of the input as it was before
    assert score(many, out, "--resume").exit_code == 0
    assert sum(rows) == 50
    assert sorted(path.name for path in out.iterdir()) == ["a.parquet", "b.parquet"]


def test_a_killed_run_goes_on(score: Score, folder: Path, registry_dir: Path, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    assert score(folder / "in.parquet", whole).exit_code == 0
    # A process that kills itself when the fifth part begins, as a machine that loses its power.
    code = (
        "import os, signal, sys; from app.score.parts import Parts; plain = Parts.writer\n"
        "def writer(self, number, schema):\n"
        "    if number == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(self, number, schema)\n"
        "Parts.writer = writer\n"
        "from app.models.process import client, worker; client.quiet_worker = worker.ModelWorker\n"
        "from app.cli import main; main()"
    )
    arguments = [
        "score",
        str(folder / "in.parquet"),
        "--model",
        str(folder / "m.txt"),
        "--output",
        str(output),
        "--resume",
    ]
    environ = os.environ | {"DATA_DIR": str(registry_dir)}
    killed = subprocess.run([sys.executable, "-c", code, *arguments], env=environ, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert score(folder / "in.parquet", output, "--resume").exit_code == 0
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "whole.parquet"]
