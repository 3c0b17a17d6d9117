"""Tiny boosters, model directories made from them, and their versions in an embedded registry."""

import os
import shutil
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import mlflow.lightgbm
import msgspec
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from numpy.typing import NDArray

from app.config.settings import Settings
from app.drift.profile import make_profile
from app.feature import Feature
from app.models.artifact import Artifact, read_artifact
from app.models.flavor import ModelParts, save_model
from app.models.identity import ModelIdentity
from app.models.predictions.interval import Intervals, Quantile
from app.models.refusal import ModelRefused
from app.models.served import ServedModel, serve_artifact
from kernels.cpu.backend import CpuBackend
from kernels.plan.plan import Input, Neighbours, Plan, References

PARAMETERS: dict[str, Any] = {
    "objective": "regression",
    "num_leaves": 6,
    "min_data_in_leaf": 3,
    "num_threads": 1,
    "verbosity": -1,
    "seed": 1,
    "deterministic": True,
}
NAMES = ("income", "rooms", "age")
MODEL = "houses"


class SavedModel(NamedTuple):
    """A model directory, the booster in it, and float64[50, 3] rows that it was trained on."""

    directory: Path
    booster: lgb.Booster
    rows: NDArray[np.float64]


def tiny_rows() -> NDArray[np.float64]:
    """float64[50, 3] with the columns `NAMES`; the last one holds whole numbers from 0 to 5."""
    random = np.random.default_rng(7)
    rows = random.normal(size=(50, len(NAMES)))
    rows[:, 2] = random.integers(0, 6, len(rows))
    return rows


def tiny_booster(target: NDArray[np.float64] | None = None, rounds: int = 3, **changes: Any) -> lgb.Booster:
    """A booster of a few trees on `tiny_rows`."""
    rows = tiny_rows()
    categories, names = changes.pop("categorical_feature", "auto"), changes.pop("feature_name", NAMES)
    parameters = PARAMETERS | changes
    data = lgb.Dataset(
        rows,
        rows[:, 0] + np.isin(rows[:, 2], [1, 3]) if target is None else target,
        feature_name=list(names),
        categorical_feature=categories,
        params=parameters,
    )
    return lgb.train(parameters, data, num_boost_round=rounds)


def numbers(*names: str, kind: DataType = DataType.double) -> ModelSignature:
    """A signature of named columns."""
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name) for name in names]),
        outputs=Schema([ColSpec(DataType.double, "prediction")]),
    )


class Trap:
    """Makes the directory it is given when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


INTERVALS = Intervals(
    quantiles=(Quantile(0.5, 0.75), Quantile(0.9, 2.0), Quantile(0.95, 2.5)),
    least_difficulty=0.125,
    calibration_rows=50,
)


def referring_parts(**changes: Any) -> ModelParts:
    """A model whose plan has stored rows with a limit to their distance, and which has intervals."""
    rows = tiny_rows()
    table = np.column_stack([rows[:, :2], rows[:, 0] + rows[:, 1]])
    near = Neighbours(output="near", inputs=NAMES[:2], scales=(1.0, 1.0), counts=(3,), outside_distance=1.5)
    plan = Plan(
        inputs=tuple(Input(name=name, training_range=(-5.0, 5.0)) for name in NAMES),
        references=References(rows=len(table), columns=(*NAMES[:2], "target"), steps=(near,)),
        outputs=(*NAMES, "near_mean_3", near.nearest),
    )
    features = CpuBackend().transform(plan.program(table), rows)

    def boost(target: NDArray[np.float64]) -> str:
        data = lgb.Dataset(features, target, feature_name=list(plan.outputs), params=PARAMETERS)
        return lgb.train(PARAMETERS, data, num_boost_round=3).model_to_string()

    parts = ModelParts(
        booster=boost(table[:, 2]),
        plan=plan,
        table=table,
        difficulty=boost(0.5 + np.abs(rows[:, 1])),
        intervals=INTERVALS,
        profile=make_profile(tuple(Feature(name=name) for name in NAMES), rows, table[:, 2], "training"),
    )
    return msgspec.structs.replace(parts, **changes)


def save_referring(directory: Path, **changes: Any) -> Path:
    """Save `referring_parts`, some of them changed."""
    save_model(directory, referring_parts(**changes), numbers(*NAMES), dict.fromkeys(NAMES, 0.5))
    return directory


@contextmanager
def mlflows_own_warnings_silenced() -> Iterator[None]:
    """MLflow uses what pandas and SQLAlchemy deprecate, and warns of its own stages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_booster(booster: lgb.Booster, directory: Path, **changes: Any) -> Path:
    """Save as a user of MLflow does, with a signature of named columns and an input example."""
    example = pd.DataFrame(tiny_rows()[:1], columns=list(NAMES))
    options: dict[str, Any] = {"signature": numbers(*NAMES), "input_example": example, "pip_requirements": []} | changes
    with mlflows_own_warnings_silenced():
        mlflow.lightgbm.save_model(booster, str(directory), **options)
    return directory


