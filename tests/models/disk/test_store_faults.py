"""A full, read-only or missing disk is a warning, and loses no stored model."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.models.disk import store as store_module
from app.models.disk.entry import StoreCorrupt
from tests.models.disk.storing import (
    FILES,
    described,
    entry_directory,
    keep,
    mount,
    names,
    open_store,
    place,
    versions_that_load,
)
from tests.models.support import SavedModel


def make_read_only(disk: Path) -> None:
    assert mount("-o", "remount,ro", str(disk)).returncode == 0


def fill(disk: Path, leave: int) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(free - leave))


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records]


@pytest.mark.parametrize("leave", [0, 4096, 8192])
def test_a_full_disk_is_reported_and_loses_no_stored_model(
    leave: int, saved: SavedModel, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(disk / "models")
    first = keep(store, saved.directory, "1")
    fill(disk, leave)
    store.keep(saved.directory, FILES, described(saved.directory, "2"))
    assert store.status().last_error == "No space left on device"
    assert complaints(caplog) == ["model cannot be stored on disk"]
    assert names(place(disk / "models")) == {first.directory_name}
    assert versions_that_load(open_store(disk / "models")) == ["1"]
    (disk / "filler").unlink()
    keep(store, saved.directory, "2")
    assert versions_that_load(store) == ["2", "1"]


def test_a_failed_description_is_reported_and_leaves_the_old_one(saved: SavedModel, disk: Path) -> None:
    store = open_store(disk / "models")
    keep(store, saved.directory, "1")
    fill(disk, 0)
    store.describe(described(saved.directory, "1", resolved_by="alias champion"))
    assert store.status().last_error == "No space left on device"
    (entry,) = open_store(disk / "models").entries()
    assert entry.resolved_by == "stage Production"


def test_a_disk_that_was_full_from_the_start_holds_nothing(saved: SavedModel, disk: Path) -> None:
    fill(disk, 0)
    store = open_store(disk / "models")
    store.keep(saved.directory, FILES, described(saved.directory))
    assert store.status().last_error == "No space left on device"
    assert store.entries() == []
    assert names(place(disk / "models")) == set()


def test_a_damaged_entry_on_a_full_disk_is_not_served(saved: SavedModel, disk: Path) -> None:
    store = open_store(disk / "models")
    keep(store, saved.directory, "1")
    bad = keep(store, saved.directory, "2")
    (entry_directory(disk / "models", bad) / "model" / "MLmodel").write_bytes(b"x")
    fill(disk, 0)
    with pytest.raises(StoreCorrupt):
        store.load(store.entries()[0])
    assert versions_that_load(store) == ["1"]
    assert len(store.status().quarantined) == 1


def test_a_read_only_disk_serves_and_tells(saved: SavedModel, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(open_store(disk / "models"), saved.directory, "1")
    bad = keep(open_store(disk / "models"), saved.directory, "2")
    (entry_directory(disk / "models", bad) / "model" / "MLmodel").write_bytes(b"x")
    make_read_only(disk)
    store = open_store(disk / "models")
    with pytest.raises(StoreCorrupt, match="'MLmodel' is not what was written"):
        store.load(store.entries()[0])
    assert versions_that_load(store) == ["1"]
    assert versions_that_load(store) == ["1"]
    assert store.status().quarantined == (f"{bad.directory_name}: its file 'MLmodel' is not what was written",)
    assert complaints(caplog) == ["kept model is damaged", "damaged model cannot be moved"]
    store.keep(saved.directory, FILES, described(saved.directory, "3"))
    assert store.status().last_error == "Read-only file system"
    assert store.status().entries == ("1",)


def test_one_that_could_not_be_moved_is_served_when_it_is_kept_again(saved: SavedModel, disk: Path) -> None:
    store = open_store(disk / "models")
    bad = keep(store, saved.directory)
    (entry_directory(disk / "models", bad) / "model" / "MLmodel").write_bytes(b"x")
    fill(disk, 0)
    with pytest.raises(StoreCorrupt):
        store.load(bad)
    (disk / "filler").unlink()
    keep(store, saved.directory)
    assert versions_that_load(store) == ["1"]


@pytest.mark.parametrize("where", ["file", "file/models", "link"])
def test_a_store_path_that_is_no_directory_is_reported(where: str, saved: SavedModel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    store = open_store(tmp_path / where)
    assert store.entries() == []
    store.keep(saved.directory, FILES, described(saved.directory))
    assert store.status().last_error == "Not a directory"
    assert store.entries() == []


def test_a_link_in_the_place_of_the_entries_is_not_followed(saved: SavedModel, tmp_path: Path) -> None:
    keep(open_store(tmp_path / "models"), saved.directory)
    here = place(tmp_path / "models")
    here.rename(tmp_path / "elsewhere")
    here.symlink_to(tmp_path / "elsewhere")
    store = open_store(tmp_path / "models")
    assert store.entries() == []
    store.keep(saved.directory, FILES, described(saved.directory, "2"))
    assert "must be a directory of this user, and no link" in (store.status().last_error or "")
    assert len(names(tmp_path / "elsewhere")) == 1


def test_nothing_is_named_before_the_disk_has_it(
    saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    sync, rename = os.fsync, Path.rename

    def record(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        sync(descriptor)

    def check(path: Path, target: Path) -> Path:
        paths = [path, *path.rglob("*")]
        assert [it for it in paths if it.lstat().st_ino not in synced] == []
        assert len(paths) == 2 + len(FILES) + 1
        synced.clear()
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", record)
        patched.setattr(Path, "rename", check)
        keep(open_store(tmp_path / "models"), saved.directory)
    assert place(tmp_path / "models").lstat().st_ino in synced


def test_a_file_that_changes_while_it_is_copied_is_not_kept(
    saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(saved.directory, model)
    store = open_store(tmp_path / "models")
    entry, write = described(model), store_module.write_entry

    def write_late(*arguments: Any) -> None:
        (model / "MLmodel").write_bytes(b"x")
        write(*arguments)

    monkeypatch.setattr(store_module, "write_entry", write_late)
    store.keep(model, FILES, entry)
    assert store.status().last_error == "the model's file 'MLmodel' changed while it was copied"
    assert names(place(tmp_path / "models")) == set()
