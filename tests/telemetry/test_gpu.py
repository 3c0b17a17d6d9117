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
    NVML_ERROR_NO_PERMISSION = 4
    NVML_TEMPERATURE_GPU = 0

    def __init__(self) -> None:
        self.failure: NVMLError | None = None
        self.lost: int | None = None
        self.inits = 0
        self.refusal = self.NVML_ERROR_NOT_SUPPORTED

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
        if handle == self.lost:
            raise NVMLError(15, "GPU is lost")
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=1_000 + handle, total=80_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        if handle == 1:
            raise NVMLError(self.refusal)
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


@pytest.mark.parametrize(
    ("value", "reason"),
    [(9, "Driver Not Loaded"), (12, "NVML Shared Library Not Found"), (18, "Driver/library version mismatch")],
    ids=["no driver", "no library", "old driver"],
)
def test_without_a_gpu_there_are_no_series_and_a_reason(nvml: FakeNvml, value: int, reason: str) -> None:
    nvml.failure = NVMLError(value, reason)
    poller = GpuPoller(nvml)
    metrics = Metrics(poller.readings)
    poller.poll()
    assert b"gpu_" not in metrics.exposition()
    assert poller.status.reason == reason
    assert not poller.status.available


@pytest.mark.parametrize("refusal", [FakeNvml.NVML_ERROR_NOT_SUPPORTED, FakeNvml.NVML_ERROR_NO_PERMISSION])
def test_under_mig_what_the_device_reports_is_still_told(nvml: FakeNvml, refusal: int) -> None:
    nvml.refusal = refusal
    poller = GpuPoller(nvml)
    poller.poll()
    whole, partitioned = poller.status.devices
    assert whole.utilization_percent == 37
    assert partitioned.utilization_percent is None
    assert (partitioned.memory_used_bytes, partitioned.temperature_celsius) == (1001, 41)


def test_a_gpu_that_vanishes_between_being_counted_and_being_read_is_no_crash(nvml: FakeNvml) -> None:
    nvml.lost = 1
    poller = GpuPoller(nvml)
    poller.poll()
    assert (poller.status.available, poller.status.reason) == (False, "GPU is lost")
    nvml.lost = None
    poller.poll()
    assert len(poller.status.devices) == 2


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
