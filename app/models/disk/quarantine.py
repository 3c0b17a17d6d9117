"""Quarantine for damaged entries of the model store: moved aside, and kept for inspection."""

import contextlib
import logging
import os
import re
from pathlib import Path

from app.files import check_directory, created, make_directory, reason, remove

MAX_HELD = 3
MAX_REASON_BYTES = 1000

log = logging.getLogger(__name__)


class Quarantine:
    """The newest damaged entries, each with its reason.

    This process remembers an entry that cannot be moved, as on a full or read-only disk.

    Args:
        place: Directory of the entries. Its `quarantine/00000001-<entry>/` has the entry as it was found, `entry/`, and
            `reason.txt`.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._directory = place / "quarantine"
        self._immovable: dict[str, str] = {}

    def holds(self, name: str) -> bool:
        """Whether an entry is damaged, but could not be moved."""
        return name in self._immovable

    def forget(self, name: str) -> None:
        """Forget an entry that could not be moved, since another has its place now."""
        self._immovable.pop(name, None)

    def isolate(self, name: str, why: str) -> None:
        """Move an entry here, and remove the oldest beyond `MAX_HELD`. Never raises."""
        log.warning("kept model is damaged", extra={"entry": name, "reason": why})
        try:
            self._move(name, why)
        except OSError as error:
            if os.path.lexists(self._place / name):  # otherwise another process has moved it
                self._immovable[name] = why
                log.warning("damaged model cannot be moved", extra={"entry": name, "reason": reason(error)})

    def reasons(self) -> tuple[str, ...]:
        """Entries as "name: reason": first those that could not be moved, then the others, the newest first."""
        told = [f"{name}: {why}" for name, why in reversed(self._immovable.items())]
        with contextlib.suppress(OSError):
            for box in self._boxes():
                why = "unknown reason"
                with contextlib.suppress(OSError), open(box / "reason.txt", "rb") as file:
                    why = file.read(MAX_REASON_BYTES).decode(errors="replace")
                told.append(f"{box.name}: {why}")
        return tuple(told)

    def _move(self, name: str, why: str) -> None:
        make_directory(self._directory)
        boxes = self._boxes()
        number = int(boxes[0].name[:8]) + 1 if boxes else 1
        box = self._directory / f"{number:08d}-{name}"
        box.mkdir(mode=0o700)
        try:
            (self._place / name).rename(box / "entry")
        except OSError:
            box.rmdir()
            raise
        for old in boxes[MAX_HELD - 1 :]:
            remove(old)
        with contextlib.suppress(OSError), created(box / "reason.txt") as file:
            file.write(why.encode(errors="replace")[:MAX_REASON_BYTES])

    def _boxes(self) -> list[Path]:
        """Directories in the quarantine, the newest first."""
        check_directory(self._directory)
        names = [name for name in os.listdir(self._directory) if re.fullmatch(r"[0-9]{8}-version-.*", name)]
        return [self._directory / name for name in sorted(names, reverse=True)]
