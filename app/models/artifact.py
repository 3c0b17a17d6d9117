"""A model directory, as MLflow stores it, to a model that can serve.

Only data is read: the MLmodel file, the booster's native text and the feature plan. Nothing is unpickled and no code
that the directory names or holds is imported.
"""

import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import yaml

from app.codecs.json import FloatArray, JsonCodec
from app.feature import Feature
from app.models.signature import ModelRefused, join_features, signature_columns
from kernels.engine import Engine, EngineError
from kernels.forest import Forest, ForestError
from kernels.plan import Plan, PlanError

FLAVOR = "madrone"
MAX_METADATA_BYTES = 16 * 1024 * 1024


class ModelIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Which model this is, pinned to one version of the registry."""

    name: str
    version: str
    stage: str | None = None
    aliases: tuple[str, ...] = ()
    run_id: str | None = None
    created_at_ms: int | None = None
    """When the registry made the version: a model that is registered anew has its old numbers again."""

    def is_same_version(self, other: "ModelIdentity") -> bool:
        """Whether both are one version of the registry, whatever its stage and aliases were at either look."""
        return (self.name, self.version, self.created_at_ms) == (other.name, other.version, other.created_at_ms)


class Artifact(msgspec.Struct, frozen=True):
    """What a model directory holds, read and joined.

    Attributes:
        features: Raw features in the engine's order.
        forest: The booster.
        plan: The feature plan, where the model has one.
        example: Raw feature values of the input example, where there is one.
        digest: SHA-256 over MLmodel, booster text and plan.
    """

    features: tuple[Feature, ...]
    forest: Forest
    plan: Plan | None
    example: dict[str, float | int | bool | None] | None
    digest: str

    def engine(self) -> Engine:
        """Join plan and forest.

        Raises:
            ModelRefused: They do not fit.
        """
        try:
            return Engine(self.forest, self.plan)
        except EngineError as error:
            raise ModelRefused(str(error)) from error

    def sample(self) -> FloatArray:
        """float64[1, F], a row to warm up with: the input example, or zeros."""
        if self.example is None:
            return np.zeros((1, len(self.features)))
        values = [self.example[feature.name] for feature in self.features]
        return np.array([[np.nan if value is None else float(value) for value in values]])


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a request needs of a model: an immutable snapshot, replaced as a whole.

    Attributes:
        training_bounds: float64[2, F], least and greatest values that training saw; infinite where that is not known.
        metrics: The training run's, as far as the registry knows them.
        resolved_by: The rule that chose this version.
        load_seconds: From look-up to readiness.
    """

    identity: ModelIdentity
    artifact: Artifact
    codec: JsonCodec
    engine: Engine
    training_bounds: FloatArray
    metrics: dict[str, float]
    resolved_by: str
    loaded_at: datetime
    load_seconds: float

    def training_warnings(self, rows: FloatArray) -> list[list[str]]:
        """For each of the B rows (float64[B, F]), the features that are outside what training saw."""
        warnings: list[list[str]] = [[] for _ in range(len(rows))]
        low, high = self.training_bounds
        for row, column in np.argwhere((rows < low) | (rows > high)).tolist():
            name = self.artifact.features[column].name
            warnings[row].append(f"{name} is outside the training range {low[column]:.10g} to {high[column]:.10g}")
        return warnings


def serve_artifact(
    artifact: Artifact, identity: ModelIdentity, metrics: dict[str, float], resolved_by: str
) -> ServedModel:
    """Build and warm up the snapshot for an artifact; takes as long as the kernels' first call.

    Raises:
        ModelRefused: Parts of the model do not fit, or its prediction for the sample row is no finite number.
    """
    engine = artifact.engine()
    sample = artifact.sample()
    engine.warm_up(sample)
    if not np.isfinite(engine.predict(sample)).all():
        raise ModelRefused("the prediction for the input example is not finite")
    return ServedModel(
        identity=identity,
        artifact=artifact,
        codec=JsonCodec(artifact.features),
        engine=engine,
        training_bounds=np.array(
            [feature.training_range or (-np.inf, np.inf) for feature in artifact.features], dtype=np.float64
        ).T,
        metrics=metrics,
        resolved_by=resolved_by,
        loaded_at=datetime.now(UTC),
        load_seconds=0.0,
    )


