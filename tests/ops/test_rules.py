"""The rules: each alert fires when it should, after its time, and not before; by Prometheus's own test of rules."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from app.config.settings import Settings
from app.ops.expressions import metric_names, rewritten
from app.ops.rules import RUNBOOK, SECTION, alerts, recordings, rules
from tests.ops.families import SERIES
from tests.support import ROOT

HERE = 'job="madrone",instance="a"'
OK = f'api_requests_total{{{HERE},method="POST",endpoint="/predict",status_code="200"}}'


class Case(NamedTuple):
    """Series by minute, the minute from which the alert fires, and series with which it never does."""

    series: dict[str, str]
    fires: int
    quiet: dict[str, str]


def latency(fast: int, endpoint: str) -> dict[str, str]:
    """Buckets of 100 requests a minute, of which `fast` take at most half a second and the others at most one."""
    counts = {"0.5": fast, "1.0": 100, "+Inf": 100}
    return {
        f'api_request_duration_seconds_bucket{{{HERE},endpoint="{endpoint}",le="{bound}"}}': f"0+{count}x60"
        for bound, count in counts.items()
    }


def one(name: str, values: str, labels: str = "") -> dict[str, str]:
    return {f"{name}{{{HERE}{',' if labels else ''}{labels}}}": values}


def serving(instance: str, version: str, values: str, name: str = "houses") -> dict[str, str]:
    """An instance that serves a version."""
    labels = f'job="madrone",instance="{instance}",model_name="{name}",model_version="{version}",digest="d{version}"'
    return {f"model_info{{{labels}}}": values}


FAILED = OK.replace("200", "500")
PROBED = OK.replace('"POST"', '"GRPC"').replace("/predict", "/inference.GRPCInferenceService/ServerLive")
REFUSED = f'errors_total{{{HERE},error_type="overloaded",endpoint="/predict"}}'
MODEL = 'model_name="houses"'
FEATURE = 'model_name="houses",model_version="1",feature="MedInc"'
OUTPUT = 'model_name="houses",model_version="1",output="0"'
DROPPED, WRITTEN = 'outcome="dropped"', 'outcome="written"'

CASES: dict[str, Case] = {
    "MadroneNotReady": Case(one("service_status", "0x2 2x30"), 5, one("service_status", "0x2 2x1 0x30")),
    "MadroneModelMissing": Case(
        one("model_status", "0x30", MODEL) | one("service_status", "1x20 0x10"), 5,
        one("model_status", "1x30", MODEL) | one("service_status", "0x30"),
    ),
    "MadroneErrors": Case(
        {OK: "0+100x30", FAILED: "0+2x30", PROBED: "0+1000x30"}, 6, {OK: "0+1000x30", FAILED: "0+9x30"}
    ),
    "MadroneSlow": Case(latency(98, "/predict"), 11, latency(98, "/predict/bulk") | latency(100, "/predict")),
    "MadroneModelStale": Case(
        one("model_stale", "1x60", MODEL), 15, one("model_stale", "1x13 0x60", MODEL)
    ),
    "MadroneAliasMissing": Case(
        one("model_alias_missing", "1x30", MODEL), 5, one("model_alias_missing", "0x30", MODEL)
    ),
    "MadroneMixedFleet": Case(
        serving("a", "2", "1x120") | serving("b", "2", "1x9 _x120") | serving("b", "1", "_x9 1x120"), 79,
        serving("a", "2", "1x120") | serving("b", "1", "1x50 _x70") | serving("b", "2", "_x50 1x70")
        | serving("a", "1", "1x120", "another"),
    ),
    "MadroneGpuFallback": Case(
        one("compute_backend_usable", "1x4 0x30", 'backend="cuda",device="H100"'), 6,
        one("compute_backend_usable", "1x30", 'backend="cpu",device="x"'),
    ),
    "MadroneFeatureDrift": Case(one("drift_level", "2x60", FEATURE), 15, one("drift_level", "1x60", FEATURE)),
    "MadronePredictionDrift": Case(
        one("drift_prediction_level", "2x60", OUTPUT), 15, one("drift_prediction_level", "1x60", OUTPUT)
    ),
    "MadroneLogDrops": Case(
        one("prediction_log_rows_total", "0x4 50x30", DROPPED), 5,
        one("prediction_log_rows_total", "50x30", DROPPED) | one("prediction_log_rows_total", "0+9x30", WRITTEN),
    ),
    "MadroneLogFailing": Case(
        one("dependency_up", "0x30", 'dependency="prediction_log"'), 5,
        one("dependency_up", "0x30", 'dependency="registry"'),
    ),
    "MadroneOverloaded": Case({OK: "0+90x30", REFUSED: "0+10x30"}, 6, {OK: "0+1000x30", REFUSED: "0+5x30"}),
    "MadroneDegraded": Case(one("service_status", "1x90"), 30, one("service_status", "1x28 0x1 1x20")),
}  # fmt: skip

OTHERS = [
    ("MadroneNotReady", Case({'up{job="madrone",instance="a"}': "1x3 0x30"} | one("service_status", "0x3 _x30"), 6,
                             {'up{job="another",instance="a"}': "0x30"} | one("service_status", "0x30"))),
    ("MadroneModelStale", Case(
        one("model_age_seconds", "10801x60", MODEL), 15, one("model_age_seconds", "10799x60", MODEL)
    )),
]  # fmt: skip
"""Further ways in which the same alerts fire."""


def promtool(directory: Path, prefix: str, test: dict[str, Any]) -> None:
    (directory / "rules.yml").write_text(rules(Settings(), prefix))
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}
    (directory / "tests.json").write_text(json.dumps(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "tests.json"], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def watched(series: dict[str, str], prefix: str, expected: dict[tuple[int, str], dict[str, float]]) -> dict[str, Any]:
    """A test of promtool's: what expressions give at which minutes."""
    return {
        "interval": "1m",
        "input_series": [{"series": rewritten(name, prefix), "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expression, "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
            }
            for (minute, expression), samples in expected.items()
        ],
    }  # fmt: skip


pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")


@pytest.mark.parametrize("prefix", ["", "madrone_"])
def test_each_alert_fires_after_its_time_and_not_before(tmp_path: Path, prefix: str) -> None:
    """All cases are side by side, each as a job of its own, since Prometheus makes a database for each test."""
    descriptions = {alert.name: alert.summary + alert.description for alert in alerts(Settings())}
    assert CASES.keys() == descriptions.keys()
    series: dict[str, str] = {}
    expected: dict[tuple[int, str], dict[str, float]] = {}
    for number, (name, case) in enumerate([*CASES.items(), *OTHERS]):
        for kind, given in (("loud", case.series), ("quiet", case.quiet)):
            series |= {key.replace('job="madrone"', f'job="{kind}{number}"'): values for key, values in given.items()}
        # The labels that its texts show must be there.
        shown = "".join(f',{label}!=""' for label in re.findall(r"\$labels\.(\w+)", descriptions[name]))
        fired = {f'{{alertname="{name}"}}': 1.0}
        expected[case.fires - 1, firing(f'job="loud{number}"')] = {}
        expected[case.fires, firing(f'job="loud{number}"')] = fired
        expected[case.fires, firing(f'job="loud{number}"{shown}')] = fired
    expected |= {(minute, firing('job!~"loud.*"')): {} for minute in (5, 15, 29, 45, 75)}
    promtool(tmp_path, prefix, watched(series, prefix, expected))


def firing(matchers: str) -> str:
    return f'count by (alertname) (ALERTS{{alertstate="firing",{matchers}}})'


def test_psi_over_all_instances_is_that_of_their_sums(tmp_path: Path) -> None:
    series: dict[str, str] = {}
    # Two instances whose rows together are shared 8 : 2, against a reference of 5 : 5.
    for instance, (first, second) in {"a": (10, 1), "b": (6, 3)}.items():
        place = f'job="madrone",instance="{instance}",model_version="1"'
        series[f"feature_rows_total{{{place}}}"] = f"0+{first + second}x90"
        for index, count in enumerate((first, second)):
            of_bin = f'{place},feature="MedInc",bin="{index}"'
            series[f"feature_bin_total{{{of_bin}}}"] = f"0+{count}x90"
            series[f"feature_bin_reference_share{{{of_bin}}}"] = "0.5x90"
    psi = 0.3 * 0.4700036292457356 - 0.3 * -0.916290731874155  # 0.3 ln(0.8 / 0.5) - 0.3 ln(0.2 / 0.5)
    near = f"abs(madrone:feature_psi:increase1h - {psi}) < bool 0.000001"
    same = '{job="madrone",model_version="1",feature="MedInc"}'
    promtool(tmp_path, "", watched(series, "", {(80, near): {same: 1.0}, (15, near): {}}))  # 300 rows are too few


def test_every_metric_that_they_name_exists() -> None:
    made = {recording.name for recording in recordings()}
    for rule in (*recordings(), *alerts(Settings())):
        assert metric_names(rule.expression) - SERIES - made == set(), rule.name


def test_the_limits_are_those_of_the_settings() -> None:
    text = rules(Settings(model_cache_ttl=7200, longest_wait=0.2), "")
    assert "model_age_seconds > 21600" in text
    assert "p99_5m > 0.2" in text
    assert "model_age_seconds > 900" in rules(Settings(model_cache_ttl=1), "")


def test_every_alert_says_what_to_look_at_first() -> None:
    (group,) = yaml.safe_load(rules(Settings(), ""))["groups"]
    assert f"\n## {SECTION}\n" in (ROOT / "app" / "README.md").read_text()
    for rule in group["rules"][len(recordings()) :]:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"]["runbook"] == RUNBOOK
        assert " Look first at " in rule["annotations"]["description"]
        assert rule["annotations"]["description"].endswith(".")


def test_alerts_refer_to_a_page_of_the_operators_own() -> None:
    address = "https://wiki.example/madrone#alerts"
    (group,) = yaml.safe_load(rules(Settings(), "", address))["groups"]
    assert {one["annotations"]["runbook_url"] for one in group["rules"] if "alert" in one} == {address}
    assert not [one for one in group["rules"] if "runbook" in one.get("annotations", {})]
