"""Bad bodies leak no memory."""

import json
import subprocess
import sys

import pytest

from tests.support import ROOT

LEAK_BYTES = 25_000
"""Growth of the resident memory for each bad body that is a leak. An allocator gives memory back when it likes: what it
keeps of 400 bodies or of 4,000 is up to 7 MB."""


@pytest.mark.parametrize("count", [400, pytest.param(4000, marks=pytest.mark.slow)])
def test_bad_bodies_leak_no_memory(count: int) -> None:
    command = [sys.executable, "-m", "tests.codecs.bad_bodies", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resident: dict[str, tuple[int, int]] = json.loads(done.stdout)  # by kind of body, before and after
    assert set(resident) == {"gzip", "zstd", "arrow", "csv", "parquet"}
    grown = {kind: after - before for kind, (before, after) in resident.items()}
    assert {kind: size for kind, size in grown.items() if size > LEAK_BYTES * count} == {}
