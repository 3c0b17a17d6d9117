"""The model process of a test: the service's own, or one with altered code."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from app.config.settings import Settings
from app.models.process.client import WorkerProcess
from tests.support import ROOT

BOOSTER = "model.lgb"
"""The booster's file in a directory that MLflow saved."""

ON_PATH = {"PYTHONPATH": str(ROOT)}


@contextmanager
def working(settings: Settings, memory: int | None = None) -> Generator[WorkerProcess, None, None]:
    worker = WorkerProcess(settings, memory)
    try:
        yield worker
    finally:
        worker.close()


def altered_python(directory: Path, code: str) -> str:
    """An interpreter that runs `code`, over the module `worker`, before the worker's own program."""
    path = directory / "python"
    path.write_text(f"#!{sys.executable}\nfrom app.models.process import worker\n{code}\nworker.main()\n")
    path.chmod(0o700)
    return str(path)


def ended(process: psutil.Process) -> bool:
    """Whether it runs no more, be it that nobody has asked for its exit status yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def started(before: list[psutil.Process]) -> psutil.Process:
    """The child that this process has now and had not before."""
    (process,) = (child for child in psutil.Process().children() if child not in before and not ended(child))
    return process
