"""The committed reports: their pages are those of their figures."""

import json
from importlib import import_module

import pytest

from benchmarks.report import REPORTS, Target

NAMES = sorted(path.stem for path in REPORTS.glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_a_committed_page_is_made_of_the_committed_figures(name: str) -> None:
    report = json.loads((REPORTS / f"{name}.json").read_text())
    assert import_module(f"benchmarks.{name}").page(report) == (REPORTS / f"{name}.md").read_text()


@pytest.mark.parametrize(("held", "verdict"), [(True, "Held."), (False, "Missed."), (None, "Not measured.")])
def test_a_target_says_whether_it_was_held(held: bool | None, verdict: str) -> None:
    assert Target("At most 3 s", "2 s", held).line() == f"- At most 3 s: 2 s. {verdict}"
