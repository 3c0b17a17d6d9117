"""Reads a model directory, as MLflow stores it, into an `Artifact` that can predict.

Only data is read: the MLmodel file, the booster and the feature plan. A Python object that holds the booster is read as
data too (`app.models.objects`). Nothing is unpickled, and no code from the directory is imported.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.codecs.categories import code, holds_numbers, holds_text
from app.codecs.rules import FloatArray
from app.drift.profile import Profile, ProfileError
from app.drift.watched import watched_features
from app.feature import Category, Feature
from app.models.directory import (
    MAX_EXAMPLE_BYTES,
    MLMODEL,
    read_file,
    read_mlmodel,
    read_table,
)
from app.models.objects.booster import stored_booster
from app.models.parts import PARTS, part_names
from app.models.predictions.interval import Intervals
from app.models.predictions.reliability import Reliability
from app.models.refusal import ModelRefused
from app.models.signature import Layout, join_features, layout_of, signature_columns
from kernels.backend import AnyForest
from kernels.engine import Engine, EngineError
from kernels.forest.forest import ForestError, make_forest
from kernels.forest.layout import ForestData, read_forest
from kernels.plan.plan import Plan, PlanError

PREDICT = "predict"
"""Function that MLflow's pyfunc calls where the model names none."""


class ModelContent(msgspec.Struct, frozen=True, kw_only=True):
    """Content of a model directory, read and laid out as plain data that can be passed between processes.

    Attributes:
        features: Raw features in the engine's order.
        forest: The booster.
        plan: The feature plan, where the model has one.
        table: float64[N, C], stored rows of the plan, where it has references.
        difficulty: Forest that predicts the absolute error of the booster, where the model has intervals.
        intervals: Calibration of the intervals.
        example: Raw feature values of the input example, where there is one.
        digest: SHA-256 over the MLmodel file and the files that its flavor names.
        labels: Label of each class, for a classifier of the scikit-learn API: of the two classes of a binary booster,
            or of a multiclass booster's outputs. None for any other model.
        files: Name of each file read, by its role: `mlmodel`, the keys of `PARTS`, `example`.
        layout: How the signature tells the columns of an input apart.
        predict_fn: Function of the model that MLflow's pyfunc calls.
        profile: Reference of drift detection, where the model has one.
        watched: Names of the features that drift detection watches where the model has no profile.
        reliability: Figures of a calibrated binary classifier.
    """

    features: tuple[Feature, ...]
    forest: ForestData
    plan: Plan | None
    table: FloatArray | None
    difficulty: ForestData | None
    intervals: Intervals | None
    example: dict[str, Category | None] | None
    digest: str
    labels: tuple[Category, ...] | None = None
    files: dict[str, str]
    layout: Layout = "named"
    predict_fn: str = PREDICT
    profile: Profile | None = None
    watched: tuple[str, ...] = ()
    reliability: Reliability | None = None

    def artifact(self) -> "Artifact":
        """The model with forests that predict.

        Raises:
            ModelRefused: LightGBM refuses a booster that only LightGBM can evaluate.
        """
        try:
            forest = make_forest(self.forest)
            difficulty = None if self.difficulty is None else make_forest(self.difficulty)
        except ForestError as error:
            raise ModelRefused(str(error)) from error
        return Artifact(
            features=self.features,
            forest=forest,
            plan=self.plan,
            table=self.table,
            difficulty=difficulty,
            intervals=self.intervals,
            example=self.example,
            digest=self.digest,
            labels=self.labels,
            files=self.files,
            layout=self.layout,
            predict_fn=self.predict_fn,
            profile=self.profile,
            watched=self.watched,
            reliability=self.reliability,
        )


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A model that can predict: the attributes of `ModelContent`, with forests in the place of their data."""

    features: tuple[Feature, ...]
    forest: AnyForest
    plan: Plan | None
    table: FloatArray | None
    difficulty: AnyForest | None
    intervals: Intervals | None
    example: dict[str, Category | None] | None
    digest: str
    labels: tuple[Category, ...] | None = None
    files: dict[str, str]
    layout: Layout = "named"
    predict_fn: str = PREDICT
    profile: Profile | None = None
    watched: tuple[str, ...] = ()
    reliability: Reliability | None = None

    def engine(self) -> Engine:
        """Join plan and forest.

        Raises:
            ModelRefused: Plan and forest do not fit.
        """
        try:
            return Engine(self.forest, self.plan, self.table, self.difficulty)
        except EngineError as error:
            raise ModelRefused(str(error), "agreement") from error

    def sample(self) -> FloatArray:
        """Row to warm up with, float64[1, F]: the input example, or zeros."""
        if self.example is None:
            return np.zeros((1, len(self.features)))
        values = [_number(feature, self.example[feature.name]) for feature in self.features]
        return np.array([values])


def _number(feature: Feature, value: Category | None) -> float:
    """What the forest gets for a value of the input example."""
    return code(feature, value) if feature.kind == "category" else math.nan if value is None else float(value)


def read_artifact(directory: Path, expected_digest: str | None = None) -> Artifact:
    """Read a model directory in this process: see `read_content`."""
    return read_content(directory, expected_digest).artifact()


def read_content(directory: Path, expected_digest: str | None = None) -> ModelContent:
    """Read a model directory.

    Args:
        directory: Directory with a file `MLmodel` and the files that it names.
        expected_digest: Digest of the model, where it is known. Files with another digest are not parsed.

    Raises:
        ModelRefused: The directory has no LightGBM model that can be served; the message says what is missing or wrong.
    """
    mlmodel_bytes, mlmodel = read_mlmodel(directory)
    names = part_names(directory, mlmodel["flavors"])
    content = {part: read_file(directory, name, PARTS[part]) for part, name in names.items()}
    digest = _digest(mlmodel_bytes, *content.values())
    if expected_digest is not None and expected_digest != digest:
        raise ModelRefused(
            f"the files' digest begins with {digest[:12]!r}, and should begin with {expected_digest[:12]!r}", "digest"
        )
    text, labels = stored_booster(content["booster"])
    if "labels" in content:
        labels = _read_labels(content["labels"])
    try:
        forest = read_forest(text)
        plan = Plan.from_json(content["plan"]) if "plan" in content else None
        difficulty = read_forest(content["difficulty"].decode()) if "difficulty" in content else None
    except UnicodeDecodeError as error:
        raise ModelRefused("the booster of the difficulties is not text in UTF-8") from error
    except (ForestError, PlanError) as error:
        raise ModelRefused(str(error)) from error
    if labels is not None:
        _check_labels(labels, forest.n_outputs)
    columns = signature_columns(mlmodel.get("signature"))
    features = join_features(columns, plan, forest)
    files = {"mlmodel": MLMODEL, **names}
    if (example := _example(directory, mlmodel.get("saved_input_example_info"), features)) is not None:
        files["example"] = mlmodel["saved_input_example_info"]["artifact_path"]
    return ModelContent(
        features=features,
        forest=forest,
        plan=plan,
        table=read_table(content["references"]) if "references" in content else None,
        difficulty=difficulty,
        intervals=Intervals.from_json(content["intervals"]) if "intervals" in content else None,
        example=example,
        digest=digest,
        labels=labels,
        files=files,
        layout=layout_of(columns),
        predict_fn=_predict_fn(mlmodel["flavors"].get("python_function")),
        profile=_read_profile(content["profile"], features, forest.n_outputs) if "profile" in content else None,
        watched=watched_features(features, text, planned=plan is not None),
        reliability=Reliability.from_json(content["reliability"]) if "reliability" in content else None,
    )


def _predict_fn(flavor: Any) -> str:
    """Function that MLflow's pyfunc calls, as `mlflow.sklearn` writes it."""
    name = flavor.get("predict_fn") if isinstance(flavor, dict) else None
    return name if isinstance(name, str) else PREDICT


