"""Where damaged entries of the model store go: out of the way, and still there for a look at them."""

import contextlib
import logging
import os
import re
from pathlib import Path

from app.models.disk.files import check_directory, created, make_directory, reason, remove

MAX_HELD = 3
MAX_REASON_BYTES = 1000

log = logging.getLogger(__name__)


class Quarantine:
    """The damaged entries that were found last, each with the reason.

    One that cannot be moved, as on a disk that is full or read-only, is remembered by this process.

    Args:
        place: Holds the entries. In it, `quarantine/00000001-<entry>/` has `entry/`, as it was found, and `reason.txt`.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._directory = place / "quarantine"
        self._immovable: dict[str, str] = {}

    def holds(self, name: str) -> bool:
        """Whether an entry is damaged and still in its place."""
        return name in self._immovable

    def forget(self, name: str) -> None:
        """Another entry is in the place of one that could not be moved."""
        self._immovable.pop(name, None)

    def isolate(self, name: str, why: str) -> None:
        """Move an entry here, and remove the oldest beyond `MAX_HELD`. Never raises."""
        log.warning("kept model is damaged", extra={"entry": name, "reason": why})
        try:
            self._move(name, why)
        except OSError as error:
            if os.path.lexists(self._place / name):  # and no other process has moved it
                self._immovable[name] = why
                log.warning("damaged model cannot be moved", extra={"entry": name, "reason": reason(error)})

    def reasons(self) -> tuple[str, ...]:
        """Of each entry its name, a colon and the reason: first those that could not be moved, then the last found."""
        told = [f"{name}: {why}" for name, why in reversed(self._immovable.items())]
        with contextlib.suppress(OSError):
            for box in self._boxes():
                why = "for a reason that was not written"
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
        """Directories of this quarantine, the newest first."""
        check_directory(self._directory)
        names = [name for name in os.listdir(self._directory) if re.fullmatch(r"[0-9]{8}-version-.*", name)]
        return [self._directory / name for name in sorted(names, reverse=True)]
