"""`madrone replay` as people use it: its output, its exit status, and its messages."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.config.settings import Settings
from app.models.process.worker import ModelWorker
from tests.routes.support import Row, client_of, services_of
from tests.support import come_true

Replay = Callable[..., Result]


@pytest.fixture
def replay(registry_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Runs the command in this process, over the session's registry and a log of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.models.process.client.WorkerProcess", ModelWorker)  # which takes seconds to start

    def run(*arguments: str, **environ: str) -> Result:
        given = {"DATA_DIR": str(registry_dir), "DATABASE_URL": f"sqlite:///{tmp_path / 'predictions.db'}"} | environ
        return CliRunner().invoke(main, ["replay", *arguments], env=given)

    return run


async def test_the_champion_says_again_what_it_said(
    replay: Replay, settings: Settings, example: Row, tmp_path: Path
) -> None:
    async with client_of(settings) as client:
        await client.post("/predict/batch", json={"predictions": [example] * 5}, headers={"X-Request-ID": "five"})
        await come_true(lambda: services_of(client).prediction_log.status.queued == 0)
    result = replay("--since", "1h", "--alias", "champion", "--json", "--output", str(tmp_path / "rows.ndjson"))
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    (comparison,) = report["comparisons"]
    assert (report["rows"], report["replayed_version"], comparison["logged_version"]) == (5, "1", "1")
    assert (comparison["identical"], comparison["differences"]["largest"]) == (5, 0)
    assert (comparison["with_interval"], comparison["outside_interval"]) == (5, 0)
    lines = (tmp_path / "rows.ndjson").read_text().splitlines()
    assert [(json.loads(line)["request_id"], json.loads(line)["row"]) for line in lines] == [
        ("five", row) for row in (4, 3, 2, 1, 0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environ", "status", "message"),
    [
        ((), {}, 2, "Missing option '--since'"),
        (("--since", "yesterday"), {}, 2, "must be a time such as"),
        (("--since", "1h", "--alias", "a", "--version", "1"), {}, 2, "Give one of --alias, --version and --model."),
        (("--since", "1h", "--limit", "0"), {}, 2, "--limit"),
        (("--since", "1h"), {"PREDICTION_LOG_ROWS": "x"}, 2, "PREDICTION_LOG_ROWS: must be"),
        (("--since", "1h"), {}, 1, "There is no prediction log yet"),
        (("--since", "1h", "--name", "c"), {"MODEL_NAMES": "a,b"}, 2, "'c' is none of a, b."),
        (("--since", "1h"), {"PREDICTION_LOG": "off"}, 1, "Predictions are not logged"),
        (("--since", "1h"), {"DATABASE_URL": "postgresql://u:hunter2@127.0.0.1:1/x"}, 1, "cannot be read"),
    ],
)
def test_what_cannot_be_replayed_is_told(
    replay: Replay, arguments: tuple[str, ...], environ: dict[str, str], status: int, message: str
) -> None:
    result = replay(*arguments, **environ)
    assert (result.exit_code, message in result.output) == (status, True), result.output
    assert "hunter2" not in result.output
    assert "Traceback" not in result.output


async def test_another_model_than_the_first_is_replayed_by_its_name(
    replay: Replay, settings: Settings, example: Row
) -> None:
    async with client_of(settings) as client:
        await client.post("/predict", json=example)
        await come_true(lambda: services_of(client).prediction_log.status.queued == 0)
    several = {"MODEL_NAMES": f"other,{settings.model_name}?alias=champion"}
    result = replay("--since", "1h", "--name", settings.model_name, "--json", **several)
    assert (result.exit_code, json.loads(result.output)["rows"]) == (0, 1)
    assert "no model 'other'" in replay("--since", "1h", **several).output
