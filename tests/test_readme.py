"""The README is true: its settings, routes, recipes and measured tables are the project's own."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.codecs.formats import FORMATS
from app.main import create_app
from app.settings import Settings, settings_table
from app.training.california import MODEL_NAME
from tests.models.support import mlflows_own_warnings_silenced
from tests.support import ROOT, Server

Serve = Callable[..., Server]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    """What stands between the comments `<!-- name -->` and `<!-- /name -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"the README has no block {name}"
    return found[1]


def test_the_settings_table_is_the_codes() -> None:
    assert block("settings") == settings_table()


@pytest.mark.parametrize(
    ("name", "report"),
    [
        ("speed", "http"),
        ("overload", "overload"),
        ("overhead", "overhead"),
        ("swap", "swap"),
        ("forest", "forest"),
        ("features", "features"),
        ("quality", "model_quality"),
    ],
)
def test_the_measured_tables_are_the_committed_reports(name: str, report: str) -> None:
    _, _, body = (ROOT / "benchmarks" / "reports" / f"{report}.md").read_text().partition("\n\n")
    assert block(name) == body.strip()


def test_every_format_is_documented() -> None:
    assert [name for name in FORMATS if f"`{name}`" not in README] == []


def test_the_example_on_other_data_runs_and_its_model_is_served(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    source = block("example").removeprefix("```python\n").removesuffix("```")
    with mlflows_own_warnings_silenced():
        names: dict[str, Any] = {}
        exec(compile(source, "README.md", "exec"), names)
    model, data = names["model"], names["data"]
    rows = data.features[:20]
    expected = model.parts.engine().predict(rows)
    server = serve(DATA_DIR=str(tmp_path / "data"), MODEL_NAME="diabetes").wait_ready()
    for row, prediction in zip(rows.tolist(), expected.tolist(), strict=True):
        body = dict(zip(data.names, row, strict=True))
        answer = httpx.post(f"{server.url}/predict", json=body, trust_env=False).json()
        assert answer["prediction"] == pytest.approx(prediction, rel=1e-12)
        assert answer["confidence_interval"]["lower"] < prediction < answer["confidence_interval"]["upper"]


def test_every_route_is_documented() -> None:
    app = create_app(Settings(api_debug=True))
    paths = {route.path for route in app.routes if "{" not in route.path} - {"/oauth2-redirect.html"}
    named = set(re.findall(r"`(?:GET |POST )?(/[a-z/_.]*)`", README))
    assert paths - named == set()


def test_every_recipe_that_is_named_exists() -> None:
    recipes = set(re.findall(r"^([a-z-]+)(?: [^:\n]*)?:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bjust ([a-z]+)", README))
    assert {
        "setup",
        "serve",
        "train",
        "predict",
        "test",
        "lint",
        "types",
        "fmt",
        "bench",
        "lock",
        "image",
        "clean",
    } <= (recipes)
    assert named <= recipes


@pytest.mark.parametrize("name", ["lock", "readme"])
def test_no_registry_or_mirror_is_named(name: str) -> None:
    text = README if name == "readme" else (ROOT / "requirements.lock").read_text()
    assert "--index-url" not in text
    assert "simple" not in re.findall(r"https?://\S+/(\w+)", text)


def test_ci_runs_the_readmes_test_command() -> None:
    command = "pip install uv rust-just && just test"
    assert command in README
    assert command in (ROOT / ".ci" / "run").read_text()
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


def test_the_model_is_named_as_the_settings_default() -> None:
    assert Settings().model_name == MODEL_NAME
