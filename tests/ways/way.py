"""A way to log a LightGBM model with MLflow, what becomes of it, and the table of all ways."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd
from mlflow import MlflowClient

REGISTERED = "ways"
"""The registered model that every way makes a version of."""


class Logged(NamedTuple):
    """What was logged, and rows to ask with.

    Attributes:
        model: As its user holds it, with `predict`.
        asked: Rows as its user hands them to `predict`; a service is sent their values.
        array: Whether its user hands over an array, and MLflow's signature is one of an array.
        pyfunc: Whether MLflow's own pyfunc answers these rows; None if it answers something else.
        unseen: Index of a row whose category the model has never seen, if there is one.
    """

    model: Any
    asked: pd.DataFrame
    array: bool = False
    pyfunc: bool | None = True
    unseen: int | None = None


class Way(NamedTuple):
    """A way to log a model.

    Attributes:
        title: What its user writes, in Markdown.
        log: Trains a model, and logs it as a new version of `REGISTERED`; gets a directory of its own.
        output: Meaning of the predictions by `/predict/model/info`, after a conversion if that is needed; else empty.
        note: What to know of a model that is served.
        unlogged: Part of MLflow's reason not to store the model.
        refused: Part of the reason of a refusal.
        kept: Part of the reason why `madrone convert` does not convert the model; empty if it does.
    """

    title: str
    log: Callable[[Path], Logged]
    output: str = ""
    note: str = ""
    unlogged: str = ""
    refused: str = ""
    kept: str = ""

    @property
    def outcome(self) -> str:
        if self.unlogged:
            return "not logged"
        if not self.refused:
            return "served"
        return "refused" if self.kept else "converted"


def way(title: str, output: str = "", **told: str) -> Callable[[Callable[[Path], Logged]], Way]:
    """Make a function a `Way`; the arguments are its attributes."""
    return lambda log: Way(title, log, output, **told)


def register(directory: Path) -> None:
    """Register a directory of files, as somebody does who copies them."""
    with mlflow.start_run() as run:
        mlflow.log_artifacts(str(directory), "model")
    MlflowClient().create_model_version(REGISTERED, f"{run.info.artifact_uri}/model", run.info.run_id)


def table(groups: dict[str, Iterable[Way]]) -> str:
    """The ways as Markdown tables, by group."""
    lines: list[str] = []
    for group, ways in groups.items():
        lines += [f"**{group}**", "", "| logged by | | what it answers, or why it is refused |", "| --- | --- | --- |"]
        lines += [f"| {way.title} | {way.outcome} | {_told(way)} |" for way in ways]
        lines.append("")
    return "\n".join(lines).rstrip()


def _told(way: Way) -> str:
    said = [f"`{way.output}`" if way.output else "", way.unlogged, way.refused, way.kept, way.note]
    return "; ".join(dict.fromkeys(part for part in said if part))
