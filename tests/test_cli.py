"""The `madrone` command: its output, its exit status, and its messages when something is wrong."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
import uvicorn
from click.testing import CliRunner, Result

from app.cli import main
from app.commands import common
from app.commands.listening import _is_loopback
from app.config.allowed import settings_table
from app.config.settings import Settings
from app.main import create_app
from tests.support import HTTP, ROOT, eventually, free_port, in_process

SETTINGS = {name.upper() for name in Settings.__struct_fields__}


@pytest.fixture
def madrone(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in an empty directory, with only the given settings."""

    def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments],
            cwd=tmp_path,
            env=inherited | {"PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "data")} | environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


Madrone = Callable[..., subprocess.CompletedProcess[str]]


def test_help_names_every_command(madrone: Madrone) -> None:
    done = madrone("--help")
    assert done.returncode == 0
    assert {"serve", "train", "predict", "settings"} <= set(done.stdout.split())
    assert "..." not in done.stdout.partition("Commands:")[2]  # of a summary that is cut off
    assert "The exit status is 0" in done.stdout


def test_version_is_that_of_the_package(madrone: Madrone) -> None:
    done = madrone("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"madrone {version('madrone')}\n", "")


def test_settings_prints_the_table(madrone: Madrone) -> None:
    done = madrone("settings")
    assert (done.returncode, done.stdout, done.stderr) == (0, settings_table(Settings) + "\n", "")


@pytest.mark.parametrize(
    "command", ["serve", *(pytest.param(it, marks=pytest.mark.slow) for it in ("train", "predict"))]
)
def test_bad_settings_are_one_message_and_status_2(madrone: Madrone, command: str) -> None:
    done = madrone(command, API_PORT="none", MODEL_STAGE="prod", API_KEY="my secret")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "Madrone cannot start because some settings are not valid:",
        "API_PORT: must be a whole number from 1 to 65535, got 'none'",
        "MODEL_STAGE: must be one of Archived, None, Production, Staging, got 'prod'",
        "API_KEY: must be 1 to 256 visible ASCII characters",
    ]


@pytest.mark.parametrize("where", ["the environment", ".env"])
def test_an_empty_key_does_not_open_the_service(madrone: Madrone, tmp_path: Path, where: str) -> None:
    (tmp_path / ".env").write_text("API_KEY=sesame\n" if where == "the environment" else "API_KEY=\n")
    done = madrone("serve", **({"API_KEY": ""} if where == "the environment" else {}))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "Madrone cannot start because some settings are not valid:",
        "API_KEY: must be 1 to 256 visible ASCII characters, but is empty: give it a value, or remove it",
    ]


@pytest.mark.parametrize(
    ("host", "alone"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False),
        ("192.0.2.1", False), ("no-such-host.invalid", False),
    ],
)  # fmt: skip
def test_loopback_addresses_are_recognised(host: str, alone: bool) -> None:
    assert _is_loopback(host) is alone


def test_an_option_of_serve_is_checked_as_its_setting_is(madrone: Madrone) -> None:
    done = madrone("serve", "--port", "80800", API_PORT="8000")
    assert done.returncode == 2
    assert "API_PORT: must be a whole number from 1 to 65535, got '80800'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("serve", "--model", ""), ("check", ""), ("check", " ")], ids=str)
def test_an_empty_address_is_not_the_model_of_a_registry(madrone: Madrone, arguments: tuple[str, ...]) -> None:
    done = madrone(*arguments)
    assert done.returncode == 2
    assert "must not be empty" in done.stderr


