"""The spool's files: nothing half written stays, and each ends and goes when its time has come."""

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.prediction_log.messages import Drained
from app.prediction_log.spool import segments as spool_files
from app.prediction_log.spool.segments import Spool, SpoolFull, SpoolLocked
from tests.prediction_log.spooling import MODEL, append, record, segments


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[Callable[..., Spool]]:
    """Opens spools in one directory, and closes them after the test."""
    opened: list[Spool] = []

    def make(most_bytes: int = 2**20) -> Spool:
        spool = Spool(tmp_path / "spool", most_bytes)
        opened.append(spool)
        spool.open()
        return spool

    yield make
    for spool in opened:
        spool.close()


def contents(tmp_path: Path) -> list[bytes]:
    return [path.read_bytes() for path in segments(tmp_path / "spool")]


def test_a_model_is_written_once_a_segment(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    spool = open_spool()
    append(spool, 1, 2)
    spool.seal()
    append(spool, 3)
    assert contents(tmp_path) == [MODEL + record(1) + record(2), MODEL + record(3)]
    assert (spool.rows, spool.size) == (3, sum(map(len, contents(tmp_path))))
    assert oct(segments(tmp_path / "spool")[0].stat().st_mode)[-3:] == "600"


def test_a_segment_ends_at_its_size(
    open_spool: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_files, "SEGMENT_BYTES", 500)
    spool = open_spool()
    append(spool, *range(12))
    sizes = [len(content) for content in contents(tmp_path)]
    assert len(sizes) > 1
    assert all(500 <= size < 500 + len(record(0)) for size in sizes[:-1])
    assert [one.sealed for one in spool.readable()] == [True] * (len(sizes) - 1) + [sizes[-1] >= 500]


def test_at_its_bound_it_takes_nothing_until_a_segment_goes(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    spool = open_spool(1000)
    with pytest.raises(SpoolFull):
        append(spool, *range(100))
    before = contents(tmp_path)
    assert 0.8 * 1000 < sum(map(len, before)) <= 1000
    with pytest.raises(SpoolFull):
        append(spool, 100)
    assert contents(tmp_path) == before
    first = spool.readable()[0]
    spool.advance(Drained(first.name, first.size, 1))
    append(spool, 100)
    assert contents(tmp_path) == [*before[1:], MODEL + record(100)]


def test_a_segment_goes_once_it_is_sealed_and_written_whole(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    spool = open_spool()
    append(spool, 1, 2, 3)
    (segment,) = spool.readable()
    assert spool.advance(Drained(segment.name, 100, 1)) == (1, True, False)
    assert spool.advance(Drained(segment.name, segment.size, 3)) == (2, True, False)
    assert (spool.waits, spool.rows, len(contents(tmp_path))) == (False, 0, 1)
    spool.seal()
    assert spool.waits
    assert spool.advance(Drained(segment.name, segment.size, 3)) == (0, True, False)
    assert (spool.waits, spool.size, contents(tmp_path)) == (False, 0, [])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("taken", [0, 30])
def test_what_fails_leaves_nothing_and_no_further_record_follows(
    open_spool: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, taken: int
) -> None:
    spool = open_spool()
    append(spool, 1)
    real, calls = os.write, iter(range(100))

    def fail(descriptor: int, content: bytes) -> int:
        if taken and next(calls) == 0:
            return real(descriptor, content[:taken])
        raise OSError(error, "")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match=str(error)):
            append(spool, 2)
        assert contents(tmp_path) == [MODEL + record(1)]
        assert [one.sealed for one in spool.readable()] == [True]
        with pytest.raises(OSError, match=str(error)):
            append(spool, 3)
    assert contents(tmp_path) == [MODEL + record(1)]
    append(spool, 4)
    assert contents(tmp_path) == [MODEL + record(1), MODEL + record(4)]
    assert spool.rows == 2


def test_a_directory_that_cannot_be_flushed_gets_no_segment(
    open_spool: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool()

    def fail(directory: Path) -> None:
        raise OSError(errno.EIO, "")

    with monkeypatch.context() as patch:
        patch.setattr(spool_files, "sync_directory", fail)
        with pytest.raises(OSError):  # noqa: PT011 - of any kind
            append(spool, 1)
    assert contents(tmp_path) == []
    append(spool, 2)
    assert contents(tmp_path) == [MODEL + record(2)]


def test_a_limit_of_the_file_size_is_met_as_a_full_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 2**20)
    spool.open()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the code is looked at
            append(spool, *range(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    (content,) = contents(tmp_path)
    assert content == MODEL + b"".join(map(record, range((len(content) - len(MODEL)) // len(record(0)))))
    assert 300 - len(record(0)) < len(content) <= 300
    spool.close()


def test_a_start_finds_the_segments_and_numbers_go_on(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    first = open_spool()
    append(first, 1)
    first.seal()
    append(first, 2)
    first.close()
    (tmp_path / "spool" / "another file").write_text("is left alone")
    second = open_spool()
    append(second, 3)
    assert contents(tmp_path) == [MODEL + record(1), MODEL + record(2), MODEL + record(3)]
    assert [one.sealed for one in second.readable()] == [True, True, False]
    assert second.rows == 1


def test_an_empty_segment_of_an_earlier_start_goes(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    name = f"0000000007-{'0' * 32}.spool"
    (tmp_path / "spool" / name).touch()
    spool = open_spool()
    assert spool.advance(Drained(name)) == (0, True, True)
    assert contents(tmp_path) == []


def test_a_directory_that_cannot_be_read_is_opened_later(
    open_spool: Callable[..., Spool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path) -> None:
        raise OSError(errno.EIO, "")

    spool = Spool(tmp_path / "spool", 2**20)
    with monkeypatch.context() as patch:
        patch.setattr(spool_files, "sync_directory", fail)
        with pytest.raises(OSError, match=str(errno.EIO)):
            spool.open()
    spool.open()
    append(spool, 1)
    spool.close()


def test_one_process_has_it_at_a_time(open_spool: Callable[..., Spool], tmp_path: Path) -> None:
    first = open_spool()
    with pytest.raises(SpoolLocked):
        open_spool()
    first.close()
    open_spool()
