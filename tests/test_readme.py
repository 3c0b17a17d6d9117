"""The README is true: its settings, routes, recipes and measured tables are the project's own."""

import re
import subprocess
from pathlib import Path

import pytest

from app.main import create_app
from app.settings import Settings, settings_table
from app.training.train import MODEL_NAME

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    """What stands between the comments `<!-- name -->` and `<!-- /name -->`."""
    found = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.DOTALL)
    assert found, f"the README has no block {name}"
    return found[1]


def test_the_settings_table_is_the_codes() -> None:
    assert block("settings") == settings_table()


def test_the_speed_table_is_the_committed_reports() -> None:
    report = (ROOT / "benchmarks" / "reports" / "http.md").read_text()
    _, _, body = report.partition("\n\n")
    assert block("speed") == body.strip()


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
