"""The GPU poller against a double of NVML, the one part that needs hardware."""

from types import SimpleNamespace
from typing import Any

import pytest

from app.telemetry.gpu import GpuPoller, GpuReading, GpuStatus
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
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
    NVML_ERROR_GPU_IS_LOST = 15
    NVML_ERROR_UNKNOWN = 999
    NVML_TEMPERATURE_GPU = 0
    nvmlMemory_v2 = 0x02000028

    def __init__(self) -> None:
        self.failure: NVMLError | None = None
        self.lost: dict[int, NVMLError] = {}
        self.inits = 0
        self.started = 0
        self.refusal = self.NVML_ERROR_NOT_SUPPORTED

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def nvmlInit(self) -> None:
        self.inits += 1
        self._check()
        self.started += 1

    def nvmlShutdown(self) -> None:
        self._check()
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._check()
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index in self.lost:
            raise self.lost[index]
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetMemoryInfo(self, handle: int, version: int | None = None) -> Any:
        reserved = 0 if version == self.nvmlMemory_v2 else 500
        return SimpleNamespace(used=1_000 + reserved + handle, total=80_000)

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
    metrics = Metrics()
    metrics.register(poller)
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
    metrics = Metrics()
    metrics.register(poller)
    poller.poll()
    assert b"gpu_" not in metrics.exposition.text()
    assert poller.status.reason == reason
    assert not poller.status.available


REFUSALS = ["NOT_SUPPORTED", "NO_PERMISSION", "FUNCTION_NOT_FOUND", "UNKNOWN"]


@pytest.mark.parametrize("refusal", [getattr(FakeNvml, f"NVML_ERROR_{name}") for name in REFUSALS], ids=REFUSALS)
def test_figures_that_a_device_does_not_report_are_left_out(nvml: FakeNvml, refusal: int) -> None:
    nvml.refusal = refusal
    poller = GpuPoller(nvml)
    poller.poll()
    whole, partitioned = poller.status.devices
    assert whole.utilization_percent == 37
    assert partitioned.utilization_percent is None
    assert (partitioned.memory_used_bytes, partitioned.temperature_celsius) == (1001, 41)


@pytest.mark.parametrize("error", [NVMLError(15, "GPU is lost"), NVMLError(4, "Insufficient Permissions")])
def test_one_that_is_lost_or_forbidden_takes_no_other_s_readings_along(
    nvml: FakeNvml, error: NVMLError, caplog: pytest.LogCaptureFixture
) -> None:
    poller = GpuPoller(nvml)
    metrics = Metrics()
    metrics.register(poller)
    poller.poll()
    nvml.lost = {0: error}
    for _ in range(2):
        poller.poll()
        assert [device.uuid for device in poller.status.devices] == ["GPU-1"]
        assert (poller.status.available, poller.status.reason) == (True, f"GPU 0: {error}")
    assert [record.message for record in caplog.records] == ["GPU readings lost"]
    assert metrics.registry.get_sample_value("gpu_memory_used_bytes", {"gpu": "1", "uuid": "GPU-1"}) == 1001
    nvml.lost = {}
    poller.poll()
    assert (len(poller.status.devices), poller.status.reason) == (2, None)


def test_one_that_is_lost_while_it_is_read_has_no_readings(nvml: FakeNvml) -> None:
    nvml.refusal = nvml.NVML_ERROR_GPU_IS_LOST
    poller = GpuPoller(nvml)
    poller.poll()
    assert [device.index for device in poller.status.devices] == [0]
    assert poller.status.reason == "GPU 1: NVML error"


def test_all_of_them_lost_is_no_gpu_and_nvml_is_started_anew(nvml: FakeNvml) -> None:
    poller = GpuPoller(nvml)
    poller.poll()
    nvml.lost = dict.fromkeys(range(2), NVMLError(15, "GPU is lost"))
    poller.poll()
    poller.poll()
    assert not poller.status.available
    assert poller.status.reason == "GPU 0: GPU is lost; GPU 1: GPU is lost"
    nvml.lost = {}
    poller.poll()
    assert poller.status.available
    # NVML counts how often it was started, and sees what is new when it is started from nothing.
    assert (nvml.inits, nvml.started) == (3, 1)


def test_a_gpu_that_vanishes_takes_its_series_along_and_can_come_back(nvml: FakeNvml) -> None:
    poller = GpuPoller(nvml)
    metrics = Metrics()
    metrics.register(poller)
    poller.poll()
    nvml.failure = NVMLError(15, "GPU is lost")
    poller.poll()
    assert b"gpu_" not in metrics.exposition.text()
    assert poller.status.reason == "GPU is lost"
    nvml.failure = None
    poller.poll()
    assert b"gpu_utilization_percent" in metrics.exposition.text()
    assert nvml.inits == 2


def test_the_real_library_answers_on_a_machine_of_either_kind() -> None:
    poller = GpuPoller()
    poller.poll()
    assert poller.status.available == bool(poller.status.devices)
    assert poller.status.available or poller.status.reason


def test_gpu_readings_are_taken_at_each_scrape() -> None:
    poller, metrics = GpuPoller(FakeNvml()), Metrics()
    metrics.register(poller)
    assert b"gpu_" not in metrics.exposition.text()
    reading = GpuReading(
        index=0,
        name="H100",
        uuid="GPU-a",
        utilization_percent=None,
        memory_used_bytes=5,
        memory_total_bytes=9,
        temperature_celsius=None,
    )
    poller.status = GpuStatus(available=True, reason=None, devices=(reading,))
    labels = {"gpu": "0", "uuid": "GPU-a"}
    assert metrics.registry.get_sample_value("gpu_memory_used_bytes", labels) == 5
    text = metrics.exposition.text()
    assert b"gpu_utilization_percent" not in text
    assert b"gpu_temperature_celsius" not in text
    poller.status = GpuStatus(available=False, reason="it is lost", devices=())
    assert b"gpu_" not in metrics.exposition.text()
