"""Progress of a training: bars on a terminal, and lines elsewhere, such as in a log."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import NamedTuple

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from app.progress import EVERY_S, told_every
from app.training.boosting import Report


@contextmanager
def shown_progress(console: Console, every_s: float = EVERY_S) -> Generator[Report]:
    """A receiver of progress, which shows it.

    Args:
        console: Where it is shown.
        every_s: Seconds between the lines, where the console is no terminal.
    """
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bars:
            yield _on(bars)
        return
    lines = ProgressLines(lambda line: console.print(line, soft_wrap=True))
    with told_every(every_s, lines.tell):
        yield lines.report


def _on(bars: Progress) -> Report:
    tasks: dict[str, TaskID] = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done)

    return report


class _Stage(NamedTuple):
    """A stage that has begun, and how far it is."""

    name: str
    begun: float
    done: int
    total: int


class ProgressLines:
    """Progress as lines of text. `tell` may be called by another thread than `report`.

    Args:
        write: Takes a line.
        clock: Seconds that never go back; a test passes its own.
    """

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._stage: _Stage | None = None

    def report(self, stage: str, done: int, total: int) -> None:
        """Take the progress of a stage, and write a line when a stage ends, which it may do before its last step."""
        now, before = self._clock(), self._stage
        begun = now
        if before is not None and before.name == stage:
            begun = before.begun
        elif before is not None:
            self._write(f"{before.name}: ended at {before.done} of {before.total} after {_time(now - before.begun)}")
        self._stage = None if done >= total else _Stage(stage, begun, done, total)
        if done >= total:
            self._write(f"{stage}: complete after {_time(now - begun)}")

    def tell(self) -> None:
        """Write a line about the stage that is under way, with the time that it will still take if it goes on so."""
        stage = self._stage
        if stage is None:
            return
        passed = self._clock() - stage.begun
        left = f"about {_time(passed / stage.done * (stage.total - stage.done))} left" if stage.done else "just begun"
        self._write(f"{stage.name}: {stage.done} of {stage.total} after {_time(passed)}, {left}")


def _time(seconds: float) -> str:
    """A time such as `42 s` or `3 min 5 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
