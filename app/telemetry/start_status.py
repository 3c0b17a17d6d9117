"""A status line on the terminal while the service starts: the current step, and the seconds so far."""

import asyncio
import logging
from collections.abc import Callable

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

POLL_SECONDS = 0.1
TOLD_BY = ("app.models.", "kernels.")
"""Loggers whose lines are steps of a start."""


class _Newest(logging.Handler):
    """Keeps the message of the newest step."""

    message = "starting"

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message, if it is a step."""
        if record.name.startswith(TOLD_BY):
            self.message = record.getMessage()


async def show_start(ready: Callable[[], bool]) -> None:
    """Show the newest step and the seconds so far, until `ready`, on standard error, which is a terminal.

    Log lines appear above it unchanged.
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
