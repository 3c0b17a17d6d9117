"""Stored costs: round trip, and new measurements instead of an unusable file."""

import logging
import threading
from pathlib import Path

import msgspec
import pytest

from app.models.disk import batch_costs
from app.models.disk.batch_costs import MAX_MODELS, BatchCosts, ModelCosts
from kernels.cost import Cost

CPU, GPU = {"a processor": Cost((1, 512), (1e-6, 1e-4))}, {"a GPU": Cost((1,), (3e-5,))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data" / "calibrations.json"


def stored(path: Path) -> list[ModelCosts]:
    return msgspec.json.decode(path.read_bytes(), type=list[ModelCosts])


def test_stored_costs_are_known_to_the_next_process(path: Path) -> None:
    assert BatchCosts(path).costs("m") == {}
    BatchCosts(path).store("m", CPU | GPU)
    assert BatchCosts(path).costs("m") == CPU | GPU
    assert BatchCosts(path).costs("another model") == {}


def test_the_file_is_for_its_owner_alone_and_nothing_lies_beside_it(path: Path) -> None:
    for digest in ("a", "b"):
        BatchCosts(path).store(digest, CPU)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert list(path.parent.iterdir()) == [path]


def test_machines_that_share_the_file_keep_each_other_s_costs(path: Path) -> None:
    costs = BatchCosts(path)
    costs.store("m", CPU)
    costs.store("m", GPU)
    assert costs.costs("m") == CPU | GPU
    newer = {"a GPU": Cost((1,), (1.0,))}
    costs.store("m", newer)
    assert costs.costs("m") == CPU | newer
    assert len(stored(path)) == 1


def test_other_kernels_have_other_costs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = BatchCosts(path)
    costs.store("m", CPU)
    with monkeypatch.context() as upgraded:
        upgraded.setattr(batch_costs, "kernels_version", lambda: "another")
        assert costs.costs("m") == {}
        costs.store("m", GPU)
        assert costs.costs("m") == GPU
    assert costs.costs("m") == CPU


def test_the_newest_models_are_kept(path: Path) -> None:
    costs = BatchCosts(path)
    for number in range(MAX_MODELS):
        costs.store(str(number), CPU)
    costs.store("0", GPU)
    costs.store("one more", CPU)
    assert len(stored(path)) == MAX_MODELS
    assert costs.costs("1") == {}
    assert costs.costs("0") == CPU | GPU
    assert costs.costs("one more") == costs.costs("2") == CPU


@pytest.mark.parametrize("costs", [{}, CPU], ids=["none", "known"])
def test_nothing_new_is_not_written(path: Path, costs: dict[str, Cost]) -> None:
    BatchCosts(path).store("m", CPU)
    before = path.stat().st_ino
    BatchCosts(path).store("m", costs)
    assert path.stat().st_ino == before


DAMAGED = {
    "empty": b"",
    "cut off": b'[{"kernels": "a", "digest"',
    "no JSON": b"\x00\xff\xfe",
    "not UTF-8": b'[{"kernels": "\xff", "digest": "m", "costs": {}}]',
    "another shape": b'{"version": 2, "models": {}}',
    "another entry": b'[{"kernels": "a", "digest": "m", "costs": [1, 2]}]',
    "a line": b'[{"kernels": "a", "digest": "m", "costs": {"d": {"fixed_seconds": 1e-6, "seconds_per_row": 1e-7}}}]',
    "negative": b'[{"kernels": "a", "digest": "m", "costs": {"d": {"rows": [1], "seconds": [-1]}}}]',
    "infinite": b'[{"kernels": "a", "digest": "m", "costs": {"d": {"rows": [1], "seconds": [1e999]}}}]',
    "deep": b'[{"more": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_a_warning_and_written_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "calibrations.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert BatchCosts(path).costs("m") == {}
    assert [record.message for record in caplog.records] == ["measured costs cannot be read"]
    BatchCosts(path).store("m", CPU)
    assert BatchCosts(path).costs("m") == CPU


def test_a_place_that_cannot_be_read_or_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken.json").mkdir()
    for path in (tmp_path / "file" / "calibrations.json", tmp_path / "taken.json"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            BatchCosts(path).store("m", CPU)
            assert BatchCosts(path).costs("m") == {}
        assert {record.message for record in caplog.records} == {
            "measured costs cannot be read",
            "measured costs cannot be written",
        }
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "taken.json"]


def test_writers_at_once_leave_a_whole_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    together = threading.Barrier(4)

    def write(name: str) -> None:
        together.wait()
        for number in range(25):
            BatchCosts(path).store(f"{name}{number}", CPU)
            BatchCosts(path).costs("m")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    with caplog.at_level(logging.WARNING):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caplog.records == []
    assert stored(path)
    assert list(path.parent.iterdir()) == [path]
