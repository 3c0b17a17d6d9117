"""The snapshot of a model that a request is answered with, and its warnings about unusual rows."""

import math
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
import numpy as np

from app.codecs.categories import values_of
from app.codecs.classes import Labels
from app.codecs.json.row import JsonCodec
from app.codecs.rules import FloatArray, number_text, span
from app.config.fields import Output
from app.drift import bins
from app.drift.tracker import WatchedModel
from app.feature import Category
from app.models.artifact import Artifact
from app.models.identity import ModelIdentity
from app.models.predictions.output import outputs, usable_labels
from app.models.refusal import Check
from kernels import columns
from kernels.cpu.bounds import outside
from kernels.engine import Engine, Evaluation
from kernels.rows import as_rows


class NotFinite(msgspec.Struct, frozen=True, kw_only=True):
    """A row whose prediction is not finite.

    Attributes:
        message: One sentence for the owner of the model.
        prediction: Outputs for the row, as text, since JSON has no infinity.
        features: Booster features of the row, null where missing; the first 50 that are not zero. A category is told
            by its value.
    """

    message: str
    prediction: str
    features: dict[str, Category | None]


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in service: an immutable snapshot with everything that a request needs, replaced as a whole.

    Attributes:
        feature_names: Names of the raw features, in the engine's order.
        training_ranges: Least and greatest training value of each feature; infinite where unknown.
        labels: Label of each class; None for a model that gives no labels.
        outputs: Outputs that a request can ask for.
        metrics: Metrics of the training run, as far as the registry knows them.
        resolved_by: Selection rule that chose this version.
        load_seconds: Time from look-up to readiness.
        not_finite: Rows without a finite prediction that were found when the model was loaded.
        categories: Value of each code, of each column of categories.
        checks: Checks that it has passed, in their order.
        watched: What drift detection knows of the model.
    """

    identity: ModelIdentity
    artifact: Artifact
    codec: JsonCodec
    engine: Engine
    feature_names: tuple[str, ...]
    training_ranges: tuple[tuple[float, float], ...]
    labels: Labels | None
    outputs: tuple[Output, ...]
    metrics: dict[str, float]
    resolved_by: str
    loaded_at: datetime
    load_seconds: float
    watched: WatchedModel
    not_finite: tuple[NotFinite, ...] = ()
    categories: dict[int, dict[int, Category]] = {}
    checks: tuple[Check, ...] = ()

    def warnings(self, rows: FloatArray, evaluation: Evaluation) -> list[list[str]]:
        """Warnings about rows unlike the training rows, a list for each row.

        A feature outside its training range is a warning. So is a distance to the nearest stored row beyond the
        model's limit, where it has one; a distance that cannot be computed (NaN) is none.

        Args:
            rows: float64[B, F], raw features.
            evaluation: Evaluation of these rows.
        """
        none: list[str] = []  # shared by all rows without a warning, which are most
        warnings = [none] * len(rows)
        low, high = _bounds(self.training_ranges)
        if outside(as_rows(rows, len(low)), low, high):
            for row, column in np.argwhere((rows < low) | (rows > high)).tolist():
                warnings[row] = [*warnings[row], self._outside_training(column)]
        limit, distance = self.engine.outside_distance, evaluation.distance
        if limit is not None and distance is not None:
            for row in np.flatnonzero(distance > np.float64(limit)).tolist():
                warnings[row] = [*warnings[row], _outside_reference(float(distance[row]), limit)]
        return warnings

    def warnings_of_one(self, values: list[float], distance: float | None) -> list[str]:
        """Warnings about one row, in a tenth of the time of `warnings`.

        Args:
            values: F raw features.
            distance: The row's, as of its evaluation.
        """
        warnings = [
            self._outside_training(column)
            for column, (value, (low, high)) in enumerate(zip(values, self.training_ranges, strict=True))
            if value < low or value > high
        ]
        limit = self.engine.outside_distance
        if limit is not None and distance is not None and distance > limit:
            warnings.append(_outside_reference(distance, limit))
        return warnings

    def _outside_training(self, column: int) -> str:
        name = self.artifact.features[column].name
        return f"{name} is outside the training range {span(self.training_ranges[column])}"


def _outside_reference(distance: float, limit: float) -> str:
    """Warning about a distance beyond the limit, with as many digits as it takes to tell them apart."""
    away, most = f"{distance:.4g}", f"{limit:.4g}"
    if away == most:
        away, most = number_text(distance), number_text(limit)
    return (
        f"outside_reference: the nearest row of the model's references is {away} away, "
        f"and beyond {most} a row is unlike all of them"
    )


@lru_cache(maxsize=4)
def _bounds(ranges: tuple[tuple[float, float], ...]) -> tuple[FloatArray, FloatArray]:
    """Least and greatest values, each float64[F]. Cached, since making them takes longer than comparing rows."""
    bounds = np.array(ranges, dtype=np.float64).reshape(len(ranges), 2)
    return np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1])


def serve_artifact(
    artifact: Artifact, engine: Engine, identity: ModelIdentity, metrics: dict[str, float], resolved_by: str
) -> ServedModel:
    """Snapshot of a model that is ready to serve.

    Args:
        artifact: The model.
        engine: Engine of the artifact, warmed up.
        identity: Version in the registry.
        metrics: Metrics of the training run.
        resolved_by: Selection rule that chose this version.
    """
    ranges = tuple(feature.training_range or (-math.inf, math.inf) for feature in artifact.features)
    outside(
        as_rows(np.zeros((1, len(ranges))), len(ranges)), *_bounds(ranges)
    )  # compiled or loaded before a request needs it
    bins.warm_up()
    columns.warm_up()
    labels = usable_labels(artifact.forest.objective, artifact.labels)
    return ServedModel(
        identity=identity,
        artifact=artifact,
        codec=JsonCodec(artifact.features),
        engine=engine,
        feature_names=tuple(feature.name for feature in artifact.features),
        training_ranges=ranges,
        labels=labels,
        outputs=outputs(artifact.forest.objective, labels),
        metrics=metrics,
        resolved_by=resolved_by,
        loaded_at=datetime.now(UTC),
        load_seconds=0.0,
        watched=WatchedModel(
            name=identity.name,
            version=identity.version,
            digest=artifact.digest,
            features=artifact.features,
            outputs=artifact.forest.n_outputs,
            profile=artifact.profile,
            names=artifact.watched,
        ),
        categories={
            column: values_of(feature) for column, feature in enumerate(artifact.features) if feature.kind == "category"
        },
    )
