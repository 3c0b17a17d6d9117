"""Schemathesis sends what /openapi.json allows and what it forbids, and holds every answer to it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.support import copied_registry
from tests.support import Server

KEY = "schemathesis"
OPTIONS = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def server(registry_dir: Path, tmp_path: Path) -> Iterator[Server]:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    copied_registry(registry_dir, data_dir)
    server = Server({"DATA_DIR": str(data_dir), "API_KEY": KEY, "ADMIN_API_KEY": KEY}, tmp_path)
    try:
        yield server.wait_ready()
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("phases", "examples", "least_cases"),
    [("fuzzing", 5, 125), pytest.param("examples,coverage,fuzzing", 50, 3000, marks=pytest.mark.slow)],
)
def test_answers_are_what_the_document_says(
    server: Server, tmp_path: Path, phases: str, examples: int, least_cases: int
) -> None:
    """Each route gets at most so many cases that are made at random, and those made of its schema's edges."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(OPTIONS), "run", f"{server.url}/openapi.json",
        "--seed=1", f"--phases={phases}", f"--max-examples={examples}", "--continue-on-failure",
        "--generation-database=none", "--no-color", "--header", f"X-API-Key: {KEY}", "--report=json",
        f"--report-json-path={tmp_path / 'cases.json'}",
    ]  # fmt: skip
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2000:]
    report = json.loads((tmp_path / "cases.json").read_text())
    assert report["complete"]
    assert report["operations"]["tested"] == report["operations"]["total"]
    assert report["test_cases"]["generated"] >= least_cases
