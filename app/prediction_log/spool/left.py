"""Spools of workers that a service no longer has, since it has fewer now: their rows are written all the same."""

import contextlib
import re
import time
from pathlib import Path

from app.prediction_log.spool.segments import Spool

FOLDER = re.compile(r"worker(\d{1,4})")

INTERVAL_S = 10.0
"""Pause between two looks. A folder may be another process's until that ends."""


def folder_of(index: int) -> str:
    """Folder of a worker's spool inside the spool's directory; the first has none."""
    return f"worker{index}" if index else ""


class LeftSpools:
    """Opens the spools whose workers are no more.

    Args:
        root: Directory of the spools.
        workers: Number of workers of the service.
    """

    def __init__(self, root: Path, workers: int = 1) -> None:
        self._root = root
        self._workers = workers
        self._spools: dict[str, Spool] = {}
        self._next = 0.0

    def spools(self) -> list[Spool]:
        """Those that are open here, new ones included; they get no further rows."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + INTERVAL_S
            with contextlib.suppress(OSError):
                for path in sorted(self._root.iterdir()):
                    match = FOLDER.fullmatch(path.name)
                    if match and int(match[1]) >= self._workers and path.name not in self._spools:
                        self._open(path.name)
        return list(self._spools.values())

    def close(self) -> None:
        """Give the directories back."""
        for spool in self._spools.values():
            spool.close()
        self._spools = {}

    def _open(self, folder: str) -> None:
        spool = Spool(self._root, 0, folder)
        with contextlib.suppress(OSError):
            spool.open()
            self._spools[folder] = spool
