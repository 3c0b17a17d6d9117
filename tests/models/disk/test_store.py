"""The model store: order, round trip, and the number of entries."""

import math
import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from app.models.artifact import read_artifact
from app.models.disk import store as store_module
from app.models.disk.entry import StoreCorrupt
from app.models.identity import ModelIdentity
from tests.models.disk.storing import (
    FILES,
    SOURCE,
    described,
    entry_directory,
    keep,
    names,
    open_store,
    place,
    versions_that_load,
    with_another_example,
)
from tests.models.support import SavedModel

REFERRING = ("MLmodel", "model.lgb", "plan.json", "references.npy", "difficulty.lgb", "intervals.json", "profile.json")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models"


def test_a_model_comes_back_to_the_next_process_as_it_was_kept(saved: SavedModel, directory: Path) -> None:
    identity = ModelIdentity(name="houses", version="7", aliases=("champion", "später"), run_id="r", created_at_ms=3)
    keep(open_store(directory), saved.directory, identity=identity, resolved_by="alias champion")
    store = open_store(directory)
    (entry,) = store.entries()
    kept = described(saved.directory, identity=identity, resolved_by="alias champion")
    assert msgspec.structs.replace(entry, files={}, sequence=0) == kept
    artifact = store.load(entry)
    assert artifact.example == read_artifact(saved.directory).example
    np.testing.assert_array_equal(
        artifact.engine().predict(saved.rows), read_artifact(saved.directory).engine().predict(saved.rows)
    )
    assert store.status() == store_module.StoreStatus(entries=("7",))


def test_a_model_of_many_files_comes_back(referring: Path, directory: Path) -> None:
    store = open_store(directory)
    store.keep(referring, [name for name in REFERRING if (referring / name).exists()], described(referring))
    assert versions_that_load(store) == ["1"]
    loaded, saved = store.load(store.entries()[0]), read_artifact(referring)
    assert (loaded.intervals, loaded.profile) == (saved.intervals, saved.profile)


def test_only_the_owner_can_read_and_the_source_is_hashed(saved: SavedModel, directory: Path) -> None:
    before = os.umask(0)
    try:
        keep(open_store(directory), saved.directory)
    finally:
        os.umask(before)
    paths = [directory, *directory.rglob("*")]
    assert {stat.S_IMODE(path.lstat().st_mode) for path in paths if path.is_dir()} == {0o700}
    files = [path for path in paths if path.is_file()]
    assert {stat.S_IMODE(path.lstat().st_mode) for path in files} == {0o600}
    assert len(files) == len(FILES) + 1
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert not [path for path in paths if "secret" in path.name]


def test_each_registry_and_each_registered_model_has_its_own(saved: SavedModel, directory: Path) -> None:
    keep(open_store(directory, 1), saved.directory, "1")
    keep(open_store(directory, 1, name="flats"), saved.directory, "2")
    keep(open_store(directory, 1, source=SOURCE + "/"), saved.directory, "3")
    assert versions_that_load(open_store(directory, 1)) == ["1"]
    assert versions_that_load(open_store(directory, 1, name="flats")) == ["2"]


def test_the_oldest_are_forgotten(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory, 2)
    for version in ("10", "9", "11"):
        keep(store, saved.directory, version)
    assert versions_that_load(store) == ["11", "9"]
    assert store.status().entries == ("11", "9")
    assert len(names(place(directory))) == 2


def test_a_clock_that_jumps_back_changes_no_order(saved: SavedModel, directory: Path) -> None:
    for number in range(4):
        keep(
            open_store(directory, 2),
            saved.directory,
            str(number),
            stored_at=datetime(2026, 1, 1, tzinfo=UTC) - timedelta(days=number),
        )
    assert versions_that_load(open_store(directory)) == ["3", "2"]


