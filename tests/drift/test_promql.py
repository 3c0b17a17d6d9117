"""The query of the README: the PSI of the sum of two replicas, as the service itself computes it."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from app.drift.statistics import psi
from tests.support import ROOT

REFERENCE = [0.5, 0.3, 0.2, 0.0]
BY_REPLICA = [[40, 10, 10, 2], [10, 30, 0, 0]]
"""Rows a minute in each bin."""

STEP = 2**-20
"""What values are rounded to, since promtool compares all of their digits."""


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_the_query_for_several_replicas_gives_the_psi_of_all_rows(tmp_path: Path) -> None:
    text = (ROOT / "app" / "drift" / "README.md").read_text()
    query = re.findall(r"<!-- psi -->\n```promql\n(.*?)```", text, re.DOTALL)
    rule = {"groups": [{"name": "drift", "rules": [{"record": "psi", "expr": f"round({query[0]}, {STEP})"}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rule))
    labels = 'model_version="3",feature="size",bin="{}",instance="{}"'
    series = [
        line
        for instance, rates in enumerate(BY_REPLICA)
        for place, rate in enumerate(rates)
        for line in (
            {"series": f"feature_bin_total{{{labels.format(place, instance)}}}", "values": f"0+{rate}x90"},
            {
                "series": f"feature_bin_reference_share{{{labels.format(place, instance)}}}",
                "values": f"{REFERENCE[place]}x90",
            },
        )
    ]
    rows = np.array(BY_REPLICA).sum(axis=0)
    value = round(float(psi(np.array([REFERENCE]), rows[None] / rows.sum())[0]) / STEP) * STEP
    expected = {"labels": 'psi{model_version="3",feature="size"}', "value": value}
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [{"expr": "psi", "eval_time": "90m", "exp_samples": [expected]}],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(test))
    done = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
