"""Readings of the host and this process, through psutil."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import psutil

from app.telemetry.own_thread import in_own_thread

POLL_INTERVAL_S = 10.0
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container, for versions 2 and 1 of Linux control groups."""


def memory_bytes(limits: Iterable[Path] = CGROUP_LIMITS) -> int:
    """Memory available to this process: that of the host, or the limit of its container if lower."""
    total = psutil.virtual_memory().total
    for path in limits:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


class SystemReading(msgspec.Struct, frozen=True):
    """Figures of host and process. Percentages are of all cores, since the last reading.

    Attributes:
        disk_free_bytes: Free space of DATA_DIR a few seconds ago; None until it is known.
    """

    cpu_count: int | None
    cpu_percent: float
    load_average: tuple[float, float, float]
    memory_total_bytes: int
    memory_available_bytes: int
    disk_free_bytes: int | None
    process_memory_bytes: int
    process_cpu_percent: float
    process_threads: int
    process_uptime_seconds: float


class SystemMonitor:
    """Reads host and process figures on request, and the disk in the background, since a network disk can hang.

    Args:
        directory: Directory on the file system whose free space is reported.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = psutil.Process(os.getpid())
        self._disk_free: int | None = None
        # psutil gives the use since the last call, and 0.0 at the first call, so make that here.
        psutil.cpu_percent()
        self._process.cpu_percent()

    async def run(self) -> None:
        """Look at the disk for ever."""
        while True:
            await in_own_thread(self.poll)
            await asyncio.sleep(POLL_INTERVAL_S)

    def poll(self) -> None:
        """Look at the disk once."""
        self._disk_free = psutil.disk_usage(str(self._existing_directory())).free

    def read(self) -> SystemReading:
        """Take a reading, in microseconds and without waiting."""
        memory = psutil.virtual_memory()
        with self._process.oneshot():
            created = self._process.create_time()
            return SystemReading(
                cpu_count=psutil.cpu_count(),
                cpu_percent=psutil.cpu_percent(),
                load_average=psutil.getloadavg(),
                memory_total_bytes=memory.total,
                memory_available_bytes=memory.available,
                disk_free_bytes=self._disk_free,
                process_memory_bytes=self._process.memory_info().rss,
                process_cpu_percent=self._process.cpu_percent(),
                process_threads=self._process.num_threads(),
                process_uptime_seconds=max(0.0, time.time() - created),
            )

    def _existing_directory(self) -> Path:
        directory = self._directory.resolve()
        while not directory.exists():
            directory = directory.parent
        return directory
