"""Compressed text as an input: whole, with all its members and streams, or refused."""

import bz2
import gzip
import io
import lzma
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.score import csv_rows, inputs, packed
from app.score.bad_rows import BadRows
from app.score.packed import unpacked
from app.score.pipeline import score_pieces
from app.score.scorer import Scored, Scorer
from tests.score.support import ROWS, Score

Pack = Callable[[bytes], bytes]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def read(content: bytes, path: str = "-") -> bytes:
    file, place = unpacked(io.BufferedReader(io.BytesIO(content)), path)  # pyright: ignore[reportArgumentType]
    text = file.read()
    assert place(len(text)) == len(content)
    return text


packers = pytest.mark.parametrize(
    ("pack", "suffix"), [(gzip.compress, ".gz"), (bz2.compress, ".bz2"), (zstd, ".zst")], ids=["gzip", "bzip2", "zstd"]
)


@packers
@pytest.mark.parametrize("format", ["csv", "ndjson"])
def test_it_is_scored_as_the_text_is(
    score: Score, folder: Path, tmp_path: Path, format: str, pack: Pack, suffix: str
) -> None:
    content = pack((folder / f"in.{format}").read_bytes())
    (tmp_path / f"in.{format}{suffix}").write_bytes(content)
    assert score(folder / f"in.{format}", tmp_path / "plain.csv").exit_code == 0
    for source, options, input in (
        (tmp_path / f"in.{format}{suffix}", (), None),
        ("-", ("--format", format), content),
    ):
        result = score(source, tmp_path / "out.csv", *options, input=input)
        assert result.exit_code == 0, result.output
        assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()


@packers
def test_members_and_streams_in_succession_are_one_text(pack: Pack, suffix: str) -> None:
    chance = random.Random(1)
    parts = [chance.randbytes(chance.choice([0, 1, 1000, 65_536, 300_000])) for _ in range(30)]
    assert read(b"".join(map(pack, parts))) == b"".join(parts)
    small = [b"%d\n" % number for number in range(5000)]
    assert read(b"".join(map(pack, small))) == b"".join(small)


def test_frames_of_pzstd_are_read() -> None:
    note = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    assert read(note + zstd(b"a") + note + zstd(b"b")) == b"ab"


@packers
def test_no_begin_of_a_file_is_read_as_if_it_were_whole(pack: Pack, suffix: str) -> None:
    one = pack(b"".join(b"%d,%d\n" % (number, number * number) for number in range(100)))
    for content in (one, pack(b"a\n") + one):
        for length in range(4, len(content)):
            if length != len(content) - len(one):
                with pytest.raises((OSError, EOFError)):
                    read(content[:length])
    with pytest.raises((OSError, EOFError)):
        read(one + b"what is no stream")


@packers
def test_a_damaged_file_is_named_and_has_no_output(
    score: Score, folder: Path, tmp_path: Path, pack: Pack, suffix: str
) -> None:
    content = (folder / "in.csv").read_bytes()
    source = tmp_path / f"in.csv{suffix}"
    for damaged, message in (
        (pack(content)[:-9], "cannot be read: Truncated compressed stream.\n"),
        (b"", "is not compressed by"),
        (content, "is not compressed by"),
    ):
        source.write_bytes(damaged)
        result = score(source, tmp_path / "out.csv")
        assert (result.exit_code, message in result.stderr) == (1, True), result.output
        assert str(source) in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_xz_and_a_compressed_output_are_refused(score: Score, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(lzma.compress((folder / "in.csv").read_bytes()))
    result = score(tmp_path / "packed", tmp_path / "out.csv", "--format", "csv")
    assert (result.exit_code, "compressed by xz: unpack it" in result.stderr) == (1, True), result.output
    for options in ((), ("--output-format", "csv")):
        result = score(folder / "in.csv", tmp_path / "out.csv.gz", *options)
        assert (result.exit_code, "would not be compressed" in result.stderr) == (1, True), result.output


def test_the_outputs_of_a_folder_have_names_without_the_packer(score: Score, folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    (many / "a.csv.gz").write_bytes(gzip.compress((folder / "in.csv").read_bytes()))
    (many / "B.NDJSON.BZ2").write_bytes(bz2.compress((folder / "in.ndjson").read_bytes()))
    (many / "c.parquet.gz").write_bytes(b"")
    result = score(many, tmp_path / "out")
    assert (result.exit_code, "(--format would): c.parquet.gz.\n" in result.stderr) == (0, True), result.output
    assert f"{2 * ROWS} rows in" in result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["B.NDJSON", "a.csv"]
    assert score(many, tmp_path / "other", "--output-format", "arrow").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "other").iterdir()) == ["B.arrow", "a.arrow"]
    (many / "a.csv").write_bytes((folder / "in.csv").read_bytes())
    result = score(many, tmp_path / "out")
    expected = f"The outputs of {many}/a.csv and {many}/a.csv.gz would be one file, {tmp_path}/out/a.csv.\n"
    assert (result.exit_code, result.stderr.endswith(expected)) == (1, True), result.output


def test_finished_parts_are_read_again_and_not_scored(
    score: Score, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 10_000)
    monkeypatch.setattr(inputs, "BATCHES_OF_PART", 1)
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress((folder / "in.csv").read_bytes()))
    assert score(folder / "in.csv", tmp_path / "whole.csv").exit_code == 0
    rows: list[int] = []
    plain = Scorer.scored

    def failing(self: Scorer, batch: Any, **options: Any) -> Any:
        if "n00600" in batch.column("id").to_pylist() and 0 not in rows:
            rows.append(0)
            raise OSError(5, "Input/output error")
        rows.append(batch.num_rows)
        return plain(self, batch, **options)

    monkeypatch.setattr(Scorer, "scored", failing)
    assert score(tmp_path / "in.csv.gz", tmp_path / "out.csv", "--resume").exit_code == 1
    rows[:] = [0]
    assert score(tmp_path / "in.csv.gz", tmp_path / "out.csv", "--resume").exit_code == 0
    assert 0 < sum(rows) < 700
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_nothing_is_read_ahead_any_more_once_no_rows_are_wanted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Arrow's thread may call into Python while that ends, which crashes it."""
    (tmp_path / "in.csv.bz2").write_bytes(bz2.compress((folder / "in.csv").read_bytes()))
    monkeypatch.setattr(csv_rows, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(packed, "BUFFER_BYTES", 500)
    monkeypatch.setattr(inputs, "unpacked", lambda file, path: slowed(*unpacked(file, path)))
    reading = threading.Event()

    def slowed(text: Any, place: Any) -> tuple[Any, Any]:
        plain = text.raw.readinto

        def readinto(buffer: Any) -> int:
            reading.set()
            time.sleep(0.005)  # as a large block takes
            count = plain(buffer)
            reading.clear()
            return count

        text.raw.readinto = readinto
        return text, place

    read = inputs.read_pieces(str(tmp_path / "in.csv.bz2"), "csv", (), lambda schema: schema.names)
    scored = score_pieces(read, lambda piece: Scored(piece.batch, BadRows()), most_bytes=1)
    assert next(scored).piece.batch.num_rows
    assert reading.wait(timeout=10)
    scored.close()
    assert not reading.is_set()
