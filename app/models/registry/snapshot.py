"""The files of a model at a path that its owner changes while it is served: their states, digest and copies."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.models.directory import MLMODEL

MAX_FILES = 10_000
CHUNK_BYTES = 1024 * 1024
VERSION_DIGITS = 12

INTERNAL = ".."
"""Start of the names that Kubernetes gives to the directories behind a volume's links."""


class NoModel(Exception):
    """The path has no files of a model; the message is the reason, without the path."""


class FileState(NamedTuple):
    """A file as it was listed. Two equal states are two looks at an unchanged file.

    Attributes:
        name: Name relative to the directory, with `/` between its parts; empty where the path itself is the file.
        real: Path of the content, which is another one if the name is that of a link.
        changed_ns: Time of the last change of content, name or mode, in nanoseconds since 1970.
    """

    name: str
    real: str
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


def list_files(root: Path, most_bytes: int) -> tuple[FileState, ...]:
    """States of the files of a model, by name.

    A link counts as the file that it leads to, which must be below `root`; so a volume of Kubernetes can be served.

    Args:
        root: A file, or a directory with an MLmodel file.
        most_bytes: Most bytes of all files.

    Raises:
        NoModel: There is nothing there, or something that no model may have.
        OSError: The path cannot be read.
    """
    try:
        mode = root.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NoModel("there is no file or directory at that path") from None
    if stat.S_ISREG(mode):
        return _bounded([_state("", root)], most_bytes)
    if not stat.S_ISDIR(mode):
        raise NoModel("that path is neither a file nor a directory")
    if not (root / MLMODEL).is_file():
        raise NoModel("that directory has no MLmodel file, and is not a text of LightGBM")
    return _bounded(_walk(root), most_bytes)


def content_version(files: tuple[FileState, ...]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a file, or of what `sha256sum` prints for a directory's files.

    Raises:
        OSError: A file cannot be read, or is gone.
    """
    lines = hashlib.sha256()
    for file in files:
        digest = _copied(file, None)
        if not file.name:
            return digest[:VERSION_DIGITS]
        lines.update(f"{digest}  ./{file.name}\n".encode("utf-8", "surrogateescape"))
    return lines.hexdigest()[:VERSION_DIGITS]


def copy_files(files: tuple[FileState, ...], destination: Path) -> None:
    """Copy files into a new directory, each under its name.

    Raises:
        OSError: A file cannot be read or written.
    """
    for file in files:
        target = destination / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _copied(file, target)


def _walk(root: Path) -> list[FileState]:
    top = root.resolve()
    files: list[FileState] = []

    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(root, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(INTERNAL)]
        for name in names:
            path = Path(parent, name)
            if not path.resolve().is_relative_to(top):
                raise NoModel("that directory has a link that leads out of it")
            files.append(_state(path.relative_to(root).as_posix(), path))
            if len(files) > MAX_FILES:
                raise NoModel(f"that directory has more than {MAX_FILES} files")
    return sorted(files, key=lambda file: os.fsencode(file.name))


def _state(name: str, path: Path) -> FileState:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NoModel("that directory has something that is neither a file nor a directory")
    return FileState(
        name, os.path.realpath(path), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def _bounded(files: list[FileState], most_bytes: int) -> tuple[FileState, ...]:
    if sum(file.size for file in files) > most_bytes:
        raise NoModel(f"its files have more than MODEL_MAX_BYTES = {most_bytes} bytes")
    return tuple(files)


def _copied(file: FileState, target: Path | None) -> str:
    """SHA-256 of a file in hexadecimal; with a target, the content is written to it as well."""
    digest = hashlib.sha256()
    with open(file.real, "rb") as source, open(target or os.devnull, "wb") as copy:
        for chunk in _chunks(source.fileno(), file.size):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def _chunks(descriptor: int, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file, which may grow meanwhile."""
    while size > 0 and (chunk := os.read(descriptor, min(size, CHUNK_BYTES))):
        size -= len(chunk)
        yield chunk
