"""The GPU poller against a double of NVML, the one part here that needs hardware."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.telemetry.gpu import GpuPoller
from app.telemetry.metrics import Metrics


class NVMLError(Exception):
    def __init__(self, value: int, text: str = "NVML error") -> None:
        super().__init__(text)
        self.value = value


class FakeNvml:
    """Two devices, of which one (as under MIG) does not report its utilisation."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.failure: NVMLError | None = None
        self.inits = 0

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def nvmlInit(self) -> None:
        self.inits += 1
        self._check()

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=1_000 + handle, total=80_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle == 1:
            raise NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 41


@pytest.fixture
def nvml() -> FakeNvml:
    return FakeNvml()


def test_readings_become_series(nvml: FakeNvml) -> None:
    poller = GpuPoller(nvml)
    metrics = Metrics(poller.readings)
    poller.poll()
    value = metrics.registry.get_sample_value
    assert value("gpu_utilization_percent", {"gpu": "0", "uuid": "GPU-0"}) == 37
    assert value("gpu_memory_used_bytes", {"gpu": "1", "uuid": "GPU-1"}) == 1001
    assert value("gpu_utilization_percent", {"gpu": "1", "uuid": "GPU-1"}) is None
    assert poller.status.available
    assert poller.status.devices[0].name == "NVIDIA H100"


def test_without_a_gpu_there_are_no_series_and_a_reason() -> None:
    nvml = FakeNvml()
    nvml.failure = NVMLError(9, "Driver Not Loaded")
    poller = GpuPoller(nvml)
    metrics = Metrics(poller.readings)
    poller.poll()
    assert b"gpu_" not in metrics.exposition()
    assert poller.status.reason == "Driver Not Loaded"
    assert not poller.status.available


def test_a_gpu_that_vanishes_takes_its_series_along_and_can_come_back(nvml: FakeNvml) -> None:
    poller = GpuPoller(nvml)
    metrics = Metrics(poller.readings)
    poller.poll()
    nvml.failure = NVMLError(15, "GPU is lost")
    poller.poll()
    assert b"gpu_" not in metrics.exposition()
    assert poller.status.reason == "GPU is lost"
    nvml.failure = None
    poller.poll()
    assert b"gpu_utilization_percent" in metrics.exposition()
    assert nvml.inits == 2


def test_the_real_library_answers_on_a_machine_of_either_kind() -> None:
    poller = GpuPoller()
    poller.poll()
    assert poller.status.available == bool(poller.status.devices)
    assert poller.status.available or poller.status.reason