def altered(model: Path, destination: Path, **metadata: Any) -> Path:
    """A copy of a model directory, with keys of its MLmodel file replaced; those that are None are left out."""
    shutil.copytree(model, destination)
    content = yaml.safe_load((destination / "MLmodel").read_bytes()) | metadata
    kept = {key: value for key, value in content.items() if value is not None}
    (destination / "MLmodel").write_text(yaml.safe_dump(kept))
    return destination


class Catalogue:
    """Versions of the registered model `houses`, made as an operator makes them.

    Args:
        settings: Name the registry.
    """

    def __init__(self, settings: Settings) -> None:
        with mlflows_own_warnings_silenced():
            self.client = MlflowClient(settings.tracking_uri, settings.registry_uri)

    def create(self) -> None:
        """Register the model, without any version."""
        self.client.create_registered_model(MODEL)

    def add(self, directory: Path, stage: str | None = None, alias: str | None = None) -> str:
        """Register a directory as the newest version, which leaves the stages of the others as they are."""
        version = str(self.client.create_model_version(MODEL, source=directory.as_uri()).version)
        if stage is not None:
            self.move(version, stage)
        if alias is not None:
            self.client.set_registered_model_alias(MODEL, alias, version)
        return version

    def move(self, version: str, stage: str) -> None:
        with mlflows_own_warnings_silenced():
            self.client.transition_model_version_stage(MODEL, version, stage)


def copied_registry(registry_dir: Path, directory: Path) -> str:
    """URI of a copy of the embedded registry, with files of its own in `directory`.

    To make a new one takes MLflow two seconds.
    """
    path = directory / "mlflow.db"
    shutil.copy(registry_dir / "mlflow.db", path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("update experiments set artifact_location = ?", [(directory / "artifacts").as_uri()])
    return f"sqlite:///{path}"


def with_booster(text: str, model: Path, destination: Path) -> Path:
    directory = altered(model, destination)
    (directory / "model.lgb").write_text(text)
    return directory


def save_text(text: str, directory: Path) -> Path:
    """Save a booster's text with what MLflow writes at least beside it: no signature, no input example."""
    directory.mkdir(parents=True)
    (directory / "model.lgb").write_text(text)
    flavor = {"data": "model.lgb", "model_class": "lightgbm.basic.Booster"}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"lightgbm": flavor}}))
    return directory


def serve(directory: Path) -> ServedModel:
    artifact = read_artifact(directory)
    return ready(artifact, ModelIdentity(name="houses", version="1"), {}, "stage Production")


def ready(artifact: Artifact, identity: ModelIdentity, metrics: dict[str, float], rule: str) -> ServedModel:
    """The snapshot of an artifact, its engine warmed up."""
    engine = artifact.engine()
    engine.warm_up(artifact.sample())
    return serve_artifact(artifact, engine, identity, metrics, rule)


def refusal(directory: Path) -> str:
    with pytest.raises(ModelRefused) as caught:
        read_artifact(directory)
    return str(caught.value)


def resized(text: str) -> str:
    """A booster text whose header gives the sizes that its trees have."""
    start, end = text.find("\nTree=") + 1, text.find("end of trees")
    sizes = [len("Tree=" + tree) for tree in text[start:end].split("Tree=")[1:]]
    lines = [
        f"tree_sizes={' '.join(map(str, sizes))}" if line.startswith("tree_sizes=") else line
        for line in text[:start].splitlines()
    ]
    return "\n".join(lines) + "\n" + text[start:]


def changed(text: str, key: str, value: str | None) -> str:
    """A booster text in which the first `key=` line has another value, or is missing where that is None."""
    lines = text.splitlines(keepends=True)
    index = next(index for index, line in enumerate(lines) if line.startswith(f"{key}="))
    lines[index] = "" if value is None else f"{key}={value}\n"
    return "".join(lines) if key == "tree_sizes" else resized("".join(lines))


@pytest.fixture
def houses(private_registry_dir: Path) -> Settings:
    """Settings that serve the model `houses` from a registry of the test's own."""
    return Settings(data_dir=private_registry_dir, model_name=MODEL)


@pytest.fixture
def catalogue(houses: Settings) -> Catalogue:
    """The model `houses`, registered and still without a version."""
    catalogue = Catalogue(houses)
    catalogue.create()
    return catalogue
