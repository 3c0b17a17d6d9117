"""The pinned version survives a restart, and an unusable file is only a warning."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from app.models.disk.pin import Pin

SOURCE = "postgresql://user:secret@database.example/mlflow"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "pin.json"


@pytest.fixture
def pin(path: Path) -> Pin:
    """A pin on version 7."""
    pin = Pin(path, SOURCE, "houses")
    assert pin.write("7")
    return pin


def test_nothing_is_pinned_where_there_is_no_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Pin(path, SOURCE, "houses").read() is None
    assert caplog.records == []


def test_a_written_pin_is_read_by_the_next_process(pin: Pin, path: Path) -> None:
    assert pin.read() == Pin(path, SOURCE, "houses").read() == "7"
    assert pin.write("12")
    assert Pin(path, SOURCE, "houses").read() == "12"


def test_a_pin_that_is_taken_out_is_gone_and_may_be_taken_out_again(pin: Pin, path: Path) -> None:
    assert pin.write(None)
    assert pin.read() is None
    assert not path.exists()
    assert pin.write(None)


def test_nothing_to_take_out_makes_no_directory(path: Path) -> None:
    assert Pin(path, SOURCE, "houses").write(None)
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("source", "name"),
    [(SOURCE, "flats"), ("http://other.example", "houses"), (SOURCE + "\0houses", ""), (SOURCE + "h", "ouses")],
)
def test_a_pin_of_another_model_or_another_registry_is_passed_over(
    source: str, name: str, pin: Pin, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert Pin(path, source, name).read() is None
    assert caplog.records == []
    assert pin.read() == "7"


def test_pins_of_several_models_are_in_one_file(pin: Pin, path: Path) -> None:
    other = Pin(path, SOURCE, "flats")
    assert other.write("3")
    assert (Pin(path, SOURCE, "houses").read(), Pin(path, SOURCE, "flats").read()) == ("7", "3")
    assert pin.write(None)
    assert (pin.read(), other.read()) == (None, "3")
    assert isinstance(msgspec.json.decode(path.read_bytes()), dict)  # as earlier releases wrote it
    assert other.write(None)
    assert not path.exists()


def test_the_file_says_nothing_of_where_the_registry_is(pin: Pin, path: Path) -> None:
    content = path.read_text()
    assert not [part for part in ("postgresql", "user", "secret", "database", "mlflow", "houses") if part in content]


def test_the_file_and_its_directory_are_the_owners_alone(pin: Pin, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["pin.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b'{"model": "", "version": "21\\n"}',
        '{"model": "", "version": "٣"}'.encode(),
        b"7",
        b'"7"',
        b"{}",
        b'{"model": 1, "version": "7"}',
        b'{"model": "x"}',
        b'{"model": "x", "version": 7}',
        b'{"model": "x", "version": null}',
        b"\xff\xfe",
        b'{"model": "\xff", "version": "7"}',
        b'{"model": "\\ud800", "version": "7"}',
        b"\0" * 100,
        b"[" * 200_000,
        b'{"a":' * 200_000,
    ],
    ids=lambda content: repr(content[:24]),
)
def test_a_file_of_other_content_pins_nothing_and_is_warned_of(
    content: bytes, pin: Pin, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(content)
    assert pin.read() is None
    assert [record.message for record in caplog.records] == ["pin cannot be read"]
    assert pin.write("8")
    assert pin.read() == "8"


def test_a_file_that_was_cut_pins_nothing(pin: Pin, path: Path) -> None:
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert pin.read() is None


def test_keys_that_a_later_release_may_add_are_passed_over(pin: Pin, path: Path) -> None:
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"reason": "too dear"}))
    assert pin.read() == "7"


def test_a_directory_in_its_place_pins_nothing_and_cannot_be_replaced(
    pin: Pin, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    path.mkdir()
    assert pin.read() is None
    assert not pin.write("8")
    assert not pin.write(None)
    assert [record.message for record in caplog.records] == ["pin cannot be read"] + ["pin cannot be written"] * 2
    assert os.listdir(path.parent) == ["pin.json"]


def test_a_link_is_replaced_and_its_target_stays(pin: Pin, path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    path.unlink()
    path.symlink_to(tmp_path / "other")
    assert pin.write("8")
    assert not path.is_symlink()
    assert (tmp_path / "other").read_text() == "theirs"
    assert pin.read() == "8"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_pin_and_nothing_else(
    call: str, pin: Pin, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    assert not pin.write("8")
    monkeypatch.undo()
    assert pin.read() == "7"
    assert os.listdir(path.parent) == ["pin.json"]
    assert [(record.message, record.__dict__["reason"]) for record in caplog.records] == [
        ("pin cannot be written", "No space left on device")
    ]


def test_a_pin_that_cannot_be_written_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no directory")
    pin = Pin(tmp_path / "file" / "pin.json", SOURCE, "houses")
    assert not pin.write("8")
    assert [record.message for record in caplog.records] == ["pin cannot be written"]


def test_a_path_through_a_file_pins_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    assert Pin(tmp_path / "file" / "pin.json", SOURCE, "houses").read() is None
