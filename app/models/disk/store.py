"""The last known good models, stored on disk: a start while the registry is down can serve one of them.

    directory/                mode 0700, as all directories below; files have 0600
      <hash>/                 models of one registry under one name
        version-3-<digest>/   an entry: see app/models/disk/entry.py
        incoming-…            an entry being written, by this process or another
        outgoing-…            an entry being removed
        quarantine/           damaged entries: see app/models/disk/quarantine.py

An entry is renamed to its final name when all of it is on disk, and renamed again before it is removed. So an entry
with a final name is whole, unless the disk failed, which is checked whenever an entry is read.
"""

import contextlib
import errno
import hashlib
import logging
import math
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import msgspec

from app.files import check_directory, created, make_directory, reason, remove, sync_directory
from app.models.artifact import Artifact, read_artifact
from app.models.disk.entry import (
    DIRECTORY_NAME,
    METADATA,
    MODEL,
    StoreCorrupt,
    StoredModel,
    encode_entry,
    hash_file,
    load_entry,
    read_entry,
    verify_files,
    write_entry,
)
from app.models.disk.quarantine import Quarantine
from app.models.refusal import ModelRefused

LEFT_OVER_S = 3600.0
"""Age of an `incoming-…` directory at which it counts as abandoned."""

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""Errors of `rename` for a directory that would replace something."""

NOT_THE_ENTRYS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of this process while it reads, which do not make an entry damaged."""

