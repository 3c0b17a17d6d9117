"""Progress of a training, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from app.training.progress import ProgressLines, shown_progress
from tests.clock import Clock
from tests.support import eventually


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_line_says_how_far_a_stage_is_and_how_long_it_will_take(clock: Clock) -> None:
    written: list[str] = []
    lines = ProgressLines(written.append, clock)
    lines.tell()
    lines.report("Boosting", 0, 400)
    clock.now += 10
    lines.tell()
    lines.report("Boosting", 100, 400)
    clock.now += 20
    lines.tell()
    lines.report("Boosting", 150, 400)
    clock.now += 50
    lines.tell()
    assert written == [
        "Boosting: 0 of 400 after 10 s, just begun",
        "Boosting: 100 of 400 after 30 s, about 1 min 30 s left",
        "Boosting: 150 of 400 after 1 min 20 s, about 2 min 13 s left",
    ]


def test_a_line_says_when_a_stage_ends(clock: Clock) -> None:
    written: list[str] = []
    lines = ProgressLines(written.append, clock)
    lines.report("Features", 0, 1)
    clock.now += 3
    lines.report("Features", 1, 1)
    lines.tell()
    lines.report("Boosting", 7, 400)
    clock.now += 61
    lines.report("Folds", 0, 5)
    assert written == ["Features: complete after 3 s", "Boosting: ended at 7 of 400 after 1 min 1 s"]


def test_a_log_gets_lines_while_a_stage_lasts() -> None:
    text = io.StringIO()
    with shown_progress(Console(file=text), every_s=0.01) as report:
        report("Boosting", 1, 400)
        eventually(lambda: text.getvalue().count("Boosting: 1 of 400 after 0 s, about ") >= 2)
    written = text.getvalue()
    assert "\x1b" not in written


def test_a_terminal_gets_bars() -> None:
    text = io.StringIO()
    with shown_progress(Console(file=text, force_terminal=True, width=100)) as report:
        report("Boosting", 1, 400)
        report("Boosting", 2, 400)
    assert "2/400" in text.getvalue()
