"""Progress of a scoring: a bar on a terminal, and lines elsewhere, such as in a log."""

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from app.progress import EVERY_S, told_every


class Counter:
    """Counts rows that are scored, and tells how long the others will take.

    Args:
        clock: Seconds that pass.

    Attributes:
        rows: Rows that this run scored.
        share: Share of all inputs that is done, also by an earlier run; None where their size is not known.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 0
        self.share: float | None = None
        self._clock = clock
        self._begun = clock()
        self._first: tuple[float, float] | None = None

    def add(self, rows: int, share: float | None) -> None:
        """Note rows that are scored, and the share of all inputs that is done with them."""
        self.rows += rows
        self.share = share
        if share is not None and self._first is None:
            self._first = share, self._clock()  # what is before may be of an earlier run

    def of(self, sizes: Sequence[int | None], number: int) -> Callable[[int, float | None], None]:
        """What notes rows of an input, and the share of it that is done; `sizes` are those of all, in bytes."""
        total = sum(size or 0 for size in sizes)
        size, before = sizes[number] or 0, sum(size or 0 for size in sizes[:number])

        def note(rows: int, share: float | None) -> None:
            self.add(rows, None if share is None or not total else (before + share * size) / total)

        return note

    @property
    def seconds(self) -> float:
        """Seconds since the begin."""
        return max(1e-9, self._clock() - self._begun)

    @property
    def speed(self) -> float:
        """Rows that this run scored in a second."""
        return self.rows / self.seconds

    @property
    def left(self) -> float | None:
        """Seconds that the rest may take; None where that is not known yet."""
        if self.share is None or self._first is None or self.share <= self._first[0]:
            return None
        share, at = self._first
        return (1 - self.share) * (self._clock() - at) / (self.share - share)

    def described(self) -> str:
        """A line about what is done, and what is left."""
        parts = [f"{self.rows} rows after {round(self.seconds)} s", f"{round(self.speed)} rows/s"]
        if self.share is not None:
            parts.append(f"{self.share:.0%} done")
        if (left := self.left) is not None:
            parts.append(f"about {round(left)} s left")
        return ", ".join(parts)


@contextmanager
def shown_rows(console: Console, every_s: float = EVERY_S) -> Generator[Counter]:
    """A counter whose rows are shown.

    Args:
        console: Where they are shown.
        every_s: Seconds between the lines, where the console is no terminal.
    """
    counter = Counter()
    if not console.is_terminal:
        with told_every(every_s, lambda: console.print(counter.described(), soft_wrap=True)):
            yield counter
        return
    columns = (
        BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.fields[rows]:,} rows"),
        TextColumn("{task.fields[speed]:,.0f} rows/s"), TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
    )  # fmt: skip
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("rows", total=None, rows=0, speed=0, left="")

        def show() -> None:
            left = "" if counter.left is None else f"{counter.left:.0f} s left"
            total = None if counter.share is None else 1.0
            bars.update(
                task, total=total, completed=counter.share or 0, rows=counter.rows, speed=counter.speed, left=left
            )

        with told_every(0.1, show):
            yield counter
        show()