log = logging.getLogger(__name__)


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a store when it was last used.

    Attributes:
        entries: Versions stored, the newest first.
        quarantined: Damaged entries as "name: reason", the newest first.
        last_error: Why the last model could not be stored; None if it was.
    """

    entries: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    last_error: str | None = None


class ModelStore:
    """Stores entries of one registered model.

    One thread uses it at a time, but several processes may share it: an entry that another process removes counts as
    absent.

    Args:
        directory: Directory of all stores; it need not exist. Nothing is written or read before the first call.
        source: URI of the registry, or of the model that is served without one; only a hash of it reaches the disk.
        name: Name of the registered model.
        versions: Number of entries to keep, at least 1.
    """

    def __init__(self, directory: Path, source: str, name: str, versions: int) -> None:
        key = hashlib.sha256(f"{source}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
        self._directory = directory
        self._place = directory / key
        self._quarantine = Quarantine(self._place)
        self._versions = versions
        self._status = StoreStatus()

    def status(self) -> StoreStatus:
        """Content when it was last used, without disk access; safe in any thread."""
        return self._status

    def keep(self, model_directory: Path, names: Sequence[str], entry: StoredModel) -> None:
        """Store a model, and remove the oldest entries beyond `versions`. A failure is a warning.

        An entry of the same version and digest is verified, described anew, and becomes the newest.

        Args:
            model_directory: Directory of the model's files; not changed.
            names: Files to store, relative to the directory, with `/` between their parts.
            entry: Description of the model; its files and sequence are set here.
        """
        why = None
        try:
            self._keep(model_directory, names, entry)
        except (OSError, StoreCorrupt, ModelRefused) as error:
            why = reason(error)
            log.warning(
                "model cannot be stored on disk", extra={"model_version": entry.identity.version, "reason": why}
            )
        finally:
            self.entries()
            self._status = msgspec.structs.replace(self._status, last_error=why)

    def describe(self, entry: StoredModel) -> None:
        """Replace the description of a stored model, which becomes the newest. Any other model is ignored.

        Args:
            entry: Description of the model, such as its stage and aliases now.
        """
        known = next((known for known in self.entries() if known.directory_name == entry.directory_name), None)
        if known is None:
            return
        try:
            self._renew(self._completed(entry, known.files))
        except (OSError, StoreCorrupt) as error:
            why = reason(error)
            log.warning(
                "kept model cannot be described", extra={"model_version": entry.identity.version, "reason": why}
            )
            self._status = msgspec.structs.replace(self._status, last_error=why)

    def entries(self) -> list[StoredModel]:
        """Entries with an undamaged description, the newest first; others go to quarantine. Never raises."""
        found: list[StoredModel] = []
        try:
            check_directory(self._place)
            self._sweep()
            for name in os.listdir(self._place):
                if DIRECTORY_NAME.fullmatch(name) and not self._quarantine.holds(name):
                    with contextlib.suppress(StoreCorrupt), self._quarantining(name):
                        found.append(read_entry(self._place / name))
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("kept models cannot be read", extra={"reason": reason(error)})
        found.sort(key=lambda entry: (entry.sequence, entry.stored_at, entry.directory_name), reverse=True)
        self._status = msgspec.structs.replace(
            self._status,
            entries=tuple(entry.identity.version for entry in found),
            quarantined=self._quarantine.reasons(),
        )
        return found

    def load(self, entry: StoredModel, read: Callable[[Path], Artifact] = read_artifact) -> Artifact:
        """Verify an entry and read its model.

        Args:
            entry: One of `entries()`.
            read: Reads a model directory.

        Raises:
            StoreCorrupt: The entry is damaged, and now in quarantine; or another process has removed it.
        """
        try:
            with self._quarantining(entry.directory_name):
                return load_entry(self._place / entry.directory_name, entry.digest, read)
        except StoreCorrupt:
            self.entries()
            raise

    def model_directory(self, entry: StoredModel) -> Path:
        """Directory of the model's files in an entry."""
        return self._place / entry.directory_name / MODEL

    def _keep(self, model_directory: Path, names: Sequence[str], entry: StoredModel) -> None:
        make_directory(self._directory, parents=True)
        make_directory(self._place)
        check_directory(self._place)
        sync_directory(self._directory)
        entry = self._completed(entry, {name: hash_file(model_directory, name) for name in names})
        if not self._renew(entry):
            incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=self._place))
            try:
                write_entry(incoming, model_directory, entry)
                self._put(incoming, entry)
            finally:
                remove(incoming)
        sync_directory(self._place)
        self._quarantine.forget(entry.directory_name)
        others = [name for known in self.entries() if (name := known.directory_name) != entry.directory_name]
        for name in others[self._versions - 1 :]:
            with contextlib.suppress(OSError):
                self._discard(name)

    def _completed(self, entry: StoredModel, files: dict[str, str]) -> StoredModel:
        """The entry's description with hashes of its files, finite metrics and its sequence number filled in."""
        return msgspec.structs.replace(
            entry,
            files=files,
            metrics={name: value for name, value in entry.metrics.items() if math.isfinite(value)},
            sequence=max((known.sequence for known in self.entries()), default=0) + 1,
        )

    def _renew(self, entry: StoredModel) -> bool:
        """Replace the description of the entry with exactly these files; False if there is none."""
        path = self._place / entry.directory_name
        incoming = self._place / f"incoming-{secrets.token_hex(8)}"
        try:
            with self._quarantining(path.name):
                known = read_entry(path)
                verify_files(path, known)
            if known.files != entry.files:
                return False
            with created(incoming) as file:
                file.write(encode_entry(entry))
            os.replace(incoming, path / METADATA)
            sync_directory(path)
        except (StoreCorrupt, FileNotFoundError):  # damaged, or absent, or removed meanwhile by another process
            return False
        finally:
            remove(incoming)
        return True

    def _put(self, incoming: Path, entry: StoredModel) -> None:
        """Rename a written entry to its final name."""
        path = self._place / entry.directory_name
        try:
            incoming.rename(path)
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
            # The name is taken: by an entry with other files, or by the same, which another process has just stored.
            if not self._renew(entry):
                with contextlib.suppress(FileNotFoundError):
                    self._discard(path.name)
                incoming.rename(path)

    def _discard(self, name: str) -> None:
        outgoing = self._place / f"outgoing-{secrets.token_hex(8)}"
        (self._place / name).rename(outgoing)
        remove(outgoing)

    def _sweep(self) -> None:
        """Remove leftovers of processes that ended while they wrote or removed an entry."""
        for path in self._place.glob("incoming-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > LEFT_OVER_S:
                    remove(path)
        for path in self._place.glob("outgoing-*"):
            remove(path)

    @contextlib.contextmanager
    def _quarantining(self, name: str) -> Generator[None, None, None]:
        """Turn any error of an unusable entry into `StoreCorrupt`, and move the entry to quarantine."""
        path = self._place / name
        before = _state(path)
        try:
            yield
        except (OSError, ModelRefused, StoreCorrupt) as error:
            if before is None or before != _state(path):  # the entry that was read is not there any more
                raise StoreCorrupt("it is gone: another process has removed or replaced it") from error
            if getattr(error, "errno", None) not in NOT_THE_ENTRYS:
                self._quarantine.isolate(name, reason(error))
            raise StoreCorrupt(reason(error)) from error


def _state(path: Path) -> tuple[int, int] | None:
    """Inode and change time of a directory, which tell it from another that reuses its inode; None if absent."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns
