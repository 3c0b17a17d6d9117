"""`madrone serve --model` and `madrone check`: a file served and judged by the real commands."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from app.cli import main
from app.commands import common
from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from tests.models.support import NAMES, tiny_booster, tiny_rows
from tests.support import HTTP, ROOT, Server, eventually

ROW = dict(zip(NAMES, (0.5, -0.25, 3.0), strict=True))


def written(path: Path, number: float) -> float:
    """Write a booster's text in the place of another, and give its prediction for `ROW`."""
    booster = tiny_booster(tiny_rows()[:, 0] * number)
    booster.save_model(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
    return float(booster.predict([list(ROW.values())])[0])  # pyright: ignore[reportArgumentType, reportIndexIssue]


def test_a_file_is_served_and_watched(serve: Callable[..., Server], tmp_path: Path) -> None:
    path = tmp_path / "houses.txt"
    first = written(path, 1)
    server = serve("--model", "houses.txt", MODEL_CACHE_TTL="1").wait_ready()
    asked = HTTP.post(f"{server.url}/predict", json=ROW).json()
    assert asked["prediction"] == first
    health = HTTP.get(f"{server.url}/health/model").json()
    assert (health["source"], health["name"], health["resolved_by"]) == ("path", "houses", "MODEL_PATH")
    assert health["version"] == asked["model_version"]
    second = written(path, 2)
    eventually(lambda: HTTP.post(f"{server.url}/predict", json=ROW).json()["prediction"] == second, process=server)
    assert HTTP.get(f"{server.url}/health").json()["status"] == "healthy"
    path.write_text("tree\n")
    eventually(lambda: HTTP.get(f"{server.url}/health").json()["status"] == "degraded", process=server)
    assert HTTP.post(f"{server.url}/predict", json=ROW).json()["prediction"] == second
    assert HTTP.get(f"{server.url}/health/model").json()["last_refusal"]["outcome"] == "refused"


def test_a_check_of_a_file_is_its_verdict(registry_dir: Path, tmp_path: Path) -> None:
    names = {name.upper() for name in Settings.__struct_fields__}
    environ = {name: value for name, value in os.environ.items() if name not in names}
    # An alias in the environment is for the service, and must not keep a file from being checked.
    environ |= {"PYTHONPATH": str(ROOT), "DATA_DIR": str(registry_dir), "MODEL_ALIAS": "champion"}
    written(tmp_path / "houses.txt", 1)
    command = [sys.executable, "-m", "app", "check", "houses.txt", "--json"]
    good = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert (good.returncode, good.stderr) == (0, "")
    verdict = msgspec.json.decode(good.stdout)
    assert (verdict["servable"], verdict["name"]) == (True, "houses")
    assert [feature["name"] for feature in verdict["features"]] == list(NAMES)


@pytest.mark.parametrize(
    ("address", "status", "stdout", "stderr"),
    [
        ("gone.txt", 1, "gone.txt cannot be served: there is no file or directory at that path.\n", ""),
        ("ftp://host/model", 2, "", "ftp: is none of them"),
    ],
)
def test_the_exit_status_of_a_check_is_its_verdict(
    address: str,
    status: int,
    stdout: str,
    stderr: str,
    registry_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "cache_kernels", lambda directory: None)  # this process keeps its own cache
    monkeypatch.setattr("app.models.process.client.quiet_worker", ModelWorker)
    environ = {"DATA_DIR": str(registry_dir), "MODEL_ALIAS": "champion"}
    done = CliRunner().invoke(main, ["check", address], env=environ)
    assert (done.exit_code, done.stdout) == (status, stdout)
    assert stderr in done.stderr


@pytest.mark.parametrize("command", [("check",), ("serve", "--model")])
@pytest.mark.parametrize("address", ["", " ", "s3://[bucket/model"])
def test_an_empty_or_unreadable_address_is_bad_usage(command: tuple[str, ...], address: str) -> None:
    done = CliRunner().invoke(main, [*command, address])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "must not be empty." in done.stderr or "must be a path or a valid URI." in done.stderr
