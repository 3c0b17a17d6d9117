"""Readings of the host and this process."""

from pathlib import Path

import psutil

from app.telemetry.system import SystemMonitor


def disk_free(directory: Path) -> int:
    monitor = SystemMonitor(directory)
    monitor.poll()
    return monitor.read().disk_free_bytes or 0


def test_a_reading_is_of_this_host_and_this_process(tmp_path: Path) -> None:
    monitor = SystemMonitor(tmp_path)
    assert monitor.read().disk_free_bytes is None
    monitor.poll()
    reading = monitor.read()
    assert reading.cpu_count == psutil.cpu_count()
    assert reading.memory_total_bytes == psutil.virtual_memory().total
    assert 0 < reading.memory_available_bytes <= reading.memory_total_bytes
    assert 0 < reading.process_memory_bytes < reading.memory_total_bytes
    assert reading.disk_free_bytes is not None
    assert 0 < reading.disk_free_bytes < psutil.disk_usage(str(tmp_path)).total
    assert 0 <= reading.cpu_percent <= 100
    assert reading.process_cpu_percent >= 0
    assert reading.process_threads >= 1
    assert reading.process_uptime_seconds >= 0
    assert len(reading.load_average) == 3


def test_the_uptime_grows(tmp_path: Path) -> None:
    monitor = SystemMonitor(tmp_path)
    first, second = monitor.read(), monitor.read()
    assert second.process_uptime_seconds >= first.process_uptime_seconds


def test_a_directory_that_is_not_there_yet_is_read_where_it_will_be(tmp_path: Path) -> None:
    assert disk_free(tmp_path / "not" / "there" / "yet") > 0
    assert not (tmp_path / "not").exists()


def test_a_relative_directory_is_taken_from_the_working_directory() -> None:
    assert disk_free(Path(".madrone-that-is-not-there")) > 0
