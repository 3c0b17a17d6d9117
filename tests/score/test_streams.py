"""Pipes, devices, links and folders as inputs and outputs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.score.places import opened, streamed
from tests.score.support import ROWS, Score


def test_a_pipe_is_an_input_of_every_format(score: Score, folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for suffix in ("parquet", "csv"):
        writing = threading.Thread(
            target=(tmp_path / "pipe").write_bytes, args=[(folder / f"in.{suffix}").read_bytes()]
        )
        writing.start()
        result = score(tmp_path / "pipe", tmp_path / "out.parquet", "--format", suffix)
        writing.join()
        assert result.exit_code == 0, result.output
        assert len(pq.read_table(tmp_path / "out.parquet")) == ROWS
        (tmp_path / "out.parquet").unlink()


def test_parquet_on_standard_input_is_copied_to_the_disk_and_not_held(folder: Path) -> None:
    code = (
        "import sys, tempfile; from app.score.places import sought\n"
        "with sought('-') as file: print(file.fileno() > 2, file.seek(0, 2))"
    )
    content = (folder / "in.parquet").read_bytes()
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == [b"True", str(len(content)).encode()]


def test_a_pipe_is_written_and_not_replaced(score: Score, folder: Path, tmp_path: Path) -> None:
    """As /dev/stdout and /dev/null are."""
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reading = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reading.start()
    result = score(folder / "in.csv", tmp_path / "pipe", "--output-format", "csv")
    reading.join()
    assert result.exit_code == 0, result.output
    assert len(read[0].splitlines()) == ROWS + 1
    assert [(path.name, path.is_fifo()) for path in tmp_path.iterdir()] == [("pipe", True)]
    assert score(folder / "in.csv", tmp_path / "pipe", "--output-format", "csv", "--resume").exit_code == 2


def test_what_a_link_leads_to_is_replaced_and_not_the_link(score: Score, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.parquet").symlink_to(tmp_path / "there" / "real.parquet")
    assert score(folder / "in.csv", tmp_path / "out.parquet").exit_code == 0
    assert (tmp_path / "out.parquet").is_symlink()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["real.parquet"]


def test_a_folder_that_is_not_there_is_named(score: Score, folder: Path, tmp_path: Path) -> None:
    result = score(folder / "in.csv", tmp_path / "none" / "out.csv")
    assert (result.exit_code, result.stderr) == (1, f"There is no folder {tmp_path / 'none'}.\n")


def test_closed_standard_streams_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stdin", None)
    for of in (streamed, opened):
        with pytest.raises(OSError, match="is closed"), of("-"):
            pass