def test_one_that_is_kept_again_is_the_last_and_not_copied(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    first = keep(store, saved.directory, "1")
    keep(store, saved.directory, "2")
    inode = (entry_directory(directory, first) / "model" / "model.lgb").stat().st_ino
    again = keep(store, saved.directory, "1", resolved_by="alias champion", selection="alias")
    assert (entry_directory(directory, first) / "model" / "model.lgb").stat().st_ino == inode
    assert (again.resolved_by, again.selection) == ("alias champion", "alias")
    assert versions_that_load(store) == ["1", "2"]


def test_one_that_is_described_anew_is_the_last_and_no_other_comes_of_it(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    for version in ("1", "2"):
        keep(store, saved.directory, version)
    store.describe(described(saved.directory, "1", resolved_by="alias champion"))
    assert versions_that_load(store) == ["1", "2"]
    assert store.entries()[0].resolved_by == "alias champion"
    store.describe(described(saved.directory, "3"))
    assert versions_that_load(store) == ["1", "2"]


def test_one_that_is_kept_again_over_a_damaged_one_is_whole(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    entry = keep(store, saved.directory)
    (entry_directory(directory, entry) / "model" / "model.lgb").write_bytes(b"tree")
    keep(store, saved.directory)
    assert versions_that_load(store) == ["1"]
    assert len(store.status().quarantined) == 1


def test_another_input_example_replaces_the_entry(saved: SavedModel, directory: Path, tmp_path: Path) -> None:
    store = open_store(directory)
    keep(store, saved.directory)
    keep(store, with_another_example(saved.directory, tmp_path / "other"))
    (entry,) = store.entries()
    assert store.load(entry).example is None
    assert names(place(directory)) == {entry.directory_name}


def test_an_entry_that_another_process_wrote_meanwhile_is_no_error(
    saved: SavedModel, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(directory)
    write = store_module.write_entry

    def overtaken(*arguments: object) -> None:
        monkeypatch.setattr(store_module, "write_entry", write)
        keep(open_store(directory), saved.directory, selection="theirs")
        write(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store_module, "write_entry", overtaken)
    entry = keep(store, saved.directory, selection="ours")
    assert entry.selection == "ours"
    assert versions_that_load(store) == ["1"]
    assert names(place(directory)) == {entry.directory_name}


def test_one_that_another_process_removed_is_not_there_and_not_damaged(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    entry = keep(store, saved.directory, "1")
    keep(open_store(directory, 1), saved.directory, "2")
    with pytest.raises(StoreCorrupt, match="it is gone: another process has removed"):
        store.load(entry)
    assert store.status() == store_module.StoreStatus(entries=("2",))


def test_a_metric_that_is_no_number_costs_only_itself(saved: SavedModel, directory: Path) -> None:
    entry = keep(open_store(directory), saved.directory, metrics={"a": math.nan, "b": math.inf, "c": 0.1})
    assert entry.metrics == {"c": 0.1}


@pytest.mark.parametrize(
    "changes", [{"selection": "\ud800"}, {"stored_at": datetime(2026, 1, 1)}, {"selection": "x" * 2**21}]
)
def test_an_entry_that_could_not_be_read_back_is_not_stored(
    changes: dict[str, str], saved: SavedModel, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(directory)
    store.keep(saved.directory, FILES, described(saved.directory, **changes))
    assert store.status().last_error
    assert [record.message for record in caplog.records] == ["model cannot be stored on disk"]
    assert list(place(directory).iterdir()) == []


def test_a_failed_write_is_reported_until_one_succeeds(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    store.keep(saved.directory, ["gone"], described(saved.directory))
    assert store.status().last_error == "the model has no file 'gone'"
    keep(store, saved.directory)
    assert store.status().last_error is None


def test_abandoned_files_are_removed_when_old(saved: SavedModel, directory: Path) -> None:
    entry = keep(open_store(directory), saved.directory)
    for name in ("incoming-young", "incoming-old", "outgoing-young"):
        (place(directory) / name / "model").mkdir(parents=True)
    (place(directory) / "incoming-file").touch()
    for name in ("incoming-old", "incoming-file"):
        os.utime(place(directory) / name, (0, 0))
    assert open_store(directory).entries() == [entry]
    assert names(place(directory)) == {entry.directory_name, "incoming-young"}


def test_a_start_imports_neither_mlflow_nor_lightgbm() -> None:
    script = "import sys, app.models.disk.store; print([it for it in ('mlflow', 'lightgbm') if it in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
