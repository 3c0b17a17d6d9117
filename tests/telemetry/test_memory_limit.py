"""Memory of the service: that of the host, or the limit of its container."""

from pathlib import Path

import psutil
import pytest

from app.telemetry.system import CGROUP_LIMITS, memory_bytes


@pytest.fixture
def host() -> int:
    return psutil.virtual_memory().total


def limit(directory: Path, text: str, name: str = "memory.max") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def test_a_container_s_limit_counts(tmp_path: Path) -> None:
    assert memory_bytes([limit(tmp_path, "123456789\n")]) == 123456789


@pytest.mark.parametrize("text", ["max\n", "", "\n", "-1\n", "0x10\n", "1e9\n"])
def test_an_unlimited_container_has_the_hosts_memory(tmp_path: Path, host: int, text: str) -> None:
    assert memory_bytes([limit(tmp_path, text)]) == host


def test_a_limit_beyond_the_host_s_memory_is_none(tmp_path: Path, host: int) -> None:
    # The first version of control groups says so where nothing is set.
    assert memory_bytes([limit(tmp_path, "9223372036854771712\n")]) == host


def test_the_least_of_several_counts(tmp_path: Path) -> None:
    limits = [limit(tmp_path, "2000", "a"), tmp_path / "missing", limit(tmp_path, "1000", "b"), limit(tmp_path, "max")]
    assert memory_bytes(limits) == memory_bytes(reversed(limits)) == 1000


def test_files_that_are_not_there_or_cannot_be_read_leave_the_host_s(tmp_path: Path, host: int) -> None:
    assert memory_bytes([tmp_path / "missing", tmp_path]) == host
    assert memory_bytes([]) == host


def test_both_versions_of_control_groups_are_asked() -> None:
    assert [path.name for path in CGROUP_LIMITS] == ["memory.max", "memory.limit_in_bytes"]
    assert 0 < memory_bytes() <= psutil.virtual_memory().total
