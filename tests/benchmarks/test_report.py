"""The committed reports: their pages are those of their figures."""

import json
import re
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


def test_the_readme_quotes_the_committed_pages() -> None:
    text = (REPORTS.parent / "README.md").read_text()
    quoted = re.findall(r"<!-- from (\w+) -->\n(.*?)\n<!-- /from \1 -->", text, re.DOTALL)
    assert len(quoted) == text.count("<!-- from ") >= 6
    for name, lines in quoted:
        assert set(lines.splitlines()) <= set((REPORTS / f"{name}.md").read_text().splitlines()), name


def test_the_readme_names_every_report_and_benchmark() -> None:
    text = (REPORTS.parent / "README.md").read_text()
    linked = set(re.findall(r"\(reports/(\w+)\.md\)", text))
    assert linked == {path.stem for path in REPORTS.glob("*.md")}
    commands = {path.stem for path in REPORTS.parent.glob("*.py") if "def main()" in path.read_text()}
    assert set(re.findall(r"`just bench (\w+)", text)) == commands
