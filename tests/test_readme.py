"""The READMEs are true: settings, metrics, routes, recipes, links and measured tables are the project's own."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import mlflow.lightgbm
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.codecs.formats import FORMATS
from app.config.allowed import settings_table
from app.config.settings import Settings
from app.main import create_app
from app.models.refresh.outcome import Outcome
from app.ops.rules import alerts_table
from app.training.california import MODEL_NAME
from tests.models.support import copied_registry, mlflows_own_warnings_silenced
from tests.support import HTTP, ROOT, Client, Server, free_port, in_process, loaded

Serve = Callable[..., Server]
REPORTS = ROOT / "benchmarks" / "reports"
READMES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *(file for top in ("app", "kernels", "benchmarks", "tests")
                                       for file in sorted((ROOT / top).rglob("README.md"))))
}  # fmt: skip
FRONT = READMES["README.md"]
MOST_BYTES = 12_000
PARTS = {"speed": "http", "overload": "overload", "overhead": "overhead", "swap": "swap", "forest": "forest",
         "features": "features", "quality": "model_quality"}  # fmt: skip
"""Name of the block that embeds a report, and the report's name."""


def blocks(text: str) -> dict[str, str]:
    """What stands between the comments `<!-- name -->` and `<!-- /name -->`, by name."""
    return dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", text, re.DOTALL))


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, by GitHub's rule."""
    headings = re.findall(r"^#+ (.*)", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def first_column(table: str) -> list[str]:
    """Names in backticks in the first column of a table, without the labels of metrics."""
    cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name.partition("{")[0] for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_the_front_page_is_short() -> None:
    assert len(FRONT.encode()) <= MOST_BYTES


@pytest.mark.parametrize("page", READMES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", READMES[page]):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{page} links to {target}"


def test_the_front_page_links_to_every_other() -> None:
    assert [page for page in READMES if page != "README.md" and f"]({page}" not in FRONT] == []


def test_the_settings_table_is_that_of_the_code() -> None:
    assert blocks(READMES["app/README.md"])["settings"] == settings_table(Settings)


def test_the_table_of_alerts_is_that_of_the_rules() -> None:
    assert blocks(READMES["app/telemetry/README.md"])["alerts"] == alerts_table(Settings())


def test_every_reason_for_a_status_is_documented() -> None:
    sources = ("routes/reasons.py", "workers/faults.py")
    code = "".join((ROOT / "app" / source).read_text(encoding="utf-8") for source in sources)
    documented = first_column(blocks(READMES["app/telemetry/README.md"])["reasons"])
    assert {name for name in documented if "…" not in name} == set(re.findall(r'(?:code=|Fault\()"(\w+)"', code))
    outcomes = {outcome.removeprefix("model_") for outcome in get_args(Outcome)} - {"swapped", "unchanged"}
    assert outcomes <= set(re.findall(r"`(\w+)`", blocks(READMES["app/telemetry/README.md"])["reasons"]))


def test_embedded_reports_are_the_committed_ones() -> None:
    embedded = [
        (name, content)
        for page, text in READMES.items()
        for name, content in blocks(text).items()
        if page != "README.md" and name in PARTS
    ]
    assert "quality" in dict(embedded)
    for name, content in embedded:
        _, _, body = (REPORTS / f"{PARTS[name]}.md").read_text(encoding="utf-8").partition("\n\n")
        assert content == body.strip(), name


def test_every_report_is_linked() -> None:
    pages = FRONT + READMES.get("benchmarks/README.md", "")
    assert [path.name for path in REPORTS.glob("*.md") if f"reports/{path.name})" not in pages] == []


def test_the_speed_table_has_the_figures_of_the_reports() -> None:
    reports = "".join((REPORTS / f"{name}.md").read_text(encoding="utf-8") for name in ("http", "forest"))
    cells = [cell for line in blocks(FRONT)["speed"].splitlines()[2:] for cell in line.split("|")[2:-1]]
    figures = [figure for cell in cells for figure in re.findall(r"(?<!\w)\d+(?:,\d{3})*(?:\.\d+)?", cell)]
    assert len(figures) > 20
    assert [figure for figure in figures if not re.search(rf"(?<![\d.,]){re.escape(figure)}(?!\d)", reports)] == []


def test_every_format_is_documented() -> None:
    table = blocks(READMES["app/codecs/README.md"])["formats"]
    assert sorted(re.findall(r"`([^`]+)`", table)) == sorted(FORMATS)


async def test_the_first_example_is_answered_as_it_says(
    registry_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = copied_registry(registry_dir, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)
    # Would find the packages that the model needs by importing it in another process.
    monkeypatch.setattr("mlflow.models.infer_pip_requirements", lambda *_, fallback, **__: fallback)
    source = blocks(FRONT)["first"].removeprefix("```python\n").removesuffix("```")
    with mlflows_own_warnings_silenced():
        try:
            exec(compile(source, "README.md", "exec"), {})
        finally:
            mlflow.lightgbm.autolog(disable=True)
    settings = Settings(
        mlflow_tracking_uri=uri,
        model_name="iris",
        model_alias="champion",
        data_dir=tmp_path / "data",
        prometheus_port=free_port(),
    )
    sent, shown = re.fullmatch(r".*?-d '\s*({.*?})'\n({.*})\n```", blocks(FRONT)["answer"], re.DOTALL).groups()  # type: ignore[union-attr]
    async with Client(create_app(settings, **in_process(settings))) as client:
        await loaded(client)
        answer, expected = (await client.post("/predict", json=json.loads(sent))).json(), json.loads(shown)
    assert answer.keys() == expected.keys()
    for name in ("prediction", "probabilities"):
        assert answer[name] == pytest.approx(expected[name], rel=1e-9)
    assert answer["label"] == expected["label"]


@pytest.mark.slow
def test_the_example_is_served_and_its_metrics_are_documented(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    source = blocks(READMES["app/training/README.md"])["example"].removeprefix("```python\n").removesuffix("```")
    with mlflows_own_warnings_silenced():
        names: dict[str, Any] = {}
        exec(compile(source, "README.md", "exec"), names)
    model, data = names["model"], names["data"]
    rows = data.features[:20]
    expected = model.parts.engine().predict(rows)
    server = serve(DATA_DIR=str(tmp_path / "data"), MODEL_NAME="diabetes").wait_ready()
    for row, prediction in zip(rows.tolist(), expected.tolist(), strict=True):
        body = dict(zip(data.names, row, strict=True))
        answer = HTTP.post(f"{server.url}/predict", json=body).json()
        assert answer["prediction"] == pytest.approx(prediction, rel=1e-12)
        assert answer["confidence_interval"]["lower"] < prediction < answer["confidence_interval"]["upper"]
    families = list(text_string_to_metric_families(HTTP.get(f"{server.url}/metrics").text))
    exported = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert len(exported) > 20
    documented = first_column(blocks(READMES["app/README.md"])["metrics"])
    assert {name for name in exported if not name.startswith(("process_", "python_"))} <= set(documented)


def test_every_documented_metric_exists() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "app").rglob("*.py"))
    for name in first_column(blocks(READMES["app/README.md"])["metrics"]):
        assert f'"{name}"' in code or f'"{name.removesuffix("_total")}"' in code, name


def test_every_route_is_documented() -> None:
    app = create_app(Settings(api_debug=True, mlflow_webhook_secret="hook")).litestar
    paths = {route.path for route in app.routes if "{" not in route.path} - {"/oauth2-redirect.html"}
    pages = FRONT + READMES["app/protocols/README.md"] + READMES["app/console/README.md"]
    named = set(re.findall(r"`(?:GET |POST )?(/[a-z0-9/_.]*)`", pages))
    assert paths - named == set()


def test_every_named_recipe_exists() -> None:
    recipes = set(re.findall(r"^([a-z-]+)(?: [^:\n]*)?:(?!=)", (ROOT / "justfile").read_text(), re.MULTILINE))
    assert {"setup", "serve", "train", "predict", "test", "lint", "types", "fmt", "bench", "lock", "image",
            "clean"} <= recipes  # fmt: skip
    for page, text in READMES.items():
        assert set(re.findall(r"(?:`|^|&& )just ([a-z-]+)", text, re.MULTILINE)) <= recipes, page
        for name in re.findall(r"just bench ([a-z_]+)", text):
            assert (ROOT / "benchmarks" / f"{name}.py").is_file(), f"{page} names `just bench {name}`"


@pytest.mark.parametrize("name", ["requirements.lock", *READMES])
def test_no_registry_or_mirror_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "--index-url" not in text
    assert "simple" not in re.findall(r"https?://\S+/(\w+)", text)


def test_ci_runs_the_readmes_test_command() -> None:
    command = "pip install uv rust-just && just test"
    assert command in FRONT
    assert command in (ROOT / ".ci" / "run").read_text()
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=False).returncode == 0


@pytest.mark.parametrize(
    "folder",
    [
        *(
            "app",
            "app/codecs",
            "app/drift",
            "app/madrone",
            "app/models",
            "app/ops",
            "app/prediction_log",
            "app/protocols",
            "app/score",
            "app/telemetry",
        ),
        *("app/training", "kernels"),
    ],
)
def test_a_map_names_every_module_of_its_folder(folder: str) -> None:
    section = re.search(
        r"^## (?:Where is what|The map)\n(.*?)(?=^## |\Z)", READMES[f"{folder}/README.md"], re.DOTALL | re.M
    )
    assert section is not None
    with_maps = [page.parent for page in (ROOT / folder).glob("*/README.md")]
    modules = {
        path.name
        for path in (ROOT / folder).rglob("*.py")
        if not path.name.startswith("__") and not any(map(path.is_relative_to, with_maps))
    }
    assert {Path(name).name for name in re.findall(r"`([\w/]+\.py)`", section[1])} == modules


def test_the_model_is_named_as_the_settings_default() -> None:
    assert Settings().model_name == MODEL_NAME
