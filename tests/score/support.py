"""Models and rows for the tests of scoring."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from click.testing import Result

from app.models.artifact import read_artifact
from app.models.identity import ModelIdentity
from app.models.registry.embedded import BUNDLED
from app.models.served import ServedModel, serve_artifact

ROWS = 1000
"""Rows of the files that all tests of the command share."""

Score = Callable[..., Result]
"""Runs the command: input, output, options."""


@cache
def bundled() -> ServedModel:
    """The bundled model, which has intervals."""
    artifact = read_artifact(BUNDLED / "model")
    engine = artifact.engine()
    engine.warm_up(artifact.sample())
    return serve_artifact(artifact, engine, ModelIdentity(name="house", version="1"), {}, "test")


def houses(count: int) -> Any:
    """Rows of the bundled model, with an id."""
    example = bundled().artifact.example
    assert example is not None
    noise = np.random.default_rng(7).uniform(0.9, 1.0, (count, len(example)))
    columns = {name: float(value or 0) * noise[:, place] for place, (name, value) in enumerate(example.items())}
    return pa.table({"id": np.arange(count)} | columns)


def small_model(path: Path) -> lgb.Booster:
    """A regression on x, y and z, written to a file."""
    rows = np.random.default_rng(5).normal(size=(500, 3))
    data = lgb.Dataset(rows, rows @ [1.0, 2.0, -1.0], feature_name=["x", "y", "z"])
    booster = lgb.train({"objective": "regression", "verbose": -1, "num_threads": 1}, data, 10)
    booster.save_model(path)
    return booster
