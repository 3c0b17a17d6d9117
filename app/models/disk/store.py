"""The last models that passed all checks, kept on disk: a start while the registry is down can serve one of them.

    directory/                0700, as all below it; files are 0600
      <hash>/                 what one registry has of one registered model
        version-3-<digest>/   an entry: see app/models/disk/entry.py
        incoming-…            what is being written, by this process or another
        outgoing-…            what is being removed
        quarantine/           damaged entries: see app/models/disk/quarantine.py

An entry gets its name by a rename once the disk has all of it, and loses it by a rename before any of it goes. So
whatever has the name is whole, unless the disk failed; and that is looked for whenever an entry is read.
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
from app.models.disk.files import check_directory, created, make_directory, reason, remove, sync_directory
from app.models.disk.quarantine import Quarantine
from app.models.refusal import ModelRefused

LEFT_OVER_S = 3600.0
"""Age at which what a process was writing is taken for abandoned."""

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
"""What `rename` says of a directory that would replace something."""

NOT_THE_ENTRYS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors in reading that say nothing of what is read."""

log = logging.getLogger(__name__)


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a store held when it was last used.

    Attributes:
        entries: Versions kept, the last stored first.
        quarantined: Damaged entries, the last found first, each as "name: reason".
        last_error: Why the last model could not be kept; None when it could.
    """

    entries: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    last_error: str | None = None


class ModelStore:
    """Keeps entries of one registered model.

    Used by one thread at a time, and by several processes at once: each takes what another removes for absent.

    Args:
        directory: Holds the entries; it need not be there. Nothing is written or read before the first call.
        source: The registry's URI, of which only a hash reaches the disk.
        name: The registered model.
        versions: Entries to keep, at least 1.
    """

    def __init__(self, directory: Path, source: str, name: str, versions: int) -> None:
        key = hashlib.sha256(f"{source}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
        self._directory = directory
        self._place = directory / key
        self._quarantine = Quarantine(self._place)
        self._versions = versions
        self._status = StoreStatus()

    def status(self) -> StoreStatus:
        """What it held when it was last used; looks at no disk, and is for any thread."""
        return self._status

    def keep(self, model_directory: Path, names: Sequence[str], entry: StoredModel) -> None:
        """Keep a model, and forget the oldest beyond `versions`. What cannot be kept is a warning, and serves as well.

        A model that is kept already, under this version and digest, is verified, and becomes the last stored with what
        `entry` says of it.

        Args:
            model_directory: Holds the model's files; not changed.
            names: Those to keep, relative to it, with `/` between their parts.
            entry: What is known of the model; its files and sequence are set here.
        """
        why = None
        try:
            self._keep(model_directory, names, entry)
        except (OSError, StoreCorrupt, ModelRefused) as error:
            why = reason(error)
            log.warning("model cannot be kept", extra={"model_version": entry.identity.version, "reason": why})
        finally:
            self.entries()
            self._status = msgspec.structs.replace(self._status, last_error=why)

    def describe(self, entry: StoredModel) -> None:
        """Describe anew a model that is kept, which becomes the last stored; one that is not kept stays so.

        Args:
            entry: What is known of the model now, such as its stage and aliases.
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
        """Entries whose description is whole, the last stored first; others go to quarantine. Never raises."""
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
            read: Reads the model's directory.

        Raises:
            StoreCorrupt: It is damaged, and now in quarantine; or another process has removed it.
        """
        try:
            with self._quarantining(entry.directory_name):
                return load_entry(self._place / entry.directory_name, entry.digest, read)
        except StoreCorrupt:
            self.entries()
            raise

    def model_directory(self, entry: StoredModel) -> Path:
        """Where the files of an entry are."""
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
        """With what the store sets itself."""
        return msgspec.structs.replace(
            entry,
            files=files,
            metrics={name: value for name, value in entry.metrics.items() if math.isfinite(value)},
            sequence=max((known.sequence for known in self.entries()), default=0) + 1,
        )

    def _renew(self, entry: StoredModel) -> bool:
        """Describe anew the entry that has these very files; False where there is none."""
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
        """Give an entry its name."""
        path = self._place / entry.directory_name
        try:
            incoming.rename(path)
        except OSError as error:
            if error.errno not in OCCUPIED:
                raise
            # By one with other files, or by the same, which another process has kept meanwhile.
            if not self._renew(entry):
                with contextlib.suppress(FileNotFoundError):
                    self._discard(path.name)
                incoming.rename(path)

    def _discard(self, name: str) -> None:
        outgoing = self._place / f"outgoing-{secrets.token_hex(8)}"
        (self._place / name).rename(outgoing)
        remove(outgoing)

    def _sweep(self) -> None:
        """Remove what processes left that ended while they wrote or removed."""
        for path in self._place.glob("incoming-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime > LEFT_OVER_S:
                    remove(path)
        for path in self._place.glob("outgoing-*"):
            remove(path)

    @contextlib.contextmanager
    def _quarantining(self, name: str) -> Generator[None, None, None]:
        """Whatever makes an entry unusable becomes `StoreCorrupt`, and the entry goes to quarantine."""
        path = self._place / name
        before = _state(path)
        try:
            yield
        except (OSError, ModelRefused, StoreCorrupt) as error:
            if before is None or before != _state(path):  # what was read is not there, and so not to blame
                raise StoreCorrupt("it is gone: another process has removed or replaced it") from error
            if getattr(error, "errno", None) not in NOT_THE_ENTRYS:
                self._quarantine.isolate(name, reason(error))
            raise StoreCorrupt(reason(error)) from error


def _state(path: Path) -> tuple[int, int] | None:
    """Of a directory that is there: another one has another, also where it has the inode of one that was removed."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns
