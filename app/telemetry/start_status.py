"""The last line of a terminal while the service starts: what it is doing, and for how long."""

import asyncio
import logging
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

POLL_SECONDS = 0.1
TOLD_BY = ("app.models.", "kernels.")
"""Loggers whose lines say what a start is doing."""


class _Newest(logging.Handler):
    """Keeps the message of the newest line."""

    message = "starting"

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        if record.name.startswith(TOLD_BY):
            self.message = record.getMessage()


async def show_start(ready: Callable[[], bool]) -> None:
    """Show the newest line of the log, and the seconds so far, until `ready`, on standard error, which is a terminal.

    Log lines are written above it, as they are.
    """
    newest = _Newest()
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    logging.getLogger().addHandler(newest)
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(newest.message, total=None)
            while not ready():
                progress.update(task, description=newest.message)
                await asyncio.sleep(POLL_SECONDS)
    finally:
        logging.getLogger().removeHandler(newest)