def test_the_environment_wins_over_a_dotenv_file(madrone: Madrone, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# comment\nAPI_PORT=none\nexport MODEL_STAGE='prod'\nLOG_LEVEL=\n")
    done = madrone("predict")
    assert done.returncode == 2
    assert "API_PORT" in done.stderr
    assert "MODEL_STAGE" in done.stderr
    assert "LOG_LEVEL" not in done.stderr
    done = madrone("predict", MODEL_STAGE="Staging")
    assert "API_PORT" in done.stderr
    assert "MODEL_STAGE" not in done.stderr


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs `madrone train` in this process: a new one would import MLflow for seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(common, "cache_kernels", lambda directory: None)  # this process keeps its own cache
    return lambda *arguments: CliRunner().invoke(main, ["train", *arguments])


def test_training_on_a_file_that_is_not_there_says_so(train: Callable[..., Result]) -> None:
    done = train("--data", "missing.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "There is no file missing.csv.\n"


def test_training_on_a_file_with_other_columns_names_the_missing_ones(
    train: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("MedInc,HouseAge\n1,2\n")
    done = train("--data", "other.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("other.csv has no column AveRooms, AveBedrms")


def test_training_does_not_write_over_a_directory(train: Callable[..., Result], tmp_path: Path) -> None:
    header = "MedInc,HouseAge,AveRooms,AveBedrms,Population,AveOccup,Latitude,Longitude,MedHouseVal"
    (tmp_path / "rows.csv").write_text(f"{header}\n1,2,3,4,5,6,34,-118,2\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    done = train("--data", "rows.csv", "--output", "taken")
    assert done.exit_code == 1
    assert done.stderr == "taken is not empty.\n"


def test_predicting_without_a_server_says_what_to_do(madrone: Madrone) -> None:
    port = free_port()
    done = madrone("predict", API_PORT=str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"No answer from http://127.0.0.1:{port}: ")
    assert "Is the service running?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["not-an-address", "ftp://host", ""])
def test_predicting_with_an_invalid_address_says_so(madrone: Madrone, url: str) -> None:
    done = madrone("predict", "--url", url)
    assert done.returncode == 2
    assert "Invalid value for --url: The URL of the service must begin with http://" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def listening(settings: Settings) -> Iterator[Settings]:
    """Settings of an app that listens to API_PORT and wants a key; in this process: another would take ten seconds."""
    settings = msgspec.structs.replace(settings, api_port=free_port(), api_key="sesame")
    app = create_app(settings, **in_process(settings))
    server = uvicorn.Server(uvicorn.Config(app, port=settings.api_port, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started and app.services.slot.current is not None)
        yield settings
    finally:
        server.should_exit = True
        thread.join()


def test_predicting_prints_the_example_and_the_services_answer(
    listening: Settings, example: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url, environ = f"http://127.0.0.1:{listening.api_port}", {"API_PORT": str(listening.api_port)}
    done = CliRunner().invoke(main, ["predict"], env=environ | {"API_KEY": "sesame"})
    assert (done.exit_code, done.stderr) == (0, "")
    first, _, rest = done.stdout.partition("\n")
    assert first == f"POST {url}/predict"
    sent, end = json.JSONDecoder().raw_decode(rest)
    answer = json.loads(rest[end:])
    assert sent == example
    again = HTTP.post(f"{url}/predict", json=example, headers={"X-API-Key": "sesame"}).json()
    assert answer["prediction"] == again["prediction"]
    assert answer["model_version"] == "1"

    named = CliRunner().invoke(main, ["predict", "--name", listening.model_name], env=environ | {"API_KEY": "sesame"})
    assert named.stdout.startswith(f"POST {url}/predict/{listening.model_name}\n")
    unknown = CliRunner().invoke(main, ["predict", "--name", "flats"], env=environ | {"API_KEY": "sesame"})
    assert unknown.exit_code == 1
    assert f"the model served here is {listening.model_name}." in unknown.stderr

    refused = CliRunner().invoke(main, ["predict", "--url", f"{url}/"], env={"API_KEY": "wrong"})
    assert refused.exit_code == 1
    assert refused.stderr.startswith("/predict answered 401 Unauthorized: The key is not valid. Set API_KEY")
    assert "wrong" not in refused.stderr


def test_a_system_without_openmp_is_told_which_package_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "OPENMP_LIBRARY", "libnothing.so.1")
    result = CliRunner().invoke(main, ["train", "--data", "missing.csv"])
    assert result.exit_code == 1
    assert "libnothing.so.1" in result.stderr
    assert "apt-get install libgomp1" in result.stderr


@pytest.mark.parametrize("command", ["grafana", "rules"])
def test_ops_prints_what_names_the_metrics_with_their_prefix(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    plain, prefixed = (CliRunner().invoke(main, ["ops", command, *more]) for more in ((), ("--prefix", "acme_")))
    assert (plain.exit_code, prefixed.exit_code) == (0, 0)
    assert "acme_" not in plain.output
    assert prefixed.output.replace("acme_", "") == plain.output.replace("acme_", "")
    assert "acme_api_requests_total" in prefixed.output


def test_ops_prints_a_servicemonitor_unless_there_are_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_PORT", "9123")
    done = CliRunner().invoke(main, ["ops", "servicemonitor"])
    assert (done.exit_code, "targetPort: 9123" in done.output) == (0, True)
    monkeypatch.setenv("ENABLE_PROMETHEUS", "false")
    done = CliRunner().invoke(main, ["ops", "servicemonitor"])
    assert (done.exit_code, done.output) == (1, "ENABLE_PROMETHEUS is false: there is nothing to scrape.\n")


def test_ops_refers_to_a_page_of_the_operators_own() -> None:
    done = CliRunner().invoke(main, ["ops", "rules", "--runbook-url", "https://wiki.example/madrone#alerts"])
    assert (done.exit_code, "runbook_url: https://wiki.example/madrone#alerts\n" in done.output) == (0, True)
    for wrong in ("README.md", "https://a b", "https://{{ $value }}"):
        done = CliRunner().invoke(main, ["ops", "rules", "--runbook-url", wrong])
        assert (done.exit_code, "must begin with http:// or https://" in done.output) == (2, True)


def test_ops_refuses_a_prefix_that_no_metric_can_have() -> None:
    done = CliRunner().invoke(main, ["ops", "rules", "--prefix", "1-a"])
    assert done.exit_code == 2
    assert "must be letters, digits and _" in done.output
