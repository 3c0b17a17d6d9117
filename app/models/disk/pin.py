"""The versions pinned by an operator, stored on disk so that they survive a restart."""

import hashlib
import logging
from pathlib import Path

import msgspec

from app.files import check_file, reason, replace_file, sync_directory
from app.models.registry.version_number import Version

MOST_PINS = 200
"""Most other models whose pins are kept."""

log = logging.getLogger(__name__)


class Pinned(msgspec.Struct, frozen=True):
    """Pin of one model; the content of the file, or one of a list.

    Attributes:
        model: Hash of the source's URI and the model's name.
        version: Pinned version.
    """

    model: str
    version: Version


class Pin:
    """Pin of one model, in a file for those of all models, which one thread at a time may write.

    Args:
        path: The file; it and its directory need not exist.
        source: URI of the registry, or of the model that is served without one. Only a hash of it is written.
        name: Name of the registered model.
    """

    def __init__(self, path: Path, source: str, name: str) -> None:
        self._path = path
        self._model = hashlib.sha256(f"{source}\0{name}".encode()).hexdigest()

    def read(self) -> str | None:
        """The pinned version; None if there is none, or the file is of other models or unreadable."""
        try:
            pins = self._pins()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("pin cannot be read", extra={"reason": f"{type(error).__name__}: {error}"[:300]})
            return None
        return next((pinned.version for pinned in pins if pinned.model == self._model), None)

    def write(self, version: str | None) -> bool:
        """Write the pinned version, or remove it with None.

        Returns:
            Whether the change is on disk, so that it survives a restart.
        """
        try:
            pins = self._others()
            if version is not None:
                pins.append(Pinned(self._model, version))
            if pins:
                replace_file(self._path, msgspec.json.encode(pins if len(pins) > 1 else pins[0]))
            elif self._path.exists():
                self._path.unlink()
                sync_directory(self._path.parent)
        except OSError as error:
            log.warning("pin cannot be written", extra={"reason": reason(error)})
            return False
        return True

    def _others(self) -> list[Pinned]:
        """The pins of other models; none if the file is unreadable, which is then replaced."""
        try:
            return [pinned for pinned in self._pins() if pinned.model != self._model][-MOST_PINS:]
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return []

    def _pins(self) -> list[Pinned]:
        """The pins of all models.

        Raises:
            OSError, DecodeError, UnicodeDecodeError, RecursionError: The file is unreadable.
        """
        try:
            check_file(self._path)
            content = msgspec.json.decode(self._path.read_bytes(), type=Pinned | list[Pinned])
        except FileNotFoundError:
            return []
        return content if isinstance(content, list) else [content]
