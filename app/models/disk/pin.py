"""The version pinned by an operator, stored on disk so that it survives a restart."""

import hashlib
import logging
from pathlib import Path

import msgspec

from app.files import check_file, reason, replace_file, sync_directory
from app.models.registry.version_number import Version

log = logging.getLogger(__name__)


class Pinned(msgspec.Struct, frozen=True):
    """Content of the file.

    Attributes:
        model: Hash of the source's URI and the model's name.
        version: Pinned version.
    """

    model: str
    version: Version


class Pin:
    """File with the pinned version.

    Args:
        path: The file; it and its directory need not exist.
        source: URI of the registry, or of the model that is served without one. Only a hash of it is written.
        name: Name of the registered model.
    """

    def __init__(self, path: Path, source: str, name: str) -> None:
        self._path = path
        self._model = hashlib.sha256(f"{source}\0{name}".encode()).hexdigest()

    def read(self) -> str | None:
        """The pinned version; None if there is none, or the file is of another model or unreadable."""
        try:
            check_file(self._path)
            pinned = msgspec.json.decode(self._path.read_bytes(), type=Pinned)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("pin cannot be read", extra={"reason": f"{type(error).__name__}: {error}"[:300]})
            return None
        return pinned.version if pinned.model == self._model else None

    def write(self, version: str | None) -> bool:
        """Write the pinned version, or remove it with None.

        Returns:
            Whether the change is on disk, so that it survives a restart.
        """
        try:
            if version is None:
                if self._path.exists():
                    self._path.unlink()
                    sync_directory(self._path.parent)
                return True
            replace_file(self._path, msgspec.json.encode(Pinned(self._model, version)))
        except OSError as error:
            log.warning("pin cannot be written", extra={"reason": reason(error)})
            return False
        return True
