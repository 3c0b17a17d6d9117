"""The dashboard: what Grafana's own schema makes of it, and whether its expressions can be computed.

No Grafana is asked: none can be had as a Debian or npm package. Its schema is that of `grafana-foundation-sdk`, which
its makers generate from the sources of Grafana.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as schema
from grafana_foundation_sdk.models import units

from app.ops.dashboard import GRID_COLUMNS, dashboard
from app.ops.expressions import metric_names
from tests.ops.families import SERIES

DASHBOARD: dict[str, Any] = json.loads(dashboard(""))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {target["expr"] for panel in PANELS for target in panel["targets"]} | {
    DASHBOARD["annotations"]["list"][0]["expr"]
}


def missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """What the other document lacks or has otherwise; it may have more."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lost = [f"{path}/{key}" for key in ours.keys() - theirs.keys()]
        return lost + [
            more for key in ours.keys() & theirs.keys() for more in missing(ours[key], theirs[key], f"{path}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return [more for index, pair in pairs for more in missing(*pair, f"{path}/{index}")]
    return [] if ours == theirs else [f"{path}: {ours!r} is {theirs!r}"]


def computable(expression: str) -> str:
    """An expression with values in the place of the dashboard's variables."""
    return re.sub(r"\$\w+", ".*", expression.replace("$__rate_interval", "5m"))


def test_grafanas_schema_takes_it_without_loss() -> None:
    register_default_plugins()
    read = schema.Dashboard.from_json(DASHBOARD)
    assert missing(DASHBOARD, json.loads(json.dumps(read, cls=JSONEncoder))) == []
    assert {type(panel).__name__ for panel in read.panels or ()} == {"Panel", "RowPanel"}
    assert {panel.type_val for panel in read.panels or ()} == {
        "row", "stat", "timeseries", "heatmap", "table", "status-history",
    }  # fmt: skip
    targets = [
        target for panel in read.panels or () if isinstance(panel, schema.Panel) for target in panel.targets or ()
    ]
    assert {type(target).__module__ for target in targets} == {"grafana_foundation_sdk.models.prometheus"}


def test_every_panel_has_a_title_a_unit_and_a_description() -> None:
    known = {value for name in vars(units) for value in get_args(units.__annotations__.get(name))}
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in known, panel["title"]
        assert all(target["expr"] and target["refId"] for target in panel["targets"])
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_no_two_panels_share_a_place() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < GRID_COLUMNS for x, _ in cells), panel["title"]
        taken |= cells


def test_the_rows_are_those_that_an_operator_looks_for() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows[0] == "Overview"
    assert len(rows) == 9
    assert {one["name"] for one in DASHBOARD["templating"]["list"]} == {
        "datasource",
        "job",
        "instance",
        "model_name",
        "model_version",
    }


def test_every_metric_that_it_names_exists() -> None:
    named = {name for expression in EXPRESSIONS for name in metric_names(expression)}
    assert named - SERIES == set()
    prefixed = {name for target in re.findall(r'"expr":\s*"((?:[^"\\]|\\.)*)"', dashboard("p_"))
                for name in metric_names(json.loads(f'"{target}"'))}  # fmt: skip
    assert {name.removeprefix("p_") for name in prefixed} == named
    assert {name for name in prefixed if not name.startswith("p_")} == {
        name for name in named if name[:8] == "process_"
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_promtool_can_read_its_expressions(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{index}", "expr": computable(one)} for index, one in enumerate(sorted(EXPRESSIONS))]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    check = subprocess.run(["promtool", "check", "rules", str(tmp_path / "panels.yml")], capture_output=True, text=True)
    assert (check.returncode, check.stderr) == (0, ""), check.stdout


def test_grafana_draws_every_value_of_it() -> None:
    """A status history with more points than half its pixels is not drawn, nor is a value below a fixed minimum."""
    histories = [panel for panel in PANELS if panel["type"] == "status-history"]
    assert histories
    assert all(panel["maxDataPoints"] <= 100 for panel in histories)
    assert all("min" not in panel["fieldConfig"]["defaults"] for panel in PANELS)
