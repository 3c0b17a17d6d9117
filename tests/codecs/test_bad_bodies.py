"""Bad bodies leak no memory."""

import json
import subprocess
import sys

import pytest

from tests.support import ROOT

SLACK = 0.02
"""Share by which resident memory may grow: an allocator gives memory back when it likes. 400 bodies that leak 10 KB
each exceed it."""


@pytest.mark.parametrize("count", [400, pytest.param(4000, marks=pytest.mark.slow)])
def test_bad_bodies_leak_no_memory(count: int) -> None:
    command = [sys.executable, "-m", "tests.codecs.bad_bodies", str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    resident: dict[str, tuple[int, int]] = json.loads(done.stdout)  # by kind of body, before and after
    assert set(resident) == {"gzip", "zstd", "arrow", "csv", "parquet"}
    grown = {kind: after / before - 1 for kind, (before, after) in resident.items()}
    assert {kind: share for kind, share in grown.items() if share > SLACK} == {}
