"""The directory in which the workers of one service meet, and who of them is who.

The supervising process makes it, readable by its owner only, and each worker finds it by an environment variable. Locks
of the system tell the workers apart: they end with their process, however it ends.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "MADRONE_WORKERS"
"""Environment variable with the directory's path."""

MOST_PATH_BYTES = 90
"""Longest path of the directory: the address of a Unix socket in it has at most 108 bytes on Linux."""

MOST_WORKERS = 1000
"""Most workers at a time, those included that end while others take their places."""


class NoPlace(OSError):
    """No directory can be made whose path is short enough for a socket."""


class Place:
    """A worker's view of the directory.

    Args:
        directory: The directory.

    Attributes:
        directory: The same.
        index: Number of this worker, the least that no other has.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._leading: int | None = None
        self.index, self._claim = self._claim_index()

    @classmethod
    def joined(cls, environ: Mapping[str, str]) -> "Place | None":
        """The place that the supervising process made; None where there is none."""
        path = environ.get(VARIABLE)
        return None if path is None else cls(Path(path))

    @property
    def socket(self) -> Path:
        """Address of the leader."""
        return self.directory / "leader.sock"

    def take_lead(self) -> bool:
        """Become the leader unless another worker is; whether this one is now."""
        if self._leading is None:
            self._leading = _locked(self.directory / "leader.lock")
        return self._leading is not None

    def tell_ready(self) -> None:
        """Tell the supervising process that this worker can answer."""
        ready_file(self.directory, os.getpid()).touch()

    def leave_lead(self) -> None:
        """Let another worker become the leader."""
        if self._leading is not None:
            os.close(self._leading)
            self._leading = None

    def leave(self) -> None:
        """Give all locks back."""
        self.leave_lead()
        os.close(self._claim)

    def _claim_index(self) -> tuple[int, int]:
        for index in range(MOST_WORKERS):
            claim = _locked(self.directory / f"worker{index}.lock")
            if claim is not None:
                return index, claim
        raise NoPlace("there are too many workers")


def ready_file(directory: Path, pid: int) -> Path:
    """File that is there once the worker of a process can answer."""
    return directory / f"ready{pid}"


def forget_ready(directory: Path) -> None:
    """Remove the files of all workers that have been ready."""
    for file in directory.glob("ready*"):
        file.unlink(missing_ok=True)


def make_place() -> Path:
    """Make the directory of a new service.

    Raises:
        NoPlace: No directory for temporary files has a path that is short enough.
        OSError: It cannot be made.
    """
    for parent in (None, "/tmp"):
        directory = Path(tempfile.mkdtemp(prefix="madrone-workers-", dir=parent))
        if len(os.fsencode(directory)) <= MOST_PATH_BYTES:
            return directory
        directory.rmdir()
    raise NoPlace("the path of the directory for temporary files is too long for a socket")


def remove_place(directory: Path) -> None:
    """Remove the directory of a service that has ended."""
    shutil.rmtree(directory, ignore_errors=True)


def _locked(path: Path) -> int | None:
    """Descriptor of a file that this process has locked; None where another one has."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    os.close(descriptor)
    return None
