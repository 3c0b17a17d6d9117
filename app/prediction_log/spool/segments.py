"""The spool: append-only files on the local disk that hold rows until they are in the database.

One thread appends, and another one deletes what is written; what both use is under a lock. A record that could not be
written or flushed leaves nothing behind: the segment is cut at its last good record and gets no further one. After a
failed flush Linux may have dropped pages that it still reports as clean, so only a new file can be trusted.
"""

import fcntl
import os
import re
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.files import sync_directory
from app.prediction_log.messages import Drained, Readable

SEGMENT_BYTES = 16 * 2**20
"""Size at which a segment is sealed."""

NAME = re.compile(r"(\d{10})-[0-9a-f]{32}\.spool")
"""A number that counts up, and a part that makes a name unique, since positions are kept under it."""


class SpoolFull(Exception):
    """The spool has its most bytes."""


class SpoolLocked(OSError):
    """Another process has the spool open."""


class Segment:
    """A file of the spool.

    Attributes:
        name: Its name, with that of the spool's folder.
        size: Number of bytes that are on the disk.
        rows: Number of rows in them; 0 in a segment of an earlier start.
        sealed: Whether it gets no further record.
        found: Whether it is of an earlier start.
        written: Number of its rows that are in the database.
        position: Number of its bytes whose rows are.
    """

    def __init__(self, name: str, size: int = 0, *, found: bool = False) -> None:
        self.name = name
        self.size = size
        self.rows = 0
        self.sealed = found
        self.found = found
        self.written = 0
        self.position = 0


class Advance(NamedTuple):
    """What changed when rows were written.

    Attributes:
        rows: Number of rows that were written.
        moved: Whether anything was done, so that there may be more to do.
        found: Whether the segment is of an earlier start.
    """

    rows: int
    moved: bool
    found: bool


class Spool:
    """The segments in a directory, which one process may have open.

    Several workers of a service have a directory each, inside one. Names of segments are relative to that one.

    Args:
        root: The directory, or the one that it is inside; made if it is missing.
        most_bytes: Most bytes of all segments.
        folder: Name of the directory inside, if any.
    """

    def __init__(self, root: Path, most_bytes: int, folder: str = "") -> None:
        self._root = root
        self._directory = root / folder
        self._prefix = f"{folder}/" if folder else ""
        self._most_bytes = most_bytes
        self._segment_bytes = min(SEGMENT_BYTES, most_bytes // 4)
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._models: set[int] = set()
        self._active: int | None = None
        self._claim: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        with self._lock:
            return sum(segment.size for segment in self._segments)

    @property
    def rows(self) -> int:
        """Rows that were appended since the start and are not written."""
        with self._lock:
            return sum(max(0, segment.rows - segment.written) for segment in self._segments)

    @property
    def waits(self) -> bool:
        """Whether there is something to write, or to delete."""
        with self._lock:
            return any(segment.sealed or segment.position < segment.size for segment in self._segments)

    def open(self) -> None:
        """Take the directory, and find the segments of earlier starts.

        Raises:
            SpoolLocked: Another process has it.
            OSError: It cannot be made or read.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        claim = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for parent in {self._directory.parent, self._root.parent, self._root.parent.parent}:
                sync_directory(parent)  # the directory may be new
            found = [
                Segment(self._prefix + path.name, path.stat().st_size, found=True)
                for path in sorted(self._directory.iterdir())
                if NAME.fullmatch(path.name)
            ]
        except OSError as error:
            os.close(claim)
            if isinstance(error, BlockingIOError):
                raise SpoolLocked from None
            raise
        self._claim = claim
        with self._lock:
            self._segments = found

    def append(self, content: bytes | bytearray, rows: int, models: dict[int, bytes]) -> None:
        """Append records, and wait until they are on the disk.

        Args:
            content: Records of requests.
            rows: Number of rows in them.
            models: Record of each model that they name, by its number.

        Raises:
            SpoolFull: They do not fit; nothing was written.
            OSError: They could not be written; nothing of them is left.
        """
        fresh = self._active is None
        needed = b"".join(record for number, record in models.items() if fresh or number not in self._models)
        if self.size + len(needed) + len(content) > self._most_bytes:
            self.seal()  # what is full of written rows can go
            raise SpoolFull
        if fresh:
            self._begin()
        segment, active = self._segments[-1], self._active
        assert active is not None
        try:
            _write(active, needed + content)
        except OSError:
            with suppress(OSError):
                os.ftruncate(active, segment.size)
            self.seal()
            raise
        self._models.update(models)
        with self._lock:
            segment.size += len(needed) + len(content)
            segment.rows += rows
        if segment.size >= self._segment_bytes:
            self.seal()

    def seal(self) -> None:
        """End the segment that is being written; an empty one is deleted."""
        if self._active is None:
            return
        active, self._active = self._active, None
        with suppress(OSError):  # all that it could tell of was flushed
            os.close(active)
        with self._lock:
            last = self._segments[-1]
            last.sealed = True
            if not last.size:
                self._segments.pop()
        if not last.size:
            self._delete(last.name)

    def readable(self) -> list[Readable]:
        """The segments, the oldest first."""
        with self._lock:
            return [Readable(segment.name, segment.size, segment.sealed) for segment in self._segments]

    def is_left(self, seen: list[Readable]) -> bool:
        """Whether something of what there was is not written, or not deleted yet."""
        with self._lock:
            sizes = {one.name: one.size + one.sealed for one in seen}
            return any(segment.position < sizes.get(segment.name, 0) for segment in self._segments)

    def advance(self, drained: Drained) -> Advance:
        """Note how far a segment is written, and delete it if that is all of it."""
        with self._lock:
            segment = next(one for one in self._segments if one.name == drained.name)
            # A writer that was killed behind its commit could not tell. What an earlier start wrote is not known here.
            newly = drained.newly if segment.found else max(0, drained.rows - segment.written)
            moved = drained.position > segment.position
            segment.written, segment.position = max(drained.rows, segment.written), drained.position
            done = segment.sealed and drained.position >= segment.size
        if done and self._delete(drained.name):
            moved = True
            with self._lock:
                self._segments.remove(segment)
        return Advance(newly, moved, segment.found)

    def close(self) -> None:
        """End the segment that is being written, and give the directory back."""
        self.seal()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _begin(self) -> None:
        """Begin a segment; its name is on the disk before a record is."""
        with self._lock:
            known = [int(Path(segment.name).name.partition("-")[0]) for segment in self._segments]
        name = f"{self._prefix}{max(known, default=0) + 1:010d}-{uuid.uuid4().hex}.spool"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_DSYNC | os.O_CLOEXEC
        active = os.open(self._root / name, flags, 0o600)
        try:
            sync_directory(self._directory)
        except OSError:
            os.close(active)
            self._delete(name)
            raise
        self._active, self._models = active, set()
        with self._lock:
            self._segments.append(Segment(name))

    def _delete(self, name: str) -> bool:
        """Delete a file; whether it is gone."""
        try:
            (self._root / name).unlink(missing_ok=True)
        except OSError:  # tried again at the next write
            return False
        return True


def _write(descriptor: int, content: bytes | bytearray) -> None:
    """Write, and wait until all of it is on the disk: with O_DSYNC both are one call, which takes the GIL once."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
