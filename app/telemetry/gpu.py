"""Readings of NVIDIA GPUs through NVML, polled by a background task."""

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.telemetry.dependencies import Dependency
from app.telemetry.own_thread import in_own_thread

POLL_INTERVAL_S = 5.0
SEARCH_INTERVAL_S = 60.0
"""Interval of polls while there is no GPU, since a driver can be loaded later."""

SERIES = (
    ("gpu_utilization_percent", "Share of the last sample period in which a kernel ran.", "utilization_percent"),
    ("gpu_memory_used_bytes", "Device memory in use.", "memory_used_bytes"),
    ("gpu_memory_total_bytes", "Device memory installed.", "memory_total_bytes"),
    ("gpu_temperature_celsius", "Temperature of the device.", "temperature_celsius"),
)
"""Name, help text, and attribute of a reading."""

log = logging.getLogger(__name__)


class GpuReading(msgspec.Struct, frozen=True):
    """Readings of one device. A figure that the device does not report (as under MIG) is None.

    The UUID identifies the device that a backend computes on.
    """

    index: int
    name: str
    uuid: str
    utilization_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    temperature_celsius: float | None


class GpuStatus(msgspec.Struct, frozen=True):
    """Newest readings of all GPUs, and the reason why others cannot be read."""

    available: bool
    reason: str | None
    devices: tuple[GpuReading, ...]


class GpuPoller(Collector):
    """Keeps the newest readings of all GPUs, and exports them as metrics.

    Args:
        nvml: The `pynvml` module; a test passes a double.

    Attributes:
        status: The newest readings.
        calls: How the polls went; one that hangs leaves the old readings in `status`.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml: Any = nvml if nvml is not None else importlib.import_module("pynvml")
        self._initialized = False
        self.calls = Dependency("nvml")
        self.status = GpuStatus(available=False, reason="not looked yet", devices=())

    def collect(self) -> Iterable[Metric]:
        """Prometheus series of the newest readings. Without a reading there is no series, rather than a zero.

        While NVML hangs, its last readings are too old to be series.
        """
        readings = () if self.calls.read().up is False else self.status.devices
        for name, help_text, attribute in SERIES:
            family = GaugeMetricFamily(name, help_text, labels=("gpu", "uuid"))
            for reading in readings:
                value: float | None = getattr(reading, attribute)
                if value is not None:
                    family.add_metric((str(reading.index), reading.uuid), value)
            if family.samples:
                yield family

    async def run(self) -> None:
        """Poll for ever, in a thread, since calls of NVML take milliseconds, or hang with a dead driver."""
        while True:
            self.calls.began()
            await in_own_thread(self.poll)
            self.calls.ended()
            await asyncio.sleep(POLL_INTERVAL_S if self.status.available else SEARCH_INTERVAL_S)

    def poll(self) -> None:
        """Read all devices once. A device that cannot be read loses its old reading."""
        nvml = self._nvml
        devices: list[GpuReading] = []
        problems: list[str] = []
        try:
            if not self.status.available:
                self._initialize()
            for index in range(nvml.nvmlDeviceGetCount()):
                try:
                    devices.append(self._read(index))
                except nvml.NVMLError as error:
                    problems.append(f"GPU {index}: {error}")
            reason = "; ".join(problems) or (None if devices else "NVML reports no device")
        except nvml.NVMLError as error:
            devices, reason = [], str(error)
        if len(devices) < len(self.status.devices):
            log.warning("GPU readings lost", extra={"reason": reason})
        self.status = GpuStatus(available=bool(devices), reason=reason, devices=tuple(devices))

    def _initialize(self) -> None:
        """Initialise NVML, after a shutdown if it is initialised: only then does it see new devices."""
        if self._initialized:
            self._initialized = False
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()
        self._nvml.nvmlInit()
        self._initialized = True

    def _read(self, index: int) -> GpuReading:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        # Version 2 of the structure excludes memory that the driver reserves for itself.
        memory = self._optional(nvml.nvmlDeviceGetMemoryInfo, handle, nvml.nvmlMemory_v2)
        utilization = self._optional(nvml.nvmlDeviceGetUtilizationRates, handle)
        return GpuReading(
            index=index,
            name=_text(nvml.nvmlDeviceGetName(handle)),
            uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
            utilization_percent=None if utilization is None else float(utilization.gpu),
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=None if memory is None else int(memory.total),
            temperature_celsius=self._optional(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU),
        )

    def _optional(self, query: Any, *arguments: Any) -> Any:
        try:
            return query(*arguments)
        except self._nvml.NVMLError as error:
            if getattr(error, "value", None) == self._nvml.NVML_ERROR_GPU_IS_LOST:
                raise
            # Not supported, unknown to this driver, or not permitted, as under MIG.
            return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
