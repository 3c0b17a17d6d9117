"""Bad bodies leak no memory."""

import json
import subprocess
import sys

import pytest

from tests.codecs.bad_bodies import COUNT
from tests.support import ROOT

SLACK = 0.02
"""Of the memory: an allocator gives back what is freed when it likes."""


@pytest.fixture(scope="module")
def resident() -> dict[str, tuple[int, int]]:
    """Resident bytes before and after, by kind of body, of a process that does nothing else."""
    command = [sys.executable, "-m", "tests.codecs.bad_bodies"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "arrow", "csv", "parquet"])
def test_bad_bodies_leak_no_memory(resident: dict[str, tuple[int, int]], kind: str) -> None:
    before, after = resident[kind]
    assert after < before * (1 + SLACK), f"{(after - before) / COUNT:.0f} bytes a body"