def _digest(*files: bytes) -> str:
    """SHA-256, in hexadecimal, over the files with a zero byte between them."""
    digest = hashlib.sha256()
    for index, content in enumerate(files):
        digest.update(b"\0" if index else b"")
        digest.update(content)
    return digest.hexdigest()


def _read_labels(content: bytes) -> tuple[Category, ...]:
    """Class labels of a model of the madrone flavor, a JSON list.

    Raises:
        ModelRefused: The content is no list of texts, numbers and booleans.
    """
    try:
        return msgspec.json.decode(content, type=tuple[Category, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelRefused("the model's labels are not a JSON list of texts, numbers and booleans") from error


def _read_profile(content: bytes, features: tuple[Feature, ...], outputs: int) -> Profile:
    """Reference of drift detection.

    Raises:
        ModelRefused: The content is no profile, or one of another model.
    """
    try:
        profile = Profile.from_json(content)
        profile.check(features, outputs)
    except ProfileError as error:
        raise ModelRefused(f"the model's profile {error}") from error
    return profile


def _check_labels(labels: tuple[Category, ...], n_outputs: int) -> None:
    """Refuse labels that are not each of one class. A classifier fitted on few classes has some for the first alone."""
    classes = 2 if n_outputs == 1 else n_outputs
    if not 1 <= len(labels) <= classes:
        raise ModelRefused(f"the model has labels of {len(labels)} classes, and its booster has {classes}", "agreement")
    if len(set(labels)) < len(labels):
        raise ModelRefused("the model has two classes of the same label", "agreement")


def _example(directory: Path, info: Any, features: tuple[Feature, ...]) -> dict[str, Any] | None:
    """First row of the input example, or None where it is absent or lacks a feature.

    MLflow writes a frame in pandas' split orientation (mlflow/models/utils.py). The example is no part of the model,
    so an unreadable one is ignored.
    """
    if not isinstance(info, dict) or not isinstance(name := info.get("artifact_path"), str):
        return None
    try:
        content: Any = msgspec.json.decode(read_file(directory, name, MAX_EXAMPLE_BYTES))
        row = dict(zip(map(str, content["columns"]), content["data"][0], strict=True))
        example = {feature.name: _sent(row[feature.name]) for feature in features}
        finite = all(_is_sendable(feature, example[feature.name]) for feature in features)
    except (ModelRefused, msgspec.DecodeError, RecursionError, LookupError, TypeError, ValueError, OverflowError):
        return None
    return example if finite else None


def _is_sendable(feature: Feature, value: Any) -> bool:
    """Whether a request could contain a value, as far as its type tells."""
    if isinstance(value, str):
        return feature.kind == "category" and holds_text(feature)
    return value is None or (math.isfinite(value) and (feature.kind != "category" or holds_numbers(feature)))


def _sent(value: Any) -> Any:
    """Value as a request would carry it: an integer beyond 64 bits becomes a float."""
    return float(value) if isinstance(value, int) and abs(value) >= 2**63 else value
