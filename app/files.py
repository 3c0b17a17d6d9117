"""Owner-only files and directories, written so that they survive a crash."""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO


def make_directory(path: Path, *, parents: bool = False) -> None:
    """Make a directory (0700) if it does not exist.

    Raises:
        OSError: The directory cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=parents, exist_ok=True)
    except FileExistsError as error:  # "File exists" would not say that it is no directory
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error


def check_directory(path: Path) -> None:
    """Check that a path is a directory of this user, and no link.

    Raises:
        OSError: The path is anything else, or cannot be read.
    """
    _check(path, stat.S_IFDIR, "directory")


def check_file(path: Path) -> None:
    """Check that a path is a plain file of this user, and no link.

    Raises:
        OSError: The path is anything else, or cannot be read.
    """
    _check(path, stat.S_IFREG, "file")


def _check(path: Path, kind: int, noun: str) -> None:
    status = path.lstat()
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{path.name[:100]!r} must be a {noun} of this user, and no link", str(path))


@contextlib.contextmanager
def created(path: Path) -> Generator[BinaryIO, None, None]:
    """A new file (0600), which is on disk when the context ends."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file (0600) atomically, and make its directory if it is missing.

    Raises:
        OSError: The file cannot be written; the old one is unchanged.
    """
    make_directory(path.parent, parents=True)
    # A name of its own, since another process may write the same file at the same time.
    incoming = path.parent / f"{path.name}.{secrets.token_hex(8)}"
    try:
        with created(incoming) as file:
            file.write(content)
        os.replace(incoming, path)
        sync_directory(path.parent)
    except OSError:
        remove(incoming)
        raise


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file, a link, or a directory with its content, as far as possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def reason(error: Exception) -> str:
    """Text of an error without paths of this machine."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
