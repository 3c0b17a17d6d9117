"""Stored models: hostile names are harmless, and no damage goes unnoticed."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.models.disk.entry import DIRECTORY_NAME, FORMAT, MAX_METADATA_BYTES, StoreCorrupt
from app.models.disk.quarantine import MAX_HELD
from app.models.identity import ModelIdentity
from tests.models.disk.storing import (
    FILES,
    described,
    entry_directory,
    keep,
    names,
    open_store,
    place,
    versions_that_load,
)
from tests.models.support import SavedModel, tiny_booster, with_booster

HOSTILE = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["..", ".", "", "model.lgb", "sub", "inward", "outward", "pipe", "x" * 300])).map(
        "/".join
    ),
    st.characters(categories=["Cs"]),
)
READ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def strange(saved: SavedModel, tmp_path: Path) -> Path:
    """A model directory that has, besides the model, links, a pipe and a directory."""
    directory = tmp_path / "strange"
    shutil.copytree(saved.directory, directory)
    (tmp_path / "secret").write_text("secret")
    (directory / "sub").mkdir()
    (directory / "sub" / "file").write_text("plain")
    (directory / "linked").symlink_to("model.lgb")
    (directory / "inward").symlink_to("sub")
    (directory / "outward").symlink_to(tmp_path)
    (directory / "circle").symlink_to("circle")
    os.mkfifo(directory / "pipe")
    return directory


@READ
@given(version=HOSTILE)
@example(version="../x")
@example(version="")
@example(version="1\0")
@example(version="٣")
@example(version="x" * 100_000)
def test_no_version_s_text_reaches_a_path(version: str, saved: SavedModel) -> None:
    entry = described(saved.directory, identity=ModelIdentity(name="houses", version=version))
    assert DIRECTORY_NAME.fullmatch(entry.directory_name)
    other = msgspec.structs.replace(entry, identity=ModelIdentity(name="houses", version=version + "0"))
    assert other.directory_name != entry.directory_name


@pytest.mark.parametrize(
    "version",
    ["../x", "", "/etc", "1\0", "x" * 5000, "21\n", "\n21", " 23", "-25", "+1", "2_4", "2.0", "٣", "²", "1" * 21],
)
def test_a_version_without_a_number_is_not_kept(version: str, saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    store.keep(saved.directory, FILES, described(saved.directory, version))
    assert "$.identity.version" in str(store.status().last_error)
    assert versions_that_load(open_store(directory)) == []


def test_a_stage_that_mlflow_does_not_have_is_not_kept(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    identity: Any = ModelIdentity(name="houses", version="1", stage="Live\r\nX: y")  # pyright: ignore[reportArgumentType]
    store.keep(saved.directory, FILES, described(saved.directory, identity=identity))
    assert "$.identity.stage" in str(store.status().last_error)


@READ
@given(name=HOSTILE)
@example(name="../secret")
@example(name="outward/secret")
@example(name="sub/file")
def test_a_file_is_kept_in_its_place_or_refused(name: str, strange: Path, tmp_path: Path) -> None:
    directory = tmp_path / "models"
    shutil.rmtree(directory, ignore_errors=True)
    before = names(tmp_path)
    store = open_store(directory)
    store.keep(strange, [*FILES, name], described(strange))
    if store.status().last_error is not None:
        assert store.entries() == []
        assert names(place(directory)) == set()
    else:
        (entry,) = store.entries()
        path = entry_directory(directory, entry) / "model" / name
        assert path.resolve() == path
        assert path.read_bytes() == (strange / name).read_bytes()
        assert store.load(entry)
    assert names(tmp_path) == before | {"models"}


REFUSED = [
    "../secret",
    "/etc/hostname",
    "linked",
    "inward/file",
    "outward/secret",
    "circle",
    "circle/file",
    "pipe",
    "sub",
]


@pytest.mark.parametrize("name", [*REFUSED, "", ".", "sub/", "sub//file", "sub/../model.lgb", "model.lgb/file", "\0"])
def test_anything_but_a_plain_file_inside_is_refused(name: str, strange: Path, directory: Path) -> None:
    store = open_store(directory)
    store.keep(strange, [*FILES, name], described(strange))
    assert (store.status().last_error or "").startswith("the model")
    assert store.entries() == []


def test_a_device_is_refused(strange: Path, directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a device")
    try:
        os.mknod(strange / "device", 0o020600, os.makedev(1, 5))  # what /dev/zero is, which never ends
    except PermissionError as error:
        pytest.skip(f"no device can be made: {error}")
    store = open_store(directory)
    store.keep(strange, ["device"], described(strange))
    assert store.status().last_error == "the model has no file 'device'"


def sealed(entry: Any, **changes: Any) -> bytes:
    """An `entry.json` whose hash is right, whatever it says."""
    body = msgspec.json.encode(entry)
    envelope = {"format": FORMAT, "sha256": hashlib.sha256(body).hexdigest(), "entry": msgspec.Raw(body)}
    return msgspec.json.encode(envelope | changes)


def without(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def linked(path: Path) -> None:
    """The same content, by way of a link to it."""
    elsewhere = next(parent for parent in path.parents if parent.name == "models").parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def write(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes(content)


def said(**changes: Any) -> Callable[[Path], Any]:
    """Changes what `entry.json` says, with a right hash."""

    def change(path: Path) -> None:
        content = msgspec.json.decode((path / "entry.json").read_bytes())["entry"]
        (path / "entry.json").write_bytes(sealed(content | changes))

    return change


def reversed_booster(path: Path) -> None:
    """A model that is another, and of which `entry.json` gives the right hash."""
    other = with_booster(tiny_booster(rounds=2).model_to_string(), path / "model", path.parents[2] / "other")
    shutil.copy(other / "model.lgb", path / "model" / "model.lgb")
    digest = hashlib.sha256((other / "model.lgb").read_bytes()).hexdigest()
    content = msgspec.json.decode((path / "entry.json").read_bytes())["entry"]
    said(files=content["files"] | {"model.lgb": digest})(path)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no entry.json": (lambda path: without(path / "entry.json"), "No such file"),
    "empty entry.json": (write("entry.json", b""), "entry.json cannot be read"),
    "nested": (write("entry.json", b'{"format": 1, "entry": ' + b"[" * 100_000), "entry.json cannot be read"),
    "not UTF-8": (write("entry.json", b'{"format": 1, "sha256": "\xff"}'), "entry.json"),
    "no mapping": (write("entry.json", b"[]"), "entry.json cannot be read"),
    "huge": (write("entry.json", b" " * (MAX_METADATA_BYTES + 1)), "entry.json is larger than 1048576 bytes"),
    "earlier": (write("entry.json", b'{"version": "1"}'), "entry.json has format 0, and 1 is read"),
    "later": (write("entry.json", b'{"format": 2}'), "entry.json has format 2, and 1 is read"),
    "another hash": (write("entry.json", sealed({}, sha256="0" * 64)), "entry.json is not what was written"),
    "no fields": (write("entry.json", sealed({})), "missing required field"),
    "wrong type": (said(files=[]), "Expected `object`, got `array`"),
    "no time zone": (said(stored_at="2026-01-01T00:00:00"), "timezone"),
    "another entry": (said(digest="a" * 64), "entry.json is of version-1-aaaaaaaaaaaaaaaa"),
    "file outside": (said(files={"../../../secret": "0" * 64}), "'../../../secret' is outside its directory"),
    "no such file": (said(files={"gone": "0" * 64}), "which is none of its files"),
    "linked entry.json": (
        lambda path: linked(path / "entry.json"),
        "'entry.json' must be a file of this user, and no link",
    ),
    "linked file": (
        lambda path: linked(path / "model" / "model.lgb"),
        "'model.lgb' must be a file of this user, and no link",
    ),
    "linked directory": (
        lambda path: linked(path / "model"),
        "'model' must be a directory of this user, and no link",
    ),
    "linked entry": (lambda path: linked(path), "must be a directory of this user, and no link"),
    "no directory": (
        lambda path: (without(path), path.touch()),
        "must be a directory of this user, and no link",
    ),
    "missing": (lambda path: without(path / "model" / "model.lgb"), "it has no file 'model/model.lgb'"),
    "none": (lambda path: without(path / "model"), "No such file or directory"),
    "cut": (lambda path: os.truncate(path / "model" / "model.lgb", 100), "'model.lgb' is not what was written"),
    "more": (write("model/more", b""), "it holds 'model/more', which is none of its files"),
    "more beside": (write("more", b""), "it holds 'more', which is none of its files"),
    "more directories": (lambda path: (path / "model" / "sub").mkdir(), "it holds 'model/sub', which is none"),
    "another model": (reversed_booster, "its model has digest"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_entry_goes_to_quarantine_and_the_next_is_served(
    damage: Callable[[Path], Any],
    reason: str,
    saved: SavedModel,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = open_store(directory)
    good = keep(store, saved.directory, "2")
    bad = keep(store, saved.directory, "1")
    damage(entry_directory(directory, bad))
    listed = store.entries()
    if bad.directory_name in {entry.directory_name for entry in listed}:
        with pytest.raises(StoreCorrupt) as caught:
            store.load(listed[0])
        assert reason in str(caught.value)
    assert versions_that_load(store) == ["2"]
    assert [(record.message, getattr(record, "entry", "")) for record in caplog.records] == [
        ("kept model is damaged", bad.directory_name)
    ]
    (told,) = store.status().quarantined
    assert told.startswith(f"00000001-{bad.directory_name}: ")
    assert reason in told
    assert names(place(directory)) == {good.directory_name, "quarantine"}


@pytest.mark.parametrize("name", ["entry.json", "model/model.lgb", "model/MLmodel", "model/input_example.json"])
def test_a_flipped_byte_anywhere_is_seen(name: str, saved: SavedModel, directory: Path) -> None:
    entry = keep(open_store(directory), saved.directory)
    path = entry_directory(directory, entry)
    content = (path / name).read_bytes()
    for index in range(0, len(content), max(1, len(content) // 40)):
        damaged = bytearray(content)
        damaged[index] ^= 1
        (path / name).write_bytes(damaged)
        store = open_store(directory)
        assert not [it for it in store.entries() if loads(store, it)], index
        (box,) = (path.parent / "quarantine").iterdir()
        (box / "entry").rename(path)
        shutil.rmtree(box)
        (path / name).write_bytes(content)
    assert versions_that_load(open_store(directory)) == ["1"]


def loads(store: Any, entry: Any) -> bool:
    try:
        store.load(entry)
    except StoreCorrupt:
        return False
    return True


def test_a_model_that_this_version_refuses_goes_to_quarantine(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    store.keep(saved.directory, ["MLmodel"], described(saved.directory))
    (entry,) = store.entries()
    with pytest.raises(StoreCorrupt, match=r"the model has no file 'model\.lgb'"):
        store.load(entry)
    assert store.status().entries == ()
    assert store.status().quarantined[0].endswith(": the model has no file 'model.lgb'")


def test_the_quarantine_holds_the_last(saved: SavedModel, directory: Path) -> None:
    store = open_store(directory)
    for number in range(MAX_HELD + 2):
        entry = keep(store, saved.directory, str(number))
        write("entry.json", b"")(entry_directory(directory, entry))
        assert store.entries() == []
    boxes = names(place(directory) / "quarantine")
    assert {name[:18] for name in boxes} == {f"0000000{number + 1}-version-{number}" for number in (2, 3, 4)}
    assert [told[:18] for told in store.status().quarantined] == sorted({name[:18] for name in boxes}, reverse=True)