def read_artifact(directory: Path) -> Artifact:
    """Read a model directory.

    Args:
        directory: Holds a file `MLmodel` and what that names.

    Raises:
        ModelRefused: It is not a LightGBM model that can be served; the message says what is missing or wrong.
    """
    mlmodel_bytes = _read(directory, "MLmodel")
    try:
        mlmodel: Any = yaml.safe_load(mlmodel_bytes)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date that does not exist, which PyYAML leaves to Python.
        raise ModelRefused("the MLmodel file is not valid YAML") from error
    if not isinstance(mlmodel, dict) or not isinstance(mlmodel.get("flavors"), dict):
        raise ModelRefused("the MLmodel file names no flavors")
    booster_name, plan_name = _files(cast(dict[str, Any], mlmodel["flavors"]))
    booster_bytes = _read(directory, booster_name)
    plan_bytes = _read(directory, plan_name) if plan_name else b""
    try:
        forest = Forest.from_model_text(booster_bytes.decode())
        plan = Plan.from_json(plan_bytes) if plan_name else None
    except (ForestError, PlanError, UnicodeDecodeError) as error:
        raise ModelRefused(str(error)) from error
    features = join_features(signature_columns(mlmodel.get("signature")), plan, tuple(forest.feature_names))
    return Artifact(
        features=features,
        forest=forest,
        plan=plan,
        example=_example(directory, mlmodel.get("saved_input_example_info"), features),
        digest=hashlib.sha256(b"\0".join((mlmodel_bytes, booster_bytes, plan_bytes))).hexdigest(),
    )


def _files(flavors: dict[str, Any]) -> tuple[str, str | None]:
    """Names of the booster's and the plan's file."""
    if isinstance(own := flavors.get(FLAVOR), dict):
        booster, plan = own.get("booster"), own.get("plan")
        if not isinstance(booster, str) or not isinstance(plan, str | None):
            raise ModelRefused(f"the {FLAVOR} flavor must name its booster and may name a plan")
        return booster, plan
    if not isinstance(native := flavors.get("lightgbm"), dict):
        raise ModelRefused(f"the model has neither the lightgbm nor the {FLAVOR} flavor")
    data = native.get("data")
    if native.get("model_class", "lightgbm.basic.Booster") != "lightgbm.basic.Booster" or not isinstance(data, str):
        raise ModelRefused(
            "the model is stored as a Python object (pickle or skops), and those are not loaded: "
            "log the native booster (model.booster_) instead"
        )
    return data, None


def _read(directory: Path, name: str) -> bytes:
    """Read a file of the model, which must be a plain file inside its directory."""
    path = directory / name
    try:
        if path.is_symlink() or not path.resolve().is_relative_to(directory.resolve()):
            raise ModelRefused(f"the model's file {name[:100]!r} is outside its directory")
        if not path.is_file():
            raise ModelRefused(f"the model has no file {name[:100]!r}")
        return path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # names that no file can have, links in a circle
        raise ModelRefused(f"the model's file {name[:100]!r} cannot be read: {type(error).__name__}") from error


def _example(directory: Path, info: Any, features: tuple[Feature, ...]) -> dict[str, Any] | None:
    """First row of the input example, or None where it is absent or is not of the model's features.

    MLflow writes a frame in pandas' split orientation (mlflow/models/utils.py). An example is no part of the model,
    so one that cannot be read does not refuse it.
    """
    if not isinstance(info, dict) or not isinstance(name := info.get("artifact_path"), str):
        return None
    try:
        content: Any = msgspec.json.decode(_read(directory, name))
        row = dict(zip(content["columns"], content["data"][0], strict=True))
        example = {feature.name: row[feature.name] for feature in features}
        finite = all(value is None or math.isfinite(value) for value in example.values())
    except (ModelRefused, msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError, OverflowError):
        return None
    return example if finite else None
