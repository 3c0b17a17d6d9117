"""Progress of a scoring: a bar on a terminal, and lines elsewhere, such as in a log."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from app.progress import EVERY_S, told_every


@contextmanager
def shown_rows(console: Console, total: int | None, every_s: float = EVERY_S) -> Generator[Callable[[int], None]]:
    """A receiver of numbers of scored rows, which shows rows, rows/s, and the time left where the total is known.

    Args:
        console: Where they are shown.
        total: Rows of all inputs; None where it is not known.
        every_s: Seconds between the lines, where the console is no terminal.
    """
    begun, done = time.monotonic(), 0
    if console.is_terminal:
        columns = (
            TextColumn("{task.completed:,.0f} rows"), BarColumn(), TextColumn("{task.fields[speed]:,.0f} rows/s"),
            TimeElapsedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as bars:
            task = bars.add_task("rows", total=total, speed=0)

            def advance(rows: int) -> None:
                nonlocal done
                done += rows
                bars.update(task, completed=done, speed=done / max(1e-9, time.monotonic() - begun))

            yield advance
        return

    def count(rows: int) -> None:
        nonlocal done
        done += rows

    def tell() -> None:
        console.print(described(done, total, time.monotonic() - begun), soft_wrap=True)

    with told_every(every_s, tell):
        yield count


def described(done: int, total: int | None, seconds: float) -> str:
    """A line about the rows that are scored after so many seconds."""
    of = "" if total is None else f" of {total}"
    left = f", about {round((total - done) * seconds / done)} s left" if total is not None and done else ""
    return f"{done}{of} rows after {round(seconds)} s, {round(done / max(1e-9, seconds))} rows/s{left}"
